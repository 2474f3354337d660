//! `catastrophic-regex`: a regular expression that can take exponential time.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "catastrophic-regex",
    title: "a regular expression that can take exponential time",
    severity: Severity::Warning,
    cwe: &[1333],
    advice: "remove the nested or overlapping repetition",
    page: include_str!("pages/catastrophic-regex.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
