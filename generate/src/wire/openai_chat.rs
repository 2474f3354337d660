//! Chat completions: OpenAI, Groq, llama.cpp, vLLM and many others.

use serde::Deserialize;
use serde::de::SeqAccess;
use serde_json::json;

use crate::answer::{Request, Usage};
use crate::error::ErrorKind;
use crate::wire::failure::Present;
use crate::wire::lax::{Count, Fields, Lax, Part, Parts, Take, Word};
use crate::wire::response::{Body, Ending, Fold, Said, read_json, unknown_reason};
use crate::wire::{Dialect, Outgoing, Reader, Wire, WireError, body, failure, messages_with_system, sampling};

/// The wire kind.
pub(super) struct OpenaiChat;

impl Wire for OpenaiChat {
    fn request(&self, request: &Request, dialect: &Dialect) -> Outgoing {
        let mut ours = sampling(request, dialect);
        ours.insert("model".to_owned(), json!(dialect.model));
        ours.insert("messages".to_owned(), json!(messages_with_system(request)));
        ours.insert("stream".to_owned(), json!(dialect.stream));
        ours.insert(dialect.max_output_field.clone(), json!(request.max_output));
        if dialect.stream && dialect.include_usage {
            ours.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        Outgoing { path: "chat/completions".to_owned(), headers: Vec::new(), body: body(dialect, ours.into()) }
    }

    fn reader(&self, request: &Request, dialect: &Dialect, content_type: Option<&str>) -> Box<dyn Reader> {
        Box::new(Body::new(Chat, request, dialect, content_type))
    }

    fn request_id_header(&self) -> Option<&'static str> {
        Some("x-request-id")
    }
}

/// A piece of a stream, or a whole answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk {
    id: Word,
    model: Word,
    choices: Parts<Choice>,
    usage: Part<Told>,
    x_groq: Part<Groq>,
    error: Lax<Present>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: Count,
    delta: Part<Message>,
    message: Part<Message>,
    finish_reason: Word,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    content: Lax<Content>,
    refusal: Word,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Groq {
    usage: Part<Told>,
    error: Lax<Present>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    prompt_tokens: Count,
    completion_tokens: Count,
    prompt_tokens_details: Part<InputDetails>,
    completion_tokens_details: Part<OutputDetails>,
}

/// What is known of the tokens of a question.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct InputDetails {
    /// Those from a cache.
    pub(super) cached_tokens: Count,
    /// Those that went into a cache.
    pub(super) cache_write_tokens: Count,
}

/// What is known of the tokens of an answer.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct OutputDetails {
    /// Those of reasoning.
    pub(super) reasoning_tokens: Count,
}

/// A text, or a list of parts with texts.
#[derive(Debug, Default)]
struct Content(String);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TextPart {
    r#type: Word,
    text: Word,
}

impl<'de> Take<'de> for Content {
    fn from_text(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let parts = Vec::<Lax<Fields<TextPart>>>::from_list(list)?.unwrap_or_default();
        let parts = parts.iter().filter_map(Part::get).filter(|it| it.r#type.text() == "text");
        Ok(Some(Self(parts.map(|it| it.text.text()).collect())))
    }
}

/// Tokens as a provider of the family of OpenAI tells them: caches and reasoning are inside.
pub(super) fn usage(
    input: &Count,
    input_details: &Part<InputDetails>,
    output: &Count,
    output_details: &Part<OutputDetails>,
) -> Usage {
    let (input_details, output_details) = (input_details.get(), output_details.get());
    Usage {
        input: input.0,
        cached: input_details.and_then(|it| it.cached_tokens.0),
        cache_write: input_details.and_then(|it| it.cache_write_tokens.0),
        output: output.0,
        reasoning: output_details.and_then(|it| it.reasoning_tokens.0),
    }
}

struct Chat;

impl Chat {
    fn take(&self, chunk: Chunk, said: &mut Said) -> Result<(), WireError> {
        said.name(&chunk.model, &chunk.id);
        let groq = chunk.x_groq.get();
        for told in [groq.and_then(|it| it.usage.get()), chunk.usage.get()].into_iter().flatten() {
            said.settle(usage(
                &told.prompt_tokens,
                &told.prompt_tokens_details,
                &told.completion_tokens,
                &told.completion_tokens_details,
            ));
        }
        for choice in chunk.choices.iter().filter(|it| it.index.0.unwrap_or(0) == 0) {
            // There are servers that repeat the whole message beside a piece of it.
            if let Some(message) = choice.delta.get().or(choice.message.get()) {
                said.refuse(message.refusal.text());
                said.add((0, 0), message.content.0.as_ref().map_or("", |it| &it.0));
            }
            match choice.finish_reason.text() {
                "" => {}
                reason => said.ending = Some(read_reason(reason)?),
            }
        }
        Ok(())
    }
}

impl Fold for Chat {
    const LENIENT: bool = true;

    fn event(&mut self, name: &[u8], data: &[u8], said: &mut Said) -> Result<(), WireError> {
        let chunk: Chunk = read_json(data)?;
        let groq = chunk.x_groq.get().is_some_and(|it| it.error.0.is_some());
        if chunk.error.0.is_some() || groq || name == b"error" {
            return Err(failure::inside(data, ErrorKind::Server { wait: None }));
        }
        self.take(chunk, said)
    }

    fn whole(&mut self, body: &[u8], said: &mut Said) -> Result<(), WireError> {
        let chunk: Chunk = read_json(body)?;
        if chunk.choices.iter().next().is_none() {
            return Err(WireError::protocol("the response is JSON but no chat completion"));
        }
        said.done = true;
        self.take(chunk, said)
    }
}

fn read_reason(reason: &str) -> Result<Ending, WireError> {
    match reason {
        "stop" | "eos" | "end_turn" | "stop_sequence" | "tool_calls" | "function_call" => Ok(Ending::Complete),
        "length" | "max_tokens" | "model_length" => Ok(Ending::Limit(reason.to_owned())),
        "content_filter" => Ok(Ending::Filtered(reason.to_owned())),
        "refusal" => Ok(Ending::Refused(reason.to_owned())),
        "error" | "abort" | "cancelled" => {
            let message = format!("the provider ended the answer: {reason}");
            Err(WireError { kind: ErrorKind::Server { wait: None }, message })
        }
        _ => Err(unknown_reason(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::*;

    const TEXT: &str = "größe → 🦀\n";

    fn chunk(delta: &str, reason: &str) -> String {
        format!(r#"{{"id":"c-1","model":"m-1","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]}}"#)
    }

    fn piece(text: &str) -> String {
        chunk(&format!(r#"{{"content":{}}}"#, json!(text)), "null")
    }

    /// A stream of the usual form.
    fn usual() -> Vec<String> {
        vec![
            chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
            chunk(r#"{"reasoning_content":"hm","reasoning":"hm"}"#, "null"),
            piece("größe"),
            piece(" → "),
            r#"{"object":"surprise","choices":null}"#.to_owned(),
            chunk(r#"{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#, "null"),
            r#"{"choices":[{"index":1,"delta":{"content":"other"},"finish_reason":"length"}]}"#.to_owned(),
            piece("🦀\n"),
            chunk("{}", r#""stop""#),
            r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,
                "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#
                .replace('\n', ""),
            "[DONE]".to_owned(),
        ]
    }

    const USAGE: Usage =
        Usage { input: Some(10), cached: Some(4), cache_write: None, output: Some(7), reasoning: Some(2) };

    #[test]
    fn a_stream_gives_the_same_answer_in_every_form_and_split() {
        for form in FORMS {
            let stream = Stream::of(&OpenaiChat, form.events(&usual()));
            let read = stream.reads_alike_in_every_split();
            assert_eq!(read.complete(), TEXT, "{form:?}");
            assert_eq!(read.usage, USAGE);
            assert_eq!(read.draft, TEXT);
            let answer = read.answer.unwrap();
            assert_eq!((answer.model.as_deref(), answer.request_id.as_deref()), (Some("m-1"), Some("c-1")));
            assert_eq!(answer.warnings, [""; 0]);
        }
    }

    #[test]
    fn a_stream_is_cut_until_its_reason_to_end_came() {
        for form in FORMS {
            let events = usual();
            let until_end = form.events(&events[..9]).len() - form.tail();
            Stream::of(&OpenaiChat, form.events(&events)).is_cut_before(until_end);
        }
    }

    #[test]
    fn an_answer_that_is_not_streamed_is_read_for_a_stream_too() {
        let body = r#"{"id":"c-1","model":"m-1","choices":[
            {"index":1,"message":{"content":"other"},"finish_reason":"length"},
            {"index":0,"message":{"role":"assistant","content":"größe → 🦀\n","refusal":null},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":10,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4},
            "completion_tokens_details":{"reasoning_tokens":2}}}"#;
        for stream in [true, false] {
            let mut json = Stream::json(&OpenaiChat, body.as_bytes().to_vec());
            json.dialect.stream = stream;
            let read = json.reads_alike_in_every_split();
            assert_eq!((read.complete(), read.usage), (TEXT, USAGE));
            json.is_cut_before(body.len());
            let mut stream = Stream::of(&OpenaiChat, FORMS[0].events(&usual()));
            stream.content_type = Some("application/json");
            assert_eq!(stream.read().complete(), TEXT);
        }
    }

    #[test]
    fn the_end_decides_what_an_answer_is() {
        let text = piece("print(1)");
        let end = |reason: &str| chunk("{}", &json!(reason).to_string());
        let done = "[DONE]".to_owned();
        let groq = r#"{"choices":[],"x_groq":{"id":"r","usage":{"prompt_tokens":3,"completion_tokens":2}}}"#;
        let error = r#"{"error":{"message":"Too slow","type":"server_error","code":null}}"#;
        let rows: &[(&[&str], &str)] = &[
            (&[&text, &end("stop"), &done], "complete print(1)"),
            (&[&text, &end("stop")], "complete print(1)"),
            (&[&text, &end("tool_calls"), &done], "complete print(1)"),
            (&[&text, &end("stop"), groq, &done], "complete print(1)"),
            (&[&text, &done], "error cut"),
            (&[&text, &chunk("{}", "\"\""), &done], "error cut"),
            (&[&text], "error cut"),
            (&[], "error cut"),
            (&[&text, &end("length"), &done], "limit length"),
            (&[&chunk(r#"{"reasoning":"long"}"#, "null"), &end("length"), &done], "limit length"),
            (&[&text, &end("content_filter"), &done], "filtered content_filter"),
            (
                &[
                    &chunk(r#"{"refusal":"I will "}"#, "null"),
                    &chunk(r#"{"refusal":"not"}"#, "null"),
                    &end("stop"),
                    &done,
                ],
                "refused I will not",
            ),
            (&[&text, &end("surprise"), &done], "error protocol"),
            (&[&text, &end("error"), &done], "error server"),
            (&[&text, error], "error server"),
            (&[&text, &end("stop"), error, &done], "error server"),
            (&[&text, r#"{"error":{"message":"m","code":429}}"#], "error rate"),
            (&[&text, r#"{"error":{"message":"m","code":"insufficient_quota"}}"#], "error quota"),
            (&[&text, r#"{"error":"broken"}"#], "error server"),
            (&[&text, r#"{"x_groq":{"error":"over_capacity"},"choices":[]}"#], "error server"),
            (&[&text, r#"{"error":null,"choices":[]}"#, &end("stop")], "complete print(1)"),
            (&[&text, r#"{"choices": [ tru"#, &end("stop")], "error protocol"),
            // What follows the mark of the end does not count.
            (&[&text, &end("stop"), &done, error, &end("length")], "complete print(1)"),
            (
                &[&text, "", r#"{"choices":[{"delta":{},"message":{"content":"print(1)"},"finish_reason":"stop"}]}"#],
                "complete print(1)",
            ),
            (&[r#"[1]"#, &end("stop")], "error protocol"),
        ];
        for (events, expected) in rows {
            let events: Vec<_> = events.iter().map(|it| (*it).to_owned()).collect();
            let read = Stream::of(&OpenaiChat, FORMS[0].events(&events)).reads_alike_in_every_split();
            assert_eq!(read.outcome(), *expected, "{events:?}");
        }
    }

    #[test]
    fn a_provider_that_never_says_how_answers_end_is_used_with_a_warning() {
        let events = [piece("print(1)"), "[DONE]".to_owned()];
        let mut stream = Stream::of(&OpenaiChat, FORMS[0].events(&events));
        stream.dialect.finish_required = false;
        let read = stream.read();
        assert_eq!(read.complete(), "print(1)");
        assert_eq!(read.answer.unwrap().warnings.len(), 1);
        let whole =
            r#"{"choices":[{"message":{"content":[{"type":"text","text":"print"},{"type":"text","text":"(1)"}]}}]}"#;
        let mut json = Stream::json(&OpenaiChat, whole.into());
        assert_eq!(json.read().outcome(), "error cut");
        json.dialect.finish_required = false;
        let read = json.read();
        assert_eq!((read.complete(), read.answer.as_ref().unwrap().warnings.len()), ("print(1)", 1));
        // Without its mark, the stream is cut even so.
        stream.is_cut_before(stream.bytes.len());
    }

    #[test]
    fn usage_is_settled_once_wherever_it_stands() {
        let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2}"#;
        let told = Usage { input: Some(3), output: Some(2), ..Usage::default() };
        let early = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#.to_owned();
        let last = format!(r#"{{"choices":[],{usage}}}"#);
        let groq = format!(r#"{{"choices":[],"x_groq":{{{usage}}}}}"#);
        let both = format!(r#"{{"choices":[],{usage},"x_groq":{{{usage}}}}}"#);
        let odd = r#"{"choices":[],"usage":{"prompt_tokens":-3,"completion_tokens":"2","prompt_tokens_details":7}}"#;
        let rows: [(&[&str], Usage); 6] = [
            (&[&last], told),
            (&[&groq], told),
            (&[&both], told),
            (&[&early, &early, &last, r#"{"choices":[],"usage":null}"#], told),
            (&[], Usage::default()),
            (&[odd], Usage::default()),
        ];
        for (further, expected) in rows {
            let mut events = vec![piece("print(1)"), chunk("{}", r#""stop""#)];
            events.extend(further.iter().map(|it| (*it).to_owned()));
            events.push("[DONE]".to_owned());
            let read = Stream::of(&OpenaiChat, FORMS[0].events(&events)).read();
            assert_eq!((read.complete(), read.usage), ("print(1)", expected), "{further:?}");
        }
    }

    #[test]
    fn reasoning_that_uses_all_tokens_is_a_limit() {
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1000}}"#;
        let events = [chunk(r#"{"content":" "}"#, "null"), chunk("{}", r#""stop""#), usage.to_owned()];
        let read = Stream::of(&OpenaiChat, FORMS[0].events(&events)).read();
        assert_eq!(read.outcome(), "limit no text within the answer's limit");
    }

    #[test]
    fn a_request_holds_what_the_dialect_allows() {
        let extra = json!({"grammar": "root", "model": "ignored", "stream_options": {"extra": 1}});
        let all = Dialect {
            temperature: true,
            seed: true,
            include_usage: true,
            extra_body: extra.as_object().unwrap().clone(),
            ..dialect()
        };
        let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "größe?"},
            {"role": "assistant", "content": "no"}, {"role": "user", "content": "yes"}]);
        assert_eq!(
            sent(&OpenaiChat, &all),
            json!({"model": "m", "messages": messages, "max_completion_tokens": 1000, "temperature": 0.5, "seed": 7,
                "stream": true, "stream_options": {"include_usage": true, "extra": 1}, "grammar": "root"})
        );
        let least = Dialect { stream: false, max_output_field: "max_tokens".to_owned(), ..dialect() };
        assert_eq!(
            sent(&OpenaiChat, &least),
            json!({"model": "m", "messages": messages, "max_tokens": 1000, "stream": false})
        );
        assert_eq!(OpenaiChat.request(&request(), &least).path, "chat/completions");
    }
}
