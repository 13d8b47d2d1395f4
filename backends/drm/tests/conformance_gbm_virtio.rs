//! The contract, kept by GBM buffer objects of virtio-gpu.

mod common;

bips_conformance::suite!(common::gbm("virtio_gpu"), lane "gbm");
