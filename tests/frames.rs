//! What a frame is to its holder: how long it lives, who may write to it, what it says.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::testing::Simulated;
use bips::{
    AcquireError, Consumer, Content, DType, Description, ErrorKind, ExternalHandle, Fence, Fourcc, Producer,
    ReceiveError, Registry, Shape, Wait,
};
use common::process::{Role, Stage, play};
use common::{LATEST, SOON, Scratch, assert_says, check, eventually, publish, receive};

const ROLES: &[Role] = &[("writes into frames", write_into_frames)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

#[test]
fn sixty_four_consumers_at_once() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(1000).slots(64).create().unwrap();
    let policies = [bips::Policy::Reliable, LATEST, bips::Policy::KeepLast(64)];
    let mut all: Vec<_> =
        (0..64).map(|i| scratch.consumer("cam").policy(policies[i % 3]).connect().unwrap()).collect();
    for number in 0..50 {
        publish(&producer);
        for consumer in &mut all {
            assert_eq!(receive(consumer).sequence(), number);
        }
    }
    all.clear();
    eventually("all have left", || producer.stats().unwrap().consumers.is_empty());
}

/// What a device is given to write to is the memory that consumers read.
#[test]
fn a_slot_has_a_handle() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(10_000).slots(3).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let inode = |fd: std::os::fd::OwnedFd| std::fs::File::from(fd).metadata().unwrap().ino();
    for _ in 0..3 {
        let frame = producer.acquire(Wait::Now).unwrap();
        let (handle, offset) = frame.handle().unwrap();
        let ExternalHandle::Memfd { fd, .. } = handle else { panic!("{handle:?} is no memfd") };
        frame.publish(Description::new(), Fence::Signaled).unwrap();
        let frame = consumer.receive(SOON).unwrap();
        let (same, at) = frame.fd().unwrap();
        assert_eq!((inode(fd), offset), (inode(same), at));
    }
}

#[test]
fn late_joiners_get_the_history() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(1000).slots(5).history(3).create().unwrap();
    for published in 1..20 {
        publish(&producer);
        let mut late = scratch.consumer("cam").connect().unwrap();
        for sequence in published - 3.min(published)..published {
            assert_eq!(receive(&mut late).sequence(), sequence);
        }
        assert_eq!(late.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
        let mut latest = scratch.consumer("cam").policy(LATEST).connect().unwrap();
        assert_eq!(receive(&mut latest).sequence(), published - 1);
    }
    let mut late = scratch.consumer("cam").connect().unwrap();
    producer.close();
    for sequence in 16..19 {
        assert_eq!(receive(&mut late).sequence(), sequence);
    }
    assert_eq!(late.receive(Wait::Now).unwrap_err(), ReceiveError::Closed);
}

#[test]
fn without_history_a_late_joiner_begins_with_the_next() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(1000).create().unwrap();
    publish(&producer);
    let mut late = scratch.consumer("cam").connect().unwrap();
    assert_eq!(late.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    publish(&producer);
    assert_eq!(receive(&mut late).sequence(), 1);
}

#[test]
fn keep_last_keeps_as_many_as_it_says() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(1000).slots(8).create().unwrap();
    for depth in 1..8 {
        let policy = bips::Policy::KeepLast(depth);
        let mut consumer = scratch.consumer("cam").policy(policy).connect().unwrap();
        for _ in 0..20 {
            publish(&producer);
        }
        let last = producer.stats().unwrap().published;
        for sequence in last - u64::from(depth)..last {
            assert_eq!(receive(&mut consumer).sequence(), sequence);
        }
        assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    }
}

#[test]
fn frames_outlive_consumer_and_producer() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100_000).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    publish(&producer);
    let frames = [receive(&mut consumer), receive(&mut consumer)];
    drop(consumer);
    // Its leases are still leases.
    for _ in 0..20 {
        let mut frame = producer.acquire(Wait::Now).unwrap();
        frame.bytes_mut().fill(0xee);
    }
    assert_eq!(frames.iter().map(check).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(producer.stats().unwrap().consumers[0].held, 2);
    let [first, second] = frames;
    drop(first);
    assert_eq!(producer.stats().unwrap().consumers[0].held, 1);
    drop(producer);
    assert_eq!(std::thread::spawn(move || check(&second)).join().unwrap(), 1);
}

#[test]
fn a_gone_consumer_with_frames_left_holds_nobody_back() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    publish(&producer);
    let frame = receive(&mut consumer);
    drop(consumer);
    // Nobody will ever read what it has not read.
    for number in 2..20 {
        let next = producer.acquire(Wait::For(std::time::Duration::from_secs(2)));
        let next = next.unwrap_or_else(|error| panic!("frame {number}: {}", producer.explain(error)));
        next.publish(Description::new(), Fence::Signaled).unwrap();
    }
    assert_eq!(check(&frame), 0);
}

#[test]
fn a_hold_keeps_the_slot() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(2).create().unwrap();
    let frame = producer.acquire(Wait::Now).unwrap();
    let (kept, hold) = (frame.slot(), frame.hold());
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    let further = hold.clone();
    drop(hold);
    for _ in 0..10 {
        let frame = producer.acquire(Wait::Now).unwrap();
        assert_ne!(frame.slot(), kept);
        assert_eq!(producer.acquire(Wait::Now).unwrap_err(), AcquireError::Timeout);
        frame.publish(Description::new(), Fence::Signaled).unwrap();
    }
    std::thread::scope(|scope| {
        let other = producer.acquire(Wait::Now).unwrap();
        let waiting = scope.spawn(|| producer.acquire(SOON).unwrap().slot());
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(further);
        assert_eq!(waiting.join().unwrap(), kept);
        drop(other);
    });
}

#[test]
fn cancelled_frames_are_never_seen() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    for _ in 0..10 {
        producer.acquire(Wait::Now).unwrap().cancel();
        drop(producer.acquire(Wait::Now).unwrap());
    }
    assert_eq!(publish(&producer), 0);
    assert_eq!(receive(&mut consumer).sequence(), 0);
}

#[test]
fn private_views_are_nobody_elses() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(10_000).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let mut other = scratch.consumer("cam").connect().unwrap();
    for number in 0..20 {
        publish(&producer);
        let frame = std::sync::Arc::new(receive(&mut consumer));
        let view = bips::PrivateView::of(frame.clone()).unwrap();
        let error = bips::PrivateView::of(frame.clone()).unwrap_err();
        assert_says(&error, ErrorKind::InvalidArgument, &["drop that one first"]);
        assert!(view.len() >= 10_000 && !view.is_empty());
        // SAFETY: the view is writable for `len` bytes and ours alone.
        let bytes = unsafe { std::slice::from_raw_parts_mut(view.as_mut_ptr(), view.len()) };
        assert_eq!(bytes[..8], u64::to_le_bytes(number));
        bytes.fill(0xee);
        assert_eq!(check(&frame), number);
        assert_eq!(receive(&mut other).sequence(), number);
        drop(view);
    }
}

// Writable streams

#[test]
fn consumers_of_a_writable_stream_write() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(5000).slots(1).writable(true).create().unwrap();
    let child = play("writes into frames", scratch.path(), 20);
    producer.wait_for_consumers(1, SOON).unwrap();
    for number in 0..=20 {
        let mut frame = producer.acquire(SOON).unwrap();
        let bytes = frame.bytes_mut();
        if number > 0 {
            assert!(bytes[..5000].iter().all(|byte| *byte == number), "what the child wrote");
        }
        bytes.fill(number);
        frame.publish(Description::new(), Fence::Signaled).unwrap();
    }
    child.finish();
}

fn write_into_frames(stage: &Stage) {
    let mut consumer = stage.consumer("cam").wait(SOON).connect().unwrap();
    assert!(consumer.writable());
    for _ in 0..=stage.number {
        let frame = consumer.receive(SOON).unwrap();
        assert!(!frame.readonly());
        // SAFETY: a writable stream's frame is ours while leased; nobody else has it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(frame.as_ptr().cast_mut(), frame.nbytes()) };
        bytes.iter_mut().for_each(|byte| *byte += 1);
    }
}

// Descriptions

#[test]
fn each_frame_says_what_it_is() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").tensor(DType::F32, &[8, 8]).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let shapes: [&[u64]; 5] = [&[8, 8], &[4, 16], &[], &[2, 2, 2, 2], &[0, 9]];
    for number in 0..60_u64 {
        let shape = shapes[number as usize % 5];
        let metadata = vec![number as u8; number as usize % 3 * 100];
        let described = Description::new().with_timestamp(number).with_metadata(&metadata);
        // Every fourth is the stream's own, so that slots change between the two.
        let own = number % 4 == 0;
        let described = if own { described } else { described.with_shape(Shape::new(shape).unwrap()) };
        producer.acquire(SOON).unwrap().publish(described, Fence::Signaled).unwrap();
        // Who joins in between has cached nothing.
        if number % 7 == 0 {
            consumer = scratch.consumer("cam").connect().unwrap();
            producer.acquire(SOON).unwrap().publish(described, Fence::Signaled).unwrap();
        }
        let frame = consumer.receive(SOON).unwrap();
        assert_eq!(frame.shape(), if own { &[8, 8] } else { shape });
        assert_eq!((frame.timestamp(), frame.metadata()), (number, &metadata[..]));
        assert!(frame.published() > 0);
        assert_eq!(frame.dtype(), DType::F32);
    }
}

/// A camera that was told of another device's rows would not write there.
#[test]
fn content_that_is_given_lies_as_given() {
    let (scratch, backend) = (Scratch::new(), Simulated::new().rows_of(256).shared());
    let content = Content::image(Fourcc::parse("RGB3").unwrap(), 65, 48).unwrap();
    let producer = Producer::builder("cam").backend(backend).directory(scratch.path());
    assert_eq!(*producer.content(content).create().unwrap().content(), content);
}

/// Drivers want the rows of an image where their device can reach them.
#[test]
fn rows_lie_as_the_memory_has_them() {
    let (scratch, backend) = (Scratch::new(), Simulated::new().rows_of(256).shared());
    let producer = Producer::builder("cam").backend(backend.clone()).directory(scratch.path());
    let producer = producer.image(Fourcc::parse("RGB3").unwrap(), 65, 48).create().unwrap();
    assert_eq!((producer.content().strides(), producer.content().nbytes()), (&[256, 3, 1][..], 256 * 48));
    let consumer = Consumer::builder("cam").registry(Registry::new().with(backend));
    let mut consumer = consumer.directory(scratch.path()).connect().unwrap();
    assert_eq!(consumer.content(), producer.content());
    let smaller = Description::new().with_shape(Shape::new(&[10, 60, 3]).unwrap());
    for (described, shape) in [(Description::new(), [48, 65, 3]), (smaller, [10, 60, 3])] {
        let mut frame = producer.acquire(SOON).unwrap();
        frame.bytes_mut()[256 * (shape[0] as usize - 1)] = 7;
        frame.publish(described, Fence::Signaled).unwrap();
        let frame = consumer.receive(SOON).unwrap();
        assert_eq!((frame.shape(), frame.strides()), (&shape[..], &[256, 3, 1][..]));
        assert_eq!((frame.planes()[0].stride, frame.nbytes() as u64), (256, 256 * shape[0]));
        let mut last_row = [0];
        frame.copy_to(256 * (shape[0] as usize - 1), &mut last_row);
        assert_eq!(last_row, [7]);
    }
}
