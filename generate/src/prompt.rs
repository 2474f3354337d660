//! What is sent to a model first: the rules of the sandbox, the task, and what belongs to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use capibara_policies::format_size;
use serde::Serialize;

use crate::checks::{Case, Checks};
use crate::facts::{Facts, GrantedFile, ToolFact};
use crate::section::{Sections, digest, json};
use crate::template::Template;

/// The longest task, in bytes.
pub const LONGEST_TASK: usize = 32 << 10;
/// The most bytes of files that are shown, together.
pub const MOST_SHOWN_BYTES: usize = 256 << 10;
/// The most files that are shown.
pub const MOST_SHOWN_FILES: usize = 32;
/// The largest prompt, in bytes.
pub const LARGEST_PROMPT: usize = 1 << 20;
/// The most checks that are shown as examples, and the most bytes they take. The others are kept for judging.
const MOST_EXAMPLES: usize = 20;
const MOST_EXAMPLE_BYTES: usize = 16 << 10;

/// The beginning of a file, which its user wants a model to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Where the script sees the file.
    pub guest_path: String,
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// Whether the file goes on.
    pub truncated: bool,
}

/// What a prompt is made of. Nothing of it is changed.
#[derive(Clone, Copy, Debug)]
pub struct PromptParts<'a> {
    /// The runtime and what is granted.
    pub facts: &'a Facts,
    /// The kind of task.
    pub template: &'a Template,
    /// What the user asks for, in the user's words.
    pub task: &'a str,
    /// Beginnings of files.
    pub shown: &'a [Shown],
    /// What must come of the script.
    pub checks: &'a Checks,
}

/// Why there is no prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// There is no task.
    #[error("the task is empty")]
    Empty,
    /// A part is too large.
    #[error("{what} takes more than {}", format_size(u64::try_from(*most_bytes).unwrap_or(u64::MAX)))]
    TooLarge {
        /// What.
        what: &'static str,
        /// The most it may take, in bytes.
        most_bytes: usize,
        /// What to try.
        hint: &'static str,
    },
    /// Too many files are to be shown.
    #[error("more than {MOST_SHOWN_FILES} files are to be shown")]
    TooManyFiles,
}

impl PromptError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "say in a sentence what the script has to do",
            Self::TooLarge { hint, .. } => hint,
            Self::TooManyFiles => "show one file of each kind",
        }
    }
}

/// What is sent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What holds for the whole conversation: the same for all tasks under equal facts and the same template.
    pub system: String,
    /// The first message: task, grants, files, checks.
    pub user: String,
    /// The mark of the first message's sections.
    pub mark: String,
    /// SHA-256 of both, in hexadecimal.
    pub digest: String,
}

#[derive(Serialize)]
struct GrantsSection<'a> {
    files: &'a [GrantedFile],
    env: &'a [String],
    tools: &'a [ToolFact],
}

#[derive(Serialize)]
struct FileSection<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    whole: bool,
}

impl<'a> FileSection<'a> {
    fn of(shown: &'a Shown) -> Self {
        // A cut may go through a character.
        let text = match std::str::from_utf8(&shown.bytes) {
            Ok(text) => Some(text),
            Err(error) if shown.truncated && error.error_len().is_none() => {
                shown.bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok())
            }
            Err(_) => None,
        };
        let base64 = text.is_none().then(|| STANDARD.encode(&shown.bytes));
        Self { path: &shown.guest_path, text, base64, whole: !shown.truncated }
    }
}

fn check_size(parts: &PromptParts<'_>) -> Result<(), PromptError> {
    let too_large = |what, most_bytes, hint| Err(PromptError::TooLarge { what, most_bytes, hint });
    let shown = parts.shown.iter().fold(0_usize, |sum, it| sum.saturating_add(it.bytes.len()));
    if parts.task.trim().is_empty() {
        Err(PromptError::Empty)
    } else if parts.task.len() > LONGEST_TASK {
        too_large("the task", LONGEST_TASK, "say it shorter; grant a file for what is data")
    } else if parts.shown.len() > MOST_SHOWN_FILES {
        Err(PromptError::TooManyFiles)
    } else if shown > MOST_SHOWN_BYTES {
        too_large("what is shown of files", MOST_SHOWN_BYTES, "show fewer bytes: --show FILE:BYTES")
    } else {
        Ok(())
    }
}

impl Prompt {
    /// Puts a prompt together. The same parts give the same prompt.
    ///
    /// # Errors
    /// [`PromptError`] for a task that is empty, and for what is too large.
    pub fn new(parts: &PromptParts<'_>) -> Result<Self, PromptError> {
        check_size(parts)?;
        let facts = parts.facts;
        let system = parts.template.fill(&[
            ("language", facts.runtime.language),
            ("version", &facts.runtime.version),
            ("modules", &facts.runtime.modules.join(", ")),
            ("limits", &facts.limits.text()),
        ]);
        let message = user(parts).marked();
        let prompt = Self {
            digest: digest([system.as_str(), message.text.as_str()]),
            system,
            user: message.text,
            mark: message.mark,
        };
        if prompt.system.len().saturating_add(prompt.user.len()) > LARGEST_PROMPT {
            let hint = "show fewer bytes of files, or grant less";
            return Err(PromptError::TooLarge { what: "the prompt", most_bytes: LARGEST_PROMPT, hint });
        }
        Ok(prompt)
    }

    /// What would be sent, to be read in a terminal.
    #[must_use]
    pub fn explain(&self) -> String {
        let Self { system, user, digest, .. } = self;
        let bytes = system.len().saturating_add(user.len());
        format!("--- system ---\n{system}\n--- user ---\n{user}\n--- {bytes} bytes, sha256 {digest} ---\n")
    }
}

fn user(parts: &PromptParts<'_>) -> Sections {
    let facts = parts.facts;
    let mut message = Sections::default();
    message.words("Write a script for the following task.");
    message.data("task", &parts.task.trim());
    message.words("This is granted, and nothing else:");
    message.data("grants", &GrantsSection { files: &facts.files, env: &facts.env, tools: &facts.tools });
    message.words(if facts.stdin {
        "Standard input holds the user's input."
    } else if parts.checks.cases().any(|(_, case)| case.stdin().is_some()) {
        "Standard input holds what the checks show."
    } else {
        "Standard input is empty."
    });
    if !parts.shown.is_empty() {
        message.words("So these files begin, or so they are as a whole:");
        message.data("files", &parts.shown.iter().map(FileSection::of).collect::<Vec<_>>());
    }
    let all = parts.checks.cases().count();
    let shown = examples(parts.checks);
    if all > 0 {
        message.words(match all.saturating_sub(shown.len()) {
            0 => "The script is checked by these runs:".into(),
            more => format!("The script is checked by these runs, and by {more} more of the kind:"),
        });
        message.data("checks", &shown);
    }
    message.words("Answer with exactly one fenced block that holds the whole script.");
    message
}

/// The first checks, as many as are shown.
fn examples(checks: &Checks) -> Vec<&Case> {
    let mut left = MOST_EXAMPLE_BYTES;
    let fits = |case: &&Case| {
        let size = json(case).len();
        let fits = size <= left;
        left = if fits { left.saturating_sub(size) } else { left };
        fits
    };
    checks.cases().map(|(_, case)| case).take(MOST_EXAMPLES).filter(fits).collect()
}
