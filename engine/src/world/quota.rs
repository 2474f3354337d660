//! What a script may use up, and how much of it is used.

use super::abi::Errno;
use super::price;

/// The bounds of one run that the World keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quotas {
    /// Bytes written to standard output and error together.
    pub(crate) output: u64,
    /// Bytes written to files in all, also those overwritten or removed since.
    pub(crate) bytes_written: u64,
    /// Names (files, directories, links) the script has made and not removed.
    pub(crate) files: u64,
    /// Descriptor numbers: all are below this, and below [`MAX_DESCRIPTORS`](super::descriptors::MAX_DESCRIPTORS).
    pub(crate) descriptors: u64,
    /// Bytes of linear memory and of all that the file tree holds, together.
    pub(crate) memory: u64,
}

/// The account of what the file tree holds.
///
/// It counts what the host really keeps: chunks of files, names, nodes, link targets and listings, so that no
/// sequence of calls makes the host keep much more than `memory`.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    quotas: Quotas,
    linear: u64,
    held: u64,
    /// Largest sum of both so far.
    peak: u64,
    /// Fuel that host calls cost so far.
    spent: u64,
    names: u64,
    bytes_written: u64,
    files_written: u64,
}

impl Ledger {
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self { quotas, linear: 0, held: 0, peak: 0, spent: 0, names: 0, bytes_written: 0, files_written: 0 }
    }

    pub(crate) fn set_linear(&mut self, bytes: u64) {
        self.linear = bytes;
    }

    /// Most bytes of linear memory and of the file tree at one time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// Counts fuel that a host call costs: see [`price`].
    pub(crate) fn spend(&mut self, fuel: u64) {
        self.spent = self.spent.saturating_add(fuel);
    }

    /// Fuel that host calls cost so far.
    pub(crate) fn spent(&self) -> u64 {
        self.spent
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Bytes that can be held on top of those held now.
    pub(crate) fn room(&self) -> u64 {
        self.quotas.memory.saturating_sub(self.linear).saturating_sub(self.held)
    }

    /// The largest size of one file, in bytes: holes take no memory, but a size that could never be filled is of no use.
    pub(crate) fn largest_file(&self) -> u64 {
        self.quotas.memory
    }

    /// Takes memory.
    ///
    /// # Errors
    /// [`Errno::Nospc`] when the quota would be passed; nothing is taken then.
    pub(crate) fn hold(&mut self, bytes: u64) -> Result<(), Errno> {
        if bytes > self.room() {
            return Err(Errno::Nospc);
        }
        self.held = self.held.saturating_add(bytes);
        self.peak = self.peak.max(self.linear.saturating_add(self.held));
        self.spend(price::HELD_BYTE.saturating_mul(bytes));
        Ok(())
    }

    /// Gives memory back.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// Takes one name.
    ///
    /// # Errors
    /// [`Errno::Nospc`] when the script has as many as it may.
    pub(crate) fn take_name(&mut self) -> Result<(), Errno> {
        if self.names >= self.quotas.files {
            return Err(Errno::Nospc);
        }
        self.names = self.names.saturating_add(1);
        Ok(())
    }

    pub(crate) fn give_name(&mut self) {
        self.names = self.names.saturating_sub(1);
    }

    /// Names the script has made and not removed.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn names(&self) -> u64 {
        self.names
    }

    /// Bytes that may still be written to files.
    pub(crate) fn writable_bytes(&self) -> u64 {
        self.quotas.bytes_written.saturating_sub(self.bytes_written)
    }

    pub(crate) fn count_written(&mut self, bytes: u64) {
        self.bytes_written = self.bytes_written.saturating_add(bytes);
    }

    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Counts a file the first time the script writes it.
    pub(crate) fn count_file(&mut self) {
        self.files_written = self.files_written.saturating_add(1);
    }

    pub(crate) fn files_written(&self) -> u64 {
        self.files_written
    }
}
