//! One script of calls on files, once against the World and once against `wasmtime-wasi` on a temporary directory:
//! the answers must be the same wherever both define them. See README.md.
#![no_main]

use std::sync::LazyLock;

use capibara::fuzzing::Guest;
use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use wasmtime::{Engine, Instance, Linker, Memory, Module, Store, Val};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_sync};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Functions of the script with their parameters: `i` is 32 bits, `l` 64.
const FUNCTIONS: [(&str, &str); 19] = [
    ("fd_close", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_pread", "iiili"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_seek", "ilii"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_unlink_file", "iii"),
];
const MEMORY: usize = 64 << 10;
const PATH: usize = 1 << 10;
const OTHER: usize = 2 << 10;
const IOVS: usize = 3 << 10;
const RESULT: usize = 4 << 10;
const BUFFER: usize = 8 << 10;
const BUFFER_BYTES: usize = 16 << 10;
/// Most calls of one script, and most descriptors it holds.
const MAX_CALLS: usize = 60;
const MAX_OPEN: usize = 20;
/// `fd_read` and `fd_write`.
const READ_WRITE: u64 = 1 << 1 | 1 << 6;

/// A module that exports what it imports, so that the functions see its memory.
static MODULE: LazyLock<Module> = LazyLock::new(|| {
    let (mut imports, mut exports) = (String::new(), String::new());
    for (name, parameters) in FUNCTIONS {
        let types: String = parameters.chars().map(|kind| if kind == 'i' { " i32" } else { " i64" }).collect();
        let gets: String = (0..parameters.len()).map(|index| format!(" local.get {index}")).collect();
        imports +=
            &format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param{types}) (result i32)))");
        exports += &format!("(func (export \"{name}\") (param{types}) (result i32){gets} call ${name})");
    }
    let text = format!("(module {imports} (memory (export \"memory\") 1) {exports})");
    Module::new(&Engine::default(), wat::parse_str(text).expect("text")).expect("module")
});

/// `wasmtime-wasi` on a temporary directory.
struct Other {
    store: Store<WasiP1Ctx>,
    instance: Instance,
    memory: Memory,
    _dir: TempDir,
}

impl Other {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let context = WasiCtxBuilder::new()
            .allow_blocking_current_thread(true)
            .preopened_dir(dir.path(), "/", FsPerms::ReadWrite)
            .expect("a directory")
            .build_p1();
        let mut store = Store::new(MODULE.engine(), context);
        let mut linker = Linker::new(MODULE.engine());
        add_to_linker_sync(&mut linker, |context| context).expect("functions");
        let instance = linker.instantiate(&mut store, &MODULE).expect("an instance");
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        Self { store, instance, memory, _dir: dir }
    }

    fn call(&mut self, name: &str, arguments: &[u64]) -> u16 {
        let (_, parameters) = FUNCTIONS.iter().find(|(known, _)| *known == name).expect("a function");
        let arguments: Vec<Val> = parameters
            .chars()
            .zip(arguments)
            .map(|(kind, word)| if kind == 'i' { Val::I32(*word as i32) } else { Val::I64(*word as i64) })
            .collect();
        let mut result = [Val::I32(0)];
        let function = self.instance.get_func(&mut self.store, name).expect("a function");
        function.call(&mut self.store, &arguments, &mut result).expect("an errno");
        u16::try_from(result[0].unwrap_i32()).expect("an errno")
    }
}

/// Both sides. Descriptors are numbered by each as it likes, and named here by their place in `open`.
struct Both<'a> {
    input: Unstructured<'a>,
    ours: Guest,
    theirs: Other,
    open: Vec<(u64, u64)>,
    told: Vec<String>,
}

impl<'a> Both<'a> {
    fn take<T: Arbitrary<'a> + Default>(&mut self) -> T {
        self.input.arbitrary().unwrap_or_default()
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.take::<u8>()) % bound
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.ours.mem[at..at + bytes.len()].copy_from_slice(bytes);
        self.theirs.memory.data_mut(&mut self.theirs.store)[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn seen(&self, at: usize, len: usize) -> (&[u8], &[u8]) {
        (&self.ours.mem[at..at + len], &self.theirs.memory.data(&self.theirs.store)[at..at + len])
    }

    fn words(&self, at: usize) -> (usize, usize) {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (ours, theirs) = self.seen(at, 4);
        (word(ours), word(theirs))
    }

    fn path(&mut self, at: usize) -> u64 {
        const PATHS: [&str; 17] = [
            "a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a", ".", "d/.", "d/../b", "d/../d/a", "a/b",
            "./c", "d//a",
        ];
        let path = PATHS[self.below(PATHS.len())];
        self.told.push(format!("  {path:?}"));
        self.put(at, path.as_bytes());
        path.len() as u64
    }

    /// Calls both. Whether it succeeded, if they agree.
    fn call(&mut self, name: &str, ours: &[u64], theirs: &[u64]) -> bool {
        let (our, their) = (self.ours.call(name, ours), self.theirs.call(name, theirs));
        self.told.push(format!("{name} {ours:?}: {our}, {their}"));
        let agree = our == their || MAY_DIFFER.contains(&(name, our, their));
        assert!(agree, "{name} is {our} here and {their} there\n{}", self.told.join("\n"));
        our == 0
    }

    fn same(&self, at: usize, len: usize, what: &str) {
        let (ours, theirs) = self.seen(at, len);
        assert!(ours == theirs, "{what} differs: {ours:?}, {theirs:?}\n{}", self.told.join("\n"));
    }

    /// A call on one descriptor.
    fn on(&mut self, name: &str, (our, their): (u64, u64), rest: &[u64]) -> bool {
        self.call(name, &[&[our], rest].concat(), &[&[their], rest].concat())
    }

    fn step(&mut self) {
        let which = self.below(self.open.len());
        let at = if which > 0 && self.take() { self.open[0] } else { self.open[which] };
        let directory = self.open[0];
        let (path, other, iovs, result, buffer) =
            (PATH as u64, OTHER as u64, IOVS as u64, RESULT as u64, BUFFER as u64);
        // Moving nothing may succeed where something would not.
        let len = 1 + u64::from(self.take::<u16>()) % 6000;
        let range = |len: u64| [(BUFFER as u32).to_le_bytes(), (len as u32).to_le_bytes()].concat();
        let offset = [0, 1, 100, 4096, 65_535, 70_000, u64::from(self.take::<u8>())][self.below(7)];
        match self.below(20) {
            0..4 if self.open.len() < MAX_OPEN => {
                let count = self.path(PATH);
                let oflags = [0, 0, 1, 1, 1, 9, 5, 8, 2][self.below(9)];
                // Who may make or empty a file can write it there, whatever it asked for.
                let rights = match oflags {
                    0 => [READ_WRITE, READ_WRITE, 1 << 1, 1 << 6][self.below(4)],
                    2 => 1 << 14,
                    _ => READ_WRITE,
                };
                let flags = u64::from(self.below(6) == 0);
                if self.on("path_open", directory, &[1, path, count, oflags, rights, 0, flags, result]) {
                    let (ours, theirs) = self.words(RESULT);
                    self.open.push((ours as u64, theirs as u64));
                }
            }
            4 if which > 0 => {
                let at = self.open.remove(which);
                self.on("fd_close", at, &[]);
            }
            kind @ 5..9 => {
                let name = ["fd_write", "fd_pwrite", "fd_read", "fd_pread"][kind - 5];
                let fill = self.take::<u8>();
                let bytes: Vec<u8> = (0..len as usize).map(|index| fill.wrapping_add(index as u8)).collect();
                self.put(BUFFER, &bytes);
                self.put(IOVS, &range(len));
                let rest: &[u64] = if kind % 2 == 0 { &[iovs, 1, offset, result] } else { &[iovs, 1, result] };
                if self.on(name, self.open[which], rest) {
                    self.same(RESULT, 4, "the count");
                    self.same(BUFFER, len as usize, "what was read");
                }
            }
            9 => {
                let whence = self.below(3) as u64;
                let offset = if self.below(4) == 0 { offset.wrapping_neg() } else { offset };
                if self.on("fd_seek", self.open[which], &[offset, whence, result]) {
                    self.same(RESULT, 8, "the place");
                }
            }
            10 => {
                if self.on("fd_tell", self.open[which], &[result]) {
                    self.same(RESULT, 8, "the place");
                }
            }
            11 => {
                self.on("fd_filestat_set_size", self.open[which], &[offset]);
            }
            12 => {
                let count = self.path(PATH);
                self.on("path_create_directory", directory, &[path, count]);
            }
            13 => {
                let count = self.path(PATH);
                self.on("path_remove_directory", directory, &[path, count]);
            }
            14 => {
                let count = self.path(PATH);
                self.on("path_unlink_file", directory, &[path, count]);
            }
            kind @ (15 | 16) => {
                let (from, to) = (self.path(PATH), self.path(OTHER));
                let (our, their) = directory;
                let arguments = |fd| match kind {
                    15 => vec![fd, path, from, fd, other, to],
                    _ => vec![fd, 0, path, from, fd, other, to],
                };
                let name = if kind == 15 { "path_rename" } else { "path_link" };
                self.call(name, &arguments(our), &arguments(their));
            }
            kind @ (17 | 18) => {
                let done = if kind == 17 {
                    let count = self.path(PATH);
                    self.on("path_filestat_get", directory, &[1, path, count, buffer])
                } else {
                    self.on("fd_filestat_get", at, &[buffer])
                };
                if done {
                    self.same(BUFFER + 16, 1, "the kind");
                    // What directories have for links and size is each system's own affair.
                    if self.ours.mem[BUFFER + 16] == 4 {
                        self.same(BUFFER + 24, 16, "links or size");
                    }
                }
            }
            _ => self.list(at),
        }
    }

    /// Compares what a directory lists, whatever the order.
    fn list(&mut self, at: (u64, u64)) {
        if !self.on("fd_readdir", at, &[BUFFER as u64, BUFFER_BYTES as u64, 0, RESULT as u64]) {
            return;
        }
        let names = |bytes: &[u8]| {
            let (mut names, mut at) = (Vec::new(), 0);
            while let Some(head) = bytes.get(at..at + 24) {
                let len = u32::from_le_bytes([head[16], head[17], head[18], head[19]]) as usize;
                let name = bytes.get(at + 24..at + 24 + len).unwrap_or_default();
                names.push((String::from_utf8_lossy(name).into_owned(), head[20]));
                at += 24 + len;
            }
            names.sort();
            names
        };
        let (our_len, their_len) = self.words(RESULT);
        let ours = names(self.seen(BUFFER, our_len).0);
        let theirs = names(self.seen(BUFFER, their_len).1);
        assert_eq!(ours, theirs, "{}", self.told.join("\n"));
    }
}

/// Where the two give different errnos for one failure: function, ours, theirs. Ours are those of Linux, or both are
/// right and it is a matter of what is looked at first.
const MAY_DIFFER: [(&str, u16, u16); 4] = [
    // A directory is read, a file is listed: EISDIR and ENOTDIR, not EBADF.
    ("fd_read", 31, 8),
    ("fd_readdir", 54, 8),
    // There is no source, and the target is `.`, or below a file.
    ("path_rename", 44, 10),
    ("path_link", 44, 54),
];

fuzz_target!(|input: &[u8]| {
    let mut both = Both {
        input: Unstructured::new(input),
        ours: Guest::new(MEMORY),
        theirs: Other::new(),
        open: Vec::new(),
        told: Vec::new(),
    };
    // The directory all paths start from: `/tmp` here, the root there.
    both.put(PATH, b"tmp");
    let arguments = [3, 1, PATH as u64, 3, 2, 0, 0, 0, RESULT as u64];
    assert_eq!(both.ours.call("path_open", &arguments), 0);
    let (ours, _) = both.words(RESULT);
    both.open.push((ours as u64, 3));
    for _ in 0..MAX_CALLS {
        if both.input.is_empty() {
            break;
        }
        both.step();
    }
    let top = both.open[0];
    both.list(top);
});
