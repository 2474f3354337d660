//! Exchanges that are recorded, and replayed without the provider.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use capibara_fake::{Dead, Fake, Reply, Response, Step};
use capibara_generate::cassette::Wiring;
use capibara_generate::{Answer, AttemptEnd, ErrorKind, HttpProvider, ProviderError};
use futures_util::future::join_all;

use crate::rig::*;

/// All that must be the same in a replay.
fn essence(result: &Result<Answer, ProviderError>) -> String {
    let attempts = |attempts: &[capibara_generate::Attempt]| {
        let shown = |it: &capibara_generate::Attempt| {
            format!("{:?}", (&it.end, it.status, &it.request_id, it.usage, &it.request_sha256, &it.response_sha256))
        };
        attempts.iter().map(shown).collect::<Vec<_>>()
    };
    match result {
        Ok(it) => format!("{:?}", (&it.end, it.usage, &it.request_id, &it.model, &it.warnings, attempts(&it.attempts))),
        Err(it) => format!("{:?}", (&it.kind, it.status, &it.request_id, &it.body, attempts(&it.attempts))),
    }
}

fn provider_by(wiring: &Wiring, profile: capibara_generate::profile::Profile) -> HttpProvider {
    HttpProvider::new(profile, wiring).unwrap()
}

#[test]
fn every_answer_and_failure_is_replayed_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let times = "timeouts: {connect: 5s, first_byte: 900ms, idle: 900ms, total: 1500ms}";
    run(async {
        let mut cases: Vec<_> =
            complete_answers().iter().map(|it| (Reply::from(it.response().split(7)), Some(it.clone()))).collect();
        cases.extend(
            [
                good().broken(100, Step::Reset).into(),
                good().broken(300, Step::Hang).into(),
                good().split(1).pause(Duration::from_millis(10)).into(),
                Reply::hang(),
                Reply::close(),
                Response::json(429, r#"{"error":{"message":"slow"}}"#).header("retry-after", "0.6").into(),
                Response::json(503, "{}").header("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT").into(),
                Response::json(401, "{}").into(),
                Response::new(307).header("location", "https://x.example").into(),
                Response::new(200).header("content-type", "text/html").packets(["<p>"]).into(),
            ]
            .map(|it| (it, None)),
        );
        join_all(cases.into_iter().enumerate().map(|(number, (reply, fixture))| {
            let path = folder.path().join(number.to_string());
            async move {
                let fake = Fake::always(reply.clone());
                let profile = |url: &str| match &fixture {
                    Some(fixture) => profile_for(fixture, url, times),
                    None => chat(url, times),
                };
                let live = ask(&provider_by(&Wiring::record(&path).unwrap(), profile(&fake.url()))).await;
                let wiring = Wiring::replay(&path).unwrap();
                assert_eq!(wiring.left(), fake.requests().len());
                // Another address, as nothing is sent; and a key that is not there.
                let dead = Dead::refusing();
                let mut elsewhere = profile(&dead.url());
                elsewhere.key = capibara_generate::key::KeySource::Env("CAPIBARA_NO_SUCH_VARIABLE".into());
                let begin = Instant::now();
                let replayed = ask(&provider_by(&wiring, elsewhere)).await;
                assert!(begin.elapsed() < at_most(Duration::from_millis(50)));
                assert_eq!(essence(&replayed.result), essence(&live.result));
                assert_eq!(replayed.drafts, live.drafts);
                assert_eq!(replayed.waits.len(), live.waits.len());
                assert_eq!(wiring.left(), 0);
            }
        }))
        .await;
    });
}

#[test]
fn a_changed_request_is_refused_with_its_first_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    let fake = Fake::always(good());
    run(async {
        let recording = Wiring::record(&path).unwrap();
        ask(&provider_by(&recording, chat(&fake.url(), ""))).await.answer();
        for (more, part) in [
            ("extra_body: {n: 1}", "body.n was null and is 1"),
            ("headers: {x-title: t}", "headers[0] was null and is [\"x-title\",\"t\"]"),
            ("model: m-2", "body.model was \"m-1\" and is \"m-2\""),
        ] {
            let mut profile = chat(&fake.url(), if more.starts_with("model") { "" } else { more });
            if more.starts_with("model") {
                profile.dialect.model = "m-2".into();
            }
            let asked = ask(&provider_by(&Wiring::replay(&path).unwrap(), profile)).await;
            assert_eq!(asked.error().kind, ErrorKind::Unavailable, "{asked:?}");
            assert!(asked.error().message.contains(part), "{}", asked.error());
            assert_eq!(asked.error().attempts[0].end, AttemptEnd::Failed(ErrorKind::Unavailable));
        }
        // Each exchange once.
        let wiring = Wiring::replay(&path).unwrap();
        let provider = provider_by(&wiring, chat(&fake.url(), ""));
        ask(&provider).await.answer();
        assert!(ask(&provider).await.error().message.contains("no more exchange of `p`"));
    });
    assert_eq!(fake.requests().len(), 1);
}

#[test]
fn a_recording_is_its_owners_and_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/recording");
    let fake = Fake::always(good());
    run(async {
        let provider = provider_by(&Wiring::record(&path).unwrap(), chat(&fake.url(), ""));
        for _ in 0..2 {
            ask(&provider).await.answer();
        }
    });
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in ["p-0001.json", "p-0002.json"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path.join(name)).unwrap()).unwrap();
        assert_eq!(file["schema"], 1);
        assert_eq!(file["request"]["path"], "/v1/chat/completions");
        // The borders of packets are kept.
        assert!(file["response"]["packets"].as_array().unwrap().len() > 1);
    }
    let error = Wiring::record(&path).unwrap_err();
    assert!(error.to_string().contains("holds a recording already"), "{error}");
}

#[test]
fn what_is_no_recording_is_told() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Wiring::replay(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
    for text in ["", "{}", "[]", "{\"schema\": 2}", "{\"schema\": 1}"] {
        std::fs::write(folder.path().join("p-0001.json"), text).unwrap();
        let error = Wiring::replay(folder.path()).unwrap_err();
        assert!(error.to_string().contains("p-0001.json") && !error.hint().is_empty(), "{error}");
    }
}
