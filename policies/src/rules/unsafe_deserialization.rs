//! `unsafe-deserialization`: reading data that can contain code.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "unsafe-deserialization",
    title: "reading data that can contain code",
    severity: Severity::Error,
    cwe: &[502],
    advice: "use `json`, or another format that holds data only",
    page: include_str!("pages/unsafe-deserialization.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
