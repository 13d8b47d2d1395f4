//! Dying at a chosen point, for tests of what survives it.

use crate::step::{STEPS, Step, arm, slow};
use crate::{Error, Result};
use std::time::Duration;

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
    arm(find(step)?, count);
    Ok(())
}

/// Makes this process take so long at the step of this text, each time it passes: what others do meanwhile, which is
/// rare otherwise, happens nearly always.
///
/// # Errors
/// `InvalidArgument` for a step there isn't.
pub fn linger_at(step: &str, pause: Duration) -> Result<()> {
    slow(find(step)?, pause);
    Ok(())
}

fn find(text: &str) -> Result<Step> {
    let step = STEPS.iter().find(|(_, _, known)| *known == text);
    step.map(|(step, ..)| *step).ok_or_else(|| {
        Error::invalid(format!("there is no step {text:?}; bips::testing::steps() lists them"))
    })
}
