//! The file tree a script sees: nodes, their names, and how a path finds them.
//!
//! Nodes live in a table and refer to each other by number, so the tree is plain data. A node lives as long as a name
//! or an open descriptor refers to it, as on any Unix.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::abi::{self, Errno, Filestat, Filetype, Iovecs};
use super::content::{Chunks, Content};
use super::host::{HostFound, HostGrant, HostKind, HostPath, HostPlace, HostRoot, Hosts};
use super::price;
use super::quota::{Ledger, Quotas};
use super::{Fault, Stop};
use crate::stream::Stream;

/// Longest path, in bytes. Longer ones are [`Errno::Nametoolong`].
pub(crate) const MAX_PATH_BYTES: u32 = 4096;
/// Longest name of one file, in bytes. Longer ones are [`Errno::Nametoolong`].
pub(crate) const MAX_NAME_BYTES: usize = 255;
/// Longest target of a symbolic link, in bytes. Longer ones are [`Errno::Nametoolong`].
pub(crate) const MAX_TARGET_BYTES: u32 = 4096;
/// Directories below each other, the root not counted. A deeper one is [`Errno::Nametoolong`], which is what the
/// length of its path would lead to elsewhere.
pub(crate) const MAX_DEPTH: usize = 64;
/// Symbolic links followed for one path. More is [`Errno::Loop`].
const MAX_HOPS: u32 = 40;
/// Bytes of one path and of the targets of all links it leads through. More is [`Errno::Nametoolong`]: with links of
/// thousands of names each, one look-up would take as long as a million honest ones.
const MAX_WALK_BYTES: usize = 16 << 10;

/// What a node takes of the memory quota besides its contents, in bytes.
pub(crate) const NODE_BYTES: u64 = 192;
/// What a name takes of the memory quota besides its letters, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 64;
/// What one entry of a listing takes of the memory quota besides its letters, in bytes.
const LISTED_BYTES: u64 = 48;

/// A node's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(usize);

/// The root directory.
pub(crate) const ROOT: NodeId = NodeId(0);
/// The directory `/dev`, which is filled when somebody looks into it.
const DEVICES: NodeId = NodeId(1);

/// The directory `/home`. It leads to the working directory and, as on machines of many users, is not listed.
const HOME: NodeId = NodeId(3);

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Directory(Directory),
    File(Content),
    Device(Device),
    /// A file of the host, by the number of its grant.
    Granted(usize),
    /// A symbolic link and its target.
    Link(Arc<str>),
}

/// What a device node does. There are those that take output, and none that give anything: a script has its streams and
/// its randomness without them, and what it can read of `/dev` is what escapes are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// Takes everything and gives nothing.
    Null,
    /// Standard output or error, under one more descriptor.
    Output(Stream),
}

/// What lies in `/dev`.
const DEVICE_NAMES: [(&str, Device); 3] =
    [("null", Device::Null), ("stderr", Device::Output(Stream::Stderr)), ("stdout", Device::Output(Stream::Stdout))];

/// Names in a directory, sorted by their bytes.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// The directory above; the root and a removed directory are their own.
    parent: NodeId,
    entries: BTreeMap<Arc<str>, Entry>,
    /// Where on the host the names are that are not among the entries.
    host: Option<HostPath>,
}

impl Directory {
    fn new(parent: NodeId) -> Self {
        Self { parent, entries: BTreeMap::new(), host: None }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    node: NodeId,
    /// Whether the script made this name, so that it counts against the quotas.
    charged: bool,
}

/// A file, directory or symbolic link.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) inode: u64,
    pub(crate) kind: Kind,
    /// Whether contents, names below and times may change.
    pub(crate) writable: bool,
    /// Nanoseconds since 1970. Reading does not change it: the script could not tell, and reading stays cheap.
    pub(crate) accessed: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified: u64,
    /// Nanoseconds since 1970.
    pub(crate) changed: u64,
    /// Names that refer to it.
    links: u64,
    /// Descriptors that refer to it.
    opens: u64,
    /// Bytes taken of the memory quota, contents not counted.
    held: u64,
    /// Whether it is counted among the files written.
    written: bool,
}

impl Node {
    pub(crate) fn filetype(&self) -> Filetype {
        match self.kind {
            Kind::Directory(_) => Filetype::Directory,
            Kind::File(_) | Kind::Granted(_) => Filetype::RegularFile,
            Kind::Device(_) => Filetype::CharacterDevice,
            Kind::Link(_) => Filetype::SymbolicLink,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            Kind::Directory(_) | Kind::Device(_) | Kind::Granted(_) => 0,
            Kind::File(content) => content.len(),
            Kind::Link(target) => u64::try_from(target.len()).unwrap_or(u64::MAX),
        }
    }

    /// Bytes taken of the memory quota.
    fn held(&self) -> u64 {
        match &self.kind {
            Kind::File(Content::Owned(chunks)) => self.held.saturating_add(chunks.held()),
            Kind::Directory(_)
            | Kind::File(Content::Shared(_))
            | Kind::Device(_)
            | Kind::Granted(_)
            | Kind::Link(_) => self.held,
        }
    }

    pub(crate) fn filestat(&self) -> Filestat {
        Filestat {
            inode: self.inode,
            filetype: self.filetype(),
            links: self.links,
            size: self.size(),
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
        }
    }

    fn directory(&self) -> Result<&Directory, Errno> {
        match &self.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Link(_) => Err(Errno::Notdir),
        }
    }

    fn directory_mut(&mut self) -> Result<&mut Directory, Errno> {
        match &mut self.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Link(_) => Err(Errno::Notdir),
        }
    }
}

/// A directory, of the tree or below a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Node(NodeId),
    Host(HostPath),
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub(crate) enum Where {
    Memory(Place),
    Host(HostPlace),
}

/// Where a path leads that ends in the tree.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The directory that holds, or would hold, the name.
    pub(crate) parent: NodeId,
    /// The last name; empty when the path ends in `.` or `..`, or names the root.
    pub(crate) name: String,
    /// What is there.
    pub(crate) node: Option<NodeId>,
    /// Whether the path ends in a slash, so that only a directory fits.
    pub(crate) slash: bool,
}

impl Place {
    /// What is there.
    ///
    /// # Errors
    /// [`Errno::Noent`] when nothing is.
    pub(crate) fn existing(&self) -> Result<NodeId, Errno> {
        self.node.ok_or(Errno::Noent)
    }
}

/// A directory's names at one moment, `.` and `..` first.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Listed>,
    /// Bytes taken of the memory quota.
    held: u64,
}

/// One name of a listing.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: Arc<str>,
    pub(crate) inode: u64,
    pub(crate) filetype: Filetype,
}

/// All nodes and the account of what they hold.
#[derive(Clone)]
pub(crate) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    next_inode: u64,
    pub(crate) ledger: Ledger,
    pub(crate) hosts: Hosts,
}

impl Tree {
    /// The tree every run starts with; `now` is in nanoseconds since 1970.
    /// With `live`, files of the host show their own times.
    pub(crate) fn new(quotas: Quotas, now: u64, live: bool) -> Self {
        let nodes = Vec::with_capacity(16);
        let hosts = Hosts::new((!live).then_some(now));
        let mut tree = Self { nodes, free: Vec::new(), next_inode: 1, ledger: Ledger::new(quotas), hosts };
        let root = Kind::Directory(Directory::new(ROOT));
        tree.insert(root, false, 0, now);
        for (path, writable) in [
            ("/dev", false),
            ("/script", false),
            ("/home", false),
            ("/home/script", true),
            ("/tmp", true),
            ("/out", true),
        ] {
            // Nothing can be in the way of the first directories.
            let made = tree.place_directory(path, Some(writable), now);
            debug_assert!(made.is_ok());
            debug_assert!(path != "/dev" || made == Ok(DEVICES));
            debug_assert!(path != "/home" || made == Ok(HOME));
        }
        tree
    }

    /// Fills `/dev` before it is looked into, if nobody did: most runs never do, and the nodes take time to make.
    fn fill_devices(&mut self, directory: NodeId) -> Result<(), Errno> {
        if directory != DEVICES || !self.node(DEVICES)?.directory()?.entries.is_empty() {
            return Ok(());
        }
        let now = self.node(DEVICES)?.modified;
        for (name, device) in DEVICE_NAMES {
            let node = self.insert(Kind::Device(device), false, 0, now);
            self.attach(DEVICES, name, node, false)?;
        }
        Ok(())
    }

    /// Puts a read-only file of the host at an absolute path; the directories on the way are made.
    ///
    /// # Errors
    /// As a script would get for such a path.
    pub(crate) fn place_file(&mut self, path: &str, bytes: Arc<[u8]>, now: u64) -> Result<(), Errno> {
        let (directory, name) = path.rsplit_once('/').ok_or(Errno::Inval)?;
        let parent = self.place_directory(directory, None, now)?;
        check_name(name)?;
        if self.entry(parent, name)?.is_some() {
            return Err(Errno::Exist);
        }
        let node = self.insert(Kind::File(Content::Shared(bytes)), false, 0, now);
        self.attach(parent, name, node, false)
    }

    /// Shows a grant in the tree. A directory that is there already keeps its names, and shows those of the host beside
    /// them; below it, nothing can be changed then but by the grant.
    ///
    /// # Errors
    /// [`Errno::Exist`] if something is in the way, or as a script would get for such a path.
    pub(crate) fn place_grant(&mut self, grant: HostGrant, now: u64) -> Result<(), Errno> {
        let HostGrant { guest, writable, root } = grant;
        let depth = guest.split('/').filter(|name| !name.is_empty()).count();
        if let HostRoot::File(_) = root {
            let (directory, name) = guest.rsplit_once('/').ok_or(Errno::Inval)?;
            let parent = self.place_directory(directory, None, now)?;
            check_name(name)?;
            if self.entry(parent, name)?.is_some() {
                return Err(Errno::Exist);
            }
            // The number of the grant is known only when it has been taken.
            let node = self.insert(Kind::Granted(usize::MAX), false, 0, now);
            let number = self.hosts.add(root, writable, node, depth)?;
            self.node_mut(node)?.kind = Kind::Granted(number);
            return self.attach(parent, name, node, false);
        }
        let node = self.place_directory(guest.trim_end_matches('/'), None, now)?;
        if self.node(node)?.directory()?.host.as_ref().is_some_and(|host| host.parent().is_none()) {
            return Err(Errno::Exist);
        }
        let path = HostPath::root(self.hosts.add(root, writable, node, depth)?);
        self.hosts.nodes.insert(path.clone(), node);
        let node = self.node_mut(node)?;
        node.writable = false;
        node.directory_mut()?.host = Some(path);
        Ok(())
    }

    /// The directory at an absolute path, made if necessary: writable if told so or if the one above is.
    fn place_directory(&mut self, path: &str, writable: Option<bool>, now: u64) -> Result<NodeId, Errno> {
        let mut current = ROOT;
        let mut depth = 0_usize;
        let names = path.strip_prefix('/').or(path.is_empty().then_some("")).ok_or(Errno::Inval)?;
        for name in names.split('/').filter(|name| !name.is_empty()) {
            check_name(name)?;
            depth = depth.saturating_add(1);
            if depth > MAX_DEPTH {
                return Err(Errno::Nametoolong);
            }
            current = match self.entry(current, name)? {
                Some(entry) => entry.node,
                None => {
                    let writable = writable.unwrap_or(self.node(current)?.writable);
                    // On the way to a grant inside of another one, the names of the outer one stay in sight.
                    let above = self.node(current)?.directory()?.host.as_ref();
                    let host = above.map(|host| host.join(name)).transpose()?;
                    let made = Kind::Directory(Directory { host: host.clone(), ..Directory::new(current) });
                    let node = self.insert(made, writable && host.is_none(), 0, now);
                    if let Some(host) = host {
                        self.hosts.nodes.insert(host, node);
                    }
                    self.attach(current, name, node, false)?;
                    node
                }
            };
        }
        self.node(current)?.directory()?;
        Ok(current)
    }

    /// A node that a name or a descriptor refers to.
    ///
    /// # Errors
    /// [`Errno::Badf`] if it does not exist, which the counts of references rule out.
    pub(crate) fn node(&self, id: NodeId) -> Result<&Node, Errno> {
        self.nodes.get(id.0).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    /// As [`node`](Self::node), to change it.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(id.0).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    fn insert(&mut self, kind: Kind, writable: bool, held: u64, now: u64) -> NodeId {
        let inode = self.next_inode;
        self.next_inode = inode.saturating_add(1);
        let node = Node {
            inode,
            kind,
            writable,
            accessed: now,
            modified: now,
            changed: now,
            // The root has no name and stays for ever.
            links: u64::from(inode == 1),
            opens: 0,
            held,
            written: false,
        };
        match self.free.pop() {
            Some(index) => {
                if let Some(slot) = self.nodes.get_mut(index) {
                    *slot = Some(node);
                }
                NodeId(index)
            }
            None => {
                let id = NodeId(self.nodes.len());
                self.nodes.push(Some(node));
                id
            }
        }
    }

    /// Frees a node that nothing refers to any more.
    fn sweep(&mut self, id: NodeId) {
        let Some(slot) = self.nodes.get_mut(id.0) else { return };
        if let Some(node) = slot.take_if(|node| node.links == 0 && node.opens == 0) {
            self.ledger.release(node.held());
            self.free.push(id.0);
        }
    }

    /// Counts a descriptor.
    pub(crate) fn open(&mut self, id: NodeId) -> Result<(), Errno> {
        let node = self.node_mut(id)?;
        node.opens = node.opens.saturating_add(1);
        Ok(())
    }

    /// Counts a descriptor no more.
    pub(crate) fn close(&mut self, id: NodeId) {
        if let Ok(node) = self.node_mut(id) {
            node.opens = node.opens.saturating_sub(1);
        }
        self.sweep(id);
    }

    fn entry(&self, directory: NodeId, name: &str) -> Result<Option<Entry>, Errno> {
        Ok(self.node(directory)?.directory()?.entries.get(name).copied())
    }

    /// Gives a node a name, whose costs have been taken if `charged`.
    fn attach(&mut self, directory: NodeId, name: &str, node: NodeId, charged: bool) -> Result<(), Errno> {
        self.node_mut(directory)?.directory_mut()?.entries.insert(name.into(), Entry { node, charged });
        let node = self.node_mut(node)?;
        node.links = node.links.saturating_add(1);
        Ok(())
    }

    /// Takes a name from a node and gives its costs back.
    fn detach(&mut self, directory: NodeId, name: &str, now: u64) -> Result<(), Errno> {
        let Some(entry) = self.node_mut(directory)?.directory_mut()?.entries.remove(name) else {
            return Err(Errno::Noent);
        };
        if entry.charged {
            self.ledger.release(name_bytes(name));
            self.ledger.give_name();
        }
        let node = self.node_mut(entry.node)?;
        node.links = node.links.saturating_sub(1);
        node.changed = now;
        if node.links == 0
            && let Kind::Directory(gone) = &mut node.kind
        {
            // The directory above may go too while this one is still open.
            gone.parent = entry.node;
        }
        self.touch(directory, now);
        self.sweep(entry.node);
        Ok(())
    }

    /// Marks contents as changed.
    fn touch(&mut self, id: NodeId, now: u64) {
        if let Ok(node) = self.node_mut(id) {
            node.modified = now;
            node.changed = now;
        }
    }

    /// Takes the costs of a new name.
    fn charge_name(&mut self, name: &str) -> Result<(), Errno> {
        self.ledger.take_name()?;
        self.ledger.hold(name_bytes(name)).inspect_err(|_| self.ledger.give_name())
    }

    /// Whether names can be made and removed in a directory.
    ///
    /// # Errors
    /// [`Errno::Noent`] in a directory that was removed, [`Errno::Rofs`] in one that is read-only.
    fn check_changeable(&self, directory: NodeId) -> Result<(), Errno> {
        let node = self.node(directory)?;
        node.directory()?;
        if node.links == 0 {
            return Err(Errno::Noent);
        }
        if node.writable { Ok(()) } else { Err(Errno::Rofs) }
    }

    /// Whether a node is not a grant, nor on the way to one inside of another.
    ///
    /// # Errors
    /// [`Errno::Busy`].
    fn check_no_grant(&self, id: NodeId) -> Result<(), Errno> {
        match &self.node(id)?.kind {
            Kind::Directory(Directory { host: Some(_), .. }) | Kind::Granted(_) => Err(Errno::Busy),
            Kind::Directory(_) | Kind::File(_) | Kind::Device(_) | Kind::Link(_) => Ok(()),
        }
    }

    /// Whether a name can be made at a place.
    ///
    /// # Errors
    /// [`Errno::Exist`], or as [`check_changeable`](Self::check_changeable).
    fn check_free(&self, place: &Place) -> Result<(), Errno> {
        if place.node.is_some() || place.name.is_empty() {
            return Err(Errno::Exist);
        }
        self.check_changeable(place.parent)
    }

    fn create(&mut self, place: &Place, kind: Kind, extra: u64, now: u64) -> Result<NodeId, Errno> {
        self.check_free(place)?;
        self.charge_name(&place.name)?;
        let held = NODE_BYTES.saturating_add(extra);
        if let Err(error) = self.ledger.hold(held) {
            self.ledger.give_name();
            self.ledger.release(name_bytes(&place.name));
            return Err(error);
        }
        let node = self.insert(kind, true, held, now);
        self.attach(place.parent, &place.name, node, true)?;
        self.touch(place.parent, now);
        Ok(node)
    }

    /// Makes an empty file.
    ///
    /// # Errors
    /// [`Errno::Exist`], [`Errno::Rofs`], [`Errno::Nospc`] by quota, [`Errno::Isdir`] for a path that ends in a slash.
    pub(crate) fn create_file(&mut self, place: &Place, now: u64) -> Result<NodeId, Errno> {
        if place.slash && place.node.is_none() {
            return Err(Errno::Isdir);
        }
        let node = self.create(place, Kind::File(Content::Owned(Chunks::default())), 0, now)?;
        self.count_written(node);
        Ok(node)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As [`create_file`](Self::create_file), and [`Errno::Nametoolong`] below [`MAX_DEPTH`].
    pub(crate) fn create_directory(&mut self, place: &Place, now: u64) -> Result<NodeId, Errno> {
        self.check_free(place)?;
        if self.depth(place.parent)? >= MAX_DEPTH {
            return Err(Errno::Nametoolong);
        }
        self.create(place, Kind::Directory(Directory::new(place.parent)), 0, now)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As [`create_file`](Self::create_file), [`Errno::Noent`] for a path that ends in a slash.
    pub(crate) fn create_link(&mut self, place: &Place, target: &str, now: u64) -> Result<NodeId, Errno> {
        if place.slash && place.node.is_none() {
            return Err(Errno::Noent);
        }
        let bytes = u64::try_from(target.len()).unwrap_or(u64::MAX);
        self.create(place, Kind::Link(target.into()), bytes, now)
    }

    /// Gives a file or symbolic link one more name.
    ///
    /// # Errors
    /// [`Errno::Perm`] for a directory, [`Errno::Rofs`] for a node of the host, else as for a new file.
    pub(crate) fn link(&mut self, node: NodeId, place: &Place, now: u64) -> Result<(), Errno> {
        if place.slash && place.node.is_none() {
            return Err(Errno::Noent);
        }
        self.check_free(place)?;
        let source = self.node(node)?;
        if source.is_directory() {
            return Err(Errno::Perm);
        }
        if !source.writable {
            return Err(Errno::Rofs);
        }
        self.charge_name(&place.name)?;
        self.attach(place.parent, &place.name, node, true)?;
        self.node_mut(node)?.changed = now;
        self.touch(place.parent, now);
        Ok(())
    }

    /// Removes the name of a file or symbolic link.
    ///
    /// # Errors
    /// [`Errno::Isdir`] for a directory, [`Errno::Noent`], [`Errno::Rofs`].
    pub(crate) fn unlink(&mut self, place: &Place, now: u64) -> Result<(), Errno> {
        if self.node(place.existing()?)?.is_directory() {
            return Err(Errno::Isdir);
        }
        self.check_changeable(place.parent)?;
        self.detach(place.parent, &place.name, now)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Errno::Notdir`], [`Errno::Notempty`], [`Errno::Noent`], [`Errno::Rofs`], [`Errno::Inval`] for a path that
    /// ends in `.` or `..`.
    pub(crate) fn remove_directory(&mut self, place: &Place, now: u64) -> Result<(), Errno> {
        let node = self.node(place.existing()?)?;
        let empty = node.directory()?.entries.is_empty();
        if place.name.is_empty() {
            return Err(Errno::Inval);
        }
        self.check_changeable(place.parent)?;
        self.check_no_grant(place.existing()?)?;
        if !empty {
            return Err(Errno::Notempty);
        }
        self.detach(place.parent, &place.name, now)
    }

    /// Moves a name, replacing what is in the way if it is of the same kind and, for a directory, empty.
    ///
    /// # Errors
    /// Those of `rename(2)`.
    pub(crate) fn rename(&mut self, from: &Place, to: &Place, now: u64) -> Result<(), Errno> {
        let moved = from.existing()?;
        if from.name.is_empty() || to.name.is_empty() {
            return Err(Errno::Busy);
        }
        self.check_changeable(from.parent)?;
        self.check_changeable(to.parent)?;
        self.check_no_grant(moved)?;
        if let Some(target) = to.node {
            self.check_no_grant(target)?;
        }
        let is_directory = self.node(moved)?.is_directory();
        if !is_directory && (from.slash || to.slash) {
            return Err(Errno::Notdir);
        }
        if let Some(target) = to.node {
            if target == moved {
                return Ok(());
            }
            // One above the other is refused before their kinds are compared, as Linux does it.
            if is_directory && self.is_within(to.parent, moved)? {
                return Err(Errno::Inval);
            }
            if self.node(target)?.is_directory() && self.is_within(from.parent, target)? {
                return Err(Errno::Notempty);
            }
            match &self.node(target)?.kind {
                Kind::Directory(_) if !is_directory => return Err(Errno::Isdir),
                Kind::Directory(directory) if !directory.entries.is_empty() => return Err(Errno::Notempty),
                Kind::Directory(_) => {}
                Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Link(_) if is_directory => {
                    return Err(Errno::Notdir);
                }
                Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Link(_) => {}
            }
        }
        if is_directory {
            if self.is_within(to.parent, moved)? {
                return Err(Errno::Inval);
            }
            let height = self.height(moved)?;
            if self.depth(to.parent)?.saturating_add(height) > MAX_DEPTH {
                return Err(Errno::Nametoolong);
            }
        }
        // The name in the way is removed first, so that replacing works at the quota. Only the difference in the
        // length of the names can then be refused, and it is checked before anything changes.
        let letters = |name: &str| u64::try_from(name.len()).unwrap_or(u64::MAX);
        let source_charged = self.entry(from.parent, &from.name)?.is_some_and(|entry| entry.charged);
        let given_back = if source_charged { letters(&from.name).saturating_add(ENTRY_BYTES) } else { 0 };
        if name_bytes(&to.name).saturating_sub(given_back) > self.ledger.room() {
            return Err(Errno::Nospc);
        }
        if to.node.is_some() {
            self.detach(to.parent, &to.name, now)?;
        }
        // Held like a descriptor while it has no name.
        self.open(moved)?;
        let parent_kept = is_directory.then_some(to.parent);
        self.detach(from.parent, &from.name, now)?;
        // A name that the host had made is charged from here on, even beyond the number of files.
        let charged = self.charge_name(&to.name).is_ok();
        self.attach(to.parent, &to.name, moved, charged)?;
        if let Some(parent) = parent_kept {
            self.node_mut(moved)?.directory_mut()?.parent = parent;
        }
        self.close(moved);
        self.touch(to.parent, now);
        Ok(())
    }

    /// Directories above and including this one, without the root.
    fn depth(&self, directory: NodeId) -> Result<usize, Errno> {
        let mut depth = 0_usize;
        let mut current = directory;
        loop {
            let parent = self.node(current)?.directory()?.parent;
            if parent == current {
                return Ok(depth);
            }
            depth = depth.saturating_add(1);
            current = parent;
        }
    }

    /// Directories below each other at and under this one.
    fn height(&mut self, directory: NodeId) -> Result<usize, Errno> {
        let mut highest = 0;
        let mut seen = 0_u64;
        let mut left = vec![(directory, 1_usize)];
        while let Some((id, height)) = left.pop() {
            highest = highest.max(height);
            for entry in self.node(id)?.directory()?.entries.values() {
                seen = seen.saturating_add(1);
                if self.node(entry.node)?.is_directory() {
                    left.push((entry.node, height.saturating_add(1)));
                }
            }
        }
        self.ledger.spend(price::NAME.saturating_mul(seen));
        Ok(highest)
    }

    /// Whether a directory is another one or lies below it.
    fn is_within(&self, directory: NodeId, other: NodeId) -> Result<bool, Errno> {
        let mut current = directory;
        loop {
            if current == other {
                return Ok(true);
            }
            let parent = self.node(current)?.directory()?.parent;
            if parent == current {
                return Ok(false);
            }
            current = parent;
        }
    }

    /// Finds where `path` leads from the directory `base`, following symbolic links on the way, and in the last place
    /// if `follow` or if a slash comes after it.
    ///
    /// A path stays below `base`: an absolute one, and one whose `..` lead out of it, are [`Errno::Perm`], as in
    /// `wasmtime-wasi`. Above the root there is nothing to be kept from, so `/..` is `/`.
    ///
    /// # Errors
    /// [`Errno::Noent`], [`Errno::Notdir`], [`Errno::Loop`], [`Errno::Nametoolong`], [`Errno::Perm`].
    pub(crate) fn resolve(&mut self, base: &Spot, path: &str, follow: bool) -> Result<Where, Errno> {
        if path.is_empty() {
            return Err(Errno::Noent);
        }
        if path.starts_with('/') {
            return Err(Errno::Perm);
        }
        if let Spot::Node(node) = base {
            self.node(*node)?.directory()?;
        }
        let from_root = *base == Spot::Node(ROOT);
        let mut current = base.clone();
        let mut hops = 0_u32;
        let mut walk = Walk::new(path);
        while let Some(name) = walk.next() {
            self.ledger.spend(price::NAME);
            let name: &str = &name;
            match name {
                "." => continue,
                ".." => {
                    if current != *base {
                        current = self.above(&current)?;
                    } else if !from_root {
                        return Err(Errno::Perm);
                    }
                    continue;
                }
                _ => {}
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(Errno::Nametoolong);
            }
            let last = walk.is_done();
            let slash = last && walk.slash;
            let target = match self.find(&current, name)? {
                Found::Nothing(Spot::Node(parent)) if last => {
                    return Ok(Where::Memory(Place { parent, name: name.into(), node: None, slash }));
                }
                Found::Nothing(Spot::Host(at)) if last => {
                    return Ok(Where::Host(HostPlace { at, named: true, found: None, slash }));
                }
                Found::Nothing(_) => return Err(Errno::Noent),
                Found::Node { parent, node, name: found } => {
                    // A grant that was reached on another way lies elsewhere in the tree.
                    if found.is_empty() && !from_root {
                        return Err(Errno::Perm);
                    }
                    let place = || Ok(Where::Memory(Place { parent, name: found.into(), node: Some(node), slash }));
                    match &self.node(node)?.kind {
                        Kind::Directory(_) if last => return place(),
                        Kind::Directory(_) => {
                            current = Spot::Node(node);
                            continue;
                        }
                        Kind::Granted(grant) if last && !slash => {
                            let at = HostPath::root(*grant);
                            let found = self.hosts.look(&at, &mut self.ledger)?;
                            return Ok(Where::Host(HostPlace { at, named: true, found, slash }));
                        }
                        Kind::File(_) | Kind::Device(_) if last && !slash => return place(),
                        Kind::File(_) | Kind::Device(_) | Kind::Granted(_) => return Err(Errno::Notdir),
                        Kind::Link(_) if last && !slash && !follow => return place(),
                        Kind::Link(target) => target.clone(),
                    }
                }
                Found::Host(at, found) => {
                    let place = |at| Ok(Where::Host(HostPlace { at, named: true, found: Some(found), slash }));
                    match found.kind {
                        HostKind::Directory if last => return place(at),
                        HostKind::Directory => {
                            current = self.spot(at);
                            continue;
                        }
                        HostKind::File | HostKind::Other if last && !slash => return place(at),
                        HostKind::File | HostKind::Other => return Err(Errno::Notdir),
                        HostKind::Link if last && !slash && !follow => return place(at),
                        HostKind::Link => self.hosts.read_link(&at)?,
                    }
                }
            };
            hops = hops.saturating_add(1);
            if hops > MAX_HOPS {
                return Err(Errno::Loop);
            }
            walk.follow(target)?;
        }
        Ok(match current {
            Spot::Node(node) => {
                Where::Memory(Place { parent: node, name: String::new(), node: Some(node), slash: true })
            }
            Spot::Host(at) => {
                let found = self.hosts.look(&at, &mut self.ledger)?;
                Where::Host(HostPlace { at, named: false, found, slash: true })
            }
        })
    }

    /// Looks for a name in a directory: among the nodes, and then on the host.
    fn find<'a>(&mut self, directory: &Spot, name: &'a str) -> Result<Found<'a>, Errno> {
        let at = match directory {
            Spot::Node(parent) => {
                let parent = *parent;
                self.fill_devices(parent)?;
                let directory = self.node(parent)?.directory()?;
                match (directory.entries.get(name), &directory.host) {
                    (Some(entry), _) => return Ok(Found::Node { parent, node: entry.node, name }),
                    (None, None) => return Ok(Found::Nothing(Spot::Node(parent))),
                    (None, Some(host)) => host.join(name)?,
                }
            }
            Spot::Host(at) => at.join(name)?,
        };
        let Some(found) = self.hosts.look(&at, &mut self.ledger)? else {
            return Ok(Found::Nothing(Spot::Host(at)));
        };
        Ok(match self.hosts.protected(&at, &found) {
            Some(node) => Found::Node { parent: node, node, name: "" },
            None => Found::Host(at, found),
        })
    }

    /// A place of the host, as the node that stands for it where there is one.
    fn spot(&self, at: HostPath) -> Spot {
        self.hosts.nodes.get(&at).map_or(Spot::Host(at), |node| Spot::Node(*node))
    }

    /// The directory above; the root's is the root.
    fn above(&self, spot: &Spot) -> Result<Spot, Errno> {
        Ok(match spot {
            Spot::Node(node) => Spot::Node(self.node(*node)?.directory()?.parent),
            // The place of a grant itself is always a node.
            Spot::Host(at) => self.spot(at.parent().ok_or(Errno::Io)?),
        })
    }

    /// The names in a directory as they are now.
    ///
    /// # Errors
    /// [`Errno::Acces`] for `/home` unless something in it is granted, [`Errno::Nomem`] when the memory quota has no room for it, [`Stop::HostMemory`] when the host has none.
    pub(crate) fn list(&mut self, spot: &Spot) -> Result<Listing, Fault> {
        if let Spot::Node(node) = spot {
            self.fill_devices(*node)?;
            let directory = self.node(*node)?.directory()?;
            if *node == HOME && directory.entries.len() <= 1 && directory.host.is_none() {
                return Err(Errno::Acces.into());
            }
        }
        let (inode, above, host) = match spot {
            Spot::Node(id) => {
                let directory = self.node(*id)?.directory()?;
                (self.node(*id)?.inode, Spot::Node(directory.parent), directory.host.clone())
            }
            Spot::Host(at) => (self.host_inode(at)?, self.above(spot)?, Some(at.clone())),
        };
        let above = match above {
            Spot::Node(id) => self.node(id)?.inode,
            Spot::Host(at) => self.host_inode(&at)?,
        };
        let on_host = match host {
            // Where nothing is on the host, there is only what leads to another grant.
            Some(at) => match self.hosts.list(&at, &mut self.ledger) {
                Err(Errno::Noent | Errno::Notdir) if matches!(spot, Spot::Node(_)) => Vec::new(),
                listed => listed?,
            },
            None => Vec::new(),
        };
        let mut entries = Vec::new();
        let of_node = match spot {
            Spot::Node(id) => Some(self.node(*id)?.directory()?),
            Spot::Host(_) => None,
        };
        let most = of_node.map_or(0, |directory| directory.entries.len()).saturating_add(on_host.len());
        entries.try_reserve_exact(most.saturating_add(2)).map_err(|_| Stop::HostMemory)?;
        for (name, inode) in [(".", inode), ("..", above)] {
            entries.push(Listed { name: name.into(), inode, filetype: Filetype::Directory });
        }
        for (name, entry) in of_node.iter().flat_map(|directory| &directory.entries) {
            let node = self.node(entry.node)?;
            entries.push(Listed { name: name.clone(), inode: node.inode, filetype: node.filetype() });
        }
        let of_host = on_host
            .into_iter()
            .filter(|(name, ..)| of_node.is_none_or(|directory| !directory.entries.contains_key(name)));
        let nodes = entries.len();
        entries.extend(of_host.map(|(name, inode, filetype)| Listed { name, inode, filetype }));
        if entries.len() > nodes
            && let Some(names) = entries.get_mut(2..)
        {
            names.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        }
        // Letters of `.` and `..` are not counted, as they are not kept.
        let held = entries
            .iter()
            .skip(2)
            .fold(LISTED_BYTES.saturating_mul(2), |sum, listed| sum.saturating_add(listed_bytes(&listed.name)));
        self.ledger.hold(held).map_err(|_| Errno::Nomem)?;
        self.ledger.spend(price::NAME.saturating_mul(u64::try_from(entries.len()).unwrap_or(u64::MAX)));
        Ok(Listing { entries, held })
    }

    fn host_inode(&mut self, at: &HostPath) -> Result<u64, Errno> {
        let found = self.hosts.look(at, &mut self.ledger)?.ok_or(Errno::Noent)?;
        Ok(self.hosts.filestat(&found, &mut self.ledger)?.inode)
    }

    /// Gives back what a listing took.
    pub(crate) fn drop_listing(&mut self, listing: Listing) {
        self.ledger.release(listing.held);
    }

    /// Counts a file among those written, once.
    fn count_written(&mut self, id: NodeId) {
        if let Ok(node) = self.node_mut(id)
            && !node.written
        {
            node.written = true;
            self.ledger.count_file();
        }
    }

    /// The bytes of a file to change, and the ledger.
    fn owned(&mut self, id: NodeId) -> Result<(&mut Chunks, &mut Ledger), Errno> {
        let node = self.nodes.get_mut(id.0).and_then(Option::as_mut).ok_or(Errno::Badf)?;
        if !node.writable {
            return Err(Errno::Rofs);
        }
        match &mut node.kind {
            Kind::File(Content::Owned(chunks)) => Ok((chunks, &mut self.ledger)),
            Kind::File(Content::Shared(_))
            | Kind::Directory(_)
            | Kind::Device(_)
            | Kind::Granted(_)
            | Kind::Link(_) => Err(Errno::Badf),
        }
    }

    /// Writes ranges of guest memory into a file and says how many bytes fitted: fewer than asked for when a quota
    /// ends in the middle.
    ///
    /// # Errors
    /// [`Errno::Nospc`] when not one byte fits, [`Errno::Fbig`] past the largest size, [`Errno::Rofs`];
    /// [`Stop::HostMemory`].
    pub(crate) fn write(
        &mut self,
        id: NodeId,
        offset: u64,
        mem: &[u8],
        ranges: &Iovecs,
        now: u64,
    ) -> Result<u64, Fault> {
        if let Kind::Device(device) = self.node(id)?.kind {
            return match device {
                Device::Null => Ok(ranges.total()),
                Device::Output(_) => Err(Errno::Badf.into()),
            };
        }
        let (chunks, ledger) = self.owned(id)?;
        if ranges.total() == 0 {
            return Ok(0);
        }
        let below_largest = ledger.largest_file().saturating_sub(offset);
        if below_largest == 0 {
            return Err(ledger.check_size(u64::MAX).err().unwrap_or(Errno::Fbig).into());
        }
        let most = ledger.writable_bytes(ranges.total().min(below_largest));
        let mut count = 0_u64;
        for (pointer, len) in ranges.iter() {
            let len = u32::try_from(most.saturating_sub(count).min(u64::from(len))).unwrap_or(len);
            let bytes = abi::slice(mem, pointer, len)?;
            let written = chunks.write(offset.saturating_add(count), bytes, ledger)?;
            count = count.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
            if written < bytes.len() {
                break;
            }
        }
        if count < most {
            ledger.refuse_memory(most.saturating_sub(count));
        }
        if count == 0 {
            return Err(Errno::Nospc.into());
        }
        ledger.count_written(count);
        self.count_written(id);
        self.touch(id, now);
        Ok(count)
    }

    /// Sets the size of a file. New bytes are zero and take no memory until they are written.
    ///
    /// # Errors
    /// [`Errno::Fbig`] past the memory quota, [`Errno::Rofs`], [`Errno::Inval`] for a device.
    pub(crate) fn resize(&mut self, id: NodeId, size: u64, now: u64) -> Result<(), Errno> {
        if let Kind::Device(_) = self.node(id)?.kind {
            return Err(Errno::Inval);
        }
        let (chunks, ledger) = self.owned(id)?;
        ledger.check_size(size)?;
        chunks.resize(size, ledger);
        self.count_written(id);
        self.touch(id, now);
        Ok(())
    }

    /// Sets the times of a node, in nanoseconds since 1970.
    ///
    /// # Errors
    /// [`Errno::Rofs`].
    pub(crate) fn set_times(
        &mut self,
        id: NodeId,
        accessed: Option<u64>,
        modified: Option<u64>,
        now: u64,
    ) -> Result<(), Errno> {
        let node = self.node_mut(id)?;
        if !node.writable {
            return Err(Errno::Rofs);
        }
        node.accessed = accessed.unwrap_or(node.accessed);
        node.modified = modified.unwrap_or(node.modified);
        node.changed = now;
        Ok(())
    }

    /// All regular files below a directory with their paths relative to it, sorted; links are not followed, and names
    /// of one file share its bytes.
    pub(crate) fn collect(&self, directory: NodeId) -> Vec<(String, Arc<[u8]>)> {
        let mut shared: HashMap<NodeId, Arc<[u8]>> = HashMap::new();
        let mut files = Vec::new();
        let mut left = vec![(String::new(), directory)];
        while let Some((prefix, id)) = left.pop() {
            let Ok(directory) = self.node(id).and_then(Node::directory) else { continue };
            for (name, entry) in &directory.entries {
                let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
                match self.node(entry.node).map(|node| &node.kind) {
                    Ok(Kind::Directory(_)) => left.push((path, entry.node)),
                    Ok(Kind::File(Content::Shared(bytes))) => files.push((path, bytes.clone())),
                    Ok(Kind::File(Content::Owned(bytes))) => {
                        let bytes = shared.entry(entry.node).or_insert_with(|| bytes.to_vec().into());
                        files.push((path, bytes.clone()));
                    }
                    Ok(Kind::Device(_) | Kind::Granted(_) | Kind::Link(_)) | Err(_) => {}
                }
            }
        }
        files.sort_by(|(left, _), (right, _)| left.cmp(right));
        files
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Tree {
    /// Checks that names, counts and parents agree with each other.
    pub(crate) fn check(&self) {
        let mut links: HashMap<NodeId, u64> = HashMap::from([(ROOT, 1)]);
        let mut held = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else {
                assert!(self.free.contains(&index));
                continue;
            };
            held += node.held();
            if let Kind::File(Content::Owned(chunks)) = &node.kind {
                chunks.check();
            }
            let Kind::Directory(directory) = &node.kind else { continue };
            for (name, entry) in &directory.entries {
                *links.entry(entry.node).or_default() += 1;
                held += if entry.charged { name_bytes(name) } else { 0 };
                if let Ok(Node { kind: Kind::Directory(below), .. }) = self.node(entry.node) {
                    assert_eq!(below.parent, NodeId(index));
                }
            }
        }
        assert!(held <= self.ledger.held());
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(node) = node {
                assert_eq!(node.links, links.get(&NodeId(index)).copied().unwrap_or(0));
                assert!(node.links + node.opens > 0);
            }
        }
    }

    /// Removes every name of the script.
    pub(crate) fn clear(&mut self) {
        loop {
            let found = self.nodes.iter().enumerate().find_map(|(index, node)| match &node.as_ref()?.kind {
                Kind::Directory(directory) => directory.entries.iter().find_map(|(name, entry)| {
                    let empty = match &self.node(entry.node).ok()?.kind {
                        Kind::Directory(below) => below.entries.is_empty(),
                        Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Link(_) => true,
                    };
                    (entry.charged && empty).then(|| (NodeId(index), name.clone()))
                }),
                Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Link(_) => None,
            });
            match found {
                Some((directory, name)) => assert!(self.detach(directory, &name, 0).is_ok()),
                None => return,
            }
        }
    }
}

/// What a name in a directory leads to.
enum Found<'a> {
    /// Nothing: the directory, or the place on the host where it would be.
    Nothing(Spot),
    /// A node; without a name if it was found by what it is and not by what it is called.
    Node { parent: NodeId, node: NodeId, name: &'a str },
    /// Something on the host.
    Host(HostPath, HostFound),
}

/// What is left of a path that is being walked: the path, and on top of it the targets of links that are followed.
struct Walk<'a> {
    path: &'a str,
    targets: Vec<(Arc<str>, usize)>,
    /// Whether a slash comes after the last name, so that only a directory fits.
    slash: bool,
    /// Bytes of all texts so far.
    bytes: usize,
}

/// One name of a path.
enum Name<'a> {
    Path(&'a str),
    Target(Arc<str>, std::ops::Range<usize>),
}

impl std::ops::Deref for Name<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Path(name) => name,
            Self::Target(text, range) => text.get(range.clone()).unwrap_or_default(),
        }
    }
}

impl<'a> Walk<'a> {
    fn new(path: &'a str) -> Self {
        let names = path.trim_end_matches('/');
        Self { path: names, targets: Vec::new(), slash: names.len() < path.len(), bytes: path.len() }
    }

    /// Puts the target of a link, which is relative, in front of what is left.
    fn follow(&mut self, target: Arc<str>) -> Result<(), Errno> {
        self.bytes = self.bytes.saturating_add(target.len());
        if self.bytes > MAX_WALK_BYTES {
            return Err(Errno::Nametoolong);
        }
        if target.starts_with('/') {
            return Err(Errno::Perm);
        }
        if self.is_done() && target.ends_with('/') {
            self.slash = true;
        }
        self.targets.push((target, 0));
        Ok(())
    }

    /// Whether no name is left. There is one in every rest that is not only slashes.
    fn is_done(&mut self) -> bool {
        while let Some((text, at)) = self.targets.last() {
            if text.get(*at..).unwrap_or_default().bytes().any(|byte| byte != b'/') {
                return false;
            }
            self.targets.pop();
        }
        self.path.is_empty()
    }

    /// Takes the next name.
    fn next(&mut self) -> Option<Name<'a>> {
        if self.is_done() {
            return None;
        }
        let Some((text, at)) = self.targets.last_mut() else {
            let names = self.path.trim_start_matches('/');
            let (name, after) = names.split_at_checked(names.find('/').unwrap_or(names.len()))?;
            self.path = after;
            return Some(Name::Path(name));
        };
        let rest = text.get(*at..)?;
        let start = at.saturating_add(rest.len().saturating_sub(rest.trim_start_matches('/').len()));
        let names = text.get(start..)?;
        let end = start.saturating_add(names.find('/').unwrap_or(names.len()));
        *at = end;
        Some(Name::Target(text.clone(), start..end))
    }
}

/// Whether a name of the host can be one of a file.
fn check_name(name: &str) -> Result<(), Errno> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Errno::Nametoolong);
    }
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Errno::Inval);
    }
    Ok(())
}

/// What a name takes of the memory quota.
fn name_bytes(name: &str) -> u64 {
    u64::try_from(name.len()).unwrap_or(u64::MAX).saturating_add(ENTRY_BYTES)
}

/// What a listed name takes of the memory quota. Its letters may outlive the name itself.
fn listed_bytes(name: &str) -> u64 {
    u64::try_from(name.len()).unwrap_or(u64::MAX).saturating_add(LISTED_BYTES)
}
