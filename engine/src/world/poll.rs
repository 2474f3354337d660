//! Waiting: `poll_oneoff`.

use std::time::{Duration, Instant};

use super::abi::{self, EVENT_BYTES, Errno, Event, SUBSCRIPTION_BYTES, rights};
use super::clock::{ClockId, Slept};
use super::descriptors::Target;
use super::files::Contents;
use super::{Fault, Progress, Stop, Wait, World, price};

/// Most subscriptions of one call. More is [`Errno::Inval`].
pub(crate) const MAX_SUBSCRIPTIONS: u32 = 1024;

/// What can always be written to a stream, as polls tell it: a pipe's guarantee, and the same on every host.
const STREAM_ROOM: u64 = 4096;

/// A flag of clock subscriptions: the timeout is a moment, not a duration.
const ABSOLUTE: u16 = 1;

/// Kinds of subscriptions and events.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// How one subscription stands.
enum State {
    /// It has its answer.
    Ready(Event),
    /// It is answered after `left` nanoseconds from now. `delay` is the timeout as its clock sees it, which is already
    /// counted from now if it is a moment of a `running` clock and else from the beginning of the poll.
    Timer { userdata: u64, left: u64, delay: u64, running: bool },
    /// It waits for standard input.
    Input,
}

impl World {
    /// Waits until one subscription is met and tells all that are.
    ///
    /// In virtual time the earliest timeout comes at once, and the clock moves on; files, output and input are always
    /// ready. In real time, or if standard input is a terminal, it waits as it should.
    pub(crate) fn poll_oneoff(
        &mut self,
        mem: &mut [u8],
        subscriptions: u32,
        events: u32,
        nsubscriptions: u32,
        nevents: u32,
    ) -> Result<Progress, Fault> {
        let progress = self.poll(mem, subscriptions, events, nsubscriptions, nevents);
        if !matches!(progress, Ok(Progress::Wait(_))) {
            self.poll_began = None;
            // Once, however often it was looked at: that depends on when input arrives.
            self.tree.ledger.spend(price::NAME.saturating_mul(u64::from(nsubscriptions.min(MAX_SUBSCRIPTIONS))));
        }
        progress
    }

    fn poll(
        &mut self,
        mem: &mut [u8],
        subscriptions: u32,
        events: u32,
        count: u32,
        nevents: u32,
    ) -> Result<Progress, Fault> {
        if count == 0 || count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval.into());
        }
        abi::writable(mem, events, count.saturating_mul(EVENT_BYTES))?;
        abi::writable(mem, nevents, 4)?;
        let began = *self.poll_began.get_or_insert_with(Instant::now);
        // All are read before the first event is written, as the two arrays may overlap.
        let mut states = Vec::new();
        for index in 0..count {
            states.push(self.state(mem, abi::element(subscriptions, index, SUBSCRIPTION_BYTES)?)?);
        }
        let waits_for_input = states.iter().any(|state| matches!(state, State::Input));
        let live = self.clock.is_live();
        if live || waits_for_input {
            // Time passes for the host while it waits.
            let elapsed = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            for state in &mut states {
                if let State::Timer { left, running: false, .. } = state {
                    *left = left.saturating_sub(elapsed);
                }
            }
        }
        let least = states.iter().filter_map(|state| match state {
            State::Timer { left, .. } => Some(*left),
            State::Ready(_) | State::Input => None,
        });
        let least = least.min();
        let ready = states.iter().any(|state| matches!(state, State::Ready(_)));
        let mut due = 0;
        if !ready && least != Some(0) {
            match least {
                Some(left) if live || waits_for_input => {
                    let until = after(left);
                    let wait = if waits_for_input { Wait::StdinUntil(until) } else { Wait::Until(until) };
                    return Ok(Progress::Wait(wait));
                }
                Some(left) => due = left,
                None if waits_for_input => return Ok(Progress::Wait(Wait::Stdin)),
                None => return Err(Stop::WaitsForever.into()),
            }
        }
        if !live {
            // Also when a terminal was waited for: the script finds its clock moved on by the timeout.
            let slept = states.iter().filter_map(|state| match state {
                State::Timer { left, delay, .. } if *left <= due => Some(*delay),
                State::Timer { .. } | State::Ready(_) | State::Input => None,
            });
            match self.clock.sleep(slept.max().unwrap_or(0)) {
                Slept::Woke => {}
                Slept::PastLimit => return Err(Stop::SleepPastLimit.into()),
                Slept::Forever => return Err(Stop::WaitsForever.into()),
            }
        }
        let mut told = 0;
        for state in &states {
            let event = match state {
                State::Ready(event) => *event,
                State::Timer { userdata, left, .. } if *left <= due => {
                    Event { userdata: *userdata, error: 0, kind: CLOCK, bytes: 0, hangup: false }
                }
                State::Timer { .. } | State::Input => continue,
            };
            event.write(mem, abi::element(events, told, EVENT_BYTES)?)?;
            told = told.saturating_add(1);
        }
        abi::write_u32(mem, nevents, told)?;
        Ok(Progress::Done)
    }

    /// Reads one subscription and looks how it stands.
    fn state(&mut self, mem: &[u8], at: u32) -> Result<State, Errno> {
        abi::writable(mem, at, SUBSCRIPTION_BYTES)?;
        let userdata = abi::read_u64(mem, at)?;
        let kind = abi::read_u8(mem, abi::add(at, 8)?)?;
        match kind {
            CLOCK => {
                let id = ClockId::new(abi::read_u32(mem, abi::add(at, 16)?)?)?;
                let timeout = abi::read_u64(mem, abi::add(at, 24)?)?;
                let flags = abi::flags(u32::from(abi::read_u16(mem, abi::add(at, 40)?)?), ABSOLUTE)?;
                if id == ClockId::Cpu {
                    // It stands still while one waits.
                    let error = Errno::Notsup.code();
                    return Ok(State::Ready(Event { userdata, error, kind, bytes: 0, hangup: false }));
                }
                let absolute = flags & ABSOLUTE != 0;
                let delay = if absolute { timeout.saturating_sub(self.clock.now(id)) } else { timeout };
                Ok(State::Timer { userdata, left: delay, delay, running: absolute && self.clock.is_live() })
            }
            FD_READ | FD_WRITE => {
                let fd = abi::read_u32(mem, abi::add(at, 16)?)?;
                let event = |error, bytes, hangup| State::Ready(Event { userdata, error, kind, bytes, hangup });
                Ok(match self.readiness(fd, kind == FD_WRITE) {
                    Ok(Some((bytes, hangup))) => event(0, bytes, hangup),
                    Ok(None) => State::Input,
                    Err(errno) => event(errno.code(), 0, false),
                })
            }
            _ => Err(Errno::Inval),
        }
    }

    /// How many bytes a descriptor can move now and whether its other end is gone; `None` if it has to wait.
    fn readiness(&mut self, fd: u32, write: bool) -> Result<Option<(u64, bool)>, Errno> {
        let loose = self.input_is_loose();
        let descriptor = self.descriptors.get(fd)?;
        descriptor.need(if write { rights::FD_WRITE } else { rights::FD_READ }).map_err(|_| Errno::Badf)?;
        descriptor.need(rights::POLL_FD_READWRITE)?;
        match descriptor.target {
            Target::Input => Ok(self.input.readiness(loose)),
            Target::Output(_) => Ok(Some((STREAM_ROOM, false))),
            Target::Node(_) | Target::Host(_) if write => Ok(Some((STREAM_ROOM, false))),
            Target::Node(node) if !self.has_places(Contents::Node(node))? => Ok(Some((STREAM_ROOM, false))),
            Target::Node(node) => {
                let left = self.tree.node(node)?.size().saturating_sub(descriptor.offset);
                Ok(Some((left, false)))
            }
            Target::Host(id) => {
                let offset = descriptor.offset;
                Ok(Some((self.tree.hosts.size(id)?.saturating_sub(offset), false)))
            }
        }
    }
}

/// The moment so many nanoseconds from now. Where the clock cannot name it, a day from now: the call is made again
/// then and finds that it has to wait on.
fn after(nanos: u64) -> Instant {
    let now = Instant::now();
    let day = Duration::from_secs(24 * 60 * 60);
    now.checked_add(Duration::from_nanos(nanos)).or_else(|| now.checked_add(day)).unwrap_or(now)
}
