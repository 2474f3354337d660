//! One JSON text on each line: bytes to lines.

use crate::wire::{MAX_EVENT_BYTES, WireError, extend_within};

/// Splits bytes, cut anywhere, into lines. Holds at most [`MAX_EVENT_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
}

impl Decoder {
    /// Takes the next bytes and tells `take` of each line that they complete, without its end, if it is not blank.
    ///
    /// # Errors
    ///
    /// A line that is too large, or what `take` says. Nothing more may be pushed then.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut parts = bytes.split(|it| *it == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.line.len().saturating_add(part.len()) > MAX_EVENT_BYTES {
                return Err(WireError::protocol("a line is larger than 1 MiB"));
            }
            if parts.peek().is_none() {
                extend_within(&mut self.line, part, MAX_EVENT_BYTES);
                break;
            }
            let line = if self.line.is_empty() {
                part
            } else {
                extend_within(&mut self.line, part, MAX_EVENT_BYTES);
                &self.line
            };
            if !line.trim_ascii().is_empty() {
                take(line.trim_ascii())?;
            }
            self.line.clear();
        }
        Ok(())
    }

    /// The line that was not ended.
    pub(crate) fn rest(&self) -> &[u8] {
        self.line.trim_ascii()
    }

    /// Bytes that the buffer can hold without growing.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn held(&self) -> usize {
        self.line.capacity()
    }
}
