//! `capibara man`: the pages of the manual, for those who package the program.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Command};
use clap_mangen::Man;

use crate::arguments;
use crate::errors::Failure;
use crate::exit_code::ExitCode;
use crate::output::answer;

/// Print a page of the manual, or write all of them
///
/// In the language of man pages (roff), made of the same texts as `--help`. Example: `capibara man run | man -l -`, or, for a
/// package, `capibara man --out share/man/man1`. Exit codes: 0, 125 could not.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Command the page is about; capibara itself without
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,

    /// Write all pages into this folder
    ///
    /// One for each command: capibara.1, capibara-run.1, capibara-audit-verify.1 and so on. The folder is made if it is not
    /// there; pages that are there are replaced.
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().try_map(super::run::folder))]
    out: Option<PathBuf>,
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(arguments: &ManArguments) -> Result<ExitCode, Failure> {
    let mut pages = Vec::new();
    collect(&definition(), &mut pages);
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder)
            .and_then(|()| pages.iter().try_for_each(|page| std::fs::write(folder.join(page.file()), page.text()?)))
            .map_err(|error| {
                Failure::new("write-failed", format!("failed to write pages into `{}`", folder.display()))
                    .with_cause(&error)
            })?;
        return Ok(ExitCode::Yes);
    }
    let name = std::iter::once("capibara").chain(arguments.command.iter().map(String::as_str)).collect::<Vec<_>>();
    let Some(page) = pages.iter().find(|page| page.name == name.join("-")) else {
        return Err(Failure::new("usage", format!("there is no command `{}`", name.join(" ")))
            .with_hint("`capibara --help` lists the commands"));
    };
    let text = page.text().map_err(|error| Failure::new("internal", "a page could not be made").with_cause(&error))?;
    Ok(answer(&text, ExitCode::Yes))
}

/// The command line as pages describe it.
fn definition() -> Command {
    let mut command = arguments::definition().disable_help_subcommand(true);
    command.build();
    command
}

struct Page {
    /// `capibara-audit-verify`.
    name: String,
    command: Command,
}

impl Page {
    fn file(&self) -> OsString {
        format!("{}.1", self.name).into()
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Man::new(self.command.clone())
            .title(self.name.clone())
            .source(format!("capibara {}", env!("CARGO_PKG_VERSION")))
            .manual("Capibara")
            .render(&mut text)?;
        Ok(text)
    }
}

fn collect(command: &Command, pages: &mut Vec<Page>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push(Page { name, command: command.clone() });
    command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
        .for_each(|inner| collect(inner, pages));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let mut pages = Vec::new();
        collect(&definition(), &mut pages);
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        for name in ["capibara", "capibara-run", "capibara-doctor", "capibara-audit-verify", "capibara-completions"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("help") || *name == "capibara-man"), "{names:?}");
        for page in &pages {
            let text = String::from_utf8(page.text().unwrap()).unwrap();
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{}", page.name);
        }
    }
}
