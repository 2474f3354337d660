//! The file that rules stand in.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{Case, CustomRule, LARGEST_RULE_FILE, LanguageQuery, MOST_RULES, query};
use crate::Severity;
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
    let lines = Lines(text.split('\n').map(|line| line.trim_end_matches('\r')).collect());
    let mut ids = HashMap::new();
    let mut rules = Vec::new();
    for raw in file.rules.value {
        let at = place(raw.id.defined);
        let rule = rule(raw, &lines)?;
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
            RuleProblem::UnknownKey { key: field.clone(), nearest: nearest(field, expected) }
        }
        serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => RuleProblem::UnknownValue {
            value: variant.clone(),
            expected: expected.iter().map(|name| (*name).to_owned()).collect(),
        },
        serde_saphyr::Error::SerdeMissingField { field, .. } => RuleProblem::MissingKey { key: field },
        other => {
            let message = other.to_string();
            RuleProblem::Malformed { message: message.lines().next().unwrap_or_default().to_owned() }
        }
    };
    (place, problem)
}

fn rule(raw: RawRule, lines: &Lines<'_>) -> Result<CustomRule, Problem> {
    let line = place(raw.id.defined).0;
    let id = id(raw.id)?;
    let title = one_line("title", raw.title)?;
    let message = one_line("message", raw.message)?;
    let advice = raw.advice.map_or_else(|| Ok(String::new()), |advice| one_line("advice", advice))?;
    let mut languages = Vec::new();
    for name in &raw.languages.value {
        let language = SourceLanguage::named(&name.value).ok_or_else(|| {
            let nearest = nearest(&name.value, &["python", "javascript", "typescript"]);
            (place(name.defined), RuleProblem::UnknownLanguage { name: name.value.clone(), nearest })
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
    let mut queries = Vec::new();
    for language in languages {
        let query = query::compile(&raw.query.value, language)
            .map_err(|(offset, problem)| (lines.place_in(&raw.query, offset), problem))?;
        let names = query.capture_names();
        let capture = match &raw.capture {
            None if names.is_empty() => return Err((place(raw.query.defined), RuleProblem::NoCapture)),
            None => 0,
            Some(capture) => {
                let name = capture.value.trim_start_matches('@');
                query.capture_index_for_name(name).ok_or_else(|| {
                    let nearest = nearest(name, names);
                    (place(capture.defined), RuleProblem::UnknownCapture { name: name.to_owned(), nearest })
                })?
            }
        };
        queries.push(LanguageQuery { language, query, capture });
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

fn cropped(text: &str) -> String {
    text.chars().take(LONGEST_ID).collect()
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

/// The lines of the file.
struct Lines<'a>(Vec<&'a str>);

impl Lines<'_> {
    /// Where a byte of a value stands in the file. Literal blocks (`|`) and plain text are followed exactly; where the value
    /// reads otherwise than the file (folded lines, escapes), its beginning has to do.
    fn place_in(&self, value: &Spanned<String>, offset: usize) -> Place {
        let (line, column) = place(value.defined);
        let before = value.value.get(..offset).unwrap_or(&value.value);
        let row = before.matches('\n').count();
        let in_row = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let text = value.value.split('\n').nth(row).unwrap_or_default();
        let header = self.0.get(line as usize - 1).and_then(|line| line.get(byte_of(line, column as usize - 1)..));
        let block = usize::from(header.is_some_and(|header| header.starts_with(['|', '>'])));
        let index = line as usize - 1 + block + row;
        match self.0.get(index).and_then(|line| line.rfind(text.trim_end()).map(|at| (line, at))) {
            Some((found, at)) if !text.trim().is_empty() => {
                let indent = found.get(..at).unwrap_or_default().chars().count();
                let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                (number(index + 1), number(indent + in_row + 1))
            }
            _ => (line, column),
        }
    }
}

fn byte_of(line: &str, column: usize) -> usize {
    line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
}
