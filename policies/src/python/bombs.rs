//! Constants that stand for more memory or time than there is.

use super::ast::Place;
use super::machine::{Heap, Machine};
use super::value::{Args, Value};
use crate::rules;

/// Bits of a number that takes seconds to make and megabytes to keep.
const LARGEST_NUMBER_BITS: f64 = 50_000_000.0;
/// Bits a number is shifted by that take as much.
const LARGEST_SHIFT: i128 = 50_000_000;
/// Iterations that are not done within any limit.
const LONGEST_RANGE: i128 = 100_000_000_000;

fn too_much(machine: &Machine<'_>, bytes: i128) -> bool {
    bytes > i128::from(machine.policy.limits.memory)
}

/// A binary operation on constants.
pub(super) fn operation(machine: &mut Machine<'_>, operator: &str, left: &Value, right: &Value, place: Place) {
    match operator {
        "**" =>
        {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            if let (Some(base), Some(exponent)) = (left.as_int(), right.as_int()) {
                let bits = (base.unsigned_abs() as f64).log2().max(0.0) * exponent.max(0) as f64;
                if bits > LARGEST_NUMBER_BITS {
                    machine.report(
                        rules::resource_bomb,
                        place,
                        "a power that takes more time and memory than there is",
                    );
                }
            }
        }
        "<<" if left.as_int().is_some_and(|left| left != 0) && right.as_int().is_some_and(|by| by > LARGEST_SHIFT) => {
            machine.report(rules::resource_bomb, place, "a shift that takes more memory than there is");
        }
        "*" => {
            for (sequence, times) in [(left, right), (right, left)] {
                let Some(times) = times.as_int() else { continue };
                let each = match sequence {
                    Value::Str(text) => text.len(),
                    Value::Bytes(bytes) => bytes.len(),
                    Value::Object(index) => match machine.heap.get(*index) {
                        Some(Heap::List(elements, _)) => elements.len().saturating_mul(8),
                        _ => continue,
                    },
                    _ => continue,
                };
                let bytes = i128::try_from(each).unwrap_or(i128::MAX).saturating_mul(times);
                if too_much(machine, bytes) {
                    machine.report(
                        rules::resource_bomb,
                        place,
                        "a repetition that takes more memory than the policy allows",
                    );
                }
            }
        }
        _ => {}
    }
}

/// `bytes(n)`, `bytearray(n)`.
pub(super) fn allocation(machine: &mut Machine<'_>, name: &str, size: Option<&Value>, place: Place) {
    if let Some(Value::Int(size)) = size
        && too_much(machine, *size)
    {
        machine.report(rules::resource_bomb, place, format!("`{name}` of more memory than the policy allows"));
    }
}

fn length(args: &Args) -> Option<i128> {
    let number = |index: usize| args.plain.get(index).and_then(Value::as_int);
    match args.plain.len() {
        1 => number(0),
        2 => number(1)?.checked_sub(number(0)?),
        3 => number(1)?.checked_sub(number(0)?)?.checked_div(number(2)?),
        _ => None,
    }
}

/// `range(…)` that is longer than can be gone through.
pub(super) fn range(machine: &mut Machine<'_>, args: &Args, place: Place) {
    if length(args).is_some_and(|length| length > LONGEST_RANGE) {
        machine.report(rules::resource_bomb, place, "a range that is longer than any run");
    } else if length(args).is_some_and(|length| too_much(machine, length.saturating_mul(8))) {
        machine.long_ranges.push(place);
    }
}

/// `list(range(…))` and its like.
pub(super) fn materialized(machine: &mut Machine<'_>, source: Option<&Value>, place: Place) {
    let long = machine.long_ranges.last().is_some_and(|range| range.start >= place.start && range.end <= place.end);
    let endless = match source {
        Some(Value::Object(index)) => {
            matches!(machine.heap.get(*index), Some(Heap::Made(path, _)) if &**path == "itertools.count")
        }
        _ => false,
    };
    if long || endless {
        machine.report(rules::resource_bomb, place, "a list of more elements than the policy allows memory for");
    }
}

/// `time.sleep(…)` of more than a day.
pub(super) fn sleep(machine: &mut Machine<'_>, time: Option<&Value>, place: Place) {
    let long = match time {
        Some(Value::Int(time)) => *time > 86_400,
        Some(Value::Float(time)) => *time > 86_400.0,
        _ => false,
    };
    if long {
        machine.report(rules::resource_bomb, place, "sleeps for more than a day");
    }
}

/// A recursion limit that is no limit.
pub(super) fn recursion(machine: &mut Machine<'_>, limit: Option<&Value>, place: Place) {
    if limit.and_then(Value::as_int).is_some_and(|limit| limit > 10_000_000) {
        machine.report(rules::resource_bomb, place, "lifts the limit of recursion");
    }
}
