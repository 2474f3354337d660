//! The script's output in text mode: shown while it is written, with back-pressure on the script.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capibara::{Event, EventSink, Limits, OutputSink, Stream};

use super::outlet::{Outlet, Patience};
use super::status::StatusLine;
use super::terminal::Filter;
use crate::signals::Caught;

/// Both output streams of a run. Clones are the same streams: one goes into the job as its sink, the other one tells
/// afterwards how it went.
#[derive(Clone, Debug)]
pub(crate) struct LiveOutput(Arc<Mutex<Streams>>);

#[derive(Debug)]
struct Streams {
    caught: Caught,
    /// Whether a terminal gets every byte too.
    raw: bool,
    stdout: Option<Half>,
    stderr: Option<Half>,
    broken: Option<Broken>,
    /// Only where there are people to see it.
    status: Option<StatusLine>,
}

/// One stream; made with its first byte.
#[derive(Debug)]
struct Half {
    outlet: Outlet,
    /// Only where a terminal shows the stream.
    filter: Option<Filter>,
    /// The last bytes written to standard error.
    tail: Option<Vec<u8>>,
    on_terminal: bool,
    line_open: bool,
}

/// How much of the end of standard error is kept: enough for the last line of a report about an error.
const TAIL: usize = 512;

/// Why output went no further.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The reader did not take it before the deadline.
    Late,
    /// A stream cannot be written.
    Failed(Stream, io::Error),
    /// Events cannot be written.
    Events(io::Error),
}

/// How the streams were left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) broken: Option<Broken>,
    /// Whether the next line on standard error would continue a line of the script.
    pub(crate) line_open: bool,
    /// The last line the script wrote to standard error, without its newline; empty if there is none, or a long one.
    pub(crate) last_error_line: String,
    /// Whether a line of ours was taken away, and with it what stood behind it.
    pub(crate) erased: bool,
}

impl LiveOutput {
    /// `raw` says whether a terminal gets every byte as it is.
    pub(crate) fn new(caught: Caught, raw: bool) -> Self {
        Self(Arc::new(Mutex::new(Streams { caught, raw, stdout: None, stderr: None, broken: None, status: None })))
    }

    /// Shows a line about a run that takes long, where people see it; says whether it does. The streams then have to hear of
    /// the run's events.
    pub(crate) fn show_status(&self, limits: &Limits, live: bool) -> bool {
        let status = StatusLine::new(limits, live);
        let shows = status.is_some();
        self.lock().status = status;
        shows
    }

    /// The run is over: writes what was held back and says how the streams were left.
    pub(crate) fn finish(self) -> Left {
        let mut streams = self.lock();
        let Streams { caught: _, raw: _, stdout, stderr, broken, status } = &mut *streams;
        let erased = status.as_mut().is_some_and(StatusLine::erase);
        if broken.is_none() {
            // Never more than a few bytes; a reader who does not take them for this long is not reading.
            let patience = Patience::until(Instant::now() + Duration::from_millis(20));
            for half in [&mut *stdout, &mut *stderr].into_iter().flatten() {
                if let Some(rest) = half.filter.as_mut().map(Filter::finish).filter(|rest| !rest.is_empty()) {
                    half.line_open |= half.outlet.write_all(&rest, &patience).is_ok() && !rest.starts_with(b"\x1b");
                }
            }
        }
        // What a file or a pipe got does not matter for how standard error looks, except its own.
        let on_terminal = |half: &Half| half.line_open && half.on_terminal;
        let line_open = stderr.as_ref().is_some_and(|half| half.line_open)
            || (stdout.as_ref().is_some_and(on_terminal) && rustix::termios::isatty(rustix::stdio::stderr()));
        let last_error_line = stderr.as_ref().and_then(|half| half.tail.as_deref()).map(last_line).unwrap_or_default();
        Left { broken: broken.take(), line_open, last_error_line, erased }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputSink for LiveOutput {
    fn write(&mut self, stream: Stream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let mut streams = self.lock();
        let Streams { caught, raw, stdout, stderr, broken, status } = &mut *streams;
        if let Some(status) = status {
            status.printed(Instant::now());
        }
        let patience = Patience { deadline: Some(deadline), caught: Some(caught.clone()) };
        let half = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        let result = half.get_or_insert_with(|| Half::open(stream, *raw)).write(bytes, &patience);
        if let Err(error) = &result {
            *broken = Some(match error.kind() {
                io::ErrorKind::TimedOut => Broken::Late,
                _ => Broken::Failed(stream, same(error)),
            });
        }
        result
    }
}

impl EventSink for LiveOutput {
    fn event(&mut self, event: Event, _deadline: Instant) {
        let Event::Usage { usage, reading, .. } = event else { return };
        let mut streams = self.lock();
        let Streams { stdout, stderr, status, .. } = &mut *streams;
        let open = |half: &Option<Half>| half.as_ref().is_some_and(|half| half.line_open);
        let free = !reading && !open(stdout) && !open(stderr);
        if let Some(status) = status {
            status.update(&usage, free, Instant::now());
        }
    }
}

/// The same error once more.
pub(crate) fn same(error: &io::Error) -> io::Error {
    let text = || io::Error::new(error.kind(), error.to_string());
    error.raw_os_error().map_or_else(text, io::Error::from_raw_os_error)
}

impl Half {
    fn open(stream: Stream, raw: bool) -> Self {
        let outlet = Outlet::open(stream);
        let on_terminal = outlet.is_terminal();
        let filter = (on_terminal && !raw).then(Filter::default);
        let tail = match stream {
            Stream::Stdout => None,
            Stream::Stderr => Some(Vec::new()),
        };
        Self { outlet, filter, tail, on_terminal, line_open: false }
    }

    fn write(&mut self, bytes: &[u8], patience: &Patience) -> io::Result<()> {
        if let Some(last) = bytes.last() {
            self.line_open = *last != b'\n';
        }
        if let Some(tail) = &mut self.tail {
            keep_last(tail, bytes);
        }
        match &mut self.filter {
            None => self.outlet.write_all(bytes, patience),
            Some(filter) => self.outlet.write_all(&filter.push(bytes), patience),
        }
    }
}

/// Adds `bytes` and drops what came more than [`TAIL`] bytes before the end.
fn keep_last(tail: &mut Vec<u8>, bytes: &[u8]) {
    let new = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
    let surplus = tail.len().saturating_add(new.len()).saturating_sub(TAIL).min(tail.len());
    tail.drain(..surplus);
    tail.extend_from_slice(new);
}

fn last_line(tail: &[u8]) -> String {
    let tail = tail.strip_suffix(b"\n").unwrap_or(tail);
    match tail.iter().rposition(|b| *b == b'\n') {
        Some(end) => String::from_utf8_lossy(tail.get(end + 1..).unwrap_or_default()).into_owned(),
        // Its start may be missing.
        None if tail.len() + 1 >= TAIL => String::new(),
        None => String::from_utf8_lossy(tail).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_found_however_it_was_written() {
        for (writes, line) in [
            (&[&b"Traceback\n  x\nError: no\n"[..]][..], "Error: no"),
            (&[b"Err", b"or", b": no", b"\n"], "Error: no"),
            (&[b"one line"], "one line"),
            (&[&[b'x'; 2000], b"\nError\n"], "Error"),
            (&[&[b'x'; 2000]], ""),
            (&[b"a\n", &[b'x'; 512]], ""),
            (&[b"a\n\n"], ""),
            (&[b""], ""),
        ] {
            let mut tail = Vec::new();
            for bytes in writes {
                keep_last(&mut tail, bytes);
                assert!(tail.len() <= TAIL);
            }
            assert_eq!(last_line(&tail), line);
        }
    }
}
