//! The producers, one after the other under the same name.

use crate::common::Scratch;
use crate::common::process::Peer;
use crate::driver::{Judged, Soak, plainly};
use crate::facts::Facts;
use crate::plan::{Dice, Fall, Reign, step_text};
use crate::tally::{Finding, Tally};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// How long a producer may take to come to the step at which it is to die.
const STEP_WITHIN: Duration = Duration::from_secs(1);

/// The producer of the moment.
pub(crate) struct Ruler {
    pub(crate) peer: Peer,
    pub(crate) reign: Reign,
    /// When it is to end.
    pub(crate) until: Instant,
    /// As said last, and how much of that is counted.
    published: u64,
    counted: u64,
}

/// A producer's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) consumers: u64,
    /// Slots that could be acquired at once.
    pub(crate) free: u64,
    pub(crate) facts: Facts,
}

/// Mostly short, some long enough for several quiet points; 20 s in the mean.
fn until(dice: &mut Dice, pace: f64) -> Instant {
    let length = if dice.one_in(6) { dice.millis(50_000, 70_000) } else { dice.millis(5000, 19_000) };
    Instant::now() + length.mul_f64(pace)
}

impl Ruler {
    fn new(peer: Peer, reign: Reign, until: Instant) -> Self {
        Self { peer, reign, until, published: 0, counted: 0 }
    }

    pub(crate) fn first(scratch: &Scratch, dice: &mut Dice, pace: f64) -> Self {
        Self::plain(scratch, 0, until(dice, pace))
    }

    fn plain(scratch: &Scratch, generation: u64, until: Instant) -> Self {
        let reign = Reign { generation, forks: false, dies: None };
        let mut peer = plainly("produces", scratch, reign.encode());
        peer.expect("created");
        Self::new(peer, reign, until)
    }

    /// What a producer of that generation would hold while nobody has joined it.
    pub(crate) fn rest_of(scratch: &Scratch, generation: u64) -> Judged<Facts> {
        let mut ruler = Self::plain(scratch, generation, Instant::now());
        let rest = ruler.at_rest(scratch)?;
        ruler.peer.hang_up();
        let status = ruler.peer.end();
        if status.success() { Ok(rest) } else { Err(Finding::failed(&ruler.who(), &status.to_string())) }
    }

    pub(crate) fn who(&self) -> String {
        format!("producer {}, pid {}", self.reign.generation, self.peer.pid())
    }

    /// Whether it was a number.
    fn note(&mut self, said: &str) -> bool {
        match said.strip_prefix("n ") {
            Some(published) => {
                self.published = published.parse().expect("a number");
                true
            }
            None => false,
        }
    }

    pub(crate) fn overhear(&mut self, tally: &mut Tally) {
        for said in self.peer.overheard() {
            self.note(&said);
        }
        tally.published += self.published - self.counted;
        self.counted = self.published;
    }

    /// What it holds while nobody has joined it: once its thread has answered somebody, so that it has begun, and as
    /// soon as that leaves no more trace.
    pub(crate) fn at_rest(&mut self, scratch: &Scratch) -> Judged<Facts> {
        bips::query(crate::STREAM, Some(scratch.path())).map_err(|error| Finding::new(error.to_string()))?;
        let (mut last, mut same) = (Facts::default(), 0);
        while same < 3 {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.facts()?.facts;
            let exact = |facts: Facts| Facts { private: 0, ..facts };
            same = if exact(now) == exact(last) { same + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }

    /// Asks what it holds.
    pub(crate) fn facts(&mut self) -> Judged<Answer> {
        self.peer.tell("facts");
        loop {
            let said = self.peer.hear();
            if self.note(&said) {
                continue;
            }
            let answer = said.strip_prefix("facts ").and_then(|rest| {
                let mut parts = rest.splitn(3, ' ');
                let (consumers, free) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                Some(Answer { consumers, free, facts: Facts::decode(parts.next()?)? })
            });
            return answer.ok_or_else(|| Finding::failed(&self.who(), &said));
        }
    }
}

impl Soak<'_> {
    /// The producer dies, one way or another, and the next takes its name at once.
    pub(crate) fn change_producers(&mut self) -> Judged {
        let fall = Fall::draw(&mut self.dice);
        let peer = &mut self.ruler.peer;
        if let Some(status) = peer.ended() {
            let why = format!("{status}, its last words {:?}", peer.said());
            return Err(Finding::failed(&self.ruler.who(), &why));
        }
        let how = match fall {
            Fall::Kill => "at random".to_owned(),
            Fall::Step(step, count) => {
                peer.tell(&format!("die {step} {count}"));
                format!("at `{}` for time {count}", step_text(step))
            }
            Fall::Closing(step) => {
                peer.tell(&format!("die {step} 1"));
                peer.tell("close");
                format!("at `{}`", step_text(step))
            }
        };
        let patience = Instant::now() + STEP_WITHIN;
        let mut ended = None;
        while fall != Fall::Kill && ended.is_none() && Instant::now() < patience {
            ended = peer.ended();
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = ended.unwrap_or_else(|| {
            peer.signal(Signal::SIGKILL);
            peer.end()
        });
        let who = self.ruler.who();
        self.note_end()?;
        if status.signal() != Some(libc::SIGKILL) {
            return Err(Finding::failed(&who, &format!("{status}, where it was to die {how}")));
        }
        match ended {
            Some(_) => self.tally.kills.producers_at_step += 1,
            None => self.tally.kills.producers += 1,
        }
        self.succeed()?;
        self.print(format!("{who} killed {how}; producer {} reigns", self.ruler.reign.generation));
        Ok(())
    }

    /// Keeps what a producer that has ended said last.
    pub(crate) fn note_end(&mut self) -> Judged {
        let ruler = &mut self.ruler;
        for said in ruler.peer.said() {
            if !ruler.note(&said) {
                return Err(Finding::failed(&ruler.who(), &said));
            }
        }
        ruler.overhear(self.tally);
        self.ended.insert(ruler.peer.pid(), ruler.published);
        Ok(())
    }

    /// The next producer; some don't live to see the name theirs.
    fn succeed(&mut self) -> Judged {
        let mut generation = self.ruler.reign.generation;
        loop {
            generation += 1;
            let reign = Reign::draw(&mut self.dice, generation);
            let mut peer = plainly("produces", self.scratch, reign.encode());
            self.tally.producers += 1;
            if reign.dies.is_none() {
                peer.expect("created");
                self.tally.forks += u64::from(reign.forks);
                self.ruler = Ruler::new(peer, reign, until(&mut self.dice, self.pace));
                return Ok(());
            }
            let status = peer.end();
            if status.signal() != Some(libc::SIGKILL) {
                let why = format!("{status}, where it was to die while it takes the name");
                return Err(Finding::failed(&format!("producer {generation}"), &why));
            }
            self.ended.insert(peer.pid(), 0);
            self.tally.kills.producers_at_step += 1;
        }
    }
}
