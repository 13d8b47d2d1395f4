//! Streams between real processes, from the outside.

mod common;

use common::{House, Running};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn two_reliable_consumers_see_every_frame_whole() {
    let house = House::new();
    let count = 300;
    let producer =
        house.start(&format!("produce cam --size 320x240 --fps 0 --count {count} --consumers 2 --json"));
    let consume = format!("consume cam --count {count} --policy reliable --verify --json");
    let consumers = [house.start(&consume), house.start(&consume)];
    for consumer in consumers {
        let seen = consumer.end().expect_code(0).json();
        assert_eq!((number(&seen, "frames"), number(&seen, "lost")), (count, 0));
        assert_eq!((number(&seen, "first"), number(&seen, "last")), (0, count - 1));
        assert_eq!(seen["verified"], true);
        assert_eq!(number(&seen, "bytes"), count * 320 * 240 * 3);
        assert_eq!(number(&seen, "bytes_copied_by_bips"), 0);
        assert!(number(&seen, "addresses") <= number(&seen, "slots"));
        assert!(number(&seen["latency_ns"], "p99") >= number(&seen["latency_ns"], "p50"));
    }
    let made = producer.end().expect_code(0).json();
    assert_eq!(number(&made, "frames"), count);
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn a_killed_consumer_costs_the_others_nothing() {
    let house = House::new();
    let count = 400;
    let producer =
        house.start(&format!("produce cam --size 320x240 --fps 400 --count {count} --consumers 3"));
    let consume = format!("consume cam --count {count} --policy reliable --verify --json");
    let survivors = [house.start(&consume), house.start(&consume)];
    let victim = house.start("consume cam --policy reliable --hold 2");
    house.wait_for("cam", |info| info.published > count / 2);
    victim.signal(Signal::SIGKILL);
    assert_eq!(victim.end().code, None);
    for survivor in survivors {
        let seen = survivor.end().expect_code(0).json();
        assert_eq!((number(&seen, "frames"), number(&seen, "lost")), (count, 0));
        assert_eq!(number(&seen, "last"), count - 1);
    }
    producer.end().expect_code(0);
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn consumers_of_a_killed_producer_end_and_its_name_is_free() {
    let house = House::new();
    let producer = house.start("produce cam --size 64x64 --fps 300");
    let consumer = house.start("consume cam --verify --json");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    producer.signal(Signal::SIGKILL);
    producer.end();
    let seen = consumer.end().expect_code(0).json();
    assert_eq!((seen["ended"].as_str(), number(&seen, "lost")), (Some("died"), 0));
    house.run("info cam").expect_failure(3, "cam");
    house.run("produce cam --size 64x64 --fps 0 --count 3").expect_code(0);
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn a_reconnecting_consumer_goes_on_with_the_next_producer() {
    let house = House::new();
    let first = house.start("produce cam --size 64x64 --fps 300");
    let consumer = house.start("consume cam --reconnect --wait forever --verify --json");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    first.signal(Signal::SIGKILL);
    first.end();
    let next = house.start("produce cam --size 122x62 --format NV12 --fps 300");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    consumer.signal(Signal::SIGINT);
    let seen = consumer.end().expect_code(0).json();
    assert_eq!((number(&seen, "reconnects"), number(&seen, "lost")), (1, 0));
    assert_eq!((seen["verified"].as_bool(), seen["ended"].as_str()), (Some(true), Some("interrupted")));
    drop(next);
}

/// Reads what it says until a line holds the words.
#[track_caller]
fn hear(lines: &mut impl Iterator<Item = std::io::Result<String>>, words: &str) -> String {
    let mut heard = Vec::new();
    for line in lines {
        let line = line.unwrap();
        if line.contains(words) {
            return line;
        }
        heard.push(line);
    }
    panic!("{words:?} was not said: {heard:?}");
}

#[test]
fn a_reconnecting_consumer_says_what_it_waits_for() {
    let house = House::new();
    let first = house.start("produce cam --size 64x64 --fps 300");
    let consumer = house.start("consume cam --reconnect --wait 2");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    first.signal(Signal::SIGKILL);
    first.end();
    let ended = consumer.end().expect_failure(4, "the producer of cam died and in 2 s nothing came");
    assert!(ended.stderr.contains("start the next producer"), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("the producer of cam died and the next producer is waited for"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_producer_tells_of_stalls_and_of_whom_it_put_out() {
    let house = House::new();
    let mut child = house.command("produce cam --size 64x64 --fps 300 --on-stall expel:1.5").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let producer = Running::over(child);
    let consumer = house.start("consume cam --hold 2");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    consumer.signal(Signal::SIGSTOP);
    let pid = format!("pid {}", consumer.id());
    let stall = hear(&mut lines, "stands still after");
    assert!(stall.contains(&pid), "{stall}");
    let out = hear(&mut lines, "put out");
    assert!(out.contains(&pid) && out.contains("(1 so far)"), "{out}");
    hear(&mut lines, "goes on after");
    drop(producer);
}

#[test]
fn a_stopped_consumer_is_seen_and_put_out() {
    let house = House::new();
    let _producer = house.start("produce cam --size 64x64 --fps 300 --on-stall expel:0.1");
    let consumer = house.start("consume cam --hold 2 --json");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    consumer.signal(Signal::SIGSTOP);
    house.wait_for("cam", |info| info.expelled == 1);
    let text = house.run("info cam").expect_code(0).stdout;
    assert!(
        text.contains("put out, not gone") && text.contains("of 0.1 s end with expulsion: 1 so far"),
        "{text}"
    );
    let told = house.run("info cam --json").expect_code(0).json();
    assert_eq!(told["on_stall"], "expel:0.1");
    let told = &told["consumers"][0];
    assert!(told["held_for"].as_f64().is_some_and(|seconds| seconds > 0.0), "{told}");
    consumer.signal(Signal::SIGCONT);
    let seen = consumer.end().expect_code(1);
    assert!(seen.stderr.contains("put this consumer out"), "{}", seen.stderr);
    assert_eq!(seen.json()["ended"].as_str(), Some("expelled"));
    house.wait_for("cam", |info| info.consumers.is_empty());
}

#[test]
fn a_stream_that_stands_still_says_because_of_whom() {
    let house = House::new();
    let _producer = house.start("produce cam --size 64x64 --fps 300");
    let consumer = house.start("consume cam");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    assert!(house.run("info cam").expect_code(0).stdout.contains("goes on"));
    consumer.signal(Signal::SIGSTOP);
    house.wait_for("cam", |info| info.stalled_for.is_some_and(|time| time.as_millis() > 200));
    let because = format!("no slot is free, because of consumer pid {} ", consumer.id());
    for words in ["info cam", "ls"] {
        let text = house.run(words).expect_code(0).stdout;
        assert!(text.contains("stands still for") && text.contains(&because), "{text}");
    }
    let told = house.run("info cam --json").expect_code(0).json();
    assert!(told["stalled_for"].as_f64().is_some_and(|seconds| seconds > 0.2), "{told}");
    assert_eq!(told["consumers"][0]["in_the_way"], true);
    let mut top = house.command("top --interval 0.1").spawn().unwrap();
    let lines: Vec<String> =
        BufReader::new(top.stdout.take().unwrap()).lines().map(Result::unwrap).take(3).collect();
    assert!(top.wait().unwrap().success(), "it ends when nobody reads it");
    assert!(lines[0].contains("PUT OUT"), "{lines:?}");
    assert!(lines[1].contains(&because) && lines[2].ends_with("in the way"), "{lines:?}");
    consumer.signal(Signal::SIGCONT);
    house.wait_for("cam", |info| info.stalled_for.is_none());
}

/// What came while it was out is lost to a reliable consumer, and said so.
#[test]
fn a_reconnecting_consumer_counts_what_it_missed_while_it_was_out() {
    let house = House::new();
    let producer = house.start("produce cam --size 64x64 --fps 300 --on-stall expel:0.1");
    let consumer = house.start("consume cam --reconnect --verify --json");
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 20));
    consumer.signal(Signal::SIGSTOP);
    house.wait_for("cam", |info| info.expelled == 1);
    consumer.signal(Signal::SIGCONT);
    house.wait_for("cam", |info| {
        info.consumers.iter().any(|consumer| !consumer.expelled && consumer.received > 20)
    });
    consumer.signal(Signal::SIGINT);
    let seen = consumer.end().expect_code(1).json();
    assert!(number(&seen, "lost") > 0 && number(&seen, "gaps") == 1, "{seen}");
    assert_eq!(number(&seen, "reconnects"), 1);
    drop(producer);
}

#[test]
fn latest_skips_and_reliable_holds_back() {
    let house = House::new();
    let producer =
        house.start("produce cam --size 64x64 --fps 0 --count 2000 --slots 8 --consumers 2 --json");
    let latest = house.start("consume cam --policy latest --verify --json");
    let reliable = house.start("consume cam --policy reliable --hold 3 --verify --json");
    let latest = latest.end().expect_code(0).json();
    assert_eq!(number(&latest, "lost"), 0);
    assert_eq!(number(&latest, "frames") + number(&latest, "skipped"), 2000 - number(&latest, "first"));
    assert_eq!(number(&latest, "last"), 1999);
    let reliable = reliable.end().expect_code(0).json();
    assert_eq!((number(&reliable, "frames"), number(&reliable, "lost")), (2000, 0));
    producer.end().expect_code(0);
}

#[test]
fn every_format_and_pattern_verifies() {
    let house = House::new();
    for (format, pattern) in [
        ("RGB3", "picture"),
        ("BGR3", "picture"),
        ("GREY", "picture"),
        ("AB24", "picture"),
        ("AR24", "picture"),
        ("Y16", "noise"),
        ("NV12", "noise"),
        ("YU12", "noise"),
        ("YUYV", "noise"),
        ("UYVY", "noise"),
    ] {
        let producer = house.start(&format!(
            "produce cam --size 122x62 --format {format} --pattern {pattern} --fps 0 --count 20 --consumers 1"
        ));
        let seen = house.run("consume cam --count 20 --verify --json").expect_code(0).json();
        assert_eq!(seen["verified"], true, "{format}");
        producer.end().expect_code(0);
    }
}

#[test]
fn ls_and_info_tell_what_is_there() {
    let house = House::new();
    assert_eq!(house.run("ls --json").expect_code(0).json(), serde_json::json!([]));
    assert!(house.run("ls").expect_code(0).stdout.contains("bips produce"));
    let missing = house.run("info nope").expect_failure(3, "see `bips ls`");
    assert!(!missing.stderr.contains("wait longer"), "nobody waited: {}", missing.stderr);
    let producer = house.start("produce robot/left --size 64x48 --format NV12 --slots 5 --fps 50");
    let _consumer = house.start("consume robot/left --policy keep-last:2 --label arm");
    house.wait_for("robot/left", |info| info.published > 3 && !info.consumers.is_empty());
    let list = house.run("ls --json").expect_code(0).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    let info = house.run("info robot/left --json").expect_code(0).json();
    for told in [&list[0], &info] {
        assert_eq!(told["name"], "robot/left");
        assert_eq!((told["format"].as_str(), number(told, "width")), (Some("NV12"), 64));
        assert_eq!((number(told, "slots"), number(told, "frame_bytes")), (5, 64 * 48 * 3 / 2));
        assert_eq!(number(told, "pid"), u64::from(producer.id()));
        assert_eq!((told["memory"].as_str(), told["access"].as_str()), (Some("memfd"), Some("owner")));
        assert_eq!(told["consumers"][0]["policy"], "keep-last:2");
        assert_eq!(told["consumers"][0]["label"], "arm");
    }
    let text = house.run("info robot/left").expect_code(0).stdout;
    assert!(text.contains("NV12 64x48") && text.contains("keep-last:2") && text.contains("arm"), "{text}");
    assert!(house.run("ls").expect_code(0).stdout.contains("robot/left"));
    assert_eq!(house.run("top --json").expect_code(0).json()[0]["name"], "robot/left");
    // A runtime directory given by hand means the same as $BIPS_DIR.
    let elsewhere = House::new();
    let words = format!("ls --json --directory {}", house.path().display());
    assert_eq!(elsewhere.run(&words).expect_code(0).json().as_array().map(Vec::len), Some(1));
}

/// It is there, holds its name, and tells nothing: that is not "no stream".
#[test]
fn a_stopped_producer_is_listed() {
    let house = House::new();
    let producer = house.start("produce cam --size 64x64 --fps 300");
    house.wait_for("cam", |info| info.published > 3);
    producer.stop();
    let text = house.run("ls").expect_code(0).stdout;
    let row = text.lines().find(|line| line.starts_with("cam")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains(&producer.id().to_string()) && row.ends_with("does not answer: stopped?"), "{text}");
    let list = house.run("ls --json").expect_code(0).json();
    assert_eq!((list[0]["name"].as_str(), number(&list[0], "pid")), (Some("cam"), u64::from(producer.id())));
    assert!(list[0]["error"].as_str().is_some_and(|error| error.contains("SIGSTOP")), "{list}");
    house.run("info cam").expect_failure(4, &format!("producer's pid: {}", producer.id()));
    producer.signal(Signal::SIGCONT);
    assert!(house.run("ls").expect_code(0).stdout.contains("memfd"));
}

#[test]
fn the_demo_shows_it() {
    let house = House::new();
    let sheet = house.path().join("sheet.png");
    let words = format!("demo --frames 60 --size 320x240 --json --sheet {}", sheet.display());
    let shown = house.run(&words).expect_code(0).json();
    assert_eq!((number(&shown, "frames"), number(&shown, "bytes_copied_by_bips")), (60, 0));
    assert_eq!(number(&shown, "bytes_shared"), 2 * 60 * 320 * 240 * 3);
    assert_eq!(shown["verify"]["verified"], true);
    assert_eq!(number(&shown["sheet"], "tiles"), 12);
    assert_eq!(std::fs::read(sheet).unwrap()[1..4], *b"PNG");
}
