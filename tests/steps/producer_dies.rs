//! The producer is the victim: its consumers drain what it published, and go on with its successor.

use crate::common::process::Stage;
use crate::common::{Belongings, PATIENCE, SOON, Scratch, check, eventually, fill};
use crate::{Scenario, died};
use bips::{
    Consumer, ConsumerBuilder, Description, Ending, Fence, OnStall, Policy, Producer, ReceiveError, Wait,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const BYTES: u64 = 10_000;
/// The successor's frames are of another size, so that nobody can take the one for the other.
const LATER_BYTES: u64 = 30_000;
const LAST: u64 = 20;
const MOMENT: Duration = Duration::from_millis(1);

/// Produces in all ways there are, until it dies.
pub(crate) fn victim(stage: &Stage) {
    let scenario = Scenario::begin(stage);
    let until = Instant::now() + PATIENCE / 3;
    while Instant::now() < until {
        let mut builder = stage.producer("cam").bytes(BYTES).slots(2).max_held(2).spin(Duration::ZERO);
        if scenario.count > 1 {
            builder = builder.history(1);
        }
        if scenario.expels() {
            builder = builder.on_stall(OnStall::Expel(MOMENT));
        }
        let producer = builder.create().expect("the name is ours");
        for number in 0..100_u64 {
            if let Ok(mut frame) = producer.acquire(Wait::For(MOMENT * 20)) {
                let sequence = producer.stats().expect("our own").published;
                fill(&mut frame, sequence, BYTES as usize);
                let metadata: &[u8] = if number.is_multiple_of(3) { b"of its own" } else { b"" };
                frame.publish(Description::new().with_metadata(metadata), Fence::Signaled).expect("open");
                stage.say(sequence);
            }
            if number % 8 == 0 {
                std::thread::sleep(MOMENT);
            }
        }
        producer.close();
        stage.say("closed");
    }
    stage.say("it never came to that");
}

/// One consumer of the victim, then of its successor.
struct Survivor<'a> {
    scratch: &'a Scratch,
    policy: Policy,
    /// Gives the producer reason to put it out.
    stalls: bool,
    /// The victim is dead: stay with whoever comes next.
    settled: &'a AtomicBool,
    /// What was received last of the victim, plus one, by a reliable one who saw it die.
    drained: &'a AtomicU64,
}

impl Survivor<'_> {
    fn builder(&self) -> ConsumerBuilder {
        self.scratch.consumer("cam").policy(self.policy).wait(Wait::For(MOMENT * 100)).spin(Duration::ZERO)
    }

    /// Comes and goes, waiting in each way there is, until it has seen the successor's last frame.
    fn live(&self) {
        let until = Instant::now() + PATIENCE;
        for visit in 0.. {
            assert!(Instant::now() < until, "the successor was never seen to its end");
            let connected = match visit % 3 {
                0 => self.builder().reconnect(true).connect(),
                _ => self.builder().connect(),
            };
            // The victim may die in the middle of it.
            let Ok(mut consumer) = connected else { continue };
            if visit % 3 == 1 && consumer.poll_fd().is_err() {
                continue;
            }
            if self.visit(&mut consumer, if visit % 2 == 0 { 12 } else { 40 }) {
                return;
            }
        }
    }

    /// Whether it has seen all there is to see.
    fn visit(&self, consumer: &mut Consumer, frames: u32) -> bool {
        let mut next = None;
        let mut seen = 0;
        let mut generation = 0;
        let mut held = Vec::new();
        loop {
            let first = if self.stalls { Wait::For(MOMENT * 5) } else { Wait::Now };
            let received = consumer.receive(first).or_else(|_| {
                // Several who hold one each and wait for the next would wait for each other.
                held.clear();
                consumer.receive(SOON)
            });
            match received {
                Ok(frame) => {
                    if frame.generation() != generation {
                        generation = frame.generation();
                        next = None;
                    }
                    let number = check(&frame);
                    assert_eq!(number, frame.sequence());
                    let lost = self.policy == Policy::Reliable && next.is_some_and(|next| number != next);
                    assert!(!lost, "lost or repeated: {number}, not {next:?}");
                    assert!(next.is_none_or(|next| number >= next), "repeated");
                    next = Some(number + 1);
                    if frame.nbytes() as u64 == LATER_BYTES && number == LAST {
                        return true;
                    }
                    seen += 1;
                    // Two at a time, now and then, and for a while: the pool is empty then.
                    if seen % 4 < 2 {
                        held.push(frame);
                    }
                    if held.len() == 2 {
                        std::thread::sleep(MOMENT * if self.stalls { 10 } else { 2 });
                        held.clear();
                    }
                    if seen > frames && !self.settled.load(SeqCst) {
                        return false;
                    }
                }
                Err(ReceiveError::Closed) => {
                    if consumer.ending() == Some(Ending::Died) && self.policy == Policy::Reliable {
                        self.drained.fetch_max(next.unwrap_or(0), SeqCst);
                    }
                    return false;
                }
                Err(error) => panic!("{}", consumer.explain(error)),
            }
        }
    }
}

fn succeed(scratch: &Scratch) -> Producer {
    scratch.producer("cam").bytes(LATER_BYTES).slots(5).create().unwrap()
}

pub(crate) fn scenario(scenario: &Scenario) {
    let scratch = Scratch::new();
    // Once, for what is made once and stays.
    let producer = succeed(&scratch);
    drop(scratch.consumer("cam").connect().unwrap());
    eventually("it has gone", || producer.stats().unwrap().consumers.is_empty());
    drop(producer);
    let before = Belongings::now();
    let (settled, drained) = (AtomicBool::new(false), AtomicU64::new(0));
    let survivor = Survivor {
        scratch: &scratch,
        policy: scenario.policy,
        stalls: scenario.expels(),
        settled: &settled,
        drained: &drained,
    };
    std::thread::scope(|scope| {
        let mut victim = scenario.start("producer", scratch.path());
        let survivors: Vec<_> = (0..scenario.consumers).map(|_| scope.spawn(|| survivor.live())).collect();
        died(&mut victim);
        settled.store(true, SeqCst);
        let published = victim.said().last().and_then(|said| said.parse::<u64>().ok());
        // The name is free at once.
        let successor = succeed(&scratch);
        successor.wait_for_consumers(scenario.consumers as u32, SOON).unwrap();
        for number in 0..=LAST {
            let mut frame = successor.acquire(SOON).expect("a slot leaked");
            fill(&mut frame, number, LATER_BYTES as usize);
            frame.publish(Description::new(), Fence::Signaled).unwrap();
        }
        for survivor in survivors {
            survivor.join().expect("a survivor");
        }
        if let (Some(published), drained @ 1..) = (published, drained.load(SeqCst)) {
            assert!(drained > published, "frame {published} was published, and lost with its producer");
        }
        eventually("everybody has gone", || successor.stats().unwrap().consumers.is_empty());
    });
    before.eventually_again();
    assert!(scratch.files().is_empty(), "left behind: {:?}", scratch.files());
}
