//! Writing the log.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::AuditError;
use super::files::{AuditFolders, Folder};
use super::head::{Found, Head};
use super::key::{KeyId, Keys};
use super::line::{Event, LONGEST_LINE, Line, Sha, seal, sha256};
use super::record::{self, Aside, Record, Recovery};
use super::{LARGEST_FILE, MOST_FILES};

/// How a log is written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditOptions {
    /// Size a file does not grow beyond; the next record begins a new one. Old files are kept: whoever wants less moves
    /// the oldest away. Default: 16 MiB; at least 64 KiB, at most 64 MiB.
    pub file_bytes: u64,
    /// Whether each record is on the disk before [`AuditLog::append`] returns. Without it, everything that was appended
    /// survives the end of the process, however it comes, and a loss of power may cost the last seconds. With it, a
    /// record takes as long as the disk takes twice. Default: false.
    pub durable: bool,
    /// How long another process is waited for. Default: 10 s.
    pub patience: Duration,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { file_bytes: 16 << 20, durable: false, patience: Duration::from_secs(10) }
    }
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its number, from 1 without gaps.
    pub sequence: u64,
    /// SHA-256 of its line. Kept elsewhere, it proves later that the log up to this record is as it was
    /// (`capibara audit verify --expect SEQUENCE:DIGEST`).
    pub digest: crate::Digest,
}

/// The audit log, open to be appended to. Any number of processes and threads may do so.
///
/// # Examples
/// ```no_run
/// use capibara::audit::{AuditFolders, AuditLog, AuditOptions, Record, RunStatus};
///
/// let log = AuditLog::open(&AuditFolders::from_env()?, AuditOptions::default())?;
/// log.ready()?; // a policy that must record refuses to run here
/// let mut record = Record::new("hello.py", "python", "strict");
/// record.status = RunStatus::Completed;
/// let receipt = log.append(&record)?;
/// println!("record {} {}", receipt.sequence, receipt.digest);
/// # Ok::<(), capibara::audit::AuditError>(())
/// ```
#[derive(Debug)]
pub struct AuditLog(Mutex<Writer>);

#[derive(Debug)]
struct Writer {
    log: Folder,
    state: Folder,
    head_name: String,
    keys: Keys,
    options: AuditOptions,
    hostname: String,
    /// The head as it was last found or written to be right: it need not be checked again.
    known: Option<(Vec<u8>, Head, KeyId)>,
}

impl AuditLog {
    /// Opens the log. Folders, and on first use the signing key, are made.
    ///
    /// # Errors
    /// When a folder or key cannot be made, read or trusted.
    pub fn open(folders: &AuditFolders, options: AuditOptions) -> Result<Self, AuditError> {
        let (above, name) = split(&folders.head)?;
        let mut options = options;
        options.file_bytes = options.file_bytes.clamp(LONGEST_LINE as u64, LARGEST_FILE);
        Ok(Self(Mutex::new(Writer {
            keys: Keys::open(&folders.keys)?,
            state: Folder::make(above)?,
            log: Folder::make(&folders.log)?,
            head_name: name.to_owned(),
            options,
            hostname: hostname(),
            known: None,
        })))
    }

    /// Whether a record could be appended now: the log can be locked, its end found, its files written, and there is
    /// room. Writes nothing. Costs about what appending costs.
    ///
    /// # Errors
    /// What [`AuditLog::append`] would say.
    pub fn ready(&self) -> Result<(), AuditError> {
        let mut writer = self.lock();
        for folder in [&writer.log, &writer.state] {
            folder.writable()?;
            if folder.room()? < 4 * LONGEST_LINE as u64 {
                return Err(AuditError::Full { path: folder.path.clone() });
            }
        }
        let Some(head) = writer.lock_head(false)? else { return Ok(()) };
        writer.locate(&head).map(drop)
    }

    /// Appends a record.
    ///
    /// # Errors
    /// When it could not be written; nothing of it is in the log then.
    pub fn append(&self, record: &Record) -> Result<Receipt, AuditError> {
        let mut writer = self.lock();
        let head = writer.lock_head(true)?.ok_or_else(|| writer.head_lost())?;
        let end = writer.locate(&head)?;
        writer.write(&head, end, |sequence, hostname| record.encode(sequence, hostname))
    }

    /// Makes a new signing key. The old one signs a record that names it, and is not kept; its public key stays pinned.
    /// Gives back the record's place and the id of the new key.
    ///
    /// # Errors
    /// When key or record could not be written; the old key signs on then.
    pub fn rotate_key(&self) -> Result<(Receipt, KeyId), AuditError> {
        let mut writer = self.lock();
        let head = writer.lock_head(true)?.ok_or_else(|| writer.head_lost())?;
        let end = writer.locate(&head)?;
        let (id, public) = writer.keys.prepare_next()?;
        let details = record::next_key(id.to_string(), public);
        let receipt = writer.write(&head, end, |sequence, hostname| {
            record::encode_own(sequence, Event::KeyRotation, hostname, &details)
        })?;
        writer.keys.switch_to(id)?;
        Ok((receipt, id))
    }

    /// With another name for this machine.
    #[cfg(test)]
    pub(super) fn named(self, hostname: &str) -> Self {
        self.lock().hostname = hostname.into();
        self
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn split(head: &Path) -> Result<(&Path, &str), AuditError> {
    let name = head.file_name().and_then(|name| name.to_str());
    head.parent().zip(name).ok_or_else(|| AuditError::Io {
        action: "open",
        path: head.into(),
        source: io::Error::from(io::ErrorKind::InvalidFilename),
    })
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() || name.len() > 255 { "localhost".into() } else { name.into() }
}

/// The end of the log: what the next line follows.
struct End {
    sequence: u64,
    line: Sha,
    /// The first number of the file to write to.
    file: u64,
    /// Where in it to write.
    length: u64,
    /// Whether a newline is missing there.
    newline: bool,
    recovery: Recovery,
    /// The key that signs the next line; `None` in an empty log.
    key: Option<KeyId>,
}

/// Name of the file that begins with this record.
pub(super) fn file_name(start: u64) -> String {
    format!("audit-{start:012}.jsonl")
}

/// The number in the name of a log file.
pub(super) fn start_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    let start: u64 = digits.parse().ok()?;
    (start > 0 && file_name(start) == name).then_some(start)
}

impl Writer {
    fn head_lost(&self) -> AuditError {
        let path = self.state.path.join(&self.head_name);
        AuditError::io("open", &path)(io::Error::from(io::ErrorKind::NotFound))
    }

    /// Opens the head and locks it: one process at a time is at the log. `None` if it is not there and not to be made.
    fn lock_head(&self, make: bool) -> Result<Option<File>, AuditError> {
        let path = || self.state.path.join(&self.head_name);
        let started = Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            let file = match self.state.write(&self.head_name)? {
                Some(file) => file,
                None if make => self.state.create(&self.head_name)?,
                None => return Ok(None),
            };
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::WouldBlock) if started.elapsed() >= self.options.patience => {
                        return Err(AuditError::Busy { path: path(), waited: self.options.patience });
                    }
                    Err(TryLockError::WouldBlock) => {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(2));
                    }
                    Err(TryLockError::Error(error)) => return Err(AuditError::io("lock", &path())(error)),
                }
            }
            // Somebody may have put another file there while we waited for this one.
            if self.state.names(&self.head_name, &file) {
                return Ok(Some(file));
            }
            if started.elapsed() >= self.options.patience {
                return Err(AuditError::Busy { path: path(), waited: self.options.patience });
            }
        }
    }

    /// Finds the end of the log. The head says where it is; what a process that was killed left behind it is looked at.
    fn locate(&mut self, head: &File) -> Result<End, AuditError> {
        let path = self.state.path.join(&self.head_name);
        let bytes = Head::bytes(head).map_err(AuditError::io("read", &path))?;
        let found = match &self.known {
            Some((known, head, key)) if *known == bytes => Found::Valid(*head, *key),
            _ => {
                let mut found = Head::found_by(&bytes, &self.keys);
                if found == Found::Damaged {
                    // Another process may have changed the key.
                    self.keys.reload()?;
                    found = Head::found_by(&bytes, &self.keys);
                }
                if let Found::Valid(head, key) = found {
                    self.known = Some((bytes, head, key));
                }
                found
            }
        };
        let mut end = match found {
            Found::Valid(head, key) => self.after_head(head, key)?,
            found => match self.after_last_line(if found == Found::Missing { "missing" } else { "damaged" })? {
                Some(end) => end,
                None => End {
                    sequence: 0,
                    line: [0; 32],
                    file: 1,
                    length: 0,
                    newline: false,
                    recovery: Recovery {
                        head: (found == Found::Damaged).then(|| "damaged".into()),
                        ..Recovery::default()
                    },
                    key: None,
                },
            },
        };
        if let Some(key) = end.key.filter(|key| *key != self.keys.signer.id) {
            self.keys.switch_to(key)?;
        }
        end.key = Some(self.keys.signer.id);
        Ok(end)
    }

    fn after_head(&mut self, head: Head, key: KeyId) -> Result<End, AuditError> {
        let mut end = End {
            sequence: head.sequence,
            line: head.line,
            file: head.file,
            length: head.length,
            newline: false,
            recovery: Recovery::default(),
            key: (head.sequence > 0).then_some(key),
        };
        let name = file_name(head.file);
        let file = self.log.write(&name)?;
        let whole = match (&file, head.sequence) {
            (_, 0) => true,
            (None, _) => false,
            (Some(file), _) => match self.last_line(file, &head)? {
                Some(last) if sha256(&last) == head.line => {
                    end.key = Line::parse(&last).and_then(|line| next_key(&line)).or(end.key);
                    true
                }
                _ => false,
            },
        };
        if !whole {
            // It is left as it is, for whoever looks into it.
            end.recovery.log = Some("damaged".into());
            (end.file, end.length) = (head.sequence + 1, 0);
            return self.adopt(end, None);
        }
        self.adopt(end, file)
    }

    /// The bytes that the head says are the last line, without its newline.
    fn last_line(&self, file: &File, head: &Head) -> Result<Option<Vec<u8>>, AuditError> {
        let size = head.length - head.offset;
        if size > LONGEST_LINE as u64 + 1 {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        match file.read_exact_at(&mut bytes, head.offset) {
            Ok(()) => Ok(bytes.strip_suffix(b"\n").map(<[u8]>::to_vec)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(AuditError::io("read", &self.log.path.join(file_name(head.file)))(error)),
        }
    }

    /// Takes what stands behind `end`, written by a process that did not come to write the head: first in its file, then
    /// in the file that the next record begins.
    fn adopt(&self, mut end: End, file: Option<File>) -> Result<End, AuditError> {
        let mut adopted = 0;
        if let Some(file) = file {
            adopted += self.adopt_tail(&mut end, &file)?;
        }
        // What stands there already has its place in the chain; only with nothing in the way can there be a next file.
        while end.recovery.aside.is_none()
            && !end.newline
            && let Some(file) = self.log.write(&file_name(end.sequence + 1))?
        {
            let mut next = End { file: end.sequence + 1, length: 0, recovery: end.recovery.clone(), ..end };
            let found = self.adopt_tail(&mut next, &file)?;
            let nothing = found == 0 && next.recovery.aside.is_none();
            end = next;
            adopted += found;
            if nothing {
                break;
            }
        }
        if adopted > 1 {
            end.recovery.head = Some("stale".into());
        }
        Ok(end)
    }

    /// Takes the records that stand in the file behind `end`; what follows and is none is set aside.
    fn adopt_tail(&self, end: &mut End, file: &File) -> Result<u64, AuditError> {
        let path = self.log.path.join(file_name(end.file));
        let size = file.metadata().map_err(AuditError::io("look at", &path))?.size();
        if size <= end.length {
            return Ok(0);
        }
        if size > 2 * LARGEST_FILE {
            return Err(AuditError::TooLarge { path, reason: "a log file has at most 64 MiB" });
        }
        let mut bytes = vec![0; usize::try_from(size - end.length).unwrap_or_default()];
        file.read_exact_at(&mut bytes, end.length).map_err(AuditError::io("read", &path))?;
        let mut rest = bytes.as_slice();
        let mut adopted = 0;
        while !rest.is_empty() {
            let (line, after, terminated) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default(), true),
                None => (rest, &[][..], false),
            };
            let Some((parsed, whole)) = self.next_line(end, line) else { break };
            end.sequence = parsed.sequence;
            end.line = whole;
            end.key = next_key(&parsed).or(Some(parsed.key));
            end.length += line.len() as u64 + u64::from(terminated);
            end.newline = !terminated;
            adopted += 1;
            rest = after;
        }
        if !rest.is_empty() {
            let unfinished = !rest.contains(&b'\n');
            end.recovery.aside =
                Some(Aside { bytes: rest.len() as u64, sha256: hex::encode(sha256(rest)), torn: unfinished });
            end.length += rest.len() as u64;
            end.newline = !rest.ends_with(b"\n");
        }
        Ok(adopted)
    }

    /// `bytes` as the record after `end`, if a key of ours wrote it there.
    fn next_line<'a>(&self, end: &End, bytes: &'a [u8]) -> Option<(Line<'a>, Sha)> {
        let line = Line::parse(bytes)?;
        let (digest, whole) = line.digests();
        let follows = line.sequence == end.sequence + 1 && line.previous == end.line && line.digest == digest;
        let signed = end.key.is_none_or(|key| key == line.key) && line.signed_by(&self.keys.trusted);
        (follows && signed).then_some((line, whole))
    }

    /// The end of a log that has lost its head: after the last line that a key of ours signed. `None` without files.
    fn after_last_line(&self, head: &str) -> Result<Option<End>, AuditError> {
        let mut starts = self.log.list(MOST_FILES, start_of)?;
        starts.sort_unstable();
        if starts.is_empty() {
            return Ok(None);
        }
        for start in starts.into_iter().rev() {
            let name = file_name(start);
            let path = self.log.path.join(&name);
            let Some(file) = self.log.write(&name)? else { continue };
            let size = file.metadata().map_err(AuditError::io("look at", &path))?.size();
            // The last records; a longer end that holds none is not ours to judge.
            let from = size.saturating_sub(8 * LONGEST_LINE as u64);
            let mut bytes = vec![0; usize::try_from(size - from).unwrap_or_default()];
            file.read_exact_at(&mut bytes, from).map_err(AuditError::io("read", &path))?;
            let mut at = bytes.len();
            while at > 0 {
                let before = bytes.get(..at).unwrap_or_default();
                let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
                let line = before.get(begin..).unwrap_or_default();
                if let Some(parsed) = Line::parse(line)
                    && let (digest, whole) = parsed.digests()
                    && parsed.digest == digest
                    && parsed.signed_by(&self.keys.trusted)
                {
                    let terminated = at < bytes.len();
                    let mut end = End {
                        sequence: parsed.sequence,
                        line: whole,
                        file: start,
                        length: from + at as u64 + u64::from(terminated),
                        newline: !terminated,
                        recovery: Recovery { head: Some(head.into()), ..Recovery::default() },
                        key: next_key(&parsed).or(Some(parsed.key)),
                    };
                    self.adopt_tail(&mut end, &file)?;
                    return Ok(Some(end));
                }
                at = begin.saturating_sub(1);
            }
            if size > 0 {
                return Err(AuditError::Damaged { path, reason: "there is no head, and no record at its end" });
            }
        }
        Err(AuditError::Damaged { path: self.log.path.clone(), reason: "there is no head, and all files are empty" })
    }

    /// Writes what has to be put right, and the event, after `end`; then the head.
    fn write(
        &mut self,
        head: &File,
        mut end: End,
        event: impl FnOnce(u64, &str) -> Vec<u8>,
    ) -> Result<Receipt, AuditError> {
        let head_path = self.state.path.join(&self.head_name);
        let write_head = |new: Head| {
            let bytes = new.encode(&self.keys.signer).map_err(AuditError::io("write", &head_path))?;
            head.write_all_at(&bytes, 0).map_err(AuditError::io("write", &head_path))?;
            if self.options.durable {
                head.sync_data().map_err(AuditError::io("write", &head_path))?;
            }
            Ok(bytes)
        };
        if end.sequence == 0 && end.recovery == Recovery::default() && end.length == 0 {
            // From here on, a line without a head over it is the trace of a process that was killed.
            drop(write_head(Head::START)?);
        }
        let mut bytes = Vec::with_capacity(8192);
        if end.newline {
            bytes.push(b'\n');
        }
        let aside = end.recovery.aside.is_some();
        if end.recovery != Recovery::default() {
            let details = record::recovery(std::mem::take(&mut end.recovery));
            let mut line = record::encode_own(end.sequence + 1, Event::Recovery, &self.hostname, &details);
            end.line = seal(&mut line, &end.line, &self.keys.signer);
            end.sequence += 1;
            bytes.append(&mut line);
            bytes.push(b'\n');
        }
        let mut line = event(end.sequence + 1, &self.hostname);
        let whole = seal(&mut line, &end.line, &self.keys.signer);
        let before = bytes.len() as u64;
        bytes.append(&mut line);
        bytes.push(b'\n');
        let grown = end.length + bytes.len() as u64;
        let first = end.sequence + 1;
        // What was put right stands where it was wrong.
        if end.length > 0 && grown > self.options.file_bytes && before == 0 && !aside {
            (end.file, end.length) = (first, 0);
        }
        let name = file_name(end.file);
        let path = self.log.path.join(&name);
        let file = self.log.create(&name)?;
        let length = end.length + bytes.len() as u64;
        let written = (|| {
            file.write_all_at(&bytes, end.length).map_err(AuditError::io("write", &path))?;
            if self.options.durable {
                file.sync_data().map_err(AuditError::io("write", &path))?;
                if end.length == 0 {
                    self.log.sync().map_err(AuditError::io("write", &self.log.path))?;
                }
            }
            let new = Head { sequence: first, line: whole, file: end.file, offset: end.length + before, length };
            Ok((write_head(new)?, new, self.keys.signer.id))
        })();
        match written {
            Ok(known) => self.known = Some(known),
            Err(error) => {
                // Half a record, or one that was not told to be written, must not stay.
                let _ = file.set_len(end.length);
                return Err(error);
            }
        }
        Ok(Receipt { sequence: first, digest: crate::Digest(whole) })
    }
}

/// The key that a rotation names.
fn next_key(line: &Line<'_>) -> Option<KeyId> {
    if line.event != Event::KeyRotation {
        return None;
    }
    rotation(line).map(|(id, _)| id)
}

/// What a rotation says: id and public key of the next key.
pub(super) fn rotation(line: &Line<'_>) -> Option<(KeyId, String)> {
    let details: record::LogDetails = line.unmapped()?;
    let next = details.next_key?;
    let mut id = [0; 8];
    hex::decode_to_slice(&next.key, &mut id).ok()?;
    Some((KeyId(id), next.public))
}
