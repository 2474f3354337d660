//! The single file that is shipped (`cargo xtask dist`), where there is nothing else.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use capibara_tests::{finish, repository, skip};

/// The single file, or a skip.
fn shipped(test: &str) -> Option<PathBuf> {
    let made = repository().join("target/dist/capibara");
    let path = std::env::var_os("CAPIBARA_SHIPPED").map_or(made, PathBuf::from);
    if !path.is_file() {
        skip(test, "unavailable: the single file (`cargo xtask dist` makes it)");
        return None;
    }
    Some(path)
}

/// Runs commands of the file, each under a name, in a root that holds it, `/proc` and `/tmp` and nothing else, with an empty environment;
/// gives the exit code, output and messages of each. `writable` says whether `/tmp` is.
fn in_an_empty_root(
    test: &str,
    writable: bool,
    commands: &[(&str, &str)],
) -> Option<HashMap<String, (i32, String, String)>> {
    let program = shipped(test)?;
    let dir = tempfile::tempdir().unwrap();
    let (root, results) = (dir.path().join("root"), dir.path().join("results"));
    for folder in [root.join("proc"), root.join("tmp"), results.clone()] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::copy(program, root.join("capibara")).unwrap();
    fs::write(root.join("hello.py"), "print('hello from a script')\n").unwrap();
    let mut script = format!(
        "set -e\nmount --bind '{0}' '{0}'\nmount -t proc proc '{0}/proc'\n{1}mount -o remount,ro,bind '{0}'\nset +e\n",
        root.display(),
        if writable { format!("mount -t tmpfs none '{}/tmp'\n", root.display()) } else { String::new() },
    );
    for (name, words) in commands {
        let result = results.join(name);
        script += &format!(
            "env -i CAPIBARA_HOME=/tmp/state $(command -v chroot) '{0}' /capibara {words} > '{1}.out' 2> '{1}.err' < /dev/null\n\
             echo $? > '{1}.code'\n",
            root.display(),
            result.display(),
        );
    }
    let unshared = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--", "sh", "-c", &script];
    let ran = finish(Command::new("unshare").args(unshared).output().unwrap());
    if ran.code != Some(0) {
        skip(test, &format!("unavailable: namespaces for mounts ({})", ran.stderr.trim()));
        return None;
    }
    let read = |name: &str, end: &str| fs::read_to_string(results.join(format!("{name}.{end}"))).unwrap();
    let results = commands.iter().map(|(name, _)| {
        let code = read(name, "code").trim().parse().unwrap();
        ((*name).to_owned(), (code, read(name, "out"), read(name, "err")))
    });
    Some(results.collect())
}

#[test]
fn in_an_empty_root_it_runs_stops_denies_and_verifies() {
    let commands = [
        ("hello", "run /hello.py"),
        ("again", "run /hello.py"),
        ("limit", "run --timeout 1s -c 'while True: pass'"),
        ("denied", r#"run -c 'import os; os.system("id")'"#),
        ("log", "audit verify"),
        ("list", "audit list"),
        ("runtime", "runtime verify"),
    ];
    let test = "in_an_empty_root_it_runs_stops_denies_and_verifies";
    let Some(results) = in_an_empty_root(test, true, &commands) else { return };
    let code = |name: &str| results[name].0;
    assert_eq!(
        commands.map(|(name, _)| (name, code(name))),
        [("hello", 0), ("again", 0), ("limit", 124), ("denied", 126), ("log", 0), ("list", 0), ("runtime", 0)],
        "{results:#?}"
    );
    let (_, first, said) = &results["hello"];
    assert_eq!(first, "hello from a script\n");
    assert!(said.contains("unpacking the Python runtime") && !said.contains("compiling"), "{said}");
    assert_eq!(results["again"].1, "hello from a script\n");
    assert_eq!(results["again"].2, "");
    assert_eq!(results["list"].1.lines().count(), 4, "{}", results["list"].1);
}

#[test]
fn where_nothing_can_be_written_it_runs_from_memory() {
    let test = "where_nothing_can_be_written_it_runs_from_memory";
    let Some(results) = in_an_empty_root(test, false, &[("hello", "run /hello.py")]) else { return };
    let (code, output, said) = &results["hello"];
    assert_eq!((*code, output.as_str()), (0, "hello from a script\n"), "{results:#?}");
    assert!(said.contains("the runtime is kept in memory"), "{said}");
}

#[test]
fn it_needs_no_library_and_is_not_too_large() {
    let Some(program) = shipped("it_needs_no_library_and_is_not_too_large") else { return };
    let bytes = fs::metadata(&program).unwrap().len();
    assert!(bytes <= 60 << 20, "{bytes}");
    assert!(!names_an_interpreter(&program), "it is linked statically");
}

/// Whether an ELF file names a dynamic linker (a program header of type PT_INTERP).
fn names_an_interpreter(program: &Path) -> bool {
    let bytes = fs::read(program).unwrap();
    let number = |at: usize, len: usize| {
        bytes[at..at + len].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|header| number(headers + header * size, 4) == 3)
}
