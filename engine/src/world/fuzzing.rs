//! Bodies of the fuzz targets `world`, `world_host` and `differential` (see `fuzz/README.md`).
//!
//! A guest whose every argument comes from the input: which of the 46 functions, descriptors, pointers, flags, paths,
//! what lies in memory, and what arrives on standard input.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::{Arbitrary, Unstructured};
use cap_std::fs::Dir;

use super::*;
use crate::grant::Access;
use crate::stream::Stream;

/// Bytes of the guest's memory.
const MEMORY: usize = 16 << 10;
/// Where the driver puts lists and paths: a call that overwrites them harms nobody but itself.
const LISTS: usize = 8 << 10;
const PATHS: usize = 12 << 10;
/// Most calls of one input.
const MAX_CALLS: usize = 300;
const EPOCH: u64 = 1_700_000_000_000_000_000;
const ARGS: [&str; 2] = ["a", "bc"];
const QUOTAS: Quotas = Quotas { output: 20_000, bytes_written: 300_000, files: 20, descriptors: 12, memory: 200_000 };

/// What one argument, or a pair of them, is.
#[derive(Clone, Copy)]
enum Kind {
    Fd,
    /// Flags, of which those up to the number are known.
    Flags(u32),
    Long,
    Rights,
    /// Pointer and length of a path.
    Path,
    /// Pointer and length of a list of ranges the call writes to.
    Reads,
    /// Pointer and length of a list of ranges the call reads.
    Writes,
    /// Pointer to a result of so many bytes.
    Out(u64),
    /// Pointer and length of a buffer the call fills.
    Buffer,
    /// Subscriptions, events and their number.
    Poll,
}

use Kind::{Buffer, Fd, Flags, Long, Out, Path as At, Poll, Reads, Rights, Writes};

/// All functions with their parameters.
const FUNCTIONS: [(&str, &[Kind]); 46] = [
    ("args_get", &[Out(8), Out(5)]),
    ("args_sizes_get", &[Out(4), Out(4)]),
    ("environ_get", &[Out(4), Out(4)]),
    ("environ_sizes_get", &[Out(4), Out(4)]),
    ("clock_res_get", &[Flags(3), Out(8)]),
    ("clock_time_get", &[Flags(3), Long, Out(8)]),
    ("fd_advise", &[Fd, Long, Long, Flags(5)]),
    ("fd_allocate", &[Fd, Long, Long]),
    ("fd_close", &[Fd]),
    ("fd_datasync", &[Fd]),
    ("fd_fdstat_get", &[Fd, Out(24)]),
    ("fd_fdstat_set_flags", &[Fd, Flags(5)]),
    ("fd_fdstat_set_rights", &[Fd, Rights, Rights]),
    ("fd_filestat_get", &[Fd, Out(64)]),
    ("fd_filestat_set_size", &[Fd, Long]),
    ("fd_filestat_set_times", &[Fd, Long, Long, Flags(15)]),
    ("fd_pread", &[Fd, Reads, Long, Out(4)]),
    ("fd_prestat_get", &[Fd, Out(8)]),
    ("fd_prestat_dir_name", &[Fd, Buffer]),
    ("fd_pwrite", &[Fd, Writes, Long, Out(4)]),
    ("fd_read", &[Fd, Reads, Out(4)]),
    ("fd_readdir", &[Fd, Buffer, Long, Out(4)]),
    ("fd_renumber", &[Fd, Fd]),
    ("fd_seek", &[Fd, Long, Flags(2), Out(8)]),
    ("fd_sync", &[Fd]),
    ("fd_tell", &[Fd, Out(8)]),
    ("fd_write", &[Fd, Writes, Out(4)]),
    ("path_create_directory", &[Fd, At]),
    ("path_filestat_get", &[Fd, Flags(1), At, Out(64)]),
    ("path_filestat_set_times", &[Fd, Flags(1), At, Long, Long, Flags(15)]),
    ("path_link", &[Fd, Flags(1), At, Fd, At]),
    ("path_open", &[Fd, Flags(1), At, Flags(15), Rights, Rights, Flags(1), Out(4)]),
    ("path_readlink", &[Fd, At, Buffer, Out(4)]),
    ("path_remove_directory", &[Fd, At]),
    ("path_rename", &[Fd, At, Fd, At]),
    ("path_symlink", &[At, Fd, At]),
    ("path_unlink_file", &[Fd, At]),
    ("poll_oneoff", &[Poll, Out(4)]),
    ("proc_exit", &[Flags(255)]),
    ("proc_raise", &[Flags(30)]),
    ("random_get", &[Buffer]),
    ("sched_yield", &[]),
    ("sock_accept", &[Fd, Flags(4), Out(4)]),
    ("sock_recv", &[Fd, Reads, Flags(3), Out(4), Out(2)]),
    ("sock_send", &[Fd, Writes, Flags(0), Out(4)]),
    ("sock_shutdown", &[Fd, Flags(3)]),
];

/// `fd_close`, `fd_fdstat_set_rights`, `fd_renumber`.
const DISARMING: [usize; 3] = [8, 12, 22];

/// Arguments of one call, as WebAssembly passes them.
type Arguments = [u64; 10];

/// Calls one function of [`FUNCTIONS`].
fn call(world: &mut World, mem: &mut [u8], function: usize, arguments: &Arguments) -> Result<Progress, Fault> {
    let l = arguments;
    let [a, b, c, d, e, f, g, h, i, _] = arguments.map(|argument| argument as u32);
    match function {
        0 => world.args_get(mem, a, b),
        1 => world.args_sizes_get(mem, a, b),
        2 => world.environ_get(mem, a, b),
        3 => world.environ_sizes_get(mem, a, b),
        4 => world.clock_res_get(mem, a, b),
        5 => world.clock_time_get(mem, a, l[1], c),
        6 => world.fd_advise(mem, a, l[1], l[2], d),
        7 => world.fd_allocate(mem, a, l[1], l[2]),
        8 => world.fd_close(mem, a),
        9 => world.fd_datasync(mem, a),
        10 => world.fd_fdstat_get(mem, a, b),
        11 => world.fd_fdstat_set_flags(mem, a, b),
        12 => world.fd_fdstat_set_rights(mem, a, l[1], l[2]),
        13 => world.fd_filestat_get(mem, a, b),
        14 => world.fd_filestat_set_size(mem, a, l[1]),
        15 => world.fd_filestat_set_times(mem, a, l[1], l[2], d),
        16 => world.fd_pread(mem, a, b, c, l[3], e),
        17 => world.fd_prestat_get(mem, a, b),
        18 => world.fd_prestat_dir_name(mem, a, b, c),
        19 => world.fd_pwrite(mem, a, b, c, l[3], e),
        20 => return world.fd_read(mem, a, b, c, d),
        21 => world.fd_readdir(mem, a, b, c, l[3], e),
        22 => world.fd_renumber(mem, a, b),
        23 => world.fd_seek(mem, a, l[1].cast_signed(), c, d),
        24 => world.fd_sync(mem, a),
        25 => world.fd_tell(mem, a, b),
        26 => world.fd_write(mem, a, b, c, d),
        27 => world.path_create_directory(mem, a, b, c),
        28 => world.path_filestat_get(mem, a, b, c, d, e),
        29 => world.path_filestat_set_times(mem, a, b, c, d, l[4], l[5], g),
        30 => world.path_link(mem, a, b, c, d, e, f, g),
        31 => world.path_open(mem, a, b, c, d, e, l[5], l[6], h, i),
        32 => world.path_readlink(mem, a, b, c, d, e, f),
        33 => world.path_remove_directory(mem, a, b, c),
        34 => world.path_rename(mem, a, b, c, d, e, f),
        35 => world.path_symlink(mem, a, b, c, d, e),
        36 => world.path_unlink_file(mem, a, b, c),
        37 => return world.poll_oneoff(mem, a, b, c, d),
        38 => world.proc_exit(mem, a),
        39 => world.proc_raise(mem, a),
        40 => world.random_get(mem, a, b),
        41 => world.sched_yield(mem),
        42 => world.sock_accept(mem, a, b, c),
        43 => world.sock_recv(mem, a, b, c, d, e, f),
        44 => world.sock_send(mem, a, b, c, d, e),
        _ => world.sock_shutdown(mem, a, b),
    }?;
    Ok(Progress::Done)
}

/// How often each function succeeded; tests look whether the driver gets anywhere.
pub(crate) type Reached = [u64; FUNCTIONS.len()];

/// What a script of the input left.
struct Left {
    /// The answers and all else the script and the caller could see.
    seen: String,
    reached: Reached,
}

/// A guest that does what the input says.
struct Driver<'a> {
    input: Unstructured<'a>,
    mem: Vec<u8>,
    /// What the next call may write to: start and length, wherever they are.
    allowed: Vec<(u64, u64)>,
    next_path: usize,
    /// Whether there are folders of the host.
    host: bool,
}

impl<'a> Driver<'a> {
    /// The next number of the input, and zero behind its end.
    fn take<T: Arbitrary<'a> + Default>(&mut self) -> T {
        self.input.arbitrary().unwrap_or_default()
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::from(self.take::<u8>()) % bound
    }

    /// A number of 32 bits: anything, an edge, or small.
    fn word(&mut self) -> u32 {
        match self.below(8) {
            0 => self.take(),
            1 => u32::MAX - self.below(64),
            2 => MEMORY as u32 - self.below(64),
            3 => 1 << self.below(32),
            _ => self.below(256),
        }
    }

    fn long(&mut self) -> u64 {
        match self.below(8) {
            0 => self.take(),
            1 => u64::MAX - u64::from(self.below(64)),
            2 => 1 << self.below(64),
            3 => u64::from(self.take::<u32>()),
            4 | 5 => u64::from(self.take::<u16>()),
            _ => u64::from(self.below(256)),
        }
    }

    fn pointer(&mut self) -> u32 {
        if self.below(16) == 0 { self.word() } else { u32::from(self.take::<u16>()) % LISTS as u32 }
    }

    /// A descriptor: mostly the root if there is a path to go with it, or else what was opened.
    fn fd(&mut self, with_path: bool) -> u32 {
        match self.below(16) {
            0 => self.word(),
            1..12 if with_path => 3,
            1..9 => 4 + self.below(3),
            _ => self.below(QUOTAS.descriptors as u32 + 1),
        }
    }

    fn rights(&mut self) -> u64 {
        match self.below(8) {
            0 => self.take(),
            1 => abi::rights::FD_READ,
            2 => abi::rights::FD_WRITE,
            3 => abi::rights::DIRECTORY | abi::rights::FILE,
            _ => abi::rights::FD_READ | abi::rights::FD_WRITE,
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = MEMORY.min(at.saturating_add(bytes.len()));
        if at < end {
            self.mem[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }

    /// A path: of names that mean something, of any bytes, or any pointer and length.
    fn path(&mut self) -> (u32, u32) {
        const NAMES: [&str; 24] = [
            "a", "b", "c", "d", ".", "..", "tmp", "out", "dev", "null", "zero", "stdout", "script", "home", "", "ro",
            "rw", "keep", "file", "sub", "away", "far", "\u{e4}", "main.py",
        ];
        const KNOWN: [&str; 8] = ["tmp/a", "tmp/b", "tmp/c", "tmp/d", "tmp/d/a", "out/a", "out/d", "dev/zero"];
        const KNOWN_ON_HOST: [&str; 8] =
            ["rw/file", "rw/a", "rw/d", "rw/d/a", "rw/sub", "rw/keep/file", "ro/file", "rw/away/file"];
        let known = if self.host { KNOWN_ON_HOST } else { KNOWN };
        let mut path = Vec::new();
        match self.below(64) {
            16.. => path.extend_from_slice(known[self.below(8) as usize].as_bytes()),
            0 => return (self.word(), self.word()),
            1 => {
                let count = self.below(80) as usize;
                path.extend((0..count).map(|_| self.take::<u8>()));
            }
            2 => {
                let name = NAMES[self.below(NAMES.len() as u32) as usize];
                path.extend_from_slice(name.repeat(self.below(256) as usize).as_bytes());
            }
            kind => {
                for index in 0..=kind % 4 {
                    if index > 0 {
                        path.push(b'/');
                    }
                    path.extend_from_slice(NAMES[self.below(NAMES.len() as u32) as usize].as_bytes());
                }
            }
        }
        let at = PATHS + self.next_path;
        self.next_path = 1 << 11;
        self.put(at, &path);
        (at as u32, path.len() as u32)
    }

    fn list(&mut self, written: bool) -> (u32, u32) {
        let (at, count) = if self.below(16) == 0 {
            (self.word(), self.word())
        } else {
            let at = LISTS;
            let count = self.below(5);
            for index in 0..count as usize {
                let start = self.pointer();
                let len = if self.below(16) == 0 { self.word() } else { u32::from(self.take::<u16>()) % 3000 };
                self.put(at + index * 8, &start.to_le_bytes());
                self.put(at + index * 8 + 4, &len.to_le_bytes());
            }
            (at as u32, count)
        };
        if written {
            for index in 0..count.min(abi::MAX_IOVECS) {
                let at = u64::from(at) + u64::from(index) * 8;
                let Ok(at) = u32::try_from(at) else { break };
                let (Ok(start), Ok(len)) =
                    (abi::read_u32(&self.mem, at), abi::read_u32(&self.mem, at.saturating_add(4)))
                else {
                    break;
                };
                self.allowed.push((start.into(), len.into()));
            }
        }
        (at, count)
    }

    fn subscriptions(&mut self) -> (u32, u32, u32) {
        let events = self.pointer();
        let (at, count) = if self.below(16) == 0 {
            (self.word(), self.word())
        } else {
            let at = LISTS + (1 << 10);
            let count = self.below(4);
            for index in 0..count as usize {
                let mut bytes = [0; 48];
                bytes[0] = self.take();
                bytes[8] = self.below(4) as u8;
                bytes[16..20].copy_from_slice(&self.below(5).to_le_bytes());
                bytes[24..32].copy_from_slice(&self.long().to_le_bytes());
                bytes[40] = self.below(3) as u8;
                self.put(at + index * 48, &bytes);
            }
            (at as u32, count)
        };
        self.allowed.push((events.into(), u64::from(count) * u64::from(abi::EVENT_BYTES)));
        (at, events, count)
    }

    /// Arguments for a function, with what they point to; notes what it may write to.
    fn arguments(&mut self, kinds: &[Kind]) -> Arguments {
        self.allowed.clear();
        self.next_path = 0;
        let with_path = kinds.iter().any(|kind| matches!(kind, At));
        let mut arguments = [0; 10];
        let mut next = 0;
        let mut push = |word: u64| {
            arguments[next] = word;
            next += 1;
        };
        for kind in kinds {
            match *kind {
                Fd => push(self.fd(with_path).into()),
                Flags(known) => {
                    let flags = if self.below(16) == 0 { self.word() } else { self.below(known + 1) };
                    push(flags.into());
                }
                Long => push(self.long()),
                Rights => push(self.rights()),
                At => {
                    let (pointer, len) = self.path();
                    push(pointer.into());
                    push(len.into());
                }
                Reads | Writes => {
                    let (pointer, count) = self.list(matches!(kind, Reads));
                    push(pointer.into());
                    push(count.into());
                }
                Out(bytes) => {
                    let pointer = self.pointer();
                    self.allowed.push((pointer.into(), bytes));
                    push(pointer.into());
                }
                Buffer => {
                    let (pointer, len) = (self.pointer(), self.word());
                    self.allowed.push((pointer.into(), len.into()));
                    push(pointer.into());
                    push(len.into());
                }
                Poll => {
                    let (subscriptions, events, count) = self.subscriptions();
                    push(subscriptions.into());
                    push(events.into());
                    push(count.into());
                }
            }
        }
        arguments
    }

    /// Checks that nothing was written but what may be.
    fn check_written(&self, before: &mut [u8], what: &str) {
        for (start, len) in &self.allowed {
            let start = (*start).min(MEMORY as u64) as usize;
            let end = (start as u64).saturating_add(*len).min(MEMORY as u64) as usize;
            before[start..end].copy_from_slice(&self.mem[start..end]);
        }
        assert!(before == self.mem, "{what} wrote where it must not");
    }

    /// Checks that the secret is not where the call may have written.
    fn check_secret(&self, secret: &[u8], what: &str) {
        for (start, len) in &self.allowed {
            let start = (*start).min(MEMORY as u64) as usize;
            let end = (start as u64).saturating_add(*len).min(MEMORY as u64) as usize;
            let found = self.mem[start..end].windows(8).any(|bytes| bytes == &secret[..8]);
            assert!(!found, "{what} read what is outside");
        }
    }

    /// Lets input arrive that a call waits for.
    fn arrive(&mut self, world: &mut World) {
        let Some(wanted) = world.stdin_wanted() else { return };
        assert!(wanted <= 64 << 10);
        match self.below(8) {
            0 => world.stdin_arrived(Err(io::ErrorKind::Interrupted.into())),
            1 => world.stdin_arrived(Err(io::ErrorKind::BrokenPipe.into())),
            2 => world.stdin_arrived(Ok(&[])),
            _ => {
                let byte = if self.take() { b'\n' } else { b'x' };
                let count = usize::from(self.take::<u16>()) % wanted.saturating_add(1);
                world.stdin_arrived(Ok(&vec![byte; count]));
            }
        }
    }
}

/// What must hold at any time.
fn check_quotas(world: &World, spent: u64) {
    let ledger = &world.tree.ledger;
    assert!(ledger.held().saturating_add(MEMORY as u64) <= QUOTAS.memory, "memory");
    assert!(ledger.names() <= QUOTAS.files, "names");
    assert!(ledger.bytes_written() <= QUOTAS.bytes_written, "bytes written");
    assert!(world.output.written() <= QUOTAS.output, "output");
    assert!(ledger.spent() >= spent, "fuel comes back");
    let descriptors = QUOTAS.descriptors as u32;
    for fd in [descriptors, descriptors + 1, 64, u32::MAX] {
        assert!(world.descriptors.get(fd).is_err(), "descriptors");
    }
}

/// Opens descriptors 4, 5 and 6, so that calls on files have something to do.
fn open_some(world: &mut World, mem: &mut [u8], paths: [&str; 3]) {
    for path in paths {
        let (at, len, told) = (PATHS as u32, path.len() as u32, LISTS as u32);
        mem[PATHS..PATHS + path.len()].copy_from_slice(path.as_bytes());
        let rights = abi::rights::FD_READ | abi::rights::FD_WRITE;
        for (flags, base) in [(abi::oflags::CREATE, rights), (0, abi::rights::FD_READ), (abi::oflags::DIRECTORY, 0)] {
            if world.path_open(mem, 3, 1, at, len, flags.into(), base, 0, 0, told).is_ok() {
                break;
            }
        }
    }
    mem.fill(0);
}

/// Runs a script of the input; with a secret, looks for it in memory after each call.
fn run(input: &[u8], grants: Vec<HostGrant>, secret: Option<&[u8]>) -> Left {
    let mut driver = Driver {
        input: Unstructured::new(input),
        mem: vec![0; MEMORY],
        allowed: Vec::new(),
        next_path: 0,
        host: secret.is_some(),
    };
    let setting: u8 = driver.take();
    // Real time has no place where a second run must be the same.
    let live = setting & 0b1100_0000 == 0b1000_0000 && secret.is_none();
    let repeatable = !live && setting & 4 == 0;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let sink = move |_: Stream, bytes: &[u8]| {
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    };
    let config = WorldConfig {
        args: ARGS.map(str::to_owned).to_vec(),
        env: vec![("A".into(), "1".into())],
        clock: if live { ClockConfig::Live } else { ClockConfig::Virtual { epoch_nanos: EPOCH } },
        random: RandomConfig::Seeded(7),
        stdin: match setting & 3 {
            0 => Stdin::Closed,
            1 => "one line\nand another".into(),
            _ => File::open("/dev/null").map_or(Stdin::Closed, Stdin::Host),
        },
        sink: Some(Box::new(sink)),
        capture: true,
        quotas: QUOTAS,
        deadline: Instant::now(),
        files: vec![("/script/main.py".into(), b"print(1)".as_slice().into())],
        grants,
    };
    let mut world = match World::new(config) {
        Ok(world) => world,
        Err(error) => panic!("{error}"),
    };
    world.set_linear_bytes(MEMORY as u64);
    world.set_stdin_terminal(setting & 4 != 0);
    if setting & 8 != 0 {
        world.set_sleep_limit(Duration::from_secs(5));
    }
    if setting & 16 != 0 {
        let records = driver.pointer();
        world.set_output_buffers(&driver.mem, records);
    }
    if setting & 64 == 0 {
        open_some(
            &mut world,
            &mut driver.mem,
            if driver.host { ["rw/file", "rw", "ro/file"] } else { ["tmp/a", "tmp", "tmp/b"] },
        );
    }
    let mut left = Left { seen: String::new(), reached: [0; FUNCTIONS.len()] };
    for moment in 0..MAX_CALLS {
        if driver.input.is_empty() {
            break;
        }
        let index = usize::from(driver.take::<u8>()) % (FUNCTIONS.len() + 3);
        // What takes descriptors or their rights away is not done as often as the rest.
        if DISARMING.contains(&index) && driver.below(4) > 0 {
            continue;
        }
        let (name, kinds) = FUNCTIONS.get(index).copied().unwrap_or_default();
        let arguments = driver.arguments(kinds);
        if name.is_empty() {
            // Memory changes by itself, too.
            let (at, bytes) = (driver.pointer(), driver.take::<[u8; 16]>());
            driver.put(at as usize, &bytes);
        }
        let mut before = driver.mem.clone();
        let spent = world.fuel_spent();
        world.set_moment((moment as u64).saturating_mul(1000));
        world.count_call();
        // As the linker does it before each call.
        if let Some(buffers) = world.output_buffers {
            let records = u64::from(buffers.records);
            driver.allowed.extend([(records, 8), (records + 12, 8)]);
            // What these calls do to descriptors is told in the table.
            if ["fd_close", "fd_renumber", "path_open"].contains(&name) {
                driver.allowed.push((buffers.table.into(), buffers.descriptors.into()));
            }
        }
        let taken = world.take_output(&mut driver.mem);
        assert!(!matches!(taken, Err(Fault::Errno(_))), "output that waits is no error of the call: {taken:?}");
        if taken.is_err() {
            break;
        }
        if name.is_empty() {
            continue;
        }
        let mut result = call(&mut world, &mut driver.mem, index, &arguments);
        let mut tries = 0;
        while let Err(Fault::Again) = result {
            result = call(&mut world, &mut driver.mem, index, &arguments);
        }
        while let Ok(Progress::Wait(Wait::Stdin | Wait::StdinUntil(_))) = result
            && tries < 3
        {
            driver.arrive(&mut world);
            result = call(&mut world, &mut driver.mem, index, &arguments);
            tries += 1;
        }
        driver.check_written(&mut before, name);
        check_quotas(&world, spent);
        if let Some(secret) = secret {
            driver.check_secret(secret, name);
        }
        left.seen.push_str(&format!("{name} {result:?}\n"));
        match result {
            Ok(Progress::Done) => left.reached[index] += 1,
            Err(Fault::Errno(_) | Fault::Stop(Stop::Exit(_))) => {}
            // The run ends here, or waits for longer than a test may.
            Ok(Progress::Wait(_)) | Err(Fault::Stop(_) | Fault::Again) => break,
        }
    }
    world.tree.check();
    let _ = world.take_files("/out");
    let changes = world.changes(QUOTAS.bytes_written, false);
    assert!(
        changes.iter().filter_map(|change| change.bytes.as_ref()).map(|it| it.len()).sum::<u64>()
            <= QUOTAS.bytes_written
    );
    for fd in 0..QUOTAS.descriptors as u32 {
        if let Ok(descriptor) = world.descriptors.remove(fd) {
            world.dispose(descriptor);
        }
    }
    world.tree.check();
    if secret.is_none() {
        world.tree.clear();
        assert_eq!((world.held_bytes(), world.tree.ledger.names()), (0, 0), "something is still held");
    }
    let end = world.finish();
    assert_eq!((end.stdout.len() + end.stderr.len()) as u64, end.output_bytes);
    assert_eq!(sent.load(Ordering::Relaxed), end.output_bytes);
    assert!(end.memory_peak <= QUOTAS.memory);
    left.seen = if repeatable { format!("{}{end:?}{:?}", left.seen, driver.mem) } else { String::new() };
    left
}

/// Body of `world`: any calls on a World of its own. What must hold after each is checked, and that a second run is
/// the same.
pub(crate) fn calls(input: &[u8]) -> Reached {
    let first = run(input, Vec::new(), None);
    if input.first().is_some_and(|setting| setting & 32 != 0) {
        assert!(first.seen == run(input, Vec::new(), None).seen, "a second run differs");
    }
    first.reached
}

/// Folders of the host for [`calls_on_host`]: `ro` is granted for reading, `rw` for writing, `rw/keep` for reading;
/// `outside` must not be seen.
pub(crate) struct Ground {
    dir: PathBuf,
    secret: Vec<u8>,
    kept: [Vec<String>; 3],
}

impl Ground {
    /// Makes the folders in an empty one.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        let mut random = Random::new(RandomConfig::System);
        let mut secret = vec![0; 32];
        random.fill(&mut secret).map_err(|_| io::ErrorKind::Other)?;
        let mut ground = Self { dir: dir.to_path_buf(), secret, kept: Default::default() };
        fs::create_dir_all(dir.join("outside/sub"))?;
        fs::write(dir.join("outside/file"), &ground.secret)?;
        fs::write(dir.join("outside/sub/a"), &ground.secret)?;
        fs::create_dir_all(dir.join("ro/sub"))?;
        fs::write(dir.join("ro/file"), "for reading")?;
        fs::write(dir.join("ro/sub/a"), "below")?;
        symlink("../outside", dir.join("ro/away"))?;
        symlink(dir.join("outside/file"), dir.join("ro/far"))?;
        ground.refresh()?;
        ground.kept = ground.now();
        Ok(ground)
    }

    /// Makes what is granted for writing as it was in the beginning.
    fn refresh(&self) -> io::Result<()> {
        let rw = self.dir.join("rw");
        if rw.exists() {
            fs::remove_dir_all(&rw)?;
        }
        fs::create_dir_all(rw.join("keep/sub"))?;
        fs::create_dir(rw.join("sub"))?;
        fs::write(rw.join("keep/file"), "kept")?;
        fs::write(rw.join("file"), "for writing")?;
        symlink("../outside", rw.join("away"))?;
        symlink(self.dir.join("outside/file"), rw.join("far"))?;
        symlink("../keep/file", rw.join("sub/c"))?;
        symlink("../keep", rw.join("sub/d"))
    }

    /// With `rw` as told.
    fn grants(&self, rw: Access) -> io::Result<Vec<HostGrant>> {
        let grant = |host: &str, guest: &str, access| {
            let root = HostRoot::Directory(Dir::from_std_file(File::open(self.dir.join(host))?));
            io::Result::Ok(HostGrant { guest: guest.into(), access, root, place: None })
        };
        Ok(vec![
            grant("ro", "/ro", Access::Read)?,
            grant("rw", "/rw", rw)?,
            grant("rw/keep", "/rw/keep", Access::Read)?,
        ])
    }

    /// All that must stay as it is.
    fn now(&self) -> [Vec<String>; 3] {
        ["outside", "ro", "rw/keep"].map(|name| {
            let mut seen = Vec::new();
            // The last is made anew each time.
            look(&self.dir.join(name), name != "rw/keep", &mut seen);
            seen.sort();
            seen
        })
    }
}

/// Describes everything below a folder.
fn look(folder: &Path, times: bool, seen: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return seen.push(format!("{} is no folder", folder.display())) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let changed = times.then(|| (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.ino()));
        let content = if meta.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let target = fs::read_link(&path).unwrap_or_default();
        seen.push(format!("{} {:o} {changed:?} {content:?} {}", path.display(), meta.mode(), target.display()));
        if meta.is_dir() {
            look(&path, times, seen);
        }
    }
}

/// Nothing a script makes can be executed, nor gives somebody rights.
fn check_modes(folder: &Path, bytes: &mut u64) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            check_modes(&path, bytes);
        } else if meta.is_file() {
            assert_eq!(meta.permissions().mode() & 0o7111, 0, "{}", path.display());
            *bytes += meta.len();
        }
    }
}

/// Body of `world_host`: as [`calls`], with folders of the host by grant. What is outside or granted for reading must
/// stay as it is, and no byte of what is outside must come to the guest. Then the same once more with an overlay: all must
/// stay as it is.
pub(crate) fn calls_on_host(ground: &Ground, input: &[u8]) -> io::Result<Reached> {
    ground.refresh()?;
    let left = run(input, ground.grants(Access::Write)?, Some(&ground.secret));
    assert_eq!(ground.kept, ground.now());
    let mut bytes = 0;
    check_modes(&ground.dir.join("rw"), &mut bytes);
    assert!(bytes <= QUOTAS.bytes_written + 64, "{bytes} bytes on the host");
    ground.refresh()?;
    let below = |ground: &Ground| {
        let mut seen = Vec::new();
        look(&ground.dir.join("rw"), true, &mut seen);
        seen.sort();
        seen
    };
    let before = below(ground);
    run(input, ground.grants(Access::Overlay)?, Some(&ground.secret));
    assert_eq!((&ground.kept, before), (&ground.now(), below(ground)));
    Ok(left.reached)
}

/// A guest for comparisons: calls by the names of the specification, with a World that has a lot of everything.
pub struct Guest {
    world: World,
    /// Its linear memory.
    pub mem: Vec<u8>,
}

impl Guest {
    /// A guest with so many bytes of memory. Descriptor 3 is the root; `/tmp` is writable.
    #[must_use]
    pub fn new(memory: usize) -> Self {
        let config = WorldConfig {
            args: Vec::new(),
            env: Vec::new(),
            clock: ClockConfig::Virtual { epoch_nanos: EPOCH },
            random: RandomConfig::Seeded(7),
            stdin: Stdin::Closed,
            sink: None,
            capture: false,
            quotas: Quotas { output: 0, bytes_written: 1 << 40, files: 10_000, descriptors: 1000, memory: 1 << 30 },
            deadline: Instant::now(),
            files: Vec::new(),
            grants: Vec::new(),
        };
        match World::new(config) {
            Ok(world) => Self { world, mem: vec![0; memory] },
            Err(error) => panic!("{error}"),
        }
    }

    /// Calls a function; the answer is its errno.
    pub fn call(&mut self, name: &str, arguments: &[u64]) -> u16 {
        let mut all = [0; 10];
        all.iter_mut().zip(arguments).for_each(|(place, argument)| *place = *argument);
        let Some(index) = FUNCTIONS.iter().position(|(known, _)| *known == name) else { panic!("{name}") };
        match call(&mut self.world, &mut self.mem, index, &all) {
            Ok(_) => 0,
            Err(Fault::Errno(errno)) => errno.code(),
            Err(fault @ (Fault::Stop(_) | Fault::Again)) => panic!("{fault:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::inputs::inputs;

    /// All but the one that ends the run, signals and sockets.
    fn check_reached(reached: &Reached, functions: impl Iterator<Item = usize>) {
        for index in functions.filter(|index| ![38, 39, 42, 43, 44, 45].contains(index)) {
            assert!(reached[index] > 0, "{} succeeded {} times", FUNCTIONS[index].0, reached[index]);
        }
    }

    #[test]
    fn any_calls_keep_to_quotas_and_to_their_memory() {
        let mut reached = [0; FUNCTIONS.len()];
        for input in inputs("world", 1500, 2000) {
            reached.iter_mut().zip(calls(&input)).for_each(|(sum, count)| *sum += count);
        }
        check_reached(&reached, 0..FUNCTIONS.len());
    }

    #[test]
    fn any_calls_stay_in_their_grants() {
        let dir = tempfile::tempdir().unwrap();
        let ground = Ground::new(dir.path()).unwrap();
        let mut reached = [0; FUNCTIONS.len()];
        for input in inputs("world_host", 600, 2000) {
            reached.iter_mut().zip(calls_on_host(&ground, &input).unwrap()).for_each(|(sum, count)| *sum += count);
        }
        check_reached(&reached, 6..37);
    }
}
