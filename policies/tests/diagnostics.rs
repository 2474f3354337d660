//! Findings as people see them.

use capibara_policies::diagnostics::{Options, render, summary_line};
use capibara_policies::{Finding, Report, Severity, Span, Summary, Verdict};

#[cfg(test)]
mod given {
    use super::*;

    pub(super) fn finding(severity: Severity, span: (u32, u32, u32, u32)) -> Finding {
        let (line, column, end_line, end_column) = span;
        Finding {
            rule: "spawn-process".into(),
            severity,
            message: "`os.system` starts a process".into(),
            advice: "there are no other programs in the sandbox; do it in the script itself".into(),
            path: "folder/a.py".into(),
            span: Span { line, column, end_line, end_column },
            effect: match severity {
                Severity::Error => Verdict::Deny,
                Severity::Warning | Severity::Unprovable => Verdict::Warn,
            },
            allowed: None,
        }
    }

    pub(super) fn report(findings: Vec<Finding>) -> Report {
        Report { verdict: findings.iter().map(|f| f.effect).max().unwrap_or_default(), findings, ..Report::default() }
    }

    pub(super) fn shown(text: &str, width: usize, spans: &[(u32, u32, u32, u32)]) -> String {
        let findings = spans.iter().map(|span| finding(Severity::Error, *span)).collect();
        render(&report(findings), Some(text), &Options { width, ..Options::default() })
    }

    /// The line of code and the line of carets, without the gutter.
    pub(super) fn code(shown: &str) -> (String, String) {
        let mut lines =
            shown.lines().filter_map(|line| line.split_once(" | ").or(line.split_once(" |"))).map(|(_, code)| code);
        let code = lines.find(|line| !line.is_empty()).unwrap().to_owned();
        (code, lines.next().unwrap().to_owned())
    }
}

use given::{code, finding, report, shown};

#[test]
fn a_finding_looks_like_a_compilers() {
    insta::assert_snapshot!(shown("import os\nos.system('ls')\n", 100, &[(2, 1, 2, 10)]));
}

#[test]
fn severities_and_effects_are_told() {
    let text = "import os\nos.system('ls')\n";
    let mut allowed = finding(Severity::Error, (2, 1, 2, 10));
    allowed.allowed = Some("reviewed\u{202e}\n".into());
    allowed.effect = Verdict::Allow;
    let lenient = Finding { effect: Verdict::Warn, ..finding(Severity::Error, (2, 1, 2, 10)) };
    let severe = Finding { effect: Verdict::Deny, ..finding(Severity::Unprovable, (2, 4, 2, 10)) };
    let plain = Finding { advice: String::new(), ..finding(Severity::Unprovable, (1, 1, 1, 1)) };
    let report = report(vec![plain, finding(Severity::Warning, (1, 8, 1, 10)), allowed, lenient, severe]);
    let options = Options { allowed: true, ..Options::default() };
    insta::assert_snapshot!(render(&report, Some(text), &options));

    let without = render(&report, Some(text), &Options::default());
    assert!(!without.contains("reviewed"));
    assert_eq!(without.matches("-->").count(), 4);
}

#[test]
fn what_has_no_line_is_shown_without_code() {
    let shown = render(&report(vec![finding(Severity::Error, (1, 1, 1, 1))]), None, &Options::default());
    assert!(shown.contains("--> folder/a.py:1:1\n"), "{shown}");
    assert!(!shown.contains('^'), "{shown}");
    // Nor is a line there is not, or one without text.
    assert!(!self::shown("\nx", 100, &[(1, 1, 1, 1)]).contains('^'));
    assert!(!self::shown("x", 100, &[(9, 1, 9, 4)]).contains('^'));
    assert_eq!(render(&report(Vec::new()), Some("x"), &Options::default()), "");
}

#[test]
fn carets_stand_under_the_place() {
    for (text, span, line, carets) in [
        ("abc", (1, 2, 1, 3), "abc", " ^"),
        ("abc", (1, 4, 1, 4), "abc", "   ^"),
        ("abc", (1, 1, 1, 1), "abc", "^"),
        // Past the end, and backwards.
        ("abc", (1, 2, 1, 99), "abc", " ^^"),
        ("abc", (1, 3, 1, 1), "abc", "  ^"),
        ("abc", (1, 99, 1, 100), "abc", "   ^"),
        // More than one line: to the end of the first.
        ("abc(\n1)", (1, 2, 2, 3), "abc(", " ^^^"),
        // Tabs are four columns, wide characters two, marks none, escapes as many as they have characters.
        ("\tx = 1", (1, 2, 1, 3), "    x = 1", "    ^"),
        ("猫 = 犬()", (1, 5, 1, 6), "猫 = 犬()", "     ^^"),
        ("e\u{301}e\u{301}x", (1, 3, 1, 5), "e\u{301}e\u{301}x", " ^"),
        ("a\u{202e}b", (1, 2, 1, 3), "a\\u{202e}b", " ^^^^^^^^"),
        ("a\u{1b}[2Jb", (1, 6, 1, 7), "a\\x1b[2Jb", "        ^"),
    ] {
        let shown = shown(text, 100, &[span]);
        assert_eq!(code(&shown), (line.to_owned(), carets.to_owned()), "{text:?} {span:?}\n{shown}");
    }
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let text = format!("{}os.system(1){}", "a + ".repeat(1_000), " + b".repeat(1_000));
    insta::assert_snapshot!(shown(&text, 60, &[(1, 1, 1, 2), (1, 4_001, 1, 4_010), (1, 8_011, 1, 8_012)]));
    // A place that is itself too long.
    let (line, carets) = code(&shown(&text, 60, &[(1, 21, 1, 8_000)]));
    assert!(line.starts_with('…') && line.ends_with('…') && line.chars().count() <= 60, "{line}");
    assert!(carets.contains(&"^".repeat(30)) && carets.len() <= 60, "{carets}");
}

#[test]
fn a_script_paints_nothing() {
    let nasty = "\u{1b}[31m\u{9b}2J\r\u{7}\u{202e}\u{2066}\u{200f}\u{2028}\u{200b}\u{feff}\u{e0041}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}";
    let mut finding = finding(Severity::Error, (1, 1, 1, 9));
    for text in [&mut finding.message, &mut finding.advice, &mut finding.path] {
        *text = format!("a{nasty}\nforged: line");
    }
    finding.rule = format!("x-{nasty}").into();
    let mut allowed = finding.clone();
    allowed.allowed = Some(format!("b{nasty}\nforged: line"));
    let report = report(vec![finding, allowed]);
    let text = format!("print({nasty})\n");
    for width in [0, 20, 100] {
        let shown = render(&report, Some(&text), &Options { allowed: true, width, ..Options::default() });
        let unsafe_one = |c: char| {
            c != '\n' && c.is_control() || "\u{202e}\u{2066}\u{200f}\u{2028}\u{200b}\u{feff}\u{e0041}".contains(c)
        };
        assert!(!shown.contains(unsafe_one), "{shown:?}");
        assert!(!shown.lines().any(|line| line.starts_with("forged")), "{shown}");
        assert!(!shown.contains(&"\u{301}".repeat(5)), "{shown:?}");
    }
}

#[test]
fn colors_are_a_choice() {
    let report = report(vec![finding(Severity::Error, (1, 1, 1, 2))]);
    assert!(!render(&report, Some("x"), &Options::default()).contains('\u{1b}'));
    let colored = render(&report, Some("x"), &Options { color: true, ..Options::default() });
    assert!(colored.contains("\u{1b}[") && colored.contains("spawn-process"), "{colored:?}");
}

#[test]
fn many_findings_are_cut_and_counted() {
    let report = report(vec![finding(Severity::Error, (1, 1, 1, 2)); 12]);
    let shown = render(&report, Some("x"), &Options { most: 10, ..Options::default() });
    assert_eq!(shown.matches("-->").count(), 10);
    assert!(shown.ends_with("and 2 more\n\n"), "{shown}");
}

/// Any text, any place, any width: no panic, and no line of code wider than asked.
#[test]
fn any_place_in_any_text_can_be_shown() {
    let alphabet: Vec<char> = "ab(\t\n猫é\u{301}\u{202e}\u{1b}🦫\u{200d}…".chars().collect();
    let letters = alphabet.len() as u64;
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..3_000 {
        let length = next(120);
        let text: String = (0..length).map(|_| alphabet[usize::try_from(next(letters)).unwrap()]).collect();
        let place = |next: &mut dyn FnMut(u64) -> u64| u32::try_from(next(40)).unwrap();
        let spans: Vec<_> =
            (0..3).map(|_| (place(&mut next) / 8, place(&mut next), place(&mut next) / 8, place(&mut next))).collect();
        let width = usize::try_from(next(60)).unwrap();
        let shown = shown(&text, width, &spans);
        assert_eq!(shown.matches("-->").count(), 3, "round {round}: {shown}");
        // Line number, bar and spaces are five columns at most here; to less than 24 nothing is cut.
        let wide =
            |line: &&str| line.contains(" | ") && unicode_width::UnicodeWidthStr::width(*line) > width.max(24 + 5);
        assert_eq!(shown.lines().find(wide), None, "round {round}, width {width}");
    }
}

/// The most findings a source can have, all on one line of a megabyte.
#[test]
fn a_very_long_line_is_shown_soon() {
    let text = "é + ".repeat(1 << 18);
    let spans: Vec<_> = (0..1_000).map(|n| (1, n * 1_000 + 1, 1, n * 1_000 + 2)).collect();
    let start = std::time::Instant::now();
    let findings = spans.iter().map(|span| finding(Severity::Error, *span)).collect();
    let shown = render(&report(findings), Some(&text), &Options { most: 1_000, ..Options::default() });
    assert_eq!(shown.matches("-->").count(), 1_000);
    assert!(start.elapsed().as_secs() < 10);
}

#[test]
fn a_summary_is_one_line() {
    let line = |reports: &[Report], unread| summary_line(&Summary::of(reports, unread));
    let (error, warning) = (finding(Severity::Error, (1, 1, 1, 2)), finding(Severity::Warning, (1, 1, 1, 2)));
    let allowed = Finding { allowed: Some("why".into()), effect: Verdict::Allow, ..error.clone() };
    assert_eq!(line(&[report(vec![])], 0), "allowed: no findings in 1 file");
    assert_eq!(line(&[report(vec![]), report(vec![])], 0), "allowed: no findings in 2 files");
    assert_eq!(line(&[report(vec![warning.clone()])], 0), "allowed with warnings: 1 finding (1 warning) in 1 file");
    assert_eq!(
        line(
            &[
                report(vec![error, warning.clone(), warning.clone(), finding(Severity::Unprovable, (1, 1, 1, 2))]),
                report(vec![allowed, warning]),
                report(vec![])
            ],
            2
        ),
        "denied: 5 findings (1 error, 3 warnings, 1 unprovable) in 2 of 3 files, 1 allowed by the policy, \
         2 files could not be read"
    );
}
