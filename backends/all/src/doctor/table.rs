//! What each memory kind can do on this machine, each tried by itself.

use bips::{Access, Allocation, Backend, FenceKind};
use serde::Serialize;
use std::fmt;

/// One thing tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Whether it works; none where there was nothing to try it with.
    pub works: Option<bool>,
    /// How, or why not.
    pub detail: String,
}

/// A memory kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub kind: String,
    /// Making buffers.
    pub allocate: Tried,
    /// Making a handle for another process.
    pub export: Tried,
    /// Opening such a handle.
    pub import: Tried,
    /// Mapping for the CPU.
    pub map: Tried,
    /// Whether a frame can be published before its device is done, and how that is told.
    pub fence: Tried,
}

/// The rows; printed, a table with the reason for each "no" below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Table(pub Vec<Row>);

impl Tried {
    pub(super) fn yes(how: impl Into<String>) -> Self {
        Self { works: Some(true), detail: how.into() }
    }

    pub(super) fn no(why: impl fmt::Display) -> Self {
        Self { works: Some(false), detail: why.to_string() }
    }

    fn nothing_to_try() -> Self {
        Self { works: None, detail: "there is no buffer to try it with".into() }
    }

    fn of<T>(outcome: &bips::Result<T>, how: &str) -> Self {
        outcome.as_ref().map_or_else(Self::no, |_| Self::yes(how))
    }

    fn word(&self) -> &'static str {
        match self.works {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        }
    }
}

impl Row {
    pub(super) fn without_buffers(kind: &str, why: impl fmt::Display) -> Self {
        let none = Tried::nothing_to_try;
        let allocate = Tried::no(why);
        Self { kind: kind.into(), allocate, export: none(), import: none(), map: none(), fence: none() }
    }

    pub(super) fn of(backend: &dyn Backend) -> Self {
        let kind = backend.info().kind.as_str();
        let slot = match Allocation::for_trial(backend, 1 << 16) {
            Ok(slot) => slot,
            Err(error) => return Self::without_buffers(kind, error),
        };
        let handle = slot.memory.export();
        let export = Tried::of(&handle, "a descriptor");
        let import = match handle {
            Ok(handle) => Tried::of(&backend.import(handle, Access::Read), "read-only"),
            Err(_) => Tried::nothing_to_try(),
        };
        let fence = match backend.capabilities().fences {
            FenceKind::Board => Tried::yes("board"),
            FenceKind::Implicit => Tried::yes("implicit"),
            FenceKind::Host => {
                Tried::no("publishing waits until the device is done: its caches are not coherent")
            }
        };
        let map = Tried::of(&slot.memory.map(Access::Read), "mapped");
        Self { kind: kind.into(), allocate: Tried::yes("a slot of 64 KiB"), export, import, map, fence }
    }

    fn cells(&self) -> [(&'static str, &Tried); 5] {
        let Self { allocate, export, import, map, fence, .. } = self;
        [("allocate", allocate), ("export", export), ("import", import), ("map", map), ("fence", fence)]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.0.iter().map(|row| row.kind.len()).max().unwrap_or_default().max("kind".len());
        writeln!(f, "{:wide$}  allocate  export  import  map  fence", "kind")?;
        for row in &self.0 {
            let Row { kind, allocate, export, import, map, .. } = row;
            let fence =
                if row.fence.works == Some(true) { row.fence.detail.as_str() } else { row.fence.word() };
            writeln!(
                f,
                "{kind:wide$}  {:8}  {:6}  {:6}  {:3}  {fence}",
                allocate.word(),
                export.word(),
                import.word(),
                map.word()
            )?;
        }
        for row in &self.0 {
            for (what, tried) in row.cells().into_iter().filter(|(_, tried)| tried.works == Some(false)) {
                writeln!(f, "{}, {what}: {}", row.kind, tried.detail)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(kind: &str, fence: Tried) -> Row {
        let yes = || Tried::yes("it works");
        Row { kind: kind.into(), allocate: yes(), export: yes(), import: yes(), map: yes(), fence }
    }

    /// As machines come: without devices, with those of a virtual machine, with a GPU's driver alone.
    #[test]
    fn machines_of_three_shapes() {
        let memfd = || whole("memfd", Tried::yes("board"));
        let bare = Table(vec![
            memfd(),
            Row::without_buffers("dma-heap", "there is no /dev/dma_heap"),
            Row::without_buffers("vulkan", "there is no Vulkan loader here"),
        ]);
        assert_eq!(
            bare.to_string(),
            "kind      allocate  export  import  map  fence\n\
             memfd     yes       yes     yes     yes  board\n\
             dma-heap  no        -       -       -    -\n\
             vulkan    no        -       -       -    -\n\
             dma-heap, allocate: there is no /dev/dma_heap\n\
             vulkan, allocate: there is no Vulkan loader here\n"
        );
        let deaf = Row { import: Tried::no("no permission"), ..whole("drm", Tried::yes("implicit")) };
        let devices = Table(vec![memfd(), whole("dma-heap", Tried::yes("implicit")), deaf]);
        assert_eq!(
            devices.to_string(),
            "kind      allocate  export  import  map  fence\n\
             memfd     yes       yes     yes     yes  board\n\
             dma-heap  yes       yes     yes     yes  implicit\n\
             drm       yes       yes     no      yes  implicit\n\
             drm, import: no permission\n"
        );
        let gpu = Table(vec![memfd(), whole("vulkan", Tried::no("publishing waits"))]);
        assert_eq!(
            gpu.to_string(),
            "kind    allocate  export  import  map  fence\n\
             memfd   yes       yes     yes     yes  board\n\
             vulkan  yes       yes     yes     yes  no\n\
             vulkan, fence: publishing waits\n"
        );
    }

    /// The real thing: whatever this machine is, host memory can do all of it.
    #[test]
    #[cfg(feature = "memfd")]
    fn host_memory_can_do_all_of_it() {
        let row = Row::of(&bips_memfd::Memfd::new());
        assert!(row.cells().iter().all(|(_, tried)| tried.works == Some(true)), "{row:?}");
        assert_eq!(row.fence.detail, "board");
    }
}
