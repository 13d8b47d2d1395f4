//! Bytes as a series of decisions.

/// What is left of an input. Past its end everything is 0.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Vec<u8>,
    at: usize,
}

impl Input {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), at: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// Below `end`, or 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let wide = if end > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (wide | usize::from(self.byte())).checked_rem(end).unwrap_or(0)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// Any number, small ones and those around `near` most of all: a comparison is best tried at its edge.
    pub(super) fn number(&mut self, near: u64) -> u64 {
        let kind = self.byte();
        let small = u64::from(kind >> 3);
        match kind & 7 {
            0 => small,
            1 | 2 => near.wrapping_add(small),
            3 => near.wrapping_sub(small),
            4 => 1u64.rotate_left(u32::from(kind >> 3)).wrapping_sub(1),
            5 => u64::MAX - small,
            6 => near ^ 1u64.rotate_right(u32::from(kind >> 3)),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }
}
