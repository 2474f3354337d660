//! Keys of providers: where they come from, and how they are kept out of everything that is shown or stored.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

/// The most that a file or command may hold around its key, in bytes.
const LARGEST_SOURCE: u64 = 64 << 10;

/// The longest key that is sent as a header.
const LONGEST_KEY: usize = 8 << 10;

/// A shorter key could not be told from other text, and would be masked where it is none.
const SHORTEST_KEY: usize = 8;

/// How long a command may take to tell its key.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// Where the key of a profile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A variable of the environment.
    Env(String),
    /// A file that only its owner can read: mode 0600 or less. Absolute, or below the home folder by `~/`.
    File(PathBuf),
    /// What a program prints: its path or name, and its arguments. No shell reads them.
    Command(Vec<String>),
    /// There is none: a server of one's own.
    None,
}

/// Why there is no key. None of its texts holds one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The variable is not set.
    #[error("the key is read from the variable {name}, which is not set")]
    Unset {
        /// Name of the variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("the key cannot be read from `{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says, or what is wrong with it.
        reason: String,
    },
    /// Somebody else could read or change the file.
    #[error("the file `{}` of the key is open to others (mode {mode:03o})", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The command did not tell it.
    #[error("the command `{program}` does not tell the key: {reason}")]
    Command {
        /// The program.
        program: String,
        /// What came of it.
        reason: String,
    },
    /// What was read is no key.
    #[error("the key from {source_name} {reason}")]
    Malformed {
        /// `the variable NAME`, `the file PATH`, `the command PROGRAM`.
        source_name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl KeyError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unset { name } => {
                format!("set {name}, or say in models.yaml where the key is: `key: {{file: ~/.config/key}}`")
            }
            Self::File { .. } => "write the key, and nothing else, into that file".into(),
            Self::Open { path, .. } => {
                format!("`chmod 600 {}`, and replace the key if others may have read it", path.display())
            }
            Self::Command { .. } => {
                "run the command by hand to see what it says; it has to print the key and exit with 0".into()
            }
            Self::Malformed { .. } => {
                format!("a key is one line of {SHORTEST_KEY} to {LONGEST_KEY} visible ASCII characters")
            }
        }
    }
}

/// A key. It is wiped from memory when dropped, and cannot be printed.
#[derive(Clone, Debug)]
pub struct Key(SecretString);

impl Key {
    /// Takes the key out of what a source holds: white space around it is dropped.
    fn of(bytes: &[u8], source_name: impl FnOnce() -> String) -> Result<Self, KeyError> {
        let trimmed = bytes.trim_ascii();
        let reason = if trimmed.is_empty() {
            Some("is empty")
        } else if !trimmed.iter().all(u8::is_ascii_graphic) {
            Some("holds a control character, white space or a letter outside ASCII")
        } else if trimmed.len() < SHORTEST_KEY {
            Some("is too short to be one")
        } else if trimmed.len() > LONGEST_KEY {
            Some("is too long to be one")
        } else {
            None
        };
        match (reason, std::str::from_utf8(trimmed)) {
            (None, Ok(text)) => Ok(Self(SecretString::from(text))),
            (reason, _) => {
                Err(KeyError::Malformed { source_name: source_name(), reason: reason.unwrap_or("is no text") })
            }
        }
    }

    /// The key itself, to be put into the header it is for.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl KeySource {
    /// Reads the key now; `None` if the profile has none. It may block, for a command up to 10 seconds.
    ///
    /// # Errors
    ///
    /// [`KeyError`], with a hint.
    pub fn read(&self) -> Result<Option<Key>, KeyError> {
        let key = match self {
            Self::None => return Ok(None),
            Self::Env(name) => {
                let value = std::env::var_os(name).filter(|it| !it.is_empty());
                let value = value.ok_or_else(|| KeyError::Unset { name: name.clone() })?;
                Key::of(value.as_encoded_bytes(), || format!("the variable {name}"))?
            }
            Self::File(path) => {
                let path = at_home(path, std::env::var_os("HOME"));
                Key::of(&read_file(&path)?, || format!("the file `{}`", path.display()))?
            }
            Self::Command(words) => {
                let (program, arguments) =
                    words.split_first().map_or(("", [].as_slice()), |(it, rest)| (it.as_str(), rest));
                Key::of(&run(program, arguments, COMMAND_TIME)?, || format!("the command `{program}`"))?
            }
        };
        Ok(Some(key))
    }
}

/// The path with `~/` at its beginning replaced by the home folder, if there is one.
fn at_home(path: &Path, home: Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |reason: String| KeyError::File { path: path.to_owned(), reason };
    // Without blocking, so that opening a pipe nobody writes to does not wait.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| failed(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("it is no regular file".into()));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() && metadata.uid() != 0 {
        return Err(failed("it belongs to another user".into()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    bounded(file).map_err(failed)
}

fn bounded(from: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(LARGEST_SOURCE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST_SOURCE {
        return Err("it tells more than 64 KiB".into());
    }
    Ok(bytes)
}

/// A program in a process group of its own, which does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // What it started ends with it, or it could keep the pipe open.
            if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }
}

/// Runs a program and gives what it prints.
fn run(program: &str, arguments: &[String], time: Duration) -> Result<Vec<u8>, KeyError> {
    let failed = |reason: String| KeyError::Command { program: program.into(), reason };
    let until = Instant::now() + time;
    let mut command = Command::new(program);
    // What it says besides could be shown next to ours, key included.
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut running = Running(command.spawn().map_err(|error| failed(error.to_string()))?);
    let Some(stdout) = running.0.stdout.take() else {
        return Err(failed("its output cannot be read".into()));
    };
    let (told, hears) = mpsc::channel();
    std::thread::spawn(move || told.send(bounded(stdout)));
    let late = || failed(format!("it took longer than {} seconds", time.as_secs_f64()));
    let bytes = hears.recv_timeout(time).map_err(|_| late())?.map_err(failed)?;
    loop {
        match running.0.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(bytes),
            Ok(Some(status)) => return Err(failed(format!("it ended with {status}"))),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => return Err(late()),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}

/// Masks every key it knows in what is shown or stored: as it is, and as base64, percent-encoded, hexadecimal and JSON text, in
/// capital or small letters, as names of hosts lose them. A clone knows what the original knows and learns.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<SecretString>>>);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Learns a key.
    pub fn learn(&self, key: &Key) {
        let mut forms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms_of(key.expose()) {
            if !forms.iter().any(|known| known.expose_secret() == form) {
                forms.push(SecretString::from(form));
            }
        }
        // A longer form goes first, or a shorter one inside it would leave a rest.
        forms.sort_by_key(|it| std::cmp::Reverse(it.expose_secret().len()));
    }

    /// Learns each word of a text that could be a key.
    pub(crate) fn learn_words(&self, text: &str) {
        let words = text.split_ascii_whitespace();
        words.filter_map(|it| Key::of(it.as_bytes(), String::new).ok()).for_each(|it| self.learn(&it));
    }

    /// Writes `*` over each byte of a key. Nothing moves, so that a body keeps its packets.
    pub fn mask(&self, bytes: &mut [u8]) {
        for form in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let form = form.expose_secret().as_bytes();
            let mut from = 0;
            while let Some(at) = bytes.get(from..).and_then(|rest| find(rest, form)) {
                let (start, end) = (from + at, from + at + form.len());
                if let Some(hit) = bytes.get_mut(start..end) {
                    hit.fill(b'*');
                }
                from = end;
            }
        }
    }

    /// The text with keys masked.
    #[must_use]
    pub fn text(&self, text: impl Into<String>) -> String {
        let mut bytes = text.into().into_bytes();
        self.mask(&mut bytes);
        // Keys are ASCII, so what was UTF-8 still is.
        String::from_utf8(bytes).unwrap_or_default()
    }
}

fn find(bytes: &[u8], form: &[u8]) -> Option<usize> {
    bytes.windows(form.len().max(1)).position(|it| it.eq_ignore_ascii_case(form))
}

/// The ways a key may be written, each ASCII.
fn forms_of(key: &str) -> Vec<String> {
    // Signs that an address may hold are encoded by some, letters by nearly nobody.
    let percent = |kept: fn(u8) -> bool| -> String {
        key.bytes().map(|it| if kept(it) { char::from(it).to_string() } else { format!("%{it:02X}") }).collect()
    };
    let json = key.replace('\\', "\\\\").replace('"', "\\\"");
    let mut forms = vec![
        key.to_owned(),
        percent(|it| it.is_ascii_alphanumeric()),
        percent(|it| it.is_ascii_alphanumeric() || b"-._~".contains(&it)),
        percent(|_| false),
        json.replace('/', "\\/"),
        json,
        hex::encode(key),
    ];
    // Inside other text, base64 of a key begins at one of three offsets; the letters it shares with what stands around it are
    // left away.
    for before in 0..3_usize {
        let padded = [vec![0; before], key.as_bytes().to_vec()].concat();
        let (skip, whole) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.extend(alphabet.encode(&padded).get(skip..whole).map(str::to_owned));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CANARY: &str = "sk-CANARY/1\"2\\3+é";
    const KEY: &str = "sk-CANARY/1\"2\\3+4=5";

    fn key(text: &str) -> Key {
        Key::of(text.as_bytes(), String::new).unwrap()
    }

    #[test]
    fn a_key_is_one_line_of_visible_ascii() {
        assert_eq!(key("  sk-12345678\r\n").expose(), "sk-12345678");
        let long = "k".repeat(LONGEST_KEY + 1);
        for (text, part) in [
            ("", "empty"),
            (" \n", "empty"),
            ("sk-1234\n5678", "control"),
            ("sk-1234\x005678", "control"),
            ("sk-1234 5678", "white space"),
            (CANARY, "outside ASCII"),
            ("short", "short"),
            (long.as_str(), "long"),
        ] {
            let error = Key::of(text.as_bytes(), || "the variable K".into()).unwrap_err();
            assert!(error.to_string().contains(part), "{text:?}: {error}");
            assert!(!format!("{error} {error:?} {}", error.hint()).contains("1234"), "{error}");
        }
        assert!(!format!("{:?}", key(KEY)).contains("CANARY"));
    }

    #[test]
    fn sources_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-from-file\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let words = |words: &[&str]| KeySource::Command(words.iter().map(|&it| it.to_owned()).collect());
        for (source, expected) in [
            (KeySource::None, None),
            (KeySource::Env("CARGO_PKG_NAME".into()), Some("capibara-generate")),
            (KeySource::File(path), Some("sk-from-file")),
            (words(&["printf", "sk-from-$HOME;`x`"]), Some("sk-from-$HOME;`x`")),
        ] {
            let read = source.read().unwrap();
            assert_eq!(read.as_ref().map(Key::expose), expected, "{source:?}");
        }
        assert_eq!(at_home(Path::new("~/a/b"), Some("/h".into())), Path::new("/h/a/b"));
        assert_eq!(at_home(Path::new("/a"), Some("/h".into())), Path::new("/a"));
    }

    #[test]
    fn a_source_that_tells_no_key_is_told_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32, size: usize| {
            let path = folder.path().join(name);
            std::fs::write(&path, "k".repeat(size)).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            KeySource::File(path)
        };
        let words = |words: &[&str]| KeySource::Command(words.iter().map(|&it| it.to_owned()).collect());
        for (source, part) in [
            (KeySource::Env("CAPIBARA_NO_SUCH_VARIABLE".into()), "CAPIBARA_NO_SUCH_VARIABLE, which is not set"),
            (file("group", 0o640, 20), "mode 640"),
            (file("world", 0o604, 20), "mode 604"),
            (file("large", 0o600, 70_000), "more than 64 KiB"),
            (KeySource::File(folder.path().into()), "no regular file"),
            (KeySource::File(folder.path().join("none")), "No such file"),
            (words(&[]), "does not tell"),
            (words(&["/no/such/program"]), "No such file"),
            (words(&["false"]), "ended with exit status: 1"),
            (words(&["sh", "-c", "yes"]), "more than 64 KiB"),
        ] {
            let error = source.read().unwrap_err();
            assert!(error.to_string().contains(part), "{source:?}: {error}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn a_command_that_takes_too_long_ends_with_what_it_started() {
        let begin = Instant::now();
        let script = "sleep 30 & wait".to_owned();
        let error = run("sh", &["-c".into(), script], Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("longer than 0.1 seconds"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn every_form_of_a_key_is_masked() {
        let redactor = Redactor::default();
        redactor.learn(&key("sk-other-key"));
        redactor.learn(&key(KEY));
        let json = serde_json::to_string(KEY).unwrap();
        let inside = |alphabet: &base64::engine::GeneralPurpose, before: &str| {
            alphabet.encode(format!("{before}{KEY} and more"))
        };
        for text in [
            KEY.to_owned(),
            format!("{KEY}{KEY}"),
            "sk-CANARY%2F1%222%5C3%2B4%3D5".to_owned(),
            "sk-CANARY%2F1%222%5C3%2B4%3D5".to_owned().replace('-', "%2D"),
            KEY.bytes().map(|it| format!("%{it:02x}")).collect(),
            json.replace('/', "\\/"),
            json,
            hex::encode(KEY),
            hex::encode_upper(KEY),
            KEY.to_lowercase(),
            inside(&STANDARD_NO_PAD, ""),
            inside(&STANDARD_NO_PAD, "B"),
            inside(&URL_SAFE_NO_PAD, "Be"),
            inside(&URL_SAFE_NO_PAD, "Bearer "),
        ] {
            let masked = redactor.text(format!("é {text} é"));
            assert!(masked.contains(&"*".repeat(KEY.len() - 3)), "{text}: {masked}");
            assert!(masked.len() == text.len() + 6 && masked.starts_with("é ") && masked.ends_with(" é"), "{masked}");
        }
        assert_eq!(redactor.text("sk-other"), "sk-other");
        assert_eq!(redactor.text("a sk-other-key b"), "a ************ b");
        assert!(!format!("{redactor:?}").contains("sk"));
    }
}
