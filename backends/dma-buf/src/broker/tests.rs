//! A broker and its clients over real sockets, with memfds and eventfds for buffers: what needs no device.

#[path = "../../tests/hung/mod.rs"]
mod hung;

use super::message::{Answer, Request};
use super::{Broker, Brokered, Limits, OnServed, SERVICE, Source};
use bips::sys::{PAGE, Segment, Sharing};
use bips::{AccessRule, Backend, Content, Error, ErrorKind, Line, Requirements, Result};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::eventfd::EventFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Gives eventfds: files that can be polled, and aren't dma-bufs.
#[derive(Debug)]
struct Fake(Vec<String>);

impl Source for Fake {
    fn kinds(&self) -> Vec<String> {
        self.0.clone()
    }

    fn of_heap(&self, heap: Option<&str>, slots: u32, _: u64) -> Result<Vec<OwnedFd>> {
        if heap == Some("broken") {
            return Err(Error::new(ErrorKind::OutOfMemory, "this heap has nothing left"));
        }
        Ok((0..slots).map(|_| EventFd::new().unwrap().into()).collect())
    }

    fn cover(&self, _: BorrowedFd<'_>, slots: u32, _: u64) -> Result<Vec<OwnedFd>> {
        self.of_heap(None, slots, 0)
    }
}

/// A broker that serves in a thread, in a directory of its own.
struct Serving {
    dir: PathBuf,
    broker: Arc<Broker>,
    over: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    fn new(limits: Limits) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        let dir = std::env::temp_dir().join(format!("bips-broker-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let kinds = vec!["dma-heap".into(), "dma-heap:system".into()];
        let broker = Broker::open(Some(&dir), AccessRule::Owner, limits, Box::new(Fake(kinds))).unwrap();
        let (broker, over, told) = (Arc::new(broker), Arc::new(AtomicBool::new(false)), Arc::default());
        let (serves, ends, list) = (broker.clone(), over.clone(), Arc::<Mutex<Vec<String>>>::clone(&told));
        let on_served: Arc<OnServed> = Arc::new(move |served: &super::Served| {
            let outcome = served.outcome.as_ref().map_or_else(ToString::to_string, Clone::clone);
            list.lock().unwrap().push(format!("{}: {outcome}", served.pid));
        });
        let thread = std::thread::spawn(move || {
            while !ends.load(Relaxed) {
                serves.serve(Duration::from_millis(20), &on_served).unwrap();
            }
        });
        Self { dir, broker, over, told, thread: Some(thread) }
    }

    fn line(&self) -> Line {
        Line::call(Some(&self.dir), SERVICE).unwrap().expect("it serves")
    }

    /// One request on a connection of its own.
    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> (Answer, Vec<OwnedFd>) {
        self.say(&request.encode(), fds)
    }

    fn say(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> (Answer, Vec<OwnedFd>) {
        let line = self.line();
        line.send(bytes, fds).unwrap();
        let (message, fds) = line.receive(PATIENCE).unwrap();
        (Answer::decode(&message).unwrap(), fds)
    }

    fn refusal(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> (ErrorKind, String) {
        match self.ask(request, fds) {
            (Answer::Refused(kind, text), fds) if fds.is_empty() => (kind, text),
            other => panic!("{other:?}"),
        }
    }

    fn client(&self, source: &str) -> Arc<dyn Backend> {
        Brokered::new(Some(&self.dir)).with_source(source).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn heap(slots: u32, slot_bytes: u64) -> Request {
    Request::Heap { name: None, slots, slot_bytes }
}

fn requirements() -> Requirements {
    Requirements { slots: 2, ..Requirements::of(Content::bytes(100).unwrap()) }
}

#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn gives_what_was_asked_for_and_keeps_nothing() {
    let serving = Serving::new(Limits::default());
    let (answer, given) = serving.ask(&heap(3, 8192), &[]);
    assert_eq!((answer, given.len()), (Answer::Buffers(3), 3));
    assert_eq!(serving.broker.in_use().unwrap(), (3 * 8192, 3));
    eventually("a line in the log", || {
        let me = format!("{}: 3 x 8192 bytes of dma-heap", std::process::id());
        *serving.told.lock().unwrap() == [me]
    });
    drop(given);
    eventually("nobody has them", || serving.broker.in_use().unwrap() == (0, 0));
    let (kinds, none) = serving.ask(&Request::Ask, &[]);
    assert_eq!(kinds, Answer::Kinds(vec!["dma-heap".into(), "dma-heap:system".into()]));
    assert!(none.is_empty());
}

#[test]
fn no_more_than_the_limits() {
    let limits = Limits { client_bytes: 16 * PAGE, total_bytes: 64 * PAGE, buffers: 4, clients: 2 };
    let serving = Serving::new(limits);
    let (kind, text) = serving.refusal(&heap(17, PAGE), &[]);
    assert_eq!(kind, ErrorKind::OutOfMemory);
    assert!(text.contains("--client-mib"), "{text}");
    let (_, given) = serving.ask(&heap(4, PAGE), &[]);
    assert!(serving.refusal(&heap(1, PAGE), &[]).1.contains("--buffers"));
    assert!(serving.refusal(&heap(1, 1 << 62), &[]).1.contains("--client-mib"));
    drop(given);
    eventually("room again", || matches!(serving.ask(&heap(4, PAGE), &[]).0, Answer::Buffers(4)));
    // What the device refuses takes no room.
    let broken = Request::Heap { name: Some("broken".into()), slots: 4, slot_bytes: PAGE };
    for _ in 0..3 {
        eventually("the device's own words", || serving.refusal(&broken, &[]).1.contains("nothing left"));
    }
}

#[test]
fn nonsense_is_refused_and_others_are_served() {
    let serving = Serving::new(Limits::default());
    for bytes in [&b"x"[..], b"bipsbrk1", &[0; 16 << 10], &heap(65, PAGE).encode(), &heap(1, 1).encode()] {
        let (answer, _) = serving.say(bytes, &[]);
        assert!(matches!(answer, Answer::Refused(ErrorKind::Protocol, _)), "{answer:?}");
    }
    let null = File::open("/dev/null").unwrap();
    let (kind, text) = serving.refusal(&heap(1, PAGE), &[null.as_fd()]);
    assert!(kind == ErrorKind::Protocol && text.contains("number of descriptors"), "{text}");
    let many = vec![null.as_fd(); 200];
    assert_eq!(serving.refusal(&Request::Cover { slots: 1, slot_bytes: PAGE }, &many).0, ErrorKind::Protocol);
    assert_eq!(serving.refusal(&Request::Cover { slots: 1, slot_bytes: PAGE }, &[]).0, ErrorKind::Protocol);
    drop(serving.line()); // gone before it said a thing
    let gone = serving.line();
    gone.send(&heap(2, PAGE).encode(), &[]).unwrap();
    drop(gone); // in the midst of its request
    assert_eq!(serving.ask(&heap(2, PAGE), &[]).0, Answer::Buffers(2));
    eventually("what was meant for the other went with it", || serving.broker.in_use().unwrap() == (0, 0));
}

/// As many as are served at a time say nothing; the next waits until they have had their time.
#[test]
fn who_says_nothing_holds_others_up_for_a_while_only() {
    let serving = Serving::new(Limits { clients: 2, ..Limits::default() });
    let silent = [serving.line(), serving.line(), serving.line()];
    assert_eq!(serving.ask(&heap(1, PAGE), &[]).0, Answer::Buffers(1));
    drop(silent);
}

#[test]
fn memfds_are_checked_before_a_device_sees_them() {
    let serving = Serving::new(Limits::default());
    let cover = Request::Cover { slots: 2, slot_bytes: PAGE };
    let memfd = |len: i64, backed: bool, seals| {
        let memfd = memfd_create("t", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&memfd, len).unwrap();
        if backed {
            fallocate(&memfd, FallocateFlags::empty(), 0, len).unwrap();
        }
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        memfd
    };
    let shrink = SealFlag::F_SEAL_SHRINK;
    let program = File::open("/proc/self/exe").unwrap();
    for (fd, why) in [
        (memfd(8192, true, SealFlag::empty()), "could shrink"),
        (memfd(8192, false, shrink), "holes"),
        (memfd(12_288, true, shrink), "another size"),
        (memfd(4096, true, shrink), "another size"),
        (program.into(), "is none"),
    ] {
        let (kind, text) = serving.refusal(&cover, &[fd.as_fd()]);
        assert!(kind == ErrorKind::InvalidArgument && text.contains(why), "{why}: {text}");
    }
    let good = Segment::create("t", 8192, Sharing::ReadOnly).unwrap();
    assert_eq!(serving.ask(&cover, &[good.fd().unwrap()]).0, Answer::Buffers(2));
}

#[test]
fn a_client_believes_nothing_of_what_comes() {
    let serving = Serving::new(Limits::default());
    let heap = serving.client("dma-heap");
    let layout = heap.plan(&requirements()).unwrap();
    let error = heap.allocate(&layout, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("what the broker sent: this descriptor is no dma-buf"), "{error}");
    eventually("nothing of it is kept", || serving.broker.in_use().unwrap() == (0, 0));
    let error = serving.client("dma-heap:linux,cma").plan(&requirements()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for part in ["no dma-heap:linux,cma", "it has dma-heap, dma-heap:system"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = serving.client("udmabuf").plan(&requirements()).unwrap_err();
    assert!(error.to_string().contains("no udmabuf"), "{error}");
    let cuda = "cuda:0".parse().unwrap();
    assert!(heap.serves(&cuda).unwrap_err().to_string().contains("CUDA"));
}

#[test]
fn without_a_broker_the_next_step_is_told() {
    let serving = Serving::new(Limits::default());
    let dir = serving.dir.clone();
    let second =
        Broker::open(Some(&dir), AccessRule::Owner, Limits::default(), Box::new(Fake(vec!["x".into()])));
    let error = second.unwrap_err();
    assert!(error.kind() == ErrorKind::NameTaken && error.to_string().contains("one is enough"), "{error}");
    let nothing = Broker::open(Some(&dir), AccessRule::Owner, Limits::default(), Box::new(Fake(vec![])));
    assert!(nothing.unwrap_err().to_string().contains("nothing to broker here"));
    let client = serving.client("dma-heap");
    drop(serving);
    std::fs::create_dir_all(&dir).unwrap();
    let error = client.plan(&requirements()).unwrap_err();
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for part in ["no broker answers in", "start `bips broker`"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn sources_by_name() {
    let broker = Brokered::new(None);
    for (source, kind) in
        [("dma-heap", "dma-heap"), ("dma-heap:linux,cma", "dma-heap:linux,cma"), ("udmabuf", "udmabuf")]
    {
        assert_eq!(broker.with_source(source).unwrap().info().kind, kind);
    }
    for source in ["", "memfd", "udmabuf:x", "dma-heap:../x", "broker"] {
        assert!(broker.with_source(source).is_none(), "{source}");
    }
}

#[test]
fn a_file_whose_file_system_never_answers_is_no_memfd() {
    let Some(hung) = hung::Hung::mount() else { return };
    let answer = hung.unasked(|file| {
        let serving = Serving::new(Limits::default());
        serving.ask(&Request::Cover { slots: 1, slot_bytes: PAGE }, &[file.as_fd()]).0
    });
    let Answer::Refused(ErrorKind::InvalidArgument, text) = answer else { panic!("{answer:?}") };
    assert!(text.contains("what was sent is none"), "{text}");
}
