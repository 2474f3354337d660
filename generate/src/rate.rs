//! How fast a provider is asked, and when it is left alone for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::profile::Rates;
use crate::retry::Allowance;

/// A minute, and what a request may take longer on its way than one that was sent after it.
const WINDOW: Duration = Duration::from_secs(61);

/// So many failures in a row open the circuit.
const MOST_FAILURES: u32 = 5;

/// How long an open circuit keeps requests back.
const OPEN: Duration = Duration::from_secs(30);

/// The most requests of a window that are kept in mind, whatever a profile says.
const MOST_REMEMBERED: usize = 100_000;

/// What all calls of one profile share: how much was sent lately, what its provider says is left, and how often it failed.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rates: Rates,
    /// Requests of the last minute: number, when, tokens.
    sent: VecDeque<(u64, Instant, u64)>,
    next: u64,
    /// What the provider says is left of requests and of tokens, until when.
    left: [Option<(u64, Instant)>; 2],
    /// It asked not to be called before.
    held_until: Option<Instant>,
    failures: u32,
    open_until: Option<Instant>,
    /// The one request that tries whether an open circuit may close.
    probe: Option<u64>,
}

/// Why a request is not sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// It may be, after that time.
    Wait(Duration),
    /// The provider failed too often; it may be asked after that time.
    Open(Duration),
}

impl Gate {
    pub(crate) fn new(rates: Rates) -> Self {
        Self(Arc::new(Mutex::new(State {
            rates,
            sent: VecDeque::new(),
            next: 0,
            left: [None; 2],
            held_until: None,
            failures: 0,
            open_until: None,
            probe: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request pass whose question has about `input` tokens, and which may take `most` with its answer. It is counted at once,
    /// so that calls at the same time see it.
    ///
    /// # Errors
    ///
    /// [`NotNow`]. After that time it is to be asked for again, as others may have been let in.
    pub(crate) fn enter(&self, now: Instant, input: u64, most: u64) -> Result<Pass, NotNow> {
        let mut state = self.state();
        if let Some(until) = state.open_until {
            // Half open: one is let in, and the rest waits for what comes of it.
            if now < until || state.probe.is_some() {
                return Err(NotNow::Open(until.saturating_duration_since(now).max(Duration::from_secs(1))));
            }
        }
        while state.sent.front().is_some_and(|&(_, at, _)| now.saturating_duration_since(at) >= WINDOW) {
            state.sent.pop_front();
        }
        if let Some(until) = state.free_at(input, most, now).filter(|&until| until > now) {
            return Err(NotNow::Wait(until.saturating_duration_since(now)));
        }
        let number = state.next;
        state.next = number.wrapping_add(1);
        state.sent.push_back((number, now, most));
        if state.sent.len() > MOST_REMEMBERED {
            state.sent.pop_front();
        }
        let [requests, of_tokens] = &mut state.left;
        for (left, taken) in [(requests, 1), (of_tokens, input)] {
            *left = left.map(|(count, until)| (count.saturating_sub(taken), until));
        }
        if state.open_until.is_some() {
            state.probe = Some(number);
        }
        Ok(Pass { gate: self.clone(), number })
    }
}

impl State {
    /// When a request of so many tokens may be sent; `None` if nothing stands against it.
    fn free_at(&self, input: u64, most: u64, now: Instant) -> Option<Instant> {
        let mut until = self.held_until;
        if let Some(rpm) = self.rates.rpm {
            let rpm = usize::try_from(rpm).unwrap_or(usize::MAX).clamp(1, MOST_REMEMBERED);
            let oldest_of_full = self.sent.len().checked_sub(rpm).and_then(|it| self.sent.get(it));
            until = until.max(oldest_of_full.map(|&(_, at, _)| at + WINDOW));
        }
        if let Some(tpm) = self.rates.tpm {
            // One that is larger than the window by itself goes through an empty one.
            let mut over = self.sent.iter().fold(most.min(tpm), |sum, it| sum.saturating_add(it.2)).saturating_sub(tpm);
            for &(_, at, taken) in &self.sent {
                if over == 0 {
                    break;
                }
                over = over.saturating_sub(taken);
                until = until.max(Some(at + WINDOW));
            }
        }
        for (left, needed) in self.left.into_iter().zip([1, input]) {
            until = until.max(left.filter(|&(count, reset)| count < needed && reset > now).map(|(_, reset)| reset));
        }
        until
    }
}

/// A request that was let in. Dropping it untold leaves it counted, and says nothing about the provider.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Gate,
    number: u64,
}

impl Pass {
    /// The request took so many tokens.
    pub(crate) fn took(&self, tokens: u64) {
        if let Some(sent) = self.gate.state().sent.iter_mut().find(|it| it.0 == self.number) {
            sent.2 = tokens;
        }
    }

    /// The provider told what is left.
    pub(crate) fn left(&self, allowances: impl IntoIterator<Item = Allowance>, now: Instant) {
        let mut told: [Option<(u64, Instant)>; 2] = [None; 2];
        for allowance in allowances {
            let [requests, tokens] = &mut told;
            let place = if allowance.tokens { tokens } else { requests };
            let new = (allowance.remaining, now + allowance.reset);
            // Of several, the tightest.
            *place = Some(place.map_or(new, |old| if new.0 < old.0 { new } else { old }));
        }
        let mut state = self.gate.state();
        for (left, told) in state.left.iter_mut().zip(told) {
            *left = told.or(*left);
        }
    }

    /// The provider asked not to be called for that time.
    pub(crate) fn hold(&self, wait: Duration, now: Instant) {
        let mut state = self.gate.state();
        state.held_until = state.held_until.max(Some(now + wait));
    }

    /// The provider works.
    pub(crate) fn succeeded(&self) {
        let mut state = self.gate.state();
        state.failures = 0;
        state.open_until = None;
        state.probe = None;
    }

    /// The provider does not work.
    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.gate.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= MOST_FAILURES {
            state.open_until = Some(now + OPEN);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.probe == Some(self.number) {
            state.probe = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(rpm: Option<u64>, tpm: Option<u64>) -> (Gate, Instant) {
        (Gate::new(Rates { rpm, tpm }), Instant::now())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn no_minute_holds_more_requests_than_allowed() {
        let (gate, begin) = gate(Some(10), None);
        let mut sent = Vec::new();
        let mut waiting = vec![begin; 50];
        // Fifty calls at once, each of which comes back when it is told to.
        while let Some((at, now)) = waiting.iter().copied().enumerate().min_by_key(|it| it.1) {
            match gate.enter(now, 1, 1) {
                Ok(_) => {
                    sent.push(now);
                    waiting.swap_remove(at);
                }
                Err(NotNow::Wait(wait)) => waiting[at] = now + wait,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(sent.len(), 50);
        for (at, &first) in sent.iter().enumerate() {
            let within = sent[at..].iter().filter(|it| it.duration_since(first) < seconds(60)).count();
            assert!(within <= 10, "{within}");
        }
        assert!(sent.last().unwrap().duration_since(begin) <= 4 * WINDOW);
    }

    #[test]
    fn tokens_of_a_minute_are_counted_by_what_calls_took() {
        let (gate, begin) = gate(None, Some(1_000));
        let first = gate.enter(begin, 600, 600).unwrap();
        assert_eq!(gate.enter(begin, 600, 600).unwrap_err(), NotNow::Wait(WINDOW));
        first.took(100);
        let second = gate.enter(begin + seconds(1), 900, 900).unwrap();
        assert_eq!(gate.enter(begin + seconds(1), 50, 50).unwrap_err(), NotNow::Wait(WINDOW - seconds(1)));
        assert_eq!(gate.enter(begin + seconds(1), 150, 150).unwrap_err(), NotNow::Wait(WINDOW));
        drop(second);
        // More than the window alone.
        assert!(gate.enter(begin + seconds(100), 5_000, 5_000).is_ok());
        assert!(gate.enter(begin + seconds(100), 1, 1).is_err());
    }

    #[test]
    fn what_the_provider_says_is_left_holds_until_its_reset() {
        let (gate, begin) = gate(None, None);
        let pass = gate.enter(begin, 10, 10).unwrap();
        let allowance = |tokens, remaining, reset| Allowance { tokens, remaining, reset: seconds(reset) };
        pass.left([allowance(false, 2, 40), allowance(true, 1_000, 5)], begin);
        assert_eq!(gate.enter(begin, 1_001, 1_001).unwrap_err(), NotNow::Wait(seconds(5)));
        assert!(gate.enter(begin, 10, 10).is_ok() && gate.enter(begin, 10, 10).is_ok());
        assert_eq!(gate.enter(begin, 10, 10).unwrap_err(), NotNow::Wait(seconds(40)));
        assert!(gate.enter(begin + seconds(40), 10, 10).is_ok());
        // Of several that count tokens, the tightest; and a wait that was asked for.
        pass.left([allowance(true, 50, 9), allowance(true, 5, 7)], begin + seconds(40));
        assert_eq!(gate.enter(begin + seconds(40), 10, 10).unwrap_err(), NotNow::Wait(seconds(7)));
        pass.hold(seconds(20), begin + seconds(40));
        pass.hold(seconds(2), begin + seconds(40));
        assert_eq!(gate.enter(begin + seconds(40), 1, 1).unwrap_err(), NotNow::Wait(seconds(20)));
    }

    #[test]
    fn five_failures_in_a_row_open_the_circuit_and_one_request_tries_it() {
        let (gate, begin) = gate(None, None);
        for _ in 0..4 {
            gate.enter(begin, 1, 1).unwrap().failed(begin);
        }
        gate.enter(begin, 1, 1).unwrap().succeeded();
        for _ in 0..5 {
            gate.enter(begin, 1, 1).unwrap().failed(begin);
        }
        assert_eq!(gate.enter(begin + seconds(10), 1, 1).unwrap_err(), NotNow::Open(seconds(20)));
        let later = begin + seconds(30);
        let probe = gate.enter(later, 1, 1).unwrap();
        assert!(matches!(gate.enter(later, 1, 1), Err(NotNow::Open(_))));
        // Given up without an answer: the next one tries.
        drop(probe);
        gate.enter(later, 1, 1).unwrap().failed(later);
        assert!(matches!(gate.enter(later + seconds(29), 1, 1), Err(NotNow::Open(_))));
        gate.enter(later + seconds(30), 1, 1).unwrap().succeeded();
        assert!(gate.enter(later + seconds(30), 1, 1).is_ok() && gate.enter(later + seconds(30), 1, 1).is_ok());
    }
}
