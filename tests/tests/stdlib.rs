//! Which modules of the standard library import. Those that do not are listed with their reason; the list is exact.

use capibara::Job;
use capibara_tests::{engine, fixture};

/// Modules that need what a sandbox does not have.
const ABSENT: &[(&str, &str)] = &[
    ("_hashlib", "OpenSSL is not linked; hashlib has its own implementations"),
    ("ctypes", "native code"),
    ("curses", "a terminal"),
    ("fcntl", "not offered by WASI"),
    ("grp", "no users and groups"),
    ("mmap", "not offered by WASI"),
    ("pwd", "no users and groups"),
    ("readline", "a terminal"),
    ("resource", "not offered by WASI"),
    ("ssl", "OpenSSL is not linked, and there are no sockets"),
    ("termios", "a terminal"),
    ("tkinter", "a display"),
    ("turtle", "a display"),
];

#[test]
fn import_matrix() {
    let names = std::fs::read_to_string(fixture("stdlib-modules.txt")).unwrap();
    let names: Vec<&str> = names.split_whitespace().collect();
    assert_eq!(names.len(), 165);
    let code = format!(
        "import importlib\nfor name in {names:?}:\n    try: importlib.import_module(name)\n    except ImportError as error: print(name, '|', error)\n"
    );
    let outcome =
        engine().run_blocking(Job::python(code).with_policy(capibara::Policy::preset("permissive").unwrap())).unwrap();
    let printed = outcome.stdout.text();
    assert!(outcome.success(), "{}", outcome.stderr.text());
    let mut failed: Vec<&str> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
    failed.sort_unstable();
    failed.dedup();
    let expected: Vec<&str> = ABSENT.iter().map(|(name, _)| *name).collect();
    assert_eq!(failed, expected, "{printed}");
    // Each says by itself that it is absent.
    for (line, name) in printed.lines().map(|line| (line, line.split(' ').next().unwrap_or(""))) {
        assert!(line.contains("No module named") || line.contains("not available"), "{name}: {line}");
    }
}

#[test]
fn absent_capabilities_are_ordinary_exceptions_that_say_so() {
    let rows = [
        ("import ssl", "ModuleNotFoundError: No module named 'ssl': TLS is not available"),
        ("import threading; threading.Thread(target=print).start()", "RuntimeError"),
        ("import subprocess; subprocess.run(['ls'])", "OSError"),
        ("import os; os.fork()", "AttributeError"),
        ("import socket; socket.create_connection(('localhost', 1))", "gaierror"),
        ("import multiprocessing; multiprocessing.Process(target=print).start()", "Error"),
        ("import urllib.request; urllib.request.urlopen('http://example.org/')", "URLError"),
    ];
    for (code, exception) in rows {
        let outcome = engine()
            .run_blocking(Job::python(code).with_policy(capibara::Policy::preset("permissive").unwrap()))
            .unwrap();
        assert_eq!(outcome.exit_code(), Some(1), "{code}: {:?}", outcome.status);
        let stderr = outcome.stderr.text();
        let last = stderr.trim_end().lines().last().unwrap_or("");
        assert!(last.contains(exception) && last.len() > exception.len() + 5, "{code}: {last}");
    }
}
