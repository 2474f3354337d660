//! Whether a request is sent again, and after how long.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

use crate::error::{ErrorKind, Phase};
use crate::wire::LONGEST_WAIT;

/// How often a request is sent again after a failure that may pass.
const MOST_RETRIES: u32 = 2;

/// A longer wait is not worth it: the next provider is asked instead.
pub(crate) const WORTH_WAITING: Duration = Duration::from_secs(60);

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The request is sent again after that time.
    Again(Duration),
    /// It is not; the caller goes on with the next provider, or stops.
    GiveUp,
}

/// Decides after a failure, the `retries`-th time (from 0). `told` is the provider's own word (`x-should-retry`), `status` its
/// HTTP status; `remaining` is the time until the deadline.
pub(crate) fn next(
    kind: &ErrorKind,
    status: Option<u16>,
    told: Option<bool>,
    retries: u32,
    remaining: Option<Duration>,
    jitter: f64,
) -> Next {
    let most = match kind {
        ErrorKind::Rate { .. } | ErrorKind::Overloaded { .. } | ErrorKind::Server { .. } | ErrorKind::Connect => {
            MOST_RETRIES
        }
        // It may be billed although nothing came of it, so once only.
        ErrorKind::Cut { .. } | ErrorKind::Protocol => 1,
        ErrorKind::Timeout { phase: Phase::Connect | Phase::FirstByte | Phase::Idle } => 1,
        ErrorKind::Timeout { phase: Phase::Total } => 0,
        // The same bytes bring the same answer, unless the provider says otherwise of a status that does not tell.
        ErrorKind::BadRequest if told == Some(true) && !matches!(status, Some(400 | 422)) => MOST_RETRIES,
        ErrorKind::Auth
        | ErrorKind::NoModel
        | ErrorKind::BadRequest
        | ErrorKind::TooLarge
        | ErrorKind::Quota
        | ErrorKind::Truncated
        | ErrorKind::Canceled
        | ErrorKind::Budget
        | ErrorKind::Unavailable => 0,
    };
    if told == Some(false) || retries >= most {
        return Next::GiveUp;
    }
    let wait = asked_by(kind).unwrap_or_default().max(backoff(retries, jitter));
    if wait > WORTH_WAITING || remaining.is_some_and(|it| wait >= it) { Next::GiveUp } else { Next::Again(wait) }
}

/// Half a second, doubled each time up to 8 s, less up to a quarter of it; `jitter` is from 0 to 1.
fn backoff(retries: u32, jitter: f64) -> Duration {
    let full = Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(retries)).min(Duration::from_secs(8));
    full.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

/// A number from 0 to 1 that differs between processes and calls, so that they do not all come back at once.
pub(crate) fn jitter() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

/// The wait that the provider asked for.
pub(crate) fn asked_by(kind: &ErrorKind) -> Option<Duration> {
    match kind {
        ErrorKind::Rate { wait } | ErrorKind::Overloaded { wait } | ErrorKind::Server { wait } => *wait,
        _ => None,
    }
}

/// Puts the wait that headers ask for into a kind that has one, if it is longer than that of the body.
pub(crate) fn with_wait(mut kind: ErrorKind, headers: &HeaderMap, now: SystemTime) -> ErrorKind {
    if let ErrorKind::Rate { wait } | ErrorKind::Overloaded { wait } | ErrorKind::Server { wait } = &mut kind {
        *wait = wait.map(|it| it.min(LONGEST_WAIT)).max(asked(headers, now));
    }
    kind
}

/// The provider's word on whether to send again.
pub(crate) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match text(headers, "x-should-retry")?.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The wait that headers ask for: `retry-after-ms`, else `retry-after` (RFC 9110, with fractions), else the reset of what is
/// used up (`x-ratelimit-…`, `anthropic-ratelimit-…`).
fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let milliseconds = text(headers, "retry-after-ms").and_then(|it| in_seconds(it, 0.001));
    let after =
        || text(headers, "retry-after").and_then(|it| in_seconds(it, 1.0).or_else(|| until_date(it, headers, now)));
    milliseconds
        .or_else(after)
        .or_else(|| allowances(headers, now).filter(|it| it.remaining == 0).map(|it| it.reset).max())
}

/// Until a date of HTTP, by our clock or the provider's, whichever makes it longer. One that is more than a day off is no clock.
fn until_date(date: &str, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(86_400);
    let date = httpdate::parse_http_date(date).ok()?;
    let until = |now: SystemTime| date.duration_since(now).unwrap_or_default();
    let theirs = text(headers, "date").and_then(|it| httpdate::parse_http_date(it).ok()).filter(|theirs| {
        let ahead = theirs.duration_since(now);
        ahead.unwrap_or_else(|behind| behind.duration()) < DAY
    });
    Some(until(now).max(theirs.map(until).unwrap_or_default()).min(LONGEST_WAIT))
}

/// A header's text, once and short.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|it| !it.is_empty() && it.len() <= 128)
}

/// A number of such units; infinite ones are the longest wait, negative ones none at all.
fn in_seconds(text: &str, unit: f64) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    if number.is_nan() {
        return None;
    }
    // Rounded up, so that it is never earlier than asked.
    let seconds = (number * unit).clamp(0.0, LONGEST_WAIT.as_secs_f64());
    Some(
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(LONGEST_WAIT)
            .saturating_add(Duration::from_nanos(u64::from(seconds > 0.0))),
    )
}

/// What a provider says is left of one allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Whether it counts tokens; else requests.
    pub(crate) tokens: bool,
    /// How much is left.
    pub(crate) remaining: u64,
    /// How long until there is more.
    pub(crate) reset: Duration,
}

/// All allowances that headers tell of.
pub(crate) fn allowances(headers: &HeaderMap, now: SystemTime) -> impl Iterator<Item = Allowance> {
    const NAMES: [(&str, &str, bool); 6] = [
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", false),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", true),
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", false),
        ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", true),
        ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset", true),
        ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset", true),
    ];
    NAMES.into_iter().filter_map(move |(remaining, reset, tokens)| {
        // More than there are tokens in the world, or below none, is no number of them.
        let remaining = text(headers, remaining)?.parse().ok()?;
        Some(Allowance { tokens, remaining, reset: reset_in(text(headers, reset)?, now)? })
    })
}

/// Reads when an allowance is renewed: `6m0s`, `12ms`, `2m59.56s`, seconds, or a moment by RFC 3339.
fn reset_in(text: &str, now: SystemTime) -> Option<Duration> {
    if let Some(seconds) = in_seconds(text, 1.0) {
        return Some(seconds);
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        let milliseconds = u64::try_from(moment.as_millisecond()).unwrap_or(0);
        let until = Duration::from_millis(milliseconds.saturating_add(1));
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return Some(until.saturating_sub(since).min(LONGEST_WAIT));
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|it: char| it.is_ascii_alphabetic() || it == 'µ')?)?;
        let (unit, after) =
            after.split_at_checked(after.find(|it: char| it.is_ascii_digit()).unwrap_or(after.len()))?;
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        sum = sum.saturating_add(in_seconds(number, unit)?);
        rest = after;
    }
    Some(sum.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn now() -> SystemTime {
        httpdate::parse_http_date("Sun, 29 Nov 2026 12:00:00 GMT").unwrap()
    }

    #[test]
    fn every_form_of_asking_for_a_wait_is_read_and_never_shortened() {
        let rfc3339 = "2026-11-29T12:00:07Z";
        for (lines, milliseconds) in [
            (&[][..], None),
            (&[("retry-after-ms", "150")], Some(150)),
            (&[("retry-after-ms", "150"), ("retry-after", "9")], Some(150)),
            (&[("retry-after-ms", "soon"), ("retry-after", "9")], Some(9_000)),
            (&[("retry-after", "7")], Some(7_000)),
            (&[("retry-after", " 0.25 ")], Some(250)),
            (&[("retry-after", "0")], Some(0)),
            (&[("retry-after", "-5")], Some(0)),
            (&[("retry-after", "-inf")], Some(0)),
            (&[("retry-after", "inf")], Some(31_536_000_000)),
            (&[("retry-after", "1e999")], Some(31_536_000_000)),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "Sun, 29 Nov 2026 12:00:03 GMT")], Some(3_000)),
            (&[("retry-after", "Sunday, 29-Nov-26 12:00:03 GMT")], Some(3_000)),
            (&[("retry-after", "Sun, 29 Nov 2026 11:00:00 GMT")], Some(0)),
            (&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], Some(31_536_000_000)),
            // The provider's clock is 30 s behind, 30 s ahead, or none.
            (
                &[("retry-after", "Sun, 29 Nov 2026 11:59:33 GMT"), ("date", "Sun, 29 Nov 2026 11:59:30 GMT")],
                Some(3_000),
            ),
            (
                &[("retry-after", "Sun, 29 Nov 2026 12:00:33 GMT"), ("date", "Sun, 29 Nov 2026 12:00:30 GMT")],
                Some(33_000),
            ),
            (
                &[("retry-after", "Sun, 29 Nov 2026 12:00:03 GMT"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")],
                Some(3_000),
            ),
            (&[("retry-after", "tomorrow")], None),
            (&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")], Some(360_000)),
            (&[("x-ratelimit-remaining-requests", "3"), ("x-ratelimit-reset-requests", "6m0s")], None),
            (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "12ms")], Some(12)),
            (
                &[("retry-after", "1"), ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "12ms")],
                Some(1_000),
            ),
            (
                &[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", rfc3339)],
                Some(7_000),
            ),
        ] {
            let exact = milliseconds.map(Duration::from_millis);
            let read = asked(&headers(lines), now());
            assert!(read >= exact && read <= exact.map(|it| it + Duration::from_millis(1)), "{lines:?}: {read:?}");
        }
    }

    #[test]
    fn resets_are_read_in_every_form() {
        for (text, milliseconds) in [
            ("6m0s", Some(360_000)),
            ("12ms", Some(12)),
            ("1h2m3s", Some(3_723_000)),
            ("2m59.56s", Some(179_560)),
            ("1d", Some(86_400_000)),
            ("60", Some(60_000)),
            ("1.5", Some(1_500)),
            ("2026-11-29T12:00:30Z", Some(30_001)),
            ("2026-11-29T13:00:30+01:00", Some(30_001)),
            ("2026-11-29T11:00:00Z", Some(0)),
            ("9999d9999d", Some(31_536_000_000)),
            ("6x", None),
            ("m", None),
            ("", Some(0)),
            ("6m0", None),
            ("soon", None),
            ("1µs1é", None),
        ] {
            let read = reset_in(text, now()).map(|it| it.as_millis());
            assert_eq!(read, milliseconds, "{text:?}");
        }
    }

    #[test]
    fn the_wait_of_the_body_and_of_headers_hold_both() {
        let after = headers(&[("retry-after", "5")]);
        let seconds = |it| Some(Duration::from_secs(it));
        for (body, expected) in [(None, 5), (seconds(3), 5), (seconds(38), 38)] {
            let kind = with_wait(ErrorKind::Rate { wait: body }, &after, now());
            assert!(asked_by(&kind) >= seconds(expected) && asked_by(&kind) < seconds(expected + 1), "{kind:?}");
        }
        assert_eq!(with_wait(ErrorKind::Quota, &after, now()), ErrorKind::Quota);
    }

    #[test]
    fn a_failure_is_tried_again_only_if_that_can_help() {
        use ErrorKind as K;

        let again = |milliseconds| Next::Again(Duration::from_millis(milliseconds));
        let rate = |seconds| K::Rate { wait: Some(Duration::from_secs(seconds)) };
        let total = K::Timeout { phase: Phase::Total };
        let idle = K::Timeout { phase: Phase::Idle };
        for (kind, status, told, retries, expected) in [
            (K::Rate { wait: None }, 429, None, 0, again(500)),
            (K::Rate { wait: None }, 429, None, 1, again(1_000)),
            (K::Rate { wait: None }, 429, None, 2, Next::GiveUp),
            (rate(7), 429, None, 0, again(7_000)),
            (rate(60), 429, None, 0, again(60_000)),
            (rate(61), 429, None, 0, Next::GiveUp),
            (rate(3_600), 429, Some(true), 0, Next::GiveUp),
            (rate(7), 429, Some(false), 0, Next::GiveUp),
            (K::Overloaded { wait: None }, 529, None, 1, again(1_000)),
            (K::Server { wait: None }, 500, None, 0, again(500)),
            (K::Server { wait: None }, 500, Some(false), 0, Next::GiveUp),
            (K::Server { wait: None }, 500, Some(true), 2, Next::GiveUp),
            (K::Connect, 0, None, 1, again(1_000)),
            (K::Cut { bytes: 3 }, 200, None, 0, again(500)),
            (K::Cut { bytes: 3 }, 200, None, 1, Next::GiveUp),
            (K::Protocol, 200, None, 0, again(500)),
            (K::Protocol, 200, None, 1, Next::GiveUp),
            (idle.clone(), 200, None, 0, again(500)),
            (idle, 200, None, 1, Next::GiveUp),
            (total, 200, None, 0, Next::GiveUp),
            (K::Auth, 401, Some(true), 0, Next::GiveUp),
            (K::NoModel, 404, Some(true), 0, Next::GiveUp),
            (K::BadRequest, 400, Some(true), 0, Next::GiveUp),
            (K::BadRequest, 422, Some(true), 0, Next::GiveUp),
            (K::BadRequest, 418, Some(true), 0, again(500)),
            (K::BadRequest, 418, None, 0, Next::GiveUp),
            (K::TooLarge, 413, Some(true), 0, Next::GiveUp),
            (K::Quota, 429, Some(true), 0, Next::GiveUp),
            (K::Truncated, 200, None, 0, Next::GiveUp),
            (K::Canceled, 0, None, 0, Next::GiveUp),
            (K::Budget, 0, None, 0, Next::GiveUp),
            (K::Unavailable, 0, None, 0, Next::GiveUp),
        ] {
            assert_eq!(
                next(&kind, Some(status), told, retries, None, 0.0),
                expected,
                "{kind:?} {status} {told:?} {retries}"
            );
        }
        let seconds = Duration::from_secs;
        assert_eq!(next(&rate(7), Some(429), None, 0, Some(seconds(7)), 0.0), Next::GiveUp);
        assert_eq!(next(&rate(7), Some(429), None, 0, Some(seconds(8)), 0.0), again(7_000));
    }

    #[test]
    fn backoff_doubles_up_to_eight_seconds_less_a_quarter_at_most() {
        for (retries, milliseconds) in [(0, 500), (1, 1_000), (4, 8_000), (5, 8_000), (u32::MAX, 8_000)] {
            let full = Duration::from_millis(milliseconds);
            assert_eq!(backoff(retries, 0.0), full);
            assert_eq!(backoff(retries, 1.0), full.mul_f64(0.75));
            assert!((full.mul_f64(0.75)..=full).contains(&backoff(retries, jitter())));
        }
        assert!(jitter() != jitter() || jitter() != jitter());
    }
}
