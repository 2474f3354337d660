//! `generateContent` of Gemini.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Request, Role, Usage};
use crate::error::ErrorKind;
use crate::wire::failure::Present;
use crate::wire::lax::{Count, Lax, Part, Parts, Word};
use crate::wire::response::{Body, Ending, Fold, Said, read_json, unknown_reason, unreadable};
use crate::wire::{Dialect, KeyHeader, Outgoing, Reader, Wire, WireError, body, failure, sampling};

/// The wire kind.
pub(super) struct Gemini;

impl Wire for Gemini {
    fn request(&self, request: &Request, dialect: &Dialect) -> Outgoing {
        let role = |role| match role {
            Role::User => "user",
            Role::Assistant => "model",
        };
        let said = |text: &str| json!([{"text": text}]);
        let contents = request.messages.iter().map(|it| json!({"role": role(it.role), "parts": said(&it.text)}));
        let mut config = sampling(request, dialect);
        config.insert("maxOutputTokens".to_owned(), json!(request.max_output));
        let ours = json!({
            "systemInstruction": (!request.system.is_empty()).then(|| json!({"parts": said(&request.system)})),
            "contents": contents.collect::<Vec<Value>>(),
            "generationConfig": config,
        });
        let model = encode(dialect.model.strip_prefix("models/").unwrap_or(&dialect.model));
        let call = if dialect.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        Outgoing { path: format!("models/{model}:{call}"), headers: Vec::new(), body: body(dialect, ours) }
    }

    fn reader(&self, request: &Request, dialect: &Dialect, content_type: Option<&str>) -> Box<dyn Reader> {
        Box::new(Body::new(Chunks::default(), request, dialect, content_type))
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::Named("x-goog-api-key")
    }

    fn request_id_header(&self) -> Option<&'static str> {
        None
    }
}

/// The model's name as one segment of a path (RFC 3986).
fn encode(model: &str) -> String {
    let mut path = String::new();
    for byte in model.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// A piece of a stream, or a whole answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Chunk {
    candidates: Parts<Candidate>,
    prompt_feedback: Part<Feedback>,
    usage_metadata: Part<Told>,
    model_version: Word,
    response_id: Word,
    error: Lax<Present>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate {
    index: Count,
    content: Part<Content>,
    finish_reason: Word,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    parts: Parts<Piece>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Piece {
    text: Word,
    /// It is a piece of reasoning.
    thought: Lax<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Feedback {
    block_reason: Word,
}

/// Tokens as they are told: the cache is inside `prompt_token_count`, reasoning is outside of `candidates_token_count`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Told {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    cached_content_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
}

#[derive(Default)]
struct Chunks {
    told: Told,
}

impl Chunks {
    fn settle(&mut self, told: &Told, said: &mut Said) {
        let all = &mut self.told;
        for (all, told) in [
            (&mut all.prompt_token_count, &told.prompt_token_count),
            (&mut all.tool_use_prompt_token_count, &told.tool_use_prompt_token_count),
            (&mut all.cached_content_token_count, &told.cached_content_token_count),
            (&mut all.candidates_token_count, &told.candidates_token_count),
            (&mut all.thoughts_token_count, &told.thoughts_token_count),
        ] {
            all.0 = told.0.or(all.0);
        }
        let sum = |one: &Count, two: &Count| match (one.0, two.0) {
            (Some(one), Some(two)) => Some(one.saturating_add(two)),
            (one, two) => one.or(two),
        };
        said.settle(Usage {
            input: sum(&all.prompt_token_count, &all.tool_use_prompt_token_count),
            cached: all.cached_content_token_count.0,
            cache_write: None,
            output: sum(&all.candidates_token_count, &all.thoughts_token_count),
            reasoning: all.thoughts_token_count.0,
        });
    }

    fn take(&mut self, chunk: &Chunk, said: &mut Said) -> Result<(), WireError> {
        said.name(&chunk.model_version, &chunk.response_id);
        if let Some(told) = chunk.usage_metadata.get() {
            self.settle(told, said);
        }
        let blocked = chunk.prompt_feedback.get().map_or("", |it| it.block_reason.text());
        if !blocked.is_empty() {
            said.ending = Some(Ending::Filtered(blocked.to_owned()));
        }
        for candidate in chunk.candidates.iter().filter(|it| it.index.0.unwrap_or(0) == 0) {
            for piece in candidate.content.get().iter().flat_map(|it| it.parts.iter()) {
                if piece.thought.0 != Some(true) {
                    said.add((0, 0), piece.text.text());
                }
            }
            match candidate.finish_reason.text() {
                "" => {}
                reason => said.ending = Some(read_reason(reason)?),
            }
        }
        Ok(())
    }
}

fn read_reason(reason: &str) -> Result<Ending, WireError> {
    match reason {
        "STOP" => Ok(Ending::Complete),
        // A continuation goes on with another call, which we do not make.
        "MAX_TOKENS" | "CONTINUATION" => Ok(Ending::Limit(reason.to_owned())),
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "MODEL_ARMOR" => {
            Ok(Ending::Filtered(reason.to_owned()))
        }
        _ => Err(unknown_reason(reason)),
    }
}

impl Fold for Chunks {
    fn event(&mut self, _: &[u8], data: &[u8], said: &mut Said) -> Result<(), WireError> {
        let chunk: Chunk = read_json(data)?;
        if chunk.error.0.is_some() {
            return Err(failure::inside(data, ErrorKind::Server { wait: None }));
        }
        self.take(&chunk, said)
    }

    fn whole(&mut self, body: &[u8], said: &mut Said) -> Result<(), WireError> {
        // A stream without `alt=sse` is a list of its pieces.
        let chunks: Parts<Chunk> = if body.trim_ascii_start().starts_with(b"[") {
            serde_json::from_slice(body).map_err(|error| unreadable(&error))?
        } else {
            Lax(Some(vec![serde_json::from_slice(body).map_err(|error| unreadable(&error))?]))
        };
        if chunks.iter().next().is_none() {
            return Err(WireError::protocol("the response is a list without an answer"));
        }
        for chunk in chunks.iter() {
            if chunk.error.0.is_some() {
                return Err(failure::inside(body, ErrorKind::Server { wait: None }));
            }
            if chunk.candidates.0.is_none()
                && chunk.prompt_feedback.get().is_none()
                && chunk.usage_metadata.get().is_none()
            {
                return Err(WireError::protocol("the response is JSON but no answer of generateContent"));
            }
            self.take(chunk, said)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::*;

    const TEXT: &str = "größe → 🦀";

    fn text(text: &str) -> Value {
        json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}]})
    }

    fn end(reason: &str) -> Value {
        json!({"candidates": [{"finishReason": reason}], "modelVersion": "m-1", "responseId": "r-1"})
    }

    fn usual() -> Vec<Value> {
        vec![
            json!({"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}, {"text": "größe"}]}}],
                "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 1}}),
            json!({"candidates": [{"index": 1, "content": {"parts": [{"text": "other"}]}, "finishReason": "SAFETY"}]}),
            json!({"candidates": [{"content": {"parts": [{"functionCall": {}}, {"text": " → "}, {"text": null}]}}],
                "promptFeedback": {"blockReason": null, "safetyRatings": []}, "surprise": 1}),
            text("🦀"),
            end("STOP"),
            json!({"usageMetadata": {"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 5,
                "thoughtsTokenCount": 2, "totalTokenCount": 17}}),
        ]
    }

    fn write(form: Form, events: &[Value]) -> Vec<u8> {
        form.events(&events.iter().map(Value::to_string).collect::<Vec<_>>())
    }

    const USAGE: Usage =
        Usage { input: Some(10), cached: Some(4), cache_write: None, output: Some(7), reasoning: Some(2) };

    #[test]
    fn a_stream_gives_the_same_answer_in_every_form_and_split() {
        for form in FORMS {
            let read = Stream::of(&Gemini, write(form, &usual())).reads_alike_in_every_split();
            assert_eq!((read.complete(), read.draft.as_str(), read.usage), (TEXT, TEXT, USAGE), "{form:?}");
            let answer = read.answer.unwrap();
            assert_eq!((answer.model.as_deref(), answer.request_id.as_deref()), (Some("m-1"), Some("r-1")));
        }
    }

    #[test]
    fn a_stream_is_cut_until_its_reason_to_end_came() {
        for form in FORMS {
            let until_end = write(form, &usual()[..5]).len() - form.tail();
            Stream::of(&Gemini, write(form, &usual())).is_cut_before(until_end);
        }
    }

    #[test]
    fn an_answer_that_is_not_streamed_is_read_too() {
        let one = json!({"candidates": [{"content": {"parts": [{"text": "größe → "}, {"text": "hm", "thought": true},
            {"text": "🦀"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 5,
                "thoughtsTokenCount": 2}});
        for body in [one, json!(usual())] {
            let stream = Stream::json(&Gemini, body.to_string().into_bytes());
            let read = stream.reads_alike_in_every_split();
            assert_eq!((read.complete(), read.usage), (TEXT, USAGE));
            stream.is_cut_before(stream.bytes.len());
        }
    }

    #[test]
    fn the_end_decides_what_an_answer_is() {
        let one = || text("print(1)");
        let blocked = || json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}});
        let error = |code: u16, status: &str| json!({"error": {"code": code, "message": "m", "status": status}});
        let rows = [
            (vec![one(), end("STOP")], "complete print(1)"),
            (vec![one(), end("STOP"), json!(["DONE"])], "error protocol"),
            (vec![one()], "error cut"),
            (vec![one(), end("")], "error cut"),
            (vec![one(), end("MAX_TOKENS")], "limit MAX_TOKENS"),
            (vec![end("MAX_TOKENS")], "limit MAX_TOKENS"),
            (vec![one(), end("CONTINUATION")], "limit CONTINUATION"),
            (vec![one(), end("SAFETY")], "filtered SAFETY"),
            (vec![one(), end("RECITATION")], "filtered RECITATION"),
            (vec![one(), end("OTHER")], "error protocol"),
            (vec![blocked()], "filtered SAFETY"),
            (vec![one(), error(503, "UNAVAILABLE")], "error overloaded"),
            (vec![one(), end("STOP"), error(500, "INTERNAL")], "error server"),
            (vec![one(), error(429, "RESOURCE_EXHAUSTED")], "error rate"),
            (vec![one(), error(429, "")], "error rate"),
            (vec![one(), error(402, "")], "error quota"),
        ];
        for (events, expected) in rows {
            let read = Stream::of(&Gemini, write(Form::Plain, &events)).reads_alike_in_every_split();
            assert_eq!(read.outcome(), expected, "{events:?}");
        }
        // A proxy may end the stream as chat completions end.
        let mut bytes = write(Form::Plain, &[one(), end("STOP")]);
        bytes.extend_from_slice(b"data: [DONE]\n\n");
        assert_eq!(Stream::of(&Gemini, bytes).read().outcome(), "complete print(1)");
        let read = Stream::json(&Gemini, blocked().to_string().into_bytes()).read();
        assert_eq!(read.outcome(), "filtered SAFETY");
    }

    #[test]
    fn an_error_that_stands_in_a_stream_as_bare_json_is_seen() {
        let error = json!({"error": {"code": 429, "message": "slow\ndown", "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "38s"}]}});
        let pretty = serde_json::to_string_pretty(&error).unwrap();
        let list = format!("[{pretty}\n]");
        for bare in [error.to_string(), pretty, list] {
            for (before, after) in [("", ""), ("", "\n"), ("data", "\n"), ("data", "\n\n"), ("data", "")] {
                let mut bytes = if before.is_empty() { Vec::new() } else { write(Form::Plain, &[text("print(1)")]) };
                bytes.extend_from_slice(bare.as_bytes());
                bytes.extend_from_slice(after.as_bytes());
                let read = Stream::of(&Gemini, bytes).reads_alike_in_every_split();
                let error = read.answer.unwrap_err();
                let wait = Some(std::time::Duration::from_secs(38));
                assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Rate { wait }, "slow down"), "{bare}");
            }
        }
    }

    #[test]
    fn an_answer_before_a_piece_of_bare_json_is_not_trusted() {
        let whole = write(Form::Plain, &[text("print(1)"), end("STOP")]);
        let error = serde_json::to_string_pretty(&json!({"error": {"code": 503, "message": "m"}})).unwrap();
        for end in 0..=error.len() {
            let bytes = [whole.as_slice(), &error.as_bytes()[..end]].concat();
            let expected = match end {
                0 => "complete print(1)",
                _ if end < error.len() => "error cut",
                _ => "error overloaded",
            };
            assert_eq!(Stream::of(&Gemini, bytes).read().outcome(), expected, "{end} bytes");
        }
    }

    #[test]
    fn a_request_holds_what_the_dialect_allows() {
        let extra = json!({"generationConfig": {"maxOutputTokens": 1, "thinkingConfig": {"thinkingBudget": 0}}});
        let all = Dialect {
            model: "models/m?x/ü".to_owned(),
            temperature: true,
            seed: true,
            extra_body: extra.as_object().unwrap().clone(),
            ..dialect()
        };
        let contents = json!([{"role": "user", "parts": [{"text": "größe?"}]},
            {"role": "model", "parts": [{"text": "no"}]}, {"role": "user", "parts": [{"text": "yes"}]}]);
        let system = json!({"parts": [{"text": "Be brief."}]});
        assert_eq!(
            sent(&Gemini, &all),
            json!({"systemInstruction": system, "contents": contents, "generationConfig": {"maxOutputTokens": 1000,
                "temperature": 0.5, "seed": 7, "thinkingConfig": {"thinkingBudget": 0}}})
        );
        assert_eq!(Gemini.request(&request(), &all).path, "models/m%3Fx%2F%C3%BC:streamGenerateContent?alt=sse");
        let least = Dialect { stream: false, ..dialect() };
        assert_eq!(
            sent(&Gemini, &least),
            json!({"systemInstruction": system, "contents": contents, "generationConfig": {"maxOutputTokens": 1000}})
        );
        assert_eq!(Gemini.request(&request(), &least).path, "models/m:generateContent");
    }
}
