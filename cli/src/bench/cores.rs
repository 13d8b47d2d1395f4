//! Which cores measure, and how a process is pinned to one.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::exit::{Failure, Outcome};

/// The core of this process and the core of its peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cores(pub(super) usize, pub(super) usize);

pub(super) fn parse(text: &str) -> Result<Cores, String> {
    let wrong = || "write two different core numbers, such as 0,1".to_owned();
    let (a, b) = text.split_once(',').ok_or_else(wrong)?;
    match (a.parse(), b.parse()) {
        (Ok(a), Ok(b)) if a != b => Ok(Cores(a, b)),
        _ => Err(wrong()),
    }
}

impl Cores {
    /// The first two allowed cores that are not two threads of one core.
    pub(super) fn choose(wish: Option<Self>) -> Outcome<Self> {
        if let Some(cores) = wish {
            return Ok(cores);
        }
        let allowed = sched_getaffinity(Pid::from_raw(0))
            .map_err(|errno| Failure::system("ask for the allowed cores", errno))?;
        let allowed: Vec<usize> =
            (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
        let pair = allowed.split_first().and_then(|(first, others)| {
            let other = others.iter().find(|other| siblings(other) != siblings(first)).or(others.first())?;
            Some(Self(*first, *other))
        });
        pair.ok_or_else(|| {
            Failure::failed(
                "this process may use one core only; the measurement needs two (taskset, cpuset, --cpus)",
            )
        })
    }
}

/// The hardware threads of this core as the kernel writes them; two threads of one core have the same list.
fn siblings(core: &usize) -> String {
    std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"))
        // Where the kernel says nothing, every core counts as one of its own.
        .unwrap_or_else(|_| core.to_string())
}

pub(super) fn pin(core: usize) -> Outcome {
    let mut set = CpuSet::new();
    set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).map_err(|errno| {
        Failure::failed(format!("can't run on core {core}: {errno}; choose others with --cores A,B"))
    })
}
