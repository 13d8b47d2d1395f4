//! Pixel formats as cameras name them.

use std::fmt;

/// A V4L2 four-character code. Cameras have many that [`bips::Fourcc`] has not: compressed ones, several of one layout,
/// those whose planes lie apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub(crate) [u8; 4]);

impl Code {
    /// The code of up to four letters, padded: `Y16` is `Y16␣`.
    pub fn new(text: &str) -> Option<Self> {
        let mut code = [b' '; 4];
        let fits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        code.get_mut(..text.len()).filter(|_| fits)?.copy_from_slice(text.as_bytes());
        Some(Self(code))
    }

    pub(crate) fn of(value: u32) -> Self {
        Self(value.to_le_bytes())
    }

    pub(crate) fn value(self) -> u32 {
        u32::from_le_bytes(self.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The highest bit says big-endian (`Y16 -BE`, as V4L2's own tools write it).
        let [a, b, c, d] = self.0;
        let text: String = [a, b, c, d & 0x7f].into_iter().map(char::from).collect();
        f.write_str(text.trim_end())?;
        if d & 0x80 == 0 { Ok(()) } else { f.write_str("-BE") }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({self})")
    }
}
