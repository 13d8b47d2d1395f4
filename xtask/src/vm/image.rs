//! Kernels and modules in the forms in which the machine starts soonest.

use std::io::Read;

use anyhow::{Context, Result};
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// Debian packs kernels with zstd's greatest window, 128 MiB.
const WINDOW: u64 = 1 << 27;

/// How a kernel lies in its `bzImage`.
#[derive(Debug, PartialEq)]
enum Packing {
    Zstd,
    Xz,
    /// Booted as it is, with its own unpacker.
    Other,
}

impl Packing {
    fn of(payload: &[u8]) -> Self {
        if payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else if payload.starts_with(b"\xfd7zXZ\0") {
            Self::Xz
        } else {
            Self::Other
        }
    }
}

/// The kernel itself, `vmlinux`, out of a `bzImage`. QEMU starts it by its PVH entry, so that an emulated processor need
/// not unpack it, which takes longer than all the rest of the boot (5.8 s to 2.3 s with 6.1). The image
/// as it is, if it is packed in another way.
pub(super) fn vmlinux(image: Vec<u8>) -> Result<Vec<u8>> {
    let payload = payload(&image).context("this is no bzImage of a kernel")?;
    let kernel = match Packing::of(payload) {
        Packing::Zstd => {
            let mut kernel = Vec::new();
            // Ends with the frame: behind it is the kernel's size.
            let mut decoder = StreamingDecoder::new_with_max_window_size(payload, WINDOW)?;
            decoder.read_to_end(&mut kernel).context("the kernel can't be unpacked")?;
            kernel
        }
        Packing::Xz => unxz(payload).context("the kernel can't be unpacked")?,
        Packing::Other => return Ok(image),
    };
    Ok(if kernel.starts_with(b"\x7fELF") { kernel } else { image })
}

/// The part of a `bzImage` that its unpacker unpacks; where it is stands in the header (Documentation/arch/x86/boot.rst).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // In sectors; the boot sector is not counted, and 0 means 4.
    let setup = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let from = (setup + 1) * 512 + word(0x248)?;
    image.get(from..from.checked_add(word(0x24c)?)?)
}

/// A module unpacked and without its signature: to verify one is a public-key operation, which takes an emulated processor
/// long, and nothing here demands signatures.
pub(super) fn module(name: &str, file: Vec<u8>) -> Result<Vec<u8>> {
    let plain = if name.ends_with(".xz") {
        unxz(&file).with_context(|| format!("{name} can't be unpacked"))?
    } else {
        file
    };
    Ok(unsigned(plain))
}

fn unxz(packed: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    // One stream: behind a kernel's is its size.
    XzReader::new(packed, false).read_to_end(&mut plain)?;
    Ok(plain)
}

/// Without the signature that `scripts/sign-file` appended: the signature, 12 bytes of which the last 4 are its length,
/// the marker.
fn unsigned(mut module: Vec<u8>) -> Vec<u8> {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    const DESCRIPTION: usize = 12;
    let without = module.strip_suffix(MARKER).and_then(|signed| {
        let (_, length) = signed.split_last_chunk::<4>()?;
        signed.len().checked_sub(DESCRIPTION)?.checked_sub(u32::from_be_bytes(*length) as usize)
    });
    if let Some(length) = without {
        module.truncate(length);
    }
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `bzImage` with this in it, and something behind.
    fn image(setup: u8, payload: &[u8]) -> Vec<u8> {
        let sectors = if setup == 0 { 4 } else { usize::from(setup) };
        let mut image = vec![0; (sectors + 1) * 512 + 0x40];
        image[0x1f1] = setup;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&0x40_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(b"behind");
        image
    }

    #[test]
    fn the_payload_lies_where_the_header_says() {
        assert_eq!(payload(&image(7, b"packed")).unwrap(), b"packed");
        assert_eq!(payload(&image(0, b"packed")).unwrap(), b"packed");
        assert_eq!(payload(b"something short"), None);
        assert_eq!(payload(&[0; 4096]), None);
        let mut cut = image(7, b"packed");
        cut.truncate(cut.len() - 8);
        assert_eq!(payload(&cut), None);
    }

    #[test]
    fn what_is_packed_is_told_by_its_first_bytes() {
        assert_eq!(Packing::of(&[0x28, 0xb5, 0x2f, 0xfd, 1]), Packing::Zstd);
        assert_eq!(Packing::of(b"\xfd7zXZ\0\0"), Packing::Xz);
        assert_eq!(Packing::of(&[0x1f, 0x8b, 8]), Packing::Other);
        assert_eq!(Packing::of(b""), Packing::Other);
    }

    /// `\x7fELF kernel\n`, by `zstd -22 --ultra` from a pipe, with the size that the kernel's build appends.
    const ZSTD: &[u8] = include_bytes!("testdata/elf.zst-size");
    /// The same by `xz --check=crc32`, and the size.
    const XZ: &[u8] = include_bytes!("testdata/elf.xz-size");

    #[test]
    fn a_kernel_is_taken_out_of_its_image() {
        assert_eq!(vmlinux(image(7, ZSTD)).unwrap(), b"\x7fELF kernel\n");
        assert_eq!(vmlinux(image(7, XZ)).unwrap(), b"\x7fELF kernel\n");
    }

    #[test]
    fn a_kernel_that_cannot_be_taken_out_stays_in() {
        let gzip = image(7, &[0x1f, 0x8b, 8, 0]);
        assert_eq!(vmlinux(gzip.clone()).unwrap(), gzip);
        assert!(vmlinux(b"not a kernel".to_vec()).is_err());
        let mut broken = ZSTD.to_vec();
        broken.truncate(ZSTD.len() / 2);
        assert!(vmlinux(image(7, &broken)).is_err());
    }

    #[test]
    fn a_module_loses_its_signature_and_nothing_else() {
        let mut signed = b"code".to_vec();
        signed.extend_from_slice(b"signature");
        signed.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0]);
        signed.extend_from_slice(&9_u32.to_be_bytes());
        signed.extend_from_slice(b"~Module signature appended~\n");
        assert_eq!(module("a.ko", signed).unwrap(), b"code");
        assert_eq!(module("a.ko", b"code".to_vec()).unwrap(), b"code");
        assert_eq!(module("a.ko.xz", XZ.to_vec()).unwrap(), b"\x7fELF kernel\n");
        // A length that leads out of the file.
        let lying = [b"x".as_slice(), &[0xff; 12], b"~Module signature appended~\n"].concat();
        assert_eq!(module("a.ko", lying.clone()).unwrap(), lying);
    }
}
