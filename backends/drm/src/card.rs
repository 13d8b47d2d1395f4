//! An opened device node.

use crate::nodes::{self, Node};
use bips::{Error, Result};
use bips_dma_buf::{DmaBuf, open_device};
use drm::buffer::Handle;
use drm::control::Device as _;
use drm::{Device as _, DriverCapability};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A node, opened for reading and writing.
#[derive(Debug)]
pub(crate) struct Card {
    fd: OwnedFd,
    pub(crate) node: Node,
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

impl Card {
    /// Opens the node of that name, or the one that suits most.
    pub(crate) fn open(named: Option<&str>, render_too: bool) -> Result<Self> {
        let (node, _) = nodes::choose(named, render_too)?;
        Self::of(node)
    }

    pub(crate) fn of(node: Node) -> Result<Self> {
        let name = node.name.clone();
        let fd = open_device(&node.path(), true, || format!("{name} has just gone, or has no driver"))?;
        let card = Self { fd, node };
        if !card.node.render {
            // Who opens a card first becomes its master, and would keep a compositor that starts now from it. Fails where
            // another is.
            let _ = card.release_master_lock();
        }
        Ok(card)
    }

    /// The driver, by its own name.
    pub(crate) fn driver(&self) -> String {
        let name = self.get_driver().map(|driver| driver.name.to_string_lossy().into_owned());
        name.unwrap_or_else(|_| self.node.device.clone())
    }

    /// The node and its driver, for messages.
    pub(crate) fn named(&self) -> String {
        format!("{} ({})", self.node.name, self.driver())
    }

    /// Whether the driver says so of itself; one that doesn't know the question can't.
    pub(crate) fn can(&self, capability: DriverCapability) -> bool {
        self.get_driver_capability(capability).is_ok_and(|value| value != 0)
    }

    /// A buffer's dma-buf, which may be mapped for writing too. It keeps the buffer without its handle, and the card without
    /// its descriptor.
    pub(crate) fn dma_buf(&self, buffer: Handle) -> Result<DmaBuf> {
        let fd = self.buffer_to_prime_fd(buffer, drm::CLOEXEC | drm::RDWR).map_err(|error| {
            Error::system("PRIME_HANDLE_TO_FD: this driver exports no dma-buf", error)
                .with("node", self.named())
        })?;
        let buffer = DmaBuf::new(fd)?;
        buffer.label();
        Ok(buffer)
    }
}

/// The number of an error of the system.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}
