//! The command `capibara`.
//!
//! [`main_impl`] is the whole program: it reads the command line, carries out the command, prints and gives back the
//! exit code. Standard output is the answer (the script's own output, or one JSON object with `--format json`);
//! everything said about it goes to standard error in lines that begin with `capibara: `.
//!
//! One file per command in `commands/`. What the exit codes mean stands in [`ExitCode`].

#![forbid(unsafe_code)]

mod arguments;
mod artifacts;
mod asking;
mod commands;
mod errors;
mod escape;
mod exit_code;
mod grants;
mod output;
mod overlay;
mod recorder;
mod script;
mod settings;
mod signals;
mod tool_program;
pub mod variables;
mod watching;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use exit_code::ExitCode;

use arguments::{Command, Parsed};
use errors::Failure;
use output::Format;
use settings::Settings;

/// Runs the command line `args` (the program's name first) and gives back the exit code of the process.
///
/// It writes to descriptors 1 and 2, and during a run reacts to SIGINT and SIGTERM. It never exits by itself.
#[must_use]
pub fn main_impl(args: impl IntoIterator<Item = OsString>) -> i32 {
    let args: Vec<OsString> = args.into_iter().collect();
    let code = catch_unwind(AssertUnwindSafe(|| execute(&args))).unwrap_or_else(|_| {
        let failure = Failure::new("internal", "the program itself broke down; the lines above say where")
            .with_hint("this is a bug in capibara, please report it with these lines");
        let format = arguments::wanted_format(&args, Format::default());
        report(&failure, format, arguments::is_run(&args).then_some(false))
    });
    i32::from(code.number())
}

fn execute(args: &[OsString]) -> ExitCode {
    let (settings, unusable) = match Settings::load() {
        Ok(settings) => (settings, None),
        Err(failure) => (Settings::default(), Some(failure)),
    };
    let command = match arguments::parse(args, &settings) {
        Parsed::Command(command) => command,
        Parsed::Answered(code) => return code,
    };
    if let Some(failure) = unusable.filter(|_| command.reads_settings()) {
        let format = arguments::wanted_format(args, settings::format_of_variable().unwrap_or_default());
        return report(&failure, format, arguments::is_run(args).then_some(false));
    }
    match command {
        Command::Run(run) => {
            let (format, live) = (run.how.shown.format, run.given.live);
            commands::run::execute(&run, &settings).unwrap_or_else(|failure| report(&failure, format, Some(live)))
        }
        Command::Repl(repl) => {
            commands::repl::execute(*repl, &settings).unwrap_or_else(|failure| report(&failure, Format::Text, None))
        }
        Command::Ask(ask) => {
            let format = ask.format();
            commands::ask::ask(*ask, &settings).unwrap_or_else(|failure| report_asked(&failure, format))
        }
        Command::Generate(generate) => {
            let format = generate.format();
            commands::ask::generate(*generate, &settings).unwrap_or_else(|failure| report_asked(&failure, format))
        }
        Command::Model(command) => {
            let format = command.format();
            commands::model::execute(command).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Scan(scan) => {
            let format = if scan.format == commands::scan::ScanFormat::Text { Format::Text } else { Format::Json };
            commands::scan::execute(&scan, &settings).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Policy(command) => {
            let format = command.format();
            commands::policy::execute(command, &settings).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Runtime(command) => {
            let format = command.format();
            commands::runtime::execute(command).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Audit(command) => {
            let format = command.format();
            commands::audit::execute(command).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Config(command) => {
            let format = command.format(&settings);
            commands::config::execute(&command, &settings).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Init(init) => {
            let format = init.output.format;
            commands::init::execute(&init).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Doctor(doctor) => {
            let format = doctor.output.format;
            commands::doctor::execute(&doctor).unwrap_or_else(|failure| report(&failure, format, None))
        }
        Command::Completions(completions) => commands::completions::execute(&completions),
        Command::Man(man) => {
            commands::man::execute(&man).unwrap_or_else(|failure| report(&failure, Format::Text, None))
        }
    }
}

/// Says why a command failed: on standard error always, and as a JSON object where one was asked for. `run` as in
/// [`output::json::print_failure`].
fn report(failure: &Failure, format: Format, run: Option<bool>) -> ExitCode {
    output::text::Console::new().failure(failure);
    match format {
        Format::Text => failure.exit,
        Format::Json => output::json::print_failure(failure, run),
    }
}

/// As [`report`], with all keys of what `ask` and `generate` print.
fn report_asked(failure: &Failure, format: Format) -> ExitCode {
    output::text::Console::new().failure(failure);
    match format {
        Format::Text => failure.exit,
        Format::Json => output::json::print(&asking::report::AskReport::failed(failure), failure.exit),
    }
}
