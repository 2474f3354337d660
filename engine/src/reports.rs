//! Reports of scans, kept in the cache folder by digest of everything they depend on: a source that was scanned once is
//! not scanned again.
//!
//! ```text
//! scans/<two digits>/<digest>    SHA-256 of the rest · the report as JSON
//! ```
//!
//! Who can write there is this user, who can run anything without us; folders and files that others may write are not
//! read. What cannot be read or written is scanned, and that is all.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use capibara_policies::{Policy, Report, Scanner, Script, Source};
use capibara_runtimes::Folders;
use sha2::{Digest as _, Sha256};

use crate::{artifact, os};

/// Folder in the cache folder.
const FOLDER: &str = "scans";
/// A shorter source is scanned in less time than a file takes to be opened, in bytes.
const SHORTEST_SOURCE: usize = 512;
/// A report that takes more is not kept, in bytes.
const LARGEST_REPORT: usize = 16 << 10;
/// The most reports in each of the 256 folders, nearly: the oldest half goes when there are more.
const MOST_IN_FOLDER: usize = 64;

/// The reports in one cache folder. Touches nothing before it is asked.
#[derive(Debug)]
pub struct KeptReports {
    /// `None` keeps nothing.
    folder: Option<PathBuf>,
    usable: OnceLock<bool>,
}

impl KeptReports {
    /// Those in that cache folder.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { folder: Some(cache.join(FOLDER)), usable: OnceLock::new() }
    }

    /// Those in the cache folder that the environment names; keeps nothing where it names none.
    #[must_use]
    pub fn from_env() -> Self {
        let folder = Folders::from_env().ok().map(|folders| folders.cache.join(FOLDER));
        Self { folder, usable: OnceLock::new() }
    }

    /// What `scanner` says of `script` under `policy`, whose [`Policy::sha256`] the caller knows; kept or made now. The
    /// source comes with it where it was decoded for the scan.
    #[must_use]
    pub fn scan(
        &self,
        scanner: &Scanner,
        script: &Script<'_>,
        policy: &Policy,
        policy_sha256: &str,
    ) -> (Report, Option<Source>) {
        let Some(folder) = self.folder().filter(|_| script.bytes.len() >= SHORTEST_SOURCE) else {
            return scanner.scan_with_source(script, policy);
        };
        let digest = scanner.digest(script, policy_sha256);
        let name = hex::encode(digest);
        let path = folder.join(&name[..2]).join(name);
        if let Some(report) = read(&path) {
            return (report, None);
        }
        let (report, source) = scanner.scan_with_source(script, policy);
        if !report.cut_short && write(&path, &report).is_some() && digest[1].is_multiple_of(16) {
            tidy(&path);
        }
        (report, source)
    }

    /// The folder, if it is this user's own and nobody else writes to it.
    fn folder(&self) -> Option<&Path> {
        let folder = self.folder.as_deref()?;
        let usable = self.usable.get_or_init(|| {
            let meta = artifact::make_folder(folder).and_then(|()| fs::symlink_metadata(folder));
            meta.is_ok_and(|meta| meta.is_dir() && artifact::trusted(&meta).is_ok())
        });
        usable.then_some(folder)
    }
}

fn read(path: &Path) -> Option<Report> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    artifact::trusted(&file.metadata().ok()?).ok()?;
    let mut bytes = Vec::with_capacity(4096);
    file.take((32 + LARGEST_REPORT) as u64).read_to_end(&mut bytes).ok()?;
    let (digest, body) = bytes.split_first_chunk::<32>()?;
    if Sha256::digest(body)[..] != digest[..] {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// Writes the report so that it appears whole or not at all. It is not forced to the disk: one that is cut short by a
/// crash does not match its digest.
fn write(path: &Path, report: &Report) -> Option<()> {
    let body = serde_json::to_vec(report).ok().filter(|body| body.len() <= LARGEST_REPORT)?;
    let temporary = path.with_extension(format!("{:032x}.new", os::random_u128().ok()?));
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let mut file =
        create().or_else(|_| artifact::make_folder(path.parent().unwrap_or(path)).and_then(|()| create())).ok()?;
    let mut whole = Sha256::digest(&body).to_vec();
    whole.extend(body);
    let written = file.write_all(&whole).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.ok()
}

/// Removes the older half of a folder that holds too many.
fn tidy(newest: &Path) {
    let Some(entries) = newest.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    if files.len() > MOST_IN_FOLDER {
        files.sort();
        for (_, path) in files.iter().take(files.len() - MOST_IN_FOLDER / 2) {
            let _ = fs::remove_file(path);
        }
    }
}
