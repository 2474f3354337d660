//! Writes the raw profile of the Python runtime to the file that is named: the part of `cargo xtask profile` that runs WebAssembly.

use std::io::Write;

use capibara::recipe_steps;
use capibara_runtimes::{BuildOptions, Folders, Language, Progress, ProgressEvent, Training, profile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let output = std::env::args_os().nth(1).ok_or("usage: profile FILE")?;
    let training = Training {
        counting: include_str!("../../runtimes/profile/profile.c"),
        program: include_str!("../../runtimes/profile/train.py"),
    };
    let folders = Folders::from_env()?;
    let options = BuildOptions::default();
    let raw = profile(&folders, Language::Python, &options, &training, &recipe_steps()?, &Said)?;
    Ok(std::fs::write(output, raw)?)
}

/// Says on standard error what is being done.
struct Said;

impl Progress for Said {
    fn event(&self, event: ProgressEvent) {
        if let ProgressEvent::Started { phase, .. } = event {
            let _ = writeln!(std::io::stderr(), "{phase:?}");
        }
    }
}
