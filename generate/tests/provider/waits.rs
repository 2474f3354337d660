//! How long is waited, and how fast is asked. What a provider may say about it is in `conformance`.

use std::time::{Duration, Instant, SystemTime};

use capibara_fake::{Fake, Reply, Response};
use capibara_generate::ErrorKind;
use capibara_generate::budget::Budget;

use crate::rig::*;

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
