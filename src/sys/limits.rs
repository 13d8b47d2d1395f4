//! Asking for memory without being killed for it.
//!
//! Under a memory control group an allocation beyond the limit does not fail: the kernel kills. So first the
//! numbers are compared; then a child that volunteers to be the one killed tries the allocation.

use crate::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Segments smaller than this are made without asking: control memory, which joins the path of an attach.
const SMALL: u64 = 1 << 20;

/// The part of a machine's memory that is not taken for what can't be swapped out: with the last of it gone the kernel
/// kills, be there swap or not, and not always whoever took it.
const RESERVE: u64 = 32;

/// Refuses a size that the machine or the control group can't give, by arithmetic. For whoever allocates what can't be
/// swapped out, where the kernel would kill for too much instead of refusing it.
///
/// # Errors
/// `OutOfMemory`, saying what there is.
pub fn check_unswappable(len: u64) -> Result<()> {
    check_uncharged(len)?;
    check_group(len)
}

/// The same for what no control group is charged with: pages that a driver takes for itself.
///
/// # Errors
/// `OutOfMemory`, saying what there is.
pub fn check_uncharged(len: u64) -> Result<()> {
    check_machine(len, |machine| {
        let room = machine.unswappable();
        (room, format!("this machine has {} MiB for what can't be swapped out", room >> 20))
    })
}

/// The same for memory that can be swapped out.
pub(super) fn check(len: u64) -> Result<()> {
    check_machine(len, |machine| {
        let room = machine.available.saturating_add(machine.swap);
        (room, format!("this machine has {} MiB available", room >> 20))
    })?;
    check_group(len)
}

fn check_machine(len: u64, room: impl Fn(&Machine) -> (u64, String)) -> Result<()> {
    if len < SMALL {
        return Ok(());
    }
    match machine().as_ref().map(room) {
        Some((room, why)) if len > room => Err(too_large(len, &why)),
        _ => Ok(()),
    }
}

fn check_group(len: u64) -> Result<()> {
    if len < SMALL {
        return Ok(());
    }
    if let Some(group) = tightest_group()
        && len > group.available()
    {
        return Err(too_large(
            len,
            &format!(
                "the memory control group {} allows {} MiB, of which {} MiB are in use",
                group.path.display(),
                group.limit >> 20,
                group.used >> 20
            ),
        ));
    }
    Ok(())
}

/// Lets a child try the allocation where a control group might kill for it. The memory it gets stays with the
/// file; a child that was killed leaves none behind.
pub(super) fn rehearse(fd: &OwnedFd, len: u64) -> Result<()> {
    if len < SMALL || tightest_group().is_none() {
        return Ok(());
    }
    match allocate_in_child(fd.as_raw_fd(), len) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, _)) => Ok(()), // a plain failure repeats in the caller, with its errno
        Ok(_) => Err(too_large(len, "a trial allocation was killed by the memory control group")),
        Err(errno) => {
            tracing::debug!(%errno, "no trial allocation");
            Ok(())
        }
    }
}

pub(super) fn too_large(len: u64, why: &str) -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!(
            "{} MiB of buffers were asked for but {why}; use fewer slots or smaller frames, or give the process more \
             memory",
            len.div_ceil(1 << 20)
        ),
    )
}

/// What a machine has, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) total: u64,
    pub(crate) available: u64,
    pub(crate) swap: u64,
}

impl Machine {
    fn unswappable(&self) -> u64 {
        self.available.saturating_sub(self.total / RESERVE)
    }
}

fn machine() -> Option<Machine> {
    machine_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// What this `/proc/meminfo` says.
pub(crate) fn machine_in(meminfo: &str) -> Option<Machine> {
    let bytes = |key: &str| -> Option<u64> {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = value.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib.saturating_mul(1024)) // a container's files can come from a program (LXCFS), which may say anything
    };
    let available = bytes("MemAvailable:")?;
    let total = bytes("MemTotal:").unwrap_or(available);
    Some(Machine { total, available, swap: bytes("SwapFree:").unwrap_or(0) })
}

struct Group {
    path: PathBuf,
    limit: u64,
    used: u64,
}

impl Group {
    fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// The group at `path`, if it has a limit. Page cache that can be dropped doesn't count as used.
    fn read(path: &Path) -> Option<Self> {
        let number =
            |name: &str| -> Option<u64> { fs::read_to_string(path.join(name)).ok()?.trim().parse().ok() };
        let (limit, used) = match number("memory.max") {
            Some(limit) => (limit, number("memory.current")?), // "max" is no number: no limit
            None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?),
        };
        let stat = fs::read_to_string(path.join("memory.stat")).unwrap_or_default();
        let used = used.saturating_sub(droppable_in(&stat));
        // cgroup v1 spells "no limit" as a number of pages near 2^63.
        (limit < 1 << 60).then(|| Self { path: path.into(), limit, used })
    }
}

/// The page cache that this `memory.stat` says can be dropped, in bytes.
pub(crate) fn droppable_in(stat: &str) -> u64 {
    ["total_inactive_file ", "inactive_file "]
        .iter()
        .find_map(|key| stat.lines().find_map(|line| line.strip_prefix(key)))
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

/// The groups of this `/proc/self/cgroup` that limit memory: where their hierarchy is mounted, and the path below it.
pub(crate) fn memory_groups(membership: &str) -> impl Iterator<Item = (&'static Path, &Path)> {
    membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|controller| controller == "memory") => "/sys/fs/cgroup/memory",
            _ => return None,
        };
        Some((Path::new(root), Path::new(path.trim_start_matches('/'))))
    })
}

/// Of the groups this process is in, and their parents, the one with the least room.
fn tightest_group() -> Option<Group> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut tightest: Option<Group> = None;
    for (root, path) in memory_groups(&membership) {
        // In a container the path may be the host's; then only the root of the mount is ours to read.
        for ancestor in path.ancestors() {
            let Some(group) = Group::read(&root.join(ancestor)) else {
                continue;
            };
            if tightest.as_ref().is_none_or(|best| group.available() < best.available()) {
                tightest = Some(group);
            }
        }
    }
    tightest
}

/// `fallocate` in a child made by a real fork, marked as the kernel's first choice to kill.
fn allocate_in_child(fd: RawFd, len: u64) -> nix::Result<WaitStatus> {
    let len = libc::off_t::try_from(len).map_err(|_| Errno::EOVERFLOW)?;
    let parent = getpid();
    // Until the child is gone from here: a handler of the program's own must not run in it, where it would write
    // to the parent's descriptors.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // The bare system call: no at-fork handlers, which may take locks. No exit signal either, so that the
    // program's own SIGCHLD handling never sees this child.
    // SAFETY: without CLONE_VM the child has its own copy of memory; below it makes only async-signal-safe calls.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if child == 0 {
        volunteer(fd, len, parent);
    }
    let failed = Errno::last();
    before.thread_set_mask()?;
    let pid = match i32::try_from(child) {
        Ok(pid) if pid > 0 => Pid::from_raw(pid),
        _ => return Err(failed),
    };
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            status => return status,
        }
    }
}

/// The child's part; does not return. Async-signal-safe calls only.
fn volunteer(fd: RawFd, len: libc::off_t, parent: Pid) -> ! {
    // Whoever waits for the parent's death, or for its name, must not wait for this child: it goes with the
    // parent, and keeps none of its locks and sockets. Where a filter forbids that, the trial matters more.
    let _ = set_pdeathsig(Signal::SIGKILL);
    if !is_child_of(parent) {
        exit(1);
    }
    keep_only(fd);
    // SAFETY: a constant path.
    let score = unsafe { libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY) };
    if score >= 0 {
        // SAFETY: four bytes of a constant.
        unsafe { libc::write(score, c"1000".as_ptr().cast(), 4) };
    }
    // In one call, unlike the parent: when this child is killed the kernel takes back all that the call had got.
    // All signals are blocked, so only being stopped can interrupt it otherwise.
    loop {
        // SAFETY: allocates file blocks; touches no memory of this process.
        let failed = unsafe { libc::fallocate(fd, 0, 0, len) } != 0;
        if !(failed && Errno::last() == Errno::EINTR) {
            exit(failed.into());
        }
    }
}

/// Whether the parent was still there when its death began to be watched. In a pid namespace of the child's own
/// the parent has no number and shows as 0.
fn is_child_of(parent: Pid) -> bool {
    let now = getppid();
    now == parent || now.as_raw() == 0
}

/// Closes every other descriptor. Kernels before 5.9 can't; there the child keeps them for its short life.
fn keep_only(fd: RawFd) {
    let fd = fd.cast_unsigned();
    for (first, last) in [(0, fd.checked_sub(1)), (fd + 1, Some(u32::MAX))] {
        if let Some(last) = last {
            // SAFETY: the child's table is its own (no CLONE_FILES), and nothing in it uses these any more.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

fn exit(status: i32) -> ! {
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_kinds_of_control_groups() {
        let dir = std::env::temp_dir().join(format!("bips-limits-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(name), text).unwrap();
        };
        write("memory.max", "1048576\n");
        write("memory.current", "524288\n");
        write("memory.stat", "anon 1\ninactive_file 4096\n");
        let group = Group::read(&dir).unwrap();
        assert_eq!(group.available(), 1_048_576 - 524_288 + 4096);
        write("memory.max", "max\n");
        assert!(Group::read(&dir).is_none());
        fs::remove_file(dir.join("memory.max")).unwrap();
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.usage_in_bytes", "1\n");
        assert!(Group::read(&dir).is_none());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn more_than_there_can_be_does_not_wrap() {
        let meminfo =
            |available: u64| format!("MemTotal: 9 kB\nMemAvailable:  {available} kB\nSwapFree: 2 kB\n");
        let machine = |available| Some(Machine { total: 9 << 10, available, swap: 2 << 10 });
        assert_eq!(machine_in(&meminfo(6)), machine(6 << 10));
        assert_eq!(machine_in(&meminfo(1 << 54)), machine(u64::MAX));
        assert_eq!(machine_in(&meminfo(u64::MAX)), machine(u64::MAX));
        assert_eq!(machine_in("MemTotal: 9 kB\n"), None);
    }

    /// Only for what can be swapped out does swap count.
    #[test]
    fn swap_is_no_room_for_what_stays() {
        let Some(now) = machine() else { panic!("no /proc/meminfo") };
        let refusal = check_unswappable(now.available + (1 << 30)).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::OutOfMemory);
        assert!(refusal.to_string().contains("can't be swapped out"), "{refusal}");
        let small = Machine { total: 512 << 20, available: 300 << 20, swap: 4 << 30 };
        assert_eq!(small.unswappable(), 284 << 20);
        check(SMALL).unwrap();
        check_unswappable(SMALL).unwrap();
    }

    #[test]
    fn groups_of_either_version_are_found() {
        let found: Vec<_> = memory_groups("4:cpu,memory:/a\n1:cpu:/b\n0::/c/d\nnonsense\n").collect();
        let expected = [("/sys/fs/cgroup/memory", "a"), ("/sys/fs/cgroup", "c/d")];
        assert_eq!(found, expected.map(|(root, path)| (Path::new(root), Path::new(path))));
    }

    #[test]
    fn the_volunteer_allocates_and_is_gone() {
        let file = nix::sys::memfd::memfd_create(c"t", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, 1 << 20).unwrap();
        let before = SigSet::thread_get_mask().unwrap();
        let status = allocate_in_child(file.as_raw_fd(), 1 << 20).unwrap();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        assert_eq!(nix::sys::stat::fstat(&file).unwrap().st_blocks, (1 << 20) / 512);
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    /// It holds none of the parent's descriptors, or a pipe would stay open for as long as it lives.
    #[test]
    fn the_volunteer_keeps_nothing_else() {
        let (kept, closed) = (file_number(), file_number());
        // SAFETY: the child makes async-signal-safe calls only and ends.
        let child = unsafe { nix::unistd::fork() }.unwrap();
        if child.is_child() {
            keep_only(kept.as_raw_fd());
            // SAFETY: asks about a number.
            let open = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            exit((!open(kept.as_raw_fd()) || open(closed.as_raw_fd()) || open(0)).into());
        }
        let nix::unistd::ForkResult::Parent { child } = child else { unreachable!() };
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    }

    fn file_number() -> fs::File {
        fs::File::open("/dev/null").unwrap()
    }
}
