//! Memory kinds: what an attempt to allocate says of a device.

use super::{Device, State, family};
use serde::{Deserialize, Serialize};

/// A memory kind of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kind {
    pub(crate) id: String,
    pub(crate) about: String,
}

/// How an attempt to allocate there came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attempt {
    Works,
    /// The backend's own words.
    Refused {
        kind: String,
        message: String,
    },
    /// The process that tried did not come to an answer.
    Crashed(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Probed {
    pub(crate) kind: Kind,
    pub(crate) attempt: Attempt,
}

/// The device, with what is known of its nodes.
pub(super) fn device(probed: Probed, found: &[Device]) -> Device {
    let Probed { kind, attempt } = probed;
    let own = found.iter().find(|node| node.id == kind.id);
    let about = match own {
        Some(node) if !node.about.is_empty() => format!("{}; {}", kind.about, node.about),
        _ => kind.about,
    };
    let state = state(&kind.id, attempt, found);
    Device { id: kind.id, about, path: own.and_then(|node| node.path.clone()), memory: true, state }
}

fn state(id: &str, attempt: Attempt, found: &[Device]) -> State {
    let (kind, message) = match attempt {
        Attempt::Works => return State::Present,
        Attempt::Crashed(how) => return State::Broken(format!("an attempt to allocate: {how}")),
        Attempt::Refused { kind, message } => (kind, message),
    };
    let absent = |node: &&Device| matches!(node.state, State::Absent(_));
    let nodes: Vec<_> = nodes_of(id, found).collect();
    match kind.as_str() {
        // The backend's word that this is no machine for it.
        "unsupported" | "not-found" => State::Absent(message),
        // Nothing is there that could be broken.
        _ if !nodes.is_empty() && nodes.iter().all(absent) => State::Absent(message),
        "access-denied" => State::Denied(message),
        _ => State::Broken(message),
    }
}

/// GBM allocates through DRM's nodes.
fn nodes_of<'a>(id: &str, found: &'a [Device]) -> impl Iterator<Item = &'a Device> {
    let family = match family(id) {
        "gbm" => "drm".to_owned(),
        family => family.to_owned(),
    };
    found.iter().filter(move |node| node.family() == family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str) -> Attempt {
        Attempt::Refused { kind: kind.into(), message: "the reason".into() }
    }

    fn node(id: &str, state: State) -> Device {
        Device { id: id.into(), about: String::new(), path: None, memory: false, state }
    }

    #[test]
    fn a_device_that_is_there_and_gives_no_memory_is_broken() {
        let there = [node("dma-heap:system", State::Present)];
        let gone = [Device::absent("dma-heap", "no such folder")];
        let reason = || "the reason".to_owned();
        assert_eq!(state("dma-heap", Attempt::Works, &gone), State::Present);
        assert_eq!(state("dma-heap", refused("system"), &there), State::Broken(reason()));
        assert_eq!(state("dma-heap", refused("out-of-memory"), &there), State::Broken(reason()));
        assert_eq!(state("dma-heap", refused("system"), &gone), State::Absent(reason()));
        assert_eq!(state("dma-heap", refused("unsupported"), &there), State::Absent(reason()));
        assert_eq!(state("dma-heap", refused("access-denied"), &there), State::Denied(reason()));
        assert_eq!(
            state("gbm", refused("system"), &[Device::absent("drm", "none")]),
            State::Absent(reason())
        );
    }

    #[test]
    fn memory_without_any_node_is_always_there() {
        assert_eq!(state("memfd", refused("system"), &[]), State::Broken("the reason".into()));
    }

    #[test]
    fn a_driver_that_kills_who_asks_is_broken() {
        let crashed = Attempt::Crashed("killed by SIGSEGV".into());
        assert!(
            matches!(state("udmabuf", crashed, &[]), State::Broken(why) if why.ends_with("killed by SIGSEGV"))
        );
    }
}
