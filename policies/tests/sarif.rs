//! SARIF logs and the JSON of a scan, against their schemas.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use capibara_policies::{
    CustomRules, Finding, Policy, PolicyIdentity, Report, ScanJson, ScanReport, ScannedFile, Scanner, Script, Severity,
    Span, Summary, UnreadFile, Verdict, rules, sarif,
};
use jsonschema::Validator;
use serde_json::{Value, json};

const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const POLICY: PolicyIdentity<'static> = PolicyIdentity { name: "moderate", sha256: SHA256 };

/// A file: path, what the scan came to, text.
type Given<'a> = (&'a str, Report, Option<&'a str>);

#[cfg(test)]
mod given {
    use super::*;

    pub(super) fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// The schema OASIS publishes. It is no part of this repository: it lies in the package `serde-sarif`, which Cargo fetches
    /// with the others and `cargo metadata` finds.
    pub(super) fn oasis_schema() -> Validator {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .output()
            .unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "without a network, `cargo fetch --locked` has to have run once: {why}");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "serde-sarif").unwrap();
        let schema = Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("src").join("schema.json");
        // One pattern has a bracket too many, which the validator does not read as the character it is. Nothing here uses it.
        let text = std::fs::read_to_string(schema).unwrap().replace("{2}]?$", "{2}$");
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert!(schema["title"].as_str().unwrap().contains("Version 2.1.0"));
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }

    pub(super) fn errors(validator: &Validator, value: &Value) -> Vec<String> {
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    pub(super) fn custom() -> CustomRules {
        CustomRules::parse(
            "rules",
            r#"
    rules:
      - id: x-print
        title: printing
        severity: warning
        languages: [python]
        query: (call function:(identifier) @name (#eq? @name "print"))
        message: prints
        advice: return the value
        cwe: [532, 200]
    "#,
        )
        .unwrap()
    }

    pub(super) fn scan(path: &str, text: &str) -> Report {
        let script = Script { path, bytes: text.as_bytes(), language: None, own_modules: &[] };
        Scanner::new().with_custom(custom()).scan(&script, &Policy::preset("moderate").unwrap())
    }

    pub(super) fn finding(rule: &'static str, severity: Severity, line: u32, message: &str) -> Finding {
        Finding {
            rule: rule.into(),
            severity,
            message: message.into(),
            advice: String::new(),
            path: "a.py".into(),
            span: Span { line, column: 1, end_line: line, end_column: 2 },
            effect: Verdict::Warn,
            allowed: None,
        }
    }

    pub(super) fn report(findings: Vec<Finding>) -> Report {
        Report { verdict: Verdict::Warn, findings, ..Report::default() }
    }

    pub(super) fn log(files: &[ScannedFile<'_>], unread: &[UnreadFile]) -> Value {
        let custom = custom();
        let context = sarif::Context { version: "0.1.0", policy: POLICY, custom: Some(&custom), unread };
        serde_json::to_value(sarif::log(files, &context)).unwrap()
    }

    /// A scan with every kind of thing a log can hold.
    pub(super) fn everything() -> (Vec<Given<'static>>, Vec<UnreadFile>) {
        let text = "def f():\n\tprint('é', print(1))\n";
        let allowed = Finding {
            allowed: Some("reviewed in may".into()),
            effect: Verdict::Allow,
            ..finding("spawn-process", Severity::Error, 1, "starts a process")
        };
        let unprovable = Finding {
            span: Span::default(),
            advice: "say it plainly".into(),
            ..finding("unprovable", Severity::Unprovable, 0, "`{0}` [names](https://example.org) are not known")
        };
        let gone = finding("gone", Severity::Error, 7, "of a rule that nobody describes");
        let files = vec![
            ("folder/a.py", scan("folder/a.py", text), Some(text)),
            ("./b c:d.py", report(vec![allowed, unprovable, gone]), None),
            ("unknown.xyz", scan("unknown.xyz", "?"), Some("?")),
            ("nul.py", scan("nul.py", "\0"), None),
            ("fine.js", scan("fine.js", "1"), Some("1")),
        ];
        let unread = vec![UnreadFile { path: "secret.py".into(), message: "permission denied".into() }];
        (files, unread)
    }

    pub(super) fn scanned<'a>(files: &'a [Given<'a>]) -> Vec<ScannedFile<'a>> {
        files.iter().map(|(path, report, text)| ScannedFile { path, report, text: *text }).collect()
    }

    pub(super) fn fingerprints(path: &str, text: &str) -> Vec<String> {
        let report = scan(path, text);
        let log = log(&[ScannedFile { path, report: &report, text: Some(text) }], &[]);
        let results = log["runs"][0]["results"].as_array().unwrap();
        results.iter().map(|r| r["partialFingerprints"]["capibaraFinding/v1"].as_str().unwrap().to_owned()).collect()
    }
}

use given::{errors, everything, finding, fingerprints, log, oasis_schema, report, repository, scan, scanned};

#[test]
fn logs_are_valid_sarif() {
    let schema = oasis_schema();
    let (files, unread) = everything();
    let full = log(&scanned(&files), &unread);
    assert_eq!(errors(&schema, &full), [""; 0], "{full:#}");
    assert_eq!(full["runs"][0]["results"].as_array().unwrap().len(), 7);
    let empty = log(&[], &[]);
    assert_eq!(errors(&schema, &empty), [""; 0], "{empty:#}");

    // The schema is one that refuses.
    for (pointer, wrong) in [
        ("/runs/0/results/0/message", json!({})),
        ("/runs/0/results/0/level", json!("fatal")),
        ("/runs/0/results/0/locations/0/physicalLocation/region/startLine", json!(0)),
        ("/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri", json!("a b.py")),
        ("/runs/0/results/0/partialFingerprints", json!({"a": 1})),
        ("/runs/0/tool/driver/rules/0/id", json!(null)),
    ] {
        let mut log = full.clone();
        *log.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.is_valid(&log), "{pointer}");
    }
}

#[test]
fn logs_say_what_was_found_and_where() {
    let (files, unread) = everything();
    let log = log(&scanned(&files), &unread);
    let run = &log["runs"][0];
    let result = &run["results"][0];
    assert_eq!(result["ruleId"], "x-print");
    assert_eq!(result["level"], "warning");
    assert_eq!(result["message"], json!({"text": "prints"}));
    assert_eq!(
        result["locations"][0]["physicalLocation"],
        json!({
            "artifactLocation": {"uri": "folder/a.py", "uriBaseId": "%SRCROOT%", "index": 0},
            "region": {"startLine": 2, "startColumn": 2, "endLine": 2, "endColumn": 7}
        })
    );
    assert_eq!(result["properties"], json!({"severity": "warning", "effect": "warn", "advice": "return the value"}));
    assert!(result.get("suppressions").is_none());
    // Columns are characters, not bytes.
    let region = &run["results"][1]["locations"][0]["physicalLocation"]["region"];
    assert_eq!((&region["startColumn"], &region["endColumn"]), (&json!(13), &json!(18)));
    assert_eq!(run["columnKind"], "unicodeCodePoints");

    let suppressions = json!([{"kind": "external", "status": "accepted", "justification": "reviewed in may"}]);
    assert_eq!(run["results"][2]["suppressions"], suppressions);
    // A place that is none becomes the beginning; what would be a placeholder or a link is text.
    let result = &run["results"][3];
    assert_eq!(result["level"], "note");
    assert_eq!(result["message"]["text"], "`{{0}}` [names\\](https://example.org) are not known");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "b%20c%3Ad.py");
    assert_eq!(place["region"], json!({"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}));

    // Every result's rule stands where its index says.
    let described = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(described.len(), rules::RULES.len() + 2);
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(described[index]["id"], result["ruleId"]);
    }
    let rule = described.iter().find(|rule| rule["id"] == "x-print").unwrap();
    assert_eq!(rule["defaultConfiguration"]["level"], "warning");
    assert_eq!(rule["properties"]["tags"], json!(["security", "external/cwe/cwe-532", "external/cwe/cwe-200"]));
    let taxa = run["taxonomies"][0]["taxa"].as_array().unwrap();
    for relationship in described.iter().filter_map(|rule| rule.get("relationships")?.as_array()).flatten() {
        let index = usize::try_from(relationship["target"]["index"].as_u64().unwrap()).unwrap();
        assert_eq!(taxa[index]["id"], relationship["target"]["id"]);
    }
    let shipped = described.iter().find(|rule| rule["id"] == "spawn-process").unwrap();
    let own = rules::rule("spawn-process").unwrap();
    assert_eq!(shipped["help"], json!({"text": own.advice, "markdown": own.page}));
    assert_eq!(shipped["shortDescription"]["text"], own.title);

    assert_eq!(run["properties"], json!({"policy": {"name": "moderate", "sha256": SHA256}, "verdict": "deny"}));
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let notification = &run["invocations"][0]["toolExecutionNotifications"][0];
    assert_eq!(notification["message"]["text"], "permission denied");
    assert_eq!(
        run["artifacts"][4],
        json!({
            "location": {"uri": "fine.js", "uriBaseId": "%SRCROOT%"}, "roles": ["analysisTarget"], "sourceLanguage": "javascript"
        })
    );
    let quiet = self::log(&scanned(&files), &[]);
    assert_eq!(quiet["runs"][0]["invocations"][0], json!({"executionSuccessful": true}));
    // No source text: a finding may stand on a secret.
    assert!(!log.to_string().contains("'é'"));
}

#[test]
fn paths_become_uris() {
    for (path, uri, relative) in [
        ("a.py", "a.py", true),
        ("./a/./b.py", "a/./b.py", true),
        ("././/a.py", "a.py", true),
        ("a\\b.py", "a/b.py", true),
        ("50% é?#[1].py", "50%25%20%C3%A9%3F%23%5B1%5D.py", true),
        ("http://x/y.py", "http%3A//x/y.py", true),
        ("../up.py", "../up.py", true),
        ("<string>", "%3Cstring%3E", true),
        ("-", "-", true),
        ("/abs/a b.py", "file:///abs/a%20b.py", false),
        ("//host/a.py", "file:///host/a.py", false),
    ] {
        let report = Report::default();
        let log = log(&[ScannedFile { path, report: &report, text: None }], &[]);
        let location = &log["runs"][0]["artifacts"][0]["location"];
        assert_eq!(location["uri"], uri);
        assert_eq!(location.get("uriBaseId").is_some(), relative, "{path}");
    }
}

#[test]
fn fingerprints_stay_while_code_moves() {
    let before = fingerprints("a.py", "print(1)\nprint(2)\nprint(1)\nprint(1); print(1)\n");
    assert_eq!(before.len(), 5);
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), 5, "equal lines are told apart");
    assert!(before.iter().all(|f| f.len() == 32 && f.bytes().all(|b| b.is_ascii_hexdigit())));

    let moved = "# more\nimport os\n\nif os:\n    print(1)\n    print(2)\n    print(1)\n    print(1);  print(1)\n";
    assert_eq!(fingerprints("a.py", moved), before, "lines above and indentation change nothing");
    assert_eq!(fingerprints("a.py", "print(2)\nprint(1)\n"), [before[1].clone(), before[0].clone()]);
    assert_ne!(fingerprints("b.py", "print(2)\n")[0], before[1], "the path counts");
    assert_ne!(fingerprints("a.py", "print(3)\n")[0], before[1], "the line counts");

    // Parts do not run into each other, and a known value stays as it is: people keep these.
    let other = report(vec![finding("spawn-process", Severity::Error, 1, "m")]);
    let one = log(&[ScannedFile { path: "a.py", report: &other, text: Some("print(2)") }], &[]);
    let value = &one["runs"][0]["results"][0]["partialFingerprints"]["capibaraFinding/v1"];
    assert_ne!(value, &json!(before[1]), "the rule counts");
    assert_eq!(before[1], "01d29415714d64781b9af993ee4d0e5e");
}

#[test]
fn the_json_of_a_scan_is_schema_1() {
    let schema = std::fs::read_to_string(repository().join("schema/scan.v1.json")).unwrap();
    let schema = jsonschema::draft202012::new(&serde_json::from_str(&schema).unwrap()).unwrap();
    let (files, unread) = everything();
    let full = serde_json::to_value(ScanReport::new(POLICY, &scanned(&files), &unread)).unwrap();
    assert_eq!(errors(&schema, &full), [""; 0], "{full:#}");
    let empty = serde_json::to_value(ScanReport::new(POLICY, &[], &[])).unwrap();
    assert_eq!(errors(&schema, &empty), [""; 0], "{empty:#}");

    assert_eq!(full["verdict"], "deny");
    assert_eq!(full["files"][0]["language"], "python");
    assert_eq!(full["files"][2]["language"], Value::Null);
    assert_eq!(
        full["files"][0]["findings"][0],
        json!({
            "rule": "x-print", "severity": "warning", "message": "prints", "path": "folder/a.py", "line": 2, "column": 2,
            "end_line": 2, "end_column": 7, "effect": "warn", "advice": "return the value", "allowed": null
        })
    );
    assert_eq!(
        full["summary"],
        json!({
            "files": 5, "unread": 1, "allow": 1, "warn": 2, "deny": 2,
            "findings": {"error": 3, "warning": 2, "unprovable": 1}, "allowed": 1
        })
    );
    assert_eq!(full["unread"], json!([{"path": "secret.py", "message": "permission denied"}]));

    for (pointer, wrong) in [
        ("/schema", json!(2)),
        ("/verdict", json!("maybe")),
        ("/policy/sha256", json!("abc")),
        ("/files/0/findings/0/severity", json!("fatal")),
        ("/files/0/findings/0/line", json!(0)),
        ("/files/1/findings/0/effect", json!("deny")),
        ("/summary/deny", json!(-1)),
    ] {
        let mut value = full.clone();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.is_valid(&value), "{pointer}");
    }
}

#[test]
fn a_run_tells_its_scan_in_the_same_shape() {
    let report = scan("a.py", "print(1)");
    let scan = serde_json::to_value(ScanJson::from(&report)).unwrap();
    let file = serde_json::to_value(ScanReport::new(
        POLICY,
        &[ScannedFile { path: "a.py", report: &report, text: None }],
        &[],
    ))
    .unwrap();
    assert_eq!(scan, json!({"verdict": "warn", "findings": file["files"][0]["findings"]}));
    assert_eq!(Summary::of([&report], 0).verdict(), Verdict::Warn);
}
