//! Body of the fuzz target `audit` (see `fuzz/README.md`). Not an API.
pub fn audit(_input: &[u8]) {}
