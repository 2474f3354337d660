//! The single file that is shipped (`cargo xtask dist`), where there is nothing else.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use capibara_fake::{Fake, Response};
use capibara_tests::{Ran, finish, repository, skip};

/// The single file, or a skip.
fn shipped(test: &str) -> Option<PathBuf> {
    let made = repository().join("target/dist/capibara");
    let path = std::env::var_os("CAPIBARA_SHIPPED").map_or(made, PathBuf::from);
    if !path.is_file() {
        skip(test, "unavailable: the single file (`cargo xtask dist` makes it)");
        return None;
    }
    Some(path)
}

/// Runs commands of the file, each under a name, in a root that holds it, `/proc` and `/tmp` and nothing else, with an empty environment;
/// gives the exit code, output and messages of each. `writable` says whether `/tmp` is.
fn in_an_empty_root(
    test: &str,
    writable: bool,
    commands: &[(&str, &str)],
) -> Option<HashMap<String, (i32, String, String)>> {
    let root = tempfile::tempdir().unwrap();
    in_root(test, root.path(), writable, commands)
}

/// The same in a root that may hold more.
fn in_root(
    test: &str,
    root: &Path,
    writable: bool,
    commands: &[(&str, &str)],
) -> Option<HashMap<String, (i32, String, String)>> {
    let program = shipped(test)?;
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path();
    for folder in ["proc", "tmp"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(program, root.join("capibara")).unwrap();
    fs::write(root.join("hello.py"), "print('hello from a script')\n").unwrap();
    let mut script = format!(
        "set -e\nmount --bind '{0}' '{0}'\nmount -t proc proc '{0}/proc'\n{1}mount -o remount,ro,bind '{0}'\nset +e\n",
        root.display(),
        if writable { format!("mount -t tmpfs none '{}/tmp'\n", root.display()) } else { String::new() },
    );
    for (name, words) in commands {
        let result = results.join(name);
        script += &format!(
            "env -i CAPIBARA_HOME=/tmp/state $(command -v chroot) '{0}' /{words} > '{1}.out' 2> '{1}.err' < /dev/null\n\
             echo $? > '{1}.code'\n",
            root.display(),
            result.display(),
        );
    }
    let unshared = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--", "sh", "-c", &script];
    let ran = finish(Command::new("unshare").args(unshared).output().unwrap());
    if ran.code != Some(0) {
        skip(test, &format!("unavailable: namespaces for mounts ({})", ran.stderr.trim()));
        return None;
    }
    let read = |name: &str, end: &str| fs::read_to_string(results.join(format!("{name}.{end}"))).unwrap();
    let results = commands.iter().map(|(name, _)| {
        let code = read(name, "code").trim().parse().unwrap();
        ((*name).to_owned(), (code, read(name, "out"), read(name, "err")))
    });
    Some(results.collect())
}

#[test]
fn in_an_empty_root_it_runs_stops_denies_and_verifies() {
    let commands = [
        ("hello", "capibara run /hello.py"),
        ("again", "capibara run /hello.py"),
        ("limit", "capibara run --timeout 1s -c 'while True: pass'"),
        ("denied", r#"capibara run -c 'import os; os.system("id")'"#),
        ("log", "capibara audit verify"),
        ("list", "capibara audit list"),
        ("runtime", "capibara runtime verify"),
    ];
    let test = "in_an_empty_root_it_runs_stops_denies_and_verifies";
    let Some(results) = in_an_empty_root(test, true, &commands) else { return };
    let code = |name: &str| results[name].0;
    assert_eq!(
        commands.map(|(name, _)| (name, code(name))),
        [("hello", 0), ("again", 0), ("limit", 124), ("denied", 126), ("log", 0), ("list", 0), ("runtime", 0)],
        "{results:#?}"
    );
    let (_, first, said) = &results["hello"];
    assert_eq!(first, "hello from a script\n");
    assert!(said.contains("unpacking the Python runtime") && !said.contains("compiling"), "{said}");
    assert_eq!(results["again"].1, "hello from a script\n");
    assert_eq!(results["again"].2, "");
    // Under a line of titles.
    assert_eq!(results["list"].1.lines().count(), 1 + 4, "{}", results["list"].1);
}

#[test]
fn where_nothing_can_be_written_it_runs_from_memory() {
    let test = "where_nothing_can_be_written_it_runs_from_memory";
    let Some(results) = in_an_empty_root(test, false, &[("hello", "capibara run /hello.py")]) else { return };
    let (code, output, said) = &results["hello"];
    assert_eq!((*code, output.as_str()), (0, "hello from a script\n"), "{results:#?}");
    assert!(said.contains("the runtime is kept in memory"), "{said}");
}

/// A module for names of hosts, as `/etc/nsswitch.conf` may name one, and a program that asks for a name. Both need a C compiler.
#[cfg(target_arch = "x86_64")]
fn module_for_names(root: &Path) -> Option<()> {
    // It says that it was loaded by making a file, without any library (creat is system call 85).
    const MODULE: &str = r#"__attribute__((constructor)) static void loaded(void) {
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(85L), "D"("/tmp/loaded"), "S"(0644L) : "rcx", "r11", "memory");
    }"#;
    const PROGRAM: &str = r#"#include <netdb.h>
        int main(void) { struct addrinfo *found; return getaddrinfo("localhost", "80", 0, &found); }"#;
    let libraries = root.join("lib/x86_64-linux-gnu");
    for folder in [&libraries, &root.join("etc")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(root.join("etc/nsswitch.conf"), "hosts: hostile files\n").unwrap();
    let compile = |source: &str, to: PathBuf, options: &[&str]| {
        let file = to.with_extension("c");
        fs::write(&file, source).unwrap();
        let compiled = Command::new("cc").args(options).arg("-w").arg("-o").arg(&to).arg(&file).output();
        compiled.is_ok_and(|compiled| compiled.status.success())
    };
    let module = compile(MODULE, libraries.join("libnss_hostile.so.2"), &["-shared", "-nostdlib"]);
    (module && compile(PROGRAM, root.join("asks"), &["-static"])).then_some(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn it_asks_a_model_by_name_and_loads_nothing_for_it() {
    let test = "it_asks_a_model_by_name_and_loads_nothing_for_it";
    let root = tempfile::tempdir().unwrap();
    let Some(()) = module_for_names(root.path()) else {
        return skip(test, "unavailable: a C compiler that links statically");
    };
    let fake = Fake::always(Response::json(401, r#"{"error": {"message": "no", "type": "invalid_request_error"}}"#));
    let url = fake.url().replace("127.0.0.1", "localhost");
    let add = format!("capibara model add local --kind openai-chat --base-url {url}/v1 --model tiny --no-key");
    let loaded = "capibara run --read /tmp/loaded -c 'print(1)'";
    let commands = [
        ("add", add.as_str()),
        ("ask", "capibara ask 'print 1' --profile local"),
        ("ours", loaded),
        // The control: in a program that leaves it to the C library, the module is there.
        ("asks", "asks"),
        ("theirs", loaded),
    ];
    let Some(results) = in_root(test, root.path(), true, &commands) else { return };
    assert_eq!((results["add"].0, fake.requests().len()), (0, 1), "{results:#?}");
    assert_eq!((results["ask"].0, results["ours"].0), (125, 125), "{results:#?}");
    assert_eq!((results["asks"].0, results["theirs"].0), (0, 0), "{results:#?}");
}

#[test]
fn it_needs_no_library_and_is_not_too_large() {
    let Some(program) = shipped("it_needs_no_library_and_is_not_too_large") else { return };
    let bytes = fs::metadata(&program).unwrap().len();
    assert!(bytes <= 60 << 20, "{bytes}");
    assert!(!names_an_interpreter(&program), "it is linked statically");
}

/// Whether an ELF file names a dynamic linker (a program header of type PT_INTERP).
fn names_an_interpreter(program: &Path) -> bool {
    let bytes = fs::read(program).unwrap();
    let number = |at: usize, len: usize| {
        bytes[at..at + len].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|header| number(headers + header * size, 4) == 3)
}

/// A file beside the single file, if it was made here.
fn beside(program: &Path, end: &str) -> Option<PathBuf> {
    let files = fs::read_dir(program.parent()?).ok()?.flatten().map(|file| file.path());
    files.into_iter().find(|path| path.to_string_lossy().ends_with(end))
}

#[test]
fn the_install_script_takes_only_what_has_its_digest() {
    let test = "the_install_script_takes_only_what_has_its_digest";
    let Some(program) = shipped(test) else { return };
    if Command::new("curl").arg("--version").output().is_err() {
        return skip(test, "unavailable: curl");
    }
    let dir = tempfile::tempdir().unwrap();
    let (release, home) = (dir.path().join("release"), dir.path().join("home"));
    fs::create_dir_all(&release).unwrap();
    let name = format!("capibara-{}-linux", std::env::consts::ARCH);
    let file = release.join(&name);
    fs::copy(&program, &file).unwrap();
    let sums = Command::new("sha256sum").arg("--binary").arg(&name).current_dir(&release).output().unwrap();
    fs::write(release.join("SHA256SUMS"), &sums.stdout).unwrap();
    let install = || {
        let mut command = Command::new("sh");
        command.arg(repository().join("deploy/install.sh")).arg(format!("file://{}", release.display()));
        finish(command.env("HOME", &home).output().unwrap())
    };
    let ran = install();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let installed = home.join(".local/bin/capibara");
    assert_eq!(fs::read(&installed).unwrap(), fs::read(&program).unwrap());
    // Of a changed file nothing is left, and what was there stays.
    fs::write(&file, "#!/bin/sh\ntouch /tmp/never\n").unwrap();
    let ran = install();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("it is not installed"), "{ran:?}");
    let left: Vec<_> = fs::read_dir(home.join(".local/bin")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["capibara"]);
    assert_eq!(fs::read(&installed).unwrap(), fs::read(&program).unwrap());
    // No digest, no program.
    fs::write(release.join("SHA256SUMS"), "").unwrap();
    let ran = install();
    assert!(ran.code == Some(1) && ran.stderr.contains("names no digest"), "{ran:?}");
}

#[test]
fn the_image_holds_the_one_file_and_runs_as_nobody() {
    let test = "the_image_holds_the_one_file_and_runs_as_nobody";
    let Some(program) = shipped(test) else { return };
    let Some(image) = beside(&program, "-image.tar") else { return skip(test, "unavailable: the image") };
    let dir = tempfile::tempdir().unwrap();
    let unpack = |archive: &Path, to: &str| {
        let to = dir.path().join(to);
        fs::create_dir_all(&to).unwrap();
        let ran = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&to).status().unwrap();
        assert!(ran.success());
        to
    };
    let folder = unpack(&image, "image");
    let read =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap() };
    let (manifest, config) = (&read("manifest.json")[0], read("config.json"));
    assert_eq!(manifest["Layers"], serde_json::json!(["layer.tar"]));
    let layer = folder.join("layer.tar");
    let sum = finish(Command::new("sha256sum").arg(&layer).output().unwrap()).stdout;
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sum.split(' ').next().unwrap()));
    assert_eq!(
        (&config["config"]["User"], &config["config"]["Entrypoint"]),
        (&"65534:65534".into(), &serde_json::json!(["/capibara"]))
    );
    let root = unpack(&layer, "root");
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["capibara", "tmp"]);
    assert_eq!(fs::read(root.join("capibara")).unwrap(), fs::read(&program).unwrap());
    // A container engine, where there is one that works.
    let Some(engine) = ContainerEngine::that_loads(&image, &dir.path().join("containers")) else {
        return skip(test, "unavailable: a container engine (the image was looked at and not started)");
    };
    let tag = manifest["RepoTags"][0].as_str().unwrap();
    for (options, says) in [(&["--tmpfs", "/tmp"][..], "unpacking the Python runtime"), (&[], "kept in memory")] {
        let ran = engine.run(&[options, &[tag, "run", "-c", "print(6 * 7)"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "42\n"), "{ran:?}");
        assert!(ran.stderr.contains(says), "{ran:?}");
    }
}

/// What starts images here: Docker, or Podman with runc, which needs no daemon and keeps all in a folder of the test.
struct ContainerEngine {
    program: &'static str,
    storage: Vec<String>,
    options: &'static [&'static str],
}

impl ContainerEngine {
    /// The first that takes the image.
    fn that_loads(image: &Path, folder: &Path) -> Option<Self> {
        let place = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
        let podman = ["--runtime=runc", "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"];
        let podman = podman.map(str::to_owned).into_iter().chain([place("root", "root"), place("runroot", "run")]);
        let engines = [
            Self { program: "docker", storage: Vec::new(), options: &[] },
            Self {
                program: "podman",
                storage: podman.collect(),
                options: &[
                    "--read-only-tmpfs=false",
                    "--cgroups=no-conmon",
                    "--ulimit=nofile=1024:1024",
                    "--ulimit=nproc=1000:1000",
                ],
            },
        ];
        engines.into_iter().find(|engine| {
            let loaded =
                Command::new(engine.program).args(&engine.storage).arg("load").arg("--input").arg(image).output();
            loaded.is_ok_and(|loaded| loaded.status.success())
        })
    }

    /// Starts an image read-only and without a network.
    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(self.program);
        command.args(&self.storage).args(["run", "--rm", "--read-only", "--network", "none"]).args(self.options);
        finish(command.args(words).output().unwrap())
    }
}

#[test]
fn the_package_holds_program_manual_and_completions() {
    let test = "the_package_holds_program_manual_and_completions";
    let Some(program) = shipped(test) else { return };
    let Some(package) = beside(&program, ".deb") else { return skip(test, "unavailable: dpkg-deb made no package") };
    let dir = tempfile::tempdir().unwrap();
    let unpacked = Command::new("dpkg-deb").arg("--extract").arg(&package).arg(dir.path()).status().unwrap();
    assert!(unpacked.success());
    for file in [
        "bin/capibara",
        "share/man/man1/capibara-run.1.gz",
        "share/bash-completion/completions/capibara",
        "share/doc/capibara/copyright",
    ] {
        assert!(dir.path().join("usr").join(file).is_file(), "{file}");
    }
    let ran = finish(Command::new(dir.path().join("usr/bin/capibara")).arg("--version").output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let control = finish(Command::new("dpkg-deb").arg("--field").arg(&package).output().unwrap()).stdout;
    assert!(control.contains("Package: capibara\n") && !control.contains("Depends:"), "{control}");
}
