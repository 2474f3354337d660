//! Reads the host's standard input for a script: only when it asks, only as far as it asks, and so that a blocked
//! read never holds up the end of the run. The reading thread starts with the first read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::os::{self, WakeUp};

/// The host's standard input.
pub(crate) struct HostStdin {
    shared: Arc<Shared>,
    /// Taken by the reading thread when it starts.
    file: Option<File>,
    /// Whether a request is under way: one that was given up is answered at the next read.
    asked: bool,
}

struct Shared {
    state: Mutex<State>,
    asked: Condvar,
    quit: WakeUp,
}

#[derive(Default)]
struct State {
    /// Bytes wanted by the script.
    wanted: Option<usize>,
    answer: Option<io::Result<Vec<u8>>>,
    waker: Option<Waker>,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut file: File) {
        loop {
            let mut state = self.lock();
            let wanted = loop {
                if state.stop {
                    return;
                }
                if let Some(wanted) = state.wanted.take() {
                    break wanted;
                }
                state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            let answer = match os::wait_readable(file.as_fd(), &self.quit) {
                Ok(true) => read(&mut file, wanted),
                Ok(false) => return,
                Err(error) => Err(error),
            };
            let mut state = self.lock();
            state.answer = Some(answer);
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

fn read(file: &mut File, wanted: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; wanted];
    loop {
        match file.read(&mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody else read what was there: wait again at the next request.
            Err(error) => return Err(error),
        }
    }
}

impl HostStdin {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let shared = Shared { state: Mutex::default(), asked: Condvar::new(), quit: WakeUp::new()? };
        Ok(Self { shared: Arc::new(shared), file: Some(file), asked: false })
    }

    /// Asks for up to `wanted` bytes, unless it has asked before, and waits for them. No bytes mean the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<Vec<u8>>> {
        if let Some(file) = self.file.take() {
            let shared = self.shared.clone();
            std::thread::Builder::new().name("capibara-stdin".into()).spawn(move || shared.serve(file))?;
        }
        let mut state = self.shared.lock();
        if !self.asked {
            self.asked = true;
            state.wanted = Some(wanted);
            self.shared.asked.notify_one();
        }
        match state.answer.take() {
            Some(answer) => {
                self.asked = false;
                Poll::Ready(answer)
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for HostStdin {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.asked.notify_one();
        self.shared.quit.wake();
    }
}
