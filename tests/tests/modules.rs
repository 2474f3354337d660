//! Modules that a script brings from its own folder: what it imports is there, scanned and part of the job, and nothing
//! else of that folder is.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use capibara_tests::{Ran, Sandbox};
use serde_json::Value;

fn sandbox(files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
    files.iter().for_each(|(path, text)| write(&sandbox, path, text));
    sandbox
}

fn write(sandbox: &Sandbox, path: &str, text: &str) {
    let path = sandbox.dir.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// It ended well, printed this, and nothing was said.
fn prints(sandbox: &Sandbox, words: &[&str], stdout: &str) {
    let ran = sandbox.run(&[&["run"], words].concat());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), stdout, ""), "{words:?}");
}

#[test]
fn modules_and_packages_are_imported_as_on_an_ordinary_machine() {
    let sandbox = sandbox(&[
        (
            "main.py",
            "import helper, package\nfrom package.inner import deep as d\nfrom package import sibling\nimport spaced.out.low\nprint(helper.__file__, helper.__name__)\nprint(package.__path__, package.value, d.value, sibling.value, spaced.out.low.value)\ndef later():\n    import late\n    return late.value\nprint(later())\n",
        ),
        ("helper.py", "import second\n"),
        ("second.py", ""),
        ("late.py", "value = 'late'\n"),
        ("package/__init__.py", "from .first import value\n"),
        ("package/first.py", "value = 'first'\n"),
        ("package/sibling.py", "from . import first\nvalue = first.value + '+'\n"),
        ("package/inner/__init__.py", ""),
        ("package/inner/deep.py", "from ..first import value\n"),
        ("spaced/out/low.py", "value = 'no __init__'\n"),
    ]);
    prints(
        &sandbox,
        &["main.py"],
        "/script/helper.py helper\n['/script/package'] first first first+ no __init__\nlate\n",
    );
    // From another folder, by a longer path: the folder of the script counts, not the one we stand in.
    write(&sandbox, "elsewhere/main.py", "import helper\nprint(helper.who)\n");
    write(&sandbox, "elsewhere/helper.py", "who = 'the neighbor'\n");
    prints(&sandbox, &["elsewhere/main.py"], "the neighbor\n");
    prints(&sandbox, &["--policy", "strict", "./elsewhere/../elsewhere/main.py"], "the neighbor\n");
}

#[test]
fn a_module_of_the_scripts_own_goes_before_one_of_the_same_name() {
    let sandbox = sandbox(&[
        ("json.py", "mine = True\n"),
        ("os.py", "mine = True\n"),
        ("loaded.py", "import json, os\nprint(json.mine, hasattr(os, 'mine'))\n"),
        ("main.py", "import colorsys, this_is_mine\nprint(colorsys.__file__, colorsys.mine)\n"),
        ("colorsys.py", "mine = True\n"),
        ("this_is_mine.py", ""),
    ]);
    prints(&sandbox, &["main.py"], "/script/colorsys.py True\n");
    // Also where the interpreter has loaded that of the library before, unless it is made of it.
    prints(&sandbox, &["loaded.py"], "True False\n");
}

#[test]
fn a_module_named_like_a_dangerous_one_hides_nothing() {
    // `os` is there before the script starts, and whatever lies beside the script may be put in its place.
    for (name, line) in
        [("os", "os.system('id')"), ("subprocess", "subprocess.run(['id'])"), ("pickle", "pickle.loads(b'')")]
    {
        let sandbox = sandbox(&[("main.py", &format!("import {name}\n{line}\n")), (&format!("{name}.py"), "x = 1\n")]);
        for policy in ["strict", "moderate"] {
            let ran = sandbox.run(&["run", "--policy", policy, "main.py"]);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(126), ""), "{name}: {ran:?}");
        }
    }
    // Control: a name that is the script's alone.
    let sandbox =
        sandbox(&[("main.py", "import helper\nprint(helper.system('id'))\n"), ("helper.py", "system = len\n")]);
    prints(&sandbox, &["--policy", "strict", "main.py"], "2\n");
}

#[test]
fn modules_may_import_each_other_and_the_script() {
    let sandbox = sandbox(&[
        (
            "main.py",
            "import first\nname = 'the script'\ndef show(): return first.second.first is first\nif __name__ == '__main__': print(first.told(), show())\n",
        ),
        ("first.py", "import second\ndef told():\n    import main\n    return main.name, main.__name__\n"),
        ("second.py", "import first\n"),
    ]);
    prints(&sandbox, &["main.py"], "('the script', 'main') True\n");
    // The script is no module twice.
    let ran = sandbox.run(&["run", "--dry-run", "--format", "json", "main.py"]);
    assert_eq!(json(&ran)["modules"], serde_json::json!(["first.py", "second.py"]), "{ran:?}");
}

#[test]
fn nothing_else_of_the_folder_is_there() {
    let look = "import os, helper\nprint(sorted(os.listdir('/script')))\nfor name in ['data.txt', '/script/data.txt', '/script/unused.py', '/script/package/unused.py']:\n    try: print(name, open(name).read())\n    except OSError as error: print(type(error).__name__)\nfor name in ['unused', 'package.unused']:\n    try: print(__import__(name))\n    except ImportError as error: print(error.name)\n";
    let sandbox = sandbox(&[
        ("main.py", look),
        ("helper.py", "import package\n"),
        ("package/__init__.py", ""),
        ("package/unused.py", "print('unused was run')\n"),
        ("package/data.txt", "data"),
        ("unused.py", "print('unused was run')\n"),
        ("data.txt", "data"),
        ("hidden.pyc", "data"),
    ]);
    let ran = sandbox.run(&["run", "--policy", "permissive", "main.py"]);
    let shown = "['helper.py', 'main.py', 'package']\nFileNotFoundError\nFileNotFoundError\nFileNotFoundError\nFileNotFoundError\nunused\npackage.unused\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), shown), "{ran:?}");
    // Control: the same names, imported by a statement and granted.
    write(&sandbox, "main.py", "import unused\nprint(open('/beside/data.txt').read())\n");
    prints(&sandbox, &["--read", "data.txt:/beside/data.txt", "main.py"], "unused was run\ndata\n");
}

#[test]
fn modules_cannot_be_changed_and_leave_nothing_behind() {
    let sandbox = sandbox(&[
        (
            "main.py",
            "import os, helper\nfor path in ['/script/helper.py', '/script/new.py', '/script/__pycache__']:\n    try: os.mkdir(path) if 'pycache' in path else open(path, 'w')\n    except OSError as error: print(type(error).__name__)\nprint(helper.__cached__ is None or not os.path.exists(helper.__cached__))\n",
        ),
        ("helper.py", "kept = 1\n"),
    ]);
    let ran = sandbox.run(&["run", "main.py"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.lines().take(3).all(|line| line.ends_with("Error")) && ran.stdout.ends_with("True\n"),
        "{ran:?}"
    );
    assert_eq!(fs::read_to_string(sandbox.dir.path().join("helper.py")).unwrap(), "kept = 1\n");
    assert!(!sandbox.dir.path().join("__pycache__").exists());
}

#[test]
fn a_hostile_module_denies_the_run() {
    let sandbox = sandbox(&[
        ("tool/main.py", "print('it ran')\nimport package.helper\n"),
        ("tool/package/__init__.py", ""),
        ("tool/package/helper.py", "import os\n\ndef run():\n    os.system('id')\n"),
    ]);
    let ran = sandbox.run(&["run", "tool/main.py"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(126), ""), "{ran:?}");
    assert!(ran.stderr.contains("error[spawn-process]"), "{ran:?}");
    assert!(ran.stderr.contains("--> tool/package/helper.py:4:5"), "{ran:?}");
    assert!(ran.stderr.contains("4 |     os.system('id')"), "{ran:?}");
    let report = json(&sandbox.run(&["run", "--format", "json", "tool/main.py"]));
    let finding = &report["scan"]["findings"][0];
    assert_eq!((&finding["path"], &finding["line"]), (&"tool/package/helper.py".into(), &4.into()), "{report:#}");
    // Controls: nobody imports it, and it is harmless.
    write(&sandbox, "tool/main.py", "print('it ran')\n");
    prints(&sandbox, &["tool/main.py"], "it ran\n");
    write(&sandbox, "tool/main.py", "print('it ran')\nimport package.helper\n");
    write(&sandbox, "tool/package/helper.py", "import os\n");
    prints(&sandbox, &["tool/main.py"], "it ran\n");
    // What is no text is denied there as well, under every policy.
    write(&sandbox, "tool/package/helper.py", "x = '\0'\n");
    let ran = sandbox.run(&["run", "--policy", "permissive", "tool/main.py"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(126), ""), "{ran:?}");
    assert!(ran.stderr.contains("unreadable-source") && ran.stderr.contains("tool/package/helper.py"), "{ran:?}");
}

#[test]
fn modules_are_run_as_they_were_scanned() {
    let sandbox = sandbox(&[("main.py", "import latin, ends\nprint(ascii(latin.text), ends.text)\n")]);
    fs::write(sandbox.dir.path().join("latin.py"), b"# coding: latin-1\ntext = '\xe9'\n").unwrap();
    fs::write(sandbox.dir.path().join("ends.py"), b"\xef\xbb\xbf# one\rtext = 'cr'\r").unwrap();
    prints(&sandbox, &["main.py"], "'\\xe9' cr\n");
    fs::write(sandbox.dir.path().join("ends.py"), b"# one\rimport os\ros.system('id')\rtext = 1\r").unwrap();
    let ran = sandbox.run(&["run", "main.py"]);
    assert_eq!(ran.code, Some(126), "{ran:?}");
    assert!(ran.stderr.contains("--> ends.py:3:1"), "{ran:?}");
}

#[test]
fn links_stay_in_the_folder() {
    let sandbox = sandbox(&[
        ("tool/main.py", "import inner\nprint(inner.value)\n"),
        ("tool/real.py", "value = 'inside'\n"),
        ("outside/secret.py", "value = 'outside'\n"),
    ]);
    let root = sandbox.dir.path();
    symlink("real.py", root.join("tool/inner.py")).unwrap();
    prints(&sandbox, &["tool/main.py"], "inside\n");
    for (to, name) in
        [("../outside/secret.py", "relative"), (root.join("outside/secret.py").to_str().unwrap(), "absolute")]
    {
        symlink(to, root.join(format!("tool/{name}.py"))).unwrap();
        write(&sandbox, "tool/main.py", &format!("print('it ran')\nimport {name}\nprint({name}.value)\n"));
        let ran = sandbox.run(&["run", "tool/main.py"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
        assert!(ran.stderr.contains(&format!("`{name}.py`")), "{ran:?}");
    }
    symlink(root.join("outside"), root.join("tool/package")).unwrap();
    write(&sandbox, "tool/main.py", "import package.secret\nprint(package.secret.value)\n");
    let ran = sandbox.run(&["run", "tool/main.py"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.contains("outside"), "{ran:?}");
    // A circle of links leads nowhere.
    symlink("circle.py", root.join("tool/circle.py")).unwrap();
    write(&sandbox, "tool/main.py", "import circle\n");
    let ran = sandbox.run(&["run", "tool/main.py"]);
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
}

#[test]
fn a_script_that_is_a_link_has_the_folder_of_its_file() {
    let sandbox = sandbox(&[
        ("real/main.py", "import helper\nprint(helper.who)\n"),
        ("real/helper.py", "who = 'beside the file'\n"),
        ("bin/helper.py", "who = 'beside the link'\n"),
    ]);
    symlink("../real/main.py", sandbox.dir.path().join("bin/tool.py")).unwrap();
    prints(&sandbox, &["bin/tool.py"], "beside the file\n");
}

#[test]
fn only_a_file_brings_modules() {
    let sandbox = sandbox(&[("helper.py", "print('helper was run')\n"), ("main.py", "import helper\n")]);
    let ran = sandbox.run(&["run", "-c", "import helper"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("ModuleNotFoundError: No module named 'helper'"), "{ran:?}");
    let ran = sandbox.run_with_input(&["run", "-"], b"import helper", false);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    let ran = sandbox.run(&["run", "-m", "helper"]);
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert_ne!(ran.code, Some(0), "{ran:?}");
    // A pipe has no folder either, wherever it lies.
    let pipe = "mkfifo f.py && (cat main.py > f.py & \"$0\" run f.py)";
    let mut bash = Command::new("bash");
    bash.args(["-c", pipe, env!("CARGO_BIN_EXE_capibara-under-test")]).current_dir(sandbox.dir.path());
    bash.env("CAPIBARA_CACHE_DIR", capibara_tests::cache()).env("HOME", sandbox.dir.path());
    let ran = capibara_tests::finish(bash.output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    prints(&sandbox, &["main.py"], "helper was run\n");
}

#[test]
fn what_is_no_file_is_no_module() {
    let sandbox = sandbox(&[(
        "main.py",
        "try: import pipe\nexcept ImportError: print('no pipe')\ntry: import folder\nexcept ImportError: print('no folder')\nelse: print(folder.__file__)\n",
    )]);
    let root = sandbox.dir.path();
    // A pipe that nobody writes to must not hold us up.
    assert!(Command::new("mkfifo").arg(root.join("pipe.py")).status().unwrap().success());
    fs::create_dir(root.join("folder.py")).unwrap();
    prints(&sandbox, &["main.py"], "no pipe\nno folder\n");
}

#[test]
fn there_are_at_most_a_thousand_modules() {
    let sandbox = sandbox(&[]);
    let script = |number: usize| {
        let mut text = String::new();
        for i in 0..number {
            write(&sandbox, &format!("m{i}.py"), "");
            text.push_str(&format!("import m{i}\n"));
        }
        text + "print('it ran')\n"
    };
    write(&sandbox, "main.py", &script(1_000));
    prints(&sandbox, &["main.py"], "it ran\n");
    write(&sandbox, "main.py", &script(1_001));
    let ran = sandbox.run(&["run", "main.py"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.contains("more than 1000 modules"), "{ran:?}");
}

#[test]
fn modules_take_at_most_sixteen_mebibytes() {
    let sandbox = sandbox(&[("main.py", "print('it ran')\nimport large\n")]);
    let large = sandbox.dir.path().join("large.py");
    fs::File::create(&large).unwrap().set_len((16 << 20) + 1).unwrap();
    let ran = sandbox.run(&["run", "main.py"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    assert!(ran.stderr.contains("more than 16MiB"), "{ran:?}");
}

#[test]
fn a_traceback_shows_the_lines_of_a_module() {
    let sandbox = sandbox(&[
        ("main.py", "import package.helper\npackage.helper.fail()\n"),
        ("package/helper.py", "def fail():\n    raise ValueError('from the helper')\n"),
    ]);
    let ran = sandbox.run(&["run", "main.py"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for part in [
        "File \"/script/main.py\", line 2, in <module>\n    package.helper.fail()\n",
        "File \"/script/package/helper.py\", line 2, in fail\n    raise ValueError('from the helper')\n",
        "ValueError: from the helper\n",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn modules_are_part_of_the_jobs_digest() {
    let sandbox =
        sandbox(&[("main.py", "import helper\n"), ("helper.py", "value = 1\n"), ("unused.py", "value = 1\n")]);
    let digest = || {
        let words = ["run", "--format", "json", "--epoch", "2026-01-31T12:00:00Z", "--seed", "1", "main.py"];
        let report = json(&sandbox.run(&words));
        assert_eq!(report["status"], "completed", "{report:#}");
        report["job_sha256"].as_str().unwrap().to_owned()
    };
    let first = digest();
    assert_eq!(digest(), first);
    write(&sandbox, "unused.py", "value = 2\n");
    assert_eq!(digest(), first, "what is not imported is no part of the job");
    write(&sandbox, "helper.py", "value = 2\n");
    let second = digest();
    assert_ne!(second, first);
    // The same text under another name is another job, too.
    write(&sandbox, "helper.py", "value = 1\n");
    assert_eq!(digest(), first);
    fs::create_dir(sandbox.dir.path().join("helper")).unwrap();
    fs::rename(sandbox.dir.path().join("helper.py"), sandbox.dir.path().join("helper/__init__.py")).unwrap();
    assert_ne!(digest(), first);
}

#[test]
fn a_dry_run_names_the_modules() {
    let sandbox = sandbox(&[
        ("main.py", "import package.helper, json, missing\n"),
        ("package/__init__.py", ""),
        ("package/helper.py", ""),
        ("package/unused.py", ""),
    ]);
    let ran = sandbox.run(&["run", "--dry-run", "main.py"]);
    let modules: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with("module ")).collect();
    assert_eq!(
        (ran.code, modules),
        (Some(0), vec!["module    package/__init__.py", "module    package/helper.py"]),
        "{ran:?}"
    );
}
