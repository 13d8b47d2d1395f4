//! How somebody is served by memory of a kind, and devices that can be asked by trying.

use super::Party;
use crate::Result;
use crate::backend::{Allocation, BackendInfo, Usage};
use std::fmt;

/// How a party uses memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// By what, for people: `mapped`, `dma-buf`, a driver's extension.
    pub by: String,
    /// Whether each access crosses to memory that is not the device's own, although memory of its own could serve too.
    pub far: bool,
}

impl Served {
    /// As near as it gets.
    pub fn by(what: impl Into<String>) -> Self {
        Self { by: what.into(), far: false }
    }
}

/// Devices of one usage that are asked whether they use memory of any kind, by having them do it: not what a driver says,
/// what it does. Where a registry has one for a usage, its answer counts, else the memory kind's own
/// ([`Backend::serves`](crate::Backend::serves)).
pub trait DeviceTrial: Send + Sync + fmt::Debug {
    /// Whose parties it can ask.
    fn usage(&self) -> Usage;

    /// Whether its devices use memory too that says by itself that it does not serve such: a driver that imports other kinds.
    /// Else the memory's own "no" is one.
    fn overrules(&self) -> bool {
        false
    }

    /// Has the party's device use the slot, without changing what lies in it. Slow at first; answers may be remembered.
    ///
    /// # Errors
    /// Why it can't, and what to do.
    fn try_out(&self, party: &Party, memory: &BackendInfo, slot: &Allocation) -> Result<Served>;
}
