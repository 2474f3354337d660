//! What a process holds, from `/proc/self`.

use std::time::{Duration, Instant};

/// What this process holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory, in bytes, shared pages included.
    pub resident_bytes: u64,
    /// The part of it that belongs to this process alone, in bytes.
    pub private_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Footprint {
    /// The present one.
    #[must_use]
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of the status");
            line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).expect("a number")
        };
        // The descriptor the folder is listed through is one of them, here as in the baseline.
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("the descriptors of this process").count();
        Self {
            resident_bytes: field("VmRSS:") << 10,
            private_bytes: field("RssAnon:") << 10,
            threads: field("Threads:"),
            descriptors: descriptors as u64,
        }
    }

    /// Whether the process is back at `self`, but for so many bytes of private memory: shared pages of a memory image count as
    /// resident once for each slot that shows them. Threads end a moment after they are told to:
    /// waits for them up to ten seconds.
    ///
    /// # Errors
    /// Says what is above the baseline.
    pub fn is_back(&self, tolerance_bytes: u64) -> Result<Self, String> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let now = Self::now();
            let back = now.threads <= self.threads
                && now.descriptors <= self.descriptors
                && now.private_bytes <= self.private_bytes + tolerance_bytes;
            if back {
                return Ok(now);
            }
            if Instant::now() > until {
                return Err(format!("not back at the baseline: {now:?}, before: {self:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
