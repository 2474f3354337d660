//! Syntax trees.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::time::Duration;

use tree_sitter::{Language, ParseOptions, Parser, Tree};

use super::{DEEPEST_TREE, PARSE_BUDGET, Source, SourceLanguage};

/// A source and its syntax tree, no deeper than [`DEEPEST_TREE`]: recursion over it is safe.
pub(crate) struct Parsed<'a> {
    pub(crate) text: &'a str,
    pub(crate) tree: Tree,
    /// The nodes of the tree, flat.
    pub(crate) nodes: Vec<SyntaxNode>,
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
            SourceLanguage::Python => Self::parse_as(text, &PYTHON),
            SourceLanguage::JavaScript => Self::parse_as(text, &JAVASCRIPT),
            SourceLanguage::TypeScript => {
                let parsed = Self::parse_as(text, &TSX)?;
                if !parsed.tree.root_node().has_error() {
                    return Ok(parsed);
                }
                // `<T>x` is markup in the one dialect and a type assertion in the other.
                let plain = Self::parse_as(text, &TYPESCRIPT);
                Ok(plain.ok().filter(|plain| !plain.tree.root_node().has_error()).unwrap_or(parsed))
            }
        }
    }

    fn parse_as(text: &'a str, grammar: &Grammar) -> Result<Self, &'static str> {
        let tree = PARSER.with_borrow_mut(|parser| {
            parser
                .set_language(&grammar.language)
                .map_err(|_| "the grammar of this language does not fit this parser")?;
            let start = processor_time();
            let mut late = |_: &tree_sitter::ParseState| {
                if processor_time().saturating_sub(start) > PARSE_BUDGET {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
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
        let (nodes, depth) = nodes(&tree, text, grammar).ok_or("the source is nested too deeply to be looked at")?;
        Ok(Self { text, tree, nodes, depth })
    }
}

/// What this thread has computed so far. A loaded machine makes it no longer.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().unwrap_or_default())
}

thread_local! {
    /// One parser for each thread: making one takes longer than a short script.
    static PARSER: RefCell<Parser> = RefCell::new(Parser::new());
}

/// A node of a [`Parsed`] source. Nodes lie in the order they begin in, each before its children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyntaxNode {
    /// The number of its kind in the grammar; [`u16::MAX`] for what could not be parsed.
    pub(crate) kind: u16,
    /// The number of its field in the grammar, or 0.
    pub(crate) field: u16,
    flags: u16,
    /// Its first byte.
    pub(crate) start: u32,
    /// The byte after it.
    pub(crate) end: u32,
    /// Index of the first node that is not in it.
    pub(crate) after: u32,
}

impl SyntaxNode {
    const NAMED: u16 = 1;
    const EXTRA: u16 = 2;
    const MISSING: u16 = 4;

    /// Whether it has a name in the grammar; punctuation and keywords have none.
    pub(crate) fn is_named(self) -> bool {
        self.flags & Self::NAMED != 0
    }

    /// Whether it may stand anywhere, as a comment.
    pub(crate) fn is_extra(self) -> bool {
        self.flags & Self::EXTRA != 0
    }

    /// Whether it could not be parsed.
    pub(crate) fn is_error(self) -> bool {
        self.kind == u16::MAX
    }

    /// Whether the parser put it in where the source lacks it.
    pub(crate) fn is_missing(self) -> bool {
        self.flags & Self::MISSING != 0
    }
}

/// A grammar, and what is asked of it for every node.
struct Grammar {
    language: Language,
    /// For each kind, whether it has a name.
    named: Vec<bool>,
    /// The kind whose tokens all matter: colons tell the parts of a slice apart.
    whole: Option<u16>,
}

impl Grammar {
    fn new(language: Language) -> Self {
        let count = u16::try_from(language.node_kind_count()).unwrap_or(u16::MAX);
        let named = (0..count).map(|id| language.node_kind_is_named(id)).collect();
        let whole = Some(language.id_for_node_kind("slice", true)).filter(|id| *id != 0);
        Self { language, named, whole }
    }
}

static PYTHON: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(tree_sitter_python::LANGUAGE.into()));
static JAVASCRIPT: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(tree_sitter_javascript::LANGUAGE.into()));
static TSX: LazyLock<Grammar> = LazyLock::new(|| Grammar::new(tree_sitter_typescript::LANGUAGE_TSX.into()));
static TYPESCRIPT: LazyLock<Grammar> =
    LazyLock::new(|| Grammar::new(tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into()));

/// The nodes of a tree that mean something, and its depth: those with a name or a field and those that are missing, in one walk with a cursor,
/// which does not recurse. `None` if it is deeper than [`DEEPEST_TREE`].
fn nodes(tree: &Tree, text: &str, grammar: &Grammar) -> Option<(Vec<SyntaxNode>, usize)> {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let mut nodes: Vec<SyntaxNode> = Vec::with_capacity(text.len() / 4 + 8);
    // For each level that is open, the node it is in. Those that are not kept have no children.
    let mut open: Vec<u32> = Vec::with_capacity(64);
    let mut cursor = tree.walk();
    let (mut deepest, mut whole) = (0, false);
    loop {
        let node = cursor.node();
        let kind = node.kind_id();
        let field = cursor.field_id().map_or(0, u16::from);
        let named = grammar.named.get(usize::from(kind)).copied().unwrap_or(true);
        let (start, end) = (offset(node.start_byte()), offset(node.end_byte()));
        let missing = start == end && node.is_missing();
        if named || field != 0 || whole || missing {
            let mut flags = if named { SyntaxNode::NAMED } else { 0 };
            if named && node.is_extra() {
                flags |= SyntaxNode::EXTRA;
            }
            if missing {
                flags |= SyntaxNode::MISSING;
            }
            let id = offset(nodes.len());
            nodes.push(SyntaxNode { kind, field, flags, start, end, after: id + 1 });
            if cursor.goto_first_child() {
                open.push(id);
                deepest = deepest.max(open.len());
                if deepest > DEEPEST_TREE {
                    return None;
                }
                whole = grammar.whole == Some(kind);
                continue;
            }
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return Some((nodes, deepest));
            }
            let after = offset(nodes.len());
            if let Some(node) = open.pop().and_then(|id| nodes.get_mut(id as usize)) {
                node.after = after;
            }
            whole = match (grammar.whole, open.last().and_then(|id| nodes.get(*id as usize))) {
                (Some(whole), Some(parent)) => parent.kind == whole,
                _ => false,
            };
        }
    }
}
