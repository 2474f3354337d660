//! Whether every text a script can evaluate stands in it in plain sight, and is harmless.
//!
//! `eval` on something that only a run shows can do anything, and is an error. But a calculator that asks for nothing from
//! outside, decodes nothing and holds no text that names anything can only evaluate sums. There it is a warning.

use tree_sitter::Node;

use crate::scan::Parsed;

/// Modules that bring no text from outside, and turn none into another.
const PURE: [&str; 22] = [
    "abc",
    "array",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "io",
    "itertools",
    "math",
    "numbers",
    "operator",
    "random",
    "re",
    "statistics",
    "typing",
    "unittest",
];
/// Names that read, decode or put together.
const OPENING: [&str; 34] = [
    "BytesIO",
    "FileIO",
    "__builtins__",
    "__dict__",
    "__globals__",
    "__import__",
    "__subclasses__",
    "bytearray",
    "bytes",
    "chr",
    "compile",
    "decode",
    "dir",
    "exec",
    "format",
    "fromhex",
    "getattr",
    "hex",
    "input",
    "join",
    "maketrans",
    "memoryview",
    "open",
    "open_code",
    "read",
    "readline",
    "recv",
    "repr",
    "replace",
    "reversed",
    "setattr",
    "to_bytes",
    "translate",
    "unhexlify",
];

/// Whether it is so. Reads the tree once.
pub(super) fn closed(parsed: &Parsed<'_>) -> bool {
    let text = |node: Node<'_>| parsed.text.get(node.byte_range()).unwrap_or_default();
    let mut cursor = parsed.tree.walk();
    loop {
        let node = cursor.node();
        let goes_on = match node.kind() {
            "import_statement" | "import_from_statement" => {
                let of = node.child_by_field_name("module_name").or_else(|| node.child_by_field_name("name"));
                let module = of.map(text).unwrap_or_default();
                let first = module.split(['.', ' ']).next().unwrap_or_default();
                // `import a, b` names more than one: the others are not looked at, so it does not pass.
                let one = node.children_by_field_name("name", &mut node.walk()).count() == 1
                    || node.kind() != "import_statement";
                if !(one && PURE.contains(&first)) {
                    return false;
                }
                false
            }
            // A constant is no sum that somebody asked for.
            "call" if evaluates_a_literal(node, parsed.text) => return false,
            "identifier" if OPENING.contains(&text(node)) => return false,
            // From its end: `"metsys"[::-1]`.
            "slice" if text(node).contains("::") => return false,
            "string" if !aside(node) && !harmless(text(node)) => return false,
            "string" | "comment" => false,
            _ => true,
        };
        if goes_on && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return true;
            }
        }
    }
}

fn evaluates_a_literal(call: Node<'_>, text: &str) -> bool {
    let function = call.child_by_field_name("function").and_then(|function| text.get(function.byte_range()));
    let first = call.child_by_field_name("arguments").and_then(|arguments| arguments.named_child(0));
    function == Some("eval") && first.is_some_and(|first| first.kind() == "string")
}

/// A text that goes nowhere: documentation, or compared with something.
fn aside(node: Node<'_>) -> bool {
    node.parent().is_some_and(|parent| matches!(parent.kind(), "expression_statement" | "comparison_operator"))
}

/// A literal that names nothing that could be called: words, or signs and digits.
fn harmless(literal: &str) -> bool {
    let inner = literal.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let inner = inner.trim_matches(['"', '\'']);
    let letters = inner.chars().any(char::is_alphabetic);
    let joins = inner.contains(['(', ')', '[', ']', '{', '}', '.', '=', ':', ';', '"', '\'', '@']);
    !inner.contains(['_', '\\']) && inner.is_ascii() && !(letters && joins)
}

#[cfg(test)]
mod tests {
    use crate::{Policy, Scanner, Script, Verdict};

    fn moderate(text: &str) -> Verdict {
        let script = Script { path: "a.py", bytes: text.as_bytes(), language: None, own_modules: &[] };
        Scanner::new().scan(&script, &Policy::default()).verdict
    }

    #[test]
    fn a_calculator_is_a_warning_and_everything_else_an_error() {
        let calculator = "import random\ndef value(sum):\n    \"\"\"Returns eval('x').\"\"\"\n    if sum == '(x)': return 0\n    \
                          return eval(sum)\nprint(value('1+' + str(random.randint(1, 9))), value('abc'), value('(1+2)'))\n";
        assert_eq!(moderate(calculator), Verdict::Warn);
        for more in [
            "value(input())\n",
            "import sys\n",
            "import base64\n",
            "import math, os\n",
            "value('__class__')\n",
            "value('f(1)')\n",
            "value(chr(111))\n",
            "value(''.join(['o', 's']))\n",
            "value('x.y')\n",
            "value('a\\x28')\n",
            "value('sc'[::-1])\n",
            "exec(value)\n",
            "eval('1')\n",
            "import io\nio.open('a')\n",
        ] {
            assert_eq!(moderate(&format!("{calculator}{more}")), Verdict::Deny, "{more}");
        }
    }
}
