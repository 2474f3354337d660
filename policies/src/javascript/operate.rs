//! Operators and conversions, as the language defines them.

use super::known;
use super::literal;
use super::machine::{LONGEST_TEXT, Machine};
use super::value::{Shape, TEXT, Value};

impl Machine<'_, '_> {
    /// Whether a value counts as true.
    pub(super) fn truth(&self, value: &Value) -> Option<bool> {
        match value {
            Value::Undefined | Value::Null => Some(false),
            Value::Bool(truth) => Some(*truth),
            Value::Num(number) => Some(*number != 0.0 && !number.is_nan()),
            Value::Str(text) => Some(!text.is_empty()),
            Value::Object(_) | Value::Func(_) | Value::Bound(_) => Some(true),
            Value::Known(_) | Value::Unknown(_) | Value::Either(_) => None,
        }
    }

    /// What a value prints as.
    pub(super) fn to_text(&self, value: &Value) -> Option<String> {
        self.text_of(value, 0)
    }

    fn text_of(&self, value: &Value, depth: usize) -> Option<String> {
        match value {
            Value::Str(text) => Some(text.to_string()),
            Value::Num(number) => Some(literal::number_text(*number)),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Undefined => Some("undefined".to_owned()),
            Value::Null => Some("null".to_owned()),
            Value::Known(path) if &**path == "globalThis" => Some("[object global]".to_owned()),
            Value::Known(path) if path.contains('?') || path.contains("()") || path.starts_with("process") => None,
            Value::Known(path) => known::function_text(path),
            Value::Func(index) => {
                let func = self.funcs.get(*index)?;
                let text = self.syntax.text(func.node);
                (text.len() < 2_000).then(|| text.to_owned())
            }
            Value::Object(at) => {
                let object = self.objects.get(*at)?;
                match &object.shape {
                    Shape::Array => {
                        if object.open || depth > 4 || object.items.len() > 4_096 {
                            return None;
                        }
                        let mut text = String::new();
                        for (index, item) in object.items.iter().enumerate() {
                            if index > 0 {
                                text.push(',');
                            }
                            if !matches!(item, Value::Undefined | Value::Null) {
                                text.push_str(&self.text_of(item, depth + 1)?);
                            }
                            if text.len() > LONGEST_TEXT {
                                return None;
                            }
                        }
                        Some(text)
                    }
                    Shape::Plain => {
                        if object.get("toString").is_some() || object.base.is_some() || object.open {
                            return None;
                        }
                        Some("[object Object]".to_owned())
                    }
                    Shape::Regex(pattern, flags) => Some(format!("/{pattern}/{flags}")),
                    Shape::Bytes => Some(String::from_utf8_lossy(&self.bytes_of(value)?).into_owned()),
                }
            }
            Value::Unknown(_) | Value::Bound(_) | Value::Either(_) => None,
        }
    }

    /// The number a value converts to.
    pub(super) fn to_number(&self, value: &Value) -> Option<f64> {
        match value {
            Value::Num(number) => Some(*number),
            Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
            Value::Undefined => Some(f64::NAN),
            Value::Null => Some(0.0),
            Value::Str(text) => Some(literal::to_number(text)),
            Value::Object(_) => self.to_text(value).map(|text| literal::to_number(&text)),
            _ => None,
        }
    }

    /// A buffer's or typed array's bytes, or an array of numbers.
    pub(super) fn bytes_of(&self, value: &Value) -> Option<Vec<u8>> {
        self.items(value)?
            .iter()
            .map(|item| {
                let number = self.to_number(item)?;
                u8::try_from(literal::to_int32(number) & 0xff).ok()
            })
            .collect()
    }

    /// Whether two values are equal, strictly or not.
    pub(super) fn equal(&self, left: &Value, right: &Value, strict: bool) -> Option<bool> {
        match (left, right) {
            (Value::Str(a), Value::Str(b)) => Some(a == b),
            (Value::Num(a), Value::Num(b)) => Some(a == b),
            (Value::Bool(a), Value::Bool(b)) => Some(a == b),
            (Value::Undefined, Value::Undefined) | (Value::Null, Value::Null) => Some(true),
            (Value::Undefined, Value::Null) | (Value::Null, Value::Undefined) => Some(!strict),
            (Value::Object(a), Value::Object(b)) => Some(a == b),
            (Value::Undefined | Value::Null, other) | (other, Value::Undefined | Value::Null) => {
                if other.is_primitive() || matches!(other, Value::Object(_) | Value::Func(_)) {
                    Some(false)
                } else {
                    None
                }
            }
            (left, right) if left.is_primitive() && right.is_primitive() && strict => Some(false),
            (left, right) if !strict => {
                let (a, b) = (self.to_number(left)?, self.to_number(right)?);
                Some(a == b)
            }
            _ => None,
        }
    }

    /// The result of a binary operator.
    pub(super) fn operate(&mut self, operator: &str, left: &Value, right: &Value) -> Value {
        if let (Value::Either(values), other, true) | (other, Value::Either(values), false) =
            (left, right, matches!(left, Value::Either(_)))
        {
            // Alternatives of texts stay apart, as long as there are few.
            if operator == "+" && !matches!(other, Value::Either(_)) {
                let swapped = !matches!(left, Value::Either(_));
                let mut all: Option<Value> = None;
                for value in values.clone().iter() {
                    let one = if swapped {
                        self.operate(operator, other, value)
                    } else {
                        self.operate(operator, value, other)
                    };
                    all = Some(all.map_or_else(|| one.clone(), |all| all.or(&one)));
                }
                return all.unwrap_or(Value::UNKNOWN);
            }
        }
        let taint = (self.taint(left) | self.taint(right)) & !TEXT;
        let unknown = Value::Unknown(taint);
        match operator {
            "+" => self.add(left, right, taint),
            "===" | "!==" | "==" | "!=" => match self.equal(left, right, operator.len() == 3) {
                Some(equal) => Value::Bool(equal == operator.starts_with('=')),
                None => Value::UNKNOWN,
            },
            "<" | ">" | "<=" | ">=" => {
                let ordering = match (left, right) {
                    (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
                    _ => match (self.to_number(left), self.to_number(right)) {
                        (Some(a), Some(b)) => match a.partial_cmp(&b) {
                            Some(ordering) => Some(ordering),
                            None => return Value::Bool(false),
                        },
                        _ => None,
                    },
                };
                match ordering {
                    Some(ordering) => Value::Bool(match operator {
                        "<" => ordering.is_lt(),
                        ">" => ordering.is_gt(),
                        "<=" => ordering.is_le(),
                        _ => ordering.is_ge(),
                    }),
                    None => Value::UNKNOWN,
                }
            }
            "in" | "instanceof" => Value::UNKNOWN,
            _ => {
                let (Some(a), Some(b)) = (self.to_number(left), self.to_number(right)) else { return unknown };
                let (x, y) = (literal::to_int32(a), literal::to_int32(b));
                let shift = y.cast_unsigned() & 31;
                Value::Num(match operator {
                    "-" => a - b,
                    "*" => a * b,
                    "/" => a / b,
                    "%" => a % b,
                    "**" => a.powf(b),
                    "&" => f64::from(x & y),
                    "|" => f64::from(x | y),
                    "^" => f64::from(x ^ y),
                    "<<" => f64::from(x.wrapping_shl(shift)),
                    ">>" => f64::from(x.wrapping_shr(shift)),
                    ">>>" => f64::from(x.cast_unsigned().wrapping_shr(shift)),
                    _ => return unknown,
                })
            }
        }
    }

    fn add(&mut self, left: &Value, right: &Value, taint: u8) -> Value {
        let numeric = |value: &Value| matches!(value, Value::Num(_) | Value::Bool(_) | Value::Undefined | Value::Null);
        if numeric(left) && numeric(right) {
            return match (self.to_number(left), self.to_number(right)) {
                (Some(a), Some(b)) => Value::Num(a + b),
                _ => Value::UNKNOWN,
            };
        }
        match (self.to_text(left), self.to_text(right)) {
            (Some(mut text), Some(more)) => {
                text.push_str(&more);
                self.make_text(text)
            }
            _ => {
                let text = [left, right].into_iter().fold(0, |all, value| all | self.taint(value)) & TEXT;
                Value::Unknown(taint | text)
            }
        }
    }
}
