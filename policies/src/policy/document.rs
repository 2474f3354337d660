//! The policy document: its keys, and how it is read. What the keys mean together is in `resolve.rs`.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::error::{Problem, ProblemKind, nearest};
use super::{Audit, FileAccess, RuleSeverity, ScanMode};
use crate::finding::Verdict;
use crate::units;

/// The largest policy file, in bytes.
pub(crate) const LARGEST_DOCUMENT: u64 = 1 << 20;

impl GrantsSection {
    pub(crate) fn files(&self, access: FileAccess) -> &Option<Spanned<Vec<Spanned<Mount>>>> {
        match access {
            FileAccess::Read => &self.read,
            FileAccess::Overlay => &self.overlay,
            FileAccess::Write => &self.write,
        }
    }
}

/// A value that may be left out, but not be null: `limits:` with nothing below it is a slip.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// A document of which every key that is optional is an `Option`, so that each can also be left to what is extended.
macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $(#[serde(default, deserialize_with = "present")] pub(crate) $key: Option<$type>,)*
        }
    )*};
}

sections! {
    /// The whole document.
    Document {
        name: Spanned<String>,
        description: Spanned<String>,
        extends: Spanned<String>,
        widen: Spanned<bool>,
        overridable: Spanned<Words>,
        live: Spanned<bool>,
        audit: Spanned<Audit>,
        scan: Spanned<ScanMode>,
        findings: FindingsSection,
        rules: Pairs<RuleSection>,
        scan_limits: ScanLimitsSection,
        limits: LimitsSection,
        grants: GrantsSection,
    }
    FindingsSection {
        error: Spanned<Verdict>,
        warning: Spanned<Verdict>,
        unprovable: Spanned<Verdict>,
    }
    RuleSection {
        severity: Spanned<RuleSeverity>,
        allow: Vec<Spanned<AllowSection>>,
    }
    AllowSection {
        path: Spanned<String>,
        r#match: Spanned<String>,
        regex: Spanned<String>,
        reason: Spanned<String>,
        expires: Spanned<String>,
    }
    ScanLimitsSection {
        source_bytes: Spanned<Size>,
    }
    LimitsSection {
        fuel: Spanned<Count>,
        wall_time: Spanned<Time>,
        memory: Spanned<Memory>,
        output: Spanned<Size>,
        bytes_written: Spanned<Size>,
        files: Spanned<u64>,
        descriptors: Spanned<u64>,
    }
    GrantsSection {
        read: Spanned<Vec<Spanned<Mount>>>,
        write: Spanned<Vec<Spanned<Mount>>>,
        overlay: Spanned<Vec<Spanned<Mount>>>,
        env: Pairs<String>,
        net: Vec<Spanned<String>>,
        secrets: Pairs<String>,
        packages: Vec<Spanned<String>>,
        tools: Pairs<String>,
    }
    MountSection {
        host: String,
        guest: String,
    }
}

macro_rules! units {
    ($($name:ident($type:ty) = $read:path;)*) => {$(
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name(pub(crate) $type);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                $read(d).map(Self)
            }
        }
    )*};
}

units! {
    Size(u64) = units::size;
    Memory(u64) = units::memory;
    Time(Duration) = units::duration;
    Count(Option<u64>) = units::optional_count;
}

/// What stands below a mapping whose keys are the user's, in the order of the document, with the places of the keys.
#[derive(Debug)]
pub struct Pairs<T>(pub Vec<(Spanned<String>, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key()? {
                    pairs.push((key, map.next_value()?));
                }
                Ok(Pairs(pairs))
            }
        }
        d.deserialize_map(Reader(std::marker::PhantomData))
    }
}

/// A file or folder: `HOST`, `HOST:GUEST`, or a mapping of both.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) host: String,
    pub(crate) guest: Option<String>,
}

impl<'de> Deserialize<'de> for Mount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Mount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("HOST, HOST:GUEST, or {host: HOST, guest: GUEST}")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                // GUEST is an absolute path, so a colon that no slash follows belongs to HOST.
                Ok(match text.rsplit_once(":/") {
                    Some((host, guest)) => Mount { host: host.into(), guest: Some(format!("/{guest}")) },
                    None => Mount { host: text.into(), guest: None },
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let section = MountSection::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                match section.host {
                    Some(host) => Ok(Mount { host, guest: section.guest }),
                    None => Err(A::Error::missing_field("host")),
                }
            }
        }
        d.deserialize_any(Reader)
    }
}

/// A word, or a list of words.
#[derive(Debug)]
pub(crate) enum Words {
    One(String),
    List(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Words::One(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(Words::List(words))
            }
        }
        d.deserialize_any(Reader)
    }
}

/// A line and a column, from 1; zeros where there is no place to point at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(location.line()), column: number(location.column()) }
    }
}

impl<T> From<&Spanned<T>> for Place {
    fn from(spanned: &Spanned<T>) -> Self {
        spanned.referenced.into()
    }
}

/// Reads a YAML document that is called `file` in what is said about it, within bounds on its size, depth and aliases. `T` refuses
/// the keys it does not know; a misspelled one is told with the nearest there is.
///
/// # Errors
/// What is wrong first, with its place.
pub fn read<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, Problem> {
    let problem = |kind, place: Place, message: String, hint: Option<String>| Problem {
        kind,
        file: file.into(),
        line: place.line,
        column: place.column,
        message,
        hint,
    };
    if text.len() as u64 > LARGEST_DOCUMENT {
        let message = format!("the document is larger than {}", crate::format_size(LARGEST_DOCUMENT));
        return Err(problem(ProblemKind::Syntax, Place::default(), message, None));
    }
    // A policy needs no anchors; some are convenient, and what they come to is bounded.
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        budget: serde_saphyr::budget! {
            max_events: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 2 << 20,
            max_depth: 16,
            max_documents: 8,
            max_nodes: 50_000,
            max_total_scalar_bytes: 4 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(Place::from).unwrap_or_default();
        let meant = |word: &str, expected: &[&'static str]| {
            Some(match nearest(word, expected.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there are {}", listed(expected)),
            })
        };
        match error.without_snippet() {
            Error::SerdeUnknownField { field, expected, .. } => {
                let message = format!("unknown key `{}`", short(field));
                problem(ProblemKind::UnknownKey, place, message, meant(field, expected))
            }
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                let message = format!("`{}` is not a value of this key", short(variant));
                problem(ProblemKind::InvalidValue, place, message, meant(variant, expected))
            }
            Error::SerdeMissingField { field, .. } => {
                problem(ProblemKind::MissingKey, place, format!("`{field}` is missing"), None)
            }
            Error::DuplicateMappingKey { key, .. } => {
                let key = key.as_deref().map_or("a key".into(), |key| format!("`{}`", short(key)));
                problem(ProblemKind::Syntax, place, format!("{key} stands here for the second time"), None)
            }
            Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } => {
                problem(ProblemKind::Syntax, place, "the document is too large or nested too deeply".into(), None)
            }
            Error::Message { msg, .. } => problem(ProblemKind::InvalidValue, place, msg.clone(), None),
            other => {
                let text = other.to_string();
                let shown = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
                problem(ProblemKind::Syntax, place, shown.to_owned(), None)
            }
        }
    })
}

/// The beginning of a text that somebody else chose, for a message.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// `a, b and c`.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [] => "none".into(),
        [word] => format!("`{word}`"),
        [words @ .., last] => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            format!("{} and `{last}`", words.join(", "))
        }
    }
}
