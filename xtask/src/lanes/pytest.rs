//! The Python package's tests, in the environment of a purpose.

use std::fs;

use anyhow::{Context, Result};

use super::{Outcome, Skips};
use crate::python::{Environments, Purpose, hide_gpus};
use crate::step::shown_live;
use crate::workspace::Workspace;

/// Tests of a package that isn't installed skip themselves, so both lanes run the same folder.
pub(crate) fn run(workspace: &Workspace, purpose: Purpose, skips: &Skips) -> Result<Outcome> {
    let python = Environments::new(workspace)?.of(purpose)?;
    let report = workspace.target.join("logs").join(format!("pytest-{}.xml", python.name));
    let mut pytest = python.command();
    // Python puts the current folder in front of its own packages, and in `python/` that would be the
    // package's source without its compiled part. -P leaves it out, and so do the tests' own processes.
    pytest.args(["-P", "-m", "pytest", "-ra", "tests", "--junitxml"]).arg(&report);
    pytest.current_dir(workspace.root.join("python")).env("PYTHONSAFEPATH", "1");
    hide_gpus(&mut pytest);
    shown_live(&mut pytest)?;
    let report = fs::read_to_string(&report).with_context(|| format!("no {}", report.display()))?;
    for skip in skipped(&report) {
        if is_for_the_other_lane(purpose, &skip) {
            println!("for the other lane: {skip}");
        } else {
            skips.add(&skip)?;
        }
    }
    Ok(Outcome::Passed)
}

/// Whether it lacks what only the other lane's environment has. Nothing is left out in both.
fn is_for_the_other_lane(purpose: Purpose, skip: &str) -> bool {
    let absent: &[&str] = match purpose {
        Purpose::Core => &["torch", "jax", "tensorflow", "tvm_ffi"],
        Purpose::Frameworks => &["mypy"],
        Purpose::Lint | Purpose::Demo => &[],
    };
    absent.iter().any(|name| skip.contains(&format!("could not import '{name}': No module named '{name}'")))
}

/// What pytest's report in JUnit's format says was skipped: each with its place and reason.
fn skipped(report: &str) -> Vec<String> {
    let elements = report.split("<skipped ").skip(1);
    // A failure that is expected is written as a skip too.
    let skips = elements.filter(|element| !element.starts_with("type=\"pytest.xfail\""));
    skips
        .map(|element| {
            let text = element.split_once('>').map_or(element, |(_, text)| text);
            let text = text.split("</skipped>").next().unwrap_or_default().replace('\n', " ");
            text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As pytest 9 writes it.
    const REPORT: &str = r#"<testsuite skipped="3" tests="4"><testcase name="test_m"><skipped message="collection skipped">('/t/test_m.py', 2, "Skipped: could not import 'jax': No module named 'jax'")</skipped>
</testcase><testcase name="test_b"><skipped type="pytest.skip" message="no &lt;root&gt;">/t/test_a.py:2: no &lt;root&gt;
</skipped></testcase><testcase name="test_c"><skipped type="pytest.xfail" message="" /></testcase>
<testcase name="test_d" /></testsuite>"#;

    #[test]
    fn skips_are_found_in_the_report() {
        let skips = skipped(REPORT);
        assert_eq!(skips.len(), 2, "{skips:?}");
        assert!(skips[0].starts_with("('/t/test_m.py', 2, \"Skipped: could not import 'jax'"), "{skips:?}");
        assert_eq!(skips[1].trim(), "/t/test_a.py:2: no <root>");
        assert!(
            skipped("<testsuite skipped=\"0\" tests=\"1\"><testcase name=\"a\" /></testsuite>").is_empty()
        );
    }

    #[test]
    fn each_lane_may_lack_what_the_other_has_and_no_more() {
        let lacks = |name: &str| format!("could not import '{name}': No module named '{name}'");
        assert!(is_for_the_other_lane(Purpose::Core, &lacks("jax")));
        assert!(!is_for_the_other_lane(Purpose::Core, &lacks("numpy")));
        assert!(!is_for_the_other_lane(Purpose::Frameworks, &lacks("jax")));
        assert!(is_for_the_other_lane(Purpose::Frameworks, &lacks("mypy")));
        let broken = "could not import 'torch': No module named 'sympy'";
        assert!(!is_for_the_other_lane(Purpose::Core, broken), "installed, but broken");
    }
}
