//! See README.md.
#![no_main]

use std::sync::LazyLock;

use tempfile::TempDir;

/// Readable by this user only, as tempfile makes them.
static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

libfuzzer_sys::fuzz_target!(
    |input: &[u8]| capibara::fuzzing::audit(DIR.path(), input).expect("files can be written")
);
