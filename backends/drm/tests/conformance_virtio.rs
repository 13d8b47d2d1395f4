//! The contract, kept by dumb buffers of virtio-gpu, which has 32-bit pixels only.

mod common;

bips_conformance::suite!(common::drm("virtio_gpu"), lane "drm");
