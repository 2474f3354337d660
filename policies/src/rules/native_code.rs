//! `native-code`: leaving the language for native code.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "native-code",
    title: "leaving the language for native code",
    severity: Severity::Error,
    cwe: &[114],
    advice: "use the standard library; native code cannot be loaded in the sandbox",
    page: include_str!("pages/native-code.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
