//! Server-sent events: bytes to events (WHATWG HTML, section 9.2.6).
//!
//! What differs from the text of the standard: the data stays bytes, so that whoever reads them as JSON refuses bad UTF-8
//! instead of seeing replacement characters; `id` and `retry` have no meaning, since a call is never resumed; an event has a
//! size that it cannot exceed; and lines that are no field of the standard are told, because Gemini sends its errors as
//! such lines.

use crate::wire::{MAX_EVENT_BYTES, WireError, extend_within};

/// Bytes of a buffer that are kept for the next line or event.
const KEPT_BYTES: usize = 16 * 1024;

/// What a stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// One event with data.
    Event {
        /// Value of the last `event` field; empty if there was none.
        name: &'a [u8],
        /// Values of the `data` fields, joined by line feeds.
        data: &'a [u8],
    },
    /// A line with another name than the standard's. It belongs to no event.
    Foreign(&'a [u8]),
}

/// Splits bytes, cut anywhere, into events. Holds at most two times [`MAX_EVENT_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The line that has begun.
    line: Vec<u8>,
    /// The data of the event that has begun, a line feed after each field.
    data: Vec<u8>,
    /// Its name.
    name: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed now belongs to it.
    after_return: bool,
    /// A line has ended, so that no byte-order mark can come.
    begun: bool,
}

impl Decoder {
    /// Takes the next bytes and tells `take` of what they complete.
    ///
    /// # Errors
    ///
    /// An event that is too large, or what `take` says. Nothing more may be pushed then.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Item<'_>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = rest.iter().position(|it| matches!(it, b'\n' | b'\r')) else {
                return self.keep(rest);
            };
            let (line, after) = rest.split_at(end);
            self.after_return = after.first() == Some(&b'\r');
            rest = after.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.check(line.len())?;
                self.end_line(line, &mut take)?;
            } else {
                self.keep(line)?;
                let mut whole = std::mem::take(&mut self.line);
                self.end_line(&whole, &mut take)?;
                whole.clear();
                whole.shrink_to(KEPT_BYTES);
                self.line = whole;
            }
        }
        Ok(())
    }

    /// The line that was not ended. By the standard, it and the event that it belongs to do not count.
    pub(crate) fn rest(&self) -> &[u8] {
        if self.begun { &self.line } else { without_mark(&self.line) }
    }

    /// Bytes that the buffers can hold without growing.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn held(&self) -> usize {
        self.line.capacity() + self.data.capacity() + self.name.capacity()
    }

    fn check(&self, further: usize) -> Result<(), WireError> {
        let used = self.line.len() + self.data.len() + self.name.len();
        if used.saturating_add(further) > MAX_EVENT_BYTES {
            return Err(WireError::protocol("an event is larger than 1 MiB"));
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.check(bytes.len())?;
        extend_within(&mut self.line, bytes, MAX_EVENT_BYTES - self.data.len() - self.name.len());
        Ok(())
    }

    fn end_line(
        &mut self,
        line: &[u8],
        take: &mut impl FnMut(Item<'_>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let line = if std::mem::replace(&mut self.begun, true) { line } else { without_mark(line) };
        if line.is_empty() {
            return self.end_event(take);
        }
        let (name, value) = match line.iter().position(|it| *it == b':') {
            Some(colon) => (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default()),
            None => (line, &[] as &[u8]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                extend_within(&mut self.data, value, MAX_EVENT_BYTES);
                extend_within(&mut self.data, b"\n", MAX_EVENT_BYTES);
            }
            b"event" => {
                self.name.clear();
                self.name.shrink_to(value.len());
                extend_within(&mut self.name, value, value.len());
            }
            // A comment has an empty name.
            b"" | b"id" | b"retry" => {}
            _ => return take(Item::Foreign(line)),
        }
        Ok(())
    }

    fn end_event(&mut self, take: &mut impl FnMut(Item<'_>) -> Result<(), WireError>) -> Result<(), WireError> {
        let told = match self.data.strip_suffix(b"\n") {
            Some(data) => take(Item::Event { name: &self.name, data }),
            None => Ok(()),
        };
        self.data.clear();
        self.data.shrink_to(KEPT_BYTES);
        self.name.clear();
        self.name.shrink_to(0);
        told
    }
}

/// The first line of a stream may begin with a byte-order mark.
fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::fuzzing;
    use crate::wire::testing::Numbers;

    /// Name and data of the events, and what lines were foreign.
    fn decode(packets: &[&[u8]]) -> (Vec<(String, String)>, Vec<String>, String) {
        let (mut events, mut foreign) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::default();
        let text = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
        for packet in packets {
            let take = |item: Item<'_>| {
                match item {
                    Item::Event { name, data } => events.push((text(name), text(data))),
                    Item::Foreign(line) => foreign.push(text(line)),
                }
                Ok(())
            };
            decoder.push(packet, take).unwrap();
        }
        (events, foreign, text(decoder.rest()))
    }

    #[test]
    fn a_stream_is_read_as_the_standard_says() {
        let rows: &[(&str, &[(&str, &str)])] = &[
            ("data: a\n\n", &[("", "a")]),
            ("data:a\n\n", &[("", "a")]),
            ("data:  a \n\n", &[("", " a ")]),
            ("data\n\n", &[("", "")]),
            ("data\ndata\n\n", &[("", "\n")]),
            ("data:\n\n", &[("", "")]),
            ("data: a\ndata: b\n\n", &[("", "a\nb")]),
            ("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &[("", "a"), ("", "b")]),
            ("data: a\r\rdata: b\r\r", &[("", "a"), ("", "b")]),
            ("data: a\r\n\ndata: b\n\r", &[("", "a"), ("", "b")]),
            ("\u{FEFF}data: a\n\n", &[("", "a")]),
            ("\u{FEFF}\u{FEFF}data: a\n\n", &[]),
            ("\n\u{FEFF}data: a\n\n", &[]),
            (": a\n\ndata: b\n\n", &[("", "b")]),
            ("event: x\ndata: a\n\ndata: b\n\n", &[("x", "a"), ("", "b")]),
            ("event: x\nevent: y\ndata: a\n\n", &[("y", "a")]),
            ("event: x\n\ndata: a\n\n", &[("", "a")]),
            ("event\ndata: a:b\n\n", &[("", "a:b")]),
            ("id: 1\nretry: 2\ndata: a\n\n", &[("", "a")]),
            (" data: a\n\nData: a\n\ndatas: a\n\n", &[]),
            // The last event has no blank line, so it does not count.
            ("data: a\n", &[]),
            ("data: a", &[]),
            ("data: a\n\ndata: b\n", &[("", "a")]),
            ("data: größe → 🦀\n\n", &[("", "größe → 🦀")]),
        ];
        for (text, expected) in rows {
            let expected: Vec<_> = expected.iter().map(|(name, data)| (name.to_string(), data.to_string())).collect();
            let whole = decode(&[text.as_bytes()]);
            assert_eq!(whole.0, expected, "{text:?}");
            assert_eq!(decode(&text.as_bytes().chunks(1).collect::<Vec<_>>()), whole, "{text:?}");
        }
    }

    #[test]
    fn lines_of_no_field_are_told() {
        let (events, foreign, rest) = decode(&[b"data: a\n{\n  \"error\": {}\n}\n\n<html>\nrest"]);
        assert_eq!(events, [(String::new(), "a".to_owned())]);
        assert_eq!(foreign, ["{", "  \"error\": {}", "}", "<html>"]);
        assert_eq!(rest, "rest");
    }

    #[test]
    fn any_bytes_in_any_split_are_read_as_another_decoder_reads_them() {
        let pieces = [
            "data", "data:", "data: ", "event: ", "event:x", "id: 1", "retry: 5", "\n", "\n", "\n\n", "\r", "\r\n",
            ":", " ", "a", "ü", "🦀", "{", ": c", "\u{FEFF}", "datax: 1", "data: b
", "data:c

", "

",
        ];
        let mut numbers = Numbers(1);
        let mut events = 0;
        for round in 0..40_000 {
            let text: String = (0..numbers.below(24)).map(|_| pieces[numbers.below(pieces.len())]).collect();
            let mut rest = text.as_bytes();
            let mut packets = Vec::new();
            while !rest.is_empty() {
                let (packet, after) = rest.split_at((1 + numbers.below(1 << (round % 6))).min(rest.len()));
                packets.push(packet);
                rest = after;
            }
            let whole = fuzzing::decode(&[text.as_bytes()]);
            assert_eq!(fuzzing::decode(&packets), whole, "{text:?}");
            events += fuzzing::compare(&packets, &whole);
        }
        assert!(events > 20_000, "{events} events");
    }

    #[test]
    fn an_event_larger_than_a_mebibyte_is_refused_and_one_as_large_is_not() {
        for (field, lines) in [("data: ", 1), ("data: ", 1000), (": ", 1), ("event: ", 1), ("nothing", 1)] {
            for (excess, fits) in [(0, true), (1, false)] {
                let line = MAX_EVENT_BYTES / lines;
                let mut text = String::new();
                for _ in 1..lines {
                    text.push_str(&format!("{field}{}\n", "x".repeat(line - field.len())));
                }
                // What a `data` line leaves behind: its value and a line feed.
                let left = (lines - 1) * (line - field.len() + 1);
                text.push_str(&format!("{field}{}\n\n", "x".repeat(MAX_EVENT_BYTES - left - field.len() + excess)));
                for size in [1000, text.len()] {
                    let mut decoder = Decoder::default();
                    let mut most = 0;
                    let read = text.as_bytes().chunks(size).try_for_each(|it| {
                        let pushed = decoder.push(it, |_| Ok(()));
                        most = most.max(decoder.held());
                        pushed
                    });
                    assert_eq!(read.is_ok(), fits, "{field} {lines} {excess} {size}");
                    assert!(read.is_ok() || read.unwrap_err().kind == ErrorKind::Protocol);
                    assert!(most <= 2 * MAX_EVENT_BYTES, "{most} bytes");
                }
            }
        }
    }

    /// How many bytes of each hostile stream are read: 6 MiB, or `CAPIBARA_HOSTILE_BYTES`.
    fn hostile_bytes() -> u64 {
        match std::env::var("CAPIBARA_HOSTILE_BYTES") {
            Ok(bytes) => bytes.parse().unwrap(),
            Err(_) => 6 * 1024 * 1024,
        }
    }

    #[test]
    fn a_hostile_stream_holds_two_mebibytes_at_most() {
        let line = |field: &str, bytes: usize| format!("{field}{}\n", "x".repeat(bytes - field.len() - 1)).into_bytes();
        let mebi = MAX_EVENT_BYTES;
        // What is repeated, and whether that makes an event larger than 1 MiB.
        let rows = [
            (vec![b'x'; 4096], true),
            (b"data: ".repeat(1000), true),
            (line("data: ", 4096), true),
            (b"data\n".to_vec(), true),
            (vec![b':'; 4096], true),
            (line(": ", 4096), false),
            (line("event: ", mebi / 2), false),
            ([line("event: ", mebi / 2), line("data: ", mebi / 2), b"\n".to_vec()].concat(), false),
            ([line(": ", mebi), line("data: ", mebi - 1), b"\n".to_vec()].concat(), false),
            ([line("data: ", mebi / 4), line("data: ", mebi / 4), line("x", mebi / 2), b"\r".to_vec()].concat(), false),
            (b"data: x\n\n".to_vec(), false),
            (b"\r\n".to_vec(), false),
            (b"\xEF\xBB\xBF\n".to_vec(), false),
        ];
        for (piece, refused) in rows {
            let mut decoder = Decoder::default();
            let (mut read, mut most, mut failed) = (0, 0, None);
            let packet = piece.repeat(1 + 4096 / piece.len());
            while read < hostile_bytes() && failed.is_none() {
                for part in packet.chunks(5000) {
                    failed = failed.or(decoder.push(part, |_| Ok(())).err());
                    read += u64::try_from(part.len()).unwrap();
                    most = most.max(decoder.held());
                }
            }
            let name = String::from_utf8_lossy(&piece[..piece.len().min(20)]).into_owned();
            assert_eq!(failed.is_some(), refused, "{name:?} after {read} bytes");
            // `data` alone adds one byte to the event in five.
            assert!(!refused || read < 6 * u64::try_from(mebi).unwrap(), "{name:?} after {read} bytes");
            assert!(most <= 2 * mebi, "{name:?}: {most} bytes");
        }
    }
}
