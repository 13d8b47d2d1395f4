//! Which slot is free, and what each policy gets of the frames.

use super::*;

#[test]
fn a_reliable_consumer_gets_every_frame_and_holds_the_producer() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    for expected in 0..4 {
        assert_eq!(stream.publish(), Some(expected));
    }
    assert_eq!(stream.publish(), None, "four unread frames fill four slots");
    let first = reader.take().unwrap().unwrap();
    assert_eq!(stream.publish(), None, "leased is still taken");
    reader.release(first.slot);
    assert_eq!(stream.publish(), Some(4));
    assert_eq!(
        (1..=4)
            .map(|_| {
                let t = reader.take().unwrap().unwrap();
                reader.release(t.slot);
                t.sequence
            })
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(sequence(&reader), None);
}

#[test]
fn keep_last_gives_up_the_oldest() {
    let mut stream = Stream::new(4, 4, 0);
    let (_, latest, _) = stream.join(Policy::KeepLast(1));
    let (_, three, _) = stream.join(Policy::KeepLast(3));
    for expected in 0..10 {
        assert_eq!(stream.publish(), Some(expected), "keep-last never holds the producer");
    }
    assert_eq!(sequence(&latest), Some(9));
    assert_eq!(sequence(&latest), None);
    assert_eq!(
        [sequence(&three), sequence(&three), sequence(&three), sequence(&three)],
        [Some(7), Some(8), Some(9), None]
    );
    assert!(stream.publisher.evicted() > 0);
}

#[test]
fn eviction_spares_frames_that_would_free_nothing() {
    let mut stream = Stream::new(2, 1, 0);
    let (_, _slow, _) = stream.join(Policy::Reliable);
    let (_, lossy, _) = stream.join(Policy::KeepLast(2));
    assert!(stream.publish().is_some() && stream.publish().is_some());
    assert_eq!(stream.publish(), None, "the reliable one has not read");
    assert_eq!(sequence(&lossy), Some(0), "so the other keeps its frames");
}

#[test]
fn a_slot_is_not_reused_while_anyone_holds_it() {
    let mut stream = Stream::new(3, 1, 0);
    let (_, a, _) = stream.join(Policy::KeepLast(1));
    stream.publish();
    let held = a.take().unwrap().unwrap();
    for _ in 0..50 {
        let slot = stream.acquire().unwrap();
        assert_ne!(slot, held.slot);
        stream.clock += 1_000_000;
        stream.publisher.publish(slot, at(stream.clock), None);
    }
    assert_eq!(a.take(), Err(TakeError::TooManyHeld));
    a.release(held.slot);
    assert_eq!(sequence(&a), Some(50));
}

#[test]
fn the_hot_slot_comes_back_first() {
    let mut stream = Stream::new(8, 6, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    stream.publish();
    let first = reader.take().unwrap().unwrap();
    reader.release(first.slot);
    for _ in 0..5 {
        stream.publish();
        let next = reader.take().unwrap().unwrap();
        assert_eq!(next.slot, first.slot, "still in the cache, so used again");
        reader.release(next.slot);
    }
}

#[test]
fn in_haste_known_free_slots_are_used_up_first() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, seat) = stream.join(Policy::Reliable);
    let mut used = 0u64;
    // The first one is not in haste yet, so its slot comes back hot; then the others.
    for i in 0..5 {
        let slot = stream.acquire().unwrap();
        used |= bit(slot);
        stream.publisher.publish(slot, at(1_000_000 + i * 100), None);
        let taken = reader.take().unwrap().unwrap();
        reader.release(taken.slot);
    }
    assert_eq!(used, 0b1111);
    assert_eq!(seat.held().load(Relaxed), 0);
}

#[test]
fn late_joiners_get_the_history_and_nothing_older() {
    let mut stream = Stream::new(4, 2, 2);
    for _ in 0..5 {
        stream.publish();
    }
    let (_, late, _) = stream.join(Policy::Reliable);
    assert_eq!([sequence(&late), sequence(&late)], [Some(3), Some(4)]);
    let (_, plain, _) = Stream::new(4, 2, 0).join(Policy::Reliable);
    assert_eq!(sequence(&plain), None);
}

#[test]
fn the_producers_own_views_keep_a_slot() {
    let mut stream = Stream::new(2, 1, 0);
    let slot = stream.acquire().unwrap();
    stream.publisher.hold(slot);
    stream.publisher.publish(slot, Hot::default, None);
    for _ in 0..4 {
        let other = stream.acquire().unwrap();
        assert_ne!(other, slot);
        stream.publisher.unhold(other);
    }
    stream.publisher.unhold(slot);
    assert!(stream.acquire().is_some() && stream.acquire().is_some());
}

#[test]
fn a_slot_by_its_index() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, reader, _) = stream.join(Policy::Reliable);
    for slot in [2, 0, 3] {
        assert_eq!(stream.publisher.acquire_at(slot), Acquired::Slot(slot));
        assert_eq!(stream.publisher.acquire_at(slot), Acquired::Full, "it is being written");
        stream.clock += 1_000_000;
        stream.publisher.publish(slot, at(stream.clock), None);
        assert_eq!(stream.publisher.acquire_at(slot), Acquired::Full, "it is not read");
    }
    assert_eq!(stream.publisher.free(), Ok(0b0010));
    let first = reader.take().unwrap().unwrap();
    assert_eq!(first.slot, 2);
    assert_eq!(stream.publisher.acquire_at(2), Acquired::Full, "it is leased");
    reader.release(2);
    assert_eq!(stream.publisher.free(), Ok(0b0110));
    assert_eq!(stream.publisher.acquire_at(2), Acquired::Slot(2));
    assert_eq!(stream.publisher.free(), Ok(0b0010));
    assert_eq!(stream.acquire(), Some(1), "any other is still to be had");
}

#[test]
fn a_slot_by_its_index_takes_no_more_from_keep_last_than_it_must() {
    let mut stream = Stream::new(4, 2, 0);
    let (_, lossy, _) = stream.join(Policy::KeepLast(4));
    for slot in 0..4 {
        assert_eq!(stream.publisher.acquire_at(slot), Acquired::Slot(slot));
        stream.clock += 1_000_000;
        stream.publisher.publish(slot, at(stream.clock), None);
    }
    assert_eq!(stream.publisher.free(), Ok(0b1111), "all can be given up");
    assert_eq!(stream.publisher.acquire_at(1), Acquired::Slot(1));
    assert_eq!(stream.publisher.evicted(), 2, "that frame, and what is older");
    assert_eq!([sequence(&lossy), sequence(&lossy), sequence(&lossy)], [Some(2), Some(3), None]);
}
