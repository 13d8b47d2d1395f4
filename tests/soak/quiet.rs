//! Quiet points: everybody has left, so nothing of them may be left.

use crate::common::process::Peer;
use crate::common::{PATIENCE, descriptors};
use crate::driver::{Judged, Soak};
use crate::facts::Facts;
use crate::places::Heard;
use crate::tally::{Finding, Tally, Wrong};
use crate::{is_watched, slots};
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Private memory that a process may have beyond its beginning: what malloc has taken and not given back, and pages of
/// data and stack that were written since.
pub(crate) const SLACK: u64 = 512 << 10;

/// What processes hold when nothing goes on.
#[derive(Debug)]
pub(crate) struct Rest {
    /// A producer that nobody has ever joined, and one whose pool is watched.
    producers: [Facts; 2],
    /// The consumer that stays, after it has joined in each way once.
    resident: Facts,
    /// Descriptors of the driver.
    driver: usize,
}

impl Rest {
    pub(crate) fn of(producers: [Facts; 2]) -> Self {
        Self { producers, resident: Facts::default(), driver: 0 }
    }

    fn producer(&self, generation: u64) -> Facts {
        self.producers[usize::from(is_watched(generation))]
    }

    /// The others are there as well.
    pub(crate) fn complete(&mut self, resident: &mut Peer, heard: &mut Heard, tally: &mut Tally) -> Judged {
        resident.tell("quiet");
        heard.until("quiet", resident, tally)?;
        self.resident = resident_facts(resident)?;
        resident.tell("go");
        self.driver = descriptors();
        println!("at rest a producer has {}", self.producers[0]);
        println!("at rest a producer whose pool is watched has {}", self.producers[1]);
        println!("at rest the consumer that stays has {}", self.resident);
        Ok(())
    }
}

fn resident_facts(resident: &mut Peer) -> Judged<Facts> {
    resident.tell("facts");
    let said = resident.hear();
    let facts = said.strip_prefix("facts ").and_then(Facts::decode);
    facts.ok_or_else(|| Finding::failed("the consumer that stays", &said))
}

/// Asks again until nothing is beyond; what still is when patience is at its end is leaked.
fn settled(who: &str, mut ask: impl FnMut() -> Judged<(Wrong, String)>) -> Judged {
    let until = Instant::now() + PATIENCE / 3;
    loop {
        let (wrong, held) = ask()?;
        if wrong == Wrong::default() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Finding { wrong, text: format!("{who} is left with {held}") });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wrong(beyond: Facts, slots: u64) -> Wrong {
    Wrong {
        slots,
        descriptors: beyond.descriptors,
        mappings: beyond.mappings,
        threads: beyond.threads,
        bytes: beyond.shared + beyond.private,
        ..Wrong::default()
    }
}

impl Soak<'_> {
    pub(crate) fn quiet_point(&mut self) -> Judged {
        self.residents.last.clear();
        self.resident.tell("quiet");
        self.empty_places()?;
        while self.residents.last != "quiet" {
            let said = self.resident.hear();
            self.judge_resident(said)?;
        }

        let generation = self.ruler.reign.generation;
        let (ruler, rest, slots) = (&mut self.ruler, self.rest.producer(generation), slots(generation));
        let producer_rest = rest;
        let mut last = Facts::default();
        settled(&ruler.who(), || {
            let answer = ruler.facts()?;
            last = answer.facts;
            let taken = u64::from(slots) - answer.free;
            let beyond = last.beyond(&rest, SLACK);
            let mut wrong = wrong(beyond, taken);
            // A consumer that has gone and is still counted keeps its slots.
            wrong.slots = wrong.slots.max(answer.consumers);
            let free = answer.free;
            Ok((
                wrong,
                format!(
                    "{} consumers, {free} free slots of {slots}, {last}; at rest {rest}",
                    answer.consumers
                ),
            ))
        })?;
        let producer = last;

        let (resident, rest) = (&mut self.resident, self.rest.resident);
        settled("the consumer that stays", || {
            last = resident_facts(resident)?;
            Ok((wrong(last.beyond(&rest, SLACK), 0), format!("{last}; at rest {rest}")))
        })?;

        let at_rest = self.rest.driver;
        settled("the driver", || {
            let now = descriptors();
            let wrong = Wrong { descriptors: now.saturating_sub(at_rest) as u64, ..Wrong::default() };
            Ok((wrong, format!("{now} descriptors; at rest {at_rest}")))
        })?;

        let names = ["cam.lock", "cam.sock"].map(|name| self.scratch.path().join(name));
        let files = self.scratch.files();
        if files != names {
            return Err(Finding::new(format!("left in the runtime directory: {files:?}")));
        }
        self.bury(false)?;

        self.tally.quiet += 1;
        let slack = [(producer, producer_rest), (last, self.rest.resident)]
            .map(|(now, rest)| now.private.saturating_sub(rest.private));
        self.tally.slack = (self.tally.slack.0.max(slack[0]), self.tally.slack.1.max(slack[1]));
        self.print(format!(
            "quiet: all {slots} slots free; producer {} {producer}; consumer that stays {last}",
            self.ruler.reign.generation
        ));
        self.resident.tell("go");
        Ok(())
    }

    /// Takes away the forked children that have ended, which are ours since their parents died; at last waits for all.
    fn bury(&self, all: bool) -> Judged {
        let ours = [self.ruler.peer.pid(), self.resident.pid()];
        let until = Instant::now() + PATIENCE;
        loop {
            // Looked at, not yet waited for: it may be one that others wait for.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            match waitid(Id::All, flags) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))
                    if !ours.contains(&(pid.as_raw() as u32)) =>
                {
                    let _ = waitpid(Pid::from_raw(pid.as_raw()), None);
                }
                Err(Errno::ECHILD) => return Ok(()),
                _ if !all => return Ok(()),
                _ if Instant::now() > until => {
                    return Err(Finding::new("a forked child has not ended; look for this program in `ps`"));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The last producer closes, everybody ends, and nothing is left at all.
    pub(crate) fn part(&mut self) -> Judged {
        self.resident.hang_up();
        let status = self.resident.end();
        for said in self.resident.said() {
            self.judge_resident(said)?;
        }
        if !status.success() {
            return Err(Finding::failed("the consumer that stays", &status.to_string()));
        }
        self.ruler.peer.hang_up();
        let status = self.ruler.peer.end();
        let who = self.ruler.who();
        self.note_end()?;
        if !status.success() {
            return Err(Finding::failed(&who, &status.to_string()));
        }
        let files = self.scratch.files();
        if !files.is_empty() {
            return Err(Finding::new(format!("left in the runtime directory: {files:?}")));
        }
        self.bury(true)
    }
}
