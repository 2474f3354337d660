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
/// Bytes of answers that may wait to be read, and of arguments that may wait for theirs.
const MOST_BYTES: usize = 64 << 20;
/// What an object and any other value of arguments may take beside their text when a tool reads them.
const OBJECT_BYTES: usize = 640;
const VALUE_BYTES: usize = 32;
/// Longest text of an error, in bytes: it may quote what the script wrote.
const LONGEST_ERROR: usize = 4096;
/// An answer that says it, in bytes: each of its characters may take six.
const LARGEST_REFUSAL: usize = 32 << 10;
/// Paths of files beside a value, and the longest of them.
const MOST_FILES: usize = 16;
const LONGEST_PATH: usize = 4096;

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
    #[serde(default, deserialize_with = "few_paths")]
    files: Vec<String>,
}

/// The first paths of a list, of which a script may have made any number.
fn few_paths<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Few;
    impl<'de> serde::de::Visitor<'de> for Few {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of paths")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut paths: Vec<String> = Vec::new();
            while paths.len() < MOST_FILES {
                let Some(path) = list.next_element::<String>()? else { return Ok(paths) };
                if path.len() <= LONGEST_PATH {
                    paths.push(path);
                }
            }
            while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            Ok(paths)
        }
    }
    deserializer.deserialize_seq(Few)
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
    /// Arguments of calls that wait for their answers, as [`weight`] has it.
    argument_bytes: usize,
    value: Option<Value>,
    /// Longest value that is kept, in bytes; `None` where there are none.
    value_bytes: Option<usize>,
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
    Waiting { future: Guarded, deadline: Instant, argument_bytes: usize },
    Answered(Vec<u8>),
}

/// The future of a tool. It may panic, also where it is dropped.
struct Guarded(Option<Answering>);

impl Guarded {
    /// `None` while there is no answer. It is gone once it has one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Result<Vec<u8>, ToolError>> {
        let Some(future) = &mut self.0 else { return Some(Err(panicked())) };
        let answer = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Ready(answer)) => answer,
            Ok(Poll::Pending) => return None,
            Err(_) => Err(panicked()),
        };
        self.end();
        Some(answer)
    }

    fn end(&mut self) {
        let future = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end();
    }
}

/// What arguments may take of memory when a tool reads them: more than their text, the more values they are made of.
fn weight(arguments: &str) -> usize {
    arguments.bytes().fold(arguments.len(), |weight, byte| {
        weight.saturating_add(match byte {
            b'{' => OBJECT_BYTES,
            b'[' | b',' => VALUE_BYTES,
            _ => 0,
        })
    })
}

pub(super) fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    pub(super) fn new(tools: Tools, value_bytes: Option<u64>) -> Self {
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
            argument_bytes: 0,
            value: None,
            value_bytes: value_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
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
        match (message, self.value_bytes) {
            (Message { value: Some(text), files, .. }, Some(most)) => {
                self.value = Some(Value::bounded(text, files, most));
                NO_ANSWER
            }
            (Message { value: None, tool: Some(_), .. }, _) if self.refuses_tools => refused::NOBODY_LISTENS,
            (Message { value: None, tool: Some(tool), arguments: Some(arguments), .. }, _) => {
                self.call(&tool, arguments)
            }
            (Message { value: None, list: Some(list), .. }, _) if list == "tools" => {
                let listed = serde_json::json!({ "result": self.tools.listed() });
                self.answer_now(None, listed.to_string().into_bytes())
            }
            _ => refused::NOT_UNDERSTOOD,
        }
    }

    fn call(&mut self, name: &str, arguments: Box<RawValue>) -> i32 {
        // Whatever comes of it, there is room to say so.
        if !self.has_room(LARGEST_REFUSAL) {
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
        if !arguments.get().starts_with('{') {
            let message = format!("the arguments of {name} are no object");
            return self.refuse(Some(at), ToolError::about(Why::Arguments, message));
        }
        let weight = weight(arguments.get());
        if self.argument_bytes > 0 && self.argument_bytes.saturating_add(weight) > MOST_BYTES {
            let message = "the calls that wait for their answers have too many arguments";
            return self.refuse(Some(at), ToolError::about(Why::TooLarge, message));
        }
        let future = match catch_unwind(AssertUnwindSafe(|| tool.call(arguments))) {
            Ok(future) => Guarded(Some(future)),
            Err(_) => return self.refuse(Some(at), panicked()),
        };
        self.argument_bytes = self.argument_bytes.saturating_add(weight);
        let began = Instant::now();
        let deadline = began.checked_add(tool.timeout()).unwrap_or(began);
        self.fresh = true;
        self.insert(Entry {
            state: State::Waiting { future, deadline, argument_bytes: weight },
            tool: Some(at),
            began,
            order: 0,
            announced: false,
            read: false,
        })
    }

    /// Whether another answer of so many bytes can be held.
    fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < MOST_ENTRIES && self.held_bytes.saturating_add(bytes) <= MOST_BYTES
    }

    fn insert(&mut self, entry: Entry) -> i32 {
        let number = self.next;
        let Some(next) = number.checked_add(1).filter(|_| self.entries.len() < MOST_ENTRIES) else {
            return refused::TOO_MANY;
        };
        self.next = next;
        self.entries.insert(number, entry);
        number
    }

    fn refuse(&mut self, tool: Option<usize>, error: ToolError) -> i32 {
        self.tell_answer(self.next, tool, Err(error.why.name()), Duration::ZERO);
        let answer = self.failed(tool, error);
        self.answer_now(tool, answer)
    }

    fn answer_now(&mut self, tool: Option<usize>, answer: Vec<u8>) -> i32 {
        if !self.has_room(answer.len()) {
            return refused::TOO_MANY;
        }
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
    fn failed(&mut self, tool: Option<usize>, mut error: ToolError) -> Vec<u8> {
        if error.message.len() > LONGEST_ERROR {
            error.message.truncate(error.message.floor_char_boundary(LONGEST_ERROR));
            error.message.shrink_to_fit();
            error.message.push('…');
        }
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
        let now = Instant::now();
        // Each answer is taken before the next call goes on: together they may be larger than what is held.
        let waiting: Vec<i32> = self.waiting().map(|(number, _)| number).collect();
        let mut any = false;
        for number in waiting {
            any |= self.poll_one(number, now, cx);
        }
        any
    }

    /// Lets one call go on. Returns whether its answer came.
    fn poll_one(&mut self, number: i32, now: Instant, cx: &mut Context<'_>) -> bool {
        let Some(Entry { state, tool, began, .. }) = self.entries.get_mut(&number) else { return false };
        let State::Waiting { future, deadline, argument_bytes } = state else { return false };
        let (tool, began, argument_bytes) = (*tool, *began, *argument_bytes);
        let answer = match future.poll(cx) {
            Some(Ok(json)) if self.held_bytes.saturating_add(json.len()) > MOST_BYTES => {
                Err(ToolError::about(Why::TooLarge, "too many results wait to be read"))
            }
            Some(answer) => answer,
            None if now >= *deadline => {
                let late = tool
                    .and_then(|at| self.tools.as_slice().get(at))
                    .map(|tool| format!("{} did not answer within {:?}", tool.name(), tool.timeout()));
                Err(ToolError::about(Why::Timeout, late.unwrap_or_default()))
            }
            None => return false,
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
        self.argument_bytes = self.argument_bytes.saturating_sub(argument_bytes);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.state = State::Answered(bytes);
            entry.order = self.answered;
        }
        true
    }

    fn waiting(&self) -> impl Iterator<Item = (i32, Instant)> {
        self.entries.iter().filter_map(|(number, entry)| match &entry.state {
            State::Waiting { deadline, .. } => Some((*number, *deadline)),
            State::Answered(_) => None,
        })
    }

    /// Whether a call waits that was never polled.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// When the first of the calls under way takes too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting().map(|(_, deadline)| deadline).min()
    }

    /// Whether any call waits for its answer.
    pub(super) fn any_waits(&self) -> bool {
        self.waiting().next().is_some()
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
        match self.entries.remove(&number).map(|entry| entry.state) {
            Some(State::Answered(bytes)) => self.held_bytes = self.held_bytes.saturating_sub(bytes.len()),
            Some(State::Waiting { argument_bytes, .. }) => {
                self.argument_bytes = self.argument_bytes.saturating_sub(argument_bytes);
            }
            None => {}
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
