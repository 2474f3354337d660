//! The World: everything a script can perceive besides its own computation.
//!
//! It is the complete host side of WASI preview 1, as plain data: descriptors, a file tree in memory, streams, clocks
//! and randomness. It knows nothing of Wasmtime. Each of the 46 functions is a method that takes the guest's linear
//! memory as bytes and the guest's arguments as numbers, whatever they are.
//!
//! # Security
//! Together with WebAssembly itself this is what a script cannot get around. So nothing here is `unsafe`, panics, or
//! allocates by a size the script names without a cap of ours; and nothing here blocks: what has to wait says so, as
//! [`Progress::Wait`], and is called again.

#![forbid(unsafe_code)]

mod abi;
mod clock;
mod content;
mod descriptors;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod host;
mod output_buffers;
mod overlay;
mod paths;
mod poll;
mod price;
mod quota;
mod random;
mod startup;
mod streams;
#[cfg(test)]
mod tests;
mod touched;
mod tree;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use abi::Errno;
pub(crate) use clock::ClockConfig;
pub(crate) use content::Chunks;
pub(crate) use host::{HostGrant, HostKind, HostRoot, holds_files, leads_up};
pub(crate) use overlay::{Base, Difference, Found, Made, OverlayTarget, Stamp};
pub(crate) use quota::{Quotas, Refused};
pub(crate) use random::RandomConfig;
pub(crate) use startup::WorldError;
pub(crate) use streams::InputEnd;

use clock::{Clock, ClockId};
use descriptors::{Descriptor, Descriptors, Target};
use output_buffers::OutputBuffers;
use random::Random;
use startup::Strings;
use streams::{Input, Output};
use touched::Touched;
use tree::{NodeId, Spot, Tree, Where};

use crate::events::Meter;
use crate::stream::{OutputSink, Stdin};

/// What a World is made of.
pub(crate) struct WorldConfig {
    /// The command line; the first is the program's name. Together with `env` at most 1 MiB and 4096 entries.
    pub(crate) args: Vec<String>,
    /// Environment variables. A later entry of the same name wins.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) clock: ClockConfig,
    pub(crate) random: RandomConfig,
    pub(crate) stdin: Stdin,
    /// Receives output while it is written.
    pub(crate) sink: Option<Box<dyn OutputSink>>,
    /// Whether output is kept for [`WorldEnd`].
    pub(crate) capture: bool,
    pub(crate) quotas: Quotas,
    /// When the sink must return at the latest.
    pub(crate) deadline: Instant,
    /// Read-only files by absolute path. Directories on the way are made, writable only below a writable one.
    pub(crate) files: Vec<(String, Arc<[u8]>)>,
    /// Files and directories of the host, outer ones before those inside of them.
    pub(crate) grants: Vec<HostGrant>,
}

/// The state of one run's World.
pub(crate) struct World {
    args: Strings,
    env: Strings,
    clock: Clock,
    random: Random,
    input: Input,
    output: Output,
    /// Where the guest keeps [output buffers](output_buffers), if it has any.
    output_buffers: Option<OutputBuffers>,
    tree: Tree,
    descriptors: Descriptors,
    /// When the poll that waits now began. Its guest is suspended, so there is one at most.
    poll_began: Option<Instant>,
    touched: Touched,
}

/// What a turn of a session has for itself.
pub(crate) struct TurnConfig {
    /// Receives output while it is written.
    pub(crate) sink: Option<Box<dyn OutputSink>>,
    /// Whether output is kept for [`WorldEnd`].
    pub(crate) capture: bool,
    /// Bytes it may write to standard output and error together.
    pub(crate) output: u64,
    /// When the sink must return at the latest.
    pub(crate) deadline: Instant,
    /// How long all its virtual sleeps together may be.
    pub(crate) sleep_limit: Duration,
}

/// What is left of a World when its run is over.
#[derive(Debug)]
pub(crate) struct WorldEnd {
    /// What was written to descriptor 1, if it was captured.
    pub(crate) stdout: Vec<u8>,
    /// What was written to descriptor 2, if it was captured.
    pub(crate) stderr: Vec<u8>,
    /// Whether standard output was cut at the limit.
    pub(crate) stdout_truncated: bool,
    /// Whether standard error was cut at the limit.
    pub(crate) stderr_truncated: bool,
    /// Bytes written to both streams.
    pub(crate) output_bytes: u64,
    /// Bytes the script tried to write to both streams; more than `output_bytes` when they were cut.
    pub(crate) output_attempted: u64,
    /// Paths outside the folders every run has that the script opened or changed, or tried to; true if it was to change
    /// something. At most 64.
    pub(crate) touched: Vec<(String, bool)>,
    /// Files the script made, wrote or resized; each counts once.
    pub(crate) files_written: u64,
    /// Most files, directories and links of the script's at one time.
    pub(crate) files_peak: u64,
    /// Most descriptors open at one time.
    pub(crate) descriptors_peak: u64,
    /// What was asked for beyond quotas.
    pub(crate) refused: Refused,
    /// Bytes the script wrote to files, also those overwritten or removed since.
    pub(crate) bytes_written: u64,
    /// SHA-256 of what the script read of standard input.
    pub(crate) stdin_sha256: [u8; 32],
    /// Bytes the script read of standard input.
    pub(crate) stdin_bytes: u64,
    /// What the script was told of the end of standard input.
    pub(crate) stdin_end: InputEnd,
    /// Whether the script looked at a terminal, so that the run depends on real time.
    pub(crate) stdin_terminal_seen: bool,
    /// SHA-256 of what the script saw of files and directories of the host; `None` if it looked at nothing there.
    pub(crate) host_sha256: Option<[u8; 32]>,
    /// Most bytes of linear memory and of the file tree at one time, as far as the World saw.
    pub(crate) memory_peak: u64,
}

/// Why a call did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Returned to the guest as its number.
    Errno(Errno),
    /// The run ends here.
    Stop(Stop),
    /// There is more to do: call the same function with the same arguments again, if the run may go on.
    Again,
}

/// Why a run ends in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The script ended itself by `proc_exit`, with this code.
    Exit(u32),
    /// The output limit was passed; what fitted was kept and sent.
    Output,
    /// The sink takes no more.
    SinkClosed,
    /// The sink did not take it before the deadline.
    SinkTimedOut,
    /// The script's virtual sleeps are longer than the run may take.
    SleepPastLimit,
    /// The script sleeps past the end of time, with nothing else to wake it.
    WaitsForever,
    /// The host has no memory left for what the quotas allow: not the script's doing, so never its answer.
    HostMemory,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// How far a call that may wait has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// Call the same function with the same arguments after this.
    Wait(Wait),
}

/// What to wait for. Input that arrives is handed over by [`World::stdin_arrived`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A moment.
    Until(Instant),
    /// Standard input.
    Stdin,
    /// Standard input or a moment, whichever is first.
    StdinUntil(Instant),
}

impl World {
    /// The World a run starts with: `/script`, `/dev` and what `files` brings are read-only, `/home/script`, `/tmp`
    /// and `/out` are writable, descriptor 3 is the root.
    ///
    /// # Errors
    /// Arguments, variables or files that no script could be given.
    pub(crate) fn new(config: WorldConfig) -> Result<Self, WorldError> {
        let (args, env) = startup::strings(&config.args, &config.env)?;
        let clock = Clock::new(config.clock);
        let now = clock.file_time();
        let mut tree = Tree::new(config.quotas, now, clock.is_live());
        for (path, bytes) in config.files {
            tree.place_file(&path, bytes, now).map_err(|errno| WorldError::File { path, errno })?;
        }
        for grant in config.grants {
            let path = grant.guest.clone();
            tree.place_grant(grant, now).map_err(|errno| WorldError::Grant { path, errno })?;
        }
        Ok(Self {
            args,
            env,
            clock,
            random: Random::new(config.random),
            input: Input::new(config.stdin),
            output: Output::new(config.sink, config.capture, config.quotas.output, config.deadline),
            output_buffers: None,
            tree,
            descriptors: Descriptors::new(config.quotas.descriptors),
            poll_began: None,
            touched: Touched::default(),
        })
    }

    /// Says how much fuel the run has used: what virtual clocks and file times follow.
    pub(crate) fn set_moment(&mut self, fuel_used: u64) {
        self.clock.set_fuel(fuel_used);
    }

    /// Lets virtual clocks go on by real time that passed while the script waited for its host.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.clock.pass(time);
    }

    /// Counts bytes of a message that are copied and digested.
    pub(crate) fn count_message(&mut self, bytes: u64) {
        self.tree.ledger.spend(price::DIGESTED_BYTE.saturating_mul(bytes));
    }

    /// Counts the beginning of a call. What the call moves and looks through is counted in it.
    pub(crate) fn count_call(&mut self) {
        self.tree.ledger.spend(price::CALL);
    }

    /// Fuel that host calls cost so far; the same for the same calls, whatever time they took.
    pub(crate) fn fuel_spent(&self) -> u64 {
        self.tree.ledger.spent()
    }

    /// Says how large the guest's linear memory is, in bytes: files can hold what it leaves of the memory quota.
    pub(crate) fn set_linear_bytes(&mut self, bytes: u64) {
        self.tree.ledger.set_linear(bytes);
    }

    /// Sets how long all virtual sleeps together may be.
    pub(crate) fn set_sleep_limit(&mut self, limit: Duration) {
        self.clock.set_limit(limit);
    }

    /// Says whether standard input is a terminal: then a read returns what is there, whatever its time of arrival.
    pub(crate) fn set_stdin_terminal(&mut self, terminal: bool) {
        self.input.terminal = terminal;
    }

    /// Bytes that files, names and listings of the script hold of the memory quota.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.tree.ledger.held()
    }

    /// Virtual time slept so far.
    pub(crate) fn slept(&self) -> Duration {
        self.clock.slept()
    }

    /// The handle of [`Stdin::Host`], for the thread that reads it; `None` for other input and the second time.
    pub(crate) fn take_stdin_file(&mut self) -> Option<File> {
        self.input.take_file()
    }

    /// How many bytes of standard input the waiting call could use: at most 64 KiB, `None` if none is waiting or the
    /// input has ended.
    pub(crate) fn stdin_wanted(&self) -> Option<usize> {
        self.input.wanted()
    }

    /// Takes what was read of standard input: nothing means its end; an interrupted read is to be tried again; any
    /// other error is an I/O error for the script, once it has read what came before.
    pub(crate) fn stdin_arrived(&mut self, result: io::Result<&[u8]>) {
        self.input.arrived(result);
    }

    /// All regular files in memory below an absolute directory, with paths relative to it, sorted; nothing if there is no such
    /// directory.
    pub(crate) fn take_files(&mut self, dir: &str) -> Vec<(String, Arc<[u8]>)> {
        let relative = dir.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        match self.tree.resolve(&Spot::Node(tree::ROOT), relative, true) {
            Ok(Where::Memory(place)) => place.node.map(|node| self.tree.collect(node)).unwrap_or_default(),
            Ok(Where::Host(_)) | Err(_) => Vec::new(),
        }
    }

    /// All regular files of the script below `/out`, with paths relative to it, sorted, and the paths of those that do not
    /// fit: all together are at most `most` bytes, holes and each name of a file counted. With `take` the files are empty
    /// afterwards, and nothing is copied.
    pub(crate) fn artifacts(&mut self, most: u64, take: bool) -> (Vec<(String, Arc<Chunks>)>, Vec<String>) {
        let mut shared: HashMap<NodeId, Arc<Chunks>> = HashMap::new();
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        let mut room = most;
        for (path, node) in self.tree.written_below(tree::OUT) {
            let size = match shared.get(&node) {
                Some(bytes) => bytes.len(),
                None => self.tree.node(node).map_or(0, tree::Node::size),
            };
            let Some(rest) = room.checked_sub(size) else {
                left_out.push(path);
                continue;
            };
            room = rest;
            let bytes = shared.entry(node).or_insert_with(|| Arc::new(self.tree.bytes_of(node, take)));
            files.push((path, bytes.clone()));
        }
        (files, left_out)
    }

    /// What the script left below overlays that is not as the host had it: see [`Tree::changes`].
    pub(crate) fn changes(&mut self, most: u64, take: bool) -> Vec<Found> {
        self.tree.changes(most, take)
    }

    /// A change below an overlay was made on the host: see [`Tree::applied`].
    pub(crate) fn applied(&mut self, made: &Made<'_>) {
        self.tree.applied(made);
    }

    /// The same World again: what one does is not seen in the other, but for files of the host that they may write.
    pub(crate) fn fork(&self) -> Self {
        Self {
            args: self.args.clone(),
            env: self.env.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            input: self.input.fork(),
            output: Output::new(None, false, 0, Instant::now()),
            output_buffers: self.output_buffers,
            tree: self.tree.clone(),
            descriptors: self.descriptors.clone(),
            poll_began: None,
            touched: self.touched.clone(),
        }
    }

    /// Begins another turn of a session: output is counted and kept anew, and the clock goes on from where the last turn
    /// left it, whose fuel is no longer the store's.
    pub(crate) fn begin_turn(&mut self, turn: TurnConfig) {
        let TurnConfig { sink, capture, output, deadline, sleep_limit } = turn;
        self.output = Output::new(sink, capture, output, deadline);
        self.clock.begin_turn(sleep_limit);
        self.poll_began = None;
    }

    /// Tells a meter what was used so far.
    pub(crate) fn tell_usage(&self, meter: &Meter) {
        let ledger = &self.tree.ledger;
        meter.memory_peak.fetch_max(ledger.peak(), Ordering::Relaxed);
        for (meter, used) in [
            (&meter.output_bytes, self.output.written()),
            (&meter.files_written, ledger.files_written()),
            (&meter.bytes_written, ledger.bytes_written()),
            (&meter.files_peak, ledger.names_peak()),
            (&meter.descriptors_peak, self.descriptors.peak()),
        ] {
            meter.store(used, Ordering::Relaxed);
        }
    }

    /// Ends a run, or a turn, and tells what happened in it; output is taken away. Files and descriptors are counted since
    /// the World began.
    pub(crate) fn finish(&mut self) -> WorldEnd {
        let (output_bytes, output_attempted) = (self.output.written(), self.output.attempted());
        let (stdout, stderr) = self.output.take_captured();
        WorldEnd {
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            stdout_truncated: stdout.truncated,
            stderr_truncated: stderr.truncated,
            output_bytes,
            output_attempted,
            touched: std::mem::take(&mut self.touched).into_paths(),
            files_written: self.tree.ledger.files_written(),
            files_peak: self.tree.ledger.names_peak(),
            descriptors_peak: self.descriptors.peak(),
            refused: self.tree.ledger.refused(),
            bytes_written: self.tree.ledger.bytes_written(),
            stdin_bytes: self.input.consumed(),
            stdin_end: self.input.end(),
            stdin_terminal_seen: self.input.saw_terminal(),
            memory_peak: self.tree.ledger.peak(),
            host_sha256: self.tree.hosts.digest(),
            stdin_sha256: self.input.digest(),
        }
    }

    /// Whether input is handed out as it comes: real time and terminals make no promise to be repeatable.
    fn input_is_loose(&self) -> bool {
        self.input.terminal || self.clock.is_live()
    }

    /// Lets go of what a descriptor referred to.
    fn dispose(&mut self, descriptor: Descriptor) {
        if let Some(listing) = descriptor.listing {
            self.tree.drop_listing(listing);
        }
        match descriptor.target {
            Target::Input | Target::Output(_) => {}
            Target::Node(node) => self.tree.close(node),
            Target::Host(id) => self.tree.hosts.close(id),
        }
    }
}

/// Clocks, randomness and the process.
impl World {
    pub(crate) fn clock_res_get(&mut self, mem: &mut [u8], id: u32, resolution: u32) -> Result<(), Fault> {
        ClockId::new(id)?;
        Ok(abi::write_u64(mem, resolution, 1)?)
    }

    /// `precision` is a wish only; clocks are always exact.
    pub(crate) fn clock_time_get(&mut self, mem: &mut [u8], id: u32, _precision: u64, time: u32) -> Result<(), Fault> {
        Ok(abi::write_u64(mem, time, self.clock.now(ClockId::new(id)?))?)
    }

    /// At most [`MAX_RANDOM_BYTES`](random::MAX_RANDOM_BYTES) a call; more is [`Errno::Inval`].
    pub(crate) fn random_get(&mut self, mem: &mut [u8], buf: u32, buf_len: u32) -> Result<(), Fault> {
        if buf_len > random::MAX_RANDOM_BYTES {
            return Err(Errno::Inval.into());
        }
        let place = abi::slice_mut(mem, buf, buf_len)?;
        self.tree.ledger.spend(price::DIGESTED_BYTE.saturating_mul(u64::from(buf_len)));
        Ok(self.random.fill(place)?)
    }

    /// Of the code, eight bits count, as on Unix.
    pub(crate) fn proc_exit(&mut self, _mem: &mut [u8], code: u32) -> Result<(), Fault> {
        Err(Stop::Exit(code & 0xff).into())
    }

    /// There are no signals.
    pub(crate) fn proc_raise(&mut self, _mem: &mut [u8], _signal: u32) -> Result<(), Fault> {
        Err(Errno::Notsup.into())
    }

    /// There is nobody to yield to.
    pub(crate) fn sched_yield(&mut self, _mem: &mut [u8]) -> Result<(), Fault> {
        Ok(())
    }
}

/// Sockets. There are none, so every descriptor is the wrong kind.
impl World {
    fn no_socket(&self, fd: u32) -> Result<(), Fault> {
        self.descriptors.get(fd)?;
        Err(Errno::Notsock.into())
    }

    pub(crate) fn sock_accept(&mut self, _mem: &mut [u8], fd: u32, _flags: u32, _opened: u32) -> Result<(), Fault> {
        self.no_socket(fd)
    }

    #[expect(clippy::too_many_arguments, reason = "they are those of the specification")]
    pub(crate) fn sock_recv(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        _iovs: u32,
        _iovs_len: u32,
        _flags: u32,
        _received: u32,
        _received_flags: u32,
    ) -> Result<(), Fault> {
        self.no_socket(fd)
    }

    pub(crate) fn sock_send(
        &mut self,
        _mem: &mut [u8],
        fd: u32,
        _iovs: u32,
        _iovs_len: u32,
        _flags: u32,
        _sent: u32,
    ) -> Result<(), Fault> {
        self.no_socket(fd)
    }

    pub(crate) fn sock_shutdown(&mut self, _mem: &mut [u8], fd: u32, _how: u32) -> Result<(), Fault> {
        self.no_socket(fd)
    }
}
