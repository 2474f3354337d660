//! `capibara ask` with a real llama.cpp server: flawed, traceback, fixed, output.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use capibara_tests::{Sandbox, cache, repository, skip};
use serde_json::Value;

/// What `oracle/llama.py` ends with if the server could not be fetched.
const UNAVAILABLE: i32 = 77;

/// The server behind a relay that gives one text after the other; it ends with its standard input.
struct Llama {
    child: Child,
    url: String,
}

impl Llama {
    /// `None` if there is none to be had here.
    fn serve(sandbox: &Sandbox, texts: &[&str]) -> Option<Self> {
        let files = texts.iter().enumerate().map(|(at, text)| sandbox.file(&format!("{at}.md"), text));
        let mut command = Command::new("python3");
        command.arg(repository().join("oracle/llama.py")).arg("serve").args(files);
        command.env("CAPIBARA_CACHE_DIR", cache()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut url).expect("a line");
        if url.is_empty() {
            let code = child.wait().expect("it ends").code();
            assert_eq!(code, Some(UNAVAILABLE), "the server failed");
            return None;
        }
        Some(Self { child, url: url.trim().to_owned() })
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_server_writes_a_flawed_script_and_mends_it() {
    const FLAWED: &str =
        "Here it is:\n\n```python\nwords = open('/words.txt').read().split()\nprint(len(wrods))\n```\n";
    const FIXED: &str =
        "The name was misspelt.\n\n```python\nwords = open('/words.txt').read().split()\nprint(len(words))\n```\n";
    let kinds = ["openai-chat", "anthropic", "openai-responses"];
    for kind in kinds {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
        let Some(llama) = Llama::serve(&sandbox, &[FLAWED, FIXED]) else {
            return skip("a_real_server_writes_a_flawed_script_and_mends_it", "unavailable: llama.cpp");
        };
        let base = format!("{}/v1", llama.url);
        let ran = sandbox.run(&[
            "model",
            "add",
            "tiny",
            "--kind",
            kind,
            "--base-url",
            &base,
            "--model",
            "tiny-random",
            "--key-env",
            "TEST_KEY",
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let _ = sandbox.file("words.txt", "one two three four\n");
        let words = ["ask", "count the words of words.txt", "--read", "words.txt", "--format", "json"];
        let ran = capibara_tests::finish(
            sandbox.command().env("TEST_KEY", "key-of-nobody").args(words).output().expect("the command starts"),
        );
        assert_eq!(ran.code, Some(0), "{kind}: {ran:?}");
        let report: Value = serde_json::from_str(&ran.stdout).expect("an object");
        assert_eq!(report["run"]["stdout"], "4\n", "{kind}: {ran:?}");
        let results: Vec<&str> = report["generation"]["calls"]
            .as_array()
            .expect("calls")
            .iter()
            .filter_map(|call| call["result"].as_str())
            .collect();
        assert_eq!(results, ["run", "accepted"], "{kind}");
    }
}
