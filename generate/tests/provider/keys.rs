//! A key goes to its own provider, and is seen nowhere else.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use capibara_fake::{Fake, Framing, Response};
use capibara_generate::cassette::Wiring;
use capibara_generate::profile::Profile;
use capibara_generate::{ErrorKind, HttpProvider};

use crate::rig::*;

const CANARY: &str = "sk-CANARY-0123456789";

/// A profile whose key is in a file of that folder.
fn keyed(folder: &Path, kind: &str, url: &str, more: &str) -> Profile {
    let path = folder.join("key");
    std::fs::write(&path, format!("{CANARY}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    profile_named("p", kind, url, &format!("key: {{file: '{}'}}{more}", path.display()))
}

/// All files of a folder as one text, and again with every base64 text in them decoded.
fn everything_in(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::read_to_string(&path).unwrap();
        text += &file;
        let mut body = Vec::new();
        for word in file.split('"') {
            if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(word) {
                body.extend(bytes);
            }
        }
        text += &String::from_utf8_lossy(&body);
    }
    text
}

#[test]
fn a_key_is_sent_in_the_header_of_its_kind_only() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        for (kind, more, header, value) in [
            ("openai-responses", "", "authorization", format!("Bearer {CANARY}")),
            ("openai-chat", "", "authorization", format!("Bearer {CANARY}")),
            ("anthropic", "", "authorization", format!("Bearer {CANARY}")),
            ("anthropic", "key_header: x-api-key", "x-api-key", CANARY.to_owned()),
            ("gemini", "", "x-goog-api-key", CANARY.to_owned()),
            ("ollama", "", "authorization", format!("Bearer {CANARY}")),
        ] {
            let fake = Fake::always(Response::json(400, "{}"));
            let profile = keyed(folder.path(), kind, &format!("{}/v1", fake.url()), more);
            ask(&provider(profile)).await.error();
            let request = &fake.requests()[0];
            assert_eq!(request.header(header), Some(value.as_str()), "{kind}");
            assert_eq!(request.text().matches(CANARY).count(), 1, "{kind}: {}", request.text());
        }
    });
}

#[test]
fn a_key_that_comes_back_is_masked_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let base64 = base64::engine::general_purpose::STANDARD.encode(CANARY);
    let echoes = [
        Response::json(401, &format!(r#"{{"error":{{"message":"Incorrect API key provided: {CANARY}"}}}}"#)),
        Response::json(400, &format!(r#"{{"error":{{"message":"{base64}"}},"request_id":"{CANARY}"}}"#)),
        Response::new(500).header("x-request-id", CANARY).header("x-echo", CANARY).packets([format!("<h1>{CANARY}</h1>")]),
        Response::new(302).header("location", &format!("https://{CANARY}.example/?key={CANARY}")).framed(Framing::Length),
        Response::json(200, &format!("not JSON {CANARY}")),
        Response::sse([format!("data: {{\"error\":{{\"message\":\"{CANARY}\",\"code\":\"server_error\"}}}}\n\n")]),
        // Across packets of one byte.
        Response::sse([format!(
            "data: {{\"id\":\"{CANARY}\",\"model\":\"{CANARY}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}]}}\n\n"
        )])
        .split(1),
        good().header("x-request-id", CANARY),
    ];
    run(async {
        for (number, response) in echoes.into_iter().enumerate() {
            let fake = Fake::always(response);
            let recording = folder.path().join(format!("recording-{number}"));
            let wiring = Wiring::record(&recording).unwrap();
            let profile = keyed(folder.path(), "openai-chat", &format!("{}/v1", fake.url()), "");
            let provider = HttpProvider::new(profile, &wiring).unwrap();
            let asked = ask(&provider).await;
            assert!(fake.requests()[0].text().contains(CANARY));
            let seen = format!("{asked:?} {:?} {provider:?} {wiring:?} {}", asked.result, everything_in(&recording));
            for form in [CANARY, base64.trim_end_matches('='), "sk-canary"] {
                assert!(!seen.contains(form), "{number} {form}: {seen}");
            }
            if let Err(error) = &asked.result {
                assert!(!error.to_string().contains("CANARY") && !error.body.contains("CANARY"), "{error}");
            }
        }
    });
}

#[test]
fn a_key_is_not_sent_along_to_another_host() {
    let folder = tempfile::tempdir().unwrap();
    let other = Fake::always(good());
    run(async {
        for kind in ["openai-chat", "anthropic", "gemini"] {
            let target = format!("{}/v1", other.url().replace("127.0.0.1", "localhost"));
            let fake = Fake::always(Response::new(307).header("location", &target).framed(Framing::Length));
            let profile = keyed(folder.path(), kind, &format!("{}/v1", fake.url()), "");
            let asked = ask(&provider(profile)).await;
            assert_eq!(asked.error().kind, ErrorKind::Protocol);
            assert!(asked.error().message.contains("at `localhost`"), "{}", asked.error());
        }
    });
    assert_eq!(other.connections(), 0);
}

#[test]
fn no_key_is_taken_that_others_may_have_read() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::always(good());
    run(async {
        let profile = keyed(folder.path(), "openai-chat", &format!("{}/v1", fake.url()), "");
        std::fs::set_permissions(folder.path().join("key"), PermissionsExt::from_mode(0o644)).unwrap();
        let asked = ask(&provider(profile)).await;
        assert_eq!(asked.error().kind, ErrorKind::Auth);
        assert!(asked.error().hint.as_ref().unwrap().contains("chmod 600"));
    });
    assert_eq!(fake.connections(), 0);
}
