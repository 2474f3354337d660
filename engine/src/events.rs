//! What happens in a run, told while it happens.
//!
//! Output goes to the [`OutputSink`](crate::OutputSink), and the end of a run is its [`Outcome`](crate::Outcome); here is what
//! lies between. A job without a sink for events pays nothing for them: a watch looks at an `Option` a few times in a
//! millisecond, and a host call at another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::job::Epoch;
use crate::outcome::{RuntimeId, Usage};
use crate::scan::Scan;

/// The least time between two [`Event::Usage`].
pub(crate) const BETWEEN_USAGES: Duration = Duration::from_millis(100);

/// Something that happened in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The script was scanned, may run, and is about to.
    #[non_exhaustive]
    Started {
        /// What the scan came to.
        scan: Arc<Scan>,
        /// The runtime that runs it.
        runtime: RuntimeId,
        /// Where its clock starts.
        epoch: Epoch,
        /// Where its randomness starts; meaningless for a live run.
        seed: u128,
    },
    /// What it has used so far, at most ten times in a second, while it computes and while it waits.
    ///
    /// Fuel is known to a few million units (a quarter of a millisecond) while the script computes, what host calls count
    /// is that of the last call, and no figure is ever less than in the event before. The exact ones are in the outcome.
    #[non_exhaustive]
    Usage {
        /// So much.
        usage: Usage,
        /// Whether the script waits for standard input.
        reading: bool,
    },
    /// The script called a tool it was granted.
    #[non_exhaustive]
    ToolCalled {
        /// The call, as its answer names it: larger than those of all calls that may still be answered.
        call: u64,
        /// The tool's name.
        tool: String,
        /// Length of the arguments, as JSON.
        argument_bytes: u64,
    },
    /// A call of a tool came to its end. There is none where the run ends first.
    #[non_exhaustive]
    ToolAnswered {
        /// The call.
        call: u64,
        /// The tool's name.
        tool: String,
        /// Length of the result, as JSON; of a failure its kind, as the script can tell them apart: `failed`, `timeout`, `arguments`,
        /// `budget`, `too-large`.
        result: Result<u64, &'static str>,
        /// Real time since the call.
        took: Duration,
    },
}

/// Receives what happens in a run, in order, on the thread that runs it.
///
/// While it works the script waits and the wall time keeps running. Closures `FnMut(Event)` are sinks.
pub trait EventSink: Send {
    /// Takes one event. A sink that can block must return at `deadline`. One that cannot go on has a
    /// [`Canceler`](crate::Canceler) to end the run with.
    fn event(&mut self, event: Event, deadline: Instant);
}

impl<F: FnMut(Event) + Send> EventSink for F {
    fn event(&mut self, event: Event, _deadline: Instant) {
        self(event);
    }
}

/// What a run has used so far, for whoever watches it from outside of its store.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Fuel at the last host call.
    pub(crate) fuel: AtomicU64,
    /// Bytes of linear memory and memory files, the most so far.
    pub(crate) memory_peak: AtomicU64,
    pub(crate) output_bytes: AtomicU64,
    pub(crate) files_written: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) files_peak: AtomicU64,
    pub(crate) descriptors_peak: AtomicU64,
    pub(crate) host_calls: AtomicU64,
    waiting: AtomicU8,
}

/// What a host call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nothing: the guest computes.
    Nothing = 0,
    /// A moment, or the answer of a tool.
    Moment = 1,
    /// Standard input.
    Input = 2,
}

impl Meter {
    pub(crate) fn waits(&self, waiting: Waiting) {
        self.waiting.store(waiting as u8, Ordering::Relaxed);
    }
}

/// Tells a sink what a run uses.
pub(crate) struct Reporter {
    sink: Box<dyn EventSink>,
    meter: Arc<Meter>,
    started: Instant,
    next: Instant,
    /// Fuel of one stretch of guest code; 0 where fuel is not counted.
    stretch: u64,
    most_fuel: u64,
    /// Fuel told last at a host call, and stretches since.
    known_fuel: u64,
    stretches: u64,
    last_fuel: u64,
}

impl Reporter {
    /// `stretch` is the fuel between two yields of the guest, 0 where fuel is not counted; `most_fuel` the limit.
    pub(crate) fn new(sink: Box<dyn EventSink>, started: Instant, stretch: u64, most_fuel: u64) -> Self {
        Self {
            sink,
            meter: Arc::default(),
            started,
            next: started + BETWEEN_USAGES,
            stretch,
            most_fuel,
            known_fuel: 0,
            stretches: 0,
            last_fuel: 0,
        }
    }

    pub(crate) fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    /// When there is something to tell again.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Something happened just now.
    pub(crate) fn tell(&mut self, event: Event, deadline: Instant) {
        self.sink.event(event, deadline);
    }

    /// The guest gave control back at `now`.
    pub(crate) fn look(&mut self, now: Instant, slept: Duration, deadline: Instant) {
        let waiting = self.meter.waiting.load(Ordering::Relaxed);
        if self.stretch > 0 {
            let known = self.meter.fuel.load(Ordering::Relaxed);
            if known != self.known_fuel {
                (self.known_fuel, self.stretches) = (known, 0);
            }
            // Otherwise it only waits on.
            self.stretches += u64::from(waiting == Waiting::Nothing as u8);
        }
        if now < self.next {
            return;
        }
        // Not `+=`: a run that was held up does not catch up on events.
        self.next = now + BETWEEN_USAGES;
        let fuel = self.known_fuel.saturating_add(self.stretches.saturating_mul(self.stretch)).min(self.most_fuel);
        self.last_fuel = self.last_fuel.max(fuel);
        let meter = &self.meter;
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let usage = Usage {
            fuel: (self.stretch > 0).then_some(self.last_fuel),
            wall_time: now.saturating_duration_since(self.started),
            slept,
            memory_peak_bytes: get(&meter.memory_peak),
            output_bytes: get(&meter.output_bytes),
            files_written: get(&meter.files_written),
            bytes_written: get(&meter.bytes_written),
            files_peak: get(&meter.files_peak),
            descriptors_peak: get(&meter.descriptors_peak),
            host_calls: get(&meter.host_calls),
        };
        let reading = waiting == Waiting::Input as u8;
        self.sink.event(Event::Usage { usage, reading }, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn usage_is_told_at_most_ten_times_a_second_and_never_goes_back() {
        let told: Arc<Mutex<Vec<Usage>>> = Arc::default();
        let sink = {
            let told = told.clone();
            move |event: Event| match event {
                Event::Usage { usage, .. } => told.lock().unwrap().push(usage),
                other => panic!("{other:?}"),
            }
        };
        let start = Instant::now();
        let mut reporter = Reporter::new(Box::new(sink), start, 3_000_000, 1_000_000_000);
        let meter = reporter.meter();
        for step in 1..=4_000_u64 {
            // A call once in a while: it knows less than was counted in stretches.
            if step % 500 == 0 {
                meter.fuel.store(step * 2_900_000, Ordering::Relaxed);
            }
            let now = start + Duration::from_micros(250 * step);
            reporter.look(now, Duration::ZERO, now + Duration::from_secs(1));
        }
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 10);
        assert!(told.is_sorted_by(|a, b| a.fuel <= b.fuel && a.wall_time < b.wall_time), "{told:?}");
        assert_eq!(told.last().and_then(|usage| usage.fuel), Some(1_000_000_000), "no more than the limit");
    }
}
