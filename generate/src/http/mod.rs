//! Providers that are reached over HTTP.
//!
//! Each request has a connection of its own: one that was kept could be closed by its server just when it is used again, and then
//! nobody could tell whether the request was seen, and billed. Beside the time an answer takes, connecting takes little.

mod exchange;
mod names;

use std::time::{Duration, Instant};

use capibara_policies::format_duration;
use futures_util::future::LocalBoxFuture;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use self::exchange::{Bounds, Broken, Exchange, Head};
pub use self::names::use_own_resolver;
use crate::answer::{Answer, Attempt, AttemptEnd, End, Request, Usage};
use crate::budget::{Budget, Charge, Reservation};
use crate::cassette::{Sent, Wiring};
use crate::error::{ErrorKind, Phase, ProviderError};
use crate::key::{Key, KeyError};
use crate::price::Prices;
use crate::profile::{Profile, Rates, Timeouts};
use crate::provider::{Drafts, Event, Provider, Sink};
use crate::rate::{Gate, NotNow, Pass};
use crate::retry::{self, Allowance, Next};
use crate::wire::{KeyHeader, Outgoing, ReadAnswer, Reader, Wire, wire};

/// What is kept of the body of a response that is no answer.
const LARGEST_FAILURE: usize = 64 << 10;

/// What of it is shown.
const SHOWN_FAILURE: usize = 2 << 10;

/// What is in the name of a header that holds a secret, for a gateway on the way, say. Its value is masked as a key is.
const SECRET_NAMES: [&str; 6] = ["auth", "credential", "key", "password", "secret", "token"];

/// One profile, spoken to over HTTP.
#[derive(Debug)]
pub struct HttpProvider {
    profile: Profile,
    wiring: Wiring,
    /// `None` if all comes from a recording.
    client: Option<reqwest::Client>,
    headers: HeaderMap,
    gate: Gate,
    key: OnceCell<Option<Key>>,
}

/// Why a profile cannot be spoken to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The profile does not name a model.
    #[error("the profile `{profile}` names no model")]
    NoModel {
        /// Name of the profile.
        profile: String,
    },
    /// HTTP cannot be had, for example as there are no certificates.
    #[error("`{profile}` cannot be spoken to by HTTP: {reason}")]
    Client {
        /// Name of the profile.
        profile: String,
        /// What is missing.
        reason: String,
    },
}

impl HttpError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoModel { profile } => format!("name one as `{profile}/MODEL`, or by `model:` in models.yaml"),
            Self::Client { .. } => {
                "install the certificates of your system (the package is often called ca-certificates)".into()
            }
        }
    }
}

/// Why a request has no answer, before the profile and earlier attempts are added.
struct Failed {
    error: Box<ProviderError>,
    /// The word of the provider, or ours, on whether to send it again.
    again: Option<bool>,
    /// Whether the provider is known to have done nothing.
    unbilled: bool,
}

impl Failed {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { error: Box::new(ProviderError::new(kind, message)), again: None, unbilled: false }
    }

    fn for_good(self) -> Self {
        Self { again: Some(false), ..self }
    }

    fn unbilled(self) -> Self {
        Self { unbilled: true, ..self }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }
}

/// What is known of a request while it goes on.
#[derive(Default)]
struct Seen {
    status: Option<u16>,
    request_id: Option<String>,
    usage: Usage,
    bytes: u64,
    digest: Option<Sha256>,
    /// What the provider says is left for further requests.
    allowances: Vec<Allowance>,
    /// Why the exchange could not be recorded.
    unrecorded: Option<String>,
}

impl Seen {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.digest.get_or_insert_default().update(bytes);
    }
}

impl HttpProvider {
    /// Makes ready to speak to a profile. Nothing is sent, and the key is read when it is first needed.
    ///
    /// # Errors
    ///
    /// [`HttpError`], with a hint.
    pub fn new(profile: Profile, wiring: &Wiring) -> Result<Self, HttpError> {
        if profile.model().is_empty() {
            return Err(HttpError::NoModel { profile: profile.name });
        }
        let failed = |reason: String| HttpError::Client { profile: profile.name.clone(), reason };
        let client = if wiring.replays() { None } else { Some(client(&profile).map_err(|it| failed(it.to_string()))?) };
        let mut headers = HeaderMap::new();
        for (name, value) in &profile.headers {
            let name: HeaderName = name.parse().map_err(|_| failed("a header of the profile has no name".into()))?;
            let mut value =
                HeaderValue::from_str(value).map_err(|_| failed(format!("the header `{name}` cannot be sent")))?;
            if SECRET_NAMES.iter().any(|it| name.as_str().contains(it)) {
                wiring.redactor().learn_words(value.to_str().unwrap_or_default());
                value.set_sensitive(true);
            }
            headers.append(name, value);
        }
        let gate = wiring.gate(&profile);
        Ok(Self { profile, wiring: wiring.clone(), client, headers, gate, key: OnceCell::new() })
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    fn wire(&self) -> &'static dyn Wire {
        wire(self.profile.kind)
    }

    fn prices(&self) -> Option<Prices> {
        self.profile.prices.as_ref().map(|it| it.prices)
    }

    /// Sends until there is an answer or no more sense in it.
    async fn ask(
        &self,
        request: &Request,
        budget: &Budget,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
    ) -> Result<Answer, ProviderError> {
        let mut sink = Drafts::new(sink);
        let mut attempts = Vec::new();
        let mut waited = Duration::ZERO;
        let mut retries = 0;
        loop {
            let failed = match self.attempt(request, budget, cancel, &mut sink, waited, &mut attempts).await {
                Ok(answer) => return Ok(Answer { attempts, ..answer }),
                Err(failed) => failed,
            };
            let mut error = failed.error;
            let next =
                retry::next(&error.kind, error.status, failed.again, retries, budget.remaining(), retry::jitter());
            let waits = match next {
                Next::GiveUp => Err(None),
                Next::Again(wait) => {
                    sink.drop_drafts();
                    self.wait(wait, &error.message, cancel, &mut sink).await.map_err(Some)
                }
            };
            match waits {
                Ok(wait) => waited = wait,
                Err(canceled) => {
                    error = canceled.map_or(error, |it| it.error);
                    error.profile.clone_from(&self.profile.name);
                    error.attempts = attempts;
                    return Err(*error);
                }
            }
            retries += 1;
        }
    }

    /// Waits before a request, and gives the time it took. A replay only says that it would.
    async fn wait(
        &self,
        wait: Duration,
        why: &str,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
    ) -> Result<Duration, Failed> {
        sink.event(Event::Waiting { profile: &self.profile.name, wait, why });
        if self.wiring.replays() {
            return Ok(Duration::ZERO);
        }
        let begin = Instant::now();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(canceled()),
            () = tokio::time::sleep(wait) => Ok(begin.elapsed()),
        }
    }

    /// Sends one request and reads its response.
    async fn attempt(
        &self,
        request: &Request,
        budget: &Budget,
        cancel: &CancellationToken,
        sink: &mut Drafts<'_>,
        mut waited: Duration,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answer, Failed> {
        if cancel.is_cancelled() {
            return Err(canceled());
        }
        let key = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(canceled()),
            key = self.key() => key?,
        };
        let pass = self.pass(request, budget, cancel, sink, &mut waited).await?;
        let extra = serde_json::to_string(&self.profile.dialect.extra_body).map_or(0, |it| it.len());
        let most_input = request.most_input_tokens().saturating_add(u64::try_from(extra).unwrap_or(u64::MAX));
        let reservation = budget
            .reserve(most_input, request.max_output, self.prices())
            .map_err(|error| Failed::new(ErrorKind::Budget, error.to_string()).with_hint(error.hint()))?;
        let lowered = Request { max_output: reservation.max_output(), ..request.clone() };
        let outgoing = self.wire().request(&lowered, &self.profile.dialect);
        let before = usize::try_from(budget.spent().attempts).unwrap_or(usize::MAX).saturating_sub(1);
        sink.event(Event::Sent { profile: &self.profile.name, model: self.profile.model(), before });

        let begin = Instant::now();
        let request_sha256 = hex::encode(Sha256::digest(&outgoing.body));
        let left = budget.remaining().unwrap_or(Duration::MAX);
        let total = self.profile.timeouts.total.min(left);
        let timeouts = Timeouts { total, ..self.profile.timeouts };
        let bounds = Bounds { cancel, until: tokio::time::Instant::now() + total, timeouts };
        let mut seen = Seen::default();
        let result = self.exchange(&lowered, outgoing, key.as_ref(), bounds, &mut seen, sink).await;
        pass.left(std::mem::take(&mut seen.allowances), Instant::now());
        self.tell_gate(&pass, result.as_ref().err(), left);
        let (charge, end) = charged(reservation, &result, &seen.usage);
        pass.took(charge.tokens);
        let attempt = Attempt {
            profile: self.profile.name.clone(),
            model: self.profile.model().to_owned(),
            end,
            status: seen.status,
            request_id: seen.request_id.clone(),
            usage: seen.usage,
            charged_tokens: charge.tokens,
            cost: charge.cost,
            waited,
            took: begin.elapsed(),
            request_sha256,
            response_sha256: seen.digest.map(|it| hex::encode(it.finalize())),
        };
        sink.event(Event::Ended(&attempt));
        attempts.push(attempt);
        let read = result.map_err(|mut failed| {
            let message = [std::mem::take(&mut failed.error.message)].into_iter().chain(seen.unrecorded.take());
            failed.error.message = self.wiring.redactor().text(message.collect::<Vec<_>>().join("; "));
            failed.error.status = seen.status;
            failed.error.request_id.clone_from(&seen.request_id);
            if failed.error.hint.is_none() {
                failed.error.hint = self.hint(&failed.error.kind);
            }
            failed
        })?;
        Ok(Answer {
            end: read.end,
            usage: seen.usage,
            request_id: seen.request_id,
            model: read.model,
            attempts: Vec::new(),
            warnings: read.warnings.into_iter().chain(charge.warning).chain(seen.unrecorded).collect(),
        })
    }

    /// The key, read once in a thread of its own, as a command may take its time.
    async fn key(&self) -> Result<Option<Key>, Failed> {
        if self.wiring.replays() {
            return Ok(None);
        }
        let read = || async {
            let source = self.profile.key.clone();
            let (tells, told) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || tells.send(source.read()));
            let key: Option<Key> = told.await.map_err(|_| None)?.map_err(Some)?;
            if let Some(key) = &key {
                self.wiring.redactor().learn(key);
            }
            Ok(key)
        };
        let failed = |error: Option<KeyError>| match error {
            Some(error) => Failed::new(ErrorKind::Auth, error.to_string()).with_hint(error.hint()),
            None => Failed::new(ErrorKind::Auth, "the key cannot be read"),
        };
        self.key.get_or_try_init(read).await.cloned().map_err(failed)
    }

    /// Waits until a request may be sent.
    async fn pass(
        &self,
        request: &Request,
        budget: &Budget,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
        waited: &mut Duration,
    ) -> Result<Pass, Failed> {
        let input = request.bytes().div_ceil(3);
        loop {
            // In a replay the clock does not go on, so nothing would ever be free again.
            let gate = if self.wiring.replays() { Gate::new(Rates::default()) } else { self.gate.clone() };
            match gate.enter(Instant::now(), input, input.saturating_add(request.max_output)) {
                Ok(pass) => return Ok(pass),
                Err(NotNow::Open(wait)) => {
                    let message = format!("it failed too often and is not asked for {} more seconds", wait.as_secs());
                    return Err(Failed::new(ErrorKind::Overloaded { wait: Some(wait) }, message).for_good());
                }
                Err(NotNow::Wait(wait)) => {
                    let why = "its rate is used up";
                    if wait > retry::WORTH_WAITING || budget.remaining().is_some_and(|it| wait >= it) {
                        let message = format!("{why} for {} more seconds", wait.as_secs_f64().ceil());
                        return Err(Failed::new(ErrorKind::Rate { wait: Some(wait) }, message).for_good());
                    }
                    *waited += self.wait(wait, why, cancel, sink).await?;
                }
            }
        }
    }

    /// Tells what others have to know before they ask the same provider.
    fn tell_gate(&self, pass: &Pass, failed: Option<&Failed>, left: Duration) {
        let now = Instant::now();
        let Some(kind) = failed.map(|it| &it.error.kind) else {
            return pass.succeeded();
        };
        if let Some(wait) = retry::asked_by(kind) {
            pass.hold(wait, now);
        }
        match kind {
            ErrorKind::Timeout { phase: Phase::Total } if left < self.profile.timeouts.total => {}
            ErrorKind::Connect
            | ErrorKind::Timeout { .. }
            | ErrorKind::Cut { .. }
            | ErrorKind::Overloaded { .. }
            | ErrorKind::Server { .. }
            | ErrorKind::Protocol => pass.failed(now),
            ErrorKind::Auth
            | ErrorKind::NoModel
            | ErrorKind::BadRequest
            | ErrorKind::TooLarge
            | ErrorKind::Rate { .. }
            | ErrorKind::Quota
            | ErrorKind::Truncated => pass.succeeded(),
            ErrorKind::Canceled | ErrorKind::Budget | ErrorKind::Unavailable => {}
        }
    }

    /// Sends a request and reads its response to the end.
    async fn exchange(
        &self,
        request: &Request,
        outgoing: Outgoing,
        key: Option<&Key>,
        bounds: Bounds<'_>,
        seen: &mut Seen,
        sink: &mut Drafts<'_>,
    ) -> Result<ReadAnswer, Failed> {
        let url = self.profile.base_url.join(&outgoing.path);
        let url =
            url.map_err(|_| Failed::new(ErrorKind::BadRequest, "the model's name makes no address").unbilled())?;
        let body = String::from_utf8(outgoing.body)
            .map_err(|_| Failed::new(ErrorKind::BadRequest, "the request is no text").unbilled())?;
        let headers = self.headers(&outgoing.headers)?;
        // As in a recording, which holds no secrets.
        let masked = |value: &HeaderValue| self.wiring.redactor().text(String::from_utf8_lossy(value.as_bytes()));
        let shown = headers.iter().map(|(name, value)| (name.to_string(), masked(value)));
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let sent = Sent::new(path, shown.collect(), body.clone());
        let live = self.client.as_ref().map(|client| {
            let request = client.post(url).headers(headers).headers(self.key_headers(key));
            request.header(CONTENT_TYPE, "application/json").body(body)
        });
        let begun = Exchange::begin(&self.wiring, &self.profile.name, sent, live, bounds).await;
        let (head, mut exchange) = begun.map_err(|it| broken(&it, 0, bounds.timeouts))?;
        seen.status = Some(head.status);
        seen.allowances = retry::allowances(&head.headers, head.received).collect();
        let id = self.wire().request_id_header().and_then(|it| retry::text(&head.headers, it));
        seen.request_id = id.map(|it| self.wiring.redactor().text(it));
        let (result, ended) = self.read(request, &head, &mut exchange, seen, sink).await;
        seen.unrecorded = exchange.end(ended.as_ref().copied()).err();
        result
    }

    /// Reads a body: what it means, and how its bytes ended.
    async fn read(
        &self,
        request: &Request,
        head: &Head,
        exchange: &mut Exchange<'_>,
        seen: &mut Seen,
        sink: &mut Drafts<'_>,
    ) -> (Result<ReadAnswer, Failed>, Result<bool, Broken>) {
        if (300..400).contains(&head.status) {
            return (Err(redirected(head, &self.profile)), Ok(false));
        }
        if head.status != 200 {
            let (body, ended) = failure_body(exchange, seen).await;
            return (Err(self.failure(head, body, seen)), ended);
        }
        if let Some(coding) = head.headers.get(CONTENT_ENCODING).filter(|it| *it != "identity") {
            let coding = String::from_utf8_lossy(coding.as_bytes()).chars().take(32).collect::<String>();
            let message = format!("the response is packed ({}), which was not asked for", coding.escape_debug());
            return (Err(Failed::new(ErrorKind::Protocol, message).for_good()), Ok(false));
        }
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).map(str::to_ascii_lowercase);
        let mut reader = self.wire().reader(request, &self.profile.dialect, content_type.as_deref());
        let mut beginning = Vec::new();
        let (result, ended) = self.read_answer(reader.as_mut(), exchange, seen, sink, &mut beginning).await;
        seen.usage = reader.usage();
        let result = match result {
            Ok(read) => {
                let masked = |text: String| self.wiring.redactor().text(text);
                seen.request_id = seen.request_id.take().or_else(|| read.request_id.map(masked));
                Ok(ReadAnswer {
                    end: masked_end(read.end, masked),
                    model: read.model.map(masked),
                    request_id: None,
                    warnings: read.warnings.into_iter().map(masked).collect(),
                })
            }
            Err(mut failed) => {
                failed.error.kind = retry::with_wait(failed.error.kind, &head.headers, head.received);
                failed.again = failed.again.or(retry::should_retry(&head.headers));
                failed.error.body = self.shown(beginning);
                Err(failed)
            }
        };
        (result, ended)
    }

    /// Reads the body of a response with status 200.
    async fn read_answer(
        &self,
        reader: &mut dyn Reader,
        exchange: &mut Exchange<'_>,
        seen: &mut Seen,
        sink: &mut Drafts<'_>,
        beginning: &mut Vec<u8>,
    ) -> (Result<ReadAnswer, Failed>, Result<bool, Broken>) {
        let redactor = self.wiring.redactor();
        while !reader.done() {
            let packet = match exchange.packet().await {
                Ok(Some(packet)) => packet,
                Ok(None) => return (finished(reader), Ok(true)),
                Err(error) => {
                    return (Err(broken(&error, seen.bytes, exchange.timeouts())), Err(error));
                }
            };
            seen.take(&packet);
            let room = SHOWN_FAILURE.saturating_sub(beginning.len());
            beginning.extend(packet.iter().take(room));
            let pushed = reader.push(&packet, &mut |text| sink.event(Event::Draft(&redactor.text(text))));
            if let Err(error) = pushed {
                return (Err(Failed::new(error.kind, error.message)), Ok(false));
            }
        }
        (finished(reader), Ok(false))
    }

    /// What a response with another status means.
    fn failure(&self, head: &Head, body: Vec<u8>, seen: &mut Seen) -> Failed {
        let failure = self.wire().failure(head.status, &body);
        let redactor = self.wiring.redactor();
        let mut kind = retry::with_wait(failure.kind, &head.headers, head.received);
        if (200..300).contains(&head.status) {
            kind = ErrorKind::Protocol;
        }
        let mut failed = Failed::new(kind, failure.message);
        failed.again = retry::should_retry(&head.headers);
        // What the provider turned away, or had no room for, it did not do.
        failed.unbilled = matches!(head.status, 503 | 529 | 400..=407 | 410..=499);
        failed.error.body = self.shown(body);
        seen.request_id = seen.request_id.take().or_else(|| failure.request_id.map(|it| redactor.text(it)));
        failed
    }

    /// The beginning of a body, with keys masked.
    fn shown(&self, mut body: Vec<u8>) -> String {
        self.wiring.redactor().mask(&mut body);
        body.truncate(SHOWN_FAILURE);
        String::from_utf8_lossy(&body).into_owned()
    }

    /// All headers but that of the key.
    fn headers(&self, of_kind: &[(&'static str, String)]) -> Result<HeaderMap, Failed> {
        let mut headers = HeaderMap::new();
        for (name, value) in of_kind {
            let value = HeaderValue::from_str(value).map_err(|_| {
                Failed::new(ErrorKind::BadRequest, format!("the header `{name}` cannot be sent")).unbilled()
            })?;
            headers.insert(*name, value);
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        Ok(headers)
    }

    /// The header of the key, which is no part of what is shown or recorded.
    fn key_headers(&self, key: Option<&Key>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(key) = key.map(Key::expose) else { return headers };
        let name = match (&self.profile.key_header, self.wire().key_header()) {
            (Some(name), _) => name.parse().unwrap_or(AUTHORIZATION),
            (None, KeyHeader::Bearer) => AUTHORIZATION,
            (None, KeyHeader::Named(name)) => HeaderName::from_static(name),
        };
        let text = if name == AUTHORIZATION { format!("Bearer {key}") } else { key.to_owned() };
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers
    }

    /// What to try after a failure.
    fn hint(&self, kind: &ErrorKind) -> Option<String> {
        let name = &self.profile.name;
        Some(match kind {
            ErrorKind::Auth => format!("check the key of `{name}` and what it is allowed to use"),
            ErrorKind::NoModel => {
                format!("the model `{}` is not offered there; name another as `{name}/MODEL`", self.profile.model())
            }
            ErrorKind::TooLarge => "show less to the model, or choose one with a larger window".into(),
            ErrorKind::Quota => format!("the account of `{name}` has nothing left; waiting does not help"),
            ErrorKind::Connect => format!("is there a server at {}?", self.profile.base_url.origin()),
            ErrorKind::Timeout { phase: Phase::Total } => {
                format!("raise `timeouts: {{total: …}}` of `{name}`, or the deadline")
            }
            ErrorKind::Timeout { phase: Phase::Connect } => format!("raise `timeouts: {{connect: …}}` of `{name}`"),
            ErrorKind::Timeout { phase: Phase::FirstByte } => {
                format!("raise `timeouts: {{first_byte: …}}` of `{name}`")
            }
            ErrorKind::Timeout { phase: Phase::Idle } => format!("raise `timeouts: {{idle: …}}` of `{name}`"),
            ErrorKind::Protocol => format!("check `kind` and `base_url` of `{name}`"),
            ErrorKind::BadRequest
            | ErrorKind::Rate { .. }
            | ErrorKind::Overloaded { .. }
            | ErrorKind::Server { .. }
            | ErrorKind::Cut { .. }
            | ErrorKind::Truncated
            | ErrorKind::Canceled
            | ErrorKind::Budget
            | ErrorKind::Unavailable => return None,
        })
    }
}

impl Provider for HttpProvider {
    fn id(&self) -> &str {
        &self.profile.name
    }

    fn takes_temperature(&self) -> bool {
        self.profile.dialect.temperature
    }

    fn generate<'a>(
        &'a self,
        request: &'a Request,
        budget: &'a Budget,
        cancel: &'a CancellationToken,
        sink: &'a mut dyn Sink,
    ) -> LocalBoxFuture<'a, Result<Answer, ProviderError>> {
        Box::pin(self.ask(request, budget, cancel, sink))
    }
}

/// A client that does nothing by itself: it follows nothing, remembers nothing, unpacks nothing and repeats nothing.
fn client(profile: &Profile) -> reqwest::Result<reqwest::Client> {
    // Whoever comes first decides; there is one provider in the program, so it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(profile.timeouts.connect)
        .user_agent(concat!("capibara/", env!("CARGO_PKG_VERSION")))
        .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]));
    if !profile.environment_proxy {
        client = client.no_proxy();
    }
    if profile.base_url.is_plain() {
        // Without TLS no certificates are needed, and a machine may have none.
        client = client.tls_certs_only([]);
    }
    if let Some(resolver) = names::own_resolver() {
        client = client.dns_resolver(resolver);
    }
    client.build()
}

fn canceled() -> Failed {
    Failed::new(ErrorKind::Canceled, "canceled")
}

/// What it means that there are no more bytes, after so many.
fn broken(broken: &Broken, bytes: u64, timeouts: Timeouts) -> Failed {
    match broken {
        Broken::Unconnected(why) => {
            Failed::new(ErrorKind::Connect, format!("there is no connection: {why}")).unbilled()
        }
        Broken::Cut(why) => {
            Failed::new(ErrorKind::Cut { bytes }, format!("the response was cut after {bytes} bytes: {why}"))
        }
        Broken::Late(phase) => {
            let most = match phase {
                Phase::Connect => timeouts.connect,
                Phase::FirstByte => timeouts.first_byte,
                Phase::Idle => timeouts.idle,
                Phase::Total => timeouts.total,
            };
            let most = Duration::from_millis(u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
            let failed = Failed::new(
                ErrorKind::Timeout { phase: *phase },
                format!("{phase} took too long; it may take {}", format_duration(most)),
            );
            if *phase == Phase::Connect { failed.unbilled() } else { failed }
        }
        Broken::Canceled => canceled(),
        Broken::NotRecorded(why) => Failed::new(ErrorKind::Unavailable, why).unbilled(),
    }
}

/// A response that points elsewhere. Its address is told by the host only: the rest could hold what was sent.
fn redirected(head: &Head, profile: &Profile) -> Failed {
    let target = head.headers.get(LOCATION).and_then(|it| it.to_str().ok());
    let target = target.and_then(|it| profile.base_url.join("").ok()?.join(it).ok());
    let host = target.and_then(|it| it.host_str().map(str::to_owned));
    let message = match host {
        Some(host) => format!("it points to another address, at `{}`, which is not followed", host.escape_debug()),
        None => "it points to another address, which is not followed".into(),
    };
    Failed::new(ErrorKind::Protocol, message)
        .for_good()
        .unbilled()
        .with_hint("if you trust that address, write it as `base_url` of the profile")
}

/// The body of a response that is no answer, as far as it is kept.
async fn failure_body(exchange: &mut Exchange<'_>, seen: &mut Seen) -> (Vec<u8>, Result<bool, Broken>) {
    let mut body = Vec::new();
    loop {
        match exchange.packet().await {
            Ok(Some(packet)) => {
                seen.take(&packet);
                body.extend(packet);
                if body.len() > LARGEST_FAILURE {
                    body.truncate(LARGEST_FAILURE);
                    return (body, Ok(false));
                }
            }
            Ok(None) => return (body, Ok(true)),
            // Its status says enough.
            Err(error) => return (body, Err(error)),
        }
    }
}

fn finished(reader: &mut dyn Reader) -> Result<ReadAnswer, Failed> {
    reader.finish().map_err(|error| Failed::new(error.kind, error.message))
}

/// An end whose texts are masked.
fn masked_end(end: End, masked: impl Fn(String) -> String) -> End {
    match end {
        End::Complete { text } => End::Complete { text: masked(text) },
        End::Limit { reason } => End::Limit { reason: masked(reason) },
        End::Refused { reason } => End::Refused { reason: masked(reason) },
        End::Filtered { reason } => End::Filtered { reason: masked(reason) },
    }
}

/// Settles a call, and says how it ended.
fn charged(reservation: Reservation<'_>, result: &Result<ReadAnswer, Failed>, usage: &Usage) -> (Charge, AttemptEnd) {
    match result {
        Ok(read) => {
            let end = match read.end {
                End::Complete { .. } => AttemptEnd::Complete,
                End::Limit { .. } => AttemptEnd::Limit,
                End::Refused { .. } => AttemptEnd::Refused,
                End::Filtered { .. } => AttemptEnd::Filtered,
            };
            (reservation.settle(usage), end)
        }
        Err(failed) => {
            // Usage of an answer that was cut is not the last word.
            let charge = if failed.unbilled { reservation.release() } else { reservation.keep() };
            (charge, AttemptEnd::Failed(failed.error.kind.clone()))
        }
    }
}
