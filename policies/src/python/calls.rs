//! Attributes, items and calls of abstract values.

use std::rc::Rc;

use super::ast::Place;
use super::machine::{Heap, Machine};
use super::value::{Args, Getter, Value};
use super::{bombs, files, fold, names, regex};
use crate::NeedKind;
use crate::rules::{self, Trigger};

/// Functions that take a module without doing anything with its members.
const HARMLESS_TAKERS: &[&str] = &[
    "builtins.isinstance",
    "builtins.hasattr",
    "builtins.print",
    "builtins.repr",
    "builtins.type",
    "builtins.id",
    "builtins.len",
    "builtins.str",
    "builtins.bool",
    "builtins.help",
    "builtins.callable",
    "builtins.hash",
    "builtins.issubclass",
    "importlib.reload",
    "inspect.getdoc",
    "inspect.ismodule",
    "builtins.super",
    "unittest.main",
    "doctest.testmod",
    "unittest.mock.patch.object",
    "builtins.dir",
    "inspect.getfile",
    "inspect.getsource",
    "typing.cast",
    "builtins.list",
    "builtins.tuple",
];

impl Machine<'_> {
    /// `base.name`.
    pub(super) fn attribute(&mut self, base: &Value, name: &str, place: Place) -> Value {
        let mut all: Option<Value> = None;
        for one in base.each() {
            let value = self.attribute_of(one, name, place);
            all = Some(match all {
                Some(all) => all.join(value),
                None => value,
            });
        }
        all.unwrap_or(Value::Unknown)
    }

    fn attribute_of(&mut self, base: &Value, name: &str, place: Place) -> Value {
        match base {
            Value::Path(path) => {
                let value = self.attribute_of_path(path, name, place);
                if let Value::Path(full) = &value {
                    let full = Rc::clone(full);
                    self.named(&full, place, Trigger::Named);
                }
                return value;
            }
            Value::Object(index) => {
                if let Some(Heap::Instance { class, attributes }) = self.heap.get(*index) {
                    let class = *class;
                    if let Some(value) = attributes.get(name) {
                        return value.clone();
                    }
                    if name == "__class__" {
                        return Value::Class(class);
                    }
                    if let Some(value) = self.class_attribute(class, name, 6) {
                        return match value {
                            Value::Function(_) => Value::Method(Rc::new((base.clone(), name.into()))),
                            value => value,
                        };
                    }
                    if let Some(value) = self.given(class, name) {
                        return value;
                    }
                } else if let Some(Heap::Made(path, args)) = self.heap.get(*index) {
                    let path = Rc::clone(path);
                    if matches!(&*path, "types.SimpleNamespace" | "argparse.Namespace")
                        && let Some(value) = args.key(name)
                    {
                        return value.clone();
                    }
                    let full = format!("{path}.{name}");
                    self.named(&full, place, Trigger::Named);
                }
            }
            Value::Globals => match name {
                "__builtins__" => return Value::path("builtins"),
                "__dict__" => return Value::Globals,
                _ if self.ast.names.number(name).is_some() && !names::walks(name) => {
                    let value = self.global_named(name);
                    if !value.is_unknown() {
                        return value;
                    }
                }
                _ => {}
            },
            Value::Class(class) => {
                if let Some(value) = self.class_attribute(*class, name, 6) {
                    return value;
                }
                match name {
                    "__base__" => return self.bases(*class).into_iter().next().unwrap_or(Value::Unknown),
                    "__bases__" => {
                        let bases = self.bases(*class);
                        return self.list(bases);
                    }
                    "__mro__" => {
                        let mut all = vec![base.clone()];
                        all.extend(self.bases(*class));
                        all.push(Value::path("builtins.object"));
                        return self.list(all);
                    }
                    "__subclasses__" | "mro" => return Value::Method(Rc::new((base.clone(), name.into()))),
                    "__name__" | "__qualname__" => return Value::Unknown,
                    _ => {}
                }
            }
            Value::Function(_) => match name {
                "__globals__" => {
                    self.report(rules::introspection_escape, place, "takes the globals of a function");
                    return Value::Globals;
                }
                "__call__" | "__func__" | "__wrapped__" => return base.clone(),
                "__closure__" | "__defaults__" | "__kwdefaults__" | "__annotations__" | "__self__" => {
                    return Value::Unknown;
                }
                _ => {}
            },
            Value::Method(method) => match name {
                "__self__" => return method.0.clone(),
                "__call__" | "__func__" => return base.clone(),
                _ => {}
            },
            Value::Partial(partial) if name == "func" => return partial.0.clone(),
            Value::Member(module) => {
                // Which module it is is not known: the worst that has such a member.
                let full = if &**module == "sys.modules" { format!("os.{name}") } else { format!("{module}.{name}") };
                if names::symbol(&full).is_some() {
                    self.named(&full, place, Trigger::Named);
                    return Value::Path(full.into());
                }
            }
            Value::Str(_) | Value::Bytes(_) | Value::Int(_) | Value::Bool(_) | Value::Float(_) | Value::None
                if name == "__class__" =>
            {
                return Value::path("builtins.type_of_constant");
            }
            _ => {}
        }
        if names::walks(name) {
            self.report(rules::introspection_escape, place, format!("takes `{name}`, which leads out of a value"));
            return match name {
                "__builtins__" | "f_builtins" => Value::path("builtins"),
                _ => Value::Space("".into()),
            };
        }
        Value::Method(Rc::new((base.clone(), name.into())))
    }

    /// An attribute of a module, class or function of the library.
    pub(super) fn attribute_of_path(&mut self, path: &Rc<str>, name: &str, place: Place) -> Value {
        if let Some(of_library) = self.exports.get(path, name) {
            let of_library = names::canonical(of_library);
            self.named(&of_library, place, Trigger::Named);
            return Value::Path(of_library);
        }
        match name {
            "__dict__" => {
                if names::is_dangerous(path) {
                    self.report(
                        rules::introspection_escape,
                        place,
                        format!("takes the names of `{path}` as a mapping"),
                    );
                }
                return Value::Space(Rc::clone(path));
            }
            "__name__" | "__qualname__" => {
                return Value::text(path.strip_prefix("builtins.").unwrap_or(path));
            }
            "__doc__" | "__file__" | "__version__" | "__package__" | "__path__" | "__module__" | "__all__" => {
                return Value::Unknown;
            }
            "__self__" if path.starts_with("builtins.") => return Value::path("builtins"),
            "__self__" => {
                let module = path.rsplit_once('.').map_or(&**path, |(module, _)| module);
                return Value::path(module);
            }
            "__call__" | "__func__" | "__wrapped__" | "func" => return Value::Path(Rc::clone(path)),
            "__getattribute__" | "__getattr__" => {
                return Value::Method(Rc::new((Value::Path(Rc::clone(path)), name.into())));
            }
            "__class__" => return Value::path("builtins.type"),
            "__subclasses__" => {
                let own = names::is_library(path.split('.').next().unwrap_or_default());
                if own {
                    self.report(rules::introspection_escape, place, "lists the subclasses of a class of the library");
                }
                return Value::Method(Rc::new((Value::Unknown, name.into())));
            }
            "__base__" | "__bases__" | "__mro__" => return Value::path("builtins.object"),
            // A module as the value of an enumeration.
            "value" if !path.contains('.') && names::is_dangerous(path) => return Value::Path(Rc::clone(path)),
            "__loader__" | "__spec__" | "loader" if name != "loader" || &**path == "__spec__" => {
                self.report(
                    rules::introspection_escape,
                    place,
                    format!("takes `{name}` of `{path}`, which can load modules"),
                );
                return Value::Unknown;
            }
            _ if names::walks(name) => {
                self.report(rules::introspection_escape, place, format!("takes `{name}` of `{path}`"));
                return match name {
                    "__builtins__" | "f_builtins" => Value::path("builtins"),
                    _ => Value::Space(path.rsplit_once('.').map_or(&**path, |(module, _)| module).into()),
                };
            }
            _ => {}
        }
        let full = names::member(path, name);
        if let Some(planted) = self.facts.planted.get(&full) {
            return planted.clone().join(Value::Path(full));
        }
        if &*full == "sys.modules" {
            return Value::Space(full);
        }
        Value::Path(full)
    }

    /// `getattr(base, name)` where the name is a value.
    pub(super) fn dynamic_attribute(&mut self, base: &Value, name: &Value, place: Place) -> Value {
        let mut all: Option<Value> = None;
        for text in name.texts() {
            if names::walks(&text) || text == "__class__".into() {
                let literal = base.each().iter().any(|base| {
                    matches!(base, Value::Str(_) | Value::Bytes(_) | Value::Int(_) | Value::Bool(_) | Value::None)
                        || self.is_container(base)
                });
                if literal {
                    self.report(rules::introspection_escape, place, format!("takes `{text}` of a constant"));
                }
            }
            if &*text == "__code__" {
                self.report(rules::introspection_escape, place, "takes the code object of a function");
            }
            let value = self.attribute(base, &text, place);
            all = Some(match all {
                Some(all) => all.join(value),
                None => value,
            });
        }
        if name.texts().next().is_none() || name.may_be_unknown() {
            for one in base.each() {
                if let Value::Path(path) | Value::Space(path) = one
                    && names::is_dangerous(path)
                {
                    self.unprovable(place, format!("which member of `{path}` it takes is decided at run time"));
                    let member = Value::Member(Rc::clone(path));
                    all = Some(match all {
                        Some(all) => all.join(member),
                        None => member,
                    });
                }
            }
        }
        all.unwrap_or(Value::Unknown)
    }

    /// `base[index]`.
    pub(super) fn subscript(&mut self, base: &Value, index: &Value, place: Place) -> Value {
        let mut all: Option<Value> = None;
        for one in base.each() {
            let value = self.item(one, index, place);
            all = Some(match all {
                Some(all) => all.join(value),
                None => value,
            });
        }
        all.unwrap_or(Value::Unknown)
    }

    fn slice_parts(&self, index: &Value) -> Option<[Option<i128>; 3]> {
        let Value::Object(at) = index else { return None };
        match self.heap.get(*at) {
            Some(Heap::Made(path, args)) if &**path == "builtins.slice" => {
                let part = |at: usize| match args.plain.get(at) {
                    None | Some(Value::None) => Some(None),
                    Some(value) => value.as_int().map(Some),
                };
                match args.plain.len() {
                    1 => Some([None, part(0)?, None]),
                    _ => Some([part(0)?, part(1)?, part(2)?]),
                }
            }
            _ => None,
        }
    }

    fn item(&mut self, base: &Value, index: &Value, place: Place) -> Value {
        let slice = self.slice_parts(index);
        match base {
            Value::Str(text) => {
                if let Some(parts) = slice {
                    let chars: Vec<char> = text.chars().collect();
                    return fold::slice(chars.len(), parts).map_or(Value::Unknown, |indices| {
                        Value::text(indices.iter().filter_map(|at| chars.get(*at)).collect::<String>())
                    });
                }
                let at = index.as_int().and_then(|at| fold::index(text.chars().count(), at));
                at.and_then(|at| text.chars().nth(at)).map_or(Value::Unknown, |c| Value::text(c.to_string()))
            }
            Value::Bytes(bytes) => {
                if let Some(parts) = slice {
                    return fold::slice(bytes.len(), parts).map_or(Value::Unknown, |indices| {
                        Value::Bytes(indices.iter().filter_map(|at| bytes.get(*at).copied()).collect())
                    });
                }
                let at = index.as_int().and_then(|at| fold::index(bytes.len(), at));
                at.and_then(|at| bytes.get(at)).map_or(Value::Unknown, |byte| Value::Int(i128::from(*byte)))
            }
            Value::Object(at) => match self.heap.get(*at) {
                Some(Heap::List(elements, _)) => {
                    if let Some(parts) = slice {
                        let taken = fold::slice(elements.len(), parts).map(|indices| {
                            indices.iter().filter_map(|at| elements.get(*at).cloned()).collect::<Vec<Value>>()
                        });
                        return taken.map_or(Value::Unknown, |taken| self.list(taken));
                    }
                    match index.as_int() {
                        Some(at) => match fold::index(elements.len(), at).and_then(|at| elements.get(at)) {
                            Some(value) => value.clone(),
                            None => self.element(base),
                        },
                        None => self.element(base),
                    }
                }
                Some(Heap::Dict(pairs, open)) => {
                    let known = !matches!(index, Value::Unknown | Value::Union(_));
                    let mut found = if known {
                        pairs.iter().rev().find(|(key, _)| key == index).map(|(_, value)| value.clone())
                    } else {
                        None
                    };
                    if found.is_none() || (*open && known) {
                        // Any of them; names of things first.
                        let unknown_keys = pairs.iter().filter(|(key, _)| !known || key.may_be_unknown());
                        let mut taken = 0;
                        for (_, value) in unknown_keys {
                            if taken > 64 {
                                break;
                            }
                            if matches!(
                                value,
                                Value::Path(_)
                                    | Value::Function(_)
                                    | Value::Str(_)
                                    | Value::Class(_)
                                    | Value::Member(_)
                                    | Value::Union(_)
                            ) {
                                taken += 1;
                                found = Some(match found {
                                    Some(old) => old.join(value.clone()),
                                    None => value.clone(),
                                });
                            }
                        }
                    }
                    found.unwrap_or(Value::Unknown)
                }
                Some(Heap::Instance { .. }) => {
                    let method = self.attribute(base, "__getitem__", place);
                    match method {
                        Value::Method(_) | Value::Unknown => {
                            if let Value::Method(of) = &method
                                && let Value::Object(_) = of.0
                            {
                                return self.call(&method, Args::of(vec![index.clone()]), place, place);
                            }
                            Value::Unknown
                        }
                        method => self.call(&method, Args::of(vec![index.clone()]), place, place),
                    }
                }
                _ => Value::Unknown,
            },
            Value::Space(module) if &**module == "sys.modules" => {
                let mut all: Option<Value> = None;
                for name in index.texts() {
                    let value = if &*name == "__main__" {
                        Value::Globals
                    } else {
                        self.report(rules::import_machinery, place, "takes a module out of `sys.modules`");
                        let module = names::canonical(&name);
                        self.named(&module, place, Trigger::Named);
                        Value::Path(module)
                    };
                    all = Some(match all {
                        Some(all) => all.join(value),
                        None => value,
                    });
                }
                if all.is_none() && !index.is_unknown() {
                    return Value::Unknown;
                }
                if all.is_none() {
                    self.unprovable(place, "which module it takes out of `sys.modules` is decided at run time");
                }
                all.unwrap_or(Value::Unknown)
            }
            Value::Space(module) if module.is_empty() => {
                // Globals of something unknown, reported where they were taken.
                match index.as_text().as_deref() {
                    Some("__builtins__") => Value::path("builtins"),
                    Some(name) if names::is_library(name) => {
                        let path = Rc::from(name);
                        self.named(name, place, Trigger::Named);
                        Value::Path(path)
                    }
                    _ => Value::Unknown,
                }
            }
            Value::Space(module) => {
                let module = Value::Path(Rc::clone(module));
                self.dynamic_attribute(&module, index, place)
            }
            Value::Globals => self.global(index, place),
            Value::Path(path) if &**path == "builtins" => {
                let base = Value::Path(Rc::clone(path));
                self.dynamic_attribute(&base, index, place)
            }
            Value::Path(path) => {
                // `list[int]`, `os.environ["HOME"]`.
                if &**path == "os.environ"
                    && let Some(name) = index.as_text()
                {
                    self.need(NeedKind::Env(Some(name.to_string())), place);
                    self.facts.reads_secret |= names::is_secret(&name);
                }
                let get = format!("{path}[]");
                self.named(&get, place, Trigger::Called);
                Value::Unknown
            }
            Value::Class(_) => Value::Unknown,
            _ => Value::Unknown,
        }
    }

    /// `globals()[name]`.
    fn global(&mut self, name: &Value, place: Place) -> Value {
        let mut all: Option<Value> = None;
        for text in name.texts() {
            if &*text == "__builtins__" {
                all = Some(Value::path("builtins"));
                continue;
            }
            if names::walks(&text) {
                self.report(rules::introspection_escape, place, format!("takes `{text}` out of the globals"));
            }
            let value = self.global_named(&text);
            all = Some(match all {
                Some(all) => all.join(value),
                None => value,
            });
        }
        if name.may_be_unknown() || all.is_none() {
            let any = self.any_global();
            all = Some(match all {
                Some(all) => all.join(any),
                None => any,
            });
        }
        all.unwrap_or(Value::Unknown)
    }

    /// `builtins.getattr(…)` and every other call.
    pub(super) fn call(&mut self, callee: &Value, args: Args, place: Place, site: Place) -> Value {
        let mut all: Option<Value> = None;
        for one in callee.each() {
            let value = self.call_one(one, args.clone(), place, site);
            all = Some(match all {
                Some(all) => all.join(value),
                None => value,
            });
        }
        all.unwrap_or(Value::Unknown)
    }

    fn call_one(&mut self, callee: &Value, args: Args, place: Place, site: Place) -> Value {
        match callee {
            Value::Function(index) => self.call_function(*index, args, None),
            Value::Class(class) => {
                let this = self.instance(*class);
                if let Some(Value::Function(index)) = self.class_attribute(*class, "__init__", 6) {
                    self.call_function(index, args, Some(this.clone()));
                }
                this
            }
            Value::Partial(partial) => {
                let mut all = partial.1.clone();
                all.plain.extend(args.plain);
                all.named.extend(args.named);
                all.open |= args.open;
                self.call(&partial.0, all, place, site)
            }
            Value::Getter(getter) => self.get(getter.0, &getter.1, &args, place),
            Value::Member(module) => {
                if names::is_dangerous(module) {
                    self.report(
                        rules::introspection_escape,
                        site,
                        format!("calls a member of `{module}` that is chosen at run time"),
                    );
                }
                Value::Unknown
            }
            Value::Object(index) => {
                if let Some(Heap::Instance { class, .. }) = self.heap.get(*index)
                    && let Some(Value::Function(function)) = self.class_attribute(*class, "__call__", 6)
                {
                    return self.call_function(function, args, Some(callee.clone()));
                }
                Value::Unknown
            }
            Value::Method(method) => self.call_method(&method.0, &method.1, args, place, site),
            Value::Path(path) => self.call_path(path, args, place, site),
            _ => {
                self.handed_on(&args, place);
                Value::Unknown
            }
        }
    }

    /// What is handed to code that is not followed: functions may be called with the other arguments, modules may be
    /// taken apart.
    fn handed_on(&mut self, args: &Args, place: Place) {
        if args.plain.len() + args.named.len() > 16 {
            return;
        }
        let functions: Vec<Value> = args
            .all()
            .flat_map(Value::each)
            .filter(|value| matches!(value, Value::Function(_) | Value::Getter(_) | Value::Partial(_)))
            .cloned()
            .collect();
        let mut given: Option<Value> = None;
        if !functions.is_empty() {
            for arg in args.all() {
                for one in arg.each() {
                    if let Value::Path(_) | Value::Object(_) = one {
                        let inner = match one {
                            Value::Object(_) => self.element(one),
                            one => one.clone(),
                        };
                        given = Some(match given {
                            Some(old) => old.join(inner),
                            None => inner,
                        });
                    }
                }
            }
            if let Some(given) = given {
                for function in functions.iter().take(3) {
                    self.call(function, Args::of(vec![given.clone()]), place, place);
                }
            }
        }
        for arg in args.all() {
            for one in arg.each() {
                if let Value::Path(path) = one {
                    let module = matches!(&**path, "os" | "builtins" | "subprocess" | "importlib" | "ctypes");
                    if module && matches!(arg, Value::Union(_)) {
                        // One of many things: most are harmless.
                    } else if module {
                        let path = Rc::clone(path);
                        self.unprovable(place, format!("hands the module `{path}` to code that is not followed"));
                    } else {
                        let path = Rc::clone(path);
                        self.named(&path, place, Trigger::Called);
                    }
                }
            }
        }
    }

    fn get(&mut self, getter: Getter, what: &Args, args: &Args, place: Place) -> Value {
        let Some(base) = args.plain.first().cloned() else { return Value::Unknown };
        match getter {
            Getter::Attribute | Getter::Method => {
                let mut value = base;
                let names: Vec<Value> = match what.plain.first() {
                    Some(Value::Str(path)) => path.split('.').map(Value::text).collect(),
                    Some(other) => vec![other.clone()],
                    None => return Value::Unknown,
                };
                for name in names {
                    value = self.dynamic_attribute(&value, &name, place);
                }
                if getter == Getter::Method {
                    let args = Args {
                        plain: what.plain.iter().skip(1).cloned().collect(),
                        named: what.named.clone(),
                        open: what.open,
                    };
                    return self.call(&value, args, place, place);
                }
                value
            }
            Getter::Item => match what.plain.first() {
                Some(index) => self.subscript(&base, index, place),
                None => Value::Unknown,
            },
        }
    }

    /// `base.name(…)` where the base is a value, not a module.
    fn call_method(&mut self, base: &Value, name: &str, args: Args, place: Place, site: Place) -> Value {
        match base {
            Value::Str(text) => return self.text_method(text, name, &args, place),
            Value::Bytes(bytes) => {
                if name == "join"
                    && let Some(parts) = args.plain.first().and_then(|parts| self.elements(parts))
                {
                    let mut out = Vec::new();
                    for (index, part) in parts.iter().enumerate() {
                        let Value::Bytes(part) = part else { return Value::Unknown };
                        if index > 0 {
                            out.extend_from_slice(bytes);
                        }
                        out.extend_from_slice(part);
                    }
                    return if out.len() <= super::literal::LONGEST {
                        Value::Bytes(out.into())
                    } else {
                        Value::Unknown
                    };
                }
                return fold::bytes_method(bytes, name, &args.plain).unwrap_or(Value::Unknown);
            }
            Value::Path(path) if matches!(name, "__getattribute__" | "__getattr__" | "__getitem__") => {
                // `object.__getattribute__(value, name)` is the unbound form.
                let base = match args.plain.as_slice() {
                    [base, _] => base.clone(),
                    _ => Value::Path(Rc::clone(path)),
                };
                let name = args.plain.last().cloned().unwrap_or(Value::Unknown);
                return self.dynamic_attribute(&base, &name, site);
            }
            Value::Space(_) | Value::Globals => return self.space_method(base, name, &args, place),
            Value::Class(class) if name == "mro" => {
                let mut all = vec![base.clone()];
                all.extend(self.bases(*class));
                all.push(Value::path("builtins.object"));
                return self.list(all);
            }
            Value::Object(index) => match self.heap.get(*index) {
                Some(Heap::Instance { class, .. }) => {
                    let class = *class;
                    if self.imports_processes
                        && names::starts_processes(name)
                        && self.class_attribute(class, name, 6).is_none()
                        && self.class_attribute(class, "__getattr__", 6).is_some()
                    {
                        self.report(rules::spawn_process, site, format!("calls `{name}` through `__getattr__`"));
                    }
                    return match self.class_attribute(class, name, 6) {
                        Some(Value::Function(function)) => self.call_function(function, args, Some(base.clone())),
                        _ => {
                            self.handed_on(&args, place);
                            Value::Unknown
                        }
                    };
                }
                Some(Heap::Made(path, made)) => {
                    let (path, made) = (Rc::clone(path), made.clone());
                    if matches!(&*path, "types.SimpleNamespace" | "argparse.Namespace")
                        && let Some(value) = made.key(name).cloned()
                    {
                        return self.call(&value, args, place, site);
                    }
                    let full = format!("{path}.{name}");
                    self.named(&full, site, Trigger::Called);
                    if let Some(value) = files::method(self, &path, &made, name, &args, site) {
                        return value;
                    }
                    if let Some(value) = self.made_method(&path, &made, name, &args, place) {
                        return value;
                    }
                }
                Some(Heap::List(..) | Heap::Dict(..)) => return self.container_method(base, *index, name, args, place),
                None => {}
            },
            _ => {}
        }
        if let Some(rule) = names::method(name) {
            let own = match base {
                Value::Object(index) => matches!(self.heap.get(*index), Some(Heap::Instance { .. })),
                _ => false,
            };
            if !own {
                self.report(rule.0, site, format!("`{name}` {}", rule.1));
            }
        }
        if self.imports_processes && matches!(base, Value::Unknown | Value::Method(_)) && names::starts_processes(name)
        {
            self.report(
                rules::spawn_process,
                site,
                format!("calls `{name}` of something that may be the module `os` or `subprocess`"),
            );
        }
        if name == "__getattribute__" || name == "__getattr__" {
            let name = args.plain.last().cloned().unwrap_or(Value::Unknown);
            let from =
                if args.plain.len() > 1 { args.plain.first().cloned().unwrap_or(Value::Unknown) } else { base.clone() };
            return self.dynamic_attribute(&from, &name, site);
        }
        if matches!(name, "format" | "format_map") && base.is_unknown() {
            return Value::Unknown;
        }
        self.handed_on(&args, place);
        Value::Unknown
    }

    fn made_method(&mut self, path: &str, made: &Args, name: &str, args: &Args, place: Place) -> Option<Value> {
        match (path, name) {
            ("string.Template", "substitute" | "safe_substitute") => {
                let text = made.plain.first()?.as_text()?;
                let mut out = text.to_string();
                for (key, value) in &args.named {
                    let value = value.as_text()?;
                    out = out.replace(&format!("${{{key}}}"), &value).replace(&format!("${key}"), &value);
                }
                Some(Value::text(out))
            }
            (path, "create_connection" | "create_server") if path.starts_with("asyncio.") => {
                self.report(rules::network_access, place, "opens a network connection of an event loop");
                Some(Value::Unknown)
            }
            ("builtins.super", _) => {
                self.handed_on(args, place);
                Some(Value::Unknown)
            }
            ("io.StringIO" | "io.BytesIO", "read" | "getvalue") => made.plain.first().cloned(),
            ("re.compile", "sub" | "match" | "search" | "fullmatch" | "findall" | "split" | "finditer" | "subn") => {
                let mut all = made.plain.clone();
                all.truncate(1);
                regex::applied(self, &Args::of(all), name, place);
                self.handed_on(args, place);
                Some(Value::Unknown)
            }
            ("tarfile.open" | "tarfile.TarFile", "extractall" | "extract") => {
                let safe = args.key("filter").is_some_and(|filter| {
                    filter.texts().any(|text| matches!(&*text, "data" | "tar")) || matches!(filter, Value::Path(_))
                });
                if !safe {
                    self.report(rules::file_access, place, "unpacks an archive wherever its entries say");
                }
                Some(Value::Unknown)
            }
            _ => None,
        }
    }

    fn text_method(&mut self, text: &Rc<str>, name: &str, args: &Args, place: Place) -> Value {
        match name {
            "join" => {
                let parts = args.plain.first().and_then(|parts| self.elements(parts));
                let joined = parts.and_then(|parts| {
                    let parts: Option<Vec<Rc<str>>> = parts.iter().map(Value::as_text).collect();
                    let parts = parts?;
                    let length: usize = parts.iter().map(|part| part.len() + text.len()).sum();
                    (length <= super::literal::LONGEST).then(|| Value::text(parts.join(text)))
                });
                joined.unwrap_or(Value::Unknown)
            }
            "format" | "format_map" => {
                if let Some(name) = names::field_walk(text) {
                    self.report(rules::introspection_escape, place, format!("a format string takes `{name}`"));
                }
                let map = if name == "format_map" { args.plain.first().cloned() } else { None };
                let mut found = Vec::new();
                let folded = fold::braces(text, |field| {
                    let (first, rest) = field.find(['.', '[']).map_or((field, ""), |at| field.split_at(at));
                    if !rest.is_empty() {
                        return None;
                    }
                    let value = match (&map, first.parse::<usize>()) {
                        (Some(_), _) => None,
                        (None, Ok(index)) => args.plain.get(index).cloned(),
                        (None, Err(_)) => args.key(first).cloned(),
                    };
                    found.push(first.to_owned());
                    value
                });
                if folded.is_none()
                    && let Some(map) = map
                {
                    let values: Vec<(String, Value)> = names::fields(text)
                        .into_iter()
                        .map(|field| {
                            let value = self.subscript(&map, &Value::text(field.as_str()), place);
                            (field, value)
                        })
                        .collect();
                    return fold::braces(text, |field| {
                        values.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone())
                    })
                    .unwrap_or(Value::Unknown);
                }
                folded.unwrap_or(Value::Unknown)
            }
            "translate" => {
                let table = args.plain.first().cloned().unwrap_or(Value::Unknown);
                let Value::Object(index) = table else { return Value::Unknown };
                let Some(Heap::Dict(pairs, _)) = self.heap.get(index) else { return Value::Unknown };
                let mut out = String::new();
                for c in text.chars() {
                    let code = Value::Int(i128::from(u32::from(c)));
                    match pairs.iter().rev().find(|(key, _)| *key == code).map(|(_, value)| value) {
                        None => out.push(c),
                        Some(Value::Str(to)) => out.push_str(to),
                        Some(Value::Int(to)) => match u32::try_from(*to).ok().and_then(char::from_u32) {
                            Some(to) => out.push(to),
                            None => return Value::Unknown,
                        },
                        Some(Value::None) => {}
                        Some(_) => return Value::Unknown,
                    }
                }
                Value::text(out)
            }
            "maketrans" => self.maketrans(args),
            "__getattribute__" => {
                let name = args.plain.last().cloned().unwrap_or(Value::Unknown);
                self.dynamic_attribute(&Value::Str(Rc::clone(text)), &name, place)
            }
            "__add__" => args
                .plain
                .first()
                .and_then(|other| fold::binary("+", &Value::Str(Rc::clone(text)), other))
                .unwrap_or(Value::Unknown),
            "__mod__" => {
                let values = args.plain.first().map_or(Vec::new(), |one| {
                    self.elements(one).filter(|_| matches!(one, Value::Object(_))).unwrap_or_else(|| vec![one.clone()])
                });
                fold::percent(text, &values).unwrap_or(Value::Unknown)
            }
            "__getitem__" => {
                let index = args.plain.first().cloned().unwrap_or(Value::Unknown);
                self.subscript(&Value::Str(Rc::clone(text)), &index, place)
            }
            _ => {
                if let Some(parts) = fold::split(text, name, &args.plain) {
                    let mut parts = parts;
                    parts.truncate(4096);
                    return self.list(parts);
                }
                fold::text_method(text, name, &args.plain).unwrap_or(Value::Unknown)
            }
        }
    }

    pub(super) fn maketrans(&mut self, args: &Args) -> Value {
        let code = |c: char| Value::Int(i128::from(u32::from(c)));
        let pairs = match (args.plain.first(), args.plain.get(1)) {
            (Some(Value::Str(from)), Some(Value::Str(to))) => {
                let mut pairs: Vec<(Value, Value)> =
                    from.chars().zip(to.chars()).map(|(a, b)| (code(a), code(b))).collect();
                if let Some(Value::Str(gone)) = args.plain.get(2) {
                    pairs.extend(gone.chars().map(|c| (code(c), Value::None)));
                }
                pairs
            }
            (Some(Value::Object(index)), None) => match self.heap.get(*index) {
                Some(Heap::Dict(pairs, _)) => pairs
                    .iter()
                    .map(|(key, value)| match key {
                        Value::Str(key) => (key.chars().next().map_or(Value::Unknown, code), value.clone()),
                        key => (key.clone(), value.clone()),
                    })
                    .collect(),
                _ => return Value::Unknown,
            },
            _ => return Value::Unknown,
        };
        self.alloc(Heap::Dict(pairs, false))
    }

    fn space_method(&mut self, base: &Value, name: &str, args: &Args, place: Place) -> Value {
        match name {
            "get" | "__getitem__" | "pop" | "setdefault" => {
                let index = args.plain.first().cloned().unwrap_or(Value::Unknown);
                self.subscript(base, &index, place)
            }
            "__setitem__" => {
                if let (Some(index), Some(value)) = (args.plain.first().cloned(), args.plain.get(1).cloned()) {
                    self.set_item(base, index, value, place);
                }
                Value::None
            }
            "update" => {
                if let Some(Value::Object(at)) = args.plain.first()
                    && let Some(Heap::Dict(pairs, _)) = self.heap.get(*at)
                {
                    for (key, value) in pairs.clone().into_iter().take(64) {
                        self.set_item(base, key, value, place);
                    }
                }
                for (key, value) in &args.named {
                    self.set_item(base, Value::Str(Rc::clone(key)), value.clone(), place);
                }
                Value::None
            }
            "values" | "items" | "keys" | "copy" => {
                let member = match base {
                    Value::Space(module) => Value::Member(Rc::clone(module)),
                    _ => self.any_global(),
                };
                if name == "copy" {
                    return base.clone();
                }
                if name == "keys" {
                    return Value::Unknown;
                }
                let element = if name == "items" { self.list(vec![Value::Unknown, member]) } else { member };
                self.alloc(Heap::List(vec![element], true))
            }
            _ => Value::Unknown,
        }
    }

    fn container_method(&mut self, base: &Value, index: usize, name: &str, args: Args, place: Place) -> Value {
        let arg = args.plain.first().cloned();
        if self.frozen && matches!(name, "append" | "add" | "insert" | "appendleft" | "extend" | "update" | "reverse") {
            return Value::None;
        }
        match name {
            "__getitem__" | "get" | "pop" | "setdefault" if arg.is_some() => {
                let at = arg.unwrap_or(Value::Unknown);
                let value = self.subscript(base, &at, place);
                match args.plain.get(1) {
                    Some(default) => value.join(default.clone()),
                    None => value,
                }
            }
            "pop" | "popitem" | "popleft" => {
                if let Some(Heap::List(elements, _)) = self.heap.get_mut(index).filter(|_| !self.frozen) {
                    let taken = if name == "popleft" && !elements.is_empty() {
                        Some(elements.remove(0))
                    } else {
                        elements.pop()
                    };
                    return taken.unwrap_or(Value::Unknown);
                }
                self.element(base)
            }
            "append" | "add" | "insert" | "appendleft" => {
                let value = args.plain.last().cloned().unwrap_or(Value::Unknown);
                if let Some(Heap::List(elements, open)) = self.heap.get_mut(index) {
                    if elements.len() < 4096 {
                        match (name, args.plain.first().and_then(Value::as_int).and_then(|at| usize::try_from(at).ok()))
                        {
                            ("insert", Some(at)) if at <= elements.len() => elements.insert(at, value),
                            ("appendleft", _) => elements.insert(0, value),
                            _ => elements.push(value),
                        }
                    } else {
                        *open = true;
                    }
                }
                Value::None
            }
            "extend" | "update" => {
                let more = arg.as_ref().and_then(|more| match (more, self.heap.get(index)) {
                    (Value::Object(other), Some(Heap::Dict(..))) => match self.heap.get(*other) {
                        Some(Heap::Dict(pairs, _)) => Some(Err(pairs.clone())),
                        _ => None,
                    },
                    _ => self.elements(more).map(Ok),
                });
                match (self.heap.get_mut(index), more) {
                    (Some(Heap::List(elements, _)), Some(Ok(more))) if elements.len() + more.len() <= 4096 => {
                        elements.extend(more);
                    }
                    (Some(Heap::Dict(pairs, _)), Some(Err(more))) if pairs.len() + more.len() <= 4096 => {
                        pairs.extend(more)
                    }
                    (Some(Heap::List(_, open) | Heap::Dict(_, open)), _) => *open = true,
                    _ => {}
                }
                for (key, value) in args.named {
                    self.set_item(base, Value::Str(key), value, place);
                }
                Value::None
            }
            "reverse" => {
                if let Some(Heap::List(elements, _)) = self.heap.get_mut(index) {
                    elements.reverse();
                }
                Value::None
            }
            "copy" => match self.heap.get(index) {
                Some(Heap::List(elements, open)) => {
                    let copy = Heap::List(elements.clone(), *open);
                    self.alloc(copy)
                }
                Some(Heap::Dict(pairs, open)) => {
                    let copy = Heap::Dict(pairs.clone(), *open);
                    self.alloc(copy)
                }
                _ => Value::Unknown,
            },
            "values" | "items" | "keys" => match self.heap.get(index) {
                Some(Heap::Dict(pairs, open)) => {
                    let (pairs, open) = (pairs.clone(), *open);
                    let mut elements = Vec::with_capacity(pairs.len());
                    for (key, value) in pairs {
                        elements.push(match name {
                            "keys" => key,
                            "values" => value,
                            _ => self.list(vec![key, value]),
                        });
                    }
                    self.alloc(Heap::List(elements, open))
                }
                _ => Value::Unknown,
            },
            "sort" | "clear" | "remove" | "discard" => {
                if let Some(Heap::List(_, open)) = self.heap.get_mut(index) {
                    *open = true;
                }
                self.handed_on(&args, place);
                Value::None
            }
            "decode" | "hex" => {
                // A `bytearray` or a list of numbers that stands for one.
                let bytes = self.elements(base).and_then(|elements| numbers(&elements));
                bytes.and_then(|bytes| fold::bytes_method(&bytes, name, &args.plain)).unwrap_or(Value::Unknown)
            }
            "index" => {
                let found = self
                    .elements(base)
                    .zip(arg)
                    .and_then(|(elements, value)| elements.iter().position(|element| *element == value));
                found.and_then(|at| i128::try_from(at).ok()).map_or(Value::Unknown, Value::Int)
            }
            _ => {
                self.handed_on(&args, place);
                Value::Unknown
            }
        }
    }

    /// A call of a function or class of the library.
    fn call_path(&mut self, path: &Rc<str>, args: Args, place: Place, site: Place) -> Value {
        if !special(path) {
            self.named(path, site, Trigger::Called);
        }
        if let Some(value) = files::call(self, path, &args, site) {
            return value;
        }
        if let Some(value) = self.builtin_call(path, &args, place, site) {
            return value;
        }
        if let Some(value) = self.library_call(path, &args, place, site) {
            return value;
        }
        if !HARMLESS_TAKERS.contains(&&**path) {
            self.handed_on(&args, place);
        }
        if path.starts_with("builtins.") && !path.contains("Error") {
            return Value::Unknown;
        }
        self.alloc(Heap::Made(Rc::clone(path), args))
    }

    fn builtin_call(&mut self, path: &str, args: &Args, place: Place, site: Place) -> Option<Value> {
        let name = path.strip_prefix("builtins.")?;
        let arg = |index: usize| args.plain.get(index);
        let first = args.plain.first();
        Some(match name {
            "getattr" => {
                let base = first?.clone();
                let name = arg(1).cloned().unwrap_or(Value::Unknown);
                let value = self.dynamic_attribute(&base, &name, place);
                match arg(2) {
                    Some(default) if !matches!(default, Value::None) => value.join(default.clone()),
                    _ => value,
                }
            }
            "setattr" => {
                let (base, name, value) = (first?.clone(), arg(1)?.clone(), arg(2)?.clone());
                for name in name.texts() {
                    self.set_attribute(&base, &name, value.clone(), place);
                }
                if name.may_be_unknown() {
                    for one in base.each() {
                        if let Value::Path(path) = one
                            && names::is_dangerous(path)
                        {
                            let path = Rc::clone(path);
                            self.unprovable(
                                place,
                                format!("which member of `{path}` it replaces is decided at run time"),
                            );
                        }
                    }
                }
                Value::None
            }
            "delattr" => Value::None,
            "hasattr" => Value::Unknown,
            "vars" => match first {
                None => Value::Globals,
                Some(Value::Path(path)) => Value::Space(Rc::clone(path)),
                Some(_) => Value::Unknown,
            },
            "globals" => Value::Globals,
            "locals" => Value::Globals,
            "dir" => match first {
                Some(Value::Path(path)) if names::is_dangerous(path) => {
                    let members: Vec<Value> = names::known_members(path).map(Value::text).collect();
                    self.alloc(Heap::List(members, true))
                }
                _ => Value::Unknown,
            },
            "__import__" => self.import_named(first.or_else(|| args.key("name")), true, args, site),
            "exec" | "eval" => {
                let source = first.or_else(|| args.key("source")).cloned().unwrap_or(Value::Unknown);
                self.run_text(&source, place, site)
            }
            "compile" => {
                let tree_only =
                    args.all().any(|arg| matches!(arg, Value::Path(path) if path.ends_with("PyCF_ONLY_AST")));
                if !tree_only {
                    self.named(path, site, Trigger::Called);
                }
                first.cloned().unwrap_or(Value::Unknown)
            }
            "chr" => {
                let value = first?.as_int().and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32);
                self.facts.characters += 1;
                value.map_or(Value::Unknown, |c| Value::text(c.to_string()))
            }
            "ord" => match first? {
                Value::Str(text) => {
                    let mut chars = text.chars();
                    match (chars.next(), chars.next()) {
                        (Some(c), None) => Value::Int(i128::from(u32::from(c))),
                        _ => Value::Unknown,
                    }
                }
                Value::Bytes(bytes) => match bytes.as_ref() {
                    [byte] => Value::Int(i128::from(*byte)),
                    _ => Value::Unknown,
                },
                _ => Value::Unknown,
            },
            "str" => match (first, arg(1)) {
                (None, _) => Value::text(""),
                (Some(list @ Value::Object(_)), Some(codec)) => {
                    let bytes = self.elements(list).and_then(|elements| numbers(&elements));
                    let codec = codec.as_text();
                    bytes.zip(codec).and_then(|(bytes, codec)| fold::decode(&bytes, &codec)).unwrap_or(Value::Unknown)
                }
                (Some(Value::Bytes(bytes)), Some(codec)) => {
                    codec.as_text().and_then(|codec| fold::decode(bytes, &codec)).unwrap_or(Value::Unknown)
                }
                (Some(value), _) => fold::shown(value).map_or(Value::Unknown, Value::text),
            },
            "repr" | "ascii" => match first? {
                Value::Str(text) => Value::text(format!("'{text}'")),
                other => fold::shown(other).map_or(Value::Unknown, Value::text),
            },
            "bytes" | "bytearray" => {
                bombs::allocation(self, name, first, place);
                match first {
                    None if name == "bytearray" => self.list(Vec::new()),
                    Some(value @ Value::Bytes(bytes)) if name == "bytearray" && bytes.len() <= 4096 => {
                        let elements = self.elements(value).unwrap_or_default();
                        self.list(elements)
                    }
                    None => Value::Bytes(Rc::from(&[] as &[u8])),
                    Some(Value::Bytes(bytes)) => Value::Bytes(Rc::clone(bytes)),
                    Some(Value::Str(text)) => Value::Bytes(text.as_bytes().into()),
                    Some(list) => self
                        .elements(list)
                        .and_then(|elements| numbers(&elements))
                        .map_or(Value::Unknown, |bytes| Value::Bytes(bytes.into())),
                }
            }
            "int" => match (first, arg(1).or_else(|| args.key("base"))) {
                (Some(Value::Int(value)), None) => Value::Int(*value),
                (Some(Value::Bool(value)), None) => Value::Int(i128::from(*value)),
                (Some(Value::Str(text)), base) => {
                    let base = base.and_then(Value::as_int).unwrap_or(10);
                    let text = text.trim().replace('_', "").to_ascii_lowercase();
                    let (digits, base) = match base {
                        16 | 0 if text.starts_with("0x") => (text.trim_start_matches("0x"), 16),
                        2 | 0 if text.starts_with("0b") => (text.trim_start_matches("0b"), 2),
                        8 | 0 if text.starts_with("0o") => (text.trim_start_matches("0o"), 8),
                        0 => (text.as_str(), 10),
                        base => (text.as_str(), base),
                    };
                    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
                    i128::from_str_radix(digits, base).map_or(Value::Unknown, Value::Int)
                }
                _ => Value::Unknown,
            },
            "hex" => first?.as_int().map_or(Value::Unknown, |value| Value::text(format!("{value:#x}"))),
            "abs" => first?.as_int().and_then(i128::checked_abs).map_or(Value::Unknown, Value::Int),
            "bool" => first?.truth().map_or(Value::Unknown, Value::Bool),
            "pow" => {
                let (left, right) = (first?.clone(), arg(1)?.clone());
                if arg(2).is_some() { Value::Unknown } else { self.binary("**", &left, &right, place) }
            }
            "slice" => self.alloc(Heap::Made("builtins.slice".into(), args.clone())),
            "len" => match first? {
                Value::Str(text) => Value::Int(i128::try_from(text.chars().count()).ok()?),
                value => {
                    let elements = self.elements(value);
                    elements.and_then(|elements| i128::try_from(elements.len()).ok()).map_or(Value::Unknown, Value::Int)
                }
            },
            "range" => {
                bombs::range(self, args, place);
                let number = |index: usize| args.plain.get(index).map(Value::as_int);
                let (start, end, step) = match args.plain.len() {
                    1 => (0, number(0)??, 1),
                    2 => (number(0)??, number(1)??, 1),
                    3 => (number(0)??, number(1)??, number(2)??),
                    _ => return Some(Value::Unknown),
                };
                if step == 0 || (end.checked_sub(start)? / step) > 1024 {
                    return Some(self.alloc(Heap::List(Vec::new(), true)));
                }
                let mut all = Vec::new();
                let mut at = start;
                while if step > 0 { at < end } else { at > end } {
                    all.push(Value::Int(at));
                    at = at.checked_add(step)?;
                }
                self.list(all)
            }
            "list" | "tuple" | "set" | "frozenset" | "iter" | "sorted" => {
                if name == "list" || name == "tuple" || name == "set" {
                    bombs::materialized(self, first, place);
                }
                if let Some(key) = args.key("key").cloned() {
                    let of = self.element(first?);
                    self.call(&key, Args::of(vec![of]), place, site);
                }
                match first {
                    None => self.list(Vec::new()),
                    Some(Value::Space(module)) => Value::Space(Rc::clone(module)),
                    Some(value) => match self.elements(value) {
                        Some(mut elements) => {
                            if name == "sorted" {
                                sort(&mut elements);
                                if args.key("reverse").is_some() {
                                    elements.reverse();
                                }
                            }
                            self.list(elements)
                        }
                        None => {
                            let any = self.element(value);
                            self.alloc(Heap::List(vec![any], true))
                        }
                    },
                }
            }
            "reversed" => match self.elements(first?) {
                Some(mut elements) => {
                    elements.reverse();
                    self.list(elements)
                }
                None => {
                    let any = self.element(first?);
                    self.alloc(Heap::List(vec![any], true))
                }
            },
            "dict" => {
                let mut pairs: Vec<(Value, Value)> = Vec::new();
                let mut open = args.open;
                if let Some(Value::Space(module)) = first {
                    return Some(Value::Space(Rc::clone(module)));
                }
                if let Some(first) = first {
                    match first {
                        Value::Object(index) if matches!(self.heap.get(*index), Some(Heap::Dict(..))) => {
                            if let Some(Heap::Dict(more, other)) = self.heap.get(*index) {
                                pairs.clone_from(more);
                                open |= *other;
                            }
                        }
                        other => match self.some_elements(other) {
                            Some((elements, partly)) => {
                                open |= partly;
                                for element in elements {
                                    match self.elements(&element).as_deref() {
                                        Some([key, value]) => pairs.push((key.clone(), value.clone())),
                                        _ => open = true,
                                    }
                                }
                            }
                            None => open = true,
                        },
                    }
                }
                pairs.extend(args.named.iter().map(|(key, value)| (Value::Str(Rc::clone(key)), value.clone())));
                self.alloc(Heap::Dict(pairs, open))
            }
            "map" | "filter" => {
                let function = first?.clone();
                let lists: Vec<Value> = args.plain.iter().skip(1).cloned().collect();
                self.map(name, &function, &lists, place, site)
            }
            "zip" => {
                let lists: Option<Vec<Vec<Value>>> = args.plain.iter().map(|list| self.elements(list)).collect();
                let Some(lists) = lists else { return Some(self.loose(args)) };
                let length = lists.iter().map(Vec::len).min().unwrap_or(0);
                let mut rows = Vec::with_capacity(length);
                for at in 0..length {
                    let row: Vec<Value> = lists.iter().filter_map(|list| list.get(at).cloned()).collect();
                    rows.push(self.list(row));
                }
                self.list(rows)
            }
            "enumerate" => {
                let start = arg(1).or_else(|| args.key("start")).and_then(Value::as_int).unwrap_or(0);
                let Some(elements) = self.elements(first?) else { return Some(self.loose(args)) };
                let mut rows = Vec::with_capacity(elements.len());
                for (at, element) in elements.into_iter().enumerate() {
                    let number = Value::Int(i128::try_from(at).ok()?.checked_add(start)?);
                    rows.push(self.list(vec![number, element]));
                }
                self.list(rows)
            }
            "next" | "min" | "max" | "sum" => {
                if let Some(key) = args.key("key").cloned() {
                    let of = self.element(first?);
                    self.call(&key, Args::of(vec![of]), place, site);
                }
                match (name, self.elements(first?)) {
                    ("next", Some(elements)) => elements.first().cloned().unwrap_or(Value::Unknown),
                    ("sum", Some(elements)) => {
                        let total: Option<i128> =
                            elements.iter().try_fold(0_i128, |sum, value| sum.checked_add(value.as_int()?));
                        total.map_or(Value::Unknown, Value::Int)
                    }
                    ("sum", None) => Value::Unknown,
                    (_, _) if args.plain.len() == 1 || name == "next" => self.element(first?),
                    _ => args.plain.iter().cloned().reduce(Value::join).unwrap_or(Value::Unknown),
                }
            }
            "any" | "all" => Value::Unknown,
            "type" => match first? {
                _ if args.plain.len() == 3 => {
                    // `type(name, bases, {…})`: what is in the mapping is the class.
                    Value::Unknown
                }
                Value::Object(index) => match self.heap.get(*index) {
                    Some(Heap::Instance { class, .. }) => Value::Class(*class),
                    _ => Value::Unknown,
                },
                Value::Path(path) if !path.contains('.') => Value::path("types.ModuleType"),
                Value::Function(_) => Value::path("types.FunctionType"),
                _ => Value::Unknown,
            },
            "str.join" => {
                let (by, list) = (first?.as_text()?, arg(1)?.clone());
                self.text_method(&by, "join", &Args::of(vec![list]), place)
            }
            "str.maketrans" => self.maketrans(args),
            "bytes.fromhex" | "bytearray.fromhex" => {
                let text = first?.as_text()?;
                fold::unhex(text.as_bytes()).map_or(Value::Unknown, |bytes| Value::Bytes(bytes.into()))
            }
            "dict.get" | "dict.__getitem__" | "list.__getitem__" => {
                let index = arg(1)?.clone();
                self.subscript(first?, &index, place)
            }
            "object.__getattribute__" | "type.__getattribute__" => {
                let name = arg(1)?.clone();
                self.dynamic_attribute(first?, &name, place)
            }
            "type.__subclasses__" => {
                self.report(rules::introspection_escape, site, "lists the subclasses of a class");
                Value::Unknown
            }
            "format" => {
                let (value, specifier) = (first?, arg(1).and_then(Value::as_text));
                fold::formatted(value, specifier.as_deref().unwrap_or("")).map_or(Value::Unknown, Value::text)
            }
            "super" => self.alloc(Heap::Made("builtins.super".into(), Args::default())),
            "input" => Value::Unknown,
            "print" => Value::None,
            name if name.starts_with("str.") || name.starts_with("bytes.") => {
                let (_, method) = name.split_once('.')?;
                let this = first?.clone();
                let rest = Args { plain: args.plain.iter().skip(1).cloned().collect(), ..args.clone() };
                self.call_method(&this, method, rest, place, site)
            }
            _ => return None,
        })
    }

    /// A list of which only some elements are known.
    fn loose(&mut self, args: &Args) -> Value {
        let mut any = Value::Unknown;
        for arg in &args.plain {
            any = any.join(self.element(arg));
        }
        let row = self.alloc(Heap::List(vec![any], true));
        self.alloc(Heap::List(vec![row], true))
    }

    fn map(&mut self, name: &str, function: &Value, lists: &[Value], place: Place, site: Place) -> Value {
        let known: Option<Vec<Vec<Value>>> = lists.iter().map(|list| self.elements(list)).collect();
        let mut out = Vec::new();
        let mut open = false;
        match known {
            Some(lists) if !lists.is_empty() => {
                let length = lists.iter().map(Vec::len).min().unwrap_or(0);
                for at in 0..length.min(1024) {
                    let row: Vec<Value> = lists.iter().filter_map(|list| list.get(at).cloned()).collect();
                    let result = self.call(function, Args::of(row.clone()), place, site);
                    if name == "map" {
                        out.push(result);
                    } else if result.truth() != Some(false) {
                        open |= result.truth().is_none();
                        out.extend(row);
                    }
                }
                open |= length > 1024;
            }
            _ => {
                let row: Vec<Value> = lists.iter().map(|list| self.element(list)).collect();
                let result = self.call(function, Args::of(row.clone()), place, site);
                if name == "map" {
                    out.push(result);
                } else {
                    out.extend(row);
                }
                open = true;
            }
        }
        self.alloc(Heap::List(out, open))
    }

    /// `__import__(name)`, `importlib.import_module(name)`.
    fn import_named(&mut self, name: Option<&Value>, top: bool, args: &Args, site: Place) -> Value {
        let Some(name) = name.cloned() else {
            return Value::Unknown;
        };
        let mut all: Option<Value> = None;
        for text in name.each().iter().filter_map(Value::as_source) {
            let relative = text.starts_with('.');
            let text = text.trim_start_matches('.');
            let path = names::canonical(text);
            if !relative {
                self.imported(&path, site);
                if names::is_dangerous(&path) {
                    self.report(
                        rules::import_machinery,
                        site,
                        format!("imports `{path}` by a call instead of a statement"),
                    );
                }
            }
            let nested = args.get(3, "fromlist").and_then(Value::truth) == Some(true) || !top;
            let value = if nested { path } else { names::canonical(text.split('.').next().unwrap_or_default()) };
            let value = Value::Path(value);
            all = Some(match all {
                Some(all) => all.join(value),
                None => value,
            });
        }
        if all.is_none() || name.may_be_unknown() {
            self.report(rules::import_machinery, site, "imports a module whose name is made at run time");
        }
        all.unwrap_or(Value::Unknown)
    }

    fn library_call(&mut self, path: &str, args: &Args, place: Place, site: Place) -> Option<Value> {
        let arg = |index: usize| args.plain.get(index);
        let first = args.plain.first();
        let source = |value: Option<&Value>| value.and_then(Value::as_source);
        let bytes = |value: Option<&Value>| match value {
            Some(Value::Bytes(bytes)) => Some(bytes.to_vec()),
            Some(Value::Str(text)) => Some(text.as_bytes().to_vec()),
            _ => None,
        };
        let made = |bytes: Option<Vec<u8>>| Some(bytes.map_or(Value::Unknown, |bytes| Value::Bytes(bytes.into())));
        match path {
            "importlib.import_module"
            | "importlib.__import__"
            | "importlib._bootstrap._gcd_import"
            | "importlib._bootstrap.__import__" => {
                Some(self.import_named(first.or_else(|| args.key("name")), path.ends_with("__"), args, site))
            }
            "importlib.reload"
            | "sys.intern"
            | "copy.copy"
            | "copy.deepcopy"
            | "typing.cast"
            | "inspect.unwrap"
            | "functools.wraps"
            | "types.MappingProxyType"
            | "textwrap.dedent" => args.plain.last().cloned().or(Some(Value::Unknown)),
            "base64.b64decode" | "base64.decodebytes" | "base64.standard_b64decode" | "binascii.a2b_base64" => {
                self.facts.decoded = true;
                made(bytes(first).map(|text| fold::base64(&text, false)))
            }
            "base64.urlsafe_b64decode" => made(bytes(first).map(|text| fold::base64(&text, true))),
            "base64.b32decode" => made(bytes(first).map(|text| fold::base32(&text))),
            "base64.b85decode" => made(bytes(first).and_then(|text| fold::base85(&text, false))),
            "base64.a85decode" => made(bytes(first).and_then(|text| fold::base85(&text, true))),
            "base64.b16decode" | "binascii.unhexlify" | "binascii.a2b_hex" => {
                self.facts.decoded = true;
                made(bytes(first).and_then(|text| fold::unhex(&text)))
            }
            "zlib.decompress" | "gzip.decompress" | "bz2.decompress" | "lzma.decompress" | "marshal.loads" => {
                self.facts.decoded = true;
                None
            }
            "codecs.decode" => {
                let codec = arg(1).or_else(|| args.key("encoding")).and_then(Value::as_text);
                let text = bytes(first);
                Some(
                    text.and_then(|text| fold::decode(&text, codec.as_deref().unwrap_or("utf-8")))
                        .unwrap_or(Value::Unknown),
                )
            }
            "codecs.encode" => {
                let codec = arg(1).or_else(|| args.key("encoding")).and_then(Value::as_text);
                let text = bytes(first);
                Some(
                    text.and_then(|text| fold::encode(&text, codec.as_deref().unwrap_or("utf-8")))
                        .unwrap_or(Value::Unknown),
                )
            }
            "urllib.parse.unquote" | "urllib.parse.unquote_plus" => {
                Some(source(first).map_or(Value::Unknown, |text| Value::text(fold::unquote(&text))))
            }
            "html.unescape" => Some(first.cloned().unwrap_or(Value::Unknown)),
            "unicodedata.normalize" => Some(source(arg(1)).map_or(Value::Unknown, |text| {
                Value::text(unicode_normalization::UnicodeNormalization::nfkc(text.chars()).collect::<String>())
            })),
            "json.loads" | "ast.literal_eval" => {
                let text = source(first)?;
                Some(self.literal(&text))
            }
            "functools.partial" | "functools.partialmethod" => {
                let function = first?.clone();
                for one in function.each() {
                    if let Value::Path(path) = one {
                        let path = Rc::clone(path);
                        self.named(&path, site, Trigger::Called);
                    }
                }
                let rest = Args {
                    plain: args.plain.iter().skip(1).cloned().collect(),
                    named: args.named.clone(),
                    open: args.open,
                };
                Some(Value::Partial(Rc::new((function, rest))))
            }
            "functools.reduce" => {
                let function = first?.clone();
                let list = arg(1)?.clone();
                let Some(elements) = self.elements(&list) else {
                    let any = self.element(&list);
                    return Some(self.call(&function, Args::of(vec![any.clone(), any]), place, site));
                };
                let mut elements = elements.into_iter().take(1024);
                let mut total = match arg(2) {
                    Some(start) => start.clone(),
                    None => elements.next()?,
                };
                for element in elements {
                    total = self.call(&function, Args::of(vec![total, element]), place, site);
                }
                Some(total)
            }
            "operator.attrgetter" => Some(Value::Getter(Rc::new((Getter::Attribute, args.clone())))),
            "operator.itemgetter" => Some(Value::Getter(Rc::new((Getter::Item, args.clone())))),
            "operator.methodcaller" => Some(Value::Getter(Rc::new((Getter::Method, args.clone())))),
            "operator.getitem" | "operator.__getitem__" => {
                let index = arg(1)?.clone();
                Some(self.subscript(first?, &index, place))
            }
            "operator.add" | "operator.concat" | "operator.iadd" | "operator.iconcat" | "operator.__add__" => {
                Some(self.binary("+", first?, arg(1)?, place))
            }
            "operator.xor" => Some(self.binary("^", first?, arg(1)?, place)),
            "operator.sub" => Some(self.binary("-", first?, arg(1)?, place)),
            "operator.mul" => Some(self.binary("*", first?, arg(1)?, place)),
            "operator.mod" => Some(self.binary("%", first?, arg(1)?, place)),
            "operator.pow" => Some(self.binary("**", first?, arg(1)?, place)),
            "operator.call" => {
                let rest = Args {
                    plain: args.plain.iter().skip(1).cloned().collect(),
                    named: args.named.clone(),
                    open: args.open,
                };
                let function = first?.clone();
                Some(self.call(&function, rest, place, site))
            }
            "inspect.getattr_static" => {
                let name = arg(1)?.clone();
                Some(self.dynamic_attribute(first?, &name, place))
            }
            "inspect.getmembers" => match first? {
                Value::Path(path) if names::is_dangerous(path) => {
                    let member = Value::Member(Rc::clone(path));
                    let row = self.list(vec![Value::Unknown, member]);
                    Some(self.alloc(Heap::List(vec![row], true)))
                }
                _ => Some(Value::Unknown),
            },
            "itertools.chain" | "itertools.chain.from_iterable" | "collections.ChainMap" => {
                let lists: Option<Vec<Vec<Value>>> = if path.ends_with("from_iterable") {
                    let outer = self.elements(first?)?;
                    outer.iter().map(|list| self.elements(list)).collect()
                } else {
                    args.plain.iter().map(|list| self.elements(list)).collect()
                };
                let all: Vec<Value> = lists?.into_iter().flatten().take(4096).collect();
                Some(self.list(all))
            }
            "itertools.starmap" | "multiprocessing.pool.ThreadPool.map" => {
                let function = first?.clone();
                let rows = self.elements(arg(1)?).unwrap_or_default();
                let mut out = Vec::new();
                for row in rows.into_iter().take(256) {
                    let row = self.elements(&row).unwrap_or_else(|| vec![Value::Unknown]);
                    let value = self.call(&function, Args::of(row), place, site);
                    out.push(value);
                }
                Some(self.list(out))
            }
            "itertools.islice"
            | "itertools.accumulate"
            | "itertools.cycle"
            | "collections.deque"
            | "collections.OrderedDict"
            | "itertools.takewhile"
            | "itertools.dropwhile" => {
                let list = args.plain.iter().find(|value| matches!(value, Value::Object(_)));
                match list {
                    Some(list) => match self.elements(list) {
                        Some(elements) if path.ends_with("deque") => Some(self.list(elements)),
                        _ => Some(list.clone()),
                    },
                    None => Some(self.list(Vec::new())),
                }
            }
            "itertools.repeat" => {
                let times = arg(1).and_then(Value::as_int).unwrap_or(1).clamp(0, 64);
                let all = std::iter::repeat_n(first?.clone(), usize::try_from(times).unwrap_or(0)).collect();
                Some(self.list(all))
            }
            "types.SimpleNamespace" | "argparse.Namespace" => {
                // Attributes by name: an instance of a class nobody wrote.
                Some(self.alloc(Heap::Made(path.into(), args.clone())))
            }
            "timeit.timeit"
            | "timeit.repeat"
            | "timeit.Timer"
            | "timeit.main"
            | "trace.Trace.run"
            | "cProfile.run"
            | "cProfile.runctx"
            | "profile.run"
            | "profile.runctx"
            | "pdb.run"
            | "pdb.runeval"
            | "bdb.Bdb.run"
            | "cProfile.Profile.run" => {
                let mut told = false;
                let mut plain =
                    args.plain.iter().take(if path.starts_with("timeit") { 2 } else { 1 }).cloned().collect::<Vec<_>>();
                plain
                    .extend(["stmt", "setup", "statement", "cmd"].into_iter().filter_map(|key| args.key(key).cloned()));
                for value in plain {
                    match value {
                        Value::Function(index) => {
                            self.call_function(index, Args::default(), None);
                        }
                        Value::Method(_) | Value::Partial(_) | Value::Path(_) => {}
                        Value::Unknown if path.starts_with("timeit") => {
                            self.unprovable(
                                site,
                                format!("whether `{path}` runs a text as code is decided at run time"),
                            );
                        }
                        Value::Str(text) if &*text == "pass" => {}
                        value => {
                            if !told {
                                self.report(rules::dynamic_code, site, format!("`{path}` runs a text as code"));
                                told = true;
                            }
                            self.run_text(&value, place, site);
                        }
                    }
                }
                Some(Value::Unknown)
            }
            "yaml.load" | "yaml.load_all" => {
                let loader = arg(1).or_else(|| args.key("Loader"));
                let safe = loader.is_some_and(|loader| {
                    loader.each().iter().all(|loader| matches!(loader, Value::Path(path) if path.contains("Safe") || path.ends_with("BaseLoader")))
                });
                if !safe {
                    self.report(
                        rules::unsafe_deserialization,
                        site,
                        format!("`{path}` makes any object the text asks for"),
                    );
                }
                Some(Value::Unknown)
            }
            "numpy.load" => {
                if args.key("allow_pickle").and_then(Value::truth) == Some(true) {
                    self.report(
                        rules::unsafe_deserialization,
                        site,
                        "`numpy.load` with `allow_pickle` runs what a pickle says",
                    );
                }
                None
            }
            "torch.load" => {
                if args.key("weights_only").and_then(Value::truth) != Some(true) {
                    self.report(rules::unsafe_deserialization, site, "`torch.load` runs what a pickle says");
                }
                Some(Value::Unknown)
            }
            "os.getenv" | "os.environ.get" | "os.environ.pop" | "os.environ.__getitem__" => {
                if let Some(name) = first.and_then(Value::as_text) {
                    self.need(NeedKind::Env(Some(name.to_string())), site);
                    self.facts.reads_secret |= names::is_secret(&name);
                }
                Some(Value::Unknown)
            }
            "sys.modules.get" => Some(Value::Unknown),
            "time.sleep" => {
                bombs::sleep(self, first, place);
                Some(Value::None)
            }
            "sys.setrecursionlimit" => {
                bombs::recursion(self, first, place);
                Some(Value::None)
            }
            _ if path.starts_with("re.") => {
                if matches!(path, "re.sub" | "re.subn")
                    && let Some(function @ Value::Function(_)) = arg(1).cloned()
                {
                    self.call(&function, Args::of(vec![Value::Unknown]), place, site);
                }
                let name = path.strip_prefix("re.").unwrap_or_default();
                regex::applied(self, args, name, place);
                if name == "compile" {
                    return Some(self.alloc(Heap::Made("re.compile".into(), args.clone())));
                }
                Some(Value::Unknown)
            }
            _ if super::facts::sends(path) => {
                self.facts.sent(args);
                None
            }
            _ => None,
        }
    }

    /// A text that is a constant of the language: lists, strings, numbers.
    fn literal(&mut self, text: &str) -> Value {
        let trimmed = text.trim();
        if let Some(form) = super::literal::form(trimmed)
            && trimmed.starts_with(['"', '\''])
            && let super::ast::Kind::Str(text) = form.value(trimmed)
        {
            return Value::Str(text);
        }
        if trimmed.len() < 20_000
            && let Some(inner) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && !inner.contains(['[', '{'])
        {
            let parts: Vec<Value> = inner
                .split(',')
                .map(|part| {
                    let part = part.trim();
                    match part.parse::<i128>() {
                        Ok(number) => Value::Int(number),
                        Err(_) => match super::literal::form(part).map(|form| form.value(part)) {
                            Some(super::ast::Kind::Str(text)) => Value::Str(text),
                            _ => Value::Unknown,
                        },
                    }
                })
                .take(4096)
                .collect();
            return self.list(parts);
        }
        Value::Unknown
    }
}

/// Those whose arguments decide what is reported.
fn special(path: &str) -> bool {
    matches!(path, "builtins.compile" | "yaml.load" | "yaml.load_all" | "torch.load")
}

/// Numbers as bytes.
fn numbers(elements: &[Value]) -> Option<Vec<u8>> {
    elements.iter().map(|element| u8::try_from(element.as_int()?).ok()).collect()
}

fn sort(elements: &mut [Value]) {
    fn key(value: &Value) -> (u8, i128, &str) {
        match value {
            Value::Str(text) => (1, 0, text),
            value => value.as_int().map_or((2, 0, ""), |value| (0, value, "")),
        }
    }
    elements.sort_by(|a, b| key(a).cmp(&key(b)));
}
