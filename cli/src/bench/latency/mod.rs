//! Ping-pong over two streams, in turns with the floors of the machine.

mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cores::{Cores, pin};
use super::link::{Link, Upkeep, Waiting, consume, produce};
use super::peer::{Peer, Task};
use super::private_directory;
use super::timing::{Rounds, batches, clock_cost};
use crate::exit::Outcome;
use crate::output;
use crate::stats::{median, quantile};

const SIZES: [u64; 5] = [64, 64 << 10, 1 << 20, 6 << 20, 24 << 20];

/// One way of handing over, measured beside the floor that waits in the same way.
struct Case {
    title: &'static str,
    /// Its heading in the table of ratios.
    column: &'static str,
    /// Put before the names of the figures in JSON; those of nested cases stand in an object of this name.
    key: &'static str,
    nested: bool,
    waiting: Waiting,
    upkeep: Upkeep,
    goal: Option<f64>,
}

const CASES: [Case; 4] = [
    Case {
        title: "SPINNING, slots acquired ahead",
        column: "SLOTS ACQUIRED AHEAD",
        key: "",
        nested: false,
        waiting: Waiting::Spinning,
        upkeep: Upkeep::Aside,
        goal: Some(2.0),
    },
    Case {
        title: "SPINNING, slots acquired ahead, the processor pausing between two looks (floor and hand-over alike)",
        column: "AHEAD, PAUSING",
        key: "pausing",
        nested: true,
        waiting: Waiting::Pausing,
        upkeep: Upkeep::Aside,
        goal: None,
    },
    Case {
        title: "SPINNING, with acquire and release on the path",
        column: "WITH ACQUIRE AND RELEASE ON THE PATH",
        key: "on_path",
        nested: true,
        waiting: Waiting::Spinning,
        upkeep: Upkeep::OnPath,
        goal: None,
    },
    Case {
        title: "BLOCKING, slots acquired ahead",
        column: "AHEAD, BLOCKING",
        key: "futex_",
        nested: false,
        waiting: Waiting::Blocking,
        upkeep: Upkeep::Aside,
        goal: Some(1.3),
    },
];

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pinned: super::Pinned,
    /// Rounds of floor, hand-over, floor for each case; fewer (at least 3) where they take more than 3 seconds
    #[arg(long, value_name = "N", default_value_t = 15, default_value_if("quick", "true", "3"), value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Nothing but so many spinning hand-overs: for `strace -c -f`, whose counts must not grow with them
    #[arg(long, value_name = "N")]
    spinning: Option<usize>,
}

/// On a busy machine a round takes many times as long; the measurement should end all the same.
const PATIENCE: Duration = Duration::from_secs(3);
const FEWEST_ROUNDS: u32 = 3;

/// Round trips of one measurement, and how many of them share one look at the clock.
#[derive(Clone, Copy)]
struct Effort {
    count: usize,
    batch: usize,
}

impl Effort {
    fn of(waiting: Waiting) -> Self {
        match waiting {
            Waiting::Blocking => Self { count: 1024, batch: 32 },
            Waiting::Spinning | Waiting::Pausing => Self { count: 16_384, batch: 256 },
        }
    }
}

struct Bench {
    peer: Peer,
    registry: bips::Registry,
}

pub(super) fn run(args: &Args) -> Outcome {
    let cores = Cores::choose(args.pinned.cores)?;
    let directory = private_directory()?;
    pin(cores.0)?;
    let peer = Peer::start(directory.path(), Some(cores.1))?;
    let mut bench = Bench { peer, registry: bips_backends::registry() };
    if let Some(count) = args.spinning {
        return bench.spinning_only(directory.path(), count, args.pinned.output.json);
    }
    let mut sizes = Vec::new();
    for bytes in SIZES {
        let measured = CASES.iter().map(|case| bench.case(directory.path(), bytes, case, args.rounds));
        sizes.push(Size { bytes, cases: measured.collect::<Outcome<_>>()? });
    }
    if args.pinned.output.json {
        report::json(&sizes, cores, args.rounds)
    } else {
        report::tables(&sizes, cores, args.rounds)
    }
}

impl Bench {
    fn spinning_only(&mut self, directory: &Path, handovers: usize, json: bool) -> Outcome {
        let mut link = self.open(directory, 64, Waiting::Spinning)?;
        let trips = handovers.div_ceil(2).max(1);
        let effort = Effort { count: trips, batch: trips };
        let one_way = median(&mut self.handover(&mut link, effort, Upkeep::Aside)?);
        if json {
            return output::json(
                &json!({ "bench": "latency", "handovers": 2 * trips, "handover_ns": one_way }),
            );
        }
        output::line(format!("{} spinning hand-overs, {} each", 2 * trips, output::nanoseconds(one_way)))
    }

    fn case(&mut self, directory: &Path, bytes: u64, case: &Case, rounds: u32) -> Outcome<Measured> {
        let effort = Effort::of(case.waiting);
        let mut measured = Measured::default();
        let mut link = self.open(directory, bytes, case.waiting)?;
        self.handover(&mut link, effort, case.upkeep)?;
        let start = Instant::now();
        for round in 0..rounds {
            if round >= FEWEST_ROUNDS && start.elapsed() > PATIENCE {
                break;
            }
            let before = self.floor(case.waiting)?;
            let cost = median(&mut self.handover(&mut link, effort, case.upkeep)?);
            let after = self.floor(case.waiting)?;
            measured.rounds.push(before, cost, after);
        }
        let clock = clock_cost();
        let singles = self.handover(&mut link, Effort { batch: 1, ..effort }, case.upkeep)?;
        let mut singles: Vec<f64> = singles.iter().map(|time| (time - clock / 2.0).max(0.0)).collect();
        (measured.p50, measured.p99) = (quantile(&mut singles, 0.5), quantile(&mut singles, 0.99));
        drop(link);
        self.peer.ask(&Task::Close)?;
        Ok(measured)
    }

    fn open(&mut self, directory: &Path, bytes: u64, waiting: Waiting) -> Outcome<Link> {
        let (there, back) = ("bench/there".to_owned(), "bench/back".to_owned());
        let producer = Link::producer(produce(directory, &self.registry, &there, bytes))?;
        self.peer.ask(&Task::Open { there, back: back.clone(), bytes, waiting })?;
        Link::new(producer, consume(directory, &self.registry, &back), waiting)
    }

    /// One-way times of one measurement's batches.
    fn handover(&mut self, link: &mut Link, effort: Effort, upkeep: Upkeep) -> Outcome<Vec<f64>> {
        let count = effort.count / effort.batch * effort.batch;
        self.peer.tell(&Task::Echo { count, upkeep })?;
        let times = batches(count, effort.batch, || link.ping(upkeep))?;
        self.peer.answer()?;
        Ok(halves(times))
    }

    /// One way of the bare ping-pong that waits like this.
    fn floor(&mut self, waiting: Waiting) -> Outcome<f64> {
        let Effort { count, batch } = Effort::of(waiting);
        self.peer.page().reset();
        self.peer.tell(&Task::Floor { count, waiting })?;
        let page = self.peer.page();
        let mut turn = 0;
        let times = batches(count, batch, || page.ping(waiting, &mut turn))?;
        self.peer.answer()?;
        Ok(median(&mut halves(times)))
    }
}

/// One way is half a round trip.
fn halves(times: Vec<f64>) -> Vec<f64> {
    times.into_iter().map(|time| time / 2.0).collect()
}

#[derive(Default)]
struct Measured {
    rounds: Rounds,
    p50: f64,
    p99: f64,
}

/// All cases at one payload.
struct Size {
    bytes: u64,
    cases: Vec<Measured>,
}
