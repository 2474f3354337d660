//! `dynamic-code`: running code that is made at run time.

use super::{Rule, Symbol, Trigger};
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

const PYTHON: &[Symbol] = &[
    Symbol { path: "builtins.eval", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "builtins.exec", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "builtins.execfile", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "code.InteractiveInterpreter", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "code.InteractiveConsole", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "code.interact", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "code.compile_command", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "codeop.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "pdb.run", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "pdb.runeval", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "pdb.runcall", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "bdb.Bdb.run", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "bdb.Bdb.runeval", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "bdb.Bdb.runctx", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "runpy.run_path", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "runpy.run_module", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "runpy._run_code", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "runpy._run_module_code", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "runpy._run_module_as_main", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "runpy.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "doctest.testfile", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "doctest.script_from_examples", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "doctest.debug_src", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "doctest.testsource", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "cProfile.runctx", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "profile.runctx", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "trace.Trace", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "asteval.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "RestrictedPython.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "site.execsitecustomize", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "site.addsitedir", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "site.addpackage", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "js2py.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "execjs.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "lupa.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "pyduktape.*", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "rlcompleter.Completer", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "tkinter.Tcl", trigger: Trigger::Named, does: "runs code that is made at run time" },
    Symbol { path: "builtins.compile", trigger: Trigger::Called, does: "runs code that is made at run time" },
    Symbol { path: "builtins.breakpoint", trigger: Trigger::Called, does: "runs code that is made at run time" },
    Symbol { path: "pdb.set_trace", trigger: Trigger::Called, does: "runs code that is made at run time" },
    Symbol { path: "cProfile.Profile.run", trigger: Trigger::Called, does: "runs code that is made at run time" },
    Symbol { path: "cProfile.Profile.runctx", trigger: Trigger::Called, does: "runs code that is made at run time" },
    Symbol { path: "profile.Profile.run", trigger: Trigger::Called, does: "runs code that is made at run time" },
    Symbol { path: "profile.Profile.runctx", trigger: Trigger::Called, does: "runs code that is made at run time" },
    Symbol { path: "types.CodeType", trigger: Trigger::Called, does: "makes code that runs at run time" },
    Symbol { path: "types.FunctionType", trigger: Trigger::Called, does: "makes code that runs at run time" },
    Symbol { path: "types.LambdaType", trigger: Trigger::Called, does: "makes code that runs at run time" },
];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
