//! `introspection-escape`: reaching hidden objects through introspection.

use super::{Rule, Symbol, Trigger};
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

const PYTHON: &[Symbol] = &[
    Symbol { path: "sys._getframe", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys._current_frames", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys._current_exceptions", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys.settrace", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys.setprofile", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys.addaudithook", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "threading.settrace", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "threading.setprofile", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "gc.get_objects", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "gc.get_referrers", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "gc.get_referents", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "inspect.getclosurevars", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "os._wrap_close", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys.call_tracing", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys.monitoring*", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
    Symbol { path: "sys.breakpointhook", trigger: Trigger::Named, does: "looks at the frames and objects of the interpreter" },
];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "process[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "module[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "require[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "Module[?]", trigger: super::Trigger::Called, does: "calls a part of the process whose name is computed" },
    Symbol { path: "arguments.callee.caller", trigger: super::Trigger::Named, does: "reaches the function that called" },
    Symbol { path: "Error.prepareStackTrace", trigger: super::Trigger::Named, does: "reaches the frames that called" },
];
