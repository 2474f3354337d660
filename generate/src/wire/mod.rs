//! How providers are spoken to: five kinds of HTTP API.
//!
//! A wire kind makes the request's body and reads the response's bytes. It knows nothing of connections, keys, retries or
//! budgets; `http` carries its bytes.

mod anthropic;
mod failure;
mod gemini;
mod lax;
pub(crate) mod ndjson;
mod ollama;
mod openai_chat;
mod openai_responses;
mod response;
pub(crate) mod sse;
#[cfg(test)]
mod testing;

use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::{End, Request, Role, Usage};
use crate::error::ErrorKind;

/// The five kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `POST /v1/responses` of OpenAI.
    OpenaiResponses,
    /// `POST …/chat/completions` of OpenAI, Groq, llama.cpp, vLLM and many others.
    OpenaiChat,
    /// `POST /v1/messages` of Anthropic.
    Anthropic,
    /// `POST /v1/models/…:generateContent` of Gemini.
    Gemini,
    /// `POST /api/chat` of Ollama.
    Ollama,
}

/// What a wire kind has to know of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialect {
    /// The model to ask.
    pub model: String,
    /// Whether the answer is streamed. Default: true.
    pub stream: bool,
    /// Whether `temperature` may be sent.
    pub temperature: bool,
    /// Whether `seed` may be sent.
    pub seed: bool,
    /// Whether usage of a stream is asked for by `stream_options` (chat completions).
    pub include_usage: bool,
    /// Whether an answer without its reason to end is cut. If false, it is complete with a warning where the stream
    /// ended with its own mark (`[DONE]`).
    pub finish_required: bool,
    /// Name of the field for the answer's length (chat completions): `max_completion_tokens` or `max_tokens`.
    pub max_output_field: String,
    /// Size of the window that is asked for (Ollama), tokens.
    pub context: Option<u64>,
    /// Further fields of the body, which go before ours.
    pub extra_body: serde_json::Map<String, serde_json::Value>,
}

/// A request as it is sent, but for host, key and the profile's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Path below the profile's base URL, with its query, without a leading `/`: `chat/completions`.
    pub path: String,
    /// Headers of this kind, without the key: `anthropic-version`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// How a kind sends its key by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of its own, which holds nothing else.
    Named(&'static str),
}

/// An answer as it was read, when the response has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Text, or why there is none.
    pub end: End,
    /// The model that answered.
    pub model: Option<String>,
    /// The provider's number for the answer, from the body.
    pub request_id: Option<String>,
    /// What to tell the user.
    pub warnings: Vec<String>,
}

/// Why bytes are no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The kind; what it means for trying again is decided by `retry`.
    pub kind: ErrorKind,
    /// What happened: a fragment.
    pub message: String,
}

impl WireError {
    fn protocol(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Protocol, message: message.into() }
    }
}

/// Reads one response with status 200, piece by piece.
pub trait Reader {
    /// Takes the next bytes of the body, split anywhere, and tells `draft` of new text.
    ///
    /// # Errors
    ///
    /// The provider's own error inside the response, or what is not of this kind. Nothing more may be pushed then.
    fn push(&mut self, bytes: &[u8], draft: &mut dyn FnMut(&str)) -> Result<(), WireError>;

    /// Whether the answer has ended by the wire's own mark, so that nothing more need be read.
    fn done(&self) -> bool;

    /// The body has ended. Gives what was read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Cut`] if the answer had not ended; what is not of this kind.
    fn finish(&mut self) -> Result<ReadAnswer, WireError>;

    /// Tokens told so far; it stays valid after errors.
    fn usage(&self) -> Usage;
}

/// What a response with another status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind. Waits in it come from the body (`RetryInfo`); those of headers are put in by `retry`.
    pub kind: ErrorKind,
    /// The provider's own words, at most 512 bytes, on one line.
    pub message: String,
    /// The provider's number for it, from the body.
    pub request_id: Option<String>,
}

/// One wire kind.
pub trait Wire: Sync {
    /// Makes the request.
    fn request(&self, request: &Request, dialect: &Dialect) -> Outgoing;

    /// Reads a response with status 200 to that request. `content_type` is the response's header, in lower case.
    fn reader(&self, request: &Request, dialect: &Dialect, content_type: Option<&str>) -> Box<dyn Reader>;

    /// Reads a response with another status.
    fn failure(&self, status: u16, body: &[u8]) -> Failure {
        failure::read(status, body)
    }

    /// How the key is sent if the profile does not say so.
    fn key_header(&self) -> KeyHeader {
        KeyHeader::Bearer
    }

    /// The header that holds the provider's number for a call.
    fn request_id_header(&self) -> Option<&'static str>;
}

/// The wire of that kind.
#[must_use]
pub fn wire(kind: Kind) -> &'static dyn Wire {
    match kind {
        Kind::OpenaiResponses => &openai_responses::OpenaiResponses,
        Kind::OpenaiChat => &openai_chat::OpenaiChat,
        Kind::Anthropic => &anthropic::Anthropic,
        Kind::Gemini => &gemini::Gemini,
        Kind::Ollama => &ollama::Ollama,
    }
}

/// The most time a provider's word can make us wait; more is the same as "not this run".
pub const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The most bytes of one event or line of a stream.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// The most bytes of a response's body.
pub const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// Appends to a buffer, which grows by doubling but not beyond `most` unless it must.
fn extend_within(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let needed = buffer.len().saturating_add(bytes.len());
    if needed > buffer.capacity() {
        let wanted = buffer.capacity().saturating_mul(2).min(most).max(needed);
        buffer.reserve_exact(wanted - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

/// Lays one JSON object over another: objects are joined, everything else is replaced.
fn lay_over(below: &mut serde_json::Map<String, Value>, above: serde_json::Map<String, Value>) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Object(below)), Value::Object(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

/// The fields for randomness that the dialect allows.
fn sampling(request: &Request, dialect: &Dialect) -> serde_json::Map<String, Value> {
    let temperature = request.temperature.filter(|_| dialect.temperature).map(Value::from);
    let seed = request.seed.filter(|_| dialect.seed).map(Value::from);
    let fields = [("temperature", temperature), ("seed", seed)];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The conversation in the form that most kinds share.
fn messages(request: &Request) -> impl Iterator<Item = Value> {
    let role = |role| match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    request.messages.iter().map(move |it| json!({"role": role(it.role), "content": it.text}))
}

/// The conversation, what holds for all of it first.
fn messages_with_system(request: &Request) -> Vec<Value> {
    let system = (!request.system.is_empty()).then(|| json!({"role": "system", "content": request.system}));
    system.into_iter().chain(messages(request)).collect()
}

/// A body: our fields over those of the profile. Fields of ours without a value are left out.
fn body(dialect: &Dialect, ours: Value) -> Vec<u8> {
    let mut body = dialect.extra_body.clone();
    if let Value::Object(mut ours) = ours {
        ours.retain(|_, value| !value.is_null());
        lay_over(&mut body, ours);
    }
    Value::Object(body).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_sends_its_key_and_tells_its_number_where_the_provider_wants_it() {
        let rows = [
            (Kind::OpenaiResponses, KeyHeader::Bearer, Some("x-request-id")),
            (Kind::OpenaiChat, KeyHeader::Bearer, Some("x-request-id")),
            (Kind::Anthropic, KeyHeader::Bearer, Some("request-id")),
            (Kind::Gemini, KeyHeader::Named("x-goog-api-key"), None),
            (Kind::Ollama, KeyHeader::Bearer, None),
        ];
        for (kind, key, number) in rows {
            assert_eq!((wire(kind).key_header(), wire(kind).request_id_header()), (key, number), "{kind:?}");
        }
    }

    #[test]
    fn fields_of_ours_lie_over_those_of_the_profile() {
        let rows = [
            (json!({}), json!({"a": 1}), json!({"a": 1})),
            (json!({"a": 1, "b": 2}), json!({"a": 3}), json!({"a": 3, "b": 2})),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 3}}), json!({"a": {"x": 3, "y": 2}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": {"x": 1}}), json!({"a": 3}), json!({"a": 3})),
            (json!({"a": 1}), json!({"a": null}), json!({"a": 1})),
        ];
        for (below, above, expected) in rows {
            let dialect = Dialect { extra_body: below.as_object().unwrap().clone(), ..testing::dialect() };
            let body: Value = serde_json::from_slice(&body(&dialect, above.clone())).unwrap();
            assert_eq!(body, expected, "{below} {above}");
        }
    }
}
