//! What an expression can stand for.

use std::rc::Rc;

use super::Map;
use super::syntax::Id;

/// Where an unknown value comes from, as a set of bits.
pub(super) type Taint = u8;
/// From the environment or credentials.
pub(super) const ENVIRONMENT: Taint = 1;
/// From the network.
pub(super) const NETWORK: Taint = 2;
/// From a file.
pub(super) const FILE: Taint = 4;
/// A text of some sort.
pub(super) const TEXT: Taint = 8;

/// The most alternatives that are kept apart.
const MOST_ALTERNATIVES: usize = 8;

/// A value, as far as it can be told.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing is known but where it comes from.
    Unknown(Taint),
    Undefined,
    Null,
    Bool(bool),
    Num(f64),
    Str(Rc<str>),
    /// An object or array of the script.
    Object(usize),
    /// A function or class of the script.
    Func(usize),
    /// Something of the language or a module, by its path: `child_process.exec`. What a call returns ends with `()`.
    Known(Rc<str>),
    /// A function with `this` and first arguments.
    Bound(Rc<(Value, Value, Vec<Value>)>),
    /// One of these.
    Either(Rc<[Value]>),
}

impl Value {
    pub(super) const UNKNOWN: Self = Self::Unknown(0);

    pub(super) fn known(path: &str) -> Self {
        if path.len() > 100 { Self::UNKNOWN } else { Self::Known(path.into()) }
    }

    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// The path, if that is what is known.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::Known(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&Rc<str>> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_primitive(&self) -> bool {
        matches!(self, Self::Undefined | Self::Null | Self::Bool(_) | Self::Num(_) | Self::Str(_))
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unknown(a), Self::Unknown(b)) => a == b,
            (Self::Undefined, Self::Undefined) | (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Num(a), Self::Num(b)) => a.to_bits() == b.to_bits(),
            (Self::Str(a), Self::Str(b)) | (Self::Known(a), Self::Known(b)) => a == b,
            (Self::Object(a), Self::Object(b)) | (Self::Func(a), Self::Func(b)) => a == b,
            (Self::Bound(a), Self::Bound(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The alternatives.
    pub(super) fn alternatives(&self) -> &[Value] {
        match self {
            Self::Either(values) => values,
            one => std::slice::from_ref(one),
        }
    }

    /// One or the other.
    pub(super) fn or(&self, other: &Self) -> Self {
        if self.same(other) {
            return self.clone();
        }
        let mut all: Vec<Value> = self.alternatives().to_vec();
        for value in other.alternatives() {
            if let (Some(Self::Unknown(taint)), Self::Unknown(more)) =
                (all.iter_mut().find(|value| matches!(value, Self::Unknown(_))), value)
            {
                *taint |= more;
            } else if !all.iter().any(|known| known.same(value)) {
                all.push(value.clone());
            }
        }
        if all.len() > MOST_ALTERNATIVES {
            // What can be called stays; constants become unknown.
            let mut taint = 0;
            all.retain(|value| match value {
                Self::Unknown(more) => {
                    taint |= more;
                    false
                }
                value => !value.is_primitive(),
            });
            all.truncate(MOST_ALTERNATIVES - 1);
            all.push(Self::Unknown(taint));
        }
        match all.as_slice() {
            [one] => one.clone(),
            _ => Self::Either(all.into()),
        }
    }
}

/// The most names of an object that are searched one by one.
const FEW_NAMES: usize = 12;

/// What an object is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Plain,
    Array,
    /// Pattern and flags.
    Regex(Rc<str>, Rc<str>),
    /// Bytes: a buffer or typed array.
    Bytes,
}

/// An object of the script.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) shape: Shape,
    pub(super) items: Vec<Value>,
    names: Vec<(Rc<str>, Value)>,
    index: Map<Rc<str>, usize>,
    /// Whether it can have more than is known here.
    pub(super) open: bool,
    /// What its unknown parts come from.
    pub(super) taint: Taint,
    /// Where properties are looked up that it has not itself.
    pub(super) base: Option<Value>,
}

impl Object {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, items: Vec::new(), names: Vec::new(), index: Map::default(), open: false, taint: 0, base: None }
    }

    pub(super) fn array(items: Vec<Value>) -> Self {
        Self { items, ..Self::new(Shape::Array) }
    }

    fn place(&self, name: &str) -> Option<usize> {
        if self.names.len() > FEW_NAMES {
            self.index.get(name).copied()
        } else {
            self.names.iter().position(|(other, _)| **other == *name)
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).and_then(|at| self.names.get(at)).map(|(_, value)| value)
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        match self.place(name).and_then(|at| self.names.get_mut(at)) {
            Some((_, slot)) => *slot = value,
            None => {
                self.names.push((name.into(), value));
                // Few names are searched one by one; the index is made when there are more.
                let from = if self.names.len() <= FEW_NAMES {
                    return;
                } else if self.index.is_empty() {
                    0
                } else {
                    self.names.len() - 1
                };
                for (at, (name, _)) in self.names.iter().enumerate().skip(from) {
                    self.index.insert(Rc::clone(name), at);
                }
            }
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&Rc<str>, &Value)> {
        self.names.iter().map(|(name, value)| (name, value))
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// A function or class of the script.
#[derive(Clone, Debug)]
pub(super) struct Func {
    pub(super) node: Id,
    /// What `this` means in it, where that is known.
    pub(super) this: Option<Value>,
    /// Whether it is used otherwise than by calling it by its name.
    pub(super) escapes: bool,
    pub(super) calls: u32,
    /// Own properties of the function: `F.prototype` and the like.
    pub(super) object: Option<usize>,
    pub(super) is_class: bool,
    pub(super) is_arrow: bool,
}
