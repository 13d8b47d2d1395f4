//! Watching over a consumer: told of its death before its connection is, where that takes long.

use super::inner::Inner;
use crate::Result;
use crate::shm::{Seat, Shared};
use crate::signaler::SeatId;
use crate::sys::aside;
use std::sync::Weak;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

/// Small pages in the memory of a pool from which on this is worth a thread on either side: unmapping so many takes
/// about 1 ms.
pub(super) const MANY_PAGES: u64 = 2048;

/// How long to trust the consumer's word before looking whether it is still seated: it can move our sleep to another
/// word, and would then keep a thread of ours when it is gone.
const GUARD: Duration = Duration::from_secs(60);

/// Ends with the consumer's seat, or the producer.
pub(super) fn begin(producer: Weak<Inner>, seat: Shared<Seat>, id: SeatId) -> Result<()> {
    aside::quiet_thread("bips-vigil", move || {
        let mut looked = Instant::now();
        loop {
            let word = seat.alive().load(Acquire); // ORDERING: pairs with the store in `Seat::leave`
            if word == Seat::LEFT {
                return;
            }
            // Asking the producer takes its lock: not each time that the consumer wakes us.
            let is_dead = Seat::is_dead(word);
            if is_dead || looked.elapsed() >= GUARD {
                looked = Instant::now();
                match producer.upgrade() {
                    Some(producer) if is_dead => return producer.bury(id),
                    Some(producer) if producer.is_seated(id) => {}
                    _ => return,
                }
            }
            seat.alive().wait(word, Some(GUARD));
        }
    })
}
