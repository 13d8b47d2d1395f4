//! What the producer's handle, its leases and the monitor thread share.

use super::OnStall;
use super::vigil::MANY_PAGES;
use crate::describe::{DESCRIPTION_WORDS, Described};
use crate::error::AcquireError;
use crate::plan::Party;
use crate::pool::Pool;
use crate::session::{BOARD_BYTES, ConsumerInfo, Contact};
use crate::shm::{Bell, Board, Seat, Shared};
use crate::signaler::{Acquired, Member, Publisher, SeatId};
use crate::stream::{AccessRule, StreamName};
use crate::sys::fork;
use crate::sys::{Clock, PAGE, Segment, Sharing, monotonic_ns, random_id};
use crate::wait::Deadline;
use crate::{Content, Error, ErrorKind, ProducerStats, Result};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a stream is made of.
pub(super) struct Parts {
    pub(super) name: StreamName,
    pub(super) content: Content,
    pub(super) pool: Pool,
    pub(super) rule: AccessRule,
    pub(super) writable: bool,
    pub(super) reliable: bool,
    pub(super) on_stall: OnStall,
    pub(super) max_held: u32,
    pub(super) history: u32,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(super) name: StreamName,
    pub(super) content: Content,
    pub(super) pool: Pool,
    pub(super) writable: bool,
    /// Whether consumers say in their seats that they live. Only where they read by the CPU alone: a seat given back
    /// so early may still be used by a device.
    pub(super) watches: bool,
    /// Threads that watch.
    pub(super) vigils: Arc<AtomicU32>,
    pub(super) max_held: u32,
    pub(super) process: u32,
    pub(super) rule: AccessRule,
    pub(super) reliable: bool,
    pub(super) on_stall: OnStall,
    pub(super) history: u32,
    pub(super) stream_id: [u64; 2],
    /// The stream's own content without metadata, as it stands on the board.
    pub(super) plain: Box<[u64; DESCRIPTION_WORDS]>,
    pub(super) board: Shared<Board>,
    pub(super) bell: Shared<Bell>,
    state: Mutex<State>,
    pub(super) joined: Condvar,
    /// Somebody waits for [`State::open`] to be 0.
    pub(super) settled: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) publisher: Publisher<Contact>,
    /// Removed for breaking the protocol, or dead; their connections are just ending.
    put_out: Vec<Member<Contact>>,
    /// For whom consumers wanted the memory, those too that it did not serve.
    pub(super) announced: Vec<Party>,
    /// Frames published whose device is at work still.
    pub(super) open: u32,
    pub(super) clock: Clock,
    /// Slots whose description on the board is the stream's own, without metadata.
    pub(super) plain: u64,
    /// The last description of its own that was written for each slot.
    pub(super) special: Vec<Option<Box<[u64; DESCRIPTION_WORDS]>>>,
}

impl State {
    /// What is left of a consumer that was put out, once its connection ends.
    pub(super) fn take_put_out(&mut self, seat: SeatId) -> Option<Member<Contact>> {
        let at = self.put_out.iter().position(|member| member.id() == seat)?;
        Some(self.put_out.swap_remove(at))
    }
}

impl Inner {
    pub(super) fn new(parts: Parts) -> Result<Self> {
        let slots = parts.pool.len();
        let segment = |name, len, sharing| Segment::create(name, len, sharing).map(Arc::new);
        let board = Shared::<Board>::over(segment("board", BOARD_BYTES, Sharing::ReadOnly)?);
        let bell = Shared::<Bell>::over(segment("bell", PAGE, Sharing::ReadWrite)?);
        let stream_id = random_id();
        board.introduce(slots, stream_id);
        let publisher = Publisher::new(board.clone(), bell.clone(), slots, parts.max_held, parts.history);
        let special = (0..slots).map(|_| None).collect();
        Ok(Self {
            name: parts.name,
            content: parts.content,
            vigils: Arc::default(),
            watches: !parts.writable && parts.pool.small_pages() > MANY_PAGES,
            pool: parts.pool,
            writable: parts.writable,
            max_held: parts.max_held,
            process: fork::process_number(),
            rule: parts.rule,
            reliable: parts.reliable,
            on_stall: parts.on_stall,
            history: parts.history,
            stream_id,
            plain: Box::new(Described::new(parts.content, &[])?.encode()),
            board,
            bell,
            state: Mutex::new(State {
                publisher,
                put_out: Vec::new(),
                announced: Vec::new(),
                open: 0,
                clock: Clock::new(),
                plain: 0,
                special,
            }),
            joined: Condvar::new(),
            settled: Condvar::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state stays whole whatever panics: nothing under the lock calls out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For whoever wants a slot: of a stream that goes on, and is this process's own.
    #[inline]
    fn lock_to_acquire(&self) -> Result<MutexGuard<'_, State>, AcquireError> {
        // First: the parent's lock may be held for ever.
        if self.is_forked() {
            return Err(AcquireError::Forked);
        }
        let state = self.lock();
        if state.publisher.is_closed() { Err(AcquireError::Closed) } else { Ok(state) }
    }

    /// Looks for a free slot once, removing seats that say nonsense on the way.
    #[inline]
    pub(super) fn look(&self) -> Result<Option<u32>, AcquireError> {
        loop {
            let mut state = self.lock_to_acquire()?;
            match state.publisher.acquire() {
                Acquired::Slot(slot) => return Ok(Some(slot)),
                Acquired::Full => {
                    state.publisher.found_none(|| monotonic_ns().max(1));
                    let out = self.expel_stalled(&mut state.publisher);
                    drop(state); // telling it may take as long as the program likes
                    if out.is_empty() {
                        return Ok(None);
                    }
                    for (pid, label) in out {
                        tracing::warn!(stream = %self.name, pid, label, "consumer put out: it held the producer up");
                    }
                }
                Acquired::Violation(seat) => self.put_out_for_nonsense(state, seat),
            }
        }
    }

    /// The same for one slot alone.
    pub(super) fn look_at(&self, slot: u32) -> Result<bool, AcquireError> {
        if slot >= self.pool.len() {
            return Err(AcquireError::NoSuchSlot);
        }
        self.scanned(|publisher| match publisher.acquire_at(slot) {
            Acquired::Slot(_) => Ok(true),
            Acquired::Full => Ok(false),
            Acquired::Violation(seat) => Err(seat),
        })
    }

    /// The slots that could be acquired now.
    pub(super) fn free(&self) -> Result<u64, AcquireError> {
        self.scanned(Publisher::free)
    }

    /// Those of them for which no frame would be given up.
    pub(super) fn unused(&self) -> Result<u64, AcquireError> {
        self.scanned(Publisher::unused)
    }

    /// What a look at all seats found, once those are gone that say nonsense.
    fn scanned<T>(
        &self,
        mut look: impl FnMut(&mut Publisher<Contact>) -> Result<T, SeatId>,
    ) -> Result<T, AcquireError> {
        loop {
            let mut state = self.lock_to_acquire()?;
            match look(&mut state.publisher) {
                Ok(found) => return Ok(found),
                Err(seat) => self.put_out_for_nonsense(state, seat),
            }
        }
    }

    #[cold]
    fn put_out_for_nonsense(&self, state: MutexGuard<'_, State>, seat: SeatId) {
        let pid = state.publisher.port(seat).map(|contact| contact.peer.pid);
        self.put_out(state, seat);
        tracing::warn!(stream = %self.name, pid, "consumer broke the protocol");
    }

    /// Removes a seat at once, and ends its connection.
    fn put_out(&self, mut state: MutexGuard<'_, State>, id: SeatId) {
        if let Some(member) = state.publisher.leave(id) {
            let (contact, seat) = (member.port.clone(), member.seat().clone());
            state.put_out.push(member);
            drop(state);
            self.relieve(&seat);
            contact.hang_up();
        }
    }

    /// Nobody needs to watch over this seat any more.
    pub(super) fn relieve(&self, seat: &Seat) {
        if self.watches {
            seat.leave();
        }
    }

    pub(super) fn is_seated(&self, seat: SeatId) -> bool {
        self.lock().publisher.is_seated(seat)
    }

    /// The consumer's process has died, as its seat says; its connection will take some time to say so.
    pub(super) fn bury(&self, seat: SeatId) {
        self.put_out(self.lock(), seat);
    }

    /// Puts consumers out that have held us up for too long, and gives their process ids and labels.
    #[cold]
    fn expel_stalled(&self, publisher: &mut Publisher<Contact>) -> Vec<(u32, String)> {
        let OnStall::Expel(after) = self.on_stall else { return Vec::new() };
        let patience = after.as_nanos().try_into().unwrap_or(u64::MAX);
        let out = publisher.expel_stalled(monotonic_ns().max(1), patience);
        let ports = out.iter().filter_map(|id| publisher.port(*id));
        ports.map(|contact| (contact.peer.pid, contact.label.clone())).collect()
    }

    /// Announces that a slot is wanted, until the result is dropped.
    pub(super) fn hunger(&self) -> Hunger<'_> {
        let seen = self.lock().publisher.hungry();
        Hunger { inner: self, seen }
    }

    pub(super) fn hold(&self, slot: u32) {
        self.lock().publisher.hold(slot);
    }

    pub(super) fn unhold(&self, slot: u32) {
        self.lock().publisher.unhold(slot);
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        if !state.publisher.is_closed() {
            state.publisher.close();
        }
        drop(state);
        self.joined.notify_all();
    }

    pub(super) fn wait_for_consumers(&self, n: u32, deadline: Deadline) -> Result<()> {
        if self.is_forked() {
            return Err(Error::forked());
        }
        let mut state = self.lock();
        loop {
            let there = state.publisher.members().filter(|it| !it.expelled && it.port.is_welcomed()).count();
            if state.publisher.is_closed() {
                return Err(Error::new(
                    ErrorKind::Closed,
                    format!("the producer of {} is closed", self.name),
                ));
            }
            if there >= n as usize {
                return Ok(());
            }
            let Some(left) = deadline.left() else {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "{there} of {n} consumers have joined {}; start the others, or wait longer",
                        self.name
                    ),
                ));
            };
            // An hour at a time is as good as for ever.
            let left = left.unwrap_or(Duration::from_secs(3600));
            state = self.joined.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn stats(&self) -> ProducerStats {
        let state = self.lock();
        ProducerStats {
            published: state.publisher.published(),
            evicted: state.publisher.evicted(),
            expelled: state.publisher.expelled(),
            pool_bytes: self.pool.slot_bytes * u64::from(self.pool.len()),
            stalled_for: state
                .publisher
                .standstill()
                .map(|still| Duration::from_nanos(monotonic_ns().saturating_sub(still.since))),
            consumers: consumers(&state),
        }
    }
}

pub(super) fn consumers(state: &State) -> Vec<ConsumerInfo> {
    let now = monotonic_ns();
    let age = |since: Option<u64>| {
        since.map_or(Duration::ZERO, |since| Duration::from_nanos(now.saturating_sub(since)))
    };
    state
        .publisher
        .members()
        .map(|member| ConsumerInfo {
            pid: member.port.peer.pid,
            uid: member.port.peer.uid,
            policy: member.policy,
            held: member.held,
            held_for: age(member.held_since),
            unread: member.unread,
            unread_for: age(member.unread_since),
            received: member.received,
            missed: member.missed,
            expelled: member.expelled,
            in_the_way: member.in_the_way,
            label: member.port.label.clone(),
        })
        .collect()
}

/// The producer is about to sleep for a slot; whoever frees one rings the bell.
pub(super) struct Hunger<'a> {
    inner: &'a Inner,
    seen: u32,
}

impl Hunger<'_> {
    pub(super) fn wait(&self, timeout: Duration) {
        self.inner.bell.wait(self.seen, timeout);
    }
}

impl Drop for Hunger<'_> {
    fn drop(&mut self) {
        self.inner.lock().publisher.fed();
    }
}
