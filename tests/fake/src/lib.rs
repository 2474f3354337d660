//! A provider of language models made of bytes: listens on a loopback port, keeps what it is asked, and answers with
//! the writes, pauses and closes it was given.
//!
//! * [`Fake`] is the server. Its script is a closure from a [`Received`] request to a [`Reply`], or a list of replies.
//! * [`Response`] makes a reply of HTTP/1.1: framed, split, slowed, cut or broken at any byte. [`Reply::raw`] makes one of any bytes.
//! * [`Dead`] is an address where nobody answers.
//! * [`fixtures`] are good answers of every wire kind with what they mean; official clients are held against them by
//!   `oracle/check.py`.
//!
//! It knows nothing of TLS, and of HTTP only what clients of models use. Everything is bounded: a request has at most 64 KiB of
//! head and 32 MiB of body, a server keeps 100,000 requests and serves 1,000 connections at a time; it closes what exceeds that.
//! What the tests get wrong, panics.
//!
//! ```
//! use capibara_fake::{Fake, Response, Step};
//!
//! let fake = Fake::start(|received| {
//!     assert_eq!(received.path, "/v1/chat/completions");
//!     Response::sse(["data: {}\n\n", "data: [DONE]\n\n"]).broken(6, Step::Reset).into()
//! });
//! assert!(fake.url().starts_with("http://127.0.0.1:"));
//! assert!(fake.requests().is_empty());
//! ```

#![forbid(unsafe_code)]

mod dead;
mod fixture;
mod received;
mod reply;
mod server;

pub use dead::Dead;
pub use fixture::{Ask, Expect, Fixture, KINDS, Usage, answer_by_fixture, fixture, fixtures};
pub use received::Received;
pub use reply::{Framing, Reply, Response, Step};
pub use server::Fake;
