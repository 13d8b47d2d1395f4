//! Consumers that say for whom they want the memory: served as their own trial shows, or refused at the door and remembered.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod common;

use bips::{Allocation, BackendInfo, DeviceTrial, Error, ErrorKind, Party, Registry, Result, Served, Usage};
use common::{Scratch, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// GPU 0 takes any memory, no other is there.
#[derive(Debug, Default)]
struct Gpus {
    /// Bytes of what was last tried.
    tried: AtomicU64,
}

impl DeviceTrial for Gpus {
    fn usage(&self) -> Usage {
        Usage::VULKAN
    }

    fn overrules(&self) -> bool {
        true
    }

    fn try_out(&self, party: &Party, memory: &BackendInfo, slot: &Allocation) -> Result<Served> {
        self.tried.store(slot.len, Relaxed);
        match party.number()? {
            0 => Ok(Served { by: format!("{} over the bus", memory.kind), far: true }),
            other => Err(Error::new(ErrorKind::Unsupported, format!("there is no GPU {other}"))),
        }
    }
}

/// Host memory alone.
fn memory() -> Registry {
    Registry::new().with(bips_backends::registry().get("memfd").unwrap())
}

fn parties(list: &str) -> Vec<Party> {
    Party::parse_list(list).unwrap()
}

#[test]
fn who_is_not_served_is_told_at_the_door_and_remembered() {
    let scratch = Scratch::new();
    let producer = scratch.producer("cam").memory("memfd").bytes(10_000).create().unwrap();
    let gpus = Arc::new(Gpus::default());
    let registry = memory().with_trial(gpus.clone());
    let consumer = || scratch.consumer("cam").registry(registry.clone());

    let served = consumer().wanted(parties("cpu,vulkan:0")).connect().unwrap();
    assert_eq!(gpus.tried.load(Relaxed), producer.slot_bytes(), "the stream's own memory was tried");
    let error = consumer().wanted(parties("vulkan:0,vulkan:3")).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let said = error.to_string();
    assert!(said.contains("does not serve vulkan:3: there is no GPU 3") && said.contains("--plan"), "{said}");
    // Nobody to ask: the kind's own word.
    let error = scratch.consumer("cam").wanted(parties("display")).connect().unwrap_err();
    assert!(error.to_string().contains("does not serve display"), "{error}");
    assert_eq!(producer.announced(), parties("cpu,vulkan:0,vulkan:3,display"));
    eventually("the refused ones are gone", || producer.stats().unwrap().consumers.len() == 1);
    drop(served);

    let many = parties(&"vulkan:1,".repeat(40));
    assert_eq!(consumer().wanted(many).connect().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// What was announced is what the next producer is made for.
#[test]
fn a_producer_is_planned_for_its_consumers() {
    let scratch = Scratch::new();
    let registry = memory().with_trial(Arc::new(Gpus::default()));
    let first =
        scratch.producer("cam").registry(registry.clone()).memory("auto").bytes(100).create().unwrap();
    let wants = |list| scratch.consumer("cam").registry(registry.clone()).wanted(parties(list)).connect();
    drop(wants("cpu-write,vulkan:0").unwrap());
    let announced = first.announced();
    drop(first);
    let make = |announced| {
        scratch
            .producer("cam")
            .registry(registry.clone())
            .memory("auto")
            .bytes(100)
            .parties(announced)
            .create()
    };
    let second = make(announced).unwrap();
    assert!(second.writable(), "one of them writes");
    drop(second);
    let error = make(parties("vulkan:9")).unwrap_err();
    assert!(error.to_string().contains("there is no GPU 9"), "{error}");
    assert!(Registry::new().plan("auto", &bips::Requirements::of(bips::Content::bytes(1).unwrap())).is_err());
}
