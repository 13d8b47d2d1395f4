//! Content that can be checked: every byte of a frame follows from its sequence number.
//!
//! `noise` gives each 8-byte word of each frame its own value, so a single misplaced or stale word shows;
//! `picture` is for people to look at. Both are written and checked at about the speed of memory.

use clap::ValueEnum;

use crate::testcard::TestCard;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Every 8-byte word has a value of its own: the strictest check.
    Noise,
    /// A moving test picture with the sequence number in it (RGB3, BGR3, GREY, AB24, AR24).
    Picture,
    /// Nothing is written: the pure cost of handing over.
    None,
}

impl Pattern {
    /// Travels as the frame's metadata, so that a verifying consumer knows what to expect.
    pub(crate) fn tag(self) -> &'static [u8] {
        match self {
            Self::Noise => b"bips-pattern: noise 1",
            Self::Picture => b"bips-pattern: picture 1",
            Self::None => b"",
        }
    }

    pub(crate) fn from_tag(tag: &[u8]) -> Option<Self> {
        [Self::Noise, Self::Picture].into_iter().find(|pattern| pattern.tag() == tag)
    }
}

/// Writes frames of one pattern.
pub(crate) enum Painter {
    Noise,
    Picture(Box<TestCard>),
    Nothing,
}

impl Painter {
    pub(crate) fn paint(&mut self, sequence: u64, bytes: &mut [u8]) {
        match self {
            Self::Noise => fill_noise(sequence, bytes),
            Self::Picture(card) => card.paint(sequence, bytes),
            Self::Nothing => {}
        }
    }
}

/// Odd and without a visible period: two frames share a word value only by a 2^-64 chance.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: neighbouring sequence numbers give unrelated words.
fn mix(sequence: u64) -> u64 {
    let mut z = sequence.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The first word of `bytes` that begins at `offset` (a multiple of 8) of the frame.
fn first_word(sequence: u64, offset: usize) -> u64 {
    debug_assert_eq!(offset % 8, 0);
    mix(sequence).wrapping_add((offset as u64 / 8).wrapping_mul(STEP))
}

pub(crate) fn fill_noise(sequence: u64, bytes: &mut [u8]) {
    let mut word = first_word(sequence, 0);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    // A running sum of 64-bit words: the compiler turns this into vector additions and stores.
    for to in words {
        *to = word.to_le_bytes();
        word = word.wrapping_add(STEP);
    }
    rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
}

/// Where the first wrong byte lies, if one does. `bytes` were read at `offset`, a multiple of 8.
pub(crate) fn find_wrong_noise(sequence: u64, offset: usize, bytes: &[u8]) -> Option<usize> {
    let start = first_word(sequence, offset);
    let mut word = start;
    let mut difference = 0;
    let (words, rest) = bytes.as_chunks::<8>();
    for have in words {
        difference |= u64::from_le_bytes(*have) ^ word;
        word = word.wrapping_add(STEP);
    }
    if difference == 0 && *rest == word.to_le_bytes()[..rest.len()] {
        return None;
    }
    let expected = (0..).map(|i| start.wrapping_add(STEP.wrapping_mul(i))).flat_map(u64::to_le_bytes);
    bytes.iter().zip(expected).position(|(have, want)| *have != want).map(|at| offset + at)
}

/// The sequence number whose noise these bytes are, looked for near `sequence`: tells a torn frame's other half.
pub(crate) fn whose_noise(sequence: u64, offset: usize, word: [u8; 8]) -> Option<u64> {
    let near = sequence.saturating_sub(256)..sequence.saturating_add(256);
    let offset = offset / 8 * 8;
    near.into_iter().find(|other| first_word(*other, offset).to_le_bytes() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_is_found_wherever_it_is() {
        for len in [1, 7, 8, 64, 1003] {
            let mut bytes = vec![0; len];
            fill_noise(41, &mut bytes);
            assert_eq!(find_wrong_noise(41, 0, &bytes), None);
            assert_eq!(find_wrong_noise(42, 0, &bytes), Some(0));
            for at in [0, len / 2, len - 1] {
                bytes[at] ^= 0x10;
                assert_eq!(find_wrong_noise(41, 0, &bytes), Some(at));
                bytes[at] ^= 0x10;
            }
        }
    }

    #[test]
    fn chunks_are_checked_in_their_place() {
        let mut bytes = vec![0; 4096];
        fill_noise(7, &mut bytes);
        assert_eq!(find_wrong_noise(7, 1024, &bytes[1024..2048]), None);
        assert!(find_wrong_noise(7, 1024, &bytes[1032..2048]).is_some());
        let word = bytes[1024..1032].try_into().unwrap();
        assert_eq!(whose_noise(9, 1024, word), Some(7));
        assert_eq!(whose_noise(9, 1032, word), None);
    }

    #[test]
    fn tags_come_back() {
        assert_eq!(Pattern::from_tag(Pattern::Noise.tag()), Some(Pattern::Noise));
        assert_eq!(Pattern::from_tag(Pattern::Picture.tag()), Some(Pattern::Picture));
        assert_eq!(Pattern::from_tag(b""), None);
        assert_eq!(Pattern::from_tag(b"bips-pattern: noise 2"), None);
    }
}
