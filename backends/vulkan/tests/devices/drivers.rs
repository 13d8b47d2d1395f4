//! Which drivers there are: none, another, several.

use crate::{consumer, here, in_role, producer, said};
use bips::{Backend, Content, Registry, Requirements, Usage};
use bips_vulkan::{Vulkan, VulkanTrial, adapters};
use std::path::Path;
use std::sync::Arc;

const DRIVERS: [&str; 2] = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"];
/// Where lane `vulkan` has a second driver.
const OTHER: &str = "BIPS_TEST_OTHER_DRIVER";

/// The child's part: prints why it has no memory.
pub(crate) fn plan() {
    let content = Content::bytes(4096).unwrap();
    let wanted = Requirements { slots: 2, usage: Usage::VULKAN, ..Requirements::of(content) };
    println!("told: {}", Vulkan::new().plan(&wanted).unwrap_err());
}

/// The child's part: prints why it can't open the stream.
pub(crate) fn refused(directory: &Path) {
    println!("told: {}", consumer(directory).connect().unwrap_err());
}

#[test]
fn without_a_driver_the_next_step_is_told() {
    let mut child = in_role("plan", Path::new("/"));
    for variable in DRIVERS {
        child.env(variable, "/nowhere/icd.json");
    }
    let output = child.output().unwrap();
    let said = said(&output);
    assert!(output.status.success() && said.contains("told: there is "), "{said}");
    assert!(said.contains("install"), "{said}");
}

/// Its handle would be another file to it, of another size.
#[test]
fn another_driver_is_told_that_it_is_another() {
    let Some(backend) = here() else { return };
    let Some(other) = std::env::var_os(OTHER) else {
        return bips_conformance::left_out(
            &["vulkan"],
            "there is no second driver (cargo xtask test vulkan)",
        );
    };
    let scratch = tempfile::tempdir().unwrap();
    let _producer = producer(&backend, scratch.path()).create().unwrap();
    let mut child = in_role("refused", scratch.path());
    for variable in DRIVERS {
        child.env(variable, &other);
    }
    let output = child.output().unwrap();
    let said = said(&output);
    assert!(output.status.success() && said.contains("the stream lies in memory of"), "{said}");
    // With both it finds the right one, wherever it stands in the list.
    let mine = std::env::var_os(DRIVERS[0]).unwrap();
    for both in [[mine.clone(), other.clone()], [other, mine]] {
        let mut child = in_role("refused", scratch.path());
        let both = both.join(std::ffi::OsStr::new(":"));
        child.env(DRIVERS[0], &both).env(DRIVERS[1], &both);
        let said = crate::said(&child.output().unwrap());
        assert!(said.contains("called `Result::unwrap_err()` on an `Ok` value"), "{said}");
    }
}

#[test]
fn devices_have_numbers() {
    if here().is_none() {
        return;
    }
    let there = adapters().unwrap();
    for adapter in &there {
        let kind = format!("vulkan:{}", adapter.index);
        let backend = Vulkan::new().with_source(&adapter.index.to_string()).unwrap();
        assert_eq!(backend.info().kind, kind);
        assert_eq!(backend.capabilities().allocate, adapter.can_share().is_ok());
        if adapter.can_share().is_ok() {
            let info = backend.info();
            assert_eq!((info.device, &info.description), (adapter.device, &format!("memory of {adapter}")));
        }
    }
    let error = Vulkan::numbered(99).device().unwrap_err().to_string();
    assert!(error.contains("there is no Vulkan device 99; there are: vulkan:0 ("), "{error}");
    for name in ["", "x", "-1", "100", "0x1", "18446744073709551616"] {
        assert!(Vulkan::new().with_source(name).is_none(), "{name}");
    }
}

/// What is chosen is what the device did, not what a driver lists.
#[test]
fn the_plan_asks_the_device() {
    if here().is_none() {
        return;
    }
    let registry = Registry::new()
        .with(Arc::new(bips_memfd::Memfd::new()))
        .with(Arc::new(Vulkan::new()))
        .with_trial(Arc::new(VulkanTrial::new()));
    let wanted = |party: &str| Requirements {
        parties: vec![party.parse().unwrap()],
        ..Requirements::of(Content::bytes(100_000).unwrap())
    };
    for party in ["vulkan", "vulkan:0"] {
        let planned = registry.plan("auto", &wanted(party)).unwrap();
        let (kind, by) = (planned.backend.info().kind.clone(), planned.uses[1].1.by.clone());
        // Which of them takes host memory: see `a_memfd_stream_is_the_devices_too`.
        let expected = if by.contains("SwiftShader") { "vulkan" } else { "memfd" };
        assert_eq!(kind, expected, "{by}");
        assert!(registry.plan("vulkan", &wanted(party)).unwrap().uses[1].1.by.contains("its own memory"));
    }
    let survey = registry.survey(&wanted("vulkan:99"));
    assert!(survey.able.is_empty() && survey.refused.len() == 2, "{survey}");
    assert!(survey.to_string().contains("there is no Vulkan device 99; there are: vulkan:0 ("), "{survey}");
}
