//! What a script leaves in `/out`: its artifacts.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::outcome::Digest;
use crate::world::Chunks;

/// The bytes of a file that a script wrote. Clones share them.
#[derive(Clone)]
pub struct FileBytes(Arc<Chunks>);

impl FileBytes {
    pub(crate) fn new(chunks: Arc<Chunks>) -> Self {
        Self(chunks)
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes in order, in pieces of at most 64 KiB: nothing is copied.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.0.pieces()
    }

    /// All bytes in one piece, copied once.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// SHA-256 of the bytes.
    pub(crate) fn sha256(&self) -> Digest {
        let mut digest = Sha256::new();
        self.pieces().for_each(|piece| digest.update(piece));
        Digest(digest.finalize().into())
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// A regular file that a script left in `/out`.
///
/// Symbolic links there are no artifacts, and neither are directories without files; a file of several names is one
/// artifact for each. [`Engine::out_folder`](crate::Engine::out_folder) opens a folder to write artifacts into.
///
/// # Security
/// Path and bytes are the script's choice. The path is relative, of names that are neither `.` nor `..`, but may hold any
/// character; the type follows from the name alone, whatever the bytes are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Artifact {
    /// Path below `/out`, with slashes.
    pub path: String,
    /// Its bytes.
    pub bytes: FileBytes,
    /// SHA-256 of the bytes.
    pub sha256: Digest,
    /// Media type, by the ending of the name: `text/csv`, `application/octet-stream` where it says nothing.
    pub mime: &'static str,
}

impl Artifact {
    /// Takes what lies in `/out`. Names of one file share its bytes and its digest. What is still as it was `before`, sorted by
    /// path, is not read again.
    pub(crate) fn of(files: Vec<(String, Arc<Chunks>)>, before: &[Self]) -> Vec<Self> {
        let mut known: HashMap<*const Chunks, Digest> = HashMap::new();
        let mut artifacts = Vec::with_capacity(files.len());
        for (path, chunks) in files {
            let bytes = FileBytes::new(chunks);
            let sha256 = *known.entry(Arc::as_ptr(&bytes.0)).or_insert_with(|| {
                let old = before.binary_search_by(|artifact| artifact.path.cmp(&path)).ok();
                let old = old.and_then(|at| before.get(at)).filter(|old| old.bytes.0.is_same(&bytes.0));
                old.map_or_else(|| bytes.sha256(), |old| old.sha256)
            });
            let mime = mime_guess::from_path(&path).first_raw().unwrap_or("application/octet-stream");
            artifacts.push(Self { path, bytes, sha256, mime });
        }
        artifacts
    }
}
