//! Where received frames really lie, asked of the kernel: `bytes copied by bips` is counted, not claimed.
//!
//! A frame handed over without a copy lies in a mapping that `/proc/self/maps` shows as shared (`s`). Had anything
//! moved it into this process's own memory, the address would lie in a private mapping (`p`).

use bips::Frame;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Evidence {
    /// Address and length of frames seen, and whether that memory is shared.
    places: BTreeMap<(usize, usize), bool>,
    pub(crate) shared: u64,
    pub(crate) copied: u64,
}

impl Evidence {
    pub(crate) fn take(&mut self, frame: &Frame) {
        let place = (frame.as_ptr() as usize, frame.nbytes());
        // A pool has at most 64 places, so the map is asked rarely and stays small; frames of changing sizes
        // would let it grow, hence the bound.
        if self.places.len() > 1024 {
            self.places.clear();
        }
        let shared = *self.places.entry(place).or_insert_with(|| lies_in_shared_memory(place));
        let bytes = place.1 as u64;
        if shared {
            self.shared += bytes;
        } else {
            self.copied += bytes;
        }
    }

    /// Distinct addresses; without copies there are no more than the pool has slots.
    pub(crate) fn addresses(&self) -> usize {
        let mut addresses: Vec<usize> = self.places.keys().map(|(address, _)| *address).collect();
        addresses.dedup();
        addresses.len()
    }
}

fn lies_in_shared_memory((address, len): (usize, usize)) -> bool {
    // Without procfs nothing can be shown, and what can't be shown is not claimed.
    std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| covered_by_shared(&maps, address, len))
}

/// Neighbouring mappings are joined: a slot may cross from one into the next.
fn covered_by_shared(maps: &str, address: usize, len: usize) -> bool {
    let mut at = address;
    let end = address.saturating_add(len);
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some((from, to)) = fields.next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)) else {
            continue;
        };
        if (from..to).contains(&at) {
            if fields.next().and_then(|permissions| permissions.chars().nth(3)) != Some('s') {
                return false;
            }
            at = to;
            if at >= end {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_private_mappings_are_told_apart() {
        let maps = "1000-2000 r--s 00000000 00:01 7 /memfd:bips (deleted)\n\
                    2000-4000 r--s 00001000 00:01 7 /memfd:bips (deleted)\n\
                    4000-6000 rw-p 00000000 00:00 0 [heap]\n";
        assert!(covered_by_shared(maps, 0x1000, 0x3000));
        assert!(covered_by_shared(maps, 0x1800, 0x10));
        assert!(!covered_by_shared(maps, 0x3000, 0x2000));
        assert!(!covered_by_shared(maps, 0x4100, 0x10));
        assert!(!covered_by_shared(maps, 0x9000, 0x10));
    }

    #[test]
    fn our_own_heap_is_not_shared() {
        let own = Box::new([1u8; 100]);
        assert!(!lies_in_shared_memory((own.as_ptr() as usize, own.len())));
    }
}
