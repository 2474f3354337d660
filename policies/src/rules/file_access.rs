//! `file-access`: files outside what is granted.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "file-access",
    title: "files outside what is granted",
    severity: Severity::Warning,
    cwe: &[22],
    advice: "grant the file with `--read` or `--write`, or work in the current folder or /tmp",
    page: include_str!("pages/file-access.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
