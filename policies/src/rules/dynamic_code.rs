//! `dynamic-code`: running code that is made at run time.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "dynamic-code",
    title: "running code that is made at run time",
    severity: Severity::Error,
    cwe: &[95],
    advice: "write the code out, or use `ast.literal_eval` or `json` for data",
    page: include_str!("pages/dynamic-code.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "eval", trigger: super::Trigger::Named, does: "runs a text as code" },
    Symbol { path: "Function", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "AsyncFunction", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "GeneratorFunction", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "AsyncGeneratorFunction", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "?.constructor()", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "execScript", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "module._compile", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "Module()._compile", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "Module.prototype._compile", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "require.extensions.*", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "Module.wrap", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "document.write", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "document.writeln", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "vm", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "vm2", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "isolated-vm", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "safe-eval", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "notevil", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "eval", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "node-eval", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "require-from-string", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "repl", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "inspector", trigger: super::Trigger::Imported, does: "is there to run texts as code" },
    Symbol { path: "vm.*", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "vm2.*", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "repl.*", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "inspector.*", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "require-from-string", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "safe-eval", trigger: super::Trigger::Called, does: "runs a text as code" },
    Symbol { path: "globalThis[?]", trigger: super::Trigger::Called, does: "calls a global whose name is computed" },
];
