//! `oversized-source`: a source too long or too deep to scan.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "oversized-source",
    title: "a source too long or too deep to scan",
    severity: Severity::Error,
    cwe: &[400],
    advice: "split the script, or raise `scan_limits` in your policy",
    page: include_str!("pages/oversized-source.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
