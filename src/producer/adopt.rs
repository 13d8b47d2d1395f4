//! A pool of buffers that somebody else made.

use crate::backend::{Allocation, Backend, Memory, Requirements};
use crate::handle::Access;
use crate::plan::Registry;
use crate::pool::Pool;
use crate::sys::PAGE;
use crate::{Error, ForeignBuffer, Result};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Who publishes from these buffers.
pub(super) fn backend(
    registry: &Registry,
    memory: &str,
    buffers: &[ForeignBuffer],
) -> Result<Arc<dyn Backend>> {
    let first =
        buffers.first().ok_or_else(|| Error::invalid("there are no buffers to adopt; give one per slot"))?;
    if let Some(at) = buffers.iter().position(|buffer| buffer.kind != first.kind) {
        return Err(Error::invalid(format!(
            "buffer {at} is said to be {}, and buffer 0 {}; a pool is of one kind, make two streams",
            buffers[at].kind, first.kind
        )));
    }
    registry.adopter(memory, first.kind)
}

/// A buffer that was opened: which file it is, and what of it is a slot already.
struct Opened {
    file: (u64, u64),
    memory: Arc<dyn Memory>,
    len: u64,
    /// Offset, length and number of each slot in it.
    slots: Vec<(u64, u64, usize)>,
}

/// The pool that they are.
pub(super) fn pool(
    backend: &dyn Backend,
    buffers: Vec<ForeignBuffer>,
    requirements: &Requirements,
) -> Result<Pool> {
    let needed = requirements.content.nbytes().max(1);
    let slot_bytes = needed.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    let mut opened: Vec<Opened> = Vec::new();
    let mut allocations = Vec::with_capacity(buffers.len());
    for (at, buffer) in buffers.into_iter().enumerate() {
        let (offset, len) = (buffer.offset, buffer.len);
        let bad = |what: String| Error::invalid(format!("buffer {at} {what}"));
        if !offset.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
            return Err(bad(format!(
                "is bytes {offset}..+{len}, which are no whole pages of {PAGE} bytes; give the buffer with its padding, \
                 and let it begin at a page"
            )));
        }
        if len < slot_bytes {
            return Err(bad(format!(
                "has {len} bytes, and the content needs {needed} (in pages {slot_bytes}); describe smaller content, or \
                 have larger buffers made"
            )));
        }
        // Descriptors' numbers are no identity: many may stand for one buffer.
        let file = backend.identify(buffer.fd.as_fd()).map_err(|error| error.with("buffer", at))?;
        let known = opened.iter().position(|known| known.file == file);
        let known = match known {
            Some(known) => &mut opened[known],
            None => {
                let memory = backend
                    .adopt(buffer.fd, requirements.writable)
                    .map_err(|error| error.with("buffer", at))?;
                let len = memory.map(Access::Write).map_err(|error| error.with("buffer", at))?.len as u64;
                let slots = Vec::new();
                opened.push(Opened { file, memory, len, slots });
                opened.last_mut().expect("pushed just now")
            }
        };
        if offset.checked_add(len).is_none_or(|end| end > known.len) {
            return Err(bad(format!(
                "is to be bytes {offset}..+{len} of a file of {} bytes; give the size that it has",
                known.len
            )));
        }
        if let Some((.., other)) =
            known.slots.iter().find(|(start, length, _)| offset < start + length && *start < offset + len)
        {
            return Err(bad(format!(
                "lies in the same memory as buffer {other}; give each buffer once, or parts that don't overlap"
            )));
        }
        if let (Some((.., other)), Some(_)) = (known.slots.first(), known.memory.cpu_access()) {
            return Err(bad(format!(
                "is in the same memory as buffer {other}, where the CPU's access is announced for all of it at once: what a \
                 device writes to one slot could be lost when the CPU is done with another; have a buffer made per slot"
            )));
        }
        known.slots.push((offset, len, at));
        allocations.push(Allocation { memory: known.memory.clone(), offset, len: slot_bytes });
    }
    Pool::new(allocations, backend.info(), slot_bytes, Access::Write)
}
