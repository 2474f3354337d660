//! What packages of the program bring along: completions of shells, pages of the manual.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use capibara_tests::{Sandbox, finish, skip};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn every_shell_has_completions() {
    let sandbox = sandbox();
    for (shell, check) in [
        ("bash", Some(["bash", "-n"])),
        ("zsh", Some(["zsh", "-n"])),
        ("fish", Some(["fish", "--no-execute"])),
        ("elvish", Some(["elvish", "-compileonly"])),
        ("powershell", None),
    ] {
        let ran = sandbox.run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["doctor", "completions", "max-output", "rotate-key"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
        let file = sandbox.file(shell, &ran.stdout);
        match check {
            Some([program, option]) if has(program) => {
                let checked = finish(Command::new(program).arg(option).arg(&file).output().unwrap());
                assert!(checked.code == Some(0) && checked.stderr.is_empty(), "{shell}: {checked:?}");
            }
            _ => skip("every_shell_has_completions", &format!("unavailable: {shell}")),
        }
    }
    let ran = sandbox.run(&["completions", "tcsh"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("tcsh"), "{ran:?}");
}

#[test]
fn bash_completes_commands_options_and_values() {
    const NAME: &str = "bash_completes_commands_options_and_values";
    if !has("bash") {
        skip(NAME, "unavailable: bash");
        return;
    }
    let sandbox = sandbox();
    let script = sandbox.run(&["completions", "bash"]).stdout;
    let _ = sandbox.file("completions", script);
    for (line, expected) in [
        ("capibara ru", &["run", "runtime"][..]),
        ("capibara doc", &["doctor"]),
        ("capibara audit ve", &["verify"]),
        ("capibara run --max-", &["--max-disk", "--max-output"]),
        ("capibara run --wat", &["--watch"]),
        ("capibara doctor --format ", &["json", "text"]),
        ("capibara completions z", &["zsh"]),
    ] {
        let program = format!(
            "source ./completions; COMP_WORDS=({line}{}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _capibara capibara \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            if line.ends_with(' ') { "''" } else { "" }
        );
        let ran = finish(Command::new("bash").args(["-c", &program]).current_dir(sandbox.dir.path()).output().unwrap());
        let mut found: Vec<&str> = ran.stdout.lines().filter(|line| !line.is_empty()).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{line}: {ran:?}");
    }
}

#[test]
fn every_command_has_a_page_of_the_manual() {
    const NAME: &str = "every_command_has_a_page_of_the_manual";
    let sandbox = sandbox();
    let ran = sandbox.run(&["man", "--out", "share/man1"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""), "{ran:?}");
    let entries = fs::read_dir(sandbox.dir.path().join("share/man1")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 20 && names.iter().all(|name| name.ends_with(".1")), "{names:?}");
    for name in ["capibara.1", "capibara-run.1", "capibara-doctor.1", "capibara-runtime-verify.1"] {
        assert!(names.iter().any(|there| there == name), "{name}: {names:?}");
    }
    let page = sandbox.run(&["man", "audit", "verify"]).stdout;
    assert_eq!(page.as_bytes(), fs::read(sandbox.dir.path().join("share/man1/capibara-audit-verify.1")).unwrap());
    assert!(sandbox.run(&["man"]).stdout.contains(".SH SUBCOMMANDS"));
    let ran = sandbox.run(&["man", "nonsense"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("`capibara nonsense`"), "{ran:?}");
    // In the help they are not: they are for packages.
    assert!(!sandbox.run(&["--help"]).stdout.contains("  man "));
    if !has("groff") {
        skip(NAME, "unavailable: groff");
        return;
    }
    for name in names {
        let text = fs::read(sandbox.dir.path().join("share/man1").join(&name)).unwrap();
        let mut groff = Command::new("groff")
            .args(["-ww", "-man", "-Kutf8", "-Tutf8", "-P-cbou"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        groff.stdin.take().unwrap().write_all(&text).unwrap();
        let shown = finish(groff.wait_with_output().unwrap());
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{name}");
        assert!(shown.stdout.contains("SYNOPSIS"), "{name}: {}", shown.stdout);
    }
}
