//! `--tool NAME=PROGRAM`: a program of the user's that a script calls, by lines of JSON.
//!
//! One line for a call, `{"id":1,"args":{…}}`, and one for its answer, `{"id":1,"result":…}` or `{"id":1,"error":"…"}`, whose
//! text the script sees. The program is the user's, not the script's: it runs outside of the sandbox.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use capibara::{Tool, ToolError};
use futures_channel::oneshot;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::errors::Failure;

/// Longest line a program may answer with, in bytes.
const LONGEST_LINE: u64 = 32 << 20;
/// Bytes of calls that may wait for a program to read them.
const MOST_UNREAD: usize = 64 << 20;
/// How long a program may take to end once its input has.
const PATIENCE: Duration = Duration::from_millis(200);

/// A tool as it stands on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolProgram {
    name: String,
    program: OsString,
}

impl ToolProgram {
    /// The name the script calls it by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What scripts are told of it.
    fn description(&self) -> String {
        let name = std::path::Path::new(&self.program).file_name().unwrap_or(&self.program);
        format!("Calls the program {}.", name.to_string_lossy())
    }

    /// Reads `NAME=PROGRAM`.
    pub(crate) fn parse(text: OsString) -> Result<Self, String> {
        let shown = text.to_string_lossy().into_owned();
        let bytes = text.as_bytes();
        let split = bytes.iter().position(|byte| *byte == b'=');
        let (name, program) = match split.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?))) {
            Some((name, program)) if !name.is_empty() && !program.is_empty() => (name, program),
            _ => return Err(format!("`{shown}` is not a tool: write NAME=PROGRAM, for example `users=./users.py`")),
        };
        match std::str::from_utf8(name) {
            Ok(name) => Ok(Self { name: name.into(), program: OsStr::from_bytes(program).to_owned() }),
            Err(_) => Err(format!("the name of the tool `{shown}` is not UTF-8")),
        }
    }
}

/// Starts the programs: tools of a run.
pub(crate) fn tools(programs: &[ToolProgram]) -> Result<Vec<Tool>, Failure> {
    programs.iter().map(tool).collect()
}

/// Tools of these names whose programs are not started, to tell what there is.
pub(crate) fn named(programs: &[ToolProgram]) -> Vec<Tool> {
    let named = |it: &ToolProgram| {
        Tool::dynamic(it.name.as_str(), it.description(), None, |_| async {
            Err::<Value, _>(ToolError::public("this tool was not started"))
        })
    };
    programs.iter().map(named).collect()
}

fn tool(tool: &ToolProgram) -> Result<Tool, Failure> {
    let ToolProgram { name, program } = tool;
    let running = Running::start(program).map_err(|error| {
        Failure::new("tool-not-started", format!("failed to start `{}` for the tool {name}", program.to_string_lossy()))
            .with_cause(&error)
            .with_hint("PROGRAM is a file that can be executed: with a `/` in it a path, without one a command of PATH")
    })?;
    let running = Arc::new(running);
    Ok(Tool::dynamic(name.as_str(), tool.description(), None, move |arguments| running.clone().call(arguments)))
}

/// A program that runs.
struct Running {
    child: Mutex<Child>,
    /// Lines for it; `None` when there are to be no more.
    lines: Mutex<Option<mpsc::Sender<String>>>,
    waiting: Arc<Mutex<Waiting>>,
    /// Bytes that the program has not read.
    unread: Arc<AtomicUsize>,
    next: AtomicU64,
}

/// Who waits for an answer.
#[derive(Default)]
struct Waiting {
    calls: HashMap<u64, oneshot::Sender<Result<Value, ToolError>>>,
    /// Why there will be no more answers.
    ended: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    /// `null` is a result.
    #[serde(default, deserialize_with = "given")]
    result: Option<Value>,
    error: Option<String>,
}

fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    fn end(&mut self, why: String) {
        for (_, call) in self.calls.drain() {
            let _ = call.send(Err(ToolError::internal(why.as_str())));
        }
        self.ended.get_or_insert(why);
    }
}

impl Running {
    fn start(program: &OsStr) -> io::Result<Self> {
        // In a process group of its own: Ctrl-C is for the run, and what the program starts is stopped with it.
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
        let mut child = command.spawn()?;
        let missing = || io::Error::other("no pipe to it");
        let (input, output) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (lines, to_write) = mpsc::channel();
        let new = Self {
            child: Mutex::new(child),
            lines: Mutex::new(Some(lines)),
            waiting: waiting.clone(),
            unread: Arc::default(),
            next: AtomicU64::new(1),
        };
        let (of_writer, unread) = (waiting.clone(), new.unread.clone());
        thread::Builder::new()
            .name("capibara-tool-in".into())
            .spawn(move || write_lines(input, &to_write, &unread, &of_writer))?;
        thread::Builder::new().name("capibara-tool-out".into()).spawn(move || read_answers(output, &waiting))?;
        Ok(new)
    }

    async fn call(self: Arc<Self>, arguments: Value) -> Result<Value, ToolError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let line = format!("{}\n", serde_json::json!({ "id": id, "args": arguments }));
        if self.unread.fetch_add(line.len(), Ordering::Relaxed) > MOST_UNREAD {
            self.unread.fetch_sub(line.len(), Ordering::Relaxed);
            return Err(ToolError::internal("its program does not read its calls"));
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if let Some(why) = &waiting.ended {
                return Err(ToolError::internal(why.as_str()));
            }
            waiting.calls.insert(id, sender);
        }
        if let Some(lines) = &*lock(&self.lines) {
            // Without a writer, the reader says why.
            let _ = lines.send(line);
        }
        receiver.await.unwrap_or_else(|_| Err(ToolError::internal("its program ended")))
    }
}

impl Drop for Running {
    /// Lets the program end: its input ends, and if it goes on after that it is stopped. With it, whatever it has started.
    fn drop(&mut self) {
        drop(lock(&self.lines).take());
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
        // It is only looked at: until it is waited for, its number is nobody else's.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let until = Instant::now() + PATIENCE;
        while matches!(waitid(WaitId::Pid(id), options), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = kill_process_group(id, rustix::process::Signal::KILL);
        let _ = child.wait();
    }
}

fn write_lines(mut input: ChildStdin, lines: &mpsc::Receiver<String>, unread: &AtomicUsize, waiting: &Mutex<Waiting>) {
    for line in lines {
        if let Err(error) = input.write_all(line.as_bytes()).and_then(|()| input.flush()) {
            lock(waiting).end(format!("its program takes no more calls: {error}"));
            return;
        }
        unread.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

fn read_answers(output: ChildStdout, waiting: &Mutex<Waiting>) {
    let mut output = BufReader::new(output);
    let why = loop {
        let mut line = Vec::new();
        match output.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) => break "its program ended".to_owned(),
            Ok(_) if !line.ends_with(b"\n") && line.len() as u64 >= LONGEST_LINE => {
                break format!("its program answered with a line of more than {LONGEST_LINE} bytes");
            }
            Ok(_) => {}
            Err(error) => break format!("the answers of its program cannot be read: {error}"),
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Answer { id, result, error } = match serde_json::from_slice(&line) {
            Ok(answer) => answer,
            Err(error) => break format!("its program answered with a line that is no answer: {error}"),
        };
        let answer = match (error, result) {
            (Some(message), _) => Err(ToolError::public(message)),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(ToolError::internal("the answer of its program has neither `result` nor `error`")),
        };
        if let Some(call) = lock(waiting).calls.remove(&id) {
            // A call that was given up has nobody who waits.
            let _ = call.send(answer);
        }
    };
    lock(waiting).end(why);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_read() {
        let tool = ToolProgram::parse("users=./a=b".into()).unwrap();
        assert_eq!((tool.name.as_str(), tool.program.to_str()), ("users", Some("./a=b")));
        for bad in ["", "users", "=x", "users="] {
            assert!(ToolProgram::parse(bad.into()).unwrap_err().contains("NAME=PROGRAM"), "{bad}");
        }
        assert!(ToolProgram::parse(OsStr::from_bytes(b"\xff=x").to_owned()).is_err());
    }
}
