//! What becomes of the files a script left in `/out`.

use capibara::{OutFolder, Outcome, Refusal, Written};

use crate::exit_code::ExitCode;
use crate::output::text::Console;
use crate::output::units;

/// The most single refusals that are told on standard error; the JSON has all of them.
pub(crate) const MOST_TOLD: usize = 20;

/// Artifacts, written or not.
pub(crate) struct Artifacts {
    /// What came of writing them, if `--out` says where.
    pub(crate) written: Option<Written>,
    /// How many there are, and their bytes.
    count: usize,
    bytes: u64,
    left_out: Vec<String>,
}

impl Artifacts {
    /// Writes what a run left, however it ended.
    pub(crate) fn keep(folder: Option<&OutFolder>, outcome: &Outcome) -> Self {
        Self {
            written: folder.map(|folder| folder.write(&outcome.artifacts)),
            count: outcome.artifacts.len(),
            bytes: outcome.artifacts.iter().map(|artifact| artifact.bytes.len()).sum(),
            left_out: outcome.artifacts_left_out.clone(),
        }
    }

    /// Says on standard error what is not as `--out` wants it or, in text, that there is something to keep.
    pub(crate) fn tell(&self, console: &Console, text: bool) {
        match &self.written {
            Some(written) => {
                tell_refused(console, "artifact", "was not written", &written.refused);
                let too_large =
                    self.left_out.iter().map(|path| format!("artifact `{path}` was not written: {TOO_LARGE}"));
                tell_some(console, too_large);
            }
            None if !text => {}
            None if self.count > 0 || !self.left_out.is_empty() => {
                let total = self.count + self.left_out.len();
                let files =
                    if total == 1 { "1 file was".into() } else { format!("{} files were", units::count(total as u64)) };
                let large = match self.left_out.len() {
                    0 => String::new(),
                    some => format!(", {} more than may come back", units::count(some as u64)),
                };
                let size = units::size(self.bytes);
                console.say(&format!("{files} left in /out ({size}{large}): `--out DIR` keeps them"));
            }
            None => {}
        }
    }

    /// How the process ends: a script that succeeded, and whose files are not all where they should be, is a failure of ours.
    pub(crate) fn code(&self, code: ExitCode) -> ExitCode {
        let missing =
            self.written.as_ref().is_some_and(|written| !written.refused.is_empty() || !self.left_out.is_empty());
        if missing && code == ExitCode::Script(0) { ExitCode::Failed } else { code }
    }
}

/// Why a file did not come back.
pub(crate) const TOO_LARGE: &str = "all together are larger than what the run may write (raise it with --max-disk)";

/// Says of each what was refused and why.
pub(crate) fn tell_refused(console: &Console, what: &str, done: &str, refused: &[Refusal]) {
    tell_some(console, refused.iter().map(|it| format!("{what} `{}` {done}: {}", it.path, it.reason)));
}

/// The first lines, and how many more there are.
pub(crate) fn tell_some(console: &Console, lines: impl ExactSizeIterator<Item = String>) {
    let more = lines.len().saturating_sub(MOST_TOLD);
    lines.take(MOST_TOLD).for_each(|line| console.say(&line));
    if more > 0 {
        console.say(&format!("… and {} more", units::count(more as u64)));
    }
}
