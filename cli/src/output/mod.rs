//! What the program says, and where.

pub(crate) mod events;
pub(crate) mod json;
pub(crate) mod live;
pub(crate) mod outlet;
pub(crate) mod progress;
pub(crate) mod scan;
mod status;
pub(crate) mod terminal;
pub(crate) mod text;
pub(crate) mod units;

use capibara::Stream;

use crate::exit_code::ExitCode;
use outlet::{Outlet, Patience};

/// The shape of the answer on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

impl Format {
    /// As it is written: `text`, `json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Writes the answer of a command to standard output. `code` is the exit code if that works.
pub(crate) fn answer(bytes: &[u8], code: ExitCode) -> ExitCode {
    match Outlet::open(Stream::Stdout).write_all(bytes, &Patience::endless()) {
        Ok(()) => code,
        Err(error) => lost(&error, Stream::Stdout),
    }
}

/// Output that could not be written. A reader that has gone is nothing to talk about; anything else is.
pub(crate) fn lost(error: &std::io::Error, stream: Stream) -> ExitCode {
    let name = match stream {
        Stream::Stdout => "standard output",
        Stream::Stderr => "standard error",
    };
    lost_at(error, name)
}

/// As [`lost`], for another place.
pub(crate) fn lost_at(error: &std::io::Error, name: &str) -> ExitCode {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return ExitCode::OutputClosed;
    }
    let failure = crate::errors::Failure::new("output", format!("failed to write {name}")).with_cause(error);
    text::Console::new().failure(&failure);
    failure.exit
}
