//! Arguments no honest program would pass, and a long run of random calls.

use super::*;

#[test]
fn scatter_lists_are_bounded() {
    let mut guest = Guest::new();
    let end = MEMORY as u32;
    let fd = ok(guest.open("tmp/f", oflags::CREATE, READ | WRITE));
    for fd in [1, fd] {
        for (iovs, count, told, expected) in [
            (IOVS, 1025, RESULT, INVAL),
            (IOVS, u32::MAX, RESULT, INVAL),
            (end - 7, 1, RESULT, FAULT),
            (u32::MAX, 1, RESULT, FAULT),
            (u32::MAX - 8, 2, RESULT, FAULT),
            (IOVS, 1, end - 3, FAULT),
            (IOVS, 0, RESULT, 0),
        ] {
            guest.iovs(&[(BUFFER, 5)]);
            assert_eq!(code(guest.world.fd_write(&mut guest.mem, fd, iovs, count, told)), expected);
        }
        for range in [(end, 1), (end - 1, 2), (0, u32::MAX), (u32::MAX, u32::MAX), (u32::MAX, 1)] {
            let count = guest.iovs(&[(BUFFER, 5), range]);
            assert_eq!(code(guest.world.fd_write(&mut guest.mem, fd, IOVS, count, RESULT)), FAULT);
        }
    }
    // Nothing of the failed ones was written.
    assert_eq!(ok(guest.fstat(fd)).size, 0);
    // A read into the list itself does as the list said.
    assert_eq!(guest.write(fd, &[0xff; 64]), Ok(64));
    let count = guest.iovs(&[(IOVS, 32), (IOVS + 8, 8), (BUFFER, 8), (BUFFER, 8), (BUFFER, 4)]);
    assert_eq!(code(guest.world.fd_pread(&mut guest.mem, fd, IOVS, count, 0, RESULT)), 0);
    assert_eq!(guest.u32(RESULT), 60);
    // Many ranges over the same bytes move no more than the cap.
    let mut list = Vec::new();
    for _ in 0..1024 {
        list.extend_from_slice(&0_u32.to_le_bytes());
        list.extend_from_slice(&end.to_le_bytes());
    }
    guest.put(BUFFER, &list);
    let ranges = ok(abi::Iovecs::read(&guest.mem, BUFFER, 1024));
    assert_eq!(ranges.total(), abi::MAX_TRANSFER);
    assert_eq!(ranges.iter().map(|(_, len)| u64::from(len)).sum::<u64>(), abi::MAX_TRANSFER);
}

/// A small generator, so that the test is the same every time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.roll() >> 11) % bound
    }

    /// A pointer, length, flag or descriptor: mostly small, sometimes at an edge.
    fn word(&mut self) -> u32 {
        match self.below(16) {
            0 => u32::MAX - self.below(64) as u32,
            1 => self.roll() as u32,
            2 => SMALL as u32 - self.below(64) as u32,
            3..6 => self.below(SMALL as u64) as u32,
            6 => 1 << self.below(32),
            _ => self.below(24) as u32,
        }
    }

    fn fd(&mut self) -> u32 {
        if self.below(20) == 0 { self.word() } else { self.below(10) as u32 }
    }

    fn long(&mut self) -> u64 {
        match self.below(5) {
            0 => u64::MAX - self.below(64),
            1 => self.roll(),
            2 => 1 << self.below(64),
            _ => self.below(20_000),
        }
    }

    /// Mostly nothing, one or all.
    fn rights(&mut self) -> u64 {
        match self.below(8) {
            0 => self.roll(),
            1 => u64::MAX,
            2 => 0,
            3 => WRITE,
            4 => READ,
            _ => READ | WRITE,
        }
    }
}

const SMALL: usize = 4096;

#[test]
fn random_calls_neither_panic_nor_pass_a_quota() {
    let seen = Arc::new(Mutex::new(0_u64));
    let mut reached: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 0..20 {
        let counted = Arc::clone(&seen);
        let sink = move |_: Stream, bytes: &[u8]| *ok(counted.lock()) += bytes.len() as u64;
        *ok(seen.lock()) = 0;
        let quotas = Quotas { output: 20_000, bytes_written: 200_000, files: 20, descriptors: 12, memory: 60_000 };
        let stdin = if round % 2 == 0 { Stdin::Host(ok(File::open("/dev/null"))) } else { "some\ninput".into() };
        let clock = if round % 5 == 4 { ClockConfig::Live } else { ClockConfig::Virtual { epoch_nanos: EPOCH } };
        let config = WorldConfig { quotas, stdin, clock, sink: Some(Box::new(sink)), ..config() };
        let mut world = ok(World::new(config));
        world.set_linear_bytes(SMALL as u64);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ round);
        let mut mem = vec![0; SMALL];
        let mut successes: BTreeMap<u64, u64> = BTreeMap::new();
        for step in 0..10_000_u64 {
            refill(&mut mem, &mut dice);
            world.set_moment(step * 100);
            let function = dice.below(46);
            let result = call(&mut world, &mut mem, &mut dice, function);
            match result {
                Ok(()) => *successes.entry(function).or_insert(0) += 1,
                Err(Fault::Errno(_) | Fault::Stop(Stop::Exit(_) | Stop::Output)) => {}
                // Sleeps are not limited here.
                Err(fault) => assert_eq!(fault, Stop::WaitsForever.into()),
            }
            // The root and the streams come back, or soon nothing would work.
            let root = world.descriptors.get(3).map(|root| (root.target, root.base, root.inheriting));
            let whole = (Target::Node(tree::ROOT), rights::DIRECTORY, rights::DIRECTORY | rights::FILE);
            if (root != Ok(whole) && dice.below(5) == 0) || step % 500 == 0 {
                for fd in 0..12 {
                    if let Ok(descriptor) = world.descriptors.remove(fd) {
                        world.dispose(descriptor);
                    }
                }
                world.descriptors = Descriptors::new(quotas.descriptors);
            }
            if step % 20 == 0 {
                mem[..5].copy_from_slice(b"tmp/a");
                let _ = world.path_open(&mut mem, 3, 0, 0, 5, 1, READ | WRITE, 0, 0, 100);
            }
            let ledger = &world.tree.ledger;
            assert!(ledger.held() + SMALL as u64 <= quotas.memory);
            assert!(ledger.names() <= quotas.files);
            assert!(ledger.bytes_written() <= quotas.bytes_written);
            assert!(world.descriptors.get(12).is_err());
            if step % 100 == 0 {
                world.tree.check();
            }
        }
        for (function, count) in successes {
            *reached.entry(function).or_insert(0) += count;
        }
        // Everything that was held is given back with the last name and descriptor.
        for fd in 0..12 {
            if let Ok(descriptor) = world.descriptors.remove(fd) {
                world.dispose(descriptor);
            }
        }
        world.tree.clear();
        assert_eq!((world.held_bytes(), world.tree.ledger.names()), (0, 0));
        let end = world.finish();
        assert!(end.output_bytes <= quotas.output);
        assert_eq!(*ok(seen.lock()), end.output_bytes);
        assert_eq!((end.stdout.len() + end.stderr.len()) as u64, end.output_bytes);
    }
    // All succeed now and then, but for the one that ends the run, signals and sockets.
    let never: Vec<u64> = (0..46).filter(|function| reached.get(function).is_none_or(|count| *count < 5)).collect();
    assert_eq!(never, [38, 39, 42, 43, 44, 45], "{reached:?}");
}

/// Paths, lists and subscriptions where small pointers find them.
fn refill(mem: &mut [u8], dice: &mut Dice) {
    const PATHS: [&str; 24] = [
        "dev",
        "dev/null",
        "dev/stdout",
        "dev/stderr",
        "tmp/a",
        "tmp/b",
        "tmp/d",
        "tmp/d/a",
        "tmp/d/e",
        "tmp/d/e/f",
        "out/x",
        "out/d",
        "tmp/../out/y",
        "tmp/l",
        "a",
        "b",
        "d/",
        ".",
        "..",
        "tmp/d/",
        "tmp/l/a",
        "home/script/q",
        "script/main.py",
        "\u{e4}/\0",
    ];
    for slot in 0..24_u64 {
        // Word 32 * slot holds a path; 1024 onwards hold lists of small ranges.
        let path = PATHS[dice.below(PATHS.len() as u64) as usize].as_bytes();
        let at = slot as usize * 32;
        mem[at..at + 32].fill(b'/');
        mem[at..at + path.len()].copy_from_slice(path);
        let at = 1024 + slot as usize * 8;
        mem[at..at + 4].copy_from_slice(&dice.word().to_le_bytes());
        let len = if dice.below(10) == 0 { dice.word() } else { dice.below(1500) as u32 };
        mem[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
    }
    for slot in 0..4 {
        let at = 2048 + slot * 48;
        mem[at..at + 48].fill(0);
        mem[at + 8] = dice.below(4) as u8;
        mem[at + 16] = dice.below(5) as u8;
        mem[at + 24..at + 32].copy_from_slice(&dice.long().to_le_bytes());
        mem[at + 40] = dice.below(2) as u8;
    }
}

/// A path of those laid out, or any pointer and length.
fn some_path(dice: &mut Dice) -> (u32, u32) {
    if dice.below(12) == 0 {
        return (dice.word(), dice.word());
    }
    // Longer than most paths: what follows are slashes, which only a directory may have.
    let lens: [u32; 6] = [5, 5, 5, 7, 9, 14];
    (32 * dice.below(24) as u32, lens[dice.below(6) as usize])
}

fn some_list(dice: &mut Dice) -> (u32, u32) {
    if dice.below(12) == 0 {
        return (dice.word(), dice.word());
    }
    (1024 + 8 * dice.below(20) as u32, dice.below(4) as u32)
}

/// Calls one of the 46 functions.
fn call(world: &mut World, mem: &mut [u8], dice: &mut Dice, function: u64) -> Result<(), Fault> {
    let (mut a, mut b) = (dice.fd(), dice.fd());
    if (27..37).contains(&function) && dice.below(5) > 0 {
        (a, b) = (3, 3);
    }
    let (p, q) = (some_path(dice), some_path(dice));
    let list = some_list(dice);
    let (w, x, y) = (dice.word(), dice.word(), dice.word());
    let (m, n) = (dice.long(), dice.long());
    match function {
        0 => world.args_get(mem, w, x),
        1 => world.args_sizes_get(mem, w, x),
        2 => world.environ_get(mem, w, x),
        3 => world.environ_sizes_get(mem, w, x),
        4 => world.clock_res_get(mem, w, x),
        5 => world.clock_time_get(mem, w, m, x),
        6 => world.fd_advise(mem, a, m, n, w),
        7 => world.fd_allocate(mem, a, m, n),
        8 if dice.below(3) == 0 => world.fd_close(mem, a),
        8 => Ok(()),
        9 => world.fd_datasync(mem, a),
        10 => world.fd_fdstat_get(mem, a, w),
        11 => world.fd_fdstat_set_flags(mem, a, w),
        12 if dice.below(10) == 0 => world.fd_fdstat_set_rights(mem, a, m, n),
        12 => Ok(()),
        13 => world.fd_filestat_get(mem, a, w),
        14 => world.fd_filestat_set_size(mem, a, m),
        15 => world.fd_filestat_set_times(mem, a, m, n, w),
        16 => world.fd_pread(mem, a, list.0, list.1, m, w),
        17 => world.fd_prestat_get(mem, a, w),
        18 => world.fd_prestat_dir_name(mem, a, w, x),
        19 => world.fd_pwrite(mem, a, list.0, list.1, m, w),
        20 => arrive(world, dice, |world| world.fd_read(mem, a, list.0, list.1, w)),
        21 => world.fd_readdir(mem, a, w, x, if m > 100 { 0 } else { m }, y),
        22 if dice.below(3) == 0 => world.fd_renumber(mem, a, b),
        22 => Ok(()),
        23 => world.fd_seek(mem, a, m as i64, w % 4, x),
        24 => world.fd_sync(mem, a),
        25 => world.fd_tell(mem, a, w),
        26 => world.fd_write(mem, a, list.0, list.1, w),
        27 => world.path_create_directory(mem, a, p.0, p.1),
        28 => world.path_filestat_get(mem, a, w % 3, p.0, p.1, x),
        29 => world.path_filestat_set_times(mem, a, w % 3, p.0, p.1, m, n, x),
        30 => world.path_link(mem, a, w % 2, p.0, p.1, b, q.0, q.1),
        31 => {
            let (base, inheriting) = (dice.rights(), dice.rights());
            world.path_open(mem, a, w % 2, p.0, p.1, x % 17, base, inheriting, y % 6, w)
        }
        32 => world.path_readlink(mem, a, p.0, p.1, w, x, y),
        33 => world.path_remove_directory(mem, a, p.0, p.1),
        34 => world.path_rename(mem, a, p.0, p.1, b, q.0, q.1),
        35 => world.path_symlink(mem, p.0, p.1, a, q.0, q.1),
        36 => world.path_unlink_file(mem, a, p.0, p.1),
        37 => {
            let count = if w % 7 == 0 { x } else { w % 4 };
            arrive(world, dice, |world| world.poll_oneoff(mem, 2048, y, count, x))
        }
        38 => world.proc_exit(mem, w),
        39 => world.proc_raise(mem, w),
        40 => world.random_get(mem, w, x),
        41 => world.sched_yield(mem),
        42 => world.sock_accept(mem, a, w, x),
        43 => world.sock_recv(mem, a, list.0, list.1, w, x, y),
        44 => world.sock_send(mem, a, list.0, list.1, w, x),
        _ => world.sock_shutdown(mem, a, w),
    }
}

/// Lets input arrive once when it is waited for.
fn arrive(
    world: &mut World,
    dice: &mut Dice,
    mut call: impl FnMut(&mut World) -> Result<Progress, Fault>,
) -> Result<(), Fault> {
    if call(world)? != Progress::Done {
        if let Some(wanted) = world.stdin_wanted() {
            assert!(wanted <= 64 << 10);
            let given = vec![b'\n'; dice.below(wanted as u64 + 1) as usize];
            world.stdin_arrived(Ok(&given));
        }
        call(world)?;
    }
    Ok(())
}

/// As above, with a directory of the host in the place of `/tmp`, which other names lead into and out of.
#[test]
fn random_calls_stay_in_a_grant() {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use cap_std::fs::Dir;

    let mut successes: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 0..6 {
        let host = ok(tempfile::tempdir());
        let (inside, outside) = (host.path().join("inside"), host.path().join("outside"));
        ok(fs::create_dir_all(inside.join("d")));
        ok(fs::create_dir(&outside));
        ok(fs::write(outside.join("a"), "kept"));
        ok(symlink("../outside", inside.join("l")));
        ok(symlink(&outside, inside.join("b")));
        let root = HostRoot::Directory(Dir::from_std_file(ok(File::open(&inside))));
        let quotas = Quotas { output: 1 << 30, bytes_written: 200_000, files: 20, descriptors: 12, memory: 60_000 };
        let grants = vec![HostGrant { guest: "/tmp".into(), access: crate::Access::Write, root, place: None }];
        let mut world = ok(World::new(WorldConfig { quotas, grants, ..config() }));
        world.set_linear_bytes(SMALL as u64);
        let mut dice = Dice(0xd1ce ^ round);
        let mut mem = vec![0; SMALL];
        for step in 0..8000_u64 {
            if step % 20 == 0 {
                mem[..5].copy_from_slice(b"tmp/a");
                let _ = world.path_open(&mut mem, 3, 0, 0, 5, 1, READ | WRITE, 0, 0, 100);
            }
            refill(&mut mem, &mut dice);
            let function = dice.below(46);
            if call(&mut world, &mut mem, &mut dice, function).is_ok() {
                *successes.entry(function).or_insert(0) += 1;
            }
            if step % 100 == 0 {
                for fd in 0..12 {
                    if let Ok(descriptor) = world.descriptors.remove(fd) {
                        world.dispose(descriptor);
                    }
                }
                world.descriptors = Descriptors::new(quotas.descriptors);
                world.tree.check();
            }
            let ledger = &world.tree.ledger;
            assert!(ledger.held() + SMALL as u64 <= quotas.memory && ledger.names() <= quotas.files);
            assert!(ledger.bytes_written() <= quotas.bytes_written);
        }
        assert_eq!(ok(fs::read(outside.join("a"))), b"kept");
        assert_eq!(ok(fs::read_dir(&outside)).count(), 1);
        let (mut left, mut bytes) = (vec![inside], 0);
        while let Some(dir) = left.pop() {
            for entry in ok(fs::read_dir(dir)) {
                let entry = ok(entry);
                let meta = ok(fs::symlink_metadata(entry.path()));
                if meta.is_dir() {
                    left.push(entry.path());
                } else if meta.is_file() {
                    assert_eq!(meta.permissions().mode() & 0o7111, 0);
                    bytes += meta.len();
                }
            }
        }
        assert!(bytes <= quotas.bytes_written, "{bytes}");
    }
    let working = [13, 14, 16, 19, 21, 23, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36];
    for function in working {
        assert!(successes.get(&function).is_some_and(|count| *count > 5), "{function}: {successes:?}");
    }
}
