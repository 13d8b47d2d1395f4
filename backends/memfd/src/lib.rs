//! Sealed memfd memory: the default kind, on every Linux from 5.1.
//!
//! A pool is one memfd, so one descriptor and one mapping per consumer, and huge pages where slots are large.
//! Unless the stream is writable it is sealed with `F_SEAL_FUTURE_WRITE` as soon as the producer has mapped it:
//! from then on nobody, the producer included, can get a writable mapping of it.

mod backend;

pub use backend::Memfd;
