//! `resource-bomb`: using memory or time without bound.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "resource-bomb",
    title: "using memory or time without bound",
    severity: Severity::Warning,
    cwe: &[400],
    advice: "bound the size before it is allocated",
    page: include_str!("pages/resource-bomb.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
