//! Computes the recipe digest: SHA-256 over everything pinned in this binary that decides what a runtime looks like.

use std::{fs, io, path::Path};

use sha2::{Digest, Sha256};

#[path = "src/python/flags.rs"]
mod flags;
#[path = "src/python/pins.rs"]
mod pins;

/// Raise this when the recipe's own code changes what it produces; data, pins and flags are in the digest anyway.
const RECIPE_VERSION: &str = "1";

/// Every flag and list of `flags.rs`. One that is forgotten here is reported as dead code when this script is compiled.
const FLAGS: &[&[&str]] = &[
    &[RECIPE_VERSION, flags::BASE, flags::LINK, flags::REACTOR, flags::SOURCE_DATE_EPOCH, flags::CORE],
    &[flags::PROFILE_USE, flags::PROFILE_MAKE, flags::PROFILE_SKIPPED],
    flags::SYSMODULE,
    flags::MEMORY,
    flags::POSIXMODULE,
    flags::SIGNALMODULE,
    flags::UNICODEOBJECT,
    flags::BUILDINFO,
    flags::GETPATH,
    flags::GROUPS,
    flags::PYCONFIG_UNDEFINED,
    flags::CONFIG_BUILTIN,
    &[flags::ZLIB_FILES, flags::ZLIB_FLAGS, flags::BZIP2_FILES, flags::BZIP2_FLAGS],
    &[flags::XZ_FOLDERS, flags::XZ_INCLUDES, flags::XZ_FLAGS, flags::SQLITE_FLAGS],
    &[flags::LIBM_SKIPPED, flags::LIBM_FLAGS, flags::LIBM_FEATURES_H, flags::LIBM_ATOMIC_H],
    &[flags::REDIRECTED, flags::TZ_FILES, flags::TZ_FLAGS],
    flags::PATCH_PREFIXES,
    flags::LIB_SKIPPED_FOLDERS,
    flags::LIB_SKIPPED_FILES,
];

fn main() -> io::Result<()> {
    let folder = Path::new("python");
    println!("cargo::rerun-if-changed=python");
    println!("cargo::rerun-if-changed=src/python/flags.rs");
    println!("cargo::rerun-if-changed=src/python/pins.rs");

    let mut digest = Sha256::new();
    // Every part goes in with its length, so that no two different recipes read the same.
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    part(b"capibara python recipe");
    for pin in pins::ALL {
        part(pin.file.as_bytes());
        part(pin.sha256.as_bytes());
        part(format!("{:?} {:?} {:?}", pin.alias, pin.host, pin.origin).as_bytes());
    }
    for list in FLAGS {
        for value in *list {
            part(value.as_bytes());
        }
    }
    for value in flags::TZ_HEADERS.iter().flatten().chain(flags::SOURCE_EDITS.iter().flatten()) {
        part(value.as_bytes());
    }
    let mut files: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        println!("cargo::rerun-if-changed={}", file.path().display());
        part(file.file_name().as_encoded_bytes());
        part(&fs::read(file.path())?);
    }
    let hex = hex::encode(digest.finalize());
    println!("cargo::rustc-env=CAPIBARA_PYTHON_RECIPE={hex}");
    // Names of folders are put together at compile time: finding a runtime is on the way of every start.
    let name = format!("python-{}-{}", pins::PYTHON_VERSION, &hex[..16]);
    println!("cargo::rustc-env=CAPIBARA_PYTHON_NAME={name}");
    Ok(())
}
