//! `obfuscated-code`: code that hides what it does.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "obfuscated-code",
    title: "code that hides what it does",
    severity: Severity::Warning,
    cwe: &[506],
    advice: "write the script in the clear",
    page: include_str!("pages/obfuscated-code.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
