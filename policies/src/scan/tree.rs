//! Syntax trees.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::Instant;

use tree_sitter::{Language, ParseOptions, Parser, Tree};

use super::{DEEPEST_TREE, PARSE_BUDGET, Source, SourceLanguage};

/// A source and its syntax tree, no deeper than [`DEEPEST_TREE`]: recursion over it is safe.
pub(crate) struct Parsed<'a> {
    pub(crate) text: &'a str,
    pub(crate) tree: Tree,
    /// How deep the tree is.
    pub(crate) depth: usize,
}

impl<'a> Parsed<'a> {
    /// Parses within the time budget.
    pub(crate) fn parse(source: &'a Source) -> Result<Self, &'static str> {
        Self::parse_text(source.text(), source.language())
    }

    /// Parses a text, for example code in a string constant.
    pub(crate) fn parse_text(text: &'a str, language: SourceLanguage) -> Result<Self, &'static str> {
        match language {
            SourceLanguage::Python => Self::parse_as(text, &tree_sitter_python::LANGUAGE.into()),
            SourceLanguage::JavaScript => Self::parse_as(text, &tree_sitter_javascript::LANGUAGE.into()),
            SourceLanguage::TypeScript => {
                let parsed = Self::parse_as(text, &tree_sitter_typescript::LANGUAGE_TSX.into())?;
                if !parsed.tree.root_node().has_error() {
                    return Ok(parsed);
                }
                // `<T>x` is markup in the one dialect and a type assertion in the other.
                let plain = Self::parse_as(text, &tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into());
                Ok(plain.ok().filter(|plain| !plain.tree.root_node().has_error()).unwrap_or(parsed))
            }
        }
    }

    fn parse_as(text: &'a str, grammar: &Language) -> Result<Self, &'static str> {
        let tree = PARSER.with_borrow_mut(|parser| {
            parser.set_language(grammar).map_err(|_| "the grammar of this language does not fit this parser")?;
            let start = Instant::now();
            let mut late = |_: &tree_sitter::ParseState| {
                if start.elapsed() > PARSE_BUDGET { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let bytes = text.as_bytes();
            let tree = parser.parse_with_options(
                &mut |at, _| bytes.get(at..).unwrap_or_default(),
                None,
                Some(ParseOptions::new().progress_callback(&mut late)),
            );
            // After a parse that was cut short the parser would go on where it stopped.
            parser.reset();
            tree.ok_or("the source takes too long to parse")
        })?;
        let depth = depth(&tree);
        if depth > DEEPEST_TREE {
            return Err("the source is nested too deeply to be looked at");
        }
        Ok(Self { text, tree, depth })
    }
}

thread_local! {
    /// One parser for each thread: making one takes longer than a short script.
    static PARSER: RefCell<Parser> = RefCell::new(Parser::new());
}

/// The depth of a tree, or a little more than [`DEEPEST_TREE`]; by a cursor, which does not recurse.
fn depth(tree: &Tree) -> usize {
    let mut cursor = tree.walk();
    let (mut depth, mut deepest) = (0, 0);
    loop {
        if cursor.goto_first_child() {
            depth += 1;
            deepest = deepest.max(depth);
            if deepest > DEEPEST_TREE {
                return deepest;
            }
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return deepest;
            }
            depth -= 1;
        }
    }
}
