//! Puts files into a folder of the host: each whole or not at all, and never over or through a link.
//!
//! A folder is a handle. Each name on the way to a file is opened by itself, below the handle of the one before, and must
//! be a directory and no link; so nothing that is put there lies elsewhere, whoever changes the folder meanwhile. A file
//! is written under a name of ours beside its place and then renamed, which replaces what has the name and follows nothing.
//!
//! Files are not forced to the disk: after a loss of power one may be as it was before.

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{
    Dir, DirBuilder, DirBuilderExt as _, FileType, Metadata, OpenOptions, OpenOptionsExt as _, PermissionsExt as _,
};
use rustix::fs::RenameFlags;

use crate::artifacts::FileBytes;
use crate::os;

/// What was not put into its place, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The path, as in the artifact or change.
    pub path: String,
    /// Why.
    pub reason: RefusalReason,
}

/// Why something was not put into its place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RefusalReason {
    /// Something that is no regular file has the name: `a directory`, `a symbolic link`, `a FIFO, socket or device`.
    InTheWay(&'static str),
    /// A name on the way there, relative to the folder, is no directory (a link is none).
    NoDirectory(String),
    /// The folder it would lie in is not there any more.
    FolderGone,
    /// Something has the name now, and nothing had when the run looked.
    Appeared,
    /// What has the name is not what it was when the run looked at it, or nothing has.
    Changed,
    /// It is larger than the run may write.
    TooLarge,
    /// The operating system refused.
    System(Arc<io::Error>),
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InTheWay(what) => write!(f, "{what} is in the way"),
            Self::NoDirectory(path) => write!(f, "`{path}` on the way there is not a directory"),
            Self::FolderGone => f.write_str("the folder it would lie in is not there"),
            Self::Appeared => f.write_str("something was made there since the run looked"),
            Self::Changed => f.write_str("it was changed since the run looked at it"),
            Self::TooLarge => f.write_str("it is larger than the run may write to files"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for RefusalReason {
    fn from(error: io::Error) -> Self {
        Self::System(Arc::new(error))
    }
}

/// What has a name, in words.
pub(crate) fn kind_in_words(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_file() {
        "a file"
    } else {
        "a FIFO, socket or device"
    }
}

/// A folder to put files into.
#[derive(Debug)]
pub(crate) struct Placing<'a> {
    root: &'a Dir,
    /// The directory that was used last, with its path.
    last: Option<(String, Dir)>,
    /// Where our own names begin.
    random: u128,
    made: u64,
}

impl<'a> Placing<'a> {
    pub(crate) fn new(root: &'a Dir) -> io::Result<Self> {
        Ok(Self { root, last: None, random: os::random_u128()?, made: 0 })
    }

    /// The directory that a path lies in, and its last name. With `make`, directories that are not there are made.
    pub(crate) fn parent<'p>(&mut self, path: &'p str, make: bool) -> Result<(&Dir, &'p str), RefusalReason> {
        let Some((folder, name)) = path.rsplit_once('/') else { return Ok((self.root, path)) };
        if self.last.as_ref().is_none_or(|(last, _)| last != folder) {
            let mut current: Option<Dir> = None;
            let mut end = 0;
            for part in folder.split('/') {
                end += part.len();
                let above = current.as_ref().unwrap_or(self.root);
                let opened = match above.open_dir_nofollow(part) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound && make => {
                        make_directory(above, part)?;
                        above.open_dir_nofollow(part)
                    }
                    opened => opened,
                };
                current = Some(match opened {
                    Ok(dir) => dir,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RefusalReason::FolderGone),
                    Err(error) => {
                        let is_directory = above.symlink_metadata(part).is_ok_and(|meta| meta.is_dir());
                        let on_the_way = folder.get(..end).unwrap_or(folder).to_owned();
                        return Err(if is_directory { error.into() } else { RefusalReason::NoDirectory(on_the_way) });
                    }
                });
                end += 1;
            }
            self.last = current.map(|dir| (folder.to_owned(), dir));
        }
        match &self.last {
            Some((_, dir)) => Ok((dir, name)),
            None => Ok((self.root, name)),
        }
    }

    /// Forgets the directory that was used last: it may be gone.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// Writes bytes beside their place and returns the name they have there.
    fn beside(
        &mut self,
        path: &str,
        make: bool,
        bytes: &FileBytes,
        mode: Option<u32>,
    ) -> Result<String, RefusalReason> {
        self.made += 1;
        let temporary = format!(".capibara-{:032x}", self.random.wrapping_add(u128::from(self.made)));
        let (dir, _) = self.parent(path, make)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode.map_or(0o644, |_| 0o600)).follow(FollowSymlinks::No);
        let mut file = dir.open_with(&temporary, &options)?.into_std();
        let written = (|| {
            bytes.pieces().try_for_each(|piece| file.write_all(piece))?;
            // Never setuid, setgid or sticky, whatever the file before was.
            mode.map_or(Ok(()), |mode| file.set_permissions(std::fs::Permissions::from_mode(mode & 0o777)))
        })();
        if let Err(error) = written {
            let _ = dir.remove_file(&temporary);
            return Err(error.into());
        }
        Ok(temporary)
    }

    /// Puts a file where nothing is or, if `replace`, where a regular file is, whose permissions it keeps.
    pub(crate) fn put(&mut self, path: &str, bytes: &FileBytes, replace: bool) -> Result<(), RefusalReason> {
        let (dir, name) = self.parent(path, replace)?;
        let mode = match dir.symlink_metadata(name) {
            Ok(_) if !replace => return Err(RefusalReason::Appeared),
            Ok(meta) if meta.is_file() => Some(meta.permissions().mode()),
            Ok(meta) => return Err(RefusalReason::InTheWay(kind_in_words(meta.file_type()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let temporary = self.beside(path, replace, bytes, mode)?;
        let (dir, name) = self.parent(path, replace)?;
        let renamed = match mode {
            Some(_) => dir.rename(&temporary, dir, name).map_err(RefusalReason::from),
            None => rename_new(dir, &temporary, name),
        };
        renamed.inspect_err(|_| drop(dir.remove_file(&temporary)))
    }

    /// Puts a file in the place of one that `check` still knows, whose permissions it keeps. It is asked at
    /// first, and with `true` when the bytes are already written beside it.
    pub(crate) fn replace(
        &mut self,
        path: &str,
        bytes: &FileBytes,
        check: impl Fn(&Dir, &str, bool) -> Result<Metadata, RefusalReason>,
    ) -> Result<(), RefusalReason> {
        let (dir, name) = self.parent(path, false)?;
        let mode = check(dir, name, false)?.permissions().mode();
        let temporary = self.beside(path, false, bytes, Some(mode))?;
        let (dir, name) = self.parent(path, false)?;
        let renamed = check(dir, name, true).and_then(|_| Ok(dir.rename(&temporary, dir, name)?));
        renamed.inspect_err(|_| drop(dir.remove_file(&temporary)))
    }
}

/// Makes a directory; one that is there is fine.
fn make_directory(above: &Dir, name: &str) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.mode(0o755);
    match above.create_dir_with(name, &builder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Renames to a name that nothing must have.
fn rename_new(dir: &Dir, from: &str, to: &str) -> Result<(), RefusalReason> {
    let renamed = rustix::fs::renameat_with(dir.as_fd(), from, dir.as_fd(), to, RenameFlags::NOREPLACE);
    match renamed {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(RefusalReason::Appeared),
        // Not every file system knows that.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            match dir.hard_link(from, dir, to) {
                Ok(()) => Ok(dir.remove_file(from)?),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(RefusalReason::Appeared),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(io::Error::from(error).into()),
    }
}
