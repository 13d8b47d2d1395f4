//! Kind `gbm[:NODE]`: every slot a GBM buffer object, which the driver's own library makes.

mod library;

use crate::backend::{self, Made, Maker};
use crate::card::Card;
use crate::grid::Grid;
use crate::nodes;
use bips::{
    Access, Allocation, Backend, BackendInfo, Capabilities, DeviceId, Error, ErrorKind, ExternalHandle,
    Layout, Memory, Requirements, Result,
};
use bips_dma_buf::DmaBufMemory;
use library::{Device, Refusal};
use std::sync::{Arc, OnceLock};

/// Rows one after the other.
const LINEAR: u64 = 0;
/// A driver that knows no modifiers says this of all its buffers: they are linear if they were asked to be
/// (`GBM_BO_USE_LINEAR`).
const UNKNOWN: u64 = 0x00ff_ffff_ffff_ffff;

/// Provider of GBM buffer objects.
#[derive(Debug)]
pub struct Gbm {
    info: BackendInfo,
    /// The node the user named.
    named: Option<String>,
    capabilities: OnceLock<Capabilities>,
}

impl Gbm {
    /// The kind of memory it provides; a node's name may follow after a colon.
    pub const KIND: &str = "gbm";

    /// From the node that suits most: the first card with a display, of those this process may open; a render node where
    /// it may open no card. libgbm is loaded when a pool is planned.
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
        let description = nodes::describe("GBM buffer objects", named.as_deref(), true);
        let info = BackendInfo { kind, device: DeviceId::default(), description };
        Self { info, named, capabilities: OnceLock::new() }
    }

    fn open(&self) -> Result<Opened> {
        let library = library::get()?;
        let card = Card::open(self.named.as_deref(), true)?;
        let device = library.device(&card).map_err(|error| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "libgbm has no driver for {} ({error}); Mesa's are in the packages libgl1-mesa-dri or \
                     mesa-dri-drivers; or use drm:{}",
                    card.named(),
                    card.node.name
                ),
            )
        })?;
        Ok(Opened { device, card })
    }
}

impl Default for Gbm {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Gbm {
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

    /// Consumers need neither node nor library.
    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(DmaBufMemory::import(handle, access)?))
    }

    fn with_source(&self, name: &str) -> Option<Arc<dyn Backend>> {
        Some(Arc::new(Self::named(name).ok()?))
    }
}

struct Opened {
    // First: it ends before the card is closed.
    device: Device,
    card: Card,
}

impl Maker for Opened {
    fn card(&self) -> &Card {
        &self.card
    }

    fn make(&self, grid: &Grid) -> Result<Option<Made>> {
        let Self { device, card } = self;
        let object = match device.linear_object(grid) {
            Ok(object) => object,
            Err(Refusal::Format) => return Ok(None),
            Err(Refusal::System(error)) => return Err(refused(card, error)),
        };
        let modifier = object.modifier();
        if (modifier != LINEAR && modifier != UNKNOWN) || object.offset() != 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the driver of {} made a buffer of modifier {modifier:#x} that begins at {} where a linear one from \
                     0 on was asked for; use drm:{}",
                    card.named(),
                    object.offset(),
                    card.node.name
                ),
            ));
        }
        let Some(handle) = object.handle() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("libgbm gives no handle of a buffer of {}; use dma-heap", card.named()),
            ));
        };
        // Not by gbm_bo_get_fd: that one could not be mapped for writing.
        let buffer = card.dma_buf(handle)?;
        Ok(Some(Made { buffer, stride: object.stride() }))
    }
}

fn refused(card: &Card, error: std::io::Error) -> Error {
    let named = card.named();
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) if card.node.render => Error::new(
            ErrorKind::Unsupported,
            format!(
                "the driver of {named} makes no buffers by a render node ({error}); use a card's, as in gbm:card0"
            ),
        ),
        Some(libc::ENOMEM | libc::ENOSPC) => Error::new(
            ErrorKind::OutOfMemory,
            format!("{named} has not the memory for the pool; use fewer slots or smaller frames"),
        ),
        _ => Error::system("gbm_bo_create", error).with("node", named),
    }
}
