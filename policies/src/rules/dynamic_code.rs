//! `dynamic-code`: running code that is made at run time.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "dynamic-code",
    title: "running code that is made at run time",
    severity: Severity::Error,
    cwe: &[95],
    advice: "write the code out, or use `ast.literal_eval` or `json` for data",
    page: include_str!("pages/dynamic-code.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
