//! Exchanges with providers on file: recorded once, replayed without network, keys or time.

mod file;

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use file::{Ending, Exchange, Packet, Sent, Told};

use crate::key::Redactor;
use crate::profile::Profile;
use crate::rate::Gate;

/// The most exchanges that a folder may hold to be replayed.
const MOST_EXCHANGES: usize = 10_000;

/// The most bytes of all their files.
const MOST_BYTES: u64 = 256 << 20;

/// What connects profiles to their providers: the network, with or without a recording, or a recording alone. Profiles that share
/// one also share what they know of keys to be masked and of each provider's rates. A clone is the same.
#[derive(Clone, Debug)]
pub struct Wiring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mode: Mode,
    redactor: Redactor,
    gates: Mutex<HashMap<String, Gate>>,
}

#[derive(Debug)]
enum Mode {
    Live,
    Record { folder: PathBuf, numbers: Mutex<HashMap<String, u64>> },
    Replay { folder: PathBuf, left: Mutex<Vec<Exchange>> },
}

/// Why a folder of recordings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CassetteError {
    /// The folder or a file of it cannot be read or written.
    #[error("the recording `{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What the system says, or what is wrong with it.
        reason: String,
    },
    /// There is a recording already, which another would mix with.
    #[error("the folder `{}` holds a recording already", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
}

impl CassetteError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unusable { .. } => "name a folder that was written by --record",
            Self::Taken { .. } => "name a new folder, or remove that one",
        }
    }

    fn unusable(path: &Path, reason: impl ToString) -> Self {
        Self::Unusable { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl Wiring {
    fn new(mode: Mode) -> Self {
        Self(Arc::new(Inner { mode, redactor: Redactor::default(), gates: Mutex::default() }))
    }

    /// The network.
    #[must_use]
    pub fn live() -> Self {
        Self::new(Mode::Live)
    }

    /// The network, and each exchange written to a file of its own in that folder, which is made (mode 0700) if it is not there. No
    /// key is in them.
    ///
    /// # Errors
    ///
    /// [`CassetteError`], also if the folder holds a recording already.
    pub fn record(folder: &Path) -> Result<Self, CassetteError> {
        let failed = |error| CassetteError::unusable(folder, error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        if !files_of(folder)?.is_empty() {
            return Err(CassetteError::Taken { path: folder.to_owned() });
        }
        Ok(Self::new(Mode::Record { folder: folder.to_owned(), numbers: Mutex::default() }))
    }

    /// What was recorded in that folder, and nothing else: no connection is made, no key is read, and nothing is waited for. Each
    /// exchange is replayed once, to the request it was recorded for.
    ///
    /// # Errors
    ///
    /// [`CassetteError`] if a file is not of a recording, or all are larger than 256 MiB together.
    pub fn replay(folder: &Path) -> Result<Self, CassetteError> {
        let mut exchanges = Vec::new();
        let mut bytes = 0_u64;
        for path in files_of(folder)? {
            let size = std::fs::metadata(&path).map_err(|error| CassetteError::unusable(&path, error))?.len();
            bytes = bytes.saturating_add(size);
            if bytes > MOST_BYTES || exchanges.len() >= MOST_EXCHANGES {
                return Err(CassetteError::unusable(folder, "it is larger than a recording may be"));
            }
            let text = std::fs::read(&path).map_err(|error| CassetteError::unusable(&path, error))?;
            exchanges.push(Exchange::read(&text).map_err(|reason| CassetteError::unusable(&path, reason))?);
        }
        exchanges.sort_by(|a, b| (&a.profile, a.number).cmp(&(&b.profile, b.number)));
        Ok(Self::new(Mode::Replay { folder: folder.to_owned(), left: Mutex::new(exchanges) }))
    }

    /// Masks the keys that were read by profiles of this wiring.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.0.redactor
    }

    /// Whether all comes from a recording.
    #[must_use]
    pub fn replays(&self) -> bool {
        matches!(self.0.mode, Mode::Replay { .. })
    }

    /// How many exchanges of the recording were not asked for yet; 0 for the network.
    #[must_use]
    pub fn left(&self) -> usize {
        match &self.0.mode {
            Mode::Live | Mode::Record { .. } => 0,
            Mode::Replay { left, .. } => left.lock().unwrap_or_else(PoisonError::into_inner).len(),
        }
    }

    /// What holds calls of a profile back; the same for all that have its name.
    pub(crate) fn gate(&self, profile: &Profile) -> Gate {
        let mut gates = self.0.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry(profile.name.clone()).or_insert_with(|| Gate::new(profile.rates)).clone()
    }

    /// The number of the next exchange of a profile, if exchanges are recorded.
    pub(crate) fn next_number(&self, profile: &str) -> Option<u64> {
        match &self.0.mode {
            Mode::Live | Mode::Replay { .. } => None,
            Mode::Record { numbers, .. } => {
                let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
                let number = numbers.entry(profile.to_owned()).or_default();
                *number = number.saturating_add(1);
                Some(*number)
            }
        }
    }

    /// Writes an exchange down, with every key masked.
    pub(crate) fn keep(&self, exchange: Exchange) -> Result<(), CassetteError> {
        let Mode::Record { folder, .. } = &self.0.mode else { return Ok(()) };
        let path = folder.join(format!("{}-{:04}.json", exchange.profile, exchange.number));
        let failed = |error: std::io::Error| CassetteError::unusable(&path, error);
        let mut text = exchange.masked(&self.0.redactor).written().into_bytes();
        // What is base64 in the file was masked before; this is for all that is not.
        self.0.redactor.mask(&mut text);
        // Readable by its owner only, and there as a whole or not at all.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.persist_noclobber(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// The exchange that was recorded for this request. `None` if nothing is replayed.
    ///
    /// # Errors
    ///
    /// The first difference to the next exchange of the profile, or that there is none left.
    pub(crate) fn replayed(&self, profile: &str, sent: &Sent) -> Option<Result<Exchange, String>> {
        let Mode::Replay { folder, left } = &self.0.mode else { return None };
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let of_profile = |it: &&Exchange| it.profile == profile;
        if let Some(at) = left.iter().position(|it| it.profile == profile && it.request == *sent) {
            return Some(Ok(left.remove(at)));
        }
        let folder = folder.display();
        Some(Err(match left.iter().find(of_profile) {
            Some(next) => format!(
                "the request is not the one of the recording `{folder}` (exchange {}): {}",
                next.number,
                next.request.first_difference(sent)
            ),
            None => format!("the recording `{folder}` holds no more exchange of `{profile}`"),
        }))
    }
}

/// The files of a recording, in their order.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, CassetteError> {
    let failed = |error| CassetteError::unusable(folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|it| it == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
