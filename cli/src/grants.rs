//! What `--read` and `--write` say: `HOST` or `HOST:GUEST`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use capibara_policies::FileGrant;

/// A grant as it stands on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    host: PathBuf,
    guest: Option<String>,
}

impl Mount {
    /// What of this machine is granted.
    pub(crate) fn host(&self) -> &Path {
        &self.host
    }

    pub(crate) fn of_policy(&self) -> FileGrant {
        FileGrant { host: self.host.clone(), guest: self.guest.clone() }
    }
}

/// Reads `HOST[:GUEST]`. GUEST is an absolute path, so a colon that no slash follows belongs to HOST.
pub(crate) fn parse(text: OsString) -> Result<Mount, String> {
    let shown = text.to_string_lossy().into_owned();
    let bytes = text.as_bytes();
    let split = bytes.windows(2).rposition(|pair| pair == b":/");
    let (host, guest) = match split.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?))) {
        Some((host, guest)) => (host, Some(guest)),
        None => (bytes, None),
    };
    if host.is_empty() {
        return Err(format!(
            "`{shown}` names nothing of this machine: write HOST or HOST:GUEST, for example `data:/data`"
        ));
    }
    let guest = guest.map(|guest| match std::str::from_utf8(guest) {
        Ok(guest) => Ok(guest.to_owned()),
        Err(_) => Err(format!("where the script sees `{shown}` is not UTF-8")),
    });
    Ok(Mount { host: PathBuf::from(OsStr::from_bytes(host)), guest: guest.transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read() {
        let row = |text: &str| parse(text.into()).map(|mount| (mount.host.display().to_string(), mount.guest));
        for (text, host, guest) in [
            ("data", "data", None),
            ("/srv/data:/in", "/srv/data", Some("/in")),
            (".:/", ".", Some("/")),
            ("a:b", "a:b", None),
            ("a:b:/c", "a:b", Some("/c")),
            ("a:/b:/c", "a:/b", Some("/c")),
            ("data:", "data:", None),
        ] {
            assert_eq!(row(text), Ok((host.into(), guest.map(Into::into))), "{text}");
        }
        assert!(row("").is_err());
        assert!(row(":/x").unwrap_err().contains("HOST:GUEST"));
        assert!(parse(OsStr::from_bytes(b"a:/\xff").to_owned()).is_err());
        assert_eq!(parse(OsStr::from_bytes(b"\xff").to_owned()).map(|mount| mount.guest), Ok(None));
    }
}
