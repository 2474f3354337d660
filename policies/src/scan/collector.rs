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
    cut_short: bool,
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
            cut_short: false,
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

    /// Says that a bound on computing time was met, so that another scan may come to something else.
    pub(crate) fn cut_short(&mut self) {
        self.cut_short = true;
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
        Report { verdict, findings: self.findings, needs: self.needs, language, cut_short: self.cut_short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ScanMode;

    fn policy(text: &str) -> Policy {
        Policy::parse("test", text).unwrap()
    }

    fn report(policy: &Policy, text: &str, report: impl FnOnce(&mut Collector<'_>)) -> Report {
        let mut collector = Collector::new("a.py", policy);
        collector.set_text(text);
        report(&mut collector);
        collector.finish(Some(SourceLanguage::Python))
    }

    fn rule(id: &str) -> &'static Rule {
        rules::rule(id).unwrap()
    }

    fn span(line: u32, column: u32, end_line: u32, end_column: u32) -> Span {
        Span { line, column, end_line, end_column }
    }

    #[test]
    fn places_are_lines_and_characters() {
        let text = "ab\néß x\n\nlast";
        let rows = [
            (0..2, span(1, 1, 1, 3)),
            (1..2, span(1, 2, 1, 3)),
            (2..3, span(1, 3, 2, 1)),
            (3..7, span(2, 1, 2, 3)),
            (8..9, span(2, 4, 2, 5)),
            (0..15, span(1, 1, 4, 5)),
            (10..10, span(3, 1, 3, 1)),
            (11..15, span(4, 1, 4, 5)),
            // Beyond the end, and the wrong way round: the nearest place there is.
            (90..99, span(4, 5, 4, 5)),
            (Range { start: 8, end: 3 }, span(2, 4, 2, 4)),
        ];
        for (range, expected) in rows {
            let found = report(&Policy::default(), text, |c| c.need(NeedKind::Stdin, range.clone()));
            let expected = Need { kind: NeedKind::Stdin, path: "a.py".into(), span: expected };
            assert_eq!(found.needs, [expected], "{range:?}");
        }
    }

    #[test]
    fn a_finding_is_what_was_reported_and_what_the_policy_makes_of_it() {
        let dynamic = rule("dynamic-code");
        let strict = Policy::preset("strict").unwrap();
        let found = report(&strict, "x\neval(y)\n", |c| c.report(dynamic, 2..9, "calls eval"));
        let expected = Finding {
            rule: "dynamic-code".into(),
            severity: dynamic.severity,
            message: "calls eval".into(),
            advice: dynamic.advice.into(),
            path: "a.py".into(),
            span: span(2, 1, 2, 8),
            effect: Verdict::Deny,
            allowed: None,
        };
        assert_eq!((found.findings, found.verdict), (vec![expected], Verdict::Deny));
        assert_eq!(found.language, Some(SourceLanguage::Python));

        let moderate = Policy::default();
        for (severity, effect) in [
            (Severity::Error, Verdict::Deny),
            (Severity::Warning, Verdict::Warn),
            (Severity::Unprovable, Verdict::Warn),
        ] {
            let found = report(&moderate, "x", |c| c.report_as(dynamic, severity, 0..1, "m"));
            assert_eq!((found.verdict, found.findings[0].severity), (effect, severity));
        }
        let found = report(&moderate, "x", |c| c.report_at_start(rule("oversized-source"), "m"));
        assert_eq!(found.findings[0].span, span(1, 1, 1, 1));
        let found = report(&moderate, "x", |c| c.report(rule("unprovable"), 0..1, "why"));
        assert_eq!((found.findings[0].rule.as_ref(), found.findings[0].message.as_str()), ("unprovable", "why"));
        // The worst counts, wherever it stands.
        let found = report(&moderate, "xy", |c| {
            c.report_as(dynamic, Severity::Warning, 0..1, "a");
            c.report_as(dynamic, Severity::Error, 1..2, "b");
        });
        assert_eq!(found.verdict, Verdict::Deny);
        assert_eq!(report(&moderate, "x", |_| {}).verdict, Verdict::Allow);
        let off = Policy { scan: ScanMode::Off, ..moderate };
        assert_eq!(report(&off, "x", |c| c.report(dynamic, 0..1, "m")).findings, []);
    }

    #[test]
    fn the_policy_is_that_of_the_scan() {
        let policy = Policy::preset("strict").unwrap();
        assert_eq!(Collector::new("a.py", &policy).policy(), &policy);
    }

    #[test]
    fn allow_lists_see_the_line_of_the_finding_alone() {
        let allowing = policy(
            "extends: strict\nwiden: true\nrules: {dynamic-code: {allow: [{regex: '^ok eval$', reason: because}]}}\n",
        );
        let text = "ok eval\nno eval\nok eval";
        let dynamic = rule("dynamic-code");
        for (at, passes) in [(0, true), (3, true), (8, false), (16, true), (19, true)] {
            let found = report(&allowing, text, |c| c.report(dynamic, at..at + 1, "m"));
            assert_eq!(found.findings[0].allowed.as_deref(), passes.then_some("because"), "{at}");
            assert_eq!(found.verdict, if passes { Verdict::Allow } else { Verdict::Deny }, "{at}");
        }
    }

    #[test]
    fn what_is_told_twice_is_told_once_and_in_the_order_of_the_text() {
        let (dynamic, network) = (rule("dynamic-code"), rule("network-access"));
        let found = report(&Policy::default(), "abcdef", |c| {
            for _ in 0..2 {
                c.report(network, 2..3, "m");
                c.report(dynamic, 2..3, "m");
                c.report(dynamic, 2..3, "l");
                c.report(dynamic, 1..3, "m");
                c.need(NeedKind::Stdin, 3..4);
                c.need(NeedKind::Env(None), 3..4);
                c.need(NeedKind::Stdin, 1..2);
            }
        });
        let told: Vec<(u32, &str, &str)> =
            found.findings.iter().map(|f| (f.span.column, f.rule.as_ref(), f.message.as_str())).collect();
        assert_eq!(
            told,
            [(2, "dynamic-code", "m"), (3, "dynamic-code", "l"), (3, "dynamic-code", "m"), (3, "network-access", "m")]
        );
        let needs: Vec<(u32, NeedKind)> = found.needs.into_iter().map(|need| (need.span.column, need.kind)).collect();
        assert_eq!(needs, [(2, NeedKind::Stdin), (4, NeedKind::Env(None)), (4, NeedKind::Stdin)]);
    }

    #[test]
    fn there_are_at_most_so_many_and_the_rest_is_counted() {
        let dynamic = rule("dynamic-code");
        let text = "x".repeat(MOST_FINDINGS + 50);
        let many = |count: usize| {
            report(&Policy::default(), &text, |c| {
                for at in 0..count {
                    c.report(dynamic, at..at + 1, "m");
                    c.need(NeedKind::Stdin, at..at + 1);
                }
            })
        };
        let all = many(MOST_FINDINGS);
        assert_eq!((all.findings.len(), all.needs.len()), (MOST_FINDINGS, MOST_FINDINGS));
        assert!(all.findings.iter().all(|finding| finding.rule == "dynamic-code"));
        for more in [1, 7] {
            let cut = many(MOST_FINDINGS + more);
            assert_eq!((cut.findings.len(), cut.needs.len()), (MOST_FINDINGS, MOST_FINDINGS));
            let told: Vec<&str> = cut
                .findings
                .iter()
                .filter(|finding| finding.rule == "oversized-source")
                .map(|finding| finding.message.as_str())
                .collect();
            assert_eq!(told, [format!("there are {} more findings", more + 1)]);
        }
    }
}
