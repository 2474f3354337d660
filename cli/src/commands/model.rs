//! `capibara model`: the profiles of models, and whether they answer.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use capibara::Canceler;
use capibara_generate::budget::{Budget, Caps};
use capibara_generate::cassette::Wiring;
use capibara_generate::key::KeySource;
use capibara_generate::profile::{NewProfile, Profile};
use capibara_generate::wire::Kind;
use capibara_generate::{End, Event, HttpProvider, Message, Provider as _, Request, Role};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Output;
use crate::asking::ending::Ending;
use crate::asking::models;
use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::text::Console;
use crate::output::{Format, answer, json, units};
use crate::signals::Watch;

/// Tokens of an answer to a check: enough for a model that reasons first.
const CHECK_OUTPUT: u64 = 1_024;
/// How long a check may take.
const CHECK_TIME: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List the profiles of models
    List(ListArguments),
    /// Ask a model for one word
    ///
    /// Sends one small request, which may cost a fraction of a cent, and says what came of it: 0 if the model answered, 1 if
    /// not. What fails for the moment is tried again, as for `ask`.
    Check(CheckArguments),
    /// Add a profile to your models.yaml
    ///
    /// Nothing is sent. Example: `capibara model add local --kind openai-chat --base-url http://127.0.0.1:8080/v1 --model qwen --no-key`
    Add(AddArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Name of a profile, or NAME/MODEL
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Name of the profile
    #[arg(value_name = "NAME")]
    name: String,

    /// Take the rest from this profile
    #[arg(long, value_name = "NAME", required_unless_present = "kind")]
    like: Option<String>,

    /// openai-responses, openai-chat, anthropic, …
    ///
    /// What the server speaks: openai-responses, openai-chat (also Groq, llama.cpp, vLLM and most others), anthropic, gemini, ollama.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,

    /// Address, for example http://127.0.0.1:8080/v1
    ///
    /// https, or http to this machine.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,

    /// Variable of the environment that holds the key
    ///
    /// A key is never an argument. A file or a program as its source is said in models.yaml: `key: {file: ~/.config/key}`, `key: {command: [pass, show, key]}`.
    #[arg(long, value_name = "VAR", required_unless_present_any = ["no_key", "like"])]
    key_env: Option<String>,

    /// There is no key
    #[arg(long, conflicts_with = "key_env")]
    no_key: bool,

    /// Model to ask
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

impl ModelCommand {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::List(list) => list.output.format,
            Self::Check(check) => check.output.format,
            Self::Add(_) => Format::Text,
        }
    }
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(command: ModelCommand) -> Result<ExitCode, Failure> {
    match command {
        ModelCommand::List(arguments) => list(arguments.output.format),
        ModelCommand::Check(arguments) => check(&arguments),
        ModelCommand::Add(arguments) => add(arguments),
    }
}

/// The JSON of `model list`.
#[derive(Serialize)]
struct ListReport {
    schema: u32,
    file: String,
    profiles: Vec<ListedProfile>,
}

#[derive(Serialize)]
struct ListedProfile {
    name: String,
    kind: Kind,
    base_url: String,
    /// `null` if none is named.
    model: Option<String>,
    key: String,
    /// Whether the key's variable is set, or its file there; `null` if that is not known without asking for it.
    key_ready: Option<bool>,
    prices_as_of: Option<String>,
    yours: bool,
}

impl ListedProfile {
    fn of(profile: &Profile, yours: bool) -> Self {
        let (key, key_ready) = match &profile.key {
            KeySource::Env(name) => {
                (format!("${name}"), Some(std::env::var_os(name).is_some_and(|key| !key.is_empty())))
            }
            KeySource::File(path) => (path.display().to_string(), Some(path.exists())),
            KeySource::Command(words) => (format!("command {}", words.first().map_or("", String::as_str)), None),
            KeySource::None => ("none".into(), Some(true)),
        };
        Self {
            name: profile.name.clone(),
            kind: profile.kind,
            base_url: profile.base_url.to_string(),
            model: Some(profile.model().to_owned()).filter(|model| !model.is_empty()),
            key,
            key_ready,
            prices_as_of: profile.prices.as_ref().map(|prices| prices.as_of.clone()),
            yours,
        }
    }
}

fn list(format: Format) -> Result<ExitCode, Failure> {
    let (file, profiles) = (models::file()?, models::profiles()?);
    let own = profiles.user_defined();
    let mut listed: Vec<_> =
        profiles.iter().map(|profile| ListedProfile::of(profile, own.contains(&profile.name))).collect();
    listed.sort_by_key(|profile| !profile.yours);
    if format == Format::Json {
        let report = ListReport { schema: json::SCHEMA, file: file.display().to_string(), profiles: listed };
        return Ok(json::print(&report, ExitCode::Yes));
    }
    let mut out = String::new();
    for profile in &listed {
        let model = profile.model.as_deref().unwrap_or("(name one: NAME/MODEL)");
        let missing = if profile.key_ready == Some(false) { " (not set)" } else { "" };
        let yours = if profile.yours { "yours" } else { "built in" };
        let line = format!(
            "{:<12} {:<16} {:<26} key {}{missing}, {yours}, {}",
            profile.name,
            kind_name(profile.kind),
            model,
            profile.key,
            profile.base_url
        );
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}", escape::line(&line));
    }
    Ok(answer(out.as_bytes(), ExitCode::Yes))
}

fn kind_name(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The JSON of `model check`.
#[derive(Serialize)]
struct CheckReport {
    schema: u32,
    profile: String,
    answered: bool,
    /// The model that answered, as its provider names it.
    model: Option<String>,
    took_ms: Option<u64>,
    /// How it failed: `auth`, `no_model`, `connect`, …
    kind: Option<&'static str>,
    message: Option<String>,
    hint: Option<String>,
}

fn check(arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let profile = models::profiles()?.get(&arguments.name).map_err(Failure::from)?;
    let name = profile.name.clone();
    let provider = HttpProvider::new(profile, &Wiring::live()).map_err(Failure::from)?;
    let os = |error: std::io::Error| Failure::new("operating-system", "failed to start").with_cause(&error);
    let watch = Watch::start(&Canceler::default()).map_err(os)?;
    let ending = Ending::watch(watch.caught(), None).map_err(os)?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(os)?;
    let budget = Budget::new(Caps { deadline: Some(CHECK_TIME), ..Caps::default() });
    let request = Request {
        system: String::new(),
        messages: vec![Message { role: Role::User, text: "Answer with the word ok.".into() }],
        max_output: CHECK_OUTPUT,
        temperature: None,
        seed: None,
    };
    let mut silent = |_: Event<'_>| {};
    let answered = executor.block_on(provider.generate(&request, &budget, ending.token(), &mut silent));
    if let Some(signal) = watch.finish() {
        Console::new().say(&format!("canceled by {}", signal.name()));
        return Ok(signal.exit_code());
    }
    let mut report = CheckReport {
        schema: json::SCHEMA,
        profile: name,
        answered: false,
        model: None,
        took_ms: None,
        kind: None,
        message: None,
        hint: None,
    };
    let mut took = Duration::ZERO;
    match answered {
        // Whatever it said, it can be asked.
        Ok(reply) => {
            took = reply.attempts.iter().map(|attempt| attempt.took).sum();
            report.took_ms = u64::try_from(took.as_millis()).ok();
            report.answered = matches!(reply.end, End::Complete { .. } | End::Limit { .. });
            report.model = reply.model;
            if !report.answered {
                report.message = Some("the model refused to say ok".into());
            }
        }
        Err(error) => {
            report.kind = Some(error.kind.name());
            report.message = Some(error.to_string());
            report.hint = error.hint;
        }
    }
    let code = if report.answered { ExitCode::Yes } else { ExitCode::No };
    if arguments.output.format == Format::Json {
        return Ok(json::print(&report, code));
    }
    if report.answered {
        let model = report.model.as_ref().map_or_else(String::new, |model| format!(" ({model})"));
        let line = format!("{}{model} answers after {}", report.profile, units::duration(took));
        return Ok(answer(format!("{}\n", escape::line(&line)).as_bytes(), code));
    }
    let mut failure = Failure::new("model", report.message.unwrap_or_default());
    failure.hint = report.hint;
    Console::new().failure(&failure);
    Ok(code)
}

fn add(arguments: AddArguments) -> Result<ExitCode, Failure> {
    let path = models::file()?;
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(Failure::new("models", format!("failed to read `{}`", path.display())).with_cause(&error));
        }
    };
    let AddArguments { name, like, kind, base_url, key_env, no_key, model } = arguments;
    let key_env = if no_key { Some(String::new()) } else { key_env };
    let new = NewProfile { name: name.clone(), like, kind, base_url, model, key_env };
    let after = new.added_to(&before).map_err(Failure::from)?;
    write(&path, &after)
        .map_err(|error| Failure::new("models", format!("failed to write `{}`", path.display())).with_cause(&error))?;
    let said = format!("profile {name} is added to {}: `capibara model check {name}` asks it\n", path.display());
    Ok(answer(said.as_bytes(), ExitCode::Yes))
}

/// Replaces the file as a whole, or not at all. What it is and who may read it is the user's.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(&path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = path.with_extension(format!("yaml.{}.new", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
