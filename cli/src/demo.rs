//! `bips demo`: the whole idea in a few seconds, three processes, nothing else needed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Guarded, myself};
use crate::exit::{Failure, Outcome};
use crate::image_file;
use crate::interrupt::Interrupt;
use crate::output::{self, Table};

const STREAM: &str = "demo-camera";
const SLOTS: u64 = 4;
const FPS: u64 = 60;
const TILES: u64 = 12;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where the contact sheet goes
    #[arg(long, value_name = "PNG", default_value = "bips-demo.png")]
    sheet: PathBuf,
    /// Frames to publish, at 60 a second
    #[arg(long, value_name = "N", default_value_t = 360, value_parser = crate::args::whole(1..=100_000u64))]
    frames: u64,
    /// Size of a frame
    #[arg(long, value_name = "WxH", default_value = "1280x720", value_parser = crate::args::size)]
    size: crate::args::Size<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    image_file::check(&args.sheet)?;
    let interrupt = Interrupt::install()?;
    let directory = tempfile::Builder::new()
        .prefix("bips-demo-")
        .tempdir()
        .map_err(|error| Failure::system("make a runtime directory for the demo", error))?;
    let command = |words: &str| -> Outcome<Command> {
        let mut command = myself()?;
        command.arg("--directory").arg(directory.path()).args(words.split(' ')).stdout(Stdio::piped());
        Ok(command)
    };
    let count = args.frames;
    let size = format!("{}x{}", args.size.width, args.size.height);
    if !args.json {
        output::line(format!(
            "one producer process paints {count} frames of {size} RGB into {SLOTS} shared buffers at 60 fps;\n\
             a second process checks every byte of each, a third makes a contact sheet of them"
        ))?;
    }
    let producer = Guarded::start(
        "producer",
        &mut command(&format!(
            "produce {STREAM} --size {size} --format RGB3 --pattern picture --fps {FPS} --count {count} --consumers 2 \
             --slots {SLOTS} --wait 20 --json"
        ))?,
    )?;
    let verifier = Guarded::start(
        "verifying consumer",
        command(&format!("consume {STREAM} --count {count} --policy reliable --verify --wait 20 --json"))?
            .stderr(Stdio::piped()),
    )?;
    // Twelve tiles, evenly spread over the film.
    let every = count.div_ceil(TILES);
    let sheet = Guarded::start(
        "contact sheet",
        command(&format!("snapshot {STREAM} --sheet 4x3 --every {every} --wait 20 --json"))?
            .arg(&args.sheet)
            .stderr(Stdio::piped()),
    )?;
    let mut children = [producer, verifier, sheet];
    wait_for_all(&mut children, count, &interrupt)?;
    if interrupt.requested() {
        return Err(Failure::failed("ended by a signal"));
    }
    let reports = children.iter_mut().map(report).collect::<Outcome<Vec<Value>>>()?;
    show(args, &reports, children.each_ref().map(Guarded::id))
}

fn wait_for_all(children: &mut [Guarded], count: u64, interrupt: &Interrupt) -> Outcome {
    // A busy machine gets ten times as long as the film lasts, and the time to start.
    let deadline = Instant::now() + Duration::from_secs(60 + count * 10 / FPS);
    let mut told = false;
    loop {
        let mut running = None;
        for child in children.iter_mut() {
            match child.ended()? {
                None => running = Some(child.name()),
                // The others would wait for it, and then complain of that.
                Some(status) if !status.success() && !interrupt.requested() => {
                    return report(child).map(drop);
                }
                Some(_) => {}
            }
        }
        let Some(name) = running else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(Failure::timed_out(format!("the {name} did not end; is the machine very busy?")));
        }
        if interrupt.requested() && !told {
            // From a terminal they have heard it themselves; a second SIGTERM ends them all the same.
            children.iter().for_each(Guarded::interrupt);
            told = true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The summary a child printed, or why there is none.
fn report(child: &mut Guarded) -> Outcome<Value> {
    let status = child.ended()?;
    let (stdout, stderr) = child.output();
    let name = child.name();
    if let Some(status) = status.filter(|status| !status.success()) {
        let said = stderr.trim().trim_start_matches("bips: ");
        let why = if said.is_empty() { format!("{status}; see above") } else { said.to_owned() };
        return Err(Failure::failed(format!("the {name} failed: {why}")));
    }
    serde_json::from_str(&stdout)
        .map_err(|error| Failure::system(format!("read the summary of the {name}"), error))
}

fn show(args: &Args, reports: &[Value], pids: [u32; 3]) -> Outcome {
    let [producer, verifier, sheet] = reports else {
        return Err(Failure::failed("a summary is missing"));
    };
    let sum = |key| verifier[key].as_u64().unwrap_or(0) + sheet[key].as_u64().unwrap_or(0);
    let (shared, copied) = (sum("bytes"), sum("bytes_copied_by_bips"));
    if args.json {
        return output::json(&json!({
            "frames": producer["frames"],
            "fps": producer["fps"],
            "memory": producer["memory"],
            "pool_bytes": producer["pool_bytes"],
            "bytes_shared": shared,
            "bytes_copied_by_bips": copied,
            "producer": producer,
            "verify": verifier,
            "sheet": sheet,
            "sheet_path": args.sheet,
        }));
    }
    let whole = |value: &Value| value.as_u64().map_or("-".into(), |number| number.to_string());
    let fps = |value: &Value| value.as_f64().map_or("-".into(), |fps| format!("{fps:.1}"));
    let time = |value: &Value| value.as_f64().map_or("-".into(), output::nanoseconds);
    let size = |value: &Value| output::bytes(value.as_u64().unwrap_or(0));
    let mut table =
        Table::new(["PROCESS", "FRAMES", "FPS", "LOST", "LATENCY P50", "P99", "SHARED", "COPIED BY BIPS"]);
    table.row([
        format!("producer, pid {}", pids[0]),
        whole(&producer["frames"]),
        fps(&producer["fps"]),
        "-".into(),
        "-".into(),
        "-".into(),
        size(&producer["bytes"]),
        "-".into(),
    ]);
    for (name, pid, report) in [("verifies every byte", pids[1], verifier), ("contact sheet", pids[2], sheet)]
    {
        table.row([
            format!("{name}, pid {pid}"),
            whole(&report["frames"]),
            report["fps"].as_f64().map_or_else(|| fps(&producer["fps"]), |fps| format!("{fps:.1}")),
            whole(&report["lost"]),
            time(&report["latency_ns"]["p50"]),
            time(&report["latency_ns"]["p99"]),
            size(&report["bytes"]),
            size(&report["bytes_copied_by_bips"]),
        ]);
    }
    output::line("")?;
    table.print()?;
    output::line(format!(
        "\n{} read in place from a pool of {} ({}), {} copied by bips.\n\
         Latency is from publish to receipt, across processes. All {} frames lay in {} of {SLOTS} buffers (the one\n\
         used last is the one still in the cache), in shared mappings of the consumers (/proc/self/maps).\n\
         The contact sheet: {}",
        output::bytes(shared),
        size(&producer["pool_bytes"]),
        producer["memory"].as_str().unwrap_or("?"),
        output::bytes(copied),
        whole(&verifier["frames"]),
        whole(&verifier["addresses"]),
        args.sheet.display()
    ))
}
