//! Every parser of what comes from outside, against bytes made from valid ones and against noise. `cargo xtask fuzz`
//! tries the same for longer, and looks where the bytes lead.

#![cfg(not(any(bips_loom, bips_shuttle)))]

use bips::testing::fuzz::{TARGETS, Target};
use std::panic::{AssertUnwindSafe, catch_unwind};

const CASES: u32 = 20_000;
const LONGEST: usize = 4096;
const SEED: &str = "BIPS_SEED";

/// SplitMix64: the same numbers from the same seed, on every machine and for good.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A value of which comparisons are likely to have an edge there.
    fn telling(&mut self) -> u64 {
        let bit = 1u64 << self.below(64);
        match self.below(4) {
            0 => bit,
            1 => bit - 1,
            2 => bit.wrapping_neg(),
            _ => self.next(),
        }
    }
}

/// One case: noise now and then, else a seed with some damage.
fn case(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if random.below(16) == 0 {
        let len = random.below(600);
        return (0..len).map(|_| random.next() as u8).collect();
    }
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..random.below(6) {
        damage(random, &mut bytes, seeds);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.next() as u8),
        2 => {
            let other = &seeds[random.below(seeds.len())];
            bytes.extend(&other[random.below(other.len() + 1)..]);
        }
        3 => {
            let from = at.saturating_sub(random.below(64));
            let part = bytes[from..at].to_vec();
            bytes.splice(at..at, part);
        }
        4 | 5 => {
            // A field, as most lie: on a multiple of its size.
            let size = [1, 2, 4, 8][random.below(4)];
            let value = random.telling().to_le_bytes();
            for (to, from) in bytes[at / size * size..].iter_mut().zip(&value[..size]) {
                *to = *from;
            }
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn try_all(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let seed = match std::env::var(SEED) {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("{SEED}={text} is no number; give one, or unset it"))
        }
        Err(_) => std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64),
    };
    println!("{name}: {CASES} cases; again with {SEED}={seed}");
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    let mut random = Random(seed);
    for number in 0..CASES {
        let bytes = case(&mut random, &seeds);
        try_one(target, &bytes, number, seed);
    }
}

fn try_one(target: &Target, bytes: &[u8], number: u32, seed: u64) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_err() {
        panic!("{}: case {number} of {SEED}={seed} fails: {bytes:02x?}", target.name);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            try_all(stringify!($name));
        })*

        /// One that has no test here, or no program in `fuzz/`, would never be tried.
        #[test]
        fn none_is_left_out() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let programs = include_str!("../fuzz/Cargo.toml");
            for name in names {
                assert!(programs.contains(&format!("name = \"{name}\"")), "{name}");
            }
            assert_eq!(programs.matches("[[bin]]").count(), TARGETS.len());
        }
    };
}

targets! { request reply description board seats names system }
