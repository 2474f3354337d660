//! The library as `cargo add capibara` brings it: the crates are packaged into a registry folder, with the Python runtime in one of them, and
//! the program of the book is built from that folder with the network off and started where nothing else is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{cargo, dist, repository, run, without_our_package};

/// Those that are published, each after what it depends on.
const CRATES: [&str; 4] = ["capibara-policies", "capibara-runtimes", "capibara-runtime-python", "capibara"];
/// The most that a registry takes.
const LARGEST: u64 = 10 << 20;
/// The most that the first output may take.
const FIRST_OUTPUT: Duration = Duration::from_secs(30);

pub(crate) fn test() -> Result<()> {
    run(cargo(&["build", "--release", "--quiet", "--bin", "capibara"]))?;
    let folder = repository().join("target/crates");
    let _ = fs::remove_dir_all(folder.join("program"));
    let packages = package(&folder)?;
    let registry = registry(&folder, &packages)?;
    let program = program(&folder, &registry)?;
    start(&program, &folder)
}

/// The packaged crates.
fn package(folder: &Path) -> Result<Vec<PathBuf>> {
    let pack = dist::pack(&repository().join("target/release/capibara"))?;
    let place = repository().join("runtimes/packed-python/python.tar.xz");
    fs::copy(pack, &place)?;
    let mut package = cargo(&["package", "--quiet", "--allow-dirty", "--no-verify", "--target-dir"]);
    package.arg(folder);
    for name in CRATES {
        package.args(["--package", name]);
    }
    let packaged = run(package);
    fs::remove_file(place)?;
    packaged?;
    let version = env!("CARGO_PKG_VERSION");
    let files = CRATES.map(|name| folder.join("package").join(format!("{name}-{version}.crate")));
    for file in &files {
        let bytes = fs::metadata(file).with_context(|| format!("no {}", file.display()))?.len();
        println!("{}: {:.1} MiB", file.file_name().unwrap_or_default().display(), bytes as f64 / f64::from(1 << 20));
        if bytes > LARGEST {
            bail!("{} is too large for a registry", file.display());
        }
    }
    Ok(files.to_vec())
}

/// A folder that stands in the place of crates.io: our packages, and those they depend on.
fn registry(folder: &Path, packages: &[PathBuf]) -> Result<PathBuf> {
    let (registry, seed) = (folder.join("registry"), folder.join("seed"));
    let _ = fs::remove_dir_all(&registry);
    fs::create_dir_all(&registry)?;
    let mut patches = String::from("[patch.crates-io]\n");
    for (name, package) in CRATES.iter().zip(packages) {
        let mut unpack = Command::new("tar");
        unpack.arg("-xf").arg(package).arg("-C").arg(&registry);
        run(unpack)?;
        let unpacked = registry.join(package.file_stem().unwrap_or_default());
        patches += &format!("{name} = {{ path = {:?} }}\n", unpacked.display().to_string());
    }
    write_program(&seed, &patches)?;
    // The versions that are tested here.
    fs::copy(repository().join("Cargo.lock"), seed.join("Cargo.lock"))?;
    let others = folder.join("others");
    let _ = fs::remove_dir_all(&others);
    let mut vendor = cargo(&["vendor", "--quiet", "--offline", "--versioned-dirs", "--manifest-path"]);
    vendor.arg(seed.join("Cargo.toml")).arg(&others);
    run(vendor)?;
    for other in fs::read_dir(&others)?.flatten() {
        fs::rename(other.path(), registry.join(other.file_name()))?;
    }
    for package in packages {
        let unpacked = registry.join(package.file_stem().unwrap_or_default());
        let checksum = serde_json::json!({ "files": {}, "package": dist::sha256(package)? });
        fs::write(unpacked.join(".cargo-checksum.json"), checksum.to_string())?;
    }
    Ok(registry)
}

/// The ten lines of the book.
fn write_program(folder: &Path, more: &str) -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/start-embed.md"))?;
    let main = page.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next());
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/main.rs"), main.context("docs/start-embed.md has no program")?)?;
    // Compiled as here. A folder of packages is another source to cargo, so all of them are compiled once more.
    let workspace = fs::read_to_string(repository().join("Cargo.toml"))?;
    let profiles = workspace.find("[profile.release]").and_then(|at| workspace.get(at..)).unwrap_or_default();
    let manifest = format!(
        "[package]\nname = \"ten-lines\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\ncapibara = \"{}\"\n\n\
         [workspace]\n\n{profiles}\n{more}",
        env!("CARGO_PKG_VERSION"),
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    Ok(())
}

/// That program, built from the registry folder alone.
fn program(folder: &Path, registry: &Path) -> Result<PathBuf> {
    let program = folder.join("program");
    write_program(&program, "")?;
    fs::copy(repository().join("Cargo.lock"), program.join("Cargo.lock"))?;
    fs::create_dir_all(program.join(".cargo"))?;
    let source = format!(
        "[source.crates-io]\nreplace-with = \"folder\"\n\n[source.folder]\ndirectory = {:?}\n",
        registry.display().to_string()
    );
    fs::write(program.join(".cargo/config.toml"), source)?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(&program).args(["build", "--release", "--offline"]);
    // Not in the folder of all other builds: cargo would take what is there for outdated, and then what this build left there.
    let target = folder.join("target");
    build.env("CARGO_TARGET_DIR", &target);
    without_our_package(&mut build);
    run(build)?;
    let built = program.join("ten-lines");
    fs::copy(target.join("release/ten-lines"), &built)?;
    Ok(built)
}

/// Starts it with nothing but a folder for temporary files.
fn start(program: &Path, folder: &Path) -> Result<()> {
    let temporary = folder.join("temporary");
    let _ = fs::remove_dir_all(&temporary);
    fs::create_dir_all(&temporary)?;
    for start in ["first", "second"] {
        let began = Instant::now();
        let output = Command::new(program).env_clear().env("TMPDIR", &temporary).output()?;
        let took = began.elapsed();
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || !text.contains(": 45\n") {
            bail!("the {start} start ended with {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        println!("{start} start: {:.3} s", took.as_secs_f64());
        if took > FIRST_OUTPUT {
            bail!("the {start} start took too long");
        }
    }
    Ok(())
}
