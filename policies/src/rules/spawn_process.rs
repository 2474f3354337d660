//! `spawn-process`: starting other programs.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "spawn-process",
    title: "starting other programs",
    severity: Severity::Error,
    cwe: &[78],
    advice: "there are no other programs in the sandbox; do it in the script itself",
    page: include_str!("pages/spawn-process.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
