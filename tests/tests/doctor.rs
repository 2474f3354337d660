//! `capibara doctor`: set-ups that are broken for real, each named, and mended by the command that is told.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capibara_tests::{Ran, Sandbox, cache, engine, finish, flip_a_byte, repository, skip};
use serde_json::Value;

/// A home, a cache folder and a folder of programs of its own.
struct Place {
    sandbox: Sandbox,
    /// `CAPIBARA_HOME`.
    home: PathBuf,
    /// `CAPIBARA_CACHE_DIR`; the shared one, to look at only, or a copy of it.
    cache: PathBuf,
}

/// What doctor said.
#[derive(Debug)]
struct Diagnosis {
    code: Option<i32>,
    checks: Vec<Value>,
}

impl Diagnosis {
    /// The finding of this name and status whose message holds this text.
    fn find(&self, name: &str, status: &str, part: &str) -> Option<&Value> {
        let holds = |check: &&Value| {
            check["name"] == name && check["status"] == status && check["message"].as_str().unwrap().contains(part)
        };
        self.checks.iter().find(holds)
    }

    fn status(&self, name: &str) -> Vec<&str> {
        self.checks
            .iter()
            .filter(|check| check["name"] == name)
            .map(|check| check["status"].as_str().unwrap())
            .collect()
    }

    /// Names of checks that found something broken.
    fn errors(&self) -> Vec<&str> {
        let broken = self.checks.iter().filter(|check| check["status"] == "error");
        broken.map(|check| check["name"].as_str().unwrap()).collect()
    }
}

impl Place {
    fn new() -> Self {
        let _ = engine();
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
        let home = sandbox.dir.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        // The commands that are told call it by its name.
        fs::create_dir(sandbox.dir.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_capibara-under-test"), sandbox.dir.path().join("bin/capibara")).unwrap();
        Self { sandbox, home, cache: cache() }
    }

    /// With a copy of the runtime, and a record of its compiled code that is that copy's own.
    fn with_own_cache() -> Self {
        let mut place = Self::new();
        place.cache = place.path("cache");
        let target = place.cache.join("runtimes");
        fs::create_dir_all(&target).unwrap();
        let copied =
            Command::new("cp").args(["-a", "--reflink=auto"]).args([&shared_runtime(), &target]).status().unwrap();
        assert!(copied.success());
        for folder in [&place.cache, &target] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let ran = place.shell("capibara run -c 'print(1)'");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{ran:?}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.dir.path().join(name)
    }

    /// The runtime in this place's own cache folder.
    fn runtime(&self) -> PathBuf {
        self.cache.join("runtimes").join(shared_runtime().file_name().unwrap())
    }

    /// The compiled code that runs use.
    fn compiled(&self) -> PathBuf {
        let entries = fs::read_dir(self.runtime().join("compiled")).unwrap();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| {
            path.extension().is_some_and(|end| end == "cwasm")
                && path.file_name().unwrap().to_str().unwrap().starts_with("fuel-")
        });
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = std::iter::once(self.path("bin")).chain(std::env::split_paths(&path)).collect();
        command
            .current_dir(self.sandbox.dir.path())
            .env_clear()
            .env("HOME", self.sandbox.dir.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("CAPIBARA_HOME", &self.home)
            .env("CAPIBARA_CACHE_DIR", &self.cache)
            .stdin(Stdio::null())
            .args(["-c", script]);
        command
    }

    fn shell(&self, script: &str) -> Ran {
        finish(self.command(script).output().unwrap())
    }

    /// What doctor says in a shell in which `before` was done. Its answer is always valid, and its exit code what it says.
    fn doctor(&self, before: &str) -> Diagnosis {
        read(&self.shell(&format!("{before}\ncapibara doctor --format json")))
    }

    /// A broken set-up: made by `before` in the shell, or already. It is named, the command that is told is carried out, and
    /// it is named no more.
    #[track_caller]
    fn is_mended(&self, before: &str, (name, status, part): (&str, &str, &str), command: &str) -> Diagnosis {
        let broken = self.doctor(before);
        let Some(found) = broken.find(name, status, part) else { panic!("{name} {status} {part}: {broken:#?}") };
        assert!(status == "warning" || broken.code == Some(1), "{broken:#?}");
        let fix = found["fix"].as_str().unwrap_or_else(|| panic!("no fix: {found:#}"));
        assert!(fix.contains(command), "{fix} holds no {command}");
        eprintln!(
            "MENDED {status} {name}: {}\n    by {fix}",
            found["message"].as_str().unwrap().lines().next().unwrap()
        );
        let mended =
            read(&self.shell(&format!("{before}\n{fix} > /dev/null || exit 99\ncapibara doctor --format json")));
        for status in ["warning", "error"] {
            assert!(mended.find(name, status, part).is_none(), "after `{fix}`: {mended:#?}");
        }
        mended
    }
}

fn shared_runtime() -> PathBuf {
    let installed = engine().installed().unwrap();
    installed.iter().find(|runtime| runtime.current).unwrap().dir.clone()
}

#[track_caller]
fn read(ran: &Ran) -> Diagnosis {
    let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let schema = fs::read_to_string(repository().join("schema/doctor.v1.json")).unwrap();
    let validator = jsonschema::draft202012::new(&serde_json::from_str(&schema).unwrap()).unwrap();
    let wrong: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}: {json:#}");
    let checks = json["checks"].as_array().unwrap().clone();
    let broken = checks.iter().any(|check| check["status"] == "error");
    assert_eq!(json["ok"], !broken);
    assert_eq!(ran.code, Some(i32::from(broken)), "{ran:?}");
    for check in &checks {
        let told = check["fix"].is_string() || check["advice"].is_string();
        assert!(check["status"] == "ok" || told, "neither fix nor advice: {check:#}");
    }
    Diagnosis { code: ran.code, checks }
}

fn is_root(place: &Place) -> bool {
    place.home.metadata().unwrap().uid() == 0
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_good_set_up_is_called_good_and_left_as_it_is() {
    let place = Place::with_own_cache();
    let everything = || {
        let found = Command::new("find")
            .args([&place.home, &place.cache])
            .args(["-printf", "%p %m %U %s %T@ %C@\n"])
            .output()
            .unwrap();
        let mut lines: Vec<String> = String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = everything();
    let good = place.doctor("");
    assert_eq!((good.code, good.errors()), (Some(0), vec![]), "{good:#?}");
    assert_eq!(everything(), before);
    for name in [
        "kernel",
        "processor",
        "page-size",
        "address-space",
        "memory-mappings",
        "open-files",
        "variables",
        "configuration",
        "settings",
        "policies",
        "models",
        "cache-folder",
        "disk-space",
        "runtime",
        "compiled-code",
        "run",
        "audit-keys",
        "audit-log",
    ] {
        assert!(!good.status(name).is_empty(), "{name}: {good:#?}");
    }
    for name in [
        "variables",
        "configuration",
        "settings",
        "policies",
        "models",
        "cache-folder",
        "runtime",
        "compiled-code",
        "run",
        "audit-keys",
        "audit-log",
    ] {
        assert_eq!(good.status(name), ["ok"], "{name}: {good:#?}");
    }
    let text = place.shell("capibara doctor");
    assert!(text.code == Some(0) && text.stdout.contains("ok       runtime          python 3.13.5"), "{text:?}");
    assert_eq!(text.stderr, "");
}

#[test]
fn settings_that_cannot_be_used_are_mended() {
    let place = Place::new();
    let file = place.home.join("config.yaml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("stats: true\ntiemout: 1s\n");
    let _ = place.is_mended("", ("settings", "error", "config.yaml:2:1: unknown key `tiemout`"), "sed -i");
    assert_eq!(fs::read_to_string(&file).unwrap(), "stats: true\ntimeout: 1s\n");
    write("timeout: 5\nmemory: 64MiB\n");
    let _ = place.is_mended("", ("settings", "error", "config.yaml:1:10: `5` has no unit"), "sed -i");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# timeout: 5\nmemory: 64MiB\n");
    write("memory: 64MiB\nmemory: 65MiB\n");
    let _ = place.is_mended("", ("settings", "error", "config.yaml:2"), "sed -i");
    assert_eq!(fs::read_to_string(&file).unwrap(), "memory: 64MiB\n# memory: 65MiB\n");
    write("fuel: [\n- a: b\n}: {");
    let _ = place.is_mended("", ("settings", "error", "config.yaml"), "mv ");
    assert!(!file.exists() && place.home.join("config.yaml.broken").exists());
    write("stats: true\n");
    mode(&file, 0o666);
    let _ = place.is_mended("", ("configuration", "error", "others may write"), "chmod go-w");
    // Two at once: two findings, two commands.
    write("tiemout: 1s\nfule: 1G\n");
    assert_eq!(place.doctor("").status("settings"), ["error", "error"]);
    write("policy: mine\n");
    let _ = place.is_mended("", ("policies", "error", "config.yaml:1"), "sed -i");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# policy: mine\n");
    fs::remove_file(&file).unwrap();
    // A pipe that nobody writes to holds nobody up.
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert_eq!(place.doctor("").status("settings"), ["ok"]);
}

#[test]
fn policies_and_models_that_cannot_be_used_are_mended() {
    let place = Place::new();
    fs::create_dir(place.home.join("policies")).unwrap();
    let policy = place.home.join("policies/mine.yaml");
    fs::write(&policy, "extends: moderate\nlimitz:\n  fuel: 1G\n").unwrap();
    let _ = place.is_mended("", ("policies", "error", "policy `mine` cannot be used"), "mv ");
    assert!(!policy.exists());
    fs::write(&policy, "extends: moderate\n").unwrap();
    mode(&place.home.join("policies"), 0o777);
    let _ = place.is_mended("", ("configuration", "error", "others may write"), "chmod go-w");
    let models = place.home.join("models.yaml");
    fs::write(&models, "local:\n  nonsense: 1\n").unwrap();
    let _ = place.is_mended("", ("models", "error", "models.yaml"), "mv ");
    let key = place.path("my key");
    fs::write(&key, "0123456789abcdef\n").unwrap();
    mode(&key, 0o644);
    let added =
        place.shell("capibara model add local --kind openai-chat --base-url http://127.0.0.1:1/v1 --model m --no-key");
    assert_eq!(added.code, Some(0), "{added:?}");
    let text = fs::read_to_string(&models).unwrap();
    let with_key = text.replace("key: none", &format!("key: {{file: '{}'}}", key.display()));
    assert_ne!(text, with_key, "{text}");
    fs::write(&models, with_key).unwrap();
    let _ = place.is_mended("", ("models", "error", "others may read"), "chmod go-rwx");
    fs::remove_file(&key).unwrap();
    assert_eq!(place.doctor("").status("models"), ["warning"]);
}

#[test]
fn variables_that_mean_nothing_are_mended() {
    let place = Place::new();
    let _ = place.is_mended(
        "export CAPIBARA_TIEMOUT=2s",
        ("variables", "warning", "CAPIBARA_TIEMOUT sets nothing: did you mean CAPIBARA_TIMEOUT?"),
        "export CAPIBARA_TIMEOUT=\"$CAPIBARA_TIEMOUT\"",
    );
    let _ =
        place.is_mended("export CAPIBARA_ZZZZZZ=1", ("variables", "warning", "CAPIBARA_ZZZZZZ sets nothing"), "unset ");
    let _ =
        place.is_mended("export CAPIBARA_MEMORY=5", ("settings", "error", "CAPIBARA_MEMORY"), "unset CAPIBARA_MEMORY");
    let mended = place.is_mended(
        "export CAPIBARA_HOME=home",
        ("variables", "error", "no absolute path"),
        "export CAPIBARA_HOME=/",
    );
    assert_eq!(mended.status("configuration"), ["ok"]);
    // Without any home, and no place for temporary files, there is none of the folders, and one command gives all of them a place.
    let mended = place.is_mended(
        "unset HOME CAPIBARA_HOME CAPIBARA_CACHE_DIR; export TMPDIR=/proc/self/absent",
        ("cache-folder", "error", "nor HOME is set"),
        "export HOME=",
    );
    assert!(mended.find("configuration", "error", "no folder").is_none(), "{mended:#?}");
}

#[test]
fn limits_of_the_shell_are_mended() {
    let place = Place::new();
    let _ = place.is_mended("ulimit -S -n 40", ("open-files", "error", "at most 40"), "ulimit -S -n 1024");
    let _ = place.is_mended("ulimit -S -n 256", ("open-files", "warning", "at most 256"), "ulimit -S -n 1024");
    let before = "ulimit -S -v 3000000";
    let broken = place.doctor(before);
    assert!(broken.status("run").is_empty(), "what cannot work is not tried: {broken:#?}");
    let mended = place.is_mended(before, ("address-space", "error", "ulimit -v"), "ulimit -S -v ");
    assert_eq!(mended.status("run"), ["ok"]);
}

#[test]
fn a_cache_folder_that_is_not_safe_or_not_usable_is_mended() {
    let mut place = Place::with_own_cache();
    mode(&place.cache, 0o777);
    let _ = place.is_mended("", ("cache-folder", "error", "others may write"), "chmod go-w");
    mode(&place.runtime(), 0o770);
    let _ = place.is_mended("", ("runtime", "error", "others may write"), "chmod go-w");
    if is_root(&place) {
        let chown = |path: &Path| std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
        chown(&place.cache);
        let _ = place.is_mended("", ("cache-folder", "error", "belongs to user 65534"), "chown -R");
        chown(&place.compiled());
        let _ = place.is_mended("", ("compiled-code", "error", "belongs to user 65534"), "chown -R");
    } else {
        skip(
            "a_cache_folder_that_is_not_safe_or_not_usable_is_mended",
            "unavailable: giving files to another user (needs root)",
        );
    }
    let old = place.cache.join("runtimes/python-3.12.1-0123456789abcdef");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("memory.img"), vec![1; 1 << 20]).unwrap();
    let mended = place.is_mended("", ("left-over", "warning", "1 runtime of other versions of capibara: 1"), "rm -rf");
    assert_eq!(mended.status("runtime"), ["ok"]);
    // A file where the folder should be, and a folder that would be below one.
    place.cache = place.path("file");
    fs::write(&place.cache, "").unwrap();
    let _ = place.is_mended("", ("cache-folder", "error", "is not a folder"), "mv ");
    fs::write(place.path("file"), "").unwrap();
    place.cache = place.path("file").join("cache");
    let _ = place.is_mended("", ("cache-folder", "error", "is not a folder"), "export CAPIBARA_CACHE_DIR=");
    place.cache = PathBuf::from("/proc/capibara");
    let _ = place.is_mended("", ("cache-folder", "error", "cannot be made"), "export CAPIBARA_CACHE_DIR=");
}

#[test]
fn a_cache_folder_its_owner_cannot_write_is_mended() {
    const NAME: &str = "a_cache_folder_its_owner_cannot_write_is_mended";
    use std::os::unix::process::CommandExt as _;
    let mut place = Place::with_own_cache();
    // Nothing is closed to root: as root, all this is done as another user, with a copy of the program that is that user's.
    let user = is_root(&place).then_some(65_534);
    if let Some(user) = user {
        fs::remove_file(place.path("bin/capibara")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_capibara-under-test"), place.path("bin/capibara")).unwrap();
        let owner = format!("{user}:{user}");
        assert!(Command::new("chown").args(["-R", &owner]).arg(place.sandbox.dir.path()).status().unwrap().success());
        place.cache = place.path("cache");
    }
    let shell = |script: &str| {
        let mut command = place.command(script);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        finish(command.output().unwrap())
    };
    if shell("capibara --version").code != Some(0) {
        skip(NAME, "unavailable: a temporary folder that another user can enter");
        return;
    }
    for (closed, path) in
        [(0o500, place.cache.clone()), (0o000, place.cache.clone()), (0o500, place.cache.join("runtimes"))]
    {
        mode(&path, closed);
        let broken = read(&shell("capibara doctor --format json"));
        let found =
            broken.find("cache-folder", "error", "cannot be read and written").unwrap_or_else(|| panic!("{broken:#?}"));
        let fix = found["fix"].as_str().unwrap();
        eprintln!("MENDED error cache-folder: {}\n    by {fix}", found["message"].as_str().unwrap());
        let mended = read(&shell(&format!("{fix} || exit 99\ncapibara doctor --format json")));
        assert_eq!(mended.status("cache-folder"), ["ok"], "{mended:#?}");
        assert_eq!(mended.status("run"), ["ok"], "{mended:#?}");
    }
}

#[test]
fn compiled_code_that_is_not_what_it_was_is_mended() {
    let place = Place::with_own_cache();
    let path = place.compiled();
    let record = || {
        let mut name = place.compiled().into_os_string();
        name.push(".record");
        PathBuf::from(name)
    };
    let install = "capibara runtime install python";
    let ran = |mended: &Diagnosis| {
        assert_eq!((mended.status("compiled-code"), mended.status("run")), (vec!["ok"], vec!["ok"]))
    };
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let broken = place.doctor("");
    assert!(broken.status("run").is_empty(), "nothing is compiled: {broken:#?}");
    ran(&place.is_mended("", ("compiled-code", "error", "is corrupt"), install));
    flip_a_byte(&path);
    ran(&place.is_mended("", ("compiled-code", "error", "is corrupt"), install));
    fs::remove_file(record()).unwrap();
    ran(&place.is_mended("", ("compiled-code", "error", ".record` is not there"), install));
    let text = fs::read_to_string(record()).unwrap();
    let digest = text.split('"').find(|word| word.len() == 64).unwrap();
    fs::write(record(), text.replace(digest, &"0".repeat(64))).unwrap();
    ran(&place.is_mended("", ("compiled-code", "error", "should be 0000"), install));
    mode(&path, 0o666);
    ran(&place.is_mended("", ("compiled-code", "error", "others may write"), "chmod go-w"));
    // Of another version: nothing here uses it.
    let foreign = path.with_file_name("fuel-x86-64-v2-0000000000000000.cwasm");
    fs::write(&foreign, "x").unwrap();
    ran(&place.is_mended("", ("compiled-code", "error", "0000000000000000.cwasm"), "rm -f "));
    fs::remove_dir_all(place.runtime().join("compiled")).unwrap();
    ran(&place.is_mended("", ("compiled-code", "warning", "not compiled"), install));
}

/// Their command is the one that builds the runtime: `a_runtime_that_is_damaged_is_mended` carries it out.
#[test]
fn a_damaged_runtime_is_named() {
    let place = Place::with_own_cache();
    let image = place.runtime().join("memory.img");
    let named = |part: &str| {
        let broken = place.doctor("");
        let found = broken.find("runtime", "error", part).unwrap_or_else(|| panic!("{broken:#?}"));
        assert_eq!(found["fix"], "capibara runtime install python");
        assert!(broken.code == Some(1) && broken.status("run").is_empty(), "{broken:#?}");
    };
    flip_a_byte(&image);
    named("memory.img` is corrupt");
    flip_a_byte(&image);
    assert_eq!(place.doctor("").status("runtime"), ["ok"]);
    let manifest = place.runtime().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, "{").unwrap();
    named("manifest.json is not a valid manifest");
    fs::write(&manifest, text).unwrap();
    fs::remove_file(place.runtime().join("code.wasm")).unwrap();
    named("code.wasm` is not there");
}

#[test]
#[ignore = "builds the runtime, which takes minutes"]
fn a_runtime_that_is_damaged_is_mended() {
    let place = Place::with_own_cache();
    symlink(cache().join("sources"), place.cache.join("sources")).unwrap();
    flip_a_byte(&place.runtime().join("memory.img"));
    let mended = place.is_mended("", ("runtime", "error", "memory.img` is corrupt"), "capibara runtime install python");
    assert_eq!((mended.status("runtime"), mended.status("run")), (vec!["ok"], vec!["ok"]));
    fs::write(place.runtime().join("manifest.json"), "{").unwrap();
    let mended = place.is_mended("", ("runtime", "error", "not a valid manifest"), "capibara runtime install python");
    assert_eq!((mended.status("runtime"), mended.status("run")), (vec!["ok"], vec!["ok"]));
}

#[test]
fn a_runtime_that_cannot_be_built_for_want_of_programs_is_mended() {
    let mut place = Place::new();
    place.cache = place.path("none");
    for (folder, program) in [(".cargo/bin", "cargo"), (".local/bin", "pip"), (".local/bin", "curl")] {
        let folder = place.path(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(program), "#!/bin/sh\n").unwrap();
        mode(&folder.join(program), 0o755);
    }
    let before = format!("PATH='{}'", place.path("bin").display());
    let mended = place.is_mended(&before, ("build-programs", "error", "pip, cargo, curl"), "export PATH=\"$PATH\":");
    assert_eq!(mended.status("build-programs"), ["ok"]);
    let missing = mended.find("runtime", "warning", "not built yet").unwrap_or_else(|| panic!("{mended:#?}"));
    assert_eq!(missing["fix"], "capibara runtime install python");
    assert!(!place.cache.exists(), "nothing is made");
}

#[test]
fn a_disk_without_room_is_mended() {
    const NAME: &str = "a_disk_without_room_is_mended";
    let mut place = Place::new();
    place.cache = place.path("small");
    fs::create_dir(&place.cache).unwrap();
    let mount = |size: &str| {
        let option = format!("size={size},mode=700");
        let mut mounting = Command::new("mount");
        mounting.args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(&place.cache).stderr(Stdio::null());
        mounting.status().is_ok_and(|status| status.success())
    };
    if !mount("40m") {
        skip(NAME, "unavailable: mounting a small tmpfs (needs root)");
        return;
    }
    /// Gives the folder back, also where the test fails.
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _mounted = Mounted(&place.cache);
    let mended =
        place.is_mended("", ("disk-space", "error", "are free for the cache folder"), "export CAPIBARA_CACHE_DIR=");
    assert_eq!(mended.status("disk-space"), ["ok"], "{mended:#?}");
}

#[test]
fn an_audit_log_that_was_changed_is_set_aside() {
    let place = Place::new();
    let run = || {
        let ran = place.shell("capibara run -c 'print(1)'");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    };
    run();
    run();
    let log = place.home.join("audit/audit-000000000001.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("\"allow\"", "\"deny!\"", 1)).unwrap();
    assert_ne!(text, fs::read_to_string(&log).unwrap());
    let _ = place.is_mended("", ("audit-log", "error", "record 1 edited"), "mkdir -m 700");
    assert!(place.home.join("audit.broken/audit/audit-000000000001.jsonl").is_file(), "it is kept");
    run();
    assert!(place.doctor("").find("audit-log", "ok", "whole: 1 records").is_some(), "{:#?}", place.doctor(""));
    // Cut, and the head with what it knows of.
    run();
    let text = fs::read_to_string(place.home.join("audit/audit-000000000001.jsonl")).unwrap();
    fs::write(&log, format!("{}\n", text.lines().next().unwrap())).unwrap();
    let _ = place.is_mended("", ("audit-log", "error", "truncated"), "audit.broken-2");
    run();
    mode(&log, 0o666);
    let _ = place.is_mended("", ("audit-log", "error", "others may write"), "chmod go-w");
    let key = place.home.join("keys/audit.key");
    mode(&key, 0o644);
    let _ = place.is_mended("", ("audit-keys", "error", "others may read"), "chmod go-rwx");
    fs::remove_file(&key).unwrap();
    let _ = place.is_mended("", ("audit-keys", "error", "audit.key` is gone"), "mkdir -m 700");
    run();
    assert_eq!(place.doctor("").status("audit-log"), ["ok"]);
    fs::write(&key, "{}").unwrap();
    let _ = place.is_mended("", ("audit-keys", "error", "it is not a signing key"), "mkdir -m 700");
    run();
    assert_eq!((place.doctor("").status("audit-log"), place.doctor("").status("audit-keys")), (vec!["ok"], vec!["ok"]));
}

#[test]
fn what_it_says_of_names_of_others_is_escaped() {
    let mut place = Place::new();
    place.cache = place.path("evil\u{1b}[31m\u{202e}\nname");
    fs::create_dir(&place.cache).unwrap();
    mode(&place.cache, 0o777);
    let text = place.shell("capibara doctor");
    assert!(!text.stdout.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    let _ = place.is_mended("", ("cache-folder", "error", "others may write"), "chmod go-w \"$(printf ");
    assert_eq!(place.cache.metadata().unwrap().mode() & 0o777, 0o755);
}
