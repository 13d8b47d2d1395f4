//! Element types, numbered as DLPack numbers them.

use crate::{Error, Result};
use std::fmt;

/// The type of one element. The codes are DLPack's `DLDataTypeCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DType {
    code: u8,
    bits: u8,
    lanes: u16,
}

macro_rules! dtypes {
    ($($name:ident = $text:literal, $code:literal, $bits:literal;)*) => {
        impl DType {
            $(#[doc = concat!("`", $text, "`, ", $bits, " bits.")]
            pub const $name: Self = Self { code: $code, bits: $bits, lanes: 1 };)*

            const ALL: &[(Self, &'static str)] = &[$((Self::$name, $text)),*];
        }
    };
}

dtypes! {
    I8 = "int8", 0, 8; I16 = "int16", 0, 16; I32 = "int32", 0, 32; I64 = "int64", 0, 64;
    U8 = "uint8", 1, 8; U16 = "uint16", 1, 16; U32 = "uint32", 1, 32; U64 = "uint64", 1, 64;
    F16 = "float16", 2, 16; F32 = "float32", 2, 32; F64 = "float64", 2, 64;
    BF16 = "bfloat16", 4, 16;
    C64 = "complex64", 5, 64; C128 = "complex128", 5, 128;
    BOOL = "bool", 6, 8;
}

impl DType {
    /// The type of this name: NumPy's and PyTorch's spelling, such as `uint8` or `bfloat16`.
    ///
    /// # Errors
    /// `InvalidArgument`, listing the names there are.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.iter().find(|(_, text)| *text == name).map(|(dtype, _)| *dtype).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|(_, text)| *text).collect();
            Error::invalid(format!("{name:?} is no element type bips knows; use one of {}", known.join(", ")))
        })
    }

    /// The type with these DLPack numbers, if bips knows it.
    pub fn from_dlpack(code: u8, bits: u8, lanes: u16) -> Option<Self> {
        let wanted = Self { code, bits, lanes };
        Self::ALL.iter().map(|(dtype, _)| *dtype).find(|dtype| *dtype == wanted)
    }

    /// NumPy's name of the type.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(dtype, _)| *dtype == self).map_or("unknown", |(_, text)| text)
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        self.bits as usize * self.lanes as usize / 8
    }

    /// DLPack's type code.
    pub const fn code(self) -> u8 {
        self.code
    }

    /// Bits of one lane.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Lanes of one element; 1 for every type bips knows today.
    pub const fn lanes(self) -> u16 {
        self.lanes
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (dtype, name) in DType::ALL {
            assert_eq!(DType::parse(name).unwrap(), *dtype);
            assert_eq!(DType::from_dlpack(dtype.code(), dtype.bits(), dtype.lanes()), Some(*dtype));
            assert_eq!(dtype.name(), *name);
        }
        assert_eq!(DType::from_dlpack(1, 8, 4), None);
        assert!(DType::parse("uint9").unwrap_err().to_string().contains("float32"));
    }
}
