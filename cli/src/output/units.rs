//! Numbers as people read them, in the form in which options take them.

use std::time::Duration;

/// A size: `512MiB`, `1.5KiB`, `17B`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, factor)) = UNITS.into_iter().find(|(_, factor)| bytes >= *factor) else {
        return format!("{bytes}B");
    };
    let tenths = (u128::from(bytes) * 10 + u128::from(factor) / 2) / u128::from(factor);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{unit}"),
        (whole, tenth) => format!("{whole}.{tenth}{unit}"),
    }
}

/// Milliseconds: `250ms`, `1s`, `1.002s`.
pub(crate) fn millis(ms: u64) -> String {
    match (ms / 1000, ms % 1000) {
        (0, ms) => format!("{ms}ms"),
        (s, 0) => format!("{s}s"),
        (s, ms) => format!("{s}.{ms:03}s"),
    }
}

/// A duration that was measured: `0.412ms`, `12.5ms`, `1.002s`.
pub(crate) fn duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        let micros = duration.as_micros();
        return format!("{}.{:03}ms", micros / 1000, micros % 1000);
    }
    millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// How long people waited: `41s`, `3m 12s`.
pub(crate) fn wait(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, _) if duration < Duration::from_secs(10) => {
            format!("{}.{}s", duration.as_secs(), duration.subsec_millis() / 100)
        }
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m {s:02}s"),
    }
}

/// A count, in groups of three: `1_000_000`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_options_take() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (512 << 20, "512MiB"),
            ((512 << 20) + 1, "512MiB"),
            (2 << 30, "2GiB"),
            (u64::MAX, "16777216TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for bytes in [1, 1024, 1536, 128 << 20, 2 << 30] {
            assert_eq!(capibara_policies::parse_size(&size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn times_and_counts() {
        assert_eq!([millis(0), millis(250), millis(1000), millis(1002)], ["0ms", "250ms", "1s", "1.002s"]);
        assert_eq!(duration(Duration::from_micros(412)), "0.412ms");
        assert_eq!(duration(Duration::from_millis(61_002)), "61.002s");
        assert_eq!(wait(Duration::from_millis(1_290)), "1.2s");
        assert_eq!(wait(Duration::from_secs(192)), "3m 12s");
        assert_eq!([count(1), count(999), count(1_000), count(20_000_000)], ["1", "999", "1_000", "20_000_000"]);
        assert_eq!(capibara_policies::parse_count(&count(1_234_567)), Ok(1_234_567));
        for ms in [250, 1_000, 1_002, 90_000] {
            assert_eq!(capibara_policies::parse_duration(&millis(ms)), Ok(Duration::from_millis(ms)));
        }
    }
}
