//! `manifest.json`: what a runtime is and what it was made from.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::RuntimeError;

/// The schema this version writes and reads.
pub const SCHEMA: u32 = 1;

/// What a runtime is. It names no time and no place: the same inputs give the same manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format, [`SCHEMA`].
    pub schema: u32,
    /// The guest language, as "python".
    pub language: String,
    /// Version of the interpreter.
    pub version: String,
    /// Digest of the recipe that built it.
    pub recipe: String,
    /// The security patches applied, or `None` for the release as it was published.
    pub patches: Option<Patches>,
    /// What it was built from.
    pub sources: Vec<Source>,
    /// The module without its memory, `code.wasm`.
    pub code: Artifact,
    /// The memory, `memory.img`.
    pub image: Artifact,
    /// The least size of the linear memory.
    pub memory_min_bytes: u64,
    /// Digest of the runtime: see [`Manifest::runtime_digest`].
    pub sha256: String,
}

/// Patches on top of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patches {
    /// File name of the archive they came in.
    pub archive: String,
    /// Digest of the archive.
    pub sha256: String,
    /// Names of the patches applied, in their order.
    pub applied: Vec<String>,
}

/// A source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// File name.
    pub name: String,
    /// Digest.
    pub sha256: String,
}

/// A file of the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Digest.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
}

impl Manifest {
    /// The digest that names a runtime: SHA-256 over code digest, image digest and least memory size (hex, hex, decimal, a line each).
    #[must_use]
    pub fn runtime_digest(code: &Artifact, image: &Artifact, memory_min_bytes: u64) -> String {
        let mut digest = Sha256::new();
        digest.update(format!("{}\n{}\n{memory_min_bytes}\n", code.sha256, image.sha256));
        hex::encode(digest.finalize())
    }

    /// Reads a manifest and checks that it is consistent in itself.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Manifest`] when it is not JSON of this schema, or its digest is not that of its parts. `path` is named in it.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, RuntimeError> {
        let invalid = |reason: String| RuntimeError::Manifest { path: path.to_path_buf(), reason };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(invalid(format!("schema {} is not {SCHEMA}", manifest.schema)));
        }
        if manifest.sha256 != Self::runtime_digest(&manifest.code, &manifest.image, manifest.memory_min_bytes) {
            return Err(invalid("its digest is not that of its parts".to_owned()));
        }
        Ok(manifest)
    }

    /// The JSON written to disk.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let code = Artifact { sha256: "aa".repeat(32), bytes: 1 };
        let image = Artifact { sha256: "bb".repeat(32), bytes: 65536 };
        let sha256 = Manifest::runtime_digest(&code, &image, 65536);
        Manifest {
            schema: SCHEMA,
            language: "python".into(),
            version: "3.13.5".into(),
            recipe: "cc".repeat(32),
            patches: None,
            sources: vec![Source { name: "a".into(), sha256: "dd".repeat(32) }],
            code,
            image,
            memory_min_bytes: 65536,
            sha256,
        }
    }

    #[test]
    fn a_manifest_reads_back_as_written() {
        let one = example();
        let json = one.to_json();
        assert_eq!(Manifest::parse(&json, Path::new("m")).unwrap(), one);
        assert!(String::from_utf8(json).unwrap().contains("\"patches\": null"));
    }

    #[test]
    fn a_changed_manifest_is_refused() {
        let mut one = example();
        one.memory_min_bytes += 1;
        let error = Manifest::parse(&one.to_json(), Path::new("m.json")).unwrap_err();
        assert!(error.to_string().contains("m.json is not a valid manifest"), "{error}");
        one = example();
        one.schema = 2;
        assert!(Manifest::parse(&one.to_json(), Path::new("m")).is_err());
        assert!(Manifest::parse(b"{}", Path::new("m")).is_err());
    }
}
