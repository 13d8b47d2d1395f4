//! Who may do what in the runtime directory. Other users are played by children that become one, which takes
//! root; without root these tests say that they are skipped.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{AccessRule, ErrorKind, Wait};
use common::process::{Role, Stage, play};
use common::skip::skip;
use common::{Scratch, assert_says, publish, receive};
use nix::unistd::{Gid, Group, Uid, geteuid, getgid, setgid, setgroups, setuid};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const ROLES: &[Role] = &[
    ("stranger produces", stranger_produces),
    ("stranger is denied", stranger_is_denied),
    ("stranger receives", stranger_receives),
    ("member receives", member_receives),
];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

#[track_caller]
fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        skip("only root can play another user");
    }
    root
}

/// From here on this process is a user with no rights of its own.
fn become_a_stranger() {
    let nobody = 12345;
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(nobody)).unwrap();
    setuid(Uid::from_raw(nobody)).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_does_not_exist() {
    let scratch = Scratch::new();
    let missing = scratch.path().join("missing");
    let hint = format!("mkdir -p {}", missing.display());
    let producer = common::producer(&missing, "cam").bytes(9).create();
    assert_says(&producer.unwrap_err(), ErrorKind::NotFound, &[&hint]);
    let consumer = common::consumer(&missing, "cam").wait(Wait::Forever).connect();
    assert_says(&consumer.unwrap_err(), ErrorKind::NotFound, &[&hint]);
    let streams = bips::streams(Some(&missing));
    assert_says(&streams.unwrap_err(), ErrorKind::NotFound, &[&hint]);
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let producer = common::producer(&file, "cam").bytes(9).create();
    // Making it is no advice here.
    assert_says(&producer.unwrap_err(), ErrorKind::InvalidArgument, &["is no directory", "both sides use"]);
}

/// procfs takes no files, not even from root.
#[test]
fn a_directory_nobody_can_write_to() {
    let error = common::producer(Path::new("/proc/1"), "cam").bytes(9).create().unwrap_err();
    let message = error.to_string();
    assert!(message.contains("/proc/1"), "{message}");
    assert!(matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::NotFound), "{message}");
}

#[test]
fn a_directory_this_user_may_not_write_to() {
    let scratch = Scratch::new();
    if geteuid().is_root() {
        mode(scratch.path(), 0o755);
        play("stranger produces", scratch.path(), 0).finish();
    } else {
        mode(scratch.path(), 0o555);
        produce_in_vain(scratch.path());
        mode(scratch.path(), 0o755);
    }
    assert!(scratch.files().is_empty());
}

fn stranger_produces(stage: &Stage) {
    become_a_stranger();
    produce_in_vain(&stage.directory);
}

fn produce_in_vain(directory: &Path) {
    for name in ["cam", "nested/cam"] {
        let error = common::producer(directory, name).bytes(9).create().unwrap_err();
        let dir = directory.display().to_string();
        assert_says(
            &error,
            ErrorKind::AccessDenied,
            &[&dir, "can't be written", "needs write permission", "BIPS_DIR"],
        );
    }
}

#[test]
fn owner_keeps_strangers_out() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    mode(scratch.path(), 0o755);
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    play("stranger is denied", scratch.path(), 0).finish();
    assert!(producer.stats().unwrap().consumers.is_empty());
}

fn stranger_is_denied(stage: &Stage) {
    become_a_stranger();
    let error = stage.consumer("cam").connect().unwrap_err();
    let ways = ["\"group:NAME\"", "\"directory\""];
    assert_says(&error, ErrorKind::AccessDenied, &ways);
    // Alive all the same.
    assert_eq!(bips::streams(Some(&stage.directory)).unwrap(), ["cam"]);
}

#[test]
fn directory_lets_strangers_in() {
    if is_root() {
        serve_a_stranger(0o755);
    }
}

/// DESIGN section 6: "a consumer only to search: read-only mounts serve".
#[test]
fn to_search_the_directory_is_enough() {
    if is_root() {
        serve_a_stranger(0o711);
    }
}

fn serve_a_stranger(permissions: u32) {
    let scratch = Scratch::new();
    mode(scratch.path(), permissions);
    let rule = AccessRule::Directory;
    let producer = scratch.producer("cam").bytes(100).access(rule).create().unwrap();
    let mut child = play("stranger receives", scratch.path(), 0);
    child.expect("ready");
    publish(&producer);
    child.expect("received");
    assert_eq!(producer.stats().unwrap().consumers[0].uid, 12345);
    child.tell("go");
    child.finish();
}

fn stranger_receives(stage: &Stage) {
    become_a_stranger();
    let mut consumer = stage.consumer("cam").connect().unwrap();
    stage.say("ready");
    receive(&mut consumer);
    stage.say("received");
    stage.hear();
}

#[test]
fn a_group_that_does_not_exist() {
    // The number is the one that means no group to the kernel.
    for name in ["no-such-group", "4294967295", "-1", "4294967296"] {
        let scratch = Scratch::new();
        let rule = AccessRule::Group(name.into());
        let error = scratch.producer("cam").bytes(9).access(rule).create().unwrap_err();
        let texts = [name, "make it", "\"group:5000\"", "\"directory\""];
        assert_says(&error, ErrorKind::InvalidArgument, &texts);
        assert!(scratch.files().is_empty());
    }
}

/// As in a pod, whose images don't know the group by a name.
#[test]
fn a_group_may_be_given_by_its_number() {
    // Only root may choose a group it is no member of.
    let number = if geteuid().is_root() { 54321 } else { getgid().as_raw() };
    assert!(!geteuid().is_root() || Group::from_gid(Gid::from_raw(number)).unwrap().is_none());
    let scratch = Scratch::new();
    let rule = AccessRule::parse(&format!("group:{number}")).unwrap();
    let _producer = scratch.producer("cam").bytes(9).access(rule).create().unwrap();
    let socket = fs::metadata(scratch.path().join("cam.sock")).unwrap();
    assert_eq!((socket.gid(), socket.mode() & 0o777), (number, 0o660));
    let info = bips::query("cam", Some(scratch.path())).unwrap();
    assert_eq!(info.access, format!("group:{number}"));
    if geteuid().is_root() {
        mode(scratch.path(), 0o755);
        for role in ["member receives", "stranger is denied"] {
            play(role, scratch.path(), number.into()).finish();
        }
    }
}

fn member_receives(stage: &Stage) {
    setgroups(&[Gid::from_raw(stage.number as u32)]).unwrap();
    setgid(Gid::from_raw(12345)).unwrap();
    setuid(Uid::from_raw(12345)).unwrap();
    stage.consumer("cam").connect().unwrap();
}
