//! What the exit code of the process says.

/// The exit codes of `capibara`, a public table.
///
/// | code | `run` | other commands |
/// |---|---|---|
/// | 0–119 | the script's own; larger and negative ones become 119, the real one is in the JSON | 0 yes, 1 the answer is no |
/// | 123 | the guest broke down | |
/// | 124 | stopped by a limit | |
/// | 125 | we could not do it: usage, configuration, internal; or the script ended with 0, and something of `--out` or `--apply` was refused | the same |
/// | 126 | denied by policy | |
/// | 127 | no such runtime, fence or language | the same |
/// | 130, 143 | canceled by SIGINT, SIGTERM | killed by the signal itself |
/// | 141 | nobody reads the output any more (as a program killed by SIGPIPE); nothing is said | the same |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The script ended by itself with this code.
    Script(i32),
    /// The command did what it should.
    Yes,
    /// The command did its work and the answer is no: `runtime verify` found a difference.
    No,
    /// The guest broke down.
    Trapped,
    /// A limit stopped the run.
    Limit,
    /// We could not do it.
    Failed,
    /// The policy denies the run.
    Denied,
    /// There is no such runtime, fence or language.
    Unavailable,
    /// Canceled by SIGINT.
    Interrupted,
    /// Canceled by SIGTERM.
    Terminated,
    /// Standard output or standard error was closed by its reader.
    OutputClosed,
}

/// The largest exit code of a script that is passed through.
pub(crate) const LARGEST_SCRIPT_CODE: u8 = 119;

impl ExitCode {
    /// The number the process ends with.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Script(code) => u8::try_from(code).unwrap_or(LARGEST_SCRIPT_CODE).min(LARGEST_SCRIPT_CODE),
            Self::Yes => 0,
            Self::No => 1,
            Self::Trapped => 123,
            Self::Limit => 124,
            Self::Failed => 125,
            Self::Denied => 126,
            Self::Unavailable => 127,
            Self::Interrupted => 130,
            Self::OutputClosed => 141,
            Self::Terminated => 143,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        for (code, number) in [
            (ExitCode::Script(0), 0),
            (ExitCode::Script(1), 1),
            (ExitCode::Script(119), 119),
            (ExitCode::Script(120), 119),
            (ExitCode::Script(125), 119),
            (ExitCode::Script(255), 119),
            (ExitCode::Script(256), 119),
            (ExitCode::Script(i32::MAX), 119),
            (ExitCode::Script(-1), 119),
            (ExitCode::Yes, 0),
            (ExitCode::No, 1),
            (ExitCode::Trapped, 123),
            (ExitCode::Limit, 124),
            (ExitCode::Failed, 125),
            (ExitCode::Denied, 126),
            (ExitCode::Unavailable, 127),
            (ExitCode::Interrupted, 130),
            (ExitCode::OutputClosed, 141),
            (ExitCode::Terminated, 143),
        ] {
            assert_eq!(code.number(), number, "{code:?}");
        }
    }
}
