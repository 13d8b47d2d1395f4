//! Descriptors in messages: those a peer has no business to send, those that hold up who closes them, and the poll
//! descriptor from beginning to end.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{Ending, ErrorKind, ReceiveError, Wait};
use common::process::{Role, Stage, play};
use common::wire::{self, Fake, JOIN, REFUSED, Raw};
use common::{
    SOON, Scratch, assert_says, descriptors, eventually, publish, publish_if_possible, receive, threads,
};
use nix::poll::{PollFd, PollFlags, poll};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

const MAJOR: u16 = bips::PROTOCOL.0;
/// As many as the kernel lets a message carry.
const MOST: usize = 253;

const ROLES: &[Role] = &[("publishes one", publish_one), ("has few descriptors", connect_with_few)];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

// Too many, or none of one's business

#[test]
fn a_consumer_that_sends_descriptors_is_refused_and_leaves_none() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let before = descriptors();
    for (seated, message) in [
        (false, wire::join(None)),
        (false, wire::message(MAJOR, JOIN, &[1])),
        (true, wire::message(MAJOR, JOIN, &[])),
        (true, b"no message".to_vec()),
    ] {
        for count in [1, 250, MOST] {
            let raw = Raw::connect(scratch.path(), "cam");
            if seated {
                drop(raw.seated(None));
            }
            assert!(raw.send(&message, &vec![0; count]));
            let (reply, _) = raw.hear().expect("a refusal before the end");
            assert_eq!(wire::tag(&reply), REFUSED);
            assert!(wire::refusal(&reply).contains("no descriptors"), "{}", wire::refusal(&reply));
            assert!(raw.hear().is_none());
        }
    }
    eventually("the descriptors are closed again", || descriptors() <= before);
    publish(&producer);
    receive(&mut consumer);
}

#[test]
fn a_producer_that_sends_too_many_descriptors_is_refused_and_leaves_none() {
    let scratch = Scratch::new();
    let fake = Fake::listen(scratch.path(), "cam");
    // What is made once and stays: the at-fork handler's /dev/null.
    drop(scratch.producer("other").bytes(100).create().unwrap());
    let before = descriptors();
    for count in [1, 250, MOST] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let raw = fake.accept();
                raw.hear().expect("a request");
                raw.send(&wire::message(MAJOR, REFUSED, &[7, 0, 0, 0, 2, 0, b'n', b'o']), &vec![0; count]);
            });
            let error = scratch.consumer("cam").connect().unwrap_err();
            let text = if count == MOST { "larger than the protocol allows" } else { "no" };
            assert_says(&error, ErrorKind::Protocol, &[text]);
        });
    }
    eventually("the descriptors are closed again", || descriptors() <= before);
}

/// Connects with room for one more descriptor each time, until there is enough.
fn connect_with_few(stage: &Stage) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // What is made once and stays: the monitor, and the at-fork handler's /dev/null.
    let frame = receive(&mut stage.consumer("cam").connect().unwrap());
    drop(frame);
    let before = descriptors();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let free = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let mut refused = 0;
    for limit in free.. {
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
        let connected = stage.consumer("cam").connect();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        match connected {
            Ok(mut consumer) => {
                receive(&mut consumer);
                break;
            }
            Err(error) => assert_says(&error, ErrorKind::System, &["ulimit -n"]),
        }
        assert_eq!(descriptors(), before, "descriptors stay open when {limit} are allowed");
        refused += 1;
    }
    // Two for the directory and the socket, and four that come with the welcome.
    assert!(refused >= 5, "refused {refused} times only");
    stage.say("well");
}

#[test]
fn too_few_descriptors_are_named_as_the_cause() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).history(1).create().unwrap();
    publish(&producer);
    let mut child = play("has few descriptors", scratch.path(), 0);
    child.expect("well");
    child.finish();
}

// Descriptors that hold up who closes them

/// A socket whose last `close` takes half a minute: it lingers over bytes that nobody will read.
fn lingering() -> (TcpStream, TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (deaf, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 65536]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 30 };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    (stream, listener, deaf)
}

/// Whether a thread of ours is just closing what a peer left behind.
fn in_closing() -> bool {
    threads("bips-close") > 0
}

/// The producer's monitor thread answers everybody, so it must never be the one that closes such a thing. Were it
/// held up, nobody could join within the 2 s that a consumer in a hurry waits for an answer.
#[test]
fn what_closes_slowly_holds_nobody_up() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut bites = [0; 3];
    for (case, bites) in ["first", "seated", "seated, and gone"].iter().zip(&mut bites) {
        // Ours must be closed first, or it is not the producer that closes last.
        for _ in 0..200 {
            let (slow, listener, deaf) = lingering();
            let raw = Raw::connect(scratch.path(), "cam");
            if *case != "first" {
                drop(raw.seated(None));
            }
            assert!(raw.send(&wire::join(None), &[slow.as_raw_fd()]));
            let closed = std::thread::spawn(|| drop(slow));
            if *case == "seated, and gone" {
                drop(raw);
            }
            for _ in 0..3 {
                let mut consumer = scratch.consumer("cam").connect().unwrap();
                publish(&producer);
                receive(&mut consumer);
            }
            let bit = in_closing();
            drop((listener, deaf));
            closed.join().unwrap();
            eventually("it closes once its peer is gone", || !in_closing());
            if bit {
                *bites += 1;
                break;
            }
        }
    }
    assert_eq!(bites, [1, 1, 1], "the producer never was the one to close");
}

// The poll descriptor

fn readable(fd: RawFd) -> bool {
    // SAFETY: the consumer keeps the descriptor open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 0u16).unwrap() == 1
}

fn publish_one(stage: &Stage) {
    let producer = stage.producer("cam").bytes(100).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    publish(&producer);
    stage.say("published");
    stage.hear();
    producer.close();
    stage.say("closed");
    stage.hear();
}

/// Whoever asks for the descriptor only after the end must not wait for ever for what can't come.
#[test]
fn asked_for_after_the_end_it_is_readable() {
    for (closed, received_first) in [(true, true), (true, false), (false, true), (false, false)] {
        let scratch = Scratch::new();
        let mut child = play("publishes one", scratch.path(), 0);
        let mut consumer = scratch.consumer("cam").wait(SOON).connect().unwrap();
        child.expect("published");
        if received_first {
            receive(&mut consumer);
        }
        if closed {
            child.tell("close");
            child.expect("closed");
        } else {
            child.kill();
        }
        eventually("it ends", || consumer.ending().is_some());
        assert_eq!(consumer.ending(), Some(if closed { Ending::Closed } else { Ending::Died }));
        let fd = consumer.poll_fd().unwrap();
        for _ in 0..3 {
            // Readable for good.
            assert!(readable(fd));
            match consumer.receive(Wait::Now) {
                Ok(_) => assert!(!received_first),
                Err(error) => assert_eq!(error, ReceiveError::Closed),
            }
        }
        assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Closed);
        let text = if closed { "has ended" } else { "died" };
        assert_says(&consumer.explain(ReceiveError::Closed), ErrorKind::Closed, &[text]);
    }
}

/// The end comes at any moment around the first wish for the descriptor; it always gets there.
#[test]
fn asked_for_around_the_end_it_becomes_readable() {
    for round in 0..200_u64 {
        let scratch = Scratch::new();
        let producer = scratch.producer("cam").bytes(100).create().unwrap();
        let mut consumer = scratch.consumer("cam").connect().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(round % 50 * 4));
                drop(producer);
            });
            let fd = consumer.poll_fd().unwrap();
            eventually("the end is readable", || {
                let now = readable(fd);
                match consumer.receive(Wait::Now).unwrap_err() {
                    ReceiveError::Closed => now,
                    error => {
                        assert_eq!(error, ReceiveError::Timeout);
                        false
                    }
                }
            });
        });
    }
}

/// A descriptor costs its consumer a thread and a number, and only for as long as the consumer or a frame of it lives.
#[test]
fn it_goes_with_its_consumer() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).create().unwrap();
    let mut other = scratch.consumer("cam").connect().unwrap();
    let before = descriptors();
    for round in 0..100 {
        let mut consumer = scratch.consumer("cam").connect().unwrap();
        let fd = consumer.poll_fd().unwrap();
        assert_eq!(consumer.poll_fd().unwrap(), fd);
        eventually("its thread sleeps", || threads("bips-poll") > 0);
        publish(&producer);
        eventually("it is readable", || readable(fd));
        let frame = receive(&mut consumer);
        drop(consumer);
        if round % 2 == 0 {
            receive(&mut other);
        }
        drop(frame);
        if round % 2 == 1 {
            receive(&mut other);
        }
        eventually("its thread ends", || threads("bips-poll") == 0);
    }
    eventually("its descriptors are closed", || descriptors() <= before);
}

/// Put out by the producer, it is readable for good, as at any other end.
#[test]
fn it_tells_of_an_expulsion() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").bytes(100).slots(4).max_held(1).create().unwrap();
    let mut consumer = scratch.consumer("cam").connect().unwrap();
    let fd = consumer.poll_fd().unwrap();
    assert_eq!(consumer.receive(Wait::Now).unwrap_err(), ReceiveError::Timeout);
    // Somebody with the consumer's own rights makes its seat say nonsense.
    let seat = std::fs::read_dir("/proc/self/map_files").unwrap().flatten();
    let seats: Vec<_> = seat
        .filter(|file| {
            std::fs::read_link(file.path()).is_ok_and(|name| name.to_string_lossy().contains("bips:seat"))
        })
        .collect();
    assert!(!seats.is_empty(), "no seat is mapped");
    for seat in seats {
        let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open(seat.path()) else {
            return common::skip::skip("only root can open what it has mapped");
        };
        wire::Scribble::over(&file.into()).words()[wire::seat::HELD]
            .store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    }
    for _ in 0..8 {
        publish_if_possible(&producer);
    }
    eventually("it is over", || consumer.ending() == Some(Ending::Died));
    eventually("it is readable", || readable(fd));
}
