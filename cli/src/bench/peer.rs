//! The other process of a measurement: does what it is told on stdin, a line of JSON each, and answers on stdout.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cores::pin;
use super::death::Victim;
use super::floor::SharedPage;
use super::link::{Link, Upkeep, Waiting, consume, produce};
use super::{attach, scale, throughput};
use crate::args::Place;
use crate::child::myself;
use crate::exit::{Failure, Outcome};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[arg(long)]
    core: Option<usize>,
    #[arg(long)]
    page: i32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    Floor {
        count: usize,
        waiting: Waiting,
    },
    /// Join stream `there`, make stream `back`.
    Open {
        there: String,
        back: String,
        bytes: u64,
        waiting: Waiting,
    },
    Echo {
        count: usize,
        upkeep: Upkeep,
    },
    Close,
    /// Receive until the stream ends, reading every byte if `touch`.
    Drain {
        stream: String,
        touch: bool,
    },
    Gather(scale::Gather),
    Attach {
        stream: String,
        count: usize,
    },
    /// Join `stream`, or lease and read so many of its frames; keep them all.
    Hold {
        stream: String,
        count: usize,
    },
}

pub(super) fn run(args: &Args, place: &Place) -> Outcome {
    // Should the measuring process die, nobody is left to answer to.
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| Failure::system("prctl", errno))?;
    if let Some(core) = args.core {
        pin(core)?;
    }
    let page = SharedPage::inherited(args.page)?;
    let directory = place.path().ok_or_else(|| Failure::usage("the peer needs --directory"))?;
    let mut worker = Worker {
        page,
        directory: directory.into(),
        registry: bips_backends::registry(),
        link: None,
        victim: Victim::default(),
    };
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::system("read the next task", error))?;
        let task = serde_json::from_str(&line)
            .map_err(|error| Failure::system("understand the next task", error))?;
        let answer = match worker.work(task) {
            Ok(answer) => answer,
            // The measuring process prints it; the peer stays to be told the next thing, or to end.
            Err(failure) => json!({ "error": failure.into_message() }),
        };
        writeln!(stdout, "{answer}")
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::system("answer", error))?;
    }
    Ok(())
}

struct Worker {
    page: Arc<SharedPage>,
    directory: PathBuf,
    registry: bips::Registry,
    link: Option<Link>,
    victim: Victim,
}

impl Worker {
    fn work(&mut self, task: Task) -> Outcome<Value> {
        match task {
            Task::Floor { count, waiting } => {
                let mut turn = 0;
                (0..count).try_for_each(|_| self.page.pong(waiting, &mut turn))?;
            }
            Task::Open { there, back, bytes, waiting } => {
                let producer = Link::producer(produce(&self.directory, &self.registry, &back, bytes))?;
                let consumer = consume(&self.directory, &self.registry, &there);
                self.link = Some(Link::new(producer, consumer, waiting)?);
            }
            Task::Echo { count, upkeep } => {
                let link = self.link.as_mut().ok_or_else(|| Failure::failed("no stream is open"))?;
                (0..count).try_for_each(|_| link.pong(upkeep))?;
            }
            Task::Close => self.link = None,
            Task::Drain { stream, touch } => {
                return throughput::drain(
                    consume(&self.directory, &self.registry, &stream).connect()?,
                    touch,
                );
            }
            Task::Gather(gather) => return gather.run(&self.directory, &self.registry, &self.page),
            Task::Hold { stream, count } => {
                self.victim.work(&self.directory, &self.registry, &stream, count)?;
            }
            Task::Attach { stream, count } => {
                return attach::measure(&self.directory, &self.registry, &stream, count);
            }
        }
        Ok(Value::Null)
    }
}

/// The measuring process's hold on its peer.
pub(super) struct Peer {
    tasks: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    page: Arc<SharedPage>,
    watcher: Option<JoinHandle<()>>,
    pid: Pid,
}

impl Peer {
    pub(super) fn start(directory: &Path, core: Option<usize>) -> Outcome<Self> {
        let page = SharedPage::create()?;
        let mut command = myself()?;
        command.arg("--directory").arg(directory).args([
            "bench",
            "peer",
            "--page",
            &page.number().to_string(),
        ]);
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::system("start the other process", error))?;
        let (Some(tasks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::failed("the other process has no pipes"));
        };
        let pid = Pid::from_raw(child.id().cast_signed());
        let watcher = std::thread::spawn({
            let page = Arc::clone(&page);
            move || watch(child, &page)
        });
        let answers = BufReader::new(answers).lines();
        Ok(Self { tasks: Some(tasks), answers, page, watcher: Some(watcher), pid })
    }

    pub(super) fn page(&self) -> &SharedPage {
        &self.page
    }

    /// Its process, until it was waited for.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sets the peer to work; its answer is fetched with [`Peer::answer`].
    pub(super) fn tell(&mut self, task: &Task) -> Outcome {
        let text = serde_json::to_string(task).map_err(|error| Failure::system("write a task", error))?;
        let Some(tasks) = &mut self.tasks else {
            return Err(Failure::failed("the other process was sent away"));
        };
        writeln!(tasks, "{text}").map_err(|error| Failure::system("tell the other process", error))
    }

    pub(super) fn answer(&mut self) -> Outcome<Value> {
        let line = match self.answers.next() {
            Some(Ok(line)) => line,
            _ => {
                return Err(Failure::failed("the other process of the measurement ended before its time"));
            }
        };
        let value: Value =
            serde_json::from_str(&line).map_err(|error| Failure::system("read the answer", error))?;
        match value.get("error").and_then(Value::as_str) {
            Some(error) => Err(Failure::failed(format!("in the other process: {error}"))),
            None => Ok(value),
        }
    }

    pub(super) fn ask(&mut self, task: &Task) -> Outcome<Value> {
        self.tell(task)?;
        self.answer()
    }
}

/// Frees whoever waits on the page for a process that is no more.
fn watch(mut child: Child, page: &SharedPage) {
    // An error means that there is no such child any more, which is the same news.
    let _ = child.wait();
    page.abandon();
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be waiting on the page or for a task; both end now, and with them the process.
        self.page.abandon();
        self.tasks = None;
        if let Some(watcher) = self.watcher.take() {
            // A watcher that panicked has nothing left to tell.
            let _ = watcher.join();
        }
    }
}
