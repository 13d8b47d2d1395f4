//! Memory that devices use: dma-bufs, from a dma-heap (kind `dma-heap`) or made of a memfd (kind `udmabuf`).
//!
//! | | [`DmaHeap`] | [`Udmabuf`] |
//! |---|---|---|
//! | a slot is | a dma-buf of its own | a part of one sealed memfd, with a dma-buf over it |
//! | consumers get | the dma-bufs | the memfd |
//! | a consumer that means to can write | yes: whoever has the dma-buf can map it so | no |
//! | consumers tell of their access | yes | they can't: the producer does it for them when it publishes |
//!
//! [`Foreign`] (kind `dma-buf`) is for dma-bufs of any other origin, which a producer adopts: a camera's, a decoder's.
//!
//! [`broker`] is for processes that may not open the devices.
//!
//! The CPU's access is announced to the kernel around every lease (`DMA_BUF_IOCTL_SYNC`): caches are made to agree where
//! they don't by themselves, and devices that still write are waited for. [`SyncFile`] is the device's work as a fence.

pub mod broker;
mod buffer;
mod device;
mod fence;
mod foreign;
mod heap;
mod ioctl;
mod memory;
mod udmabuf;

pub use buffer::DmaBuf;
pub use device::open as open_device;
pub use fence::SyncFile;
pub use foreign::Foreign;
pub use heap::DmaHeap;
pub use memory::DmaBufMemory;
pub use udmabuf::{Udmabuf, dma_buf_of};
