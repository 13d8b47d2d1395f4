//! What both kinds have in common: a pool is so many buffers of one grid.

use crate::card::Card;
use crate::grid::{Grid, grids, laid_out, run};
use bips::sys::{PAGE, check_unswappable};
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
    // A driver takes at least what was asked for.
    let least = Layout { content, slot_bytes: content.nbytes(), writable: requirements.writable };
    fits(&least, requirements.slots)?;
    let (made, laid) = make(maker, &content, grids(&content, requirements.exact)?)?;
    let slot_bytes = made.buffer.len();
    if !slot_bytes.is_multiple_of(PAGE) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} makes buffers of {slot_bytes} bytes, no whole pages", maker.card().named()),
        ));
    }
    let layout = Layout { content: laid, slot_bytes, writable: requirements.writable };
    fits(&layout, requirements.slots)?;
    Ok(layout)
}

/// Makes the pool that was planned, each slot a buffer of its own.
pub(crate) fn allocate(maker: &dyn Maker, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
    fits(layout, slots)?;
    let as_planned =
        |made: &Made, laid: &Content| (made.buffer.len(), laid) == (layout.slot_bytes, &layout.content);
    // The plan's grid, which gives the same again. A run is last: whatever fits in lies in it as it should.
    let mut grids = grids(&layout.content, false)?;
    grids.extend(run(layout.content.nbytes()).ok());
    let mut slots_made = Vec::new();
    while slots_made.len() < slots as usize {
        let Some(grid) = grids.first() else { return Err(otherwise(maker, layout)) };
        match made(maker, &layout.content, grid)? {
            // Written once: drivers back their buffers when they are first touched, and not all clear them.
            Some(Ok((made, laid))) if as_planned(&made, &laid) => {
                let memory = DmaBufMemory::new(made.buffer, Access::Write)?.cleared()?;
                slots_made.push(Allocation { memory: Arc::new(memory), offset: 0, len: layout.slot_bytes });
            }
            _ if slots_made.is_empty() => drop(grids.remove(0)),
            _ => return Err(otherwise(maker, layout)),
        }
    }
    Ok(slots_made)
}

fn otherwise(maker: &dyn Maker, layout: &Layout) -> Error {
    let text = format!(
        "{} makes no more buffers of {} bytes, in rows of {}, as it did for the plan; try again",
        maker.card().named(),
        layout.slot_bytes,
        layout.content.planes()[0].stride
    );
    Error::new(ErrorKind::System, text)
}

/// A buffer of the first of the grids that the driver has and the content can lie in, and the content as it lies there.
fn make(maker: &dyn Maker, content: &Content, grids: Vec<Grid>) -> Result<(Made, Content)> {
    let mut unsuitable = None;
    for grid in &grids {
        match made(maker, content, grid)? {
            Some(Ok(found)) => return Ok(found),
            Some(Err(error)) => unsuitable = Some(error.with("node", maker.card().named())),
            None => {}
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

/// A buffer of one grid, if the driver has that, and how the content lies there, if it can.
fn made(maker: &dyn Maker, content: &Content, grid: &Grid) -> Result<Option<Result<(Made, Content)>>> {
    let Some(made) = maker.make(grid)? else { return Ok(None) };
    Ok(Some(laid_out(content, grid, made.stride, made.buffer.len()).map(|laid| (made, laid))))
}

/// Most drivers take the machine's memory, and the kernel kills for what it has not. One with memory of its own may have
/// more than this allows.
fn fits(layout: &Layout, slots: u32) -> Result<()> {
    check_unswappable(layout.pool_bytes(slots)?)
}

/// What works in one process.
pub(crate) fn try_out(backend: &dyn Backend) -> Capabilities {
    Allocation::for_trial(backend, PAGE)
        .map_or_else(|_| Capabilities::default(), |slot| Capabilities::of_trial(backend, &slot))
}
