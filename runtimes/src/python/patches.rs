//! The sources of CPython with Debian's security patches.

use std::{fs, path::Path, process::Command};

use super::flags;
use crate::{
    archive, digest,
    error::{IoContext, RuntimeError, tail},
    folder,
    manifest::Patches,
};

/// Beside `src/`: which patches are in it.
const RECORD: &str = "src.json";

/// Which patches `src/` of an earlier, interrupted build has; `None` when there is no such folder.
pub(super) fn applied(build: &Path) -> Option<Option<Patches>> {
    if !build.join("src").exists() {
        return None;
    }
    serde_json::from_slice(&fs::read(build.join(RECORD)).ok()?).ok()
}

/// Which archive of patches a build uses: its name and digest.
pub(super) fn describe(patches: Option<&Path>) -> Result<Option<(String, String)>, RuntimeError> {
    let Some(path) = patches else { return Ok(None) };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some((name, digest::of_file(path)?.0)))
}

/// Unpacks CPython into `src/` and applies the security patches, in the order of Debian's series, and our own changes.
pub(super) fn unpack(build: &Path, tarball: &Path, patches: Option<&Path>) -> Result<Option<Patches>, RuntimeError> {
    let (partial, place) = (build.join("src.new"), build.join("src"));
    folder::remove(&partial)?;
    archive::unpack_tar(tarball, &partial)?;
    let record = match patches {
        None => None,
        Some(path) => Some(apply(build, &partial, path)?),
    };
    edit(&partial, flags::SOURCE_EDITS)?;
    let json = serde_json::to_vec(&record).unwrap_or_default();
    folder::write(&build.join(RECORD), &json)?;
    fs::rename(&partial, &place).context("write", &place)?;
    Ok(record)
}

fn apply(build: &Path, sources: &Path, packaging: &Path) -> Result<Patches, RuntimeError> {
    let debian = build.join("debian");
    folder::remove(&debian)?;
    archive::unpack_tar(packaging, &debian)?;
    let series = debian.join("patches/series");
    let series = fs::read_to_string(&series).context("read", &series)?;
    let applied = security_patches(&series);
    for name in &applied {
        let mut patch = Command::new("patch");
        // No fuzz: a patch that does not fit exactly was not made for these sources.
        patch.args(["-p1", "-N", "-F0", "--no-backup-if-mismatch", "-i"]).arg(debian.join("patches").join(name));
        let output = patch.current_dir(sources).output().context("start", Path::new("patch"))?;
        if !output.status.success() {
            let output = tail(&[output.stdout, output.stderr].concat(), 8);
            if RuntimeError::is_disk_full(&output) {
                return Err(RuntimeError::DiskFull { path: sources.to_path_buf() });
            }
            return Err(RuntimeError::Patch { name: name.clone(), output });
        }
    }
    folder::remove(&debian)?;
    let archive = packaging.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Patches { archive, sha256: digest::of_file(packaging)?.0, applied })
}

fn edit(sources: &Path, edits: &[[&str; 3]]) -> Result<(), RuntimeError> {
    for [file, old, new] in edits {
        let path = sources.join(file);
        let text = fs::read_to_string(&path).context("read", &path)?;
        if text.matches(old).count() != 1 {
            let reason = "what is to be changed does not occur in it once";
            return Err(RuntimeError::Source { file: (*file).to_owned(), reason });
        }
        folder::write(&path, text.replacen(old, new, 1).as_bytes())?;
    }
    Ok(())
}

/// The security fixes among the entries of the series; the others are packaging.
fn security_patches(series: &str) -> Vec<String> {
    let names = series.lines().map(str::trim);
    let is_fix = |name: &&str| {
        // A plain file name: the path is joined to a folder of ours.
        flags::PATCH_PREFIXES.iter().any(|begin| name.starts_with(begin)) && !name.contains('/')
    };
    names.filter(is_fix).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_fits_once_or_not_at_all() {
        let sources = std::env::temp_dir().join(format!("capibara-edit-{}", std::process::id()));
        folder::create(&sources).unwrap();
        folder::write(&sources.join("a.h"), b"one two two").unwrap();
        edit(&sources, &[["a.h", "one", "1"]]).unwrap();
        assert_eq!(fs::read_to_string(sources.join("a.h")).unwrap(), "1 two two");
        for old in ["one", "two"] {
            let error = edit(&sources, &[["a.h", old, "2"]]).unwrap_err();
            assert!(matches!(&error, RuntimeError::Source { file, .. } if file == "a.h"), "{error}");
        }
        assert_eq!(fs::read_to_string(sources.join("a.h")).unwrap(), "1 two two");
        folder::remove(&sources).unwrap();
    }

    #[test]
    fn only_security_fixes_are_taken_in_order() {
        let series =
            "# comment\nmultiarch.diff\nCVE-2025-2.patch\n  CVE-2025-1.patch\nssl-sni-crash.patch\nCVE-/../../x\n";
        assert_eq!(security_patches(series), ["CVE-2025-2.patch", "CVE-2025-1.patch", "ssl-sni-crash.patch"]);
    }
}
