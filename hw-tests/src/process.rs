//! A process for one attempt: watched, stopped when it takes too long, and told apart by how it ended.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A process that SIGKILL does not end for so long sits in a driver that does not let go of it.
const UNTIL_KILLED: Duration = Duration::from_secs(5);

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    Exited(i32),
    /// By a signal that did not come from here.
    Signaled(Signal),
    /// It was stopped for the time it took. With what is known if not even that ended it.
    Overran {
        stuck: Option<String>,
    },
}

/// This program, for one of its inner tasks.
pub(crate) fn myself() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("finding this program's own file")?))
}

/// Runs it with everything it says in `log`, calling `tick` while it lasts. Its children are in its group and end with
/// it.
pub(crate) fn run(
    command: &mut Command,
    log: &Path,
    limit: Duration,
    tick: &mut dyn FnMut(Duration),
) -> Result<(End, Duration)> {
    // A file and no pipe: a grandchild that hangs could keep a pipe open.
    let open = || File::create(log).with_context(|| format!("cannot write {}", log.display()));
    let said = open()?;
    command.stdin(Stdio::null()).stderr(said.try_clone()?).stdout(said).process_group(0);
    watch(command, limit, tick)
}

/// The same for one that answers on its standard output.
pub(crate) fn ask(command: &mut Command, answer: &Path, limit: Duration) -> Result<(End, String)> {
    let file = File::create(answer).with_context(|| format!("cannot write {}", answer.display()))?;
    command.stdin(Stdio::null()).stdout(file).process_group(0);
    let (end, _) = watch(command, limit, &mut |_| ())?;
    Ok((end, fs::read_to_string(answer)?))
}

fn watch(command: &mut Command, limit: Duration, tick: &mut dyn FnMut(Duration)) -> Result<(End, Duration)> {
    let started = Instant::now();
    let mut child = command.spawn().context("starting this program again")?;
    let ended = loop {
        if let Some(end) = ended(&child)? {
            break end;
        }
        if started.elapsed() > limit {
            let stuck = stop(&child)?;
            if stuck.is_some() {
                // It can't be waited for; whoever starts this machine again will have it gone.
                return Ok((End::Overran { stuck }, started.elapsed()));
            }
            break End::Overran { stuck: None };
        }
        tick(started.elapsed());
        std::thread::sleep(LOOK_EVERY);
    };
    // Before its pid is given back: until then no other group can have this number.
    let _ = killpg(pid(&child), Signal::SIGKILL);
    child.wait()?;
    Ok((ended, started.elapsed()))
}

/// Looks without taking its pid away.
fn ended(child: &Child) -> io::Result<Option<End>> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    Ok(match waitid(Id::Pid(pid(child)), flags)? {
        WaitStatus::Exited(_, code) => Some(End::Exited(code)),
        WaitStatus::Signaled(_, signal, _) => Some(End::Signaled(signal)),
        _ => None,
    })
}

/// Kills it and what it has started; says where it is if it stays.
fn stop(child: &Child) -> Result<Option<String>> {
    killpg(pid(child), Signal::SIGKILL).context("stopping a process of our own")?;
    let until = Instant::now() + UNTIL_KILLED;
    while ended(child)?.is_none() {
        if Instant::now() > until {
            let place = fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
            return Ok(Some(format!("pid {} in `{place}`", child.id())));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(None)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> (End, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let (end, _) = run(Command::new("sh").args(["-c", script]), &log, limit, &mut |_| ()).unwrap();
        (end, fs::read_to_string(log).unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(sh("echo one; echo two >&2; exit 3", LONG), (End::Exited(3), "one\ntwo\n".into()));
        assert_eq!(sh("kill -SEGV $$", LONG).0, End::Signaled(Signal::SIGSEGV));
        let (end, said) = sh("echo before; sleep 3600", Duration::from_millis(300));
        assert_eq!((end, said.as_str()), (End::Overran { stuck: None }, "before\n"));
    }

    #[test]
    fn what_it_started_ends_with_it() {
        for (script, limit) in
            [("sleep 3600 & echo $!", LONG), ("sleep 3600 & echo $!; wait", Duration::from_secs(1))]
        {
            let (_, said) = sh(script, limit);
            let stat = format!("/proc/{}/stat", said.trim());
            let until = Instant::now() + LONG;
            // Gone, or a zombie of a parent that is not this process.
            while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                assert!(Instant::now() < until, "{said} lives");
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}
