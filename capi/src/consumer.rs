//! Consumers.

use crate::args::{self, Answer, Place, read};
use crate::frame::{Leased, bips_frame};
use crate::handle::{self, Exclusive, Room, handled};
use crate::info::{ConsumerStats, Layout};
use crate::options::{self, ConsumerOptions};
use crate::status::Status::{BIPS_CLOSED, BIPS_TIMEOUT};
use crate::status::{Failure, Outcome, Status, call};
use bips::sys::PerProcess;
use bips::{Closer, ReceiveError, Wait};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes frames from one stream. One thread at a time, others are refused; any thread.
#[allow(non_camel_case_types, reason = "as C writes them")]
pub struct bips_consumer(());

struct Consumer {
    consumer: bips::Consumer,
    /// For the frame that comes next.
    room: Option<Room<Leased>>,
}
handled!(Consumer, bips_consumer, 2, "a consumer");

/// What closes the consumer of a handle: beside the table, since the consumer itself belongs to the thread that waits.
static CLOSERS: PerProcess<Mutex<HashMap<usize, Closer>>> = PerProcess::new();

fn closers() -> MutexGuard<'static, HashMap<usize, Closer>> {
    CLOSERS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a stream ended for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "as C writes them")]
#[repr(i32)]
pub enum Ending {
    /// It goes on.
    BIPS_NOT_ENDED = 0,
    /// Its producer closed it.
    BIPS_ENDED_CLOSED = 1,
    /// The connection broke without that: the producer died, or takes this consumer for one that broke the protocol.
    BIPS_ENDED_DIED = 2,
    /// Its producer goes on, but put this consumer out because it held the stream up. Frames that it leases stay whole.
    BIPS_ENDED_EXPELLED = 3,
    /// In another way, which a later version will name.
    BIPS_ENDED_OTHERWISE = 255,
}

/// Joins the stream `name`, waiting for its producer to appear as long as `timeout_ns` says: 0 tries once, negative
/// waits for ever. `options` may be NULL: a reliable consumer that does not reconnect.
///
/// BIPS_NOT_FOUND or BIPS_TIMEOUT, with what is published instead; BIPS_ACCESS_DENIED, BIPS_UNSUPPORTED,
/// BIPS_PROTOCOL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_consumer_connect(
    name: *const c_char,
    options: *const ConsumerOptions,
    timeout_ns: i64,
    consumer: *mut *mut bips_consumer,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(consumer, "the consumer") }?;
        // SAFETY: as the header says, text or NULL.
        let name = unsafe { args::name(name) }?;
        // SAFETY: as the header says, a structure of its size or NULL.
        let options = unsafe { read(options) }?;
        // SAFETY: as the header says of what the structure points to.
        let builder = unsafe { options::consumer(name, &options) }?;
        let connected = builder.wait(args::wait(timeout_ns)).connect()?;
        let closer = connected.closer();
        let handle = handle::insert(Consumer { consumer: connected, room: None })?;
        closers().insert(handle.addr(), closer);
        place.put(handle);
        Ok(())
    })
}

/// The next frame: a lease, until `bips_frame_release`. `timeout_ns`: 0 tries once, negative waits for ever.
///
/// BIPS_TIMEOUT; BIPS_CLOSED once the producer ended and every frame it published has been received
/// (`bips_consumer_get_ending` says how); BIPS_TOO_MANY_HELD: release one first; BIPS_PROTOCOL; BIPS_FORKED;
/// BIPS_UNSUPPORTED when the next producer of the name can't be joined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_consumer_receive(
    consumer: *const bips_consumer,
    timeout_ns: i64,
    frame: *mut *mut bips_frame,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(frame, "the frame") }?;
        receive(consumer, timeout_ns, place, |_| {})
    })
}

/// `bips_consumer_receive` and `bips_frame_data` in one, which takes less time than one after the other. `nbytes` may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_consumer_receive_data(
    consumer: *const bips_consumer,
    timeout_ns: i64,
    frame: *mut *mut bips_frame,
    data: *mut *const c_void,
    nbytes: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(frame, "the frame") }?;
        // SAFETY: as above.
        let data = unsafe { Place::at(data, "the frame's first byte") }?;
        // SAFETY: as above.
        let length = unsafe { Place::if_any(nbytes) };
        receive(consumer, timeout_ns, place, |frame| {
            data.put(frame.as_ptr().cast());
            if let Some(length) = length {
                length.put(frame.nbytes());
            }
        })
    })
}

#[inline]
fn receive(
    consumer: *const bips_consumer,
    timeout_ns: i64,
    place: Place<*mut bips_frame>,
    look: impl FnOnce(&bips::Frame),
) -> Outcome {
    let mut handle = alone(consumer)?;
    let Consumer { consumer, room } = &mut *handle;
    if room.is_none() {
        *room = Some(Room::reserve()?); // before the frame is there: then it counts
    }
    let wait = args::wait(timeout_ns);
    let frame = consumer.receive(wait).map_err(|error| match (wait, error) {
        (Wait::Now, ReceiveError::Timeout) => Failure::Plain(BIPS_TIMEOUT, c"no frame is there just now"),
        (Wait::Now, ReceiveError::Closed) if consumer.closer().is_closed() => {
            Failure::Plain(BIPS_CLOSED, c"this consumer was closed by its own program")
        }
        (Wait::Now, ReceiveError::Closed) => {
            Failure::Plain(BIPS_CLOSED, c"the stream has ended; bips_consumer_get_ending says how")
        }
        _ => Failure::Told(consumer.explain(error)),
    })?;
    look(&frame);
    if let Some(room) = room.take() {
        place.put(room.fill(Leased::Alone(frame)));
    }
    Ok(())
}

/// A descriptor that is readable when there may be something to receive, and for good after the end: receive until
/// BIPS_TIMEOUT, then wait for it again with poll or epoll. It belongs to the consumer; do not read or close it.
///
/// BIPS_UNSUPPORTED with `reconnect`: it would change under the loop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_consumer_poll_fd(consumer: *const bips_consumer, fd: *mut c_int) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(fd, "the descriptor") }?;
        with(consumer, |consumer| {
            place.put(consumer.poll_fd()?);
            Ok(())
        })
    })
}

/// How the stream ended for this consumer, or that it has not: to be closed is no end of the stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_consumer_get_ending(
    consumer: *const bips_consumer,
    ending: *mut Ending,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a place for it or NULL.
        let place = unsafe { Place::at(ending, "the ending") }?;
        with(consumer, |consumer| {
            place.put(match consumer.ending() {
                None => Ending::BIPS_NOT_ENDED,
                Some(bips::Ending::Closed) => Ending::BIPS_ENDED_CLOSED,
                Some(bips::Ending::Died) => Ending::BIPS_ENDED_DIED,
                Some(bips::Ending::Expelled) => Ending::BIPS_ENDED_EXPELLED,
                Some(_) => Ending::BIPS_ENDED_OTHERWISE,
            });
            Ok(())
        })
    })
}

/// How the pool lies and what frames hold. With `reconnect` the next producer's may differ: see `generation`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_consumer_get_layout(
    consumer: *const bips_consumer,
    layout: *mut Layout,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(layout) }?;
        with(consumer, |consumer| {
            answer.give(&Layout::of(
                consumer.content(),
                consumer.slots(),
                consumer.slot_bytes(),
                consumer.max_held(),
                consumer.writable(),
                &consumer.backend().kind,
            ));
            Ok(())
        })
    })
}

/// What the consumer has seen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_consumer_get_stats(
    consumer: *const bips_consumer,
    stats: *mut ConsumerStats,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(stats) }?;
        with(consumer, |consumer| {
            answer.give(&ConsumerStats::of(consumer));
            Ok(())
        })
    })
}

/// Reads no more: every receive of this consumer is BIPS_CLOSED from now on, also one that another thread waits in; this
/// waits until that is on its way out. For any thread; doing it again is nothing. Frames that are leased stay valid. What
/// was not read no longer holds the producer back.
#[unsafe(no_mangle)]
pub extern "C" fn bips_consumer_close(consumer: *const bips_consumer) -> Status {
    call(|| {
        close(consumer);
        // Whoever is in a call with it is told, and on the way out. Then, and not before, nobody takes another frame.
        match handle::exclusive_soon::<Consumer>(consumer) {
            Ok(mut alone) => alone.consumer.close(),
            Err(failure) if !handle::is_valid::<Consumer>(consumer) => return Err(failure),
            Err(_) => {} // stopped in the midst of a call, which gives up what it has not read when it goes on
        }
        Ok(())
    })
}

/// The consumer, for this thread alone. Of a closed one nobody has it for long: who closes it must not make others' calls
/// fail.
#[inline]
fn alone(consumer: *const bips_consumer) -> Outcome<Exclusive<Consumer>> {
    handle::exclusive::<Consumer>(consumer).or_else(|failure| {
        let closed = closers().get(&consumer.addr()).is_some_and(Closer::is_closed);
        if closed { handle::exclusive_soon::<Consumer>(consumer) } else { Err(failure) }
    })
}

fn close(consumer: *const bips_consumer) {
    let closer = closers().get(&consumer.addr()).cloned();
    if let Some(closer) = closer {
        closer.close();
    }
}

/// Leaves the stream and ends the handle. A call of another thread that waits with it returns first, with BIPS_CLOSED.
/// Frames that are leased stay valid. NULL is nothing.
///
/// BIPS_INVALID_ARGUMENT when another thread's call has not returned within 2 seconds: the consumer is closed then, and
/// can be destroyed when that has returned.
#[unsafe(no_mangle)]
pub extern "C" fn bips_consumer_destroy(consumer: *mut bips_consumer) -> Status {
    call(|| {
        if consumer.is_null() {
            Ok(())
        } else {
            close(consumer);
            handle::remove::<Consumer>(consumer)?;
            closers().remove(&consumer.addr());
            Ok(())
        }
    })
}

fn with<T>(
    consumer: *const bips_consumer,
    work: impl FnOnce(&mut bips::Consumer) -> Outcome<T>,
) -> Outcome<T> {
    work(&mut alone(consumer)?.consumer)
}
