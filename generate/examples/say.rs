//! Asks a model once, and prints what it says: `say KIND BASE_URL MODEL QUESTION`. KIND is a wire kind or a profile that ships with the
//! library, such as `groq`. The key is read from the variable `MODEL_KEY`.
//!
//! This is also the client that `oracle/verdict.py` grades.

use std::process::ExitCode;

use capibara_generate::budget::{Budget, Caps};
use capibara_generate::cassette::Wiring;
use capibara_generate::profile::{NewProfile, Profiles};
use capibara_generate::{Event, HttpProvider, Message, Provider as _, Request, Role};
use tokio_util::sync::CancellationToken;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]
fn main() -> ExitCode {
    match say(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn say(words: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let [kind, base_url, model, question] = words else {
        return Err("say KIND BASE_URL MODEL QUESTION".into());
    };
    let known = Profiles::read::<&str>([])?.get(kind).is_ok();
    let new = NewProfile {
        name: "one".into(),
        like: known.then(|| kind.clone()),
        kind: (!known).then(|| kind.clone()),
        base_url: Some(base_url.clone()),
        model: Some(model.clone()),
        key_env: Some("MODEL_KEY".into()),
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("models.yaml");
    std::fs::write(&file, new.added_to("")?)?;
    let provider = HttpProvider::new(Profiles::read([&file])?.get("one")?, &Wiring::live())?;
    let request = Request {
        system: String::new(),
        messages: vec![Message { role: Role::User, text: question.clone() }],
        max_output: 1_000,
        temperature: None,
        seed: None,
    };
    let (budget, cancel) = (Budget::new(Caps::default()), CancellationToken::new());
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut silent = |_: Event<'_>| {};
    let answer = executor.block_on(provider.generate(&request, &budget, &cancel, &mut silent))?;
    match answer.text() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("no whole answer: {:?}", answer.end).into()),
    }
}
