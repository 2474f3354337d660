//! The languages a scan understands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A language with a grammar and rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceLanguage {
    /// Python 3.
    Python,
    /// JavaScript, modules and scripts, with JSX.
    JavaScript,
    /// TypeScript, with or without JSX.
    TypeScript,
}

impl SourceLanguage {
    /// The permanent name: `python`, `javascript`, `typescript`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
        }
    }

    /// The language of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Python, Self::JavaScript, Self::TypeScript].into_iter().find(|language| language.name() == name)
    }

    /// What the file name shows, else what the first line (`#!`) names.
    #[must_use]
    pub fn of(path: &str, bytes: &[u8]) -> Option<Self> {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("py" | "pyw" | "pyi") => return Some(Self::Python),
            Some("js" | "mjs" | "cjs" | "jsx") => return Some(Self::JavaScript),
            Some("ts" | "mts" | "cts" | "tsx") => return Some(Self::TypeScript),
            _ => {}
        }
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first.get(..first.len().min(200)).unwrap_or_default()).into_owned();
        let program = first.trim_start_matches('\u{feff}').strip_prefix("#!")?;
        if program.contains("python") || program.contains("capibara") {
            Some(Self::Python)
        } else if ["node", "deno", "bun"].iter().any(|name| program.contains(name)) {
            Some(Self::JavaScript)
        } else {
            None
        }
    }
}

impl fmt::Display for SourceLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
