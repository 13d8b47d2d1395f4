//! `cargo xtask bench`: all measurements in one run, with the machine's own floors beside them.

mod native;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::python::{Environments, Purpose, hide_gpus};
use crate::step::{Progress, output_of};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fail when a ratio misses its goal (for a quiet machine)
    #[arg(long)]
    strict: bool,
    /// Leave the C++ and the Python part out
    #[arg(long)]
    rust_only: bool,
}

/// What must be reached: a number, and the number beside it that it must not exceed.
const GOALS: [(&str, &str); 7] = [
    ("latency.worst_ratio_to_floor", "latency.goal_ratio"),
    ("latency.futex_worst_ratio_to_floor", "latency.futex_goal_ratio"),
    ("attach.attach_ns", "attach.attach_goal_ns"),
    ("attach.control_bytes", "attach.control_goal_bytes"),
    ("native.awake_ratio_cpp_to_rust", "native.goal_ratio"),
    ("native.asleep_ratio_cpp_to_rust", "native.goal_ratio"),
    ("python.ns.receive + np.from_dlpack + release", "python.goal_ns"),
];

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let bips = workspace.build_cli()?;
    let mut rows = Vec::new();
    for bench in ["latency", "attach"] {
        let mut command = Command::new(&bips);
        command.args(["bench", bench, "--json"]);
        measure(bench, &mut command, &mut rows)?;
    }
    if !options.rust_only {
        native::measure(workspace, &mut rows)?;
        let python = Environments::new(workspace)?.of(Purpose::Demo)?;
        let mut command = python.command();
        command.arg(workspace.root.join("python/benches/receive.py")).arg("--json");
        hide_gpus(&mut command);
        measure("python", &mut command, &mut rows)?;
    }

    let all: serde_json::Map<String, Value> =
        rows.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect();
    let file = workspace.target.join("bench.json");
    fs::write(&file, serde_json::to_string_pretty(&all)?)?;

    let value_of = |wanted: &str| rows.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let mut missed = Vec::new();
    println!();
    for (name, value) in &rows {
        let goal = GOALS.iter().find(|(measured, _)| measured == name).and_then(|(_, goal)| value_of(goal));
        let verdict = match goal {
            Some(most) if *value <= most => format!("ok, goal {}", number(most)),
            Some(most) => {
                missed.push(name.as_str());
                format!("MISSED, goal {}", number(most))
            }
            None if is_ratio(name) => String::new(),
            None => continue,
        };
        println!(
            "{}",
            format!("  {name:<82}{:>10}  {verdict:<16}{}", number(*value), upkeep(name)).trim_end()
        );
    }
    println!("\nevery number: {}", file.display());
    if options.strict && !missed.is_empty() {
        bail!("missed: {}; on a busy machine run it again when it is quiet", missed.join(", "));
    }
    Ok(())
}

/// Two times of one run beside each other: what can be compared between machines.
fn is_ratio(name: &str) -> bool {
    (name.contains("ratio") || name.contains("flatness"))
        && !name.contains("goal")
        && !name.contains("ratio_p5_p95")
}

/// Which of the two hand-overs it is: the goal is for the first, a caller may see the second.
fn upkeep(name: &str) -> &'static str {
    match name {
        _ if !name.starts_with("latency.") => "",
        _ if name.contains("on_path.") => "with acquire and release on the path",
        _ => "slots acquired ahead",
    }
}

/// Runs one benchmark and adds each number of its JSON under a dotted name.
fn measure(name: &str, command: &mut Command, rows: &mut Vec<(String, f64)>) -> Result<()> {
    let progress = Progress::start(&format!("measure {name}"));
    let output = output_of(command);
    progress.end(output.is_ok());
    let value: Value = serde_json::from_str(&output?).with_context(|| format!("{name} didn't print JSON"))?;
    flatten(name, &value, rows);
    Ok(())
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => rows.extend(number.as_f64().map(|number| (name.to_owned(), number))),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| flatten(&format!("{name}.{key}"), field, rows))
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let payload = item["bytes"].as_u64().map(|bytes| format!("{bytes} B"));
                flatten(&format!("{name}.{}", payload.unwrap_or_else(|| i.to_string())), item, rows);
            }
        }
        _ => {}
    }
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_get_dotted_names() {
        let value = serde_json::json!({"ratio_to_floor": 1.5, "sizes": [{"bytes": 64}], "unit": "ns"});
        let mut rows = Vec::new();
        flatten("latency", &value, &mut rows);
        let expected = [("latency.ratio_to_floor", 1.5), ("latency.sizes.64 B.bytes", 64.0)];
        assert_eq!(rows, expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
