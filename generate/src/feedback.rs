//! What a model is told of what really happened to its script: little, exact, and marked as data.
//!
//! A message takes at most 4 KiB and depends on nothing but what happened. It holds no path of the host. All that a script printed
//! stands in a section of data. The signature of a failure stays the same while lines and addresses move, so that a model that
//! makes the same mistake twice is found out.

use std::sync::LazyLock;

use capibara::{Finding, LimitHit, LimitKind, Outcome, Scan, Status, Verdict};
use capibara_policies::{escape, format_count, format_duration, format_size};
use regex::Regex;
use serde::Serialize;

use crate::checks::{Case, Missed};
use crate::section::{Keep, Sections, clip, digest};

/// The largest message, in bytes.
pub const LARGEST_FEEDBACK: usize = 4 << 10;
/// The most findings, and the most frames of a traceback, that are told.
const MOST_FINDINGS: usize = 5;
const MOST_FRAMES: usize = 5;
/// The most lines of what was printed last.
const MOST_LINES: usize = 12;
/// How much of what a script printed is looked at, from its end.
const LOOKED_AT: usize = 64 << 10;

/// What went wrong.
#[derive(Clone, Copy, Debug)]
pub enum Failure<'a> {
    /// An answer has no script that could be taken out of it.
    NoScript {
        /// Why, a fragment that reads after "the answer cannot be used: ".
        reason: &'a str,
    },
    /// The scan denies it.
    Denied(&'a Scan),
    /// A run ended badly.
    Run {
        /// How.
        outcome: &'a Outcome,
        /// The check it was made for, if it was one, with its number.
        case: Option<(usize, &'a Case)>,
    },
    /// A run ended by itself, and not with what was asked for.
    Missed {
        /// The check, with its number.
        case: (usize, &'a Case),
        /// What was not met.
        missed: &'a Missed,
    },
}

/// The step at which a script failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Taking a script out of an answer.
    Extract,
    /// The scan.
    Scan,
    /// A run.
    Run,
    /// A check.
    Check,
}

impl Stage {
    /// `extract`, `scan`, `run`, `check`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Extract => "extract",
            Self::Scan => "scan",
            Self::Run => "run",
            Self::Check => "check",
        }
    }
}

/// What is told of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// The step that failed.
    pub stage: Stage,
    /// The message for the model, at most [`LARGEST_FEEDBACK`] bytes.
    pub text: String,
    /// One line for people, safe for a terminal.
    pub summary: String,
    /// Digest of what the failure is: equal for the same failure at another line.
    pub signature: String,
}

/// A finding of the scan.
#[derive(Serialize)]
struct FindingTold {
    rule: String,
    line: u32,
    source: String,
    message: String,
    instead: String,
}

/// A frame of a traceback.
#[derive(Serialize)]
struct FrameTold {
    line: u32,
    #[serde(rename = "in", skip_serializing_if = "String::is_empty")]
    within: String,
    source: String,
}

/// What stands in the section of data.
#[derive(Default, Serialize)]
struct Told {
    stage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<FindingTold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more_findings: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frames: Vec<FrameTold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitTold>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quotas_met: Vec<LimitTold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trap: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aspect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_different_line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<String>,
}

/// A limit or quota that was met.
#[derive(Serialize)]
struct LimitTold {
    name: &'static str,
    allowed: String,
    used: String,
    instead: &'static str,
}

impl LimitTold {
    fn of(hit: &LimitHit) -> Self {
        let unit = |value: u64| match hit.kind {
            LimitKind::Fuel => format_count(value),
            LimitKind::WallTime => format_duration(std::time::Duration::from_millis(value)),
            LimitKind::Memory | LimitKind::Stack | LimitKind::Output | LimitKind::BytesWritten => format_size(value),
            LimitKind::Files | LimitKind::Descriptors => value.to_string(),
        };
        Self { name: hit.kind.name(), allowed: unit(hit.allowed), used: unit(hit.used), instead: within(hit.kind) }
    }
}

/// How to stay within a limit.
fn within(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Fuel => "use an algorithm of fewer steps, and check that every loop ends",
        LimitKind::WallTime => "use an algorithm of fewer steps, check that every loop ends, and do not sleep or wait",
        LimitKind::Memory => "work piece by piece: read line by line, use generators, keep only what is needed later",
        LimitKind::Stack => "replace the recursion by a loop with a list as its stack",
        LimitKind::Output => "print only what was asked for; what is large goes into a file below /out",
        LimitKind::BytesWritten => "write less: keep intermediate data in memory, and write each result once",
        LimitKind::Files => "make fewer files, and remove those that are not needed any more",
        LimitKind::Descriptors => "close each file before the next one is opened: use `with`",
    }
}

/// What to do instead of what a rule of the scan finds, under the grants there are.
fn instead_of(rule: &str) -> Option<&'static str> {
    Some(match rule {
        "syntax-error" => "write it so that the interpreter can parse it, and the whole script",
        "unknown-language" | "unreadable-source" => "write plain text in UTF-8",
        "oversized-source" => "write a shorter script; data belongs into files, not into the source",
        "spawn-process" => "there are no other programs; do it with the modules of the standard library",
        "dynamic-code" => {
            "write the code out; read data with `ast.literal_eval` or `json`, compute expressions with a parser of your own"
        }
        "import-machinery" => "import modules by name with `import` at the top of the script",
        "native-code" => "use the standard library; there is no native code",
        "unsafe-deserialization" => "use `json`, `csv` or `sqlite3` for data",
        "network-access" => {
            "there is no network; work with standard input and the granted files, and put `# needs: net HOST` at the top if the task is impossible without"
        }
        "file-access" => {
            "use the granted paths, /tmp, /home/script or /out, and put `# needs: read PATH` or `# needs: write PATH` at the top if another one is needed"
        }
        "environment-access" => {
            "use only the granted variables, by their literal names, and put `# needs: env NAME` at the top if another one is needed"
        }
        "introspection-escape" => "use the public names of objects; no attributes with two underscores",
        "prototype-pollution" => "use a `Map`, or an object without prototype",
        "resource-bomb" => "bound sizes and counts before you allocate or repeat",
        "catastrophic-regex" => {
            "write the expression without nested or overlapping repetition, or use methods of `str`"
        }
        "obfuscated-code" => "write the script in the clear: no encoded code, no names put together from pieces",
        "malicious-idiom" => "leave this out",
        "secret-in-source" => "do not write keys or passwords into the script; read a granted variable",
        "invisible-unicode" => "write the character as an escape, or leave it out",
        "unprovable" => "write names, paths and patterns as constants",
        _ => return None,
    })
}

/// An uncaught exception, as the interpreter told it.
struct Uncaught {
    /// Line, function and file name of the script's own frames, outermost first.
    frames: Vec<(u32, String, String)>,
    /// What stands in front of the colon.
    kind: String,
    /// The last lines: type and message.
    text: String,
}

#[expect(clippy::unwrap_used, reason = "the expression is a constant that a test compiles")]
static FRAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"^ {2,}File "([^"]*)", line ([0-9]{1,9})(?:, in (.*))?$"#).unwrap());

impl Uncaught {
    /// The last exception of what was printed on standard error; `None` if its end is none.
    fn read(stderr: &str) -> Option<Self> {
        let lines: Vec<&str> = stderr.trim_end().lines().collect();
        let header = lines.iter().rposition(|line| *line == "Traceback (most recent call last):");
        // Errors of syntax have no header: they begin with the frame.
        let begin = header.or_else(|| lines.iter().rposition(|line| FRAME.is_match(line)))?;
        let shown = lines.get(begin..)?.iter().skip(usize::from(header.is_some()));
        let mut frames = Vec::new();
        for line in shown.clone().take_while(|line| line.starts_with(' ')) {
            let Some(parts) = FRAME.captures(line) else { continue };
            let part = |at: usize| parts.get(at).map_or("", |it| it.as_str());
            let file = part(1);
            // Frames of the library say where it was when it was called, which the frame below says as well.
            if file.starts_with("/script/") || matches!(file, "<string>" | "<stdin>") {
                let name = file.rsplit('/').next().unwrap_or_default();
                frames.push((part(2).parse().unwrap_or(0), part(3).to_owned(), name.to_owned()));
            }
        }
        let last: Vec<&str> = shown.skip_while(|line| line.starts_with(' ')).copied().collect();
        let kind = last.first()?.split(':').next().unwrap_or_default().to_owned();
        let named = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        kind.split('.').all(named).then(|| Self { frames, kind, text: last.join("\n") })
    }

    /// The innermost frames, with their lines of the script.
    fn told(&self, scan: &Scan, room: usize) -> Vec<FrameTold> {
        let hidden = self.frames.len().saturating_sub(MOST_FRAMES);
        let frame = |(line, within, file): &(u32, String, String)| FrameTold {
            line: *line,
            within: clip(within, room / 4, Keep::Head),
            source: clip(line_of(scan, file, *line).trim(), room / 4, Keep::Head),
        };
        self.frames.iter().skip(hidden).map(frame).collect()
    }
}

/// The texts a message is made of.
struct Happened<'a> {
    stage: Stage,
    /// One sentence about it, in our own words.
    words: &'static str,
    summary: String,
    /// What the signature is made of.
    signs: Vec<String>,
    /// Fills in what is told, with texts of about that many bytes.
    told: Box<dyn Fn(usize) -> Told + 'a>,
}

impl Feedback {
    /// What is to be told of a failure.
    #[must_use]
    pub fn of(failure: &Failure<'_>) -> Self {
        let happened = match *failure {
            Failure::NoScript { reason } => no_script(reason),
            Failure::Denied(scan) => denied(scan),
            Failure::Run { outcome, case } => run(outcome, case),
            Failure::Missed { case, missed } => not_met(case, missed),
        };
        let message = |room: usize| {
            let mut message = Sections::default();
            message.words(happened.words);
            message.data("failure", &Told { stage: happened.stage.name(), ..(happened.told)(room) });
            message.words("Answer again with the whole corrected script in exactly one fenced block.");
            message.marked().text
        };
        let rooms = [1_200, 800, 500, 300, 150, 80, 40, 20];
        let fitting = rooms.into_iter().map(message).find(|text| text.len() <= LARGEST_FEEDBACK);
        let stage = happened.stage;
        let signs = std::iter::once(stage.name()).chain(happened.signs.iter().map(String::as_str));
        Self {
            stage,
            signature: digest(signs),
            summary: escape(&clip(&happened.summary, 300, Keep::Head)).into_owned(),
            text: fitting.unwrap_or_else(|| happened.words.to_owned()),
        }
    }
}

fn no_script(reason: &str) -> Happened<'_> {
    Happened {
        stage: Stage::Extract,
        words: "There is no one script in your answer. Nothing was run.",
        summary: format!("no script in the answer: {reason}"),
        signs: vec![reason.to_owned()],
        told: Box::new(|room| Told { reason: Some(clip(reason, room, Keep::Head)), ..Told::default() }),
    }
}

fn denied(scan: &Scan) -> Happened<'_> {
    let denying = move || scan.findings.iter().filter(|finding| finding.effect == Verdict::Deny);
    let source = move |finding: &Finding| line_of(scan, &finding.path, finding.span.line).trim().to_owned();
    let signs = denying().flat_map(|it| [it.rule.to_string(), same(&source(it))]).collect();
    let first = denying().next();
    let summary =
        first.map_or_else(String::new, |it| format!(": {} [{}] in line {}", it.message, it.rule, it.span.line));
    let told = move |room: usize| {
        let each = room / 2;
        let told = |it: &Finding| FindingTold {
            rule: clip(&it.rule, each, Keep::Head),
            line: it.span.line,
            source: clip(&source(it), each, Keep::Head),
            message: clip(&it.message, each, Keep::Head),
            instead: instead_of(&it.rule).map_or_else(|| clip(&it.advice, each, Keep::Head), str::to_owned),
        };
        let more = denying().count().saturating_sub(MOST_FINDINGS);
        Told {
            findings: denying().take(MOST_FINDINGS).map(told).collect(),
            more_findings: (more > 0).then_some(more),
            ..Told::default()
        }
    };
    Happened {
        stage: Stage::Scan,
        words: "The policy denies your script, so it was not run. These lines are why, and what to do instead:",
        summary: format!("denied by the scan{summary}"),
        signs,
        told: Box::new(told),
    }
}

fn run<'a>(outcome: &'a Outcome, case: Option<(usize, &'a Case)>) -> Happened<'a> {
    let check = case.map(|(number, _)| number);
    let stdin = move |room| case.and_then(|(_, case)| case.stdin()).map(|text| clip(text, room, Keep::Head));
    let quotas = move || outcome.quotas_met.iter().map(LimitTold::of).collect();
    let happened = |words, summary, signs, told| Happened { stage: Stage::Run, words, summary, signs, told };
    match &outcome.status {
        Status::Denied => denied(&outcome.scan),
        Status::Limit(hit) => {
            let told = LimitTold::of(hit);
            let summary = format!("stopped by the limit {}: {} allowed, {} used", told.name, told.allowed, told.used);
            let signs = vec!["limit".into(), hit.kind.name().into()];
            // A script that dies of its memory says where.
            let uncaught = Uncaught::read(&tail(&outcome.stderr.bytes));
            let told = move |room: usize| {
                let frames = uncaught.as_ref().map(|it| it.told(&outcome.scan, room)).unwrap_or_default();
                let stderr_end = if frames.is_empty() { last_lines(outcome, room) } else { None };
                Told {
                    limit: Some(LimitTold::of(hit)),
                    frames,
                    check,
                    stdin: stdin(room),
                    stderr_end,
                    ..Told::default()
                }
            };
            happened("Your script was stopped because it reached a limit.", summary, signs, Box::new(told))
        }
        Status::Trapped(trap) => {
            let told = move |room| Told {
                trap: Some(trap.kind),
                check,
                stdin: stdin(room),
                quotas_met: quotas(),
                ..Told::default()
            };
            let signs = vec!["trap".into(), trap.kind.into()];
            happened(
                "The interpreter broke down while it ran your script.",
                format!("the interpreter broke down: {}", trap.kind),
                signs,
                Box::new(told),
            )
        }
        Status::Completed { exit_code } => {
            let exit_code = *exit_code;
            let stderr = tail(&outcome.stderr.bytes);
            let Some(uncaught) = Uncaught::read(&stderr).filter(|_| exit_code != 0) else {
                let signs = vec![
                    "exit".into(),
                    exit_code.to_string(),
                    same(stderr.trim_end().lines().last().unwrap_or_default()),
                ];
                let told = move |room| Told {
                    exit_code: Some(exit_code),
                    stderr_end: last_lines(outcome, room),
                    check,
                    stdin: stdin(room),
                    quotas_met: quotas(),
                    ..Told::default()
                };
                let words = "Your script ended with an exit code that says that it failed.";
                return happened(words, format!("ended with exit code {exit_code}"), signs, Box::new(told));
            };
            let innermost = uncaught.frames.last();
            let source = innermost.map(|(line, _, file)| line_of(&outcome.scan, file, *line).to_owned());
            // Without a line of the script, the message has to tell failures apart.
            let sign = source.unwrap_or_else(|| uncaught.text.clone());
            let signs = vec!["exception".into(), uncaught.kind.clone(), same(&sign)];
            let place = innermost.map_or(String::new(), |(line, ..)| format!(" in line {line}"));
            let summary = format!("uncaught {}{place}", uncaught.text.lines().next().unwrap_or_default());
            let told = move |room: usize| Told {
                exception: Some(clip(&uncaught.text, room, Keep::Head)),
                frames: uncaught.told(&outcome.scan, room),
                check,
                stdin: stdin(room),
                quotas_met: quotas(),
                ..Told::default()
            };
            happened("Your script ended with an exception that it did not handle.", summary, signs, Box::new(told))
        }
        // Canceled; what else there may be one day also ends a run too early.
        _ => {
            let told = |_| Told { reason: Some("the run was canceled".into()), ..Told::default() };
            happened("Your script did not run to its end.", "canceled".into(), vec!["canceled".into()], Box::new(told))
        }
    }
}

fn not_met<'a>((number, case): (usize, &'a Case), missed: &'a Missed) -> Happened<'a> {
    let aspect = missed.aspect.name();
    let told = move |room| Told {
        check: Some(number),
        aspect: Some(aspect),
        stdin: case.stdin().map(|text| clip(text, room, Keep::Head)),
        first_different_line: missed.line,
        expected: Some(clip(&missed.expected, room, Keep::Head)),
        got: Some(clip(&missed.got, room, Keep::Head)),
        ..Told::default()
    };
    Happened {
        stage: Stage::Check,
        words: "Your script ran to its end, and what came of it is not what a check asks for.",
        summary: format!("check {number}: {missed}"),
        signs: vec![number.to_string(), aspect.into(), same(&missed.got)],
        told: Box::new(told),
    }
}

/// A line of the script; empty if there is no such line. `path` is as findings show it, or a file's own name.
fn line_of<'a>(scan: &'a Scan, path: &str, line: u32) -> &'a str {
    let named = |known: &str| known == path || known.rsplit('/').next() == Some(path);
    let found = scan.texts.iter().find(|(known, _)| named(known)).or(scan.texts.first());
    let at = usize::try_from(line).ok().and_then(|line| line.checked_sub(1));
    found.zip(at).and_then(|((_, text), at)| text.lines().nth(at)).unwrap_or_default()
}

/// A text without what moves from run to run and from edit to edit: blanks, addresses.
fn same(text: &str) -> String {
    #[expect(clippy::unwrap_used, reason = "the expression is a constant that a test compiles")]
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| Regex::new("0x[0-9a-fA-F]+").unwrap());
    let words: Vec<&str> = text.split_whitespace().collect();
    ADDRESS.replace_all(&words.join(" "), "0x").into_owned()
}

/// The end of what was printed, as text.
fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(LOOKED_AT);
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
}

/// The last lines on standard error; `None` if there are none.
fn last_lines(outcome: &Outcome, room: usize) -> Option<String> {
    let text = tail(&outcome.stderr.bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let from = lines.len().saturating_sub(MOST_LINES);
    let last = lines.get(from..).unwrap_or_default().join("\n");
    (!last.is_empty()).then(|| clip(&last, room, Keep::Tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use capibara_policies::rules::RULES;

    #[test]
    fn every_rule_has_something_to_do_instead() {
        for rule in RULES {
            let instead = instead_of(rule.id).unwrap();
            assert!(
                instead.len() < 200 && !instead.contains("--"),
                "{}: no flags: a model has no command line",
                rule.id
            );
        }
        assert_eq!(instead_of("x-own"), None);
    }

    #[test]
    fn tracebacks_are_read_to_their_own_frames() {
        let traceback = "noise\nTraceback (most recent call last):\n  File \"/script/s.py\", line 1, in <module>\n    old()\nKeyError: 1\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"/script/s.py\", line 9, in <module>\n    main()\n    ~~~~^^\n  File \"<frozen json>\", line 300, in loads\n  File \"/script/s.py\", line 4, in main\n    x\n  [Previous line repeated 9 more times]\njson.decoder.JSONDecodeError: Expecting value: line 1\nsecond line\n";
        let uncaught = Uncaught::read(traceback).unwrap();
        let frames: Vec<_> = uncaught.frames.iter().map(|(line, within, file)| (*line, &**within, &**file)).collect();
        assert_eq!(frames, [(9, "<module>", "s.py"), (4, "main", "s.py")]);
        assert_eq!(
            (&*uncaught.kind, &*uncaught.text),
            ("json.decoder.JSONDecodeError", "json.decoder.JSONDecodeError: Expecting value: line 1\nsecond line")
        );
        let syntax = "  File \"<string>\", line 3\n    x = (\n        ^\nSyntaxError: '(' was never closed\n";
        let uncaught = Uncaught::read(syntax).unwrap();
        assert_eq!((uncaught.frames.len(), &*uncaught.kind), (1, "SyntaxError"));
        for none in
            ["", "error: x", "Traceback (most recent call last):", "Traceback (most recent call last):\n  x\n!!: y\n"]
        {
            assert!(Uncaught::read(none).is_none(), "{none}");
        }
    }

    #[test]
    fn what_moves_makes_no_difference() {
        assert_eq!(same("  <f at 0x7f01>  x\n"), same("<f at 0xAB>\tx"));
        assert_ne!(same("a"), same("b"));
    }
}
