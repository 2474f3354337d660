//! Several providers, asked one after the other until one answers.

use std::cell::{Cell, RefCell};

use futures_util::future::LocalBoxFuture;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Request};
use crate::budget::Budget;
use crate::error::{ErrorKind, ProviderError};
use crate::provider::{Drafts, Event, Provider, Sink};

/// Providers in the order in which they are asked. What one of them does not do, the next is asked for: whole, as nothing of a text
/// that is not complete is ever used.
pub struct Chain {
    id: String,
    links: Vec<Link>,
    /// The first of them that is asked.
    first: Cell<usize>,
}

struct Link {
    provider: Box<dyn Provider>,
    /// Why it is not asked again.
    off: RefCell<Option<String>>,
}

/// What a failure of one provider means for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next may do better.
    Next,
    /// So it may, and this one will not answer whatever it is asked.
    NextForGood,
    /// No other is to be asked.
    Stop,
}

impl After {
    fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::Auth | ErrorKind::NoModel => Self::NextForGood,
            ErrorKind::Rate { .. }
            | ErrorKind::Quota
            | ErrorKind::Overloaded { .. }
            | ErrorKind::Server { .. }
            | ErrorKind::Connect
            | ErrorKind::Timeout { .. }
            | ErrorKind::Cut { .. }
            | ErrorKind::Protocol
            | ErrorKind::Truncated => Self::Next,
            ErrorKind::BadRequest
            | ErrorKind::TooLarge
            | ErrorKind::Canceled
            | ErrorKind::Budget
            | ErrorKind::Unavailable => Self::Stop,
        }
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chain").field(&self.id).finish()
    }
}

impl Chain {
    /// A chain of these, the first asked first.
    #[must_use]
    pub fn new(providers: Vec<Box<dyn Provider>>) -> Self {
        let id = providers.iter().map(|it| it.id()).collect::<Vec<_>>().join(",");
        let links = providers.into_iter().map(|provider| Link { provider, off: RefCell::new(None) }).collect();
        Self { id, links, first: Cell::new(0) }
    }

    async fn ask(
        &self,
        request: &Request,
        budget: &Budget,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
    ) -> Result<Answer, ProviderError> {
        let mut sink = Drafts::new(sink);
        let mut attempts = Vec::new();
        let mut last = None;
        for link in self.links.iter().skip(self.first.get()) {
            if link.off.borrow().is_some() {
                continue;
            }
            let mut error = match link.provider.generate(request, budget, cancel, &mut sink).await {
                Ok(answer) => {
                    attempts.extend(answer.attempts);
                    return Ok(Answer { attempts, ..answer });
                }
                Err(error) => error,
            };
            attempts.append(&mut error.attempts);
            let after = After::of(&error.kind);
            if after == After::NextForGood {
                sink.event(Event::SwitchedOff { profile: link.provider.id(), why: &error.message });
                *link.off.borrow_mut() = Some(error.message.clone());
            }
            last = Some(error);
            if after == After::Stop {
                break;
            }
            sink.drop_drafts();
        }
        let mut error = last.unwrap_or_else(|| self.unavailable());
        error.attempts = attempts;
        Err(error)
    }

    /// Those that are asked, in their order.
    fn active(&self) -> impl Iterator<Item = (usize, &Link)> {
        self.links.iter().enumerate().skip(self.first.get()).filter(|(_, it)| it.off.borrow().is_none())
    }

    /// Why nobody can be asked.
    fn unavailable(&self) -> ProviderError {
        let off = |link: &Link| Some(format!("{}: {}", link.provider.id(), link.off.borrow().as_ref()?));
        let reasons = self.links.iter().filter_map(off).collect::<Vec<_>>().join("; ");
        let error = |message| ProviderError::new(ErrorKind::Unavailable, message);
        if reasons.is_empty() {
            error("no provider is given".to_owned())
        } else {
            error(format!("no provider can be asked ({reasons})"))
        }
    }
}

impl Provider for Chain {
    fn id(&self) -> &str {
        &self.id
    }

    fn takes_temperature(&self) -> bool {
        self.active().next().is_some_and(|(_, it)| it.provider.takes_temperature())
    }

    fn turn_to_next(&self) -> Option<&str> {
        let (at, next) = self.active().nth(1)?;
        self.first.set(at);
        Some(next.provider.id())
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::answer::{End, Usage};

    /// A provider that fails in one way, or answers.
    struct Scripted {
        name: &'static str,
        fails: Option<ErrorKind>,
        asked: Rc<RefCell<Vec<&'static str>>>,
    }

    impl Provider for Scripted {
        fn id(&self) -> &str {
            self.name
        }

        fn takes_temperature(&self) -> bool {
            self.name == "b"
        }

        fn generate<'a>(
            &'a self,
            _: &'a Request,
            _: &'a Budget,
            _: &'a CancellationToken,
            sink: &'a mut dyn Sink,
        ) -> LocalBoxFuture<'a, Result<Answer, ProviderError>> {
            Box::pin(async move {
                self.asked.borrow_mut().push(self.name);
                sink.event(Event::Draft("half"));
                match &self.fails {
                    Some(kind) => Err(ProviderError::new(kind.clone(), format!("{} failed", self.name))),
                    None => Ok(Answer {
                        end: End::Complete { text: self.name.into() },
                        usage: Usage::default(),
                        request_id: None,
                        model: None,
                        attempts: Vec::new(),
                        warnings: Vec::new(),
                    }),
                }
            })
        }
    }

    fn chain(first: Option<ErrorKind>, second: Option<ErrorKind>) -> (Chain, Rc<RefCell<Vec<&'static str>>>) {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let link = |name, fails| Box::new(Scripted { name, fails, asked: asked.clone() }) as Box<dyn Provider>;
        (Chain::new(vec![link("a", first), link("b", second)]), asked)
    }

    /// Asks once; gives the text or the failure, and the events.
    fn ask(chain: &Chain) -> (Result<String, ErrorKind>, String) {
        let request =
            Request { system: String::new(), messages: Vec::new(), max_output: 1, temperature: None, seed: None };
        let mut events = Vec::new();
        let mut sink = |event: Event<'_>| {
            events.push(match event {
                Event::Draft(_) => "draft".to_owned(),
                Event::Dropped => "dropped".to_owned(),
                Event::SwitchedOff { profile, .. } => format!("{profile} off"),
                other => format!("{other:?}"),
            });
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result =
            runtime.block_on(chain.generate(&request, &Budget::default(), &CancellationToken::new(), &mut sink));
        (result.map(|it| it.text().unwrap().to_owned()).map_err(|it| it.kind), events.join(" "))
    }

    #[test]
    fn what_may_pass_goes_to_the_next_provider() {
        let long = Some(std::time::Duration::from_secs(3_600));
        let phase = crate::Phase::Idle;
        for kind in [
            ErrorKind::Rate { wait: long },
            ErrorKind::Quota,
            ErrorKind::Overloaded { wait: None },
            ErrorKind::Server { wait: None },
            ErrorKind::Connect,
            ErrorKind::Timeout { phase },
            ErrorKind::Cut { bytes: 3 },
            ErrorKind::Protocol,
            ErrorKind::Truncated,
        ] {
            let (chain, asked) = chain(Some(kind), None);
            for _ in 0..2 {
                assert_eq!(ask(&chain), (Ok("b".into()), "draft dropped draft".into()));
            }
            assert_eq!(*asked.borrow(), ["a", "b", "a", "b"]);
        }
    }

    #[test]
    fn a_provider_without_key_or_model_is_not_asked_again() {
        for kind in [ErrorKind::Auth, ErrorKind::NoModel] {
            let (chain, asked) = chain(Some(kind.clone()), None);
            assert!(!chain.takes_temperature());
            assert_eq!(ask(&chain), (Ok("b".into()), "draft a off dropped draft".into()));
            assert!(chain.takes_temperature());
            assert_eq!(ask(&chain), (Ok("b".into()), "draft".into()));
            assert_eq!(*asked.borrow(), ["a", "b", "b"]);
            let (chain, _) = self::chain(Some(kind.clone()), Some(kind.clone()));
            assert_eq!(ask(&chain).0, Err(kind));
            assert_eq!(ask(&chain), (Err(ErrorKind::Unavailable), String::new()));
            assert_eq!(chain.unavailable().message, "no provider can be asked (a: a failed; b: b failed)");
        }
    }

    #[test]
    fn what_no_other_provider_should_answer_stops_the_chain() {
        for kind in
            [ErrorKind::BadRequest, ErrorKind::TooLarge, ErrorKind::Canceled, ErrorKind::Budget, ErrorKind::Unavailable]
        {
            let (chain, asked) = chain(Some(kind.clone()), None);
            assert_eq!(ask(&chain), (Err(kind), "draft".into()));
            assert_eq!(*asked.borrow(), ["a"]);
        }
        assert_eq!(ask(&Chain::new(Vec::new())).0, Err(ErrorKind::Unavailable));
        assert_eq!(chain(None, None).0.id(), "a,b");
    }
}
