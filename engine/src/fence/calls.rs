//! Messages of a guest to its host, and their answers: what `capibara.call`, `wait` and `read` do.
//!
//! A message is JSON: `{"tool": NAME, "arguments": {…}}`, `{"list": "tools"}`, or `{"value": REPR, "files": […]}`, which is the value of a turn
//! and has no answer. An answer is `{"result": …}` or `{"error": {"kind", "message"}}`.
//!
//! The futures of tools are polled by the [watch](super::watch) over the run, on the stack of the thread, never on the
//! guest's: what they need of a stack is theirs to know.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::events::Event;
use crate::outcome::Value;
use crate::tools::{Answering, ToolError, ToolUse, Tools, Why};

/// Largest message, in bytes.
pub(super) const LARGEST_MESSAGE: u32 = 16 << 20;
/// Calls that may wait for their answers, and answers that may wait to be read.
const MOST_ENTRIES: usize = 1024;
/// Bytes of answers that may wait to be read.
const MOST_BYTES: usize = 64 << 20;

/// Why a message was refused, as the guest knows it.
pub(super) mod refused {
    pub(crate) const TOO_LARGE: i32 = -1;
    pub(crate) const TOO_MANY: i32 = -2;
    pub(crate) const NOT_UNDERSTOOD: i32 = -3;
    pub(crate) const NOBODY_LISTENS: i32 = -4;
}
/// A message that has no answer.
const NO_ANSWER: i32 = 0;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    tool: Option<std::borrow::Cow<'a, str>>,
    arguments: Option<Box<RawValue>>,
    list: Option<String>,
    value: Option<String>,
    #[serde(default)]
    files: Vec<String>,
}

/// The calls of a run, or of a session.
pub(crate) struct Calls {
    tools: Tools,
    /// By tool: how it was used so far, in this run or turn, and before.
    used: Vec<ToolUse>,
    used_before: Vec<u64>,
    entries: BTreeMap<i32, Entry>,
    next: i32,
    /// The first number of this turn.
    first: i32,
    /// Calls that have come to their answers so far.
    answered: u64,
    /// Whether a call waits that was never polled.
    fresh: bool,
    /// Answers that wait to be read.
    held_bytes: usize,
    value: Option<Value>,
    /// Longest value that is kept, in bytes.
    value_bytes: usize,
    /// What somebody who listens was not told yet.
    told: Option<Vec<Event>>,
    /// Whether tools are refused just now.
    refuses_tools: bool,
}

struct Entry {
    state: State,
    tool: Option<usize>,
    began: Instant,
    /// When its answer came, by number; 0 before.
    order: u64,
    /// Whether the guest has been told that it is there, and has read it.
    announced: bool,
    read: bool,
}

enum State {
    Waiting { future: Answering, deadline: Instant },
    Answered(Vec<u8>),
}

pub(super) fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    pub(super) fn new(tools: Tools, value_bytes: u64) -> Self {
        let used = tools.as_slice().iter().map(|tool| ToolUse { name: tool.name().into(), ..ToolUse::default() });
        Self {
            used: used.collect(),
            used_before: vec![0; tools.as_slice().len()],
            tools,
            entries: BTreeMap::new(),
            next: 1,
            first: 1,
            answered: 0,
            fresh: false,
            held_bytes: 0,
            value: None,
            value_bytes: usize::try_from(value_bytes).unwrap_or(usize::MAX),
            told: None,
            refuses_tools: false,
        }
    }

    /// From now on, until the end of the run or turn, somebody is to be told of calls.
    pub(super) fn listen(&mut self) {
        self.told.get_or_insert_default();
    }

    /// Whether there is something to tell.
    pub(super) fn is_untold(&self) -> bool {
        self.told.as_ref().is_some_and(|told| !told.is_empty())
    }

    /// What there is to tell, once.
    pub(super) fn take_told(&mut self) -> Vec<Event> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether the next turn may call no tools.
    pub(super) fn refuse_tools(&mut self, refused: bool) {
        self.refuses_tools = refused;
    }

    /// Takes a message; the number of the call, or why it is refused.
    pub(super) fn take(&mut self, message: &[u8]) -> i32 {
        let Ok(message) = serde_json::from_slice::<Message<'_>>(message) else { return refused::NOT_UNDERSTOOD };
        match message {
            Message { value: Some(text), files, .. } => {
                self.value = Some(Value::bounded(text, files, self.value_bytes));
                NO_ANSWER
            }
            Message { tool: Some(_), .. } if self.refuses_tools => refused::NOBODY_LISTENS,
            Message { tool: Some(tool), arguments: Some(arguments), .. } => self.call(&tool, arguments),
            Message { list: Some(list), .. } if list == "tools" => {
                let listed = serde_json::json!({ "result": self.tools.listed() });
                self.answer_now(None, listed.to_string().into_bytes())
            }
            _ => refused::NOT_UNDERSTOOD,
        }
    }

    fn call(&mut self, name: &str, arguments: Box<RawValue>) -> i32 {
        if self.entries.len() >= MOST_ENTRIES {
            return refused::TOO_MANY;
        }
        let found = self.tools.as_slice().iter().position(|tool| tool.name() == name);
        let Some((at, tool)) = found.and_then(|at| Some((at, self.tools.as_slice().get(at)?.clone()))) else {
            return self.refuse(None, ToolError::about(Why::Unknown, format!("there is no tool `{name}`")));
        };
        let (Some(used), Some(before)) = (self.used.get_mut(at), self.used_before.get(at)) else {
            return refused::NOT_UNDERSTOOD;
        };
        let argument_bytes = u64::try_from(arguments.get().len()).unwrap_or(u64::MAX);
        let call = u64::try_from(self.next).unwrap_or_default();
        if let Some(told) = &mut self.told {
            told.push(Event::ToolCalled { call, tool: name.to_owned(), argument_bytes });
        }
        if before.saturating_add(used.calls) >= tool.calls() {
            let message = format!("{name} may be called {} times, and was", tool.calls());
            return self.refuse(Some(at), ToolError::about(Why::Budget, message));
        }
        used.calls = used.calls.saturating_add(1);
        let (most, length) = (tool.argument_bytes(), arguments.get().len());
        if length > most {
            let message = format!("the arguments of {name} are {length} bytes, and {most} at most are taken");
            return self.refuse(Some(at), ToolError::about(Why::TooLarge, message));
        }
        let future = match catch_unwind(AssertUnwindSafe(|| tool.call(arguments))) {
            Ok(future) => future,
            Err(_) => return self.refuse(Some(at), panicked()),
        };
        let began = Instant::now();
        let deadline = began.checked_add(tool.timeout()).unwrap_or(began);
        self.fresh = true;
        self.insert(Entry {
            state: State::Waiting { future, deadline },
            tool: Some(at),
            began,
            order: 0,
            announced: false,
            read: false,
        })
    }

    fn insert(&mut self, entry: Entry) -> i32 {
        if self.entries.len() >= MOST_ENTRIES {
            return refused::TOO_MANY;
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        self.entries.insert(number, entry);
        number
    }

    fn refuse(&mut self, tool: Option<usize>, error: ToolError) -> i32 {
        self.tell_answer(self.next, tool, Err(error.why.name()), Duration::ZERO);
        let answer = self.failed(tool, error);
        self.answer_now(tool, answer)
    }

    fn answer_now(&mut self, tool: Option<usize>, answer: Vec<u8>) -> i32 {
        self.answered = self.answered.saturating_add(1);
        self.held_bytes = self.held_bytes.saturating_add(answer.len());
        let (order, began) = (self.answered, Instant::now());
        self.insert(Entry { state: State::Answered(answer), tool, began, order, announced: false, read: false })
    }

    fn tell_answer(&mut self, number: i32, tool: Option<usize>, result: Result<u64, &'static str>, took: Duration) {
        let tool = tool.and_then(|at| self.tools.as_slice().get(at));
        if let (Some(told), Some(tool)) = (&mut self.told, tool) {
            let call = u64::try_from(number).unwrap_or_default();
            told.push(Event::ToolAnswered { call, tool: tool.name().to_owned(), result, took });
        }
    }

    /// Counts a failure, and makes of it what the script is told.
    fn failed(&mut self, tool: Option<usize>, error: ToolError) -> Vec<u8> {
        let mut name = "the tool";
        if let Some(used) = tool.and_then(|at| self.used.get_mut(at)) {
            used.failed = used.failed.saturating_add(1);
            used.last_error = Some(error.message.clone());
            name = &used.name;
        }
        let message = match error.why {
            Why::Internal => format!("{name} failed"),
            Why::Public | Why::Timeout | Why::Arguments | Why::Budget | Why::Unknown | Why::TooLarge => error.message,
        };
        serde_json::json!({ "error": { "kind": error.why.name(), "message": message } }).to_string().into_bytes()
    }

    /// Lets calls go on. Returns whether an answer came.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.fresh = false;
        let mut done = Vec::new();
        let now = Instant::now();
        for (number, entry) in &mut self.entries {
            let State::Waiting { future, deadline } = &mut entry.state else { continue };
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            let answer = match polled {
                Ok(Poll::Ready(answer)) => answer,
                Ok(Poll::Pending) if now >= *deadline => Err(ToolError::about(Why::Timeout, String::new())),
                Ok(Poll::Pending) => continue,
                Err(_) => Err(panicked()),
            };
            done.push((*number, entry.tool, entry.began, answer));
        }
        let any = !done.is_empty();
        for (number, tool, began, answer) in done {
            let answer = match answer {
                Ok(json) if self.held_bytes.saturating_add(json.len()) > MOST_BYTES => {
                    Err(ToolError::about(Why::TooLarge, "too many results wait to be read"))
                }
                Err(ToolError { why: Why::Timeout, .. }) => {
                    let late = tool
                        .and_then(|at| self.tools.as_slice().get(at))
                        .map(|tool| format!("{} did not answer within {:?}", tool.name(), tool.timeout()));
                    Err(ToolError::about(Why::Timeout, late.unwrap_or_default()))
                }
                answer => answer,
            };
            let result = match &answer {
                Ok(json) => Ok(u64::try_from(json.len()).unwrap_or(u64::MAX)),
                Err(error) => Err(error.why.name()),
            };
            self.tell_answer(number, tool, result, began.elapsed());
            let bytes = match answer {
                Ok(json) => [b"{\"result\":".as_slice(), &json, b"}"].concat(),
                Err(error) => self.failed(tool, error),
            };
            self.answered = self.answered.saturating_add(1);
            self.held_bytes = self.held_bytes.saturating_add(bytes.len());
            if let Some(entry) = self.entries.get_mut(&number) {
                // A future is dropped where it may panic, too.
                let old = std::mem::replace(&mut entry.state, State::Answered(bytes));
                let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
                entry.order = self.answered;
            }
        }
        any
    }

    /// Whether a call waits that was never polled.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// When the first of the calls under way takes too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.entries.values().filter_map(|entry| match &entry.state {
            State::Waiting { deadline, .. } => Some(*deadline),
            State::Answered(_) => None,
        });
        deadlines.min()
    }

    /// Whether any call waits for its answer.
    pub(super) fn any_waits(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.state, State::Waiting { .. }))
    }

    /// The call whose answer came first of those the guest has not been told of.
    pub(super) fn announce(&mut self) -> Option<i32> {
        let told = self.entries.iter_mut().filter(|(_, entry)| entry.order > 0 && !entry.announced);
        let (number, entry) = told.min_by_key(|(_, entry)| entry.order)?;
        entry.announced = true;
        Some(*number)
    }

    /// The answer of a call, if it is there.
    pub(super) fn answer(&self, number: i32) -> Option<&[u8]> {
        match self.entries.get(&number) {
            Some(Entry { state: State::Answered(bytes), read: false, .. }) => Some(bytes),
            Some(_) | None => None,
        }
    }

    /// Says that an answer has been read. One of a call of this turn is gone; another is kept until the turn is committed.
    pub(super) fn has_read(&mut self, number: i32) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.read = true;
            entry.announced = true;
        }
        if number >= self.first {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: i32) {
        if let Some(Entry { state: State::Answered(bytes), .. }) = self.entries.remove(&number) {
            self.held_bytes = self.held_bytes.saturating_sub(bytes.len());
        }
    }

    /// Takes what was used in this run or turn, and its value.
    pub(super) fn end(&mut self, committed: bool) -> (Vec<ToolUse>, Option<Value>) {
        let used = self.used.clone();
        for (used, before) in self.used.iter_mut().zip(&mut self.used_before) {
            // Also where it is undone: the calls were made.
            *before = before.saturating_add(used.calls);
            *used = ToolUse { name: std::mem::take(&mut used.name), ..ToolUse::default() };
        }
        if committed {
            let read: Vec<i32> =
                self.entries.iter().filter(|(_, entry)| entry.read).map(|(number, _)| *number).collect();
            read.into_iter().for_each(|number| self.forget(number));
        } else {
            let begun: Vec<i32> = self.entries.range(self.first..).map(|(number, _)| *number).collect();
            begun.into_iter().for_each(|number| self.forget(number));
            self.entries.values_mut().for_each(|entry| (entry.announced, entry.read) = (false, false));
            self.next = self.first;
        }
        self.first = self.next;
        self.told = None;
        (used, self.value.take())
    }
}

fn panicked() -> ToolError {
    ToolError::internal("it panicked")
}
