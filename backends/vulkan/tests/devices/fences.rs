//! A consumer's device begins before the producer's is done, and reads what that wrote. The producer's device waits for the
//! test's hand, so it is certain which comes first.

use crate::at_work::{fill, fill_after, own, place_word, read_into};
use crate::{SOON, consumer, here, in_role, producer};
use bips::testing::Hand;
use bips::{Allocation, Description, ErrorKind, Fence, Timeline};
use bips_vulkan::{Device, VulkanFrame};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn say(text: &str) {
    println!("@{text}");
    std::io::stdout().flush().unwrap();
}

/// The child's part: its device begins to read each frame at once, the first two as it should, the third without the fence,
/// the fourth of a producer that dies.
pub(crate) fn early(directory: &Path) {
    let mut consumer = consumer(directory).explicit_sync(true).connect().unwrap();
    let mut place: Option<Allocation> = None;
    for fenced in [true, true, false, true] {
        let frame = consumer.receive(SOON).unwrap();
        let slot = frame.vulkan().unwrap();
        let place = place.get_or_insert_with(|| own(slot.device(), slot.len()));
        let ready = frame.ready();
        let Fence::Timeline(timeline, 1) = &ready else { panic!("the producer's device is at work") };
        let after = if fenced { Some(ready.clone()) } else { None };
        let work = read_into(slot, place, after);
        assert_eq!(timeline.value().unwrap(), 0, "submitted before the producer's device was done");
        if !fenced {
            work.wait(1, None).unwrap();
        }
        say("submitted");
        match work.wait(1, None) {
            Ok(()) => say(&format!("read {}", place_word(place))),
            Err(error) => say(&format!("{:?}: {error}", error.kind())),
        }
        // The place is this frame's alone no more.
        drop(work);
    }
    // And goes on.
    let place = place.unwrap();
    let slot = place.vulkan().unwrap();
    fill(slot, 99).wait(1, None).unwrap();
    say(&format!("still {}", place_word(&place)));
}

/// Debian's validation layer dies in its synchronization validation of the second semaphore that the host signals after a
/// submission waits for it (a null pointer of its own). All else is validated.
pub(crate) fn without_validation_of_order(child: &mut Command) -> &mut Command {
    child.env("VK_KHRONOS_VALIDATION_VALIDATE_SYNC", "false")
}

fn listen(child: &mut Child) -> impl FnMut() -> String + use<> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut all = String::new();
    move || {
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("the child ended after: {all}")).unwrap();
            all = all.clone() + &line + "\n";
            if let Some((_, said)) = line.split_once('@') {
                return said.to_owned();
            }
        }
    }
}

/// The producer's part, itself a child since it is killed.
pub(crate) fn late(directory: &Path) {
    let backend = here().unwrap();
    let producer = producer(&backend, directory).slots(4).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    let mut told = std::io::stdin().lock().lines();
    for word in [11, 12, 13, 14] {
        let frame = producer.acquire(SOON).unwrap();
        let hand = Arc::new(Hand::default());
        // What an unfenced reader sees.
        fill(frame.vulkan().unwrap(), 7).wait(1, None).unwrap();
        let work = fill_after(frame.vulkan().unwrap(), Some(Fence::Timeline(hand.clone(), 1)), word);
        let begin = Instant::now();
        frame.publish(Description::new(), work.into()).unwrap();
        println!("published in {:?}", begin.elapsed());
        say("published");
        assert_eq!(told.next().unwrap().unwrap(), "go on");
        hand.reach(1);
    }
}

#[test]
fn a_device_waits_for_another_processs_device() {
    if here().is_none() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let start = |role| {
        let mut child = in_role(role, scratch.path());
        without_validation_of_order(&mut child);
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut producer = start("late");
    let mut consumer = start("early");
    let (mut published, mut heard) = (listen(&mut producer), listen(&mut consumer));
    let mut tell = producer.stdin.take().unwrap();
    for seen in ["read 11", "read 12", "read 7"] {
        assert_eq!((published(), heard()), ("published".into(), "submitted".into()));
        if seen == "read 7" {
            assert_eq!(heard(), seen, "without the fence it is the frame before that is read");
            writeln!(tell, "go on").unwrap();
        } else {
            thread::sleep(Duration::from_millis(30));
            writeln!(tell, "go on").unwrap();
            assert_eq!(heard(), seen);
        }
    }
    assert_eq!((published(), heard()), ("published".into(), "submitted".into()));
    let killed = Instant::now();
    producer.kill().unwrap();
    let end = heard();
    println!("released {:?} after the producer was killed: {end}", killed.elapsed());
    assert!(end.starts_with("Lost: the device waited in vain"), "{end}");
    assert_eq!(heard(), "still 99");
    producer.wait().unwrap();

    assert!(consumer.wait().unwrap().success());
}

/// In one process: the semaphore itself, for submissions of one's own, and a fence that has failed.
#[test]
fn a_semaphore_for_submissions_of_ones_own() {
    let Some(_) = here() else { return };
    let device: Arc<Device> = bips_vulkan::Vulkan::new().device().unwrap();
    if !device.has_timelines() {
        return bips_conformance::left_out(&["vulkan"], "the driver has no timeline semaphores");
    }
    let hand = Arc::new(Hand::default());
    let semaphore = device.wait_semaphore(Fence::Timeline(hand.clone(), 1)).unwrap();
    let khr = bips_vulkan::ash::khr::timeline_semaphore::Device::new(device.ash_instance(), device.ash());
    // SAFETY: a timeline semaphore that lives; the extension is enabled where `has_timelines` says so.
    let value = || unsafe { khr.get_semaphore_counter_value(semaphore.semaphore()) }.unwrap();
    let at = semaphore.value();
    assert_eq!(value(), at - 1);
    hand.reach(1);
    let begin = Instant::now();
    while value() < at && begin.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(value(), at);
    semaphore.check().unwrap();

    let broken = Arc::new(Hand::default());
    broken.fail();
    let failed = || Fence::Timeline(broken.clone(), 1);
    assert_eq!(device.wait_semaphore(failed()).unwrap_err().kind(), ErrorKind::Lost);
    let error = device.submit_after([failed()], |_, _| panic!("nothing is recorded")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
}
