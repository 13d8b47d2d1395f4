//! Memory from a broker: for a process that may not open the devices, and whatever becomes of the broker.

use crate::{SOON, Scratch, are_here, in_role};
use bips::{
    AccessRule, Backend, Consumer, Content, Description, ErrorKind, Fence, Line, Policy, Producer, Registry,
    Requirements,
};
use bips_dma_buf::broker::{Broker, Brokered, Devices, Limits, OnServed};
use bips_dma_buf::{DmaHeap, Udmabuf};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Which memory a producer asks for.
const MEMORY: &str = "BIPS_DEVICES_MEMORY";
const FRAMES: u8 = 40;
const NOBODY: u32 = 65_534;

/// What a machine without devices has: the broker, and kinds that consumers need.
fn registry(directory: &Path) -> Registry {
    Registry::new()
        .with(Arc::new(DmaHeap::new()))
        .with(Arc::new(Udmabuf::new()))
        .with(Arc::new(Brokered::new(Some(directory))))
}

fn open(directory: &Path) -> Broker {
    let limits = Limits { client_bytes: 64 << 20, total_bytes: 128 << 20, ..Limits::default() };
    Broker::open(Some(directory), AccessRule::Directory, limits, Box::new(Devices)).unwrap()
}

/// Serves until it is killed.
pub(crate) fn serve(directory: &Path) {
    let broker = open(directory);
    println!("serves {}", broker.kinds().join(" "));
    let told: Arc<OnServed> = Arc::new(|served| println!("{served:?}"));
    loop {
        broker.serve(Duration::from_secs(1), &told).unwrap();
    }
}

/// Publishes in brokered memory, as a process that has none itself.
pub(crate) fn produce(directory: &Path) {
    let memory = std::env::var(MEMORY).unwrap();
    let own = memory.strip_prefix("broker:").unwrap_or("dma-heap");
    let plain = Producer::builder("own").registry(registry(directory)).memory(own).bytes(10_000);
    let error = plain.directory(directory).create().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::AccessDenied), "{error}");
    assert!(error.to_string().contains("bips broker"), "{error}");
    let builder = Producer::builder("device").registry(registry(directory)).directory(directory);
    let producer = builder.memory(memory).bytes(10_000).slots(4).create().unwrap();
    println!("produces in {}", producer.backend().kind);
    producer.wait_for_consumers(1, SOON).unwrap();
    for number in 0..FRAMES {
        let mut frame = producer.acquire(SOON).unwrap();
        frame.bytes_mut().fill(number);
        let slot = frame.fd().unwrap();
        assert!(bips_dma_buf::DmaBuf::new(slot.0).is_ok(), "a device could use it");
        frame.publish(Description::new(), Fence::Signaled).unwrap();
    }
    println!("published");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line); // until the test has read all
}

/// Asks for memory without end, until it is killed.
pub(crate) fn ask(directory: &Path) {
    let heap = Brokered::new(Some(directory)).with_source("dma-heap").unwrap();
    let content = Content::bytes(1 << 20).unwrap();
    let wanted = Requirements::of(content);
    println!("asks");
    loop {
        let layout = heap.plan(&wanted).unwrap();
        heap.allocate(&layout, 4).unwrap();
    }
}

fn start(mut command: Command, begins: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(begins) {
        line.clear();
        let read = lines.read_line(&mut line).unwrap();
        assert!(read > 0, "it ended before it said {begins:?}: {:?}", child.wait());
    }
    (child, lines)
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o1777)).unwrap();
    scratch
}

fn consumer(scratch: &Scratch) -> Consumer {
    let builder = Consumer::builder("device").registry(registry(&scratch.0)).directory(&scratch.0);
    builder.policy(Policy::Reliable).wait(SOON).connect().unwrap()
}

fn check(consumer: &mut Consumer, numbers: std::ops::Range<u8>) {
    for number in numbers {
        let frame = consumer.receive(SOON).unwrap_or_else(|error| panic!("{}", consumer.explain(error)));
        let mut bytes = vec![0; 10_000];
        frame.copy_to(0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == number), "frame {number}");
    }
}

/// The stream of a producer that `hide` keeps from the devices; the broker is killed in its midst.
fn goes_on_without_a_broker(memory: &str, kind: &str, hide: impl Fn(&mut Command)) {
    let scratch = scratch();
    let (mut broker, _log) = start(in_role("serve", &scratch.0), "serves dma-heap");
    let mut command = in_role("produce", &scratch.0);
    command.env(MEMORY, memory);
    hide(&mut command);
    let (mut producer, _said) = start(command, "produces in");
    let mut consumer = consumer(&scratch);
    assert_eq!(consumer.backend().kind, kind);
    check(&mut consumer, 0..10);
    broker.kill().unwrap();
    broker.wait().unwrap();
    check(&mut consumer, 10..FRAMES);
    drop(producer.stdin.take());
    assert!(producer.wait().unwrap().success());
    // Its name is free for the next.
    let (mut broker, _log) = start(in_role("serve", &scratch.0), "serves dma-heap");
    broker.kill().unwrap();
    broker.wait().unwrap();
}

#[test]
fn another_user_gets_a_heaps_memory() {
    if !are_here(&["dma-heap", "udmabuf"]) {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return bips_conformance::left_out(&["dma-buf"], "only root can be somebody else");
    }
    for (memory, kind) in
        [("broker:dma-heap", "dma-heap"), ("broker:dma-heap:system", "dma-heap:system"), ("auto", "broker")]
    {
        goes_on_without_a_broker(memory, kind, |command| {
            command.uid(NOBODY).gid(NOBODY);
        });
    }
}

/// As in a container that was given no device: its `/dev` has none.
#[test]
fn a_process_without_device_nodes_gets_a_udmabuf() {
    if !are_here(&["dma-heap", "udmabuf"]) {
        return;
    }
    let unshare = Command::new("unshare").args(["-m", "true"]).status();
    if !unshare.is_ok_and(|status| status.success()) {
        return bips_conformance::left_out(&["dma-buf"], "only root can hide devices, with unshare(1)");
    }
    for memory in ["broker:udmabuf", "broker:dma-heap"] {
        goes_on_without_a_broker(memory, memory.trim_start_matches("broker:"), |command| {
            let hide = "mount -t tmpfs none /dev && ! ls /dev/udmabuf /dev/dma_heap 2>/dev/null && exec \"$0\" \"$@\"";
            let program = std::env::current_exe().unwrap();
            let mut hidden = Command::new("unshare");
            hidden.args(["-m", "sh", "-c", hide]).arg(program).args(command.get_args());
            hidden.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            *command = hidden;
            command.stdout(Stdio::piped());
        });
    }
}

/// A broker in this process.
struct Serving {
    broker: Arc<Broker>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    fn new(scratch: &Scratch) -> Self {
        let (broker, over) = (Arc::new(open(&scratch.0)), Arc::new(AtomicBool::new(false)));
        let (serves, ends) = (broker.clone(), over.clone());
        let told: Arc<OnServed> = Arc::new(|_| {});
        let thread = std::thread::spawn(move || {
            while !ends.load(Relaxed) {
                serves.serve(Duration::from_millis(20), &told).unwrap();
            }
        });
        Self { broker, over, thread: Some(thread) }
    }

    #[track_caller]
    fn until_in_use(&self, expected: (u64, usize)) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.broker.in_use().unwrap() != expected {
            assert!(Instant::now() < until, "{:?} and not {expected:?}", self.broker.in_use());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is in use is what some process still has: a pool's producer, its consumers, then nobody.
#[test]
fn the_broker_knows_what_is_in_use_and_keeps_none_of_it() {
    if !are_here(&["dma-heap", "udmabuf"]) {
        return;
    }
    let scratch = scratch();
    let serving = Serving::new(&scratch);
    for (memory, outlives) in [("broker:dma-heap", true), ("broker:udmabuf", false)] {
        let builder = Producer::builder("device").registry(registry(&scratch.0)).directory(&scratch.0);
        let producer = builder.memory(memory).bytes(10_000).slots(4).create().unwrap();
        serving.until_in_use((4 * 12_288, 4));
        let consumer = consumer(&scratch);
        drop(producer);
        // A udmabuf's consumers have the memfd below it.
        serving.until_in_use(if outlives { (4 * 12_288, 4) } else { (0, 0) });
        drop(consumer);
        serving.until_in_use((0, 0));
    }
    let builder = Producer::builder("device").registry(registry(&scratch.0)).directory(&scratch.0);
    let error = builder.memory("broker:dma-heap").bytes(32 << 20).slots(4).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("of 64 that one may have"), "{error}");
}

#[test]
fn a_client_killed_in_the_midst_of_a_request_costs_nothing() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let scratch = scratch();
    let serving = Serving::new(&scratch);
    for round in 0..8u64 {
        let (mut client, _said) = start(in_role("ask", &scratch.0), "asks");
        std::thread::sleep(Duration::from_millis(7 * round)); // anywhere in its loop
        client.kill().unwrap();
        client.wait().unwrap();
    }
    serving.until_in_use((0, 0));
    // Nor does one that never takes what it was given, once it ends; until then it counts.
    let line = Line::call(Some(&scratch.0), "broker").unwrap().unwrap();
    let request =
        [&b"bipsbrk1"[..], &2u32.to_le_bytes(), &3u32.to_le_bytes(), &8192u64.to_le_bytes()].concat();
    line.send(&request, &[]).unwrap();
    serving.until_in_use((3 * 8192, 3));
    drop(line);
    serving.until_in_use((0, 0));
}
