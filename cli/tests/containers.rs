//! A camera in one container, a detector in another: they share one directory, and the devices are the camera's alone.

mod common;

#[path = "../../camera/tests/common/mod.rs"]
mod camera;

use camera::{SIZE, assert_bars, code, skip, streaming};
use common::{House, Running};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names an interpreter with bips and PyTorch.
const PYTHON: &str = "BIPS_TEST_PYTHON";
const FRAMES: u64 = 300;
/// PyTorch takes its time to load where the processor is emulated.
const LONG: Duration = Duration::from_secs(300);

/// A container with this machine's files, processes and users of its own, and the devices it is given.
fn container(house: &House, devices: &[&str], writes: bool) -> Command {
    let mut bwrap = Command::new("bwrap");
    bwrap.args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--die-with-parent"]);
    bwrap.args(["--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"]);
    for device in devices {
        bwrap.args(["--dev-bind", device, device]);
    }
    bwrap.arg(if writes { "--bind" } else { "--ro-bind" }).arg(house.path()).arg(house.path());
    bwrap.env("BIPS_DIR", house.path());
    bwrap.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bwrap
}

/// The dma-bufs that processes of this program have open, by their inodes.
fn dma_bufs_of(program: &str) -> BTreeSet<u64> {
    let mut inodes = BTreeSet::new();
    let processes = fs::read_dir("/proc").expect("procfs").flatten();
    for process in processes.filter(|it| it.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        let is_it = fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim() == program);
        let open = if is_it { fs::read_dir(process.path().join("fd")).ok() } else { None };
        for fd in open.into_iter().flatten().flatten() {
            let is_dma_buf =
                fs::read_link(fd.path()).is_ok_and(|link| link.to_string_lossy().starts_with("/dmabuf:"));
            if is_dma_buf && let Ok(known) = fs::metadata(fd.path()) {
                inodes.insert(known.ino());
            }
        }
    }
    inodes
}

fn heap_is_here() -> bool {
    let heap = bips_backends::registry().get("dma-heap").expect("in the bundle");
    let content = bips::Content::bytes(4096).unwrap();
    let wanted = bips::Requirements { slots: 1, ..bips::Requirements::of(content) };
    heap.plan(&wanted).map_err(|error| skip::without("dma-heap", error)).is_ok()
}

/// The broker alone has the devices: a producer and a consumer, each in a container without them, share what it makes.
#[test]
fn containers_without_device_nodes_share_a_brokers_dma_bufs() {
    if !heap_is_here() {
        return;
    }
    if Command::new("bwrap").arg("--version").output().is_err() {
        return skip::without("dma-heap", "there is no bwrap: apt-get install bubblewrap");
    }
    let house = House::new();
    let looks = container(&house, &[], false).args(["ls", "/dev/dma_heap", "/dev/udmabuf"]).output().unwrap();
    assert!(!looks.status.success() && looks.stdout.is_empty(), "it has devices: {looks:?}");
    let bips = |arguments: &str| {
        let mut command = container(&house, &[], true);
        command.arg(env!("CARGO_BIN_EXE_bips")).args(arguments.split(' '));
        command
    };
    Running::new(&mut bips("produce cam --size 64x48 --count 1 --memory dma-heap"))
        .end()
        .expect_failure(1, "bips broker");
    let broker = house.start("broker");
    let produce = "produce cam --size 64x48 --count 30 --consumers 1 --memory broker:dma-heap --json";
    // Until the broker answers it is refused.
    let until = Instant::now() + LONG;
    while house.run("doctor --require broker").code != Some(0) {
        assert!(Instant::now() < until, "the broker does not answer");
    }
    let producer = Running::new(&mut bips(produce));
    let consumer = Running::new(&mut bips("consume cam --count 30 --verify --wait 60 --json"));
    let seen = consumer.end_within(LONG).expect_code(0).json();
    let summary = producer.end_within(LONG).expect_code(0).json();
    assert_eq!(seen["frames"].as_u64(), Some(30), "{seen}");
    assert_eq!(summary["memory"], "dma-heap");
    broker.signal(nix::sys::signal::Signal::SIGTERM);
    broker.end().expect_code(0);
    println!("30 frames through two containers without devices");
}

#[test]
fn a_camera_and_a_detector_share_dma_bufs() {
    let Some(vivid) = streaming() else { return };
    let in_pieces = vivid.open().set_mode(code("RGB3"), Some(SIZE)).is_ok_and(|mode| mode.planes.len() != 1);
    if in_pieces {
        return skip::without("camera", "this camera's frames lie in several pieces");
    }
    if !heap_is_here() {
        return;
    }
    let Some(python) = std::env::var_os(PYTHON) else {
        return skip::without("torch", format_args!("{PYTHON} names no interpreter with bips and PyTorch"));
    };
    if Command::new("bwrap").arg("--version").output().is_err() {
        return skip::without("torch", "there is no bwrap: apt-get install bubblewrap");
    }
    let house = House::new();
    fs::set_permissions(house.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let expected = vivid.read(code("RGB3"), SIZE);
    assert_bars(&expected, SIZE, "what read(2) gives");
    let picture = house.path().join("picture");
    fs::write(&picture, &expected).unwrap();

    let camera = vivid.path.to_str().expect("a node's name");
    let mut capture = container(&house, &[camera, "/dev/dma_heap"], true);
    capture.arg(env!("CARGO_BIN_EXE_bips")).args(["capture", camera, "cam", "--memory", "dma-heap"]);
    capture.args([
        "--format",
        "RGB3",
        "--size",
        &format!("{}x{}", SIZE.0, SIZE.1),
        "--count",
        &FRAMES.to_string(),
    ]);
    capture.args(["--consumers", "1", "--json"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/detector.py");
    let mut detector = container(&house, &[], false);
    detector.arg(python).arg(script).args(["cam", &FRAMES.to_string()]).arg(&picture);

    let capture = Running::new(&mut capture);
    let detector = Running::new(&mut detector);
    house.wait_for_within(LONG, "cam", |info| info.published > 0);
    let shared = dma_bufs_of("bips");
    let seen: Value = detector.end_within(LONG).expect_code(0).json();
    let summary = capture.end().expect_code(0).json();
    assert!(!shared.is_empty(), "the camera's pool is made of dma-bufs");
    let theirs: BTreeSet<u64> =
        seen["inodes"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
    assert!(!theirs.is_empty() && theirs.is_subset(&shared), "{theirs:?} of {shared:?}");
    assert_eq!(seen["frames"].as_u64(), Some(FRAMES));
    assert_eq!(summary["frames"].as_u64(), Some(FRAMES));
    for (what, right) in [
        ("wrong", "[]"),
        ("elsewhere", "0"),
        ("gaps", "0"),
        ("copied", "0"),
        ("readonly", "true"),
        ("kinds", r#"["dma-heap"]"#),
        ("devices", "[]"),
    ] {
        assert_eq!(seen[what].to_string(), right, "{what}");
    }
    println!("{FRAMES} frames of {} bytes in {} dma-bufs, 0 copied", expected.len(), theirs.len());
}
