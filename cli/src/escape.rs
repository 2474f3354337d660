//! Text from elsewhere made safe to show: file names, arguments and messages can carry terminal control sequences,
//! line breaks that forge a line of ours, and bidirectional marks that show text in another order than it has.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character is shown escaped in our own lines: every control character (line breaks and tabs too), the
/// bidirectional marks, and the two separators that some terminals take for a line break.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control() || is_bidirectional(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}') || is_direction_override(c)
}

/// Whether a character embeds, overrides or isolates a direction of text (the marks of right-to-left text do not).
pub(crate) fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes one character the way Python and Rust programmers read it: `\n`, `\x1b`, `\u{202e}`.
pub(crate) fn push_escaped(out: &mut String, c: char) {
    let result = match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\0'..='\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
    debug_assert!(result.is_ok(), "writing to a string does not fail");
}

/// The text with everything unsafe escaped.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) { push_escaped(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_nothing_that_moves_the_cursor_or_turns_text_around() {
        for (text, shown) in [
            ("plain.py", "plain.py"),
            ("naïve 猫 🦫", "naïve 猫 🦫"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\x7f\0", "\\x7f\\x00"),
            ("evil\u{202e}yp.exe", "evil\\u{202e}yp.exe"),
            ("\u{2066}\u{2069}\u{200f}\u{61c}", "\\u{2066}\\u{2069}\\u{200f}\\u{61c}"),
            ("a\u{2028}b", "a\\u{2028}b"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert!(matches!(line("plain"), Cow::Borrowed(_)));
    }
}
