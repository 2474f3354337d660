//! Which modules a Python source imports: to find those that lie beside it before it runs.

use tree_sitter::Node;

use super::{Parsed, Source};

/// The most import statements of one source that are followed.
const MOST_IMPORTS: usize = 10_000;

/// One import, as a statement writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// Number of leading dots: 0 for an absolute import.
    pub level: usize,
    /// Names between dots; empty for `from . import x`.
    pub module: Vec<String>,
    /// What is taken from it with `from`; a `*` is left out.
    pub names: Vec<String>,
}

/// The import statements of a Python source, in the order they stand in, wherever they stand. Empty if it cannot be parsed.
#[must_use]
pub fn imports(source: &Source) -> Vec<Import> {
    // Most small scripts have none, and parsing is what takes time.
    if !source.text().contains("import") {
        return Vec::new();
    }
    let Ok(parsed) = Parsed::parse(source) else { return Vec::new() };
    let mut found = Vec::new();
    let mut cursor = parsed.tree.walk();
    loop {
        let node = cursor.node();
        match node.kind() {
            "import_statement" => plain(node, parsed.text, &mut found),
            "import_from_statement" => found.extend(from(node, parsed.text)),
            _ if cursor.goto_first_child() => continue,
            _ => {}
        }
        if found.len() >= MOST_IMPORTS {
            return found;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return found;
            }
        }
    }
}

/// `import a.b, c as d`
fn plain(node: Node<'_>, text: &str, found: &mut Vec<Import>) {
    for name in node.children_by_field_name("name", &mut node.walk()) {
        found.push(Import { level: 0, module: dotted(name, text), names: Vec::new() });
    }
}

/// `from ..a import b, c as d`
fn from(node: Node<'_>, text: &str) -> Option<Import> {
    let module = node.child_by_field_name("module_name")?;
    let written = text.get(module.byte_range())?;
    let level = written.chars().take_while(|c| *c == '.' || c.is_whitespace()).filter(|c| *c == '.').count();
    let names = node
        .children_by_field_name("name", &mut node.walk())
        .filter_map(|name| dotted(name, text).into_iter().next())
        .collect();
    let module = match module.kind() {
        "relative_import" => {
            module.named_children(&mut module.walk()).find(|n| n.kind() == "dotted_name").map(|n| dotted(n, text))
        }
        _ => Some(dotted(module, text)),
    };
    Some(Import { level, module: module.unwrap_or_default(), names })
}

/// The names of a dotted name, without what an `as` adds.
fn dotted(node: Node<'_>, text: &str) -> Vec<String> {
    let node = node.child_by_field_name("name").unwrap_or(node);
    node.named_children(&mut node.walk())
        .filter(|child| child.kind() == "identifier")
        .filter_map(|child| text.get(child.byte_range()).map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceLanguage;

    #[test]
    fn every_form_is_read() {
        let text = "import a.b, c as d\nfrom . import e\nfrom ..f.g import (h as i, j)\nif 1:\n    from k import *\n\
                    try: import l\nexcept: pass\n'import m'\n";
        let source = Source::decode(text.as_bytes(), SourceLanguage::Python).unwrap();
        let shown: Vec<String> = imports(&source)
            .into_iter()
            .map(|i| format!("{}{}:{}", ".".repeat(i.level), i.module.join("."), i.names.join(",")))
            .collect();
        assert_eq!(shown, ["a.b:", "c:", ".:e", "..f.g:h,j", "k:", "l:"]);
    }
}
