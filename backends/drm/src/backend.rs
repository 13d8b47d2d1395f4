//! What both kinds have in common: a pool is so many buffers of one grid.

use crate::card::Card;
use crate::grid::{Grid, grids, laid_out};
use bips::sys::{PAGE, check_memory};
use bips::{
    Access, Allocation, Backend, Capabilities, Content, Error, ErrorKind, Layout, Requirements, Result, Usage,
};
use bips_dma_buf::{DmaBuf, DmaBufMemory};
use drm::DriverCapability;
use std::sync::Arc;

/// A buffer a driver made.
pub(crate) struct Made {
    pub(crate) buffer: DmaBuf,
    /// From one row to the next, in bytes.
    pub(crate) stride: u64,
}

/// A way to have an opened node make buffers.
pub(crate) trait Maker {
    fn card(&self) -> &Card;

    /// Makes a buffer. `None` if this driver has no such pixels.
    fn make(&self, grid: &Grid) -> Result<Option<Made>>;
}

/// Refuses what no DRM buffer is good for, before a node is opened.
pub(crate) fn suits(requirements: &Requirements) -> Result<()> {
    let no = |why: String| Err(Error::new(ErrorKind::Unsupported, why));
    if requirements.usage.contains(Usage::CUDA) {
        return no("CUDA imports no buffers of DRM; use memory it allocates itself, or host memory".into());
    }
    match requirements.content.modifier() {
        0 => Ok(()),
        modifier if requirements.usage.contains(Usage::CPU) => no(format!(
            "modifier {modifier:#x} lays pixels in the device's own order, not in rows: the CPU would read them at \
             the wrong places; ask for a linear buffer (modifier 0), or copy it by the device"
        )),
        modifier => no(format!(
            "modifier {modifier:#x} is not linear, and a pool is mapped for the CPU in every process that has it; ask \
             for a linear buffer (modifier 0)"
        )),
    }
}

/// How a pool would lie: a buffer is made to see, and goes again.
pub(crate) fn plan(maker: &dyn Maker, requirements: &Requirements) -> Result<Layout> {
    if requirements.usage.contains(Usage::DISPLAY) && !maker.card().can(DriverCapability::DumbBuffer) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} drives no display; name a card that does, as in drm:card1", maker.card().named()),
        ));
    }
    let content = requirements.content;
    fits(content.nbytes(), requirements.slots)?;
    let (made, laid) = make(maker, &content)?;
    let slot_bytes = made.buffer.len();
    if !slot_bytes.is_multiple_of(PAGE) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} makes buffers of {slot_bytes} bytes, no whole pages", maker.card().named()),
        ));
    }
    fits(slot_bytes, requirements.slots)?;
    Ok(Layout { content: laid, slot_bytes, writable: requirements.writable })
}

/// Makes the pool that was planned, each slot a buffer of its own.
pub(crate) fn allocate(maker: &dyn Maker, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
    fits(layout.slot_bytes, slots)?;
    let slot = |_| {
        let (made, laid) = make(maker, &layout.content)?;
        if (made.buffer.len(), laid) != (layout.slot_bytes, layout.content) {
            return Err(Error::new(
                ErrorKind::System,
                format!(
                    "{} made a buffer of {} bytes in rows of {} where it had made one of {} before; try again",
                    maker.card().named(),
                    made.buffer.len(),
                    made.stride,
                    layout.slot_bytes
                ),
            ));
        }
        // Written once: drivers back their buffers when they are first touched, and not all clear them.
        let memory = DmaBufMemory::new(made.buffer, Access::Write)?.cleared()?;
        Ok(Allocation { memory: Arc::new(memory), offset: 0, len: layout.slot_bytes })
    };
    (0..slots).map(slot).collect()
}

/// A buffer of the first grid that the driver has and the content can lie in, and the content as it lies there.
fn make(maker: &dyn Maker, content: &Content) -> Result<(Made, Content)> {
    let mut unsuitable = None;
    for grid in grids(content)? {
        let Some(made) = maker.make(&grid)? else { continue };
        match laid_out(content, &grid, made.stride, made.buffer.len()) {
            Ok(laid) => return Ok((made, laid)),
            Err(error) => unsuitable = Some(error.with("node", maker.card().named())),
        }
    }
    Err(unsuitable.unwrap_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} makes no buffer for {:?} elements of {}; use smaller frames, another node, or dma-heap",
                maker.card().named(),
                content.shape(),
                content.dtype()
            ),
        )
    }))
}

/// Most drivers take the machine's memory, and the kernel kills for what it has not. One with memory of its own may have
/// more than this allows.
fn fits(slot_bytes: u64, slots: u32) -> Result<()> {
    let total = slot_bytes.checked_mul(u64::from(slots)).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, "the pool is larger than any machine; use smaller frames")
    })?;
    check_memory(total)
}

/// What works in one process.
pub(crate) fn try_out(backend: &dyn Backend) -> Capabilities {
    let content = Content::bytes(PAGE).expect("small");
    let wanted = Requirements { content, slots: 1, usage: Usage::CPU, writable: false };
    let slots = backend.plan(&wanted).and_then(|layout| backend.allocate(&layout, 1));
    let Ok(slots) = slots else { return Capabilities::default() };
    let import = |access| slots[0].memory.export().and_then(|handle| backend.import(handle, access));
    Capabilities {
        allocate: true,
        share: import(Access::Read).is_ok(),
        cpu_map: true,
        read_only_enforced: import(Access::Write).is_err(),
        huge_pages: false,
    }
}
