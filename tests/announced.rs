//! Memory that must be told when the CPU begins and ends to touch a slot: told around every lease, and nothing is lost
//! where that fails or a device is still at work.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::testing::{Operation, Simulated};
use bips::{
    AcquireError, Backend, Consumer, Description, Error, ErrorKind, Fence, FrameMut, OnStall, Policy,
    Producer, ReceiveError, Registry, Timeline, Wait,
};
use common::process::in_fork;
use common::{SOON, Scratch, eventually};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A stream of two slots in memory that must be told.
fn stream(scratch: &Scratch, backend: &Arc<Simulated>) -> (Producer, Consumer) {
    let backend: Arc<dyn Backend> = backend.clone();
    let producer = Producer::builder("told").backend(backend.clone()).bytes(100).slots(2);
    let producer = producer.directory(scratch.path()).create().unwrap();
    let consumer = Consumer::builder("told").registry(Registry::new().with(backend));
    (producer, consumer.directory(scratch.path()).connect().unwrap())
}

fn told(backend: &Simulated) -> (u32, u32) {
    (backend.calls(Operation::Begin), backend.calls(Operation::End))
}

fn publish(producer: &Producer, value: u8) -> u64 {
    let mut frame = producer.acquire(SOON).unwrap();
    frame.bytes_mut().fill(value);
    frame.publish(Description::new(), Fence::Signaled).unwrap()
}

#[test]
fn is_told_around_every_lease() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    let frame = producer.acquire(Wait::Now).unwrap();
    assert_eq!((told(&backend), backend.begun()), ((1, 0), 1 << frame.slot()));
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    assert_eq!((told(&backend), backend.begun()), ((1, 1), 0), "before anybody can read");
    let frame = consumer.receive(SOON).unwrap();
    assert_eq!(told(&backend), (2, 1));
    drop(frame);
    assert_eq!(told(&backend), (2, 2));
    producer.acquire(Wait::Now).unwrap().cancel();
    assert_eq!((told(&backend), backend.begun()), ((3, 3), 0));
}

/// What a device writes comes after the CPU's part, and is settled before anybody hears of it. Nobody waits for it who gives
/// a slot back.
#[test]
fn a_slot_can_be_a_devices() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    let mut frame = producer.acquire(Wait::Now).unwrap();
    frame.for_device().unwrap();
    assert_eq!((told(&backend), backend.begun()), ((1, 1), 0));
    frame.for_device().unwrap();
    assert_eq!((told(&backend), backend.calls(Operation::Settle)), ((1, 1), 0));
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    assert_eq!((told(&backend), backend.calls(Operation::Settle)), ((1, 1), 1));
    drop(consumer.receive(SOON).unwrap());
    let mut given_back = producer.acquire(Wait::Now).unwrap();
    given_back.for_device().unwrap();
    given_back.cancel();
    drop(producer.acquire(Wait::Now).unwrap());
    assert_eq!((told(&backend), backend.calls(Operation::Settle)), ((4, 4), 1));
}

/// A frame is published when it is there, and not by a producer that has closed meanwhile. Nothing is waited for by who
/// gives the slot back.
#[test]
fn a_publish_waits_for_the_device_until_the_producer_closes() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    let publishing = |frame: FrameMut| {
        let before = backend.calls(Operation::Settle);
        let publisher = thread::spawn(move || frame.publish(Description::new(), Fence::Signaled));
        eventually("it asks again", || backend.calls(Operation::Settle) > before + 1);
        publisher
    };
    let (mut frame, other) = (producer.acquire(Wait::Now).unwrap(), producer.acquire(Wait::Now).unwrap());
    backend.busy(0b11);
    assert!(!frame.settle(Duration::from_millis(2)).unwrap());
    other.cancel();
    let publisher = publishing(frame);
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    backend.busy(0);
    assert_eq!(publisher.join().unwrap().unwrap(), 0);

    let mut frame = producer.acquire(Wait::Now).unwrap();
    assert!(frame.settle(Duration::ZERO).unwrap());
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    for sequence in 0..2 {
        assert_eq!(consumer.receive(SOON).unwrap().sequence(), sequence);
    }

    let frame = producer.acquire(Wait::Now).unwrap();
    backend.busy(0b11);
    let publisher = publishing(frame);
    producer.close();
    assert_eq!(publisher.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

/// Of a fence that is never done, and of a long wait of the caller's own.
#[test]
fn closing_ends_each_wait_before_a_publication() {
    #[derive(Debug)]
    struct Never;
    impl Timeline for Never {
        fn value(&self) -> bips::Result<u64> {
            Ok(0)
        }

        fn wait(&self, _value: u64, timeout: Option<Duration>) -> bips::Result<()> {
            thread::sleep(timeout.expect("a wait that can end"));
            Err(Error::new(ErrorKind::Timeout, "never"))
        }
    }
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, _consumer) = stream(&scratch, &backend);
    let (fenced, mut settling) = (producer.acquire(Wait::Now).unwrap(), producer.acquire(Wait::Now).unwrap());
    backend.busy(0b11);
    let ready = Fence::Timeline(Arc::new(Never), 1);
    let fenced = thread::spawn(move || fenced.publish(Description::new(), ready).map(drop));
    let settling = thread::spawn(move || settling.settle(Duration::from_secs(3600)).map(drop));
    eventually("one waits", || backend.calls(Operation::Settle) > 0);
    producer.close();
    for waiter in [fenced, settling] {
        assert_eq!(waiter.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
}

/// What others may not see stays unpublished, also by who asks again.
#[test]
fn what_did_not_end_is_not_published() {
    let fails = |call| (Operation::End, call, ErrorKind::System);
    let backend = [fails(1), fails(2)]
        .into_iter()
        .fold(Simulated::new().announced(), |backend, (on, call, kind)| backend.fail(on, call, kind));
    let (scratch, backend) = (Scratch::new(), Arc::new(backend));
    let (producer, mut consumer) = stream(&scratch, &backend);
    let mut frame = producer.acquire(Wait::Now).unwrap();
    frame.for_device().unwrap_err();
    frame.publish(Description::new(), Fence::Signaled).unwrap_err();
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    let mut frame = producer.acquire(Wait::Now).unwrap();
    frame.for_device().unwrap();
    assert_eq!(frame.publish(Description::new(), Fence::Signaled).unwrap(), 0);
}

/// To ask why is to change nothing: no frame is given up for it, and nobody put out.
#[test]
fn an_explanation_takes_nothing_away() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let shared: Arc<dyn Backend> = backend.clone();
    let producer = Producer::builder("told").backend(shared.clone()).bytes(100).slots(3);
    let producer = producer
        .on_stall(OnStall::Expel(Duration::from_millis(1)))
        .directory(scratch.path())
        .create()
        .unwrap();
    let consumer =
        Consumer::builder("told").registry(Registry::new().with(shared)).policy(Policy::KeepLast(2));
    let mut consumer = consumer.directory(scratch.path()).connect().unwrap();
    publish(&producer, 1);
    let held = consumer.receive(SOON).unwrap();
    publish(&producer, 2);
    let writing = producer.acquire(Wait::Now).unwrap();
    assert_eq!(producer.acquire_slot(held.slot(), Wait::Now).unwrap_err(), AcquireError::Timeout);
    let said = producer.explain(AcquireError::Timeout).to_string();
    assert!(said.contains("taken"), "{said}");
    backend.busy(0b111);
    drop(writing);
    let begun = backend.calls(Operation::Begin);
    let said = producer.explain(AcquireError::Timeout).to_string();
    assert!(said.contains("a device still uses slot") && said.contains("holds 1 and has 1 unread"), "{said}");
    assert_eq!(backend.calls(Operation::Begin), begun, "nothing was begun for it");
    backend.busy(0);
    let stats = producer.stats().unwrap();
    assert_eq!((stats.evicted, stats.expelled), (0, 0));
    drop(held);
    assert_eq!(consumer.receive(Wait::Now).unwrap().sequence(), 1);
}

/// No device ends that wait; the consumer's own program does.
#[test]
fn a_wait_for_a_device_ends_with_its_consumer() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    publish(&producer, 1);
    backend.busy(0b11);
    let closer = consumer.closer();
    let waiter = thread::spawn(move || (consumer.receive(Wait::Forever).unwrap_err(), consumer));
    eventually("it waits", || backend.calls(Operation::Begin) >= 2);
    closer.close();
    let (error, consumer) = waiter.join().unwrap();
    assert_eq!((error, consumer.stats().held), (ReceiveError::Closed, 0));
    backend.busy(0);
    for value in 2..5 {
        publish(&producer, value); // nothing is held that nobody gives back
    }
}

#[test]
fn other_memory_is_told_nothing() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    publish(&producer, 1);
    drop(consumer.receive(SOON).unwrap());
    assert_eq!(told(&backend), (0, 0));
}

#[test]
fn an_acquire_that_cannot_begin_gives_the_slot_back() {
    let scratch = Scratch::new();
    let backend = Arc::new(Simulated::new().announced().fail(Operation::Begin, 1, ErrorKind::System));
    let (producer, _consumer) = stream(&scratch, &backend);
    assert_eq!(producer.acquire(Wait::Now).unwrap_err(), AcquireError::Memory);
    let error = producer.explain(AcquireError::Memory);
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().contains("planned fault: call 1 of Begin"), "{error}");
    let both = [producer.acquire(Wait::Now).unwrap(), producer.acquire(Wait::Now).unwrap()];
    assert_ne!(both[0].slot(), both[1].slot());
}

#[test]
fn a_receive_that_cannot_begin_gives_the_slot_back() {
    let scratch = Scratch::new();
    let backend = Arc::new(Simulated::new().announced().fail(Operation::Begin, 2, ErrorKind::System));
    let (producer, mut consumer) = stream(&scratch, &backend);
    publish(&producer, 1);
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Memory);
    let error = consumer.explain(ReceiveError::Memory);
    assert!(error.to_string().contains("planned fault: call 2 of Begin"), "{error}");
    assert_eq!(consumer.stats().held, 0);
    assert_eq!(publish(&producer, 2), 1);
    assert_eq!(consumer.receive(SOON).unwrap().sequence(), 1);
}

/// What others may not see is not published.
#[test]
fn a_publish_that_cannot_end_publishes_nothing() {
    let scratch = Scratch::new();
    let backend = Arc::new(Simulated::new().announced().fail(Operation::End, 1, ErrorKind::System));
    let (producer, mut consumer) = stream(&scratch, &backend);
    let frame = producer.acquire(Wait::Now).unwrap();
    let error = frame.publish(Description::new(), Fence::Signaled).unwrap_err();
    assert!(error.to_string().contains("planned fault"), "{error}");
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    assert_eq!(publish(&producer, 3), 0, "the sequence was not used");
    assert_eq!(consumer.receive(SOON).unwrap().sequence(), 0);
}

#[test]
fn a_slot_that_a_device_uses_is_passed_over() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, _consumer) = stream(&scratch, &backend);
    for free in [0, 1] {
        backend.busy(0b11 & !(1 << free));
        assert_eq!(producer.acquire(Wait::Now).unwrap().slot(), free);
    }
    backend.busy(0b11);
    assert_eq!(producer.acquire(Wait::Now).unwrap_err(), AcquireError::Timeout);
    let soon = Wait::For(Duration::from_millis(20));
    assert_eq!(producer.acquire(soon).unwrap_err(), AcquireError::Timeout);
    let said = producer.explain(AcquireError::Timeout).to_string();
    assert!(said.contains("has slots 0, 1 of told, but a device still uses them"), "{said}");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.acquire(SOON).unwrap().slot());
        backend.busy(0b01);
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

/// It is not lost with the time: the next receive goes on waiting for it.
#[test]
fn a_frame_that_a_device_writes_is_the_next_receives() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    publish(&producer, 1);
    backend.busy(0b11);
    for wait in [Wait::Now, Wait::For(Duration::from_millis(20))] {
        assert_eq!(consumer.receive(wait).unwrap_err(), ReceiveError::Timeout);
        assert_eq!(consumer.stats().held, 1);
    }
    backend.busy(0);
    assert_eq!(consumer.receive(Wait::Now).unwrap().sequence(), 0);
    assert_eq!(consumer.stats().held, 0);
    assert_eq!(consumer.stats().received, 1);
}

/// Given up with its consumer, it goes back like any other.
#[test]
fn an_unfinished_frame_goes_back_with_its_consumer() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    publish(&producer, 1);
    backend.busy(0b11);
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    drop(consumer);
    backend.busy(0);
    let both = [producer.acquire(SOON).unwrap(), producer.acquire(SOON).unwrap()];
    assert_ne!(both[0].slot(), both[1].slot());
}

/// An event loop must come back for it, although nothing is published meanwhile.
#[test]
fn a_poll_descriptor_stays_readable_for_an_unfinished_frame() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    let number = consumer.poll_fd().unwrap();
    publish(&producer, 1);
    backend.busy(0b11);
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    let mut poll = libc::pollfd { fd: number, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, for as long as the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, common::PATIENCE.as_millis() as i32) };
    assert_eq!(ready, 1);
    backend.busy(0);
    assert_eq!(consumer.receive(Wait::Now).unwrap().sequence(), 0);
}

/// Its copies of the leases are the parent's, and so is what was begun, also on a frame not finished yet.
#[test]
fn a_forked_child_ends_nothing() {
    let (scratch, backend) = (Scratch::new(), Arc::new(Simulated::new().announced()));
    let (producer, mut consumer) = stream(&scratch, &backend);
    publish(&producer, 1);
    let mut reading = Some(consumer.receive(SOON).unwrap());
    let mut writing = Some(producer.acquire(SOON).unwrap());
    let before = told(&backend);
    in_fork(|| {
        drop((reading.take(), writing.take()));
        assert_eq!(told(&backend), before);
    });
    drop((reading, writing));
    assert_eq!(told(&backend), (before.0, before.1 + 2));

    publish(&producer, 2);
    backend.busy(0b11);
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    in_fork(|| {
        for _ in 0..2 {
            assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Forked);
        }
    });
    backend.busy(0);
    assert_eq!(consumer.receive(Wait::Now).unwrap().sequence(), 1);
}
