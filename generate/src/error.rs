//! Why there is no answer.

use std::fmt;
use std::time::Duration;

use crate::answer::Attempt;

/// The part of a call that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Until the connection stands.
    Connect,
    /// Until the first byte of the response's head.
    FirstByte,
    /// Between two parts of the response.
    Idle,
    /// The whole call.
    Total,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::FirstByte => "waiting for the first byte",
            Self::Idle => "waiting for more of the answer",
            Self::Total => "the whole call",
        })
    }
}

/// What kind of failure, which decides whether to try again, to go to the next provider, or to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is missing, wrong or not allowed (401, 403).
    Auth,
    /// No such model (404).
    NoModel,
    /// The provider does not understand the request (400, 422, and other 4xx).
    BadRequest,
    /// The question is too long for the model or the provider (413, or said by a code).
    TooLarge,
    /// Too many requests or tokens at this time (429).
    Rate {
        /// How long to wait, if the provider says so.
        wait: Option<Duration>,
    },
    /// No money or allowance left; waiting does not help within this run.
    Quota,
    /// The provider has too much to do, or is starting (503, 529).
    Overloaded {
        /// How long to wait, if the provider says so.
        wait: Option<Duration>,
    },
    /// The provider broke down (other 5xx, 408, 409).
    Server {
        /// How long to wait, if the provider says so.
        wait: Option<Duration>,
    },
    /// There is no connection.
    Connect,
    /// It took too long.
    Timeout {
        /// What did.
        phase: Phase,
    },
    /// The response ended before the answer did.
    Cut {
        /// Bytes of the body until then.
        bytes: u64,
    },
    /// The response is not what the wire kind describes, or is larger than allowed, or leads elsewhere.
    Protocol,
    /// The provider used less of the question than was sent.
    Truncated,
    /// The caller canceled it.
    Canceled,
    /// The budget does not allow the call. Nothing was sent.
    Budget,
    /// The chain has no provider that could be asked, or a replay has no such request.
    Unavailable,
}

impl ErrorKind {
    /// The name in JSON and messages: kebab-case is not used, `no_model`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::NoModel => "no_model",
            Self::BadRequest => "bad_request",
            Self::TooLarge => "too_large",
            Self::Rate { .. } => "rate",
            Self::Quota => "quota",
            Self::Overloaded { .. } => "overloaded",
            Self::Server { .. } => "server",
            Self::Connect => "connect",
            Self::Timeout { .. } => "timeout",
            Self::Cut { .. } => "cut",
            Self::Protocol => "protocol",
            Self::Truncated => "truncated",
            Self::Canceled => "canceled",
            Self::Budget => "budget",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why there is no answer. Its texts hold no key.
#[derive(Clone, Debug)]
pub struct ProviderError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// Name of the profile that was asked last; empty if none was.
    pub profile: String,
    /// What happened, a fragment that reads after "the model failed: ".
    pub message: String,
    /// What to try, if there is something.
    pub hint: Option<String>,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// The provider's number for the call.
    pub request_id: Option<String>,
    /// The first 2 KiB of the response's body, keys taken out, lossily decoded.
    pub body: String,
    /// All requests that were made, in order.
    pub attempts: Vec<Attempt>,
}

impl ProviderError {
    /// A failure of that kind, about which nothing else is known yet.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            profile: String::new(),
            message: message.into(),
            hint: None,
            status: None,
            request_id: None,
            body: String::new(),
            attempts: Vec::new(),
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.profile.is_empty() {
            write!(f, "{}: ", self.profile)?;
        }
        f.write_str(&self.message)?;
        if let Some(status) = self.status {
            write!(f, " (HTTP {status})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProviderError {}
