//! Files and directories of the host: what a grant allows, and that nothing leads out of it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::Dir;

use super::super::host::{HostGrant, HostRoot};
use super::*;
use crate::grant::Access;

const XDEV: u16 = 75;
const OVERFLOW: u16 = 61;

/// A folder of the host with something to grant in `inside` and something to be kept in `outside`.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = ok(tempfile::tempdir());
        let at = |name: &str| dir.path().join(name);
        ok(fs::create_dir_all(at("inside/sub")));
        ok(fs::create_dir_all(at("outside/deep")));
        ok(fs::write(at("inside/file"), "content"));
        ok(fs::write(at("inside/sub/below"), "below"));
        ok(fs::write(at("outside/secret"), "secret"));
        Self { dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn dir_grant(&self, host: &str, guest: &str, writable: bool) -> HostGrant {
        let file = ok(File::open(self.path(host)));
        HostGrant {
            guest: guest.into(),
            access: access(writable),
            root: HostRoot::Directory(Dir::from_std_file(file)),
            place: None,
        }
    }

    fn file_grant(&self, host: &str, guest: &str, writable: bool) -> HostGrant {
        let file = ok(fs::OpenOptions::new().read(true).write(writable).open(self.path(host)));
        HostGrant { guest: guest.into(), access: access(writable), root: HostRoot::File(file), place: None }
    }

    fn guest(&self, writable: bool) -> Guest {
        Self::guest_with(vec![self.dir_grant("inside", "/data", writable)])
    }

    fn guest_with(grants: Vec<HostGrant>) -> Guest {
        Guest::with(WorldConfig { grants, ..config() })
    }

    /// All below `outside` as it was made.
    fn check_outside(&self) {
        assert_eq!(ok(fs::read(self.path("outside/secret"))), b"secret");
        assert_eq!(ok(fs::read_dir(self.path("outside"))).count(), 2);
        assert_eq!(ok(fs::read_dir(self.path("outside/deep"))).count(), 0);
    }
}

fn access(writable: bool) -> Access {
    if writable { Access::Write } else { Access::Read }
}

fn mode(path: &Path) -> u32 {
    ok(fs::symlink_metadata(path)).permissions().mode() & 0o7777
}

#[test]
fn what_a_grant_for_reading_allows() {
    let ground = Ground::new();
    let mut guest = ground.guest(false);
    assert_eq!(guest.names("."), [".", "..", "data", "dev", "home", "out", "script", "tmp"]);
    assert_eq!(guest.names("data"), [".", "..", "file", "sub"]);
    assert_eq!(guest.content("data/file"), Ok(b"content".to_vec()));
    assert_eq!(guest.content("data/sub/../sub/.//below"), Ok(b"below".to_vec()));
    let stat = ok(guest.stat("data/file", true));
    assert_eq!((stat.filetype, stat.size, stat.links, stat.modified), (4, 7, 1, EPOCH));
    assert_eq!(stat.inode, ok(guest.stat("data/sub/../file", false)).inode);
    assert_ne!(stat.inode, ok(fs::metadata(ground.path("inside/file"))).ino());
    assert_eq!(ok(guest.stat("data/sub", true)).filetype, 3);
    assert_eq!(guest.stat("data/none", true), Err(NOENT));
    assert_eq!(guest.stat("data/file/", true), Err(NOTDIR));
    assert_eq!(guest.stat("data/file/x", true), Err(NOTDIR));
    // A descriptor below a grant.
    let sub = ok(guest.open("data/sub", oflags::DIRECTORY, 0));
    assert_eq!(ok(guest.fstat(sub)).filetype, 3);
    let (names, _) = ok(guest.readdir(sub, 1000, 0));
    assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [".", "..", "below"]);
    let below = ok(guest.open_at(sub, b"below", 0, READ, 0));
    assert_eq!(guest.seek(below, -2, 2), Ok(3));
    assert_eq!(guest.read(below, 10), Ok(b"ow".to_vec()));
    assert_eq!(guest.read(below, 10), Ok(Vec::new()));
    assert_eq!(ok(guest.fstat(below)).size, 5);
    assert_eq!(guest.open_at(sub, b"../file", 0, READ, 0), Err(PERM));
    assert_eq!((guest.read(sub, 1), guest.readdir(below, 1, 0)), (Err(ISDIR), Err(NOTDIR)));
    assert_eq!((guest.close(below), guest.close(sub)), (0, 0));
    let end = guest.world.finish();
    assert!(end.host_sha256.is_some());
    assert_eq!((end.files_written, end.bytes_written), (0, 0));
    assert_eq!(Guest::new().world.finish().host_sha256, None);
}

#[test]
fn a_grant_for_reading_changes_nothing() {
    let ground = Ground::new();
    let mut guest = ground.guest(false);
    assert_eq!(guest.open("data/file", 0, WRITE), Err(ROFS));
    assert_eq!(guest.open("data/file", 0, READ | WRITE), Err(ROFS));
    assert_eq!(guest.open("data/file", oflags::TRUNCATE, READ), Err(ROFS));
    assert_eq!(guest.open("data/file", oflags::CREATE | oflags::TRUNCATE, WRITE), Err(ROFS));
    assert_eq!(guest.open("data/new", oflags::CREATE, WRITE), Err(ROFS));
    assert_eq!(guest.mkdir("data/new"), ROFS);
    assert_eq!(guest.symlink("file", "data/new"), ROFS);
    assert_eq!(guest.link("data/file", "data/new"), ROFS);
    assert_eq!(guest.rename("data/file", "data/new"), ROFS);
    assert_eq!(guest.unlink("data/file"), ROFS);
    assert_eq!(guest.rmdir("data/sub"), ROFS);
    let len = guest.put(PATH, b"data/file");
    assert_eq!(code(guest.world.path_filestat_set_times(&mut guest.mem, 3, 1, PATH, len, 1, 1, 5)), ROFS);
    let fd = ok(guest.open("data/file", 0, READ));
    assert_eq!(guest.write(fd, b"x"), Err(BADF));
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, 0)), INVAL);
    assert_eq!(code(guest.world.fd_filestat_set_times(&mut guest.mem, fd, 1, 1, 5)), ROFS);
    // The grant itself.
    assert_eq!((guest.rmdir("data"), guest.rename("data", "tmp/data"), guest.unlink("data")), (ROFS, ROFS, ISDIR));
    assert_eq!(ok(fs::read(ground.path("inside/file"))), b"content");
    assert_eq!(ok(fs::read_dir(ground.path("inside"))).count(), 2);
}

#[test]
fn what_a_grant_for_writing_allows() {
    let ground = Ground::new();
    let mut guest = ground.guest(true);
    let host = |name: &str| ground.path("inside").join(name);
    guest.create("data/new", b"made");
    assert_eq!(ok(fs::read(host("new"))), b"made");
    guest.create("data/file", b"less");
    assert_eq!(ok(fs::read(host("file"))), b"less");
    let fd = ok(guest.open_at(3, b"data/file", 0, READ | WRITE, fdflags::APPEND));
    assert_eq!((guest.write(fd, b"+more"), guest.seek(fd, 0, 1)), (Ok(5), Ok(9)));
    assert_eq!(code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, 6)), 0);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 0, 8)), 0);
    assert_eq!(code(guest.world.fd_filestat_set_times(&mut guest.mem, fd, 0, 5_000_000_000, 4)), 0);
    assert_eq!(code(guest.world.fd_sync(&mut guest.mem, fd)), 0);
    assert_eq!(ok(fs::read(host("file"))), b"less+m\0\0");
    assert_eq!(ok(fs::metadata(host("file"))).mtime(), 5);
    assert_eq!(guest.mkdir("data/made"), 0);
    assert_eq!(guest.mkdir("data/made"), EXIST);
    assert_eq!(guest.rename("data/new", "data/made/moved"), 0);
    assert_eq!(guest.link("data/made/moved", "data/second"), 0);
    assert_eq!(guest.symlink("made/moved", "data/link"), 0);
    assert_eq!(guest.readlink("data/link", 100), Ok("made/moved".into()));
    assert_eq!(guest.content("data/link"), Ok(b"made".to_vec()));
    assert_eq!(guest.open("data/link", oflags::CREATE | oflags::EXCLUSIVE, WRITE), Err(EXIST));
    assert_eq!(guest.rmdir("data/made"), NOTEMPTY);
    assert_eq!((guest.unlink("data/made/moved"), guest.rmdir("data/made")), (0, 0));
    assert_eq!(guest.content("data/link"), Err(NOENT));
    assert_eq!((guest.unlink("data/sub"), guest.rmdir("data/file")), (ISDIR, NOTDIR));
    let len = guest.put(PATH, b"data/sub");
    assert_eq!(code(guest.world.path_filestat_set_times(&mut guest.mem, 3, 1, PATH, len, 0, 7_000_000_000, 4)), 0);
    assert_eq!(ok(fs::metadata(host("sub"))).mtime(), 7);
    let end = guest.world.finish();
    assert_eq!((end.files_written, end.bytes_written), (2, 4 + 4 + 5 + 2));
}

#[test]
fn one_file_can_be_granted() {
    let ground = Ground::new();
    let grants = [("/tmp/in", false), ("/tmp/out", true)];
    let mut guest =
        Ground::guest_with(grants.iter().map(|(at, write)| ground.file_grant("inside/file", at, *write)).collect());
    assert_eq!(guest.names("tmp"), [".", "..", "in", "out"]);
    assert_eq!(guest.content("tmp/in"), Ok(b"content".to_vec()));
    assert_eq!(ok(guest.stat("tmp/in", true)).size, 7);
    assert_eq!(guest.open("tmp/in", oflags::TRUNCATE, WRITE), Err(ROFS));
    guest.create("tmp/out", b"new");
    assert_eq!(guest.content("tmp/in"), Ok(b"new".to_vec()));
    assert_eq!(guest.stat("tmp/in/", true), Err(NOTDIR));
    assert_eq!(guest.stat("tmp/in/..", true), Err(NOTDIR));
    for name in ["tmp/in", "tmp/out"] {
        assert_eq!((guest.unlink(name), guest.rmdir(name)), (BUSY, NOTDIR), "{name}");
        assert_eq!(guest.rename(name, "tmp/x"), XDEV);
        assert_eq!(guest.link(name, "tmp/x"), XDEV);
        assert_eq!(guest.rename("tmp/in", name), BUSY);
        assert_eq!(guest.symlink("x", name), EXIST);
        assert_eq!(guest.mkdir(name), EXIST);
    }
}

#[test]
fn no_path_leads_out() {
    let ground = Ground::new();
    let inside = ground.path("inside");
    let outside = ok(fs::canonicalize(ground.path("outside")));
    ok(symlink(&outside, inside.join("absolute")));
    ok(symlink(outside.join("secret"), inside.join("absolute_file")));
    ok(symlink("../outside", inside.join("up")));
    ok(symlink("../outside/secret", inside.join("up_file")));
    ok(symlink("up/secret", inside.join("chain")));
    ok(symlink("sub/../../outside", inside.join("winding")));
    ok(symlink("/proc/self/root", inside.join("magic")));
    ok(symlink("loop", inside.join("loop")));
    ok(symlink("sub/below", inside.join("honest")));
    for writable in [false, true] {
        let mut guest = ground.guest(writable);
        let rows: &[(&str, u16)] = &[
            ("data/../../outside/secret", NOENT),
            ("data/../outside/secret", NOENT),
            ("data/sub/../../../../../../../etc/passwd", NOENT),
            ("data//..//outside//secret", NOENT),
            ("data/absolute/secret", PERM),
            ("data/absolute_file", PERM),
            ("data/absolute_file/", PERM),
            ("data/up/secret", NOENT),
            ("data/up_file", NOENT),
            ("data/chain", NOENT),
            ("data/winding/secret", NOENT),
            ("data/magic/etc/passwd", PERM),
            ("data/loop", LOOP),
            ("data/file\0/../../outside/secret", INVAL),
            ("data/file/../../outside/secret", NOTDIR),
        ];
        for (path, expected) in rows {
            assert_eq!(guest.open(path, 0, READ).err(), Some(*expected), "open {path}");
            assert_eq!(guest.stat(path, true).err(), Some(*expected), "stat {path}");
            let made = guest.open(path, oflags::CREATE, WRITE).err();
            // Where the way leads to a directory of ours, the script may be told that it is read-only.
            assert!(made == Some(*expected) || made == Some(ROFS), "create {path}: {made:?}");
        }
        let long = format!("data/{}", "a".repeat(256));
        assert_eq!(guest.stat(&long, true), Err(NAMETOOLONG));
        assert_eq!(guest.stat(&format!("data/{}", "sub/../".repeat(600)), true), Err(NAMETOOLONG));
        assert_eq!(guest.content("data/honest"), Ok(b"below".to_vec()));
        // Links can be seen and are not followed.
        assert_eq!(ok(guest.stat("data/up", false)).filetype, 7);
        assert_eq!(guest.readlink("data/up", 100), Ok("../outside".into()));
    }
    ground.check_outside();
}

#[test]
fn nothing_that_is_made_leads_out() {
    let ground = Ground::new();
    ok(symlink("../outside/secret", ground.path("inside/up")));
    ok(symlink("file", ground.path("inside/near")));
    let grants = vec![ground.dir_grant("inside", "/data", true), ground.dir_grant("outside", "/other", false)];
    let mut guest = Ground::guest_with(grants);
    for target in ["../outside/secret", "sub/../../outside", "..", "/etc/passwd", "/"] {
        assert_eq!(guest.symlink(target, "data/link"), PERM, "{target}");
    }
    // A link that leads out by what is above it is not put elsewhere, nor does it get a second name; others may.
    assert_eq!(guest.rename("data/up", "data/sub/up"), PERM);
    assert_eq!((guest.link("data/up", "data/second"), guest.link("data/near", "data/second")), (PERM, 0));
    assert_eq!(guest.rename("data/near", "data/nearer"), 0);
    guest.create("tmp/file", b"mine");
    for (from, to) in [
        ("data/file", "tmp/x"),
        ("tmp/file", "data/x"),
        ("other/secret", "data/x"),
        ("data/file", "other/x"),
        ("data/sub", "tmp/x"),
    ] {
        assert_eq!(guest.rename(from, to), XDEV, "{from} {to}");
        assert!([XDEV, PERM].contains(&guest.link(from, to)), "{from} {to}");
    }
    assert_eq!(guest.rename("data/sub", "data/sub/x"), INVAL);
    assert_eq!((guest.rename("data/sub/.", "data/x"), guest.rename("data/file", "data/sub/.")), (BUSY, BUSY));
    assert_eq!((guest.rename("data", "data/x"), guest.rename("data/file", "data/sub/..")), (XDEV, XDEV));
    // Modes: no execute bits, and none of the special ones.
    guest.create("data/plain", b"#!/bin/sh\n");
    assert_eq!(guest.mkdir("data/folder"), 0);
    assert_eq!(mode(&ground.path("inside/plain")) & !0o644, 0);
    assert_eq!(mode(&ground.path("inside/folder")) & !0o755, 0);
    ground.check_outside();
}

#[test]
fn only_files_and_directories_are_opened() {
    let ground = Ground::new();
    let inside = ground.path("inside");
    let fifo = |name: &str| {
        let kind = rustix::fs::FileType::Fifo;
        ok(rustix::fs::mknodat(rustix::fs::CWD, inside.join(name), kind, rustix::fs::Mode::RWXU, 0));
    };
    fifo("fifo");
    let _listener = ok(std::os::unix::net::UnixListener::bind(inside.join("socket")));
    ok(symlink("fifo", inside.join("link")));
    let mut guest = ground.guest(true);
    for name in ["data/fifo", "data/socket", "data/link"] {
        for access in [READ, WRITE, READ | WRITE] {
            assert_eq!(guest.open(name, 0, access), Err(PERM), "{name}");
        }
        assert_eq!(guest.open(name, oflags::CREATE | oflags::TRUNCATE, WRITE), Err(PERM), "{name}");
        assert_eq!(ok(guest.stat(name, true)).filetype, 0);
    }
    // The kernel's memory of this process, in a grant that was opened without asking what it is.
    let proc = HostRoot::Directory(Dir::from_std_file(ok(File::open("/proc/self"))));
    let mut bare =
        Ground::guest_with(vec![HostGrant { guest: "/p".into(), access: Access::Write, root: proc, place: None }]);
    for name in ["p/mem", "p/environ", "p/task/../mem"] {
        assert_eq!(bare.open(name, 0, READ), Err(PERM), "{name}");
    }
    assert_eq!(guest.rename("data/fifo", "data/x"), PERM);
    assert_eq!(guest.link("data/fifo", "data/x"), PERM);
    assert_eq!(guest.content("data/file"), Ok(b"content".to_vec()));
}

#[test]
fn quotas_bind_on_the_host_too() {
    let ground = Ground::new();
    let quotas = Quotas { bytes_written: 100, files: 3, ..quotas() };
    let config = WorldConfig { quotas, grants: vec![ground.dir_grant("inside", "/data", true)], ..config() };
    let mut guest = Guest::with(config);
    let fd = ok(guest.open("data/a", oflags::CREATE, READ | WRITE));
    let set_size = |guest: &mut Guest, size| code(guest.world.fd_filestat_set_size(&mut guest.mem, fd, size));
    assert_eq!(set_size(&mut guest, 1 << 40), NOSPC);
    assert_eq!(set_size(&mut guest, u64::MAX), FBIG);
    assert_eq!(code(guest.world.fd_allocate(&mut guest.mem, fd, 1 << 40, 1)), NOSPC);
    assert_eq!(guest.seek(fd, 1 << 40, 0), Ok(1 << 40));
    assert_eq!(guest.write(fd, b"x"), Err(NOSPC));
    assert_eq!(guest.seek(fd, i64::MAX, 0), Ok(i64::MAX as u64));
    assert_eq!(guest.write(fd, b"x"), Err(FBIG));
    assert_eq!(guest.read(fd, 1), Ok(Vec::new()));
    assert_eq!(set_size(&mut guest, 40), 0);
    assert_eq!(guest.seek(fd, 60, 0), Ok(60));
    assert_eq!(guest.write(fd, &[1; 30]), Ok(30), "20 of the hole, 30 written");
    assert_eq!(guest.write(fd, &[1; 30]), Ok(10));
    assert_eq!(guest.write(fd, &[1; 30]), Err(NOSPC));
    assert_eq!(ok(fs::metadata(ground.path("inside/a"))).len(), 100);
    // The limit of the process, past which it would get a signal.
    guest.world.tree.hosts.largest = 50;
    assert_eq!((set_size(&mut guest, 51), set_size(&mut guest, 45)), (FBIG, 0));
    assert_eq!(guest.seek(fd, 50, 0), Ok(50));
    assert_eq!(guest.write(fd, b"x"), Err(FBIG));
    // Names, counted as far as the script made them.
    assert_eq!((guest.mkdir("data/b"), guest.symlink("a", "data/c")), (0, 0));
    assert_eq!(
        (guest.mkdir("data/d"), guest.link("data/a", "data/d"), guest.symlink("a", "data/d")),
        (NOSPC, NOSPC, NOSPC)
    );
    assert_eq!(guest.open("data/d", oflags::CREATE, WRITE), Err(NOSPC));
    assert_eq!((guest.rmdir("data/b"), guest.mkdir("data/d"), guest.mkdir("data/e")), (0, 0, NOSPC));
    let end = guest.world.finish();
    assert_eq!((end.bytes_written, end.files_written), (100, 1));

    // Depth, and descriptors.
    let mut guest = Ground::new_deep(&ground);
    let mut path = String::from("data");
    for _ in 0..63 {
        path.push_str("/deep");
        assert_eq!(guest.mkdir(&path), 0);
    }
    assert_eq!(guest.mkdir(&format!("{path}/d")), NAMETOOLONG);
    // Trees can be hung below each other, but not walked without end.
    assert_eq!(guest.mkdir("data/other"), 0);
    for _ in 0..70 {
        assert_eq!(guest.rename("data/deep", "data/other/deep"), 0);
        assert_eq!(guest.rename("data/other", "data/deep"), 0);
        assert_eq!(guest.mkdir("data/other"), 0);
    }
    assert!(guest.stat(&format!("data{}", "/deep".repeat(128)), true).is_ok());
    assert_eq!(guest.stat(&format!("data{}", "/deep".repeat(129)), true), Err(NAMETOOLONG));
    while guest.open("data/file", 0, READ).is_ok() {}
    assert_eq!(guest.open("data/file", oflags::TRUNCATE, WRITE), Err(MFILE));
    assert_eq!(ok(fs::read(ground.path("inside/file"))), b"content");
}

impl Ground {
    fn new_deep(&self) -> Guest {
        let quotas = Quotas { files: 1000, ..quotas() };
        Guest::with(WorldConfig { quotas, grants: vec![self.dir_grant("inside", "/data", true)], ..config() })
    }
}

#[test]
fn listings_of_the_host_are_sorted_and_bounded() {
    let ground = Ground::new();
    ok(fs::write(ground.path("inside").join(std::ffi::OsStr::from_bytes(b"not\xff")), ""));
    ok(symlink("x", ground.path("inside/Link")));
    let mut guest = ground.guest(true);
    assert_eq!(guest.names("data"), [".", "..", "Link", "file", "sub"]);
    assert_eq!(guest.open_at(3, b"data/not\xff", 0, READ, 0), Err(ILSEQ));
    let big = ground.path("inside/big");
    ok(fs::create_dir(&big));
    let most = 500;
    for index in 0..most {
        ok(fs::File::create(big.join(index.to_string())));
    }
    let grants = || vec![ground.dir_grant("inside", "/data", true)];
    let mut guest = Ground::guest_with(grants());
    guest.world.tree.hosts.most_listed = most;
    let fd = ok(guest.open("data/big", oflags::DIRECTORY, 0));
    assert!(guest.readdir(fd, 1000, 0).is_ok());
    ok(fs::File::create(big.join("more")));
    assert_eq!(guest.readdir(fd, 1000, 0), Err(OVERFLOW));
    let quotas = Quotas { memory: 20_000, ..quotas() };
    let mut guest = Guest::with(WorldConfig { quotas, grants: grants(), ..config() });
    let fd = ok(guest.open("data/big", oflags::DIRECTORY, 0));
    assert_eq!(guest.readdir(fd, 1000, 0), Err(NOMEM));
}

#[test]
fn a_grant_can_be_the_root() {
    let ground = Ground::new();
    ok(fs::create_dir_all(ground.path("inside/tmp")));
    ok(fs::create_dir_all(ground.path("inside/home/other")));
    ok(fs::write(ground.path("inside/tmp/hidden"), "hidden"));
    let mut guest = Ground::guest_with(vec![ground.dir_grant("inside", "/", true)]);
    assert_eq!(guest.names("."), [".", "..", "dev", "file", "home", "out", "script", "sub", "tmp"]);
    assert_eq!(guest.content("file"), Ok(b"content".to_vec()));
    assert_eq!(guest.content("script/main.py"), Ok(b"print(1)".to_vec()));
    assert_eq!(guest.content("sub/../../../file"), Ok(b"content".to_vec()));
    // What is ours is in memory, whatever the host has there.
    assert_eq!(guest.names("tmp"), [".", ".."]);
    guest.create("tmp/hidden", b"mine");
    assert_eq!(ok(fs::read(ground.path("inside/tmp/hidden"))), b"hidden");
    assert_eq!(guest.stat("home/other", true), Err(NOENT));
    guest.create("new", b"made");
    assert_eq!(ok(fs::read(ground.path("inside/new"))), b"made");
    for name in ["tmp", "script", "dev", "out", "home"] {
        assert_eq!(guest.rmdir(name), ROFS, "{name}");
        assert_eq!(guest.rename(name, "elsewhere"), XDEV, "{name}");
        assert_eq!(guest.rename("new", name), XDEV, "{name}");
        assert_eq!(guest.mkdir(name), EXIST, "{name}");
    }
    ground.check_outside();
}

#[test]
fn a_grant_inside_of_another_decides() {
    let ground = Ground::new();
    ok(fs::create_dir_all(ground.path("inside/a/config")));
    ok(fs::write(ground.path("inside/a/config/key"), "key"));
    ok(fs::write(ground.path("inside/a/beside"), "beside"));
    ok(fs::write(ground.path("inside/pin"), "pin"));
    ok(symlink("a/config", ground.path("inside/to_config")));
    ok(fs::hard_link(ground.path("inside/pin"), ground.path("inside/other_pin")));
    let mut guest = Ground::guest_with(vec![
        ground.dir_grant("inside", "/data", true),
        ground.file_grant("inside/pin", "/data/pin", false),
        ground.dir_grant("inside/a/config", "/data/a/config", false),
    ]);
    assert_eq!(guest.names("data/a"), [".", "..", "beside", "config"]);
    assert_eq!(guest.names("data/a/config"), [".", "..", "key"]);
    assert_eq!(guest.content("data/a/config/../beside"), Ok(b"beside".to_vec()));
    for path in ["data/a/config/key", "data/to_config/key", "data/pin", "data/other_pin"] {
        assert!(guest.content(path).is_ok(), "{path}");
        assert_eq!(guest.open(path, 0, WRITE), Err(ROFS), "{path}");
        assert_eq!(guest.open(path, oflags::CREATE | oflags::TRUNCATE, WRITE), Err(ROFS), "{path}");
    }
    assert_eq!(guest.open("data/a/config/new", oflags::CREATE, WRITE), Err(ROFS));
    // Nor can what leads to it be moved away.
    for path in ["data/a", "data/a/config"] {
        assert!([ROFS, XDEV].contains(&guest.rename(path, "data/b")), "{path}");
        assert!([ROFS, BUSY].contains(&guest.rmdir(path)), "{path}");
    }
    assert_ne!(guest.rename("data/pin", "data/b"), 0);
    assert_ne!(guest.rename("data/sub", "data/a"), 0);
    // The same directory by another name is still the grant for reading.
    ok(fs::rename(ground.path("inside/a/config"), ground.path("inside/moved")));
    assert_eq!(guest.open("data/moved/key", 0, WRITE), Err(ROFS));
    assert_eq!(guest.content("data/moved/key"), Ok(b"key".to_vec()));
    // Beside it, the outer grant holds.
    guest.create("data/a/beside", b"changed");
    assert_eq!(guest.mkdir("data/a/new"), 0);
    assert_eq!(ok(fs::read(ground.path("inside/moved/key"))), b"key");
    assert_eq!(ok(fs::read(ground.path("inside/pin"))), b"pin");
}

#[test]
fn a_grant_for_writing_inside_of_one_for_reading() {
    let ground = Ground::new();
    let mut guest = Ground::guest_with(vec![
        ground.dir_grant("inside", "/data", false),
        ground.dir_grant("inside/sub", "/data/sub", true),
        ground.dir_grant("outside/deep", "/data/not/there/yet", true),
    ]);
    assert_eq!(guest.open("data/new", oflags::CREATE, WRITE), Err(ROFS));
    guest.create("data/sub/new", b"1");
    assert_eq!(ok(fs::read(ground.path("inside/sub/new"))), b"1");
    // What leads to a grant is in sight though the host has no such directory.
    assert_eq!(guest.names("data"), [".", "..", "file", "not", "sub"]);
    assert_eq!(guest.names("data/not"), [".", "..", "there"]);
    assert_eq!(guest.open("data/not/new", oflags::CREATE, WRITE), Err(ROFS));
    guest.create("data/not/there/yet/new", b"2");
    assert_eq!(ok(fs::read(ground.path("outside/deep/new"))), b"2");
    assert!(!ground.path("inside/not").exists());
}

#[test]
fn live_runs_see_the_times_of_the_host() {
    let ground = Ground::new();
    let file = ok(fs::OpenOptions::new().write(true).open(ground.path("inside/file")));
    ok(file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(77)));
    for (clock, expected) in [(ClockConfig::Live, 77_000_000_000), (ClockConfig::Virtual { epoch_nanos: EPOCH }, EPOCH)]
    {
        let grants = vec![ground.dir_grant("inside", "/data", false)];
        let mut guest = Guest::with(WorldConfig { clock, grants, ..config() });
        assert_eq!(ok(guest.stat("data/file", true)).modified, expected);
        let fd = ok(guest.open("data/file", 0, READ));
        assert_eq!(ok(guest.fstat(fd)).modified, expected);
    }
}

#[test]
fn our_own_writable_folders_can_be_granted() {
    let ground = Ground::new();
    let mut guest = Ground::guest_with(vec![ground.dir_grant("inside", "/home/script", true)]);
    guest.create("home/script/result", b"1");
    assert_eq!(ok(fs::read(ground.path("inside/result"))), b"1");
    assert_eq!(guest.names("home/script"), [".", "..", "file", "result", "sub"]);
    assert_eq!(guest.content("home/script/../../home/script/sub/below"), Ok(b"below".to_vec()));
    let mut guest = Ground::guest_with(vec![ground.dir_grant("inside", "/tmp/in", false)]);
    assert_eq!((guest.rmdir("tmp/in"), guest.rename("tmp/in", "tmp/x")), (BUSY, BUSY));
    assert_eq!((guest.mkdir("tmp/x"), guest.rename("tmp/x", "tmp/in")), (0, BUSY));
}

/// Another process changes the granted tree all the time: a directory is now itself, now a link to one outside. The
/// script never sees, makes or removes anything outside.
#[test]
fn races_do_not_lead_out() {
    let ground = Ground::new();
    let inside = ground.path("inside");
    ok(fs::create_dir(inside.join("real")));
    ok(fs::write(inside.join("real/secret"), "mine"));
    ok(symlink(ok(fs::canonicalize(ground.path("outside"))), inside.join("evil")));
    ok(symlink("../outside", inside.join("evil_up")));
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (stop, inside) = (Arc::clone(&stop), inside.clone());
        std::thread::spawn(move || {
            let exchange = |left: &str, right: &str| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let at = rustix::fs::CWD;
                let _ = rustix::fs::renameat_with(at, inside.join(left), at, inside.join(right), flags);
            };
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for evil in ["evil", "evil_up"] {
                    exchange("real", evil);
                    exchange("real", evil);
                    swaps += 2;
                }
            }
            swaps
        })
    };
    let mut guest = Ground::new_deep(&ground);
    let (mut read, mut refused) = (0, 0);
    let until = Instant::now() + Duration::from_millis(1500);
    let mut round = 0_u64;
    while Instant::now() < until || (read == 0 && round < 1_000_000) {
        round += 1;
        match guest.content("data/real/secret") {
            Ok(bytes) => {
                assert_eq!(bytes, b"mine");
                read += 1;
            }
            Err(_) => refused += 1,
        }
        if let Ok(stat) = guest.stat("data/real/secret", true) {
            assert_eq!(stat.size, 4);
        }
        assert!(guest.stat("data/real/deep", true).is_err());
        if let Ok(fd) = guest.open("data/real", oflags::DIRECTORY, 0) {
            if let Ok((names, _)) = guest.readdir(fd, 1000, 0) {
                assert!(names.iter().all(|(name, _)| name != "deep"), "{names:?}");
            }
            assert_eq!(guest.close(fd), 0);
        }
        if let Ok(fd) = guest.open("data/real/planted", oflags::CREATE, WRITE) {
            assert_eq!(guest.close(fd), 0);
        }
        guest.unlink("data/real/planted");
        guest.mkdir("data/real/deep/made");
        guest.rename("data/real/planted", "data/real/deep/planted");
        guest.rmdir("data/real/made");
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = ok(swapping.join());
    assert!(swaps > 0 && read > 0 && refused > 0, "{swaps} swaps, {read} read, {refused} refused");
    ground.check_outside();
}
