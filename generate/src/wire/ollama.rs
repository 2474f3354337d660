//! `/api/chat` of Ollama.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::answer::{Request, Usage};
use crate::error::ErrorKind;
use crate::wire::failure::Present;
use crate::wire::lax::{Count, Lax, Part, Word};
use crate::wire::response::{Body, Ending, Fold, Said, read_json, unknown_reason, unreadable};
use crate::wire::{Dialect, Outgoing, Reader, Wire, WireError, body, failure, messages_with_system, sampling};

/// The wire kind.
pub(super) struct Ollama;

impl Wire for Ollama {
    fn request(&self, request: &Request, dialect: &Dialect) -> Outgoing {
        let mut options = sampling(request, dialect);
        options.insert("num_predict".to_owned(), json!(request.max_output));
        if let Some(context) = dialect.context {
            options.insert("num_ctx".to_owned(), json!(context));
        }
        let ours = json!({
            "model": dialect.model,
            "messages": messages_with_system(request),
            "stream": dialect.stream,
            "options": options,
        });
        Outgoing { path: "api/chat".to_owned(), headers: Vec::new(), body: body(dialect, ours) }
    }

    fn reader(&self, request: &Request, dialect: &Dialect, content_type: Option<&str>) -> Box<dyn Reader> {
        Box::new(Body::new(Lines { known: false, sent_bytes: request.bytes() }, request, dialect, content_type))
    }

    fn request_id_header(&self) -> Option<&'static str> {
        None
    }
}

/// A line of a stream, or a whole answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    model: Word,
    message: Part<Message>,
    done: Lax<bool>,
    done_reason: Word,
    prompt_eval_count: Count,
    eval_count: Count,
    error: Lax<Present>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    content: Word,
}

struct Lines {
    /// Something was a line of an answer.
    known: bool,
    /// Bytes of all texts that were sent.
    sent_bytes: u64,
}

impl Lines {
    /// The server cuts a question to its window without saying so. A token has three bytes or so; if less than half of what
    /// that makes was read, something is missing.
    fn check_question(&self, read: Option<u64>) -> Result<(), WireError> {
        let estimate = self.sent_bytes.div_ceil(3);
        match read {
            Some(read) if read.saturating_mul(2) < estimate => Err(WireError {
                kind: ErrorKind::Truncated,
                message: format!("the server read {read} tokens of a question of about {estimate}"),
            }),
            _ => Ok(()),
        }
    }
}

impl Fold for Lines {
    const LINES: bool = true;
    const MARKED: bool = true;
    const LENIENT: bool = true;

    fn event(&mut self, _: &[u8], data: &[u8], said: &mut Said) -> Result<(), WireError> {
        let line: Line = read_json(data)?;
        if line.error.0.is_some() {
            return Err(failure::inside(data, ErrorKind::Server { wait: None }));
        }
        self.known |= line.message.get().is_some() || line.done.0.is_some();
        said.name(&line.model, &Word::default());
        said.settle(Usage { input: line.prompt_eval_count.0, output: line.eval_count.0, ..Usage::default() });
        said.add((0, 0), line.message.get().map_or("", |it| it.content.text()));
        if line.done.0 == Some(true) {
            self.check_question(said.usage.input)?;
            said.ending = match line.done_reason.text() {
                "" => None,
                "stop" => Some(Ending::Complete),
                reason @ "length" => Some(Ending::Limit(reason.to_owned())),
                reason => return Err(unknown_reason(reason)),
            };
            said.done = true;
        }
        Ok(())
    }

    fn whole(&mut self, body: &[u8], said: &mut Said) -> Result<(), WireError> {
        // A stream that is announced as JSON is several texts.
        for value in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
            match value {
                Ok(_) if said.done => break,
                Ok(value) => self.event(b"", value.get().as_bytes(), said)?,
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(unreadable(&error)),
            }
        }
        if !self.known {
            return Err(WireError::protocol("the response is JSON but no answer of the chat API"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Message as Turn;
    use crate::wire::testing::*;
    use serde_json::Value;

    const TEXT: &str = "größe → 🦀";

    fn text(text: &str) -> Value {
        json!({"model": "m-1", "message": {"role": "assistant", "content": text}, "done": false})
    }

    fn end(reason: Value) -> Value {
        json!({"model": "m-1", "message": {"content": ""}, "done": true, "done_reason": reason,
            "prompt_eval_count": 10, "eval_count": 7})
    }

    fn usual() -> Vec<Value> {
        vec![
            json!({"model": "m-1", "message": {"thinking": "hm", "content": ""}, "done": false}),
            text("größe"),
            json!({"surprise": {}, "message": null}),
            json!({"message": {"tool_calls": [{"function": {}}], "content": " → "}, "done": null}),
            text("🦀"),
            end(json!("stop")),
        ]
    }

    fn write(lines: &[Value]) -> Vec<u8> {
        lines.iter().map(|it| format!("{it}\n")).collect::<String>().into_bytes()
    }

    fn lines(lines: &[Value]) -> Stream {
        Stream { content_type: Some("application/x-ndjson"), ..Stream::of(&Ollama, write(lines)) }
    }

    const USAGE: Usage = Usage { input: Some(10), cached: None, cache_write: None, output: Some(7), reasoning: None };

    #[test]
    fn a_stream_gives_the_same_answer_in_every_form_and_split() {
        let crlf = String::from_utf8(write(&usual())).unwrap().replace('\n', "\r\n\r\n");
        for bytes in [write(&usual()), crlf.clone().into_bytes(), format!("\u{FEFF}{crlf}").into_bytes()] {
            let read = Stream { bytes, ..lines(&[]) }.reads_alike_in_every_split();
            assert_eq!((read.complete(), read.draft.as_str(), read.usage), (TEXT, TEXT, USAGE));
            assert_eq!(read.answer.unwrap().model.as_deref(), Some("m-1"));
        }
    }

    #[test]
    fn a_stream_is_cut_until_its_last_line_came() {
        // The line feed at the end may be missing: a JSON object is whole or it is not.
        let stream = lines(&usual());
        stream.is_cut_before(stream.bytes.len() - 1);
        let announced_as_json = Stream { content_type: Some("application/json"), ..lines(&usual()) };
        announced_as_json.is_cut_before(stream.bytes.len() - 1);
        let read = announced_as_json.reads_alike_in_every_split();
        assert_eq!((read.complete(), read.usage), (TEXT, USAGE));
    }

    #[test]
    fn an_answer_that_is_not_streamed_is_read_too() {
        let mut body = end(json!("stop"));
        body["message"] = json!({"content": TEXT, "thinking": "hm"});
        for bytes in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
            let stream = Stream::json(&Ollama, bytes.into_bytes());
            stream.is_cut_before(stream.bytes.len());
            let read = stream.reads_alike_in_every_split();
            assert_eq!((read.complete(), read.usage), (TEXT, USAGE));
        }
    }

    #[test]
    fn the_end_decides_what_an_answer_is() {
        let one = || text("print(1)");
        let rows = [
            (vec![one(), end(json!("stop"))], "complete print(1)"),
            (vec![one()], "error cut"),
            (vec![one(), end(json!("length"))], "limit length"),
            (vec![end(json!("length"))], "limit length"),
            (vec![one(), end(json!(null))], "error cut"),
            (vec![one(), end(json!("load"))], "error protocol"),
            (vec![one(), json!({"error": "model runner has unexpectedly stopped"})], "error server"),
            (vec![one(), json!(["x"])], "error protocol"),
        ];
        for (events, expected) in rows {
            let read = lines(&events).reads_alike_in_every_split();
            assert_eq!(read.outcome(), expected, "{events:?}");
        }
        let mut lenient = lines(&[one(), end(json!(null))]);
        lenient.dialect.finish_required = false;
        let read = lenient.read();
        assert_eq!((read.complete(), read.answer.as_ref().unwrap().warnings.len()), ("print(1)", 1));
        lenient.is_cut_before(lenient.bytes.len() - 1);
    }

    #[test]
    fn a_question_that_was_not_read_whole_is_an_error() {
        // 6,000 bytes make about 2,000 tokens.
        let text = "x".repeat(6000);
        let rows = [(Some(999), false), (Some(1000), true), (Some(0), false), (None, true)];
        for (read, whole) in rows {
            let mut stream = lines(&[json!({"message": {"content": "print(1)"}, "done": true, "done_reason": "stop",
                "prompt_eval_count": read})]);
            stream.request = Request {
                system: String::new(),
                messages: vec![Turn { role: crate::answer::Role::User, text: text.clone() }],
                ..request()
            };
            let outcome = if whole { "complete print(1)" } else { "error truncated" };
            assert_eq!(stream.reads_alike_in_every_split().outcome(), outcome, "{read:?}");
        }
    }

    #[test]
    fn a_request_holds_what_the_dialect_allows() {
        let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "größe?"},
            {"role": "assistant", "content": "no"}, {"role": "user", "content": "yes"}]);
        let extra = json!({"think": false, "options": {"top_k": 1, "num_ctx": 1}});
        let all = Dialect {
            temperature: true,
            seed: true,
            context: Some(8192),
            extra_body: extra.as_object().unwrap().clone(),
            ..dialect()
        };
        assert_eq!(
            sent(&Ollama, &all),
            json!({"model": "m", "messages": messages, "stream": true, "think": false, "options": {"num_predict": 1000,
                "num_ctx": 8192, "temperature": 0.5, "seed": 7, "top_k": 1}})
        );
        assert_eq!(
            sent(&Ollama, &Dialect { stream: false, ..dialect() }),
            json!({"model": "m", "messages": messages, "stream": false, "options": {"num_predict": 1000}})
        );
        assert_eq!(Ollama.request(&request(), &dialect()).path, "api/chat");
    }
}
