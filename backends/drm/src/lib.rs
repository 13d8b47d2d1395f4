//! Memory of DRM drivers: dumb buffers (kind `drm`) and GBM buffer objects (kind `gbm`), each slot a dma-buf that
//! displays, GPUs and consumers import; and timelines of DRM, by which processes wait for work of a GPU.
//!
//! | | [`Drm`] | [`Gbm`] |
//! |---|---|---|
//! | asks | the kernel | libgbm, which asks the driver's own library; loaded when first used |
//! | nodes | cards (`card0`) | cards, and render nodes (`renderD128`) where the driver allows |
//! | rows of an image | as the driver wants them | as the driver wants them |
//! | modifier | none: linear | asked to be linear, and looked at |
//!
//! The CPU's access is announced around every lease, as for all dma-bufs (`bips-dma-buf`).

mod backend;
mod card;
mod dumb;
mod gbm;
mod grid;
mod nodes;
mod provider;
mod timeline;

pub use dumb::Drm;
pub use gbm::Gbm;
pub use nodes::{Node, nodes};
pub use provider::Provider;
pub use timeline::SyncTimeline;
