//! Telling people how a build goes: bars on a terminal, plain lines elsewhere.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capibara::{Engine, EngineError, Language, Phase, Progress, ProgressEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::text::Console;
use super::units;
use crate::escape;

/// Shows the progress of making a runtime ready. Costs nothing and says nothing until there is an event.
pub(crate) struct Building {
    language: String,
    state: Mutex<State>,
}

struct State {
    console: Console,
    began: Option<Instant>,
    /// What shows it; decided with the first event.
    display: Option<Display>,
    phases: Vec<(Phase, Phased)>,
}

enum Display {
    Bars(MultiProgress),
    Plain,
}

enum Phased {
    Bar(ProgressBar),
    Lines(Lines),
}

/// What was said about a phase in plain lines.
struct Lines {
    total: Option<u64>,
    tenths: u64,
    last: Instant,
}

/// The least time between two lines about the same phase.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Makes the runtime of a language ready, and tells of it if there is something to do.
pub(crate) fn prepare(engine: &Engine, language: Language, live: bool) -> Result<(), EngineError> {
    let building = Building::new(language.display_name());
    let prepared = engine.prepare(language, live, &building);
    match &prepared {
        Ok(()) => {
            building.finish();
        }
        Err(_) => building.abandon(),
    }
    prepared
}

impl Building {
    /// `language` as people write it: `Python`.
    pub(crate) fn new(language: &str) -> Self {
        let state = State { console: Console::new(), began: None, display: None, phases: Vec::new() };
        Self { language: language.to_owned(), state: Mutex::new(state) }
    }

    /// One that tells of steps only, and not of a runtime that is made.
    pub(crate) fn of_steps() -> Self {
        let building = Self::new("");
        building.lock().began = Some(Instant::now());
        building
    }

    /// The runtime is ready: says so if there was something to do, and whether there was.
    pub(crate) fn finish(&self) -> bool {
        let mut state = self.lock();
        state.clear();
        let Some(began) = state.began else { return false };
        state.console.say(&format!("the {} runtime is ready after {}", self.language, units::wait(began.elapsed())));
        true
    }

    /// It failed: leaves a clean line for the reason.
    pub(crate) fn abandon(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Building {
    fn event(&self, event: ProgressEvent) {
        let mut state = self.lock();
        let state = &mut *state;
        match event {
            ProgressEvent::Started { phase, total } => {
                if state.began.is_none() {
                    state.began = Some(Instant::now());
                    state.console.say(&announcement(&self.language, phase));
                }
                state.start(phase, total);
            }
            ProgressEvent::Advanced { phase, done } => state.advance(phase, done),
            ProgressEvent::Message(text) => {
                for line in text.lines() {
                    state.say(line);
                }
            }
            ProgressEvent::Finished { phase } => state.end(phase),
            // Events may grow; the ones above are enough to see where a build is.
            _ => {}
        }
    }
}

fn announcement(language: &str, first: Phase) -> String {
    match first {
        Phase::CompileAhead => format!("compiling the {language} runtime for this machine, once"),
        Phase::Unpack => format!("unpacking the {language} runtime"),
        _ => format!("building the {language} runtime, once; this takes a few minutes"),
    }
}

impl State {
    fn display(&mut self) -> &Display {
        self.display.get_or_insert_with(|| {
            let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
            if !dumb && rustix::termios::isatty(rustix::stdio::stderr()) {
                Display::Bars(MultiProgress::new())
            } else {
                Display::Plain
            }
        })
    }

    fn start(&mut self, phase: Phase, total: Option<u64>) {
        self.end(phase);
        let label = format!("capibara: {}", phase.label());
        let phased = match self.display() {
            Display::Bars(bars) => {
                let bar = bars.add(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
                let template = match total {
                    Some(_) => "{msg:26} [{bar:24}] {pos}/{len} {eta} left",
                    None => "{msg:40} {spinner} {elapsed}",
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(label);
                bar.enable_steady_tick(Duration::from_millis(200));
                Phased::Bar(bar)
            }
            Display::Plain => {
                self.console.say(phase.label());
                Phased::Lines(Lines { total: total.filter(|total| *total > 0), tenths: 0, last: Instant::now() })
            }
        };
        self.phases.push((phase, phased));
    }

    fn advance(&mut self, phase: Phase, done: u64) {
        let Some((_, phased)) = self.phases.iter_mut().find(|(known, _)| *known == phase) else { return };
        match phased {
            Phased::Bar(bar) => bar.set_position(done),
            Phased::Lines(lines) => {
                if let Some(line) = lines.next(phase, done, Instant::now()) {
                    self.console.say(&line);
                }
            }
        }
    }

    fn end(&mut self, phase: Phase) {
        if let Some(at) = self.phases.iter().position(|(known, _)| *known == phase)
            && let (_, Phased::Bar(bar)) = self.phases.remove(at)
        {
            bar.finish_and_clear();
        }
    }

    fn say(&mut self, line: &str) {
        match &self.display {
            // Above the bars, which are drawn again below it.
            Some(Display::Bars(bars)) => drop(bars.println(format!("capibara: {}", escape::line(line)))),
            Some(Display::Plain) | None => self.console.say(line),
        }
    }

    fn clear(&mut self) {
        for (_, phased) in self.phases.drain(..) {
            if let Phased::Bar(bar) = phased {
                bar.finish_and_clear();
            }
        }
    }
}

impl Lines {
    /// A line for each tenth that is passed, except the first and the last and those that come in a hurry.
    fn next(&mut self, phase: Phase, done: u64, now: Instant) -> Option<String> {
        let total = self.total?;
        let tenths = done.min(total).saturating_mul(10) / total;
        if tenths <= self.tenths || tenths >= 10 || now.saturating_duration_since(self.last) < BETWEEN_LINES {
            return None;
        }
        (self.tenths, self.last) = (tenths, now);
        Some(format!("{}: {tenths}0 % ({done} of {total})", phase.label()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(phase: Phase, total: u64, between: Duration) -> Vec<String> {
        let start = Instant::now();
        let mut lines = Lines { total: Some(total), tenths: 0, last: start };
        (0..=total).filter_map(|done| lines.next(phase, done, start + between * u32::try_from(done).unwrap())).collect()
    }

    #[test]
    fn at_most_nine_lines_per_phase() {
        let long = lines(Phase::Compile, 412, Duration::from_secs(1));
        assert_eq!(long.len(), 9);
        assert_eq!(long[0], format!("{}: 10 % (42 of 412)", Phase::Compile.label()));
        assert_eq!(lines(Phase::Fetch, 3, Duration::from_secs(1)).len(), 2);
        // 412 files in 4.12 s: no more than a line a second.
        assert_eq!(lines(Phase::Compile, 412, Duration::from_millis(10)).len(), 4);
        assert!(lines(Phase::Fetch, 8, Duration::from_millis(1)).is_empty());
    }

    #[test]
    fn nothing_to_do_says_nothing() {
        assert!(!Building::new("Python").finish());
    }

    #[test]
    fn the_first_event_tells_how_long_it_takes() {
        assert!(announcement("Python", Phase::Fetch).contains("a few minutes"));
        assert!(!announcement("Python", Phase::CompileAhead).contains("minutes"));
    }
}
