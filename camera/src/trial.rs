//! Which memory a camera writes to, found by asking its driver for such buffers.

use crate::{Device, Way};
use bips::{
    Allocation, BackendInfo, DeviceTrial, Error, ErrorKind, ExternalHandle, Party, Result, Served, Usage,
};
use std::path::Path;

/// Cameras, for a registry: parties as `camera:/dev/video0`. Which one `camera` is nobody knows: any that takes dma-bufs.
#[derive(Debug, Default)]
pub struct CameraTrial;

impl CameraTrial {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self
    }
}

impl DeviceTrial for CameraTrial {
    fn usage(&self) -> Usage {
        Usage::CAMERA
    }

    fn try_out(&self, party: &Party, memory: &BackendInfo, slot: &Allocation) -> Result<Served> {
        let no = |text: String| Error::new(ErrorKind::Unsupported, text);
        // First: a camera that isn't there is everybody's reason.
        let device = party.device().map(|path| Device::open(Path::new(path))).transpose()?;
        if !matches!(slot.memory.export_to_device(slot.offset), Ok((ExternalHandle::DmaBuf { .. }, _))) {
            return Err(no(format!("cameras write to dma-bufs, and {} has none", memory.kind)));
        }
        let Some(device) = device else { return Ok(Served::by("dma-buf, for a camera that takes such")) };
        if !device.ways()?.has(Way::DmaBuf) {
            return Err(no(format!(
                "{party} ({}) takes no dma-bufs; `bips capture` publishes from buffers of its own where it lends them",
                device.card()
            )));
        }
        Ok(Served::by(format!("dma-buf, to which {} writes", device.card())))
    }
}
