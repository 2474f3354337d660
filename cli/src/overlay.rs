//! What becomes of what a script changed below overlays.

use capibara::{Applied, Change, ChangeKind, Outcome};

use crate::artifacts::{tell_refused, tell_some};
use crate::exit_code::ExitCode;
use crate::output::text::Console;
use crate::output::units;

/// Changes, applied or not.
pub(crate) struct Overlay {
    /// What came of applying them; `None` if nothing was to be applied.
    pub(crate) applied: Option<Applied>,
}

impl Overlay {
    /// Applies what a run changed, if that is wanted and the script succeeded: what is half done is not made true.
    pub(crate) fn settle(apply: bool, outcome: &Outcome) -> Self {
        Self { applied: (apply && outcome.success()).then(|| outcome.changes.apply()) }
    }

    /// Says on standard error what was applied and what not or, in text, what there is to apply.
    pub(crate) fn tell(&self, console: &Console, outcome: &Outcome, apply: bool, text: bool) {
        let changes = &outcome.changes;
        match &self.applied {
            Some(applied) => {
                tell_not_applied(console, applied);
                if text && !changes.is_empty() {
                    console.say(&applied_line(applied));
                }
            }
            None if !text || changes.is_empty() => {}
            None => {
                let why = if apply {
                    "not applied, because the script did not succeed"
                } else {
                    "not made on this machine: `--apply` makes them"
                };
                console.say(&format!("{} below overlays, {why}", count(changes.len() as u64)));
                tell_some(console, changes.iter().map(line));
            }
        }
    }

    /// How the process ends: a script that succeeded, and of whose changes some were refused, is a failure of ours.
    pub(crate) fn code(&self, code: ExitCode) -> ExitCode {
        let refused = self.applied.as_ref().is_some_and(|applied| !applied.refused.is_empty());
        if refused && code == ExitCode::Script(0) { ExitCode::Failed } else { code }
    }
}

/// Says of each change that was refused why.
pub(crate) fn tell_not_applied(console: &Console, applied: &Applied) {
    tell_refused(console, "change of", "was not applied", &applied.refused);
}

/// `applied 3 changes`, `applied 2 of 3 changes`.
pub(crate) fn applied_line(applied: &Applied) -> String {
    if applied.refused.is_empty() {
        return format!("applied {}", count(applied.applied));
    }
    let all = applied.applied.saturating_add(applied.refused.len() as u64);
    format!("applied {} of {}", units::count(applied.applied), count(all))
}

/// `1 change`, `1_000 changes`.
pub(crate) fn count(changes: u64) -> String {
    if changes == 1 { "1 change".into() } else { format!("{} changes", units::count(changes)) }
}

/// `  M /src/a.py (1.2KiB)`, a letter for each kind as in version control.
pub(crate) fn line(change: &Change) -> String {
    let letter = match change.kind {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'M',
        ChangeKind::Deleted => 'D',
    };
    let note = match (change.kind, &change.target) {
        (ChangeKind::Deleted, _) => String::new(),
        (_, Some(target)) => format!(" -> {target}"),
        _ if change.what == capibara::FileKind::Directory => "/".into(),
        _ => format!(" ({})", units::size(change.bytes)),
    };
    format!("  {letter} {}{note}", change.path)
}
