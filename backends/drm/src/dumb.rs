//! Kind `drm[:NODE]`: every slot a dumb buffer, which the kernel's driver makes without a library.

use crate::backend::{self, Made, Maker};
use crate::card::{Card, errno};
use crate::grid::Grid;
use crate::nodes;
use crate::timeline::SyncTimeline;
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, Error, ErrorKind, ExternalHandle,
    Layout, Memory, Requirements, Result,
};
use bips_dma_buf::DmaBufMemory;
use drm::buffer::Buffer;
use drm::control::Device as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

/// Provider of dumb buffers.
#[derive(Debug)]
pub struct Drm {
    info: BackendInfo,
    /// The node the user named.
    named: Option<String>,
    capabilities: OnceLock<Capabilities>,
}

impl Drm {
    /// The kind of memory it provides; a node's name may follow after a colon.
    pub const KIND: &str = "drm";

    /// From the card that suits most: the first with a display, of those this process may open.
    pub fn new() -> Self {
        Self::over(None)
    }

    /// From the node of this name, as in `/dev/dri`. Whether it exists shows when a pool is planned.
    ///
    /// # Errors
    /// `InvalidArgument` for what no node can be called.
    pub fn named(node: &str) -> Result<Self> {
        Ok(Self::over(Some(nodes::name_of(Self::KIND, node)?)))
    }

    fn over(named: Option<String>) -> Self {
        let kind = named.as_ref().map_or(Self::KIND.into(), |name| format!("{}:{name}", Self::KIND));
        let description = nodes::describe("dumb buffers", named.as_deref(), false);
        let info = BackendInfo { kind, device: DeviceId::default(), description };
        Self { info, named, capabilities: OnceLock::new() }
    }

    /// A new timeline of this node's driver.
    ///
    /// # Errors
    /// As [`SyncTimeline::create`].
    pub fn timeline(&self) -> Result<SyncTimeline> {
        SyncTimeline::create(self.named.as_deref())
    }

    /// The timeline that another process exported.
    ///
    /// # Errors
    /// As [`SyncTimeline::import`].
    pub fn import_timeline(&self, fd: &OwnedFd) -> Result<SyncTimeline> {
        SyncTimeline::import(fd, self.named.as_deref())
    }

    fn open(&self) -> Result<Dumb> {
        Ok(Dumb(Card::open(self.named.as_deref(), false)?))
    }
}

impl Default for Drm {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Drm {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        *self.capabilities.get_or_init(|| backend::try_out(self))
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        backend::suits(requirements)?;
        backend::plan(&self.open()?, requirements)
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        backend::allocate(&self.open()?, layout, slots)
    }

    /// Consumers need no node.
    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(DmaBufMemory::import(handle, access)?))
    }

    fn with_source(&self, name: &str) -> Option<Arc<dyn Backend>> {
        Some(Arc::new(Self::named(name).ok()?))
    }
}

struct Dumb(Card);

impl Maker for Dumb {
    fn card(&self) -> &Card {
        &self.0
    }

    fn make(&self, grid: &Grid) -> Result<Option<Made>> {
        let Self(card) = self;
        let dumb = match card.create_dumb_buffer((grid.width, grid.height), grid.format, grid.bits) {
            Ok(dumb) => dumb,
            Err(error) if errno(&error) == libc::EINVAL => return Ok(None),
            Err(error) => return Err(refused(card, &error)),
        };
        let made = card.dma_buf(dumb.handle()).map(|buffer| Made { buffer, stride: dumb.pitch().into() });
        // The dma-buf keeps the buffer.
        let gone = card.destroy_dumb_buffer(dumb);
        gone.map_err(|error| Error::system("MODE_DESTROY_DUMB", error).with("node", card.named()))?;
        made.map(Some)
    }
}

fn refused(card: &Card, error: &std::io::Error) -> Error {
    let named = card.named();
    match errno(error) {
        libc::EACCES if card.node.render => Error::new(
            ErrorKind::Unsupported,
            format!(
                "{named} is a render node, and those make no dumb buffers; use a card's node, as in drm:card0, or \
                 gbm:{}",
                card.node.name
            ),
        ),
        libc::EACCES | libc::EPERM => Error::new(
            ErrorKind::AccessDenied,
            format!("{named} makes no dumb buffer for this process ({error}); use gbm, or dma-heap"),
        ),
        libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY => Error::new(
            ErrorKind::Unsupported,
            format!("the driver of {named} makes no dumb buffers; use gbm:{}, or dma-heap", card.node.name),
        ),
        libc::ENOMEM | libc::ENOSPC => Error::new(
            ErrorKind::OutOfMemory,
            format!("{named} has not the memory for the pool; use fewer slots or smaller frames"),
        ),
        _ => Error::system("MODE_CREATE_DUMB", std::io::Error::from_raw_os_error(errno(error)))
            .with("node", named),
    }
}
