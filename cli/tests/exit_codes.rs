//! 0 done, 1 failed, 2 usage, 3 no such stream, 4 timed out; and a line that names the next step.

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{House, Running};
use nix::sys::signal::Signal;

#[test]
fn nonsense_on_the_command_line_is_usage() {
    let house = House::new();
    for words in [
        "",
        "prodjuce",
        "produce",
        "produce cam --size 1920",
        "produce cam --format XXXX",
        "produce cam --fps -1",
        "consume cam --policy sometimes",
        "consume cam --wait -3",
        "consume cam --hold 0",
        "snapshot cam",
        "snapshot cam x.png --every 3",
        "bench",
        "bench latency --cores 1,1",
    ] {
        let ended = house.run(words).expect_code(2);
        assert!(!ended.stderr.is_empty(), "{words}");
    }
    house.run("--version").expect_code(0);
    assert!(house.run("--help").expect_code(0).stdout.contains("Exit codes"));
}

#[test]
fn a_wrong_value_is_told_what_would_be_right() {
    let house = House::new();
    for (words, right) in [
        ("produce cam --count -1", "from 0 upwards"),
        ("produce cam --fps -5", "frames per second"),
        ("produce cam --wait -1", "from 0 upwards, such as 2.5, or `forever`"),
        ("produce cam --slots -2", "from 0 upwards"),
        ("produce cam --size 0x0", "WIDTHxHEIGHT, both from 1 upwards"),
        ("produce cam --size 1920", "1920x1080"),
        ("produce cam --format rgb3", "did you mean RGB3?"),
        ("produce cam --format rgb4", "YUYV"),
        ("consume cam --count -1", "from 0 upwards"),
        ("consume cam --hold -1", "from 1 to 64"),
        ("snapshot cam x.png --sheet 4", "COLSxROWS, both from 1 to 64, such as 4x3"),
        ("snapshot cam x.png --sheet 99x1", "1 to 64"),
        ("snapshot cam x.png --sheet 4x3 --every -1", "from 1 upwards"),
        ("demo --frames -1", "from 1 to 100000"),
    ] {
        let told = house.run(words).expect_code(2).stderr;
        assert!(told.contains(right) && !told.contains("unexpected argument"), "{words}: {told}");
    }
}

/// Before anything is waited for: there is no such stream, and that isn't what is told.
#[test]
fn a_picture_that_cannot_be_written_is_told_at_once() {
    let house = House::new();
    for command in ["snapshot cam", "demo --sheet"] {
        let tell = |path: &str, code, words| {
            house.run(&format!("{command} {path}")).expect_failure(code, words);
        };
        tell("/nope/x.png", 1, "/nope is no directory; make it");
        tell("/tmp", 1, "name a file in it");
        tell("/proc/x.png", 1, "a directory that exists and is writable");
        tell("x.jpg", 2, "only PNG is written; name the file x.png");
    }
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn arguments_the_core_refuses_are_usage_too() {
    let house = House::new();
    house.run("produce no:such*name --count 1").expect_failure(2, "name");
    house.run("produce cam --slots 65 --count 1").expect_failure(2, "64");
    house.run("produce cam --slots 0 --count 1").expect_failure(2, "slots");
    house.run("produce cam --format NV12 --pattern picture --count 1").expect_failure(2, "--pattern noise");
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn streams_that_do_not_exist_are_not_found() {
    let house = House::new();
    house.run("info nowhere").expect_failure(3, "nowhere");
    house.run("consume nowhere --wait 0").expect_failure(3, "nowhere");
    house.run("consume nowhere --wait 0.2").expect_failure(3, "nowhere");
    house.run("consume nowhere --wait 0.2").expect_failure(3, "nowhere");
    house.run("snapshot nowhere /tmp/never.png --wait 0").expect_failure(3, "nowhere");
}

#[test]
fn what_does_not_come_in_time_is_a_time_out() {
    let house = House::new();
    house.run("produce cam --size 64x64 --consumers 1 --wait 0.2").expect_failure(4, "0 of 1 consumers");
    let _producer = house.start("produce cam --size 64x64 --consumers 9");
    house.run("consume cam --wait 0.3").expect_failure(4, "bips info cam");
}

#[test]
fn a_taken_name_fails_and_says_by_whom() {
    let house = House::new();
    let first = house.start("produce cam --size 64x64 --consumers 1");
    house.wait_for("cam", |_| true);
    house.run("produce cam --size 64x64 --count 1").expect_failure(1, &first.id().to_string());
}

#[test]
fn a_stream_that_ends_early_fails_its_consumer() {
    let house = House::new();
    let producer = house.start("produce cam --size 64x64 --fps 0 --count 5 --consumers 1");
    house.run("consume cam --count 9").expect_failure(1, "5 of 9");
    producer.end().expect_code(0);
}

#[test]
fn a_producer_that_was_killed_is_told_from_one_that_ended() {
    let house = House::new();
    let producer = house.start("produce cam --size 64x64 --fps 200 --consumers 2");
    let counting = house.start("consume cam --count 100000");
    let taking = house.start("consume cam");
    house.wait_for("cam", |info| info.published > 5);
    producer.signal(Signal::SIGKILL);
    counting.end().expect_failure(1, "the producer of cam died after");
    assert!(taking.end().expect_code(0).stdout.contains("the producer of cam died"));
}

#[test]
fn unverifiable_frames_fail_verification() {
    let house = House::new();
    let _producer = house.start("produce cam --size 64x64 --pattern none --consumers 1");
    house.run("consume cam --count 3 --verify").expect_failure(1, "--verify");
}

#[test]
fn holding_more_than_allowed_is_usage() {
    let house = House::new();
    let _producer = house.start("produce cam --size 64x64 --consumers 2");
    house.run("consume cam --hold 9").expect_failure(2, "--hold 9");
}

#[test]
fn signals_end_it_cleanly() {
    let house = House::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let producer = house.start("produce cam --size 64x64 --fps 200 --json");
        house.wait_for("cam", |info| info.published > 5);
        let consumer = house.start("consume cam --verify --json");
        house.wait_for("cam", |info| info.consumers.len() == 1 && info.consumers[0].received > 5);
        consumer.signal(signal);
        let seen = consumer.end().expect_code(0).json();
        assert_eq!((seen["ended"].as_str(), seen["verified"].as_bool()), (Some("interrupted"), Some(true)));
        producer.signal(signal);
        assert!(producer.end().expect_code(0).json()["frames"].as_u64() > Some(5));
        assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_stream() {
    let house = House::new();
    for words in ["consume nobody --wait forever", "snapshot nobody picture.png --wait forever"] {
        let waiting = house.start(words);
        std::thread::sleep(std::time::Duration::from_millis(300));
        waiting.signal(Signal::SIGINT);
        waiting.end().expect_failure(1, "ended by a signal before the stream was joined");
    }
}

/// `timeout` signals the process and then its whole group: twice, but meant once.
#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let house = House::new();
    let producer = house.start("produce cam --size 64x64 --fps 100 --json");
    house.wait_for("cam", |info| info.published > 2);
    producer.signal(Signal::SIGTERM);
    producer.signal(Signal::SIGINT);
    producer.end().expect_code(0).json();
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn a_signal_before_the_count_fails() {
    let house = House::new();
    let producer = house.start("produce cam --size 64x64 --fps 100 --count 100000");
    house.wait_for("cam", |info| info.published > 2);
    producer.signal(Signal::SIGINT);
    producer.end().expect_failure(1, "of 100000 frames");
}

/// `bips ls | head -0`: whoever reads may stop reading.
#[test]
fn a_closed_stdout_is_no_error() {
    let house = House::new();
    let _producer = house.start("produce cam --size 64x64 --consumers 1");
    house.wait_for("cam", |_| true);
    let mut command = house.command("top --interval 0.1");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let deadline = std::time::Instant::now() + common::LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if std::time::Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn doctor_plans() {
    let house = House::new();
    let told = house.run("doctor --plan cpu").expect_code(0);
    assert!(
        told.stdout.starts_with("memfd: slots of 1048576 bytes, fences: board\n  cpu: mapped\n"),
        "{}",
        told.stdout
    );
    let plan = house.run("doctor --json --plan cpu-write,cpu").expect_code(0).json();
    assert_eq!((&plan["memory"], &plan["fences"]), (&"memfd".into(), &"board".into()));
    assert_eq!(plan["uses"].as_array().unwrap().len(), 2);
    let none = house.run("doctor --json --plan camera:/dev/nothing,cuda:0");
    let plan: serde_json::Value = serde_json::from_str(&none.stdout).unwrap();
    assert!(plan["memory"].is_null() && plan["able"].as_array().unwrap().is_empty(), "{plan}");
    let reason = |kind: &str| {
        let refused = plan["refused"].as_array().unwrap().iter();
        refused.filter(|it| it["kind"] == kind).map(|it| it["reason"].to_string()).collect::<String>()
    };
    assert!(reason("memfd").contains("host memory") && reason("cuda").contains("planned"), "{plan}");
    none.expect_failure(1, "no memory here serves camera:/dev/nothing,cuda:0");
    house.run("doctor --plan teapot").expect_failure(2, "is not one of cpu, camera");
    house.run("doctor --plan ,").expect_failure(2, "nobody is named");
}

#[test]
fn doctor_requires() {
    let house = House::new();
    let report = house.run("doctor --json --require memfd").expect_code(0).json();
    assert!(report["checks"].as_array().is_some_and(|checks| checks.len() > 1));
    assert_eq!(report["missing"], serde_json::json!([]));
    let ended = house.run("doctor --require memfd,cuda").expect_failure(1, "not in this build: cuda");
    assert!(!ended.stderr.contains("memfd"), "{}", ended.stderr);
    let ended = house.run("doctor --require memfd,flux-capacitor").expect_failure(2, "\"flux-capacitor\"");
    assert!(ended.stderr.contains("memfd") && ended.stderr.contains("cuda"), "{}", ended.stderr);
    // A container may have no other place to write to than the runtime directory.
    let mut elsewhere = house.command("doctor --require memfd");
    assert_eq!(Running::new(elsewhere.env("TMPDIR", "/proc/nowhere")).end().code, Some(0));
    let mut nowhere = house.command("doctor --directory /proc/nowhere");
    let told = Running::new(nowhere.env("TMPDIR", "/proc/here")).end().stdout;
    assert!(told.contains("can't make /proc/here/.bips-doctor-"), "{told}");
    let mut unwritable = house.command("doctor --directory /proc/nowhere");
    assert_eq!(Running::new(&mut unwritable).end().code, Some(1));
}
