//! What scripts are written in.

use std::fmt;
use std::str::FromStr;

use capibara_runtimes::RuntimeError;

/// What a script is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Language {
    /// Python, run by CPython 3.13.
    Python,
    /// A WebAssembly program: a WASI preview 1 command compiled from any language, as a module or in text form.
    Wasm,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Python, Self::Wasm];

    /// Its name: `python`, `wasm`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Wasm => "wasm",
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn display_name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Wasm => "WebAssembly",
        }
    }

    /// The runtime it needs; a WebAssembly program brings its own.
    pub(crate) fn runtime(self) -> Option<capibara_runtimes::Language> {
        match self {
            Self::Python => Some(capibara_runtimes::Language::Python),
            Self::Wasm => None,
        }
    }

    /// Whether there is a runtime to install for it. A WebAssembly program needs none.
    #[must_use]
    pub fn has_runtime(self) -> bool {
        self.runtime().is_some()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Language {
    type Err = RuntimeError;

    fn from_str(name: &str) -> Result<Self, RuntimeError> {
        let found = Self::ALL.into_iter().find(|language| language.name() == name);
        found.ok_or_else(|| RuntimeError::UnknownLanguage(name.to_owned()))
    }
}
