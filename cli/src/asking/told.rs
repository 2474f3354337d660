//! What is said on standard error while models are asked and scripts are tried.

use std::time::Duration;

use capibara_generate::flow::{Call, Judged, Step};
use capibara_generate::{Attempt, AttemptEnd, Event};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::text::Console;
use crate::output::units;

/// Says what happens: a line for what came of each question, and on a terminal one that moves while an answer is waited for.
pub(crate) struct Told {
    console: Console,
    /// Whether lines are wanted; what a user must know is said in any case.
    lines: bool,
    bar: ProgressBar,
    head: String,
    drafted: usize,
}

impl Told {
    /// `lines`: whether each question is told of; `bar`: whether a terminal shows the one that is under way.
    pub(crate) fn new(lines: bool, bar: bool) -> Self {
        let target = if bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("capibara: {spinner} {wide_msg}");
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { console: Console::new(), lines, bar, head: String::new(), drafted: 0 }
    }

    /// Something happened.
    pub(crate) fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Asking { call, of, .. } => {
                self.head = format!("attempt {call} of {of}");
                self.bar.enable_steady_tick(Duration::from_millis(100));
                self.show("");
            }
            Step::Model(event) => self.event(event),
            Step::Accepted(call) if self.lines => {
                self.say(&format!("attempt {}: accepted", call.number));
            }
            Step::Rejected(call) if self.lines => {
                self.say(&format!("attempt {}: {}", call.number, rejection(call)));
            }
            Step::NextModel { profile } if self.lines => {
                self.say(&format!("this model does not get there: {profile} is asked now"));
            }
            Step::Warning(warning) => self.say(&format!("warning: {warning}")),
            // Steps may be added.
            _ => {}
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Sent { profile, model, .. } => {
                self.drafted = 0;
                self.head = format!("{} ({profile}, {model})", self.head.split(" (").next().unwrap_or_default());
                self.show("");
            }
            Event::Draft(text) => {
                self.drafted = self.drafted.saturating_add(text.len());
                let drafted = format!(": {} so far", units::size(self.drafted as u64));
                self.show(&drafted);
            }
            Event::Dropped => self.drafted = 0,
            Event::Waiting { profile, wait, why } if self.lines => {
                self.say(&format!("{profile}: {why}; asked again in {}", units::duration(*wait)));
            }
            Event::Ended(attempt) if self.lines || attempt.end != AttemptEnd::Complete => {
                self.say(&ended(attempt));
            }
            Event::SwitchedOff { profile, why } => {
                self.say(&format!("warning: {profile} is not asked any more: {why}"));
            }
            // Events may be added.
            _ => {}
        }
    }

    fn show(&self, more: &str) {
        self.bar.set_message(format!("{}{more}", crate::escape::line(&self.head)));
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| self.console.say(line));
    }

    /// Nothing moves any more.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `groq (llama-3.3-70b): 412 + 96 tokens, $0.0012, 1.2s`
fn ended(attempt: &Attempt) -> String {
    let tokens = match (attempt.usage.input, attempt.usage.output) {
        (Some(input), Some(output)) => format!(", {} + {} tokens", units::count(input), units::count(output)),
        _ => String::new(),
    };
    let cost = attempt.cost.map_or_else(String::new, |cost| format!(", {cost}"));
    let end = match attempt.end {
        AttemptEnd::Complete => "answered",
        AttemptEnd::Limit => "was cut by its limit",
        AttemptEnd::Refused => "refused",
        AttemptEnd::Filtered => "was held back by its provider",
        AttemptEnd::Failed(_) => {
            let status = attempt.status.map_or_else(String::new, |status| format!(", HTTP {status}"));
            return format!("{} ({}): failed ({}{status})", attempt.profile, attempt.model, attempt.end.name());
        }
    };
    format!("{} ({}): {end} in {}{tokens}{cost}", attempt.profile, attempt.model, units::duration(attempt.took))
}

/// Why the answer of a call is not accepted.
pub(crate) fn rejection(call: &Call) -> String {
    match &call.judged {
        Judged::Cut => "the answer was cut by its limit, and is not used".into(),
        Judged::Untried => "the script could not be tried".into(),
        Judged::NoScript { failure, .. } => failure.summary.clone(),
        Judged::Repeated { call, .. } => format!("the same script as in attempt {call}, which is not run again"),
        Judged::Tried(trial) => {
            trial.failure.as_ref().map_or_else(|| "not the best one".into(), |failure| failure.summary.clone())
        }
    }
}
