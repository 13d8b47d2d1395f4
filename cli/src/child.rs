//! Other processes of this same program, ended with the command that started them.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exit::{Failure, Outcome};

/// This program again.
pub(crate) fn myself() -> Outcome<Command> {
    // Not `current_exe`: that path is gone when the binary was replaced while it ran; this link is not.
    let mut command = Command::new("/proc/self/exe");
    command.stdin(Stdio::null());
    Ok(command)
}

/// A child that does not outlive us.
pub(crate) struct Guarded {
    name: &'static str,
    child: Child,
}

impl Guarded {
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Outcome<Self> {
        let child = command.spawn().map_err(|error| Failure::system(format!("start the {name}"), error))?;
        Ok(Self { name, child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        // Not reaped yet, so the id is still this child's own; one that has ended meanwhile is not disturbed.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        self.child.try_wait().map_err(|error| Failure::system(format!("wait for the {}", self.name), error))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What it wrote to a piped stdout and stderr; call after it ended.
    pub(crate) fn output(&mut self) -> (String, String) {
        let read = |pipe: Option<&mut dyn Read>| {
            let mut text = String::new();
            // Whatever can't be read stays out; what follows judges the text, not the pipe.
            pipe.map(|pipe| pipe.read_to_string(&mut text));
            text
        };
        let stdout = read(self.child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read));
        let stderr = read(self.child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read));
        (stdout, stderr)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail harmlessly on one that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
