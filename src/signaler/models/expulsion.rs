//! A producer puts a consumer out that is anywhere in a take, a release or a wait: what it holds stays whole, what it
//! has not read comes back, and it hears of it.

use super::*;

/// The producer needs a slot and gives nobody any time. Whatever the consumer gets is whole, it learns that it is out
/// exactly if it is, and all comes back once it has given back what it held.
fn a_consumer_is_put_out(policy: Policy) {
    explore(2, move || {
        let stream = Stream::new(1);
        let (_, reader) = stream.join_where(true, policy, 1);
        for clock in 1..=2 {
            let slot = stream.acquire().unwrap();
            stream.publish(slot, clock * SLOW);
        }
        let consumer = {
            let (stream, reader) = (stream.clone(), reader.clone());
            thread::spawn(move || stream.consume(&reader, 2, 2))
        };
        let out =
            [1, 2].iter().any(|now| !stream.publisher.lock().unwrap().expel_stalled(*now, 1).is_empty());
        // A slot that was held or unread would be written here under its reader.
        stream.produce(2, 3 * SLOW);
        consumer.join().unwrap();
        assert_eq!(reader.is_expelled(), out);
        if out {
            assert_eq!(reader.take(), Ok(None), "who is out takes nothing");
            stream.check_free();
        }
    });
}

#[test]
fn loom_expel_reliable() {
    a_consumer_is_put_out(Policy::Reliable);
}

#[test]
fn loom_expel_keep_last() {
    a_consumer_is_put_out(Policy::KeepLast(2));
}

/// Who sleeps when it is put out wakes up.
#[test]
fn loom_expel_sleeper() {
    explore(3, || {
        let stream = Stream::new(1);
        let (_, reader) = stream.join_where(true, Policy::Reliable, 1);
        let slot = stream.acquire().unwrap();
        stream.publish(slot, SLOW);
        let held = reader.take().unwrap().expect("one frame is there");
        let consumer = {
            let reader = reader.clone();
            thread::spawn(move || {
                while !reader.is_expelled() {
                    reader.park(None, || false);
                }
            })
        };
        let mut publisher = stream.publisher.lock().unwrap();
        assert!(publisher.expel_stalled(1, 1).is_empty(), "nobody is out at once");
        assert_eq!(publisher.expel_stalled(2, 1).len(), 1);
        drop(publisher);
        consumer.join().unwrap();
        stream.check(&reader, held);
        reader.release(held.slot);
        stream.check_free();
    });
}
