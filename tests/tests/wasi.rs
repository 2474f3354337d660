//! One test per program of the WASI test suite in the corpus: it ends as recorded, in a copy of the folder it wants.

use std::path::{Path, PathBuf};

use capibara::{Grant, Job, Policy};
use capibara_tests::{engine, skip};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

/// What does not end as recorded, and why.
const EXPECTED_TO_FAIL: [(&str, &str); 1] = [(
    "c/sock_shutdown-invalid_fd.wasm",
    "takes descriptor 3 for closed; it is always the root here, so that shutting it down is ENOTSOCK and not EBADF",
)];

/// The description beside a program.
#[derive(Default, Deserialize)]
struct Description {
    root: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    exit_code: i32,
    stdout: Option<String>,
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?
        } else {
            std::fs::copy(entry.path(), to).map(drop)?
        }
    }
    Ok(())
}

/// Whether the program ended as recorded; if not, how it ended.
fn run(program: &Path) -> Result<Result<(), String>, Failed> {
    let described = program.with_extension("json");
    let described: Description =
        if described.exists() { serde_json::from_slice(&std::fs::read(described)?)? } else { Description::default() };
    let folder = tempfile::tempdir()?;
    let name = program.file_name().and_then(|name| name.to_str()).ok_or("a name")?;
    let mut job =
        Job::wasm(name, std::fs::read(program)?).with_policy(Policy::preset("permissive")?).with_args(described.args);
    job.env = described.env.into_iter().collect();
    if let Some(root) = described.root {
        copy(&program.with_file_name(root), folder.path())?;
        job = job.with_grant(Grant::write(folder.path()).at("/"));
    }
    let outcome = engine().run_blocking(job)?;
    let printed = outcome.stdout.text();
    let as_recorded =
        outcome.exit_code() == Some(described.exit_code) && described.stdout.is_none_or(|stdout| stdout == printed);
    Ok(if as_recorded { Ok(()) } else { Err(format!("{:?}: {}{}", outcome.status, printed, outcome.stderr.text())) })
}

fn programs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the WASI test suite").flatten() {
        let path = entry.path();
        if path.is_dir() {
            programs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "wasm") {
            found.push(path);
        }
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let Some(corpus) = std::env::var_os("CAPIBARA_CORPUS") else {
        if !arguments.list {
            skip("wasi", "corpus not given");
        }
        libtest_mimic::run(&arguments, Vec::new()).exit();
    };
    let suite = Path::new(&corpus).join("wasi-testsuite");
    let mut found = Vec::new();
    programs(&suite, &mut found);
    found.sort();
    let trials = found
        .into_iter()
        .map(|program| {
            let name = program.strip_prefix(&suite).unwrap_or(&program).display().to_string();
            Trial::test(name.clone(), move || {
                let reason = EXPECTED_TO_FAIL.iter().find(|(failing, _)| *failing == name).map(|(_, reason)| reason);
                match (run(&program)?, reason) {
                    (Ok(()), None) | (Err(_), Some(_)) => Ok(()),
                    (Ok(()), Some(reason)) => Err(format!("passes, and is listed as failing: {reason}").into()),
                    (Err(how), None) => Err(how.into()),
                }
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
