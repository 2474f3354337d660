//! What a script changed below overlays, and making it come true.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read as _};
use std::ops::Deref;
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, Metadata, MetadataExt as _, OpenOptions};
use sha2::{Digest as _, Sha256};

use crate::artifacts::FileBytes;
use crate::outcome::Digest;
use crate::placing::{Placing, Refusal, RefusalReason};
use crate::world::{Base, Difference, Found, HostKind, Made, OverlayTarget, Stamp, World};

/// How something differs from what the host had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// A file with other bytes.
    Changed,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// The permanent name: `added`, `changed`, `deleted`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

/// What kind of thing a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO, socket or device, which can only be deleted.
    Other,
}

impl FileKind {
    /// The permanent name: `file`, `directory`, `link`, `other`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Other => "other",
        }
    }

    fn of(kind: HostKind) -> Self {
        match kind {
            HostKind::File => Self::File,
            HostKind::Directory => Self::Directory,
            HostKind::Link => Self::Link,
            HostKind::Other => Self::Other,
        }
    }
}

/// One thing that the script added, changed or deleted below an overlay.
///
/// What is something else than before (a file where a directory was) is two changes: deleted and added. A renamed file is
/// deleted in one place and added in the other. Times alone are no change, and neither are bytes that came to be
/// what they were.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Change {
    /// Absolute path as the script saw it; the names are its choice.
    pub path: String,
    /// How it differs.
    pub kind: ChangeKind,
    /// What it is or, if it was deleted, what it was.
    pub what: FileKind,
    /// Size of a file in bytes, or of what was deleted.
    pub bytes: u64,
    /// SHA-256 of the bytes of a file that was added or changed; `None` if they did not come back.
    pub sha256: Option<Digest>,
    /// The bytes of a file that was added or changed. `None` if, with it, all would be larger than the limit `bytes_written`
    /// (holes count); such a change is never applied.
    pub contents: Option<FileBytes>,
    /// Where a link that was added leads.
    pub target: Option<String>,
}

/// What a change needs to be made on the host.
#[derive(Clone, Debug)]
struct Origin {
    target: Arc<OverlayTarget>,
    path: String,
    base: Option<Base>,
}

/// All changes of a run, sorted by overlay and path. [`apply`](Self::apply) makes them on the host; until it is dropped, the
/// folders of the overlays stay open for that.
///
/// ```no_run
/// use capibara::{Engine, EngineConfig, Grant, Job};
/// let engine = Engine::new(EngineConfig::default())?;
/// let job = Job::python("import os; os.rename('/src/a', '/src/b')").with_grant(Grant::overlay("src"));
/// let outcome = engine.run_blocking(job)?;
/// for change in outcome.changes.iter() {
///     println!("{} {}", change.kind.name(), change.path);
/// }
/// if outcome.success() {
///     let applied = outcome.changes.apply();
///     assert!(applied.refused.is_empty());
/// }
/// # Ok::<(), capibara::EngineError>(())
/// ```
#[derive(Clone, Default)]
pub struct Changes {
    list: Vec<Change>,
    origins: Arc<Vec<Origin>>,
}

impl Deref for Changes {
    type Target = [Change];

    fn deref(&self) -> &[Change] {
        &self.list
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

/// What came of applying changes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Applied {
    /// How many were made.
    pub applied: u64,
    /// Those that were not.
    pub refused: Vec<Refusal>,
}

impl Changes {
    pub(crate) fn of(found: Vec<Found>) -> Self {
        let (mut list, mut origins) = (Vec::with_capacity(found.len()), Vec::with_capacity(found.len()));
        for Found { difference, guest, path, target, kind, base, bytes, size, link } in found {
            let contents = bytes.map(FileBytes::new);
            list.push(Change {
                path: guest,
                kind: match difference {
                    Difference::Added => ChangeKind::Added,
                    Difference::Changed => ChangeKind::Changed,
                    Difference::Deleted => ChangeKind::Deleted,
                },
                what: FileKind::of(kind),
                bytes: size,
                sha256: contents.as_ref().map(FileBytes::sha256),
                contents,
                target: link.map(|link| link.to_string()),
            });
            origins.push(Origin { target, path, base });
        }
        Self { list, origins: Arc::new(origins) }
    }

    /// Those for which `keep` is true, with what it takes to apply them.
    ///
    /// ```
    /// use capibara::Changes;
    /// let changes = Changes::default().only(|change| change.path.starts_with("/src/"));
    /// assert!(changes.is_empty());
    /// ```
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Change) -> bool) -> Self {
        let both = self.list.iter().zip(self.origins.iter()).filter(|(change, _)| keep(change));
        let (list, origins): (Vec<_>, Vec<_>) = both.map(|(change, origin)| (change.clone(), origin.clone())).unzip();
        Self { list, origins: Arc::new(origins) }
    }

    /// Makes the changes on the host: first all that was deleted, then all that is new. Each file is whole or as it was, a
    /// changed one keeps its permissions (setuid, setgid and sticky bits not), a new one has mode 0644, a directory 0755,
    /// less the process's umask. Files are not forced to the disk.
    ///
    /// A change is refused, and all others are still made, where the host is not as it was when the run looked: what was
    /// changed or deleted must be the same file, of the same size, with the same times and, if the run read it to its
    /// end, the same bytes; where something was added, nothing may be. Links are never followed, so nothing outside of
    /// the overlay's folder changes: what has other names there keeps its bytes under them.
    ///
    /// # Security
    /// Somebody who changes a file in the very moment between the last look and the replacing may lose that change.
    #[must_use]
    pub fn apply(&self) -> Applied {
        self.make(&mut Vec::new())
    }

    /// As [`apply`](Self::apply). The numbers of those that were made are added to `made`.
    fn make(&self, made: &mut Vec<usize>) -> Applied {
        let mut done = Applied::default();
        let mut start = 0;
        while let Some(first) = self.origins.get(start) {
            let same = |origin: &&Origin| Arc::ptr_eq(&origin.target, &first.target);
            let count = self.origins.iter().skip(start).take_while(same).count();
            let range = start..start + count;
            let changes = self.list.get(range.clone()).unwrap_or_default();
            let origins = self.origins.get(range).unwrap_or_default();
            match Applying::new(&first.target.dir) {
                Ok(applying) => applying.all(changes, origins, &mut done, |at| made.push(start + at)),
                Err(error) => {
                    let reason = RefusalReason::from(error);
                    let refused = |change: &Change| Refusal { path: change.path.clone(), reason: reason.clone() };
                    done.refused.extend(changes.iter().map(refused));
                }
            }
            start += count;
        }
        done
    }

    /// Applies them, and tells the World they come from what the host has now.
    pub(crate) fn apply_and_tell(&self, world: &mut World) -> Applied {
        let mut made = Vec::new();
        let done = self.make(&mut made);
        for (change, origin) in made.into_iter().filter_map(|at| Some((self.list.get(at)?, self.origins.get(at)?))) {
            world.applied(&Made {
                target: &origin.target,
                path: &origin.path,
                there: change.kind != ChangeKind::Deleted,
                sha256: change.sha256.map(|sha256| sha256.0),
                link: change.target.as_deref(),
            });
        }
        done
    }
}

/// Changes of one overlay that are being made.
struct Applying<'a> {
    placing: Placing<'a>,
    /// Files of which we took a name away: that changed their time of change.
    ours: HashSet<(u64, u64)>,
}

impl<'a> Applying<'a> {
    fn new(dir: &'a Dir) -> io::Result<Self> {
        Ok(Self { placing: Placing::new(dir)?, ours: HashSet::new() })
    }

    fn all(mut self, changes: &[Change], origins: &[Origin], done: &mut Applied, mut is_made: impl FnMut(usize)) {
        let all = || changes.iter().zip(origins).enumerate();
        // What lies in a directory is deleted before it, and whatever takes its place made after that.
        let deleted = all().rev().filter(|(_, (change, _))| change.kind == ChangeKind::Deleted);
        let made = all().filter(|(_, (change, _))| change.kind != ChangeKind::Deleted);
        for (at, (change, origin)) in deleted.chain(made) {
            match self.one(change, origin) {
                Ok(()) => {
                    done.applied += 1;
                    is_made(at);
                }
                Err(reason) => done.refused.push(Refusal { path: change.path.clone(), reason }),
            }
        }
    }

    fn one(&mut self, change: &Change, origin: &Origin) -> Result<(), RefusalReason> {
        let Origin { path, base, .. } = origin;
        match (change.kind, change.what, base) {
            (ChangeKind::Deleted, FileKind::Directory, Some(base)) => {
                let (dir, name) = self.placing.parent(path, false)?;
                still(dir, name, base, &self.ours, true)?;
                dir.remove_dir(name)?;
                self.placing.forget();
                Ok(())
            }
            (ChangeKind::Deleted, _, Some(base)) => {
                let (dir, name) = self.placing.parent(path, false)?;
                still(dir, name, base, &self.ours, true)?;
                dir.remove_file(name)?;
                self.ours.insert((base.stamp.device, base.stamp.inode));
                Ok(())
            }
            (ChangeKind::Changed, _, Some(base)) => {
                let bytes = change.contents.as_ref().ok_or(RefusalReason::TooLarge)?;
                let ours = &self.ours;
                self.placing.replace(path, bytes, |dir, name, last| still(dir, name, base, ours, last))?;
                self.ours.insert((base.stamp.device, base.stamp.inode));
                Ok(())
            }
            (ChangeKind::Added, FileKind::Directory, _) => {
                let (dir, name) = self.placing.parent(path, false)?;
                let mut builder = DirBuilder::new();
                builder.mode(0o755);
                dir.create_dir_with(name, &builder).map_err(appeared)
            }
            (ChangeKind::Added, FileKind::Link, _) => {
                let (dir, name) = self.placing.parent(path, false)?;
                let target = change.target.as_deref().unwrap_or_default();
                if crate::world::leads_up(target) {
                    return Err(RefusalReason::System(Arc::new(io::ErrorKind::PermissionDenied.into())));
                }
                dir.symlink(target, name).map_err(appeared)
            }
            (ChangeKind::Added, ..) => {
                let bytes = change.contents.as_ref().ok_or(RefusalReason::TooLarge)?;
                self.placing.put(path, bytes, false)
            }
            // What was there is always known of these.
            (ChangeKind::Deleted | ChangeKind::Changed, _, None) => Err(RefusalReason::Changed),
        }
    }
}

fn appeared(error: io::Error) -> RefusalReason {
    if error.kind() == io::ErrorKind::AlreadyExists { RefusalReason::Appeared } else { error.into() }
}

/// Whether what has a name is what it was; `bytes` too, as far as they are known.
fn still(
    dir: &Dir,
    name: &str,
    base: &Base,
    ours: &HashSet<(u64, u64)>,
    bytes: bool,
) -> Result<Metadata, RefusalReason> {
    let meta = match dir.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RefusalReason::Changed),
        meta => meta?,
    };
    let id = (meta.dev(), meta.ino());
    let kind = HostKind::of(meta.file_type());
    let mut stamp = Stamp::of(&meta);
    if ours.contains(&id) {
        stamp.changed = base.stamp.changed;
    }
    let same = match base.kind {
        // Whatever is in it changes its size and times.
        HostKind::Directory => id == (base.stamp.device, base.stamp.inode),
        HostKind::File | HostKind::Link | HostKind::Other => stamp == base.stamp,
    };
    if kind != base.kind || !same {
        return Err(RefusalReason::Changed);
    }
    if let (Some(target), true) = (&base.target, kind == HostKind::Link)
        && dir.read_link_contents(name)?.as_os_str() != target.as_ref()
    {
        return Err(RefusalReason::Changed);
    }
    if let (Some(sha256), true) = (base.sha256, bytes && kind == HostKind::File) {
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true).follow(FollowSymlinks::No);
        let mut file = dir.open_with(name, &options)?;
        let opened = file.metadata()?;
        if (opened.dev(), opened.ino()) != id || digest(&mut file, meta.len())? != sha256 {
            return Err(RefusalReason::Changed);
        }
    }
    Ok(meta)
}

/// SHA-256 of a file of that size. One byte more is read, so that one that grows is another.
fn digest(file: &mut cap_std::fs::File, size: u64) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut file = file.take(size.saturating_add(1));
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest.finalize().into()),
            Ok(count) => digest.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
