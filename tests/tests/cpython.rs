//! CPython's own tests inside the sandbox, one test per module of its suite. They come from the pinned source archive in the
//! cache folder and go in by standard input; nothing is granted.
//!
//! `fixtures/cpython/modules.txt` names the modules, `failures.txt` every test that fails, with its reason. That list is
//! exact: another failure fails here, and so does a listed test that passes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capibara::{Epoch, Job, Limits};
use capibara_tests::{cache, engine, fixture, skip};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use zip::write::{SimpleFileOptions, ZipWriter};

/// What is promised: modules, tests that ran and were not skipped, failures and errors.
const MODULES: usize = 40;
const TESTS: u64 = 6_700;
const FAILURES: u64 = 40;

/// Data of tests that are heavy, or of tests that cannot run here: only for modules that ask for it.
const ON_REQUEST: [&str; 13] = [
    "_test_multiprocessing.py",
    "archivetestdata",
    "audiodata",
    "certdata",
    "clinic.test.c",
    "crashers",
    "decimaltestdata",
    "leakers",
    "levenshtein_examples.json",
    "libregrtest",
    "tkinterdata",
    "translationdata",
    "wheeldata",
];

/// What `driver.py` reports.
#[derive(Deserialize)]
struct Report {
    run: u64,
    skipped: u64,
    /// Test, kind, message.
    bad: Vec<(String, String, String)>,
}

#[derive(Default)]
struct Sums {
    modules: AtomicU64,
    run: AtomicU64,
    skipped: AtomicU64,
    bad: AtomicU64,
}

/// `Lib/test` of the source archive, by path below it.
fn library(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = std::io::BufReader::new(std::fs::File::open(archive).expect("the source archive"));
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(lzma_rust2::XzReader::new(file, true)).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let below = path.split_once("/Lib/test/").map(|(_, below)| below.to_owned());
        if let Some(below) = below.filter(|_| entry.header().entry_type().is_file()) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("a file");
            files.insert(below, content);
        }
    }
    files
}

/// The part of `Lib/test` that a module needs: itself, what it asks for, and everything that is no test.
fn archive(library: &BTreeMap<String, Vec<u8>>, wanted: &BTreeSet<&str>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (path, content) in library {
        let first = path.split('/').next().unwrap_or(path);
        let shared = !first.starts_with("test_") && !ON_REQUEST.contains(&first);
        if shared || wanted.contains(first) || first.strip_suffix(".py").is_some_and(|name| wanted.contains(name)) {
            zip.start_file(format!("test/{path}"), stored).expect("an archive");
            zip.write_all(content).expect("an archive");
        }
    }
    zip.finish().expect("an archive").into_inner()
}

/// The lines of a fixture that are not comments.
fn lines(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(fixture("cpython").join(name)).expect("a fixture");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from).collect()
}

fn check(module: &str, archive: Vec<u8>, expected: &BTreeSet<String>, sums: &Sums) -> Result<(), Failed> {
    let driver = std::fs::read(fixture("cpython/driver.py"))?;
    let limits = Limits {
        fuel: None,
        wall_time: Duration::from_secs(300),
        memory: 2 << 30,
        output: 64 << 20,
        bytes_written: 2 << 30,
        files: 10_000,
        descriptors: 256,
    };
    // Clock and seed are pinned: a test that draws at random draws the same everywhere.
    let job = Job::file("driver.py", driver)
        .with_args([module])
        .with_stdin(archive)
        .with_limits(limits)
        .with_epoch(Epoch::from_nanos(1_769_860_800_000_000_000))
        .with_seed(1);
    let outcome = engine().run_blocking(job)?;
    let stdout = outcome.stdout.text();
    let last = stdout.trim_end().lines().last().unwrap_or("");
    let Ok(report) = serde_json::from_str::<Report>(last) else {
        let stderr = outcome.stderr.text();
        let from = stderr.char_indices().rev().nth(1500).map_or(0, |(at, _)| at);
        return Err(format!("no report: {:?} {last}\n{}", outcome.status, &stderr[from..]).into());
    };
    eprintln!("{module}: run {}, skipped {}, failures and errors {}", report.run, report.skipped, report.bad.len());
    sums.modules.fetch_add(1, Ordering::Relaxed);
    sums.run.fetch_add(report.run, Ordering::Relaxed);
    sums.skipped.fetch_add(report.skipped, Ordering::Relaxed);
    sums.bad.fetch_add(report.bad.len() as u64, Ordering::Relaxed);
    let own = format!("test.{module}.");
    let mut found = BTreeMap::new();
    for (test, kind, message) in report.bad {
        let test = test.strip_prefix(&own).or(test.strip_prefix("test.")).unwrap_or(&test).to_owned();
        found.insert(test, format!("{kind}: {message}"));
    }
    let unexpected: Vec<_> = found.iter().filter(|(test, _)| !expected.contains(*test)).collect();
    let passed: Vec<_> = expected.iter().filter(|test| !found.contains_key(*test)).collect();
    if report.run > report.skipped && unexpected.is_empty() && passed.is_empty() {
        return Ok(());
    }
    let unexpected: String = unexpected.iter().map(|(test, why)| format!("  {module}::{test}  {why}\n")).collect();
    Err(format!("run {}; fail unexpectedly:\n{unexpected}are listed and pass: {passed:?}", report.run).into())
}

fn main() {
    let arguments = Arguments::from_args();
    let modules = lines("modules.txt");
    let mut failures: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines("failures.txt") {
        let (test, reason) = line.split_once("  ").unwrap_or((&line, ""));
        assert!(!reason.trim().is_empty(), "{test} has no reason");
        let (module, test) = test.split_once("::").expect("module::test");
        assert!(failures.entry(module.into()).or_default().insert(test.into()), "{line} is there twice");
    }
    let named: BTreeSet<&str> = modules.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(named.len(), modules.len(), "a module is there twice");
    assert!(failures.keys().all(|module| named.contains(module.as_str())), "a failure of no module");

    let source = format!("Python-{}.tar.xz", capibara_runtimes::Language::Python.version());
    let source = cache().join("sources").join(source);
    let library = if arguments.list {
        BTreeMap::new()
    } else {
        let _ = engine(); // builds the runtime, which brings the archive, if it is not there
        if !source.is_file() {
            skip("cpython", "unavailable: CPython's source archive in the cache folder");
            return;
        }
        library(&source)
    };
    let (sums, library): (&'static Sums, &'static _) = (Box::leak(Box::default()), Box::leak(Box::new(library)));
    let trials: Vec<Trial> = modules
        .into_iter()
        .map(|line| {
            let module = line.split(' ').next().unwrap_or_default().to_owned();
            let expected = failures.remove(&module).unwrap_or_default();
            Trial::test(module.clone(), move || {
                let archive = archive(library, &line.split(' ').collect());
                check(&module, archive, &expected, sums)
            })
        })
        .collect();
    let total = trials.len();
    // Two at a time is what two cores can do.
    let arguments = Arguments { test_threads: arguments.test_threads.or(Some(2)), ..arguments };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list && sums.modules.load(Ordering::Relaxed) == total as u64 {
        let [run, skipped, bad] = [&sums.run, &sums.skipped, &sums.bad].map(|sum| sum.load(Ordering::Relaxed));
        println!("CPython's tests: {total} modules, run {run}, of these skipped {skipped}, failures and errors {bad}");
        assert!(total >= MODULES && run - skipped >= TESTS && bad <= FAILURES, "less than is promised");
    }
    conclusion.exit();
}
