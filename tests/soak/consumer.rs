//! The consumers' roles: one life that ends as planned, or one visit after the other in a process that stays.

use crate::common::process::Stage;
use crate::common::{PATIENCE, SOON, check, threads};
use crate::facts::Facts;
use crate::plan::{Dice, End, Plan, step_text};
use crate::role::{Words, number_of, on_stall, orphan};
use crate::{STREAM, generation_of, is_watched};
use bips::{Consumer, Ending, Frame, OnStall, Policy, ReceiveError, Wait};
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// How often it says what it has received.
const SAY_EVERY: Duration = Duration::from_millis(50);

/// One life.
pub(crate) fn consume(stage: &Stage) {
    telling(stage, || {
        let plan = Plan::of(stage.number);
        match plan.end {
            End::Step(step, count) => {
                bips::testing::die_at(step_text(step), count).expect("a known step");
            }
            End::Abort => {
                let resource = nix::sys::resource::Resource::RLIMIT_CORE;
                nix::sys::resource::setrlimit(resource, 0, 0).expect("a lower limit");
            }
            End::Leave | End::Kill => {}
        }
        let words = Words::listen(stage);
        let outcome = Visit::begin(stage, plan, stage.number).run(&words);
        stage.say(outcome);
    });
}

/// Comes and goes, in every way, and at a quiet point says what it holds.
pub(crate) fn stay(stage: &Stage) {
    telling(stage, || {
        let words = Words::listen(stage);
        let mut dice = Dice::new(stage.number);
        // In each way once, for what is made once and stays.
        for (reconnect, polls) in [(false, false), (true, false), (false, true)] {
            let lasts = Duration::from_millis(50);
            let plan = Plan { reconnect, polls, lasts, ..harmless(&mut dice) };
            Visit::begin(stage, plan, dice.word()).run(&words);
        }
        stage.say("ready");
        let mut rests = false;
        loop {
            while rests || words.are_waiting() {
                match words.wait().as_str() {
                    "facts" => stage.say(format!("facts {}", Facts::now().encode())),
                    "quiet" => {
                        rests = true;
                        stage.say("quiet");
                    }
                    "go" => rests = false,
                    _ => return,
                }
            }
            let plan = harmless(&mut dice);
            stage.say(format!("visit {plan}"));
            let outcome = Visit::begin(stage, plan, dice.word()).run(&words);
            stage.say(outcome);
        }
    });
}

fn harmless(dice: &mut Dice) -> Plan {
    Plan { forks: false, end: End::Leave, ..Plan::of(dice.word()) }
}

/// Says why, before it fails.
fn telling(stage: &Stage, role: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(role)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        stage.say(format!("failed {}", text.replace('\n', " ")));
        resume_unwind(panic);
    }
}

/// From joining to leaving.
struct Visit<'a> {
    stage: &'a Stage,
    plan: Plan,
    dice: Dice,
    consumer: Consumer,
    held: VecDeque<(Frame, u64)>,
    /// Whose frames come now.
    generation: u64,
    /// The sequence due next, or at least.
    next: Option<u64>,
    /// Producers gone on with.
    reconnects: u64,
    producer: u32,
    received: u64,
    /// Whether it was seen to say in its seat that it lives.
    watched: bool,
    /// When it was joined, and when its numbers were said last.
    began: Instant,
    said: Instant,
}

impl<'a> Visit<'a> {
    fn begin(stage: &'a Stage, plan: Plan, seed: u64) -> Self {
        let began = Instant::now();
        let builder = stage.consumer(STREAM).policy(plan.policy).reconnect(plan.reconnect).wait(SOON);
        let consumer = builder.connect().unwrap_or_else(|error| panic!("can't join: {error}"));
        stage.say(format!("joined {}", plan.policy));
        Self {
            generation: generation_of(consumer.content().nbytes()),
            stage,
            plan,
            dice: Dice::new(!seed),
            held: VecDeque::new(),
            next: None,
            reconnects: 0,
            producer: consumer.producer_pid(),
            consumer,
            received: 0,
            watched: false,
            began,
            said: began,
        }
    }

    /// Its last word.
    fn run(mut self, words: &Words) -> String {
        let mut forks = self.plan.forks;
        loop {
            let over = self.began.elapsed() >= self.plan.lasts;
            if words.are_waiting() || over && matches!(self.plan.end, End::Leave | End::Step(..)) {
                return self.leave();
            }
            while self.held.len() >= self.plan.hold {
                self.give_back();
            }
            match self.take() {
                Ok(frame) => self.inspect(frame),
                Err(ReceiveError::Closed) => return self.closed(),
                Err(error) => panic!("{}", self.consumer.explain(error)),
            }
            if over && self.plan.end == End::Abort {
                std::process::abort();
            }
            if forks && self.received > 10 {
                forks = false;
                orphan(Duration::from_secs(self.dice.between(1, 4)));
                self.stage.say("forked");
            }
            if self.plan.lingers > 0 && self.dice.one_in(self.plan.lingers) {
                std::thread::sleep(self.dice.millis(1, 12));
            }
            if self.said.elapsed() >= SAY_EVERY {
                self.say();
            }
        }
    }

    fn say(&mut self) {
        self.stage.say(format!("n {} {}", self.received, self.reconnects));
        if !self.watched && is_watched(self.generation) && threads("bips-alive") > 0 {
            self.watched = true;
            self.stage.say("watched");
        }
        self.said = Instant::now();
    }

    /// The next frame, waited for with empty hands: several who hold one each and wait would wait for each other.
    fn take(&mut self) -> Result<Frame, ReceiveError> {
        match self.consumer.receive(Wait::Now) {
            Err(ReceiveError::Timeout) => {}
            taken => return taken,
        }
        while !self.held.is_empty() {
            self.give_back();
        }
        if !self.plan.polls {
            return self.consumer.receive(SOON);
        }
        let fd = self.consumer.poll_fd().unwrap_or_else(|error| panic!("no poll descriptor: {error}"));
        loop {
            match self.consumer.receive(Wait::Now) {
                Err(ReceiveError::Timeout) => {}
                taken => return taken,
            }
            // SAFETY: the consumer keeps it open.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let ready = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PATIENCE.as_millis() as u16);
            assert_eq!(ready, Ok(1), "the poll descriptor says nothing");
        }
    }

    /// Whole, of the right producer, in order; to a reliable one each.
    fn inspect(&mut self, frame: Frame) {
        let reconnects = frame.generation().into();
        if self.reconnects != reconnects {
            self.reconnects = reconnects;
            let producer = self.consumer.producer_pid();
            if producer == self.producer {
                self.stage.say("out"); // and in again
            }
            self.producer = producer;
            self.generation = generation_of(self.consumer.content().nbytes());
            self.next = None;
        }
        let (number, sequence) = (check(&frame), frame.sequence());
        assert_eq!(number, number_of(self.generation, sequence), "torn: another frame's content");
        let metadata = number.to_le_bytes();
        let metadata: &[u8] = if sequence % 5 == 0 { &metadata } else { b"" };
        assert_eq!(frame.metadata(), metadata, "torn: another frame's metadata");
        if let Some(next) = self.next {
            assert!(sequence >= next, "repeated: frame {sequence} after {next} was due");
            let all = self.plan.policy == Policy::Reliable;
            assert!(!all || sequence == next, "lost: frame {sequence} came where {next} was due");
        }
        self.next = Some(sequence + 1);
        self.received += 1;
        self.held.push_back((frame, number));
    }

    /// One that was held must be what it was, whatever became of its producer.
    fn give_back(&mut self) {
        if let Some((frame, number)) = self.held.pop_front()
            && self.dice.one_in(2)
        {
            assert_eq!(check(&frame), number, "torn while it was held");
        }
    }

    fn leave(mut self) -> String {
        self.say();
        let held = std::mem::take(&mut self.held);
        if self.dice.one_in(2) {
            // Frames may outlive their consumer.
            drop(self);
            for (frame, number) in held {
                assert_eq!(check(&frame), number, "torn after its consumer left");
            }
        }
        "left".into()
    }

    /// The driver knows whether that producer has ended, and how far it had come.
    fn closed(mut self) -> String {
        if self.consumer.ending() == Some(Ending::Expelled) {
            let generation = generation_of(self.consumer.content().nbytes());
            assert_ne!(on_stall(generation), OnStall::Wait, "put out by a producer that waits");
            self.stage.say("out");
            return self.leave();
        }
        self.say();
        let all = self.plan.policy == Policy::Reliable;
        let drained = self.next.filter(|_| all).map_or("-".into(), |next| next.to_string());
        format!("closed {} {drained}", self.consumer.producer_pid())
    }
}
