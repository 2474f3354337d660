//! Body of the fuzz target `policy` (see `fuzz/README.md`). Not an API.

use std::fmt::Debug;
use std::time::Duration;

use crate::{
    FlagsMay, LimitsChange, Policy, UnitError, format_count, format_duration, format_size, parse_count, parse_duration,
    parse_memory, parse_size,
};

/// Reads any bytes as a policy and as sizes, durations and counts; panics when what holds of them does not.
pub fn policy(input: &[u8]) {
    if let Some((numbers, _)) = input.split_first_chunk::<8>() {
        formats(u64::from_le_bytes(*numbers));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    unit(text, parse_size, format_size);
    unit(text, parse_memory, format_size);
    unit(text, parse_duration, format_duration);
    unit(text, parse_count, format_count);
    match Policy::parse("any", text) {
        Ok(policy) => narrows(policy, input),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is read can be written and read again; an example that an error shows can be read.
fn unit<T: PartialEq + Debug + Copy>(text: &str, parse: fn(&str) -> Result<T, UnitError>, format: fn(T) -> String) {
    match parse(text) {
        Ok(value) => assert_eq!(parse(&format(value)), Ok(value), "{text:?}"),
        Err(UnitError::NoUnit { example, .. }) => assert!(parse(&example).is_ok(), "{text:?}: {example:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is written can be read.
fn formats(number: u64) {
    for number in [number, number % 1_000_000, number >> 32] {
        if (1..u64::MAX).contains(&number) {
            let shown = format_size(number);
            assert_eq!(parse_size(&shown), Ok(number), "{shown}");
        }
        if number > 0 {
            let shown = format_count(number);
            assert_eq!(parse_count(&shown), Ok(number), "{shown}");
        }
        let duration = Duration::from_millis(number % (1000 * 60 * 60 * 24 * 300) + 1);
        let shown = format_duration(duration);
        assert_eq!(parse_duration(&shown), Ok(duration), "{shown}");
    }
}

/// Flags never widen a policy that says so, and a change that is refused changes nothing.
fn narrows(mut policy: Policy, input: &[u8]) {
    let number = input.iter().fold(1_u64, |sum, byte| sum.rotate_left(7) ^ u64::from(*byte));
    let change = LimitsChange {
        fuel: (number & 1 != 0).then_some(number >> 8),
        wall_time: (number & 2 != 0).then(|| Duration::from_millis(number >> 40)),
        memory: (number & 4 != 0).then_some(number >> 30),
        output: (number & 8 != 0).then_some(number >> 34),
        bytes_written: (number & 16 != 0).then_some(number >> 36),
    };
    let before = policy.clone();
    let applied = policy.apply(&change);
    if applied.is_err() {
        return assert_eq!(policy, before);
    }
    if before.flags == FlagsMay::Narrow {
        let (old, new) = (&before.limits, &policy.limits);
        let fuel = old.fuel.is_none_or(|old| new.fuel.is_some_and(|new| new <= old));
        assert!(fuel && new.wall_time <= old.wall_time && new.memory <= old.memory);
        assert!(new.output <= old.output && new.bytes_written <= old.bytes_written);
    }
}

#[cfg(test)]
#[path = "../../fuzz/inputs.rs"]
mod inputs;

#[cfg(test)]
mod tests {
    #[test]
    fn any_policies_and_units_are_read_or_refused() {
        super::inputs::inputs("policy", 3000, 400).for_each(|input| super::policy(&input));
    }
}
