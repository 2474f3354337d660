//! The form of one line: what is digested, what is signed, what the next line refers to.
//!
//! ```text
//! {"metadata":{"sequence":7,"event_code":"run",…},…,"unmapped":{…,"previous":"<64>","key":"<16>","digest":"<64>","signature":"<128>"}}
//! ```
//!
//! `digest` is the SHA-256 of the bytes of the line before `,"digest"`; `signature` is Ed25519 over it. `previous` is the
//! SHA-256 of the whole line before, without its newline. Start and end have a fixed form, so that a log is verified
//! without reading JSON, and two lines with the same meaning and other bytes are not the same line.

use sha2::{Digest as _, Sha256};

use super::key::{KeyId, RECORD, Signer, TrustedKeys};

/// Longest line, without its newline.
pub const LONGEST_LINE: usize = 64 << 10;

const START: &[u8] = br#"{"metadata":{"sequence":"#;
const CODE: &[u8] = br#","event_code":""#;
const PREVIOUS: &[u8] = br#","previous":""#;
const KEY: &[u8] = br#"","key":""#;
const DIGEST: &[u8] = br#"","digest":""#;
const SIGNATURE: &[u8] = br#"","signature":""#;
const END: &[u8] = br#""}}"#;

/// A SHA-256 digest.
pub(super) type Sha = [u8; 32];

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Run,
    KeyRotation,
    Recovery,
}

impl Event {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::KeyRotation => "key-rotation",
            Self::Recovery => "recovery",
        }
    }
}

/// A line that has the form of one. Nothing about it is verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    bytes: &'a [u8],
    pub(super) sequence: u64,
    pub(super) event: Event,
    pub(super) previous: Sha,
    pub(super) key: KeyId,
    pub(super) digest: Sha,
    pub(super) signature: [u8; 64],
}

/// Takes `wanted` from the end of `bytes`.
fn strip<'a>(bytes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    bytes.strip_suffix(wanted)
}

/// Takes `N` bytes in lower-case hexadecimal from the end of `bytes`.
fn strip_hex<const N: usize>(bytes: &[u8]) -> Option<(&[u8], [u8; N])> {
    let (rest, text) = bytes.split_at_checked(bytes.len().checked_sub(2 * N)?)?;
    let mut value = [0; N];
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    hex::decode_to_slice(text, &mut value).ok()?;
    Some((rest, value))
}

/// The number a line says it has, if it begins like one.
pub(super) fn sequence_of(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let rest = bytes.strip_prefix(START)?;
    let digits = rest.iter().take(21).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at_checked(digits)?;
    if number.first() == Some(&b'0') {
        return None;
    }
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

impl<'a> Line<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > LONGEST_LINE {
            return None;
        }
        let (sequence, rest) = sequence_of(bytes)?;
        let rest = rest.strip_prefix(CODE)?;
        let event = [Event::Run, Event::KeyRotation, Event::Recovery]
            .into_iter()
            .find(|event| rest.strip_prefix(event.code().as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"')))?;
        let (rest, signature) = strip_hex(strip(bytes, END)?)?;
        let (rest, digest) = strip_hex(strip(rest, SIGNATURE)?)?;
        let (rest, key) = strip_hex(strip(rest, DIGEST)?)?;
        let (rest, previous) = strip_hex(strip(rest, KEY)?)?;
        strip(rest, PREVIOUS)?;
        Some(Self { bytes, sequence, event, previous, key: KeyId(key), digest, signature })
    }

    /// The true digests: of what `digest` is about, and of the whole line.
    pub(super) fn digests(&self) -> (Sha, Sha) {
        // `,"digest":"` begins after the quote that ends the key.
        let tail = DIGEST.len() - 1 + 64 + SIGNATURE.len() + 128 + END.len();
        let (body, tail) =
            self.bytes.split_at_checked(self.bytes.len().saturating_sub(tail)).unwrap_or((self.bytes, &[]));
        let mut hasher = Sha256::new();
        hasher.update(body);
        let digest = hasher.clone().finalize().into();
        hasher.update(tail);
        (digest, hasher.finalize().into())
    }

    pub(super) fn signed_by(&self, keys: &TrustedKeys) -> bool {
        keys.signed(self.key, RECORD, &self.digest, &self.signature)
    }

    /// One object of `unmapped`, read as JSON.
    pub(super) fn unmapped<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        #[derive(serde::Deserialize)]
        struct Whole<T> {
            unmapped: T,
        }
        serde_json::from_slice::<Whole<T>>(self.bytes).ok().map(|whole| whole.unmapped)
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Sha {
    Sha256::digest(bytes).into()
}

/// Turns an event, whose JSON begins as [`START`] says and ends with its object `unmapped`, into a line; gives back the
/// digest that the next one refers to. Without the newline.
pub(super) fn seal(event: &mut Vec<u8>, previous: &Sha, signer: &Signer) -> Sha {
    debug_assert!(event.starts_with(START) && event.ends_with(b"}}"));
    event.truncate(event.len().saturating_sub(2));
    event.extend_from_slice(PREVIOUS);
    event.extend_from_slice(hex::encode(previous).as_bytes());
    event.extend_from_slice(KEY);
    event.extend_from_slice(signer.id.to_string().as_bytes());
    event.push(b'"');
    let mut hasher = Sha256::new();
    hasher.update(&*event);
    let body = event.len();
    let digest: Sha = hasher.clone().finalize().into();
    event.extend_from_slice(DIGEST.get(1..).unwrap_or_default());
    event.extend_from_slice(hex::encode(digest).as_bytes());
    event.extend_from_slice(SIGNATURE);
    event.extend_from_slice(hex::encode(signer.sign(RECORD, &digest)).as_bytes());
    event.extend_from_slice(END);
    hasher.update(event.get(body..).unwrap_or_default());
    hasher.finalize().into()
}
