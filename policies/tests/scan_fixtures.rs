//! One test per file below `fixtures/scan/<rule>/`: the header of each says what the scanner finds in it.
//!
//! Header lines begin with `#: ` (Python) or `//: ` (JavaScript): `fires LINE:COLUMN` once per finding of the rule the
//! folder is named after, or `quiet` if there is none; and `strict deny`, `moderate warn`, `permissive allow`: verdicts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use capibara_policies::{Policy, Report, Scanner, Script, Verdict, rules};
use libtest_mimic::{Arguments, Failed, Trial};

/// Folders that need no fixture of their own kind here: what they find depends on more than a text.
const TESTED_ELSEWHERE: [&str; 1] = ["unknown-language"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/scan")
}

#[derive(Debug, Default)]
struct Header {
    fires: BTreeSet<(u32, u32)>,
    quiet: bool,
    verdicts: Vec<(String, Verdict)>,
}

fn header(text: &str) -> Result<Header, Failed> {
    let mut header = Header::default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#: ").or_else(|| line.strip_prefix("//: ")));
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["quiet"] => header.quiet = true,
            ["fires", place] => {
                let (line, column) = place.split_once(':').ok_or_else(|| format!("no place: {place}"))?;
                header.fires.insert((line.parse()?, column.parse()?));
            }
            [preset, verdict] => {
                let verdict = [Verdict::Allow, Verdict::Warn, Verdict::Deny]
                    .into_iter()
                    .find(|known| known.name() == *verdict)
                    .ok_or_else(|| format!("no verdict: {verdict}"))?;
                header.verdicts.push(((*preset).to_owned(), verdict));
            }
            _ => return Err(format!("a header line that says nothing: {line}").into()),
        }
    }
    if header.fires.is_empty() != header.quiet {
        return Err("the header must say either `quiet` or where the rule fires".into());
    }
    Ok(header)
}

fn scan(path: &Path, bytes: &[u8], preset: &str) -> Result<Report, Failed> {
    let name = path.to_string_lossy();
    let script = Script { path: &name, bytes, language: None, own_modules: &[] };
    Ok(Scanner::new().scan(&script, &Policy::preset(preset)?))
}

fn check(rule: &str, path: &Path) -> Result<(), Failed> {
    let bytes = std::fs::read(path)?;
    let header = header(&String::from_utf8_lossy(&bytes))?;
    let report = scan(path, &bytes, "moderate")?;
    let own = report.findings.iter().filter(|finding| finding.rule == rule);
    let found: BTreeSet<(u32, u32)> = own.map(|finding| (finding.span.line, finding.span.column)).collect();
    if found != header.fires {
        let all: Vec<String> = report
            .findings
            .iter()
            .map(|f| format!("{}:{} {}: {}", f.span.line, f.span.column, f.rule, f.message))
            .collect();
        return Err(format!("fires at {found:?}, not at {:?}; all: {all:#?}", header.fires).into());
    }
    for (preset, expected) in &header.verdicts {
        let verdict = scan(path, &bytes, preset)?.verdict;
        if verdict != *expected {
            return Err(format!("{preset} says {verdict}, not {expected}").into());
        }
    }
    Ok(())
}

/// Every rule has a page and files that make it fire and leave it quiet.
fn complete() -> Result<(), Failed> {
    for rule in rules::RULES {
        if !rule.page.starts_with(&format!("# {}:", rule.id)) || rule.page.len() < 400 {
            return Err(format!("{} has no page", rule.id).into());
        }
        if TESTED_ELSEWHERE.contains(&rule.id) {
            continue;
        }
        let names: Vec<String> = std::fs::read_dir(folder().join(rule.id))
            .map_err(|error| format!("{}: {error}", rule.id))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        for kind in ["fires_", "quiet_"] {
            if !names.iter().any(|name| name.starts_with(kind)) {
                return Err(format!("{} has no fixture {kind}*", rule.id).into());
            }
        }
    }
    Ok(())
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("every_rule_is_exercised", complete)];
    // A folder that cannot be read fails the test above.
    for entry in std::fs::read_dir(folder()).into_iter().flatten().flatten() {
        let rule = entry.file_name().to_string_lossy().into_owned();
        let Ok(files) = std::fs::read_dir(entry.path()) else { continue };
        for file in files.flatten() {
            let (rule, path) = (rule.clone(), file.path());
            let name = format!("{rule}/{}", file.file_name().to_string_lossy());
            trials.push(Trial::test(name, move || {
                if rules::rule(&rule).is_none() {
                    return Err(format!("no rule is named {rule}").into());
                }
                check(&rule, &path)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}
