//! Every parser of what comes from outside, as a function of bytes that panics when a promise is broken.
//!
//! `fuzz/` runs them under libFuzzer (`cargo xtask fuzz`), `tests/parsers.rs` for a moment with each test run.

mod board;
mod description;
mod honest;
mod input;
mod memory;
mod messages;
mod seats;
mod texts;

pub use board::board;
pub use description::description;
pub use messages::{reply, request};
pub use seats::seats;
pub use texts::{names, system};

/// One parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also that of its program in `fuzz/`.
    pub name: &'static str,
    /// Tries one input.
    ///
    /// # Panics
    /// When a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that get far, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request", run: request, seeds: messages::request_seeds },
    Target { name: "reply", run: reply, seeds: messages::reply_seeds },
    Target { name: "description", run: description, seeds: description::seeds },
    Target { name: "board", run: board, seeds: board::seeds },
    Target { name: "seats", run: seats, seeds: seats::seeds },
    Target { name: "names", run: names, seeds: texts::name_seeds },
    Target { name: "system", run: system, seeds: texts::system_seeds },
];

/// Texts of errors reach terminals and logs, whatever a peer put into them.
fn assert_printable(text: &str) {
    assert!(!text.contains(char::is_control), "control characters in {text:?}");
}

/// An error that comes of a peer's bytes must be fit to be shown.
fn assert_tellable(error: &crate::Error) {
    assert_printable(&error.to_string());
    assert!(!error.message().is_empty(), "an error without a message");
}
