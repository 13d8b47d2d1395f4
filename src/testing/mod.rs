//! For tests of programs built on bips: a backend that fails as planned, and processes that die as planned.

mod death;
pub mod fuzz;
mod hand;
mod simulated;

pub use death::{Side, die_at, linger_at, steps};
pub use hand::Hand;
pub use simulated::{Damage, Operation, Simulated};
