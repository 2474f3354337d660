//! Lines about a run on standard error; each begins with `capibara: `.

use std::cell::{Cell, OnceCell};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use capibara::{LimitHit, LimitKind, Outcome, Stream, ToolUse, Usage};

use super::live::{Broken, Left};
use super::outlet::{Outlet, Patience};
use super::units;
use crate::errors::{Failure, limit_option};
use crate::escape;
use crate::exit_code::ExitCode;

/// How long a reader may take for all our lines after it was too slow for the script's.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// Standard error, for lines of ours.
#[derive(Debug, Default)]
pub(crate) struct Console {
    outlet: OnceCell<Outlet>,
    line_open: Cell<bool>,
    deadline: Option<Instant>,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// After a run whose streams were left like this.
    pub(crate) fn after(left: &Left) -> Self {
        let deadline = match left.broken {
            Some(Broken::Late) => Some(Instant::now() + LAST_WORDS),
            Some(Broken::Failed(..) | Broken::Events(_)) | None => None,
        };
        Self { outlet: OnceCell::new(), line_open: Cell::new(left.line_open), deadline }
    }

    /// One line. What cannot be shown safely in it is escaped; what cannot be written is lost.
    pub(crate) fn say(&self, text: &str) {
        let start = if self.line_open.replace(false) { "\n" } else { "" };
        let line = format!("{start}capibara: {}\n", escape::line(text));
        let patience = self.deadline.map_or_else(Patience::endless, Patience::until);
        // Where would a failure to write to standard error be told?
        drop(self.outlet.get_or_init(|| Outlet::open(Stream::Stderr)).write_all(line.as_bytes(), &patience));
    }

    pub(crate) fn hint(&self, text: &str) {
        for (i, line) in text.lines().enumerate() {
            self.say(&if i == 0 { format!("hint: {line}") } else { format!("      {line}") });
        }
    }

    /// Why a command failed: what, through what, what to try.
    pub(crate) fn failure(&self, failure: &Failure) {
        let kind = if failure.exit == ExitCode::Denied { "denied" } else { "error" };
        for (i, line) in failure.message.lines().enumerate() {
            self.say(&if i == 0 { format!("{kind}: {line}") } else { format!("  {line}") });
        }
        for cause in &failure.causes {
            for (i, line) in cause.lines().enumerate() {
                self.say(&if i == 0 { format!("  cause: {line}") } else { format!("    {line}") });
            }
        }
        if let Some(hint) = &failure.hint {
            self.hint(hint);
        }
    }

    /// What went wrong with tools.
    pub(crate) fn tools(&self, tools: &[ToolUse]) {
        for ToolUse { name, calls, failed, last_error, .. } in tools.iter().filter(|tool| tool.failed > 0) {
            let why = last_error.as_ref().map_or(String::new(), |why| format!("; the last: {why}"));
            self.say(&format!("tool {name}: {failed} of {calls} calls failed{why}"));
        }
    }

    pub(crate) fn stats(&self, outcome: &Outcome) {
        for line in stats(&outcome.usage, outcome.live) {
            self.say(&line);
        }
        for hit in &outcome.quotas_met {
            self.say(&format!("  {}", quota(hit)));
        }
        if !outcome.live {
            self.say(&format!("  to repeat    --epoch {} --seed {}", outcome.epoch, outcome.seed));
        }
    }
}

fn stats(usage: &Usage, live: bool) -> Vec<String> {
    let mut lines = vec!["usage:".to_owned()];
    let mut row = |name: &str, value: String| {
        let mut line = String::new();
        let written = write!(line, "  {name:<12} {value}");
        debug_assert!(written.is_ok(), "writing to a string does not fail");
        lines.push(line);
    };
    row("fuel", usage.fuel.map_or_else(|| "not metered".into(), units::count));
    row("wall time", units::duration(usage.wall_time));
    if !live {
        // A sleep that is not live only moves the script's clock.
        row("slept", units::duration(usage.slept));
    }
    row("memory peak", units::size(usage.memory_peak_bytes));
    row("output", units::size(usage.output_bytes));
    row("files", format!("{} with {}", units::count(usage.files_written), units::size(usage.bytes_written)));
    row("host calls", units::count(usage.host_calls));
    lines
}

/// `stopped by limit wall_time: allowed 1s, used 1.002s`. Where sleep was counted in, which took no real time, it says so.
pub(crate) fn limit(hit: &LimitHit, usage: &Usage) -> String {
    let (allowed, used) = figures(hit);
    let slept = hit.kind == LimitKind::WallTime && !usage.slept.is_zero();
    let note = if slept { " (time slept counts as passed)" } else { "" };
    format!("stopped by limit {}: allowed {allowed}, used {used}{note}", hit.kind)
}

/// `met quota files: allowed 1_000, asked for 1_001`.
pub(crate) fn quota(hit: &LimitHit) -> String {
    let (allowed, used) = figures(hit);
    format!("met quota {}: allowed {allowed}, asked for {used}", hit.kind)
}

/// What was allowed and what was used, so that they differ if they are not the same.
fn figures(hit: &LimitHit) -> (String, String) {
    let show: fn(u64) -> String = match hit.kind {
        LimitKind::WallTime => units::millis,
        LimitKind::Memory | LimitKind::Output | LimitKind::Stack | LimitKind::BytesWritten => units::size,
        LimitKind::Fuel | LimitKind::Files | LimitKind::Descriptors => units::count,
    };
    let (allowed, mut used) = (show(hit.allowed), show(hit.used));
    if allowed == used && hit.allowed != hit.used {
        used = format!("{}B", hit.used);
    }
    (allowed, used)
}

/// What to do about a limit; `raisable` says whether a flag may raise it under this policy.
pub(crate) fn limit_hint(kind: LimitKind, policy: &str, raisable: bool) -> String {
    let option = match kind {
        LimitKind::Fuel
        | LimitKind::WallTime
        | LimitKind::Memory
        | LimitKind::Output
        | LimitKind::BytesWritten
        | LimitKind::Files
        | LimitKind::Descriptors => limit_option(kind.name()),
        LimitKind::Stack => {
            return "the stack has a fixed size: the script nests too deeply, for example by endless recursion".into();
        }
    };
    match option {
        Some(option) if raisable => format!("raise it with {option}"),
        _ if policy == "permissive" => "no policy of this version allows more".into(),
        _ => {
            let wider = if policy == "strict" { "moderate" } else { "permissive" };
            format!("policy `{policy}` allows no more: choose another one, for example `--policy {wider}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_sentences() {
        for (kind, allowed, used, text) in [
            (LimitKind::WallTime, 1_000, 1_002, "stopped by limit wall_time: allowed 1s, used 1.002s"),
            (LimitKind::Fuel, 20_000_000, 20_000_001, "stopped by limit fuel: allowed 20_000_000, used 20_000_001"),
            (LimitKind::Output, 16 << 20, (16 << 20) + 1, "stopped by limit output: allowed 16MiB, used 16777217B"),
            (LimitKind::Memory, 512 << 20, 600 << 20, "stopped by limit memory: allowed 512MiB, used 600MiB"),
        ] {
            let usage = Usage { wall_time: Duration::from_millis(1_002), ..Usage::default() };
            assert_eq!(limit(&LimitHit { kind, allowed, used }, &usage), text);
        }
        let slept = LimitHit { kind: LimitKind::WallTime, allowed: 30_000, used: 100_001 };
        assert_eq!(
            limit(&slept, &Usage { slept: Duration::from_secs(100), ..Usage::default() }),
            "stopped by limit wall_time: allowed 30s, used 100.001s (time slept counts as passed)"
        );
        assert!(limit_hint(LimitKind::Stack, "moderate", true).contains("fixed size"));
        assert_eq!(limit_hint(LimitKind::WallTime, "moderate", true), "raise it with --timeout");
        assert!(limit_hint(LimitKind::Fuel, "strict", false).contains("--policy moderate"));
    }

    #[test]
    fn stats_are_one_line_each() {
        let lines =
            stats(&Usage { fuel: Some(1_234_567), wall_time: Duration::from_micros(2_500), ..Usage::default() }, true);
        assert_eq!(lines[..3], ["usage:", "  fuel         1_234_567", "  wall time    2.500ms"]);
        let slept = Usage { slept: Duration::from_millis(2_500), ..Usage::default() };
        assert_eq!(stats(&slept, false)[3], "  slept        2.500s");
        assert!(stats(&Usage::default(), true)[1].ends_with("not metered"));
    }
}
