//! loom over the signaler's real code, and the counter-proof: with any one ordering weakened loom must object.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::step::{output_of, shown_live};
use crate::workspace::Workspace;

/// Names the ordering that the code under test shall weaken.
const WEAKEN: &str = "BIPS_WEAK";
/// Makes the test `loom_weak_list` print a line `WEAK NAME TEST` for each that there is.
const LIST: &str = "BIPS_WEAK_LIST";
const LIST_TEST: &str = "loom_weak_list";
/// libtest's exit code for "a test failed", as opposed to wrong use of it.
const TEST_FAILED: i32 = 101;
/// A panic that unwinds into a second one ends like this.
const SIGABRT: i32 = 6;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a weakened ordering may break: in the words of loom or of `src/signaler/models.rs`, and in one of ours. A
/// model that fails in other words has not found what it is for.
const FINDINGS: [(&str, &str); 9] = [
    ("Causality violation: Concurrent", "causality"),
    ("deadlock; threads = ", "deadlock"),
    ("the entry is torn", "torn entry"),
    ("the description is torn", "torn description"),
    ("the frame is torn", "torn frame"),
    ("a frame came out of order", "order"),
    ("a frame published before the end was lost", "lost frame"),
    ("a slot did not come back", "lost slot"),
    ("an honest seat was taken for a liar", "false accusation"),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Weaken each ordering in turn instead, and demand that loom finds the fault
    #[arg(long)]
    weaken: bool,
    /// With --weaken: only orderings whose name contains this
    #[arg(long, requires = "weaken")]
    only: Option<String>,
    /// With --weaken: the seconds in which loom must have found it
    #[arg(long, default_value_t = 300, requires = "weaken")]
    limit: u64,
    /// With --weaken: how many at once
    #[arg(long, default_value_t = 2, requires = "weaken", value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

impl Options {
    pub(crate) fn plain() -> Self {
        Self { weaken: false, only: None, limit: 300, jobs: 2 }
    }

    pub(crate) fn weakened() -> Self {
        Self { weaken: true, ..Self::plain() }
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.weaken {
        weaken(workspace, options)
    } else {
        shown_live(&mut cargo_test(workspace, &["loom"]))
    }
}

/// Optimised, or the search takes ten times as long; apart, because the flag changes every crate.
fn cargo_test(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = workspace.cargo(["test", "--release", "--lib", "--package", "bips"]);
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.args(arguments).env("RUSTFLAGS", format!("{flags} --cfg bips_loom").trim());
    command.env("CARGO_TARGET_DIR", workspace.target.join("loom")).env_remove(WEAKEN).env_remove(LIST);
    command
}

struct Weakening {
    name: String,
    test: String,
}

fn weaken(workspace: &Workspace, options: &Options) -> Result<()> {
    let binary = test_binary(workspace)?;
    let mut list =
        output_of(Command::new(&binary).args([LIST_TEST, "--nocapture", "--test-threads=1"]).env(LIST, "1"))
            .map(|text| parse_list(&text))?;
    if list.is_empty() {
        bail!("the test `{LIST_TEST}` of {} names no ordering to weaken", binary.display());
    }
    if let Some(part) = &options.only {
        list.retain(|one| one.name.contains(part.as_str()));
        if list.is_empty() {
            bail!("no ordering's name contains `{part}`; leave --only out to see them all");
        }
    }
    let limit = Duration::from_secs(options.limit);
    for test in list.iter().map(|one| one.test.as_str()).collect::<BTreeSet<_>>() {
        must_pass(workspace, &binary, test, limit)?;
    }
    let count = list.len();
    println!("orderings to weaken, one at a time: {count}; loom must object to every one");
    list.reverse();
    let (queue, missed) = (Mutex::new(list), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(one) = lock(&queue).pop() {
                    let started = Instant::now();
                    let result = must_fail(workspace, &binary, &one, limit);
                    let seconds = started.elapsed().as_secs_f64();
                    match result {
                        Ok(found) => {
                            println!("  ok  {} found by {}: {found} ({seconds:.1} s)", one.name, one.test);
                        }
                        Err(reason) => {
                            println!(
                                "  NO  {} not found by {}: {reason:#} ({seconds:.1} s)",
                                one.name, one.test
                            );
                            lock(&missed).push(one.name);
                        }
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap_or_default();
    println!("weakened orderings: {} passed, {} failed", count - missed.len(), missed.len());
    if !missed.is_empty() {
        bail!("loom did not object when these were weakened: {}", missed.join(", "));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Builds the tests and asks cargo where it put them.
fn test_binary(workspace: &Workspace) -> Result<PathBuf> {
    let messages =
        output_of(&mut cargo_test(workspace, &["--no-run", "--message-format=json-render-diagnostics"]))?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built no test program for the library of `bips`")
}

/// The harness may put its own words before ours on a line.
fn parse_list(text: &str) -> Vec<Weakening> {
    let entry = |line: &str| {
        let mut words = line[line.find("WEAK ")?..].split_whitespace().skip(1);
        Some(Weakening { name: words.next()?.to_owned(), test: words.next()?.to_owned() })
    };
    text.lines().filter_map(entry).collect()
}

/// The model as it stands. One that fails anyway would seem to find everything.
fn must_pass(workspace: &Workspace, binary: &Path, test: &str, limit: Duration) -> Result<()> {
    let log = workspace.log(&format!("loom-{}", test.replace("::", "-")));
    let (status, said) = run_one(binary, test, None, limit, &log).with_context(|| test.to_owned())?;
    if !status.success() || !said.contains("1 passed") {
        bail!("{test} does not pass with every ordering in place, so it proves nothing: {}", log.display());
    }
    Ok(())
}

/// What the test, run with the weakened ordering, found broken.
fn must_fail(workspace: &Workspace, binary: &Path, one: &Weakening, limit: Duration) -> Result<&'static str> {
    let log = workspace.log(&format!("loom-weak-{}", one.name));
    let (status, said) = run_one(binary, &one.test, Some(&one.name), limit, &log)?;
    match (status.code(), status.signal()) {
        (Some(TEST_FAILED), _) | (_, Some(SIGABRT)) => finding(&said)
            .with_context(|| format!("it failed of something else than it looks for: {}", log.display())),
        (Some(0), _) => bail!("the test passed"),
        _ => bail!("the test program ended with {status}, which is no failed test: {}", log.display()),
    }
}

/// Runs one test to its end, and gives what it said, which the log keeps.
fn run_one(
    binary: &Path,
    test: &str,
    weak: Option<&str>,
    limit: Duration,
    log: &Path,
) -> Result<(ExitStatus, String)> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let out = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(binary);
    // What the harness captures is lost when a panic unwinds into a second one.
    command.args([test, "--exact", "--nocapture"]).env_remove(LIST).env_remove(WEAKEN);
    command.envs(weak.map(|name| (WEAKEN, name))).env("RUST_BACKTRACE", "0");
    let mut child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, String::from_utf8_lossy(&fs::read(log)?).into_owned()));
        }
        if started.elapsed() > limit {
            end(&mut child);
            bail!("no verdict within {} s", limit.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The first panic decides: those after it come of unwinding.
fn finding(said: &str) -> Option<&'static str> {
    let mut lines = said.lines().skip_while(|line| !line.contains(" panicked at ")).skip(1);
    let message = lines.next()?;
    FINDINGS.iter().find(|(words, _)| message.contains(words)).map(|(_, found)| *found)
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_from_between_the_words_of_the_harness() {
        let text = "running 1 test\ntest signaler::loom_weak_list ... WEAK P4 signaler::loom_publish\n\
                    WEAK C2 signaler::loom_receive\nok\n\ntest result: ok. 1 passed; 0 failed\n";
        let list: Vec<_> = parse_list(text).into_iter().map(|one| (one.name, one.test)).collect();
        let expected = [("P4", "signaler::loom_publish"), ("C2", "signaler::loom_receive")];
        assert_eq!(list, expected.map(|(name, test)| (name.to_owned(), test.to_owned())));
    }

    /// As std and loom 0.7 write it.
    fn panicked(place: &str, message: &str) -> String {
        format!(
            "\nrunning 1 test\n\nthread 'a::loom_b' (15928) panicked at {place}:\n{message}\nnote: run with\n"
        )
    }

    #[test]
    fn a_failure_is_known_by_its_words() {
        for (message, expected) in [
            (
                "assertion `left == right` failed: the entry is torn\n  left: 0\n right: 500",
                Some("torn entry"),
            ),
            ("Causality violation: Concurrent read and write accesses to `UnsafeCell`.\n", Some("causality")),
            ("deadlock; threads = [(Id(0), Blocked(Location(None))), (Id(1), Terminated)]", Some("deadlock")),
            ("Model exceeded maximum number of branches.", None),
            ("called `Result::unwrap()` on an `Err` value: the frame is odd", None),
        ] {
            assert_eq!(finding(&panicked("src/signaler/models.rs:76:9", message)), expected, "{message}");
        }
    }

    #[test]
    fn the_first_panic_counts() {
        let [torn, other] = ["the frame is torn", "called `Option::unwrap()` on a `None` value"]
            .map(|message| panicked("rt/thread.rs:276:39", message));
        assert_eq!(finding(&format!("{torn}{other}")), Some("torn frame"));
        assert_eq!(finding(&format!("{other}{torn}")), None);
        assert_eq!(finding("the frame is torn, says a test that passed"), None);
    }

    /// Words that the models no longer say would be missed only when they are needed.
    #[test]
    fn the_models_say_these_words() {
        let models = include_str!("../../src/signaler/models.rs");
        let of_loom = ["Causality violation: Concurrent", "deadlock; threads = "];
        for (words, _) in FINDINGS.iter().filter(|(words, _)| !of_loom.contains(words)) {
            assert!(models.contains(words), "{words}");
        }
    }
}
