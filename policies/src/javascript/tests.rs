//! Tests of the analysis: the fixtures, budgets and stacks.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{Policy, Report, Scanner, Script};

fn scan(path: &str, text: &str) -> Report {
    let policy = Policy::preset("strict").unwrap();
    Scanner::new().scan(&Script { path, bytes: text.as_bytes(), language: None, own_modules: &[] }, &policy)
}

fn rules(text: &str) -> Vec<String> {
    scan("x.js", text).findings.iter().map(|finding| finding.rule.to_string()).collect()
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/scan");
    let mut files = Vec::new();
    for folder in std::fs::read_dir(root).unwrap().flatten() {
        if let Ok(entries) = std::fs::read_dir(folder.path()) {
            files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| {
                path.extension().is_some_and(|extension| ["js", "ts", "mjs"].iter().any(|known| extension == *known))
            }));
        }
    }
    files.sort();
    files
}

#[test]
fn fixtures_come_out_as_they_say() {
    let files = fixtures();
    assert!(files.len() > 60, "{} fixtures", files.len());
    let mut wrong = String::new();
    for path in files {
        let folder = path.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let headers: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//: ")).collect();
        let mut expected: Vec<String> =
            headers.iter().filter_map(|header| header.strip_prefix("fires ")).map(str::to_owned).collect();
        let quiet = headers.contains(&"quiet");
        assert!(quiet == expected.is_empty(), "{} says neither or both", path.display());
        let name = path.to_string_lossy();
        let report = scan(&name, &text);
        let mut found: Vec<String> = report
            .findings
            .iter()
            .filter(|finding| finding.rule == folder)
            .map(|finding| format!("{}:{}", finding.span.line, finding.span.column))
            .collect();
        expected.sort();
        found.sort();
        if found != expected {
            writeln!(wrong, "{name}: found {found:?}, expected {expected:?}").unwrap();
        }
        for header in headers {
            let Some((preset, verdict)) = header.split_once(' ') else { continue };
            let Ok(policy) = Policy::preset(preset) else { continue };
            let script = Script { path: &name, bytes: text.as_bytes(), language: None, own_modules: &[] };
            let report = Scanner::new().scan(&script, &policy);
            if report.verdict.name() != verdict {
                writeln!(wrong, "{name}: {preset} is {}, expected {verdict}", report.verdict).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Sources that nest in every way there is.
fn nested(depth: usize) -> Vec<String> {
    let around = |open: &str, inner: &str, close: &str| open.repeat(depth) + inner + &close.repeat(depth);
    vec![
        around("(", "1", ")"),
        around("[", "", "]"),
        around("{", "", "}"),
        around("f(", "", ")"),
        around("if(x)", "y", ""),
        around("function f(){", "", "}"),
        format!("x={}", around("a=>", "1", "")),
        format!("x{}", ".a()".repeat(depth)),
        around("!", "x", ""),
        format!("x={}", around("a?b:", "c", "")),
        around("`${", "1", "}`"),
        format!("x={}", around("{a:", "1", "}")),
        around("class A{m(){", "", "}}"),
        around("(function(){", "", "}())"),
        format!("const {}=b", around("[", "a", "]")),
        around("new ", "A", ""),
        around("a=", "1", ""),
        around("for(;;)", "a", ""),
        around("switch(1){case 1:", "a", "}"),
        around("try{", "a", "}catch(e){}"),
        // Calls in calls, each as deep as it is allowed.
        (0..14).fold(String::new(), |text, n| {
            text + &format!("function f{n}(a){{return {}}}", around("(", &format!("f{}(a)", n + 1), ")"))
        }) + "f0(eval)",
    ]
}

#[test]
fn any_nesting_fits_a_small_stack() {
    for depth in [10, 30, 45, 80, 400, 1_900, 30_000] {
        for text in nested(depth) {
            std::thread::Builder::new()
                .stack_size(2 << 20)
                .spawn(move || {
                    scan("x.js", &text);
                })
                .unwrap()
                .join()
                .unwrap();
        }
    }
}

#[test]
fn names_are_those_of_their_scope() {
    assert!(rules("function f(require, eval) { return eval(require('child_process')) }").is_empty());
    assert!(rules("const eval_ = 1; { let eval = x => x; eval('1'); }").is_empty());
    assert_eq!(rules("{ let eval = x => x; } eval('1');"), ["dynamic-code"]);
    assert_eq!(rules("function f() { var e = eval; return e }\nf()('1')"), ["dynamic-code", "dynamic-code"]);
    assert!(rules("class A { exec() {} eval() {} }\nnew A().exec(new A().eval())").is_empty());
    assert_eq!(rules("const f = function eval() {};\neval('1')"), ["dynamic-code"]);
}

#[test]
fn what_is_needed_is_noted() {
    let report = scan(
        "x.js",
        "const fs = require('fs'); fs.readFileSync('in.csv'); fs.writeFileSync('out.txt', '');
         require('lodash'); require('@a/b/c'); require('./own'); fetch('https://example.org:8443/x');
         process.env.HOME; process.stdin.on('data', x => x);",
    );
    let needs: Vec<String> = report.needs.iter().map(|need| format!("{:?}", need.kind)).collect();
    assert_eq!(
        needs,
        [
            "Read(Some(\"in.csv\"))",
            "Write(Some(\"out.txt\"))",
            "Package(\"lodash\")",
            "Package(\"@a/b\")",
            "Module(\"./own\")",
            "Net(Some(\"example.org:8443\"))",
            "Env(Some(\"HOME\"))",
            "Stdin"
        ]
    );
}

#[test]
fn work_is_bounded() {
    let sources = [
        format!("let s='ab';{}require(s)", "s=s+s;".repeat(300)),
        format!("s='a'.repeat(60000);{}", "s.split('').reverse().join('');".repeat(3_000)),
        format!("a=Array(4000).fill(1);{}", "a.map(x=>String.fromCharCode(x));".repeat(3_000)),
        "for(let i=0;;i++){eval;String.fromCharCode(i)}".to_owned(),
        "function f(n){return f(n+1)+f(n-1)+String.fromCharCode(n)} f(1);eval".to_owned(),
        format!("let a=eval;{}a.k[0]()", "if(x)a=[a,{k:a}];".repeat(500)),
        format!(
            "o={{}};{}{}",
            (0..5_000).fold(String::new(), |t, n| t + &format!("o.k{n}=o;")),
            "({...o});".repeat(2_000)
        ),
    ];
    for text in sources {
        let start = std::time::Instant::now();
        scan("x.js", &text);
        // Ten times what it may take in a release build, for builds without optimization on busy machines.
        assert!(start.elapsed().as_secs() < 20, "{}", text.get(..60).unwrap_or_default());
    }
}
