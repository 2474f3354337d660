//! The head: how far the log goes, in a file of its own, so that a cut tail is seen.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use super::key::{HEAD, KeyId, Keys, Signer, TrustedKeys};
use super::line::Sha;

/// Its size: one sector, written at once.
pub(super) const SIZE: usize = 512;

/// Where the last line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its number; 0 for a log that was begun and has no line.
    pub(super) sequence: u64,
    /// The SHA-256 of the whole line.
    pub(super) line: Sha,
    /// The first number of its file.
    pub(super) file: u64,
    /// Where in the file it begins, and where it ends with its newline.
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What stands in the file of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    Damaged,
    Valid(Head, KeyId),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    schema: u32,
    sequence: u64,
    line_sha256: String,
    file: u64,
    offset: u64,
    length: u64,
    key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    signature: String,
}

const SIGNATURE: &[u8] = br#","signature":""#;

impl Head {
    pub(super) const START: Self = Self { sequence: 0, line: [0; 32], file: 1, offset: 0, length: 0 };

    pub(super) fn encode(&self, signer: &Signer) -> io::Result<Vec<u8>> {
        let text = Text {
            schema: 1,
            sequence: self.sequence,
            line_sha256: hex::encode(self.line),
            file: self.file,
            offset: self.offset,
            length: self.length,
            key: signer.id.to_string(),
            signature: String::new(),
        };
        let mut bytes = serde_json::to_vec(&text)?;
        bytes.truncate(bytes.len().saturating_sub(1));
        let signature = hex::encode(signer.sign(HEAD, &bytes));
        bytes.extend_from_slice(SIGNATURE);
        bytes.extend_from_slice(signature.as_bytes());
        bytes.extend_from_slice(b"\"}");
        bytes.resize(SIZE - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads it and asks `signed` about key, body and signature.
    fn parse(bytes: &[u8], signed: impl FnOnce(KeyId, &[u8], &[u8; 64]) -> bool) -> Option<(Self, KeyId)> {
        if bytes.len() != SIZE {
            return None;
        }
        let bytes = bytes.trim_ascii_end();
        let text: Text = serde_json::from_slice(bytes).ok()?;
        let body = bytes.get(..bytes.len().checked_sub(SIGNATURE.len() + 128 + 2)?)?;
        let (mut line, mut key, mut signature) = ([0; 32], [0; 8], [0; 64]);
        hex::decode_to_slice(&text.line_sha256, &mut line).ok()?;
        hex::decode_to_slice(&text.key, &mut key).ok()?;
        hex::decode_to_slice(&text.signature, &mut signature).ok()?;
        let Text { schema, sequence, file, offset, length, .. } = text;
        let head = Self { sequence, line, file, offset, length };
        let sane = schema == 1 && offset <= length && file >= 1 && sequence < u64::MAX;
        (sane && signed(KeyId(key), body, &signature)).then_some((head, KeyId(key)))
    }

    /// What stands in its file.
    pub(super) fn bytes(file: &File) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; SIZE + 1];
        let count = file.read_at(&mut bytes, 0)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// As whoever writes the log reads it.
    pub(super) fn found_by(bytes: &[u8], keys: &Keys) -> Found {
        Self::found(bytes, |key, body, signature| {
            if key == keys.signer.id {
                keys.signer.signed(HEAD, body, signature)
            } else {
                keys.trusted.signed(key, HEAD, body, signature)
            }
        })
    }

    /// As whoever verifies the log reads it.
    pub(super) fn check(bytes: &[u8], keys: &TrustedKeys) -> Found {
        Self::found(bytes, |key, body, signature| keys.signed(key, HEAD, body, signature))
    }

    fn found(bytes: &[u8], signed: impl FnOnce(KeyId, &[u8], &[u8; 64]) -> bool) -> Found {
        if bytes.is_empty() {
            return Found::Missing;
        }
        Self::parse(bytes, signed).map_or(Found::Damaged, |(head, key)| Found::Valid(head, key))
    }
}
