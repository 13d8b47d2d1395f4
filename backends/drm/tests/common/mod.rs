//! The drivers that tests are made for.

#![allow(dead_code, reason = "each test program uses its own part")]

use bips_drm::{Drm, Gbm, nodes};
use drm::Device as _;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};

/// A node, opened past the backends.
pub(crate) struct Opened(File);

impl Opened {
    pub(crate) fn node(name: &str) -> Self {
        let path = std::path::Path::new("/dev/dri").join(name);
        Self(OpenOptions::new().read(true).write(true).open(path).expect("a node that was found"))
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Opened {}
impl drm::control::Device for Opened {}

/// The card, or render node, of this driver; where there is none, a name that plans refuse: the reason then names it.
pub(crate) fn node(driver: &str, render: bool) -> String {
    let is = |name: &std::path::Path| {
        let file = OpenOptions::new().read(true).write(true).open(name).ok()?;
        Some(Opened(file).get_driver().ok()?.name == driver)
    };
    let node = nodes().into_iter().find(|node| node.render == render && is(&node.path()) == Some(true));
    node.map_or_else(|| format!("a-card-of-{driver}"), |node| node.name)
}

pub(crate) fn drm(driver: &str) -> Drm {
    Drm::named(&node(driver, false)).expect("a name")
}

pub(crate) fn gbm(driver: &str) -> Gbm {
    Gbm::named(&node(driver, false)).expect("a name")
}
