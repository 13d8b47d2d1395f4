//! Threads that wait for devices in other threads' places.
//!
//! One for each fence that is waited for: a timeline is waited for by a call that blocks, and none of them may keep another
//! waiting. There are as many fences open as there are leases that devices use, so they are few. A thread without work
//! stays for a while.

use super::Fence;
use crate::sys::PerProcess;
use crate::sys::aside::quiet_thread;
use crate::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a thread without work stays.
const PATIENCE: Duration = Duration::from_secs(5);

type After = Box<dyn FnOnce(Result<()>) + Send>;

/// A fence, how long it is waited for, and what comes then.
type Job = (Fence, Option<Duration>, After);

#[derive(Default)]
struct Office {
    state: Mutex<State>,
    called: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    idle: usize,
}

static OFFICE: PerProcess<Office> = PerProcess::new();

impl Fence {
    /// Has `after` called once the work is done or has failed: now, where it has, else by a thread of bips, which takes no
    /// signals. The fence is let go of before. A forked child's parent does it.
    pub fn then(self, after: impl FnOnce(Result<()>) + Send + 'static) {
        self.attended(None, after);
    }

    /// The same, and with `Timeout` where it is not done in so long.
    pub fn then_within(self, limit: Duration, after: impl FnOnce(Result<()>) + Send + 'static) {
        self.attended(Some(limit), after);
    }

    /// Keeps something until the work is done or has failed, such as a frame that a device uses.
    ///
    /// # Errors
    /// What the timeline has to report by now; then nothing is kept.
    pub fn keep(self, kept: impl Send + 'static) -> Result<()> {
        if !self.wait_for(Duration::ZERO)? {
            self.then(move |done| {
                if let Err(error) = done {
                    tracing::warn!(%error, "a device failed in what it was waited for");
                }
                drop(kept);
            });
        }
        Ok(())
    }

    fn attended(self, limit: Option<Duration>, after: impl FnOnce(Result<()>) + Send + 'static) {
        match self.wait_for(Duration::ZERO) {
            Ok(false) => OFFICE.get(Office::default).attend((self, limit, Box::new(after))),
            done => {
                drop(self);
                after(done.map(drop));
            }
        }
    }
}

impl Office {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attend(&'static self, job: Job) {
        let mut state = self.lock();
        state.waiting.push_back(job);
        if state.waiting.len() <= state.idle {
            drop(state);
            self.called.notify_one();
            return;
        }
        drop(state);
        if let Err(error) = quiet_thread("bips-fence", || self.work()) {
            // Another may be there for it by now; else nobody is left but the caller.
            if let Some(job) = self.lock().waiting.pop_back() {
                tracing::warn!(%error, "waiting for a device in its caller's thread");
                run(job);
            }
        }
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            run(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let (woken, time) =
                self.called.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if time.timed_out() && state.waiting.is_empty() {
                return None;
            }
        }
    }
}

fn run((fence, limit, after): Job) {
    let done = match limit {
        None => fence.wait(),
        Some(limit) => fence.wait_for(limit).and_then(|done| {
            let late = || Error::new(ErrorKind::Timeout, format!("a device was not done within {limit:?}"));
            if done { Ok(()) } else { Err(late()) }
        }),
    };
    drop(fence);
    after(done);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Hand;
    use std::sync::{Arc, mpsc};

    #[test]
    fn what_is_done_is_followed_up_at_once_and_here() {
        let here = std::thread::current().id();
        let (say, hear) = mpsc::channel();
        Fence::Signaled.then(move |done| say.send((done.is_ok(), std::thread::current().id())).unwrap());
        assert_eq!(hear.recv().unwrap(), (true, here));
    }

    #[test]
    fn patience_ends() {
        let (say, hear) = mpsc::channel();
        let fence = Fence::Timeline(Arc::new(Hand::default()), 1);
        fence.then_within(Duration::from_millis(20), move |done| say.send(done.unwrap_err().kind()).unwrap());
        assert_eq!(hear.recv_timeout(Duration::from_secs(20)).unwrap(), ErrorKind::Timeout);
    }

    #[test]
    fn each_is_followed_up_when_it_is_done_and_none_waits_for_another() {
        let (say, hear) = mpsc::channel();
        let hands: Vec<_> = (0..20).map(|_| Arc::new(Hand::default())).collect();
        for (number, hand) in hands.iter().enumerate() {
            let (say, mine) = (say.clone(), Arc::downgrade(hand));
            let fence = Fence::Timeline(hand.clone(), 1);
            fence.then(move |done| {
                let kind = done.err().map(|error| error.kind());
                // The test's own reference is the only one left.
                say.send((number, kind, mine.strong_count())).unwrap();
            });
        }
        let soon = Duration::from_secs(20);
        for number in (0..20).rev() {
            let fails = number % 3 == 0;
            if fails {
                hands[number].fail()
            } else {
                hands[number].reach(1)
            }
            let expected = (number, fails.then_some(ErrorKind::Lost), 1);
            assert_eq!(hear.recv_timeout(soon).unwrap(), expected);
        }
    }
}
