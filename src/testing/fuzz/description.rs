//! The cold description, as a producer may write it.

use super::assert_tellable;
use crate::describe::{
    Content, DESCRIPTION_WORDS, DType, Described, Fourcc, MAX_DIMS, MAX_METADATA, MAX_PLANES,
};

/// A description, after the bytes of a slot in pages.
///
/// # Panics
/// When a description is accepted that cannot be, or comes back otherwise than it went.
pub fn description(data: &[u8]) {
    let (pages, words) = data.split_at_checked(4).unwrap_or((&[], data));
    let slot_bytes = pages.iter().rev().fold(0, |pages, byte| pages << 8 | u64::from(*byte)) << 12;
    decode(&words_of(words), slot_bytes);
}

/// The words of these bytes, zeros after them.
fn words_of(bytes: &[u8]) -> [u64; DESCRIPTION_WORDS] {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    std::array::from_fn(|word| u64::from_le_bytes(std::array::from_fn(|i| byte(8 * word + i))))
}

/// Whether the words were accepted; then all of it has been checked.
pub(super) fn decode(words: &[u64; DESCRIPTION_WORDS], slot_bytes: u64) -> bool {
    match Described::decode(words, slot_bytes) {
        Ok(described) => {
            check(&described.content, slot_bytes);
            assert!(described.metadata().len() <= MAX_METADATA);
            let again = Described::decode(&described.encode(), slot_bytes);
            assert_eq!(again.expect("what was accepted is accepted again"), described);
            true
        }
        Err(error) => {
            assert_tellable(&error);
            false
        }
    }
}

/// What every program that is given a content may rely on.
pub(super) fn check(content: &Content, slot_bytes: u64) {
    let nbytes = u128::from(content.nbytes());
    assert!(content.nbytes() <= slot_bytes, "{} bytes in a slot of {slot_bytes}", content.nbytes());
    let (shape, strides) = (content.shape(), content.strides());
    assert!(shape.len() <= MAX_DIMS && strides.len() == shape.len());
    let size = content.dtype().size() as u128;
    assert!(size > 0);
    // A reader multiplies the lengths, in 64 bits with a sign: to make room for a copy, for instance.
    let bytes = shape.iter().try_fold(size, |bytes, dim| bytes.checked_mul(u128::from((*dim).max(1))));
    let countable = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
    let Some(bytes) = countable else { panic!("{shape:?} has more elements than can be counted") };
    if !shape.contains(&0) {
        assert!(bytes <= nbytes, "a copy of {shape:?} takes {bytes} bytes, and {nbytes} are there");
        let reach = shape.iter().zip(strides).map(|(dim, stride)| {
            u128::from(dim - 1) * u128::try_from(*stride).expect("a stride is not negative")
        });
        assert!(
            reach.sum::<u128>() + size <= nbytes,
            "{shape:?} by {strides:?} reaches beyond {nbytes} bytes"
        );
    }
    check_planes(content, nbytes);
}

fn check_planes(content: &Content, nbytes: u128) {
    let planes = content.planes();
    assert!((1..=MAX_PLANES).contains(&planes.len()));
    match content.fourcc() {
        Some(fourcc) => {
            assert_eq!(Fourcc::parse(&fourcc.to_string()).expect("a format bips knows"), fourcc);
            // Whoever makes such an image is held to the format, so whoever reads one may rely on it.
            let made = Content::image(fourcc, content.width(), content.height()).expect("a size that can be");
            let kept =
                |content: &Content| content.planes().iter().map(|p| (p.width, p.rows)).collect::<Vec<_>>();
            assert_eq!(kept(&made), kept(content));
        }
        None => assert_eq!((content.width(), content.height(), planes.len()), (0, 0, 1)),
    }
    for plane in planes {
        let [offset, stride, width, rows] =
            [plane.offset, plane.stride, plane.width, plane.rows].map(u128::from);
        assert!(rows > 0, "a plane without rows");
        assert!(offset + stride * (rows - 1) + width <= nbytes, "{plane:?} reaches beyond {nbytes} bytes");
    }
}

/// One of each kind.
pub(super) fn samples() -> Vec<Described> {
    let image = |code, width, height| {
        Content::image(Fourcc::parse(code).expect("a known code"), width, height).expect("an allowed size")
    };
    let tensor = |dtype, dims: &[u64]| Content::tensor(dtype, dims).expect("an allowed shape");
    let contents = [
        image("RGB3", 64, 48),
        image("NV12", 64, 48),
        image("YU12", 32, 16),
        image("YUYV", 16, 3),
        image("Y16", 8, 8),
        tensor(DType::F32, &[2, 3, 4]),
        tensor(DType::BF16, &[]),
        tensor(DType::C128, &[1, 2, 1, 2, 1, 2, 1, 2]),
        tensor(DType::U8, &[0, 7]),
    ];
    let texts: [&[u8]; 3] = [b"", b"twelve bytes", &[7; MAX_METADATA]];
    let made = contents.into_iter().zip(texts.into_iter().cycle());
    made.map(|(content, metadata)| Described::new(content, metadata).expect("not too much")).collect()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let seed = |described: &Described| {
        let mut seed = 4u32.to_le_bytes().to_vec();
        seed.extend(described.encode().iter().flat_map(|word| word.to_le_bytes()));
        seed
    };
    samples().iter().map(seed).collect()
}
