//! Frames published before the producer's device is done with them: nobody reads them as whole before, the slot is nobody's to
//! write, and a device that fails or dies keeps nobody waiting.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::testing::Hand;
use bips::{AcquireError, Consumer, Description, ErrorKind, Fence, Frame, Producer, ReceiveError, Wait};
use common::process::{Role, Stage, child, play};
use common::{SOON, Scratch, eventually};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(50);

/// The producer, a consumer that waits for devices, and one that doesn't.
fn stream(scratch: &Scratch) -> (Producer, Consumer, Consumer) {
    let producer = scratch.producer("open").bytes(100).slots(3).create().unwrap();
    let waits = scratch.consumer("open").connect().unwrap();
    let explicit = scratch.consumer("open").explicit_sync(true).connect().unwrap();
    (producer, waits, explicit)
}

/// Publishes a frame that the device writes when it reaches `at`.
fn publish(producer: &Producer, device: &Arc<Hand>, at: u64) -> bips::SlotHold {
    let frame = producer.acquire(SOON).unwrap();
    let slot = frame.hold();
    frame.publish(Description::new(), Fence::Timeline(device.clone(), at)).unwrap();
    slot
}

/// The device writes.
fn write(slot: &bips::SlotHold, byte: u8) {
    // SAFETY: the slot is held, and this long; whoever reads waits for the fence.
    unsafe { slot.as_mut_ptr().write_bytes(byte, 100) };
}

fn bytes(frame: &Frame) -> [u8; 100] {
    let mut bytes = [0; 100];
    frame.copy_to(0, &mut bytes);
    bytes
}

#[test]
fn who_reads_waits_for_the_device_and_who_publishes_does_not() {
    let scratch = Scratch::new();
    let (producer, mut waits, mut explicit) = stream(&scratch);
    let device = Arc::new(Hand::default());
    let slot = publish(&producer, &device, 1);
    assert_eq!(waits.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    assert_eq!(waits.receive(Wait::For(SHORT)).unwrap_err(), ReceiveError::Timeout);
    let early = explicit.receive(SOON).unwrap();
    let Fence::Timeline(ready, 1) = early.ready() else { panic!("the device is at work") };
    assert_eq!(ready.value().unwrap(), 0);
    assert_eq!(ready.wait(1, Some(SHORT)).unwrap_err().kind(), ErrorKind::Timeout);
    let waiter = thread::spawn(move || (waits.receive(SOON).map(|frame| bytes(&frame)), waits));
    let other = thread::spawn(move || (early.ready().wait(), bytes(&early)));
    thread::sleep(SHORT);
    write(&slot, 7);
    device.reach(1);
    let (received, waits) = waiter.join().unwrap();
    assert_eq!(received.unwrap(), [7; 100]);
    let (ready_in_time, seen) = other.join().unwrap();
    ready_in_time.unwrap();
    assert_eq!(seen, [7; 100]);
    // Past: the word may be another frame's by now.
    assert_eq!(ready.value().unwrap(), 1);
    assert_eq!(ready.wait(2, Some(SHORT)).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!((waits.stats().received, waits.stats().missed), (1, 0));
}

/// A loop that polls sleeps while the device works, and is woken when it is done, also if newer frames are there.
#[test]
fn a_descriptor_is_readable_when_the_frame_is_whole() {
    let scratch = Scratch::new();
    let (producer, mut waits, _) = stream(&scratch);
    let fd = waits.poll_fd().unwrap();
    // SAFETY: the consumer keeps it open.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let readable = |timeout: Duration| {
        let mut polled = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
        let timeout: nix::poll::PollTimeout = timeout.try_into().unwrap();
        nix::poll::poll(&mut polled, timeout).unwrap() == 1
    };
    let (slow, fast) = (Arc::new(Hand::default()), Arc::new(Hand::default()));
    fast.reach(1);
    for round in 0..20 {
        drop(publish(&producer, &slow, round + 1));
        drop(publish(&producer, &fast, 1));
        assert!(readable(Duration::from_secs(20)), "there is something to look at");
        // What the second publication rang for may still be on its way, once.
        let mut looks = 0;
        while readable(Duration::from_millis(5)) {
            assert_eq!(waits.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
            looks += 1;
            assert!(looks < 10, "it says again and again that there is something");
        }
        slow.reach(round + 1);
        assert!(readable(Duration::from_secs(20)), "the device is done");
        for sequence in [2 * round, 2 * round + 1] {
            assert_eq!(waits.receive(SOON).unwrap().sequence(), sequence);
        }
    }
}

#[test]
fn a_frame_whose_device_fails_is_missed() {
    let scratch = Scratch::new();
    let (producer, mut waits, mut explicit) = stream(&scratch);
    let (fails, works) = (Arc::new(Hand::default()), Arc::new(Hand::default()));
    drop((publish(&producer, &fails, 1), publish(&producer, &works, 1)));
    let early = explicit.receive(SOON).unwrap();
    let receiver = thread::spawn(move || (waits.receive(SOON).unwrap().sequence(), waits));
    thread::sleep(SHORT);
    works.reach(1);
    fails.fail();
    let (sequence, waits) = receiver.join().unwrap();
    assert_eq!((sequence, waits.stats().received, waits.stats().missed), (1, 1, 1));
    assert_eq!(early.ready().wait().unwrap_err().kind(), ErrorKind::Lost);
    // What failed before it was published is the publisher's.
    let frame = producer.acquire(SOON).unwrap();
    let error = frame.publish(Description::new(), Fence::Timeline(fails, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    let info = producer.stats().unwrap().consumers;
    let counted: Vec<_> = info.iter().map(|it| (it.received, it.missed)).collect();
    assert!(counted.contains(&(1, 1)), "{counted:?}");
}

/// Nobody reads it, and still it is not written again.
#[test]
fn a_slot_is_not_given_out_before_its_device_is_done() {
    let scratch = Scratch::new();
    let producer = scratch.producer("open").bytes(100).slots(2).create().unwrap();
    let device = Arc::new(Hand::default());
    for at in [1, 2] {
        drop(publish(&producer, &device, at));
    }
    assert_eq!(producer.acquire(Wait::For(SHORT)).unwrap_err(), AcquireError::Timeout);
    let waiter = thread::spawn(move || (producer.acquire(SOON).map(|frame| frame.slot()), producer));
    device.reach(1);
    let (slot, producer) = waiter.join().unwrap();
    slot.unwrap();
    device.reach(2);
    eventually("all are free", || producer.acquire(Wait::Now).is_ok());
}

#[test]
fn the_end_of_a_stream_waits_for_its_devices() {
    let scratch = Scratch::new();
    let (producer, mut waits, _) = stream(&scratch);
    let device = Arc::new(Hand::default());
    let slot = publish(&producer, &device, 1);
    let closing = thread::spawn(move || {
        let begin = Instant::now();
        drop(producer);
        begin.elapsed()
    });
    eventually("it is closed", || waits.ending().is_some());
    assert_eq!(waits.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout, "one more is under way");
    thread::sleep(SHORT);
    write(&slot, 9);
    device.reach(1);
    assert_eq!(bytes(&waits.receive(SOON).unwrap()), [9; 100]);
    assert_eq!(waits.receive(SOON).unwrap_err(), ReceiveError::Closed);
    assert!(closing.join().unwrap() >= SHORT);
    drop(slot);
}

#[test]
fn a_slot_comes_back_when_the_readers_device_is_done() {
    let scratch = Scratch::new();
    let producer = scratch.producer("open").bytes(100).slots(1).create().unwrap();
    let mut consumer = scratch.consumer("open").connect().unwrap();
    let publish = |producer: &Producer, wait| {
        producer.acquire(wait).map(|frame| frame.publish(Description::new(), Fence::Signaled).unwrap())
    };
    for (value, fails) in [(1, false), (2, true)] {
        publish(&producer, SOON).unwrap();
        let device = Arc::new(Hand::default());
        let frame = consumer.receive(SOON).unwrap();
        frame.release(Fence::Timeline(device.clone(), value)).unwrap();
        assert_eq!(publish(&producer, Wait::For(SHORT)).unwrap_err(), AcquireError::Timeout);
        if fails {
            device.fail()
        } else {
            device.reach(value)
        }
        let frame = producer.acquire(SOON).unwrap();
        frame.cancel();
    }
    // One that has failed already is told.
    publish(&producer, SOON).unwrap();
    let failed = Arc::new(Hand::default());
    failed.fail();
    let error = consumer.receive(SOON).unwrap().release(Fence::Timeline(failed, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    producer.acquire(SOON).unwrap().cancel();
}

/// Publishes a whole frame and one whose device never ends, and is killed.
fn dies(stage: &Stage) {
    let producer = common::producer(&stage.directory, "open").bytes(100).slots(3).create().unwrap();
    producer.wait_for_consumers(2, SOON).unwrap();
    producer.acquire(SOON).unwrap().publish(Description::new(), Fence::Signaled).unwrap();
    drop(publish(&producer, &Arc::new(Hand::default()), 1));
    stage.say("published");
    thread::sleep(Duration::from_secs(3600));
}

const ROLES: &[Role] = &[("dies", dies)];

#[test]
fn child_process() {
    child(ROLES);
}

/// Who waits hears of it at once, and never takes the frame for whole.
#[test]
fn who_waits_for_a_device_that_died_is_released() {
    let scratch = Scratch::new();
    let mut peer = play("dies", scratch.path(), 0);
    let mut waits = scratch.consumer("open").wait(SOON).connect().unwrap();
    let mut explicit = scratch.consumer("open").wait(SOON).explicit_sync(true).connect().unwrap();
    peer.expect("published");
    assert_eq!(waits.receive(SOON).unwrap().sequence(), 0);
    drop(explicit.receive(SOON).unwrap());
    let early = explicit.receive(SOON).unwrap();
    let receiver = thread::spawn(move || (waits.receive(Wait::Forever).unwrap_err(), waits));
    let waiter = thread::spawn(move || early.ready().wait().unwrap_err().kind());
    thread::sleep(SHORT);
    let killed = Instant::now();
    peer.signal(nix::sys::signal::Signal::SIGKILL);
    let (error, waits) = receiver.join().unwrap();
    assert_eq!((error, waits.stats().missed), (ReceiveError::Closed, 1));
    assert_eq!(waiter.join().unwrap(), ErrorKind::Lost);
    println!("released {:?} after the producer was killed", killed.elapsed());
}
