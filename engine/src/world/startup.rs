//! Arguments and environment variables.

use std::collections::HashMap;

use super::abi::{self, Errno};
use super::{Fault, World};

/// Most bytes of arguments and variables together, their ends included.
const MAX_BYTES: usize = 1 << 20;
/// Most arguments and variables together.
const MAX_ENTRIES: usize = 4096;

/// Why a World could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WorldError {
    /// More bytes than a script can be given.
    #[error("arguments and environment take {bytes} bytes, more than {MAX_BYTES}")]
    TooManyBytes { bytes: usize },
    /// More entries than a script can be given.
    #[error("arguments and environment have {entries} entries, more than {MAX_ENTRIES}")]
    TooManyEntries { entries: usize },
    /// An argument cannot hold NUL.
    #[error("argument {index} holds a NUL character")]
    Argument { index: usize },
    /// A name is empty, or holds `=` or NUL, or its value holds NUL.
    #[error("environment variable `{name}` has a name or value that cannot be passed")]
    Variable { name: String },
    /// A grant cannot be where it should.
    #[error("nothing can be granted at `{path}`: {errno:?}")]
    Grant { path: String, errno: Errno },
    /// A file cannot be where it should.
    #[error("file `{path}` cannot be placed: {errno:?}")]
    File { path: String, errno: Errno },
}

/// Texts as the guest receives them: each ends with NUL, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    /// Where each text starts.
    starts: Vec<u32>,
}

impl Strings {
    fn push(&mut self, parts: &[&str]) {
        // The cap on all bytes, checked before, keeps starts far below what 32 bits hold.
        self.starts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        for part in parts {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.push(0);
    }

    fn sizes(&self, mem: &mut [u8], count: u32, bytes: u32) -> Result<(), Fault> {
        abi::writable(mem, bytes, 4)?;
        abi::write_u32(mem, count, u32::try_from(self.starts.len()).map_err(|_| Errno::Overflow)?)?;
        abi::write_u32(mem, bytes, u32::try_from(self.bytes.len()).map_err(|_| Errno::Overflow)?)?;
        Ok(())
    }

    fn get(&self, mem: &mut [u8], pointers: u32, buffer: u32) -> Result<(), Fault> {
        let len = u32::try_from(self.bytes.len()).map_err(|_| Errno::Overflow)?;
        let count = u32::try_from(self.starts.len()).map_err(|_| Errno::Overflow)?;
        abi::writable(mem, pointers, count.checked_mul(4).ok_or(Errno::Fault)?)?;
        abi::slice_mut(mem, buffer, len)?.copy_from_slice(&self.bytes);
        for (index, start) in (0..count).zip(&self.starts) {
            abi::write_u32(mem, abi::element(pointers, index, 4)?, abi::add(buffer, *start)?)?;
        }
        Ok(())
    }
}

/// Lays out arguments and variables; of variables with one name the last stays.
pub(super) fn strings(args: &[String], env: &[(String, String)]) -> Result<(Strings, Strings), WorldError> {
    let entries = args.len().saturating_add(env.len());
    if entries > MAX_ENTRIES {
        return Err(WorldError::TooManyEntries { entries });
    }
    let bytes = args
        .iter()
        .map(|arg| arg.len().saturating_add(1))
        .chain(env.iter().map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(2)))
        .fold(0, usize::saturating_add);
    if bytes > MAX_BYTES {
        return Err(WorldError::TooManyBytes { bytes });
    }
    let mut arguments = Strings::default();
    for (index, arg) in args.iter().enumerate() {
        if arg.contains('\0') {
            return Err(WorldError::Argument { index });
        }
        arguments.push(&[arg]);
    }
    let mut variables = Strings::default();
    let last: HashMap<&str, usize> = env.iter().enumerate().map(|(index, (name, _))| (name.as_str(), index)).collect();
    for (index, (name, value)) in env.iter().enumerate() {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(WorldError::Variable { name: name.clone() });
        }
        if last.get(name.as_str()) == Some(&index) {
            variables.push(&[name, "=", value]);
        }
    }
    Ok((arguments, variables))
}

impl World {
    pub(crate) fn args_get(&mut self, mem: &mut [u8], argv: u32, argv_buf: u32) -> Result<(), Fault> {
        self.args.get(mem, argv, argv_buf)
    }

    pub(crate) fn args_sizes_get(&mut self, mem: &mut [u8], argc: u32, argv_buf_size: u32) -> Result<(), Fault> {
        self.args.sizes(mem, argc, argv_buf_size)
    }

    pub(crate) fn environ_get(&mut self, mem: &mut [u8], environ: u32, environ_buf: u32) -> Result<(), Fault> {
        self.env.get(mem, environ, environ_buf)
    }

    pub(crate) fn environ_sizes_get(&mut self, mem: &mut [u8], count: u32, buf_size: u32) -> Result<(), Fault> {
        self.env.sizes(mem, count, buf_size)
    }
}
