//! Why the log could not be written or read.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The log could not be written or read. What is wrong *in* a log is no error but a [`Problem`](super::Problem).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// No variable says where the log is.
    #[error("the audit log has no place: neither CAPIBARA_HOME nor HOME is set")]
    NoFolder,
    /// The operating system refused something.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others could have written a file or folder.
    #[error("`{}` cannot be trusted: {reason}", path.display())]
    Untrusted {
        /// Which one.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There was a signing key, and it is gone.
    #[error("the signing key `{}` is gone", path.display())]
    KeyMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A key file cannot be used.
    #[error("the key file `{}` cannot be used: {reason}", path.display())]
    KeyInvalid {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The log is signed by a key that is not the one here, or not pinned.
    #[error("the log is signed by key {key}, which `{}` does not hold", path.display())]
    UnknownKey {
        /// Its id.
        key: String,
        /// The folder of keys.
        path: PathBuf,
    },
    /// Another process holds the log.
    #[error("another process held the audit log for {waited:?}: `{}`", path.display())]
    Busy {
        /// The locked file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The end of the log cannot be found.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file system has no room for a record.
    #[error("there is no room for the audit log in `{}`", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// There is more than is read.
    #[error("`{}` is too large: {reason}", path.display())]
    TooLarge {
        /// Which file or folder.
        path: PathBuf,
        /// Which bound.
        reason: &'static str,
    },
}

impl AuditError {
    pub(super) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.into(), source }
    }

    /// Permanent name of the kind, in kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoFolder => "audit-no-folder",
            Self::Io { .. } => "audit-io",
            Self::Untrusted { .. } => "audit-untrusted",
            Self::KeyMissing { .. } => "audit-key-missing",
            Self::KeyInvalid { .. } => "audit-key-invalid",
            Self::UnknownKey { .. } => "audit-unknown-key",
            Self::Busy { .. } => "audit-busy",
            Self::Damaged { .. } => "audit-damaged",
            Self::Full { .. } => "audit-full",
            Self::TooLarge { .. } => "audit-too-large",
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoFolder => "set CAPIBARA_HOME to a folder of yours",
            Self::Io { .. } => "`capibara audit path` says where the log is; CAPIBARA_HOME moves it",
            Self::Untrusted { .. } => "it must be yours, no link, and not open to others: `chmod go= PATH`",
            Self::KeyMissing { .. } | Self::KeyInvalid { .. } | Self::UnknownKey { .. } => {
                "put the key back, or move log, head and keys away together: a new log then begins"
            }
            Self::Busy { .. } => "look for a stopped `capibara` process",
            Self::Damaged { .. } => "keep it for whoever looks into it: move log and head away, and a new log begins",
            Self::Full { .. } => "make room; old log files may be moved to other storage",
            Self::TooLarge { .. } => "move the oldest log files to other storage",
        })
    }
}
