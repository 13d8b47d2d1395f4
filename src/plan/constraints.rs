//! What devices demand of how buffers lie.

use crate::backend::{Capabilities, Layout, Requirements};
use crate::describe::Content;
use crate::{Error, ErrorKind, Result};

/// What somebody demands of the buffers, each by itself; the default demands nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraints {
    /// Most bytes of a slot.
    pub max_bytes: u64,
    /// Each slot begins at a multiple of so many bytes, and is as long as one.
    pub alignment: u64,
    /// Rows of an image begin so far apart, or a multiple of it, in bytes.
    pub stride_alignment: u64,
    /// In one piece also where the device sees it, as one without an IOMMU wants it.
    pub contiguous: bool,
    /// Ways to lay out pixels (DRM format modifiers; 0 is linear) of which it must be one; any, if none are named.
    pub modifiers: Vec<u64>,
}

impl Default for Constraints {
    fn default() -> Self {
        let modifiers = Vec::new();
        Self { max_bytes: u64::MAX, alignment: 1, stride_alignment: 1, contiguous: false, modifiers }
    }
}

fn no(text: String) -> Error {
    Error::new(ErrorKind::Unsupported, text)
}

impl Constraints {
    /// What meets both.
    ///
    /// # Errors
    /// `Unsupported` where nothing can, saying what of the two contradicts; `InvalidArgument` for an alignment of 0.
    pub fn and(&self, other: &Self) -> Result<Self> {
        let modifiers = match (&self.modifiers[..], &other.modifiers[..]) {
            ([], one) | (one, []) => one.to_vec(),
            (ours, theirs) => {
                let both: Vec<_> = ours.iter().copied().filter(|one| theirs.contains(one)).collect();
                if both.is_empty() {
                    return Err(no(format!(
                        "one wants pixels laid out by modifier {}, another by {}, and there is none for both; let one of \
                         them take linear ones (0x0)",
                        words(ours),
                        words(theirs)
                    )));
                }
                both
            }
        };
        Ok(Self {
            max_bytes: self.max_bytes.min(other.max_bytes),
            alignment: common(self.alignment, other.alignment)?,
            stride_alignment: common(self.stride_alignment, other.stride_alignment)?,
            contiguous: self.contiguous || other.contiguous,
            modifiers,
        })
    }

    /// The content with its rows as far apart as is demanded, where that is open.
    pub(super) fn apply(&self, requirements: &Requirements) -> Result<Content> {
        let content = requirements.content;
        let Some(row) = content.planes().first().map(|plane| plane.stride) else { return Ok(content) };
        if content.fourcc().is_none() || requirements.exact || row.is_multiple_of(self.stride_alignment) {
            return Ok(content); // what can't be moved is checked afterwards
        }
        let apart = row.checked_next_multiple_of(self.stride_alignment);
        content.with_row_stride(apart.unwrap_or(u64::MAX))
    }

    /// Whether a pool of this layout meets them.
    pub(super) fn check(&self, layout: &Layout, can: &Capabilities) -> Result<()> {
        let content = &layout.content;
        if layout.slot_bytes > self.max_bytes {
            return Err(no(format!(
                "a slot of it takes {} bytes, and at most {} are wanted",
                layout.slot_bytes, self.max_bytes
            )));
        }
        if self.alignment > can.alignment || !layout.slot_bytes.is_multiple_of(self.alignment) {
            return Err(no(format!(
                "its slots begin at multiples of {} bytes and take {}, where multiples of {} are wanted",
                can.alignment, layout.slot_bytes, self.alignment
            )));
        }
        if content.fourcc().is_some()
            && let Some(plane) =
                content.planes().iter().find(|plane| !plane.stride.is_multiple_of(self.stride_alignment))
        {
            return Err(no(format!(
                "its rows lie {} bytes apart, where a multiple of {} is wanted",
                plane.stride, self.stride_alignment
            )));
        }
        if self.contiguous && !can.contiguous {
            return Err(no(
                "its pages lie anywhere, where one piece is wanted; name a heap for that, as in dma-heap:linux,cma"
                    .into(),
            ));
        }
        if !self.modifiers.is_empty() && !self.modifiers.contains(&content.modifier()) {
            return Err(no(format!(
                "it lays pixels out by modifier {}, where {} is wanted",
                words(&[content.modifier()]),
                words(&self.modifiers)
            )));
        }
        Ok(())
    }
}

fn words(modifiers: &[u64]) -> String {
    let name = |modifier: &u64| if *modifier == 0 { "0x0 (linear)".into() } else { format!("{modifier:#x}") };
    modifiers.iter().map(name).collect::<Vec<_>>().join(" or ")
}

/// The least common multiple.
fn common(a: u64, b: u64) -> Result<u64> {
    if a == 0 || b == 0 {
        return Err(Error::invalid("an alignment of 0 bytes; use 1 for none"));
    }
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).checked_mul(b).ok_or_else(|| no(format!("nothing is aligned to {a} and to {b} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_demands_are_one() {
        let any = Constraints::default();
        let one = Constraints { alignment: 64, stride_alignment: 12, modifiers: vec![0, 7], ..any.clone() };
        let two = Constraints {
            max_bytes: 100,
            alignment: 48,
            contiguous: true,
            modifiers: vec![7, 9],
            ..any.clone()
        };
        let both = one.and(&two).unwrap();
        let expected = Constraints {
            max_bytes: 100,
            alignment: 192,
            stride_alignment: 12,
            contiguous: true,
            modifiers: vec![7],
        };
        assert_eq!(both, expected);
        assert_eq!(two.and(&one).unwrap(), expected);
        assert_eq!(any.and(&one).unwrap(), one);
        let tiled = Constraints { modifiers: vec![5], ..any.clone() };
        let error = one.and(&tiled).unwrap_err().to_string();
        assert!(error.contains("0x0 (linear) or 0x7") && error.contains("0x5"), "{error}");
        assert!(any.and(&Constraints { alignment: 0, ..any.clone() }).is_err());
        let vast = Constraints { alignment: u64::MAX, ..any.clone() };
        assert!(
            vast.and(&Constraints { alignment: 2, ..any })
                .unwrap_err()
                .to_string()
                .contains("nothing is aligned")
        );
    }
}
