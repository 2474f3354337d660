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
    /// Most names at one time.
    names_peak: u64,
    bytes_written: u64,
    files_written: u64,
    refused: Refused,
}

/// What the script asked for beyond a quota, as the sum it would have led to; 0 where it never did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) memory: u64,
    pub(crate) bytes_written: u64,
    pub(crate) files: u64,
    pub(crate) descriptors: u64,
}

impl Ledger {
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            linear: 0,
            held: 0,
            peak: 0,
            spent: 0,
            names: 0,
            names_peak: 0,
            bytes_written: 0,
            files_written: 0,
            refused: Refused::default(),
        }
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
            self.refuse_memory(bytes);
            return Err(Errno::Nospc);
        }
        self.held = self.held.saturating_add(bytes);
        self.peak = self.peak.max(self.linear.saturating_add(self.held));
        self.spend(price::HELD_BYTE.saturating_mul(bytes));
        Ok(())
    }

    /// Takes note that so many bytes more than are held were refused.
    pub(crate) fn refuse_memory(&mut self, bytes: u64) {
        let sum = self.linear.saturating_add(self.held).saturating_add(bytes);
        self.refused.memory = self.refused.memory.max(sum);
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
        let names = self.names.saturating_add(1);
        if names > self.quotas.files {
            self.refused.files = names;
            return Err(Errno::Nospc);
        }
        self.names = names;
        self.names_peak = self.names_peak.max(names);
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

    /// How many of `asked` bytes may still be written to files.
    pub(crate) fn writable_bytes(&mut self, asked: u64) -> u64 {
        let left = self.quotas.bytes_written.saturating_sub(self.bytes_written);
        if asked > left {
            let sum = self.bytes_written.saturating_add(asked);
            self.refused.bytes_written = self.refused.bytes_written.max(sum);
        }
        left.min(asked)
    }

    /// Whether a file may have this size.
    ///
    /// # Errors
    /// [`Errno::Fbig`].
    pub(crate) fn check_size(&mut self, size: u64) -> Result<(), Errno> {
        if size > self.largest_file() {
            self.refused.memory = self.refused.memory.max(size);
            return Err(Errno::Fbig);
        }
        Ok(())
    }

    /// Takes note that a descriptor was refused.
    pub(crate) fn refuse_descriptor(&mut self) {
        self.refused.descriptors = self.quotas.descriptors.saturating_add(1);
    }

    /// What was asked for beyond quotas.
    pub(crate) fn refused(&self) -> Refused {
        self.refused
    }

    /// Most names at one time that the script had made.
    pub(crate) fn names_peak(&self) -> u64 {
        self.names_peak
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
