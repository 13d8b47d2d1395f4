//! Which memory serves everyone, and why not the others.

use crate::backend::{Backend, Layout, Requirements};
use crate::handle::ForeignKind;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// The memory kinds a program knows. A value, never a global: programs decide what they link.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    backends: Vec<Arc<dyn Backend>>,
}

/// The outcome of planning: the backend, and how the pool will lie.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Who provides the memory.
    pub backend: Arc<dyn Backend>,
    /// How it lies.
    pub layout: Layout,
}

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

    /// Finds memory of `kind`, or of any kind for `auto`, that meets the requirements.
    ///
    /// # Errors
    /// `InvalidArgument` for a kind this registry doesn't know; `Unsupported` with every candidate's reason.
    pub fn plan(&self, kind: &str, requirements: &Requirements) -> Result<Planned> {
        let candidates: Vec<_> =
            if kind == "auto" { self.backends.clone() } else { self.get(kind).into_iter().collect() };
        if candidates.is_empty() {
            return Err(self.unknown(kind));
        }
        let mut reasons = Vec::new();
        for backend in candidates {
            match backend.plan(requirements) {
                Ok(layout) => {
                    return Ok(Planned { backend, layout });
                }
                // The only candidate's own words say it best.
                Err(error) if kind != "auto" => return Err(error),
                Err(error) => reasons.push(format!("{}: {error}", backend.info().kind)),
            }
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("no memory kind serves usage {}: {}", requirements.usage, reasons.join("; ")),
        )
        .hint("ask for less usage, or see `bips doctor`"))
    }
}
