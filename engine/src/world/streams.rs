//! Standard input, output and error.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::abi::{self, Errno, Iovecs};
use super::{Fault, Stop};
use crate::stream::{OutputSink, Stdin, Stream};

/// Most bytes of standard input handed out, asked for or kept ahead at once.
const MAX_INPUT_BYTES: usize = 64 << 10;

/// As far into the input, a read ends after a line, as at a terminal; further on it fills the script's buffer.
const LINES_UNTIL: u64 = 64 << 10;

/// Bytes read from the host for a poll, which has no buffer of its own.
const POLLED_BYTES: usize = 4096;

/// Standard output and error: bounded together, kept, sent to a sink, or both.
pub(crate) struct Output {
    sink: Option<Box<dyn OutputSink>>,
    deadline: Instant,
    capture: bool,
    /// Bytes both streams may carry together.
    limit: u64,
    written: u64,
    attempted: u64,
    stdout: Captured,
    stderr: Captured,
}

/// What one stream carried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured {
    pub(crate) bytes: Vec<u8>,
    /// Whether a write was cut at the limit.
    pub(crate) truncated: bool,
}

impl Output {
    pub(crate) fn new(sink: Option<Box<dyn OutputSink>>, capture: bool, limit: u64, deadline: Instant) -> Self {
        let (stdout, stderr) = (Captured::default(), Captured::default());
        Self { sink, deadline, capture, limit, written: 0, attempted: 0, stdout, stderr }
    }

    /// Writes ranges of guest memory, after so much virtual sleep.
    ///
    /// # Errors
    /// [`Stop::Output`] when the limit is passed, after what still fitted was kept and sent; [`Stop::SinkTimedOut`] and
    /// [`Stop::SinkClosed`] by the sink; [`Stop::HostMemory`] when the host has none left to keep it.
    pub(crate) fn write(&mut self, stream: Stream, mem: &[u8], ranges: &Iovecs, slept: Duration) -> Result<u64, Fault> {
        // Time slept counts as if it had passed.
        let deadline = self.deadline.checked_sub(slept).unwrap_or(self.deadline);
        let total = ranges.total();
        self.attempted = self.attempted.saturating_add(total);
        let fits = total.min(self.limit.saturating_sub(self.written));
        let captured = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut left = fits;
        for (pointer, len) in ranges.iter() {
            let len = u32::try_from(left.min(u64::from(len))).unwrap_or(len);
            if len == 0 {
                continue;
            }
            left = left.saturating_sub(u64::from(len));
            let bytes = abi::slice(mem, pointer, len)?;
            if self.capture {
                captured.bytes.try_reserve(bytes.len()).map_err(|_| Stop::HostMemory)?;
                captured.bytes.extend_from_slice(bytes);
            }
            self.written = self.written.saturating_add(u64::from(len));
            if let Some(sink) = &mut self.sink {
                sink.write(stream, bytes, deadline).map_err(|error| match error.kind() {
                    io::ErrorKind::TimedOut => Stop::SinkTimedOut,
                    _ => Stop::SinkClosed,
                })?;
            }
        }
        if fits < total {
            captured.truncated = true;
            return Err(Stop::Output.into());
        }
        Ok(total)
    }

    /// Bytes written to both streams, without those that were cut.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes the script tried to write to both streams.
    pub(crate) fn attempted(&self) -> u64 {
        self.attempted
    }

    /// What was kept of standard output and error.
    pub(crate) fn take_captured(&mut self) -> (Captured, Captured) {
        (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr))
    }
}

/// Where standard input comes from.
enum Source {
    Bytes(Arc<[u8]>),
    /// Bytes that arrived from the host and were not read yet, and the handle until it is taken.
    Host(Vec<u8>, Option<File>),
}

impl Source {
    /// What can be handed out now.
    fn available(&self, position: usize) -> &[u8] {
        let bytes: &[u8] = match self {
            Self::Bytes(bytes) => bytes,
            Self::Host(bytes, _) => bytes,
        };
        bytes.get(position..).unwrap_or_default()
    }
}

/// What a script was told of the end of its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// Nothing: it did not read so far.
    NotSeen,
    /// That there is no more.
    Seen,
    /// That the host could not read on.
    Failed,
}

/// Standard input.
///
/// How much one read returns depends on the bytes only, not on when they arrive, so that a run is the same whether its
/// input came slowly through a pipe or lay in memory: see [`read`](Self::read).
pub(crate) struct Input {
    source: Source,
    /// Bytes of the source handed out already (they stay in place until more arrive).
    position: usize,
    /// Whether no more bytes will arrive.
    ended: bool,
    /// Whether the host failed to read.
    failed: bool,
    /// What the script has been told of its end.
    end: InputEnd,
    /// Bytes the waiting call could use.
    asked: usize,
    pub(crate) terminal: bool,
    /// Whether the script has read or asked whether there is anything.
    looked_at: bool,
    consumed: u64,
    hash: Sha256,
}

impl Input {
    pub(crate) fn new(stdin: Stdin) -> Self {
        let source = match stdin {
            Stdin::Closed => Source::Bytes([].into()),
            Stdin::Bytes(bytes) => Source::Bytes(bytes),
            Stdin::Host(file) => Source::Host(Vec::new(), Some(file)),
        };
        Self {
            ended: matches!(source, Source::Bytes(_)),
            source,
            position: 0,
            failed: false,
            end: InputEnd::NotSeen,
            asked: 0,
            terminal: false,
            looked_at: false,
            consumed: 0,
            hash: Sha256::new(),
        }
    }

    /// The same input at the same place. What the host has not sent yet will come to the first only.
    pub(crate) fn fork(&self) -> Self {
        let source = match &self.source {
            Source::Bytes(bytes) => Source::Bytes(bytes.clone()),
            Source::Host(bytes, _) => Source::Host(bytes.clone(), None),
        };
        Self { source, hash: self.hash.clone(), ..*self }
    }

    /// The host's handle, once.
    pub(crate) fn take_file(&mut self) -> Option<File> {
        match &mut self.source {
            Source::Bytes(_) => None,
            Source::Host(_, file) => file.take(),
        }
    }

    /// How many bytes a waiting call could use, if any can still arrive.
    pub(crate) fn wanted(&self) -> Option<usize> {
        (!self.ended && self.asked > 0).then_some(self.asked)
    }

    /// Takes what the host read: nothing means the end. An interrupted read is as if it had not been tried.
    pub(crate) fn arrived(&mut self, result: io::Result<&[u8]>) {
        if self.ended {
            return;
        }
        match result {
            Ok([]) => self.ended = true,
            Ok(more) => {
                if let Source::Host(bytes, _) = &mut self.source {
                    bytes.drain(..self.position.min(bytes.len()));
                    self.position = 0;
                    bytes.extend_from_slice(more);
                }
                self.asked = self.asked.saturating_sub(more.len());
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(_) => {
                self.failed = true;
                self.ended = true;
            }
        }
    }

    /// Reads into ranges of guest memory, or says that more has to arrive first (`None`).
    ///
    /// In the first 64 KiB of the input a read ends after the next newline, and further on it fills the ranges; the
    /// end of the input and 64 KiB end it too. If `loose` (real time, or a terminal), it returns what is there.
    ///
    /// # Errors
    /// [`Errno::Io`] when the host could not read.
    pub(crate) fn read(&mut self, mem: &mut [u8], ranges: &Iovecs, loose: bool) -> Result<Option<u64>, Errno> {
        let want = usize::try_from(ranges.total()).unwrap_or(MAX_INPUT_BYTES).min(MAX_INPUT_BYTES);
        if want == 0 {
            return Ok(Some(0));
        }
        self.looked_at = true;
        let available = self.source.available(self.position);
        let window = available.get(..want).unwrap_or(available);
        let full = window.len() == want || self.ended;
        let take = if loose {
            (full || !window.is_empty()).then_some(window.len())
        } else if self.consumed < LINES_UNTIL {
            let line = window.iter().position(|byte| *byte == b'\n').map(|end| end.saturating_add(1));
            line.or(full.then_some(window.len()))
        } else {
            full.then_some(window.len())
        };
        let Some(take) = take else {
            self.asked = want.saturating_sub(window.len());
            return Ok(None);
        };
        self.asked = 0;
        if take == 0 {
            if self.failed {
                self.end = InputEnd::Failed;
                return Err(Errno::Io);
            }
            self.end = InputEnd::Seen;
            return Ok(Some(0));
        }
        let mut rest = window.get(..take).unwrap_or_default();
        self.hash.update(rest);
        for (pointer, len) in ranges.iter() {
            let len = usize::try_from(len).map_err(|_| Errno::Fault)?.min(rest.len());
            let (now, later) = rest.split_at(len);
            abi::slice_mut(mem, pointer, u32::try_from(len).map_err(|_| Errno::Fault)?)?.copy_from_slice(now);
            rest = later;
        }
        self.position = self.position.saturating_add(take);
        let count = u64::try_from(take).unwrap_or(u64::MAX);
        self.consumed = self.consumed.saturating_add(count);
        Ok(Some(count))
    }

    /// What a poll sees: how many bytes can be read, and whether the end is reached; `None` if it has to wait.
    ///
    /// Unless `loose`, input is taken to be there always, as its arrival must not be seen.
    pub(crate) fn readiness(&mut self, loose: bool) -> Option<(u64, bool)> {
        if !loose {
            let end = self.end != InputEnd::NotSeen;
            return Some((u64::from(!end), end));
        }
        self.looked_at = true;
        let available = self.source.available(self.position).len();
        if available > 0 {
            return Some((u64::try_from(available).unwrap_or(u64::MAX), false));
        }
        if self.ended {
            return Some((0, true));
        }
        self.asked = self.asked.max(POLLED_BYTES);
        None
    }

    /// Whether the script looked at a terminal, by reading or by a poll.
    pub(crate) fn saw_terminal(&self) -> bool {
        self.terminal && self.looked_at
    }

    /// What the script was told of its end.
    pub(crate) fn end(&self) -> InputEnd {
        self.end
    }

    /// Bytes the script read.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// SHA-256 of what the script read.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}
