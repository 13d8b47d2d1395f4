//! The contract, kept by dumb buffers of vgem.

mod common;

bips_conformance::suite!(common::drm("vgem"), lane "drm");
