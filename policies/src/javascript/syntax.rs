//! The syntax tree as the analysis walks it: a flat list of nodes, without types and comments.

use std::ops::Range;
use std::sync::LazyLock;

use tree_sitter::Language;

use crate::scan::Parsed;

/// Index of a node.
pub(super) type Id = u32;
/// The index that stands for no node.
pub(super) const NONE: Id = u32::MAX;

macro_rules! kinds {
    ($($kind:ident = $($name:literal)|+),* $(,)?) => {
        /// What a node is. Nodes the analysis knows nothing about are `Other`, and their parts are walked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum K { Skip, Token, Other, Error, Missing, $($kind),* }
        fn kind(name: &str) -> Option<K> {
            match name { $($($name)|+ => Some(K::$kind),)* _ => None }
        }
    };
}

kinds! {
    Program = "program",
    FunctionDeclaration = "function_declaration" | "generator_function_declaration",
    Function = "function_expression" | "generator_function" | "arrow_function" | "method_definition",
    Class = "class" | "class_declaration" | "abstract_class_declaration",
    ClassBody = "class_body",
    Heritage = "class_heritage" | "extends_clause",
    StaticBlock = "class_static_block",
    Field = "field_definition" | "public_field_definition",
    Params = "formal_parameters",
    Param = "required_parameter" | "optional_parameter",
    Block = "statement_block",
    VarDeclaration = "variable_declaration",
    LexicalDeclaration = "lexical_declaration" | "using_declaration",
    Declarator = "variable_declarator",
    If = "if_statement",
    Else = "else_clause",
    Switch = "switch_statement",
    SwitchBody = "switch_body",
    Case = "switch_case" | "switch_default",
    For = "for_statement",
    ForIn = "for_in_statement",
    While = "while_statement",
    Do = "do_statement",
    Try = "try_statement",
    Catch = "catch_clause",
    With = "with_statement",
    Return = "return_statement",
    Throw = "throw_statement",
    Break = "break_statement",
    Continue = "continue_statement",
    Labeled = "labeled_statement",
    ExpressionStatement = "expression_statement",
    Import = "import_statement",
    ImportClause = "import_clause",
    NamedImports = "named_imports",
    ImportSpecifier = "import_specifier",
    NamespaceImport = "namespace_import",
    ImportRequire = "import_require_clause",
    Export = "export_statement",
    ExportSpecifier = "export_specifier",
    Enum = "enum_declaration",
    Namespace = "internal_module" | "module",
    Ident = "identifier" | "shorthand_property_identifier" | "type_identifier",
    PatternIdent = "shorthand_property_identifier_pattern",
    Property = "property_identifier" | "private_property_identifier",
    This = "this",
    Super = "super",
    ImportWord = "import",
    MetaProperty = "meta_property",
    Number = "number",
    String = "string",
    Fragment = "string_fragment",
    Escape = "escape_sequence",
    Template = "template_string",
    Substitution = "template_substitution",
    Regex = "regex",
    RegexPattern = "regex_pattern",
    RegexFlags = "regex_flags",
    True = "true",
    False = "false",
    Null = "null",
    Undefined = "undefined",
    Object = "object",
    Pair = "pair",
    Spread = "spread_element",
    Array = "array",
    ComputedName = "computed_property_name",
    Paren = "parenthesized_expression",
    Subscript = "subscript_expression",
    Member = "member_expression" | "nested_identifier",
    Assign = "assignment_expression",
    AugmentedAssign = "augmented_assignment_expression",
    Await = "await_expression",
    Yield = "yield_expression",
    Unary = "unary_expression",
    Update = "update_expression",
    Binary = "binary_expression",
    Ternary = "ternary_expression",
    Call = "call_expression",
    New = "new_expression",
    Arguments = "arguments",
    Sequence = "sequence_expression",
    Cast = "as_expression" | "satisfies_expression" | "non_null_expression" | "type_assertion" | "instantiation_expression",
    ArrayPattern = "array_pattern",
    ObjectPattern = "object_pattern",
    PairPattern = "pair_pattern",
    DefaultPattern = "assignment_pattern" | "object_assignment_pattern",
    RestPattern = "rest_pattern",
    Decorator = "decorator",
}

/// Nodes that say nothing about what runs: comments, and the types of TypeScript.
fn is_skipped(name: &str) -> bool {
    matches!(
        name,
        "comment"
            | "html_comment"
            | "hash_bang_line"
            | "type_annotation"
            | "type_arguments"
            | "type_parameters"
            | "interface_declaration"
            | "type_alias_declaration"
            | "implements_clause"
            | "ambient_declaration"
            | "function_signature"
            | "method_signature"
            | "abstract_method_signature"
            | "index_signature"
            | "asserts_annotation"
            | "type_predicate_annotation"
            | "optional_chain"
            | "accessibility_modifier"
            | "override_modifier"
            | "import_attribute"
            | "statement_identifier"
    )
}

macro_rules! fields {
    ($($field:ident = $name:literal),* $(,)?) => {
        /// Which part of its parent a node is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum F { None, $($field),* }
        fn field(name: &str) -> F {
            match name { $($name => F::$field,)* _ => F::None }
        }
    };
}

fields! {
    Left = "left", Right = "right", Operator = "operator", Object = "object", Property = "property", Index = "index",
    Function = "function", Arguments = "arguments", Constructor = "constructor", Body = "body",
    Parameters = "parameters", Parameter = "parameter", Name = "name", Value = "value", Key = "key",
    Condition = "condition", Consequence = "consequence", Alternative = "alternative", Initializer = "initializer",
    Increment = "increment", Argument = "argument", Handler = "handler", Finalizer = "finalizer", Source = "source",
    Declaration = "declaration", Alias = "alias", Pattern = "pattern", Kind = "kind", Decorator = "decorator",
    Type = "type",
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) kind: K,
    pub(super) field: F,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) first: Id,
    pub(super) next: Id,
}

/// All nodes of a source; the first is its root, and children follow their parents.
pub(super) struct Syntax<'a> {
    pub(super) text: &'a str,
    pub(super) nodes: Vec<Node>,
    pub(super) depth: usize,
}

/// What the numbers of a grammar mean.
struct Tables {
    kinds: Vec<Option<K>>,
    fields: Vec<F>,
}

impl Tables {
    fn new(language: &Language) -> Self {
        let kinds = (0..=u16::try_from(language.node_kind_count()).unwrap_or(u16::MAX))
            .map(|id| {
                let name = language.node_kind_for_id(id)?;
                if !language.node_kind_is_named(id) {
                    return None;
                }
                Some(kind(name).unwrap_or(if is_skipped(name) { K::Skip } else { K::Other }))
            })
            .collect();
        let fields = (0..=u16::try_from(language.field_count()).unwrap_or(u16::MAX))
            .map(|id| language.field_name_for_id(id).map_or(F::None, field))
            .collect();
        Self { kinds, fields }
    }
}

/// The grammars of JavaScript and of both dialects of TypeScript.
static GRAMMARS: LazyLock<Vec<(Language, Tables)>> = LazyLock::new(|| {
    [
        tree_sitter_javascript::LANGUAGE,
        tree_sitter_typescript::LANGUAGE_TSX,
        tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
    ]
    .into_iter()
    .map(|grammar| {
        let language = grammar.into();
        let tables = Tables::new(&language);
        (language, tables)
    })
    .collect()
});

const NOTHING: Node = Node { kind: K::Skip, field: F::None, start: 0, end: 0, first: NONE, next: NONE };

impl<'a> Syntax<'a> {
    /// Takes over the nodes of a parsed source.
    pub(super) fn new(parsed: &Parsed<'a>) -> Self {
        let language = parsed.tree.language();
        let tables = GRAMMARS.iter().find(|(other, _)| *other == *language).map(|(_, tables)| tables);
        let (kinds, fields) = tables.map_or((&[][..], &[][..]), |tables| (&tables.kinds[..], &tables.fields[..]));
        let mut nodes: Vec<Node> = Vec::with_capacity(parsed.nodes.len());
        // The nodes whose children are being read: the node, its last child so far, and where it ends.
        let mut open: Vec<(Id, Id, usize)> = Vec::new();
        let (mut depth, mut at) = (0, 0);
        while let Some(node) = parsed.nodes.get(at) {
            while open.last().is_some_and(|(_, _, after)| *after <= at) {
                open.pop();
            }
            let field = fields.get(usize::from(node.field)).copied().unwrap_or(F::None);
            let kind = if node.is_missing() {
                Some(K::Missing)
            } else if node.is_error() {
                Some(K::Error)
            } else {
                match kinds.get(usize::from(node.kind)).copied().flatten() {
                    Some(K::Skip) => None,
                    Some(kind) => Some(kind),
                    None if matches!(field, F::Operator | F::Kind) => Some(K::Token),
                    None => None,
                }
            };
            let after = (node.after as usize).max(at + 1);
            let Some(kind) = kind else {
                at = after;
                continue;
            };
            let id = Id::try_from(nodes.len()).unwrap_or(NONE);
            if let Some((parent, last, _)) = open.last_mut() {
                let first = *last == NONE;
                let link = if first { nodes.get_mut(*parent as usize) } else { nodes.get_mut(*last as usize) };
                if let Some(link) = link {
                    *(if first { &mut link.first } else { &mut link.next }) = id;
                }
                *last = id;
            }
            nodes.push(Node { kind, field, start: node.start, end: node.end, first: NONE, next: NONE });
            at += 1;
            if after > at {
                open.push((id, NONE, after));
                depth = depth.max(open.len());
            }
        }
        Self { text: parsed.text, nodes, depth }
    }

    /// The node of that index; past the end, one without kind and children.
    pub(super) fn node(&self, id: Id) -> Node {
        self.nodes.get(id as usize).copied().unwrap_or(NOTHING)
    }

    pub(super) fn kind(&self, id: Id) -> K {
        self.node(id).kind
    }

    /// The bytes of a node.
    pub(super) fn range(&self, id: Id) -> Range<usize> {
        let node = self.node(id);
        node.start as usize..node.end as usize
    }

    /// The text of a node.
    pub(super) fn text(&self, id: Id) -> &'a str {
        self.text.get(self.range(id)).unwrap_or_default()
    }

    /// The children, in order.
    pub(super) fn children(&self, id: Id) -> Children<'_, 'a> {
        Children { syntax: self, next: self.node(id).first }
    }

    /// The first child with that field, or [`NONE`].
    pub(super) fn field(&self, id: Id, field: F) -> Id {
        self.children(id).find(|child| self.node(*child).field == field).unwrap_or(NONE)
    }

    /// The first child, or [`NONE`].
    pub(super) fn first(&self, id: Id) -> Id {
        self.node(id).first
    }

    /// The expression without parentheses and type assertions around it.
    pub(super) fn bare(&self, mut id: Id) -> Id {
        while matches!(self.kind(id), K::Paren | K::Cast) {
            id = self.first(id);
        }
        id
    }
}

/// The children of a node.
pub(super) struct Children<'s, 'a> {
    syntax: &'s Syntax<'a>,
    next: Id,
}

impl Iterator for Children<'_, '_> {
    type Item = Id;

    fn next(&mut self) -> Option<Id> {
        let id = self.next;
        if id == NONE {
            return None;
        }
        self.next = self.syntax.node(id).next;
        Some(id)
    }
}
