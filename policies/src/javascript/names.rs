//! Which variable a name in the source means.

use super::Map;
use super::literal::unescape_identifier;
use super::syntax::{F, Id, K, NONE, Syntax};

/// Index of a variable.
pub(super) type Var = u32;

/// The variables of a source.
pub(super) struct Names {
    /// For each node that is a name, its variable; [`NONE`] for the others.
    pub(super) of_node: Vec<Var>,
    /// For each variable, its name.
    pub(super) names: Vec<String>,
    /// For each variable, the function it belongs to; [`NONE`] for the source itself and for globals.
    pub(super) function: Vec<Id>,
    /// For each variable, whether nothing declares it.
    global: Vec<bool>,
    /// Names that nothing declares.
    pub(super) globals: Map<String, Var>,
    /// For each function, the variables that begin and end with it.
    pub(super) spans: Map<Id, (Var, Var)>,
}

/// Whether a node is a function of any kind.
pub(super) fn is_function(kind: K) -> bool {
    matches!(kind, K::Function | K::FunctionDeclaration)
}

/// Whether a node opens a scope.
fn is_scope(kind: K) -> bool {
    matches!(
        kind,
        K::Program
            | K::Function
            | K::FunctionDeclaration
            | K::Block
            | K::For
            | K::ForIn
            | K::Catch
            | K::SwitchBody
            | K::Class
            | K::StaticBlock
            | K::Namespace
    )
}

#[derive(Default)]
struct Scope {
    /// Names declared here and their variables.
    names: Map<u32, Var>,
}

struct Declaring<'s, 'a> {
    syntax: &'s Syntax<'a>,
    symbols: Map<&'a str, u32>,
    spelled: Vec<String>,
    scopes: Vec<Scope>,
    names: Names,
}

impl Names {
    /// Finds all declarations, then what each name means.
    pub(super) fn new(syntax: &Syntax<'_>) -> Self {
        let names = Self {
            of_node: vec![NONE; syntax.nodes.len()],
            names: Vec::new(),
            function: Vec::new(),
            global: Vec::new(),
            globals: Map::default(),
            spans: Map::default(),
        };
        let mut declaring =
            Declaring { syntax, symbols: Map::default(), spelled: Vec::new(), scopes: Vec::new(), names };
        let of_scope = declaring.declare();
        declaring.resolve(&of_scope);
        declaring.names
    }

    /// The variable of a node that is a name.
    pub(super) fn var(&self, node: Id) -> Var {
        self.of_node.get(node as usize).copied().unwrap_or(NONE)
    }

    /// Whether a variable is a global that nothing declares.
    pub(super) fn is_global(&self, var: Var) -> bool {
        self.global.get(var as usize).copied().unwrap_or(false)
    }

    /// The variable for a global of that name, made if need be.
    pub(super) fn global(&mut self, name: &str) -> Var {
        if let Some(var) = self.globals.get(name) {
            return *var;
        }
        let var = Var::try_from(self.names.len()).unwrap_or(NONE);
        self.names.push(name.to_owned());
        self.function.push(NONE);
        self.global.push(true);
        self.globals.insert(name.to_owned(), var);
        var
    }
}

impl<'a> Declaring<'_, 'a> {
    fn symbol(&mut self, node: Id) -> u32 {
        let text = self.syntax.text(node);
        if let Some(symbol) = self.symbols.get(text) {
            return *symbol;
        }
        let name = unescape_identifier(text);
        let known = if name == text { None } else { self.spelled.iter().position(|other| *other == name) };
        let symbol = known.unwrap_or(self.spelled.len());
        let symbol = u32::try_from(symbol).unwrap_or(NONE);
        if known.is_none() {
            self.spelled.push(name);
        }
        self.symbols.insert(text, symbol);
        symbol
    }

    /// Gives each scope its variables. Returns, for each node that is a scope, its index in `scopes`.
    fn declare(&mut self) -> Map<Id, usize> {
        let syntax = self.syntax;
        let mut of_scope = Map::default();
        // Scopes that are open: index of the scope, of the function's scope, and the function.
        let mut open: Vec<(usize, usize, Id)> = Vec::new();
        let mut stack = vec![(0, false)];
        while let Some((id, leave)) = stack.pop() {
            let node = syntax.node(id);
            let scope = is_scope(node.kind);
            if leave {
                open.pop();
                if is_function(node.kind) {
                    let end = Var::try_from(self.names.names.len()).unwrap_or(NONE);
                    if let Some(span) = self.names.spans.get_mut(&id) {
                        span.1 = end;
                    }
                }
                continue;
            }
            let outer = open.last().copied();
            if scope {
                let index = self.scopes.len();
                self.scopes.push(Scope::default());
                of_scope.insert(id, index);
                let (function, owner) = match (node.kind, outer) {
                    (K::Function | K::FunctionDeclaration, _) => (index, id),
                    (K::StaticBlock | K::Namespace, Some((_, _, owner))) => (index, owner),
                    (_, Some((_, function, owner))) => (function, owner),
                    (_, None) => (index, NONE),
                };
                if is_function(node.kind) {
                    let begin = Var::try_from(self.names.names.len()).unwrap_or(NONE);
                    self.names.spans.insert(id, (begin, begin));
                }
                open.push((index, function, owner));
                stack.push((id, true));
            }
            let (block, function, owner) = open.last().copied().unwrap_or((0, 0, NONE));
            let (outer_block, _, outer_owner) = outer.unwrap_or((0, 0, NONE));
            match node.kind {
                K::Function | K::FunctionDeclaration => {
                    let name = syntax.field(id, F::Name);
                    if syntax.kind(name) == K::Ident {
                        // The name of a function expression is seen only in it.
                        let inner = node.kind == K::Function;
                        let (scope, owner) = if inner { (block, owner) } else { (outer_block, outer_owner) };
                        self.add(scope, name, owner);
                    }
                    self.pattern(block, syntax.field(id, F::Parameters), owner);
                    self.pattern(block, syntax.field(id, F::Parameter), owner);
                }
                K::Class => {
                    let name = syntax.field(id, F::Name);
                    if syntax.kind(name) == K::Ident {
                        self.add(outer_block, name, outer_owner);
                    }
                }
                K::VarDeclaration | K::LexicalDeclaration => {
                    let to = if node.kind == K::VarDeclaration { function } else { block };
                    for declarator in syntax.children(id) {
                        self.pattern(to, syntax.field(declarator, F::Name), owner);
                    }
                }
                K::ForIn => {
                    let kind = syntax.field(id, F::Kind);
                    if kind != NONE && syntax.text(kind) != "await" {
                        let to = if syntax.text(kind) == "var" { function } else { block };
                        self.pattern(to, syntax.field(id, F::Left), owner);
                    }
                }
                K::Catch => self.pattern(block, syntax.field(id, F::Parameter), owner),
                K::Enum | K::Namespace => {
                    let name = syntax.field(id, F::Name);
                    self.pattern(outer_block, name, outer_owner);
                }
                K::ImportClause | K::NamespaceImport | K::ImportRequire => {
                    for name in syntax.children(id) {
                        self.pattern(block, name, owner);
                    }
                }
                K::ImportSpecifier => {
                    let alias = syntax.field(id, F::Alias);
                    let name = if alias == NONE { syntax.field(id, F::Name) } else { alias };
                    self.pattern(block, name, owner);
                }
                _ => {}
            }
            let mark = stack.len();
            stack.extend(syntax.children(id).map(|child| (child, false)));
            if let Some(children) = stack.get_mut(mark..) {
                children.reverse();
            }
        }
        of_scope
    }

    /// Declares every name of a pattern.
    fn pattern(&mut self, scope: usize, pattern: Id, owner: Id) {
        let syntax = self.syntax;
        let mut stack = vec![pattern];
        while let Some(id) = stack.pop() {
            match syntax.kind(id) {
                K::Ident | K::PatternIdent => self.add(scope, id, owner),
                K::ArrayPattern | K::ObjectPattern | K::RestPattern | K::Params => stack.extend(syntax.children(id)),
                K::PairPattern => stack.push(syntax.field(id, F::Value)),
                K::DefaultPattern => stack.push(syntax.field(id, F::Left)),
                K::Param => stack.extend([syntax.field(id, F::Pattern), syntax.field(id, F::Name)]),
                _ => {}
            }
        }
    }

    fn add(&mut self, scope: usize, name: Id, owner: Id) {
        let symbol = self.symbol(name);
        let Some(scope) = self.scopes.get_mut(scope) else { return };
        let var = Var::try_from(self.names.names.len()).unwrap_or(NONE);
        if *scope.names.entry(symbol).or_insert(var) != var {
            return;
        }
        self.names.names.push(self.spelled.get(symbol as usize).cloned().unwrap_or_default());
        self.names.function.push(owner);
        self.names.global.push(false);
    }

    /// Finds the variable of each name, with a stack of variables for each.
    fn resolve(&mut self, of_scope: &Map<Id, usize>) {
        let syntax = self.syntax;
        let mut seen: Vec<Vec<Var>> = vec![Vec::new(); self.spelled.len()];
        let mut stack = vec![(0, false)];
        while let Some((id, leave)) = stack.pop() {
            let kind = syntax.kind(id);
            if is_scope(kind)
                && let Some(scope) = of_scope.get(&id).and_then(|index| self.scopes.get(*index))
            {
                for (symbol, var) in &scope.names {
                    let Some(stack) = seen.get_mut(*symbol as usize) else { continue };
                    if leave {
                        stack.pop();
                    } else {
                        stack.push(*var);
                    }
                }
                if leave {
                    continue;
                }
                stack.push((id, true));
            }
            if matches!(kind, K::Ident | K::PatternIdent) {
                let symbol = self.symbol(id);
                if seen.len() <= symbol as usize {
                    seen.resize(symbol as usize + 1, Vec::new());
                }
                let var = seen.get(symbol as usize).and_then(|stack| stack.last().copied());
                let var = match var {
                    Some(var) => var,
                    None => {
                        let name = self.spelled.get(symbol as usize).cloned().unwrap_or_default();
                        self.names.global(&name)
                    }
                };
                if let Some(slot) = self.names.of_node.get_mut(id as usize) {
                    *slot = var;
                }
            }
            let mark = stack.len();
            stack.extend(syntax.children(id).map(|child| (child, false)));
            if let Some(children) = stack.get_mut(mark..) {
                children.reverse();
            }
        }
    }
}
