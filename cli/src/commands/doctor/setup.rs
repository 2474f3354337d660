//! What a user has set: variables, the configuration, policies, models.

use std::path::{Path, PathBuf};

use capibara_generate::key::KeySource;
use capibara_generate::profile::Profiles;
use capibara_policies::PolicyFolders;

use super::folders::{self, OPEN, WRITABLE};
use super::{Check, fix};
use crate::asking::models;
use crate::escape;
use crate::settings::{self, Origin, Settings, Wrong, WrongPlace};
use crate::variables::CAPIBARA_HOME;

/// Sets the home folder to what the system has for this user.
pub(super) const EXPORT_HOME: &str = "export HOME=\"$(getent passwd \"$(id -u)\" | cut -d: -f6)\"";

pub(super) fn check(checks: &mut Vec<Check>) {
    variables(checks);
    let found = PolicyFolders::from_environment();
    let Some(folder) = found.configuration().map(Path::to_path_buf) else {
        checks.push(
            Check::error(
                "configuration",
                format!("no folder of a configuration is known: neither {CAPIBARA_HOME} nor HOME is set"),
            )
            .fix(EXPORT_HOME),
        );
        return;
    };
    configuration(checks, &folder);
    let usable = settings(checks, &folder);
    policies(checks, &found, usable);
    models(checks, &folder);
}

fn variables(checks: &mut Vec<Check>) {
    const NAME: &str = "variables";
    let mut found: Vec<Check> =
        settings::unknown_variables().into_iter().map(|(name, meant)| unknown(&name, meant)).collect();
    if let Some(home) = std::env::var_os(CAPIBARA_HOME).map(PathBuf::from).filter(|home| !home.as_os_str().is_empty())
        && !home.is_absolute()
        && let Ok(absolute) = std::path::absolute(&home)
    {
        // Policies ignore it, the audit log does not.
        let message = format!(
            "{CAPIBARA_HOME} is `{}`, which is no absolute path: the configuration is not looked for there",
            home.display()
        );
        found.push(Check::error(NAME, message).fix(fix::export(CAPIBARA_HOME, absolute)));
    }
    if found.is_empty() {
        let count = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CAPIBARA_")).count();
        found.push(Check::ok(
            NAME,
            if count == 0 {
                "none of CAPIBARA_… is set".into()
            } else {
                format!("{count} of CAPIBARA_… set, all known")
            },
        ));
    }
    checks.append(&mut found);
}

fn unknown(name: &str, meant: Option<String>) -> Check {
    const NAME: &str = "variables";
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match meant {
        Some(meant) if word && std::env::var_os(&meant).is_none() => {
            Check::warning(NAME, format!("{name} sets nothing: did you mean {meant}?"))
                .fix(format!("export {meant}=\"${name}\" && unset {name}"))
        }
        _ if word => Check::warning(NAME, format!("{name} sets nothing")).fix(format!("unset {name}")),
        _ => Check::warning(NAME, format!("{name} sets nothing"))
            .advice("no shell can have set it: look where this one was started"),
    }
}

fn configuration(checks: &mut Vec<Check>, folder: &Path) {
    const NAME: &str = "configuration";
    if folder.symlink_metadata().is_ok() && !folder.is_dir() {
        checks.push(Check::error(NAME, format!("`{}` is not a folder", folder.display())).fix(fix::set_aside(folder)));
        return;
    }
    let paths = ["", "policies", settings::FILE, models::FILE]
        .map(|name| if name.is_empty() { folder.into() } else { folder.join(name) });
    let mut found = folders::guard(NAME, &paths, WRITABLE);
    if found.is_empty() {
        let there = if folder.exists() { "" } else { " (not there, and need not be)" };
        found.push(Check::ok(NAME, format!("`{}`{there}", folder.display())));
    }
    checks.append(&mut found);
}

/// Whether all that is set can be used.
fn settings(checks: &mut Vec<Check>, folder: &Path) -> bool {
    const NAME: &str = "settings";
    let file = folder.join(settings::FILE);
    let wrong = Settings::examine();
    if wrong.is_empty() {
        let what = if file.exists() {
            format!("`{}` is read", file.display())
        } else {
            "no file of settings, and none is needed".into()
        };
        checks.push(Check::ok(NAME, what));
        return true;
    }
    // The file that an editing command replaces must be the file itself, and no link to it.
    let real = std::fs::canonicalize(&file).unwrap_or(file);
    checks.extend(wrong.into_iter().map(|wrong| mended(wrong, &real)));
    false
}

fn mended(Wrong { place, message, hint }: Wrong, file: &Path) -> Check {
    let message = match &hint {
        Some(hint) => format!("{message} ({hint})"),
        None => message,
    };
    let check = Check::error("settings", message);
    let simple = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    check.fix(match place {
        WrongPlace::Line(line, Some((key, meant))) if simple(&key) => {
            format!("sed -i '{line}s/{key}/{meant}/' {}", fix::word(file))
        }
        WrongPlace::Line(line, _) => format!("sed -i '{line}s/^/# /' {}", fix::word(file)),
        WrongPlace::File => fix::set_aside(file),
        WrongPlace::Variable(name) => format!("unset {name}"),
    })
}

fn policies(checks: &mut Vec<Check>, found: &PolicyFolders, settings_usable: bool) {
    const NAME: &str = "policies";
    let listed = match found.list() {
        Ok(listed) => listed,
        Err(error) => {
            checks.push(
                Check::error(NAME, format!("the administrator's ceiling cannot be used, so nothing runs: {error}"))
                    .fix(fix::as_root(&fix::set_aside(&found.ceiling))),
            );
            return;
        }
    };
    let own: Vec<_> = listed.iter().filter_map(|policy| Some((policy.path.as_ref()?, policy))).collect();
    let paths: Vec<PathBuf> = own.iter().map(|(path, _)| (*path).clone()).collect();
    let mut wrong = folders::guard(NAME, &paths, WRITABLE);
    for (path, policy) in &own {
        if let Err(error) = &policy.policy {
            wrong.push(Check::error(NAME, shortened(&error.to_string())).fix(fix::set_aside(path)));
        }
    }
    if settings_usable
        && let Ok(set) = Settings::load()
        && let Err(failure) = set.policy()
        // Said already, if it is one of those above.
        && !own.iter().any(|(_, policy)| policy.policy.is_err() && set.policy_name() == *policy.name)
    {
        let check = Check::error(NAME, failure.full_message());
        wrong.push(match set.origin(settings::Key::Policy) {
            Some(Origin::File(file, line)) => {
                let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.clone());
                check.fix(format!("sed -i '{line}s/^/# /' {}", fix::word(real)))
            }
            Some(Origin::Variable(name)) => check.fix(format!("unset {name}")),
            _ => check.advice_of(failure.hint),
        });
    }
    if wrong.is_empty() {
        wrong.push(Check::ok(NAME, format!("{} presets and {} of yours", listed.len() - own.len(), own.len())));
    }
    checks.append(&mut wrong);
}

/// What is wrong with a document, of which there may be a lot.
fn shortened(text: &str) -> String {
    const MOST: usize = 4;
    let mut lines: Vec<&str> = text.lines().take(MOST + 1).collect();
    if lines.len() > MOST {
        lines.truncate(MOST);
        lines.push("…");
    }
    lines.join("\n")
}

fn models(checks: &mut Vec<Check>, folder: &Path) {
    const NAME: &str = "models";
    let file = folder.join(models::FILE);
    let profiles = match Profiles::read([&file]) {
        Ok(profiles) => profiles,
        Err(error) => {
            let message = match error.hint() {
                Some(hint) => format!("{error} ({hint})"),
                None => error.to_string(),
            };
            checks.push(Check::error(NAME, message).fix(fix::set_aside(&file)));
            return;
        }
    };
    let own = profiles.user_defined();
    let mut wrong = Vec::new();
    for profile in profiles.iter().filter(|profile| own.contains(&profile.name)) {
        if let KeySource::File(path) = &profile.key {
            let path = at_home(path);
            if path.is_file() {
                wrong.append(&mut folders::guard(NAME, &[path], OPEN));
            } else {
                let message =
                    format!("the key of profile `{}` is not there: `{}`", escape::line(&profile.name), path.display());
                wrong.push(
                    Check::warning(NAME, message)
                        .advice("write the key, and nothing else, into that file, with mode 0600"),
                );
            }
        }
    }
    if wrong.is_empty() {
        wrong.push(Check::ok(NAME, format!("{} profiles of yours", own.len())));
    }
    checks.append(&mut wrong);
}

fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}
