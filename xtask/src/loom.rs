//! loom over the signaler's real code, and the counter-proof: with any one ordering weakened loom must object.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
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
    let count = list.len();
    println!("orderings to weaken, one at a time: {count}; loom must object to every one");
    list.reverse();
    let (queue, missed) = (Mutex::new(list), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(one) = lock(&queue).pop() {
                    let started = Instant::now();
                    let result = must_fail(&binary, &one, Duration::from_secs(options.limit));
                    let seconds = started.elapsed().as_secs_f64();
                    match result {
                        Ok(()) => println!("  ok  {} found by {} ({seconds:.1} s)", one.name, one.test),
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

/// Ok if the test, run with the weakened ordering, failed as a test fails.
fn must_fail(binary: &PathBuf, one: &Weakening, limit: Duration) -> Result<()> {
    let mut command = Command::new(binary);
    command.args([one.test.as_str(), "--exact"]).env(WEAKEN, &one.name).env_remove(LIST);
    // Its report goes nowhere: a failure is what we came for, and a pass says enough by itself.
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return match (status.code(), status.signal()) {
                (Some(TEST_FAILED), _) | (_, Some(SIGABRT)) => Ok(()),
                (Some(0), _) => bail!("the test passed (or there is none of this name)"),
                _ => bail!("the test program ended with {status}, which is no failed test"),
            };
        }
        if started.elapsed() > limit {
            end(&mut child);
            bail!("no verdict within {} s", limit.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
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
}
