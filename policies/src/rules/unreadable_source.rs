//! `unreadable-source`: a source that is not plain text in UTF-8.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "unreadable-source",
    title: "a source that is not plain text in UTF-8",
    severity: Severity::Error,
    cwe: &[838],
    advice: "save the script as plain text in UTF-8",
    page: include_str!("pages/unreadable-source.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
