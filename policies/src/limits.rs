//! The limits of a run: names, units, defaults.

use std::fmt;
use std::time::Duration;

/// The bounds one run is held to.
///
/// [`Limits::default`] are those of the preset `moderate`. Reaching `fuel`, `wall_time` or `output` stops the run;
/// the other bounds first appear to the script as an ordinary error (`MemoryError`, `OSError`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instructions the guest may spend, in Wasmtime's fuel units (about 12 per nanosecond of native time).
    /// `None` (written `none`) lifts the bound; fuel is counted all the same. Default 10^12.
    pub fuel: Option<u64>,
    /// Real time from start to end, host calls and waiting included; virtual sleep counts as if it had passed.
    /// Default 30 s.
    pub wall_time: Duration,
    /// Bytes of linear memory plus what memory files hold. A refused growth is a `MemoryError` for the script.
    /// Default 512 MiB, at most 4 GiB.
    pub memory: u64,
    /// Bytes written to standard output and standard error together. Default 16 MiB.
    pub output: u64,
    /// Bytes written to files over the whole run, memory files included. The script sees `ENOSPC`. Default 256 MiB.
    pub bytes_written: u64,
    /// Files, directories and links that exist at the same time beside those the run started with.
    /// The script sees `ENOSPC`. Default 1,000.
    pub files: u64,
    /// Open descriptors, the standard streams included. The script sees `EMFILE`. Default 128.
    pub descriptors: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: Some(1_000_000_000_000),
            wall_time: Duration::from_secs(30),
            memory: 512 << 20,
            output: 16 << 20,
            bytes_written: 256 << 20,
            files: 1_000,
            descriptors: 128,
        }
    }
}

/// Limits somebody asks for; `None` leaves a limit as the policy has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsChange {
    /// See [`Limits::fuel`].
    pub fuel: Option<u64>,
    /// See [`Limits::wall_time`].
    pub wall_time: Option<Duration>,
    /// See [`Limits::memory`].
    pub memory: Option<u64>,
    /// See [`Limits::output`].
    pub output: Option<u64>,
    /// See [`Limits::bytes_written`].
    pub bytes_written: Option<u64>,
}

/// The name of a limit, as it stands in JSON, in policies and in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Instructions: [`Limits::fuel`].
    Fuel,
    /// Real time, in milliseconds where it is a number: [`Limits::wall_time`].
    WallTime,
    /// Bytes of memory: [`Limits::memory`].
    Memory,
    /// The native stack of the guest, in bytes; fixed by the engine.
    Stack,
    /// Bytes printed: [`Limits::output`].
    Output,
    /// Bytes written to files: [`Limits::bytes_written`]. A quota: it appears to the script as an error.
    BytesWritten,
    /// Files, directories and links: [`Limits::files`]. A quota.
    Files,
    /// Open descriptors: [`Limits::descriptors`]. A quota.
    Descriptors,
}

impl LimitKind {
    /// The permanent name: `fuel`, `wall_time`, `memory`, `stack`, `output`, `bytes_written`, `files`, `descriptors`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::WallTime => "wall_time",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::BytesWritten => "bytes_written",
            Self::Files => "files",
            Self::Descriptors => "descriptors",
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_its_permanent_name() {
        for (kind, name) in [
            (LimitKind::Fuel, "fuel"),
            (LimitKind::WallTime, "wall_time"),
            (LimitKind::Memory, "memory"),
            (LimitKind::Stack, "stack"),
            (LimitKind::Output, "output"),
            (LimitKind::BytesWritten, "bytes_written"),
            (LimitKind::Files, "files"),
            (LimitKind::Descriptors, "descriptors"),
        ] {
            assert_eq!((kind.name(), kind.to_string().as_str()), (name, name));
        }
    }

    #[test]
    fn the_default_is_what_its_documentation_says() {
        let limits = Limits::default();
        assert_eq!((limits.fuel, limits.wall_time), (Some(1_000_000_000_000), Duration::from_millis(30_000)));
        assert_eq!((limits.memory, limits.output, limits.bytes_written), (536_870_912, 16_777_216, 268_435_456));
        assert_eq!((limits.files, limits.descriptors), (1_000, 128));
    }
}
