//! What the tests of the five kinds share: forms of a stream, ways to split it, and what must hold of every reader.

use super::*;
use crate::answer::Message;

/// Numbers that look random, the same in every run (Knuth's MMIX generator).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// How a stream of events is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Crlf,
    Cr,
    /// With a byte-order mark, comments, fields without meaning, data on several lines, and no blank after the colon.
    Dressed,
}

pub(super) const FORMS: [Form; 4] = [Form::Plain, Form::Crlf, Form::Cr, Form::Dressed];

impl Form {
    /// Writes events with data only.
    pub(super) fn events(self, data: &[String]) -> Vec<u8> {
        let events: Vec<_> = data.iter().map(|it| ("", it.as_str())).collect();
        self.named(&events)
    }

    /// Writes events whose name is the field `type` of their data.
    pub(super) fn typed(self, events: &[Value]) -> Vec<u8> {
        let data: Vec<_> = events.iter().map(Value::to_string).collect();
        let names = events.iter().map(|it| it["type"].as_str().unwrap());
        self.named(&names.zip(&data).map(|(name, data)| (name, data.as_str())).collect::<Vec<_>>())
    }

    /// Writes events with name and data.
    fn named(self, events: &[(&str, &str)]) -> Vec<u8> {
        let mut text = String::new();
        if self == Self::Dressed {
            text.push_str("\u{FEFF}: welcome\nretry: 10\nid: 7\n\n");
        }
        for (number, (name, data)) in events.iter().enumerate() {
            if !name.is_empty() {
                text.push_str(&format!("event: {name}\n"));
            }
            if self == Self::Dressed {
                text.push_str(&format!(":ping\nid:{number}\n"));
                text.push_str(if number > 0 { "unknown: field\n" } else { "" });
                let data = data.replacen(",\"", "\ndata:,\"", 2);
                text.push_str(&format!("data:{data}\n\n"));
            } else {
                text.push_str(&format!("data: {data}\n\n"));
            }
        }
        match self {
            Self::Plain | Self::Dressed => text.into_bytes(),
            Self::Crlf => text.replace('\n', "\r\n").into_bytes(),
            Self::Cr => text.replace('\n', "\r").into_bytes(),
        }
    }

    /// Bytes at the end of an event that may be missing: the line feed of the last CRLF.
    pub(super) fn tail(self) -> usize {
        usize::from(self == Self::Crlf)
    }
}

/// What came of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) answer: Result<ReadAnswer, WireError>,
    pub(super) usage: Usage,
    pub(super) draft: String,
}

impl Read {
    /// The text of a complete answer.
    pub(super) fn complete(&self) -> &str {
        match &self.answer {
            Ok(ReadAnswer { end: End::Complete { text }, .. }) => text,
            other => panic!("no complete answer: {other:?}"),
        }
    }

    /// The outcome in one line.
    pub(super) fn outcome(&self) -> String {
        match &self.answer {
            Ok(answer) => match &answer.end {
                End::Complete { text } => format!("complete {text}"),
                End::Limit { reason } => format!("limit {reason}"),
                End::Refused { reason } => format!("refused {reason}"),
                End::Filtered { reason } => format!("filtered {reason}"),
            },
            Err(error) => format!("error {}", error.kind.name()),
        }
    }
}

/// A response to a request.
pub(super) struct Stream {
    pub(super) wire: &'static dyn Wire,
    pub(super) dialect: Dialect,
    pub(super) request: Request,
    pub(super) content_type: Option<&'static str>,
    pub(super) bytes: Vec<u8>,
}

impl Stream {
    /// A stream of events.
    pub(super) fn of(wire: &'static dyn Wire, bytes: Vec<u8>) -> Self {
        let content_type = Some("text/event-stream; charset=utf-8");
        Self { wire, dialect: dialect(), request: request(), content_type, bytes }
    }

    /// One JSON text.
    pub(super) fn json(wire: &'static dyn Wire, bytes: Vec<u8>) -> Self {
        Self { content_type: Some("application/json"), ..Self::of(wire, bytes) }
    }

    /// Reads it at once.
    pub(super) fn read(&self) -> Read {
        self.read_in(&[&self.bytes])
    }

    /// Reads it in these packets, as a connection would.
    pub(super) fn read_in(&self, packets: &[&[u8]]) -> Read {
        let mut reader = self.wire.reader(&self.request, &self.dialect, self.content_type);
        let mut draft = String::new();
        let mut failed = None;
        for packet in packets {
            failed = reader.push(packet, &mut |text| draft.push_str(text)).err();
            if failed.is_some() || reader.done() {
                break;
            }
        }
        let answer = failed.map_or_else(|| reader.finish(), Err);
        Read { answer, usage: reader.usage(), draft }
    }

    /// Reads it cut into two at every place, byte by byte, and in packets of any size, and gives the answer, which is the same.
    #[track_caller]
    pub(super) fn reads_alike_in_every_split(&self) -> Read {
        let whole = self.read();
        for at in 0..=self.bytes.len() {
            let (first, second) = self.bytes.split_at(at);
            assert_eq!(self.read_in(&[first, second]), whole, "cut at {at}");
        }
        let single: Vec<&[u8]> = self.bytes.chunks(1).collect();
        assert_eq!(self.read_in(&single), whole, "byte by byte");
        let mut numbers = Numbers(42);
        for round in 0..50 {
            let mut rest = self.bytes.as_slice();
            let mut packets = Vec::new();
            while !rest.is_empty() {
                let (packet, after) = rest.split_at((1 + numbers.below(1 << (round % 9))).min(rest.len()));
                packets.push(packet);
                rest = after;
            }
            assert_eq!(self.read_in(&packets), whole, "round {round}");
        }
        whole
    }

    /// The connection ends after each of the bytes: before `complete` of them it is a cut, from there on the answer is whole.
    #[track_caller]
    pub(super) fn is_cut_before(&self, complete: usize) {
        let whole = self.read().complete().to_owned();
        for end in 0..=self.bytes.len() {
            let read = self.read_in(&[&self.bytes[..end]]);
            if end >= complete {
                assert_eq!(read.complete(), whole, "{end} bytes");
            } else if end == 0 && self.content_type == Some("application/json") {
                assert_eq!(read.outcome(), "error protocol");
            } else {
                assert_eq!(read.outcome(), "error cut", "{end} bytes: {:?}", read.answer);
            }
        }
    }
}

/// A request with a conversation.
pub(super) fn request() -> Request {
    let said = |role, text: &str| Message { role, text: text.to_owned() };
    Request {
        system: "Be brief.".to_owned(),
        messages: vec![said(Role::User, "größe?"), said(Role::Assistant, "no"), said(Role::User, "yes")],
        max_output: 1000,
        temperature: Some(0.5),
        seed: Some(7),
    }
}

/// A dialect that allows little.
pub(super) fn dialect() -> Dialect {
    Dialect {
        model: "m".to_owned(),
        stream: true,
        temperature: false,
        seed: false,
        include_usage: false,
        finish_required: true,
        max_output_field: "max_completion_tokens".to_owned(),
        context: None,
        extra_body: serde_json::Map::new(),
    }
}

/// The body of the request.
pub(super) fn sent(wire: &dyn Wire, dialect: &Dialect) -> Value {
    serde_json::from_slice(&wire.request(&request(), dialect).body).unwrap()
}
