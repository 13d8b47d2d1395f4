//! The producer's half: publish, join and leave, close. `reclaim.rs` finds free slots.

use super::reclaim::slots_between;
use super::{Policy, Readiness, bit, mask};
use crate::shm::{Bell, Board, Cold, Entry, RING, Seat, Shared, State};
use crate::step::{Step, reach};
use crate::sync::order;
use std::sync::atomic::Ordering::Relaxed;

/// A seat in the producer's list. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SeatId(u64);

/// The description that changes with every frame; it rides in the entry.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hot {
    pub(crate) published: u64,
    pub(crate) captured: u64,
    pub(crate) cpu: u32,
    /// A device still writes the frame. Whoever waits for it calls [`readiness::settle`](super::readiness::settle).
    pub(crate) open: bool,
}

/// One consumer, as the producer keeps it.
#[derive(Debug)]
pub(crate) struct Member<P> {
    pub(super) id: SeatId,
    pub(super) seat: Shared<Seat>,
    pub(super) policy: Policy,
    /// The furthest its cursor was seen.
    pub(super) reached: u64,
    /// Its cursor and what it held when the producer last had no slot, and since when it had been so.
    pub(super) stood: (u64, u64),
    pub(super) stood_since: u64,
    /// Put out by the producer, and not gone.
    pub(super) expelled: bool,
    pub(super) evicted: u64,
    pub(crate) port: P,
}

/// The producer's private state. One lock around it serialises acquire, publish and the list of seats.
#[derive(Debug)]
pub(crate) struct Publisher<P> {
    pub(super) board: Shared<Board>,
    bell: Shared<Bell>,
    pub(super) slots: u32,
    pub(super) max_held: u32,
    pub(super) history: u64,
    /// Frames published ever; the truth, of which the board's tail is a copy.
    pub(super) tail: u64,
    /// Slot of each of the last [`RING`] sequences; the board's copy is never read back.
    pub(super) ring: [u32; RING],
    /// Holds the producer itself has on each slot: the writing lease and every view made from it.
    own: [u32; RING],
    /// Bit i: `own[i]` is not 0.
    own_mask: u64,
    /// When each slot was last published, as sequence + 1.
    pub(super) last_use: [u64; RING],
    /// The same in time.
    published_at: [u64; RING],
    versions: [u32; RING],
    pub(super) members: Vec<Member<P>>,
    next_id: u64,
    /// Slots the last scan found free. They stay free until we take them: only a publication makes one busy.
    pub(super) known_free: u64,
    /// Whether frames follow each other so fast that nobody can have touched much of them.
    pub(super) in_haste: bool,
    last_published: u64,
    sleepers: u32,
    /// Since when there has been no slot; 0 while there is.
    pub(super) full_since: u64,
    /// Since when somebody who asked for a slot has got none; 0 once one was got.
    pub(super) none_since: u64,
    /// When it was last looked who stands in the way, and whether a pause of ours was allowed for since `full_since`.
    pub(super) looked: u64,
    pub(super) excused: bool,
    pub(super) evicted: u64,
    pub(super) expelled: u64,
    closed: bool,
}

/// Frames closer together than this, in ns, can't have been written through to more than about 100 KB.
const HASTE: u64 = 2_000;

impl<P> Member<P> {
    pub(crate) fn id(&self) -> SeatId {
        self.id
    }

    /// What it shares with its consumer.
    pub(crate) fn seat(&self) -> &Shared<Seat> {
        &self.seat
    }

    /// Gives the memory of the seat back, of a consumer that is gone or was put out.
    #[cfg(not(any(bips_loom, bips_shuttle)))]
    pub(crate) fn discard(self) {
        self.seat.segment().discard();
    }
}

impl<P> Publisher<P> {
    pub(crate) fn new(
        board: Shared<Board>,
        bell: Shared<Bell>,
        slots: u32,
        max_held: u32,
        history: u32,
    ) -> Self {
        Self {
            board,
            bell,
            slots,
            max_held,
            history: u64::from(history),
            tail: 0,
            ring: [0; RING],
            own: [0; RING],
            own_mask: 0,
            last_use: [0; RING],
            published_at: [0; RING],
            versions: [0; RING],
            members: Vec::with_capacity(MAX_SEATS),
            next_id: 0,
            known_free: 0,
            in_haste: false,
            last_published: 0,
            sleepers: 0,
            full_since: 0,
            none_since: 0,
            looked: 0,
            excused: false,
            evicted: 0,
            expelled: 0,
            closed: false,
        }
    }

    /// Publishes what was written into `slot`, with its cold description where that has changed.
    /// Wakes whoever sleeps; never waits for anyone. The writing hold on the slot ends here.
    ///
    /// `hot` is asked after the entry is claimed: a consumer that polls it has the line, and fetching that
    /// back takes as long as reading the clock.
    #[inline]
    pub(crate) fn publish(&mut self, slot: u32, hot: impl FnOnce() -> Hot, cold: Option<&Cold>) -> u64 {
        let sequence = self.tail;
        let version = &mut self.versions[slot as usize];
        if let Some(cold) = cold {
            *version = version.wrapping_add(1);
            self.board.write_cold(slot, cold);
            reach(Step::PublishDescribed);
        }
        let entry = self.board.entry(sequence);
        entry.stamp.store(0, Relaxed);
        order::FE(); // ORDERING(FE, release fence) -> C1
        reach(Step::PublishCleared);
        let hot = hot();
        if hot.open {
            // Before the stamp, by which it is seen.
            self.board.readiness(slot).store(Readiness::Open.of(sequence), Relaxed);
        }
        entry.flags.store(if hot.open { Entry::OPEN } else { 0 }, Relaxed);
        entry.slot.store(slot, Relaxed);
        entry.version.store(*version, Relaxed);
        entry.cpu.store(hot.cpu, Relaxed);
        entry.published.store(hot.published, Relaxed);
        entry.captured.store(hot.captured, Relaxed);
        reach(Step::PublishWritten);
        self.tail = sequence + 1;
        entry.stamp.store(self.tail, order::P4()); // ORDERING(P4, release) -> C1
        reach(Step::PublishStamped);
        self.board.tail().store(self.tail, order::P5()); // ORDERING(P5, release) -> C7
        reach(Step::PublishCounted);

        self.ring[sequence as usize % RING] = slot;
        self.last_use[slot as usize] = self.tail;
        self.published_at[slot as usize] = hot.published;
        self.drop_own(slot);
        if self.sleepers > 0 {
            // With no reader the slot is free again, and another thread of ours may wait for one.
            self.bell.ring();
        }
        self.in_haste = hot.published.wrapping_sub(self.last_published) < HASTE;
        self.last_published = hot.published;
        self.wake();
        sequence
    }

    /// Ends the stream: consumers drain what was published, then learn that it is closed.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.board.set_state(State::Closed, order::P6()); // ORDERING(P6, release) -> C8
        reach(Step::CloseMarked);
        self.wake();
        self.bell.ring(); // our own threads that wait for a slot
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Wakes every parked consumer. Call after writing the reason to wake up.
    pub(crate) fn wake(&self) {
        order::FP(); // ORDERING(FP, fence) -> FK
        for member in &self.members {
            let parked = member.seat.parked();
            // Read before the exchange: an exchange would take the line away from a consumer that is awake.
            let now = parked.load(Relaxed);
            if now & Seat::WAITS != 0 && parked.advance(now) {
                reach(Step::WakeCleared);
                // One: a consumer waits in one thread. If it puts a thousand more to sleep here, it is not we who
                // pay for waking them, under our lock.
                parked.wake_one();
            }
        }
        reach(Step::WakeDone);
    }

    /// Seats a consumer: it gets the last `history` frames there are, then every one from now on.
    /// Happens under the producer's lock, so no publication can fall between (ADR 2). `None`: all seats taken.
    pub(crate) fn join(&mut self, seat: Shared<Seat>, policy: Policy, port: P) -> Option<SeatId> {
        if self.members.len() >= MAX_SEATS {
            return None;
        }
        let reached = self.tail - self.history.min(self.tail);
        seat.cursor().store(reached, Relaxed);
        let id = SeatId(self.next_id);
        self.next_id += 1;
        let stood = (Seat::RESIGNED, 0);
        self.members.push(Member {
            id,
            seat,
            policy,
            reached,
            stood,
            stood_since: 0,
            expelled: false,
            evicted: 0,
            port,
        });
        Some(id)
    }

    pub(crate) fn is_seated(&self, id: SeatId) -> bool {
        self.members.iter().any(|member| member.id == id)
    }

    /// Removes a consumer, dead or leaving; its leases come back at once. Its port is returned to be closed
    /// outside the lock.
    pub(crate) fn leave(&mut self, id: SeatId) -> Option<Member<P>> {
        let at = self.members.iter().position(|member| member.id == id)?;
        let member = self.members.swap_remove(at);
        reach(Step::MemberRemoved);
        if self.sleepers > 0 {
            self.bell.ring();
        }
        Some(member)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = MemberView<'_, P>> {
        let standstill = self.standstill();
        self.members.iter().map(move |member| {
            let (received, skipped) = member.seat.counts();
            let held = member.seat.held().load(Relaxed) & mask(self.slots);
            let cursor = member.seat.cursor().load(Relaxed);
            let unread = self.tail.saturating_sub(cursor).min(u64::from(self.slots));
            MemberView {
                policy: member.policy,
                held: held.count_ones(),
                held_since: self.first_published(held),
                unread: unread as u32,
                unread_since: self.first_published(slots_between(&self.ring, self.tail - unread, self.tail)),
                received,
                missed: skipped.max(member.evicted),
                expelled: member.is_expelled(),
                in_the_way: self.is_in_the_way(standstill, member),
                port: &member.port,
            }
        })
    }

    /// When the oldest of what lies in these slots was published.
    fn first_published(&self, mut slots: u64) -> Option<u64> {
        let mut first = None;
        while slots != 0 {
            let at = self.published_at[slots.trailing_zeros() as usize];
            slots &= slots - 1;
            first = Some(first.map_or(at, |first: u64| first.min(at)));
        }
        first
    }

    /// Adds a hold of the producer itself on a slot that is free or its own.
    pub(crate) fn hold(&mut self, slot: u32) {
        self.own[slot as usize] += 1;
        self.own_mask |= bit(slot);
    }

    fn drop_own(&mut self, slot: u32) {
        let holds = &mut self.own[slot as usize];
        *holds -= 1;
        if *holds == 0 {
            self.own_mask &= !bit(slot);
        }
    }

    /// Ends one of the producer's own holds.
    pub(crate) fn unhold(&mut self, slot: u32) {
        self.drop_own(slot);
        if self.own_mask & bit(slot) == 0 && self.sleepers > 0 {
            self.bell.ring();
        }
    }

    /// Slots the producer itself has a hold on.
    pub(crate) fn own_holds(&self) -> u64 {
        self.own_mask
    }

    /// Tells consumers that a slot is wanted; read the bell after this and look again before sleeping.
    pub(crate) fn hungry(&mut self) -> u32 {
        self.sleepers += 1;
        self.board.hungry().store(1, Relaxed);
        let seen = self.bell.read();
        order::FH(); // ORDERING(FH, fence) -> FF
        reach(Step::HungerAnnounced);
        seen
    }

    /// The opposite of [`Publisher::hungry`].
    pub(crate) fn fed(&mut self) {
        reach(Step::HungerOver);
        self.sleepers -= 1;
        if self.sleepers == 0 {
            self.board.hungry().store(0, Relaxed);
        }
    }

    pub(crate) fn published(&self) -> u64 {
        self.tail
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn expelled(&self) -> u64 {
        self.expelled
    }
}

/// Most consumers of one stream.
pub(crate) const MAX_SEATS: usize = 64;

/// What the producer can tell about a consumer.
pub(crate) struct MemberView<'a, P> {
    pub(crate) policy: Policy,
    pub(crate) held: u32,
    /// When the oldest frame it holds was published.
    pub(crate) held_since: Option<u64>,
    pub(crate) unread: u32,
    /// When the oldest frame it has not read was published.
    pub(crate) unread_since: Option<u64>,
    pub(crate) received: u64,
    pub(crate) missed: u64,
    pub(crate) expelled: bool,
    /// The stream stands still, and waits for this consumer.
    pub(crate) in_the_way: bool,
    pub(crate) port: &'a P,
}
