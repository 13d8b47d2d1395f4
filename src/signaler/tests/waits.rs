//! The number of a wait.

use super::*;

#[test]
fn each_wait_has_a_number_of_its_own() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, seat) = stream.join(Policy::KeepLast(1));
    let first = reader.arm(|| false).unwrap();
    assert_eq!(first & Seat::WAITS, Seat::WAITS);
    assert_eq!(reader.arm(|| false), Some(first), "the same wait");
    stream.publish();
    assert_eq!(seat.parked().load(Relaxed), first + 1, "woken");
    stream.publish();
    assert_eq!(seat.parked().load(Relaxed), first + 1, "once");
    assert_eq!(reader.arm(|| false), None, "something is there: no reason to wait");
    sequence(&reader);
    assert_eq!(reader.arm(|| true), None, "gone is a reason not to wait");
    assert_eq!(reader.arm(|| false), Some(first + 2));
    reader.disarm();
    assert_eq!(seat.parked().load(Relaxed), first + 3);
    reader.disarm();
    assert_eq!(seat.parked().load(Relaxed), first + 3, "awake already");
    reader.arm(|| false).unwrap();
    stream.publisher.close();
    assert_eq!(seat.parked().load(Relaxed), first + 5);
    assert!(reader.is_closed());
}

/// The number goes round.
#[test]
fn waits_without_end() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, seat) = stream.join(Policy::KeepLast(1));
    seat.parked().store(u32::MAX - 1, Relaxed);
    assert_eq!(reader.arm(|| false), Some(u32::MAX));
    stream.publish();
    assert_eq!(seat.parked().load(Relaxed), 0);
    assert_eq!(reader.await_wake(u32::MAX - 1, || false), Some(0));
}
