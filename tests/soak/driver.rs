//! The driver: who is there, and what happens when.

use crate::common::Scratch;
use crate::common::process::{Peer, play_by};
use crate::places::{Heard, Visitor};
use crate::plan::Dice;
use crate::quiet::Rest;
use crate::reigns::Ruler;
use crate::tally::{Finding, Tally};
use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) type Judged<T = ()> = Result<T, Finding>;

/// Places for consumers. The last is always taken, by the consumer that stays.
const PLACES: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(4);
const LINE_EVERY: Duration = Duration::from_secs(5);
const QUIET_EVERY: Duration = Duration::from_secs(15);

pub(crate) struct Soak<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) tally: &'a mut Tally,
    pub(crate) dice: Dice,
    pub(crate) places: Vec<Option<Visitor>>,
    /// A process that joins and leaves, and is never killed.
    pub(crate) resident: Peer,
    pub(crate) residents: Heard,
    pub(crate) ruler: Ruler,
    /// The producers that have ended, by pid: frames that each is known to have published.
    pub(crate) ended: HashMap<u32, u64>,
    pub(crate) rest: Rest,
    /// Short runs have short reigns, and quiet points close to each other.
    pub(crate) pace: f64,
    began: Instant,
}

/// A child whose mappings depend on nothing but what it does: glibc keeps no arenas for threads and no stacks for later.
pub(crate) fn plainly(role: &str, scratch: &Scratch, number: u64) -> Peer {
    let mut command = Command::new(std::env::current_exe().expect("a test program has a path"));
    command.env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.pthread.stack_cache_size=0");
    play_by(command, role, scratch.path(), number)
}

impl<'a> Soak<'a> {
    /// The first producer, the consumer that stays, and what they hold while nothing goes on.
    pub(crate) fn begin(
        scratch: &'a Scratch,
        tally: &'a mut Tally,
        seed: u64,
        length: Duration,
    ) -> Judged<Self> {
        let mut dice = Dice::new(seed);
        let pace = (length.as_secs_f64() / 60.0).min(1.0);
        let watched = Ruler::rest_of(scratch, 1)?;
        let mut ruler = Ruler::first(scratch, &mut dice, pace);
        tally.producers = 1;
        let mut rest = Rest::of([ruler.at_rest(scratch)?, watched]);
        let mut resident = plainly("stays", scratch, dice.word());
        let mut residents = Heard::default();
        residents.until("ready", &mut resident, tally)?;
        rest.complete(&mut resident, &mut residents, tally)?;
        Ok(Self {
            scratch,
            tally,
            dice,
            places: (1..PLACES).map(|_| None).collect(),
            resident,
            residents,
            ruler,
            ended: HashMap::new(),
            rest,
            pace,
            began: Instant::now(),
        })
    }

    pub(crate) fn run(&mut self, length: Duration) -> Judged {
        self.began = Instant::now();
        let quiet_every = QUIET_EVERY.mul_f64(self.pace);
        let (mut quiet, mut line) = (self.began + quiet_every, self.began + LINE_EVERY);
        while self.began.elapsed() < length {
            self.look_after_places(true)?;
            self.ruler.overhear(self.tally);
            let now = Instant::now();
            if now >= self.ruler.until {
                self.change_producers()?;
            }
            if now >= quiet {
                self.quiet_point()?;
                quiet = Instant::now() + quiet_every;
            }
            if now >= line {
                line = now + LINE_EVERY;
                let now = self.ruler.facts()?.facts;
                self.print(format!("{}; producer: {now}", self.tally));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.quiet_point()?;
        self.part()
    }

    pub(crate) fn print(&self, text: impl std::fmt::Display) {
        println!("{:>7.1} s  {text}", self.began.elapsed().as_secs_f64());
    }
}
