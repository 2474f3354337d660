//! What time it is for the script.

use std::time::{Duration, Instant, SystemTime};

use super::abi::Errno;

/// Fuel per nanosecond of virtual time, measured so that virtual and real time are close.
const FUEL_PER_NANO: u64 = 12;

/// The monotonic clock starts here, in nanoseconds: some programs take 0 for "not set", and a constant tells nothing
/// about the host.
const MONOTONIC_START: u64 = 1_000_000_000;

/// Which clocks a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockConfig {
    /// Time follows fuel; it starts `epoch_nanos` nanoseconds after 1970.
    Virtual { epoch_nanos: u64 },
    /// The host's clocks.
    Live,
}

/// The four clocks of preview 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockId {
    Realtime,
    Monotonic,
    /// Process and thread time, which are the same here.
    Cpu,
}

impl ClockId {
    /// # Errors
    /// [`Errno::Inval`] for a number that names no clock.
    pub(crate) fn new(id: u32) -> Result<Self, Errno> {
        match id {
            0 => Ok(Self::Realtime),
            1 => Ok(Self::Monotonic),
            2 | 3 => Ok(Self::Cpu),
            _ => Err(Errno::Inval),
        }
    }
}

/// The clocks of one run. All values are nanoseconds and saturate.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    config: ClockConfig,
    fuel: u64,
    /// Fuel of the turns before.
    earlier: u64,
    slept: u64,
    /// Real time that the host let pass for a virtual clock, which is no sleep.
    waited: u64,
    /// Of the sleep, what the turns before slept.
    slept_earlier: u64,
    started: Instant,
    /// The most that may be slept, as virtual time does not pass while the host waits.
    limit: Option<u64>,
}

impl Clock {
    pub(crate) fn new(config: ClockConfig) -> Self {
        Self {
            config,
            fuel: 0,
            earlier: 0,
            slept: 0,
            waited: 0,
            slept_earlier: 0,
            started: Instant::now(),
            limit: None,
        }
    }

    pub(crate) fn set_fuel(&mut self, used: u64) {
        self.fuel = self.earlier.saturating_add(used);
    }

    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = Some(nanos(limit));
    }

    /// Goes on with a store that counts its fuel from 0, and sleeps of its own.
    pub(crate) fn begin_turn(&mut self, limit: Duration) {
        self.earlier = self.fuel;
        self.slept_earlier = self.slept;
        self.limit = Some(self.slept.saturating_add(nanos(limit)));
    }

    /// Whether clocks are the host's.
    pub(crate) fn is_live(&self) -> bool {
        self.config == ClockConfig::Live
    }

    /// Virtual time slept, in this turn.
    pub(crate) fn slept(&self) -> Duration {
        Duration::from_nanos(self.slept.saturating_sub(self.slept_earlier))
    }

    fn fuel_nanos(&self) -> u64 {
        self.fuel.checked_div(FUEL_PER_NANO).unwrap_or(0)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.fuel_nanos().saturating_add(self.slept).saturating_add(self.waited)
    }

    /// Lets a virtual clock go on by real time that passed while the script waited for its host.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(nanos(time));
    }

    /// The time of a clock.
    pub(crate) fn now(&self, id: ClockId) -> u64 {
        match (self.config, id) {
            (ClockConfig::Virtual { epoch_nanos }, ClockId::Realtime) => {
                epoch_nanos.saturating_add(self.monotonic_nanos())
            }
            (ClockConfig::Virtual { .. }, ClockId::Monotonic) => self.monotonic_nanos().saturating_add(MONOTONIC_START),
            (ClockConfig::Virtual { .. }, ClockId::Cpu) => self.fuel_nanos(),
            (ClockConfig::Live, ClockId::Realtime) => {
                nanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
            }
            (ClockConfig::Live, ClockId::Monotonic) => nanos(self.started.elapsed()).saturating_add(MONOTONIC_START),
            (ClockConfig::Live, ClockId::Cpu) => nanos(self.started.elapsed()),
        }
    }

    /// The time that files get.
    pub(crate) fn file_time(&self) -> u64 {
        self.now(ClockId::Realtime)
    }

    /// Lets virtual time pass at no cost.
    pub(crate) fn sleep(&mut self, nanos: u64) -> Slept {
        match self.slept.checked_add(nanos) {
            Some(slept) => {
                self.slept = slept;
                if self.limit.is_some_and(|limit| slept > limit) { Slept::PastLimit } else { Slept::Woke }
            }
            None => {
                self.slept = u64::MAX;
                Slept::Forever
            }
        }
    }
}

/// How a virtual sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    Woke,
    /// All sleeps together are longer than the run may take.
    PastLimit,
    /// The wake-up lies past the end of time.
    Forever,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
