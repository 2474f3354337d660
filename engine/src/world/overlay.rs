//! Overlays: host directories and files that a script reads through and changes in memory only.
//!
//! What a script looks at below an overlay becomes a node of the tree at the first look, and what was found there is kept
//! as its **base**: kind, size, times, inode, and the digest of what was read in full. From then on the tree alone
//! decides. A name with a base and without an entry is one that was removed, so nothing else is needed to hide what the
//! host has there. A file's bytes stay on the host until it is opened for writing, renamed or linked; then they are copied
//! into memory, within the quotas. A directory that is on the host stays where it is (renaming it is [`Errno::Xdev`]),
//! so a place below an overlay and the place of the host beneath it always have the same names.
//!
//! Changes are what bases and tree differ in when the run is over. The host is only read here; `changes.rs` of the engine
//! makes changes, if somebody asks for that.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use cap_std::fs::{Dir, Metadata, MetadataExt as _};
use sha2::{Digest as _, Sha256};

use super::abi::{Errno, Iovecs};
use super::content::{Chunks, Content};
use super::host::{HostFound, HostKind, HostPath, Hosts, READ, errno, leads_up};
use super::quota::Ledger;
use super::tree::{Directory, Kind, NODE_BYTES, Node, NodeId, Place, Tree, name_bytes};
use super::{Fault, price};

/// What a base takes of the memory quota besides its path, in bytes.
const BASE_BYTES: u64 = 192;
/// Bytes copied from the host at one read.
const PIECE: usize = 64 << 10;
/// Bytes copied from the host in one call of the guest: then deadline and canceler are looked at.
const STEP: u64 = 8 << 20;

/// What tells one state of something on the host from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, i64),
    /// Seconds and nanoseconds since 1970; nobody can set it.
    pub(crate) changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// What was found below an overlay at the first look.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) kind: HostKind,
    pub(crate) stamp: Stamp,
    /// SHA-256 of a file that was read from its beginning to its end.
    pub(crate) sha256: Option<[u8; 32]>,
    /// The target of a link.
    pub(crate) target: Option<Arc<str>>,
}

impl HostFound {
    /// What was found, as a base; of a link with its target.
    fn base(&self, target: Option<Arc<str>>) -> Base {
        Base { kind: self.kind, stamp: self.stamp, sha256: None, target }
    }
}

/// Where the changes of an overlay are made.
#[derive(Debug)]
pub(crate) struct OverlayTarget {
    /// Where the script sees the overlay.
    pub(super) guest: String,
    pub(crate) dir: Dir,
    /// The one file of the directory that is granted, if it is not the directory.
    pub(super) file: Option<String>,
    /// The node of the overlay.
    pub(super) node: NodeId,
}

/// A file of the host below an overlay whose bytes are not copied.
#[derive(Clone, Debug)]
pub(crate) struct Lower {
    at: HostPath,
    len: u64,
    /// Open while a descriptor is.
    file: Option<Arc<File>>,
    /// Digest of what was read in order from the beginning, and how far that goes.
    read: Option<(Sha256, u64)>,
    /// What is copied so far, and its digest.
    copying: Option<(Chunks, Sha256)>,
}

impl Lower {
    fn new(at: HostPath, len: u64) -> Self {
        Self { at, len, file: None, read: None, copying: None }
    }

    /// Size in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes taken of the memory quota.
    pub(super) fn held(&self) -> u64 {
        self.copying.as_ref().map_or(0, |(chunks, _)| chunks.held())
    }

    /// Opens it for a descriptor.
    pub(super) fn open(&mut self, hosts: &mut Hosts) -> Result<(), Errno> {
        if self.file.is_none() {
            let file = hosts.open_to_read(&self.at)?;
            self.len = file.metadata().map_err(|error| errno(&error))?.len();
            hosts.saw(b's', &self.len.to_le_bytes());
            self.file = Some(file);
        }
        Ok(())
    }

    /// No descriptor is open any more.
    pub(super) fn close(&mut self) {
        self.file = None;
        self.read = None;
    }

    /// Copies into memory, some of it at a time; `None` while there is more.
    ///
    /// # Errors
    /// [`Errno::Nospc`] and [`Errno::Fbig`] by quota, and those of the operating system. What was copied stays held.
    fn copy(&mut self, hosts: &mut Hosts, ledger: &mut Ledger) -> Result<Option<(Chunks, [u8; 32])>, Fault> {
        self.open(hosts)?;
        let Some(file) = self.file.clone() else { return Err(Errno::Badf.into()) };
        let (chunks, digest) = match &mut self.copying {
            Some(copying) => copying,
            none => {
                ledger.check_size(self.len)?;
                if ledger.writable_bytes(self.len) < self.len {
                    return Err(Errno::Nospc.into());
                }
                if self.len > ledger.room() {
                    ledger.refuse_memory(self.len);
                    return Err(Errno::Nospc.into());
                }
                none.insert((Chunks::default(), Sha256::new()))
            }
        };
        let mut buffer = vec![0; PIECE];
        let mut moved = 0_u64;
        while moved < STEP {
            let offset = chunks.len();
            let count = match file.read_at(&mut buffer, offset) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(errno(&error).into()),
            };
            let Some(bytes) = buffer.get(..count) else { return Err(Errno::Io.into()) };
            if bytes.is_empty() {
                return Ok(self.copying.take().map(|(chunks, digest)| (chunks, digest.finalize().into())));
            }
            let size = u64::try_from(count).unwrap_or(u64::MAX);
            // It may have grown since its size was looked at.
            ledger.check_size(offset.saturating_add(size))?;
            if ledger.writable_bytes(size) < size {
                return Err(Errno::Nospc.into());
            }
            if chunks.write(offset, bytes, ledger).map_err(Fault::Stop)? < count {
                ledger.refuse_memory(size);
                return Err(Errno::Nospc.into());
            }
            hosts.saw(READ, bytes);
            digest.update(bytes);
            ledger.count_written(size);
            ledger.spend(price::DIGESTED_BYTE.saturating_mul(size));
            moved = moved.saturating_add(size);
        }
        Ok(None)
    }
}

/// A change below an overlay that was made on the host.
pub(crate) struct Made<'a> {
    pub(crate) target: &'a Arc<OverlayTarget>,
    /// Names below the target's directory, joined by slashes.
    pub(crate) path: &'a str,
    /// Whether anything is there now.
    pub(crate) there: bool,
    /// Digest of the bytes that were written.
    pub(crate) sha256: Option<[u8; 32]>,
    /// Where a link that was made leads.
    pub(crate) link: Option<&'a str>,
}

/// What a base takes of the memory quota.
fn base_bytes(at: &HostPath) -> u64 {
    BASE_BYTES.saturating_add(u64::try_from(at.names().len()).unwrap_or(u64::MAX))
}

/// How something below an overlay differs from what the host had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    Added,
    Changed,
    Deleted,
}

/// One difference between what the host had and what the script left.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) difference: Difference,
    /// As the script sees it.
    pub(crate) guest: String,
    /// Names below the target's directory, joined by slashes.
    pub(crate) path: String,
    pub(crate) target: Arc<OverlayTarget>,
    /// What is there now or, if it was deleted, what was.
    pub(crate) kind: HostKind,
    /// What was there, unless it was added.
    pub(crate) base: Option<Base>,
    /// The bytes of a file that is there now; `None` too if they do not fit.
    pub(crate) bytes: Option<Arc<Chunks>>,
    /// Its size, or that of what was there.
    pub(crate) size: u64,
    /// The target of a link that is there now.
    pub(crate) link: Option<Arc<str>>,
}

impl Tree {
    /// The overlay that a directory belongs to.
    fn overlay_of(&self, directory: NodeId) -> Option<usize> {
        self.node(directory).ok()?.directory().ok()?.overlay
    }

    /// Looks for a name of an overlay on the host, and makes a node of what is there. What was there once is not looked for
    /// again.
    pub(super) fn take_in(&mut self, parent: NodeId, name: &str, at: HostPath) -> Result<Option<NodeId>, Errno> {
        if self.hosts.bases.contains_key(&at) {
            return Ok(None);
        }
        let Some(found) = self.hosts.look(&at, &mut self.ledger)? else { return Ok(None) };
        let overlay = self.overlay_of(parent);
        let (kind, target) = match found.kind {
            HostKind::Directory => {
                let directory = Directory { overlay, lower: Some(at.clone()), ..Directory::new(parent) };
                (Kind::Directory(directory), None)
            }
            HostKind::File => (Kind::File(Content::Lower(Box::new(Lower::new(at.clone(), found.size)))), None),
            HostKind::Link => match self.hosts.read_link(&at) {
                Ok(target) => (Kind::Link(target.clone()), Some(target)),
                Err(_) => (Kind::Foreign, None),
            },
            HostKind::Other => (Kind::Foreign, None),
        };
        let letters = target.as_ref().map_or(0, |target| u64::try_from(target.len()).unwrap_or(u64::MAX));
        let held = NODE_BYTES.saturating_add(name_bytes(name)).saturating_add(letters);
        self.add_base(at, found.base(target))?;
        let number = self.hosts.take_inode(&found, &mut self.ledger)?;
        self.ledger.hold(held).map_err(|_| Errno::Nomem)?;
        let node = self.insert(kind, true, held, found.times.modified);
        let made = self.node_mut(node)?;
        made.inode = number.unwrap_or(made.inode);
        made.accessed = found.times.accessed;
        made.changed = found.times.changed;
        self.attach(parent, name, node, false)?;
        Ok(Some(node))
    }

    fn add_base(&mut self, at: HostPath, base: Base) -> Result<(), Errno> {
        self.ledger.hold(base_bytes(&at)).map_err(|_| Errno::Nomem)?;
        self.hosts.bases.insert(at, base);
        Ok(())
    }

    /// Makes a file of an overlay out of the node of a grant, at the first look.
    pub(super) fn take_in_file(&mut self, node: NodeId, grant: usize) -> Result<(), Errno> {
        let at = HostPath::root(grant);
        let found = self.hosts.look(&at, &mut self.ledger)?.ok_or(Errno::Noent)?;
        self.add_base(at.clone(), found.base(None))?;
        _ = self.hosts.take_inode(&found, &mut self.ledger)?;
        let file = self.node_mut(node)?;
        file.kind = Kind::File(Content::Lower(Box::new(Lower::new(at, found.size))));
        file.writable = true;
        Ok(())
    }

    /// Copies the bytes of a file into memory before it is changed. Other nodes are left as they are.
    ///
    /// # Errors
    /// [`Fault::Again`] while there is more to copy; [`Errno::Nospc`] and [`Errno::Fbig`] by quota; those of the operating
    /// system.
    pub(crate) fn copy_up(&mut self, id: NodeId) -> Result<(), Fault> {
        let Self { nodes, hosts, ledger, .. } = self;
        let node = nodes.get_mut(id.0).and_then(Option::as_mut).ok_or(Errno::Badf)?;
        let Kind::File(Content::Lower(lower)) = &mut node.kind else { return Ok(()) };
        if !node.counted {
            ledger.take_name()?;
            node.counted = true;
        }
        match lower.copy(hosts, ledger) {
            Ok(None) => Err(Fault::Again),
            Ok(Some((chunks, sha256))) => {
                if let Some(base) = hosts.bases.get_mut(&lower.at) {
                    base.sha256.get_or_insert(sha256);
                }
                node.kind = Kind::File(Content::Owned(chunks));
                Ok(())
            }
            Err(fault) => {
                ledger.release(lower.held());
                lower.copying = None;
                if node.opens == 0 {
                    lower.close();
                }
                ledger.give_name();
                node.counted = false;
                Err(fault)
            }
        }
    }

    /// Makes an empty file of one whose bytes are on the host.
    pub(super) fn drop_lower(&mut self, id: NodeId) -> Result<(), Errno> {
        let Self { nodes, ledger, .. } = self;
        let node = nodes.get_mut(id.0).and_then(Option::as_mut).ok_or(Errno::Badf)?;
        if let Kind::File(Content::Lower(lower)) = &node.kind {
            if !node.counted {
                ledger.take_name()?;
                node.counted = true;
            }
            ledger.release(lower.held());
            node.kind = Kind::File(Content::Owned(Chunks::default()));
        }
        Ok(())
    }

    /// Reads the bytes of a file that are on the host; `None` for any other node.
    pub(super) fn read_lower(
        &mut self,
        id: NodeId,
        offset: u64,
        mem: &mut [u8],
        ranges: &Iovecs,
    ) -> Result<Option<u64>, Errno> {
        let Self { nodes, hosts, ledger, .. } = self;
        let node = nodes.get_mut(id.0).and_then(Option::as_mut).ok_or(Errno::Badf)?;
        let Kind::File(Content::Lower(lower)) = &mut node.kind else { return Ok(None) };
        let file = lower.file.clone().ok_or(Errno::Badf)?;
        let known = hosts.bases.get(&lower.at).is_none_or(|base| base.sha256.is_some());
        // Who begins anew, begins the digest anew.
        let mut read = if known {
            None
        } else if offset == 0 {
            Some((Sha256::new(), 0))
        } else {
            lower.read.take()
        };
        let mut at = offset;
        let count = hosts.read_from(&file, offset, mem, ranges, ledger, &mut |bytes| {
            let end = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            if let Some((digest, until)) = &mut read
                && *until == at
            {
                digest.update(bytes);
                *until = end;
            }
            at = end;
        })?;
        let ended = count == 0 && ranges.total() > 0;
        lower.read = match read {
            Some((digest, until)) if ended && until == offset => {
                if let Some(base) = hosts.bases.get_mut(&lower.at) {
                    base.sha256 = Some(digest.finalize().into());
                }
                None
            }
            read => read,
        };
        Ok(Some(count))
    }

    /// Whether a directory has no names, those on the host included.
    pub(super) fn is_empty(&mut self, directory: NodeId) -> Result<bool, Errno> {
        let Directory { entries, lower, .. } = self.node(directory)?.directory()?;
        if !entries.is_empty() {
            return Ok(false);
        }
        let Some(lower) = lower.clone() else { return Ok(true) };
        Ok(!self.hosts.has_more_names(&lower, &mut self.ledger)?)
    }

    /// Whether a symbolic link may be in a directory.
    ///
    /// # Errors
    /// [`Errno::Perm`] for one that leads up, below an overlay: on the host it could lead out of it.
    pub(super) fn check_link(&self, directory: NodeId, target: &str) -> Result<(), Errno> {
        if self.overlay_of(directory).is_some() && leads_up(target) { Err(Errno::Perm) } else { Ok(()) }
    }

    /// Whether a name can be moved, or given to something once more.
    ///
    /// # Errors
    /// [`Errno::Xdev`] from one overlay to another place, and for a directory of the host; [`Errno::Perm`] for what
    /// has to stay where it is.
    pub(super) fn check_stays(&self, node: NodeId, from: &Place, to: &Place) -> Result<(), Errno> {
        if self.overlay_of(from.parent) != self.overlay_of(to.parent) {
            return Err(Errno::Xdev);
        }
        match &self.node(node)?.kind {
            Kind::Directory(Directory { lower: Some(_), .. }) => Err(Errno::Xdev),
            Kind::Link(target) => self.check_link(to.parent, target),
            Kind::Foreign => Err(Errno::Perm),
            Kind::Directory(_) | Kind::File(_) | Kind::Device(_) | Kind::Granted(_) => Ok(()),
        }
    }

    /// What the script left below overlays that is not as the host had it, sorted by path. All bytes together are at
    /// most `most`; with `take` the files are empty afterwards, and nothing is copied.
    pub(crate) fn changes(&mut self, most: u64, take: bool) -> Vec<Found> {
        let mut all = Vec::new();
        let mut room = most;
        // Names of one file share its bytes.
        let mut shared: HashMap<NodeId, Arc<Chunks>> = HashMap::new();
        for grant in self.hosts.overlays().collect::<Vec<_>>() {
            let Some(target) = self.hosts.overlay(grant).cloned() else { continue };
            let mut found = Vec::new();
            let root = HostPath::root(grant);
            let bases: Vec<(String, Base)> = self
                .hosts
                .bases
                .range(root..)
                .take_while(|(at, _)| at.grant == grant)
                .map(|(at, base)| (at.names().to_owned(), base.clone()))
                .collect();
            for (path, base) in bases {
                let now = self.node_below(target.node, &path);
                self.compare(&target, path, base, now, &mut found);
            }
            self.added(grant, &target, &mut found);
            found.sort_by(|(left, _), (right, _)| {
                (&left.path, left.difference == Difference::Added)
                    .cmp(&(&right.path, right.difference == Difference::Added))
            });
            for (mut change, node) in found {
                if let Some(node) = node
                    && change.kind == HostKind::File
                    && let Some(rest) = room.checked_sub(change.size)
                {
                    room = rest;
                    let bytes = shared.entry(node).or_insert_with(|| Arc::new(self.bytes_of(node, take)));
                    change.bytes = Some(bytes.clone());
                }
                all.push(change);
            }
        }
        all
    }

    /// A change was made on the host, so what the host has there now becomes the base, or there is none if it was deleted. The
    /// digest is of what was written: if somebody else changed it since, it is not what it was.
    pub(crate) fn applied(&mut self, made: &Made<'_>) {
        let Made { target, path, there, sha256, link } = *made;
        let is_it = |grant: &usize| self.hosts.overlay(*grant).is_some_and(|other| Arc::ptr_eq(other, target));
        let Some(grant) = self.hosts.overlays().find(is_it) else { return };
        let names = if target.file.is_some() { "" } else { path };
        let mut below = names.split('/').filter(|name| !name.is_empty());
        let Ok(at) = below.try_fold(HostPath::root(grant), |at, name| at.join(name)) else { return };
        if self.hosts.bases.remove(&at).is_some() {
            self.ledger.release(base_bytes(&at));
        }
        if let (true, Ok(meta)) = (there, target.dir.symlink_metadata(path)) {
            let kind = HostKind::of(meta.file_type());
            // Without room for it, it is one that the script has added.
            let _ = self.add_base(at, Base { kind, stamp: Stamp::of(&meta), sha256, target: link.map(Into::into) });
        }
    }

    /// The node at a path below another, by names alone.
    fn node_below(&self, root: NodeId, path: &str) -> Option<NodeId> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(root, |id, name| Some(self.node(id).ok()?.directory().ok()?.entries.get(name)?.node))
    }

    fn compare(
        &self,
        target: &Arc<OverlayTarget>,
        path: String,
        base: Base,
        now: Option<NodeId>,
        found: &mut Vec<(Found, Option<NodeId>)>,
    ) {
        let now = now.and_then(|id| Some((id, self.node(id).ok()?)));
        let same = now.is_some_and(|(_, node)| match (&node.kind, base.kind) {
            (Kind::File(Content::Lower(_)), HostKind::File) | (Kind::Directory(_), HostKind::Directory) => true,
            (Kind::File(Content::Owned(chunks)), HostKind::File) => {
                base.stamp.size == chunks.len() && base.sha256.is_some_and(|sha256| sha256 == digest(chunks))
            }
            (Kind::Link(link), HostKind::Link) => base.target.as_ref() == Some(link),
            (Kind::Foreign, HostKind::Link | HostKind::Other) => true,
            _ => false,
        });
        if same {
            return;
        }
        if let Some((id, node)) = now
            && matches!((&node.kind, base.kind), (Kind::File(_), HostKind::File))
        {
            found.push((describe(Difference::Changed, target, path, node, Some(base)), Some(id)));
            return;
        }
        let size = if base.kind == HostKind::File { base.stamp.size } else { 0 };
        let (guest, kind) = (guest_path(target, &path), base.kind);
        let gone = Found {
            difference: Difference::Deleted,
            guest,
            path: host_path(target, &path),
            target: target.clone(),
            kind,
            base: Some(base),
            bytes: None,
            size,
            link: None,
        };
        found.push((gone, None));
        if let Some((id, node)) = now {
            found.push((describe(Difference::Added, target, path, node, None), Some(id)));
        }
    }

    /// Finds what is where the host had nothing.
    fn added(&self, grant: usize, target: &Arc<OverlayTarget>, found: &mut Vec<(Found, Option<NodeId>)>) {
        let root = HostPath::root(grant);
        let mut left = vec![(root, target.node)];
        while let Some((at, id)) = left.pop() {
            let Ok(directory) = self.node(id).and_then(Node::directory) else { continue };
            if directory.overlay != Some(grant) {
                continue;
            }
            for (name, entry) in &directory.entries {
                let (Ok(node), Ok(at)) = (self.node(entry.node), at.join(name)) else { continue };
                let (is_ours, below) = match &node.kind {
                    Kind::Directory(below) => (below.overlay == Some(grant) && below.lower.is_none(), true),
                    Kind::File(Content::Owned(_)) | Kind::Link(_) => (true, false),
                    Kind::File(_) | Kind::Device(_) | Kind::Granted(_) | Kind::Foreign => (false, false),
                };
                if is_ours && !node.mount && !self.hosts.bases.contains_key(&at) {
                    let change = describe(Difference::Added, target, at.names().to_owned(), node, None);
                    found.push((change, Some(entry.node)));
                }
                if below && !node.mount {
                    left.push((at, entry.node));
                }
            }
        }
    }
}

fn describe(
    difference: Difference,
    target: &Arc<OverlayTarget>,
    path: String,
    node: &Node,
    base: Option<Base>,
) -> Found {
    let (kind, link) = match &node.kind {
        Kind::Directory(_) => (HostKind::Directory, None),
        Kind::Link(link) => (HostKind::Link, Some(link.clone())),
        Kind::File(_) | Kind::Device(_) | Kind::Granted(_) => (HostKind::File, None),
        Kind::Foreign => (HostKind::Other, None),
    };
    Found {
        difference,
        guest: guest_path(target, &path),
        path: host_path(target, &path),
        target: target.clone(),
        kind,
        base,
        bytes: None,
        size: if kind == HostKind::File { node.size() } else { 0 },
        link,
    }
}

fn guest_path(target: &OverlayTarget, path: &str) -> String {
    let names = target.guest.split('/').chain(path.split('/')).filter(|name| !name.is_empty());
    names.fold(String::new(), |path, name| path + "/" + name)
}

fn host_path(target: &OverlayTarget, path: &str) -> String {
    target.file.clone().unwrap_or_else(|| path.to_owned())
}

fn digest(chunks: &Chunks) -> [u8; 32] {
    let mut digest = Sha256::new();
    chunks.pieces().for_each(|piece| digest.update(piece));
    digest.finalize().into()
}
