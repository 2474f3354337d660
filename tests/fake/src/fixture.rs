//! Good answers of every wire kind, and what they mean.

use serde::Deserialize;
use std::path::Path;

use crate::received::Received;
use crate::reply::{Framing, Reply, Response};

/// The folders of fixtures. `groq` is an OpenAI-like API with its own additions.
pub const KINDS: [&str; 6] = ["anthropic", "gemini", "groq", "ollama", "openai-chat", "openai-responses"];

/// One answer of a provider, as it is on the wire, and what a client must make of it. The files are
/// `fixtures/<kind>/<name>.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// The folder.
    #[serde(skip)]
    pub kind: String,
    /// The file, without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it is about, in one sentence.
    pub about: String,
    /// What has to be asked.
    pub ask: Ask,
    /// HTTP status.
    pub status: u16,
    /// Headers of the response, without its framing.
    pub headers: Vec<(String, String)>,
    /// The body, in the packets a server would naturally write.
    pub body: Vec<String>,
    /// What it means.
    pub expect: Expect,
}

/// What a fixture has to be asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Below the host, with its query.
    pub path: String,
    /// Whether a stream is asked for.
    pub stream: bool,
}

/// What an answer means, in the words of `capibara-generate`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `complete`, `limit`, `refused` or `filtered`.
    pub end: String,
    /// The text of a complete answer. Of another, what had come of it, which nobody may use.
    pub text: String,
    /// The provider's word for the end, if it is not complete, or the model's words of refusal.
    pub reason: Option<String>,
    /// The model that answered.
    pub model: String,
    /// The provider's number for the call, from a header or, where there is no such header, from the body.
    pub request_id: Option<String>,
    /// The number of the answer in the body, if there is one.
    pub answer_id: Option<String>,
    /// Tokens.
    pub usage: Usage,
}

/// Tokens: `input` includes `cached` and `cache_write`, `output` includes `reasoning`; `None` where the wire does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// All tokens of the question.
    pub input: Option<u64>,
    /// Those of `input` that were read from a cache.
    pub cached: Option<u64>,
    /// Those of `input` that were written to a cache.
    pub cache_write: Option<u64>,
    /// All tokens of the answer.
    pub output: Option<u64>,
    /// Those of `output` that are reasoning.
    pub reasoning: Option<u64>,
}

impl Fixture {
    /// The response, to be changed: whole, in its natural packets; chunked if it is a stream.
    #[must_use]
    pub fn response(&self) -> Response {
        let framing = if self.ask.stream { Framing::Chunked } else { Framing::Length };
        let response = self.headers.iter().fold(Response::new(self.status), |it, (name, value)| it.header(name, value));
        response.framed(framing).packets(&self.body)
    }

    fn wants_stream(&self, received: &Received) -> bool {
        match self.kind.as_str() {
            // The path says it.
            "gemini" => self.ask.stream,
            kind => received.json()["stream"].as_bool().unwrap_or(kind == "ollama"),
        }
    }
}

/// All fixtures, by kind and name.
#[must_use]
pub fn fixtures() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for kind in KINDS {
        let files = std::fs::read_dir(folder().join(kind)).expect("a folder of fixtures for each kind");
        let mut paths = files.map(|file| file.expect("a file").path()).collect::<Vec<_>>();
        paths.sort();
        fixtures.extend(paths.iter().map(|path| read(kind, path)));
    }
    fixtures
}

/// The fixture of that name.
#[must_use]
pub fn fixture(kind: &str, name: &str) -> Fixture {
    read(kind, &folder().join(kind).join(name).with_extension("json"))
}

/// Answers a request with the fixture that it names: by the header `x-fixture: KIND/NAME`, or by a path that begins with
/// `/fixture/KIND/NAME`, which official clients get in their base URL. What comes for another path than the fixture is for, or
/// wants a stream where it is none, is answered with status 404 and the reason. To be given to [`Fake::start`](crate::Fake::start).
#[must_use]
pub fn answer_by_fixture(received: &Received) -> Reply {
    let by_path = || {
        let mut words = received.path.strip_prefix("/fixture/")?.splitn(3, '/');
        Some((words.next()?.to_owned(), words.next()?.to_owned(), format!("/{}", words.next()?)))
    };
    let by_header = || {
        let (kind, name) = received.header("x-fixture")?.split_once('/')?;
        Some((kind.to_owned(), name.to_owned(), received.path.clone()))
    };
    let reason = match by_path().or_else(by_header) {
        None => "no fixture is named: send x-fixture, or begin the path with /fixture/KIND/NAME".to_owned(),
        Some((kind, name, path)) => match fixtures().into_iter().find(|it| it.kind == kind && it.name == name) {
            None => format!("there is no fixture {kind}/{name}"),
            Some(it) if it.ask.path != path || received.method != "POST" => {
                format!("asked by {} {path}", received.method)
            }
            Some(it) if it.ask.stream != it.wants_stream(received) => {
                "a stream for a plain answer, or the reverse".to_owned()
            }
            Some(it) => return it.response().into(),
        },
    };
    Reply::json(404, &[], &serde_json::json!({ "error": { "message": reason } }).to_string())
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"))
}

fn read(kind: &str, path: &Path) -> Fixture {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let fixture = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Fixture { kind: kind.to_owned(), name, ..fixture }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fake;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};

    #[test]
    fn every_kind_has_the_answers_that_its_wire_has() {
        let fixtures = fixtures();
        for kind in KINDS {
            let of_kind = || fixtures.iter().filter(|it| it.kind == kind);
            for stream in [false, true] {
                for end in ["complete", "limit"] {
                    assert!(
                        of_kind().any(|it| it.ask.stream == stream && it.expect.end == end),
                        "{kind} {stream} {end}"
                    );
                }
            }
            assert!(of_kind().any(|it| it.name.contains("reasoning")), "{kind} thinks");
            let refuses = of_kind().any(|it| it.expect.end == "refused" || it.expect.end == "filtered");
            assert_eq!(refuses, kind != "ollama", "{kind}");
            let caches = of_kind().any(|it| it.expect.usage.cached.is_some_and(|tokens| tokens > 0));
            assert_eq!(caches, kind != "ollama", "{kind}");
        }
    }

    #[test]
    fn every_fixture_is_what_it_says() {
        for it in fixtures() {
            let (name, expect) = (format!("{}/{}", it.kind, it.name), &it.expect);
            assert!(["complete", "limit", "refused", "filtered"].contains(&expect.end.as_str()), "{name}");
            assert_eq!(expect.reason.is_none(), expect.end == "complete", "{name}: a reason unless complete");
            assert!(expect.end != "complete" || !expect.text.is_empty(), "{name}: text if complete");
            assert_eq!(it.name.starts_with("stream-"), it.ask.stream, "{name}: streams are named so");
            assert!(it.ask.path.starts_with('/') && it.status == 200 && !it.about.is_empty(), "{name}");
            assert!(it.headers.iter().any(|(header, _)| header == "content-type"), "{name}");
            let Usage { input, cached, cache_write, output, reasoning } = expect.usage;
            assert!(
                input.unwrap_or(u64::MAX) >= cached.unwrap_or(0) + cache_write.unwrap_or(0),
                "{name}: parts of input"
            );
            assert!(output.unwrap_or(u64::MAX) >= reasoning.unwrap_or(0), "{name}: parts of output");
            assert_eq!(it.response().body(), it.body.concat().into_bytes(), "{name}");
        }
    }

    #[test]
    fn a_request_gets_the_fixture_it_names_if_it_asks_for_it() {
        let chat = "/v1/chat/completions";
        let fake = Fake::start(answer_by_fixture);
        for (path, header, body, expected) in [
            ("/fixture/openai-chat/plain-limit/v1/chat/completions", "a: b", "{}", "HTTP/1.1 200"),
            ("/fixture/openai-chat/plain-limit/chat/completions", "a: b", "{}", "HTTP/1.1 404"),
            ("/fixture/openai-chat/plain-limit/v1/chat/completions", "a: b", r#"{"stream":true}"#, "HTTP/1.1 404"),
            ("/fixture/openai-chat/../v1/chat/completions", "a: b", "{}", "HTTP/1.1 404"),
            ("/fixture/", "a: b", "{}", "HTTP/1.1 404"),
            (chat, "x-fixture: openai-chat/stream-limit", r#"{"stream":true}"#, "HTTP/1.1 200"),
            (chat, "x-fixture: openai-chat/stream-limit", r#"{"stream":false}"#, "HTTP/1.1 404"),
            ("/api/chat", "x-fixture: ollama/stream-limit", "{}", "HTTP/1.1 200"),
            (chat, "a: b", "{}", "HTTP/1.1 404"),
        ] {
            let mut stream = TcpStream::connect(fake.address()).unwrap();
            write!(stream, "POST {path} HTTP/1.1\r\n{header}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(text.starts_with(expected), "{path} {header}: {text}");
        }
    }
}
