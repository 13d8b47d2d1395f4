//! `bips doctor`: what works on this machine, found by doing it.

use bips::{Content, Error, ErrorKind, Party, Refusal, Requirements, Usage};
use bips_backends::{KINDS, Report, Status};
use serde_json::{Value, json};

use crate::args::Place;
use crate::exit::{Failure, Outcome};
use crate::output;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fail unless each of these works: memory kinds, or checks by name
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    require: Vec<String>,
    /// Say which memory serves all of these and why not another: cpu, cpu-write, camera:/dev/video0, vulkan:0, cuda:0,
    /// display, encoder
    #[arg(long, value_name = "PARTY,…", conflicts_with = "require")]
    plan: Option<String>,
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    if let Some(list) = &args.plan {
        return plan(list, args.json, place);
    }
    let report = bips_backends::doctor(place.path());
    check_names(&args.require, &report)?;
    let missing: Vec<String> = args.require.iter().filter(|kind| !report.works(kind)).cloned().collect();
    let failing = report.checks.iter().filter(|check| matches!(check.status, Status::Fail)).count();
    if args.json {
        let mut value =
            serde_json::to_value(&report).map_err(|error| Failure::system("write the report", error))?;
        if let Value::Object(report) = &mut value {
            report.insert("required".into(), json!(args.require));
            report.insert("missing".into(), json!(missing));
            report.insert("ok".into(), json!(missing.is_empty() && failing == 0));
        }
        output::json(&value)?;
    } else {
        for check in &report.checks {
            let mark = match check.status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
                Status::Skip => "skip",
            };
            output::line(format!("{mark}  {}: {}", check.name, check.detail))?;
            if let Some(next_step) = &check.next_step {
                output::line(format!("      -> {next_step}"))?;
            }
        }
        output::line("")?;
        let table = report.table.to_string();
        // What a line above has said is not said again.
        let said = |line: &str| report.checks.iter().any(|check| line.ends_with(&check.detail));
        for line in table.lines().filter(|line| !said(line)) {
            output::line(line)?;
        }
    }
    if let Some(kind) = missing.iter().find(|kind| !report.tried(kind)) {
        return Err(Failure::failed(format!(
            "required but not in this build: {kind}; it is planned, or a feature of bips-backends that was left out"
        )));
    }
    if !missing.is_empty() {
        return Err(Failure::failed(format!(
            "required but not working: {}; the lines above say why and what to do",
            missing.join(", ")
        )));
    }
    if failing > 0 { Err(Failure::reported()) } else { Ok(()) }
}

/// Bytes of a slot of the pool that is planned: an image of a megapixel, more or less.
const PLANNED: u64 = 1 << 20;

fn plan(list: &str, json: bool, place: &Place) -> Outcome {
    let parties = Party::parse_list(list)?;
    if parties.is_empty() {
        return Err(Failure::usage("nobody is named; try --plan cpu,vulkan:0"));
    }
    let wanted = Requirements {
        usage: Usage::empty(),
        parties: parties.clone(),
        ..Requirements::of(Content::bytes(PLANNED)?)
    };
    let registry = bips_backends::registry_in(place.path());
    let mut survey = registry.survey(&wanted);
    for kind in KINDS.into_iter().filter(|kind| registry.get(kind).is_none()) {
        let why =
            Error::new(ErrorKind::Unsupported, "planned, or left out of this build: it has no such memory");
        survey.refused.push(Refusal { kind: kind.into(), why });
    }
    if json {
        let names = |planned: &[bips::Planned]| -> Vec<String> {
            planned.iter().map(|planned| planned.backend.info().kind.clone()).collect()
        };
        let refused: Vec<_> = survey
            .refused
            .iter()
            .map(|refusal| json!({ "kind": refusal.kind, "reason": refusal.why.to_string() }))
            .collect();
        let uses = |planned: &bips::Planned| -> Vec<Value> {
            let uses = planned.uses.iter();
            uses.map(
                |(party, served)| json!({ "party": party.to_string(), "by": served.by, "far": served.far }),
            )
            .collect()
        };
        let chosen = survey.able.first();
        output::json(&json!({
            "parties": parties.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "memory": chosen.map(|planned| planned.backend.info().kind.clone()),
            "slot_bytes": chosen.map(|planned| planned.layout.slot_bytes),
            "fences": chosen.map(|planned| planned.fences().to_string()),
            "uses": chosen.map(uses),
            "able": names(&survey.able),
            "refused": refused,
        }))?;
    } else {
        output::line(survey.to_string().trim_end())?;
    }
    match survey.able.is_empty() {
        true => Err(Failure::failed(format!("no memory here serves {list}; the reasons are above"))),
        false => Ok(()),
    }
}

/// A name that doesn't exist is a slip of the pen, not something this machine lacks.
fn check_names(required: &[String], report: &Report) -> Outcome {
    match required.iter().find(|name| !report.tried(name) && !KINDS.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let checks = report.checks.iter().map(|check| check.name.as_str());
            let others = KINDS.into_iter().filter(|kind| !report.tried(kind));
            Err(Failure::usage(format!(
                "there is no {unknown:?} to require; this build tries {}, and knows the names of {}",
                checks.collect::<Vec<_>>().join(", "),
                others.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}
