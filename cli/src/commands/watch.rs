//! `capibara run --watch`: runs a script again whenever one of its files changes.

use std::path::Path;

use super::run::{self, RunArguments};
use crate::errors::Failure;
use crate::exit_code::ExitCode;
use crate::output::text::Console;
use crate::output::{Format, json};
use crate::settings::Settings;
use crate::watching::Watching;

/// Runs until a signal comes, and gives back how the process ends.
pub(super) fn execute(run: &RunArguments, settings: &Settings) -> Result<ExitCode, Failure> {
    let script = match &run.source.script {
        Some(script) if !run::from_standard_input(&run.source) => Path::new(script),
        _ => return Err(no_file("standard input")),
    };
    // What is not there is told by the run itself.
    if script.metadata().is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return Err(no_file(&format!("`{}`", script.display())));
    }
    let granted = run.given.read.iter().map(|mount| mount.host().to_path_buf()).filter(|path| !path.is_dir());
    let watching = Watching::new(script, granted.collect());
    let name = script.file_name().unwrap_or_default();
    let mut again = false;
    loop {
        watching.begin();
        match run::execute_told(run, settings, None, Some(&watching)) {
            Ok(ExitCode::OutputClosed) => return Ok(ExitCode::OutputClosed),
            Ok(_) => {}
            Err(failure) if again || is_of_the_script(&failure) => {
                Console::new().failure(&failure);
                let told = match run.how.shown.format {
                    Format::Text => failure.exit,
                    Format::Json => json::print_failure(&failure, Some(run.given.live)),
                };
                if told == ExitCode::OutputClosed {
                    return Ok(told);
                }
            }
            // No change of a file mends it.
            Err(failure) => return Err(failure),
        }
        again = true;
        let changed = watching
            .wait()
            .map_err(|error| Failure::new("operating-system", "failed to watch for signals").with_cause(&error))?;
        match changed {
            Err(signal) => return Ok(signal.exit_code()),
            Ok(path) if path == script => watching.say(&format!("{} changed; running it again", name.display())),
            Ok(path) => {
                let changed = path.file_name().unwrap_or_default();
                watching.say(&format!("{} changed; running {} again", changed.display(), name.display()));
            }
        }
        watching.speak_through(Console::new());
    }
}

fn no_file(what: &str) -> Failure {
    Failure::new("usage", format!("`--watch` watches a script that is a file, and {what} is none"))
        .with_hint("save the script and name its file: `capibara run --watch script.py`")
}

/// Whether another content of the script may mend it. That it is not there at all is a slip of the command line.
fn is_of_the_script(failure: &Failure) -> bool {
    let slips = ["script-not-found", "script-is-directory", "script-name"];
    failure.exit == ExitCode::Denied || (failure.code.starts_with("script-") && !slips.contains(&failure.code))
}
