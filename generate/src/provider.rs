//! What offers a model.

use futures_util::future::LocalBoxFuture;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Attempt, Request};
use crate::budget::Budget;
use crate::error::ProviderError;

/// What happens while an answer is waited for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request is sent.
    Sent {
        /// Name of the profile.
        profile: &'a str,
        /// The model.
        model: &'a str,
        /// How many requests were sent before, all providers together.
        before: usize,
    },
    /// More text of an answer that is not complete and may be dropped.
    Draft(&'a str),
    /// What was shown as draft since the last request was sent is void.
    Dropped,
    /// The next request waits.
    Waiting {
        /// Name of the profile.
        profile: &'a str,
        /// For how long.
        wait: Duration,
        /// Why.
        why: &'a str,
    },
    /// A request ended, with what it used.
    Ended(&'a Attempt),
    /// A provider is not asked again in this process.
    SwitchedOff {
        /// Name of the profile.
        profile: &'a str,
        /// Why.
        why: &'a str,
    },
}

/// Hears what happens while an answer is waited for.
pub trait Sink {
    /// It is called on the thread that waits.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Sink for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// Passes events on, and knows whether a draft is shown that may have to be dropped.
pub(crate) struct Drafts<'a> {
    sink: &'a mut dyn Sink,
    shown: bool,
}

impl<'a> Drafts<'a> {
    pub(crate) fn new(sink: &'a mut dyn Sink) -> Self {
        Self { sink, shown: false }
    }

    /// Says that the draft is void, if there is one.
    pub(crate) fn drop_drafts(&mut self) {
        if self.shown {
            self.event(Event::Dropped);
        }
    }
}

impl Sink for Drafts<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Draft(_) => self.shown = true,
            Event::Sent { .. } | Event::Dropped => self.shown = false,
            Event::Waiting { .. } | Event::Ended(_) | Event::SwitchedOff { .. } => {}
        }
        self.sink.event(event);
    }
}

/// Something that answers requests: one profile, or a chain of them.
pub trait Provider {
    /// Name for people and records.
    fn id(&self) -> &str;

    /// Whether `temperature` is sent, so that asking again with more of it makes sense.
    fn takes_temperature(&self) -> bool;

    /// Goes on to the next of several providers for all that is asked from now on, and gives back its name; `None`, which is the
    /// default, if there is none.
    fn turn_to_next(&self) -> Option<&str> {
        None
    }

    /// Asks. Dropping the future, or canceling, closes the connection at once.
    ///
    /// # Errors
    ///
    /// [`ProviderError`], with every request that was made. What was drafted until then is to be dropped.
    fn generate<'a>(
        &'a self,
        request: &'a Request,
        budget: &'a Budget,
        cancel: &'a CancellationToken,
        sink: &'a mut dyn Sink,
    ) -> LocalBoxFuture<'a, Result<Answer, ProviderError>>;
}
