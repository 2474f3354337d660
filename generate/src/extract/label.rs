//! What the prose around a block says about it: announced, rejected, or a piece of something.
//!
//! The judgment is narrow on purpose: what is not understood here leads to another question, never to another script.

/// What prose says about the blocks next to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    /// The block after it is corrected, final, full or complete.
    pub(super) announces: bool,
    /// The block after it is not to be used.
    pub(super) rejects_next: bool,
    /// The block before it is not to be used.
    pub(super) rejects_last: bool,
    /// The block after it belongs into, or calls, other code.
    pub(super) piece: bool,
    /// The block after it is a cell of a notebook.
    pub(super) cell: bool,
}

/// Lines that are looked at on each side of a block, and bytes of a line.
const LINES: usize = 8;
const LINE_BYTES: usize = 400;

/// One sentence, and where it stands.
struct Sentence {
    words: Vec<String>,
    colon: bool,
    /// A heading, or all of it emphasized.
    title: bool,
    /// Number of its paragraph.
    paragraph: usize,
}

impl Sentence {
    fn has(&self, any: &[&str]) -> bool {
        self.words.iter().any(|word| any.contains(&word.as_str()))
    }

    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }
}

/// Reads the prose between two blocks, or around one.
///
/// `first` says that no block goes before, `last` that none follows.
pub(super) fn read(prose: &[&str], first: bool, last: bool) -> Label {
    let mut label = Label::default();
    if !last {
        let sentences = sentences(tail(prose));
        announce(&sentences, &mut label);
        if let Some(sentence) = sentences.last() {
            label.rejects_next |= rejects(sentence, true) && (first || points_forward(sentence));
            label.cell = is_cell(sentence);
        }
        // "Don't use this one. It is slow:" - only where nothing goes before that it could mean.
        label.rejects_next |= first && last_paragraph(&sentences).any(|it| rejects(it, false));
    }
    if !first {
        let sentences = sentences(head(prose));
        let only = sentences.len() == 1;
        label.rejects_last = sentences.iter().enumerate().any(|(index, sentence)| {
            let is_last = !last && (only || index + 1 == sentences.len());
            let forward = points_forward(sentence) && is_last || sentence.has(&FORWARD);
            rejects(sentence, false) && !forward && !sentence.has(&ELSEWHERE)
        });
    }
    label
}

/// Whether code says of itself, in a comment on its first line, that it is not to be used.
pub(super) fn rejects_itself(code: &str) -> bool {
    let line = code.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim_start();
    line.starts_with('#')
        && sentences(vec![line.trim_start_matches(['#', ' ', '!'])]).iter().any(|it| rejects(it, true))
}

/// Names of Python files in prose or code, lower-case.
pub(super) fn files(text: &str) -> impl Iterator<Item = String> {
    let limits = |it: char| !(it.is_alphanumeric() || matches!(it, '.' | '_' | '-' | '/'));
    text.split(limits).filter_map(|word| {
        let name = word.trim_end_matches(['.', '-']).rsplit('/').next()?.to_ascii_lowercase();
        (name.len() > 3 && name.ends_with(".py")).then_some(name)
    })
}

/// The last lines with text, cut to what is read.
pub(super) fn tail<'a>(prose: &[&'a str]) -> Vec<&'a str> {
    let mut left = LINES;
    let mut lines: Vec<&str> = prose
        .iter()
        .rev()
        .take(4 * LINES)
        .take_while(|line| {
            let more = left > 0;
            left = left.saturating_sub(usize::from(!line.trim().is_empty()));
            more
        })
        .map(|line| line.get(line.ceil_char_boundary(line.len().saturating_sub(LINE_BYTES))..).unwrap_or_default())
        .collect();
    lines.reverse();
    lines
}

/// The first lines with text, cut to what is read.
fn head<'a>(prose: &[&'a str]) -> Vec<&'a str> {
    let mut left = LINES;
    prose
        .iter()
        .take(4 * LINES)
        .take_while(|line| {
            let more = left > 0;
            left = left.saturating_sub(usize::from(!line.trim().is_empty()));
            more
        })
        .map(|line| line.get(..line.floor_char_boundary(LINE_BYTES)).unwrap_or_default())
        .collect()
}

/// The sentences of some lines. A heading, an item of a list and a blank line each end one.
fn sentences(lines: Vec<&str>) -> Vec<Sentence> {
    let mut found: Vec<Sentence> = Vec::new();
    let mut paragraph = 0;
    // Whether the next words go on with the last sentence.
    let mut open = false;
    for line in lines {
        let line = line.trim_start_matches([' ', '\t', '>']).trim_end();
        let heading = line.starts_with('#');
        let item = line.starts_with("- ") || line.starts_with("+ ") || line.starts_with("* ");
        if line.is_empty() || heading || item {
            (paragraph, open) = (paragraph + 1, false);
        }
        let emphasis = |it: char| matches!(it, '*' | '_' | ':');
        let bold = (line.starts_with("**") || line.starts_with("__")) && line.ends_with(emphasis);
        for part in parts(line) {
            let words = words(part);
            if words.is_empty() {
                continue;
            }
            let colon = part.ends_with(':');
            match found.last_mut().filter(|_| open) {
                Some(last) => {
                    last.words.extend(words);
                    last.colon |= colon;
                }
                None => found.push(Sentence { words, colon, title: heading || bold, paragraph }),
            }
            open = !part.ends_with(STOPS);
        }
        if heading {
            (paragraph, open) = (paragraph + 1, false);
        }
    }
    found
}

/// What ends a sentence, if a space, emphasis or nothing follows: `utils.py` is one word.
const STOPS: [char; 7] = ['.', '!', '?', ':', ';', '—', '–'];

/// A line, cut behind each end of a sentence.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.match_indices(STOPS).map(|(at, stop)| at + stop.len()).find(|end| {
            rest.get(*end..)
                .is_none_or(|after| !after.starts_with(|it: char| !it.is_whitespace() && !matches!(it, '*' | '_')))
        });
        let (part, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = after;
        Some(part)
    })
}

fn words(text: &str) -> Vec<String> {
    let letter =
        |it: char| it.is_alphanumeric() || matches!(it, '\'' | '’' | '-' | '_' | '❌' | '✗' | '✘' | '🚫' | '⛔');
    text.split(|it| !letter(it))
        .map(|word| word.trim_matches(['\'', '’', '-', '_']).replace('’', "'").to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

fn last_paragraph(sentences: &[Sentence]) -> impl Iterator<Item = &Sentence> {
    let last = sentences.last().map(|it| it.paragraph);
    sentences.iter().filter(move |it| Some(it.paragraph) == last)
}

/// Words that announce a script.
const FINAL: [&str; 5] = ["corrected", "fixed", "final", "full", "complete"];
/// What is announced.
const SCRIPT: [&str; 10] =
    ["version", "script", "code", "program", "solution", "implementation", "file", "listing", "answer", "one"];
/// What may be said besides in an announcement of two or three words.
const FILLER: [&str; 12] =
    ["the", "a", "my", "here", "here's", "is", "now", "so", "and", "python", "attempt", "result"];
/// No announcement: denied, wished, spoken of, or of one part among several.
const NOT_FINAL: [&str; 55] = [
    "not",
    "never",
    "no",
    "isn't",
    "wasn't",
    "don't",
    "doesn't",
    "without",
    "before",
    "until",
    "almost",
    "nearly",
    "would",
    "should",
    "could",
    "will",
    "i'll",
    "we'll",
    "must",
    "want",
    "need",
    "needs",
    "later",
    "above",
    "previous",
    "earlier",
    "part",
    "parts",
    "step",
    "steps",
    "files",
    "pieces",
    "blocks",
    "snippets",
    "first",
    "second",
    "two",
    "three",
    "option",
    "options",
    "alternative",
    "approach",
    "variant",
    "method",
    "excerpt",
    "instead",
    "incomplete",
    "if",
    "usage",
    "test",
    "tests",
    "output",
    "example",
    "examples",
    "cell",
];
/// In front of "the final script" they make it something else.
const OF: [&str; 10] = ["of", "for", "to", "from", "than", "into", "in", "with", "like", "as"];

fn announce(sentences: &[Sentence], label: &mut Label) {
    let Some(last) = sentences.last() else { return };
    let near: Vec<&Sentence> = last_paragraph(sentences).collect();
    // A heading right above the paragraph speaks of the block too.
    let heading = sentences.iter().rev().find(|it| it.paragraph < last.paragraph);
    let heading = heading.filter(|it| it.title && it.paragraph + 2 >= last.paragraph);
    let all = || near.iter().copied().chain(heading);
    label.announces = !all().any(|it| it.has(&NOT_FINAL)) && all().any(announces);
    label.piece = near.iter().any(|it| it.has(&PIECE));
}

/// Whether a sentence calls something corrected, final, full or complete.
fn announces(sentence: &Sentence) -> bool {
    let words = &sentence.words;
    let Some(at) = words.iter().position(|word| FINAL.contains(&word.as_str())) else { return false };
    let noun = words.iter().skip(at + 1).take(4).any(|word| SCRIPT.contains(&word.as_str()));
    let label =
        words.len() <= 4 && words.iter().all(|it| FINAL.contains(&it.as_str()) || FILLER.contains(&it.as_str()));
    // "Complete the script": a verb.
    let verb = matches!(sentence.word(at + 1), "the" | "this" | "your" | "a" | "it");
    let of = at.checked_sub(1).is_some_and(|before| OF.contains(&sentence.word(before)))
        || at
            .checked_sub(2)
            .is_some_and(|before| OF.contains(&sentence.word(before)) && sentence.word(at - 1) == "the");
    (noun || label) && !verb && !of
}

/// A block after such words belongs into other code, or calls it.
const PIECE: [&str; 17] = [
    "replace", "change", "add", "insert", "append", "line", "lines", "snippet", "excerpt", "usage", "call", "test",
    "example", "helper", "modify", "patch", "output",
];
/// What points to a block after the words, and to one that is neither right before nor right after.
const FORWARD: [&str; 3] = ["following", "below", "next"];
const ELSEWHERE: [&str; 12] = [
    "first", "second", "third", "former", "latter", "original", "earlier", "other", "both", "either", "neither", "last",
];

/// Whether a sentence right before a block is a title or introduction of it.
fn points_forward(sentence: &Sentence) -> bool {
    let back = sentence.has(&["above", "previous", "that", "that's"]);
    (sentence.colon || sentence.title || sentence.has(&FORWARD)) && !back
}

fn is_cell(sentence: &Sentence) -> bool {
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match sentence.word(0) {
        "in" => sentence.words.len() == 1 || sentence.words.len() == 2 && number(sentence.word(1)),
        "cell" => number(sentence.word(1)),
        _ => false,
    }
}

const BAD: [&str; 26] = [
    "wrong",
    "incorrect",
    "broken",
    "buggy",
    "bad",
    "faulty",
    "flawed",
    "insecure",
    "unsafe",
    "dangerous",
    "vulnerable",
    "mistaken",
    "obsolete",
    "outdated",
    "deprecated",
    "rejected",
    "discarded",
    "naive",
    "naïve",
    "invalid",
    "old",
    "❌",
    "✗",
    "✘",
    "🚫",
    "⛔",
];
const MARKS: [&str; 5] = ["❌", "✗", "✘", "🚫", "⛔"];
const KINDS: [&str; 13] = [
    "version",
    "way",
    "approach",
    "code",
    "script",
    "attempt",
    "solution",
    "implementation",
    "example",
    "one",
    "answer",
    "program",
    "variant",
];

/// Whether a sentence says that a block is not to be used; `title` for one that may be a mere title of it.
fn rejects(sentence: &Sentence, title: bool) -> bool {
    forbids(sentence) || blames(sentence) || takes_back(sentence) || title && is_bad_title(sentence)
}

/// "Wrong:", "❌ Bad way", "Old version".
fn is_bad_title(sentence: &Sentence) -> bool {
    let words: Vec<&str> =
        sentence.words.iter().map(String::as_str).filter(|it| !matches!(*it, "the" | "a" | "an")).collect();
    match words.as_slice() {
        [mark, ..] if MARKS.contains(mark) => true,
        [
            "avoid" | "don't" | "wrong" | "incorrect" | "bad" | "broken" | "buggy" | "rejected" | "discarded"
            | "deprecated",
        ] => true,
        ["not", "this" | "like", ..] | ["avoid", "this" | "it"] => words.len() <= 4,
        [bad, rest @ ..] if BAD.contains(bad) => {
            words.len() <= 5 && rest.first().is_some_and(|it| KINDS.contains(it) || BAD.contains(it))
        }
        [rest @ .., last] if BAD.contains(last) => {
            words.len() <= 4 && rest.iter().any(|it| KINDS.contains(it) || *it == "draft")
        }
        _ => false,
    }
}

/// What goes on after "it does not work", "it is wrong", "do not run it" so that it is said of a case, not of the block.
const CASES: [&str; 21] = [
    "to", "on", "with", "for", "if", "when", "in", "unless", "without", "under", "any", "a", "an", "the", "as",
    "before", "until", "from", "outside", "twice", "more",
];

/// "Do not use this", "never run the code above".
fn forbids(sentence: &Sentence) -> bool {
    let words = &sentence.words;
    words.iter().enumerate().any(|(at, word)| {
        let not = match word.as_str() {
            "don't" | "dont" | "never" | "shouldn't" | "mustn't" | "cannot" | "can't" => true,
            "not" => at == 0 || matches!(sentence.word(at - 1), "do" | "should" | "must" | "can" | "to" | "please"),
            _ => false,
        };
        let mut next = at + 1;
        while matches!(sentence.word(next), "ever" | "actually" | "just" | "simply" | "please" | "you" | "be") {
            next += 1;
        }
        let verb = matches!(
            sentence.word(next),
            "use" | "run" | "execute" | "copy" | "paste" | "try" | "submit" | "do" | "deploy" | "used" | "trust"
        );
        let object = sentence.word(next + 1);
        let of_the = matches!(object, "the" | "my")
            && matches!(
                sentence.word(next + 2),
                "following"
                    | "above"
                    | "code"
                    | "script"
                    | "version"
                    | "snippet"
                    | "first"
                    | "previous"
                    | "old"
                    | "original"
                    | "block"
                    | "below"
                    | "naive"
                    | "one"
                    | "program"
            );
        let passive = sentence.word(next) == "used" || sentence.word(next) == "run" && sentence.word(next - 1) == "be";
        let pronoun =
            matches!(object, "this" | "that" | "it" | "these" | "those") && !CASES.contains(&sentence.word(next + 2));
        not && verb && (passive || of_the || pronoun || object.is_empty())
    })
}

/// "That is wrong", "this version has a bug", "it does not work".
fn blames(sentence: &Sentence) -> bool {
    let words: Vec<&str> = sentence.words.iter().map(String::as_str).collect();
    let opening = [
        "but",
        "however",
        "wait",
        "oops",
        "no",
        "hmm",
        "actually",
        "sorry",
        "and",
        "unfortunately",
        "note",
        "ah",
        "oh",
        "so",
        "though",
        "because",
        "on",
        "second",
        "thought",
        "the",
        "code",
        "above",
        "version",
        "script",
        "attempt",
        "approach",
        "snippet",
        "previous",
        "my",
    ];
    let Some(subject) = words.iter().position(|it| !opening.contains(it)).map(|at| at.max(1)) else { return false };
    let subject = subject.min(words.len());
    let named = words.iter().take(subject).any(|it| ["above", "previous"].contains(it));
    let pronoun =
        words.iter().take(subject + 1).any(|it| matches!(*it, "this" | "that" | "it" | "which" | "that's" | "it's"));
    if !(named || pronoun) {
        return false;
    }
    let plain = |at: usize| {
        // "It does not work on Windows", "it is wrong to guess": said of a case, not of the block.
        let case =
            ["to", "on", "with", "for", "if", "when", "in", "unless", "without", "under", "any", "a", "an", "the"];
        words.get(at + 1).is_none_or(|next| !case.contains(next))
    };
    let denials = ["isn't", "wasn't", "not", "doesn't", "won't", "wouldn't", "didn't", "don't", "cannot", "can't"];
    if let Some(denied) = words.iter().position(|it| denials.contains(it)) {
        let good = ["right", "correct", "work", "run", "working", "compile", "valid"];
        let at = (denied + 1..denied + 3).find(|at| words.get(*at).is_some_and(|it| good.contains(it)));
        return at.is_some_and(plain) && !words.contains(&"only");
    }
    let is = ["is", "was", "that's", "it's", "still", "totally", "completely", "just", "plain", "actually"];
    let wrong = ["wrong", "incorrect", "broken", "buggy", "faulty", "flawed", "mistaken", "vulnerable", "insecure"];
    let has = ["has", "had", "contains", "was", "is"];
    words.iter().enumerate().any(|(at, word)| {
        let before = at.checked_sub(1).map_or("", |before| sentence.word(before));
        let fault = matches!(*word, "bug" | "mistake" | "flaw") || *word == "error" && at + 1 == words.len();
        wrong.contains(word) && is.contains(&before) && plain(at)
            || fault && matches!(before, "a" | "an") && words.iter().any(|it| has.contains(it))
    })
}

/// "Oops", "scratch that", "ignore the code above".
fn takes_back(sentence: &Sentence) -> bool {
    let words: Vec<&str> = sentence.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["oops" | "whoops"] => true,
        [.., "scratch" | "strike" | "forget" | "ignore" | "disregard" | "discard", "that" | "this" | "it"] => true,
        _ => words.windows(3).any(|three| {
            matches!(
                three,
                [
                    "ignore" | "disregard" | "discard" | "forget",
                    "the" | "that" | "this",
                    "above"
                        | "code"
                        | "script"
                        | "version"
                        | "block"
                        | "previous"
                        | "following"
                        | "first"
                        | "one"
                        | "attempt"
                ]
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The label of prose between two blocks.
    fn between(prose: &str) -> Label {
        read(&prose.lines().collect::<Vec<_>>(), false, false)
    }

    #[test]
    fn announcements() {
        for prose in [
            "Here is the final version:",
            "Here's the corrected script, which reads `a.csv`:",
            "Final:",
            "**Corrected code**",
            "## Full program",
            "## Final script\n\nIt reads the file.",
            "The complete,\nrunnable Python script:",
            "That was wrong. The fixed code:",
        ] {
            assert!(between(prose).announces, "{prose}");
        }
        for prose in [
            "",
            "Or:",
            "Here is another version:",
            "This is not the final version:",
            "The final version should use csv:",
            "I'll show the full script later:",
            "Part of the full script:",
            "An excerpt from the complete file:",
            "Complete the script like this:",
            "Full output:",
            "Final result of the run",
            "A full test of the code:",
            "Here is the final version.\n\nIts helper:",
            "The full script above prints it:",
            "Option 2, full version:",
            "## Final script\n\nIt reads.\n\nIt writes.\n\nAnd:",
        ] {
            assert!(!between(prose).announces, "{prose}");
        }
    }

    #[test]
    fn rejections() {
        for (prose, last, next) in [
            ("That is wrong.", true, false),
            ("This version has a bug. Instead:", true, false),
            ("Oops, that does not work.", true, false),
            ("Wait, that's incorrect: it prints twice.", true, false),
            ("Scratch that.", true, false),
            ("Ignore the code above.", true, false),
            ("Don't use this. Use:", true, false),
            ("Do not use the code above:", true, false),
            ("Don't use this:", false, true),
            ("Never run the following code:", false, true),
            ("Wrong:", false, true),
            ("### Bad example", false, true),
            ("❌ the naive way:", false, true),
            ("**Incorrect version**", false, true),
            ("The wrong way:", false, true),
            ("An old version:", false, true),
            ("It works.", false, false),
            ("This is not wrong.", false, false),
            ("I don't use pandas:", false, false),
            ("Bad rows are skipped:", false, false),
            ("Wrong input ends it:", false, false),
            ("The first one is wrong.", false, false),
            ("If this is slow, use:", false, false),
            ("It does not run any commands.", false, false),
            ("This does not work on Windows.", false, false),
            ("It is wrong to guess here.", false, false),
            ("This is naive but short.", false, false),
            ("Don't run this as root.", false, false),
            ("Do not use it in production:", false, false),
            ("This should not be used.", true, false),
            ("It has an error message for each row.", false, false),
            ("That still does not work, because of the sign.", true, false),
            ("It handles broken lines:", false, false),
            ("Not only this works:", false, false),
            ("Or:", false, false),
        ] {
            let label = between(prose);
            assert_eq!((label.rejects_last, label.rejects_next), (last, next), "{prose}");
        }
    }

    #[test]
    fn code_that_rejects_itself() {
        for (code, rejected) in [
            ("# WRONG\nx = 1", true),
            ("\n# Don't use this!\nx = 1", true),
            ("# bad version: slow", true),
            ("# wrong rows are skipped\nx = 1", false),
            ("x = 1  # wrong", false),
            ("#!/usr/bin/env python3\nx = 1", false),
            ("", false),
        ] {
            assert_eq!(rejects_itself(code), rejected, "{code}");
        }
    }

    #[test]
    fn names_of_files() {
        let found: Vec<String> = files("Save `src/Main.py`, a.pyc and b.py.").collect();
        assert_eq!(found, ["main.py", "b.py"]);
        assert_eq!(files(".py x.txt").count(), 0);
    }
}
