//! What both kinds are to the core: a provider of buffers that some node makes, once it is opened.

use crate::backend::{self, Maker};
use crate::nodes;
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, ExternalHandle, Layout, Memory, Party,
    Requirements, Result, Served,
};
use bips_dma_buf::DmaBufMemory;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

/// A kind of DRM memory. There are two, both here.
pub(crate) trait Kind: fmt::Debug + Send + Sync + 'static {
    /// Its name.
    const NAME: &str;
    /// What it makes, for people.
    const BUFFERS: &str;
    /// Whether a render node will do where no card may be opened.
    const RENDER_NODES: bool;

    /// The node that the user named, or that suits most.
    fn open(named: Option<&str>) -> Result<Box<dyn Maker>>;
}

/// Provider of buffers of one kind.
#[derive(Debug)]
pub struct Provider<K> {
    info: BackendInfo,
    /// The node the user named.
    pub(crate) named: Option<String>,
    capabilities: OnceLock<Capabilities>,
    kind: PhantomData<K>,
}

#[allow(private_bounds, reason = "the kinds are those of this crate")]
impl<K: Kind> Provider<K> {
    /// The kind of memory it provides; a node's name may follow after a colon.
    pub const KIND: &str = K::NAME;

    /// From the node that suits most: the first card with a display, of those this process may open; for GBM a render node
    /// where it may open no card.
    pub fn new() -> Self {
        Self::over(None)
    }

    /// From the node of this name, as in `/dev/dri`. Whether it exists shows when a pool is planned.
    ///
    /// # Errors
    /// `InvalidArgument` for what no node can be called.
    pub fn named(node: &str) -> Result<Self> {
        Ok(Self::over(Some(nodes::name_of(K::NAME, node)?)))
    }

    fn over(named: Option<String>) -> Self {
        let kind = named.as_ref().map_or(K::NAME.into(), |name| format!("{}:{name}", K::NAME));
        let description = nodes::describe(K::BUFFERS, named.as_deref(), K::RENDER_NODES);
        let info = BackendInfo { kind, device: DeviceId::default(), description };
        Self { info, named, capabilities: OnceLock::new(), kind: PhantomData }
    }

    fn open(&self) -> Result<Box<dyn Maker>> {
        K::open(self.named.as_deref())
    }
}

impl<K: Kind> Default for Provider<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kind> Backend for Provider<K> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.get_or_init(|| backend::try_out(self))
    }

    fn serves(&self, party: &Party) -> Result<Served> {
        party.by_dma_buf("buffers of DRM")
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        backend::suits(requirements)?;
        backend::plan(&*self.open()?, requirements)
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        backend::allocate(&*self.open()?, layout, slots)
    }

    /// Consumers need neither node nor library.
    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(DmaBufMemory::import(handle, access)?))
    }

    fn with_source(&self, name: &str) -> Option<Arc<dyn Backend>> {
        Some(Arc::new(Self::named(name).ok()?))
    }
}
