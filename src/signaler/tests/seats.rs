//! Consumers that go, or write nonsense; and a producer that does.

use super::*;

#[test]
fn a_dead_seat_gives_everything_back() {
    let mut stream = Stream::new(4, 3, 0);
    let (id, reader, _) = stream.join(Policy::Reliable);
    for _ in 0..4 {
        stream.publish();
    }
    reader.take().unwrap();
    reader.take().unwrap();
    assert_eq!(stream.publish(), None);
    stream.publisher.leave(id);
    for _ in 0..8 {
        assert!(stream.publish().is_some());
    }
}

#[test]
fn who_resigns_keeps_what_it_holds_and_nothing_else() {
    for policy in [Policy::Reliable, Policy::KeepLast(4)] {
        let mut stream = Stream::new(4, 3, 0);
        let (_, reader, _) = stream.join(policy);
        for _ in 0..4 {
            stream.publish();
        }
        let held = reader.take().unwrap().unwrap();
        reader.resign();
        for _ in 0..20 {
            let slot = stream.acquire().expect("three slots are free");
            assert_ne!(slot, held.slot);
            stream.clock += 1_000_000;
            stream.publisher.publish(slot, at(stream.clock), None);
        }
        reader.release(held.slot);
        let free: Vec<_> = (0..4).map(|_| stream.acquire()).collect();
        assert!(free.iter().all(Option::is_some));
    }
}

#[test]
fn nonsense_in_a_seat_is_found_and_costs_only_that_seat() {
    for nonsense in 0..5 {
        let mut stream = Stream::new(4, 2, 0);
        let (good, reader, _) = stream.join(Policy::Reliable);
        let (bad, _, seat) = stream.join(Policy::KeepLast(2));
        stream.publish();
        match nonsense {
            0 => seat.cursor().store(u64::MAX - 1, Relaxed),
            1 => seat.cursor().store(2, Relaxed),
            2 => seat.held().store(1 << 63, Relaxed),
            3 => {
                seat.cursor().store(1, Relaxed);
                stream.publish();
                seat.cursor().store(0, Relaxed);
            }
            _ => seat.held().store(0b111, Relaxed),
        }
        assert_eq!(stream.publisher.acquire(), Acquired::Violation(bad));
        stream.publisher.leave(bad);
        assert!(stream.publish().is_some());
        assert_eq!([sequence(&reader), sequence(&reader)], [Some(0), Some(1)]);
        reader.release(0);
        assert!(stream.publisher.leave(good).is_some());
    }
}

#[test]
fn nonsense_on_a_board_is_refused() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    stream.publish();
    stream.board.entry(0).slot.store(9, Relaxed);
    assert_eq!(reader.take(), Err(TakeError::Protocol));
    stream.board.entry(0).stamp.store(77, Relaxed);
    assert_eq!(reader.take(), Err(TakeError::Protocol));
}

#[test]
fn publishing_a_slot_that_is_leased_is_refused_by_the_consumer() {
    let mut stream = Stream::new(4, 3, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    stream.publish();
    let held = reader.take().unwrap().unwrap();
    stream.publish();
    stream.board.entry(1).slot.store(held.slot, Relaxed);
    assert_eq!(reader.take(), Err(TakeError::Protocol));
}
