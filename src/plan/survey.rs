//! What each memory kind had to say.

use super::{Planned, listed};
use crate::backend::Requirements;
use crate::{Error, ErrorKind, Result};
use std::fmt;

/// A kind that does not serve.
#[derive(Debug)]
pub struct Refusal {
    /// Its name.
    pub kind: String,
    /// Why not.
    pub why: Error,
}

/// All kinds that were looked at. Printed, it is the choice and its reasons.
#[derive(Debug, Default)]
pub struct Survey {
    /// Those that serve, the choice first.
    pub able: Vec<Planned>,
    /// The others, in the registry's order.
    pub refused: Vec<Refusal>,
}

impl Survey {
    /// The choice.
    ///
    /// # Errors
    /// `Unsupported` with every kind's reason; `InvalidArgument` where all say that it was asked for wrongly.
    pub fn chosen(self, requirements: &Requirements) -> Result<Planned> {
        let Self { able, refused } = self;
        if let Some(planned) = able.into_iter().next() {
            return Ok(planned);
        }
        let bad = refused.iter().all(|it| it.why.kind() == ErrorKind::InvalidArgument) && !refused.is_empty();
        let reasons: Vec<_> = refused.iter().map(|it| format!("{}: {}", it.kind, it.why)).collect();
        let text = match reasons.is_empty() {
            true => "this program knows no memory kind; add a backend to its registry".into(),
            false => {
                format!(
                    "no memory kind serves usage {}: {}",
                    listed(&requirements.everybody()),
                    reasons.join("; ")
                )
            }
        };
        let kind = if bad { ErrorKind::InvalidArgument } else { ErrorKind::Unsupported };
        Err(Error::new(kind, text).hint("ask for less usage, or see `bips doctor`"))
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.able.first() {
            None => writeln!(f, "no memory serves all of it")?,
            Some(planned) => {
                let (kind, layout) = (&planned.backend.info().kind, &planned.layout);
                writeln!(f, "{kind}: slots of {} bytes, fences: {}", layout.slot_bytes, planned.fences())?;
                for (party, service) in &planned.uses {
                    writeln!(
                        f,
                        "  {party}: {}{}",
                        service.by,
                        if service.far { ", not its own memory" } else { "" }
                    )?;
                }
            }
        }
        for planned in self.able.iter().skip(1) {
            writeln!(f, "or {}: serves too, and comes after it", planned.backend.info().kind)?;
        }
        for refusal in &self.refused {
            writeln!(f, "not {}: {}", refusal.kind, refusal.why)?;
        }
        Ok(())
    }
}
