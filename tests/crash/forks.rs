//! Children of those who die, which have inherited all they had.

use crate::common::process::{Role, Stage, play};
use crate::common::skip::skip;
use crate::common::{SOON, Scratch, publish, receive};
use bips::ReceiveError;
use std::os::fd::AsRawFd;

pub(crate) const ROLES: [Role; 3] = [
    ("produces and forks", produce_and_fork),
    ("consumes and forks", consume_and_fork),
    ("consumes and clones", consume_and_clone),
];

/// A forked child that lives on inherits everything but its parent's life.
#[test]
fn a_fork_does_not_hide_a_producers_death() {
    let scratch = Scratch::new();
    let mut child = play("produces and forks", scratch.path(), 0);
    let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
    let orphan = Orphan(child.hear().parse().unwrap());
    child.kill();
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    drop(scratch.producer("cam").bytes(100).create().unwrap());
    assert!(orphan.lives());
}

#[test]
fn a_fork_does_not_hide_a_consumers_death() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let mut child = play("consumes and forks", scratch.path(), 0);
    producer.wait_for_consumers(1, SOON).unwrap();
    publish(&producer);
    let orphan = Orphan(child.hear().parse().unwrap());
    child.kill();
    assert_eq!(publish(&producer), 1);
    assert!(orphan.lives());
}

fn produce_and_fork(stage: &Stage) {
    let producer = stage.producer("cam").bytes(100).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    leave_an_orphan(stage);
}

fn consume_and_fork(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    consumer.poll_fd().unwrap();
    let _frame = receive(&mut consumer);
    leave_an_orphan(stage);
}

/// One that was made behind the C library's back keeps its parent's end of the connection open.
#[test]
fn a_child_made_without_fork_does_not_hide_a_consumers_death() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(1).create().unwrap();
    let mut child = play("consumes and clones", scratch.path(), 0);
    producer.wait_for_consumers(1, SOON).unwrap();
    publish(&producer);
    let orphan = Orphan(child.hear().parse().unwrap());
    if !names_processes() {
        return skip("this kernel has no SO_PEERPIDFD (Linux 6.5)");
    }
    child.kill();
    assert_eq!(publish(&producer), 1);
    assert!(orphan.lives());
}

/// Whether a socket says which process made its other end, in a way that lasts.
fn names_processes() -> bool {
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut fd: i32 = -1;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option is an int; `fd` and `len` say where it goes and how long that is. The descriptor leaks.
    0 == unsafe {
        let at = (&raw mut fd).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERPIDFD, at, &raw mut len)
    }
}

fn consume_and_clone(stage: &Stage) {
    let mut consumer = stage.consumer("cam").connect().unwrap();
    let _frame = receive(&mut consumer);
    // SAFETY: as fork, without the handlers; the child makes system calls only.
    match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
        0 => linger(),
        orphan => stage.say(orphan),
    }
    stage.hear();
}

/// What a child does that makes system calls only.
fn linger() -> ! {
    // SAFETY: a plain number; ends the orphan should nobody else.
    unsafe { libc::alarm(120) };
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

fn leave_an_orphan(stage: &Stage) {
    // SAFETY: the child makes only async-signal-safe calls.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => linger(),
        nix::unistd::ForkResult::Parent { child } => stage.say(child),
    }
    stage.hear();
}

/// A grandchild, ended by its pid.
struct Orphan(i32);

impl Orphan {
    fn lives(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.0)).is_ok_and(|stat| !stat.contains(") Z"))
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), nix::sys::signal::SIGKILL);
    }
}
