//! A small abstract interpreter: runs a script on abstract values, and reports what the script names and calls.
//!
//! Every statement and function body is looked at once, in order, with what is known by then; beyond that, functions
//! that are called and loops over constants are run with the values they get, as long as the fuel lasts. So the time is
//! linear in the source plus a constant.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::ast::{
    Arg, ArgKind, Ast, Body, Clause, Comprehension, ExprId, Function, Imported, Kind, Name, Piece, Place, Stmt,
    StmtKind,
};
use super::facts::Facts;
use super::value::{Args, Value};
use super::{Map, Set};
use super::{fold, names};
use crate::rules::{self, Rule, Trigger};
use crate::scan::Exports;
use crate::{NeedKind, Policy};

/// The most elements of one container that are followed.
const MOST_ELEMENTS: usize = 4096;
/// How many elements of a loop are run one by one.
const LONGEST_LOOP: usize = 1024;
/// How deeply calls are followed.
const DEEPEST_CALL: u32 = 8;
/// How deeply code in strings is followed.
pub(super) const DEEPEST_CODE: u32 = 4;
/// The most objects that are told apart.
const MOST_OBJECTS: usize = 200_000;
/// How many elements all containers may have together, in a script's order, before long ones are no longer kept: some
/// 60 MiB. A script of nothing but `range(1000)` has 30 million.
const MOST_HELD: usize = 2_000_000;
/// The most elements of a container that is kept all the same, so that a decoy hides nothing.
const FEW_ELEMENTS: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Variable {
    value: Value,
    /// Bound on every way to this point.
    definite: bool,
}

#[derive(Clone, Debug)]
enum ScopeKind {
    Module,
    Function(Rc<Function>),
    Class,
    Comprehension,
}

#[derive(Debug)]
struct Scope {
    kind: ScopeKind,
    variables: Map<Name, Variable>,
    parent: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Heap {
    List(Vec<Value>, bool),
    Dict(Vec<(Value, Value)>, bool),
    Instance {
        class: usize,
        attributes: Map<Rc<str>, Value>,
    },
    /// Made by calling a function or class of the library.
    Made(Rc<str>, Args),
}

#[derive(Debug)]
struct Closure {
    function: Rc<Function>,
    scope: usize,
    /// The class it is a method of.
    class: Option<usize>,
    is_static: bool,
    is_class_method: bool,
    returns: Option<Value>,
    seen: Vec<Value>,
    defaults: Vec<Option<Value>>,
}

#[derive(Debug, Default)]
struct Class {
    attributes: Map<Rc<str>, Value>,
    bases: Vec<Value>,
    /// What instances were given, all of them together.
    given: Map<Rc<str>, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Return,
    Break,
    Continue,
}

/// Old values of what a branch changes.
type Log = Vec<(usize, Name, Option<Variable>)>;

struct Frame {
    scope: usize,
    returned: Option<Value>,
    yielded: Vec<Value>,
}

pub(super) struct Machine<'a> {
    pub(super) ast: Ast,
    pub(super) policy: &'a Policy,
    own_modules: &'a [String],
    pub(super) exports: &'a Exports,
    scopes: Vec<Scope>,
    pub(super) heap: Vec<Heap>,
    closures: Vec<Closure>,
    classes: Vec<Class>,
    /// Everything names of the module were ever bound to.
    history: Map<Name, Value>,
    queue: VecDeque<usize>,
    queued: Set<(usize, usize)>,
    frames: Vec<Frame>,
    logs: Vec<Log>,
    /// Elements of all containers so far.
    held: usize,
    /// What names mean that nothing in the script binds.
    builtins: Map<Name, Option<Value>>,
    /// Steps left for work beyond one look at everything.
    fuel: u32,
    /// What copying long values costs in steps, until it is paid.
    cost: Cell<u32>,
    extra: u32,
    calls: u32,
    depth: u32,
    deepest: u32,
    pub(super) code_depth: u32,
    /// Bytes of code in strings that are still looked at.
    code_left: usize,
    pub(super) exhausted: bool,
    pub(super) sensitive: bool,
    /// A star import of something unknown: any name may be defined.
    any_name: bool,
    pub(super) bound: Set<Name>,
    pub(super) findings: Vec<(&'static Rule, Place, String)>,
    seen: Set<(&'static str, Place)>,
    pub(super) needs: Vec<(NeedKind, Place)>,
    pub(super) facts: Facts,
    classes_open: Vec<usize>,
    /// Modules of the library all of whose names were imported.
    stars: Vec<Rc<str>>,
    /// `os` or `subprocess` is imported.
    pub(super) imports_processes: bool,
    /// A second look at a loop that was run: what is in containers stays.
    pub(super) frozen: bool,
    /// Ranges that are too long to be kept as a list.
    pub(super) long_ranges: Vec<Place>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(
        ast: Ast,
        policy: &'a Policy,
        own_modules: &'a [String],
        exports: &'a Exports,
        fuel: u32,
        depth: u32,
    ) -> Self {
        let module = Scope { kind: ScopeKind::Module, variables: Map::default(), parent: None };
        Self {
            ast,
            policy,
            own_modules,
            exports,
            scopes: vec![module],
            heap: Vec::new(),
            closures: Vec::new(),
            classes: Vec::new(),
            history: Map::default(),
            queue: VecDeque::new(),
            queued: Set::default(),
            frames: vec![Frame { scope: 0, returned: None, yielded: Vec::new() }],
            logs: Vec::new(),
            held: 0,
            builtins: Map::default(),
            fuel,
            cost: Cell::new(0),
            extra: 0,
            calls: 0,
            depth: 0,
            deepest: depth.max(60) * 2 + 40,
            code_depth: 0,
            code_left: 400_000,
            exhausted: false,
            sensitive: false,
            any_name: false,
            bound: Set::default(),
            findings: Vec::new(),
            seen: Set::default(),
            needs: Vec::new(),
            facts: Facts::default(),
            classes_open: Vec::new(),
            stars: Vec::new(),
            imports_processes: false,
            frozen: false,
            long_ranges: Vec::new(),
        }
    }

    /// Runs a module, then every function that was defined.
    pub(super) fn run(&mut self, module: &[Stmt]) {
        self.block(module);
        while let Some(closure) = self.queue.pop_front() {
            self.alone(closure);
        }
    }

    // Reports.

    pub(super) fn report(&mut self, rule: &'static Rule, place: Place, message: impl Into<String>) {
        if rule.id != rules::file_access.id {
            self.sensitive = true;
        }
        self.facts.found(rule);
        if self.seen.insert((rule.id, place)) {
            self.findings.push((rule, place, message.into()));
        }
    }

    pub(super) fn unprovable(&mut self, place: Place, reason: impl Into<String>) {
        self.report(rules::unprovable, place, reason);
    }

    pub(super) fn need(&mut self, kind: NeedKind, place: Place) {
        if self.needs.len() < 4 * MOST_ELEMENTS {
            self.needs.push((kind, place));
        }
    }

    /// Reports a path of the library that is named or called, if a rule lists it.
    pub(super) fn named(&mut self, path: &str, place: Place, trigger: Trigger) {
        if let Some((rule, symbol)) = names::symbol(path)
            && symbol.trigger <= trigger
        {
            if rule.id == rules::environment_access.id {
                self.need(NeedKind::Env(None), place);
            }
            let shown = path.strip_prefix("builtins.").unwrap_or(path);
            self.report(rule, place, format!("`{shown}` {}", symbol.does));
        }
        match path {
            "builtins.input" | "sys.stdin" | "fileinput.input" => self.need(NeedKind::Stdin, place),
            "os.dup2" => self.facts.duplicates = true,
            _ => {}
        }
    }

    // Scopes.

    fn scope(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.scope)
    }

    fn push_scope(&mut self, kind: ScopeKind, parent: usize) -> usize {
        self.scopes.push(Scope { kind, variables: Map::default(), parent: Some(parent) });
        self.scopes.len() - 1
    }

    /// The value of a name here; `None` if nothing defines it.
    fn lookup(&mut self, name: Name) -> Option<Value> {
        let mut at = Some(self.scope());
        let mut first = true;
        while let Some(index) = at {
            let scope = self.scopes.get(index)?;
            let skip = matches!(scope.kind, ScopeKind::Class) && !first;
            if !matches!(scope.kind, ScopeKind::Comprehension) {
                first = false;
            }
            if !skip {
                if let Some(variable) = scope.variables.get(&name) {
                    let (mut value, definite) = (variable.value.clone(), variable.definite);
                    if index == 0
                        && self.extra == 0
                        && self.frames.len() > 1
                        && let Some(all) = self.history.get(&name)
                    {
                        value = value.join(all.clone());
                    }
                    if !definite
                        && matches!(scope.kind, ScopeKind::Module | ScopeKind::Class)
                        && let Some(builtin) = self.builtin(name)
                    {
                        value = value.join(builtin);
                    }
                    return Some(value);
                }
                if let ScopeKind::Function(function) = &scope.kind {
                    if function.bound.contains(&name) {
                        return Some(Value::Unknown);
                    }
                    if function.globals.contains(&name) {
                        at = Some(0);
                        continue;
                    }
                }
            }
            at = scope.parent;
        }
        let old = self.history.get(&name).cloned();
        match (self.builtin(name), old) {
            (Some(builtin), Some(old)) if self.frames.len() > 1 => Some(builtin.join(old)),
            (Some(builtin), _) => Some(builtin),
            (None, Some(old)) => Some(old),
            (None, None) if self.bound.contains(&name) => Some(Value::Unknown),
            (None, None) if self.any_name => {
                let text = self.ast.names.get(name);
                Some(self.stars.last().map_or(Value::Unknown, |star| Value::Path(names::member(star, &text))))
            }
            (None, None) => None,
        }
    }

    fn builtin(&mut self, name: Name) -> Option<Value> {
        if let Some(known) = self.builtins.get(&name) {
            return known.clone();
        }
        let value = self.find_builtin(name);
        self.builtins.insert(name, value.clone());
        value
    }

    fn find_builtin(&self, name: Name) -> Option<Value> {
        let name = self.ast.names.get(name);
        match &*name {
            "__builtins__" => Some(Value::path("builtins")),
            "__name__" => Some(Value::text("__main__")),
            "__loader__" | "__spec__" => Some(Value::Path(name)),
            "__file__" | "__doc__" | "__debug__" | "__package__" | "__annotations__" | "__path__" | "__class__"
            | "__dict__" | "__qualname__" | "__module__" => Some(Value::Unknown),
            name if names::is_builtin(name) => Some(Value::Path(format!("builtins.{name}").into())),
            _ => None,
        }
    }

    fn set(&mut self, name: Name, value: Value) {
        let mut scope = self.scope();
        // Comprehensions bind through `bind`; here a name goes to the function, class or module around.
        loop {
            match self.scopes.get(scope).map(|scope| (&scope.kind, scope.parent)) {
                Some((ScopeKind::Comprehension, Some(parent))) => scope = parent,
                Some((ScopeKind::Function(function), Some(parent))) if !function.bound.contains(&name) => {
                    scope = if function.globals.contains(&name) { 0 } else { parent };
                    if scope == 0 || self.scopes.get(scope).is_some_and(|scope| scope.variables.contains_key(&name)) {
                        break;
                    }
                }
                _ => break,
            }
        }
        self.set_in(scope, name, value);
    }

    fn set_in(&mut self, index: usize, name: Name, value: Value) {
        if index == 0 {
            let all = match self.history.remove(&name) {
                Some(old) => old.join(value.clone()),
                None => value.clone(),
            };
            self.history.insert(name, all);
        }
        let alone = index == 0 && self.frames.len() > 1 && self.extra == 0;
        let Some(scope) = self.scopes.get_mut(index) else { return };
        let old = scope.variables.get(&name).cloned();
        let (value, definite) = match &old {
            Some(old) if alone => (old.value.clone().join(value), old.definite),
            _ => (value, !alone),
        };
        scope.variables.insert(name, Variable { value, definite });
        if let Some(log) = self.logs.last_mut() {
            log.push((index, name, old));
        }
    }

    /// Runs something that may or may not happen: afterwards, what it changed may have either value.
    fn branch<T>(&mut self, run: impl FnOnce(&mut Self) -> T) -> T {
        self.logs.push(Vec::new());
        let result = run(self);
        let log = self.logs.pop().unwrap_or_default();
        let mut merged = Set::default();
        for (scope, name, old) in log {
            if merged.insert((scope, name))
                && let Some(variable) = self.scopes.get_mut(scope).and_then(|scope| scope.variables.get_mut(&name))
            {
                match &old {
                    Some(old) => {
                        variable.value = std::mem::replace(&mut variable.value, Value::Unknown).join(old.value.clone());
                        variable.definite = old.definite;
                    }
                    None => variable.definite = false,
                }
                if let Some(outer) = self.logs.last_mut() {
                    outer.push((scope, name, old));
                }
            }
        }
        result
    }

    /// Either of two things happens.
    fn either<T>(&mut self, one: impl FnOnce(&mut Self) -> T, two: impl FnOnce(&mut Self) -> T) -> (T, T) {
        self.logs.push(Vec::new());
        let first = one(self);
        let log = self.logs.pop().unwrap_or_default();
        let mut after = Vec::new();
        let mut merged = Set::default();
        for (scope, name, old) in log {
            if !merged.insert((scope, name)) {
                continue;
            }
            if let Some(variables) = self.scopes.get_mut(scope).map(|scope| &mut scope.variables) {
                let new = match &old {
                    Some(old) => variables.insert(name, old.clone()),
                    None => variables.remove(&name),
                };
                after.push((scope, name, old, new));
            }
        }
        self.logs.push(Vec::new());
        let second = two(self);
        let log = self.logs.pop().unwrap_or_default();
        let mut changed: Set<(usize, Name)> = Set::default();
        for (scope, name, _) in &log {
            changed.insert((*scope, *name));
        }
        for (scope, name, old, new) in after {
            let both = changed.contains(&(scope, name));
            if let Some(variables) = self.scopes.get_mut(scope).map(|scope| &mut scope.variables) {
                let now = variables.remove(&name);
                let definite = new.as_ref().is_some_and(|v| v.definite) && now.as_ref().is_some_and(|v| v.definite);
                let value = match (now, new) {
                    (Some(now), Some(new)) => Some(now.value.join(new.value)),
                    (now, new) => now.or(new).map(|variable| variable.value),
                };
                if let Some(value) = value {
                    variables.insert(name, Variable { value, definite });
                }
            }
            if let Some(outer) = self.logs.last_mut() {
                outer.push((scope, name, old));
            }
            let _ = both;
        }
        // What only the second changed.
        let mut seen = Set::default();
        for (scope, name, old) in log {
            if merged.contains(&(scope, name)) || !seen.insert((scope, name)) {
                continue;
            }
            if let Some(variable) = self.scopes.get_mut(scope).and_then(|scope| scope.variables.get_mut(&name)) {
                match &old {
                    Some(old) => {
                        variable.value = std::mem::replace(&mut variable.value, Value::Unknown).join(old.value.clone());
                        variable.definite = old.definite;
                    }
                    None => variable.definite = false,
                }
            }
            if let Some(outer) = self.logs.last_mut() {
                outer.push((scope, name, old));
            }
        }
        (first, second)
    }

    // Containers.

    pub(super) fn alloc(&mut self, object: Heap) -> Value {
        let elements = match &object {
            Heap::List(elements, _) => elements.len(),
            Heap::Dict(pairs, _) => pairs.len() * 2,
            Heap::Instance { .. } | Heap::Made(..) => 0,
        };
        self.held = self.held.saturating_add(elements);
        if self.heap.len() >= MOST_OBJECTS || (self.held > MOST_HELD && elements > FEW_ELEMENTS) {
            return Value::Unknown;
        }
        self.heap.push(object);
        Value::Object(self.heap.len() - 1)
    }

    pub(super) fn list(&mut self, elements: Vec<Value>) -> Value {
        self.alloc(Heap::List(elements, false))
    }

    /// The elements of something iterable; `None` if they are not all known.
    pub(super) fn elements(&self, value: &Value) -> Option<Vec<Value>> {
        let elements = self.copied(value);
        self.pay(elements.as_ref().map_or(0, Vec::len) / 16);
        elements
    }

    /// Counts work that is more than a step.
    fn pay(&self, steps: usize) {
        self.cost.set(self.cost.get().saturating_add(u32::try_from(steps).unwrap_or(u32::MAX)));
    }

    fn copied(&self, value: &Value) -> Option<Vec<Value>> {
        match value {
            Value::Str(text) => Some(fold::characters(text)),
            Value::Bytes(bytes) => Some(bytes.iter().map(|byte| Value::Int(i128::from(*byte))).collect()),
            Value::Object(index) => match self.heap.get(*index)? {
                Heap::List(elements, false) => Some(elements.clone()),
                Heap::Dict(pairs, false) => Some(pairs.iter().map(|(key, _)| key.clone()).collect()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The elements that are known, and whether there may be others.
    pub(super) fn some_elements(&self, value: &Value) -> Option<(Vec<Value>, bool)> {
        if let Value::Object(index) = value
            && let Some(Heap::List(elements, open)) = self.heap.get(*index)
        {
            return Some((elements.clone(), *open));
        }
        self.elements(value).map(|elements| (elements, false))
    }

    pub(super) fn is_container(&self, value: &Value) -> bool {
        match value {
            Value::Object(index) => matches!(self.heap.get(*index), Some(Heap::List(..) | Heap::Dict(..))),
            _ => false,
        }
    }

    /// One of the elements, whichever.
    pub(super) fn element(&self, value: &Value) -> Value {
        let mut any = Value::Unknown;
        let mut took = false;
        let add = |value: &Value, took: &mut bool, any: &mut Value| {
            *any = if *took { std::mem::replace(any, Value::Unknown).join(value.clone()) } else { value.clone() };
            *took = true;
        };
        for value in value.each() {
            match value {
                Value::Object(index) => match self.heap.get(*index) {
                    Some(Heap::List(elements, open)) => {
                        let (names, plain): (Vec<&Value>, Vec<&Value>) =
                            elements.iter().partition(|value| matches!(value, Value::Path(_) | Value::Object(_)));
                        for element in names.into_iter().take(64).chain(plain.into_iter().take(16)) {
                            add(element, &mut took, &mut any);
                        }
                        if *open {
                            add(&Value::Unknown, &mut took, &mut any);
                        }
                    }
                    Some(Heap::Dict(pairs, _)) => {
                        for (key, _) in pairs.iter().take(64) {
                            add(key, &mut took, &mut any);
                        }
                    }
                    Some(Heap::Made(path, _)) if &**path == "types.GeneratorType" => {}
                    _ => add(&Value::Unknown, &mut took, &mut any),
                },
                Value::Space(module) => add(&Value::Member(Rc::clone(module)), &mut took, &mut any),
                _ => add(&Value::Unknown, &mut took, &mut any),
            }
        }
        any
    }

    // Statements.

    fn block(&mut self, stmts: &[Stmt]) -> Flow {
        for stmt in stmts {
            let flow = self.statement(stmt);
            // What follows a `return` is looked at all the same, unless a call is being followed.
            if flow != Flow::Next && self.extra > 0 {
                return flow;
            }
        }
        Flow::Next
    }

    fn statement(&mut self, stmt: &Stmt) -> Flow {
        self.depth += 1;
        let flow = if self.depth > self.deepest { Flow::Next } else { self.run_statement(stmt) };
        self.depth -= 1;
        flow
    }

    fn run_statement(&mut self, stmt: &Stmt) -> Flow {
        match &stmt.kind {
            StmtKind::Expr(expr) => {
                self.eval(*expr);
            }
            StmtKind::Assign(targets, value) => {
                let value = self.eval(*value);
                for target in targets {
                    self.assign(*target, value.clone());
                }
            }
            StmtKind::AugAssign(target, operator, value) => {
                let old = self.eval(*target);
                let value = self.eval(*value);
                let new = self.augmented(&old, operator, value, stmt.place);
                self.assign(*target, new);
            }
            StmtKind::Annotated(target, annotation) => {
                self.eval(*annotation);
                let _ = target;
            }
            StmtKind::Delete(targets) => {
                for target in targets {
                    self.delete(*target);
                }
            }
            StmtKind::Import(modules) => {
                for module in modules {
                    self.import(module);
                }
            }
            StmtKind::FromImport(module, levels, names, place) => self.import_from(module, *levels, names, *place),
            StmtKind::Def(name, function, decorators) => {
                let decorators: Vec<(ExprId, Value)> =
                    decorators.iter().map(|decorator| (*decorator, self.eval(*decorator))).collect();
                let mut value = self.closure(*function);
                for (decorator, by) in decorators.iter().rev() {
                    value = self.decorate(value, by, *decorator);
                }
                self.set(*name, value);
            }
            StmtKind::Class { name, bases, body, decorators } => {
                let decorators: Vec<(ExprId, Value)> =
                    decorators.iter().map(|decorator| (*decorator, self.eval(*decorator))).collect();
                let mut value = self.class(bases, body);
                for (decorator, by) in decorators.iter().rev() {
                    value = self.decorate(value, by, *decorator);
                }
                self.set(*name, value);
            }
            StmtKind::Return(value) => {
                let value = value.map_or(Value::None, |value| self.eval(value));
                if let Some(frame) = self.frames.last_mut() {
                    frame.returned = Some(match frame.returned.take() {
                        Some(old) => old.join(value),
                        None => value,
                    });
                }
                return Flow::Return;
            }
            StmtKind::If(test, then, other) => {
                let truth = self.eval(*test).truth();
                return match truth {
                    Some(true) if self.extra > 0 => self.block(then),
                    Some(false) if self.extra > 0 => self.block(other),
                    Some(true) => {
                        self.branch(|machine| machine.block(other));
                        self.block(then)
                    }
                    Some(false) => {
                        self.branch(|machine| machine.block(then));
                        self.block(other)
                    }
                    None => match self.either(|machine| machine.block(then), |machine| machine.block(other)) {
                        (one, two) if one == two => one,
                        _ => Flow::Next,
                    },
                };
            }
            StmtKind::While(test, body, other) => {
                if let Some(place) = self.facts.endless_loop(self, *test, body, stmt.place) {
                    self.report(rules::resource_bomb, place, "a loop without an end");
                }
                self.repeat(*test, body);
                self.branch(|machine| machine.block(other));
            }
            StmtKind::For(target, iterable, body, other) => {
                let flow = self.for_loop(*target, *iterable, body);
                self.block(other);
                return flow;
            }
            StmtKind::Try(body, rest) => {
                let flow = self.block(body);
                for (types, name, block) in rest {
                    for kind in types {
                        self.eval(*kind);
                    }
                    self.branch(|machine| {
                        if let Some(name) = name {
                            machine.set(*name, Value::Unknown);
                        }
                        machine.block(block)
                    });
                }
                return flow;
            }
            StmtKind::With(items, body) => {
                for (context, target) in items {
                    let value = self.eval(*context);
                    if let Some(target) = target {
                        let entered = match value {
                            Value::Object(index) if matches!(self.heap.get(index), Some(Heap::Instance { .. })) => {
                                let enter = self.attribute(&value, "__enter__", stmt.place);
                                match enter {
                                    Value::Unknown => value,
                                    enter => self.call(&enter, Args::default(), stmt.place, stmt.place),
                                }
                            }
                            // A generator function may be a context manager.
                            value if self.is_container(&value) => {
                                let element = self.element(&value);
                                value.join(element)
                            }
                            value => value,
                        };
                        self.assign(*target, entered);
                    }
                }
                return self.block(body);
            }
            StmtKind::Match(subject, cases) => {
                let subject = self.eval(*subject);
                let part = self.element(&subject);
                for case in cases {
                    self.branch(|machine| {
                        for name in &case.names {
                            machine.set(*name, subject.clone().join(part.clone()));
                        }
                        for value in &case.values {
                            machine.eval(*value);
                        }
                        machine.block(&case.body)
                    });
                }
            }
            StmtKind::Raise(parts) => {
                for part in parts {
                    self.eval(*part);
                }
            }
            StmtKind::Break => return Flow::Break,
            StmtKind::Continue => return Flow::Continue,
            StmtKind::Block(block) => return self.block(block),
            StmtKind::Pass => {}
        }
        Flow::Next
    }

    fn augmented(&mut self, old: &Value, operator: &'static str, value: Value, place: Place) -> Value {
        if operator == "+"
            && let Value::Object(index) = old
        {
            let more = self.elements(&value);
            if self.frozen {
                return old.clone();
            }
            if let Some(Heap::List(elements, open)) = self.heap.get_mut(*index) {
                match more {
                    Some(more) if elements.len() + more.len() <= MOST_ELEMENTS => elements.extend(more),
                    _ => *open = true,
                }
                return old.clone();
            }
        }
        self.binary(operator, old, &value, place)
    }

    /// A loop that goes on while a test holds.
    fn repeat(&mut self, test: ExprId, body: &[Stmt]) {
        let mut first = true;
        for _ in 0..LONGEST_LOOP {
            let truth = self.eval(test).truth();
            match truth {
                Some(true) if self.fuel > 0 && !constant_test(self, test) => {}
                Some(false) if !first => return,
                _ => break,
            }
            first = false;
            self.extra += 1;
            let flow = self.block(body);
            self.extra -= 1;
            if matches!(flow, Flow::Break | Flow::Return) {
                return;
            }
        }
        self.branch(|machine| machine.block(body));
    }

    fn for_loop(&mut self, target: ExprId, iterable: ExprId, body: &[Stmt]) -> Flow {
        let source = self.eval(iterable);
        let known = if self.fuel > 0 { self.elements(&source) } else { None };
        let known = known.filter(|elements| elements.len() <= LONGEST_LOOP);
        if let Some(elements) = known
            && !elements.is_empty()
            && self.fuel > 0
        {
            let mut all = true;
            self.extra += 1;
            for element in &elements {
                if self.fuel == 0 {
                    all = false;
                    break;
                }
                self.assign(target, element.clone());
                match self.block(body) {
                    Flow::Break => break,
                    Flow::Return => {
                        self.extra -= 1;
                        if self.extra > 0 {
                            return Flow::Return;
                        }
                        self.extra += 1;
                        break;
                    }
                    Flow::Next | Flow::Continue => {}
                }
            }
            self.extra -= 1;
            if all && self.extra > 0 {
                return Flow::Next;
            }
            if all {
                // Once more for the places that were not reached, without keeping what it does.
                let log = std::mem::take(&mut self.logs);
                self.logs = vec![Vec::new()];
                let frozen = std::mem::replace(&mut self.frozen, true);
                self.block(body);
                self.frozen = frozen;
                let changes = self.logs.pop().unwrap_or_default();
                self.logs = log;
                for (scope, name, old) in changes.into_iter().rev() {
                    if let (Some(old), Some(scope)) = (old, self.scopes.get_mut(scope)) {
                        scope.variables.insert(name, old);
                    }
                }
                return Flow::Next;
            }
        }
        let element = self.element(&source);
        self.branch(|machine| {
            machine.assign(target, element);
            machine.block(body)
        });
        Flow::Next
    }

    fn delete(&mut self, target: ExprId) {
        let Some(expr) = self.ast.exprs.get(target as usize).cloned() else { return };
        match &expr.kind {
            Kind::Name(name) => {
                let scope = self.scope();
                if let Some(scope) = self.scopes.get_mut(scope)
                    && matches!(scope.kind, ScopeKind::Module | ScopeKind::Class)
                {
                    let old = scope.variables.remove(name);
                    let index = self.scope();
                    if let Some(log) = self.logs.last_mut() {
                        log.push((index, *name, old));
                    }
                }
            }
            Kind::Tuple(parts) => {
                for part in parts {
                    self.delete(*part);
                }
            }
            _ => {
                self.eval(target);
            }
        }
    }

    pub(super) fn assign(&mut self, target: ExprId, value: Value) {
        let Some(expr) = self.ast.exprs.get(target as usize).cloned() else { return };
        match &expr.kind {
            Kind::Name(name) => {
                let scope = self.scope();
                if matches!(self.scopes.get(scope).map(|scope| &scope.kind), Some(ScopeKind::Comprehension)) {
                    self.set_in(scope, *name, value);
                } else {
                    self.set(*name, value);
                }
            }
            Kind::Tuple(parts) | Kind::List(parts) => {
                let elements = self.elements(&value);
                let any = if elements.is_some() { Value::Unknown } else { self.element(&value) };
                let star = parts.iter().position(|part| self.is_star(*part));
                for (index, part) in parts.iter().enumerate() {
                    let value = match (&elements, star) {
                        (Some(elements), None) => elements.get(index).cloned().unwrap_or(Value::Unknown),
                        (Some(elements), Some(star)) if index < star => {
                            elements.get(index).cloned().unwrap_or(Value::Unknown)
                        }
                        (Some(elements), Some(star)) if index == star => {
                            let end = elements.len().saturating_sub(parts.len() - 1 - star);
                            let middle = elements.get(star..end.max(star)).unwrap_or_default().to_vec();
                            self.list(middle)
                        }
                        (Some(elements), Some(_)) => {
                            let from_end = parts.len() - index;
                            elements
                                .len()
                                .checked_sub(from_end)
                                .and_then(|at| elements.get(at))
                                .cloned()
                                .unwrap_or(Value::Unknown)
                        }
                        (None, _) => any.clone(),
                    };
                    self.assign(*part, value);
                }
            }
            Kind::Star(inner) => self.assign(*inner, value),
            Kind::Attribute(object, name) => {
                let base = self.eval(*object);
                let name = self.ast.names.get(*name);
                self.set_attribute(&base, &name, value, expr.place);
            }
            Kind::Subscript(object, index) => {
                let base = self.eval(*object);
                let index = self.eval(*index);
                self.set_item(&base, index, value, expr.place);
            }
            _ => {
                self.eval(target);
            }
        }
    }

    fn is_star(&self, expr: ExprId) -> bool {
        matches!(self.ast.exprs.get(expr as usize).map(|expr| &expr.kind), Some(Kind::Star(_)))
    }

    pub(super) fn set_attribute(&mut self, base: &Value, name: &str, value: Value, place: Place) {
        for base in base.each() {
            match base {
                Value::Object(index) => {
                    let mut class = None;
                    if let Some(Heap::Instance { class: of, attributes }) = self.heap.get_mut(*index) {
                        attributes.insert(name.into(), value.clone());
                        class = Some(*of);
                    }
                    if let Some(class) = class.and_then(|class| self.classes.get_mut(class)) {
                        let all = match class.given.remove(name) {
                            Some(old) => old.join(value.clone()),
                            None => value.clone(),
                        };
                        class.given.insert(name.into(), all);
                    }
                }
                Value::Class(class) => {
                    if let Some(class) = self.classes.get_mut(*class) {
                        let all = match class.attributes.remove(name) {
                            Some(old) => old.join(value.clone()),
                            None => value.clone(),
                        };
                        class.attributes.insert(name.into(), all);
                    }
                }
                Value::Path(path) => {
                    let full = names::member(path, name);
                    if &**path == "builtins" {
                        self.report(rules::introspection_escape, place, format!("replaces the builtin `{name}`"));
                    } else if matches!(&**path, "sys.stdout" | "sys.stderr" | "sys.stdin") {
                    } else if matches!(
                        &*full,
                        "sys.modules" | "sys.meta_path" | "sys.path_hooks" | "builtins.__import__" | "sys.excepthook"
                    ) && &*full != "sys.excepthook"
                    {
                        self.report(rules::import_machinery, place, format!("replaces `{full}`"));
                    }
                    // What is hung onto a module is found there again.
                    let key: Rc<str> = full;
                    let all = match self.facts.planted.remove(&key) {
                        Some(old) => old.join(value.clone()),
                        None => value.clone(),
                    };
                    self.facts.planted.insert(key, all);
                }
                Value::Function(_) if name == "__code__" => {
                    self.report(rules::introspection_escape, place, "gives a function other code");
                }
                Value::Unknown if matches!(name, "__code__" | "__globals__" | "__builtins__" | "f_trace") => {
                    self.report(rules::introspection_escape, place, format!("changes `{name}`"));
                }
                _ => {}
            }
        }
    }

    pub(super) fn set_item(&mut self, base: &Value, index: Value, value: Value, place: Place) {
        for base in base.each() {
            match base {
                Value::Object(at) => {
                    if let Some(object) = self.heap.get_mut(*at).filter(|_| !self.frozen) {
                        match (object, &index) {
                            (Heap::Dict(pairs, open), Value::Unknown | Value::Union(_)) => {
                                *open = true;
                                if pairs.len() < MOST_ELEMENTS {
                                    pairs.push((Value::Unknown, value.clone()));
                                }
                            }
                            (Heap::Dict(pairs, open), key) => {
                                // Long tables are not searched for an old value: the last one counts.
                                if pairs.len() < 64 {
                                    pairs.retain(|(old, _)| old != key);
                                }
                                if pairs.len() < MOST_ELEMENTS {
                                    pairs.push((key.clone(), value.clone()));
                                } else {
                                    *open = true;
                                }
                            }
                            (Heap::List(elements, open), Value::Int(index)) => {
                                match fold::index(elements.len(), *index).and_then(|index| elements.get_mut(index)) {
                                    Some(element) => *element = value.clone(),
                                    None => *open = true,
                                }
                            }
                            (Heap::List(elements, open), _) => {
                                *open = true;
                                if elements.len() < MOST_ELEMENTS {
                                    elements.push(value.clone());
                                }
                            }
                            _ => {}
                        }
                    }
                }
                Value::Globals => {
                    for name in index.texts() {
                        let name = self.ast.names.intern(&name);
                        self.bound.insert(name);
                        self.set_in(0, name, value.clone());
                    }
                    if index.may_be_unknown() {
                        self.any_name = true;
                    }
                }
                Value::Space(module) if &**module == "builtins" => {
                    self.report(rules::introspection_escape, place, "replaces a builtin");
                }
                Value::Space(module) if &**module == "sys.modules" => {
                    self.report(rules::import_machinery, place, "puts a module into `sys.modules`");
                }
                Value::Space(module) => {
                    for name in index.texts() {
                        let module = Value::Path(Rc::clone(module));
                        self.set_attribute(&module, &name, value.clone(), place);
                    }
                }
                _ => {}
            }
        }
    }

    // Imports.

    fn import(&mut self, module: &Imported) {
        let path = names::canonical(&module.path);
        let own = self.own(&module.path);
        if own {
            self.need(NeedKind::Module(module.path.to_string()), module.place);
        } else {
            self.imported(&path, module.place);
        }
        let (name, value) = match module.alias {
            Some(alias) => (alias, Value::Path(path)),
            None => {
                let first = module.path.split('.').next().unwrap_or_default();
                let name = self.ast.names.intern(first);
                (name, Value::Path(names::canonical(first)))
            }
        };
        // What an own module hands on of the library is found through it.
        let followed = !own || self.exports.has(&module.path);
        self.set(name, if followed { value } else { Value::Unknown });
    }

    fn own(&self, path: &str) -> bool {
        let first = path.split('.').next().unwrap_or_default();
        self.own_modules.iter().any(|own| own == first) && !names::is_library(first)
    }

    /// Reports the import of a module, and notes what it takes.
    pub(super) fn imported(&mut self, path: &str, place: Place) {
        self.imports_processes |= matches!(path, "os" | "subprocess" | "os.path");
        let mut prefix = path;
        loop {
            if let Some((rule, symbol)) = names::symbol(prefix)
                && (symbol.trigger == Trigger::Imported || (prefix == path && symbol.trigger == Trigger::Named))
            {
                if rule.id == rules::network_access.id {
                    self.need(NeedKind::Net(None), place);
                }
                self.report(rule, place, format!("`{prefix}` {}", symbol.does));
                break;
            }
            match prefix.rsplit_once('.') {
                Some((shorter, _)) => prefix = shorter,
                None => break,
            }
        }
        let first = path.split('.').next().unwrap_or_default();
        if !first.is_empty() && !names::is_library(first) && !first.starts_with("__") {
            self.need(NeedKind::Package(first.to_owned()), place);
        }
    }

    fn import_from(&mut self, module: &str, levels: usize, names: &[Imported], place: Place) {
        if levels > 0 || self.own(module) {
            self.need(NeedKind::Module(module.to_owned()), place);
            for imported in names {
                let name = imported.alias.unwrap_or_else(|| self.ast.names.intern(&imported.path));
                let inner = format!("{module}.{}", imported.path);
                let value = match self.exports.get(module, &imported.path) {
                    Some(path) => Value::Path(names::canonical(path)),
                    None if self.exports.has(&inner) => Value::path(inner.trim_start_matches('.')),
                    None => Value::Unknown,
                };
                if let Value::Path(path) = &value {
                    self.named(&Rc::clone(path), imported.place, Trigger::Named);
                }
                self.set(name, value);
            }
            if names.is_empty() {
                let exports = self.exports;
                for (name, path) in exports.all(module) {
                    let name = self.ast.names.intern(name);
                    self.bound.insert(name);
                    self.set(name, Value::Path(names::canonical(path)));
                }
                self.any_name = true;
            }
            return;
        }
        let path = names::canonical(module);
        let before = self.findings.len();
        self.imported(&path, place);
        let told = self.findings.len() > before;
        if names.is_empty() {
            self.star(&path);
            return;
        }
        for imported in names {
            let value = self.attribute_of_path(&path, &imported.path, imported.place);
            if let Value::Path(full) = &value {
                if !told {
                    self.named(full, imported.place, Trigger::Named);
                }
                if let Some((rule, symbol)) = names::symbol(full)
                    && symbol.trigger == Trigger::Imported
                    && !told
                {
                    self.report(rule, imported.place, format!("`{full}` {}", symbol.does));
                }
            }
            let name = imported.alias.unwrap_or_else(|| self.ast.names.intern(&imported.path));
            self.set(name, value);
        }
    }

    /// `from module import *`: binds what the rules know of it.
    fn star(&mut self, module: &str) {
        for name in names::known_members(module) {
            let bound = self.ast.names.intern(name);
            let value = Value::Path(names::member(module, name));
            self.bound.insert(bound);
            self.set(bound, value);
        }
        self.any_name = true;
        if names::is_library(module.split('.').next().unwrap_or_default()) {
            self.stars.push(module.into());
        }
    }

    // Functions and classes.

    fn closure(&mut self, function: u32) -> Value {
        let Some(function) = self.ast.functions.get(function as usize).cloned() else { return Value::Unknown };
        let mut defaults = Vec::with_capacity(function.params.len());
        for param in &function.params {
            if let Some(annotation) = param.annotation {
                self.eval(annotation);
            }
            defaults.push(param.default.map(|default| self.eval(default)));
        }
        if let Some(returns) = function.returns {
            self.eval(returns);
        }
        let scope = self.scope();
        let class = match self.scopes.get(scope).map(|scope| &scope.kind) {
            Some(ScopeKind::Class) => self.classes_open.last().copied(),
            _ => None,
        };
        let key = (Rc::as_ptr(&function) as usize, 0);
        let fresh = self.queued.insert(key);
        self.closures.push(Closure {
            function,
            scope,
            class,
            is_static: false,
            is_class_method: false,
            returns: None,
            seen: Vec::new(),
            defaults,
        });
        let index = self.closures.len() - 1;
        if fresh {
            self.queue.push_back(index);
        }
        Value::Function(index)
    }

    fn decorate(&mut self, value: Value, by: &Value, expr: ExprId) -> Value {
        let place = self.place(expr);
        if let (Value::Function(index), Value::Path(path)) = (&value, by)
            && let Some(closure) = self.closures.get_mut(*index)
        {
            match &**path {
                "builtins.staticmethod" => closure.is_static = true,
                "builtins.classmethod" => closure.is_class_method = true,
                _ => {}
            }
        }
        match by {
            Value::Path(path) => {
                let path = Rc::clone(path);
                self.named(&path, place, Trigger::Called);
                if path.starts_with("builtins.") && matches!(&*path, "builtins.exec" | "builtins.eval") {
                    self.call(by, Args::of(vec![value.clone()]), place, place);
                }
                value
            }
            Value::Function(_) | Value::Partial(_) => {
                match self.call(by, Args::of(vec![value.clone()]), place, place) {
                    Value::Unknown | Value::None => value,
                    new => new.join(value),
                }
            }
            _ => value,
        }
    }

    fn class(&mut self, bases: &[Arg], body: &[Stmt]) -> Value {
        let bases: Vec<Value> = bases.iter().map(|base| self.eval(base.value)).collect();
        self.classes.push(Class { bases, ..Class::default() });
        let class = self.classes.len() - 1;
        let parent = self.scope();
        let scope = self.push_scope(ScopeKind::Class, parent);
        self.frames.push(Frame { scope, returned: None, yielded: Vec::new() });
        self.classes_open.push(class);
        let extra = std::mem::take(&mut self.extra);
        self.block(body);
        self.extra = extra;
        self.classes_open.pop();
        self.frames.pop();
        let variables = self.scopes.get(scope).map(|scope| scope.variables.clone()).unwrap_or_default();
        for (name, variable) in variables {
            let name = self.ast.names.get(name);
            if let Some(class) = self.classes.get_mut(class) {
                class.attributes.insert(name, variable.value);
            }
        }
        Value::Class(class)
    }

    pub(super) fn instance(&mut self, class: usize) -> Value {
        self.alloc(Heap::Instance { class, attributes: Map::default() })
    }

    /// Runs the body of a function nobody called with known arguments.
    fn alone(&mut self, index: usize) {
        let Some(closure) = self.closures.get(index) else { return };
        let function = Rc::clone(&closure.function);
        let (class, is_static, is_class) = (closure.class, closure.is_static, closure.is_class_method);
        let (seen, defaults, parent) = (closure.seen.clone(), closure.defaults.clone(), closure.scope);
        let scope = self.push_scope(ScopeKind::Function(Rc::clone(&function)), parent);
        for (at, param) in function.params.iter().enumerate() {
            let mut value = Value::Unknown;
            if at == 0
                && !is_static
                && let Some(class) = class
            {
                value = if is_class { Value::Class(class) } else { self.instance(class) };
            } else {
                if let Some(default) = defaults.get(at).cloned().flatten() {
                    value = value.join(default);
                }
                if let Some(seen) = seen.get(at) {
                    value = value.join(seen.clone());
                }
            }
            if param.kind != ArgKind::Plain {
                value = Value::Unknown;
            }
            if let Some(scope) = self.scopes.get_mut(scope) {
                scope.variables.insert(param.name, Variable { value, definite: true });
            }
        }
        self.frames.push(Frame { scope, returned: None, yielded: Vec::new() });
        self.body(&function);
        if let Some(frame) = self.frames.pop() {
            let value = self.result(&function, frame);
            if let Some(closure) = self.closures.get_mut(index) {
                closure.returns = Some(value);
            }
        }
    }

    fn body(&mut self, function: &Rc<Function>) {
        match &function.body {
            Body::Block(block) => {
                self.block(block);
            }
            Body::Expression(expr) => {
                let value = self.eval(*expr);
                if let Some(frame) = self.frames.last_mut() {
                    frame.returned = Some(value);
                }
            }
        }
    }

    fn result(&mut self, function: &Function, frame: Frame) -> Value {
        if function.generator {
            let open = self.extra == 0;
            self.alloc(Heap::List(frame.yielded, open))
        } else {
            frame.returned.unwrap_or(Value::None)
        }
    }

    /// Follows a call of a function of the script.
    pub(super) fn call_function(&mut self, index: usize, args: Args, this: Option<Value>) -> Value {
        let Some(closure) = self.closures.get_mut(index) else { return Value::Unknown };
        let function = Rc::clone(&closure.function);
        let mut given = Vec::with_capacity(args.plain.len() + 1);
        if let Some(this) = this.filter(|_| !closure.is_static) {
            given.push(this);
        }
        given.extend(args.plain.iter().cloned());
        for (at, value) in given.iter().enumerate().take(16) {
            match closure.seen.get_mut(at) {
                Some(old) => *old = std::mem::replace(old, Value::Unknown).join(value.clone()),
                None => closure.seen.push(value.clone()),
            }
        }
        let (parent, defaults, returns) = (closure.scope, closure.defaults.clone(), closure.returns.clone());
        if self.calls >= DEEPEST_CALL || self.depth + function.depth + 20 > self.deepest || self.fuel == 0 {
            self.exhausted |= self.fuel == 0;
            return returns.unwrap_or(Value::Unknown);
        }
        let scope = self.push_scope(ScopeKind::Function(Rc::clone(&function)), parent);
        let mut plain = given.into_iter();
        let mut named = args.named.clone();
        for (at, param) in function.params.iter().enumerate() {
            let name = self.ast.names.get(param.name);
            let value = match param.kind {
                ArgKind::Star => {
                    let rest: Vec<Value> = plain.by_ref().collect();
                    self.alloc(Heap::List(rest, args.open))
                }
                ArgKind::DoubleStar => {
                    let pairs = named.drain(..).map(|(name, value)| (Value::Str(name), value)).collect();
                    self.alloc(Heap::Dict(pairs, args.open))
                }
                _ => {
                    let by_name = named.iter().position(|(key, _)| *key == name);
                    let value = match by_name {
                        Some(at) => Some(named.swap_remove(at).1),
                        None if param.keyword_only => None,
                        None => plain.next(),
                    };
                    let default = defaults.get(at).cloned().flatten();
                    match value {
                        Some(value) => value,
                        None if args.open => default.unwrap_or(Value::Unknown).join(Value::Unknown),
                        None => default.unwrap_or(Value::Unknown),
                    }
                }
            };
            if let Some(scope) = self.scopes.get_mut(scope) {
                scope.variables.insert(param.name, Variable { value, definite: true });
            }
        }
        self.frames.push(Frame { scope, returned: None, yielded: Vec::new() });
        self.calls += 1;
        self.extra += 1;
        self.body(&function);
        let frame = self.frames.pop();
        let mut value = frame.map_or(Value::Unknown, |frame| self.result(&function, frame));
        self.extra -= 1;
        self.calls -= 1;
        if self.fuel == 0 {
            self.exhausted = true;
            value = value.join(Value::Unknown);
        }
        if let Some(closure) = self.closures.get_mut(index) {
            closure.returns = Some(match closure.returns.take() {
                Some(old) => old.join(value.clone()),
                None => value.clone(),
            });
        }
        value
    }

    /// An attribute of a class of the script, looked up in its bases too.
    pub(super) fn class_attribute(&self, class: usize, name: &str, levels: u32) -> Option<Value> {
        let class = self.classes.get(class)?;
        if let Some(value) = class.attributes.get(name) {
            return Some(value.clone());
        }
        if levels == 0 {
            return None;
        }
        class.bases.iter().flat_map(|base| base.each()).find_map(|base| match base {
            Value::Class(base) => self.class_attribute(*base, name, levels - 1),
            _ => None,
        })
    }

    pub(super) fn given(&self, class: usize, name: &str) -> Option<Value> {
        self.classes.get(class)?.given.get(name).cloned()
    }

    pub(super) fn bases(&self, class: usize) -> Vec<Value> {
        let bases = self.classes.get(class).map(|class| class.bases.clone()).unwrap_or_default();
        if bases.is_empty() { vec![Value::path("builtins.object")] } else { bases }
    }

    /// Names the script binds, with a place each.
    pub(super) fn names_bound(&self) -> Vec<(Rc<str>, Place)> {
        let mut seen = Set::default();
        let mut all = Vec::new();
        for expr in &self.ast.exprs {
            if let Kind::Name(name) = &expr.kind
                && seen.insert(*name)
            {
                let text = self.ast.names.get(*name);
                if !names::is_builtin(&text) {
                    all.push((text, expr.place));
                }
            }
        }
        all
    }

    /// A name of the module, whatever it was ever bound to.
    pub(super) fn global_named(&mut self, name: &str) -> Value {
        let Some(name) = self.ast.names.number(name) else { return Value::Unknown };
        let now =
            self.scopes.first().and_then(|scope| scope.variables.get(&name)).map(|variable| variable.value.clone());
        match (now, self.history.get(&name).cloned()) {
            (Some(now), Some(old)) => now.join(old),
            (now, old) => now.or(old).unwrap_or(Value::Unknown),
        }
    }

    /// Any module or function of the library that a name of the module is bound to.
    pub(super) fn any_global(&self) -> Value {
        let mut names: Vec<(&Name, &Value)> = self.history.iter().collect();
        names.sort_by_key(|(name, _)| **name);
        names
            .into_iter()
            .flat_map(|(_, value)| value.each())
            .filter(|value| matches!(value, Value::Path(_)))
            .take(8)
            .fold(Value::Unknown, |all, value| all.join(value.clone()))
    }

    /// Runs code in a text that is known, in the scope it is run in.
    pub(super) fn run_text(&mut self, source: &Value, place: Place, site: Place) -> Value {
        let mut value = Value::Unknown;
        for one in source.each() {
            if let Value::Object(index) = one
                && let Some(Heap::Made(path, _)) = self.heap.get(*index)
                && matches!(
                    &**path,
                    "zlib.decompress" | "gzip.decompress" | "bz2.decompress" | "lzma.decompress" | "marshal.loads"
                )
            {
                self.report(rules::obfuscated_code, place, "runs code that is packed");
            }
            let Some(text) = one.as_source() else { continue };
            if self.code_depth >= DEEPEST_CODE || text.len() > 100_000 {
                self.unprovable(site, "code in strings in code is nested too deeply to be looked at");
                continue;
            }
            self.code_left = self.code_left.saturating_sub(text.len());
            if self.code_left == 0 {
                continue;
            }
            if self.facts.decoded && self.code_depth == 0 {
                self.report(rules::obfuscated_code, place, "runs code that is encoded");
            }
            let Some(stmts) = super::read(&text, &mut self.ast, place, &mut self.bound) else { continue };
            self.code_depth += 1;
            let (extra, calls) = (std::mem::take(&mut self.extra), self.calls);
            if self.depth + 60 < self.deepest && calls < DEEPEST_CALL {
                self.calls += 1;
                if let [Stmt { kind: StmtKind::Expr(expr), .. }] = stmts.as_slice() {
                    value = self.eval(*expr);
                } else {
                    self.block(&stmts);
                }
                self.calls = calls;
            }
            self.extra = extra;
            self.code_depth -= 1;
        }
        value
    }

    // Expressions.

    pub(super) fn place(&self, expr: ExprId) -> Place {
        self.ast.exprs.get(expr as usize).map(|expr| expr.place).unwrap_or_default()
    }

    pub(super) fn eval(&mut self, id: ExprId) -> Value {
        if self.extra > 0 {
            if self.fuel == 0 {
                self.exhausted = true;
                return Value::Unknown;
            }
            self.fuel = self.fuel.saturating_sub(self.cost.take().saturating_add(1));
        } else {
            self.cost.set(0);
        }
        if self.depth > self.deepest {
            return Value::Unknown;
        }
        let Some(expr) = self.ast.exprs.get(id as usize).cloned() else { return Value::Unknown };
        self.depth += 1;
        let value = match &expr.kind {
            Kind::Name(name) => self.eval_name(*name, expr.place),
            Kind::None => Value::None,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(Some(value)) => Value::Int(*value),
            Kind::Float(value) => Value::Float(*value),
            Kind::Str(text) => Value::Str(Rc::clone(text)),
            Kind::Bytes(bytes) => Value::Bytes(Rc::clone(bytes)),
            Kind::Attribute(object, name) => self.eval_attribute(*object, *name, expr.place),
            Kind::Call(function, args) => self.eval_call(*function, args, expr.place),
            kind => self.eval_other(kind, expr.place),
        };
        self.depth -= 1;
        value
    }

    fn eval_name(&mut self, name: Name, place: Place) -> Value {
        let value = self.lookup(name).unwrap_or(Value::Unknown);
        for one in value.each() {
            if let Value::Path(path) = one
                && (path.starts_with("builtins.")
                    || path.starts_with("__")
                    || self.stars.iter().any(|star| path.starts_with(&**star)))
                && names::symbol(path).is_some()
            {
                // Only the name itself: what a variable holds was told where it got it.
                let own = self.ast.names.get(name);
                if path.rsplit('.').next() == Some(&*own) || **path == *own {
                    let path = Rc::clone(path);
                    self.named(&path, place, Trigger::Named);
                }
            }
        }
        value
    }

    #[inline(never)]
    fn eval_other(&mut self, kind: &Kind, place: Place) -> Value {
        match kind {
            Kind::Format(pieces) => self.eval_format(pieces),
            Kind::Subscript(object, index) => {
                let base = self.eval(*object);
                let index = self.eval(*index);
                self.subscript(&base, &index, place)
            }
            Kind::Slice(parts) => {
                let mut values = Vec::with_capacity(3);
                for part in parts {
                    values.push(part.map_or(Value::None, |part| self.eval(part)));
                }
                self.alloc(Heap::Made("builtins.slice".into(), Args::of(values)))
            }
            Kind::Binary(operator, left, right) => {
                let left = self.eval(*left);
                let right = self.eval(*right);
                self.binary(operator, &left, &right, place)
            }
            Kind::Either(or, left, right) => {
                let left = self.eval(*left);
                let right = self.eval(*right);
                match (left.truth(), or) {
                    (Some(true), true) | (Some(false), false) => left,
                    (Some(_), _) => right,
                    (None, _) => left.join(right),
                }
            }
            Kind::Not(inner) => self.eval(*inner).truth().map_or(Value::Unknown, |truth| Value::Bool(!truth)),
            Kind::Negative(inner) => match self.eval(*inner) {
                Value::Int(value) => value.checked_neg().map_or(Value::Unknown, Value::Int),
                Value::Float(value) => Value::Float(-value),
                _ => Value::Unknown,
            },
            Kind::Invert(inner) => match self.eval(*inner) {
                Value::Int(value) => Value::Int(!value),
                _ => Value::Unknown,
            },
            Kind::Compare(parts, operators) => {
                let values: Vec<Value> = parts.iter().map(|part| self.eval(*part)).collect();
                match (values.as_slice(), operators.as_slice()) {
                    ([left, right], [operator]) => self.compare(operator, left, right),
                    _ => Value::Unknown,
                }
            }
            Kind::Conditional { test, then, other } => {
                let truth = self.eval(*test).truth();
                if self.extra > 0
                    && let Some(truth) = truth
                {
                    return self.eval(if truth { *then } else { *other });
                }
                let then = self.eval(*then);
                let other = self.eval(*other);
                match truth {
                    Some(true) => then,
                    Some(false) => other,
                    None => then.join(other),
                }
            }
            Kind::Lambda(function) => self.closure(*function),
            Kind::Tuple(parts) | Kind::List(parts) | Kind::Set(parts) => {
                let mut elements = Vec::with_capacity(parts.len().min(MOST_ELEMENTS));
                let mut open = false;
                for part in parts {
                    let star = self.is_star(*part);
                    let value = self.eval(*part);
                    if !star {
                        if elements.len() < MOST_ELEMENTS {
                            elements.push(value);
                        } else {
                            open = true;
                        }
                    } else {
                        match self.elements(&value) {
                            Some(more) if elements.len() + more.len() <= MOST_ELEMENTS => elements.extend(more),
                            _ => {
                                elements.push(self.element(&value));
                                open = true;
                            }
                        }
                    }
                }
                self.alloc(Heap::List(elements, open))
            }
            Kind::Dict(pairs) => {
                let mut all = Vec::with_capacity(pairs.len().min(MOST_ELEMENTS));
                let mut open = false;
                for (key, value) in pairs {
                    let key = key.map(|key| self.eval(key));
                    let value = self.eval(*value);
                    match key {
                        Some(key) if all.len() < MOST_ELEMENTS => {
                            open |= key.may_be_unknown();
                            all.push((key, value));
                        }
                        Some(_) => open = true,
                        None => match &value {
                            Value::Object(index) => match self.heap.get(*index) {
                                Some(Heap::Dict(more, other)) => {
                                    open |= *other;
                                    all.extend(more.iter().take(MOST_ELEMENTS).cloned());
                                }
                                _ => open = true,
                            },
                            _ => open = true,
                        },
                    }
                }
                self.alloc(Heap::Dict(all, open))
            }
            Kind::Comprehension(kind, element, value, clauses) => {
                self.eval_comprehension(*kind, *element, *value, clauses)
            }
            Kind::Yield(value) => {
                let value = value.map_or(Value::None, |value| self.eval(value));
                if let Some(frame) = self.frames.last_mut()
                    && frame.yielded.len() < MOST_ELEMENTS
                {
                    frame.yielded.push(value);
                }
                Value::Unknown
            }
            Kind::Await(inner) | Kind::Star(inner) => self.eval(*inner),
            Kind::Walrus(target, value) => {
                let value = self.eval(*value);
                if let Some(Kind::Name(name)) = self.ast.exprs.get(*target as usize).map(|expr| &expr.kind) {
                    let name = *name;
                    self.set(name, value.clone());
                } else {
                    self.assign(*target, value.clone());
                }
                value
            }
            Kind::Other(parts) => {
                for part in parts {
                    self.eval(*part);
                }
                Value::Unknown
            }
            _ => Value::Unknown,
        }
    }

    fn eval_format(&mut self, pieces: &[Piece]) -> Value {
        let mut out = Some(String::new());
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    if let Some(out) = &mut out {
                        out.push_str(text);
                    }
                }
                Piece::Value(expr, suffix) => {
                    let value = self.eval(*expr);
                    let suffix = suffix.as_deref().unwrap_or("");
                    let shown = match suffix {
                        "=" => Some(String::new()),
                        suffix => fold::formatted(&value, suffix.trim_start_matches(':')),
                    };
                    match (shown, &mut out) {
                        (Some(shown), Some(out)) if out.len() + shown.len() < super::literal::LONGEST => {
                            out.push_str(&shown);
                        }
                        _ => out = None,
                    }
                }
            }
        }
        out.map_or(Value::Unknown, Value::text)
    }

    fn eval_comprehension(
        &mut self,
        kind: Comprehension,
        element: ExprId,
        value: Option<ExprId>,
        clauses: &[Clause],
    ) -> Value {
        let parent = self.scope();
        let scope = self.push_scope(ScopeKind::Comprehension, parent);
        let frame = self.frames.len();
        if let Some(frame) = self.frames.last_mut() {
            frame.scope = scope;
        }
        let mut out = Vec::new();
        let complete = self.clauses(clauses, element, value, &mut out);
        if let Some(frame) = self.frames.get_mut(frame - 1) {
            frame.scope = parent;
        }
        match kind {
            Comprehension::Dict => {
                let pairs = out.into_iter().map(|(key, value)| (key, value.unwrap_or(Value::Unknown))).collect();
                self.alloc(Heap::Dict(pairs, !complete))
            }
            _ => {
                let elements = out.into_iter().map(|(element, _)| element).collect();
                self.alloc(Heap::List(elements, !complete))
            }
        }
    }

    /// Runs the clauses of a comprehension; whether every element is known.
    fn clauses(
        &mut self,
        clauses: &[Clause],
        element: ExprId,
        value: Option<ExprId>,
        out: &mut Vec<(Value, Option<Value>)>,
    ) -> bool {
        match clauses.split_first() {
            None => {
                let element = self.eval(element);
                let value = value.map(|value| self.eval(value));
                if out.len() < MOST_ELEMENTS {
                    out.push((element, value));
                    true
                } else {
                    false
                }
            }
            Some((Clause::If(test), rest)) => match self.eval(*test).truth() {
                Some(false) if self.extra > 0 => true,
                Some(true) => self.clauses(rest, element, value, out),
                _ => {
                    self.clauses(rest, element, value, out);
                    false
                }
            },
            Some((Clause::For(target, source), rest)) => {
                let source = self.eval(*source);
                let looks = self.fuel > 0;
                let known = if looks { self.elements(&source) } else { None };
                let known = known.filter(|elements| elements.len() <= LONGEST_LOOP);
                if let Some(elements) = known.filter(|elements| !elements.is_empty())
                    && self.fuel > 0
                {
                    let mut complete = true;
                    let before = out.len();
                    self.extra += 1;
                    for element_value in elements {
                        if self.fuel == 0 {
                            complete = false;
                            break;
                        }
                        self.assign(*target, element_value);
                        complete &= self.clauses(rest, element, value, out);
                    }
                    self.extra -= 1;
                    if complete && (out.len() > before || self.extra > 0) {
                        return true;
                    }
                    if self.extra > 0 {
                        return false;
                    }
                }
                let any = self.element(&source);
                self.assign(*target, any);
                self.clauses(rest, element, value, out);
                false
            }
        }
    }

    fn eval_call(&mut self, function: ExprId, args: &[Arg], place: Place) -> Value {
        let callee = self.eval(function);
        let site = self.place(function);
        let mut values = Args { plain: Vec::with_capacity(args.len()), ..Args::default() };
        for arg in args {
            let value = self.eval(arg.value);
            match arg.kind {
                ArgKind::Plain => values.plain.push(value),
                ArgKind::Key(name) => values.named.push((self.ast.names.get(name), value)),
                ArgKind::Star => match self.elements(&value) {
                    Some(more) => values.plain.extend(more.into_iter().take(MOST_ELEMENTS)),
                    None => {
                        values.open = true;
                        values.plain.push(self.element(&value));
                    }
                },
                ArgKind::DoubleStar => match &value {
                    Value::Object(index) => match self.heap.get(*index) {
                        Some(Heap::Dict(pairs, open)) => {
                            values.open |= *open;
                            for (key, value) in pairs.iter().take(MOST_ELEMENTS) {
                                if let Value::Str(key) = key {
                                    values.named.push((Rc::clone(key), value.clone()));
                                }
                            }
                        }
                        _ => values.open = true,
                    },
                    _ => values.open = true,
                },
            }
        }
        self.facts.call(args.len());
        self.call(&callee, values, place, site)
    }

    fn eval_attribute(&mut self, object: ExprId, name: Name, place: Place) -> Value {
        let name = self.ast.names.get(name);
        let Some(expr) = self.ast.exprs.get(object as usize).cloned() else { return Value::Unknown };
        // `x.__class__` and what is taken of it are looked at together.
        if let Kind::Attribute(inner, middle) = &expr.kind
            && name.starts_with("__") | (&*name == "mro") | name.starts_with("co_")
        {
            let middle = self.ast.names.get(*middle);
            if &*middle == "__class__" {
                let strange = self.is_strange(*inner);
                let base = self.eval(*inner);
                let own = base.each().iter().any(|base| matches!(base, Value::Object(_) | Value::Class(_)));
                let harmless = matches!(&*name, "__name__" | "__qualname__" | "__module__" | "__doc__");
                let walks = matches!(&*name, "__base__" | "__bases__" | "__mro__" | "mro" | "__class__");
                if (strange && !harmless) || (walks && !own) {
                    self.report(
                        rules::introspection_escape,
                        place,
                        format!("walks from a value to `{name}` of its class"),
                    );
                }
                let class = self.attribute(&base, "__class__", expr.place);
                return self.attribute(&class, &name, place);
            }
            if &*middle == "__code__" && name.starts_with("co_") && &*name != "co_code" {
                self.eval(*inner);
                return Value::Unknown;
            }
        }
        if &*name == "__code__" {
            let base = self.eval(object);
            self.report(rules::introspection_escape, place, "takes the code object of a function");
            let _ = base;
            return Value::Unknown;
        }
        if name.starts_with("__")
            && self.is_strange(object)
            && !matches!(&*name, "__doc__" | "__len__" | "__name__")
            && names::reaches(&name)
        {
            self.report(
                rules::introspection_escape,
                place,
                format!("takes `{name}` of a value it has no business with"),
            );
        }
        let base = self.eval(object);
        self.attribute(&base, &name, place)
    }

    /// A literal, or a name that nothing in the script defines.
    fn is_strange(&mut self, expr: ExprId) -> bool {
        let Some(expr) = self.ast.exprs.get(expr as usize).cloned() else { return false };
        match &expr.kind {
            Kind::Name(name) => self.lookup(*name).is_none(),
            Kind::Attribute(inner, _) => self.is_strange(*inner),
            Kind::Str(_)
            | Kind::Bytes(_)
            | Kind::Int(_)
            | Kind::Float(_)
            | Kind::Bool(_)
            | Kind::None
            | Kind::Tuple(_)
            | Kind::List(_)
            | Kind::Dict(_)
            | Kind::Set(_) => true,
            _ => false,
        }
    }

    pub(super) fn compare(&self, operator: &str, left: &Value, right: &Value) -> Value {
        let known = |value: &Value| {
            matches!(
                value,
                Value::Str(_) | Value::Bytes(_) | Value::Int(_) | Value::Bool(_) | Value::None | Value::Path(_)
            )
        };
        let result = match operator {
            "==" | "is" if known(left) && known(right) => Some(left == right),
            "!=" | "is not" if known(left) && known(right) => Some(left != right),
            "<" | ">" | "<=" | ">=" => match (left, right) {
                (Value::Str(a), Value::Str(b)) => Some(order(operator, a.cmp(b))),
                _ => left.as_int().zip(right.as_int()).map(|(a, b)| order(operator, a.cmp(&b))),
            },
            "in" | "not in" => {
                let found = match (left, right) {
                    (Value::Str(part), Value::Str(text)) => Some(text.contains(&**part)),
                    (left, right) if known(left) => self
                        .elements(right)
                        .filter(|elements| elements.iter().all(known))
                        .map(|elements| elements.contains(left)),
                    _ => None,
                };
                found.map(|found| found == (operator == "in"))
            }
            _ => None,
        };
        result.map_or(Value::Unknown, Value::Bool)
    }

    pub(super) fn binary(&mut self, operator: &str, left: &Value, right: &Value, place: Place) -> Value {
        super::bombs::operation(self, operator, left, right, place);
        for side in [left, right] {
            match side {
                Value::Str(text) => self.pay(text.len() / 256),
                Value::Bytes(bytes) => self.pay(bytes.len() / 256),
                _ => {}
            }
        }
        if operator == "%"
            && let Value::Str(format) = left
        {
            let values = match right {
                Value::Object(_) => self.elements(right).unwrap_or_else(|| vec![Value::Unknown]),
                one => vec![one.clone()],
            };
            return fold::percent(format, &values).unwrap_or(Value::Unknown);
        }
        let lists = |machine: &Self, value: &Value| match value {
            Value::Object(index) => match machine.heap.get(*index) {
                Some(Heap::List(elements, open)) => Some((elements.clone(), *open)),
                _ => None,
            },
            _ => None,
        };
        match operator {
            "+" | "|" => {
                if let (Value::Object(_), Value::Object(_)) = (left, right)
                    && let (Some((mut one, a)), Some((two, b))) = (lists(self, left), lists(self, right))
                {
                    one.extend(two);
                    one.truncate(MOST_ELEMENTS);
                    return self.alloc(Heap::List(one, a || b));
                }
                if let (Value::Object(_), Value::Object(_)) = (left, right) {
                    return left.clone().join(right.clone());
                }
                // `pathlib.Path(…) / …` and strings of several alternatives.
                self.pairwise(operator, left, right)
            }
            "*" => {
                for (list, times) in [(left, right), (right, left)] {
                    if let (Some((elements, open)), Some(times)) = (lists(self, list), times.as_int()) {
                        let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
                        let open = open || elements.len().saturating_mul(times) > MOST_ELEMENTS;
                        let all: Vec<Value> = elements
                            .iter()
                            .cycle()
                            .take(elements.len().saturating_mul(times).min(MOST_ELEMENTS))
                            .cloned()
                            .collect();
                        return self.alloc(Heap::List(all, open));
                    }
                }
                self.pairwise(operator, left, right)
            }
            "/" => super::files::joined(self, left, right).unwrap_or_else(|| self.pairwise(operator, left, right)),
            _ => self.pairwise(operator, left, right),
        }
    }

    fn pairwise(&mut self, operator: &str, left: &Value, right: &Value) -> Value {
        let mut all: Option<Value> = None;
        for one in left.each().iter().take(4) {
            for two in right.each().iter().take(4) {
                let value = fold::binary(operator, one, two).unwrap_or(Value::Unknown);
                all = Some(match all {
                    Some(all) => all.join(value),
                    None => value,
                });
            }
        }
        all.unwrap_or(Value::Unknown)
    }
}

fn order(operator: &str, order: std::cmp::Ordering) -> bool {
    match operator {
        "<" => order.is_lt(),
        ">" => order.is_gt(),
        "<=" => order.is_le(),
        _ => order.is_ge(),
    }
}

/// `while True:` and its like: nothing in the test changes.
fn constant_test(machine: &Machine<'_>, test: ExprId) -> bool {
    matches!(
        machine.ast.exprs.get(test as usize).map(|expr| &expr.kind),
        Some(Kind::Bool(_) | Kind::Int(_) | Kind::Str(_) | Kind::None)
    )
}
