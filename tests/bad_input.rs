//! Bad input through the API: each answered by its kind of error and a message that names the next step.
//! (`refusals.rs`, `permissions.rs`, `memory_limit.rs`, `fork.rs` and `protocol.rs` have what needs more than a call.)

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::testing::{Damage, Operation, Simulated};
use bips::{Content, DType, Description, ErrorKind, Fence, Policy, Registry, Shape, Usage, Wait};
use common::process::{Role, Stage, play};
use common::{Scratch, assert_says, eventually, publish, receive};
use std::time::Duration;

const ROLES: &[Role] = &[("producer", produce_until_told)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

fn produce_until_told(stage: &Stage) {
    let _producer = stage.producer("cam").bytes(100).create().unwrap();
    stage.say("ready");
    stage.hear();
}

// Names

#[test]
fn a_taken_name_says_by_whom() {
    let scratch = Scratch::new();
    let mut child = play("producer", scratch.path(), 0);
    child.expect("ready");
    let error = scratch.producer("cam").bytes(100).create().unwrap_err();
    let pid = format!("pid {}", child.pid());
    assert_says(&error, ErrorKind::NameTaken, &["cam", &pid, "choose another name"]);
    // The loser leaves the winner's stream alone.
    assert_eq!(bips::query("cam", Some(scratch.path())).unwrap().pid, child.pid());
}

#[test]
fn a_name_is_taken_within_a_process_too() {
    let scratch = Scratch::new();
    let first = scratch.producer("a/cam").bytes(100).create().unwrap();
    let error = scratch.producer("a/cam").bytes(100).create().unwrap_err();
    let pid = format!("pid {}", std::process::id());
    assert_says(&error, ErrorKind::NameTaken, &["a/cam", &pid]);
    drop(first);
    scratch.producer("a/cam").bytes(100).create().unwrap();
}

#[test]
fn a_name_not_found_lists_what_is_there() {
    let scratch = Scratch::new();
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::NotFound, &["no stream is published there", "BIPS_DIR"]);
    let _left = scratch.producer("left/cam").bytes(100).create().unwrap();
    let _right = scratch.producer("right").bytes(100).create().unwrap();
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::NotFound, &["\"cam\"", "left/cam, right", "start the producer"]);
    let error = bips::query("cam", Some(scratch.path())).unwrap_err();
    assert_says(&error, ErrorKind::NotFound, &["left/cam, right"]);
    let waited = scratch.consumer("cam").wait(Wait::For(Duration::from_millis(50)));
    assert_says(&waited.connect().unwrap_err(), ErrorKind::NotFound, &["wait longer"]);
}

#[test]
fn no_name_at_all() {
    let scratch = Scratch::new();
    for name in ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a b", "ü", &"x".repeat(101)] {
        let error = scratch.producer(name).bytes(100).create().unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["1 to 100 letters"]);
        let error = scratch.consumer(name).connect().unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["1 to 100 letters"]);
    }
    assert!(scratch.files().is_empty());
}

// Sizes and counts

#[test]
fn a_pool_has_one_to_64_slots() {
    let scratch = Scratch::new();
    for slots in [0, 65, u32::MAX] {
        let error = scratch.producer("cam").bytes(100).slots(slots).create().unwrap_err();
        let asked = format!("{slots} slots");
        assert_says(&error, ErrorKind::InvalidArgument, &[&asked, "1 to 64"]);
    }
    for slots in [1, 64] {
        let producer = scratch.producer("cam").bytes(100).slots(slots).create().unwrap();
        publish(&producer);
    }
}

#[test]
fn history_leaves_a_slot_to_write_to() {
    let scratch = Scratch::new();
    for history in [4, 5, u32::MAX] {
        let error = scratch.producer("cam").bytes(9).history(history).create().unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["use 0 to 3"]);
    }
}

#[test]
fn max_held_is_one_to_all_slots() {
    let scratch = Scratch::new();
    for max_held in [0, 5, u32::MAX] {
        let error = scratch.producer("cam").bytes(9).max_held(max_held).create().unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["use 1 to 4"]);
    }
}

#[test]
fn a_stream_needs_a_content() {
    let scratch = Scratch::new();
    let error = scratch.producer("cam").create().unwrap_err();
    assert_says(&error, ErrorKind::InvalidArgument, &["a tensor, an image, or bytes"]);
    let error = scratch.producer("cam").tensor(DType::F64, &[u64::MAX, 2]).create();
    assert_says(&error.unwrap_err(), ErrorKind::InvalidArgument, &["larger than any machine"]);
}

#[test]
fn a_frame_must_fit_its_slot() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").tensor(DType::F32, &[32, 32]).create().unwrap();
    let publish = |shape: &[u64], metadata: &[u8]| {
        let description = Description::new().with_shape(Shape::new(shape).unwrap()).with_metadata(metadata);
        producer.acquire(Wait::Now).unwrap().publish(description, Fence::Signaled)
    };
    // More often than there are slots: a refused frame's slot is free again.
    for _ in 0..10 {
        let error = publish(&[33, 32], &[]).unwrap_err();
        assert_says(
            &error,
            ErrorKind::InvalidArgument,
            &["33 x 32 float32 needs 4224 bytes", "a slot has 4096", "smaller shape"],
        );
        let error = publish(&[1], &[0; 257]).unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["257 bytes of metadata", "at most 256"]);
    }
    assert!(publish(&[u64::MAX, u64::MAX], &[]).is_err());
    assert_eq!(producer.stats().unwrap().published, 0);
    assert_eq!(publish(&[16, 64], &[7; 256]).unwrap(), 0);
}

#[test]
fn policies_keep_one_to_64() {
    let scratch = Scratch::new();
    let _producer = scratch.producer("cam").bytes(9).create().unwrap();
    for depth in [0, 65] {
        let error = scratch.consumer("cam").policy(Policy::KeepLast(depth)).connect();
        assert_says(&error.unwrap_err(), ErrorKind::InvalidArgument, &["keep 1 to 64"]);
    }
}

/// A wait as long as can be said is as good as for ever.
#[test]
fn the_longest_wait_is_no_overflow() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let longest = Wait::For(Duration::MAX);
    let mut consumer = scratch.consumer("cam").wait(longest).connect().unwrap();
    producer.wait_for_consumers(1, longest).unwrap();
    publish(&producer);
    let frame = consumer.receive(longest).unwrap();
    let waiting = std::thread::spawn(move || producer.acquire(longest).map(drop));
    std::thread::sleep(Duration::from_millis(20));
    drop(frame);
    assert_eq!(waiting.join().unwrap(), Ok(()));
}

#[test]
fn a_content_that_is_no_image() {
    let fourcc = bips::Fourcc::parse("RGB3").unwrap();
    for (width, height) in [(0, 10), (10, 0), (65537, 1)] {
        let error = Content::image(fourcc, width, height).unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["1 to 65536 pixels"]);
    }
}

// Memory kinds

#[test]
fn an_unknown_memory_kind_lists_the_known() {
    let scratch = Scratch::new();
    let error = scratch.producer("cam").bytes(9).memory("floppy").create().unwrap_err();
    assert_says(&error, ErrorKind::InvalidArgument, &["\"floppy\"", "\"auto\"", "memfd"]);
    let error = scratch.producer("cam").bytes(9).memory("DMA_heap").create().unwrap_err();
    assert_says(&error, ErrorKind::InvalidArgument, &["did you mean \"dma-heap\"?"]);
    let error = scratch.producer("cam").bytes(9).memory("memfd:large").create().unwrap_err();
    assert_says(
        &error,
        ErrorKind::InvalidArgument,
        &["memfd has nothing called \"large\"", "use memfd alone"],
    );
}

#[test]
fn usage_that_no_memory_serves_says_why() {
    let scratch = Scratch::new();
    let error = scratch.producer("cam").bytes(9).usage(Usage::CUDA).create().unwrap_err();
    assert_says(&error, ErrorKind::Unsupported, &["usage cuda", "memfd is host memory", "bips doctor"]);
}

#[test]
fn a_consumer_must_know_the_memory() {
    let scratch = Scratch::new();
    let simulated = Simulated::new().shared();
    let producer = scratch.producer("cam").bytes(100).backend(simulated.clone()).create().unwrap();
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::Unsupported, &["simulated memory", "add that backend"]);
    // It is not left seated.
    eventually("the refused one is gone", || producer.stats().unwrap().consumers.is_empty());
    let mut consumer = scratch.consumer("cam").registry(Registry::new().with(simulated)).connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
}

#[test]
fn faults_of_a_backend_come_through() {
    let scratch = Scratch::new();
    for (operation, kind) in
        [(Operation::Plan, ErrorKind::Unsupported), (Operation::Allocate, ErrorKind::OutOfMemory)]
    {
        let backend = Simulated::new().fail(operation, 1, kind).shared();
        let error = scratch.producer("cam").bytes(100).backend(backend.clone()).create().unwrap_err();
        assert_says(&error, kind, &["planned fault", "cam"]);
        assert!(scratch.files().is_empty(), "{operation:?} failed and left {:?}", scratch.files());
        scratch.producer("cam").bytes(100).backend(backend).create().unwrap();
    }
    let backend = Simulated::new().fail(Operation::Import, 2, ErrorKind::System).shared();
    let producer = scratch.producer("cam").bytes(100).backend(backend.clone()).create().unwrap();
    let consumer = || scratch.consumer("cam").registry(Registry::new().with(backend.clone()));
    assert_says(&consumer().connect().unwrap_err(), ErrorKind::System, &["planned fault", "cam"]);
    let mut second = consumer().connect().unwrap();
    publish(&producer);
    receive(&mut second);
}

#[test]
fn damaged_handles_are_refused() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).backend(Simulated::new().shared()).create().unwrap();
    for (damage, text) in [(Damage::Length, "another size"), (Damage::Descriptor, "no sealable memfd")] {
        let backend = Simulated::new().damage(damage).shared();
        let error = scratch.consumer("cam").registry(Registry::new().with(backend)).connect().unwrap_err();
        assert_says(&error, ErrorKind::Protocol, &[text, "refused", "cam"]);
    }
    eventually("nobody is seated", || producer.stats().unwrap().consumers.is_empty());
}
