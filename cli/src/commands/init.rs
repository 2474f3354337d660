//! `capibara init`: writes a policy to begin with.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use capibara_policies::{PRESETS, PolicyFolders};
use clap::Args;
use serde::Serialize;

use super::Output;
use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::json::{self, SCHEMA};
use crate::output::text::Console;
use crate::output::{Format, answer};

/// A policy that says little and explains everything.
const POLICY: &str = include_str!("../templates/policy.yaml");

/// Write a policy to begin with
///
/// A policy file that extends moderate, with every key explained, in the folder of your policies, where `--policy NAME` finds
/// it. `capibara config init` writes a file of settings for all commands. Exit codes: 0 it is written, 125 it could not
/// be, for example because it is there.
#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// Name of the policy, or a path with a `/` in it
    ///
    /// Default: mine. Example: `capibara init reports` and then `capibara run --policy reports script.py`
    #[arg(value_name = "NAME|PATH", default_value = "mine", hide_default_value = true)]
    name: OsString,

    /// Replace a file that is there
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// The JSON of `init` and of `config init`.
#[derive(Debug, Serialize)]
pub(super) struct WrittenReport {
    schema: u32,
    path: String,
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(arguments: &InitArguments) -> Result<ExitCode, Failure> {
    let name = arguments.name.to_string_lossy();
    let (path, policy) = if name.contains('/') {
        (PathBuf::from(&arguments.name), name.to_string())
    } else {
        check_name(&name)?;
        let folder = PolicyFolders::from_environment().user.ok_or_else(no_home)?;
        make_folders(&folder)?;
        (folder.join(format!("{name}.yaml")), name.to_string())
    };
    write(&path, POLICY, arguments.force)?;
    let code = told(&path, arguments.output.format);
    if arguments.output.format == Format::Text && code == ExitCode::Yes {
        Console::new().hint(&format!("run a script under it: `capibara run --policy {policy} script.py`"));
    }
    Ok(code)
}

fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with(['.', '-']) || !name.chars().all(allowed) {
        return Err(Failure::new("policy-name", format!("`{name}` cannot be the name of a policy"))
            .with_hint("a name is made of at most 64 letters, digits, `-`, `_` and `.`; a path has a `/` in it"));
    }
    if PRESETS.iter().any(|(preset, _)| *preset == name) {
        return Err(Failure::new("policy-name", format!("`{name}` is the name of a preset"))
            .with_hint("choose another one, for example `mine`"));
    }
    if let Some(stem) = name.strip_suffix(".yaml") {
        return Err(Failure::new("policy-name", format!("`{name}` is the name of a file"))
            .with_hint(format!("write `{stem}` for a policy of that name, or `./{name}` for a file here")));
    }
    Ok(())
}

pub(super) fn no_home() -> Failure {
    Failure::new("no-configuration", "there is no folder for your configuration")
        .with_hint("set HOME, XDG_CONFIG_HOME or CAPIBARA_HOME to an absolute path")
}

/// Makes a folder of the user's configuration and those above it, for the user alone.
pub(super) fn make_folders(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        Failure::new("write-failed", format!("failed to make the folder `{}`", folder.display())).with_cause(&error)
    })
}

/// Writes a file that must not be there, or is replaced as a whole.
pub(super) fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return Failure::new("already-there", format!("`{}` is already there", path.display()))
                .with_hint("`--force` replaces it, or choose another name");
        }
        Failure::new("write-failed", format!("failed to write `{}`", path.display())).with_cause(&error)
    };
    let fill = |path: &Path| -> io::Result<()> {
        let mut file = File::create_new(path)?;
        let written = file.write_all(text.as_bytes());
        if written.is_err() {
            // Half a file is worse than none.
            drop(fs::remove_file(path));
        }
        written
    };
    if !force || fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return fill(path).map_err(failed);
    }
    if path.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    fill(&beside).map_err(failed)?;
    fs::rename(&beside, path).map_err(|error| {
        drop(fs::remove_file(&beside));
        failed(error)
    })
}

/// Says which file was written.
pub(super) fn told(path: &Path, format: Format) -> ExitCode {
    let shown = path.display().to_string();
    match format {
        Format::Json => json::print(&WrittenReport { schema: SCHEMA, path: shown }, ExitCode::Yes),
        Format::Text => answer(format!("{}\n", escape::line(&shown)).as_bytes(), ExitCode::Yes),
    }
}
