//! See README.md.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| capibara_generate::fuzzing::wire(input));
