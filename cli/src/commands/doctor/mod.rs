//! `capibara doctor`: what is wrong with this machine and with what is set up on it, and the command that mends it.
//!
//! A check says one thing of one place. What it says is wrong has a `fix`, one command to be pasted into a shell, or, where no
//! command can mend it, `advice`. Nothing is changed, built, compiled or sent.

mod fix;
mod folders;
mod machine;
mod record;
mod runtime;
mod setup;

use clap::Args;
use serde::Serialize;

use super::Output;
use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::json::{self, SCHEMA};
use crate::output::{Format, answer};

/// Say what is wrong here, and what mends it
///
/// Looks at the machine (kernel, processor, memory, open files), at what is set (variables, configuration, policies, models),
/// at the cache folder with the runtime in it, and at the audit log, and runs one small script. Each thing that is wrong
/// comes with a command to be pasted into the shell that will run capibara. Nothing is changed or built. Exit codes: 0
/// nothing is broken (there may be warnings), 1 something is, 125 could not.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// Scripts run, and something is to be known.
    Warning,
    /// Scripts do not run, or something is not what it was written as.
    Error,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    message: String,
    /// A command.
    fix: Option<String>,
    /// What to do where no command does it.
    advice: Option<String>,
}

impl Check {
    fn new(name: &'static str, status: Status, message: impl Into<String>) -> Self {
        Self { name, status, message: message.into(), fix: None, advice: None }
    }

    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, message)
    }

    fn warning(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Warning, message)
    }

    fn error(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Error, message)
    }

    fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }

    fn advice(mut self, sentence: impl Into<String>) -> Self {
        self.advice = Some(sentence.into());
        self
    }

    fn advice_of(mut self, hint: Option<String>) -> Self {
        self.advice = hint;
        self
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut lines = self.message.lines();
        let first = lines.next().unwrap_or_default();
        out.push_str(&format!("{:<8} {:<16} {}\n", self.status.name(), self.name, escape::line(first)));
        for line in lines {
            out.push_str(&format!("{:25} {}\n", "", escape::line(line)));
        }
        for (word, text) in [("fix", &self.fix), ("hint", &self.advice)] {
            for line in text.iter().flat_map(|text| text.lines()) {
                out.push_str(&format!("  {word}: {}\n", escape::line(line)));
            }
        }
        out
    }
}

/// The JSON of `doctor`, `schema/doctor.v1.json`.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// Whether nothing is broken.
    ok: bool,
    checks: Vec<Check>,
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        Self { schema: SCHEMA, ok: checks.iter().all(|check| check.status != Status::Error), checks }
    }

    fn text(&self) -> String {
        let mut out: String = self.checks.iter().map(Check::text).collect();
        let count = |status| self.checks.iter().filter(|check| check.status == status).count();
        let plural = |count, word| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings) = (count(Status::Error), count(Status::Warning));
        out.push_str(&match (errors, warnings) {
            (0, 0) => "everything is as it should be\n".to_owned(),
            _ => format!("{}, {}\n", plural(errors, "error"), plural(warnings, "warning")),
        });
        out
    }
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(arguments: &DoctorArguments) -> Result<ExitCode, Failure> {
    let mut checks = Vec::new();
    machine::check(&mut checks);
    setup::check(&mut checks);
    runtime::check(&mut checks);
    record::check(&mut checks);
    let report = Report::of(checks);
    let code = if report.ok { ExitCode::Yes } else { ExitCode::No };
    Ok(match arguments.output.format {
        Format::Json => json::print(&report, code),
        Format::Text => answer(report.text().as_bytes(), code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_text() {
        let checks = vec![
            Check::ok("kernel", "Linux 6.12"),
            Check::warning("open-files", "few\x1b").fix("ulimit -S -n 1024"),
            Check::error("settings", "wrong:\nline 1").advice("write it anew"),
        ];
        let report = Report::of(checks);
        assert!(!report.ok);
        assert_eq!(
            report.text(),
            "ok       kernel           Linux 6.12\nwarning  open-files       few\\x1b\n  fix: ulimit -S -n 1024\n\
             error    settings         wrong:\n                          line 1\n  hint: write it anew\n1 error, 1 warning\n"
        );
        let fine = Report::of(vec![Check::ok("kernel", "x")]);
        assert!(fine.ok && fine.text().ends_with("everything is as it should be\n"));
    }
}
