//! Reports of scans, kept in the cache folder by digest of everything they depend on: a source that was scanned once is
//! not scanned again.

use std::path::Path;

use capibara_policies::{Policy, Report, Scanner, Script, Source};
use capibara_runtimes::Folders;

use crate::kept_files::KeptFiles;

/// Folder in the cache folder.
const FOLDER: &str = "scans";
/// A process that scans many sources scans a shorter one in less time than a file takes to be opened, in bytes.
const SHORTEST_SOURCE: usize = 512;
/// A report that takes more is not kept, in bytes.
const LARGEST_REPORT: usize = 16 << 10;
/// The most reports in each of 256 folders.
const MOST_IN_FOLDER: usize = 64;

/// The reports in one cache folder. Touches nothing before it is asked.
#[derive(Debug)]
pub struct KeptReports {
    /// `None` keeps nothing.
    files: Option<KeptFiles>,
    shortest: usize,
}

impl KeptReports {
    /// Those in that cache folder.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self {
            files: Some(KeptFiles::new(cache.join(FOLDER), LARGEST_REPORT, MOST_IN_FOLDER)),
            shortest: SHORTEST_SOURCE,
        }
    }

    /// Those of short sources, too: the first scan of a process takes many times as long as the next ones.
    pub(crate) fn of_any_length(self) -> Self {
        Self { shortest: 0, ..self }
    }

    /// Those in the cache folder that the environment names; keeps nothing where it names none.
    #[must_use]
    pub fn from_env() -> Self {
        Folders::from_env().map_or(Self { files: None, shortest: SHORTEST_SOURCE }, |folders| Self::new(&folders.cache))
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
        let Some(files) = self.files.as_ref().filter(|_| script.bytes.len() >= self.shortest) else {
            return scanner.scan_with_source(script, policy);
        };
        let digest = scanner.digest(script, policy_sha256);
        if let Some(report) = files.get(&digest).and_then(|body| serde_json::from_slice(&body).ok()) {
            return (report, None);
        }
        let (report, source) = scanner.scan_with_source(script, policy);
        if !report.cut_short
            && let Ok(body) = serde_json::to_vec(&report)
        {
            files.keep(&digest, &body);
        }
        (report, source)
    }
}
