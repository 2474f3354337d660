//! Commands to be pasted into a shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::escape;

/// A word for a POSIX shell. What cannot be shown safely is written so that it can.
pub(super) fn word(text: impl AsRef<OsStr>) -> String {
    let text = text.as_ref();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    match text.to_str() {
        Some(text) if !text.is_empty() && text.as_bytes().iter().all(plain) => text.to_owned(),
        Some(text) if !text.chars().any(escape::is_unsafe) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let octal = |byte: &u8| {
                if byte.is_ascii_alphanumeric() || b"_./-".contains(byte) {
                    char::from(*byte).to_string()
                } else {
                    format!("\\{byte:03o}")
                }
            };
            // (A substitution loses newlines at its end, which no path of ours has.)
            format!("\"$(printf '{}')\"", text.as_bytes().iter().map(octal).collect::<String>())
        }
    }
}

/// Words for a shell, with a space between them.
pub(super) fn words<T: AsRef<OsStr>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A command that only root can give, from here.
pub(super) fn as_root(command: &str) -> String {
    if rustix::process::geteuid().is_root() { command.to_owned() } else { format!("sudo {command}") }
}

/// A command that sets a variable in the shell.
pub(super) fn export(name: &str, value: impl AsRef<OsStr>) -> String {
    format!("export {name}={}", word(value))
}

/// A name beside `path` that nothing has: `PATH.broken`, `PATH.broken-2`, …
pub(super) fn free_name(path: &Path, end: &str) -> PathBuf {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{end}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    (1..1000).map(named).find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| named(1000))
}

/// A command that puts a file or folder out of the way, and keeps it.
pub(super) fn set_aside(path: &Path) -> String {
    format!("mv {} {}", word(path), word(free_name(path, "broken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_by_a_shell_as_they_were() {
        for text in [
            &b"/plain/path-1.x"[..],
            b"/with space/and'quote\"$HOME`id`;*",
            b"",
            b"new\nline",
            b"caf\xe9 \x1b[31m %s \\n",
            "\u{202e}evil".as_bytes(),
            "na\u{ef}ve".as_bytes(),
        ] {
            let quoted = word(OsStr::from_bytes(text));
            assert!(!quoted.chars().any(escape::is_unsafe), "{quoted}");
            let command = format!("printf %s {quoted}");
            let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            assert_eq!(output.stdout, text, "{quoted}");
        }
        assert_eq!(words(["/a", "/b c"]), "/a '/b c'");
    }
}
