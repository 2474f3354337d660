//! Responses of OpenAI.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::answer::{Message, Request, Role};
use crate::error::ErrorKind;
use crate::wire::lax::{Count, Part, Parts, Word};
use crate::wire::openai_chat::{InputDetails, OutputDetails, usage};
use crate::wire::response::{Body, Ending, Fold, Said, read_json, unknown_reason};
use crate::wire::{Dialect, Outgoing, Reader, Wire, WireError, body, failure, sampling};

/// The wire kind.
pub(super) struct OpenaiResponses;

impl Wire for OpenaiResponses {
    fn request(&self, request: &Request, dialect: &Dialect) -> Outgoing {
        let ours = json!({
            "model": dialect.model,
            "instructions": (!request.system.is_empty()).then_some(&request.system),
            "input": request.messages.iter().map(item).collect::<Vec<_>>(),
            "max_output_tokens": request.max_output,
            "temperature": sampling(request, dialect).get("temperature"),
            "stream": dialect.stream,
            // What was asked is not kept by the provider for later calls.
            "store": false,
        });
        Outgoing { path: "responses".to_owned(), headers: Vec::new(), body: body(dialect, ours) }
    }

    fn reader(&self, request: &Request, dialect: &Dialect, content_type: Option<&str>) -> Box<dyn Reader> {
        Box::new(Body::new(Responses, request, dialect, content_type))
    }

    fn request_id_header(&self) -> Option<&'static str> {
        Some("x-request-id")
    }
}

/// A message of the conversation. What the model said is an item as it gave it, which llama.cpp insists on.
fn item(message: &Message) -> serde_json::Value {
    match message.role {
        Role::User => json!({"role": "user", "content": message.text}),
        Role::Assistant => {
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": message.text}]})
        }
    }
}

/// An event of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    r#type: Word,
    output_index: Count,
    content_index: Count,
    delta: Word,
    response: Part<Response>,
    code: Word,
    error: Part<Problem>,
}

/// An answer, whole or as it stands.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    object: Word,
    id: Word,
    model: Word,
    status: Word,
    error: Part<Problem>,
    incomplete_details: Part<Incomplete>,
    output: Parts<Item>,
    usage: Part<Told>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: Word,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Incomplete {
    reason: Word,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    r#type: Word,
    content: Parts<Content>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    r#type: Word,
    text: Word,
    refusal: Word,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    input_tokens: Count,
    input_tokens_details: Part<InputDetails>,
    output_tokens: Count,
    output_tokens_details: Part<OutputDetails>,
}

struct Responses;

impl Responses {
    /// Takes the answer as it is in the end; `data` is the JSON that holds it.
    fn end(&self, response: &Response, status: &str, data: &[u8], said: &mut Said) -> Result<(), WireError> {
        said.name(&response.model, &response.id);
        if let Some(told) = response.usage.get() {
            said.settle(usage(
                &told.input_tokens,
                &told.input_tokens_details,
                &told.output_tokens,
                &told.output_tokens_details,
            ));
        }
        let mut blocks = BTreeMap::new();
        let mut refusal = String::new();
        for (place, content) in (0..)
            .zip(response.output.iter().filter(|it| it.r#type.text() == "message").flat_map(|it| it.content.iter()))
        {
            match content.r#type.text() {
                "output_text" => {
                    blocks.insert((place, 0), content.text.text().to_owned());
                }
                "refusal" => refusal.push_str(content.refusal.text()),
                _ => {}
            }
        }
        // Some servers end with an answer whose output is left out.
        if !blocks.is_empty() || !refusal.is_empty() {
            said.replace(blocks, refusal);
        }
        let reason = response.incomplete_details.get().map_or("", |it| it.reason.text());
        said.ending = Some(match status {
            "completed" => Ending::Complete,
            "incomplete" => match reason {
                "max_output_tokens" | "max_tokens" => Ending::Limit(reason.to_owned()),
                "content_filter" => Ending::Filtered(reason.to_owned()),
                _ => return Err(unknown_reason(if reason.is_empty() { status } else { reason })),
            },
            "failed" => fail(response.error.get().map_or("", |it| it.code.text()), data)?,
            "" | "queued" | "in_progress" => return Ok(()),
            _ => return Err(unknown_reason(status)),
        });
        said.done = true;
        Ok(())
    }
}

/// An error with that code: the answer is held back, or there is none.
fn fail(code: &str, data: &[u8]) -> Result<Ending, WireError> {
    if code.ends_with("_policy") || matches!(code, "content_filter" | "content_policy_violation") {
        return Ok(Ending::Filtered(code.to_owned()));
    }
    Err(failure::inside(data, ErrorKind::Server { wait: None }))
}

impl Fold for Responses {
    const MARKED: bool = true;

    fn event(&mut self, name: &[u8], data: &[u8], said: &mut Said) -> Result<(), WireError> {
        let event: Event = read_json(data)?;
        let kind = if event.r#type.text().is_empty() { name } else { event.r#type.text().as_bytes() };
        let place = (event.output_index.0.unwrap_or(0), event.content_index.0.unwrap_or(0));
        match (kind, event.response.get()) {
            (b"response.output_text.delta", _) => said.add(place, event.delta.text()),
            (b"response.refusal.delta", _) => said.refuse(event.delta.text()),
            (b"response.created", Some(response)) => said.name(&response.model, &response.id),
            (b"response.completed" | b"response.incomplete" | b"response.failed", Some(response)) => {
                let named = kind.strip_prefix(b"response.").unwrap_or_default();
                let status = match response.status.text() {
                    "" => std::str::from_utf8(named).unwrap_or_default(),
                    status => status,
                };
                self.end(response, status, data, said)?;
            }
            (b"response.completed" | b"response.incomplete", None) => {
                return Err(WireError::protocol("the last event holds no response"));
            }
            (b"error" | b"response.failed", _) => {
                let code = event.error.get().map_or(event.code.text(), |it| it.code.text());
                said.ending = Some(fail(code, data)?);
                said.done = true;
            }
            _ if failure::is_error(data) => return Err(failure::inside(data, ErrorKind::Server { wait: None })),
            _ => {}
        }
        Ok(())
    }

    fn whole(&mut self, body: &[u8], said: &mut Said) -> Result<(), WireError> {
        let response: Response = read_json(body)?;
        if response.object.text() != "response" && response.output.0.is_none() {
            return Err(WireError::protocol("the response is JSON but no answer of the Responses API"));
        }
        self.end(&response, response.status.text(), body, said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Usage;
    use crate::wire::testing::*;
    use serde_json::Value;

    const TEXT: &str = "größe → 🦀";

    fn delta(place: u64, text: &str) -> Value {
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": place, "delta": text})
    }

    fn response(status: &str, content: Value) -> Value {
        json!({"object": "response", "id": "resp_1", "model": "m-1", "status": status, "error": null,
            "incomplete_details": null,
            "output": [{"type": "reasoning", "summary": [], "content": [{"type": "output_text", "text": "hm"}]},
                {"type": "message", "content": content}],
            "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
                "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2}}})
    }

    fn content() -> Value {
        json!([{"type": "output_text", "text": "größe → "}, {"type": "surprise"}, {"type": "output_text", "text": "🦀"}])
    }

    fn last(status: &str, response: Value) -> Value {
        json!({"type": format!("response.{status}"), "response": response})
    }

    fn usual() -> Vec<Value> {
        vec![
            json!({"type": "response.created", "response": {"id": "resp_1", "model": "m-1", "status": "in_progress"}}),
            json!({"type": "response.reasoning_summary_text.delta", "delta": "hm"}),
            delta(0, "größe"),
            delta(0, " → "),
            json!({"type": "response.function_call_arguments.delta", "delta": "{}"}),
            json!({"type": "response.surprise", "delta": {"text": 1}, "response": 7}),
            delta(2, "🦀"),
            json!({"type": "response.output_text.done", "output_index": 1, "content_index": 2, "text": "🦀"}),
            last("completed", response("completed", content())),
        ]
    }

    const USAGE: Usage =
        Usage { input: Some(10), cached: Some(4), cache_write: Some(3), output: Some(7), reasoning: Some(2) };

    #[test]
    fn a_stream_gives_the_same_answer_in_every_form_and_split() {
        for form in FORMS {
            let stream = Stream::of(&OpenaiResponses, form.typed(&usual()));
            let read = stream.reads_alike_in_every_split();
            assert_eq!((read.complete(), read.draft.as_str(), read.usage), (TEXT, TEXT, USAGE), "{form:?}");
            let answer = read.answer.unwrap();
            assert_eq!((answer.model.as_deref(), answer.request_id.as_deref()), (Some("m-1"), Some("resp_1")));
        }
    }

    #[test]
    fn a_stream_is_cut_until_its_last_event_came() {
        for form in FORMS {
            let stream = Stream::of(&OpenaiResponses, form.typed(&usual()));
            stream.is_cut_before(stream.bytes.len() - form.tail());
        }
    }

    #[test]
    fn an_answer_that_is_not_streamed_is_read_too() {
        let body = response("completed", content()).to_string();
        let stream = Stream::json(&OpenaiResponses, body.into_bytes());
        let read = stream.reads_alike_in_every_split();
        assert_eq!((read.complete(), read.usage), (TEXT, USAGE));
        stream.is_cut_before(stream.bytes.len());
    }

    #[test]
    fn the_end_decides_what_an_answer_is() {
        let one = || delta(0, "print(1)");
        let said = |text: &str| json!([{"type": "output_text", "text": text}]);
        let because = |reason: Value| {
            let mut response = response("incomplete", said("print(1)"));
            response["incomplete_details"] = json!({"reason": reason});
            last("incomplete", response)
        };
        let failed = |code: &str| {
            let mut response = response("failed", json!([]));
            response["error"] = json!({"code": code, "message": "m"});
            last("failed", response)
        };
        let error = |code: &str| json!({"type": "error", "code": code, "message": "m", "param": null});
        let refusal = || json!({"type": "response.refusal.delta", "delta": "I will not"});
        let refused = json!([{"type": "refusal", "refusal": "I will not"}]);
        let rows = [
            (vec![one(), last("completed", response("completed", said("print(1)")))], "complete print(1)"),
            (vec![one(), last("completed", json!({}))], "complete print(1)"),
            (vec![one(), last("completed", json!({"output": [], "status": "completed"}))], "complete print(1)"),
            (vec![last("completed", response("completed", said("print(1)")))], "complete print(1)"),
            // What is said last counts.
            (vec![one(), last("completed", response("completed", said("print(2)")))], "complete print(2)"),
            (vec![one(), last("completed", response("incomplete", said("")))], "error protocol"),
            (vec![one(), json!({"type": "response.completed"})], "error protocol"),
            (vec![one()], "error cut"),
            (
                vec![one(), json!({"type": "response.in_progress", "response": response("in_progress", json!([]))})],
                "error cut",
            ),
            (vec![one(), because(json!("max_output_tokens"))], "limit max_output_tokens"),
            (vec![because(json!("max_output_tokens"))], "limit max_output_tokens"),
            (vec![one(), because(json!("content_filter"))], "filtered content_filter"),
            (vec![one(), because(json!(null))], "error protocol"),
            (vec![refusal(), last("completed", response("completed", refused))], "refused I will not"),
            (vec![refusal(), last("completed", json!({}))], "refused I will not"),
            (vec![one(), failed("bio_policy")], "filtered bio_policy"),
            (vec![one(), failed("server_error")], "error server"),
            (vec![one(), failed("rate_limit_exceeded")], "error rate"),
            (vec![one(), failed("insufficient_quota")], "error quota"),
            (vec![one(), error("server_error")], "error server"),
            (vec![one(), error("context_length_exceeded")], "error too_large"),
            (vec![one(), json!({"type": "error", "error": {"code": "invalid_prompt"}})], "error bad_request"),
            (vec![one(), json!({"type": "response.failed"})], "error server"),
        ];
        for (events, expected) in rows {
            let read = Stream::of(&OpenaiResponses, Form::Plain.typed(&events)).reads_alike_in_every_split();
            assert_eq!(read.outcome(), expected, "{events:?}");
        }
        let mut body = response("failed", json!([]));
        body["error"] = json!({"code": "bio_policy", "message": "m"});
        let read = Stream::json(&OpenaiResponses, body.to_string().into_bytes()).read();
        assert_eq!(read.outcome(), "filtered bio_policy");
    }

    #[test]
    fn a_request_holds_what_the_dialect_allows() {
        let input = json!([{"role": "user", "content": "größe?"}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "no"}]},
            {"role": "user", "content": "yes"}]);
        let mut expected = json!({"model": "m", "instructions": "Be brief.", "input": input,
            "max_output_tokens": 1000, "stream": true, "store": false});
        assert_eq!(sent(&OpenaiResponses, &Dialect { seed: true, ..dialect() }), expected);
        expected["temperature"] = json!(0.5);
        assert_eq!(sent(&OpenaiResponses, &Dialect { temperature: true, ..dialect() }), expected);
        assert_eq!(OpenaiResponses.request(&request(), &dialect()).path, "responses");
    }
}
