//! What a script prints, made safe for a terminal.
//!
//! A terminal obeys what it is sent: it can be told to set the clipboard, the title and the cursor, to answer as if
//! the user had typed, to overwrite what was shown before. Of all control characters a script's output keeps newline,
//! tab and colors (`ESC [ … m`); the others, and bytes that are not UTF-8, are shown escaped, for example `\x1b` or
//! `\r`. So are the characters that turn the direction of text around, with which a path in a traceback could read
//! like another one. Only terminals get this; files and pipes get every byte as it is.

use crate::escape;

/// The longest color sequence that is passed; the longest useful one has about 40 bytes.
const LONGEST_SEQUENCE: usize = 64;
/// Colors off, as the last thing a script says.
const RESET: &[u8] = b"\x1b[0m";

/// A filter for one stream. Sequences and characters may be split over any number of writes.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// The start of a sequence or character whose end has not come yet.
    held: Vec<u8>,
    /// Whether the last color sequence switched something on.
    colored: bool,
}

/// What the bytes at hand begin with.
enum Next {
    /// A text of this many bytes that may be shown as it is.
    Plain(usize),
    /// A color sequence of this many bytes.
    Color(usize),
    /// A control character of this many bytes.
    Control(char, usize),
    /// One byte that is no text.
    Byte(u8),
    /// Something whose end has not come.
    Unfinished,
}

impl Filter {
    /// Takes what the script wrote and gives back what the terminal may get of it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        if self.held.is_empty() {
            let used = self.show(bytes, &mut out);
            self.held.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(bytes);
            let used = self.show(&all, &mut out);
            all.drain(..used);
            self.held = all;
        }
        out
    }

    /// The end of the stream: what was held back, escaped, and colors off if the script left them on.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in std::mem::take(&mut self.held) {
            match byte {
                b' '..=b'~' => out.push(byte),
                _ => push_byte(&mut out, byte),
            }
        }
        if std::mem::take(&mut self.colored) {
            out.extend_from_slice(RESET);
        }
        out
    }

    /// Shows as much as is complete and says how many bytes that were.
    fn show(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            used += match next(rest) {
                Next::Plain(length) => {
                    out.extend_from_slice(rest.get(..length).unwrap_or_default());
                    length
                }
                Next::Color(length) => {
                    let sequence = rest.get(..length).unwrap_or_default();
                    out.extend_from_slice(sequence);
                    self.colored = !matches!(sequence, b"\x1b[m" | b"\x1b[0m");
                    length
                }
                Next::Control(c, length) => {
                    let mut text = String::new();
                    escape::push_escaped(&mut text, c);
                    out.extend_from_slice(text.as_bytes());
                    length
                }
                Next::Byte(byte) => {
                    push_byte(out, byte);
                    1
                }
                Next::Unfinished => break,
            };
        }
        used
    }
}

fn push_byte(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
}

fn next(bytes: &[u8]) -> Next {
    let plain = bytes.iter().take_while(|b| matches!(b, b'\n' | b'\t' | b' '..=b'~')).count();
    if plain > 0 {
        return Next::Plain(plain);
    }
    match bytes {
        [b'\x1b', ..] => color(bytes),
        [byte @ 0..=0x7f, ..] => Next::Control(char::from(*byte), 1),
        _ => character(bytes),
    }
}

/// `ESC [`, then digits, `;` and `:`, then `m`.
fn color(bytes: &[u8]) -> Next {
    match bytes.get(1) {
        None => return Next::Unfinished,
        Some(b'[') => {}
        Some(_) => return Next::Control('\x1b', 1),
    }
    let parameters = bytes.iter().skip(2).take_while(|b| matches!(b, b'0'..=b'9' | b';' | b':')).count();
    match bytes.get(2 + parameters) {
        Some(b'm') if 3 + parameters <= LONGEST_SEQUENCE => Next::Color(3 + parameters),
        None if parameters + 2 < LONGEST_SEQUENCE => Next::Unfinished,
        _ => Next::Control('\x1b', 1),
    }
}

/// One character of more than one byte. Continuation bytes that are missing at the end may still come.
fn character(bytes: &[u8]) -> Next {
    let start = bytes.get(..4).unwrap_or(bytes);
    let (valid, rest_may_come) = match std::str::from_utf8(start) {
        Ok(text) => (text, false),
        Err(error) => {
            let valid = start.get(..error.valid_up_to()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
            (valid, error.error_len().is_none())
        }
    };
    match valid.chars().next() {
        Some(c) if c.is_control() || escape::is_direction_override(c) => Next::Control(c, c.len_utf8()),
        Some(c) => Next::Plain(c.len_utf8()),
        None if rest_may_come && bytes.len() < 4 => Next::Unfinished,
        None => Next::Byte(bytes.first().copied().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[(&[u8], &str)] = &[
        (b"plain\ttext\n", "plain\ttext\n"),
        ("naïve 猫 🦫\n".as_bytes(), "naïve 猫 🦫\n"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (b"\x1b[1;38;2;1;2;3mx\x1b[m", "\x1b[1;38;2;1;2;3mx\x1b[m"),
        (b"\x1b[4:3mwavy\x1b[0m", "\x1b[4:3mwavy\x1b[0m"),
        // Left on: switched off at the end.
        (b"\x1b[31mred", "\x1b[31mred\x1b[0m"),
        // Clipboard, title, cursor, erasing, a question the terminal would answer, charsets, alternate screen.
        (b"\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        (b"\x1b]0;title\x1b\\", "\\x1b]0;title\\x1b\\"),
        (b"\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
        (b"\x1b[6n", "\\x1b[6n"),
        (b"\x1b(0", "\\x1b(0"),
        (b"\x1b[?1049h", "\\x1b[?1049h"),
        (b"\x1b[>4;2m", "\\x1b[>4;2m"),
        (b"100%\r200%\x08\x0b\x0c\0\x7f", "100%\\r200%\\x08\\x0b\\x0c\\x00\\x7f"),
        // The one-character forms of ESC [ and ESC ], as text and as bare bytes.
        ("\u{9b}31m\u{9d}0;t".as_bytes(), "\\u{9b}31m\\u{9d}0;t"),
        (b"\x9b31m", "\\x9b31m"),
        // Overrides of the direction are shown; the marks that right-to-left text needs stay.
        ("/x/\u{202e}yp.exe \u{2066}a\u{2069}".as_bytes(), "/x/\\u{202e}yp.exe \\u{2066}a\\u{2069}"),
        ("\u{200f}שלום\u{200e}".as_bytes(), "\u{200f}שלום\u{200e}"),
        (b"caf\xe9 \xff\xfe", "caf\\xe9 \\xff\\xfe"),
        // Cut off at the end.
        (b"\x1b", "\\x1b"),
        (b"\x1b[3", "\\x1b[3"),
        (b"\xf0\x9f\xa6", "\\xf0\\x9f\\xa6"),
        // Overlong and surrogate encodings are no characters.
        (b"\xc0\x9b\xed\xa0\x80", "\\xc0\\x9b\\xed\\xa0\\x80"),
        (b"\x1b\x1b[31mx\x1b[0m", "\\x1b\x1b[31mx\x1b[0m"),
        (b"\xc3\x1b[31mx\x1b[0m", "\\xc3\x1b[31mx\x1b[0m"),
    ];

    #[test]
    fn rows_in_one_write() {
        for (bytes, shown) in ROWS {
            let mut filter = Filter::default();
            let mut out = filter.push(bytes);
            out.extend(filter.finish());
            assert_eq!(String::from_utf8_lossy(&out), *shown);
        }
    }

    #[test]
    fn rows_cut_anywhere() {
        for (bytes, shown) in ROWS {
            for cut in 0..=bytes.len() {
                let mut filter = Filter::default();
                let mut out = filter.push(&bytes[..cut]);
                out.extend(filter.push(&bytes[cut..]));
                out.extend(filter.finish());
                assert_eq!(String::from_utf8_lossy(&out), *shown, "cut at {cut}");
            }
            let mut filter = Filter::default();
            let mut out = Vec::new();
            for byte in *bytes {
                out.extend(filter.push(&[*byte]));
            }
            out.extend(filter.finish());
            assert_eq!(String::from_utf8_lossy(&out), *shown, "byte by byte");
        }
    }

    #[test]
    fn a_text_prompt_is_not_held_back() {
        assert_eq!(Filter::default().push("Größe? ".as_bytes()), "Größe? ".as_bytes());
    }

    #[test]
    fn endless_sequences_are_not_kept() {
        let mut filter = Filter::default();
        let mut out = filter.push(b"\x1b[");
        for _ in 0..1000 {
            out.extend(filter.push(b"1;"));
            assert!(filter.held.len() < LONGEST_SEQUENCE);
        }
        assert!(out.starts_with(b"\\x1b[1;"));
    }
}
