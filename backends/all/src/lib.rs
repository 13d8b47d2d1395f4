//! Every memory kind this build has, in one registry. The CLI, Python, C and GStreamer use this one.

mod doctor;

pub use doctor::{Check, Report, Row, Status, Table, Tried, doctor, doctor_in_passing};

use bips::Registry;

/// The names of all memory kinds, of those too that this release or this build doesn't have.
pub const KINDS: [&str; 10] =
    ["memfd", "dma-heap", "udmabuf", "dma-buf", "broker", "drm", "gbm", "vulkan", "cuda", "nvmm"];

/// All memory kinds of this build, in the order in which `auto` prefers them.
pub fn registry() -> Registry {
    registry_in(None)
}

/// The same for streams of this runtime directory: its broker is asked for memory that this process can't have otherwise.
#[cfg_attr(not(feature = "dma-buf"), allow(unused_variables, reason = "no kind of this build has a broker"))]
pub fn registry_in(directory: Option<&std::path::Path>) -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "memfd")]
    let registry = registry.with(std::sync::Arc::new(bips_memfd::Memfd::new()));
    // The heap before udmabuf: its consumers can tell of their access, which counts where caches don't agree by themselves.
    #[cfg(feature = "dma-buf")]
    let registry = registry
        .with(std::sync::Arc::new(bips_dma_buf::DmaHeap::new()))
        .with(std::sync::Arc::new(bips_dma_buf::Udmabuf::new()))
        .with(std::sync::Arc::new(bips_dma_buf::Foreign::new()))
        // After those: who may open a device itself needs nobody.
        .with(std::sync::Arc::new(bips_dma_buf::broker::Brokered::new(directory)));
    // What they make a dma-heap makes too, unless a display or GPU wants rows its own way: for who names them.
    #[cfg(feature = "drm")]
    let registry = registry
        .with(std::sync::Arc::new(bips_drm::Drm::new()))
        .with(std::sync::Arc::new(bips_drm::Gbm::new()));
    // For who names it, or has no other memory that a GPU uses.
    #[cfg(feature = "vulkan")]
    let registry = registry
        .with(std::sync::Arc::new(bips_vulkan::Vulkan::new()))
        .with_trial(std::sync::Arc::new(bips_vulkan::VulkanTrial::new()));
    #[cfg(feature = "camera")]
    let registry = registry.with_trial(std::sync::Arc::new(bips_v4l2::CameraTrial::new()));
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_registry_has_its_name_listed() {
        for backend in registry().iter() {
            assert!(KINDS.contains(&backend.info().kind.as_str()), "{}", backend.info().kind);
        }
    }
}
