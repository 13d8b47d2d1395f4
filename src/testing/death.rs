//! Dying at a chosen point, for tests of what survives it.

use crate::step::{STEPS, arm};
use crate::{Error, Result};

pub use crate::step::Side;

/// The points of the protocol at which a process can be made to die: who passes them, and what they are.
pub fn steps() -> impl Iterator<Item = (Side, &'static str)> {
    STEPS.iter().map(|(_, side, text)| (*side, *text))
}

/// Makes this process kill itself by `SIGKILL` when it passes the step of this text for the `count`th time, on
/// whatever thread.
///
/// # Errors
/// `InvalidArgument` for a step there isn't.
pub fn die_at(step: &str, count: u32) -> Result<()> {
    let (step, ..) = STEPS.iter().find(|(_, _, text)| *text == step).ok_or_else(|| {
        Error::invalid(format!("there is no step {step:?}; bips::testing::steps() lists them"))
    })?;
    arm(*step, count);
    Ok(())
}
