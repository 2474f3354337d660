//! Compiling a query, with the place of what is wrong in it.

use tree_sitter::{Query, QueryError, QueryErrorKind};

use super::file::{RuleProblem, cropped, nearest};
use crate::escape::escape;
use crate::scan::{Parsed, SourceLanguage};

/// The predicates that are evaluated.
const PREDICATES: [&str; 10] = [
    "eq?",
    "not-eq?",
    "any-eq?",
    "any-not-eq?",
    "match?",
    "not-match?",
    "any-match?",
    "any-not-match?",
    "any-of?",
    "not-any-of?",
];
/// How deep the brackets of a query may be nested: the compiler of queries recurses.
const DEEPEST: usize = 64;

/// The most characters of a message of the compiler, which quotes the query.
const LONGEST_MESSAGE: usize = 200;

/// A predicate in the text of a query.
struct Predicate<'a> {
    name: &'a str,
    /// Byte offset of its `#`.
    at: usize,
}

/// Compiles a query. An error comes with the byte offset of what is wrong.
pub(super) fn compile(text: &str, language: SourceLanguage) -> Result<Query, (usize, RuleProblem)> {
    let predicates = outline(text)?;
    if let Some(unknown) = predicates.iter().find(|predicate| !PREDICATES.contains(&predicate.name)) {
        let nearest = nearest(unknown.name, &PREDICATES).map(|name| format!("#{name}"));
        return Err((unknown.at, RuleProblem::UnknownPredicate { name: cropped(unknown.name), nearest }));
    }
    let grammar = Parsed::parse_text("", language)
        .map_err(|why| (0, RuleProblem::Query { message: why.to_owned() }))?
        .tree
        .language()
        .to_owned();
    Query::new(&grammar, text).map_err(|error| {
        let at = offset(text, &error, &predicates);
        (at, RuleProblem::Query { message: message(text, at, &error, language) })
    })
}

/// Finds the predicates, and what is nested too deeply.
fn outline(text: &str) -> Result<Vec<Predicate<'_>>, (usize, RuleProblem)> {
    let mut predicates = Vec::new();
    let mut depth = 0_usize;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                while let Some((_, c)) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            ';' => drop(chars.find(|(_, c)| *c == '\n')),
            '(' | '[' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err((at, RuleProblem::Query { message: "the query is nested too deeply".to_owned() }));
                }
            }
            ')' | ']' => depth = depth.saturating_sub(1),
            '#' => {
                let rest = text.get(at + 1..).unwrap_or_default();
                let in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '?' | '!');
                let end = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
                predicates.push(Predicate { name: rest.get(..end).unwrap_or_default(), at });
            }
            _ => {}
        }
    }
    Ok(predicates)
}

/// Where the error is. Of a predicate the compiler only tells the pattern it belongs to.
fn offset(text: &str, error: &QueryError, predicates: &[Predicate<'_>]) -> usize {
    if error.kind != QueryErrorKind::Predicate {
        return error.offset.min(text.len());
    }
    let pattern = text.split_inclusive('\n').take(error.row).map(str::len).sum();
    let mut candidates = predicates.iter().filter(|predicate| predicate.at >= pattern);
    let regex = error.message.strip_prefix("Invalid regex '").and_then(|rest| rest.strip_suffix('\''));
    let of_message = |predicate: &&Predicate<'_>| match regex {
        // The regex as the query writes it: with its backslashes doubled.
        Some(regex) => {
            let next = predicates.iter().map(|other| other.at).find(|at| *at > predicate.at).unwrap_or(text.len());
            let arguments = text.get(predicate.at..next).unwrap_or_default();
            predicate.name.ends_with("match?") && arguments.replace("\\\\", "\\").contains(regex)
        }
        None => error.message.contains(&format!("#{} ", family(predicate.name))),
    };
    candidates.find(of_message).map_or(pattern, |predicate| predicate.at)
}

/// The name under which the compiler speaks of a predicate.
fn family(name: &str) -> &str {
    if name.ends_with("any-of?") {
        "any-of?"
    } else if name.ends_with("match?") {
        "match?"
    } else {
        "eq?"
    }
}

fn message(text: &str, at: usize, error: &QueryError, language: SourceLanguage) -> String {
    let name: String = text
        .get(at..)
        .unwrap_or_default()
        .chars()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(60)
        .collect();
    match error.kind {
        QueryErrorKind::NodeType if name.is_empty() => format!("{language} has no such node or token"),
        QueryErrorKind::NodeType => format!("{language} has no node `{name}`"),
        QueryErrorKind::Field => format!("{language} has no field `{name}`"),
        QueryErrorKind::Capture => format!("nothing is captured as `@{name}`"),
        QueryErrorKind::Structure => format!("this pattern matches nothing that {language} can have"),
        QueryErrorKind::Syntax => "the query is not well formed here".to_owned(),
        QueryErrorKind::Predicate => {
            let message: String = error.message.trim_end_matches('.').chars().take(LONGEST_MESSAGE).collect();
            let mut message = escape(&message).replace(". ", ": ");
            if let Some(first) = message.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            message
        }
        QueryErrorKind::Language => error.message.clone(),
    }
}
