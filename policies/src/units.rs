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

/// Reads a size: `256MiB`, `1.5GB`, `4096B`. A bare number and zero are errors.
///
/// # Errors
/// [`UnitError`] says what is wrong and shows a value that works.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    if is_bare_number(text) {
        return Err(UnitError::NoUnit { text: text.into(), example: format!("{text}MiB") });
    }
    let malformed = || UnitError::Malformed { text: text.into(), what: "size", example: "256MiB" };
    let bytes = text.parse::<bytesize::ByteSize>().map_err(|_| malformed())?.as_u64();
    match bytes {
        0 => Err(UnitError::Zero { text: text.into(), least: "1B" }),
        u64::MAX => Err(malformed()),
        bytes => Ok(bytes),
    }
}

/// Reads a duration: `500ms`, `2s`, `1m30s`. A bare number and zero are errors; the longest is 365 days.
///
/// # Errors
/// [`UnitError`] says what is wrong and shows a value that works.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    if is_bare_number(text) {
        return Err(UnitError::NoUnit { text: text.into(), example: format!("{text}s") });
    }
    let malformed = || UnitError::Malformed { text: text.into(), what: "duration up to 365 days", example: "2s" };
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
    let malformed = || UnitError::Malformed { text: text.into(), what: "count", example: "1000000 or 20M" };
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

pub(crate) fn size<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    parse_size(&String::deserialize(d)?).map_err(D::Error::custom)
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
        assert!(parse_size("256").unwrap_err().to_string().contains("`256MiB`"));
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
}
