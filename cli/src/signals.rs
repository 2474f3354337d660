//! SIGINT and SIGTERM during a run: the first cancels it, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use capibara::Canceler;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

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

/// Watches for signals from [`Watch::start`] on.
#[derive(Debug)]
pub(crate) struct Watch {
    caught: Caught,
}

/// SIGINT for as long as a session lasts: it cancels the turn under way, and between turns does nothing.
#[derive(Debug)]
pub(crate) struct Interrupts(Caught);

impl Interrupts {
    /// From now on SIGINT cancels the turns that belong to `canceler`.
    pub(crate) fn start(canceler: &Canceler) -> io::Result<Self> {
        let caught = Caught::default();
        flag::register(SIGINT, Arc::clone(&caught.interrupt))?;
        flag::register(SIGINT, canceler.flag())?;
        Ok(Self(caught))
    }

    /// A turn begins: what came before does not matter.
    pub(crate) fn begin(&self) -> Caught {
        self.0.interrupt.store(false, Ordering::SeqCst);
        self.0.clone()
    }
}

impl Watch {
    /// From now on the first SIGINT or SIGTERM cancels the run that belongs to `canceler`.
    ///
    /// A signal handler may do next to nothing, so it sets flags, and the run looks at its own.
    pub(crate) fn start(canceler: &Canceler) -> io::Result<Self> {
        let caught = Caught::default();
        for (signal, seen) in [(SIGINT, &caught.interrupt), (SIGTERM, &caught.terminate)] {
            // In this order: the first of them looks whether the signal was seen before, the others note it.
            flag::register_conditional_default(signal, Arc::clone(seen))?;
            flag::register(signal, Arc::clone(seen))?;
            flag::register(signal, canceler.flag())?;
        }
        Ok(Self { caught })
    }

    /// What has come so far, to look at from elsewhere.
    pub(crate) fn caught(&self) -> Caught {
        self.caught.clone()
    }

    /// The run is over: tells what came, and gives the signals their usual effect again.
    pub(crate) fn finish(self) -> Option<Signal> {
        let signal = self.caught.get();
        self.caught.interrupt.store(true, Ordering::SeqCst);
        self.caught.terminate.store(true, Ordering::SeqCst);
        signal
    }
}
