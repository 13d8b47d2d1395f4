//! The board, as a producer may write it: before each call of a consumer, and at each step in the midst of one.

use super::description;
use super::input::Input;
use super::memory::Memory;
use crate::describe::Described;
use crate::shm::{Cold, RING};
use crate::signaler::{Policy, Subscriber, TakeError, Taken, bit};
use crate::step::{Step, watch};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a slot, which the handshake told.
const SLOT_BYTES: u64 = 16 << 10;

static SAMPLES: LazyLock<Vec<Cold>> =
    LazyLock::new(|| description::samples().iter().map(Described::encode).collect());

/// Where things lie on a board, in words; `docs/protocol.md` has them in bytes.
mod at {
    pub(super) const STATE: usize = 128 / 8;
    pub(super) const TAIL: usize = 256 / 8;
    pub(super) const HUNGRY: usize = 384 / 8;
    pub(super) const ENTRIES: usize = 4096 / 8;
    pub(super) const ENTRY: usize = 64 / 8;
    pub(super) const COLD: usize = 8192 / 8;
    pub(super) const COLD_WORDS: usize = 512 / 8;
}

/// The producer that writes nonsense.
struct Liar {
    input: Input,
    memory: Memory,
    slots: u32,
    /// Whether it keeps its hands off the seat, which is for it to write too.
    spares_seat: bool,
    /// Whether it may move the cursor on, as a producer does that evicts.
    may_evict: bool,
    /// Whether it did anything since this was last unset.
    stirred: bool,
}

impl Liar {
    /// While the consumer is in the midst of something.
    fn interfere(&mut self) {
        if self.input.flag() {
            self.lie();
        }
    }

    fn lie(&mut self) {
        self.stirred = true;
        let seat = self.memory.seats[0].words();
        let cursor = seat[0].load(Relaxed);
        let entry = at::ENTRIES + cursor as usize % RING * at::ENTRY;
        let words = self.memory.board.words();
        let (word, near) = match self.input.below(10) {
            0..=2 => return self.publish(cursor),
            3 => (entry, cursor.wrapping_add(1)),
            4 => (entry + 1, self.input.number(u64::from(self.slots))),
            5 => (at::TAIL, cursor.wrapping_add(u64::from(self.slots))),
            6 => ([at::STATE, at::HUNGRY][self.input.below(2)], 0),
            7 => (at::COLD + self.input.below(at::COLD_WORDS * self.slots as usize), 1 << 14),
            8 => (self.input.below(words.len()), cursor),
            _ if self.may_evict => {
                let to = cursor.saturating_add(1 + self.input.below(3) as u64);
                return seat[0].store(to, Relaxed);
            }
            _ if self.spares_seat => return,
            _ => {
                let word = self.input.below(2);
                let near = seat[word].load(Relaxed);
                return seat[word].store(self.input.number(near), Relaxed);
            }
        };
        words[word].store(self.input.number(near), Relaxed);
    }

    /// What an honest producer would write, but for the slot, which may be any, and for what lies there.
    fn publish(&mut self, sequence: u64) {
        let sequence = sequence.wrapping_add(self.input.below(3) as u64);
        let slot = self.input.below(self.slots as usize);
        let words = self.memory.board.words();
        if self.input.flag() {
            let sample = &SAMPLES[self.input.below(SAMPLES.len())];
            for (to, word) in words[at::COLD + slot * at::COLD_WORDS..].iter().zip(sample) {
                to.store(*word, Relaxed);
            }
        }
        let entry = &words[at::ENTRIES + sequence as usize % RING * at::ENTRY..];
        entry[1].store(slot as u64 | u64::from(self.input.byte()) << 32, Relaxed);
        entry[0].store(sequence.wrapping_add(1), Relaxed);
        words[at::TAIL].store(sequence.wrapping_add(1), Relaxed);
    }
}

/// The consumer, which does as `Consumer` does.
struct Reader {
    subscriber: Subscriber,
    memory: Memory,
    slots: u32,
    max_held: u32,
    leases: Vec<Taken>,
    last: Option<u64>,
    /// Whether nobody but itself has written to its seat.
    keeps_books: bool,
}

impl Reader {
    /// What it was given, whether or not it could make use of it.
    fn take(&mut self) -> Option<Taken> {
        match self.subscriber.take() {
            Ok(Some(taken)) => {
                assert!(taken.slot < self.slots, "slot {} of {}", taken.slot, self.slots);
                if self.keeps_books {
                    assert!(
                        self.last.is_none_or(|last| taken.sequence > last),
                        "{taken:?} after {:?}",
                        self.last
                    );
                    assert!(
                        self.leases.iter().all(|lease| lease.slot != taken.slot),
                        "{taken:?} is leased already"
                    );
                }
                self.last = Some(taken.sequence);
                if description::decode(&self.subscriber.read_cold(taken.slot), SLOT_BYTES) {
                    self.leases.push(taken);
                } else {
                    self.subscriber.release(taken.slot);
                }
                return Some(taken);
            }
            Err(TakeError::TooManyHeld) if self.keeps_books => {
                assert_eq!(self.leases.len(), self.max_held as usize);
            }
            Ok(None) | Err(TakeError::Protocol | TakeError::TooManyHeld) => {}
        }
        None
    }

    fn release(&mut self, which: usize) {
        if !self.leases.is_empty() {
            let lease = self.leases.swap_remove(which % self.leases.len());
            self.subscriber.release(lease.slot);
        }
    }

    fn check(&self) {
        if self.keeps_books {
            let held = self.leases.iter().fold(0, |held, lease| held | bit(lease.slot));
            assert_eq!(self.memory.seats[0].held().load(Relaxed), held, "the seat and the leases differ");
            assert!(held.count_ones() <= self.max_held);
        }
    }
}

/// What a producer does to its board, and what a consumer makes of it.
///
/// # Panics
/// When the consumer takes what it can't have been given, leases a slot twice, or loses count of its leases.
pub fn board(data: &[u8]) {
    let mut input = Input::new(data);
    let slots = if input.flag() { 1 + input.below(4) as u32 } else { 1 + input.below(64) as u32 };
    let max_held = 1 + input.below(slots as usize) as u32;
    let policy = if input.flag() { Policy::Reliable } else { Policy::KeepLast(1 + input.below(64) as u32) };
    let spares_seat = input.below(4) != 0;
    let memory = Memory::fresh();
    memory.board.introduce(slots, [1, 2]);
    assert!(memory.board.matches(slots, [1, 2]));
    let (board, seat, bell) = (memory.board.clone(), memory.seats[0].clone(), memory.bell.clone());
    let mut reader = Reader {
        subscriber: Subscriber::new(board, seat, bell, policy, slots % 2 == 0, slots, max_held),
        memory: memory.clone(),
        slots,
        max_held,
        leases: Vec::new(),
        last: None,
        keeps_books: spares_seat,
    };
    let may_evict = spares_seat && policy != Policy::Reliable;
    let liar = Liar { input, memory: memory.clone(), slots, spares_seat, may_evict, stirred: false };
    let liar = Rc::new(RefCell::new(liar));
    let beside = liar.clone();
    let interfere = move |_: Step| beside.borrow_mut().interfere();
    watch(interfere, || {
        while !liar.borrow().input.is_over() {
            let call = liar.borrow_mut().input.byte();
            match call % 8 {
                0..=2 => liar.borrow_mut().lie(),
                3 | 4 => {
                    liar.borrow_mut().stirred = false;
                    let taken = reader.take();
                    if let Some(taken) = taken.filter(|_| !liar.borrow().stirred) {
                        let stamp = memory.board.entry(taken.sequence).stamp.load(Relaxed);
                        assert_eq!(stamp, taken.sequence.wrapping_add(1), "{taken:?} was not published");
                    }
                }
                5 => reader.release(usize::from(call >> 3)),
                6 => {
                    // As a wait begins and ends; the sleep between would be as long as the producer likes.
                    reader.subscriber.arm(|| false);
                    reader.subscriber.disarm();
                }
                _ => {
                    reader.subscriber.is_closed();
                    memory.board.matches(slots, [1, 2]);
                }
            }
            reader.check();
        }
        while !reader.leases.is_empty() {
            reader.release(0);
            reader.check();
        }
        if reader.keeps_books {
            assert_eq!(reader.subscriber.held(), 0);
        }
    });
}

/// Streams that flow, for each policy: the settings, then publish, take, release again and again.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let settings: [&[u8]; 4] =
        [&[1, 3, 1, 1, 1], &[1, 3, 2, 0, 0, 1], &[0, 63, 7, 0, 3, 1], &[1, 1, 0, 0, 1, 0]];
    let flow = [0, 0, 0, 1, 1, 5, 7, 3, 0, 0, 0, 5, 6];
    settings.map(|settings| [settings, &flow.repeat(12)].concat()).to_vec()
}
