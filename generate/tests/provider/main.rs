//! Providers over loopback connections: every fault of the guide that concerns the transport, against a server that writes, waits
//! and closes as it is told.

#![expect(clippy::unwrap_used, reason = "what the tests share is not marked as a test")]

mod cassettes;
mod chains;
mod conformance;
mod faults;
mod keys;
mod rig;
mod waits;
