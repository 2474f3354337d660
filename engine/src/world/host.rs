//! Files and directories of the host, by grant.
//!
//! A grant is a directory, or one file, that was opened before the run began; nothing here names the host's file tree
//! in any other way. Every path below a granted directory goes through cap-std, which keeps it there whatever `..`,
//! links and races there are. The walk of a path looks at one name after the other and follows links itself, in the
//! tree that the *script* sees (`tree.rs`): so a link of the host that leads out of its grant leads to what the script
//! has in that place, which is nothing, and cap-std is asked for paths without links only.
//!
//! What is shown is as little as programs can do with: kind and size are the host's; inode numbers are ours, counted
//! as they are met; links are always one; times are the start of the run, unless it is live or the script set them;
//! owner and mode are not told. Names that are not UTF-8 cannot be named and are not listed.
//!
//! # Security
//! Only regular files and directories are opened: the kind is looked at before and, on the open descriptor, after, and
//! a FIFO or device that came in between is not waited for; file systems of the kernel (`/proc`, `/sys`) have no regular
//! files in this sense. A file is emptied only after that, never by its opening.
//! New files have mode 0644 and directories 0755, less the user's mask. No link is made whose target has `..` in it:
//! the script cannot follow it out, but a program of the host could.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt, SystemTimeSpec};
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, MetadataExt, OpenOptions, OpenOptionsExt};
use sha2::{Digest, Sha256};

use super::Fault;
use super::abi::{self, Errno, Filestat, Filetype, Iovecs};
use super::overlay::{Base, OverlayTarget, Stamp};
use super::price;
use super::quota::Ledger;
use super::tree::{MAX_DEPTH, MAX_PATH_BYTES, MAX_TARGET_BYTES, NodeId};
use crate::grant::Access;

/// Most names of one directory of the host. A listing of more is [`Errno::Overflow`].
const MAX_LISTED: usize = 100_000;
/// Deepest place below a grant, in names. What lies deeper is [`Errno::Nametoolong`]: the system walks a whole path at
/// each look, and a script can hang trees below each other.
const MAX_HOST_DEPTH: usize = 128;
/// What the operating system can name of a file, in bytes.
const MAX_SIZE: u64 = i64::MAX.cast_unsigned();
/// What a remembered inode takes of the memory quota, in bytes.
const INODE_BYTES: u64 = 64;

/// Device and inode.
type Id = (u64, u64);

/// A name in a directory of the host, and what is there.
type OnHost = (String, Id, HostKind);

/// Something of the host that a run may use.
pub(crate) struct HostGrant {
    /// Where the script sees it: an absolute path.
    pub(crate) guest: String,
    pub(crate) access: Access,
    pub(crate) root: HostRoot,
    /// For an overlay of a single file: the directory it lies in, and its name there.
    pub(crate) place: Option<(Dir, String)>,
}

/// What was opened for a grant.
pub(crate) enum HostRoot {
    Directory(Dir),
    /// A regular file, open for what the grant allows.
    File(File),
}

/// A place below a grant: names joined by slashes, none of them a link when it was found; empty for the grant itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostPath {
    pub(crate) grant: usize,
    path: Arc<str>,
}

impl HostPath {
    pub(crate) fn root(grant: usize) -> Self {
        Self { grant, path: "".into() }
    }

    /// # Errors
    /// [`Errno::Nametoolong`].
    pub(crate) fn join(&self, name: &str) -> Result<Self, Errno> {
        let path: Arc<str> = if self.path.is_empty() { name.into() } else { format!("{}/{name}", self.path).into() };
        let longest = usize::try_from(MAX_PATH_BYTES).unwrap_or(usize::MAX);
        let joined = Self { grant: self.grant, path };
        if joined.path.len() > longest || joined.depth() > MAX_HOST_DEPTH {
            return Err(Errno::Nametoolong);
        }
        Ok(joined)
    }

    /// The directory above; `None` for the grant itself.
    pub(crate) fn parent(&self) -> Option<Self> {
        if self.path.is_empty() {
            return None;
        }
        let above = self.path.rsplit_once('/').map_or("", |(above, _)| above);
        Some(Self { grant: self.grant, path: above.into() })
    }

    /// The names below the grant, joined by slashes.
    pub(crate) fn names(&self) -> &str {
        &self.path
    }

    /// Whether this is another place or lies below it.
    fn is_within(&self, other: &Self) -> bool {
        let rest = self.path.strip_prefix(&*other.path);
        self.grant == other.grant
            && rest.is_some_and(|rest| other.path.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }

    /// Names on the way from the grant.
    fn depth(&self) -> usize {
        self.path.split('/').filter(|name| !name.is_empty()).count()
    }

    /// As cap-std wants it.
    fn as_path(&self) -> &str {
        if self.path.is_empty() { "." } else { &self.path }
    }
}

/// What kind of thing is at a place of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    Directory,
    File,
    Link,
    /// A FIFO, socket or device: shown, never opened.
    Other,
}

impl HostKind {
    pub(crate) fn of(kind: cap_std::fs::FileType) -> Self {
        if kind.is_dir() {
            Self::Directory
        } else if kind.is_file() {
            Self::File
        } else if kind.is_symlink() {
            Self::Link
        } else {
            Self::Other
        }
    }

    pub(crate) fn filetype(self) -> Filetype {
        match self {
            Self::Directory => Filetype::Directory,
            Self::File => Filetype::RegularFile,
            Self::Link => Filetype::SymbolicLink,
            Self::Other => Filetype::Unknown,
        }
    }
}

/// What was found at a place of the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostFound {
    pub(crate) kind: HostKind,
    pub(crate) size: u64,
    id: (u64, u64),
    pub(crate) times: Times,
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

/// Where a path leads that ends below a grant.
#[derive(Clone, Debug)]
pub(crate) struct HostPlace {
    /// The place itself.
    pub(crate) at: HostPath,
    /// Whether the path ends in a name, and not in `.` or `..`.
    pub(crate) named: bool,
    pub(crate) found: Option<HostFound>,
    /// Whether the path ends in a slash, so that only a directory fits.
    pub(crate) slash: bool,
}

impl HostPlace {
    /// # Errors
    /// [`Errno::Noent`] when nothing is there.
    pub(crate) fn existing(&self) -> Result<HostFound, Errno> {
        self.found.ok_or(Errno::Noent)
    }
}

/// An open file or directory of the host, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostId(usize);

/// What a descriptor refers to.
#[derive(Clone)]
enum Open {
    Directory(HostPath),
    File { file: Arc<File>, grant: usize },
}

#[derive(Clone)]
struct Grant {
    root: Root,
    access: Access,
    /// Names above it in the script's tree, itself included.
    depth: usize,
    /// Of an overlay: where changes are made, if they are.
    target: Option<Arc<OverlayTarget>>,
}

impl Grant {
    /// Whether the host can be changed through it.
    fn is_writable(&self) -> bool {
        self.access == Access::Write
    }
}

#[derive(Clone)]
enum Root {
    Directory(Arc<Dir>),
    File(Arc<File>),
}

/// Our number for an inode of the host.
#[derive(Clone, Copy)]
struct Inode {
    number: u64,
    written: bool,
    /// Whether a node of an overlay has the number.
    taken: bool,
    /// What the script set, in nanoseconds since 1970: it sees that again, whatever is shown of times otherwise.
    accessed: Option<u64>,
    modified: Option<u64>,
}

/// All grants of one run and what is open of them.
#[derive(Clone)]
pub(crate) struct Hosts {
    grants: Vec<Grant>,
    /// Directories of grants that are also nodes of the tree: the grants themselves and what leads to one inside of
    /// another.
    pub(crate) nodes: HashMap<HostPath, NodeId>,
    /// The other grants by device and inode: wherever a writable grant leads to one, it stays read-only or an overlay.
    read_only: HashMap<(u64, u64), NodeId>,
    inodes: HashMap<(u64, u64), Inode>,
    open: Vec<Option<Open>>,
    /// Names the script made and did not remove again.
    names: u64,
    /// Time of all files, in nanoseconds since 1970; `None` for their own.
    time: Option<u64>,
    seen: Option<Sha256>,
    /// What was found below overlays, at the first look.
    pub(crate) bases: BTreeMap<HostPath, Base>,
    /// Most names of one directory.
    pub(crate) most_listed: usize,
    /// Largest size of a file, in bytes. Passing the limit of the process would end the process by a signal.
    pub(crate) largest: u64,
}

/// What [`Hosts::saw`] is told of contents.
pub(super) const READ: u8 = b'r';

/// The first number of a host inode: far from those of the tree.
const FIRST_INODE: u64 = 1 << 32;

impl Hosts {
    pub(crate) fn new(time: Option<u64>) -> Self {
        Self {
            grants: Vec::new(),
            nodes: HashMap::new(),
            read_only: HashMap::new(),
            inodes: HashMap::new(),
            open: Vec::new(),
            names: 0,
            time,
            seen: None,
            bases: BTreeMap::new(),
            most_listed: MAX_LISTED,
            largest: MAX_SIZE,
        }
    }

    /// Takes a grant that the tree shows as `node`, so many names deep. Returns its number.
    ///
    /// # Errors
    /// Those of looking at it.
    pub(crate) fn add(&mut self, grant: HostGrant, node: NodeId, depth: usize) -> Result<usize, Errno> {
        let HostGrant { guest, access, root, place } = grant;
        let target = match (access, &root, place) {
            (Access::Overlay, HostRoot::Directory(dir), _) => {
                let dir = dir.try_clone().map_err(|error| errno(&error))?;
                Some(OverlayTarget { guest, dir, file: None, node })
            }
            (Access::Overlay, HostRoot::File(_), Some((dir, file))) => {
                Some(OverlayTarget { guest, dir, file: Some(file), node })
            }
            (Access::Overlay, HostRoot::File(_), None) => return Err(Errno::Inval),
            (Access::Read | Access::Write, ..) => None,
        };
        let (root, id) = match root {
            HostRoot::Directory(dir) => {
                let meta = dir.dir_metadata().map_err(|error| errno(&error))?;
                (Root::Directory(Arc::new(dir)), (meta.dev(), meta.ino()))
            }
            HostRoot::File(file) => {
                let meta = file.metadata().map_err(|error| errno(&error))?;
                use std::os::unix::fs::MetadataExt as _;
                (Root::File(Arc::new(file)), (meta.dev(), meta.ino()))
            }
        };
        if access == Access::Write {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
            self.largest = self.largest.min(limit.unwrap_or(MAX_SIZE));
        } else {
            self.read_only.insert(id, node);
        }
        self.grants.push(Grant { root, access, depth, target: target.map(Arc::new) });
        Ok(self.grants.len().saturating_sub(1))
    }

    /// SHA-256 of what the run saw of the host: names, kinds, sizes and, unless it is live, contents, in the order it saw
    /// them.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        self.seen.as_ref().map(|seen| seen.clone().finalize().into())
    }

    pub(super) fn saw(&mut self, what: u8, bytes: &[u8]) {
        let seen = self.seen.get_or_insert_with(Sha256::new);
        seen.update([what]);
        seen.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        // The digest of a live run can be compared with no other, because its clock and randomness are in none: contents
        // are left out of it, which take ten times as long to digest as to read.
        if what != READ || self.time.is_some() {
            seen.update(bytes);
        }
    }

    fn grant(&self, at: usize) -> Result<&Grant, Errno> {
        self.grants.get(at).ok_or(Errno::Badf)
    }

    /// The directory of a grant.
    fn dir(&self, at: &HostPath) -> Result<&Dir, Errno> {
        match &self.grant(at.grant)?.root {
            Root::Directory(dir) => Ok(dir),
            Root::File(_) => Err(Errno::Notdir),
        }
    }

    /// The directory of a grant that may be written to.
    ///
    /// # Errors
    /// [`Errno::Rofs`].
    fn changeable(&self, at: &HostPath) -> Result<&Dir, Errno> {
        if self.grant(at.grant)?.is_writable() { self.dir(at) } else { Err(Errno::Rofs) }
    }

    /// Whether nothing at or below a place is a grant by itself.
    ///
    /// # Errors
    /// [`Errno::Busy`].
    fn check_free_of_grants(&self, at: &HostPath) -> Result<(), Errno> {
        if self.nodes.keys().any(|node| node.is_within(at)) { Err(Errno::Busy) } else { Ok(()) }
    }

    /// A grant of a read-only file or directory that a writable grant leads to as well.
    pub(crate) fn protected(&self, at: &HostPath, found: &HostFound) -> Option<NodeId> {
        if self.grant(at.grant).is_ok_and(|grant| !grant.is_writable()) {
            return None;
        }
        self.read_only.get(&found.id).copied()
    }

    /// Looks at a place without following a link in it.
    ///
    /// # Errors
    /// Those of the operating system, but for the absence of it.
    pub(crate) fn look(&mut self, at: &HostPath, ledger: &mut Ledger) -> Result<Option<HostFound>, Errno> {
        let depth = u64::try_from(at.depth()).unwrap_or(u64::MAX);
        ledger.spend(price::HOST_NAME.saturating_add(price::NAME.saturating_mul(depth)));
        if let Root::File(file) = &self.grant(at.grant)?.root {
            let found = self.of_file(&file.clone())?;
            self.saw(b'f', &found.size.to_le_bytes());
            return Ok(Some(found));
        }
        let found = match self.dir(at)?.symlink_metadata(at.as_path()) {
            Ok(meta) => {
                let kind = HostKind::of(meta.file_type());
                let time =
                    |result: io::Result<cap_std::time::SystemTime>| result.map_or(0, |time| nanos(time.into_std()));
                let modified = time(meta.modified());
                Some(HostFound {
                    kind,
                    size: if kind == HostKind::Directory { 0 } else { meta.len() },
                    id: (meta.dev(), meta.ino()),
                    times: self.times(time(meta.accessed()), modified, modified),
                    stamp: Stamp::of(&meta),
                })
            }
            Err(error) => match errno(&error) {
                Errno::Noent | Errno::Notdir => None,
                errno => return Err(errno),
            },
        };
        let kind = found.map_or(0, |found| found.kind.filetype().code().saturating_add(1));
        self.saw(kind, at.path.as_bytes());
        Ok(found)
    }

    fn times(&self, accessed: u64, modified: u64, changed: u64) -> Times {
        match self.time {
            Some(time) => Times { accessed: time, modified: time, changed: time },
            None => Times { accessed, modified, changed },
        }
    }

    fn of_file(&self, file: &File) -> Result<HostFound, Errno> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = file.metadata().map_err(|error| errno(&error))?;
        let time = |result: io::Result<SystemTime>| result.map_or(0, nanos);
        let modified = time(meta.modified());
        Ok(HostFound {
            kind: HostKind::File,
            size: meta.len(),
            id: (meta.dev(), meta.ino()),
            times: self.times(time(meta.accessed()), modified, modified),
            stamp: Stamp {
                device: meta.dev(),
                inode: meta.ino(),
                size: meta.len(),
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
            },
        })
    }

    /// Our number for an inode.
    ///
    /// # Errors
    /// [`Errno::Nomem`] when the memory quota has no room to remember it.
    fn inode(&mut self, id: (u64, u64), ledger: &mut Ledger) -> Result<&mut Inode, Errno> {
        let number = FIRST_INODE.saturating_add(u64::try_from(self.inodes.len()).unwrap_or(u64::MAX));
        match self.inodes.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(free) => {
                ledger.hold(INODE_BYTES).map_err(|_| Errno::Nomem)?;
                Ok(free.insert(Inode { number, written: false, taken: false, accessed: None, modified: None }))
            }
        }
    }

    pub(crate) fn filestat(&mut self, found: &HostFound, ledger: &mut Ledger) -> Result<Filestat, Errno> {
        self.saw(b's', &found.size.to_le_bytes());
        let inode = *self.inode(found.id, ledger)?;
        Ok(Filestat {
            inode: inode.number,
            filetype: found.kind.filetype(),
            links: 1,
            size: found.size,
            accessed: inode.accessed.unwrap_or(found.times.accessed),
            modified: inode.modified.unwrap_or(found.times.modified),
            changed: found.times.changed,
        })
    }

    /// The target of a link.
    ///
    /// # Errors
    /// [`Errno::Ilseq`] if it is not UTF-8, [`Errno::Nametoolong`].
    pub(crate) fn read_link(&mut self, at: &HostPath) -> Result<Arc<str>, Errno> {
        let target = self.dir(at)?.read_link_contents(at.as_path()).map_err(|error| errno(&error))?;
        let target = target.to_str().ok_or(Errno::Ilseq)?;
        if target.len() > usize::try_from(MAX_TARGET_BYTES).unwrap_or(usize::MAX) {
            return Err(Errno::Nametoolong);
        }
        self.saw(b'l', target.as_bytes());
        Ok(target.into())
    }

    /// Names of a directory, sorted by their bytes, with inode and kind; and whether there are others, which are not UTF-8.
    fn names_in(&self, at: &HostPath, ledger: &mut Ledger) -> Result<(Vec<OnHost>, bool), Errno> {
        let dir = self.dir(at)?;
        let device = dir.symlink_metadata(at.as_path()).map_err(|error| errno(&error))?.dev();
        let mut names = Vec::new();
        let mut count = 0_usize;
        for entry in dir.read_dir(at.as_path()).map_err(|error| errno(&error))? {
            let entry = entry.map_err(|error| errno(&error))?;
            count = count.saturating_add(1);
            if count > self.most_listed {
                return Err(Errno::Overflow);
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().map_err(|error| errno(&error))?;
            names.push((name, (device, entry.ino()), HostKind::of(kind)));
        }
        ledger.spend(price::HOST_NAME.saturating_add(price::NAME.saturating_mul(u64::try_from(count).unwrap_or(0))));
        names.sort_unstable_by(|(left, ..), (right, ..)| left.cmp(right));
        let others = names.len() < count;
        Ok((names, others))
    }

    /// Names of a directory, sorted by their bytes, with inode and kind.
    ///
    /// # Errors
    /// [`Errno::Overflow`] for more than [`MAX_LISTED`], [`Errno::Nomem`] by quota.
    pub(crate) fn list(&mut self, at: &HostPath, ledger: &mut Ledger) -> Result<Vec<(Arc<str>, u64, Filetype)>, Errno> {
        let (names, _) = self.names_in(at, ledger)?;
        let mut listed = Vec::with_capacity(names.len());
        for (name, id, kind) in names {
            self.saw(b'n', name.as_bytes());
            let number = self.inode(id, ledger)?.number;
            listed.push((name.into(), number, kind.filetype()));
        }
        Ok(listed)
    }

    /// Where the changes of an overlay are made; `None` for another grant.
    pub(super) fn overlay(&self, grant: usize) -> Option<&Arc<OverlayTarget>> {
        self.grants.get(grant).and_then(|grant| grant.target.as_ref())
    }

    /// The numbers of all overlays.
    pub(super) fn overlays(&self) -> impl Iterator<Item = usize> {
        self.grants.iter().enumerate().filter(|(_, grant)| grant.target.is_some()).map(|(number, _)| number)
    }

    /// Our number for an inode, if no node of an overlay has it yet: names of one file are files of their own there.
    pub(super) fn take_inode(&mut self, found: &HostFound, ledger: &mut Ledger) -> Result<Option<u64>, Errno> {
        self.saw(b's', &found.size.to_le_bytes());
        let inode = self.inode(found.id, ledger)?;
        let free = !std::mem::replace(&mut inode.taken, true);
        Ok(free.then_some(inode.number))
    }

    /// Whether a directory has names that are not among what was found at an overlay's first look.
    pub(super) fn has_more_names(&self, at: &HostPath, ledger: &mut Ledger) -> Result<bool, Errno> {
        let (names, others) = match self.names_in(at, ledger) {
            Err(Errno::Noent | Errno::Notdir) => return Ok(false),
            names => names?,
        };
        for (name, ..) in names {
            if !self.bases.contains_key(&at.join(&name)?) {
                return Ok(true);
            }
        }
        Ok(others)
    }

    /// Opens a regular file that is there, to read it.
    ///
    /// # Errors
    /// [`Errno::Perm`] for what is none, and those of the operating system.
    pub(super) fn open_to_read(&mut self, at: &HostPath) -> Result<Arc<File>, Errno> {
        let file = match &self.grant(at.grant)?.root {
            Root::File(file) => file.clone(),
            Root::Directory(dir) => {
                let opened = dir.open_with(at.as_path(), &no_surprise(true, false)).map_err(|error| errno(&error))?;
                Arc::new(opened.into_std())
            }
        };
        if !file.metadata().map_err(|error| errno(&error))?.is_file() || !holds_files(&file) {
            return Err(Errno::Perm);
        }
        self.saw(b'o', at.path.as_bytes());
        Ok(file)
    }

    fn insert(&mut self, open: Open) -> HostId {
        match self.open.iter().position(Option::is_none) {
            Some(free) => {
                if let Some(slot) = self.open.get_mut(free) {
                    *slot = Some(open);
                }
                HostId(free)
            }
            None => {
                self.open.push(Some(open));
                HostId(self.open.len().saturating_sub(1))
            }
        }
    }

    pub(crate) fn close(&mut self, id: HostId) {
        if let Some(slot) = self.open.get_mut(id.0) {
            *slot = None;
        }
    }

    pub(crate) fn open_directory(&mut self, at: HostPath) -> HostId {
        self.insert(Open::Directory(at))
    }

    /// The directory behind a descriptor; `None` if it is a file.
    pub(crate) fn directory(&self, id: HostId) -> Option<&HostPath> {
        match self.open.get(id.0) {
            Some(Some(Open::Directory(at))) => Some(at),
            _ => None,
        }
    }

    fn file(&self, id: HostId) -> Result<(Arc<File>, usize), Errno> {
        match self.open.get(id.0) {
            Some(Some(Open::File { file, grant })) => Ok((file.clone(), *grant)),
            _ => Err(Errno::Badf),
        }
    }

    /// Opens a regular file that is there.
    ///
    /// # Errors
    /// [`Errno::Perm`] for what is none, [`Errno::Rofs`], and those of the operating system.
    pub(crate) fn open_file(
        &mut self,
        at: &HostPath,
        (read, write, truncate): (bool, bool, bool),
        ledger: &mut Ledger,
    ) -> Result<HostId, Errno> {
        let grant = self.grant(at.grant)?;
        if (write || truncate) && !grant.is_writable() {
            return Err(Errno::Rofs);
        }
        let file = match &grant.root {
            Root::File(file) => file.clone(),
            Root::Directory(dir) => {
                let write = write || truncate;
                let options = no_surprise(read || !write, write);
                let file = dir.open_with(at.as_path(), &options).map_err(|error| errno(&error))?.into_std();
                Arc::new(file)
            }
        };
        if !file.metadata().map_err(|error| errno(&error))?.is_file() || !holds_files(&file) {
            return Err(Errno::Perm);
        }
        if truncate {
            file.set_len(0).map_err(|error| errno(&error))?;
            self.count_written(&file, ledger)?;
        }
        self.saw(b'o', at.path.as_bytes());
        Ok(self.insert(Open::File { file, grant: at.grant }))
    }

    /// Makes and opens a file that must not be there yet.
    ///
    /// # Errors
    /// [`Errno::Rofs`], [`Errno::Nospc`] by quota, [`Errno::Exist`] if somebody was faster.
    pub(crate) fn create_file(&mut self, at: &HostPath, read: bool, ledger: &mut Ledger) -> Result<HostId, Errno> {
        let dir = self.changeable(at)?;
        ledger.take_name()?;
        let mut options = no_surprise(read, true);
        options.create_new(true).mode(0o644);
        let file = match dir.open_with(at.as_path(), &options) {
            Ok(file) => Arc::new(file.into_std()),
            Err(error) => {
                ledger.give_name();
                return Err(errno(&error));
            }
        };
        self.names = self.names.saturating_add(1);
        self.count_written(&file, ledger)?;
        self.saw(b'c', at.path.as_bytes());
        Ok(self.insert(Open::File { file, grant: at.grant }))
    }

    /// Counts a file among those written, once.
    fn count_written(&mut self, file: &File, ledger: &mut Ledger) -> Result<(), Errno> {
        let id = self.of_file(file)?.id;
        let inode = self.inode(id, ledger)?;
        if !inode.written {
            inode.written = true;
            ledger.count_file();
        }
        Ok(())
    }

    /// A name of the script was made: `made` says whether that worked.
    fn name_made(&mut self, made: io::Result<()>, ledger: &mut Ledger) -> Result<(), Errno> {
        match made {
            Ok(()) => {
                self.names = self.names.saturating_add(1);
                Ok(())
            }
            Err(error) => {
                ledger.give_name();
                Err(errno(&error))
            }
        }
    }

    /// A name was removed: if the script had made as many, it may make one more.
    fn name_removed(&mut self, ledger: &mut Ledger) {
        if self.names > 0 {
            self.names = self.names.saturating_sub(1);
            ledger.give_name();
        }
    }

    fn check_absent(place: &HostPlace) -> Result<(), Errno> {
        if place.found.is_some() || !place.named { Err(Errno::Exist) } else { Ok(()) }
    }

    pub(crate) fn create_directory(&mut self, place: &HostPlace, ledger: &mut Ledger) -> Result<(), Errno> {
        Self::check_absent(place)?;
        let dir = self.changeable(&place.at)?;
        if self.grant(place.at.grant)?.depth.saturating_add(place.at.depth()) > MAX_DEPTH {
            return Err(Errno::Nametoolong);
        }
        ledger.take_name()?;
        let mut builder = DirBuilder::new();
        builder.mode(0o755);
        let made = dir.create_dir_with(place.at.as_path(), &builder);
        self.saw(b'd', place.at.path.as_bytes());
        self.name_made(made, ledger)
    }

    /// Makes a symbolic link. A target with `..` in it is [`Errno::Perm`].
    pub(crate) fn create_link(&mut self, place: &HostPlace, target: &str, ledger: &mut Ledger) -> Result<(), Errno> {
        if place.slash && place.found.is_none() {
            return Err(Errno::Noent);
        }
        Self::check_absent(place)?;
        if leads_up(target) {
            return Err(Errno::Perm);
        }
        let dir = self.changeable(&place.at)?;
        ledger.take_name()?;
        let made = dir.symlink(target, place.at.as_path());
        self.saw(b'd', place.at.path.as_bytes());
        self.name_made(made, ledger)
    }

    /// Gives a regular file, or a symbolic link that leads nowhere up, one more name, in the same grant.
    pub(crate) fn link(&mut self, from: &HostPlace, to: &HostPlace, ledger: &mut Ledger) -> Result<(), Errno> {
        match from.existing()?.kind {
            HostKind::File => {}
            HostKind::Link if !leads_up(&self.read_link(&from.at)?) => {}
            HostKind::Link | HostKind::Directory | HostKind::Other => return Err(Errno::Perm),
        }
        if to.slash && to.found.is_none() {
            return Err(Errno::Noent);
        }
        Self::check_absent(to)?;
        if from.at.grant != to.at.grant {
            return Err(Errno::Xdev);
        }
        let dir = self.changeable(&to.at)?;
        ledger.take_name()?;
        let made = dir.hard_link(from.at.as_path(), dir, to.at.as_path());
        self.saw(b'd', to.at.path.as_bytes());
        self.name_made(made, ledger)
    }

    pub(crate) fn unlink(&mut self, place: &HostPlace, ledger: &mut Ledger) -> Result<(), Errno> {
        if place.existing()?.kind == HostKind::Directory {
            return Err(Errno::Isdir);
        }
        if place.at.parent().is_none() {
            return Err(Errno::Busy);
        }
        let dir = self.changeable(&place.at)?;
        dir.remove_file(place.at.as_path()).map_err(|error| errno(&error))?;
        self.name_removed(ledger);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, place: &HostPlace, ledger: &mut Ledger) -> Result<(), Errno> {
        if place.existing()?.kind != HostKind::Directory {
            return Err(Errno::Notdir);
        }
        if !place.named {
            return Err(Errno::Inval);
        }
        self.check_free_of_grants(&place.at)?;
        let dir = self.changeable(&place.at)?;
        dir.remove_dir(place.at.as_path()).map_err(|error| errno(&error))?;
        self.name_removed(ledger);
        Ok(())
    }

    /// Moves a name within a grant.
    pub(crate) fn rename(&mut self, from: &HostPlace, to: &HostPlace) -> Result<(), Errno> {
        let moved = from.existing()?;
        let is_grant = |place: &HostPlace| !place.named || place.at.parent().is_none();
        if is_grant(from) || is_grant(to) {
            return Err(Errno::Busy);
        }
        if from.at.grant != to.at.grant {
            return Err(Errno::Xdev);
        }
        self.check_free_of_grants(&from.at)?;
        self.check_free_of_grants(&to.at)?;
        self.changeable(&from.at)?;
        match moved.kind {
            HostKind::Directory => {}
            _ if from.slash || to.slash => return Err(Errno::Notdir),
            // In another place, what is above it is something else.
            HostKind::Link if leads_up(&self.read_link(&from.at)?) => return Err(Errno::Perm),
            HostKind::File | HostKind::Link => {}
            HostKind::Other => return Err(Errno::Perm),
        }
        let dir = self.changeable(&to.at)?;
        dir.rename(from.at.as_path(), dir, to.at.as_path()).map_err(|error| errno(&error))
    }

    /// Sets the times of what was found at a place, in nanoseconds since 1970; a link's are its own.
    pub(crate) fn set_times(
        &mut self,
        at: &HostPath,
        found: HostFound,
        times: (Option<u64>, Option<u64>),
        ledger: &mut Ledger,
    ) -> Result<(), Errno> {
        if !self.grant(at.grant)?.is_writable() {
            return Err(Errno::Rofs);
        }
        match (&self.grant(at.grant)?.root, found.kind) {
            (Root::File(file), _) => set_file_times(file, times)?,
            (Root::Directory(dir), HostKind::Directory) => {
                let opened = dir.open_dir(at.as_path()).map_err(|error| errno(&error))?;
                // cap-std opens directories by path only, which cannot be changed through.
                let opened = opened.open_with(".", &no_surprise(true, false)).map_err(|error| errno(&error))?;
                set_file_times(&opened.into_std(), times)?;
            }
            (Root::Directory(dir), HostKind::File) => {
                let opened = dir.open_with(at.as_path(), &no_surprise(true, false)).map_err(|error| errno(&error))?;
                set_file_times(&opened.into_std(), times)?;
            }
            (Root::Directory(dir), HostKind::Link) => {
                let spec = |nanos| Ok(SystemTimeSpec::Absolute(cap_std::time::SystemTime::from_std(moment(nanos)?)));
                let (accessed, modified) = (times.0.map(spec).transpose()?, times.1.map(spec).transpose()?);
                dir.set_symlink_times(at.as_path(), accessed, modified).map_err(|error| errno(&error))?;
            }
            (Root::Directory(_), HostKind::Other) => return Err(Errno::Notsup),
        }
        self.times_set(found.id, times, ledger)
    }

    pub(crate) fn set_open_times(
        &mut self,
        id: HostId,
        times: (Option<u64>, Option<u64>),
        ledger: &mut Ledger,
    ) -> Result<(), Errno> {
        if let Some(at) = self.directory(id).cloned() {
            let found = self.look(&at, ledger)?.ok_or(Errno::Noent)?;
            return self.set_times(&at, found, times, ledger);
        }
        let (file, grant) = self.file(id)?;
        if !self.grant(grant)?.is_writable() {
            return Err(Errno::Rofs);
        }
        set_file_times(&file, times)?;
        let found = self.of_file(&file)?;
        self.times_set(found.id, times, ledger)
    }

    fn times_set(
        &mut self,
        id: (u64, u64),
        (accessed, modified): (Option<u64>, Option<u64>),
        ledger: &mut Ledger,
    ) -> Result<(), Errno> {
        let inode = self.inode(id, ledger)?;
        inode.accessed = accessed.or(inode.accessed);
        inode.modified = modified.or(inode.modified);
        Ok(())
    }

    /// What is known of an open file or directory.
    pub(crate) fn open_filestat(&mut self, id: HostId, ledger: &mut Ledger) -> Result<Filestat, Errno> {
        let found = match self.directory(id).cloned() {
            Some(at) => self.look(&at, ledger)?.ok_or(Errno::Noent)?,
            None => self.of_file(&self.file(id)?.0)?,
        };
        self.filestat(&found, ledger)
    }

    /// Size of an open file, in bytes.
    pub(crate) fn size(&mut self, id: HostId) -> Result<u64, Errno> {
        let size = self.file(id)?.0.metadata().map_err(|error| errno(&error))?.len();
        self.saw(b's', &size.to_le_bytes());
        Ok(size)
    }

    /// Reads into ranges of guest memory and says how many bytes there were.
    pub(crate) fn read(
        &mut self,
        id: HostId,
        offset: u64,
        mem: &mut [u8],
        ranges: &Iovecs,
        ledger: &mut Ledger,
    ) -> Result<u64, Errno> {
        let (file, _) = self.file(id)?;
        self.read_from(&file, offset, mem, ranges, ledger, &mut |_| {})
    }

    /// As [`read`](Self::read), of a file that is open; `also` gets what was read.
    pub(super) fn read_from(
        &mut self,
        file: &File,
        offset: u64,
        mem: &mut [u8],
        ranges: &Iovecs,
        ledger: &mut Ledger,
        also: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, Errno> {
        if offset.saturating_add(ranges.total()) > MAX_SIZE {
            return Ok(0);
        }
        let mut copied = 0_u64;
        for (pointer, len) in ranges.iter() {
            let place = abi::slice_mut(mem, pointer, len)?;
            let count = match file.read_at(place, offset.saturating_add(copied)) {
                Ok(count) => count,
                // What was read before is told first.
                Err(_) if copied > 0 => break,
                Err(error) => return Err(errno(&error)),
            };
            let bytes = place.get(..count).unwrap_or_default();
            self.saw(READ, bytes);
            also(bytes);
            copied = copied.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            if count < place.len() {
                break;
            }
        }
        ledger.spend(price::DIGESTED_BYTE.saturating_mul(copied));
        Ok(copied)
    }

    /// Writes ranges of guest memory at `offset`, or at the end, and says how many bytes fitted and where that was. A
    /// hole that this makes counts as written.
    ///
    /// # Errors
    /// [`Errno::Nospc`] when not one byte fits the quota, [`Errno::Fbig`] past the largest size, and those of the
    /// operating system.
    pub(crate) fn write(
        &mut self,
        id: HostId,
        offset: Option<u64>,
        mem: &[u8],
        ranges: &Iovecs,
        ledger: &mut Ledger,
    ) -> Result<(u64, u64), Fault> {
        let (file, grant) = self.file(id)?;
        if !self.grant(grant)?.is_writable() {
            return Err(Errno::Rofs.into());
        }
        let size = self.size(id)?;
        let offset = offset.unwrap_or(size);
        if ranges.total() == 0 {
            return Ok((0, offset));
        }
        let below_largest = self.largest.saturating_sub(offset);
        if below_largest == 0 {
            return Err(Errno::Fbig.into());
        }
        let hole = offset.saturating_sub(size);
        let asked = ranges.total().min(below_largest);
        let most = ledger.writable_bytes(asked.saturating_add(hole)).saturating_sub(hole);
        if most == 0 {
            return Err(Errno::Nospc.into());
        }
        let mut count = 0_u64;
        for (pointer, len) in ranges.iter() {
            let len = u32::try_from(most.saturating_sub(count).min(u64::from(len))).unwrap_or(len);
            let bytes = abi::slice(mem, pointer, len)?;
            let written = match file.write_at(bytes, offset.saturating_add(count)) {
                Ok(written) => written,
                Err(_) if count > 0 => break,
                Err(error) => return Err(errno(&error).into()),
            };
            count = count.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
            if written < bytes.len() {
                break;
            }
        }
        ledger.count_written(count.saturating_add(hole));
        ledger.spend(price::HELD_BYTE.saturating_mul(count));
        self.count_written(&file, ledger)?;
        Ok((count, offset))
    }

    /// Sets the size of an open file. What is added counts as written.
    ///
    /// # Errors
    /// [`Errno::Nospc`] by quota, [`Errno::Rofs`], and those of the operating system.
    pub(crate) fn resize(&mut self, id: HostId, size: u64, ledger: &mut Ledger) -> Result<(), Errno> {
        let (file, grant) = self.file(id)?;
        if !self.grant(grant)?.is_writable() {
            return Err(Errno::Rofs);
        }
        if size > self.largest {
            return Err(Errno::Fbig);
        }
        let added = size.saturating_sub(self.size(id)?);
        if ledger.writable_bytes(added) < added {
            return Err(Errno::Nospc);
        }
        file.set_len(size).map_err(|error| errno(&error))?;
        ledger.count_written(added);
        self.count_written(&file, ledger)
    }
}

/// Opens what is there without a link being followed, a FIFO being waited for, or a terminal becoming ours.
fn no_surprise(read: bool, write: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(read).write(write).nonblock(true).follow(FollowSymlinks::No).custom_flags(libc::O_NOCTTY);
    options
}

/// Whether a file system keeps files, and is not a door into the kernel: what looks like a regular file in `/proc` can
/// be the memory of this process.
pub(crate) fn holds_files(file: &File) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYS: u64 = 0x6265_6572;
    const DEBUG: u64 = 0x6462_6720;
    const TRACE: u64 = 0x7472_6163;
    const SECURITY: u64 = 0x7363_6673;
    const SELINUX: u64 = 0xf97c_ff8c;
    const CONFIG: u64 = 0x6265_6570;
    const CGROUP: u64 = 0x0027_e0eb;
    const CGROUP2: u64 = 0x6367_7270;
    const BPF: u64 = 0xcafe_4a11;
    const BINFMT: u64 = 0x4249_4e4d;
    const EFI: u64 = 0xde5e_81e4;
    const NAMESPACE: u64 = 0x6e73_6673;
    const DOORS: [u64; 13] =
        [PROC, SYS, DEBUG, TRACE, SECURITY, SELINUX, CONFIG, CGROUP, CGROUP2, BPF, BINFMT, EFI, NAMESPACE];
    // The numbers have 32 bits and are signed on some systems.
    rustix::fs::fstatfs(file).is_ok_and(|system| !DOORS.contains(&(system.f_type.cast_unsigned() & 0xffff_ffff)))
}

/// Whether a link's target has a `..` in it, or is absolute.
pub(crate) fn leads_up(target: &str) -> bool {
    target.starts_with('/') || target.split('/').any(|name| name == "..")
}

fn moment(nanos: u64) -> Result<SystemTime, Errno> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).ok_or(Errno::Inval)
}

/// Sets when a file was last accessed and last modified.
fn set_file_times(file: &File, (accessed, modified): (Option<u64>, Option<u64>)) -> Result<(), Errno> {
    let mut times = FileTimes::new();
    if let Some(nanos) = accessed {
        times = times.set_accessed(moment(nanos)?);
    }
    if let Some(nanos) = modified {
        times = times.set_modified(moment(nanos)?);
    }
    file.set_times(times).map_err(|error| errno(&error))
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What the script is told of an error of the operating system.
pub(super) fn errno(error: &io::Error) -> Errno {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Errno::Noent,
        Some(libc::EACCES) => Errno::Acces,
        Some(libc::EPERM) => Errno::Perm,
        Some(libc::EEXIST) => Errno::Exist,
        Some(libc::ENOTDIR) => Errno::Notdir,
        Some(libc::EISDIR) => Errno::Isdir,
        Some(libc::ENOTEMPTY) => Errno::Notempty,
        Some(libc::ELOOP) => Errno::Loop,
        Some(libc::ENAMETOOLONG) => Errno::Nametoolong,
        Some(libc::ENOSPC | libc::EDQUOT) => Errno::Nospc,
        Some(libc::EFBIG) => Errno::Fbig,
        Some(libc::EROFS) => Errno::Rofs,
        Some(libc::EMFILE | libc::ENFILE) => Errno::Nfile,
        Some(libc::EINVAL) => Errno::Inval,
        Some(libc::EBUSY | libc::ETXTBSY) => Errno::Busy,
        Some(libc::EXDEV) => Errno::Xdev,
        // cap-std's own word for a path that would leave the grant.
        None if error.kind() == io::ErrorKind::PermissionDenied => Errno::Perm,
        _ => Errno::Io,
    }
}
