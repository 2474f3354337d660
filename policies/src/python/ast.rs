//! A syntax tree of Python in arenas: small, typed, quick to walk more than once.

use std::ops::Range;

use super::{Map, Set};
use std::rc::Rc;

/// An interned name, after NFKC.
pub(super) type Name = u32;
/// Index of an expression.
pub(super) type ExprId = u32;
/// Index of a function or lambda.
pub(super) type FunctionId = u32;

/// A byte range of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Place {
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Debug)]
pub(super) struct Expr {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comprehension {
    List,
    Set,
    Dict,
    Generator,
}

#[derive(Debug)]
pub(super) enum Clause {
    For(ExprId, ExprId),
    If(ExprId),
}

#[derive(Debug)]
pub(super) enum Piece {
    Text(Rc<str>),
    /// The value, and the conversion and format specifier as text, if there are any.
    Value(ExprId, Option<Rc<str>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArgKind {
    Plain,
    Star,
    DoubleStar,
    Key(Name),
}

#[derive(Debug)]
pub(super) struct Arg {
    pub(super) kind: ArgKind,
    pub(super) value: ExprId,
}

#[derive(Debug)]
pub(super) enum Kind {
    Name(Name),
    None,
    Bool(bool),
    Int(Option<i128>),
    Float(f64),
    Str(Rc<str>),
    Bytes(Rc<[u8]>),
    Format(Vec<Piece>),
    Attribute(ExprId, Name),
    Call(ExprId, Vec<Arg>),
    Subscript(ExprId, ExprId),
    Slice([Option<ExprId>; 3]),
    Binary(&'static str, ExprId, ExprId),
    /// `or` if true, `and` if false.
    Either(bool, ExprId, ExprId),
    Not(ExprId),
    Negative(ExprId),
    Invert(ExprId),
    Compare(Vec<ExprId>, Vec<&'static str>),
    Conditional {
        test: ExprId,
        then: ExprId,
        other: ExprId,
    },
    Lambda(FunctionId),
    Tuple(Vec<ExprId>),
    List(Vec<ExprId>),
    Set(Vec<ExprId>),
    /// Pairs; without a key it is `**value`.
    Dict(Vec<(Option<ExprId>, ExprId)>),
    Comprehension(Comprehension, ExprId, Option<ExprId>, Vec<Clause>),
    Yield(Option<ExprId>),
    Await(ExprId),
    Star(ExprId),
    Walrus(ExprId, ExprId),
    /// Something else, with what is in it.
    Other(Vec<ExprId>),
}

#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: Name,
    pub(super) default: Option<ExprId>,
    pub(super) annotation: Option<ExprId>,
    pub(super) kind: ArgKind,
    pub(super) keyword_only: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    Block(Vec<Stmt>),
    Expression(ExprId),
}

/// A `def` or a `lambda`.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) params: Vec<Param>,
    pub(super) returns: Option<ExprId>,
    pub(super) body: Body,
    /// Names bound in it, parameters included.
    pub(super) bound: Set<Name>,
    /// Names it declares `global`.
    pub(super) globals: Set<Name>,
    pub(super) generator: bool,
    /// How deeply its body is nested.
    pub(super) depth: u32,
}

#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) kind: StmtKind,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct Case {
    /// Names it binds, each to the subject or a part of it.
    pub(super) names: Vec<Name>,
    /// Values and classes it names, and its guard.
    pub(super) values: Vec<ExprId>,
    pub(super) body: Vec<Stmt>,
}

#[derive(Debug)]
pub(super) struct Imported {
    /// Dotted path.
    pub(super) path: Rc<str>,
    pub(super) alias: Option<Name>,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum StmtKind {
    Expr(ExprId),
    /// Targets, from left to right, and the value.
    Assign(Vec<ExprId>, ExprId),
    AugAssign(ExprId, &'static str, ExprId),
    Annotated(ExprId, ExprId),
    Delete(Vec<ExprId>),
    Import(Vec<Imported>),
    /// Module (empty if relative to nothing), levels of relative import, names; no names means `*`.
    FromImport(Rc<str>, usize, Vec<Imported>, Place),
    Def(Name, FunctionId, Vec<ExprId>),
    Class {
        name: Name,
        bases: Vec<Arg>,
        body: Vec<Stmt>,
        decorators: Vec<ExprId>,
    },
    Return(Option<ExprId>),
    /// Test, then, else.
    If(ExprId, Vec<Stmt>, Vec<Stmt>),
    While(ExprId, Vec<Stmt>, Vec<Stmt>),
    For(ExprId, ExprId, Vec<Stmt>, Vec<Stmt>),
    /// Body, and every handler, else and finally: the types, the name bound, the block.
    Try(Vec<Stmt>, Vec<(Vec<ExprId>, Option<Name>, Vec<Stmt>)>),
    With(Vec<(ExprId, Option<ExprId>)>, Vec<Stmt>),
    Match(ExprId, Vec<Case>),
    Raise(Vec<ExprId>),
    Break,
    Continue,
    Block(Vec<Stmt>),
    Pass,
}

/// Names, by number.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: Map<Rc<str>, Name>,
    names: Vec<Rc<str>>,
}

impl Names {
    /// The number of a name as it stands in the source; compared as Python does, after NFKC.
    pub(super) fn intern(&mut self, name: &str) -> Name {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        if !name.is_ascii() {
            let same: String = unicode_normalization::UnicodeNormalization::nfkc(name.chars()).collect();
            if same != name {
                let number = self.intern(&same);
                self.numbers.insert(name.into(), number);
                return number;
            }
        }
        let name: Rc<str> = name.into();
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(Rc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    pub(super) fn get(&self, name: Name) -> Rc<str> {
        self.names.get(name as usize).cloned().unwrap_or_else(|| "".into())
    }

    pub(super) fn number(&self, name: &str) -> Option<Name> {
        self.numbers.get(name).copied()
    }
}

/// Everything lowered so far: the script, and code in strings it runs.
#[derive(Debug, Default)]
pub(super) struct Ast {
    pub(super) exprs: Vec<Rc<Expr>>,
    pub(super) functions: Vec<Rc<Function>>,
    pub(super) names: Names,
}
