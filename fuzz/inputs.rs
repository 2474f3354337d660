//! Inputs for the bodies of the fuzz targets where they run as tests: counted, and the same every time.

use std::fs;
use std::path::Path;

/// Seeds of a target, and `count` inputs of at most `len` bytes that are the same every time.
pub(crate) fn inputs(target: &str, count: u64, len: u64) -> impl Iterator<Item = Vec<u8>> {
    let seeds = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds")).join(target);
    let mut files: Vec<_> = fs::read_dir(seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    };
    let seeds: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let changed = seeds.clone();
    let drawn = (0..count).map(move |round| {
        // Every other one is a seed with some bytes changed.
        if round % 2 == 0 {
            return (0..=roll() % len).map(|_| roll() as u8).collect();
        }
        let mut input = changed[(roll() as usize) % changed.len()].clone();
        for _ in 0..=roll() % 8 {
            let at = roll() as usize % input.len().max(1);
            match (roll() % 3, input.get_mut(at)) {
                (0, Some(byte)) => *byte = roll() as u8,
                (1, Some(_)) => drop(input.remove(at)),
                _ => input.insert(at, roll() as u8),
            }
        }
        input
    });
    seeds.into_iter().chain(drawn)
}
