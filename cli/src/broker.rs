//! `bips broker`: makes device memory for processes that may not.

use std::sync::Arc;
use std::time::Duration;

use bips::AccessRule;
use bips_dma_buf::broker::{Broker, Devices, Limits, OnServed, Served};

use crate::args::{self, Place};
use crate::exit::Outcome;
use crate::interrupt::{Interrupt, SLICE};
use crate::output;
use crate::publishing::access;

/// After a shortage, before the next try.
const SHORTAGE: Duration = Duration::from_millis(500);

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Who may ask: owner, group:NAME (or its number) or directory
    #[arg(long, value_name = "RULE", default_value = "owner", value_parser = access)]
    access: AccessRule,
    /// Most memory that one process may have in use, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = args::whole(1u64..=1 << 30))]
    client_mib: u64,
    /// Most memory in use in all, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = args::whole(1u64..=1 << 30))]
    total_mib: u64,
    /// Most buffers in use in all
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = args::whole(1usize..=65536))]
    buffers: usize,
    /// Most processes that are served at the same time; others wait
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = args::whole(1usize..=256))]
    clients: usize,
}

pub(crate) fn run(args: &Args, place: &Place) -> Outcome {
    let interrupt = Interrupt::install()?;
    let limits = Limits {
        client_bytes: args.client_mib << 20,
        total_bytes: args.total_mib << 20,
        buffers: args.buffers,
        clients: args.clients,
    };
    let broker = Broker::open(place.path(), args.access.clone(), limits, Box::new(Devices))?;
    let directory = bips::runtime_dir(place.path())?;
    output::line(format!(
        "broker in {}: {}; Ctrl-C ends it, what it gave stays",
        directory.display(),
        broker.kinds().join(", ")
    ))?;
    let told: Arc<OnServed> = Arc::new(tell);
    while !interrupt.requested() {
        if let Err(error) = broker.serve(SLICE, &told) {
            // It may pass; to end would help nobody.
            let _ = output::line(format!("can't serve now: {error}"));
            interrupt.sleep(SHORTAGE);
        }
    }
    let (bytes, buffers) = broker.in_use()?;
    output::line(format!("ends; {buffers} buffers of {bytes} bytes stay in use"))
}

/// Nobody may be there to read it: that is no reason to end.
fn tell(served: &Served) {
    let who = format!("pid {} (user {})", served.pid, served.uid);
    let _ = match &served.outcome {
        Ok(given) => output::line(format!("{who}: {given}")),
        Err(error) => output::line(format!("{who} refused: {error}")),
    };
}
