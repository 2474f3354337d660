//! Writing to descriptors 1 and 2 without ever waiting longer than allowed.
//!
//! `write(2)` on a full pipe or a stopped terminal (Ctrl-S) blocks for as long as the reader likes, and neither a time
//! limit nor a signal ends that. So what can block is written without blocking, and waiting is done by `poll(2)`, in
//! slices short enough to notice a signal.
//!
//! `O_NONBLOCK` belongs to the *open file*, which we share with whoever started us: setting it would change how the
//! shell's own writes behave. Opening `/proc/self/fd/N` gives an open file of our own on the same pipe or terminal.
//! Where that is not possible (no `/proc`, another owner) we ask `poll` first and write no more than the kernel then
//! promises room for.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use capibara::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::signals::Caught;

/// The longest wait before looking again whether a signal came.
const SLICE: Duration = Duration::from_millis(50);
/// The most that is written at once, so that deadlines are looked at in between.
const CHUNK: usize = 64 << 10;
/// `PIPE_BUF`: a pipe that `poll` calls writable takes this much without blocking.
const PIPE_CHUNK: usize = 4096;
/// A terminal promises less: room for one line, more or less.
const TERMINAL_CHUNK: usize = 256;

/// How long a write may wait for its reader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    /// Until then; `None` means forever.
    pub(crate) deadline: Option<Instant>,
    /// Or until a signal came.
    pub(crate) caught: Option<Caught>,
}

impl Patience {
    /// For as long as the reader likes.
    pub(crate) fn endless() -> Self {
        Self::default()
    }

    /// Until `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), caught: None }
    }

    /// What is left of it, at most one slice.
    fn slice(&self) -> io::Result<Duration> {
        if self.caught.as_ref().is_some_and(|caught| caught.get().is_some()) {
            return Err(io::Error::other("canceled by a signal"));
        }
        let Some(deadline) = self.deadline else { return Ok(SLICE) };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left.min(SLICE)),
        }
    }
}

/// Descriptor 1 or 2, or a file of the caller's.
#[derive(Debug)]
pub(crate) struct Outlet {
    fd: BorrowedFd<'static>,
    way: Way,
}

/// How bytes get into it.
#[derive(Debug)]
enum Way {
    /// A file or a device: writing does not wait for a reader.
    Plain,
    /// The same, and a descriptor of our own.
    File(OwnedFd),
    /// A pipe or terminal, opened once more without blocking.
    Private(OwnedFd),
    /// A socket, which can be asked not to block with every call.
    Socket,
    /// A pipe or terminal that could not be opened again: this much after each `poll`.
    Careful(usize),
}

impl Outlet {
    pub(crate) fn open(stream: Stream) -> Self {
        let (fd, again) = match stream {
            Stream::Stdout => (rustix::stdio::stdout(), c"/proc/self/fd/1"),
            Stream::Stderr => (rustix::stdio::stderr(), c"/proc/self/fd/2"),
        };
        let kind = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let chunk = match kind {
            Ok(FileType::Socket) => return Self { fd, way: Way::Socket },
            Ok(FileType::Fifo) => PIPE_CHUNK,
            Ok(FileType::CharacterDevice) if rustix::termios::isatty(fd) => TERMINAL_CHUNK,
            _ => return Self { fd, way: Way::Plain },
        };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let way = rustix::fs::open(again, flags, Mode::empty()).map_or(Way::Careful(chunk), Way::Private);
        Self { fd, way }
    }

    /// A file, which is made or emptied, or a pipe or device.
    pub(crate) fn to_file(path: &OsStr) -> io::Result<Self> {
        let common = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, common | OFlags::CREATE | OFlags::TRUNC, Mode::from_raw_mode(0o666))?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        let way = match kind {
            FileType::Fifo | FileType::CharacterDevice => {
                // Once more without blocking, as above; where that is not possible, the other way would block.
                let again = format!("/proc/self/fd/{}", file.as_raw_fd());
                Way::Private(rustix::fs::open(again, common | OFlags::NONBLOCK, Mode::empty())?)
            }
            _ => Way::File(file),
        };
        Ok(Self { fd: rustix::stdio::stdout(), way })
    }

    /// Whether a terminal shows it.
    pub(crate) fn is_terminal(&self) -> bool {
        match self.way {
            Way::Plain | Way::File(_) | Way::Socket => false,
            Way::Private(_) | Way::Careful(_) => rustix::termios::isatty(self.fd),
        }
    }

    /// Writes all of it.
    ///
    /// Errors: `BrokenPipe` if nobody reads any more, `TimedOut` at the deadline, otherwise what the system says.
    pub(crate) fn write_all(&self, bytes: &[u8], patience: &Patience) -> io::Result<()> {
        self.write_rest(&mut &*bytes, patience)
    }

    /// As [`write_all`](Self::write_all), and leaves in `bytes` what was not written.
    pub(crate) fn write_rest(&self, bytes: &mut &[u8], patience: &Patience) -> io::Result<()> {
        if let Way::Careful(_) = self.way {
            self.wait(patience)?;
        }
        while !bytes.is_empty() {
            match self.write_some(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => *bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(patience)?,
                Err(error) => return Err(error.into()),
            }
            if !bytes.is_empty() {
                match self.way {
                    Way::Careful(_) => self.wait(patience)?,
                    Way::Plain | Way::File(_) | Way::Private(_) | Way::Socket => drop(patience.slice()?),
                }
            }
        }
        Ok(())
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let up_to = |most: usize| bytes.get(..most).unwrap_or(bytes);
        match &self.way {
            Way::Plain => rustix::io::write(self.fd, up_to(CHUNK)),
            Way::Private(own) | Way::File(own) => rustix::io::write(own, up_to(CHUNK)),
            Way::Careful(chunk) => rustix::io::write(self.fd, up_to(*chunk)),
            Way::Socket => {
                let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
                rustix::net::send(self.fd, up_to(CHUNK), flags)
            }
        }
    }

    /// Waits until there is room, or the reader has gone.
    fn wait(&self, patience: &Patience) -> io::Result<()> {
        let fd = match &self.way {
            Way::Private(own) | Way::File(own) => own.as_fd(),
            Way::Plain | Way::Socket | Way::Careful(_) => self.fd,
        };
        loop {
            let slice = patience.slice()?;
            let timeout = Timespec {
                tv_sec: i64::try_from(slice.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: slice.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read as _, pipe};
    use std::thread;

    /// A pipe that blocks, written the careful way, and one that does not block.
    fn outlets() -> Vec<(Outlet, PipeReader)> {
        let open = |nonblocking: bool| {
            let (reader, writer) = pipe().unwrap();
            let kept: &'static OwnedFd = Box::leak(Box::new(writer.try_clone().unwrap().into()));
            let fd = kept.as_fd();
            if nonblocking {
                rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
                (Outlet { fd, way: Way::Private(writer.into()) }, reader)
            } else {
                (Outlet { fd, way: Way::Careful(PIPE_CHUNK) }, reader)
            }
        };
        vec![open(false), open(true)]
    }

    #[test]
    fn a_full_pipe_is_given_up_at_the_deadline() {
        for (outlet, _reader) in outlets() {
            let start = Instant::now();
            let patience = Patience::until(start + Duration::from_millis(120));
            let error = outlet.write_all(&[b'x'; 1 << 20], &patience).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{outlet:?}");
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(120) && took < Duration::from_secs(5), "{took:?}");
        }
    }

    #[test]
    fn a_slow_reader_gets_everything() {
        for (outlet, mut reader) in outlets() {
            let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            let reading = thread::spawn(move || {
                let (mut all, mut buffer) = (Vec::new(), [0; 5_000]);
                while all.len() < 300_000 {
                    let n = reader.read(&mut buffer).unwrap();
                    all.extend_from_slice(&buffer[..n]);
                    thread::sleep(Duration::from_micros(200));
                }
                all
            });
            outlet.write_all(&bytes, &Patience::endless()).unwrap();
            assert_eq!(reading.join().unwrap(), bytes);
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_told_apart() {
        for (outlet, reader) in outlets() {
            drop(reader);
            let error = outlet.write_all(b"x", &Patience::endless()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
