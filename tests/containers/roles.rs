//! What the Rust programs in the containers do; `peer.py` has the same in Python.

use crate::common::process::{Role, Stage};
use crate::common::{SOON, assert_says, check, eventually, publish, receive};
use crate::site::{Engine, INSIDE};
use bips::{AccessRule, Consumer, Description, ErrorKind, Fence, Producer, ReceiveError};
use std::fs;
use std::path::Path;

pub(crate) const ROLES: &[Role] = &[
    ("produces", produce),
    ("consumes", consume),
    ("goes on", go_on),
    ("is refused", be_refused),
    ("may not write", fail_to_produce),
    ("wants too much", want_too_much),
    ("produces much", produce_much),
    ("reads much", read_much),
];

/// Frames published at a time.
pub(crate) const BATCH: u64 = 200;
/// Of a pool that its consumer could not pay for: four of these.
pub(crate) const LARGE: u64 = 32 << 20;
const NAMESPACES: [&str; 6] = ["pid", "ipc", "net", "uts", "mnt", "user"];

/// Where a process finds itself.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// As in [`NAMESPACES`].
    namespaces: Vec<String>,
    seccomp: String,
    capabilities: String,
    /// Those that it could ever get.
    bounds: String,
    no_new_privileges: String,
}

impl Place {
    fn here() -> String {
        let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            value.expect("a field of every kernel's").to_owned()
        };
        let mut words = NAMESPACES.map(|name| link(name).display().to_string()).to_vec();
        words.extend(["Seccomp", "CapEff", "CapBnd", "NoNewPrivs"].map(field));
        words.join(" ")
    }

    #[track_caller]
    pub(crate) fn parse(said: &str) -> Self {
        let words: Vec<String> = said.split(' ').map(str::to_owned).collect();
        let (namespaces, rest) = words.split_at(NAMESPACES.len());
        let [seccomp, capabilities, bounds, no_new_privileges] = rest else { panic!("no place: {said}") };
        Self {
            namespaces: namespaces.to_vec(),
            seccomp: seccomp.clone(),
            capabilities: capabilities.clone(),
            bounds: bounds.clone(),
            no_new_privileges: no_new_privileges.clone(),
        }
    }

    #[track_caller]
    pub(crate) fn assert_confined(&self, engine: Engine) {
        assert_eq!(self.seccomp, engine.seccomp());
        assert_eq!(u64::from_str_radix(&self.capabilities, 16), Ok(0));
        assert_eq!(u64::from_str_radix(&self.bounds, 16), Ok(0));
        assert_eq!(self.no_new_privileges, "1");
    }

    /// Every namespace of every container is its own; that of the users if said so.
    #[track_caller]
    pub(crate) fn assert_apart(places: &[&Self], own_users: bool) {
        let here = Self::parse(&Self::here());
        for (i, one) in places.iter().enumerate() {
            for other in places[i + 1..].iter().chain([&&here]) {
                for (name, (a, b)) in NAMESPACES.iter().zip(one.namespaces.iter().zip(&other.namespaces)) {
                    let apart = *name != "user" || own_users;
                    assert_eq!(a != b, apart, "namespace {name}: {a} and {b}");
                }
            }
        }
    }
}

/// Says where this is, which is nowhere that could be written to.
fn arrive(stage: &Stage) {
    for path in ["/file", "/usr/file"] {
        assert!(fs::write(path, "").is_err(), "the root is read-only");
    }
    stage.say(Place::here());
}

fn publish_all(producer: &Producer, count: u64) {
    for _ in 0..count {
        publish(producer);
    }
}

/// Publishes for as many consumers as its number says, by the rule it is told.
fn produce(stage: &Stage) {
    arrive(stage);
    let rule = AccessRule::parse(&stage.hear()).unwrap();
    let producer = stage.producer("a/cam").bytes(1 << 20).access(rule).create().unwrap();
    stage.say("ready");
    producer.wait_for_consumers(stage.number as u32, SOON).unwrap();
    loop {
        match stage.hear().as_str() {
            "publish" => publish_all(&producer, BATCH),
            "publish two" => publish_all(&producer, 2),
            "forget the consumer" => {
                eventually("the seat goes", || producer.stats().unwrap().consumers.is_empty());
            }
            _ => break,
        }
        stage.say("published");
    }
    producer.close();
    let left: Vec<_> = fs::read_dir(INSIDE).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Receives all frames and says how many; its mount is read-only.
fn consume(stage: &Stage) {
    arrive(stage);
    assert!(fs::write(Path::new(INSIDE).join("file"), "").is_err(), "the consumer's mount is read-only");
    // Before there is a producer: it waits for the name.
    let mut consumer = stage.consumer("a/cam").wait(SOON).connect().unwrap();
    let error = loop {
        let before = consumer.stats().received;
        match consumer.receive(SOON) {
            Ok(frame) => {
                assert_eq!((check(&frame), frame.sequence()), (before, before));
                assert!(frame.readonly());
            }
            Err(error) => break error,
        }
        if consumer.stats().received == BATCH {
            stage.say("received");
        }
    };
    assert_eq!(error, ReceiveError::Closed);
    stage.say(consumer.stats().received);
}

/// Receives from one producer, and from the next of that name.
fn go_on(stage: &Stage) {
    arrive(stage);
    let mut consumer = stage.consumer("a/cam").wait(SOON).reconnect(true).connect().unwrap();
    let receive_all = |consumer: &mut Consumer| {
        for number in 0..BATCH {
            assert_eq!(receive(consumer).sequence(), number);
        }
    };
    receive_all(&mut consumer);
    stage.say("received");
    receive_all(&mut consumer);
    stage.say("received");
    assert_eq!(consumer.stats().reconnects, 1);
}

fn be_refused(stage: &Stage) {
    arrive(stage);
    let error = stage.consumer("a/cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::AccessDenied, &["another user namespace", "\"directory\""]);
}

fn fail_to_produce(stage: &Stage) {
    arrive(stage);
    let error = stage.producer("a/cam").bytes(1 << 20).create().unwrap_err();
    let expected = [INSIDE, "can't be written", "needs write permission", "BIPS_DIR"];
    assert_says(&error, ErrorKind::AccessDenied, &expected);
    stage.say(error);
}

/// More than the container's limit, which its number says in MiB; then less.
fn want_too_much(stage: &Stage) {
    arrive(stage);
    let limit = stage.number;
    let much = || stage.producer("a/cam").access(AccessRule::Directory).bytes((limit << 20) / 2).slots(4);
    for _ in 0..2 {
        let error = much().create().unwrap_err();
        let asked = format!("{} MiB of buffers", 2 * limit);
        let allowed = format!("allows {limit} MiB");
        assert_says(&error, ErrorKind::OutOfMemory, &[&asked, "control group", &allowed, "fewer slots"]);
    }
    stage.say(much().create().unwrap_err());
    let producer = much().bytes((limit << 20) / 16).create().unwrap();
    stage.say("ready");
    stage.hear();
    publish_all(&producer, BATCH);
    stage.say("published");
    stage.hear();
}

/// A byte for each slot of a large pool.
fn filling(number: u64) -> u8 {
    number as u8 + 1
}

fn produce_much(stage: &Stage) {
    arrive(stage);
    let builder = stage.producer("a/cam").bytes(LARGE).slots(4).max_held(4);
    let producer = builder.access(AccessRule::Directory).create().unwrap();
    stage.say("ready");
    producer.wait_for_consumers(1, SOON).unwrap();
    for number in 0..4 {
        let mut frame = producer.acquire(SOON).unwrap();
        frame.bytes_mut().fill(filling(number));
        frame.publish(Description::new(), Fence::Signaled).unwrap();
    }
    stage.say("published");
    stage.hear();
}

/// Reads every byte of every slot, and keeps all of them mapped and leased meanwhile.
fn read_much(stage: &Stage) {
    arrive(stage);
    let mut consumer = stage.consumer("a/cam").wait(SOON).connect().unwrap();
    let mut frames = Vec::new();
    for number in 0..4 {
        let frame = consumer.receive(SOON).unwrap();
        // SAFETY: the producer writes to no slot that is leased.
        let bytes = unsafe { frame.bytes() };
        assert_eq!(bytes.len() as u64, LARGE);
        let expected = [filling(number); 4096];
        assert!(bytes.chunks(expected.len()).all(|chunk| chunk == expected), "frame {number} is torn");
        frames.push(frame);
    }
    // A slot each: none can be written again while it is leased.
    assert_eq!(consumer.stats().held, 4);
    stage.say(charged_for_shared_memory());
    stage.hear();
}

/// Bytes of shared memory that this container's control group pays for.
fn charged_for_shared_memory() -> u64 {
    let files = ["/sys/fs/cgroup/memory/memory.stat", "/sys/fs/cgroup/memory.stat"];
    let stat = files.iter().find_map(|file| fs::read_to_string(file).ok()).expect("a memory control group");
    let line = stat.lines().find_map(|line| line.strip_prefix("shmem "));
    line.expect("kernels since 4.18 say so").parse().unwrap()
}
