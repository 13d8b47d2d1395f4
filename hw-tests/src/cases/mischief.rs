//! What a broken driver would do, for the tests of this program alone.

use bips_conformance::{Case, Subject};
use nix::sys::signal::{Signal, raise};
use std::time::Duration;

/// `cases` and `memory` have them in the list; `kinds` and `probe` are where the inventory dies.
const ASKED_FOR: &str = "BIPS_HW_MISCHIEF";

pub(crate) fn cases() -> &'static [Case] {
    const CASES: &[Case] = &[
        Case { name: "mischief_panics", run: |_| panic!("what was read is not what was written") },
        Case { name: "mischief_segfaults", run: |_| end_by(Signal::SIGSEGV) },
        Case { name: "mischief_is_killed", run: |_| end_by(Signal::SIGKILL) },
        Case { name: "mischief_hangs", run: hangs },
        Case { name: "mischief_skips", run: |_| crate::common::skip::skip("there is no second display") },
        Case { name: "mischief_passes", run: tells_who_is_killed_first },
    ];
    // Apart: only for who has set a limit.
    const MEMORY: &[Case] = &[
        Case { name: "mischief_takes_all_memory", run: |_| take_all_memory() },
        Case { name: "mischief_comes_afterwards", run: tells_who_is_killed_first },
    ];
    match std::env::var(ASKED_FOR).as_deref() {
        Ok("cases") => CASES,
        Ok("memory") => MEMORY,
        _ => &[],
    }
}

/// Dies here if it shall.
pub(crate) fn at(place: &str) {
    if asked_for(place) {
        end_by(Signal::SIGSEGV);
    }
}

fn asked_for(what: &str) -> bool {
    std::env::var_os(ASKED_FOR).is_some_and(|value| value == what)
}

/// More than once: the first SIGSEGV only ends Rust's own handler.
fn end_by(signal: Signal) {
    loop {
        raise(signal).expect("every process may");
    }
}

/// A gigabyte, so that a test without its limit fails instead of the machine.
fn take_all_memory() {
    let taken: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 1 << 20]).collect();
    println!("{} MiB", std::hint::black_box(taken).len());
}

/// By the kernel, when memory runs out.
fn tells_who_is_killed_first(_: Subject) {
    print!("{}", std::fs::read_to_string("/proc/self/oom_score_adj").expect("procfs"));
}

/// With a child that has the same log open and hangs too.
fn hangs(_: Subject) {
    let mut child = std::process::Command::new("sleep").arg("3600").spawn().expect("every machine has it");
    println!("child {}", child.id());
    let _ = child.wait();
    std::thread::sleep(Duration::from_hours(1));
}
