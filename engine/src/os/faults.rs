//! Page faults of a thread: a page that becomes private takes one.

use std::sync::OnceLock;

/// Page faults this thread has taken so far; `None` where the system does not count each of them.
///
/// A private mapping's page that shows its file, or zeros, is not writable: the first write to it faults, whoever of the
/// kernel's or the program's code writes. So a thread that has taken no fault has made no page private.
pub(crate) fn page_faults() -> Option<u64> {
    static COUNTED: OnceLock<bool> = OnceLock::new();
    COUNTED.get_or_init(|| probe().unwrap_or(false)).then(count)
}

fn count() -> u64 {
    // SAFETY: an all-zero `rusage` is one, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    (usage.ru_minflt as u64).wrapping_add(usage.ru_majflt as u64)
}

/// Whether writing to fresh pages counts as many faults as there are pages.
fn probe() -> std::io::Result<bool> {
    const PAGES: usize = 16;
    let page = super::page_size();
    // Read first: the shared zero page is there then, and each write has to replace it.
    let at = super::map_anonymous(PAGES * page, super::Protection::ReadWrite)?;
    let mut counts = Vec::with_capacity(PAGES + 1);
    for number in 0..PAGES {
        counts.push(count());
        // SAFETY: inside the new mapping, of which nobody else knows.
        unsafe {
            let byte = at.add(number * page);
            std::ptr::write_volatile(byte, std::ptr::read_volatile(byte).wrapping_add(1));
        }
    }
    counts.push(count());
    // SAFETY: mapped above, used by nobody else.
    unsafe { super::unmap(at, PAGES * page) };
    // Large pages would serve several at once; what must not be is a write that nothing counts.
    Ok(counts.windows(2).all(|pair| pair[1] > pair[0]))
}
