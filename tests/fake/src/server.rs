//! The server.

use rustix::event::{PollFd, PollFlags, Timespec};
use std::any::Any;
use std::collections::BTreeMap;
use std::io::{BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::received::Received;
use crate::reply::{Framing, Reply, Response, Step};

const MOST_CONNECTIONS: usize = 1_000;
const MOST_REQUESTS: usize = 100_000;

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

/// A server on a loopback port of its own, until it is dropped. A panic of its script is passed on then.
#[derive(Debug)]
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    connections: usize,
    open: BTreeMap<usize, (Arc<TcpStream>, Option<JoinHandle<()>>)>,
    ended: Vec<JoinHandle<()>>,
    broken: Option<Box<dyn Any + Send>>,
    requests: Vec<Received>,
    taken: usize,
}

impl Fake {
    /// Answers each request with what the closure makes of it. It is called on the thread of the connection.
    pub fn start(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on the loopback address");
        let address = listener.local_addr().expect("a name of the socket");
        let shared = Arc::new(Shared::default());
        let accepting = {
            let (shared, script) = (shared.clone(), Arc::new(script));
            std::thread::spawn(move || accept(&listener, &shared, &script))
        };
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Answers the first request with the first reply, and so on, whatever connection they come by. When none is left, the answer is
    /// status 400, which nobody asks again for; what tests look at is the number of [`Self::requests`].
    pub fn replies(replies: impl IntoIterator<Item = impl Into<Reply>>) -> Self {
        let replies = replies.into_iter().map(Into::into).collect::<Vec<Reply>>();
        Self::start(move |received| {
            let none = || Reply::json(400, &[], r#"{"error":{"message":"the fake has no more replies"}}"#);
            replies.get(received.number).cloned().unwrap_or_else(none)
        })
    }

    /// Answers every request alike.
    pub fn always(reply: impl Into<Reply>) -> Self {
        let reply = reply.into();
        Self::start(move |_| reply.clone())
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.state().requests.clone()
    }

    /// The requests so far, which are forgotten.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Received> {
        let mut state = self.shared.state();
        state.taken += state.requests.len();
        std::mem::take(&mut state.requests)
    }

    /// How many connections were made, with or without a request.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Waits until the requests are as wanted, at most that long, and says whether they are. It looks whenever a request comes or a
    /// peer closes.
    pub fn wait(&self, most: Duration, mut wanted: impl FnMut(&[Received]) -> bool) -> bool {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, most, |state| !wanted(&state.requests));
        !waited.expect("a state nobody broke").1.timed_out()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        // Wakes the thread that accepts; if that fails, it has ended.
        drop(TcpStream::connect(self.address));
        let mut threads = Vec::from_iter(self.accepting.take());
        // The accepting thread first: after it, there are no new connections.
        while let Some(thread) = threads.pop() {
            let panic = thread.join().err();
            let mut state = self.shared.state();
            state.broken = panic.or(state.broken.take());
            threads.append(&mut state.ended);
            for (stream, thread) in state.open.values_mut() {
                // Whatever waits for this connection sees its end.
                let _ = stream.shutdown(Shutdown::Both);
                threads.extend(thread.take());
            }
        }
        let broken = self.shared.state().broken.take();
        if let Some(panic) = broken.filter(|_| !std::thread::panicking()) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a state nobody broke")
    }

    fn mark(&self, gone: &OnceLock<Instant>) {
        let _state = self.state();
        let _ = gone.set(Instant::now());
        self.changed.notify_all();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    script: &Arc<impl Fn(&Received) -> Reply + Send + Sync + 'static>,
) {
    for stream in listener.incoming() {
        let mut state = shared.state();
        if state.stopped {
            return;
        }
        let Ok(stream) = stream else {
            continue;
        };
        // A thread that nobody joins keeps its stack.
        let ended = state.ended.extract_if(.., |thread| thread.is_finished()).collect::<Vec<_>>();
        let panics = ended.into_iter().filter_map(|thread| thread.join().err());
        state.broken = panics.last().or(state.broken.take());
        let number = state.connections;
        state.connections += 1;
        if state.open.len() >= MOST_CONNECTIONS {
            continue;
        }
        let stream = Arc::new(stream);
        let connection = Connection { number, shared: shared.clone(), stream: stream.clone(), gone: Arc::default() };
        let script = script.clone();
        // The thread waits for the lock before it ends, so that its handle is there.
        let thread = std::thread::spawn(move || connection.serve(&*script));
        state.open.insert(number, (stream, Some(thread)));
    }
}

/// One connection, on its own thread.
struct Connection {
    number: usize,
    shared: Arc<Shared>,
    stream: Arc<TcpStream>,
    gone: Arc<OnceLock<Instant>>,
}

/// Why a reply ended early.
enum Ended {
    /// The peer closed, or the server stops.
    Gone,
    /// As the reply wanted.
    Closed,
    /// As the reply wanted, with a reset.
    Reset,
}

impl Connection {
    fn serve(self, script: &Script) {
        let _ = self.stream.set_nodelay(true);
        let mut reader = BufReader::new(&*self.stream);
        loop {
            let mut received = match Received::read(&mut reader, self.number, &self.gone) {
                Ok(Some(received)) => received,
                Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::Unsupported) => {
                    let refusal = Response::new(400).framed(Framing::UntilClose).packets(["not for this fake\n"]);
                    let _ = self.play(Reply::from(refusal));
                    return;
                }
                Ok(None) | Err(_) => return self.shared.mark(&self.gone),
            };
            {
                let mut state = self.shared.state();
                if state.requests.len() >= MOST_REQUESTS {
                    return;
                }
                received.number = state.taken + state.requests.len();
                state.requests.push(received.clone());
                self.shared.changed.notify_all();
            }
            match self.play(script(&received)) {
                Ok(()) => {}
                Err(Ended::Closed) => return,
                Err(Ended::Gone) => return self.shared.mark(&self.gone),
                Err(Ended::Reset) => {
                    let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
                    return;
                }
            }
        }
    }

    fn play(&self, reply: Reply) -> Result<(), Ended> {
        for step in reply.steps {
            match step {
                Step::Write(bytes) => self.write(&bytes)?,
                Step::Repeat { bytes, times } => {
                    for _ in 0..times {
                        self.write(&bytes)?;
                    }
                }
                Step::Wait(time) => self.wait(Some(time))?,
                Step::Hang => self.wait(None)?,
                Step::Close => return Err(Ended::Closed),
                Step::Reset => return Err(Ended::Reset),
            }
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Ended> {
        (&*self.stream).write_all(bytes).map_err(|_| Ended::Gone)
    }

    /// Waits that long unless the peer closes before.
    fn wait(&self, time: Option<Duration>) -> Result<(), Ended> {
        let end = time.map(|time| Instant::now() + time);
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec::try_from(left).expect("a time of this century"));
            // Not for bytes: a peer may send its next request early.
            let mut polled = [PollFd::new(&self.stream, PollFlags::RDHUP)];
            match rustix::event::poll(&mut polled, left.as_ref()) {
                Ok(0) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return Err(Ended::Gone),
            }
        }
    }
}

impl Drop for Connection {
    /// The stream is closed by its last owner, so its place among the open ones goes with it.
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let thread = state.open.remove(&self.number).and_then(|(_, thread)| thread);
        state.ended.extend(thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, Read};

    const REQUEST: &str = "POST /x HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi";
    const LONG: Duration = Duration::from_secs(10);

    fn ask(fake: &Fake) -> TcpStream {
        let mut stream = TcpStream::connect(fake.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(REQUEST.as_bytes()).unwrap();
        stream
    }

    fn rest(mut stream: TcpStream) -> Result<String, ErrorKind> {
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|error| error.kind())?;
        Ok(text)
    }

    #[test]
    fn steps_reach_the_peer_as_they_are() {
        let write = |text: &str| Step::Write(text.into());
        let response = || Response::new(200).packets(["abc"]);
        let head = "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n";
        let long = "ab".repeat(1000);
        for (reply, expected) in [
            (Reply::raw([write("a"), write("\0\r"), Step::Close]), Ok("a\0\r".to_owned())),
            (
                Reply::raw([write("a"), Step::Wait(Duration::from_millis(5)), write("b"), Step::Close]),
                Ok("ab".to_owned()),
            ),
            (Reply::raw([Step::Repeat { bytes: b"ab".to_vec(), times: 1000 }, Step::Close]), Ok(long)),
            (Reply::close(), Ok(String::new())),
            (Reply::reset(), Err(ErrorKind::ConnectionReset)),
            (response().broken(2, Step::Close).into(), Ok(format!("{head}2\r\nab\r\n"))),
            (response().broken(2, Step::Reset).into(), Err(ErrorKind::ConnectionReset)),
            (Reply::from(response()).then(Step::Close), Ok(format!("{head}3\r\nabc\r\n0\r\n\r\n"))),
        ] {
            assert_eq!(rest(ask(&Fake::always(reply.clone()))), expected, "{reply:?}");
        }
    }

    #[test]
    fn a_wait_is_as_long_as_asked() {
        let time = Duration::from_millis(60);
        let fake = Fake::always(Reply::raw([Step::Wait(time), Step::Close]));
        let begin = Instant::now();
        assert_eq!(rest(ask(&fake)), Ok(String::new()));
        assert!(begin.elapsed() >= time);
    }

    #[test]
    fn a_connection_is_kept_and_requests_are_numbered() {
        let fake = Fake::replies([Response::json(200, "{}"), Response::json(429, "{}")]);
        let mut first = ask(&fake);
        assert!(fake.wait(LONG, |requests| requests.len() == 1));
        first.write_all(REQUEST.as_bytes()).unwrap();
        assert!(fake.wait(LONG, |requests| requests.len() == 2));
        let other = ask(&fake);
        assert!(fake.wait(LONG, |requests| requests.len() == 3));
        let requests = fake.requests();
        assert_eq!(requests.iter().map(|it| (it.number, it.connection)).collect::<Vec<_>>(), [(0, 0), (1, 0), (2, 1)]);
        assert!(requests.iter().all(|it| it.method == "POST" && it.path == "/x" && it.body == b"hi"));
        assert!(requests.is_sorted_by_key(|it| it.at));
        let mut line = String::new();
        BufReader::new(&first).read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 200 \r\n");
        BufReader::new(&other).read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 200 \r\nHTTP/1.1 400 \r\n");
        assert_eq!(fake.connections(), 2);
        assert_eq!(fake.take_requests().len(), 3);
        drop(ask(&fake));
        assert!(fake.wait(LONG, |requests| requests.len() == 1));
        assert_eq!(fake.requests()[0].number, 3);
    }

    #[test]
    fn the_end_of_a_peer_is_seen() {
        let endless = Response::new(200).step(Step::Repeat { bytes: vec![b'x'; 1 << 16], times: u64::MAX });
        for reply in [Reply::hang(), Reply::raw([Step::Wait(LONG)]), Reply::json(200, &[], "{}"), endless.into()] {
            let fake = Fake::always(reply);
            let stream = ask(&fake);
            assert!(fake.wait(LONG, |requests| requests.len() == 1));
            assert_eq!(fake.requests()[0].gone(), None);
            let begin = Instant::now();
            drop(stream);
            assert!(fake.wait(LONG, |requests| requests[0].gone().is_some_and(|at| at >= begin)));
        }
    }

    #[test]
    fn the_end_of_a_server_ends_all_connections() {
        let endless = Response::new(200).step(Step::Repeat { bytes: vec![b'x'; 1 << 16], times: u64::MAX });
        for reply in [Reply::hang(), Reply::raw([Step::Wait(LONG)]), Reply::raw([]), endless.into()] {
            let fake = Fake::always(reply);
            let streams = [ask(&fake), ask(&fake)];
            let idle = TcpStream::connect(fake.address()).unwrap();
            assert!(fake.wait(LONG, |requests| requests.len() == 2));
            let begin = Instant::now();
            drop(fake);
            assert!(begin.elapsed() < LONG);
            drop((streams, idle));
        }
    }

    #[test]
    fn a_panic_of_the_script_is_passed_on() {
        let fake = Fake::start(|received| panic!("unexpected {}", received.path));
        let end = rest(ask(&fake));
        assert_eq!(end, Ok(String::new()));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(fake))).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "unexpected /x");
    }

    #[test]
    fn what_is_no_request_is_refused_and_not_kept() {
        let fake = Fake::always(Reply::hang());
        let mut stream = TcpStream::connect(fake.address()).unwrap();
        stream.write_all(b"\x16\x03\x01\n").unwrap();
        assert!(rest(stream).unwrap().starts_with("HTTP/1.1 400 "));
        assert!(fake.requests().is_empty());
    }
}
