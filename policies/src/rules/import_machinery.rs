//! `import-machinery`: changing what an import means.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "import-machinery",
    title: "changing what an import means",
    severity: Severity::Error,
    cwe: &[829],
    advice: "import modules by name at the top of the script",
    page: include_str!("pages/import-machinery.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "require.cache*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "require.extensions*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._cache*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._extensions*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._load", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._resolveFilename*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._findPath", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._pathCache*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module.prototype.require*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module.prototype._compile", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module.globalPaths*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "module.paths*", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module.registerHooks", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module.register", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._initPaths", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module._preloadModules", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module.wrap", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "Module.wrapper", trigger: super::Trigger::Named, does: "changes or reads what modules there are" },
    Symbol { path: "process.getBuiltinModule", trigger: super::Trigger::Called, does: "loads a module past `require`" },
    Symbol { path: "Module.require", trigger: super::Trigger::Called, does: "loads a module past `require`" },
    Symbol { path: "importScripts", trigger: super::Trigger::Called, does: "loads code from elsewhere" },
    Symbol { path: "proxyquire", trigger: super::Trigger::Imported, does: "changes what an import means" },
    Symbol { path: "rewire", trigger: super::Trigger::Imported, does: "changes what an import means" },
    Symbol { path: "mock-require", trigger: super::Trigger::Imported, does: "changes what an import means" },
    Symbol { path: "require-hacker", trigger: super::Trigger::Imported, does: "changes what an import means" },
    Symbol { path: "import-fresh", trigger: super::Trigger::Imported, does: "changes what an import means" },
    Symbol { path: "decache", trigger: super::Trigger::Imported, does: "changes what an import means" },
    Symbol { path: "require-in-the-middle", trigger: super::Trigger::Imported, does: "changes what an import means" },
    Symbol { path: "import-in-the-middle", trigger: super::Trigger::Imported, does: "changes what an import means" },
];
