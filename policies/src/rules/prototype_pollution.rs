//! `prototype-pollution`: changing the prototype all objects share.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "prototype-pollution",
    title: "changing the prototype all objects share",
    severity: Severity::Error,
    cwe: &[1321],
    advice: "use a `Map` or an object without prototype",
    page: include_str!("pages/prototype-pollution.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
