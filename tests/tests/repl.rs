//! `capibara repl`: at a terminal, where keys are pressed, and from a pipe.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use capibara_tests::{Ran, Sandbox, engine, finish, skip};

const BINARY: &str = env!("CARGO_BIN_EXE_capibara-under-test");

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(BINARY)
}

/// A session with these lines as its standard input.
fn piped(sandbox: &Sandbox, words: &[&str], lines: &str) -> Ran {
    sandbox.run_with_input(&[&["repl"], words].concat(), lines.as_bytes(), false)
}

fn kill(id: u32, signal: &str) {
    assert!(Command::new("kill").args([format!("-{signal}"), id.to_string()]).status().unwrap().success());
}

/// A terminal with somebody at the keyboard. `script(1)` makes it: the crates that do turn on features of rustix or libc
/// that Wasmtime's build shares.
struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    /// What was looked at.
    read: usize,
}

/// A prompt at which keys are awaited: see [`plain`].
const PROMPT: &str = "\u{1}>>> ";

impl Terminal {
    /// Runs a line of the shell (`$CAPIBARA` is the command).
    fn new(sandbox: &Sandbox, line: &str) -> Self {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("stty cols 120 rows 40; {line}"), "/dev/null"]).env_clear();
        command.env("CAPIBARA", BINARY).env("CAPIBARA_CACHE_DIR", capibara_tests::cache());
        command.env("HOME", sandbox.dir.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("SHELL", "/bin/sh").env("TERM", "xterm").current_dir(sandbox.dir.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let seen: Arc<(Mutex<Vec<u8>>, Condvar)> = Arc::default();
        let (mut screen, filled) = (child.stdout.take().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                filled.0.lock().unwrap().extend_from_slice(&buffer[..count]);
                filled.1.notify_all();
            }
        });
        Self { keyboard: child.stdin.take(), child, seen, read: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text that was not looked at yet, and gives back what was shown up to its end, without colors and movements.
    fn wait(&mut self, text: &str) -> String {
        let until = Instant::now() + Duration::from_secs(60);
        let mut seen = self.seen.0.lock().unwrap();
        loop {
            let shown = plain(&seen[self.read..]);
            if let Some(at) = shown.find(text) {
                // As many bytes as show that much.
                let wanted = at + text.len();
                let end = (self.read..=seen.len()).find(|end| plain(&seen[self.read..*end]).len() >= wanted).unwrap();
                self.read = end;
                return shown[..wanted].to_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "`{text}` does not come: {shown:?}");
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Presses keys at a prompt and gives back what is shown until the next one.
    fn enter(&mut self, keys: &str) -> String {
        self.press(&format!("{keys}\r"));
        self.wait(PROMPT)
    }

    fn end(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        drop(self.keyboard.take());
        code
    }
}

/// What a screen shows of bytes: no escape sequences, no carriage returns. `\u{1}` is where editing begins: from there on, the terminal
/// tells pasted text from typed text.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                let is_long = chars.next_if(|next| "[]".contains(*next)).is_some();
                let mut inside = String::new();
                while let Some(next) = chars.next_if(|_| is_long) {
                    inside.push(next);
                    if ('@'..='~').contains(&next) {
                        break;
                    }
                }
                if inside == "?2004h" {
                    out.push('\u{1}');
                }
            }
            '\r' | '\u{7}' => {}
            c => out.push(c),
        }
    }
    out
}

fn no_terminal(test: &str) -> bool {
    let none = Command::new("script").arg("--version").output().is_err();
    if none {
        skip(test, "unavailable: script(1), from bsdutils");
    }
    none
}

#[test]
fn a_session_at_a_terminal() {
    if no_terminal("a_session_at_a_terminal") {
        return;
    }
    let sandbox = sandbox();
    let mut terminal = Terminal::new(&sandbox, "exec \"$CAPIBARA\" repl --fuel 300M --out charts");
    let banner = terminal.wait(PROMPT);
    assert!(banner.contains("capibara: Python in the sandbox, policy moderate; :help lists commands"), "{banner}");
    terminal.enter("counter = 41");
    assert!(terminal.enter("counter + 1").contains("42\n"));

    // The key that goes up brings the line before back.
    let again = terminal.enter("\u{1b}[A");
    assert!(again.contains("42\n"), "{again}");
    assert!(terminal.enter("\u{1b}[A\u{1b}[A\u{1b}[B + 100").contains("142\n"));

    // Blocks and brackets go on over lines; an empty line ends a block, which comes back as one.
    terminal.enter("def double(x):\r    y = x * 2\r    return y\r");
    assert!(terminal.enter("double(36)").contains("72\n"));
    terminal.enter("del double");
    let block = terminal.enter("\u{1b}[A\u{1b}[A\u{1b}[A");
    assert!(block.contains("    y = x * 2\n    return y\n"), "{block}");
    assert!(terminal.enter("double(37)").contains("74\n"));
    terminal.enter("total = (1 +\r2)");
    assert!(terminal.enter("total * 1000").contains("3000\n"));

    // Tab completes names and attributes of the session that there is now.
    assert!(terminal.enter("cou\t + 7").contains("48\n"));
    terminal.enter("import math");
    assert!(terminal.enter("math.flo\t9.75) + 300").contains("309\n"));
    terminal.enter("class Point:\rabscissa = 5\u{1b}[H    \u{1b}[F\r");
    assert!(terminal.enter("Point.absc\t * 11").contains("55\n"));
    let help = terminal.enter(":hel\t");
    assert!(help.contains(":save FILE "), "{help}");
    let twice = terminal.enter("math.is\t\tnan(0)");
    assert!(twice.contains("math.isclose(") && twice.contains("False\n"), "{twice}");

    // A limit undoes the turn, and nothing else.
    let stopped = terminal.enter("for counter in iter(int, 1): pass\r");
    assert!(stopped.contains("capibara: stopped by limit fuel: allowed 300_000_000"), "{stopped}");
    assert!(stopped.contains("capibara: the turn is undone; the session is what it was before it\n"), "{stopped}");
    assert!(terminal.enter("counter * 2").contains("82\n"));

    // Ctrl-C at the prompt clears what was typed, also in the middle of a block.
    terminal.press("this is not(\r\u{3}");
    terminal.wait(PROMPT);
    assert!(terminal.enter("5 * 5").contains("25\n"));

    // An object with a form for the eye.
    terminal.enter("class Chart:\r    _repr_svg_ = lambda self: '<svg>%d</svg>' % counter\r");
    let left = terminal.enter("Chart()");
    let line = left.lines().find(|line| line.contains("capibara: left value-")).unwrap_or_else(|| panic!("{left}"));
    let name = line.trim_start_matches("capibara: left ").strip_suffix(" (image/svg+xml, 13B) in charts").unwrap();
    assert_eq!(fs::read_to_string(sandbox.dir.path().join("charts").join(name)).unwrap(), "<svg>41</svg>");

    // What is printed cannot move the cursor, and a question has no answer here.
    assert!(terminal.enter("print('\\x1b[2J' + 'x')").contains("\\x1b[2Jx\n"));
    assert!(terminal.enter("input('name? ')").contains("EOFError"));
    assert!(terminal.enter("5 * 5").contains("25\n"));
    terminal.press("\u{4}");
    assert_eq!(terminal.end(), Some(0));

    // Another process knows what was typed, and nobody else can read it.
    let history = sandbox.dir.path().join(".local/state/capibara/repl_history");
    assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let mut second = Terminal::new(&sandbox, "exec \"$CAPIBARA\" repl");
    second.wait(PROMPT);
    assert!(second.enter("\u{1b}[A + 2").contains("27\n"));
    let asked = second.enter("\u{1b}[A\u{1b}[A\u{1b}[A");
    assert!(asked.contains("EOFError"), "{asked}");
    second.press("quit()\r");
    assert_eq!(second.end(), Some(0));
}

#[test]
fn keys_and_signals_that_end_something() {
    if no_terminal("keys_and_signals_that_end_something") {
        return;
    }
    let sandbox = sandbox();
    let mut terminal = Terminal::new(&sandbox, "exec \"$CAPIBARA\" repl --live --timeout 60s");
    terminal.wait(PROMPT);
    terminal.enter("kept = [1]");
    for stuck in ["while True: kept.append(2)\r\r", "import time; kept.append(3); time.sleep(50)\r"] {
        terminal.press(stuck);
        std::thread::sleep(Duration::from_millis(700));
        let sent = Instant::now();
        terminal.press("\u{3}");
        terminal.wait("capibara: canceled; the turn is undone; the session is what it was before it\n");
        assert!(sent.elapsed() < Duration::from_secs(5));
        terminal.wait(PROMPT);
        assert!(terminal.enter("kept + [9]").contains("[1, 9]\n"));
    }
    terminal.press("\u{4}");
    assert_eq!(terminal.end(), Some(0));

    // SIGTERM at a prompt leaves the terminal as it was.
    let line = "sh -c 'echo $$ > id; exec \"$CAPIBARA\" repl'; echo code $?; stty -a";
    let mut terminal = Terminal::new(&sandbox, line);
    terminal.wait(PROMPT);
    let id = || fs::read_to_string(sandbox.dir.path().join("id")).unwrap().trim().parse().unwrap();
    kill(id(), "TERM");
    terminal.wait("code 143");
    let modes = terminal.wait(" echo ");
    assert!(modes.contains(" icanon") && !modes.contains("-icanon"), "{modes}");
    assert_eq!(terminal.end(), Some(0));
    // During a turn, too.
    let mut terminal = Terminal::new(&sandbox, line);
    terminal.wait(PROMPT);
    terminal.press("while True: pass\r\r");
    std::thread::sleep(Duration::from_millis(500));
    kill(id(), "TERM");
    terminal.wait("code 143");
    assert_eq!(terminal.end(), Some(0));

    // Where the cursor cannot be moved, lines are read as they are.
    let mut dumb = Terminal::new(&sandbox, "TERM=dumb exec \"$CAPIBARA\" repl");
    dumb.wait(">>> ");
    dumb.press("for i in range(2):\n");
    dumb.wait("... ");
    dumb.press("    print(i + 70)\n\n");
    dumb.wait("71\n");
    dumb.press("\u{4}");
    assert_eq!(dumb.end(), Some(0));
}

#[test]
fn lines_of_a_pipe_are_blocks_as_they_would_be_typed() {
    let sandbox = sandbox();
    let lines = "import math\n\ndef f(x):\n    y = x\n    return y\n\nf(3)\nfor i in range(2):\n    print(i)\nelse:\n    print('end')\n\n(1,\n 2)\nx = '''\n\n'''\nx\nawait __import__('asyncio').sleep(1, 'slept')\nclass A:\n    a = 1\n\nA.a";
    let ran = piped(&sandbox, &[], lines);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.stdout, "3\n0\n1\nend\n(1, 2)\n'\\n\\n'\n'slept'\n1\n");
    // The end of the input ends a block.
    let ran = piped(&sandbox, &[], "for i in range(2):\n    print(i)");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "0\n1\n"), "{ran:?}");
    assert_eq!(piped(&sandbox, &[], "").code, Some(0));
    // No line is an answer to a question.
    let ran = piped(&sandbox, &[], "name = input()\nprint('ran')\nimport sys; print(repr(sys.stdin.read()))\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "ran\n''\n"), "{ran:?}");
    assert!(ran.stderr.ends_with("EOFError: EOF when reading a line\n"), "{ran:?}");
    // What is no text is no turn.
    let ran = sandbox.run_with_input(&["repl"], b"print(1)\nprint('\xff')\nprint(2)\n", false);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "1\n2\n"));
    assert_eq!(ran.stderr, "capibara: error: a line of standard input is not run: it is not UTF-8\n");
}

#[test]
fn what_fails_does_not_end_the_session_and_is_told_by_the_exit_code() {
    let sandbox = sandbox();
    for (lines, code, said) in [
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("x = (1]", 1, "SyntaxError: closing parenthesis"),
        ("import sys; sys.exit(0)", 0, ""),
        ("import sys; sys.exit(3)", 1, "capibara: the turn ended with exit code 3; the session goes on\n"),
        ("x = 2; import os; os._exit(0)", 0, "capibara: the turn left with exit code 0; the turn is undone; the"),
        ("import os; os.system('id')", 1, "capibara:  --> <turn 2>:1:12\n"),
        ("while True: pass\n", 1, "capibara: hint: raise it with --fuel\n"),
        ("import os; os.abort()", 1, "capibara: the interpreter broke down: "),
        (":none", 1, "capibara: error: there is no command `:none`\ncapibara: hint: :help lists all of them\n"),
        (":limits of", 1, "capibara: error: :limits takes nothing after it\n"),
    ] {
        let ran = piped(&sandbox, &["--fuel", "300M"], &format!("x = 1\n{lines}\nprint('after', x)\n"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), "after 1\n"), "{lines}: {ran:?}");
        assert!(ran.stderr.contains(said), "{lines}: {ran:?}");
    }
    // Every turn that ran, or was not let run, has its record.
    let listed = sandbox.run(&["audit", "list", "--format", "json"]);
    for part in ["\"turn 1\"", "\"turn 3\"", "\"denied\"", "\"limit\"", "\"trapped\""] {
        assert!(listed.stdout.contains(part), "{part}: {}", listed.stdout);
    }
    assert_eq!(sandbox.run(&["audit", "verify"]).code, Some(0));
    // Numbers are those of tracebacks, whatever was undone or denied between.
    let ran = piped(
        &sandbox,
        &["--fuel", "300M"],
        "1\nwhile True: pass\n\nimport os; os._exit(3)\nimport os; os.system('id')\n1 / 0\n",
    );
    assert!(ran.stderr.contains("<turn 2>:1:12") && ran.stderr.contains("File \"<turn 2>\", line 1"), "{ran:?}");
}

#[test]
fn commands() {
    let sandbox = sandbox();
    let help = piped(&sandbox, &[], ":help\n");
    for command in
        [":limits", ":files [FOLDER]", ":keep DIR", ":changes", ":apply", ":save FILE", ":load FILE", ":reset", ":quit"]
    {
        assert!(help.stdout.contains(command), "{help:?}");
    }
    let words = ["--timeout", "5s", "--memory", "128MiB"];
    let limits = piped(&sandbox, &words, "x = 1\n:limits\n");
    assert!(limits.stdout.starts_with("each turn   wall_time 5s, fuel 1T, output 16MiB\nsession     memory 128MiB, bytes_written 256MiB, files 1000, descriptors 128\nused        1 turn, "), "{limits:?}");

    // :quit, and what ends a Python session, end it.
    for word in [":quit", ":exit", "exit", "quit()"] {
        let ran = piped(&sandbox, &[], &format!("print(1)\n{word}\nprint(2)\n"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{word}");
    }

    let lines = "_ = open('/tmp/a b', 'w').write('x' * 1500)\n_ = open('/out/t\\x1b[2J\\n.csv', 'w').write('1,2')\n:files\n:files /tmp\n:files /none\n:files tmp\n";
    let files = piped(&sandbox, &[], lines);
    let csv = "        3B  /out/t\\x1b[2J\\n.csv  text/csv\n";
    assert_eq!(files.stdout, format!("    1.5KiB  /tmp/a b\n{csv}    1.5KiB  /tmp/a b\nno files\n"));
    assert!(files.stderr.contains("capibara: error: `tmp` is not the path of a folder of the session\n"), "{files:?}");
    assert!(files.stderr.contains("capibara: left /out/t\\x1b[2J\\n.csv (text/csv, 3B)\n"), "{files:?}");

    // A session is saved and loaded; a turn with an exception is there as a comment, one that was undone is not.
    let lines = "a = 1\ndef f():\n    return a + 1\n\n1 / 0\nwhile True: pass\n\n:save my session.py\n:save my session.py\n:save\n:save none/x\n:save ~/x\n";
    let saved = piped(&sandbox, &["--fuel", "300M"], lines);
    assert_eq!((saved.code, saved.stdout.as_str()), (Some(1), "3 turns are in my session.py\n"), "{saved:?}");
    for part in [
        "error: failed to write `my session.py`\ncapibara:   cause: File exists (os error 17)\ncapibara: hint: a file that is there",
        "error: :save needs a path\ncapibara: hint: for example `:save session.py`\n",
        "error: failed to write `none/x`\ncapibara:   cause: No such file or directory",
        "error: `~` is no folder here: `~/x`\n",
    ] {
        assert!(saved.stderr.contains(part), "{part}: {saved:?}");
    }
    let text = fs::read_to_string(sandbox.dir.path().join("my session.py")).unwrap();
    assert_eq!(text, "a = 1\n\ndef f():\n    return a + 1\n\n# It ended with an exception:\n# 1 / 0\n\n");
    let loaded = piped(&sandbox, &[], ":load my session.py\nf()\n");
    assert_eq!((loaded.code, loaded.stdout.as_str()), (Some(0), "2\n"), "{loaded:?}");

    // What cannot be loaded leaves the session as it is.
    let _ = sandbox.file("broken.py", "x = 2\ny = (\n");
    let _ = sandbox.file("latin.py", b"x = '\xe9'\n");
    let _ = sandbox.file("deny.py", "import os\nos.system('id')\n");
    let lines = "x = 1\n:load broken.py\n:load none.py\n:load .\n:load latin.py\n:load deny.py\n:load\nprint(x)\n";
    let ran = piped(&sandbox, &[], lines);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "1\n"), "{ran:?}");
    for part in [
        "SyntaxError: '(' was never closed\n",
        "error: failed to read `none.py`\ncapibara:   cause: No such file or directory",
        "error: `.` is no regular file of at most 16MiB\n",
        "error: failed to read `latin.py`\ncapibara:   cause: stream did not contain valid UTF-8\n",
        "capibara:  --> deny.py:2:1\n",
        "error: :load needs a path\n",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }

    // A new session knows nothing of the old one.
    let lines = "x = 1\n_ = open('/tmp/a', 'w').write('a')\n:reset\n'x' in globals()\n:files\n:save new.py\n";
    let ran = piped(&sandbox, &[], lines);
    assert_eq!(ran.stdout, "a new session\nFalse\nno files\n1 turn is in new.py\n", "{ran:?}");
}

#[test]
fn what_lies_in_out_is_told_and_kept() {
    let sandbox = sandbox();
    let folder = sandbox.dir.path();
    let chart = "class Chart:\n    def _repr_svg_(self): return '<svg/>'\n    def _repr_png_(self): return b'\\x89PNG'\n    def _repr_html_(self): return '<b>'\n\nChart()\n";
    let told = |place: &str, end: &str| {
        ["html (text/html, 3B)", "png (image/png, 4B)", "svg (image/svg+xml, 6B)"]
            .map(|file| format!("capibara: left {place}value-2.{file}{end}\n"))
            .concat()
    };
    // Without a folder it is said where they are, and in the end that they are gone.
    let ran = piped(&sandbox, &[], chart);
    let gone = "capibara: 3 files of /out are gone with the session (13B): `--out DIR` and `:keep DIR` keep them\n";
    assert_eq!((ran.code, ran.stderr), (Some(0), told("/out/", "") + gone));
    // Only what is new is told of again, and kept files are not lost.
    let ran = piped(&sandbox, &[], &format!("{chart}1\n:keep my results\n:keep\n:reset\n:keep x\n"));
    let (left, kept) = (told("/out/", ""), told("", " in my results"));
    let missing = "capibara: error: :keep needs a path\ncapibara: hint: for example `:keep results`\n";
    let none = "capibara: error: there are no files in /out\n";
    assert_eq!((ran.code, ran.stderr), (Some(1), left + &kept + missing + none));
    assert_eq!(fs::read(folder.join("my results/value-2.png")).unwrap(), b"\x89PNG");
    assert!(!folder.join("x").exists());

    // With one they are written after every turn that is kept.
    let lines = format!(
        "{chart}_ = open('/out/a.txt', 'w').write('one')\n_ = open('/out/a.txt', 'a').write('two'); open('/out/b', 'w')\nfor i in iter(int, 1): open('/out/undone', 'w')\n\n"
    );
    let ran = piped(&sandbox, &["--out", "charts", "--fuel", "300M"], &lines);
    let wanted = told("", " in charts")
        + "capibara: left a.txt (text/plain, 3B) in charts\ncapibara: left a.txt (text/plain, 6B) in charts\ncapibara: left b (application/octet-stream, 0B) in charts\n";
    assert!(ran.stderr.starts_with(&wanted), "{ran:?}");
    assert!(!ran.stderr.contains("gone") && !folder.join("charts/undone").exists(), "{ran:?}");
    assert_eq!(fs::read_to_string(folder.join("charts/a.txt")).unwrap(), "onetwo");
    assert_eq!(fs::read_to_string(folder.join("charts/value-2.html")).unwrap(), "<b>");

    // What is in the way stays, and is told.
    fs::create_dir_all(folder.join("full/a")).unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("full/b")).unwrap();
    let ran =
        piped(&sandbox, &["--out", "full"], "for name in 'abc': _ = open('/out/' + name, 'w').write(name)\n\n1\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "1\n"), "{ran:?}");
    let wanted = "capibara: left c (application/octet-stream, 1B) in full\ncapibara: artifact `a` was not written: a directory is in the way\ncapibara: artifact `b` was not written: a symbolic link is in the way\ncapibara: 2 files of /out are gone with the session (2B)";
    assert!(ran.stderr.starts_with(wanted), "{ran:?}");
    assert!(!folder.join("secret").exists());
    // A file of many names does not fit.
    let lines = "f = open('/out/a', 'wb'); _ = f.write(bytes(700)); f.close()\nimport os\nos.link('/out/a', '/out/b')\n1\n:keep full\n";
    let ran = piped(&sandbox, &["--max-disk", "1000B", "--out", "many"], lines);
    let large = "artifact `b` was not written: all together are larger than what the run may write";
    assert_eq!((ran.code, ran.stderr.matches(large).count()), (Some(1), 2), "{ran:?}");

    for (words, part) in [
        (&["--out", "none/deep"][..], "`none/deep` cannot take artifacts"),
        (&["--out", "/proc"], "file system of the kernel"),
        (&["--out", ""], "names no folder"),
    ] {
        let ran = piped(&sandbox, words, "1\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
    let ran =
        piped(&sandbox, &[], "_ = open('/out/a', 'w').write('a')\n:keep none/deep\n:keep .local/state/capibara\n1\n");
    assert!(ran.stderr.contains("`none/deep` cannot take artifacts") && ran.stdout == "1\n", "{ran:?}");
    assert!(ran.stderr.contains("`.local/state/capibara` would change"), "{ran:?}");
}

#[test]
fn overlays_are_applied_as_often_as_one_likes() {
    let sandbox = sandbox();
    let source = sandbox.dir.path().join("src");
    let fill = || {
        let _ = fs::remove_dir_all(&source);
        fs::create_dir_all(source.join("d")).unwrap();
        fs::write(source.join("a"), "one\n").unwrap();
        fs::write(source.join("d/b"), "b\n").unwrap();
    };
    let read = |name: &str| fs::read_to_string(source.join(name)).ok();
    fill();
    let lines = "_ = open('/src/a', 'a').write('two\\n')\n_ = open('/src/new\\n', 'w').write('new')\nimport os; os.remove('/src/d/b')\n:changes\n";
    let ran = piped(
        &sandbox,
        &["--overlay", "src", "--fuel", "300M"],
        &format!("{lines}for i in iter(int, 1): pass\n\n:quit\n"),
    );
    assert_eq!(ran.stdout, "  M /src/a (8B)\n  D /src/d/b\n  A /src/new\\n (3B)\n", "{ran:?}");
    assert!(
        ran.stderr.ends_with("capibara: 3 changes below overlays are gone with the session: `:apply` makes them\n")
    );
    assert_eq!((read("a").as_deref(), read("d/b").as_deref(), read("new\n")), (Some("one\n"), Some("b\n"), None));

    // What was made is no change any more, and can be changed again.
    let more = ":apply\n:changes\n:apply\n_ = open('/src/a', 'a').write('three\\n'); os.remove('/src/new\\n'); os.mkdir('/src/m'); os.symlink('a', '/src/link'); _ = open('/src/d/b', 'w').write('back')\n:apply\nos.remove('/src/link'); os.rename('/src/m', '/src/n'); _ = open('/src/n/deep', 'w').write('deep')\n:changes\n:apply\nos.remove('/src/n/deep'); os.rmdir('/src/n'); _ = open('/src/n', 'w').write('file')\n:apply\n:changes\nprint(open('/src/a').read(), sorted(os.listdir('/src')))\n";
    let ran = piped(&sandbox, &["--overlay", "src"], &format!("{lines}{more}"));
    let wanted = "  M /src/a (8B)\n  D /src/d/b\n  A /src/new\\n (3B)\napplied 3 changes\nno changes below overlays\nno changes below overlays\napplied 5 changes\n  D /src/link\n  D /src/m\n  A /src/n/\n  A /src/n/deep (4B)\napplied 4 changes\napplied 3 changes\nno changes below overlays\none\ntwo\nthree\n ['a', 'd', 'n']\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), wanted, ""), "{ran:?}");
    assert_eq!(read("a").as_deref(), Some("one\ntwo\nthree\n"));
    assert_eq!((read("d/b").as_deref(), read("n").as_deref()), (Some("back"), Some("file")));
    assert_eq!(fs::read_dir(&source).unwrap().count(), 3);

    // What was changed here meanwhile is left as it is, before the first time and after it.
    fill();
    let mut child = sandbox.command();
    child.args(["repl", "--overlay", "src/a:/a", "--overlay", "src"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut ask = |lines: &str| {
        keyboard.write_all(format!("{lines}\nprint('·')\n").as_bytes()).unwrap();
        let mut said = String::new();
        while !said.ends_with("·\n") {
            assert_ne!(std::io::BufRead::read_line(&mut screen, &mut said).unwrap(), 0, "{said}");
        }
        said.replace("·\n", "")
    };
    assert_eq!(
        ask("_ = open('/a', 'w').write('1'); _ = open('/src/d/b', 'w').write('1')\n:apply"),
        "applied 2 changes\n"
    );
    assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("1")));
    fs::write(source.join("d/b"), "X").unwrap();
    assert_eq!(
        ask("_ = open('/a', 'w').write('2'); _ = open('/src/d/b', 'w').write('2')\n:apply"),
        "applied 1 of 2 changes\n"
    );
    assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("2"), Some("X")));
    drop(keyboard);
    let ran = finish(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.starts_with("capibara: change of `/src/d/b` was not applied: "), "{ran:?}");

    let ran = piped(&sandbox, &[], ":apply\n:changes\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "no changes below overlays\n"));
    let wanted = "capibara: error: :apply was typed, and nothing is an overlay\ncapibara: hint: say what the script may change, for example `--overlay src`\n";
    assert_eq!(ran.stderr, wanted);
    // A policy may lay over a folder, and keep it from being changed.
    let text =
        "extends: moderate\nwiden: true\noverridable: none\ngrants:\n  overlay:\n    - {host: src, guest: /src}\n";
    let _ = sandbox.file("closed.yaml", text);
    let ran = piped(&sandbox, &["--policy", "./closed.yaml"], "_ = open('/src/a', 'w').write('no')\n:apply\n");
    assert!(ran.code == Some(1) && ran.stderr.contains("`--apply`"), "{ran:?}");
    assert!(ran.stderr.ends_with("capibara: 1 change below overlays is gone with the session\n"), "{ran:?}");
    assert_eq!(read("a").as_deref(), Some("2"));
}

#[test]
fn strict_gives_a_session_nothing() {
    let sandbox = sandbox();
    for words in [&["--overlay", "."][..], &["--tool", "t=./t"], &["--read", "."], &["--live"], &["--timeout", "1m"]] {
        let ran = piped(&sandbox, &[&["--policy", "strict"], words].concat(), "print(1)\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{words:?}: {ran:?}");
    }
    // Where nothing can be recorded, nothing runs.
    let state = sandbox.file("state", "a file");
    let mut command = sandbox.command();
    command.args(["repl", "--policy", "strict"]).env("XDG_STATE_HOME", state).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"print(1)\nprint(2)\n").unwrap();
    let ran = finish(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert_eq!(ran.stderr.matches("policy `strict` runs only what can be recorded").count(), 2, "{ran:?}");
}

#[test]
fn a_pipe_may_break_and_signals_end() {
    let sandbox = sandbox();
    // The reader of the output goes: quietly, as programs do.
    for lines in ["for i in iter(int, 1): print('x' * 1000)\n\nprint(2)\n", ":help\n:help\n:help\n"] {
        let _ = sandbox.file("lines", lines.repeat(50));
        let mut bash = Command::new("bash");
        let line = "\"$0\" repl --policy permissive < lines 2> said | head -c 1 > /dev/null; echo ${PIPESTATUS[0]}";
        bash.args(["-c", line, BINARY]).current_dir(sandbox.dir.path()).env("HOME", sandbox.dir.path());
        let ran = finish(bash.env("CAPIBARA_CACHE_DIR", capibara_tests::cache()).output().unwrap());
        assert_eq!(ran.stdout, "141\n", "{lines}");
        let said = fs::read_to_string(sandbox.dir.path().join("said")).unwrap();
        assert!(!said.contains("error"), "{said}");
    }
    // A signal ends the session: at once while it waits, and a turn under way is undone.
    for (signal, code, number) in [("INT", 130, 2), ("TERM", 143, 15)] {
        for stuck in ["", "open('/m/there', 'w').close()\nwhile True: pass\n\nprint('never')\n"] {
            fs::create_dir_all(sandbox.dir.path().join("m")).unwrap();
            let there = sandbox.dir.path().join("m/there");
            let _ = fs::remove_file(&there);
            let mut command = sandbox.command();
            command.args(["repl", "--live", "--write", "m:/m"]).stdin(Stdio::piped());
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut keyboard = child.stdin.take().unwrap();
            let first = if stuck.is_empty() { "open('/m/there', 'w').close()\n" } else { stuck };
            keyboard.write_all(first.as_bytes()).unwrap();
            let until = Instant::now() + Duration::from_secs(60);
            while !there.exists() {
                assert!(Instant::now() < until);
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(500));
            kill(child.id(), signal);
            let output = child.wait_with_output().unwrap();
            drop(keyboard);
            let status = std::os::unix::process::ExitStatusExt::signal(&output.status);
            let ran = finish(output);
            let wanted = if stuck.is_empty() { (None, Some(number)) } else { (Some(code), None) };
            assert_eq!((ran.code, status), wanted, "{signal} {stuck}: {ran:?}");
            assert_eq!(ran.stdout, "");
        }
    }
}
