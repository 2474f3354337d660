//! Why a command could not do its work.

use std::error::Error;
use std::fmt;

use capibara::{EngineError, ModulesError, PolicyError};
use capibara_generate::cassette::CassetteError;
use capibara_generate::checks::CheckError;
use capibara_generate::facts::FactsError;
use capibara_generate::profile::ProfileError;
use capibara_generate::prompt::PromptError;
use capibara_generate::store::StoreError;
use capibara_generate::template::UnknownTemplate;
use capibara_generate::{ErrorKind, HttpError, ProviderError};
use capibara_policies::ProblemKind;

use crate::exit_code::ExitCode;

/// The option that sets a limit, by the limit's name; `None` for those that have none.
pub(crate) fn limit_option(limit: &str) -> Option<&'static str> {
    match limit {
        "fuel" => Some("--fuel"),
        "wall_time" => Some("--timeout"),
        "memory" => Some("--memory"),
        "output" => Some("--max-output"),
        "bytes_written" => Some("--max-disk"),
        _ => None,
    }
}

/// A failure as it is told: on standard error and, with `--format json`, as the object `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: ExitCode,
    /// Permanent name in kebab-case.
    pub(crate) code: &'static str,
    /// A lower-case fragment that names the thing.
    pub(crate) message: String,
    /// What led to it, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to try.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure of ours: exit code 125.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: ExitCode::Failed, code, message: message.into(), causes: Vec::new(), hint: None }
    }

    pub(crate) fn with_exit(mut self, exit: ExitCode) -> Self {
        self.exit = exit;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_cause(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            // Errors that print their source as well would say everything twice.
            if !self.message.contains(&text) && self.causes.last().is_none_or(|last| !last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// What led to `error`, without `error` itself.
    fn with_cause_of(self, error: &(dyn Error + 'static)) -> Self {
        match error.source() {
            Some(cause) => self.with_cause(cause),
            None => self,
        }
    }

    /// There is no runtime for that language: exit code 127.
    pub(crate) fn no_such_language(name: &str) -> Self {
        Self::new("no-such-language", format!("there is no runtime for the language `{name}`"))
            .with_exit(ExitCode::Unavailable)
            .with_hint("the languages of this version: python, wasm")
    }

    /// Message and causes on one line, for JSON.
    pub(crate) fn full_message(&self) -> String {
        let mut text = self.message.clone();
        for cause in &self.causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full_message())
    }
}

impl Error for Failure {}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = if error.is_unavailable() { ExitCode::Unavailable } else { ExitCode::Failed };
        let mut failure = Self::new(error.code(), error.to_string()).with_exit(exit);
        failure.hint = error.hint();
        if let Some(cause) = error.source() {
            failure = failure.with_cause(cause);
        }
        failure
    }
}

impl From<ModulesError> for Failure {
    fn from(error: ModulesError) -> Self {
        let hint = match &error {
            ModulesError::Unreadable { .. } => Some(
                "a module must lie in the folder of the script itself, not behind a link that leads out of it".into(),
            ),
            ModulesError::TooMany | ModulesError::TooLarge => {
                Some("put large packages into a folder and grant that: `--read HOST:GUEST`".into())
            }
            _ => None,
        };
        Self { hint, ..Self::new("script-modules", error.to_string()) }.with_cause_of(&error)
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        if let PolicyError::Widens { policy, limit, allowed, asked } = &error
            && let Some(option) = limit_option(limit)
        {
            return Self::new(
                "policy-widened",
                format!("`{option} {asked}` is more than policy `{policy}` allows: at most {allowed}"),
            )
            .with_hint("ask for less, or choose a wider policy, for example `--policy moderate`");
        }
        let (code, hint) = match &error {
            PolicyError::UnknownName { name, .. } if name.ends_with(".yaml") => {
                ("unknown-policy", Some(format!("a file is named with a `/`: `--policy ./{name}`")))
            }
            PolicyError::UnknownName { nearest: Some(nearest), .. } => {
                ("unknown-policy", Some(format!("did you mean `{nearest}`?")))
            }
            PolicyError::UnknownName { .. } => {
                ("unknown-policy", Some("`capibara policy list` shows those there are".to_owned()))
            }
            PolicyError::Unreadable { .. } => ("policy-unreadable", None),
            PolicyError::Invalid { problems, .. } => {
                let unavailable = problems.iter().all(|problem| problem.kind == ProblemKind::Unavailable);
                let code = if unavailable { "policy-unavailable" } else { "policy-invalid" };
                let hint = problems.first().and_then(|problem| problem.hint.clone());
                (code, hint.or_else(|| Some("`capibara policy check FILE` shows all that is wrong".into())))
            }
            PolicyError::AboveCeiling { .. } => (
                "policy-above-ceiling",
                Some("ask for less: the administrator of this machine has set a ceiling".into()),
            ),
            PolicyError::Widens { .. } => ("policy-widened", None),
            PolicyError::RefusesGrant { flag, .. } => (
                "policy-refuses-grant",
                Some(format!("leave `{flag}` out, or choose another policy, for example `--policy moderate`")),
            ),
            PolicyError::RefusesLive { .. } => (
                "policy-refuses-live",
                Some("leave `--live` out, or choose another policy, for example `--policy moderate`".into()),
            ),
            // `PolicyError` may grow; what it says then is in its message.
            _ => ("policy", None),
        };
        Self { hint, ..Self::new(code, error.to_string()) }
    }
}

/// A failure with the error's own message and hint.
fn told(code: &'static str, error: &(dyn Error + 'static), hint: Option<String>) -> Failure {
    Failure { hint, ..Failure::new(code, error.to_string()) }.with_cause_of(error)
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        let code = match error.kind {
            ErrorKind::Auth => "model-auth",
            ErrorKind::NoModel => "model-unknown",
            ErrorKind::BadRequest => "model-bad-request",
            ErrorKind::TooLarge => "model-too-large",
            ErrorKind::Rate { .. } => "model-rate",
            ErrorKind::Quota => "model-quota",
            ErrorKind::Overloaded { .. } => "model-overloaded",
            ErrorKind::Server { .. } => "model-server",
            ErrorKind::Connect => "model-connect",
            ErrorKind::Timeout { .. } => "model-timeout",
            ErrorKind::Cut { .. } => "model-cut",
            ErrorKind::Protocol => "model-protocol",
            ErrorKind::Truncated => "model-truncated",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Budget => "budget",
            // `ErrorKind` may grow; what it says then is in its message.
            _ => "model-unavailable",
        };
        let hint = error.hint.clone();
        Self { hint, ..Self::new(code, format!("the model did not answer: {error}")) }
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        let hint = error.hint();
        told("models", &error, hint)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let hint = error.hint();
        told("models", &error, Some(hint))
    }
}

impl From<CassetteError> for Failure {
    fn from(error: CassetteError) -> Self {
        let hint = error.hint().to_owned();
        told("cassette", &error, Some(hint))
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        let hint = error.hint().to_owned();
        told("check", &error, Some(hint))
    }
}

impl From<PromptError> for Failure {
    fn from(error: PromptError) -> Self {
        let hint = error.hint().to_owned();
        told("prompt", &error, Some(hint))
    }
}

impl From<UnknownTemplate> for Failure {
    fn from(error: UnknownTemplate) -> Self {
        let hint = error.hint();
        told("unknown-template", &error, Some(hint))
    }
}

impl From<FactsError> for Failure {
    fn from(error: FactsError) -> Self {
        let hint = error.hint();
        told("facts", &error, hint)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = error.hint();
        told("stored-script", &error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = std::io::Error::other("disk full");
        let failure = Failure::new("x", "failed to write `a`").with_cause(&cause);
        assert_eq!(failure.causes, ["disk full"]);
        assert_eq!(failure.full_message(), "failed to write `a`: disk full");
        assert!(Failure::new("x", "failed: disk full").with_cause(&cause).causes.is_empty());
    }

    #[test]
    fn policy_errors_say_what_to_try() {
        let failure = Failure::from(PolicyError::RefusesLive { policy: "strict".into() });
        assert_eq!((failure.exit, failure.code), (ExitCode::Failed, "policy-refuses-live"));
        let wider = |limit| {
            let (policy, allowed, asked) = ("strict".into(), "5s".into(), "1m".into());
            Failure::from(PolicyError::Widens { policy, limit, allowed, asked })
        };
        assert_eq!(wider("wall_time").message, "`--timeout 1m` is more than policy `strict` allows: at most 5s");
        for limit in ["fuel", "memory", "output", "bytes_written", "files"] {
            assert_eq!(wider(limit).code, "policy-widened", "{limit}");
        }
        assert!(failure.hint.is_some_and(|hint| hint.contains("--policy moderate")));
    }
}
