//! The Python runtime of Capibara as data: a pack, as `capibara runtime export` writes it.
//!
//! The crate `capibara` unpacks it where no runtime is installed. See its `EngineConfig::pack`.

#![no_std]
#![forbid(unsafe_code)]

/// The pack: an xz-compressed tar archive. Empty where this crate was compiled in Capibara's repository, where runtimes are built from
/// their sources.
pub static PACK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/python.tar.xz"));
