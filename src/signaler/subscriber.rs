//! The consumer's half: receive, release, park. Lock-free; one thread receives at a time, any may release.

use super::{Policy, Readiness, bit};
use crate::shm::{Bell, Board, Cold, Entry, Seat, Shared, State};
use crate::step::{Step, reach};
use crate::sync::order;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

/// How often a take begins anew after losing against an eviction.
const RETRIES: u32 = 64;

/// A frame as the entry described it, leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) sequence: u64,
    pub(crate) slot: u32,
    pub(crate) version: u32,
    pub(crate) published: u64,
    pub(crate) captured: u64,
    pub(crate) cpu: u32,
    /// It was published before its device was done: see [`Subscriber::readiness`].
    pub(crate) open: bool,
}

/// Why a take gave nothing although something may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakeError {
    /// As many frames leased as allowed.
    TooManyHeld,
    /// The board says what no producer of this protocol writes.
    Protocol,
}

/// One consumer's view of a board and its seat.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber {
    board: Shared<Board>,
    seat: Shared<Seat>,
    bell: Shared<Bell>,
    policy: Policy,
    /// Whether the producer may put consumers out, reliable ones too.
    expels: bool,
    slots: u32,
    max_held: u32,
}

impl Subscriber {
    pub(crate) fn new(
        board: Shared<Board>,
        seat: Shared<Seat>,
        bell: Shared<Bell>,
        policy: Policy,
        expels: bool,
        slots: u32,
        max_held: u32,
    ) -> Self {
        Self { board, seat, bell, policy, expels, slots, max_held }
    }

    /// Leases the next frame, if there is one.
    #[inline]
    pub(crate) fn take(&self) -> Result<Option<Taken>, TakeError> {
        // An honest producer evicts us once or twice in a row. One that never stops must not keep us here: the
        // caller has a deadline.
        for _ in 0..RETRIES {
            let cursor = self.seat.cursor().load(order::C0()); // ORDERING(C0, acquire) -> P3, P7
            if let Policy::KeepLast(depth) = self.policy
                && self.skip(cursor, u64::from(depth))
            {
                continue;
            }
            let entry = self.board.entry(cursor);
            let stamp = entry.stamp.load(order::C1()); // ORDERING(C1, acquire) -> P4
            if stamp != cursor.wrapping_add(1) {
                // Evicted between the two reads? Then the new stamp showed us the new cursor.
                if self.seat.cursor().load(Relaxed) != cursor {
                    continue;
                }
                return if stamp > cursor.wrapping_add(1) { Err(TakeError::Protocol) } else { Ok(None) };
            }
            // Copied now: the exchange below proves that the entry was not rewritten meanwhile.
            let taken = Taken {
                sequence: cursor,
                slot: entry.slot.load(Relaxed),
                version: entry.version.load(Relaxed),
                published: entry.published.load(Relaxed),
                captured: entry.captured.load(Relaxed),
                cpu: entry.cpu.load(Relaxed),
                open: entry.flags.load(Relaxed) & Entry::OPEN != 0,
            };
            if taken.slot >= self.slots {
                // A rewritten entry can mix two frames; only an unmoved cursor makes this the producer's word.
                if self.seat.cursor().load(Relaxed) != cursor {
                    continue;
                }
                return Err(TakeError::Protocol);
            }
            if self.seat.held().load(Relaxed).count_ones() >= self.max_held {
                return Err(TakeError::TooManyHeld);
            }
            let slot = bit(taken.slot);
            reach(Step::TakeRead);
            let held = self.seat.held().fetch_or(slot, order::C2()); // ORDERING(C2, relaxed) -> C3, C9
            reach(Step::TakeHeld);
            let next = cursor.wrapping_add(1);
            let moved = match self.policy {
                // Nobody evicts or puts out such a consumer, so its cursor is its own: no exchange needed.
                Policy::Reliable if !self.expels => {
                    self.seat.cursor().store(next, order::C9()); // ORDERING(C9, release) -> P1
                    true
                }
                _ => {
                    // ORDERING(C3, acq_rel) -> P1, P3, P7
                    self.seat.cursor().compare_exchange(cursor, next, order::C3(), Relaxed).is_ok()
                }
            };
            if moved {
                reach(Step::TakeMoved);
                if held & slot != 0 {
                    return Err(TakeError::Protocol); // the slot was ours: nobody may publish it again
                }
                return Ok(Some(taken));
            }
            reach(Step::TakeLost);
            // The producer evicted us, or put us out. Give the slot back, unless an older frame of ours lies in it.
            if held & slot == 0 {
                self.seat.held().fetch_and(!slot, order::C4()); // ORDERING(C4, release) -> P2
                reach(Step::TakeReturned);
                self.freed();
            }
        }
        Ok(None)
    }

    /// Gives up what is older than the newest `depth` frames; whether the cursor must be read anew.
    fn skip(&self, cursor: u64, depth: u64) -> bool {
        let tail = self.board.tail().load(order::C7()); // ORDERING(C7, acquire) -> P5
        let behind = tail.wrapping_sub(cursor);
        // Further behind than a pool can be is the producer's nonsense; the stamp will not match either. And who is out
        // stays out.
        if behind <= depth || behind > u64::from(self.slots) || cursor >= Seat::EXPELLED {
            return false;
        }
        let to = tail.wrapping_sub(depth);
        // ORDERING(C6, acq_rel) -> P1
        if self.seat.cursor().compare_exchange(cursor, to, order::C6(), Relaxed).is_ok() {
            reach(Step::SkipMoved);
            self.freed();
        }
        true
    }

    /// Copies the cold description of a slot this consumer holds.
    pub(crate) fn read_cold(&self, slot: u32) -> Cold {
        self.board.read_cold(slot)
    }

    /// How far a frame is that was taken open.
    pub(crate) fn readiness(&self, slot: u32, sequence: u64) -> Readiness {
        // ORDERING(R2, acquire) -> R1
        Readiness::read(self.board.readiness(slot).load(order::R2()), sequence)
    }

    /// Sleeps while it is open, at most `timeout`, in any thread. May return for no reason. Whoever has the board can move
    /// a sleeper to a word that nobody wakes: look again in time.
    pub(crate) fn await_readiness(&self, slot: u32, sequence: u64, timeout: Duration) {
        self.board.readiness(slot).wait(Readiness::Open.of(sequence), Some(timeout));
    }

    /// Wakes all who sleep so, for instance because the producer died. Call after writing the reason.
    pub(crate) fn wake_readiness(&self) {
        for slot in 0..self.slots {
            self.board.readiness(slot).wake_all();
        }
    }

    /// Gives a slot back. Any thread.
    #[inline]
    pub(crate) fn release(&self, slot: u32) {
        self.seat.held().fetch_and(!bit(slot), order::C5()); // ORDERING(C5, release) -> P2
        reach(Step::ReleaseCleared);
        self.freed();
    }

    /// Takes no more frames, and lets go of those unread. What is held stays held.
    pub(crate) fn resign(&self) {
        // Against an eviction under way: its exchange expects another value and fails.
        self.seat.cursor().store(Seat::RESIGNED, order::C10()); // ORDERING(C10, release) -> P1
        reach(Step::Resigned);
        order::FC(); // ORDERING(FC, fence) -> FH
        self.ring_if_hungry();
    }

    /// Tells a hungry producer that a slot may be free.
    #[inline]
    fn freed(&self) {
        order::FF(); // ORDERING(FF, fence) -> FH
        self.ring_if_hungry();
    }

    #[inline]
    fn ring_if_hungry(&self) {
        if self.board.hungry().load(Relaxed) != 0 {
            self.bell.ring();
            reach(Step::ReleaseRung);
        }
    }

    /// Whether the producer said that it is done. Ask *before* [`Subscriber::take`]: only if that then finds
    /// nothing has everything been received.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.board.state(order::C8()) == State::Closed // ORDERING(C8, acquire) -> P6
    }

    /// Whether the producer put this consumer out. Ask *before* [`Subscriber::take`], as above.
    pub(crate) fn is_expelled(&self) -> bool {
        self.seat.cursor().load(order::C0()) == Seat::EXPELLED // ORDERING(C0, acquire) -> P7
    }

    /// Announces that this consumer is about to wait: go ahead with the token, or, with none, look again, because
    /// something happened meanwhile. `gone` is this side's own reason not to wait.
    ///
    /// Either way the announcement stands until [`Subscriber::disarm`]: the producer wakes once too often at worst.
    pub(crate) fn arm(&self, gone: impl Fn() -> bool) -> Option<u32> {
        self.arm_unless(|| self.has_next() || self.is_closed() || gone())
    }

    /// The same for who waits for something else, such as that a frame is whole: the producer wakes for that too.
    pub(crate) fn arm_unless(&self, there: impl Fn() -> bool) -> Option<u32> {
        let parked = self.seat.parked();
        // An exchange, never a store: the word must not go back to a number that was used.
        let token = parked.set(Seat::WAITS);
        reach(Step::ParkAnnounced);
        order::FK(); // ORDERING(FK, fence) -> FP
        (!there()).then_some(token)
    }

    /// Awake again.
    pub(crate) fn disarm(&self) {
        let parked = self.seat.parked();
        let now = parked.load(Relaxed);
        if now & Seat::WAITS != 0 {
            parked.advance(now); // else somebody woke us just now
        }
    }

    /// The longest a consumer trusts that it will be woken before it looks for itself: whoever has the seat can move
    /// a sleeper to a word that nobody wakes (`FUTEX_REQUEUE`), where not even [`Subscriber::wake_self`] finds it.
    const RECHECK: Duration = Duration::from_secs(1);

    /// Sleeps until woken, at most `timeout`. May return for no reason.
    pub(crate) fn park(&self, timeout: Option<Duration>, gone: impl Fn() -> bool) {
        if let Some(token) = self.arm(gone) {
            self.seat
                .parked()
                .wait(token, Some(timeout.map_or(Self::RECHECK, |left| left.min(Self::RECHECK))));
            reach(Step::ParkWoken);
        }
        self.disarm();
    }

    /// Wakes this consumer's own sleeper, for instance because its producer died. Call after writing the reason.
    pub(crate) fn wake_self(&self) {
        order::FP(); // ORDERING(FP, fence) -> FK
        let parked = self.seat.parked();
        // Whatever the word says: a producer may have advanced it and died before it woke anyone.
        let now = parked.set(Seat::WAITS);
        parked.advance(now); // ORDERING: its release pairs with the load in `Subscriber::await_wake`
        // All: the producer can have seated strangers here, and it will not help whom a wake-up of one misses.
        parked.wake_all();
    }

    /// For a thread that does nothing but pass wake-ups on: sleeps until somebody was woken since `last`, or
    /// `stopped`, which is written before [`Subscriber::wake_self`]. Gives the number to go on with.
    pub(crate) fn await_wake(&self, last: u32, stopped: impl Fn() -> bool) -> Option<u32> {
        let parked = self.seat.parked();
        loop {
            let now = parked.load(Acquire); // ORDERING: pairs with the store in `Subscriber::wake_self`
            if stopped() {
                return None;
            }
            // A wait that began and ended between two looks shows, though another may have begun since: each has a
            // number of its own.
            let wake = now & !Seat::WAITS;
            if wake != last {
                return Some(wake);
            }
            parked.wait(now, Some(Self::RECHECK));
        }
    }

    /// The number to begin with in [`Subscriber::await_wake`].
    pub(crate) fn last_wake(&self) -> u32 {
        self.seat.parked().load(Relaxed) & !Seat::WAITS
    }

    fn has_next(&self) -> bool {
        let cursor = self.seat.cursor().load(order::C0()); // ORDERING(C0, acquire) -> P3, P7
        let stamp = self.board.entry(cursor).stamp.load(order::C1()); // ORDERING(C1, acquire) -> P4
        // Any newer stamp is news too: we were evicted, and `take` moves on.
        stamp >= cursor.wrapping_add(1) || cursor == Seat::EXPELLED
    }

    pub(crate) fn count(&self, received: u64, skipped: u64) {
        self.seat.count(received, skipped);
    }

    /// Frames leased just now.
    pub(crate) fn held(&self) -> u32 {
        self.seat.held().load(Relaxed).count_ones()
    }
}
