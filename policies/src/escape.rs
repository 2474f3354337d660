//! Text from elsewhere made safe to show in one line: control characters could drive the terminal, bidirectional marks show
//! text in another order than it has, and what is invisible hides.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// The most marks on one character that are shown; more of them would paint over the lines above and below.
const MOST_MARKS: usize = 4;

/// Escapes text for one line of a diagnostic: control characters (line breaks and tabs too), bidirectional marks, and
/// characters that cannot be seen. `\n`, `\x1b`, `\u{202e}`, as Python and Rust programmers read them.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    // Printable ASCII is by far the most of it.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut escaper = Escaper::default();
    for c in text.chars() {
        escaper.push(&mut out, c);
    }
    Cow::Owned(out)
}

/// Escapes character by character.
#[derive(Default)]
pub(crate) struct Escaper {
    /// Marks on the character before; `None` at the beginning, where a mark has nothing to stand on.
    marks: Option<usize>,
}

impl Escaper {
    /// Adds a character as it is shown.
    pub(crate) fn push(&mut self, out: &mut String, c: char) {
        let mark = c.width() == Some(0);
        let escaped = is_unsafe(c) || mark && self.marks.is_none_or(|marks| marks >= MOST_MARKS);
        self.marks = match self.marks {
            Some(marks) if mark && !escaped => Some(marks + 1),
            _ => Some(0),
        };
        if escaped { push_escaped(out, c) } else { out.push(c) }
    }
}

/// Whether a character is always shown escaped.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Bidirectional marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Separators that some terminals take for a line break.
            | '\u{2028}' | '\u{2029}'
            // Nothing to see: soft hyphens, joiners, fillers, invisible operators, tags, variation selectors (two are
            // used with emoji and are left), annotation marks.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
            // Spaces that are none.
            | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}')
}

fn push_escaped(out: &mut String, c: char) {
    let result = match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\0'..='\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
    debug_assert!(result.is_ok(), "writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_drives_a_terminal_or_hides() {
        for (text, shown) in [
            ("plain.py", "plain.py"),
            ("naïve 猫 🦫", "naïve 猫 🦫"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\u{9b}31m\x7f\0", "\\u{9b}31m\\x7f\\x00"),
            ("evil\u{202e}yp.exe\u{2066}\u{200f}", "evil\\u{202e}yp.exe\\u{2066}\\u{200f}"),
            ("a\u{2028}b\u{200b}\u{feff}\u{e0041}", "a\\u{2028}b\\u{200b}\\u{feff}\\u{e0041}"),
            ("no\u{a0}break\u{3164}", "no\\u{a0}break\\u{3164}"),
            // Marks stand on a character, a few at most.
            ("e\u{301}", "e\u{301}"),
            ("\u{301}e", "\\u{301}e"),
            ("e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}", "e\u{301}\u{301}\u{301}\u{301}\\u{301}\u{301}"),
            ("❤\u{fe0f}", "❤\u{fe0f}"),
        ] {
            assert_eq!(escape(text), shown);
        }
        assert!(matches!(escape("plain"), Cow::Borrowed(_)));
    }
}
