//! `network-access`: talking to the network.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "network-access",
    title: "talking to the network",
    severity: Severity::Error,
    cwe: &[918],
    advice: "grant the host in your policy, or pass the data on standard input",
    page: include_str!("pages/network-access.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
