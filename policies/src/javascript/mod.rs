//! What a script in JavaScript or TypeScript does.
//!
//! The tree becomes a flat list ([`syntax`]), each name gets its variable ([`names`]), and a bounded abstract
//! interpretation ([`machine`]) follows values to what reaches out of the script. What the text itself shows is looked
//! for in [`shapes`].

mod builtins;
mod known;
mod literal;
mod machine;
mod matcher;
mod names;
mod operate;
mod regex;
mod shapes;
mod sinks;
mod symbols;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

use std::ops::Range;

use crate::NeedKind;
use crate::rules;
use crate::scan::{Collector, Parsed, Script};
use machine::{Hit, Machine};
use names::Names;
use syntax::Syntax;

/// Tables whose keys the script chooses: quick to hash, and seeded at random.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// The same without values.
type Set<T> = std::collections::HashSet<T, foldhash::fast::RandomState>;

/// How deep the analysis recurses on the stack of its caller, and on its own.
const SHALLOW: usize = 100;
const DEEP: usize = 12_000;
/// The stack of a thread that looks at a deep source, in bytes; only what is used of it is taken.
const DEEP_STACK: usize = 512 << 20;

/// What an analysis comes to.
type Found = (Vec<Hit>, Vec<(NeedKind, Range<usize>)>);

/// Looks at a whole script.
pub(crate) fn analyze(parsed: &Parsed<'_>, script: &Script<'_>, collector: &mut Collector<'_>) {
    let _ = script;
    let syntax = Syntax::new(parsed);
    let shallow = if syntax.depth < SHALLOW { follow(&syntax, SHALLOW) } else { None };
    // A deep source is rare, and gets a stack that is large enough for it.
    let found = shallow.or_else(|| {
        std::thread::scope(|scope| {
            let deep = std::thread::Builder::new().stack_size(DEEP_STACK).spawn_scoped(scope, || follow(&syntax, DEEP));
            deep.ok().and_then(|deep| deep.join().ok()).flatten()
        })
    });
    let (mut hits, needs) = found.unwrap_or_else(|| {
        let message = "the source is nested too deeply to be followed";
        let rule = rules::oversized_source;
        (vec![Hit { rule, severity: rule.severity, range: 0..0, message: message.to_owned() }], Vec::new())
    });
    shapes::look(&syntax, &mut hits);
    for hit in hits {
        collector.report_as(hit.rule, hit.severity, hit.range, &hit.message);
    }
    for (kind, range) in needs {
        collector.need(kind, range);
    }
}

/// Follows the source; `None` if that takes too deep a recursion.
fn follow(syntax: &Syntax<'_>, deepest: usize) -> Option<Found> {
    let mut machine = Machine::new(syntax, Names::new(syntax), deepest);
    machine.run();
    (!machine.too_deep).then_some((machine.hits, machine.needs))
}
