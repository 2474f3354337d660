//! From the concrete tree of the parser to [`Ast`].

use std::collections::HashSet;
use std::rc::Rc;

use tree_sitter::Node;

use super::ast::{
    Arg, ArgKind, Ast, Body, Case, Clause, Comprehension, Expr, ExprId, Function, FunctionId, Imported, Kind, Name,
    Param, Piece, Place, Stmt, StmtKind,
};
use super::literal;

/// What a function binds, while it is read.
#[derive(Default)]
struct Frame {
    bound: HashSet<Name>,
    globals: HashSet<Name>,
    free: HashSet<Name>,
    generator: bool,
    is_class: bool,
}

/// Lowers one tree.
pub(super) struct Lower<'a> {
    text: &'a str,
    ast: &'a mut Ast,
    /// The place everything gets, for code in a string.
    at: Option<Place>,
    frames: Vec<Frame>,
    depth: u32,
    deepest: u32,
    /// Text that follows the one at hand.
    pending: String,
    /// Places of `print x` and `exec x`, which are not Python 3.
    pub(super) old: Vec<(Place, &'static str)>,
}

impl<'a> Lower<'a> {
    pub(super) fn new(text: &'a str, ast: &'a mut Ast, at: Option<Place>) -> Self {
        Self {
            text,
            ast,
            at,
            frames: vec![Frame::default()],
            depth: 0,
            deepest: 0,
            pending: String::new(),
            old: Vec::new(),
        }
    }

    /// The statements of a module.
    pub(super) fn module(&mut self, root: Node<'a>) -> Vec<Stmt> {
        self.block(root)
    }

    /// The names bound at the outermost level.
    pub(super) fn bound(&self) -> HashSet<Name> {
        self.frames.first().map(|frame| frame.bound.clone()).unwrap_or_default()
    }

    fn place(&self, node: Node<'_>) -> Place {
        self.at.unwrap_or_else(|| Place {
            start: u32::try_from(node.start_byte()).unwrap_or(u32::MAX),
            end: u32::try_from(node.end_byte()).unwrap_or(u32::MAX),
        })
    }

    fn source(&self, node: Node<'_>) -> &'a str {
        self.text.get(node.byte_range()).unwrap_or_default()
    }

    fn name(&mut self, node: Node<'_>) -> Name {
        let text = self.source(node);
        self.ast.names.intern(text)
    }

    fn bind(&mut self, name: Name) {
        if let Some(frame) = self.frames.last_mut()
            && !frame.globals.contains(&name)
            && !frame.free.contains(&name)
        {
            frame.bound.insert(name);
        }
    }

    fn add(&mut self, kind: Kind, place: Place) -> ExprId {
        let id = u32::try_from(self.ast.exprs.len()).unwrap_or(u32::MAX);
        self.ast.exprs.push(Rc::new(Expr { kind, place }));
        id
    }

    fn block(&mut self, node: Node<'a>) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        for (_, child) in kids(node) {
            self.statement(child, &mut stmts);
        }
        stmts
    }

    fn field_block(&mut self, node: Node<'a>, field: &str) -> Vec<Stmt> {
        node.child_by_field_name(field).map(|block| self.block(block)).unwrap_or_default()
    }

    fn statement(&mut self, node: Node<'a>, out: &mut Vec<Stmt>) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let place = self.place(node);
        if let Some(kind) = self.statement_kind(node, out) {
            out.push(Stmt { kind, place });
        }
        self.depth -= 1;
    }

    fn statement_kind(&mut self, node: Node<'a>, out: &mut Vec<Stmt>) -> Option<StmtKind> {
        Some(match node.kind() {
            "expression_statement" => {
                let children = kids(node);
                if let [(_, only)] = children.as_slice() {
                    return self.simple(*only);
                }
                let parts = children.into_iter().map(|(_, child)| self.expr(child)).collect();
                let place = self.place(node);
                StmtKind::Expr(self.add(Kind::Tuple(parts), place))
            }
            "assignment" | "augmented_assignment" => return self.simple(node),
            "import_statement" => StmtKind::Import(self.imported(node, true)),
            "future_import_statement" => StmtKind::Pass,
            "import_from_statement" => {
                let module = node.child_by_field_name("module_name");
                let (mut path, mut levels) = (String::new(), 0);
                if let Some(module) = module {
                    if module.kind() == "relative_import" {
                        for (_, child) in kids(module) {
                            match child.kind() {
                                "import_prefix" => {
                                    levels = self.source(child).bytes().filter(|byte| *byte == b'.').count();
                                }
                                _ => path = self.dotted(child),
                            }
                        }
                    } else {
                        path = self.dotted(module);
                    }
                }
                let names = self.imported(node, false);
                let place = module.map_or_else(|| self.place(node), |module| self.place(module));
                StmtKind::FromImport(path.into(), levels, names, place)
            }
            "decorated_definition" => {
                let mut decorators = Vec::new();
                for (_, child) in kids(node) {
                    if child.kind() == "decorator" {
                        for (_, inner) in kids(child) {
                            decorators.push(self.expr(inner));
                        }
                    }
                }
                let definition = node.child_by_field_name("definition")?;
                return self.definition(definition, decorators);
            }
            "function_definition" | "class_definition" => return self.definition(node, Vec::new()),
            "return_statement" => StmtKind::Return(self.only(node)),
            "if_statement" => {
                let test = self.field(node, "condition");
                let then = self.field_block(node, "consequence");
                let mut rest: Vec<Node<'a>> = Vec::new();
                for (field, child) in kids(node) {
                    if field == Some("alternative") {
                        rest.push(child);
                    }
                }
                let mut other = Vec::new();
                for clause in rest.into_iter().rev() {
                    if clause.kind() == "elif_clause" {
                        let test = self.field(clause, "condition");
                        let then = self.field_block(clause, "consequence");
                        let place = self.place(clause);
                        other = vec![Stmt { kind: StmtKind::If(test, then, other), place }];
                        self.deepest = self.deepest.max(self.depth + 1);
                    } else {
                        other = self.field_block(clause, "body");
                    }
                }
                StmtKind::If(test, then, other)
            }
            "while_statement" => {
                let test = self.field(node, "condition");
                let body = self.field_block(node, "body");
                let other = self.alternative(node);
                StmtKind::While(test, body, other)
            }
            "for_statement" => {
                let iterable = self.field(node, "right");
                let target = self.target_field(node, "left");
                let body = self.field_block(node, "body");
                let other = self.alternative(node);
                StmtKind::For(target, iterable, body, other)
            }
            "try_statement" => {
                let body = self.field_block(node, "body");
                let mut rest = Vec::new();
                for (_, clause) in kids(node) {
                    match clause.kind() {
                        "except_clause" | "except_group_clause" => {
                            let (mut types, mut name, mut block) = (Vec::new(), None, Vec::new());
                            for (field, child) in kids(clause) {
                                match (field, child.kind()) {
                                    (_, "block") => block = self.block(child),
                                    (Some("alias"), _) => name = self.handler_name(child),
                                    (_, "as_pattern") => {
                                        for (field, part) in kids(child) {
                                            if field == Some("alias") {
                                                name = self.handler_name(part);
                                            } else {
                                                types.push(self.expr(part));
                                            }
                                        }
                                    }
                                    _ => types.push(self.expr(child)),
                                }
                            }
                            rest.push((types, name, block));
                        }
                        "else_clause" | "finally_clause" => {
                            let mut block = Vec::new();
                            for (_, child) in kids(clause) {
                                if child.kind() == "block" {
                                    block = self.block(child);
                                }
                            }
                            rest.push((Vec::new(), None, block));
                        }
                        _ => {}
                    }
                }
                StmtKind::Try(body, rest)
            }
            "with_statement" => {
                let mut items = Vec::new();
                for (_, clause) in kids(node) {
                    if clause.kind() == "with_clause" {
                        for (_, item) in kids(clause) {
                            self.with_item(item, &mut items);
                        }
                    }
                }
                let body = self.field_block(node, "body");
                StmtKind::With(items, body)
            }
            "match_statement" => {
                let mut subjects = Vec::new();
                let mut cases = Vec::new();
                for (field, child) in kids(node) {
                    match (field, child.kind()) {
                        (Some("subject"), _) => subjects.push(self.expr(child)),
                        (_, "block") => {
                            for (_, clause) in kids(child) {
                                if clause.kind() == "case_clause" {
                                    cases.push(self.case(clause));
                                }
                            }
                        }
                        (_, "case_clause") => cases.push(self.case(child)),
                        _ => {}
                    }
                }
                let place = self.place(node);
                let subject = match subjects.as_slice() {
                    [one] => *one,
                    _ => self.add(Kind::Tuple(subjects), place),
                };
                StmtKind::Match(subject, cases)
            }
            "raise_statement" => StmtKind::Raise(self.all(node)),
            "assert_statement" => StmtKind::Raise(self.all(node)),
            "delete_statement" => {
                let mut targets = Vec::new();
                for (_, child) in kids(node) {
                    let target = self.target(child);
                    targets.push(target);
                }
                StmtKind::Delete(targets)
            }
            "global_statement" | "nonlocal_statement" => {
                let global = node.kind() == "global_statement";
                for (_, child) in kids(node) {
                    let name = self.name(child);
                    if let Some(frame) = self.frames.last_mut() {
                        frame.bound.remove(&name);
                        if global {
                            frame.globals.insert(name);
                        } else {
                            frame.free.insert(name);
                        }
                    }
                }
                StmtKind::Pass
            }
            "break_statement" => StmtKind::Break,
            "continue_statement" => StmtKind::Continue,
            "pass_statement" | "comment" | "line_continuation" => return None,
            "print_statement" => {
                let place = self.place(node);
                self.old.push((place, "a `print` statement is not Python 3"));
                let parts = self.all(node);
                StmtKind::Expr(self.add(Kind::Other(parts), place))
            }
            "exec_statement" => {
                let place = self.place(node);
                self.old.push((place, "an `exec` statement is not Python 3"));
                let name = self.ast.names.intern("exec");
                let function = self.add(Kind::Name(name), place);
                let mut args = Vec::new();
                for (_, child) in kids(node) {
                    args.push(Arg { kind: ArgKind::Plain, value: self.expr(child) });
                }
                StmtKind::Expr(self.add(Kind::Call(function, args), place))
            }
            "type_alias_statement" => {
                if let Some(left) = node.child_by_field_name("left") {
                    self.bind_all(left);
                }
                let right = self.field(node, "right");
                StmtKind::Expr(right)
            }
            "block" | "module" => {
                for (_, child) in kids(node) {
                    self.statement(child, out);
                }
                return None;
            }
            "ERROR" => {
                for (_, child) in kids(node) {
                    self.statement(child, out);
                }
                return None;
            }
            _ => StmtKind::Expr(self.expr(node)),
        })
    }

    fn handler_name(&mut self, node: Node<'a>) -> Option<Name> {
        let mut node = node;
        while node.kind() != "identifier" {
            node = node.named_child(0)?;
        }
        let name = self.name(node);
        self.bind(name);
        Some(name)
    }

    fn with_item(&mut self, item: Node<'a>, items: &mut Vec<(ExprId, Option<ExprId>)>) {
        let Some(value) = item.child_by_field_name("value") else { return };
        self.with_value(value, items);
    }

    fn with_value(&mut self, value: Node<'a>, items: &mut Vec<(ExprId, Option<ExprId>)>) {
        match value.kind() {
            "as_pattern" => {
                let (mut context, mut target) = (None, None);
                for (field, child) in kids(value) {
                    if field == Some("alias") || child.kind() == "as_pattern_target" {
                        target = Some(self.target(child));
                    } else {
                        context = Some(self.expr(child));
                    }
                }
                if let Some(context) = context {
                    items.push((context, target));
                }
            }
            // `with (open(a) as b, open(c) as d):`
            "tuple" | "parenthesized_expression" => {
                for (_, child) in kids(value) {
                    if child.kind() == "as_pattern" {
                        self.with_value(child, items);
                    } else {
                        items.push((self.expr(child), None));
                    }
                }
            }
            _ => items.push((self.expr(value), None)),
        }
    }

    fn case(&mut self, clause: Node<'a>) -> Case {
        let mut case = Case { names: Vec::new(), values: Vec::new(), body: Vec::new() };
        for (field, child) in kids(clause) {
            match (field, child.kind()) {
                (Some("consequence"), _) => case.body = self.block(child),
                (Some("guard"), _) => {
                    let guard = self.expr(child);
                    case.values.push(guard);
                }
                _ => self.case_pattern(child, &mut case),
            }
        }
        case
    }

    fn case_pattern(&mut self, node: Node<'a>, case: &mut Case) {
        match node.kind() {
            "dotted_name" => {
                let parts = kids(node);
                if let [(_, single)] = parts.as_slice() {
                    let name = self.name(*single);
                    if self.source(*single) != "_" {
                        self.bind(name);
                        case.names.push(name);
                    }
                } else {
                    case.values.push(self.dotted_expr(node));
                }
            }
            "class_pattern" => {
                for (index, (_, child)) in kids(node).into_iter().enumerate() {
                    if index == 0 && child.kind() == "dotted_name" {
                        case.values.push(self.dotted_expr(child));
                    } else {
                        self.case_pattern(child, case);
                    }
                }
            }
            "keyword_pattern" => {
                for (_, child) in kids(node).into_iter().skip(1) {
                    self.case_pattern(child, case);
                }
            }
            "identifier" => {
                let name = self.name(node);
                self.bind(name);
                case.names.push(name);
            }
            "string" | "integer" | "float" | "none" | "true" | "false" | "concatenated_string" => {}
            _ => {
                for (_, child) in kids(node) {
                    self.case_pattern(child, case);
                }
            }
        }
    }

    fn dotted_expr(&mut self, node: Node<'a>) -> ExprId {
        let mut made = None;
        let place = self.place(node);
        for (_, part) in kids(node) {
            let name = self.name(part);
            made = Some(match made {
                None => {
                    let place = self.place(part);
                    self.add(Kind::Name(name), place)
                }
                Some(object) => self.add(Kind::Attribute(object, name), place),
            });
        }
        made.unwrap_or_else(|| self.add(Kind::None, place))
    }

    fn definition(&mut self, node: Node<'a>, decorators: Vec<ExprId>) -> Option<StmtKind> {
        let name_node = node.child_by_field_name("name")?;
        let name = self.name(name_node);
        self.bind(name);
        if node.kind() == "function_definition" {
            let parameters = node.child_by_field_name("parameters");
            let returns = node.child_by_field_name("return_type").map(|node| self.expr(node));
            let body = node.child_by_field_name("body")?;
            let function = self.function(parameters, returns, body, true);
            return Some(StmtKind::Def(name, function, decorators));
        }
        let bases = node.child_by_field_name("superclasses").map(|list| self.args(list)).unwrap_or_default();
        self.frames.push(Frame { is_class: true, ..Frame::default() });
        let body = self.field_block(node, "body");
        self.frames.pop();
        Some(StmtKind::Class { name, bases, body, decorators })
    }

    fn function(
        &mut self,
        parameters: Option<Node<'a>>,
        returns: Option<ExprId>,
        body: Node<'a>,
        block: bool,
    ) -> FunctionId {
        // Defaults and annotations belong to the scope around it.
        let params = parameters.map(|node| self.params(node)).unwrap_or_default();
        self.frames.push(Frame::default());
        for param in &params {
            self.bind(param.name);
        }
        let (outer, start) = (self.deepest, self.depth);
        self.deepest = self.depth;
        let body = if block { Body::Block(self.block(body)) } else { Body::Expression(self.expr(body)) };
        let depth = self.deepest - start;
        self.deepest = self.deepest.max(outer);
        let frame = self.frames.pop().unwrap_or_default();
        let function = Function {
            params,
            returns,
            body,
            bound: frame.bound,
            globals: frame.globals,
            generator: frame.generator,
            depth,
        };
        let id = u32::try_from(self.ast.functions.len()).unwrap_or(u32::MAX);
        self.ast.functions.push(Rc::new(function));
        id
    }

    fn params(&mut self, node: Node<'a>) -> Vec<Param> {
        let mut params = Vec::new();
        let mut keyword_only = false;
        for (_, child) in kids(node) {
            let mut param = Param { name: 0, default: None, annotation: None, kind: ArgKind::Plain, keyword_only };
            let mut named = None;
            match child.kind() {
                "identifier" => named = Some(child),
                "default_parameter" | "typed_default_parameter" => {
                    named = child.child_by_field_name("name");
                    param.default = child.child_by_field_name("value").map(|node| self.expr(node));
                    param.annotation = child.child_by_field_name("type").map(|node| self.expr(node));
                }
                "typed_parameter" => {
                    param.annotation = child.child_by_field_name("type").map(|node| self.expr(node));
                    named = child.named_child(0);
                }
                "keyword_separator" => {
                    keyword_only = true;
                    continue;
                }
                "list_splat_pattern" | "dictionary_splat_pattern" => named = Some(child),
                _ => {}
            }
            if let Some(node) = named {
                let inner = match node.kind() {
                    "list_splat_pattern" => {
                        param.kind = ArgKind::Star;
                        keyword_only = true;
                        node.named_child(0)
                    }
                    "dictionary_splat_pattern" => {
                        param.kind = ArgKind::DoubleStar;
                        node.named_child(0)
                    }
                    _ => Some(node),
                };
                if let Some(inner) = inner {
                    param.name = self.name(inner);
                    params.push(param);
                }
            }
        }
        params
    }

    fn imported(&mut self, node: Node<'a>, whole: bool) -> Vec<Imported> {
        let mut names = Vec::new();
        for (field, child) in kids(node) {
            if field != Some("name") {
                continue;
            }
            let place = self.place(child);
            let (path, alias) = if child.kind() == "aliased_import" {
                let path = child.child_by_field_name("name").map(|node| self.dotted(node)).unwrap_or_default();
                let alias = child.child_by_field_name("alias").map(|node| self.name(node));
                (path, alias)
            } else {
                (self.dotted(child), None)
            };
            let first = if whole { path.split('.').next().unwrap_or_default() } else { path.as_str() };
            let bound = alias.unwrap_or_else(|| self.ast.names.intern(first));
            self.bind(bound);
            names.push(Imported { path: path.into(), alias, place });
        }
        names
    }

    /// A dotted name without what may stand between its parts.
    fn dotted(&mut self, node: Node<'a>) -> String {
        if node.kind() != "dotted_name" {
            let name = self.name(node);
            return self.ast.names.get(name).to_string();
        }
        let mut path = String::new();
        for (_, part) in kids(node) {
            if !path.is_empty() {
                path.push('.');
            }
            let name = self.name(part);
            path.push_str(&self.ast.names.get(name));
        }
        path
    }

    fn simple(&mut self, node: Node<'a>) -> Option<StmtKind> {
        Some(match node.kind() {
            "assignment" => {
                let mut targets = Vec::new();
                let mut current = node;
                loop {
                    let annotation = current.child_by_field_name("type").map(|node| self.expr(node));
                    let target = current.child_by_field_name("left").map(|left| self.target(left));
                    targets.extend(target);
                    match current.child_by_field_name("right") {
                        None => {
                            let target = target?;
                            return Some(StmtKind::Annotated(target, annotation?));
                        }
                        Some(right) if right.kind() == "assignment" => current = right,
                        Some(right) => {
                            let value = self.expr(right);
                            if let Some(annotation) = annotation {
                                let place = self.place(node);
                                let first = Stmt { kind: StmtKind::Expr(annotation), place };
                                let second = Stmt { kind: StmtKind::Assign(targets, value), place };
                                return Some(StmtKind::Block(vec![second, first]));
                            }
                            return Some(StmtKind::Assign(targets, value));
                        }
                    }
                }
            }
            "augmented_assignment" => {
                let operator = node.child_by_field_name("operator").map_or("", |node| operator(self.source(node)));
                let target = self.target_field(node, "left");
                let value = self.field(node, "right");
                StmtKind::AugAssign(target, operator, value)
            }
            _ => StmtKind::Expr(self.expr(node)),
        })
    }

    fn alternative(&mut self, node: Node<'a>) -> Vec<Stmt> {
        node.child_by_field_name("alternative").map(|clause| self.field_block(clause, "body")).unwrap_or_default()
    }

    fn field(&mut self, node: Node<'a>, field: &str) -> ExprId {
        match node.child_by_field_name(field) {
            Some(child) => self.expr(child),
            None => {
                let place = self.place(node);
                self.add(Kind::Other(Vec::new()), place)
            }
        }
    }

    fn target_field(&mut self, node: Node<'a>, field: &str) -> ExprId {
        match node.child_by_field_name(field) {
            Some(child) => self.target(child),
            None => self.field(node, field),
        }
    }

    fn only(&mut self, node: Node<'a>) -> Option<ExprId> {
        let children = kids(node);
        match children.as_slice() {
            [] => None,
            [(_, one)] => Some(self.expr(*one)),
            _ => {
                let place = self.place(node);
                let parts = children.into_iter().map(|(_, child)| self.expr(child)).collect();
                Some(self.add(Kind::Tuple(parts), place))
            }
        }
    }

    fn all(&mut self, node: Node<'a>) -> Vec<ExprId> {
        kids(node).into_iter().map(|(_, child)| self.expr(child)).collect()
    }

    fn bind_all(&mut self, node: Node<'a>) {
        if node.kind() == "identifier" {
            let name = self.name(node);
            self.bind(name);
        }
        for (_, child) in kids(node) {
            self.bind_all(child);
        }
    }

    /// An expression that is assigned to: its names are bound.
    fn target(&mut self, node: Node<'a>) -> ExprId {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let place = self.place(node);
        let id = match node.kind() {
            "identifier" => {
                let name = self.name(node);
                self.bind(name);
                self.add(Kind::Name(name), place)
            }
            "pattern_list" | "tuple_pattern" | "list_pattern" | "tuple" | "list" | "expression_list" => {
                let mut parts = Vec::new();
                for (_, child) in kids(node) {
                    let part = self.target(child);
                    parts.push(part);
                }
                self.add(Kind::Tuple(parts), place)
            }
            "list_splat_pattern" | "list_splat" => match node.named_child(0) {
                Some(inner) => {
                    let inner = self.target(inner);
                    self.add(Kind::Star(inner), place)
                }
                None => self.add(Kind::None, place),
            },
            "as_pattern_target" | "parenthesized_expression" => match node.named_child(0) {
                Some(inner) => self.target(inner),
                None => self.add(Kind::None, place),
            },
            _ => self.expr(node),
        };
        self.depth -= 1;
        id
    }

    pub(super) fn expr(&mut self, node: Node<'a>) -> ExprId {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let place = self.place(node);
        let kind = self.kind(node, place);
        let id = match kind {
            Ok(kind) => self.add(kind, place),
            Err(id) => id,
        };
        self.depth -= 1;
        id
    }

    /// The kind of an expression, or the expression it is nothing but another writing of.
    fn kind(&mut self, node: Node<'a>, place: Place) -> Result<Kind, ExprId> {
        Ok(match node.kind() {
            "identifier" => Kind::Name(self.name(node)),
            "integer" => literal::number(self.source(node)),
            "float" => Kind::Float(self.source(node).replace('_', "").parse().unwrap_or(0.0)),
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            "none" => Kind::None,
            "string" => self.string(node),
            "concatenated_string" => {
                let mut parts: Vec<ExprId> = Vec::new();
                // Neighbors that are plain text are one text: joined at once, for there may be thousands.
                let mut text: Option<Kind> = None;
                for (_, child) in kids(node) {
                    let kind = if child.kind() == "string" { Ok(self.string(child)) } else { self.kind(child, place) };
                    match (kind, &mut text) {
                        (Ok(Kind::Str(more)), Some(Kind::Other(_)) | None) => text = Some(Kind::Str(more)),
                        (Ok(Kind::Str(more)), Some(Kind::Str(_))) => self.pending.push_str(&more),
                        (Ok(Kind::Bytes(more)), None) => text = Some(Kind::Bytes(more)),
                        (kind, _) => {
                            if let Some(kind) = text.take() {
                                let kind = self.with_pending(kind);
                                parts.push(self.add(kind, place));
                            }
                            parts.push(match kind {
                                Ok(kind) => self.add(kind, place),
                                Err(id) => id,
                            });
                        }
                    }
                }
                if let Some(kind) = text.take() {
                    let kind = self.with_pending(kind);
                    parts.push(self.add(kind, place));
                }
                let mut joined: Option<ExprId> = None;
                for part in parts {
                    joined = Some(match joined {
                        None => part,
                        Some(left) => self.add(Kind::Binary("+", left, part), place),
                    });
                }
                return Err(joined.unwrap_or_else(|| self.add(Kind::None, place)));
            }
            "attribute" => {
                let object = self.field(node, "object");
                let name = node.child_by_field_name("attribute").map_or(0, |node| self.name(node));
                Kind::Attribute(object, name)
            }
            "call" => {
                let function = self.field(node, "function");
                let args = match node.child_by_field_name("arguments") {
                    Some(list) if list.kind() == "generator_expression" => {
                        vec![Arg { kind: ArgKind::Plain, value: self.expr(list) }]
                    }
                    Some(list) => self.args(list),
                    None => Vec::new(),
                };
                Kind::Call(function, args)
            }
            "subscript" => {
                let object = self.field(node, "value");
                let mut indices = Vec::new();
                for (field, child) in kids(node) {
                    if field == Some("subscript") {
                        indices.push(self.expr(child));
                    }
                }
                let index = match indices.as_slice() {
                    [one] => *one,
                    _ => self.add(Kind::Tuple(indices), place),
                };
                Kind::Subscript(object, index)
            }
            "slice" => self.slice(node),
            "binary_operator" => {
                let operator = node.child_by_field_name("operator").map_or("", |node| operator(self.source(node)));
                let left = self.field(node, "left");
                let right = self.field(node, "right");
                Kind::Binary(operator, left, right)
            }
            "boolean_operator" => {
                let or = node.child_by_field_name("operator").is_some_and(|node| self.source(node) == "or");
                let left = self.field(node, "left");
                let right = self.field(node, "right");
                Kind::Either(or, left, right)
            }
            "not_operator" => Kind::Not(self.field(node, "argument")),
            "unary_operator" => {
                let operator = node.child_by_field_name("operator").map_or("", |node| self.source(node));
                let argument = self.field(node, "argument");
                match operator {
                    "-" => Kind::Negative(argument),
                    "~" => Kind::Invert(argument),
                    _ => return Err(argument),
                }
            }
            "comparison_operator" => {
                let mut cursor = node.walk();
                let operators =
                    node.children_by_field_name("operators", &mut cursor).map(|node| comparison(node.kind())).collect();
                Kind::Compare(self.all(node), operators)
            }
            "conditional_expression" => match self.all(node).as_slice() {
                [then, test, other] => Kind::Conditional { test: *test, then: *then, other: *other },
                all => Kind::Other(all.to_vec()),
            },
            "lambda" => {
                let parameters = node.child_by_field_name("parameters");
                match node.child_by_field_name("body") {
                    Some(body) => Kind::Lambda(self.function(parameters, None, body, false)),
                    None => Kind::None,
                }
            }
            "parenthesized_expression" | "type" | "await" | "interpolation" => {
                let parts = self.all(node);
                match (node.kind(), parts.as_slice()) {
                    ("await", [one]) => Kind::Await(*one),
                    (_, [one]) => return Err(*one),
                    _ => Kind::Other(parts),
                }
            }
            "tuple" | "expression_list" => Kind::Tuple(self.all(node)),
            "list" => Kind::List(self.all(node)),
            "set" => Kind::Set(self.all(node)),
            "dictionary" => {
                let mut pairs = Vec::new();
                for (_, child) in kids(node) {
                    match child.kind() {
                        "pair" => {
                            let key = self.field(child, "key");
                            let value = self.field(child, "value");
                            pairs.push((Some(key), value));
                        }
                        "dictionary_splat" => {
                            for inner in self.all(child) {
                                pairs.push((None, inner));
                            }
                        }
                        _ => pairs.push((None, self.expr(child))),
                    }
                }
                Kind::Dict(pairs)
            }
            "list_comprehension" => self.comprehension(node, Comprehension::List),
            "set_comprehension" => self.comprehension(node, Comprehension::Set),
            "generator_expression" => self.comprehension(node, Comprehension::Generator),
            "dictionary_comprehension" => self.comprehension(node, Comprehension::Dict),
            "yield" => {
                if let Some(frame) = self.frames.iter_mut().rev().find(|frame| !frame.is_class) {
                    frame.generator = true;
                }
                Kind::Yield(self.only(node))
            }
            "list_splat" | "dictionary_splat" | "parenthesized_list_splat" => match self.only(node) {
                Some(inner) => Kind::Star(inner),
                None => Kind::None,
            },
            "named_expression" => {
                let target = self.target_field(node, "name");
                let value = self.field(node, "value");
                Kind::Walrus(target, value)
            }
            "as_pattern" => {
                let mut parts = Vec::new();
                for (field, child) in kids(node) {
                    if field == Some("alias") || child.kind() == "as_pattern_target" {
                        let target = self.target(child);
                        parts.push(target);
                    } else {
                        parts.push(self.expr(child));
                    }
                }
                match parts.as_slice() {
                    [value, target] => Kind::Walrus(*target, *value),
                    _ => Kind::Other(parts),
                }
            }
            "assignment" | "augmented_assignment" => {
                let left = self.target_field(node, "left");
                let right = self.field(node, "right");
                Kind::Walrus(left, right)
            }
            "ellipsis" | "comment" | "line_continuation" | "escape_sequence" | "string_content" => {
                Kind::Other(Vec::new())
            }
            kind if kind.ends_with("_statement") || kind.ends_with("_definition") || kind == "block" => {
                // A statement where an expression stands: only within an ERROR. Its parts are looked at.
                let mut stmts = Vec::new();
                self.statement(node, &mut stmts);
                Kind::Other(stmts.iter().flat_map(parts_of).collect())
            }
            _ => Kind::Other(self.all(node)),
        })
    }

    fn slice(&mut self, node: Node<'a>) -> Kind {
        let mut parts = [None; 3];
        let mut index = 0;
        let mut cursor = node.walk();
        if cursor.goto_first_child() {
            loop {
                let child = cursor.node();
                if child.kind() == ":" {
                    index += 1;
                } else if child.is_named() && child.kind() != "comment" {
                    let value = self.expr(child);
                    if let Some(part) = parts.get_mut(index) {
                        *part = Some(value);
                    }
                }
                if !cursor.goto_next_sibling() {
                    break;
                }
            }
        }
        Kind::Slice(parts)
    }

    fn comprehension(&mut self, node: Node<'a>, kind: Comprehension) -> Kind {
        // Its own scope: what it binds is not seen outside.
        self.frames.push(Frame::default());
        let mut clauses = Vec::new();
        let mut body = None;
        for (field, child) in kids(node) {
            match (field, child.kind()) {
                (Some("body"), _) => body = Some(child),
                (_, "for_in_clause") => {
                    let mut sources = Vec::new();
                    let mut target = None;
                    for (field, part) in kids(child) {
                        match field {
                            Some("left") => target = Some(self.target(part)),
                            _ => sources.push(self.expr(part)),
                        }
                    }
                    let source = match sources.as_slice() {
                        [one] => *one,
                        _ => {
                            let place = self.place(child);
                            self.add(Kind::Tuple(sources), place)
                        }
                    };
                    if let Some(target) = target {
                        clauses.push(Clause::For(target, source));
                    }
                }
                (_, "if_clause") => {
                    for test in self.all(child) {
                        clauses.push(Clause::If(test));
                    }
                }
                _ => {
                    let other = self.expr(child);
                    clauses.push(Clause::If(other));
                }
            }
        }
        let (element, value) = match body {
            Some(pair) if pair.kind() == "pair" => {
                let key = self.field(pair, "key");
                let value = self.field(pair, "value");
                (key, Some(value))
            }
            Some(body) => (self.expr(body), None),
            None => {
                let place = self.place(node);
                (self.add(Kind::None, place), None)
            }
        };
        // Names bound by `:=` belong to the scope around it.
        let inner = self.frames.pop().unwrap_or_default();
        if let Some(outer) = self.frames.iter_mut().rev().find(|frame| !frame.is_class) {
            outer.generator |= inner.generator;
        }
        Kind::Comprehension(kind, element, value, clauses)
    }

    fn args(&mut self, list: Node<'a>) -> Vec<Arg> {
        let mut args = Vec::new();
        for (_, child) in kids(list) {
            let arg = match child.kind() {
                "keyword_argument" => {
                    let key = child.child_by_field_name("name").map_or(0, |node| self.name(node));
                    Arg { kind: ArgKind::Key(key), value: self.field(child, "value") }
                }
                "list_splat" => match self.only(child) {
                    Some(value) => Arg { kind: ArgKind::Star, value },
                    None => continue,
                },
                "dictionary_splat" => match self.only(child) {
                    Some(value) => Arg { kind: ArgKind::DoubleStar, value },
                    None => continue,
                },
                _ => Arg { kind: ArgKind::Plain, value: self.expr(child) },
            };
            args.push(arg);
        }
        args
    }

    /// A text with what was put aside to follow it.
    fn with_pending(&mut self, kind: Kind) -> Kind {
        let more = std::mem::take(&mut self.pending);
        match kind {
            Kind::Str(text) if !more.is_empty() => Kind::Str(format!("{text}{more}").into()),
            kind => kind,
        }
    }

    fn string(&mut self, node: Node<'a>) -> Kind {
        let text = self.source(node);
        let Some(form) = literal::form(text) else { return Kind::Other(self.all(node)) };
        if !form.format {
            return form.value(text);
        }
        let mut pieces = Vec::new();
        for (_, child) in kids(node) {
            match child.kind() {
                "string_content" => {
                    let text = self.source(child).replace("{{", "{").replace("}}", "}");
                    pieces.push(Piece::Text(literal::unescape(&text, form.raw).into()));
                }
                "interpolation" => {
                    let mut value = None;
                    let mut suffix = String::new();
                    for (field, part) in kids(child) {
                        match (field, part.kind()) {
                            (Some("expression"), _) => value = Some(self.expr(part)),
                            (_, "type_conversion") => suffix.push_str(self.source(part)),
                            (_, "format_specifier") => {
                                suffix.push_str(self.source(part));
                                for (_, inner) in kids(part) {
                                    let inner = self.expr(inner);
                                    pieces.push(Piece::Value(inner, Some("=".into())));
                                }
                            }
                            _ => {
                                let other = self.expr(part);
                                value.get_or_insert(other);
                            }
                        }
                    }
                    if let Some(value) = value {
                        let suffix = (!suffix.is_empty()).then(|| suffix.into());
                        pieces.push(Piece::Value(value, suffix));
                    }
                }
                _ => {}
            }
        }
        Kind::Format(pieces)
    }
}

/// The expressions directly in a statement.
fn parts_of(stmt: &Stmt) -> Vec<ExprId> {
    match &stmt.kind {
        StmtKind::Expr(expr) => vec![*expr],
        StmtKind::Assign(targets, value) => targets.iter().chain([value]).copied().collect(),
        StmtKind::Raise(parts) | StmtKind::Delete(parts) => parts.clone(),
        StmtKind::If(test, then, other) | StmtKind::While(test, then, other) => {
            std::iter::once(*test).chain(then.iter().chain(other).flat_map(parts_of)).collect()
        }
        StmtKind::Block(block) => block.iter().flat_map(parts_of).collect(),
        _ => Vec::new(),
    }
}

fn comparison(text: &str) -> &'static str {
    const ALL: [&str; 10] = ["==", "!=", "<", ">", "<=", ">=", "in", "not in", "is", "is not"];
    ALL.into_iter().find(|operator| *operator == text).unwrap_or("?")
}

fn operator(text: &str) -> &'static str {
    const ALL: [&str; 13] = ["+", "-", "*", "/", "//", "%", "**", "@", "|", "&", "^", "<<", ">>"];
    let text = text.strip_suffix('=').unwrap_or(text);
    ALL.into_iter().find(|operator| *operator == text).unwrap_or("?")
}

/// The named children, without comments, each with the name of its field.
fn kids<'a>(node: Node<'a>) -> Vec<(Option<&'a str>, Node<'a>)> {
    let mut children = Vec::with_capacity(node.named_child_count());
    let mut cursor = node.walk();
    if cursor.goto_first_child() {
        loop {
            let child = cursor.node();
            if child.is_named() && !child.is_extra() {
                children.push((cursor.field_name(), child));
            } else if child.is_error() {
                children.push((None, child));
            }
            if !cursor.goto_next_sibling() {
                break;
            }
        }
    }
    children
}
