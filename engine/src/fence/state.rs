//! What a store carries: the World of one run, and the limiter of its memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wasmtime::{Memory, ResourceLimiter};

use super::calls::Calls;
use super::stdin::HostStdin;
use crate::cancel::Canceler;
use crate::events::{Meter, Waiting};
use crate::timer::Timer;
use crate::world::{Stop, World};

/// Elements a table may have. CPython has about 10,000 functions.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Tables a guest may have.
const MAX_TABLES: usize = 8;

/// The host's side of one instance.
pub(crate) struct State {
    pub(crate) world: World,
    /// The guest's memory, once it is instantiated.
    pub(crate) memory: Option<Memory>,
    /// Bytes of linear memory and memory files together.
    pub(crate) memory_limit: u64,
    /// Largest sum of both so far.
    pub(crate) memory_peak: u64,
    /// A growth that was refused: the sum it would have led to.
    pub(crate) memory_refused: Option<u64>,
    /// Fuel at the start; 0 where fuel is not counted.
    pub(crate) fuel_start: u64,
    /// What host calls cost, as far as it was taken from the store's fuel.
    pub(crate) fuel_taken: u64,
    pub(crate) host_calls: u64,
    /// When the run must end, sleep not counted; `None` for recipe steps.
    pub(crate) deadline: Option<Instant>,
    pub(crate) canceler: Canceler,
    /// Virtual nanoseconds slept so far; the watch over the run reads it.
    pub(crate) slept_nanos: Arc<AtomicU64>,
    /// Wakes this run where it waits.
    pub(crate) timer: Arc<Timer>,
    /// Messages of the guest and their answers, where somebody listens.
    pub(crate) calls: Option<Arc<Mutex<Calls>>>,
    /// Reads the host's standard input for this run.
    pub(crate) stdin: Option<HostStdin>,
    /// What is used so far, where somebody listens.
    pub(crate) meter: Option<Arc<Meter>>,
}

impl State {
    pub(crate) fn new(world: World, memory_limit: u64, stdin: Option<HostStdin>, timer: Arc<Timer>) -> Self {
        // What the turns before cost was theirs.
        let fuel_taken = world.fuel_spent();
        Self {
            world,
            memory: None,
            memory_limit,
            memory_peak: 0,
            memory_refused: None,
            fuel_start: 0,
            fuel_taken,
            host_calls: 0,
            deadline: None,
            canceler: Canceler::new(),
            slept_nanos: Arc::default(),
            calls: None,
            stdin,
            timer,
            meter: None,
        }
    }

    /// Fuel that host calls may cost before it is taken from the guest's: one part in so many of the limit.
    pub(crate) const FUEL_PARTS: u64 = 64;

    /// Fuel that host calls cost and that was not taken from the store's yet.
    pub(crate) fn fuel_owed(&self) -> u64 {
        self.world.fuel_spent().saturating_sub(self.fuel_taken)
    }

    /// Whether the run may go on. Guest code is looked at between two stretches of it: a script that makes one slow
    /// call after the other is looked at here.
    pub(crate) fn may_go_on(&self) -> Result<(), StopError> {
        if self.canceler.is_canceled() {
            return Err(StopError::Canceled);
        }
        let slept = Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed));
        match self.deadline {
            Some(deadline) if Instant::now() + slept >= deadline => Err(StopError::Deadline),
            _ => Ok(()),
        }
    }

    /// Takes note of `linear` bytes of memory.
    pub(crate) fn note_memory(&mut self, linear: u64) {
        self.memory_peak = self.memory_peak.max(linear.saturating_add(self.world.held_bytes()));
        if let Some(meter) = &self.meter {
            meter.memory_peak.fetch_max(self.memory_peak, Ordering::Relaxed);
        }
    }

    /// Tells whoever listens what was used up to the end of a call.
    pub(crate) fn tell_usage(&self) {
        if let Some(meter) = &self.meter {
            meter.host_calls.store(self.host_calls, Ordering::Relaxed);
            self.world.tell_usage(meter);
        }
    }

    /// Tells whoever listens what the run waits for.
    pub(crate) fn tell_waiting(&self, waiting: Waiting) {
        if let Some(meter) = &self.meter {
            meter.waits(waiting);
        }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = (desired as u64).saturating_add(self.world.held_bytes());
        if sum > self.memory_limit || maximum.is_some_and(|maximum| desired > maximum) {
            self.memory_refused = Some(sum);
            return Ok(false);
        }
        self.note_memory(desired as u64);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The limit allows it and the host cannot give it: not the script's doing, so not its answer either.
        Err(error.context("the host has no memory left for the guest"))
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        1
    }
}

/// A host function's way to end a run: travels through the guest as a Wasmtime error and is recognised by type.
#[derive(Debug)]
pub(crate) enum StopError {
    /// The World ends it.
    World(Stop),
    /// Guest and host calls together have used up the fuel.
    Fuel,
    /// The deadline passed inside a host call.
    Deadline,
    /// The run was canceled inside a host call.
    Canceled,
}

impl std::fmt::Display for StopError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped by the host: {self:?}")
    }
}

impl std::error::Error for StopError {}
