//! `--show FILE[:SIZE]`: the start of a granted file, for a model to see.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use capibara::Grant;
use capibara_generate::prompt::Shown;
use capibara_policies::parse_size;

use crate::errors::Failure;

/// Bytes that are shown where nothing else is said.
const BYTES: u64 = 2 << 10;
/// The most of them.
const MOST_BYTES: u64 = 64 << 10;

/// A file as it stands on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShownFile {
    path: PathBuf,
    bytes: u64,
}

impl ShownFile {
    /// Reads `FILE[:SIZE]`. What follows the last colon and is no size belongs to FILE.
    pub(crate) fn parse(text: OsString) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let size = bytes.iter().rposition(|byte| *byte == b':').and_then(|at| {
            let size = parse_size(std::str::from_utf8(bytes.get(at + 1..)?).ok()?).ok()?;
            Some((bytes.get(..at)?, size))
        });
        let (path, bytes) = size.unwrap_or((bytes, BYTES));
        if path.is_empty() {
            return Err("an empty text names no file: write FILE or FILE:SIZE, for example `sales.csv:1KiB`".into());
        }
        if bytes > MOST_BYTES {
            return Err(format!("at most {} of a file can be shown", crate::output::units::size(MOST_BYTES)));
        }
        Ok(Self { path: PathBuf::from(OsStr::from_bytes(path)), bytes })
    }

    /// Reads the file, if one of `grants` lets the script read it. It is called by the name the script sees.
    pub(crate) fn read(&self, grants: &[Grant]) -> Result<Shown, Failure> {
        let shown = self.path.display();
        let real = fs::canonicalize(&self.path)
            .map_err(|error| Failure::new("show", format!("failed to read `{shown}`")).with_cause(&error))?;
        let guest_path = grants.iter().find_map(|grant| guest_path(grant, &real)).ok_or_else(|| {
            Failure::new("show-not-granted", format!("`{shown}` is to be shown, and is not granted to the script"))
                .with_hint(format!("grant it: `--read {shown} --show {shown}`"))
        })?;
        let fail = |error: std::io::Error| Failure::new("show", format!("failed to read `{shown}`")).with_cause(&error);
        // Without waiting: it may be a pipe.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = File::options().read(true).custom_flags(flags).open(&real).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.is_file() {
            return Err(Failure::new("show", format!("`{shown}` is not a regular file")));
        }
        let mut bytes = Vec::new();
        file.take(self.bytes).read_to_end(&mut bytes).map_err(fail)?;
        let truncated = meta.len() > bytes.len() as u64;
        Ok(Shown { guest_path, bytes, truncated })
    }
}

/// Where the script sees that file of the host, if the grant leads to it.
fn guest_path(grant: &Grant, real: &Path) -> Option<String> {
    let host = fs::canonicalize(&grant.host).ok()?;
    let below = real.strip_prefix(&host).ok()?.to_str()?;
    let root = guest_root(grant);
    Some(match below {
        "" => root,
        _ if root == "/" => format!("/{below}"),
        _ => format!("{root}/{below}"),
    })
}

/// Where the script sees what is granted.
pub(crate) fn guest_root(grant: &Grant) -> String {
    grant.guest.clone().unwrap_or_else(|| {
        let name = grant.host.file_name().map(OsStr::to_owned);
        let real = || fs::canonicalize(&grant.host).ok()?.file_name().map(OsStr::to_owned);
        format!("/{}", name.or_else(real).unwrap_or_default().to_string_lossy())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_sizes_are_read() {
        for (text, path, bytes) in [
            ("a.csv", "a.csv", 2048),
            ("a.csv:1KiB", "a.csv", 1024),
            ("a:b", "a:b", 2048),
            ("a:b:64KiB", "a:b", 65536),
            ("a:", "a:", 2048),
        ] {
            assert_eq!(ShownFile::parse(text.into()), Ok(ShownFile { path: path.into(), bytes }), "{text}");
        }
        for bad in ["", ":1KiB", "a:1MiB"] {
            assert!(ShownFile::parse(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_granted_is_shown_and_by_the_scripts_name_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (data, other) = (dir.path().join("data"), dir.path().join("other.csv"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a.csv"), "x,y\n1,2\n").unwrap();
        fs::write(&other, "secret").unwrap();
        std::os::unix::fs::symlink(&other, data.join("link.csv")).unwrap();
        let show = |name: &Path, grants: &[Grant]| ShownFile { path: name.into(), bytes: 4 }.read(grants);
        let shown = show(&data.join("a.csv"), &[Grant::read(&data).at("/in")]).unwrap();
        assert_eq!((shown.guest_path.as_str(), &shown.bytes[..], shown.truncated), ("/in/a.csv", &b"x,y\n"[..], true));
        assert_eq!(show(&data.join("a.csv"), &[Grant::read(data.join("a.csv"))]).unwrap().guest_path, "/a.csv");
        assert_eq!(show(&data.join("a.csv"), &[Grant::read(&data).at("/")]).unwrap().guest_path, "/a.csv");
        // Links lead out of the grant, for us as for the script.
        for (name, grants) in [
            (other.clone(), vec![Grant::read(&data)]),
            (data.join("link.csv"), vec![Grant::read(&data)]),
            (other, vec![]),
        ] {
            assert_eq!(show(&name, &grants).unwrap_err().code, "show-not-granted");
        }
        assert_eq!(show(&data, &[Grant::read(&data)]).unwrap_err().code, "show");
    }
}
