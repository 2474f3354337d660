//! What an expression can come to.

use std::rc::Rc;

/// An abstract value: a constant, a name of the library, something of the script's own, or unknown.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unknown,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    Bytes(Rc<[u8]>),
    /// A module, function or class of the library or of a package, by its dotted path.
    Path(Rc<str>),
    /// The names of a module as a mapping.
    Space(Rc<str>),
    /// A member of that module which is chosen at run time.
    Member(Rc<str>),
    /// The names of the script's own module as a mapping.
    Globals,
    /// A function of the script: index of its closure.
    Function(usize),
    /// A class of the script.
    Class(usize),
    /// A list, tuple, set, dictionary or instance: index in the heap.
    Object(usize),
    /// An attribute of a value, not called yet.
    Method(Rc<(Value, Rc<str>)>),
    /// A call with some of its arguments.
    Partial(Rc<(Value, Args)>),
    /// A function that applies an operation to what it is given: `operator.attrgetter(…)`.
    Getter(Rc<(Getter, Args)>),
    /// One of these.
    Union(Rc<Vec<Value>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Getter {
    Attribute,
    Item,
    Method,
}

/// What a function is called with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Args {
    pub(super) plain: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
    /// There may be more than are known.
    pub(super) open: bool,
}

impl Args {
    pub(super) fn of(plain: Vec<Value>) -> Self {
        Self { plain, ..Self::default() }
    }

    /// The argument at that position or of that name.
    pub(super) fn get(&self, index: usize, name: &str) -> Option<&Value> {
        self.plain.get(index).or_else(|| self.key(name))
    }

    pub(super) fn key(&self, name: &str) -> Option<&Value> {
        self.named.iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Value> {
        self.plain.iter().chain(self.named.iter().map(|(_, value)| value))
    }
}

/// The most alternatives that are told apart.
const MOST_ALTERNATIVES: usize = 12;

impl Value {
    pub(super) fn path(path: &str) -> Self {
        Self::Path(path.into())
    }

    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// The value where control flow meets.
    pub(super) fn join(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        let mut all: Vec<Value> = Vec::new();
        for value in [self, other] {
            match value {
                Self::Union(values) => values.iter().for_each(|value| add(&mut all, value.clone())),
                value => add(&mut all, value),
            }
        }
        if all.len() > MOST_ALTERNATIVES {
            // What cannot be kept apart is dropped, what names something last.
            all.sort_by_key(|value| !value.is_name());
            all.truncate(MOST_ALTERNATIVES);
            add(&mut all, Self::Unknown);
        }
        match all.len() {
            1 => all.pop().unwrap_or(Self::Unknown),
            _ => Self::Union(Rc::new(all)),
        }
    }

    fn is_name(&self) -> bool {
        !matches!(
            self,
            Self::Unknown | Self::None | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Str(_) | Self::Bytes(_)
        )
    }

    /// Every alternative.
    pub(super) fn each(&self) -> &[Value] {
        match self {
            Self::Union(values) => values,
            one => std::slice::from_ref(one),
        }
    }

    /// Every text it can be.
    pub(super) fn texts(&self) -> impl Iterator<Item = Rc<str>> {
        self.each().iter().filter_map(Value::as_text)
    }

    pub(super) fn as_text(&self) -> Option<Rc<str>> {
        match self {
            Self::Str(text) => Some(Rc::clone(text)),
            _ => None,
        }
    }

    /// Text or bytes as text.
    pub(super) fn as_source(&self) -> Option<Rc<str>> {
        match self {
            Self::Str(text) => Some(Rc::clone(text)),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Rc::from),
            _ => None,
        }
    }

    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    /// Whether it could be a value nothing is known about.
    pub(super) fn may_be_unknown(&self) -> bool {
        self.each().iter().any(|value| matches!(value, Self::Unknown))
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Whether it counts as true, if that is known.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::None => Some(false),
            Self::Bool(value) => Some(*value),
            Self::Int(value) => Some(*value != 0),
            Self::Str(text) => Some(!text.is_empty()),
            Self::Bytes(bytes) => Some(!bytes.is_empty()),
            Self::Path(_) | Self::Function(_) | Self::Class(_) => Some(true),
            _ => None,
        }
    }
}

fn add(all: &mut Vec<Value>, value: Value) {
    if !all.contains(&value) {
        all.push(value);
    }
}
