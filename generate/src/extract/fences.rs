//! Fenced code blocks of CommonMark 0.31 (sections 4.5, 5.1, 5.2), in block quotes and list items too.
//!
//! Besides them only what decides where a fence may stand is read: containers, paragraphs (which some list items cannot interrupt, and
//! which go on without their containers) and HTML comments.

/// Containers inside each other; what is nested deeper is read as text. It keeps scanning linear.
const MOST_CONTAINERS: usize = 32;

/// What a block stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Quote,
    /// A list item whose content begins so many columns after its own begin.
    Item {
        offset: usize,
    },
}

/// A position in a line. Columns differ from bytes by tabs, which reach to the next multiple of four.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a str,
    column: usize,
    /// Columns of a tab that were not taken yet, its byte being gone.
    pending: usize,
}

impl<'a> Cursor<'a> {
    fn new(line: &'a str) -> Self {
        Self { rest: line, column: 0, pending: 0 }
    }

    /// Takes up to so many columns of spaces and tabs; how many there were.
    fn take_columns(&mut self, most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            if self.pending == 0 {
                if let Some(rest) = self.rest.strip_prefix(' ') {
                    (self.rest, self.pending) = (rest, 1);
                } else if let Some(rest) = self.rest.strip_prefix('\t') {
                    (self.rest, self.pending) = (rest, 4 - self.column % 4);
                } else {
                    break;
                }
            }
            let step = self.pending.min(most - taken);
            self.pending -= step;
            self.column += step;
            taken += step;
        }
        taken
    }

    /// Columns of spaces and tabs from here, without taking them; more than 1,000 are not counted.
    fn indent(mut self) -> usize {
        self.take_columns(1_000)
    }

    fn is_blank(&self) -> bool {
        self.rest.bytes().all(|byte| matches!(byte, b' ' | b'\t'))
    }

    /// Takes ASCII characters in front of which all spaces were taken.
    fn take(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        self.column += bytes;
    }

    /// What is left, the rest of a tab as spaces.
    fn push_to(&self, text: &mut String) {
        text.extend(std::iter::repeat_n(' ', self.pending));
        text.push_str(self.rest);
        text.push('\n');
    }
}

/// A line that opens a fenced block.
#[derive(Clone, Copy, Debug)]
struct Opening<'a> {
    mark: u8,
    length: usize,
    indent: usize,
    info: &'a str,
}

/// Bytes of that kind at the start of a text.
fn run(text: &str, mark: u8) -> usize {
    text.bytes().take_while(|byte| *byte == mark).count()
}

impl<'a> Opening<'a> {
    fn read(mut cursor: Cursor<'a>) -> Option<Self> {
        let indent = cursor.take_columns(4);
        let mark = *cursor.rest.as_bytes().first().filter(|byte| matches!(byte, b'`' | b'~'))?;
        let length = run(cursor.rest, mark);
        let info = cursor.rest.get(length..)?.trim();
        (indent < 4 && length >= 3 && (mark == b'~' || !info.contains('`'))).then_some(Self {
            mark,
            length,
            indent,
            info,
        })
    }

    fn is_closed_by(&self, mut cursor: Cursor<'_>) -> bool {
        let indent = cursor.take_columns(4);
        let length = run(cursor.rest, self.mark);
        indent < 4 && length >= self.length && cursor.rest.get(length..).is_some_and(|rest| rest.trim().is_empty())
    }
}

/// A fenced block as CommonMark reads it.
#[derive(Clone, Debug)]
pub(super) struct Fence<'a> {
    opening: Opening<'a>,
    containers: Vec<Container>,
    /// Number of the line that opens it, from 0.
    pub(super) start: usize,
    /// Number of the first line after it.
    pub(super) end: usize,
    /// Whether a line closed it, so that a later one might as well.
    pub(super) closed: bool,
    /// Its lines without containers and indentation, each with its line end.
    pub(super) content: String,
}

impl<'a> Fence<'a> {
    /// The words after the opening fence.
    pub(super) fn info(&self) -> &'a str {
        self.opening.info
    }
}

/// The block with a later end: length of its content and the first line after it.
pub(super) struct LaterEnd {
    pub(super) bytes: usize,
    pub(super) end: usize,
}

/// Reads the blocks of a text one after the other.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    lines: &'a [&'a str],
    line: usize,
    containers: Vec<Container>,
    /// Whether the line before belongs to a paragraph.
    paragraph: bool,
    /// Whether an HTML comment is open.
    comment: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(lines: &'a [&'a str]) -> Self {
        Self { lines, line: 0, containers: Vec::new(), paragraph: false, comment: false }
    }

    /// Goes on after a block that ends where CommonMark does not end it.
    pub(super) fn resume(&mut self, fence: &Fence<'a>, end: usize) {
        *self = Self {
            lines: self.lines,
            line: end,
            containers: fence.containers.clone(),
            paragraph: false,
            comment: false,
        };
    }

    /// The whole content that a block could have, and each of its later ends, the end of its container or of the text last.
    pub(super) fn later_ends(&self, fence: &Fence<'a>) -> (String, Vec<LaterEnd>) {
        let mut content = String::new();
        let mut ends = Vec::new();
        let mut number = fence.start + 1;
        while let Some(line) = self.lines.get(number) {
            let mut cursor = Cursor::new(line);
            if matched(&fence.containers, &mut cursor) < fence.containers.len() {
                break;
            }
            if fence.opening.is_closed_by(cursor) && number + 1 > fence.end {
                ends.push(LaterEnd { bytes: content.len(), end: number + 1 });
            }
            cursor.take_columns(fence.opening.indent);
            cursor.push_to(&mut content);
            number += 1;
        }
        ends.push(LaterEnd { bytes: content.len(), end: number });
        (content, ends)
    }

    fn read_fence(&mut self, opening: Opening<'a>) -> Fence<'a> {
        let start = self.line;
        self.line += 1;
        let mut content = String::new();
        let mut closed = false;
        while let Some(line) = self.lines.get(self.line) {
            let mut cursor = Cursor::new(line);
            if matched(&self.containers, &mut cursor) < self.containers.len() {
                break;
            }
            self.line += 1;
            if opening.is_closed_by(cursor) {
                closed = true;
                break;
            }
            cursor.take_columns(opening.indent);
            cursor.push_to(&mut content);
        }
        Fence { opening, containers: self.containers.clone(), start, end: self.line, closed, content }
    }

    /// Reads one line outside of blocks; the opening if it opens one.
    fn read_line(&mut self, line: &'a str) -> Option<Opening<'a>> {
        let mut cursor = Cursor::new(line);
        let kept = matched(&self.containers, &mut cursor);
        if self.comment && kept == self.containers.len() {
            self.comment = !line.contains("-->");
            return None;
        }
        self.comment = false;
        let mut started = false;
        loop {
            let in_paragraph = self.paragraph && !started && kept == self.containers.len();
            let mut ahead = cursor;
            if ahead.take_columns(4) == 4 || cursor.is_blank() {
                break;
            }
            if let Some(opening) = Opening::read(cursor) {
                self.close(kept, started);
                self.paragraph = false;
                return Some(opening);
            }
            let deepest = if started { self.containers.len() } else { kept };
            if deepest >= MOST_CONTAINERS {
                break;
            }
            let container = if ahead.rest.starts_with('>') {
                ahead.take(1);
                ahead.take_columns(1);
                Container::Quote
            } else if let Some(offset) = item(cursor, &mut ahead, in_paragraph) {
                Container::Item { offset }
            } else {
                break;
            };
            self.close(kept, started);
            self.containers.push(container);
            started = true;
            cursor = ahead;
        }
        if cursor.is_blank() {
            if !started {
                self.close_at_blank(kept);
            }
            self.paragraph = false;
            return None;
        }
        let mut text = cursor;
        let indented = text.take_columns(4) == 4;
        let goes_on = self.paragraph && !started;
        if text.rest.starts_with("<!--") && !indented {
            self.close(kept, started);
            self.paragraph = false;
            self.comment = !text.rest.get(4..).is_some_and(|rest| rest.contains("-->"));
            return None;
        }
        // A heading or a rule ends a paragraph; any other text goes on with it, even outside of the paragraph's containers.
        let ends = !indented && (is_heading(text.rest) || is_rule(text.rest));
        if !goes_on || ends {
            self.close(kept, started);
        }
        self.paragraph = !ends && (goes_on || !indented);
        None
    }

    /// Closes the containers that a line is not part of.
    fn close(&mut self, kept: usize, started: bool) {
        if !started {
            self.containers.truncate(kept);
        }
    }

    /// A blank line closes the quotes it is not part of. A list item that begins with a blank line ends at a second one.
    fn close_at_blank(&mut self, kept: usize) {
        self.containers.truncate(kept);
        let empty = self.line.checked_sub(1).and_then(|before| self.lines.get(before)).is_some_and(|before| {
            let marker = before.trim_start_matches([' ', '\t', '>']).trim_end();
            matches!(marker, "-" | "+" | "*") || marker.strip_suffix(['.', ')']).is_some_and(is_number)
        });
        if empty && matches!(self.containers.last(), Some(Container::Item { .. })) {
            self.containers.pop();
        }
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Fence<'a>;

    fn next(&mut self) -> Option<Fence<'a>> {
        while let Some(line) = self.lines.get(self.line) {
            if let Some(opening) = self.read_line(line) {
                return Some(self.read_fence(opening));
            }
            self.line += 1;
        }
        None
    }
}

/// Takes the marks of containers that a line begins with; how many of them it is part of.
fn matched(containers: &[Container], cursor: &mut Cursor<'_>) -> usize {
    for (index, container) in containers.iter().enumerate() {
        match container {
            Container::Quote => {
                let mut ahead = *cursor;
                if ahead.take_columns(4) == 4 || !ahead.rest.starts_with('>') {
                    return index;
                }
                ahead.take(1);
                ahead.take_columns(1);
                *cursor = ahead;
            }
            Container::Item { offset } => {
                if !cursor.is_blank() && cursor.indent() < *offset {
                    return index;
                }
                cursor.take_columns(*offset);
            }
        }
    }
    containers.len()
}

fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where the content of a list item begins, in columns from `line`, if one begins there; `ahead` is moved to it.
fn item(line: Cursor<'_>, ahead: &mut Cursor<'_>, in_paragraph: bool) -> Option<usize> {
    if is_rule(ahead.rest) {
        return None;
    }
    let digits = ahead.rest.bytes().take_while(u8::is_ascii_digit).count();
    let number = ahead.rest.get(..digits).unwrap_or_default();
    let mark = *ahead.rest.as_bytes().get(digits)?;
    let bullet = digits == 0 && matches!(mark, b'-' | b'+' | b'*');
    let ordered = is_number(number) && matches!(mark, b'.' | b')');
    if !(bullet || ordered) {
        return None;
    }
    let mut content = *ahead;
    content.take(digits + 1);
    let blank = content.is_blank();
    if !blank && content.indent() == 0 {
        return None;
    }
    if in_paragraph && (blank || ordered && number.trim_start_matches('0') != "1") {
        return None;
    }
    // More than four columns belong to indented code, which begins after one.
    let spaces = if blank || content.indent() > 4 { 1 } else { content.indent() };
    let offset = content.column + spaces - line.column;
    content.take_columns(spaces);
    *ahead = content;
    Some(offset)
}

fn is_heading(text: &str) -> bool {
    let marks = run(text, b'#');
    (1..=6).contains(&marks) && text.as_bytes().get(marks).is_none_or(|byte| matches!(byte, b' ' | b'\t'))
}

/// Whether a line is a thematic break, or the underline of a heading.
fn is_rule(text: &str) -> bool {
    let Some(mark) = text.bytes().next().filter(|byte| matches!(byte, b'-' | b'_' | b'*')) else { return false };
    let marks = text.bytes().filter(|byte| *byte == mark).count();
    marks >= 3 && text.bytes().all(|byte| byte == mark || matches!(byte, b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Info string and content of each block.
    fn read(text: &str) -> Vec<(String, String)> {
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        Scanner::new(&lines).map(|fence| (fence.info().to_owned(), fence.content)).collect()
    }

    #[test]
    fn blocks_are_those_of_commonmark() {
        for (text, blocks) in [
            // Section 4.5, in the order of its examples.
            ("```\n<\n >\n```\n", vec![("", "<\n >\n")]),
            ("~~~\n<\n >\n~~~", vec![("", "<\n >\n")]),
            ("``\nfoo\n``\n", vec![]),
            ("```\naaa\n~~~\n```", vec![("", "aaa\n~~~\n")]),
            ("~~~~\naaa\n~~~\n~~~~~", vec![("", "aaa\n~~~\n")]),
            ("```", vec![("", "")]),
            ("`````\n\n```\naaa", vec![("", "\n```\naaa\n")]),
            ("> ```\n> aaa\n\nbbb", vec![("", "aaa\n")]),
            ("```\n\n  \n```", vec![("", "\n  \n")]),
            (" ```\n aaa\naaa\n```", vec![("", "aaa\naaa\n")]),
            ("  ```\naaa\n  aaa\naaa\n  ```", vec![("", "aaa\naaa\naaa\n")]),
            ("   ```\n   aaa\n    aaa\n  aaa\n   ```", vec![("", "aaa\n aaa\naaa\n")]),
            ("    ```\n    aaa\n    ```", vec![]),
            ("   ```\naaa\n  ```", vec![("", "aaa\n")]),
            ("```\naaa\n    ```", vec![("", "aaa\n    ```\n")]),
            ("``` ```\naaa", vec![]),
            ("~~~~~~\naaa\n~~~ ~~", vec![("", "aaa\n~~~ ~~\n")]),
            ("foo\n```\nbar\n```\nbaz", vec![("", "bar\n")]),
            ("~~~~    ruby startline=3 $%@#$\ndef\n~~~~~~~", vec![("ruby startline=3 $%@#$", "def\n")]),
            ("````;\n````", vec![(";", "")]),
            ("``` aa ```\nfoo", vec![]),
            ("~~~ aa ``` ~~~\nfoo\n~~~", vec![("aa ``` ~~~", "foo\n")]),
            ("```\n``` aaa\n```", vec![("", "``` aaa\n")]),
            // Sections 5.1 and 5.2.
            ("> ```\nfoo\n```", vec![("", ""), ("", "")]),
            (">```\n>a\n> b\n>  c", vec![("", "a\nb\n c\n")]),
            ("   > ~~~\n >  a\n> ~~~", vec![("", " a\n")]),
            ("    > ```\n    > a", vec![]),
            ("> > ```\n> > a\n> b", vec![("", "a\n")]),
            ("1.  a\n\n    ```\n    foo\n    ```\n\n    baz", vec![("", "foo\n")]),
            ("- ```\n  a\n\n\n  b", vec![("", "a\n\n\nb\n")]),
            ("-    ```\n     a", vec![("", "a\n")]),
            ("-     ```\n      a", vec![]),
            ("-\n  ```\n  bar\n  ```", vec![("", "bar\n")]),
            ("-\n\n  ```\n    bar", vec![("", "  bar\n")]),
            ("123456789. ```\n           a", vec![("", "a\n")]),
            ("1234567890. ```\na", vec![]),
            ("-1. ```", vec![]),
            ("foo\n2. ```\n   a", vec![]),
            ("foo\n1. ```\n   a", vec![("", "a\n")]),
            ("foo\n-\n  ```\n  a", vec![("", "a\n")]),
            ("- a\n  > ```\n  > b\n  ```\n  c", vec![("", "b\n"), ("", "c\n")]),
            ("10) a\n   ```\nb", vec![("", "b\n")]),
            ("- - ```\n    a\n  b", vec![("", "a\n")]),
            ("> 1. > ```\n>    > a\n>    b", vec![("", "a\n")]),
            ("-\t```\n\ta\n\t\tb", vec![("", "a\n\tb\n")]),
            (">\t```\n>\ta\n>\t\tb", vec![("", "a\n\tb\n")]),
            ("* * *\n  ```\na", vec![("", "a\n")]),
            // Comments; only those that begin a line, and not further than their container.
            ("<!-- a\n```\nb\n-->\n```\nc", vec![("", "c\n")]),
            ("<!-- a -->\n```\nc", vec![("", "c\n")]),
            ("> <!-- a\n```\nc", vec![("", "c\n")]),
        ] {
            let blocks: Vec<(String, String)> =
                blocks.into_iter().map(|(info, content)| (info.to_owned(), content.to_owned())).collect();
            assert_eq!(read(text), blocks, "{text}");
        }
    }

    #[test]
    fn later_ends_stay_within_the_container() {
        let text = "> ```\n> a\n> ```\n> b\n> ```\n> c\nd\n```";
        let lines: Vec<&str> = text.split('\n').collect();
        let mut scanner = Scanner::new(&lines);
        let fence = scanner.next().unwrap();
        assert_eq!((fence.start, fence.end, fence.closed), (0, 3, true));
        let (content, ends) = scanner.later_ends(&fence);
        assert_eq!(content, "a\n```\nb\n```\nc\n");
        let found: Vec<(&str, usize)> = ends.iter().map(|it| (&content[..it.bytes], it.end)).collect();
        assert_eq!(found, [("a\n```\nb\n", 5), (&*content, 6)]);
        scanner.resume(&fence, 5);
        assert_eq!(scanner.next().map(|fence| fence.content), Some(String::new()));
    }
}
