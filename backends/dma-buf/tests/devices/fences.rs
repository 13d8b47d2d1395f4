//! Devices that are still at work when a frame is published, received or given back.

use crate::vgem::Work;
use crate::{SOON, Scratch, are_here};
use bips::{Access, AcquireError, Description, Fence, ReceiveError, Timeline, Wait};
use bips_dma_buf::{DmaBuf, SyncFile};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// No time is judged: it only has to be long enough for a call that doesn't wait to have returned.
const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn a_consumer_waits_for_the_device_that_writes() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let Some(work) = Work::begin() else { return };
    let scratch = Scratch::new();
    let producer = scratch.producer("dma-heap").create().unwrap();
    let mut consumer = scratch.consumer().connect().unwrap();
    let frame = producer.acquire(SOON).unwrap();
    work.file.attach(frame.fd().unwrap().0, Access::Write).unwrap();
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    for wait in [Wait::Now, Wait::For(A_WHILE)] {
        assert_eq!(consumer.receive(wait).unwrap_err(), ReceiveError::Timeout);
    }
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let frame = consumer.receive(SOON).unwrap();
            (frame.sequence(), work.file.is_done().unwrap())
        });
        thread::sleep(A_WHILE);
        work.finish();
        assert_eq!(received.join().unwrap(), (0, true));
    });
}

/// A device of a consumer may read on after the lease; other consumers read meanwhile, and the producer waits.
#[test]
fn a_producer_waits_for_the_device_that_reads() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let Some(work) = Work::begin() else { return };
    let scratch = Scratch::new();
    let producer = scratch.producer("dma-heap").slots(1).create().unwrap();
    let mut consumers = [scratch.consumer().connect().unwrap(), scratch.consumer().connect().unwrap()];
    let frame = producer.acquire(SOON).unwrap();
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    let frame = consumers[0].receive(SOON).unwrap();
    work.file.attach(frame.fd().unwrap().0, Access::Read).unwrap();
    drop(frame);
    drop(consumers[1].receive(Wait::Now).expect("reading beside a reader"));
    for wait in [Wait::Now, Wait::For(A_WHILE)] {
        assert_eq!(producer.acquire(wait).unwrap_err(), AcquireError::Timeout);
    }
    let said = producer.explain(AcquireError::Timeout).to_string();
    assert!(said.contains("but a device still uses it"), "{said}");
    thread::scope(|scope| {
        let acquired = scope.spawn(|| producer.acquire(SOON).map(|_| work.file.is_done().unwrap()));
        thread::sleep(A_WHILE);
        work.finish();
        assert_eq!(acquired.join().unwrap(), Ok(true));
    });
}

/// Consumers of a udmabuf have no dma-buf to ask, so a frame is published when the device is done.
#[test]
fn a_udmabuf_is_published_when_the_device_is_done() {
    if !are_here(&["udmabuf"]) {
        return;
    }
    let Some(work) = Work::begin() else { return };
    let scratch = Scratch::new();
    let producer = scratch.producer("udmabuf").create().unwrap();
    let mut consumer = scratch.consumer().connect().unwrap();
    let frame = producer.acquire(SOON).unwrap();
    let (fd, offset) = frame.fd().unwrap();
    assert_eq!((DmaBuf::new(fd.try_clone().unwrap()).unwrap().len(), offset), (12_288, 0));
    work.file.attach(fd, Access::Write).unwrap();
    thread::scope(|scope| {
        let (say, thread) = channel();
        let published = scope.spawn(move || {
            say.send(nix::unistd::gettid()).unwrap();
            frame.publish(Description::new(), Fence::Signaled).unwrap()
        });
        let call = format!("/proc/self/task/{}/syscall", thread.recv().unwrap());
        for _ in 0..10 {
            assert_eq!(consumer.receive(Wait::For(A_WHILE / 10)).unwrap_err(), ReceiveError::Timeout);
            // Not inside the driver, which would have looked after the caches by now.
            let call = std::fs::read_to_string(&call).unwrap();
            assert_ne!(call.split(' ').next().unwrap(), libc::SYS_ioctl.to_string());
        }
        assert!(!published.is_finished());
        work.finish();
        assert_eq!(published.join().unwrap(), 0);
    });
    assert_eq!(consumer.receive(SOON).unwrap().sequence(), 0);
}

/// A slot of the udmabuf's that a device still reads is passed over; slots have fences of their own.
#[test]
fn slots_of_a_udmabuf_wait_apart() {
    if !are_here(&["udmabuf"]) {
        return;
    }
    let Some(work) = Work::begin() else { return };
    let scratch = Scratch::new();
    let producer = scratch.producer("udmabuf").slots(2).create().unwrap();
    let frame = producer.acquire(Wait::Now).unwrap();
    let slot = frame.slot();
    work.file.attach(frame.fd().unwrap().0, Access::Read).unwrap();
    frame.cancel();
    let other = producer.acquire(Wait::Now).unwrap();
    assert_ne!(other.slot(), slot);
    assert_eq!(producer.acquire(Wait::Now).unwrap_err(), AcquireError::Timeout);
    work.finish();
    assert_eq!(producer.acquire(Wait::Now).unwrap().slot(), slot);
}

/// A sync file given to publish is waited for like any fence.
#[test]
fn a_sync_file_is_a_fence() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let Some(work) = Work::begin() else { return };
    let short = Some(Duration::from_millis(10));
    assert_eq!((work.file.value().unwrap(), work.file.wait(0, short).is_ok()), (0, true));
    assert_eq!(work.file.wait(1, short).unwrap_err().kind(), bips::ErrorKind::Timeout);
    let scratch = Scratch::new();
    let producer = scratch.producer("dma-heap").create().unwrap();
    let frame = producer.acquire(SOON).unwrap();
    // By way of a buffer and back: the same work.
    work.file.attach(frame.fd().unwrap().0, Access::Write).unwrap();
    let ready = SyncFile::of(frame.fd().unwrap().0, Access::Write).unwrap();
    thread::scope(|scope| {
        let published = scope.spawn(|| frame.publish(Description::new(), ready.into()).unwrap());
        thread::sleep(A_WHILE);
        assert!(!published.is_finished());
        work.finish();
        assert_eq!(published.join().unwrap(), 0);
    });
    assert_eq!(work.file.value().unwrap(), 1);
}

/// Of a buffer that nobody uses: done.
#[test]
fn an_idle_buffer_has_nothing_to_wait_for() {
    if !are_here(&["dma-heap"]) {
        return;
    }
    let scratch = Scratch::new();
    let producer = scratch.producer("dma-heap").create().unwrap();
    let frame = producer.acquire(SOON).unwrap();
    for access in [Access::Read, Access::Write] {
        assert!(SyncFile::of(frame.fd().unwrap().0, access).unwrap().is_done().unwrap());
    }
}
