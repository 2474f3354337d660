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

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "process.dlopen", trigger: super::Trigger::Called, does: "reaches native code" },
    Symbol { path: "process._linkedBinding", trigger: super::Trigger::Called, does: "reaches native code" },
    Symbol { path: "process.binding", trigger: super::Trigger::Called, does: "reaches native code" },
    Symbol { path: "internalBinding", trigger: super::Trigger::Called, does: "reaches native code" },
    Symbol { path: "Deno.dlopen", trigger: super::Trigger::Called, does: "reaches native code" },
    Symbol { path: "bun:ffi.*", trigger: super::Trigger::Called, does: "reaches native code" },
    Symbol { path: "process.dlopen", trigger: super::Trigger::Named, does: "reaches native code" },
    Symbol { path: "process.binding", trigger: super::Trigger::Named, does: "reaches native code" },
    Symbol { path: "process._linkedBinding", trigger: super::Trigger::Named, does: "reaches native code" },
    Symbol { path: "internalBinding", trigger: super::Trigger::Named, does: "reaches native code" },
    Symbol { path: "primordials", trigger: super::Trigger::Named, does: "reaches native code" },
    Symbol { path: "ffi-napi", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "ffi", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "node-ffi", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "ref-napi", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "koffi", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "bindings", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "node-gyp-build", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "node-bindings", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "edge-js", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "bun:ffi", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "nbind", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "node-addon-api", trigger: super::Trigger::Imported, does: "reaches native code" },
    Symbol { path: "WebAssembly.instantiate", trigger: super::Trigger::Called, does: "runs compiled code" },
    Symbol { path: "WebAssembly.compile", trigger: super::Trigger::Called, does: "runs compiled code" },
    Symbol { path: "WebAssembly.Module", trigger: super::Trigger::Called, does: "runs compiled code" },
    Symbol { path: "WebAssembly.Instance", trigger: super::Trigger::Called, does: "runs compiled code" },
    Symbol { path: "wasi", trigger: super::Trigger::Imported, does: "runs compiled code" },
    Symbol { path: "v8.setFlagsFromString", trigger: super::Trigger::Called, does: "changes how the engine runs" },
];
