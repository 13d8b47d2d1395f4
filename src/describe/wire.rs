//! The 512-byte form of a description, on the board and in messages. Decoding trusts nothing.

use super::content::{MAX_DIMS, MAX_METADATA, Shape};
use super::{Content, DType, Fourcc, MAX_PLANES, Plane};
use crate::{Error, Result};

/// 64-bit little-endian words of one description. `docs/protocol.md` lists them.
pub(crate) const WORDS: usize = 64;

const SHAPE: usize = 5;
const STRIDES: usize = SHAPE + MAX_DIMS;
const PLANES: usize = STRIDES + MAX_DIMS;
const METADATA: usize = PLANES + 2 * MAX_PLANES;
const END: usize = METADATA + MAX_METADATA / 8;
const _: () = assert!(END <= WORDS);

/// A description as it travels: content and metadata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Described {
    pub(crate) content: Content,
    metadata: [u8; MAX_METADATA],
    metadata_len: u16,
}

impl Described {
    pub(crate) fn new(content: Content, metadata: &[u8]) -> Result<Self> {
        let mut described =
            Self { content, metadata: [0; MAX_METADATA], metadata_len: metadata.len() as u16 };
        described
            .metadata
            .get_mut(..metadata.len())
            .ok_or_else(|| {
                Error::invalid(format!(
                    "{} bytes of metadata are too many; a frame carries at most {MAX_METADATA}: put the rest into the \
                     frame itself or into a stream of its own",
                    metadata.len()
                ))
            })?
            .copy_from_slice(metadata);
        Ok(described)
    }

    pub(crate) fn metadata(&self) -> &[u8] {
        &self.metadata[..usize::from(self.metadata_len)]
    }

    pub(crate) fn encode(&self) -> [u64; WORDS] {
        let content = &self.content;
        let mut words = [0; WORDS];
        words[0] = u64::from(content.dtype.code())
            | u64::from(content.dtype.bits()) << 8
            | u64::from(content.dtype.lanes()) << 16
            | (content.shape.len() as u64) << 32
            | u64::from(content.plane_count) << 40
            | u64::from(self.metadata_len) << 48;
        words[1] = content.fourcc.map_or(0, |fourcc| u64::from(fourcc.value()));
        words[2] = u64::from(content.width) | u64::from(content.height) << 32;
        words[3] = content.modifier;
        words[4] = content.nbytes;
        words[SHAPE..][..content.shape.len()].copy_from_slice(&content.shape);
        for (to, stride) in words[STRIDES..].iter_mut().zip(content.strides()) {
            *to = *stride as u64;
        }
        for (to, plane) in words[PLANES..].chunks_exact_mut(2).zip(content.planes()) {
            to.copy_from_slice(&[plane.offset, plane.stride]);
        }
        for (to, bytes) in words[METADATA..END].iter_mut().zip(self.metadata.chunks_exact(8)) {
            *to = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        }
        words
    }

    /// Reads and checks a description: all of it must lie within `slot_bytes`.
    pub(crate) fn decode(words: &[u64; WORDS], slot_bytes: u64) -> Result<Self> {
        Self::decode_checked(words, slot_bytes).ok_or_else(|| {
            Error::protocol("the producer described a frame that cannot be; update or replace it")
        })
    }

    fn decode_checked(words: &[u64; WORDS], slot_bytes: u64) -> Option<Self> {
        let head = words[0];
        let dtype = DType::from_dlpack(head as u8, (head >> 8) as u8, (head >> 16) as u16)?;
        let ndim = usize::from((head >> 32) as u8);
        let plane_count = (head >> 40) as u8;
        let metadata_len = (head >> 48) as u16;
        if ndim > MAX_DIMS
            || usize::from(plane_count) > MAX_PLANES
            || usize::from(metadata_len) > MAX_METADATA
        {
            return None;
        }
        let shape = Shape::new(&words[SHAPE..][..ndim]).ok()?;
        let nbytes = Some(words[4]).filter(|nbytes| *nbytes <= slot_bytes)?;
        let mut content = Content {
            dtype,
            shape,
            strides: [0; MAX_DIMS],
            fourcc: None,
            width: words[2] as u32,
            height: (words[2] >> 32) as u32,
            modifier: words[3],
            planes: [Plane::default(); MAX_PLANES],
            plane_count,
            nbytes,
        };
        if words[1] != 0 {
            content.fourcc = Some(Fourcc::from_value(u32::try_from(words[1]).ok()?)?);
        }
        for (to, stride) in content.strides.iter_mut().zip(&words[STRIDES..][..ndim]) {
            *to = i64::try_from(*stride).ok()?;
        }
        content.last_byte().filter(|last| *last <= nbytes)?;
        content.elements_bytes().filter(|bytes| *bytes <= nbytes)?;
        content.read_planes(&words[PLANES..METADATA])?;
        let mut metadata = [0; MAX_METADATA];
        for (to, word) in metadata.chunks_exact_mut(8).zip(&words[METADATA..END]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        Some(Self { content, metadata, metadata_len })
    }
}

impl Content {
    /// One past the last byte an element can lie on; `None` when that overflows.
    fn last_byte(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let size = self.dtype.size() as u64;
        self.shape.iter().zip(self.strides()).try_fold(size, |end, (dim, stride)| {
            end.checked_add(u64::try_from(*stride).ok()?.checked_mul(dim - 1)?)
        })
    }

    /// Bytes of all elements side by side, as in a copy; `None` when that overflows what DLPack and NumPy count in,
    /// for lengths beside a length of 0 too: a reader may multiply in any order.
    fn elements_bytes(&self) -> Option<u64> {
        let size = self.dtype.size() as u64;
        let bytes = self.shape.iter().try_fold(size, |bytes, dim| bytes.checked_mul((*dim).max(1)))?;
        i64::try_from(bytes).ok()?;
        Some(if self.shape.contains(&0) { 0 } else { bytes })
    }

    /// Takes offsets and strides from `words`, what follows from the format from the format.
    fn read_planes(&mut self, words: &[u64]) -> Option<()> {
        let expected = match self.fourcc.and_then(Fourcc::format) {
            Some(format) => {
                if !(1..=1 << 16).contains(&self.width) || !(1..=1 << 16).contains(&self.height) {
                    return None;
                }
                if !self.width.is_multiple_of(format.align_x) || !self.height.is_multiple_of(format.align_y) {
                    return None;
                }
                let (planes, count) = format.planes(self.width, self.height);
                (count == usize::from(self.plane_count)).then_some(planes)?
            }
            None => {
                if self.plane_count != 1 || self.width != 0 || self.height != 0 {
                    return None;
                }
                let mut planes = [Plane::default(); MAX_PLANES];
                planes[0] = Plane { offset: 0, stride: self.nbytes, width: self.nbytes, rows: 1 };
                planes
            }
        };
        let count = usize::from(self.plane_count);
        for ((plane, mut expected), words) in
            self.planes.iter_mut().zip(expected).zip(words.chunks_exact(2)).take(count)
        {
            (expected.offset, expected.stride) = (words[0], words[1]);
            let end =
                expected.stride.checked_mul(expected.rows.checked_sub(1)?)?.checked_add(expected.width)?;
            end.checked_add(expected.offset).filter(|end| *end <= self.nbytes)?;
            *plane = expected;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> Vec<Described> {
        let image = |code, w, h| Content::image(Fourcc::parse(code).unwrap(), w, h).unwrap();
        [
            image("RGB3", 64, 48),
            image("NV12", 64, 48),
            image("YU12", 64, 48),
            Content::tensor(DType::F32, &[2, 3, 4]).unwrap(),
            Content::image_in_planes(Fourcc::parse("NV12").unwrap(), 64, 48, &[(0, 80), (3840, 80)], 6000)
                .unwrap(),
            Content::image_in_planes(
                Fourcc::parse("YU12").unwrap(),
                64,
                48,
                &[(0, 80), (3840, 40), (4864, 40)],
                6144,
            )
            .unwrap(),
            Content::tensor(DType::BF16, &[]).unwrap(),
            Content::bytes(0).unwrap(),
        ]
        .into_iter()
        .map(|content| Described::new(content, b"twelve bytes").unwrap())
        .collect()
    }

    #[test]
    fn comes_back_as_it_went() {
        for described in samples() {
            assert_eq!(Described::decode(&described.encode(), 1 << 20).unwrap(), described);
        }
    }

    #[test]
    fn never_reaches_past_the_slot() {
        for described in samples().iter().filter(|described| described.content.nbytes > 0) {
            assert!(Described::decode(&described.encode(), described.content.nbytes - 1).is_err());
        }
    }

    /// What a reader gets when it multiplies the lengths must be what they are.
    #[test]
    fn lengths_whose_product_wraps_are_refused() {
        let mut words = samples()[3].encode();
        let wraps_to_a_page = [7, 0x6db6_db6d_b6db_7000];
        assert_eq!(wraps_to_a_page.iter().fold(1u64, |product, dim| product.wrapping_mul(*dim)), 4096);
        for shape in [&wraps_to_a_page[..], &[u64::MAX], &[0, u64::MAX], &[1 << 32, 1 << 32], &[1 << 63]] {
            words[0] = words[0] & !(0xff << 32) | (shape.len() as u64) << 32;
            words[SHAPE..][..shape.len()].copy_from_slice(shape);
            words[STRIDES..PLANES].fill(0);
            assert!(Described::decode(&words, 1 << 20).is_err(), "{shape:?}");
        }
    }

    /// Whoever copies a frame makes room for all its elements, and its memory is not the producer's.
    #[test]
    fn one_element_is_not_told_as_many() {
        let mut words = samples()[3].encode();
        words[STRIDES..PLANES].fill(0);
        assert!(Described::decode(&words, 1 << 20).is_ok());
        words[SHAPE] += 1;
        assert!(Described::decode(&words, 1 << 20).is_err());
    }

    #[test]
    fn images_are_of_sizes_their_format_can_have() {
        let [nv12, yu12] = [samples()[1].encode(), samples()[2].encode()];
        for (width, height) in [(63, 48), (64, 47), (64, 1), (1, 48)] {
            for mut words in [nv12, yu12] {
                words[2] = width | height << 32;
                assert!(Described::decode(&words, 1 << 20).is_err(), "{width}x{height}");
            }
        }
    }

    #[test]
    fn planes_there_are_not_say_nothing() {
        for described in samples() {
            let mut words = described.encode();
            words[PLANES + 2 * described.content.planes().len()..METADATA].fill(9);
            assert_eq!(Described::decode(&words, 1 << 20).unwrap(), described);
        }
    }

    proptest! {
        /// Whatever bytes a producer writes: refused, or wholly inside the slot.
        #[test]
        fn hostile_words_stay_inside(
            base in 0usize..8,
            changes in prop::collection::vec((0usize..WORDS, any::<u64>(), 0u32..64), 0..4),
        ) {
            let mut words = samples()[base].encode();
            for (at, value, shift) in changes {
                words[at] = value >> shift;
            }
            let slot = 1 << 14;
            if let Ok(described) = Described::decode(&words, slot) {
                let content = described.content;
                prop_assert!(content.nbytes() <= slot);
                prop_assert!(content.last_byte().unwrap() <= slot);
                for plane in content.planes() {
                    prop_assert!(plane.rows == 0 || plane.offset + plane.stride * (plane.rows - 1) + plane.width <= slot);
                }
                prop_assert!(described.metadata().len() <= MAX_METADATA);
            }
        }
    }
}
