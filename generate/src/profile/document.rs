//! How profiles are written in YAML.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use capibara_policies::{
    Pairs, Problem, ProblemKind, format_size, nearest, parse_count, parse_duration, read_document,
};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{BaseUrl, DatedPrices, LARGEST_FILE, Profile, Rates, Timeouts};
use crate::key::KeySource;
use crate::price::Prices;
use crate::wire::{Dialect, Kind};

/// Headers that are ours to set, or that would make a response of another kind.
const OWN_HEADERS: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that hold the key of one kind of API or another.
const KEY_HEADERS: [&str; 4] = ["api-key", "authorization", "x-api-key", "x-goog-api-key"];

/// One profile as it is written; what is absent is that of the profile it is like, or of the kind.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    like: Option<Spanned<String>>,
    kind: Option<Spanned<Kind>>,
    base_url: Option<Spanned<String>>,
    model: Option<Spanned<String>>,
    key: Option<Spanned<WrittenKey>>,
    key_header: Option<Spanned<String>>,
    headers: Option<Spanned<BTreeMap<String, String>>>,
    extra_body: Option<Spanned<serde_json::Map<String, serde_json::Value>>>,
    stream: Option<bool>,
    temperature: Option<bool>,
    seed: Option<bool>,
    include_usage: Option<bool>,
    finish_required: Option<bool>,
    max_output_field: Option<Spanned<String>>,
    context: Option<Spanned<String>>,
    rates: Option<WrittenRates>,
    prices: Option<WrittenPrices>,
    timeouts: Option<WrittenTimeouts>,
    proxy: Option<Spanned<WrittenProxy>>,
}

#[derive(Debug)]
enum WrittenKey {
    Env(String),
    File(String),
    Command(Vec<String>),
    None,
}

impl<'de> Deserialize<'de> for WrittenKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WrittenKeyReader)
    }
}

/// Reads where a key is. What stands there instead is never repeated, as it may be the key itself.
#[derive(Clone, Copy)]
struct WrittenKeyReader;

impl WrittenKeyReader {
    fn refuse<T, E: Error>(self) -> Result<T, E> {
        Err(E::custom(
            "what stands here is not a value of `key`, which is `{env: NAME}`, `{file: PATH}`, `{command: [PROGRAM, ARGUMENT]}` or `none`",
        ))
    }
}

impl<'de> Visitor<'de> for WrittenKeyReader {
    type Value = WrittenKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("where the key is")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == "none" { Ok(WrittenKey::None) } else { self.refuse() }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        self.refuse()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        self.refuse()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        self.refuse()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Self::Value, E> {
        self.refuse()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Self::Value, E> {
        self.refuse()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        self.refuse()
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.refuse()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.refuse()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let source = map.next_key::<String>()?;
        let read = match source.as_deref() {
            Some("env") => map.next_value().map(WrittenKey::Env),
            Some("file") => map.next_value().map(WrittenKey::File),
            Some("command") => map.next_value().map(WrittenKey::Command),
            _ => self.refuse(),
        };
        match (read, map.next_key::<IgnoredAny>()) {
            (Ok(key), Ok(None)) => Ok(key),
            _ => self.refuse(),
        }
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenProxy {
    None,
    Environment,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRates {
    rpm: Option<Spanned<String>>,
    tpm: Option<Spanned<String>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPrices {
    as_of: Spanned<String>,
    input: Spanned<String>,
    cached: Option<Spanned<String>>,
    cache_write: Option<Spanned<String>>,
    output: Spanned<String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTimeouts {
    connect: Option<Spanned<String>>,
    first_byte: Option<Spanned<String>>,
    idle: Option<Spanned<String>>,
    total: Option<Spanned<String>>,
}

/// Makes problems of one file.
#[derive(Clone, Copy)]
struct Complaints<'a>(&'a str);

impl Complaints<'_> {
    fn at<T>(self, place: &Spanned<T>, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Problem {
            kind: ProblemKind::InvalidValue,
            file: self.0.into(),
            line: number(place.referenced.line()),
            column: number(place.referenced.column()),
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// Reads the profiles of a file, which may be like those that are `known`.
pub(super) fn read(
    file: &str,
    text: &str,
    known: &BTreeMap<String, Profile>,
) -> Result<Vec<(String, Profile)>, Problem> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LARGEST_FILE {
        return Err(Problem {
            kind: ProblemKind::Syntax,
            file: file.into(),
            line: 0,
            column: 0,
            message: format!("the file is larger than {}", format_size(LARGEST_FILE)),
            hint: None,
        });
    }
    let written: Option<Pairs<Written>> = read_document(file, text)?;
    let complaints = Complaints(file);
    let mut read: Vec<(String, Profile)> = Vec::new();
    for (name, one) in written.map(|it| it.0).unwrap_or_default() {
        let earlier = |name: &str| read.iter().find(|(it, _)| it == name).map(|(_, it)| it).or_else(|| known.get(name));
        let profile = profile(complaints, &name, one, earlier, known)?;
        read.push((name.value, profile));
    }
    Ok(read)
}

fn profile<'a>(
    complaints: Complaints<'_>,
    name: &Spanned<String>,
    written: Written,
    earlier: impl Fn(&str) -> Option<&'a Profile>,
    known: &BTreeMap<String, Profile>,
) -> Result<Profile, Problem> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(plain) || name.value.starts_with('.') {
        return Err(complaints.at(
            name,
            format!("`{}` is no name of a profile", name.value.escape_debug()),
            "a name has 1 to 64 lower-case letters, digits, `-`, `_` and `.`",
        ));
    }
    let model = match &written.like {
        Some(like) => Some(earlier(&like.value).ok_or_else(|| {
            let hint = nearest(&like.value, known.keys().map(String::as_str)).map_or_else(
                || "name a built-in profile, or one above".to_owned(),
                |it| format!("did you mean `{it}`?"),
            );
            complaints.at(like, format!("there is no profile `{}` to be like", like.value.escape_debug()), hint)
        })?),
        None => earlier(&name.value),
    };
    let base_url = match &written.base_url {
        Some(it) => Some(
            BaseUrl::parse(&it.value)
                .map_err(|(reason, hint)| complaints.at(it, format!("the address {reason}"), hint))?,
        ),
        None => None,
    };
    let mut profile = match (model, &written.kind, base_url) {
        (Some(model), kind, base_url) => {
            let mut profile = Profile { name: name.value.clone(), ..model.clone() };
            if let Some(kind) = kind.as_ref().filter(|it| it.value != profile.kind) {
                return Err(complaints.at(
                    kind,
                    format!("this profile is like `{}`, which is of another kind", model.name),
                    "give it a name of its own and leave `like` out",
                ));
            }
            if let Some(base_url) = base_url {
                // Whoever redirects a profile has to say which key goes there.
                if base_url.origin() != profile.base_url.origin() && written.key.is_none() {
                    return Err(complaints.at(
                        name,
                        format!("`{}` has another address than `{}` and no key of its own", name.value, model.name),
                        "say where its key is: `key: {env: NAME}`, or `key: none`",
                    ));
                }
                profile.base_url = base_url;
            }
            profile
        }
        (None, Some(kind), Some(base_url)) => plain_profile(&name.value, kind.value, base_url),
        (None, kind, _) => {
            let missing = if kind.is_none() { "kind" } else { "base_url" };
            return Err(complaints.at(
                name,
                format!("the profile `{}` has no `{missing}`", name.value),
                "a profile needs `kind` and `base_url`, or `like: NAME` of one that has them",
            ));
        }
    };
    if written.key.is_none() && model.is_none() {
        return Err(complaints.at(
            name,
            format!("the profile `{}` does not say where its key is", name.value),
            "add `key: {env: NAME}`, `key: {file: PATH}`, `key: {command: [PROGRAM, ARGUMENT]}` or `key: none`",
        ));
    }
    fill(complaints, &mut profile, written)?;
    Ok(profile)
}

/// A profile of a kind that says nothing else.
fn plain_profile(name: &str, kind: Kind, base_url: BaseUrl) -> Profile {
    let chat = kind == Kind::OpenaiChat;
    Profile {
        name: name.into(),
        kind,
        base_url,
        key: KeySource::None,
        key_header: None,
        headers: Vec::new(),
        dialect: Dialect {
            model: String::new(),
            stream: true,
            temperature: kind != Kind::Anthropic,
            seed: matches!(kind, Kind::OpenaiChat | Kind::Gemini | Kind::Ollama),
            include_usage: chat,
            finish_required: true,
            max_output_field: "max_completion_tokens".into(),
            context: None,
            extra_body: serde_json::Map::new(),
        },
        rates: Rates::default(),
        prices: None,
        timeouts: Timeouts::default(),
        environment_proxy: false,
    }
}

/// Writes what is written over what a profile has.
fn fill(complaints: Complaints<'_>, profile: &mut Profile, written: Written) -> Result<(), Problem> {
    if let Some(model) = written.model {
        if model.value.is_empty() || model.value.len() > 256 || model.value.chars().any(char::is_control) {
            return Err(complaints.at(&model, "this is no name of a model", "a name has 1 to 256 visible characters"));
        }
        if profile.dialect.model != model.value {
            profile.prices = None;
        }
        profile.dialect.model = model.value;
    }
    if let Some(key) = written.key {
        profile.key = key_source(complaints, key)?;
    }
    if let Some(header) = written.key_header {
        profile.key_header = Some(header_name(complaints, &header, &header.value)?);
    }
    if let Some(headers) = written.headers {
        let mut own = Vec::new();
        for (name, value) in &headers.value {
            let name = header_name(complaints, &headers, name)?;
            if !value.bytes().all(|it| it.is_ascii_graphic() || it == b' ') {
                let message = format!("the value of the header `{name}` is not made of visible ASCII characters");
                return Err(complaints.at(&headers, message, "write it on one line, without accents"));
            }
            if KEY_HEADERS.contains(&name.as_str()) || profile.key_header.as_ref() == Some(&name) {
                let message = format!("the header `{name}` is for the key");
                return Err(complaints.at(
                    &headers,
                    message,
                    "say where the key is by `key:`; it is never written here",
                ));
            }
            own.push((name, value.clone()));
        }
        profile.headers = own;
    }
    if let Some(extra_body) = written.extra_body {
        profile.dialect.extra_body = extra_body.value;
    }
    if let Some(field) = written.max_output_field {
        if !matches!(field.value.as_str(), "max_tokens" | "max_completion_tokens") {
            return Err(complaints.at(
                &field,
                "this is no field for the length of an answer",
                "it is `max_completion_tokens`, or `max_tokens` for older servers",
            ));
        }
        profile.dialect.max_output_field = field.value;
    }
    let dialect = &mut profile.dialect;
    for (written, place) in [
        (written.stream, &mut dialect.stream),
        (written.temperature, &mut dialect.temperature),
        (written.seed, &mut dialect.seed),
        (written.include_usage, &mut dialect.include_usage),
        (written.finish_required, &mut dialect.finish_required),
    ] {
        *place = written.unwrap_or(*place);
    }
    let rates = written.rates.unwrap_or(WrittenRates { rpm: None, tpm: None });
    for (written, place) in [
        (written.context, &mut dialect.context),
        (rates.rpm, &mut profile.rates.rpm),
        (rates.tpm, &mut profile.rates.tpm),
    ] {
        if let Some(written) = written {
            *place = Some(of_unit(complaints, &written, parse_count)?);
        }
    }
    if let Some(prices) = written.prices {
        profile.prices = Some(dated_prices(complaints, &prices)?);
    }
    if let Some(timeouts) = written.timeouts {
        let own = &mut profile.timeouts;
        for (written, place) in [
            (timeouts.connect, &mut own.connect),
            (timeouts.first_byte, &mut own.first_byte),
            (timeouts.idle, &mut own.idle),
            (timeouts.total, &mut own.total),
        ] {
            *place = written.map_or(Ok::<Duration, Problem>(*place), |it| of_unit(complaints, &it, parse_duration))?;
        }
    }
    if let Some(proxy) = written.proxy {
        profile.environment_proxy = matches!(proxy.value, WrittenProxy::Environment);
    }
    Ok(())
}

/// Reads a number with its unit.
fn of_unit<T>(
    complaints: Complaints<'_>,
    written: &Spanned<String>,
    parse: impl Fn(&str) -> Result<T, capibara_policies::UnitError>,
) -> Result<T, Problem> {
    parse(&written.value).map_err(|error| {
        complaints.at(written, error.to_string(), "numbers are written as 1000 or 20K, durations as 500ms, 5s or 10m")
    })
}

fn key_source(complaints: Complaints<'_>, key: Spanned<WrittenKey>) -> Result<KeySource, Problem> {
    let problem = |message: &str, hint: &str| Err(complaints.at(&key, message, hint));
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match &key.value {
        WrittenKey::None => Ok(KeySource::None),
        WrittenKey::Env(variable)
            if variable.is_empty()
                || !variable.chars().all(name)
                || variable.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            // It is not repeated, as it may be the key itself.
            problem(
                "what `env` says is no name of a variable",
                "write the variable's name, not the key: `key: {env: GROQ_API_KEY}`",
            )
        }
        WrittenKey::Env(variable) => Ok(KeySource::Env(variable.clone())),
        WrittenKey::File(path) if !path.starts_with('/') && !path.starts_with("~/") => {
            problem("the file of the key is not an absolute path", "write `/PATH` or `~/PATH`")
        }
        WrittenKey::File(path) => Ok(KeySource::File(path.into())),
        WrittenKey::Command(words)
            if words.first().is_none_or(String::is_empty) || words.iter().any(|it| it.contains('\0')) =>
        {
            problem(
                "the command of the key names no program",
                "write `key: {command: [PROGRAM, ARGUMENT]}`; no shell reads it",
            )
        }
        WrittenKey::Command(words) => Ok(KeySource::Command(words.clone())),
    }
}

fn header_name<T>(complaints: Complaints<'_>, place: &Spanned<T>, name: &str) -> Result<String, Problem> {
    let name = name.to_ascii_lowercase();
    let token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Err(complaints.at(place, "this is no name of a header", "letters, digits and `-`: `x-title`"));
    }
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(complaints.at(place, format!("the header `{name}` is not free to be set"), "leave it out"));
    }
    Ok(name)
}

fn dated_prices(complaints: Complaints<'_>, written: &WrittenPrices) -> Result<DatedPrices, Problem> {
    let date: jiff::civil::Date = written.as_of.value.parse().map_err(|_| {
        complaints.at(&written.as_of, "this is no date", "write the day the prices were looked up: `as_of: 2026-11-29`")
    })?;
    let price = |it: &Spanned<String>| {
        dollars_per_million(&it.value).ok_or_else(|| {
            complaints.at(it, "this is no price", "write dollars per million tokens, at most 1000000: `input: 2.50`")
        })
    };
    let input = price(&written.input)?;
    // What is not said costs as much as any token of the question.
    let or_input = |it: &Option<Spanned<String>>| it.as_ref().map_or(Ok(input), price);
    Ok(DatedPrices {
        as_of: date.to_string(),
        prices: Prices {
            input,
            cached: or_input(&written.cached)?,
            cache_write: or_input(&written.cache_write)?,
            output: price(&written.output)?,
        },
    })
}

/// Reads a decimal number of dollars per million tokens as billionths of a dollar per token, which are thousandths of it; what is
/// finer is rounded up, so that a cap still holds.
fn dollars_per_million(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |it: &str| !it.is_empty() && it.len() <= 12 && it.bytes().all(|it| it.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let (thousandths, finer) = part.split_at_checked(3).unwrap_or((part, ""));
    let thousandths: u64 = format!("{thousandths:0<3}").parse().ok()?;
    let up = u64::from(finer.bytes().any(|it| it != b'0'));
    let price = whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths)?.checked_add(up)?;
    (price <= 1_000_000_000).then_some(price)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Profile, Problem> {
        let known = read("built-in", super::super::BUILT_IN, &BTreeMap::new()).unwrap().into_iter().collect();
        read("models.yaml", text, &known).map(|mut all| all.pop().unwrap().1)
    }

    #[test]
    fn every_key_is_read() {
        let profile = one("
mine:
  kind: openai-chat
  base_url: https://api.x.com/v1
  model: m-1
  key: {command: [pass, show, x]}
  key_header: X-Key
  headers: {X-Title: a b}
  extra_body: {reasoning: {effort: low}, n: 1}
  stream: false
  temperature: false
  seed: false
  include_usage: false
  finish_required: false
  max_output_field: max_tokens
  context: 32K
  rates: {rpm: 30, tpm: 6K}
  prices: {as_of: 2026-11-29, input: 3.00, cached: 0.3, cache_write: '3.75', output: 15}
  timeouts: {connect: 1s, first_byte: 2s, idle: 3s, total: 4m}
  proxy: environment
")
        .unwrap();
        let serde_json::Value::Object(extra_body) = serde_json::json!({"reasoning": {"effort": "low"}, "n": 1}) else {
            unreachable!()
        };
        let expected = Profile {
            name: "mine".into(),
            kind: Kind::OpenaiChat,
            base_url: BaseUrl::parse("https://api.x.com/v1").unwrap(),
            key: KeySource::Command(vec!["pass".into(), "show".into(), "x".into()]),
            key_header: Some("x-key".into()),
            headers: vec![("x-title".into(), "a b".into())],
            dialect: Dialect {
                model: "m-1".into(),
                stream: false,
                temperature: false,
                seed: false,
                include_usage: false,
                finish_required: false,
                max_output_field: "max_tokens".into(),
                context: Some(32_000),
                extra_body,
            },
            rates: Rates { rpm: Some(30), tpm: Some(6_000) },
            prices: Some(DatedPrices {
                as_of: "2026-11-29".into(),
                prices: Prices { input: 3_000, cached: 300, cache_write: 3_750, output: 15_000 },
            }),
            timeouts: Timeouts {
                connect: Duration::from_secs(1),
                first_byte: Duration::from_secs(2),
                idle: Duration::from_secs(3),
                total: Duration::from_secs(240),
            },
            environment_proxy: true,
        };
        assert_eq!(profile, expected);
    }

    #[test]
    fn a_profile_takes_from_the_one_it_is_like() {
        let groq = one("groq: {model: m}").unwrap();
        assert_eq!((groq.model(), &groq.key), ("m", &KeySource::Env("GROQ_API_KEY".into())));
        let fast = one("fast: {like: groq, model: f, timeouts: {idle: 9s}}").unwrap();
        assert_eq!((fast.name.as_str(), fast.model(), &fast.base_url), ("fast", "f", &groq.base_url));
        assert_eq!((fast.timeouts.idle, fast.timeouts.connect), (Duration::from_secs(9), Duration::from_secs(5)));
        let other = one("groq: {base_url: 'https://proxy.x.com', key: {file: ~/k}}").unwrap();
        assert_eq!(other.key, KeySource::File("~/k".into()));
    }

    #[test]
    fn prices_are_exact_or_rounded_up() {
        for (text, expected) in [
            ("3", Some(3_000)),
            ("3.00", Some(3_000)),
            ("0.075", Some(75)),
            ("0.0375", Some(38)),
            ("0.0370", Some(37)),
            ("0.000000000001", Some(1)),
            ("0", Some(0)),
            ("1000000", Some(1_000_000_000)),
            ("1000000.001", None),
            ("-1", None),
            ("1e3", None),
            (".5", None),
            ("1.", None),
            ("1,5", None),
            ("", None),
            ("inf", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(dollars_per_million(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_a_hint() {
        let minimal = "x:\n  kind: openai-chat\n  base_url: https://x.com\n  key: none\n";
        for (text, line, part, hint) in [
            ("x: {kindd: ollama}", 1, "unknown key `kindd`", "did you mean `kind`?"),
            ("x: {kind: olama}", 1, "`olama` is not a value", "did you mean `ollama`?"),
            ("X: {kind: ollama}", 1, "`X` is no name", "lower-case"),
            ("../x: {kind: ollama}", 1, "is no name", "lower-case"),
            ("x: {model: m}", 1, "no `kind`", "like: NAME"),
            ("x: {kind: ollama}", 1, "no `base_url`", "like: NAME"),
            ("x: {kind: ollama, base_url: 'https://x.com'}", 1, "where its key is", "key: none"),
            ("x:\n  kind: ollama\n  base_url: http://x.com\n", 3, "in the open", "https"),
            ("x:\n  like: grog\n", 2, "no profile `grog`", "did you mean `groq`?"),
            ("groq:\n  kind: ollama\n", 2, "another kind", "name of its own"),
            ("groq:\n  base_url: https://evil.com\n", 1, "no key of its own", "key: {env: NAME}"),
            ("x: {like: groq}\nx: {like: groq}", 2, "second time", ""),
            (&format!("{minimal}  context: many\n"), 5, "many", "1000"),
            (&format!("{minimal}  rates: {{rpm: 0}}\n"), 5, "0", "1000"),
            (&format!("{minimal}  timeouts: {{idle: 5}}\n"), 5, "5", "5s"),
            (&format!("{minimal}  prices: {{as_of: 2026-11-29, input: 1}}\n"), 5, "`output` is missing", ""),
            (&format!("{minimal}  prices: {{as_of: today, input: 1, output: 1}}\n"), 5, "no date", "as_of"),
            (&format!("{minimal}  prices: {{as_of: 2026-11-29, input: -1, output: 1}}\n"), 5, "no price", "2.50"),
            (&format!("{minimal}  headers: {{Host: x}}\n"), 5, "`host` is not free", "leave it out"),
            (&format!("{minimal}  headers: {{Authorization: Bearer sk-12345}}\n"), 5, "for the key", "key:"),
            (&format!("{minimal}  headers: {{x-goog-api-key: sk-12345}}\n"), 5, "for the key", "key:"),
            (&format!("{minimal}  headers: {{X-Api-Key: sk-12345}}\n"), 5, "for the key", "key:"),
            (&format!("{minimal}  headers: {{a b: x}}\n"), 5, "no name of a header", "x-title"),
            (&format!("{minimal}  headers: {{a: \"x\\ny\"}}\n"), 5, "visible ASCII", "one line"),
            (&format!("{minimal}  max_output_field: n\n"), 5, "no field", "max_tokens"),
            (&format!("{minimal}  model: ''\n"), 5, "no name of a model", "1 to 256"),
            (&minimal.replace("none", "{env: sk-12345}"), 4, "no name of a variable", "not the key"),
            (&minimal.replace("none", "{file: key.txt}"), 4, "not an absolute path", "~/PATH"),
            (&minimal.replace("none", "{command: []}"), 4, "names no program", "no shell"),
            (&minimal.replace("none", "sk-12345"), 4, "not a value of `key`", ""),
            (&minimal.replace("none", "12345"), 4, "not a value of `key`", ""),
            (&minimal.replace("none", "[sk-12345]"), 4, "not a value of `key`", ""),
            (&minimal.replace("none", "{token: sk-12345}"), 4, "not a value of `key`", ""),
            (&minimal.replace("none", "{command: sk-12345}"), 4, "not a value of `key`", ""),
            (&minimal.replace("none", "{env: A, file: sk-12345}"), 4, "not a value of `key`", ""),
            ("- a", 1, "", ""),
        ] {
            let problem = one(text).expect_err(text);
            assert_eq!(problem.line, line, "{text:?}: {problem}");
            assert!(problem.message.contains(part), "{text:?}: {problem}");
            assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{text:?}: {problem:?}");
            assert!(problem.file == "models.yaml", "{problem}");
            assert!(!format!("{problem:?}").contains("12345"), "{problem:?}");
        }
    }
}
