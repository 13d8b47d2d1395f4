//! What a stream costs besides its frames, and that nothing of it stays.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::Wait;
use common::process::{Role, Stage, play};
use common::{SOON, Scratch, descriptors, eventually, publish, receive};
use std::fs;
use std::time::Instant;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const ROLES: &[Role] =
    &[("consumes", consume), ("produces", produce), ("comes and goes", come_and_go), ("attaches", attach)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

/// Bytes of the mappings whose file is called one of these.
fn mapped(names: &[&str]) -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let size = |line: &str| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        u64::from_str_radix(end, 16).unwrap() - u64::from_str_radix(start, 16).unwrap()
    };
    maps.lines().filter(|line| names.iter().any(|name| line.contains(name))).map(size).sum()
}

const CONTROL: &[&str] = &["bips:board", "bips:seat", "bips:bell"];

/// A process of its own, in which nobody else opens anything.
#[test]
fn a_consumer_costs_two_descriptors_and_less_than_64_kib() {
    let scratch = Scratch::new();
    let producers: Vec<_> =
        (0..4).map(|i| scratch.producer(&format!("cam{i}")).bytes(MIB).create().unwrap()).collect();
    let mut child = play("consumes", scratch.path(), 4);
    for producer in &producers {
        producer.wait_for_consumers(1, SOON).unwrap();
        publish(producer);
        child.expect("received");
    }
    child.finish();
}

fn consume(stage: &Stage) {
    let mut all = Vec::new();
    let mut before = descriptors();
    for i in 0..stage.number {
        let mut consumer = stage.consumer(&format!("cam{i}")).connect().unwrap();
        let frame = receive(&mut consumer);
        stage.say("received");
        let now = descriptors();
        // The first brings what all share: the monitor's epoll, and /dev/null for forks.
        assert!(now - before <= if i == 0 { 4 } else { 2 }, "{} descriptors for pool {i}", now - before);
        before = now;
        all.push((consumer, frame));
        let control = mapped(CONTROL) / (i + 1);
        assert_eq!(control, all[0].0.stats().control_bytes);
        assert!(control < 64 * KIB, "{control} bytes of control memory");
        assert_eq!(mapped(&["bips:pool"]), 4 * MIB * (i + 1));
        assert_eq!(mapped(&["/dev/shm"]), 0);
    }
    let most = descriptors();
    all.clear();
    assert_eq!(descriptors(), most - 2 * stage.number as usize);
    assert_eq!(mapped(&["bips:"]), 0, "all is unmapped");
}

#[test]
fn a_producer_pays_less_than_64_kib_per_consumer() {
    let scratch = Scratch::new();
    let mut child = play("produces", scratch.path(), 10);
    child.expect("alone");
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(scratch.consumer("cam").connect().unwrap());
        child.expect("joined");
    }
    drop(all);
    child.finish();
}

fn produce(stage: &Stage) {
    let producer = stage.producer("cam").bytes(MIB).create().unwrap();
    let alone = (descriptors(), mapped(CONTROL));
    assert!(alone.1 < 64 * KIB);
    stage.say("alone");
    for consumers in 1..=stage.number {
        producer.wait_for_consumers(consumers as u32, SOON).unwrap();
        // A welcome under way has more.
        eventually("a consumer costs the producer its connection and its process", || {
            descriptors() <= alone.0 + 2 * consumers as usize
        });
        assert!(mapped(CONTROL) - alone.1 <= consumers * 4 * KIB);
        assert_eq!(mapped(&["bips:pool"]), 4 * MIB);
        stage.say("joined");
    }
    eventually("all is given back", || (descriptors(), mapped(CONTROL)) == alone);
    drop(producer);
    assert_eq!(mapped(&["bips:"]), 0, "all is unmapped");
}

#[test]
fn coming_and_going_leaves_nothing() {
    let scratch = Scratch::new();
    play("comes and goes", scratch.path(), 100).finish();
    assert!(scratch.files().is_empty(), "{:?}", scratch.files());
}

fn come_and_go(stage: &Stage) {
    let round = || {
        let producer = stage.producer("a/b/cam").bytes(MIB).create().unwrap();
        let mut consumer = stage.consumer("a/b/cam").connect().unwrap();
        consumer.poll_fd().unwrap();
        publish(&producer);
        let view = receive(&mut consumer).private().unwrap();
        assert!(consumer.receive(Wait::Now).is_err());
        bips::query("a/b/cam", Some(&stage.directory)).unwrap();
        assert_eq!(bips::streams(Some(&stage.directory)).unwrap(), ["a/b/cam"]);
        producer.close();
        drop(producer);
        drop(consumer);
        drop(view);
    };
    round();
    eventually("the first round is over", || mapped(&["bips:"]) == 0);
    let before = descriptors();
    for _ in 0..stage.number {
        round();
    }
    eventually("nothing is left open", || descriptors() <= before);
    eventually("nothing is left mapped", || mapped(&["bips:"]) == 0);
}

/// Only the two files that a live stream needs, and none in the usual places for shared memory.
#[test]
fn a_live_stream_is_two_files() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(MIB).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
    let names = [scratch.path().join("cam.lock"), scratch.path().join("cam.sock")];
    assert_eq!(scratch.files(), names);
    assert_eq!(mapped(&["/dev/shm"]), 0);
    let shm = fs::read_dir("/dev/shm").map_or_else(|_| Vec::new(), |names| names.flatten().collect());
    let ours = shm.iter().any(|entry| entry.file_name().to_string_lossy().contains("bips"));
    assert!(!ours, "{shm:?}");
    drop((producer, consumer));
    assert!(scratch.files().is_empty(), "{:?}", scratch.files());
}

/// Printed, not judged: `bips bench attach` measures it where nothing else runs.
#[test]
fn attaching_to_a_large_pool() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(6 * MIB).slots(8).history(1).create().unwrap();
    publish(&producer);
    let mut child = play("attaches", scratch.path(), 0);
    println!("attach to 8 x 6 MiB until the first frame is in hand: {}", child.hear());
    child.finish();
}

fn attach(stage: &Stage) {
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            let mut consumer = stage.consumer("cam").connect().unwrap();
            let frame = consumer.receive(Wait::Now).unwrap();
            let took = begin.elapsed();
            assert_eq!(common::check(&frame), 0);
            took
        })
        .collect();
    times.sort();
    stage.say(format!("{:?} (fastest), {:?} (median of 20)", times[0], times[10]));
}
