//! Producer and consumer in two containers that share one directory and nothing else.
//!
//! Run by `cargo xtask test containers`, which tries first whether there can be containers; others ignore these
//! tests. The containers are bubblewrap's: own user, pid, ipc, net, uts and mount namespaces, a read-only root, no
//! capabilities.

#![cfg(not(bips_loom))]

mod common;

use bips::{AccessRule, ErrorKind, ReceiveError};
use common::process::{Peer, Role, Stage, play_by};
use common::skip::skip;
use common::{SOON, Scratch, assert_says, receive};
use nix::unistd::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROLES: &[Role] = &[("produces", produce), ("consumes", consume), ("is refused", be_refused)];
const NAMESPACES: [&str; 6] = ["user", "pid", "ipc", "net", "uts", "mnt"];
const INSIDE: &str = "/bips";
/// Who they are outside, where root makes them.
const PRODUCER: u32 = 100_000;
const CONSUMER: u32 = 200_000;

#[test]
fn child_process() {
    common::process::child(ROLES);
}

/// The test program where every user can reach it, and the directory that the containers share.
struct Site {
    _scratch: Scratch,
    program: PathBuf,
    shared: PathBuf,
}

impl Site {
    fn new() -> Self {
        let scratch = Scratch::new();
        let program = scratch.path().join("program");
        let shared = scratch.path().join("shared");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(&shared).unwrap();
        // Neither user namespace shows the other's users: whoever reaches the directory may use it.
        fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
        Self { _scratch: scratch, program, shared }
    }

    /// A container that runs the test program as a user who is this one outside, with the shared directory bound
    /// in the way `bind` says.
    fn container(&self, user: u32, bind: &str) -> Command {
        let mut bwrap = Command::new("bwrap");
        bwrap.args(["--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000"]);
        bwrap.args(["--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"]);
        for name in ["bin", "lib", "lib64"] {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => bwrap.arg("--symlink").arg(target).arg(&path),
                Err(_) if path.is_dir() => bwrap.arg("--ro-bind").args([&path, &path]),
                Err(_) => continue,
            };
        }
        bwrap.args(["--proc", "/proc", "--dev", "/dev"]);
        bwrap.arg("--ro-bind").arg(&self.program).arg("/program");
        bwrap.arg(bind).arg(&self.shared).arg(INSIDE);
        bwrap.args(["--remount-ro", "/", "--chdir", "/"]);
        bwrap.arg("/program");
        if geteuid().is_root() {
            bwrap.uid(user).gid(user);
        }
        bwrap
    }

    fn producer(&self, number: u64) -> Peer {
        self.play("produces", PRODUCER, "--bind", number)
    }

    /// Its mount of the shared directory is read-only.
    fn consumer(&self, role: &str, number: u64) -> Peer {
        self.play(role, CONSUMER, "--ro-bind", number)
    }

    fn play(&self, role: &str, user: u32, bind: &str, number: u64) -> Peer {
        play_by(self.container(user, bind), role, Path::new(INSIDE), number)
    }
}

/// The namespaces, which tell a container from another.
fn describe_container() -> String {
    assert!(fs::write("/usr/file", "").is_err() && fs::write("/file", "").is_err(), "the root is read-only");
    describe_here()
}

/// Publishes for as many consumers as its number says, by the rule it is told.
fn produce(stage: &Stage) {
    stage.say(describe_container());
    let rule = AccessRule::parse(&stage.hear()).unwrap();
    let producer = stage.producer("a/cam").bytes(1 << 20).access(rule).create().unwrap();
    stage.say("ready");
    producer.wait_for_consumers(stage.number as u32, SOON).unwrap();
    while stage.hear() == "publish" {
        for _ in 0..200 {
            common::publish(&producer);
        }
        stage.say("published");
    }
    producer.close();
    assert_eq!(fs::read_dir(INSIDE).unwrap().count(), 0);
}

fn consume(stage: &Stage) {
    stage.say(describe_container());
    assert!(fs::write(format!("{INSIDE}/file"), "").is_err(), "the consumer's mount is read-only");
    // Before there is a producer: it waits for the name.
    let mut consumer = stage.consumer("a/cam").wait(SOON).connect().unwrap();
    let error = loop {
        let before = consumer.stats().received;
        match consumer.receive(SOON) {
            Ok(frame) => {
                assert_eq!((common::check(&frame), frame.sequence()), (before, before));
                assert!(frame.readonly());
            }
            Err(error) => break error,
        }
        if consumer.stats().received == 200 {
            stage.say("received");
        }
    };
    assert_eq!(error, ReceiveError::Closed);
    stage.say(consumer.stats().received);
}

fn be_refused(stage: &Stage) {
    stage.say(describe_container());
    let error = stage.consumer("a/cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::AccessDenied, &["\"directory\""]);
}

/// Every namespace of every container is its own.
#[track_caller]
fn assert_apart(containers: &[&str]) {
    let here = describe_here();
    for (i, one) in containers.iter().enumerate() {
        for other in containers[i + 1..].iter().copied().chain([here.as_str()]) {
            for (a, b) in one.split(' ').zip(other.split(' ')) {
                assert_ne!(a, b, "a namespace is shared");
            }
        }
    }
}

fn describe_here() -> String {
    let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    NAMESPACES.map(|name| link(name).display().to_string()).join(" ")
}

/// What the lane runs before all else: where this fails there can be no containers.
#[test]
#[ignore = "for cargo xtask test containers"]
fn a_container_can_be_made() {
    let site = Site::new();
    for (user, bind) in [(PRODUCER, "--bind"), (CONSUMER, "--ro-bind")] {
        let output = site.container(user, bind).arg("--list").output().expect("apt-get install bubblewrap");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[ignore = "for cargo xtask test containers"]
fn frames_cross_from_container_to_container() {
    let site = Site::new();
    // The consumer first; its mount is read-only, so it can only wait.
    let mut first = site.consumer("consumes", 0);
    let first_place = first.hear();
    let mut producer = site.producer(2);
    let producer_place = producer.hear();
    producer.tell("directory");
    producer.expect("ready");
    let mut second = site.consumer("consumes", 0);
    assert_apart(&[&first_place, &producer_place, &second.hear()]);
    producer.tell("publish");
    producer.expect("published");
    for consumer in [&mut first, &mut second] {
        consumer.expect("received");
    }
    producer.tell("end");
    for mut consumer in [first, second] {
        consumer.expect("200");
        consumer.finish();
    }
    producer.finish();
}

#[test]
#[ignore = "for cargo xtask test containers"]
fn a_killed_container_costs_the_others_nothing() {
    let site = Site::new();
    let mut producer = site.producer(2);
    producer.hear();
    producer.tell("directory");
    producer.expect("ready");
    let mut killed = site.consumer("consumes", 0);
    let mut survivor = site.consumer("consumes", 0);
    killed.hear();
    survivor.hear();
    producer.tell("publish");
    producer.expect("published");
    killed.expect("received");
    survivor.expect("received");
    killed.kill();
    producer.tell("publish");
    producer.expect("published");
    // Now the producer's: what it published is received, then the end is seen, and the name is free.
    producer.kill();
    survivor.expect("400");
    survivor.finish();
    let mut next = site.producer(0);
    next.hear();
    next.tell("directory");
    next.expect("ready");
    next.tell("end");
    next.finish();
}

/// The host reaches into the same directory as well.
#[test]
#[ignore = "for cargo xtask test containers"]
fn frames_leave_a_container() {
    let site = Site::new();
    let mut producer = site.producer(1);
    producer.hear();
    producer.tell("directory");
    producer.expect("ready");
    let mut consumer = common::consumer(&site.shared, "a/cam").connect().unwrap();
    producer.tell("publish");
    for number in 0..200 {
        assert_eq!(receive(&mut consumer).sequence(), number);
    }
    producer.expect("published");
    producer.tell("end");
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    producer.finish();
}

#[test]
#[ignore = "for cargo xtask test containers"]
fn owner_means_nobody_in_another_user_namespace() {
    if !geteuid().is_root() {
        skip("only root can make containers of two users");
        return;
    }
    let site = Site::new();
    let mut producer = site.producer(0);
    producer.hear();
    producer.tell("owner");
    producer.expect("ready");
    let mut refused = site.consumer("is refused", 0);
    refused.hear();
    refused.finish();
    producer.tell("end");
    producer.finish();
}
