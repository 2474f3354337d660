//! Memory images: how an instance gets its linear memory.
//!
//! A slot is a piece of address space that serves one linear memory at a time:
//!
//! ```text
//! [ image file, private copy-on-write | zero pages up to the memory's size | nothing ... 4 GiB + guard ]
//! ```
//!
//! A fresh instance takes a slot that already shows its image; when the instance is gone, the pages it wrote are put
//! back and the slot waits for the next one. Nothing boots, and a warm slot takes no page fault.
//!
//! # Why this is sound
//!
//! * A slot owns its address range from [`Slot::new`] to its drop; every address used below is inside it.
//! * A slot is in exactly one place: the free list, or the one [`Memory`] that Wasmtime owns. Wasmtime drops a memory
//!   only when no code can run on it any more, so restoring a slot never races with a guest.
//! * The first [`RESERVATION`] bytes are mapped or inaccessible, [`GUARD`] more are inaccessible: what Wasmtime's
//!   missing bounds checks rely on. [`Creator`] refuses a memory whose settings differ from these.
//! * Image files are opened from the runtime folder after the checks of `artifact.rs` and only ever mapped for
//!   reading or privately; who can change them while they are mapped could change this program too (SECURITY.md).
#![expect(unsafe_code, reason = "owns address space; the argument stands above")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

use crate::os::{self, PagemapScan, Protection};

/// Address space behind one memory: all a 32-bit index can reach.
pub(crate) const RESERVATION: usize = 4 << 30;
/// Inaccessible bytes behind it, for constant offsets.
pub(crate) const GUARD: usize = 32 << 20;
/// Image files are padded to this, which every page size divides.
pub(crate) const IMAGE_ALIGNMENT: usize = 64 << 10;
/// Written pages that are copied back when a slot is restored; what a run wrote beyond them is thrown away, and the
/// next run takes the page faults.
const KEEP_PAGES: usize = 2048;
/// Slots kept for later runs. A hello keeps about 0.7 MiB each.
const MAX_FREE_SLOTS: usize = 64;
/// Fiber stacks kept for later runs.
const MAX_FREE_STACKS: usize = 64;
/// Buffers for the memory of sessions that are kept for later turns, and the largest of them in bytes.
const MAX_FREE_BUFFERS: usize = 16;
const LARGEST_BUFFER: usize = 4 << 20;
/// Bytes at the top of a fiber stack that stay resident between runs.
const KEEP_STACK: usize = 128 << 10;
/// Mappings of a slot, and of a fiber stack.
pub(crate) const SLOT_MAPPINGS: usize = 3;
pub(crate) const STACK_MAPPINGS: usize = 2;
/// Mappings that are left to everything else in the process: an allocator that gets none ends it.
pub(crate) const SPARE_MAPPINGS: usize = 4096;

/// No memory or stack for a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpaceError {
    /// The system refuses it.
    #[error(transparent)]
    Os(#[from] io::Error),
    /// As many mappings are in use as the kernel allows a process, but for a reserve.
    #[error("{allowed} memory mappings are in use")]
    Mappings {
        /// What sandboxes may take together.
        allowed: usize,
    },
}

/// Counts the mappings of an engine's slots and stacks.
struct Mappings {
    used: AtomicUsize,
    /// Worked out when many are in use.
    allowed: OnceLock<usize>,
}

impl Mappings {
    fn new() -> Self {
        Self { used: AtomicUsize::new(0), allowed: OnceLock::new() }
    }

    /// Other engines, and the program itself, have theirs: the reserve is for them.
    fn allowed(&self) -> usize {
        *self.allowed.get_or_init(|| os::most_mappings().saturating_sub(SPARE_MAPPINGS).max(SPARE_MAPPINGS))
    }

    fn take(self: &Arc<Self>, count: usize) -> Result<TakenMappings, SpaceError> {
        let used = self.used.fetch_add(count, Ordering::Relaxed) + count;
        let taken = TakenMappings { count, of: self.clone() };
        if (used > SPARE_MAPPINGS || self.allowed.get().is_some()) && used > self.allowed() {
            return Err(SpaceError::Mappings { allowed: self.allowed() });
        }
        Ok(taken)
    }
}

/// Mappings in use, until it is dropped.
struct TakenMappings {
    count: usize,
    of: Arc<Mappings>,
}

impl Drop for TakenMappings {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// The memory an instance starts with: the content of a file, then zeros up to `memory_bytes`.
pub(crate) struct Image {
    id: u64,
    file: File,
    /// Bytes of the file, a multiple of [`IMAGE_ALIGNMENT`].
    len: usize,
    /// Size of the memory at the start.
    memory_bytes: usize,
    /// The file, mapped for reading: where restored pages are copied from.
    view: *const u8,
}

// SAFETY: `view` points to a mapping that lives as long as the image and is only read.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Takes a file of `len` bytes as the start of memories of `memory_bytes`.
    pub(crate) fn open(file: File, memory_bytes: usize) -> io::Result<Arc<Self>> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let fits = len > 0 && len <= memory_bytes && memory_bytes <= RESERVATION;
        if !fits || !len.is_multiple_of(IMAGE_ALIGNMENT) || !memory_bytes.is_multiple_of(IMAGE_ALIGNMENT) {
            return Err(io::Error::other(format!("image of {len} bytes does not fit a memory of {memory_bytes}")));
        }
        let view = os::map_file_shared(&file, len)?;
        Ok(Arc::new(Self { id: IDS.fetch_add(1, Ordering::Relaxed), file, len, memory_bytes, view }))
    }

    /// Bytes of linear memory an instance starts with.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: mapped in `open`; slots that show this image have mappings of their own.
        unsafe { os::unmap(self.view.cast_mut(), self.len) };
    }
}

/// Address space for one linear memory.
struct Slot {
    base: *mut u8,
    /// What `[0, size)` shows.
    image: Arc<Image>,
    /// Accessible bytes.
    size: usize,
    /// All pages that are private, as byte offsets, when that is known: those that were put back last.
    private: Option<Vec<Range<usize>>>,
    _mappings: TakenMappings,
}

// SAFETY: the range belongs to the slot alone; moving it to another thread moves that ownership.
unsafe impl Send for Slot {}
// SAFETY: a shared slot only gives away its address and size.
unsafe impl Sync for Slot {}

impl Slot {
    fn new(image: &Arc<Image>, mappings: &Arc<Mappings>) -> Result<Self, SpaceError> {
        let _mappings = mappings.take(SLOT_MAPPINGS)?;
        let base = os::map_anonymous(RESERVATION + GUARD, Protection::None)?;
        let mut slot = Self { base, image: image.clone(), size: 0, private: None, _mappings };
        slot.show(image)?;
        Ok(slot)
    }

    /// Makes the slot show another image (or the same one, freshly mapped).
    fn show(&mut self, image: &Arc<Image>) -> io::Result<()> {
        let above = self.size.max(image.memory_bytes) - image.memory_bytes;
        // SAFETY: all three ranges are inside the slot, which no memory uses now.
        unsafe {
            if above > 0 {
                os::remap_anonymous(self.base.add(image.memory_bytes), above, Protection::None)?;
            }
            os::remap_file_private(self.base, image.len, &image.file)?;
            if image.memory_bytes > image.len {
                let zeros = image.memory_bytes - image.len;
                os::remap_anonymous(self.base.add(image.len), zeros, Protection::ReadWrite)?;
            }
        }
        self.image = image.clone();
        self.size = image.memory_bytes;
        self.private = None;
        Ok(())
    }

    /// Puts back every page that was written, so that the slot equals its image again. With `no_new`, no page became private
    /// since that was done last.
    fn restore(&mut self, no_new: bool, map: Option<&PagemapScan>) -> io::Result<()> {
        self.restore_to(self.image.memory_bytes, no_new, map)
    }

    /// As [`restore`](Self::restore), with zeros behind the image up to `bytes`, of which it has as many or more.
    fn restore_to(&mut self, bytes: usize, no_new: bool, map: Option<&PagemapScan>) -> io::Result<()> {
        let Image { len, view, .. } = *self.image;
        // SAFETY: all ranges are inside the slot, which no memory uses now; `view` has `len` readable bytes.
        unsafe {
            if self.size > bytes {
                os::remap_anonymous(self.base.add(bytes), self.size - bytes, Protection::None)?;
                self.size = bytes;
            }
            let base = self.base;
            let put_back = |run: &Range<usize>| {
                let file_end = run.end.min(len).max(run.start);
                if file_end > run.start {
                    ptr::copy_nonoverlapping(view.add(run.start), base.add(run.start), file_end - run.start);
                }
                ptr::write_bytes(base.add(file_end), 0, run.end - file_end);
            };
            match self.private.take() {
                Some(known) if no_new => {
                    known.iter().for_each(put_back);
                    self.private = Some(known);
                    return Ok(());
                }
                _ => {}
            }
            let mut found = Vec::new();
            let done = match map {
                Some(map) => map.written(self.base, bytes, KEEP_PAGES, |run| {
                    put_back(&run);
                    found.push(run);
                })?,
                None => 0,
            };
            if done < bytes {
                os::discard(self.base.add(done), bytes - done)?;
            }
            // What was discarded is private no more. Without a scan nothing is known, and nothing is private.
            self.private = Some(found);
        }
        Ok(())
    }

    /// Copies all that can differ from the image.
    fn save(&self, mut bytes: Vec<u8>, map: Option<&PagemapScan>) -> io::Result<SavedPages> {
        bytes.clear();
        let mut runs = Vec::new();
        let mut keep = |run: Range<usize>| {
            // SAFETY: inside the slot, which no memory uses now.
            let pages = unsafe { std::slice::from_raw_parts(self.base.add(run.start), run.len()) };
            bytes.extend_from_slice(pages);
            runs.push(run);
        };
        match map {
            Some(map) => {
                map.written(self.base, self.size, usize::MAX, keep)?;
            }
            None => keep(0..self.size),
        }
        Ok(SavedPages { size: self.size, runs, bytes })
    }

    /// Makes the slot as it was when `saved` was made.
    fn roll_back(&mut self, saved: &SavedPages, map: Option<&PagemapScan>) -> io::Result<()> {
        self.restore_to(saved.size, false, map)?;
        self.private = None;
        let mut from = saved.bytes.as_slice();
        for run in &saved.runs {
            let Some((pages, rest)) = from.split_at_checked(run.len()) else { break };
            // SAFETY: `run` lies below the slot's size then, which is its size now; no memory uses the slot.
            unsafe { ptr::copy_nonoverlapping(pages.as_ptr(), self.base.add(run.start), pages.len()) };
            from = rest;
        }
        Ok(())
    }

    /// Whether the slot equals its image, byte by byte.
    fn is_restored(&self) -> bool {
        let Image { len, memory_bytes, view, .. } = *self.image;
        if self.size != memory_bytes {
            return false;
        }
        // SAFETY: `[0, memory_bytes)` is readable and no memory uses the slot; `view` has `len` readable bytes.
        let (slot, image) =
            unsafe { (std::slice::from_raw_parts(self.base, memory_bytes), std::slice::from_raw_parts(view, len)) };
        slot[..len] == *image && slot[len..].iter().all(|byte| *byte == 0)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the slot owns the range and is gone.
        unsafe { os::unmap(self.base, RESERVATION + GUARD) };
    }
}

/// The slots and fiber stacks of one engine.
pub(crate) struct Space {
    free: Mutex<HashMap<u64, Vec<Slot>>>,
    stacks: Mutex<Vec<Stack>>,
    /// Buffers of turns that ended, for later ones.
    buffers: Mutex<Vec<Vec<u8>>>,
    mappings: Arc<Mappings>,
    verify: bool,
    /// Whether slots and stacks serve further runs.
    reuse: bool,
}

/// A slot that the next memory made on this thread takes, and who has it after that memory.
struct Announced {
    slot: Slot,
    /// `None`: the space, for another run.
    keeper: Option<KeptMemory>,
    visit: Visit,
}

thread_local! {
    static ANNOUNCED: RefCell<Option<Announced>> = const { RefCell::new(None) };
}

/// What a session's memory was, for as long as it may have to be that again.
struct SavedPages {
    /// Accessible bytes.
    size: usize,
    /// Where the pages lay that can differ from the image, and what was in them, one behind the other.
    runs: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

/// Undoes what happens to a session's memory from now on, unless it is told to [keep](Self::keep) that.
pub(crate) struct Undo {
    memory: KeptMemory,
    /// `None`: there was no memory yet.
    saved: Option<SavedPages>,
    armed: bool,
}

impl Undo {
    /// Keeps what happened.
    pub(crate) fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let KeptMemory { slot, space } = &self.memory;
        if self.armed {
            let mut place = lock(slot);
            match (place.take(), &self.saved) {
                (Some(slot), None) => {
                    drop(place);
                    space.give_back(slot, false);
                }
                // One that cannot be put back is unmapped: the session finds none, and ends.
                (Some(mut slot), Some(saved)) => {
                    *place = slot.roll_back(saved, PagemapScan::get()).is_ok().then_some(slot);
                }
                (None, _) => {}
            }
        }
        if let Some(saved) = self.saved.take() {
            space.keep_buffer(saved.bytes);
        }
    }
}

/// Where a memory was used, to tell whether pages of its slot can have become private.
#[derive(Clone)]
pub(crate) struct Visit {
    thread: ThreadId,
    /// Faults of that thread before.
    faults: Option<u64>,
    /// Whether another thread has used it, too.
    moved: Arc<AtomicBool>,
}

impl Visit {
    /// A use that begins now, on this thread. Without `counted`, it never counts as quiet.
    pub(crate) fn new(counted: bool) -> Self {
        let faults = counted.then(os::page_faults).flatten();
        Self { thread: thread::current().id(), faults, moved: Arc::default() }
    }

    /// Says that this thread uses the memory.
    pub(crate) fn here(&self) {
        if !self.is_here() {
            self.moved.store(true, Ordering::Relaxed);
        }
    }

    fn is_here(&self) -> bool {
        thread::current().id() == self.thread
    }

    /// Whether no page can have become private since.
    fn was_quiet(&self) -> bool {
        let here = self.is_here() && !self.moved.load(Ordering::Relaxed);
        here && self.faults.is_some() && os::page_faults() == self.faults
    }
}

/// The memory of a session between its turns: what one instance left is what the next one finds.
#[derive(Clone)]
pub(crate) struct KeptMemory {
    slot: Arc<Mutex<Option<Slot>>>,
    space: Arc<Space>,
}

impl KeptMemory {
    /// Saves it, so that what happens from now on can be undone.
    ///
    /// # Errors
    /// Those of looking at the page map.
    pub(crate) fn begin(&self) -> Result<Undo, SpaceError> {
        let place = lock(&self.slot);
        let saved = match &*place {
            Some(slot) => Some(slot.save(self.space.buffer(), PagemapScan::get())?),
            None => None,
        };
        drop(place);
        Ok(Undo { memory: self.clone(), saved, armed: true })
    }

    /// Bytes of linear memory it holds; 0 before the first turn and during one.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.slot).as_ref().map_or(0, |slot| slot.size as u64)
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        // Instances hold a handle each: the last handle is the session's, or an instance's that outlived it.
        if Arc::strong_count(&self.slot) == 1
            && let Some(slot) = lock(&self.slot).take()
        {
            self.space.give_back(slot, false);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Space {
    /// With `verify`, every restored slot is compared with its image (slow: tests and soaks). Without `reuse`, slots and
    /// stacks stay mapped after their run instead of being put back (a process that runs one script and ends).
    pub(crate) fn new(verify: bool, reuse: bool) -> Arc<Self> {
        let mappings = Arc::new(Mappings::new());
        Arc::new(Self {
            free: Mutex::default(),
            stacks: Mutex::default(),
            buffers: Mutex::default(),
            mappings,
            verify,
            reuse,
        })
    }

    /// Runs `instantiate`, in which one memory is made: one that starts as `image`, or what `kept` holds, which it goes back
    /// to. Must not wait: the announcement belongs to this thread.
    ///
    /// # Errors
    /// If there is no address space or mapping left for it.
    pub(crate) fn with_memory<R>(
        &self,
        image: &Arc<Image>,
        kept: Option<&KeptMemory>,
        visit: &Visit,
        instantiate: impl FnOnce() -> R,
    ) -> Result<R, SpaceError> {
        struct Withdraw<'a>(&'a Space);
        impl Drop for Withdraw<'_> {
            fn drop(&mut self) {
                match ANNOUNCED.with(|place| place.borrow_mut().take()) {
                    Some(Announced { slot, keeper: Some(keeper), .. }) => *lock(&keeper.slot) = Some(slot),
                    Some(Announced { slot, keeper: None, .. }) => self.0.give_back(slot, false),
                    None => {}
                }
            }
        }
        let before = kept.and_then(|kept| lock(&kept.slot).take());
        let slot = before.map_or_else(|| self.take(image), Ok)?;
        ANNOUNCED
            .with(|place| *place.borrow_mut() = Some(Announced { slot, keeper: kept.cloned(), visit: visit.clone() }));
        let _withdraw = Withdraw(self);
        Ok(instantiate())
    }

    /// A use of a memory of this space that begins now, on this thread.
    pub(crate) fn visit(&self) -> Visit {
        Visit::new(self.reuse)
    }

    /// Memory for a session, which has nothing in it yet.
    pub(crate) fn kept_memory(self: &Arc<Self>) -> KeptMemory {
        KeptMemory { slot: Arc::default(), space: self.clone() }
    }

    fn buffer(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_default()
    }

    fn keep_buffer(&self, buffer: Vec<u8>) {
        let mut buffers = lock(&self.buffers);
        if buffer.capacity() <= LARGEST_BUFFER && buffers.len() < MAX_FREE_BUFFERS {
            buffers.push(buffer);
        }
    }

    fn take(&self, image: &Arc<Image>) -> Result<Slot, SpaceError> {
        let mut free = lock(&self.free);
        if let Some(slot) = free.get_mut(&image.id).and_then(Vec::pop) {
            return Ok(slot);
        }
        let other = free.values_mut().find_map(Vec::pop);
        drop(free);
        match other {
            Some(mut slot) => Ok(slot.show(image).map(|()| slot)?),
            None => Slot::new(image, &self.mappings),
        }
    }

    /// With `no_new`, no page of it became private since it was taken.
    fn give_back(&self, mut slot: Slot, no_new: bool) {
        if !self.reuse {
            // The process ends soon, and unmaps all at once.
            std::mem::forget(slot);
            return;
        }
        // An image nobody else holds serves no further run. A slot that cannot be restored is unmapped.
        let wanted = Arc::strong_count(&slot.image) > 1
            && lock(&self.free).values().map(Vec::len).sum::<usize>() < MAX_FREE_SLOTS;
        if !wanted || slot.restore(no_new, PagemapScan::get()).is_err() {
            return;
        }
        // A page that was missed would show one tenant's data to the next.
        assert!(
            !self.verify || std::thread::panicking() || slot.is_restored(),
            "a slot does not equal its image after it was restored"
        );
        lock(&self.free).entry(slot.image.id).or_default().push(slot);
    }
}

/// A linear memory on a slot.
struct Memory {
    slot: Option<Slot>,
    keeper: Option<KeptMemory>,
    visit: Visit,
    space: Arc<Space>,
}

impl Memory {
    fn slot(&self) -> (*mut u8, usize) {
        self.slot.as_ref().map_or((ptr::null_mut(), 0), |slot| (slot.base, slot.size))
    }
}

// SAFETY: `[base, base + byte_size)` is readable and writable, the address never moves, and it is the memory's alone.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.slot().1
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION
    }

    fn as_ptr(&self) -> *mut u8 {
        self.slot().0
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        let slot = self.slot.as_mut().ok_or_else(|| wasmtime::Error::msg("memory without a slot"))?;
        if new_size < slot.size || new_size > RESERVATION {
            return Err(wasmtime::Error::msg("growth out of range"));
        }
        // SAFETY: inside the slot; the pages were inaccessible until now and read as zeros.
        unsafe { os::protect(slot.base.add(slot.size), new_size - slot.size, Protection::ReadWrite)? };
        slot.size = new_size;
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match (self.slot.take(), &self.keeper) {
            (Some(slot), Some(keeper)) => *lock(&keeper.slot) = Some(slot),
            (Some(slot), None) => self.space.give_back(slot, self.visit.was_quiet()),
            (None, _) => {}
        }
    }
}

/// Makes linear memories from announced slots.
pub(crate) struct Creator(pub(crate) Arc<Space>);

// SAFETY: memories have the reservation and guard that were asked for; any other request is refused.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let announced = ANNOUNCED.with(|place| place.borrow_mut().take());
        let Announced { slot, keeper, visit } = announced.ok_or("no image was announced for this memory")?;
        let memory = Memory { slot: Some(slot), keeper, visit, space: self.0.clone() };
        let start = memory.slot.as_ref().map_or(0, |slot| slot.image.memory_bytes);
        let fits = minimum == start && maximum.is_none_or(|maximum| maximum >= memory.byte_size());
        if !fits || ty.is_64() || ty.is_shared() || reserved != Some(RESERVATION) || guard > GUARD {
            return Err(format!(
                "memory of {minimum} to {maximum:?} bytes, {reserved:?} reserved, guard {guard}, is not the image's"
            ));
        }
        Ok(Box::new(memory))
    }
}

/// A stack on which guest code runs, with one inaccessible page below it.
struct Stack {
    base: *mut u8,
    /// Usable bytes, without the guard page.
    size: usize,
    _mappings: TakenMappings,
}

// SAFETY: the range belongs to the stack alone.
unsafe impl Send for Stack {}
// SAFETY: a shared stack only gives away addresses.
unsafe impl Sync for Stack {}

impl Stack {
    fn new(size: usize, mappings: &Arc<Mappings>) -> Result<Self, SpaceError> {
        let _mappings = mappings.take(STACK_MAPPINGS)?;
        let page = os::page_size();
        let base = os::map_anonymous(size + page, Protection::None)?;
        let stack = Self { base, size, _mappings };
        // SAFETY: inside the new mapping.
        unsafe { os::protect(base.add(page), size, Protection::ReadWrite)? };
        Ok(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the stack owns the range and is gone.
        unsafe { os::unmap(self.base, self.size + os::page_size()) };
    }
}

/// A stack in use; goes back to its space.
struct LentStack {
    stack: Option<Stack>,
    space: Arc<Space>,
}

impl LentStack {
    fn bounds(&self) -> (*mut u8, usize) {
        self.stack.as_ref().map_or((ptr::null_mut(), 0), |stack| (stack.base, stack.size))
    }
}

// SAFETY: `range` is readable and writable and the stack's alone, `guard_range` below it is inaccessible.
unsafe impl StackMemory for LentStack {
    fn top(&self) -> *mut u8 {
        let (base, size) = self.bounds();
        base.wrapping_add(os::page_size() + size)
    }

    fn range(&self) -> Range<usize> {
        let (base, size) = self.bounds();
        let bottom = base as usize + os::page_size();
        bottom..bottom + size
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let (base, _) = self.bounds();
        base..base.wrapping_add(os::page_size())
    }
}

impl Drop for LentStack {
    fn drop(&mut self) {
        let Some(stack) = self.stack.take() else { return };
        if !self.space.reuse {
            std::mem::forget(stack);
            return;
        }
        let mut stacks = lock(&self.space.stacks);
        if stacks.len() >= MAX_FREE_STACKS {
            return;
        }
        let cold = stack.size.saturating_sub(KEEP_STACK);
        // SAFETY: inside the stack, on which nothing runs any more.
        let dropped = unsafe { os::discard(stack.base.wrapping_add(os::page_size()), cold) };
        if dropped.is_ok() {
            stacks.push(stack);
        }
    }
}

/// Makes fiber stacks, and uses old ones again.
pub(crate) struct Stacks(pub(crate) Arc<Space>);

// SAFETY: stacks are page-aligned, have a guard page, and belong to one fiber at a time.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let kept = {
            let mut stacks = lock(&self.0.stacks);
            let found = stacks.iter().rposition(|stack| stack.size == size);
            found.map(|at| stacks.swap_remove(at))
        };
        let stack = match kept {
            Some(stack) => stack,
            None => Stack::new(size, &self.0.mappings)?,
        };
        Ok(Box::new(LentStack { stack: Some(stack), space: self.0.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes to a page that is not private yet.
    fn fault() {
        let page = os::page_size();
        let at = os::map_anonymous(page, Protection::ReadWrite).unwrap();
        // SAFETY: mapped above, and used by nobody else.
        unsafe {
            at.write_volatile(1);
            os::unmap(at, page);
        }
    }

    #[test]
    fn a_visit_is_quiet_only_without_faults_and_on_one_thread() {
        // A page of code that is used the first time is a fault, too: so not each try has to be quiet.
        let quiet = |visit: fn() -> Visit| (0..100).any(|_| visit().was_quiet());
        assert!(quiet(|| Visit::new(true)), "this system does not count page faults");
        assert!(!quiet(|| Visit::new(false)));
        let visit = Visit::new(true);
        fault();
        assert!(!visit.was_quiet());
        // Another thread's faults are not this one's: that it was there is enough.
        let visit = Visit::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(!visit.was_quiet());
                visit.here();
            });
        });
        assert!(visit.moved.load(Ordering::Relaxed) && !visit.was_quiet());
        assert!(quiet(|| {
            let visit = Visit::new(true);
            visit.here();
            visit
        }));
    }

    #[test]
    fn mappings_run_out_with_an_error_and_come_back() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(IMAGE_ALIGNMENT as u64).unwrap();
        let image = Image::open(file, IMAGE_ALIGNMENT).unwrap();
        let space = Space::new(true, true);
        space.mappings.allowed.set(2 * SLOT_MAPPINGS + 1).unwrap();
        let first = space.take(&image).unwrap();
        let second = space.take(&image).unwrap();
        assert!(matches!(space.take(&image), Err(SpaceError::Mappings { allowed: 7 })));
        assert!(matches!(Stack::new(1 << 20, &space.mappings), Err(SpaceError::Mappings { .. })));
        drop(second);
        let third = space.take(&image).unwrap();
        drop((first, third));
        assert_eq!(space.mappings.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_slot_is_put_back_with_and_without_the_page_map() {
        const PAGES: usize = 4096;
        let (page, bytes) = (os::page_size(), PAGES * os::page_size());
        let file = tempfile::tempfile().unwrap();
        // Half of the memory is a file with something on each page, half zeros.
        use std::os::unix::fs::FileExt as _;
        for number in 0..PAGES / 2 {
            file.write_all_at(&[7], (number * page) as u64).unwrap();
        }
        file.set_len(bytes as u64 / 2).unwrap();
        let image = Image::open(file, bytes).unwrap();
        let space = Space::new(false, true);
        for map in [PagemapScan::get(), None] {
            let mut slot = space.take(&image).unwrap();
            // Few pages, more than are kept, few again, none.
            for (round, count) in [10, PAGES, 100, 0].into_iter().enumerate() {
                for number in 0..count {
                    let at = number * 41 % PAGES * page + round;
                    // SAFETY: inside the slot, which is this test's alone.
                    unsafe { slot.base.add(at).write_volatile(9) };
                }
                assert_eq!(slot.is_restored(), count == 0);
                slot.restore(false, map).unwrap();
                assert!(slot.is_restored(), "round {round}, page map: {}", map.is_some());
            }
            // Pages that are known are put back without looking.
            let known = slot.private.clone().unwrap_or_default();
            for run in &known {
                // SAFETY: as above.
                unsafe { slot.base.add(run.start).write_volatile(9) };
            }
            slot.restore(true, map).unwrap();
            assert!(slot.is_restored());
            assert_eq!(known.is_empty(), map.is_none());
            space.give_back(slot, false);
        }
    }
}
