//! Producers that seat a consumer and then write whatever they like over all that they share with it.

use crate::common::process::{Role, Stage};
use crate::common::wire::{Noise, Scribble, seat};
use crate::common::{Over, PATIENCE, eventually};
use crate::futex;
use crate::impostors::future_write;
use crate::producers::{Liar, alone, numbers};
use bips::{Frame, Policy, ReceiveError, Wait};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// In a process of its own, where what is open can be counted.
pub(crate) const ROLES: [Role; 2] =
    [("reads a board of nonsense", read_nonsense), ("is moved in its sleep", moved_in_its_sleep)];

#[test]
fn a_board_of_nonsense() {
    alone("reads a board of nonsense");
}

/// Asleep without limit, on a word to which it was moved and that nobody wakes, it sees the end all the same: its thread
/// behind a poll descriptor too.
#[test]
fn a_sleeper_that_is_moved_away() {
    alone("is moved in its sleep");
}

const ROUNDS: u64 = 48;
const RECEIVES: u32 = 200;
const WAIT: Duration = Duration::from_millis(20);
const SLOTS: u64 = 2;

/// Where a board's words lie, as indices of 64-bit words; `docs/protocol.md` has them in bytes.
mod board {
    pub(super) const STATE: usize = 128 / 8;
    pub(super) const TAIL: usize = 256 / 8;
    pub(super) const HUNGRY: usize = 384 / 8;
    pub(super) const ENTRIES: usize = 4096 / 8;
    pub(super) const FRAMES: usize = 8192 / 8;
}

/// The same memory as a true producer's, but ours: mapped to write before it was sealed.
struct Forged {
    fds: Vec<OwnedFd>,
    memory: Vec<Scribble>,
}

impl Forged {
    fn after(truth: &[OwnedFd]) -> Self {
        let (mut fds, mut memory) = (Vec::new(), Vec::new());
        for fd in truth {
            let len = nix::sys::stat::fstat(fd).unwrap().st_size;
            let mut content = vec![0; len as usize];
            assert_eq!(nix::sys::uio::pread(fd, &mut content, 0).unwrap(), content.len());
            let forged =
                memfd_create(c"forged", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
            nix::unistd::ftruncate(&forged, len).unwrap();
            fallocate(&forged, FallocateFlags::empty(), 0, len).unwrap();
            assert_eq!(nix::sys::uio::pwrite(&forged, &content, 0).unwrap(), content.len());
            memory.push(Scribble::over(&forged));
            let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
            let may_write = fds.len() == 1 || fds.len() == 2;
            let seals = if may_write { seals } else { seals | future_write() };
            fcntl(&forged, FcntlArg::F_ADD_SEALS(seals)).unwrap();
            fds.push(forged);
        }
        Self { fds, memory }
    }

    /// Publishes now and then, as is right or nearly, and else writes anything anywhere, until `over`.
    fn scribble(&self, noise: &mut Noise, wild: bool, over: &AtomicBool) -> u64 {
        let [board, seat, bell] = [0, 1, 2].map(|which: usize| self.memory[which].words());
        let parked = &seat[seat::PARKED];
        let good: Vec<u64> = board[board::FRAMES..][..64].iter().map(|word| word.load(Relaxed)).collect();
        assert_ne!(good[0], 0, "the true producer has described a frame");
        let mut scribbles = 0;
        while !over.load(Relaxed) {
            for _ in 0..noise.below(40) {
                scribbles += 1;
                match noise.below(if wild { 9 } else { 5 }) {
                    0..3 => publish(board, seat, noise, &good),
                    3 => {
                        // Descriptions are read once their version is new; here they change all the time.
                        let at = board::FRAMES + noise.below(SLOTS * 64) as usize;
                        board[at].store(odd(noise, board[at].load(Relaxed)), Relaxed);
                    }
                    4 => {
                        let at = [board::STATE, board::TAIL, board::HUNGRY][noise.below(3) as usize];
                        board[at].store(odd(noise, board[at].load(Relaxed)), Relaxed);
                        // Most of the time it says that it goes on, or that would be the end of it.
                        board[board::STATE].store(u64::from(noise.one_in(64)), Relaxed);
                    }
                    5 => {
                        let at = board::ENTRIES + noise.below(64 * 8) as usize;
                        board[at].store(odd(noise, board[at].load(Relaxed)), Relaxed);
                    }
                    6 => {
                        let at = noise.below(board.len() as u64) as usize;
                        board[at].store(odd(noise, board[at].load(Relaxed)), Relaxed);
                    }
                    7 => {
                        let at = seat::ALL[noise.below(5) as usize];
                        seat[at].store(odd(noise, seat[at].load(Relaxed)), Relaxed);
                    }
                    _ => bell[0].store(noise.word(), Relaxed),
                }
            }
            match noise.below(8) {
                0 => futex::wake(parked),
                1 => futex::requeue(parked, &bell[0]),
                2 => futex::requeue_if(parked, parked.load(Relaxed) as u32, &seat[seat::RECEIVED]),
                3 if noise.one_in(16) => std::thread::sleep(2 * WAIT),
                _ => std::thread::yield_now(),
            }
        }
        scribbles
    }
}

/// An entry where the consumer looks next. Its slot and its description may be right, or not.
fn publish(board: &[AtomicU64], seat: &[AtomicU64], noise: &mut Noise, good: &[u64]) {
    let cursor = seat[seat::CURSOR].load(Relaxed);
    let entry = &board[board::ENTRIES + (cursor % 64) as usize * 8..][..8];
    let slot =
        if noise.one_in(50) { noise.word() >> noise.below(32) & 0xffff_ffff } else { noise.below(SLOTS) };
    let version = if noise.one_in(4) { noise.word() } else { noise.below(4) };
    entry[1].store(slot & 0xffff_ffff | version << 32, Relaxed);
    entry[2].store(noise.word(), Relaxed);
    entry[3].store(noise.word(), Relaxed);
    if !noise.one_in(8) {
        let frame = &board[board::FRAMES + (slot % SLOTS) as usize * 64..][..64];
        for (to, word) in frame.iter().zip(good) {
            to.store(*word, Relaxed);
        }
    }
    entry[0].store(cursor.wrapping_add(1), Relaxed);
    board[board::TAIL].store(cursor.wrapping_add(1 + noise.below(3)), Relaxed);
    if noise.one_in(4) {
        // Else it would soon believe that it holds all it may.
        seat[seat::HELD].store(0, Relaxed);
    }
    if seat[seat::PARKED].load(Relaxed) & 1 != 0 {
        seat[seat::PARKED].fetch_add(1, Relaxed);
        futex::wake(&seat[seat::PARKED]);
    }
}

/// Another value than `now`: at random, small, off by a bit, or of the ends of the range.
fn odd(noise: &mut Noise, now: u64) -> u64 {
    match noise.below(5) {
        0 => noise.word(),
        1 => noise.word() >> noise.below(64),
        2 => now ^ 1 << noise.below(64),
        3 => now.wrapping_add(noise.below(5)).wrapping_sub(2),
        _ => [0, 1, u64::MAX, 1 << 63][noise.below(4) as usize],
    }
}

/// Reads all of a frame in all ways there are: whatever it was described as, it lies in its slot.
fn examine(frame: &Frame) {
    assert!(u64::from(frame.slot()) < SLOTS);
    assert!(frame.nbytes() <= frame.slot_bytes());
    assert!(frame.metadata().len() <= bips::MAX_METADATA);
    assert!(frame.shape().len() <= bips::MAX_DIMS && frame.strides().len() == frame.shape().len());
    let reach = frame.shape().iter().zip(frame.strides()).try_fold(0_i64, |reach, (length, stride)| {
        reach.checked_add(i64::try_from(length.checked_sub(1)?).ok()?.checked_mul(*stride)?)
    });
    if !frame.shape().contains(&0) {
        let reach = reach.expect("no overflow");
        assert!((0..=frame.nbytes() as i64).contains(&reach), "{reach} of {}", frame.nbytes());
    }
    for plane in frame.planes() {
        assert!(plane.offset <= frame.nbytes() as u64);
    }
    let mut copy = vec![0; frame.slot_bytes()];
    frame.copy_to(0, &mut copy);
    assert!(!format!("{frame:?} {:?}", frame.content()).is_empty());
}

fn read_nonsense(stage: &Stage) {
    let liar = Liar::new(stage);
    let mut longest = Duration::ZERO;
    let mut outcomes = BTreeMap::<String, u64>::new();
    let mut scribbles = 0;
    for round in 0..ROUNDS {
        let policy = [Policy::Reliable, Policy::KeepLast(1), Policy::KeepLast(64)][round as usize % 3];
        let mut forged = None;
        let (joined, ends) = liar.offer(policy, |raw, welcome, fds| {
            let mine = Forged::after(&fds);
            raw.send(&welcome, &numbers(&mine.fds));
            forged = Some(mine);
        });
        let (mut consumer, forged) = (joined.unwrap(), forged.expect("made above"));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _over = Over(&over);
            let scribbler = scope.spawn(|| {
                let mut noise = Noise(0x9e37_79b9_7f4a_7c15 ^ round);
                forged.scribble(&mut noise, round % 2 == 1, &over)
            });
            if round % 4 >= 2 {
                consumer.poll_fd().unwrap();
            }
            let mut held = Vec::new();
            for number in 0..RECEIVES {
                let begin = Instant::now();
                let received = consumer.receive(Wait::For(WAIT));
                longest = longest.max(begin.elapsed());
                let outcome = match received {
                    Ok(frame) => {
                        examine(&frame);
                        if number % 3 == 0 {
                            held.push(frame);
                        }
                        String::from("frame")
                    }
                    Err(error) => {
                        assert!(!consumer.explain(error).to_string().is_empty());
                        error.kind().name().to_owned()
                    }
                };
                *outcomes.entry(outcome).or_default() += 1;
                if number % 8 == 7 {
                    held.clear();
                }
                let _ = (consumer.stats(), consumer.ending());
            }
            over.store(true, Relaxed);
            scribbles += scribbler.join().unwrap();
        });
        // It hangs up: whatever it left there is taken first, and that is not without end.
        drop(ends);
        let until = Instant::now() + PATIENCE;
        loop {
            match consumer.receive(Wait::For(WAIT)) {
                Ok(frame) => examine(&frame),
                Err(ReceiveError::Closed | ReceiveError::Protocol | ReceiveError::TooManyHeld) => break,
                Err(error) => assert_eq!(error, ReceiveError::Timeout),
            }
            assert!(Instant::now() < until, "the end is never seen");
        }
    }
    stage.say(format!("{scribbles} scribbles, received {outcomes:?}, longest wait {longest:?} of {WAIT:?}"));
    assert!(longest < PATIENCE / 3, "a wait of {WAIT:?} took {longest:?}");
    for kind in ["frame", "timeout", "protocol"] {
        assert!(outcomes.contains_key(kind), "never {kind}: {outcomes:?}");
    }
    liar.over();
}

fn moved_in_its_sleep(stage: &Stage) {
    let liar = Liar::new(stage);
    for polls in [false, true] {
        let mut forged = None;
        let (joined, ends) = liar.offer(Policy::Reliable, |raw, welcome, fds| {
            let mine = Forged::after(&fds);
            raw.send(&welcome, &numbers(&mine.fds));
            forged = Some(mine);
        });
        let (mut consumer, forged) = (joined.unwrap(), forged.expect("made above"));
        if polls {
            consumer.poll_fd().unwrap();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let words = forged.memory[1].words();
                let moved = || futex::moved(&words[seat::PARKED], &words[100]) == 1;
                eventually("somebody sleeps there", moved);
                drop(ends);
            });
            let end = consumer.receive(Wait::Forever).expect_err("nothing was published");
            assert_eq!(end, ReceiveError::Closed);
        });
    }
    liar.over();
}
