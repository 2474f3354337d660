//! Rule files: every file in `fixtures/rules` states in its head what comes of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capibara_policies::{
    CustomRules, LARGEST_RULE_FILE, MOST_RULES, Policy, Report, RuleProblem, RuleSeverity, Scanner, Script, Severity,
    Verdict,
};

#[cfg(test)]
mod files {
    use super::*;

    pub(super) fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// The files: name, text, and the lines of its head that begin with `#:`.
    pub(super) fn fixtures() -> Vec<(String, String, Vec<String>)> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(repository().join("fixtures/rules")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let head = text.lines().filter_map(|line| line.strip_prefix("#: ")).map(str::to_owned).collect();
            files.push((path.file_name().unwrap().to_string_lossy().into_owned(), text, head));
        }
        assert!(files.len() > 20);
        files.sort();
        files
    }

    pub(super) fn house() -> CustomRules {
        let path = repository().join("fixtures/rules/house.yaml");
        CustomRules::parse("house.yaml", &std::fs::read_to_string(path).unwrap()).unwrap()
    }

    pub(super) fn scan(rules: &CustomRules, path: &str, text: &str, policy: &str) -> Report {
        let script = Script { path, bytes: text.as_bytes(), language: None, own_modules: &[] };
        Scanner::new().with_custom(rules.clone()).scan(&script, &Policy::preset(policy).unwrap())
    }
}

use files::{fixtures, house, repository, scan};

#[test]
fn every_rule_file_is_what_its_head_says() {
    let mut wrong = String::new();
    for (name, text, head) in fixtures() {
        let said: Vec<&str> = head.iter().map(String::as_str).filter(|line| *line != "schema refuses").collect();
        let got: Vec<String> = match CustomRules::parse(&name, &text) {
            Err(error) => vec![format!("error {}:{} {}", error.line, error.column, error.problem)],
            Ok(rules) => {
                let report = rules.test();
                assert_eq!(report.passed(), report.failures.is_empty());
                if report.passed() {
                    vec![format!("passes {} rules, {} cases", report.rules, report.cases)]
                } else {
                    report
                        .failures
                        .iter()
                        .map(|f| format!("fails {}", f.to_string().trim_start_matches("line ")))
                        .collect()
                }
            }
        };
        let fits = |(said, got): (&&str, &String)| got.starts_with(*said);
        if said.is_empty() || said.len() != got.len() || !said.iter().zip(&got).all(fits) {
            writeln!(wrong, "{name}:\n  says {said:#?}\n  is {got:#?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_schema_and_the_reader_agree() {
    let schema = std::fs::read_to_string(repository().join("schema/rules.v1.json")).unwrap();
    let validator = jsonschema::draft202012::new(&serde_json::from_str(&schema).unwrap()).unwrap();
    for (name, text, head) in fixtures() {
        let Ok(value) = serde_saphyr::from_str::<serde_json::Value>(&text) else { continue };
        let refuses = head.iter().any(|line| line == "schema refuses");
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(!errors.is_empty(), refuses, "{name}: {errors:#?}");
    }
}

/// The findings of custom rules: rule, line and columns.
fn found(report: &Report) -> Vec<(String, u32, u32, u32)> {
    let findings = report.findings.iter().filter(|finding| finding.rule.starts_with("x-"));
    findings.map(|f| (f.rule.to_string(), f.span.line, f.span.column, f.span.end_column)).collect()
}

/// Many rules are looked for together, and each finding is still its own rule's.
#[test]
fn many_rules_do_not_mix() {
    let pad = "; a comment\n      ".repeat(100);
    let rule = |n: usize| {
        format!(
            "  - id: x-r{n}\n    title: t\n    severity: error\n    languages: [python, javascript]\n    message: m{n}\n    \
             capture: b\n    query: |\n      ((identifier) @a @b (#eq? @a \"n{n}\")) {pad}\n      \
             ((string) @b (#eq? @b \"'n{n}'\")) ; end\n"
        )
    };
    let rules = CustomRules::parse("many", &format!("rules:\n{}", (0..60).map(rule).collect::<String>())).unwrap();
    let text: String = (0..60).map(|n| format!("n{n} + 'n{}'\n", 59 - n)).collect();
    for path in ["a.py", "a.js"] {
        let report = scan(&rules, path, &text, "moderate");
        let mut expected: Vec<_> = (0..60).flat_map(|n| [(n, n), (n, 59 - n)]).collect();
        expected.sort_unstable();
        let mut got: Vec<_> = Vec::new();
        for finding in report.findings.iter().filter(|finding| finding.rule.starts_with("x-")) {
            let number: u32 = finding.rule.trim_start_matches("x-r").parse().unwrap();
            assert_eq!(finding.message, format!("m{number}"));
            got.push((number, finding.span.line - 1));
        }
        got.sort_unstable();
        assert_eq!(got, expected);
    }
}

#[test]
fn custom_rules_report_beside_the_others_and_obey_the_policy() {
    let text = "é = 1; print(é)\nimport requests\nrequests.get('x')\n";
    let report = scan(&house(), "a.py", text, "moderate");
    assert_eq!(
        found(&report),
        [("x-no-print".to_owned(), 1, 8, 13), ("x-request-without-timeout".to_owned(), 3, 1, 18)]
    );
    assert_eq!(report.verdict, Verdict::Deny);
    let finding = report.findings.iter().find(|f| f.rule == "x-no-print").unwrap();
    assert_eq!((finding.severity, finding.effect), (Severity::Warning, Verdict::Warn));
    assert_eq!(finding.message, "prints to standard output");
    assert_eq!(finding.advice, "return the value instead");
    assert_eq!(scan(&house(), "a.py", text, "permissive").verdict, Verdict::Warn);

    let mut policy = Policy::preset("moderate").unwrap();
    policy.rules.entry("x-no-print".to_owned()).or_default().severity = Some(RuleSeverity::Error);
    let script = Script { path: "a.py", bytes: b"print(1)", language: None, own_modules: &[] };
    let report = Scanner::new().with_custom(house()).scan(&script, &policy);
    assert_eq!(report.verdict, Verdict::Deny);

    assert_eq!(found(&scan(&house(), "a.js", "print(1); alert(2)", "moderate")), [("x-alert".to_owned(), 1, 11, 16)]);
    assert_eq!(found(&scan(&house(), "a.ts", "let x: number = 1; alert(x)", "moderate")).len(), 1);
    assert_eq!(found(&scan(&CustomRules::default(), "a.py", text, "moderate")), []);
}

#[test]
fn files_are_bounded() {
    let error = CustomRules::parse("large", &"#".repeat(LARGEST_RULE_FILE + 1)).unwrap_err();
    assert_eq!(error.problem, RuleProblem::TooLarge { bytes: LARGEST_RULE_FILE + 1 });

    let rule = |n: usize| {
        format!("  - {{id: x-r{n}, title: t, severity: error, languages: [python], query: (call) @c, message: m}}\n")
    };
    let file = |number: usize| format!("rules:\n{}", (0..number).map(rule).collect::<String>());
    assert_eq!(CustomRules::parse("most", &file(MOST_RULES)).unwrap().rules().count(), MOST_RULES);
    let error = CustomRules::parse("more", &file(MOST_RULES + 1)).unwrap_err();
    assert_eq!(error.problem, RuleProblem::TooMany { rules: MOST_RULES + 1 });

    // The compiler of queries recurses; brackets in strings and comments are none.
    let query = |query: &str| {
        let file = format!(
            "rules:\n  - id: x-r\n    title: t\n    severity: error\n    languages: [python]\n    message: m\n    \
             query: |\n      {query}\n"
        );
        CustomRules::parse("deep", &file)
    };
    let error = query(&"(".repeat(7_000)).unwrap_err();
    assert!(error.to_string().starts_with("deep:8:71: the query is nested too deeply"), "{error}");
    let error = query(&"((call) @c) ".repeat(1_000)).unwrap_err();
    assert!(matches!(error.problem, RuleProblem::TooLong { key: "query", .. }), "{error}");
    let brackets = "(".repeat(100);
    query(&format!("((string) @c (#eq? @c \"\\\"{brackets}\")) ; {brackets}")).unwrap();
}

/// What a file says is quoted short, and moves no cursor.
#[test]
fn errors_are_short_and_safe_to_show() {
    let long = "\\e[31m\\u202e".repeat(500);
    let rule = |id: &str, more: &str| {
        format!("rules: [{{id: {id}, title: t, severity: error, languages: [python], message: m, {more}}}]")
    };
    let query = |query: &str| format!("query: \"(call) @c {query}\"");
    for file in [
        rule(&format!("\"{long}\""), &query("")),
        rule("x-r", &format!("\"{long}\": 1")),
        rule("x-r", &format!("{}, capture: \"{long}\"", query(""))),
        rule("x-r", &format!("{}, cwe: [\"{long}\"]", query(""))),
        rule("x-r", &query(&format!("(call) @d (#match? @d \\\"({long}\\\")"))),
        rule("x-r", &query(&format!("({long})"))),
        rule("x-r", &query(&format!("(#{} @c)", "é".repeat(3_000)))),
        format!("rules: \"{long}\""),
        format!("rules: [{{severity: \"{long}\"}}]"),
        format!("rules: [{{languages: [\"{long}\"]}}]"),
        format!("\"{long}\": 1"),
    ] {
        let error = CustomRules::parse("f", &file).unwrap_err().to_string();
        assert!(error.len() < 2_000, "{error}");
        assert!(!error.chars().any(|c| c.is_control() || c == '\u{202e}'), "{error:?}");
    }
}

#[test]
fn files_join_unless_they_share_a_rule() {
    let other = CustomRules::parse(
        "other",
        "rules: [{id: x-o, title: t, severity: error, languages: [python], query: (call) @c, message: m}]",
    )
    .unwrap();
    let joined = CustomRules::join([house(), other.clone()]).unwrap();
    assert_eq!(joined.rules().map(|rule| rule.id()).last(), Some("x-o"));
    assert_eq!(joined.rule("x-alert").unwrap().languages().count(), 2);
    assert_eq!(CustomRules::join([joined, other]).unwrap_err().id, "x-o");
    assert!(CustomRules::join([]).unwrap().is_empty());
}

/// However a query and a source fit together, looking at it ends soon, and says when it has not seen all.
#[test]
fn time_and_matches_are_bounded() {
    let rules = |query: &str| {
        let file = format!(
            "rules:\n  - id: x-r\n    title: t\n    severity: warning\n    languages: [python]\n    message: m\n    \
             query: |\n      {query}\n"
        );
        CustomRules::parse("slow", &file).unwrap()
    };
    let flat = "f(1)\n".repeat(20_000);
    let nested = format!("x = {}1{}\n", "[".repeat(900), "]".repeat(900)).repeat(50);
    for (query, text) in [
        // Each statement may begin a match that goes on to the end.
        ("(module (expression_statement)+ @c (expression_statement) . (pass_statement))", &flat),
        ("(module (_)* @c (_)* @d (_)* @e)", &flat),
        ("((_) @c (#match? @c \"(a|1)*b\") (#match? @c \"[^]]+$\"))", &nested),
        ("((_) @c (_) @d (#eq? @c @d))", &nested),
        ("((_) @c)", &flat),
    ] {
        let rules = rules(query);
        let start = Instant::now();
        let report = scan(&rules, "a.py", text, "moderate");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{query} takes {took:?}");
        // The third may be seen through to its end, where it finds nothing.
        let told = query.contains("match?")
            || report
                .findings
                .iter()
                .any(|finding| finding.rule.starts_with("x-") || finding.rule == "oversized-source");
        assert!(told, "{query}");
    }
}

/// A rule file that is cut off or damaged anywhere is read or refused, and what is wrong stands in the file.
#[test]
fn damaged_files_are_read_or_refused() {
    let text = std::fs::read_to_string(repository().join("fixtures/rules/house.yaml")).unwrap();
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let mut refused = 0;
    for (round, at) in places.iter().copied().enumerate().step_by(29) {
        let damage = ["(", ")", "\"", "@", "#", ": ", "\n", "  ", "é", "|", "\t", "\\", "&a ", "*a"][round / 29 % 14];
        for damaged in [text[..at].to_owned(), format!("{}{damage}{}", &text[..at], &text[at..])] {
            if let Err(error) = CustomRules::parse("damaged", &damaged) {
                refused += 1;
                let lines: Vec<&str> = damaged.split('\n').collect();
                let line = lines.get(error.line as usize - 1).copied().unwrap_or("");
                let inside = error.line as usize <= lines.len() && error.column as usize <= line.chars().count() + 1;
                assert!(inside, "{error} of\n{damaged}");
            }
        }
    }
    assert!(refused > 50, "{refused}");
}
