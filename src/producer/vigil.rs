//! Watching over a consumer: told of its death before its connection is, where that takes long.

use super::inner::Inner;
use crate::Result;
use crate::shm::{Seat, Shared};
use crate::signaler::SeatId;
use crate::sys::aside;
use std::sync::Weak;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::{Duration, Instant};

/// Small pages in the memory of a pool from which on this is worth a thread on either side: unmapping so many takes
/// about 1 ms.
pub(super) const MANY_PAGES: u64 = 2048;

/// Most threads at a time: one for each seat, and as many that have not noticed yet that theirs is gone. Who joins
/// beyond that is told dead by its connection.
const MOST: u32 = 128;

/// How long to trust that a seat which wakes nobody is still there: its consumer can move our sleep to another word.
const GUARD: Duration = Duration::from_secs(60);

/// How soon to ask whether the seat is still there after a wake-up: the word that says so is the consumer's too.
const SOON: Duration = Duration::from_millis(10);

/// Wake-ups of an honest consumer: it begins, it ends.
const EXPECTED: u32 = 4;

/// Ends with the consumer's seat, or the producer.
pub(super) fn begin(producer: &Inner, weak: Weak<Inner>, seat: Shared<Seat>, id: SeatId) -> Result<()> {
    let count = producer.vigils.clone();
    if count.fetch_add(1, AcqRel) >= MOST {
        count.fetch_sub(1, AcqRel);
        return Ok(());
    }
    let ours = count.clone();
    let begun = aside::quiet_thread("bips-vigil", move || {
        keep(&weak, &seat, id);
        ours.fetch_sub(1, AcqRel);
    });
    if begun.is_err() {
        count.fetch_sub(1, AcqRel);
    }
    begun
}

fn keep(producer: &Weak<Inner>, seat: &Seat, id: SeatId) {
    let mut due = Instant::now() + SOON;
    for wakes in 0_u32.. {
        let word = seat.alive().load(Acquire); // ORDERING: pairs with the store in `Seat::leave`
        if word == Seat::LEFT {
            return;
        }
        // Asking the producer takes its lock: not each time that the consumer wakes us.
        let is_dead = Seat::is_dead(word);
        if is_dead || Instant::now() >= due {
            due = Instant::now() + GUARD;
            match producer.upgrade() {
                Some(producer) if is_dead => return producer.bury(id),
                Some(producer) if producer.is_seated(id) => {}
                _ => return,
            }
        }
        seat.alive().wait(word, Some(due.saturating_duration_since(Instant::now())));
        due = due.min(Instant::now() + SOON);
        if wakes > EXPECTED {
            std::thread::sleep(SOON / 10); // or its consumer could keep us busy
        }
    }
}
