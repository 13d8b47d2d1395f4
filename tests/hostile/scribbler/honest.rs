//! A producer and two consumers that keep to the rules, and check that they lose nothing by those who don't.

use super::{GUARD, MAX_HELD, SLOTS, STALL, Target};
use crate::common::process::Stage;
use crate::common::{Belongings, PATIENCE, SOON, check, eventually, fill, in_small_pages, threads};
use bips::{Description, Fence, OnStall, Policy, ReceiveError};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Most threads that watch over seats.
const MOST_VIGILS: usize = 128;

/// Publishes from `begin` to `end`, then says in numbers how that was.
pub(super) fn publish(stage: &Stage) {
    let target = Target::of(stage);
    let bytes = target.frame_bytes();
    let builder = stage.producer("cam").bytes(bytes).slots(SLOTS).max_held(MAX_HELD);
    let producer = match target {
        Target::Plain => builder.create().unwrap(),
        Target::Watched => in_small_pages(builder),
        Target::Expelling => builder.on_stall(OnStall::Expel(STALL)).create().unwrap(),
    };
    stage.say("ready");
    stage.hear();
    assert_eq!(producer.stats().unwrap().consumers.len(), 2);
    let watching = if target == Target::Watched { 2 } else { 0 };
    eventually("the honest are watched over", || threads("bips-vigil") == watching);
    let mut vigils = 0;
    let (before, over) = (Belongings::settled(), AtomicBool::new(false));
    stage.say("publishing");
    let (mut longest, mut number) = (Duration::ZERO, 0);
    let mut publish = || {
        let begin = Instant::now();
        let frame = producer.acquire(SOON);
        longest = longest.max(begin.elapsed());
        let mut frame = frame.unwrap_or_else(|error| panic!("{}", producer.explain(error)));
        fill(&mut frame, number, bytes as usize);
        assert_eq!(frame.publish(Description::new(), Fence::Signaled).unwrap(), number);
        number += 1;
        number
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stage.hear();
            over.store(true, Relaxed);
        });
        while !over.load(Relaxed) {
            if publish() % 256 == 0 {
                // What they wrote is also shown.
                assert!(producer.stats().unwrap().consumers.len() >= 2, "an honest consumer was put out");
                vigils = vigils.max(threads("bips-vigil"));
            }
        }
    });
    assert!(vigils <= MOST_VIGILS, "{vigils} threads watch");
    eventually("the hostile are gone", || producer.stats().unwrap().consumers.len() == 2);
    // One that was moved away in its sleep is not found any more; it looks for itself in the end.
    let (gone, mut said) = (Instant::now(), Instant::now());
    before.eventually_again_while(|| {
        publish();
        if said.elapsed() > PATIENCE / 3 {
            said = Instant::now();
            stage.say(threads("bips-vigil"));
        }
        gone.elapsed() < GUARD && threads("bips-vigil") > watching
    });
    let (stats, after) = (producer.stats().unwrap(), Belongings::settled());
    producer.close();
    stage.say("all are gone");
    for number in [stats.published, longest.as_micros() as u64, stats.evicted, stats.expelled, vigils as u64]
    {
        stage.say(number);
    }
    for belongings in [before, after] {
        for number in [belongings.descriptors, belongings.mappings, belongings.threads] {
            stage.say(number);
        }
    }
}

pub(super) fn receive_all(stage: &Stage) {
    verify(stage, Policy::Reliable);
}

pub(super) fn receive_newest(stage: &Stage) {
    verify(stage, Policy::KeepLast(1));
}

/// Says how many frames came, all of them whole and in order.
fn verify(stage: &Stage, policy: Policy) {
    let mut consumer = stage.consumer("cam").policy(policy).connect().unwrap();
    stage.say("ready");
    let mut next = 0;
    loop {
        match consumer.receive(SOON) {
            Ok(frame) => {
                assert_eq!(check(&frame), frame.sequence());
                let lost = frame.sequence() - next;
                assert!(lost == 0 || policy != Policy::Reliable, "{lost} frames are lost");
                next = frame.sequence() + 1;
            }
            Err(ReceiveError::Closed) => break,
            Err(error) => panic!("{}", consumer.explain(error)),
        }
    }
    stage.say(consumer.stats().received);
}
