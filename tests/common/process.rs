//! Children: the test program run again, each playing one role, spoken to line by line.

use super::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

const ROLE: &str = "BIPS_TEST_ROLE";
const DIRECTORY: &str = "BIPS_TEST_DIR";
const NUMBER: &str = "BIPS_TEST_NUMBER";
/// What a child is told by, for those who start it where the environment doesn't reach.
pub(crate) const TOLD_BY: [&str; 3] = [ROLE, DIRECTORY, NUMBER];

/// A child in its role; killed, by its pid, when the test is done with it.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<String>,
    role: String,
}

/// What a role knows: where the streams are, and the number it was given.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) directory: PathBuf,
    pub(crate) number: u64,
}

pub(crate) type Role = (&'static str, fn(&Stage));

/// Makes a child playing `role`.
#[track_caller]
pub(crate) fn play(role: &str, directory: &Path, number: u64) -> Peer {
    let program = std::env::current_exe().expect("a test program has a path");
    play_by(Command::new(program), role, directory, number)
}

/// Makes a child playing `role` by a command that runs this test program, perhaps elsewhere.
#[track_caller]
pub(crate) fn play_by(mut command: Command, role: &str, directory: &Path, number: u64) -> Peer {
    command.args(["--exact", "child_process", "--nocapture"]);
    play_as(command, role, directory, number)
}

/// Makes a child playing `role` by a command that runs any program that speaks as this one does.
#[track_caller]
pub(crate) fn play_as(mut command: Command, role: &str, directory: &Path, number: u64) -> Peer {
    let mut child = command
        .env(ROLE, role)
        .env(DIRECTORY, directory)
        .env(NUMBER, number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program that plays a role can be started");
    let out = child.stdout.take().expect("piped");
    let (sender, from) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The test harness writes its own lines, and may have begun one when the role speaks.
            if let Some((_, said)) = line.split_once('@')
                && sender.send(said.to_owned()).is_err()
            {
                return;
            }
        }
    });
    Peer { to: child.stdin.take(), child, from, role: role.to_owned() }
}

impl Peer {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next thing the child says.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        match self.from.recv_timeout(PATIENCE) {
            Ok(said) => said,
            Err(error) => panic!("{} says nothing ({error}); {:?}", self.role, self.child.try_wait()),
        }
    }

    /// All that the child has said until now and nobody heard.
    pub(crate) fn overheard(&self) -> Vec<String> {
        self.from.try_iter().collect()
    }

    /// All that a child that has ended said and nobody heard.
    pub(crate) fn said(&self) -> Vec<String> {
        self.from.iter().collect()
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let said = self.hear();
        assert_eq!(said, text, "from {}", self.role);
    }

    /// Says something the child waits for in [`Stage::hear`].
    #[track_caller]
    pub(crate) fn tell(&mut self, text: &str) {
        let to = self.to.as_mut().expect("not hung up");
        writeln!(to, "{text}").expect("the child listens");
        to.flush().expect("the child listens");
    }

    /// Says no more: the child hears the end, [`Stage::hear`] gives it an empty line.
    pub(crate) fn hang_up(&mut self) {
        self.to = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("our own child, not waited for yet");
    }

    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let state = format!("/proc/{}/stat", self.pid());
        super::eventually("the child stops", || {
            let stat = std::fs::read_to_string(&state).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"))
        });
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// kill -9, and until it is gone.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.end();
        assert_eq!(status.signal(), Some(9), "{} had ended by itself: {status}", self.role);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < until, "{} does not end", self.role);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let status = self.end();
        assert!(status.success(), "{} failed: {status}; see its output above", self.role);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process was started for a role.
pub(crate) fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// What each test program's `child_process` does: nothing, unless this process was started for a role.
pub(crate) fn child(roles: &[Role]) {
    let Ok(role) = std::env::var(ROLE) else { return };
    // SAFETY: a plain number; the kernel ends this process when the test that made it is gone.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let stage = Stage {
        directory: std::env::var_os(DIRECTORY).map_or_else(PathBuf::new, PathBuf::from),
        number: std::env::var(NUMBER).map_or(0, |number| number.parse().expect("a number")),
    };
    let (_, role) = roles.iter().find(|(name, _)| *name == role).expect("a known role");
    role(&stage);
}

impl Stage {
    /// Tells the test something, at once.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "@{text}");
        let _ = out.flush();
    }

    /// Waits for the test's word; empty when it has hung up.
    pub(crate) fn hear(&self) -> String {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        line.trim_end().to_owned()
    }

    pub(crate) fn producer(&self, name: &str) -> bips::ProducerBuilder {
        super::producer(&self.directory, name)
    }

    pub(crate) fn consumer(&self, name: &str) -> bips::ConsumerBuilder {
        super::consumer(&self.directory, name)
    }
}

/// Runs `check` in a fork of this process, which must pass there. Only the calling thread lives on in it.
#[track_caller]
pub(crate) fn in_fork(check: impl FnOnce()) {
    fork(check).join();
}

/// A forked child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Fork(Option<Pid>);

pub(crate) fn fork(role: impl FnOnce()) -> Fork {
    // SAFETY: the child runs the role and exits. It may allocate: glibc makes malloc usable after fork.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        nix::unistd::ForkResult::Child => {
            // SAFETY: a plain number; the kernel ends this process when its parent is gone.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(role)).is_ok();
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!passed)) }
        }
        nix::unistd::ForkResult::Parent { child } => Fork(Some(child)),
    }
}

impl Fork {
    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub(crate) fn join(mut self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        let child = self.0.expect("joined once");
        let mut status = WaitStatus::StillAlive;
        super::eventually("the forked child ends", || {
            status = waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("our own child");
            status != WaitStatus::StillAlive
        });
        self.0 = None;
        assert_eq!(
            status,
            WaitStatus::Exited(child, 0),
            "the check failed in the child; see its output above"
        );
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        if let Some(child) = self.0 {
            let _ = kill(child, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(child, None);
        }
    }
}
