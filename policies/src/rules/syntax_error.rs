//! `syntax-error`: a source the parser cannot read.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "syntax-error",
    title: "a source the parser cannot read",
    severity: Severity::Warning,
    cwe: &[],
    advice: "run it through the language's own checker first",
    page: include_str!("pages/syntax-error.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
