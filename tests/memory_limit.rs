//! More memory than there is: an error with numbers, never SIGBUS and never a kill.
//!
//! The tests of a control group make one of their own with a child in it; where that can't be done they say that
//! they are skipped.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::ErrorKind;
use common::group::Group;
use common::process::{Role, Stage, play};
use common::skip::skip;
use common::{Scratch, assert_says, publish, receive};
use std::fs;
use std::path::Path;

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 64 * MIB;

const ROLES: &[Role] = &[("arithmetic", refused_by_arithmetic), ("net", refused_by_trial)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

#[test]
fn more_than_the_machine_has() {
    let scratch = Scratch::new();
    for bytes in [1 << 50, 1 << 57] {
        let error = scratch.producer("cam").bytes(bytes).create().unwrap_err();
        let asked = format!("{} MiB of buffers", 4 * bytes / MIB);
        assert_says(
            &error,
            ErrorKind::OutOfMemory,
            &[&asked, "MiB available", "fewer slots or smaller frames"],
        );
    }
    let error = scratch.producer("cam").bytes(1 << 61).slots(64).create().unwrap_err();
    assert_says(&error, ErrorKind::InvalidArgument, &["smaller frames"]);
    assert!(scratch.files().is_empty());
}

/// Plays a role in a child that is in the group before the role begins.
#[track_caller]
fn play_in(group: &Group, role: &str, scratch: &Scratch) {
    let mut child = play(role, scratch.path(), 0);
    child.expect("born");
    fs::write(group.path.join("cgroup.procs"), child.pid().to_string()).unwrap();
    child.tell(group.path.to_str().unwrap());
    let said = child.hear();
    if said != "done" {
        skip(said);
    }
    child.finish();
}

#[test]
fn more_than_the_control_group_allows() {
    let Some(group) = Group::make("arithmetic", LIMIT) else { return };
    play_in(&group, "arithmetic", &Scratch::new());
}

fn refused_by_arithmetic(stage: &Stage) {
    stage.say("born");
    let group = stage.hear();
    let error = stage.producer("cam").bytes(LIMIT).slots(2).create().unwrap_err();
    assert_says(
        &error,
        ErrorKind::OutOfMemory,
        &["128 MiB of buffers", &group, "allows 64 MiB", "in use", "fewer slots"],
    );
    in_use(stage);
    stage.say("done");
}

/// What does fit still works.
fn in_use(stage: &Stage) {
    let producer = stage.producer("cam").bytes(MIB).create().unwrap();
    let mut consumer = stage.consumer("cam").connect().unwrap();
    publish(&producer);
    receive(&mut consumer);
}

/// The numbers can't be believed here, as in a container that can't see its own limits.
#[test]
fn more_than_the_control_group_gives() {
    let Some(group) = Group::make("net", LIMIT) else { return };
    if !nix::unistd::geteuid().is_root() {
        skip("only root can hide the control group's numbers");
        return;
    }
    play_in(&group, "net", &Scratch::new());
}

fn refused_by_trial(stage: &Stage) {
    stage.say("born");
    stage.hear();
    if let Err(reason) = lie_about_the_limit() {
        stage.say(format!("the numbers can't be hidden: {reason}"));
        return;
    }
    // Every memory object is tried, so nothing of a refused one may stay charged.
    for _ in 0..3 {
        let error = stage.producer("cam").bytes(LIMIT).slots(2).create().unwrap_err();
        assert_says(
            &error,
            ErrorKind::OutOfMemory,
            &["128 MiB of buffers", "trial allocation was killed", "fewer slots"],
        );
    }
    in_use(stage);
    stage.say("done");
}

/// In a mount namespace of this process's own, puts a file system over the groups' that allows a gigabyte.
fn lie_about_the_limit() -> Result<(), String> {
    use std::ffi::CString;
    let explain = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
    let mount = |kind: Option<&str>, target: &str, flags| {
        let kind = kind.map(|kind| CString::new(kind).expect("no NUL"));
        let kind = kind.as_ref().map_or(std::ptr::null(), |kind| kind.as_ptr());
        let target = CString::new(target).expect("no NUL");
        // SAFETY: strings end in NUL and outlive the call; a mount touches no memory of ours.
        let failed = unsafe { libc::mount(kind, target.as_ptr(), kind, flags, std::ptr::null()) };
        if failed == 0 { Ok(()) } else { Err(explain("mount")) }
    };
    // Of this thread alone, which is the one that makes the producer.
    // SAFETY: gives this thread a mount namespace of its own.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(explain("unshare"));
    }
    mount(None, "/", libc::MS_REC | libc::MS_PRIVATE)?;
    let version_1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    let root = if version_1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
    mount(Some("tmpfs"), root, 0)?;
    let (limit, usage) = if version_1 {
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
    } else {
        ("memory.max", "memory.current")
    };
    for (name, number) in [(limit, 1 << 30), (usage, 0)] {
        fs::write(Path::new(root).join(name), number.to_string()).map_err(|error| error.to_string())?;
    }
    Ok(())
}
