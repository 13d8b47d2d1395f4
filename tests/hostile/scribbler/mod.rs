//! Processes that write whatever they like over all that a consumer can write to, while honest ones, in processes of
//! their own, check every frame.
//!
//! `BIPS_SCRIBBLES=2000000 cargo xtask test hostile` is a long run; `BIPS_SEED` repeats the choices of one.

use crate::common::process::{Peer, Role, Stage, play_by};
use crate::common::wire::{self, Noise, Raw, Scribble, WELCOME, seat, tail};
use crate::common::{Belongings, PATIENCE, SOON, Scratch, check, eventually, fill};
use crate::futex;
use bips::{Description, Fence, Policy, ReceiveError};
use nix::fcntl::{FallocateFlags, fallocate};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const ROLES: [Role; 4] = [
    ("publishes under attack", publish),
    ("checks all", receive_all),
    ("checks newest", receive_newest),
    ("scribbles", scribble),
];

const SEED: &str = "BIPS_SEED";
const SCRIBBLES: &str = "BIPS_SCRIBBLES";
/// Of a run that nobody asked to be longer.
const FEW: u64 = 200_000;
const HOSTILE: u64 = 3;
const BYTES: u64 = 16 << 10;
/// Each hostile seat may take `MAX_HELD` away for good; the honest need some too.
const SLOTS: u32 = 16;
const MAX_HELD: u32 = 2;
/// However fast the scribbling is done, the stream must have flowed meanwhile.
const FRAMES: u64 = 2_000;

fn given(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; give it a whole number")))
}

#[test]
#[ignore = "for cargo xtask test hostile"]
fn scribblers_hurt_nobody() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = given(SEED).unwrap_or_else(|| now.subsec_nanos().into());
    let scribbles = given(SCRIBBLES).unwrap_or(FEW);
    println!("\nscribbler: {scribbles} scribbles of {HOSTILE} processes; {SEED}={seed} repeats the choices");
    let scratch = Scratch::new();
    let start = |role, number| {
        let mut program = Command::new(std::env::current_exe().expect("a test program has a path"));
        program.env(SEED, seed.to_string()).env(SCRIBBLES, scribbles.to_string());
        play_by(program, role, scratch.path(), number)
    };
    let mut producer = start("publishes under attack", 0);
    producer.expect("ready");
    let honest = ["checks all", "checks newest"].map(|role| {
        let mut consumer = start(role, 0);
        consumer.expect("ready");
        consumer
    });
    producer.tell("begin");
    producer.expect("publishing");
    let begin = Instant::now();
    let mut total = Attacks::default();
    for mut hostile in (0..HOSTILE).map(|index| start("scribbles", index)).collect::<Vec<_>>() {
        total.add(&Attacks::of(&mut hostile));
        hostile.finish();
    }
    let took = begin.elapsed();
    producer.tell("end");
    let mut numbers = || producer.hear().parse::<u64>().expect("a number");
    let (published, longest, evicted) = (numbers(), numbers(), numbers());
    let (before, after) = ((numbers(), numbers()), (numbers(), numbers()));
    producer.finish();
    let received = honest.map(|mut consumer| {
        let received = consumer.hear().parse::<u64>().expect("a number");
        consumer.finish();
        received
    });
    println!(
        "scribbler: {} scribbles, {} futex calls, {} seats taken, {} expulsions, {:.1} s",
        total.scribbles,
        total.calls,
        total.joins,
        total.expulsions,
        took.as_secs_f64()
    );
    println!(
        "scribbler: {published} frames published, {} and {} received whole, {evicted} evictions, longest acquire {} ms",
        received[0],
        received[1],
        longest / 1000
    );
    println!(
        "scribbler: the producer's descriptors and mappings: {before:?}, afterwards {after:?}; {SEED}={seed}"
    );
    assert!(total.scribbles >= scribbles && published >= FRAMES);
    assert_eq!(received[0], published, "a reliable consumer gets every frame");
    assert!(received[1] > 0 && received[1] <= published);
    assert!(total.expulsions > 0, "nothing they wrote was noticed");
    assert_eq!(after, before, "the producer keeps something of those who are gone");
}

// The honest

/// Publishes from `begin` to `end`, then says in numbers how that was.
fn publish(stage: &Stage) {
    let builder = stage.producer("cam").bytes(BYTES).slots(SLOTS).max_held(MAX_HELD);
    let producer = builder.create().unwrap();
    stage.say("ready");
    stage.hear();
    assert_eq!(producer.stats().unwrap().consumers.len(), 2);
    let (before, over) = (Belongings::now(), AtomicBool::new(false));
    stage.say("publishing");
    let (mut longest, mut number) = (Duration::ZERO, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stage.hear();
            over.store(true, Relaxed);
        });
        while !over.load(Relaxed) {
            let begin = Instant::now();
            let frame = producer.acquire(SOON);
            longest = longest.max(begin.elapsed());
            let mut frame = frame.unwrap_or_else(|error| panic!("{}", producer.explain(error)));
            fill(&mut frame, number, BYTES as usize);
            assert_eq!(frame.publish(Description::new(), Fence::Signaled).unwrap(), number);
            number += 1;
            if number % 256 == 0 {
                // What they wrote is also shown.
                assert!(producer.stats().unwrap().consumers.len() >= 2, "an honest consumer was put out");
            }
        }
    });
    eventually("the hostile are gone", || producer.stats().unwrap().consumers.len() == 2);
    before.eventually_again();
    let (stats, after) = (producer.stats().unwrap(), Belongings::now());
    producer.close();
    for number in [stats.published, longest.as_micros() as u64, stats.evicted] {
        stage.say(number);
    }
    for belongings in [before, after] {
        stage.say(belongings.descriptors);
        stage.say(belongings.mappings);
    }
}

fn receive_all(stage: &Stage) {
    verify(stage, Policy::Reliable);
}

fn receive_newest(stage: &Stage) {
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

// The hostile

/// What one or all of them have done.
#[derive(Debug, Default)]
struct Attacks {
    scribbles: u64,
    calls: u64,
    joins: u64,
    expulsions: u64,
}

impl Attacks {
    fn add(&mut self, other: &Self) {
        self.scribbles += other.scribbles;
        self.calls += other.calls;
        self.joins += other.joins;
        self.expulsions += other.expulsions;
    }

    fn tell(&self, stage: &Stage, word: &str) {
        stage.say(format!("{word} {} {} {} {}", self.scribbles, self.calls, self.joins, self.expulsions));
    }

    /// Hears one of them out.
    fn of(hostile: &mut Peer) -> Self {
        let mut shown = Instant::now();
        loop {
            let said = hostile.hear();
            let mut words = said.split(' ');
            let word = words.next().unwrap_or_default();
            let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
            let done = Self { scribbles: number(), calls: number(), joins: number(), expulsions: number() };
            if word == "done" {
                return done;
            }
            if shown.elapsed() > Duration::from_secs(5) {
                println!("  at {} scribbles, {} expulsions", done.scribbles, done.expulsions);
                shown = Instant::now();
            }
        }
    }
}

fn scribble(stage: &Stage) {
    let seed = given(SEED).expect("given by the test");
    let share = given(SCRIBBLES).expect("given by the test").div_ceil(HOSTILE);
    // Never 0, from which this noise does not get away.
    let mut noise = Noise((seed << 8 | stage.number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut attacks = Attacks::default();
    let (mut said, mut flowed) = (Instant::now(), 0);
    let mut past = vec![0; 64];
    while attacks.scribbles < share || flowed < FRAMES {
        let Some(mut seated) = Seated::join(stage, &mut noise, &mut past) else { continue };
        attacks.joins += 1;
        seated.stay(&mut attacks);
        attacks.expulsions += u64::from(seated.raw.has_ended());
        flowed = tail(&seated.fds[0]);
        if said.elapsed() > PATIENCE / 30 {
            attacks.tell(stage, "at");
            said = Instant::now();
        }
        // Some hold on to what they had a little longer.
        if noise.one_in(16) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    attacks.tell(stage, "done");
}

/// A seat, taken by hand: only as keep-last, since to hold a producer back is the right of a reliable one.
struct Seated<'a> {
    raw: Raw,
    fds: Vec<OwnedFd>,
    seat: Scribble,
    bell: Scribble,
    /// Whether it writes only what a consumer might.
    plausible: bool,
    noise: &'a mut Noise,
    /// Values found earlier, of this and other seats.
    past: &'a mut [u64],
}

impl<'a> Seated<'a> {
    fn join(stage: &Stage, noise: &'a mut Noise, past: &'a mut [u64]) -> Option<Self> {
        let raw = Raw::try_connect(&stage.directory, "cam")?;
        if !raw.send(&wire::join(Some(1 + noise.below(64) as u32)), &[]) {
            return None;
        }
        let (welcome, fds) = raw.hear()?;
        if wire::tag(&welcome) != WELCOME {
            return None;
        }
        let (seat, bell) = (Scribble::over(&fds[1]), Scribble::over(&fds[2]));
        Some(Self { raw, fds, seat, bell, plausible: !noise.one_in(4), noise, past })
    }

    /// Goes on until it is put out, or, now and then, leaves by itself.
    fn stay(&mut self, attacks: &mut Attacks) {
        let patience = if self.noise.one_in(8) { self.noise.below(500) } else { 5_000 };
        let mut since = 0;
        while since < patience && !self.raw.has_ended() {
            for _ in 0..=self.noise.below(16) {
                since += self.attack(attacks);
            }
            if self.noise.one_in(4) {
                std::thread::yield_now();
            }
        }
    }

    /// One act of violence, of that many scribbles.
    fn attack(&mut self, attacks: &mut Attacks) -> u64 {
        let scribbles = match self.noise.below(16) {
            0 => {
                attacks.calls += 1;
                self.disturb_sleepers();
                0
            }
            1 => self.ring(),
            2 if self.noise.one_in(16) => self.punch(),
            _ if self.plausible => self.lie(),
            _ => self.rave(),
        };
        attacks.scribbles += scribbles;
        scribbles
    }

    /// Moves, wakes, or takes the place of those who sleep on the bell or on this seat.
    fn disturb_sleepers(&mut self) {
        let any = |noise: &mut Noise| noise.below(512) as usize;
        let (bell, parked) = (&self.bell.words()[0], &self.seat.words()[seat::PARKED]);
        let (elsewhere, here) = (&self.bell.words()[any(self.noise)], &self.seat.words()[any(self.noise)]);
        match self.noise.below(7) {
            0 => futex::wake(bell),
            1 => futex::wake(parked),
            2 => futex::requeue(bell, elsewhere),
            3 => futex::requeue(bell, here),
            4 => futex::requeue_if(bell, bell.load(Relaxed) as u32, parked),
            5 => futex::wait(bell, bell.load(Relaxed) as u32, Duration::from_micros(300)),
            _ => futex::wait(parked, parked.load(Relaxed) as u32, Duration::from_micros(300)),
        }
    }

    fn ring(&mut self) -> u64 {
        let at = if self.noise.one_in(2) { 0 } else { self.noise.below(512) as usize };
        self.change(false, at);
        if self.noise.one_in(4) {
            futex::wake(&self.bell.words()[0]);
        }
        1
    }

    fn punch(&mut self) -> u64 {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let which = 1 + self.noise.below(2) as usize;
        fallocate(&self.fds[which], flags, 0, 4096).expect("both can get holes");
        1
    }

    /// What a consumer may write, when it may not.
    fn lie(&mut self) -> u64 {
        let words = self.seat.words();
        match self.noise.below(5) {
            0 => {
                let ahead = tail(&self.fds[0]).saturating_sub(self.noise.below(4));
                words[seat::CURSOR].fetch_max(ahead, Relaxed);
            }
            1 | 2 => {
                let any = |noise: &mut Noise| 1 << noise.below(SLOTS.into());
                words[seat::HELD].store(any(self.noise) | any(self.noise), Relaxed);
            }
            _ => {
                // Whatever is not checked.
                let at = match self.noise.below(4) {
                    0 => seat::PARKED,
                    1 => seat::RECEIVED,
                    2 => seat::MISSED,
                    _ => 2 + self.noise.below(510) as usize,
                };
                self.change(true, at);
            }
        }
        1
    }

    /// Any word, anywhere.
    fn rave(&mut self) -> u64 {
        let at = match self.noise.below(3) {
            0 => self.noise.below(512) as usize,
            _ => seat::ALL[self.noise.below(seat::ALL.len() as u64) as usize],
        };
        self.change(true, at);
        1
    }

    /// Another value for a word: at random, off by a bit, or one that was there before.
    fn change(&mut self, seat: bool, at: usize) {
        let word: &AtomicU64 = if seat { &self.seat.words()[at] } else { &self.bell.words()[at] };
        let now = word.load(Relaxed);
        let place = self.noise.below(self.past.len() as u64) as usize;
        let value = match self.noise.below(6) {
            0 => self.noise.word(),
            1 => self.noise.word() >> self.noise.below(64),
            2 => now ^ 1 << self.noise.below(64),
            3 => now.wrapping_add(self.noise.below(5)).wrapping_sub(2),
            4 => [0, 1, u64::MAX, u64::MAX - 1][self.noise.below(4) as usize],
            _ => self.past[place],
        };
        self.past[place] = now;
        word.store(value, Relaxed);
    }
}
