//! A backend that fails as planned, for unit tests of programs built on bips.

mod simulated;

pub use simulated::{Damage, Operation, Simulated};
