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
pub(crate) fn everything_in(folder: &Path) -> String {
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

#[test]
fn a_secret_in_a_header_of_the_profile_is_masked_as_a_key_is() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording");
    let fake = Fake::always(Response::json(400, &format!(r#"{{"error":{{"message":"not for {CANARY}"}}}}"#)));
    run(async {
        let profile =
            |url: &str| chat(url, &format!("headers: {{x-gateway-token: 'Token {CANARY}', x-title: a title}}"));
        let provider = HttpProvider::new(profile(&fake.url()), &Wiring::record(&recording).unwrap()).unwrap();
        let live = ask(&provider).await;
        assert_eq!(fake.requests()[0].header("x-gateway-token"), Some(format!("Token {CANARY}").as_str()));
        let seen = format!("{live:?} {provider:?} {}", everything_in(&recording));
        assert!(!seen.contains(CANARY), "{seen}");
        assert!(seen.contains("Token ****") && seen.contains("a title"), "{seen}");
        // The recorded request is still the one that is made.
        let wiring = Wiring::replay(&recording).unwrap();
        let replayed = ask(&HttpProvider::new(profile("http://127.0.0.1:1"), &wiring).unwrap()).await;
        assert_eq!((&replayed.error().kind, wiring.left()), (&ErrorKind::BadRequest, 0), "{replayed:?}");
    });
}
