//! `capibara scan`: says what scripts would do, and whether the policy would let them run. Nothing is executed.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use capibara::KeptReports;
use capibara_policies::{
    CustomRules, Policy, PolicyIdentity, Report, ScanReport, ScannedFile, Scanner, Script, Source, SourceLanguage,
    Summary, UnreadFile, Verdict, diagnostics, rules, sarif,
};
use clap::{Args, ValueEnum};
use ignore::WalkBuilder;

use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::{self, json, text::Console};
use crate::settings::Settings;

/// Say what scripts would do, without running them
///
/// Each script is read, parsed and looked through for what it would be able to do: start programs, run code it makes, reach
/// the network or files it was not granted, and more. Names are followed through imports, aliases and constants. The policy
/// turns findings into a verdict: allow, warn or deny, the same as before every `capibara run`.
///
/// Folders are searched for Python, JavaScript and TypeScript files; what .gitignore and .ignore files name, hidden files
/// and links are left out. `-` is standard input.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 nothing is denied, 1 something is, 125 it could not be done")]
pub(crate) struct ScanArguments {
    /// Scripts and folders, or - for standard input
    #[arg(value_name = "PATH", required_unless_present = "explain")]
    paths: Vec<OsString>,

    /// strict, moderate (default), permissive or yours
    ///
    /// A preset, the name of a policy of yours, or the path of a policy file (with a `/` in it). Default: what is set
    /// (`capibara config show`), else moderate. Example: `--policy strict`
    #[arg(long, value_name = "POLICY", value_parser = super::policy::parser())]
    policy: Option<Policy>,

    /// Rules of your own, too (repeatable)
    ///
    /// A YAML file of rules; `capibara policy test FILE` tries them. Example: `--rules team-rules.yaml`
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,

    /// Language of all PATHs that are files
    ///
    /// python, javascript or typescript. Default: by the name of the file, else by its first line (`#!`).
    #[arg(long, value_name = "NAME", value_parser = language)]
    language: Option<SourceLanguage>,

    /// text (default), json, or sarif
    ///
    /// text: each finding with its place and the code. json: one object (schema 1). sarif: a SARIF 2.1.0 log for editors
    /// and code hosts.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) format: ScanFormat,

    /// Also show findings that the policy allows
    #[arg(long)]
    allowed: bool,

    /// Print the page of a rule and scan nothing
    ///
    /// Example: `capibara scan --explain dynamic-code`
    #[arg(long, value_name = "RULE", exclusive = true)]
    explain: Option<String>,
}

/// The shape of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScanFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// A SARIF 2.1.0 log.
    Sarif,
}

fn language(name: &str) -> Result<SourceLanguage, String> {
    SourceLanguage::named(name)
        .ok_or_else(|| format!("`{name}` cannot be scanned: it is python, javascript or typescript"))
}

/// One file of the scan.
struct Scanned {
    path: String,
    report: Report,
    text: Option<String>,
}

/// Scans, and gives back how the process ends.
pub(crate) fn execute(arguments: &ScanArguments, settings: &Settings) -> Result<ExitCode, Failure> {
    if let Some(id) = &arguments.explain {
        return explain(id);
    }
    let policy = arguments.policy.clone().map_or_else(|| settings.policy(), Ok)?;
    let sha256 = policy.sha256();
    let scans = Scans {
        scanner: Scanner::new().with_custom(custom_rules(&arguments.rules)?),
        reports: KeptReports::from_env(),
        policy: &policy,
        policy_sha256: &sha256,
    };
    let (mut scanned, unread) = scan_all(arguments, &scans)?;
    scanned.sort_by(|a, b| a.path.cmp(&b.path));
    let files: Vec<ScannedFile<'_>> = scanned
        .iter()
        .map(|file| ScannedFile { path: &file.path, report: &file.report, text: file.text.as_deref() })
        .collect();
    let summary = Summary::of(scanned.iter().map(|file| &file.report), unread.len());
    let code = match (summary.verdict(), unread.is_empty()) {
        (Verdict::Deny, _) => ExitCode::No,
        (Verdict::Allow | Verdict::Warn, true) => ExitCode::Yes,
        (Verdict::Allow | Verdict::Warn, false) => ExitCode::Failed,
    };
    let policy = PolicyIdentity { name: &policy.name, sha256: &sha256 };
    let console = Console::new();
    for file in &unread {
        console.say(&format!("error: `{}` {}", file.path, file.message));
    }
    Ok(match arguments.format {
        ScanFormat::Json => json::print(&ScanReport::new(policy, &files, &unread), code),
        ScanFormat::Sarif => {
            let context = sarif::Context {
                version: env!("CARGO_PKG_VERSION"),
                policy,
                custom: Some(scans.scanner.custom()),
                unread: &unread,
            };
            json::print(&sarif::log(&files, &context), code)
        }
        ScanFormat::Text => {
            let options = diagnostics::Options { allowed: arguments.allowed, ..terminal_options(io::stdout()) };
            let mut shown = String::new();
            for file in &scanned {
                shown.push_str(&diagnostics::render(&file.report, file.text.as_deref(), &options));
            }
            shown.push_str(&diagnostics::summary_line(&summary));
            shown.push('\n');
            output::answer(shown.as_bytes(), code)
        }
    })
}

/// Colors and width by what the output is.
pub(crate) fn terminal_options(stream: impl io::IsTerminal + std::os::fd::AsFd) -> diagnostics::Options {
    if !stream.is_terminal() {
        return diagnostics::Options::default();
    }
    let width = rustix::termios::tcgetwinsize(&stream).map_or(0, |size| size.ws_col);
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let usual = diagnostics::Options::default();
    diagnostics::Options {
        color: !no_color,
        width: if width == 0 { usual.width } else { usize::from(width).clamp(40, 160) },
        ..usual
    }
}

fn explain(id: &str) -> Result<ExitCode, Failure> {
    let rule = rules::rule(id).ok_or_else(|| {
        let known: Vec<&str> = rules::RULES.iter().map(|rule| rule.id).collect();
        Failure::new("unknown-rule", format!("there is no rule `{id}`"))
            .with_hint(format!("the rules are {}", known.join(", ")))
    })?;
    Ok(output::answer(rule.page.as_bytes(), ExitCode::Yes))
}

/// Reads rule files.
pub(crate) fn custom_rules(paths: &[PathBuf]) -> Result<CustomRules, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new("rules-unreadable", format!("the rules `{shown}` cannot be read")).with_cause(&error)
        })?;
        let rules = CustomRules::parse(&shown, &text).map_err(|error| Failure::new("rules", error.to_string()))?;
        files.push(rules);
    }
    CustomRules::join(files).map_err(|error| Failure::new("rules", error.to_string()))
}

/// What is to be scanned: a file by name, and whether somebody named it.
struct Target {
    path: PathBuf,
    named: bool,
}

fn scan_all(arguments: &ScanArguments, scans: &Scans<'_>) -> Result<(Vec<Scanned>, Vec<UnreadFile>), Failure> {
    let mut unread = Vec::new();
    let mut targets = Vec::new();
    let mut scanned = Vec::new();
    for path in &arguments.paths {
        let path = Path::new(path);
        if path == Path::new("-") {
            let bytes = read(io::stdin().lock(), scans.policy).map_err(|error| {
                Failure::new("script-unreadable", "standard input cannot be read").with_cause(&error)
            })?;
            // What comes through a pipe has no name to tell its language by; Python is what runs.
            let language =
                arguments.language.or_else(|| SourceLanguage::of("", &bytes)).or(Some(SourceLanguage::Python));
            scanned.push(scans.scan("<stdin>", &bytes, language, &[]));
        } else if path.is_dir() {
            walk(path, &mut targets, &mut unread);
        } else {
            targets.push(Target { path: path.to_path_buf(), named: true });
        }
    }
    if targets.is_empty() && scanned.is_empty() && unread.is_empty() {
        return Err(Failure::new("nothing-to-scan", "there is no script in what was named")
            .with_hint("scripts are known by .py, .js, .mjs, .cjs, .jsx, .ts, .tsx or their first line (`#!`)"));
    }
    let shared = Mutex::new((scanned, unread));
    let (next, siblings) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let shown = target.path.display().to_string();
            let result = File::open(&target.path).and_then(|file| read(file, scans.policy));
            let done = match result {
                Ok(bytes) => {
                    let language = arguments.language.filter(|_| target.named);
                    if !target.named && SourceLanguage::of(&shown, &bytes).is_none() {
                        continue;
                    }
                    let own = own_modules(&target.path, &siblings);
                    Ok(scans.scan(&shown, &bytes, language, &own))
                }
                Err(error) => Err(UnreadFile { path: shown, message: format!("cannot be read: {error}") }),
            };
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(file) => shared.0.push(file),
                Err(file) => shared.1.push(file),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let (scanned, mut unread) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    unread.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((scanned, unread))
}

/// Finds the files below a folder that may be scripts.
fn walk(folder: &Path, targets: &mut Vec<Target>, unread: &mut Vec<UnreadFile>) {
    // Ignore files count wherever they lie, in a repository or not.
    for entry in WalkBuilder::new(folder).require_git(false).build() {
        match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) && may_be_script(entry.path()) => {
                targets.push(Target { path: entry.into_path(), named: false });
            }
            Ok(_) => {}
            Err(error) => {
                let path = escape::line(&folder.display().to_string()).into_owned();
                unread.push(UnreadFile { path, message: format!("cannot be searched: {error}") });
            }
        }
    }
}

/// By its name: another extension than those of scripts means that it is none; without one the first line decides.
fn may_be_script(path: &Path) -> bool {
    path.extension().is_none() || SourceLanguage::of(&path.to_string_lossy(), b"").is_some()
}

/// Reads enough of a source to tell that it is too large: what is counted is its text, which line ends of two bytes make
/// smaller by half at most.
fn read(from: impl Read, policy: &Policy) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(policy.scan_limits.source_bytes.saturating_mul(2).saturating_add(8)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What all scans of one call have in common.
struct Scans<'a> {
    scanner: Scanner,
    reports: KeptReports,
    policy: &'a Policy,
    policy_sha256: &'a str,
}

impl Scans<'_> {
    fn scan(&self, path: &str, bytes: &[u8], language: Option<SourceLanguage>, own_modules: &[String]) -> Scanned {
        let script = Script { path, bytes, language, own_modules };
        let (report, source) = self.reports.scan(&self.scanner, &script, self.policy, self.policy_sha256);
        let shown = report.findings.iter().any(|finding| finding.span.line > 0);
        let decode = || report.language.and_then(|language| Source::decode(bytes, language).ok());
        let text = if shown { source.or_else(decode).map(Source::into_text) } else { None };
        Scanned { path: path.to_owned(), report, text }
    }
}

/// Import names of what lies beside a script, by folder.
fn own_modules(path: &Path, siblings: &Mutex<HashMap<PathBuf, Vec<String>>>) -> Vec<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Some(known) = siblings.lock().unwrap_or_else(PoisonError::into_inner).get(folder) {
        return known.clone();
    }
    let names: BTreeSet<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(10_000)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            match name.strip_suffix(".py") {
                Some(module) => Some(module.to_owned()),
                None => entry.path().join("__init__.py").is_file().then_some(name),
            }
        })
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    siblings.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_path_buf(), names.clone());
    names
}
