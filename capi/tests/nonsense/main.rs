//! The C functions called in random order with random arguments: any handle, of any type, alive or not; structures of any
//! size; text that is none; timelines of devices that fail; from within the functions that bips calls; by one thread, and by
//! several with the same handles. Every call answers with a status and a message, nothing crashes, and in the end all is
//! given back. `BIPS_NONSENSE=1000000 BIPS_SEED=7 cargo test -p bips-capi --test nonsense` calls more. The seed
//! repeats the choices, not who comes first and which of the waits, of microseconds, ends in time: counts differ a little.

mod caller;
mod calls;
mod devices;
mod handles;
mod room;

use bips_capi::*;
use caller::{Answers, Caller, name};
use devices::{ENDED, FAILED, TIMELINES, WITHIN};
use handles::{Handles, Noise};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What the process has of the system.
#[derive(Debug, Clone, Copy)]
struct Open {
    descriptors: usize,
    maps: usize,
}

impl Open {
    fn now() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        Self { descriptors, maps: maps.lines().filter(|line| line.contains("bips:")).count() }
    }

    /// Until all that came since is given back: of neither the fewer make up for the more of the other.
    fn again(self) {
        before_long(|| {
            let now = Self::now();
            let given_back = now.descriptors <= self.descriptors && now.maps <= self.maps;
            if given_back { Ok(()) } else { Err(format!("{self:?} has become {now:?}")) }
        });
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A folder for streams, and who calls in it.
struct Ground {
    directory: PathBuf,
    seed: u64,
    handles: Handles,
}

impl Ground {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bips-nonsense-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let seed = number("BIPS_SEED", 4);
        // Before the first call: one that ends the process leaves no time for it.
        println!("{name}: BIPS_SEED={seed} repeats the choices");
        Self { directory, seed, handles: Handles::default() }
    }

    fn caller(&self, thread: u64, alone: bool) -> Caller {
        let place = CString::new(self.directory.to_str().unwrap()).unwrap();
        let noise = Noise((self.seed + thread).max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Caller { noise, handles: self.handles.clone(), place, alone, answers: Answers::new(), refused: 0 }
    }

    /// Has this thread call from within its calls too, until it takes the caller back.
    fn within(&self, thread: u64) {
        WITHIN.set(Some(self.caller(thread, false)));
    }

    /// Says what the calls came to, and that they came to `wanted` too.
    fn tell(&self, callers: &[Caller], wanted: &[&str]) {
        let mut counts = BTreeMap::<i32, u64>::new();
        for ((_, status), count) in callers.iter().flat_map(|caller| &caller.answers) {
            *counts.entry(*status).or_default() += count;
        }
        let words: Vec<_> =
            counts.iter().map(|(status, count)| format!("{}: {count}", name(*status))).collect();
        println!("{}", words.join(", "));
        for wanted in wanted {
            assert!(counts.keys().any(|status| name(*status) == *wanted), "never {wanted}");
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until it holds.
fn before_long(what: impl Fn() -> Result<(), String>) {
    let until = Instant::now() + Duration::from_secs(30);
    while let Err(why) = what() {
        assert!(Instant::now() < until, "{why}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// In one test: what is open is of the process, and test programs run their tests in threads.
#[test]
fn any_call_with_any_argument() {
    let calls = number("BIPS_NONSENSE", 60_000);
    by_one_thread(calls);
    by_several_threads(calls / 4);
    before_long(|| {
        let (made, ended) = (TIMELINES.load(Relaxed), ENDED.load(Relaxed));
        if made == ended { Ok(()) } else { Err(format!("of {made} timelines {ended} have ended")) }
    });
    assert!(TIMELINES.load(Relaxed) > 0);
}

fn by_one_thread(calls: u64) {
    let ground = Ground::new("one");
    let mut caller = ground.caller(0, true);
    // Once, for what is made once and stays.
    for _ in 0..5000 {
        caller.call();
    }
    caller.end_all();
    let before = Open::now();
    ground.within(100);
    for call in 0..calls {
        caller.call();
        if caller.handles.alive() > 200 || call % 5000 == 4999 {
            caller.end_all();
        }
    }
    caller.end_all();
    let within = WITHIN.take().expect("put there above");
    let answers: u64 = within.answers.values().sum();
    println!("{answers} calls from within calls");
    assert!(within.answers.keys().any(|(_, status)| *status == Status::BIPS_OK as i32));
    caller.end_all(); // what those made when timelines ended
    let wanted =
        ["ok", "timeout", "closed", "not-found", "invalid-argument", "too-many-held", "name-taken", "system"];
    ground.tell(std::slice::from_ref(&caller), &wanted);
    let listed: BTreeSet<_> = include_str!("../../symbols.txt").lines().collect();
    let done = |function| caller.answers.contains_key(&(function, Status::BIPS_OK as i32));
    let failed: Vec<_> = listed.into_iter().filter(|function| !done(function)).collect();
    assert!(failed.is_empty(), "never called, or never with success: {failed:?}");
    for function in ["bips_writable_frame_publish", "bips_frame_release"] {
        let system = caller.answers.contains_key(&(function, Status::BIPS_SYSTEM as i32));
        assert!(system, "{function} never met a fence that fails");
    }
    assert!(FAILED.value.load(Relaxed) > 0 && FAILED.wait.load(Relaxed) > 0, "{FAILED:?}");
    before.again();
}

/// They use, and end, each other's handles.
fn by_several_threads(calls: u64) {
    let ground = Ground::new("several");
    let before = Open::now();
    let callers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4)
            .map(|thread| {
                let mut caller = ground.caller(thread, false);
                let ground = &ground;
                scope.spawn(move || {
                    ground.within(100 + thread);
                    for _ in 0..calls {
                        caller.call();
                        if caller.handles.alive() > 200 {
                            caller.end_all();
                        }
                    }
                    WITHIN.take();
                    caller
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    ground.caller(0, false).end_all();
    ground.tell(&callers, &["ok", "timeout", "closed", "invalid-argument"]);
    let refused: u64 = callers.iter().map(|caller| caller.refused).sum();
    println!("{refused} calls refused while another thread was in one");
    assert!(refused > 0, "no two threads ever met at a handle that is for one at a time");
    before.again();
}
