//! `bips bench`: what a hand-over costs, beside what this machine can do at best.
//!
//! Nothing here passes or fails by a time: the goal stands beside the ratio, and the reader judges.

mod attach;
mod cores;
mod death;
mod floor;
mod latency;
mod link;
mod peer;
mod scale;
mod throughput;
mod timing;

use clap::Subcommand;
use tempfile::TempDir;

use crate::args::Place;
use crate::exit::{Failure, Outcome};
use crate::interrupt::remove_on_signal;
use cores::Cores;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// One way from publish to receipt, beside a bare cache-line and a bare futex ping-pong
    ///
    /// Two processes pinned to two cores play ping-pong over two streams; one way is half a round trip. Each side keeps
    /// its next buffer acquired ahead and releases what it received after it has answered, as a camera and its
    /// consumer do; "on the path" acquires and releases between receipt and answer instead. Floor and hand-over
    /// take turns and wait in the same way, and each ratio is the median over the rounds of hand-over : floor of the
    /// same round, since virtual cores move nearer and farther. The payload is not touched, except for one byte
    /// that is read.
    Latency(latency::Args),
    /// Frames per second from one producer to one consumer
    Throughput(Pinned),
    /// Publishing to 1 to 32 consumers
    Scale(Output),
    /// From nothing to the first frame in hand, and the memory that a consumer costs
    Attach(Pinned),
    /// From the kill of a consumer until that is seen, and until a waiting producer has its slot
    Death(Output),
    /// The other process of a measurement
    #[command(hide = true)]
    Peer(peer::Args),
}

#[derive(clap::Args, Debug)]
struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A rougher look in a fraction of the time
    #[arg(long)]
    quick: bool,
}

#[derive(clap::Args, Debug)]
struct Pinned {
    #[command(flatten)]
    output: Output,
    /// The two cores to use [default: the first two this process may use]
    #[arg(long, value_name = "A,B", value_parser = cores::parse)]
    cores: Option<Cores>,
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    if cfg!(debug_assertions) && !matches!(args.what, What::Peer(_)) {
        eprintln!("bips: built without optimisation; these times say little, build with --release");
    }
    match &args.what {
        What::Latency(args) => latency::run(args),
        What::Throughput(output) => throughput::run(output),
        What::Scale(output) => scale::run(output),
        What::Attach(output) => attach::run(output),
        What::Death(output) => death::run(output),
        What::Peer(args) => peer::run(args, place),
    }
}

/// Streams of a measurement live in a directory of their own: nobody else's stream can be met.
fn private_directory() -> Outcome<TempDir> {
    let directory = tempfile::Builder::new()
        .prefix("bips-bench-")
        .tempdir()
        .map_err(|error| Failure::system("make a runtime directory for the measurement", error))?;
    remove_on_signal(directory.path())?;
    Ok(directory)
}
