//! Machines as tables: what each memory kind there showed, who wants buffers, and what comes of it.

use super::*;
use crate::backend::{BackendInfo, Capabilities, DeviceId};
use crate::testing::Simulated;
use crate::{Access, Content, DType, ExternalHandle, Memory};

/// A memory kind of which is known what its trial showed.
#[derive(Debug)]
struct Told {
    info: BackendInfo,
    can: Capabilities,
    /// Usages that it says it serves.
    serves: &'static str,
    /// Most bytes of a slot.
    largest: u64,
    /// What rows of images begin at multiples of, of a driver that lays them its own way.
    rows: u64,
    /// Why it isn't there at all.
    missing: Option<&'static str>,
    memory: Simulated,
}

fn told(kind: &str, serves: &'static str, fences: FenceKind) -> Told {
    let info = BackendInfo { kind: kind.into(), device: DeviceId::default(), description: kind.into() };
    let can = Capabilities {
        allocate: true,
        share: true,
        cpu_map: true,
        alignment: 4096,
        fences,
        ..Capabilities::default()
    };
    let largest = 1 << 40;
    Told { info, can, serves, largest, rows: 1, missing: None, memory: Simulated::new() }
}

impl Backend for Told {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        self.can
    }

    fn serves(&self, party: &Party) -> Result<Served> {
        let usage = party.usage().to_string();
        if self.serves.split(' ').any(|serves| serves == usage) {
            return Ok(Served::by("told"));
        }
        Err(Error::new(ErrorKind::Unsupported, format!("{} is not for {party}", self.info.kind)))
    }

    fn plan(&self, requirements: &Requirements) -> Result<Layout> {
        let no = |text: String| Error::new(ErrorKind::Unsupported, text);
        if let Some(missing) = self.missing {
            return Err(no(missing.into()));
        }
        let mut layout = Layout::in_pages(requirements);
        if layout.slot_bytes > self.largest {
            return Err(no(format!("a slot has at most {} bytes", self.largest)));
        }
        let row = layout.content.planes().first().map_or(0, |plane| plane.stride);
        if layout.content.fourcc().is_some() && !requirements.exact && !row.is_multiple_of(self.rows) {
            layout.content = layout.content.with_row_stride(row.next_multiple_of(self.rows))?;
            layout.slot_bytes = layout.content.nbytes().next_multiple_of(4096);
        }
        Ok(layout)
    }

    fn allocate(&self, layout: &Layout, slots: u32) -> Result<Vec<Allocation>> {
        self.memory.allocate(layout, slots)
    }

    fn import(&self, handle: ExternalHandle, access: Access) -> Result<Arc<dyn Memory>> {
        self.memory.import(handle, access)
    }
}

/// Devices of which is known which memory kinds they took in a trial.
#[derive(Debug)]
struct Devices {
    usage: Usage,
    /// Name of a device, a kind, and by what it took that; `far ` before it for memory it has to reach for.
    took: &'static [(&'static str, &'static str, &'static str)],
}

impl DeviceTrial for Devices {
    fn usage(&self) -> Usage {
        self.usage
    }

    fn overrules(&self) -> bool {
        self.usage == Usage::VULKAN
    }

    fn try_out(&self, party: &Party, memory: &BackendInfo, slot: &Allocation) -> Result<Served> {
        assert!(slot.len >= 4096, "there is something to try it with");
        let no = |text: String| Err(Error::new(ErrorKind::Unsupported, text));
        let device = party.device().unwrap_or(self.took[0].0);
        if !self.took.iter().any(|(name, ..)| *name == device) {
            return no(format!("there is no {party}"));
        }
        match self.took.iter().find(|(name, kind, _)| (*name, *kind) == (device, memory.kind.as_str())) {
            Some((.., by)) => {
                Ok(Served { by: by.trim_start_matches("far ").into(), far: by.starts_with("far ") })
            }
            None => no(format!("{party} took no {}", memory.kind)),
        }
    }
}

const DMA: &str = "cpu cpu-write camera vulkan display encoder";

/// A machine without devices.
fn bare() -> Registry {
    let none = |kind, why| Arc::new(Told { missing: Some(why), ..told(kind, DMA, FenceKind::Implicit) });
    Registry::new()
        .with(Arc::new(told("memfd", "cpu cpu-write", FenceKind::Board)))
        .with(none("dma-heap", "there is no /dev/dma_heap"))
        .with(none("udmabuf", "there is no /dev/udmabuf"))
        .with(Arc::new(Told { missing: Some("there is no Vulkan loader here"), ..vulkan() }))
}

fn vulkan() -> Told {
    Told { largest: 1 << 30, ..told("vulkan", "cpu cpu-write vulkan", FenceKind::Board) }
}

/// A virtual machine with a camera, a heap, udmabuf and a display, and no Vulkan driver.
fn devices() -> Registry {
    let heap = told("dma-heap", DMA, FenceKind::Implicit);
    let cma = Told {
        can: Capabilities { contiguous: true, ..heap.can },
        largest: 64 << 20,
        ..told("dma-heap:cma", DMA, FenceKind::Implicit)
    };
    let udmabuf = Told { largest: 64 << 20, ..told("udmabuf", DMA, FenceKind::Implicit) };
    Registry::new()
        .with(Arc::new(told("memfd", "cpu cpu-write", FenceKind::Board)))
        .with(Arc::new(heap))
        .with(Arc::new(cma))
        .with(Arc::new(udmabuf))
        .with(Arc::new(Told { rows: 256, ..told("drm", DMA, FenceKind::Implicit) }))
        .with(Arc::new(Told { missing: Some("there is no Vulkan driver"), ..vulkan() }))
        .with_trial(Arc::new(Devices {
            usage: Usage::CAMERA,
            took: &[
                ("/dev/video0", "dma-heap", "dma-buf"),
                ("/dev/video0", "dma-heap:cma", "dma-buf"),
                ("/dev/video0", "udmabuf", "dma-buf"),
                ("/dev/video0", "drm", "dma-buf"),
                ("/dev/video1", "dma-heap:cma", "dma-buf"),
                ("/dev/video9", "none", ""),
            ],
        }))
        .with_trial(Arc::new(Devices { usage: Usage::VULKAN, took: &[("none", "none", "")] }))
}

/// Vulkan, and nothing else: device 0 shares the machine's memory, device 1 has its own.
fn gpus() -> Registry {
    let registry = bare();
    let memfd = registry.get("memfd").unwrap();
    Registry::new().with(memfd).with(Arc::new(vulkan())).with_trial(Arc::new(Devices {
        usage: Usage::VULKAN,
        took: &[
            ("0", "memfd", "host memory"),
            ("0", "vulkan", "its own"),
            ("1", "memfd", "far host memory"),
            ("1", "vulkan", "its own"),
            ("2", "memfd", "far host memory"),
        ],
    }))
}

fn machine(name: &str) -> Registry {
    match name {
        "bare" => bare(),
        "devices" => devices(),
        "gpus" => gpus(),
        "nothing" => Registry::new(),
        other => panic!("no machine {other}"),
    }
}

/// `key=value` words: what is demanded of how it lies, and what it is.
fn constraints(words: &str) -> (Constraints, Content, bool) {
    let mut wanted = Constraints::default();
    let mut content = Content::tensor(DType::U8, &[1 << 20]).unwrap();
    let mut exact = false;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap();
        let number = || value.parse().unwrap();
        match key {
            "max" => wanted.max_bytes = number(),
            "align" => wanted.alignment = number(),
            "stride" => wanted.stride_alignment = number(),
            "contiguous" => wanted.contiguous = value == "yes",
            "modifier" => wanted.modifiers.push(number()),
            "bytes" => content = Content::bytes(number()).unwrap(),
            "width" => {
                content = Content::image(crate::Fourcc::parse("RGB3").unwrap(), number() as u32, 10).unwrap()
            }
            "exact" => exact = value == "yes",
            other => panic!("no word {other}"),
        }
    }
    (wanted, content, exact)
}

/// Machine, parties, demands; the kind and its fences, or what the refusal says.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str, &str)] = &[
    // The CPU alone.
    ("bare", "cpu", "", "memfd board"),
    ("bare", "cpu-write", "", "memfd board"),
    ("bare", "cpu,cpu,cpu-write", "", "memfd board"),
    ("devices", "cpu", "", "memfd board"),
    ("gpus", "cpu", "", "memfd board"),
    ("nothing", "cpu", "", "no: knows no memory kind"),
    // Devices that aren't there.
    ("bare", "camera", "", "no: memfd is not for camera; dma-heap: there is no /dev/dma_heap"),
    ("bare", "camera:/dev/video0", "", "no: memfd is not for camera:/dev/video0"),
    ("bare", "vulkan:0", "", "no: there is no Vulkan loader here"),
    ("bare", "cpu,vulkan", "", "no: usage cpu, vulkan"),
    ("bare", "cuda:0", "", "no: memfd is not for cuda:0; dma-heap: dma-heap is not for cuda:0"),
    ("bare", "display", "", "no: udmabuf: there is no /dev/udmabuf"),
    ("bare", "encoder", "", "no: dma-heap: there is no /dev/dma_heap"),
    ("gpus", "camera:/dev/video0", "", "no: vulkan is not for camera:/dev/video0"),
    ("gpus", "vulkan:7", "", "no: there is no vulkan:7"),
    ("devices", "camera:/dev/video7", "", "no: there is no camera:/dev/video7"),
    ("devices", "vulkan:0", "", "no: there is no vulkan:0"),
    // Cameras, displays, encoders.
    ("devices", "camera", "", "dma-heap implicit"),
    ("devices", "camera:/dev/video0", "", "dma-heap implicit"),
    ("devices", "cpu,camera:/dev/video0", "", "dma-heap implicit"),
    ("devices", "cpu-write,camera:/dev/video0", "", "dma-heap implicit"),
    ("devices", "camera:/dev/video0,display,encoder", "", "dma-heap implicit"),
    ("devices", "camera:/dev/video1", "", "dma-heap:cma implicit"),
    ("devices", "camera:/dev/video0,camera:/dev/video1", "", "dma-heap:cma implicit"),
    ("devices", "camera:/dev/video9", "", "no: memfd is not for camera:/dev/video9; dma-heap: camera:/dev/video9 took no dma-heap"),
    ("devices", "camera:/dev/video0,camera:/dev/video9", "", "no: camera:/dev/video9 took no dma-heap"),
    ("devices", "camera:/dev/video0,cuda:0", "", "no: dma-heap is not for cuda:0"),
    ("devices", "camera:/dev/video0,vulkan:0", "", "no: there is no vulkan:0"),
    ("devices", "display", "", "dma-heap implicit"),
    ("devices", "encoder,cpu", "", "dma-heap implicit"),
    // GPUs: memory they have to reach for comes last.
    ("gpus", "vulkan:0", "", "memfd board"),
    ("gpus", "vulkan", "", "memfd board"),
    ("gpus", "cpu,vulkan:0", "", "memfd board"),
    ("gpus", "vulkan:1", "", "vulkan board"),
    ("gpus", "cpu,vulkan:1", "", "vulkan board"),
    ("gpus", "vulkan:0,vulkan:1", "", "vulkan board"),
    ("gpus", "vulkan:2", "", "memfd board"),
    ("gpus", "vulkan:1,vulkan:2", "", "memfd board"),
    ("gpus", "vulkan:1,display", "", "no: memfd is not for display; vulkan: vulkan is not for display"),
    // Demands.
    ("bare", "cpu", "align=64", "memfd board"),
    ("bare", "cpu", "align=4096", "memfd board"),
    ("bare", "cpu", "align=8192", "no: slots begin at multiples of 4096 bytes"),
    ("bare", "cpu", "max=1048576", "memfd board"),
    ("bare", "cpu", "max=1048575", "no: takes 1048576 bytes, and at most 1048575 are wanted"),
    ("bare", "cpu", "contiguous=yes", "no: memfd: its pages lie anywhere"),
    ("bare", "cpu", "modifier=0", "memfd board"),
    ("bare", "cpu", "modifier=7 modifier=9", "no: 0x0 (linear), where 0x7 or 0x9 is wanted"),
    ("bare", "cpu", "modifier=7 modifier=0", "memfd board"),
    ("bare", "cpu", "width=100 stride=64", "memfd board stride 320"),
    ("bare", "cpu", "width=100 stride=64 exact=yes", "no: rows lie 300 bytes apart, where a multiple of 64 is wanted"),
    ("bare", "cpu", "width=64 stride=64 exact=yes", "memfd board stride 192"),
    ("bare", "cpu", "bytes=1000 stride=64", "memfd board"),
    ("devices", "camera:/dev/video0", "contiguous=yes", "dma-heap:cma implicit"),
    ("devices", "camera:/dev/video0", "contiguous=yes bytes=100000000", "no: dma-heap:cma: a slot has at most 67108864 bytes"),
    ("devices", "cpu,display", "width=100 stride=256", "dma-heap implicit stride 512"),
    ("devices", "camera:/dev/video0", "bytes=100000000", "dma-heap implicit"),
    ("gpus", "vulkan:1", "bytes=2000000000", "memfd board"),
    ("gpus", "vulkan:1,vulkan:0", "bytes=2000000000", "memfd board"),
    ("gpus", "vulkan:0", "contiguous=yes", "no: vulkan: its pages lie anywhere"),
];

#[test]
fn every_machine_gives_what_it_has_and_says_what_it_lacks() {
    assert!(TABLE.len() >= 40);
    for (name, parties, demands, expected) in TABLE {
        let (constraints, content, exact) = constraints(demands);
        let parties = Party::parse_list(parties).unwrap();
        let wanted =
            Requirements { usage: Usage::empty(), parties, constraints, exact, ..Requirements::of(content) };
        let row = format!("{name}: {} {demands}", listed(&wanted.parties));
        let found = machine(name).plan("auto", &wanted);
        match expected.strip_prefix("no: ") {
            Some(says) => {
                let error = found.map(|planned| planned.backend.info().kind.clone()).expect_err(&row);
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{row}");
                assert!(error.to_string().contains(says), "{row}: {error}");
            }
            None => {
                let planned = found.unwrap_or_else(|error| panic!("{row}: {error}"));
                let mut is = format!("{} {}", planned.backend.info().kind, planned.fences());
                if expected.contains("stride") {
                    is += &format!(" stride {}", planned.layout.content.planes()[0].stride);
                }
                assert_eq!(&is, expected, "{row}");
                assert_eq!(planned.uses.len(), wanted.parties.len(), "{row}: everybody is served");
                let writable = wanted.parties.iter().any(|party| party.usage() == Usage::CPU_WRITE);
                assert_eq!(planned.layout.writable, writable, "{row}");
            }
        }
    }
}

#[test]
fn a_kind_that_is_named_speaks_for_itself() {
    let wanted = |party: &str| Requirements {
        usage: Usage::empty(),
        parties: vec![party.parse().unwrap()],
        ..Requirements::of(Content::bytes(100).unwrap())
    };
    let error = bare().plan("memfd", &wanted("display")).unwrap_err();
    assert_eq!(error.to_string(), "memfd is not for display");
    let error = gpus().plan("vulkan", &wanted("vulkan:2")).unwrap_err();
    assert_eq!(error.to_string(), "vulkan:2 took no vulkan");
    assert_eq!(gpus().plan("memfd", &wanted("vulkan:1")).unwrap().uses[0].1.by, "host memory");
    let error = bare().plan("nvmm", &wanted("cpu")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_survey_tells_all_of_it() {
    let parties = Party::parse_list("cpu,vulkan:1").unwrap();
    let wanted =
        Requirements { usage: Usage::empty(), parties, ..Requirements::of(Content::bytes(100).unwrap()) };
    let said = gpus().survey(&wanted).to_string();
    assert_eq!(
        said,
        "vulkan: slots of 4096 bytes, fences: board\n  cpu: told\n  vulkan:1: its own\n\
         or memfd: serves too, and comes after it\n"
    );
    let said = bare().survey(&wanted).to_string();
    assert!(said.starts_with("no memory serves all of it\nnot memfd: memfd is not for vulkan:1\n"), "{said}");
    assert_eq!(said.lines().count(), 5, "{said}");
}
