//! Who may run now: at most so many at a time. The others wait, at most so many of them, and callers take turns.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Places for work, and a bounded queue before them.
///
/// A place that becomes free goes to the caller whose turn it is: callers that wait are served in rotation, each in
/// the order of its requests, however many another one has.
pub(crate) struct Gate {
    places: usize,
    most_waiting: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    waiting: usize,
    queues: HashMap<Arc<str>, VecDeque<Arc<Ticket>>>,
    /// Callers that wait, the next one first. Each stands in it once.
    rotation: VecDeque<Arc<str>>,
}

/// The wait of one request.
#[derive(Default)]
struct Ticket(Mutex<TicketState>);

#[derive(Default)]
struct TicketState {
    admitted: bool,
    waker: Option<Waker>,
}

/// There is no place, and no room in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// How many may wait.
    pub(crate) most_waiting: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    pub(crate) fn new(places: usize, most_waiting: usize) -> Self {
        Self { places: places.max(1), most_waiting, state: Mutex::default() }
    }

    /// Waits for a place; it is free again when the pass is dropped. A future that is dropped waits no more.
    pub(crate) async fn enter(self: &Arc<Self>, caller: &Arc<str>) -> Result<Pass, Full> {
        let ticket = {
            let mut state = lock(&self.state);
            if state.taken < self.places {
                state.taken += 1;
                return Ok(Pass(self.clone()));
            }
            if state.waiting >= self.most_waiting {
                return Err(Full { most_waiting: self.most_waiting });
            }
            state.waiting += 1;
            let ticket = Arc::<Ticket>::default();
            let queue = state.queues.entry(caller.clone()).or_default();
            let first = queue.is_empty();
            queue.push_back(ticket.clone());
            if first {
                state.rotation.push_back(caller.clone());
            }
            ticket
        };
        Waiting { gate: self, caller, ticket, over: false }.await;
        Ok(Pass(self.clone()))
    }

    /// Gives a place that became free to whoever is next.
    fn leave(&self) {
        let mut state = lock(&self.state);
        while let Some(caller) = state.rotation.pop_front() {
            let Some(queue) = state.queues.get_mut(&caller) else { continue };
            let ticket = queue.pop_front();
            if queue.is_empty() {
                state.queues.remove(&caller);
            } else {
                state.rotation.push_back(caller);
            }
            let Some(ticket) = ticket else { continue };
            state.waiting -= 1;
            let mut admitted = lock(&ticket.0);
            admitted.admitted = true;
            let waker = admitted.waker.take();
            drop((admitted, state));
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        state.taken -= 1;
    }
}

/// Waits until a ticket is admitted.
struct Waiting<'a> {
    gate: &'a Gate,
    caller: &'a Arc<str>,
    ticket: Arc<Ticket>,
    /// Whether the place is the caller's now.
    over: bool,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut ticket = lock(&self.ticket.0);
        if !ticket.admitted {
            ticket.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(ticket);
        self.over = true;
        Poll::Ready(())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // In the order of `leave`: first the state, then the ticket.
        let mut state = lock(&self.gate.state);
        if lock(&self.ticket.0).admitted {
            drop(state);
            self.gate.leave();
            return;
        }
        state.waiting -= 1;
        if let Some(queue) = state.queues.get_mut(self.caller) {
            queue.retain(|ticket| !Arc::ptr_eq(ticket, &self.ticket));
            if queue.is_empty() {
                state.queues.remove(self.caller);
                state.rotation.retain(|caller| caller != self.caller);
            }
        }
    }
}

/// A place at work.
pub(crate) struct Pass(Arc<Gate>);

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn caller(name: &str) -> Arc<str> {
        name.into()
    }

    type Entering = Pin<Box<dyn Future<Output = Result<Pass, Full>>>>;

    fn enter(gate: &Arc<Gate>, name: &str) -> Entering {
        let (gate, name) = (gate.clone(), caller(name));
        let mut entering: Entering = Box::pin(async move { gate.enter(&name).await });
        assert!(poll(&mut entering).is_none(), "it should wait");
        entering
    }

    fn poll(entering: &mut Entering) -> Option<Result<Pass, Full>> {
        match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    fn now(gate: &Arc<Gate>, name: &str) -> Result<Pass, Full> {
        let name = caller(name);
        let mut entering = pin!(gate.enter(&name));
        match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it should not wait"),
        }
    }

    #[test]
    fn callers_take_turns() {
        let gate = Arc::new(Gate::new(1, 100));
        let mut pass = now(&gate, "first").ok().unwrap();
        let mut waiting: Vec<(&str, Entering)> =
            ["loud", "loud", "loud", "loud", "quiet", "loud", "other"].map(|name| (name, enter(&gate, name))).into();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(pass);
            let (at, next) =
                waiting.iter_mut().enumerate().find_map(|(at, (_, it))| Some((at, poll(it)?))).expect("one goes on");
            pass = next.ok().unwrap();
            order.push(waiting.remove(at).0);
        }
        assert_eq!(order, ["loud", "quiet", "other", "loud", "loud", "loud", "loud"]);
    }

    #[test]
    fn a_full_queue_refuses_and_an_abandoned_wait_makes_room() {
        let gate = Arc::new(Gate::new(2, 2));
        let passes = (now(&gate, "a").ok().unwrap(), now(&gate, "a").ok().unwrap());
        let (first, mut second) = (enter(&gate, "a"), enter(&gate, "b"));
        for _ in 0..3 {
            assert!(now(&gate, "c").is_err());
        }
        assert_eq!(now(&gate, "c").err(), Some(Full { most_waiting: 2 }));
        drop(first);
        let third = enter(&gate, "c");
        assert!(now(&gate, "c").is_err());
        drop(passes);
        let pass = poll(&mut second).unwrap().ok().unwrap();
        // Admitted, and never looked at again: its place is not lost.
        drop(third);
        let other = now(&gate, "d").ok().unwrap();
        assert_eq!(lock(&gate.state).taken, 2);
        drop((pass, other));
        let state = lock(&gate.state);
        assert_eq!((state.taken, state.waiting, state.queues.len(), state.rotation.len()), (0, 0, 0, 0));
    }
}
