//! Several providers, of which some do not answer.

use std::time::Duration;

use capibara_fake::{Dead, Fake, Reply, Response, Step, fixture};
use capibara_generate::budget::Budget;
use capibara_generate::cassette::Wiring;
use capibara_generate::chain::Chain;
use capibara_generate::price::Cost;
use capibara_generate::profile::Profile;
use capibara_generate::{AttemptEnd, ErrorKind, HttpProvider, Provider};
use futures_util::future::join_all;

use crate::rig::*;

fn chain(profiles: impl IntoIterator<Item = Profile>) -> Chain {
    let wiring = Wiring::live();
    let link = |profile| Box::new(HttpProvider::new(profile, &wiring).unwrap()) as Box<dyn Provider>;
    Chain::new(profiles.into_iter().map(link).collect())
}

fn named(name: &str, url: &str, more: &str) -> Profile {
    let prices = "prices: {as_of: 2026-11-29, input: 3, output: 15}";
    let times = "timeouts: {connect: 200ms, first_byte: 300ms, idle: 300ms}";
    let more = if more.is_empty() { format!("{prices}, {times}") } else { format!("{prices}, {times}, {more}") };
    profile_named(name, "openai-chat", &format!("{url}/v1"), &more)
}

#[test]
fn two_providers_are_dead_in_each_of_eight_ways_and_the_third_answers() {
    let json = |status: u16, headers: &[(&str, &str)]| Fake::always(Response::json(status, "{}").headers(headers));
    let refusing = Dead::refusing();
    let never = Dead::never_accepting();
    let fakes = [
        ("timeout", Fake::always(Reply::hang())),
        ("cut", Fake::always(good().broken(good().body().len() / 2, Step::Reset))),
        ("overloaded", json(529, &[])),
        ("server", json(500, &[])),
        ("rate", json(429, &[("retry-after", "3600")])),
        ("auth", json(401, &[])),
    ];
    let mut ways = vec![("connect", refusing.url()), ("timeout", never.url())];
    ways.extend(fakes.iter().map(|(kind, fake)| (*kind, fake.url())));
    let third = Fake::always(good());
    run(async {
        join_all(ways.into_iter().map(|(kind, url)| {
            let chain = chain([named("a", &url, ""), named("b", &url, ""), named("c", &third.url(), "")]);
            async move {
                let budget = Budget::default();
                let asked = ask_within(&chain, &budget).await;
                let answer = asked.answer();
                assert_eq!(answer.text(), Some(good_text().as_str()), "{kind}");
                // Nothing of the first two is in what is shown at the end.
                assert_eq!(asked.drafts.rsplit('|').next(), Some(good_text().as_str()), "{kind}");
                let names: Vec<_> = answer.attempts.iter().map(|it| it.profile.as_str()).collect();
                let each = (names.len() - 1) / 2;
                let expected: Vec<_> = [vec!["a"; each], vec!["b"; each], vec!["c"]].concat();
                assert!(each >= 1 && names == expected, "{kind}: {names:?}");
                for attempt in &answer.attempts[..2 * each] {
                    let AttemptEnd::Failed(failed) = &attempt.end else { panic!("{kind}: {attempt:?}") };
                    assert_eq!(failed.name(), kind);
                }
                assert_eq!(answer.attempts[2 * each].end, AttemptEnd::Complete);
                let cost: Cost = answer.attempts.iter().map(|it| it.cost.unwrap()).sum();
                let tokens: u64 = answer.attempts.iter().map(|it| it.charged_tokens).sum();
                let spent = budget.spent();
                assert_eq!((spent.cost, spent.tokens), (cost, tokens), "{kind}");
                assert_eq!(spent.attempts, names.len() as u64, "{kind}");
                assert!(cost > Cost(0));
            }
        }))
        .await;
    });
}

#[test]
fn a_provider_without_a_valid_key_is_asked_once_in_a_process() {
    let closed = Fake::always(Response::json(401, r#"{"error":{"message":"invalid key"}}"#));
    let open = Fake::always(good());
    run(async {
        let chain = chain([named("a", &closed.url(), ""), named("b", &open.url(), "")]);
        let first = ask(&chain).await;
        assert!(first.told.contains("SwitchedOff { profile: \"a\""), "{}", first.told);
        ask(&chain).await.answer();
        assert_eq!((closed.requests().len(), open.requests().len()), (1, 2));
        // A key that is not there is the same, and nothing is sent.
        let chain = self::chain([
            named("a", &closed.url(), "key: {env: CAPIBARA_NO_SUCH_VARIABLE}"),
            named("b", &open.url(), ""),
        ]);
        let asked = ask(&chain).await;
        assert!(asked.told.contains("which is not set"), "{}", asked.told);
        assert_eq!((closed.requests().len(), asked.answer().attempts.len()), (1, 1));
    });
}

#[test]
fn a_refusal_and_a_bad_request_are_not_shopped_around() {
    let other = Fake::always(good());
    let refused = fixture("openai-chat", "stream-refusal");
    run(async {
        let refusing = Fake::always(refused.response());
        let asked = ask(&chain([named("a", &refusing.url(), ""), named("b", &other.url(), "")])).await;
        assert_eq!(asked.answer().attempts[0].end, AttemptEnd::Refused);
        for status in [400, 413, 422] {
            let fake = Fake::always(Response::json(status, "{}"));
            let asked = ask(&chain([named("a", &fake.url(), ""), named("b", &other.url(), "")])).await;
            assert!(matches!(asked.error().kind, ErrorKind::BadRequest | ErrorKind::TooLarge), "{asked:?}");
        }
    });
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn the_deadline_ends_the_whole_chain() {
    let silent = Fake::always(Reply::hang());
    run(async {
        let chain =
            chain([named("a", &silent.url(), ""), named("b", &silent.url(), ""), named("c", &silent.url(), "")]);
        let asked = ask_within(&chain, &deadline(Duration::from_millis(200))).await;
        assert_eq!(asked.error().kind, ErrorKind::Budget, "{asked:?}");
        assert_eq!((asked.error().attempts.len(), silent.requests().len()), (1, 1));
    });
}
