//! bips shares buffers between processes without copying them, in the memory the accelerator needs.
//!
//! A [`Producer`] owns a fixed pool of buffers and publishes frames; any number of [`Consumer`]s in other
//! processes and containers lease them. No daemon, no copy, no names left behind; a crash of anybody costs
//! nobody else a thing.
//!
//! ```
//! use bips::{Consumer, DType, Description, Fence, Producer, Wait};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("bips-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! let memory = bips_backends::registry();
//! let producer =
//!     Producer::builder("camera").registry(memory.clone()).tensor(DType::U8, &[480, 640, 3])
//! #       .directory(&dir)
//!         .create()?;
//! let mut consumer = Consumer::builder("camera").registry(memory)
//! #       .directory(&dir)
//!         .connect()?;
//!
//! let mut frame = producer.acquire(Wait::Forever)?;
//! frame.bytes_mut().fill(42);
//! frame.publish(Description::new(), Fence::Signaled)?;
//!
//! let frame = consumer.receive(Wait::Forever)?;
//! let mut pixel = [0; 3];
//! frame.copy_to(0, &mut pixel);
//! assert_eq!((frame.shape(), pixel), (&[480, 640, 3][..], [42; 3]));
//! # drop((frame, consumer, producer)); std::fs::remove_dir(&dir)?;
//! # Ok(()) }
//! ```
//!
//! The crate knows no memory vendor: [`Backend`]s come from crates of their own, collected in `bips-backends`.
//! `docs/architecture.md` is the map, `docs/protocol.md` every byte, `docs/memory-model.md` every ordering.

#![deny(unsafe_code, reason = "only shm/ and sys/ may, and say so")]
#![cfg_attr(
    any(bips_loom, bips_shuttle),
    allow(dead_code, unused_imports, reason = "only the signaler is modelled")
)]

#[macro_use]
mod bitset;
mod backend;
#[cfg(not(any(bips_loom, bips_shuttle)))]
mod consumer;
mod describe;
mod error;
mod fence;
#[cfg(not(any(bips_loom, bips_shuttle)))]
mod frame;
mod handle;
mod plan;
#[cfg(not(any(bips_loom, bips_shuttle)))]
mod pool;
#[cfg(not(any(bips_loom, bips_shuttle)))]
mod producer;
#[cfg(not(any(bips_loom, bips_shuttle)))]
mod session;
#[allow(unsafe_code, reason = "memory that peers write")]
mod shm;
mod signaler;
mod step;
mod stream;
mod sync;
#[cfg(not(any(bips_loom, bips_shuttle)))]
#[allow(unsafe_code, reason = "system calls")]
pub mod sys;
#[cfg(all(feature = "testing", not(any(bips_loom, bips_shuttle))))]
pub mod testing;
mod wait;

pub use backend::{
    Allocation, Backend, BackendInfo, Capabilities, CpuAccess, DeviceId, FenceKind, Layout, Mapped, Memory,
    PrivateMapping, Requirements, Usage,
};
#[cfg(not(any(bips_loom, bips_shuttle)))]
pub use consumer::{Closer, Consumer, ConsumerBuilder, ConsumerStats, Ending};
pub use describe::{Content, DType, Description, Fourcc, MAX_DIMS, MAX_METADATA, MAX_PLANES, Plane, Shape};
pub use error::{AcquireError, Error, ErrorKind, ReceiveError, Result};
pub use fence::{Fence, Timeline};
#[cfg(not(any(bips_loom, bips_shuttle)))]
pub use frame::{Frame, PrivateView};
pub use handle::{Access, ExternalHandle, ForeignBuffer, ForeignKind, Origin};
pub use plan::{Constraints, DeviceTrial, Party, Planned, Refusal, Registry, Served, Survey};
#[cfg(not(any(bips_loom, bips_shuttle)))]
pub use producer::{FrameMut, OnStall, Producer, ProducerBuilder, ProducerStats, SlotHold};
#[cfg(not(any(bips_loom, bips_shuttle)))]
pub use session::{ConsumerInfo, Line, Service, StreamInfo, query, streams};
pub use signaler::Policy;
pub use stream::{AccessRule, runtime_dir};
pub use wait::Wait;

/// Most slots a pool can have.
pub const MAX_SLOTS: u32 = 64;

/// Version of the protocol, major and minor. Same major talks.
pub const PROTOCOL: (u16, u16) = (1, 0);

/// The README's Rust example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
