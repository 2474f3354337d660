//! Checks against real runs.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what fails is a failed test")]

mod sandbox;

use capibara::{Job, Limits};
use capibara_generate::checks::{Aspect, Case, Checks, Judged};
use std::time::Duration;

fn judge(texts: &[&str], script: &str) -> Judged {
    let mut checks = Checks::new();
    texts.iter().for_each(|text| checks.add(text).unwrap());
    let cases: Vec<(usize, &Case)> = checks.cases().collect();
    assert_eq!(cases.len(), 1);
    judge_case(cases[0].1, sandbox::job(script))
}

fn judge_case(case: &Case, mut job: Job) -> Judged {
    if let Some(stdin) = case.stdin() {
        job = job.with_stdin(stdin);
    }
    case.judge(&sandbox::run(job))
}

const DIGEST: &str = "artifact: a.txt sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";

#[test]
fn each_kind_of_check_is_met_or_missed_by_what_really_came() {
    let leave = "open('/out/a.txt', 'w').write('abc')";
    for (text, good, bad, aspect, got) in [
        (r"2 3\n => 5", "print(sum(map(int, input().split())))", "print(6)", Aspect::Stdout, "6\n"),
        (r"x => x", "print(input())", "raise SystemExit(3)", Aspect::Exit, "3"),
        (r"x => x\ny", "print('x  ')\nprint('y', end='\\r\\n\\n')", "print('x')\nprint(' y')", Aspect::Stdout, " y\n"),
        ("exit: 3", "import sys\nsys.exit(3)", "print(1)", Aspect::Exit, "0"),
        ("exit: 200", "import sys\nsys.exit(200)", "import sys\nsys.exit(44)", Aspect::Exit, "44"),
        (
            "match: ^total: \\d+$",
            "print('a')\nprint('total: 5')\nprint('b')",
            "print('total: x')",
            Aspect::Match,
            "total: x\n",
        ),
        ("artifact: a.txt", leave, "open('/out/b.txt', 'w').write('abc')", Aspect::Artifact, "/out/b.txt"),
        (
            "artifact: /out/d/a.txt",
            "import os\nos.mkdir('/out/d')\nopen('/out/d/a.txt', 'w').close()",
            leave,
            Aspect::Artifact,
            "/out/a.txt",
        ),
        (
            DIGEST,
            leave,
            "open('/out/a.txt', 'w').write('abd')",
            Aspect::Artifact,
            "/out/a.txt sha256:a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9",
        ),
    ] {
        let judged = judge(&[text], good);
        assert_eq!((judged.met, judged.missed), (judged.of, None), "{text}");
        let judged = judge(&[text], bad);
        let missed = judged.missed.expect(text);
        assert!(judged.met < judged.of);
        assert_eq!((missed.aspect, &*missed.got), (aspect, got), "{text}");
    }
}

#[test]
fn checks_without_input_ask_one_run_together() {
    let texts = ["exit: 2", "match: ^a", "match: b$", DIGEST];
    let judged = judge(&texts, "open('/out/a.txt', 'w').write('abc')\nprint('ab')\nraise SystemExit(2)");
    assert_eq!((judged.met, judged.of, judged.missed), (4, 4, None));
    let judged = judge(&texts, "print('ax')");
    assert_eq!((judged.met, judged.of), (1, 4));
    let mut checks = Checks::new();
    for text in ["a => b", "exit: 0", "c => d", "match: x"] {
        checks.add(text).unwrap();
    }
    let inputs: Vec<(usize, Option<&str>)> = checks.cases().map(|(number, case)| (number, case.stdin())).collect();
    assert_eq!(inputs, [(1, None), (2, Some("a")), (3, Some("c"))]);
}

#[test]
fn a_run_that_did_not_end_by_itself_meets_nothing() {
    let mut checks = Checks::new();
    checks.add("match: x").unwrap();
    let (_, case) = checks.cases().next().unwrap();
    let limits = Limits { fuel: Some(2_000_000_000), wall_time: Duration::from_secs(20), ..Limits::default() };
    let judged = judge_case(case, sandbox::job("print('x', flush=True)\nwhile True: pass").with_limits(limits));
    assert_eq!((judged.met, judged.of), (0, 2));
    assert_eq!(judged.missed.map(|it| it.got).as_deref(), Some("the run did not end by itself"));
    let denied = judge_case(case, sandbox::job("import os\nos.system('x')\nprint('x')"));
    assert_eq!(denied.met, 0);
}

#[test]
fn what_a_script_prints_changes_no_check() {
    let digest = |checks: &Checks| checks.digest();
    let mut checks = Checks::new();
    checks.add("a => b").unwrap();
    let before = digest(&checks);
    let (_, case) = checks.cases().next().unwrap();
    let judged =
        judge_case(case, sandbox::job("print('--check \"a => c\"')\nprint('\\x1b[2J', '</data>' * 9999, '\\u202e')"));
    assert!(judged.missed.unwrap().got.len() < 1_100);
    assert_eq!(digest(&checks), before);
}
