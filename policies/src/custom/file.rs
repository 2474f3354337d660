//! The file that rules stand in.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{Case, CustomRule, LARGEST_RULE_FILE, LONGEST_QUERY, LanguageQuery, MOST_RULES, query};
use crate::Severity;
use crate::escape::escape;
use crate::scan::SourceLanguage;

/// The longest line of text for people, in bytes.
const LONGEST_TEXT: usize = 500;
/// The longest id, in bytes.
const LONGEST_ID: usize = 64;

/// Line and column in the file, from 1, columns in characters.
pub(super) type Place = (u32, u32);
type Problem = (Place, RuleProblem);

/// A rule file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFileError {
    /// Name of the file, as the caller gave it.
    pub name: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong there.
    pub problem: RuleProblem,
}

impl RuleFileError {
    pub(super) fn new(name: &str, (line, column): Place, problem: RuleProblem) -> Self {
        Self { name: name.to_owned(), line, column, problem }
    }
}

impl fmt::Display for RuleFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.name, self.line, self.column, self.problem)
    }
}

impl std::error::Error for RuleFileError {}

/// What can be wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleProblem {
    /// The file is too large.
    #[error("the file has {bytes} bytes, and {LARGEST_RULE_FILE} are the most")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Too many rules.
    #[error("the file has {rules} rules, and {MOST_RULES} are the most")]
    TooMany {
        /// How many there are.
        rules: usize,
    },
    /// The text is not YAML, or a value is of another kind than it should be.
    #[error("{message}")]
    Malformed {
        /// What the parser found.
        message: String,
    },
    /// A key that has no meaning here.
    #[error("there is no key `{key}`{}", hint(nearest.as_ref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest one that has.
        nearest: Option<String>,
    },
    /// A value that is none of those possible.
    #[error("`{value}` is not possible here; it is one of {}", expected.join(", "))]
    UnknownValue {
        /// The value.
        value: String,
        /// The possible ones.
        expected: Vec<String>,
    },
    /// A key that every rule has.
    #[error("the key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// The id is not `x-` and words of small letters and digits, joined by hyphens.
    #[error(
        "`{id}` is not an id: `x-`, then words of small letters and digits joined by hyphens, {LONGEST_ID} at most"
    )]
    BadId {
        /// The id.
        id: String,
    },
    /// Another rule of the file has this id.
    #[error("the rule of line {line} has the id `{id}`, too")]
    DuplicateId {
        /// The id.
        id: String,
        /// Where the other rule stands.
        line: u32,
    },
    /// No such language.
    #[error("there is no language `{name}`{}", hint(nearest.as_ref()))]
    UnknownLanguage {
        /// The name.
        name: String,
        /// The nearest one there is.
        nearest: Option<String>,
    },
    /// A rule for no language.
    #[error("a rule needs a language")]
    NoLanguage,
    /// The text is empty.
    #[error("`{key}` is empty")]
    Empty {
        /// Its key.
        key: &'static str,
    },
    /// The text is not one line of printable characters.
    #[error("`{key}` is more than one line, or has control characters")]
    NotOneLine {
        /// Its key.
        key: &'static str,
    },
    /// The text is too long.
    #[error("`{key}` is longer than {most} bytes")]
    TooLong {
        /// Its key.
        key: &'static str,
        /// The most bytes it may have.
        most: usize,
    },
    /// The query does not fit the language or is not well formed.
    #[error("{message}")]
    Query {
        /// What is wrong there.
        message: String,
    },
    /// A predicate that is not evaluated, and would therefore do nothing.
    #[error("there is no predicate `#{name}`{}", hint(nearest.as_ref()))]
    UnknownPredicate {
        /// Its name.
        name: String,
        /// The nearest one there is.
        nearest: Option<String>,
    },
    /// A query that captures nothing has nothing to report.
    #[error("the query captures nothing: write `@name` behind the node to report")]
    NoCapture,
    /// The capture to report is not in the query.
    #[error("the query has no capture `@{name}`{}", hint(nearest.as_ref()))]
    UnknownCapture {
        /// Its name.
        name: String,
        /// The nearest one it has.
        nearest: Option<String>,
    },
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

/// The nearest of these names to one that is none of them, if it is near at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a &'a str>) -> Option<String> {
    if name.len() > LONGEST_ID {
        return None;
    }
    let near = |known: &'a str| (strsim::normalized_damerau_levenshtein(name, known), known);
    let best = known.into_iter().map(|known| near(known)).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= 0.5).then(|| best.1.to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    rules: Spanned<Vec<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRule {
    id: Spanned<String>,
    title: Spanned<String>,
    severity: Severity,
    languages: Spanned<Vec<Spanned<String>>>,
    query: Spanned<String>,
    #[serde(default)]
    capture: Option<Spanned<String>>,
    message: Spanned<String>,
    #[serde(default)]
    advice: Option<Spanned<String>>,
    #[serde(default)]
    cwe: Vec<u16>,
    #[serde(default)]
    should_fire: Vec<Spanned<String>>,
    #[serde(default)]
    should_not_fire: Vec<Spanned<String>>,
}

/// Reads a rule file: the rules, or the first problem with its place.
pub(super) fn parse(text: &str) -> Result<Vec<CustomRule>, Problem> {
    if text.len() > LARGEST_RULE_FILE {
        return Err(((1, 1), RuleProblem::TooLarge { bytes: text.len() }));
    }
    let file: RawFile = serde_saphyr::from_str(text).map_err(|error| malformed(&error))?;
    if file.rules.value.len() > MOST_RULES {
        return Err((place(file.rules.defined), RuleProblem::TooMany { rules: file.rules.value.len() }));
    }
    let mut ids = HashMap::new();
    let mut rules = Vec::new();
    for raw in file.rules.value {
        let at = place(raw.id.defined);
        let rule = rule(raw, text)?;
        if let Some(line) = ids.insert(rule.id.clone(), at.0) {
            return Err((at, RuleProblem::DuplicateId { id: rule.id, line }));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn malformed(error: &serde_saphyr::Error) -> Problem {
    let error = error.without_snippet();
    let place = error.location().map_or((1, 1), place);
    let problem = match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            RuleProblem::UnknownKey { key: cropped(field), nearest: nearest(field, expected) }
        }
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => RuleProblem::UnknownValue {
            value: cropped(variant),
            expected: expected.iter().map(|name| (*name).to_owned()).collect(),
        },
        serde_saphyr::Error::SerdeMissingField { field, .. } => RuleProblem::MissingKey { key: field },
        other => {
            // The place is told apart from it.
            let message = other.to_string();
            let message = message.lines().next().unwrap_or_default();
            let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
            let message: String = message.chars().take(LONGEST_TEXT).collect();
            RuleProblem::Malformed { message: escape(&message).into_owned() }
        }
    };
    (place, problem)
}

fn rule(raw: RawRule, text: &str) -> Result<CustomRule, Problem> {
    let line = place(raw.id.defined).0;
    let id = id(raw.id)?;
    let title = one_line("title", raw.title)?;
    let message = one_line("message", raw.message)?;
    let advice = raw.advice.map_or_else(|| Ok(String::new()), |advice| one_line("advice", advice))?;
    let mut languages = Vec::new();
    for name in &raw.languages.value {
        let language = SourceLanguage::named(&name.value).ok_or_else(|| {
            let nearest = nearest(&name.value, &["python", "javascript", "typescript"]);
            (place(name.defined), RuleProblem::UnknownLanguage { name: cropped(&name.value), nearest })
        })?;
        if !languages.contains(&language) {
            languages.push(language);
        }
    }
    if languages.is_empty() {
        return Err((place(raw.languages.defined), RuleProblem::NoLanguage));
    }
    if raw.query.value.trim().is_empty() {
        return Err((place(raw.query.defined), RuleProblem::Empty { key: "query" }));
    }
    if raw.query.value.len() > LONGEST_QUERY {
        return Err((place(raw.query.defined), RuleProblem::TooLong { key: "query", most: LONGEST_QUERY }));
    }
    let mut queries = Vec::new();
    let mut capture = String::new();
    for language in languages {
        let query = query::compile(&raw.query.value, language)
            .map_err(|(offset, problem)| (place_in(text, &raw.query, offset), problem))?;
        let names = query.capture_names();
        capture = match (&raw.capture, names.first()) {
            (_, None) => return Err((place(raw.query.defined), RuleProblem::NoCapture)),
            (None, Some(first)) => (*first).to_owned(),
            (Some(given), Some(_)) => {
                let name = given.value.trim_start_matches('@');
                if !names.contains(&name) {
                    let nearest = nearest(name, names);
                    let problem = RuleProblem::UnknownCapture { name: cropped(name), nearest };
                    return Err((place(given.defined), problem));
                }
                name.to_owned()
            }
        };
        queries.push(LanguageQuery { language, query });
    }
    let cases = |cases: Vec<Spanned<String>>| {
        cases.into_iter().map(|case| Case { line: place(case.defined).0, text: case.value }).collect()
    };
    Ok(CustomRule {
        id,
        title,
        severity: raw.severity,
        message,
        advice,
        cwe: raw.cwe,
        text: raw.query.value,
        capture,
        queries,
        should_fire: cases(raw.should_fire),
        should_not_fire: cases(raw.should_not_fire),
        line,
    })
}

fn id(id: Spanned<String>) -> Result<String, Problem> {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let good =
        id.value.len() <= LONGEST_ID && id.value.strip_prefix("x-").is_some_and(|rest| rest.split('-').all(word));
    if good { Ok(id.value) } else { Err((place(id.defined), RuleProblem::BadId { id: cropped(&id.value) })) }
}

/// A name out of the file, as it can stand in a message.
pub(super) fn cropped(text: &str) -> String {
    escape(&text.chars().take(LONGEST_ID).collect::<String>()).into_owned()
}

fn one_line(key: &'static str, text: Spanned<String>) -> Result<String, Problem> {
    let value = text.value.trim();
    let problem = if value.is_empty() {
        RuleProblem::Empty { key }
    } else if value.len() > LONGEST_TEXT {
        RuleProblem::TooLong { key, most: LONGEST_TEXT }
    } else if value.chars().any(char::is_control) {
        RuleProblem::NotOneLine { key }
    } else {
        return Ok(value.to_owned());
    };
    Err((place(text.defined), problem))
}

fn place(location: Location) -> Place {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    (number(location.line()), number(location.column()))
}

/// Where a byte of a value stands in the file. The two are read side by side from where the value begins, white space left
/// out: blocks indent it, folding changes it. Where they differ in more than backslashes, the beginning has to do.
fn place_in(text: &str, value: &Spanned<String>, offset: usize) -> Place {
    let start = place(value.defined);
    let (before, after) = value.value.split_at_checked(offset).unwrap_or((&value.value, ""));
    let line = text.split('\n').take(start.0 as usize - 1).map(|line| line.len() + 1).sum::<usize>();
    let mut at = start;
    let mut file = text.get(line..).unwrap_or_default().chars();
    for _ in 1..start.1 {
        file.next();
    }
    let mut rest = file.as_str();
    if rest.starts_with(['"', '\'']) && !value.value.starts_with(['"', '\'']) {
        rest = rest.get(1..).unwrap_or_default();
        at.1 += 1;
    }
    let mut file = rest.chars().peekable();
    let target = after.chars().next().filter(|c| !c.is_whitespace());
    for wanted in before.chars().filter(|c| !c.is_whitespace()).map(Some).chain([None]) {
        if wanted.is_none() && target.is_none() {
            break;
        }
        while let Some(c) = file.next_if(|c| c.is_whitespace() || *c == '\\' && wanted.or(target) != Some('\\')) {
            at = if c == '\n' { (at.0 + 1, 1) } else { (at.0, at.1 + 1) };
        }
        if file.peek().copied() != wanted.or(target) {
            return start;
        }
        if wanted.is_some() {
            file.next();
            at.1 += 1;
        }
    }
    at
}
