//! The tree of the parser as it is lowered: its kinds and fields as numbers that are matched on.

use std::ops::Range;
use std::sync::LazyLock;

use tree_sitter::Language;

use crate::scan::{Parsed, SyntaxNode};

macro_rules! names {
    ($type:ident, $of:ident, $doc:literal, [$($more:ident),*], $($name:ident = $text:literal),* $(,)?) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $type { $($more,)* $($name),* }
        fn $of(name: &str) -> Option<$type> {
            match name { $($text => Some($type::$name),)* _ => None }
        }
    };
}

names! {
    K, kind, "What a node is. `Token` is one without a name, `Other` one the lowering knows nothing about.",
    [Token, Colon, Other, Error],
    AliasedImport = "aliased_import",
    AsPattern = "as_pattern",
    AsPatternTarget = "as_pattern_target",
    AssertStatement = "assert_statement",
    Assignment = "assignment",
    Attribute = "attribute",
    AugmentedAssignment = "augmented_assignment",
    Await = "await",
    BinaryOperator = "binary_operator",
    Block = "block",
    BooleanOperator = "boolean_operator",
    BreakStatement = "break_statement",
    Call = "call",
    CaseClause = "case_clause",
    ClassDefinition = "class_definition",
    ClassPattern = "class_pattern",
    Comment = "comment",
    ComparisonOperator = "comparison_operator",
    ConcatenatedString = "concatenated_string",
    ConditionalExpression = "conditional_expression",
    ContinueStatement = "continue_statement",
    DecoratedDefinition = "decorated_definition",
    Decorator = "decorator",
    DefaultParameter = "default_parameter",
    DeleteStatement = "delete_statement",
    Dictionary = "dictionary",
    DictionaryComprehension = "dictionary_comprehension",
    DictionarySplat = "dictionary_splat",
    DictionarySplatPattern = "dictionary_splat_pattern",
    DottedName = "dotted_name",
    ElifClause = "elif_clause",
    Ellipsis = "ellipsis",
    ElseClause = "else_clause",
    EscapeSequence = "escape_sequence",
    ExceptClause = "except_clause",
    ExceptGroupClause = "except_group_clause",
    ExecStatement = "exec_statement",
    ExpressionList = "expression_list",
    ExpressionStatement = "expression_statement",
    False = "false",
    FinallyClause = "finally_clause",
    Float = "float",
    ForInClause = "for_in_clause",
    ForStatement = "for_statement",
    FormatSpecifier = "format_specifier",
    FunctionDefinition = "function_definition",
    FutureImportStatement = "future_import_statement",
    GeneratorExpression = "generator_expression",
    GlobalStatement = "global_statement",
    Identifier = "identifier",
    IfClause = "if_clause",
    IfStatement = "if_statement",
    ImportFromStatement = "import_from_statement",
    ImportPrefix = "import_prefix",
    ImportStatement = "import_statement",
    Integer = "integer",
    Interpolation = "interpolation",
    KeywordArgument = "keyword_argument",
    KeywordPattern = "keyword_pattern",
    KeywordSeparator = "keyword_separator",
    Lambda = "lambda",
    LineContinuation = "line_continuation",
    List = "list",
    ListComprehension = "list_comprehension",
    ListPattern = "list_pattern",
    ListSplat = "list_splat",
    ListSplatPattern = "list_splat_pattern",
    MatchStatement = "match_statement",
    Module = "module",
    NamedExpression = "named_expression",
    None = "none",
    NonlocalStatement = "nonlocal_statement",
    NotOperator = "not_operator",
    Pair = "pair",
    ParenthesizedExpression = "parenthesized_expression",
    ParenthesizedListSplat = "parenthesized_list_splat",
    PassStatement = "pass_statement",
    PatternList = "pattern_list",
    PrintStatement = "print_statement",
    RaiseStatement = "raise_statement",
    RelativeImport = "relative_import",
    ReturnStatement = "return_statement",
    Set = "set",
    SetComprehension = "set_comprehension",
    Slice = "slice",
    String = "string",
    StringContent = "string_content",
    Subscript = "subscript",
    True = "true",
    TryStatement = "try_statement",
    Tuple = "tuple",
    TuplePattern = "tuple_pattern",
    Type = "type",
    TypeAliasStatement = "type_alias_statement",
    TypeConversion = "type_conversion",
    TypedDefaultParameter = "typed_default_parameter",
    TypedParameter = "typed_parameter",
    UnaryOperator = "unary_operator",
    WhileStatement = "while_statement",
    WithClause = "with_clause",
    WithStatement = "with_statement",
    Yield = "yield",
}

names! {
    F, field, "Which part of its parent a node is.",
    [None],
    Alias = "alias",
    Alternative = "alternative",
    Argument = "argument",
    Arguments = "arguments",
    Attribute = "attribute",
    Body = "body",
    Condition = "condition",
    Consequence = "consequence",
    Definition = "definition",
    Expression = "expression",
    Function = "function",
    Guard = "guard",
    Key = "key",
    Left = "left",
    ModuleName = "module_name",
    Name = "name",
    Object = "object",
    Operator = "operator",
    Operators = "operators",
    Parameters = "parameters",
    ReturnType = "return_type",
    Right = "right",
    Subject = "subject",
    Subscript = "subscript",
    Superclasses = "superclasses",
    Type = "type",
    Value = "value",
}

impl K {
    /// Whether it stands where statements stand.
    pub(super) fn is_statement(self) -> bool {
        matches!(
            self,
            Self::AssertStatement
                | Self::BreakStatement
                | Self::ClassDefinition
                | Self::ContinueStatement
                | Self::DecoratedDefinition
                | Self::DeleteStatement
                | Self::ExecStatement
                | Self::ExpressionStatement
                | Self::ForStatement
                | Self::FunctionDefinition
                | Self::FutureImportStatement
                | Self::GlobalStatement
                | Self::IfStatement
                | Self::ImportFromStatement
                | Self::ImportStatement
                | Self::MatchStatement
                | Self::NonlocalStatement
                | Self::PassStatement
                | Self::PrintStatement
                | Self::RaiseStatement
                | Self::ReturnStatement
                | Self::TryStatement
                | Self::TypeAliasStatement
                | Self::WhileStatement
                | Self::WithStatement
                | Self::Block
        )
    }
}

/// What the numbers of the grammar mean.
struct Tables {
    kinds: Vec<K>,
    names: Vec<String>,
    fields: Vec<F>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let language: Language = tree_sitter_python::LANGUAGE.into();
    let ids = 0..u16::try_from(language.node_kind_count()).unwrap_or(u16::MAX);
    let names: Vec<String> =
        ids.clone().map(|id| language.node_kind_for_id(id).unwrap_or_default().to_owned()).collect();
    let kinds = ids
        .zip(&names)
        .map(|(id, name)| match name.as_str() {
            name if language.node_kind_is_named(id) => kind(name).unwrap_or(K::Other),
            ":" => K::Colon,
            _ => K::Token,
        })
        .collect();
    let fields = (0..=u16::try_from(language.field_count()).unwrap_or(u16::MAX))
        .map(|id| language.field_name_for_id(id).and_then(field).unwrap_or(F::None))
        .collect();
    Tables { kinds, names, fields }
});

/// A node of a parsed source.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    nodes: &'a [SyntaxNode],
    tables: &'static Tables,
    index: usize,
    node: SyntaxNode,
}

impl<'a> Node<'a> {
    /// The root of a source in Python.
    pub(super) fn root(parsed: &'a Parsed<'_>) -> Option<Self> {
        let node = *parsed.nodes.first()?;
        Some(Self { nodes: &parsed.nodes, tables: &TABLES, index: 0, node })
    }

    pub(super) fn kind(self) -> K {
        self.tables.kinds.get(usize::from(self.node.kind)).copied().unwrap_or(K::Error)
    }

    fn field(self) -> F {
        self.tables.fields.get(usize::from(self.node.field)).copied().unwrap_or(F::None)
    }

    pub(super) fn start(self) -> u32 {
        self.node.start
    }

    pub(super) fn end(self) -> u32 {
        self.node.end
    }

    pub(super) fn byte_range(self) -> Range<usize> {
        self.node.start as usize..self.node.end as usize
    }

    /// The children that are kept, tokens too.
    pub(super) fn children(self) -> Children<'a> {
        Children { of: self, next: self.index + 1 }
    }

    /// The child that is this part of it.
    pub(super) fn child(self, field: F) -> Option<Self> {
        self.children().find(|child| child.field() == field)
    }

    /// The first child that is no token and no comment.
    pub(super) fn first(self) -> Option<Self> {
        kids(self).next().map(|(_, child)| child)
    }

    /// The only child that is no token and no comment.
    pub(super) fn only(self) -> Option<Self> {
        let mut children = kids(self);
        let (_, first) = children.next()?;
        children.next().is_none().then_some(first)
    }

    /// The names, in the grammar, of the children with that field.
    pub(super) fn tokens(self, field: F) -> impl Iterator<Item = &'static str> {
        self.children()
            .filter(move |child| child.field() == field)
            .map(|child| child.tables.names.get(usize::from(child.node.kind)).map_or("", String::as_str))
    }
}

/// Children of a node, in order.
pub(super) struct Children<'a> {
    of: Node<'a>,
    next: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        if self.next >= self.of.node.after as usize {
            return None;
        }
        let index = self.next;
        let node = *self.of.nodes.get(index)?;
        // Past the node itself in any case.
        self.next = (node.after as usize).max(index + 1);
        Some(Node { index, node, ..self.of })
    }
}

/// The children with names, without comments, each with its field.
pub(super) fn kids(node: Node<'_>) -> impl Iterator<Item = (F, Node<'_>)> {
    node.children().filter(|child| child.node.is_named()).filter_map(|child| match child.node.is_extra() {
        false => Some((child.field(), child)),
        true => (child.kind() == K::Error).then_some((F::None, child)),
    })
}
