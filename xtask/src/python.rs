//! The Python package: builds its wheel, and tests it as somebody has it who installs it: in a fresh virtual environment, with no
//! compiler in sight.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, repository, run, without_our_package};

/// What builds the wheel, and what checks its types and compares its stub with the extension module.
const MATURIN: &str = "maturin==1.16.0";
const MYPY: &str = "mypy==2.4.1";

/// `cargo xtask python`. `PYTHON` names the interpreter (`python3`); it must be 3.10 or later.
pub(crate) fn test() -> Result<()> {
    let folder = repository().join("target/python");
    run(cargo(&["build", "--release", "--quiet", "--bin", "capibara"]))?;
    let pack = crate::dist::pack(&repository().join("target/release/capibara"))?;
    std::fs::copy(pack, repository().join("sdk/python/python/capibara/python.tar.xz"))?;
    let wheel = build(&folder)?;
    let fresh = environment(&folder.join("fresh"), true)?;
    run(pip(&fresh, &["--no-index", &wheel.display().to_string()]))?;
    let tests = repository().join("sdk/python/tests");
    let mut unittest = Command::new(&fresh);
    // Nothing but the interpreter itself can be found: what needs a compiler or a program fails.
    unittest.env("PATH", folder.join("nothing")).current_dir(&folder);
    unittest.args(["-m", "unittest", "discover", "-s"]).arg(tests);
    run(unittest)?;
    run(nothing_but_the_wheel(&fresh, &folder))?;
    run(pip(&fresh, &[MYPY]))?;
    for words in [&["mypy.stubtest", "capibara"][..], &["mypy", "--strict", "-p", "capibara"]] {
        let mut types = Command::new(&fresh);
        types.current_dir(&folder).arg("-m").args(words);
        run(types)?;
    }
    Ok(())
}

/// A script, where no runtime is installed and the environment is empty.
fn nothing_but_the_wheel(python: &Path, folder: &Path) -> Command {
    let temporary = folder.join("temporary");
    let _ = std::fs::remove_dir_all(&temporary);
    let _ = std::fs::create_dir_all(&temporary);
    let mut hello = Command::new(python);
    hello.env_clear().env("TMPDIR", temporary).current_dir(folder);
    hello.args(["-c", "import capibara; assert capibara.run('print(6 * 7)').stdout == '42\\n'"]);
    hello
}

/// Builds the wheel. The engine in it is the one that `cargo build` makes.
fn build(folder: &Path) -> Result<PathBuf> {
    let builder = environment(&folder.join("build"), false)?;
    run(pip(&builder, &[MATURIN]))?;
    let wheels = folder.join("wheels");
    let _ = std::fs::remove_dir_all(&wheels);
    let mut maturin = Command::new(&builder);
    maturin.current_dir(repository()).args(["-m", "maturin", "build", "--release", "--locked", "--manifest-path"]);
    maturin.arg("sdk/python/Cargo.toml").arg("--out").arg(&wheels);
    without_our_package(&mut maturin);
    run(maturin)?;
    let wheel = std::fs::read_dir(&wheels)?.flatten().map(|entry| entry.path()).next();
    wheel.context("maturin made no wheel")
}

/// The Python of a virtual environment, made anew if `fresh`.
fn environment(folder: &Path, fresh: bool) -> Result<PathBuf> {
    let python = folder.join("bin/python");
    if fresh || !python.is_file() {
        let base = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut venv = Command::new(base);
        venv.args(["-m", "venv", "--clear"]).arg(folder);
        run(venv)?;
    }
    if !python.is_file() {
        bail!("there is no {}", python.display());
    }
    Ok(python)
}

fn pip(python: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(words);
    command
}
