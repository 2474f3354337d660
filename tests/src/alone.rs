//! Tests that need a process of their own: an abort of it is seen, and nothing else moves its memory and threads.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// Names the test that a process was started for.
const VARIABLE: &str = "CAPIBARA_TEST_ALONE";

/// Whether this process was started by [`alone`] for that test.
#[must_use]
pub fn is_alone(test: &str) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == test)
}

/// Runs this test binary again for one test alone, with a temporary folder of its own, which must be empty at the end.
///
/// # Errors
/// If the process fails or dies, or leaves a file behind.
pub fn alone(test: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(std::env::current_exe().expect("the path of this program"))
        .env(VARIABLE, test)
        .env("TMPDIR", folder.path())
        // Else glibc keeps up to 64 MiB per thread of what was freed, and no small leak can be seen. The pieces that files in
        // memory are made of (64 KiB) are above the threshold.
        .env("MALLOC_MMAP_THRESHOLD_", "32768")
        .env("MALLOC_TRIM_THRESHOLD_", "131072")
        .stdin(Stdio::null())
        .output()
        .expect("the test starts again");
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let end = output.status.signal().map_or_else(|| output.status.to_string(), |signal| format!("signal {signal}"));
        return Err(format!("the process ended with {end}\n{told}"));
    }
    eprint!("{told}");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("the temporary folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    if left.is_empty() { Ok(()) } else { Err(format!("left in the temporary folder: {left:?}")) }
}
