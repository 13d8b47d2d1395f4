//! Cases that a machine must bear beyond the contract: large images, many pools, deaths on either side.

use crate::common::process::{Role, Stage, play};
use crate::common::{SOON, Scratch, check, descriptors, publish, receive};
use crate::inside::subject;
use bips::{Consumer, Content, ErrorKind, Producer, ProducerBuilder, Registry, Requirements, Wait};
use bips_conformance::{Case, Subject};
use std::path::Path;

pub(crate) const CASES: &[Case] = &[
    Case { name: "found_by_its_name", run: found_by_its_name },
    Case { name: "large_images_in_every_slot", run: large_images_in_every_slot },
    Case { name: "many_pools_one_after_another", run: many_pools_one_after_another },
    Case { name: "a_killed_consumer_gives_back", run: a_killed_consumer_gives_back },
    Case { name: "frames_outlive_a_killed_producer", run: frames_outlive_a_killed_producer },
];

pub(crate) const ROLES: &[Role] = &[("count", count), ("hold", hold), ("publish", publish_and_wait)];

const STREAM: &str = "hw";
const SMALL: u64 = 100_000;

fn producer(backend: &Subject, directory: &Path) -> ProducerBuilder {
    Producer::builder(STREAM).backend(backend.clone()).directory(directory)
}

fn consumer(backend: &Subject, directory: &Path) -> Consumer {
    let builder = Consumer::builder(STREAM).registry(Registry::new().with(backend.clone()));
    builder.directory(directory).wait(SOON).connect().expect("the producer is there")
}

/// What `memory="KIND"` comes to, in any language.
fn found_by_its_name(backend: Subject) {
    let content = Content::bytes(SMALL).expect("small");
    let wanted = Requirements::of(content);
    let kind = &backend.info().kind;
    let planned = bips_backends::registry().plan(kind, &wanted).expect("it is in the registry");
    assert_eq!(&planned.backend.info().kind, kind);
    assert_eq!(planned.layout, backend.plan(&wanted).expect("as the registry has it"));
}

/// Full HD with four bytes a pixel, several times through every slot, each byte checked in another process.
fn large_images_in_every_slot(backend: Subject) {
    let scratch = Scratch::new();
    let builder = producer(&backend, scratch.path()).bytes(1920 * 1080 * 4).slots(6);
    let producer = builder.create().expect("50 MB");
    let mut child = play("count", scratch.path(), 20);
    producer.wait_for_consumers(1, SOON).expect("the child joins");
    for _ in 0..20 {
        publish(&producer);
    }
    child.expect("20 whole");
    child.finish();
}

fn count(stage: &Stage) {
    let mut consumer = consumer(&subject(), &stage.directory);
    for _ in 0..stage.number {
        drop(receive(&mut consumer));
    }
    stage.say(format_args!("{} whole", stage.number));
}

/// More than a small reserve of contiguous memory has, were they kept.
fn many_pools_one_after_another(backend: Subject) {
    let content = Content::bytes(2 << 20).expect("small");
    let wanted = Requirements::of(content);
    let layout = backend.plan(&wanted).expect("plain bytes for the CPU");
    let pool = |number| {
        backend.allocate(&layout, 4).unwrap_or_else(|error| panic!("pool {number}, all others gone: {error}"))
    };
    drop(pool(0)); // what libraries open once
    let before = descriptors();
    for number in 1..=100 {
        drop(pool(number));
    }
    assert_eq!(descriptors(), before);
}

fn a_killed_consumer_gives_back(backend: Subject) {
    let scratch = Scratch::new();
    let builder = producer(&backend, scratch.path()).bytes(SMALL).slots(3).max_held(2);
    let producer = builder.create().expect("a small stream in an empty directory");
    let mut child = play("hold", scratch.path(), 2);
    producer.wait_for_consumers(1, SOON).expect("the child joins");
    for _ in 0..2 {
        publish(&producer);
    }
    child.expect("2 held");
    let mut all = vec![producer.acquire(SOON).expect("the third slot")];
    assert!(producer.acquire(Wait::Now).is_err(), "the other two are held");
    child.kill();
    for _ in 0..2 {
        all.push(producer.acquire(SOON).unwrap_or_else(|error| panic!("{}", producer.explain(error))));
    }
    drop(all);
    publish(&producer);
}

fn hold(stage: &Stage) {
    let mut consumer = consumer(&subject(), &stage.directory);
    let held: Vec<_> = (0..stage.number).map(|_| receive(&mut consumer)).collect();
    stage.say(format_args!("{} held", held.len()));
    stage.hear();
}

fn frames_outlive_a_killed_producer(backend: Subject) {
    let scratch = Scratch::new();
    let mut child = play("publish", scratch.path(), 3);
    let mut consumer = consumer(&backend, scratch.path());
    child.tell("joined");
    let held: Vec<_> = (0..3).map(|_| receive(&mut consumer)).collect();
    child.kill();
    let end = consumer.receive(SOON).expect_err("nobody publishes any more");
    assert_eq!(consumer.explain(end).kind(), ErrorKind::Closed);
    for (number, frame) in held.iter().enumerate() {
        assert_eq!(check(frame), number as u64);
    }
}

fn publish_and_wait(stage: &Stage) {
    let builder = producer(&subject(), &stage.directory).bytes(SMALL).slots(4).max_held(3);
    let producer = builder.create().expect("a small stream in an empty directory");
    stage.hear();
    for _ in 0..stage.number {
        publish(&producer);
    }
    stage.hear();
}
