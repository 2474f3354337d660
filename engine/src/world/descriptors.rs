//! Open descriptors: numbers a script holds for streams, files and directories.

use super::abi::{Errno, holds, rights};
use super::host::HostId;
use super::tree::{Listing, NodeId, ROOT};
use crate::stream::Stream;

/// The most descriptors any quota can allow: listings and look-ups stay small.
pub(crate) const MAX_DESCRIPTORS: u64 = 4096;

/// Descriptors every run starts with: the three streams and the root directory.
const INITIAL: u64 = 4;

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard input.
    Input,
    /// Standard output or error.
    Output(Stream),
    /// A file or directory of the tree.
    Node(NodeId),
    /// A file or directory of the host.
    Host(HostId),
}

/// One open descriptor.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub(crate) target: Target,
    /// What it may be used for.
    pub(crate) base: u64,
    /// What may be opened through it.
    pub(crate) inheriting: u64,
    pub(crate) flags: u16,
    /// Where the next read or write happens, in bytes from the start of the file.
    pub(crate) offset: u64,
    /// Whether the run started with it.
    pub(crate) preopen: bool,
    /// The names a directory had when its listing began, so that cookies stay good while it changes.
    pub(crate) listing: Option<Listing>,
}

impl Descriptor {
    pub(crate) fn new(target: Target, base: u64, inheriting: u64, flags: u16) -> Self {
        Self { target, base, inheriting, flags, offset: 0, preopen: false, listing: None }
    }

    /// # Errors
    /// [`Errno::Notcapable`] without the right.
    pub(crate) fn need(&self, right: u64) -> Result<(), Errno> {
        if holds(self.base, right) { Ok(()) } else { Err(Errno::Notcapable) }
    }
}

/// The table of descriptors.
#[derive(Clone, Debug)]
pub(crate) struct Descriptors {
    slots: Vec<Option<Descriptor>>,
    limit: usize,
    /// No number below this one is free.
    first_free: usize,
    /// Descriptors that are open, and most of them at one time.
    open: u64,
    peak: u64,
}

impl Descriptors {
    /// The three streams and the root directory. Numbers stay below `quota`.
    pub(crate) fn new(quota: u64) -> Self {
        let root = Descriptor {
            preopen: true,
            ..Descriptor::new(Target::Node(ROOT), rights::DIRECTORY, rights::DIRECTORY | rights::FILE, 0)
        };
        let slots = vec![
            Some(Descriptor::new(Target::Input, rights::INPUT, 0, 0)),
            Some(Descriptor::new(Target::Output(Stream::Stdout), rights::OUTPUT, 0, 0)),
            Some(Descriptor::new(Target::Output(Stream::Stderr), rights::OUTPUT, 0, 0)),
            Some(root),
        ];
        let limit = usize::try_from(quota.clamp(INITIAL, MAX_DESCRIPTORS)).unwrap_or(slots.len());
        Self { first_free: slots.len(), slots, limit, open: INITIAL, peak: INITIAL }
    }

    /// # Errors
    /// [`Errno::Badf`] for a number that is not open.
    pub(crate) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::Badf)?;
        self.slots.get(index).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    /// # Errors
    /// [`Errno::Badf`] for a number that is not open.
    pub(crate) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::Badf)?;
        self.slots.get_mut(index).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// # Errors
    /// [`Errno::Mfile`] when every number is taken.
    pub(crate) fn check_room(&mut self) -> Result<(), Errno> {
        while self.slots.get(self.first_free).is_some_and(Option::is_some) {
            self.first_free = self.first_free.saturating_add(1);
        }
        if self.first_free < self.limit { Ok(()) } else { Err(Errno::Mfile) }
    }

    /// Gives a descriptor the lowest free number.
    ///
    /// # Errors
    /// [`Errno::Mfile`] when every number is taken.
    pub(crate) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        self.check_room()?;
        let fd = u32::try_from(self.first_free).map_err(|_| Errno::Mfile)?;
        match self.slots.get_mut(self.first_free) {
            Some(slot) => *slot = Some(descriptor),
            None => self.slots.push(Some(descriptor)),
        }
        self.open = self.open.saturating_add(1);
        self.peak = self.peak.max(self.open);
        Ok(fd)
    }

    /// Most descriptors that were open at one time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// Takes a descriptor out of the table.
    ///
    /// # Errors
    /// [`Errno::Badf`] for a number that is not open.
    pub(crate) fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::Badf)?;
        let descriptor = self.slots.get_mut(index).and_then(Option::take).ok_or(Errno::Badf)?;
        self.first_free = self.first_free.min(index);
        self.open = self.open.saturating_sub(1);
        Ok(descriptor)
    }

    /// Gives `from` the number `to` and returns what had it.
    ///
    /// # Errors
    /// [`Errno::Badf`] unless both are open.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<Descriptor, Errno> {
        self.get(to)?;
        let moved = self.remove(from)?;
        Ok(std::mem::replace(self.get_mut(to)?, moved))
    }
}
