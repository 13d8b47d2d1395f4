//! The consumers' places: who sits there, what happens to them, and whether they ended as they were to.

use crate::common::PATIENCE;
use crate::common::process::{Peer, play};
use crate::driver::{Judged, Soak};
use crate::plan::{End, Plan};
use crate::tally::{Finding, Tally};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// What a consumer has said of its visit.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    received: u64,
    reconnects: u64,
    /// The last thing that was no number.
    pub(crate) last: String,
}

impl Heard {
    /// Counts what are numbers, and gives back what else was said.
    pub(crate) fn note(&mut self, tally: &mut Tally, said: String) -> Option<String> {
        let number = |text: &str| text.parse::<u64>().expect("a number");
        match said.split(' ').collect::<Vec<_>>()[..] {
            ["n", received, reconnects] => {
                let (received, reconnects) = (number(received), number(reconnects));
                tally.received += received - self.received;
                tally.reconnects += reconnects - self.reconnects;
                (self.received, self.reconnects) = (received, reconnects);
                return None;
            }
            ["joined", policy] => {
                tally.joined(policy);
                (self.received, self.reconnects) = (0, 0);
            }
            ["watched"] => tally.watched += 1,
            ["forked"] => tally.forks += 1,
            ["out"] => tally.expelled += 1,
            _ => {}
        }
        self.last.clone_from(&said);
        Some(said)
    }

    /// Listens to the consumer that stays until it says this word.
    pub(crate) fn until(&mut self, word: &str, resident: &mut Peer, tally: &mut Tally) -> Judged {
        loop {
            match self.note(tally, resident.hear()) {
                Some(said) if said == word => return Ok(()),
                Some(said) if said.starts_with("failed ") => {
                    return Err(Finding::failed("the consumer that stays", &said));
                }
                _ => {}
            }
        }
    }
}

/// A consumer in its place.
pub(crate) struct Visitor {
    peer: Peer,
    seed: u64,
    plan: Plan,
    heard: Heard,
    began: Instant,
    killed: bool,
    /// When it is to be stopped, and until when.
    stop: Option<(Instant, Instant)>,
    is_stopped: bool,
}

impl Visitor {
    fn begin(soak: &mut Soak<'_>) -> Self {
        let seed = soak.dice.word();
        let plan = Plan::of(seed);
        let peer = play("consumes", soak.scratch.path(), seed);
        let began = Instant::now();
        let stop = plan.stopped.map(|(at, length)| (began + at, began + at + length));
        Self { peer, seed, plan, heard: Heard::default(), began, killed: false, stop, is_stopped: false }
    }

    /// What is due.
    fn act(&mut self, tally: &mut Tally) {
        let now = Instant::now();
        if self.plan.end == End::Kill && !self.killed && now >= self.began + self.plan.lasts {
            self.killed = true;
            self.peer.signal(Signal::SIGKILL);
        }
        match self.stop {
            Some((from, _)) if !self.is_stopped && now >= from => {
                tally.stops += 1;
                self.is_stopped = true;
                self.peer.signal(Signal::SIGSTOP);
            }
            Some((_, until)) if self.is_stopped && now >= until => self.go_on(),
            _ => {}
        }
    }

    fn go_on(&mut self) {
        if self.stop.take().is_some() && self.is_stopped {
            self.is_stopped = false;
            self.peer.signal(Signal::SIGCONT);
        }
    }

    fn leave(&mut self) {
        self.go_on();
        self.peer.hang_up();
    }

    fn who(&self, place: usize) -> String {
        format!("consumer {place}, pid {}, seed {:#x} ({})", self.peer.pid(), self.seed, self.plan)
    }
}

impl Soak<'_> {
    /// Looks at each place; a free one is taken again, unless all are to leave.
    pub(crate) fn look_after_places(&mut self, open: bool) -> Judged {
        for said in self.resident.overheard() {
            self.judge_resident(said)?;
        }
        if let Some(status) = self.resident.ended() {
            let why = format!("{status}, its last word `{}`", self.residents.last);
            return Err(Finding::failed("the consumer that stays", &why));
        }
        for place in 0..self.places.len() {
            let mut visitor = match self.places[place].take() {
                Some(visitor) => visitor,
                None if open => Visitor::begin(self),
                None => continue,
            };
            if let Some(status) = visitor.peer.ended() {
                self.judge(place, visitor, status)?;
                continue;
            }
            for said in visitor.peer.overheard() {
                visitor.heard.note(self.tally, said);
            }
            visitor.act(self.tally);
            self.places[place] = Some(visitor);
        }
        Ok(())
    }

    /// How it ended must be how it was to end.
    fn judge(&mut self, place: usize, mut visitor: Visitor, status: ExitStatus) -> Judged {
        for said in visitor.peer.said() {
            visitor.heard.note(self.tally, said);
        }
        let who = visitor.who(place);
        let words: Vec<_> = visitor.heard.last.split(' ').collect();
        let kills = &mut self.tally.kills;
        match (status.code(), status.signal(), &words[..]) {
            (Some(0), _, ["left"]) => self.tally.leaves += 1,
            (Some(0), _, ["closed", pid, drained]) => {
                self.tally.closed += 1;
                return self.judge_closed(&who, pid, drained);
            }
            (_, Some(libc::SIGKILL), _) if visitor.killed => kills.random += 1,
            (_, Some(libc::SIGKILL), _) if matches!(visitor.plan.end, End::Step(..)) => kills.step += 1,
            (_, Some(libc::SIGABRT), _) if visitor.plan.end == End::Abort => kills.abort += 1,
            _ => {
                let why = format!("{status}, its last word `{}`", visitor.heard.last);
                return Err(Finding::failed(&who, &why));
            }
        }
        Ok(())
    }

    /// It saw its producer's end: there must have been one, and a reliable consumer misses nothing of what came before.
    fn judge_closed(&self, who: &str, pid: &str, drained: &str) -> Judged {
        let Some(published) = pid.parse().ok().and_then(|pid| self.ended.get(&pid)) else {
            return Err(Finding::new(format!("{who}: says that producer {pid} has ended, which lives")));
        };
        match drained.parse::<u64>() {
            Ok(drained) if drained < *published => {
                let why =
                    format!("lost: received {drained} of the {published} frames of a producer that ended");
                Err(Finding::failed(who, &why))
            }
            _ => Ok(()),
        }
    }

    /// The consumer that stays tells of one visit after the other.
    pub(crate) fn judge_resident(&mut self, said: String) -> Judged {
        let Some(said) = self.residents.note(self.tally, said) else { return Ok(()) };
        match said.split(' ').collect::<Vec<_>>()[..] {
            ["left"] => self.tally.leaves += 1,
            ["closed", pid, drained] => {
                self.tally.closed += 1;
                return self.judge_closed("the consumer that stays", pid, drained);
            }
            ["failed", ..] => return Err(Finding::failed("the consumer that stays", &said)),
            _ => {}
        }
        Ok(())
    }

    /// Has everybody leave, and waits until they have.
    pub(crate) fn empty_places(&mut self) -> Judged {
        for visitor in self.places.iter_mut().flatten() {
            visitor.leave();
        }
        let until = Instant::now() + PATIENCE;
        loop {
            self.look_after_places(false)?;
            let Some(place) = self.places.iter().position(Option::is_some) else { return Ok(()) };
            if Instant::now() > until {
                let who = self.places[place].as_ref().map(|visitor| visitor.who(place));
                return Err(Finding::new(format!("{} does not leave", who.unwrap_or_default())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
