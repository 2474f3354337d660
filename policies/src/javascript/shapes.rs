//! What the text itself shows: hidden characters, ways of writing that hide, secrets, known strings of malware.

use std::collections::HashSet;
use std::ops::Range;

use super::literal;
use super::machine::Hit;
use super::syntax::{F, Id, K, NONE, Syntax};
use crate::rules::{self, Rule};

/// Looks at the text and the literals of a source.
pub(super) fn look(syntax: &Syntax<'_>, hits: &mut Vec<Hit>) {
    let mut looking = Looking { syntax, hits };
    looking.hidden_characters();
    looking.punctuation();
    looking.nodes();
}

struct Looking<'s, 'a, 'h> {
    syntax: &'s Syntax<'a>,
    hits: &'h mut Vec<Hit>,
}

/// Characters that turn the direction of writing.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without any width that hold no script together.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{180e}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{e0000}'..='\u{e007f}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// Letters of other scripts that look like Latin ones.
fn looks_latin(c: char) -> bool {
    matches!(
        c,
        'а' | 'е'
            | 'о'
            | 'р'
            | 'с'
            | 'у'
            | 'х'
            | 'і'
            | 'ѕ'
            | 'ј'
            | 'ԁ'
            | 'ɡ'
            | 'һ'
            | 'ԛ'
            | 'ԝ'
            | 'А'
            | 'В'
            | 'Е'
            | 'К'
            | 'М'
            | 'Н'
            | 'О'
            | 'Р'
            | 'С'
            | 'Т'
            | 'У'
            | 'Х'
            | 'ο'
            | 'ν'
            | 'Α'
            | 'Β'
            | 'Ε'
            | 'Ζ'
            | 'Η'
            | 'Ι'
            | 'Κ'
            | 'Μ'
            | 'Ν'
            | 'Ο'
            | 'Ρ'
            | 'Τ'
            | 'Υ'
            | 'Χ'
    )
}

fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 128];
    let mut all = 0_u32;
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
            all += 1;
        }
    }
    let all = f64::from(all.max(1));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / all)
        .map(|share| -share * share.log2())
        .sum()
}

/// How a key begins, how many characters follow at least and which, and what it is.
type Form = (&'static str, usize, fn(char) -> bool, &'static str);

/// The kind of key a text has the form of.
fn key_kind(text: &str) -> Option<&'static str> {
    let run = |text: &str, min: usize, of: fn(char) -> bool| text.chars().take_while(|c| of(*c)).count() >= min;
    let word: fn(char) -> bool = |c| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let upper: fn(char) -> bool = |c| c.is_ascii_uppercase() || c.is_ascii_digit();
    let forms: [Form; 14] = [
        ("AKIA", 16, upper, "a key of a cloud"),
        ("ASIA", 16, upper, "a key of a cloud"),
        ("AIza", 35, word, "a key of a cloud"),
        ("ghp_", 36, word, "a token of a code host"),
        ("gho_", 36, word, "a token of a code host"),
        ("ghs_", 36, word, "a token of a code host"),
        ("github_pat_", 50, word, "a token of a code host"),
        ("glpat-", 20, word, "a token of a code host"),
        ("xoxb-", 20, word, "a token of a chat"),
        ("xoxp-", 20, word, "a token of a chat"),
        ("sk_live_", 20, word, "a key of a payment service"),
        ("npm_", 36, word, "a token of a registry"),
        ("sk-ant-", 30, word, "a key of a model"),
        ("SG.", 40, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'), "a key of a mailer"),
    ];
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    if !crate::scan::has_long_word(text) {
        return None;
    }
    forms.iter().find_map(|(prefix, least, of, kind)| {
        text.find(prefix)
            .and_then(|at| text.get(at + prefix.len()..))
            .filter(|rest| run(rest, *least, *of))
            .map(|_| *kind)
    })
}

fn names_secret(name: &str) -> bool {
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_ascii_lowercase();
    ["password", "passwd", "secret", "apikey", "accesskey", "authtoken", "privatekey", "accesstoken", "apitoken"]
        .iter()
        .any(|part| name.ends_with(part))
}

/// Whether a text is random enough for a secret.
fn is_random(text: &str) -> bool {
    (16..=200).contains(&text.len())
        && text.is_ascii()
        && !text.contains([' ', '/', '.', '<', '{'])
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && entropy(text) > 3.5
}

/// Texts that are found in malware and hardly elsewhere.
fn known_string(text: &str) -> Option<&'static str> {
    let forms: [(&str, &'static str); 16] = [
        ("/dev/tcp/", "a shell over a connection"),
        ("/dev/udp/", "a shell over a connection"),
        ("bash -i >&", "a shell over a connection"),
        ("sh -i >&", "a shell over a connection"),
        ("nc -e /bin", "a shell over a connection"),
        ("ncat -e ", "a shell over a connection"),
        ("mkfifo /tmp/", "a shell over a connection"),
        ("stratum+tcp://", "the address of a mining pool"),
        ("stratum+ssl://", "the address of a mining pool"),
        ("coinhive.min.js", "a miner of coins"),
        ("xmrig", "a miner of coins"),
        ("powershell -enc", "a hidden command"),
        ("powershell -e ", "a hidden command"),
        ("rm -rf /*", "a command that deletes everything"),
        ("rm -rf --no-preserve-root", "a command that deletes everything"),
        (":(){ :|:& };:", "a fork bomb"),
    ];
    forms.iter().find(|(form, _)| text.contains(form)).map(|(_, what)| *what)
}

impl Looking<'_, '_, '_> {
    fn report(&mut self, rule: &'static Rule, range: Range<usize>, message: &str) {
        self.hits.push(Hit { rule, severity: rule.severity, range, message: message.to_owned() });
    }

    fn hidden_characters(&mut self) {
        let text = self.syntax.text;
        if text.is_ascii() {
            return;
        }
        let mut reported = 0;
        let mut unseen = 0;
        for (at, c) in text.char_indices() {
            let range = at..at + c.len_utf8();
            if c.is_ascii() {
                unseen = 0;
                continue;
            }
            if turns(c) && reported < 20 {
                reported += 1;
                let message = format!(
                    "U+{:04X} turns the direction of writing, so that code reads otherwise than it runs",
                    u32::from(c)
                );
                self.report(rules::invisible_unicode, range, &message);
            } else if is_invisible(c) {
                unseen += 1;
                if unseen == 1 && reported < 20 {
                    reported += 1;
                    let message = format!("U+{:04X} cannot be seen", u32::from(c));
                    self.report(rules::invisible_unicode, range, &message);
                }
            } else {
                unseen = if matches!(c, '\u{fe00}'..='\u{fe0f}') { unseen + 1 } else { 0 };
                if unseen == 8 && reported < 20 {
                    reported += 1;
                    self.report(
                        rules::invisible_unicode,
                        range,
                        "a run of variation selectors, which can hold a hidden text",
                    );
                }
            }
        }
    }

    /// Code of little but punctuation.
    fn punctuation(&mut self) {
        let text = self.syntax.text;
        if text.len() < 300 {
            return;
        }
        let (mut words, mut all, mut few, mut kana) = (0_usize, 0_usize, 0_usize, 0_usize);
        for c in text.chars().take(20_000) {
            if c.is_whitespace() {
                continue;
            }
            all += 1;
            words += usize::from(c.is_alphanumeric());
            few += usize::from(matches!(c, '[' | ']' | '(' | ')' | '!' | '+'));
            kana += usize::from(matches!(c, '\u{ff61}'..='\u{ff9f}' | 'ω' | 'Θ' | 'Д' | 'ε'));
        }
        if all < 200 {
            return;
        }
        let whole = 0..text.find('\n').unwrap_or(text.len()).min(80);
        let whole = if text.is_char_boundary(whole.end) { whole } else { 0..0 };
        if few * 10 > all * 9 {
            // It cannot do anything without the constructor of functions.
            self.report(rules::dynamic_code, whole.clone(), "code is put together from six characters, and run");
            self.report(rules::obfuscated_code, whole, "the code is written in six characters");
        } else if kana * 5 > all {
            self.report(rules::obfuscated_code, whole, "the code is written in faces");
        } else if words * 5 < all && !text.starts_with("/*") {
            self.report(rules::obfuscated_code, whole, "the code is nearly all punctuation");
        }
    }

    fn nodes(&mut self) {
        let syntax = self.syntax;
        let mut hexed: HashSet<&str> = HashSet::new();
        let mut dashes: HashSet<&str> = HashSet::new();
        let mut first_hexed = NONE;
        let (mut escaped, mut first_escaped) = (0_usize, NONE);
        let (mut morse, mut morse_keys) = (0_usize, 0_usize);
        let mut errors = 0;
        let mut previous_line = usize::MAX;
        for id in 0..Id::try_from(syntax.nodes.len()).unwrap_or(NONE) {
            let node = syntax.node(id);
            match node.kind {
                K::Error | K::Missing => {
                    let line = node.start as usize;
                    if errors < 10 && previous_line != line {
                        errors += 1;
                        previous_line = line;
                        let message = if node.kind == K::Error {
                            "this cannot be read as JavaScript"
                        } else {
                            "something is missing here"
                        };
                        let range = syntax.range(id);
                        let end = range.end.min(range.start + 80);
                        let end = if syntax.text.is_char_boundary(end) { end } else { range.start };
                        self.report(rules::syntax_error, range.start..end, message);
                    }
                }
                K::Ident | K::Property | K::PatternIdent => {
                    let name = syntax.text(id);
                    if let Some(at) = name.find("_0x") {
                        let digits = name.get(at + 3..).unwrap_or_default();
                        if digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                            if first_hexed == NONE {
                                first_hexed = id;
                            }
                            hexed.insert(name);
                        }
                    } else if name.len() > 1 && name.bytes().all(|byte| matches!(byte, b'$' | b'_')) {
                        dashes.insert(name);
                    }
                    if name.contains(['\u{200c}', '\u{200d}']) {
                        let message = "this name has a character that cannot be seen";
                        self.report(rules::invisible_unicode, syntax.range(id), message);
                    }
                    if name.contains('\\') {
                        self.report(rules::obfuscated_code, syntax.range(id), "a name is written with escapes");
                    } else if !name.is_ascii()
                        && name.chars().any(looks_latin)
                        && name.chars().any(|c| c.is_ascii_alphabetic())
                    {
                        let message = "this name mixes letters of different scripts that look alike";
                        self.report(rules::invisible_unicode, syntax.range(id), message);
                    }
                }
                K::String | K::Template => {
                    let text = syntax.text(id);
                    let needless = needless_escapes(text);
                    if needless > 0 && needless * 8 >= text.len() {
                        escaped += needless;
                        if first_escaped == NONE {
                            first_escaped = id;
                        }
                    }
                    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                    if !inner.is_empty() && inner.len() < 8 && inner.bytes().all(|byte| matches!(byte, b'.' | b'-')) {
                        morse_keys += 1;
                    } else if inner.len() >= 80
                        && inner.bytes().all(|byte| matches!(byte, b'.' | b'-' | b' ' | b'/' | b'|'))
                    {
                        morse += 1;
                    }
                    if let Some(what) = known_string(text) {
                        self.report(rules::malicious_idiom, syntax.range(id), &format!("this text is {what}"));
                    }
                    if let Some(kind) = key_kind(text) {
                        self.report(
                            rules::secret_in_source,
                            syntax.range(id),
                            &format!("this text has the form of {kind}"),
                        );
                    }
                }
                K::Declarator | K::Pair | K::Assign => self.secret(id),
                K::Catch => self.rotation(id),
                K::Call => self.long_codes(id),
                _ => {}
            }
        }
        if hexed.len() >= 3 {
            self.report(
                rules::obfuscated_code,
                syntax.range(first_hexed),
                "names are replaced by numbers, as obfuscators do",
            );
        }
        if escaped >= 12 {
            self.report(rules::obfuscated_code, syntax.range(first_escaped), "letters are written as escapes");
        }
        if dashes.len() >= 8 {
            self.report(rules::obfuscated_code, 0..0, "names consist of `$` and `_` only");
        }
        if morse > 0 && morse_keys >= 20 {
            self.report(rules::obfuscated_code, 0..0, "a long text in Morse code is decoded");
        }
    }

    /// A constant of a name that says it is a secret.
    fn secret(&mut self, id: Id) {
        let syntax = self.syntax;
        let name = [F::Name, F::Key, F::Left]
            .into_iter()
            .map(|field| syntax.field(id, field))
            .find(|id| *id != NONE)
            .unwrap_or(NONE);
        let value = [F::Value, F::Right]
            .into_iter()
            .map(|field| syntax.field(id, field))
            .find(|id| *id != NONE)
            .unwrap_or(NONE);
        if syntax.kind(value) != K::String
            || !matches!(syntax.kind(name), K::Ident | K::Property | K::String | K::Member)
        {
            return;
        }
        let text = syntax.text(value);
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        if names_secret(syntax.text(name)) && is_random(inner) && key_kind(text).is_none() {
            self.report(rules::secret_in_source, syntax.range(value), "this looks like a password or key");
        }
    }

    /// `catch { a.push(a.shift()) }`, which turns a table of strings until it fits.
    fn rotation(&mut self, id: Id) {
        let text = self.syntax.text(id);
        if text.len() < 300 && (text.contains("push") && text.contains("shift") || text.contains("'push'")) {
            let start = self.syntax.node(id).start as usize;
            self.report(
                rules::obfuscated_code,
                start..start + 5,
                "a table of texts is turned until it fits, as obfuscators do",
            );
        }
    }

    /// `String.fromCharCode` of many numbers.
    fn long_codes(&mut self, id: Id) {
        let syntax = self.syntax;
        let callee = syntax.field(id, F::Function);
        if syntax.kind(callee) != K::Member || !syntax.text(callee).ends_with("fromCharCode") {
            return;
        }
        let numbers =
            syntax.children(syntax.field(id, F::Arguments)).filter(|id| syntax.kind(*id) == K::Number).count();
        if numbers >= 12 {
            self.report(rules::obfuscated_code, syntax.range(callee), "a text is written as numbers");
        }
    }
}

/// How many escapes of a literal stand for letters and digits that could be written as they are.
fn needless_escapes(text: &str) -> usize {
    if !text.contains("\\x") && !text.contains("\\u") {
        return 0;
    }
    let mut count = 0;
    for form in ["\\x", "\\u00", "\\u{"] {
        for (at, _) in text.match_indices(form) {
            let digits = text.get(at..(at + form.len() + 2)).unwrap_or_default();
            let value = literal::unescape(&if form == "\\u{" { format!("{digits}}}") } else { digits.to_owned() });
            count += usize::from(value.len() == 1 && value.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }
    count
}
