//! Findings as a compiler shows them: severity and rule, the place, the line with a caret, one line of advice.
//!
//! A script wrote what is shown here, so everything from it is escaped ([`escape`](crate::escape)) before it is laid out,
//! and a long line is cut around the place. The layout is that of the crate `annotate-snippets`.

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use unicode_width::UnicodeWidthStr;

use crate::escape::{Escaper, escape};
use crate::report_json::Summary;
use crate::{Finding, Report, Severity, Span, Verdict};

/// Columns of a tab.
const TAB: &str = "    ";
/// A line is never cut to less than this.
const NARROWEST: usize = 24;

/// How findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether to use the colors of a terminal. Default no.
    pub color: bool,
    /// Columns of the terminal; lines of code are cut to fit. Default 100.
    pub width: usize,
    /// Whether findings are shown that an allow list entry lets pass. Default no: they are only counted.
    pub allowed: bool,
    /// The most findings shown of one file; how many more there are is said. Default 100.
    pub most: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { color: false, width: 100, allowed: false, most: 100 }
    }
}

/// The findings of one file, each followed by an empty line; empty if there are none to show. `text` is the normalized
/// text that was scanned ([`Source::text`](crate::Source::text)); without it no code is shown.
///
/// The word before the rule is the finding's severity. Where its effect is not the usual one (an error that does not
/// deny, anything else that does), a note says so.
#[must_use]
pub fn render(report: &Report, text: Option<&str>, options: &Options) -> String {
    let renderer = if options.color { Renderer::styled() } else { Renderer::plain() };
    // Lines are cut here, so the renderer shall not.
    let renderer = renderer.term_width(usize::from(u16::MAX));
    let mut out = String::new();
    let mut places = Places::new(text.unwrap_or_default());
    let shown = report.findings.iter().filter(|finding| options.allowed || finding.allowed.is_none());
    for finding in shown.clone().take(options.most) {
        let line = text.and_then(|_| places.line(finding.span, options.width));
        out.push_str(&renderer.render(&[group(finding, line.as_ref())]));
        out.push_str("\n\n");
    }
    let more = shown.count().saturating_sub(options.most);
    if more > 0 {
        out.push_str(&format!("and {} more\n\n", count(more, "finding")));
    }
    out
}

/// One line about all files of a scan, without a newline:
/// `denied: 3 findings (1 error, 2 warnings) in 1 of 12 files, 4 allowed by the policy`.
#[must_use]
pub fn summary_line(summary: &Summary) -> String {
    let verdict = match summary.verdict() {
        Verdict::Allow => "allowed",
        Verdict::Warn => "allowed with warnings",
        Verdict::Deny => "denied",
    };
    let counts = [
        (summary.findings.error, "error"),
        (summary.findings.warning, "warning"),
        (summary.findings.unprovable, "unprovable"),
    ];
    let kinds: Vec<String> = counts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, kind)| if kind == "unprovable" { format!("{number} {kind}") } else { count(number, kind) })
        .collect();
    let findings = summary.findings.total();
    let mut line = format!("{verdict}: ");
    if findings == 0 {
        line.push_str(&format!("no findings in {}", count(summary.files, "file")));
    } else {
        let files = match (summary.warn + summary.deny, summary.files) {
            (_, 1) => count(1, "file"),
            (some, all) => format!("{some} of {}", count(all, "file")),
        };
        line.push_str(&format!("{} ({}) in {files}", count(findings, "finding"), kinds.join(", ")));
    }
    if summary.allowed > 0 {
        line.push_str(&format!(", {} allowed by the policy", summary.allowed));
    }
    if summary.unread > 0 {
        line.push_str(&format!(", {} could not be read", count(summary.unread, "file")));
    }
    line
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn group<'a>(finding: &'a Finding, line: Option<&CutLine>) -> Group<'a> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Unprovable => Level::INFO,
    };
    let title =
        level.with_name(finding.severity.name()).primary_title(escape(&finding.message)).id(escape(&finding.rule));
    let origin = Origin::path(escape(&finding.path)).line(finding.span.line as usize);
    let mut elements: Vec<Element<'a>> = vec![origin.char_column(finding.span.column as usize).into()];
    if let Some(line) = line {
        let mark = AnnotationKind::Primary.span(line.start..line.end);
        let snippet = Snippet::source(line.text.clone()).line_start(finding.span.line as usize).fold(false);
        elements.push(snippet.annotation(mark).into());
    }
    if !finding.advice.is_empty() {
        elements.push(Level::HELP.message(escape(&finding.advice)).into());
    }
    let note = match (&finding.allowed, finding.severity, finding.effect) {
        (Some(reason), ..) => Some(format!("allowed by the policy: {}", escape(reason))),
        (None, Severity::Error, Verdict::Allow | Verdict::Warn) => Some("the policy does not deny this".to_owned()),
        (None, Severity::Warning | Severity::Unprovable, Verdict::Deny) => Some("the policy denies this".to_owned()),
        (None, ..) => None,
    };
    elements.extend(note.map(|note| Level::NOTE.message(note).into()));
    title.elements(elements)
}

/// A line of code as it is shown, and the bytes of it to mark.
#[derive(Debug, PartialEq, Eq)]
struct CutLine {
    text: String,
    start: usize,
    end: usize,
}

/// Finds lines and columns in a text. Findings come in order, so a place is mostly found from the one before.
struct Places<'a> {
    text: &'a str,
    lines: Vec<usize>,
    /// A line, and a column of it (from 0) with the bytes before it.
    last: (usize, usize, usize),
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, lines, last: (0, 0, 0) }
    }

    /// The line of a place, cut around it; `None` if there is no such line or nothing on it.
    fn line(&mut self, span: Span, width: usize) -> Option<CutLine> {
        let index = (span.line as usize).checked_sub(1)?;
        let start = *self.lines.get(index)?;
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| next - 1);
        let line = self.text.get(start..end)?;
        if line.is_empty() {
            return None;
        }
        let column = (span.column as usize).saturating_sub(1);
        let marked = match (span.end_line == span.line, span.end_column.checked_sub(span.column)) {
            (true, Some(marked)) => marked as usize,
            (true, None) => 0,
            (false, _) => usize::MAX,
        };
        let at = self.byte(index, line, column);
        // Line number, bar and spaces of the gutter.
        let gutter = span.line.checked_ilog10().unwrap_or(0) as usize + 4;
        Some(cut(line, at, marked, width.saturating_sub(gutter).max(NARROWEST)))
    }

    /// The byte at which a column (from 0) of a line begins, or the line's end.
    fn byte(&mut self, index: usize, line: &str, column: usize) -> usize {
        let (from_column, from_byte) = match self.last {
            (last, from, byte) if last == index && from <= column => (from, byte),
            _ => (0, 0),
        };
        let rest = line.get(from_byte..).unwrap_or_default();
        let at = rest.char_indices().nth(column - from_column).map_or(line.len(), |(at, _)| from_byte + at);
        if at < line.len() {
            self.last = (index, column, at);
        }
        at
    }
}

/// Cuts a line to `width` columns around `marked` characters from byte `at`, and escapes it. Reads no more of the line
/// than could be shown.
fn cut(line: &str, at: usize, marked: usize, width: usize) -> CutLine {
    let (before, after) = line.split_at_checked(at).unwrap_or((line, ""));
    let from = before.char_indices().rev().take(width).last().map_or(at, |(from, _)| from);
    let window = line.get(from..).unwrap_or_default();
    let pieces = pieces(window.chars().take(2 * width));
    let first = before.get(from..).unwrap_or_default().chars().count();
    let last = first.saturating_add(marked).min(pieces.len());
    let columns = |pieces: &[String]| pieces.iter().map(|piece| piece.width()).sum::<usize>();

    // Which pieces are shown: of what stands before a third of the width, then the place and what follows, then more of
    // what stands before. Two columns are for the marks of the cuts.
    let whole = from == 0 && after.chars().nth(width).is_none() && columns(&pieces) <= width;
    let room = if whole { width } else { width.saturating_sub(2) };
    let (mut low, mut high, mut used) = (first, first, 0);
    let back = |low: &mut usize, used: &mut usize, room: usize| {
        while let Some(piece) = low.checked_sub(1).and_then(|index| pieces.get(index)) {
            if *used + piece.width() > room {
                break;
            }
            *used += piece.width();
            *low -= 1;
        }
    };
    back(&mut low, &mut used, if whole { room } else { room / 3 });
    while let Some(piece) = pieces.get(high) {
        if used + piece.width() > room {
            break;
        }
        used += piece.width();
        high += 1;
    }
    back(&mut low, &mut used, room);

    let mut text = if low > 0 || from > 0 { "…".to_owned() } else { String::new() };
    let (mut start, mut end) = (text.len(), text.len());
    for (index, piece) in pieces.iter().enumerate().take(high).skip(low) {
        text.push_str(piece);
        if index < first {
            start = text.len();
        }
        if index < last {
            end = text.len();
        }
    }
    if high < pieces.len() || after.chars().nth(width).is_some() {
        text.push('…');
    }
    CutLine { text, start, end: end.max(start) }
}

/// Each character as it is shown.
fn pieces(chars: impl Iterator<Item = char>) -> Vec<String> {
    let mut escaper = Escaper::default();
    let piece = |c| {
        let mut piece = String::new();
        if c == '\t' {
            piece.push_str(TAB)
        } else {
            escaper.push(&mut piece, c)
        }
        piece
    };
    chars.map(piece).collect()
}
