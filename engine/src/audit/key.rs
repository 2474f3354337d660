//! The key that signs the log, and the public keys that are trusted.

use std::fmt;
use std::path::PathBuf;

use ed25519_dalek::{SIGNATURE_LENGTH, Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::AuditError;
use super::files::Folder;

/// Said before everything signed, so that no signature is good for anything else.
pub(super) const RECORD: &[u8] = b"capibara audit record 1\0";
pub(super) const HEAD: &[u8] = b"capibara audit head 1\0";

pub(super) const KEY_FILE: &str = "audit.key";
pub(super) const NEXT_FILE: &str = "audit.key.next";
pub(super) const PINS_FILE: &str = "audit.pins.jsonl";
const LOCK_FILE: &str = "audit.keys.lock";

const LARGEST_KEY_FILE: u64 = 4096;
const LARGEST_PINS_FILE: u64 = 1 << 20;
/// Most keys that are pinned; each rotation adds one.
const MOST_PINS: usize = 4096;

/// Names a public key: the first eight bytes of its SHA-256, in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) [u8; 8]);

impl KeyId {
    fn of(key: &VerifyingKey) -> Self {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut id = [0; 8];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Public keys that may have signed a log.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<(KeyId, VerifyingKey)>);

/// One line of the pins.
#[derive(Serialize, Deserialize)]
struct Pin {
    schema: u32,
    key: String,
    public: String,
}

impl TrustedKeys {
    /// From public keys in hexadecimal, for a log that was copied from elsewhere.
    ///
    /// # Errors
    /// The first text that is no Ed25519 public key.
    pub fn from_hex<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut trusted = Self::default();
        for text in keys {
            trusted.push(public_from_hex(text).ok_or(text)?);
        }
        Ok(trusted)
    }

    /// Those pinned in a folder of keys; none if there is no such folder.
    ///
    /// # Errors
    /// When the folder or its list of pins cannot be read or trusted.
    pub fn pinned(keys: &std::path::Path) -> Result<Self, AuditError> {
        match Folder::open(keys)? {
            Some(folder) => Self::read(&folder),
            None => Ok(Self::default()),
        }
    }

    pub(super) fn read(folder: &Folder) -> Result<Self, AuditError> {
        let Some(bytes) = folder.content(PINS_FILE, LARGEST_PINS_FILE)? else { return Ok(Self::default()) };
        Self::parse(&bytes).ok_or_else(|| invalid(folder, PINS_FILE, "it is not a list of pinned keys"))
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut trusted = Self::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(MOST_PINS + 1) {
            let pin: Pin = serde_json::from_slice(line).ok()?;
            let public = public_from_hex(&pin.public)?;
            if pin.schema != 1 || pin.key != KeyId::of(&public).to_string() || trusted.0.len() == MOST_PINS {
                return None;
            }
            trusted.push(public);
        }
        Some(trusted)
    }

    fn write(&self, folder: &Folder) -> Result<(), AuditError> {
        let mut bytes = Vec::new();
        for (id, key) in &self.0 {
            let pin = Pin { schema: 1, key: id.to_string(), public: hex::encode(key.as_bytes()) };
            serde_json::to_writer(&mut bytes, &pin)
                .map_err(|error| AuditError::io("write", &folder.path)(error.into()))?;
            bytes.push(b'\n');
        }
        folder.replace(PINS_FILE, &bytes)
    }

    fn push(&mut self, key: VerifyingKey) {
        let id = KeyId::of(&key);
        if !self.contains(id) {
            self.0.push((id, key));
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their ids, the first one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|(id, _)| *id)
    }

    /// Ids and public keys in hexadecimal, the first one first.
    pub fn public(&self) -> impl Iterator<Item = (KeyId, String)> {
        self.0.iter().map(|(id, key)| (*id, hex::encode(key.as_bytes())))
    }

    pub(super) fn contains(&self, id: KeyId) -> bool {
        self.0.iter().any(|(known, _)| *known == id)
    }

    /// Whether this key signed that.
    pub(super) fn signed(&self, id: KeyId, domain: &[u8], body: &[u8], signature: &[u8; SIGNATURE_LENGTH]) -> bool {
        let Some((_, key)) = self.0.iter().find(|(known, _)| *known == id) else { return false };
        let message = [domain, body].concat();
        key.verify_strict(&message, &Signature::from_bytes(signature)).is_ok()
    }
}

fn public_from_hex(text: &str) -> Option<VerifyingKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
}

fn invalid(folder: &Folder, name: &str, reason: &'static str) -> AuditError {
    AuditError::KeyInvalid { path: folder.path.join(name), reason }
}

/// The secret key and its id. Never shown; wiped from memory when dropped.
pub(super) struct Signer {
    key: SigningKey,
    pub(super) id: KeyId,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    schema: u32,
    algorithm: String,
    key: String,
    secret: String,
}

impl Signer {
    pub(super) fn of(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let id = KeyId::of(&key.verifying_key());
        Self { key, id }
    }

    pub(super) fn draw() -> Result<Self, AuditError> {
        let mut seed = [0; 32];
        let mut filled = 0;
        while let Some(rest) = seed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(AuditError::io("draw a key from", "the system".as_ref())(error.into())),
            }
        }
        Ok(Self::of(&seed))
    }

    pub(super) fn public_hex(&self) -> String {
        hex::encode(self.key.verifying_key().as_bytes())
    }

    pub(super) fn sign(&self, domain: &[u8], body: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        self.key.sign(&[domain, body].concat()).to_bytes()
    }

    /// Whether this key signed that. Such signatures are the same every time, and making one costs less than checking it.
    pub(super) fn signed(&self, domain: &[u8], body: &[u8], signature: &[u8; SIGNATURE_LENGTH]) -> bool {
        self.sign(domain, body) == *signature
    }

    /// Makes it the key of an empty folder of keys.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn install(&self, keys: &std::path::Path) -> Result<(), AuditError> {
        let folder = Folder::make(keys)?;
        self.write(&folder, KEY_FILE)?;
        TrustedKeys(vec![(self.id, self.key.verifying_key())]).write(&folder)
    }

    fn read(folder: &Folder, name: &str) -> Result<Option<Self>, AuditError> {
        let Some(bytes) = folder.content(name, LARGEST_KEY_FILE)? else { return Ok(None) };
        Self::parse(&bytes).map(Some).ok_or_else(|| invalid(folder, name, "it is not a signing key"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let file: KeyFile = serde_json::from_slice(bytes).ok()?;
        let mut seed = [0; 32];
        hex::decode_to_slice(&file.secret, &mut seed).ok()?;
        let signer = Self::of(&seed);
        (file.schema == 1 && file.algorithm == "ed25519" && file.key == signer.id.to_string()).then_some(signer)
    }

    fn write(&self, folder: &Folder, name: &str) -> Result<(), AuditError> {
        let file = KeyFile {
            schema: 1,
            algorithm: "ed25519".into(),
            key: self.id.to_string(),
            secret: hex::encode(self.key.as_bytes()),
        };
        let bytes = serde_json::to_vec(&file).map_err(|error| AuditError::io("write", &folder.path)(error.into()))?;
        folder.replace(name, &bytes)
    }
}

/// The folder of keys, with what is in it.
#[derive(Debug)]
pub(super) struct Keys {
    folder: Folder,
    pub(super) signer: Signer,
    pub(super) trusted: TrustedKeys,
}

impl Keys {
    /// Opens the folder. The key is made, and pinned, when neither key nor pins are there.
    pub(super) fn open(path: &std::path::Path) -> Result<Self, AuditError> {
        let folder = Folder::make(path)?;
        if let (Some(signer), trusted) = (Signer::read(&folder, KEY_FILE)?, TrustedKeys::read(&folder)?)
            && trusted.contains(signer.id)
        {
            return Ok(Self { folder, signer, trusted });
        }
        let _lock = lock(&folder)?;
        // Another process may have made it meanwhile.
        let mut trusted = TrustedKeys::read(&folder)?;
        let signer = match Signer::read(&folder, KEY_FILE)? {
            Some(signer) => signer,
            None if trusted.is_empty() => {
                let signer = Signer::draw()?;
                signer.write(&folder, KEY_FILE)?;
                signer
            }
            None => return Err(AuditError::KeyMissing { path: folder.path.join(KEY_FILE) }),
        };
        if trusted.is_empty() {
            trusted.push(signer.key.verifying_key());
            trusted.write(&folder)?;
        }
        if !trusted.contains(signer.id) {
            return Err(AuditError::UnknownKey { key: signer.id.to_string(), path: folder.path });
        }
        Ok(Self { folder, signer, trusted })
    }

    /// Reads again what other processes may have changed.
    pub(super) fn reload(&mut self) -> Result<(), AuditError> {
        let _lock = lock(&self.folder)?;
        self.trusted = TrustedKeys::read(&self.folder)?;
        if let Some(signer) = Signer::read(&self.folder, KEY_FILE)? {
            self.signer = signer;
        }
        Ok(())
    }

    /// Takes the key of this id into use: the one in the folder, or the one a rotation left ready.
    pub(super) fn switch_to(&mut self, id: KeyId) -> Result<(), AuditError> {
        let _lock = lock(&self.folder)?;
        self.trusted = TrustedKeys::read(&self.folder)?;
        let unknown = || AuditError::UnknownKey { key: id.to_string(), path: self.folder.path.clone() };
        if !self.trusted.contains(id) {
            return Err(unknown());
        }
        let mut found = Signer::read(&self.folder, KEY_FILE)?.filter(|signer| signer.id == id);
        if found.is_none() {
            found = Signer::read(&self.folder, NEXT_FILE)?.filter(|signer| signer.id == id);
            if found.is_some() {
                self.folder.rename(NEXT_FILE, KEY_FILE)?;
            }
        }
        self.signer = found.ok_or_else(unknown)?;
        Ok(())
    }

    /// Draws the next key, pins it and keeps it ready for [`Keys::switch_to`].
    pub(super) fn prepare_next(&mut self) -> Result<(KeyId, String), AuditError> {
        let _lock = lock(&self.folder)?;
        let next = Signer::draw()?;
        let mut trusted = TrustedKeys::read(&self.folder)?;
        if trusted.0.len() >= MOST_PINS {
            return Err(invalid(&self.folder, PINS_FILE, "it has too many keys"));
        }
        trusted.push(next.key.verifying_key());
        next.write(&self.folder, NEXT_FILE)?;
        trusted.write(&self.folder)?;
        self.trusted = trusted;
        Ok((next.id, next.public_hex()))
    }
}

/// Keeps other processes from changing the folder until it is dropped.
fn lock(folder: &Folder) -> Result<std::fs::File, AuditError> {
    let file = folder.create(LOCK_FILE)?;
    let path: PathBuf = folder.path.join(LOCK_FILE);
    file.lock().map_err(AuditError::io("lock", &path))?;
    Ok(file)
}
