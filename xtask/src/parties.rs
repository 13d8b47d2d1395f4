//! Processes that work together: started together, awaited together, and ended together when one fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::step::{Progress, shown, tail};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// When one has failed the others usually end by themselves, and say why in their logs.
const GRACE: Duration = Duration::from_secs(5);

struct Party {
    name: &'static str,
    child: Child,
    log: PathBuf,
    ended: Option<std::process::ExitStatus>,
}

impl Party {
    fn look(&mut self) -> Result<()> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("lost sight of the {}", self.name))?;
        }
        Ok(())
    }

    fn failed(&self) -> bool {
        self.ended.is_some_and(|status| !status.success())
    }
}

pub(crate) struct Parties {
    folder: PathBuf,
    all: Vec<Party>,
}

impl Parties {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), all: Vec::new() }
    }

    /// Starts one: its standard output goes to `NAME.json` when it's a program that prints its result, its
    /// complaints to `NAME.log`.
    pub(crate) fn start(&mut self, name: &'static str, mut command: Command) -> Result<()> {
        let log = self.folder.join(format!("{name}.log"));
        let errors = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let output = if command.get_args().any(|argument| argument == "--json") {
            File::create(self.folder.join(format!("{name}.json")))?
        } else {
            errors.try_clone()?
        };
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().with_context(|| format!("cannot start `{}`", shown(&command)))?;
        self.all.push(Party { name, child, log, ended: None });
        Ok(())
    }

    /// Until all have ended well, or one hasn't.
    pub(crate) fn wait(&mut self, progress: &Progress, patience: Duration) -> Result<()> {
        let started = Instant::now();
        let mut failed_at = None;
        loop {
            for party in &mut self.all {
                party.look()?;
            }
            if self.all.iter().all(|party| party.ended.is_some()) || started.elapsed() > patience {
                break;
            }
            if failed_at.is_none() && self.all.iter().any(Party::failed) {
                failed_at = Some(Instant::now());
            }
            if failed_at.is_some_and(|instant| instant.elapsed() > GRACE) {
                break;
            }
            progress.tick();
            thread::sleep(LOOK_EVERY);
        }
        if self.all.iter().all(|party| party.ended.is_some_and(|status| status.success())) {
            return Ok(());
        }
        bail!("{}", self.told());
    }

    /// What became of each, and the last that it said: often only another one's words explain a failure.
    pub(crate) fn told(&self) -> String {
        let one = |party: &Party| {
            let what = match party.ended {
                Some(status) if status.success() => "ended well".to_owned(),
                Some(status) => format!("ended with {status}"),
                None => format!("had not ended; its process {} is being ended now", party.child.id()),
            };
            format!("the {} {what}: {}\n{}", party.name, party.log.display(), tail(&party.log))
        };
        self.all.iter().map(one).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Parties {
    /// Nobody outlives this.
    fn drop(&mut self) {
        for party in &mut self.all {
            if party.ended.is_none() {
                let _ = party.child.kill();
                let _ = party.child.wait();
            }
        }
    }
}
