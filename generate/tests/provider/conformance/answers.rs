//! Answers of every wire kind, whole and in parts.

use std::fmt;

use capibara_fake::{Fixture, Framing, Response, fixture, fixtures};
use capibara_generate::profile::Profile;
use capibara_generate::wire::Kind;
use serde_json::{Value, json};

use crate::rig;

pub(super) const KINDS: [Kind; 5] =
    [Kind::OpenaiResponses, Kind::OpenaiChat, Kind::Anthropic, Kind::Gemini, Kind::Ollama];

/// The kind as profiles and fixtures name it.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::OpenaiResponses => "openai-responses",
        Kind::OpenaiChat => "openai-chat",
        Kind::Anthropic => "anthropic",
        Kind::Gemini => "gemini",
        Kind::Ollama => "ollama",
    }
}

/// How an answer comes: of one kind, streamed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) kind: Kind,
    pub(super) stream: bool,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", name(self.kind), if self.stream { "stream" } else { "plain" })
    }
}

impl Way {
    /// A profile that is asked so.
    pub(super) fn profile(self, called: &str, url: &str, more: &str) -> Profile {
        let path = if self.kind == Kind::Ollama { "" } else { "/v1" };
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let more = format!("stream: {}{more}", self.stream);
        rig::profile_named(called, name(self.kind), &format!("{url}{path}"), &more)
    }

    /// The fixture of that name.
    pub(super) fn fixture(self, called: &str) -> Fixture {
        fixture(name(self.kind), &format!("{}-{called}", if self.stream { "stream" } else { "plain" }))
    }

    /// All fixtures that come so.
    pub(super) fn fixtures(self) -> Vec<Fixture> {
        fixtures().into_iter().filter(|it| it.kind == name(self.kind) && it.ask.stream == self.stream).collect()
    }

    /// A complete answer.
    pub(super) fn good(self) -> Fixture {
        self.fixture("complete")
    }

    /// Whether it is a stream of events.
    pub(super) fn has_events(self) -> bool {
        self.stream && self.kind != Kind::Ollama
    }

    /// The media type of a stream of this kind, also if none is asked for.
    pub(super) fn stream_type(self) -> &'static str {
        if self.kind == Kind::Ollama { "application/x-ndjson" } else { "text/event-stream" }
    }

    /// A response with status 200 and that body, in one packet.
    pub(super) fn response(self, body: impl AsRef<[u8]>) -> Response {
        let (media, framing) = match self.stream {
            true => (self.stream_type(), Framing::Chunked),
            false => ("application/json", Framing::Length),
        };
        Response::new(200).header("content-type", media).framed(framing).packets([body])
    }

    /// The JSON texts that an answer consists of.
    pub(super) fn parts(self, fixture: &Fixture) -> Vec<Value> {
        let body = fixture.body.concat();
        let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        match (self.stream, self.kind) {
            (false, _) => vec![read(&body)],
            (true, Kind::Ollama) => body.lines().map(read).collect(),
            (true, _) => body.lines().filter_map(|it| it.strip_prefix("data: ")).map(read).collect(),
        }
    }

    /// One part as it is written.
    pub(super) fn text_of(self, part: &Value) -> String {
        let data = part.as_str().map_or_else(|| part.to_string(), str::to_owned);
        match (self.stream, self.kind) {
            (false, _) => data,
            (true, Kind::Ollama) => format!("{data}\n"),
            (true, _) => match part["type"].as_str() {
                Some(event) => format!("event: {event}\ndata: {data}\n\n"),
                None => format!("data: {data}\n\n"),
            },
        }
    }

    /// A response that consists of these parts.
    pub(super) fn of(self, parts: &[Value]) -> Response {
        self.response(parts.iter().map(|it| self.text_of(it)).collect::<String>())
    }

    /// The word of this kind for an answer that is complete.
    pub(super) fn stop(self) -> &'static str {
        match self.kind {
            Kind::OpenaiResponses => "completed",
            Kind::OpenaiChat | Kind::Ollama => "stop",
            Kind::Anthropic => "end_turn",
            Kind::Gemini => "STOP",
        }
    }

    /// What a stream begins with.
    pub(super) fn begin(self) -> Vec<Value> {
        match self.kind {
            Kind::OpenaiResponses => vec![json!({"type": "response.created", "response":
                {"object": "response", "id": "r-1", "model": "m-1", "status": "in_progress", "output": []}})],
            Kind::Anthropic => vec![json!({"type": "message_start", "message": {"type": "message", "id": "r-1",
                "model": "m-1", "content": [], "stop_reason": null, "usage": {"input_tokens": 30, "output_tokens": 1}}})],
            Kind::OpenaiChat | Kind::Gemini | Kind::Ollama => Vec::new(),
        }
    }

    /// A piece of text in a stream.
    pub(super) fn piece(self, text: &str) -> Value {
        self.piece_at(1, text)
    }

    /// A piece of the text's block at that place; kinds without places have one block.
    pub(super) fn piece_at(self, place: u64, text: &str) -> Value {
        match self.kind {
            Kind::OpenaiResponses => {
                json!({"type": "response.output_text.delta", "output_index": 0, "content_index": place, "delta": text})
            }
            Kind::OpenaiChat => json!({"id": "r-1", "choices": [{"index": 0, "delta": {"content": text}}]}),
            Kind::Anthropic => json!({"type": "content_block_delta", "index": place,
                "delta": {"type": "text_delta", "text": text}}),
            Kind::Gemini => json!({"candidates": [{"index": 0, "content": {"parts": [{"text": text}]}}]}),
            Kind::Ollama => json!({"message": {"role": "assistant", "content": text}, "done": false}),
        }
    }

    /// What a stream ends with for that reason. The Responses API repeats all texts there.
    pub(super) fn end(self, reason: &str, texts: &[&str], output_tokens: u64) -> Vec<Value> {
        match self.kind {
            Kind::OpenaiResponses => {
                let response = self.whole(reason, texts, output_tokens);
                vec![json!({"type": format!("response.{reason}"), "response": response})]
            }
            Kind::OpenaiChat => vec![
                json!({"id": "r-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
                json!({"id": "r-1", "choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": output_tokens}}),
                json!("[DONE]"),
            ],
            Kind::Anthropic => vec![
                json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": output_tokens}}),
                json!({"type": "message_stop"}),
            ],
            Kind::Gemini => vec![json!({"candidates": [{"index": 0, "finishReason": reason}],
                "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": output_tokens}})],
            Kind::Ollama => vec![json!({"message": {"content": ""}, "done": true, "done_reason": reason,
                "prompt_eval_count": 30, "eval_count": output_tokens})],
        }
    }

    /// An answer that is not streamed, of several texts.
    pub(super) fn whole(self, reason: &str, texts: &[&str], output_tokens: u64) -> Value {
        let each = |part: fn(&&str) -> Value| texts.iter().map(part).collect::<Vec<_>>();
        match self.kind {
            Kind::OpenaiResponses => json!({"object": "response", "id": "r-1", "model": "m-1", "status": reason,
                "error": null, "output": [{"type": "message", "role": "assistant",
                    "content": each(|it| json!({"type": "output_text", "text": it}))}],
                "usage": {"input_tokens": 30, "output_tokens": output_tokens}}),
            Kind::OpenaiChat => json!({"id": "r-1", "choices": [{"index": 0, "message":
                {"role": "assistant", "content": texts.concat()}, "finish_reason": reason}],
                "usage": {"prompt_tokens": 30, "completion_tokens": output_tokens}}),
            Kind::Anthropic => json!({"type": "message", "id": "r-1", "model": "m-1", "role": "assistant",
                "content": each(|it| json!({"type": "text", "text": it})), "stop_reason": reason,
                "usage": {"input_tokens": 30, "output_tokens": output_tokens}}),
            Kind::Gemini => json!({"candidates": [{"index": 0, "content": {"role": "model",
                "parts": each(|it| json!({"text": it}))}, "finishReason": reason}],
                "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": output_tokens}}),
            Kind::Ollama => json!({"model": "m-1", "message": {"role": "assistant", "content": texts.concat()},
                "done": true, "done_reason": reason, "prompt_eval_count": 30, "eval_count": output_tokens}),
        }
    }

    /// The parts of an answer that ends for that reason.
    pub(super) fn answer(self, reason: &str, texts: &[&str], output_tokens: u64) -> Vec<Value> {
        if !self.stream {
            return vec![self.whole(reason, texts, output_tokens)];
        }
        let pieces = texts.iter().map(|it| self.piece(it)).collect();
        let all = match self.kind {
            // One block that came in pieces.
            Kind::OpenaiResponses => vec![texts.concat()],
            _ => Vec::new(),
        };
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        [self.begin(), pieces, self.end(reason, &all, output_tokens)].concat()
    }
}

/// Changes every value of that name, wherever it stands.
pub(super) fn change(value: &mut Value, field: &str, change_it: &dyn Fn(&mut Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == field {
                    change_it(value);
                } else {
                    change(value, field, change_it);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|it| change(it, field, change_it)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Those parts with every value of that name null.
pub(super) fn without(parts: &[Value], field: &str) -> Vec<Value> {
    let mut parts = parts.to_vec();
    parts.iter_mut().for_each(|it| change(it, field, &|value| *value = Value::Null));
    parts
}
