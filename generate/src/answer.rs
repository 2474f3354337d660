//! What is asked of a model, and what came back.

use std::time::Duration;

use crate::error::ErrorKind;
use crate::price::Cost;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of the conversation that a model goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// What a model is asked, whoever offers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What holds for the whole conversation.
    pub system: String,
    /// The conversation; it begins and ends with the user.
    pub messages: Vec<Message>,
    /// The most tokens the answer may have, reasoning included. A budget may lower it.
    pub max_output: u64,
    /// Randomness of the answer, 0 to 2; sent only where the profile allows it.
    pub temperature: Option<f64>,
    /// Where that randomness starts; sent only where the profile allows it.
    pub seed: Option<u64>,
}

impl Request {
    /// Bytes of all texts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let texts = self.messages.iter().map(|it| it.text.len()).sum::<usize>() + self.system.len();
        u64::try_from(texts).unwrap_or(u64::MAX)
    }

    /// More tokens than the texts can come to: a token is a byte at least, and each message has a frame.
    #[must_use]
    pub fn most_input_tokens(&self) -> u64 {
        let frames = u64::try_from(self.messages.len()).unwrap_or(u64::MAX).saturating_add(1).saturating_mul(64);
        self.bytes().saturating_add(frames)
    }
}

/// How an answer ended. There is text only where the model said all it wanted to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole answer, without reasoning.
    Complete {
        /// What the model said.
        text: String,
    },
    /// Cut by the limit of the answer or of the model's window.
    Limit {
        /// The provider's word for it.
        reason: String,
    },
    /// The model refused to answer.
    Refused {
        /// The provider's word for it, or the model's (cut at 1 KiB).
        reason: String,
    },
    /// The provider held the answer or the question back.
    Filtered {
        /// The provider's word for it.
        reason: String,
    },
}

/// Tokens of one call, as far as the provider told. The same meaning for every provider: `input` includes `cached` and `cache_write`,
/// `output` includes `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// All tokens of the question.
    pub input: Option<u64>,
    /// Those of `input` that were read from a cache.
    pub cached: Option<u64>,
    /// Those of `input` that were written to a cache.
    pub cache_write: Option<u64>,
    /// All tokens of the answer.
    pub output: Option<u64>,
    /// Those of `output` that are reasoning.
    pub reasoning: Option<u64>,
}

/// What came of one call of one provider.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Text, or why there is none.
    pub end: End,
    /// Tokens of the call that gave this answer.
    pub usage: Usage,
    /// The provider's number for the call.
    pub request_id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// All calls that were made for it, the one that succeeded last.
    pub attempts: Vec<Attempt>,
    /// What to tell the user, for example that a provider does not say how its answers end.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The text of a complete answer.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.end {
            End::Complete { text } => Some(text),
            End::Limit { .. } | End::Refused { .. } | End::Filtered { .. } => None,
        }
    }
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// A complete answer.
    Complete,
    /// See [`End::Limit`].
    Limit,
    /// See [`End::Refused`].
    Refused,
    /// See [`End::Filtered`].
    Filtered,
    /// No answer.
    Failed(ErrorKind),
}

impl AttemptEnd {
    /// The name in JSON: `complete`, `limit`, `refused`, `filtered`, or that of the [`ErrorKind`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Limit => "limit",
            Self::Refused => "refused",
            Self::Filtered => "filtered",
            Self::Failed(kind) => kind.name(),
        }
    }
}

/// One request that was sent, or tried to be.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Name of the profile.
    pub profile: String,
    /// The model that was asked.
    pub model: String,
    /// How it ended.
    pub end: AttemptEnd,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The provider's number for it.
    pub request_id: Option<String>,
    /// Tokens, as far as told.
    pub usage: Usage,
    /// Tokens that count against the budget: what was told, within what is possible, or what was reserved.
    pub charged_tokens: u64,
    /// What it costs, or may have cost at most; `None` if the profile has no prices.
    pub cost: Option<Cost>,
    /// Time waited before it was sent.
    pub waited: Duration,
    /// Time from sending to the end.
    pub took: Duration,
    /// SHA-256 of the request's body, hexadecimal.
    pub request_sha256: String,
    /// SHA-256 of the response's body as it came, hexadecimal; `None` if there was no response.
    pub response_sha256: Option<String>,
}
