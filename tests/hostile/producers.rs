//! Producers that lie when they are asked for a seat. A consumer refuses, or joins and can leave; nothing stays open.

use crate::common::process::{Role, Stage, play};
use crate::common::skip::skip;
use crate::common::wire::{Fake, Noise, REFUSED, Raw};
use crate::common::{Belongings, Scratch, eventually, publish, receive};
use bips::{Consumer, Error, ErrorKind, Producer, Wait};
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Each in a process of its own, where what is open can be counted.
pub(crate) const ROLES: [Role; 6] = [
    ("is offered descriptors of the wrong kind", wrong_kinds),
    ("is offered too few and too many", wrong_numbers),
    ("is offered memory that shrinks", shrinking),
    ("is offered other versions and lengths", wrong_messages),
    ("is offered each byte changed", each_byte),
    ("is offered damage", damaged),
];

/// Plays a role to its end, and shows what it says.
pub(crate) fn alone(role: &str) {
    let scratch = Scratch::new();
    let mut child = play(role, scratch.path(), 0);
    loop {
        match child.hear() {
            said if said == "over" => break,
            said => println!("{role}: {said}"),
        }
    }
    child.finish();
}

#[test]
fn descriptors_of_the_wrong_kind() {
    alone("is offered descriptors of the wrong kind");
}

#[test]
fn too_few_and_too_many_descriptors() {
    alone("is offered too few and too many");
}

#[test]
fn memory_that_shrinks_while_it_is_looked_at() {
    alone("is offered memory that shrinks");
}

#[test]
fn other_versions_and_lengths() {
    alone("is offered other versions and lengths");
}

#[test]
fn a_welcome_with_each_byte_changed() {
    alone("is offered each byte changed");
}

#[test]
fn damaged_welcomes_crash_nobody() {
    alone("is offered damage");
}

const PAGE: i64 = 4096;
/// Board, seat, bell, pool: how long each is for a stream of two slots of a page.
const LENGTHS: [i64; 4] = [40_960, PAGE, PAGE, 2 * PAGE];
const NAMES: [&str; 4] = ["board", "seat", "bell", "pool"];

/// A name at which lies are told, and a true producer of which they are made.
pub(crate) struct Liar<'a> {
    stage: &'a Stage,
    truth: Producer,
    fake: Fake,
    before: Belongings,
}

/// The liar's ends of the connection to its victim, and of that to the true producer.
type Ends = (Raw, Raw);

impl<'a> Liar<'a> {
    pub(crate) fn new(stage: &'a Stage) -> Self {
        let truth = stage.producer("true").bytes(100).slots(2).create().unwrap();
        // Its board has a description then.
        publish(&truth);
        // What is made once and stays.
        drop(stage.consumer("true").connect().unwrap());
        eventually("it has left", || truth.stats().unwrap().consumers.is_empty());
        let fake = Fake::listen(&stage.directory, "false");
        Self { stage, truth, fake, before: Belongings::now() }
    }

    /// What comes of joining, where the true producer's answer is made into a lie.
    pub(crate) fn offer(
        &self,
        policy: bips::Policy,
        lie: impl FnOnce(&Raw, Vec<u8>, Vec<OwnedFd>) + Send,
    ) -> (Result<Consumer, Error>, Ends) {
        std::thread::scope(|scope| {
            let liar = scope.spawn(|| {
                let raw = self.fake.accept();
                let (request, _) = raw.hear().expect("a request");
                let behind = Raw::connect(&self.stage.directory, "true");
                assert!(behind.send(&request, &[]));
                let (welcome, fds) = behind.hear().expect("a welcome");
                assert_eq!(fds.len(), 4, "board, seat, bell, pool");
                lie(&raw, welcome, fds);
                (raw, behind)
            });
            let joined = self.stage.consumer("false").policy(policy).connect();
            (joined, liar.join().expect("the liar is well"))
        })
    }

    /// Must be refused, as a breach of the protocol.
    #[track_caller]
    fn refused(&self, what: &str, lie: impl FnOnce(&Raw, Vec<u8>, Vec<OwnedFd>) + Send) -> String {
        let (joined, _ends) = self.offer(bips::Policy::Reliable, lie);
        let Err(error) = joined else { panic!("{what} was accepted") };
        assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error}");
        error.to_string()
    }

    /// Must be accepted, and good for a frame.
    #[track_caller]
    fn accepted(&self, what: &str, lie: impl FnOnce(&Raw, Vec<u8>, Vec<OwnedFd>) + Send) {
        let (joined, _ends) = self.offer(bips::Policy::Reliable, lie);
        let mut consumer = joined.unwrap_or_else(|error| panic!("{what}: {error}"));
        publish(&self.truth);
        drop(receive(&mut consumer));
    }

    /// When all are gone nothing is left of them, and the true producer serves on.
    pub(crate) fn over(self) {
        eventually("nobody is seated", || self.truth.stats().unwrap().consumers.is_empty());
        eventually("all is closed and unmapped", || Belongings::now() <= self.before);
        let mut consumer = self.stage.consumer("true").connect().unwrap();
        publish(&self.truth);
        drop(receive(&mut consumer));
        self.stage.say("over");
    }
}

pub(crate) fn numbers(fds: &[OwnedFd]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

// Descriptors

/// As a producer would make it, but for what is said.
fn memfd(len: i64, backed: bool, seals: SealFlag) -> OwnedFd {
    let fd = memfd_create(c"forged", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&fd, len).unwrap();
    if backed && len > 0 {
        fallocate(&fd, FallocateFlags::empty(), 0, len).unwrap();
    }
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    fd
}

pub(crate) fn future_write() -> SealFlag {
    SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE)
}

/// Everything that could be passed off as this segment.
fn impostors(directory: &Path, which: usize) -> Vec<(&'static str, OwnedFd)> {
    let len = LENGTHS[which];
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(directory.join("file"));
    let file = file.unwrap();
    file.set_len(len as u64).unwrap();
    let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
    let (pipe_out, pipe_in) = nix::unistd::pipe().unwrap();
    let (socket, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let event = nix::sys::eventfd::EventFd::new().unwrap();
    let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty()).unwrap();
    let whole = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let sealed = whole | SealFlag::F_SEAL_SEAL | future_write();
    let good = memfd(len, true, sealed);
    let path = format!("/proc/self/fd/{}", good.as_raw_fd());
    let only_a_path = nix::fcntl::open(path.as_str(), OFlag::O_PATH, Mode::empty()).unwrap();
    let mut all = vec![
        ("a file", file.into()),
        ("a device", open("/dev/null")),
        ("zeros without end", open("/dev/zero")),
        ("a file of procfs", open("/proc/self/maps")),
        ("a directory", open("/")),
        ("a pipe to read", pipe_out),
        ("a pipe to write", pipe_in),
        ("a socket", socket.into()),
        ("an eventfd", event.into()),
        ("an epoll", epoll.0),
        ("a path", only_a_path),
        ("a memfd without seals", memfd(len, true, SealFlag::empty())),
        ("a memfd that can shrink", memfd(len, true, SealFlag::F_SEAL_GROW | future_write())),
        ("a memfd that can grow", memfd(len, true, SealFlag::F_SEAL_SHRINK | future_write())),
        ("an empty memfd", memfd(0, false, sealed)),
        ("a memfd a page too short", memfd(len - PAGE, true, sealed)),
        ("a memfd a byte too short", memfd(len - 1, true, sealed)),
        ("a memfd a page too long", memfd(len + PAGE, true, sealed)),
    ];
    if which == 0 || which == 3 {
        all.push(("a memfd others may write to", memfd(len, true, whole)));
        all.push(("a memfd of one hole", memfd(len, false, sealed)));
        let half = memfd(len, false, SealFlag::empty());
        fallocate(&half, FallocateFlags::empty(), 0, len - PAGE).unwrap();
        fcntl(&half, FcntlArg::F_ADD_SEALS(sealed)).unwrap();
        all.push(("a memfd with a hole", half));
    }
    let huge = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB;
    match memfd_create(c"huge", huge) {
        Ok(fd) => {
            nix::unistd::ftruncate(&fd, 2 << 20).unwrap();
            fcntl(&fd, FcntlArg::F_ADD_SEALS(whole)).unwrap();
            all.push(("a memfd of huge pages", fd));
        }
        Err(errno) => skip(format!("this kernel makes no memfd of huge pages: {errno}")),
    }
    all
}

fn wrong_kinds(stage: &Stage) {
    let liar = Liar::new(stage);
    let mut refused = 0;
    for (which, name) in NAMES.iter().enumerate() {
        for (what, impostor) in impostors(&stage.directory, which) {
            let what = format!("{what} for the {name}");
            liar.refused(&what, |raw, welcome, fds| {
                let mut fds = numbers(&fds);
                fds[which] = impostor.as_raw_fd();
                raw.send(&welcome, &fds);
            });
            refused += 1;
        }
        liar.refused(&format!("the {name} for everything"), |raw, welcome, fds| {
            raw.send(&welcome, &[fds[which].as_raw_fd(); 4]);
        });
    }
    // Any other order. Seat and bell look alike.
    for order in [[1, 0, 2, 3], [3, 1, 2, 0], [0, 3, 2, 1], [0, 1, 3, 2], [2, 1, 0, 3]] {
        liar.refused("another order", |raw, welcome, fds| {
            let fds = numbers(&fds);
            raw.send(&welcome, &order.map(|at: usize| fds[at]));
        });
    }
    // The true ones, opened again without the right to write.
    let (joined, _) = liar.offer(bips::Policy::Reliable, |raw, welcome, fds| {
        let again: Vec<OwnedFd> = fds
            .iter()
            .map(|fd| File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().into())
            .collect();
        raw.send(&welcome, &numbers(&again));
    });
    assert!(joined.is_err(), "a seat that can't be written to");
    stage.say(format!("{refused} impostors refused"));
    liar.over();
}

fn wrong_numbers(stage: &Stage) {
    let liar = Liar::new(stage);
    for count in [0, 1, 2, 3, 5, 6, 100, 250, 253] {
        liar.refused(&format!("{count} descriptors"), |raw, welcome, fds| {
            let all: Vec<_> = numbers(&fds).into_iter().cycle().take(count).collect();
            assert!(raw.send(&welcome, &all));
        });
    }
    // The rest of 300 in further messages, that nobody asked for.
    liar.accepted("more messages with descriptors", |raw, welcome, fds| {
        let fds = numbers(&fds);
        assert!(raw.send(&welcome, &fds));
        for _ in 0..2 {
            assert!(raw.send(b"more", &fds.repeat(37)));
        }
        assert!(raw.send(&welcome, &fds));
    });
    liar.refused("300 in two messages", |raw, welcome, fds| {
        for _ in 0..2 {
            assert!(raw.send(&welcome, &vec![fds[3].as_raw_fd(); 150]));
        }
    });
    liar.over();
}

/// A file that can be cut short is refused for that alone, so there is no moment at which cutting it would matter.
fn shrinking(stage: &Stage) {
    let liar = Liar::new(stage);
    for (which, name) in NAMES.iter().enumerate() {
        let len = LENGTHS[which];
        let memory = memfd(len, true, SealFlag::empty());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _over = crate::common::Over(&over);
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    nix::unistd::ftruncate(&memory, 0).unwrap();
                    nix::unistd::ftruncate(&memory, len).unwrap();
                }
            });
            for _ in 0..50 {
                let text = liar.refused(&format!("a {name} that comes and goes"), |raw, welcome, fds| {
                    let mut fds = numbers(&fds);
                    fds[which] = memory.as_raw_fd();
                    raw.send(&welcome, &fds);
                });
                assert!(text.contains("could shrink"), "{text}");
            }
        });
    }
    liar.over();
}

// Messages

fn wrong_messages(stage: &Stage) {
    let liar = Liar::new(stage);
    let major = bips::PROTOCOL.0;
    for other in [0, major - 1, major + 1, 256, u16::MAX] {
        let text = liar.refused(&format!("major version {other}"), |raw, mut welcome, fds| {
            welcome[4..6].copy_from_slice(&other.to_le_bytes());
            raw.send(&welcome, &numbers(&fds));
        });
        assert!(text.contains("update the older"), "{text}");
    }
    for minor in [1, 2, 255, u16::MAX] {
        liar.accepted(&format!("minor version {minor}"), |raw, mut welcome, fds| {
            welcome[6..8].copy_from_slice(&minor.to_le_bytes());
            welcome.extend([7; 100]);
            raw.send(&welcome, &numbers(&fds));
        });
    }
    for (len, good) in [(16 << 10, true), ((16 << 10) + 1, false), (100_000, false)] {
        let lie = |raw: &Raw, mut welcome: Vec<u8>, fds: Vec<OwnedFd>| {
            welcome.resize(len, 0);
            assert!(raw.send(&welcome, &numbers(&fds)));
        };
        if good {
            liar.accepted("as long as it may be", lie);
        } else {
            liar.refused("too long", lie);
        }
    }
    let mut shorter = 1;
    let mut whole = usize::MAX;
    while shorter < whole {
        liar.refused(&format!("the first {shorter} bytes"), |raw, welcome, fds| {
            whole = welcome.len();
            raw.send(&welcome[..shorter], &numbers(&fds));
        });
        shorter += 1;
    }
    liar.accepted("garbage afterwards", |raw, welcome, fds| {
        raw.send(&welcome, &numbers(&fds));
        for len in 1..50 {
            raw.send(&Noise(len as u64).bytes(len * 10), &[]);
        }
    });
    let (joined, _) = liar.offer(bips::Policy::Reliable, |raw, _, fds| {
        raw.send(&[], &numbers(&fds));
    });
    assert!(joined.is_err(), "nothing, with descriptors");
    stage.say(format!("{} halves refused", shorter - 1));
    liar.over();
}

/// What became of offers, by kind of error.
#[derive(Default)]
struct Tally {
    joined: u32,
    refused: BTreeMap<&'static str, u32>,
}

impl Tally {
    fn count(&mut self, joined: Result<Consumer, Error>) {
        match joined {
            Ok(mut consumer) => {
                self.joined += 1;
                // Whatever it says; that it says something is what matters.
                let _ = consumer.receive(Wait::Now);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                *self.refused.entry(error.kind().name()).or_default() += 1;
            }
        }
    }

    fn say(&self, stage: &Stage) {
        stage.say(format!("{} joined, refused: {:?}", self.joined, self.refused));
    }
}

fn each_byte(stage: &Stage) {
    let liar = Liar::new(stage);
    let mut tally = Tally::default();
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    let (mut at, mut len) = (0, 1);
    while at < len {
        for change in [1 << noise.below(8), noise.below(255) as u8 + 1] {
            let (joined, _ends) = liar.offer(bips::Policy::KeepLast(2), |raw, mut welcome, fds| {
                len = welcome.len();
                welcome[at] ^= change;
                raw.send(&welcome, &numbers(&fds));
            });
            tally.count(joined);
        }
        at += 1;
        if at % 200 == 0 {
            stage.say(format!("at byte {at}"));
        }
    }
    tally.say(stage);
    // Most bytes are of dimensions and metadata that a plain stream does not have: those are ignored.
    let refused: u32 = tally.refused.values().sum();
    assert!(refused > 150 && tally.joined > 500, "hardly what each byte should come to");
    liar.over();
}

/// Several faults at once, in the message and in what comes with it.
fn damaged(stage: &Stage) {
    let liar = Liar::new(stage);
    let null = File::open("/dev/null").unwrap();
    let mut noise = Noise(0x5eed_1234_9876_abcd);
    let mut tally = Tally::default();
    for round in 0..600 {
        let (joined, _ends) = liar.offer(bips::Policy::Reliable, |raw, mut reply, fds| {
            let mut fds = numbers(&fds);
            match round % 6 {
                0 => reply.truncate(noise.below(reply.len() as u64) as usize + 1),
                1 => fds.truncate(noise.below(4) as usize),
                2 => fds.rotate_left(noise.below(4) as usize),
                3 => fds[noise.below(4) as usize] = null.as_raw_fd(),
                4 => {
                    // Garbage altogether, or behind a head that is right.
                    let keep = if noise.one_in(2) { 0 } else { 12 };
                    let len = noise.below(700) as usize;
                    reply.truncate(keep);
                    reply.extend(noise.bytes(len));
                    if noise.one_in(4) && keep == 12 {
                        reply[8..10].copy_from_slice(&REFUSED.to_le_bytes());
                    }
                }
                _ => {}
            }
            if round % 2 == 0 {
                for _ in 0..=round % 4 {
                    if !reply.is_empty() {
                        let at = noise.below(reply.len() as u64) as usize;
                        reply[at] = noise.word() as u8;
                    }
                }
            }
            raw.send(&reply, &fds);
        });
        tally.count(joined);
    }
    tally.say(stage);
    assert!(tally.refused.values().sum::<u32>() > 300);
    liar.over();
}
