//! A request on its way to the producer of a name, who may not be there yet, or full, or stopped.

use super::message::{Reply, Request};
use super::rendezvous::{self, Appearance};
use crate::step::{Step, reach};
use crate::stream::{StreamName, runtime_dir};
use crate::sys::fork::ProcessFd;
use crate::sys::socket::{self, Received};
use crate::wait::Deadline;
use crate::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a producer that took the connection may need to answer, however little time the caller has. It takes
/// 0.1 ms; this is for a machine that is busy with something else.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

/// How long to leave a producer alone that has no place just now: at first, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// How often an interrupt is asked for while waiting.
const INTERRUPT: Duration = Duration::from_millis(50);

/// How long a wait may take.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub(crate) deadline: Deadline,
    /// The least time a producer gets to answer.
    pub(crate) answer: Duration,
    /// Whether the caller has another reason to stop.
    pub(crate) interrupt: Option<&'a dyn Fn() -> bool>,
}

impl Patience<'_> {
    /// For something that is there or isn't.
    pub(crate) const SHORT: Self = Self { deadline: Deadline::Passed, answer: ANSWER, interrupt: None };

    fn interrupted(&self) -> bool {
        self.interrupt.is_some_and(|interrupt| interrupt())
    }

    /// Sleeps until the descriptor is readable, `until`, or, rather sooner, to let the caller interrupt.
    fn sleep(&self, on: Option<BorrowedFd<'_>>, until: Option<Duration>) -> Result<bool> {
        let until = match self.interrupt {
            Some(_) => Some(until.map_or(INTERRUPT, |until| until.min(INTERRUPT))),
            None => until,
        };
        let mut fds: Vec<_> = on.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, poll_timeout(until)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(Error::system("waiting for the producer", errno)),
        }
    }
}

/// A time for `poll`, rounded up: waking a moment early would only mean to wait again.
pub(super) fn poll_timeout(timeout: Option<Duration>) -> PollTimeout {
    timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(timeout.saturating_add(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
    })
}

/// The producer's reply, the descriptors that came with it, and the connection they came by.
pub(super) type Answer = (ProcessFd, Reply, Vec<OwnedFd>);

/// One request. It can be left and taken up again: [`Asking::advance`] goes on where it stood.
#[derive(Debug)]
pub(super) struct Asking {
    root: Option<PathBuf>,
    name: StreamName,
    request: Request,
    stage: Stage,
    rest: Duration,
    /// Why the last attempt came to nothing, where it wasn't that nobody publishes the name.
    refusal: Option<Error>,
}

#[derive(Debug)]
enum Stage {
    /// Nobody listens under the name, as far as we know. The watch tells when that may have changed.
    Away(Option<Appearance>),
    /// The producer had no place for us, or was just ending: ask again then.
    Resting(Instant),
    /// The answer is to come; asked at that time.
    Asked(ProcessFd, Instant),
}

impl Asking {
    pub(super) fn new(root: Option<&Path>, name: &StreamName, request: Request) -> Self {
        Self {
            root: root.map(Path::to_path_buf),
            name: name.clone(),
            request,
            stage: Stage::Away(None),
            rest: REST.0,
            refusal: None,
        }
    }

    /// Goes on until there is an answer. `None` when time is up or the caller interrupted; [`Asking::why_not`]
    /// says what it waited for.
    pub(super) fn advance(&mut self, patience: &Patience<'_>) -> Result<Option<Answer>> {
        loop {
            let left = match &self.stage {
                Stage::Asked(_, since) => {
                    let due = patience.answer.saturating_sub(since.elapsed());
                    patience.deadline.left_at_least(due)
                }
                _ => patience.deadline.left(),
            };
            let turn = match &mut self.stage {
                Stage::Away(_) => self.connect(patience, left)?,
                Stage::Resting(until) => match until.checked_duration_since(Instant::now()) {
                    None => Turn::Next(Stage::Away(None)),
                    Some(rest) => match left {
                        None => Turn::Stay,
                        Some(left) => {
                            let rest = left.map_or(rest, |left| left.min(rest));
                            patience.sleep(None, Some(rest))?;
                            Turn::Again
                        }
                    },
                },
                Stage::Asked(..) => self.hear(patience, left)?,
            };
            match turn {
                Turn::Next(stage) => self.stage = stage,
                Turn::Again => {}
                Turn::Stay => return Ok(None),
                Turn::Done(answer) => return Ok(Some(*answer)),
            }
            if patience.interrupted() {
                return Ok(None);
            }
        }
    }

    fn connect(&mut self, patience: &Patience<'_>, left: Option<Option<Duration>>) -> Result<Turn> {
        let root = runtime_dir(self.root.as_deref())?;
        match rendezvous::try_connect(&root, &self.name) {
            Ok(Some(socket)) => {
                let socket = ProcessFd::new(socket)?;
                reach(Step::AskConnected);
                // What fails here shows in the answer: a producer that is full says so before it is asked.
                let _ = socket::send(socket.as_fd(), &self.request.encode(), &[]);
                reach(Step::AskSent);
                return Ok(Turn::Next(Stage::Asked(socket, Instant::now())));
            }
            // It takes no more connections just now.
            Err(error) if error.kind() == ErrorKind::Timeout => return Ok(self.rest(error)),
            Err(error) => return Err(error),
            Ok(None) => self.refusal = None,
        }
        let Some(left) = left else { return Ok(Turn::Stay) };
        let Stage::Away(watch) = &mut self.stage else { return Ok(Turn::Again) };
        match watch {
            // Watch first, then look once more: what appears in between is seen either way.
            None => *watch = Some(Appearance::watch(&root, &self.name)?),
            Some(appearance) => {
                if patience.sleep(Some(appearance.as_fd()), left)? {
                    *watch = None; // the place to watch may be a deeper one now
                }
            }
        }
        Ok(Turn::Again)
    }

    fn hear(&mut self, patience: &Patience<'_>, left: Option<Option<Duration>>) -> Result<Turn> {
        let Stage::Asked(socket, _) = &self.stage else { return Ok(Turn::Again) };
        match socket::receive(socket.as_fd())? {
            Received::Empty => {
                let Some(left) = left else { return Ok(Turn::Stay) };
                patience.sleep(Some(socket.as_fd()), left)?;
                Ok(Turn::Again)
            }
            Received::Gone => {
                let text = "the producer ended while it was asked; try again";
                Ok(self.rest(Error::new(ErrorKind::NotFound, text)))
            }
            Received::Message(message, fds) => {
                match Reply::decode(&message).inspect(|_| reach(Step::AskAnswered))? {
                    // It is just closing, and a successor may take the name; or it is full, and somebody may leave.
                    Reply::Refused(kind @ (ErrorKind::Closed | ErrorKind::Timeout), text) => {
                        Ok(self.rest(Error::new(kind, text)))
                    }
                    Reply::Refused(kind, text) => Err(Error::new(kind, text)),
                    reply => match std::mem::replace(&mut self.stage, Stage::Away(None)) {
                        Stage::Asked(socket, _) => Ok(Turn::Done(Box::new((socket, reply, fds)))),
                        _ => Ok(Turn::Again),
                    },
                }
            }
        }
    }

    fn rest(&mut self, refusal: Error) -> Turn {
        self.refusal = Some(refusal);
        let until = Instant::now() + self.rest;
        self.rest = (self.rest * 2).min(REST.1);
        Turn::Next(Stage::Resting(until))
    }

    /// What it still waited for when time was up.
    pub(super) fn why_not(&mut self) -> Error {
        let error = match (&self.stage, self.refusal.take()) {
            (Stage::Asked(..), _) => Error::new(
                ErrorKind::Timeout,
                "the producer is there but does not answer; is it stopped (SIGSTOP, a paused container)?",
            ),
            (_, Some(refusal)) => refusal,
            (_, None) => match runtime_dir(self.root.as_deref()) {
                Ok(root) => not_found(&root, &self.name, &self.request),
                Err(error) => error,
            },
        };
        let error = error.with("stream", &self.name);
        // Whom to look at, since it doesn't say so itself.
        let root = runtime_dir(self.root.as_deref()).ok().filter(|_| error.kind() == ErrorKind::Timeout);
        match root.and_then(|root| rendezvous::holder_of(&root, &self.name)) {
            Some(pid) => error.with("producer's pid", pid),
            None => error,
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Explicitly: a forked child may share the connection, and would keep the seat that comes by it.
        if let Stage::Asked(socket, _) = &self.stage
            && socket.is_ours()
        {
            socket::hang_up(socket.as_fd());
        }
    }
}

enum Turn {
    Next(Stage),
    Again,
    /// Time is up.
    Stay,
    Done(Box<Answer>),
}

fn not_found(root: &Path, name: &StreamName, request: &Request) -> Error {
    let living = super::listing::names_in(root).unwrap_or_default();
    let there = match living.as_slice() {
        [] => String::from("no stream is published there"),
        names => format!("published there: {}", names.join(", ")),
    };
    let next = match request {
        Request::Join(..) => "start the producer, wait longer, or",
        Request::Query => "see `bips ls`, start the producer, or",
    };
    Error::new(
        ErrorKind::NotFound,
        format!(
            "no producer publishes {name:?} in {}; {there}; {next} check that both sides use the same BIPS_DIR",
            root.display(),
            name = name.as_str()
        ),
    )
}
