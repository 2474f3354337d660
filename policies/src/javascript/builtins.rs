//! What functions of the language return, where their arguments are known.

use std::rc::Rc;

use super::known;
use super::literal;
use super::machine::{LONGEST_TEXT, MOST_ITEMS, Machine};
use super::syntax::Id;
use super::value::{Object, Shape, TEXT, Value};

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn index(value: f64, length: usize) -> usize {
    let magnitude = literal::whole(value.abs()).and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
    if value < 0.0 { length.saturating_sub(magnitude) } else { magnitude.min(length) }
}

impl Machine<'_, '_> {
    fn argument(&self, args: &[Value], at: usize, default: f64) -> Option<f64> {
        match args.get(at) {
            None | Some(Value::Undefined) => Some(default),
            Some(value) => self.to_number(value).map(|number| if number.is_nan() { 0.0 } else { number }),
        }
    }

    fn text_argument(&self, args: &[Value], at: usize) -> Option<String> {
        args.get(at).and_then(|value| self.to_text(value))
    }

    /// `object.name(args)` for objects of the language; `None` if that is something else.
    pub(super) fn builtin_method(&mut self, object: &Value, name: &str, args: &[Value], id: Id) -> Option<Value> {
        match object {
            Value::Str(text) => self.text_method(&text.clone(), name, args, id),
            Value::Num(number) => match name {
                "toString" => {
                    let radix = self.argument(args, 0, 10.0)?;
                    let radix = literal::whole(radix).and_then(|radix| u32::try_from(radix).ok())?;
                    let text =
                        if radix == 10 { literal::number_text(*number) } else { literal::radix_text(*number, radix)? };
                    Some(Value::text(text))
                }
                "valueOf" => Some(object.clone()),
                _ => None,
            },
            Value::Bool(_) if name == "toString" => self.to_text(object).map(Value::text),
            Value::Object(at) => {
                if self.objects.get(*at)?.get(name).is_some() {
                    return None;
                }
                match self.objects.get(*at)?.shape {
                    Shape::Array | Shape::Bytes => self.array_method(*at, name, args, id),
                    Shape::Regex(..) => self.regex_method(*at, name, args),
                    Shape::Plain => match name {
                        "toString" => self.to_text(object).map(Value::text),
                        "hasOwnProperty" => Some(Value::UNKNOWN),
                        "then" | "finally" => {
                            let callback = args.first().cloned().unwrap_or(Value::Undefined);
                            Some(self.call(&callback, Value::Undefined, std::slice::from_ref(object), id, false))
                        }
                        _ => None,
                    },
                }
            }
            Value::Func(_) | Value::Known(_) if name == "toString" && args.is_empty() => {
                Some(self.to_text(object).map_or(Value::Unknown(self.taint(object)), Value::text))
            }
            Value::Known(path) if matches!(name, "then" | "catch" | "finally") => {
                let path = path.clone();
                let callback = args.first().cloned().unwrap_or(Value::Undefined);
                let passed = if name == "then" { Value::Known(path) } else { Value::UNKNOWN };
                Some(self.call(&callback, Value::Undefined, &[passed], id, false))
            }
            Value::Unknown(taint) => {
                let taint = *taint;
                match name {
                    "toString" | "join" | "concat" | "slice" | "trim" | "replace" | "substring" | "toLowerCase" => {
                        for arg in args {
                            self.escape(arg);
                        }
                        let text = if matches!(name, "concat" | "slice") { taint } else { taint | TEXT };
                        Some(Value::Unknown(text | self.taints(args)))
                    }
                    "then" | "forEach" | "map" | "filter" | "find" | "some" | "every" | "reduce" | "on" | "once" => {
                        for arg in args {
                            if let Value::Func(_) = arg {
                                self.escape(arg);
                            } else if !arg.is_primitive() {
                                self.call(arg, Value::Undefined, &[Value::Unknown(taint)], id, false);
                            }
                        }
                        Some(Value::Unknown(taint & !TEXT))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn text_method(&mut self, text: &Rc<str>, name: &str, args: &[Value], id: Id) -> Option<Value> {
        let unknown = Some(Value::Unknown(TEXT));
        // Taking a text apart costs more than its length.
        let apart = matches!(name, "split" | "match" | "matchAll" | "replace" | "replaceAll");
        let near = matches!(name, "charCodeAt" | "charAt" | "codePointAt") && text.is_ascii();
        if !self.work(if near { 16 } else { text.len() * if apart { 24 } else { 1 } + 16 }) {
            return if known::has_method("String", name) { unknown } else { None };
        }
        let length = if near { text.len() } else { text.chars().count() };
        let made = match name {
            "charAt" | "at" => {
                let Some(at) = self.argument(args, 0, 0.0) else { return unknown };
                let at = if name == "at" {
                    index(at, length)
                } else {
                    literal::whole(at).map_or(usize::MAX, |at| usize::try_from(at).unwrap_or(usize::MAX))
                };
                text.chars().nth(at).map(String::from).unwrap_or_default()
            }
            "charCodeAt" | "codePointAt" => {
                let Some(at) = self.argument(args, 0, 0.0) else { return Some(Value::UNKNOWN) };
                let at = literal::whole(at).and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
                let code = if text.is_ascii() {
                    text.as_bytes().get(at).map(|byte| u32::from(*byte))
                } else {
                    text.chars().nth(at).map(u32::from)
                };
                return Some(Value::Num(code.map_or(f64::NAN, f64::from)));
            }
            "slice" | "substring" | "substr" => {
                let (Some(from), Some(to)) = (self.argument(args, 0, 0.0), self.argument(args, 1, f64::from(u32::MAX)))
                else {
                    return unknown;
                };
                let all = chars(text);
                let (from, to) = match name {
                    "slice" => (index(from, length), index(to, length)),
                    "substr" => {
                        let from = index(from, length);
                        (from, from.saturating_add(index(to.max(0.0), length)).min(length))
                    }
                    _ => {
                        let (from, to) = (index(from.max(0.0), length), index(to.max(0.0), length));
                        (from.min(to), from.max(to))
                    }
                };
                all.get(from..to.max(from)).unwrap_or_default().iter().collect()
            }
            "toLowerCase" | "toLocaleLowerCase" => text.to_lowercase(),
            "toUpperCase" | "toLocaleUpperCase" => text.to_uppercase(),
            "trim" => text.trim().to_owned(),
            "trimStart" | "trimLeft" => text.trim_start().to_owned(),
            "trimEnd" | "trimRight" => text.trim_end().to_owned(),
            "toString" | "valueOf" | "normalize" => text.to_string(),
            "concat" => {
                let mut out = text.to_string();
                for arg in args {
                    match self.to_text(arg) {
                        Some(more) if out.len() < LONGEST_TEXT => out.push_str(&more),
                        _ => return unknown,
                    }
                }
                out
            }
            "repeat" => {
                let Some(times) = self.argument(args, 0, 0.0) else { return unknown };
                let times = literal::whole(times).and_then(|times| usize::try_from(times).ok()).unwrap_or(usize::MAX);
                if times.saturating_mul(text.len()) >= 1 << 28 {
                    let message = "this text takes hundreds of megabytes";
                    self.report(crate::rules::resource_bomb, self.syntax.range(id), message);
                }
                if times.saturating_mul(text.len()) > LONGEST_TEXT {
                    return unknown;
                }
                text.repeat(times)
            }
            "padStart" | "padEnd" => {
                let Some(to) = self.argument(args, 0, 0.0) else { return unknown };
                let to = index(to.max(0.0), LONGEST_TEXT);
                let pad = self.text_argument(args, 1).unwrap_or_else(|| " ".to_owned());
                if pad.is_empty() || to <= length {
                    text.to_string()
                } else {
                    let fill: String = pad.chars().cycle().take(to - length).collect();
                    if name == "padStart" { format!("{fill}{text}") } else { format!("{text}{fill}") }
                }
            }
            "split" => return Some(self.split(text, args)),
            "indexOf" | "lastIndexOf" | "search" => {
                let Some(part) = self.text_argument(args, 0) else { return Some(Value::UNKNOWN) };
                let found = if name == "lastIndexOf" { text.rfind(&part) } else { text.find(&part) };
                let at = found.and_then(|at| text.get(..at)).map(|before| before.chars().count());
                return Some(Value::Num(at.map_or(-1.0, |at| f64::from(u32::try_from(at).unwrap_or(0)))));
            }
            "includes" | "startsWith" | "endsWith" => {
                let Some(part) = self.text_argument(args, 0) else { return Some(Value::UNKNOWN) };
                return Some(Value::Bool(match name {
                    "includes" => text.contains(&part),
                    "startsWith" => text.starts_with(&part),
                    _ => text.ends_with(&part),
                }));
            }
            "replace" | "replaceAll" => return Some(self.replace(text, name == "replaceAll", args, id)),
            "match" | "matchAll" => {
                let Some(found) = self.matches(text, args) else { return Some(Value::Unknown(TEXT)) };
                return Some(self.make_array(found.into_iter().map(Value::text).collect()));
            }
            "italics" => format!("<i>{text}</i>"),
            "bold" => format!("<b>{text}</b>"),
            "big" => format!("<big>{text}</big>"),
            "small" => format!("<small>{text}</small>"),
            "strike" => format!("<strike>{text}</strike>"),
            "sub" => format!("<sub>{text}</sub>"),
            "sup" => format!("<sup>{text}</sup>"),
            "blink" => format!("<blink>{text}</blink>"),
            "fixed" => format!("<tt>{text}</tt>"),
            "link" | "fontcolor" | "fontsize" | "anchor" => {
                let what = self.text_argument(args, 0).unwrap_or_else(|| "undefined".to_owned()).replace('"', "&quot;");
                match name {
                    "link" => format!("<a href=\"{what}\">{text}</a>"),
                    "anchor" => format!("<a name=\"{what}\">{text}</a>"),
                    "fontcolor" => format!("<font color=\"{what}\">{text}</font>"),
                    _ => format!("<font size=\"{what}\">{text}</font>"),
                }
            }
            _ => return None,
        };
        Some(self.make_text(made))
    }

    fn split(&mut self, text: &str, args: &[Value]) -> Value {
        let parts: Vec<String> = match args.first() {
            None | Some(Value::Undefined) => vec![text.to_owned()],
            Some(Value::Str(by)) if by.is_empty() => text.chars().map(String::from).collect(),
            Some(Value::Str(by)) => text.split(&**by).map(str::to_owned).collect(),
            Some(value) => {
                let Some(matcher) = self.matcher(value) else { return Value::UNKNOWN };
                if matcher.matches_nothing() { text.chars().map(String::from).collect() } else { matcher.split(text) }
            }
        };
        if parts.len() > MOST_ITEMS {
            return Value::UNKNOWN;
        }
        self.make_array(parts.into_iter().map(Value::text).collect())
    }

    fn matcher(&self, value: &Value) -> Option<super::matcher::Matcher> {
        let Value::Object(at) = value else { return None };
        match &self.objects.get(*at)?.shape {
            Shape::Regex(pattern, flags) => super::matcher::Matcher::new(pattern, flags),
            _ => None,
        }
    }

    fn matches(&mut self, text: &str, args: &[Value]) -> Option<Vec<String>> {
        let matcher = self.matcher(args.first()?)?;
        Some(matcher.find_all(text).into_iter().filter_map(|range| text.get(range).map(str::to_owned)).collect())
    }

    fn replace(&mut self, text: &str, all: bool, args: &[Value], id: Id) -> Value {
        let unknown = Value::Unknown(TEXT);
        let (Some(what), Some(with)) = (args.first(), args.get(1)) else { return unknown };
        let found = match what {
            Value::Str(what) if all => text.match_indices(&**what).map(|(at, part)| at..at + part.len()).collect(),
            Value::Str(what) => text.find(&**what).map(|at| at..at + what.len()).into_iter().collect(),
            other => match self.matcher(other) {
                Some(matcher) => matcher.find_all(text),
                None => {
                    self.escape(with);
                    return unknown;
                }
            },
        };
        let mut out = String::new();
        let mut at = 0;
        for range in found {
            out.push_str(text.get(at..range.start).unwrap_or_default());
            let part = text.get(range.clone()).unwrap_or_default();
            let new = match with {
                Value::Func(_) | Value::Known(_) | Value::Bound(_) => {
                    let result = self.call(with, Value::Undefined, &[Value::text(part)], id, false);
                    self.to_text(&result)
                }
                other => self.to_text(other).map(|new| new.replace("$&", part)),
            };
            let Some(new) = new else { return unknown };
            out.push_str(&new);
            at = range.end;
            if out.len() > LONGEST_TEXT {
                return unknown;
            }
        }
        out.push_str(text.get(at..).unwrap_or_default());
        self.make_text(out)
    }

    fn regex_method(&mut self, at: usize, name: &str, args: &[Value]) -> Option<Value> {
        match name {
            "test" | "exec" => {
                let taint = args.first().map_or(0, |value| self.taint(value));
                let matcher = self.matcher(&Value::Object(at));
                let text = self.text_argument(args, 0);
                if name == "test"
                    && let (Some(matcher), Some(text)) = (matcher, text)
                {
                    return Some(Value::Bool(!matcher.find_all(&text).is_empty()));
                }
                Some(Value::Unknown(taint & !TEXT))
            }
            "toString" => self.to_text(&Value::Object(at)).map(Value::text),
            _ => None,
        }
    }

    fn array_method(&mut self, at: usize, name: &str, args: &[Value], id: Id) -> Option<Value> {
        let long = self.objects.get(at)?.items.len();
        if matches!(name, "push" | "pop" | "at") || !known::has_method("Array", name) {
            self.work(8);
        } else if !self.work(long * 16 + 16) {
            return Some(self.any_item(at));
        }
        let object = self.objects.get(at)?;
        let taint = object.taint;
        let bytes = object.shape == Shape::Bytes;
        if object.open {
            let escaping: Vec<Value> = args.to_vec();
            for arg in &escaping {
                self.escape(arg);
            }
            return Some(match name {
                "push" | "unshift" | "splice" => {
                    let more = self.taints(args);
                    if let Some(object) = self.objects.get_mut(at) {
                        object.taint |= more;
                    }
                    Value::UNKNOWN
                }
                "join" | "toString" => Value::Unknown(taint | TEXT),
                _ => self.any_item(at),
            });
        }
        let length = object.items.len();
        let items = || object.items.clone();
        let charge = u64::try_from(length / 8).unwrap_or(0);
        match name {
            "join" => {
                let by = match args.first() {
                    None | Some(Value::Undefined) => ",".to_owned(),
                    Some(value) => match self.to_text(value) {
                        Some(by) => by,
                        None => return Some(Value::Unknown(taint | TEXT)),
                    },
                };
                let mut text = String::new();
                for (index, item) in items().iter().enumerate() {
                    if index > 0 {
                        text.push_str(&by);
                    }
                    if matches!(item, Value::Undefined | Value::Null) {
                        continue;
                    }
                    match self.to_text(item) {
                        Some(part) if text.len() <= LONGEST_TEXT => text.push_str(&part),
                        _ => return Some(Value::Unknown(taint | TEXT)),
                    }
                }
                Some(self.make_text(text))
            }
            "toString" if bytes => {
                let Some(bytes) = self.bytes_of(&Value::Object(at)) else { return Some(Value::Unknown(TEXT)) };
                let encoding = args.first().map_or(Some(String::new()), |value| match value {
                    Value::Undefined => Some(String::new()),
                    value => self.to_text(value),
                });
                match encoding.and_then(|encoding| literal::encode(&bytes, &encoding)) {
                    Some(text) => Some(self.make_text(text)),
                    None => Some(Value::Unknown(TEXT)),
                }
            }
            "toString" => Some(self.to_text(&Value::Object(at)).map_or(Value::Unknown(taint | TEXT), Value::text)),
            "reverse" | "toReversed" | "sort" | "toSorted" | "fill" => {
                let mut items = items();
                match name {
                    "reverse" | "toReversed" => items.reverse(),
                    "fill" => {
                        let value = args.first().cloned().unwrap_or(Value::Undefined);
                        items.fill(value);
                    }
                    _ => {
                        if let Some(compare) = args.first() {
                            self.escape(&compare.clone());
                            return Some(self.open_array(at));
                        }
                        let mut keyed: Vec<(String, Value)> = Vec::new();
                        for item in items {
                            match self.to_text(&item) {
                                Some(text) => keyed.push((text, item)),
                                None => return Some(Value::UNKNOWN),
                            }
                        }
                        keyed.sort_by(|a, b| a.0.cmp(&b.0));
                        items = keyed.into_iter().map(|(_, item)| item).collect();
                    }
                }
                if name.starts_with("to") {
                    return Some(self.make_array(items));
                }
                self.replace_items(at, items);
                Some(Value::Object(at))
            }
            "push" => {
                let sure = self.sure();
                if let Some(object) = self.objects.get_mut(at) {
                    if length + args.len() > MOST_ITEMS || !sure {
                        object.open = true;
                    }
                    if length < MOST_ITEMS {
                        object.items.extend(args.iter().cloned());
                    }
                }
                let more = self.taints(args);
                if let Some(object) = self.objects.get_mut(at) {
                    object.taint |= more;
                }
                Some(Value::Num(f64::from(u32::try_from(length + args.len()).unwrap_or(0))))
            }
            "unshift" => {
                let mut all = args.to_vec();
                all.extend(items());
                all.truncate(MOST_ITEMS);
                self.replace_items(at, all);
                Some(Value::UNKNOWN)
            }
            "pop" | "shift" => {
                if !self.sure() {
                    return Some(self.open_item(at));
                }
                let object = self.objects.get_mut(at)?;
                if name == "pop" {
                    object.items.pop().or(Some(Value::Undefined))
                } else if object.items.is_empty() {
                    Some(Value::Undefined)
                } else {
                    Some(object.items.remove(0))
                }
            }
            "slice" | "subarray" | "splice" => {
                let (Some(from), Some(to)) = (self.argument(args, 0, 0.0), self.argument(args, 1, f64::from(u32::MAX)))
                else {
                    return Some(self.any_item(at));
                };
                let mut items = items();
                let from = index(from, length);
                let to = if name == "splice" {
                    from.saturating_add(index(to.max(0.0), length)).min(length)
                } else {
                    index(to, length)
                };
                if name == "splice" {
                    let new = args.get(2..).unwrap_or_default().to_vec();
                    let cut: Vec<Value> = items.splice(from..to.max(from), new).collect();
                    self.replace_items(at, items);
                    return Some(self.make_array(cut));
                }
                let part = items.get(from..to.max(from)).unwrap_or_default().to_vec();
                let mut made = Object::array(part);
                if bytes {
                    made.shape = Shape::Bytes;
                }
                Some(self.make(made))
            }
            "concat" => {
                let mut items = items();
                for arg in args {
                    match self.items(arg) {
                        Some(more) => items.extend(more.iter().cloned()),
                        None if matches!(arg, Value::Unknown(_)) => return Some(self.any_item(at)),
                        None => items.push(arg.clone()),
                    }
                    if items.len() > MOST_ITEMS {
                        return Some(Value::UNKNOWN);
                    }
                }
                Some(self.make_array(items))
            }
            "at" => {
                let number = self.argument(args, 0, 0.0)?;
                let number = if number < 0.0 { index(number, length) } else { index(number, usize::MAX) };
                Some(items().get(number).cloned().unwrap_or(Value::Undefined))
            }
            "indexOf" | "includes" | "lastIndexOf" => {
                let what = args.first().cloned().unwrap_or(Value::Undefined);
                let mut found = None;
                for (place, item) in items().iter().enumerate() {
                    match self.equal(item, &what, true) {
                        Some(true) => {
                            found = Some(place);
                            break;
                        }
                        Some(false) => {}
                        None => return Some(Value::UNKNOWN),
                    }
                }
                Some(if name == "includes" {
                    Value::Bool(found.is_some())
                } else {
                    Value::Num(found.map_or(-1.0, |place| f64::from(u32::try_from(place).unwrap_or(0))))
                })
            }
            "keys" | "values" | "entries" | "flat" => {
                let items = items();
                let out: Vec<Value> = match name {
                    "keys" => {
                        (0..length).map(|place| Value::Num(f64::from(u32::try_from(place).unwrap_or(0)))).collect()
                    }
                    "values" => items,
                    "entries" => {
                        let pairs: Vec<(usize, Value)> = items.into_iter().enumerate().collect();
                        pairs
                            .into_iter()
                            .map(|(place, item)| {
                                self.make_array(vec![Value::Num(f64::from(u32::try_from(place).unwrap_or(0))), item])
                            })
                            .collect()
                    }
                    _ => {
                        let mut out = Vec::new();
                        for item in items {
                            match self.items(&item) {
                                Some(inner) => out.extend(inner.iter().cloned()),
                                None => out.push(item),
                            }
                        }
                        out
                    }
                };
                Some(self.make_array(out))
            }
            "map" | "forEach" | "filter" | "find" | "some" | "every" | "flatMap" | "reduce" | "reduceRight"
            | "findIndex" | "findLast" => {
                self.steps_taken(charge);
                Some(self.each(at, name, args, id))
            }
            _ => None,
        }
    }

    /// Calls a callback for each element.
    fn each(&mut self, at: usize, name: &str, args: &[Value], id: Id) -> Value {
        let items: Vec<Value> = self.objects.get(at).map(|object| object.items.clone()).unwrap_or_default();
        let callback = args.first().cloned().unwrap_or(Value::Undefined);
        let array = Value::Object(at);
        let limit = if self.decodes() { 8_192 } else { 16 };
        if items.len() > limit || !self.has_extra() {
            self.escape(&callback);
            // What is called is called with any of them.
            if !matches!(callback, Value::Func(_)) {
                let any = self.any_item(at);
                self.call(&callback, Value::Undefined, &[any], id, false);
            }
            let taint = self.objects.get(at).map_or(0, |object| object.taint);
            return Value::Unknown(taint & !TEXT);
        }
        if items.is_empty() {
            self.escape(&callback);
        }
        let reduce = name.starts_with("reduce");
        let mut results = Vec::new();
        let mut kept = Vec::new();
        let mut sum = if reduce { args.get(1).cloned() } else { None };
        let order: Vec<(usize, Value)> = if name == "reduceRight" {
            items.into_iter().enumerate().rev().collect()
        } else {
            items.into_iter().enumerate().collect()
        };
        for (place, item) in order {
            let place = Value::Num(f64::from(u32::try_from(place).unwrap_or(0)));
            if reduce {
                sum = Some(match sum {
                    None => item,
                    Some(before) => {
                        self.call(&callback, Value::Undefined, &[before, item, place, array.clone()], id, false)
                    }
                });
                continue;
            }
            let result = self.call(&callback, Value::Undefined, &[item.clone(), place, array.clone()], id, false);
            match name {
                "filter" | "find" | "findLast" => match self.truth(&result) {
                    Some(true) => kept.push(item),
                    Some(false) => {}
                    None => kept.push(item.or(&Value::UNKNOWN)),
                },
                _ => results.push(result),
            }
        }
        match name {
            "map" => self.make_array(results),
            "flatMap" => {
                let mut out = Vec::new();
                for result in results {
                    match self.items(&result) {
                        Some(items) => out.extend(items.iter().cloned()),
                        None => out.push(result),
                    }
                }
                self.make_array(out)
            }
            "filter" => {
                if kept.iter().any(|value| matches!(value, Value::Either(_) | Value::Unknown(_))) {
                    let mut object = Object::array(kept);
                    object.open = true;
                    self.make(object)
                } else {
                    self.make_array(kept)
                }
            }
            "find" => kept.first().cloned().unwrap_or(Value::Undefined),
            "findLast" => kept.last().cloned().unwrap_or(Value::Undefined),
            "reduce" | "reduceRight" => sum.unwrap_or(Value::Undefined),
            "forEach" => Value::Undefined,
            _ => Value::UNKNOWN,
        }
    }

    fn any_item(&mut self, at: usize) -> Value {
        let Some(object) = self.objects.get(at) else { return Value::UNKNOWN };
        let mut value = Value::Unknown(object.taint & !TEXT);
        for item in object.items.iter().take(32) {
            value = value.or(item);
        }
        value
    }

    fn open_item(&mut self, at: usize) -> Value {
        let value = self.any_item(at);
        if let Some(object) = self.objects.get_mut(at) {
            object.open = true;
        }
        value
    }

    fn open_array(&mut self, at: usize) -> Value {
        if let Some(object) = self.objects.get_mut(at) {
            object.open = true;
        }
        Value::Object(at)
    }

    fn replace_items(&mut self, at: usize, items: Vec<Value>) {
        let sure = self.sure();
        if let Some(object) = self.objects.get_mut(at) {
            if sure {
                object.items = items;
            } else {
                object.open = true;
            }
        }
    }

    fn make_bytes(&mut self, bytes: &[u8]) -> Value {
        let mut object = Object::new(Shape::Bytes);
        object.items = bytes.iter().take(MOST_ITEMS).map(|byte| Value::Num(f64::from(*byte))).collect();
        object.open = bytes.len() > MOST_ITEMS;
        self.make(object)
    }

    /// What a function of the language returns for known arguments; `None` if that is not known here.
    pub(super) fn fold(&mut self, path: &str, this: &Value, args: &[Value], id: Id, new: bool) -> Option<Value> {
        let first = args.first();
        if let Some((class, method)) = path.split_once(".prototype.")
            && matches!(class, "String" | "Array" | "Number" | "Object" | "RegExp" | "Buffer" | "Boolean")
        {
            if method == "toString" && class == "Object" {
                return None;
            }
            let text;
            let this = match this {
                Value::Str(_) if class == "Array" => {
                    text = self.text_array(this);
                    &text
                }
                other => other,
            };
            return self.builtin_method(this, method, args, id);
        }
        match path {
            "String.fromCharCode" | "String.fromCodePoint" => {
                let units: Option<Vec<u32>> = args
                    .iter()
                    .map(|arg| self.to_number(arg).map(|number| literal::to_int32(number).cast_unsigned()))
                    .collect();
                let Some(units) = units else { return Some(Value::Unknown(TEXT)) };
                let text = if path.ends_with("CharCode") {
                    let units: Vec<u16> =
                        units.into_iter().map(|unit| u16::try_from(unit & 0xffff).unwrap_or(0)).collect();
                    String::from_utf16_lossy(&units)
                } else {
                    units.into_iter().filter_map(char::from_u32).collect()
                };
                Some(self.make_text(text))
            }
            "String" | "String.raw" => match first {
                None => Some(Value::text("")),
                Some(value) => {
                    let text = self.to_text(value);
                    Some(text.map_or(Value::Unknown(self.taint(value) | TEXT), Value::text))
                }
            },
            "Number" => first.and_then(|value| self.to_number(value)).map(Value::Num),
            "Boolean" => first.and_then(|value| self.truth(value)).map(Value::Bool),
            "parseInt" | "Number.parseInt" => {
                let text = self.text_argument(args, 0)?;
                let radix = literal::whole(self.argument(args, 1, 0.0)?).and_then(|radix| u32::try_from(radix).ok())?;
                Some(Value::Num(literal::parse_int(&text, radix)))
            }
            "parseFloat" | "Number.parseFloat" => {
                let text = self.text_argument(args, 0)?;
                let text = text.trim();
                let end = text
                    .char_indices()
                    .take_while(|(_, c)| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'))
                    .last()
                    .map_or(0, |(at, _)| at + 1);
                Some(Value::Num(text.get(..end)?.parse().unwrap_or(f64::NAN)))
            }
            "Math.floor" | "Math.round" | "Math.ceil" | "Math.abs" | "Math.trunc" | "Math.sqrt" => {
                let number = self.to_number(first?)?;
                Some(Value::Num(match path {
                    "Math.floor" => number.floor(),
                    "Math.round" => (number + 0.5).floor(),
                    "Math.ceil" => number.ceil(),
                    "Math.abs" => number.abs(),
                    "Math.sqrt" => number.sqrt(),
                    _ => number.trunc(),
                }))
            }
            "Math.pow" => Some(Value::Num(self.to_number(first?)?.powf(self.to_number(args.get(1)?)?))),
            "Math.max" | "Math.min" => {
                let numbers: Option<Vec<f64>> = args.iter().map(|arg| self.to_number(arg)).collect();
                let pick = if path.ends_with("max") { f64::max } else { f64::min };
                numbers?.into_iter().reduce(pick).map(Value::Num)
            }
            "atob" => self.decoded(first, |text| literal::base64(text).iter().map(|byte| char::from(*byte)).collect()),
            "btoa" => {
                self.decoded(first, |text| literal::to_base64(&literal::decode(text, "latin1").unwrap_or_default()))
            }
            "unescape" => self.decoded(first, |text| literal::percent(text, false)),
            "decodeURIComponent" | "decodeURI" | "querystring.unescape" => {
                self.decoded(first, |text| literal::percent(text, true))
            }
            "escape" | "encodeURIComponent" | "encodeURI" => self.decoded(first, literal::to_percent),
            "Buffer.from" | "Buffer" => {
                let encoding = match args.get(1) {
                    None | Some(Value::Undefined) => String::new(),
                    Some(value) => match self.to_text(value) {
                        Some(encoding) => encoding,
                        None => return Some(Value::Unknown(TEXT)),
                    },
                };
                let bytes = match first? {
                    Value::Str(text) => literal::decode(text, &encoding),
                    other => self.bytes_of(other),
                };
                Some(match bytes {
                    Some(bytes) if bytes.len() < LONGEST_TEXT => self.make_bytes(&bytes),
                    _ => Value::Unknown(self.taints(args) | TEXT),
                })
            }
            "Uint8Array" | "Uint8Array.from" | "Uint8Array.of" | "Uint16Array" | "Int8Array" | "Uint8ClampedArray"
            | "Uint32Array" => {
                let source = if path.ends_with(".of") { self.make_array(args.to_vec()) } else { first?.clone() };
                if let Value::Num(number) = source {
                    self.check_size(number, 1 << 28, id);
                }
                let items = self.items(&source)?.clone();
                let mut object = Object::new(Shape::Bytes);
                object.items = items;
                Some(self.make(object))
            }
            "TextDecoder().decode" | "util.TextDecoder().decode" => {
                let bytes = first.and_then(|value| self.bytes_of(value));
                Some(match bytes {
                    Some(bytes) => self.make_text(String::from_utf8_lossy(&bytes).into_owned()),
                    None => Value::Unknown(TEXT),
                })
            }
            "TextEncoder().encode" => {
                let text = self.text_argument(args, 0)?;
                Some(self.make_bytes(text.as_bytes()))
            }
            "Buffer.concat" => {
                let parts = self.items(first?)?.clone();
                let mut all = Vec::new();
                for part in parts {
                    all.extend(self.bytes_of(&part)?);
                }
                Some(self.make_bytes(&all))
            }
            "Buffer.alloc" | "Buffer.allocUnsafe" | "ArrayBuffer" | "SharedArrayBuffer" | "Float64Array"
            | "BigInt64Array" => {
                if let Some(number) = first.and_then(|value| self.to_number(value)) {
                    self.check_size(number, 1 << 28, id);
                }
                None
            }
            "Array" => match args {
                [Value::Num(number)] => {
                    self.check_size(*number, 1 << 27, id);
                    let length = literal::whole(*number).and_then(|length| usize::try_from(length).ok())?;
                    if length > 4_096 {
                        return Some(Value::UNKNOWN);
                    }
                    Some(self.make_array(vec![Value::Undefined; length]))
                }
                [Value::Unknown(_) | Value::Either(_)] => Some(Value::UNKNOWN),
                args => Some(self.make_array(args.to_vec())),
            },
            "Array.of" => Some(self.make_array(args.to_vec())),
            "Array.from" => self.array_from(args, id),
            "Object" if new || args.is_empty() => Some(self.make(Object::new(Shape::Plain))),
            "Object"
            | "Object.freeze"
            | "Object.seal"
            | "Object.preventExtensions"
            | "Promise.resolve"
            | "structuredClone"
            | "util.promisify"
            | "util.callbackify"
            | "util.deprecate"
            | "Object.setPrototypeOf"
            | "Proxy"
            | "Module.__toESM" => first.cloned(),
            "Object.create" => {
                let mut object = Object::new(Shape::Plain);
                if let Some(base) = first.filter(|base| !matches!(base, Value::Null)) {
                    object.base = Some(base.clone());
                }
                Some(self.make(object))
            }
            "Object.keys" | "Reflect.ownKeys" | "Object.getOwnPropertyNames" => {
                let value = first?.clone();
                self.enumerated(&value, id);
                match self.keys(&value) {
                    Some(keys) => Some(self.make_array(keys)),
                    None => Some(Value::Unknown(self.taint(&value) & !TEXT)),
                }
            }
            "Object.values" | "Object.entries" | "Object.getOwnPropertyDescriptors" => {
                let value = first?.clone();
                self.enumerated(&value, id);
                let Some(keys) = self.keys(&value) else { return Some(Value::Unknown(self.taint(&value) & !TEXT)) };
                let mut out = Vec::new();
                for key in keys {
                    let item = self.get(&value, &key, id);
                    out.push(if path.ends_with("entries") { self.make_array(vec![key, item]) } else { item });
                }
                Some(self.make_array(out))
            }
            "Object.assign" => {
                let target = first?.clone();
                if let Some(path) = target.path().filter(|path| *path == "Object.prototype") {
                    let message = format!("properties are put on `{path}`");
                    self.report(crate::rules::prototype_pollution, self.syntax.range(id), &message);
                }
                self.assign_all(&target, args.get(1..).unwrap_or_default());
                Some(target)
            }
            "Object.defineProperty" | "Reflect.defineProperty" | "Reflect.set" => {
                if first.and_then(Value::path) == Some("Object.prototype") {
                    let message = "a property is put on the prototype all objects share";
                    self.report(crate::rules::prototype_pollution, self.syntax.range(id), message);
                }
                for arg in args {
                    self.escape(arg);
                }
                if let (Some(target), Some(name), Some(value)) = (first, self.text_argument(args, 1), args.get(2)) {
                    let value = match (path, value) {
                        ("Reflect.set", value) => value.clone(),
                        (_, descriptor) => self.get(descriptor, &Value::text("value"), id),
                    };
                    let target = target.clone();
                    self.assign_named(&target, &name, value);
                }
                first.cloned()
            }
            "Object.getPrototypeOf" | "Reflect.getPrototypeOf" => {
                let value = first?.clone();
                Some(self.get(&value, &Value::text("__proto__"), id))
            }
            "Reflect.get" => {
                let (object, key) = (first?.clone(), args.get(1)?.clone());
                let value = self.get(&object, &key, id);
                Some(value)
            }
            "Object.getOwnPropertyDescriptor" | "Reflect.getOwnPropertyDescriptor" => {
                let (object, key) = (first?.clone(), args.get(1)?.clone());
                let value = self.get(&object, &key, id);
                let mut made = Object::new(Shape::Plain);
                made.set("value", value);
                made.open = true;
                Some(self.make(made))
            }
            "Reflect.apply" => {
                let (function, this) = (first?.clone(), args.get(1).cloned().unwrap_or(Value::Undefined));
                let list = args.get(2).cloned().unwrap_or(Value::Undefined);
                let rest = self.items(&list).cloned().unwrap_or_else(|| vec![Value::Unknown(self.taint(&list))]);
                Some(self.call(&function, this, &rest, id, false))
            }
            "Reflect.construct" => {
                let function = first?.clone();
                let list = args.get(1).cloned().unwrap_or(Value::Undefined);
                let rest = self.items(&list).cloned().unwrap_or_else(|| vec![Value::Unknown(self.taint(&list))]);
                Some(self.call(&function, Value::UNKNOWN, &rest, id, true))
            }
            "JSON.stringify" => match first? {
                Value::Str(text) => Some(Value::text(format!("{text:?}"))),
                other => Some(Value::Unknown(self.taint(other) | TEXT)),
            },
            "JSON.parse" => {
                let text = self.text_argument(args, 0)?;
                if text.contains("\"__proto__\"") {
                    let message = "this JSON sets `__proto__`";
                    self.report(crate::rules::prototype_pollution, self.syntax.range(id), message);
                }
                self.parse_json(&text)
            }
            "path.join" | "path.resolve" | "path.normalize" => {
                let mut parts = Vec::new();
                for arg in args {
                    parts.push(self.to_text(arg)?);
                }
                Some(Value::text(join_paths(&parts)))
            }
            "path.basename" | "path.extname" | "path.dirname" => None,
            "RegExp" => {
                let pattern = match first? {
                    Value::Str(text) => text.clone(),
                    Value::Object(_) => return Some(first?.clone()),
                    _ => return None,
                };
                let flags: Rc<str> = self.text_argument(args, 1).unwrap_or_default().into();
                self.check_regex(&pattern, &flags, id);
                Some(self.make(Object::new(Shape::Regex(pattern, flags))))
            }
            _ => None,
        }
    }

    fn text_array(&mut self, text: &Value) -> Value {
        match text {
            Value::Str(text) if text.len() < MOST_ITEMS => {
                let items = text.chars().map(|c| Value::text(c.to_string())).collect();
                self.make_array(items)
            }
            other => other.clone(),
        }
    }

    fn array_from(&mut self, args: &[Value], id: Id) -> Option<Value> {
        let source = args.first()?.clone();
        let array = match &source {
            Value::Str(_) => self.text_array(&source),
            Value::Object(at) => {
                let object = self.objects.get(*at)?;
                match object.shape {
                    Shape::Array | Shape::Bytes if !object.open => {
                        let items = object.items.clone();
                        self.make_array(items)
                    }
                    Shape::Plain => {
                        let length = object.get("length").cloned()?;
                        let length = self.to_number(&length)?;
                        self.check_size(length, 1 << 27, id);
                        let length = literal::whole(length).and_then(|length| usize::try_from(length).ok())?;
                        if length > 4_096 {
                            for arg in args {
                                self.escape(arg);
                            }
                            return Some(Value::UNKNOWN);
                        }
                        self.make_array(vec![Value::Undefined; length])
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        match (args.get(1), &array) {
            (Some(callback), Value::Object(at)) => Some(self.each(*at, "map", std::slice::from_ref(callback), id)),
            _ => Some(array),
        }
    }

    fn decoded(&mut self, text: Option<&Value>, decode: impl Fn(&str) -> String) -> Option<Value> {
        match text {
            Some(Value::Str(text)) if text.len() <= LONGEST_TEXT => {
                let text = decode(text);
                Some(self.make_text(text))
            }
            Some(value) => match self.to_text(value) {
                Some(text) if text.len() <= LONGEST_TEXT => {
                    let text = decode(&text);
                    Some(self.make_text(text))
                }
                _ => Some(Value::Unknown(self.taint(value) | TEXT)),
            },
            None => None,
        }
    }

    fn check_size(&mut self, number: f64, most: u32, id: Id) {
        if number >= f64::from(most) && number < 4_294_967_296.0 {
            let message = "this takes hundreds of megabytes at once";
            self.report(crate::rules::resource_bomb, self.syntax.range(id), message);
        }
    }

    fn assign_all(&mut self, target: &Value, sources: &[Value]) {
        for source in sources {
            self.escape(source);
            let (Value::Object(at), Some(keys)) = (target, self.keys(source)) else {
                if let Value::Object(at) = target
                    && let Some(object) = self.objects.get_mut(*at)
                {
                    object.open = true;
                    if let Value::Known(_) = source {
                        object.base = Some(source.clone());
                    }
                }
                continue;
            };
            for key in keys {
                let value = self.get(source, &key, 0);
                if let (Some(name), Some(object)) = (key.as_text(), self.objects.get_mut(*at)) {
                    object.set(name, value);
                }
            }
        }
    }

    fn assign_named(&mut self, target: &Value, name: &str, value: Value) {
        if let Value::Object(at) = target
            && let Some(object) = self.objects.get_mut(*at)
        {
            object.set(name, value);
        }
    }

    /// Texts, numbers and flat lists and objects of them; the rest is unknown.
    fn parse_json(&mut self, text: &str) -> Option<Value> {
        let text = text.trim();
        if let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            return (!inner.replace("\\\"", "").contains('"')).then(|| Value::text(literal::unescape(inner)));
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            if inner.contains(['[', '{']) || inner.contains("\\\"") {
                return None;
            }
            let mut items = Vec::new();
            for part in inner.split(',') {
                items.push(self.parse_json_part(part)?);
            }
            return Some(self.make_array(items));
        }
        self.parse_json_part(text)
    }

    fn parse_json_part(&self, text: &str) -> Option<Value> {
        let text = text.trim();
        if let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            return Some(Value::text(literal::unescape(inner)));
        }
        text.parse().ok().map(Value::Num)
    }

    /// What a call returns that no rule and no table knows.
    pub(super) fn result(&self, path: &str, args: &[Value]) -> Value {
        if known::keeps_result(path) { Value::known(&format!("{path}()")) } else { Value::Unknown(self.taints(args)) }
    }
}

fn join_paths(parts: &[String]) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut absolute = false;
    for part in parts {
        if part.starts_with('/') {
            absolute = true;
        }
        for step in part.split('/') {
            match step {
                "" | "." => {}
                ".." if out.last().is_some_and(|last| *last != "..") => {
                    out.pop();
                }
                step => out.push(step),
            }
        }
    }
    format!("{}{}", if absolute { "/" } else { "" }, out.join("/"))
}
