//! `native-code`: leaving the language for native code.

use super::{Rule, Symbol, Trigger};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "native-code",
    title: "leaving the language for native code",
    severity: Severity::Error,
    cwe: &[114],
    advice: "use the standard library; native code cannot be loaded in the sandbox",
    page: include_str!("pages/native-code.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[
    Symbol { path: "ctypes", trigger: Trigger::Imported, does: "calls native code" },
    Symbol { path: "cffi", trigger: Trigger::Imported, does: "calls native code" },
    Symbol { path: "_cffi_backend", trigger: Trigger::Imported, does: "calls native code" },
    Symbol { path: "pyximport", trigger: Trigger::Imported, does: "calls native code" },
    Symbol { path: "Cython", trigger: Trigger::Imported, does: "calls native code" },
    Symbol { path: "llvmlite", trigger: Trigger::Imported, does: "calls native code" },
    Symbol { path: "weave", trigger: Trigger::Imported, does: "calls native code" },
    Symbol { path: "importlib.machinery.ExtensionFileLoader", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "importlib.machinery.EXTENSION_SUFFIXES", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "numpy.ctypeslib.load_library", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "numpy.ctypeslib.*", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "numpy.f2py.*", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "sys.setdlopenflags", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "imp.load_dynamic", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "imp.create_dynamic", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "_imp.create_dynamic", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "distutils.core.Extension", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "setuptools.Extension", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "torch.utils.cpp_extension.*", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "scipy.weave.*", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "cppyy.*", trigger: Trigger::Named, does: "calls native code" },
    Symbol { path: "mmap.PROT_EXEC", trigger: Trigger::Named, does: "calls native code" },
];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
