//! Which devices this machine has, which of them are memory, and why the others are not there.

mod memory;
mod nodes;

pub(crate) use memory::{Attempt, Kind, Probed};
pub(crate) use nodes::Tree;

use bips_backends::KINDS;
use serde::Serialize;
use std::path::PathBuf;

/// Something to try cases on, or to say why not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Device {
    /// As `memory=` takes it where it is memory: `memfd`, `dma-heap:system`, `drm:card0`.
    pub(crate) id: String,
    /// The driver, or what else tells it from its like.
    pub(crate) about: String,
    /// Its node, or the file by which it was found.
    pub(crate) path: Option<PathBuf>,
    /// Whether this build has a backend that is tried on it.
    pub(crate) memory: bool,
    #[serde(flatten)]
    pub(crate) state: State,
}

/// Whether it can be tried, and if not, why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub(crate) enum State {
    Present,
    /// This machine has none.
    Absent(String),
    /// It is there for others.
    Denied(String),
    /// It is there and does not do what it is there for.
    Broken(String),
}

impl Device {
    /// What it is without which of them: `dma-heap` of `dma-heap:system`.
    pub(crate) fn family(&self) -> &str {
        family(&self.id)
    }

    /// Whether a process has to open its node to know that it works.
    pub(crate) fn is_node(&self) -> bool {
        !self.memory && self.path.as_ref().is_some_and(|path| path.starts_with("/dev"))
    }

    fn absent(id: &str, why: impl Into<String>) -> Self {
        let state = State::Absent(why.into());
        Self { id: id.to_owned(), about: String::new(), path: None, memory: false, state }
    }
}

pub(crate) fn family(id: &str) -> &str {
    id.split_once(':').map_or(id, |(family, _)| family)
}

/// Every family that can be required.
pub(crate) fn families() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().chain([nodes::VIDEO])
}

/// Memory first, in the registry's order; then what was found by its files alone; then kinds of other builds.
pub(crate) fn merge(found: Vec<Device>, kinds: Vec<Probed>) -> Vec<Device> {
    let mut devices: Vec<Device> = kinds.into_iter().map(|probed| memory::device(probed, &found)).collect();
    for device in found {
        if devices.iter().all(|known| known.id != device.id) {
            devices.push(device);
        }
    }
    for kind in KINDS {
        if devices.iter().all(|known| known.family() != kind) {
            devices.push(Device::absent(kind, "this build of bips has no backend for it"));
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(id: &str, attempt: Attempt) -> Probed {
        Probed { kind: Kind { id: id.into(), about: "of a test".into() }, attempt }
    }

    fn node(id: &str, state: State) -> Device {
        let path = Some(PathBuf::from("/dev/dri/card0"));
        Device { id: id.into(), about: "vgem".into(), path, memory: false, state }
    }

    #[test]
    fn memory_that_has_a_node_is_one_device() {
        let found = vec![node("drm:card0", State::Present), node("drm:renderD128", State::Present)];
        let devices =
            merge(found, vec![probed("memfd", Attempt::Works), probed("drm:card0", Attempt::Works)]);
        let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
        assert_eq!(ids[..3], ["memfd", "drm:card0", "drm:renderD128"]);
        let card = &devices[1];
        assert!(card.memory && card.state == State::Present && !card.is_node());
        assert_eq!((card.about.as_str(), card.path.is_some()), ("of a test; vgem", true));
        assert!(devices[2].is_node());
    }

    #[test]
    fn every_kind_is_there_or_has_a_reason() {
        let devices = merge(Vec::new(), vec![probed("memfd", Attempt::Works)]);
        for kind in KINDS {
            let device = devices.iter().find(|device| device.family() == kind).expect(kind);
            match &device.state {
                State::Present => assert_eq!(kind, "memfd"),
                State::Absent(why) => assert!(why.contains("no backend"), "{why}"),
                other => panic!("{kind}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_device_says_its_state_in_json() {
        let json = serde_json::to_value(node("drm:card0", State::Denied("not yours".into()))).unwrap();
        assert_eq!((json["state"].as_str(), json["reason"].as_str()), (Some("denied"), Some("not yours")));
        let json = serde_json::to_value(node("drm:card0", State::Present)).unwrap();
        assert_eq!((json["state"].as_str(), json.get("reason")), (Some("present"), None));
    }
}
