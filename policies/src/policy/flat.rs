//! A flat document: keys with one word or number each, such as the file of a user's configuration. It is read by the same means
//! as a policy, within the same bounds; what its keys mean is known to whoever reads it.

use serde_saphyr::Spanned;

use super::document::{self, Pairs, Place};
use super::error::Problem;

/// One line of a flat document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatEntry {
    /// The key.
    pub key: String,
    /// Its value, as it is written, without quotes.
    pub value: String,
    /// Line and column of the key, from 1, in characters.
    pub key_place: (u32, u32),
    /// Line and column of the value.
    pub value_place: (u32, u32),
}

/// Reads a flat document that is called `file` in what is said about it. One without keys has no entries.
///
/// # Errors
/// What is wrong first: no YAML, no mapping, a key that stands there twice, a value that is a mapping, a list or nothing.
pub fn flat_document(file: &str, text: &str) -> Result<Vec<FlatEntry>, Problem> {
    let document: Option<Pairs<Spanned<String>>> = document::read(file, text).map_err(|problem| Problem {
        message: told(&problem.message).map_or(problem.message, str::to_owned),
        hint: problem.hint.or_else(|| Some("each line is a key with one value: `timeout: 30s`".into())),
        ..problem
    })?;
    let places = |place: Place| (place.line, place.column);
    let entries = document.map(|pairs| pairs.0).unwrap_or_default().into_iter().map(|(key, value)| FlatEntry {
        key_place: places((&key).into()),
        value_place: places((&value).into()),
        key: key.value,
        value: value.value,
    });
    Ok(entries.collect())
}

/// What the YAML library says about another shape, in the words of this one.
fn told(message: &str) -> Option<&'static str> {
    match message {
        "expected string scalar" => Some("a word or a number is expected here, and no list and no mapping"),
        "expected mapping start" => Some("the document is not made of keys and values"),
        _ if message.starts_with("cannot deserialize null") => Some("this key has no value"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_come_with_their_places() {
        let entries =
            flat_document("f", "# head\npolicy: mine\n\ntimeout:   '1m 30s' # long\nraw: true\nfuel: 1000\n").unwrap();
        let shown: Vec<_> =
            entries.iter().map(|e| (e.key.as_str(), e.value.as_str(), e.key_place, e.value_place)).collect();
        assert_eq!(
            shown,
            [
                ("policy", "mine", (2, 1), (2, 9)),
                ("timeout", "1m 30s", (4, 1), (4, 12)),
                ("raw", "true", (5, 1), (5, 6)),
                ("fuel", "1000", (6, 1), (6, 7)),
            ]
        );
        for nothing in ["", "\n", "# only comments\n", "---\n", "{}"] {
            assert_eq!(flat_document("f", nothing), Ok(Vec::new()), "{nothing:?}");
        }
    }

    #[test]
    fn other_documents_are_told_with_their_place() {
        for (text, line, part) in [
            ("a: 1\na: 2\n", 2, "second time"),
            ("limits:\n  fuel: 1M\n", 2, "no mapping"),
            ("a: [1]\n", 1, "no list"),
            ("a:\n", 1, "no value"),
            ("a: ~\n", 1, "no value"),
            ("- a\n", 1, "keys and values"),
            ("word\n", 1, "keys and values"),
            ("a: 1\n  b: 2\n", 2, ""),
            ("a: 'open\n", 0, ""),
        ] {
            let problem = flat_document("f", text).unwrap_err();
            assert!(line == 0 || problem.line == line, "{text:?}: {problem}");
            assert!(problem.message.contains(part) && problem.hint.is_some(), "{text:?}: {problem:?}");
        }
    }
}
