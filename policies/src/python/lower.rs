//! From the concrete tree of the parser to [`Ast`].

use std::rc::Rc;

use super::Set;
use super::ast::{
    Arg, ArgKind, Ast, Body, Case, Clause, Comprehension, Expr, ExprId, Function, FunctionId, Imported, Kind, Name,
    Param, Piece, Place, Stmt, StmtKind,
};
use super::literal;
use super::tree::{F, K, Node, kids};

/// What a function binds, while it is read.
#[derive(Default)]
struct Frame {
    bound: Set<Name>,
    globals: Set<Name>,
    free: Set<Name>,
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
    pub(super) fn bound(&self) -> Set<Name> {
        self.frames.first().map(|frame| frame.bound.clone()).unwrap_or_default()
    }

    fn place(&self, node: Node<'_>) -> Place {
        self.at.unwrap_or_else(|| Place { start: node.start(), end: node.end() })
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

    fn field_block(&mut self, node: Node<'a>, field: F) -> Vec<Stmt> {
        node.child(field).map(|block| self.block(block)).unwrap_or_default()
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
            K::ExpressionStatement => {
                if let Some(only) = node.only() {
                    return self.simple(only);
                }
                let parts = self.all(node);
                let place = self.place(node);
                StmtKind::Expr(self.add(Kind::Tuple(parts), place))
            }
            K::Assignment | K::AugmentedAssignment => return self.simple(node),
            K::ImportStatement => StmtKind::Import(self.imported(node, true)),
            K::FutureImportStatement => StmtKind::Pass,
            K::ImportFromStatement => {
                let module = node.child(F::ModuleName);
                let (mut path, mut levels) = (String::new(), 0);
                if let Some(module) = module {
                    if module.kind() == K::RelativeImport {
                        for (_, child) in kids(module) {
                            match child.kind() {
                                K::ImportPrefix => {
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
            K::DecoratedDefinition => {
                let mut decorators = Vec::new();
                for (_, child) in kids(node) {
                    if child.kind() == K::Decorator {
                        for (_, inner) in kids(child) {
                            decorators.push(self.expr(inner));
                        }
                    }
                }
                let definition = node.child(F::Definition)?;
                return self.definition(definition, decorators);
            }
            K::FunctionDefinition | K::ClassDefinition => return self.definition(node, Vec::new()),
            K::ReturnStatement => StmtKind::Return(self.only(node)),
            K::IfStatement => {
                let test = self.field(node, F::Condition);
                let then = self.field_block(node, F::Consequence);
                let mut rest: Vec<Node<'a>> = Vec::new();
                for (field, child) in kids(node) {
                    if field == F::Alternative {
                        rest.push(child);
                    }
                }
                let mut other = Vec::new();
                for clause in rest.into_iter().rev() {
                    if clause.kind() == K::ElifClause {
                        let test = self.field(clause, F::Condition);
                        let then = self.field_block(clause, F::Consequence);
                        let place = self.place(clause);
                        other = vec![Stmt { kind: StmtKind::If(test, then, other), place }];
                        self.deepest = self.deepest.max(self.depth + 1);
                    } else {
                        other = self.field_block(clause, F::Body);
                    }
                }
                StmtKind::If(test, then, other)
            }
            K::WhileStatement => {
                let test = self.field(node, F::Condition);
                let body = self.field_block(node, F::Body);
                let other = self.alternative(node);
                StmtKind::While(test, body, other)
            }
            K::ForStatement => {
                let iterable = self.field(node, F::Right);
                let target = self.target_field(node, F::Left);
                let body = self.field_block(node, F::Body);
                let other = self.alternative(node);
                StmtKind::For(target, iterable, body, other)
            }
            K::TryStatement => {
                let body = self.field_block(node, F::Body);
                let mut rest = Vec::new();
                for (_, clause) in kids(node) {
                    match clause.kind() {
                        K::ExceptClause | K::ExceptGroupClause => {
                            let (mut types, mut name, mut block) = (Vec::new(), None, Vec::new());
                            for (field, child) in kids(clause) {
                                match (field, child.kind()) {
                                    (_, K::Block) => block = self.block(child),
                                    (F::Alias, _) => name = self.handler_name(child),
                                    (_, K::AsPattern) => {
                                        for (field, part) in kids(child) {
                                            if field == F::Alias {
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
                        K::ElseClause | K::FinallyClause => {
                            let mut block = Vec::new();
                            for (_, child) in kids(clause) {
                                if child.kind() == K::Block {
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
            K::WithStatement => {
                let mut items = Vec::new();
                for (_, clause) in kids(node) {
                    if clause.kind() == K::WithClause {
                        for (_, item) in kids(clause) {
                            self.with_item(item, &mut items);
                        }
                    }
                }
                let body = self.field_block(node, F::Body);
                StmtKind::With(items, body)
            }
            K::MatchStatement => {
                let mut subjects = Vec::new();
                let mut cases = Vec::new();
                for (field, child) in kids(node) {
                    match (field, child.kind()) {
                        (F::Subject, _) => subjects.push(self.expr(child)),
                        (_, K::Block) => {
                            for (_, clause) in kids(child) {
                                if clause.kind() == K::CaseClause {
                                    cases.push(self.case(clause));
                                }
                            }
                        }
                        (_, K::CaseClause) => cases.push(self.case(child)),
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
            K::RaiseStatement => StmtKind::Raise(self.all(node)),
            K::AssertStatement => StmtKind::Raise(self.all(node)),
            K::DeleteStatement => {
                let mut targets = Vec::new();
                for (_, child) in kids(node) {
                    let target = self.target(child);
                    targets.push(target);
                }
                StmtKind::Delete(targets)
            }
            K::GlobalStatement | K::NonlocalStatement => {
                let global = node.kind() == K::GlobalStatement;
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
            K::BreakStatement => StmtKind::Break,
            K::ContinueStatement => StmtKind::Continue,
            K::PassStatement | K::Comment | K::LineContinuation => return None,
            K::PrintStatement => {
                let place = self.place(node);
                self.old.push((place, "a `print` statement is not Python 3"));
                let parts = self.all(node);
                StmtKind::Expr(self.add(Kind::Other(parts), place))
            }
            K::ExecStatement => {
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
            K::TypeAliasStatement => {
                if let Some(left) = node.child(F::Left) {
                    self.bind_all(left);
                }
                let right = self.field(node, F::Right);
                StmtKind::Expr(right)
            }
            K::Block | K::Module => {
                for (_, child) in kids(node) {
                    self.statement(child, out);
                }
                return None;
            }
            K::Error => {
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
        while node.kind() != K::Identifier {
            node = node.first()?;
        }
        let name = self.name(node);
        self.bind(name);
        Some(name)
    }

    fn with_item(&mut self, item: Node<'a>, items: &mut Vec<(ExprId, Option<ExprId>)>) {
        let Some(value) = item.child(F::Value) else { return };
        self.with_value(value, items);
    }

    fn with_value(&mut self, value: Node<'a>, items: &mut Vec<(ExprId, Option<ExprId>)>) {
        match value.kind() {
            K::AsPattern => {
                let (mut context, mut target) = (None, None);
                for (field, child) in kids(value) {
                    if field == F::Alias || child.kind() == K::AsPatternTarget {
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
            K::Tuple | K::ParenthesizedExpression => {
                for (_, child) in kids(value) {
                    if child.kind() == K::AsPattern {
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
                (F::Consequence, _) => case.body = self.block(child),
                (F::Guard, _) => {
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
            K::DottedName => {
                if let Some(single) = node.only() {
                    let name = self.name(single);
                    if self.source(single) != "_" {
                        self.bind(name);
                        case.names.push(name);
                    }
                } else {
                    case.values.push(self.dotted_expr(node));
                }
            }
            K::ClassPattern => {
                for (index, (_, child)) in kids(node).enumerate() {
                    if index == 0 && child.kind() == K::DottedName {
                        case.values.push(self.dotted_expr(child));
                    } else {
                        self.case_pattern(child, case);
                    }
                }
            }
            K::KeywordPattern => {
                for (_, child) in kids(node).skip(1) {
                    self.case_pattern(child, case);
                }
            }
            K::Identifier => {
                let name = self.name(node);
                self.bind(name);
                case.names.push(name);
            }
            K::String | K::Integer | K::Float | K::None | K::True | K::False | K::ConcatenatedString => {}
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
        let name_node = node.child(F::Name)?;
        let name = self.name(name_node);
        self.bind(name);
        if node.kind() == K::FunctionDefinition {
            let parameters = node.child(F::Parameters);
            let returns = node.child(F::ReturnType).map(|node| self.expr(node));
            let body = node.child(F::Body)?;
            let function = self.function(parameters, returns, body, true);
            return Some(StmtKind::Def(name, function, decorators));
        }
        let bases = node.child(F::Superclasses).map(|list| self.args(list)).unwrap_or_default();
        self.frames.push(Frame { is_class: true, ..Frame::default() });
        let body = self.field_block(node, F::Body);
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
                K::Identifier => named = Some(child),
                K::DefaultParameter | K::TypedDefaultParameter => {
                    named = child.child(F::Name);
                    param.default = child.child(F::Value).map(|node| self.expr(node));
                    param.annotation = child.child(F::Type).map(|node| self.expr(node));
                }
                K::TypedParameter => {
                    param.annotation = child.child(F::Type).map(|node| self.expr(node));
                    named = child.first();
                }
                K::KeywordSeparator => {
                    keyword_only = true;
                    continue;
                }
                K::ListSplatPattern | K::DictionarySplatPattern => named = Some(child),
                _ => {}
            }
            if let Some(node) = named {
                let inner = match node.kind() {
                    K::ListSplatPattern => {
                        param.kind = ArgKind::Star;
                        keyword_only = true;
                        node.first()
                    }
                    K::DictionarySplatPattern => {
                        param.kind = ArgKind::DoubleStar;
                        node.first()
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
            if field != F::Name {
                continue;
            }
            let place = self.place(child);
            let (path, alias) = if child.kind() == K::AliasedImport {
                let path = child.child(F::Name).map(|node| self.dotted(node)).unwrap_or_default();
                let alias = child.child(F::Alias).map(|node| self.name(node));
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
        if node.kind() != K::DottedName {
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
            K::Assignment => {
                let mut targets = Vec::new();
                let mut current = node;
                loop {
                    let annotation = current.child(F::Type).map(|node| self.expr(node));
                    let target = current.child(F::Left).map(|left| self.target(left));
                    targets.extend(target);
                    match current.child(F::Right) {
                        None => {
                            let target = target?;
                            return Some(StmtKind::Annotated(target, annotation?));
                        }
                        Some(right) if right.kind() == K::Assignment => current = right,
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
            K::AugmentedAssignment => {
                let operator = node.child(F::Operator).map_or("", |node| operator(self.source(node)));
                let target = self.target_field(node, F::Left);
                let value = self.field(node, F::Right);
                StmtKind::AugAssign(target, operator, value)
            }
            _ => StmtKind::Expr(self.expr(node)),
        })
    }

    fn alternative(&mut self, node: Node<'a>) -> Vec<Stmt> {
        node.child(F::Alternative).map(|clause| self.field_block(clause, F::Body)).unwrap_or_default()
    }

    fn field(&mut self, node: Node<'a>, field: F) -> ExprId {
        match node.child(field) {
            Some(child) => self.expr(child),
            None => {
                let place = self.place(node);
                self.add(Kind::Other(Vec::new()), place)
            }
        }
    }

    fn target_field(&mut self, node: Node<'a>, field: F) -> ExprId {
        match node.child(field) {
            Some(child) => self.target(child),
            None => self.field(node, field),
        }
    }

    fn only(&mut self, node: Node<'a>) -> Option<ExprId> {
        node.first()?;
        if let Some(one) = node.only() {
            return Some(self.expr(one));
        }
        let place = self.place(node);
        let parts = self.all(node);
        Some(self.add(Kind::Tuple(parts), place))
    }

    fn all(&mut self, node: Node<'a>) -> Vec<ExprId> {
        kids(node).map(|(_, child)| self.expr(child)).collect()
    }

    fn bind_all(&mut self, node: Node<'a>) {
        if node.kind() == K::Identifier {
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
            K::Identifier => {
                let name = self.name(node);
                self.bind(name);
                self.add(Kind::Name(name), place)
            }
            K::PatternList | K::TuplePattern | K::ListPattern | K::Tuple | K::List | K::ExpressionList => {
                let mut parts = Vec::new();
                for (_, child) in kids(node) {
                    let part = self.target(child);
                    parts.push(part);
                }
                self.add(Kind::Tuple(parts), place)
            }
            K::ListSplatPattern | K::ListSplat => match node.first() {
                Some(inner) => {
                    let inner = self.target(inner);
                    self.add(Kind::Star(inner), place)
                }
                None => self.add(Kind::None, place),
            },
            K::AsPatternTarget | K::ParenthesizedExpression => match node.first() {
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
            K::Identifier => Kind::Name(self.name(node)),
            K::Integer => literal::number(self.source(node)),
            K::Float => Kind::Float(self.source(node).replace('_', "").parse().unwrap_or(0.0)),
            K::True => Kind::Bool(true),
            K::False => Kind::Bool(false),
            K::None => Kind::None,
            K::String => self.string(node),
            K::ConcatenatedString => {
                let mut parts: Vec<ExprId> = Vec::new();
                // Neighbors that are plain text are one text: joined at once, for there may be thousands.
                let mut text: Option<Kind> = None;
                for (_, child) in kids(node) {
                    let kind = if child.kind() == K::String { Ok(self.string(child)) } else { self.kind(child, place) };
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
            K::Attribute => {
                let object = self.field(node, F::Object);
                let name = node.child(F::Attribute).map_or(0, |node| self.name(node));
                Kind::Attribute(object, name)
            }
            K::Call => {
                let function = self.field(node, F::Function);
                let args = match node.child(F::Arguments) {
                    Some(list) if list.kind() == K::GeneratorExpression => {
                        vec![Arg { kind: ArgKind::Plain, value: self.expr(list) }]
                    }
                    Some(list) => self.args(list),
                    None => Vec::new(),
                };
                Kind::Call(function, args)
            }
            K::Subscript => {
                let object = self.field(node, F::Value);
                let mut indices = Vec::new();
                for (field, child) in kids(node) {
                    if field == F::Subscript {
                        indices.push(self.expr(child));
                    }
                }
                let index = match indices.as_slice() {
                    [one] => *one,
                    _ => self.add(Kind::Tuple(indices), place),
                };
                Kind::Subscript(object, index)
            }
            K::Slice => self.slice(node),
            K::BinaryOperator => {
                let operator = node.child(F::Operator).map_or("", |node| operator(self.source(node)));
                let left = self.field(node, F::Left);
                let right = self.field(node, F::Right);
                Kind::Binary(operator, left, right)
            }
            K::BooleanOperator => {
                let or = node.child(F::Operator).is_some_and(|node| self.source(node) == "or");
                let left = self.field(node, F::Left);
                let right = self.field(node, F::Right);
                Kind::Either(or, left, right)
            }
            K::NotOperator => Kind::Not(self.field(node, F::Argument)),
            K::UnaryOperator => {
                let operator = node.child(F::Operator).map_or("", |node| self.source(node));
                let argument = self.field(node, F::Argument);
                match operator {
                    "-" => Kind::Negative(argument),
                    "~" => Kind::Invert(argument),
                    _ => return Err(argument),
                }
            }
            K::ComparisonOperator => {
                let operators = node.tokens(F::Operators).map(comparison).collect();
                Kind::Compare(self.all(node), operators)
            }
            K::ConditionalExpression => match self.all(node).as_slice() {
                [then, test, other] => Kind::Conditional { test: *test, then: *then, other: *other },
                all => Kind::Other(all.to_vec()),
            },
            K::Lambda => {
                let parameters = node.child(F::Parameters);
                match node.child(F::Body) {
                    Some(body) => Kind::Lambda(self.function(parameters, None, body, false)),
                    None => Kind::None,
                }
            }
            K::ParenthesizedExpression | K::Type | K::Await | K::Interpolation => {
                let parts = self.all(node);
                match (node.kind(), parts.as_slice()) {
                    (K::Await, [one]) => Kind::Await(*one),
                    (_, [one]) => return Err(*one),
                    _ => Kind::Other(parts),
                }
            }
            K::Tuple | K::ExpressionList => Kind::Tuple(self.all(node)),
            K::List => Kind::List(self.all(node)),
            K::Set => Kind::Set(self.all(node)),
            K::Dictionary => {
                let mut pairs = Vec::new();
                for (_, child) in kids(node) {
                    match child.kind() {
                        K::Pair => {
                            let key = self.field(child, F::Key);
                            let value = self.field(child, F::Value);
                            pairs.push((Some(key), value));
                        }
                        K::DictionarySplat => {
                            for inner in self.all(child) {
                                pairs.push((None, inner));
                            }
                        }
                        _ => pairs.push((None, self.expr(child))),
                    }
                }
                Kind::Dict(pairs)
            }
            K::ListComprehension => self.comprehension(node, Comprehension::List),
            K::SetComprehension => self.comprehension(node, Comprehension::Set),
            K::GeneratorExpression => self.comprehension(node, Comprehension::Generator),
            K::DictionaryComprehension => self.comprehension(node, Comprehension::Dict),
            K::Yield => {
                if let Some(frame) = self.frames.iter_mut().rev().find(|frame| !frame.is_class) {
                    frame.generator = true;
                }
                Kind::Yield(self.only(node))
            }
            K::ListSplat | K::DictionarySplat | K::ParenthesizedListSplat => match self.only(node) {
                Some(inner) => Kind::Star(inner),
                None => Kind::None,
            },
            K::NamedExpression => {
                let target = self.target_field(node, F::Name);
                let value = self.field(node, F::Value);
                Kind::Walrus(target, value)
            }
            K::AsPattern => {
                let mut parts = Vec::new();
                for (field, child) in kids(node) {
                    if field == F::Alias || child.kind() == K::AsPatternTarget {
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
            K::Assignment | K::AugmentedAssignment => {
                let left = self.target_field(node, F::Left);
                let right = self.field(node, F::Right);
                Kind::Walrus(left, right)
            }
            K::Ellipsis | K::Comment | K::LineContinuation | K::EscapeSequence | K::StringContent => {
                Kind::Other(Vec::new())
            }
            kind if kind.is_statement() => {
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
        for child in node.children() {
            match child.kind() {
                K::Colon => index += 1,
                K::Token | K::Comment => {}
                _ => {
                    let value = self.expr(child);
                    if let Some(part) = parts.get_mut(index) {
                        *part = Some(value);
                    }
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
                (F::Body, _) => body = Some(child),
                (_, K::ForInClause) => {
                    let mut sources = Vec::new();
                    let mut target = None;
                    for (field, part) in kids(child) {
                        match field {
                            F::Left => target = Some(self.target(part)),
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
                (_, K::IfClause) => {
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
            Some(pair) if pair.kind() == K::Pair => {
                let key = self.field(pair, F::Key);
                let value = self.field(pair, F::Value);
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
                K::KeywordArgument => {
                    let key = child.child(F::Name).map_or(0, |node| self.name(node));
                    Arg { kind: ArgKind::Key(key), value: self.field(child, F::Value) }
                }
                K::ListSplat => match self.only(child) {
                    Some(value) => Arg { kind: ArgKind::Star, value },
                    None => continue,
                },
                K::DictionarySplat => match self.only(child) {
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
                K::StringContent => {
                    let text = self.source(child).replace("{{", "{").replace("}}", "}");
                    pieces.push(Piece::Text(literal::unescape(&text, form.raw).into()));
                }
                K::Interpolation => {
                    let mut value = None;
                    let mut suffix = String::new();
                    for (field, part) in kids(child) {
                        match (field, part.kind()) {
                            (F::Expression, _) => value = Some(self.expr(part)),
                            (_, K::TypeConversion) => suffix.push_str(self.source(part)),
                            (_, K::FormatSpecifier) => {
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
