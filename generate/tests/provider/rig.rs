//! What the tests share: profiles that point to a fake, and asking them.

use std::future::Future;
use std::time::Duration;

use capibara_fake::{Fixture, fixture, fixtures};
use capibara_generate::budget::{Budget, Caps};
use capibara_generate::cassette::Wiring;
use capibara_generate::profile::{Profile, Profiles};
use capibara_generate::{Answer, Event, HttpProvider, Message, Provider, ProviderError, Request, Role};
use tokio_util::sync::CancellationToken;

/// The kinds, each with the folder of its fixtures and the path that its base URL ends with.
pub(crate) const KINDS: [(&str, &str, &str); 6] = [
    ("openai-responses", "openai-responses", "/v1"),
    ("openai-chat", "openai-chat", "/v1"),
    ("openai-chat", "groq", "/openai/v1"),
    ("anthropic", "anthropic", "/v1"),
    ("gemini", "gemini", "/v1"),
    ("ollama", "ollama", ""),
];

/// A profile that is read from a file, as a user would write it. `more` are further lines or later values of the same mapping.
pub(crate) fn profile_named(name: &str, kind: &str, base_url: &str, more: &str) -> Profile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("models.yaml");
    let key = if more.contains("key:") { "" } else { ", key: none" };
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    let text = format!("{name}: {{kind: {kind}, base_url: '{base_url}', model: m-1{key}{more}}}\n");
    std::fs::write(&path, &text).unwrap();
    Profiles::read([&path]).unwrap_or_else(|error| panic!("{text}: {error}")).get(name).unwrap()
}

/// A chat profile.
pub(crate) fn chat(url: &str, more: &str) -> Profile {
    profile_named("p", "openai-chat", &format!("{url}/v1"), more)
}

/// The profile that a fixture is an answer to.
pub(crate) fn profile_for(fixture: &Fixture, url: &str, more: &str) -> Profile {
    let (kind, _, path) = KINDS.into_iter().find(|it| it.1 == fixture.kind).unwrap();
    // Gemini has the model in its path.
    let model =
        fixture.ask.path.split_once("/models/").and_then(|(_, rest)| rest.split_once(':')).map_or("m-1", |it| it.0);
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    let more = format!("stream: {}{more}", fixture.ask.stream);
    let mut profile = profile_named("p", kind, &format!("{url}{path}"), &more);
    profile.dialect.model = model.into();
    profile
}

/// One complete answer of each kind, streamed and not.
pub(crate) fn complete_answers() -> Vec<Fixture> {
    let names = ["plain-complete", "stream-complete"];
    KINDS.iter().flat_map(|(_, folder, _)| names.map(|name| fixture(folder, name))).collect()
}

/// All answers of one kind that are complete.
pub(crate) fn all_answers() -> Vec<Fixture> {
    fixtures()
}

/// A short chat answer that is complete.
pub(crate) fn good() -> capibara_fake::Response {
    fixture("openai-chat", "stream-complete").response()
}

/// Its text.
pub(crate) fn good_text() -> String {
    fixture("openai-chat", "stream-complete").expect.text
}

pub(crate) fn provider(profile: Profile) -> HttpProvider {
    HttpProvider::new(profile, &Wiring::live()).unwrap()
}

pub(crate) fn request() -> Request {
    let message = Message { role: Role::User, text: "What is 6 times 7?".into() };
    Request {
        system: "Answer briefly.".into(),
        messages: vec![message],
        max_output: 1_000,
        temperature: None,
        seed: None,
    }
}

/// What came of asking once.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) result: Result<Answer, ProviderError>,
    /// Drafts that were not dropped, `|` where one was.
    pub(crate) drafts: String,
    /// The waits that were announced.
    pub(crate) waits: Vec<Duration>,
    /// Everything that was told, as text.
    pub(crate) told: String,
}

impl Asked {
    /// The failure.
    pub(crate) fn error(&self) -> &ProviderError {
        self.result.as_ref().err().unwrap_or_else(|| panic!("an answer: {:?}", self.result))
    }

    /// The answer.
    pub(crate) fn answer(&self) -> &Answer {
        self.result.as_ref().unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }
}

pub(crate) async fn ask(provider: &dyn Provider) -> Asked {
    ask_within(provider, &Budget::default()).await
}

pub(crate) async fn ask_within(provider: &dyn Provider, budget: &Budget) -> Asked {
    let (mut drafts, mut waits, mut told) = (String::new(), Vec::new(), String::new());
    let mut sink = |event: Event<'_>| {
        told += &format!("{event:?}\n");
        match event {
            Event::Draft(text) => drafts += text,
            Event::Dropped => drafts.push('|'),
            Event::Waiting { wait, .. } => waits.push(wait),
            _ => {}
        }
    };
    let result = provider.generate(&request(), budget, &CancellationToken::new(), &mut sink).await;
    Asked { result, drafts, waits, told }
}

pub(crate) fn deadline(deadline: Duration) -> Budget {
    Budget::new(Caps { deadline: Some(deadline), ..Caps::default() })
}

/// Runs to the end on this thread, as the program does.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How long something may take that should take this long at most: exactly on a quiet machine, with much to spare elsewhere.
pub(crate) fn at_most(bar: Duration) -> Duration {
    if std::env::var_os("CAPIBARA_QUIET").is_some() { bar } else { bar + Duration::from_secs(5) }
}
