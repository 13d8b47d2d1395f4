//! The contract, kept by memory of whatever Vulkan driver there is; lane `vulkan` runs it with one after the other.

bips_conformance::suite!(bips_vulkan::Vulkan::new(), lane "vulkan");
