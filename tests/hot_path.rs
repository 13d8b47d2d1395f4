//! Per frame: no allocation, and no system call while nobody sleeps.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{Consumer, Description, Fence, FrameMut, Policy, Producer, Wait};
use common::process::{Role, Stage, play};
use common::skip::skip;
use common::{LATEST, SOON, Scratch};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const ROLES: &[Role] = &[
    ("asks the clock", ask_the_clock),
    ("makes a system call", make_a_system_call),
    ("alone", alone),
    ("publishes", publish_strictly),
    ("receives", receive_strictly),
];

#[test]
fn child_process() {
    common::process::child(ROLES);
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks of it.
struct Counting;

// SAFETY: passes everything on to the system's allocator; a constant thread-local neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// One hand-over, with or without metadata that changes each time; and none is left for the rest.
#[inline]
fn cycle(producer: &Producer, consumers: &mut [Consumer], number: u64, metadata: bool) {
    let frame = producer.acquire(Wait::Now).expect("a free slot");
    pass(frame, consumers, number, metadata);
}

#[inline]
fn pass(mut frame: FrameMut, consumers: &mut [Consumer], number: u64, metadata: bool) {
    frame.bytes_mut()[..8].copy_from_slice(&number.to_le_bytes());
    let text = number.to_le_bytes();
    let description = Description::new().with_metadata(if metadata { &text } else { &[] });
    let sequence = frame.publish(description, Fence::Signaled).expect("an open stream");
    for consumer in consumers {
        let frame = consumer.receive(Wait::Now).expect("a frame");
        let mut got = [0; 8];
        frame.copy_to(0, &mut got);
        assert!(got == text && frame.sequence() == sequence);
        assert!(frame.metadata() == if metadata { &text[..] } else { &[] });
    }
}

/// Passes a frame through every slot: at its first, each end notes what the slot holds.
fn warm_up(producer: &Producer, consumers: &mut [Consumer], metadata: bool) {
    for slot in 0..producer.slots() {
        let all = (0..producer.slots()).map(|_| producer.acquire(Wait::Now).expect("a free slot"));
        let mut all: Vec<_> = all.collect();
        all.retain(|frame| frame.slot() == slot);
        pass(all.remove(0), consumers, u64::from(slot), metadata);
    }
}

fn ends(scratch: &Scratch, policies: &[Policy]) -> (Producer, Vec<Consumer>) {
    let producer = scratch.producer("cam").bytes(10_000).create().unwrap();
    let join = |policy: &Policy| scratch.consumer("cam").policy(*policy).connect().unwrap();
    (producer, policies.iter().map(join).collect())
}

#[test]
fn no_allocation_per_frame() {
    let scratch = Scratch::new();
    let (producer, mut consumers) = ends(&scratch, &[Policy::Reliable, LATEST, Policy::KeepLast(3)]);
    for metadata in [false, true] {
        warm_up(&producer, &mut consumers, metadata);
        let before = allocations();
        for number in 0..10_000 {
            cycle(&producer, &mut consumers, number, metadata);
        }
        assert_eq!(allocations() - before, 0, "metadata: {metadata}");
    }
    // The counter counts.
    let before = allocations();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(allocations() - before, 2);
}

#[test]
fn no_allocation_for_nothing_to_do() {
    let scratch = Scratch::new();
    let (producer, mut consumers) = ends(&scratch, &[Policy::Reliable]);
    let mut all: Vec<_> = (0..producer.slots()).map(|_| producer.acquire(Wait::Now).unwrap()).collect();
    let before = allocations();
    for _ in 0..1000 {
        assert!(producer.acquire(Wait::Now).is_err());
        assert!(consumers[0].receive(Wait::Now).is_err());
    }
    assert_eq!(allocations() - before, 0);
    all.clear();
}

#[test]
fn no_allocation_when_frames_are_evicted() {
    let scratch = Scratch::new();
    let (producer, mut consumers) = ends(&scratch, &[LATEST, Policy::KeepLast(4)]);
    warm_up(&producer, &mut consumers, false);
    let mut run = |frames: u64| {
        for number in 0..frames {
            cycle(&producer, &mut [], number, false);
            if number % 10 == 0 {
                for consumer in &mut consumers {
                    drop(consumer.receive(Wait::Now).unwrap());
                }
            }
        }
    };
    run(200);
    let before = allocations();
    run(5000);
    assert_eq!(allocations() - before, 0);
}

// System calls

/// From here on this thread is killed at any system call but write and exit. A filter, not strict mode: that one
/// takes the processor's clock away too.
fn forswear_system_calls() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let allow_if = |number: libc::c_long, above: u8| libc::sock_filter {
        jt: above,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32)
    };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0), // the number of the call
        allow_if(libc::SYS_write, 3),
        allow_if(libc::SYS_exit, 2),
        allow_if(libc::SYS_rt_sigreturn, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_THREAD),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let program = std::ptr::from_ref(&program);
    // SAFETY: the kernel copies the program, which outlives the call.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, program) }, 0);
}

/// Runs `check` in a thread that makes no system calls. Says `done` when it came through; ends the process.
fn strictly(stage: &Stage, check: impl FnOnce() + Send + 'static) -> ! {
    static DONE: AtomicBool = AtomicBool::new(false);
    let thread = std::thread::spawn(move || {
        forswear_system_calls();
        check();
        DONE.store(true, SeqCst);
        // SAFETY: ends this thread alone; what lies on its stack is never used again.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!();
    });
    // Not std's join: the thread leaves no result behind.
    // SAFETY: a thread of ours, joined once.
    unsafe { libc::pthread_join(thread.into_pthread_t(), std::ptr::null_mut()) };
    stage.say(if DONE.load(SeqCst) { "done" } else { "killed" });
    // SAFETY: ends the process without dropping what the thread has left.
    unsafe { libc::_exit(0) }
}

/// Whether the clock and the processor's number can be had without a system call here.
#[track_caller]
fn strict_is_possible() -> bool {
    let scratch = Scratch::new();
    let possible = play("asks the clock", scratch.path(), 0).hear() == "done";
    if !possible {
        skip("on this machine it takes a system call to ask for the time (no vDSO clock)");
    }
    possible
}

fn ask_the_clock(stage: &Stage) {
    strictly(stage, || {
        for _ in 0..1000 {
            assert!(bips::sys::monotonic_ns() > 0);
            // SAFETY: no arguments.
            assert!(unsafe { libc::sched_getcpu() } >= 0);
        }
    });
}

/// The net has no hole: one system call is one too many.
#[test]
fn a_system_call_would_be_noticed() {
    let scratch = Scratch::new();
    play("makes a system call", scratch.path(), 0).expect("killed");
}

fn make_a_system_call(stage: &Stage) {
    strictly(stage, std::thread::yield_now);
}

#[test]
fn no_system_call_per_frame() {
    if strict_is_possible() {
        let scratch = Scratch::new();
        play("alone", scratch.path(), 100_000).expect("done");
    }
}

fn alone(stage: &Stage) {
    let frames = stage.number;
    let producer = stage.producer("cam").bytes(10_000).create().unwrap();
    let join = |policy| stage.consumer("cam").policy(policy).connect().unwrap();
    let mut consumers = [join(Policy::Reliable), join(LATEST)];
    for metadata in [false, true] {
        warm_up(&producer, &mut consumers, metadata);
    }
    strictly(stage, move || {
        for number in 0..frames {
            cycle(&producer, &mut consumers, number, number % 1000 > 500);
        }
        for number in 0..frames / 10 {
            cycle(&producer, &mut [], number, false);
            if number % 10 == 0 {
                drop(consumers[1].receive(Wait::Now));
                while consumers[0].receive(Wait::Now).is_ok() {}
            }
            // Full, and nothing there, take none either.
            if number % 10 == 3 {
                while consumers[0].receive(Wait::Now).is_ok() {}
                assert!(consumers[0].receive(Wait::Now).is_err());
            }
            if number % 3 == 2 {
                while consumers[0].receive(Wait::Now).is_ok() {}
            }
        }
        std::mem::forget((producer, consumers));
    });
}

/// The same between two processes, each looking until it finds.
#[test]
fn no_system_call_between_processes() {
    if strict_is_possible() {
        let scratch = Scratch::new();
        let mut producer = play("publishes", scratch.path(), 2000);
        let mut consumer = play("receives", scratch.path(), 2000);
        producer.expect("done");
        consumer.expect("done");
    }
}

fn publish_strictly(stage: &Stage) {
    let frames = stage.number;
    let producer = stage.producer("cam").bytes(10_000).create().unwrap();
    producer.wait_for_consumers(1, SOON).unwrap();
    strictly(stage, move || {
        for number in 0..frames {
            let mut frame = loop {
                match producer.acquire(Wait::Now) {
                    Ok(frame) => break frame,
                    Err(_) => std::hint::spin_loop(),
                }
            };
            frame.bytes_mut()[..8].copy_from_slice(&number.to_le_bytes());
            frame.publish(Description::new(), Fence::Signaled).expect("an open stream");
        }
        std::mem::forget(producer);
    });
}

fn receive_strictly(stage: &Stage) {
    let frames = stage.number;
    let mut consumer = stage.consumer("cam").wait(SOON).connect().unwrap();
    // The first frame of each slot brings its description, which is kept from then on.
    strictly(stage, move || {
        for number in 0..frames {
            let frame = loop {
                match consumer.receive(Wait::Now) {
                    Ok(frame) => break frame,
                    Err(_) => std::hint::spin_loop(),
                }
            };
            let mut got = [0; 8];
            frame.copy_to(0, &mut got);
            assert!(got == number.to_le_bytes());
        }
        std::mem::forget(consumer);
    });
}
