//! One exchange as it is written down (JSON, schema 1).

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::key::Redactor;

const SCHEMA: u32 = 1;

/// A request, without its key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    pub(crate) method: String,
    /// With its query, without the host.
    pub(crate) path: String,
    /// Those of the wire kind and of the profile.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body_sha256: String,
    pub(crate) body: String,
}

/// How the bytes of a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// By themselves.
    Whole,
    /// No more were read, as the answer was there or could be none.
    Stopped,
    /// By a connection that broke.
    Cut,
    /// There was no connection.
    Unconnected,
    /// It took too long to connect.
    LateConnect,
    /// The head took too long.
    LateFirstByte,
    /// More took too long.
    LateIdle,
    /// The call took too long.
    LateTotal,
}

/// Bytes that arrived together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packet {
    /// Since the one before, or since the request was sent.
    delay_ms: u64,
    #[serde(rename = "base64", with = "base64_text")]
    pub(crate) bytes: Vec<u8>,
}

mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

impl Packet {
    pub(crate) fn new(delay: Duration, bytes: &[u8]) -> Self {
        Self { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), bytes: bytes.to_owned() }
    }
}

/// A response, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// When its head was there, in milliseconds since 1970: dates in headers are read by it.
    received_ms: u64,
    pub(crate) packets: Vec<Packet>,
}

impl Told {
    pub(crate) fn new(status: u16, headers: &HeaderMap, received: SystemTime) -> Self {
        let since = received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let headers = headers.iter().filter(|(name, _)| *name != reqwest::header::SET_COOKIE);
        Self {
            status,
            headers: headers
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            received_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            packets: Vec::new(),
        }
    }

    pub(crate) fn received(&self) -> SystemTime {
        let since = Duration::from_millis(self.received_ms);
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The headers, without those that are none.
    pub(crate) fn header_map(&self) -> HeaderMap {
        let parse = |(name, value): &(String, String)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        };
        self.headers.iter().filter_map(parse).collect()
    }
}

/// A request and its response.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    schema: u32,
    /// Name of the profile.
    pub(crate) profile: String,
    /// Among those of the profile, from 1.
    pub(crate) number: u64,
    pub(crate) request: Sent,
    pub(crate) response: Option<Told>,
    pub(crate) end: Ending,
}

impl Sent {
    pub(crate) fn new(path: String, headers: Vec<(String, String)>, body: String) -> Self {
        Self { method: "POST".into(), path, headers, body_sha256: hex::encode(Sha256::digest(&body)), body }
    }

    fn masked(self, redactor: &Redactor) -> Self {
        let headers = self.headers.into_iter().map(|(name, value)| (name, redactor.text(value))).collect();
        Self { method: self.method, ..Self::new(redactor.text(self.path), headers, redactor.text(self.body)) }
    }

    /// Where another request differs first, in words.
    pub(crate) fn first_difference(&self, other: &Self) -> String {
        let here = serde_json::json!([self.method, self.path, self.headers, json_or_text(&self.body)]);
        let there = serde_json::json!([other.method, other.path, other.headers, json_or_text(&other.body)]);
        let names = ["method", "path", "headers", "body"];
        let parts = names.into_iter().enumerate().filter_map(|(at, name)| Some((name, here.get(at)?, there.get(at)?)));
        for (name, here, there) in parts {
            if let Some(difference) = differs(name, here, there, 0) {
                return difference;
            }
        }
        "the bytes of the body are written in another way".into()
    }
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// The first place where two values differ.
fn differs(place: &str, recorded: &Value, now: &Value, depth: u32) -> Option<String> {
    if recorded == now {
        return None;
    }
    let empty = Value::Null;
    // Deeper than requests are, the whole is shown.
    let inner = match (recorded, now) {
        _ if depth > 32 => None,
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|it| {
            differs(&format!("{place}.{it}"), a.get(it).unwrap_or(&empty), b.get(it).unwrap_or(&empty), depth + 1)
        }),
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|it| {
            differs(&format!("{place}[{it}]"), a.get(it).unwrap_or(&empty), b.get(it).unwrap_or(&empty), depth + 1)
        }),
        _ => None,
    };
    Some(inner.unwrap_or_else(|| {
        let (recorded, now) = around_difference(&recorded.to_string(), &now.to_string());
        format!("{place} was {recorded} and is {now}")
    }))
}

/// Both texts around the place where they part, at most 120 characters of each.
fn around_difference(a: &str, b: &str) -> (String, String) {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(40);
    let part = |text: &str| {
        let shown: String = text.chars().skip(from).take(120).collect();
        let (before, after) =
            (if from > 0 { "…" } else { "" }, if text.chars().count() > from + 120 { "…" } else { "" });
        format!("{before}{shown}{after}")
    };
    (part(a), part(b))
}

impl Exchange {
    pub(crate) fn new(profile: String, number: u64, request: Sent, response: Option<Told>, end: Ending) -> Self {
        Self { schema: SCHEMA, profile, number, request, response, end }
    }

    /// Reads a file.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            schema: u32,
        }

        let version: Versioned = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if version.schema != SCHEMA {
            return Err(format!("it is of schema {}, and this version reads schema {SCHEMA}", version.schema));
        }
        let exchange: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if exchange.request.body_sha256 != hex::encode(Sha256::digest(&exchange.request.body)) {
            return Err("the request was changed: its body has another digest".into());
        }
        Ok(exchange)
    }

    /// The text of the file.
    pub(super) fn written(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// With every key masked, also one that lies across packets.
    pub(super) fn masked(mut self, redactor: &Redactor) -> Self {
        self.request = self.request.masked(redactor);
        if let Some(told) = &mut self.response {
            for (_, value) in &mut told.headers {
                *value = redactor.text(std::mem::take(value));
            }
            let mut whole: Vec<u8> = told.packets.iter().flat_map(|it| it.bytes.iter().copied()).collect();
            redactor.mask(&mut whole);
            let mut rest = whole.as_slice();
            for packet in &mut told.packets {
                let (own, after) = rest.split_at_checked(packet.bytes.len()).unwrap_or((rest, &[]));
                packet.bytes = own.to_owned();
                rest = after;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(path: &str, body: &str) -> Sent {
        Sent::new(path.into(), vec![("a".into(), "b".into())], body.into())
    }

    fn exchange() -> Exchange {
        let headers = HeaderMap::from_iter([
            (reqwest::header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (reqwest::header::SET_COOKIE, HeaderValue::from_static("session=1")),
        ]);
        let mut told = Told::new(200, &headers, SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        told.packets = vec![Packet::new(Duration::from_millis(7), b"a\xff"), Packet::new(Duration::MAX, b"")];
        Exchange::new("p".into(), 3, sent("/x", "{}"), Some(told), Ending::Cut)
    }

    #[test]
    fn an_exchange_is_read_as_it_was_written() {
        let exchange = exchange();
        let text = exchange.written();
        assert!(!text.contains("session"), "{text}");
        let read = Exchange::read(text.as_bytes()).unwrap();
        assert_eq!(read, exchange);
        let told = read.response.unwrap();
        assert_eq!(told.received(), SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        assert_eq!(told.header_map().get("content-type").unwrap(), "text/event-stream");
    }

    #[test]
    fn a_changed_file_is_refused() {
        let text = exchange().written();
        for (from, to, part) in [
            ("\"schema\": 1", "\"schema\": 2", "schema 2"),
            ("\"{}\"", "\"{ }\"", "another digest"),
            ("\"number\"", "\"nummer\"", "nummer"),
            ("\"Yf8=\"", "\"?\"", ""),
            ("}\n", "\n", ""),
        ] {
            assert!(text.contains(from), "{from}: {text}");
            let end = text.rfind(from).unwrap();
            let changed = format!("{}{to}{}", &text[..end], &text[end + from.len()..]);
            let reason = Exchange::read(changed.as_bytes()).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn the_first_difference_is_shown() {
        let long = format!("{}x{}", "a".repeat(300), "b".repeat(300));
        let recorded = sent("/p", &serde_json::json!({"m": [{"c": "one"}], "n": 1, "l": long}).to_string());
        for (other, expected) in [
            (sent("/q", &recorded.body), "path was \"/p\" and is \"/q\""),
            (Sent { headers: vec![], ..recorded.clone() }, "headers[0] was [\"a\",\"b\"] and is null"),
            (sent("/p", &recorded.body.replace("one", "two")), "body.m[0].c was \"one\" and is \"two\""),
            (sent("/p", &recorded.body.replace("\"n\"", "\"o\"")), "body.n was 1 and is null"),
            (sent("/p", &recorded.body.replace(':', ": ")), "the bytes of the body are written in another way"),
            (sent("/p", "text"), "and is \"text\""),
        ] {
            let difference = recorded.first_difference(&other);
            assert!(difference.contains(expected), "{difference}");
        }
        let difference = recorded.first_difference(&sent("/p", &recorded.body.replace('x', "y")));
        assert!(difference.contains("body.l was …") && difference.len() < 320, "{difference}");
    }
}
