//! Reading records back, the newest first.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::MOST_FILES;
use super::error::AuditError;
use super::files::{AuditFolders, Folder};
use super::line::LONGEST_LINE;
use super::log::{file_name, start_of};

/// Which records are wanted. Those that leave a field out want all; the log's own lines match no filter of a run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Filter {
    /// From this moment on.
    pub since: Option<SystemTime>,
    /// Before this moment.
    pub until: Option<SystemTime>,
    /// With this verdict: `allow`, `warn`, `deny`.
    pub verdict: Option<String>,
    /// With this status: `completed`, `denied`, `limit`, `trapped`, `canceled`, `error`.
    pub status: Option<String>,
    /// Under the policy of this name.
    pub policy: Option<String>,
    /// Of the script of this name, or with a digest that begins so (8 digits or more).
    pub script: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// A record as it was read. Nothing is verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry(Value);

impl Entry {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str()
    }

    /// The whole record.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// Its number.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.0.pointer("/metadata/sequence")?.as_u64()
    }

    /// What it tells of: `run`, `key-rotation`, `recovery`.
    #[must_use]
    pub fn event(&self) -> &str {
        self.text("/metadata/event_code").unwrap_or("unknown")
    }

    /// When.
    #[must_use]
    pub fn time(&self) -> Option<SystemTime> {
        let millis = self.0.pointer("/time")?.as_u64()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }

    /// When, as RFC 3339 with milliseconds.
    #[must_use]
    pub fn time_text(&self) -> Option<String> {
        let millis = i64::try_from(self.0.pointer("/time")?.as_u64()?).ok()?;
        let time = jiff::Timestamp::from_millisecond(millis).ok()?;
        Some(format!("{time:.3}"))
    }

    /// Name of the user, or else their number.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.text("/actor/user/name").or_else(|| self.text("/actor/user/uid"))
    }

    /// Name of the script.
    #[must_use]
    pub fn script(&self) -> Option<&str> {
        self.text("/process/file/name")
    }

    /// Digest of the script.
    #[must_use]
    pub fn script_sha256(&self) -> Option<&str> {
        self.text("/process/file/hashes/0/value")
    }

    /// Name of the policy.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.text("/policy/name")
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Option<&str> {
        self.text("/unmapped/verdict")
    }

    /// How it ended.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.text("/status_code")
    }

    /// Exit code of the script.
    #[must_use]
    pub fn exit_code(&self) -> Option<i64> {
        self.0.pointer("/exit_code")?.as_i64()
    }

    /// The limit that stopped it.
    #[must_use]
    pub fn limit(&self) -> Option<&str> {
        self.text("/unmapped/limit/kind")
    }

    fn matches(&self, filter: &Filter) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|w| found == Some(w));
        let script = filter.script.as_deref().is_none_or(|wanted| {
            let digest = |digest: &str| wanted.len() >= 8 && digest.starts_with(wanted);
            self.script() == Some(wanted) || self.script_sha256().is_some_and(digest)
        });
        let time = self.time();
        script
            && filter.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && filter.until.is_none_or(|until| time.is_some_and(|time| time < until))
            && is(&filter.verdict, self.verdict())
            && is(&filter.status, self.status())
            && is(&filter.policy, self.policy())
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// Records, the newest last.
    pub entries: Vec<Entry>,
    /// Lines on the way that are no JSON objects.
    pub unreadable: u64,
}

/// Reads the log from its end until `filter` has its number of records, or to its beginning.
///
/// # Errors
/// When the log cannot be read.
pub fn list(folders: &AuditFolders, filter: &Filter) -> Result<Listing, AuditError> {
    let mut found = Listing::default();
    let Some(log) = Folder::open(&folders.log)? else { return Ok(found) };
    let mut starts = log.list(MOST_FILES, start_of)?;
    starts.sort_unstable();
    'files: for start in starts.into_iter().rev() {
        let name = file_name(start);
        let Some(file) = log.read(&name)? else { continue };
        let path = folders.log.join(&name);
        let mut lines = Backwards::new(&file, &path)?;
        while let Some(line) = lines.next_line()? {
            if filter.limit.is_some_and(|limit| found.entries.len() >= limit) {
                break 'files;
            }
            match serde_json::from_slice::<Value>(&line) {
                Ok(value) if value.is_object() => {
                    let entry = Entry(value);
                    if entry.matches(filter) {
                        found.entries.push(entry);
                    }
                }
                _ => found.unreadable += 1,
            }
        }
    }
    found.entries.reverse();
    Ok(found)
}

/// The lines of a file, the last one first, without reading more than is asked for.
struct Backwards<'f> {
    file: &'f File,
    path: &'f Path,
    /// What was read and not given out begins here.
    at: u64,
    held: Vec<u8>,
}

const CHUNK: u64 = 64 << 10;

impl<'f> Backwards<'f> {
    fn new(file: &'f File, path: &'f Path) -> Result<Self, AuditError> {
        let at = file.metadata().map_err(AuditError::io("look at", path))?.len();
        let mut lines = Self { file, path, at, held: Vec::new() };
        lines.more()?;
        if lines.held.last() == Some(&b'\n') {
            lines.held.pop();
        }
        Ok(lines)
    }

    fn more(&mut self) -> Result<bool, AuditError> {
        let count = self.at.min(CHUNK);
        if count == 0 {
            return Ok(false);
        }
        self.at -= count;
        let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, self.at).map_err(AuditError::io("read", self.path))?;
        bytes.append(&mut self.held);
        self.held = bytes;
        Ok(true)
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, AuditError> {
        loop {
            if let Some(newline) = self.held.iter().rposition(|byte| *byte == b'\n') {
                let line = self.held.split_off(newline + 1);
                self.held.pop();
                return Ok(Some(line));
            }
            // No record is that long; what is held of it is given out as it is.
            if self.held.len() > 2 * LONGEST_LINE {
                return Ok(Some(std::mem::take(&mut self.held)));
            }
            if !self.more()? {
                let line = std::mem::take(&mut self.held);
                return Ok((!line.is_empty()).then_some(line));
            }
        }
    }
}
