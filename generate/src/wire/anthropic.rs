//! Messages of Anthropic.

use serde::Deserialize;
use serde_json::json;

use crate::answer::{Request, Usage};
use crate::error::ErrorKind;
use crate::wire::failure::Present;
use crate::wire::lax::{Count, Lax, Part, Parts, Word};
use crate::wire::response::{Body, Ending, Fold, Said, read_json, unknown_reason};
use crate::wire::{Dialect, Outgoing, Reader, Wire, WireError, body, failure, messages, sampling};

/// The version of the API that is spoken here. It takes no `temperature`, and the key as `Bearer`.
const VERSION: &str = "2026-10-21";

/// The wire kind.
pub(super) struct Anthropic;

impl Wire for Anthropic {
    fn request(&self, request: &Request, dialect: &Dialect) -> Outgoing {
        let ours = json!({
            "model": dialect.model,
            "system": (!request.system.is_empty()).then_some(&request.system),
            "messages": messages(request).collect::<Vec<_>>(),
            "max_tokens": request.max_output,
            "temperature": sampling(request, dialect).get("temperature"),
            "stream": dialect.stream,
        });
        let headers = vec![("anthropic-version", VERSION.to_owned())];
        Outgoing { path: "messages".to_owned(), headers, body: body(dialect, ours) }
    }

    fn reader(&self, request: &Request, dialect: &Dialect, content_type: Option<&str>) -> Box<dyn Reader> {
        Box::new(Body::new(Events::default(), request, dialect, content_type))
    }

    fn request_id_header(&self) -> Option<&'static str> {
        Some("request-id")
    }
}

/// An event of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    r#type: Word,
    index: Count,
    message: Part<Message>,
    content_block: Part<Block>,
    delta: Part<Delta>,
    usage: Part<Told>,
    error: Lax<Present>,
}

/// An answer, whole or as it begins.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    r#type: Word,
    id: Word,
    model: Word,
    content: Parts<Block>,
    stop_reason: Word,
    stop_details: Part<StopDetails>,
    usage: Part<Told>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Block {
    r#type: Word,
    text: Word,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta {
    r#type: Word,
    text: Word,
    stop_reason: Word,
    stop_details: Part<StopDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StopDetails {
    category: Word,
}

/// Tokens as they are told: caches are outside of `input_tokens`, and all numbers are those of the whole call until then.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    output_tokens: Count,
    output_tokens_details: Part<OutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Count,
}

#[derive(Default)]
struct Events {
    told: Told,
}

impl Events {
    fn settle(&mut self, told: Option<&Told>, said: &mut Said) {
        let Some(told) = told else { return };
        let sum = &mut self.told;
        for (sum, told) in [
            (&mut sum.input_tokens, &told.input_tokens),
            (&mut sum.cache_read_input_tokens, &told.cache_read_input_tokens),
            (&mut sum.cache_creation_input_tokens, &told.cache_creation_input_tokens),
            (&mut sum.output_tokens, &told.output_tokens),
        ] {
            sum.0 = told.0.or(sum.0);
        }
        let reasoning = told.output_tokens_details.get().and_then(|it| it.thinking_tokens.0);
        let (cached, cache_write) = (sum.cache_read_input_tokens.0, sum.cache_creation_input_tokens.0);
        let caches = cached.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        let input = sum.input_tokens.0.map(|it| it.saturating_add(caches));
        said.settle(Usage { input, cached, cache_write, output: sum.output_tokens.0, reasoning });
    }
}

fn end(reason: &Word, details: &Part<StopDetails>, said: &mut Said) -> Result<(), WireError> {
    said.ending = Some(match reason.text() {
        "" => return Ok(()),
        "end_turn" | "stop_sequence" | "tool_use" => Ending::Complete,
        reason @ ("max_tokens" | "model_context_window_exceeded") => Ending::Limit(reason.to_owned()),
        reason @ "refusal" => {
            let category = details.get().map_or("", |it| it.category.text());
            Ending::Refused(if category.is_empty() { reason } else { category }.to_owned())
        }
        reason => return Err(unknown_reason(reason)),
    });
    Ok(())
}

impl Fold for Events {
    const MARKED: bool = true;

    fn event(&mut self, name: &[u8], data: &[u8], said: &mut Said) -> Result<(), WireError> {
        let event: Event = read_json(data)?;
        let place = (event.index.0.unwrap_or(0), 0);
        let kind = if event.r#type.text().is_empty() { name } else { event.r#type.text().as_bytes() };
        match kind {
            b"message_start" => {
                if let Some(message) = event.message.get() {
                    said.name(&message.model, &message.id);
                    self.settle(message.usage.get(), said);
                }
            }
            b"content_block_start" => {
                if let Some(block) = event.content_block.get().filter(|it| it.r#type.text() == "text") {
                    said.add(place, block.text.text());
                }
            }
            b"content_block_delta" => {
                if let Some(delta) = event.delta.get().filter(|it| it.r#type.text() == "text_delta") {
                    said.add(place, delta.text.text());
                }
            }
            b"message_delta" => {
                self.settle(event.usage.get(), said);
                if let Some(delta) = event.delta.get() {
                    end(&delta.stop_reason, &delta.stop_details, said)?;
                }
            }
            b"message_stop" => said.done = true,
            _ if kind == b"error" || event.error.0.is_some() => {
                return Err(failure::inside(data, ErrorKind::Server { wait: None }));
            }
            // Pings, ends of blocks, and what is not known yet.
            _ => {}
        }
        Ok(())
    }

    fn whole(&mut self, body: &[u8], said: &mut Said) -> Result<(), WireError> {
        let message: Message = read_json(body)?;
        if message.r#type.text() != "message" && message.content.0.is_none() {
            return Err(WireError::protocol("the response is JSON but no message"));
        }
        said.name(&message.model, &message.id);
        self.settle(message.usage.get(), said);
        for block in message.content.iter().filter(|it| it.r#type.text() == "text") {
            said.add((0, 0), block.text.text());
        }
        said.done = true;
        end(&message.stop_reason, &message.stop_details, said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::*;
    use serde_json::Value;

    const TEXT: &str = "größe → 🦀";

    fn start() -> Value {
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "m-1", "content": [], "stop_reason": null,
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3, "output_tokens": 1}}})
    }

    fn text(index: u64, text: &str) -> Value {
        json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}})
    }

    fn end(reason: &str) -> Value {
        let usage = json!({"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}});
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage})
    }

    fn stop() -> Value {
        json!({"type": "message_stop"})
    }

    fn usual() -> Vec<Value> {
        let block =
            |index, kind| json!({"type": "content_block_start", "index": index, "content_block": {"type": kind}});
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
        vec![
            start(),
            json!({"type": "ping"}),
            block(0, "thinking"),
            delta(json!({"type": "thinking_delta", "thinking": "hm", "text": "hm"})),
            delta(json!({"type": "signature_delta", "signature": "x"})),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
            text(1, "größe"),
            json!({"type": "surprise", "index": [1]}),
            block(2, "tool_use"),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
            text(3, " → "),
            text(3, "🦀"),
            json!({"type": "message_delta", "delta": {"stop_reason": null}, "usage": {"output_tokens": 5}}),
            end("end_turn"),
            stop(),
        ]
    }

    const USAGE: Usage =
        Usage { input: Some(17), cached: Some(4), cache_write: Some(3), output: Some(7), reasoning: Some(2) };

    #[test]
    fn a_stream_gives_the_same_answer_in_every_form_and_split() {
        for form in FORMS {
            let stream = Stream::of(&Anthropic, form.typed(&usual()));
            let read = stream.reads_alike_in_every_split();
            assert_eq!((read.complete(), read.draft.as_str(), read.usage), (TEXT, TEXT, USAGE), "{form:?}");
            let answer = read.answer.unwrap();
            assert_eq!((answer.model.as_deref(), answer.request_id.as_deref()), (Some("m-1"), Some("msg_1")));
        }
    }

    #[test]
    fn a_stream_is_cut_until_its_last_event_came() {
        for form in FORMS {
            let stream = Stream::of(&Anthropic, form.typed(&usual()));
            stream.is_cut_before(stream.bytes.len() - form.tail());
        }
    }

    #[test]
    fn an_answer_that_is_not_streamed_is_read_too() {
        let body = json!({"type": "message", "id": "msg_1", "model": "m-1", "stop_reason": "end_turn",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "größe → "},
                {"type": "tool_use", "input": {}}, {"type": "text", "text": "🦀"}],
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3, "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 2}}});
        let stream = Stream::json(&Anthropic, body.to_string().into_bytes());
        let read = stream.reads_alike_in_every_split();
        assert_eq!((read.complete(), read.usage), (TEXT, USAGE));
        stream.is_cut_before(stream.bytes.len());
    }

    #[test]
    fn the_end_decides_what_an_answer_is() {
        let one = || text(0, "print(1)");
        let details =
            |it: Value| json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": it}});
        let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "m"}});
        let limited = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "m",
            "details": {"error_code": "enforced_spend_limit_reached"}}});
        let rows = [
            (vec![one(), end("end_turn"), stop()], "complete print(1)"),
            (vec![one(), end("stop_sequence"), stop()], "complete print(1)"),
            (vec![one(), end("end_turn")], "error cut"),
            (vec![one(), stop()], "error cut"),
            (vec![one(), end("max_tokens"), stop()], "limit max_tokens"),
            (vec![end("max_tokens"), stop()], "limit max_tokens"),
            (vec![one(), end("model_context_window_exceeded"), stop()], "limit model_context_window_exceeded"),
            (vec![one(), end("refusal"), stop()], "refused refusal"),
            (vec![details(json!({"category": "cyber"})), stop()], "refused cyber"),
            (vec![details(json!(null)), stop()], "refused refusal"),
            (vec![one(), end("pause_turn"), stop()], "error protocol"),
            (vec![one(), error("overloaded_error")], "error overloaded"),
            (vec![one(), error("api_error")], "error server"),
            (vec![one(), error("rate_limit_error")], "error rate"),
            (vec![one(), limited], "error quota"),
            (vec![one(), error("invalid_request_error")], "error bad_request"),
            (vec![one(), end("end_turn"), error("surprise")], "error server"),
        ];
        for (events, expected) in rows {
            let written = [vec![start()], events.clone()].concat();
            let read = Stream::of(&Anthropic, Form::Plain.typed(&written)).reads_alike_in_every_split();
            assert_eq!(read.outcome(), expected, "{events:?}");
            assert_eq!(read.usage.input, Some(17));
        }
    }

    #[test]
    fn a_request_holds_what_the_dialect_allows() {
        let messages = json!([{"role": "user", "content": "größe?"}, {"role": "assistant", "content": "no"},
            {"role": "user", "content": "yes"}]);
        let mut expected =
            json!({"model": "m", "system": "Be brief.", "messages": messages, "max_tokens": 1000, "stream": true});
        assert_eq!(sent(&Anthropic, &Dialect { seed: true, ..dialect() }), expected);
        expected["temperature"] = json!(0.5);
        assert_eq!(sent(&Anthropic, &Dialect { temperature: true, ..dialect() }), expected);
        let outgoing = Anthropic.request(&request(), &dialect());
        assert_eq!(outgoing.path, "messages");
        assert_eq!(outgoing.headers, [("anthropic-version", "2026-10-21".to_owned())]);
    }
}
