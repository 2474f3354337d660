use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::resolve::memory::{Documents, ceiling};
use super::*;
use crate::fuzzing::{more, written};
use crate::rules::RULES;

fn preset(name: &str) -> Policy {
    Policy::preset(name).unwrap()
}

fn documents(files: &[(&str, &str)]) -> Documents {
    Documents(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
}

/// The policy of a file that holds this text, in `/p`.
fn policy(text: &str) -> Result<Policy, PolicyError> {
    documents(&[("/p/mine.yaml", text)]).policy("/p/mine.yaml")
}

fn problems(result: Result<Policy, PolicyError>) -> Vec<Problem> {
    match result {
        Err(PolicyError::Invalid { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

fn only_problem(result: Result<Policy, PolicyError>) -> (ProblemKind, (u32, u32), String, String) {
    let mut problems = problems(result);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let Problem { kind, line, column, message, hint, .. } = problems.remove(0);
    (kind, (line, column), message, hint.unwrap_or_default())
}

#[test]
fn the_default_is_what_its_document_says() {
    let (name, text) = PRESETS.iter().find(|(name, _)| *name == DEFAULT_POLICY).unwrap();
    assert_eq!(Policy::parse(name, text).unwrap(), Policy::default());
    assert_eq!(preset(DEFAULT_POLICY), Policy::default());
}

#[test]
fn presets_have_the_documented_limits() {
    let row = |name: &str| {
        let policy = preset(name);
        assert_eq!(policy.name, name);
        assert!(!policy.description.is_empty());
        assert_eq!(policy.scan_limits.source_bytes, 1 << 20);
        assert_eq!(policy.grants, Grants::default());
        let l = policy.limits;
        (l.wall_time.as_secs(), l.fuel, l.memory >> 20, l.output >> 20, l.bytes_written >> 20, l.files, l.descriptors)
    };
    assert_eq!(row("strict"), (5, Some(100_000_000_000), 128, 1, 16, 100, 32));
    assert_eq!(row("moderate"), (30, Some(1_000_000_000_000), 512, 16, 256, 1_000, 128));
    assert_eq!(row("permissive"), (300, None, 2048, 64, 2048, 10_000, 256));
}

#[test]
fn moderate_is_the_default() {
    assert_eq!(preset(DEFAULT_POLICY).limits, Limits::default());
    assert_eq!(DEFAULT_POLICY, "moderate");
}

#[test]
fn a_stricter_preset_never_allows_more() {
    let presets: Vec<Policy> = PRESETS.iter().map(|(name, _)| preset(name)).collect();
    for pair in presets.windows(2) {
        let [stricter, milder] = pair else { panic!() };
        assert_eq!(more(milder, stricter), None);
        // And it is stricter in everything that tells them apart.
        assert!(more(stricter, milder).is_some());
    }
    for policy in &presets {
        assert_eq!(more(policy, policy), None);
        written(policy);
        let of = |severity: Severity| policy.effect("dynamic-code", severity);
        assert!(of(Severity::Error) >= of(Severity::Warning) && of(Severity::Error) >= of(Severity::Unprovable));
    }
    let effects = |name: &str| {
        let policy = preset(name);
        [Severity::Error, Severity::Warning, Severity::Unprovable].map(|s| policy.effect("dynamic-code", s))
    };
    assert_eq!(effects("strict"), [Verdict::Deny; 3]);
    assert_eq!(effects("moderate"), [Verdict::Deny, Verdict::Warn, Verdict::Warn]);
    assert_eq!(effects("permissive"), [Verdict::Warn; 3]);
    let modes = PRESETS.map(|(name, _)| preset(name).scan);
    assert_eq!(modes, [ScanMode::Enforce, ScanMode::Enforce, ScanMode::Warn]);
    let audit = PRESETS.map(|(name, _)| preset(name).audit);
    assert_eq!(audit, [Audit::Required, Audit::Wanted, Audit::Wanted]);
}

#[test]
fn a_source_nobody_can_judge_is_denied_wherever_it_is_scanned() {
    for scan in [ScanMode::Enforce, ScanMode::Warn] {
        let mut policy = Policy { scan, ..preset("permissive") };
        let allow = RuleSetting { severity: Some(RuleSeverity::Off), allow: Vec::new() };
        for rule in FIXED_RULES {
            assert!(crate::rules::rule(rule).is_some());
            // No document can say so, and if one could, it would not count.
            policy.rules.insert(rule.into(), allow.clone());
            assert_eq!(policy.decision(rule, Severity::Error), Verdict::Deny);
            assert_eq!(policy.allowed(rule, "a.py", "x"), None);
        }
    }
    for rule in FIXED_RULES {
        for setting in ["severity: off", "severity: warning", "allow: [{path: '**', reason: r}]"] {
            let wrong =
                only_problem(policy(&format!("extends: permissive\nwiden: true\nrules: {{{rule}: {{{setting}}}}}")));
            assert_eq!(wrong.0, ProblemKind::FixedRule, "{wrong:?}");
        }
    }
    // In the mode `warn` nothing else denies.
    let warn = Policy { scan: ScanMode::Warn, ..preset("strict") };
    for rule in RULES.iter().filter(|rule| !FIXED_RULES.contains(&rule.id)) {
        for severity in [Severity::Error, Severity::Warning, Severity::Unprovable] {
            assert_eq!(warn.effect(rule.id, severity), Verdict::Warn);
        }
    }
    let off = Policy { scan: ScanMode::Off, ..preset("strict") };
    assert!(RULES.iter().all(|rule| off.severity(rule.id, rule.severity).is_none()));
}

#[test]
fn strict_only_narrows() {
    let lower = LimitsChange { wall_time: Some(Duration::from_secs(1)), fuel: Some(5), ..Default::default() };
    let mut strict = preset("strict");
    strict.apply(&lower).unwrap();
    assert_eq!((strict.limits.wall_time, strict.limits.fuel), (Duration::from_secs(1), Some(5)));
    for wider in [
        LimitsChange { wall_time: Some(Duration::from_secs(60)), ..Default::default() },
        LimitsChange { fuel: Some(u64::MAX), ..Default::default() },
        LimitsChange { memory: Some(1 << 30), ..Default::default() },
        LimitsChange { output: Some(1 << 30), ..Default::default() },
        LimitsChange { bytes_written: Some(1 << 30), ..Default::default() },
    ] {
        let mut strict = preset("strict");
        let before = strict.clone();
        assert!(matches!(strict.apply(&wider), Err(PolicyError::Widens { .. })), "{wider:?}");
        assert_eq!(strict, before);
        preset("moderate").apply(&wider).unwrap();
    }
    let memory = LimitsChange { memory: Some(1 << 30), ..Default::default() };
    assert_eq!(
        preset("strict").apply(&memory).unwrap_err().to_string(),
        "policy `strict` allows memory up to 128MiB, and 1GiB was asked for; it can only be lowered"
    );
    assert!(strict.check_live().is_err());
    preset("moderate").check_live().unwrap();
}

#[test]
fn defaults_lower_every_limit_and_raise_those_that_flags_may() {
    let most = LimitsChange {
        fuel: Some(u64::MAX),
        wall_time: Some(Duration::from_secs(86_400)),
        memory: Some(4 << 30),
        output: Some(1 << 40),
        bytes_written: Some(1 << 40),
    };
    let least = LimitsChange {
        fuel: Some(1),
        wall_time: Some(Duration::from_millis(1)),
        memory: Some(2),
        output: Some(3),
        bytes_written: Some(4),
    };
    let applied = |policy: &Policy, change: &LimitsChange| {
        let mut policy = policy.clone();
        let applied = policy.apply_defaults(change);
        (policy.limits, applied)
    };
    let strict = preset("strict");
    assert_eq!(applied(&strict, &most), (strict.limits.clone(), LimitsChange::default()));
    for (name, _) in PRESETS {
        let (limits, change) = applied(&preset(name), &least);
        assert_eq!(change, least, "{name}");
        assert_eq!((limits.fuel, limits.wall_time, limits.memory), (Some(1), Duration::from_millis(1), 2), "{name}");
        assert_eq!((limits.output, limits.bytes_written), (3, 4), "{name}");
        assert_eq!((limits.files, limits.descriptors), (preset(name).limits.files, preset(name).limits.descriptors));
    }
    assert_eq!(applied(&preset("moderate"), &most).1, most);
    // `none` is more than any number, and a policy without a limit of fuel can be lowered to one.
    assert_eq!(applied(&preset("permissive"), &most).0.fuel, Some(u64::MAX));
    let some = policy("extends: moderate\noverridable: [memory]\n").unwrap();
    let (limits, change) = applied(&some, &most);
    assert_eq!(change, LimitsChange { memory: Some(4 << 30), ..Default::default() });
    assert_eq!(Limits { memory: 512 << 20, ..limits }, preset("moderate").limits);
    // The ceiling lowers what is above it, and makes no error of it.
    let mut low = preset("moderate");
    ceiling("limits: {memory: 1GiB, fuel: 1G, wall_time: 10s}").unwrap().lower(&mut low).unwrap();
    let (limits, change) = applied(&low, &most);
    assert_eq!((limits.memory, limits.fuel, limits.wall_time.as_secs()), (1 << 30, Some(1_000_000_000), 10));
    assert_eq!((change.memory, change.output), (Some(1 << 30), most.output));
    assert_eq!(applied(&low, &least).1, least);
    // Nothing asked for, nothing changed.
    assert_eq!(applied(&low, &LimitsChange::default()), (low.limits.clone(), LimitsChange::default()));
}

#[test]
fn flags_set_what_the_policy_lets_them_set() {
    let mut some = policy("extends: moderate\noverridable: [memory, read]\n").unwrap();
    some.apply(&LimitsChange { memory: Some(1 << 31), ..Default::default() }).unwrap();
    assert_eq!(some.limits.memory, 1 << 31);
    let output = LimitsChange { output: Some(1 << 31), ..Default::default() };
    assert!(matches!(some.apply(&output), Err(PolicyError::Widens { limit: "output", .. })));
    some.apply(&LimitsChange { output: Some(1), ..Default::default() }).unwrap();
    let grant = || vec![FileGrant { host: "/h/data".into(), guest: None }];
    some.grant_files(grant(), false).unwrap();
    assert!(some.grants_path("/data/x", false) && !some.grants_path("/data/x", true));
    let refused = some.grant_files(grant(), true).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "policy `mine` does not allow flags to grant writing of files, and `--write` was given"
    );
    assert!(some.grant_env([("A".into(), "b".into())]).is_err());
    assert!(some.check_grant("--language").is_err() && some.check_grant("--net").is_err());
    let all = preset("moderate");
    assert!(Setting::ALL.iter().all(|setting| all.check_grant(setting.flag()).is_ok()));
    assert!(all.check_grant("--net").is_ok());
    let none = preset("strict");
    assert!(Setting::ALL.iter().all(|setting| none.check_grant(setting.flag()).is_err()));
    // Granting nothing is not granting.
    preset("strict").grant_files(Vec::new(), true).unwrap();
    let mut env = preset("moderate");
    env.grant_env([("A".into(), "b".into()), ("A".into(), "c".into())]).unwrap();
    assert_eq!(env.grants.env, BTreeMap::from([("A".to_owned(), "c".to_owned())]));
}

#[test]
fn what_is_wrong_has_a_place_and_a_hint() {
    // (document, kind, line and column, part of the message, part of the hint)
    type Row<'a> = (&'a str, ProblemKind, (u32, u32), &'a str, &'a str);
    let rows: &[Row<'_>] = &[
        ("extends: moderate\nlimit: {}\n", ProblemKind::UnknownKey, (2, 1), "`limit`", "did you mean `limits`?"),
        ("extends: moderate\nlimits:\n  memmory: 1MiB\n", ProblemKind::UnknownKey, (3, 3), "`memmory`", "`memory`"),
        ("extends: moderate\ngrants:\n  zzzzzzz: []\n", ProblemKind::UnknownKey, (3, 3), "`zzzzzzz`", "`read`"),
        ("extends: moderate\naudit: require\n", ProblemKind::InvalidValue, (2, 8), "`require`", "`required`"),
        ("extends: moderate\nscan: enforced\n", ProblemKind::InvalidValue, (2, 7), "`enforced`", "`enforce`"),
        ("extends: moderate\noverridable: nothing\n", ProblemKind::InvalidValue, (2, 14), "`nothing`", "`none`"),
        ("extends: moderate\noverridable: [memry]\n", ProblemKind::InvalidValue, (2, 15), "`memry`", "`memory`"),
        ("extends: moderate\nlimits: {memory: 128}\n", ProblemKind::InvalidValue, (2, 18), "`128` has no unit", ""),
        ("extends: moderate\nlimits: {memory: 5GiB}\n", ProblemKind::InvalidValue, (2, 18), "at most 4GiB", ""),
        ("extends: moderate\nlimits:\n  files: many\n", ProblemKind::Syntax, (3, 10), "u64", ""),
        ("extends: moderate\nlimits:\n", ProblemKind::Syntax, (2, 7), "mapping", ""),
        ("extends: moderate\nlive: yes\n", ProblemKind::Syntax, (2, 7), "boolean", ""),
        ("extends: moderate\nlive: true\nlive: true\n", ProblemKind::Syntax, (3, 1), "`live`", ""),
        ("extends: \"moderate\n", ProblemKind::Syntax, (1, 10), "quote", ""),
        ("extends: moderate\n--- \nlive: true\n", ProblemKind::Syntax, (3, 1), "documents", ""),
        ("- a\n", ProblemKind::Syntax, (1, 1), "mapping", ""),
        ("<<: {live: true}\n", ProblemKind::Syntax, (1, 1), "merge keys", ""),
        ("live: true\n", ProblemKind::MissingKey, (1, 1), "`scan`", "`extends: moderate`"),
        ("", ProblemKind::MissingKey, (1, 1), "`limits.descriptors` are missing", "`extends: moderate`"),
        ("extends: modrate\n", ProblemKind::Extends, (1, 10), "`modrate`", "`moderate`"),
        ("extends: other\n", ProblemKind::Extends, (1, 10), "`other`", "`./base.yaml`"),
        ("extends: https://x.org/p.yaml\n", ProblemKind::Extends, (1, 10), "URL", "file"),
        ("extends: ./none.yaml\n", ProblemKind::Extends, (1, 10), "no such file", ""),
        ("extends: ./mine.yaml\n", ProblemKind::Extends, (1, 10), "itself", ""),
        ("name: strict\nextends: strict\n", ProblemKind::InvalidValue, (1, 7), "preset", ""),
        ("name: a b\nextends: strict\n", ProblemKind::InvalidValue, (1, 7), "letters", ""),
        (
            "extends: strict\nrules:\n  dynamic-cod: {}\n",
            ProblemKind::UnknownRule,
            (3, 3),
            "`dynamic-cod`",
            "`dynamic-code`",
        ),
        (
            "extends: strict\nrules:\n  dynamic_code: {}\n",
            ProblemKind::UnknownRule,
            (3, 3),
            "`dynamic_code`",
            "`dynamic-code`",
        ),
        (
            "extends: strict\ngrants: {net: [a.org]}\n",
            ProblemKind::Unavailable,
            (2, 16),
            "`net` is not available",
            "leave `net`",
        ),
        ("extends: strict\ngrants: {secrets: {A: b}}\n", ProblemKind::Unavailable, (2, 20), "`secrets`", ""),
        ("extends: strict\ngrants: {packages: [numpy]}\n", ProblemKind::Unavailable, (2, 21), "`packages`", ""),
        ("extends: strict\ngrants: {tools: {A: b}}\n", ProblemKind::Unavailable, (2, 18), "`tools`", ""),
        ("extends: strict\nwiden: true\ngrants: {read: ['']}\n", ProblemKind::InvalidValue, (3, 17), "HOST", ""),
        ("extends: strict\nwiden: true\ngrants: {read: [/]}\n", ProblemKind::InvalidValue, (3, 17), "HOST:GUEST", ""),
        (
            "extends: strict\nwiden: true\ngrants: {read: ['/a:/dev/x']}\n",
            ProblemKind::InvalidValue,
            (3, 17),
            "`/dev`",
            "",
        ),
        (
            "extends: strict\nwiden: true\ngrants: {read: ['/a:/x/../y']}\n",
            ProblemKind::InvalidValue,
            (3, 17),
            "`..`",
            "",
        ),
        (
            "extends: strict\nwiden: true\ngrants: {read: [{host: /a, guest: b}]}\n",
            ProblemKind::InvalidValue,
            (3, 17),
            "absolute",
            "",
        ),
        (
            "extends: strict\nwiden: true\ngrants: {read: [{guest: /a}]}\n",
            ProblemKind::MissingKey,
            (3, 18),
            "`host`",
            "",
        ),
        (
            "extends: strict\nwiden: true\ngrants: {read: [{hots: /a}]}\n",
            ProblemKind::UnknownKey,
            (3, 18),
            "`hots`",
            "`host`",
        ),
        (
            "extends: strict\nwiden: true\ngrants: {read: ['/a:/d'], write: ['/b:/d/']}\n",
            ProblemKind::InvalidValue,
            (3, 34),
            "two things",
            "",
        ),
        ("extends: strict\nwiden: true\ngrants: {env: {'A=B': c}}\n", ProblemKind::InvalidValue, (3, 16), "`A=B`", ""),
    ];
    let mut wrong = Vec::new();
    for (text, kind, place, message, hint) in rows {
        let found = only_problem(policy(text));
        let fits = (found.0, found.1) == (*kind, *place) && found.2.contains(message) && found.3.contains(hint);
        if !fits {
            wrong.push(format!("{text}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let error = policy("extends: strict\nlimits: {memmory: 1}\n").unwrap_err().to_string();
    assert_eq!(error, "policy `mine` cannot be used: /p/mine.yaml:2:10: unknown key `memmory`");
}

#[test]
fn allow_lists_say_what_and_why() {
    let entry =
        |entry: &str| format!("extends: moderate\nwiden: true\nrules:\n  dynamic-code:\n    allow:\n      - {entry}\n");
    for (text, kind, message) in [
        ("{path: a.py}", ProblemKind::MissingKey, "`reason`"),
        ("{path: a.py, reason: ' '}", ProblemKind::MissingKey, "`reason`"),
        ("{reason: r}", ProblemKind::MissingKey, "none of `path`"),
        ("{path: '', reason: r}", ProblemKind::InvalidValue, "empty"),
        ("{path: 'a[', reason: r}", ProblemKind::InvalidValue, "glob"),
        ("{regex: 'a(', reason: r}", ProblemKind::InvalidValue, "unclosed group"),
        ("{regex: '(\\w{100}){100}', reason: r}", ProblemKind::InvalidValue, "too large"),
        ("{match: x, reason: r, expires: tomorrow}", ProblemKind::InvalidValue, "not a date"),
        ("{match: x, reason: r, expires: 2026-02-30}", ProblemKind::InvalidValue, "not a date"),
        ("{match: x, reason: \"a\\u202e\\e\"}", ProblemKind::InvalidValue, "control character"),
    ] {
        let found = only_problem(policy(&entry(text)));
        assert!(found.0 == kind && found.2.contains(message), "{text}: {found:?}");
        assert_eq!(found.1.0, 6, "{text}: {found:?}");
    }
    let allowed = |text: &str, path: &str, line: &str| {
        policy(&entry(text)).unwrap().allowed("dynamic-code", path, line).map(str::to_owned)
    };
    let yes = Some("r".to_owned());
    for (text, path, line, passes) in [
        ("{path: 'tests/*.py', reason: r}", "tests/a.py", "", true),
        ("{path: 'tests/*.py', reason: r}", "./tests/a.py", "", true),
        ("{path: './tests/*.py', reason: r}", "tests/a.py", "", true),
        ("{path: 'tests/*.py', reason: r}", "tests/b/a.py", "", false),
        ("{path: 'tests/*.py', reason: r}", "x/tests/a.py", "", false),
        ("{path: 'tests/**', reason: r}", "tests/b/a.py", "", true),
        ("{match: 'eval(', reason: r}", "a.py", "x = eval(y)", true),
        ("{match: 'eval(', reason: r}", "a.py", "x = exec(y)", false),
        ("{match: 'e.al(', reason: r}", "a.py", "x = eval(y)", false),
        ("{regex: '\\beval\\(\\w+\\)$', reason: r}", "a.py", "x = eval(y)", true),
        ("{regex: '^eval', reason: r}", "a.py", "x = eval(y)", false),
        ("{path: a.py, match: eval, reason: r}", "a.py", "exec", false),
        ("{path: a.py, match: eval, reason: r}", "b.py", "eval", false),
        ("{path: a.py, match: eval, reason: r}", "a.py", "eval", true),
    ] {
        assert_eq!(allowed(text, path, line), yes.clone().filter(|_| passes), "{text} {path} {line}");
    }
    assert_eq!(policy(&entry("{match: eval, reason: r}")).unwrap().allowed("spawn-process", "a.py", "eval"), None);
}

#[test]
fn an_entry_counts_through_its_last_day() {
    let text = "extends: moderate\nwiden: true\nrules: {dynamic-code: {allow: [{match: x, reason: r, expires: 2026-12-31}]}}\n";
    let files = documents(&[("/p/mine.yaml", text), ("/p/child.yaml", "extends: ./base.yaml")]);
    let on = |year, month, day| files.policy_on("/p/mine.yaml", jiff::civil::date(year, month, day)).unwrap();
    for (policy, counts) in [(on(2026, 12, 30), true), (on(2026, 12, 31), true), (on(2027, 1, 1), false)] {
        assert_eq!(policy.allowed("dynamic-code", "a.py", "x").is_some(), counts);
        let told = Expired { rule: "dynamic-code".into(), reason: "r".into(), expires: "2026-12-31".into() };
        assert_eq!(policy.expired, if counts { vec![] } else { vec![told] });
        written(&policy);
    }
    assert_ne!(on(2026, 12, 31).sha256(), on(2027, 1, 1).sha256());
    assert_eq!(on(2027, 1, 1).sha256(), preset("moderate").sha256());
}

#[test]
fn what_has_expired_is_told_until_a_child_has_its_own_list() {
    let base = "extends: moderate\nrules:\n  dynamic-code: {allow: [{match: x, reason: r, expires: 2026-11-27}]}\n  file-access: {allow: [{match: y, reason: q, expires: 2026-11-27}]}\n";
    let told = |child: &str| {
        let files = documents(&[("/p/base.yaml", base), ("/p/mine.yaml", &format!("extends: ./base.yaml\n{child}"))]);
        let policy = files.policy("/p/mine.yaml").unwrap();
        policy.expired.into_iter().map(|expired| expired.rule).collect::<Vec<_>>()
    };
    assert_eq!(told(""), ["dynamic-code", "file-access"]);
    assert_eq!(told("rules: {dynamic-code: {severity: error}}\n"), ["dynamic-code", "file-access"]);
    assert_eq!(told("rules: {dynamic-code: {allow: []}}\n"), ["file-access"]);
}

#[test]
fn presets_alone_have_the_names_of_presets() {
    for (name, text) in PRESETS {
        assert_eq!(Policy::parse(name, text).unwrap().name, name);
        assert!(only_problem(Policy::parse("mine", text)).2.contains("is the name of a preset"), "{name}");
        assert!(only_problem(Policy::parse("mine", &format!("name: {name}\nextends: strict\n"))).2.contains("preset"));
    }
    let policy = Policy::parse("mine", "extends: strict\n").unwrap();
    assert_eq!((policy.name.as_str(), policy.description.as_str()), ("mine", ""));
    match Policy::preset("modrate") {
        Err(PolicyError::UnknownName { name, nearest, folder }) => {
            assert_eq!((name.as_str(), nearest.as_deref(), folder), ("modrate", Some("moderate"), None));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(Policy::default(), preset("moderate"));
}

#[test]
fn a_child_overrides_what_it_names_and_inherits_the_rest() {
    let base = "extends: moderate\nlimits: {memory: 256MiB, output: 1MiB}\nrules:\n  dynamic-code: {severity: error}\n  file-access: {severity: error}\n";
    let child = "extends: ./base.yaml\ndescription: the child\nlimits: {memory: 128MiB}\nrules: {file-access: {}}\n";
    let files = documents(&[("/p/base.yaml", base), ("/p/child.yaml", child)]);
    let policy = files.policy("/p/child.yaml").unwrap();
    assert_eq!((policy.name.as_str(), policy.description.as_str()), ("child", "the child"));
    assert_eq!((policy.limits.memory, policy.limits.output, policy.limits.files), (128 << 20, 1 << 20, 1_000));
    assert_eq!(policy.rules["dynamic-code"].severity, Some(RuleSeverity::Error));
    assert_eq!(policy.rules["file-access"].severity, Some(RuleSeverity::Error));
    // The flags come last.
    let mut policy = policy;
    policy.apply(&LimitsChange { memory: Some(1 << 30), ..Default::default() }).unwrap();
    assert_eq!((policy.limits.memory, policy.limits.output), (1 << 30, 1 << 20));
    assert_eq!(files.policy("/p/base.yaml").unwrap().description, "");
}

#[test]
fn widening_is_refused_with_its_place() {
    let rows: &[(&str, (u32, u32), &str)] = &[
        ("overridable: [memory]\n", (2, 14), "`memory`"),
        ("live: true\n", (2, 7), "live runs"),
        ("audit: wanted\n", (2, 8), "`audit: wanted` is milder than `required` of `strict`"),
        ("scan: warn\n", (2, 7), "`scan: warn` is milder than `enforce` of `strict`"),
        ("findings: {warning: warn}\n", (2, 21), "`warning: warn` is milder than `deny`"),
        ("rules: {dynamic-code: {severity: off}}\n", (2, 34), "`dynamic-code` would lead to `allow`"),
        ("rules: {file-access: {allow: [{path: a.py, reason: r}]}}\n", (2, 31), "`file-access`"),
        ("scan_limits: {source_bytes: 2MiB}\n", (2, 29), "`source_bytes: 2MiB` is more than `1MiB`"),
        ("limits: {fuel: none}\n", (2, 16), "`fuel: none` is more than `100G`"),
        ("limits: {fuel: 1T}\n", (2, 16), "`fuel: 1T` is more than `100G`"),
        ("limits: {wall_time: 6s}\n", (2, 21), "`wall_time: 6s` is more than `5s`"),
        ("limits: {memory: 129MiB}\n", (2, 18), "`memory: 129MiB`"),
        ("limits: {output: 2MiB}\n", (2, 18), "`output: 2MiB`"),
        ("limits: {bytes_written: 17MiB}\n", (2, 25), "`bytes_written: 17MiB`"),
        ("limits: {files: 101}\n", (2, 17), "`files: 101` is more than `100`"),
        ("limits: {descriptors: 33}\n", (2, 23), "`descriptors: 33`"),
        ("grants: {read: [data]}\n", (2, 17), "reading `/p/data` at `/data`"),
        ("grants: {write: [data]}\n", (2, 18), "writing `/p/data` at `/data`"),
        ("grants: {env: {A: b}}\n", (2, 16), "`A`"),
    ];
    for (text, place, message) in rows {
        let narrow = policy(&format!("extends: strict\n{text}"));
        let (kind, found, told, hint) = only_problem(narrow);
        assert_eq!((kind, found), (ProblemKind::Widens, *place), "{text}: {told}");
        assert!(told.contains(message) && hint.contains("widen: true"), "{text}: {told} {hint}");
        let wide = policy(&format!("extends: strict\nwiden: true\n{text}")).unwrap();
        assert!(more(&preset("strict"), &wide).is_some(), "{text}");
        // In a file that is only extended it does not count.
        let base = format!("extends: strict\nwiden: true\n{text}");
        let files = documents(&[("/p/base.yaml", &base), ("/p/mine.yaml", "extends: ./base.yaml\nwiden: true\n")]);
        let (kind, _, _, hint) = only_problem(files.policy("/p/mine.yaml"));
        assert_eq!(kind, ProblemKind::Widens);
        assert!(hint.contains("named on the command line"), "{hint}");
    }
    // Each grant at its own place.
    let grants = problems(policy("extends: strict\ngrants: {read: [a, b], write: [c, d]}\n"));
    assert_eq!(grants.iter().map(|problem| problem.column).collect::<Vec<_>>(), [17, 20, 32, 35]);
    // All of it is told at once, in order.
    let all = problems(policy("extends: strict\nlive: true\nlimits:\n  memory: 1GiB\n  files: 1\n  output: 1GiB\n"));
    assert_eq!(all.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 4, 6]);
}

#[test]
fn grants_of_a_child_lie_within_those_of_its_parent() {
    let base = "extends: moderate\nwiden: true\ngrants: {read: ['/h/r:/r', '/h/w/keep:/w/keep'], write: ['/h/w:/w']}\n";
    let rows: &[(&str, bool)] = &[
        ("{read: []}", false),
        ("{write: []}", true),
        ("{read: [], write: []}", true),
        ("{read: ['/h/r:/r'], write: []}", true),
        ("{read: ['/h/r/x:/r/x'], write: []}", true),
        ("{read: ['/h/r/x:/x'], write: []}", false),
        ("{read: ['/h:/r'], write: []}", false),
        ("{read: ['/h/rr:/rr'], write: []}", false),
        ("{read: ['/h/r/../s:/r'], write: []}", false),
        ("{write: ['/h/r:/r'], read: []}", false),
        ("{write: ['/h/r/x:/r/x'], read: []}", false),
        ("{read: ['/h/w:/w'], write: []}", true),
        ("{read: ['/h/w/a:/w/a', '/h/w/keep:/w/keep'], write: []}", true),
        ("{write: ['/h/w/a:/w/a']}", true),
        // What the parent keeps from being written stays so.
        ("{write: ['/h/w/keep:/w/keep'], read: []}", false),
        ("{write: ['/h/w/keep/x:/w/keep/x'], read: []}", false),
        ("{write: ['/h/w:/w'], read: []}", false),
        ("{write: ['/h/w:/w'], read: ['/h/w/keep:/w/keep']}", true),
    ];
    for (grants, fits) in rows {
        let files = documents(&[
            ("/p/base.yaml", base),
            ("/p/mine.yaml", &format!("extends: ./base.yaml\ngrants: {grants}\n")),
        ]);
        // The base widens `moderate`, which it may only where it is called itself.
        let base = files.policy("/p/base.yaml").unwrap();
        let complete = format!("{}\n", base.to_yaml());
        let files = documents(&[
            ("/p/base.yaml", &complete),
            ("/p/mine.yaml", &format!("extends: ./base.yaml\ngrants: {grants}\n")),
        ]);
        let result = files.policy("/p/mine.yaml");
        assert_eq!(result.is_ok(), *fits, "{grants}: {result:?}");
        if let Ok(policy) = result {
            assert_eq!(more(&base, &policy), None, "{grants}");
        } else {
            assert!(problems(result).iter().all(|problem| problem.kind == ProblemKind::Widens));
        }
    }
    let hint = |grants: &str| {
        let base = "{read: ['/h/r:/r', '/h/w/keep:/w/keep'], write: ['/h/w:/w']}";
        let complete = policy(&format!("extends: moderate\nwiden: true\ngrants: {base}\n")).unwrap().to_yaml();
        let files = documents(&[
            ("/p/base.yaml", &complete),
            ("/p/mine.yaml", &format!("extends: ./base.yaml\ngrants: {grants}\n")),
        ]);
        problems(files.policy("/p/mine.yaml")).remove(0).hint.unwrap()
    };
    assert!(
        hint("{read: ['/h/r/x'], write: []}").ends_with("write `/h/r/x:/r/x`"),
        "{}",
        hint("{read: ['/h/r/x'], write: []}")
    );
    assert_eq!(hint("{read: []}"), "keep `/h/w/keep:/w/keep` below `read`");
}

#[test]
fn what_the_parent_puts_inside_of_a_grant_stays_there() {
    let base =
        "extends: moderate\nwiden: true\ngrants: {read: ['/h/a:/a', '/h/b:/a/in'], write: ['/h/w:/w', '/h/v:/w/in']}\n";
    let base = policy(base).unwrap().to_yaml();
    /// Grants of the child; what is said about them, and the hint.
    type Row<'a> = (&'a str, Result<(), (&'a str, &'a str)>);
    let rows: &[Row<'_>] = &[
        ("{read: ['/h/a:/a', '/h/b:/a/in']}", Ok(())),
        ("{read: ['/h/a/y:/a/y', '/h/b/z:/a/in/z']}", Ok(())),
        ("{read: ['/h/b:/a/in']}", Ok(())),
        // Without the inner one, other files would be seen at its place.
        (
            "{read: ['/h/a:/a'], write: []}",
            Err((
                "reading all of `/a` is more than `base` grants: `/a/in` inside of it is granted otherwise",
                "keep `/h/b:/a/in` below `read`",
            )),
        ),
        (
            "{write: ['/h/w:/w']}",
            Err((
                "writing all of `/w` is more than `base` grants: `/w/in` inside of it is granted otherwise",
                "keep `/h/v:/w/in` below `write`",
            )),
        ),
        // Kept for reading is kept.
        ("{read: ['/h/v:/w/in'], write: ['/h/w:/w']}", Ok(())),
        // What the inner one hides of the outer one stays hidden.
        (
            "{read: ['/h/a/in:/a/in']}",
            Err((
                "reading `/h/a/in` at `/a/in` is more than `base` grants",
                "say `widen: true` in this file if that is meant",
            )),
        ),
        (
            "{read: ['/h/a/in/x:/a/in/x']}",
            Err((
                "reading `/h/a/in/x` at `/a/in/x` is more than `base` grants",
                "say `widen: true` in this file if that is meant",
            )),
        ),
        (
            "{read: [], write: ['/h/w/in/x:/w/in/x']}",
            Err((
                "writing `/h/w/in/x` at `/w/in/x` is more than `base` grants",
                "say `widen: true` in this file if that is meant",
            )),
        ),
        (
            "{read: ['/h/c:/c']}",
            Err((
                "reading `/h/c` at `/c` is more than `base` grants",
                "say `widen: true` in this file if that is meant",
            )),
        ),
        (
            "{read: [], write: ['/h/a:/a']}",
            Err((
                "writing `/h/a` at `/a` is more than `base` grants",
                "say `widen: true` in this file if that is meant",
            )),
        ),
        (
            "{read: ['/h/a/x/y:/q']}",
            Err((
                "reading `/h/a/x/y` at `/q` is more than `base` grants",
                "`base` shows it to the script at `/a/x/y`: write `/h/a/x/y:/a/x/y`",
            )),
        ),
    ];
    for (grants, expected) in rows {
        let files = documents(&[
            ("/p/base.yaml", &base.replace("name: mine", "name: base")),
            ("/p/mine.yaml", &format!("extends: ./base.yaml\ngrants: {grants}\n")),
        ]);
        match (files.policy("/p/mine.yaml"), expected) {
            (Ok(_), Ok(())) => {}
            (result @ Err(_), Err((message, hint))) => {
                let found = problems(result).remove(0);
                assert_eq!((found.message.as_str(), found.hint.as_deref()), (*message, Some(*hint)), "{grants}");
                assert_eq!(found.line, 2, "{grants}");
            }
            (result, _) => panic!("{grants}: {result:?}"),
        }
    }
}

#[test]
fn an_inner_grant_is_kept_at_its_place_and_not_at_another() {
    let base = "extends: moderate\nwiden: true\ngrants: {read: ['/h/a:/a', '/h/b:/a/in', '/h/b:/q']}\n";
    let base = policy(base).unwrap().to_yaml();
    for (grants, fits) in [
        ("['/h/a:/a', '/h/b:/a/in', '/h/b:/q']", true),
        ("['/h/a:/a', '/h/b:/a/in']", true),
        ("['/h/b:/q']", true),
        ("['/h/a:/a', '/h/b:/q']", false),
    ] {
        let files = documents(&[
            ("/p/base.yaml", &base),
            ("/p/mine.yaml", &format!("extends: ./base.yaml\ngrants: {{read: {grants}}}\n")),
        ]);
        let result = files.policy("/p/mine.yaml");
        assert_eq!(result.is_ok(), fits, "{grants}: {result:?}");
    }
}

#[test]
fn a_grant_says_which_paths_of_the_script_it_covers() {
    let policy = policy("extends: moderate\nwiden: true\ngrants:\n  read: [data, '/h/all:/w/keep', {host: ~/notes, guest: /home/script/notes}]\n  write: ['../out:/w']\n").unwrap();
    let hosts: Vec<&Path> = policy.grants.read.iter().chain(&policy.grants.write).map(|g| g.host.as_path()).collect();
    assert_eq!(hosts, ["/p/data", "/h/all", "/home/user/notes", "/out"].map(Path::new));
    for (path, read, write) in [
        ("/data", true, false),
        ("/data/", true, false),
        ("/data/a/b.csv", true, false),
        ("/data/../etc/passwd", false, false),
        ("//data/./a", true, false),
        ("/database", false, false),
        ("data", false, false),
        ("notes/a", true, false),
        ("./notes", true, false),
        ("../../data/x", true, false),
        ("/w/a", true, true),
        ("/w/keep", true, false),
        ("/w/keep/a", true, false),
        ("/w/keep/../a", true, true),
        ("/", false, false),
        ("", false, false),
        ("/../../data", true, false),
    ] {
        assert_eq!((policy.grants_path(path, false), policy.grants_path(path, true)), (read, write), "{path}");
    }
    let root = self::policy("extends: moderate\nwiden: true\ngrants: {read: ['/h:/']}\n").unwrap();
    assert!(root.grants_path("/", false) && root.grants_path("/etc/x", false) && !root.grants_path("/etc/x", true));
}

#[test]
fn extending_goes_four_steps_and_not_in_a_circle() {
    let chain = |steps: usize| {
        let mut files: Vec<(String, String)> =
            (0..steps).map(|at| (format!("/p/{at}.yaml"), format!("extends: ./{}.yaml\n", at + 1))).collect();
        files.push((format!("/p/{steps}.yaml"), preset("strict").to_yaml().replace("name: strict", "")));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        documents(&files).policy("/p/0.yaml")
    };
    for steps in 0..=4 {
        assert_eq!(chain(steps).unwrap().limits, preset("strict").limits, "{steps}");
    }
    assert!(only_problem(chain(5)).2.contains("4 steps"));
    let circle = documents(&[
        ("/p/a.yaml", "extends: ./b.yaml"),
        ("/p/b.yaml", "extends: ./sub/../c.yaml"),
        ("/p/c.yaml", "extends: ./b.yaml"),
    ]);
    assert!(only_problem(circle.policy("/p/a.yaml")).2.contains("itself"));
    // What is wrong in a file that is extended is told with that file.
    let wrong = documents(&[("/p/a.yaml", "extends: ./b.yaml"), ("/p/b.yaml", "extends: strict\nlvie: true")]);
    assert!(problems(wrong.policy("/p/a.yaml")).remove(0).to_string().starts_with("/p/b.yaml:2:1: unknown key"));
    // A document without a file extends presets alone.
    assert!(Policy::parse("x", "extends: strict").is_ok());
    assert!(only_problem(Policy::parse("x", "extends: /etc/hostname")).2.contains("only presets"));
    assert!(
        only_problem(Policy::parse("x", "extends: strict\nwiden: true\ngrants: {read: [a]}"))
            .2
            .contains("not absolute")
    );
}

#[test]
fn nothing_is_above_the_ceiling() {
    let low = ceiling("limits: {memory: 64MiB, fuel: 1G}\nscan: enforce\nfindings: {error: deny}\nlive: false\naudit: required\noverridable: [memory, output, read]\ngrants: {read: [/srv]}\n").unwrap();
    for (name, _) in PRESETS {
        let before = preset(name);
        let mut policy = before.clone();
        low.lower(&mut policy).unwrap();
        assert_eq!(more(&before, &policy), None, "{name}");
        assert_eq!((policy.limits.memory, policy.limits.fuel), (64 << 20, Some(1_000_000_000)));
        assert_eq!(policy.limits.output, before.limits.output);
        assert_eq!(policy.audit, Audit::Required);
        assert!(!policy.live && policy.scan == ScanMode::Enforce && policy.findings.error == Verdict::Deny);
        let wide = LimitsChange { memory: Some(65 << 20), ..Default::default() };
        assert!(policy.clone().apply(&wide).is_err(), "{name}");
    }
    let mut wide = policy("extends: permissive\nwiden: true\nlimits: {memory: 4GiB}\nrules: {dynamic-code: {severity: off, allow: [{match: x, reason: r}]}, unprovable: {severity: error}}\n").unwrap();
    low.lower(&mut wide).unwrap();
    assert_eq!(wide.rules.keys().collect::<Vec<_>>(), ["unprovable"]);
    let dynamic = crate::rules::rule("dynamic-code").unwrap();
    assert!(
        wide.decision("dynamic-code", dynamic.severity)
            >= preset("permissive").decision("dynamic-code", dynamic.severity)
    );
    assert_eq!(
        wide.apply(&LimitsChange { memory: Some(65 << 20), ..Default::default() }).unwrap_err().to_string(),
        "the ceiling `/etc/capibara/ceiling.yaml` allows memory up to 64MiB, and 65MiB was asked for"
    );
    wide.apply(&LimitsChange { output: Some(1 << 30), ..Default::default() }).unwrap();
    let grant = |host: &str| vec![FileGrant { host: host.into(), guest: None }];
    wide.grant_files(grant("/srv/data"), false).unwrap();
    let outside = wide.grant_files(grant("/srv/../root"), false).unwrap_err();
    assert!(outside.to_string().contains("allows read only below `/srv`"), "{outside}");
    assert!(wide.grant_files(grant("/srv"), true).is_err());
    let mut granting = policy("extends: permissive\nwiden: true\ngrants: {write: [/opt/x]}\n").unwrap();
    assert!(matches!(low.lower(&mut granting), Err(PolicyError::AboveCeiling { what: "write", .. })));
    let nothing = ceiling("grants: {read: [], write: []}").unwrap();
    assert!(nothing.lower(&mut granting).unwrap_err().to_string().contains("allows write nowhere"));
    // It only makes stricter.
    let mut strict = preset("strict");
    ceiling("audit: wanted\nscan: warn\n").unwrap().lower(&mut strict).unwrap();
    assert_eq!((strict.audit, strict.scan), (Audit::Required, ScanMode::Enforce));
    // An empty ceiling changes nothing.
    let mut policy = preset("permissive");
    ceiling("").unwrap().lower(&mut policy).unwrap();
    assert_eq!(Policy { ceiling: None, ..policy }, preset("permissive"));
    for wrong in [
        "name: x",
        "extends: strict",
        "widen: true",
        "rules: {dynamic-code: {}}",
        "rules: {}",
        "grants: {env: {}}",
        "grants: {read: [a]}",
        "grants: {read: ['/a:/b']}",
        "grants: {net: [x]}",
        "nope: 1",
    ] {
        assert!(matches!(ceiling(wrong), Err(PolicyError::Invalid { .. })), "{wrong}");
    }
}

#[test]
fn links_do_not_lead_past_parent_or_ceiling() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("allowed/in")).unwrap();
    std::fs::create_dir_all(at("secret")).unwrap();
    std::os::unix::fs::symlink(at("secret"), at("allowed/link")).unwrap();
    let shown = at("allowed").display().to_string();
    let complete = format!("extends: moderate\nwiden: true\ngrants: {{read: ['{shown}:/a']}}\n");
    let folders = PolicyFolders { user: None, home: None, ceiling: at("none.yaml") };
    std::fs::write(at("wide.yaml"), complete).unwrap();
    std::fs::write(at("base.yaml"), folders.read(&at("wide.yaml")).unwrap().to_yaml().replace("name: wide", ""))
        .unwrap();
    for (name, fits) in [("in", true), ("link", false)] {
        std::fs::write(
            at("mine.yaml"),
            format!("extends: ./base.yaml\ngrants: {{read: ['{shown}/{name}:/a/{name}']}}\n"),
        )
        .unwrap();
        assert_eq!(folders.read(&at("mine.yaml")).is_ok(), fits, "{name}");
    }
    let low = ceiling(&format!("grants: {{read: ['{shown}']}}")).unwrap();
    let grant = |name: &str| vec![FileGrant { host: at(name), guest: None }];
    let mut policy = preset("moderate");
    low.lower(&mut policy).unwrap();
    policy.grant_files(grant("allowed/in"), false).unwrap();
    assert!(policy.grant_files(grant("allowed/link"), false).is_err());
    assert!(policy.grant_files(grant("allowed/../secret"), false).is_err());
}

#[test]
fn policies_are_found_by_name_and_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let user = dir.path().join("policies");
    std::fs::create_dir(&user).unwrap();
    let write = |name: &str, text: &str| std::fs::write(user.join(name), text).unwrap();
    write("mine.yaml", "extends: strict\n");
    write("broken.yaml", "extends: strict\nlvie: true\n");
    write("strict.yaml", "extends: permissive\n");
    write(".hidden.yaml", "extends: strict\n");
    write("note.txt", "");
    let folders = PolicyFolders { user: Some(user.clone()), home: None, ceiling: dir.path().join("ceiling.yaml") };
    let get = |name: &str| folders.policy(name.as_ref());
    assert_eq!(get("mine").unwrap().limits, preset("strict").limits);
    assert_eq!(get(user.join("mine.yaml").to_str().unwrap()).unwrap(), get("mine").unwrap());
    // The name of a preset means the preset.
    assert_eq!(get("strict").unwrap(), preset("strict"));
    assert!(matches!(get("broken"), Err(PolicyError::Invalid { .. })));
    for (name, meant) in [
        ("mien", Some("mine")),
        ("mine.yaml", Some("mine")),
        ("modrate", Some("moderate")),
        ("zzz", None),
        ("", None),
        (".hidden", None),
        ("..", None),
    ] {
        match get(name) {
            Err(PolicyError::UnknownName { nearest, .. }) => assert_eq!(nearest.as_deref(), meant, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(get("./mine"), Err(PolicyError::Unreadable { .. })));
    assert!(matches!(get(dir.path().to_str().unwrap()), Err(PolicyError::Unreadable { .. })));
    std::fs::write(user.join("large.yaml"), "#".repeat((1 << 20) + 1)).unwrap();
    std::fs::write(user.join("latin.yaml"), b"name: \xe9").unwrap();
    for (name, reason) in [("large", "larger than 1MiB"), ("latin", "UTF-8")] {
        match get(name) {
            Err(PolicyError::Unreadable { reason: told, .. }) => assert!(told.contains(reason), "{told}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let listed = folders.list().unwrap();
    let names: Vec<(&str, bool, bool)> =
        listed.iter().map(|listed| (listed.name.as_str(), listed.path.is_some(), listed.policy.is_ok())).collect();
    assert_eq!(
        names,
        [
            ("strict", false, true),
            ("moderate", false, true),
            ("permissive", false, true),
            ("broken", true, false),
            ("large", true, false),
            ("latin", true, false),
            ("mine", true, true),
            ("strict", true, true)
        ]
    );
    // The ceiling holds for all of them, and one that cannot be read stops everything.
    std::fs::write(&folders.ceiling, "limits: {memory: 64MiB}\n").unwrap();
    assert_eq!(get("mine").unwrap().limits.memory, 64 << 20);
    assert_eq!(get("permissive").unwrap().limits.memory, 64 << 20);
    std::fs::write(&folders.ceiling, "limits: {memory: 64}\n").unwrap();
    assert!(get("moderate").is_err() && folders.list().is_err());
    std::fs::remove_file(&folders.ceiling).unwrap();
    std::fs::create_dir(&folders.ceiling).unwrap();
    assert!(matches!(get("moderate"), Err(PolicyError::Unreadable { .. })));
}

#[test]
fn the_folder_of_policies_never_depends_on_where_one_stands() {
    let folder = |variables: &[(&str, &str)]| {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        PolicyFolders::from_variables(|name| variables.get(name).map(PathBuf::from)).user
    };
    for (variables, expected) in [
        (&[("CAPIBARA_HOME", "/c"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")][..], Some("/c/policies")),
        (&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")], Some("/x/capibara/policies")),
        (&[("HOME", "/h")], Some("/h/.config/capibara/policies")),
        (&[("CAPIBARA_HOME", "."), ("XDG_CONFIG_HOME", "x"), ("HOME", "/h")], Some("/h/.config/capibara/policies")),
        (&[("HOME", ".")], None),
        (&[], None),
    ] {
        assert_eq!(folder(variables).as_deref(), expected.map(Path::new), "{variables:?}");
    }
    assert_eq!(PolicyFolders::from_environment().ceiling, Path::new("/etc/capibara/ceiling.yaml"));
    // Variables that are empty are not set.
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    assert_eq!(PolicyFolders::from_environment(), PolicyFolders::from_variables(set));
}

#[test]
fn equal_policies_have_equal_digests_and_others_do_not() {
    let rows = [
        "extends: moderate\nwiden: true\n",
        "extends: moderate\nwiden: true\nlimits: {memory: 1GiB}\n",
        "extends: moderate\nwiden: true\nlimits: {fuel: none}\n",
        "extends: moderate\nwiden: true\nlimits: {files: 1}\n",
        "extends: moderate\nwiden: true\nscan: warn\n",
        "extends: moderate\nwiden: true\nlive: false\n",
        "extends: moderate\naudit: required\n",
        "extends: moderate\nwiden: true\noverridable: none\n",
        "extends: moderate\nwiden: true\noverridable: [env]\n",
        "extends: moderate\nwiden: true\nfindings: {warning: deny}\n",
        "extends: moderate\nwiden: true\nscan_limits: {source_bytes: 1KiB}\n",
        "extends: moderate\nwiden: true\nrules: {dynamic-code: {severity: off}}\n",
        "extends: moderate\nwiden: true\nrules: {dynamic-code: {allow: [{match: x, reason: r}]}}\n",
        "extends: moderate\nwiden: true\nrules: {dynamic-code: {allow: [{regex: x, reason: r}]}}\n",
        "extends: moderate\nwiden: true\nrules: {dynamic-code: {allow: [{match: x, reason: q}]}}\n",
        "extends: moderate\nwiden: true\ngrants: {read: [a]}\n",
        "extends: moderate\nwiden: true\ngrants: {write: [a]}\n",
        "extends: moderate\nwiden: true\ngrants: {read: ['a:/b']}\n",
        "extends: moderate\nwiden: true\ngrants: {env: {A: a}}\n",
    ];
    let digests: Vec<String> = rows.iter().map(|text| policy(text).unwrap().sha256()).collect();
    for (at, digest) in digests.iter().enumerate() {
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!digests[..at].contains(digest), "{}", rows[at]);
    }
    let renamed = policy(
        "name: other\ndescription: other\nextends: moderate\nrules: {dynamic-code: {}}\nlimits: {memory: 536870912B}\n",
    );
    assert_eq!(renamed.unwrap().sha256(), preset("moderate").sha256());
    assert_eq!(digests[0], preset("moderate").sha256());
    let order =
        |list: &str| policy(&format!("extends: moderate\nwiden: true\ngrants: {{read: [{list}]}}\n")).unwrap().sha256();
    assert_eq!(order("a, b"), order("b, 'a:/a'"));
}

#[test]
fn names_are_permanent() {
    let modes = [ScanMode::Off, ScanMode::Warn, ScanMode::Enforce];
    assert_eq!(modes.map(ScanMode::name), ["off", "warn", "enforce"]);
    assert_eq!(modes.map(|mode| mode.to_string()), ["off", "warn", "enforce"]);
    let audit = [Audit::Wanted, Audit::Required];
    assert_eq!(audit.map(Audit::name), ["wanted", "required"]);
    assert_eq!(audit.map(|audit| audit.to_string()), ["wanted", "required"]);
    assert!(modes.is_sorted() && audit.is_sorted());
    let severities = [RuleSeverity::Off, RuleSeverity::Unprovable, RuleSeverity::Warning, RuleSeverity::Error];
    assert_eq!(severities.map(RuleSeverity::name), ["off", "unprovable", "warning", "error"]);
    let own = [Severity::Unprovable, Severity::Warning, Severity::Error];
    assert_eq!(own.map(RuleSeverity::from).as_slice(), &severities[1..]);
    assert_eq!(severities.map(RuleSeverity::severity), [None, Some(own[0]), Some(own[1]), Some(own[2])]);
    let settings: Vec<(&str, &str)> = Setting::ALL.iter().map(|s| (s.name(), s.flag())).collect();
    assert_eq!(
        settings,
        [
            ("fuel", "--fuel"),
            ("wall_time", "--timeout"),
            ("memory", "--memory"),
            ("output", "--max-output"),
            ("bytes_written", "--max-disk"),
            ("read", "--read"),
            ("write", "--write"),
            ("overlay", "--overlay"),
            ("env", "--env"),
            ("language", "--language"),
            ("tool", "--tool")
        ]
    );
    let kinds = [
        (ProblemKind::Syntax, "syntax"),
        (ProblemKind::UnknownKey, "unknown-key"),
        (ProblemKind::Widens, "widens"),
        (ProblemKind::AboveCeiling, "above-ceiling"),
    ];
    assert!(kinds.iter().all(|(kind, name)| kind.name() == *name));
}

#[test]
fn what_flags_may_set_is_a_set() {
    let some = Overridable::of([Setting::Read, Setting::Memory]);
    assert_eq!(some.to_string(), "[memory, read]");
    assert_eq!((Overridable::all().to_string().as_str(), Overridable::none().to_string().as_str()), ("all", "none"));
    assert_eq!(some.settings().collect::<Vec<_>>(), [Setting::Memory, Setting::Read]);
    let kinds = |o: &Overridable| (o.is_none(), o.is_all());
    assert_eq!(kinds(&some), (false, false));
    assert_eq!((kinds(&Overridable::all()), kinds(&Overridable::none())), ((false, true), (true, false)));
    assert!(some.allows(Setting::Read) && !some.allows(Setting::Write));
    for (wide, narrow, covers) in [
        (Overridable::all(), some.clone(), true),
        (some.clone(), Overridable::all(), false),
        (some.clone(), some.clone(), true),
        (some.clone(), Overridable::none(), true),
        (Overridable::none(), some.clone(), false),
        (some, Overridable::of([Setting::Memory, Setting::Write]), false),
    ] {
        assert_eq!(wide.covers(&narrow), covers, "{wide} {narrow}");
    }
}

#[test]
fn what_a_flag_may_not_grant_is_named() {
    let policy = policy("extends: moderate\noverridable: [fuel]\n").unwrap();
    for (policy, flag, what) in [
        (&policy, "--read", "reading of files"),
        (&policy, "--write", "writing of files"),
        (&policy, "--overlay", "overlays of files"),
        (&policy, "--env", "environment variables"),
        (&policy, "--language", "a language"),
        (&policy, "--memory", "memory"),
        (&policy, "--net", "anything"),
        (&preset("strict"), "--read", "anything"),
    ] {
        match policy.check_grant(flag) {
            Err(PolicyError::RefusesGrant { what: told, flag: named, .. }) => assert_eq!((told, named), (what, flag)),
            other => panic!("{flag}: {other:?}"),
        }
    }
}

#[test]
fn a_limit_may_be_asked_for_as_it_is() {
    let mut strict = preset("strict");
    let before = strict.clone();
    let limits = strict.limits.clone();
    let same = LimitsChange {
        fuel: limits.fuel,
        wall_time: Some(limits.wall_time),
        memory: Some(limits.memory),
        output: Some(limits.output),
        bytes_written: Some(limits.bytes_written),
    };
    strict.apply(&same).unwrap();
    assert_eq!(strict, before);
    let own = |l: &Limits| (l.fuel, l.wall_time, l.memory, l.output, l.bytes_written);
    let lower = LimitsChange {
        fuel: Some(1),
        wall_time: Some(Duration::from_millis(2)),
        memory: Some(3),
        output: Some(4),
        bytes_written: Some(5),
    };
    strict.apply(&lower).unwrap();
    assert_eq!(own(&strict.limits), (Some(1), Duration::from_millis(2), 3, 4, 5));
    // The same holds of a ceiling.
    let low = ceiling("limits: {fuel: 10, wall_time: 10s, memory: 10MiB, output: 10B, bytes_written: 10B, files: 3, descriptors: 4}\nscan_limits: {source_bytes: 5B}\n").unwrap();
    let mut lowered = preset("permissive");
    low.lower(&mut lowered).unwrap();
    assert_eq!(own(&lowered.limits), (Some(10), Duration::from_secs(10), 10 << 20, 10, 10));
    assert_eq!((lowered.limits.files, lowered.limits.descriptors, lowered.scan_limits.source_bytes), (3, 4, 5));
    let most = LimitsChange {
        fuel: Some(10),
        wall_time: Some(Duration::from_secs(10)),
        memory: Some(10 << 20),
        output: Some(10),
        bytes_written: Some(10),
    };
    lowered.clone().apply(&most).unwrap();
    for (above, what) in [
        (LimitsChange { fuel: Some(11), ..most.clone() }, "fuel"),
        (LimitsChange { wall_time: Some(Duration::from_secs(11)), ..most.clone() }, "wall_time"),
        (LimitsChange { memory: Some(11 << 20), ..most.clone() }, "memory"),
        (LimitsChange { output: Some(11), ..most.clone() }, "output"),
        (LimitsChange { bytes_written: Some(11), ..most.clone() }, "bytes_written"),
    ] {
        match lowered.clone().apply(&above) {
            Err(PolicyError::AboveCeiling { what: told, .. }) => assert_eq!(told, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    // A ceiling above what the policy has changes nothing of it, and gives a bound where there was none.
    let high = ceiling("limits: {fuel: 2T, wall_time: 1h, memory: 4GiB, output: 1TiB, bytes_written: 1TiB, files: 99999, descriptors: 9999}\n").unwrap();
    for (name, fuel) in
        [("strict", 100_000_000_000), ("moderate", 1_000_000_000_000), ("permissive", 2_000_000_000_000)]
    {
        let mut policy = preset(name);
        high.lower(&mut policy).unwrap();
        let expected = Limits { fuel: Some(fuel), ..preset(name).limits };
        assert_eq!(policy.limits, expected, "{name}");
    }
}

#[test]
fn a_ceiling_bounds_what_findings_lead_to() {
    let all = ["allow", "warn", "deny"];
    let verdict = |word: &str| all.iter().position(|known| *known == word).unwrap();
    for severity in ["error", "warning", "unprovable"] {
        for (own, least) in all.iter().flat_map(|own| all.iter().map(move |least| (own, least))) {
            let mut policy =
                policy(&format!("extends: permissive\nwiden: true\nfindings: {{{severity}: {own}}}\n")).unwrap();
            let others = policy.findings;
            ceiling(&format!("findings: {{{severity}: {least}}}")).unwrap().lower(&mut policy).unwrap();
            let shown = serde_json::to_value(policy.findings).unwrap();
            assert_eq!(verdict(shown[severity].as_str().unwrap()), verdict(own).max(verdict(least)));
            for (kept, before) in
                [("error", others.error), ("warning", others.warning), ("unprovable", others.unprovable)]
            {
                assert!(kept == severity || shown[kept] == before.name(), "{severity} {kept}");
            }
        }
    }
    // Single rules are no way round it, if it says something of scan or findings, and else they stay.
    let text = "extends: permissive\nwiden: true\nrules: {dynamic-code: {severity: off, allow: [{match: x, reason: r}]}, file-access: {severity: error}}\n";
    for (low, rules) in [
        ("scan: enforce", &["file-access"][..]),
        ("findings: {error: deny}", &["file-access"]),
        ("findings: {unprovable: allow}", &["file-access"]),
        ("live: false", &["dynamic-code", "file-access"]),
    ] {
        let mut policy = policy(text).unwrap();
        ceiling(low).unwrap().lower(&mut policy).unwrap();
        assert_eq!(policy.rules.keys().collect::<Vec<_>>(), rules, "{low}");
    }
}

#[test]
fn a_ceiling_lists_what_may_be_read_and_written() {
    let files = |host: &str| vec![FileGrant { host: host.into(), guest: None }];
    // (ceiling, host, may be read, may be written)
    for (lists, host, read, write) in [
        ("", "/x", true, true),
        ("read: [/r]", "/r/a", true, true),
        ("read: [/r]", "/x", false, false),
        ("write: [/w]", "/w/a", true, true),
        ("write: [/w]", "/x", true, false),
        ("read: [/r], write: [/w]", "/r", true, false),
        ("read: [/r], write: [/w]", "/w", true, true),
        ("read: [/r], write: [/w]", "/x", false, false),
        ("read: [/r], write: []", "/r", true, false),
        ("read: [], write: []", "/r", false, false),
    ] {
        let low = ceiling(&format!("grants: {{{lists}}}\n")).unwrap();
        for (write, fits) in [(false, read), (true, write)] {
            let mut policy = preset("moderate");
            low.lower(&mut policy).unwrap();
            let granted = policy.grant_files(files(host), write);
            assert_eq!(granted.is_ok(), fits, "{lists} {host} {write}: {granted:?}");
            let list = if write { &policy.grants.write } else { &policy.grants.read };
            assert_eq!(list.len(), usize::from(fits));
            // A policy that grants it is held to the same.
            let mut own = preset("moderate");
            *(if write { &mut own.grants.write } else { &mut own.grants.read }) = files(host);
            assert_eq!(low.lower(&mut own).is_ok(), fits, "{lists} {host} {write}");
        }
    }
}

/// Overlays are between reading and writing: what is written in them can be made to come true.
#[test]
fn overlays_are_more_than_reading_and_less_than_writing() {
    let files = |host: &str| vec![FileGrant { host: host.into(), guest: None }];
    for (lists, host, fits) in [
        ("", "/x", true),
        ("overlay: [/o]", "/o/a", true),
        ("overlay: [/o]", "/x", false),
        ("overlay: [/o], write: [/w]", "/w", true),
        ("overlay: [/o], read: [/r]", "/r", false),
        ("read: [/r]", "/r", true),
        ("read: [/r]", "/x", false),
        ("write: [/w]", "/w", true),
        ("write: [/w]", "/x", false),
        ("read: [/r], write: [/w]", "/r", false),
        ("read: [/r], write: []", "/r", false),
    ] {
        let low = ceiling(&format!("grants: {{{lists}}}\n")).unwrap();
        let mut policy = preset("moderate");
        low.lower(&mut policy).unwrap();
        assert_eq!(policy.grant_overlays(files(host)).is_ok(), fits, "{lists} {host}");
        assert_eq!(policy.grants.overlay.len(), usize::from(fits));
        let mut own = preset("moderate");
        own.grants.overlay = files(host);
        assert_eq!(low.lower(&mut own).is_ok(), fits, "{lists} {host}");
    }
    // What can be an overlay can be read, and not written.
    let low = ceiling("grants: {read: [/r], overlay: [/o], write: []}\n").unwrap();
    let mut policy = preset("moderate");
    low.lower(&mut policy).unwrap();
    assert!(policy.grant_files(files("/o"), false).is_ok() && policy.grant_files(files("/o"), true).is_err());
    // A child.
    for (parent, child, fits) in [
        ("read: ['/h:/d']", "overlay: ['/h:/d']", false),
        ("write: ['/h:/d']", "overlay: ['/h:/d']", true),
        ("write: ['/h:/d']", "write: [], overlay: ['/h/a:/d/a']", true),
        ("overlay: ['/h:/d']", "read: ['/h:/d']", false), // Two things at one place.
        ("overlay: ['/h:/d']", "overlay: [], read: ['/h:/d']", true),
        ("overlay: ['/h:/d']", "overlay: ['/h/a:/d/a']", true),
        ("overlay: ['/h:/d']", "overlay: [], write: ['/h:/d']", false),
        ("overlay: ['/h:/d']", "overlay: ['/h:/e']", false),
        ("overlay: ['/h:/d'], read: ['/h/k:/d/k']", "read: []", false),
    ] {
        let base = policy_of(&format!("extends: moderate\nwiden: true\ngrants: {{{parent}}}\n")).to_yaml();
        let child = format!("extends: ./base.yaml\ngrants: {{{child}}}\n");
        let child = if parent.starts_with("write") && !child.contains("write:") {
            child.replace("grants: {", "grants: {write: [], ")
        } else {
            child
        };
        let files = documents(&[("/p/base.yaml", &base), ("/p/mine.yaml", &child)]);
        let result = files.policy("/p/mine.yaml");
        assert_eq!(result.is_ok(), fits, "{parent} {child}: {result:?}");
    }
    let strict = preset("strict").check_apply().unwrap_err();
    assert!(matches!(strict, PolicyError::RefusesGrant { flag: "--apply", .. }));
    assert!(preset("moderate").check_apply().is_ok());
    let laid = policy_of("extends: moderate\nwiden: true\ngrants: {overlay: ['/h:/d'], read: ['/h/k:/d/k']}\n");
    let covered = ["/d/x", "/d/k/x", "/e"].map(|path| (laid.grants_path(path, false), laid.grants_path(path, true)));
    assert_eq!(covered, [(true, true), (true, false), (false, false)]);
    assert_ne!(
        laid.sha256(),
        policy_of("extends: moderate\nwiden: true\ngrants: {read: ['/h:/d', '/h/k:/d/k']}\n").sha256()
    );
}

fn policy_of(text: &str) -> Policy {
    policy(text).unwrap()
}

#[test]
fn an_allow_list_of_a_child_has_no_new_entry() {
    let rules = |entries: &str| format!("rules: {{dynamic-code: {{allow: [{entries}]}}}}\n");
    let plain = "{match: x, reason: r}";
    // (entries of the parent, entries of the child, whether they fit)
    for (parent, child, fits) in [
        (plain, plain, true),
        (plain, "{match: x, reason: another}", true),
        (plain, "{match: x, reason: r, expires: 2027-01-01}", true),
        (plain, "{match: y, reason: r}", false),
        (plain, "{match: x, path: a.py, reason: r}", false),
        (plain, "{regex: x, reason: r}", false),
        (plain, "", true),
        ("{match: x, reason: r, expires: 2027-01-01}", "{match: x, reason: r, expires: 2027-01-01}", true),
        ("{match: x, reason: r, expires: 2027-01-01}", "{match: x, reason: r, expires: 2026-12-31}", true),
        ("{match: x, reason: r, expires: 2027-01-01}", "{match: x, reason: r, expires: 2027-01-02}", false),
        ("{match: x, reason: r, expires: 2027-01-01}", plain, false),
        ("{path: a.py, reason: r}, {regex: x, reason: r}", "{regex: x, reason: r}", true),
        ("{path: a.py, reason: r}, {regex: x, reason: r}", "{regex: y, reason: r}", false),
        ("{path: a.py, reason: r}, {regex: x, reason: r}", "{path: a.py, reason: r}, {path: b.py, reason: q}", false),
    ] {
        let parent = policy(&format!("extends: strict\nwiden: true\n{}", rules(parent))).unwrap();
        let files = documents(&[
            ("/p/base.yaml", &parent.to_yaml()),
            ("/p/mine.yaml", &format!("extends: ./base.yaml\n{}", rules(child))),
        ]);
        let result = files.policy("/p/mine.yaml");
        assert_eq!(result.is_ok(), fits, "{child}: {result:?}");
        if !fits {
            let (kind, place, message, _) = only_problem(result);
            assert_eq!((kind, place.0), (ProblemKind::Widens, 2), "{message}");
            // The place is that of the entry: the last one of each list.
            let column = rules(child).rfind('{').unwrap() + 1;
            assert_eq!(place.1 as usize, column, "{child}: {message}");
        }
    }
    // Equal entries are equal, and others are not.
    let allow = |entry: &str| {
        let policy = policy(&format!("extends: strict\nwiden: true\n{}", rules(entry))).unwrap();
        policy.rules["dynamic-code"].allow[0].clone()
    };
    let entries = [
        plain,
        "{match: y, reason: r}",
        "{match: x, reason: q}",
        "{regex: x, reason: r}",
        "{path: x, reason: r}",
        "{match: x, reason: r, expires: 2027-01-01}",
    ];
    for (a, b) in entries.iter().flat_map(|a| entries.iter().map(move |b| (a, b))) {
        assert_eq!(allow(a) == allow(b), a == b, "{a} {b}");
    }
    let all = allow("{path: p, match: m, regex: g, reason: ' r ', expires: 2027-01-01}");
    assert_eq!((all.path(), all.text(), all.regex()), (Some("p"), Some("m"), Some("g")));
    assert_eq!((all.reason(), all.expires().as_deref()), ("r", Some("2027-01-01")));
    let none = allow("{path: p, reason: r}");
    assert_eq!((none.text(), none.regex(), none.expires()), (None, None, None));
    assert_eq!(allow(plain).path(), None);
}

#[test]
fn sizes_of_documents_are_bounded_and_the_bounds_are_inclusive() {
    let description = |length: usize| policy(&format!("extends: strict\ndescription: {}\n", "x".repeat(length)));
    assert_eq!(description(1_000).unwrap().description.len(), 1_000);
    assert!(only_problem(description(1_001)).2.contains("longer than 1000 bytes"));
    assert_eq!(policy("extends: strict\ndescription: |\n  a\n  b\n").unwrap().description, "a\nb");
    let name = |length: usize| policy(&format!("extends: strict\nname: {}\n", "x".repeat(length)));
    assert_eq!(name(64).unwrap().name.len(), 64);
    assert!(only_problem(name(65)).2.contains("at most 64"));
    for wrong in ["''", ".x", "-x", "'x y'", "x/y", "é"] {
        assert!(only_problem(policy(&format!("extends: strict\nname: {wrong}\n"))).2.contains("at most 64"), "{wrong}");
    }
    assert_eq!(policy("extends: strict\nname: a-B_0.9\n").unwrap().name, "a-B_0.9");
    let entry = |key: &str, length: usize| {
        let pattern = "a".repeat(length);
        policy(&format!(
            "extends: strict\nwiden: true\nrules: {{dynamic-code: {{allow: [{{{key}: {pattern}, reason: r}}]}}}}"
        ))
    };
    for key in ["path", "match", "regex"] {
        assert!(entry(key, 500).is_ok(), "{key}");
        assert!(only_problem(entry(key, 501)).2.contains("longer than 500 bytes"), "{key}");
    }
    let reason = |length: usize| {
        let reason = "r".repeat(length);
        policy(&format!(
            "extends: strict\nwiden: true\nrules: {{dynamic-code: {{allow: [{{match: x, reason: {reason}}}]}}}}"
        ))
    };
    assert!(reason(500).is_ok());
    assert!(only_problem(reason(501)).2.contains("`reason` is longer than 500 bytes"));
    // Entries are counted over all rules.
    let entries = |first: usize, second: usize, key: &str| {
        let list = |count: usize| vec![format!("{{{key}: x, reason: r}}"); count].join(", ");
        policy(&format!(
            "extends: strict\nwiden: true\nrules: {{dynamic-code: {{allow: [{}]}}, file-access: {{allow: [{}]}}}}",
            list(first),
            list(second)
        ))
    };
    assert!(entries(150, 50, "match").is_ok() && entries(30, 10, "regex").is_ok());
    assert!(only_problem(entries(150, 51, "match")).2.contains("more than 200 entries"));
    assert!(only_problem(entries(30, 11, "regex")).2.contains("40 with a `regex`"));
    let grants = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("/h/{n}")).collect();
        policy(&format!("extends: strict\nwiden: true\ngrants: {{read: [{}]}}", list.join(", ")))
    };
    assert_eq!(grants(64).unwrap().grants.read.len(), 64);
    assert!(only_problem(grants(65)).2.contains("more than 64"));
    let document = |length: usize| {
        let text = "extends: strict\n";
        policy(&format!("{text}#{}", "x".repeat(length - text.len() - 1)))
    };
    assert!(document(1 << 20).is_ok());
    assert!(only_problem(document((1 << 20) + 1)).2.contains("larger than 1MiB"));
    // What is shown of a long word is its beginning.
    let word = |length: usize| only_problem(policy(&format!("extends: {}\n", "x".repeat(length)))).2;
    assert_eq!(word(60), format!("there is no preset named `{}`", "x".repeat(60)));
    assert_eq!(word(61), format!("there is no preset named `{}...`", "x".repeat(60)));
}

#[test]
fn grants_are_places_on_both_sides() {
    let read = |grant: &str| policy(&format!("extends: strict\nwiden: true\ngrants: {{read: [{grant}]}}\n"));
    for (grant, host, guest) in [
        ("/a/b", "/a/b", "/b"),
        ("./b", "/p/b", "/b"),
        ("../b/./c", "/b/c", "/c"),
        ("~/b", "/home/user/b", "/b"),
        ("'/a:/b/c'", "/a", "/b/c"),
        ("'/a:b'", "/a:b", "/a:b"),
        ("'/a:b:/c'", "/a:b", "/c"),
        ("{host: /a}", "/a", "/a"),
        ("{host: /a, guest: /b}", "/a", "/b"),
        ("'/a:/'", "/a", "/"),
        ("'/a:/scripts'", "/a", "/scripts"),
        ("'/a:/x/dev'", "/a", "/x/dev"),
    ] {
        let policy = read(grant).unwrap();
        let expected = FileGrant { host: host.into(), guest: Some(guest.into()) };
        assert_eq!(policy.grants.read, [expected], "{grant}");
    }
    for (grant, message) in [
        ("\"/a\\tb\"", "names nothing"),
        ("\"/a:/b\\tc\"", "control character"),
        ("'/a:/x/./y'", "holds `.`"),
        ("'/a:/script'", "`/script` is a folder of ours"),
        ("'/a:/out/x'", "`/out` is a folder of ours"),
        ("'/a:/dev'", "`/dev` is a folder of ours"),
        ("{host: '', guest: /a}", "names nothing"),
    ] {
        let (kind, _, told, _) = only_problem(read(grant));
        assert!(kind == ProblemKind::InvalidValue && told.contains(message), "{grant}: {told}");
    }
    // Two at one place, however it is written.
    for (lists, place) in [("read: ['/a:/d', '/b:/d']", 16), ("write: ['/a:/d/e', '/b:/d//e/']", 17)] {
        let (_, found, told, _) = only_problem(policy(&format!("extends: strict\nwiden: true\ngrants: {{{lists}}}\n")));
        assert!(told.contains("two things are granted at"), "{told}");
        assert_eq!(found, (3, place), "{told}");
    }
    // Grants of a flag have their place by their name.
    let guest = |host: &str, guest: Option<&str>| FileGrant { host: host.into(), guest: guest.map(str::to_owned) };
    assert_eq!(guest("/a/b", None).guest_path().as_deref(), Some("/b"));
    assert_eq!(guest("/a/b", Some("/c")).guest_path().as_deref(), Some("/c"));
    assert_eq!(guest("/", None).guest_path(), None);
    // Variables.
    let env = |entry: &str| policy(&format!("extends: strict\nwiden: true\ngrants: {{env: {{{entry}}}}}\n"));
    assert_eq!(env("A: b").unwrap().grants.env, BTreeMap::from([("A".to_owned(), "b".to_owned())]));
    for wrong in ["'': a", "'A=B': c", "\"A\\0\": c", "A: \"b\\0\""] {
        assert!(only_problem(env(wrong)).2.contains("cannot be a variable"), "{wrong}");
    }
    // A child that names variables has these alone, and no others than its parent.
    let base = policy("extends: strict\nwiden: true\ngrants: {env: {A: a, B: b}}\n").unwrap().to_yaml();
    for (entries, fits) in [("A: a", true), ("", true), ("A: a, B: b", true), ("A: b", false), ("C: c", false)] {
        let files = documents(&[
            ("/p/base.yaml", &base),
            ("/p/mine.yaml", &format!("extends: ./base.yaml\ngrants: {{env: {{{entries}}}}}\n")),
        ]);
        let result = files.policy("/p/mine.yaml");
        assert_eq!(result.is_ok(), fits, "{entries}: {result:?}");
        if let Ok(policy) = result {
            assert_eq!(policy.grants.env.len(), entries.matches(':').count());
        }
    }
}

#[test]
fn an_empty_document_names_every_key_that_is_missing() {
    let keys = [
        "overridable",
        "live",
        "audit",
        "scan",
        "findings.error",
        "findings.warning",
        "findings.unprovable",
        "limits.fuel",
        "limits.wall_time",
        "limits.memory",
        "limits.output",
        "limits.bytes_written",
        "limits.files",
        "limits.descriptors",
    ];
    let message = only_problem(policy("name: x\n")).2;
    assert!(keys.iter().all(|key| message.contains(&format!("`{key}`"))), "{message}");
    let whole = preset("strict").to_yaml().replace("name: strict", "");
    assert!(policy(&whole).is_ok());
    for key in keys {
        let name = key.rsplit('.').next().unwrap();
        let without: String = whole
            .lines()
            .filter(|line| !line.trim_start().starts_with(&format!("{name}:")))
            .map(|l| format!("{l}\n"))
            .collect();
        let (kind, place, message, _) = only_problem(policy(&without));
        assert_eq!((kind, place), (ProblemKind::MissingKey, (1, 1)), "{key}");
        assert_eq!(message, format!("`{key}` is missing, and the policy extends no other"));
    }
}

#[test]
fn hostile_documents_are_refused_quickly() {
    let bomb = format!(
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n{}",
        (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))).collect::<String>()
    );
    let bomb_in_place = format!("grants: {{read: &r [a, b, c, d], write: [{}]}}\n", vec!["*r"; 5_000].join(", "));
    let mount_bomb = format!(
        "extends: strict\nrules:\n  dynamic-code:\n    allow: [{}]\n",
        vec!["{regex: '\\w{50}\\w{50}', reason: r}"; 5_000].join(", ")
    );
    let patterns = format!(
        "extends: strict\nwiden: true\nrules: {{dynamic-code: {{allow: [{}]}}}}\n",
        vec!["{regex: '(\\w{30}){9}', reason: r}"; 200].join(", ")
    );
    let regexes = patterns.replacen("{regex", "{match", 160);
    let globs = patterns.replace("regex: '(\\w{30}){9}'", &format!("path: '{}'", "{[!a],b}*?".repeat(50)));
    assert!(patterns.contains("regex") && globs.contains("[!a]"));
    for text in [
        bomb,
        regexes,
        globs + "\nrules: {}",
        bomb_in_place,
        mount_bomb,
        patterns,
        "[".repeat(1 << 20),
        "{a: ".repeat(1 << 18),
        "- ".repeat(1 << 19),
        "? ".repeat(1 << 19),
        "a: &a\n".repeat(1 << 16),
        format!("rules:\n{}", (0..40_000).map(|n| format!("  r{n}: {{}}\n")).collect::<String>()),
        format!("name: \"{}\"", "\\n".repeat(1 << 18)),
        "x".repeat((1 << 20) + 1),
    ] {
        let started = Instant::now();
        let result = policy(&text);
        let took = started.elapsed();
        assert!(result.is_err() && !result.unwrap_err().to_string().is_empty());
        // Without optimization everything takes ten times as long, and no machine is always idle.
        let most = if cfg!(debug_assertions) { 20 } else { 1 };
        assert!(took < Duration::from_secs(most), "{took:?}: {}", &text[..40]);
    }
}

mod schema {
    //! The published schema and the model say the same.

    use serde::de::{Deserialize, Deserializer, Visitor};
    use serde_json::Value;

    use super::super::document;
    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn schema() -> Value {
        serde_json::from_str(&std::fs::read_to_string(repository().join("schema/policy.v1.json")).unwrap()).unwrap()
    }

    /// A format of one kind of value: it gives back the keys a struct asks for.
    struct Keys;

    #[derive(Debug)]
    struct Asked(&'static [&'static str]);

    impl std::fmt::Display for Asked {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("asked")
        }
    }

    impl std::error::Error for Asked {}

    impl serde::de::Error for Asked {
        fn custom<T: std::fmt::Display>(message: T) -> Self {
            panic!("{message}")
        }
    }

    impl<'de> Deserializer<'de> for Keys {
        type Error = Asked;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
            panic!("not a struct")
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            keys: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Asked> {
            Err(Asked(keys))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn keys<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
        let mut keys = T::deserialize(Keys).err().unwrap().0.to_vec();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn every_key_of_the_model_is_in_the_schema_and_the_other_way_round() {
        let schema = schema();
        let of = |pointer: &str| {
            let section = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
            assert_eq!(section["additionalProperties"], false, "{pointer}");
            let mut keys: Vec<&str> = section["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            keys.sort_unstable();
            keys.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        for (pointer, keys) in [
            ("", keys::<document::Document>()),
            ("/properties/findings", keys::<document::FindingsSection>()),
            ("/properties/rules/additionalProperties", keys::<document::RuleSection>()),
            ("/$defs/allow", keys::<document::AllowSection>()),
            ("/properties/scan_limits", keys::<document::ScanLimitsSection>()),
            ("/properties/limits", keys::<document::LimitsSection>()),
            ("/properties/grants", keys::<document::GrantsSection>()),
            ("/$defs/mount/anyOf/1", keys::<document::MountSection>()),
        ] {
            assert_eq!(of(pointer), keys, "{pointer}");
        }
        let named = |pointer: &str| -> Vec<String> {
            let values = schema.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer}"));
            values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        let settings: Vec<&str> = Setting::ALL.iter().map(|setting| setting.name()).collect();
        assert_eq!(named("/properties/overridable/anyOf/1/items/enum"), settings);
        assert_eq!(named("/properties/rules/propertyNames/not/enum"), FIXED_RULES);
        assert_eq!(named("/properties/extends/anyOf/0/enum"), PRESETS.map(|(name, _)| name));
    }

    #[test]
    fn presets_and_fixtures_are_valid_or_not_by_both() {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        let errors = |text: &str| -> Vec<String> {
            // YAML 1.2, in which `off` is a word.
            let options = serde_saphyr::options! { strict_booleans: true };
            let value: Value = serde_saphyr::from_str_with_options(text, options).unwrap();
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
        };
        for (name, text) in PRESETS {
            assert_eq!(errors(text), Vec::<String>::new(), "{name}");
            assert_eq!(errors(&preset(name).to_yaml()), Vec::<String>::new(), "{name}");
        }
        let folder = repository().join("fixtures/policies");
        let mut seen = [0, 0];
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let (text, name) = (std::fs::read_to_string(&path).unwrap(), path.file_name().unwrap().to_str().unwrap());
            if let Some(what) = name.strip_prefix("invalid_") {
                // What a schema cannot know: other files, other keys, dates, rules, presets, and YAML itself.
                let beyond = ["syntax", "widens", "widen_elsewhere", "preset_name", "unknown_rule"];
                if !beyond.contains(&what.trim_end_matches(".yaml")) {
                    assert!(!errors(&text).is_empty(), "{name}");
                    seen[0] += 1;
                }
            } else {
                assert_eq!(errors(&text), Vec::<String>::new(), "{name}");
                seen[1] += 1;
            }
        }
        assert!(seen[0] >= 6 && seen[1] >= 4, "{seen:?}");
    }
}
