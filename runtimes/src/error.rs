//! What can go wrong, and what to try.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{prerequisite::Prerequisite, steps::StepError};

/// Why a runtime could not be built, found or checked.
///
/// The messages are fragments that read after "failed to …: "; [`RuntimeError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No folder for runtimes is known: none of the environment variables that name one is set.
    #[error("no cache folder is known")]
    NoCacheFolder,
    /// There is no such language.
    #[error("no runtime for the language `{0}`")]
    UnknownLanguage(String),
    /// Programs are missing that fetching or building needs.
    #[error("missing: {}", names(.0))]
    Missing(Vec<Prerequisite>),
    /// This machine is of a kind no compiler is pinned for.
    #[error("no compiler is pinned for {0} machines")]
    UnsupportedHost(&'static str),
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried: "read", "write", "create", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space is left on the disk that holds {}", .path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// A file is absent from the folder that was named as the only place of sources.
    #[error("{file} is not in {}", .folder.display())]
    SourceMissing {
        /// The name it is expected under.
        file: &'static str,
        /// The folder.
        folder: PathBuf,
    },
    /// A file does not have the pinned digest.
    #[error("{} has the wrong SHA-256 digest: expected {expected}, found {found}", .path.display())]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// The pinned digest.
        expected: String,
        /// The digest it has.
        found: String,
    },
    /// A source could not be fetched.
    #[error("cannot fetch {what} with {program}: {output}")]
    Fetch {
        /// The files wanted.
        what: String,
        /// The package client.
        program: &'static str,
        /// The last lines it printed.
        output: String,
    },
    /// An archive is damaged or holds something it must not.
    #[error("cannot unpack {}: {reason}", .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A security patch does not apply.
    #[error("the security patch {name} does not apply: {output}")]
    Patch {
        /// Its file name.
        name: String,
        /// What `patch` printed.
        output: String,
    },
    /// The sources do not look as the recipe expects.
    #[error("unexpected content of {file}: {reason}")]
    Source {
        /// The file, relative to the build folder.
        file: String,
        /// What was expected.
        reason: &'static str,
    },
    /// A program of the build failed.
    #[error("cannot {action} {file}: {output}")]
    Compile {
        /// "compile" or "link".
        action: &'static str,
        /// The file.
        file: String,
        /// The last lines the program printed.
        output: String,
    },
    /// A step of the recipe that runs WebAssembly failed.
    #[error("the step `{step}` failed")]
    Step {
        /// Which one.
        step: &'static str,
        /// Why.
        #[source]
        source: StepError,
    },
    /// A runtime was built by the recipe of another version of Capibara, which this one would not use.
    #[error("the {language} runtime is one of another version of capibara: its recipe is {found}, and not {expected}")]
    OtherRecipe {
        /// Its language.
        language: &'static str,
        /// Digest of the recipe in this program.
        expected: &'static str,
        /// Digest of the recipe that built it.
        found: String,
    },
    /// A runtime's manifest cannot be understood.
    #[error("{} is not a valid manifest: {reason}", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl RuntimeError {
    /// Permanent name of the kind, in kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCacheFolder => "no-cache-folder",
            Self::UnknownLanguage(_) => "unknown-language",
            Self::Missing(_) => "program-missing",
            Self::UnsupportedHost(_) => "unsupported-machine",
            Self::Io { .. } => "input-output",
            Self::DiskFull { .. } => "disk-full",
            Self::SourceMissing { .. } => "source-missing",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::Fetch { .. } => "fetch-failed",
            Self::Archive { .. } => "archive",
            Self::Patch { .. } => "patch",
            Self::Source { .. } => "source",
            Self::Compile { .. } => "compiler",
            Self::Step { .. } => "recipe-step",
            Self::OtherRecipe { .. } => "other-recipe",
            Self::Manifest { .. } => "manifest",
        }
    }

    /// What to try.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoCacheFolder => "set CAPIBARA_CACHE_DIR or HOME".to_owned(),
            Self::UnknownLanguage(_) => "known languages: python".to_owned(),
            Self::Missing(list) => {
                let lines: Vec<String> = list.iter().map(Prerequisite::to_string).collect();
                lines.join("\n")
            }
            Self::UnsupportedHost(_) => "build the runtime on an x86_64 or aarch64 machine".to_owned(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check the owner and mode of that folder, or set CAPIBARA_CACHE_DIR to one you may write".to_owned()
            }
            Self::Io { .. } => "set CAPIBARA_CACHE_DIR to a folder on a working disk".to_owned(),
            Self::DiskFull { .. } => {
                "building needs about 1 GB for a while; free some space, or set CAPIBARA_CACHE_DIR to another disk, and run it again: it continues where it stopped"
                    .to_owned()
            }
            Self::SourceMissing { .. } => "put the file there, or leave the option out to download it".to_owned(),
            Self::WrongDigest { .. } => {
                "the file is damaged or was changed on its way; it was not used. Try again, or get the file from another place"
                    .to_owned()
            }
            Self::Fetch { .. } => {
                "check the network; or put the files into a folder and name it with --sources".to_owned()
            }
            Self::Archive { .. } => "delete the file and run it again".to_owned(),
            Self::Patch { .. } | Self::Source { .. } => {
                "the sources are not the ones this version was made for; please report it with this message".to_owned()
            }
            Self::Compile { .. } | Self::Step { .. } => "run it again; if it fails again, please report it with this message".to_owned(),
            Self::OtherRecipe { .. } => "export it again with this version of capibara, or use the version it came from".to_owned(),
            Self::Manifest { .. } => "run `capibara runtime install python` to build the runtime again".to_owned(),
        }
    }

    /// An operation on a file failed; a full disk is told apart.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// What a failed program printed tells a full disk from other reasons.
    pub(crate) fn is_disk_full(output: &str) -> bool {
        ["No space left on device", "NoSpaceLeft", "enough free space", "Disk quota exceeded", "DiskQuota"]
            .iter()
            .any(|sign| output.contains(sign))
    }
}

/// Adds what was tried, and on what, to an [`io::Error`].
pub(crate) trait IoContext<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, RuntimeError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, RuntimeError> {
        self.map_err(|source| RuntimeError::io(action, path, source))
    }
}

fn names(list: &[Prerequisite]) -> String {
    let names: Vec<&str> = list.iter().map(|one| one.program).collect();
    names.join(", ")
}

/// The last lines of what a program printed, at most `lines` of them.
pub(crate) fn tail(output: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(output);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
