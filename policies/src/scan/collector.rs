//! Gathers what the analysis of a language reports, and makes a [`Report`] of it under the policy.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

use super::{MOST_FINDINGS, Report, SourceLanguage};
use crate::rules::{self, Rule};
use crate::{CustomRule, Finding, Need, NeedKind, Policy, Severity, Span, Verdict};

/// Findings and needs of one source.
pub(crate) struct Collector<'a> {
    path: &'a str,
    policy: &'a Policy,
    text: String,
    /// Byte offsets at which lines begin, once a place is asked for.
    lines: OnceCell<Vec<usize>>,
    findings: Vec<Finding>,
    needs: Vec<Need>,
    dropped: usize,
}

impl<'a> Collector<'a> {
    pub(super) fn new(path: &'a str, policy: &'a Policy) -> Self {
        Self {
            path,
            policy,
            text: String::new(),
            lines: OnceCell::new(),
            findings: Vec::new(),
            needs: Vec::new(),
            dropped: 0,
        }
    }

    /// The normalized text that byte ranges refer to.
    pub(super) fn set_text(&mut self, text: &str) {
        self.lines.take();
        text.clone_into(&mut self.text);
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        })
    }

    /// The policy of the scan.
    pub(crate) fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// Reports a finding of that rule; `message` says in one line what the script does there.
    pub(crate) fn report(&mut self, rule: &'static Rule, range: Range<usize>, message: &str) {
        self.report_as(rule, rule.severity, range, message);
    }

    /// Reports a finding of that rule that is worse or less bad than its others.
    pub(crate) fn report_as(&mut self, rule: &'static Rule, severity: Severity, range: Range<usize>, message: &str) {
        let span = self.span(range);
        self.push(Cow::Borrowed(rule.id), severity, rule.advice, span, message);
    }

    /// Reports a finding of a custom rule.
    pub(crate) fn report_custom(&mut self, rule: &CustomRule, range: Range<usize>) {
        let span = self.span(range);
        self.push(Cow::Owned(rule.id().to_owned()), rule.severity(), rule.advice(), span, rule.message());
    }

    /// Reports a finding about the source as a whole.
    pub(crate) fn report_at_start(&mut self, rule: &'static Rule, message: &str) {
        let span = Span { line: 1, column: 1, end_line: 1, end_column: 1 };
        self.push(Cow::Borrowed(rule.id), rule.severity, rule.advice, span, message);
    }

    /// Notes what the script needs.
    pub(crate) fn need(&mut self, kind: NeedKind, range: Range<usize>) {
        if self.needs.len() < MOST_FINDINGS {
            let span = self.span(range);
            self.needs.push(Need { kind, path: self.path.to_owned(), span });
        }
    }

    fn push(&mut self, rule: Cow<'static, str>, own: Severity, advice: &str, span: Span, message: &str) {
        let Some(severity) = self.policy.severity(&rule, own) else { return };
        if self.findings.len() >= MOST_FINDINGS {
            self.dropped += 1;
            return;
        }
        let repeated = |f: &Finding| f.rule == rule && f.span == span && f.message == message;
        if self.findings.iter().rev().take(20).any(repeated) {
            return;
        }
        let line = self.line(span.line).to_owned();
        let allowed = self.policy.allowed(&rule, self.path, &line).map(str::to_owned);
        let effect = if allowed.is_some() { Verdict::Allow } else { self.policy.effect(&rule, severity) };
        let (message, advice, path) = (message.to_owned(), advice.to_owned(), self.path.to_owned());
        self.findings.push(Finding { rule, severity, message, advice, path, span, effect, allowed });
    }

    /// Line and columns of a byte range of the text.
    fn span(&self, range: Range<usize>) -> Span {
        let (line, column) = self.place(range.start);
        let (end_line, end_column) = self.place(range.end.max(range.start));
        Span { line, column, end_line, end_column }
    }

    fn place(&self, at: usize) -> (u32, u32) {
        let at = at.min(self.text.len());
        let line = self.lines().partition_point(|start| *start <= at).max(1);
        let start = self.lines().get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(at - start, |text| text.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The text of a line, from 1.
    fn line(&self, line: u32) -> &str {
        let index = line.saturating_sub(1) as usize;
        let start = self.lines().get(index).copied().unwrap_or(self.text.len());
        let end = self.lines().get(index + 1).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default().trim_end_matches('\n')
    }

    pub(super) fn finish(mut self, language: Option<SourceLanguage>) -> Report {
        if self.dropped > 0 {
            self.findings.pop();
            let message = format!("there are {} more findings", self.dropped + 1);
            self.dropped = 0;
            self.report_at_start(rules::oversized_source, &message);
        }
        self.findings.sort_by(|a, b| (a.span, &a.rule, &a.message).cmp(&(b.span, &b.rule, &b.message)));
        self.needs.sort_by(|a, b| (a.span, &a.kind).cmp(&(b.span, &b.kind)));
        self.needs.dedup();
        let verdict = self.findings.iter().map(|finding| finding.effect).max().unwrap_or_default();
        Report { verdict, findings: self.findings, needs: self.needs, language }
    }
}
