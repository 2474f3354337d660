//! `capibara completions`: the script that lets a shell complete our command line.

use clap::Args;
use clap_complete::Shell;

use crate::arguments;
use crate::exit_code::ExitCode;
use crate::output::answer;

/// Print what lets a shell complete this command
///
/// A script on standard output, for commands, options and their values. Where to put it: bash
/// `~/.local/share/bash-completion/completions/capibara`, zsh a file `_capibara` in a folder of `$fpath`, fish
/// `~/.config/fish/completions/capibara.fish`; elvish and PowerShell read it in their start file. Example:
/// `source <(capibara completions bash)`. Exit codes: 0, 125 could not.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    shell: Shell,
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(arguments: &CompletionsArguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut arguments::definition(), "capibara", &mut script);
    answer(&script, ExitCode::Yes)
}
