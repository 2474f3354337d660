//! The script's output in text mode: shown while it is written, with back-pressure on the script.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capibara::{OutputSink, Stream};

use super::outlet::{Outlet, Patience};
use super::terminal::Filter;
use crate::signals::Caught;

/// Both output streams of a run. Clones are the same streams: one goes into the job as its sink, the other one tells
/// afterwards how it went.
#[derive(Clone, Debug)]
pub(crate) struct LiveOutput(Arc<Mutex<Streams>>);

#[derive(Debug)]
struct Streams {
    caught: Caught,
    stdout: Option<Half>,
    stderr: Option<Half>,
    broken: Option<Broken>,
}

/// One stream; made with its first byte.
#[derive(Debug)]
struct Half {
    outlet: Outlet,
    /// Only where a terminal shows the stream.
    filter: Option<Filter>,
    line_open: bool,
}

/// Why output went no further.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The reader did not take it before the deadline.
    Late,
    /// A stream cannot be written.
    Failed(Stream, io::Error),
}

/// How the streams were left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) broken: Option<Broken>,
    /// Whether the next line on standard error would continue a line of the script.
    pub(crate) line_open: bool,
}

impl LiveOutput {
    pub(crate) fn new(caught: Caught) -> Self {
        Self(Arc::new(Mutex::new(Streams { caught, stdout: None, stderr: None, broken: None })))
    }

    /// The run is over: writes what was held back and says how the streams were left.
    pub(crate) fn finish(self) -> Left {
        let mut streams = self.lock();
        let Streams { caught: _, stdout, stderr, broken } = &mut *streams;
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
        let on_terminal = |half: &Half| half.line_open && half.filter.is_some();
        let line_open = stderr.as_ref().is_some_and(|half| half.line_open)
            || (stdout.as_ref().is_some_and(on_terminal) && rustix::termios::isatty(rustix::stdio::stderr()));
        Left { broken: broken.take(), line_open }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputSink for LiveOutput {
    fn write(&mut self, stream: Stream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let mut streams = self.lock();
        let Streams { caught, stdout, stderr, broken } = &mut *streams;
        let patience = Patience { deadline: Some(deadline), caught: Some(caught.clone()) };
        let half = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        let result = half.get_or_insert_with(|| Half::open(stream)).write(bytes, &patience);
        if let Err(error) = &result {
            *broken = Some(match error.kind() {
                io::ErrorKind::TimedOut => Broken::Late,
                kind => Broken::Failed(
                    stream,
                    error
                        .raw_os_error()
                        .map_or_else(|| io::Error::new(kind, error.to_string()), io::Error::from_raw_os_error),
                ),
            });
        }
        result
    }
}

impl Half {
    fn open(stream: Stream) -> Self {
        let outlet = Outlet::open(stream);
        let filter = outlet.is_terminal().then(Filter::default);
        Self { outlet, filter, line_open: false }
    }

    fn write(&mut self, bytes: &[u8], patience: &Patience) -> io::Result<()> {
        if let Some(last) = bytes.last() {
            self.line_open = *last != b'\n';
        }
        match &mut self.filter {
            None => self.outlet.write_all(bytes, patience),
            Some(filter) => self.outlet.write_all(&filter.push(bytes), patience),
        }
    }
}
