//! `bips capture`: a camera's frames, as consumers get them. What needs one runs with the kernel's virtual camera.

#[path = "../../camera/tests/common/mod.rs"]
mod camera;
mod common;

use bips::{Consumer, Content, Ending, Fourcc, Frame, ReceiveError, Wait};
use bips_v4l2::{Code, Layout};
use camera::{SIZE, Vivid, assert_bars, code, streaming, vivid};
use common::{House, LIMIT};
use nix::sys::signal::Signal;
use std::os::unix::fs::MetadataExt;

const SOON: Wait = Wait::For(LIMIT);

#[test]
fn a_wrong_value_is_told_what_would_be_right() {
    let house = House::new();
    for (words, right) in [
        ("capture", "<DEVICE>"),
        ("capture /dev/video0", "<NAME>"),
        ("capture /dev/null cam --size 64", "1920x1080"),
        ("capture /dev/null cam --format RGB24", "use one of NV12"),
        ("capture /dev/null cam --format mjpg", "did you mean MJPG?"),
        ("capture /dev/null cam --fps 0", "frames per second"),
        ("capture /dev/null cam --slots 1", "from 2 to 32"),
        ("capture /dev/null cam --slots 33", "from 2 to 32"),
        ("capture /dev/null cam --slots 4 --queued 4", "1 to 3"),
        ("capture /dev/null cam --slots 4 --history 3", "more --slots than 4"),
        ("capture /dev/null cam --input -1", "from 0 to 63"),
    ] {
        let told = house.run(words).expect_code(2).stderr;
        assert!(told.contains(right), "{words}: {told}");
    }
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn what_is_no_camera_is_told() {
    let house = House::new();
    house.run("capture /dev/video-none cam").expect_failure(3, "`bips capture --list` shows the cameras");
    house.run("capture /dev/null cam").expect_failure(2, "/dev/null is no camera that can be captured from");
    house.run("capture /etc/passwd cam").expect_failure(2, "it is no video device");
    house.run("capture /dev cam").expect_failure(1, "can't open camera /dev");
    house.run("capture --list /dev/null").expect_failure(2, "no camera");
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

/// Joins a stream that its producer has yet to make.
fn join(house: &House, name: &str) -> Consumer {
    Consumer::builder(name)
        .registry(bips_backends::registry())
        .directory(house.path())
        .wait(SOON)
        .connect()
        .expect("the capture begins")
}

#[track_caller]
fn receive(consumer: &mut Consumer) -> Frame {
    consumer.receive(SOON).unwrap_or_else(|error| panic!("{}", consumer.explain(error)))
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.nbytes()];
    frame.copy_to(0, &mut bytes);
    bytes
}

fn words(vivid: &Vivid, rest: &str) -> String {
    format!("capture {} cam --size {}x{} --fps 30 {rest}", vivid.path.display(), SIZE.0, SIZE.1)
}

fn is_multi_planar(vivid: &Vivid) -> bool {
    vivid.open().offers().iter().any(|offer| offer.code == code("NM12"))
}

/// Those that the camera and the test can show: pixels, in one piece.
fn plain_formats(vivid: &Vivid) -> Vec<Code> {
    let camera = vivid.open();
    let offers = camera.offers();
    let known = offers.iter().filter(|offer| offer.code.is_known() && !offer.compressed);
    let plain = known.map(|offer| offer.code).filter(|code| {
        let mode = camera.set_mode(*code, Some(SIZE)).expect("it offers that");
        mode.planes.len() == 1
    });
    plain.collect()
}

#[test]
fn three_hundred_frames_come_whole_in_order_and_uncopied() {
    const FRAMES: u64 = 300;
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let expected = vivid.read(code("RGB3"), SIZE);
    assert_bars(&expected, SIZE, "what read(2) gives");
    let capture =
        house.start(&words(&vivid, &format!("--format RGB3 --count {FRAMES} --consumers 1 --json")));
    let mut consumer = join(&house, "cam");
    let (mut inodes, mut last) = (Vec::new(), 0);
    for number in 0..FRAMES {
        let frame = receive(&mut consumer);
        assert_eq!(frame.sequence(), number);
        let content = Content::image(Fourcc::parse("RGB3").unwrap(), SIZE.0, SIZE.1).unwrap();
        assert_eq!(frame.content(), &content);
        assert!(bytes(&frame) == expected, "frame {number} is not what the camera shows");
        // The driver's time, of the same clock: vivid's lies ahead, at the end of the exposure that it plays.
        assert!(last < frame.timestamp() && frame.timestamp() != frame.published(), "frame {number}");
        assert!(frame.timestamp().abs_diff(frame.published()) < LIMIT.as_nanos() as u64, "frame {number}");
        last = frame.timestamp();
        let fd = std::fs::File::from(frame.fd().unwrap().0);
        inodes.push(fd.metadata().unwrap().ino());
        assert!(frame.readonly());
    }
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    assert_eq!(consumer.ending(), Some(Ending::Closed));
    inodes.dedup();
    assert_eq!(inodes.len(), 1, "all in the one pool");
    let summary = capture.end().expect_code(0).json();
    assert_eq!(summary["frames"].as_u64(), Some(FRAMES));
    assert_eq!((summary["broken"].as_u64(), summary["pools"].as_u64()), (Some(0), Some(1)));
    assert_eq!(summary["bytes"].as_u64(), Some(FRAMES * expected.len() as u64));
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

/// Byte for byte what read(2) gives, and described so that the pixels are found.
#[test]
fn every_format_is_described_right() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    if is_multi_planar(&vivid) {
        return camera::skip::without("camera", "with multiplanar=2 vivid can't be read from as is");
    }
    let formats = plain_formats(&vivid);
    for wanted in
        ["NV12", "NV16", "YUYV", "UYVY", "RGB3", "GREY", "Y16", "AR24", "YU12", "RGB4", "RGGB", "RG10"]
    {
        assert!(formats.contains(&code(wanted)), "{wanted} is not among {formats:?}");
    }
    for format in formats {
        let expected = vivid.read(format, SIZE);
        let capture = house.start(&words(&vivid, &format!("--format {format} --count 2 --consumers 1")));
        let mut consumer = join(&house, "cam");
        let frame = receive(&mut consumer);
        let mode = vivid.open().mode().unwrap();
        assert_eq!(mode.code, format);
        assert_eq!(frame.content(), &Layout::of(&mode).unwrap().content, "{format}");
        assert!(bytes(&frame) == expected, "{format} is not what the camera shows");
        drop((frame, consumer));
        capture.end().expect_code(0);
    }
}

/// Two pieces of memory for the driver, one slot for consumers.
#[test]
fn planes_apart_come_as_one_image() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    if !is_multi_planar(&vivid) {
        return camera::skip::without("camera", "vivid was not loaded with multiplanar=2");
    }
    let mut seen = Vec::new();
    for format in ["NV12", "NM12"] {
        let capture = house.start(&words(&vivid, &format!("--format {format} --count 3 --consumers 1")));
        let mut consumer = join(&house, "cam");
        let frame = receive(&mut consumer);
        seen.push((*frame.content(), bytes(&frame)));
        drop((frame, consumer));
        capture.end().expect_code(0);
    }
    assert_eq!(seen[0].0, Content::image(Fourcc::parse("NV12").unwrap(), SIZE.0, SIZE.1).unwrap());
    assert!(seen[0] == seen[1], "NM12 is NV12 in two pieces");
    // Here it begins with bytes of the driver's.
    house.run(&words(&vivid, "--format YUYV")).expect_failure(1, "128 bytes of its own before the picture");
}

#[test]
fn what_has_no_buffer_is_dropped_by_the_camera_and_counted() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let capture =
        house.start(&words(&vivid, "--format GREY --slots 4 --queued 2 --count 12 --consumers 1 --json"));
    let mut consumer = join(&house, "cam");
    let held = [receive(&mut consumer), receive(&mut consumer)];
    // All slots are taken now: two are held, two have been published and not received.
    house.wait_for("cam", |info| info.published == 4);
    std::thread::sleep(std::time::Duration::from_millis(700));
    drop(held);
    for number in 2..12 {
        assert_eq!(receive(&mut consumer).sequence(), number);
    }
    drop(consumer);
    let summary = capture.end().expect_code(0).json();
    assert_eq!(summary["frames"].as_u64(), Some(12));
    assert!(summary["dropped"].as_u64() > Some(0), "{summary}");
}

/// Whoever wants the newest frame finds one waiting, though the camera takes all the slots that it may.
#[test]
fn the_camera_leaves_frames_to_slow_consumers() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let capture = house.start(&words(&vivid, "--format GREY --slots 4 --consumers 1"));
    let mut consumer = Consumer::builder("cam")
        .registry(bips_backends::registry())
        .directory(house.path())
        .policy(bips::Policy::KeepLast(1))
        .wait(SOON)
        .connect()
        .unwrap();
    let mut frame = receive(&mut consumer);
    for _ in 0..5 {
        let behind = frame.sequence() + 4;
        house.wait_for("cam", |info| info.published > behind);
        frame = consumer.receive(Wait::Now).expect("the camera had no slot to spare for a reader");
        assert!(frame.sequence() >= behind);
    }
    capture.signal(Signal::SIGTERM);
    capture.end().expect_code(0);
}

#[test]
fn frames_the_driver_calls_broken_are_not_published() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let expected = vivid.read(code("GREY"), SIZE);
    let capture = house.start(&words(&vivid, "--format GREY --count 12 --consumers 1 --json"));
    let mut consumer = join(&house, "cam");
    for number in 0..12 {
        let frame = receive(&mut consumer);
        assert_eq!(frame.sequence(), number);
        assert!(bytes(&frame) == expected, "frame {number}");
        if number == 3 {
            vivid.set("Inject V4L2_BUF_FLAG_ERROR", 1);
        }
    }
    let summary = capture.end().expect_code(0).json();
    assert_eq!((summary["frames"].as_u64(), summary["broken"].as_u64()), (Some(12), Some(1)), "{summary}");
}

#[test]
fn an_unplugged_camera_is_told_and_the_stream_closes() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let capture = house.start(&words(&vivid, "--format GREY --consumers 1"));
    let mut consumer = join(&house, "cam");
    drop(receive(&mut consumer));
    vivid.set("Disconnect", 1);
    let told = capture.end().expect_code(1).stderr;
    assert!(told.contains("is gone; plug it in again"), "{told}");
    let end = loop {
        match consumer.receive(SOON) {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!((end, consumer.ending()), (ReceiveError::Closed, Some(Ending::Closed)));
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn a_driver_that_fails_is_told() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let capture = house.start(&words(&vivid, "--format GREY --consumers 1"));
    let mut consumer = join(&house, "cam");
    drop(receive(&mut consumer));
    vivid.set("Inject Fatal Streaming Error", 1);
    let told = capture.end().expect_code(1).stderr;
    assert!(told.contains(&vivid.path.display().to_string()), "{told}");
    vivid.set("Inject VIDIOC_STREAMON Error", 1);
    house.run(&words(&vivid, "--format GREY --count 1")).expect_failure(1, "starting the stream");
    house.run(&words(&vivid, "--format GREY --count 1")).expect_code(0);
}

/// The driver has no buffer then, and can't say it with one.
#[test]
fn a_driver_that_fails_while_consumers_have_all_slots_is_told() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let capture = house.start(&words(&vivid, "--format GREY --slots 4 --consumers 1"));
    let consumer = join(&house, "cam");
    house.wait_for("cam", |info| info.published == 4);
    vivid.set("Inject Fatal Streaming Error", 1);
    let told = capture.end().expect_code(1).stderr;
    assert!(told.contains(&vivid.path.display().to_string()), "{told}");
    drop(consumer);
}

#[test]
fn a_camera_that_is_in_use_is_told() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let first = house.start(&words(&vivid, "--format GREY"));
    house.wait_for("cam", |info| info.published > 1);
    let path = vivid.path.display();
    house.run(&format!("capture {path} other")).expect_failure(1, "another program captures from it");
    first.signal(Signal::SIGINT);
    assert!(first.end().expect_code(0).stdout.contains("dropped by the camera"));
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn what_the_camera_has_not_is_told_with_what_it_has() {
    let (Some(vivid), house) = (vivid(), House::new()) else { return };
    let path = vivid.path.display();
    let refused = |words: &str, why: &str| {
        house.run(&format!("capture {path} cam --count 1 {words}")).expect_failure(2, why);
    };
    // An HDMI input scales: it has all but the smallest and the largest sizes.
    refused("--size 8x8", "the nearest is");
    refused("--format H264", "has no H264");
    refused("--input 63", "has no input 63");
    refused("--memory flux", "flux");
    let listed = house.run("capture --list").expect_code(0).stdout;
    assert!(listed.contains("driver vivid"), "{listed}");
    let sizes = ["320x180 (", "16x16 to 16384x8640 in steps of 2x2 ("]; // of a webcam, and of an input that scales
    assert!(sizes.iter().any(|sizes| listed.contains(sizes)), "{listed}");
    let listed = house.run("capture --list --json").expect_code(0).json();
    let formats = listed[0]["formats"].as_array().expect("it has formats");
    let of = |code: &str| formats.iter().find(|format| format["code"] == code).expect("vivid has it");
    assert_eq!((of("RGB3")["known"].as_bool(), of("NV24")["known"].as_bool()), (Some(true), Some(false)));
}

/// What comes next without --size takes up the camera's present one.
#[test]
fn a_mode_that_is_refused_leaves_the_camera_in_the_one_before() {
    let (Some(vivid), house) = (vivid(), House::new()) else { return };
    let before = vivid.open().set_mode(code("RGB3"), Some(SIZE)).expect("it has that");
    let path = vivid.path.display();
    for words in ["--size 8x8", "--size 8x8 --format GREY"] {
        house.run(&format!("capture {path} cam --count 1 {words}")).expect_failure(2, "the nearest is");
        assert_eq!(vivid.open().mode().unwrap(), before, "after {words}");
    }
}

/// A GBM driver would lay these rows further apart (1024 bytes, not 960): the camera's layout stays. The pool is large
/// enough for huge pages, which the driver has to find its way in too.
#[test]
fn memory_of_every_kind_takes_what_the_camera_writes() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    if is_multi_planar(&vivid) {
        return camera::skip::without("camera", "with multiplanar=2 vivid can't be read from as is");
    }
    let expected = vivid.read(code("RGB3"), SIZE);
    let content = Content::image(Fourcc::parse("RGB3").unwrap(), SIZE.0, SIZE.1).unwrap();
    for kind in ["drm", "gbm", "dma-heap", "udmabuf"] {
        let backend = bips_backends::registry().get(kind).expect("in the bundle");
        let usage = bips::Usage::CPU | bips::Usage::CAMERA;
        let wanted = bips::Requirements { exact: true, usage, ..bips::Requirements::of(content) };
        if let Err(error) = backend.plan(&wanted) {
            camera::skip::without(kind, error);
            continue;
        }
        let words = words(
            &vivid,
            &format!("--format RGB3 --memory {kind} --slots 16 --count 20 --consumers 1 --json"),
        );
        let capture = house.start(&words);
        let mut consumer = join(&house, "cam");
        for number in 0..20 {
            let frame = receive(&mut consumer);
            assert_eq!((frame.memory().kind.as_str(), frame.content()), (kind, &content));
            assert!(bytes(&frame) == expected, "frame {number} in {kind} is not what the camera shows");
        }
        drop(consumer);
        capture.end().expect_code(0);
    }
}

/// What was asked for is not replaced by something else.
#[test]
fn memory_that_the_driver_cannot_write_to_is_refused() {
    let (Some(vivid), house) = (vivid(), House::new()) else { return };
    if !camera::needs_one_piece() {
        return camera::skip::without("camera", "vivid was not loaded with allocators=1");
    }
    house
        .run(&words(&vivid, "--memory memfd"))
        .expect_failure(1, "use --memory dma-heap, or dma-heap:linux,cma");
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

/// HDMI and its like: the source decides. The stream goes on under its name with a pool of the new size.
#[test]
fn a_source_that_changes_its_size_gets_a_new_pool() {
    let (Some(vivid), house) = (streaming(), House::new()) else { return };
    let inputs = vivid.open().inputs();
    let Some(hdmi) = inputs.iter().position(|input| input.starts_with("HDMI")) else {
        return camera::skip::without("camera", "vivid was not loaded with an HDMI input (input_types=0x3)");
    };
    const SELECTED: i32 = 4;
    let signal = |number| {
        vivid.set("DV Timings", number);
        vivid.set("DV Timings Signal Mode", SELECTED);
    };
    vivid.open().set_input(hdmi as u32).unwrap();
    signal(0); // 640x480
    let path = vivid.path.display();
    let capture = house.start(&format!("capture {path} cam --input {hdmi} --format GREY --consumers 1"));
    let mut consumer = Consumer::builder("cam")
        .registry(bips_backends::registry())
        .directory(house.path())
        .wait(SOON)
        .reconnect(true)
        .connect()
        .unwrap();
    let size = |frame: &Frame| (frame.content().width(), frame.content().height());
    let first = size(&receive(&mut consumer));
    signal(2); // 720x480
    let next = loop {
        let frame = receive(&mut consumer);
        if frame.generation() > 0 {
            break size(&frame);
        }
        assert_eq!(size(&frame), first);
    };
    assert_eq!((first, next), ((640, 480), (720, 480)));
    capture.signal(Signal::SIGINT);
    let told = capture.end().expect_code(0).stdout;
    assert!(
        told.contains(&format!("{}x{}", first.0, first.1))
            && told.contains(&format!("{}x{}", next.0, next.1))
    );
    vivid.open().set_input(0).unwrap();
}

/// What the driver makes itself is published: also where it needs memory in one piece, which no heap here has.
#[test]
fn the_drivers_own_buffers_are_published_uncopied() {
    const FRAMES: u64 = 60;
    let (Some(vivid), house) = (vivid(), House::new()) else { return };
    let expected = vivid.read(code("RGB3"), SIZE);
    let capture = house.start(&words(
        &vivid,
        &format!("--format RGB3 --count {FRAMES} --consumers 1 --memory dma-buf --slots 6 --json"),
    ));
    let mut consumer = join(&house, "cam");
    assert_eq!(consumer.backend().kind, "dma-buf");
    let mut held = Vec::new();
    for number in 0..FRAMES {
        let frame = receive(&mut consumer);
        assert_eq!(frame.sequence(), number);
        assert!(bytes(&frame) == expected, "frame {number} is not what the camera shows");
        held.push(frame);
        if held.len() == 3 {
            // What was leased meanwhile is as it was: no buffer went to the camera too early.
            assert!(held.iter().all(|frame| bytes(frame) == expected), "up to frame {number}");
            held.clear();
        }
    }
    let summary = capture.end().expect_code(0).json();
    assert_eq!((&summary["memory"], &summary["frames"]), (&"dma-buf".into(), &FRAMES.into()));
    assert_eq!(summary["pool_bytes"], 6 * (u64::from(SIZE.0 * SIZE.1) * 3).next_multiple_of(4096));
}
