//! A run: the inventory, then each case on each device, then the reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{Local, NaiveDate};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cases::{self, PRESENT};
use crate::inside;
use crate::inventory::{Attempt, Device, Kind, Probed, State, Tree, merge};
use crate::known::{self, Known};
use crate::options::{self, Options, chosen};
use crate::process::{self, End, ask, myself};
use crate::report::{self, Counts, Machine, Outcome, Report};
use crate::required;
use crate::verdict::{self, Verdict};

/// Where a case tells of what it leaves out (`tests/common/skip.rs`).
const SKIPS: &str = "BIPS_SKIPS";
/// A line so often shows that a long case still lives.
const REMIND_EVERY: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let required = match &options.require {
        Some(list) => required::parse(list)?,
        None => required::parse(&std::env::var(required::REQUIRE).unwrap_or_default())?,
    };
    let names: Vec<&str> = cases::all().map(|case| case.name).collect();
    let known = known::load(options.known.as_deref(), &[&names[..], &[PRESENT]].concat())?;
    let run =
        Run { options, required, known, today: Local::now().date_naive(), logs: options.out.join("logs") };
    fs::create_dir_all(&run.logs).with_context(|| format!("cannot make {}", run.logs.display()))?;
    let started = Local::now();
    let (devices, unlisted) = run.inventory()?;
    if let Some(problem) = &unlisted {
        eprintln!("warning: {problem}");
    }
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    options::all_match("--device", &options.device, &ids)?;
    options::all_match("--case", &options.case, &[&names[..], &[PRESENT]].concat())?;
    if options.list {
        return list(options, &devices, &names);
    }
    eprint!("{}", report::devices(&devices));
    let clock = Instant::now();
    let results = run.results(&devices)?;
    let mut problems = required::problems(&results, &run.required);
    problems.extend(unlisted);
    let report = Report {
        format: 1,
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::this(),
        started,
        seconds: clock.elapsed().as_secs_f64(),
        ok: problems.is_empty() && !results.iter().any(|outcome| outcome.verdict.is_bad()),
        counts: Counts::of(&results),
        required: run.required,
        devices,
        results,
        problems,
    };
    publish(&report, options)
}

/// Into the files first: whoever reads the end of what is printed finds them.
fn publish(report: &Report, options: &Options) -> Result<ExitCode> {
    let write = |name: &str, text: String| {
        let path = options.out.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("results.json", pretty(report)?)?;
    write("junit.xml", report::junit(report, &options.out)?)?;
    if options.json {
        println!("{}", pretty(report)?);
    } else {
        println!("\n{}\nresults.json and junit.xml are in {}", report::table(report), options.out.display());
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(options: &Options, devices: &[Device], cases: &[&str]) -> Result<ExitCode> {
    let cases: Vec<_> = cases.iter().filter(|name| chosen(&options.case, name)).collect();
    let devices: Vec<_> =
        devices.iter().filter(|device| chosen(&options.device, &device.id)).cloned().collect();
    if options.json {
        println!("{}", pretty(&json!({ "devices": devices, "cases": cases }))?);
    } else {
        println!("{}\nCases, on each that is memory", report::devices(&devices));
        cases.iter().for_each(|name| println!("  {name}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn pretty(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

struct Run<'a> {
    options: &'a Options,
    required: Vec<String>,
    known: Vec<Known>,
    today: NaiveDate,
    logs: PathBuf,
}

impl Run<'_> {
    /// Drivers are asked in processes of their own, so that one that crashes is a line of the report; with it, where not
    /// even the list of kinds could be had.
    fn inventory(&self) -> Result<(Vec<Device>, Option<String>)> {
        let found = Tree::of_this_machine().devices();
        let there = found.iter().filter(|device| device.path.is_some()).map(|device| device.id.as_str());
        let (kinds, problem) = match self.ask::<Vec<Kind>>("kinds", myself()?.arg("kinds").args(there))? {
            Ok(kinds) => (kinds, None),
            Err(how) => {
                (Vec::new(), Some(format!("the memory kinds of this build could not be listed: {how}")))
            }
        };
        let probed = kinds.into_iter().map(|kind| self.probe(kind)).collect::<Result<_>>()?;
        Ok((merge(found, probed), problem))
    }

    fn probe(&self, kind: Kind) -> Result<Probed> {
        let name = format!("{}--probe", file_name(&kind.id));
        let attempt = self.ask(&name, myself()?.args(["probe", &kind.id]))?.unwrap_or_else(Attempt::Crashed);
        Ok(Probed { kind, attempt })
    }

    /// What a process of ours answers, or how it came that it did not.
    fn ask<T: DeserializeOwned>(
        &self,
        name: &str,
        command: &mut std::process::Command,
    ) -> Result<Result<T, String>> {
        let (end, said) = ask(command, &self.logs.join(format!("{name}.json")), self.options.timeout)?;
        if end != End::Exited(0) {
            return Ok(Err(verdict::failure(&end, "", self.options.timeout)));
        }
        // Vendors' libraries write lines of their own there.
        let answer = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        Ok(answer.ok_or_else(|| format!("it gave no answer, but said {said:?}")))
    }

    fn results(&self, devices: &[Device]) -> Result<Vec<Outcome>> {
        let mut results = Vec::new();
        for device in devices.iter().filter(|device| chosen(&self.options.device, &device.id)) {
            let required = required::applies(&self.required, device);
            let judged = |outcome: Outcome| {
                let known = known::find(&self.known, &outcome.case, &device.id);
                let verdict = outcome.verdict.given(known, self.today);
                let verdict = if required { verdict.required() } else { verdict };
                let outcome = Outcome { verdict, ..outcome };
                show(&outcome);
                outcome
            };
            results.push(judged(self.presence(device)?));
            if !device.memory || device.state != State::Present {
                continue;
            }
            for case in cases::all().filter(|case| chosen(&self.options.case, case.name)) {
                let mut command = myself()?;
                command.args(["case", case.name]).env(inside::KIND, &device.id);
                results.push(judged(self.attempt(&device.id, case.name, &mut command)?));
            }
        }
        Ok(results)
    }

    /// Whether it is there at all. This proves nothing of bips.
    fn presence(&self, device: &Device) -> Result<Outcome> {
        let verdict = match (&device.state, &device.path) {
            (State::Absent(why) | State::Denied(why), _) => Verdict::Skip(why.clone()),
            (State::Broken(why), _) => Verdict::Fail(why.clone()),
            (State::Present, Some(path)) if device.is_node() => {
                return self.attempt(&device.id, PRESENT, myself()?.arg("open").arg(path));
            }
            (State::Present, _) if device.memory => Verdict::Pass,
            (State::Present, _) => Verdict::Skip(format!(
                "it is installed ({}), but this build of bips has no backend that could try it",
                device.about
            )),
        };
        Ok(Outcome::of(&device.id, PRESENT, verdict))
    }

    fn attempt(&self, device: &str, case: &str, command: &mut std::process::Command) -> Result<Outcome> {
        let name = format!("{}--{case}", file_name(device));
        let log = self.logs.join(format!("{name}.log"));
        let skips = self.logs.join(format!("{name}.skips"));
        fs::write(&skips, "").with_context(|| format!("cannot write {}", skips.display()))?;
        let mut reminded = Duration::ZERO;
        let mut tick = |elapsed: Duration| {
            if elapsed - reminded >= REMIND_EVERY {
                reminded = elapsed;
                eprintln!("  ..     {device}  {case}: still at it after {:.0} s", elapsed.as_secs_f64());
            }
        };
        // A case that is killed leaves its files behind. Not in the logs' folder: the path of a socket must be short.
        let scratch = std::env::temp_dir().join(format!("bips-hw-{}", std::process::id()));
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        // Absolute: what runs there may change its directory.
        command.env(SKIPS, std::path::absolute(&skips)?).env("TMPDIR", &scratch);
        let (end, took) = process::run(command, &log, self.options.timeout, &mut tick)?;
        let _ = fs::remove_dir_all(&scratch);
        let said = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
        let told: Vec<String> = fs::read_to_string(&skips)?.lines().map(str::to_owned).collect();
        fs::remove_file(&skips)?;
        Ok(Outcome {
            verdict: verdict::of(&end, &said, &told, self.options.timeout),
            seconds: took.as_secs_f64(),
            signal: verdict::signal(&end),
            log: Some(Path::new("logs").join(format!("{name}.log"))),
            ..Outcome::of(device, case, Verdict::Pass)
        })
    }
}

/// Progress, apart from what programs read.
fn show(outcome: &Outcome) {
    let Outcome { device, case, verdict, seconds, .. } = outcome;
    eprintln!("  {:<5}  {device}  {case}  {seconds:.2} s", verdict.word());
}

fn file_name(device: &str) -> String {
    device.chars().map(|c| if c.is_ascii_alphanumeric() || "-,._".contains(c) { c } else { '_' }).collect()
}
