//! Fixed-width little-endian fields in a bounded message. Reading past the end is an error, never a panic.

use crate::{Error, Result};

/// Builds one message.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn words(&mut self, words: &[u64]) -> &mut Self {
        for word in words {
            self.u64(*word);
        }
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Length, then UTF-8; cut at a character boundary when longer than `limit` bytes.
    pub(super) fn text(&mut self, text: &str, limit: usize) -> &mut Self {
        let mut end = text.len().min(limit);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.u16(end as u16).raw(&text.as_bytes()[..end])
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes one message apart.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| Error::protocol("the peer sent a message that is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take gives as many bytes as asked"))
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn words<const N: usize>(&mut self) -> Result<[u64; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u64()?;
        }
        Ok(words)
    }

    pub(super) fn text(&mut self, limit: usize) -> Result<String> {
        let len = usize::from(self.u16()?);
        if len > limit {
            return Err(Error::protocol("the peer sent a text longer than the protocol allows"));
        }
        let text = String::from_utf8(self.take(len)?.to_vec());
        // Texts reach terminals and logs: no escape sequences from a peer.
        text.ok()
            .filter(|text| !text.contains(char::is_control))
            .ok_or_else(|| Error::protocol("the peer sent a text that is not printable UTF-8"))
    }
}
