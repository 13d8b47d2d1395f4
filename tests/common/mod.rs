//! What the tests share: a directory of their own, children that play roles, frames that can be checked.

#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod group;
pub(crate) mod process;
pub(crate) mod skip;
pub(crate) mod wire;

use bips::{
    Consumer, ConsumerBuilder, Description, Error, ErrorKind, Fence, Frame, FrameMut, Policy, Producer,
    ProducerBuilder, Wait,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Long enough for anything that happens at all, on a machine with too much to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Names the memory kind of all streams of a test run.
const MEMORY: &str = "BIPS_TEST_MEMORY";

/// A wait that ends a test instead of hanging it.
pub(crate) const SOON: Wait = Wait::For(PATIENCE);

/// A runtime directory of the test's own, gone when it ends.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bips-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directories can be made");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn producer(&self, name: &str) -> ProducerBuilder {
        producer(&self.0, name)
    }

    pub(crate) fn consumer(&self, name: &str) -> ConsumerBuilder {
        consumer(&self.0, name)
    }

    /// Every file and directory below, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        fn collect(dir: &Path, all: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).expect("our own directory").flatten() {
                if entry.path().is_dir() {
                    collect(&entry.path(), all);
                }
                all.push(entry.path());
            }
        }
        let mut all = Vec::new();
        collect(&self.0, &mut all);
        all.sort();
        all
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn producer(directory: &Path, name: &str) -> ProducerBuilder {
    let builder = Producer::builder(name).registry(bips_backends::registry()).directory(directory);
    // The same tests for another kind, where a machine has it: BIPS_TEST_MEMORY=dma-heap.
    match std::env::var(MEMORY) {
        Ok(kind) => builder.memory(kind),
        Err(_) => builder,
    }
}

pub(crate) fn consumer(directory: &Path, name: &str) -> ConsumerBuilder {
    Consumer::builder(name).registry(bips_backends::registry()).directory(directory)
}

/// A pool of small pages, as where the kernel makes no huge ones. Beyond 8 MiB it is watched: its consumers say in their
/// seats that they live.
#[track_caller]
pub(crate) fn in_small_pages(builder: ProducerBuilder) -> Producer {
    use nix::sys::prctl::set_thp_disable;
    use std::sync::{Mutex, PoisonError};
    // Of the whole process.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    set_thp_disable(true).expect("any process may");
    let producer = builder.create();
    set_thp_disable(false).expect("any process may");
    producer.expect("a pool of small pages")
}

pub(crate) const LATEST: Policy = Policy::KeepLast(1);

/// The kind and every one of the texts.
#[track_caller]
pub(crate) fn assert_says(error: &Error, kind: ErrorKind, texts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    for text in texts {
        assert!(message.contains(text), "{text:?} is missing in: {message}");
    }
}

/// Until it holds; a test that waits in vain fails.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What byte most of the frame is made of. 251 is prime, so no two frames that share a slot look the same.
fn filling(number: u64) -> u8 {
    (number % 251) as u8
}

/// Writes a frame that [`check`] knows whole from torn: its number at both ends, one byte throughout.
pub(crate) fn fill(frame: &mut FrameMut, number: u64, len: usize) {
    let bytes = &mut frame.bytes_mut()[..len];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..len - 8].fill(filling(number));
    bytes[len - 8..].copy_from_slice(&number.to_le_bytes());
}

/// The number of a frame that [`fill`] wrote, all of whose bytes are right.
#[track_caller]
pub(crate) fn check(frame: &Frame) -> u64 {
    // SAFETY: producers in these tests write only to slots that they have acquired.
    let bytes = unsafe { frame.bytes() };
    let (head, rest) = bytes.split_at(8);
    let (middle, end) = rest.split_at(rest.len() - 8);
    assert_eq!(head, end, "torn frame {}", frame.sequence());
    let number = u64::from_le_bytes(head.try_into().expect("eight bytes"));
    let whole = vec![filling(number); middle.len()];
    assert!(middle == whole, "torn frame {} ({number})", frame.sequence());
    number
}

/// Acquires, fills and publishes one frame of the stream's own content; its number is its sequence.
#[track_caller]
pub(crate) fn publish(producer: &Producer) -> u64 {
    publish_number(producer, producer.stats().expect("our own producer").published)
}

#[track_caller]
pub(crate) fn publish_number(producer: &Producer, number: u64) -> u64 {
    let len = producer.content().nbytes() as usize;
    let mut frame = producer.acquire(SOON).unwrap_or_else(|error| panic!("{}", producer.explain(error)));
    fill(&mut frame, number, len);
    frame.publish(Description::new(), Fence::Signaled).expect("the stream is open")
}

/// The same at once, unchecked, or nothing where no slot is free.
pub(crate) fn publish_if_possible(producer: &Producer) {
    if let Ok(frame) = producer.acquire(Wait::Now) {
        frame.publish(Description::new(), Fence::Signaled).expect("the stream is open");
    }
}

/// Descriptors this process has open, and one to count them.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// This file of each thread of this process.
pub(crate) fn of_each_thread(file: &str) -> impl Iterator<Item = String> {
    let threads = std::fs::read_dir("/proc/self/task").expect("procfs").flatten();
    threads.filter_map(move |thread| std::fs::read_to_string(thread.path().join(file)).ok())
}

/// Threads of this process whose names begin so.
pub(crate) fn threads(begin: &str) -> usize {
    of_each_thread("comm").filter(|name| name.starts_with(begin)).count()
}

/// Threads of the library's, but for the one that watches the sockets, which begins once and stays.
pub(crate) fn passing_threads() -> usize {
    of_each_thread("comm")
        .filter(|name| name.starts_with("bips-") && !name.starts_with("bips-monitor"))
        .count()
}

/// What a process has: open descriptors, mappings of shared memory, threads of the library's that come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belongings {
    pub(crate) descriptors: usize,
    pub(crate) mappings: usize,
    pub(crate) threads: usize,
}

impl Belongings {
    pub(crate) fn now() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        Self {
            descriptors: descriptors(),
            mappings: maps.lines().filter(|line| line.contains("bips:")).count(),
            threads: passing_threads(),
        }
    }

    /// Once that stays the same: what was made for the last welcome goes after it was sent.
    pub(crate) fn settled() -> Self {
        let (mut last, mut same) = (Self::now(), 0);
        while same < 5 {
            std::thread::sleep(Duration::from_millis(10));
            let now = Self::now();
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        last
    }

    /// Until there is nothing more than this; in vain says what is.
    #[track_caller]
    pub(crate) fn eventually_again(self) {
        self.eventually_again_while(|| false);
    }

    /// The same, where it takes as long as `excused` and only then has to be soon.
    #[track_caller]
    pub(crate) fn eventually_again_while(self, mut excused: impl FnMut() -> bool) {
        let more = || {
            let now = Self::now();
            let is_more = now.descriptors > self.descriptors
                || now.mappings > self.mappings
                || now.threads > self.threads;
            is_more.then_some(now)
        };
        let mut until = Instant::now() + PATIENCE;
        while let Some(now) = more() {
            if excused() {
                until = Instant::now() + PATIENCE;
            }
            assert!(Instant::now() < until, "{self:?} has become {now:?}:\n{}", Self::by_name());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn by_name() -> String {
        let listed = |path| std::fs::read_dir(path).expect("procfs").flatten();
        let links = listed("/proc/self/fd").filter_map(|link| std::fs::read_link(link.path()).ok());
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let ours = maps.lines().filter(|line| line.contains("bips:"));
        let text = |lines: Vec<String>| lines.join("\n  ");
        format!(
            "open:\n  {}\nmapped:\n  {}\nthreads:\n  {}",
            text(links.map(|to| to.display().to_string()).collect()),
            text(ours.map(str::to_owned).collect()),
            text(of_each_thread("comm").map(|name| name.trim().to_owned()).collect())
        )
    }
}

/// Receives one frame and checks it; its number must be its sequence.
#[track_caller]
pub(crate) fn receive(consumer: &mut Consumer) -> Frame {
    let frame = consumer.receive(SOON).unwrap_or_else(|error| panic!("{}", consumer.explain(error)));
    assert_eq!(check(&frame), frame.sequence());
    frame
}

/// Says that it is over when dropped, by a panic too: threads that wait for it must not keep a failed test from
/// ending.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
