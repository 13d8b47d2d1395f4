//! The contract, kept by memfd memory.

bips_conformance::suite!(bips_memfd::Memfd::new());
