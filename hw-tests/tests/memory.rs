//! A case for which memory runs out, really: in a control group of its own.

#[path = "../../tests/common/mod.rs"]
mod common;

use common::group::Group;
use std::process::Command;

#[test]
fn the_kernel_takes_the_case_and_leaves_the_run() {
    let Some(group) = Group::make("hw", 64 << 20) else { return };
    let out = tempfile::tempdir().unwrap();
    // The shell joins the group before it becomes the program.
    let mut run = Command::new("sh");
    run.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&group.path);
    run.arg(env!("CARGO_BIN_EXE_bips-hw-tests")).arg("--out").arg(out.path());
    run.args(["--device", "memfd", "--case", "mischief*", "--require", ""]);
    let ended = run.env("BIPS_HW_MISCHIEF", "memory").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    let json = std::fs::read_to_string(out.path().join("results.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let results = json["results"].as_array().unwrap();
    let of = |case: &str| results.iter().find(|it| it["case"] == case).unwrap();
    let taken = of("mischief_takes_all_memory");
    assert_eq!(
        (taken["verdict"].as_str(), taken["signal"].as_str()),
        (Some("fail"), Some("SIGKILL")),
        "{said}"
    );
    assert!(taken["reason"].as_str().unwrap().contains("oom-kill"), "{taken}");
    assert_eq!(of("mischief_comes_afterwards")["verdict"], "pass", "{said}");
}
