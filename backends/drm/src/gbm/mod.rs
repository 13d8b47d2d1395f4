//! Kind `gbm[:NODE]`: every slot a GBM buffer object, which the driver's own library makes.

mod library;

use crate::backend::{Made, Maker};
use crate::card::Card;
use crate::grid::Grid;
use crate::provider::{Kind, Provider};
use bips::{Error, ErrorKind, Result};
use library::{Device, Refusal};

/// Rows one after the other.
const LINEAR: u64 = 0;
/// A driver that knows no modifiers says this of all its buffers: they are linear if they were asked to be
/// (`GBM_BO_USE_LINEAR`).
const UNKNOWN: u64 = 0x00ff_ffff_ffff_ffff;

/// GBM buffer objects. libgbm is loaded when a pool is planned.
pub type Gbm = Provider<BufferObjects>;

/// The kind `gbm`.
#[derive(Debug)]
pub struct BufferObjects;

impl Kind for BufferObjects {
    const NAME: &str = "gbm";
    const BUFFERS: &str = "GBM buffer objects";
    const RENDER_NODES: bool = true;

    fn open(named: Option<&str>) -> Result<Box<dyn Maker>> {
        let library = library::get()?;
        let card = Card::open(named, Self::RENDER_NODES)?;
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
        Ok(Box::new(Opened { device, card }))
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
