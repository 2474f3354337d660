//! What an answer is, whole or in pieces, and what ends a call from this side. What breaks on the other side is in `conformance`.

use std::time::{Duration, Instant};

use capibara_fake::{Fake, Reply};
use capibara_generate::{End, ErrorKind, Phase};

use crate::rig::*;

#[test]
fn every_good_answer_is_the_same_in_whole_and_byte_by_byte() {
    run(async {
        for fixture in all_answers() {
            for response in [fixture.response(), fixture.response().split(1)] {
                let fake = Fake::always(response);
                let asked = ask(&provider(profile_for(&fixture, &fake.url(), ""))).await;
                let name = format!("{}/{}", fixture.kind, fixture.name);
                let answer = asked.result.as_ref().unwrap_or_else(|error| panic!("{name}: {error} {error:?}"));
                let (end, text) = match &answer.end {
                    End::Complete { text } => ("complete", Some(text)),
                    End::Limit { .. } => ("limit", None),
                    End::Refused { .. } => ("refused", None),
                    End::Filtered { .. } => ("filtered", None),
                };
                assert_eq!(end, fixture.expect.end, "{name}");
                assert!(text.is_none_or(|it| *it == fixture.expect.text), "{name}: {text:?}");
                let drafted = if fixture.ask.stream { text.map_or(&asked.drafts, |it| it) } else { "" };
                assert_eq!(asked.drafts, drafted, "{name}");
                let usage = fixture.expect.usage;
                assert_eq!((answer.usage.input, answer.usage.output), (usage.input, usage.output), "{name}");
                assert!(
                    fixture.expect.request_id.is_none() || answer.request_id == fixture.expect.request_id,
                    "{name}"
                );
                let [request] = &fake.requests()[..] else { panic!("{name}: more than one request") };
                assert_eq!(request.path, fixture.ask.path, "{name}");
                assert_eq!(request.header("accept-encoding"), Some("identity"), "{name}");
            }
        }
    });
}

#[test]
fn nothing_is_said_before_the_other_side_is_known() {
    // It speaks no TLS, and cannot show a certificate.
    let fake = Fake::always(good());
    run(async {
        let url = fake.url().replace("http:", "https:");
        let asked = ask_within(&provider(chat(&url, "")), &deadline(Duration::from_millis(200))).await;
        assert_eq!(asked.error().kind, ErrorKind::Connect, "{asked:?}");
        assert_eq!(asked.error().attempts[0].charged_tokens, 0);
    });
    assert!(fake.requests().is_empty());
}

#[test]
fn a_deadline_ends_a_call() {
    let silent = Fake::always(Reply::hang());
    run(async {
        let begin = Instant::now();
        let budget = deadline(Duration::from_millis(200));
        let asked = ask_within(&provider(chat(&silent.url(), "")), &budget).await;
        assert_eq!(asked.error().kind, ErrorKind::Timeout { phase: Phase::Total }, "{asked:?}");
        assert!(begin.elapsed() >= Duration::from_millis(200));
        assert!(begin.elapsed() < at_most(Duration::from_millis(300)));
        let again = ask_within(&provider(chat(&silent.url(), "")), &budget).await;
        assert_eq!(again.error().kind, ErrorKind::Budget);
        assert_eq!(silent.requests().len(), 1);
    });
}

#[test]
fn an_answer_is_lowered_to_what_the_budget_has() {
    let fake = Fake::always(good());
    run(async {
        let provider = provider(chat(&fake.url(), ""));
        let input = request().most_input_tokens() + 2;
        for (max_tokens, granted) in [(input + 5_000, Some(1_000)), (input + 600, Some(600)), (input + 511, None)] {
            let caps = capibara_generate::budget::Caps { max_tokens: Some(max_tokens), ..Default::default() };
            let asked = ask_within(&provider, &capibara_generate::budget::Budget::new(caps)).await;
            let sent = fake.take_requests();
            assert_eq!(sent.first().map(|it| it.json()["max_completion_tokens"].as_u64().unwrap()), granted);
            assert!(granted.is_some() || asked.error().kind == ErrorKind::Budget);
        }
        // Money without prices: not a byte is sent.
        let cost = capibara_generate::price::Cost(1_000_000_000);
        let caps = capibara_generate::budget::Caps { max_cost: Some(cost), ..Default::default() };
        let asked = ask_within(&provider, &capibara_generate::budget::Budget::new(caps)).await;
        assert_eq!(asked.error().kind, ErrorKind::Budget);
        assert!(asked.error().hint.as_ref().unwrap().contains("prices"));
        assert_eq!((fake.requests().len(), asked.error().attempts.len()), (0, 0));
    });
}

#[test]
fn a_profile_without_a_model_cannot_be_asked() {
    let mut profile = chat("http://127.0.0.1:1", "");
    profile.dialect.model.clear();
    let error =
        capibara_generate::HttpProvider::new(profile, &capibara_generate::cassette::Wiring::live()).unwrap_err();
    assert_eq!(error.to_string(), "the profile `p` names no model");
    assert!(error.hint().contains("`p/MODEL`"));
}
