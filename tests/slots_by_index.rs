//! Slots that the producer's side is told to use, rather than choosing.

mod common;

use bips::{AcquireError, Description, ErrorKind, Fence, Policy, Wait};
use common::{SOON, Scratch, assert_says};
use std::time::Duration;

#[test]
fn a_leased_slot_comes_back_to_whoever_waits_for_it() {
    let scratch = Scratch::new();
    let producer = scratch.producer("by-index").bytes(100).slots(4).create().unwrap();
    let mut consumer = scratch.consumer("by-index").policy(Policy::Reliable).connect().unwrap();
    for slot in [3, 1] {
        let frame = producer.acquire_slot(slot, Wait::Now).unwrap();
        assert_eq!(frame.slot(), slot);
        frame.publish(Description::new(), Fence::Signaled).unwrap();
    }
    let leased = consumer.receive(SOON).unwrap();
    assert_eq!(producer.free_slots().unwrap(), 0b0101);
    assert_eq!(producer.acquire_slot(3, Wait::Now).unwrap_err(), AcquireError::Timeout);
    let wait = Wait::For(Duration::from_millis(20));
    assert_eq!(producer.acquire_slot(3, wait).unwrap_err(), AcquireError::Timeout);
    let said = producer.explain(AcquireError::Timeout);
    assert_says(&said, ErrorKind::Timeout, &["2 of 4 slots of by-index are taken", "release frames sooner"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.acquire_slot(3, SOON).map(|frame| frame.slot()));
        std::thread::sleep(Duration::from_millis(20)); // most likely it sleeps by then; both ways must end well
        drop(leased);
        assert_eq!(waiting.join().unwrap(), Ok(3));
    });
    assert_eq!(producer.free_slots().unwrap(), 0b1101, "given back unseen; slot 1 is unread");
}

/// As a camera's program does it: a lease for each buffer that the driver has; what comes free goes back to it.
#[test]
fn leases_say_which_buffers_the_driver_has() {
    let scratch = Scratch::new();
    let producer = scratch.producer("driver").bytes(100).slots(3).create().unwrap();
    let mut consumer = scratch.consumer("driver").policy(Policy::Reliable).connect().unwrap();
    let mut queued: Vec<_> =
        (0..3).map(|slot| Some(producer.acquire_slot(slot, Wait::Now).unwrap())).collect();
    assert_eq!(producer.acquire(Wait::Now).unwrap_err(), AcquireError::Timeout, "the driver has all");
    for round in 0..9u64 {
        let filled = queued[(round as usize * 2) % 3].take().unwrap();
        let slot = filled.slot();
        filled.publish(Description::new(), Fence::Signaled).unwrap();
        assert_eq!(producer.acquire(Wait::Now).unwrap_err(), AcquireError::Timeout, "it is not read yet");
        assert_eq!(consumer.receive(SOON).unwrap().sequence(), round);
        let free = producer.acquire(SOON).unwrap();
        assert_eq!(free.slot(), slot, "the one that came free");
        queued[slot as usize] = Some(free);
    }
}

#[test]
fn slots_that_are_none() {
    let scratch = Scratch::new();
    let producer = scratch.producer("none").bytes(100).slots(2).create().unwrap();
    for slot in [2, 63, 64, u32::MAX] {
        assert_eq!(producer.acquire_slot(slot, SOON).unwrap_err(), AcquireError::NoSuchSlot);
    }
    let said = producer.explain(AcquireError::NoSuchSlot);
    assert_says(&said, ErrorKind::InvalidArgument, &["none has slots 0 to 1"]);
    producer.close();
    assert_eq!(producer.acquire_slot(0, Wait::Now).unwrap_err(), AcquireError::Closed);
    assert_eq!(producer.free_slots().unwrap_err(), AcquireError::Closed);
}
