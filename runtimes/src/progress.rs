//! How a build tells where it is.

/// Receives what a build does, in order; from several threads when things are done in parallel.
pub trait Progress: Sync {
    /// Something began, went on or ended.
    fn event(&self, event: ProgressEvent);
}

/// One step of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressEvent {
    /// A phase begins.
    Started {
        /// Which one.
        phase: Phase,
        /// How many units it has, where that is known.
        total: Option<u64>,
    },
    /// So many units of the phase are done by now.
    Advanced {
        /// Which one.
        phase: Phase,
        /// Units done, of `total`.
        done: u64,
    },
    /// A remark worth reading.
    Message(String),
    /// A phase ended well.
    Finished {
        /// Which one.
        phase: Phase,
    },
}

/// The phases of a build, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for another build of the same runtime.
    Lock,
    /// Fetching sources (units: files).
    Fetch,
    /// Unpacking and patching sources (units: archives).
    Unpack,
    /// Compiling C (units: files).
    Compile,
    /// Linking.
    Link,
    /// Freezing the modules CPython starts from (units: modules).
    Freeze,
    /// Compiling the standard library inside the guest.
    Library,
    /// Starting the interpreter once and keeping its memory.
    Preinitialize,
    /// Writing the finished runtime.
    Write,
    /// Compiling the runtime for this machine; the `capibara` crate does it.
    CompileAhead,
}

impl Phase {
    /// All phases, in their order.
    pub const ALL: [Self; 10] = [
        Self::Lock,
        Self::Fetch,
        Self::Unpack,
        Self::Compile,
        Self::Link,
        Self::Freeze,
        Self::Library,
        Self::Preinitialize,
        Self::Write,
        Self::CompileAhead,
    ];

    /// A verb in the -ing form for a progress line, as "compiling".
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Lock => "waiting",
            Self::Fetch => "fetching sources",
            Self::Unpack => "unpacking",
            Self::Compile => "compiling",
            Self::Link => "linking",
            Self::Freeze => "freezing",
            Self::Library => "compiling the standard library",
            Self::Preinitialize => "pre-initialising",
            Self::Write => "writing",
            Self::CompileAhead => "compiling ahead of time",
        }
    }
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: ProgressEvent) {}
}

/// Announces the end of a phase when the work was done, and not when it failed.
pub(crate) fn in_phase<T, E>(
    progress: &dyn Progress,
    phase: Phase,
    total: Option<u64>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    progress.event(ProgressEvent::Started { phase, total });
    let result = work()?;
    progress.event(ProgressEvent::Finished { phase });
    Ok(result)
}
