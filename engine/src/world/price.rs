//! What host calls cost, in fuel.
//!
//! Wasmtime counts the instructions of the guest and nothing of what the host does for it. So the World counts itself,
//! by what a call was asked to do and never by how long it took: the same run costs the same on every machine. Twelve
//! units are about a nanosecond, as in the guest, so the prices below are measured times, rounded. What is spent
//! counts against the fuel limit and moves the virtual clock on; a run that passes the limit ends at its next call.

/// One call: leaving the guest, finding a descriptor, checking pointers, coming back.
pub(crate) const CALL: u64 = 1_000;
/// One name of a path, of a listing, or of a directory that is looked through; one subscription of a poll.
pub(crate) const NAME: u64 = 800;
/// One look at a name on the host: a few calls of its operating system.
pub(crate) const HOST_NAME: u64 = 24_000;
/// One byte copied from or to guest memory.
pub(crate) const BYTE: u64 = 1;
/// One byte of memory taken for files, names and listings: it is fresh and has to be brought in.
pub(crate) const HELD_BYTE: u64 = 3;
/// One random byte, or one byte of standard input or of a file of the host, which is digested.
pub(crate) const DIGESTED_BYTE: u64 = 8;
