//! What is looked for in the text itself: characters that cannot be seen, and secrets.

use std::ops::Range;

/// Characters that change how a text is shown, or that cannot be seen: the place and what it is.
pub(super) fn invisible(text: &str, in_code: impl Fn(usize) -> bool) -> Vec<(Range<usize>, &'static str)> {
    let mut found = Vec::new();
    if text.is_ascii() {
        return found;
    }
    for (at, c) in text.char_indices() {
        if c.is_ascii() {
            continue;
        }
        let what = match c {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                "a character that reverses the direction of the text: what is shown is not what runs"
            }
            '\u{200b}'
            | '\u{2060}'..='\u{2064}'
            | '\u{feff}'
            | '\u{180e}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{3164}'
            | '\u{ffa0}' => "a character that cannot be seen",
            '\u{e0000}'..='\u{e007f}' if !after_flag(text, at) => "a character that cannot be seen",
            '\u{e0100}'..='\u{e01ef}' => "a character that cannot be seen",
            '\u{200c}' | '\u{200d}' | '\u{ad}' | '\u{200e}' | '\u{200f}' if in_code(at) => {
                "a character that cannot be seen, in a name"
            }
            _ => continue,
        };
        found.push((at..at + c.len_utf8(), what));
        if found.len() > 50 {
            break;
        }
    }
    found
}

/// Flags of regions are a black flag and letters that cannot be seen.
fn after_flag(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.chars().rev().take(10).any(|c| c == '\u{1f3f4}')
}

/// Whether a name mixes letters of scripts that look alike.
pub(super) fn mixes_scripts(name: &str) -> bool {
    let latin = name.chars().any(|c| c.is_ascii_alphabetic());
    let alike = name.chars().any(|c| {
        matches!(
            c,
            '\u{430}'
                | '\u{435}'
                | '\u{43e}'
                | '\u{440}'
                | '\u{441}'
                | '\u{443}'
                | '\u{445}'
                | '\u{455}'
                | '\u{456}'
                | '\u{458}'
                | '\u{501}'
                | '\u{51b}'
                | '\u{410}'
                | '\u{412}'
                | '\u{415}'
                | '\u{41a}'
                | '\u{41c}'
                | '\u{41d}'
                | '\u{41e}'
                | '\u{420}'
                | '\u{421}'
                | '\u{422}'
                | '\u{425}'
                | '\u{3bf}'
                | '\u{3b1}'
                | '\u{3c1}'
                | '\u{3bd}'
                | '\u{391}'
                | '\u{392}'
                | '\u{395}'
                | '\u{396}'
                | '\u{397}'
                | '\u{399}'
                | '\u{39a}'
                | '\u{39c}'
                | '\u{39d}'
                | '\u{39f}'
                | '\u{3a1}'
                | '\u{3a4}'
                | '\u{3a7}'
                | '\u{261}'
                | '\u{131}'
        )
    });
    latin && alike
}

/// Formats of keys: what they begin with, the least number of characters after it, and what they are.
const KEYS: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("ghu_", 36, "a GitHub token"),
    ("github_pat_", 60, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 30, "a Slack token"),
    ("xoxp-", 30, "a Slack token"),
    ("xapp-", 30, "a Slack token"),
    ("sk_live_", 24, "a Stripe key"),
    ("rk_live_", 24, "a Stripe key"),
    ("AIza", 35, "a Google API key"),
    ("ya29.", 40, "a Google access token"),
    ("sk-ant-", 40, "an API key of a model provider"),
    ("sk-proj-", 40, "an API key of a model provider"),
    ("hf_", 34, "a Hugging Face token"),
    ("npm_", 36, "an npm token"),
    ("pypi-AgEI", 50, "a PyPI token"),
    ("SG.", 60, "a SendGrid key"),
    ("dop_v1_", 60, "a DigitalOcean token"),
    ("shpat_", 32, "a Shopify token"),
];

/// What a string is the secret of.
pub(super) fn secret(text: &str) -> Option<&'static str> {
    if let Some(at) = text.find("-----BEGIN ") {
        let rest = text.get(at + 11..).unwrap_or_default();
        let header = rest.split("-----").next().unwrap_or_default();
        let body = rest.get(header.len()..).unwrap_or_default().trim_start_matches('-').trim_start();
        let real = body.chars().take(60).filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')).count();
        if header.ends_with("PRIVATE KEY") && real >= 40 && varied(body) {
            return Some("a private key");
        }
    }
    if !crate::scan::has_long_word(text) {
        return None;
    }
    KEYS.iter().find_map(|(prefix, least, what)| {
        text.match_indices(prefix).take(4).find_map(|(at, _)| {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            if before.is_some_and(|c| c.is_ascii_alphanumeric()) {
                return None;
            }
            let rest = text.get(at + prefix.len()..)?;
            let end =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(rest.len());
            let body = rest.get(..end)?;
            let exact = !matches!(*prefix, "AKIA" | "ASIA")
                || (body.len() == *least && body.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()));
            (body.len() >= *least && exact && varied(body)).then_some(*what)
        })
    })
}

/// Whether it looks drawn at random: no placeholder, no run of the same character.
fn varied(text: &str) -> bool {
    let head: String = text.chars().filter(|c| c.is_ascii_alphanumeric()).take(64).collect();
    let lower = head.to_ascii_lowercase();
    if [
        "example",
        "placeholder",
        "yourkey",
        "xxxx",
        "abcdefgh",
        "12345678",
        "00000000",
        "replace",
        "dummy",
        "fake",
        "insert",
        "changeme",
        "redacted",
    ]
    .iter()
    .any(|word| lower.contains(word))
    {
        return false;
    }
    let mut seen: Vec<char> = head.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    let digits = head.chars().any(|c| c.is_ascii_digit());
    seen.len() * 3 >= head.len().min(24) && digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_placeholders_are_not() {
        assert_eq!(secret(&format!("AKI{}", "AQ3EGVPZ7X5RT2NWK")), Some("an AWS access key"));
        assert_eq!(secret(&format!("ghp{}", "_Ab3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC2")), Some("a GitHub token"));
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-ant-your-key-here",
            "TAKIAQ3EGVPZ7X5RT2NWK",
            "-----BEGIN PRIVATE KEY-----\n...\n",
        ] {
            assert_eq!(secret(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_found() {
        let code = |_: usize| true;
        let strings = |_: usize| false;
        assert_eq!(invisible("a\u{202e}b", strings).len(), 1);
        assert_eq!(invisible("a\u{200d}b", strings).len(), 0);
        assert_eq!(invisible("a\u{200d}b", code).len(), 1);
        assert_eq!(invisible("γειά 你好 مرحبا", strings).len(), 0);
        assert!(mixes_scripts("\u{440}aypal") && !mixes_scripts("γ") && !mixes_scripts("naïve"));
    }
}
