//! Regular expressions that can take exponential time: a repetition of something that can match the same text in more
//! than one way, followed by something that can fail.

use super::ast::Place;
use super::machine::Machine;
use super::value::{Args, Value};
use crate::rules;

/// Looks at the pattern given to a function of `re`.
pub(super) fn applied(machine: &mut Machine<'_>, args: &Args, name: &str, place: Place) {
    if matches!(name, "escape" | "purge" | "template") {
        return;
    }
    let Some(pattern) = args.plain.first().or_else(|| args.key("pattern")) else { return };
    let bad = pattern.each().iter().any(|pattern| match pattern {
        Value::Str(text) => is_catastrophic(text, name == "fullmatch"),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).is_ok_and(|text| is_catastrophic(text, name == "fullmatch")),
        _ => false,
    });
    if bad {
        machine.report(
            rules::catastrophic_regex,
            place,
            "a pattern that can take exponential time: what it repeats can match in more than one way",
        );
    }
}

/// Characters, as far as is told apart: ASCII one by one, the rest together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Set(u128, bool);

impl Set {
    const ALL: Self = Self(u128::MAX, true);
    const NONE: Self = Self(0, false);

    fn one(c: char) -> Self {
        if c.is_ascii() { Self(1 << (c as u32), false) } else { Self(0, true) }
    }

    fn range(low: char, high: char) -> Self {
        let mut set = Self(0, !high.is_ascii());
        for code in low as u32..=(high as u32).min(127) {
            set.0 |= 1 << code;
        }
        set
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0, self.1 || other.1)
    }

    fn not(self) -> Self {
        Self(!self.0, !self.1)
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0 || (self.1 && other.1)
    }

    fn class(letter: char) -> Option<Self> {
        let digits = Self::range('0', '9');
        let spaces = " \t\n\r\u{b}\u{c}".chars().fold(Self::NONE, |set, c| set.or(Self::one(c)));
        let words = Self::range('a', 'z').or(Self::range('A', 'Z')).or(digits).or(Self::one('_')).or(Self(0, true));
        Some(match letter {
            'd' => digits,
            'D' => digits.not(),
            's' => spaces,
            'S' => spaces.not(),
            'w' => words,
            'W' => Self(words.not().0, true),
            _ => return None,
        })
    }
}

enum Node {
    Set(Set),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    /// What is repeated, whether it may be left out, and whether without bound.
    Repeat(Box<Node>, bool, bool),
    /// Matches at a place and takes nothing.
    Empty,
}

struct Reader<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    depth: usize,
    left: usize,
}

const DEEPEST_PATTERN: usize = 40;
const LONGEST_PATTERN: usize = 20_000;

/// Whether a pattern is of that kind. `whole`: it has to match to the end.
pub(super) fn is_catastrophic(pattern: &str, whole: bool) -> bool {
    if pattern.len() > LONGEST_PATTERN || !pattern.contains(['*', '+', '{']) {
        return false;
    }
    let mut reader = Reader { chars: pattern.chars().peekable(), depth: 0, left: LONGEST_PATTERN };
    let node = reader.either();
    ambiguous(&node, whole)
}

impl Reader<'_> {
    fn either(&mut self) -> Node {
        self.depth += 1;
        let mut branches = vec![self.sequence()];
        while self.chars.next_if_eq(&'|').is_some() {
            branches.push(self.sequence());
        }
        self.depth -= 1;
        match branches.len() {
            1 => branches.pop().unwrap_or(Node::Empty),
            _ => Node::Either(branches),
        }
    }

    fn sequence(&mut self) -> Node {
        let mut items = Vec::new();
        while let Some(c) = self.chars.peek().copied() {
            if c == '|' || c == ')' && self.depth > 1 || self.left == 0 {
                break;
            }
            self.left -= 1;
            self.chars.next();
            let item = self.atom(c);
            let item = self.repeated(item);
            items.push(item);
        }
        Node::Sequence(items)
    }

    fn repeated(&mut self, mut item: Node) -> Node {
        for _ in 0..3 {
            let (optional, endless) = match self.chars.peek() {
                Some('*') => (true, true),
                Some('+') => (false, true),
                Some('?') => (true, false),
                Some('{') => {
                    let rest: String = self.chars.clone().skip(1).take_while(|c| *c != '}').take(24).collect();
                    let valid = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == ',');
                    if !valid {
                        return item;
                    }
                    for _ in 0..rest.chars().count() + 1 {
                        self.chars.next();
                    }
                    let (low, high) =
                        rest.split_once(',').map_or((rest.as_str(), Some(rest.as_str())), |(low, high)| {
                            (low, (!high.is_empty()).then_some(high))
                        });
                    let many = high.is_none_or(|high| high.parse::<u32>().is_ok_and(|high| high >= 20));
                    (low.is_empty() || low == "0", many)
                }
                _ => return item,
            };
            self.chars.next();
            // A lazy repetition backtracks as any; a possessive one does not.
            let possessive = self.chars.next_if_eq(&'+').is_some();
            self.chars.next_if_eq(&'?');
            item = Node::Repeat(Box::new(item), optional, endless && !possessive);
        }
        item
    }

    fn atom(&mut self, c: char) -> Node {
        match c {
            '.' => Node::Set(Set::one('\n').not()),
            '^' | '$' => Node::Empty,
            '[' => Node::Set(self.brackets()),
            '\\' => match self.chars.next() {
                Some('b' | 'B' | 'A' | 'Z' | 'z') | None => Node::Empty,
                Some(letter) => match Set::class(letter) {
                    Some(set) => Node::Set(set),
                    None if letter.is_ascii_digit() => Node::Set(Set::ALL),
                    None => Node::Set(Set::one(escaped(letter))),
                },
            },
            '(' if self.depth < DEEPEST_PATTERN => {
                let mut takes = true;
                let mut atomic = false;
                if self.chars.next_if_eq(&'?').is_some() {
                    match self.chars.next() {
                        Some('P') => match self.chars.next() {
                            Some('<') => while self.chars.next().is_some_and(|c| c != '>') {},
                            _ => while self.chars.next_if(|c| *c != ')').is_some() {},
                        },
                        Some('=' | '!') => takes = false,
                        Some('<') => {
                            takes = false;
                            self.chars.next();
                        }
                        Some('>') => atomic = true,
                        Some('#') => while self.chars.next_if(|c| *c != ')').is_some() {},
                        Some(':') | None => {}
                        Some(_) => while self.chars.next_if(|c| *c != ':' && *c != ')').is_some() {},
                    }
                }
                let inner = self.either();
                self.chars.next_if_eq(&')');
                if takes && !atomic { inner } else { Node::Empty }
            }
            c => Node::Set(Set::one(c)),
        }
    }

    fn brackets(&mut self) -> Set {
        let negative = self.chars.next_if_eq(&'^').is_some();
        let mut set = Set::NONE;
        let mut first = true;
        while let Some(c) = self.chars.next() {
            if c == ']' && !first {
                break;
            }
            first = false;
            let (low, class) = match c {
                '\\' => match self.chars.next() {
                    Some(letter) => (escaped(letter), Set::class(letter)),
                    None => break,
                },
                c => (c, None),
            };
            if let Some(class) = class {
                set = set.or(class);
                continue;
            }
            let mut after = self.chars.clone();
            if after.next() == Some('-')
                && let Some(high) = after.next().filter(|high| *high != ']')
            {
                self.chars = after;
                let high = if high == '\\' { self.chars.next().map_or('\\', escaped) } else { high };
                set = set.or(Set::range(low, high));
            } else {
                set = set.or(Set::one(low));
            }
        }
        if negative { set.not() } else { set }
    }
}

fn escaped(letter: char) -> char {
    match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}

/// Whether it can match nothing.
fn nullable(node: &Node) -> bool {
    match node {
        Node::Set(_) => false,
        Node::Empty => true,
        Node::Sequence(items) => items.iter().all(nullable),
        Node::Either(branches) => branches.iter().any(nullable),
        Node::Repeat(inner, optional, _) => *optional || nullable(inner),
    }
}

/// Every character it can take.
fn characters(node: &Node) -> Set {
    match node {
        Node::Set(set) => *set,
        Node::Empty => Set::NONE,
        Node::Sequence(parts) | Node::Either(parts) => {
            parts.iter().fold(Set::NONE, |set, part| set.or(characters(part)))
        }
        Node::Repeat(inner, _, _) => characters(inner),
    }
}

/// A single set, however it is wrapped.
fn single(node: &Node) -> Option<Set> {
    match node {
        Node::Set(set) => Some(*set),
        Node::Sequence(items) => match items.as_slice() {
            [one] => single(one),
            _ => None,
        },
        Node::Repeat(inner, _, true) => single(inner),
        _ => None,
    }
}

/// `followed`: something that can fail comes after.
fn ambiguous(node: &Node, followed: bool) -> bool {
    match node {
        Node::Set(_) | Node::Empty => false,
        Node::Either(branches) => branches.iter().any(|branch| ambiguous(branch, followed)),
        Node::Sequence(items) => items.iter().enumerate().any(|(index, item)| {
            let rest = items.get(index + 1..).unwrap_or_default();
            // `$` and `\b` can fail too, and so can anything that takes a character.
            let followed = followed || rest.iter().any(|item| matches!(item, Node::Empty) || !nullable(item));
            ambiguous(item, followed)
        }),
        Node::Repeat(inner, _, endless) => (*endless && followed && repeats_badly(inner)) || ambiguous(inner, followed),
    }
}

/// Whether an endless repetition of it can split the same text in many ways.
fn repeats_badly(node: &Node) -> bool {
    match node {
        Node::Set(_) | Node::Empty => false,
        Node::Repeat(inner, _, endless) => *endless && !matches!(**inner, Node::Empty),
        Node::Either(branches) => {
            let overlap = branches.iter().enumerate().any(|(index, one)| {
                branches.get(index + 1..).unwrap_or_default().iter().any(|two| match (single(one), single(two)) {
                    (Some(a), Some(b)) => a.meets(b),
                    _ => false,
                })
            });
            overlap || branches.iter().any(repeats_badly)
        }
        Node::Sequence(items) => {
            if let [one] = items.as_slice() {
                return repeats_badly(one);
            }
            items.iter().enumerate().any(|(index, item)| {
                let Node::Repeat(inner, _, true) = item else { return false };
                let own = characters(inner);
                // Whatever has to stand between two rounds must not look like what is repeated.
                items.iter().enumerate().all(|(other, item)| {
                    other == index || nullable(item) || characters(item).meets(own) && single(item).is_some()
                })
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_catastrophic;

    #[test]
    fn patterns_that_repeat_ambiguously_are_found() {
        for bad in [
            r"(a+)+$",
            r"^(\w+\s?)*$",
            r"(a|a)*b",
            r"(.*)*x",
            r"^(([a-z])+.)+[A-Z]([a-z])+$",
            r"(\d|\w)+!",
            r"(x+x+)+y",
            r"^(?:a*)*$",
            r"([a-zA-Z]+)*\d",
            r"(?P<n>\s*\w*)*;",
            r"(a{1,})+b",
        ] {
            assert!(is_catastrophic(bad, false), "{bad}");
        }
    }

    #[test]
    fn ordinary_patterns_are_not() {
        for good in [
            r"(\d+)-(\w+)",
            r"^[\w.+-]+@[\w-]+\.[\w.]+$",
            r"(\w+,)*\w+$",
            r"(foo|bar)+$",
            r"\s*(\d+)\s*",
            r"(a+)+",
            r"^(\d{1,3}\.){3}\d{1,3}$",
            r"(?:[^,]*,)*end",
            r"[a-z]+[0-9]+$",
            r"(?:\\.|[^\\])*x",
            r"(ab|ac)*d",
            "",
            r"^-?\d+(\.\d+)?$",
            r"(\s+\w+)*$",
            r"((",
            r"[",
            r"a{2}b",
            r"(?<=x)y+z",
        ] {
            assert!(!is_catastrophic(good, false), "{good}");
        }
        assert!(is_catastrophic(r"(a+)+", true));
    }
}
