//! Bodies of the fuzz targets (see `fuzz/README.md`): functions of any bytes that panic when something does not hold.
//!
//! They are compiled for tests, which run them on a fixed set of inputs, and with the feature `fuzzing`. Not an API.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Seek};
use std::path::Path;

use sha2::{Digest as _, Sha256};

#[cfg(feature = "fuzzing")]
pub use capibara_policies::fuzzing::{policy, scan};

#[cfg(test)]
#[path = "../../fuzz/inputs.rs"]
pub(crate) mod inputs;

pub use crate::audit::fuzzing::audit;
pub use crate::world::fuzzing::Guest;

use crate::{artifact, program, split};

/// Any World calls with any arguments and memory.
pub fn world(input: &[u8]) {
    crate::world::fuzzing::calls(input);
}

/// Folders of the host for [`world_host`].
pub struct Ground(crate::world::fuzzing::Ground);

impl Ground {
    /// Makes them in an empty folder.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(dir: &Path) -> io::Result<Self> {
        crate::world::fuzzing::Ground::new(dir).map(Self)
    }
}

/// Any World calls with folders of the host granted.
///
/// # Errors
/// When the folders cannot be made as they were.
pub fn world_host(ground: &Ground, input: &[u8]) -> io::Result<()> {
    crate::world::fuzzing::calls_on_host(&ground.0, input).map(drop)
}

/// Readers of what lies in the cache folder, and of programs; the first byte chooses. `dir` is a folder of this user
/// that nobody else can write to.
///
/// # Errors
/// When files cannot be written.
pub fn artifact(dir: &Path, input: &[u8]) -> io::Result<()> {
    let Some((choice, input)) = input.split_first() else { return Ok(()) };
    match choice {
        b'r' => record(dir, input)?,
        #[cfg(feature = "fuzzing")]
        b'm' => capibara_runtimes::fuzzing::manifest(dir, input)?,
        b's' => split_module(input),
        b'p' => read_program(input),
        other if other % 2 == 0 => record(dir, input)?,
        _ => read_program(input),
    }
    Ok(())
}

/// Opens a file whose record is a changed one, or is the input.
fn record(dir: &Path, input: &[u8]) -> io::Result<()> {
    let path = dir.join("code");
    let content = b"what was stored";
    let true_sha = artifact::store(&path, content)?;
    let record = artifact::record_path(&path);
    let mut text = fs::read(&record)?;
    match input {
        // So many bytes from there on become others.
        [0..64, start, count, replacement @ ..] => {
            let start = usize::from(*start) % text.len();
            let end = start.saturating_add(usize::from(*count)).min(text.len());
            text.splice(start..end, replacement.iter().copied());
            fs::write(&record, text)?;
        }
        _ => fs::write(&record, input)?,
    }
    let wrong = "00".repeat(32);
    let digest = |sha: &str| assert_eq!(sha, true_sha, "opened as something else");
    // A record that names the very file is believed; so the digest is only certain after a thorough look.
    if let Ok(opened) = artifact::open(&path, None, true) {
        digest(&opened.sha256);
    }
    let _ = artifact::open(&path, None, false);
    assert!(artifact::open(&path, Some(&wrong), false).is_err(), "opened against a wrong digest");
    match artifact::open(&path, Some(&true_sha), false) {
        Ok(opened) => {
            digest(&opened.sha256);
            let mut file = opened.into_file();
            file.rewind()?;
            assert_eq!(hex::encode(Sha256::digest(io::read_to_string(file)?)), true_sha);
        }
        Err(error) => panic!("{error}"),
    }
    Ok(())
}

/// Largest memory of a module to split here, in pages: its image may be that large.
const SPLIT_PAGES: u64 = 16;

fn split_module(input: &[u8]) {
    let large = wasmparser::Parser::new(0).parse_all(input).flatten().any(|payload| match payload {
        wasmparser::Payload::MemorySection(section) => {
            section.into_iter().flatten().any(|memory| memory.initial > SPLIT_PAGES)
        }
        _ => false,
    });
    if large {
        return;
    }
    let Ok(split) = split::split(input) else { return };
    assert!(split.image.len() as u64 <= split.memory_bytes);
    // Nothing is left to be split off.
    match split::split(&split.code) {
        Ok(again) => {
            assert!(again.code == split.code && again.memory_bytes == split.memory_bytes);
            assert!(again.image.iter().all(|byte| *byte == 0));
        }
        Err(error) => panic!("code that was split cannot be split: {error}"),
    }
}

fn read_program(input: &[u8]) {
    let Ok(read) = program::read(input) else { return };
    match program::read(&read.wasm) {
        Ok(again) => {
            assert!(matches!(again.wasm, Cow::Borrowed(_)) && again.memory_bytes == read.memory_bytes);
        }
        Err(error) => panic!("a program that was read cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::inputs::inputs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn any_records_and_modules_are_read_or_refused() {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        inputs("artifact", 1000, 400).for_each(|input| artifact(dir.path(), &input).unwrap());
    }
}
