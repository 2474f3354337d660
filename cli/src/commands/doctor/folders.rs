//! Who owns a folder or file, who may write it, and what room there is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use super::{Check, fix};

/// What is wrong with who owns paths and who may write them: those that are not there are left out. One finding for each kind.
///
/// `forbidden` are the bits of their modes that they must not have.
pub(super) fn guard(name: &'static str, paths: &[PathBuf], forbidden: u32) -> Vec<Check> {
    let there: Vec<(&PathBuf, Metadata)> =
        paths.iter().filter_map(|path| Some((path, std::fs::metadata(path).ok()?))).collect();
    let user = rustix::process::geteuid().as_raw();
    let mut checks = Vec::new();
    let foreign: Vec<&PathBuf> =
        there.iter().filter(|(_, meta)| meta.uid() != user && meta.uid() != 0).map(|(path, _)| *path).collect();
    if let [first, ..] = &foreign[..] {
        let owner = there.iter().find(|(path, _)| path == first).map(|(_, meta)| meta.uid()).unwrap_or_default();
        checks.push(
            Check::error(name, format!("`{}` belongs to user {owner}, and not to you or root", first.display()))
                .fix(fix::as_root(&format!("chown -R \"$(id -u)\" {}", fix::words(&foreign)))),
        );
    }
    let open: Vec<&PathBuf> =
        there.iter().filter(|(_, meta)| meta.mode() & forbidden != 0).map(|(path, _)| *path).collect();
    if let [first, ..] = &open[..] {
        let mode =
            there.iter().find(|(path, _)| path == first).map(|(_, meta)| meta.mode() & 0o7777).unwrap_or_default();
        let (can, change) = if forbidden & 0o055 == 0 { ("write", "go-w") } else { ("read", "go-rwx") };
        let more = match open.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        checks.push(
            Check::error(name, format!("others may {can} `{}`{more} (mode {mode:o})", first.display()))
                .fix(format!("chmod {change} {}", fix::words(&open))),
        );
    }
    checks
}

/// Writable by others.
pub(super) const WRITABLE: u32 = 0o022;
/// Open to others in any way.
pub(super) const OPEN: u32 = 0o077;

/// Why this user cannot read, write and enter a folder.
pub(super) fn barred(folder: &Path) -> Option<Errno> {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, folder, access, AtFlags::EACCESS).err()
}

/// The path itself, or the nearest above it that is there.
pub(super) fn nearest_there(path: &Path) -> &Path {
    path.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(Path::new("/"))
}

/// Bytes that this user can still write where `path` is, or would be.
pub(super) fn room(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(nearest_there(path)).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether a folder is in a file system that keeps files; those of the kernel (`/proc`) do not.
pub(super) fn keeps_files(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|stat| stat.f_blocks > 0)
}

/// Bytes that what lies below a folder takes on its disk. Links are not followed.
pub(super) fn size(folder: &Path) -> u64 {
    let mut sum = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            sum += meta.blocks() * 512;
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn modes_are_guarded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b");
        fs::write(&path, "x").unwrap();
        for (mode, forbidden, command) in [
            (0o600, OPEN, None),
            (0o644, WRITABLE, None),
            (0o664, WRITABLE, Some("chmod go-w ")),
            (0o640, OPEN, Some("chmod go-rwx ")),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = guard("x", &[path.clone(), dir.path().join("not there")], forbidden);
            let fix = found.first().and_then(|check| check.fix.clone());
            assert_eq!(fix, command.map(|command| format!("{command}'{}'", path.display())), "{mode:o}");
        }
        assert_eq!(nearest_there(&dir.path().join("x/y/z")), dir.path());
        assert!(room(&dir.path().join("x")).is_some_and(|room| room > 0));
        assert!(size(dir.path()) >= 512 && keeps_files(dir.path()));
        assert!(!keeps_files(Path::new("/proc")));
    }
}
