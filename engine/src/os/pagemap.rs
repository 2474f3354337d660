//! `PAGEMAP_SCAN` (Linux 6.7 and later): which pages of a range were written since it was mapped.
//!
//! Layout and constants are those of `linux/fs.h`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use super::checked;

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xC060_6610;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// A run of written pages, as byte offsets from the start of the range that was scanned.
pub(crate) type WrittenRun = Range<usize>;

/// The kernel's page map of this process.
pub(crate) struct PagemapScan {
    map: File,
    /// The page map belongs to the process that opened it: after a fork it would show the parent's pages.
    process: u32,
}

impl PagemapScan {
    /// The page map, or `None` where the kernel cannot scan it (before 6.7, or /proc is hidden) and in a
    /// process forked after it was opened.
    pub(crate) fn get() -> Option<&'static Self> {
        static MAP: OnceLock<Option<PagemapScan>> = OnceLock::new();
        MAP.get_or_init(|| {
            let map = Self { map: File::open("/proc/self/pagemap").ok()?, process: std::process::id() };
            let page = super::page_size();
            // One page of ours: a kernel that does not know the call says ENOTTY.
            let probe = super::map_anonymous(page, super::Protection::ReadWrite).ok()?;
            let answer = map.written(probe, page, 1, |_| {});
            // SAFETY: mapped above, used by nobody else.
            unsafe { super::unmap(probe, page) };
            answer.is_ok().then_some(map)
        })
        .as_ref()
        .filter(|map| map.process == std::process::id())
    }

    /// Calls `found` with runs of privately written pages of `[base, base + len)`, swapped ones included, up to
    /// `max_pages` pages. Returns the offset up to which it has looked: `len` unless there were more.
    pub(crate) fn written(
        &self,
        base: *const u8,
        len: usize,
        max_pages: usize,
        mut found: impl FnMut(WrittenRun),
    ) -> io::Result<usize> {
        let base = base as u64;
        let page = super::page_size() as u64;
        let (mut at, mut left) = (0_u64, max_pages as u64);
        let mut regions = [Region { start: 0, end: 0, categories: 0 }; 256];
        while (at as usize) < len && left > 0 {
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                flags: 0,
                start: base + at,
                end: base + len as u64,
                walk_end: 0,
                vec: regions.as_mut_ptr() as u64,
                vec_len: regions.len() as u64,
                max_pages: left,
                // Written, and neither the shared zero page nor a page of the file itself ...
                category_inverted: PAGE_IS_PFNZERO | PAGE_IS_FILE,
                category_mask: PAGE_IS_WRITTEN | PAGE_IS_PFNZERO | PAGE_IS_FILE,
                // ... and in memory or in swap: a swapped page is not "present" but just as much written.
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: 0,
            };
            // SAFETY: `arg` and the array it names are alive and of the sizes given; the call only reads page tables.
            let count =
                checked(libc::c_long::from(unsafe { libc::ioctl(self.map.as_raw_fd(), PAGEMAP_SCAN as _, &mut arg) }))?
                    as usize;
            for region in regions.iter().take(count) {
                left = left.saturating_sub((region.end - region.start) / page);
                found((region.start - base) as usize..(region.end - base) as usize);
            }
            if arg.walk_end <= base + at {
                return Err(io::Error::other("scanning the page map made no progress"));
            }
            at = arg.walk_end - base;
        }
        Ok(at as usize)
    }
}
