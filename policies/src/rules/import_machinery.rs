//! `import-machinery`: changing what an import means.

use super::{Rule, Symbol, Trigger};
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

const PYTHON: &[Symbol] = &[
    Symbol { path: "imp", trigger: Trigger::Imported, does: "loads code in other ways than by import statements" },
    Symbol { path: "zipimport", trigger: Trigger::Imported, does: "loads code in other ways than by import statements" },
    Symbol { path: "importlib.util.spec_from_file_location", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.util.spec_from_loader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.util.module_from_spec", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.util.LazyLoader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.machinery.SourceFileLoader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.machinery.SourcelessFileLoader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.machinery.FileFinder", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.machinery.PathFinder", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.machinery.BuiltinImporter", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.machinery.FrozenImporter", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.machinery.ModuleSpec", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.abc.Loader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.abc.MetaPathFinder", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.abc.SourceLoader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.abc.InspectLoader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib._bootstrap*", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "importlib.find_loader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pkgutil.find_loader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pkgutil.get_loader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pkgutil.get_importer", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pkgutil.ImpImporter", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pkgutil.ImpLoader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "sys.meta_path", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "sys.path_hooks", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "sys.path_importer_cache", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "__loader__", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "__spec__.loader", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "imp.load_source", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "builtins.reload", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pkg_resources.load_entry_point", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "modulefinder.ModuleFinder", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pydoc.locate", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pydoc.importfile", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "pkgutil.resolve_name", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "logging.config._resolve", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "unittest.mock._importer", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "unittest.mock._dot_lookup", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
    Symbol { path: "test.support.import_helper.*", trigger: Trigger::Named, does: "loads code in other ways than by an import statement" },
];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
