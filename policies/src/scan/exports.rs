//! What the modules beside a script hand on of the library: `import os` in one is `os` for whoever imports from it.

use std::collections::BTreeMap;

use tree_sitter::Node;

use super::{Parsed, Source, SourceLanguage};

/// The most names of all modules together.
const MOST_NAMES: usize = 10_000;
/// How often names are followed from one own module to the next.
const ROUNDS: usize = 4;

/// Names of own modules that stand for something of the library.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exports {
    /// By import name of the module: its names, and the dotted path each stands for.
    modules: BTreeMap<String, BTreeMap<String, String>>,
}

impl Exports {
    /// Looks through modules: import name and bytes of each. What cannot be read hands on nothing; the scan of that module
    /// itself says so.
    pub(crate) fn of<'a>(modules: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut exports = Self::default();
        let mut left = MOST_NAMES;
        for (name, bytes) in modules {
            let names = Source::decode(bytes, SourceLanguage::Python).map(|source| names(&source)).unwrap_or_default();
            left = left.saturating_sub(names.len());
            if left == 0 {
                break;
            }
            exports.modules.insert(name.to_owned(), names);
        }
        for _ in 0..ROUNDS {
            exports.follow();
        }
        exports
    }

    /// Replaces names that stand for a name of another own module by what that stands for.
    fn follow(&mut self) {
        let known = self.clone();
        for path in self.modules.values_mut().flat_map(BTreeMap::values_mut) {
            if let Some((module, name)) = path.rsplit_once('.')
                && let Some(target) = known.get(module, name)
            {
                *path = target.to_owned();
            }
        }
    }

    /// What a name of a module stands for. A module of a package is found by the end of its name, too.
    pub(crate) fn get(&self, module: &str, name: &str) -> Option<&str> {
        if self.modules.is_empty() {
            return None;
        }
        self.module(module)?.get(name).map(String::as_str)
    }

    /// All names of a module, and what they stand for.
    pub(crate) fn all(&self, module: &str) -> impl Iterator<Item = (&str, &str)> {
        self.module(module).into_iter().flatten().map(|(name, path)| (name.as_str(), path.as_str()))
    }

    /// Whether there is an own module of that name.
    pub(crate) fn has(&self, module: &str) -> bool {
        self.module(module).is_some()
    }

    /// The own modules, with their names and what each stands for.
    pub(crate) fn modules(&self) -> impl ExactSizeIterator<Item = (&String, &BTreeMap<String, String>)> {
        self.modules.iter()
    }

    fn module(&self, module: &str) -> Option<&BTreeMap<String, String>> {
        let module = module.trim_start_matches('.');
        self.modules.get(module).or_else(|| {
            let inner = |name: &str| name.strip_suffix(module).is_some_and(|outer| outer.ends_with('.'));
            self.modules.iter().find(|(name, _)| !module.is_empty() && inner(name)).map(|(_, names)| names)
        })
    }
}

/// Names that imports, and plain assignments of what was imported, bind in a module, wherever they stand.
fn names(source: &Source) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if !source.text().contains("import") {
        return found;
    }
    let Ok(parsed) = Parsed::parse(source) else { return found };
    let text = |node: Node<'_>| parsed.text.get(node.byte_range()).unwrap_or_default().to_owned();
    let mut cursor = parsed.tree.walk();
    loop {
        let node = cursor.node();
        let mut inside = false;
        match node.kind() {
            "import_statement" | "import_from_statement" => {
                let module = node.child_by_field_name("module_name").map(text);
                for name in node.children_by_field_name("name", &mut node.walk()) {
                    let (path, alias) = match name.child_by_field_name("alias") {
                        Some(alias) => {
                            (name.child_by_field_name("name").map(text).unwrap_or_default(), Some(text(alias)))
                        }
                        None => (text(name), None),
                    };
                    let (bound, path) = match (&module, alias) {
                        (Some(module), alias) => (alias.unwrap_or_else(|| path.clone()), format!("{module}.{path}")),
                        (None, Some(alias)) => (alias, path),
                        (None, None) => {
                            let first = path.split('.').next().unwrap_or_default().to_owned();
                            (first.clone(), first)
                        }
                    };
                    found.insert(bound, path);
                }
            }
            "assignment" => {
                let sides = (node.child_by_field_name("left"), node.child_by_field_name("right"));
                if let (Some(left), Some(right)) = sides
                    && left.kind() == "identifier"
                    && matches!(right.kind(), "identifier" | "attribute")
                {
                    let path = text(right);
                    let (first, rest) = path.split_once('.').map_or((path.as_str(), None), |(a, b)| (a, Some(b)));
                    if let Some(base) = found.get(first) {
                        let path = rest.map_or_else(|| base.clone(), |rest| format!("{base}.{rest}"));
                        found.insert(text(left), path);
                    }
                }
            }
            _ => inside = true,
        }
        if found.len() >= MOST_NAMES {
            return found;
        }
        if inside && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return found;
            }
        }
    }
}
