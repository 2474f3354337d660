//! What is set for all commands: the file, the variables, the flags, and which of them goes first.

use std::fs;
use std::path::{Path, PathBuf};

use capibara_tests::{Ran, Sandbox, engine, repository};
use serde_json::{Value, json};

struct Home {
    sandbox: Sandbox,
    folder: PathBuf,
}

impl Home {
    fn new() -> Self {
        let _ = engine();
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"));
        let folder = sandbox.dir.path().join("home");
        fs::create_dir(&folder).unwrap();
        Self { sandbox, folder }
    }

    /// Writes the file of the configuration.
    fn config(&self, text: &str) -> &Self {
        fs::write(self.folder.join("config.yaml"), text).unwrap();
        self
    }

    fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Ran {
        let mut command = self.sandbox.command();
        command.env("CAPIBARA_HOME", &self.folder).args(words).envs(variables.iter().copied());
        capibara_tests::finish(command.output().unwrap())
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.run_with(&[], words)
    }

    fn json(&self, variables: &[(&str, &str)], words: &[&str]) -> Value {
        let ran = self.run_with(variables, &[words, &["--format", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// A setting as `config show` has it: value, kind of origin, note.
    fn shown(&self, variables: &[(&str, &str)], words: &[&str], key: &str) -> (Value, String, Option<String>) {
        let shown = self.json(variables, &[&["config", "show"], words].concat());
        let row = shown["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (row["value"].clone(), text(&row["origin"]["kind"]).unwrap(), text(&row["note"]))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Each limit in the three places, with the value a run then has.
#[test]
fn flags_go_before_variables_before_the_file_before_the_policy() {
    let home = Home::new();
    // Key, name of the limit in a dry run; for file, variable, flag and policy what is written and what comes of it.
    type Row<'a> = (&'a str, &'a str, [(&'a str, Value); 4]);
    let rows: &[Row<'_>] = &[
        (
            "fuel",
            "fuel",
            [
                ("1G", 1_000_000_000.into()),
                ("2G", 2_000_000_000.into()),
                ("3G", 3_000_000_000_u64.into()),
                ("", 1_000_000_000_000_u64.into()),
            ],
        ),
        (
            "timeout",
            "wall_ms",
            [("1s", 1_000.into()), ("2s", 2_000.into()), ("1m", 60_000.into()), ("", 30_000.into())],
        ),
        (
            "memory",
            "memory_bytes",
            [
                ("100MiB", (100 << 20).into()),
                ("200MiB", (200 << 20).into()),
                ("1GiB", (1 << 30).into()),
                ("", (512 << 20).into()),
            ],
        ),
        (
            "max_output",
            "output_bytes",
            [("1KiB", 1024.into()), ("2KiB", 2048.into()), ("64MiB", (64 << 20).into()), ("", (16 << 20).into())],
        ),
        (
            "max_disk",
            "bytes_written",
            [("1KiB", 1024.into()), ("2KiB", 2048.into()), ("1GiB", (1 << 30).into()), ("", (256 << 20).into())],
        ),
    ];
    for (key, limit, [file, variable, flag, policy]) in rows {
        for places in 0..8 {
            let [in_file, in_variable, in_flag] = [1, 2, 4].map(|place| places & place != 0);
            home.config(&if in_file { format!("{key}: {}\n", file.0) } else { String::new() });
            let name = format!("CAPIBARA_{}", key.to_uppercase());
            let variables: &[(&str, &str)] = if in_variable { &[(&name, variable.0)] } else { &[] };
            let option = format!("--{}", key.replace('_', "-"));
            let flags: &[&str] = if in_flag { &[&option, flag.0] } else { &[] };
            let words = [&["run", "--dry-run"], flags, &["--format", "json", "-c", ""]].concat();
            let ran = home.run_with(variables, &words);
            let dry: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
            let (expected, kind) = match (in_flag, in_variable, in_file) {
                (true, ..) => (&flag.1, None),
                (_, true, _) => (&variable.1, Some(("variable", variable.0))),
                (_, _, true) => (&file.1, Some(("file", file.0))),
                _ => (&policy.1, Some(("policy", ""))),
            };
            assert_eq!(&dry["limits"][limit], expected, "{key} {places}: {dry:#}");
            if let Some((kind, value)) = kind {
                let (shown, origin, _) = home.shown(variables, &[], key);
                assert_eq!(origin, kind, "{key} {places}");
                assert!(value.is_empty() || shown == value, "{key} {places}: {shown}");
            }
        }
    }
}

#[test]
fn policy_format_and_switches_have_the_same_order() {
    let home = Home::new();
    let named = |variables: &[(&str, &str)], flags: &[&str]| {
        let ran = home.run_with(variables, &[&["run", "--dry-run"], flags, &["--format", "json", "-c", ""]].concat());
        let dry: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        dry["policy"]["name"].as_str().unwrap().to_owned()
    };
    let variable = [("CAPIBARA_POLICY", "permissive")];
    assert_eq!(named(&[], &[]), "moderate");
    assert_eq!(named(&variable, &[]), "permissive");
    home.config("policy: strict\n");
    assert_eq!(named(&[], &[]), "strict");
    assert_eq!(named(&variable, &[]), "permissive");
    assert_eq!(named(&variable, &["--policy", "moderate"]), "moderate");
    // Scans and `policy` know of it.
    let script = home.sandbox.file("x.py", "print(1)");
    assert_eq!(home.json(&[], &["scan", text(&script)])["policy"]["name"], "strict");
    assert_eq!(home.json(&variable, &["scan", text(&script)])["policy"]["name"], "permissive");
    assert_eq!(home.json(&[], &["policy", "show"])["name"], "strict");
    let listed = home.json(&variable, &["policy", "list"]);
    let default: Vec<&Value> =
        listed["policies"].as_array().unwrap().iter().filter(|policy| policy["default"] == true).collect();
    assert_eq!((default.len(), &default[0]["name"]), (1, &json!("permissive")), "{listed:#}");

    home.config("format: json\nstats: true\n");
    let run = |variables: &[(&str, &str)], flags: &[&str]| {
        let ran = home.run_with(variables, &[&["run"], flags, &["-c", "print(1)"]].concat());
        (ran.stdout.starts_with('{'), ran.stderr.contains("host calls"))
    };
    let variables = [("CAPIBARA_FORMAT", "text"), ("CAPIBARA_STATS", "0")];
    assert_eq!(run(&[], &[]), (true, true));
    assert_eq!(run(&variables, &[]), (false, false));
    assert_eq!(run(&variables, &["--format=json", "--stats"]), (true, true));
    assert_eq!(run(&[], &["--format", "text", "--stats=false"]), (false, false));
    // Every command with a format, and errors of all kinds.
    for words in
        [&["policy", "list"][..], &["audit", "path"], &["runtime", "list"], &["config", "path"], &["init", "a/"]]
    {
        assert!(home.run(words).stdout.starts_with('{'), "{words:?}");
        assert!(!home.run_with(&variables, words).stdout.starts_with('{'), "{words:?}");
    }
    let usage = home.run(&["run", "--tiemout", "1s", "x.py"]);
    assert!(usage.code == Some(125) && usage.stdout.starts_with('{'), "{usage:?}");
}

#[test]
fn what_is_set_narrows_every_policy_and_widens_none() {
    let home = Home::new();
    home.config("timeout: 1m\nmemory: 100MiB\nfuel: 7G\nmax_output: 64MiB\nmax_disk: 1GiB\n");
    let dry = |words: &[&str]| {
        let ran = home.run(&[&["run", "--dry-run"], words, &["--format", "json", "-c", ""]].concat());
        let dry: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        dry["limits"].clone()
    };
    let strict = dry(&["--policy", "strict"]);
    assert_eq!((&strict["wall_ms"], &strict["output_bytes"]), (&json!(5_000), &json!(1 << 20)), "{strict}");
    assert_eq!((&strict["memory_bytes"], &strict["fuel"]), (&json!(100 << 20), &json!(7_000_000_000_u64)), "{strict}");
    assert_eq!(home.run(&["run", "--policy", "strict", "-c", "print(1)"]).stdout, "1\n");
    let (value, origin, note) = home.shown(&[], &["--policy", "strict"], "timeout");
    assert_eq!((value, origin.as_str()), (json!("5s"), "policy"));
    assert!(note.as_deref().is_some_and(|note| note.contains("config.yaml:1 says 1m")), "{note:?}");
    // A flag goes before it, up to what the policy has, and is refused beyond.
    home.config("timeout: 1s\n");
    assert_eq!(dry(&["--policy", "strict", "--timeout", "4s"])["wall_ms"], 4_000);
    assert_eq!(home.run(&["run", "--policy", "strict", "--timeout", "6s", "-c", ""]).code, Some(125));
    // A policy may let some be raised.
    let _ = home.sandbox.file("some.yaml", "extends: strict\nwiden: true\noverridable: [wall_time]\n");
    home.config("timeout: 1m\nmemory: 1GiB\n");
    let some = dry(&["--policy", "./some.yaml"]);
    assert_eq!((&some["wall_ms"], &some["memory_bytes"]), (&json!(60_000), &json!(128 << 20)), "{some}");
    // A live run counts no fuel, so what is set for it is no contradiction.
    home.config("fuel: 1M\n");
    assert_eq!(home.run(&["run", "--live", "-c", "print(1)"]).code, Some(0));
    // Who is stopped by what is set learns where.
    home.config("\ntimeout: 100ms\n");
    let ran = home.run(&["run", "-c", "while True: pass"]);
    assert_eq!(ran.code, Some(124), "{ran:?}");
    let path = text(&home.folder).to_owned();
    assert!(ran.stderr.contains(&format!("--timeout (it is set by {path}/config.yaml:2)")), "{ran:?}");
}

#[test]
fn what_cannot_be_used_says_where_and_what_to_write() {
    let home = Home::new();
    let path = home.folder.join("config.yaml");
    for (content, place, hint) in [
        ("timeuot: 1s\n", ":1:1: unknown key `timeuot`", "did you mean `timeout`?"),
        ("# x\nmemory: 256\n", ":2:9: `256` has no unit: write for example `256MiB`", "`memory: 256MiB`"),
        ("env: {A: b}\n", ":1:6: ", ""),
        ("read: data\n", ":1:1: unknown key `read`", "`capibara run --read data script.py`"),
        ("live: true\n", ":1:1: unknown key `live`", "`capibara run --live`"),
        ("timeout: 1s\ntimeout: 2s\n", ":2:1: `timeout` stands here for the second time", ""),
        ("limits:\n  memory: 1GiB\n", ":2:3: ", "each line is a key with one value"),
        ("policy: [a\n", ":", ""),
    ] {
        home.config(content);
        for words in [&["run", "-c", "print(1)"][..], &["scan", "x.py"], &["config", "show"], &["policy", "list"]] {
            let ran = home.run(words);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{content}: {ran:?}");
            let expected = format!("capibara: error: {}{place}", path.display());
            assert!(ran.stderr.contains(&expected), "{content}: {expected}: {ran:?}");
            assert!(ran.stderr.contains(hint), "{content}: {ran:?}");
        }
        let failed = home.run(&["run", "--format", "json", "-c", "print(1)"]);
        let failed: Value = serde_json::from_str(&failed.stdout).unwrap();
        assert_eq!(failed["error"]["code"], "config-invalid", "{failed:#}");
        // What helps to set it right works.
        assert_eq!(home.run(&["config", "path"]).stdout, format!("{}\n", path.display()));
        assert_eq!(home.run(&["--version"]).code, Some(0));
        assert_eq!(home.run(&["run", "--help"]).code, Some(0));
        assert_eq!(home.run(&["init", "--force", "mine"]).code, Some(0));
    }
    home.config("");
    for (name, value, part) in [
        ("CAPIBARA_TIMEOUT", "5", "the variable CAPIBARA_TIMEOUT cannot be used: `5` has no unit"),
        ("CAPIBARA_FORMAT", "xml", "`CAPIBARA_FORMAT=json`"),
        ("CAPIBARA_RAW", "yes", "is not true or false"),
        ("CAPIBARA_POLICY", "./mine.yaml", "working directory"),
        (
            "CAPIBARA_POLICY",
            "lax",
            "the policy that CAPIBARA_POLICY names cannot be used: there is no policy named `lax`",
        ),
    ] {
        let ran = home.run_with(&[(name, value)], &["run", "-c", "print(1)"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
        assert_eq!(home.run_with(&[(name, "")], &["run", "-c", "print(1)"]).stdout, "1\n");
    }
    home.config("policy: lax\n");
    let ran = home.run(&["run", "-c", "print(1)"]);
    assert!(ran.code == Some(125) && ran.stderr.contains(&format!("{}:1 names", path.display())), "{ran:?}");
    assert_eq!(home.run(&["run", "--policy", "strict", "-c", "print(1)"]).code, Some(0));
    // A variable that looks like ours and is none.
    let shown = home.run_with(&[("CAPIBARA_TIEMOUT", "1s")], &["config", "show", "--policy", "strict"]);
    assert!(shown.stderr.contains("did you mean CAPIBARA_TIMEOUT?"), "{shown:?}");
}

#[test]
fn the_file_is_found_only_in_the_configuration_and_only_if_nobody_else_can_write_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    // Beside the script and in the working directory, by every name it could have.
    for name in ["config.yaml", "capibara.yaml", ".capibara.yaml", "capibara/config.yaml", ".capibara/config.yaml"] {
        let path = home.sandbox.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "policy: strict\nbroken: true\n").unwrap();
    }
    for variable in ["CAPIBARA_HOME", "XDG_CONFIG_HOME", "HOME"] {
        for value in ["", ".", "capibara"] {
            let mut command = home.sandbox.command();
            command.env("HOME", "/nonexistent").env(variable, value).args(["run", "-c", "print(1)"]);
            let ran = capibara_tests::finish(command.output().unwrap());
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{variable}={value}: {ran:?}");
        }
    }
    // The folders of the XDG specification.
    let shown = |name: &str, folder: &Path| {
        let mut command = home.sandbox.command();
        command.env_remove("HOME").env(name, folder).args(["config", "show", "--origin"]);
        capibara_tests::finish(command.output().unwrap()).stdout
    };
    let xdg = home.sandbox.dir.path().join("xdg");
    for (name, folder, below) in [("XDG_CONFIG_HOME", &xdg, "capibara"), ("HOME", &home.folder, ".config/capibara")] {
        fs::create_dir_all(folder.join(below)).unwrap();
        let file = folder.join(below).join("config.yaml");
        fs::write(&file, "memory: 99MiB\n").unwrap();
        let line = format!("memory      99MiB     {}:1", file.display());
        assert!(shown(name, folder).lines().any(|shown| shown == line), "{line}: {}", shown(name, folder));
    }
    // A path in the file starts from the file.
    fs::write(home.folder.join("own.yaml"), "name: own\nextends: strict\n").unwrap();
    home.config("policy: ./own.yaml\n");
    let dry = home.run(&["run", "--dry-run", "--format", "json", "-c", ""]);
    assert!(dry.stdout.contains("\"policy\":{\"name\":\"own\""), "{dry:?}");
    // Whoever can write it could choose the policy.
    let file = home.folder.join("config.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let ran = home.run(&["run", "-c", "print(1)"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("chmod o-w"), "{ran:?}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let ran = home.run(&["run", "-c", "print(1)"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("it is a directory"), "{ran:?}");
    // And no script gets at it.
    let grant = format!("{}:/g", home.folder.display());
    let ran = home.run(&["run", "--write", &grant, "-c", ""]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
}

#[test]
fn init_writes_policies_that_can_be_used() {
    let home = Home::new();
    let ran = home.run(&["init"]);
    let path = home.folder.join("policies/mine.yaml");
    assert_eq!((ran.code, ran.stdout), (Some(0), format!("{}\n", path.display())));
    assert!(ran.stderr.contains("`capibara run --policy mine script.py`"), "{}", ran.stderr);
    assert_eq!(home.run(&["policy", "check", text(&path)]).code, Some(0));
    assert_eq!(home.run(&["run", "--policy", "mine", "-c", "print(1)"]).stdout, "1\n");
    // Nothing is overwritten unless that is asked for.
    fs::write(&path, "extends: strict\n").unwrap();
    let again = home.run(&["init"]);
    assert!(again.code == Some(125) && again.stderr.contains("is already there"), "{again:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "extends: strict\n");
    assert_eq!(home.run(&["init", "--force"]).code, Some(0));
    let template = fs::read_to_string(&path).unwrap();
    assert!(template.contains("extends: moderate"));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    // Each example in it can be used as it stands, and all together.
    let uncommented: String = template
        .lines()
        .map(|line| if line.starts_with("# ") && !line.starts_with("#  ") { "" } else { line.trim_start_matches('#') })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(uncommented.contains("\nwiden: true\n") && uncommented.contains("\n  descriptors: 64\n"), "{uncommented}");
    let _ = home.sandbox.file("all.yaml", &uncommented);
    let all = home.run(&["policy", "check", "all.yaml"]);
    assert_eq!(all.code, Some(0), "{all:?}");
    // By path, as JSON, and what is no name.
    let by_path = home.json(&[], &["init", "./here.yaml"]);
    assert_eq!(by_path, json!({"schema": 1, "path": "./here.yaml"}));
    assert_eq!(home.run(&["policy", "check", "here.yaml"]).code, Some(0));
    for (name, part) in [
        ("strict", "name of a preset"),
        ("a b", "cannot be the name"),
        ("..", "cannot be the name"),
        ("mine.yaml", "write `mine`"),
        ("", "cannot be the name"),
        ("none/here.yaml", "failed to write"),
    ] {
        let ran = home.run(&["init", name]);
        assert!(ran.code == Some(125) && ran.stderr.contains(part), "{name}: {ran:?}");
    }
    let mut nowhere = home.sandbox.command();
    let nowhere = capibara_tests::finish(nowhere.env_remove("HOME").arg("init").output().unwrap());
    assert!(nowhere.code == Some(125) && nowhere.stderr.contains("set HOME"), "{nowhere:?}");
}

#[test]
fn config_init_writes_every_setting_and_sets_none() {
    let home = Home::new();
    let before = home.run(&["config", "show", "--origin"]).stdout;
    let path = home.folder.join("config.yaml");
    assert_eq!(home.run(&["config", "init"]).stdout, format!("{}\n", path.display()));
    assert_eq!(home.run(&["config", "show", "--origin"]).stdout, before);
    assert_eq!(home.run(&["config", "init"]).code, Some(125));
    assert_eq!(home.run(&["config", "init", "--force"]).code, Some(0));
    // Without the marks every key is set, to what is built in, and to what the schema allows.
    let template = fs::read_to_string(&path).unwrap();
    let lines = template.lines().filter(|line| line.starts_with('#') && !line.starts_with("# "));
    let set: String = lines.flat_map(|line| [line.trim_start_matches('#'), "\n"]).collect();
    home.config(&set);
    let rows = home.json(&[], &["config", "show"])["settings"].clone();
    let schema = fs::read_to_string(repository().join("schema/config.v1.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut document = serde_json::Map::new();
    for row in rows.as_array().unwrap() {
        let key = row["key"].as_str().unwrap();
        assert!(row["origin"]["kind"] == "file" || key == "format", "{row}");
        document.insert(key.into(), row["value"].clone());
        assert!(schema["properties"][key].is_object(), "{key} is not in the schema");
        let line = before.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        let value = line.split_whitespace().nth(1).unwrap();
        let shown = row["value"].as_str().map_or_else(|| row["value"].to_string(), str::to_owned);
        assert!(shown == value || key == "format" || (key == "fuel" && shown == "500G"), "{key}: {shown}, not {value}");
    }
    assert_eq!(schema["properties"].as_object().unwrap().len(), document.len());
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    assert!(validator.is_valid(&Value::Object(document)));
    for wrong in [json!({"limits": {}}), json!({"timeout": 5}), json!({"raw": "yes"}), json!({"format": "xml"})] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}
