//! The signaler over real shared memory, in one thread: every transition by itself.

mod seats;
mod slots;
mod stalls;
mod waits;

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
fn the_table_of_orderings_pairs_up_and_is_documented() {
    use crate::sync::order::{FENCES, ORDERINGS};
    let document = include_str!("../../../docs/memory-model.md");
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
