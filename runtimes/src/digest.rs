//! SHA-256 of files.

use std::{fs::File, io::Read, path::Path};

use sha2::{Digest, Sha256};

use crate::error::{IoContext, RuntimeError};

/// The digest of bytes in memory, as lower-case hex.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest and the size of a file.
pub(crate) fn of_file(path: &Path) -> Result<(String, u64), RuntimeError> {
    let mut file = File::open(path).context("open", path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer).context("read", path)?;
        if read == 0 {
            return Ok((hex::encode(digest.finalize()), size));
        }
        size += read as u64;
        digest.update(&buffer[..read]);
    }
}
