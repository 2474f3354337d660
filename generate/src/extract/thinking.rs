//! Reasoning that a model writes into its answer, between tags.

/// Names of the tags, lower-case.
const NAMES: [&str; 11] = [
    "think",
    "thinking",
    "thought",
    "thoughts",
    "reason",
    "reasoning",
    "reflection",
    "analysis",
    "scratchpad",
    "seed:think",
    "internal_monologue",
];

/// A tag at the start of a text.
struct Tag<'a> {
    name: &'a str,
    closes: bool,
    /// What comes after it.
    rest: &'a str,
}

fn tag(text: &str) -> Option<Tag<'_>> {
    let (end, open) = if text.starts_with('[') { (b']', '[') } else { (b'>', '<') };
    let inner = text.strip_prefix(open)?;
    let (closes, inner) = match inner.strip_prefix('/') {
        Some(inner) => (true, inner),
        None => (false, inner),
    };
    let length = inner.bytes().take_while(|byte| byte.is_ascii_alphabetic() || matches!(byte, b':' | b'_')).count();
    let name = inner.get(..length)?;
    // Square brackets are one provider's: [THINK].
    let known = if open == '[' { name == "THINK" } else { NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)) };
    let attributes = inner.get(length..).filter(|_| known)?;
    // Attributes are short; a tag ends on its line.
    let length = attributes.bytes().take(200).take_while(|byte| *byte != b'\n').position(|byte| byte == end)?;
    let rest = attributes.get(length + 1..).filter(|_| length == 0 || attributes.starts_with(' '))?;
    Some(Tag { name, closes, rest })
}

/// The tags of a text, in order: where each begins, and it.
fn tags(text: &str) -> impl Iterator<Item = (usize, Tag<'_>)> {
    text.match_indices(['<', '[']).filter_map(|(at, _)| tag(text.get(at..)?).map(|tag| (at, tag)))
}

/// An answer without the reasoning at its start, and without blank lines there. `None` if the reasoning does not end.
pub(super) fn strip(answer: &str) -> Option<&str> {
    let mut rest = answer;
    loop {
        let trimmed = rest.trim_start();
        let Some(opening) = tag(trimmed).filter(|tag| !tag.closes) else { return Some(rest) };
        let closing = |tag: &Tag<'_>| tag.closes && tag.name.eq_ignore_ascii_case(opening.name);
        rest = tags(opening.rest).map(|(_, tag)| tag).find(closing)?.rest;
    }
}

/// What a piece of prose does to reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It begins.
    Begins,
    /// It ends so many bytes into the prose.
    Ends(usize),
}

/// Where reasoning begins and ends in a line of prose. Tags in quotes or backticks are only talked about, and what begins reasoning
/// stands at the start of a line.
pub(super) fn turns(line: &str) -> impl Iterator<Item = Turn> {
    tags(line).filter_map(move |(at, tag)| {
        let before = line.get(..at)?;
        if before.ends_with(['`', '"', '\'', '(']) {
            return None;
        }
        match tag.closes {
            true => Some(Turn::Ends(line.len() - tag.rest.len())),
            false => before.trim().is_empty().then_some(Turn::Begins),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_taken_off_the_start_only() {
        for (answer, rest) in [
            ("x", Some("x")),
            ("<think>a</think>x", Some("x")),
            ("\n <THINKING>a\n</thinking>\n\nx", Some("\n\nx")),
            ("<think>a</think><reasoning effort=\"low\">b</reasoning>x", Some("x")),
            ("[THINK]a[/THINK]x", Some("x")),
            ("<think>a <thinking>b</thinking></think>x", Some("x")),
            ("<think>a", None),
            ("<think>a</thinking>", None),
            ("<think/>x", Some("<think/>x")),
            ("<thinker>a</thinker>", Some("<thinker>a</thinker>")),
            ("y <think>a</think>x", Some("y <think>a</think>x")),
            ("<think", Some("<think")),
            ("<", Some("<")),
            ("", Some("")),
        ] {
            assert_eq!(strip(answer), rest, "{answer}");
        }
    }

    #[test]
    fn tags_in_prose_that_are_only_talked_about_do_not_count() {
        let found = |line| turns(line).collect::<Vec<_>>();
        assert_eq!(found("done.</think> Here:"), [Turn::Ends(13)]);
        assert_eq!(found("<think>a</think>"), [Turn::Begins, Turn::Ends(16)]);
        assert_eq!(found("the tag `</think>` and \"<think>\" or then <think>"), []);
    }
}
