//! A fork of a process that produces or consumes: the handles stay the parent's, the child gets its own.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{AcquireError, Description, Error, ErrorKind, Fence, ReceiveError, Wait};
use common::process::in_fork;
use common::{Over, SOON, Scratch, assert_says, publish, receive};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

fn assert_forked(error: &Error) {
    assert_says(error, ErrorKind::Forked, &["belongs to the parent", "open the stream anew", "spawn"]);
}

const WAITS: [Wait; 3] = [Wait::Now, Wait::For(Duration::from_secs(1)), Wait::Forever];

#[test]
fn every_call_on_a_producer_answers_forked() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut frame = Some(producer.acquire(Wait::Now).unwrap());
    in_fork(|| {
        assert!(producer.is_forked());
        for wait in WAITS {
            let error = producer.acquire(wait).unwrap_err();
            assert_eq!(error, AcquireError::Forked);
            assert_forked(&producer.explain(error));
            assert_forked(&producer.wait_for_consumers(1, wait).unwrap_err());
        }
        assert_forked(&producer.explain(AcquireError::Timeout));
        assert_forked(&producer.stats().unwrap_err());
        let frame = frame.take().unwrap();
        let hold = frame.hold();
        drop(hold.clone());
        assert_forked(&frame.publish(Description::new(), Fence::Signaled).unwrap_err());
    });
    assert!(!producer.is_forked());
    let frame = frame.take().unwrap();
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    assert_eq!(producer.stats().unwrap().published, 1);
}

#[test]
fn every_call_on_a_consumer_answers_forked() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    let mut frame = Some(receive(&mut consumer));
    publish(&producer);
    in_fork(|| {
        for wait in WAITS {
            let error = consumer.receive(wait).unwrap_err();
            assert_eq!(error, ReceiveError::Forked);
            assert_forked(&consumer.explain(error));
        }
        assert_forked(&consumer.poll_fd().unwrap_err());
        assert_forked(&frame.take().unwrap().private().unwrap_err());
    });
    assert_eq!(consumer.stats().held, 1, "the child's drop gave the lease back");
    assert_eq!(common::check(frame.as_ref().unwrap()), 0);
    assert_eq!(receive(&mut consumer).sequence(), 1);
}

/// What the child drops is only its copy.
#[test]
fn dropping_in_the_child_changes_nothing_for_the_parent() {
    let scratch = Scratch::new();
    let mut producer = Some(scratch.producer("a/cam").bytes(100).slots(4).create().unwrap());
    let mut consumer = Some(scratch.consumer("a/cam").connect().unwrap());
    consumer.as_mut().unwrap().poll_fd().unwrap();
    for _ in 0..2 {
        publish(producer.as_ref().unwrap());
    }
    let mut frame = Some(receive(consumer.as_mut().unwrap()));
    let mut view = Some(receive(consumer.as_mut().unwrap()).private().unwrap());
    let mut writing = Some(producer.as_ref().unwrap().acquire(Wait::Now).unwrap());
    let mut hold = Some(writing.as_ref().unwrap().hold());
    let before = scratch.files();
    in_fork(|| {
        drop((frame.take(), view.take(), writing.take(), hold.take()));
        producer.as_ref().unwrap().close();
        drop((consumer.take(), producer.take()));
        // The numbers of the descriptors are the child's again, and no late drop closes them once more.
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/zero").unwrap()).collect();
        assert!(files.iter().all(|file| file.metadata().is_ok()));
    });
    assert_eq!(scratch.files(), before, "the child gave the name back");
    let producer = producer.as_ref().unwrap();
    let error = scratch.producer("a/cam").bytes(1).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    let seen = producer.stats().unwrap().consumers;
    assert_eq!(seen.len(), 1, "the child hung up");
    assert_eq!(seen[0].held, 2, "the child gave leases back");
    // Two slots are leased, one is being written, one is free.
    let last = producer.acquire(Wait::Now).unwrap();
    assert_eq!(producer.acquire(Wait::Now).unwrap_err(), AcquireError::Timeout);
    drop((last, writing.take(), hold.take()));
    assert_eq!(common::check(frame.as_ref().unwrap()), 0);
    assert_eq!(common::check(view.as_ref().unwrap().frame()), 1);
    drop((frame.take(), view.take()));
    for number in 2..20 {
        assert_eq!(publish(producer), number);
        assert_eq!(receive(consumer.as_mut().unwrap()).sequence(), number);
    }
}

#[test]
fn a_child_opens_streams_of_its_own() {
    let scratch = Scratch::new();
    let producer = scratch.producer("parent").bytes(100).create().unwrap();
    let child = common::process::fork(|| {
        let mut consumer = scratch.consumer("parent").connect().unwrap();
        let producer = scratch.producer("child").bytes(100).create().unwrap();
        producer.wait_for_consumers(1, SOON).unwrap();
        for _ in 0..10 {
            receive(&mut consumer);
            publish(&producer);
        }
        let error = consumer.receive(SOON).unwrap_err();
        assert_eq!(error, ReceiveError::Closed);
    });
    let mut consumer = scratch.consumer("child").wait(SOON).connect().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    for number in 0..10 {
        assert_eq!(publish(&producer), number);
        receive(&mut consumer);
    }
    drop(producer);
    child.join();
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
}

/// Whatever locks other threads hold at the moment of the fork, the child waits for none of them.
#[test]
fn forking_in_the_middle_of_everything() {
    let scratch = Scratch::new();
    let producer = Arc::new(scratch.producer("cam").bytes(100).create().unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&done);
        scope.spawn(|| {
            while !done.load(Relaxed) {
                if let Ok(frame) = producer.acquire(Wait::Now) {
                    frame.publish(Description::new(), Fence::Signaled).unwrap();
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let mut consumer = scratch.consumer("cam").policy(common::LATEST).connect().unwrap();
                consumer.poll_fd().unwrap();
                // The last one comes too late for any frame.
                let _ = consumer.receive(Wait::For(Duration::from_millis(20)));
            }
        });
        let mut consumer = Some(scratch.consumer("cam").policy(common::LATEST).connect().unwrap());
        let mut producer = Some(producer.clone());
        for _ in 0..100 {
            let frame = consumer.as_mut().unwrap().receive(SOON).unwrap();
            let mut frame = Some(frame);
            in_fork(|| {
                assert_eq!(
                    producer.as_ref().unwrap().acquire(Wait::Forever).unwrap_err(),
                    AcquireError::Forked
                );
                let error = consumer.as_mut().unwrap().receive(Wait::Forever).unwrap_err();
                assert_eq!(error, ReceiveError::Forked);
                assert!(producer.as_ref().unwrap().stats().is_err());
                drop((frame.take(), consumer.take(), producer.take()));
            });
        }
    });
}
