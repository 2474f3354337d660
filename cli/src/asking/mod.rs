//! What `ask` and `generate` share: a sentence becomes a script that was scanned, run and checked.

pub(crate) mod ending;
pub(crate) mod models;
pub(crate) mod report;
pub(crate) mod shown;
pub(crate) mod told;
pub(crate) mod trials;
pub(crate) mod wanted;
