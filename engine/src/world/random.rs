//! Randomness: a stream from a seed, or the operating system's.

use std::fs::File;
use std::io::Read;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use super::abi::Errno;

/// Most bytes one call of `random_get` fills. More is [`Errno::Inval`]; `getentropy` asks for 256 at most.
pub(crate) const MAX_RANDOM_BYTES: u32 = 1 << 20;

/// Bytes read from the operating system at once.
const SYSTEM_BUFFER_BYTES: usize = 4096;

/// Where a run's randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RandomConfig {
    /// A stream that depends on the seed only.
    Seeded(u128),
    /// The operating system.
    System,
}

/// A source of random bytes.
#[derive(Clone)]
pub(crate) enum Random {
    Seeded(Box<ChaCha20Rng>),
    System(SystemRandom),
}

impl Random {
    pub(crate) fn new(config: RandomConfig) -> Self {
        match config {
            RandomConfig::Seeded(seed) => {
                let mut hash = Sha256::new();
                // The prefix keeps this stream apart from whatever else may be derived from the same seed.
                hash.update(b"capibara seed");
                hash.update(seed.to_le_bytes());
                Self::Seeded(Box::new(ChaCha20Rng::from_seed(hash.finalize().into())))
            }
            RandomConfig::System => Self::System(SystemRandom::default()),
        }
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`Errno::Io`] when the operating system gives none.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Errno> {
        match self {
            Self::Seeded(rng) => {
                rng.fill_bytes(bytes);
                Ok(())
            }
            Self::System(system) => system.fill(bytes),
        }
    }
}

/// Bytes of `/dev/urandom`, opened when first needed.
#[derive(Default)]
pub(crate) struct SystemRandom {
    device: Option<File>,
    buffer: Vec<u8>,
}

impl Clone for SystemRandom {
    /// With nothing in it: no byte is given twice.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Errno> {
        if self.device.is_none() {
            self.device = Some(File::open("/dev/urandom").map_err(|_| Errno::Io)?);
        }
        let device = self.device.as_mut().ok_or(Errno::Io)?;
        if bytes.len() >= SYSTEM_BUFFER_BYTES {
            return device.read_exact(bytes).map_err(|_| Errno::Io);
        }
        if self.buffer.len() < bytes.len() {
            self.buffer.resize(SYSTEM_BUFFER_BYTES, 0);
            device.read_exact(&mut self.buffer).map_err(|_| {
                self.buffer.clear();
                Errno::Io
            })?;
        }
        // What is handed out leaves the buffer, so no byte is given twice.
        let rest = self.buffer.len().saturating_sub(bytes.len());
        let taken = self.buffer.get(rest..).ok_or(Errno::Io)?;
        bytes.copy_from_slice(taken);
        self.buffer.truncate(rest);
        Ok(())
    }
}
