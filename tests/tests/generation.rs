//! From the bytes of a provider to the scanner: nothing that is not a whole answer gets there.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use capibara::{Job, Outcome, Scan, Script};
use capibara_fake::{Fixture, fixtures};
use capibara_generate::budget::Budget;
use capibara_generate::checks::Checks;
use capibara_generate::facts::{Facts, RuntimeFacts};
use capibara_generate::flow::{Flow, Input, Sandbox, SandboxError, Task};
use capibara_generate::parse::SandboxParser;
use capibara_generate::prompt::{Prompt, PromptParts};
use capibara_generate::template::{DEFAULT_TEMPLATE, template};
use capibara_generate::wire::{Dialect, Kind, wire};
use capibara_generate::{Answer, End, ErrorKind, Provider, ProviderError, Request, Sink};
use capibara_tests::engine;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

/// A provider that reads the next of these bytes as its wire kind does.
struct Bytes<'a> {
    fixture: Cell<&'a Fixture>,
    body: RefCell<Vec<u8>>,
    /// Where packets end.
    packet: Cell<usize>,
}

fn kind(fixture: &Fixture) -> Kind {
    match fixture.kind.as_str() {
        "openai-responses" => Kind::OpenaiResponses,
        "openai-chat" | "groq" => Kind::OpenaiChat,
        "anthropic" => Kind::Anthropic,
        "gemini" => Kind::Gemini,
        "ollama" => Kind::Ollama,
        other => panic!("no kind {other}"),
    }
}

fn dialect(fixture: &Fixture) -> Dialect {
    Dialect {
        model: "m".into(),
        stream: fixture.ask.stream,
        temperature: true,
        seed: true,
        include_usage: true,
        finish_required: true,
        max_output_field: "max_tokens".into(),
        context: None,
        extra_body: serde_json::Map::new(),
    }
}

impl Bytes<'_> {
    fn read(&self, request: &Request) -> Result<Answer, Box<ProviderError>> {
        let fixture = self.fixture.get();
        let media_type = fixture.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let media_type = media_type.map(|(_, value)| value.to_ascii_lowercase());
        let mut reader = wire(kind(fixture)).reader(request, &dialect(fixture), media_type.as_deref());
        let failed =
            |error: capibara_generate::wire::WireError| Box::new(ProviderError::new(error.kind, error.message));
        let body = self.body.borrow();
        for packet in body.chunks(self.packet.get()) {
            if reader.done() {
                break;
            }
            reader.push(packet, &mut |_| {}).map_err(failed)?;
        }
        let read = reader.finish().map_err(failed)?;
        let (usage, request_id) = (reader.usage(), read.request_id);
        Ok(Answer {
            end: read.end,
            usage,
            request_id,
            model: read.model,
            attempts: Vec::new(),
            warnings: read.warnings,
        })
    }
}

impl Provider for Bytes<'_> {
    fn id(&self) -> &str {
        "bytes"
    }

    fn takes_temperature(&self) -> bool {
        false
    }

    fn generate<'a>(
        &'a self,
        request: &'a Request,
        _: &'a Budget,
        _: &'a CancellationToken,
        _: &'a mut dyn Sink,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ProviderError>> + 'a>> {
        Box::pin(std::future::ready(self.read(request).map_err(|error| *error)))
    }
}

/// Notes what comes to the scanner, and runs it.
#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Sandbox for Noted {
    fn scan(&self, script: &str) -> Arc<Scan> {
        self.0.lock().expect("a list").push(script.to_owned());
        engine().scan(&Job::new(Script::Code(script.into())))
    }

    fn run(&self, script: &str, _: Input<'_>) -> Result<Outcome, SandboxError> {
        Ok(engine().run_blocking(Job::python(script))?)
    }
}

/// Runs a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn of_ten_thousand_cut_answers_none_comes_to_the_scanner() {
    const CUTS: usize = 10_000;
    let all = fixtures();
    let modules = vec!["json".to_owned()];
    let runtime = RuntimeFacts { language: "Python", version: "3.13".into(), sha256: "0".into(), modules };
    let facts = Facts::of(runtime, &Job::python("")).expect("facts");
    let (checks, template) = (Checks::new(), template(DEFAULT_TEMPLATE).expect("a template"));
    let parts = PromptParts { facts: &facts, template, task: "print it", shown: &[], checks: &checks };
    // Short, as the fixtures tell of short questions, and a provider that used less than was sent is found out.
    let prompt = Prompt { system: String::new(), user: "print it".into(), ..Prompt::new(&parts).expect("a prompt") };
    let mut parser = SandboxParser::new(engine());
    let (budget, cancel) = (Budget::default(), CancellationToken::new());
    let first = all.first().expect("fixtures");
    let provider = Bytes { fixture: Cell::new(first), body: RefCell::default(), packet: Cell::new(1) };
    let mut ask = |fixture, body: &[u8], packet: usize| {
        provider.fixture.set(fixture);
        provider.packet.set(packet);
        *provider.body.borrow_mut() = body.to_vec();
        let noted = Noted::default();
        let task =
            Task { prompt: &prompt, checks: &checks, run: false, calls: 1, candidates: 1, max_output: 1_000_000 };
        let mut flow =
            Flow { task, provider: &provider, sandbox: &noted, parser: &mut parser, budget: &budget, cancel: &cancel };
        drop(ready(flow.run(&mut |_| {})));
        noted.0.into_inner().expect("a list")
    };
    let request = Request {
        system: prompt.system.clone(),
        messages: Vec::new(),
        max_output: 1_000_000,
        temperature: None,
        seed: None,
    };
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let (mut cut, mut whole) = (0, 0);
    // The controls: what is complete gets there, whole; what is refused, held back or cut by its limit does not.
    for fixture in &all {
        let body = fixture.body.concat();
        let scanned = ask(fixture, body.as_bytes(), 7);
        let complete = fixture.expect.end == "complete";
        assert_eq!(scanned.len(), usize::from(complete), "{}/{}", fixture.kind, fixture.name);
        whole += usize::from(complete);
    }
    assert!(whole > 20, "{whole}");
    while cut < CUTS {
        let fixture = &all[random.next_u32() as usize % all.len()];
        let body = fixture.body.concat().into_bytes();
        let at = random.next_u64() as usize % body.len();
        let body = &body[..at];
        let packet = 1 + random.next_u32() as usize % 64;
        let scanned = ask(fixture, body, packet);
        // A cut behind the mark by which the wire says that the answer is whole takes nothing from it.
        provider.packet.set(body.len().max(1));
        let read = provider.read(&request);
        match read {
            Ok(Answer { end: End::Complete { text }, .. }) => {
                assert_eq!(text, fixture.expect.text, "{}/{} at {at}", fixture.kind, fixture.name);
                assert_eq!(fixture.expect.end, "complete");
            }
            Ok(_) => assert!(scanned.is_empty(), "{}/{} at {at}", fixture.kind, fixture.name),
            Err(error) => {
                let kinds = [ErrorKind::Protocol, ErrorKind::Cut { bytes: at as u64 }];
                assert!(kinds.contains(&error.kind), "{}/{} at {at}: {error:?}", fixture.kind, fixture.name);
                assert!(scanned.is_empty(), "{}/{} at {at}", fixture.kind, fixture.name);
                cut += 1;
            }
        }
    }
    println!("{cut} cut answers and {} fixtures: only whole answers were scanned", all.len());
}
