//! Runtimes that come packed: in a file, in the program, or at the end of the program's file.
//!
//! ```text
//! program  pack  size of the pack (8 bytes, little-endian)  "capibara pack 1\n"
//! ```
//!
//! A pack in the program is as trusted as the program, so code that was compiled ahead is taken from it. From a file, it is taken only if
//! whoever imports it says so.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use capibara_runtimes::{
    Built, Language as Recipe, PackedCode, Phase, Progress, ProgressEvent, Runtime, RuntimeError, Unpacked,
};

use crate::artifact;
use crate::error::EngineError;

/// What stands at the end of a program that has a pack behind it.
const MARK: [u8; 16] = *b"capibara pack 1\n";

/// Names a pack to take a runtime from, where none is installed.
const PACK_VARIABLE: &str = "CAPIBARA_PACK";
/// What errors call the pack of this program.
const BUILT_IN: &str = "the runtime in this program";
/// Bytes behind a pack: its size and the mark.
const FOOT: usize = 24;

/// The size of the pack before this foot, if it is one.
fn pack_len(foot: &[u8; FOOT]) -> Option<u64> {
    let (size, mark) = foot.split_first_chunk()?;
    (*mark == MARK).then(|| u64::from_le_bytes(*size))
}

/// How many of these bytes are a program, and not a pack behind it.
#[must_use]
pub fn program_len(program: &[u8]) -> usize {
    let without = || {
        let (rest, foot) = program.split_last_chunk()?;
        rest.len().checked_sub(usize::try_from(pack_len(foot)?).ok()?)
    };
    without().unwrap_or(program.len())
}

/// A pack that is there.
#[derive(Debug)]
pub(crate) enum Pack {
    /// A file that the user named.
    File(PathBuf),
    /// Bytes in the program.
    BuiltIn(&'static [u8]),
    /// Behind the program: the file, where the pack begins, and its size.
    Behind { program: File, from: u64, bytes: u64 },
}

impl Pack {
    /// The pack for a language: the one that is named, by the configuration or the environment, or else that of this program.
    pub(crate) fn find(named: Option<&Path>, language: Recipe) -> Option<Self> {
        let variable = || std::env::var_os(PACK_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = named.map(Path::to_path_buf).or_else(variable) {
            return Some(Self::File(path));
        }
        match language {
            #[cfg(feature = "python")]
            Recipe::Python if !capibara_runtime_python::PACK.is_empty() => {
                Some(Self::BuiltIn(capibara_runtime_python::PACK))
            }
            _ => Self::behind_this_program().ok().flatten(),
        }
    }

    fn behind_this_program() -> io::Result<Option<Self>> {
        let mut program = File::open("/proc/self/exe")?;
        let end = program.seek(SeekFrom::End(0))?;
        let mut foot = [0; FOOT];
        let Some(foot_at) = end.checked_sub(FOOT as u64) else { return Ok(None) };
        program.seek(SeekFrom::Start(foot_at))?;
        program.read_exact(&mut foot)?;
        let behind = pack_len(&foot).and_then(|bytes| Some((foot_at.checked_sub(bytes)?, bytes)));
        Ok(behind.map(|(from, bytes)| Self::Behind { program, from, bytes }))
    }

    /// Whether its compiled code may be executed.
    fn trusted(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Reads all of it, and drops compiled code that must not be executed.
    pub(crate) fn unpack(self, progress: &dyn Progress) -> Result<Unpacked, EngineError> {
        let trusted = self.trusted();
        let mut unpacked = match self {
            Self::File(path) => {
                let file = File::open(&path).map_err(|source| RuntimeError::Io {
                    action: "open",
                    path: path.clone(),
                    source,
                })?;
                read(BufReader::new(file), &path, progress)?
            }
            Self::BuiltIn(bytes) => read(bytes, Path::new(BUILT_IN), progress)?,
            Self::Behind { mut program, from, bytes } => {
                program.seek(SeekFrom::Start(from)).map_err(EngineError::os("read this program's file"))?;
                read(BufReader::new(program.take(bytes)), Path::new(BUILT_IN), progress)?
            }
        };
        if !trusted {
            unpacked.compiled.clear();
        }
        Ok(unpacked)
    }
}

/// Reads a pack and compares it with its manifest. `origin` names it in errors.
pub(crate) fn read(pack: impl Read, origin: &Path, progress: &dyn Progress) -> Result<Unpacked, EngineError> {
    progress.event(ProgressEvent::Started { phase: Phase::Unpack, total: None });
    let unpacked = capibara_runtimes::unpack(pack, origin)?;
    progress.event(ProgressEvent::Finished { phase: Phase::Unpack });
    Ok(unpacked)
}

/// Appends a pack to a program, so that it finds it there.
///
/// # Errors
///
/// When `program` cannot be written.
pub fn append_pack(program: &mut impl Write, pack: &[u8]) -> io::Result<()> {
    program.write_all(pack)?;
    program.write_all(&(pack.len() as u64).to_le_bytes())?;
    program.write_all(&MARK)
}

/// Puts an unpacked runtime in its place, with the compiled code it brings, unless it is there.
pub(crate) fn install(
    unpacked: &Unpacked,
    folders: &capibara_runtimes::Folders,
    replace: bool,
    progress: &dyn Progress,
) -> Result<(Runtime, Built), EngineError> {
    let (runtime, built) = unpacked.install(folders, replace, progress)?;
    for PackedCode { file, bytes } in &unpacked.compiled {
        let path = runtime.compiled().join(file);
        if built == Built::New || !path.exists() {
            artifact::make_folder(&runtime.compiled()).map_err(EngineError::os("make the folder for compiled code"))?;
            artifact::store(&path, bytes).map_err(EngineError::os("write compiled code to the cache folder"))?;
        }
    }
    Ok((runtime, built))
}

/// Whether an error means that nothing can be written where runtimes are kept.
pub(crate) fn cannot_write(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Runtime(RuntimeError::NoCacheFolder | RuntimeError::Io { .. } | RuntimeError::DiskFull { .. })
            | EngineError::Os { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_behind_a_program_is_told_from_the_program() {
        let mut file = b"program".to_vec();
        assert_eq!(program_len(&file), 7);
        append_pack(&mut file, b"pack").unwrap();
        assert_eq!((file.len(), program_len(&file)), (7 + 4 + FOOT, 7));
        // Only as a whole, and only at the end.
        assert_eq!(program_len(&file[..file.len() - 1]), file.len() - 1);
        file.push(0);
        assert_eq!(program_len(&file), file.len());
        // A size that cannot be.
        let mut foot = u64::MAX.to_le_bytes().to_vec();
        foot.extend(MARK);
        assert_eq!(program_len(&foot), FOOT);
        assert_eq!(program_len(b""), 0);
    }
}
