//! `malicious-idiom`: a known idiom of malware.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "malicious-idiom",
    title: "a known idiom of malware",
    severity: Severity::Error,
    cwe: &[506],
    advice: "do not run this script",
    page: include_str!("pages/malicious-idiom.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "CoinHive*", trigger: super::Trigger::Named, does: "is a miner of coins" },
    Symbol { path: "CoinImp*", trigger: super::Trigger::Named, does: "is a miner of coins" },
];
