//! Takes the pack that lies beside this file, or an empty one.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=python.tar.xz");
    let to = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("python.tar.xz");
    match fs::copy("python.tar.xz", &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::write(to, []),
        copied => copied.map(drop),
    }
}
