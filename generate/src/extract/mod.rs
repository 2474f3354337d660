//! A script out of the text of a complete answer.
//!
//! The rules: line ends become LF, reasoning at the start goes; a script is a fenced block of CommonMark that says Python, or else one
//! that says nothing, or else the whole answer. It must parse as the interpreter parses, and do something. A block that ends inside a
//! string at its first closing fence ends at the first later one where it parses. Among several scripts the one that was just announced
//! as corrected, final, full or complete is taken, those just rejected are not; otherwise nothing is. No text is repaired, and no two
//! blocks are joined: what [`extract`] gives is one piece of the answer, without the indentation of the list or quote it stands in.
//!
//! Asking once more is a small fault, running the wrong code a large one. So where an answer gives reason to doubt, for example when
//! the block announced as final does not parse, the result is [`Extraction::Again`].

mod fences;
mod label;
mod thinking;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use self::fences::{Fence, Scanner};
use self::label::Label;
use self::thinking::Turn;

/// The longest answer that is looked at, in bytes.
pub const MOST_ANSWER_BYTES: usize = 1 << 20;
/// The most blocks that may be Python, and the most texts that are parsed for one answer.
pub const MOST_TEXTS: usize = 1_024;
/// The most bytes that are parsed for one answer, a text with several possible ends counting for each.
pub const MOST_PARSED_BYTES: usize = 4 << 20;
/// The most blocks of one answer that may end later than at their first closing fence.
pub const MOST_LONGER_BLOCKS: usize = 32;
/// Ends of a block that are tried at a time.
const ENDS_AT_ONCE: usize = 8;

/// What an interpreter says about a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It parses, and does something.
    Script,
    /// It parses, and is nothing but lone values, names, annotations or comments.
    Trivial,
    /// It parses, but not as a script of its own: a `return` outside of a function, a lone name that nothing defines.
    Fragment {
        /// Line of the text, from 1.
        line: u32,
        /// What the interpreter says.
        message: String,
    },
    /// It does not parse.
    Invalid {
        /// Line of the text, from 1.
        line: u32,
        /// What the interpreter says.
        message: String,
        /// Whether it ends inside a triple-quoted string, so that more text may mend it.
        unfinished: bool,
    },
    /// The interpreter did not come to an end with it, or with those before it.
    Unknown,
}

/// Parses texts as the interpreter does that will run the script.
pub trait Parser {
    /// Why it could not look at the texts at all. What a text makes the interpreter do is no error.
    type Error;

    /// Looks at each text by itself; the results are in the order of the texts.
    ///
    /// # Errors
    ///
    /// If there is no interpreter.
    fn parse(&mut self, texts: &[&str]) -> Result<Vec<Parsed>, Self::Error>;
}

impl<P: Parser + ?Sized> Parser for &mut P {
    type Error = P::Error;

    fn parse(&mut self, texts: &[&str]) -> Result<Vec<Parsed>, Self::Error> {
        (**self).parse(texts)
    }
}

/// What an answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extraction {
    /// The script.
    Script {
        /// Its text, with LF line ends and one at its end.
        text: String,
    },
    /// No script, or none for certain. The model is to be asked again.
    Again {
        /// Why, in words for the model.
        why: Why,
    },
}

/// Why an answer gives no script.
///
/// Its text is a sentence to the model that wrote the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is nothing in it.
    Empty,
    /// It is longer than [`MOST_ANSWER_BYTES`].
    TooLarge,
    /// It has more blocks than are looked at, or such that the interpreter gives up.
    TooMuch,
    /// It is reasoning without an end.
    OnlyReasoning,
    /// It has no block of code, and is no script as a whole.
    NoBlock,
    /// All blocks are of other languages.
    OtherLanguages,
    /// What blocks there are do nothing.
    Trivial,
    /// The block that should be the script does not parse, or could not run.
    Invalid {
        /// Line of the block, from 1.
        line: u32,
        /// What the interpreter says.
        message: String,
    },
    /// The answer itself rejects what blocks it has.
    Rejected,
    /// Several different blocks could be meant.
    Ambiguous {
        /// How many.
        blocks: usize,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("The answer is empty.")?,
            Self::TooLarge => write!(f, "The answer is longer than {} KiB.", MOST_ANSWER_BYTES >> 10)?,
            Self::TooMuch => {
                f.write_str("The answer has too many blocks, or too large ones, to find the script among them.")?
            }
            Self::OnlyReasoning => f.write_str("The answer ends within its reasoning.")?,
            Self::NoBlock => f.write_str("The answer has no fenced block of code.")?,
            Self::OtherLanguages => f.write_str("No fenced block of the answer is marked as Python.")?,
            Self::Trivial => {
                f.write_str("The Python of the answer does nothing: it only names or describes values.")?
            }
            Self::Invalid { line, message } => {
                write!(f, "The Python of the answer cannot run. Line {line} of the block: {message}.")?;
            }
            Self::Rejected => f.write_str("The answer says of its only script that it is not to be used.")?,
            Self::Ambiguous { blocks } => {
                write!(
                    f,
                    "The answer has {blocks} different Python blocks, and does not say which one is the whole script."
                )?;
            }
        }
        f.write_str(" Answer with exactly one fenced block, marked ```python, that holds the whole script.")
    }
}

impl Why {
    /// The name in JSON: kebab-case is not used, `only_reasoning`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::TooMuch => "too_much",
            Self::OnlyReasoning => "only_reasoning",
            Self::NoBlock => "no_block",
            Self::OtherLanguages => "other_languages",
            Self::Trivial => "trivial",
            Self::Invalid { .. } => "invalid",
            Self::Rejected => "rejected",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }
}

/// Finds the script in the text of a complete answer.
///
/// # Errors
///
/// Those of the parser.
pub fn extract<P: Parser>(answer: &str, parser: &mut P) -> Result<Extraction, P::Error> {
    if answer.len() > MOST_ANSWER_BYTES {
        return Ok(Extraction::Again { why: Why::TooLarge });
    }
    let answer = answer.strip_prefix('\u{feff}').unwrap_or(answer).replace("\r\n", "\n").replace('\r', "\n");
    if answer.trim().is_empty() {
        return Ok(Extraction::Again { why: Why::Empty });
    }
    let Some(text) = thinking::strip(&answer) else { return Ok(Extraction::Again { why: Why::OnlyReasoning }) };
    let mut texts = Texts { parser, known: HashMap::new(), bytes: 0, exhausted: false };
    let mut found = from_text(text, &mut texts)?;
    if texts.exhausted {
        found = Err(Why::TooMuch);
    }
    Ok(match found {
        Ok(text) => Extraction::Script { text },
        Err(why) => Extraction::Again { why },
    })
}

/// How many blocks are looked at together with the whole answer, and the longest of them in bytes.
const MOST_AHEAD: usize = 8;
const LONGEST_AHEAD: usize = 16 << 10;

/// What the parser said about texts, and how much it was asked.
struct Texts<'a, P> {
    parser: &'a mut P,
    known: HashMap<String, Parsed>,
    bytes: usize,
    /// Whether some text could not be looked at.
    exhausted: bool,
}

impl<P: Parser> Texts<'_, P> {
    /// Looks at those texts that are not known yet, all at once.
    fn look<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) -> Result<(), P::Error> {
        let mut fresh = BTreeSet::new();
        for text in texts {
            if self.known.contains_key(text) || !fresh.insert(text) {
                continue;
            }
            self.bytes = self.bytes.saturating_add(text.len());
            if self.bytes > MOST_PARSED_BYTES || self.known.len() + fresh.len() > MOST_TEXTS {
                self.exhausted = true;
                return Ok(());
            }
        }
        let fresh: Vec<&str> = fresh.into_iter().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let parsed = self.parser.parse(&fresh)?;
        self.exhausted |= parsed.len() != fresh.len() || parsed.contains(&Parsed::Unknown);
        self.known.extend(fresh.into_iter().map(str::to_owned).zip(parsed));
        Ok(())
    }

    /// What is known about a text.
    fn get(&self, text: &str) -> &Parsed {
        self.known.get(text).unwrap_or(&Parsed::Unknown)
    }
}

/// What a block is written in, by the first word of its info string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Python,
    Untold,
    Other,
}

fn language(info: &str) -> Language {
    let braces = info.strip_prefix('{');
    let attributes = braces.and_then(|inner| inner.split_whitespace().find(|word| word.starts_with('.')));
    let word = attributes.or(braces).unwrap_or(info).trim_start();
    let word = word.strip_prefix('.').unwrap_or(word);
    let word = word
        .split(|it: char| it.is_whitespace() || matches!(it, ',' | ':' | '{' | '}' | ';'))
        .next()
        .unwrap_or_default();
    let word = word.to_ascii_lowercase();
    let version = |rest: &str| {
        rest.is_empty() || rest == "3" || rest.strip_prefix("3.").is_some_and(|minor| minor.parse::<u8>().is_ok())
    };
    match word.strip_prefix("python").or_else(|| word.strip_prefix("py")) {
        Some(rest) if version(rest) => Language::Python,
        _ if info.is_empty() => Language::Untold,
        _ => Language::Other,
    }
}

/// The script in an answer without reasoning at its start.
fn from_text<P: Parser>(text: &str, texts: &mut Texts<'_, P>) -> Result<Result<String, Why>, P::Error> {
    let mut lines: Vec<&str> = text.split_terminator('\n').collect();
    if let Some(script) = whole_answer(&lines, texts)? {
        return Ok(Ok(script));
    }
    let rest;
    // Reasoning whose opening tag is part of the model's template, so that the answer has only the closing one.
    if let Some(after) = after_reasoning(&lines) {
        rest = after;
        lines = rest.split_terminator('\n').collect();
        if let Some(script) = whole_answer(&lines, texts)? {
            return Ok(Ok(script));
        }
    }
    let Some(fences) = fences(&lines, texts)? else { return Ok(Err(Why::TooMuch)) };
    let blocks = blocks(&lines, &fences, texts);
    Ok(match fences.iter().find(|fence| language(fence.info()) == Language::Other) {
        _ if fences.is_empty() => Err(Why::NoBlock),
        Some(_) if blocks.is_empty() => Err(Why::OtherLanguages),
        _ => choose(&blocks),
    })
}

/// The answer as a whole, if it is a script. Fences can only stand inside its strings.
fn whole_answer<P: Parser>(lines: &[&str], texts: &mut Texts<'_, P>) -> Result<Option<String>, P::Error> {
    fn filled(line: &&str) -> bool {
        !line.trim().is_empty()
    }
    let Some(begin) = lines.iter().position(filled) else { return Ok(None) };
    let end = lines.iter().rposition(filled).map_or(begin, |last| last + 1);
    let fence = Scanner::new(lines).next().map(|fence| fence.start);
    if fence == Some(begin) {
        return Ok(None);
    }
    let text =
        |to: usize| lines.get(begin..to).unwrap_or_default().iter().flat_map(|line| [*line, "\n"]).collect::<String>();
    let whole = text(end);
    let before = fence.map(&text);
    // Blocks that will be asked for if it is none are looked at in the same run, which is most of what a short answer costs.
    let blocks: Vec<Fence<'_>> = Scanner::new(lines).take(MOST_AHEAD).filter(|it| may_be_python(it)).collect();
    let ahead = blocks.iter().map(|it| &*it.content).filter(|it| it.len() <= LONGEST_AHEAD);
    texts.look(std::iter::once(&*whole).chain(before.as_deref()).chain(ahead))?;
    let inside = before.is_none_or(|before| matches!(texts.get(&before), Parsed::Invalid { unfinished: true, .. }));
    Ok((inside && *texts.get(&whole) == Parsed::Script).then_some(whole))
}

/// What comes after reasoning that ends outside of blocks and did not begin.
fn after_reasoning(lines: &[&str]) -> Option<String> {
    let mut end = None;
    let mut thinks = false;
    for (number, line) in prose(lines, &Scanner::new(lines).collect::<Vec<_>>()).flatten() {
        for turn in thinking::turns(line) {
            match turn {
                Turn::Ends(at) if !thinks => end = Some((number, at)),
                Turn::Ends(_) => thinks = false,
                Turn::Begins => thinks = true,
            }
        }
    }
    let (number, at) = end?;
    let after = lines.get(number)?.get(at..)?;
    Some(std::iter::once(after).chain(lines.get(number + 1..)?.iter().copied()).flat_map(|line| [line, "\n"]).collect())
}

/// The numbered lines in front of each block and, last, after all of them.
fn prose<'l>(
    lines: &'l [&'l str],
    fences: &'l [Fence<'_>],
) -> impl Iterator<Item = impl Iterator<Item = (usize, &'l str)>> {
    (0..=fences.len()).map(move |index| {
        let from = index.checked_sub(1).and_then(|before| fences.get(before)).map_or(0, |fence| fence.end);
        let to = fences.get(index).map_or(lines.len(), |fence| fence.start);
        (from..).zip(lines.get(from..to).unwrap_or_default().iter().copied())
    })
}

/// Whether a block is none of another language, and holds something.
fn may_be_python(fence: &Fence<'_>) -> bool {
    language(fence.info()) != Language::Other && !fence.content.trim().is_empty()
}

/// The blocks of an answer, those of Python with the end at which they parse; `None` if there are too many of them.
fn fences<'l, P: Parser>(lines: &'l [&'l str], texts: &mut Texts<'_, P>) -> Result<Option<Vec<Fence<'l>>>, P::Error> {
    let mut scanner = Scanner::new(lines);
    let mut settled: Vec<Fence<'l>> = Vec::new();
    for _ in 0..=MOST_LONGER_BLOCKS {
        let found: Vec<Fence<'l>> = scanner.clone().collect();
        let python = |fence: &&Fence<'l>| may_be_python(fence);
        if found.iter().filter(python).count() > MOST_TEXTS {
            return Ok(None);
        }
        texts.look(found.iter().filter(python).map(|fence| &*fence.content))?;
        let mut longer = None;
        for mut fence in found {
            let unfinished = matches!(texts.get(&fence.content), Parsed::Invalid { unfinished: true, .. });
            if unfinished && fence.closed && python(&&fence) {
                longer = later_end(&scanner, &fence, texts)?;
            }
            if texts.exhausted {
                return Ok(None);
            }
            if let Some((content, end)) = &mut longer {
                fence.content = std::mem::take(content);
                fence.end = *end;
                scanner.resume(&fence, *end);
            }
            settled.push(fence);
            if longer.is_some() {
                break;
            }
        }
        if longer.is_none() {
            return Ok(Some(settled));
        }
    }
    Ok(None)
}

/// The content of a block up to the first later end where it parses, and the first line after that.
fn later_end<P: Parser>(
    scanner: &Scanner<'_>,
    fence: &Fence<'_>,
    texts: &mut Texts<'_, P>,
) -> Result<Option<(String, usize)>, P::Error> {
    let (content, ends) = scanner.later_ends(fence);
    let until = |bytes: usize| content.get(..bytes).unwrap_or_default();
    for some in ends.chunks(ENDS_AT_ONCE) {
        texts.look(some.iter().map(|end| until(end.bytes)))?;
        for end in some {
            match texts.get(until(end.bytes)) {
                Parsed::Invalid { unfinished: true, .. } => {}
                // No later line can mend this: a fence is no Python outside of a string.
                Parsed::Invalid { .. } | Parsed::Unknown => return Ok(None),
                Parsed::Script | Parsed::Trivial | Parsed::Fragment { .. } => {
                    return Ok(Some((until(end.bytes).to_owned(), end.end)));
                }
            }
        }
    }
    Ok(None)
}

/// A block that may be the script.
struct Block<'a> {
    text: &'a str,
    language: Language,
    parsed: &'a Parsed,
    label: Label,
    rejected: bool,
    /// Whether it stands in reasoning in the middle of the answer.
    thought: bool,
    /// Names of files that it seems to be for.
    files: BTreeSet<String>,
}

impl Block<'_> {
    /// What two blocks that are the same have in common.
    fn key(&self) -> &str {
        self.text.trim_end_matches('\n')
    }

    fn competes(&self) -> bool {
        matches!(self.parsed, Parsed::Script | Parsed::Fragment { .. })
    }

    fn lines(&self) -> usize {
        self.text.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

/// Languages of programs: where one of them is there, a block that says nothing is not taken for Python.
const PROGRAMS: [&str; 24] = [
    "javascript",
    "js",
    "typescript",
    "ts",
    "jsx",
    "tsx",
    "java",
    "c",
    "cpp",
    "c++",
    "csharp",
    "cs",
    "go",
    "rust",
    "rs",
    "ruby",
    "rb",
    "php",
    "perl",
    "r",
    "julia",
    "lua",
    "kotlin",
    "swift",
];

fn blocks<'t, P: Parser>(lines: &[&str], fences: &'t [Fence<'_>], texts: &'t Texts<'_, P>) -> Vec<Block<'t>> {
    let prose: Vec<Vec<&str>> = prose(lines, fences).map(|lines| lines.map(|(_, line)| line).collect()).collect();
    let label =
        |at: usize| prose.get(at).map_or_else(Label::default, |it| label::read(it, at == 0, at == fences.len()));
    let programs = fences.iter().any(|fence| PROGRAMS.contains(&&*fence.info().to_ascii_lowercase()));
    let mut thought = false;
    let mut blocks = Vec::new();
    for (at, (fence, before)) in fences.iter().zip(&prose).enumerate() {
        for turn in before.iter().flat_map(|line| thinking::turns(line)) {
            thought = turn == Turn::Begins;
        }
        let (info, language) = (fence.info(), language(fence.info()));
        let other = language == Language::Other || programs && language == Language::Untold;
        if other || fence.content.trim().is_empty() {
            continue;
        }
        let (label, after) = (label(at), label(at + 1));
        let nearest = label::tail(before).into_iter().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let comment = fence.content.lines().next().filter(|line| line.starts_with('#')).unwrap_or_default();
        blocks.push(Block {
            text: &fence.content,
            language,
            parsed: texts.get(&fence.content),
            label,
            rejected: label.rejects_next || after.rejects_last || label::rejects_itself(&fence.content),
            thought,
            files: [info, nearest, comment].into_iter().flat_map(label::files).collect(),
        });
    }
    blocks
}

/// Blocks of the same text.
#[derive(Default)]
struct Group<'b> {
    blocks: Vec<&'b Block<'b>>,
}

impl Group<'_> {
    fn rejected(&self) -> bool {
        self.blocks.iter().any(|block| block.rejected)
    }

    fn announced(&self) -> bool {
        self.blocks.iter().any(|block| block.label.announces && !block.thought && !block.rejected)
    }
}

/// The script among the blocks.
fn choose(blocks: &[Block<'_>]) -> Result<String, Why> {
    let mut rejected = false;
    for language in [Language::Python, Language::Untold] {
        let groups = groups(blocks, language);
        let alive: Vec<&Group<'_>> = groups.iter().filter(|group| !group.rejected()).collect();
        rejected |= alive.len() < groups.len();
        let ambiguous = Err(Why::Ambiguous { blocks: groups.len() });
        if groups.iter().any(|group| group.rejected() && group.announced()) {
            return ambiguous;
        }
        let announced: Vec<&Group<'_>> = alive.iter().copied().filter(|group| group.announced()).collect();
        let chosen = match (alive.as_slice(), announced.as_slice()) {
            ([], _) => continue,
            ([only], _) => only,
            (_, [only]) if !several_files(&alive) => only,
            _ => return ambiguous,
        };
        let Some(block) = chosen.blocks.first() else { return ambiguous };
        let piece = groups.len() > 1 && !chosen.announced() && chosen.blocks.iter().any(|block| block.label.piece);
        let cells = blocks.iter().filter(|it| it.language == language && it.label.cell).count() > 1;
        if piece || cells || chosen.blocks.iter().all(|block| block.thought) {
            return ambiguous;
        }
        if let Parsed::Fragment { line, message } = block.parsed {
            return Err(Why::Invalid { line: *line, message: message.clone() });
        }
        doubt(blocks, chosen, block)?;
        return Ok(block.text.to_owned());
    }
    Err(match blocks.iter().find(|block| matches!(block.parsed, Parsed::Invalid { .. })) {
        _ if rejected => Why::Rejected,
        Some(block) => why_invalid(block),
        None => Why::Trivial,
    })
}

fn groups<'b>(blocks: &'b [Block<'b>], language: Language) -> Vec<Group<'b>> {
    let mut groups: Vec<Group<'b>> = Vec::new();
    let mut index = HashMap::new();
    for block in blocks.iter().filter(|block| block.language == language && block.competes()) {
        let at = *index.entry(block.key()).or_insert(groups.len());
        if at == groups.len() {
            groups.push(Group::default());
        }
        if let Some(group) = groups.get_mut(at) {
            group.blocks.push(block);
        }
    }
    groups
}

/// Whether blocks are for different files.
fn several_files(groups: &[&Group<'_>]) -> bool {
    groups.iter().flat_map(|group| &group.blocks).flat_map(|block| &block.files).collect::<BTreeSet<_>>().len() > 1
}

fn why_invalid(block: &Block<'_>) -> Why {
    match block.parsed {
        Parsed::Invalid { line, message, .. } | Parsed::Fragment { line, message } => {
            Why::Invalid { line: *line, message: message.clone() }
        }
        Parsed::Script | Parsed::Trivial | Parsed::Unknown => Why::TooMuch,
    }
}

/// Reasons in other blocks not to take the one that was chosen: what does not parse may have been meant.
fn doubt(blocks: &[Block<'_>], chosen: &Group<'_>, block: &Block<'_>) -> Result<(), Why> {
    let mut chosen_announced = false;
    for other in blocks {
        if other.key() == block.key() {
            chosen_announced |= other.label.announces;
            continue;
        }
        if other.rejected || other.thought {
            continue;
        }
        let tagged = other.language == Language::Python;
        match other.parsed {
            Parsed::Invalid { .. } if is_shell(other.text) => {}
            Parsed::Invalid { .. } => {
                let announced = other.label.announces && (!chosen.announced() || chosen_announced);
                let larger =
                    !chosen.announced() && other.lines() > block.lines() && (tagged || looks_like_python(other.text));
                let before_untold = tagged && block.language == Language::Untold;
                if announced || larger || before_untold || tagged && has_magic(other.text) {
                    return Err(why_invalid(other));
                }
            }
            // "Final version:" without a word about its language, beside a draft that has one.
            Parsed::Script | Parsed::Fragment { .. } if other.language != block.language => {
                if other.label.announces && !chosen.announced() {
                    return Err(Why::Ambiguous { blocks: 2 });
                }
            }
            Parsed::Script | Parsed::Fragment { .. } | Parsed::Trivial | Parsed::Unknown => {}
        }
    }
    Ok(())
}

/// Commands that are often shown in blocks marked as Python.
const COMMANDS: [&str; 20] = [
    "pip", "pip3", "python", "python3", "py", "$", "%", "conda", "uv", "pipx", "poetry", "cd", "apt", "apt-get",
    "sudo", "brew", "export", "source", "mkdir", "git",
];

fn filled_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a block is nothing but commands for a shell, or a transcript.
fn is_shell(text: &str) -> bool {
    let transcript = filled_lines(text).next().is_some_and(|line| line.starts_with(">>>"));
    let command = |line: &str| {
        line.starts_with(['!', '%']) || line.split_whitespace().next().is_some_and(|word| COMMANDS.contains(&word))
    };
    transcript || filled_lines(text).all(command)
}

/// Whether a line is a command to a notebook.
fn has_magic(text: &str) -> bool {
    filled_lines(text).any(|line| line.starts_with(['!', '%']))
}

/// Whether some line begins as lines of Python do and those of other texts seldom.
fn looks_like_python(text: &str) -> bool {
    const BEGINNINGS: [&str; 7] = ["import ", "from ", "def ", "class ", "print(", "if __name__", "with open("];
    filled_lines(text).any(|line| BEGINNINGS.iter().any(|it| line.starts_with(it)))
}
