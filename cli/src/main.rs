//! The `bips` program: produce, consume, inspect and measure zero-copy streams from the command line.

#![deny(unsafe_code)]

mod args;
mod bench;
mod broker;
mod capture;
mod child;
mod consume;
mod demo;
mod doctor;
mod evidence;
mod exit;
mod image_file;
mod interrupt;
mod output;
mod pattern;
mod picture;
mod produce;
mod progress;
mod publishing;
mod reception;
mod sheet;
mod snapshot;
mod stalls;
mod stats;
mod streams;
mod testcard;
mod top;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use args::Place;
use exit::Outcome;

/// Zero-copy buffer sharing between processes
///
/// One producer owns a fixed pool of buffers and hands leases of them to any number of consumers in other processes
/// and containers: no daemon, no copy.
#[derive(Parser)]
#[command(
    name = "bips",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 timed out.\n\
                  First steps: `bips demo`, then `bips doctor` for what this machine can do."
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show it working: one producer, two consumers, three processes
    Demo(demo::Args),
    /// Publish frames that can be checked
    Produce(produce::Args),
    /// Publish what a camera sees
    Capture(capture::Args),
    /// Make device memory for processes that may not open the devices
    Broker(broker::Args),
    /// Receive frames, check them and measure
    Consume(consume::Args),
    /// List the streams
    Ls(streams::LsArgs),
    /// Everything about one stream
    Info(streams::InfoArgs),
    /// Watch all streams
    Top(top::Args),
    /// Write a frame, or a contact sheet of a stream, as PNG
    Snapshot(snapshot::Args),
    /// What works on this machine, and what to do about the rest
    Doctor(doctor::Args),
    /// Measure, beside the floor of this machine
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let words = negatives_are_values(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&words).unwrap_or_else(|error| error.exit());
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// `--count -1` is a wrong count, and told as such, not an unknown option `-1`.
fn negatives_are_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let takes_values = arg.get_action().takes_values();
            arg.allow_negative_numbers(takes_values)
        })
        .mut_subcommands(negatives_are_values)
}

fn run(cli: &Cli) -> Outcome {
    let place = &cli.place;
    match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Produce(args) => produce::run(args, place),
        Command::Capture(args) => capture::run(args, place),
        Command::Broker(args) => broker::run(args, place),
        Command::Consume(args) => consume::run(args, place),
        Command::Ls(args) => streams::ls(args, place),
        Command::Info(args) => streams::info(args, place),
        Command::Top(args) => top::run(args, place),
        Command::Snapshot(args) => snapshot::run(args, place),
        Command::Doctor(args) => doctor::run(args, place),
        Command::Bench(args) => bench::run(args, place),
    }
}
