//! Kind `drm[:NODE]`: every slot a dumb buffer, which the kernel's driver makes without a library.

use crate::backend::{Made, Maker};
use crate::card::{Card, errno};
use crate::grid::Grid;
use crate::provider::{Kind, Provider};
use crate::timeline::SyncTimeline;
use bips::{Error, ErrorKind, Result};
use drm::buffer::Buffer;
use drm::control::Device as _;
use std::os::fd::OwnedFd;

/// Dumb buffers, by the card that suits most.
pub type Drm = Provider<DumbBuffers>;

/// The kind `drm`.
#[derive(Debug)]
pub struct DumbBuffers;

impl Kind for DumbBuffers {
    const NAME: &str = "drm";
    const BUFFERS: &str = "dumb buffers";
    const RENDER_NODES: bool = false;

    fn open(named: Option<&str>) -> Result<Box<dyn Maker>> {
        Ok(Box::new(Dumb(Card::open(named, Self::RENDER_NODES)?)))
    }
}

impl Drm {
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
