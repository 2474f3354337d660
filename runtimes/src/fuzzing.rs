//! What the fuzz target `artifact` does with manifests (see `fuzz/README.md`). Not an API.

use std::fs;
use std::io;
use std::path::Path;

use crate::{Folders, Language, Manifest, list, locate};

/// Reads any bytes as the manifest of a runtime in a cache folder, with the digest made right if need be.
///
/// # Errors
/// When files cannot be written.
pub fn manifest(cache: &Path, input: &[u8]) -> io::Result<()> {
    let folders = Folders { cache: cache.to_path_buf() };
    let dir = folders.runtimes().join(Language::Python.runtime_name());
    fs::create_dir_all(&dir)?;
    let path = dir.join("manifest.json");
    let mut input = input.to_vec();
    // A digest stands in the way of all else.
    if let Ok(mut read) = serde_json::from_slice::<Manifest>(&input) {
        read.sha256 = Manifest::runtime_digest(&read.code, &read.image, read.memory_min_bytes);
        input = read.to_json();
    }
    fs::write(&path, &input)?;
    let located = locate(&folders, Language::Python);
    let listed = list(&folders).map_or(0, |list| list.len());
    match Manifest::parse(&input, &path) {
        Ok(read) => {
            assert_eq!(Manifest::parse(&read.to_json(), &path).ok().as_ref(), Some(&read), "written is not read back");
            match located {
                Ok(Some(runtime)) => {
                    assert_eq!(runtime.manifest, read);
                    let _ = (runtime.is_current(), runtime.disk_bytes(), runtime.name());
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(listed, 1);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && located.is_err());
            assert_eq!(listed, 0);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "../../fuzz/inputs.rs"]
mod inputs;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_manifests_are_read_or_refused() {
        let cache = std::env::temp_dir().join(format!("capibara-manifests-{}", std::process::id()));
        for input in inputs::inputs("artifact", 500, 400) {
            manifest(&cache, input.get(1..).unwrap_or_default()).unwrap();
        }
        fs::remove_dir_all(&cache).unwrap();
    }
}
