//! What the black-box tests share: running the command in a private folder with a scrubbed environment.

mod alone;
mod footprint;
mod mutation;

pub use alone::{alone, is_alone};
pub use footprint::Footprint;
pub use mutation::Mutator;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests folder is inside the repository")
}

/// A file or folder below `fixtures/`.
#[must_use]
pub fn fixture(path: &str) -> PathBuf {
    repository().join("fixtures").join(path)
}

/// The cache folder with the runtime all tests share.
#[must_use]
pub fn cache() -> PathBuf {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| capibara_runtimes::Folders::from_env().expect("a cache folder").cache).clone()
}

/// An engine on the shared cache that checks its memories after every run. Builds the runtime if it is not there.
#[must_use]
pub fn engine() -> capibara::Engine {
    static ENGINE: OnceLock<capibara::Engine> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            let mut config = capibara::EngineConfig::default();
            config.cache_dir = Some(cache());
            config.verify_memory = true;
            let engine = capibara::Engine::new(config).expect("an engine");
            for live in [false, true] {
                engine.prepare(capibara::Language::Python, live, &Told).expect("the Python runtime");
            }
            engine
        })
        .clone()
}

/// Tells the terminal that a test is building the runtime.
struct Told;

impl capibara::Progress for Told {
    fn event(&self, event: capibara::ProgressEvent) {
        if let capibara::ProgressEvent::Started { phase, .. } = event {
            eprintln!("preparing the runtime for the tests: {}", phase.label());
        }
    }
}

/// One private folder with its own home, and the command to run in it.
pub struct Sandbox {
    binary: PathBuf,
    /// The folder the command runs in.
    pub dir: tempfile::TempDir,
}

/// What a command left.
#[derive(Debug)]
pub struct Ran {
    /// Exit code of the process.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Sandbox {
    /// `binary` is `env!("CARGO_BIN_EXE_capibara-under-test")` of the calling test.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self { binary: binary.into(), dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The command in a scrubbed environment with the shared cache.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("CAPIBARA_CACHE_DIR", cache())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    /// Runs the command with these words.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Ran {
        finish(self.command().args(words).output().expect("the command starts"))
    }

    /// Runs the command with these words and this standard input, which is closed after it unless it is `held` open.
    #[must_use]
    pub fn run_with_input(&self, words: &[&str], input: &[u8], held: bool) -> Ran {
        let mut command = self.command();
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
            held.then_some(stdin)
        });
        let ran = finish(child.wait_with_output().expect("the command ends"));
        drop(writer.join().expect("the writer ends"));
        ran
    }

    /// Writes a file into the folder and returns its path.
    #[must_use]
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("a file is written");
        path
    }
}

/// Damages a file in its middle.
pub fn flip_a_byte(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file to damage");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(path, bytes).expect("a damaged file");
}

/// The programs in Python that a document shows.
#[must_use]
pub fn shown_programs(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(document)).expect("a document");
    let blocks = text.split("\n```python\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or(block).to_owned()).collect()
}

/// What code printed that must have succeeded.
#[must_use]
#[track_caller]
pub fn printed(code: &str, outcome: &capibara::Outcome) -> String {
    let (stdout, stderr) = (outcome.stdout.text(), outcome.stderr.text());
    assert!(outcome.success(), "{code}: {:?}\n{stdout}{stderr}", outcome.status);
    stdout.into_owned()
}

/// Takes an output as text.
#[must_use]
pub fn finish(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Notes that a test could not run here, for the summary of `cargo xtask test`. There are only two kinds of reason:
/// "corpus not given" and "unavailable: CAPABILITY".
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(path) = std::env::var_os("CAPIBARA_TEST_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips");
        writeln!(file, "{test}: {reason}").expect("the list of skips");
    }
}
