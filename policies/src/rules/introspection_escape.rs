//! `introspection-escape`: reaching hidden objects through introspection.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "introspection-escape",
    title: "reaching hidden objects through introspection",
    severity: Severity::Error,
    cwe: &[749],
    advice: "use the public names of the object",
    page: include_str!("pages/introspection-escape.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "process[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "module[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "require[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "Module[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "arguments.callee.caller", trigger: super::Trigger::Named, does: "reaches the function that called" },
    Symbol { path: "Error.prepareStackTrace", trigger: super::Trigger::Named, does: "reaches the frames that called" },
];
