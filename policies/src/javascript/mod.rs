//! What a script in this language does.

use crate::scan::{Collector, Parsed, Script};

/// Looks at a whole script.
pub(crate) fn analyze(parsed: &Parsed<'_>, _script: &Script<'_>, _collector: &mut Collector<'_>) {
    let _ = (parsed.text, &parsed.tree);
}
