//! Finds the names that the rules report.

use std::sync::LazyLock;

use super::Map;
use crate::rules::{RULES, Rule, Symbol};

struct Index {
    exact: Map<&'static str, Vec<(&'static Rule, &'static Symbol)>>,
    /// Beginnings, by their first byte.
    beginnings: Map<u8, Vec<(&'static str, &'static Rule, &'static Symbol)>>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index { exact: Map::default(), beginnings: Map::default() };
    for rule in RULES {
        for symbol in rule.javascript {
            match symbol.path.strip_suffix('*') {
                Some(beginning) => {
                    let first = beginning.bytes().next().unwrap_or_default();
                    index.beginnings.entry(first).or_default().push((beginning, rule, symbol));
                }
                None => index.exact.entry(symbol.path).or_default().push((rule, symbol)),
            }
        }
    }
    index
});

/// What the rules say about a path.
pub(super) fn find(path: &str) -> Vec<(&'static Rule, &'static Symbol)> {
    let index = &*INDEX;
    let mut found = index.exact.get(path).cloned().unwrap_or_default();
    // An exact entry goes before one for all names that begin alike.
    let beginnings = path.bytes().next().and_then(|first| index.beginnings.get(&first));
    for (beginning, rule, symbol) in beginnings.into_iter().flatten() {
        // What a call returns is reported where the call is.
        let rest = path.strip_prefix(beginning);
        if rest.is_some_and(|rest| !rest.contains('(')) && !found.iter().any(|(other, _)| other.id == rule.id) {
            found.push((rule, symbol));
        }
    }
    found
}
