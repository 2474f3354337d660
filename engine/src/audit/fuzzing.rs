//! Body of the fuzz target `audit` (see `fuzz/README.md`). Not an API.

use std::fs;
use std::io;
use std::path::Path;

use super::head::Head;
use super::key::{Signer, TrustedKeys};
use super::line::sequence_of;
use super::log::file_name;
use super::{
    AuditFolders, AuditLog, AuditOptions, Filter, LogFile, Record, RunStatus, VerifyOptions, list, verify, verify_files,
};

/// The key that signed the seeds.
const SEED: [u8; 32] = [7; 32];
/// Between the head and the files of a log.
const BETWEEN: &[u8] = b"\n=====\n";

/// A head and files of a log, whatever stands in them: they are verified and listed, and a record is appended. `dir` is
/// a folder of this user that nobody else can write to.
///
/// # Errors
/// When files cannot be written.
pub fn audit(dir: &Path, input: &[u8]) -> io::Result<()> {
    let folders = AuditFolders::below(dir);
    let keys = prepare(&folders)?;
    let (head, files) = parts(input);
    let options = VerifyOptions::default();
    let before = verify_files(&files, head.as_deref(), &keys, &options);
    for from in [1, 2, 7] {
        let _ = verify_files(&files, None, &keys, &VerifyOptions { from: Some(from), ..VerifyOptions::default() });
    }
    // Pins and heads of any bytes, too.
    let _ = TrustedKeys::parse(input);
    let _ = Head::check(input, &keys);

    for file in &files {
        fs::write(folders.log.join(&file.name), &file.bytes)?;
    }
    if let Some(head) = &head {
        fs::write(&folders.head, head)?;
    }
    let same = verify(&folders, &options).map_err(io::Error::other)?;
    assert_eq!(same, before, "on disk as in memory");
    let listed = list(&folders, &Filter::default()).map_err(io::Error::other)?;
    assert!(listed.entries.len() as u64 >= before.records);

    let log = AuditLog::open(&folders, AuditOptions::default()).map_err(io::Error::other)?;
    let mut record = Record::new("x.py", "python", "moderate");
    record.status = RunStatus::Completed;
    // A log whose end cannot be found is refused, and is as it was.
    let Ok(receipt) = log.append(&record) else {
        assert!(!before.is_whole(), "a log that is whole can be appended to");
        return Ok(());
    };
    let after = verify(&folders, &options).map_err(io::Error::other)?;
    assert_eq!(after.is_whole(), before.is_whole(), "{before:?}\n{after:?}");
    if after.is_whole() {
        assert_eq!(after.last_digest, Some(receipt.digest));
        assert!(after.last_sequence == receipt.sequence && after.records > before.records);
    }
    Ok(())
}

/// An empty log with the key of the seeds.
fn prepare(folders: &AuditFolders) -> io::Result<TrustedKeys> {
    if !folders.keys.is_dir() {
        Signer::of(&SEED).install(&folders.keys).map_err(io::Error::other)?;
    }
    if folders.log.is_dir() {
        fs::remove_dir_all(&folders.log)?;
    }
    fs::create_dir(&folders.log)?;
    fs::set_permissions(&folders.log, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    match fs::remove_file(&folders.head) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    TrustedKeys::pinned(&folders.keys).map_err(io::Error::other)
}

/// The head, `None` if it is empty, and the files, each named by the number its first line has.
fn parts(input: &[u8]) -> (Option<Vec<u8>>, Vec<LogFile>) {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + BETWEEN.len()..).unwrap_or_default();
    }
    parts.push(rest);
    let mut parts = parts.into_iter();
    let head = parts.next().map(<[u8]>::to_vec).filter(|head| !head.is_empty());
    let mut files: Vec<LogFile> = Vec::new();
    for bytes in parts.take(8) {
        let start = sequence_of(bytes).map_or(1, |(sequence, _)| sequence.max(1));
        let name = file_name(start);
        if files.iter().all(|file| file.name != name) {
            files.push(LogFile { name, bytes: bytes.to_vec() });
        }
    }
    (head, files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::inputs::inputs;

    #[test]
    fn any_logs_are_verified_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        inputs("audit", 1500, 400).for_each(|input| audit(dir.path(), &input).unwrap());
    }

    #[test]
    #[ignore]
    fn make_seeds() {
        let dir = tempfile::tempdir().unwrap();
        let folders = AuditFolders::below(dir.path());
        prepare(&folders).unwrap();
        let log = AuditLog::open(&folders, AuditOptions::default()).unwrap().named("localhost");
        let record = |i: u8| {
            let mut record = Record::new(format!("script-{i}.py"), "python", "moderate");
            record.status = RunStatus::Completed;
            record.exit_code = Some(0);
            record.script_sha256 = Some(crate::Digest([i; 32]));
            record
        };
        let out = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/audit"));
        fs::create_dir_all(out).unwrap();
        let name = folders.log.join(file_name(1));
        let save = |seed: &str, head: &[u8], file: &[u8]| {
            fs::write(out.join(seed), [head, BETWEEN, file].concat()).unwrap();
        };
        (0..3).for_each(|i| drop(log.append(&record(i))));
        let (head3, log3) = (fs::read(&folders.head).unwrap(), fs::read(&name).unwrap());
        save("whole", &head3, &log3);
        save("head-missing", b"", &log3);
        save("torn", &head3, &[&log3[..], b"{\"metadata\":{\"sequence\":4,\"event_code\":\"run\""].concat());
        save("garbage", &head3, &[&log3[..], b"one\ntwo\n"].concat());
        save("cut", &head3, &log3[..log3.len() - 700]);
        drop(log.append(&record(3)));
        let log4 = fs::read(&name).unwrap();
        save("head-behind", &head3, &log4);
        save("unterminated", &head3, &log4[..log4.len() - 1]);
        fs::write(&name, [&log4[..], b"{torn"].concat()).unwrap();
        drop(log.append(&record(4)));
        save("recovered", &fs::read(&folders.head).unwrap(), &fs::read(&name).unwrap());
        save("head-stale", &head3, &fs::read(&name).unwrap());
        // A file that goes on in another one.
        let mut small = AuditOptions::default();
        small.file_bytes = 1;
        prepare(&folders).unwrap();
        let log = AuditLog::open(&folders, small).unwrap().named("localhost");
        let mut long = record(0);
        long.fence = "f".repeat(256);
        long.findings = (0..32)
            .map(|_| super::super::FindingMark {
                rule: "r".repeat(256),
                severity: capibara_policies::Severity::Error,
                path: "p".repeat(256),
                line: 1,
                column: 1,
            })
            .collect();
        (0..4).for_each(|_| drop(log.append(&long)));
        let mut all = fs::read(&folders.head).unwrap();
        let mut names: Vec<_> = fs::read_dir(&folders.log).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert!(names.len() > 1);
        names.iter().for_each(|name| all.extend([BETWEEN, &fs::read(name).unwrap()].concat()));
        fs::write(out.join("two-files"), all).unwrap();
        fs::write(out.join("pins"), fs::read(folders.keys.join("audit.pins.jsonl")).unwrap()).unwrap();
    }
}
