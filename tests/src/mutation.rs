//! Mutates Python scripts: byte flips, exchanged tokens, lines lost and repeated, halves of two scripts joined, numbers
//! made huge, nesting multiplied. A script is a function of the seeds and its number.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

const HUGE: [&str; 8] =
    ["2147483647", "4294967295", "9223372036854775808", "10**9", "10**18", "-2147483649", "1e308", "0xffffffffffff"];
const OPENED: [(&str, &str); 5] = [("(", ")"), ("[", "]"), ("{", "}"), ("f\"{", "}\""), ("lambda:(", ")")];

/// Makes mutated scripts out of seeds.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    /// From the scripts to start with; there must be one at least.
    #[must_use]
    pub fn new(seeds: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty(), "no script to mutate");
        Self { seeds }
    }

    /// The script of that number: a seed after one to four mutations.
    #[must_use]
    pub fn script(&self, number: u64) -> Vec<u8> {
        let mut random = Random(ChaCha8Rng::seed_from_u64(number));
        let mut script = self.seed(&mut random).to_vec();
        for _ in 0..=random.below(4) {
            script = self.mutate(script, &mut random);
        }
        script
    }

    fn seed(&self, random: &mut Random) -> &[u8] {
        &self.seeds[random.below(self.seeds.len())]
    }

    fn mutate(&self, mut script: Vec<u8>, random: &mut Random) -> Vec<u8> {
        match random.below(8) {
            0 => {
                for _ in 0..=random.below(4) {
                    if !script.is_empty() {
                        let at = random.below(script.len());
                        script[at] ^= 1 << random.below(8);
                    }
                }
                script
            }
            1 => {
                let mut tokens = tokens(&script);
                if !tokens.is_empty() {
                    let (one, other) = (random.below(tokens.len()), random.below(tokens.len()));
                    tokens.swap(one, other);
                }
                tokens.concat()
            }
            2 => {
                let mut lines: Vec<&[u8]> = script.split_inclusive(|byte| *byte == b'\n').collect();
                if !lines.is_empty() {
                    lines.remove(random.below(lines.len()));
                }
                lines.concat()
            }
            3 => {
                let mut lines: Vec<&[u8]> = script.split_inclusive(|byte| *byte == b'\n').collect();
                if !lines.is_empty() {
                    let line = lines[random.below(lines.len())];
                    let at = random.below(lines.len() + 1);
                    lines.splice(at..at, std::iter::repeat_n(line, 1 << random.below(8)));
                }
                lines.concat()
            }
            4 => {
                let other = self.seed(random);
                let cut = |script: &[u8], random: &mut Random| {
                    let starts = script.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
                    let starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
                    starts[random.below(starts.len())]
                };
                let (end, start) = (cut(&script, random), cut(other, random));
                [&script[..end], &other[start..]].concat()
            }
            5 => replaced(
                &script,
                |token| token[0].is_ascii_digit(),
                random,
                |_, random| HUGE[random.below(HUGE.len())].into(),
            ),
            6 => replaced(
                &script,
                |token| token[0].is_ascii_alphanumeric(),
                random,
                |token, random| {
                    let (open, close) = OPENED[random.below(OPENED.len())];
                    let depth = 1 << random.below(14);
                    [open.repeat(depth).as_bytes(), token, close.repeat(depth).as_bytes()].concat()
                },
            ),
            _ => {
                let donor = self.seed(random).to_vec();
                replaced(
                    &script,
                    |token| !token[0].is_ascii_whitespace(),
                    random,
                    |_, random| {
                        let tokens = tokens(&donor);
                        if tokens.is_empty() { Vec::new() } else { tokens[random.below(tokens.len())].to_vec() }
                    },
                )
            }
        }
    }
}

struct Random(ChaCha8Rng);

impl Random {
    /// Below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }
}

/// Words and numbers, runs of white space, and every other byte by itself.
fn tokens(script: &[u8]) -> Vec<&[u8]> {
    let class = |byte: u8| match byte {
        b'_' | 0x80.. => 0,
        byte if byte.is_ascii_alphanumeric() => 0,
        byte if byte.is_ascii_whitespace() => 1,
        _ => 2,
    };
    script.chunk_by(|one, other| class(*one) == class(*other) && class(*one) != 2).collect()
}

/// The script with one token of that kind, if it has one, replaced.
fn replaced(
    script: &[u8],
    kind: impl Fn(&[u8]) -> bool,
    random: &mut Random,
    by: impl FnOnce(&[u8], &mut Random) -> Vec<u8>,
) -> Vec<u8> {
    let tokens = tokens(script);
    let places: Vec<usize> = tokens.iter().enumerate().filter(|(_, token)| kind(token)).map(|(at, _)| at).collect();
    if places.is_empty() {
        return script.to_vec();
    }
    let at = places[random.below(places.len())];
    let new = by(tokens[at], random);
    [tokens[..at].concat(), new, tokens[at + 1..].concat()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_a_function_of_its_number() {
        let mutator = || Mutator::new(vec![b"print(1)\nx = [2, 3]\n".to_vec(), b"import json\n".to_vec()]);
        let scripts: Vec<Vec<u8>> = (0..200).map(|number| mutator().script(number)).collect();
        assert_eq!(scripts, (0..200).map(|number| mutator().script(number)).collect::<Vec<_>>());
        let different: std::collections::HashSet<_> = scripts.iter().collect();
        assert!(different.len() > 100, "{}", different.len());
    }

    #[test]
    fn tokens_join_to_the_script() {
        let script = "def f(x_1):\n\treturn 'é' + 10\n".as_bytes();
        assert_eq!(tokens(script).concat(), script);
        assert_eq!(tokens(b"ab 12+(x)"), [&b"ab"[..], b" ", b"12", b"+", b"(", b"x", b")"]);
    }
}
