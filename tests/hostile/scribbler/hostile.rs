//! Consumers that write whatever they like to all they can write to.

use super::{FRAMES, HOSTILE, SCRIBBLES, SEED, SLOTS, STALL, Target, given};
use crate::common::PATIENCE;
use crate::common::process::{Peer, Stage};
use crate::common::wire::{self, Noise, Raw, Scribble, WELCOME, seat, tail};
use crate::futex;
use nix::fcntl::{FallocateFlags, fallocate};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The cursor of one that was put out for a stall.
const EXPELLED: u64 = u64::MAX - 1;

/// What one or all of them have done.
#[derive(Debug, Default)]
pub(super) struct Attacks {
    pub(super) scribbles: u64,
    pub(super) calls: u64,
    pub(super) joins: u64,
    pub(super) expulsions: u64,
}

impl Attacks {
    pub(super) fn add(&mut self, other: &Self) {
        self.scribbles += other.scribbles;
        self.calls += other.calls;
        self.joins += other.joins;
        self.expulsions += other.expulsions;
    }

    fn tell(&self, stage: &Stage, word: &str) {
        stage.say(format!("{word} {} {} {} {}", self.scribbles, self.calls, self.joins, self.expulsions));
    }

    /// Hears one of them out.
    pub(super) fn of(hostile: &mut Peer) -> Self {
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

pub(super) fn scribble(stage: &Stage) {
    let seed = given(SEED).expect("given by the test");
    let share = given(SCRIBBLES).expect("given by the test").div_ceil(HOSTILE);
    // Never 0, from which this noise does not get away.
    let mut noise = Noise((seed << 8 | stage.number >> 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut attacks = Attacks::default();
    let (mut said, mut flowed) = (Instant::now(), 0);
    let mut past = vec![0; 64];
    while attacks.scribbles < share || flowed < FRAMES {
        let Some(mut seated) = Seated::join(stage, attacks.joins == 0, &mut noise, &mut past) else {
            continue;
        };
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

/// A seat, taken by hand: as a reliable one only where it is put out for it, since else to hold a producer back is its
/// right.
struct Seated<'a> {
    raw: Raw,
    fds: Vec<OwnedFd>,
    seat: Scribble,
    bell: Scribble,
    /// Whether it writes only what a consumer might.
    plausible: bool,
    /// Whether it does nothing until it is put out for that.
    stalls: bool,
    noise: &'a mut Noise,
    /// Values found earlier, of this and other seats.
    past: &'a mut [u64],
}

impl<'a> Seated<'a> {
    fn join(stage: &Stage, is_first: bool, noise: &'a mut Noise, past: &'a mut [u64]) -> Option<Self> {
        let raw = Raw::try_connect(&stage.directory, "cam")?;
        let target = Target::of(stage);
        let is_reliable = target == Target::Expelling && (noise.one_in(2) || is_first);
        let depth = 1 + noise.below(64) as u32;
        if !raw.send(&wire::join((!is_reliable).then_some(depth)), &[]) {
            return None;
        }
        let (welcome, fds) = raw.hear()?;
        if wire::tag(&welcome) != WELCOME {
            return None;
        }
        let (seat, bell) = (Scribble::over(&fds[1]), Scribble::over(&fds[2]));
        let stalls = is_reliable && (noise.one_in(64) || is_first);
        Some(Self { raw, fds, seat, bell, plausible: !noise.one_in(4), stalls, noise, past })
    }

    /// Goes on until it is put out, or, now and then, leaves by itself.
    fn stay(&mut self, attacks: &mut Attacks) {
        let patience = if self.noise.one_in(8) { self.noise.below(500) } else { 5_000 };
        let mut since = 0;
        let cursor = &self.seat.words()[seat::CURSOR];
        let out = Instant::now() + 3 * STALL;
        while self.stalls && cursor.load(Relaxed) != EXPELLED && Instant::now() < out {
            std::thread::sleep(STALL / 100);
        }
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
        // Who watches over this seat sleeps there.
        let alive = &self.seat.words()[seat::ALIVE];
        match self.noise.below(11) {
            0 => futex::wake(bell),
            1 => futex::wake(parked),
            2 => futex::requeue(bell, elsewhere),
            3 => futex::requeue(bell, here),
            4 => futex::requeue_if(bell, bell.load(Relaxed) as u32, parked),
            5 => futex::wait(bell, bell.load(Relaxed) as u32, Duration::from_micros(300)),
            6 => futex::wake(alive),
            7 => futex::requeue(alive, here),
            8 => futex::requeue(alive, elsewhere),
            9 => futex::wait(alive, alive.load(Relaxed) as u32, Duration::from_micros(300)),
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
                let at = match self.noise.below(5) {
                    0 => seat::PARKED,
                    1 => seat::RECEIVED,
                    2 => seat::MISSED,
                    3 => seat::ALIVE,
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
