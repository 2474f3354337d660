//! Every function, driven as a guest would, with honest and hostile arguments.

mod host;
mod hostile;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::abi::{fdflags, oflags, rights};
use super::*;
use crate::stream::Stream;

const MEMORY: usize = 1 << 20;
const RESULT: u32 = 16;
const IOVS: u32 = 128;
const PATH: u32 = 1 << 12;
const OTHER: u32 = 1 << 15;
const BUFFER: u32 = 1 << 17;
const EPOCH: u64 = 1_700_000_000_000_000_000;
const READ: u64 = rights::FD_READ;
const WRITE: u64 = rights::FD_WRITE;

const ACCES: u16 = 2;
const BADF: u16 = 8;
const BUSY: u16 = 10;
const EXIST: u16 = 20;
const FAULT: u16 = 21;
const FBIG: u16 = 22;
const ILSEQ: u16 = 25;
const INVAL: u16 = 28;
const ISDIR: u16 = 31;
const LOOP: u16 = 32;
const MFILE: u16 = 33;
const NAMETOOLONG: u16 = 37;
const NOENT: u16 = 44;
const NOMEM: u16 = 48;
const NOSPC: u16 = 51;
const NOTDIR: u16 = 54;
const NOTEMPTY: u16 = 55;
const NOTSOCK: u16 = 57;
const NOTSUP: u16 = 58;
const PERM: u16 = 63;
const ROFS: u16 = 69;
const SPIPE: u16 = 70;
const NOTCAPABLE: u16 = 76;

#[track_caller]
fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}

#[track_caller]
fn code<T>(result: Result<T, Fault>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(Fault::Errno(errno)) => errno.code(),
        Err(fault @ (Fault::Stop(_) | Fault::Again)) => panic!("{fault:?}"),
    }
}

fn quotas() -> Quotas {
    Quotas { output: 1000, bytes_written: 1 << 20, files: 50, descriptors: 16, memory: 1 << 20 }
}

fn config() -> WorldConfig {
    WorldConfig {
        args: vec!["/script/main.py".into(), "two words".into()],
        env: vec![("A".into(), "1".into()), ("B".into(), "x=y".into()), ("A".into(), "2".into())],
        clock: ClockConfig::Virtual { epoch_nanos: EPOCH },
        random: RandomConfig::Seeded(7),
        stdin: Stdin::Closed,
        sink: None,
        capture: true,
        quotas: quotas(),
        deadline: Instant::now(),
        files: vec![("/script/main.py".into(), b"print(1)".as_slice().into())],
        grants: Vec::new(),
    }
}

#[derive(Debug, PartialEq)]
struct Stat {
    inode: u64,
    filetype: u8,
    links: u64,
    size: u64,
    accessed: u64,
    modified: u64,
}

/// An event: userdata, error, bytes and flags.
type Told = (u64, u16, u64, u8);

/// A guest: a World and a memory.
struct Guest {
    world: World,
    mem: Vec<u8>,
}

impl Guest {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: WorldConfig) -> Self {
        Self { world: ok(World::new(config)), mem: vec![0; MEMORY] }
    }

    fn put(&mut self, at: u32, bytes: &[u8]) -> u32 {
        let at = at as usize;
        self.mem[at..at + bytes.len()].copy_from_slice(bytes);
        bytes.len() as u32
    }

    fn u32(&self, at: u32) -> u32 {
        ok(abi::read_u32(&self.mem, at))
    }

    fn u64(&self, at: u32) -> u64 {
        ok(abi::read_u64(&self.mem, at))
    }

    fn iovs(&mut self, ranges: &[(u32, u32)]) -> u32 {
        for (index, (pointer, len)) in ranges.iter().enumerate() {
            let at = IOVS + 8 * index as u32;
            self.put(at, &pointer.to_le_bytes());
            self.put(at + 4, &len.to_le_bytes());
        }
        ranges.len() as u32
    }

    fn open_at(&mut self, fd: u32, path: &[u8], flags: u16, base: u64, fd_flags: u16) -> Result<u32, u16> {
        let len = self.put(PATH, path);
        let result = self.world.path_open(
            &mut self.mem,
            fd,
            1,
            PATH,
            len,
            u32::from(flags),
            base,
            0,
            u32::from(fd_flags),
            RESULT,
        );
        match code(result) {
            0 => Ok(self.u32(RESULT)),
            code => Err(code),
        }
    }

    fn open(&mut self, path: &str, flags: u16, base: u64) -> Result<u32, u16> {
        self.open_at(3, path.as_bytes(), flags, base, 0)
    }

    fn create(&mut self, path: &str, bytes: &[u8]) {
        let fd = ok(self.open(path, oflags::CREATE | oflags::TRUNCATE, READ | WRITE));
        assert_eq!(self.write(fd, bytes), Ok(bytes.len() as u32));
        assert_eq!(self.close(fd), 0);
    }

    fn close(&mut self, fd: u32) -> u16 {
        code(self.world.fd_close(&mut self.mem, fd))
    }

    fn try_write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, Fault> {
        let len = self.put(BUFFER, bytes);
        let count = self.iovs(&[(BUFFER, len)]);
        self.world.fd_write(&mut self.mem, fd, IOVS, count, RESULT)?;
        Ok(self.u32(RESULT))
    }

    fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, u16> {
        let result = self.try_write(fd, bytes);
        match result {
            Ok(count) => Ok(count),
            Err(_) => Err(code(result)),
        }
    }

    /// `None` when it has to wait.
    fn try_read(&mut self, fd: u32, len: u32) -> Result<Option<Vec<u8>>, Fault> {
        let count = self.iovs(&[(BUFFER, len)]);
        match self.world.fd_read(&mut self.mem, fd, IOVS, count, RESULT)? {
            Progress::Done => {
                let count = self.u32(RESULT) as usize;
                Ok(Some(self.mem[BUFFER as usize..BUFFER as usize + count].to_vec()))
            }
            Progress::Wait(wait) => {
                assert_eq!(wait, Wait::Stdin);
                Ok(None)
            }
        }
    }

    fn read(&mut self, fd: u32, len: u32) -> Result<Vec<u8>, u16> {
        let result = self.try_read(fd, len);
        match result {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => panic!("it waits"),
            Err(_) => Err(code(result)),
        }
    }

    fn content(&mut self, path: &str) -> Result<Vec<u8>, u16> {
        let fd = self.open(path, 0, READ)?;
        let bytes = self.read(fd, 1 << 16)?;
        assert_eq!(self.close(fd), 0);
        Ok(bytes)
    }

    fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, u16> {
        match code(self.world.fd_seek(&mut self.mem, fd, offset, whence, RESULT)) {
            0 => Ok(self.u64(RESULT)),
            code => Err(code),
        }
    }

    fn mkdir(&mut self, path: &str) -> u16 {
        let len = self.put(PATH, path.as_bytes());
        code(self.world.path_create_directory(&mut self.mem, 3, PATH, len))
    }

    fn rmdir(&mut self, path: &str) -> u16 {
        let len = self.put(PATH, path.as_bytes());
        code(self.world.path_remove_directory(&mut self.mem, 3, PATH, len))
    }

    fn unlink(&mut self, path: &str) -> u16 {
        let len = self.put(PATH, path.as_bytes());
        code(self.world.path_unlink_file(&mut self.mem, 3, PATH, len))
    }

    fn rename(&mut self, from: &str, to: &str) -> u16 {
        let (old, new) = (self.put(PATH, from.as_bytes()), self.put(OTHER, to.as_bytes()));
        code(self.world.path_rename(&mut self.mem, 3, PATH, old, 3, OTHER, new))
    }

    fn link(&mut self, from: &str, to: &str) -> u16 {
        let (old, new) = (self.put(PATH, from.as_bytes()), self.put(OTHER, to.as_bytes()));
        code(self.world.path_link(&mut self.mem, 3, 0, PATH, old, 3, OTHER, new))
    }

    fn symlink(&mut self, target: &str, path: &str) -> u16 {
        let (old, new) = (self.put(PATH, target.as_bytes()), self.put(OTHER, path.as_bytes()));
        code(self.world.path_symlink(&mut self.mem, PATH, old, 3, OTHER, new))
    }

    fn readlink(&mut self, path: &str, len: u32) -> Result<String, u16> {
        let path_len = self.put(PATH, path.as_bytes());
        match code(self.world.path_readlink(&mut self.mem, 3, PATH, path_len, BUFFER, len, RESULT)) {
            0 => {
                let end = (BUFFER + self.u32(RESULT)) as usize;
                Ok(String::from_utf8_lossy(&self.mem[BUFFER as usize..end]).into_owned())
            }
            code => Err(code),
        }
    }

    fn told_stat(&self) -> Stat {
        Stat {
            inode: self.u64(BUFFER + 8),
            filetype: self.mem[BUFFER as usize + 16],
            links: self.u64(BUFFER + 24),
            size: self.u64(BUFFER + 32),
            accessed: self.u64(BUFFER + 40),
            modified: self.u64(BUFFER + 48),
        }
    }

    fn stat(&mut self, path: &str, follow: bool) -> Result<Stat, u16> {
        let len = self.put(PATH, path.as_bytes());
        match code(self.world.path_filestat_get(&mut self.mem, 3, u32::from(follow), PATH, len, BUFFER)) {
            0 => Ok(self.told_stat()),
            code => Err(code),
        }
    }

    fn fstat(&mut self, fd: u32) -> Result<Stat, u16> {
        match code(self.world.fd_filestat_get(&mut self.mem, fd, BUFFER)) {
            0 => Ok(self.told_stat()),
            code => Err(code),
        }
    }

    /// One call: names with their cookies, and whether the buffer was filled.
    fn readdir(&mut self, fd: u32, len: u32, cookie: u64) -> Result<(Vec<(String, u64)>, bool), u16> {
        match code(self.world.fd_readdir(&mut self.mem, fd, BUFFER, len, cookie, RESULT)) {
            0 => {}
            code => return Err(code),
        }
        let used = self.u32(RESULT);
        let (mut at, mut names) = (0, Vec::new());
        while at + 24 <= used {
            let name_len = self.u32(BUFFER + at + 16);
            let start = at + 24;
            if start + name_len > used {
                break;
            }
            let name = &self.mem[(BUFFER + start) as usize..(BUFFER + start + name_len) as usize];
            names.push((String::from_utf8_lossy(name).into_owned(), self.u64(BUFFER + at)));
            at = start + name_len;
        }
        Ok((names, used == len))
    }

    fn names(&mut self, path: &str) -> Vec<String> {
        let fd = ok(self.open(path, oflags::DIRECTORY, 0));
        let (names, full) = ok(self.readdir(fd, 1 << 16, 0));
        assert!(!full);
        assert_eq!(self.close(fd), 0);
        names.into_iter().map(|(name, _)| name).collect()
    }

    fn subscribe_clock(&mut self, index: u32, id: u32, timeout: u64, absolute: bool) {
        let at = PATH + 48 * index;
        self.put(at, &[0; 48]);
        self.put(at, &u64::from(index + 100).to_le_bytes());
        self.put(at + 16, &id.to_le_bytes());
        self.put(at + 24, &timeout.to_le_bytes());
        self.put(at + 40, &[u8::from(absolute), 0]);
    }

    fn subscribe_fd(&mut self, index: u32, kind: u8, fd: u32) {
        let at = PATH + 48 * index;
        self.put(at, &[0; 48]);
        self.put(at, &u64::from(index + 100).to_le_bytes());
        self.put(at + 8, &[kind]);
        self.put(at + 16, &fd.to_le_bytes());
    }

    /// The events, or what to wait for.
    fn poll(&mut self, count: u32) -> Result<Result<Vec<Told>, Wait>, Fault> {
        match self.world.poll_oneoff(&mut self.mem, PATH, BUFFER, count, RESULT)? {
            Progress::Wait(wait) => Ok(Err(wait)),
            Progress::Done => Ok(Ok((0..self.u32(RESULT))
                .map(|index| {
                    let at = BUFFER + 32 * index;
                    let error = ok(abi::read_u16(&self.mem, at + 8));
                    (self.u64(at), error, self.u64(at + 16), self.mem[at as usize + 24])
                })
                .collect())),
        }
    }

    fn time(&mut self, id: u32) -> u64 {
        assert_eq!(code(self.world.clock_time_get(&mut self.mem, id, 0, RESULT)), 0);
        self.u64(RESULT)
    }
}

// --- starting up ---

#[test]
fn arguments_and_variables_are_laid_out() {
    let mut guest = Guest::new();
    assert_eq!(code(guest.world.args_sizes_get(&mut guest.mem, 0, 4)), 0);
    assert_eq!((guest.u32(0), guest.u32(4)), (2, 26));
    assert_eq!(code(guest.world.args_get(&mut guest.mem, 0, 100)), 0);
    assert_eq!((guest.u32(0), guest.u32(4)), (100, 116));
    assert_eq!(&guest.mem[100..126], b"/script/main.py\0two words\0");
    assert_eq!(code(guest.world.environ_sizes_get(&mut guest.mem, 0, 4)), 0);
    assert_eq!((guest.u32(0), guest.u32(4)), (2, 10));
    assert_eq!(code(guest.world.environ_get(&mut guest.mem, 0, 100)), 0);
    assert_eq!(&guest.mem[100..110], b"B=x=y\0A=2\0");
    let end = MEMORY as u32;
    for (pointers, buffer) in [(end - 7, 100), (0, end - 25), (u32::MAX, 0), (0, u32::MAX)] {
        assert_eq!(code(guest.world.args_get(&mut guest.mem, pointers, buffer)), FAULT);
    }
    assert_eq!(code(guest.world.args_sizes_get(&mut guest.mem, end - 3, 0)), FAULT);
    assert_eq!(code(guest.world.environ_sizes_get(&mut guest.mem, 0, end)), FAULT);
}

#[test]
fn what_no_script_can_be_given_is_refused() {
    let error = |change: fn(&mut WorldConfig)| {
        let mut config = config();
        change(&mut config);
        World::new(config).err()
    };
    let variable = |name: &str| Some(WorldError::Variable { name: name.into() });
    assert_eq!(error(|c| c.args.push("a\0b".into())), Some(WorldError::Argument { index: 2 }));
    assert_eq!(error(|c| c.env = vec![("A=B".into(), "".into())]), variable("A=B"));
    assert_eq!(error(|c| c.env = vec![("".into(), "".into())]), variable(""));
    assert_eq!(error(|c| c.env = vec![("A".into(), "\0".into())]), variable("A"));
    assert_eq!(
        error(|c| c.args = vec!["a".repeat(1 << 20)]),
        Some(WorldError::TooManyBytes { bytes: (1 << 20) + 1 + 4 + 6 + 4 })
    );
    assert_eq!(error(|c| c.args = vec![String::new(); 4096]), Some(WorldError::TooManyEntries { entries: 4099 }));
    let file = |path: &str, errno| Some(WorldError::File { path: path.into(), errno });
    assert_eq!(error(|c| c.files[0].0 = "x".into()), file("x", Errno::Inval));
    assert_eq!(error(|c| c.files[0].0 = "x/y".into()), file("x/y", Errno::Inval));
    assert_eq!(error(|c| c.files[0].0 = "/tmp/../x".into()), file("/tmp/../x", Errno::Inval));
    assert_eq!(error(|c| c.files[0].0 = "/tmp".into()), file("/tmp", Errno::Exist));
    assert_eq!(
        error(|c| c.files.push(("/script/main.py/x".into(), [].into()))),
        file("/script/main.py/x", Errno::Notdir)
    );
}

#[test]
fn the_tree_at_the_start() {
    let mut guest = Guest::new();
    assert_eq!(code(guest.world.fd_prestat_get(&mut guest.mem, 3, RESULT)), 0);
    assert_eq!((guest.u32(RESULT), guest.u32(RESULT + 4)), (0, 1));
    assert_eq!(code(guest.world.fd_prestat_dir_name(&mut guest.mem, 3, RESULT, 1)), 0);
    assert_eq!(guest.mem[RESULT as usize], b'/');
    assert_eq!(code(guest.world.fd_prestat_dir_name(&mut guest.mem, 3, RESULT, 0)), NAMETOOLONG);
    for fd in [0, 1, 2, 4, u32::MAX] {
        assert_eq!(code(guest.world.fd_prestat_get(&mut guest.mem, fd, RESULT)), BADF);
        assert_eq!(code(guest.world.fd_prestat_dir_name(&mut guest.mem, fd, RESULT, 1)), BADF);
    }
    assert_eq!(guest.names("."), [".", "..", "dev", "home", "out", "script", "tmp"]);
    let home = ok(guest.open("home", oflags::DIRECTORY, READ));
    assert_eq!(code(guest.world.fd_readdir(&mut guest.mem, home, BUFFER, 100, 0, RESULT)), ACCES);
    assert_eq!(guest.content("script/main.py"), Ok(b"print(1)".to_vec()));
    for path in ["x", "home/x", "script/x"] {
        assert_eq!(guest.mkdir(path), ROFS);
        assert_eq!(guest.open(path, oflags::CREATE, WRITE), Err(ROFS));
        assert_eq!(guest.symlink("y", path), ROFS);
        assert_eq!(guest.link("script/main.py", path), ROFS);
    }
    for path in ["tmp/x", "out/x", "home/script/x"] {
        assert_eq!(guest.mkdir(path), 0);
        assert_eq!(guest.rmdir(path), 0);
    }
    assert_eq!(guest.world.held_bytes(), 0);
    assert_eq!(guest.mkdir("tmp"), EXIST);
    assert_eq!(guest.unlink("script/main.py"), ROFS);
    assert_eq!(guest.rename("script/main.py", "tmp/x"), ROFS);
    assert_eq!(guest.rename("tmp", "out/tmp"), ROFS);
    assert_eq!(guest.link("script/main.py", "tmp/x"), ROFS);
    assert_eq!(guest.open("script/main.py", 0, READ | WRITE), Err(ROFS));
    assert_eq!(guest.open("script/main.py", oflags::TRUNCATE, READ), Err(ROFS));
    for path in ["tmp", "home", "script"] {
        assert_eq!(guest.rmdir(path), ROFS);
    }
}

#[test]
fn devices() {
    let mut guest = Guest::with(WorldConfig { stdin: "one\ntwo\n".into(), ..config() });
    assert_eq!(guest.names("dev"), [".", "..", "null", "stderr", "stdout"]);
    assert_eq!(guest.world.held_bytes(), 0);
    assert_eq!(ok(guest.stat("dev/null", true)).filetype, 2);
    assert_eq!(guest.stat("dev/null/", true), Err(NOTDIR));
    assert_eq!(guest.stat("dev/sda", true), Err(NOENT));
    // What only a changeable directory allows.
    assert_eq!(guest.mkdir("dev/x"), ROFS);
    assert_eq!(guest.open("dev/x", oflags::CREATE, WRITE), Err(ROFS));
    assert_eq!(guest.unlink("dev/null"), ROFS);
    assert_eq!(guest.rmdir("dev/null"), NOTDIR);
    assert_eq!(guest.rename("dev/null", "tmp/null"), ROFS);
    assert_eq!(guest.link("dev/null", "tmp/null"), ROFS);
    assert_eq!(guest.open("dev/null", oflags::DIRECTORY, READ), Err(NOTDIR));
    assert_eq!(guest.open("dev/null", oflags::CREATE | oflags::EXCLUSIVE, WRITE), Err(EXIST));
    let open = |guest: &mut Guest, name: &str| {
        ok(guest.open(&format!("dev/{name}"), oflags::CREATE | oflags::TRUNCATE, READ | WRITE))
    };
    let fd = open(&mut guest, "null");
    assert_eq!((guest.read(fd, 4), guest.write(fd, b"abc"), guest.write(fd, b"")), (Ok(Vec::new()), Ok(3), Ok(0)));
    assert_eq!((guest.seek(fd, 10, 0), guest.seek(fd, 10, 1), guest.seek(fd, 0, 2)), (Ok(0), Ok(0), Ok(0)));
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, 0)), INVAL);
    assert_eq!(code(guest.world.fd_filestat_set_times(&mut guest.mem, fd, 0, 0, 4)), ROFS);
    assert_eq!(ok(guest.fstat(fd)).size, 0);
    assert_eq!(guest.close(fd), 0);
    // Nothing in it can be read from.
    for name in ["zero", "random", "urandom", "stdin", "fd/0", "tty"] {
        assert_eq!(guest.open(&format!("dev/{name}"), 0, READ), Err(NOENT), "{name}");
    }
    // Streams under one more number, also once the first is closed.
    let out = ok(guest.open("dev/stdout", 0, WRITE));
    assert_eq!(guest.read(out, 1), Err(BADF));
    assert_eq!(guest.close(1), 0);
    assert_eq!(guest.write(out, b"shown"), Ok(5));
    let err = ok(guest.open("dev/stderr", oflags::CREATE | oflags::TRUNCATE, WRITE));
    assert_eq!((guest.write(err, b"told"), guest.seek(err, 0, 1)), (Ok(4), Err(SPIPE)));
    let end = guest.world.finish();
    assert_eq!((end.stdout, end.stderr, end.bytes_written), (b"shown".to_vec(), b"told".to_vec(), 0));
}

/// One look-up does bounded work, whatever links it leads through, and pays for it.
#[test]
fn long_chains_of_long_links_end() {
    let mut guest = Guest::with(WorldConfig { quotas: Quotas { files: 100, ..quotas() }, ..config() });
    guest.create("tmp/file", b"");
    let target = |name: &str| format!("{}{name}", "./".repeat(2000));
    assert_eq!(guest.symlink(&target("file"), "tmp/0"), 0);
    for index in 1..5 {
        assert_eq!(guest.symlink(&target(&(index - 1).to_string()), &format!("tmp/{index}")), 0);
    }
    let before = guest.world.fuel_spent();
    assert!(guest.stat("tmp/3", true).is_ok());
    assert!(guest.world.fuel_spent() - before > 8000 * price::NAME);
    assert_eq!(guest.stat("tmp/4", true), Err(NAMETOOLONG));
    assert_eq!(guest.symlink(&format!("file{}", "/".repeat(4000)), "tmp/slashes"), 0);
    assert_eq!(guest.stat("tmp/slashes", true), Err(NOTDIR));
    assert_eq!(guest.symlink(&format!("..{}tmp", "/".repeat(4000)), "tmp/dir"), 0);
    assert_eq!(guest.symlink("dir/", "tmp/again"), 0);
    assert_eq!(ok(guest.stat("tmp/again", false)).filetype, 7);
    assert_eq!(ok(guest.stat("tmp/again/", false)).filetype, 3);
    assert!(guest.stat("tmp/again/file", false).is_ok());
}

#[test]
fn calls_cost_by_what_they_do() {
    let mut guest = Guest::new();
    guest.create("tmp/f", &[1; 5000]);
    let fd = ok(guest.open("tmp/f", 0, READ));
    let cost = |guest: &mut Guest, call: &mut dyn FnMut(&mut Guest)| {
        let before = guest.world.fuel_spent();
        call(guest);
        guest.world.fuel_spent() - before
    };
    assert_eq!(cost(&mut guest, &mut |guest| guest.world.count_call()), price::CALL);
    assert_eq!(cost(&mut guest, &mut |guest| drop(guest.read(fd, 4000))), 4000 * price::BYTE);
    assert_eq!(cost(&mut guest, &mut |guest| drop(guest.read(fd, 4000))), 1000 * price::BYTE);
    assert_eq!(cost(&mut guest, &mut |guest| assert!(guest.write(1, b"12345").is_ok())), 5 * price::BYTE);
    assert_eq!(cost(&mut guest, &mut |guest| drop(guest.stat("tmp/../tmp/f", true))), 4 * price::NAME);
    let random = cost(&mut guest, &mut |guest| assert!(guest.world.random_get(&mut guest.mem, 0, 100).is_ok()));
    assert_eq!(random, 100 * price::DIGESTED_BYTE);
}

#[test]
fn files_of_the_host_below_a_writable_directory() {
    let mut config = config();
    config.files.push(("/tmp/given/deep/data".into(), b"data".as_slice().into()));
    let mut guest = Guest::with(config);
    assert_eq!(guest.content("tmp/given/deep/data"), Ok(b"data".to_vec()));
    assert_eq!(guest.open("tmp/given/deep/data", 0, WRITE), Err(ROFS));
    assert_eq!(guest.mkdir("tmp/given/x"), 0);
    assert_eq!(guest.rename("tmp/given/deep/data", "out/data"), 0);
    assert_eq!(guest.content("out/data"), Ok(b"data".to_vec()));
    assert_eq!(guest.unlink("out/data"), 0);
}

// --- paths ---

#[test]
fn interesting_paths() {
    let mut guest = Guest::new();
    assert_eq!(guest.mkdir("tmp/dir"), 0);
    assert_eq!(guest.mkdir("tmp/dir/nested"), 0);
    guest.create("tmp/dir/nested/file", b"1");
    let dir = ok(guest.open("tmp", oflags::DIRECTORY, 0));
    let long_name = [b"tmp/".to_vec(), vec![b'a'; 256]].concat();
    let long_path = b"./".repeat(2049);
    let rows: &[(&[u8], Result<(), u16>)] = &[
        (b"", Err(NOENT)),
        (b".", Ok(())),
        (b"./", Ok(())),
        (b"/", Err(PERM)),
        (b"/dir/nested/file", Err(PERM)),
        (b"dir/.//nested/../../dir/nested/../nested///./file", Ok(())),
        (b"dir/nested/file\0", Err(INVAL)),
        (b"dir/nested/file/", Err(NOTDIR)),
        (b"dir/nested/file///", Err(NOTDIR)),
        (b"dir/nested/file/.", Err(NOTDIR)),
        (b"dir/nested/file/..", Err(NOTDIR)),
        (b"dir/nested/file/x", Err(NOTDIR)),
        (b"dir/nested/", Ok(())),
        (b"dir/nested///", Ok(())),
        (b"dir/nested/../../../tmp/dir/nested/file", Err(PERM)),
        (b"..", Err(PERM)),
        (b"none/..", Err(NOENT)),
        (b"none/", Err(NOENT)),
        (b"dir\xff", Err(ILSEQ)),
        (b"\xed\xa0\x80", Err(ILSEQ)),
        (&long_name[4..], Err(NAMETOOLONG)),
        (&long_path, Err(NAMETOOLONG)),
        (&long_path[..4096], Ok(())),
    ];
    for (path, expected) in rows {
        let result = guest.open_at(dir, path, 0, 0, 0);
        if let Ok(fd) = result {
            assert_eq!(guest.close(fd), 0);
        }
        assert_eq!(result.map(|_| ()), *expected, "{}", String::from_utf8_lossy(path));
    }
    // Above the root there is nothing to be kept from.
    assert!(guest.stat("../../tmp/../../tmp/dir", false).is_ok());
    // Whole paths outside the memory.
    let end = MEMORY as u32;
    for (at, len) in [(end, 1), (end - 1, 2), (u32::MAX, 1), (u32::MAX, 4096)] {
        assert_eq!(code(guest.world.path_create_directory(&mut guest.mem, 3, at, len)), FAULT);
    }
    assert_eq!(code(guest.world.path_create_directory(&mut guest.mem, 3, 0, u32::MAX)), NAMETOOLONG);
    for (fd, error) in [(0, NOTDIR), (1, NOTDIR), (9, BADF), (u32::MAX, BADF)] {
        assert_eq!(guest.open_at(fd, b"x", 0, 0, 0), Err(error));
    }
}

#[test]
fn directories_end_at_a_depth() {
    let mut guest = Guest::with(WorldConfig { quotas: Quotas { files: 1000, ..quotas() }, ..config() });
    let mut path = String::from("tmp");
    for _ in 0..63 {
        path.push_str("/d");
        assert_eq!(guest.mkdir(&path), 0);
    }
    assert_eq!(guest.mkdir(&format!("{path}/d")), NAMETOOLONG);
    guest.create(&format!("{path}/file"), b"x");
    // Nor can a tree be hung below another one.
    assert_eq!(guest.mkdir("out/a"), 0);
    assert_eq!(guest.mkdir("out/a/b"), 0);
    assert_eq!(guest.rename("out/a", &path[..path.len() - 2]), NOTEMPTY);
    assert_eq!(guest.rename("out/a", &format!("{}/e", &path[..path.len() - 2])), NAMETOOLONG);
    assert_eq!(guest.rename("out/a", &format!("{}/e", &path[..path.len() - 4])), 0);
}

#[test]
fn symbolic_links() {
    let mut guest = Guest::new();
    guest.create("tmp/file", b"content");
    assert_eq!(guest.mkdir("tmp/dir"), 0);
    assert_eq!(guest.symlink("file", "tmp/link"), 0);
    assert_eq!(guest.symlink("dir/", "tmp/dirlink"), 0);
    assert_eq!(guest.symlink("../file", "tmp/dir/up"), 0);
    assert_eq!(guest.symlink("loop", "tmp/loop"), 0);
    assert_eq!(guest.symlink("none", "tmp/dangling"), 0);
    assert_eq!(guest.symlink("/tmp/file", "tmp/absolute"), PERM);
    assert_eq!(guest.symlink("", "tmp/empty"), NOENT);
    assert_eq!(guest.symlink("a\0", "tmp/nul"), INVAL);
    assert_eq!(guest.symlink("x", "tmp/link"), EXIST);
    assert_eq!(guest.symlink("x", "tmp/new/"), NOENT);
    assert_eq!(guest.symlink("x", "tmp/dir/"), EXIST);
    assert_eq!(guest.symlink("x", "tmp/file/"), NOTDIR);
    assert_eq!(guest.content("tmp/link"), Ok(b"content".to_vec()));
    assert_eq!(guest.content("tmp/dirlink/up"), Ok(b"content".to_vec()));
    assert_eq!(guest.content("tmp/link/"), Err(NOTDIR));
    assert_eq!(guest.open("tmp/loop", 0, READ), Err(LOOP));
    assert_eq!(guest.open("tmp/loop/x", 0, READ), Err(LOOP));
    assert_eq!(guest.open("tmp/dangling", 0, READ), Err(NOENT));
    assert_eq!(guest.readlink("tmp/link", 100), Ok("file".into()));
    assert_eq!(guest.readlink("tmp/link", 2), Ok("fi".into()));
    assert_eq!(guest.readlink("tmp/file", 100), Err(INVAL));
    assert_eq!(guest.readlink("tmp/none", 100), Err(NOENT));
    assert_eq!(ok(guest.stat("tmp/link", false)).filetype, 7);
    assert_eq!(ok(guest.stat("tmp/link", true)).filetype, 4);
    assert_eq!(ok(guest.stat("tmp/dirlink/", false)).filetype, 3);
    // Not followed.
    let len = guest.put(PATH, b"tmp/link");
    for (flags, error) in [(0, LOOP), (u32::from(oflags::DIRECTORY), NOTDIR)] {
        let result = guest.world.path_open(&mut guest.mem, 3, 0, PATH, len, flags, READ, 0, 0, RESULT);
        assert_eq!(code(result), error);
    }
    // Creating goes through a dangling link, unless it must be new.
    assert_eq!(guest.open("tmp/dangling", oflags::CREATE | oflags::EXCLUSIVE, WRITE), Err(EXIST));
    guest.create("tmp/dangling", b"made");
    assert_eq!(guest.content("tmp/none"), Ok(b"made".to_vec()));
    // A link out of the directory it is used from.
    let dir = ok(guest.open("tmp/dir", oflags::DIRECTORY, 0));
    assert_eq!(guest.open_at(dir, b"up", 0, READ, 0), Err(PERM));
    assert_eq!(guest.rmdir("tmp/dirlink"), NOTDIR);
    assert_eq!(guest.unlink("tmp/dirlink"), 0);
    assert_eq!(guest.link("tmp/link", "tmp/second"), 0);
    assert_eq!(ok(guest.stat("tmp/second", false)).filetype, 7);
    // A chain of 40 is followed, one of 41 is not.
    assert_eq!(guest.symlink("file", "tmp/0"), 0);
    for index in 1..=40 {
        assert_eq!(guest.symlink(&(index - 1).to_string(), &format!("tmp/{index}")), 0, "{index}");
    }
    assert!(guest.stat("tmp/39", true).is_ok());
    assert_eq!(guest.stat("tmp/40", true), Err(LOOP));
}

#[test]
fn hard_links_share_a_file() {
    let mut guest = Guest::new();
    guest.create("tmp/a", b"1");
    assert_eq!(guest.link("tmp/a", "tmp/b"), 0);
    assert_eq!(guest.link("tmp/a", "tmp/b"), EXIST);
    assert_eq!(guest.link("tmp/none", "tmp/c"), NOENT);
    assert_eq!(guest.link("tmp/a", "tmp/c/"), NOENT);
    assert_eq!(guest.link("tmp", "out/c"), PERM);
    assert_eq!(guest.link("tmp/a", "tmp"), EXIST);
    let (a, b) = (ok(guest.stat("tmp/a", false)), ok(guest.stat("tmp/b", false)));
    assert_eq!((a.links, &a), (2, &b));
    guest.create("tmp/b", b"22");
    assert_eq!(guest.content("tmp/a"), Ok(b"22".to_vec()));
    assert_eq!(guest.rename("tmp/a", "tmp/b"), 0);
    assert_eq!(guest.names("tmp"), [".", "..", "a", "b"]);
    assert_eq!(guest.unlink("tmp/a"), 0);
    assert_eq!(ok(guest.stat("tmp/b", false)).links, 1);
    let (old, new) = (guest.put(PATH, b"tmp/b"), guest.put(OTHER, b"tmp/c"));
    assert_eq!(code(guest.world.path_link(&mut guest.mem, 3, 1, PATH, old, 3, OTHER, new)), INVAL);
}

#[test]
fn renaming() {
    let mut guest = Guest::new();
    for dir in ["tmp/a", "tmp/a/sub", "tmp/empty", "tmp/full", "tmp/full/x"] {
        assert_eq!(guest.mkdir(dir), 0);
    }
    guest.create("tmp/f", b"f");
    guest.create("tmp/g", b"g");
    guest.create("tmp/full/file", b"");
    let rows = [
        // One above the other: before their kinds are compared, as on Linux.
        ("tmp/full", "tmp/full/file", INVAL),
        ("tmp/full/file", "tmp/full", NOTEMPTY),
        ("tmp/a", "tmp/a/sub/x", INVAL),
        ("tmp/a", "tmp/a/x", INVAL),
        ("tmp/a", "tmp/a", 0),
        ("tmp/a", "tmp/full", NOTEMPTY),
        ("tmp/a/sub", "tmp/a", NOTEMPTY),
        ("tmp/a", "tmp/f", NOTDIR),
        ("tmp/f", "tmp/empty", ISDIR),
        ("tmp/f", "tmp/new/", NOTDIR),
        ("tmp/f/", "tmp/new", NOTDIR),
        ("tmp/none", "tmp/new", NOENT),
        ("tmp/f", "tmp/none/x", NOENT),
        ("tmp/a/.", "tmp/new", BUSY),
        (".", "tmp/new", BUSY),
        ("tmp/f", "tmp/a/..", BUSY),
        ("tmp/f", "script/f", ROFS),
        ("tmp/f", "tmp/g", 0),
        ("tmp/a", "tmp/empty/", 0),
        ("tmp/empty", "out/moved", 0),
    ];
    for (from, to, expected) in rows {
        assert_eq!(guest.rename(from, to), expected, "{from} -> {to}");
    }
    assert_eq!(guest.names("tmp"), [".", "..", "full", "g"]);
    assert_eq!(guest.content("tmp/g"), Ok(b"f".to_vec()));
    assert_eq!(guest.names("out/moved"), [".", "..", "sub"]);
    // Its parent has moved with it.
    assert!(guest.stat("out/moved/sub/../../moved", false).is_ok());
    // A directory that is reached through a descriptor inside of it.
    let inside = ok(guest.open("out/moved/sub", oflags::DIRECTORY, 0));
    let (old, new) = (guest.put(PATH, b"out/moved"), guest.put(OTHER, b"x"));
    assert_eq!(code(guest.world.path_rename(&mut guest.mem, 3, PATH, old, inside, OTHER, new)), INVAL);
}

#[test]
fn removing() {
    let mut guest = Guest::new();
    assert_eq!(guest.mkdir("tmp/d"), 0);
    guest.create("tmp/d/f", b"f");
    for (path, unlinked, removed) in [
        ("tmp/d", ISDIR, NOTEMPTY),
        ("tmp/d/", ISDIR, NOTEMPTY),
        ("tmp/d/f/", NOTDIR, NOTDIR),
        ("tmp/none", NOENT, NOENT),
        ("tmp/d/.", ISDIR, INVAL),
        (".", ISDIR, INVAL),
    ] {
        assert_eq!((guest.unlink(path), guest.rmdir(path)), (unlinked, removed), "{path}");
    }
    assert_eq!(guest.rmdir("tmp/d/f"), NOTDIR);
    // An open file lives on without a name, an open directory without contents.
    let file = ok(guest.open("tmp/d/f", 0, READ | WRITE));
    let dir = ok(guest.open("tmp/d", oflags::DIRECTORY, 0));
    assert_eq!(guest.unlink("tmp/d/f"), 0);
    assert_eq!(guest.rmdir("tmp/d/"), 0);
    assert_eq!(guest.read(file, 10), Ok(b"f".to_vec()));
    assert_eq!(guest.write(file, b"more"), Ok(4));
    assert_eq!(ok(guest.fstat(file)).links, 0);
    assert_eq!(guest.open_at(dir, b"new", oflags::CREATE, WRITE, 0), Err(NOENT));
    assert_eq!(guest.open_at(dir, b"..", 0, 0, 0), Err(PERM));
    let (names, _) = ok(guest.readdir(dir, 1000, 0));
    assert_eq!(names.len(), 2);
    assert!(guest.world.held_bytes() > 0);
    assert_eq!((guest.close(file), guest.close(dir)), (0, 0));
    assert_eq!(guest.world.held_bytes(), 0);
}

#[test]
fn opening() {
    let mut guest = Guest::new();
    guest.create("tmp/f", b"12345");
    let (create, exclusive) = (oflags::CREATE, oflags::EXCLUSIVE);
    let rows = [
        ("tmp/f", create | exclusive, WRITE, Err(EXIST)),
        ("tmp/f", oflags::DIRECTORY, READ, Err(NOTDIR)),
        ("tmp/new", create | oflags::DIRECTORY, READ, Err(INVAL)),
        ("tmp/new/", create, WRITE, Err(ISDIR)),
        ("tmp/new", 0, READ, Err(NOENT)),
        ("tmp", 0, READ | WRITE, Err(ISDIR)),
        ("tmp", create, READ, Err(ISDIR)),
        ("tmp", oflags::TRUNCATE, READ, Err(ISDIR)),
        ("tmp", 0, READ, Ok(())),
        ("tmp", 1 << 4, READ, Err(INVAL)),
        ("tmp/new", create | exclusive, WRITE, Ok(())),
    ];
    for (path, flags, base, expected) in rows {
        assert_eq!(guest.open(path, flags, base).map(|_| ()), expected, "{path} {flags}");
    }
    assert_eq!(guest.open_at(3, b"tmp/f", 0, READ, fdflags::SYNC), Err(NOTSUP));
    assert_eq!(guest.open_at(3, b"tmp/f", 0, READ, 1 << 5), Err(INVAL));
    let fd = ok(guest.open("tmp/f", 0, READ));
    assert_eq!(guest.write(fd, b"x"), Err(BADF));
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, 0)), INVAL);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, 10)), BADF);
    assert_eq!(guest.read(fd, 2), Ok(b"12".to_vec()));
    let fd = ok(guest.open("tmp/f", 0, WRITE));
    assert_eq!(guest.read(fd, 2), Err(BADF));
    // A bad place for the number is found before anything happens.
    let len = guest.put(PATH, b"tmp/bad");
    let end = MEMORY as u32 - 3;
    let result = guest.world.path_open(&mut guest.mem, 3, 0, PATH, len, 1, WRITE, 0, 0, end);
    assert_eq!(code(result), FAULT);
    assert_eq!(guest.stat("tmp/bad", false), Err(NOENT));
    // All numbers taken: nothing is emptied either.
    while guest.open("tmp/f", 0, READ).is_ok() {}
    assert_eq!(guest.open("tmp/f", oflags::TRUNCATE, WRITE), Err(MFILE));
    assert_eq!(guest.open("tmp/more", create, WRITE), Err(MFILE));
    assert_eq!(guest.close(7), 0);
    assert_eq!(guest.open("tmp/f", oflags::TRUNCATE, READ), Ok(7));
    assert_eq!(ok(guest.fstat(7)).size, 0);
}

#[test]
fn rights_only_narrow() {
    let mut guest = Guest::new();
    guest.create("tmp/f", b"12345");
    assert_eq!(code(guest.world.fd_fdstat_get(&mut guest.mem, 3, RESULT)), 0);
    assert_eq!((guest.mem[RESULT as usize], guest.u64(RESULT + 8)), (3, rights::DIRECTORY));
    // As programs do that hand on what they have.
    let dir = ok(guest.open_at(3, b"tmp", 0, rights::DIRECTORY, 0));
    let all = rights::DIRECTORY | rights::FILE;
    let set = |guest: &mut Guest, fd, base, inheriting| {
        code(guest.world.fd_fdstat_set_rights(&mut guest.mem, fd, base, inheriting))
    };
    assert_eq!(set(&mut guest, dir, u64::MAX, 0), NOTCAPABLE);
    assert_eq!(set(&mut guest, dir, rights::PATH_OPEN, all & !WRITE), 0);
    assert_eq!(set(&mut guest, dir, rights::DIRECTORY, all & !WRITE), NOTCAPABLE);
    assert_eq!(set(&mut guest, dir, rights::PATH_OPEN, all), NOTCAPABLE);
    assert_eq!(guest.open_at(dir, b"f", 0, READ | WRITE, 0), Err(NOTCAPABLE));
    assert_eq!(guest.open_at(dir, b"f", oflags::TRUNCATE, READ, 0), Err(NOTCAPABLE));
    assert_eq!(guest.open_at(dir, b"new", oflags::CREATE, READ, 0), Err(NOTCAPABLE));
    assert_eq!(guest.readdir(dir, 100, 0), Err(NOTCAPABLE));
    let fd = ok(guest.open_at(dir, b"f", 0, READ, 0));
    assert_eq!(set(&mut guest, fd, READ, 0), 0);
    assert_eq!(guest.seek(fd, 0, 0), Err(NOTCAPABLE));
    assert_eq!(code(guest.world.fd_tell(&mut guest.mem, fd, RESULT)), NOTCAPABLE);
    assert_eq!(code(guest.world.fd_advise(&mut guest.mem, fd, 0, 0, 0)), NOTCAPABLE);
    assert_eq!(code(guest.world.fd_sync(&mut guest.mem, fd)), NOTCAPABLE);
    assert_eq!(code(guest.world.fd_datasync(&mut guest.mem, fd)), NOTCAPABLE);
    assert_eq!(guest.fstat(fd), Err(NOTCAPABLE));
    assert_eq!(guest.read(fd, 5), Ok(b"12345".to_vec()));
    assert_eq!(set(&mut guest, 99, 0, 0), BADF);
}

// --- files ---

#[test]
fn reading_writing_and_seeking() {
    let mut guest = Guest::new();
    let fd = ok(guest.open("tmp/f", oflags::CREATE, READ | WRITE));
    assert_eq!(guest.write(fd, b"0123456789"), Ok(10));
    assert_eq!(code(guest.world.fd_tell(&mut guest.mem, fd, RESULT)), 0);
    assert_eq!(guest.u64(RESULT), 10);
    let rows = [
        (0, 0, Ok(0)),
        (-1, 0, Err(INVAL)),
        (-3, 2, Ok(7)),
        (-8, 1, Err(INVAL)),
        (1, 1, Ok(8)),
        (i64::MAX, 1, Err(INVAL)),
        (i64::MAX, 0, Ok(i64::MAX as u64)),
        (i64::MIN, 1, Err(INVAL)),
        (0, 3, Err(INVAL)),
        (5, 0, Ok(5)),
    ];
    for (offset, whence, expected) in rows {
        assert_eq!(guest.seek(fd, offset, whence), expected, "{offset} {whence}");
    }
    assert_eq!(guest.read(fd, 100), Ok(b"56789".to_vec()));
    assert_eq!(guest.read(fd, 100), Ok(Vec::new()));
    // Scattered, and over the end.
    guest.put(BUFFER, b"abcdef");
    let count = guest.iovs(&[(BUFFER, 2), (BUFFER + 5, 0), (BUFFER + 2, 4)]);
    assert_eq!(code(guest.world.fd_pwrite(&mut guest.mem, fd, IOVS, count, 8, RESULT)), 0);
    assert_eq!(guest.u32(RESULT), 6);
    let count = guest.iovs(&[(BUFFER, 3), (BUFFER + 1, 100)]);
    assert_eq!(code(guest.world.fd_pread(&mut guest.mem, fd, IOVS, count, 7, RESULT)), 0);
    assert_eq!(guest.u32(RESULT), 7);
    assert_eq!(&guest.mem[BUFFER as usize..BUFFER as usize + 5], b"7cdef");
    assert_eq!(code(guest.world.fd_pread(&mut guest.mem, fd, IOVS, count, u64::MAX, RESULT)), 0);
    assert_eq!(guest.u32(RESULT), 0);
    // Past the end there are zeros.
    assert_eq!(guest.seek(fd, 16, 0), Ok(16));
    assert_eq!(guest.write(fd, b"z"), Ok(1));
    assert_eq!(guest.content("tmp/f"), Ok(b"01234567abcdef\0\0z".to_vec()));
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, 3)), 0);
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, 5)), 0);
    assert_eq!(guest.content("tmp/f"), Ok(b"012\0\0".to_vec()));
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 4, 4)), 0);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, 1)), 0);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, 0)), INVAL);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, u64::MAX, 1)), FBIG);
    assert_eq!(ok(guest.fstat(fd)).size, 8);
    for advice in 0..6 {
        assert_eq!(code(guest.world.fd_advise(&mut guest.mem, fd, u64::MAX, u64::MAX, advice)), 0);
    }
    assert_eq!(code(guest.world.fd_advise(&mut guest.mem, fd, 0, 0, 6)), INVAL);
    assert_eq!(code(guest.world.fd_sync(&mut guest.mem, fd)), 0);
    assert_eq!(code(guest.world.fd_datasync(&mut guest.mem, fd)), 0);
}

#[test]
fn appending() {
    let mut guest = Guest::new();
    guest.create("tmp/f", b"one");
    let fd = ok(guest.open_at(3, b"tmp/f", 0, READ | WRITE, fdflags::APPEND));
    assert_eq!(guest.write(fd, b"two"), Ok(3));
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.write(fd, b"three"), Ok(5));
    assert_eq!(code(guest.world.fd_fdstat_get(&mut guest.mem, fd, RESULT)), 0);
    assert_eq!((guest.mem[RESULT as usize], guest.mem[RESULT as usize + 2]), (4, 1));
    assert_eq!(code(guest.world.fd_fdstat_set_flags(&mut guest.mem, fd, 0)), 0);
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.write(fd, b"O"), Ok(1));
    assert_eq!(guest.content("tmp/f"), Ok(b"Onetwothree".to_vec()));
    for flags in [2, 8, 16, 32, u32::MAX] {
        assert_eq!(code(guest.world.fd_fdstat_set_flags(&mut guest.mem, fd, flags)), INVAL);
    }
    assert_eq!(code(guest.world.fd_fdstat_set_flags(&mut guest.mem, fd, 4)), 0);
}

#[test]
fn times_follow_the_virtual_clock() {
    let mut guest = Guest::new();
    guest.world.set_moment(12_000);
    guest.create("tmp/f", b"");
    let stat = ok(guest.stat("tmp/f", false));
    assert_eq!((stat.accessed, stat.modified), (EPOCH + 1000, EPOCH + 1000));
    assert_eq!(ok(guest.stat("tmp", false)).modified, EPOCH + 1000);
    guest.world.set_moment(24_000);
    guest.create("tmp/f", b"x");
    assert_eq!(ok(guest.stat("tmp/f", false)).modified, EPOCH + 2000);
    let len = guest.put(PATH, b"tmp/f");
    let set = |guest: &mut Guest, flags| {
        code(guest.world.path_filestat_set_times(&mut guest.mem, 3, 1, PATH, len, 5, 6, flags))
    };
    for (flags, expected) in [(0b0011, INVAL), (0b1100, INVAL), (1 << 4, INVAL), (0b0101, 0)] {
        assert_eq!(set(&mut guest, flags), expected);
    }
    let stat = ok(guest.stat("tmp/f", false));
    assert_eq!((stat.accessed, stat.modified), (5, 6));
    guest.put(PATH, b"tmp/f");
    assert_eq!(set(&mut guest, 0b1010), 0);
    assert_eq!(ok(guest.stat("tmp/f", false)).accessed, EPOCH + 2000);
    let fd = ok(guest.open("tmp/f", 0, READ));
    assert_eq!(code(guest.world.fd_filestat_set_times(&mut guest.mem, fd, 0, u64::MAX, 4)), 0);
    assert_eq!(ok(guest.fstat(fd)).modified, u64::MAX);
    let script = ok(guest.open("script/main.py", 0, READ));
    assert_eq!(code(guest.world.fd_filestat_set_times(&mut guest.mem, script, 0, 0, 4)), ROFS);
    assert_eq!(code(guest.world.fd_filestat_set_times(&mut guest.mem, 1, 0, 0, 4)), NOTCAPABLE);
}

#[test]
fn listings_are_sorted_and_stable() {
    let mut guest = Guest::new();
    assert_eq!(guest.mkdir("tmp/d"), 0);
    for name in ["b", "a", "ä", "C"] {
        guest.create(&format!("tmp/d/{name}"), b"");
    }
    let fd = ok(guest.open("tmp/d", oflags::DIRECTORY, 0));
    // A buffer for a few entries: the last one is cut and comes again by its cookie.
    let (names, full) = ok(guest.readdir(fd, 80, 0));
    assert!(full);
    assert_eq!(names, [(".".into(), 1), ("..".into(), 2), ("C".into(), 3)]);
    assert_eq!(guest.unlink("tmp/d/a"), 0);
    guest.create("tmp/d/0", b"");
    let (names, full) = ok(guest.readdir(fd, 1000, 3));
    assert_eq!((names, full), (vec![("a".into(), 4), ("b".into(), 5), ("ä".into(), 6)], false));
    assert_eq!(guest.readdir(fd, 1000, 6), Ok((vec![], false)));
    assert_eq!(guest.readdir(fd, 1000, u64::MAX), Ok((vec![], false)));
    let (names, _) = ok(guest.readdir(fd, 1000, 0));
    assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [".", "..", "0", "C", "b", "ä"]);
    assert_eq!(guest.readdir(fd, 0, 0), Ok((vec![], true)));
    let end = MEMORY as u32;
    assert_eq!(code(guest.world.fd_readdir(&mut guest.mem, fd, end - 9, 10, 0, RESULT)), FAULT);
    assert_eq!(code(guest.world.fd_readdir(&mut guest.mem, fd, 0, 10, 0, end)), FAULT);
    for (fd, error) in [(0, NOTDIR), (1, NOTDIR), (77, BADF)] {
        assert_eq!(guest.readdir(fd, 100, 0), Err(error));
    }
    let file = ok(guest.open("tmp/d/b", 0, READ));
    assert_eq!(guest.readdir(file, 100, 0), Err(NOTDIR));
    // Deleting while listing empties the directory.
    let (names, _) = ok(guest.readdir(fd, 1000, 0));
    for (name, _) in names.iter().skip(2) {
        assert_eq!(guest.unlink(&format!("tmp/d/{name}")), 0);
    }
    assert_eq!(guest.rmdir("tmp/d"), 0);
}

#[test]
fn directories_are_not_files() {
    let mut guest = Guest::new();
    assert_eq!(guest.read(3, 1), Err(ISDIR));
    assert_eq!(guest.write(3, b"x"), Err(BADF));
    assert_eq!(guest.seek(3, 0, 0), Err(BADF));
    let count = guest.iovs(&[(BUFFER, 1)]);
    assert_eq!(code(guest.world.fd_pread(&mut guest.mem, 3, IOVS, count, 0, RESULT)), BADF);
    assert_eq!(code(guest.world.fd_pwrite(&mut guest.mem, 3, IOVS, count, 0, RESULT)), BADF);
    assert_eq!(code(guest.world.fd_tell(&mut guest.mem, 3, RESULT)), BADF);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, 3, 0, 1)), BADF);
    assert_eq!(code(guest.world.fd_advise(&mut guest.mem, 3, 0, 1, 0)), BADF);
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, 3, 0)), BADF);
    assert_eq!(code(guest.world.fd_sync(&mut guest.mem, 3)), 0);
}

#[test]
fn descriptors_are_renumbered_and_closed() {
    let mut guest = Guest::new();
    guest.create("tmp/f", b"content");
    let a = ok(guest.open("tmp/f", 0, READ));
    let b = ok(guest.open("tmp/f", 0, READ));
    assert_eq!((a, b), (4, 5));
    let renumber = |guest: &mut Guest, from, to| code(guest.world.fd_renumber(&mut guest.mem, from, to));
    assert_eq!(renumber(&mut guest, a, a), 0);
    assert_eq!(renumber(&mut guest, 9, 9), BADF);
    assert_eq!(renumber(&mut guest, a, 9), BADF);
    assert_eq!(renumber(&mut guest, 9, a), BADF);
    assert_eq!(renumber(&mut guest, a, u32::MAX), BADF);
    assert_eq!(guest.read(a, 3), Ok(b"con".to_vec()));
    assert_eq!(renumber(&mut guest, a, b), 0);
    assert_eq!(guest.read(a, 3), Err(BADF));
    assert_eq!(guest.read(b, 3), Ok(b"ten".to_vec()));
    // A file in the place of standard input, output in the place of a file.
    assert_eq!(renumber(&mut guest, b, 0), 0);
    assert_eq!(guest.read(0, 3), Ok(b"t".to_vec()));
    let c = ok(guest.open("tmp/f", 0, READ));
    assert_eq!(renumber(&mut guest, 1, c), 0);
    assert_eq!(guest.write(1, b"x"), Err(BADF));
    assert_eq!(guest.write(c, b"out"), Ok(3));
    for fd in [0, 2, 3, c] {
        assert_eq!(guest.close(fd), 0);
        assert_eq!(guest.close(fd), BADF);
    }
    assert_eq!(guest.open("tmp/f", 0, READ), Err(BADF));
    assert_eq!(guest.fstat(3), Err(BADF));
    assert_eq!(guest.world.finish().stdout, b"out");
}

// --- quotas ---

#[test]
fn files_end_at_the_quotas() {
    let mut guest = Guest::new();
    // Names: 50.
    for index in 0..50 {
        guest.create(&format!("tmp/{index}"), b"");
    }
    assert_eq!(guest.open("tmp/x", oflags::CREATE, WRITE), Err(NOSPC));
    assert_eq!(guest.mkdir("tmp/x"), NOSPC);
    assert_eq!(guest.symlink("y", "tmp/x"), NOSPC);
    assert_eq!(guest.link("tmp/1", "tmp/x"), NOSPC);
    assert_eq!(guest.rename("tmp/1", "tmp/x"), 0);
    assert_eq!(guest.rename("tmp/x", "tmp/2"), 0);
    assert_eq!(guest.mkdir("tmp/x"), 0);
    assert_eq!(guest.mkdir("tmp/y"), NOSPC);
    let end = guest.world.finish();
    assert_eq!((end.files_written, end.bytes_written), (50, 0));

    // Bytes written, also over each other.
    let quotas = Quotas { bytes_written: 10, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, ..config() });
    let fd = ok(guest.open("tmp/f", oflags::CREATE, READ | WRITE));
    assert_eq!(guest.write(fd, b"1234567"), Ok(7));
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.write(fd, b"abcdefg"), Ok(3));
    assert_eq!(guest.write(fd, b"x"), Err(NOSPC));
    assert_eq!(guest.write(fd, b""), Ok(0));
    assert_eq!(guest.content("tmp/f"), Ok(b"abc4567".to_vec()));
    let end = guest.world.finish();
    assert_eq!((end.files_written, end.bytes_written), (1, 10));
}

#[test]
fn memory_is_shared_by_files_and_guest() {
    let quotas = Quotas { memory: 100_000, bytes_written: u64::MAX, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, ..config() });
    guest.world.set_linear_bytes(40_000);
    let fd = ok(guest.open("tmp/f", oflags::CREATE, READ | WRITE));
    let held = guest.world.held_bytes();
    assert_eq!(held, tree::NODE_BYTES + tree::ENTRY_BYTES + 1);
    let place = 24;
    let room = 60_000 - held - place;
    let set_size = |guest: &mut Guest, size| code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, size));
    assert_eq!(set_size(&mut guest, u64::MAX), FBIG);
    assert_eq!(set_size(&mut guest, 100_001), FBIG);
    // A size alone takes nothing; space that is not there is not promised.
    assert_eq!(set_size(&mut guest, 100_000), 0);
    assert_eq!(guest.world.held_bytes(), held);
    assert_eq!(set_size(&mut guest, 0), 0);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, 60_000)), NOSPC);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, 100_001)), FBIG);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, room)), 0);
    assert_eq!(guest.world.held_bytes(), held);
    assert_eq!(set_size(&mut guest, 0), 0);
    // Growing piece by piece reaches all there is, and a write in the middle of the end is cut.
    let piece = [7; 1000];
    let mut written = 0;
    loop {
        match guest.write(fd, &piece) {
            Ok(count) => written += u64::from(count),
            Err(error) => {
                assert_eq!(error, NOSPC);
                break;
            }
        }
    }
    assert_eq!(written, room);
    assert_eq!(guest.world.held_bytes(), 60_000);
    assert_eq!(guest.mkdir("tmp/d"), NOSPC);
    let dir = ok(guest.open("tmp", oflags::DIRECTORY, 0));
    assert_eq!(guest.readdir(dir, 100, 0), Err(NOMEM));
    assert_eq!(guest.seek(fd, 100_000, 0), Ok(100_000));
    assert_eq!(guest.write(fd, b"x"), Err(FBIG));
    assert_eq!(guest.seek(fd, 99_999, 0), Ok(99_999));
    assert_eq!(guest.write(fd, b"x"), Err(NOSPC));
    guest.world.set_linear_bytes(200_000);
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.write(fd, b"over"), Ok(4));
    guest.world.tree.check();
    assert_eq!(set_size(&mut guest, 0), 0);
    assert_eq!(guest.world.held_bytes(), held);
    assert_eq!((guest.close(fd), guest.unlink("tmp/f")), (0, 0));
    assert_eq!(guest.world.held_bytes(), 0);
    // The peak is what was held once, not what is left.
    assert_eq!(guest.world.finish().memory_peak, 100_000);
}

#[test]
fn holes_take_no_memory() {
    let quotas = Quotas { memory: 4 << 30, bytes_written: 1 << 20, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, ..config() });
    let fd = ok(guest.open("tmp/f", oflags::CREATE, READ | WRITE));
    let size = 3 << 30;
    let before = guest.world.fuel_spent();
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, size)), 0);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, size, 1000)), 0);
    assert_eq!(ok(guest.fstat(fd)).size, size + 1000);
    assert!(guest.world.held_bytes() < 1000 && guest.world.fuel_spent() - before < 10_000);
    // Bytes far behind the end, over the border of two chunks.
    assert_eq!(guest.seek(fd, size as i64 - 2, 0), Ok(size - 2));
    assert_eq!(guest.write(fd, b"abcd"), Ok(4));
    assert!(guest.world.held_bytes() < 1_500_000, "{}", guest.world.held_bytes());
    assert!(guest.world.fuel_spent() - before > 1_000_000, "what is held is paid for");
    for (at, expected) in [(size - 4, b"\0\0ab"), (size, b"cd\0\0"), (1 << 30, b"\0\0\0\0")] {
        assert_eq!(guest.seek(fd, at as i64, 0), Ok(at));
        assert_eq!(guest.read(fd, 4), Ok(expected.to_vec()));
    }
    assert_eq!(guest.seek(fd, -2, 2), Ok(size + 998));
    assert_eq!(guest.read(fd, 4), Ok(vec![0; 2]));
    // What was cut off is gone when the file grows again.
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, size - 1)), 0);
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, size + 2)), 0);
    assert_eq!(guest.seek(fd, size as i64 - 2, 0), Ok(size - 2));
    assert_eq!(guest.read(fd, 4), Ok(b"a\0\0\0".to_vec()));
    guest.world.tree.check();
    assert_eq!((guest.close(fd), guest.unlink("tmp/f")), (0, 0));
    assert_eq!(guest.world.held_bytes(), 0);
}

/// What the quotas allow and the host cannot give is not the script's doing, and so no answer to it.
#[test]
fn a_host_without_memory_ends_the_run() {
    let quotas = Quotas { memory: u64::MAX, bytes_written: u64::MAX, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, ..config() });
    let fd = ok(guest.open("tmp/f", oflags::CREATE, READ | WRITE));
    assert_eq!(guest.seek(fd, 1 << 62, 0), Ok(1 << 62));
    assert_eq!(guest.try_write(fd, b"x"), Err(Fault::Stop(Stop::HostMemory)));
}

/// A file against a plain list of bytes, with sizes around those of chunks.
#[test]
fn chunks_behave_as_bytes() {
    let quotas = Quotas { memory: 1 << 30, bytes_written: 1 << 30, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, ..config() });
    let fd = ok(guest.open("tmp/f", oflags::CREATE, READ | WRITE));
    let mut model: Vec<u8> = Vec::new();
    let mut dice = hostile::Dice(42);
    for step in 0..2000_u64 {
        let at = dice.below(300_000) as usize;
        let len = [1, 100, 65_536, 70_000, 200_000][dice.below(5) as usize];
        match dice.below(4) {
            0 => {
                assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, at as u64)), 0);
                model.resize(at, 0);
            }
            1 | 2 => {
                let bytes = vec![step as u8; len];
                assert_eq!(guest.seek(fd, at as i64, 0), Ok(at as u64));
                assert_eq!(guest.write(fd, &bytes), Ok(len as u32));
                model.resize(model.len().max(at + len), 0);
                model[at..at + len].copy_from_slice(&bytes);
            }
            _ => {
                assert_eq!(guest.seek(fd, at as i64, 0), Ok(at as u64));
                let end = model.len().min(at + len);
                assert!(ok(guest.read(fd, len as u32)) == model.get(at..end).unwrap_or_default(), "{step}");
            }
        }
        assert_eq!(ok(guest.fstat(fd)).size, model.len() as u64);
        guest.world.tree.check();
    }
}

#[test]
fn collecting_files_shares_linked_ones() {
    let mut guest = Guest::new();
    assert_eq!(guest.mkdir("out/d"), 0);
    guest.create("out/d/a", b"1");
    guest.create("out/b", b"2");
    assert_eq!(guest.link("out/b", "out/c"), 0);
    assert_eq!(guest.symlink("b", "out/link"), 0);
    let files = guest.world.take_files("/out");
    let names: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.to_vec())).collect();
    assert_eq!(names, [("b", b"2".to_vec()), ("c", b"2".to_vec()), ("d/a", b"1".to_vec())]);
    assert!(Arc::ptr_eq(&files[0].1, &files[1].1));
    assert_eq!(guest.world.take_files("/").len(), 4);
    assert!(guest.world.take_files("/none").is_empty());
    assert!(guest.world.take_files("/out/b").is_empty());
}

// --- streams ---

#[test]
fn streams_are_pipes() {
    let mut guest = Guest::new();
    for fd in 0..3 {
        assert_eq!(code(guest.world.fd_fdstat_get(&mut guest.mem, fd, RESULT)), 0);
        assert_eq!(guest.mem[RESULT as usize], 0);
        assert_eq!(guest.u64(RESULT + 8) & (rights::FD_SEEK | rights::FD_TELL), 0);
        assert_eq!(guest.seek(fd, 0, 1), Err(SPIPE));
        assert_eq!(code(guest.world.fd_tell(&mut guest.mem, fd, RESULT)), SPIPE);
        assert_eq!(ok(guest.fstat(fd)).filetype, 0);
        let count = guest.iovs(&[(BUFFER, 1)]);
        assert_eq!(code(guest.world.fd_pread(&mut guest.mem, fd, IOVS, count, 0, RESULT)), SPIPE);
        assert_eq!(code(guest.world.fd_pwrite(&mut guest.mem, fd, IOVS, count, 0, RESULT)), SPIPE);
        assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, 0)), SPIPE);
        assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, 1)), SPIPE);
    }
    assert_eq!(guest.write(0, b"x"), Err(BADF));
    assert_eq!(guest.read(1, 1), Err(BADF));
    assert_eq!(guest.read(0, 1), Ok(Vec::new()));
    assert_eq!(code(guest.world.fd_sync(&mut guest.mem, 1)), 0);
}

#[test]
fn output_ends_at_its_limit() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let seen = Arc::clone(&seen);
        move |stream: Stream, bytes: &[u8]| ok(seen.lock()).push((stream, bytes.to_vec()))
    };
    let quotas = Quotas { output: 10, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, sink: Some(Box::new(sink)), ..config() });
    assert_eq!(guest.try_write(1, b"12345"), Ok(5));
    assert_eq!(guest.try_write(2, b"67890"), Ok(5));
    assert_eq!(guest.try_write(1, b""), Ok(0));
    assert_eq!(guest.try_write(2, b"abc"), Err(Fault::Stop(Stop::Output)));
    assert_eq!(*ok(seen.lock()), [(Stream::Stdout, b"12345".to_vec()), (Stream::Stderr, b"67890".to_vec())]);
    let end = guest.world.finish();
    assert_eq!((end.stdout.as_slice(), end.stderr.as_slice()), (b"12345".as_slice(), b"67890".as_slice()));
    assert_eq!((end.stdout_truncated, end.stderr_truncated), (false, true));
    assert_eq!((end.output_bytes, end.output_attempted), (10, 13));

    let mut guest = Guest::with(WorldConfig { quotas, ..config() });
    guest.put(BUFFER, b"0123456789abcdef");
    let count = guest.iovs(&[(BUFFER, 8), (BUFFER + 8, 8)]);
    let result = guest.world.fd_write(&mut guest.mem, 1, IOVS, count, RESULT);
    assert_eq!(result, Err(Fault::Stop(Stop::Output)));
    let end = guest.world.finish();
    assert_eq!((end.stdout, end.stdout_truncated), (b"0123456789".to_vec(), true));
}

#[test]
fn sinks_may_fail() {
    struct Failing(io::ErrorKind);
    impl OutputSink for Failing {
        fn write(&mut self, _: Stream, _: &[u8], _: Instant) -> io::Result<()> {
            Err(self.0.into())
        }
    }
    for (kind, stop) in [(io::ErrorKind::TimedOut, Stop::SinkTimedOut), (io::ErrorKind::BrokenPipe, Stop::SinkClosed)] {
        let sink: Option<Box<dyn OutputSink>> = Some(Box::new(Failing(kind)));
        let mut guest = Guest::with(WorldConfig { sink, capture: false, ..config() });
        assert_eq!(guest.try_write(1, b"x"), Err(Fault::Stop(stop)));
        assert!(guest.world.finish().stdout.is_empty());
    }
}

/// A sink must return when the run must end, and time slept counts as if it had passed.
#[test]
fn sinks_get_the_time_that_is_left() {
    struct Noting(Arc<Mutex<Option<Instant>>>);
    impl OutputSink for Noting {
        fn write(&mut self, _: Stream, _: &[u8], deadline: Instant) -> io::Result<()> {
            *ok(self.0.lock()) = Some(deadline);
            Ok(())
        }
    }
    let told = Arc::new(Mutex::new(None));
    let deadline = Instant::now() + Duration::from_secs(100);
    let sink: Option<Box<dyn OutputSink>> = Some(Box::new(Noting(Arc::clone(&told))));
    let mut guest = Guest::with(WorldConfig { sink, deadline, ..config() });
    assert_eq!(guest.write(1, b"x"), Ok(1));
    assert_eq!(*ok(told.lock()), Some(deadline));
    guest.subscribe_clock(0, 1, 30_000_000_000, false);
    assert!(guest.poll(1).is_ok());
    assert_eq!(guest.write(1, b"x"), Ok(1));
    assert_eq!(*ok(told.lock()), Some(deadline - Duration::from_secs(30)));
}

#[test]
fn input_is_cut_the_same_way_however_it_arrives() {
    let mut bytes = b"line one\nline two\n\nno end".to_vec();
    bytes.resize(70_000, b'x');
    bytes.extend_from_slice(b"\nmore\nlines\n");
    bytes.resize(150_000, b'y');

    let read_all = |guest: &mut Guest, host: Option<usize>| {
        let (mut chunks, mut given) = (Vec::new(), 0);
        loop {
            match ok(guest.try_read(0, 20_000)) {
                Some(chunk) if chunk.is_empty() => return chunks,
                Some(chunk) => chunks.push(chunk),
                None => {
                    let Some(wanted) = guest.world.stdin_wanted() else { panic!("it waits for nothing") };
                    let step = host.unwrap_or(0).min(wanted).min(bytes.len() - given);
                    guest.world.stdin_arrived(Ok(&bytes[given..given + step]));
                    given += step;
                }
            }
        }
    };
    let mut plain = Guest::with(WorldConfig { stdin: bytes.clone().into(), ..config() });
    let expected = read_all(&mut plain, None);
    assert_eq!(expected.concat(), bytes);
    assert_eq!(expected[0], b"line one\n");
    assert_eq!(expected[2], b"\n");
    let end = plain.world.finish();
    assert_eq!((end.stdin_bytes, end.stdin_terminal_seen), (150_000, false));
    for step in [1, 7, 4096, 65536] {
        let file = ok(File::open("/dev/null"));
        let mut guest = Guest::with(WorldConfig { stdin: Stdin::Host(file), ..config() });
        assert!(guest.world.take_stdin_file().is_some());
        assert!(guest.world.take_stdin_file().is_none());
        assert_eq!(guest.world.stdin_wanted(), None);
        assert_eq!(read_all(&mut guest, Some(step)), expected, "{step}");
        assert_eq!(guest.world.stdin_wanted(), None);
        assert_eq!(guest.world.finish().stdin_sha256, end.stdin_sha256);
    }
}

#[test]
fn input_of_a_terminal_and_its_errors() {
    let host = || WorldConfig { stdin: Stdin::Host(ok(File::open("/dev/null"))), ..config() };
    let mut guest = Guest::with(host());
    guest.world.set_stdin_terminal(true);
    assert_eq!(guest.try_read(0, 10), Ok(None));
    assert_eq!(guest.world.stdin_wanted(), Some(10));
    guest.world.stdin_arrived(Ok(b"ab"));
    assert_eq!(guest.try_read(0, 10), Ok(Some(b"ab".to_vec())));
    guest.world.stdin_arrived(Err(io::ErrorKind::Interrupted.into()));
    assert_eq!(guest.try_read(0, 10), Ok(None));
    guest.world.stdin_arrived(Ok(b"c"));
    guest.world.stdin_arrived(Err(io::ErrorKind::Other.into()));
    assert_eq!(guest.try_read(0, 0), Ok(Some(Vec::new())));
    assert_eq!(guest.read(0, 10), Ok(b"c".to_vec()));
    assert_eq!(guest.read(0, 10), Err(29));
    let end = guest.world.finish();
    assert!(end.stdin_terminal_seen);
    assert_eq!((end.stdin_bytes, end.stdin_end), (3, InputEnd::Failed));

    // A poll alone shows when input arrives.
    let mut guest = Guest::with(host());
    guest.world.set_stdin_terminal(true);
    guest.subscribe_fd(0, 1, 0);
    assert_eq!(guest.poll(1), Ok(Err(Wait::Stdin)));
    assert!(guest.world.finish().stdin_terminal_seen);

    // What was not read is not counted.
    let mut guest = Guest::with(WorldConfig { stdin: "first\nsecond\n".into(), ..config() });
    assert_eq!(guest.read(0, 4), Ok(b"firs".to_vec()));
    let end = guest.world.finish();
    assert_eq!(end.stdin_bytes, 4);
    let mut other = Guest::with(WorldConfig { stdin: "firs".into(), ..config() });
    assert_eq!(other.read(0, 100), Ok(b"firs".to_vec()));
    let whole = other.world.finish();
    assert_eq!(
        (whole.stdin_sha256, whole.stdin_end, end.stdin_end),
        (end.stdin_sha256, InputEnd::NotSeen, InputEnd::NotSeen)
    );
    let mut other = Guest::with(WorldConfig { stdin: "firs".into(), ..config() });
    assert_eq!((other.read(0, 100), other.read(0, 100)), (Ok(b"firs".to_vec()), Ok(Vec::new())));
    assert_eq!(other.world.finish().stdin_end, InputEnd::Seen);
}

// --- clocks, polls, randomness, process ---

#[test]
fn clocks() {
    let mut guest = Guest::new();
    assert_eq!([guest.time(0), guest.time(1), guest.time(2), guest.time(3)], [EPOCH, 1_000_000_000, 0, 0]);
    guest.world.set_moment(1200);
    assert_eq!([guest.time(0), guest.time(1), guest.time(2)], [EPOCH + 100, 1_000_000_100, 100]);
    guest.world.set_moment(u64::MAX);
    assert!(guest.time(0) > EPOCH);
    for id in [4, u32::MAX] {
        assert_eq!(code(guest.world.clock_time_get(&mut guest.mem, id, 0, RESULT)), INVAL);
        assert_eq!(code(guest.world.clock_res_get(&mut guest.mem, id, RESULT)), INVAL);
    }
    assert_eq!(code(guest.world.clock_res_get(&mut guest.mem, 1, RESULT)), 0);
    assert_eq!(guest.u64(RESULT), 1);
    assert_eq!(code(guest.world.clock_time_get(&mut guest.mem, 0, 0, MEMORY as u32 - 7)), FAULT);
    let mut late = Guest::with(WorldConfig { clock: ClockConfig::Virtual { epoch_nanos: u64::MAX }, ..config() });
    assert_eq!(late.time(0), u64::MAX);
    let mut live = Guest::with(WorldConfig { clock: ClockConfig::Live, ..config() });
    assert!(live.time(0) > EPOCH);
    let first = live.time(1);
    assert!((1_000_000_000..60_000_000_000).contains(&first));
    assert!(live.time(1) >= first);
}

#[test]
fn virtual_sleep_takes_no_time() {
    let mut guest = Guest::new();
    guest.subscribe_clock(0, 1, 3_600_000_000_000, false);
    guest.subscribe_clock(1, 0, 7_200_000_000_000, false);
    assert_eq!(guest.poll(2), Ok(Ok(vec![(100, 0, 0, 0)])));
    assert_eq!(guest.world.slept(), Duration::from_secs(3600));
    assert_eq!((guest.time(0), guest.time(2)), (EPOCH + 3_600_000_000_000, 0));
    // Moments: one passed, one to come.
    guest.subscribe_clock(0, 0, EPOCH, true);
    assert_eq!(guest.poll(1), Ok(Ok(vec![(100, 0, 0, 0)])));
    assert_eq!(guest.world.slept(), Duration::from_secs(3600));
    guest.subscribe_clock(0, 1, 1_000_000_000 + 3_601_000_000_000, true);
    assert_eq!(guest.poll(1), Ok(Ok(vec![(100, 0, 0, 0)])));
    assert_eq!(guest.world.slept(), Duration::from_secs(3601));
    // Two at once.
    guest.subscribe_clock(0, 0, 5, false);
    guest.subscribe_clock(1, 1, 5, false);
    assert_eq!(guest.poll(2), Ok(Ok(vec![(100, 0, 0, 0), (101, 0, 0, 0)])));
    // A clock that stands still, none at all, unknown kinds and flags.
    guest.subscribe_clock(0, 2, 5, false);
    assert_eq!(guest.poll(1), Ok(Ok(vec![(100, NOTSUP, 0, 0)])));
    guest.subscribe_clock(0, 9, 5, false);
    assert_eq!(code(guest.poll(1)), INVAL);
    guest.subscribe_clock(0, 0, 5, false);
    guest.put(PATH + 40, &[2, 0]);
    assert_eq!(code(guest.poll(1)), INVAL);
    guest.subscribe_fd(0, 3, 0);
    assert_eq!(code(guest.poll(1)), INVAL);
    assert_eq!(code(guest.poll(0)), INVAL);
    assert_eq!(code(guest.poll(1025)), INVAL);
    assert_eq!(code(guest.poll(u32::MAX)), INVAL);
    // Too long.
    guest.world.set_sleep_limit(Duration::from_secs(3602));
    guest.subscribe_clock(0, 0, 999_999_000, false);
    assert!(guest.poll(1).is_ok());
    guest.subscribe_clock(0, 0, 1_000_000_000, false);
    assert_eq!(guest.poll(1), Err(Fault::Stop(Stop::SleepPastLimit)));
    guest.subscribe_clock(0, 0, u64::MAX, false);
    assert_eq!(guest.poll(1), Err(Fault::Stop(Stop::WaitsForever)));
}

#[test]
fn polls_of_descriptors() {
    let mut guest = Guest::with(WorldConfig { stdin: "input".into(), ..config() });
    guest.create("tmp/f", b"12345");
    let file = ok(guest.open("tmp/f", 0, READ));
    guest.subscribe_clock(0, 1, 1000, false);
    guest.subscribe_fd(1, 1, 0);
    guest.subscribe_fd(2, 2, 1);
    guest.subscribe_fd(3, 1, file);
    guest.subscribe_fd(4, 2, file);
    guest.subscribe_fd(5, 1, 99);
    guest.subscribe_fd(6, 1, 2);
    let expected = vec![
        (101, 0, 1, 0),
        (102, 0, 4096, 0),
        (103, 0, 5, 0),
        (104, BADF, 0, 0),
        (105, BADF, 0, 0),
        (106, BADF, 0, 0),
    ];
    assert_eq!(guest.poll(7), Ok(Ok(expected)));
    assert_eq!(guest.world.slept(), Duration::ZERO);
    assert_eq!(guest.read(0, 10), Ok(b"input".to_vec()));
    assert_eq!(guest.read(0, 10), Ok(Vec::new()));
    guest.subscribe_fd(0, 1, 0);
    assert_eq!(guest.poll(1), Ok(Ok(vec![(100, 0, 0, 1)])));
    // The arrays may overlap, but must lie in the memory.
    guest.subscribe_fd(0, 2, 1);
    guest.subscribe_fd(1, 2, 2);
    assert_eq!(code(guest.world.poll_oneoff(&mut guest.mem, PATH, PATH + 8, 2, RESULT)), 0);
    assert_eq!(guest.u32(RESULT), 2);
    let end = MEMORY as u32;
    for (subscriptions, events, told) in
        [(end - 47, 0, 0), (PATH, end - 31, 0), (PATH, BUFFER, end - 3), (u32::MAX, 0, 0)]
    {
        assert_eq!(code(guest.world.poll_oneoff(&mut guest.mem, subscriptions, events, 1, told)), FAULT);
    }
}

#[test]
fn live_polls_wait() {
    let stdin = Stdin::Host(ok(File::open("/dev/null")));
    let mut guest = Guest::with(WorldConfig { clock: ClockConfig::Live, stdin, ..config() });
    guest.subscribe_clock(0, 1, 20_000_000, false);
    let before = Instant::now();
    let Ok(Err(Wait::Until(until))) = guest.poll(1) else { panic!("it does not wait") };
    assert!(until <= before + Duration::from_secs(5) && until >= before + Duration::from_millis(20));
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    assert_eq!(guest.poll(1), Ok(Ok(vec![(100, 0, 0, 0)])));
    // A moment is not counted twice.
    let moment = guest.time(1) + 30_000_000;
    guest.subscribe_clock(0, 1, moment, true);
    assert!(matches!(guest.poll(1), Ok(Err(Wait::Until(_)))));
    std::thread::sleep(Duration::from_millis(16));
    assert!(guest.time(1) >= moment || matches!(guest.poll(1), Ok(Err(Wait::Until(_)))));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(guest.poll(1), Ok(Ok(vec![(100, 0, 0, 0)])));
    // The end of time.
    guest.subscribe_clock(0, 0, u64::MAX, false);
    assert!(matches!(guest.poll(1), Ok(Err(Wait::Until(_)))));
    // Input, alone and with a timeout.
    guest.subscribe_fd(0, 1, 0);
    assert_eq!(guest.poll(1), Ok(Err(Wait::Stdin)));
    assert!(guest.world.stdin_wanted().is_some());
    guest.subscribe_clock(1, 0, u64::MAX, false);
    assert!(matches!(guest.poll(2), Ok(Err(Wait::StdinUntil(_)))));
    guest.world.stdin_arrived(Ok(b"abc"));
    assert_eq!(guest.poll(2), Ok(Ok(vec![(100, 0, 3, 0)])));
    guest.world.stdin_arrived(Ok(b""));
    assert_eq!(guest.read(0, 10), Ok(b"abc".to_vec()));
    assert_eq!(guest.poll(2), Ok(Ok(vec![(100, 0, 0, 1)])));
    assert_eq!(guest.world.slept(), Duration::ZERO);
}

#[test]
fn randomness_follows_the_seed() {
    let draw = |seed, lens: &[u32]| {
        let mut guest = Guest::with(WorldConfig { random: RandomConfig::Seeded(seed), ..config() });
        let mut bytes = Vec::new();
        for len in lens {
            assert_eq!(code(guest.world.random_get(&mut guest.mem, 0, *len)), 0);
            bytes.extend_from_slice(&guest.mem[..*len as usize]);
        }
        bytes
    };
    assert_eq!(draw(1, &[16, 16]), draw(1, &[16, 16]));
    assert_ne!(draw(1, &[32]), draw(2, &[32]));
    assert_ne!(draw(u128::MAX, &[32]), draw(u128::from(u64::MAX), &[32]));
    let mut guest = Guest::with(WorldConfig { random: RandomConfig::System, ..config() });
    let mut seen = BTreeMap::new();
    for len in [16_u32, 16, 16, 4000, 5000] {
        assert_eq!(code(guest.world.random_get(&mut guest.mem, 0, len)), 0);
        *seen.entry(guest.mem[..16].to_vec()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 5);
    let end = MEMORY as u32;
    for (at, len, expected) in
        [(end, 0, 0), (end, 1, FAULT), (end - 1, 2, FAULT), (0, (1 << 20) + 1, INVAL), (0, u32::MAX, INVAL)]
    {
        assert_eq!(code(guest.world.random_get(&mut guest.mem, at, len)), expected);
    }
    assert_eq!(code(guest.world.random_get(&mut guest.mem, 0, 1 << 20)), 0);
}

#[test]
fn the_process_and_its_sockets() {
    let mut guest = Guest::new();
    for (code, seen) in [(3, 3), (255, 255), (256, 0), (u32::MAX, 255)] {
        assert_eq!(guest.world.proc_exit(&mut guest.mem, code), Err(Fault::Stop(Stop::Exit(seen))));
    }
    assert_eq!(code(guest.world.proc_raise(&mut guest.mem, 6)), NOTSUP);
    assert_eq!(code(guest.world.sched_yield(&mut guest.mem)), 0);
    for (fd, expected) in [(0, NOTSOCK), (3, NOTSOCK), (50, BADF)] {
        assert_eq!(code(guest.world.sock_accept(&mut guest.mem, fd, 0, 0)), expected);
        assert_eq!(code(guest.world.sock_recv(&mut guest.mem, fd, 0, 0, 0, 0, 0)), expected);
        assert_eq!(code(guest.world.sock_send(&mut guest.mem, fd, 0, 0, 0, 0)), expected);
        assert_eq!(code(guest.world.sock_shutdown(&mut guest.mem, fd, 0)), expected);
    }
}

/// One print is cheap: the bound is far above what is measured, and far below what an allocation per call would cost.
#[test]
fn a_print_costs_little() {
    let quotas = Quotas { output: u64::MAX, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, capture: false, ..config() });
    let count = guest.iovs(&[(BUFFER, 20)]);
    let began = Instant::now();
    for _ in 0..100_000 {
        assert!(guest.world.fd_write(&mut guest.mem, 1, IOVS, count, RESULT).is_ok());
    }
    let each = began.elapsed() / 100_000;
    assert!(each < Duration::from_micros(20), "{each:?}");
}

/// A run may move between threads while it waits.
#[test]
fn a_world_can_be_sent() {
    fn sent<T: Send>(_: &T) {}
    sent(&Guest::new().world);
}

/// Puts a record of an output buffer into memory.
fn waits(guest: &mut Guest, record: u32, len: u32, error: u32, data: u32) {
    for (at, value) in [(record, len), (record + 4, error), (record + 8, data)] {
        guest.put(at, &value.to_le_bytes());
    }
}

#[test]
fn output_that_waits_in_the_guest_is_taken_in_order_and_once() {
    let mut guest = Guest::new();
    ok(guest.world.take_output(&mut guest.mem)); // no buffers: nothing to do
    guest.world.set_output_buffers(&guest.mem, BUFFER);
    guest.put(BUFFER + 100, b"out");
    guest.put(BUFFER + 200, b"err");
    waits(&mut guest, BUFFER, 3, 0, BUFFER + 100);
    waits(&mut guest, BUFFER + 12, 3, 0, BUFFER + 200);
    ok(guest.world.take_output(&mut guest.mem));
    assert_eq!((guest.u32(BUFFER), guest.u32(BUFFER + 12)), (0, 0));
    ok(guest.world.take_output(&mut guest.mem));
    let end = guest.world.finish();
    assert_eq!((end.stdout.as_slice(), end.stderr.as_slice()), (b"out".as_slice(), b"err".as_slice()));
}

#[test]
fn the_guest_is_told_which_descriptors_are_streams() {
    let mut guest = Guest::new();
    let table = BUFFER + 512;
    guest.put(BUFFER + 24, &table.to_le_bytes());
    guest.put(BUFFER + 28, &6_u32.to_le_bytes());
    guest.world.set_output_buffers(&guest.mem, BUFFER);
    guest.put(table, &[0, 1, 2, 0, 0, 0, 9]);
    let streams = |guest: &Guest| guest.mem[table as usize..table as usize + 7].to_vec();
    let out = ok(guest.open("dev/stdout", 0, WRITE));
    assert_eq!((out, streams(&guest)), (4, vec![0, 1, 2, 0, 1, 0, 9]));
    let err = ok(guest.open("dev/stderr", 0, WRITE));
    assert_eq!((err, streams(&guest)), (5, vec![0, 1, 2, 0, 1, 2, 9]));
    // Beyond its end the table is left alone.
    assert_eq!((guest.open("dev/stderr", 0, WRITE), streams(&guest)[6]), (Ok(6), 9));
    assert_eq!(code(guest.world.fd_renumber(&mut guest.mem, err, 1)), 0);
    assert_eq!(streams(&guest), [0, 2, 2, 0, 1, 0, 9]);
    assert_eq!((guest.close(1), guest.close(out)), (0, 0));
    assert_eq!(streams(&guest), [0, 0, 2, 0, 0, 0, 9]);
    // What waits belongs to the stream, whatever became of the descriptor.
    guest.put(BUFFER + 100, b"out");
    waits(&mut guest, BUFFER, 3, 0, BUFFER + 100);
    ok(guest.world.take_output(&mut guest.mem));
    assert_eq!(guest.world.finish().stdout, b"out");
}

#[test]
fn records_of_waiting_output_that_lie_are_harmless() {
    let mut guest = Guest::new();
    let end = MEMORY as u32;
    for address in [end - 1, end - 8, u32::MAX, u32::MAX - 12] {
        guest.world.set_output_buffers(&guest.mem, address);
        ok(guest.world.take_output(&mut guest.mem));
    }
    guest.world.set_output_buffers(&guest.mem, BUFFER);
    for (len, data) in [(u32::MAX, end - 4), (8, end - 4), (8, u32::MAX - 2)] {
        waits(&mut guest, BUFFER, len, 0, data);
        ok(guest.world.take_output(&mut guest.mem));
    }
    assert_eq!(guest.u32(BUFFER + 4), Errno::Fault as u32);
}

#[test]
fn waiting_output_past_the_limit_is_cut() {
    let mut guest = Guest::with(WorldConfig { quotas: Quotas { output: 5, ..quotas() }, ..config() });
    guest.world.set_output_buffers(&guest.mem, BUFFER);
    guest.put(BUFFER + 100, b"1234567890");
    waits(&mut guest, BUFFER, 10, 0, BUFFER + 100);
    assert_eq!(guest.world.take_output(&mut guest.mem), Err(Fault::Stop(Stop::Output)));
    let end = guest.world.finish();
    assert_eq!((end.stdout.as_slice(), end.stdout_truncated, end.output_attempted), (b"12345".as_slice(), true, 10));
}
