//! Every fault of the guide for every wire kind, streamed and not: what the provider does, and what comes of it.
//!
//! `GROUPS` are the faults. A group has cases for a kind, or `DOES_NOT_APPLY` says why it has none; the listing of both is a
//! snapshot beside this file.

mod answers;
mod groups;

use std::time::{Duration, Instant};

use capibara_fake::{Fake, Received, Reply};
use capibara_generate::budget::{Budget, Spent};
use capibara_generate::wire::Kind;
use capibara_generate::{Answer, End, ErrorKind, Phase, ProviderError};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;

use self::answers::{KINDS, Way, name};
use crate::rig::*;

/// Cases at a time: most of what they take is waiting, but what measures short times must not have much beside it.
const MANY: usize = 128;
const FEW: usize = 16;
const ONE: usize = 1;

/// No case takes longer, or something waits for ever.
const LONGEST_CASE: Duration = Duration::from_secs(120);

/// Whether something is as it must be, or what is wrong.
type Checked = Result<(), String>;

/// Ends the case if something is not as it must be.
macro_rules! ensure {
    ($holds:expr, $($told:tt)+) => {
        if !$holds {
            return Err(format!($($told)+));
        }
    };
}
use ensure;

/// One group of faults.
struct Group {
    /// Its number in the guide.
    number: u8,
    /// The guide's words, in short.
    words: &'static str,
    /// Its cases for a kind, streamed or not.
    cases: fn(Way) -> Vec<Case>,
    /// How many of its cases run at a time.
    at_once: usize,
}

/// One fault, and what must come of it.
struct Case {
    what: String,
    act: Act,
}

enum Act {
    /// One profile is asked once.
    Ask(Box<Ask>),
    /// Something else is done.
    Do(LocalBoxFuture<'static, Checked>),
}

/// What a fake does when it is asked, and what comes of it.
struct Ask {
    /// Each answers one request, the last all that follow.
    replies: Vec<Reply>,
    /// Further lines of the profile.
    more: String,
    /// The outcome, as [`outcome`] tells it.
    outcome: String,
    /// The text of a complete answer.
    text: String,
    /// How many requests are made.
    requests: usize,
    /// Whether what was shown as draft is the text in the end. It is not where pieces come out of order.
    in_order: bool,
    /// What else must hold.
    also: Vec<Also>,
}

type Also = Box<dyn Fn(&Seen) -> Checked>;

/// What a case sees.
struct Seen {
    asked: Asked,
    requests: Vec<Received>,
    spent: Spent,
    took: Duration,
}

impl Seen {
    /// The answer.
    fn answer(&self) -> Result<&Answer, String> {
        self.asked.result.as_ref().map_err(|error| format!("no answer: {error:?}"))
    }

    /// The failure.
    fn error(&self) -> Result<&ProviderError, String> {
        self.asked.result.as_ref().err().ok_or_else(|| format!("an answer: {:?}", self.asked))
    }
}

impl Case {
    fn asking(
        what: impl Into<String>,
        replies: impl IntoIterator<Item = impl Into<Reply>>,
        outcome: impl Into<String>,
        requests: usize,
    ) -> Self {
        let ask = Ask {
            replies: replies.into_iter().map(Into::into).collect(),
            more: String::new(),
            outcome: outcome.into(),
            text: String::new(),
            requests,
            in_order: true,
            also: Vec::new(),
        };
        Self { what: what.into(), act: Act::Ask(Box::new(ask)) }
    }

    /// It ends with a complete answer that is this text.
    fn completes(
        what: impl Into<String>,
        replies: impl IntoIterator<Item = impl Into<Reply>>,
        text: impl Into<String>,
        requests: usize,
    ) -> Self {
        Self::asking(what, replies, "complete", requests).changed(|it| it.text = text.into())
    }

    /// Every request is answered alike, and the call fails with that kind after so many.
    fn fails(what: impl Into<String>, reply: impl Into<Reply>, kind: &str, requests: usize) -> Self {
        Self::asking(what, [reply], kind, requests)
    }

    /// Anything that is not one call of one profile.
    fn doing(what: impl Into<String>, act: impl Future<Output = Checked> + 'static) -> Self {
        Self { what: what.into(), act: Act::Do(Box::pin(act)) }
    }

    /// With further lines of the profile.
    fn with(self, more: impl Into<String>) -> Self {
        self.changed(|it| it.more = more.into())
    }

    /// And this holds besides.
    fn also(self, holds: impl Fn(&Seen) -> Checked + 'static) -> Self {
        self.changed(|it| it.also.push(Box::new(holds)))
    }

    /// Drafts come in another order than the text.
    fn out_of_order(self) -> Self {
        self.changed(|it| it.in_order = false)
    }

    fn changed(mut self, change: impl FnOnce(&mut Ask)) -> Self {
        if let Act::Ask(ask) = &mut self.act {
            change(ask);
        }
        self
    }
}

/// What came of a call, in a few words: `complete`, `limit max_tokens`, `cut`, `timeout idle`.
fn outcome(result: &Result<Answer, ProviderError>) -> String {
    match result.as_ref().map(|it| &it.end) {
        Ok(End::Complete { .. }) => "complete".to_owned(),
        Ok(End::Limit { reason }) => format!("limit {reason}"),
        Ok(End::Refused { reason }) => format!("refused {reason}"),
        Ok(End::Filtered { reason }) => format!("filtered {reason}"),
        Err(ProviderError { kind: ErrorKind::Timeout { phase }, .. }) => {
            let phase = match phase {
                Phase::Connect => "connect",
                Phase::FirstByte => "first_byte",
                Phase::Idle => "idle",
                Phase::Total => "total",
            };
            format!("timeout {phase}")
        }
        Err(error) => error.kind.name().to_owned(),
    }
}

impl Ask {
    async fn run(self, way: Way) -> Checked {
        let replies = self.replies;
        let fake = Fake::start(move |received| replies[received.number.min(replies.len() - 1)].clone());
        let provider = provider(way.profile("p", &fake.url(), &self.more));
        let (budget, begin) = (Budget::default(), Instant::now());
        let asked = ask_within(&provider, &budget).await;
        let took = begin.elapsed();
        let seen = Seen { asked, requests: fake.requests(), spent: budget.spent(), took };
        let told = || format!("{:?}", seen.asked);
        let came = outcome(&seen.asked.result);
        ensure!(came == self.outcome, "{came} in place of {}: {}", self.outcome, told());
        ensure!(
            seen.requests.len() == self.requests,
            "{} requests in place of {}: {}",
            seen.requests.len(),
            self.requests,
            told()
        );
        let attempts = match &seen.asked.result {
            Ok(answer) => &answer.attempts,
            Err(error) => &error.attempts,
        };
        ensure!(attempts.len() == self.requests, "{} attempts: {}", attempts.len(), told());
        match &seen.asked.result {
            Ok(answer) => {
                let text = answer.text().unwrap_or_default();
                ensure!(text == self.text, "another text than {:?}: {}", self.text, told());
                let kept = seen.asked.drafts.rsplit('|').next().unwrap_or_default();
                let shown = if way.stream { text } else { "" };
                let complete = came == "complete" && self.in_order;
                ensure!(!complete || kept == shown, "drafts that are not the text: {}", told());
            }
            Err(error) => {
                ensure!(error.profile == "p" && !error.message.is_empty(), "nothing is said: {}", told());
                ensure!(error.body.len() <= 2 << 10, "a body of {} bytes", error.body.len());
            }
        }
        self.also.iter().try_for_each(|holds| holds(&seen).map_err(|wrong| format!("{wrong}: {}", told())))
    }
}

/// Runs the cases, so many at a time, and gives what is wrong with those that fail.
async fn failures(cases: Vec<(String, Way, Case)>, at_once: usize) -> Vec<String> {
    let run = |(place, way, case): (String, Way, Case)| async move {
        let what = case.what;
        let act = async {
            match case.act {
                Act::Ask(ask) => ask.run(way).await,
                Act::Do(act) => act.await,
            }
        };
        let came = tokio::time::timeout(LONGEST_CASE, act).await;
        let wrong = came.unwrap_or_else(|_| Err("it does not end".to_owned())).err()?;
        Some(format!("{place}, {what}: {}", wrong.chars().take(3_000).collect::<String>()))
    };
    futures_util::stream::iter(cases).map(run).buffer_unordered(at_once).filter_map(|it| async { it }).collect().await
}

/// Groups that a kind cannot have, and why.
const DOES_NOT_APPLY: &[(u8, &[Kind], &str)] = &[
    (10, &[Kind::Ollama], "its wire has no word for a refusal"),
    (
        24,
        &[Kind::OpenaiResponses, Kind::OpenaiChat, Kind::Anthropic, Kind::Gemini],
        "it refuses a question that is too long",
    ),
    (
        25,
        &[Kind::OpenaiResponses, Kind::Anthropic, Kind::Gemini, Kind::Ollama],
        "only llama.cpp answers so, which speaks chat completions",
    ),
];

/// Why a cell is empty, if it must be.
fn does_not_apply(group: u8, kind: Kind) -> Option<&'static str> {
    DOES_NOT_APPLY.iter().find(|(number, kinds, _)| *number == group && kinds.contains(&kind)).map(|it| it.2)
}

fn ways(kind: Kind) -> [Way; 2] {
    [true, false].map(|stream| Way { kind, stream })
}

#[test]
fn every_fault_has_its_outcome_for_every_kind() {
    let (mut all, mut wrong) = (0, Vec::new());
    for at_once in [MANY, FEW, ONE] {
        let mut cases = Vec::new();
        for group in groups::GROUPS.iter().filter(|it| it.at_once == at_once) {
            for kind in KINDS {
                let before = cases.len();
                for way in ways(kind) {
                    let place = format!("{} ({}), {way}", group.number, group.words);
                    cases.extend((group.cases)(way).into_iter().map(|case| (place.clone(), way, case)));
                }
                if (cases.len() > before) == does_not_apply(group.number, kind).is_some() {
                    wrong.push(format!("{} {}: cases or a reason for none, not both", group.number, name(kind)));
                }
            }
        }
        let (begin, count) = (Instant::now(), cases.len());
        wrong.extend(run(failures(cases, at_once)));
        println!("{count} cases, {at_once} at a time: {:.1} s", begin.elapsed().as_secs_f64());
        all += count;
    }
    assert!(wrong.is_empty(), "{} of {all} cases fail:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_is_listed() {
    let numbers: Vec<u8> = groups::GROUPS.iter().map(|it| it.number).collect();
    assert_eq!(numbers, (1..=28).collect::<Vec<u8>>());
    let mut listing = String::from("group | kind | stream cases | plain cases\n");
    let mut sum = 0;
    for group in groups::GROUPS {
        listing += &format!("{} {}\n", group.number, group.words);
        for kind in KINDS {
            let [stream, plain] = ways(kind).map(|way| (group.cases)(way).len());
            sum += stream + plain;
            let cell = match does_not_apply(group.number, kind) {
                Some(reason) => format!("does not apply: {reason}"),
                None => format!("{stream:>3} | {plain:>3}"),
            };
            listing += &format!("{:>2} | {:<16} | {cell}\n", group.number, name(kind));
        }
    }
    listing += &format!("{sum} cases\n");
    insta::assert_snapshot!("table", listing);
}
