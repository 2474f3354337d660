//! Makes the profile of the Python runtime anew: `runtimes/python/python.profdata.xz`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, repository, run};

const PROFILE: &str = "runtimes/python/python.profdata.xz";
pub(crate) fn make() -> Result<()> {
    let tool = profdata()?;
    let scratch = std::env::temp_dir().join(format!("capibara-profile-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let made = in_folder(&tool, &scratch);
    std::fs::remove_dir_all(&scratch)?;
    made
}

fn in_folder(tool: &Path, scratch: &Path) -> Result<()> {
    let raw = scratch.join("profile.raw");
    let mut training = cargo(&["run", "--release", "--quiet", "--package", "capibara", "--example", "profile", "--"]);
    training.arg(&raw);
    run(training)?;
    // By way of text, in which a path of this machine would show.
    let (text, merged) = (scratch.join("profile.txt"), scratch.join("python.profdata"));
    merge(tool, &["-text"], &raw, &text)?;
    let counts = std::fs::read_to_string(&text).context("failed to read the profile")?;
    if let Some(line) = counts.lines().find(|line| line.starts_with('/')) {
        bail!("the profile names a path of this machine: {line}");
    }
    merge(tool, &[], &text, &merged)?;
    let packed = Command::new("xz").args(["--stdout", "-9e", "--threads=1"]).arg(&merged).output();
    let packed = packed.context("failed to start xz: apt-get install -y xz-utils")?;
    if !packed.status.success() {
        bail!("xz ended with {}", packed.status);
    }
    std::fs::write(repository().join(PROFILE), &packed.stdout).context("failed to write the profile")?;
    println!("{PROFILE}: {} functions, {} bytes", counts.matches("# Func Hash:").count(), packed.stdout.len());
    Ok(())
}

fn merge(tool: &Path, flags: &[&str], from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new(tool);
    command.arg("merge").args(flags).arg(from).arg("-o").arg(to);
    run(command)
}

/// LLVM's tool of the release the compiler is of (22), as Rust's component has it.
fn profdata() -> Result<PathBuf> {
    let printed = |name: &str| -> Result<String> {
        let output = Command::new("rustc").args(["--print", name]).output().context("failed to start rustc")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let host = printed("host-tuple")?;
    let tool = Path::new(&printed("sysroot")?).join(format!("lib/rustlib/{host}/bin/llvm-profdata"));
    if !tool.is_file() {
        bail!("no llvm-profdata: rustup component add llvm-tools");
    }
    Ok(tool)
}
