//! `unprovable`: something the scan cannot decide.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "unprovable",
    title: "something the scan cannot decide",
    severity: Severity::Unprovable,
    cwe: &[],
    advice: "write names and paths as constants where you can",
    page: include_str!("pages/unprovable.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
