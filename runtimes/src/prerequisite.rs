//! The programs a build needs from the machine.

use std::{env, fmt, path::Path, process::Command};

/// A program that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prerequisite {
    /// Its name.
    pub program: &'static str,
    /// What it is needed for.
    pub why: &'static str,
    /// A command that installs it.
    pub install: &'static str,
}

impl fmt::Display for Prerequisite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.program, self.why, self.install)
    }
}

pub(crate) const PIP: Prerequisite = Prerequisite {
    program: "pip",
    why: "fetches the C compiler and the time zone data",
    install: "apt-get install -y python3-pip",
};
pub(crate) const CARGO: Prerequisite = Prerequisite {
    program: "cargo",
    why: "fetches the sources of zlib, bzip2, xz and SQLite",
    install: "apt-get install -y cargo",
};
pub(crate) const CURL: Prerequisite = Prerequisite {
    program: "curl",
    why: "fetches the sources of Python where apt-get does not have them",
    install: "apt-get install -y curl",
};
pub(crate) const PATCH: Prerequisite = Prerequisite {
    program: "patch",
    why: "applies Debian's security patches to Python",
    install: "apt-get install -y patch",
};

/// Is there such a program on `PATH`?
pub(crate) fn exists(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| is_executable(&folder.join(program))))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// How pip is called on this machine, if at all.
pub(crate) fn pip() -> Option<Command> {
    for program in ["pip3", "pip"] {
        if exists(program) {
            return Some(Command::new(program));
        }
    }
    let mut module = Command::new("python3");
    module.args(["-m", "pip"]);
    let mut probe = Command::new("python3");
    let works = exists("python3")
        && probe.args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success());
    works.then_some(module)
}
