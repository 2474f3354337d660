//! Profiles: where a model is offered, and how it is spoken to. They are data; built-in ones and those of the user's `models.yaml`
//! are read in the same way.

mod document;
mod new;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capibara_policies::{Problem, nearest};
use sha2::{Digest, Sha256};
use url::{Host, Url};

use crate::key::KeySource;
use crate::price::Prices;
use crate::wire::{Dialect, Kind};

pub use new::NewProfile;

/// The largest file of profiles, in bytes.
pub const LARGEST_FILE: u64 = 256 << 10;

const BUILT_IN: &str = include_str!("../profiles.yaml");

/// Where one model is offered, and how it is spoken to.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Profile {
    /// Its name: lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The kind of API.
    pub kind: Kind,
    /// What paths of the API are below.
    pub base_url: BaseUrl,
    /// Where its key comes from.
    pub key: KeySource,
    /// The header of the key, if it is not that of the kind: `authorization` (as `Bearer KEY`), or one that holds the key alone.
    pub key_header: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// How the kind is spoken; it holds the model, which is empty if none is named yet.
    pub dialect: Dialect,
    /// Requests and tokens per minute that are never exceeded.
    pub rates: Rates,
    /// What tokens cost, if it is known.
    pub prices: Option<DatedPrices>,
    /// How long each part of a call may take.
    pub timeouts: Timeouts,
    /// Whether the environment's proxies are used (`HTTPS_PROXY` and its like). Default: no.
    pub environment_proxy: bool,
}

/// Bounds that the user puts on a profile, absent by default. Those of the provider's own headers hold besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests in any minute.
    pub rpm: Option<u64>,
    /// Tokens in any minute, questions and answers together.
    pub tpm: Option<u64>,
}

/// Prices, and the day they were looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatedPrices {
    /// The day, as `2026-11-29`.
    pub as_of: String,
    /// The prices.
    pub prices: Prices,
}

/// How long each part of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands, names and TLS included. Default: 5 s.
    pub connect: Duration,
    /// From the begin until the head of the response. Default: 120 s.
    pub first_byte: Duration,
    /// Between two parts of the response. Default: 60 s.
    pub idle: Duration,
    /// The whole call. Default: 10 min.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), first_byte: seconds(120), idle: seconds(60), total: seconds(600) }
    }
}

/// An address that a key may be sent to: `https`, or `http` on this machine; without user, query and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a fragment that reads after "the address", and what to try. It is not repeated there, as it may
    /// hold a password.
    pub fn parse(text: &str) -> Result<Self, (&'static str, &'static str)> {
        const HTTPS: &str = "write `https://HOST/PATH`; `http://` goes with this machine only";
        let mut url = Url::parse(text).map_err(|_| ("is no URL", HTTPS))?;
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(("names no host", HTTPS)),
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            return Err(("would send the key and the question in the open", HTTPS));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(("holds a user or password", "say where the key is by `key:`"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(("has a query or fragment", "leave out what follows `?` or `#`"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// Host and port, which a key is bound to.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Whether it is spoken to without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// The address of a path of the API, which may have a query.
    pub(crate) fn join(&self, path: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{self}/{path}"))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Profile {
    /// Headers and fields of the body may hold what is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Profile");
        shown.field("name", &self.name).field("kind", &self.kind).field("base_url", &self.base_url);
        shown.field("model", &self.dialect.model).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Profile {
    /// The model that is asked; empty if none is named.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.dialect.model
    }

    /// SHA-256, hexadecimal, of all that can change an answer: kind, address, model, how the kind is spoken, headers. The key,
    /// rates, prices and time-outs are no part of it.
    #[must_use]
    pub fn digest(&self) -> String {
        let Dialect {
            model,
            stream,
            temperature,
            seed,
            include_usage,
            finish_required,
            max_output_field,
            context,
            extra_body,
        } = &self.dialect;
        // Sorted, so that the order of lines in a file does not matter.
        let headers: BTreeMap<_, _> = self.headers.iter().map(|(name, value)| (name, value)).collect();
        let extra_body: BTreeMap<_, _> = extra_body.iter().collect();
        let whole = serde_json::json!([
            "capibara-profile-1",
            self.kind,
            self.base_url.to_string(),
            headers,
            model,
            [stream, temperature, seed, include_usage, finish_required],
            max_output_field,
            context,
            extra_body,
        ]);
        hex::encode(Sha256::digest(whole.to_string()))
    }
}

/// Why a profile cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A file cannot be read.
    #[error("the file of profiles `{}` cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says, or a bound of ours.
        reason: String,
    },
    /// A file does not describe profiles.
    #[error("{0}")]
    Invalid(Problem),
    /// There is no profile of that name.
    #[error("there is no profile named `{name}`")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The nearest there is, if one is near.
        nearest: Option<String>,
        /// All there are.
        all: Vec<String>,
    },
    /// A profile of that name is in the file already.
    #[error("the file has a profile named `{name}` already")]
    Exists {
        /// The name.
        name: String,
    },
}

impl ProfileError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => None,
            Self::Invalid(problem) => problem.hint.clone(),
            Self::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::Unknown { all, .. } => Some(format!("there are {}", all.join(", "))),
            Self::Exists { .. } => Some("choose another name, or change the file by hand".into()),
        }
    }
}

/// All profiles there are.
#[derive(Clone, Debug)]
pub struct Profiles {
    profiles: BTreeMap<String, Profile>,
    user_defined: Vec<String>,
}

impl Profiles {
    /// Reads the built-in profiles and those of files, later ones first. A file that is not there is as an empty one.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Unreadable`] and [`ProfileError::Invalid`], with file and line.
    pub fn read<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<Self, ProfileError> {
        let mut all = Self { profiles: BTreeMap::new(), user_defined: Vec::new() };
        all.add("built-in profiles", BUILT_IN)?;
        all.user_defined.clear();
        for path in files {
            let path = path.as_ref();
            if let Some(text) = read_file(path)? {
                all.add(&path.display().to_string(), &text)?;
            }
        }
        Ok(all)
    }

    /// Adds the profiles of a text that is called `file` in what is said about it.
    fn add(&mut self, file: &str, text: &str) -> Result<(), ProfileError> {
        for (name, profile) in document::read(file, text, &self.profiles).map_err(ProfileError::Invalid)? {
            if !self.user_defined.contains(&name) {
                self.user_defined.push(name.clone());
            }
            self.profiles.insert(name, profile);
        }
        Ok(())
    }

    /// The profile that is meant by `NAME` or `NAME/MODEL`; the second names the model to ask instead of the profile's own.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Unknown`], with the nearest name.
    pub fn get(&self, name: &str) -> Result<Profile, ProfileError> {
        let (profile, model) = name.split_once('/').map_or((name, None), |(profile, model)| (profile, Some(model)));
        let mut found = self.profiles.get(profile).cloned().ok_or_else(|| ProfileError::Unknown {
            name: profile.into(),
            nearest: nearest(profile, self.profiles.keys().map(String::as_str)).map(str::to_owned),
            all: self.profiles.keys().cloned().collect(),
        })?;
        if let Some(model) = model.filter(|it| !it.is_empty() && *it != found.dialect.model) {
            found.dialect.model = model.into();
            // Those are of the other model.
            found.prices = None;
        }
        Ok(found)
    }

    /// All profiles, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.values()
    }

    /// Names of the profiles that come from files, in their order.
    #[must_use]
    pub fn user_defined(&self) -> &[String] {
        &self.user_defined
    }
}

fn read_file(path: &Path) -> Result<Option<String>, ProfileError> {
    use std::io::Read;

    let failed = |reason: String| ProfileError::Unreadable { path: path.to_owned(), reason };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut text = String::new();
    file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<Profiles, ProfileError> {
        let mut all = Profiles::read::<&Path>([]).unwrap();
        all.add("models.yaml", text).map(|()| all)
    }

    #[test]
    fn built_in_profiles_speak_to_the_addresses_of_their_providers() {
        let all = Profiles::read::<&Path>([]).unwrap();
        let shown: Vec<_> = all.iter().map(|it| format!("{} {:?} {}", it.name, it.kind, it.base_url)).collect();
        assert_eq!(
            shown,
            [
                "anthropic Anthropic https://api.anthropic.com/v1",
                "gemini Gemini https://generativelanguage.googleapis.com/v1",
                "groq OpenaiChat https://api.groq.com/openai/v1",
                "llama-cpp OpenaiChat http://127.0.0.1:8080/v1",
                "ollama Ollama http://127.0.0.1:11434",
                "openai OpenaiResponses https://api.openai.com/v1",
                "openai-chat OpenaiChat https://api.openai.com/v1",
                "vllm OpenaiChat http://127.0.0.1:8000/v1",
            ]
        );
        assert!(all.user_defined().is_empty());
        assert!(!all.get("anthropic").unwrap().dialect.temperature);
        assert_eq!(all.get("ollama").unwrap().dialect.context, Some(16_384));
        assert_eq!(all.get("llama-cpp").unwrap().dialect.max_output_field, "max_tokens");
    }

    #[test]
    fn an_address_is_one_that_a_key_may_go_to() {
        for (text, shown) in [
            ("https://api.x.com/v1/", "https://api.x.com/v1"),
            ("https://api.x.com", "https://api.x.com"),
            ("HTTPS://API.x.com:8443//", "https://api.x.com:8443"),
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
            ("http://127.9.9.9", "http://127.9.9.9"),
            ("http://[::1]:1/", "http://[::1]:1"),
            ("http://localhost:1", "http://localhost:1"),
        ] {
            let url = BaseUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.join("a/b?c=d").unwrap().as_str(), format!("{shown}/a/b?c=d"));
        }
        for (text, part) in [
            ("", "no URL"),
            ("api.x.com", "no URL"),
            ("http://api.x.com", "in the open"),
            ("http://127.0.0.1.x.com", "in the open"),
            ("http://localhost.x.com", "in the open"),
            ("http://[::2]", "in the open"),
            ("http://0.0.0.0", "in the open"),
            ("ftp://127.0.0.1", "in the open"),
            ("file:///etc", "no host"),
            ("https://u@x.com", "a user"),
            ("https://u:sk-12345@x.com", "a user"),
            ("https://x.com?key=sk-12345", "a query"),
            ("https://x.com#a", "a query or fragment"),
        ] {
            let (reason, hint) = BaseUrl::parse(text).unwrap_err();
            assert!(reason.contains(part) && !hint.is_empty() && !reason.contains("12345"), "{text}: {reason}");
        }
    }

    #[test]
    fn a_model_is_named_after_the_profile() {
        let all = with("groq: {model: own, prices: {as_of: 2026-11-29, input: 1, output: 2}}").unwrap();
        for (name, model, priced) in [
            ("groq", "own", true),
            ("groq/own", "own", true),
            ("groq/", "own", true),
            ("groq/meta/x:1", "meta/x:1", false),
        ] {
            let profile = all.get(name).unwrap();
            assert_eq!((profile.model(), profile.prices.is_some()), (model, priced), "{name}");
        }
        let error = all.get("gorq/x").unwrap_err();
        assert_eq!(error.to_string(), "there is no profile named `gorq`");
        assert_eq!(error.hint().unwrap(), "did you mean `groq`?");
        assert!(all.get("zzzzzzz").unwrap_err().hint().unwrap().starts_with("there are anthropic, gemini"));
    }

    #[test]
    fn the_digest_is_of_what_changes_an_answer() {
        let base = "x: {kind: openai-chat, base_url: 'https://x.com', model: m, key: none";
        let digest = |more: &str| with(&format!("{base}{more}}}")).unwrap().get("x").unwrap().digest();
        let plain = digest("");
        assert_eq!(plain.len(), 64);
        for same in
            [", rates: {rpm: 1}", ", timeouts: {idle: 1s}", ", prices: {as_of: 2026-11-29, input: 1, output: 1}"]
        {
            assert_eq!(digest(same), plain, "{same}");
        }
        let mut all = vec![plain];
        for other in [
            ", headers: {a: b}",
            ", extra_body: {a: 1}",
            ", extra_body: {a: 2}",
            ", stream: false",
            ", temperature: false",
            ", seed: false",
            ", context: 1000",
            ", finish_required: false",
            ", max_output_field: max_tokens",
        ] {
            all.push(digest(other));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(digest(", extra_body: {a: 1, b: 2}"), digest(", extra_body: {b: 2, a: 1}"));
    }

    #[test]
    fn files_are_read_in_order_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let first = path("a.yaml", "mine: {like: vllm, model: one}\ngroq: {model: g}\n");
        let second = path("b.yaml", "mine: {model: two}\n");
        let all = Profiles::read([&first, &second, &folder.path().join("none.yaml")]).unwrap();
        assert_eq!(all.user_defined(), ["mine", "groq"]);
        assert_eq!(all.get("mine").unwrap().model(), "two");
        let large = path("c.yaml", &"#".repeat(300_000));
        assert!(Profiles::read([&large]).unwrap_err().to_string().contains("larger than 256KiB"));
        assert!(Profiles::read([folder.path()]).unwrap_err().to_string().contains("cannot be read"));
    }
}
