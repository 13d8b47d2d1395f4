//! Timelines of DRM, between processes.

use crate::common::node;
use crate::{backend, in_role, said};
use bips::{ErrorKind, Fence, Timeline};
use bips_drm::SyncTimeline;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

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
