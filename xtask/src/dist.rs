//! Makes what is shipped, in `target/dist`: `capibara`, one file with the Python runtime behind it that needs nothing else, also under its name in
//! releases; `python.tar.xz`, the pack of the crate `capibara-runtime-python`; a container image of the one file; a Debian package; and
//! `SHA256SUMS` of them all.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, output, repository, run};

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
    let mut shipped = vec![named(&program)?, image(&program)?];
    shipped.extend(deb(&program)?);
    shipped.push(pack.clone());
    sums(&folder, &shipped)?;
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

/// The program under the name that `deploy/install.sh` looks for.
fn named(program: &Path) -> Result<PathBuf> {
    let name = program.with_file_name(format!("capibara-{}-linux", std::env::consts::ARCH));
    std::fs::copy(program, &name)?;
    Ok(name)
}

pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut command = Command::new("sha256sum");
    command.arg("--binary").arg(path);
    Ok(output(command)?.split(' ').next().unwrap_or_default().to_owned())
}

/// Names of no time, no owner and one order: the same files give the same archive.
const REPRODUCIBLE: [&str; 6] =
    ["--format=ustar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];

fn tar(to: &Path, folder: &Path, names: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(REPRODUCIBLE).arg("--create").arg("--file").arg(to).arg("--directory").arg(folder).args(names);
    run(command)
}

/// An image of one layer that holds the one file, as `docker load` and `podman load` take it. Nothing is pulled, and no daemon is needed.
fn image(program: &Path) -> Result<PathBuf> {
    let folder = program.with_file_name("image");
    let _ = std::fs::remove_dir_all(&folder);
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("tmp"))?;
    // Engines give a temporary file system the mode of the folder it covers, and nobody in particular writes there.
    std::fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
    std::fs::copy(program, root.join("capibara"))?;
    let layer = folder.join("layer.tar");
    tar(&layer, &root, &["capibara", "tmp"])?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": { "User": "65534:65534", "WorkingDir": "/tmp", "Entrypoint": ["/capibara"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer)?)] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "comment": "the single file" }],
    });
    std::fs::write(folder.join("config.json"), config.to_string())?;
    let tag = concat!("capibara:", env!("CARGO_PKG_VERSION"));
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    std::fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let image = program.with_file_name("capibara-image.tar");
    tar(&image, &folder, &["manifest.json", "config.json", "layer.tar"])?;
    std::fs::remove_dir_all(&folder)?;
    Ok(image)
}

/// A Debian package, where there is what makes one.
fn deb(program: &Path) -> Result<Option<PathBuf>> {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("no Debian package: dpkg-deb is not here");
        return Ok(None);
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let root = program.with_file_name("deb");
    let _ = std::fs::remove_dir_all(&root);
    let usr = root.join("usr");
    for folder in ["bin", "share/doc/capibara", "share/bash-completion/completions"] {
        std::fs::create_dir_all(usr.join(folder))?;
    }
    std::fs::create_dir_all(root.join("DEBIAN"))?;
    std::fs::copy(program, usr.join("bin/capibara"))?;
    std::fs::copy(repository().join("LICENSE"), usr.join("share/doc/capibara/copyright"))?;
    let mut completions = Command::new(program);
    completions.args(["completions", "bash"]);
    std::fs::write(usr.join("share/bash-completion/completions/capibara"), output(completions)?)?;
    let mut pages = Command::new(program);
    pages.args(["man", "--out"]).arg(usr.join("share/man/man1"));
    std::fs::create_dir_all(usr.join("share/man"))?;
    run(pages)?;
    let mut compress = Command::new("gzip");
    compress.args(["--best", "--no-name", "--recursive"]).arg(usr.join("share/man/man1"));
    run(compress)?;
    let version = env!("CARGO_PKG_VERSION");
    let control = format!(
        "Package: capibara\nVersion: {version}\nArchitecture: {architecture}\nSection: utils\nPriority: optional\n\
         Maintainer: The Capibara maintainers <maintainers@capibara.invalid>\nInstalled-Size: {}\n\
         Description: runs scripts you did not write\n \
         Scanned against a policy, then executed in CPython inside WebAssembly, under limits of\n \
         instructions, time, memory and output. One file, no daemon.\n",
        std::fs::metadata(program)?.len() >> 10,
    );
    std::fs::write(root.join("DEBIAN/control"), control)?;
    let package = program.with_file_name(format!("capibara_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build.env("SOURCE_DATE_EPOCH", "0").args(["--root-owner-group", "--uniform-compression", "-Zxz", "--build"]);
    build.arg(&root).arg(&package);
    run(build)?;
    std::fs::remove_dir_all(&root)?;
    Ok(Some(package))
}

/// Digests of what is shipped, as `sha256sum --check` reads them.
fn sums(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let mut text = String::new();
    for file in files {
        text += &format!("{} *{}\n", sha256(file)?, file.file_name().unwrap_or_default().to_string_lossy());
    }
    std::fs::write(folder.join("SHA256SUMS"), text)?;
    Ok(())
}
