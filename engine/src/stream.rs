//! Standard streams: what a script reads and where its output goes.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// What a script reads on descriptor 0.
#[derive(Default)]
#[non_exhaustive]
pub enum Stdin {
    /// Nothing: the first read is at the end.
    #[default]
    Closed,
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A pipe, file, socket or terminal of the host, read only when and as far as the script asks.
    Host(File),
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("Closed"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Host(_) => f.write_str("Host"),
        }
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().into())
    }
}

impl From<String> for Stdin {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes().into())
    }
}

impl From<Vec<u8>> for Stdin {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// Receives output while the script writes it.
///
/// It is called on the thread that runs the script: while it blocks, the script waits (back-pressure) and the wall
/// time keeps running. Closures `FnMut(Stream, &[u8])` are sinks that never fail.
pub trait OutputSink: Send {
    /// Takes one write of the script. A sink that can block must return at `deadline`.
    ///
    /// # Errors
    /// An error ends the run as [`Status::Canceled`](crate::Status::Canceled), with the error's kind as its reason;
    /// [`io::ErrorKind::TimedOut`] counts as the wall-time limit.
    fn write(&mut self, stream: Stream, bytes: &[u8], deadline: Instant) -> io::Result<()>;
}

impl<F: FnMut(Stream, &[u8]) + Send> OutputSink for F {
    fn write(&mut self, stream: Stream, bytes: &[u8], _deadline: Instant) -> io::Result<()> {
        self(stream, bytes);
        Ok(())
    }
}
