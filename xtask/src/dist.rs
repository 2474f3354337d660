//! Makes what is shipped: `target/dist/capibara`, one file with the Python runtime behind it that needs nothing else, and
//! `target/dist/python.tar.xz`, the pack of the crate `capibara-runtime-python`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, repository, run};

/// The most that may be shipped, in MiB.
const LARGEST_PROGRAM: u64 = 60;
const LARGEST_CRATE: u64 = 10;

/// The folder of what is shipped.
pub(crate) fn folder() -> PathBuf {
    repository().join("target").join("dist")
}

/// The pack of the installed runtime, which `capibara` writes; one that was written before is taken again.
pub(crate) fn pack(capibara: &Path) -> Result<PathBuf> {
    let folder = folder();
    std::fs::create_dir_all(&folder)?;
    runtime(capibara, &["install", "python"], None)?;
    let listed = Command::new(capibara).args(["runtime", "list", "--format", "json"]).output();
    let listed: serde_json::Value = serde_json::from_slice(&listed.context("failed to list runtimes")?.stdout)?;
    // The one in use is the first.
    let sha256 = listed["runtimes"][0]["sha256"].as_str().context("no runtime is installed")?;
    let (pack, mark) = (folder.join("python.tar.xz"), folder.join("python.sha256"));
    if !pack.is_file() || std::fs::read_to_string(&mark).ok().as_deref() != Some(sha256) {
        runtime(capibara, &["export"], Some(&pack))?;
        std::fs::write(mark, sha256)?;
    }
    Ok(pack)
}

fn runtime(capibara: &Path, words: &[&str], file: Option<&Path>) -> Result<()> {
    let mut command = Command::new(capibara);
    command.arg("runtime").args(words).args(file);
    run(command)
}

pub(crate) fn make() -> Result<()> {
    let folder = folder();
    std::fs::create_dir_all(&folder)?;
    let linked = link(&folder)?;
    let (program, pack) = (folder.join("capibara"), pack(&linked)?);
    runtime(&linked, &["export", "--program"], Some(&program))?;
    for (path, most) in [(&program, LARGEST_PROGRAM), (&pack, LARGEST_CRATE)] {
        let bytes = std::fs::metadata(path)?.len();
        let mebibytes = bytes as f64 / f64::from(1 << 20);
        println!("{}: {mebibytes:.1} MiB, {most} allowed", path.strip_prefix(repository()).unwrap_or(path).display());
        if bytes > most << 20 {
            bail!("{} is too large", path.display());
        }
    }
    Ok(())
}

/// The program, linked statically, so that it needs no library of the machine it runs on.
fn link(folder: &Path) -> Result<PathBuf> {
    let static_link = ["rustc", "--release", "--package", "capibara-cli", "--bin", "capibara", "--"];
    let mut command = cargo(&static_link);
    command.args(["-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    run(command)?;
    let linked = folder.join("capibara.linked");
    std::fs::copy(repository().join("target/release/capibara"), &linked).context("failed to copy the program")?;
    Ok(linked)
}
