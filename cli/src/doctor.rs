//! `bips doctor`: what works on this machine, found by doing it.

use bips_backends::Status;
use serde_json::{Value, json};

use crate::args::Place;
use crate::exit::{Failure, Outcome};
use crate::output;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fail unless each of these memory kinds works
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    require: Vec<String>,
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    let report = bips_backends::doctor(place.path());
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
    if !missing.is_empty() {
        return Err(Failure::failed(format!(
            "required but not working: {}; the lines above say why and what to do",
            missing.join(", ")
        )));
    }
    if failing > 0 { Err(Failure::reported()) } else { Ok(()) }
}
