//! The functions on paths.

use super::abi::{self, Errno, LOOKUP_FOLLOW, fdflags, holds, oflags, rights};
use super::descriptors::{Descriptor, Target};
use super::tree::{Device, Kind, MAX_PATH_BYTES, MAX_TARGET_BYTES, NodeId, Place};
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

impl World {
    /// The directory a path starts from.
    ///
    /// # Errors
    /// [`Errno::Notdir`], [`Errno::Notcapable`] without the right.
    fn base(&self, fd: u32, right: u64) -> Result<NodeId, Errno> {
        let descriptor = self.descriptors.get(fd)?;
        let node = descriptor.node().map_err(|_| Errno::Notdir)?;
        if !self.tree.node(node)?.is_directory() {
            return Err(Errno::Notdir);
        }
        descriptor.need(right)?;
        Ok(node)
    }

    /// Where a path in guest memory leads.
    fn place(&mut self, mem: &[u8], fd: u32, right: u64, at: (u32, u32), follow: bool) -> Result<Place, Errno> {
        let base = self.base(fd, right)?;
        self.tree.resolve(base, path(mem, at.0, at.1, MAX_PATH_BYTES)?, follow)
    }

    pub(crate) fn path_create_directory(
        &mut self,
        mem: &mut [u8],
        fd: u32,
        path: u32,
        path_len: u32,
    ) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_CREATE_DIRECTORY, (path, path_len), false)?;
        self.tree.create_directory(&place, self.clock.file_time())?;
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
        Ok(self.tree.node(place.existing()?)?.filestat().write(mem, stat)?)
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
        self.set_times(place.existing()?, accessed, modified, fst_flags)
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
        let node = old.existing()?;
        let new = self.place(mem, new_fd, rights::PATH_LINK_TARGET, (new_path, new_path_len), false)?;
        Ok(self.tree.link(node, &new, self.clock.file_time())?)
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
        self.descriptors.check_room()?;
        let follow = follows(dir_flags)? && !(create && exclusive);
        let place = self.place(mem, fd, rights::PATH_OPEN, (path, path_len), follow)?;
        let through = self.descriptors.get(fd)?;
        let (through, inheriting) = (through.base, through.inheriting);
        let need = |right| if holds(through, right) { Ok(()) } else { Err(Errno::Notcapable) };
        if !holds(inheriting, base & (rights::FD_READ | rights::FD_WRITE)) {
            return Err(Errno::Notcapable.into());
        }
        let node = match place.node {
            Some(_) if create && exclusive => return Err(Errno::Exist.into()),
            Some(node) => {
                let found = self.tree.node(node)?;
                match found.kind {
                    Kind::Link(_) if directory => return Err(Errno::Notdir.into()),
                    Kind::Link(_) => return Err(Errno::Loop.into()),
                    Kind::Directory(_) if write || truncate || create => return Err(Errno::Isdir.into()),
                    Kind::Directory(_) => {}
                    Kind::File(_) | Kind::Device(_) if directory => return Err(Errno::Notdir.into()),
                    Kind::Device(_) => {}
                    Kind::File(_) if (write || truncate) && !found.writable => return Err(Errno::Rofs.into()),
                    Kind::File(_) if truncate => {
                        need(rights::PATH_FILESTAT_SET_SIZE)?;
                        self.tree.resize(node, 0, self.clock.file_time())?;
                    }
                    Kind::File(_) => {}
                }
                node
            }
            None if !create => return Err(Errno::Noent.into()),
            None => {
                need(rights::PATH_CREATE_FILE)?;
                self.tree.create_file(&place, self.clock.file_time())?
            }
        };
        let (target, rights) = match self.tree.node(node)?.kind {
            Kind::Directory(_) => (Target::Node(node), rights::DIRECTORY),
            Kind::File(_) | Kind::Link(_) => (Target::Node(node), file_rights(base)),
            Kind::Device(Device::Input) => (Target::Input, rights::INPUT & file_rights(base)),
            Kind::Device(Device::Output(stream)) => (Target::Output(stream), rights::OUTPUT & file_rights(base)),
            Kind::Device(_) => (Target::Node(node), file_rights(base)),
        };
        if let Target::Node(node) = target {
            self.tree.open(node)?;
        }
        let descriptor = Descriptor::new(target, rights & inheriting, inheriting, fd_flags);
        let number = self.descriptors.insert(descriptor)?;
        Ok(abi::write_u32(mem, opened, number)?)
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
        let Kind::Link(target) = &self.tree.node(place.existing()?)?.kind else { return Err(Errno::Inval.into()) };
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
        Ok(self.tree.remove_directory(&place, self.clock.file_time())?)
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
        Ok(self.tree.rename(&old, &new, self.clock.file_time())?)
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
        self.tree.create_link(&place, target, self.clock.file_time())?;
        Ok(())
    }

    pub(crate) fn path_unlink_file(&mut self, mem: &mut [u8], fd: u32, path: u32, path_len: u32) -> Result<(), Fault> {
        let place = self.place(mem, fd, rights::PATH_UNLINK_FILE, (path, path_len), false)?;
        Ok(self.tree.unlink(&place, self.clock.file_time())?)
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
