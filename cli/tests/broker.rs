//! `bips broker`: what it says, and that memory from it works as any other. The latter needs a machine with devices.

mod common;
#[path = "../../tests/common/skip.rs"]
#[allow(dead_code, reason = "one of its two ways to say it is for others")]
mod skip;

use common::House;
use nix::sys::signal::Signal;
use std::path::Path;

fn has_devices() -> bool {
    let open = |path: &str| std::fs::File::open(path).is_ok();
    open("/dev/dma_heap/system") || open("/dev/udmabuf")
}

#[test]
fn without_devices_there_is_nothing_to_broker() {
    let house = House::new();
    if !has_devices() {
        let told = house.run("broker").expect_code(1).stderr;
        for part in ["nothing to broker here", "CONFIG_DMABUF_HEAPS", "/dev/udmabuf"] {
            assert!(told.contains(part), "{told}");
        }
    }
    for words in ["broker --clients 0", "broker --total-mib x", "broker --access everybody"] {
        house.run(words).expect_code(2);
    }
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn without_a_broker_it_is_named() {
    let house = House::new();
    let produce = "produce cam --size 64x48 --count 1 --memory";
    house.run(&format!("{produce} broker:dma-heap")).expect_failure(1, "start `bips broker`");
    house.run(&format!("{produce} broker:flux")).expect_failure(2, "broker has nothing called \"flux\"");
    let told = house.run("doctor").stdout;
    assert!(told.contains("skip  broker: no broker answers in"), "{told}");
    house.run("doctor --require broker").expect_failure(1, "required but not working: broker");
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}

#[test]
fn produces_consumes_and_diagnoses_by_a_broker() {
    if !Path::new("/dev/dma_heap/system").exists() {
        return skip::without("dma-heap", "no dma-heap here: /dev/dma_heap/system is missing");
    }
    let house = House::new();
    let broker = house.start("broker --client-mib 64");
    let serves = || house.run("doctor --require broker").code == Some(0);
    let until = std::time::Instant::now() + common::LIMIT;
    while !serves() {
        assert!(std::time::Instant::now() < until, "the broker does not answer");
    }
    house.run("broker").expect_failure(1, "one is enough");
    let produce =
        house.start("produce cam --size 64x48 --count 20 --consumers 1 --memory broker:dma-heap --json");
    house.run("consume cam --count 20 --verify --wait 30").expect_code(0);
    assert_eq!(produce.end().expect_code(0).json()["memory"], "dma-heap");
    house
        .run("produce cam --size 4096x4096 --slots 8 --count 1 --memory broker:dma-heap")
        .expect_failure(1, "--client-mib");
    broker.signal(Signal::SIGTERM);
    let said = broker.end().expect_code(0).stdout;
    for part in [
        "broker in",
        "dma-heap:system",
        "of dma-heap",
        "refused: the broker gives no more",
        "ends; 0 buffers",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(house.left_behind().is_empty(), "{:?}", house.left_behind());
}
