//! `bips top`: all streams, once a second.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bips::StreamInfo;

use crate::args::Place;
use crate::exit::Outcome;
use crate::interrupt::Interrupt;
use crate::output::{self, Table};
use crate::streams::{self, Silent};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print the state once as JSON and end
    #[arg(long)]
    json: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .ok_or_else(|| "give seconds from 0.1 to 3600".to_owned())
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    if args.json {
        let (streams, silent) = streams::all(place)?;
        return output::json(&streams::all_json(&streams, &silent));
    }
    let interrupt = Interrupt::install()?;
    let interval = Duration::from_secs_f64(args.interval);
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let mut before: Option<(Instant, HashMap<String, u64>)> = None;
    while !interrupt.requested() {
        let now = Instant::now();
        let (streams, silent) = streams::all(place)?;
        let rate = |info: &StreamInfo| {
            let (then, published) = before.as_ref()?;
            // A stream that was replaced starts counting anew: no rate rather than a wrong one.
            let frames = info.published.checked_sub(*published.get(&info.name)?)?;
            Some(frames as f64 / now.duration_since(*then).as_secs_f64())
        };
        let table = table(&streams, &silent, rate);
        output::line(format!("{clear}{}", table.render()))?;
        before = Some((now, streams.into_iter().map(|info| (info.name, info.published)).collect()));
        interrupt.sleep(interval);
    }
    Ok(())
}

fn table(streams: &[StreamInfo], silent: &[Silent], rate: impl Fn(&StreamInfo) -> Option<f64>) -> Table {
    let mut table = Table::new([
        "STREAM / CONSUMER",
        "CONTENT",
        "FPS",
        "FRAMES",
        "HELD",
        "FOR",
        "UNREAD",
        "FOR",
        "MISSED",
        "PUT OUT",
        "",
    ]);
    for info in streams {
        table.row([
            info.name.clone(),
            format!("{} in {} x {}", streams::content_text(&info.content), info.slots, info.memory),
            rate(info).map_or("-".into(), |fps| format!("{fps:.1}")),
            info.published.to_string(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            info.expelled.to_string(),
            streams::standstill(info).unwrap_or_default(),
        ]);
        for consumer in &info.consumers {
            table.row([
                format!("  pid {} {}", consumer.pid, streams::label(consumer)),
                consumer.policy.to_string(),
                String::new(),
                consumer.received.to_string(),
                consumer.held.to_string(),
                streams::age(consumer.held, consumer.held_for),
                consumer.unread.to_string(),
                streams::age(consumer.unread, consumer.unread_for),
                consumer.missed.to_string(),
                String::new(),
                streams::remark(consumer),
            ]);
        }
    }
    for silent in silent {
        table.row(silent.row::<11>(None));
    }
    table
}
