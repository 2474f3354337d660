//! A folder of the host that artifacts are written into.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use cap_std::fs::Dir;

use crate::artifacts::Artifact;
use crate::error::EngineError;
use crate::grant::Protected;
use crate::placing::{Placing, Refusal, RefusalReason};
use crate::world::holds_files;

/// A folder that is open to write [artifacts](crate::Outcome::artifacts) into; [`Engine::out_folder`](crate::Engine::out_folder)
/// opens it.
///
/// # Security
/// Nothing is written outside of it or through a link in it, whatever the names are and whoever changes it meanwhile. What is
/// in it and has the name of an artifact is replaced; do not give it a folder in which a file's name alone makes it
/// effective, such as a home folder.
#[derive(Debug)]
pub struct OutFolder {
    dir: Dir,
}

/// What came of writing artifacts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Written {
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was not written.
    pub refused: Vec<Refusal>,
}

fn invalid(reason: String, hint: &str) -> EngineError {
    EngineError::InvalidJob { reason, hint: Some(hint.into()) }
}

impl OutFolder {
    pub(crate) fn open(path: &Path, protected: &Protected) -> Result<Self, EngineError> {
        let shown = path.display();
        let failed = |error: io::Error| {
            invalid(format!("`{shown}` cannot take artifacts: {error}"), "name a folder that you can write to")
        };
        let ours = |what: &str| {
            invalid(format!("writing artifacts to `{shown}` would change {what}"), "name a folder of their own")
        };
        // Before it is made.
        if let Some(what) = protected.named(path) {
            return Err(ours(what));
        }
        match fs::DirBuilder::new().mode(0o755).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let host = fs::canonicalize(path).map_err(failed)?;
        let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&host).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if let Some(what) = protected.covered(&host, crate::grant::id(&meta)) {
            return Err(ours(what));
        }
        if !holds_files(&file) {
            return Err(invalid(format!("`{shown}` lies in a file system of the kernel"), "name an ordinary folder"));
        }
        Ok(Self { dir: Dir::from_std_file(file) })
    }

    /// Writes artifacts, each whole or not at all; directories are made as needed. A regular file that has the name is
    /// replaced and keeps its permissions, others get mode 0644 less the process's umask. Where anything else has the name,
    /// or something on the way is no directory, that artifact is refused and the others are written. Files are not forced
    /// to the disk.
    #[must_use]
    pub fn write(&self, artifacts: &[Artifact]) -> Written {
        let mut written = Written::default();
        let mut placing = match Placing::new(&self.dir) {
            Ok(placing) => placing,
            Err(error) => {
                let reason = RefusalReason::from(error);
                let refused = |artifact: &Artifact| Refusal { path: artifact.path.clone(), reason: reason.clone() };
                return Written { refused: artifacts.iter().map(refused).collect(), ..written };
            }
        };
        for artifact in artifacts {
            match placing.put(&artifact.path, &artifact.bytes, true) {
                Ok(()) => {
                    written.files += 1;
                    written.bytes += artifact.bytes.len();
                }
                Err(reason) => written.refused.push(Refusal { path: artifact.path.clone(), reason }),
            }
        }
        written
    }
}
