//! What the dead leave behind.

use crate::common::process::play;
use crate::common::{SOON, Scratch, assert_says, publish, receive};
use bips::ErrorKind;

#[test]
fn leftovers_are_taken_over_and_taken_away() {
    let scratch = Scratch::new();
    let mut child = play("publishes", scratch.path(), 1);
    drop(scratch.consumer("cam").wait(SOON).connect().unwrap());
    child.kill();
    let left: Vec<_> = scratch.files();
    assert_eq!(left, [scratch.path().join("cam.lock"), scratch.path().join("cam.sock")]);
    assert_eq!(bips::streams(Some(scratch.path())).unwrap(), [""; 0]);
    let error = scratch.consumer("cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::NotFound, &["no stream is published there"]);
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
    producer.close();
    assert!(scratch.files().is_empty(), "{:?}", scratch.files());
}

#[test]
fn closing_leaves_the_directory_as_before() {
    let scratch = Scratch::new();
    let deep = scratch.producer("a/b/c").bytes(100).create().unwrap();
    let beside = scratch.producer("a/d").bytes(100).create().unwrap();
    assert_eq!(bips::streams(Some(scratch.path())).unwrap(), ["a/b/c", "a/d"]);
    drop(deep);
    assert!(!scratch.path().join("a/b").exists());
    assert_eq!(bips::streams(Some(scratch.path())).unwrap(), ["a/d"]);
    drop(beside);
    assert!(scratch.files().is_empty(), "{:?}", scratch.files());
}
