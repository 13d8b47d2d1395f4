//! What camera and checksum both do with pixels. `pixels.h`, `pixels.hpp` and `pixels.py` are the same.

use std::fs;

use bips::Plane;

/// Every row's sum, times the number of the row: rows that are swapped or shifted change it.
pub(crate) fn checksum(bytes: &[u8], plane: &Plane) -> u64 {
    let rows = bytes[plane.offset as usize..].chunks(plane.stride as usize).take(plane.rows as usize);
    let sums = rows.map(|row| row[..plane.width as usize].iter().map(|byte| u64::from(*byte)).sum::<u64>());
    (1..).zip(sums).map(|(number, sum)| number * sum).sum()
}

/// The memory file behind these bytes, as the kernel says. Who gets the same answer in another process has the same
/// bytes; private memory, where a copy would lie, has no file.
pub(crate) fn place(bytes: &[u8]) -> String {
    let address = bytes.as_ptr() as u64;
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let at = maps.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [addresses, permissions, offset, _, inode, path, ..] = fields[..] else { return None };
        let (start, end) = addresses.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (hex(start)?, hex(end)?, hex(offset)?);
        let inside = start <= address && address + bytes.len() as u64 <= end;
        let (kind, _) = path.strip_prefix('/')?.split_once(':')?; // memfd or dmabuf
        (inside && permissions.ends_with('s'))
            .then(|| format!("{kind} {inode} + {:#x}, {permissions}", offset + (address - start)))
    });
    at.unwrap_or_else(|| "private memory".to_owned())
}
