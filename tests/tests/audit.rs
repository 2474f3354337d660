//! The audit log: what is done to it is seen and named, what happens to it does it no harm.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use capibara::audit::{
    AuditError, AuditFolders, AuditLog, AuditOptions, Filter, FindingMark, LogFile, ProblemKind, Record, RunStatus,
    TrustedKeys, Verification, VerifyOptions, list, verify, verify_files, verify_with,
};
use capibara::{Digest, Usage};
use capibara_policies::{Severity, Verdict};
use capibara_tests::Sandbox;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// A log in a folder of its own.
struct Home {
    dir: TempDir,
    folders: AuditFolders,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folders = AuditFolders::below(dir.path());
        Self { dir, folders }
    }

    fn open(&self) -> AuditLog {
        AuditLog::open(&self.folders, AuditOptions::default()).unwrap()
    }

    fn with_records(count: u64) -> Self {
        let home = Self::new();
        home.append(count);
        home
    }

    fn append(&self, count: u64) {
        let log = self.open();
        append(&log, 0..count);
    }

    fn verify(&self) -> Verification {
        verify(&self.folders, &VerifyOptions::default()).unwrap()
    }

    fn problem(&self) -> Option<(ProblemKind, u64, u64)> {
        told(&self.verify())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.folders.log)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn files(&self) -> Vec<LogFile> {
        let read = |name: String| LogFile { bytes: fs::read(self.folders.log.join(&name)).unwrap(), name };
        self.names().into_iter().map(read).collect()
    }

    fn last_file(&self) -> PathBuf {
        self.folders.log.join(self.names().last().unwrap())
    }

    fn head(&self) -> Vec<u8> {
        fs::read(&self.folders.head).unwrap()
    }

    fn keys(&self) -> TrustedKeys {
        TrustedKeys::pinned(&self.folders.keys).unwrap()
    }
}

fn append(log: &AuditLog, which: std::ops::Range<u64>) {
    which.for_each(|i| assert!(log.append(&record(i)).unwrap().sequence > 0));
}

fn record(i: u64) -> Record {
    let mut record =
        Record::new(format!("script-{i}.py"), "python", if i.is_multiple_of(3) { "strict" } else { "moderate" });
    record.script_sha256 = Some(Digest([i as u8; 32]));
    record.script_bytes = Some(i * 7);
    record.policy_sha256 = Some(Digest([3; 32]));
    record.verdict = Some([Verdict::Allow, Verdict::Warn, Verdict::Deny][i as usize % 3]);
    record.status = if i % 3 == 2 { RunStatus::Denied } else { RunStatus::Completed };
    record.exit_code = (i % 3 != 2).then_some(0);
    record.usage = (i % 3 != 2).then(|| Usage { fuel: Some(i), ..Usage::default() });
    record.job_sha256 = Some(Digest([9; 32]));
    record.findings = (0..i % 4)
        .map(|n| FindingMark {
            rule: "dynamic-code".into(),
            severity: Severity::Warning,
            path: format!("/home/somebody/script-{i}.py"),
            line: n as u32 + 1,
            column: 1,
        })
        .collect();
    record
}

/// Kind, line and record number of what is wrong.
fn told(verification: &Verification) -> Option<(ProblemKind, u64, u64)> {
    verification.problem.as_ref().map(|problem| (problem.kind, problem.place.line, problem.place.sequence))
}

/// Lines with their newlines.
fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// A log of 1,000 lines that several tests change in memory.
struct Thousand {
    name: String,
    bytes: Vec<u8>,
    lines: Vec<Vec<u8>>,
    /// Where each line begins, and the end.
    starts: Vec<usize>,
    head: Vec<u8>,
    keys: TrustedKeys,
}

impl Thousand {
    fn get() -> &'static Self {
        static LOG: OnceLock<Thousand> = OnceLock::new();
        LOG.get_or_init(|| {
            let home = Home::with_records(1_000);
            let LogFile { name, bytes } = home.files().remove(0);
            let lines = lines_of(&bytes);
            assert_eq!(lines.len(), 1_000);
            let starts = (0..=1_000).map(|at| lines[..at].iter().map(Vec::len).sum()).collect();
            Self { name, bytes, lines, starts, head: home.head(), keys: home.keys() }
        })
    }

    fn verify(&self, bytes: Vec<u8>, head: Option<&[u8]>) -> Verification {
        let file = LogFile { name: self.name.clone(), bytes };
        verify_files(&[file], head, &self.keys, &VerifyOptions::default())
    }

    /// What is said about these bytes between the lines before `at` and those from `after` on.
    fn told_with(&self, at: usize, between: &[u8], after: usize) -> Option<(ProblemKind, u64, u64)> {
        let bytes = [&self.bytes[..self.starts[at]], between, &self.bytes[self.starts[after]..]].concat();
        told(&self.verify(bytes, Some(&self.head)))
    }

    /// The same, verified from the line before on: for further changes of one line.
    fn told_near(&self, at: usize, between: &[u8], after: usize) -> Option<(ProblemKind, u64, u64)> {
        let bytes = [&self.bytes[..self.starts[at]], between, &self.bytes[self.starts[after]..]].concat();
        let mut options = VerifyOptions::default();
        options.from = (at > 0).then_some(at as u64);
        let file = LogFile { name: self.name.clone(), bytes };
        told(&verify_files(&[file], Some(&self.head), &self.keys, &options))
    }

    /// What is said about these lines.
    fn told(&self, lines: &[Vec<u8>]) -> Option<(ProblemKind, u64, u64)> {
        told(&self.verify(lines.concat(), Some(&self.head)))
    }
}

#[test]
fn a_log_that_nobody_touched_is_whole() {
    let log = Thousand::get();
    let mut verification = Verification::default();
    let fastest = (0..20).map(|_| {
        let bytes = log.lines.concat();
        let started = Instant::now();
        verification = log.verify(bytes, Some(&log.head));
        started.elapsed()
    });
    eprintln!("verified 1,000 lines in {:?}", fastest.min().unwrap());
    assert_eq!(told(&verification), None);
    assert_eq!((verification.records, verification.first_sequence, verification.last_sequence), (1_000, 1, 1_000));
    assert!(verification.notes.is_empty() && verification.last_digest.is_some());
}

#[test]
fn every_line_flipped() {
    let log = Thousand::get();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for at in 0..1_000 {
        // A byte of each line, and for some lines each byte, newline included; those are verified from there on.
        let length = log.lines[at].len();
        let all = [0, 99, 999].contains(&at);
        let places: Vec<usize> = if all { (0..length).collect() } else { vec![random.next_u32() as usize % length] };
        for place in places {
            let mut line = log.lines[at].clone();
            line[place] ^= 1 << (random.next_u32() % 8);
            let expected = Some((ProblemKind::Edited, at as u64 + 1, at as u64 + 1));
            let told = if all { Thousand::told_near } else { Thousand::told_with };
            assert_eq!(told(log, at, &line, at + 1), expected, "line {at}, byte {place}");
        }
    }
}

#[test]
fn every_line_dropped() {
    let log = Thousand::get();
    for at in 0..1_000 {
        let kind = if at == 999 { ProblemKind::Truncated } else { ProblemKind::Deleted };
        assert_eq!(log.told_with(at, b"", at + 1), Some((kind, at as u64 + 1, at as u64 + 1)));
    }
    // Several at once.
    let mut lines = log.lines.clone();
    drop(lines.drain(10..20));
    let verification = log.verify(lines.concat(), Some(&log.head));
    assert_eq!(told(&verification), Some((ProblemKind::Deleted, 11, 11)));
    assert!(verification.problem.unwrap().message.contains("records 11 to 20"));
    assert_eq!(verification.records, 10);
}

#[test]
fn every_line_swapped() {
    let log = Thousand::get();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for at in 0..999 {
        for other in [at + 1, at + 1 + random.next_u32() as usize % (999 - at)] {
            let middle = log.lines[at + 1..other].concat();
            let between = [log.lines[other].as_slice(), &middle, &log.lines[at]];
            assert_eq!(
                log.told_with(at, &between.concat(), other + 1),
                Some((ProblemKind::Reordered, at as u64 + 1, at as u64 + 1)),
                "{at} {other}"
            );
        }
    }
}

#[test]
fn before_every_line_inserted() {
    let log = Thousand::get();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let foreign = Home::with_records(1_001);
    let foreign = lines_of(&foreign.files().remove(0).bytes);
    for (at, foreign) in foreign.iter().enumerate() {
        let insert = |line: Vec<u8>| log.told_near(at, &line, at);
        let here = Some((ProblemKind::Inserted, at as u64 + 1, at as u64 + 1));
        // An old or a later line once more; the same line twice is one too many behind itself.
        let copied = random.next_u32() as usize % 1_000;
        let told = log.told_with(at, &log.lines[copied], at);
        if copied == at {
            assert_eq!(told, Some((ProblemKind::Inserted, at as u64 + 2, at as u64 + 2)));
        } else {
            assert_eq!(told, here, "a copy of {copied} before {at}");
        }
        // Something that is no record, also an empty line.
        assert_eq!(insert(b"{\"not\":\"a record\"}\n".to_vec()), here);
        assert_eq!(insert(b"\n".to_vec()), here);
        // A record of the right number and place, by somebody without the key.
        let forged = reseal(foreign, at.checked_sub(1).map(|before| log.lines[before].as_slice()));
        let told = insert(forged);
        assert!(
            matches!(told, Some((ProblemKind::Inserted | ProblemKind::UnknownKey, line, _)) if line == at as u64 + 1)
        );
    }
}

#[test]
fn at_every_line_truncated() {
    let log = Thousand::get();
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for at in 0..1_000 {
        let line = &log.lines[at];
        let expected = Some((ProblemKind::Truncated, at as u64 + 1, at as u64 + 1));
        for kept in [0, 1, random.next_u32() as usize % line.len(), line.len() - 1] {
            let told = if kept == 0 { Thousand::told_with } else { Thousand::told_near };
            assert_eq!(told(log, at, &line[..kept], 1_000), expected, "line {at} cut to {kept} bytes");
        }
        // The line alone, while others follow.
        let mut cut = line[..random.next_u32() as usize % (line.len() - 1)].to_vec();
        cut.push(b'\n');
        assert_eq!(log.told_near(at, &cut, at + 1), Some((ProblemKind::Edited, at as u64 + 1, at as u64 + 1)));
    }
}

/// A line with this line before it, and digests that are right again; the signature stays what it was.
fn reseal(line: &[u8], before: Option<&[u8]>) -> Vec<u8> {
    let text = std::str::from_utf8(line).unwrap();
    let trimmed = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).to_vec();
    let previous = before.map_or("0".repeat(64), |before| hex::encode(Sha256::digest(trimmed(before))));
    let (start, rest) = text.rsplit_once("\"previous\":\"").unwrap();
    let body = format!("{start}\"previous\":\"{previous}{}", &rest[64..rest.find(",\"digest\":\"").unwrap()]);
    let tail = &rest[rest.find("\",\"signature\":").unwrap()..];
    format!("{body},\"digest\":\"{}{tail}", hex::encode(Sha256::digest(&body))).into_bytes()
}

#[test]
fn digests_recomputed_to_the_end_do_not_help() {
    let log = Thousand::get();
    for at in (0..1_000).step_by(37).chain([998, 999]) {
        let mut lines = log.lines.clone();
        let text = String::from_utf8(lines[at].clone()).unwrap();
        lines[at] = text.replace("\"python\"", "\"pythom\"").into_bytes();
        assert_ne!(lines[at], log.lines[at]);
        for i in at..1_000 {
            let before = i.checked_sub(1).map(|before| lines[before].clone());
            lines[i] = reseal(&lines[i], before.as_deref());
        }
        // The chain is right; only the signatures are not. Without a head, too.
        let expected = Some((ProblemKind::Edited, at as u64 + 1, at as u64 + 1));
        assert_eq!(log.told(&lines), expected);
        assert_eq!(told(&log.verify(lines.concat(), None)), expected);
    }
    // The tool of this test is right: sealed again, a line that nobody changed is the same line.
    assert_eq!(reseal(&log.lines[5], Some(&log.lines[4])), log.lines[5]);
    assert_eq!(reseal(&log.lines[0], None), log.lines[0]);
}

#[test]
fn a_log_signed_by_somebody_else_is_not_ours() {
    let (ours, theirs) = (Home::with_records(5), Home::with_records(5));
    let wrong = verify_with(&theirs.folders, &ours.keys(), &VerifyOptions::default()).unwrap();
    assert_eq!(told(&wrong), Some((ProblemKind::UnknownKey, 1, 1)));
    // With their public key it is verified without their folder of keys.
    let public: Vec<String> = theirs.keys().public().map(|(_, key)| key).collect();
    let keys = TrustedKeys::from_hex(public.iter().map(String::as_str)).unwrap();
    assert_eq!(told(&verify_with(&theirs.folders, &keys, &VerifyOptions::default()).unwrap()), None);
    assert!(TrustedKeys::from_hex(["00"]).is_err());
    // A writer whose key nobody pinned stops.
    fs::copy(theirs.folders.keys.join("audit.key"), ours.folders.keys.join("audit.key")).unwrap();
    let error = AuditLog::open(&ours.folders, AuditOptions::default()).unwrap_err();
    assert_eq!(error.code(), "audit-unknown-key");
}

#[test]
fn a_cut_tail_is_seen_and_stays_seen() {
    for cut_lines in [1, 3, 10] {
        let home = Home::with_records(10);
        let path = home.last_file();
        let lines = lines_of(&fs::read(&path).unwrap());
        fs::write(&path, lines[..10 - cut_lines].concat()).unwrap();
        let first = 11 - cut_lines as u64;
        assert_eq!(home.problem(), Some((ProblemKind::Truncated, first, first)));
        // The next record does not paper over it: it goes on from the head.
        let receipt = home.open().append(&record(0)).unwrap();
        assert_eq!(receipt.sequence, 12, "record 11 tells what was found");
        let (kind, line, sequence) = home.problem().unwrap();
        assert!(matches!(kind, ProblemKind::Truncated | ProblemKind::Deleted), "{kind:?}");
        assert_eq!((line, sequence), (first, first));
        // Who has looked into it goes on from there.
        let mut options = VerifyOptions::default();
        options.from = Some(12);
        assert_eq!(told(&verify(&home.folders, &options).unwrap()), None);
    }
    // The whole folder.
    let home = Home::with_records(3);
    fs::remove_dir_all(&home.folders.log).unwrap();
    assert_eq!(home.problem().map(|(kind, _, sequence)| (kind, sequence)), Some((ProblemKind::Truncated, 1)));
}

#[test]
fn heads_that_are_missing_damaged_or_old() {
    // Missing: also after others have written on.
    let home = Home::with_records(4);
    fs::remove_file(&home.folders.head).unwrap();
    assert_eq!(home.problem(), Some((ProblemKind::HeadMissing, 4, 4)));
    home.append(2);
    assert_eq!(home.problem(), Some((ProblemKind::HeadMissing, 5, 5)));

    // Cut and without a head: what is left cannot say how much is missing, but that it may.
    let home = Home::with_records(4);
    let lines = lines_of(&fs::read(home.last_file()).unwrap());
    fs::write(home.last_file(), lines[..2].concat()).unwrap();
    fs::remove_file(&home.folders.head).unwrap();
    home.append(1);
    assert_eq!(home.problem(), Some((ProblemKind::HeadMissing, 3, 3)));

    // Damaged, in each byte that says something.
    let home = Home::with_records(4);
    let head = home.head();
    let end = head.iter().rposition(|byte| *byte == b'}').unwrap();
    for at in 0..=end {
        let mut damaged = head.clone();
        damaged[at] ^= 1;
        let verification = verify_files(&home.files(), Some(&damaged), &home.keys(), &VerifyOptions::default());
        let (kind, ..) = told(&verification).unwrap();
        assert_eq!(kind, ProblemKind::HeadDamaged, "byte {at}");
    }
    let mut damaged = head.clone();
    damaged[20] ^= 1;
    fs::write(&home.folders.head, &damaged).unwrap();
    home.append(1);
    assert_eq!(home.problem(), Some((ProblemKind::HeadDamaged, 5, 5)));

    // Made of a record's own signature: it signs records, not heads.
    let home = Home::with_records(4);
    let text = String::from_utf8(home.head()).unwrap();
    let line = fs::read_to_string(home.last_file()).unwrap();
    let signature_of = |text: &str| text[text.rfind("\"signature\":\"").unwrap() + 13..][..128].to_owned();
    let forged = text.replace(&signature_of(&text), &signature_of(line.trim_end()));
    assert_ne!(forged, text);
    fs::write(&home.folders.head, forged).unwrap();
    assert_eq!(home.problem(), Some((ProblemKind::HeadDamaged, 4, 4)));

    // One record behind: killed between the two writes. The next record puts it right.
    let home = Home::with_records(4);
    let old = home.head();
    home.append(1);
    fs::write(&home.folders.head, &old).unwrap();
    let verification = home.verify();
    assert!(verification.is_whole() && verification.records == 5);
    assert_eq!(verification.notes.iter().map(|note| note.kind).collect::<Vec<_>>(), ["head-behind"]);
    home.append(1);
    let verification = home.verify();
    assert!(verification.is_whole() && verification.records == 6 && verification.notes.is_empty());

    // Older: somebody put it back. Seen now, and after others have written on.
    let home = Home::with_records(4);
    let old = home.head();
    home.append(2);
    fs::write(&home.folders.head, &old).unwrap();
    assert_eq!(home.problem(), Some((ProblemKind::HeadStale, 6, 6)));
    home.append(1);
    assert_eq!(home.problem(), Some((ProblemKind::HeadStale, 7, 7)));

    // The first record, killed before its head.
    let home = Home::new();
    home.append(1);
    let (files, head) = (home.files(), home.head());
    let begun = String::from_utf8(head).unwrap();
    assert!(begun.contains("\"sequence\":1,"));
    assert_eq!(told(&verify_files(&files, Some(begun.as_bytes()), &home.keys(), &VerifyOptions::default())), None);

    // Nothing at all.
    let home = Home::new();
    assert_eq!(home.verify(), Verification::default());
}

#[test]
fn a_record_noted_elsewhere_is_held_against_the_log() {
    let home = Home::with_records(9);
    let receipt = home.open().append(&record(9)).unwrap();
    home.append(5);
    let expect = |sequence, digest| {
        let mut options = VerifyOptions::default();
        options.expect = Some((sequence, digest));
        told(&verify(&home.folders, &options).unwrap())
    };
    assert_eq!(expect(receipt.sequence, receipt.digest), None);
    assert_eq!(expect(9, receipt.digest), Some((ProblemKind::Edited, 9, 9)));
    assert_eq!(expect(16, receipt.digest), Some((ProblemKind::Truncated, 16, 16)));
}

#[test]
fn half_written_lines_are_set_aside() {
    let home = Home::with_records(3);
    let (path, head) = (home.last_file(), home.head());
    let before = fs::read(&path).unwrap();
    home.append(1);
    let after = fs::read(&path).unwrap();
    let line = &after[before.len()..];
    for kept in (0..line.len()).step_by(97).chain([1, line.len() - 1, line.len()]) {
        fs::write(&path, &after[..before.len() + kept]).unwrap();
        fs::write(&home.folders.head, &head).unwrap();
        let verification = home.verify();
        assert!(verification.is_whole(), "{kept}: {verification:?}");
        let whole = kept + 1 >= line.len();
        let notes: Vec<_> = verification.notes.iter().map(|note| (note.kind, note.place.line)).collect();
        let expected = match kept {
            0 => vec![],
            _ if whole => vec![("head-behind", 4)],
            _ => vec![("torn-line", 4)],
        };
        assert_eq!(notes, expected, "{kept}");
        let receipt = home.open().append(&record(8)).unwrap();
        // What was there in full is a record; what was torn is told by one.
        assert_eq!(receipt.sequence, if kept == 0 { 4 } else { 5 }, "{kept}");
        let verification = home.verify();
        assert!(verification.is_whole(), "{kept}: {verification:?}");
        assert_eq!(verification.records, receipt.sequence);
        let torn = kept > 0 && !whole;
        assert_eq!(verification.notes.len(), usize::from(torn), "{kept}");
        // Written on, and edited there: it is no place to hide.
        if torn {
            let written = fs::read(&path).unwrap();
            let mut edited = written.clone();
            edited[before.len() + kept / 2] ^= 1;
            fs::write(&path, &edited).unwrap();
            assert!(!home.verify().is_whole(), "{kept}");
        }
    }
    // Bytes that a loss of power left.
    fs::write(&path, [&before[..], &[0; 3000]].concat()).unwrap();
    fs::write(&home.folders.head, &head).unwrap();
    assert!(home.verify().is_whole());
    home.append(2);
    assert!(home.verify().is_whole());
    // Whole lines that are no records were not torn off.
    fs::write(&path, [&before[..], b"one\ntwo\n"].concat()).unwrap();
    fs::write(&home.folders.head, &head).unwrap();
    assert_eq!(home.problem(), Some((ProblemKind::Inserted, 4, 4)));
    home.append(2);
    assert_eq!(home.problem(), Some((ProblemKind::Inserted, 4, 4)));
}

#[test]
fn files_are_rotated_and_the_chain_goes_on() {
    let home = Home::new();
    let mut options = AuditOptions::default();
    options.file_bytes = 64 << 10;
    let log = AuditLog::open(&home.folders, options).unwrap();
    append(&log, 0..400);
    let names = home.names();
    assert!(names.len() > 4, "{names:?}");
    let files = home.files();
    for (before, after) in files.iter().zip(&files[1..]) {
        assert!(before.bytes.len() <= 64 << 10);
        let (last, first) = (lines_of(&before.bytes).pop().unwrap(), lines_of(&after.bytes).remove(0));
        let text = String::from_utf8(first).unwrap();
        assert!(text.contains(&hex::encode(Sha256::digest(last.strip_suffix(b"\n").unwrap()))));
        let start: u64 = after.name["audit-".len()..].strip_suffix(".jsonl").unwrap().parse().unwrap();
        assert!(text.starts_with(&format!("{{\"metadata\":{{\"sequence\":{start},")));
    }
    let verification = home.verify();
    assert!(verification.is_whole());
    assert_eq!((verification.records, verification.files), (400, names.len() as u64));

    // A file is removed: the first, one in the middle, the last.
    let told_without = |removed: usize| {
        let mut files = home.files();
        drop(files.remove(removed));
        verify_files(&files, Some(&home.head()), &home.keys(), &VerifyOptions::default())
    };
    assert_eq!(told(&told_without(0)), Some((ProblemKind::Deleted, 1, 1)));
    let middle = told_without(2);
    let problem = middle.problem.unwrap();
    assert_eq!((problem.kind, problem.place.file.as_str()), (ProblemKind::Deleted, names[1].as_str()));
    assert_eq!(told(&told_without(names.len() - 1)).unwrap().0, ProblemKind::Truncated);

    // The oldest were moved away on purpose.
    let start: u64 = names[2]["audit-".len()..].strip_suffix(".jsonl").unwrap().parse().unwrap();
    let mut options = VerifyOptions::default();
    options.from = Some(start);
    fs::remove_file(home.folders.log.join(&names[0])).unwrap();
    fs::remove_file(home.folders.log.join(&names[1])).unwrap();
    let verification = verify(&home.folders, &options).unwrap();
    assert!(verification.is_whole(), "{verification:?}");
    assert_eq!((verification.first_sequence, verification.last_sequence), (start, 400));
    options.from = Some(start + 5);
    let verification = verify(&home.folders, &options).unwrap();
    assert_eq!((verification.is_whole(), verification.first_sequence), (true, start + 5));

    // The end of a file that another one follows is cut, at a line and in the middle of one.
    let mut files = home.files();
    let cut = files[1].bytes.len() - 1;
    files[1].bytes.truncate(cut);
    options.from = Some(start);
    let told_cut = |files: &[LogFile]| told(&verify_files(files, Some(&home.head()), &home.keys(), &options)).unwrap();
    assert_eq!(told_cut(&files).0, ProblemKind::Truncated);
    let whole = lines_of(&files[1].bytes);
    files[1].bytes = whole[..whole.len() - 2].concat();
    assert_eq!(told_cut(&files).0, ProblemKind::Deleted);
}

#[test]
fn keys_are_rotated_by_a_signed_record() {
    let home = Home::with_records(3);
    // A process that goes on with the old key in its memory.
    let other = home.open();
    let old = fs::read(home.folders.keys.join("audit.key")).unwrap();
    let (receipt, id) = home.open().rotate_key().unwrap();
    assert_eq!(receipt.sequence, 4);
    assert_ne!(fs::read(home.folders.keys.join("audit.key")).unwrap(), old);
    assert_eq!(home.keys().ids().count(), 2);
    let _ = other.append(&record(1)).unwrap();
    let last = fs::read_to_string(home.last_file()).unwrap().lines().last().unwrap().to_owned();
    assert!(last.contains(&format!("\"key\":\"{id}\"")));
    assert!(home.verify().is_whole());
    let _ = other.append(&record(2)).unwrap();
    let _ = home.open().rotate_key().unwrap();
    let _ = other.append(&record(3)).unwrap();
    assert_eq!(home.verify().records, 8);
    assert!(home.verify().is_whole());

    // The old key is good for nothing any more, even if somebody kept it.
    let stolen = Home::new();
    fs::create_dir_all(&stolen.folders.keys).unwrap();
    fs::set_permissions(&stolen.folders.keys, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(stolen.folders.keys.join("audit.key"), &old).unwrap();
    stolen.append(12);
    let forged = lines_of(&fs::read(stolen.last_file()).unwrap());
    let mut lines = lines_of(&fs::read(home.last_file()).unwrap());
    lines.push(reseal(&forged[8], lines.last().map(Vec::as_slice)));
    fs::write(home.last_file(), lines.concat()).unwrap();
    assert_eq!(home.problem(), Some((ProblemKind::UnknownKey, 9, 9)));

    // Killed between the record and the change of the file: the next one carries it out.
    let home = Home::with_records(2);
    let old = fs::read(home.folders.keys.join("audit.key")).unwrap();
    let _ = home.open().rotate_key().unwrap();
    fs::rename(home.folders.keys.join("audit.key"), home.folders.keys.join("audit.key.next")).unwrap();
    fs::write(home.folders.keys.join("audit.key"), &old).unwrap();
    home.append(2);
    assert!(home.verify().is_whole());
    assert_ne!(fs::read(home.folders.keys.join("audit.key")).unwrap(), old);

    // A key that is gone is not made anew in silence.
    fs::remove_file(home.folders.keys.join("audit.key")).unwrap();
    assert!(matches!(AuditLog::open(&home.folders, AuditOptions::default()), Err(AuditError::KeyMissing { .. })));
}

#[test]
fn folders_and_files_are_private_and_no_links() {
    let home = Home::with_records(1);
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&home.folders.log), 0o700);
    assert_eq!(mode(&home.folders.keys), 0o700);
    for entry in fs::read_dir(&home.folders.keys).unwrap().chain(fs::read_dir(&home.folders.log).unwrap()) {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert_eq!(mode(&home.folders.head), 0o600);
    let refused = |code: &str| {
        let error = AuditLog::open(&home.folders, AuditOptions::default())
            .and_then(|log| log.ready().and_then(|()| log.append(&record(1)).map(drop)))
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.hint().is_some());
    };
    // A file of the log, then the head, is a link; then others may write.
    let (path, aside) = (home.last_file(), home.dir.path().join("aside"));
    for path in [&path, &home.folders.head, &home.folders.keys.join("audit.key")] {
        fs::rename(path, &aside).unwrap();
        symlink(&aside, path).unwrap();
        refused("audit-io");
        fs::remove_file(path).unwrap();
        fs::rename(&aside, path).unwrap();
    }
    for path in [&path, &home.folders.log, &home.folders.keys, &home.folders.head] {
        let before = mode(path);
        fs::set_permissions(path, fs::Permissions::from_mode(before | 0o020)).unwrap();
        refused("audit-untrusted");
        fs::set_permissions(path, fs::Permissions::from_mode(before)).unwrap();
    }
    let log = home.open();
    log.ready().unwrap();
    let bytes = fs::read(&path).unwrap();
    log.ready().unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes, "`ready` writes nothing");
    // A log that cannot be written says so before the run, unless we are root.
    fs::set_permissions(&home.folders.log, fs::Permissions::from_mode(0o500)).unwrap();
    let root = fs::write(home.folders.log.join("probe"), "").is_ok();
    assert_eq!(log.ready().is_err(), !root);
    fs::set_permissions(&home.folders.log, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn records_are_bounded_and_hold_no_paths() {
    let home = Home::new();
    let mut record = record(3);
    record.script = "/home/somebody/secret-folder/x\u{1b}[2J.py".into();
    record.policy = "/home/somebody/policy.yaml".into();
    let finding = FindingMark { rule: "r\u{1}".repeat(500), path: "\u{2}".repeat(9_000), ..record.findings[0].clone() };
    record.findings = vec![finding; 5_000];
    record.fence = "\u{3}".repeat(100_000);
    let _ = home.open().append(&record).unwrap();
    let text = fs::read_to_string(home.last_file()).unwrap();
    assert!(text.len() <= capibara::audit::LONGEST_LINE, "{}", text.len());
    assert!(text.contains("\"findings_total\":5000") && !text.contains("somebody"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["process"]["file"]["name"], "x\u{1b}[2J.py");
    assert_eq!(value["policy"]["name"], "policy.yaml");
    assert!(home.verify().is_whole());
}

#[test]
fn records_keep_their_schema() {
    let schema = fs::read(capibara_tests::repository().join("schema/audit.v1.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let home = Home::with_records(8);
    let _ = home.open().rotate_key().unwrap();
    let torn = [fs::read(home.last_file()).unwrap(), b"{\"metadata\"".to_vec()].concat();
    fs::write(home.last_file(), torn).unwrap();
    home.append(1);
    let text = fs::read_to_string(home.last_file()).unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{line}");
        seen.insert(value["metadata"]["event_code"].as_str().unwrap().to_owned());
        // A run without its chain, or of another class, is none.
        for pointer in ["/unmapped/digest", "/unmapped/signature", "/class_uid", "/metadata/sequence", "/actor/user"] {
            let mut broken = value.clone();
            *broken.pointer_mut(pointer).unwrap() = serde_json::Value::Null;
            assert!(!validator.is_valid(&broken), "{pointer}");
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["key-rotation", "recovery", "run"]);
}

#[test]
fn lists_are_filtered_and_end_with_the_newest() {
    let home = Home::new();
    let mut options = AuditOptions::default();
    options.file_bytes = 64 << 10;
    let log = AuditLog::open(&home.folders, options).unwrap();
    append(&log, 0..150);
    let numbers = |change: &dyn Fn(&mut Filter)| -> Vec<u64> {
        let mut filter = Filter::default();
        change(&mut filter);
        list(&home.folders, &filter).unwrap().entries.iter().map(|entry| entry.sequence().unwrap()).collect()
    };
    assert_eq!(numbers(&|_| {}), (1..=150).collect::<Vec<_>>());
    assert_eq!(numbers(&|filter| filter.limit = Some(3)), [148, 149, 150]);
    assert_eq!(numbers(&|filter| filter.script = Some("script-7.py".into())), [8]);
    assert_eq!(numbers(&|filter| filter.script = Some("07070707".into())), [8]);
    assert_eq!(numbers(&|filter| filter.verdict = Some("deny".into())).len(), 50);
    assert_eq!(numbers(&|filter| filter.status = Some("denied".into())).len(), 50);
    assert_eq!(numbers(&|filter| filter.policy = Some("strict".into())).len(), 50);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert_eq!(numbers(&|filter| filter.until = Some(long_ago)), [0_u64; 0]);
    assert_eq!(numbers(&|filter| filter.since = Some(long_ago)).len(), 150);
}

/// Names the folder that a process of this binary appends to, how often, and the size of files.
const APPEND: &str = "CAPIBARA_TEST_AUDIT_APPEND";

fn appender(home: &Home, count: u64, file_bytes: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "appends_if_told_to", "--nocapture", "--test-threads=1"])
        .env(APPEND, format!("{}\n{count}\n{file_bytes}", home.dir.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// The body of those processes; nothing by itself.
#[test]
fn appends_if_told_to() {
    let Ok(told) = std::env::var(APPEND) else { return };
    let words: Vec<&str> = told.split('\n').collect();
    let folders = AuditFolders::below(Path::new(words[0]));
    let mut options = AuditOptions::default();
    options.file_bytes = words[2].parse().unwrap();
    options.patience = Duration::from_secs(60);
    let log = AuditLog::open(&folders, options).unwrap();
    println!();
    for i in 0..words[1].parse().unwrap() {
        println!("appended {} {}", log.append(&record(i)).unwrap().sequence, std::process::id());
    }
}

/// The numbers that a process was given.
fn numbers(output: &str) -> Vec<u64> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("appended "))
        .filter_map(|rest| rest.split_once(' '))
        .map(|(number, _)| number.parse().unwrap())
        .collect()
}

#[test]
fn sixteen_processes_make_one_chain() {
    // The key is made by whoever comes first, and the files are small: both are raced for.
    for file_bytes in [16 << 20, 64 << 10] {
        let home = Home::new();
        let children: Vec<Child> = (0..16).map(|_| appender(&home, 100, file_bytes)).collect();
        let mut all = BTreeSet::new();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let given = numbers(&String::from_utf8(output.stdout).unwrap());
            assert_eq!(given.len(), 100);
            assert!(given.iter().all(|number| all.insert(*number)), "a number was given twice");
        }
        assert_eq!(all, (1..=1_600).collect());
        let verification = home.verify();
        assert!(verification.is_whole(), "{verification:?}");
        assert_eq!((verification.records, verification.notes.len()), (1_600, 0));
        assert_eq!(verification.files > 1, file_bytes == 64 << 10);
        assert_eq!(home.keys().ids().count(), 1);
    }
}

#[test]
fn killed_writers_lose_nothing_they_were_told_of() {
    let home = Home::new();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut known = 0;
    for round in 0..40 {
        let mut children: Vec<Child> = (0..2).map(|_| appender(&home, 1_000_000, 64 << 10)).collect();
        let mut outputs: Vec<_> =
            children.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap())).collect();
        // Both are at it.
        for output in &mut outputs {
            let mut line = String::new();
            while !line.starts_with("appended") {
                line.clear();
                assert_ne!(output.read_line(&mut line).unwrap(), 0);
            }
        }
        std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 8_000)));
        for child in &mut children {
            child.kill().unwrap();
            let _ = child.wait().unwrap();
        }
        for output in &mut outputs {
            let mut rest = Vec::new();
            output.read_to_end(&mut rest).unwrap();
            let rest = String::from_utf8_lossy(&rest).into_owned();
            // The last line may be half.
            let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
            known = known.max(numbers(whole).into_iter().max().unwrap_or(known));
        }
        let verification = home.verify();
        assert!(verification.is_whole(), "round {round}: {verification:?}");
        assert!(verification.last_sequence >= known, "round {round}: record {known} is lost: {verification:?}");
    }
    assert!(known > 80, "{known}");
    // One that holds the log and stands still is waited for, not forever; one that died does not block.
    home.append(1);
    let _held = {
        let file = fs::OpenOptions::new().read(true).write(true).open(&home.folders.head).unwrap();
        file.lock().unwrap();
        file
    };
    let mut options = AuditOptions::default();
    options.patience = Duration::from_millis(50);
    let log = AuditLog::open(&home.folders, options).unwrap();
    assert!(matches!(log.append(&record(1)), Err(AuditError::Busy { .. })));
}

#[test]
fn appending_is_cheap() {
    let home = Home::with_records(2_000);
    let fastest = |each: &mut dyn FnMut()| {
        let batch = |_| {
            let started = Instant::now();
            (0..20).for_each(|_| each());
            started.elapsed() / 20
        };
        (0..20).map(batch).min().unwrap()
    };
    // As each `capibara run` does: open, ask, append.
    let whole = fastest(&mut || {
        let log = home.open();
        log.ready().unwrap();
        append(&log, 0..1);
    });
    let log = home.open();
    let alone = fastest(&mut || append(&log, 0..1));
    eprintln!("open, ready and append: {whole:?}; append alone: {alone:?}");
    // Ten times what it takes, for machines that are busy.
    assert!(whole < Duration::from_millis(2), "{whole:?}");
}

#[test]
fn the_command_verifies_and_lists() {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
    let folders = AuditFolders::below(&sandbox.dir.path().join("home"));
    let run = |words: &[&str]| {
        let home = sandbox.dir.path().join("home");
        capibara_tests::finish(sandbox.command().env("CAPIBARA_HOME", home).args(words).output().unwrap())
    };
    let ran = run(&["audit", "verify"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "whole: no records\n"), "{ran:?}");
    let log = AuditLog::open(&folders, AuditOptions::default()).unwrap();
    let mut odd = record(1);
    odd.script = "x\u{1b}[2J\u{202e}.py".into();
    let receipt = log.append(&odd).unwrap();
    append(&log, 2..7);
    let ran = run(&["audit", "verify"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("whole: records 1 to 6 in 1 file\n"), "{ran:?}");
    let noted = format!("{}:{}", receipt.sequence, receipt.digest);
    assert_eq!(run(&["audit", "verify", "--expect", &noted]).code, Some(0));
    assert_eq!(run(&["audit", "verify", "--expect", &noted.replacen("1:", "2:", 1)]).code, Some(1));
    assert_eq!(run(&["audit", "verify", "--expect", "1:xyz"]).code, Some(125));

    let ran = run(&["audit", "list", "--limit", "6"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("x\\x1b[2J\\u{202e}.py") && !ran.stdout.contains('\u{1b}'), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 7, "{ran:?}");
    let ran = run(&["audit", "list", "--format", "json", "--verdict", "deny"]);
    let numbers: Vec<u64> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["metadata"]["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!((ran.code, numbers), (Some(0), vec![2, 5]));
    assert_eq!(run(&["audit", "list", "--verdict", "maybe"]).code, Some(125));
    assert_eq!(run(&["audit", "list", "--since", "yesterday"]).code, Some(125));
    assert_eq!(run(&["audit", "list", "--since", "1h", "--until", "2100-01-01T00:00:00Z"]).stdout.lines().count(), 7);
    let ran = run(&["audit", "list", "--until", "2026-01-31"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");

    let ran = run(&["audit", "rotate-key"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(run(&["audit", "list"]).stdout.contains("key-rotation"));
    let ran = run(&["audit", "path", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["log"].as_str(), folders.log.to_str());
    assert_eq!(value["public_keys"].as_array().unwrap().len(), 2);
    let keys: Vec<&str> =
        value["public_keys"].as_array().unwrap().iter().map(|key| key["public"].as_str().unwrap()).collect();
    assert_eq!(run(&["audit", "verify", "--key", keys[0], "--key", keys[1]]).code, Some(0));
    assert_eq!(run(&["audit", "verify", "--key", keys[1]]).code, Some(1));

    let path = folders.log.join("audit-000000000001.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"denied\"", "\"deniec\"", 1)).unwrap();
    let ran = run(&["audit", "verify"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.starts_with("not whole: audit-000000000001.jsonl:2: record 2 edited: "), "{ran:?}");
    let ran = run(&["audit", "verify", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, value["schema"].as_u64(), value["whole"].as_bool()), (Some(1), Some(1), Some(false)));
    assert_eq!(value["problem"]["kind"], "edited");
    assert_eq!((value["problem"]["line"].as_u64(), value["problem"]["sequence"].as_u64()), (Some(2), Some(2)));
    let ran = run(&["audit", "verify", "--from", "3"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("whole: records 3 to 7"), "{ran:?}");
    // Could not.
    fs::set_permissions(&folders.keys, fs::Permissions::from_mode(0o777)).unwrap();
    let ran = run(&["audit", "verify"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("cannot be trusted") && ran.stderr.contains("hint: "), "{ran:?}");
}
