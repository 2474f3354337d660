//! Regular expressions: their syntax, and whether one can take exponential time.

/// The deepest nesting of groups that is read.
const DEEPEST: usize = 40;
/// The longest pattern that is read.
const LONGEST: usize = 4_000;

/// A set of characters: the ASCII ones one by one, the others all or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    ascii: u128,
    others: bool,
}

impl Set {
    const NONE: Self = Self { ascii: 0, others: false };
    const ALL: Self = Self { ascii: u128::MAX, others: true };

    fn one(c: char) -> Self {
        u32::from(c)
            .checked_sub(128)
            .map_or_else(|| Self { ascii: 1 << u32::from(c), others: false }, |_| Self { ascii: 0, others: true })
    }

    fn span(from: char, to: char) -> Self {
        let (from, to) = (u32::from(from), u32::from(to));
        let ascii = (from..=to.min(127)).fold(0, |bits, c| bits | (1u128 << c.min(127)));
        Self { ascii, others: to > 127 }
    }

    fn or(self, other: Self) -> Self {
        Self { ascii: self.ascii | other.ascii, others: self.others || other.others }
    }

    fn and(self, other: Self) -> Self {
        Self { ascii: self.ascii & other.ascii, others: self.others && other.others }
    }

    fn not(self) -> Self {
        Self { ascii: !self.ascii, others: true }
    }

    fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn contains(self, c: char) -> bool {
        if c.is_ascii() { self.ascii >> u32::from(c) & 1 == 1 } else { self.others }
    }

    fn class(letter: char) -> Option<Self> {
        let digits = Self::span('0', '9');
        let word = digits.or(Self::span('a', 'z')).or(Self::span('A', 'Z')).or(Self::one('_'));
        let space = Self::span('\t', '\r').or(Self::one(' '));
        Some(match letter {
            'd' => digits,
            'D' => digits.not(),
            'w' => word,
            'W' => word.not(),
            's' => Self { others: true, ..space },
            'S' => space.not(),
            _ => return None,
        })
    }
}

/// A regular expression.
#[derive(Clone, Debug)]
pub(super) enum Regex {
    Set(Set),
    /// A place, which takes no characters.
    Place,
    /// Something that is not looked into.
    Opaque,
    Sequence(Vec<Regex>),
    Choice(Vec<Regex>),
    /// At least, at most.
    Repeat(Box<Regex>, u32, Option<u32>),
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    any_case: bool,
    dot_all: bool,
}

/// Reads a pattern; `None` if it is none, or longer or deeper than is looked at.
pub(super) fn read(pattern: &str, flags: &str) -> Option<Regex> {
    if pattern.len() > LONGEST {
        return None;
    }
    let mut reader =
        Reader { rest: pattern.chars().peekable(), any_case: flags.contains('i'), dot_all: flags.contains('s') };
    let regex = reader.choice(0)?;
    reader.rest.next().is_none().then_some(regex)
}

impl Reader<'_> {
    fn choice(&mut self, depth: usize) -> Option<Regex> {
        if depth > DEEPEST {
            return None;
        }
        let mut choices = Vec::new();
        loop {
            choices.push(self.sequence(depth)?);
            if self.rest.peek() != Some(&'|') {
                break;
            }
            self.rest.next();
        }
        if choices.len() == 1 { choices.pop() } else { Some(Regex::Choice(choices)) }
    }

    fn sequence(&mut self, depth: usize) -> Option<Regex> {
        let mut parts = Vec::new();
        while let Some(c) = self.rest.peek().copied() {
            if matches!(c, '|' | ')') {
                break;
            }
            self.rest.next();
            let part = match c {
                '^' | '$' => Regex::Place,
                '.' if self.dot_all => Regex::Set(Set::ALL),
                '.' => Regex::Set(Set::one('\n').or(Set::one('\r')).not()),
                '[' => Regex::Set(self.set()?),
                '(' => self.group(depth)?,
                '\\' => self.escape()?,
                c => Regex::Set(self.literal(c)),
            };
            parts.push(self.repeat(part)?);
        }
        Some(Regex::Sequence(parts))
    }

    fn literal(&self, c: char) -> Set {
        let set = Set::one(c);
        if self.any_case && c.is_ascii_alphabetic() {
            set.or(Set::one(c.to_ascii_lowercase())).or(Set::one(c.to_ascii_uppercase()))
        } else {
            set
        }
    }

    fn group(&mut self, depth: usize) -> Option<Regex> {
        let mut place = false;
        if self.rest.peek() == Some(&'?') {
            self.rest.next();
            match self.rest.next()? {
                ':' => {}
                '=' | '!' => place = true,
                '<' => match self.rest.peek()? {
                    '=' | '!' => {
                        self.rest.next();
                        place = true;
                    }
                    _ => {
                        self.rest.by_ref().find(|c| *c == '>')?;
                    }
                },
                _ => return None,
            }
        }
        let inner = self.choice(depth + 1)?;
        if self.rest.next() != Some(')') {
            return None;
        }
        Some(if place { Regex::Place } else { inner })
    }

    fn escape(&mut self) -> Option<Regex> {
        let c = self.rest.next()?;
        if matches!(c, 'b' | 'B') {
            return Some(Regex::Place);
        }
        if let Some(set) = Set::class(c) {
            return Some(Regex::Set(set));
        }
        Some(match c {
            '1'..='9' => Regex::Opaque,
            'k' => {
                self.rest.by_ref().find(|c| *c == '>')?;
                Regex::Opaque
            }
            'p' | 'P' => {
                self.rest.by_ref().find(|c| *c == '}')?;
                Regex::Opaque
            }
            other => Regex::Set(self.literal(self.clone_escape(other)?)),
        })
    }

    /// The character an escape stands for; the digits of `\x` and `\u` are taken.
    fn clone_escape(&self, c: char) -> Option<char> {
        Some(match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '0' => '\0',
            other => other,
        })
    }

    fn digits(&mut self, count: usize) -> Option<char> {
        let digits: String = self.rest.clone().take(count).collect();
        let value = u32::from_str_radix(&digits, 16).ok()?;
        self.rest.nth(count - 1);
        char::from_u32(value).or(Some('\u{fffd}'))
    }

    fn set_char(&mut self) -> Option<Result<char, Set>> {
        let c = self.rest.next()?;
        if c != '\\' {
            return Some(Ok(c));
        }
        let c = self.rest.next()?;
        if let Some(set) = Set::class(c) {
            return Some(Err(set));
        }
        Some(Ok(match c {
            'x' => self.digits(2).unwrap_or('x'),
            'u' if self.rest.peek() != Some(&'{') => self.digits(4).unwrap_or('u'),
            'p' | 'P' | 'u' => {
                self.rest.by_ref().find(|c| *c == '}')?;
                return Some(Err(Set { ascii: 0, others: true }));
            }
            'b' => '\u{8}',
            other => self.clone_escape(other)?,
        }))
    }

    fn set(&mut self) -> Option<Set> {
        let mut set = Set::NONE;
        let negated = self.rest.peek() == Some(&'^');
        if negated {
            self.rest.next();
        }
        loop {
            if self.rest.peek()? == &']' {
                self.rest.next();
                break;
            }
            let from = match self.set_char()? {
                Ok(c) => c,
                Err(class) => {
                    set = set.or(class);
                    continue;
                }
            };
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
                self.rest.next();
                match self.set_char()? {
                    Ok(to) => set = set.or(Set::span(from, to)),
                    Err(class) => set = set.or(class).or(Set::one(from)).or(Set::one('-')),
                }
            } else {
                set = set.or(self.literal(from));
            }
        }
        if self.any_case {
            for (lower, upper) in ('a'..='z').zip('A'..='Z') {
                if set.contains(lower) || set.contains(upper) {
                    set = set.or(Set::one(lower)).or(Set::one(upper));
                }
            }
        }
        Some(if negated { set.not() } else { set })
    }

    fn repeat(&mut self, part: Regex) -> Option<Regex> {
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let mut ahead = self.rest.clone();
                ahead.next();
                let inner: String = ahead.take_while(|c| *c != '}').take(12).collect();
                let (least, most) = match inner.split_once(',') {
                    Some((least, "")) => (least.parse().ok(), Some(None)),
                    Some((least, most)) => (least.parse().ok(), most.parse().ok().map(Some)),
                    None => (inner.parse().ok(), inner.parse().ok().map(Some)),
                };
                let (Some(least), Some(most)) = (least, most) else { return Some(part) };
                self.rest.by_ref().find(|c| *c == '}')?;
                if self.rest.peek() == Some(&'?') {
                    self.rest.next();
                }
                return Some(Regex::Repeat(Box::new(part), least, most));
            }
            _ => return Some(part),
        };
        self.rest.next();
        if self.rest.peek() == Some(&'?') {
            self.rest.next();
        }
        Some(Regex::Repeat(Box::new(part), least, most))
    }
}

impl Regex {
    fn can_be_empty(&self) -> bool {
        match self {
            Self::Set(_) | Self::Opaque => false,
            Self::Place => true,
            Self::Sequence(parts) => parts.iter().all(Self::can_be_empty),
            Self::Choice(parts) => parts.iter().any(Self::can_be_empty),
            Self::Repeat(inner, least, _) => *least == 0 || inner.can_be_empty(),
        }
    }

    /// The characters of which some number alone can match.
    fn uniform(&self) -> Set {
        match self {
            Self::Set(set) => *set,
            Self::Place | Self::Opaque => Set::NONE,
            Self::Choice(parts) => parts.iter().fold(Set::NONE, |all, part| all.or(part.uniform())),
            Self::Repeat(inner, _, most) if *most != Some(0) => inner.uniform(),
            Self::Repeat(..) => Set::NONE,
            Self::Sequence(parts) => {
                let (every, any) = parts.iter().fold((Set::ALL, Set::NONE), |(every, any), part| {
                    let own = part.uniform();
                    (every.and(if part.can_be_empty() { Set::ALL } else { own }), any.or(own))
                });
                every.and(any)
            }
        }
    }

    /// The characters that an unbounded part of it repeats.
    fn repeats(&self) -> Set {
        match self {
            Self::Set(_) | Self::Place | Self::Opaque => Set::NONE,
            Self::Choice(parts) | Self::Sequence(parts) => {
                parts.iter().fold(Set::NONE, |all, part| all.or(part.repeats()))
            }
            Self::Repeat(inner, _, most) if most.is_none_or(|most| most > 9) => inner.uniform(),
            Self::Repeat(inner, ..) => inner.repeats(),
        }
    }

    /// Whether one text of equal characters can match in more than one way.
    fn is_ambiguous(&self) -> bool {
        let uniform = self.uniform();
        if !self.repeats().and(uniform).is_empty() {
            return true;
        }
        match self {
            Self::Choice(parts) => {
                let mut seen = Set::NONE;
                parts.iter().any(|part| {
                    let own = part.uniform();
                    let again = !seen.and(own).is_empty();
                    seen = seen.or(own);
                    again || part.is_ambiguous()
                })
            }
            Self::Sequence(parts) => match parts.as_slice() {
                [one] => one.is_ambiguous(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Looks for a repetition of something ambiguous that something follows which may fail.
    fn explodes(&self, followed: bool) -> bool {
        match self {
            Self::Set(_) | Self::Place | Self::Opaque => false,
            Self::Choice(parts) => parts.iter().any(|part| part.explodes(followed)),
            Self::Sequence(parts) => {
                let mut followed = followed;
                for part in parts.iter().rev() {
                    if part.explodes(followed) {
                        return true;
                    }
                    followed |= !part.can_be_empty() || matches!(part, Self::Place);
                }
                false
            }
            Self::Repeat(inner, _, most) => {
                let many = most.is_none_or(|most| most > 9);
                (many && followed && inner.is_ambiguous()) || inner.explodes(followed || many)
            }
        }
    }
}

/// Why a pattern can take exponential time, if it can.
pub(super) fn catastrophe(pattern: &str, flags: &str) -> Option<&'static str> {
    if !pattern.contains(['*', '+', '{']) || !pattern.contains('(') {
        return None;
    }
    read(pattern, flags)?.explodes(false).then_some(
        "this regular expression can take exponential time: what it repeats can match the same text in many ways",
    )
}
