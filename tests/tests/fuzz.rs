//! Short runs of the fuzz targets in `tests/fuzz`, without a fuzzer: every file of a corpus, then some thousands of random changes to them.
//!
//! A failure names its seed. `WASMILL_FUZZ_SEED=… cargo test --release --workspace --test fuzz` does the same again; with
//! `WASMILL_FUZZ_TIMES=100` it goes on for a hundred times as long.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../fuzz/src/lib.rs"]
mod checks;
#[path = "fuzz/seeds.rs"]
mod seeds;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use wasmill_tests::root;

/// More than any file of a corpus has.
const BYTES_MAX: usize = 1 << 13;
/// Where checks of sizes, signs and ends are wrong if they are.
const EDGES: [u32; 10] = [0, 1, 2, 63, 64, 127, 128, 1 << 24, i32::MAX as u32, u32::MAX];

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    /// A range of at most `bytes` bytes in something of this length.
    fn range(&mut self, length: usize, bytes: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..length.min(start + self.below(bytes + 1))
    }

    /// One change, as fuzzers make them.
    fn change(&mut self, data: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(data.len());
        match self.below(8) {
            0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
            1 if !data.is_empty() => data[at] = self.next() as u8,
            2 if !data.is_empty() => data[at] = EDGES[self.below(EDGES.len())] as u8,
            3 if data.len() >= 4 => {
                let at = self.below(data.len() - 3);
                data[at..at + 4].copy_from_slice(&EDGES[self.below(EDGES.len())].to_le_bytes());
            }
            4 => {
                let range = self.range(data.len(), 32);
                data.drain(range);
            }
            5 => {
                let range = self.range(data.len(), 32);
                let copy = data[range].to_vec();
                data.splice(at..at, copy);
            }
            6 => {
                let other = &corpus[self.below(corpus.len())];
                let piece = other[self.range(other.len(), 64)].to_vec();
                let range = self.range(data.len(), 64);
                data.splice(range, piece);
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                data.truncate(at);
                data.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
        }
        data.truncate(BYTES_MAX);
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; a number is wanted")))
}

/// The files of a corpus, in the order of their names.
fn corpus(target: &str) -> (Vec<PathBuf>, Vec<Vec<u8>>) {
    let folder = root().join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    (paths, files)
}

/// Checks the bytes; if they fail, says which they were and keeps them.
fn attempt(target: &str, check: fn(&[u8]), data: &[u8], which: &str) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(data))) else { return };
    let kept = root().join("target").join(format!("fuzz-{target}"));
    std::fs::write(&kept, data).unwrap();
    eprintln!("{target} fails on {which}; the bytes are in {}", kept.display());
    resume_unwind(panic);
}

fn run(target: &str, check: fn(&[u8]), changes: u64) {
    let (paths, files) = corpus(target);
    assert!(files.len() >= 10, "{target}: a corpus of {} files", files.len());
    for (path, file) in paths.iter().zip(&files) {
        attempt(target, check, file, &path.display().to_string());
    }
    let seed = setting("WASMILL_FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(target));
    let mut random = Random(seed);
    for number in 0..changes * setting("WASMILL_FUZZ_TIMES").unwrap_or(1) {
        let mut data = files[random.below(files.len())].clone();
        for _ in 0..1 + random.below(4) {
            random.change(&mut data, &files);
        }
        attempt(target, check, &data, &format!("change {number} with WASMILL_FUZZ_SEED={seed}"));
    }
}

#[test]
fn frames_are_read_as_the_contract_says() {
    run("frame", checks::frame::check, 200_000);
}

#[test]
fn effects_are_read_as_the_contract_says() {
    run("effects", checks::effects::check, 200_000);
}

#[test]
fn descriptions_are_taken_or_refused() {
    run("describe", checks::describe::check, 100_000);
}

#[test]
fn job_files_are_taken_or_refused_with_a_place() {
    run("job_file", checks::job_file::check, 10_000);
}

#[test]
fn files_of_checkpoints_are_read_or_refused() {
    run("snapshot", checks::snapshot::check, 100_000);
}

/// Writes the seeds of the corpora anew, from the golden vectors, job files and checkpoints of this repository; see tests/fuzz/README.md.
#[test]
#[ignore = "writes files"]
fn seeds_are_written() {
    for (target, seeds) in seeds::all() {
        let folder = root().join("target/fuzz-seeds").join(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}
