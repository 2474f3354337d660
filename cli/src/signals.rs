//! SIGINT and SIGTERM during a run: the first cancels it, the second ends the process at once.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use capibara::Canceler;
use rustix::termios::OptionalActions;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag};

use crate::exit_code::ExitCode;

/// A signal that cancels a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The user pressed Ctrl-C.
    Interrupt,
    /// Somebody asked the process to end.
    Terminate,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate => ExitCode::Terminated,
        }
    }
}

/// Which signals have come. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caught {
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
}

impl Caught {
    /// Notes signals from now on. The second one of a kind ends the process at once.
    pub(crate) fn start() -> io::Result<Self> {
        let caught = Self::default();
        for (signal, seen) in [(SIGINT, &caught.interrupt), (SIGTERM, &caught.terminate)] {
            // In this order: the first of them looks whether the signal was seen before, the second notes it.
            flag::register_conditional_default(signal, Arc::clone(seen))?;
            flag::register(signal, Arc::clone(seen))?;
        }
        Ok(caught)
    }

    /// Whether one has.
    pub(crate) fn any(&self) -> bool {
        self.get().is_some()
    }

    pub(crate) fn get(&self) -> Option<Signal> {
        if self.interrupt.load(Ordering::SeqCst) {
            Some(Signal::Interrupt)
        } else if self.terminate.load(Ordering::SeqCst) {
            Some(Signal::Terminate)
        } else {
            None
        }
    }
}

/// SIGINT and SIGTERM for as long as a session lasts. During a turn both cancel it. Between turns SIGTERM ends the process, and
/// so does SIGINT where lines are not edited on a terminal: there, Ctrl-C is a key.
#[derive(Debug)]
pub(crate) struct Interrupts {
    caught: Caught,
    /// Whether no turn is under way.
    idle: Arc<AtomicBool>,
    /// Those of the session's canceler.
    canceling: Vec<SigId>,
}

impl Interrupts {
    /// From now on. `editing`: whether lines are edited on a terminal, which is then given back as it is now.
    pub(crate) fn start(editing: bool) -> io::Result<Self> {
        let (caught, idle) = (Caught::default(), Arc::new(AtomicBool::new(true)));
        // In this order: what was seen before is looked at before it is noted.
        flag::register_conditional_default(SIGTERM, Arc::clone(&caught.terminate))?;
        if editing {
            give_back_terminal(Arc::clone(&idle))?;
        } else {
            flag::register_conditional_default(SIGINT, Arc::clone(&idle))?;
            flag::register_conditional_default(SIGTERM, Arc::clone(&idle))?;
        }
        flag::register(SIGINT, Arc::clone(&caught.interrupt))?;
        flag::register(SIGTERM, Arc::clone(&caught.terminate))?;
        Ok(Self { caught, idle, canceling: Vec::new() })
    }

    /// From now on they cancel the turns that belong to `canceler`, and no others.
    pub(crate) fn cancel(&mut self, canceler: &Canceler) -> io::Result<()> {
        let old = std::mem::take(&mut self.canceling);
        for signal in [SIGINT, SIGTERM] {
            self.canceling.push(flag::register(signal, canceler.flag())?);
        }
        old.into_iter().for_each(forget);
        Ok(())
    }

    /// A turn begins: a SIGINT that came before does not matter.
    pub(crate) fn begin(&self) -> Caught {
        self.caught.interrupt.store(false, Ordering::SeqCst);
        self.idle.store(false, Ordering::SeqCst);
        self.caught.clone()
    }

    /// The turn is over: tells what came, SIGTERM before SIGINT.
    pub(crate) fn end(&self) -> Option<Signal> {
        self.idle.store(true, Ordering::SeqCst);
        let terminate = self.caught.terminate.load(Ordering::SeqCst).then_some(Signal::Terminate);
        terminate.or_else(|| self.caught.get())
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.canceling.drain(..).for_each(forget);
    }
}

fn forget(id: SigId) {
    signal_hook::low_level::unregister(id);
}

/// A SIGTERM between turns ends the process as it would have, after the terminal is what it was: while a line is edited it
/// shows nothing that is typed.
fn give_back_terminal(idle: Arc<AtomicBool>) -> io::Result<()> {
    let modes = rustix::termios::tcgetattr(rustix::stdio::stdin())?;
    let (mut come, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, write)?;
    let wait = move || {
        let mut byte = [0];
        while come.read_exact(&mut byte).is_ok() {
            if idle.load(Ordering::SeqCst) {
                // With it, the terminal stops to tell pasted text from typed text.
                let _ = rustix::io::write(rustix::stdio::stdout(), b"\x1b[?2004l\r\n");
                let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &modes);
                let _ = signal_hook::low_level::emulate_default_handler(SIGTERM);
            }
        }
    };
    thread::Builder::new().name("capibara-sigterm".into()).spawn(wait)?;
    Ok(())
}

/// Watches for signals from [`Watch::start`] on.
#[derive(Debug)]
pub(crate) struct Watch {
    caught: Caught,
    /// Those of the canceler.
    canceling: Vec<SigId>,
    /// Whether other runs follow in the same process.
    others_follow: bool,
}

impl Watch {
    /// From now on the first SIGINT or SIGTERM cancels the run that belongs to `canceler`.
    ///
    /// A signal handler may do next to nothing, so it sets flags, and the run looks at its own.
    pub(crate) fn start(canceler: &Canceler) -> io::Result<Self> {
        let mut watch = Self::one_of_many(&Caught::start()?, canceler)?;
        watch.others_follow = false;
        Ok(watch)
    }

    /// As [`start`](Self::start), for one run of several while signals are noted in `caught`. One that has come already
    /// cancels it, too.
    pub(crate) fn one_of_many(caught: &Caught, canceler: &Canceler) -> io::Result<Self> {
        let mut watch = Self { caught: caught.clone(), canceling: Vec::new(), others_follow: true };
        for signal in [SIGINT, SIGTERM] {
            watch.canceling.push(flag::register(signal, canceler.flag())?);
        }
        if caught.any() {
            canceler.cancel();
        }
        Ok(watch)
    }

    /// What has come so far, to look at from elsewhere.
    pub(crate) fn caught(&self) -> Caught {
        self.caught.clone()
    }

    /// The run is over: tells what came, and, unless others follow, gives the signals their usual effect again.
    pub(crate) fn finish(self) -> Option<Signal> {
        let signal = self.caught.get();
        self.canceling.into_iter().for_each(forget);
        if !self.others_follow {
            self.caught.interrupt.store(true, Ordering::SeqCst);
            self.caught.terminate.store(true, Ordering::SeqCst);
        }
        signal
    }
}
