//! From a sentence to a checked script.
//!
//! A language model writes a script, which is scanned, run in the sandbox and checked; what really happened is fed back. A
//! model is reached by a [`Provider`]: an HTTP API of one of five wire kinds, described by a [`Profile`](profile::Profile), which is data.
//! Only a complete answer is ever used, and nothing that a model says widens what its user granted.

#![forbid(unsafe_code)]

mod answer;
pub mod asks;
pub mod budget;
pub mod cassette;
pub mod chain;
pub mod checks;
mod error;
pub mod extract;
pub mod facts;
pub mod feedback;
pub mod flow;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod key;
pub mod parse;
pub mod price;
pub mod profile;
pub mod prompt;
mod provider;
mod rate;
pub mod record;
mod retry;
mod section;
pub mod store;
pub mod template;
pub mod wire;

pub use answer::{Answer, Attempt, AttemptEnd, End, Message, Request, Role, Usage};
pub use error::{ErrorKind, Phase, ProviderError};
pub use http::{HttpError, HttpProvider, use_own_resolver};
pub use provider::{Event, Provider, Sink};
