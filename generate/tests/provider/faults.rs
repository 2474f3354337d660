//! What breaks, what it is called, and how often it is tried.

use std::time::{Duration, Instant};

use capibara_fake::{Dead, Fake, Framing, Reply, Response, Step};
use capibara_generate::{AttemptEnd, End, ErrorKind, Phase, Provider};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

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
fn a_cut_is_tried_once_more_and_its_text_is_dropped() {
    run(async {
        let mut cases = Vec::new();
        for fixture in complete_answers() {
            let length = fixture.response().body().len();
            let first = fixture.body[0].len();
            for at in [0, 1, first - 1, first, first + 1, length / 2, length * 2 / 3] {
                // At least the first event of a stream, and never the end.
                let at = at.min(length - 2);
                for broken in [
                    fixture.response().cut(at),
                    fixture.response().cut(at).framed(Framing::UntilClose),
                    fixture.response().broken(at, Step::Close),
                    fixture.response().broken(at, Step::Reset),
                ] {
                    cases.push((fixture.clone(), at, broken));
                }
            }
        }
        for part in cases.chunks(48) {
            join_all(part.iter().map(|(fixture, at, broken)| async move {
                let fake = Fake::replies([broken.clone(), fixture.response()]);
                let asked = ask(&provider(profile_for(fixture, &fake.url(), ""))).await;
                let name = format!("{}/{} {at}: {asked:?}", fixture.kind, fixture.name);
                let answer = asked.answer();
                assert_eq!(answer.text(), Some(fixture.expect.text.as_str()), "{name}");
                assert_eq!(fake.requests().len(), 2, "{name}");
                let [first, second] = &answer.attempts[..] else { panic!("{name}") };
                // What is no JSON to its end may be called by its other name.
                let kind = match &first.end {
                    AttemptEnd::Failed(kind) => kind.clone(),
                    other => panic!("{name}: {other:?}"),
                };
                assert!(matches!(kind, ErrorKind::Cut { .. } | ErrorKind::Protocol), "{name}: {kind:?}");
                assert!(!fixture.ask.stream || matches!(kind, ErrorKind::Cut { .. }), "{name}: {kind:?}");
                assert_eq!(second.end, AttemptEnd::Complete, "{name}");
                let (dropped, kept) = asked.drafts.rsplit_once('|').unwrap_or(("", &asked.drafts));
                assert_eq!(kept, if fixture.ask.stream { &fixture.expect.text } else { "" }, "{name}");
                assert!(fixture.expect.text.starts_with(dropped), "{name}");
            }))
            .await;
        }
        // And not a third time.
        let fake = Fake::always(good().broken(20, Step::Reset));
        let asked = ask(&provider(chat(&fake.url(), ""))).await;
        assert_eq!((fake.requests().len(), asked.error().attempts.len()), (2, 2));
        assert!(matches!(asked.error().kind, ErrorKind::Cut { bytes: 1..=20 }), "{asked:?}");
    });
}

#[test]
fn what_is_no_answer_is_called_so() {
    run(async {
        let html = "<html><body>Welcome to the hotel's network</body></html>";
        let typed =
            |media_type: &str, body: &str| Response::new(200).header("content-type", media_type).packets([body]);
        for stream in [true, false] {
            join_all(
                [
                    typed("text/html", html),
                    typed("application/json", html),
                    typed("text/event-stream", html),
                    typed("application/json", ""),
                    typed("application/json", "{}"),
                    typed("application/json", "[1]"),
                    typed("text/plain", "ok"),
                    Response::new(200),
                    Response::new(204).framed(Framing::Length),
                    Response::new(206).header("content-type", "application/json").packets(["{}"]),
                ]
                .into_iter()
                .map(|response| async move {
                    let fake = Fake::always(response.clone());
                    let asked = ask(&provider(chat(&fake.url(), &format!("stream: {stream}")))).await;
                    let kind = &asked.error().kind;
                    assert!(matches!(kind, ErrorKind::Protocol | ErrorKind::Cut { .. }), "{response:?}: {asked:?}");
                    assert_eq!(fake.requests().len(), 2, "{response:?}: {asked:?}");
                    assert!(asked.drafts.is_empty());
                }),
            )
            .await;
        }
        // An error in the place of an answer has the kind that it says.
        let fake = Fake::always(Response::json(200, r#"{"error":{"code":"insufficient_quota","message":"no"}}"#));
        let asked = ask(&provider(chat(&fake.url(), ""))).await;
        assert_eq!((&asked.error().kind, fake.requests().len()), (&ErrorKind::Quota, 1), "{asked:?}");
        assert!(asked.error().body.contains("insufficient_quota"));
    });
}

#[test]
fn an_error_inside_a_stream_is_tried_again_if_its_code_says_so() {
    run(async {
        let begin = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n";
        let error = |code: &str| format!("data: {{\"error\":{{\"code\":\"{code}\",\"message\":\"no\"}}}}\n\n");
        let cases = [("server_error", "server", 3), ("rate_limit_exceeded", "rate", 3), ("invalid_api_key", "auth", 1)];
        join_all(cases.map(|(code, kind, requests)| async move {
            let fake = Fake::always(Response::sse([begin.to_owned(), error(code)]));
            let asked = ask(&provider(chat(&fake.url(), ""))).await;
            assert_eq!((asked.error().kind.name(), fake.requests().len()), (kind, requests), "{code}: {asked:?}");
            assert_eq!(asked.drafts, ["half"; 3][..requests].join("|"));
        }))
        .await;
    });
}

#[test]
fn what_the_same_bytes_cannot_change_is_asked_once() {
    run(async {
        let quota = r#"{"error":{"type":"insufficient_quota","code":"credit_balance_exhausted","message":"pay"}}"#;
        let cases = [
            (400, "{}", "bad_request"),
            (401, "{}", "auth"),
            (403, "<html>", "auth"),
            (404, "{}", "no_model"),
            (413, "{}", "too_large"),
            (422, "", "bad_request"),
            (400, r#"{"error":{"code":400,"type":"exceed_context_size_error","n_ctx":64}}"#, "too_large"),
            (402, quota, "quota"),
            (429, quota, "quota"),
        ];
        for (folder, kind, path) in KINDS.map(|(kind, folder, path)| (folder, kind, path)) {
            for (status, body, expected) in cases {
                // Even if they say otherwise.
                let fake = Fake::always(
                    Response::json(status, body).header("x-should-retry", "true").header("retry-after", "0"),
                );
                let profile = profile_named("p", kind, &format!("{}{path}", fake.url()), "");
                let asked = ask(&provider(profile)).await;
                assert_eq!(asked.error().kind.name(), expected, "{folder} {status} {body}: {asked:?}");
                assert_eq!(fake.requests().len(), 1, "{folder} {status} {body}");
                assert_eq!((asked.error().status, asked.error().profile.as_str()), (Some(status), "p"));
                assert_eq!(asked.error().attempts[0].charged_tokens, 0);
            }
        }
    });
}

#[test]
fn servers_in_trouble_are_asked_three_times() {
    run(async {
        let cases = [
            (500, None, "server", 3),
            (502, None, "server", 3),
            (503, None, "overloaded", 3),
            (504, None, "server", 3),
            (529, None, "overloaded", 3),
            (408, None, "server", 3),
            (409, None, "server", 3),
            (500, Some("true"), "server", 3),
            (500, Some("false"), "server", 1),
            (529, Some("false"), "overloaded", 1),
            (429, Some("false"), "rate", 1),
            (418, Some("true"), "bad_request", 3),
            (418, None, "bad_request", 1),
        ];
        join_all(cases.map(|(status, word, kind, requests)| async move {
            let response = Response::new(status).header("content-type", "text/html").packets(["<h1>Oops</h1>"]);
            let fake = Fake::always(word.into_iter().fold(response, |it, word| it.header("x-should-retry", word)));
            let asked = ask(&provider(chat(&fake.url(), ""))).await;
            assert_eq!(
                (asked.error().kind.name(), fake.requests().len()),
                (kind, requests),
                "{status} {word:?}: {asked:?}"
            );
            assert_eq!(asked.error().attempts.len(), requests);
            assert_eq!(asked.error().body, "<h1>Oops</h1>");
        }))
        .await;
    });
}

#[test]
fn a_status_says_enough_if_its_body_is_cut() {
    run(async {
        for by in [Step::Close, Step::Reset] {
            let fake = Fake::always(Response::json(401, "{\"error\": {}}").broken(4, by));
            let asked = ask(&provider(chat(&fake.url(), ""))).await;
            assert_eq!((asked.error().kind.name(), asked.error().status), ("auth", Some(401)), "{asked:?}");
            assert_eq!(fake.requests().len(), 1);
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
fn a_server_that_is_still_loading_is_waited_for() {
    run(async {
        let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
        let fake = Fake::replies([Reply::json(503, &[], loading), Reply::json(503, &[], loading), good().into()]);
        let asked = ask(&provider(chat(&fake.url(), ""))).await;
        assert_eq!(asked.answer().text(), Some(good_text().as_str()));
        assert_eq!((asked.answer().attempts.len(), asked.waits.len()), (3, 2));
    });
}

#[test]
fn the_phase_that_took_too_long_is_named() {
    let silent = Fake::always(Reply::hang());
    let stops = Fake::always(good().broken(10, Step::Hang));
    let head_only = Fake::always(good().broken(0, Step::Hang));
    let drips = Fake::always(good().split(1).pause(Duration::from_millis(20)));
    let dead = Dead::never_accepting();
    run(async {
        join_all(
            [
                (dead.url(), "connect: 150ms", Phase::Connect, 150, 2, "connecting took too long; it may take 150ms"),
                (
                    silent.url(),
                    "first_byte: 200ms",
                    Phase::FirstByte,
                    200,
                    2,
                    "waiting for the first byte took too long",
                ),
                (head_only.url(), "idle: 200ms", Phase::Idle, 200, 2, "waiting for more of the answer took too long"),
                (stops.url(), "idle: 200ms", Phase::Idle, 200, 2, "waiting for more of the answer took too long"),
                (drips.url(), "total: 400ms", Phase::Total, 400, 1, "the whole call took too long; it may take 400ms"),
            ]
            .map(|(url, bound, phase, milliseconds, requests, message)| async move {
                let asked = ask(&provider(chat(&url, &format!("timeouts: {{{bound}}}")))).await;
                assert_eq!(asked.error().kind, ErrorKind::Timeout { phase }, "{asked:?}");
                assert!(asked.error().message.contains(message), "{}", asked.error());
                assert!(asked.error().hint.as_ref().is_some_and(|it| it.contains("timeouts")));
                assert_eq!(asked.error().attempts.len(), requests, "{asked:?}");
                for attempt in &asked.error().attempts {
                    assert!(attempt.took >= Duration::from_millis(milliseconds));
                }
            }),
        )
        .await;
    });
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
fn nothing_is_followed_to_another_address() {
    let other = Fake::always(good());
    run(async {
        for status in [301, 302, 303, 307, 308] {
            for (location, told) in [
                (format!("{}/v1/chat/completions?key=secret", other.url()), "at `127.0.0.1`"),
                ("/v1/elsewhere".to_owned(), "at `127.0.0.1`"),
                ("http://api.evil.example/v1?key=secret".to_owned(), "at `api.evil.example`"),
                ("http://[broken".to_owned(), "another address"),
            ] {
                let fake = Fake::always(Response::new(status).header("location", &location).framed(Framing::Length));
                let asked = ask(&provider(chat(&fake.url(), ""))).await;
                assert_eq!(asked.error().kind, ErrorKind::Protocol, "{status} {location}: {asked:?}");
                assert!(asked.error().message.contains(told), "{}", asked.error());
                assert!(!format!("{:?}", asked.error()).contains("secret"));
                assert_eq!(fake.requests().len(), 1, "{status} {location}");
            }
        }
    });
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_response_without_end_is_given_up() {
    run(async {
        let sse = || Response::new(200).header("content-type", "text/event-stream");
        let long = "x".repeat(1_000);
        let repeat = |bytes: &str, times| Step::Repeat { bytes: bytes.repeat(100).into(), times };
        let delta = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{long}\"}}}}]}}\n\n");
        for (name, response, requests) in [
            ("an event of 10 MiB", sse().packets(["data: "]).step(repeat("xxxxxxxxxx", 10 << 10)), 2),
            ("events without end", sse().step(repeat(&delta, u64::MAX)), 2),
            ("comments without end", sse().step(repeat(&format!(": {long}\n"), u64::MAX)), 2),
            (
                "JSON without end",
                Response::new(200).header("content-type", "application/json").step(repeat("[", u64::MAX)),
                2,
            ),
            ("packed", sse().header("content-encoding", "gzip").step(repeat("x", u64::MAX)), 1),
        ] {
            let fake = Fake::always(response);
            let asked = ask(&provider(chat(&fake.url(), ""))).await;
            assert_eq!(asked.error().kind, ErrorKind::Protocol, "{name}: {:?}", asked.error().message);
            assert_eq!(fake.requests().len(), requests, "{name}");
            assert!(asked.error().body.len() <= 2 << 10, "{name}");
        }
        // The body of an error too.
        let fake = Fake::always(Response::new(400).step(repeat("x", u64::MAX)));
        let asked = ask(&provider(chat(&fake.url(), ""))).await;
        assert_eq!((asked.error().kind.name(), asked.error().body.len()), ("bad_request", 2 << 10));
    });
}

#[test]
fn canceling_and_dropping_close_the_connection() {
    let fake = Fake::always(good().broken(good().body().len() - 20, Step::Hang));
    let gone = |received: &[capibara_fake::Received], count: usize| {
        received.len() == count && received.iter().all(|it| it.gone().is_some())
    };
    run(async {
        let provider = provider(chat(&fake.url(), ""));
        let budget = capibara_generate::budget::Budget::default();
        let request = request();
        let most = at_most(Duration::from_millis(100));

        let cancel = CancellationToken::new();
        let mut sink = |event: capibara_generate::Event<'_>| {
            if matches!(event, capibara_generate::Event::Draft(_)) {
                cancel.cancel();
            }
        };
        let error = provider.generate(&request, &budget, &cancel, &mut sink).await.unwrap_err();
        assert_eq!((error.kind, error.attempts.len()), (ErrorKind::Canceled, 1));
        tokio::task::yield_now().await;
        assert!(fake.wait(most, |it| gone(it, 1)));
        let charged = budget.spent().tokens;
        assert_eq!(charged, request.most_input_tokens() + 1_000 + 2);

        let cancel = CancellationToken::new();
        let mut sink = |_: capibara_generate::Event<'_>| {};
        let dropped = provider.generate(&request, &budget, &cancel, &mut sink);
        assert!(tokio::time::timeout(Duration::from_millis(150), dropped).await.is_err());
        tokio::task::yield_now().await;
        assert!(fake.wait(most, |it| gone(it, 2)));
        assert_eq!(budget.spent().tokens, 2 * charged);

        // Already canceled: nothing is sent.
        cancel.cancel();
        let error = provider.generate(&request, &budget, &cancel, &mut sink).await.unwrap_err();
        assert_eq!((error.kind, error.attempts.len(), fake.requests().len()), (ErrorKind::Canceled, 0, 2));
    });
}

#[test]
fn a_connection_that_was_closed_between_calls_is_not_noticed() {
    let fake = Fake::always(Reply::from(good()).then(Step::Close));
    let kept = Fake::always(good());
    run(async {
        for fake in [&fake, &kept] {
            let provider = provider(chat(&fake.url(), ""));
            for _ in 0..3 {
                let asked = ask(&provider).await;
                assert_eq!(asked.answer().attempts.len(), 1);
            }
            assert_eq!((fake.requests().len(), fake.connections()), (3, 3));
        }
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
