//! Sizes, durations and counts as people write them: always with a unit where there is one.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// A size, duration or count that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// A bare number where a unit is needed.
    #[error("`{text}` has no unit: write for example `{example}`")]
    NoUnit {
        /// What was given.
        text: String,
        /// The same number with a unit.
        example: String,
    },
    /// Zero, which would allow nothing at all.
    #[error("`{text}` is zero: a limit must be at least {least}")]
    Zero {
        /// What was given.
        text: String,
        /// The smallest value that works.
        least: &'static str,
    },
    /// More than any run can have.
    #[error("`{text}` is too much: at most {most}, {reason}")]
    TooMuch {
        /// What was given.
        text: String,
        /// The largest value that works.
        most: &'static str,
        /// Why there is no more.
        reason: &'static str,
    },
    /// Not a number with a unit.
    #[error("`{text}` is not a {what}: write for example `{example}`")]
    Malformed {
        /// What was given.
        text: String,
        /// `size`, `duration` or `count`.
        what: &'static str,
        /// Something that works.
        example: &'static str,
    },
}

fn is_bare_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'_')
}

/// What to say about a bare number: the first of `units` that makes a value of it is the example.
fn without_unit<T>(
    text: &str,
    units: [&str; 2],
    parse: fn(&str) -> Result<T, UnitError>,
    malformed: UnitError,
) -> UnitError {
    for unit in units {
        let example = format!("{text}{unit}");
        match parse(&example) {
            Ok(_) => return UnitError::NoUnit { text: text.into(), example },
            // With a unit it would be refused as well.
            Err(UnitError::Zero { least, .. }) => return UnitError::Zero { text: text.into(), least },
            Err(UnitError::NoUnit { .. } | UnitError::TooMuch { .. } | UnitError::Malformed { .. }) => {}
        }
    }
    malformed
}

/// Reads a size: `256MiB`, `1.5GB`, `4096B`. A bare number and zero are errors.
///
/// # Errors
/// [`UnitError`] says what is wrong and shows a value that works.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let malformed = || UnitError::Malformed { text: text.into(), what: "size", example: "256MiB" };
    if is_bare_number(text) {
        return Err(without_unit(text, ["MiB", "B"], parse_size, malformed()));
    }
    let bytes = text.parse::<bytesize::ByteSize>().map_err(|_| malformed())?.as_u64();
    match bytes {
        0 => Err(UnitError::Zero { text: text.into(), least: "1B" }),
        u64::MAX => Err(malformed()),
        bytes => Ok(bytes),
    }
}

/// The most memory a run can have, in bytes.
const MOST_MEMORY: u64 = 4 << 30;

/// Reads a size of memory: as [`parse_size`], and at most 4 GiB.
///
/// # Errors
/// [`UnitError`] says what is wrong and shows a value that works.
pub fn parse_memory(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    if is_bare_number(text) {
        let malformed = UnitError::Malformed { text: text.into(), what: "size", example: "256MiB" };
        return Err(without_unit(text, ["MiB", "B"], parse_memory, malformed));
    }
    match parse_size(text) {
        Ok(bytes) if bytes > MOST_MEMORY => Err(UnitError::TooMuch {
            text: text.into(),
            most: "4GiB",
            reason: "which is all that 32-bit WebAssembly can address",
        }),
        // Less than a runtime takes is refused as well; how much that is, this crate does not know.
        Err(UnitError::Zero { text, .. }) => {
            Err(UnitError::Zero { text, least: "what the runtime itself takes; 128MiB is enough for small scripts" })
        }
        other => other,
    }
}

/// Reads a duration: `500ms`, `2s`, `1m30s`. A bare number and zero are errors; the longest is 365 days.
///
/// # Errors
/// [`UnitError`] says what is wrong and shows a value that works.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let malformed = || UnitError::Malformed { text: text.into(), what: "duration up to 365 days", example: "2s" };
    if is_bare_number(text) {
        return Err(without_unit(text, ["s", "ms"], parse_duration, malformed()));
    }
    let duration = humantime::parse_duration(text).map_err(|_| malformed())?;
    if duration.is_zero() {
        return Err(UnitError::Zero { text: text.into(), least: "1ms" });
    }
    if duration > Duration::from_secs(365 * 86_400) {
        return Err(malformed());
    }
    Ok(duration)
}

/// Reads a count: `1000000`, `1_000_000`, or with a decimal suffix `500K`, `20M`, `1G`, `2T`. Zero is an error.
///
/// # Errors
/// [`UnitError`] says what is wrong and shows a value that works.
pub fn parse_count(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let malformed = || UnitError::Malformed { text: text.into(), what: "count", example: "20M" };
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        Some(b'T') => (&text[..text.len() - 1], 1_000_000_000_000),
        _ => (text, 1_u64),
    };
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if plain.is_empty() || digits.starts_with('_') || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let count = plain.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(malformed)?;
    if count == 0 {
        return Err(UnitError::Zero { text: text.into(), least: "1" });
    }
    Ok(count)
}

/// Writes a size exactly, in the largest unit without a fraction: `128MiB`, `3MB`, `17B`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 8] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1_000),
    ];
    in_units(bytes, &UNITS).unwrap_or_else(|| format!("{bytes}B"))
}

/// Writes a duration as [`parse_duration`] reads it: `1m30s`, `250ms`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// Writes a count exactly, as [`parse_count`] reads it: `100G`, `1500`.
#[must_use]
pub fn format_count(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("K", 1_000)];
    in_units(count, &UNITS).unwrap_or_else(|| count.to_string())
}

/// In the first of these units that divides it.
fn in_units(n: u64, units: &[(&str, u64)]) -> Option<String> {
    let (unit, factor) = units.iter().find(|(_, factor)| n > 0 && n.is_multiple_of(*factor))?;
    Some(format!("{}{unit}", n / factor))
}

pub(crate) fn size<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    parse_size(&String::deserialize(d)?).map_err(D::Error::custom)
}

pub(crate) fn memory<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    parse_memory(&String::deserialize(d)?).map_err(D::Error::custom)
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(d)?).map_err(D::Error::custom)
}

pub(crate) fn optional_count<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(d)?;
    if text == "none" { Ok(None) } else { parse_count(&text).map(Some).map_err(D::Error::custom) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("1.5KiB"), Ok(1536));
        assert_eq!(parse_size("4096B"), Ok(4096));
        assert_eq!(parse_size("1 GB"), Ok(1_000_000_000));
        for bad in ["", "MiB", "x", "-1MiB", "0MiB", "0B", "1e30GiB", "99999999999GiB", "1XiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_is_at_most_what_can_be_addressed() {
        assert_eq!(parse_memory("4GiB"), Ok(4 << 30));
        for more in ["5GiB", "4294967297B", "1TiB"] {
            let message = parse_memory(more).unwrap_err().to_string();
            assert!(message.contains("at most 4GiB"), "{message}");
        }
        assert!(parse_memory("0B").is_err());
    }

    #[test]
    fn what_is_suggested_is_accepted() {
        for (text, example) in [("256", "`256MiB`"), ("1.5", "`1.5MiB`")] {
            assert!(parse_size(text).unwrap_err().to_string().contains(example), "{text}");
        }
        assert!(parse_memory("536870912").unwrap_err().to_string().contains("`536870912B`"));
        assert!(parse_duration("5").unwrap_err().to_string().contains("`5s`"));
        for zero in ["0", "0.0", "00"] {
            for error in
                [parse_size(zero).unwrap_err(), parse_memory(zero).unwrap_err(), parse_duration(zero).unwrap_err()]
            {
                assert!(matches!(error, UnitError::Zero { .. }), "{zero}: {error:?}");
            }
        }
        for odd in [".", "1_0", "_", "1.2.3"] {
            for error in [parse_size(odd).unwrap_err(), parse_duration(odd).unwrap_err()] {
                match error {
                    UnitError::NoUnit { example, .. } => {
                        assert!(parse_size(&example).is_ok() || parse_duration(&example).is_ok(), "{example}");
                    }
                    error => assert!(matches!(error, UnitError::Malformed { .. }), "{odd}: {error:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (bytes, text) in
            [(128 << 20, "128MiB"), (3_000_000, "3MB"), (1536, "1536B"), (4 << 30, "4GiB"), (17, "17B"), (1, "1B")]
        {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for (ms, text) in [(90_000, "1m30s"), (5_000, "5s"), (1_500, "1s500ms"), (31_536_000_000, "")] {
            let shown = format_duration(Duration::from_millis(ms));
            assert!(text.is_empty() || shown == text, "{shown}");
            assert_eq!(parse_duration(&shown), Ok(Duration::from_millis(ms)));
        }
        for (n, text) in [(100_000_000_000, "100G"), (1_500, "1500"), (20_000, "20K"), (1, "1")] {
            assert_eq!(format_count(n), text);
            assert_eq!(parse_count(text), Ok(n));
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "s", "0s", "-1s", "2", "400days", "1e9s", "soon"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(parse_count("1_000"), Ok(1_000));
        assert_eq!(parse_count("20M"), Ok(20_000_000));
        for bad in ["", "0", "M", "_1", "-1", "1.5M", "1e9", "99999999999999999999", "20000000T"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_unit_counts_what_it_says() {
        for (text, count) in [
            ("7", 7),
            ("7k", 7_000),
            ("7K", 7_000),
            ("7M", 7_000_000),
            ("7G", 7_000_000_000),
            ("7T", 7_000_000_000_000),
            (" 7_0 ", 70),
        ] {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        for (bytes, text) in [
            (3 << 40, "3TiB"),
            (3 << 30, "3GiB"),
            (3 << 20, "3MiB"),
            (3 << 10, "3KiB"),
            (3_000_000_000_000, "3TB"),
            (3_000_000_000, "3GB"),
            (3_000_000, "3MB"),
            (3_000, "3kB"),
            (3, "3B"),
            (0, "0B"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
        for (count, text) in
            [(3_000_000_000_000, "3T"), (3_000_000_000, "3G"), (3_000_000, "3M"), (3_000, "3K"), (3, "3"), (0, "0")]
        {
            assert_eq!(format_count(count), text);
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        let year = Duration::from_secs(31_536_000);
        assert_eq!(parse_duration("365days"), Ok(year));
        assert!(matches!(parse_duration("365days 1ms"), Err(UnitError::Malformed { .. })));
        assert_eq!(parse_duration("1ns"), Ok(Duration::from_nanos(1)));
        assert_eq!(parse_memory("4294967296B"), Ok(4_294_967_296));
        assert_eq!(parse_count("18446744073709551615"), Ok(u64::MAX));
        assert!(matches!(parse_count("18446744073709551616"), Err(UnitError::Malformed { .. })));
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Rows<'a> = &'a [(Result<(), UnitError>, &'a str)];
        let (size, memory) = (|text| parse_size(text).map(drop), |text| parse_memory(text).map(drop));
        let (duration, count) = (|text| parse_duration(text).map(drop), |text| parse_count(text).map(drop));
        let rows: Rows<'_> = &[
            (size(""), "`` is not a size: write for example `256MiB`"),
            (size("0B"), "`0B` is zero: a limit must be at least 1B"),
            (size("99999999999GiB"), "`99999999999GiB` is not a size: write for example `256MiB`"),
            // So large that with MiB it would be no size: the example is in bytes.
            (size("99999999999999"), "`99999999999999` has no unit: write for example `99999999999999B`"),
            (memory(""), "`` is not a size: write for example `256MiB`"),
            (memory("5000000000"), "`5000000000` is not a size: write for example `256MiB`"),
            (
                memory("0MiB"),
                "`0MiB` is zero: a limit must be at least what the runtime itself takes; 128MiB is enough for small \
                 scripts",
            ),
            (duration(""), "`` is not a duration up to 365 days: write for example `2s`"),
            (duration("0s"), "`0s` is zero: a limit must be at least 1ms"),
            (duration("31536001"), "`31536001` has no unit: write for example `31536001ms`"),
            (count(""), "`` is not a count: write for example `20M`"),
            (count("0K"), "`0K` is zero: a limit must be at least 1"),
            (count("_7"), "`_7` is not a count: write for example `20M`"),
            (count("_"), "`_` is not a count: write for example `20M`"),
        ];
        for (result, message) in rows {
            assert_eq!(result.as_ref().unwrap_err().to_string(), *message);
        }
    }
}
