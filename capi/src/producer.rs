//! Producers.

use crate::args::{self, Answer, Place, read};
use crate::handle::{self, handled};
use crate::info::{ConsumerState, Layout, ProducerStats, give_consumers};
use crate::options::{self, ProducerOptions};
use crate::status::Status::{BIPS_CLOSED, BIPS_TIMEOUT};
use crate::status::{Failure, Outcome, Status, call};
use crate::writable_frame::{Slot, Writable, bips_writable_frame};
use bips::{AcquireError, Wait};
use std::ffi::c_char;

/// Owns the pool of one stream and publishes frames from it. Any thread, several at once.
#[allow(non_camel_case_types, reason = "as C writes them")]
pub struct bips_producer(());

struct Producer(bips::Producer);
handled!(Producer, bips_producer, 1, "a producer");

/// Makes the producer of the stream `name`: 1 to 100 of `A-Za-z0-9._-`, `/` for nesting. The options say at least what
/// a frame holds.
///
/// BIPS_NAME_TAKEN, BIPS_OUT_OF_MEMORY, BIPS_UNSUPPORTED (the memory kind, with what each lacks),
/// BIPS_INVALID_ARGUMENT, BIPS_ACCESS_DENIED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_producer_create(
    name: *const c_char,
    options: *const ProducerOptions,
    producer: *mut *mut bips_producer,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(producer, "the producer") }?;
        // SAFETY: as the header says, text or NULL.
        let name = unsafe { args::name(name) }?;
        // SAFETY: as the header says, a structure of its size or NULL.
        let options = unsafe { read(options) }?;
        // SAFETY: as the header says of what the structure points to.
        let builder = unsafe { options::producer(name, &options) }?;
        place.put(handle::insert(Producer(builder.create()?))?);
        Ok(())
    })
}

/// Takes a free slot for the next frame. `timeout_ns`: 0 tries once, negative waits for ever. Never waits for consumers
/// that keep the last frames only.
///
/// BIPS_TIMEOUT (who holds the slots is in the message, unless it only tried), BIPS_CLOSED, BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_producer_acquire(
    producer: *const bips_producer,
    timeout_ns: i64,
    frame: *mut *mut bips_writable_frame,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(frame, "the frame") }?;
        place.put(handle::insert(acquire(producer, timeout_ns)?)?);
        Ok(())
    })
}

/// `bips_producer_acquire` and `bips_writable_frame_get_slot` in one, which takes less time than one after the other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_producer_acquire_slot(
    producer: *const bips_producer,
    timeout_ns: i64,
    frame: *mut *mut bips_writable_frame,
    slot: *mut Slot,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(frame, "the frame") }?;
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(slot) }?;
        let writable = acquire(producer, timeout_ns)?;
        let slot = Slot::of(&writable);
        place.put(handle::insert(writable)?);
        answer.give(&slot);
        Ok(())
    })
}

#[inline]
fn acquire(producer: *const bips_producer, timeout_ns: i64) -> Outcome<Writable> {
    let producer = &handle::shared::<Producer>(producer)?.0;
    let wait = args::wait(timeout_ns);
    let frame = producer.acquire(wait).map_err(|error| match (wait, error) {
        (Wait::Now, AcquireError::Timeout) => Failure::Plain(BIPS_TIMEOUT, c"no slot is free just now"),
        (Wait::Now, AcquireError::Closed) => Failure::Plain(BIPS_CLOSED, c"the producer has been closed"),
        _ => Failure::Told(producer.explain(error)),
    })?;
    Ok(Writable(frame))
}

/// Waits until `count` consumers have joined. BIPS_TIMEOUT says how many there are; BIPS_CLOSED, BIPS_FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn bips_producer_wait_for_consumers(
    producer: *const bips_producer,
    count: u32,
    timeout_ns: i64,
) -> Status {
    call(|| {
        handle::shared::<Producer>(producer)?.0.wait_for_consumers(count, args::wait(timeout_ns))?;
        Ok(())
    })
}

/// How the pool lies and what frames hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_producer_get_layout(
    producer: *const bips_producer,
    layout: *mut Layout,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(layout) }?;
        let producer = &handle::shared::<Producer>(producer)?.0;
        answer.give(&Layout::of(
            producer.content(),
            producer.slots(),
            producer.slot_bytes(),
            producer.max_held(),
            producer.writable(),
            &producer.backend().kind,
        ));
        Ok(())
    })
}

/// What the producer has done. BIPS_CLOSED, BIPS_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_producer_get_stats(
    producer: *const bips_producer,
    stats: *mut ProducerStats,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(stats) }?;
        let stats = handle::shared::<Producer>(producer)?.0.stats()?;
        answer.give(&ProducerStats::from(&stats));
        Ok(())
    })
}

/// Who consumes the stream now: up to `capacity` of them into `consumers`, how many there are into `count`.
///
/// BIPS_INVALID_ARGUMENT when there are more than `capacity`: then `count` says for how many there should be room, and
/// those that fit are there. With a `capacity` of 0 it only counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_producer_get_consumers(
    producer: *const bips_producer,
    consumers: *mut ConsumerState,
    capacity: usize,
    count: *mut usize,
) -> Status {
    call(|| {
        let stats = handle::shared::<Producer>(producer)?.0.stats()?;
        // SAFETY: as the header says, room for so many, and for the count.
        unsafe { give_consumers(&stats.consumers, consumers, capacity, count) }
    })
}

/// Ends the stream and gives the name back. Consumers keep what they hold and drain what was published. Calls of other
/// threads that wait with it return BIPS_CLOSED. Doing it again is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn bips_producer_close(producer: *const bips_producer) -> Status {
    call(|| {
        handle::shared::<Producer>(producer)?.0.close();
        Ok(())
    })
}

/// Closes the producer and ends the handle. Calls of other threads that wait with it return first, with BIPS_CLOSED.
/// Frames acquired from it stay valid, but can't be published any more. NULL is nothing.
///
/// BIPS_INVALID_ARGUMENT when another thread's call has not returned within 2 seconds: the producer is closed then, and
/// can be destroyed when that has returned.
#[unsafe(no_mangle)]
pub extern "C" fn bips_producer_destroy(producer: *mut bips_producer) -> Status {
    call(|| {
        if producer.is_null() {
            return Ok(());
        }
        if let Ok(producer) = handle::shared::<Producer>(producer) {
            producer.0.close(); // who waits in a call with it returns
        }
        handle::remove::<Producer>(producer)
    })
}
