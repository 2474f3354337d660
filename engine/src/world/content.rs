//! The bytes of a file: in chunks, of which those that were never written are not there.
//!
//! A script can name any size, so nothing here is as large as a size: a file that only *became* long holds nothing,
//! and a write far behind the end holds the chunks it touches and their places in the index.

use std::sync::Arc;

use super::Stop;
use super::overlay::Lower;
use super::quota::Ledger;

/// Bytes of one chunk. One write or cut fills with zeros, copies or moves at most one.
const CHUNK: usize = 64 << 10;
/// What the place of a chunk takes of the memory quota, in bytes.
const PLACE_BYTES: u64 = 24;
/// Capacity that the last chunk of a shrinking file may keep, in bytes.
const KEPT_BYTES: usize = 4096;

/// The bytes of a file.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Given by the host, never changed and not charged to the script.
    Shared(Arc<[u8]>),
    /// Written by the script.
    Owned(Chunks),
    /// On the host, below an overlay.
    Lower(Box<Lower>),
}

impl Content {
    /// Size in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Shared(bytes) => length(bytes),
            Self::Owned(chunks) => chunks.len,
            Self::Lower(lower) => lower.len(),
        }
    }

    /// Copies what lies at `offset` and says how many bytes there were: fewer than asked for at the end.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        match self {
            Self::Shared(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
                copy(rest, into)
            }
            Self::Owned(chunks) => chunks.read(offset, into),
            // Read by the tree, which has what that takes.
            Self::Lower(_) => 0,
        }
    }
}

/// The bytes of a file of the script.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    len: u64,
    /// Chunk after chunk. What is missing, of one or behind the last, is zero; nothing lies behind `len`. A copy of the file has
    /// the same chunks, and whoever writes to one of them first gets one of its own.
    chunks: Vec<Arc<Vec<u8>>>,
    /// Bytes taken of the memory quota.
    held: u64,
}

impl Clone for Chunks {
    /// With the same capacity: that is what the account knows.
    fn clone(&self) -> Self {
        let mut chunks = Vec::with_capacity(self.chunks.capacity());
        chunks.extend_from_slice(&self.chunks);
        Self { len: self.len, chunks, held: self.held }
    }
}

/// A chunk to be changed, with the capacity it had.
fn own(chunk: &mut Arc<Vec<u8>>) -> Result<&mut Vec<u8>, Stop> {
    if Arc::get_mut(chunk).is_none() {
        let mut copy = Vec::new();
        copy.try_reserve_exact(chunk.capacity()).map_err(|_| Stop::HostMemory)?;
        copy.extend_from_slice(chunk);
        *chunk = Arc::new(copy);
    }
    Arc::get_mut(chunk).ok_or(Stop::HostMemory)
}

impl Chunks {
    /// Whether both have the very same chunks, so that nobody has written to one of them since they were copied. Files may be equal
    /// without that.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let chunks = || self.chunks.iter().zip(&other.chunks);
        self.len == other.len
            && self.chunks.len() == other.chunks.len()
            && chunks().all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Bytes taken of the memory quota.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let Some(mut into) = into.get_mut(..count) else { return 0 };
        let mut offset = offset;
        while !into.is_empty() {
            let (index, within) = position(offset);
            let (now, later) = into.split_at_mut(CHUNK.saturating_sub(within).min(into.len()));
            let there = self.chunks.get(index).and_then(|chunk| chunk.get(within..)).unwrap_or_default();
            let copied = copy(there, now);
            now.get_mut(copied..).unwrap_or_default().fill(0);
            offset = offset.saturating_add(length(now));
            into = later;
        }
        count
    }

    /// Writes at `offset` and says how many bytes fitted: fewer than given when the memory quota ends in the middle.
    ///
    /// # Errors
    /// [`Stop::HostMemory`] when the host has none left.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8], ledger: &mut Ledger) -> Result<usize, Stop> {
        let mut written = 0_usize;
        while let Some(rest) = bytes.get(written..)
            && !rest.is_empty()
        {
            let (index, within) = position(offset.saturating_add(length(bytes.get(..written).unwrap_or_default())));
            let piece = rest.get(..CHUNK.saturating_sub(within)).unwrap_or(rest);
            if !self.make_place(index, ledger)? {
                break;
            }
            let fitting = self.make_room(index, within.saturating_add(piece.len()), ledger)?.saturating_sub(within);
            let piece = piece.get(..fitting).unwrap_or(piece);
            let Some(chunk) = self.chunks.get_mut(index) else { break };
            if piece.is_empty() {
                break;
            }
            let chunk = own(chunk)?;
            if chunk.len() < within {
                chunk.resize(within, 0);
            }
            let over = chunk.get_mut(within..).unwrap_or_default();
            let copied = copy(piece, over);
            chunk.extend_from_slice(piece.get(copied..).unwrap_or_default());
            written = written.saturating_add(piece.len());
        }
        let end = offset.saturating_add(length(bytes.get(..written).unwrap_or_default()));
        if written > 0 {
            self.len = self.len.max(end);
        }
        Ok(written)
    }

    /// Sets the size. New bytes are zero and hold nothing.
    pub(crate) fn resize(&mut self, len: u64, ledger: &mut Ledger) {
        if len < self.len {
            let (index, within) = position(len);
            let last = index.saturating_add(usize::from(within > 0));
            for chunk in self.chunks.drain(last.min(self.chunks.len())..) {
                give(ledger, &mut self.held, length_of(chunk.capacity()));
            }
            if within > 0
                && let Some(chunk) = self.chunks.get_mut(index)
            {
                if Arc::get_mut(chunk).is_none() {
                    let before = chunk.capacity();
                    *chunk = Arc::new(chunk.get(..within).unwrap_or(chunk).to_vec());
                    give(ledger, &mut self.held, length_of(before.saturating_sub(chunk.capacity())));
                }
                let Some(chunk) = Arc::get_mut(chunk) else { return };
                chunk.truncate(within);
                if chunk.capacity().saturating_sub(chunk.len()) >= KEPT_BYTES {
                    let before = chunk.capacity();
                    chunk.shrink_to_fit();
                    give(ledger, &mut self.held, length_of(before.saturating_sub(chunk.capacity())));
                }
            }
            let before = self.chunks.capacity();
            self.chunks.shrink_to_fit();
            let places = length_of(before.saturating_sub(self.chunks.capacity()));
            give(ledger, &mut self.held, places.saturating_mul(PLACE_BYTES));
        }
        self.len = len;
    }

    /// Makes the place of a chunk; `false` if the quota has no room for it.
    fn make_place(&mut self, index: usize, ledger: &mut Ledger) -> Result<bool, Stop> {
        let needed = index.saturating_add(1);
        let capacity = self.chunks.capacity();
        if needed > capacity {
            // Some in reserve, so that a growing file moves its index seldom; none for the many files of one chunk.
            let spare = if capacity < 64 { capacity } else { capacity >> 3 };
            for wanted in [needed.max(capacity.saturating_add(spare)), needed] {
                let more = length_of(wanted.saturating_sub(capacity)).saturating_mul(PLACE_BYTES);
                if take(ledger, &mut self.held, more) {
                    let additional = wanted.saturating_sub(self.chunks.len());
                    self.chunks.try_reserve_exact(additional).map_err(|_| Stop::HostMemory)?;
                    break;
                }
            }
        }
        if needed > self.chunks.capacity() {
            return Ok(false);
        }
        if self.chunks.len() < needed {
            self.chunks.resize_with(needed, Arc::default);
        }
        Ok(true)
    }

    /// Makes room for `needed` bytes of a chunk and says how many there is room for.
    fn make_room(&mut self, index: usize, needed: usize, ledger: &mut Ledger) -> Result<usize, Stop> {
        let Some(chunk) = self.chunks.get_mut(index) else { return Ok(0) };
        let capacity = chunk.capacity();
        if needed <= capacity {
            return Ok(needed);
        }
        let room = capacity.saturating_add(usize::try_from(ledger.room()).unwrap_or(usize::MAX));
        let wanted = capacity.saturating_mul(2).clamp(needed.min(CHUNK), CHUNK).min(room);
        if wanted > capacity && take(ledger, &mut self.held, length_of(wanted.saturating_sub(capacity))) {
            let chunk = own(chunk)?;
            let additional = wanted.saturating_sub(chunk.len());
            chunk.try_reserve_exact(additional).map_err(|_| Stop::HostMemory)?;
        }
        Ok(needed.min(self.chunks.get(index).map_or(0, |chunk| chunk.capacity())))
    }

    /// Checks that the account is right.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn check(&self) {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.capacity()).sum();
        assert_eq!(self.held, chunks as u64 + self.chunks.capacity() as u64 * PLACE_BYTES);
        for (index, chunk) in self.chunks.iter().enumerate() {
            assert!(chunk.len() <= CHUNK && (index * CHUNK + chunk.len()) as u64 <= self.len || chunk.is_empty());
        }
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// All bytes in order, in pieces of at most [`CHUNK`].
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        static ZEROS: [u8; CHUNK] = [0; CHUNK];
        let (whole, rest) = position(self.len);
        (0..whole.saturating_add(usize::from(rest > 0))).flat_map(move |index| {
            let size = if index < whole { CHUNK } else { rest };
            let there = self.chunks.get(index).map(|chunk| chunk.as_slice()).unwrap_or_default();
            let zeros = ZEROS.get(..size.saturating_sub(there.len())).unwrap_or_default();
            [there, zeros].into_iter().filter(|piece| !piece.is_empty())
        })
    }

    /// All bytes in one piece, for the host.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(0)];
        self.read(0, &mut bytes);
        bytes
    }
}

/// The chunk that holds an offset, and the place in it.
fn position(offset: u64) -> (usize, usize) {
    let chunk = length_of(CHUNK);
    let index = offset.checked_div(chunk).and_then(|index| usize::try_from(index).ok()).unwrap_or(usize::MAX);
    let within = offset.checked_rem(chunk).and_then(|within| usize::try_from(within).ok()).unwrap_or(0);
    (index, within)
}

/// Copies as much as fits and says how much that was.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to.split_at_mut(count).0.copy_from_slice(from.split_at(count).0);
    count
}

fn length(bytes: &[u8]) -> u64 {
    length_of(bytes.len())
}

fn length_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn take(ledger: &mut Ledger, held: &mut u64, bytes: u64) -> bool {
    let taken = ledger.hold(bytes).is_ok();
    if taken {
        *held = held.saturating_add(bytes);
    }
    taken
}

fn give(ledger: &mut Ledger, held: &mut u64, bytes: u64) {
    ledger.release(bytes);
    *held = held.saturating_sub(bytes);
}
