//! What must come of a script, as its user says it: input with the output it must give, exit codes, expressions, artifacts.
//!
//! One line of text is one check:
//!
//! | text | what it asks |
//! |---|---|
//! | `2 3\n => 5` | that this standard input gives this standard output |
//! | `exit: 3` | that the run ends with this exit code |
//! | `match: ^total` | that the expression is found in the standard output; `^` and `$` stand for line borders |
//! | `artifact: report.csv` | that this file is left in `/out` |
//! | `artifact: report.csv sha256:…` | that it is, with this SHA-256 |
//!
//! Left and right of `=>`, `\n`, `\t`, `\r`, `\\`, `\xHH` and `\u{H…}` are escapes, and blanks beside the arrow do not count (write
//! `\x20`). Checks without input judge one run together, which gets the user's own input. Where no exit code is asked for, it must
//! be 0.
//!
//! A file of checks is a YAML list of cases, whose keys are `stdin`, `stdout`, `exit`, `match` (one expression or a list) and
//! `artifacts` (a mapping of paths to `exists` or `sha256:…`). Each case is a run of its own.
//!
//! Outputs are compared line by line, as judges of contests do: blanks at the ends of lines and empty lines at the end do not
//! count, a carriage return at the end of a line neither; everything else does.

use std::collections::BTreeMap;
use std::fmt;

use capibara::Outcome;
use serde::{Deserialize, Serialize};

use crate::section::{Keep, clip, digest, json};

/// The most cases of all checks together.
pub const MOST_CASES: usize = 1_000;
/// The largest file of checks, in bytes.
pub const LARGEST_CHECK_FILE: usize = 1 << 20;
/// The longest check that stands in one text, in bytes.
const LONGEST_CHECK: usize = 64 << 10;
/// The longest regular expression, and the most memory a compiled one may take, in bytes.
const LONGEST_PATTERN: usize = 4 << 10;
const LARGEST_PATTERN: usize = 1 << 20;
/// What of an output is shown where it differs, in bytes.
const SHOWN: usize = 1 << 10;

/// A text that is no check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct CheckError {
    /// Where: a check by its head and the character, or a file with the line.
    place: String,
    /// What is wrong there.
    message: String,
    hint: &'static str,
}

impl CheckError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.hint
    }
}

/// What is wrong, the byte it begins at, and what to try.
struct Wrong {
    at: usize,
    message: String,
    hint: &'static str,
}

const FORMS: &str =
    "write `STDIN => STDOUT`, `exit: 0`, `match: REGEX`, `artifact: NAME` or `artifact: NAME sha256:DIGEST`";
const ESCAPES: &str = "escapes are \\n, \\t, \\r, \\\\, \\xHH and \\u{H}; write a backslash as \\\\";
const DIGEST: &str = "a digest is `sha256:` and 64 hexadecimal digits, as `sha256sum` prints them";
const EXPRESSION: &str = "expressions are those of the Rust crate `regex`: no look-around, no back-references";
const KEYS: &str = "a file of checks is a YAML list of cases with the keys stdin, stdout, exit, match, artifacts";

/// A regular expression of linear time.
#[derive(Clone, Debug)]
struct Pattern(regex::Regex);

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_PATTERN {
            return Err(format!("the expression is longer than {LONGEST_PATTERN} bytes"));
        }
        let built = regex::RegexBuilder::new(text)
            .multi_line(true)
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN)
            .nest_limit(64)
            .build();
        // The parser draws the place over several lines; the last one says what is wrong.
        let said = |error: regex::Error| error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        built.map(Self).map_err(said)
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.as_str())
    }
}

/// SHA-256 of an artifact, in lower-case hexadecimal.
fn digest_of(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| hex.to_ascii_lowercase())
}

/// A path below `/out`, with or without it in front.
fn artifact_path(text: &str) -> Option<String> {
    let path = text.strip_prefix("/out/").unwrap_or(text);
    let named = path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    (named && !path.contains(char::is_control)).then(|| path.to_owned())
}

/// One run, and what is asked of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Case {
    /// What the script reads on standard input; `None` where it is the user's own input.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<i32>,
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    patterns: Vec<Pattern>,
    /// By path; the digest, if one is asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    artifacts: BTreeMap<String, Option<String>>,
}

/// All checks of one task, in the order they were given.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The run with the user's own input, which all checks without input ask about.
    own: Option<Case>,
    cases: Vec<Case>,
}

/// What came of judging one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// How many of its expectations were met.
    pub met: usize,
    /// How many it has.
    pub of: usize,
    /// The first one that was not met.
    pub missed: Option<Missed>,
}

/// What an expectation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// The exit code.
    Exit,
    /// The standard output.
    Stdout,
    /// An expression that has to be found in the standard output.
    Match,
    /// A file in `/out`.
    Artifact,
}

impl Aspect {
    /// `exit`, `stdout`, `match`, `artifact`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Stdout => "stdout",
            Self::Match => "match",
            Self::Artifact => "artifact",
        }
    }
}

/// An expectation that was not met. Texts are cut to about a KiB; what the script printed stands as it is, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// What it is about.
    pub aspect: Aspect,
    /// The first line of standard output that differs, from 1.
    pub line: Option<usize>,
    /// What was expected: of a standard output, from that line on.
    pub expected: String,
    /// What came instead.
    pub got: String,
}

impl fmt::Display for Missed {
    /// One line for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.aspect.name())?;
        if let Some(line) = self.line {
            write!(f, " differs in line {line}")?;
        }
        let first = |text: &str| capibara_policies::escape(&clip(text, 120, Keep::Head)).into_owned();
        write!(f, ": expected `{}`, got `{}`", first(&self.expected), first(&self.got))
    }
}

impl Checks {
    /// No checks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check in one of the forms that are listed above.
    ///
    /// # Errors
    /// [`CheckError`] says where the text is wrong and what to try.
    pub fn add(&mut self, text: &str) -> Result<(), CheckError> {
        self.parse(text).map_err(|wrong| {
            let before = text.get(..wrong.at).unwrap_or(text);
            let shown = capibara_policies::escape(&clip(text, 60, Keep::Head)).into_owned();
            let character = before.chars().count().saturating_add(1);
            CheckError {
                place: format!("check `{shown}`, character {character}"),
                message: wrong.message,
                hint: wrong.hint,
            }
        })
    }

    fn parse(&mut self, text: &str) -> Result<(), Wrong> {
        let wrong = |at, message: &str, hint| Err(Wrong { at, message: message.to_owned(), hint });
        if text.len() > LONGEST_CHECK {
            return wrong(LONGEST_CHECK, "it is too long", "put it into a file of checks");
        }
        let named =
            ["exit:", "match:", "artifact:"].into_iter().find_map(|word| Some((word, text.strip_prefix(word)?)));
        let Some((word, rest)) = named else {
            let mut arrows = text.match_indices("=>");
            let Some((at, _)) = arrows.next() else {
                return wrong(text.len(), "there is no `=>`", FORMS);
            };
            if let Some((second, _)) = arrows.next() {
                return wrong(second, "there is a second `=>`", "write one of them as \\x3d>, or use a file of checks");
            }
            let (input, output) = (text.get(..at).unwrap_or_default(), text.get(at + 2..).unwrap_or_default());
            let stdin = Some(unescape(input.trim_matches(' '), input.len() - input.trim_start_matches(' ').len())?);
            let blanks = output.len() - output.trim_start_matches(' ').len();
            let stdout = Some(unescape(output.trim_matches(' '), at + 2 + blanks)?);
            return self.push(Case { stdin, stdout, ..Case::default() });
        };
        let value = rest.trim();
        let at = text.len() - rest.trim_start().len();
        if value.is_empty() {
            return wrong(at, "something is missing here", FORMS);
        }
        let mut own = self.own.clone().unwrap_or_default();
        match word {
            "exit:" => match value.parse() {
                Ok(code) if own.exit.is_none_or(|known| known == code) => own.exit = Some(code),
                Ok(_) => return wrong(at, "another exit code was asked for before", "ask for one exit code"),
                Err(_) => return wrong(at, "this is no exit code", "write a whole number, for example `exit: 3`"),
            },
            "match:" => match Pattern::new(value) {
                Ok(pattern) => own.patterns.push(pattern),
                Err(message) => return wrong(at, &message, EXPRESSION),
            },
            _ => {
                let (path, sha256) = match value.rsplit_once(' ') {
                    Some((path, last)) if last.starts_with("sha256:") => match digest_of(last) {
                        Some(digest) => (path.trim_end(), Some(digest)),
                        None => return wrong(at + value.len() - last.len(), "this is no digest", DIGEST),
                    },
                    _ => (value, None),
                };
                let Some(path) = artifact_path(path) else {
                    return wrong(
                        at,
                        "this is no path below /out",
                        "write the name of a file, for example `report.csv`",
                    );
                };
                let known = own.artifacts.entry(path).or_default();
                *known = sha256.or(known.take());
            }
        }
        if own.expectations() > MOST_CASES {
            return wrong(0, "there are too many checks", "a task has at most 1,000");
        }
        self.own = Some(own);
        Ok(())
    }

    fn push(&mut self, case: Case) -> Result<(), Wrong> {
        if self.cases.len() >= MOST_CASES {
            return Err(Wrong { at: 0, message: "there are too many checks".into(), hint: "a task has at most 1,000" });
        }
        self.cases.push(case);
        Ok(())
    }

    /// Adds the cases of a file; `name` stands in errors.
    ///
    /// # Errors
    /// [`CheckError`] says in which line the file is wrong and what to try. Nothing is added then.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckError> {
        let name = capibara_policies::escape(name).into_owned();
        let error = |place: String, message: String, hint| CheckError { place, message, hint };
        if bytes.len() > LARGEST_CHECK_FILE {
            return Err(error(name, "the file is larger than 1 MiB".into(), "leave out cases that show nothing new"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| error(name.clone(), "the file is not UTF-8".into(), KEYS))?;
        let options = serde_saphyr::options! {
            with_snippet: false,
            strict_booleans: true,
            merge_keys: serde_saphyr::MergeKeyPolicy::Error,
            budget: serde_saphyr::budget! {
                max_events: 100_000,
                max_aliases: 0,
                max_anchors: 0,
                max_depth: 8,
                max_documents: 1,
                max_nodes: 50_000,
                max_total_scalar_bytes: LARGEST_CHECK_FILE,
            },
        };
        let written: Vec<serde_saphyr::Spanned<WrittenCase>> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|wrong| {
                let line = wrong.location().map_or(0, |location| location.line());
                let message = capibara_policies::escape(&wrong.without_snippet().to_string()).into_owned();
                error(format!("{name}, line {line}"), message, KEYS)
            })?;
        let mut cases = Vec::with_capacity(written.len());
        for (number, case) in written.into_iter().enumerate() {
            let line = case.referenced.line();
            let place = || format!("{name}, case {} in line {line}", number.saturating_add(1));
            cases.push(case.value.case().map_err(|(message, hint)| error(place(), message, hint))?);
        }
        if cases.is_empty() {
            return Err(error(name, "the file has no cases".into(), KEYS));
        }
        if self.cases.len().saturating_add(cases.len()) > MOST_CASES {
            return Err(error(name, "there are too many checks".into(), "a task has at most 1,000"));
        }
        self.cases.append(&mut cases);
        Ok(())
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_none() && self.cases.is_empty()
    }

    /// The runs to make, each with its number from 1: first that with the user's own input, if anything is asked of it.
    pub fn cases(&self) -> impl Iterator<Item = (usize, &Case)> {
        self.own.iter().chain(&self.cases).enumerate().map(|(at, case)| (at.saturating_add(1), case))
    }

    /// SHA-256 of all checks, in hexadecimal; their order counts.
    #[must_use]
    pub fn digest(&self) -> String {
        digest([json(&self.own).as_str(), json(&self.cases).as_str()])
    }
}

impl Case {
    /// What the script reads on standard input; `None` where it is the user's own input.
    #[must_use]
    pub fn stdin(&self) -> Option<&str> {
        self.stdin.as_deref()
    }

    /// How many things it asks.
    fn expectations(&self) -> usize {
        usize::from(self.stdout.is_some()) + 1 + self.patterns.len() + self.artifacts.len()
    }

    /// Judges what came of its run. A run that did not end by itself meets nothing.
    #[must_use]
    pub fn judge(&self, outcome: &Outcome) -> Judged {
        let artifacts: BTreeMap<&str, String> =
            outcome.artifacts.iter().map(|it| (it.path.as_str(), it.sha256.to_string())).collect();
        self.judge_run(outcome.exit_code(), &outcome.stdout.bytes, &artifacts)
    }

    fn judge_run(&self, exit_code: Option<i32>, stdout: &[u8], artifacts: &BTreeMap<&str, String>) -> Judged {
        let of = self.expectations();
        let exit = self.exit.unwrap_or(0);
        let Some(exit_code) = exit_code else {
            let missed = Missed::new(Aspect::Exit, exit.to_string(), "the run did not end by itself".into());
            return Judged { met: 0, of, missed: Some(missed) };
        };
        let mut missed = Vec::new();
        if exit_code != exit {
            missed.push(Missed::new(Aspect::Exit, exit.to_string(), exit_code.to_string()));
        }
        missed.extend(self.stdout.as_ref().and_then(|expected| compare(expected.as_bytes(), stdout)));
        let text = String::from_utf8_lossy(stdout);
        for pattern in self.patterns.iter().filter(|pattern| !pattern.0.is_match(&text)) {
            let got = clip(&text, SHOWN, Keep::Head);
            missed.push(Missed::new(Aspect::Match, pattern.0.as_str().to_owned(), got));
        }
        for (path, sha256) in &self.artifacts {
            let expected =
                || format!("/out/{path}{}", sha256.iter().map(|it| format!(" sha256:{it}")).collect::<String>());
            match (artifacts.get(path.as_str()), sha256) {
                (Some(found), Some(sha256)) if found != sha256 => {
                    missed.push(Missed::new(Aspect::Artifact, expected(), format!("/out/{path} sha256:{found}")));
                }
                (Some(_), _) => {}
                (None, _) => {
                    let there: Vec<String> = artifacts.keys().take(20).map(|it| format!("/out/{it}")).collect();
                    let got = if there.is_empty() {
                        "no file in /out".into()
                    } else {
                        clip(&there.join(", "), SHOWN, Keep::Head)
                    };
                    missed.push(Missed::new(Aspect::Artifact, expected(), got));
                }
            }
        }
        Judged { met: of.saturating_sub(missed.len()), of, missed: missed.into_iter().next() }
    }
}

impl Missed {
    fn new(aspect: Aspect, expected: String, got: String) -> Self {
        Self { aspect, line: None, expected, got }
    }
}

/// Lines without blanks at their ends, without empty ones at the end.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

/// The first difference of two outputs.
fn compare(expected: &[u8], got: &[u8]) -> Option<Missed> {
    let (expected, got) = (lines(expected), lines(got));
    let same = expected.iter().zip(&got).take_while(|(a, b)| a == b).count();
    if same == expected.len() && same == got.len() {
        return None;
    }
    let from = |lines: &[&[u8]]| {
        let mut text = Vec::new();
        for line in lines.iter().skip(same) {
            text.extend_from_slice(line);
            text.push(b'\n');
            if text.len() > SHOWN {
                break;
            }
        }
        clip(&String::from_utf8_lossy(&text), SHOWN, Keep::Head)
    };
    let line = Some(same.saturating_add(1));
    Some(Missed { aspect: Aspect::Stdout, line, expected: from(&expected), got: from(&got) })
}

/// Reads escapes; `at` is the byte at which the text begins in the whole.
fn unescape(text: &str, at: usize) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let begin = at + text.len() - escaped.len() - 1;
        let wrong = |message: &str| Wrong { at: begin, message: message.to_owned(), hint: ESCAPES };
        let mut chars = escaped.chars();
        let (c, after) = match chars.next() {
            Some('n') => ('\n', chars.as_str()),
            Some('t') => ('\t', chars.as_str()),
            Some('r') => ('\r', chars.as_str()),
            Some('\\') => ('\\', chars.as_str()),
            Some('x') => {
                let (digits, after) =
                    chars.as_str().split_at_checked(2).ok_or_else(|| wrong("\\x needs two digits"))?;
                (scalar(digits).filter(char::is_ascii).ok_or_else(|| wrong("\\xHH is for 00 to 7f"))?, after)
            }
            Some('u') => {
                let braced = chars.as_str().strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let (digits, after) = braced.ok_or_else(|| wrong("\\u needs digits in braces"))?;
                (scalar(digits).ok_or_else(|| wrong("there is no such character"))?, after)
            }
            Some(_) => return Err(wrong("this is no escape")),
            None => return Err(wrong("a backslash stands at the end")),
        };
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The character of a number in hexadecimal.
fn scalar(digits: &str) -> Option<char> {
    let hexadecimal = (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    char::from_u32(u32::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)?)
}

/// A case as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCase {
    stdin: Option<String>,
    stdout: Option<String>,
    exit: Option<i32>,
    #[serde(default, rename = "match")]
    patterns: OneOrMore,
    #[serde(default)]
    artifacts: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    #[default]
    None,
    One(String),
    More(Vec<String>),
}

impl WrittenCase {
    fn case(self) -> Result<Case, (String, &'static str)> {
        let patterns = match self.patterns {
            OneOrMore::None => Vec::new(),
            OneOrMore::One(pattern) => vec![pattern],
            OneOrMore::More(patterns) => patterns,
        };
        let patterns = patterns
            .iter()
            .map(|it| Pattern::new(it).map_err(|message| (message, EXPRESSION)))
            .collect::<Result<_, _>>()?;
        let mut artifacts = BTreeMap::new();
        for (path, value) in self.artifacts {
            let shown = capibara_policies::escape(&path).into_owned();
            let path = artifact_path(&path).ok_or_else(|| (format!("`{shown}` is no path below /out"), KEYS))?;
            let sha256 = match value.as_str() {
                "exists" => None,
                value => {
                    Some(digest_of(value).ok_or_else(|| (format!("`{shown}` has no digest that can be one"), DIGEST))?)
                }
            };
            artifacts.insert(path, sha256);
        }
        let case = Case { stdin: self.stdin, stdout: self.stdout, exit: self.exit, patterns, artifacts };
        let asks = case.exit.is_some() || case.expectations() > 1;
        if asks { Ok(case) } else { Err(("the case asks for nothing".into(), KEYS)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(texts: &[&str]) -> Checks {
        let mut checks = Checks::new();
        texts.iter().for_each(|text| checks.add(text).unwrap());
        checks
    }

    fn file(text: &str) -> Result<Checks, CheckError> {
        let mut checks = Checks::new();
        checks.add_file("cases.yaml", text.as_bytes()).map(|()| checks)
    }

    #[test]
    fn input_and_output_stand_around_an_arrow() {
        for (text, stdin, stdout) in [
            (r"2 3\n => 5", "2 3\n", "5"),
            ("=>", "", ""),
            ("a=>b", "a", "b"),
            (r"  a\x20  =>  \x20b\t\r\\  ", "a ", " b\t\r\\"),
            (r"1 \x3d> 2 => \u{1f9ab}", "1 => 2", "🦫"),
            ("naïve => 猫", "naïve", "猫"),
        ] {
            let checks = checks(&[text]);
            let (number, case) = checks.cases().next().unwrap();
            assert_eq!((number, case.stdin(), case.stdout.as_deref()), (1, Some(stdin), Some(stdout)), "{text}");
        }
    }

    #[test]
    fn what_is_no_check_is_refused_where_it_is_wrong() {
        for (text, character, message) in [
            ("2 3", 4, "there is no `=>`"),
            ("a => b => c", 8, "a second `=>`"),
            (r"猫 \q => b", 3, "no escape"),
            (r"a => é\", 7, "at the end"),
            (r"a => \x8", 6, "two digits"),
            (r"a => \xff", 6, "00 to 7f"),
            (r"a => \x+1", 6, "00 to 7f"),
            (r"a => \u{110000}", 6, "no such character"),
            (r"a => \u41", 6, "braces"),
            ("exit: many", 7, "no exit code"),
            ("exit:", 6, "missing"),
            ("match: (", 8, "unclosed group"),
            (r"match: (?=a)", 8, "look-around"),
            (r"match: (a{1000}){1000}", 8, "exceeds size limit"),
            ("artifact: ../x", 11, "no path below /out"),
            ("artifact: /etc/passwd", 11, "no path below /out"),
            ("artifact: a.csv sha256:12", 17, "no digest"),
        ] {
            let error = Checks::new().add(text).unwrap_err();
            assert!(error.to_string().contains(&format!("character {character}: ")), "{text}: {error}");
            assert!(error.to_string().contains(message) && !error.hint().is_empty(), "{text}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        let error = Checks::new().add("\x1b[2J").unwrap_err();
        assert!(!error.to_string().contains('\x1b'), "{error}");
        assert!(
            Checks::new().add(&format!("{} => b", "a".repeat(70_000))).unwrap_err().to_string().contains("too long")
        );
        let mut two = checks(&["exit: 3", "exit: 3"]);
        assert!(two.add("exit: 4").is_err());
        let mut many = checks(&vec!["a => b"; MOST_CASES]);
        assert!(many.add("a => b").unwrap_err().to_string().contains("too many"));
    }

    #[test]
    fn a_file_holds_cases() {
        let checks = file(
            "- {stdin: \"2 3\\n\", stdout: \"5\\n\"}\n- stdin: |\n    a\n    b\n  exit: 3\n  match: ['^x', y]\n- match: z\n  artifacts: {a.csv: exists, /out/b/c: 'sha256:AA00000000000000000000000000000000000000000000000000000000000000'}\n",
        )
        .unwrap();
        let cases: Vec<&Case> = checks.cases().map(|(_, case)| case).collect();
        assert_eq!(cases.iter().map(|it| it.stdin()).collect::<Vec<_>>(), [Some("2 3\n"), Some("a\nb\n"), None]);
        assert_eq!((cases[1].exit, cases[1].patterns.len()), (Some(3), 2));
        assert_eq!(cases[2].artifacts["b/c"].as_deref().map(str::len), Some(64));
        for (text, expected) in [
            ("- stdin: a\n  stdotu: b\n", "line 2"),
            ("- stdin: a\n", "case 1 in line 1: the case asks for nothing"),
            ("- exit: 0\n- match: '('\n", "case 2 in line 2: error: unclosed group"),
            ("- exit: 0\n- artifacts: {../x: exists}\n", "no path below /out"),
            ("- artifacts: {x: maybe}\n", "no digest"),
            ("[]", "no cases"),
            ("a: b", "line 1"),
            ("- &a {exit: 0}\n- *a\n", "line"),
            ("- exit: 0\n---\n- exit: 1\n", "line"),
        ] {
            let error = file(text).map(|_| ()).unwrap_err();
            assert!(
                error.to_string().starts_with("cases.yaml") && error.to_string().contains(expected),
                "{text}: {error}"
            );
        }
        assert!(file(&"- exit: 0\n".repeat(1_001)).is_err());
        assert!(file(&"- exit: 0\n".repeat(1_000)).is_ok());
        let mut bytes = Checks::new();
        assert!(bytes.add_file("x", &[0xff]).unwrap_err().to_string().contains("not UTF-8"));
        assert!(bytes.add_file("x", &vec![b' '; LARGEST_CHECK_FILE + 1]).unwrap_err().to_string().contains("1 MiB"));
        assert!(bytes.is_empty());
    }

    #[test]
    fn the_digest_covers_every_part_and_the_order() {
        let texts: [&[&str]; 9] = [
            &[],
            &["a => b"],
            &["a => c"],
            &["c => b"],
            &["exit: 0"],
            &["match: a"],
            &["artifact: a"],
            &["a => b", "c => d"],
            &["c => d", "a => b"],
        ];
        let digests: std::collections::BTreeSet<String> = texts.iter().map(|it| checks(it).digest()).collect();
        assert_eq!(digests.len(), texts.len());
        // As a file or as a line, a check is the same.
        assert_eq!(file("- {stdin: a, stdout: b}").unwrap().digest(), checks(&["a => b"]).digest());
    }

    #[test]
    fn outputs_are_compared_as_judges_of_contests_do() {
        for (expected, got) in [
            ("5", "5\n"),
            ("5\n", "5"),
            ("a b\n", "a b  \t\r\n\n\n"),
            ("", "\n \n"),
            ("a\r\nb", "a\nb"),
            ("\n\na", "\n\na\n"),
        ] {
            assert_eq!(compare(expected.as_bytes(), got.as_bytes()), None, "{expected:?} {got:?}");
        }
        for (expected, got, line, shown) in [
            ("5", "6", 1, ("5\n", "6\n")),
            ("a\nb\nc", "a\nx\nc", 2, ("b\nc\n", "x\nc\n")),
            ("a\nb", "a", 2, ("b\n", "")),
            ("a", "a\nb", 2, ("", "b\n")),
            ("a", " a", 1, ("a\n", " a\n")),
            ("a", "A", 1, ("a\n", "A\n")),
            ("a", "\na", 1, ("a\n", "\na\n")),
            ("", "x", 1, ("", "x\n")),
        ] {
            let missed = compare(expected.as_bytes(), got.as_bytes()).unwrap();
            assert_eq!((missed.line, &*missed.expected, &*missed.got), (Some(line), shown.0, shown.1));
        }
        // What is no text is not taken for the character that stands for it.
        assert!(compare("\u{fffd}".as_bytes(), b"\xff").is_some());
        let long = "x".repeat(1 << 20);
        let missed = compare(b"y", long.as_bytes()).unwrap();
        assert!(missed.got.len() < SHOWN + 10 && missed.to_string().len() < 400, "{}", missed.got.len());
    }

    #[test]
    fn a_run_is_judged_by_all_that_is_asked() {
        let nothing = BTreeMap::new();
        let there = BTreeMap::from([("a.csv", "ab".repeat(32))]);
        let digest = format!("artifact: a.csv sha256:{}", "AB".repeat(32));
        for (texts, exit, stdout, artifacts, met, of, missed) in [
            (vec![" => 5"], Some(0), "5\n", &nothing, 2, 2, None),
            (vec![" => 5"], Some(1), "5\n", &nothing, 1, 2, Some(Aspect::Exit)),
            (vec![" => 5"], None, "5\n", &nothing, 0, 2, Some(Aspect::Exit)),
            (vec!["exit: 3"], Some(3), "", &nothing, 1, 1, None),
            (vec!["match: ^total"], Some(0), "x\ntotal 5\n", &nothing, 2, 2, None),
            (vec!["match: ^total", "exit: 0"], Some(0), "a total", &nothing, 1, 2, Some(Aspect::Match)),
            (vec!["artifact: a.csv"], Some(0), "", &there, 2, 2, None),
            (vec!["artifact: a.csv"], Some(0), "", &nothing, 1, 2, Some(Aspect::Artifact)),
            (vec![&*digest], Some(0), "", &there, 2, 2, None),
            (vec![&*digest, "artifact: b"], Some(0), "", &there, 2, 3, Some(Aspect::Artifact)),
        ] {
            let checks = checks(&texts);
            let (_, case) = checks.cases().next().unwrap();
            let judged = case.judge_run(exit, stdout.as_bytes(), artifacts);
            assert_eq!((judged.met, judged.of, judged.missed.map(|it| it.aspect)), (met, of, missed), "{texts:?}");
        }
    }
}
