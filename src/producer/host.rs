//! The producer as its session sees it: seating consumers, letting them go, and what it says about itself.

use super::OnStall;
use super::inner::Inner;
use super::vigil;
use crate::session::{Cleanup, Contact, Host, SEAT_BYTES, StreamInfo, Welcome};
use crate::shm::{Seat, Shared};
use crate::signaler::{Policy, SeatId};
use crate::step::{Step, reach};
use crate::stream::AccessRule;
use crate::sys::{Segment, Sharing};
use crate::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl Host for Inner {
    fn admit(self: Arc<Self>, policy: Policy, contact: Contact) -> Result<(SeatId, Welcome, Vec<OwnedFd>)> {
        if policy == Policy::Reliable && !self.reliable {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "this producer admits no reliable consumers, so that none can hold it back; use \"latest\" or \
                 \"keep-last:N\"",
            ));
        }
        let (memories, slots, pool_fds) = self.pool.export()?;
        let mut segment = Segment::create("seat", SEAT_BYTES, Sharing::ReadWrite)?;
        let seat_fd = segment.take_fd().ok_or_else(|| Error::protocol("a seat without a descriptor"))?;
        let mut fds = vec![duplicate(self.board.segment())?, seat_fd, duplicate(self.bell.segment())?];
        fds.extend(pool_fds);
        let seat = Shared::<Seat>::over(Arc::new(segment));
        reach(Step::SeatMade);

        let mut state = self.lock();
        if state.publisher.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the producer is closing"));
        }
        for party in &contact.wanted {
            if !state.announced.contains(party) && state.announced.len() < MAX_ANNOUNCED {
                state.announced.push(party.clone());
            }
        }
        let watched = self.watches.then(|| seat.clone());
        let seat = state.publisher.join(seat, policy, contact).ok_or_else(|| {
            Error::new(
                ErrorKind::Timeout,
                "all 64 seats of this stream are taken; end a consumer, or relay the stream by one of them",
            )
        })?;
        drop(state);
        reach(Step::SeatTaken);
        if let Some(watched) = watched
            && let Err(error) = vigil::begin(&self, Arc::downgrade(&self), watched, seat)
        {
            tracing::warn!(%error, "this consumer's death will be seen late");
        }
        let welcome = Welcome {
            stream_id: self.stream_id,
            pid: std::process::id(),
            max_held: self.max_held,
            writable: self.writable,
            expels: matches!(self.on_stall, OnStall::Expel(_)),
            watches: self.watches,
            slot_bytes: self.pool.slot_bytes,
            kind: self.pool.info.kind.clone(),
            device: self.pool.info.device,
            content: self.content,
            memories,
            slots,
        };
        Ok((seat, welcome, fds))
    }

    fn welcomed(&self) {
        drop(self.lock()); // nobody is between having counted and sleeping
        self.joined.notify_all();
    }

    fn leave(&self, seat: SeatId) -> Option<Cleanup> {
        let mut state = self.lock();
        let member = state.publisher.leave(seat).or_else(|| state.take_put_out(seat))?;
        let is_closed = state.publisher.is_closed();
        drop(state);
        self.relieve(member.seat());
        // Consumers of a stream that has ended still drain it. Any other's seat: whoever keeps its descriptor must not
        // keep its memory at our cost. The more often it is mapped the longer that takes.
        (!is_closed).then(|| -> Cleanup { Box::new(move || member.discard()) })
    }

    fn info(&self) -> StreamInfo {
        let stats = self.stats();
        StreamInfo {
            name: self.name.to_string(),
            pid: std::process::id(),
            memory: self.pool.info.kind.clone(),
            slots: self.pool.len(),
            slot_bytes: self.pool.slot_bytes,
            content: self.content,
            published: stats.published,
            evicted: stats.evicted,
            expelled: stats.expelled,
            on_stall: self.on_stall,
            stalled_for: stats.stalled_for,
            writable: self.writable,
            reliable: self.reliable,
            access: self.rule.to_string(),
            max_held: self.max_held,
            history: self.history,
            consumers: stats.consumers,
        }
    }

    fn rule(&self) -> AccessRule {
        self.rule.clone()
    }
}

fn duplicate(segment: &Segment) -> Result<OwnedFd> {
    let fd = segment.fd().ok_or_else(|| Error::protocol("a segment without a descriptor"))?;
    fd.try_clone_to_owned().map_err(|error| Error::system("duplicating a descriptor", error))
}

/// Most parties that are remembered: more than that, nobody means.
const MAX_ANNOUNCED: usize = 64;
