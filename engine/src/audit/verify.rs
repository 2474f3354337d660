//! Reading a log and saying whether it is whole.
//!
//! Every line is digested and compared with the next one. A signature vouches for its line and, through the chain, for
//! all lines before it, because nobody signs a line after one that is not signed. So of each file only the last signature
//! is checked; where that is wrong, the first wrong one is searched for by halving.

use std::fs::File;
use std::io::{BufRead as _, Read as _};
use std::path::Path;

use super::error::AuditError;
use super::files::{AuditFolders, Folder};
use super::head::{Found, Head, SIZE};
use super::key::{KeyId, RECORD, TrustedKeys};
use super::line::{Event, Line, Sha, sequence_of, sha256};
use super::log::{file_name, rotation, start_of};
use super::record::{LogDetails, Recovery};
use super::{LARGEST_FILE, MOST_FILES};
use crate::outcome::Digest;

/// What was done to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A line is not what was written.
    Edited,
    /// Lines are missing, and others follow.
    Deleted,
    /// A line stands before others that were written before it.
    Reordered,
    /// A line stands where none was written: a copy, or one of somebody else.
    Inserted,
    /// Lines are missing at the end, or the last one is cut.
    Truncated,
    /// A line is signed by a key that is not pinned, or that no rotation names.
    UnknownKey,
    /// There is no head, or there was none for a time: a cut would not be seen.
    HeadMissing,
    /// The head is no head, or no pinned key signed it.
    HeadDamaged,
    /// The head is older than the log: a cut in between would not be seen.
    HeadStale,
}

impl ProblemKind {
    /// Permanent name in kebab-case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Reordered => "reordered",
            Self::Inserted => "inserted",
            Self::Truncated => "truncated",
            Self::UnknownKey => "unknown-key",
            Self::HeadMissing => "head-missing",
            Self::HeadDamaged => "head-damaged",
            Self::HeadStale => "head-stale",
        }
    }
}

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file.
    pub file: String,
    /// Line in it, from 1.
    pub line: u64,
    /// Number of the record that stands or should stand there.
    pub sequence: u64,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What was done.
    pub kind: ProblemKind,
    /// Where.
    pub place: Place,
    /// One line for people: what is there instead of what.
    pub message: String,
}

/// Something to know that is no sign of tampering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Permanent name: `torn-line` (a process was killed while it wrote), `head-behind` (a process was killed between
    /// record and head).
    pub kind: &'static str,
    /// Where.
    pub place: Place,
    /// One line for people.
    pub message: String,
}

/// What came of verifying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Records that were found to be right.
    pub records: u64,
    /// Files that were read.
    pub files: u64,
    /// Number of the first record; 0 if there is none.
    pub first_sequence: u64,
    /// Number of the last record that was found to be right.
    pub last_sequence: u64,
    /// SHA-256 of its line.
    pub last_digest: Option<Digest>,
    /// The first thing that is wrong.
    pub problem: Option<Problem>,
    /// Things to know.
    pub notes: Vec<Note>,
}

impl Verification {
    /// Whether the log is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problem.is_none()
    }
}

/// What is verified.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Begin with this record and ask nothing about those before it, for logs whose oldest files were moved away, or
    /// whose earlier damage is known. Default: with record 1.
    pub from: Option<u64>,
    /// A record and the SHA-256 of its line, as they were noted elsewhere. Default: none.
    pub expect: Option<(u64, Digest)>,
}

/// One file of a log, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its name, `audit-000000000001.jsonl`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Verifies the log in these folders against the pinned keys.
///
/// # Errors
/// When it cannot be read. What is wrong in it is no error.
pub fn verify(folders: &AuditFolders, options: &VerifyOptions) -> Result<Verification, AuditError> {
    verify_with(folders, &TrustedKeys::pinned(&folders.keys)?, options)
}

/// Verifies the log in these folders against these keys.
///
/// # Errors
/// When it cannot be read. What is wrong in it is no error.
pub fn verify_with(
    folders: &AuditFolders,
    keys: &TrustedKeys,
    options: &VerifyOptions,
) -> Result<Verification, AuditError> {
    let snapshot = Snapshot::take(folders)?;
    let mut chain = Chain::new(keys, snapshot.head.as_deref(), options, snapshot.starts());
    for (at, (start, file, size)) in snapshot.files.iter().enumerate() {
        let next = snapshot.files.get(at + 1).map(|(start, ..)| *start);
        if chain.skips(next) {
            continue;
        }
        let name = file_name(*start);
        let path = folders.log.join(&name);
        if *size > LARGEST_FILE + (1 << 20) {
            return Err(AuditError::TooLarge { path, reason: "a log file has at most 64 MiB" });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(*size).unwrap_or_default());
        // What is appended meanwhile is behind the head that was read.
        file.take(*size).read_to_end(&mut bytes).map_err(AuditError::io("read", &path))?;
        if chain.file(&name, *start, &bytes, next).is_err() {
            return Ok(chain.done);
        }
    }
    Ok(chain.finish())
}

/// Verifies files in memory, in the order of their names, with the content of the head.
#[must_use]
pub fn verify_files(
    files: &[LogFile],
    head: Option<&[u8]>,
    keys: &TrustedKeys,
    options: &VerifyOptions,
) -> Verification {
    let mut sorted: Vec<(u64, &LogFile)> =
        files.iter().filter_map(|file| start_of(&file.name).map(|start| (start, file))).collect();
    sorted.sort_by_key(|(start, _)| *start);
    let mut chain = Chain::new(keys, head, options, sorted.iter().map(|(start, _)| *start).collect());
    for (at, (start, file)) in sorted.iter().enumerate() {
        let next = sorted.get(at + 1).map(|(start, _)| *start);
        if chain.skips(next) {
            continue;
        }
        if chain.file(&file.name, *start, &file.bytes, next).is_err() {
            return chain.done;
        }
    }
    chain.finish()
}

/// The files of a log and its head as they were at one moment.
struct Snapshot {
    files: Vec<(u64, File, u64)>,
    head: Option<Vec<u8>>,
}

impl Snapshot {
    fn take(folders: &AuditFolders) -> Result<Self, AuditError> {
        let head_path = &folders.head;
        let folder = match head_path.parent() {
            Some(above) => Folder::open(above)?,
            None => None,
        };
        let name = head_path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let head_file = match &folder {
            Some(folder) if !name.is_empty() => folder.read(name)?,
            _ => None,
        };
        if let Some(file) = &head_file {
            // Nobody holds it for long; and who cannot lock may still look.
            file.lock_shared().map_err(AuditError::io("lock", head_path))?;
        }
        let mut files = Vec::new();
        if let Some(log) = Folder::open(&folders.log)? {
            let mut starts = log.list(MOST_FILES, start_of)?;
            starts.sort_unstable();
            for start in starts {
                let name = file_name(start);
                let Some(file) = log.read(&name)? else { continue };
                let size = file.metadata().map_err(AuditError::io("look at", &folders.log.join(&name)))?.len();
                files.push((start, file, size));
            }
        }
        let head = match head_file {
            Some(file) => Some(read_head(&file, head_path)?),
            None => None,
        };
        Ok(Self { files, head })
    }

    fn starts(&self) -> Vec<u64> {
        self.files.iter().map(|(start, ..)| *start).collect()
    }
}

fn read_head(file: &File, path: &Path) -> Result<Vec<u8>, AuditError> {
    let mut bytes = Vec::with_capacity(SIZE + 1);
    file.take(SIZE as u64 + 1).read_to_end(&mut bytes).map_err(AuditError::io("read", path))?;
    Ok(bytes)
}

/// A line that is in the chain and whose signature was not checked yet.
struct Unchecked {
    line: u64,
    sequence: u64,
    key: KeyId,
    digest: Sha,
    signature: [u8; 64],
}

/// A problem was found and is in `Chain::done`.
struct Broken;

struct Chain<'k> {
    keys: &'k TrustedKeys,
    head: Option<Found>,
    options: &'k VerifyOptions,
    /// What the next line must be; `None` where nothing is asked about lines before.
    expected: Option<(u64, Sha)>,
    key: Option<KeyId>,
    /// The digest of the line before the last one, for a head that is one record behind.
    before: Sha,
    unchecked: Vec<Unchecked>,
    /// Name and number of lines of the last file, and whether its last line ends.
    last_file: (String, u64),
    done: Verification,
}

impl<'k> Chain<'k> {
    fn new(keys: &'k TrustedKeys, head: Option<&[u8]>, options: &'k VerifyOptions, starts: Vec<u64>) -> Self {
        let from = options.from.filter(|from| *from > 1);
        let first = starts.first().copied().unwrap_or(1);
        Self {
            keys,
            head: head.map(|bytes| Head::check(bytes, keys)),
            options,
            expected: if from.is_some() { None } else { Some((1, [0; 32])) },
            key: None,
            before: [0; 32],
            unchecked: Vec::new(),
            last_file: (file_name(from.unwrap_or(first).min(first)), 0),
            done: Verification::default(),
        }
    }

    /// Whether a file holds only records nobody asked about, as the next one begins with `next`.
    fn skips(&self, next: Option<u64>) -> bool {
        self.expected.is_none() && next.is_some_and(|next| self.options.from.is_some_and(|from| next <= from))
    }

    fn fail(&mut self, kind: ProblemKind, place: Place, message: impl Into<String>) -> Broken {
        self.done.problem = Some(Problem { kind, place, message: message.into() });
        Broken
    }

    /// Checks that the chain so far is signed. What is not signed was changed by somebody who had no key.
    fn check_signatures(&mut self, name: &str) -> Result<(), Broken> {
        self.check_signatures_before(name, None)
    }

    /// `genuine` is the number of a line that follows and has the number of one in the chain.
    fn check_signatures_before(&mut self, name: &str, genuine: Option<u64>) -> Result<(), Broken> {
        let unchecked = std::mem::take(&mut self.unchecked);
        let keys = self.keys;
        let signed = |line: &Unchecked| keys.signed(line.key, RECORD, &line.digest, &line.signature);
        if unchecked.last().is_none_or(signed) {
            return Ok(());
        }
        let first = unchecked.partition_point(signed);
        let Some(bad) = unchecked.get(first) else { return Ok(()) };
        let place = Place { file: name.into(), line: bad.line, sequence: bad.sequence };
        self.done.records = self.done.records.saturating_sub((unchecked.len() - first) as u64);
        self.done.last_sequence = bad.sequence.saturating_sub(1);
        self.done.last_digest = None;
        if genuine == Some(bad.sequence) {
            return Err(self.fail(
                ProblemKind::Inserted,
                place,
                "this line is signed by no trusted key, and the one it stands for follows",
            ));
        }
        Err(self.fail(ProblemKind::Edited, place, "its digest is right, and no trusted key signed it"))
    }

    /// Verifies one file; `next` is the number that the next file begins with.
    fn file(&mut self, name: &str, start: u64, bytes: &[u8], next: Option<u64>) -> Result<(), Broken> {
        self.done.files += 1;
        // Where the chain is right, lines are taken one after the other; all of them are only looked at where it is not.
        let (mut at, mut offset) = match self.expected {
            Some((sequence, _)) => {
                if start > sequence {
                    let place = Place { file: name.into(), line: 1, sequence };
                    let message = format!("records {sequence} to {} are missing before this file", start - 1);
                    return Err(self.fail(ProblemKind::Deleted, place, message));
                }
                (0, 0)
            }
            None => {
                let lines = split(bytes);
                let at = self.begin(name, &lines)?;
                (at, length(lines.get(..at).unwrap_or_default()))
            }
        };
        while let Some((line, terminated)) = bytes.get(offset..).and_then(next_line) {
            let number = at as u64 + 1;
            let Some(parsed) = Line::parse(line) else {
                let lines = split(bytes);
                at = self.explain(name, bytes, &lines, at, next.is_none())?;
                offset = length(lines.get(..at).unwrap_or_default());
                continue;
            };
            let (sequence, previous) = self.expected.unwrap_or((parsed.sequence, parsed.previous));
            let (digest, whole) = parsed.digests();
            let right = parsed.sequence == sequence && parsed.previous == previous && parsed.digest == digest;
            // A last line without its newline is whole if no head was written over it.
            let cut = !terminated && (next.is_some() || self.head_covers(sequence));
            if !right || cut {
                let lines = split(bytes);
                at = self.explain(name, bytes, &lines, at, next.is_none())?;
                offset = length(lines.get(..at).unwrap_or_default());
                continue;
            }
            self.accept(name, number, &parsed, whole)?;
            at += 1;
            offset += line.len() + usize::from(terminated);
        }
        self.check_signatures(name)?;
        self.last_file = (name.into(), at as u64);
        if let (Some(next), Some((sequence, _))) = (next, self.expected)
            && next > sequence
        {
            let place = Place { file: name.into(), line: at as u64 + 1, sequence };
            let message = format!(
                "records {sequence} to {} are missing at the end of this file, or a file that followed",
                next - 1
            );
            return Err(self.fail(ProblemKind::Deleted, place, message));
        }
        Ok(())
    }

    /// The line of the record to begin with.
    fn begin(&mut self, name: &str, lines: &[(&[u8], bool)]) -> Result<usize, Broken> {
        let from = self.options.from.unwrap_or(1);
        let found = lines.iter().position(|(line, _)| sequence_of(line).is_some_and(|(sequence, _)| sequence >= from));
        match found {
            Some(at) if lines.get(at).and_then(|(line, _)| sequence_of(line)).is_some_and(|(seq, _)| seq == from) => {
                Ok(at)
            }
            _ => {
                let line = found.unwrap_or(lines.len()) as u64 + 1;
                let place = Place { file: name.into(), line, sequence: from };
                Err(self.fail(ProblemKind::Deleted, place, format!("record {from} is not there")))
            }
        }
    }

    fn head_covers(&self, sequence: u64) -> bool {
        matches!(self.head, Some(Found::Valid(head, _)) if head.sequence >= sequence)
    }

    /// Takes a line into the chain.
    fn accept(&mut self, name: &str, number: u64, line: &Line<'_>, whole: Sha) -> Result<(), Broken> {
        let place = || Place { file: name.into(), line: number, sequence: line.sequence };
        if !self.keys.contains(line.key) || self.key.is_some_and(|key| key != line.key) {
            self.check_signatures(name)?;
            let message = format!("it names key {}, which is not pinned or not the one in use there", line.key);
            return Err(self.fail(ProblemKind::UnknownKey, place(), message));
        }
        self.key = Some(line.key);
        let (sequence, digest, signature) = (line.sequence, line.digest, line.signature);
        self.unchecked.push(Unchecked { line: number, sequence, key: line.key, digest, signature });
        if let Some((expected, digest)) = self.options.expect
            && expected == sequence
            && digest.0 != whole
        {
            self.check_signatures(name)?;
            return Err(self.fail(ProblemKind::Edited, place(), "its digest is not the one that was noted elsewhere"));
        }
        match line.event {
            Event::Run => {}
            Event::KeyRotation => {
                self.check_signatures(name)?;
                let next = rotation(line).map(|(id, _)| id).filter(|id| self.keys.contains(*id));
                if next.is_none() {
                    return Err(self.fail(ProblemKind::UnknownKey, place(), "it names a next key that is not pinned"));
                }
                self.key = next;
            }
            Event::Recovery => {
                self.check_signatures(name)?;
                self.recovery(line, place)?;
            }
        }
        self.before = self.expected.map_or(line.previous, |(_, previous)| previous);
        self.expected = Some((sequence + 1, whole));
        if self.done.records == 0 {
            self.done.first_sequence = sequence;
        }
        self.done.records += 1;
        self.done.last_sequence = sequence;
        self.done.last_digest = Some(Digest(whole));
        Ok(())
    }

    fn recovery(&mut self, line: &Line<'_>, place: impl Fn() -> Place) -> Result<(), Broken> {
        let Some(Recovery { head, log, .. }) = details(line) else { return Ok(()) };
        if log.is_some() {
            return Err(self.fail(
                ProblemKind::Truncated,
                place(),
                "records before this line are gone: the head knew of them when this line was written",
            ));
        }
        let Some(head) = head else { return Ok(()) };
        let kind = match head.as_str() {
            "missing" => ProblemKind::HeadMissing,
            "stale" => ProblemKind::HeadStale,
            _ => ProblemKind::HeadDamaged,
        };
        let message = format!("the head was {head} when this line was written: a cut before it would not be seen");
        Err(self.fail(kind, place(), message))
    }

    /// Says what is wrong with the line `at`, or gives back where the chain goes on behind a torn one.
    fn explain(
        &mut self,
        name: &str,
        bytes: &[u8],
        lines: &[(&[u8], bool)],
        at: usize,
        last_file: bool,
    ) -> Result<usize, Broken> {
        let (line, terminated) = lines.get(at).copied().unwrap_or((&[], true));
        let parsed = Line::parse(line);
        let sound = parsed.filter(|parsed| parsed.digests().0 == parsed.digest);
        let genuine = sound.filter(|sound| sound.signed_by(self.keys)).map(|sound| sound.sequence);
        self.check_signatures_before(name, genuine)?;
        let (sequence, previous) = self.expected.unwrap_or((self.options.from.unwrap_or(1), [0; 32]));
        let place = Place { file: name.into(), line: at as u64 + 1, sequence };
        if !terminated && (last_file || sound.is_some()) {
            // The end of the file.
            let cut = match self.head {
                Some(Found::Valid(head, _)) => {
                    head.sequence >= sequence
                        && !(last_file && head.file == start_of(name).unwrap_or(0) && bytes.len() as u64 >= head.length)
                }
                _ => false,
            };
            if cut || (!last_file && sound.is_some()) {
                return Err(self.fail(ProblemKind::Truncated, place, "the file ends in the middle of this line"));
            }
            if !self.head_covers(sequence) && sound.is_none() {
                let message =
                    "a process was killed while it wrote this line; it is no record, and the next record sets it aside";
                self.done.notes.push(Note { kind: "torn-line", place, message: message.into() });
                return Ok(at + 1);
            }
        }
        let Some(sound) = sound else {
            // Set aside by the next record?
            let goes_on = lines.iter().enumerate().skip(at + 1).find_map(|(i, (line, _))| {
                let line = following(line, sequence, &previous)
                    .filter(|line| line.event == Event::Recovery && line.signed_by(self.keys))?;
                Some((i, details(&line)?.aside?))
            });
            if let Some((i, aside)) = goes_on {
                let region = region(bytes, lines, at, i);
                let kept = usize::try_from(aside.bytes).ok().and_then(|count| region.split_at_checked(count));
                let same = kept.is_some_and(|(kept, rest)| {
                    hex::encode(sha256(kept)) == aside.sha256 && (rest.is_empty() || rest == b"\n")
                });
                if same && aside.torn {
                    let message =
                        format!("a process was killed while it wrote this line; record {sequence} sets it aside");
                    self.done.notes.push(Note { kind: "torn-line", place, message });
                    return Ok(i);
                }
                if same {
                    return Err(self.fail(
                        ProblemKind::Inserted,
                        place,
                        format!("these lines are no records; record {sequence} found them here"),
                    ));
                }
            }
            let stands_next = lines.get(at + 1).is_some_and(|(line, _)| following(line, sequence, &previous).is_some());
            // The head knows of no record here.
            let nothing_is_due = last_file && terminated && !self.head_covers(sequence) && self.head.is_some();
            if stands_next || nothing_is_due {
                return Err(self.fail(ProblemKind::Inserted, place, "this line is no record of this log"));
            }
            return Err(self.fail(ProblemKind::Edited, place, "this line is not what was written"));
        };
        let number = sound.sequence;
        let later = |wanted: &dyn Fn(&[u8]) -> bool| lines.iter().skip(at + 1).any(|(line, _)| wanted(line));
        if number == sequence {
            let message = "it does not follow the line before";
            return Err(self.fail(ProblemKind::Edited, place, message));
        }
        if number < sequence {
            let message = format!("record {number} stands here once more");
            return Err(self.fail(ProblemKind::Inserted, place, message));
        }
        let due_follows = later(&|line| sequence_of(line).is_some_and(|(number, _)| number == sequence));
        if due_follows && later(&|other| other == line) {
            return Err(self.fail(
                ProblemKind::Inserted,
                place,
                format!("record {number} stands here as well as in its place"),
            ));
        }
        if due_follows {
            return Err(self.fail(
                ProblemKind::Reordered,
                place,
                format!("record {number} stands before record {sequence}"),
            ));
        }
        if genuine.is_none() {
            return Err(self.fail(
                ProblemKind::Edited,
                place,
                "this line is not what was written, and no trusted key signed it",
            ));
        }
        let missing = if number == sequence + 1 {
            format!("record {sequence} is missing")
        } else {
            format!("records {sequence} to {} are missing", number - 1)
        };
        Err(self.fail(ProblemKind::Deleted, place, missing))
    }

    /// All files are read: compares their end with the head.
    fn finish(mut self) -> Verification {
        let (file, lines) = self.last_file.clone();
        let (next, last) = self.expected.unwrap_or((self.options.from.unwrap_or(1), [0; 32]));
        let end = |sequence| Place { file: file.clone(), line: lines.max(1), sequence };
        let behind = |sequence| Place { file: file.clone(), line: lines + 1, sequence };
        if let Some((expected, _)) = self.options.expect
            && expected >= next
        {
            let message = format!("the log ends with record {}, and record {expected} was noted elsewhere", next - 1);
            let _ = self.fail(ProblemKind::Truncated, behind(next), message);
            return self.done;
        }
        match self.head {
            None | Some(Found::Missing) => {
                // A log that was never begun has none.
                if self.done.files > 0 {
                    let _ = self.fail(
                        ProblemKind::HeadMissing,
                        end(next.saturating_sub(1)),
                        "there is no head: a cut of the end would not be seen",
                    );
                }
            }
            Some(Found::Damaged) => {
                let _ = self.fail(
                    ProblemKind::HeadDamaged,
                    end(next.saturating_sub(1)),
                    "the head is not one, or no trusted key signed it",
                );
            }
            Some(Found::Valid(head, _)) if head.sequence >= next => {
                let missing = if head.sequence == next {
                    format!("record {next} is missing at the end of the log")
                } else {
                    format!("records {next} to {} are missing at the end of the log", head.sequence)
                };
                let _ = self.fail(ProblemKind::Truncated, behind(next), missing);
            }
            Some(Found::Valid(head, _)) if head.sequence + 1 == next => {
                if head.sequence > 0 && head.line != last {
                    let _ = self.fail(
                        ProblemKind::Edited,
                        end(head.sequence),
                        "the last line is not the one the head knows",
                    );
                }
            }
            Some(Found::Valid(head, _))
                if head.sequence + 2 == next && (head.line == self.before || head.sequence == 0) =>
            {
                let message = format!(
                    "a process was killed between record {} and the head; the next record puts it right",
                    next - 1
                );
                self.done.notes.push(Note { kind: "head-behind", place: end(next - 1), message });
            }
            Some(Found::Valid(head, _)) => {
                let message = format!(
                    "the head knows of record {} only: a cut behind record {} would not be seen",
                    head.sequence,
                    next - 1
                );
                let _ = self.fail(ProblemKind::HeadStale, end(next.saturating_sub(1)), message);
            }
        }
        self.done
    }
}

/// `line` as the record of this number after the line of this digest, with a digest that is right.
fn following<'a>(line: &'a [u8], sequence: u64, previous: &Sha) -> Option<Line<'a>> {
    Line::parse(line)
        .filter(|line| line.sequence == sequence && line.previous == *previous && line.digests().0 == line.digest)
}

fn details(line: &Line<'_>) -> Option<Recovery> {
    line.unmapped::<LogDetails>()?.recovery
}

/// The line that `bytes` begin with, and whether it ends with a newline.
fn next_line(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let mut rest = bytes;
    // Reading from memory does not fail; it searches faster than an iterator of bytes.
    let count = rest.skip_until(b'\n').unwrap_or(bytes.len());
    let line = bytes.get(..count).filter(|line| !line.is_empty())?;
    Some(line.strip_suffix(b"\n").map_or((line, false), |line| (line, true)))
}

/// Lines, and whether each ends with a newline.
fn split(bytes: &[u8]) -> Vec<(&[u8], bool)> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some((line, terminated)) = next_line(rest) {
        lines.push((line, terminated));
        rest = rest.get(line.len() + usize::from(terminated)..).unwrap_or_default();
    }
    lines
}

/// Bytes of these lines.
fn length(lines: &[(&[u8], bool)]) -> usize {
    lines.iter().map(|(line, terminated)| line.len() + usize::from(*terminated)).sum()
}

/// The bytes of lines `from` to before `to`.
fn region<'a>(bytes: &'a [u8], lines: &[(&[u8], bool)], from: usize, to: usize) -> &'a [u8] {
    let begin = length(lines.get(..from).unwrap_or_default());
    let end = begin + length(lines.get(from..to).unwrap_or_default());
    bytes.get(begin..end).unwrap_or_default()
}
