//! Seats, as consumers may write them: before each call of the producer, and at each step in the midst of one, with
//! honest consumers beside them.

mod checks;
mod consumers;

use super::honest::{Honest, UNWRITTEN};
use super::input::Input;
use super::memory::{Memory, SEATS};
use crate::shm::{Seat, Shared};
use crate::signaler::{Acquired, Hot, Policy, Publisher, Subscriber, bit};
use crate::step::watch;
use consumers::Consumers;
use std::cell::RefCell;
use std::rc::Rc;

/// The first seats are honest ones.
const HONEST: usize = 2;

/// The producer, and what it keeps in mind.
struct Stream {
    publisher: Publisher<()>,
    consumers: Rc<RefCell<Consumers>>,
    memory: Memory,
    slots: u32,
    max_held: u32,
    history: u32,
    expels: bool,
    /// Slot of each frame ever published.
    ring: Vec<u32>,
    writing: Vec<u32>,
    /// Views that outlive the writing.
    views: Vec<u32>,
    now: u64,
}

impl Stream {
    fn new(mut input: Input, memory: Memory) -> Self {
        let most = if input.flag() { 5 } else { 64 };
        let slots = 1 + input.below(most) as u32;
        let max_held = 1 + input.below(slots as usize) as u32;
        let history = input.below(slots as usize) as u32;
        let expels = input.flag();
        let policies = [Policy::Reliable, Policy::KeepLast(1 + input.below(64) as u32)];
        let mut publisher =
            Publisher::new(memory.board.clone(), memory.bell.clone(), slots, max_held, history);
        let honest = policies.iter().zip(&memory.seats).map(|(policy, seat)| {
            let id = publisher.join(seat.clone(), *policy, ()).expect("the first seats");
            let (board, bell) = (memory.board.clone(), memory.bell.clone());
            let subscriber = Subscriber::new(board, seat.clone(), bell, *policy, expels, slots, max_held);
            Honest::new(id, seat.clone(), subscriber, *policy, max_held)
        });
        let honest: Vec<_> = honest.collect();
        let consumers = Consumers {
            input,
            honest,
            hostile: [None; SEATS - HONEST],
            stirred: false,
            memory: memory.clone(),
            content: vec![UNWRITTEN; slots as usize],
        };
        Self {
            publisher,
            consumers: Rc::new(RefCell::new(consumers)),
            memory,
            slots,
            max_held,
            history,
            expels,
            ring: Vec::new(),
            writing: Vec::new(),
            views: Vec::new(),
            now: 0,
        }
    }

    fn byte(&self) -> u8 {
        self.consumers.borrow_mut().input.byte()
    }

    /// One call of the producer, or one thing that a consumer does between two.
    fn step(&mut self) {
        let choice = self.byte();
        let which = usize::from(choice >> 4);
        match choice & 15 {
            0..=2 => self.acquire(),
            3..=5 => self.publish(which),
            6 => self.cancel(which),
            7 => self.view(which),
            8 => self.join(which),
            9 => self.leave(which),
            10 => self.look(),
            11 => {
                self.publisher.hungry();
                self.acquire();
                self.publisher.fed();
            }
            12 | 13 => self.consumers.borrow_mut().behave(which),
            _ => self.consumers.borrow_mut().lie(which),
        }
    }

    fn acquire(&mut self) {
        self.consumers.borrow_mut().stirred = false;
        let evicted = self.publisher.evicted();
        match self.publisher.acquire() {
            Acquired::Slot(slot) => {
                self.check_free(slot);
                self.writing.push(slot);
                self.consumers.borrow_mut().content[slot as usize] = UNWRITTEN;
            }
            Acquired::Full => {
                self.check_full(evicted);
                self.expel();
            }
            Acquired::Violation(id) => {
                let mut consumers = self.consumers.borrow_mut();
                assert!(
                    consumers.honest.iter().all(|honest| honest.id != id),
                    "an honest seat was taken for a liar"
                );
                let seat = consumers.hostile.iter_mut().find(|seat| seat.is_some_and(|(seat, _)| seat == id));
                *seat.expect("a seat that is there") = None;
                drop(consumers);
                assert!(self.publisher.leave(id).is_some());
            }
        }
    }

    /// The producer has had no slot for as long as the input says, and may put consumers out.
    fn expel(&mut self) {
        let patience = u64::from(self.byte());
        if !self.expels || patience > 127 {
            return;
        }
        self.now += 100;
        let tail = self.ring.len() as u64;
        let stands =
            |honest: &Honest| !honest.is_out() && (!honest.leases.is_empty() || honest.next_of(tail) < tail);
        let standing: Vec<_> = self
            .consumers
            .borrow()
            .honest
            .iter()
            .filter(|honest| stands(honest))
            .map(|honest| honest.id)
            .collect();
        self.consumers.borrow_mut().stirred = false;
        let out = self.publisher.expel_stalled(self.now, patience);
        let consumers = self.consumers.borrow();
        for honest in consumers.honest.iter().filter(|honest| out.contains(&honest.id)) {
            assert!(honest.is_out(), "{honest:?} was put out and does not know");
            assert!(
                consumers.stirred || standing.contains(&honest.id),
                "{honest:?} was put out and in nobody's way"
            );
        }
    }

    fn publish(&mut self, which: usize) {
        if self.writing.is_empty() {
            return;
        }
        let slot = self.writing.swap_remove(which % self.writing.len());
        self.consumers.borrow_mut().content[slot as usize] = self.ring.len() as u64;
        self.ring.push(slot);
        // In haste or not: that decides how the next slot is looked for.
        self.now += if which & 1 == 0 { 100 } else { 1_000_000 };
        let (now, cold) = (self.now, [self.now; 64]);
        let hot = || Hot { published: now, ..Hot::default() };
        let sequence = self.publisher.publish(slot, hot, (which & 2 != 0).then_some(&cold));
        assert_eq!(sequence + 1, self.ring.len() as u64);
    }

    fn cancel(&mut self, which: usize) {
        if !self.writing.is_empty() {
            let slot = self.writing.swap_remove(which % self.writing.len());
            self.publisher.unhold(slot);
        }
    }

    /// Makes one more view of what is written, or ends one.
    fn view(&mut self, which: usize) {
        if which & 1 == 0 && !self.writing.is_empty() {
            let slot = self.writing[which % self.writing.len()];
            self.publisher.hold(slot);
            self.views.push(slot);
        } else if !self.views.is_empty() {
            let slot = self.views.swap_remove(which % self.views.len());
            self.publisher.unhold(slot);
        }
    }

    fn join(&mut self, which: usize) {
        let place = which % (SEATS - HONEST);
        let depth = self.byte() % 64;
        let policy = if which & 4 == 0 { Policy::KeepLast(1 + u32::from(depth)) } else { Policy::Reliable };
        let seat: &Shared<Seat> = &self.memory.seats[HONEST + place];
        let mut consumers = self.consumers.borrow_mut();
        if consumers.hostile[place].is_none() {
            seat.clear();
            let id = self.publisher.join(seat.clone(), policy, ()).expect("there are 64 seats");
            consumers.hostile[place] = Some((id, policy));
        }
    }

    fn leave(&mut self, which: usize) {
        let place = which % (SEATS - HONEST);
        let gone = self.consumers.borrow_mut().hostile[place].take();
        if let Some((id, _)) = gone {
            assert!(self.publisher.leave(id).is_some(), "a seat that is there");
        }
    }

    /// The liars are gone; everything that they had kept is there again.
    fn end(&mut self) {
        for place in 0..SEATS - HONEST {
            self.leave(place);
        }
        let consumers = self.consumers.clone();
        let Consumers { honest, content, .. } = &mut *consumers.borrow_mut();
        for honest in honest {
            loop {
                while !honest.leases.is_empty() {
                    honest.release(0, content);
                }
                if !honest.take(content) {
                    break;
                }
            }
            honest.has_read_all(self.ring.len() as u64);
        }
        for slot in self.writing.drain(..).chain(self.views.drain(..)) {
            self.publisher.unhold(slot);
        }
        let kept = self.ring.len().saturating_sub(self.history as usize);
        let kept = self.ring[kept..].iter().fold(0, |kept, slot| kept | bit(*slot));
        let mut free = 0;
        loop {
            match self.publisher.acquire() {
                Acquired::Slot(slot) => free |= bit(slot),
                Acquired::Full => break,
                Acquired::Violation(id) => panic!("nobody is left that could be wrong, but {id:?} is"),
            }
        }
        assert_eq!((free & kept, (free | kept).count_ones()), (0, self.slots), "a slot did not come back");
    }
}

/// What hostile consumers do to a stream.
///
/// # Panics
/// When an honest consumer loses a frame, finds another in its place, is accused, or sleeps on; when a slot is given
/// out twice, or does not come back.
pub fn seats(data: &[u8]) {
    let mut stream = Stream::new(Input::new(data), Memory::fresh());
    let beside = stream.consumers.clone();
    // Not where the consumer itself is in the midst of something.
    let interfere = move |_| {
        if let Ok(mut consumers) = beside.try_borrow_mut() {
            consumers.interfere();
        }
    };
    watch(interfere, || {
        while !stream.consumers.borrow().input.is_over() {
            stream.step();
            stream.check_awake();
        }
    });
    stream.end();
    stream.publisher.close();
    for honest in &stream.consumers.borrow().honest {
        assert!(honest.is_closed() && !honest.is_asleep());
    }
}

/// Streams that flow: the settings, then liars that join, and frames that come and go.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let settings: [&[u8]; 4] =
        [&[1, 3, 1, 0, 1, 2], &[1, 4, 1, 2, 0, 0], &[0, 63, 30, 4, 1, 9], &[1, 0, 0, 0, 0, 0]];
    let join: &[u8] = &[0x08, 1, 0x18, 0, 0x48, 0];
    let quiet = [255; 3];
    let flow: Vec<u8> = [0x00, 0x13, 0x0c, 0x4c, 0x5c, 0x1c, 0x0a, 0x0b, 0x23, 0x7c, 0x0e, 0x1e]
        .into_iter()
        .flat_map(|call| [vec![call], quiet.to_vec()].concat())
        .collect();
    settings.map(|settings| [settings, join, &flow.repeat(6)].concat()).to_vec()
}
