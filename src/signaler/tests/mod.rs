//! The signaler over real shared memory, in one thread: every transition by itself.

use super::*;
use crate::shm::{Bell, Board, Seat, Shared};
use crate::sys::{PAGE, Segment, Sharing};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

struct Stream {
    publisher: Publisher<()>,
    board: Shared<Board>,
    bell: Shared<Bell>,
    slots: u32,
    max_held: u32,
    clock: u64,
}

impl Stream {
    fn new(slots: u32, max_held: u32, history: u32) -> Self {
        let segment = |len| Arc::new(Segment::create("test", len, Sharing::ReadWrite).unwrap());
        let board = Shared::<Board>::over(segment(size_of::<Board>() as u64));
        let bell = Shared::<Bell>::over(segment(PAGE));
        let publisher = Publisher::new(board.clone(), bell.clone(), slots, max_held, history);
        Self { publisher, board, bell, slots, max_held, clock: 0 }
    }

    fn join(&mut self, policy: Policy) -> (SeatId, Subscriber, Shared<Seat>) {
        let seat = Shared::<Seat>::over(Arc::new(Segment::create("seat", PAGE, Sharing::ReadWrite).unwrap()));
        let id = self.publisher.join(seat.clone(), policy, ()).unwrap();
        let subscriber = Subscriber::new(
            self.board.clone(),
            seat.clone(),
            self.bell.clone(),
            policy,
            true,
            self.slots,
            self.max_held,
        );
        (id, subscriber, seat)
    }

    fn acquire(&mut self) -> Option<u32> {
        match self.publisher.acquire() {
            Acquired::Slot(slot) => Some(slot),
            Acquired::Full => None,
            Acquired::Violation(id) => panic!("violation by {id:?}"),
        }
    }

    /// Acquires and publishes, a millisecond after the frame before.
    fn publish(&mut self) -> Option<u64> {
        let slot = self.acquire()?;
        self.clock += 1_000_000;
        Some(self.publisher.publish(slot, at(self.clock), None))
    }
}

/// What changes with a frame published at this time.
fn at(published: u64) -> impl FnOnce() -> Hot {
    move || Hot { published, ..Hot::default() }
}

fn sequence(subscriber: &Subscriber) -> Option<u64> {
    subscriber.take().unwrap().map(|taken| taken.sequence)
}

#[test]
fn a_reliable_consumer_gets_every_frame_and_holds_the_producer() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    for expected in 0..4 {
        assert_eq!(stream.publish(), Some(expected));
    }
    assert_eq!(stream.publish(), None, "four unread frames fill four slots");
    let first = reader.take().unwrap().unwrap();
    assert_eq!(stream.publish(), None, "leased is still taken");
    reader.release(first.slot);
    assert_eq!(stream.publish(), Some(4));
    assert_eq!(
        (1..=4)
            .map(|_| {
                let t = reader.take().unwrap().unwrap();
                reader.release(t.slot);
                t.sequence
            })
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(sequence(&reader), None);
}

#[test]
fn keep_last_gives_up_the_oldest() {
    let mut stream = Stream::new(4, 4, 0);
    let (_, latest, _) = stream.join(Policy::KeepLast(1));
    let (_, three, _) = stream.join(Policy::KeepLast(3));
    for expected in 0..10 {
        assert_eq!(stream.publish(), Some(expected), "keep-last never holds the producer");
    }
    assert_eq!(sequence(&latest), Some(9));
    assert_eq!(sequence(&latest), None);
    assert_eq!(
        [sequence(&three), sequence(&three), sequence(&three), sequence(&three)],
        [Some(7), Some(8), Some(9), None]
    );
    assert!(stream.publisher.evicted() > 0);
}

#[test]
fn eviction_spares_frames_that_would_free_nothing() {
    let mut stream = Stream::new(2, 1, 0);
    let (_, _slow, _) = stream.join(Policy::Reliable);
    let (_, lossy, _) = stream.join(Policy::KeepLast(2));
    assert!(stream.publish().is_some() && stream.publish().is_some());
    assert_eq!(stream.publish(), None, "the reliable one has not read");
    assert_eq!(sequence(&lossy), Some(0), "so the other keeps its frames");
}

#[test]
fn a_slot_is_not_reused_while_anyone_holds_it() {
    let mut stream = Stream::new(3, 1, 0);
    let (_, a, _) = stream.join(Policy::KeepLast(1));
    stream.publish();
    let held = a.take().unwrap().unwrap();
    for _ in 0..50 {
        let slot = stream.acquire().unwrap();
        assert_ne!(slot, held.slot);
        stream.clock += 1_000_000;
        stream.publisher.publish(slot, at(stream.clock), None);
    }
    assert_eq!(a.take(), Err(TakeError::TooManyHeld));
    a.release(held.slot);
    assert_eq!(sequence(&a), Some(50));
}

#[test]
fn the_hot_slot_comes_back_first() {
    let mut stream = Stream::new(8, 6, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    stream.publish();
    let first = reader.take().unwrap().unwrap();
    reader.release(first.slot);
    for _ in 0..5 {
        stream.publish();
        let next = reader.take().unwrap().unwrap();
        assert_eq!(next.slot, first.slot, "still in the cache, so used again");
        reader.release(next.slot);
    }
}

#[test]
fn in_haste_known_free_slots_are_used_up_first() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, seat) = stream.join(Policy::Reliable);
    let mut used = 0u64;
    // The first one is not in haste yet, so its slot comes back hot; then the others.
    for i in 0..5 {
        let slot = stream.acquire().unwrap();
        used |= bit(slot);
        stream.publisher.publish(slot, at(1_000_000 + i * 100), None);
        let taken = reader.take().unwrap().unwrap();
        reader.release(taken.slot);
    }
    assert_eq!(used, 0b1111);
    assert_eq!(seat.held().load(Relaxed), 0);
}

#[test]
fn a_dead_seat_gives_everything_back() {
    let mut stream = Stream::new(4, 3, 0);
    let (id, reader, _) = stream.join(Policy::Reliable);
    for _ in 0..4 {
        stream.publish();
    }
    reader.take().unwrap();
    reader.take().unwrap();
    assert_eq!(stream.publish(), None);
    stream.publisher.leave(id);
    for _ in 0..8 {
        assert!(stream.publish().is_some());
    }
}

#[test]
fn who_resigns_keeps_what_it_holds_and_nothing_else() {
    for policy in [Policy::Reliable, Policy::KeepLast(4)] {
        let mut stream = Stream::new(4, 3, 0);
        let (_, reader, _) = stream.join(policy);
        for _ in 0..4 {
            stream.publish();
        }
        let held = reader.take().unwrap().unwrap();
        reader.resign();
        for _ in 0..20 {
            let slot = stream.acquire().expect("three slots are free");
            assert_ne!(slot, held.slot);
            stream.clock += 1_000_000;
            stream.publisher.publish(slot, at(stream.clock), None);
        }
        reader.release(held.slot);
        let free: Vec<_> = (0..4).map(|_| stream.acquire()).collect();
        assert!(free.iter().all(Option::is_some));
    }
}

#[test]
fn late_joiners_get_the_history_and_nothing_older() {
    let mut stream = Stream::new(4, 2, 2);
    for _ in 0..5 {
        stream.publish();
    }
    let (_, late, _) = stream.join(Policy::Reliable);
    assert_eq!([sequence(&late), sequence(&late)], [Some(3), Some(4)]);
    let (_, plain, _) = Stream::new(4, 2, 0).join(Policy::Reliable);
    assert_eq!(sequence(&plain), None);
}

#[test]
fn the_producers_own_views_keep_a_slot() {
    let mut stream = Stream::new(2, 1, 0);
    let slot = stream.acquire().unwrap();
    stream.publisher.hold(slot);
    stream.publisher.publish(slot, Hot::default, None);
    for _ in 0..4 {
        let other = stream.acquire().unwrap();
        assert_ne!(other, slot);
        stream.publisher.unhold(other);
    }
    stream.publisher.unhold(slot);
    assert!(stream.acquire().is_some() && stream.acquire().is_some());
}

#[test]
fn nonsense_in_a_seat_is_found_and_costs_only_that_seat() {
    for nonsense in 0..5 {
        let mut stream = Stream::new(4, 2, 0);
        let (good, reader, _) = stream.join(Policy::Reliable);
        let (bad, _, seat) = stream.join(Policy::KeepLast(2));
        stream.publish();
        match nonsense {
            0 => seat.cursor().store(u64::MAX - 1, Relaxed),
            1 => seat.cursor().store(2, Relaxed),
            2 => seat.held().store(1 << 63, Relaxed),
            3 => {
                seat.cursor().store(1, Relaxed);
                stream.publish();
                seat.cursor().store(0, Relaxed);
            }
            _ => seat.held().store(0b111, Relaxed),
        }
        assert_eq!(stream.publisher.acquire(), Acquired::Violation(bad));
        stream.publisher.leave(bad);
        assert!(stream.publish().is_some());
        assert_eq!([sequence(&reader), sequence(&reader)], [Some(0), Some(1)]);
        reader.release(0);
        assert!(stream.publisher.leave(good).is_some());
    }
}

#[test]
fn nonsense_on_a_board_is_refused() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    stream.publish();
    stream.board.entry(0).slot.store(9, Relaxed);
    assert_eq!(reader.take(), Err(TakeError::Protocol));
    stream.board.entry(0).stamp.store(77, Relaxed);
    assert_eq!(reader.take(), Err(TakeError::Protocol));
}

#[test]
fn publishing_a_slot_that_is_leased_is_refused_by_the_consumer() {
    let mut stream = Stream::new(4, 3, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    stream.publish();
    let held = reader.take().unwrap().unwrap();
    stream.publish();
    stream.board.entry(1).slot.store(held.slot, Relaxed);
    assert_eq!(reader.take(), Err(TakeError::Protocol));
}

#[test]
fn each_wait_has_a_number_of_its_own() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, seat) = stream.join(Policy::KeepLast(1));
    let first = reader.arm(|| false).unwrap();
    assert_eq!(first & Seat::WAITS, Seat::WAITS);
    assert_eq!(reader.arm(|| false), Some(first), "the same wait");
    stream.publish();
    assert_eq!(seat.parked().load(Relaxed), first + 1, "woken");
    stream.publish();
    assert_eq!(seat.parked().load(Relaxed), first + 1, "once");
    assert_eq!(reader.arm(|| false), None, "something is there: no reason to wait");
    sequence(&reader);
    assert_eq!(reader.arm(|| true), None, "gone is a reason not to wait");
    assert_eq!(reader.arm(|| false), Some(first + 2));
    reader.disarm();
    assert_eq!(seat.parked().load(Relaxed), first + 3);
    reader.disarm();
    assert_eq!(seat.parked().load(Relaxed), first + 3, "awake already");
    reader.arm(|| false).unwrap();
    stream.publisher.close();
    assert_eq!(seat.parked().load(Relaxed), first + 5);
    assert!(reader.is_closed());
}

/// The number goes round.
#[test]
fn waits_without_end() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, seat) = stream.join(Policy::KeepLast(1));
    seat.parked().store(u32::MAX - 1, Relaxed);
    assert_eq!(reader.arm(|| false), Some(u32::MAX));
    stream.publish();
    assert_eq!(seat.parked().load(Relaxed), 0);
    assert_eq!(reader.await_wake(u32::MAX - 1, || false), Some(0));
}

#[test]
fn the_table_of_orderings_pairs_up_and_is_documented() {
    use crate::sync::order::{FENCES, ORDERINGS};
    let document = include_str!("../../docs/memory-model.md");
    let names: Vec<_> = ORDERINGS.iter().chain(FENCES).map(|row| row.name).collect();
    for row in ORDERINGS.iter().chain(FENCES) {
        for other in row.pairs_with.split(", ") {
            assert!(names.contains(&other), "{} pairs with {other}, which is no row", row.name);
        }
        let line = document.lines().find(|line| line.starts_with(&format!("| `{}` |", row.name)));
        let line = line.unwrap_or_else(|| panic!("docs/memory-model.md has no row for {}", row.name));
        assert!(line.contains(&format!("| {} |", row.strength)), "{line}: the code says {}", row.strength);
        assert!(
            line.contains(&format!("| {} |", row.pairs_with)),
            "{line}: the code says {}",
            row.pairs_with
        );
    }
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let name = line.trim_start_matches("| `").split('`').next().unwrap();
        assert!(names.contains(&name), "docs/memory-model.md has a row {name} that the code lacks");
    }
}

const MS: u64 = 1_000_000;

#[test]
fn a_stalled_reliable_consumer_is_put_out_and_keeps_what_it_holds() {
    let mut stream = Stream::new(3, 2, 0);
    let (id, stalled, seat) = stream.join(Policy::Reliable);
    let (_, alive, _) = stream.join(Policy::Reliable);
    for _ in 0..3 {
        stream.publish().unwrap();
        let taken = alive.take().unwrap().unwrap();
        alive.release(taken.slot);
    }
    let held = stalled.take().unwrap().unwrap();
    assert_eq!(stream.publish(), None, "one is held, two are unread");
    assert_eq!(stream.publisher.expel_stalled(100 * MS, 10 * MS), []);
    assert_eq!(stream.publisher.expel_stalled(109 * MS, 10 * MS), [], "not before its time");
    assert!(!stalled.is_expelled());
    assert_eq!(
        stream.publisher.expel_stalled(110 * MS, 10 * MS),
        [id],
        "the one that has read all is not to blame"
    );
    assert!(stalled.is_expelled() && !alive.is_expelled());
    assert_eq!(sequence(&stalled), None);
    let facts: Vec<_> = stream.publisher.members().map(|member| (member.expelled, member.held)).collect();
    assert_eq!(facts, [(true, 1), (false, 0)]);
    for _ in 0..6 {
        stream.publish().unwrap();
        let taken = alive.take().unwrap().unwrap();
        assert_ne!(taken.slot, held.slot, "what is read is never written to");
        alive.release(taken.slot);
    }
    stalled.release(held.slot);
    assert!((0..3).all(|_| stream.acquire().is_some()), "all came back");
    assert_eq!(stream.publisher.expelled(), 1);
    // Who is out and pretends not to be breaks the protocol.
    seat.cursor().store(4, Relaxed);
    assert_eq!(stream.publisher.acquire(), Acquired::Violation(id));
}

#[test]
fn moving_or_holding_where_there_are_slots_is_no_stall() {
    let mut stream = Stream::new(2, 1, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    let (_, lossy, _) = stream.join(Policy::KeepLast(1));
    stream.publish().unwrap();
    let mut held = reader.take().unwrap().unwrap();
    stream.publish().unwrap();
    for now in [100, 109, 118, 127] {
        assert_eq!(stream.publish(), None);
        assert_eq!(
            stream.publisher.expel_stalled(now * MS, 10 * MS),
            [],
            "it gives back and takes all the time"
        );
        reader.release(held.slot);
        held = reader.take().unwrap().unwrap();
        stream.publish().unwrap();
    }
    // It holds that frame for an hour, and the producer had slots all along: its time begins now.
    let hour = 3_600_000 * MS;
    assert_eq!(stream.publish(), None);
    assert_eq!(stream.publisher.expel_stalled(hour, 10 * MS), []);
    assert_eq!(stream.publisher.expel_stalled(hour + 10 * MS, 10 * MS).len(), 1);
    assert!(
        reader.is_expelled() && !lossy.is_expelled(),
        "who holds nothing and waits for nothing is not in the way"
    );
}

#[test]
fn who_holds_what_since_when() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    let times = |stream: &Stream| {
        let member = stream.publisher.members().next().unwrap();
        (member.held_since, member.unread_since)
    };
    assert_eq!(times(&stream), (None, None));
    for _ in 0..3 {
        stream.publish().unwrap();
    }
    assert_eq!(times(&stream), (None, Some(MS)));
    let first = reader.take().unwrap().unwrap();
    reader.take().unwrap().unwrap();
    assert_eq!(times(&stream), (Some(MS), Some(3 * MS)));
    reader.release(first.slot);
    assert_eq!(times(&stream), (Some(2 * MS), Some(3 * MS)));
}

/// Stopped together, neither of the two has had the time that went by.
#[test]
fn a_pause_of_the_producer_is_no_stall_of_its_consumers() {
    let mut stream = Stream::new(1, 1, 0);
    let (id, _reader, _) = stream.join(Policy::Reliable);
    stream.publish().unwrap();
    assert_eq!(stream.publish(), None);
    let mut expel = |now| stream.publisher.expel_stalled(now * MS, 100 * MS);
    assert_eq!(expel(1000), []);
    assert_eq!(expel(1005), []);
    assert_eq!(expel(5000), [], "nobody looked for four seconds");
    assert_eq!(expel(5099), []);
    assert_eq!(expel(5100), [id]);
}

/// One that looks rarely as a rule is not to wait for ever.
#[test]
fn a_producer_that_looks_rarely_puts_out_too() {
    let mut stream = Stream::new(1, 1, 0);
    let (id, _reader, _) = stream.join(Policy::Reliable);
    stream.publish().unwrap();
    assert_eq!(stream.publish(), None);
    let mut expel = |now| stream.publisher.expel_stalled(now * MS, 100 * MS);
    assert_eq!((expel(1000), expel(2000)), (vec![], vec![]));
    assert_eq!(expel(3000), [id]);
}

/// The distance from its cursor to the tail looks like one that a keep-last consumer skips.
#[test]
fn who_is_out_early_stays_out() {
    let mut stream = Stream::new(4, 1, 0);
    let (id, reader, _) = stream.join(Policy::KeepLast(1));
    stream.publish().unwrap();
    let held = reader.take().unwrap().unwrap();
    stream.publish().unwrap();
    let own: Vec<_> = (0..3).map(|_| stream.acquire().unwrap()).collect();
    assert_eq!(stream.acquire(), None);
    stream.publisher.expel_stalled(MS, MS);
    assert_eq!(stream.publisher.expel_stalled(2 * MS, MS), [id]);
    reader.release(held.slot);
    assert_eq!(reader.take(), Ok(None));
    assert!(reader.is_expelled());
    own.into_iter().for_each(|slot| stream.publisher.unhold(slot));
    assert!((0..4).all(|_| stream.acquire().is_some()));
}
