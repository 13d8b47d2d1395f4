//! Children: the program run again, for one role.

use crate::{Scratch, Subject, sharing};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "BIPS_CONFORMANCE_ROLE";
const DIRECTORY: &str = "BIPS_CONFORMANCE_DIR";

/// A child in its role; killed if it outlives its patience or the case.
pub(crate) struct Running(Child);

pub(crate) fn in_child(role: &str, scratch: &Scratch) -> Running {
    let program = std::env::current_exe().expect("a program has a path");
    let child = Command::new(program)
        .args(["--exact", "child_process", "--nocapture"])
        .env(ROLE, role)
        .env(DIRECTORY, scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Running(child.expect("a program can run itself"))
}

impl Running {
    /// Waits for its end; gives its exit status and all it said.
    pub(crate) fn finish(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("our own child") {
                break status;
            }
            assert!(Instant::now() < until, "the child does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        if let Some(mut out) = self.0.stdout.take() {
            let _ = out.read_to_string(&mut said);
        }
        if let Some(mut err) = self.0.stderr.take() {
            let _ = err.read_to_string(&mut said);
        }
        (status, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this process was started for a role: a program that runs the [`cases`](crate::cases) itself asks before it
/// reads its arguments, which are a test program's then, and calls [`child`].
pub fn plays_a_role() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// What `suite!`'s `child_process` does: nothing, unless this process was started for a role.
pub fn child(backend: Subject) {
    if let (Ok(role), Some(directory)) = (std::env::var(ROLE), std::env::var_os(DIRECTORY)) {
        sharing::play(&role, &backend, &PathBuf::from(directory));
    }
}

/// Runs a check of process-wide counts in a fork of this process: other tests' threads don't exist there.
pub(crate) fn alone(check: impl FnOnce()) {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    // SAFETY: the child runs the check and exits. It may allocate: glibc makes malloc usable after fork.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok();
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!passed)) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("our own child");
            assert_eq!(
                status,
                WaitStatus::Exited(child, 0),
                "the check failed in the child; see its output above"
            );
        }
    }
}
