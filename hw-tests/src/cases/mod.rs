//! What is tried on each memory device: the contract of a backend, then what a machine must bear.

mod burdens;
pub(crate) mod mischief;

pub(crate) use burdens::ROLES;

use bips_conformance::Case;

/// The name under which results say whether a device is there at all.
pub(crate) const PRESENT: &str = "present";

/// All cases for memory, in the order in which they are run.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    bips_conformance::cases().iter().chain(burdens::CASES).chain(mischief::cases())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Results are told apart by it.
    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: Vec<_> = all().map(|case| case.name).chain([PRESENT]).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.contains(&"imports_what_it_exports") && names.contains(&"large_images_in_every_slot"));
    }
}
