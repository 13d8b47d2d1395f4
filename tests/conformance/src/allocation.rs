//! Planning and allocating, in one process.

use crate::{Subject, plan, requirements};
use bips::{
    Access, Allocation, Content, ErrorKind, ExternalHandle, FenceKind, Fourcc, Party, Requirements, Usage,
};
use std::fs;
use std::time::Duration;

/// The first bytes of a slot, to write and read. Panics outside the slot.
pub(crate) fn poke(slot: &Allocation, at: u64, value: u8) {
    assert!(at < slot.len, "inside the slot");
    let start = slot.memory.map(Access::Write).expect("an own slot can be mapped for writing").start;
    let byte = start.map_addr(|addr| addr.saturating_add((slot.offset + at) as usize));
    announced(slot, Access::Write, || {
        // SAFETY: `at` is inside the slot, and the slot inside the mapping (checked by the case that allocated it).
        unsafe { byte.write_volatile(value) };
    });
}

/// One byte of a slot.
pub(crate) fn peek(slot: &Allocation, at: u64) -> u8 {
    assert!(at < slot.len, "inside the slot");
    let start = slot.memory.map(Access::Read).expect("a slot can be mapped for reading").start;
    let byte = start.map_addr(|addr| addr.saturating_add((slot.offset + at) as usize));
    announced(slot, Access::Read, || {
        // SAFETY: as in `poke`.
        unsafe { byte.read_volatile() }
    })
}

/// Tells the memory before and after, if it must be told.
fn announced<T>(slot: &Allocation, access: Access, touch: impl FnOnce() -> T) -> T {
    let Some(cpu) = slot.memory.cpu_access() else { return touch() };
    cpu.begin(slot.offset, access, Some(Duration::from_secs(20))).expect("no device uses the slot");
    let touched = touch();
    cpu.end(slot.offset, access).expect("what was begun can end");
    touched
}

/// A kind that fits the wire and a description for people.
pub fn introduces_itself(backend: Subject) {
    let info = backend.info();
    assert!((1..=32).contains(&info.kind.len()), "{:?} is 1 to 32 characters", info.kind);
    assert!(info.kind.chars().all(|c| c.is_ascii_graphic()), "{:?} is printable", info.kind);
    assert!(!info.description.is_empty());
}

/// The same answer twice, and one that agrees with what then happens.
pub fn capabilities_come_from_trials(backend: Subject) {
    let can = backend.capabilities();
    assert_eq!(can, backend.capabilities());
    if let Ok(slot) = Allocation::for_trial(&*backend, 4096) {
        let handle = slot.memory.export_to_device(slot.offset).expect("a slot that was made has a handle");
        let dma_buf = matches!(handle.0, ExternalHandle::DmaBuf { .. });
        assert_eq!(
            can.fences == FenceKind::Implicit,
            dma_buf,
            "dma-bufs carry fences, and nothing else does"
        );
    }
    let allocated = backend.allocate(&plan(&backend, 4096, false), 1);
    assert_eq!(can.allocate, allocated.is_ok(), "{allocated:?}");
    if let (true, Ok(slots)) = (can.share, allocated) {
        slots[0].memory.export().expect("can share");
    }
}

/// Slots hold their content and end on a page.
pub fn plans_whole_pages(backend: Subject) {
    for bytes in [0, 1, 4095, 4096, 4097, 640 * 480 * 3, 1920 * 1080 * 3] {
        let layout = plan(&backend, bytes, false);
        assert!(layout.slot_bytes >= bytes.max(1), "{bytes}");
        assert_eq!(layout.slot_bytes % 4096, 0, "{bytes}");
        assert_eq!(layout.content.nbytes(), bytes);
        assert!(!layout.writable);
    }
    assert!(plan(&backend, 100, true).writable);
}

/// What a device writes its own way stays where the device puts it.
pub fn keeps_what_must_be_exact(backend: Subject) {
    let image = |code, width, planes: &[(u64, u64)], nbytes| {
        let code = Fourcc::parse(code).expect("a format");
        Content::image_in_planes(code, width, 48, planes, nbytes).expect("planes apart")
    };
    for content in [
        image("RGB3", 65, &[(0, 195)], 195 * 48),
        image("NV12", 66, &[(0, 70), (4096, 66)], 4096 + 66 * 24 + 5),
        image("YU12", 66, &[(0, 70), (4096, 35), (8192, 35)], 10_000),
    ] {
        let wanted = Requirements { exact: true, ..requirements(content, 2, false) };
        let layout = backend.plan(&wanted).expect("it is so many bytes");
        assert_eq!(layout.content, content);
        let slots = backend.allocate(&layout, 2).expect("what was planned can be had");
        assert!(slots.iter().all(|slot| slot.len >= content.nbytes()), "{content:?}");
    }
}

/// Usage it can't serve is refused with a reason, never accepted in silence.
pub fn plan_says_why_not(backend: Subject) {
    for party in
        ["cpu", "cpu-write", "camera", "camera:/dev/video0", "cuda:0", "vulkan", "display", "encoder"]
    {
        let party: Party = party.parse().expect("a word");
        match backend.serves(&party) {
            Ok(service) => assert!(!service.by.is_empty(), "{party}"),
            Err(_) if party.usage() == Usage::CPU => panic!("every pool is mapped for the CPU"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.message().len() > 20, "{error} is a reason");
            }
        }
    }
}

/// Slots don't overlap, are zero, page-aligned, and keep what is written to each.
pub fn allocates_distinct_zeroed_slots(backend: Subject) {
    let layout = plan(&backend, 10_000, false);
    let slots = backend.allocate(&layout, 4).expect("a small pool");
    assert_eq!(slots.len(), 4);
    for slot in &slots {
        assert_eq!(slot.len, layout.slot_bytes);
        let mapped = slot.memory.map(Access::Write).expect("own memory");
        assert!(slot.offset + slot.len <= mapped.len as u64);
        assert_eq!((mapped.start.addr().get() as u64 + slot.offset) % 4096, 0);
        assert!((0..slot.len).step_by(509).all(|at| peek(slot, at) == 0));
    }
    for (i, slot) in slots.iter().enumerate() {
        for at in [0, 1, 4095, slot.len - 1] {
            poke(slot, at, i as u8 + 1);
        }
    }
    for (i, slot) in slots.iter().enumerate() {
        assert!([0, 1, 4095, slot.len - 1].iter().all(|at| peek(slot, *at) == i as u8 + 1), "slot {i}");
    }
}

/// The smallest and the largest number of slots.
pub fn allocates_one_and_many(backend: Subject) {
    for slots in [1, 64] {
        assert_eq!(
            backend.allocate(&plan(&backend, 100, false), slots).expect("small slots").len(),
            slots as usize
        );
    }
}

/// A pool no machine has is refused, at the plan or at the allocation; nobody is killed for it.
pub fn too_much_memory_is_an_error(backend: Subject) {
    let huge = requirements(Content::bytes(1 << 50).expect("less than 2^62"), 4, false);
    let error = backend.plan(&huge).and_then(|layout| backend.allocate(&layout, 4)).expect_err("a petabyte");
    assert!(matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::Unsupported), "{error}");
}

/// No descriptor and no mapping outlives its pool.
pub fn leaves_nothing_behind(backend: Subject) {
    let layout = plan(&backend, 3 << 20, false);
    // In a child: other tests open files of their own meanwhile.
    crate::alone(|| {
        drop(backend.allocate(&layout, 3)); // what libraries open once
        let before = (count("/proc/self/fd"), mapped_pools());
        for _ in 0..5 {
            drop(backend.allocate(&layout, 3).expect("a small pool"));
        }
        assert_eq!((count("/proc/self/fd"), mapped_pools()), before);
    });
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn mapped_pools() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("proc is mounted");
    maps.lines().filter(|line| line.contains("bips:") || line.contains("dmabuf")).count()
}
