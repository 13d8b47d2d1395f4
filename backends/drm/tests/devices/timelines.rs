//! Timelines of DRM, between processes.

use crate::common::node;
use crate::vgem::Work;
use crate::{backend, in_role, said};
use bips::{
    Access, AcquireError, Consumer, Description, ErrorKind, Fence, Producer, ReceiveError, Registry,
    Timeline, Wait,
};
use bips_drm::SyncTimeline;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// No time is judged: it only has to be long enough for a call that doesn't wait to have returned.
const A_WHILE: Duration = Duration::from_millis(100);

const SOON: Option<Duration> = Some(Duration::from_secs(30));

/// One of virtio-gpu, where there is such a device.
#[track_caller]
fn timeline() -> Option<SyncTimeline> {
    backend("drm", "virtio_gpu")?;
    Some(SyncTimeline::create(Some(&node("virtio_gpu", false))).unwrap())
}

#[test]
fn rises_and_never_turns_back() {
    let Some(timeline) = timeline() else { return };
    assert_eq!(timeline.value().unwrap(), 0);
    timeline.wait(0, Some(Duration::ZERO)).unwrap();
    for value in [1, 2, 1000] {
        let early = timeline.wait(value, Some(Duration::from_millis(1))).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::Timeout, "{early}");
        timeline.signal(value).unwrap();
        assert_eq!(timeline.value().unwrap(), value);
        timeline.wait(value, SOON).unwrap();
    }
    timeline.wait(7, SOON).unwrap();
    for value in [0, 7, 1000] {
        let error = timeline.signal(value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("stands at 1000"), "{error}");
    }
}

/// Acquire and release: what a device works on is a point of a timeline, then a fence on a slot, then a sync file again.
#[test]
fn work_of_a_device_goes_from_timelines_to_slots_and_back() {
    let Some(timeline) = timeline() else { return };
    let Some(work) = Work::begin() else { return };
    let early = timeline.sync_file(5).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::InvalidArgument, "{early}");
    timeline.reach(5, &work.file).unwrap();
    assert_eq!(timeline.value().unwrap(), 0);
    assert_eq!(timeline.wait(5, Some(A_WHILE)).unwrap_err().kind(), ErrorKind::Timeout);
    for value in [4, 5] {
        assert!(timeline.signal(value).unwrap_err().to_string().contains("stands at 5"));
        assert!(timeline.reach(value, &work.file).unwrap_err().to_string().contains("stands at 5"));
    }
    let backend = backend("drm", "virtio_gpu").expect("it has the timeline");
    let scratch = tempfile::tempdir().unwrap();
    let producer = Producer::builder("display").backend(backend.clone()).directory(scratch.path());
    let producer = producer.bytes(4096).slots(1).create().unwrap();
    let consumer = Consumer::builder("display").registry(Registry::new().with(backend));
    let mut consumer = consumer.directory(scratch.path()).connect().unwrap();
    let frame = producer.acquire(Wait::Now).unwrap();
    timeline.sync_file(5).unwrap().attach(frame.fd().unwrap().0, Access::Write).unwrap();
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    assert_eq!(consumer.receive(Wait::For(A_WHILE)).unwrap_err(), ReceiveError::Timeout);
    work.finish();
    let frame = consumer.receive(Wait::For(Duration::from_secs(30))).unwrap();
    timeline.wait(5, SOON).unwrap();
    assert_eq!(timeline.value().unwrap(), 5);
    // The consumer's device reads on after the lease.
    let Some(work) = Work::begin() else { return };
    timeline.reach(6, &work.file).unwrap();
    timeline.sync_file(6).unwrap().attach(frame.fd().unwrap().0, Access::Read).unwrap();
    drop(frame);
    assert_eq!(producer.acquire(Wait::For(A_WHILE)).unwrap_err(), AcquireError::Timeout);
    work.finish();
    producer.acquire(Wait::For(Duration::from_secs(30))).unwrap();
    assert_eq!(timeline.value().unwrap(), 6);
}

/// What will signal it need not be known yet when somebody begins to wait.
#[test]
fn another_process_signals_what_is_waited_for() {
    let Some(timeline) = timeline() else { return };
    let exported = timeline.export().unwrap();
    let child = in_role("signal", "5").stdin(exported).spawn().unwrap();
    let fence = Fence::Timeline(Arc::new(timeline), 5);
    fence.wait().unwrap();
    let said = said(child);
    let Fence::Timeline(timeline, _) = fence else { unreachable!("made above") };
    assert_eq!(timeline.value().unwrap(), 5, "{said}");
}

pub(crate) fn signal(value: &str) {
    // The parent gave it as the standard input. Any node with timelines will do.
    let timeline = SyncTimeline::import(std::io::stdin(), None).unwrap();
    assert_eq!(timeline.value().unwrap(), 0);
    std::thread::sleep(Duration::from_millis(50));
    timeline.signal(value.parse().unwrap()).unwrap();
}

#[test]
fn drivers_without_timelines_are_named() {
    if backend("drm", "vgem").is_none() {
        return;
    }
    let error = SyncTimeline::create(Some(&node("vgem", false))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("(vgem) has none (SYNCOBJ_TIMELINE is 0)"), "{error}");
}

#[test]
fn other_descriptors_are_no_timelines() {
    let Some(_) = timeline() else { return };
    let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let error = SyncTimeline::import(&null, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}
