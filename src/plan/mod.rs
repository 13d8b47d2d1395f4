//! Which memory serves everyone, and why not the others.

mod constraints;
mod party;
mod served;
mod survey;
#[cfg(all(test, not(any(bips_loom, bips_shuttle))))]
mod tests;

pub use constraints::Constraints;
pub use party::Party;
pub use served::{DeviceTrial, Served};
pub use survey::{Refusal, Survey};

use crate::backend::{Allocation, Backend, FenceKind, Layout, Requirements, Usage};
use crate::handle::ForeignKind;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// The memory kinds a program knows. A value, never a global: programs decide what they link.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    backends: Vec<Arc<dyn Backend>>,
    trials: Vec<Arc<dyn DeviceTrial>>,
}

/// The outcome of planning: the backend, and how the pool will lie.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Who provides the memory.
    pub backend: Arc<dyn Backend>,
    /// How it lies.
    pub layout: Layout,
    /// Who will use it, and how.
    pub uses: Vec<(Party, Served)>,
}

impl Planned {
    /// How a device's work under way is waited for, as a trial shows.
    pub fn fences(&self) -> FenceKind {
        self.backend.capabilities().fences
    }

    /// Parties that would rather have memory of another kind, which serves all of them too.
    fn far(&self) -> usize {
        self.uses.iter().filter(|(_, service)| service.far).count()
    }
}

/// What is tried with devices: any slot will do.
const TRIAL_BYTES: u64 = 1 << 16;

impl Registry {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows this backend too; `auto` prefers the ones added first.
    #[must_use]
    pub fn with(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Asks devices of this usage too.
    #[must_use]
    pub fn with_trial(mut self, trial: Arc<dyn DeviceTrial>) -> Self {
        self.trials.push(trial);
        self
    }

    /// The backend of this kind; after a colon, its source by name.
    pub fn get(&self, kind: &str) -> Option<Arc<dyn Backend>> {
        let named = |kind: &str| self.backends.iter().find(|backend| backend.info().kind == kind);
        named(kind).cloned().or_else(|| {
            let (kind, source) = kind.split_once(':')?;
            named(kind)?.with_source(source)
        })
    }

    /// All of them, in order of preference.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.backends.iter()
    }

    fn unknown(&self, kind: &str) -> Error {
        let known: Vec<_> = self.backends.iter().map(|backend| backend.info().kind.as_str()).collect();
        let bad = |text: String| Error::new(ErrorKind::InvalidArgument, text);
        if let Some((kind, source)) = kind.split_once(':')
            && known.contains(&kind)
        {
            return bad(format!(
                "memory kind {kind} has nothing called {source:?}; use {kind} alone, or see `bips doctor` for what is here"
            ));
        }
        let spelt = |kind: &str| kind.replace(['-', '_', ' '], "").to_lowercase();
        let meant = known.iter().find(|known| spelt(known) == spelt(kind));
        let meant = meant.map(|known| format!(" (did you mean {known:?}?)")).unwrap_or_default();
        let known = known.join(", ");
        bad(format!("{kind:?} is no memory kind of this build{meant}; use \"auto\" or one of: {known}"))
    }

    /// Who publishes from memory that somebody else made: `kind`, or for `auto` the first that does.
    pub(crate) fn adopter(&self, kind: &str, foreign: ForeignKind) -> Result<Arc<dyn Backend>> {
        let adopts = |backend: &Arc<dyn Backend>| backend.adopts(foreign);
        let able = || {
            let able: Vec<_> = self.backends.iter().filter(|backend| adopts(backend)).collect();
            match able.first() {
                Some(backend) => format!("use \"auto\", which takes {}", backend.info().kind),
                None => "add a backend to the registry that does".into(),
            }
        };
        if kind == "auto" {
            return self.backends.iter().find(|backend| adopts(backend)).cloned().ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "no memory kind here publishes from {foreign} that somebody else made; {}",
                        able()
                    ),
                )
            });
        }
        let backend = self.get(kind).ok_or_else(|| self.unknown(kind))?;
        if adopts(&backend) {
            return Ok(backend);
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{kind} does not publish from {foreign} that somebody else made; {}", able()),
        ))
    }

    /// Finds memory of `kind`, or of any kind for `auto`, that meets the requirements and serves everybody: the first of the
    /// registry, unless a device would rather have another's.
    ///
    /// # Errors
    /// `InvalidArgument` for a kind this registry doesn't know; `Unsupported` with every candidate's reason.
    pub fn plan(&self, kind: &str, requirements: &Requirements) -> Result<Planned> {
        if kind == "auto" {
            return self.look(requirements, false).chosen(requirements);
        }
        // The only candidate's own words say it best.
        self.weigh(&self.get(kind).ok_or_else(|| self.unknown(kind))?, requirements)
    }

    /// What each kind has to say to the requirements, for people: [`Registry::plan`] stops at the first that is as good as any.
    pub fn survey(&self, requirements: &Requirements) -> Survey {
        self.look(requirements, true)
    }

    fn look(&self, requirements: &Requirements, at_all: bool) -> Survey {
        let mut survey = Survey::default();
        for backend in &self.backends {
            match self.weigh(backend, requirements) {
                Ok(planned) => survey.able.push(planned),
                Err(why) => survey.refused.push(Refusal { kind: backend.info().kind.clone(), why }),
            }
            if !at_all && survey.able.last().is_some_and(|planned| planned.far() == 0) {
                break;
            }
        }
        survey.able.sort_by_key(Planned::far); // stable: of equals the first
        survey
    }

    /// Whether this memory meets the requirements, and how everybody would use it.
    fn weigh(&self, backend: &Arc<dyn Backend>, requirements: &Requirements) -> Result<Planned> {
        let everybody = requirements.everybody();
        let usage = everybody.iter().fold(Usage::empty(), |all, party| all | party.usage());
        let writable = requirements.lets_consumers_write();
        let mut wanted = Requirements { usage, writable, ..requirements.clone() };
        // What the kind itself knows comes first: it costs nothing.
        for party in everybody.iter().filter(|party| !self.trial_of(party).is_some_and(|it| it.overrules())) {
            backend.serves(party)?;
        }
        wanted.content = wanted.constraints.apply(&wanted)?;
        let layout = backend.plan(&wanted)?;
        if wanted.constraints != Constraints::default() {
            wanted.constraints.check(&layout, &backend.capabilities())?;
        }
        let mut slot = None;
        let mut uses = Vec::new();
        for party in everybody {
            let service = if self.trial_of(&party).is_some() {
                if slot.is_none() {
                    slot = Some(Allocation::for_trial(&**backend, TRIAL_BYTES)?);
                }
                self.served(&party, &**backend, slot.as_ref())?
            } else {
                backend.serves(&party)?
            };
            uses.push((party, service));
        }
        Ok(Planned { backend: backend.clone(), layout, uses })
    }

    fn trial_of(&self, party: &Party) -> Option<&Arc<dyn DeviceTrial>> {
        self.trials.iter().find(|trial| trial.usage() == party.usage())
    }

    /// How a party uses memory of a kind: by trial with a slot of it, where there is one for the party's usage.
    pub(crate) fn served(
        &self,
        party: &Party,
        backend: &dyn Backend,
        slot: Option<&Allocation>,
    ) -> Result<Served> {
        match (self.trial_of(party), slot) {
            (Some(trial), Some(slot)) => {
                if !trial.overrules() {
                    backend.serves(party)?;
                }
                trial.try_out(party, backend.info(), slot)
            }
            _ => backend.serves(party),
        }
    }
}

/// As in `cpu, camera:/dev/video0`.
fn listed(parties: &[Party]) -> String {
    parties.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
