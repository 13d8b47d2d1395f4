//! Facts of streams, for people and for programs that watch over them.

use crate::args::{self, Answer, Place, Sized, sized};
use crate::content::Content;
use crate::status::{Outcome, Status, call, invalid, text};
use std::ffi::{c_char, c_void};
use std::time::Duration;

/// Bytes of a memory kind's name, with its NUL.
pub const BIPS_KIND_SIZE: usize = 40;

/// How a pool lies and what its frames hold. It stands within bips_stream_info, so it never grows.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Layout {
    /// sizeof(bips_layout).
    pub size: usize,
    /// Bytes of a slot.
    pub slot_bytes: u64,
    /// Slots of the pool.
    pub slots: u32,
    /// Most frames one consumer may lease.
    pub max_held: u32,
    /// 1: consumers may write.
    pub writable: u32,
    /// Zero.
    pub reserved: u32,
    /// Memory kind, such as "memfd".
    pub memory: [c_char; BIPS_KIND_SIZE],
    /// What a frame holds, unless it says otherwise.
    pub content: Content,
}
sized!(Layout, "bips_layout", 368);
const _: () =
    assert!(size_of::<Layout>() == Layout::FIRST, "what stands within another structure never grows");

impl Layout {
    pub(crate) fn of(
        content: &bips::Content,
        slots: u32,
        slot_bytes: u64,
        max_held: u32,
        writable: bool,
        memory: &str,
    ) -> Self {
        Self {
            size: size_of::<Self>(),
            slot_bytes,
            slots,
            max_held,
            writable: writable.into(),
            reserved: 0,
            memory: fixed(memory),
            content: content.into(),
        }
    }
}

/// Text in a field of `N` bytes, cut where it doesn't fit.
fn fixed<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    for (to, from) in field[..N - 1].iter_mut().zip(text.bytes().take_while(|byte| *byte != 0)) {
        *to = from.cast_signed();
    }
    field
}

/// What a producer has done.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ProducerStats {
    /// sizeof(bips_producer_stats).
    pub size: usize,
    /// Frames published.
    pub published: u64,
    /// Frames taken from keep-last consumers before they read them, summed over consumers.
    pub evicted: u64,
    /// Consumers put out because they held the producer up.
    pub expelled: u64,
    /// Bytes of the pool.
    pub pool_bytes: u64,
    /// How many consume the stream now.
    pub consumers: u64,
    /// For how long it has had no slot to write to, in ns: it asked for one in vain, and none has come free since. 0: it
    /// has one. Consumers with `in_the_way` say because of whom; none: the producer itself has them all.
    pub stalled_for_ns: u64,
}
sized!(ProducerStats, "bips_producer_stats", 56);

impl From<&bips::ProducerStats> for ProducerStats {
    fn from(stats: &bips::ProducerStats) -> Self {
        Self {
            size: size_of::<Self>(),
            published: stats.published,
            evicted: stats.evicted,
            expelled: stats.expelled,
            pool_bytes: stats.pool_bytes,
            consumers: stats.consumers.len() as u64,
            stalled_for_ns: stats.stalled_for.map_or(0, |time| nanoseconds(time).max(1)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// What a consumer has seen.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ConsumerStats {
    /// sizeof(bips_consumer_stats).
    pub size: usize,
    /// Frames received.
    pub received: u64,
    /// Frames it never saw because newer ones took their place.
    pub missed: u64,
    /// How often it has joined anew.
    pub reconnects: u64,
    /// Bytes of control memory mapped for it, the pool aside.
    pub control_bytes: u64,
    /// Frames leased right now.
    pub held: u32,
    /// Process id of the producer, as seen from the producer's own pid namespace.
    pub producer_pid: u32,
}
sized!(ConsumerStats, "bips_consumer_stats", 48);

impl ConsumerStats {
    pub(crate) fn of(consumer: &bips::Consumer) -> Self {
        let stats = consumer.stats();
        Self {
            size: size_of::<Self>(),
            received: stats.received,
            missed: stats.missed,
            reconnects: stats.reconnects,
            control_bytes: stats.control_bytes,
            held: stats.held,
            producer_pid: consumer.producer_pid(),
        }
    }
}

/// One consumer, as its producer sees it. It stands in arrays, so it never grows.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ConsumerState {
    /// Frames it has taken, as it says itself.
    pub received: u64,
    /// Frames it never saw because newer ones took their place.
    pub missed: u64,
    /// How long ago the oldest of the frames that it leases was published, in ns.
    pub held_for_ns: u64,
    /// How long ago the oldest of the frames that it has not taken was published, in ns.
    pub unread_for_ns: u64,
    /// Process id; 0 where the kernel does not show it to the producer (other pid namespace).
    pub pid: u32,
    /// User id, as the producer sees it.
    pub uid: u32,
    /// 0: reliable. Else the last so many frames are kept for it.
    pub keep_last: u32,
    /// Frames it leases.
    pub held: u32,
    /// Frames published for it that it has not taken.
    pub unread: u32,
    /// 1: put out. It is still listed as long as it may read what it holds.
    pub expelled: u32,
    /// 1: the producer has no slot now, and it is this consumer that must read or give back frames.
    pub in_the_way: u32,
    /// Zero.
    pub reserved: u32,
    /// What it calls itself: its program and host, unless it says otherwise. Text on one line.
    pub label: [c_char; 72],
}

impl From<&bips::ConsumerInfo> for ConsumerState {
    fn from(info: &bips::ConsumerInfo) -> Self {
        Self {
            received: info.received,
            missed: info.missed,
            held_for_ns: nanoseconds(info.held_for),
            unread_for_ns: nanoseconds(info.unread_for),
            pid: info.pid,
            uid: info.uid,
            keep_last: match info.policy {
                bips::Policy::Reliable => 0,
                bips::Policy::KeepLast(depth) => depth,
            },
            held: info.held,
            unread: info.unread,
            expelled: info.expelled.into(),
            in_the_way: info.in_the_way.into(),
            reserved: 0,
            label: fixed(&info.label),
        }
    }
}

/// # Safety
/// `to` is NULL or has room for `capacity`, `count` is NULL or has room for one.
pub(crate) unsafe fn give_consumers(
    all: &[bips::ConsumerInfo],
    to: *mut ConsumerState,
    capacity: usize,
    count: *mut usize,
) -> Outcome {
    // SAFETY: the caller's promise.
    let count = unsafe { Place::at(count, "the count") }?;
    count.put(all.len());
    let fitting = all.len().min(capacity);
    if fitting > 0 {
        // SAFETY: the caller's promise, here and below.
        let place = unsafe { Place::at(to, "the consumers") }?;
        // SAFETY: as above; no more than `capacity`.
        for (to, from) in unsafe { place.many(fitting) }.iter_mut().zip(all) {
            *to = from.into();
        }
    }
    if capacity > 0 && all.len() > capacity {
        return Err(invalid(format!(
            "{} consumers, and room for {capacity}: call again with room for more",
            all.len()
        )));
    }
    Ok(())
}

/// The public facts of a stream.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StreamInfo {
    /// sizeof(bips_stream_info).
    pub size: usize,
    /// Frames published so far.
    pub published: u64,
    /// Frames taken from keep-last consumers before they read them.
    pub evicted: u64,
    /// Consumers put out because they held the producer up.
    pub expelled: u64,
    /// How many consume it now.
    pub consumers: u64,
    /// Process id of the producer, as seen from its own pid namespace.
    pub pid: u32,
    /// Frames a late joiner still gets.
    pub history: u32,
    /// 1: reliable consumers are admitted.
    pub reliable: u32,
    /// Zero.
    pub reserved: u32,
    /// How the pool lies and what frames hold. Its `size` is set.
    pub layout: Layout,
}
sized!(StreamInfo, "bips_stream_info", 424);

/// Asks the producer of a stream about it, without joining. `directory` as in the options. Who consumes it goes to
/// `consumers` as in `bips_producer_get_consumers`; with a `count` of NULL it goes nowhere.
///
/// BIPS_NOT_FOUND, with what is published instead; BIPS_ACCESS_DENIED; BIPS_TIMEOUT from a stopped producer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_query(
    name: *const c_char,
    directory: *const c_char,
    info: *mut StreamInfo,
    consumers: *mut ConsumerState,
    capacity: usize,
    count: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: as the header says, a structure of its size or NULL.
        let answer = unsafe { Answer::to(info) }?;
        // SAFETY: as the header says, text or NULL.
        let name = unsafe { args::name(name) }?;
        // SAFETY: as above.
        let stream = bips::query(name, unsafe { args::path(directory) })?;
        answer.give(&StreamInfo {
            size: 0,
            published: stream.published,
            evicted: stream.evicted,
            expelled: stream.expelled,
            consumers: stream.consumers.len() as u64,
            pid: stream.pid,
            history: stream.history,
            reliable: stream.reliable.into(),
            reserved: 0,
            layout: Layout::of(
                &stream.content,
                stream.slots,
                stream.slot_bytes,
                stream.max_held,
                stream.writable,
                &stream.memory,
            ),
        });
        if count.is_null() {
            return Ok(());
        }
        // SAFETY: as the header says, room for so many, and for the count.
        unsafe { give_consumers(&stream.consumers, consumers, capacity, count) }
    })
}

/// Calls `each` with the name of every stream whose producer lives, sorted. `directory` as in the options. The name is
/// valid during the call, which must neither throw nor jump out.
///
/// BIPS_NOT_FOUND or BIPS_ACCESS_DENIED for the runtime directory itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bips_streams(
    directory: *const c_char,
    each: Option<unsafe extern "C" fn(name: *const c_char, context: *mut c_void)>,
    context: *mut c_void,
) -> Status {
    call(|| {
        let each = each.ok_or_else(|| invalid("NULL instead of a function for each name"))?;
        // SAFETY: as the header says, text or NULL.
        for name in bips::streams(unsafe { args::path(directory) })? {
            let name = text(&name);
            // SAFETY: the caller's function, with the context that goes with it.
            unsafe { each(name.as_ptr(), context) };
        }
        Ok(())
    })
}
