//! Results that are kept by digest of what they follow from: at most so many, and so many bytes. The oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// See the module.
pub(crate) struct Kept<T> {
    most: usize,
    most_bytes: usize,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    by_digest: HashMap<[u8; 32], (T, usize)>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
    bytes: usize,
}

impl<T: Clone> Kept<T> {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        let inner = Inner { by_digest: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        Self { most, most_bytes, inner: Mutex::new(inner) }
    }

    pub(crate) fn get(&self, digest: &[u8; 32]) -> Option<T> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_digest.get(digest).map(|(value, _)| value.clone())
    }

    /// Keeps a value that takes `bytes` of memory, nearly. One that is too large, or there already, is not kept.
    pub(crate) fn keep(&self, digest: [u8; 32], value: T, bytes: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > self.most_bytes || inner.by_digest.contains_key(&digest) {
            return;
        }
        while inner.order.len() >= self.most || inner.bytes + bytes > self.most_bytes {
            let Some(oldest) = inner.order.pop_front() else { break };
            let gone = inner.by_digest.remove(&oldest).map_or(0, |(_, bytes)| bytes);
            inner.bytes = inner.bytes.saturating_sub(gone);
        }
        inner.bytes += bytes;
        inner.order.push_back(digest);
        inner.by_digest.insert(digest, (value, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let kept = Kept::new(3, 100);
        for (name, bytes) in [(1, 10), (2, 10), (3, 10), (4, 10), (5, 101)] {
            kept.keep([name; 32], name, bytes);
        }
        let there = |names: &[u8]| names.iter().map(|&name| kept.get(&[name; 32])).collect::<Vec<_>>();
        assert_eq!(there(&[1, 2, 3, 4, 5]), [None, Some(2), Some(3), Some(4), None]);
        kept.keep([6; 32], 6, 90);
        assert_eq!(there(&[2, 3, 4, 6]), [None, None, Some(4), Some(6)]);
    }
}
