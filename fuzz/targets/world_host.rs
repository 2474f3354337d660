//! See README.md.
#![no_main]

use std::sync::LazyLock;

use capibara::fuzzing::{Ground, world_host};

/// Kept until the process ends; its temporary folder stays behind.
static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    Ground::new(&dir.keep()).expect("folders in it")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| world_host(&GROUND, input).expect("folders as they were"));
