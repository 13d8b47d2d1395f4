//! What must be there and pass whole, and what else makes a run one that has failed.

use anyhow::{Result, bail};

use crate::cases::PRESENT;
use crate::inventory::{Device, families, family};
use crate::report::Outcome;
use crate::verdict::Verdict;

/// Names them, comma-separated.
pub(crate) const REQUIRE: &str = "BIPS_REQUIRE";

/// Devices or families of them. One that is misspelt would never be missed, so it is an error.
pub(crate) fn parse(list: &str) -> Result<Vec<String>> {
    let names: Vec<String> =
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if let Some(unknown) = names.iter().find(|name| families().all(|known| known != family(name))) {
        let known: Vec<_> = families().collect();
        bail!(
            "`{unknown}` is required, but is no device; there are: {}, each also with a name, like \
             dma-heap:system. ({REQUIRE} is read by `cargo xtask test` too, for which it names lanes; here \
             --require goes before it.)",
            known.join(", ")
        );
    }
    Ok(names)
}

/// Whether a requirement is about this device.
fn is_about(required: &str, device: &str) -> bool {
    required == device || required == family(device)
}

/// Whether this device must not be skipped. A family's name asks for its memory, not for every node beside it, which may
/// be for others.
pub(crate) fn applies(required: &[String], device: &Device) -> bool {
    let by_family = device.memory || !is_memory(&device.id);
    required.iter().any(|name| *name == device.id || by_family && name == device.family())
}

/// Why the run has failed, apart from single failures.
pub(crate) fn problems(outcomes: &[Outcome], required: &[String]) -> Vec<String> {
    let tried = |outcome: &&Outcome| outcome.case != PRESENT && !matches!(outcome.verdict, Verdict::Skip(_));
    let mut problems = Vec::new();
    if !outcomes.iter().any(|outcome| tried(&outcome)) {
        problems.push(
            "no case was run on any device: nothing is proven; see the reasons, and --list without --case and \
             --device"
                .to_owned(),
        );
    }
    for name in required {
        let of_family = |outcome: &&Outcome| family(&outcome.device) == family(name);
        if !outcomes.iter().any(|outcome| is_about(name, &outcome.device)) {
            problems
                .push(format!("{name} is required, but this machine has none, or --device leaves it out"));
        } else if is_memory(name) && !outcomes.iter().filter(of_family).any(|outcome| tried(&outcome)) {
            // A node that is no memory by its own name, like a render node, is the memory of its family.
            problems.push(format!(
                "{name} is required, but no case was run on it: see why it is skipped, whether --case leaves one, \
                 and with --list whether this build has its backend"
            ));
        }
    }
    problems
}

/// A camera holds no memory of its own: that it can be opened is all that can be required of it.
fn is_memory(name: &str) -> bool {
    bips_backends::KINDS.contains(&family(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(device: &str, case: &str, verdict: Verdict) -> Outcome {
        Outcome::of(device, case, verdict)
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_known_families() {
        assert_eq!(parse(" dma-heap, drm:card0,v4l2,").unwrap(), ["dma-heap", "drm:card0", "v4l2"]);
        assert!(parse("").unwrap().is_empty());
        let error = parse("dma_heap").unwrap_err().to_string();
        assert!(error.contains("`dma_heap`") && error.contains("udmabuf"), "{error}");
    }

    #[test]
    fn a_family_asks_for_its_memory_and_not_for_every_node() {
        let device = |id: &str, memory| {
            let state = crate::inventory::State::Present;
            Device { id: id.into(), about: String::new(), path: None, memory, state }
        };
        let required = list(&["drm", "v4l2", "dma-heap:system"]);
        for (id, memory, wanted) in [
            ("drm:card0", true, true),
            ("drm:renderD128", false, false),
            ("v4l2:video0", false, true),
            ("dma-heap:system", false, true),
            ("dma-heap:reserved", true, false),
        ] {
            assert_eq!(applies(&required, &device(id, memory)), wanted, "{id}");
        }
    }

    #[test]
    fn a_run_in_which_nothing_was_tried_has_failed() {
        let here = outcome("memfd", PRESENT, Verdict::Pass);
        let skipped = outcome("memfd", "a", Verdict::Skip("why".into()));
        assert_eq!(problems(&[], &[]).len(), 1);
        assert_eq!(problems(&[here.clone(), skipped], &[]).len(), 1);
        for verdict in [Verdict::Pass, Verdict::Fail("x".into()), Verdict::Xfail("x".into())] {
            assert!(problems(&[here.clone(), outcome("memfd", "a", verdict)], &[]).is_empty());
        }
    }

    #[test]
    fn a_required_device_must_have_been_tried() {
        let passed = |device| [outcome(device, PRESENT, Verdict::Pass), outcome(device, "a", Verdict::Pass)];
        let memfd = passed("memfd");
        let none = problems(&memfd, &list(&["dma-heap"]));
        assert!(none.len() == 1 && none[0].contains("dma-heap"), "{none:?}");
        for name in ["drm", "drm:card0"] {
            assert!(problems(&passed("drm:card0"), &list(&[name])).is_empty(), "{name}");
        }
        assert_eq!(problems(&passed("drm:card0"), &list(&["drm:card1"])).len(), 1);
        // A node alone is no memory.
        let node = [memfd.to_vec(), vec![outcome("drm:card0", PRESENT, Verdict::Pass)]].concat();
        for name in ["drm", "drm:card0"] {
            assert_eq!(problems(&node, &list(&[name])).len(), 1, "{name}");
        }
        // Beside memory of its family it is part of that.
        let beside = [passed("drm:card1").to_vec(), node].concat();
        assert!(problems(&beside, &list(&["drm", "drm:card0"])).is_empty());
        let camera = [memfd.to_vec(), vec![outcome("v4l2:video0", PRESENT, Verdict::Pass)]].concat();
        assert!(problems(&camera, &list(&["v4l2"])).is_empty());
    }
}
