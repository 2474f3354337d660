//! `capibara run --watch`: a script that is run again when its files change.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use capibara_tests::{Sandbox, engine};

/// How long a line may take to come. A run takes milliseconds; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command under way, with what it printed.
struct Watched {
    sandbox: Sandbox,
    child: Child,
    /// Lines of both streams, in the order in which each of them came.
    out: Receiver<String>,
    err: Receiver<String>,
}

fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (told, hears) = mpsc::channel();
    thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    hears
}

impl Watched {
    fn start(files: &[(&str, &str)], words: &[&str]) -> Self {
        let _ = engine();
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
        for (name, content) in files {
            let _ = sandbox.file(name, content);
        }
        let mut command = sandbox.command();
        command.arg("run").arg("--watch").args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { sandbox, child, out, err }
    }

    #[track_caller]
    fn prints(&self, line: &str) {
        match self.out.recv_timeout(PATIENCE) {
            Ok(found) => assert_eq!(found, line),
            Err(_) => panic!("no line `{line}`; on standard error: {:?}", self.err.try_iter().collect::<Vec<_>>()),
        }
    }

    /// A line on standard error that begins and ends so; others before it are passed over.
    #[track_caller]
    fn says(&self, part: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.err.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return before,
                // Of the endless loops in these scripts.
                Ok(line) if line.contains("warning[resource-bomb]") => {}
                Ok(line) => before.push(line),
                Err(_) => panic!("`{part}` is not said: {before:?}"),
            }
        }
    }

    fn write(&self, name: &str, content: &str) {
        let _ = self.sandbox.file(name, content);
    }

    /// As editors save that write a new file and rename it.
    fn replace(&self, name: &str, content: &str) {
        let beside = self.sandbox.file(&format!(".{name}.swp"), content);
        fs::rename(beside, self.sandbox.dir.path().join(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.sandbox.dir.path().join(name)).unwrap();
    }

    fn ends(mut self, signal: &str) -> (Option<i32>, Vec<String>) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let began = Instant::now();
        let code = self.child.wait().unwrap().code();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        (code, self.err.iter().collect())
    }

    fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn a_script_runs_again_however_it_is_saved() {
    let watched = Watched::start(&[("hello.py", "print('one')")], &["hello.py"]);
    watched.prints("one");
    watched.write("hello.py", "print('two')");
    assert_eq!(watched.says("capibara: hello.py changed; running it again"), [""; 0]);
    watched.prints("two");
    watched.replace("hello.py", "print('six')");
    watched.says("hello.py changed");
    watched.prints("six");
    // Gone for a moment.
    watched.remove("hello.py");
    thread::sleep(Duration::from_millis(400));
    watched.write("hello.py", "print('back')");
    watched.says("hello.py changed");
    watched.prints("back");
    // Many steps of saving are one change.
    for part in ["", "print(", "print('whole')", "print('whole')\n"] {
        watched.write("hello.py", part);
        thread::sleep(Duration::from_millis(5));
    }
    watched.says("hello.py changed");
    watched.prints("whole");
    thread::sleep(Duration::from_millis(500));
    assert!(watched.out.try_recv().is_err() && watched.err.try_recv().is_err());
    let (code, said) = watched.ends("INT");
    assert_eq!((code, said), (Some(130), vec![]));
}

#[test]
fn modules_and_granted_files_are_watched_too() {
    let files = [
        (
            "hello.py",
            "import helper\nprint(helper.x, open('/data.txt').read(), end='')\ntry:\n  import more\n  print(more.y)\nexcept ImportError: print('-')",
        ),
        ("helper.py", "x = 1"),
        ("data.txt", "a"),
        ("other.py", ""),
    ];
    let watched = Watched::start(&files, &["--read", "data.txt", "hello.py"]);
    watched.prints("1 a-");
    watched.write("helper.py", "x = 22");
    watched.says("capibara: helper.py changed; running hello.py again");
    watched.prints("22 a-");
    watched.replace("data.txt", "b");
    watched.says("capibara: data.txt changed; running hello.py again");
    watched.prints("22 b-");
    // A module that it wanted and that was not there.
    watched.write("more.py", "y = 3");
    watched.says("capibara: more.py changed; running hello.py again");
    watched.prints("22 b3");
    // What it does not import is nothing to it.
    watched.write("other.py", "changed = True");
    watched.write("unrelated.txt", "x");
    thread::sleep(Duration::from_millis(500));
    assert!(watched.out.try_recv().is_err() && watched.err.try_recv().is_err());
    assert_eq!(watched.ends("TERM").0, Some(143));
}

#[test]
fn a_run_under_way_is_canceled() {
    let watched =
        Watched::start(&[("hello.py", "print('endless')\nwhile True: pass")], &["--timeout", "10m", "hello.py"]);
    watched.prints("endless");
    watched.write("hello.py", "import time\nprint('waiting', end='', flush=True)\ntime.sleep(1)\nwhile True: pass");
    assert_eq!(watched.says("hello.py changed; running it again"), [""; 0]);
    thread::sleep(Duration::from_millis(300));
    watched.write("hello.py", "print('done')");
    watched.says("hello.py changed; running it again");
    watched.prints("waitingdone");
    watched.write("hello.py", "print('last')\nwhile True: pass");
    watched.says("hello.py changed; running it again");
    watched.prints("last");
    let (code, said) = watched.ends("INT");
    assert_eq!((code, said.last().map(String::as_str)), (Some(130), Some("capibara: canceled by SIGINT")));
}

#[test]
fn what_fails_is_told_and_waited_for() {
    let watched = Watched::start(&[("hello.py", "print(")], &["hello.py"]);
    watched.says("SyntaxError");
    watched.write("hello.py", "import os\nos.system('id')");
    watched.says("hello.py changed");
    watched.says("denied by policy moderate");
    watched.write("hello.py", "");
    watched.says("is empty");
    watched.write("hello.py", "raise SystemExit(3)");
    watched.says("hello.py changed");
    watched.write("hello.py", "print('well')");
    watched.says("hello.py changed");
    watched.prints("well");
    assert_eq!(watched.ends("INT").0, Some(130));
}

#[test]
fn json_is_an_object_a_line_for_each_run() {
    let watched = Watched::start(&[("hello.py", "print(1)")], &["--format", "json", "hello.py"]);
    for (content, status, stdout) in
        [("print(22)", "completed", "1\n"), ("import os; os.system('id')", "completed", "22\n"), ("", "denied", "")]
    {
        let line = watched.out.recv_timeout(PATIENCE).unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((json["schema"].as_u64(), json["status"].as_str()), (Some(1), Some(status)), "{line}");
        assert_eq!(json["stdout"].as_str().unwrap_or_default(), stdout, "{line}");
        watched.write("hello.py", content);
        watched.says("hello.py changed");
    }
    let line = watched.out.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("\"status\":\"error\"") && line.contains("script-empty"), "{line}");
    assert_eq!(watched.ends("INT").0, Some(130));
}

#[test]
fn nothing_piles_up_from_run_to_run() {
    let watched = Watched::start(&[("hello.py", "print(0)")], &["hello.py"]);
    watched.prints("0");
    let maps = || fs::read_to_string(format!("/proc/{}/maps", watched.child.id())).unwrap().lines().count();
    let mut before = None;
    for count in 1..=12 {
        watched.write("hello.py", &format!("print({})", "1".repeat(count)));
        watched.says("hello.py changed");
        watched.prints(&"1".repeat(count));
        thread::sleep(Duration::from_millis(150));
        if count == 4 {
            before = Some((watched.threads(), maps()));
        }
    }
    let (threads, mappings) = before.unwrap();
    assert!(watched.threads() <= threads, "{threads} threads became {}", watched.threads());
    assert!(maps() <= mappings + 16, "{mappings} mappings became {}", maps());
    assert_eq!(watched.ends("INT").0, Some(130));
}

#[test]
fn what_cannot_be_watched_is_a_usage_error() {
    let _ = engine();
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
    let _ = sandbox.file("hello.py", "print(1)");
    for (words, part) in [
        (&["-"][..], "standard input is none"),
        (&["/dev/stdin"], "standard input is none"),
        (&["/dev/null"], "is none"),
        (&["-c", "print(1)"], "cannot be used with"),
        (&["-m", "calendar"], "cannot be used with"),
        (&["--dry-run", "hello.py"], "cannot be used with"),
        (&["--events", "-", "hello.py"], "cannot be used with"),
        (&["missing.py"], "there is no script"),
        (&["."], "is a directory"),
        (&["--policy", "strict", "--timeout", "1h", "hello.py"], "more than policy `strict` allows"),
    ] {
        let ran = sandbox.run(&[&["run", "--watch"], words].concat());
        assert!(ran.code == Some(125) && ran.stderr.contains(part), "{words:?}: {ran:?}");
    }
}
