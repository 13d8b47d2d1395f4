//! The program as a CI server calls it, on this machine's memfd.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

struct Run {
    out: tempfile::TempDir,
    command: Command,
}

impl Run {
    fn new(arguments: &[&str]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bips-hw-tests"));
        command.arg("--out").arg(out.path()).args(arguments);
        // What it is told by must come from the test alone.
        command.env_remove("BIPS_REQUIRE").env_remove("BIPS_SKIPS");
        Self { out, command }
    }

    /// The exit code must be this one.
    #[track_caller]
    fn ends(&mut self, code: i32) -> Output {
        let output = self.command.output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    fn json(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.out.path().join("results.json")).unwrap()).unwrap()
    }
}

/// Verdict and reason by case, of one device.
fn verdicts(json: &Value, device: &str) -> BTreeMap<String, (String, String)> {
    let text = |outcome: &Value, key: &str| outcome[key].as_str().unwrap_or_default().to_owned();
    let results = json["results"].as_array().unwrap().iter();
    results
        .filter(|outcome| outcome["device"] == device)
        .map(|outcome| (text(outcome, "case"), (text(outcome, "verdict"), text(outcome, "reason"))))
        .collect()
}

fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn memfd_passes_whole() {
    let mut run = Run::new(&["--device", "memfd"]);
    run.command.env("BIPS_REQUIRE", "memfd");
    run.ends(0);
    let json = run.json();
    let memfd = verdicts(&json, "memfd");
    for case in
        ["present", "frames_reach_another_process", "a_consumer_that_writes_dies_alone", "found_by_its_name"]
    {
        assert_eq!(memfd[case].0, "pass", "{case}: {memfd:?}");
    }
    assert!(memfd.len() > 15 && memfd.values().all(|(verdict, _)| verdict == "pass"), "{memfd:?}");
    assert_eq!(json["counts"]["pass"].as_u64(), Some(memfd.len() as u64));
    assert_eq!(json["ok"], true);
    let xml = fs::read_to_string(run.out.path().join("junit.xml")).unwrap();
    let junit = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((junit.tests, junit.failures, junit.test_suites.len()), (memfd.len(), 0, 1));
}

#[test]
fn a_case_that_crashes_or_hangs_is_one_failure_and_the_run_goes_on() {
    let mut run = Run::new(&["--device", "memfd", "--case", "mischief_*", "--timeout", "2"]);
    run.command.env("BIPS_HW_MISCHIEF", "cases");
    run.ends(1);
    let json = run.json();
    let memfd = verdicts(&json, "memfd");
    for (case, verdict, reason) in [
        ("mischief_panics", "fail", "what was read is not what was written"),
        ("mischief_segfaults", "fail", "killed by SIGSEGV"),
        ("mischief_is_killed", "fail", "killed by SIGKILL, which was not sent from here"),
        ("mischief_hangs", "fail", "took longer than 2 s"),
        ("mischief_skips", "skip", "there is no second display"),
        ("mischief_passes", "pass", ""),
    ] {
        let (is, why) = &memfd[case];
        assert!(is == verdict && why.contains(reason), "{case}: {is}, {why}");
    }
    let signals: Vec<_> =
        json["results"].as_array().unwrap().iter().filter_map(|it| it["signal"].as_str()).collect();
    assert_eq!(signals, ["SIGSEGV", "SIGKILL"]);
    let log =
        |case: &str| fs::read_to_string(run.out.path().join(format!("logs/memfd--{case}.log"))).unwrap();
    assert_eq!(log("mischief_passes"), "1000\n", "the case goes first when memory runs out, not the run");
    let said = log("mischief_hangs");
    let child = said.trim().strip_prefix("child ").expect("what a case says is kept").to_owned();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while alive(&child) {
        assert!(std::time::Instant::now() < until, "the child of a case that hung lives on: {child}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_driver_that_crashes_the_inventory_is_in_the_report() {
    let mut run = Run::new(&["--device", "memfd"]);
    run.command.env("BIPS_HW_MISCHIEF", "probe");
    run.ends(1);
    let memfd = verdicts(&run.json(), "memfd");
    assert!(memfd.len() == 1 && memfd["present"].0 == "fail", "{memfd:?}");
    assert!(memfd["present"].1.contains("killed by SIGSEGV"), "{memfd:?}");

    let mut run = Run::new(&["--device", "memfd"]);
    run.command.env("BIPS_HW_MISCHIEF", "kinds");
    run.ends(1);
    let problems = run.json()["problems"].to_string();
    assert!(problems.contains("could not be listed: killed by SIGSEGV"), "{problems}");
}

fn known(folder: &Path, case: &str) -> String {
    let file = folder.join("known.toml");
    let entry =
        format!("[[known]]\ncase = \"{case}\"\ndevice = \"mem*\"\nreason = \"bug 7\"\nuntil = 2999-12-31\n");
    fs::write(&file, entry).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn known_failures_are_excused_and_unexpected_passes_are_not() {
    let folder = tempfile::tempdir().unwrap();
    for (case, code, verdict) in [("mischief_panics", 0, "xfail"), ("mischief_passes", 1, "xpass")] {
        let mut run =
            Run::new(&["--device", "memfd", "--case", case, "--known", &known(folder.path(), case)]);
        run.command.env("BIPS_HW_MISCHIEF", "cases");
        run.ends(code);
        assert_eq!(verdicts(&run.json(), "memfd")[case].0, verdict);
    }
    let known = known(folder.path(), "no_such_case");
    let output = Run::new(&["--known", &known]).ends(2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no_such_case"));
}

#[test]
fn a_run_of_nothing_has_failed() {
    let output = Run::new(&["--device", "memfd", "--case", "present"]).ends(1);
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing is proven"));
}

#[test]
fn what_is_required_must_be_there() {
    // Of a name that no machine has.
    let mut run = Run::new(&["--device", "memfd", "--case", "introduces_itself"]);
    run.command.env("BIPS_REQUIRE", "memfd,dma-heap:none-has-this-name");
    run.ends(1);
    let json = run.json();
    assert!(json["problems"][0].as_str().unwrap().contains("none-has-this-name"), "{json}");
    // A skip within it is a failure too.
    let mut run = Run::new(&["--device", "memfd", "--case", "mischief_[ps]*s", "--require", "memfd"]);
    run.command.env("BIPS_HW_MISCHIEF", "cases").env("BIPS_REQUIRE", "no_such_device");
    run.ends(1);
    let (verdict, why) = &verdicts(&run.json(), "memfd")["mischief_skips"];
    assert!(verdict == "fail" && why.starts_with("required, but"), "{verdict}: {why}");
    // A slip of the pen.
    let output = Run::new(&["--require", "dma_heap"]).ends(2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("udmabuf"));
}

#[test]
fn the_list_has_all_and_runs_nothing() {
    let mut run = Run::new(&["--list", "--json"]);
    let listed: Value = serde_json::from_slice(&run.ends(0).stdout).unwrap();
    let device = |id: &str| listed["devices"].as_array().unwrap().iter().find(|it| it["id"] == id).cloned();
    assert_eq!(device("memfd").unwrap()["state"], "present");
    let mut heaps = listed["devices"].as_array().unwrap().iter().filter_map(|it| it["id"].as_str());
    assert!(heaps.any(|id| id.starts_with("dma-heap")), "there or with a reason: {listed}");
    assert!(listed["cases"].as_array().unwrap().contains(&"imports_what_it_exports".into()));
    assert!(!run.out.path().join("results.json").exists());
}

#[test]
fn json_is_all_that_programs_read() {
    let mut run = Run::new(&["--device", "memfd", "--case", "introduces_itself", "--json"]);
    let printed: Value = serde_json::from_slice(&run.ends(0).stdout).unwrap();
    assert_eq!(printed, run.json());
}

#[test]
fn a_filter_that_nothing_passes_is_misspelt() {
    for (option, there) in [("--device", "memfd"), ("--case", "imports_what_it_exports")] {
        let output = Run::new(&["--device", "memfd", option, "nope"]).ends(2);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(&format!("{option} 'nope' matches none of: ")) && said.contains(there),
            "{said}"
        );
    }
}
