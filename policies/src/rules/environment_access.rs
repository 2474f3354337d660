//! `environment-access`: reading the environment or credentials.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "environment-access",
    title: "reading the environment or credentials",
    severity: Severity::Error,
    cwe: &[526],
    advice: "pass what it needs with `--env`",
    page: include_str!("pages/environment-access.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
