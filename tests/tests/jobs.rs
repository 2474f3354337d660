//! Whole jobs as people have them, from the files of `fixtures/jobs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use capibara_tests::{Sandbox, engine, fixture};

fn sandbox() -> Sandbox {
    let _ = engine();
    Sandbox::new(env!("CARGO_BIN_EXE_capibara-under-test"))
}

/// All files below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(at) = left.pop() {
        for path in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A folder of texts is refactored in memory, looked at, and then for real.
#[test]
fn refactoring_a_folder() {
    let sandbox = sandbox();
    let project = sandbox.dir.path().join("project");
    let before = files(&fixture("jobs/refactor/before"));
    for (path, bytes) in &before {
        let path = project.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let script = fixture("jobs/refactor/rename_function.py").display().to_string();
    let ran = sandbox.run(&["run", "--overlay", "project", &script, "total", "sum_of"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "total is sum_of now, in 3 files\n"), "{}", ran.stderr);
    let told: Vec<&str> = ran.stderr.lines().filter_map(|line| line.strip_prefix("capibara:   ")).collect();
    let expected = [
        "M /project/README.md (68B)",
        "D /project/TODO",
        "M /project/app/report.py (133B)",
        "A /project/app/sum_of.py (94B)",
        "D /project/app/total.py",
    ];
    assert_eq!(told, expected, "{}", ran.stderr);
    assert_eq!(files(&project), before);
    let ran = sandbox.run(&["run", "--overlay", "project", "--apply", &script, "total", "sum_of"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("capibara: applied 5 changes\n"), "{}", ran.stderr);
    assert_eq!(files(&project), files(&fixture("jobs/refactor/after")));
}

/// CSV goes in, a report and a chart come out.
#[test]
fn a_report_with_a_chart() {
    let sandbox = sandbox();
    let script = fixture("jobs/report/report.py").display().to_string();
    let input = fs::read(fixture("jobs/report/sales.csv")).unwrap();
    let ran = sandbox.run_with_input(&["run", "--policy", "strict", "--out", "results", &script], &input, false);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3 months, 2 regions\n"), "{}", ran.stderr);
    let results = files(&sandbox.dir.path().join("results"));
    assert_eq!(results.keys().collect::<Vec<_>>(), ["charts/months.svg", "report.txt"]);
    assert_eq!(results["report.txt"], fs::read(fixture("jobs/report/report.txt")).unwrap());
    let chart = String::from_utf8(results["charts/months.svg"].clone()).unwrap();
    assert!(chart.starts_with("<svg ") && chart.matches("<rect ").count() == 3 && chart.contains("2026-03"), "{chart}");
}

/// JSON is reshaped, with a call of a tool for each record; a failure of one is told and costs no other.
#[test]
fn json_with_a_tool_call_for_each_record() {
    let sandbox = sandbox();
    let [script, program] =
        ["reshape.py", "rates.py"].map(|name| fixture("jobs/reshape").join(name).display().to_string());
    let input = fs::read(fixture("jobs/reshape/orders.json")).unwrap();
    let tool = format!("rate={program}");
    let words = ["run", "--tool", &tool, "--out", "results", "--stats", &script];
    let ran = sandbox.run_with_input(&words, &input, false);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3 of 4 orders\n"), "{}", ran.stderr);
    let results = files(&sandbox.dir.path().join("results"));
    assert_eq!(results["orders.json"], fs::read(fixture("jobs/reshape/expected.json")).unwrap());
    assert!(ran.stderr.contains("no rate of XAU on 2026-03-02"), "{}", ran.stderr);
}

/// A database is built out of tables, and asked in a second run that may only read it.
#[test]
fn a_database_is_built_and_queried() {
    let sandbox = sandbox();
    let jobs = fixture("jobs/database").display().to_string();
    let (tables, build, query) =
        (format!("{jobs}/tables:/data"), format!("{jobs}/build.py"), format!("{jobs}/query.py"));
    let ran = sandbox.run(&["run", "--read", &tables, "--out", "results", &build]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "ok 4\n0\n"), "{}", ran.stderr);
    let base = fs::read(sandbox.dir.path().join("results/shop.sqlite")).unwrap();
    assert!(base.starts_with(b"SQLite format 3\0"), "{} bytes", base.len());
    let ran = sandbox.run(&["run", "--read", "results/shop.sqlite", &query, "Bern"]);
    let expected = "1 Paul, Jr.  1    120.00\n2 Zoë       2     24.99\n3 Grace     0      0.00\nattempt to write a readonly database\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{}", ran.stderr);
    assert_eq!(fs::read(sandbox.dir.path().join("results/shop.sqlite")).unwrap(), base);
}
