//! Body of the fuzz target `wire` (see `fuzz/README.md`). Not an API.

use std::io::Cursor;

use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::answer::{End, Message, Request, Role, Usage};
use crate::error::ErrorKind;
use crate::wire::{self, Dialect, Kind, MAX_EVENT_BYTES, ReadAnswer, WireError, ndjson, sse};

/// Name and data of events.
type Events = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads any bytes as a response: the first one chooses how, and all others are the body. Panics when what holds of every
/// response does not.
///
/// `r`, `c`, `a`, `g`, `o`: as a stream of that wire kind (responses, chat, anthropic, gemini, ollama); in upper case without
/// a content type and by a dialect that does not ask for the reason to end. `s`: by the decoders. Others: as a failure, whose
/// status follows from that byte.
pub fn wire(input: &[u8]) {
    let Some((how, body)) = input.split_first() else { return };
    let kind = match how.to_ascii_lowercase() {
        b'r' => Kind::OpenaiResponses,
        b'c' => Kind::OpenaiChat,
        b'a' => Kind::Anthropic,
        b'g' => Kind::Gemini,
        b'o' => Kind::Ollama,
        b's' => return decoders(body),
        other => return failure(400 + u16::from(other) % 200, body),
    };
    reader(kind, how.is_ascii_uppercase(), body);
}

/// Cuts bytes into packets of many sizes, the same ones for the same bytes.
fn packets(body: &[u8]) -> Vec<&[u8]> {
    let mut state = body.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| roll(state ^ u64::from(*byte)));
    let mut rest = body;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        state = roll(state);
        let size = 1 + (state >> 40) % (1 << ((state >> 20) % 8));
        let (packet, after) = rest.split_at(usize::try_from(size).unwrap_or(1).min(rest.len()));
        packets.push(packet);
        rest = after;
    }
    packets
}

fn roll(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

/// What came of a response: the answer, tokens, and the draft.
type Read = (Result<ReadAnswer, WireError>, Usage, String);

fn reader(kind: Kind, lenient: bool, body: &[u8]) {
    let request = Request {
        system: String::new(),
        messages: vec![Message { role: Role::User, text: "x".repeat(60) }],
        max_output: 100,
        temperature: None,
        seed: None,
    };
    let dialect = Dialect {
        model: "m".to_owned(),
        stream: true,
        temperature: false,
        seed: false,
        include_usage: false,
        finish_required: !lenient,
        max_output_field: "max_tokens".to_owned(),
        context: None,
        extra_body: serde_json::Map::new(),
    };
    let content_type = match kind {
        _ if lenient => None,
        Kind::Ollama => Some("application/x-ndjson"),
        Kind::OpenaiResponses | Kind::OpenaiChat | Kind::Anthropic | Kind::Gemini => Some("text/event-stream"),
    };
    let read = |packets: &[&[u8]]| -> Read {
        let mut reader = wire::wire(kind).reader(&request, &dialect, content_type);
        let mut draft = String::new();
        let pushed = packets.iter().try_for_each(|it| reader.push(it, &mut |text| draft.push_str(text)));
        let answer = pushed.and_then(|()| reader.finish());
        assert!(reader.finish().is_err(), "a response is read twice");
        let answer = answer.map_err(|error| match error.kind {
            // Bytes after the mark of the end are counted if they came with it.
            ErrorKind::Cut { .. } => WireError { kind: ErrorKind::Cut { bytes: 0 }, ..error },
            _ => error,
        });
        (answer, reader.usage(), draft)
    };
    let whole = read(&[body]);
    let single: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(read(&single), whole, "byte by byte");
    assert_eq!(read(&packets(body)), whole, "in packets");
    match whole.0 {
        Ok(answer) => ends_as_said(kind, lenient, &answer.end, body),
        Err(error) => assert!(!error.message.is_empty() && error.message.len() < 1024),
    }
}

/// An answer has ended only if the bytes hold what says so. A backslash may hide it.
fn ends_as_said(kind: Kind, lenient: bool, end: &End, body: &[u8]) {
    let marks: &[&str] = match kind {
        Kind::OpenaiResponses => &["completed", "incomplete", "failed", "error"],
        Kind::OpenaiChat if lenient => &["finish_reason", "[DONE]", "choices"],
        Kind::OpenaiChat => &["finish_reason"],
        Kind::Anthropic => &["stop_reason"],
        Kind::Gemini => &["finishReason", "blockReason"],
        Kind::Ollama if lenient => &["done"],
        Kind::Ollama => &["done_reason"],
    };
    let has = |mark: &&str| body.windows(mark.len()).any(|it| it == mark.as_bytes());
    assert!(body.contains(&b'\\') || marks.iter().any(has), "{end:?} without its mark");
    if let End::Limit { reason } | End::Refused { reason } | End::Filtered { reason } = end {
        assert!(reason.len() <= 1024);
    }
}

fn failure(status: u16, body: &[u8]) {
    let failure = wire::wire(Kind::OpenaiChat).failure(status, body);
    assert!(!failure.message.is_empty() && failure.message.len() <= 512);
    assert!(!failure.message.contains(char::is_control), "{}", failure.message);
}

fn decoders(body: &[u8]) {
    let whole = decode(&[body]);
    let packets = packets(body);
    assert_eq!(decode(&packets), whole);
    assert_eq!(decode(&body.chunks(1).collect::<Vec<_>>()), whole);
    compare(&packets, &whole);
    let lines = |packets: &[&[u8]]| {
        let mut decoder = ndjson::Decoder::default();
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for packet in packets {
            let pushed = decoder.push(packet, |line| {
                lines.push(line.to_vec());
                Ok(())
            });
            assert!(pushed.is_ok());
        }
        lines.push(decoder.rest().to_vec());
        assert!(decoder.held() <= MAX_EVENT_BYTES);
        lines
    };
    assert_eq!(lines(&packets), lines(&[body]));
}

/// The events of a stream of less than 1 MiB.
pub(crate) fn decode(packets: &[&[u8]]) -> Events {
    let mut events = Vec::new();
    let mut decoder = sse::Decoder::default();
    for packet in packets {
        let pushed = decoder.push(packet, |item| {
            if let sse::Item::Event { name, data } = item {
                events.push((name.to_vec(), data.to_vec()));
            }
            Ok(())
        });
        assert!(pushed.is_ok() && decoder.held() <= 2 * MAX_EVENT_BYTES);
    }
    events
}

/// Demands that another decoder reads the same events, and gives their number.
///
/// `sse-stream` gives blocks without data too, which are no events by the standard, and ends at bytes that are not UTF-8,
/// which we pass on.
pub(crate) fn compare(packets: &[&[u8]], ours: &Events) -> usize {
    let packets = packets.iter().map(|it| Ok::<_, std::io::Error>(Cursor::new(it.to_vec())));
    let blocks = sse_stream::SseStream::from_bytes_stream(stream::iter(packets));
    // All packets are there, so that nothing is waited for.
    let blocks: Vec<_> = blocks.collect::<Vec<_>>().now_or_never().unwrap_or_default();
    let utf8 = blocks.iter().all(Result::is_ok);
    let theirs = blocks
        .into_iter()
        .map_while(Result::ok)
        .filter_map(|it| Some((it.event.unwrap_or_default().into_bytes(), it.data?.into_bytes())));
    let theirs: Events = theirs.collect();
    assert_eq!(ours.get(..theirs.len()), Some(theirs.as_slice()));
    assert!(!utf8 || ours.len() == theirs.len());
    theirs.len()
}

#[cfg(test)]
#[path = "../../fuzz/inputs.rs"]
mod inputs;

#[cfg(test)]
mod tests {
    #[test]
    fn any_responses_are_read_or_refused() {
        super::inputs::inputs("wire", 6000, 400).for_each(|input| super::wire(&input));
    }
}
