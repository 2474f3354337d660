//! What the five kinds have in common when a response is read: finding out what it consists of, gathering the text, and the
//! decision whether it is an answer.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::answer::{End, Request, Usage};
use crate::error::ErrorKind;
use crate::wire::failure::{self, one_line};
use crate::wire::lax::{Fields, Part, Word};
use crate::wire::{
    Dialect, MAX_EVENT_BYTES, MAX_RESPONSE_BYTES, ReadAnswer, Reader, WireError, extend_within, ndjson, sse,
};

/// The most bytes of a refusal in the model's words.
const MAX_REASON_BYTES: usize = 1024;

/// How an answer ended, as the provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The model said all it wanted to say.
    Complete,
    /// See [`End::Limit`].
    Limit(String),
    /// See [`End::Refused`].
    Refused(String),
    /// See [`End::Filtered`].
    Filtered(String),
}

/// What a response has said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The text's blocks by their place.
    blocks: BTreeMap<(u64, u64), String>,
    /// Text that has not been shown as draft.
    fresh: String,
    /// The model's words of refusal.
    refusal: String,
    /// How the answer ended.
    pub(super) ending: Option<Ending>,
    /// The wire's own mark of the end came.
    pub(super) done: bool,
    /// Tokens told.
    pub(super) usage: Usage,
    /// The model that answered.
    pub(super) model: Option<String>,
    /// The provider's number for the answer.
    pub(super) request_id: Option<String>,
}

impl Said {
    /// Goes on with the text's block at that place.
    pub(super) fn add(&mut self, place: (u64, u64), text: &str) {
        if !text.is_empty() {
            self.blocks.entry(place).or_default().push_str(text);
            self.fresh.push_str(text);
        }
    }

    /// Takes the text's blocks and the refusal as they are in the end, whatever was told of them before.
    pub(super) fn replace(&mut self, blocks: BTreeMap<(u64, u64), String>, refusal: String) {
        if self.blocks.is_empty() {
            self.fresh.extend(blocks.values().map(String::as_str));
        }
        self.blocks = blocks;
        self.refusal = refusal;
    }

    /// Goes on with the model's refusal.
    pub(super) fn refuse(&mut self, text: &str) {
        self.refusal.push_str(text);
    }

    /// Remembers names of the answer where they are told for the first time.
    pub(super) fn name(&mut self, model: &Word, request_id: &Word) {
        let told = |it: &Word| it.0.clone().filter(|it| !it.is_empty());
        self.model = self.model.take().or_else(|| told(model));
        self.request_id = self.request_id.take().or_else(|| told(request_id));
    }

    /// Takes what was told of usage; what was not told this time stays.
    pub(super) fn settle(&mut self, usage: Usage) {
        let before = self.usage;
        self.usage = Usage {
            input: usage.input.or(before.input),
            cached: usage.cached.or(before.cached),
            cache_write: usage.cache_write.or(before.cache_write),
            output: usage.output.or(before.output),
            reasoning: usage.reasoning.or(before.reasoning),
        };
    }
}

/// What one kind makes of a response's parts.
pub(super) trait Fold {
    /// Whether a stream of this kind has lines instead of events.
    const LINES: bool = false;
    /// Whether an answer has not ended before the wire's own mark came.
    const MARKED: bool = false;
    /// Whether there are providers of this kind that do not say how an answer ended.
    const LENIENT: bool = false;

    /// Takes one event of a stream.
    fn event(&mut self, name: &[u8], data: &[u8], said: &mut Said) -> Result<(), WireError>;

    /// Takes a response that is one JSON text.
    fn whole(&mut self, body: &[u8], said: &mut Said) -> Result<(), WireError>;
}

/// What a response consists of.
enum Frames {
    /// Nothing but blanks has come.
    Unknown,
    Events {
        decoder: sse::Decoder,
        bare: Bare,
    },
    Lines(ndjson::Decoder),
    Whole(Vec<u8>),
}

/// Reads a response of one kind.
pub(super) struct Body<F> {
    fold: F,
    said: Said,
    frames: Frames,
    bytes: usize,
    events: u64,
    /// Why the response cannot be an answer, by its head alone.
    unfit: Option<String>,
    /// The head announces a stream.
    streams: bool,
    /// The head announces one JSON text.
    whole: bool,
    /// The answer need not say how it ended.
    lenient: bool,
    max_output: u64,
    /// How the response failed.
    failed: Option<WireError>,
}

impl<F: Fold> Body<F> {
    /// A reader of a response to that request.
    pub(super) fn new(fold: F, request: &Request, dialect: &Dialect, content_type: Option<&str>) -> Self {
        let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let streams = media == "text/event-stream" || media.contains("ndjson");
        let fits = media.is_empty() || streams || media.contains("json");
        Self {
            fold,
            said: Said::default(),
            frames: Frames::Unknown,
            bytes: 0,
            events: 0,
            unfit: (!fits).then(|| format!("the response is {}, neither JSON nor a stream", one_line(media))),
            streams,
            whole: !streams && media.contains("json"),
            lenient: F::LENIENT && !dialect.finish_required,
            max_output: request.max_output,
            failed: None,
        }
    }

    fn take(&mut self, bytes: &[u8], draft: &mut dyn FnMut(&str)) -> Result<(), WireError> {
        if let Some(unfit) = &self.unfit {
            return Err(WireError::protocol(unfit.clone()));
        }
        let before = self.bytes;
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_RESPONSE_BYTES {
            return Err(WireError::protocol("the response is larger than 8 MiB"));
        }
        let mut rest = bytes;
        if matches!(self.frames, Frames::Unknown) {
            rest = without_blanks(rest, before);
            let Some(first) = rest.first() else { return Ok(()) };
            self.frames = match first {
                b'<' => return Err(WireError::protocol("the response is HTML")),
                b'{' if F::LINES && !self.whole => Frames::Lines(ndjson::Decoder::default()),
                b'{' | b'[' => Frames::Whole(Vec::new()),
                _ if F::LINES => return Err(WireError::protocol("the response is not JSON")),
                _ => Frames::Events { decoder: sse::Decoder::default(), bare: Bare::default() },
            };
        }
        let (fold, said, events) = (&mut self.fold, &mut self.said, &mut self.events);
        let mut event = |name: &[u8], data: &[u8]| {
            if said.done || data.is_empty() {
                return Ok(());
            }
            *events = events.saturating_add(1);
            // Chat completions end with it; there are servers that end every stream so.
            if data.trim_ascii() == b"[DONE]" {
                said.done = !F::MARKED;
                return Ok(());
            }
            let told = fold.event(name, data, said);
            if !said.fresh.is_empty() {
                draft(&said.fresh);
                said.fresh.clear();
            }
            told
        };
        let read = match &mut self.frames {
            Frames::Unknown => Ok(()),
            Frames::Events { decoder, bare } => decoder.push(rest, |item| match item {
                sse::Item::Event { name, data } => event(name, data),
                sse::Item::Foreign(line) => bare.line(line),
            }),
            Frames::Lines(decoder) => decoder.push(rest, |line| event(b"", line)),
            Frames::Whole(body) => {
                extend_within(body, rest, MAX_RESPONSE_BYTES);
                Ok(())
            }
        };
        // What follows the mark of the end does not count, in the same packet as little as in a later one.
        if self.said.done { Ok(()) } else { read }
    }

    /// Reads what was left when the body ended.
    fn take_rest(&mut self) -> Result<(), WireError> {
        if let Some(unfit) = &self.unfit {
            return Err(WireError::protocol(unfit.clone()));
        }
        if self.said.done {
            return Ok(());
        }
        match &mut self.frames {
            Frames::Unknown if self.streams => Ok(()),
            Frames::Unknown => Err(WireError::protocol("the response is empty")),
            Frames::Events { decoder, bare } => {
                bare.end(decoder.rest())?;
                // It would have been an error, perhaps, so that the answer before it is not trusted.
                if !bare.text.is_empty() && is_cut(&bare.text) {
                    self.said.ending = None;
                }
                if self.events == 0 && !(bare.foreign == 0 && begins_field(decoder.rest())) {
                    return Err(WireError::protocol("the response is not a stream of events"));
                }
                Ok(())
            }
            Frames::Lines(decoder) => match decoder.rest() {
                [] => Ok(()),
                rest if is_cut(rest) => Ok(()),
                rest => self.fold.event(b"", rest, &mut self.said),
            },
            Frames::Whole(body) if is_cut(body) => Ok(()),
            Frames::Whole(body) if failure::is_error(body) => Err(failure::inside(body, ErrorKind::Protocol)),
            Frames::Whole(body) => self.fold.whole(body, &mut self.said),
        }
    }

    fn conclude(&mut self) -> Result<ReadAnswer, WireError> {
        let mut warnings = Vec::new();
        let ending = match self.said.ending.take() {
            Some(ending) if self.said.done || !F::MARKED => ending,
            None if self.said.done && self.lenient => {
                warnings.push("the provider does not say how its answers end; this one may have been cut".to_owned());
                Ending::Complete
            }
            Some(_) | None => {
                let message = match self.said.done {
                    true => "the answer does not say how it ended",
                    false => "the response ended before the answer did",
                };
                let kind = ErrorKind::Cut { bytes: u64::try_from(self.bytes).unwrap_or(u64::MAX) };
                return Err(WireError { kind, message: message.to_owned() });
            }
        };
        let text: String = std::mem::take(&mut self.said.blocks).into_values().collect();
        let refusal = cut_reason(&self.said.refusal);
        let end = match ending {
            Ending::Complete | Ending::Limit(_) if !refusal.is_empty() => End::Refused { reason: refusal },
            // Reasoning has used all that was allowed.
            Ending::Complete if text.trim().is_empty() && self.said.usage.output >= Some(self.max_output) => {
                End::Limit { reason: "no text within the answer's limit".to_owned() }
            }
            Ending::Complete => End::Complete { text },
            Ending::Limit(reason) => End::Limit { reason: cut_reason(&reason) },
            Ending::Refused(reason) => End::Refused { reason: cut_reason(&reason) },
            Ending::Filtered(reason) => End::Filtered { reason: cut_reason(&reason) },
        };
        let (model, request_id) = (self.said.model.take(), self.said.request_id.take());
        Ok(ReadAnswer { end, model, request_id, warnings })
    }
}

impl<F: Fold> Reader for Body<F> {
    fn push(&mut self, bytes: &[u8], draft: &mut dyn FnMut(&str)) -> Result<(), WireError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if self.said.done {
            return Ok(());
        }
        self.take(bytes, draft).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn done(&self) -> bool {
        self.said.done
    }

    fn finish(&mut self) -> Result<ReadAnswer, WireError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let read = self.take_rest().and_then(|()| self.conclude());
        // Nothing is read twice.
        self.failed = Some(WireError::protocol("the response was read before"));
        read
    }

    fn usage(&self) -> Usage {
        self.said.usage
    }
}

/// JSON that stands in a stream of events without being one.
#[derive(Debug, Default)]
struct Bare {
    text: Vec<u8>,
    /// Bytes that were there when it was last tried to read them.
    tried: usize,
    /// Lines that belong to no event and are no JSON.
    foreign: u64,
}

impl Bare {
    fn line(&mut self, line: &[u8]) -> Result<(), WireError> {
        let start = line.trim_ascii_start().first();
        if self.text.is_empty() && !matches!(start, Some(b'{' | b'[')) {
            self.foreign = self.foreign.saturating_add(1);
            return Ok(());
        }
        if self.text.len().saturating_add(line.len()) >= MAX_EVENT_BYTES {
            return Err(WireError::protocol("a JSON text in the stream is larger than 1 MiB"));
        }
        extend_within(&mut self.text, line, MAX_EVENT_BYTES);
        self.text.push(b'\n');
        // Doubling keeps the time for all tries linear.
        let closes = matches!(line.trim_ascii_end().last(), Some(b'}' | b']'));
        if closes && self.text.len() >= self.tried.saturating_mul(2) {
            self.tried = self.text.len();
            self.read()?;
        }
        Ok(())
    }

    fn end(&mut self, rest: &[u8]) -> Result<(), WireError> {
        let begins = matches!(rest.trim_ascii_start().first(), Some(b'{' | b'['));
        if !self.text.is_empty() || begins {
            extend_within(&mut self.text, rest, MAX_EVENT_BYTES);
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), WireError> {
        if failure::is_error(&self.text) {
            return Err(failure::inside(&self.text, ErrorKind::Server { wait: None }));
        }
        Ok(())
    }
}

/// Reads one JSON object of a response.
pub(super) fn read_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, WireError> {
    let read: Part<T> = serde_json::from_slice(text).map_err(|error| unreadable(&error))?;
    read.0.map(Fields::into_inner).ok_or_else(|| WireError::protocol("a part of the response is no JSON object"))
}

/// Bytes that are not the JSON that they should be.
pub(super) fn unreadable(error: &serde_json::Error) -> WireError {
    WireError::protocol(format!("a part of the response cannot be read: {}", one_line(&error.to_string())))
}

/// An answer that ended in a way that nobody knows is not used.
pub(super) fn unknown_reason(reason: &str) -> WireError {
    WireError::protocol(format!("the answer ended for a reason that is not known: {}", one_line(reason)))
}

/// Whether a text is the beginning of JSON that goes on.
fn is_cut(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

/// Whether a line that was not ended may be the beginning of a field.
fn begins_field(line: &[u8]) -> bool {
    let fields: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];
    let name = line.split(|it| *it == b':').next().unwrap_or_default();
    let whole = name.len() < line.len();
    name.is_empty() || fields.iter().any(|it| if whole { *it == name } else { it.starts_with(name) })
}

/// The response without blanks and the byte-order mark before its first sign. `before` bytes were blank or part of the mark.
fn without_blanks(bytes: &[u8], before: usize) -> &[u8] {
    let mark = b"\xEF\xBB\xBF";
    let blank = bytes
        .iter()
        .enumerate()
        .take_while(|(at, byte)| byte.is_ascii_whitespace() || mark.get(before.saturating_add(*at)) == Some(byte));
    bytes.get(blank.count()..).unwrap_or_default()
}

fn cut_reason(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::*;
    use crate::wire::{Kind, wire};

    /// Every kind, and whether its streams have lines.
    const KINDS: [(Kind, bool); 5] = [
        (Kind::OpenaiResponses, false),
        (Kind::OpenaiChat, false),
        (Kind::Anthropic, false),
        (Kind::Gemini, false),
        (Kind::Ollama, true),
    ];

    fn stream(kind: Kind, content_type: Option<&'static str>, bytes: &[u8]) -> Stream {
        Stream { content_type, ..Stream::of(wire(kind), bytes.to_vec()) }
    }

    #[test]
    fn what_is_no_answer_of_the_kind_is_an_error() {
        let sse = Some("text/event-stream");
        let json = Some("application/json; charset=utf-8");
        let rows: &[(Option<&'static str>, &str, &str)] = &[
            (json, "<!DOCTYPE html>\n<html>\n", "protocol"),
            (sse, "\r\n<html>\n", "protocol"),
            (Some("text/html"), "<html>", "protocol"),
            (Some("text/html"), "", "protocol"),
            (Some("text/html"), "data: {}\n\n", "protocol"),
            (Some("text/plain"), "{}", "protocol"),
            (json, "", "protocol"),
            (None, "", "protocol"),
            (None, "  \n", "protocol"),
            (None, "Bad gateway\n", "protocol"),
            (None, "Bad gateway", "protocol"),
            (json, "{}", "protocol"),
            (json, "[]", "protocol"),
            (json, "[1]", "protocol"),
            (json, r#"{"ok":true}"#, "protocol"),
            (json, r#"{"error":{"message":"m"}}"#, "protocol"),
            (json, r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#, "rate"),
            (json, r#"{"error":{"message":"m","type":"overloaded_error"}}"#, "overloaded"),
            (sse, r#"{"error":{"message":"m","type":"overloaded_error"}}"#, "overloaded"),
            (json, r#"{"a":1} x"#, "protocol"),
            (json, r#"{"a": nonsense"#, "protocol"),
            (json, r#"{"a":"#, "cut"),
            (json, "{\"a\":\"\u{FC}", "cut"),
        ];
        for (kind, _) in KINDS {
            for (content_type, body, expected) in rows {
                let read = stream(kind, *content_type, body.as_bytes()).reads_alike_in_every_split();
                assert_eq!(read.outcome(), format!("error {expected}"), "{kind:?} {content_type:?} {body:?}");
            }
        }
    }

    #[test]
    fn a_stream_that_ends_before_it_began_is_cut() {
        for (kind, lines) in KINDS {
            let content_type = if lines { "application/x-ndjson" } else { "text/event-stream" };
            let starts: &[&str] =
                if lines { &["", "\n", "{"] } else { &["", ": ping\n\n", "da", "event: x\n", "data: {"] };
            for start in starts {
                let read = stream(kind, Some(content_type), start.as_bytes()).reads_alike_in_every_split();
                assert_eq!(read.outcome(), "error cut", "{kind:?} {start:?}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_no_text() {
        let rows: [(Kind, &[u8]); 5] = [
            (Kind::OpenaiResponses, b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"\xFF\"}\n\n"),
            (Kind::OpenaiChat, b"data: {\"choices\":[{\"delta\":{\"content\":\"\xFF\"}}]}\n\n"),
            (
                Kind::Anthropic,
                b"data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"\xFF\"}}\n\n",
            ),
            (Kind::Gemini, b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\xFF\"}]}}]}\n\n"),
            (Kind::Ollama, b"{\"message\":{\"content\":\"\xFF\"}}\n"),
        ];
        for (kind, bytes) in rows {
            assert_eq!(stream(kind, None, bytes).read().outcome(), "error protocol", "{kind:?}");
        }
    }

    #[test]
    fn a_response_has_a_size_that_it_cannot_exceed() {
        let filler = format!(": {}\n", "x".repeat(1021));
        let blanks = "\n".repeat(1024);
        let line = format!("{{\"x\":\"{}\"}}\n", "x".repeat(1015));
        for (kind, lines) in KINDS {
            let pieces = if lines { vec![&blanks, &line] } else { vec![&filler, &blanks] };
            for piece in pieces {
                let mut reader = wire(kind).reader(&request(), &dialect(), None);
                let pushed = (0..10_000).position(|_| reader.push(piece.as_bytes(), &mut |_| ()).is_err());
                assert_eq!(pushed, Some(8192), "{kind:?}");
                let error = reader.finish().unwrap_err();
                assert_eq!(
                    (error.kind, error.message.as_str()),
                    (ErrorKind::Protocol, "the response is larger than 8 MiB")
                );
            }
            let mut reader = wire(kind).reader(&request(), &dialect(), None);
            let event = format!("{{\"x\":\"{}", "x".repeat(MAX_EVENT_BYTES));
            let event = if lines { event } else { format!("data: {event}") };
            assert_eq!(reader.push(event.as_bytes(), &mut |_| ()).unwrap_err().kind, ErrorKind::Protocol);
        }
    }

    #[test]
    fn many_lines_of_bare_json_are_read_in_linear_time() {
        let mut reader = wire(Kind::Gemini).reader(&request(), &dialect(), Some("text/event-stream"));
        reader.push(b"data: {}\n\n[\n", &mut |_| ()).unwrap();
        let error = (0..1_000_000).find_map(|_| reader.push(b"{},\n{}\n", &mut |_| ()).err()).unwrap();
        assert_eq!(error.message, "a JSON text in the stream is larger than 1 MiB");
    }

    #[test]
    fn a_reason_is_cut_between_letters() {
        assert_eq!(cut_reason(&"ü".repeat(600)), "ü".repeat(512));
        assert_eq!(cut_reason(&format!("x{}", "🦀".repeat(600))).len(), 1 + 255 * 4);
    }
}
