//! `bips doctor`: what works on this machine, found by doing it.

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
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
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
