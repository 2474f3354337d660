//! `unknown-language`: a script whose language is not known.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "unknown-language",
    title: "a script whose language is not known",
    severity: Severity::Error,
    cwe: &[],
    advice: "name its language with `--language`",
    page: include_str!("pages/unknown-language.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
