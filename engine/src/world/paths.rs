//! The functions on paths.

use super::abi::{self, Errno, LOOKUP_FOLLOW, fdflags, holds, oflags, rights};
use super::descriptors::{Descriptor, Target};
use super::host::{HostId, HostKind, HostPlace};
use super::tree::{Device, Kind, MAX_PATH_BYTES, MAX_TARGET_BYTES, NodeId, Place, ROOT, Spot, Tree, Where};
use super::{Fault, World};

/// Reads a path.
///
/// # Errors
/// [`Errno::Nametoolong`], [`Errno::Fault`], [`Errno::Ilseq`] if it is not UTF-8, [`Errno::Inval`] if it holds NUL.
fn path(mem: &[u8], pointer: u32, len: u32, most: u32) -> Result<&str, Errno> {
    if len > most {
        return Err(Errno::Nametoolong);
    }
    let path = std::str::from_utf8(abi::slice(mem, pointer, len)?).map_err(|_| Errno::Ilseq)?;
    if path.contains('\0') { Err(Errno::Inval) } else { Ok(path) }
}

/// Whether a symbolic link in the last place is followed.
fn follows(flags: u32) -> Result<bool, Errno> {
    if flags & !LOOKUP_FOLLOW != 0 {
        return Err(Errno::Inval);
    }
    Ok(flags & LOOKUP_FOLLOW != 0)
}

/// What a path is opened for.
#[derive(Clone, Copy)]
struct Access {
    read: bool,
    write: bool,
    create: bool,
    exclusive: bool,
    directory: bool,
    truncate: bool,
}

impl World {
    /// The directory a path starts from.
    ///
    /// # Errors
    /// [`Errno::Notdir`], [`Errno::Notcapable`] without the right.
    fn base(&self, fd: u32, right: u64) -> Result<Spot, Errno> {
        let spot = self.directory(fd)?;
        self.descriptors.get(fd)?.need(right)?;
        Ok(spot)
    }

    /// Where a path in guest memory leads.
    fn place(&mut self, mem: &[u8], fd: u32, right: u64, at: (u32, u32), follow: bool) -> Result<Where, Errno> {
        let base = self.base(fd, right)?;
        let path = path(mem, at.0, at.1, MAX_PATH_BYTES)?;
        // Looking at what is there is not remembered; opening is, by what it is opened for.
        let only_looks = matches!(right, rights::PATH_OPEN | rights::PATH_FILESTAT_GET | rights::PATH_READLINK);
        if !only_looks && base == Spot::Node(ROOT) {
            self.touched.note(path, true);
        }
        self.tree.resolve(&base, path, follow)
    }

    pub(crate) fn path_create_directory(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_CREATE_DIRECTORY, (path, path_len), false)?;
        let now = self.clock.file_time();
        match &place {
            Where::Memory(place) => drop(self.tree.create_directory(place, now)?),
            Where::Host(place) => self.tree.hosts.create_directory(place, &mut self.tree.ledger)?,
        }
        Ok(())
    }

    pub(crate) fn path_filestat_get(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        flags: u32,
        path: u32,
        path_len: u32,
        stat: u32,
    ) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_FILESTAT_GET, (path, path_len), follows(flags)?)?;
        let filestat = match &place {
            Where::Memory(place) => self.tree.node(place.existing()?)?.filestat(),
            Where::Host(place) => self.tree.hosts.filestat(&place.existing()?, &mut self.tree.ledger)?,
        };
        Ok(filestat.write(mem, stat)?)
    }

    #[expect(clippy::too_many_arguments, reason = "they are those of the specification")]
    pub(crate) fn path_filestat_set_times(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        flags: u32,
        path: u32,
        path_len: u32,
        accessed: u64,
        modified: u64,
        fst_flags: u32,
    ) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_FILESTAT_SET_TIMES, (path, path_len), follows(flags)?)?;
        let (accessed, modified) = self.chosen_times(accessed, modified, fst_flags)?;
        match &place {
            Where::Memory(place) => {
                self.tree.set_times(place.existing()?, accessed, modified, self.clock.file_time())?;
            }
            Where::Host(place) => {
                let times = (accessed, modified);
                self.tree.hosts.set_times(&place.at, place.existing()?, times, &mut self.tree.ledger)?;
            }
        }
        Ok(())
    }

    /// A symbolic link is never followed in the last place, as in `wasmtime-wasi`.
    #[expect(clippy::too_many_arguments, reason = "they are those of the specification")]
    pub(crate) fn path_link(
        &mut self,
        mem: &mut [u8],
        old_fd: u32,
        old_flags: u32,
        old_path: u32,
        old_path_len: u32,
        new_fd: u32,
        new_path: u32,
        new_path_len: u32,
    ) -> Result<(), Fault> {
        if follows(old_flags)? {
            return Err(Errno::Inval.into());
        }
        let old = self.place(mem, old_fd, rights::PATH_LINK_SOURCE, (old_path, old_path_len), false)?;
        match &old {
            Where::Memory(old) => _ = old.existing()?,
            Where::Host(old) => _ = old.existing()?,
        }
        let new = self.place(mem, new_fd, rights::PATH_LINK_TARGET, (new_path, new_path_len), false)?;
        match (&old, &new) {
            (Where::Memory(old), Where::Memory(new)) => {
                self.tree.link(old, new, self.clock.file_time())?;
            }
            (Where::Host(old), Where::Host(new)) => self.tree.hosts.link(old, new, &mut self.tree.ledger)?,
            (Where::Memory(_), Where::Host(_)) | (Where::Host(_), Where::Memory(_)) => return Err(Errno::Xdev.into()),
        }
        Ok(())
    }

    /// Opens a file or directory under the lowest free number.
    ///
    /// Of the rights asked for, only reading and writing decide; a descriptor has all others that its directory hands
    /// down, as in `wasmtime-wasi`, because programs rely on it. They can be given up afterwards.
    #[expect(clippy::too_many_arguments, reason = "they are those of the specification")]
    pub(crate) fn path_open(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        dir_flags: u32,
        path: u32,
        path_len: u32,
        o_flags: u32,
        base: u64,
        _inheriting: u64,
        fd_flags: u32,
        opened: u32,
    ) -> Result<(), Fault> {
        let o_flags = abi::flags(o_flags, oflags::ALL)?;
        let fd_flags = abi::flags(fd_flags, fdflags::ALL)?;
        let (create, exclusive) = (o_flags & oflags::CREATE != 0, o_flags & oflags::EXCLUSIVE != 0);
        let (directory, truncate) = (o_flags & oflags::DIRECTORY != 0, o_flags & oflags::TRUNCATE != 0);
        let write = holds(base, rights::FD_WRITE);
        if fd_flags & fdflags::SYNCHRONOUS != 0 {
            return Err(Errno::Notsup.into());
        }
        if create && directory {
            return Err(Errno::Inval.into());
        }
        // Everything that can be refused is, before a file is made or emptied.
        abi::writable(mem, opened, 4)?;
        if let Err(errno) = self.descriptors.check_room() {
            self.tree.ledger.refuse_descriptor();
            return Err(errno.into());
        }
        let follow = follows(dir_flags)? && !(create && exclusive);
        if self.base(fd, rights::PATH_OPEN)? == Spot::Node(ROOT)
            && let Ok(path) = self::path(mem, path, path_len, MAX_PATH_BYTES)
        {
            self.touched.note(path, write || create || truncate);
        }
        let place = self.place(mem, fd, rights::PATH_OPEN, (path, path_len), follow)?;
        let through = self.descriptors.get(fd)?;
        let (through, inheriting) = (through.base, through.inheriting);
        if !holds(inheriting, base & (rights::FD_READ | rights::FD_WRITE)) {
            return Err(Errno::Notcapable.into());
        }
        let access = Access { read: holds(base, rights::FD_READ), write, create, exclusive, directory, truncate };
        // A file that is emptied or made needs the right to that.
        let need = |right| if holds(through, right) { Ok(()) } else { Err(Errno::Notcapable) };
        let (may_empty, may_create) = (need(rights::PATH_FILESTAT_SET_SIZE), need(rights::PATH_CREATE_FILE));
        let (target, rights) = match &place {
            Where::Memory(place) => {
                let node = self.open_node(place, access, may_empty, may_create)?;
                match self.tree.node(node)?.kind {
                    Kind::Directory(_) => (Target::Node(node), rights::DIRECTORY),
                    Kind::Device(Device::Output(stream)) => {
                        (Target::Output(stream), rights::OUTPUT & file_rights(base))
                    }
                    Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Link(_) | Kind::Foreign => {
                        (Target::Node(node), file_rights(base))
                    }
                }
            }
            Where::Host(place) => {
                let id = self.open_host(place, access, may_empty, may_create)?;
                let target = Target::Host(id);
                (target, if self.is_directory(target)? { rights::DIRECTORY } else { file_rights(base) })
            }
        };
        if let Target::Node(node) = target {
            self.tree.open(node)?;
        }
        let descriptor = Descriptor::new(target, rights & inheriting, inheriting, fd_flags);
        let number = self.descriptors.insert(descriptor)?;
        if matches!(target, Target::Output(_)) {
            self.tell_stream(mem, number);
        }
        Ok(abi::write_u32(mem, opened, number)?)
    }

    /// Finds or makes what is opened in the tree.
    fn open_node(
        &mut self,
        place: &Place,
        access: Access,
        may_empty: Result<(), Errno>,
        may_create: Result<(), Errno>,
    ) -> Result<NodeId, Fault> {
        let Access { write, create, exclusive, directory, truncate, .. } = access;
        let Some(node) = place.node else {
            if !create {
                return Err(Errno::Noent.into());
            }
            may_create?;
            return Ok(self.tree.create_file(place, self.clock.file_time())?);
        };
        if create && exclusive {
            return Err(Errno::Exist.into());
        }
        let found = self.tree.node(node)?;
        match found.kind {
            Kind::Link(_) if directory => return Err(Errno::Notdir.into()),
            Kind::Link(_) => return Err(Errno::Loop.into()),
            Kind::Directory(_) if write || truncate || create => return Err(Errno::Isdir.into()),
            Kind::Directory(_) => {}
            Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Foreign if directory => {
                return Err(Errno::Notdir.into());
            }
            Kind::Foreign => return Err(Errno::Perm.into()),
            Kind::Device(_) | Kind::Granted(_) => {}
            Kind::File(_) if (write || truncate) && !found.writable => return Err(Errno::Rofs.into()),
            Kind::File(_) if truncate => {
                may_empty?;
                self.tree.resize(node, 0, self.clock.file_time())?;
            }
            Kind::File(_) if write => self.tree.copy_up(node)?,
            Kind::File(_) => {}
        }
        Ok(node)
    }

    /// Finds or makes what is opened on the host.
    fn open_host(
        &mut self,
        place: &HostPlace,
        access: Access,
        may_empty: Result<(), Errno>,
        may_create: Result<(), Errno>,
    ) -> Result<HostId, Errno> {
        let Access { read, write, create, exclusive, directory, truncate } = access;
        let Tree { hosts, ledger, .. } = &mut self.tree;
        let Some(found) = place.found else {
            if !create {
                return Err(Errno::Noent);
            }
            if place.slash {
                return Err(Errno::Isdir);
            }
            may_create?;
            return hosts.create_file(&place.at, read, ledger);
        };
        if create && exclusive {
            return Err(Errno::Exist);
        }
        match found.kind {
            HostKind::Link if directory => Err(Errno::Notdir),
            HostKind::Link => Err(Errno::Loop),
            HostKind::Directory if write || truncate || create => Err(Errno::Isdir),
            HostKind::Directory => Ok(hosts.open_directory(place.at.clone())),
            HostKind::File | HostKind::Other if directory => Err(Errno::Notdir),
            HostKind::Other => Err(Errno::Perm),
            HostKind::File => {
                if truncate {
                    may_empty?;
                }
                hosts.open_file(&place.at, (read, write, truncate), ledger)
            }
        }
    }

    /// Tells the target, cut if the buffer is too short.
    #[expect(clippy::too_many_arguments, reason = "they are those of the specification")]
    pub(crate) fn path_readlink(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
        buf: u32,
        buf_len: u32,
        bufused: u32,
    ) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_READLINK, (path, path_len), false)?;
        let target = match &place {
            Where::Memory(place) => match &self.tree.node(place.existing()?)?.kind {
                Kind::Link(target) => target.clone(),
                _ => return Err(Errno::Inval.into()),
            },
            Where::Host(place) if place.existing()?.kind == HostKind::Link => self.tree.hosts.read_link(&place.at)?,
            Where::Host(_) => return Err(Errno::Inval.into()),
        };
        abi::writable(mem, bufused, 4)?;
        let buffer = abi::slice_mut(mem, buf, buf_len)?;
        let len = target.len().min(buffer.len());
        let (told, place) = (target.as_bytes().split_at(len).0, buffer.split_at_mut(len).0);
        place.copy_from_slice(told);
        Ok(abi::write_u32(mem, bufused, u32::try_from(len).map_err(|_| Errno::Overflow)?)?)
    }

    pub(crate) fn path_remove_directory(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_REMOVE_DIRECTORY, (path, path_len), false)?;
        match &place {
            Where::Memory(place) => self.tree.remove_directory(place, self.clock.file_time())?,
            Where::Host(place) => self.tree.hosts.remove_directory(place, &mut self.tree.ledger)?,
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "they are those of the specification")]
    pub(crate) fn path_rename(
        &mut self,
        mem: &mut [u8],
        old_fd: u32,
        old_path: u32,
        old_path_len: u32,
        new_fd: u32,
        new_path: u32,
        new_path_len: u32,
    ) -> Result<(), Fault> {
        let old = self.place(mem, old_fd, rights::PATH_RENAME_SOURCE, (old_path, old_path_len), false)?;
        let new = self.place(mem, new_fd, rights::PATH_RENAME_TARGET, (new_path, new_path_len), false)?;
        match (&old, &new) {
            (Where::Memory(old), Where::Memory(new)) => self.tree.rename(old, new, self.clock.file_time())?,
            (Where::Host(old), Where::Host(new)) => self.tree.hosts.rename(old, new)?,
            (Where::Memory(old), Where::Host(_)) => {
                old.existing()?;
                return Err(Errno::Xdev.into());
            }
            (Where::Host(old), Where::Memory(_)) => {
                old.existing()?;
                return Err(Errno::Xdev.into());
            }
        }
        Ok(())
    }

    /// Makes a symbolic link. Absolute targets are [`Errno::Perm`], as in `wasmtime-wasi`.
    pub(crate) fn path_symlink(
        &mut self,
        mem: &mut [u8],
        old_path: u32,
        old_path_len: u32,
        fd: u32,
        new_path: u32,
        new_path_len: u32,
    ) -> Result<(), Fault> {
        let target = path(mem, old_path, old_path_len, MAX_TARGET_BYTES)?;
        if target.is_empty() {
            return Err(Errno::Noent.into());
        }
        if target.starts_with('/') {
            return Err(Errno::Perm.into());
        }
        let place = self.place(mem, fd, rights::PATH_SYMLINK, (new_path, new_path_len), false)?;
        match &place {
            Where::Memory(place) => drop(self.tree.create_link(place, target, self.clock.file_time())?),
            Where::Host(place) => self.tree.hosts.create_link(place, target, &mut self.tree.ledger)?,
        }
        Ok(())
    }

    pub(crate) fn path_unlink_file(&mut self, mem: &mut [u8], fd: u32, path: u32, path_len: u32) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_UNLINK_FILE, (path, path_len), false)?;
        match &place {
            Where::Memory(place) => self.tree.unlink(place, self.clock.file_time())?,
            Where::Host(place) => self.tree.hosts.unlink(place, &mut self.tree.ledger)?,
        }
        Ok(())
    }
}

/// What a file opened for `asked` may be used for.
fn file_rights(asked: u64) -> u64 {
    let mut rights = rights::FILE;
    if !holds(asked, rights::FD_READ) {
        rights &= !rights::FD_READ;
    }
    if !holds(asked, rights::FD_WRITE) {
        rights &= !(rights::FD_WRITE | rights::FD_ALLOCATE | rights::FD_FILESTAT_SET_SIZE);
    }
    rights
}
