//! The consumer is the victim: producer and other consumers go on.

use crate::common::process::Stage;
use crate::common::{Belongings, PATIENCE, SOON, Scratch, check, eventually, fill};
use crate::{POLICIES, Scenario, died};
use bips::{Consumer, ConsumerBuilder, Description, Fence, Policy, Producer, ReceiveError, Wait};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const BYTES: u64 = 10_000;
const SLOTS: u32 = 3;
const MOMENT: Duration = Duration::from_millis(1);

/// Does everything a consumer can do, over and over, until it dies.
pub(crate) fn victim(stage: &Stage) {
    let scenario = Scenario::begin(stage);
    if scenario.needs_eviction() {
        bips::testing::linger_at("take: the entry is read, nothing claimed", MOMENT).expect("a known step");
    }
    let builder = || stage.consumer("cam").policy(scenario.policy).spin(Duration::ZERO).wait(SOON);
    let until = Instant::now() + PATIENCE / 3;
    while Instant::now() < until {
        receive_in_all_ways(builder());
        change_producers(stage, scenario.policy);
    }
    stage.say("it never came to that");
}

fn receive_in_all_ways(builder: ConsumerBuilder) {
    let mut consumer = builder.connect().expect("a living producer");
    // Holds all it may, so that the producer becomes hungry, and gives back.
    for _ in 0..10 {
        let held = [(); SLOTS as usize].map(|()| consumer.receive(Wait::For(MOMENT)));
        std::thread::sleep(Duration::from_micros(200));
        drop(held);
    }
    // Slowly, to be evicted or to skip, and as fast as it can, to lose against evictions.
    for pause in [300, 100] {
        for _ in 0..20 {
            let _ = consumer.receive(Wait::Now);
            std::thread::sleep(Duration::from_micros(pause));
        }
    }
    for _ in 0..2000 {
        let _ = consumer.receive(Wait::Now);
    }
    consumer.poll_fd().expect("a living producer");
    for _ in 0..10 {
        let _ = consumer.receive(Wait::Now);
        let _ = consumer.receive(Wait::For(MOMENT));
    }
    // A frame that outlives its consumer.
    let frame = consumer.receive(Wait::For(MOMENT));
    drop(consumer);
    drop(frame);
}

/// Outlives a producer of its own, and goes on with the next.
fn change_producers(stage: &Stage, policy: Policy) {
    let name = format!("own-{}", std::process::id());
    let produce = || stage.producer(&name).bytes(100).create().expect("a name of our own");
    let first = produce();
    let mut consumer: Consumer =
        stage.consumer(&name).policy(policy).reconnect(true).connect().expect("our own producer");
    drop(first);
    let _second = produce();
    // On an emulated processor a join takes longer than a moment.
    eventually("it goes on with the next", || {
        let _ = consumer.receive(Wait::For(MOMENT));
        consumer.generation() == 1
    });
}

/// Publishes without a pause until told.
fn publish_until(producer: &Producer, over: &AtomicBool) {
    while !over.load(Relaxed) {
        publish(producer, Wait::For(Duration::from_millis(20)));
    }
}

fn publish(producer: &Producer, wait: Wait) -> bool {
    let Ok(mut frame) = producer.acquire(wait) else { return false };
    // One thread publishes.
    fill(&mut frame, producer.stats().expect("our own").published, BYTES as usize);
    frame.publish(Description::new(), Fence::Signaled).expect("the stream is open");
    true
}

/// Receives to the end, every frame whole and each but once; a reliable one misses none.
fn survive(mut consumer: Consumer, policy: Policy) -> u64 {
    let mut next = None;
    loop {
        match consumer.receive(SOON) {
            Ok(frame) => {
                let number = check(&frame);
                assert_eq!(number, frame.sequence());
                match (next, policy) {
                    (Some(next), Policy::Reliable) => assert_eq!(number, next, "lost or repeated"),
                    (Some(next), _) => assert!(number >= next, "repeated"),
                    (None, _) => {}
                }
                next = Some(number + 1);
            }
            Err(ReceiveError::Closed) => return next.unwrap_or(0),
            Err(error) => panic!("{}", consumer.explain(error)),
        }
    }
}

pub(crate) fn scenario(scenario: &Scenario) {
    let scratch = Scratch::new();
    let producer = scratch
        .producer("cam")
        .bytes(BYTES)
        .slots(SLOTS)
        .max_held(SLOTS)
        .spin(Duration::ZERO)
        .create()
        .unwrap();
    // The other policies keep it company, in turn.
    let company: Vec<_> = POLICIES
        .into_iter()
        .cycle()
        .skip(1 + scenario.consumers)
        .take(scenario.consumers - 1)
        .map(|policy| (scratch.consumer("cam").policy(policy).connect().unwrap(), policy))
        .collect();
    let before = Belongings::now();
    let over = AtomicBool::new(false);
    let ends: Vec<(u64, Policy)> = std::thread::scope(|scope| {
        let _over = crate::common::Over(&over);
        let survivors: Vec<_> = company
            .into_iter()
            .map(|(consumer, policy)| (scope.spawn(move || survive(consumer, policy)), policy))
            .collect();
        let mut victim = scenario.start("consumer", scratch.path());
        let publishing = scope.spawn(|| publish_until(&producer, &over));
        died(&mut victim);
        drop(victim);
        over.store(true, Relaxed);
        publishing.join().unwrap();
        // Nobody waits for the dead, whatever it held.
        for _ in 0..20 {
            assert!(publish(&producer, SOON), "the producer waits for the dead");
        }
        eventually("its seat is free", || {
            producer.stats().unwrap().consumers.len() == scenario.consumers - 1
        });
        before.eventually_again();
        // All slots, at once. Reliable survivors have to read first.
        let all: Vec<_> = (0..SLOTS).map(|_| producer.acquire(SOON).expect("a slot leaked")).collect();
        drop(all);
        producer.close();
        survivors.into_iter().map(|(survivor, policy)| (survivor.join().unwrap(), policy)).collect()
    });
    let published = producer.stats().unwrap().published;
    for (end, policy) in ends {
        if policy == Policy::Reliable {
            assert_eq!(end, published, "the last frames are lost");
        }
    }
}
