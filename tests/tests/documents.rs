//! What README and the pages of the book show is run as it stands, in order, on a machine that was scrubbed.
//!
//! A block of kind `console` holds lines that begin with `$ ` (and go on in lines that begin with `> `) and, behind each, what it prints on both streams. `…` stands for
//! anything: as a line for any lines, within a line for any text. Durations may differ. A command behind which nothing stands is only to
//! be understood (its exit code is not 125 or 127, unless an error is shown). What a document needs before it begins is made by
//! `fixtures/documents/<document>/setup.sh`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use capibara_tests::{Sandbox, cache, engine, finish, fixture, repository};
use regex::Regex;

/// Commands that are not run here, each with its reason. One that is not in a document any more fails the test.
const ELSEWHERE: [(&str, &str); 11] = [
    ("cargo run --release -- run fixtures/scripts/hello.py", "builds; CI runs it on a clean checkout"),
    ("cargo xtask test", "is what runs this test"),
    ("cargo xtask dist", "makes the file that tests/tests/shipped.rs starts"),
    ("capibara runtime export --program capibara-with-python", "tests/tests/packs.rs"),
    ("capibara runtime export python.tar.xz", "tests/tests/packs.rs"),
    ("capibara runtime import python.tar.xz", "tests/tests/packs.rs"),
    ("pip install target/python/wheels/capibara-*.whl", "needs the wheel; `cargo xtask python`"),
    ("python -m capibara run -c 'print(6 * 7)'", "needs the wheel; `cargo xtask python`"),
    ("capibara repl --fuel 2G --out charts", "asks for lines; tests/tests/repl.rs"),
    (
        "capibara model add local --kind openai-chat --base-url http://127.0.0.1:8080/v1 --model qwen --no-key",
        "tests/tests/ask.rs",
    ),
    ("capibara ask \"total per region in sales.csv\" --read sales.csv", "asks a model; tests/tests/ask.rs"),
];

/// Where there are pages.
const FOLDERS: [&str; 8] =
    ["", "docs", "docs/exit-codes", "docs/grants", "docs/limits", "policies/src/rules/pages", "fuzz", "sdk/python"];

/// A command as a document shows it.
struct Shown {
    command: String,
    prints: Vec<String>,
}

/// The commands of a document, in order.
fn shown(text: &str) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let mut first = true;
        for line in block.split("\n```").next().unwrap_or_default().lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push(Shown { command: command.to_owned(), prints: Vec::new() });
                first = false;
            } else if let Some(more) = line.strip_prefix("> ")
                && let Some(last) = commands.last_mut()
                && last.prints.is_empty()
            {
                last.command += &format!("\n{more}");
            } else if !first && let Some(last) = commands.last_mut() {
                last.prints.push(line.to_owned());
            }
        }
    }
    commands
}

/// Whether output is what a document shows.
fn is_shown(prints: &[String], output: &str) -> bool {
    let durations = Regex::new(r#"\b\d+(\.\d+)?(ms|s|m)\b|"wall_ms":[\d.]+"#).unwrap();
    let plain = |line: &str| durations.replace_all(line.trim_end(), "#").into_owned();
    let mut pattern = String::from(r"\A");
    for line in prints.iter().filter(|line| !line.is_empty()) {
        if line == "…" {
            pattern += r"(?:.*\n)*?";
        } else {
            let line = plain(line).split('…').map(regex::escape).collect::<Vec<_>>().join(".*");
            pattern += &format!("{line}\n");
        }
    }
    let output: String = output.lines().filter(|line| !line.is_empty()).map(|line| plain(line) + "\n").collect();
    Regex::new(&(pattern + r"\z")).unwrap().is_match(&output)
}

/// Runs the commands of a document one after the other in one shell.
fn run(document: &str, commands: &[Shown]) {
    let _ = engine();
    let dir = tempfile::tempdir().unwrap();
    let (home, bin, work) = (dir.path().join("home/ada"), dir.path().join("bin"), dir.path().join("work"));
    for folder in [&home, &bin, &work] {
        fs::create_dir_all(folder).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_capibara-under-test"), bin.join("capibara")).unwrap();
    const MARK: &str = "---- 8b1d2f";
    let name = document.trim_start_matches("docs/").trim_end_matches(".md").to_lowercase();
    let setup = fixture("documents").join(name).join("setup.sh");
    let mut script = fs::read_to_string(&setup).unwrap_or_default();
    script += "\nexec 2>&1\ncode=0\n";
    for Shown { command, .. } in commands {
        script += &format!("(exit $code)\n{command}\ncode=$?\necho \"{MARK} $code\"\n");
    }
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(&script).current_dir(&work).env_clear().stdin(Stdio::null());
    shell.env("HOME", &home).env("PATH", path).env("CAPIBARA_CACHE_DIR", cache());
    let ran = finish(shell.output().unwrap());
    assert!(ran.stderr.is_empty(), "{document}: {}", ran.stderr);
    let output = ran.stdout.replace(&*home.to_string_lossy(), "/home/ada");
    let mut rest = output.as_str();
    for Shown { command, prints } in commands {
        let (printed, behind) = rest.split_once(MARK).unwrap_or_else(|| panic!("{document}: `{command}`: {rest}"));
        let (code, behind) = behind.split_once('\n').unwrap();
        rest = behind;
        let code: i32 = code.trim().parse().unwrap();
        let fails = prints.iter().any(|line| line.contains("error: "));
        assert!(fails || (code != 125 && code != 127), "{document}: `{command}` ended with {code}:\n{printed}");
        let right = prints.is_empty() || is_shown(prints, printed);
        assert!(right, "{document}: `{command}` is shown to print\n{}\nand prints\n{printed}", prints.join("\n"));
    }
}

/// README and the pages of the book.
fn documents() -> Vec<String> {
    let mut documents = vec!["README.md".to_owned()];
    for folder in FOLDERS.into_iter().filter(|folder| folder.starts_with("docs")) {
        let pages = fs::read_dir(repository().join(folder)).unwrap();
        let names = pages.map(|page| page.unwrap().file_name().into_string().unwrap());
        documents.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")));
    }
    documents.sort();
    documents
}

#[test]
fn every_command_that_is_shown_does_what_is_shown() {
    let documents = documents();
    let mut elsewhere: Vec<&str> = ELSEWHERE.iter().map(|(command, _)| *command).collect();
    let mut count = 0;
    for document in &documents {
        let mut commands = shown(&fs::read_to_string(repository().join(document)).unwrap());
        commands.retain(|it| {
            elsewhere.retain(|command| it.command != *command);
            ELSEWHERE.iter().all(|(command, _)| it.command != *command)
        });
        if !commands.is_empty() {
            count += commands.len();
            run(document, &commands);
        }
    }
    assert!(elsewhere.is_empty(), "in no document: {elsewhere:?}");
    assert!(count >= 15, "{count} commands");
}

/// Programs and files in documents: each fenced block that is not `console`, with its language, in order.
fn fenced(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if language != "console" {
                blocks.push((language.to_owned(), body.join("\n") + "\n"));
            }
        }
    }
    blocks
}

/// Blocks that others run or read: `(document, language, who)`. Who is a file of this repository that names the document.
const FENCED_ELSEWHERE: [(&str, &str, &str); 10] = [
    ("README.md", "rust,no_run", "engine/src/lib.rs"),
    ("docs/sessions.md", "rust,no_run", "engine/src/lib.rs"),
    ("docs/start-embed.md", "rust,no_run", "engine/src/lib.rs"),
    ("docs/tools.md", "rust,no_run", "engine/src/lib.rs"),
    ("docs/start-embed.md", "toml", "xtask/src/crates.rs"),
    ("README.md", "python", "sdk/python/tests/test_package.py"),
    ("docs/python.md", "python", "sdk/python/tests/test_package.py"),
    ("docs/sessions.md", "python", "tests/tests/sessions.rs"),
    ("docs/tools.md", "python", "tests/tests/tools.rs"),
    // Lines of a protocol.
    ("docs/tools.md", "text", "tests/tests/tool_programs.rs"),
];

/// Uses a file that a document shows, which is the block of that number.
fn use_shown(document: &str, number: usize, body: &str) {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
    let file = sandbox.file("shown.yaml", body).display().to_string();
    let (ran, code, says) = match (document, number) {
        ("docs/policies.md", 0) => (sandbox.run(&["policy", "check", &file]), 0, "can be used"),
        ("docs/custom-rules.md", 0) => (sandbox.run(&["policy", "test", &file]), 0, "3 cases, all hold"),
        ("docs/generation.md", 0) => {
            fs::create_dir_all(sandbox.dir.path().join(".config/capibara")).unwrap();
            let _ = sandbox.file(".config/capibara/models.yaml", body);
            (sandbox.run(&["model", "list"]), 0, "llama-3.3-70b-versatile")
        }
        // It is read before a model is asked.
        ("docs/generation.md", 1) => {
            let words = ["ask", "do it", "--profile", "llama-cpp", "--check-file", &file, "--deadline", "1ms"];
            (sandbox.run(&words), 125, "the deadline has passed")
        }
        _ => panic!("{document}: nobody uses block {number}"),
    };
    let said = ran.stdout.clone() + &ran.stderr;
    assert!(ran.code == Some(code) && said.contains(says), "{document}, block {number}: {ran:?}");
}

#[test]
fn every_program_that_is_shown_is_run() {
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(repository().join(&document)).unwrap();
        for (number, (language, body)) in fenced(&text).iter().enumerate() {
            count += 1;
            match FENCED_ELSEWHERE.iter().find(|it| (it.0, it.1) == (&document, language)) {
                Some((.., who)) => {
                    let by = fs::read_to_string(repository().join(who)).unwrap();
                    let names = by.contains(document.trim_start_matches("docs/")) || language == "text";
                    assert!(names, "{who} does not name {document}");
                }
                None => use_shown(&document, number, body),
            }
        }
    }
    assert!(count >= 15, "{count} blocks");
}

/// The anchor of a heading, as mdbook and forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn no_link_is_dead() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let code = Regex::new(r"(?s)```.*?```|`[^`\n]*`").unwrap();
    // The pages of the root as they are called in the book.
    let in_book = |to: &str| repository().join(to);
    let mut count = 0;
    for folder in FOLDERS.map(|folder| repository().join(folder)) {
        for page in fs::read_dir(&folder).unwrap().map(|page| page.unwrap().path()) {
            if page.extension().is_none_or(|end| end != "md") {
                continue;
            }
            // Code is no link.
            let text = code.replace_all(&fs::read_to_string(&page).unwrap(), "").into_owned();
            for found in link.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
                if found.contains("://") || found.starts_with("mailto:") || found.contains("…") {
                    continue;
                }
                let (path, heading) = found.split_once('#').unwrap_or((found, ""));
                let beside = if path.is_empty() { page.clone() } else { folder.join(path) };
                let to = if beside.exists() { beside } else { in_book(path) };
                assert!(to.exists(), "{}: {found}", page.display());
                if !heading.is_empty() && to.extension().is_some_and(|end| end == "md") {
                    let headings = fs::read_to_string(&to).unwrap();
                    let mut headings = headings.lines().filter(|line| line.starts_with('#'));
                    let there = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                    assert!(there, "{}: {found}", page.display());
                }
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count} links");
}

#[test]
fn a_document_that_lies_is_found() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (prints, output, right) in [
        ("a\n…\nb", "a\n1\n2\nb\n", true),
        ("a\n…\nb", "a\n1\n2\n", false),
        ("used 1.004s, ok", "used 2s, ok\n", true),
        ("used 1.004s, ok", "used 2s, bad\n", false),
        ("x … z", "x y z\n", true),
        ("x … z", "x y\n", false),
        ("a", "a\nb\n", false),
        ("(1+1)", "(1+1)\n", true),
    ] {
        assert_eq!(is_shown(&lines(prints), output), right, "{prints} {output}");
    }
    let commands = shown("```console\n$ a\nx\n$ b\n```\n```sh\n$ c\n```\n");
    assert_eq!(commands.iter().map(|it| (&*it.command, it.prints.len())).collect::<Vec<_>>(), [("a", 1), ("b", 0)]);
}
