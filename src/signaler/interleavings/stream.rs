//! What the participants of one schedule share: the producer with its threads, and the memory of the slots.

use super::*;
use crate::shm::{Bell, Board, Seat, Shared};
use shuttle::sync::{Condvar, Mutex};

/// Frames of a stream in haste are this far apart, and slow ones that far, in ns.
const PACES: [u64; 2] = [1, 1_000_000];

/// The content of a slot. Shuttle knows nothing of data races, so reader and writer say that they are there.
#[derive(Default)]
pub(super) struct Memory {
    writing: AtomicBool,
    readers: AtomicU64,
    words: [crate::sync::AtomicU64; 2],
}

/// The stay of a reader in a slot. Also where it dies.
pub(super) struct Reading<'a> {
    memory: &'a Memory,
    number: u64,
}

impl Memory {
    fn write(&self, number: u64) {
        assert!(!self.writing.swap(true, Relaxed), "two write to one slot");
        for word in &self.words {
            assert_eq!(self.readers.load(Relaxed), 0, "a slot is written under its reader");
            word.store(number, Relaxed);
        }
        assert_eq!(self.readers.load(Relaxed), 0, "a slot is written under its reader");
        self.writing.store(false, Relaxed);
    }

    pub(super) fn read(&self, number: u64) -> Reading<'_> {
        self.readers.fetch_add(1, Relaxed);
        let reading = Reading { memory: self, number };
        reading.check();
        reading
    }
}

impl Reading<'_> {
    pub(super) fn check(&self) {
        for word in &self.memory.words {
            assert!(!self.memory.writing.load(Relaxed), "a slot is read while it is written");
            assert_eq!(word.load(Relaxed), self.number, "the frame is torn");
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.memory.readers.fetch_sub(1, Relaxed);
    }
}

/// The producer is closed.
#[derive(Debug)]
struct Closed;

pub(super) struct Stream {
    publisher: Mutex<Publisher<()>>,
    board: Shared<Board>,
    bell: Shared<Bell>,
    pub(super) memory: Vec<Memory>,
    pub(super) plan: Plan,
    /// The number of the frame at each sequence; what a frame holds is its number.
    numbers: std::sync::Mutex<Vec<u64>>,
    next_number: AtomicU64,
    /// Of the producer, in ns.
    clock: AtomicU64,
    /// Looks for a slot that found none: the time by which consumers are put out.
    fruitless: AtomicU64,
    /// Somebody was put out, or the stream is closed.
    news: (Mutex<()>, Condvar),
}

impl Stream {
    pub(super) fn new(plan: &Plan) -> Arc<Self> {
        let (board, bell) = (Shared::new(Board::default()), Shared::new(Bell::default()));
        let publisher = Publisher::new(board.clone(), bell.clone(), plan.slots, plan.max_held, plan.history);
        Arc::new(Self {
            publisher: Mutex::new(publisher),
            board,
            bell,
            memory: (0..plan.slots).map(|_| Memory::default()).collect(),
            plan: plan.clone(),
            numbers: std::sync::Mutex::default(),
            next_number: AtomicU64::new(1),
            clock: AtomicU64::new(0),
            fruitless: AtomicU64::new(0),
            news: (Mutex::new(()), Condvar::new()),
        })
    }

    /// With the first sequence that the consumer gets if it is a reliable one. None once the stream is closed.
    pub(super) fn join(&self, policy: Policy) -> Option<(SeatId, Subscriber, u64)> {
        let seat = Shared::new(Seat::default());
        let mut publisher = self.publisher.lock().unwrap();
        if publisher.is_closed() {
            return None;
        }
        let id = publisher.join(seat.clone(), policy, ()).unwrap();
        let first = publisher.published().saturating_sub(u64::from(self.plan.history));
        drop(publisher);
        SEATS.add(1);
        let Plan { slots, max_held, ref expels, .. } = self.plan;
        let expels = expels.is_some();
        let reader =
            Subscriber::new(self.board.clone(), seat, self.bell.clone(), policy, expels, slots, max_held);
        Some((id, reader, first))
    }

    pub(super) fn leave(&self, id: SeatId) {
        self.publisher.lock().unwrap().leave(id).expect("honest consumers stay seated");
    }

    /// One look for a slot, as the producer's.
    fn look(&self) -> Result<Option<u32>, Closed> {
        let mut publisher = self.publisher.lock().unwrap();
        loop {
            if publisher.is_closed() {
                return Err(Closed);
            }
            match publisher.acquire() {
                Acquired::Slot(slot) => return Ok(Some(slot)),
                Acquired::Violation(id) => panic!("an honest seat was taken for a liar: {id:?}"),
                Acquired::Full => {}
            }
            let now = self.fruitless.fetch_add(1, Relaxed) + 1;
            let Some(patience) = self.plan.expels else { return Ok(None) };
            if publisher.expel_stalled(now, patience).is_empty() {
                return Ok(None);
            }
            self.tell();
        }
    }

    fn acquire(&self) -> Result<u32, Closed> {
        loop {
            if let Some(slot) = self.look()? {
                return Ok(slot);
            }
            let seen = self.publisher.lock().unwrap().hungry();
            let found = self.look();
            if let Ok(None) = found {
                HUNGER.add(1);
                if self.plan.expels.is_some() {
                    // Who expels looks again when time has passed, and not only when told.
                    thread::yield_now();
                } else {
                    self.bell.wait(seen, Bell::RECHECK);
                }
            }
            self.publisher.lock().unwrap().fed();
            if let Some(slot) = found? {
                return Ok(slot);
            }
        }
    }

    /// What one thread of the producer does.
    pub(super) fn produce(&self, frames: u32) {
        for _ in 0..frames {
            let Ok(slot) = self.acquire() else { return };
            let number = self.next_number.fetch_add(1, Relaxed);
            self.memory[slot as usize].write(number);
            if chance(16) {
                self.publisher.lock().unwrap().unhold(slot); // not published after all
                continue;
            }
            let mut publisher = self.publisher.lock().unwrap();
            if publisher.is_closed() {
                publisher.unhold(slot);
                return;
            }
            let keeps = chance(8);
            if keeps {
                publisher.hold(slot);
            }
            let pace = PACES[draw(0..=1) as usize];
            let published = self.clock.fetch_add(pace, Relaxed) + pace;
            self.numbers.lock().unwrap().push(number);
            let hot = Hot { published, captured: number, cpu: 0, open: false };
            publisher.publish(slot, || hot, Some(&[number]));
            drop(publisher);
            PUBLISHED.add(1);
            if keeps {
                // A view of the producer's own.
                self.memory[slot as usize].read(number).check();
                self.publisher.lock().unwrap().unhold(slot);
            }
        }
    }

    pub(super) fn close(&self) {
        self.publisher.lock().unwrap().close();
        self.tell();
    }

    fn tell(&self) {
        drop(self.news.0.lock().unwrap());
        self.news.1.notify_all();
    }

    /// A consumer that does nothing until it is out, or all is over.
    pub(super) fn stall(&self, reader: &Subscriber) {
        let mut quiet = self.news.0.lock().unwrap();
        while !(reader.is_expelled() || reader.is_closed()) {
            quiet = self.news.1.wait(quiet).unwrap();
        }
    }

    /// Checks that what was taken belongs together, and begins to read it.
    pub(super) fn read(&self, reader: &Subscriber, taken: Taken) -> Reading<'_> {
        let number = self.numbers.lock().unwrap()[taken.sequence as usize];
        assert_eq!(taken.captured, number, "the entry is torn");
        assert_eq!(reader.read_cold(taken.slot), [number], "the description is torn");
        self.memory[taken.slot as usize].read(number)
    }

    pub(super) fn published(&self) -> u64 {
        self.publisher.lock().unwrap().published()
    }

    /// Once all is over: only the history keeps slots.
    pub(super) fn check_free(&self) {
        let mut publisher = self.publisher.lock().unwrap();
        EVICTED.add(publisher.evicted());
        EXPELLED.add(publisher.expelled());
        let kept = publisher.published().min(u64::from(self.plan.history));
        let free = std::iter::from_fn(|| match publisher.acquire() {
            Acquired::Slot(slot) => Some(slot),
            Acquired::Full => None,
            Acquired::Violation(id) => panic!("an honest seat was taken for a liar: {id:?}"),
        });
        assert_eq!(free.count() as u64, u64::from(self.plan.slots) - kept, "a slot did not come back");
    }
}
