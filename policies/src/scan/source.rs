//! Sources: what is scanned is what runs.

use std::borrow::Cow;

use super::SourceLanguage;

/// A source, decoded and normalized: UTF-8 without byte-order mark, every line ended by a newline character alone.
///
/// This very text is scanned and given to the interpreter, which then ignores a coding cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    language: SourceLanguage,
    text: String,
}

/// Why bytes are not a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A byte that is no UTF-8.
    #[error("line {line} is not UTF-8")]
    NotUtf8 {
        /// Line of the byte, from 1.
        line: usize,
    },
    /// A coding cookie that names something else than UTF-8, ASCII or Latin-1.
    #[error("the source says it is encoded in `{name}`, and only utf-8, ascii and latin-1 are read")]
    Encoding {
        /// The name in the cookie, cut at 40 characters.
        name: String,
    },
    /// A byte the source's own ASCII cookie does not allow.
    #[error("line {line} is not ASCII, as the source says it is")]
    NotAscii {
        /// Line of the byte, from 1.
        line: usize,
    },
    /// A NUL character.
    #[error("line {line} contains a NUL character")]
    Nul {
        /// Line of the character, from 1.
        line: usize,
    },
    /// An archive or compiled code instead of text.
    #[error("this is {what}, not a text")]
    Binary {
        /// `a zip archive`, `compiled Python code`, …
        what: &'static str,
    },
}

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

impl Source {
    /// Decodes and normalizes.
    ///
    /// # Errors
    /// [`Refused`], if the bytes are something else than plain text.
    pub fn decode(bytes: &[u8], language: SourceLanguage) -> Result<Self, Refused> {
        if let Some(what) = binary(bytes) {
            return Err(Refused::Binary { what });
        }
        let (marked, bytes) = bytes.strip_prefix(UTF8_MARK).map_or((false, bytes), |rest| (true, rest));
        let text = match (language, cookie(bytes)) {
            (SourceLanguage::Python, Some(name)) => match encoding(&name) {
                Some(Encoding::Latin1) if !marked => bytes.iter().map(|byte| char::from(*byte)).collect(),
                Some(Encoding::Ascii) => match bytes.iter().position(|byte| !byte.is_ascii()) {
                    Some(at) => return Err(Refused::NotAscii { line: line_of(bytes, at) }),
                    None => utf8(bytes)?,
                },
                Some(Encoding::Utf8) => utf8(bytes)?,
                Some(Encoding::Latin1) | None => return Err(Refused::Encoding { name }),
            },
            _ => utf8(bytes)?,
        };
        if let Some(at) = text.find('\0') {
            return Err(Refused::Nul { line: line_of(text.as_bytes(), at) });
        }
        Ok(Self { language, text: newlines(&text).into_owned() })
    }

    /// The language.
    #[must_use]
    pub fn language(&self) -> SourceLanguage {
        self.language
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text, given away.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

enum Encoding {
    Utf8,
    Ascii,
    Latin1,
}

fn encoding(name: &str) -> Option<Encoding> {
    match name.to_ascii_lowercase().replace('_', "-").as_str() {
        "utf-8" | "utf8" | "utf-8-sig" | "utf8-sig" | "u8" => Some(Encoding::Utf8),
        "ascii" | "us-ascii" | "646" => Some(Encoding::Ascii),
        "latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "8859" | "cp819" | "l1" => Some(Encoding::Latin1),
        _ => None,
    }
}

/// What a coding cookie in the first two lines names (PEP 263).
fn cookie(bytes: &[u8]) -> Option<String> {
    let mut lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).take(3);
    let first = lines.next()?;
    cookie_in(first).or_else(|| {
        // The second line counts only if the first is blank or a comment; `\r\n` makes an empty piece between them.
        let blank = |line: &[u8]| {
            let line = line.trim_ascii_start();
            line.is_empty() || line.starts_with(b"#")
        };
        let mut second = lines.next()?;
        if second.is_empty() && bytes.get(first.len()..)?.starts_with(b"\r\n") {
            second = lines.next()?;
        }
        if blank(first) { cookie_in(second) } else { None }
    })
}

fn cookie_in(line: &[u8]) -> Option<String> {
    let comment = line.trim_ascii_start().strip_prefix(b"#")?;
    let at = comment.windows(7).position(|w| w == b"coding:" || w == b"coding=")?;
    let rest = comment.get(at + 7..)?.trim_ascii_start();
    let name: String = rest
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        .take(40)
        .map(|byte| char::from(*byte))
        .collect();
    (!name.is_empty()).then_some(name)
}

fn binary(bytes: &[u8]) -> Option<&'static str> {
    // Python runs a file that *ends* in a zip archive's directory, whatever it begins with.
    let tail = bytes.get(bytes.len().saturating_sub(65_557)..).unwrap_or_default();
    if bytes.starts_with(b"PK\x03\x04") || tail.contains(&0x05) && tail.windows(4).any(|w| w == b"PK\x05\x06") {
        Some("a zip archive")
    } else if bytes.get(2..4) == Some(b"\r\n") && bytes.get(1).is_some_and(|byte| (0x0b..=0x0f).contains(byte)) {
        Some("compiled Python code")
    } else if bytes.starts_with(b"\0asm") {
        Some("a WebAssembly module")
    } else if bytes.starts_with(b"\x7fELF") {
        Some("a native program")
    } else {
        None
    }
}

/// Whether there are 20 characters in a row that keys and tokens are made of: every form of a key that is looked for is
/// at least as long.
pub(crate) fn has_long_word(text: &str) -> bool {
    let mut run = 0;
    text.bytes().any(|byte| {
        run = if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') { run + 1 } else { 0 };
        run >= 20
    })
}

fn utf8(bytes: &[u8]) -> Result<String, Refused> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(Refused::NotUtf8 { line: line_of(bytes, error.valid_up_to()) }),
    }
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes.get(..at).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

/// CR LF and CR become LF, as Python and JavaScript themselves read them.
fn newlines(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(bytes: &[u8]) -> Result<String, Refused> {
        Source::decode(bytes, SourceLanguage::Python).map(Source::into_text)
    }

    #[test]
    fn text_is_normalized() {
        assert_eq!(python(b"\xef\xbb\xbfa\r\nb\rc\n").unwrap(), "a\nb\nc\n");
        assert_eq!(
            python(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n").unwrap(),
            "# -*- coding: latin-1 -*-\nx = '\u{e9}'\n"
        );
        assert_eq!(python("#!x\r\n# vim: set fileencoding=utf-8 :\n'é'".as_bytes()).unwrap().lines().count(), 3);
    }

    #[test]
    fn what_is_not_plain_text_is_refused() {
        let refused = |bytes: &[u8]| python(bytes).unwrap_err().to_string();
        assert!(refused(b"# coding: rot13\n").contains("`rot13`"));
        assert!(refused(b"\r\n# coding: utf-7\n").contains("`utf-7`"));
        assert!(refused(b"#\n#coding=unicode_escape\n").contains("`unicode_escape`"));
        assert!(refused(b"\xef\xbb\xbf# coding: latin-1\n").contains("latin-1"));
        assert_eq!(refused(b"# coding: ascii\n'\xc3\xa9'"), "line 2 is not ASCII, as the source says it is");
        assert_eq!(refused(b"a\n\xff"), "line 2 is not UTF-8");
        assert_eq!(refused(b"a\n\0"), "line 2 contains a NUL character");
        assert!(refused(b"print(1)\nPK\x05\x06").contains("zip"));
        assert!(refused(b"\xf3\x0d\r\n\0\0").contains("compiled"));
        // A cookie after a line of code is none.
        assert!(python(b"x = 1\n# coding: rot13\n").is_ok());
    }
}
