//! Follows what a script does: a bounded abstract interpretation.
//!
//! Every statement is walked once in order, then every function body; calls of the script's own functions are followed
//! into them and loops over known values are run, both within a budget. Where several values are possible all are kept.

use std::ops::Range;
use std::rc::Rc;

use super::known;
use super::literal;
use super::names::{Names, Var};
use super::symbols;
use super::syntax::{F, Id, K, NONE, Syntax};
use super::value::{ENVIRONMENT, FILE, Func, NETWORK, Object, Shape, TEXT, Taint, Value};
use super::{Map, Set};
use crate::rules::{self, Rule, Trigger};
use crate::{NeedKind, Severity};

/// The longest text that is computed.
pub(super) const LONGEST_TEXT: usize = 1 << 16;
/// The most elements an array can have that is computed.
pub(super) const MOST_ITEMS: usize = 1 << 14;
/// The most steps of a whole analysis.
const MOST_STEPS: u64 = 4_000_000;
/// How deep calls are followed.
const DEEPEST_CALL: usize = 12;

/// Something to report.
pub(super) struct Hit {
    pub(super) rule: &'static Rule,
    pub(super) severity: Severity,
    pub(super) range: Range<usize>,
    pub(super) message: String,
}

struct Variable {
    value: Value,
    /// Everything it was ever set to.
    all: Value,
    writes: u32,
}

/// How a statement ends.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Flow {
    Next,
    Break,
    Continue,
    Return,
}

struct Frame {
    /// The function's node; [`NONE`] outside of functions.
    node: Id,
    this: Value,
    returned: Option<Value>,
    /// Whether it is followed with the arguments of one call.
    call: bool,
    arguments: Value,
}

/// The state of an analysis.
pub(super) struct Machine<'s, 'a> {
    pub(super) syntax: &'s Syntax<'a>,
    names: Names,
    variables: Vec<Variable>,
    pub(super) objects: Vec<Object>,
    pub(super) funcs: Vec<Func>,
    func_of: Map<Id, usize>,
    frames: Vec<Frame>,
    pub(super) hits: Vec<Hit>,
    hit: Set<(&'static str, usize, usize)>,
    pub(super) needs: Vec<(NeedKind, Range<usize>)>,
    /// Whether what is being walked is sure to run next.
    certain: bool,
    /// Whether loops are run over and over.
    decoding: bool,
    looping: u32,
    /// Whether `arguments` is mentioned anywhere.
    uses_arguments: bool,
    extra: u64,
    steps: u64,
    /// Bytes of text that may still be made.
    bytes: usize,
    depth: usize,
    deepest: usize,
    pub(super) too_deep: bool,
    generic: bool,
    news: bool,
}

impl<'s, 'a> Machine<'s, 'a> {
    /// A machine that recurses no deeper than `deepest`.
    pub(super) fn new(syntax: &'s Syntax<'a>, names: Names, deepest: usize) -> Self {
        // Running loops takes time, and pays where something is decoded that may then be used.
        let has = |words: &[&str]| words.iter().any(|word| syntax.text.contains(word));
        let decoders = has(&[
            "fromCharCode",
            "charCodeAt",
            "fromCodePoint",
            "charAt",
            "atob",
            "Buffer",
            "parseInt",
            "split(",
            "join(",
        ]);
        let sinks = has(&[
            "require",
            "import(",
            "globalThis",
            "global",
            "window",
            "eval",
            "Function",
            "process",
            "constructor",
            "self",
        ]);
        let decoding = (decoders && sinks) || has(&["\\x", "\\u00", "![]", "_0x"]);
        let nodes = syntax.nodes.len() as u64;
        let variables =
            names.names.iter().map(|_| Variable { value: Value::UNKNOWN, all: Value::Undefined, writes: 0 }).collect();
        let mut machine = Self {
            syntax,
            names,
            variables,
            objects: Vec::new(),
            funcs: Vec::new(),
            func_of: Map::default(),
            frames: vec![Frame {
                node: NONE,
                this: Value::known("globalThis"),
                returned: None,
                call: false,
                arguments: Value::UNKNOWN,
            }],
            hits: Vec::new(),
            hit: Set::default(),
            needs: Vec::new(),
            certain: true,
            decoding,
            looping: 0,
            uses_arguments: syntax.text.contains("arguments"),
            extra: if decoding { nodes.clamp(20_000, 60_000) } else { 1_000 + nodes.min(20_000) },
            steps: 0,
            bytes: 16 << 20,
            depth: 0,
            deepest,
            too_deep: false,
            generic: false,
            news: false,
        };
        let globals: Vec<(String, Var)> =
            machine.names.globals.iter().map(|(name, var)| (name.clone(), *var)).collect();
        for (name, var) in globals {
            if let (Some(value), Some(variable)) = (known::global(&name), machine.variables.get_mut(var as usize)) {
                variable.value = value.clone();
                variable.all = value;
                variable.writes = 1;
            }
        }
        machine
    }

    /// Walks the whole source.
    pub(super) fn run(&mut self) {
        self.block(0);
        for _ in 0..2 {
            self.news = false;
            self.generic = true;
            let mut index = 0;
            while index < self.funcs.len() && !self.too_deep {
                self.walk_function(index);
                index += 1;
            }
            if !self.news {
                break;
            }
        }
        if self.steps >= MOST_STEPS {
            self.report(rules::oversized_source, 0..0, "there is too much in this source to follow");
        }
    }

    // Reports.

    pub(super) fn report(&mut self, rule: &'static Rule, range: Range<usize>, message: &str) {
        self.report_as(rule, rule.severity, range, message);
    }

    pub(super) fn report_as(&mut self, rule: &'static Rule, severity: Severity, range: Range<usize>, message: &str) {
        if self.hits.len() <= crate::scan::MOST_FINDINGS && self.hit.insert((rule.id, range.start, range.end)) {
            self.hits.push(Hit { rule, severity, range, message: message.to_owned() });
        }
    }

    pub(super) fn need(&mut self, kind: NeedKind, range: Range<usize>) {
        if self.needs.len() < crate::scan::MOST_FINDINGS {
            self.needs.push((kind, range));
        }
    }

    /// Reports what the tables say about a path.
    pub(super) fn used(&mut self, path: &str, trigger: Trigger, node: Id) {
        // What many programs ask for and nobody has to hide.
        if let Some("NODE_ENV" | "DEBUG" | "NO_COLOR" | "FORCE_COLOR" | "CI") = path.strip_prefix("process.env.") {
            return;
        }
        let range = self.syntax.range(node);
        for (rule, symbol) in symbols::find(path) {
            if symbol.trigger <= trigger {
                let message = format!("`{}` {}", path.trim_start_matches("?."), symbol.does);
                self.report(rule, range.clone(), &message);
            }
        }
    }

    fn named(&mut self, value: &Value, node: Id) {
        for value in value.alternatives() {
            if let Value::Known(path) = value {
                let path = path.clone();
                self.used(&path, Trigger::Named, node);
                if let Some(name) = path.strip_prefix("process.env.") {
                    self.need(NeedKind::Env(Some(name.to_owned())), self.syntax.range(node));
                } else if &*path == "process.stdin" {
                    self.need(NeedKind::Stdin, self.syntax.range(node));
                }
            }
        }
    }

    // Budgets.

    fn enter(&mut self) -> bool {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return false;
        }
        if self.looping > 0 || self.frames.last().is_some_and(|frame| frame.call) {
            self.extra = self.extra.saturating_sub(1);
        }
        if self.depth >= self.deepest {
            self.too_deep = true;
            return false;
        }
        self.depth += 1;
        true
    }

    /// Pays for work on so many bytes; false if there is nothing left to pay with.
    pub(super) fn work(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.bytes > 0
    }

    /// A text of the script's making; unknown if there are too many or it is too long.
    pub(super) fn make_text(&mut self, text: String) -> Value {
        if text.len() > LONGEST_TEXT || text.len() > self.bytes {
            return Value::Unknown(TEXT);
        }
        self.bytes -= text.len();
        Value::Str(text.into())
    }

    pub(super) fn make(&mut self, object: Object) -> Value {
        self.bytes = self.bytes.saturating_sub(64 + object.items.len() * 16);
        if self.bytes == 0 || object.items.len() > MOST_ITEMS {
            return Value::UNKNOWN;
        }
        self.objects.push(object);
        Value::Object(self.objects.len() - 1)
    }

    pub(super) fn make_array(&mut self, items: Vec<Value>) -> Value {
        self.make(Object::array(items))
    }

    pub(super) fn items(&self, value: &Value) -> Option<&Vec<Value>> {
        match value {
            Value::Object(at) => self
                .objects
                .get(*at)
                .filter(|object| !object.open && matches!(object.shape, Shape::Array | Shape::Bytes))
                .map(|object| &object.items),
            _ => None,
        }
    }

    /// Whether what is walked is sure to run next, once.
    pub(super) fn sure(&self) -> bool {
        self.certain
    }

    pub(super) fn decodes(&self) -> bool {
        self.decoding
    }

    pub(super) fn has_extra(&self) -> bool {
        self.extra > 0
    }

    pub(super) fn steps_taken(&mut self, steps: u64) {
        self.steps += steps;
    }

    // Variables.

    fn read(&self, var: Var) -> Value {
        let Some(variable) = self.variables.get(var as usize) else { return Value::UNKNOWN };
        let here = self.frames.last().map_or(NONE, |frame| frame.node);
        let own = self.names.function.get(var as usize).copied().unwrap_or(NONE);
        if self.generic && own != here && variable.writes > 1 { variable.all.clone() } else { variable.value.clone() }
    }

    fn write(&mut self, var: Var, value: Value) {
        let certain = self.certain;
        let looping = self.looping_blindly();
        let Some(variable) = self.variables.get_mut(var as usize) else { return };
        variable.writes += 1;
        let merged = if variable.writes == 1 { value.clone() } else { variable.all.or(&value) };
        if self.generic && !matches!(merged, Value::Unknown(_)) && !value.is_primitive() && variable.writes > 1 {
            self.news = true;
        }
        variable.all = merged;
        variable.value = if looping {
            let taint = if matches!(value, Value::Str(_)) { TEXT } else { 0 };
            variable.value.or(&value).or(&Value::Unknown(taint))
        } else if certain {
            value
        } else {
            variable.value.or(&value)
        };
    }

    fn looping_blindly(&self) -> bool {
        self.looping > 0 && !self.certain
    }

    /// Gives the names of a pattern their values.
    fn bind(&mut self, pattern: Id, value: Value) {
        if !self.enter() {
            return;
        }
        self.bind_inner(pattern, value);
        self.depth -= 1;
    }

    fn bind_inner(&mut self, pattern: Id, value: Value) {
        let syntax = self.syntax;
        match syntax.kind(pattern) {
            K::Ident | K::PatternIdent => self.write(self.names.var(pattern), value),
            K::Param => {
                let inner = syntax.field(pattern, F::Pattern);
                let inner = if inner == NONE { syntax.field(pattern, F::Name) } else { inner };
                let value = self.or_default(value, syntax.field(pattern, F::Value));
                self.bind(inner, value);
            }
            K::DefaultPattern => {
                let value = self.or_default(value, syntax.field(pattern, F::Right));
                self.bind(syntax.field(pattern, F::Left), value);
            }
            K::RestPattern => self.bind(syntax.first(pattern), value),
            K::ArrayPattern | K::Array => self.bind_array(pattern, &value),
            K::ObjectPattern | K::Object => self.bind_object(pattern, &value),
            K::Member | K::Subscript => self.assign_member(pattern, value),
            K::Paren | K::Cast => self.bind(syntax.first(pattern), value),
            K::Assign => {
                let value = self.or_default(value, syntax.field(pattern, F::Right));
                self.bind(syntax.field(pattern, F::Left), value);
            }
            _ => {}
        }
    }

    fn or_default(&mut self, value: Value, default: Id) -> Value {
        if default == NONE {
            return value;
        }
        match value {
            Value::Undefined => self.eval(default),
            Value::Unknown(_) => {
                let other = self.eval(default);
                value.or(&other)
            }
            known => known,
        }
    }

    fn bind_array(&mut self, pattern: Id, value: &Value) {
        let syntax = self.syntax;
        // Elisions are seen by their commas.
        let text = syntax.text(pattern);
        let begin = syntax.node(pattern).start as usize;
        let (mut at, mut index) = (1, 0);
        for child in syntax.children(pattern) {
            let start = (syntax.node(child).start as usize).saturating_sub(begin);
            index += text.get(at..start).unwrap_or_default().bytes().filter(|byte| *byte == b',').count();
            at = (syntax.node(child).end as usize).saturating_sub(begin);
            if matches!(syntax.kind(child), K::RestPattern | K::Spread) {
                let rest = self.items(value).map(|items| items.get(index..).unwrap_or_default().to_vec());
                let rest = match rest {
                    Some(items) => self.make_array(items),
                    None => Value::Unknown(self.taint(value)),
                };
                self.bind(child, rest);
            } else {
                let item = self.get(value, &Value::Num(f64::from(u32::try_from(index).unwrap_or(0))), pattern);
                self.bind(child, item);
            }
        }
    }

    fn bind_object(&mut self, pattern: Id, value: &Value) {
        let syntax = self.syntax;
        for child in syntax.children(pattern) {
            match syntax.kind(child) {
                K::PatternIdent | K::Ident => {
                    let name = literal::unescape_identifier(syntax.text(child));
                    let item = self.get(value, &Value::text(name), child);
                    self.named(&item, child);
                    self.bind(child, item);
                }
                K::DefaultPattern | K::Assign => {
                    let left = syntax.field(child, F::Left);
                    let name = literal::unescape_identifier(syntax.text(left));
                    let item = self.get(value, &Value::text(name), child);
                    self.named(&item, child);
                    self.bind(child, item);
                }
                K::PairPattern | K::Pair => {
                    let key = self.key(syntax.field(child, F::Key));
                    let item = self.get(value, &key, child);
                    self.named(&item, child);
                    self.bind(syntax.field(child, F::Value), item);
                }
                K::RestPattern | K::Spread => {
                    let inner = syntax.first(child);
                    self.bind(inner, value.clone());
                }
                _ => {}
            }
        }
    }

    // Statements.

    fn block(&mut self, id: Id) -> Flow {
        let syntax = self.syntax;
        for child in syntax.children(id) {
            let declaration = if syntax.kind(child) == K::Export { syntax.field(child, F::Declaration) } else { child };
            if syntax.kind(declaration) == K::FunctionDeclaration {
                let func = self.func(declaration);
                let var = self.names.var(syntax.field(declaration, F::Name));
                let before = self.certain;
                self.certain = true;
                self.write(var, Value::Func(func));
                self.certain = before;
            }
        }
        let mut ended = Flow::Next;
        let before = self.certain;
        for child in syntax.children(id) {
            let flow = self.exec(child);
            if flow != Flow::Next && ended == Flow::Next {
                ended = flow;
                if self.frames.last().is_some_and(|frame| frame.call) || self.looping > 0 {
                    return ended;
                }
                // What follows is walked, since it may be reached some other way.
                self.certain = false;
            }
        }
        self.certain = before;
        ended
    }

    fn exec(&mut self, id: Id) -> Flow {
        if !self.enter() {
            return Flow::Next;
        }
        let flow = self.exec_inner(id);
        self.depth -= 1;
        flow
    }

    fn exec_inner(&mut self, id: Id) -> Flow {
        let syntax = self.syntax;
        match syntax.kind(id) {
            K::Block => return self.block(id),
            K::ExpressionStatement => {
                for child in syntax.children(id) {
                    self.eval(child);
                }
            }
            K::VarDeclaration | K::LexicalDeclaration => {
                for declarator in syntax.children(id) {
                    if syntax.kind(declarator) == K::Declarator {
                        self.declare(declarator);
                    }
                }
            }
            K::FunctionDeclaration => {
                self.func(id);
            }
            K::Class => {
                let class = self.class(id);
                self.bind(syntax.field(id, F::Name), class);
            }
            K::If => return self.exec_if(id),
            K::For => return self.exec_for(id),
            K::ForIn => return self.exec_for_in(id),
            K::While | K::Do => return self.exec_while(id),
            K::Switch => return self.exec_switch(id),
            K::Try => return self.exec_try(id),
            K::With => {
                self.eval(syntax.field(id, F::Object));
                let range = syntax.range(id);
                let end = range.start + 4;
                self.report(rules::unprovable, range.start..end, "inside `with`, names cannot be told apart");
                self.exec(syntax.field(id, F::Body));
            }
            K::Return => {
                let value = match syntax.first(id) {
                    NONE => Value::Undefined,
                    value => self.eval(value),
                };
                if let Some(frame) = self.frames.last_mut() {
                    frame.returned = Some(match &frame.returned {
                        Some(other) => other.or(&value),
                        None => value,
                    });
                }
                return if self.certain { Flow::Return } else { Flow::Next };
            }
            K::Throw => {
                self.parts(id);
                return if self.certain { Flow::Return } else { Flow::Next };
            }
            K::Break => return if self.certain { Flow::Break } else { Flow::Next },
            K::Continue => return if self.certain { Flow::Continue } else { Flow::Next },
            K::Labeled => return self.exec(syntax.field(id, F::Body)),
            K::Import => self.exec_import(id),
            K::Export => self.exec_export(id),
            K::Enum => {
                let name = syntax.field(id, F::Name);
                self.parts(syntax.field(id, F::Body));
                self.bind(name, Value::UNKNOWN);
            }
            K::Namespace => {
                self.bind(syntax.field(id, F::Name), Value::UNKNOWN);
                return self.exec(syntax.field(id, F::Body));
            }
            K::Error | K::Other | K::StaticBlock | K::Else => {
                for child in syntax.children(id) {
                    self.exec(child);
                }
            }
            K::Missing | K::Skip | K::Token => {}
            _ => {
                self.eval(id);
            }
        }
        Flow::Next
    }

    fn declare(&mut self, declarator: Id) {
        let syntax = self.syntax;
        let value = syntax.field(declarator, F::Value);
        let name = syntax.field(declarator, F::Name);
        if value == NONE {
            if syntax.kind(name) == K::Ident
                && self.variables.get(self.names.var(name) as usize).is_some_and(|variable| variable.writes == 0)
            {
                self.write(self.names.var(name), Value::Undefined);
            }
            return;
        }
        let value = self.eval(value);
        self.bind(name, value);
    }

    /// Walks something that may or may not run.
    fn maybe(&mut self, id: Id) {
        if id == NONE {
            return;
        }
        let before = self.certain;
        self.certain = false;
        self.exec(id);
        self.certain = before;
    }

    fn exec_if(&mut self, mut id: Id) -> Flow {
        let syntax = self.syntax;
        let before = self.certain;
        let mut flow = Flow::Next;
        loop {
            let condition = self.eval(syntax.field(id, F::Condition));
            let (then, otherwise) = (syntax.field(id, F::Consequence), syntax.field(id, F::Alternative));
            let otherwise = if syntax.kind(otherwise) == K::Else { syntax.first(otherwise) } else { otherwise };
            match self.truth(&condition) {
                Some(true) => {
                    let taken = self.exec(then);
                    if self.certain {
                        flow = taken;
                    }
                    self.certain = false;
                    if self.frames.last().is_some_and(|frame| frame.call) {
                        break;
                    }
                }
                Some(false) => self.maybe_unless_call(then),
                None => {
                    self.maybe(then);
                    self.certain = false;
                }
            }
            if otherwise == NONE {
                break;
            }
            if syntax.kind(otherwise) == K::If {
                id = otherwise;
                continue;
            }
            let taken = self.exec(otherwise);
            if self.certain {
                flow = taken;
            }
            break;
        }
        self.certain = before;
        flow
    }

    fn maybe_unless_call(&mut self, id: Id) {
        if !self.frames.last().is_some_and(|frame| frame.call) {
            self.maybe(id);
        }
    }

    /// Runs a loop for as long as its condition is known, then walks it once more for the rest.
    fn run_loop(&mut self, condition: Id, body: Id, increment: Id, first: bool) -> Flow {
        let outer = self.certain;
        self.looping += 1;
        let mut rounds = 0;
        let mut blind = true;
        let mut flow = Flow::Next;
        while self.certain && self.decoding && self.extra > 0 && self.steps < MOST_STEPS {
            let known = if condition == NONE || (first && rounds == 0) {
                Some(true)
            } else {
                let value = self.eval(condition);
                self.truth(&value)
            };
            match known {
                Some(true) => {}
                Some(false) => {
                    blind = rounds == 0;
                    break;
                }
                None => break,
            }
            rounds += 1;
            if rounds > 20_000 {
                break;
            }
            let ended = self.exec(body);
            match ended {
                Flow::Return => {
                    flow = Flow::Return;
                    blind = false;
                    break;
                }
                Flow::Break => {
                    blind = false;
                    break;
                }
                Flow::Next | Flow::Continue => {}
            }
            if increment != NONE {
                self.eval(increment);
            }
        }
        if blind {
            self.certain = false;
            if condition != NONE {
                self.eval(condition);
            }
            self.exec(body);
            if increment != NONE {
                self.eval(increment);
            }
        }
        self.certain = outer;
        self.looping -= 1;
        flow
    }

    fn exec_for(&mut self, id: Id) -> Flow {
        let syntax = self.syntax;
        self.exec(syntax.field(id, F::Initializer));
        let condition = match syntax.field(id, F::Condition) {
            condition if syntax.kind(condition) == K::Other => NONE,
            condition => condition,
        };
        let body = syntax.field(id, F::Body);
        if condition == NONE || syntax.text(condition).trim_end_matches(';').trim() == "true" {
            self.check_endless(id, body);
        }
        self.run_loop(condition, body, syntax.field(id, F::Increment), false)
    }

    fn exec_while(&mut self, id: Id) -> Flow {
        let syntax = self.syntax;
        let (condition, body) = (syntax.field(id, F::Condition), syntax.field(id, F::Body));
        if matches!(syntax.text(syntax.bare(condition)), "true" | "1" | "!0" | "!![]") {
            self.check_endless(id, body);
        }
        self.run_loop(condition, body, NONE, syntax.kind(id) == K::Do)
    }

    /// A loop without end that only makes more and more.
    fn check_endless(&mut self, id: Id, body: Id) {
        let syntax = self.syntax;
        let text = syntax.text(body);
        if text.len() > 2_000
            || ["break", "return", "throw", "await", "yield", "exit"].iter().any(|word| text.contains(word))
        {
            return;
        }
        let start = syntax.node(id).start as usize;
        let word = syntax.text(id).find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(1);
        if [".push(", "+=", ".concat(", "new Array", "alloc", ".repeat(", "fork("]
            .iter()
            .any(|grow| text.contains(grow))
        {
            self.report(rules::resource_bomb, start..start + word, "this loop makes more and more and never ends");
        } else if text.trim_matches(['{', '}', ';', ' ', '\n']).is_empty() {
            self.report(rules::resource_bomb, start..start + word, "this loop never ends and does nothing");
        }
    }

    fn exec_for_in(&mut self, id: Id) -> Flow {
        let syntax = self.syntax;
        let right = self.eval(syntax.field(id, F::Right));
        let (left, body) = (syntax.field(id, F::Left), syntax.field(id, F::Body));
        let of = syntax.field(id, F::Operator) != NONE && syntax.text(syntax.field(id, F::Operator)) == "of";
        if !of {
            self.enumerated(&right, id);
        }
        let each: Option<Vec<Value>> = if of {
            match &right {
                Value::Str(text) if text.len() < 4_096 => {
                    Some(text.chars().map(|c| Value::text(c.to_string())).collect())
                }
                value => self.items(value).cloned(),
            }
        } else {
            self.keys(&right)
        };
        let outer = self.certain;
        let mut flow = Flow::Next;
        self.looping += 1;
        let mut blind = true;
        if let Some(each) = each
            && outer
            && !each.is_empty()
            && (self.decoding || each.len() <= 16)
        {
            blind = false;
            for value in each {
                if self.extra == 0 {
                    blind = true;
                    break;
                }
                self.bind(left, value);
                match self.exec(body) {
                    Flow::Return => {
                        flow = Flow::Return;
                        break;
                    }
                    Flow::Break => break,
                    Flow::Next | Flow::Continue => {}
                }
            }
        }
        if blind {
            self.certain = false;
            let taint = self.taint(&right);
            let mut value = Value::Unknown(if of { taint } else { taint | TEXT });
            if let (true, Some(items)) = (of, self.items(&right)) {
                for item in items.iter().take(16) {
                    value = value.or(item);
                }
            }
            self.bind(left, value);
            self.exec(body);
        }
        self.certain = outer;
        self.looping -= 1;
        flow
    }

    fn exec_switch(&mut self, id: Id) -> Flow {
        let syntax = self.syntax;
        let value = self.eval(syntax.field(id, F::Value));
        let body = syntax.field(id, F::Body);
        let outer = self.certain;
        let mut flow = Flow::Next;
        // With a constant, the case that matches is run; the others are walked.
        let mut running = false;
        let known = value.is_primitive();
        let call = self.frames.last().is_some_and(|frame| frame.call);
        let mut ended = false;
        for case in syntax.children(body) {
            let label = syntax.field(case, F::Value);
            if label == NONE {
                running |= known && !ended;
            } else {
                let label = self.eval(label);
                running |= known && !ended && self.equal(&value, &label, true) == Some(true);
            }
            self.certain = outer && running && !ended;
            if known && call && !self.certain {
                continue;
            }
            for statement in syntax.children(case) {
                if syntax.node(statement).field == F::Value {
                    continue;
                }
                match self.exec(statement) {
                    Flow::Next => {}
                    Flow::Break => {
                        ended = true;
                        break;
                    }
                    other => {
                        if self.certain {
                            flow = other;
                            ended = true;
                        }
                        break;
                    }
                }
            }
        }
        self.certain = outer;
        flow
    }

    fn exec_try(&mut self, id: Id) -> Flow {
        let syntax = self.syntax;
        let flow = self.exec(syntax.field(id, F::Body));
        let handler = syntax.field(id, F::Handler);
        if handler != NONE {
            let before = self.certain;
            self.certain = false;
            self.bind(syntax.field(handler, F::Parameter), Value::UNKNOWN);
            self.exec(syntax.field(handler, F::Body));
            self.certain = before;
        }
        let finalizer = syntax.field(id, F::Finalizer);
        if finalizer != NONE {
            self.exec(syntax.field(finalizer, F::Body));
        }
        flow
    }

    fn exec_import(&mut self, id: Id) {
        let syntax = self.syntax;
        let mut source = syntax.field(id, F::Source);
        for child in syntax.children(id) {
            if syntax.kind(child) == K::ImportRequire {
                source = syntax.field(child, F::Source);
            }
        }
        if syntax.text(id).trim_start_matches("import").trim_start().starts_with("type ") {
            return;
        }
        let name = self.eval(source);
        let module = self.import(&name, id);
        for child in syntax.children(id) {
            if matches!(syntax.kind(child), K::ImportClause | K::ImportRequire) {
                for part in syntax.children(child) {
                    match syntax.kind(part) {
                        K::Ident => self.bind(part, module.clone()),
                        K::NamespaceImport => self.bind(syntax.first(part), module.clone()),
                        K::NamedImports => {
                            for specifier in syntax.children(part) {
                                let name = syntax.field(specifier, F::Name);
                                let alias = syntax.field(specifier, F::Alias);
                                let key = match syntax.kind(name) {
                                    K::String => self.eval(name),
                                    _ => Value::text(literal::unescape_identifier(syntax.text(name))),
                                };
                                let value = self.get(&module, &key, specifier);
                                self.named(&value, specifier);
                                self.bind(if alias == NONE { name } else { alias }, value);
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn exec_export(&mut self, id: Id) {
        let syntax = self.syntax;
        for child in syntax.children(id) {
            if syntax.kind(child) == K::Decorator {
                self.parts(child);
            }
        }
        let source = syntax.field(id, F::Source);
        if source != NONE {
            let name = self.eval(source);
            self.import(&name, id);
        }
        let declaration = syntax.field(id, F::Declaration);
        if declaration != NONE {
            self.exec(declaration);
            if syntax.kind(declaration) == K::FunctionDeclaration {
                let func = self.func(declaration);
                self.escape(&Value::Func(func));
            }
        }
        let value = syntax.field(id, F::Value);
        if value != NONE {
            let value = self.eval(value);
            self.escape(&value);
        }
    }

    // Functions.

    /// The function of a node.
    fn func(&mut self, node: Id) -> usize {
        if let Some(func) = self.func_of.get(&node) {
            return *func;
        }
        let syntax = self.syntax;
        let body = syntax.field(node, F::Body);
        let head =
            syntax.text.get(syntax.node(node).start as usize..syntax.node(body).start as usize).unwrap_or_default();
        let is_arrow = head.trim_end().ends_with("=>");
        let this = if is_arrow { self.frames.last().map(|frame| frame.this.clone()) } else { None };
        self.funcs.push(Func { node, this, escapes: false, calls: 0, object: None, is_class: false, is_arrow });
        let func = self.funcs.len() - 1;
        self.func_of.insert(node, func);
        func
    }

    fn params(&self, node: Id) -> Vec<Id> {
        let single = self.syntax.field(node, F::Parameter);
        if single != NONE {
            return vec![single];
        }
        self.syntax
            .children(self.syntax.field(node, F::Parameters))
            .filter(|id| self.syntax.kind(*id) != K::Decorator)
            .collect()
    }

    /// Walks the body of a function once, for whatever arguments.
    fn walk_function(&mut self, index: usize) {
        let Some(func) = self.funcs.get(index).cloned() else { return };
        if func.is_class {
            return;
        }
        let known = func.calls > 0 && !func.escapes;
        let (certain, looping) = (self.certain, self.looping);
        self.certain = true;
        self.looping = 0;
        self.frames.push(Frame {
            node: func.node,
            this: func.this.clone().unwrap_or(Value::UNKNOWN),
            returned: None,
            call: false,
            arguments: Value::UNKNOWN,
        });
        for param in self.params(func.node) {
            if known {
                self.all_arguments(param);
            } else {
                self.bind(param, Value::UNKNOWN);
            }
        }
        self.body(func.node);
        self.frames.pop();
        self.certain = certain;
        self.looping = looping;
    }

    /// Lets a parameter be whatever the known calls passed.
    fn all_arguments(&mut self, param: Id) {
        let syntax = self.syntax;
        match syntax.kind(param) {
            K::Ident | K::PatternIdent => {
                if let Some(variable) = self.variables.get_mut(self.names.var(param) as usize) {
                    variable.value = variable.all.clone();
                }
            }
            K::DefaultPattern => self.all_arguments(syntax.field(param, F::Left)),
            K::Param => {
                let inner = syntax.field(param, F::Pattern);
                self.all_arguments(if inner == NONE { syntax.field(param, F::Name) } else { inner });
            }
            _ => {}
        }
    }

    fn body(&mut self, node: Id) {
        let body = self.syntax.field(node, F::Body);
        if self.syntax.kind(body) == K::Block {
            self.exec(body);
        } else if body != NONE {
            let value = self.eval(body);
            if let Some(frame) = self.frames.last_mut() {
                frame.returned = Some(value);
            }
        }
    }

    /// Follows a call of a function of the script.
    pub(super) fn call_func(&mut self, index: usize, this: Value, args: &[Value]) -> Value {
        let Some(func) = self.funcs.get(index).cloned() else { return Value::UNKNOWN };
        let active = self.frames.iter().filter(|frame| frame.node == func.node).count();
        let most = if self.decoding { 2_000 } else { 12 };
        if func.is_class || self.extra == 0 || self.frames.len() > DEEPEST_CALL || active > 4 || func.calls > most {
            for param in self.params(func.node).into_iter().zip(args.iter().chain(std::iter::repeat(&Value::Undefined)))
            {
                let before = (self.certain, self.looping);
                (self.certain, self.looping) = (false, 0);
                self.bind(param.0, param.1.clone());
                (self.certain, self.looping) = before;
            }
            for arg in args {
                self.escape(arg);
            }
            if let Some(func) = self.funcs.get_mut(index) {
                func.calls += 1;
            }
            return Value::Unknown(self.taints(args));
        }
        if let Some(func) = self.funcs.get_mut(index) {
            func.calls += 1;
        }
        // A function that is already running gets its variables back afterwards.
        let saved = if active > 0 { self.save(func.node) } else { Vec::new() };
        let arguments = if self.uses_arguments { self.make_array(args.to_vec()) } else { Value::UNKNOWN };
        let (certain, looping) = (self.certain, self.looping);
        self.certain = true;
        self.looping = 0;
        let this = match func.this.clone().unwrap_or(this) {
            Value::Undefined | Value::Null => Value::known("globalThis"),
            this => this,
        };
        self.frames.push(Frame { node: func.node, this, returned: None, call: true, arguments });
        for (at, param) in self.params(func.node).into_iter().enumerate() {
            let rest = matches!(self.syntax.kind(param), K::RestPattern)
                || self.syntax.kind(self.syntax.field(param, F::Pattern)) == K::RestPattern;
            let value = if rest {
                self.make_array(args.get(at..).unwrap_or_default().to_vec())
            } else {
                args.get(at).cloned().unwrap_or(Value::Undefined)
            };
            self.bind(param, value);
        }
        self.body(func.node);
        let returned = self.frames.pop().and_then(|frame| frame.returned);
        self.certain = certain;
        self.looping = looping;
        for (var, value) in saved {
            if let Some(variable) = self.variables.get_mut(var as usize) {
                variable.value = value;
            }
        }
        if self.extra == 0 {
            // It was cut short.
            return returned.unwrap_or(Value::UNKNOWN).or(&Value::Unknown(self.taints(args)));
        }
        returned.unwrap_or(Value::Undefined)
    }

    fn save(&mut self, node: Id) -> Vec<(Var, Value)> {
        let (begin, end) = self.names.spans.get(&node).copied().unwrap_or((0, 0));
        self.extra = self.extra.saturating_sub(u64::from(end.saturating_sub(begin)));
        (begin..end).filter_map(|var| Some((var, self.variables.get(var as usize)?.value.clone()))).collect()
    }

    /// Notes that a value goes where it can no longer be followed.
    pub(super) fn escape(&mut self, value: &Value) {
        for value in value.alternatives() {
            match value {
                Value::Func(index) => {
                    if let Some(func) = self.funcs.get_mut(*index) {
                        func.escapes = true;
                    }
                }
                Value::Object(at) => {
                    let inner: Vec<usize> = self
                        .objects
                        .get(*at)
                        .map(|object| {
                            object
                                .names()
                                .map(|(_, value)| value)
                                .chain(object.items.iter().take(64))
                                .filter_map(|value| match value {
                                    Value::Func(index) => Some(*index),
                                    _ => None,
                                })
                                .take(200)
                                .collect()
                        })
                        .unwrap_or_default();
                    self.steps += inner.len() as u64;
                    for index in inner {
                        if let Some(func) = self.funcs.get_mut(index) {
                            func.escapes = true;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn class(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        if let Some(func) = self.func_of.get(&id) {
            return Value::Func(*func);
        }
        let mut instance = Object::new(Shape::Plain);
        instance.open = true;
        let mut statics = Object::new(Shape::Plain);
        statics.open = true;
        let instance = self.make(instance);
        let object = match self.make(statics) {
            Value::Object(at) => Some(at),
            _ => None,
        };
        self.funcs.push(Func {
            node: id,
            this: Some(instance.clone()),
            escapes: false,
            calls: 0,
            object,
            is_class: true,
            is_arrow: false,
        });
        let index = self.funcs.len() - 1;
        self.func_of.insert(id, index);
        let class = Value::Func(index);
        for child in syntax.children(id) {
            match syntax.kind(child) {
                K::Heritage => {
                    let base = self.heritage(child);
                    if let (Value::Object(at), Value::Func(base)) = (&instance, &base) {
                        let base = self.funcs.get(*base).and_then(|func| func.this.clone());
                        if let Some(object) = self.objects.get_mut(*at) {
                            object.base = base;
                        }
                    }
                }
                K::Decorator => self.parts(child),
                _ => {}
            }
        }
        for member in syntax.children(syntax.field(id, F::Body)) {
            let is_static = syntax.text(member).starts_with("static");
            let owner = if is_static { class.clone() } else { instance.clone() };
            match syntax.kind(member) {
                K::Function => {
                    let key = self.key(syntax.field(member, F::Name));
                    let func = self.func(member);
                    if let Some(func) = self.funcs.get_mut(func) {
                        func.this = Some(owner.clone());
                        func.escapes = true;
                    }
                    let name = key
                        .as_text()
                        .map(|name| if &**name == "constructor" { "#constructor".into() } else { name.clone() });
                    if let Some(name) = name {
                        let value = self.method_value(member, func);
                        self.set_property(&owner, &name, value);
                    }
                }
                K::Field => {
                    let name = match syntax.field(member, F::Property) {
                        NONE => syntax.field(member, F::Name),
                        name => name,
                    };
                    let key = self.key(name);
                    let value = syntax.field(member, F::Value);
                    if value != NONE {
                        self.push_frame(owner.clone());
                        let value = self.eval(value);
                        self.frames.pop();
                        if let Some(name) = key.as_text() {
                            self.set_property(&owner, &name.clone(), value);
                        }
                    }
                }
                K::StaticBlock => {
                    self.push_frame(class.clone());
                    self.exec(member);
                    self.frames.pop();
                }
                K::Decorator => self.parts(member),
                _ => {}
            }
        }
        class
    }

    fn push_frame(&mut self, this: Value) {
        let (node, call) = self.frames.last().map_or((NONE, false), |frame| (frame.node, frame.call));
        self.frames.push(Frame { node, this, returned: None, call, arguments: Value::UNKNOWN });
    }

    fn heritage(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let mut last = Value::UNKNOWN;
        for child in syntax.children(id) {
            last = if syntax.kind(child) == K::Heritage { self.heritage(child) } else { self.eval_quiet(child) };
            if let Some(path) = last.path().map(str::to_owned) {
                self.used(&path, Trigger::Called, child);
            }
        }
        last
    }

    /// A method as a value; for a getter, what it returns.
    fn method_value(&mut self, node: Id, func: usize) -> Value {
        let text = self.syntax.text(node);
        let text = text.strip_prefix("static").map_or(text, str::trim_start);
        let name = self.syntax.text(self.syntax.field(node, F::Name));
        let getter =
            text.strip_prefix("get").is_some_and(|rest| rest.starts_with(char::is_whitespace) || rest.starts_with('['))
                && name != "get";
        if getter {
            let this = self.funcs.get(func).and_then(|func| func.this.clone()).unwrap_or(Value::UNKNOWN);
            return self.call_func(func, this, &[]).or(&Value::UNKNOWN);
        }
        Value::Func(func)
    }

    // Expressions.

    /// Evaluates the parts of a node for what they do.
    fn parts(&mut self, id: Id) {
        let syntax = self.syntax;
        for child in syntax.children(id) {
            self.eval(child);
        }
    }

    /// What an expression is, where it is used as a value.
    pub(super) fn eval(&mut self, id: Id) -> Value {
        let value = self.eval_quiet(id);
        match self.syntax.kind(id) {
            K::Ident => {
                if self.is_global(id) {
                    self.named(&value, id);
                }
                self.escape_func(&value);
            }
            K::Member | K::Subscript => self.named(&value, id),
            _ => {}
        }
        value
    }

    fn is_global(&self, id: Id) -> bool {
        self.names.is_global(self.names.var(id))
    }

    fn escape_func(&mut self, value: &Value) {
        if let Value::Func(index) = value
            && let Some(func) = self.funcs.get_mut(*index)
        {
            func.escapes = true;
        }
    }

    /// What an expression is, without reporting that it is named.
    fn eval_quiet(&mut self, id: Id) -> Value {
        if id == NONE || !self.enter() {
            return Value::UNKNOWN;
        }
        let value = self.eval_inner(id);
        self.depth -= 1;
        value
    }

    fn eval_inner(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        match syntax.kind(id) {
            K::Ident | K::PatternIdent => self.eval_name(id),
            K::Undefined => Value::Undefined,
            K::Null => Value::Null,
            K::True => Value::Bool(true),
            K::False => Value::Bool(false),
            K::Number => literal::number(syntax.text(id)).map_or(Value::UNKNOWN, Value::Num),
            K::String => self.eval_string(id),
            K::Fragment | K::Escape => Value::text(literal::unescape(syntax.text(id))),
            K::Template => self.eval_template(id),
            K::Substitution | K::ComputedName => self.eval_last(id),
            K::Paren | K::Cast => self.eval_quiet_or(id),
            K::Sequence => self.eval_last(id),
            K::Regex => self.eval_regex(id),
            K::Array => self.eval_array(id),
            K::Object => self.eval_object(id),
            K::Function | K::FunctionDeclaration => Value::Func(self.func(id)),
            K::Class => self.class(id),
            K::This => self.frames.last().map_or(Value::UNKNOWN, |frame| frame.this.clone()),
            K::Member | K::Subscript => self.eval_member(id),
            K::Assign => self.eval_assign(id),
            K::AugmentedAssign => self.eval_augmented(id),
            K::Update => self.eval_update(id),
            K::Unary => self.eval_unary(id),
            K::Binary => self.eval_binary(id),
            K::Ternary => self.eval_ternary(id),
            K::Call => self.eval_call(id),
            K::New => self.eval_new(id),
            K::Await => self.eval_last(id),
            K::Yield | K::Spread => {
                let value = self.eval_last(id);
                self.escape(&value);
                value
            }
            K::MetaProperty => {
                Value::known(if syntax.text(id).starts_with("import") { "import.meta" } else { "new.target" })
            }
            K::Return
            | K::If
            | K::For
            | K::ForIn
            | K::While
            | K::Block
            | K::ExpressionStatement
            | K::VarDeclaration
            | K::LexicalDeclaration
            | K::Try
            | K::Switch => {
                self.exec(id);
                Value::UNKNOWN
            }
            K::Super | K::ImportWord | K::Missing | K::Token | K::Skip | K::Property => Value::UNKNOWN,
            _ => {
                self.parts(id);
                Value::UNKNOWN
            }
        }
    }

    fn eval_quiet_or(&mut self, id: Id) -> Value {
        let inner = self.syntax.first(id);
        self.eval(inner)
    }

    /// The value of the last part, after those before.
    fn eval_last(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let mut last = Value::Undefined;
        for child in syntax.children(id) {
            last = self.eval(child);
        }
        last
    }

    fn eval_name(&mut self, id: Id) -> Value {
        if self.syntax.text(id) == "arguments"
            && self.is_global(id)
            && let Some(frame) = self.frames.last()
        {
            return frame.arguments.clone();
        }
        self.read(self.names.var(id))
    }

    fn eval_string(&mut self, id: Id) -> Value {
        let text = self.syntax.text(id);
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        if inner.contains('\\') { Value::text(literal::unescape(inner)) } else { Value::text(inner) }
    }

    fn eval_template(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let range = syntax.range(id);
        let mut text = String::new();
        let mut known = true;
        let mut taint = TEXT;
        // Fragments may be missing from the tree, so the text between substitutions is taken from the source.
        let mut at = range.start + 1;
        for child in syntax.children(id) {
            if syntax.kind(child) != K::Substitution {
                continue;
            }
            let inner = syntax.range(child);
            text.push_str(&literal::unescape(syntax.text.get(at..inner.start).unwrap_or_default()));
            at = inner.end;
            let value = self.eval_last(child);
            taint |= self.taint(&value);
            match self.to_text(&value) {
                Some(part) if text.len() < LONGEST_TEXT => text.push_str(&part),
                _ => known = false,
            }
        }
        text.push_str(&literal::unescape(syntax.text.get(at..range.end.saturating_sub(1)).unwrap_or_default()));
        if known { self.make_text(text) } else { Value::Unknown(taint) }
    }

    fn eval_regex(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let (mut pattern, mut flags) = ("", "");
        for child in syntax.children(id) {
            match syntax.kind(child) {
                K::RegexPattern => pattern = syntax.text(child),
                K::RegexFlags => flags = syntax.text(child),
                _ => {}
            }
        }
        self.check_regex(pattern, flags, id);
        self.make(Object::new(Shape::Regex(pattern.into(), flags.into())))
    }

    pub(super) fn check_regex(&mut self, pattern: &str, flags: &str, node: Id) {
        if let Some(why) = super::regex::catastrophe(pattern, flags) {
            self.report(rules::catastrophic_regex, self.syntax.range(node), why);
        }
    }

    fn eval_array(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let mut object = Object::new(Shape::Array);
        for child in syntax.children(id) {
            if syntax.kind(child) == K::Spread {
                let value = self.eval(child);
                match (self.items(&value), &value) {
                    (Some(items), _) => object.items.extend(items.iter().cloned()),
                    (None, Value::Str(text)) => object.items.extend(text.chars().map(|c| Value::text(c.to_string()))),
                    _ => {
                        object.open = true;
                        object.taint |= self.taint(&value);
                    }
                }
            } else {
                let value = self.eval(child);
                object.taint |= self.taint(&value);
                object.items.push(value);
            }
            if object.items.len() > MOST_ITEMS {
                object.items.truncate(MOST_ITEMS);
                object.open = true;
            }
        }
        // `[,]` has elements that are not there.
        if object.items.is_empty() && syntax.text(id).contains(',') {
            object.open = true;
        }
        self.make(object)
    }

    /// The name a property is written with.
    fn key(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        match syntax.kind(id) {
            K::Property | K::Ident | K::PatternIdent => Value::text(literal::unescape_identifier(syntax.text(id))),
            K::ComputedName => {
                let value = self.eval_last(id);
                self.to_text(&value).map_or(value, Value::text)
            }
            K::Number => {
                let value = self.eval_quiet(id);
                self.to_text(&value).map_or(value, Value::text)
            }
            _ => self.eval_quiet(id),
        }
    }

    fn eval_object(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let made = self.make(Object::new(Shape::Plain));
        let Value::Object(at) = made else {
            self.parts(id);
            return Value::UNKNOWN;
        };
        for child in syntax.children(id) {
            let (key, value) = match syntax.kind(child) {
                K::Pair => {
                    let key = self.key(syntax.field(child, F::Key));
                    (key, self.eval(syntax.field(child, F::Value)))
                }
                K::Ident => (Value::text(literal::unescape_identifier(syntax.text(child))), self.eval(child)),
                K::Function => {
                    let key = self.key(syntax.field(child, F::Name));
                    let func = self.func(child);
                    if let Some(func) = self.funcs.get_mut(func) {
                        func.this = Some(made.clone());
                        func.escapes = true;
                    }
                    (key, self.method_value(child, func))
                }
                K::Spread => {
                    let value = self.eval(child);
                    let taint = self.taint(&value);
                    let copied: Vec<(Rc<str>, Value)> = match &value {
                        Value::Object(other) => self
                            .objects
                            .get(*other)
                            .map(|other| other.names().map(|(name, value)| (name.clone(), value.clone())).collect())
                            .unwrap_or_default(),
                        _ => Vec::new(),
                    };
                    let affordable = self.work(copied.len() * 32);
                    if let Some(object) = self.objects.get_mut(at) {
                        object.taint |= taint;
                        object.open |= !affordable;
                        if !affordable {
                            continue;
                        }
                        match value {
                            Value::Object(_) => copied.into_iter().for_each(|(name, value)| object.set(&name, value)),
                            other => {
                                object.open = true;
                                object.base = Some(other);
                            }
                        }
                    }
                    continue;
                }
                _ => {
                    self.eval(child);
                    continue;
                }
            };
            let taint = self.taint(&value);
            if let Some(object) = self.objects.get_mut(at) {
                object.taint |= taint;
                match key.as_text() {
                    Some(name) if &**name == "__proto__" => object.base = Some(value),
                    Some(name) => object.set(name, value),
                    None => object.open = true,
                }
            }
        }
        made
    }

    fn eval_member(&mut self, id: Id) -> Value {
        let (object, key) = self.member_parts(id);
        self.get(&object, &key, id)
    }

    /// The object and name of a member expression.
    fn member_parts(&mut self, id: Id) -> (Value, Value) {
        let syntax = self.syntax;
        let object_node = syntax.field(id, F::Object);
        let object = match syntax.kind(object_node) {
            K::ImportWord => Value::known("import.meta"),
            K::Ident if syntax.text(object_node) == "arguments" && syntax.kind(id) == K::Member => {
                match syntax.text(syntax.field(id, F::Property)) {
                    "callee" => Value::known("arguments"),
                    _ => self.eval_quiet(object_node),
                }
            }
            _ => self.eval_quiet(object_node),
        };
        let key = if syntax.kind(id) == K::Subscript {
            let key = self.eval(syntax.field(id, F::Index));
            if key.is_primitive() && !matches!(key, Value::Num(_)) {
                self.to_text(&key).map_or(key, Value::text)
            } else if let (Value::Object(_), Some(text)) = (&key, self.to_text(&key)) {
                Value::text(text)
            } else {
                key
            }
        } else {
            self.key(syntax.field(id, F::Property))
        };
        (object, key)
    }

    /// What `object[key]` is.
    pub(super) fn get(&mut self, object: &Value, key: &Value, node: Id) -> Value {
        if let Value::Either(values) = object {
            self.steps += values.len() as u64;
            return self.join(values.clone().iter(), |machine, value| machine.get(value, key, node));
        }
        if let Value::Either(keys) = key {
            self.steps += keys.len() as u64;
            return self.join(keys.clone().iter(), |machine, key| machine.get(object, key, node));
        }
        let number = match key {
            Value::Num(number) => {
                literal::whole(*number).filter(|_| number.fract() == 0.0).and_then(|at| usize::try_from(at).ok())
            }
            Value::Str(text) if text.len() < 8 => text.parse().ok(),
            _ => None,
        };
        let Some(name) = self.to_text(key) else { return self.get_unknown(object, node) };
        match object {
            Value::Str(text) => match (&*name, number) {
                ("length", _) => Value::Num(f64::from(u32::try_from(text.encode_utf16().count()).unwrap_or(0))),
                (_, Some(at)) => {
                    self.bytes = self.bytes.saturating_sub(at / 16);
                    let c = if text.is_ascii() {
                        text.as_bytes().get(at).map(|byte| char::from(*byte))
                    } else {
                        text.chars().nth(at)
                    };
                    c.map_or(Value::Undefined, |c| Value::text(c.to_string()))
                }
                ("constructor", _) => Value::known("String"),
                ("__proto__", _) => Value::known("String.prototype"),
                (name, None) if known::has_method("String", name) => Value::known(&format!("String.prototype.{name}")),
                _ => Value::UNKNOWN,
            },
            Value::Num(_) | Value::Bool(_) => {
                let class = if matches!(object, Value::Num(_)) { "Number" } else { "Boolean" };
                match &*name {
                    "constructor" => Value::known(class),
                    name if known::has_method(class, name) => Value::known(&format!("{class}.prototype.{name}")),
                    _ => Value::UNKNOWN,
                }
            }
            Value::Object(at) => self.get_property(*at, &name, number),
            Value::Func(index) => self.get_of_func(*index, &name),
            Value::Known(path) => self.get_known(&path.clone(), &name, node),
            Value::Bound(_) => match &*name {
                "constructor" => Value::known("Function"),
                _ => Value::UNKNOWN,
            },
            Value::Unknown(taint) => match &*name {
                "constructor" => Value::known("?.constructor"),
                "__proto__" => Value::known("Object.prototype"),
                _ => Value::Unknown(*taint & !TEXT),
            },
            Value::Undefined | Value::Null | Value::Either(_) => Value::UNKNOWN,
        }
    }

    fn get_known(&mut self, path: &str, name: &str, node: Id) -> Value {
        if path == "globalThis"
            && let Some(var) = self.names.globals.get(name)
        {
            let value = self.read(*var);
            if !matches!(value, Value::Unknown(_)) {
                return value;
            }
        }
        if path == "process.env" {
            self.need(NeedKind::Env(Some(name.to_owned())), self.syntax.range(node));
        }
        known::member(path, name)
    }

    /// What `object[key]` is, where the key is not known.
    fn get_unknown(&mut self, object: &Value, node: Id) -> Value {
        match object {
            Value::Known(path) if known::is_gate(path) => {
                let message = format!("what is taken from `{path}` is computed");
                self.report(rules::unprovable, self.syntax.range(node), &message);
                Value::known(&format!("{path}[?]"))
            }
            Value::Known(path) if &**path == "process.env" => {
                self.need(NeedKind::Env(None), self.syntax.range(node));
                Value::known("process.env.?")
            }
            Value::Known(path) if &**path == "fs" || &**path == "fs/promises" => Value::known("fs.?"),
            Value::Object(at) => {
                let Some(object) = self.objects.get(*at) else { return Value::UNKNOWN };
                // Any of its parts; strings in a table of code are not.
                let mut value = Value::Unknown(object.taint);
                let parts: Vec<Value> = object
                    .items
                    .iter()
                    .chain(object.names().map(|(_, value)| value))
                    .filter(|value| !value.is_primitive())
                    .take(8)
                    .cloned()
                    .collect();
                let text = object.items.first().is_some_and(|item| matches!(item, Value::Str(_)));
                for part in parts {
                    value = value.or(&part);
                }
                if text { value.or(&Value::Unknown(TEXT)) } else { value }
            }
            Value::Str(_) => Value::Unknown(TEXT),
            other => Value::Unknown(self.taint(other) & !TEXT),
        }
    }

    fn get_property(&mut self, at: usize, name: &str, number: Option<usize>) -> Value {
        let mut at = at;
        for _ in 0..8 {
            let Some(object) = self.objects.get(at) else { return Value::UNKNOWN };
            if matches!(object.shape, Shape::Array | Shape::Bytes) {
                if let Some(number) = number {
                    return match object.items.get(number) {
                        Some(item) => item.clone(),
                        None if object.open => Value::Unknown(object.taint),
                        None => Value::Undefined,
                    };
                }
                if name == "length" && !object.open {
                    return Value::Num(f64::from(u32::try_from(object.items.len()).unwrap_or(0)));
                }
            }
            if let Some(value) = object.get(name) {
                return value.clone();
            }
            let class = match &object.shape {
                Shape::Plain => "Object",
                Shape::Array => "Array",
                Shape::Regex(..) => "RegExp",
                Shape::Bytes => "Buffer",
            };
            match &object.base {
                Some(Value::Object(base)) => at = *base,
                Some(base) => {
                    let base = base.clone();
                    return self.get(&base, &Value::text(name), NONE);
                }
                None => {
                    return match name {
                        "constructor" if !object.open || object.shape != Shape::Plain => Value::known(class),
                        "constructor" => Value::known("?.constructor"),
                        "__proto__" if object.shape == Shape::Plain && !object.open => Value::known("Object.prototype"),
                        "__proto__" if object.shape == Shape::Array => Value::known("Array.prototype"),
                        "source" | "flags" => match &object.shape {
                            Shape::Regex(source, flags) => {
                                Value::Str(if name == "source" { source.clone() } else { flags.clone() })
                            }
                            _ => Value::Undefined,
                        },
                        _ if known::has_method(class, name) => Value::known(&format!("{class}.prototype.{name}")),
                        _ if object.open || !matches!(object.shape, Shape::Plain | Shape::Array) => {
                            Value::Unknown(object.taint)
                        }
                        _ => Value::Undefined,
                    };
                }
            }
        }
        Value::UNKNOWN
    }

    fn function_kind(&self, index: usize) -> &'static str {
        let Some(func) = self.funcs.get(index) else { return "Function" };
        let text = self.syntax.text(func.node);
        let text = text.strip_prefix("static").map_or(text, str::trim_start);
        let is_async = text.starts_with("async");
        let rest = text.strip_prefix("async").map_or(text, str::trim_start);
        let rest = rest.strip_prefix("function").map_or(rest, str::trim_start);
        match (is_async, rest.starts_with('*')) {
            (true, true) => "AsyncGeneratorFunction",
            (true, false) => "AsyncFunction",
            (false, true) => "GeneratorFunction",
            (false, false) => "Function",
        }
    }

    fn get_of_func(&mut self, index: usize, name: &str) -> Value {
        let own = self.funcs.get(index).and_then(|func| func.object);
        if let Some(value) = own.and_then(|at| self.objects.get(at)).and_then(|object| object.get(name)) {
            return value.clone();
        }
        match name {
            "constructor" => Value::known(self.function_kind(index)),
            "__proto__" => Value::known(&format!("{}.prototype", self.function_kind(index))),
            "prototype" => match self.funcs.get(index).and_then(|func| func.this.clone()) {
                Some(this @ Value::Object(_)) => this,
                _ => {
                    let mut object = Object::new(Shape::Plain);
                    object.open = true;
                    let made = self.make(object);
                    if let Some(func) = self.funcs.get_mut(index).filter(|func| !func.is_arrow) {
                        func.this = Some(made.clone());
                    }
                    made
                }
            },
            "length" | "name" => Value::UNKNOWN,
            _ => Value::UNKNOWN,
        }
    }

    fn set_property(&mut self, owner: &Value, name: &str, value: Value) {
        let certain = self.certain && !self.looping_blindly();
        let taint = self.taint(&value);
        let at = match owner {
            Value::Object(at) => Some(*at),
            Value::Func(index) => match self.funcs.get(*index).and_then(|func| func.object) {
                Some(at) => Some(at),
                None => {
                    let mut object = Object::new(Shape::Plain);
                    object.open = true;
                    let made = self.make(object);
                    match made {
                        Value::Object(at) => {
                            if let Some(func) = self.funcs.get_mut(*index) {
                                func.object = Some(at);
                            }
                            Some(at)
                        }
                        _ => None,
                    }
                }
            },
            _ => None,
        };
        let Some(object) = at.and_then(|at| self.objects.get_mut(at)) else {
            self.escape(&value);
            return;
        };
        object.taint |= taint;
        if matches!(object.shape, Shape::Array | Shape::Bytes)
            && let Ok(number) = name.parse::<usize>()
        {
            if number < object.items.len() {
                if let Some(slot) = object.items.get_mut(number) {
                    *slot = if certain { value } else { slot.or(&value) };
                }
            } else if number < MOST_ITEMS && certain && self.bytes > number {
                self.bytes -= number - object.items.len();
                object.items.resize(number, Value::Undefined);
                object.items.push(value);
            } else {
                object.open = true;
            }
            return;
        }
        let merged = match object.get(name) {
            Some(other) if !certain || self.generic => other.or(&value),
            _ => value,
        };
        self.bytes = self.bytes.saturating_sub(32);
        if self.bytes > 0 {
            object.set(name, merged);
        }
    }

    fn assign_member(&mut self, id: Id, value: Value) {
        let (object, key) = self.member_parts(id);
        let name = self.to_text(&key);
        if matches!(value, Value::Func(_)) {
            self.escape(&value);
        }
        for object in object.alternatives() {
            match object {
                Value::Known(path) => self.assign_known(&path.clone(), name.as_deref(), &value, id),
                Value::Object(at) => match &name {
                    Some(name) if name == "__proto__" => {
                        if let Some(object) = self.objects.get_mut(*at) {
                            object.base = Some(value.clone());
                        }
                    }
                    Some(name) => self.set_property(object, name, value.clone()),
                    None => {
                        let taint = self.taint(&value);
                        if let Some(object) = self.objects.get_mut(*at) {
                            object.open = true;
                            object.taint |= taint;
                            if !value.is_primitive() && object.items.len() < 64 {
                                let merged = object.get("?").map_or_else(|| value.clone(), |other| other.or(&value));
                                object.set("?", merged);
                            }
                        }
                    }
                },
                Value::Func(_) => {
                    if let Some(name) = &name {
                        self.set_property(object, name, value.clone());
                    }
                }
                _ => self.escape(&value),
            }
        }
    }

    fn assign_known(&mut self, path: &str, name: Option<&str>, value: &Value, id: Id) {
        let range = self.syntax.range(id);
        match (path, name) {
            ("globalThis", Some(name)) => {
                let var = self.names.global(name);
                while self.variables.len() <= var as usize {
                    self.variables.push(Variable { value: Value::UNKNOWN, all: Value::Undefined, writes: 0 });
                }
                self.write(var, value.clone());
            }
            ("Object.prototype" | "?.constructor.prototype" | "Object.prototype.__proto__", _) => {
                let what = name.map_or_else(|| "a property".to_owned(), |name| format!("`{name}`"));
                let message = format!("{what} is put on the prototype all objects share");
                self.report(rules::prototype_pollution, range, &message);
            }
            _ => {
                let full = format!("{path}.{}", name.unwrap_or("?"));
                if !full.starts_with("process.env") {
                    self.used(&full, Trigger::Named, id);
                }
                self.escape(value);
            }
        }
    }

    fn eval_assign(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let left = syntax.bare(syntax.field(id, F::Left));
        let value = self.eval(syntax.field(id, F::Right));
        self.bind(left, value.clone());
        value
    }

    fn eval_augmented(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let left = syntax.bare(syntax.field(id, F::Left));
        let operator = syntax.text(syntax.field(id, F::Operator));
        let before = self.eval_quiet(left);
        let right = self.eval(syntax.field(id, F::Right));
        let value = match operator.trim_end_matches('=') {
            "||" | "&&" | "??" => before.or(&right),
            operator => self.operate(operator, &before, &right),
        };
        self.bind(left, value.clone());
        value
    }

    fn eval_update(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let argument = syntax.bare(syntax.field(id, F::Argument));
        let operator_node = syntax.field(id, F::Operator);
        let prefix = syntax.node(operator_node).start < syntax.node(argument).start;
        let before = self.eval_quiet(argument);
        let number = self.to_number(&before);
        let step = if syntax.text(operator_node) == "--" { -1.0 } else { 1.0 };
        let after = number.map_or(Value::UNKNOWN, |number| Value::Num(number + step));
        self.bind(argument, after.clone());
        if prefix { after } else { number.map_or(Value::UNKNOWN, Value::Num) }
    }

    fn eval_unary(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        // `!!!![]` nests deeply, so all operators are read first.
        let mut operators = Vec::new();
        let mut inner = id;
        while syntax.kind(inner) == K::Unary {
            operators.push(syntax.text(syntax.field(inner, F::Operator)));
            inner = syntax.field(inner, F::Argument);
        }
        let quiet = operators.iter().any(|operator| matches!(*operator, "typeof" | "delete" | "void" | "!"));
        let mut value = if quiet { self.eval_quiet(inner) } else { self.eval(inner) };
        for operator in operators.into_iter().rev() {
            value = match operator {
                "!" => self.truth(&value).map_or(Value::UNKNOWN, |truth| Value::Bool(!truth)),
                "-" => self.to_number(&value).map_or(Value::UNKNOWN, |number| Value::Num(-number)),
                "+" => self.to_number(&value).map_or(Value::UNKNOWN, Value::Num),
                "~" => self
                    .to_number(&value)
                    .map_or(Value::UNKNOWN, |number| Value::Num(f64::from(!literal::to_int32(number)))),
                "void" => Value::Undefined,
                "typeof" => self.type_of(&value),
                "delete" => Value::Bool(true),
                _ => Value::UNKNOWN,
            };
        }
        value
    }

    fn type_of(&self, value: &Value) -> Value {
        match value {
            Value::Undefined => Value::text("undefined"),
            Value::Null | Value::Object(_) => Value::text("object"),
            Value::Bool(_) => Value::text("boolean"),
            Value::Num(_) => Value::text("number"),
            Value::Str(_) => Value::text("string"),
            Value::Func(_) | Value::Bound(_) => Value::text("function"),
            Value::Known(path)
                if matches!(&**path, "Array" | "String" | "Object" | "Function" | "eval" | "require") =>
            {
                Value::text("function")
            }
            Value::Unknown(_) | Value::Known(_) | Value::Either(_) => Value::UNKNOWN,
        }
    }

    fn eval_binary(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        // Long sums lean to the left, and are read from there.
        let mut steps = Vec::new();
        let mut left = id;
        while syntax.kind(left) == K::Binary {
            steps.push((syntax.text(syntax.field(left, F::Operator)), syntax.field(left, F::Right)));
            left = syntax.field(left, F::Left);
        }
        let quiet = |operator: &str| matches!(operator, "===" | "!==" | "==" | "!=" | "instanceof" | "in");
        let first = steps.last().is_some_and(|(operator, _)| quiet(operator) || matches!(*operator, "&&"));
        let mut value = if first { self.eval_quiet(left) } else { self.eval(left) };
        for (operator, right) in steps.into_iter().rev() {
            self.steps += 1;
            value = match operator {
                "&&" | "||" | "??" => self.logical(operator, value, right),
                _ => {
                    let right = if quiet(operator) { self.eval_quiet(right) } else { self.eval(right) };
                    self.operate(operator, &value, &right)
                }
            };
        }
        value
    }

    fn logical(&mut self, operator: &str, left: Value, right: Id) -> Value {
        let decided = match operator {
            "&&" => self.truth(&left).map(|truth| !truth),
            "||" => self.truth(&left),
            _ => match left {
                Value::Undefined | Value::Null => Some(false),
                Value::Unknown(_) | Value::Either(_) | Value::Known(_) => None,
                _ => Some(true),
            },
        };
        let before = self.certain;
        if decided != Some(false) {
            self.certain = false;
        }
        let other = self.eval(right);
        self.certain = before;
        match decided {
            Some(true) => left,
            Some(false) => other,
            None if operator == "&&" => other,
            None => left.or(&other),
        }
    }

    fn eval_ternary(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let condition = self.eval(syntax.field(id, F::Condition));
        let truth = self.truth(&condition);
        let before = self.certain;
        self.certain = before && truth == Some(true);
        let then = if self.in_call() && truth == Some(false) {
            Value::Undefined
        } else {
            self.eval(syntax.field(id, F::Consequence))
        };
        self.certain = before && truth == Some(false);
        let otherwise = if self.in_call() && truth == Some(true) {
            Value::Undefined
        } else {
            self.eval(syntax.field(id, F::Alternative))
        };
        self.certain = before;
        match truth {
            Some(true) => then,
            Some(false) => otherwise,
            None => then.or(&otherwise),
        }
    }

    fn in_call(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.call)
    }

    // Calls.

    fn eval_arguments(&mut self, id: Id) -> Vec<Value> {
        let syntax = self.syntax;
        let mut args = Vec::new();
        if syntax.kind(id) == K::Template {
            let text = self.eval_template(id);
            return vec![text];
        }
        for child in syntax.children(id) {
            let value = self.eval(child);
            if syntax.kind(child) == K::Spread {
                match self.items(&value) {
                    Some(items) => args.extend(items.iter().cloned()),
                    None => args.push(Value::Unknown(self.taint(&value))),
                }
            } else {
                args.push(value);
            }
        }
        args.truncate(MOST_ITEMS);
        args
    }

    fn eval_call(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let callee = syntax.bare(syntax.field(id, F::Function));
        let arguments = syntax.field(id, F::Arguments);
        match syntax.kind(callee) {
            K::Member | K::Subscript => {
                let (object, key) = self.member_parts(callee);
                let args = self.eval_arguments(arguments);
                self.call_method(&object, &key, &args, id, callee)
            }
            K::ImportWord => {
                let args = self.eval_arguments(arguments);
                let name = args.first().cloned().unwrap_or(Value::UNKNOWN);
                self.import(&name, id)
            }
            K::Super => {
                let args = self.eval_arguments(arguments);
                for arg in &args {
                    self.escape(arg);
                }
                Value::Undefined
            }
            K::Sequence => {
                let function = self.eval_sequence_quiet(callee);
                let args = self.eval_arguments(arguments);
                self.call(&function, Value::known("globalThis"), &args, id, false)
            }
            _ => {
                let function = self.eval_quiet(callee);
                let args = self.eval_arguments(arguments);
                self.call(&function, Value::known("globalThis"), &args, id, false)
            }
        }
    }

    /// `(0, eval)(…)`: the last is called, so it need not be reported as named.
    fn eval_sequence_quiet(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let mut last = Value::UNKNOWN;
        for child in syntax.children(id) {
            last = self.eval_quiet(child);
        }
        last
    }

    fn eval_new(&mut self, id: Id) -> Value {
        let syntax = self.syntax;
        let constructor = self.eval_quiet(syntax.bare(syntax.field(id, F::Constructor)));
        let args = self.eval_arguments(syntax.field(id, F::Arguments));
        self.call(&constructor, Value::UNKNOWN, &args, id, true)
    }

    fn join<'v>(
        &mut self,
        values: impl Iterator<Item = &'v Value>,
        mut each: impl FnMut(&mut Self, &Value) -> Value,
    ) -> Value {
        let mut all: Option<Value> = None;
        for value in values {
            let value = each(self, value);
            all = Some(match all {
                Some(other) => other.or(&value),
                None => value,
            });
        }
        all.unwrap_or(Value::UNKNOWN)
    }

    /// `object[key](args)`.
    pub(super) fn call_method(&mut self, object: &Value, key: &Value, args: &[Value], id: Id, callee: Id) -> Value {
        if let Value::Either(values) = object {
            self.steps += values.len() as u64;
            return self
                .join(values.clone().iter(), |machine, value| machine.call_method(value, key, args, id, callee));
        }
        if let Some(name) = self.to_text(key) {
            if let Some(result) = self.builtin_method(object, &name, args, id) {
                return result;
            }
            let callable = matches!(object, Value::Func(_) | Value::Known(_) | Value::Bound(_));
            if callable && matches!(&*name, "call" | "apply" | "bind") && !object.path().is_some_and(known::is_object) {
                return self.call_indirect(object, &name, args, id);
            }
        }
        let function = self.get(object, key, callee);
        self.call(&function, object.clone(), args, id, false)
    }

    /// `f.call`, `f.apply` and `f.bind`.
    fn call_indirect(&mut self, function: &Value, how: &str, args: &[Value], id: Id) -> Value {
        let this = args.first().cloned().unwrap_or(Value::Undefined);
        let rest: Vec<Value> = match how {
            "apply" => match args.get(1) {
                Some(list) => match self.items(list) {
                    Some(items) => items.clone(),
                    None => vec![Value::Unknown(self.taint(list))],
                },
                None => Vec::new(),
            },
            _ => args.get(1..).unwrap_or_default().to_vec(),
        };
        if how == "bind" {
            if let Some(path) = function.path().map(str::to_owned) {
                self.used(&path, Trigger::Named, id);
            }
            return Value::Bound(Rc::new((function.clone(), this, rest)));
        }
        self.call(function, this, &rest, id, false)
    }

    /// Calls a value.
    pub(super) fn call(&mut self, function: &Value, this: Value, args: &[Value], id: Id, new: bool) -> Value {
        if !self.enter() {
            return Value::UNKNOWN;
        }
        let value = self.call_inner(function, this, args, id, new);
        self.depth -= 1;
        value
    }

    fn call_inner(&mut self, function: &Value, this: Value, args: &[Value], id: Id, new: bool) -> Value {
        match function {
            Value::Either(values) => {
                self.steps += values.len() as u64;
                self.join(values.clone().iter(), |machine, value| machine.call(value, this.clone(), args, id, new))
            }
            Value::Func(index) if new => self.construct(*index, args),
            Value::Func(index) => self.call_func(*index, this, args),
            Value::Bound(bound) => {
                let (target, bound_this, first) = &**bound;
                let all: Vec<Value> = first.iter().chain(args).take(MOST_ITEMS).cloned().collect();
                self.call(target, bound_this.clone(), &all, id, new)
            }
            Value::Known(path) => {
                let path = path.clone();
                for how in ["call", "apply", "bind"] {
                    let target = path.strip_suffix(how).and_then(|target| target.strip_suffix('.'));
                    if let Some(target) = target.filter(|target| *target != "Reflect") {
                        if target == "Function.prototype" {
                            return self.call_indirect(&this, how, args, id);
                        }
                        // `Function.call.bind(f)`: what is called is `this`.
                        let callable = match &this {
                            Value::Func(_) | Value::Bound(_) => true,
                            Value::Known(path) => !known::is_object(path),
                            _ => false,
                        };
                        let target = if callable { this } else { Value::known(target) };
                        return self.call_indirect(&target, how, args, id);
                    }
                }
                self.call_known(&path, &this, args, id, new)
            }
            other => {
                for arg in args {
                    self.escape(arg);
                }
                Value::Unknown((self.taint(other) | self.taints(args)) & !TEXT)
            }
        }
    }

    fn construct(&mut self, index: usize, args: &[Value]) -> Value {
        let Some(func) = self.funcs.get(index).cloned() else { return Value::UNKNOWN };
        if func.is_class {
            let this = func.this.clone().unwrap_or(Value::UNKNOWN);
            if let Value::Object(at) = this {
                let constructor = self.get_property(at, "#constructor", None);
                if let Value::Func(constructor) = constructor {
                    self.call_func(constructor, this.clone(), args);
                }
            }
            for arg in args {
                self.escape(arg);
            }
            return this;
        }
        let this = match &func.this {
            Some(this @ Value::Object(_)) => this.clone(),
            _ => {
                let mut object = Object::new(Shape::Plain);
                object.open = true;
                self.make(object)
            }
        };
        let returned = self.call_func(index, this.clone(), args);
        if matches!(returned, Value::Object(_) | Value::Func(_)) { returned } else { this }
    }

    /// Makes a module available.
    pub(super) fn import(&mut self, name: &Value, id: Id) -> Value {
        let range = self.syntax.range(id);
        let names = name.alternatives().to_vec();
        self.join(names.iter(), |machine, name| match name {
            Value::Str(name) => machine.import_name(name, id),
            Value::Known(path) if matches!(&**path, "__filename" | "__dirname") => Value::UNKNOWN,
            _ => {
                machine.report(rules::import_machinery, range.clone(), "which module is loaded here is computed");
                Value::UNKNOWN
            }
        })
    }

    fn import_name(&mut self, name: &str, id: Id) -> Value {
        let range = self.syntax.range(id);
        let name = name.trim();
        let scheme = name.split_once(':').map(|(scheme, _)| scheme);
        match scheme {
            Some("data" | "blob") => {
                self.report(rules::dynamic_code, range, "a module is made from a text");
                return Value::UNKNOWN;
            }
            Some("http" | "https") => {
                self.report(rules::network_access, range, "a module is loaded from the network");
                return Value::Unknown(NETWORK);
            }
            _ => {}
        }
        let plain = name.strip_prefix("node:").unwrap_or(name);
        let file = name.strip_prefix("file:").unwrap_or(plain);
        if std::path::Path::new(file).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("node")) {
            self.report(rules::native_code, range, "a compiled addon is loaded");
            return Value::UNKNOWN;
        }
        if file.starts_with('.') {
            if file.trim_start_matches("./").starts_with("../") || file == ".." {
                self.report_as(
                    rules::file_access,
                    Severity::Warning,
                    range.clone(),
                    "a module outside the folder of the script is loaded",
                );
            }
            self.need(NeedKind::Module(file.to_owned()), range);
            return Value::UNKNOWN;
        }
        if file.starts_with('/') || name.starts_with("file:") || file.chars().nth(1) == Some(':') {
            self.report(rules::file_access, range, "a module is loaded by an absolute path");
            return Value::UNKNOWN;
        }
        let module = known::module(plain);
        if known::is_builtin(plain) {
            if let Some(path) = module.path().map(str::to_owned) {
                self.used(&path, Trigger::Imported, id);
            }
            return module;
        }
        let mut parts = plain.splitn(3, '/');
        let first = parts.next().unwrap_or(plain);
        let package = match parts.next() {
            Some(second) if first.starts_with('@') => format!("{first}/{second}"),
            _ => first.to_owned(),
        };
        if let Some(path) = module.path().map(str::to_owned) {
            self.used(&path, Trigger::Imported, id);
        }
        self.need(NeedKind::Package(package), range);
        module
    }

    /// Looking at all names of an object that everything can be reached from.
    pub(super) fn enumerated(&mut self, value: &Value, id: Id) {
        for value in value.alternatives() {
            if let Value::Known(path) = value {
                if known::is_gate(path) && &**path != "module" {
                    let message = format!("the names in `{path}` are listed");
                    self.report(rules::introspection_escape, self.syntax.range(id), &message);
                } else if &**path == "process.env" {
                    self.need(NeedKind::Env(None), self.syntax.range(id));
                }
            }
        }
    }

    pub(super) fn keys(&self, value: &Value) -> Option<Vec<Value>> {
        let Value::Object(at) = value else { return None };
        let object = self.objects.get(*at)?;
        if object.open || object.base.is_some() || object.len() > 256 {
            return None;
        }
        if object.shape == Shape::Array {
            return Some((0..object.items.len().min(4_096)).map(|at| Value::text(at.to_string())).collect());
        }
        Some(object.names().map(|(name, _)| Value::Str(name.clone())).collect())
    }

    // Where values come from.

    /// Where a value comes from.
    pub(super) fn taint(&self, value: &Value) -> Taint {
        match value {
            Value::Unknown(taint) => *taint,
            Value::Str(_) => TEXT,
            Value::Object(at) => self.objects.get(*at).map_or(0, |object| object.taint & !TEXT),
            Value::Known(path) => {
                if path.starts_with("process.env")
                    || path.starts_with("os.userInfo()")
                    || path.starts_with("os.hostname()")
                {
                    ENVIRONMENT
                } else if path.starts_with("fs.readFile") || path.starts_with("fs/promises.readFile") {
                    FILE
                } else if path.starts_with("fetch()") || path.starts_with("http") && path.contains("()") {
                    NETWORK
                } else {
                    0
                }
            }
            Value::Either(values) => values.iter().fold(0, |all, value| all | self.taint(value)),
            _ => 0,
        }
    }

    pub(super) fn taints(&self, values: &[Value]) -> Taint {
        values.iter().take(64).fold(0, |all, value| all | self.taint(value)) & !TEXT
    }
}
