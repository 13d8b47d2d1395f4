//! The contract, kept by GBM buffer objects of vgem.

mod common;

bips_conformance::suite!(common::gbm("vgem"), lane "gbm");
