//! The functions on open descriptors.

use super::abi::{self, DIRENT_BYTES, Errno, Fdstat, Filestat, Filetype, Iovecs, fdflags, fstflags, rights};
use super::descriptors::{Descriptor, Target};
use super::host::HostId;
use super::tree::{Device, Kind, NodeId, Spot};
use super::{Fault, Progress, Wait, World, price};
use crate::stream::Stream;

/// The name of the one directory a run starts with.
const ROOT_NAME: &[u8] = b"/";

/// Where the contents of an open file are.
#[derive(Clone, Copy)]
pub(super) enum Contents {
    Node(NodeId),
    Host(HostId),
}

/// What a call on file contents needs a descriptor to be.
#[derive(Clone, Copy)]
struct OpenFile {
    what: Contents,
    offset: u64,
    flags: u16,
}

impl World {
    /// The file behind a descriptor that has a right.
    ///
    /// # Errors
    /// [`Errno::Spipe`] for a stream, [`Errno::Badf`] for a directory, `missing` without the right.
    fn file(&self, fd: u32, right: u64, missing: Errno) -> Result<OpenFile, Errno> {
        let descriptor = self.descriptors.get(fd)?;
        let what = match descriptor.target {
            Target::Input | Target::Output(_) => return Err(Errno::Spipe),
            Target::Node(node) => Contents::Node(node),
            Target::Host(id) => Contents::Host(id),
        };
        if self.is_directory(descriptor.target)? {
            return Err(Errno::Badf);
        }
        descriptor.need(right).map_err(|_| missing)?;
        Ok(OpenFile { what, offset: descriptor.offset, flags: descriptor.flags })
    }

    /// The directory behind a descriptor.
    ///
    /// # Errors
    /// [`Errno::Notdir`].
    pub(super) fn directory(&self, fd: u32) -> Result<Spot, Errno> {
        match self.descriptors.get(fd)?.target {
            Target::Input | Target::Output(_) => Err(Errno::Notdir),
            Target::Node(node) if self.tree.node(node)?.is_directory() => Ok(Spot::Node(node)),
            Target::Node(_) => Err(Errno::Notdir),
            Target::Host(id) => self.tree.hosts.directory(id).cloned().map(Spot::Host).ok_or(Errno::Notdir),
        }
    }

    pub(super) fn is_directory(&self, target: Target) -> Result<bool, Errno> {
        Ok(match target {
            Target::Input | Target::Output(_) => false,
            Target::Node(node) => self.tree.node(node)?.is_directory(),
            Target::Host(id) => self.tree.hosts.directory(id).is_some(),
        })
    }

    pub(super) fn size(&mut self, what: Contents) -> Result<u64, Errno> {
        match what {
            Contents::Node(node) => Ok(self.tree.node(node)?.size()),
            Contents::Host(id) => self.tree.hosts.size(id),
        }
    }

    /// Copies file contents into the guest and says how many bytes there were.
    fn copy_out(&mut self, mem: &mut [u8], what: Contents, offset: u64, ranges: &Iovecs) -> Result<u64, Errno> {
        let node = match what {
            Contents::Node(node) => node,
            Contents::Host(id) => return self.tree.hosts.read(id, offset, mem, ranges, &mut self.tree.ledger),
        };
        if let Some(count) = self.tree.read_lower(node, offset, mem, ranges)? {
            self.spend_bytes(count);
            return Ok(count);
        }
        let mut copied = 0_u64;
        let content = match &self.tree.node(node)?.kind {
            Kind::File(content) => content,
            Kind::Device(Device::Null) => return Ok(0),
            Kind::Device(Device::Output(_)) | Kind::Directory(_) | Kind::Granted(_) | Kind::Link(_) | Kind::Foreign => {
                return Err(Errno::Badf);
            }
        };
        for (pointer, len) in ranges.iter() {
            let place = abi::slice_mut(mem, pointer, len)?;
            let count = content.read(offset.saturating_add(copied), place);
            copied = copied.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            if count < place.len() {
                break;
            }
        }
        self.spend_bytes(copied);
        Ok(copied)
    }

    /// Reads from where a descriptor stands.
    fn read_on(&mut self, mem: &mut [u8], fd: u32, what: Contents, ranges: &Iovecs) -> Result<u64, Errno> {
        let offset = self.descriptors.get(fd)?.offset;
        let count = self.copy_out(mem, what, offset, ranges)?;
        if self.has_places(what)? {
            self.descriptors.get_mut(fd)?.offset = offset.saturating_add(count);
        }
        Ok(count)
    }

    /// Writes where a descriptor stands, or at the end if it appends.
    fn write_on(&mut self, mem: &[u8], fd: u32, what: Contents, ranges: &Iovecs) -> Result<u64, Fault> {
        let descriptor = self.descriptors.get(fd)?;
        let offset = (descriptor.flags & fdflags::APPEND == 0).then_some(descriptor.offset);
        let (count, offset) = self.copy_in(mem, what, offset, ranges)?;
        if self.has_places(what)? {
            self.descriptors.get_mut(fd)?.offset = offset.saturating_add(count);
        }
        Ok(count)
    }

    /// Counts bytes that were moved.
    fn spend_bytes(&mut self, count: u64) {
        self.tree.ledger.spend(price::BYTE.saturating_mul(count));
    }

    /// Writes ranges of guest memory into a file, at `offset` or at the end; says how many bytes fitted and where that
    /// was.
    fn copy_in(
        &mut self,
        mem: &[u8],
        what: Contents,
        offset: Option<u64>,
        ranges: &Iovecs,
    ) -> Result<(u64, u64), Fault> {
        let (count, offset) = match what {
            Contents::Node(node) => {
                let offset = offset.map_or_else(|| self.size(what), Ok)?;
                (self.tree.write(node, offset, mem, ranges, self.clock.file_time())?, offset)
            }
            Contents::Host(id) => self.tree.hosts.write(id, offset, mem, ranges, &mut self.tree.ledger)?,
        };
        self.spend_bytes(count);
        Ok((count, offset))
    }

    fn resize(&mut self, what: Contents, size: u64) -> Result<(), Errno> {
        match what {
            Contents::Node(node) => self.tree.resize(node, size, self.clock.file_time()),
            Contents::Host(id) => self.tree.hosts.resize(id, size, &mut self.tree.ledger),
        }
    }

    /// Whether reads and writes of a file have a place in it.
    pub(super) fn has_places(&self, what: Contents) -> Result<bool, Errno> {
        Ok(match what {
            Contents::Node(node) => !matches!(self.tree.node(node)?.kind, Kind::Device(_)),
            Contents::Host(_) => true,
        })
    }

    /// Advice changes nothing.
    pub(crate) fn fd_advise(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        _offset: u64,
        _len: u64,
        advice: u32,
    ) -> Result<(), Fault> {
        if advice > 5 {
            return Err(Errno::Inval.into());
        }
        self.file(fd, rights::FD_ADVISE, Errno::Notcapable)?;
        Ok(())
    }

    /// Makes a file as long as `offset + len` at least, if the memory quota has room for what is added now.
    pub(crate) fn fd_allocate(&mut self, _mem: &mut [u8], fd: u32, offset: u64, len: u64) -> Result<(), Fault> {
        let file = self.file(fd, rights::FD_ALLOCATE, Errno::Badf)?;
        if len == 0 {
            return Err(Errno::Inval.into());
        }
        let end = offset.checked_add(len).ok_or(Errno::Fbig)?;
        let size = self.size(file.what)?;
        if end > size {
            // Memory is not set aside, but space that is not there now is not promised.
            let (room, largest) = (self.tree.ledger.room(), self.tree.ledger.largest_file());
            if matches!(file.what, Contents::Node(_)) && end.saturating_sub(size) > room && end <= largest {
                return Err(Errno::Nospc.into());
            }
            self.resize(file.what, end)?;
        }
        Ok(())
    }

    pub(crate) fn fd_close(&mut self, mem: &mut [u8], fd: u32) -> Result<(), Fault> {
        let descriptor = self.descriptors.remove(fd)?;
        self.tell_stream(mem, fd);
        self.dispose(descriptor);
        Ok(())
    }

    /// Memory needs no flushing, and when the host flushes its files is its own affair.
    pub(crate) fn fd_datasync(&mut self, _mem: &mut [u8], fd: u32) -> Result<(), Fault> {
        Ok(self.descriptors.get(fd)?.need(rights::FD_DATASYNC)?)
    }

    /// Memory needs no flushing, and when the host flushes its files is its own affair.
    pub(crate) fn fd_sync(&mut self, _mem: &mut [u8], fd: u32) -> Result<(), Fault> {
        Ok(self.descriptors.get(fd)?.need(rights::FD_SYNC)?)
    }

    /// Streams have no type, so that no script takes them for a terminal and waits for a user.
    pub(crate) fn fd_fdstat_get(&mut self, mem: &mut [u8], fd: u32, stat: u32) -> Result<(), Fault> {
        let descriptor = self.descriptors.get(fd)?;
        let filetype = match descriptor.target {
            Target::Input | Target::Output(_) => Filetype::Unknown,
            Target::Node(node) => self.tree.node(node)?.filetype(),
            Target::Host(id) if self.tree.hosts.directory(id).is_some() => Filetype::Directory,
            Target::Host(_) => Filetype::RegularFile,
        };
        let (flags, base, inheriting) = (descriptor.flags, descriptor.base, descriptor.inheriting);
        Ok(Fdstat { filetype, flags, base, inheriting }.write(mem, stat)?)
    }

    /// Sets whether writes append; `NONBLOCK` is kept and means nothing.
    pub(crate) fn fd_fdstat_set_flags(&mut self, _mem: &mut [u8], fd: u32, flags: u32) -> Result<(), Fault> {
        let flags = abi::flags(flags, fdflags::ALL & !fdflags::SYNCHRONOUS)?;
        let descriptor = self.descriptors.get_mut(fd)?;
        descriptor.need(rights::FD_FDSTAT_SET_FLAGS)?;
        descriptor.flags = flags;
        Ok(())
    }

    /// Rights can only be given up.
    pub(crate) fn fd_fdstat_set_rights(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        base: u64,
        inheriting: u64,
    ) -> Result<(), Fault> {
        let descriptor = self.descriptors.get_mut(fd)?;
        if !abi::holds(descriptor.base, base) || !abi::holds(descriptor.inheriting, inheriting) {
            return Err(Errno::Notcapable.into());
        }
        descriptor.base = base;
        descriptor.inheriting = inheriting;
        Ok(())
    }

    pub(crate) fn fd_filestat_get(&mut self, mem: &mut [u8], fd: u32, stat: u32) -> Result<(), Fault> {
        let descriptor = self.descriptors.get(fd)?;
        descriptor.need(rights::FD_FILESTAT_GET)?;
        let filestat = match descriptor.target {
            Target::Node(node) => self.tree.node(node)?.filestat(),
            Target::Host(id) => self.tree.hosts.open_filestat(id, &mut self.tree.ledger)?,
            Target::Input | Target::Output(_) => Filestat {
                inode: 0,
                filetype: Filetype::Unknown,
                links: 1,
                size: 0,
                accessed: 0,
                modified: 0,
                changed: 0,
            },
        };
        Ok(filestat.write(mem, stat)?)
    }

    pub(crate) fn fd_filestat_set_size(&mut self, _mem: &mut [u8], fd: u32, size: u64) -> Result<(), Fault> {
        // As ftruncate(2), on a descriptor that cannot write.
        let file = self.file(fd, rights::FD_FILESTAT_SET_SIZE, Errno::Inval)?;
        Ok(self.resize(file.what, size)?)
    }

    pub(crate) fn fd_filestat_set_times(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<(), Fault> {
        let descriptor = self.descriptors.get(fd)?;
        descriptor.need(rights::FD_FILESTAT_SET_TIMES)?;
        let target = descriptor.target;
        let times = self.chosen_times(accessed, modified, flags)?;
        match target {
            Target::Input | Target::Output(_) => Err(Errno::Spipe.into()),
            Target::Node(node) => Ok(self.tree.set_times(node, times.0, times.1, self.clock.file_time())?),
            Target::Host(id) => Ok(self.tree.hosts.set_open_times(id, times, &mut self.tree.ledger)?),
        }
    }

    /// The times that `flags` say are to be set: when last accessed, when last modified.
    pub(super) fn chosen_times(
        &self,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<(Option<u64>, Option<u64>), Errno> {
        let flags = abi::flags(flags, fstflags::ALL)?;
        let now = self.clock.file_time();
        let choose = |given: u16, at_now: u16, time: u64| match (flags & given != 0, flags & at_now != 0) {
            (true, true) => Err(Errno::Inval),
            (true, false) => Ok(Some(time)),
            (false, true) => Ok(Some(now)),
            (false, false) => Ok(None),
        };
        let accessed = choose(fstflags::ACCESSED, fstflags::ACCESSED_NOW, accessed)?;
        let modified = choose(fstflags::MODIFIED, fstflags::MODIFIED_NOW, modified)?;
        Ok((accessed, modified))
    }

    pub(crate) fn fd_pread(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        offset: u64,
        nread: u32,
    ) -> Result<(), Fault> {
        let file = self.file(fd, rights::FD_READ, Errno::Badf)?;
        let ranges = Iovecs::read(mem, iovs, iovs_len)?;
        abi::writable(mem, nread, 4)?;
        let count = self.copy_out(mem, file.what, offset, &ranges)?;
        write_count(mem, nread, count)
    }

    pub(crate) fn fd_prestat_get(&mut self, mem: &mut [u8], fd: u32, prestat: u32) -> Result<(), Fault> {
        if !self.descriptors.get(fd)?.preopen {
            return Err(Errno::Badf.into());
        }
        // The tag of a directory is 0; its name's length follows at offset 4.
        abi::writable(mem, prestat, 8)?;
        abi::write_u32(mem, prestat, 0)?;
        abi::write_u32(mem, abi::add(prestat, 4)?, u32::try_from(ROOT_NAME.len()).map_err(|_| Errno::Overflow)?)?;
        Ok(())
    }

    pub(crate) fn fd_prestat_dir_name(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<(), Fault> {
        if !self.descriptors.get(fd)?.preopen {
            return Err(Errno::Badf.into());
        }
        let place = abi::slice_mut(mem, path, path_len)?;
        place.get_mut(..ROOT_NAME.len()).ok_or(Errno::Nametoolong)?.copy_from_slice(ROOT_NAME);
        Ok(())
    }

    pub(crate) fn fd_pwrite(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        offset: u64,
        nwritten: u32,
    ) -> Result<(), Fault> {
        let file = self.file(fd, rights::FD_WRITE, Errno::Badf)?;
        let ranges = Iovecs::read(mem, iovs, iovs_len)?;
        abi::writable(mem, nwritten, 4)?;
        // As on Linux, a descriptor that appends does so here too.
        let offset = (file.flags & fdflags::APPEND == 0).then_some(offset);
        let (count, _) = self.copy_in(mem, file.what, offset, &ranges)?;
        write_count(mem, nwritten, count)
    }

    pub(crate) fn fd_read(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        nread: u32,
    ) -> Result<Progress, Fault> {
        let descriptor = self.descriptors.get(fd)?;
        let target = descriptor.target;
        if self.is_directory(target)? {
            return Err(Errno::Isdir.into());
        }
        descriptor.need(rights::FD_READ).map_err(|_| Errno::Badf)?;
        let ranges = Iovecs::read(mem, iovs, iovs_len)?;
        abi::writable(mem, nread, 4)?;
        let count = match target {
            Target::Output(_) => return Err(Errno::Badf.into()),
            Target::Input => match self.input.read(mem, &ranges, self.input_is_loose())? {
                Some(count) => {
                    self.tree.ledger.spend(price::DIGESTED_BYTE.saturating_mul(count));
                    count
                }
                None => return Ok(Progress::Wait(Wait::Stdin)),
            },
            Target::Node(node) => self.read_on(mem, fd, Contents::Node(node), &ranges)?,
            Target::Host(id) => self.read_on(mem, fd, Contents::Host(id), &ranges)?,
        };
        write_count(mem, nread, count)?;
        Ok(Progress::Done)
    }

    /// Fills the buffer with entries, the last one cut if it does not fit. A cookie is the number of entries before;
    /// 0 takes a new look at the directory, any other continues the look taken then.
    pub(crate) fn fd_readdir(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        buf: u32,
        buf_len: u32,
        cookie: u64,
        bufused: u32,
    ) -> Result<(), Fault> {
        let spot = self.directory(fd)?;
        let descriptor = self.descriptors.get_mut(fd)?;
        descriptor.need(rights::FD_READDIR)?;
        abi::writable(mem, bufused, 4)?;
        let buffer = abi::slice_mut(mem, buf, buf_len)?;
        if cookie == 0
            && let Some(old) = descriptor.listing.take()
        {
            self.tree.drop_listing(old);
        }
        let listing = match &mut descriptor.listing {
            Some(listing) => listing,
            none => none.insert(self.tree.list(&spot)?),
        };
        let start = usize::try_from(cookie).unwrap_or(usize::MAX);
        let mut rest = buffer;
        let mut next = cookie;
        for entry in listing.entries.get(start..).unwrap_or_default() {
            if rest.is_empty() {
                break;
            }
            next = next.saturating_add(1);
            let name_len = u32::try_from(entry.name.len()).map_err(|_| Errno::Overflow)?;
            let head: [u8; DIRENT_BYTES] = abi::dirent(next, entry.inode, name_len, entry.filetype);
            rest = put_what_fits(rest, &head);
            rest = put_what_fits(rest, entry.name.as_bytes());
        }
        let left = u32::try_from(rest.len()).map_err(|_| Errno::Overflow)?;
        let used = buf_len.saturating_sub(left);
        self.tree.ledger.spend(price::BYTE.saturating_mul(u64::from(used)));
        Ok(abi::write_u32(mem, bufused, used)?)
    }

    pub(crate) fn fd_renumber(&mut self, mem: &mut [u8], from: u32, to: u32) -> Result<(), Fault> {
        self.descriptors.get(from)?;
        if from != to {
            let replaced = self.descriptors.renumber(from, to)?;
            self.tell_stream(mem, from);
            self.tell_stream(mem, to);
            self.dispose(replaced);
        }
        Ok(())
    }

    pub(crate) fn fd_seek(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        offset: i64,
        whence: u32,
        newoffset: u32,
    ) -> Result<(), Fault> {
        let file = self.file(fd, rights::FD_SEEK, Errno::Notcapable)?;
        abi::writable(mem, newoffset, 8)?;
        let from = match whence {
            0 => 0,
            1 => file.offset,
            2 => self.size(file.what)?,
            _ => return Err(Errno::Inval.into()),
        };
        let position = from.checked_add_signed(offset).filter(|position| i64::try_from(*position).is_ok());
        let position = position.ok_or(Errno::Inval)?;
        // On a device every place is the first, as on Linux.
        let position = if self.has_places(file.what)? { position } else { 0 };
        self.descriptors.get_mut(fd)?.offset = position;
        Ok(abi::write_u64(mem, newoffset, position)?)
    }

    pub(crate) fn fd_tell(&mut self, mem: &mut [u8], fd: u32, offset: u32) -> Result<(), Fault> {
        let file = self.file(fd, rights::FD_TELL, Errno::Notcapable)?;
        Ok(abi::write_u64(mem, offset, file.offset)?)
    }

    pub(crate) fn fd_write(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        iovs: u32,
        iovs_len: u32,
        nwritten: u32,
    ) -> Result<(), Fault> {
        // Nothing is written before it is known that the count can be told.
        self.writable(fd)?;
        let ranges = Iovecs::read(mem, iovs, iovs_len)?;
        abi::writable(mem, nwritten, 4)?;
        let count = self.write_ranges(mem, fd, &ranges)?;
        write_count(mem, nwritten, count)
    }

    /// Writes ranges of guest memory to a stream: all of them.
    pub(super) fn write_stream(&mut self, mem: &[u8], stream: Stream, ranges: &Iovecs) -> Result<u64, Fault> {
        self.tree.ledger.spend(price::BYTE.saturating_mul(ranges.total()));
        self.output.write(stream, mem, ranges, self.clock.slept())
    }

    /// The descriptor, if it can be written to.
    fn writable(&self, fd: u32) -> Result<&Descriptor, Errno> {
        let descriptor = self.descriptors.get(fd)?;
        descriptor.need(rights::FD_WRITE).map_err(|_| Errno::Badf)?;
        Ok(descriptor)
    }

    /// Writes ranges of guest memory where a descriptor stands, and tells how much of them.
    fn write_ranges(&mut self, mem: &[u8], fd: u32, ranges: &Iovecs) -> Result<u64, Fault> {
        match self.writable(fd)?.target {
            Target::Input => Err(Errno::Badf.into()),
            Target::Output(stream) => self.write_stream(mem, stream, ranges),
            Target::Node(node) => self.write_on(mem, fd, Contents::Node(node), ranges),
            Target::Host(id) => self.write_on(mem, fd, Contents::Host(id), ranges),
        }
    }
}

/// Tells the guest how many bytes were moved; [`abi::MAX_TRANSFER`] keeps the number small.
fn write_count(mem: &mut [u8], pointer: u32, count: u64) -> Result<(), Fault> {
    Ok(abi::write_u32(mem, pointer, u32::try_from(count).map_err(|_| Errno::Overflow)?)?)
}

/// Copies as much as fits and returns the room after it.
fn put_what_fits<'a>(buffer: &'a mut [u8], bytes: &[u8]) -> &'a mut [u8] {
    let len = bytes.len().min(buffer.len());
    let (place, rest) = buffer.split_at_mut(len);
    place.copy_from_slice(bytes.split_at(len).0);
    rest
}
