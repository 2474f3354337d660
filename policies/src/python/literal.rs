//! Numbers and strings as they stand in a source.

use std::rc::Rc;

use super::ast::Kind;

/// The longest string that is followed.
pub(super) const LONGEST: usize = 1 << 18;

/// An integer literal; `Int(None)` if it is larger than is counted with. A `j` makes it something else.
pub(super) fn number(text: &str) -> Kind {
    if text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Kind::Int(text.parse().ok());
    }
    let text = text.replace('_', "").to_ascii_lowercase();
    if text.ends_with('j') && !text.starts_with("0x") {
        return Kind::Other(Vec::new());
    }
    let text = text.trim_end_matches('l');
    let value = if let Some(digits) = text.strip_prefix("0x") {
        i128::from_str_radix(digits, 16)
    } else if let Some(digits) = text.strip_prefix("0o") {
        i128::from_str_radix(digits, 8)
    } else if let Some(digits) = text.strip_prefix("0b") {
        i128::from_str_radix(digits, 2)
    } else {
        text.parse()
    };
    Kind::Int(value.ok())
}

/// Prefix and quotes of a string literal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) raw: bool,
    pub(super) format: bool,
    bytes: bool,
    start: usize,
    quotes: usize,
}

/// How a string literal is written.
pub(super) fn form(text: &str) -> Option<Form> {
    let start = text.find(['"', '\''])?;
    let prefix = text.get(..start)?;
    let has = |letter: u8| prefix.bytes().any(|byte| byte.eq_ignore_ascii_case(&letter));
    let quotes =
        if text.len() >= start + 6 && matches!(text.get(start..start + 3), Some("\"\"\"" | "'''")) { 3 } else { 1 };
    Some(Form { raw: has(b'r'), format: has(b'f') || has(b't'), bytes: has(b'b'), start, quotes })
}

impl Form {
    pub(super) fn value(self, text: &str) -> Kind {
        let from = self.start + self.quotes;
        let to = text.len().saturating_sub(self.quotes).max(from);
        let inner = text.get(from..to).unwrap_or_default();
        if self.bytes {
            let bytes: Vec<u8> = unescape_as(inner, self.raw, true)
                .chars()
                .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
                .collect();
            Kind::Bytes(Rc::from(bytes))
        } else {
            Kind::Str(if self.raw || !inner.contains('\\') { inner.into() } else { unescape(inner, self.raw).into() })
        }
    }
}

/// A string without its escapes.
pub(super) fn unescape(text: &str, raw: bool) -> String {
    unescape_as(text, raw, false)
}

fn unescape_as(text: &str, raw: bool, bytes: bool) -> String {
    if raw || !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = rest.next() else { break };
        let mut digits = |radix: u32, most: usize, first: Option<char>| {
            let (mut value, mut seen) =
                (first.and_then(|c| c.to_digit(radix)).unwrap_or(0), usize::from(first.is_some()));
            while seen < most {
                let Some(digit) = rest.peek().and_then(|c| c.to_digit(radix)) else { break };
                value = value * radix + digit;
                seen += 1;
                rest.next();
            }
            char::from_u32(value).unwrap_or('\u{fffd}')
        };
        match escape {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'v' => out.push('\u{b}'),
            '\\' | '\'' | '"' => out.push(escape),
            'x' => out.push(digits(16, 2, None)),
            '0'..='7' => out.push(digits(8, 3, Some(escape))),
            'u' if !bytes => out.push(digits(16, 4, None)),
            'U' if !bytes => out.push(digits(16, 8, None)),
            'N' if !bytes && rest.peek() == Some(&'{') => {
                let name: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                out.push(named(&name));
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out
}

/// The character of that Unicode name, for those a name of Python can be made of.
fn named(name: &str) -> char {
    let name = name.to_ascii_uppercase();
    let letter = |rest: &str| rest.chars().next().filter(|_| rest.len() == 1);
    if let Some(c) = name.strip_prefix("LATIN SMALL LETTER ").and_then(letter) {
        return c.to_ascii_lowercase();
    }
    if let Some(c) = name.strip_prefix("LATIN CAPITAL LETTER ").and_then(letter) {
        return c;
    }
    match name.as_str() {
        "LOW LINE" => '_',
        "FULL STOP" => '.',
        "SPACE" => ' ',
        "SOLIDUS" => '/',
        "TILDE" => '~',
        "LEFT PARENTHESIS" => '(',
        "RIGHT PARENTHESIS" => ')',
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> String {
        match form(source).unwrap().value(source) {
            Kind::Str(text) => text.to_string(),
            Kind::Bytes(bytes) => format!("b{:?}", String::from_utf8_lossy(&bytes)),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn strings_mean_what_python_reads() {
        assert_eq!(text(r#"'a\x62\143\u0064\N{LATIN SMALL LETTER E}\n'"#), "abcde\n");
        assert_eq!(text(r#"r'\x62'"#), r"\x62");
        assert_eq!(text("'''a\\\nb'''"), "ab");
        assert_eq!(text(r#"b'\x6f\163'"#), "b\"os\"");
        assert_eq!(text("''"), "");
        assert_eq!(text(r"'\q\'"), r"\q");
    }

    #[test]
    fn numbers_have_every_base() {
        let value = |text: &str| match number(text) {
            Kind::Int(value) => value,
            _ => None,
        };
        assert_eq!(
            [value("0x1F"), value("1_000"), value("0b11"), value("0o17")],
            [Some(31), Some(1000), Some(3), Some(15)]
        );
        assert_eq!(value(&"9".repeat(60)), None);
    }
}
