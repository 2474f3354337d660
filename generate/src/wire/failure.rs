//! What providers say when there is no answer: with another status than 200, or inside a response that began well.
//!
//! The kind follows from codes and the status, never from words: there are providers that say "quota" of a limit that is over
//! in a minute.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use crate::error::ErrorKind;
use crate::wire::lax::{Fields, Lax, Part, Parts, Take, Word};
use crate::wire::{Failure, LONGEST_WAIT, WireError};

/// Bytes of a provider's own words.
const MAX_MESSAGE_BYTES: usize = 512;

/// What an error says, whoever says it.
#[derive(Debug, Default)]
struct Complaint {
    /// Codes, the most exact first, in lower case.
    codes: Vec<String>,
    message: String,
    wait: Option<Duration>,
    /// An allowance of a day is used up.
    daily: bool,
    request_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outer {
    object: Word,
    error: Lax<Inner>,
    response: Lax<Fields<Inside>>,
    x_groq: Lax<Fields<Inside>>,
    message: Word,
    detail: Word,
    code: Word,
    r#type: Word,
    request_id: Word,
}

/// What an error may stand in: `response` of the event `response.failed`, or `x_groq`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Inside {
    id: Word,
    error: Lax<Inner>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inner {
    message: Word,
    r#type: Word,
    code: Word,
    status: Word,
    details: Lax<Details>,
}

#[derive(Debug, Default)]
struct Details(Vec<Detail>);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    error_code: Word,
    reason: Word,
    #[serde(rename = "retryDelay")]
    retry_delay: Word,
    violations: Parts<Violation>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Violation {
    #[serde(rename = "quotaId")]
    quota_id: Word,
}

impl<'de> Take<'de> for Inner {
    fn from_text(text: &str) -> Option<Self> {
        let message = (!text.is_empty()).then(|| text.to_owned());
        message.map(|it| Self { message: Lax(Some(it)), ..Self::default() })
    }

    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        Ok(Fields::from_object(object)?.map(Fields::into_inner))
    }
}

/// An error is there; its words are read by [`inside`].
#[derive(Clone, Debug)]
pub(super) struct Present;

impl<'de> Take<'de> for Present {
    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then_some(Self)
    }

    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Some(Self))
    }
}

impl<'de> Take<'de> for Details {
    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let details = Vec::<Lax<Fields<Detail>>>::from_list(list)?;
        Ok(details.map(|it| Self(it.into_iter().filter_map(|it| it.0.map(Fields::into_inner)).collect())))
    }

    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        Ok(Fields::from_object(object)?.map(|it| Self(vec![it.into_inner()])))
    }
}

/// Reads a response whose status is not 200.
pub(super) fn read(status: u16, body: &[u8]) -> Failure {
    let complaint = complaint(body).unwrap_or_default();
    let mut message = complaint.message.clone();
    if message.is_empty() {
        message = one_line(&String::from_utf8_lossy(body.get(..4096).unwrap_or(body)));
    }
    if message.is_empty() {
        message = "no explanation".to_owned();
    }
    let kind = kind_by_exact_code(&complaint).unwrap_or_else(|| kind_by_status(status, complaint.wait));
    Failure { kind, message, request_id: complaint.request_id }
}

/// What an error inside a response with status 200 means: `data` is an event, a line or a text that holds one.
///
/// `otherwise` is its kind if it has no code that is known.
pub(super) fn inside(data: &[u8], otherwise: ErrorKind) -> WireError {
    let complaint = complaint(data).unwrap_or_default();
    let status = complaint.codes.iter().find_map(|it| it.parse().ok().filter(|it| (400..600).contains(it)));
    let kind = kind_by_exact_code(&complaint)
        .or_else(|| status.map(|it| kind_by_status(it, complaint.wait)))
        .or_else(|| kind_by_code(&complaint))
        .unwrap_or(otherwise);
    let message = match (complaint.message.as_str(), complaint.codes.first()) {
        ("", Some(code)) => one_line(code),
        ("", None) => "an error without an explanation".to_owned(),
        (message, _) => message.to_owned(),
    };
    WireError { kind, message }
}

/// Whether a JSON text is an error and nothing else. An answer of the Responses API may have failed, but is one.
pub(super) fn is_error(text: &[u8]) -> bool {
    outer(text).is_some_and(|it| it.error.0.is_some() && it.object.text() != "response")
}

fn outer(body: &[u8]) -> Option<Outer> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        let list: Vec<Part<Outer>> = serde_json::from_slice(body).ok()?;
        return list.into_iter().next()?.0.map(Fields::into_inner);
    }
    serde_json::from_slice::<Part<Outer>>(body).ok()?.0.map(Fields::into_inner)
}

fn complaint(body: &[u8]) -> Option<Complaint> {
    let outer = outer(body)?;
    let inside = outer.response.0.or(outer.x_groq.0).map(Fields::into_inner).unwrap_or_default();
    let request_id = outer.request_id.0.or(inside.id.0);
    let inner = outer.error.0.or(inside.error.0).unwrap_or_default();
    let details = inner.details.0.unwrap_or_default().0;
    let words = details.iter().flat_map(|it| [&it.error_code, &it.reason]);
    let words = words.chain([&inner.code, &inner.status, &inner.r#type, &outer.code, &outer.r#type]);
    let message = [&inner.message, &outer.message, &outer.detail].into_iter().map(Word::text).find(|it| !it.is_empty());
    let quotas = details.iter().flat_map(|it| it.violations.iter()).map(|it| it.quota_id.text());
    Some(Complaint {
        codes: words.map(|it| it.text().to_ascii_lowercase()).filter(|it| !it.is_empty()).collect(),
        message: message.map(one_line).unwrap_or_default(),
        wait: details.iter().find_map(|it| read_delay(it.retry_delay.text())),
        daily: quotas.into_iter().any(|it| it.contains("PerDay")),
        request_id,
    })
}

/// The kind that a code stands for which says more than a status.
fn kind_by_exact_code(complaint: &Complaint) -> Option<ErrorKind> {
    let kind = |code: &str| match code {
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "credit_balance_too_low"
        | "insufficient_credits"
        | "billing_error"
        | "billing_hard_limit_reached"
        | "billing_not_active"
        | "payment_required" => Some(ErrorKind::Quota),
        // Anthropic: enforced_spend_limit_reached and its siblings.
        _ if code.ends_with("spend_limit_reached") => Some(ErrorKind::Quota),
        "exceed_context_size_error"
        | "context_length_exceeded"
        | "context_window_exceeded"
        | "request_too_large"
        | "string_above_max_length" => Some(ErrorKind::TooLarge),
        "api_key_invalid" | "invalid_api_key" => Some(ErrorKind::Auth),
        "model_not_found" | "model_decommissioned" => Some(ErrorKind::NoModel),
        _ => None,
    };
    let daily = complaint.daily.then_some(ErrorKind::Quota);
    daily.or_else(|| complaint.codes.iter().find_map(|it| kind(it)))
}

/// The kind that a code stands for which says what a status would say, if there were one.
fn kind_by_code(complaint: &Complaint) -> Option<ErrorKind> {
    let wait = complaint.wait;
    complaint.codes.iter().find_map(|code| match code.as_str() {
        "authentication_error" | "permission_error" | "permission_denied" | "unauthenticated" => Some(ErrorKind::Auth),
        "not_found_error" | "not_found" => Some(ErrorKind::NoModel),
        "invalid_request_error" | "invalid_argument" | "failed_precondition" | "out_of_range" | "invalid_prompt" => {
            Some(ErrorKind::BadRequest)
        }
        "rate_limit_error" | "rate_limit_exceeded" | "resource_exhausted" | "too_many_requests" => {
            Some(ErrorKind::Rate { wait })
        }
        "overloaded_error" | "unavailable" | "unavailable_error" | "capacity_exceeded" | "server_overloaded" => {
            Some(ErrorKind::Overloaded { wait })
        }
        "api_error"
        | "server_error"
        | "internal_error"
        | "internal_server_error"
        | "internal"
        | "unknown"
        | "aborted"
        | "deadline_exceeded"
        | "timeout_error" => Some(ErrorKind::Server { wait }),
        _ => None,
    })
}

fn kind_by_status(status: u16, wait: Option<Duration>) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Auth,
        402 => ErrorKind::Quota,
        404 => ErrorKind::NoModel,
        408 | 409 => ErrorKind::Server { wait },
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::Rate { wait },
        // 498: no capacity for the flexible tier (Groq). 529: overloaded (Anthropic).
        498 | 503 | 529 => ErrorKind::Overloaded { wait },
        400..500 => ErrorKind::BadRequest,
        500.. => ErrorKind::Server { wait },
        _ => ErrorKind::Protocol,
    }
}

/// `retryDelay` of Gemini: seconds as a decimal number with the unit `s`, which is how JSON writes a protobuf `Duration`.
fn read_delay(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    if seconds.is_nan() || seconds < 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
}

/// Makes a foreign text fit for a message: one line, at most 512 bytes, nothing that steers a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        let gap = usize::from(!line.is_empty());
        let shown = word.chars().filter(|it| !it.is_control() && !steers_direction(*it));
        for (at, char) in shown.enumerate() {
            let gap = if at == 0 { gap } else { 0 };
            if line.len() + gap + char.len_utf8() > MAX_MESSAGE_BYTES {
                return line;
            }
            if gap == 1 {
                line.push(' ');
            }
            line.push(char);
        }
    }
    line
}

/// Characters that turn the direction of writing, which can make a line look like another.
fn steers_direction(char: char) -> bool {
    matches!(char, '\u{200E}' | '\u{200F}' | '\u{061C}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Option<Duration> {
        Some(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn the_kind_follows_from_the_status_and_the_code() {
        let none = None;
        let rows: &[(u16, &str, ErrorKind, &str)] = &[
            (
                401,
                r#"{"error":{"message":"bad key","type":"invalid_request_error","code":"invalid_api_key"}}"#,
                ErrorKind::Auth,
                "bad key",
            ),
            (403, r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#, ErrorKind::Auth, "no"),
            (
                400,
                r#"[{"error":{"code":400,"message":"key","status":"INVALID_ARGUMENT","details":[
                {"reason":"API_KEY_INVALID"}]}}]"#,
                ErrorKind::Auth,
                "key",
            ),
            (404, r#"{"error":"model 'x' not found"}"#, ErrorKind::NoModel, "model 'x' not found"),
            (400, r#"{"error":{"message":"m","code":"model_decommissioned"}}"#, ErrorKind::NoModel, "m"),
            (
                400,
                r#"{"error":{"message":"m","code":null,"type":"invalid_request_error"}}"#,
                ErrorKind::BadRequest,
                "m",
            ),
            (422, r#"{"detail":"bad field"}"#, ErrorKind::BadRequest, "bad field"),
            (422, r#"{"detail":[{"msg":"x"}]}"#, ErrorKind::BadRequest, r#"{"detail":[{"msg":"x"}]}"#),
            (413, r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#, ErrorKind::TooLarge, "m"),
            (
                400,
                r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":9,
                "n_ctx":4}}"#,
                ErrorKind::TooLarge,
                "too long",
            ),
            (400, r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#, ErrorKind::TooLarge, "m"),
            (402, "", ErrorKind::Quota, "no explanation"),
            (402, r#"{"error":{"code":402,"message":"m"}}"#, ErrorKind::Quota, "m"),
            (429, r#"{"error":{"message":"m","type":"insufficient_quota","code":null}}"#, ErrorKind::Quota, "m"),
            (429, r#"{"error":{"message":"m","code":"credit_balance_exhausted"}}"#, ErrorKind::Quota, "m"),
            (
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":
                "enforced_spend_limit_reached"}}}"#,
                ErrorKind::Quota,
                "m",
            ),
            (
                429,
                r#"{"error":{"message":"m","details":{"error_code":"monthly_spend_limit_reached"}}}"#,
                ErrorKind::Quota,
                "m",
            ),
            // Words do not count.
            (
                429,
                r#"{"message":"INSUFFICIENT QUOTA: billing, credit balance"}"#,
                ErrorKind::Rate { wait: none },
                "INSUFFICIENT QUOTA: billing, credit balance",
            ),
            (
                429,
                r#"{"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}}"#,
                ErrorKind::Rate { wait: none },
                "m",
            ),
            (
                429,
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[
                {"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"retryDelay":"38.5s"}]}}"#,
                ErrorKind::Rate { wait: seconds(38.5) },
                "m",
            ),
            (
                429,
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":[
                {"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"retryDelay":"36000s"}]}}"#,
                ErrorKind::Quota,
                "m",
            ),
            (429, "slow down", ErrorKind::Rate { wait: none }, "slow down"),
            (498, "{}", ErrorKind::Overloaded { wait: none }, "{}"),
            (
                503,
                r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
                ErrorKind::Overloaded { wait: none },
                "Loading model",
            ),
            (
                503,
                r#"{"error":{"message":"m","details":[{"retryDelay":"1s"}]}}"#,
                ErrorKind::Overloaded { wait: seconds(1.0) },
                "m",
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                ErrorKind::Overloaded { wait: none },
                "m",
            ),
            (408, "", ErrorKind::Server { wait: none }, "no explanation"),
            (409, "", ErrorKind::Server { wait: none }, "no explanation"),
            (
                500,
                "<html>\n<title>\u{1b}[31mBad\u{7}</title>",
                ErrorKind::Server { wait: none },
                "<html> <title>[31mBad</title>",
            ),
            (502, "\u{FF}\u{202E}x", ErrorKind::Server { wait: none }, "\u{FF}x"),
            (504, "[", ErrorKind::Server { wait: none }, "["),
            (418, "", ErrorKind::BadRequest, "no explanation"),
            (307, "", ErrorKind::Protocol, "no explanation"),
            (204, "", ErrorKind::Protocol, "no explanation"),
        ];
        for (status, body, kind, message) in rows {
            let failure = read(*status, body.as_bytes());
            assert_eq!((&failure.kind, failure.message.as_str()), (kind, *message), "{status} {body}");
        }
    }

    #[test]
    fn an_error_inside_a_response_is_known_by_its_code() {
        let rows = [
            (r#"{"error":{"type":"overloaded_error","message":"m"}}"#, "overloaded"),
            (r#"{"error":{"code":402,"type":"invalid_request_error","message":"m"}}"#, "quota"),
            (r#"{"error":{"code":"503","message":"m"}}"#, "overloaded"),
            (r#"{"error":{"code":200,"message":"m"}}"#, "server"),
            (r#"{"error":{"code":500,"type":"exceed_context_size_error","message":"m"}}"#, "too_large"),
            (r#"{"error":{"status":"PERMISSION_DENIED","message":"m"}}"#, "auth"),
            (r#"{"error":{"type":"not_found_error","message":"m"}}"#, "no_model"),
            (r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#, "rate"),
            (r#"{"response":{"error":{"code":"server_error","message":"m"}}}"#, "server"),
            (r#"{"x_groq":{"error":"m"}}"#, "server"),
            (r#"{"error":"m"}"#, "server"),
        ];
        for (data, kind) in rows {
            let error = inside(data.as_bytes(), ErrorKind::Server { wait: None });
            assert_eq!((error.kind.name(), error.message.as_str()), (kind, "m"), "{data}");
        }
    }

    #[test]
    fn a_delay_is_a_decimal_number_of_seconds() {
        let rows = [
            ("38s", seconds(38.0)),
            ("0.25s", seconds(0.25)),
            ("0s", seconds(0.0)),
            ("1e999s", Some(LONGEST_WAIT)),
            ("infs", Some(LONGEST_WAIT)),
            ("NaNs", None),
            ("-1s", None),
            ("38", None),
            ("s", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(read_delay(text), expected, "{text}");
        }
    }

    #[test]
    fn words_are_short_and_on_one_line() {
        for text in ["x".repeat(5000), "ü ".repeat(5000), "🦀\n".repeat(5000), "\0".repeat(5000)] {
            for body in [text.clone(), serde_json::json!({"error": {"message": text}}).to_string()] {
                let message = read(500, body.as_bytes()).message;
                assert!(message.len() <= MAX_MESSAGE_BYTES && !message.contains(char::is_control), "{message}");
            }
        }
        assert_eq!(one_line("  a\r\n\tb\u{2028}c "), "a b c");
    }

    #[test]
    fn the_number_of_a_call_is_found() {
        let failure = read(529, br#"{"type":"error","error":{"type":"x","message":"m"},"request_id":"req_1"}"#);
        assert_eq!((failure.request_id.as_deref(), failure.message.as_str()), (Some("req_1"), "m"));
    }
}
