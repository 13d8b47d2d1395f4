//! Descriptors that a producer passes off as what they are not.

use crate::common::Over;
use crate::common::process::{Role, Stage};
use crate::common::skip::skip;
use crate::producers::{Liar, alone, numbers};
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Each in a process of its own, where what is open can be counted.
pub(crate) const ROLES: [Role; 3] = [
    ("is offered descriptors of the wrong kind", wrong_kinds),
    ("is offered too few and too many", wrong_numbers),
    ("is offered memory that shrinks", shrinking),
];

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

const PAGE: i64 = 4096;
/// Board, seat, bell, pool: how long each is for a stream of two slots of a page.
const LENGTHS: [i64; 4] = [40_960, PAGE, PAGE, 2 * PAGE];
const NAMES: [&str; 4] = ["board", "seat", "bell", "pool"];

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
        let many = vec![fds[3].as_raw_fd(); 150];
        assert!(raw.send(&welcome, &many));
        raw.send(&welcome, &many); // it may have hung up by now
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
            let _over = Over(&over);
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
