//! Consumers that stall, and are put out.

use super::*;

const MS: u64 = 1_000_000;

#[test]
fn a_stalled_reliable_consumer_is_put_out_and_keeps_what_it_holds() {
    let mut stream = Stream::new(3, 2, 0);
    let (id, stalled, seat) = stream.join(Policy::Reliable);
    let (_, alive, _) = stream.join(Policy::Reliable);
    for _ in 0..3 {
        stream.publish().unwrap();
        let taken = alive.take().unwrap().unwrap();
        alive.release(taken.slot);
    }
    let held = stalled.take().unwrap().unwrap();
    assert_eq!(stream.publish(), None, "one is held, two are unread");
    assert_eq!(stream.publisher.expel_stalled(100 * MS, 10 * MS), []);
    assert_eq!(stream.publisher.expel_stalled(109 * MS, 10 * MS), [], "not before its time");
    assert!(!stalled.is_expelled());
    assert_eq!(
        stream.publisher.expel_stalled(110 * MS, 10 * MS),
        [id],
        "the one that has read all is not to blame"
    );
    assert!(stalled.is_expelled() && !alive.is_expelled());
    assert_eq!(sequence(&stalled), None);
    let facts: Vec<_> = stream.publisher.members().map(|member| (member.expelled, member.held)).collect();
    assert_eq!(facts, [(true, 1), (false, 0)]);
    for _ in 0..6 {
        stream.publish().unwrap();
        let taken = alive.take().unwrap().unwrap();
        assert_ne!(taken.slot, held.slot, "what is read is never written to");
        alive.release(taken.slot);
    }
    stalled.release(held.slot);
    assert!((0..3).all(|_| stream.acquire().is_some()), "all came back");
    assert_eq!(stream.publisher.expelled(), 1);
    // Who is out and pretends not to be breaks the protocol.
    seat.cursor().store(4, Relaxed);
    assert_eq!(stream.publisher.acquire(), Acquired::Violation(id));
}

#[test]
fn moving_or_holding_where_there_are_slots_is_no_stall() {
    let mut stream = Stream::new(2, 1, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    let (_, lossy, _) = stream.join(Policy::KeepLast(1));
    stream.publish().unwrap();
    let mut held = reader.take().unwrap().unwrap();
    stream.publish().unwrap();
    for now in [100, 109, 118, 127] {
        assert_eq!(stream.publish(), None);
        assert_eq!(
            stream.publisher.expel_stalled(now * MS, 10 * MS),
            [],
            "it gives back and takes all the time"
        );
        reader.release(held.slot);
        held = reader.take().unwrap().unwrap();
        stream.publish().unwrap();
    }
    // It holds that frame for an hour, and the producer had slots all along: its time begins now.
    let hour = 3_600_000 * MS;
    assert_eq!(stream.publish(), None);
    assert_eq!(stream.publisher.expel_stalled(hour, 10 * MS), []);
    assert_eq!(stream.publisher.expel_stalled(hour + 10 * MS, 10 * MS).len(), 1);
    assert!(
        reader.is_expelled() && !lossy.is_expelled(),
        "who holds nothing and waits for nothing is not in the way"
    );
}

#[test]
fn who_holds_what_since_when() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    let times = |stream: &Stream| {
        let member = stream.publisher.members().next().unwrap();
        (member.held_since, member.unread_since)
    };
    assert_eq!(times(&stream), (None, None));
    for _ in 0..3 {
        stream.publish().unwrap();
    }
    assert_eq!(times(&stream), (None, Some(MS)));
    let first = reader.take().unwrap().unwrap();
    reader.take().unwrap().unwrap();
    assert_eq!(times(&stream), (Some(MS), Some(3 * MS)));
    reader.release(first.slot);
    assert_eq!(times(&stream), (Some(2 * MS), Some(3 * MS)));
}

/// Stopped together, neither of the two has had the time that went by.
#[test]
fn a_pause_of_the_producer_is_no_stall_of_its_consumers() {
    let mut stream = Stream::new(1, 1, 0);
    let (id, _reader, _) = stream.join(Policy::Reliable);
    stream.publish().unwrap();
    assert_eq!(stream.publish(), None);
    let mut expel = |now| stream.publisher.expel_stalled(now * MS, 100 * MS);
    assert_eq!(expel(1000), []);
    assert_eq!(expel(1005), []);
    assert_eq!(expel(5000), [], "nobody looked for four seconds");
    assert_eq!(expel(5099), []);
    assert_eq!(expel(5100), [id]);
}

/// One that looks rarely as a rule is not to wait for ever.
#[test]
fn a_producer_that_looks_rarely_puts_out_too() {
    let mut stream = Stream::new(1, 1, 0);
    let (id, _reader, _) = stream.join(Policy::Reliable);
    stream.publish().unwrap();
    assert_eq!(stream.publish(), None);
    let mut expel = |now| stream.publisher.expel_stalled(now * MS, 100 * MS);
    assert_eq!((expel(1000), expel(2000)), (vec![], vec![]));
    assert_eq!(expel(3000), [id]);
}

/// The distance from its cursor to the tail looks like one that a keep-last consumer skips.
#[test]
fn who_is_out_early_stays_out() {
    let mut stream = Stream::new(4, 1, 0);
    let (id, reader, _) = stream.join(Policy::KeepLast(1));
    stream.publish().unwrap();
    let held = reader.take().unwrap().unwrap();
    stream.publish().unwrap();
    let own: Vec<_> = (0..3).map(|_| stream.acquire().unwrap()).collect();
    assert_eq!(stream.acquire(), None);
    stream.publisher.expel_stalled(MS, MS);
    assert_eq!(stream.publisher.expel_stalled(2 * MS, MS), [id]);
    reader.release(held.slot);
    assert_eq!(reader.take(), Ok(None));
    assert!(reader.is_expelled());
    own.into_iter().for_each(|slot| stream.publisher.unhold(slot));
    assert!((0..4).all(|_| stream.acquire().is_some()));
}
