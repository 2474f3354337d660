//! Numbers and layouts of WASI preview 1, and bounded access to the guest's linear memory.
//!
//! Every access goes through the functions here: a range that is not wholly inside the memory is [`Errno::Fault`],
//! whatever its pointer and length are.

/// Why a call failed, as the guest sees it. The numbers are those of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(crate) enum Errno {
    Acces = 2,
    Badf = 8,
    Busy = 10,
    Exist = 20,
    Fault = 21,
    Fbig = 22,
    Ilseq = 25,
    Inval = 28,
    Io = 29,
    Isdir = 31,
    Loop = 32,
    Mfile = 33,
    Nametoolong = 37,
    Nfile = 41,
    Noent = 44,
    Nomem = 48,
    Nospc = 51,
    Notdir = 54,
    Notempty = 55,
    Notsock = 57,
    Notsup = 58,
    Overflow = 61,
    Perm = 63,
    Rofs = 69,
    Spipe = 70,
    Xdev = 75,
    Notcapable = 76,
}

impl Errno {
    /// The number returned to the guest.
    pub(crate) fn code(self) -> u16 {
        self as u16
    }
}

/// Kinds of file, as `filestat`, `fdstat` and directory entries name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Filetype {
    Unknown = 0,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SymbolicLink = 7,
}

impl Filetype {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

/// What a descriptor may be used for.
pub(crate) mod rights {
    pub(crate) const FD_DATASYNC: u64 = 1;
    pub(crate) const FD_READ: u64 = 1 << 1;
    pub(crate) const FD_SEEK: u64 = 1 << 2;
    pub(crate) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
    pub(crate) const FD_SYNC: u64 = 1 << 4;
    pub(crate) const FD_TELL: u64 = 1 << 5;
    pub(crate) const FD_WRITE: u64 = 1 << 6;
    pub(crate) const FD_ADVISE: u64 = 1 << 7;
    pub(crate) const FD_ALLOCATE: u64 = 1 << 8;
    pub(crate) const PATH_CREATE_DIRECTORY: u64 = 1 << 9;
    pub(crate) const PATH_CREATE_FILE: u64 = 1 << 10;
    pub(crate) const PATH_LINK_SOURCE: u64 = 1 << 11;
    pub(crate) const PATH_LINK_TARGET: u64 = 1 << 12;
    pub(crate) const PATH_OPEN: u64 = 1 << 13;
    pub(crate) const FD_READDIR: u64 = 1 << 14;
    pub(crate) const PATH_READLINK: u64 = 1 << 15;
    pub(crate) const PATH_RENAME_SOURCE: u64 = 1 << 16;
    pub(crate) const PATH_RENAME_TARGET: u64 = 1 << 17;
    pub(crate) const PATH_FILESTAT_GET: u64 = 1 << 18;
    pub(crate) const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
    pub(crate) const PATH_FILESTAT_SET_TIMES: u64 = 1 << 20;
    pub(crate) const FD_FILESTAT_GET: u64 = 1 << 21;
    pub(crate) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    pub(crate) const FD_FILESTAT_SET_TIMES: u64 = 1 << 23;
    pub(crate) const PATH_SYMLINK: u64 = 1 << 24;
    pub(crate) const PATH_REMOVE_DIRECTORY: u64 = 1 << 25;
    pub(crate) const PATH_UNLINK_FILE: u64 = 1 << 26;
    pub(crate) const POLL_FD_READWRITE: u64 = 1 << 27;

    /// Everything a regular file can have.
    pub(crate) const FILE: u64 = FD_DATASYNC
        | FD_READ
        | FD_SEEK
        | FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | FD_TELL
        | FD_WRITE
        | FD_ADVISE
        | FD_ALLOCATE
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_SIZE
        | FD_FILESTAT_SET_TIMES
        | POLL_FD_READWRITE;

    /// Everything a directory can have.
    pub(crate) const DIRECTORY: u64 = FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | FD_DATASYNC
        | PATH_CREATE_DIRECTORY
        | PATH_CREATE_FILE
        | PATH_LINK_SOURCE
        | PATH_LINK_TARGET
        | PATH_OPEN
        | FD_READDIR
        | PATH_READLINK
        | PATH_RENAME_SOURCE
        | PATH_RENAME_TARGET
        | PATH_FILESTAT_GET
        | PATH_FILESTAT_SET_SIZE
        | PATH_FILESTAT_SET_TIMES
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_TIMES
        | PATH_SYMLINK
        | PATH_REMOVE_DIRECTORY
        | PATH_UNLINK_FILE;

    /// Standard input. Without seek and tell, as a pipe.
    pub(crate) const INPUT: u64 = FD_READ | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE;

    /// Standard output and error.
    pub(crate) const OUTPUT: u64 =
        FD_WRITE | FD_DATASYNC | FD_SYNC | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE;
}

/// Flags of a descriptor.
pub(crate) mod fdflags {
    pub(crate) const APPEND: u16 = 1;
    pub(crate) const DSYNC: u16 = 1 << 1;
    pub(crate) const NONBLOCK: u16 = 1 << 2;
    pub(crate) const RSYNC: u16 = 1 << 3;
    pub(crate) const SYNC: u16 = 1 << 4;
    pub(crate) const ALL: u16 = APPEND | DSYNC | NONBLOCK | RSYNC | SYNC;
    pub(crate) const SYNCHRONOUS: u16 = DSYNC | RSYNC | SYNC;
}

/// Flags of `path_open`.
pub(crate) mod oflags {
    pub(crate) const CREATE: u16 = 1;
    pub(crate) const DIRECTORY: u16 = 1 << 1;
    pub(crate) const EXCLUSIVE: u16 = 1 << 2;
    pub(crate) const TRUNCATE: u16 = 1 << 3;
    pub(crate) const ALL: u16 = CREATE | DIRECTORY | EXCLUSIVE | TRUNCATE;
}

/// Flags of the functions that set file times.
pub(crate) mod fstflags {
    pub(crate) const ACCESSED: u16 = 1;
    pub(crate) const ACCESSED_NOW: u16 = 1 << 1;
    pub(crate) const MODIFIED: u16 = 1 << 2;
    pub(crate) const MODIFIED_NOW: u16 = 1 << 3;
    pub(crate) const ALL: u16 = ACCESSED | ACCESSED_NOW | MODIFIED | MODIFIED_NOW;
}

/// The only flag of path look-ups: follow a symbolic link in the last place.
pub(crate) const LOOKUP_FOLLOW: u32 = 1;

/// Bytes of one `subscription`.
pub(crate) const SUBSCRIPTION_BYTES: u32 = 48;
/// Bytes of one `event`.
pub(crate) const EVENT_BYTES: u32 = 32;
/// Bytes of the head of one directory entry.
pub(crate) const DIRENT_BYTES: usize = 24;

/// Most entries of one scatter/gather list, as `IOV_MAX` of Linux. More is [`Errno::Inval`].
pub(crate) const MAX_IOVECS: u32 = 1024;
/// Most bytes one read or write moves; a longer one is cut short, which POSIX allows.
pub(crate) const MAX_TRANSFER: u64 = 8 << 20;

/// Narrows flags that the specification keeps in 16 bits.
///
/// # Errors
/// [`Errno::Inval`] for bits outside of `known`.
pub(crate) fn flags(given: u32, known: u16) -> Result<u16, Errno> {
    u16::try_from(given).ok().filter(|flags| flags & !known == 0).ok_or(Errno::Inval)
}

/// A pointer `offset` bytes further on.
pub(crate) fn add(pointer: u32, offset: u32) -> Result<u32, Errno> {
    pointer.checked_add(offset).ok_or(Errno::Fault)
}

/// A pointer to element `index` of an array.
pub(crate) fn element(pointer: u32, index: u32, bytes: u32) -> Result<u32, Errno> {
    index.checked_mul(bytes).and_then(|offset| pointer.checked_add(offset)).ok_or(Errno::Fault)
}

/// The `len` bytes at `pointer`.
pub(crate) fn slice(mem: &[u8], pointer: u32, len: u32) -> Result<&[u8], Errno> {
    let start = usize::try_from(pointer).map_err(|_| Errno::Fault)?;
    let len = usize::try_from(len).map_err(|_| Errno::Fault)?;
    let end = start.checked_add(len).ok_or(Errno::Fault)?;
    mem.get(start..end).ok_or(Errno::Fault)
}

/// The `len` bytes at `pointer`, to write to.
pub(crate) fn slice_mut(mem: &mut [u8], pointer: u32, len: u32) -> Result<&mut [u8], Errno> {
    let start = usize::try_from(pointer).map_err(|_| Errno::Fault)?;
    let len = usize::try_from(len).map_err(|_| Errno::Fault)?;
    let end = start.checked_add(len).ok_or(Errno::Fault)?;
    mem.get_mut(start..end).ok_or(Errno::Fault)
}

fn array<const N: usize>(mem: &[u8], pointer: u32) -> Result<[u8; N], Errno> {
    let start = usize::try_from(pointer).map_err(|_| Errno::Fault)?;
    mem.get(start..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(Errno::Fault)
}

fn put<const N: usize>(mem: &mut [u8], pointer: u32, bytes: [u8; N]) -> Result<(), Errno> {
    let start = usize::try_from(pointer).map_err(|_| Errno::Fault)?;
    *mem.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<N>()).ok_or(Errno::Fault)? = bytes;
    Ok(())
}

pub(crate) fn read_u8(mem: &[u8], pointer: u32) -> Result<u8, Errno> {
    Ok(u8::from_le_bytes(array(mem, pointer)?))
}

pub(crate) fn read_u16(mem: &[u8], pointer: u32) -> Result<u16, Errno> {
    Ok(u16::from_le_bytes(array(mem, pointer)?))
}

pub(crate) fn read_u32(mem: &[u8], pointer: u32) -> Result<u32, Errno> {
    Ok(u32::from_le_bytes(array(mem, pointer)?))
}

pub(crate) fn read_u64(mem: &[u8], pointer: u32) -> Result<u64, Errno> {
    Ok(u64::from_le_bytes(array(mem, pointer)?))
}

pub(crate) fn write_u32(mem: &mut [u8], pointer: u32, value: u32) -> Result<(), Errno> {
    put(mem, pointer, value.to_le_bytes())
}

pub(crate) fn write_u64(mem: &mut [u8], pointer: u32, value: u64) -> Result<(), Errno> {
    put(mem, pointer, value.to_le_bytes())
}

/// Checks that a result of `len` bytes can be written, before the call changes anything.
pub(crate) fn writable(mem: &[u8], pointer: u32, len: u32) -> Result<(), Errno> {
    slice(mem, pointer, len).map(|_| ())
}

/// Whether a right is among those held.
pub(crate) fn holds(held: u64, right: u64) -> bool {
    held & right == right
}

/// What `fd_fdstat_get` tells.
pub(crate) struct Fdstat {
    pub(crate) filetype: Filetype,
    pub(crate) flags: u16,
    pub(crate) base: u64,
    pub(crate) inheriting: u64,
}

impl Fdstat {
    pub(crate) fn write(&self, mem: &mut [u8], pointer: u32) -> Result<(), Errno> {
        let mut bytes = [0; 24];
        fill(&mut bytes, 0, [self.filetype.code()]);
        fill(&mut bytes, 2, self.flags.to_le_bytes());
        fill(&mut bytes, 8, self.base.to_le_bytes());
        fill(&mut bytes, 16, self.inheriting.to_le_bytes());
        put(mem, pointer, bytes)
    }
}

/// What `fd_filestat_get` and `path_filestat_get` tell. Times are nanoseconds since 1970.
pub(crate) struct Filestat {
    pub(crate) inode: u64,
    pub(crate) filetype: Filetype,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

impl Filestat {
    /// The number of the one device all files are on.
    const DEVICE: u64 = 1;

    pub(crate) fn write(&self, mem: &mut [u8], pointer: u32) -> Result<(), Errno> {
        let mut bytes = [0; 64];
        fill(&mut bytes, 0, Self::DEVICE.to_le_bytes());
        fill(&mut bytes, 8, self.inode.to_le_bytes());
        fill(&mut bytes, 16, [self.filetype.code()]);
        fill(&mut bytes, 24, self.links.to_le_bytes());
        fill(&mut bytes, 32, self.size.to_le_bytes());
        fill(&mut bytes, 40, self.accessed.to_le_bytes());
        fill(&mut bytes, 48, self.modified.to_le_bytes());
        fill(&mut bytes, 56, self.changed.to_le_bytes());
        put(mem, pointer, bytes)
    }
}

/// One answer of `poll_oneoff`.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) userdata: u64,
    pub(crate) error: u16,
    pub(crate) kind: u8,
    pub(crate) bytes: u64,
    pub(crate) hangup: bool,
}

impl Event {
    pub(crate) fn write(&self, mem: &mut [u8], pointer: u32) -> Result<(), Errno> {
        let mut bytes = [0; 32];
        fill(&mut bytes, 0, self.userdata.to_le_bytes());
        fill(&mut bytes, 8, self.error.to_le_bytes());
        fill(&mut bytes, 10, [self.kind]);
        fill(&mut bytes, 16, self.bytes.to_le_bytes());
        fill(&mut bytes, 24, u16::from(self.hangup).to_le_bytes());
        put(mem, pointer, bytes)
    }
}

/// Head of one directory entry; its name follows.
pub(crate) fn dirent(next: u64, inode: u64, name_len: u32, filetype: Filetype) -> [u8; DIRENT_BYTES] {
    let mut bytes = [0; DIRENT_BYTES];
    fill(&mut bytes, 0, next.to_le_bytes());
    fill(&mut bytes, 8, inode.to_le_bytes());
    fill(&mut bytes, 16, name_len.to_le_bytes());
    fill(&mut bytes, 20, [filetype.code()]);
    bytes
}

/// Puts a field into a structure that is being laid out; the offsets are constants of this file.
fn fill<const N: usize>(bytes: &mut [u8], offset: usize, field: [u8; N]) {
    if let Some(place) = bytes.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *place = field;
    }
}

/// A scatter/gather list that has been checked: every range lies inside the memory, and all together move at most
/// [`MAX_TRANSFER`] bytes. It is read before anything moves, so a read into the list itself changes nothing.
pub(crate) struct Iovecs {
    few: [(u32, u32); Self::FEW],
    many: Vec<(u32, u32)>,
    len: usize,
    total: u64,
}

impl Iovecs {
    /// Lists up to this length need no allocation; nearly all are of one or two.
    const FEW: usize = 4;

    /// Reads `count` pairs of pointer and length.
    ///
    /// # Errors
    /// [`Errno::Inval`] for more than [`MAX_IOVECS`], [`Errno::Fault`] for a range outside the memory.
    pub(crate) fn read(mem: &[u8], pointer: u32, count: u32) -> Result<Self, Errno> {
        if count > MAX_IOVECS {
            return Err(Errno::Inval);
        }
        let mut list = Self { few: [(0, 0); Self::FEW], many: Vec::new(), len: 0, total: 0 };
        for index in 0..count {
            let at = element(pointer, index, 8)?;
            let start = read_u32(mem, at)?;
            let len = read_u32(mem, add(at, 4)?)?;
            slice(mem, start, len)?;
            let room = MAX_TRANSFER.saturating_sub(list.total);
            let len = u32::try_from(u64::from(len).min(room)).unwrap_or(len);
            list.total = list.total.saturating_add(u64::from(len));
            match list.few.get_mut(list.len) {
                Some(place) => *place = (start, len),
                None => list.many.push((start, len)),
            }
            list.len = list.len.saturating_add(1);
        }
        Ok(list)
    }

    /// One range.
    ///
    /// # Errors
    /// [`Errno::Fault`] if it is not inside the memory.
    pub(crate) fn one(mem: &[u8], start: u32, len: u32) -> Result<Self, Errno> {
        slice(mem, start, len)?;
        let mut few = [(0, 0); Self::FEW];
        few[0] = (start, len);
        Ok(Self { few, many: Vec::new(), len: 1, total: u64::from(len) })
    }

    /// Bytes of all ranges together.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The ranges, as pointer and length.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.few.iter().take(self.len).chain(self.many.iter()).copied()
    }
}
