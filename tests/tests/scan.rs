//! What goes before a run and what is left of it: scan, denial, dry run, divergence, the record. And `capibara scan`.
//! Each refusal has a control that runs, so that a broken runtime cannot look safe.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use capibara::{Grant, Job, Policy, ScriptModule, Status, Verdict};
use capibara_tests::{Ran, Sandbox, engine, finish, repository};
use serde_json::{Value, json};

/// It leaves a trace on both of its ways out, and then does what `moderate` denies.
const HOSTILE: &str = "import os\nprint('it ran')\nopen('/left/trace', 'w').close()\nos.system('id')\n";
/// Denies on warnings and lets flags grant.
const CAREFUL: &str = "extends: moderate\nfindings: {warning: deny}\n";

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The object on standard output, which is as that schema says.
fn valid(ran: &Ran, schema: &str) -> Value {
    let value = json(ran);
    let text = fs::read_to_string(repository().join("schema").join(schema)).expect("the schema");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("the schema");
    let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}: {value:#}");
    value
}

/// A sandbox with a folder `left` to be granted for writing.
fn with_left() -> Sandbox {
    let sandbox = sandbox();
    fs::create_dir(sandbox.dir.path().join("left")).unwrap();
    sandbox
}

fn left_anything(sandbox: &Sandbox) -> bool {
    fs::read_dir(sandbox.dir.path().join("left")).unwrap().count() > 0
}

fn rules(report: &Value) -> Vec<(&str, u64)> {
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().map(|it| (it["rule"].as_str().unwrap(), it["line"].as_u64().unwrap())).collect()
}

#[test]
fn a_denied_script_does_not_run_and_is_told_why() {
    let sandbox = with_left();
    let _ = sandbox.file("hostile.py", HOSTILE);
    let words = ["run", "--write", "left", "hostile.py"];
    let ran = sandbox.run(&words);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(126), ""), "{ran:?}");
    assert!(!left_anything(&sandbox));
    for part in [
        "capibara: error[spawn-process]: ",
        "capibara:  --> hostile.py:4:1\n",
        "capibara: 4 | os.system('id')\n",
        "capibara: denied by policy moderate: 1 error\n",
        "capibara: hint: `capibara scan --explain spawn-process` says why; ",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    assert!(ran.stderr.lines().all(|line| line.starts_with("capibara: ")), "{ran:?}");

    let ran = sandbox.run(&["run", "--format", "json", "--write", "left", "hostile.py"]);
    let report = valid(&ran, "run.v1.json");
    assert_eq!((ran.code, left_anything(&sandbox)), (Some(126), false), "{ran:?}");
    assert_eq!(report["status"], "denied");
    assert_eq!(report["error"]["code"], "scan-denied");
    assert_eq!(report["scan"]["verdict"], "deny");
    assert_eq!(rules(&report["scan"]), [("spawn-process", 4)]);
    for key in ["exit_code", "usage", "limit", "trap", "runtime"] {
        assert_eq!(report[key], Value::Null, "{key}: {report:#}");
    }
    assert_eq!((&report["stdout"], &report["stderr"]), (&json!(""), &json!("")));

    // The same script leaves its traces where the policy only warns: what was seen above was the denial.
    let ran = sandbox.run(&["run", "--policy", "permissive", "--write", "left", "hostile.py"]);
    assert_eq!(ran.stdout, "it ran\n", "{ran:?}");
    assert!(left_anything(&sandbox));
    assert!(
        ran.stderr.contains("capibara: error[spawn-process]: ") && ran.stderr.contains("(hostile.py:4:1)"),
        "{ran:?}"
    );
    let ran = sandbox.run(&["run", "--policy", "permissive", "--format", "json", "--write", "left", "hostile.py"]);
    let report = valid(&ran, "run.v1.json");
    assert_eq!((&report["status"], &report["scan"]["verdict"]), (&json!("completed"), &json!("warn")));
    assert_eq!(rules(&report["scan"]), [("spawn-process", 4)]);
}

#[test]
fn code_and_standard_input_are_scanned_too() {
    let sandbox = sandbox();
    let code = "import os\nos.system('id')\n";
    let ran = sandbox.run(&["run", "-c", code]);
    assert_eq!(ran.code, Some(126), "{ran:?}");
    assert!(ran.stderr.contains("--> <string>:2:1"), "{ran:?}");
    let ran = sandbox.run_with_input(&["run", "-"], code.as_bytes(), false);
    assert_eq!(ran.code, Some(126), "{ran:?}");
    assert!(ran.stderr.contains("--> <stdin>:2:1"), "{ran:?}");
    let control = sandbox.run(&["run", "-c", "print('fine')"]);
    assert_eq!((control.code, control.stderr.as_str()), (Some(0), ""), "{control:?}");
    // A module of the standard library is ours and not scanned, a WebAssembly program has no source.
    let ran = sandbox.run(&["run", "--format", "json", "--policy", "strict", "-m", "this"]);
    let report = valid(&ran, "run.v1.json");
    assert_eq!((ran.code, report["scan"].is_null()), (Some(0), true), "{ran:?}");
}

#[test]
fn what_warns_is_told_before_the_run_and_no_more_than_five_times() {
    let sandbox = sandbox();
    let _ =
        sandbox.file("many.py", (0..8).map(|i| format!("f{i} = '/data/{i}'\nif 0: open(f{i})\n")).collect::<String>());
    let ran = sandbox.run(&["run", "many.py"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(told.len(), 6, "{ran:?}");
    assert!(told[..5].iter().all(|line| line.starts_with("capibara: warning[file-access]: ")), "{ran:?}");
    assert_eq!(told[5], "capibara: and 3 more; `capibara scan` shows them all");
    // With JSON they stand in the object, all of them.
    let ran = sandbox.run(&["run", "--format", "json", "many.py"]);
    assert_eq!((rules(&json(&ran)["scan"]).len(), ran.stderr.as_str()), (8, ""), "{ran:?}");
}

#[test]
fn a_dry_run_shows_everything_in_force_and_runs_nothing() {
    let sandbox = with_left();
    fs::create_dir(sandbox.dir.path().join("in")).unwrap();
    let _ = sandbox
        .file("good.py", "import helper\nprint('it ran')\nopen('/left/trace', 'w').write(open('/input/x').read())\n");
    let _ = sandbox.file("helper.py", "");
    let grants = [
        "--read",
        "in:/input",
        "--write",
        "left",
        "--env",
        "MODE=quiet-value",
        "--fuel",
        "5G",
        "--timeout",
        "1500ms",
        "--memory",
        "100MiB",
        "--max-output",
        "2MiB",
        "--max-disk",
        "3MiB",
    ];
    let run =
        |format: &str| sandbox.run(&[&["run", "--dry-run", "--format", format], &grants[..], &["good.py"]].concat());
    let ran = run("text");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let expected = [
        "verdict   allow",
        "policy    moderate",
        "language  python",
        "limit     fuel 5G",
        "limit     wall_time 1s500ms",
        "limit     memory 100MiB",
        "limit     output 2MiB",
        "limit     bytes_written 3MiB",
        "limit     files 1000",
        "limit     descriptors 128",
        "grant     read in as /input",
        "grant     write left as /left",
        "grant     env MODE",
        "module    helper.py",
        "needs     module helper (good.py:1)",
        "needs     write /left/trace (good.py:3)",
        "needs     read /input/x (good.py:3)",
    ];
    for line in expected {
        assert!(lines.contains(&line), "{line}: {ran:?}");
    }
    assert_eq!(lines.len(), expected.len(), "{ran:?}");
    // Values of variables may be secrets.
    assert!(!ran.stdout.contains("quiet-value") && !ran.stderr.contains("quiet-value"), "{ran:?}");

    let ran = run("json");
    let report = json(&ran);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!((&report["schema"], &report["dry_run"], &report["would_run"]), (&json!(1), &json!(true), &json!(true)));
    assert_eq!(report["scan"]["verdict"], "allow");
    let limits = json!({
        "fuel": 5_000_000_000_u64, "wall_ms": 1500, "memory_bytes": 100 << 20, "output_bytes": 2 << 20,
        "bytes_written": 3 << 20, "files": 1000, "descriptors": 128
    });
    assert_eq!(report["limits"], limits);
    let grants_shown = json!([
        {"access": "read", "host": "in", "guest": "/input"}, {"access": "write", "host": "left", "guest": "/left"}
    ]);
    assert_eq!((&report["grants"], &report["env"]), (&grants_shown, &json!(["MODE"])));
    assert_eq!((&report["modules"], &report["live"]), (&json!(["helper.py"]), &json!(false)));
    let needs = report["needs"].as_array().unwrap();
    let need = |kind: &str, name: &str| needs.iter().any(|it| it["need"] == kind && it["name"] == name);
    assert!(need("read", "/input/x") && need("write", "/left/trace") && need("module", "helper"), "{report:#}");
    assert!(!ran.stdout.contains("quiet-value"), "{ran:?}");
    assert!(!left_anything(&sandbox));

    // A script that is denied: as its run would end.
    let _ = sandbox.file("hostile.py", HOSTILE);
    let ran = sandbox.run(&["run", "--dry-run", "--write", "left", "hostile.py"]);
    assert_eq!((ran.code, ran.stdout.lines().next()), (Some(126), Some("verdict   deny")), "{ran:?}");
    assert!(ran.stderr.contains("error[spawn-process]"), "{ran:?}");
    let ran = sandbox.run(&["run", "--dry-run", "--format", "json", "--write", "left", "hostile.py"]);
    let report = json(&ran);
    assert_eq!(
        (ran.code, &report["would_run"], rules(&report["scan"])),
        (Some(126), &json!(false), vec![("spawn-process", 4)])
    );
    assert!(!left_anything(&sandbox));
    // Nothing was run, so nothing is recorded.
    assert!(records(&sandbox).is_empty());

    // Control: without `--dry-run` the same words run it and leave the trace.
    let _ = sandbox.file("in/x", "read");
    let ran = sandbox.run(&[&["run"], &grants[..], &["good.py"]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "it ran\n"), "{ran:?}");
    assert_eq!(fs::read_to_string(sandbox.dir.path().join("left/trace")).unwrap(), "read");
}

#[test]
fn a_dry_run_shows_the_limits_of_each_preset() {
    let sandbox = sandbox();
    let _ = sandbox.file("good.py", "print(1)\n");
    let limits = |words: &[&str]| {
        let ran = sandbox.run(&[&["run", "--dry-run", "--format", "json"], words, &["good.py"]].concat());
        json(&ran)["limits"].clone()
    };
    assert_eq!(limits(&["--policy", "strict"])["fuel"], 100_000_000_000_u64);
    assert_eq!(limits(&["--policy", "strict"])["wall_ms"], 5_000);
    assert_eq!(limits(&["--policy", "permissive"])["fuel"], Value::Null);
    assert_eq!(limits(&["--live"])["fuel"], Value::Null);
    assert_eq!(limits(&[])["fuel"], 1_000_000_000_000_u64);
}

/// Words of the hint that name options to add, as a shell would take them apart.
fn granted_by_hint(ran: &Ran) -> Vec<String> {
    let rest = ran.stderr.split("grant it: add `").nth(1).unwrap_or_else(|| panic!("no hint: {ran:?}"));
    let line = rest.split('`').next().unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_hint_after_a_denial_names_the_grant_to_add() {
    let sandbox = sandbox();
    let _ = sandbox.file("careful.yaml", CAREFUL);
    // A file that every machine has, outside the folders a script has anyway.
    let _ = sandbox.file("script.py", "print(open('/usr/bin/env', 'rb').read(0))\n");
    let run = |words: &[&str]| sandbox.run(&[&["run", "--policy", "./careful.yaml"], words, &["script.py"]].concat());
    let ran = run(&[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(126), ""), "{ran:?}");
    let words = granted_by_hint(&ran);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(words, ["--read", "/usr/bin/env:/usr/bin/env"]);
    let ran = run(&words);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "b''\n", ""), "{ran:?}");
    // JSON has the same hint.
    let ran = run(&["--format", "json"]);
    let hint = json(&ran)["error"]["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint.contains("`--read /usr/bin/env:/usr/bin/env`"), "{ran:?}");
    // What is to be made is not there yet: its folder is granted. What a shell would take apart is quoted.
    for (script, option) in [
        ("open('/results/new.txt', 'w')\n", "`--write /results`"),
        ("open('/srv/results/new.txt', 'w')\n", "`--write /srv/results:/srv/results`"),
        ("open('/srv/a b', 'w'); open('/srv/a b')\n", "`--write /srv`"),
        ("open('/srv/a b')\n", "`--read '/srv/a b:/srv/a b'`"),
        ("open('/alone')\n", "`--read /alone`"),
        ("import os\nprint(os.environ['MODE'])\n", "`--env MODE=VALUE`"),
    ] {
        let _ = sandbox.file("script.py", script);
        let ran = run(&[]);
        assert_eq!(ran.code, Some(126), "{script}: {ran:?}");
        assert!(ran.stderr.contains(&format!("grant it: add {option}\n")), "{script}: {option}: {ran:?}");
    }
    // Where flags cannot grant, none is named.
    let ran = sandbox.run(&["run", "--policy", "strict", "script.py"]);
    assert_eq!(ran.code, Some(126), "{ran:?}");
    assert!(ran.stderr.contains("capibara: hint: ") && !ran.stderr.contains("grant it: add"), "{ran:?}");
}

#[test]
fn what_is_granted_is_no_finding() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.dir.path().join("data")).unwrap();
    let _ = sandbox.file("data/a.csv", "a,b\n");
    let _ = sandbox.file("read.py", "print(open('/data/a.csv').read(), end='')\n");
    let _ = sandbox.file("write.py", "open('/data/a.csv', 'w')\n");
    let ran = sandbox.run(&["run", "--read", "data", "read.py"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "a,b\n", ""), "{ran:?}");
    let ran = sandbox.run(&["run", "--read", "data", "write.py"]);
    assert!(ran.stderr.contains("warning[file-access]"), "{ran:?}");
    // Controls: another place, and no grant.
    for words in [&["run", "--read", "data:/other", "read.py"][..], &["run", "read.py"]] {
        let ran = sandbox.run(words);
        assert!(ran.stderr.contains("warning[file-access]: reads `/data/a.csv`"), "{ran:?}");
        assert_eq!(ran.code, Some(1), "{ran:?}");
    }
    // As a line of a policy, also under what denies warnings.
    let _ = sandbox.file("mine.yaml", "extends: strict\nwiden: true\ngrants: {read: [data]}\n");
    let ran = sandbox.run(&["run", "--policy", "./mine.yaml", "read.py"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "a,b\n", ""), "{ran:?}");
}

#[test]
fn a_file_that_the_scan_did_not_foresee_is_told() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.dir.path().join("data")).unwrap();
    let _ = sandbox.file("data/a", "a");
    // The scan cannot tell that this opens anything at all.
    let hidden = "import io, sys\nopen_it = vars(io)[sys.argv[1]]\ntry: print(open_it(*sys.argv[2:]).read())\nexcept OSError as error: print(error.errno)\n";
    let _ = sandbox.file("hidden.py", hidden);
    let ran = sandbox.run(&["run", "--read", "data", "hidden.py", "open", "/data/a"]);
    let told = "capibara: the script wanted to open `/data/a`, which the scan had not foreseen\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "a\n", told), "{ran:?}");
    // Also what was not there, or not granted, and what was to be changed.
    let ran = sandbox.run(&["run", "--format", "json", "hidden.py", "open", "/etc/passwd", "w"]);
    let report = valid(&ran, "run.v1.json");
    assert_eq!(report["divergence"], json!([{"path": "/etc/passwd", "access": "write"}]), "{ran:?}");
    // Its own folders are nothing to tell.
    let ran = sandbox.run(&["run", "hidden.py", "open", "/tmp/x", "w+"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");

    // Foreseen: the path stands in the script, and the scan has told what it thinks of it.
    let _ = sandbox.file("plain.py", "try: open('/da' + 'ta/a')\nexcept OSError: pass\n");
    let ran = sandbox.run(&["run", "--format", "json", "--read", "data", "plain.py"]);
    assert_eq!((ran.code, &valid(&ran, "run.v1.json")["divergence"]), (Some(0), &json!([])), "{ran:?}");
    // The scan has told that some file is opened that it cannot name.
    let _ = sandbox.file("argument.py", "import sys\ntry: open(sys.argv[1])\nexcept OSError: pass\n");
    let ran = sandbox.run(&["run", "--format", "json", "argument.py", "/data/a"]);
    assert_eq!((ran.code, &valid(&ran, "run.v1.json")["divergence"]), (Some(0), &json!([])), "{ran:?}");
    // To read was foreseen, to change was not.
    let _ = sandbox.file("both.py", format!("{hidden}try: open('/data/a')\nexcept OSError: pass\n"));
    let ran = sandbox.run(&["run", "--format", "json", "both.py", "open", "/data/a", "w"]);
    let report = valid(&ran, "run.v1.json");
    assert_eq!(report["divergence"], json!([{"path": "/data/a", "access": "write"}]), "{ran:?}");
}

/// A script as it lies on the disk, whether it runs, and what it prints or which rule denies it.
struct Encoded {
    name: &'static str,
    bytes: Vec<u8>,
    /// Exit code, and standard output or a part of standard error.
    expected: (i32, &'static str),
}

#[test]
fn what_is_scanned_is_what_runs() {
    let sandbox = sandbox();
    let mut zip = b"print('text')\n".to_vec();
    zip.extend(zip_archive());
    let row = |name, bytes: &[u8], code, shown| Encoded { name, bytes: bytes.to_vec(), expected: (code, shown) };
    let rows = [
        row("latin", b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'), len('\xc3\xa9'))\n", 0, "'\\xe9' 2\n"),
        row("utf8", "print(ascii('\u{e9}'))\n".as_bytes(), 0, "'\\xe9'\n"),
        row("latin-hostile", b"# coding: latin-1\n\xe9 = 1\nimport os\nos.system('id')\n", 126, "latin-hostile.py:4:1"),
        row("cr", b"# one\rprint(1)\rprint(2)\r\nprint(3)\n", 0, "1\n2\n3\n"),
        row("cr-hostile", b"# one\rimport os\ros.system('id')\r", 126, "cr-hostile.py:3:1"),
        row("bom", b"\xef\xbb\xbfprint('marked')\n", 0, "marked\n"),
        row("bom-hostile", b"\xef\xbb\xbfimport os\nos.system('id')\n", 126, "bom-hostile.py:2:1"),
        row("utf7", b"# coding: utf-7\n+AGkAbQBwAG8AcgB0- os\n", 126, "unreadable-source"),
        row("rot13", b"# coding: rot13\nvzcbeg bf\n", 126, "unreadable-source"),
        row(
            "second-line",
            b"#!/usr/bin/python3\n# vim: set fileencoding=utf_16 :\nprint(1)\n",
            126,
            "unreadable-source",
        ),
        row("third-line", b"#\n#\n# coding: utf-7\nprint('text')\n", 0, "text\n"),
        row("after-code", b"print('text')\n# coding: utf-7\n", 0, "text\n"),
        row("nul", b"print(1)\n\0import os\n", 126, "unreadable-source"),
        row("ascii", b"# coding: ascii\nprint('\xc3\xa9')\n", 126, "unreadable-source"),
        // Nothing tells how these bytes are to be read.
        row("broken", b"print('\xe9')\n", 125, "is not UTF-8"),
        Encoded { name: "zip", bytes: zip_archive(), expected: (126, "unreadable-source") },
        Encoded { name: "zip-appended", bytes: zip, expected: (126, "unreadable-source") },
        row("pyc", b"\xf3\x0d\r\n\0\0\0\0\0\0\0\0\0\0\0\0\xe3\0\0\0\0", 125, "is not UTF-8"),
    ];
    for Encoded { name, bytes, expected: (code, shown) } in rows {
        let path = sandbox.file(&format!("{name}.py"), &bytes);
        for policy in ["moderate", "permissive"] {
            let expected = match code {
                // Hostile text is only warned of here; what is no text is denied everywhere.
                126 if policy == "permissive" && shown != "unreadable-source" => continue,
                code => code,
            };
            let ran = sandbox.run(&["run", "--policy", policy, path.file_name().unwrap().to_str().unwrap()]);
            let (stream, exact) = if code == 0 { (&ran.stdout, true) } else { (&ran.stderr, false) };
            assert_eq!(ran.code, Some(expected), "{name}: {ran:?}");
            assert!(if exact { stream == shown } else { stream.contains(shown) }, "{name}: {ran:?}");
            assert!(code == 0 || ran.stdout.is_empty(), "{name}: {ran:?}");
        }
    }
}

/// An archive that Python would run if it were given one as a script, and that is text as far as UTF-8 goes.
fn zip_archive() -> Vec<u8> {
    let archive = |padding: usize| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        writer.start_file("__main__.py", stored.last_modified_time(zip::DateTime::default())).unwrap();
        writer.write_all(format!("print('archive')\n{}", "#".repeat(padding)).as_bytes()).unwrap();
        let mut bytes = writer.finish().unwrap().into_inner();
        // The attributes of the file, which have high bits and which nobody needs.
        let entry = bytes.windows(4).position(|it| it == b"PK\x01\x02").unwrap();
        bytes[entry + 38..entry + 42].fill(0);
        bytes
    };
    // Until the checksum has no high bits.
    (0..1_000).map(archive).find(|bytes| std::str::from_utf8(bytes).is_ok()).expect("an archive that is UTF-8")
}

#[test]
fn files_and_folders_are_scanned() {
    let sandbox = sandbox();
    let root = sandbox.dir.path();
    for folder in ["tree/sub/skipped", "tree/.hidden", "outside"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let hostile = "import os\nos.system('id')\n";
    for (path, text) in [
        ("tree/good.py", "print(1)\n"),
        ("tree/hostile.py", hostile),
        ("tree/sub/page.ts", "const a: number = 1;\n"),
        ("tree/sub/run.mjs", "import { exec } from 'child_process';\nexec('id');\n"),
        ("tree/tool", "#!/usr/bin/env python3\nprint(1)\n"),
        ("tree/README", "import os; os.system('id')\n"),
        ("tree/notes.txt", "#!/usr/bin/env python3\nimport os; os.system('id')\n"),
        // None of these is looked at.
        ("tree/.hidden/h.py", hostile),
        ("tree/.h.py", hostile),
        ("tree/sub/skipped/s.py", hostile),
        ("tree/sub/generated.py", hostile),
        ("outside/o.py", hostile),
        ("tree/.gitignore", "skipped/\n"),
        ("tree/sub/.ignore", "generated.py\n"),
    ] {
        fs::write(root.join(path), text).unwrap();
    }
    symlink(root.join("outside/o.py"), root.join("tree/link.py")).unwrap();
    symlink(root.join("outside"), root.join("tree/folder")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("tree/pipe.py")).status().unwrap().success());

    let ran = sandbox.run(&["scan", "--format", "json", "tree"]);
    let report = valid(&ran, "scan.v1.json");
    assert_eq!((ran.code, &report["verdict"]), (Some(1), &json!("deny")), "{ran:?}");
    let files: Vec<(&str, &str, &str)> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            let text = |key: &str| file[key].as_str().unwrap();
            (text("path"), text("language"), text("verdict"))
        })
        .collect();
    let expected = [
        ("tree/good.py", "python", "allow"),
        ("tree/hostile.py", "python", "deny"),
        ("tree/sub/page.ts", "typescript", "allow"),
        ("tree/sub/run.mjs", "javascript", "deny"),
        ("tree/tool", "python", "allow"),
    ];
    assert_eq!(files, expected);
    let summary = &report["summary"];
    assert_eq!((&summary["files"], &summary["allow"], &summary["deny"]), (&json!(5), &json!(3), &json!(2)));

    let ran = sandbox.run(&["scan", "tree"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stdout.contains("error[spawn-process]") && ran.stdout.contains("--> tree/hostile.py:2:1"), "{ran:?}");
    // Named by itself, a file is scanned whatever folder it lies in and whether it is ignored or a link.
    for path in ["tree/.h.py", "tree/sub/generated.py", "tree/link.py"] {
        assert_eq!(sandbox.run(&["scan", path]).code, Some(1), "{path}");
    }
    assert_eq!(sandbox.run(&["scan", "tree/good.py", "tree/sub/page.ts"]).code, Some(0));
    // What is not known to be a script is, if it is named.
    let ran = sandbox.run(&["scan", "--format", "json", "tree/README"]);
    assert_eq!((ran.code, rules(&json(&ran)["files"][0])[0].0), (Some(1), "unknown-language"), "{ran:?}");
    assert_eq!(sandbox.run(&["scan", "--language", "python", "tree/README"]).code, Some(1));
}

#[test]
fn many_files_come_in_a_stable_order() {
    let sandbox = sandbox();
    for i in 0..400 {
        let folder = sandbox.dir.path().join(format!("many/{:02}", i % 7));
        fs::create_dir_all(&folder).unwrap();
        // Of very different length, so that threads overtake each other.
        let text = format!("x = {i}\n").repeat(if i % 50 == 0 { 2_000 } else { 1 });
        fs::write(folder.join(format!("f{i}.py")), format!("{text}import os\nos.system('id')\n")).unwrap();
    }
    let first = sandbox.run(&["scan", "--format", "json", "many"]);
    let report = valid(&first, "scan.v1.json");
    let paths: Vec<&str> = report["files"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!((paths.len(), paths.is_sorted()), (400, true));
    assert_eq!(report["summary"]["findings"]["error"], 400);
    for _ in 0..3 {
        assert_eq!(sandbox.run(&["scan", "--format", "json", "many"]).stdout, first.stdout);
    }
}

#[test]
fn scan_says_with_its_exit_code_what_came_of_it() {
    let sandbox = sandbox();
    fs::create_dir(sandbox.dir.path().join("empty")).unwrap();
    for (name, text) in [
        ("good.py", "print(1)\n"),
        ("warned.py", "open('/data/x')\n"),
        ("hostile.py", "import os\nos.system('id')\n"),
        ("bad-policy.yaml", "extends: moderate\nfindigns: {}\n"),
    ] {
        let _ = sandbox.file(name, text);
    }
    for (words, code) in [
        (&["good.py"][..], 0),
        (&["warned.py"], 0),
        (&["--policy", "strict", "warned.py"], 1),
        (&["hostile.py"], 1),
        (&["--policy", "permissive", "hostile.py"], 0),
        (&["good.py", "hostile.py"], 1),
        // A file that cannot be read is in no verdict; that something is denied counts for more.
        (&["missing.py"], 125),
        (&["good.py", "missing.py"], 125),
        (&["hostile.py", "missing.py"], 1),
        (&["empty"], 125),
        (&[], 125),
        (&["--policy", "unknown", "good.py"], 125),
        (&["--policy", "./bad-policy.yaml", "good.py"], 125),
        (&["--language", "cobol", "good.py"], 125),
        (&["--rules", "missing.yaml", "good.py"], 125),
        (&["--explain", "no-such-rule"], 125),
    ] {
        let ran = sandbox.run(&[&["scan"], words].concat());
        assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
        assert!(code != 125 || ran.stderr.contains("error: "), "{words:?}: {ran:?}");
    }
    let ran = sandbox.run(&["scan", "--format", "json", "good.py", "missing.py"]);
    let report = valid(&ran, "scan.v1.json");
    assert_eq!((&report["unread"][0]["path"], &report["summary"]["unread"]), (&json!("missing.py"), &json!(1)));
    for (input, code) in [("print(1)\n", 0), ("import os\nos.system('id')\n", 1)] {
        let ran = sandbox.run_with_input(&["scan", "--format", "json", "-"], input.as_bytes(), false);
        let report = valid(&ran, "scan.v1.json");
        assert_eq!((ran.code, &report["files"][0]["path"]), (Some(code), &json!("<stdin>")), "{ran:?}");
        assert_eq!(report["files"][0]["language"], "python");
    }
    let script = b"require('child_process').exec('id');\n";
    let ran = sandbox.run_with_input(&["scan", "--language", "javascript", "-"], script, false);
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[test]
fn a_run_and_a_scan_come_to_the_same_verdict() {
    let sandbox = sandbox();
    for (name, text) in [
        ("good.py", "print(1)\n"),
        ("warned.py", "if 0: open('/data/x')\n"),
        ("hostile.py", "import os\nif 0: os.system('id')\n"),
        ("torn.py", "def f(:\n"),
    ] {
        let _ = sandbox.file(name, text);
        for policy in ["strict", "moderate", "permissive"] {
            let scanned = json(&sandbox.run(&["scan", "--policy", policy, "--format", "json", name]));
            let ran = json(&sandbox.run(&["run", "--policy", policy, "--format", "json", name]));
            assert_eq!(ran["scan"]["verdict"], scanned["verdict"], "{name} {policy}");
            assert_eq!(ran["scan"]["findings"], scanned["files"][0]["findings"], "{name} {policy}");
            assert_eq!(ran["status"] == "denied", scanned["verdict"] == "deny", "{name} {policy}");
        }
    }
}

#[test]
fn sarif_has_rules_results_and_fingerprints() {
    let sandbox = sandbox();
    let hostile = "import os\nos.system('id')\n";
    let _ = (sandbox.file("hostile.py", hostile), sandbox.file("good.py", "print(1)\n"));
    let log = |words: &[&str]| json(&sandbox.run(&[&["scan", "--format", "sarif"], words].concat()));
    let first = log(&["hostile.py", "good.py"]);
    let run = &first["runs"][0];
    assert_eq!((&first["version"], first["runs"].as_array().map(Vec::len)), (&json!("2.1.0"), Some(1)));
    assert_eq!(run["tool"]["driver"]["name"], "capibara");
    let result = &run["results"][0];
    assert_eq!((run["results"].as_array().map(Vec::len), &result["ruleId"]), (Some(1), &json!("spawn-process")));
    assert_eq!(result["level"], "error");
    let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "spawn-process");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!((&place["artifactLocation"]["uri"], &place["region"]["startLine"]), (&json!("hostile.py"), &json!(2)));
    assert_eq!(run["artifacts"].as_array().map(Vec::len), Some(2));
    assert!(!first.to_string().contains("os.system('id')"), "source text in the log: {first:#}");
    // The fingerprint stays while lines are added above, and another line has another.
    let mark = |log: &Value| log["runs"][0]["results"][0]["partialFingerprints"].clone();
    let _ = sandbox.file("hostile.py", format!("# moved\n\n{hostile}"));
    let moved = log(&["hostile.py"]);
    assert_eq!(moved["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"], 4);
    assert_eq!(mark(&moved), mark(&first));
    let _ = sandbox.file("hostile.py", "import os\nos.system('ls')\n");
    assert_ne!(mark(&log(&["hostile.py"])), mark(&first));
    // What could not be read makes the log of an execution that did not succeed.
    let log = json(&sandbox.run(&["scan", "--format", "sarif", "good.py", "missing.py"]));
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn every_rule_has_its_page() {
    let sandbox = sandbox();
    for rule in capibara_policies::rules::RULES {
        let ran = sandbox.run(&["scan", "--explain", rule.id]);
        assert_eq!(
            (ran.code, ran.stdout.lines().next().is_some_and(|line| line.contains(rule.id))),
            (Some(0), true),
            "{}",
            rule.id
        );
    }
    let ran = sandbox.run(&["scan", "--explain", "spawn-proces"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.contains("there is no rule `spawn-proces`") && ran.stderr.contains("spawn-process"), "{ran:?}");
}

#[test]
fn rules_of_ones_own_are_looked_for_too() {
    let sandbox = sandbox();
    let rule = r#"rules:
  - id: x-no-print
    title: printing
    severity: error
    languages: [python]
    query: |
      ((call function: (identifier) @name) @call (#eq? @name "print"))
    capture: call
    message: a print
    should-fire: ["print(1)"]
    should-not-fire: ["log(1)"]
"#;
    let _ = (sandbox.file("team.yaml", rule), sandbox.file("good.py", "x = 1\nprint(x)\n"));
    assert_eq!(sandbox.run(&["scan", "good.py"]).code, Some(0));
    let ran = sandbox.run(&["scan", "--rules", "team.yaml", "--format", "json", "good.py"]);
    let report = valid(&ran, "scan.v1.json");
    assert_eq!((ran.code, rules(&report["files"][0])), (Some(1), vec![("x-no-print", 2)]), "{ran:?}");
    // A query that is none names its line.
    let _ = sandbox.file("broken.yaml", rule.replace("(call function", "(calls function"));
    let ran = sandbox.run(&["scan", "--rules", "broken.yaml", "good.py"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("broken.yaml:7:") && ran.stderr.contains("calls"), "{ran:?}");
}

#[test]
fn what_is_too_long_or_too_deep_is_a_finding() {
    let sandbox = sandbox();
    let deep =
        |open: &str, close: &str, levels: usize| format!("x = {}1{}\n", open.repeat(levels), close.repeat(levels));
    // Long and quick to parse: that takes no time on any machine.
    let comment = format!("{}\n", "#".repeat(1023));
    for (name, text, rules_found) in [
        ("brackets.py", deep("(", ")", 100_000), vec![("oversized-source", 1)]),
        ("lists.py", deep("[", "]", 100_000), vec![("oversized-source", 1)]),
        ("brackets.js", deep("(", ")", 100_000), vec![("oversized-source", 1)]),
        ("lists.ts", deep("[", "]", 100_000), vec![("oversized-source", 1)]),
        ("long.py", comment.repeat((1 << 20) / 1024 + 1), vec![("oversized-source", 1)]),
        // Controls.
        ("fits.py", comment.repeat((1 << 20) / 1024), vec![]),
        ("nested.py", deep("(", ")", 100), vec![]),
        ("nested.js", deep("[", "]", 100), vec![]),
    ] {
        let _ = sandbox.file(name, text);
        let ran = sandbox.run(&["scan", "--format", "json", name]);
        assert_eq!(ran.code, Some(i32::from(!rules_found.is_empty())), "{name}");
        assert_eq!(rules(&valid(&ran, "scan.v1.json")["files"][0]), rules_found, "{name}");
    }
    // The bound is a line of the policy.
    let _ = sandbox.file("larger.yaml", "extends: moderate\nwiden: true\nscan_limits: {source_bytes: 2MiB}\n");
    assert_eq!(sandbox.run(&["scan", "--policy", "./larger.yaml", "long.py"]).code, Some(0));
}

#[test]
fn hostile_names_and_texts_do_no_harm_to_the_screen() {
    let sandbox = sandbox();
    let name = "a\u{1b}[2J\u{202e}.py";
    let _ = sandbox.file(name, "import os\nos.system('\u{1b}[2J\u{202e}')\n");
    for words in [&["scan", name][..], &["scan", "--format", "json", name], &["scan", "--format", "sarif", name]] {
        let ran = sandbox.run(words);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for shown in [&ran.stdout, &ran.stderr] {
            assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{ran:?}");
        }
    }
}

/// All records of the log of that sandbox.
fn records(sandbox: &Sandbox) -> Vec<Value> {
    let ran = sandbox.run(&["audit", "list", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_run_leaves_one_record() {
    let sandbox = sandbox();
    let _ = sandbox.file("hostile.py", "import os\nos.system('id')\n");
    let _ = sandbox.file("warned.py", "if 0: open('/data/x')\nprint(1)\n");
    let _ = sandbox.file("notes.txt", "print(1)\n");
    let rows: &[(&[&str], i32, &str, &str, &str)] = &[
        (&["run", "-c", "print(1)"], 0, "completed", "allow", "moderate"),
        (&["run", "-c", "raise SystemExit(3)"], 3, "completed", "allow", "moderate"),
        (&["run", "warned.py"], 0, "completed", "warn", "moderate"),
        (&["run", "hostile.py"], 126, "denied", "deny", "moderate"),
        (&["run", "--policy", "strict", "warned.py"], 126, "denied", "deny", "strict"),
        (&["run", "--timeout", "200ms", "-c", "while True: pass"], 124, "limit", "warn", "moderate"),
        (&["run", "--format", "json", "-c", "print(2)"], 0, "completed", "allow", "moderate"),
        // Nobody knows its language.
        (&["run", "notes.txt"], 126, "denied", "deny", "moderate"),
        // The grant is not there: it could not be run.
        (&["run", "--read", "missing", "-c", "print(1)"], 125, "error", "allow", "moderate"),
    ];
    for (i, (words, code, status, verdict, policy)) in rows.iter().enumerate() {
        let ran = sandbox.run(words);
        assert_eq!(ran.code, Some(*code), "{words:?}: {ran:?}");
        let records = records(&sandbox);
        assert_eq!(records.len(), i + 1, "{words:?}");
        let record = records.last().unwrap();
        let text = fs::read_to_string(repository().join("schema/audit.v1.json")).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert!(jsonschema::draft202012::new(&schema).unwrap().is_valid(record), "{record:#}");
        assert_eq!(record["status_code"], *status, "{words:?}: {record:#}");
        assert_eq!(record["unmapped"]["verdict"], *verdict, "{words:?}: {record:#}");
        assert_eq!(record["policy"]["name"], *policy, "{words:?}: {record:#}");
        let shown = sandbox.run(&["scan", "--policy", policy, "--format", "json", "warned.py"]);
        if !words.iter().any(|word| word.starts_with("--timeout") || word.starts_with("--read")) {
            // A policy has one digest, whichever command names it.
            assert_eq!(record["policy"]["uid"], json(&shown)["policy"]["sha256"], "{words:?}: {record:#}");
        } else {
            assert_eq!(record["policy"]["uid"].as_str().map(str::len), Some(64), "{words:?}");
        }
        let run = json!(rows[i].1);
        assert_eq!(record["exit_code"], if *status == "completed" { run } else { Value::Null }, "{words:?}");
    }
    let ran = sandbox.run(&["audit", "verify"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("whole: records 1 to 9 in 1 file\n"), "{ran:?}");
    // The digest of a job is the one its caller got.
    let ran = sandbox.run(&["run", "--format", "json", "hostile.py"]);
    assert_eq!(records(&sandbox).last().unwrap()["process"]["uid"], json(&ran)["job_sha256"]);
    // Other commands run nothing and record nothing.
    let _ = (sandbox.run(&["scan", "hostile.py"]), sandbox.run(&["run", "--dry-run", "warned.py"]));
    assert_eq!(records(&sandbox).len(), rows.len() + 1);
    // A log that was changed is seen.
    let log = sandbox.dir.path().join(".local/state/capibara/audit/audit-000000000001.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("\"verdict\":\"deny\"", "\"verdict\":\"warn\"", 1)).unwrap();
    let ran = sandbox.run(&["audit", "verify"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("edited"), "{ran:?}");
}

/// Everything below a folder, read as bytes, without the runtime.
fn all_bytes(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(path.to_string_lossy().as_bytes());
        if path.is_dir() {
            bytes.extend(all_bytes(&path));
        } else {
            bytes.extend(fs::read(&path).unwrap());
        }
    }
    bytes
}

#[test]
fn the_log_holds_nothing_of_what_a_script_is_told_or_says() {
    let sandbox = sandbox();
    let home = sandbox.dir.path().join("kept-here");
    fs::create_dir_all(sandbox.dir.path().join("folder-MARKER")).unwrap();
    fs::create_dir_all(sandbox.dir.path().join("grant-MARKER")).unwrap();
    let _ = sandbox.file(
        "folder-MARKER/script.py",
        "import sys, os, module\nsecret = 'source-MARKER'\nprint('output-MARKER')\nprint(sys.stdin.read())\nprint('error-MARKER', file=sys.stderr)\nopen('/tmp/name-MARKER', 'w').write('x')\n",
    );
    let _ = sandbox.file("folder-MARKER/module.py", "value = 'module-MARKER'\nif 0: open('/etc/need-MARKER')\n");
    let _ =
        sandbox.file("folder-MARKER/denied.py", "password = 'source-MARKER'\nimport os\nos.system('command-MARKER')\n");
    let _ =
        sandbox.file("policy-MARKER.yaml", "extends: moderate\nwiden: true\ngrants: {env: {OTHER: granted-MARKER}}\n");
    let run = |words: &[&str]| {
        let mut command = sandbox.command();
        command.env("CAPIBARA_HOME", &home).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Who is denied may have ended before.
        let _ = child.stdin.take().unwrap().write_all(b"input-MARKER");
        finish(child.wait_with_output().unwrap())
    };
    let grants = ["--env", "KEY=value-MARKER", "--read", "grant-MARKER:/data-MARKER"];
    for (script, code) in [("folder-MARKER/script.py", 0), ("folder-MARKER/denied.py", 126)] {
        let ran = run(&[&["run"], &grants[..], &[script, "argument-MARKER"]].concat());
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.stdout.contains("output-MARKER") && ran.stdout.contains("input-MARKER"), code == 0, "{ran:?}");
    }
    assert_eq!(run(&["run", "-c", "print('code-MARKER')"]).code, Some(0));
    assert_eq!(run(&["run", "--policy", "./policy-MARKER.yaml", "-c", "1"]).code, Some(0));
    let kept = all_bytes(&home);
    let kept = String::from_utf8_lossy(&kept);
    // It is there, and says of each what it may say.
    assert_eq!(kept.matches("\"event_code\":\"run\"").count(), 4);
    assert!(kept.contains("script.py") && kept.contains("denied.py") && kept.contains("spawn-process"));
    let allowed = kept.matches("\"policy-MARKER\"").count();
    assert_eq!(kept.matches("MARKER").count(), allowed, "{kept}");
}

#[test]
fn strict_runs_only_what_can_be_recorded() {
    let sandbox = sandbox();
    let file = sandbox.file("a-file", "");
    let run = |home: &Path, policy: &str, format: &str| {
        let mut command = sandbox.command();
        command.env("CAPIBARA_HOME", home).args([
            "run",
            "--policy",
            policy,
            "--format",
            format,
            "-c",
            "print('it ran')",
        ]);
        finish(command.output().unwrap())
    };
    // The folder of the log lies below a file: nobody can make it.
    let below = file.join("home");
    let ran = run(&below, "strict", "text");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.contains("error: policy `strict` runs only what can be recorded: "), "{ran:?}");
    let ran = run(&below, "strict", "json");
    let report = valid(&ran, "run.v1.json");
    assert_eq!((ran.code, &report["status"], &report["stdout"]), (Some(125), &json!("error"), &json!("")), "{ran:?}");
    for policy in ["moderate", "permissive"] {
        let ran = run(&below, policy, "text");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "it ran\n"), "{ran:?}");
        assert!(ran.stderr.contains("capibara: this run is not recorded: "), "{ran:?}");
    }
    // Control: with a place to write to, strict runs, and the record is there.
    let home = sandbox.dir.path().join("home");
    let ran = run(&home, "strict", "text");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "it ran\n", ""), "{ran:?}");
    assert!(home.join("audit/audit-000000000001.jsonl").is_file());
    // A log that is damaged in a way that nothing can be added to it.
    fs::remove_file(home.join("audit.head")).unwrap();
    fs::create_dir(home.join("audit.head")).unwrap();
    let ran = run(&home, "strict", "text");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
}

#[test]
fn the_library_scans_before_it_runs() {
    let engine = engine();
    let hostile = Job::python("import os\nprint('it ran')\nos.system('id')\n");
    let denied = engine.run_blocking(hostile).unwrap();
    assert_eq!((&denied.status, denied.scan.verdict), (&Status::Denied, Verdict::Deny));
    assert!(denied.stdout.bytes.is_empty() && denied.runtime.is_none() && denied.exit_code().is_none());
    let permissive = Policy::preset("permissive").unwrap();
    let warned = Job::python("import os\nprint('it ran')\nos.system('id')\n").with_policy(permissive);
    let warned = engine.run_blocking(warned).unwrap();
    assert_eq!((warned.scan.verdict, warned.stdout.text().as_ref()), (Verdict::Warn, "it ran\n"));
    assert!(warned.runtime.is_some());
    // A module that the embedder brings is scanned as the script is.
    let module = |text: &str| ScriptModule { path: "helper.py".into(), source: text.as_bytes().into() };
    let with = |text: &str| Job::file("main.py", *b"import helper\nprint(helper.x)\n").with_modules([module(text)]);
    let ran = engine.run_blocking(with("x = 1\n")).unwrap();
    assert_eq!((ran.success(), ran.stdout.text().as_ref()), (true, "1\n"));
    let denied = engine.run_blocking(with("import os\nx = os.system('id')\n")).unwrap();
    assert_eq!((&denied.status, denied.scan.findings[0].path.as_str()), (&Status::Denied, "helper.py"));
}

#[test]
fn a_scan_is_kept_by_sources_and_policy() {
    let engine = engine();
    let module = |text: &str| ScriptModule { path: "helper.py".into(), source: text.as_bytes().into() };
    let job = || Job::file("kept.py", *b"import helper\n").with_modules([module("x = 1\n")]);
    let first = engine.scan(&job());
    assert!(Arc::ptr_eq(&first, &engine.scan(&job().with_args(["other"]).with_seed(1))));
    let mut renamed = job();
    renamed.origin = Some("folder/kept.py".into());
    for (what, other) in [
        ("policy", job().with_policy(Policy::preset("strict").unwrap())),
        ("script", Job::file("kept.py", *b"import helper \n").with_modules([module("x = 1\n")])),
        ("module", Job::file("kept.py", *b"import helper\n").with_modules([module("x = 2\n")])),
        ("place", renamed),
        ("grant", job().with_grant(Grant::read("/usr/share"))),
    ] {
        assert!(!Arc::ptr_eq(&first, &engine.scan(&other)), "{what}");
    }
    // Two policies that say the same under different names.
    let mut named = Policy::preset("moderate").unwrap();
    named.name = "house".into();
    assert_eq!(engine.scan(&job().with_policy(named)).policy, "house");
    // What findings show may be the same for two scripts of different names.
    let shown = |name: &str| {
        let mut job = Job::file(name, *b"print(__file__)\n");
        job.origin = Some("shown.py".into());
        job
    };
    for name in ["first.py", "second.py"] {
        let ran = engine.run_blocking(shown(name)).unwrap();
        assert_eq!(ran.stdout.text(), format!("/script/{name}\n"));
    }
}

/// The files of reports below a cache folder.
fn kept_reports(cache: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(cache.join("scans")).into_iter().flatten();
    let mut files: Vec<PathBuf> =
        folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap()).map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn reports_are_kept_in_the_cache_folder_and_made_again_when_anything_is_not_as_it_was() {
    let sandbox = sandbox();
    let cache = sandbox.dir.path().join("cache");
    let padding = "# what this does is of no interest\n".repeat(30);
    let _ = sandbox.file("hostile.py", format!("{padding}import os\nos.system('id')\n"));
    let scan = |words: &[&str]| {
        let mut command = sandbox.command();
        command.env("CAPIBARA_CACHE_DIR", &cache).args(["scan", "--format", "json"]).args(words);
        let ran = finish(command.output().unwrap());
        (ran.code, json(&ran))
    };
    let first = scan(&["hostile.py"]);
    assert_eq!((first.0, &first.1["verdict"]), (Some(1), &json!("deny")));
    let kept = kept_reports(&cache);
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::metadata(cache.join("scans")).unwrap().permissions().mode() & 0o777, 0o700);
    let made = || fs::metadata(&kept[0]).unwrap().ino();
    let number = made();
    assert_eq!((scan(&["hostile.py"]), made()), (first.clone(), number), "it was not scanned again");

    // Another policy, path or neighbour: another report.
    assert_eq!(scan(&["--policy", "permissive", "hostile.py"]).1["verdict"], "warn");
    assert_eq!(kept_reports(&cache).len(), 2);
    let _ = sandbox.file("helper.py", "x = 1\n");
    assert_eq!(scan(&["hostile.py"]).0, Some(1));
    assert_eq!(kept_reports(&cache).len(), 3);

    // One that was cut short or changed is not believed.
    for entry in kept_reports(&cache) {
        let text = fs::read(&entry).unwrap();
        fs::write(&entry, &text[..text.len() - 1]).unwrap();
    }
    assert_eq!(scan(&["hostile.py"]), first);
    // Neither is a folder that others may write to.
    fs::set_permissions(cache.join("scans"), fs::Permissions::from_mode(0o777)).unwrap();
    for entry in kept_reports(&cache) {
        fs::remove_file(entry).unwrap();
    }
    assert_eq!((scan(&["hostile.py"]), kept_reports(&cache).len()), (first, 0));
}
