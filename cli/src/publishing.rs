//! What the commands that publish have in common.

use bips::{AccessRule, ErrorKind, ForeignBuffer, OnStall, Producer, ProducerBuilder, Wait};

use crate::args::{self, Patience, Place};
use crate::exit::{Failure, Outcome};
use crate::interrupt::{Interrupt, SLICE};
use crate::progress::Progress;

#[derive(clap::Args, Debug)]
pub(crate) struct Publishing {
    /// Memory to share: auto, or a kind that `bips doctor` shows as working
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) memory: String,
    /// End after so many frames; 0 goes on until Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = args::whole(0u64..))]
    pub(crate) count: u64,
    /// Start publishing when so many consumers have joined
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = args::whole(0u32..))]
    consumers: u32,
    /// How long to wait for them, in seconds, or `forever`
    #[arg(long, value_name = "SECONDS", default_value = "forever", value_parser = args::wait)]
    wait: Wait,
    /// Who may consume: owner, group:NAME (or its number) or directory
    #[arg(long, value_name = "RULE", default_value = "owner", value_parser = access)]
    access: AccessRule,
    /// What to do about consumers that hold the stream up: wait, or expel:SECONDS
    #[arg(long, value_name = "RULE", default_value = "wait", value_parser = on_stall)]
    on_stall: OnStall,
    /// Frames already published that a new consumer gets first
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = args::whole(0u32..))]
    pub(crate) history: u32,
    /// Print the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn access(text: &str) -> Result<AccessRule, bips::Error> {
    AccessRule::parse(text)
}

fn on_stall(text: &str) -> Result<OnStall, bips::Error> {
    OnStall::parse(text)
}

impl Publishing {
    /// A producer of this name; what its slots hold, and how many there are, is left to say.
    pub(crate) fn builder(&self, name: &str, place: &Place) -> ProducerBuilder {
        self.options(Producer::builder(name), place)
    }

    /// The same, over buffers of somebody else's.
    pub(crate) fn adopter(&self, name: &str, buffers: Vec<ForeignBuffer>, place: &Place) -> ProducerBuilder {
        self.options(Producer::adopt(name, buffers), place)
    }

    fn options(&self, builder: ProducerBuilder, place: &Place) -> ProducerBuilder {
        let builder = builder
            .registry(bips_backends::registry_in(place.path()))
            .memory(self.memory.as_str())
            .access(self.access.clone())
            .on_stall(self.on_stall)
            .history(self.history);
        match place.path() {
            Some(directory) => builder.directory(directory),
            None => builder,
        }
    }

    /// False when a signal came first.
    pub(crate) fn wait_for_consumers(
        &self,
        producer: &Producer,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Outcome<bool> {
        let patience = Patience::new(self.wait);
        let mut slice = Some(Wait::Now);
        while let Some(wait) = slice {
            if interrupt.requested() {
                return Ok(false);
            }
            match producer.wait_for_consumers(self.consumers, wait) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                Err(error) => return Err(error.into()),
            }
            progress
                .tick(0, || format!("waiting for {} consumers, {} joined", self.consumers, joined(producer)));
            slice = patience.slice(SLICE);
        }
        Err(Failure::timed_out(format!(
            "{} of {} consumers joined {} in time; start them with `bips consume {2}`, or wait longer with --wait",
            joined(producer),
            self.consumers,
            producer.name()
        )))
    }
}

/// How many consumers there are.
pub(crate) fn joined(producer: &Producer) -> usize {
    producer.stats().map_or(0, |stats| stats.consumers.len())
}
