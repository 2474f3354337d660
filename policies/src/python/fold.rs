//! Working out strings, bytes and numbers from constants, as Python would.

use std::rc::Rc;

use super::literal::LONGEST;
use super::value::Value;

/// A binary operation on constants; `None` where the result is not known.
pub(super) fn binary(operator: &str, left: &Value, right: &Value) -> Option<Value> {
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return integers(operator, a, b);
    }
    match (operator, left, right) {
        ("+", Value::Str(a), Value::Str(b)) => text(format!("{a}{b}")),
        ("+", Value::Bytes(a), Value::Bytes(b)) => bytes([&**a, &**b].concat()),
        ("*", Value::Str(a), Value::Int(n)) | ("*", Value::Int(n), Value::Str(a)) => {
            let n = usize::try_from((*n).max(0)).ok()?;
            (a.len().checked_mul(n)? <= LONGEST).then(|| Value::text(a.repeat(n)))
        }
        ("*", Value::Bytes(a), Value::Int(n)) | ("*", Value::Int(n), Value::Bytes(a)) => {
            let n = usize::try_from((*n).max(0)).ok()?;
            (a.len().checked_mul(n)? <= LONGEST).then(|| Value::Bytes(a.repeat(n).into()))
        }
        (_, Value::Float(_), _) | (_, _, Value::Float(_)) => {
            let float = |value: &Value| match value {
                Value::Float(value) => Some(*value),
                #[expect(clippy::cast_precision_loss, reason = "as Python does it")]
                other => other.as_int().map(|value| value as f64),
            };
            let (a, b) = (float(left)?, float(right)?);
            Some(Value::Float(match operator {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                "/" if b != 0.0 => a / b,
                "**" => a.powf(b),
                _ => return None,
            }))
        }
        _ => None,
    }
}

fn integers(operator: &str, a: i128, b: i128) -> Option<Value> {
    Some(Value::Int(match operator {
        "+" => a.checked_add(b)?,
        "-" => a.checked_sub(b)?,
        "*" => a.checked_mul(b)?,
        "//" => {
            let quotient = a.checked_div(b)?;
            if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
        }
        "%" => {
            let rest = a.checked_rem(b)?;
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        "**" => a.checked_pow(u32::try_from(b).ok()?)?,
        "|" => a | b,
        "&" => a & b,
        "^" => a ^ b,
        "<<" => {
            let by = u32::try_from(b).ok().filter(|by| *by < 120)?;
            let shifted = a.checked_shl(by)?;
            (shifted >> by == a).then_some(shifted)?
        }
        ">>" => a >> u32::try_from(b).ok()?.min(127),
        #[expect(clippy::cast_precision_loss, reason = "as Python does it")]
        "/" if b != 0 => return Some(Value::Float(a as f64 / b as f64)),
        _ => return None,
    }))
}

fn text(text: String) -> Option<Value> {
    (text.len() <= LONGEST).then(|| Value::text(text))
}

fn bytes(bytes: Vec<u8>) -> Option<Value> {
    (bytes.len() <= LONGEST).then(|| Value::Bytes(bytes.into()))
}

/// How a value looks in `str()`.
pub(super) fn shown(value: &Value) -> Option<String> {
    Some(match value {
        Value::Str(text) => text.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::None => "None".into(),
        Value::Path(path) => format!("<{path}>"),
        _ => return None,
    })
}

/// `left % values`.
pub(super) fn percent(format: &str, values: &[Value]) -> Option<Value> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut conversion = rest.next()?;
        while conversion.is_ascii_digit() || "-+ #.0".contains(conversion) {
            conversion = rest.next()?;
        }
        match conversion {
            '%' => out.push('%'),
            's' | 'd' | 'i' => out.push_str(&shown(values.next()?)?),
            'c' => match values.next()? {
                Value::Int(code) => out.push(char::from_u32(u32::try_from(*code).ok()?)?),
                other => out.push_str(&shown(other)?),
            },
            'x' => out.push_str(&format!("{:x}", values.next()?.as_int()?)),
            'X' => out.push_str(&format!("{:X}", values.next()?.as_int()?)),
            _ => return None,
        }
    }
    text(out)
}

/// `format.format(*plain, **named)`; the callback looks a field up: its first part, then `.name` and `[index]`.
pub(super) fn braces(format: &str, mut field: impl FnMut(&str) -> Option<Value>) -> Option<Value> {
    let mut out = String::new();
    let mut next = 0_usize;
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' if rest.peek() == Some(&'{') => {
                rest.next();
                out.push('{');
            }
            '}' => {
                rest.next_if_eq(&'}');
                out.push('}');
            }
            '{' => {
                let inner: String = rest.by_ref().take_while(|c| *c != '}').collect();
                let (mut name, specifier) = inner.split_once(':').unwrap_or((&inner, ""));
                name = name.split_once('!').map_or(name, |(name, _)| name);
                let numbered;
                if name.is_empty() || name.starts_with(['.', '[']) {
                    numbered = format!("{next}{name}");
                    name = &numbered;
                    next += 1;
                }
                let value = field(name)?;
                out.push_str(&formatted(&value, specifier)?);
            }
            c => out.push(c),
        }
    }
    text(out)
}

/// `format(value, specifier)` for the few specifiers that make text.
pub(super) fn formatted(value: &Value, specifier: &str) -> Option<String> {
    match (specifier, value) {
        ("" | "s" | "!s" | "!s:", value) => shown(value),
        ("c", Value::Int(code)) => char::from_u32(u32::try_from(*code).ok()?).map(String::from),
        ("x", Value::Int(value)) => Some(format!("{value:x}")),
        ("d", Value::Int(value)) => Some(value.to_string()),
        ("02x", Value::Int(value)) => Some(format!("{value:02x}")),
        _ => None,
    }
}

/// A slice of a sequence of that many elements: the indices it takes.
pub(super) fn slice(length: usize, parts: [Option<i128>; 3]) -> Option<Vec<usize>> {
    let length = i128::try_from(length).ok()?;
    let step = parts[2].unwrap_or(1);
    if step == 0 {
        return None;
    }
    let clamp = |value: i128, low: i128, high: i128| {
        let value = if value < 0 { value.saturating_add(length) } else { value };
        value.clamp(low, high)
    };
    let (start, end) = if step > 0 {
        (parts[0].map_or(0, |v| clamp(v, 0, length)), parts[1].map_or(length, |v| clamp(v, 0, length)))
    } else {
        (parts[0].map_or(length - 1, |v| clamp(v, -1, length - 1)), parts[1].map_or(-1, |v| clamp(v, -1, length - 1)))
    };
    let mut indices = Vec::new();
    let mut at = start;
    while if step > 0 { at < end } else { at > end } {
        indices.push(usize::try_from(at).ok()?);
        at = at.checked_add(step)?;
    }
    Some(indices)
}

/// An index into a sequence of that many elements.
pub(super) fn index(length: usize, index: i128) -> Option<usize> {
    let length = i128::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    usize::try_from(index).ok().filter(|index| i128::try_from(*index).is_ok_and(|index| index < length))
}

/// A method of a constant text; `args` are constants.
pub(super) fn text_method(this: &str, name: &str, args: &[Value]) -> Option<Value> {
    let arg = |index: usize| args.get(index).and_then(Value::as_text);
    Some(match (name, args.len()) {
        ("lower" | "casefold", 0) => Value::text(this.to_lowercase()),
        ("upper", 0) => Value::text(this.to_uppercase()),
        ("swapcase", 0) => Value::text(
            this.chars()
                .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                .collect::<String>(),
        ),
        ("capitalize", 0) => {
            let mut rest = this.chars();
            let first: String = rest.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
            Value::text(format!("{first}{}", rest.as_str().to_lowercase()))
        }
        ("title", 0) => {
            let mut inside = false;
            let titled = this.chars().map(|c| {
                let c = if inside { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
                inside = c.is_alphabetic();
                c
            });
            Value::text(titled.collect::<String>())
        }
        ("strip", 0) => Value::text(this.trim()),
        ("lstrip", 0) => Value::text(this.trim_start()),
        ("rstrip", 0) => Value::text(this.trim_end()),
        ("strip", 1) => {
            let set = arg(0)?;
            Value::text(this.trim_matches(|c| set.contains(c)))
        }
        ("lstrip", 1) => {
            let set = arg(0)?;
            Value::text(this.trim_start_matches(|c| set.contains(c)))
        }
        ("rstrip", 1) => {
            let set = arg(0)?;
            Value::text(this.trim_end_matches(|c| set.contains(c)))
        }
        ("removeprefix", 1) => Value::text(this.strip_prefix(&*arg(0)?).unwrap_or(this)),
        ("removesuffix", 1) => Value::text(this.strip_suffix(&*arg(0)?).unwrap_or(this)),
        ("replace", 2 | 3) => {
            let (from, to) = (arg(0)?, arg(1)?);
            let limit = args.get(2).and_then(Value::as_int).and_then(|limit| usize::try_from(limit).ok());
            if this.len().saturating_mul(to.len() + 1) > LONGEST * 4 {
                return None;
            }
            match limit {
                Some(limit) => Value::text(this.replacen(&*from, &to, limit)),
                None => Value::text(this.replace(&*from, &to)),
            }
        }
        ("encode", _) => Value::Bytes(match arg(0) {
            None => this.as_bytes().into(),
            Some(codec) => match encode(this.as_bytes(), &codec)? {
                Value::Bytes(bytes) => bytes,
                _ => return None,
            },
        }),
        ("translate", 1) => return None,
        ("zfill", 1) => {
            let width = usize::try_from(args.first()?.as_int()?).ok()?.min(1000);
            Value::text(format!("{this:0>width$}"))
        }
        ("center" | "ljust" | "rjust", 1) if args.first()?.as_int()? <= i128::try_from(this.len()).ok()? => {
            Value::text(this)
        }
        ("startswith", 1) => Value::Bool(this.starts_with(&*arg(0)?)),
        ("endswith", 1) => Value::Bool(this.ends_with(&*arg(0)?)),
        ("isalpha", 0) => Value::Bool(!this.is_empty() && this.chars().all(char::is_alphabetic)),
        ("isdigit", 0) => Value::Bool(!this.is_empty() && this.chars().all(|c| c.is_ascii_digit())),
        ("isupper", 0) => Value::Bool(this.chars().any(char::is_uppercase) && !this.chars().any(char::is_lowercase)),
        ("islower", 0) => Value::Bool(this.chars().any(char::is_lowercase) && !this.chars().any(char::is_uppercase)),
        ("index" | "find", 1) => {
            let at = this.find(&*arg(0)?)?;
            Value::Int(i128::try_from(this.get(..at)?.chars().count()).ok()?)
        }
        ("count", 1) => Value::Int(i128::try_from(this.matches(&*arg(0)?).count()).ok()?),
        ("expandtabs" | "__str__" | "__format__", _) => Value::text(this),
        _ => return None,
    })
}

/// The parts of `text.split(…)` and its like.
pub(super) fn split(this: &str, name: &str, args: &[Value]) -> Option<Vec<Value>> {
    let arg = args.first().and_then(Value::as_text);
    let limit = args.get(1).and_then(Value::as_int).and_then(|limit| usize::try_from(limit).ok());
    let own = |part: &str| Value::text(part);
    Some(match (name, arg.as_deref(), limit) {
        ("split", None, None) => this.split_whitespace().map(own).collect(),
        ("split", Some(by), None) if !by.is_empty() => this.split(by).map(own).collect(),
        ("split", Some(by), Some(limit)) if !by.is_empty() => this.splitn(limit + 1, by).map(own).collect(),
        ("rsplit", Some(by), None) if !by.is_empty() => this.split(by).map(own).collect(),
        ("rsplit", Some(by), Some(limit)) if !by.is_empty() => {
            let mut parts: Vec<Value> = this.rsplitn(limit + 1, by).map(own).collect();
            parts.reverse();
            parts
        }
        ("splitlines", None, None) => this.lines().map(own).collect(),
        ("partition", Some(by), None) => {
            let (before, after) = this.split_once(by)?;
            vec![own(before), own(by), own(after)]
        }
        ("rpartition", Some(by), None) => {
            let (before, after) = this.rsplit_once(by)?;
            vec![own(before), own(by), own(after)]
        }
        _ => return None,
    })
}

/// A method of constant bytes.
pub(super) fn bytes_method(this: &[u8], name: &str, args: &[Value]) -> Option<Value> {
    Some(match (name, args.len()) {
        ("decode", _) => {
            let codec = args.first().and_then(Value::as_text);
            return decode(this, codec.as_deref().unwrap_or("utf-8"));
        }
        ("hex", 0) => Value::text(hex(this)),
        ("lower", 0) => Value::Bytes(this.to_ascii_lowercase().into()),
        ("upper", 0) => Value::Bytes(this.to_ascii_uppercase().into()),
        ("strip", 0) => Value::Bytes(this.trim_ascii().into()),
        ("replace", 2) => {
            let part = |index: usize| args.get(index).and_then(Value::as_source);
            let this = std::str::from_utf8(this).ok()?;
            let (from, to) = (part(0)?, part(1)?);
            if this.len().saturating_mul(to.len() + 1) > LONGEST * 4 {
                return None;
            }
            Value::Bytes(this.replace(&*from, &to).into_bytes().into())
        }
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn codec(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', ' '], "-")
}

/// `bytes.decode(codec)`, `codecs.decode(bytes, codec)`.
pub(super) fn decode(bytes: &[u8], name: &str) -> Option<Value> {
    let plain = || std::str::from_utf8(bytes).ok();
    Some(match codec(name).as_str() {
        "utf-8" | "utf8" | "ascii" | "us-ascii" | "u8" | "utf-8-sig" => Value::text(plain()?),
        "latin-1" | "latin1" | "iso-8859-1" | "l1" | "cp1252" | "cp437" => {
            Value::text(bytes.iter().map(|byte| char::from(*byte)).collect::<String>())
        }
        "unicode-escape" | "raw-unicode-escape" | "unicodeescape" | "string-escape" => {
            Value::text(super::literal::unescape(plain()?, false))
        }
        "utf-16" | "utf-16-le" | "utf-16le" | "utf-16-be" | "utf-16be" => {
            let big = codec(name).ends_with("be");
            let bytes = bytes.strip_prefix(b"\xff\xfe").unwrap_or(bytes);
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
                .map(|pair| if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
                .collect();
            Value::text(String::from_utf16(&units).ok()?)
        }
        "utf-7" | "utf7" => Value::text(plain().filter(|text| !text.contains('+'))?),
        "rot13" | "rot-13" => Value::text(rot13(plain()?)),
        "hex" | "hex-codec" => Value::Bytes(unhex(bytes)?.into()),
        "base64" | "base-64" | "base64-codec" => Value::Bytes(base64(bytes, false).into()),
        _ => return None,
    })
}

/// `text.encode(codec)`, `codecs.encode(text, codec)`.
pub(super) fn encode(bytes: &[u8], name: &str) -> Option<Value> {
    Some(match codec(name).as_str() {
        "utf-8" | "utf8" | "ascii" | "us-ascii" => Value::Bytes(bytes.into()),
        "latin-1" | "latin1" | "iso-8859-1" => {
            let text = std::str::from_utf8(bytes).ok()?;
            let narrow: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            Value::Bytes(narrow?.into())
        }
        "utf-16" | "utf-16-le" | "utf-16le" => {
            let text = std::str::from_utf8(bytes).ok()?;
            Value::Bytes(text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>().into())
        }
        "rot13" | "rot-13" => Value::text(rot13(std::str::from_utf8(bytes).ok()?)),
        "hex" | "hex-codec" => Value::Bytes(hex(bytes).into_bytes().into()),
        _ => return None,
    })
}

pub(super) fn rot13(text: &str) -> String {
    let turn = |c: char, first: u8| char::from((c as u8 - first + 13) % 26 + first);
    text.chars()
        .map(|c| match c {
            'a'..='z' => turn(c, b'a'),
            'A'..='Z' => turn(c, b'A'),
            c => c,
        })
        .collect()
}

/// Hexadecimal digits, white space between them allowed.
pub(super) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte != b':').collect();
    let value = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(value(*high)? << 4 | value(*low)?),
            _ => None,
        })
        .collect()
}

/// Base64 as Python reads it: what is not of the alphabet is skipped.
pub(super) fn base64(text: &[u8], url: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' if !url => 62,
            b'/' if !url => 63,
            b'-' if url => 62,
            b'_' if url => 63,
            b'=' => break,
            _ => continue,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(buffer >> bits & 0xff).unwrap_or(0));
        }
        buffer &= (1 << bits) - 1;
    }
    out
}

/// Base32 and Base85 as Python reads them.
pub(super) fn base32(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in text {
        let value = match byte.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => continue,
        };
        buffer = buffer << 5 | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(buffer >> bits & 0xff).unwrap_or(0));
        }
        buffer &= (1 << bits) - 1;
    }
    out
}

/// Base85 in the alphabet of `base64.b85decode`, or of `a85decode`.
pub(super) fn base85(text: &[u8], ascii: bool) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let mut digits = Vec::with_capacity(text.len());
    for byte in text {
        if byte.is_ascii_whitespace() {
            continue;
        }
        let digit = if ascii {
            byte.checked_sub(b'!').filter(|digit| *digit < 85)?
        } else {
            u8::try_from(ALPHABET.iter().position(|letter| letter == byte)?).ok()?
        };
        digits.push(digit);
    }
    let missing = (5 - digits.len() % 5) % 5;
    digits.extend(std::iter::repeat_n(84, missing));
    let mut out = Vec::new();
    for group in digits.chunks_exact(5) {
        let value = group.iter().fold(0_u64, |value, digit| value * 85 + u64::from(*digit));
        out.extend(u32::try_from(value).ok()?.to_be_bytes());
    }
    out.truncate(out.len().saturating_sub(missing));
    Some(out)
}

/// `%41` escapes.
pub(super) fn unquote(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| bytes.get(at + 1..at + 3).and_then(unhex)).flatten();
        if let Some([value]) = escaped.as_deref() {
            out.push(*value);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The characters of a text, each as a value.
pub(super) fn characters(text: &str) -> Vec<Value> {
    text.chars().map(|c| Value::Str(Rc::from(c.encode_utf8(&mut [0; 4]) as &str))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_read_what_python_reads() {
        assert_eq!(base64(b"cHJpbnQo\nMSk=", false), b"print(1)");
        assert_eq!(base32(b"N5ZQ===="), b"os");
        assert_eq!(base85(br"Z*u", false).unwrap(), b"os");
        assert_eq!(unhex(b"6f 73").unwrap(), b"os");
        assert_eq!(rot13("flfgrz"), "system");
        assert_eq!(unquote("%6fs"), "os");
        assert_eq!(decode(b"o\0s\0", "utf-16-le"), Some(Value::text("os")));
    }

    #[test]
    fn slices_and_indices_are_pythons() {
        assert_eq!(slice(4, [None, None, Some(-1)]).unwrap(), [3, 2, 1, 0]);
        assert_eq!(slice(4, [Some(-3), Some(100), Some(2)]).unwrap(), [1, 3]);
        assert_eq!(slice(0, [None, None, Some(-1)]).unwrap(), [] as [usize; 0]);
        assert_eq!((index(3, -1), index(3, 3), index(3, -4)), (Some(2), None, None));
    }

    #[test]
    fn formatting_is_pythons() {
        let values = [Value::text("sys"), Value::Int(116)];
        assert_eq!(percent("%s%c%%", &values), Some(Value::text("syst%")));
        assert_eq!(braces("{}{1:c}", |f| values.get(f.parse::<usize>().ok()?).cloned()), Some(Value::text("syst")));
        assert_eq!(binary("//", &Value::Int(-7), &Value::Int(2)), Some(Value::Int(-4)));
        assert_eq!(binary("<<", &Value::Int(1), &Value::Int(200)), None);
    }
}
