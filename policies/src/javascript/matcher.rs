//! Applies simple regular expressions to known texts.

use std::ops::Range;

use super::regex::{Regex, Set, read};

/// A choice of sequences of characters, each with its number of repetitions.
pub(super) struct Matcher {
    choices: Vec<Vec<(Set, usize, usize)>>,
    global: bool,
    at_start: bool,
    at_end: bool,
}

impl Matcher {
    /// `None` if the expression is more than a choice of plain sequences.
    pub(super) fn new(pattern: &str, flags: &str) -> Option<Self> {
        let at_start = pattern.starts_with('^');
        let at_end = pattern.ends_with('$') && !pattern.ends_with("\\$");
        let inner = pattern.strip_prefix('^').unwrap_or(pattern);
        let inner = if at_end { inner.strip_suffix('$')? } else { inner };
        let choices = match read(inner, flags)? {
            Regex::Choice(choices) if !at_start && !at_end => choices,
            Regex::Choice(_) => return None,
            one => vec![one],
        };
        let choices = choices.into_iter().map(sequence).collect::<Option<Vec<_>>>()?;
        Some(Self { choices, global: flags.contains('g'), at_start, at_end })
    }

    /// Whether it matches the empty text only.
    pub(super) fn matches_nothing(&self) -> bool {
        self.choices.iter().all(Vec::is_empty)
    }

    /// The places it matches, of which there is at most one without the flag `g`.
    pub(super) fn find_all(&self, text: &str) -> Vec<Range<usize>> {
        self.find(text, self.global)
    }

    fn find(&self, text: &str, all: bool) -> Vec<Range<usize>> {
        let chars: Vec<(usize, char)> = text.char_indices().collect();
        let mut found = Vec::new();
        let mut budget = 200_000;
        let mut at = 0;
        while at <= chars.len() && budget > 0 {
            let end = self.choices.iter().find_map(|choice| self.end(choice, &chars, at, &mut budget));
            match end {
                Some(end) if end > at => {
                    let place = |at: usize| chars.get(at).map_or(text.len(), |(place, _)| *place);
                    found.push(place(at)..place(end));
                    at = end;
                    if !all {
                        break;
                    }
                }
                _ => at += 1,
            }
            if self.at_start {
                break;
            }
        }
        found
    }

    /// The parts between the places it matches.
    pub(super) fn split(&self, text: &str) -> Vec<String> {
        let mut parts = Vec::new();
        let mut at = 0;
        for range in self.find(text, true) {
            parts.push(text.get(at..range.start).unwrap_or_default().to_owned());
            at = range.end;
        }
        parts.push(text.get(at..).unwrap_or_default().to_owned());
        parts
    }

    /// The end of a match that begins there; each part takes what it can, and gives none back.
    fn end(
        &self,
        choice: &[(Set, usize, usize)],
        chars: &[(usize, char)],
        at: usize,
        budget: &mut usize,
    ) -> Option<usize> {
        let mut at = at;
        for (set, least, most) in choice {
            let mut count = 0;
            while count < *most && chars.get(at).is_some_and(|(_, c)| set.contains(*c)) {
                count += 1;
                at += 1;
            }
            *budget = budget.saturating_sub(count + 1);
            if count < *least {
                return None;
            }
        }
        (!self.at_end || at == chars.len()).then_some(at)
    }
}

fn sequence(regex: Regex) -> Option<Vec<(Set, usize, usize)>> {
    let parts = match regex {
        Regex::Sequence(parts) => parts,
        one => vec![one],
    };
    let mut out = Vec::new();
    for part in parts {
        match part {
            Regex::Set(set) => out.push((set, 1, 1)),
            Regex::Repeat(inner, least, most) => {
                let set = match *inner {
                    Regex::Set(set) => set,
                    Regex::Sequence(parts) => match parts.as_slice() {
                        [Regex::Set(set)] => *set,
                        _ => return None,
                    },
                    _ => return None,
                };
                let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
                out.push((set, usize::try_from(least).unwrap_or(usize::MAX), most));
            }
            Regex::Sequence(parts) => {
                for part in parts {
                    match part {
                        Regex::Set(set) => out.push((set, 1, 1)),
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
    }
    Some(out)
}
