//! The measurements run and say what they promise to say. No time is judged here.

mod common;
#[path = "../../tests/common/skip.rs"]
mod skip;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{House, Running};
use serde_json::Value;

fn positive(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value[key].as_f64().is_some_and(|number| number > 0.0), "{key} in {value}");
    }
}

/// Measurements would disturb each other, and on two cores take many times as long.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two pinned processes need two cores; a machine with one is told so and has nothing to measure.
#[track_caller]
fn two_cores() -> bool {
    let enough = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    if !enough {
        skip::skip("needs two cores");
    }
    enough
}

#[test]
fn latency_stands_beside_its_floors() {
    let _alone = alone();
    if !two_cores() {
        return;
    }
    let told = House::new().run("bench latency --quick --rounds 1 --json").expect_code(0).json();
    positive(&told, &["floor_ns", "handover_ns", "ratio_to_floor", "goal_ratio"]);
    positive(&told, &["futex_floor_ns", "futex_handover_ns", "futex_ratio_to_floor", "futex_goal_ratio"]);
    let sizes = told["sizes"].as_array().unwrap();
    let bytes: Vec<u64> = sizes.iter().map(|size| size["bytes"].as_u64().unwrap()).collect();
    assert_eq!(bytes, [64, 65_536, 1_048_576, 6_291_456, 25_165_824]);
    for size in sizes {
        positive(size, &["floor_ns", "handover_ns", "p50_ns", "p99_ns", "futex_handover_ns", "futex_p50_ns"]);
    }
}

#[test]
fn spinning_only() {
    let _alone = alone();
    if !two_cores() {
        return;
    }
    let told = House::new().run("bench latency --spinning 1000 --json").expect_code(0).json();
    assert_eq!(told["handovers"].as_u64(), Some(1000));
    positive(&told, &["handover_ns"]);
}

#[test]
fn throughput_and_attach() {
    let _alone = alone();
    if !two_cores() {
        return;
    }
    let told = House::new().run("bench throughput --quick --json").expect_code(0).json();
    for size in told["sizes"].as_array().unwrap() {
        positive(size, &["frames_per_s", "touched_frames_per_s"]);
    }
    let told = House::new().run("bench attach --quick --json").expect_code(0).json();
    positive(&told, &["attach_ns", "attach_goal_ns", "control_bytes", "control_goal_bytes"]);
    // Sizes are no matter of time: these are promised.
    assert!(told["control_bytes"].as_u64() < told["control_goal_bytes"].as_u64(), "{told}");
    assert!(told["pool_bytes"].as_u64() >= Some(8 * 1920 * 1080 * 3), "{told}");
}

#[test]
fn scale_goes_to_32_consumers() {
    let _alone = alone();
    let told = House::new().run("bench scale --quick --json").expect_code(0).json();
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.last().unwrap()["consumers"].as_u64(), Some(32));
    for row in rows {
        positive(&row["awake"], &["all_received_ns"]);
        positive(&row["asleep"], &["all_received_ns"]);
    }
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let _alone = alone();
    if !two_cores() {
        return;
    }
    let house = House::new();
    let mut command = house.command("bench latency");
    command.env("TMPDIR", house.path());
    let running = Running::new(&mut command);
    let deadline = Instant::now() + common::LIMIT;
    while house.left_behind().is_empty() {
        assert!(Instant::now() < deadline, "it never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.end().expect_code(130);
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}
