//! Operating system calls, each wrapped so that callers need no `unsafe`.
//!
//! # Why this is sound
//!
//! Every function passes the kernel pointers and lengths that come from one live Rust object, or from the address
//! range its own contract names; results are checked before anything is built from them. The functions that map or
//! unmap address space are `unsafe` themselves and say what the caller (only `image.rs`) must hold.
#![expect(unsafe_code, reason = "system calls; the argument stands above")]

mod faults;
mod pagemap;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

pub(crate) use faults::page_faults;
pub(crate) use pagemap::PagemapScan;

/// Turns a system call's result into an `io::Result`.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Size of a page of this machine, in bytes.
pub(crate) fn page_size() -> usize {
    use std::sync::OnceLock;
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: sysconf takes no pointer.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
    })
}

/// Mappings the kernel lets a process have (`vm.max_map_count`).
pub(crate) fn most_mappings() -> usize {
    const DEFAULT: usize = 65_530; // of Linux
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT)
}

/// Gives memory that was freed back to the system, where the allocator would keep it (glibc). Takes a millisecond at most
/// for each few megabytes that are free.
pub(crate) fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: touches only memory that is free; glibc documents it as safe to call from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What a range of address space may be used for.
#[derive(Clone, Copy)]
pub(crate) enum Protection {
    None,
    Read,
    ReadWrite,
}

impl Protection {
    fn bits(self) -> libc::c_int {
        match self {
            Self::None => libc::PROT_NONE,
            Self::Read => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// Maps `len` bytes of new anonymous address space at a place the kernel chooses.
pub(crate) fn map_anonymous(len: usize, protection: Protection) -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
    unsafe { map(std::ptr::null_mut(), len, protection, flags, -1) }
}

/// Maps the first `len` bytes of a file for reading.
pub(crate) fn map_file_shared(file: &File, len: usize) -> io::Result<*mut u8> {
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
    unsafe { map(std::ptr::null_mut(), len, Protection::Read, libc::MAP_SHARED, file.as_raw_fd()) }
}

/// Replaces `len` bytes at `addr` by a private, writable mapping of the file's first bytes.
///
/// # Safety
/// `[addr, addr + len)` lies in a mapping that the caller owns and that nobody uses at the moment.
pub(crate) unsafe fn remap_file_private(addr: *mut u8, len: usize, file: &File) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the caller's promise.
    unsafe { map(addr, len, Protection::ReadWrite, flags, file.as_raw_fd()) }.map(drop)
}

/// Replaces `len` bytes at `addr` by fresh zero pages.
///
/// # Safety
/// As [`remap_file_private`].
pub(crate) unsafe fn remap_anonymous(addr: *mut u8, len: usize, protection: Protection) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the caller's promise.
    unsafe { map(addr, len, protection, flags, -1) }.map(drop)
}

/// # Safety
/// With `MAP_FIXED` in `flags`, `[addr, addr + len)` is the caller's and unused.
unsafe fn map(addr: *mut u8, len: usize, protection: Protection, flags: i32, fd: i32) -> io::Result<*mut u8> {
    // SAFETY: the caller's promise.
    let mapped = unsafe { libc::mmap(addr.cast(), len, protection.bits(), flags, fd, 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped.cast()) }
}

/// Changes the protection of a range.
///
/// # Safety
/// As [`remap_file_private`].
pub(crate) unsafe fn protect(addr: *mut u8, len: usize, protection: Protection) -> io::Result<()> {
    // SAFETY: the caller's promise.
    checked(libc::c_long::from(unsafe { libc::mprotect(addr.cast(), len, protection.bits()) })).map(drop)
}

/// Drops the private pages of a range, so that it shows its file (or zeros) again.
///
/// # Safety
/// As [`remap_file_private`].
pub(crate) unsafe fn discard(addr: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    checked(libc::c_long::from(unsafe { libc::madvise(addr.cast(), len, libc::MADV_DONTNEED) })).map(drop)
}

/// Unmaps a range; a failure leaves it mapped, which only costs address space.
///
/// # Safety
/// The caller owns `[addr, addr + len)` and nobody uses it again.
pub(crate) unsafe fn unmap(addr: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(addr.cast(), len) };
}

/// Whether ranges of these sizes can be mapped at one time. They are unmapped again.
pub(crate) fn try_to_map(sizes: &[usize]) -> io::Result<()> {
    let mut mapped = Vec::new();
    let mut result = Ok(());
    for &len in sizes {
        match map_anonymous(len, Protection::None) {
            Ok(addr) => mapped.push((addr, len)),
            Err(error) => result = Err(error),
        }
    }
    for (addr, len) in mapped {
        // SAFETY: mapped above, and its address was given to nobody.
        unsafe { unmap(addr, len) };
    }
    result
}

/// Sixteen bytes from the system's random generator.
pub(crate) fn random_u128() -> io::Result<u128> {
    let mut bytes = [0_u8; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if got == bytes.len() {
        Ok(u128::from_le_bytes(bytes))
    } else {
        Err(io::Error::other("short read of random bytes"))
    }
}

/// A file in memory that no path leads to.
pub(crate) fn memory_file(bytes: &[u8]) -> io::Result<File> {
    use std::io::Write as _;
    let mut file = File::from(rustix::fs::memfd_create("capibara", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// The user this process acts as.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A descriptor that becomes readable once [`wake`](Self::wake) was called.
pub(crate) struct WakeUp(OwnedFd);

impl WakeUp {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn wake(&self) {
        // A full counter is readable already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// Waits until `fd` can be read (or is at its end), or until `wake_up` is woken: true means `fd`.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, wake_up: &WakeUp) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::new(&wake_up.0, PollFlags::IN)];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return Ok(fds[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
