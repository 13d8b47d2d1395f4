//! A participant stops for ever at any step. The others must not notice more than that.

use super::*;
use crate::step::{Step, Stopped, stop_at};
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread::JoinHandle;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

std::thread_local! {
    /// How often somebody stopped, in all interleavings of this test.
    static STOPS: Cell<u64> = const { Cell::new(0) };
}

/// Explores for each of the steps, each of which must be reached in some interleaving.
fn explore_each(steps: &[Step], model: impl Fn(Step) + Copy + Sync + Send + 'static) {
    for &step in steps {
        STOPS.set(0);
        explore(2, move || model(step));
        assert!(STOPS.get() > 0, "{step:?} was never reached");
    }
}

/// A thread that stops at `step`, if it gets there.
fn mortal(step: Step, part: impl FnOnce() + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        stop_at(Some(step));
        match catch_unwind(AssertUnwindSafe(part)) {
            Err(panic) if panic.is::<Stopped>() => {
                STOPS.set(STOPS.get() + 1);
            }
            Err(panic) => resume_unwind(panic),
            Ok(()) => {}
        }
    })
}

/// A consumer stops. Its seat is then removed, as the monitor does; the other one, reliable, misses nothing, and in
/// the end both slots are free.
fn a_consumer_stops(policy: Policy, steps: &[Step]) {
    explore_each(steps, move |step| {
        let stream = Stream::new(1);
        let (id, victim) = stream.join(policy, 1);
        let (_, survivor) = stream.join(Policy::Reliable, 1);
        let theirs = stream.clone();
        let consumer = mortal(step, move || {
            theirs.consume(&victim, 2, 2);
            victim.arm(|| false);
            victim.disarm();
            victim.resign();
        });
        stream.produce(2, SLOW);
        consumer.join().unwrap();
        stream.publisher.lock().unwrap().leave(id);
        let mut next = 0;
        while let Some(taken) = survivor.take().unwrap() {
            assert_eq!(taken.sequence, next, "a survivor's frame is lost");
            stream.check(&survivor, taken);
            survivor.release(taken.slot);
            next += 1;
        }
        assert_eq!(next, stream.publisher.lock().unwrap().published(), "a survivor's frame is lost");
        assert!(stream.acquire().is_some() && stream.acquire().is_some(), "a slot is lost");
    });
}

#[test]
fn loom_reliable_consumer_stops() {
    let steps = [
        Step::TakeRead,
        Step::TakeHeld,
        Step::TakeMoved,
        Step::ReleaseCleared,
        Step::ParkAnnounced,
        Step::Resigned,
    ];
    a_consumer_stops(Policy::Reliable, &steps);
}

#[test]
fn loom_keep_last_consumer_stops() {
    let steps = [
        Step::TakeRead,
        Step::TakeHeld,
        Step::TakeMoved,
        Step::SkipMoved,
        Step::ReleaseCleared,
        Step::ParkAnnounced,
    ];
    a_consumer_stops(Policy::KeepLast(1), &steps);
}

/// The same while frames are taken away from it: nobody else keeps the producer from evicting.
#[test]
fn loom_evicted_consumer_stops() {
    let steps = [Step::TakeRead, Step::TakeHeld, Step::TakeMoved, Step::TakeLost, Step::TakeReturned];
    explore_each(&steps, move |step| {
        let stream = Stream::new(1);
        let (id, victim) = stream.join(Policy::KeepLast(2), 1);
        let theirs = stream.clone();
        let consumer = mortal(step, move || theirs.consume(&victim, 1, 2));
        stream.produce(3, SLOW);
        consumer.join().unwrap();
        stream.publisher.lock().unwrap().leave(id);
        assert!(stream.acquire().is_some() && stream.acquire().is_some(), "a slot is lost");
    });
}

/// A producer stops. Its consumer, asleep or not, is told so by its own monitor, and has then received every frame
/// whose publication was over, each of them whole.
fn a_producer_stops(policy: Policy, frames: u64, steps: &[Step]) {
    explore_each(steps, move |step| {
        let stream = Stream::new(1);
        let (_, reader) = stream.join(policy, 1);
        let gone = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicU64::new(0));
        let consumer = {
            let (stream, reader, gone) = (stream.clone(), reader.clone(), gone.clone());
            thread::spawn(move || {
                let mut next = 0;
                loop {
                    let ended = gone.load(Ordering::Acquire) || reader.is_closed();
                    match reader.take().unwrap() {
                        Some(taken) => {
                            assert!(taken.sequence >= next, "a frame is repeated");
                            assert!(policy != Policy::Reliable || taken.sequence == next, "a frame is lost");
                            stream.check(&reader, taken);
                            reader.release(taken.slot);
                            next = taken.sequence + 1;
                        }
                        None if ended => return next,
                        None => reader.park(None, || gone.load(Ordering::Acquire)),
                    }
                }
            })
        };
        let producer = {
            let (stream, over) = (stream.clone(), over.clone());
            mortal(step, move || {
                for clock in 1..=frames {
                    if let Some(slot) = stream.acquire() {
                        let sequence = stream.publish(slot, clock * SLOW);
                        over.store(sequence + 1, Ordering::Relaxed);
                    }
                }
                stream.publisher.lock().unwrap().close();
            })
        };
        producer.join().unwrap();
        // As the monitor does when the connection breaks.
        gone.store(true, Ordering::Release);
        reader.wake_self();
        let received = consumer.join().unwrap();
        // A keep-last one may have lost even the newest, to a frame that was then never written.
        let lost = policy == Policy::Reliable && received < over.load(Ordering::Relaxed);
        assert!(!lost, "a published frame died with its producer");
    });
}

#[test]
fn loom_producer_stops() {
    let steps = [
        Step::AcquireScanned,
        Step::AcquireHeld,
        Step::PublishDescribed,
        Step::PublishCleared,
        Step::PublishWritten,
        Step::PublishStamped,
        Step::PublishCounted,
        Step::WakeCleared,
        Step::WakeDone,
        Step::CloseMarked,
    ];
    a_producer_stops(Policy::Reliable, 2, &steps);
}

#[test]
fn loom_evicting_producer_stops() {
    a_producer_stops(Policy::KeepLast(2), 3, &[Step::EvictChosen, Step::EvictMoved, Step::PublishStamped]);
}
