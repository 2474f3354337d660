//! Links the command statically, where glibc is there as archives: a third of what a small process takes to start would be
//! loading three libraries. It stays position-independent, so that the kernel puts it where nobody knows; a fixed address
//! would save another tenth.
//!
//! `-C target-feature=+crt-static` is how rustc does it, but that holds for every crate of a build, and procedural macros
//! cannot be so linked. So the libraries that rustc names are found as linker scripts, which name the archives instead.
//! It is for the command alone: tests and whatever embeds the engine link as usual.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// What rustc names, and what it stands for.
const LIBRARIES: [(&str, &[&str]); 3] = [
    ("libgcc_s.so", &["libgcc_eh.a", "libgcc.a", "libc.a"]),
    ("libm.so", &["libm.a"]),
    ("libc.so", &["libc.a", "libgcc_eh.a", "libgcc.a"]),
];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(linked_statically)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let native = env::var("HOST").is_ok_and(|host| is("TARGET", &host));
    if !native || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return Ok(());
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for (name, archives) in LIBRARIES {
        let Some(paths) = archives.iter().map(|archive| find(archive)).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        fs::write(folder.join(name), format!("GROUP ( {} )\n", paths.join(" ")))?;
    }
    for argument in ["-static-pie", "-Wl,-z,pack-relative-relocs", &format!("-L{}", folder.display())] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-cfg=linked_statically");
    Ok(())
}

/// Where the C compiler has that file.
fn find(archive: &str) -> Option<String> {
    let asked = Command::new("cc").arg(format!("-print-file-name={archive}")).output().ok()?;
    let path = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
    Path::new(&path).is_file().then_some(path)
}
