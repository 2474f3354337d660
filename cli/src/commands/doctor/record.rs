//! The audit log, its head and its keys.

use std::path::{Path, PathBuf};

use capibara::audit::{
    AuditError, AuditFolders, AuditLog, AuditOptions, TrustedKeys, Verification, VerifyOptions, verify_with,
};

use super::folders::{self, OPEN, WRITABLE};
use super::{Check, Status, fix};

const LOG: &str = "audit-log";
const KEYS: &str = "audit-keys";
/// In the folder of keys: the one that signs, and those that are trusted.
const KEY: &str = "audit.key";
const PINS: &str = "audit.pins.jsonl";

pub(super) fn check(checks: &mut Vec<Check>) {
    let folders = match AuditFolders::from_env() {
        Ok(folders) => folders,
        Err(error) => {
            checks.push(Check::error(LOG, error.to_string()).fix(super::setup::EXPORT_HOME));
            return;
        }
    };
    let trusted = keys(checks, &folders);
    log(checks, &folders, trusted);
}

/// The pinned keys, if they can be trusted.
fn keys(checks: &mut Vec<Check>, folders: &AuditFolders) -> Option<TrustedKeys> {
    let files: Vec<PathBuf> = std::fs::read_dir(&folders.keys)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("audit."))
        .map(|entry| entry.path())
        .collect();
    let (secret, others): (Vec<PathBuf>, Vec<PathBuf>) = files
        .into_iter()
        .partition(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(KEY)));
    let others: Vec<PathBuf> = std::iter::once(folders.keys.clone()).chain(others).collect();
    let mut found = folders::guard(KEYS, &others, WRITABLE);
    let mut open = folders::guard(KEYS, &secret, OPEN);
    if open.iter().any(|check| check.fix.as_ref().is_some_and(|fix| fix.starts_with("chmod "))) {
        for check in &mut open {
            check.message.push_str(": who has read it can sign records; `capibara audit rotate-key` draws another");
        }
    }
    found.append(&mut open);
    let pinned = TrustedKeys::pinned(&folders.keys);
    match &pinned {
        Ok(keys) if !keys.is_empty() && !folders.keys.join(KEY).exists() => {
            let error = AuditError::KeyMissing { path: folders.keys.join(KEY) };
            found.push(
                Check::error(KEYS, format!("{error}, and the log cannot go on: put it back, or begin a new log"))
                    .fix(begin_anew(&[&folders.log, &folders.head, &folders.keys])),
            );
        }
        Ok(_) => {}
        Err(error) if found.is_empty() => {
            found.push(not_read(KEYS, error, &[&folders.keys, &folders.log, &folders.head]))
        }
        // Said already.
        Err(_) => {}
    }
    if found.is_empty() {
        let count = pinned.as_ref().map_or(0, |keys| keys.ids().count());
        let what = if count == 0 {
            "none yet: the first run makes them".into()
        } else {
            format!("{count} pinned, readable by you alone")
        };
        found.push(Check::ok(KEYS, what));
    }
    checks.append(&mut found);
    pinned.ok()
}

fn log(checks: &mut Vec<Check>, folders: &AuditFolders, trusted: Option<TrustedKeys>) {
    let mut paths: Vec<PathBuf> = vec![folders.log.clone(), folders.head.clone()];
    let entries = std::fs::read_dir(&folders.log).into_iter().flatten().flatten();
    paths.extend(entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "jsonl")));
    let mut found = folders::guard(LOG, &paths, WRITABLE);
    if let Some(check) = cannot_write(folders) {
        found.push(check);
    }
    // What is not to be trusted is not read by the verifier, either.
    if found.iter().all(|check| check.status != Status::Error)
        && let Some(trusted) = trusted
    {
        found.push(match verify_with(folders, &trusted, &VerifyOptions::default()) {
            Ok(verification) if verification.is_whole() => match not_ready(folders) {
                Some(check) => check,
                None => whole(&verification),
            },
            Ok(verification) => changed(&verification, folders),
            Err(error) => not_read(LOG, &error, &[&folders.log, &folders.head]),
        });
    }
    checks.append(&mut found);
}

/// Why a record could not be appended to the log that is there.
fn not_ready(folders: &AuditFolders) -> Option<Check> {
    // Only what is there is opened: opening makes what is not.
    let files = [folders.log.clone(), folders.head.clone(), folders.keys.join(KEY), folders.keys.join(PINS)];
    if !files.iter().all(|path| path.exists()) {
        return None;
    }
    let error = AuditLog::open(folders, AuditOptions::default()).and_then(|log| log.ready()).err()?;
    Some(match &error {
        AuditError::KeyInvalid { .. } | AuditError::KeyMissing { .. } | AuditError::UnknownKey { .. } => {
            not_read(KEYS, &error, &[&folders.log, &folders.head, &folders.keys])
        }
        _ => not_read(LOG, &error, &[&folders.log, &folders.head]),
    })
}

/// Why a record could not be written.
fn cannot_write(folders: &AuditFolders) -> Option<Check> {
    let above = folders.head.parent()?;
    [&*folders.log, above].into_iter().find_map(|folder| {
        let there = folders::nearest_there(folder);
        if !there.is_dir() {
            return Some(
                Check::error(LOG, format!("`{}` is not a folder", there.display())).fix(fix::set_aside(there)),
            );
        }
        let error = folders::barred(there)?;
        let check = Check::error(
            LOG,
            format!("`{}` cannot be written: {error}; under a policy that must record, nothing runs", there.display()),
        );
        Some(match error {
            rustix::io::Errno::ACCESS => check.fix(format!("chmod u+rwx {}", fix::word(there))),
            _ => check.advice("set CAPIBARA_HOME to a folder that you can write"),
        })
    })
}

fn changed(verification: &Verification, folders: &AuditFolders) -> Check {
    let what = verification.problem.as_ref().map_or_else(String::new, |problem| {
        let (place, kind) = (&problem.place, problem.kind.name());
        format!("{}:{}: record {} {kind}: {}", place.file, place.line, place.sequence, problem.message)
    });
    Check::error(LOG, format!("it was changed: {what}; keep it for whoever looks into that, and begin a new one"))
        .fix(begin_anew(&[&folders.log, &folders.head]))
}

fn whole(verification: &Verification) -> Check {
    let notes = match verification.notes.len() {
        0 => String::new(),
        1 => ", with 1 note (`capibara audit verify`)".into(),
        count => format!(", with {count} notes (`capibara audit verify`)"),
    };
    Check::ok(LOG, format!("whole: {} records{notes}", verification.records))
}

fn not_read(name: &'static str, error: &AuditError, paths: &[&Path]) -> Check {
    let message = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let check = Check::error(name, message);
    match error {
        AuditError::Damaged { .. }
        | AuditError::KeyInvalid { .. }
        | AuditError::KeyMissing { .. }
        | AuditError::UnknownKey { .. } => check.fix(begin_anew(paths)),
        _ => check.advice_of(error.hint().map(str::to_owned)),
    }
}

/// Puts what is there of these into a folder beside the first, so that a new log begins.
fn begin_anew(paths: &[&Path]) -> String {
    let place = paths.first().map_or_else(|| PathBuf::from("audit"), |first| fix::free_name(first, "broken"));
    let there: Vec<&&Path> = paths.iter().filter(|path| path.symlink_metadata().is_ok()).collect();
    format!("mkdir -m 700 {0} && mv {1} {0}", fix::word(&place), fix::words(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_log_begins_where_the_old_one_was() {
        let dir = tempfile::tempdir().unwrap();
        let folders = AuditFolders::below(dir.path());
        std::fs::create_dir(&folders.log).unwrap();
        std::fs::write(&folders.head, "x").unwrap();
        let command = begin_anew(&[&folders.log, &folders.head, &folders.keys]);
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
        let aside = dir.path().join("audit.broken");
        assert!(aside.join("audit").is_dir() && aside.join("audit.head").is_file() && !folders.log.exists());
        std::fs::create_dir(&folders.log).unwrap();
        assert!(begin_anew(&[&folders.log]).contains("audit.broken-2"));
    }
}
