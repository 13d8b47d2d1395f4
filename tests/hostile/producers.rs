//! Producers that lie when they are asked for a seat. A consumer refuses, or joins and can leave; nothing stays open.

use crate::common::process::{Role, Stage, play};
use crate::common::wire::{Fake, Noise, REFUSED, Raw};
use crate::common::{Belongings, Scratch, eventually, publish, receive};
use bips::{Consumer, Error, ErrorKind, Producer, Wait};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Each in a process of its own, where what is open can be counted.
pub(crate) const ROLES: [Role; 3] = [
    ("is offered other versions and lengths", wrong_messages),
    ("is offered each byte changed", each_byte),
    ("is offered damage", damaged),
];

/// Plays a role to its end, and shows what it says.
pub(crate) fn alone(role: &str) {
    let scratch = Scratch::new();
    let mut child = play(role, scratch.path(), 0);
    loop {
        match child.hear() {
            said if said == "over" => break,
            said => println!("{role}: {said}"),
        }
    }
    child.finish();
}

#[test]
fn other_versions_and_lengths() {
    alone("is offered other versions and lengths");
}

#[test]
fn a_welcome_with_each_byte_changed() {
    alone("is offered each byte changed");
}

#[test]
fn damaged_welcomes_crash_nobody() {
    alone("is offered damage");
}

/// A name at which lies are told, and a true producer of which they are made.
pub(crate) struct Liar<'a> {
    stage: &'a Stage,
    truth: Producer,
    fake: Fake,
    before: Belongings,
}

/// The liar's ends of the connection to its victim, and of that to the true producer.
type Ends = (Raw, Raw);

impl<'a> Liar<'a> {
    pub(crate) fn new(stage: &'a Stage) -> Self {
        let truth = stage.producer("true").bytes(100).slots(2).create().unwrap();
        // Its board has a description then.
        publish(&truth);
        let fake = Fake::listen(&stage.directory, "false");
        // Nothing is made once and stays: a seat that has left is off the books before it is closed and unmapped.
        let before = Belongings::now();
        drop(stage.consumer("true").connect().unwrap());
        before.eventually_again();
        Self { stage, truth, fake, before }
    }

    /// What comes of joining, where the true producer's answer is made into a lie.
    pub(crate) fn offer(
        &self,
        policy: bips::Policy,
        lie: impl FnOnce(&Raw, Vec<u8>, Vec<OwnedFd>) + Send,
    ) -> (Result<Consumer, Error>, Ends) {
        std::thread::scope(|scope| {
            let liar = scope.spawn(|| {
                let raw = self.fake.accept();
                let (request, _) = raw.hear().expect("a request");
                let behind = Raw::connect(&self.stage.directory, "true");
                assert!(behind.send(&request, &[]));
                let (welcome, fds) = behind.hear().expect("a welcome");
                assert_eq!(fds.len(), 4, "board, seat, bell, pool");
                lie(&raw, welcome, fds);
                (raw, behind)
            });
            let joined = self.stage.consumer("false").policy(policy).connect();
            (joined, liar.join().expect("the liar is well"))
        })
    }

    /// Must be refused, as a breach of the protocol.
    #[track_caller]
    pub(crate) fn refused(&self, what: &str, lie: impl FnOnce(&Raw, Vec<u8>, Vec<OwnedFd>) + Send) -> String {
        let (joined, _ends) = self.offer(bips::Policy::Reliable, lie);
        let Err(error) = joined else { panic!("{what} was accepted") };
        assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error}");
        error.to_string()
    }

    /// Must be accepted, and good for a frame.
    #[track_caller]
    pub(crate) fn accepted(&self, what: &str, lie: impl FnOnce(&Raw, Vec<u8>, Vec<OwnedFd>) + Send) {
        let (joined, _ends) = self.offer(bips::Policy::Reliable, lie);
        let mut consumer = joined.unwrap_or_else(|error| panic!("{what}: {error}"));
        publish(&self.truth);
        drop(receive(&mut consumer));
    }

    /// When all are gone nothing is left of them, and the true producer serves on.
    pub(crate) fn over(self) {
        eventually("nobody is seated", || self.truth.stats().unwrap().consumers.is_empty());
        self.before.eventually_again();
        let mut consumer = self.stage.consumer("true").connect().unwrap();
        publish(&self.truth);
        drop(receive(&mut consumer));
        self.stage.say("over");
    }
}

pub(crate) fn numbers(fds: &[OwnedFd]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

// Messages

fn wrong_messages(stage: &Stage) {
    let liar = Liar::new(stage);
    let major = bips::PROTOCOL.0;
    for other in [0, major - 1, major + 1, 256, u16::MAX] {
        let text = liar.refused(&format!("major version {other}"), |raw, mut welcome, fds| {
            welcome[4..6].copy_from_slice(&other.to_le_bytes());
            raw.send(&welcome, &numbers(&fds));
        });
        assert!(text.contains("update the older"), "{text}");
    }
    for minor in [1, 2, 255, u16::MAX] {
        liar.accepted(&format!("minor version {minor}"), |raw, mut welcome, fds| {
            welcome[6..8].copy_from_slice(&minor.to_le_bytes());
            welcome.extend([7; 100]);
            raw.send(&welcome, &numbers(&fds));
        });
    }
    for (len, good) in [(16 << 10, true), ((16 << 10) + 1, false), (100_000, false)] {
        let lie = |raw: &Raw, mut welcome: Vec<u8>, fds: Vec<OwnedFd>| {
            welcome.resize(len, 0);
            assert!(raw.send(&welcome, &numbers(&fds)));
        };
        if good {
            liar.accepted("as long as it may be", lie);
        } else {
            liar.refused("too long", lie);
        }
    }
    let mut shorter = 1;
    let mut whole = usize::MAX;
    while shorter < whole {
        liar.refused(&format!("the first {shorter} bytes"), |raw, welcome, fds| {
            whole = welcome.len();
            raw.send(&welcome[..shorter], &numbers(&fds));
        });
        shorter += 1;
    }
    liar.accepted("garbage afterwards", |raw, welcome, fds| {
        raw.send(&welcome, &numbers(&fds));
        for len in 1..50 {
            raw.send(&Noise(len as u64).bytes(len * 10), &[]);
        }
    });
    let (joined, _) = liar.offer(bips::Policy::Reliable, |raw, _, fds| {
        raw.send(&[], &numbers(&fds));
    });
    assert!(joined.is_err(), "nothing, with descriptors");
    stage.say(format!("{} halves refused", shorter - 1));
    liar.over();
}

/// What became of offers, by kind of error.
#[derive(Default)]
struct Tally {
    joined: u32,
    refused: BTreeMap<&'static str, u32>,
}

impl Tally {
    fn count(&mut self, joined: Result<Consumer, Error>) {
        match joined {
            Ok(mut consumer) => {
                self.joined += 1;
                // Whatever it says; that it says something is what matters.
                let _ = consumer.receive(Wait::Now);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                *self.refused.entry(error.kind().name()).or_default() += 1;
            }
        }
    }

    fn say(&self, stage: &Stage) {
        stage.say(format!("{} joined, refused: {:?}", self.joined, self.refused));
    }
}

fn each_byte(stage: &Stage) {
    let liar = Liar::new(stage);
    let mut tally = Tally::default();
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    let (mut at, mut len) = (0, 1);
    while at < len {
        for change in [1 << noise.below(8), noise.below(255) as u8 + 1] {
            let (joined, _ends) = liar.offer(bips::Policy::KeepLast(2), |raw, mut welcome, fds| {
                len = welcome.len();
                welcome[at] ^= change;
                raw.send(&welcome, &numbers(&fds));
            });
            tally.count(joined);
        }
        at += 1;
        if at % 200 == 0 {
            stage.say(format!("at byte {at}"));
        }
    }
    tally.say(stage);
    // Most bytes are of dimensions and metadata that a plain stream does not have: those are ignored.
    let refused: u32 = tally.refused.values().sum();
    assert!(refused > 150 && tally.joined > 500, "hardly what each byte should come to");
    liar.over();
}

/// Several faults at once, in the message and in what comes with it.
fn damaged(stage: &Stage) {
    let null = File::open("/dev/null").unwrap();
    let liar = Liar::new(stage);
    let mut noise = Noise(0x5eed_1234_9876_abcd);
    let mut tally = Tally::default();
    for round in 0..600 {
        let (joined, _ends) = liar.offer(bips::Policy::Reliable, |raw, mut reply, fds| {
            let mut fds = numbers(&fds);
            match round % 6 {
                0 => reply.truncate(noise.below(reply.len() as u64) as usize + 1),
                1 => fds.truncate(noise.below(4) as usize),
                2 => fds.rotate_left(noise.below(4) as usize),
                3 => fds[noise.below(4) as usize] = null.as_raw_fd(),
                4 => {
                    // Garbage altogether, or behind a head that is right.
                    let keep = if noise.one_in(2) { 0 } else { 12 };
                    let len = noise.below(700) as usize;
                    reply.truncate(keep);
                    reply.extend(noise.bytes(len));
                    if noise.one_in(4) && keep == 12 {
                        reply[8..10].copy_from_slice(&REFUSED.to_le_bytes());
                    }
                }
                _ => {}
            }
            if round % 2 == 0 {
                for _ in 0..=round % 4 {
                    if !reply.is_empty() {
                        let at = noise.below(reply.len() as u64) as usize;
                        reply[at] = noise.word() as u8;
                    }
                }
            }
            raw.send(&reply, &fds);
        });
        tally.count(joined);
    }
    tally.say(stage);
    assert!(tally.refused.values().sum::<u32>() > 300);
    liar.over();
}
