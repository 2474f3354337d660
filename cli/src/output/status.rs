//! One line about a run that takes long and prints nothing, for people at a terminal.
//!
//! It stands where the script's next line would, and is gone before anything else is written there. It is written the way of all our
//! output, without waiting for a terminal that is stopped (Ctrl-S), which the bars of a build do not mind and a time limit does.

use std::time::{Duration, Instant};

use capibara::{Limits, Stream, Usage};

use super::outlet::{Outlet, Patience};
use super::units;

/// How long a run is silent before it is told of.
const SILENCE: Duration = Duration::from_secs(2);
/// To the start of the line, and clears it.
const ERASE: &str = "\r\x1b[2K";
/// How long a terminal may take for it.
const PATIENCE: Duration = Duration::from_millis(5);

/// The line. Made only where standard output and standard error are both a terminal that can erase.
#[derive(Debug)]
pub(super) struct StatusLine {
    outlet: Outlet,
    limits: Limits,
    live: bool,
    /// When something was printed last, or the run began.
    since: Instant,
    shown: Option<String>,
}

impl StatusLine {
    /// `None` where nobody would see it, or it could not be taken away again.
    pub(super) fn new(limits: &Limits, live: bool) -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let terminal =
            rustix::termios::isatty(rustix::stdio::stdout()) && rustix::termios::isatty(rustix::stdio::stderr());
        (terminal && !dumb).then(|| Self {
            outlet: Outlet::open(Stream::Stderr),
            limits: limits.clone(),
            live,
            since: Instant::now(),
            shown: None,
        })
    }

    /// Shows what is used so far if it is time to; `free` says whether the cursor is at the start of a line nobody types in.
    pub(super) fn update(&mut self, usage: &Usage, free: bool, now: Instant) {
        if !free {
            self.erase();
            return;
        }
        if now.saturating_duration_since(self.since) < SILENCE {
            return;
        }
        let text = fitting(&text(usage, &self.limits, self.live), columns());
        if self.shown.as_ref() != Some(&text) {
            self.write(&format!("{ERASE}{text}"));
            self.shown = Some(text);
        }
    }

    /// Something else is about to be printed.
    pub(super) fn printed(&mut self, now: Instant) {
        self.erase();
        self.since = now;
    }

    /// Takes the line away, and says whether there was one.
    pub(super) fn erase(&mut self) -> bool {
        let shown = self.shown.take().is_some();
        if shown {
            self.write(ERASE);
        }
        shown
    }

    fn write(&self, text: &str) {
        // A terminal that does not take it has nothing to show.
        drop(self.outlet.write_all(text.as_bytes(), &Patience::until(Instant::now() + PATIENCE)));
    }
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// As much of it as stays on one line: a line that wraps could not be taken away.
fn fitting(text: &str, columns: usize) -> String {
    text.chars().take(columns.saturating_sub(1)).collect()
}

fn text(usage: &Usage, limits: &Limits, live: bool) -> String {
    let passed = usage.wall_time.saturating_add(usage.slept).as_secs();
    let mut text = format!(
        "capibara: running, {} of {}",
        if passed < 60 { format!("{passed}s") } else { units::wait(Duration::from_secs(passed)) },
        capibara_policies::format_duration(limits.wall_time)
    );
    if let (Some(fuel), Some(limit), false) = (usage.fuel, limits.fuel, live) {
        let percent = u128::from(fuel) * 100 / u128::from(limit.max(1));
        text.push_str(&format!(", fuel {percent} %"));
    }
    text.push_str(&format!(", memory {} of {}", units::size(usage.memory_peak_bytes), units::size(limits.memory)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_much_of_what_is_allowed_and_stays_on_its_line() {
        let usage = Usage {
            fuel: Some(250_000_000_000),
            wall_time: Duration::from_millis(12_345),
            memory_peak_bytes: 61 << 20,
            ..Usage::default()
        };
        let shown = text(&usage, &Limits::default(), false);
        assert_eq!(shown, "capibara: running, 12s of 30s, fuel 25 %, memory 61MiB of 512MiB");
        let live = text(&Usage { fuel: None, ..usage }, &Limits::default(), true);
        assert_eq!(live, "capibara: running, 12s of 30s, memory 61MiB of 512MiB");
        assert_eq!(fitting(&shown, 21), "capibara: running, 1");
        assert_eq!(fitting(&shown, 0), "");
    }
}
