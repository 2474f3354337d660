//! `invisible-unicode`: characters that make code look like other code.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "invisible-unicode",
    title: "characters that make code look like other code",
    severity: Severity::Warning,
    cwe: &[1007],
    advice: "remove the character or write it as an escape",
    page: include_str!("pages/invisible-unicode.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
