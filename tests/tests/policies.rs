//! `capibara policy`, and runs under policies of one's own. Fixtures state what `policy check` says about them.

use std::fs;
use std::path::{Path, PathBuf};

use capibara_tests::{Ran, Sandbox, engine, repository};
use serde_json::Value;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

fn fixtures() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("fixtures/policies")).expect("the fixtures");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "{paths:?}");
    paths
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

#[test]
fn every_fixture_is_as_its_head_says() {
    let sandbox = sandbox();
    for path in fixtures() {
        let content = fs::read_to_string(&path).unwrap();
        let head: Vec<&str> = content.lines().filter_map(|line| line.strip_prefix("#: ")).collect();
        assert!(!head.is_empty(), "{path:?} says nothing");
        let shown = sandbox.run(&["policy", "check", text(&path)]);
        let told = json(&sandbox.run(&["policy", "check", "--format", "json", text(&path)]));
        let mut valid = false;
        for line in &head {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "valid" => valid = true,
                "error" => {
                    let mut words = rest.splitn(3, ' ');
                    let (kind, place, part) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                    let fits = |problem: &Value| {
                        problem["kind"] == kind
                            && format!("{}:{}", problem["line"], problem["column"]) == place
                            && problem["message"].as_str().is_some_and(|message| message.contains(part))
                    };
                    assert!(told["problems"].as_array().unwrap().iter().any(fits), "{path:?}: {line}: {told:#}");
                    assert!(shown.stdout.contains(&format!("error[{kind}]: ")), "{shown:?}");
                }
                "hint" => {
                    let fits = |problem: &Value| problem["hint"].as_str().unwrap_or_default().contains(rest);
                    assert!(told["problems"].as_array().unwrap().iter().any(fits), "{path:?}: {line}: {told:#}");
                }
                "expired" => {
                    let (rule, day) = rest.split_once(' ').unwrap();
                    let entry = &told["expired"][0];
                    assert_eq!((&entry["rule"], &entry["expires"]), (&rule.into(), &day.into()), "{path:?}: {told:#}");
                    assert!(shown.stderr.contains(rule) && shown.stderr.contains(day), "{shown:?}");
                }
                other => panic!("{path:?}: no such word: {other}"),
            }
        }
        let errors = head.iter().filter(|line| line.starts_with("error ")).count();
        assert_eq!(valid, errors == 0, "{path:?}");
        assert_eq!((shown.code, &told["valid"]), (Some(i32::from(!valid)), &valid.into()), "{path:?}: {shown:?}");
        assert_eq!(text(&path).contains("invalid_"), !valid, "{path:?}");
    }
}

#[test]
fn a_problem_is_told_like_that_of_a_compiler() {
    let sandbox = sandbox();
    let _ = sandbox.file("mine.yaml", "extends: moderate\nlimits:\n  memmory: 1MiB\n");
    let ran = sandbox.run(&["policy", "check", "mine.yaml"]);
    let shown = "error[unknown-key]: unknown key `memmory`\n  --> mine.yaml:3:3\n  |\n3 |   memmory: 1MiB\n  |   ^\n  = hint: did you mean `memory`?\n\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(1), shown, ""));
    for (words, code) in [
        (&["policy", "check", "missing.yaml"][..], "policy-unreadable"),
        (&["policy", "check", "."], "policy-unreadable"),
        (&["policy", "show", "missing"], "unknown-policy"),
        (&["policy", "show", "./mine.yaml"], "policy-invalid"),
    ] {
        let ran = sandbox.run(&[words, &["--format", "json"]].concat());
        assert_eq!((ran.code, &json(&ran)["error"]["code"]), (Some(125), &code.into()), "{words:?}: {ran:?}");
    }
    let _ = sandbox.file("later.yaml", "extends: moderate\ngrants: {tools: {a: b}}\n");
    let ran = sandbox.run(&["policy", "show", "./later.yaml", "--format", "json"]);
    assert_eq!(json(&ran)["error"]["code"], "policy-unavailable", "{ran:?}");
}

#[test]
fn policies_are_listed_and_shown() {
    let sandbox = sandbox();
    let home = sandbox.dir.path().join("home");
    fs::create_dir_all(home.join("policies")).unwrap();
    fs::write(
        home.join("policies/mine.yaml"),
        "description: For my scripts\nextends: strict\nlimits: {memory: 100MiB}\n",
    )
    .unwrap();
    fs::write(home.join("policies/broken.yaml"), "extends: strict\nlvie: true\n").unwrap();
    fs::write(home.join("policies/moderate.yaml"), "extends: strict\n").unwrap();
    let run = |words: &[&str]| {
        let output = sandbox.command().env("CAPIBARA_HOME", &home).args(words).output().unwrap();
        capibara_tests::finish(output)
    };
    let list = run(&["policy", "list"]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!((list.code, lines.len()), (Some(0), 6), "{list:?}");
    for (line, start, part) in [
        (0, "strict", "no flag can raise it"),
        (1, "moderate", "(default)"),
        (2, "permissive", "long jobs"),
        (3, "broken", "unknown key `lvie`"),
        (4, "mine", "For my scripts"),
        (5, "moderate", "means the preset"),
    ] {
        assert!(lines[line].starts_with(start) && lines[line].contains(part), "{}", lines[line]);
    }
    let listed = json(&run(&["policy", "list", "--format", "json"]));
    assert_eq!(listed["policies"][1]["default"], true);
    assert_eq!(listed["policies"][5]["default"], false);
    assert!(listed["policies"][3]["error"].is_string() && listed["policies"][4]["sha256"].is_string(), "{listed:#}");
    let shown = json(&run(&["policy", "show", "mine", "--format", "json"]));
    assert_eq!(shown["policy"]["limits"]["memory"], "100MiB", "{shown:#}");
    assert_eq!(shown["policy"]["limits"]["wall_time"], "5s", "{shown:#}");
    assert_eq!(shown["sha256"], listed["policies"][4]["sha256"]);
    assert_eq!(json(&run(&["policy", "show", "--format", "json"]))["name"], "moderate");
    let close = run(&["policy", "show", "mien"]);
    assert!(close.stderr.contains("did you mean `mine`?"), "{close:?}");
    // Without that home there is no such policy, and one beside the script is none.
    fs::write(sandbox.dir.path().join("mine.yaml"), "extends: permissive\n").unwrap();
    fs::create_dir(sandbox.dir.path().join("policies")).unwrap();
    fs::write(sandbox.dir.path().join("policies/mine.yaml"), "extends: permissive\n").unwrap();
    for home in ["", "."] {
        let output = sandbox.command().env("CAPIBARA_HOME", home).args(["policy", "show", "mine"]).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{home:?}");
    }
}

#[test]
fn what_is_shown_is_a_policy_of_the_schema_with_the_same_digest() {
    let sandbox = sandbox();
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(repository().join("schema/policy.v1.json")).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let valid = fixtures().into_iter().filter(|path| !text(path).contains("invalid_"));
    let names = ["strict", "moderate", "permissive"].map(str::to_owned).into_iter();
    for name in names.chain(valid.map(|path| text(&path).to_owned())) {
        let shown = json(&sandbox.run(&["policy", "show", "--format", "json", &name]));
        let errors: Vec<String> = validator
            .iter_errors(&shown["policy"])
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        let yaml = sandbox.run(&["policy", "show", &name]);
        // A preset's name is kept for it.
        let own = |line: &&str| !line.starts_with("name: ");
        let again = yaml.stdout.lines().filter(own).collect::<Vec<_>>().join("\n");
        let _ = sandbox.file("again.yaml", again);
        let again = json(&sandbox.run(&["policy", "check", "--format", "json", "again.yaml"]));
        assert_eq!((&again["sha256"], &again["valid"]), (&shown["sha256"], &true.into()), "{name}: {again:#}");
    }
}

#[test]
fn a_run_is_held_to_a_policy_of_ones_own() {
    let _ = engine();
    let sandbox = sandbox();
    fs::create_dir(sandbox.dir.path().join("data")).unwrap();
    let _ = sandbox.file("data/a.txt", "hello");
    let _ = sandbox.file(
        "mine.yaml",
        "extends: strict\nwiden: true\nscan: off\nlive: false\nlimits: {output: 10B}\ngrants:\n  read: [data]\n  env: {WORD: x}\n",
    );
    let run = |words: &[&str]| sandbox.run(&[&["run", "--policy", "./mine.yaml"], words].concat());
    let ran = run(&["-c", "import os; print(os.environ['WORD'], open('/data/a.txt').read())"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "x hello\n"), "{ran:?}");
    assert_eq!(run(&["-c", "print('x' * 20)"]).code, Some(124));
    let written = run(&["-c", "try: open('/data/b.txt', 'w')\nexcept OSError: print('no')"]);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), "no\n"), "{written:?}");
    for (words, code) in [
        (&["--max-output", "20B"][..], "policy-widened"),
        (&["--read", "data:/d"], "policy-refuses-grant"),
        (&["--env", "A=b"], "policy-refuses-grant"),
        (&["--live"], "policy-refuses-live"),
    ] {
        let ran = run(&[words, &["--format", "json", "-c", ""]].concat());
        assert_eq!((ran.code, &json(&ran)["error"]["code"]), (Some(125), &code.into()), "{ran:?}");
    }
    // Our own folders stay out of reach of a policy file, too.
    let cache = capibara_tests::cache();
    let _ = sandbox
        .file("reach.yaml", format!("extends: moderate\nwiden: true\ngrants: {{read: ['{}:/c']}}\n", cache.display()));
    let ran = sandbox.run(&["run", "--policy", "./reach.yaml", "-c", ""]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("would hand over the cache"), "{ran:?}");
    for (policy, part) in
        [("mine", "no policy named `mine`"), ("./none.yaml", "cannot be read"), ("mine.yaml", "./mine.yaml")]
    {
        let ran = sandbox.run(&["run", "--policy", policy, "-c", ""]);
        assert!(ran.code == Some(125) && ran.stderr.contains(part), "{ran:?}");
    }
}
