//! How long is waited, and how fast is asked.

use std::time::{Duration, Instant, SystemTime};

use capibara_fake::{Fake, Reply, Response};
use capibara_generate::budget::Budget;
use capibara_generate::cassette::Wiring;
use capibara_generate::chain::Chain;
use capibara_generate::{AttemptEnd, ErrorKind, HttpProvider, Provider};
use futures_util::future::join_all;

use crate::rig::*;

/// What a response with status 429 says, and the least wait that follows: the backoff's least, 375 ms, or more.
fn asked_waits() -> Vec<(Response, u64)> {
    let plain = || Response::json(429, "{}");
    let after = |value: &str| plain().header("retry-after", value);
    let in_two_seconds = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let info = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"slow down","details":[
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"0.7s"}]}}"#;
    vec![
        (plain(), 375),
        (after("1"), 1_000),
        (after("0.7"), 700),
        // Whole seconds of a date: more than one of the two is left.
        (after(&in_two_seconds), 375),
        (after("Sun, 06 Nov 1994 08:49:37 GMT"), 375),
        (plain().header("retry-after-ms", "650"), 650),
        (plain().header("retry-after-ms", "650").header("retry-after", "30"), 650),
        (after("-3"), 375),
        (after("NaN"), 375),
        (after("soon"), 375),
        (Response::json(429, info), 700),
        (Response::json(429, info).header("retry-after-ms", "800"), 800),
        (plain().header("x-ratelimit-remaining-requests", "0").header("x-ratelimit-reset-requests", "600ms"), 600),
    ]
}

#[test]
fn no_request_comes_earlier_than_its_provider_asked() {
    run(async {
        join_all(asked_waits().into_iter().map(|(response, least)| async move {
            let fake = Fake::replies([response.clone(), good()]);
            let asked = ask(&provider(chat(&fake.url(), ""))).await;
            let requests = fake.requests();
            let [first, second] = &requests[..] else { panic!("{response:?}: {asked:?}") };
            let between = second.at.duration_since(first.at);
            assert!(between >= Duration::from_millis(least), "{response:?}: {between:?}");
            let told: Duration = asked.waits.iter().sum();
            assert!(told >= Duration::from_millis(least), "{response:?}: {:?}", asked.waits);
            assert!(between < at_most(told + Duration::from_millis(50)), "{response:?}: {between:?} of {told:?}");
            let [refused, answered] = &asked.answer().attempts[..] else { panic!("{asked:?}") };
            assert!(matches!(refused.end, AttemptEnd::Failed(ErrorKind::Rate { .. })));
            assert!(refused.waited.is_zero() && answered.waited >= Duration::from_millis(least));
        }))
        .await;
    });
}

#[test]
fn a_date_is_waited_for_to_its_second() {
    run(async {
        let date = SystemTime::now() + Duration::from_secs(2);
        let fake =
            Fake::replies([Response::json(503, "").header("retry-after", &httpdate::fmt_http_date(date)), good()]);
        ask(&provider(chat(&fake.url(), ""))).await.answer();
        let whole = date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(SystemTime::now() >= SystemTime::UNIX_EPOCH + Duration::from_secs(whole));
    });
}

#[test]
fn a_long_wait_goes_to_the_next_provider_at_once() {
    let next = Fake::always(good());
    run(async {
        for value in ["3600", "61", "inf", "1e999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            let busy = Fake::always(Response::json(429, "{}").header("retry-after", value));
            let links = [chat(&busy.url(), ""), profile_named("q", "openai-chat", &format!("{}/v1", next.url()), "")];
            let wiring = Wiring::live();
            let links = links.map(|it| Box::new(HttpProvider::new(it, &wiring).unwrap()) as Box<dyn Provider>);
            let chain = Chain::new(links.into());
            let asked = ask(&chain).await;
            assert_eq!(asked.answer().attempts.len(), 2, "{value}: {asked:?}");
            let (busy, next) = (busy.requests(), next.take_requests());
            assert_eq!((busy.len(), next.len()), (1, 1), "{value}");
            let between = next[0].at.duration_since(busy[0].at);
            assert!(between < at_most(Duration::from_millis(50)), "{value}: {between:?}");
        }
    });
}

#[test]
fn a_wait_longer_than_the_deadline_is_not_begun() {
    let busy = Fake::always(Response::json(429, "{}").header("retry-after", "30"));
    run(async {
        let begin = Instant::now();
        let asked = ask_within(&provider(chat(&busy.url(), "")), &deadline(Duration::from_secs(20))).await;
        assert!(matches!(asked.error().kind, ErrorKind::Rate { wait: Some(wait) } if wait >= Duration::from_secs(30)));
        assert!(asked.waits.is_empty() && begin.elapsed() < at_most(Duration::from_millis(50)));
    });
}

#[test]
fn fifty_calls_at_once_never_exceed_ten_a_minute() {
    let fake = Fake::always(good());
    run(async {
        let wiring = Wiring::live();
        // Two providers of one profile share its rate.
        let both = [1, 2].map(|_| HttpProvider::new(chat(&fake.url(), "rates: {rpm: 10}"), &wiring).unwrap());
        let budget = deadline(Duration::from_secs(30));
        let asked = join_all((0..50).map(|it| ask_within(&both[it % 2], &budget))).await;
        let answered = asked.iter().filter(|it| it.result.is_ok()).count();
        assert_eq!((answered, fake.requests().len()), (10, 10));
        for one in asked.iter().filter(|it| it.result.is_err()) {
            assert!(matches!(one.error().kind, ErrorKind::Rate { wait: Some(_) }), "{one:?}");
            assert_eq!((one.error().attempts.len(), one.error().status), (0, None));
        }
    });
}

#[test]
fn what_a_provider_says_is_left_is_not_exceeded() {
    let plain = Response::sse([good().body()]);
    let said = plain.header("x-ratelimit-remaining-requests", "0").header("x-ratelimit-reset-requests", "400ms");
    let fake = Fake::always(said);
    run(async {
        let provider = provider(chat(&fake.url(), ""));
        ask(&provider).await.answer();
        let second = ask(&provider).await;
        assert_eq!(second.waits.len(), 1, "{second:?}");
        let requests = fake.requests();
        // The head was there a little after the request.
        assert!(requests[1].at.duration_since(requests[0].at) >= Duration::from_millis(400));
        assert!(second.answer().attempts[0].waited >= Duration::from_millis(300));
    });
}

#[test]
fn a_provider_that_keeps_failing_is_left_alone() {
    let fake = Fake::always(Reply::json(500, &[], "{}"));
    run(async {
        let provider = provider(chat(&fake.url(), ""));
        let budget = Budget::default();
        let first = ask_within(&provider, &budget).await;
        let second = ask_within(&provider, &budget).await;
        // Three requests and two: then the circuit is open, and nothing is sent or waited for.
        assert_eq!((first.error().attempts.len(), second.error().attempts.len()), (3, 2), "{second:?}");
        let begin = Instant::now();
        let third = ask_within(&provider, &budget).await;
        assert!(third.error().message.contains("failed too often"), "{third:?}");
        assert!(matches!(third.error().kind, ErrorKind::Overloaded { wait: Some(_) }));
        assert!(third.waits.is_empty() && begin.elapsed() < at_most(Duration::from_millis(50)));
        assert_eq!((fake.requests().len(), budget.spent().attempts), (5, 5));
    });
}
