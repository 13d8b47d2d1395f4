//! `cargo xtask fuzz`: the parsers of what comes from outside, under libFuzzer with the address sanitizer.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::step::{Progress, logged, output_of, shown_live, tail};
use crate::workspace::{Workspace, on_path};

/// Builds with the flags that coverage and the sanitizer need.
const CARGO_FUZZ: &str = "0.13.2";
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A case that takes this long, in seconds, is a parser that doesn't end.
const HANGS_AFTER: u32 = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these parsers; each is a file in fuzz/targets
    targets: Vec<String>,
    /// Cases to try, over all parsers together
    #[arg(long, default_value_t = 10_000_000)]
    cases: u64,
    /// Try the cases of an earlier run again, which printed this number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    seed: Option<u32>,
    /// Try the input in this file, and no other
    #[arg(long)]
    input: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let targets = chosen(&all_targets(workspace)?, &options.targets)?;
    if options.input.is_some() && targets.len() != 1 {
        bail!("say which parser shall read the input: cargo xtask fuzz TARGET --input PATH");
    }
    let fuzzer = Fuzzer::build(workspace)?;
    if let Some(input) = &options.input {
        return shown_live(Command::new(fuzzer.program(&targets[0])).arg(input));
    }
    fuzzer.seeds(workspace)?;
    let cases = options.cases.div_ceil(targets.len() as u64);
    let seed = options.seed.unwrap_or_else(some_seed);
    println!("{cases} cases for each of {} parsers, seed {seed}, address sanitizer", targets.len());
    let mut table = Vec::new();
    for target in targets {
        table.push(fuzzer.fuzz(workspace, target, cases, seed)?);
    }
    conclude(&table, seed)
}

fn conclude(table: &[Line], seed: u32) -> Result<()> {
    println!("\n  {:<14}{:>12}{:>10}{:>10}{:>12}", "parser", "cases", "seconds", "failures", "seed");
    for line in table {
        let failures = u32::from(line.failure.is_some());
        println!(
            "  {:<14}{:>12}{:>10.1}{failures:>10}{seed:>12}",
            line.target,
            line.cases,
            line.took.as_secs_f64()
        );
    }
    let failed: Vec<_> = table.iter().filter_map(|line| Some((line, line.failure.as_ref()?))).collect();
    println!("cases: {} in all, {} failures", table.iter().map(|line| line.cases).sum::<u64>(), failed.len());
    for (line, failure) in &failed {
        let why = said(&line.log)?.panic().unwrap_or_else(|| tail(&line.log));
        println!("\n{}:\n{why}", line.target);
        match failure {
            Failure::Input(path) => println!(
                "the input: {}\nagain with: cargo xtask fuzz {} --input {0}",
                path.display(),
                line.target
            ),
            Failure::Other => println!("no input was kept; all of it: {}", line.log.display()),
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = failed.iter().map(|(line, _)| line.target.as_str()).collect();
    bail!("failed: {}", names.join(", "))
}

/// What became of one parser.
struct Line {
    target: String,
    cases: u64,
    took: Duration,
    failure: Option<Failure>,
    log: PathBuf,
}

enum Failure {
    /// The case lies in this file.
    Input(PathBuf),
    /// It ended otherwise: the log says how.
    Other,
}

/// The parsers, built to be fuzzed.
struct Fuzzer {
    /// Everything lies in here: programs, inputs, failures.
    folder: PathBuf,
    programs: PathBuf,
}

impl Fuzzer {
    fn build(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target.join("fuzz");
        let host = nightly_host()?;
        let mut build = nightly(&cargo_fuzz(workspace)?);
        build.args(["build", "--sanitizer", "address", "--target", &host, "--target-dir"]).arg(&folder);
        build.current_dir(&workspace.root);
        logged("build the parsers for fuzzing", &mut build, &workspace.log("fuzz-build"))?;
        let programs = folder.join(host).join("release");
        Ok(Self { folder, programs })
    }

    fn program(&self, target: &str) -> PathBuf {
        self.programs.join(target)
    }

    fn corpus(&self) -> PathBuf {
        self.folder.join("corpus")
    }

    /// Begins anew each time: with inputs left from another run, a seed would not lead to the same cases.
    fn seeds(&self, workspace: &Workspace) -> Result<()> {
        let corpus = self.corpus();
        if corpus.exists() {
            fs::remove_dir_all(&corpus).with_context(|| format!("cannot clear {}", corpus.display()))?;
        }
        let mut write = workspace.cargo(["run", "--example", "seeds", "--manifest-path", "fuzz/Cargo.toml"]);
        write.env("CARGO_TARGET_DIR", &self.folder).arg("--").arg(&corpus);
        logged("write the inputs to begin with", &mut write, &workspace.log("fuzz-seeds"))
    }

    fn fuzz(&self, workspace: &Workspace, target: String, cases: u64, seed: u32) -> Result<Line> {
        let failures = self.folder.join("failures");
        fs::create_dir_all(&failures).with_context(|| format!("cannot make {}", failures.display()))?;
        let mut prefix: OsString = "-artifact_prefix=".into();
        prefix.push(failures.join(format!("{target}-")));
        let mut command = Command::new(self.program(&target));
        command.arg(self.corpus().join(&target)).arg(prefix).arg("-print_final_stats=1");
        let longest = longest(&target);
        command.args([format!("-runs={cases}"), format!("-seed={seed}"), format!("-max_len={longest}")]);
        command.arg(format!("-timeout={HANGS_AFTER}"));

        let log = workspace.log(&format!("fuzz-{target}"));
        let out = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let progress = Progress::start(&format!("fuzz {target}"));
        let started = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", self.program(&target).display()))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            progress.tick_at(&format!(", {} cases", said(&log)?.so_far()));
            thread::sleep(LOOK_EVERY);
        };
        let took = started.elapsed();
        let said = said(&log)?;
        let finished = said.executed();
        progress.end(status.success() && finished.is_some());
        let failure = match (status.success(), said.failing_input()) {
            (true, None) if finished.is_some_and(|done| done >= cases) => None,
            (_, Some(path)) => Some(Failure::Input(path)),
            _ => Some(Failure::Other),
        };
        let cases = finished.unwrap_or_else(|| said.so_far());
        Ok(Line { target, cases, took, failure, log })
    }
}

/// Bytes of a case, at most: a long one takes time, and does nothing that a short one doesn't.
fn longest(target: &str) -> u32 {
    match target {
        "reply" => 6144, // what this version sends to begin with has 5.2 KiB
        "names" | "system" => 256,
        _ => 1024,
    }
}

/// What libFuzzer has said.
struct Said(String);

fn said(log: &Path) -> Result<Said> {
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(Said(String::from_utf8_lossy(&text).into_owned()))
}

impl Said {
    /// Cases by the last of its lines, which come more rarely with time.
    fn so_far(&self) -> u64 {
        let count = |line: &str| line.strip_prefix('#')?.split_whitespace().next()?.parse().ok();
        self.0.lines().rev().find_map(count).unwrap_or(0)
    }

    /// Cases by its own account at the end.
    fn executed(&self) -> Option<u64> {
        let count = |line: &str| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok();
        self.0.lines().rev().find_map(count)
    }

    /// What the parser, or its test, panicked with; the stack below it is long.
    fn panic(&self) -> Option<String> {
        let mut lines = self.0.lines().skip_while(|line| !line.contains(" panicked at ")).take(2);
        Some(format!("  | {}\n  | {}", lines.next()?, lines.next()?))
    }

    fn failing_input(&self) -> Option<PathBuf> {
        self.0.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path.into()))
    }
}

fn all_targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("fuzz/targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let name = |file: fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".rs")?.to_owned());
    let mut names: Vec<_> = files.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

fn chosen(all: &[String], named: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        bail!("`{unknown}` is no parser that is fuzzed; there are: {}", all.join(", "));
    }
    Ok(all.iter().filter(|name| named.is_empty() || named.contains(name)).cloned().collect())
}

/// Different ones on different days.
fn some_seed() -> u32 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.subsec_nanos() ^ since.as_secs() as u32).max(1)
}

/// A program run with the nightly compiler, which this one's own was not.
fn nightly(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
    command
}

fn nightly_host() -> Result<String> {
    let version = output_of(nightly(Path::new("rustc")).arg("-vV"))
        .context("fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// The one on PATH, else one of our own.
fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.target.join("tools");
    let own = tools.join("bin/cargo-fuzz");
    if let Some(found) = on_path("cargo-fuzz").or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    let mut install =
        workspace.cargo(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"]);
    install.arg(&tools).env("CARGO_TARGET_DIR", tools.join("build")).current_dir(env::temp_dir());
    logged("install cargo-fuzz", &mut install, &workspace.log("fuzz-install"))
        .context("where there is no network: have cargo-fuzz on PATH")?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let running =
            "INFO: Seed: 1\n#2\tINITED cov: 3\n#131072\tpulse  cov: 193 exec/s: 65536 rss: 83Mb\nDE: x\n";
        let said = Said(running.to_owned());
        assert_eq!((said.so_far(), said.executed(), said.failing_input()), (131_072, None, None));
        let failed = format!(
            "{running}==9== ERROR: libFuzzer: deadly signal\nartifact_prefix='/t/f/a-'; Test unit written to \
             /t/f/a-crash-0b\nstat::number_of_executed_units: 140000\n"
        );
        let said = Said(failed);
        assert_eq!((said.executed(), said.panic()), (Some(140_000), None));
        assert_eq!(said.failing_input(), Some("/t/f/a-crash-0b".into()));
    }

    #[test]
    fn the_panic_is_shown_and_not_the_stack_below_it() {
        let log = "#2\tINITED\nthread '<unnamed>' (9) panicked at src/a.rs:1:2:\nslot 9 of 4\nstack backtrace:\n 0: x\n";
        let panic = Said(log.to_owned()).panic().unwrap();
        assert_eq!(panic, "  | thread '<unnamed>' (9) panicked at src/a.rs:1:2:\n  | slot 9 of 4");
    }

    #[test]
    fn parsers_are_known_ones() {
        let all = ["board", "seats"].map(str::to_owned);
        assert_eq!(chosen(&all, &[]).unwrap(), all);
        assert_eq!(chosen(&all, &all[1..]).unwrap(), ["seats"]);
        let error = chosen(&all, &["seat".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`seat`") && error.contains("board, seats"), "{error}");
    }
}
