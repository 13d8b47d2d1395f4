//! What a consumer may try on the pages of the frames.

use crate::common::wire::Raw;
use crate::common::{SOON, Scratch, assert_says, publish, receive};
use crate::flow::BYTES;
use bips::ErrorKind;

/// Whoever may write to the frames may take their pages away. What was in them is lost, and who joins meanwhile is
/// refused; those who are there go on, and pages come back with the next frames.
#[test]
fn holes_in_a_writable_pool() {
    use nix::fcntl::{FallocateFlags, fallocate};
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(BYTES).slots(4).writable(true).create().unwrap();
    let raw = Raw::connect(scratch.path(), "cam");
    let fds = raw.seated(Some(1));
    let punch = || {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for object in &fds[3..] {
            let len = nix::sys::stat::fstat(object).unwrap().st_size;
            fallocate(object, flags, 0, len).unwrap();
        }
    };
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    for number in 0..50 {
        assert_eq!(publish(&producer), number);
        punch();
        let frame = consumer.receive(SOON).unwrap();
        assert_eq!(frame.sequence(), number);
        let mut bytes = [1; 100];
        frame.copy_to(0, &mut bytes);
        assert_eq!(bytes, [0; 100], "the hole is felt");
    }
    let refused = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&refused, ErrorKind::Protocol, &["not backed by memory"]);
    let mut all: Vec<_> = (0..4).map(|_| producer.acquire(SOON).unwrap()).collect();
    all.iter_mut().for_each(|frame| frame.bytes_mut().fill(1));
    drop(all);
    let mut late = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    for consumer in [&mut consumer, &mut late] {
        receive(consumer);
    }
}
