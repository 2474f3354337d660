//! `secret-in-source`: a password or key in the source.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "secret-in-source",
    title: "a password or key in the source",
    severity: Severity::Warning,
    cwe: &[798],
    advice: "pass it with `--env`",
    page: include_str!("pages/secret-in-source.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
