//! What the containers of one test share, and who is in them.

use crate::common::Scratch;
use crate::common::process::play_as;
use crate::container::{Container, Guest, Language};
use crate::{bubblewrap, podman};
use nix::unistd::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a container sees the shared directory.
pub(crate) const INSIDE: &str = "/bips";
/// Group that both sides can be members of; the containers' `/etc/group` knows it.
pub(crate) const GROUP: (&str, u32) = ("bips", 5000);
/// Names the interpreter of an environment with bips and NumPy in it.
const PYTHON: &str = "BIPS_TEST_PYTHON";
const PEER: &str = include_str!("peer.py");

/// What makes the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Bubblewrap,
    Podman,
}

impl Engine {
    /// Seccomp mode of what runs inside, as `/proc/self/status` has it: 2 is a filter.
    pub(crate) fn seccomp(self) -> &'static str {
        match self {
            Self::Bubblewrap => "0",
            Self::Podman => "2",
        }
    }
}

/// The test program where every user can reach it, and the directory that the containers share.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    scratch: Scratch,
    pub(crate) program: PathBuf,
    pub(crate) shared: PathBuf,
    pub(crate) groups: PathBuf,
    count: AtomicU32,
}

impl Site {
    pub(crate) fn of(engine: Engine) -> Self {
        let scratch = Scratch::new();
        let [program, shared, groups] = ["program", "shared", "group"].map(|name| scratch.path().join(name));
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fs::write(&groups, format!("{}:x:{}:\n", GROUP.0, GROUP.1)).unwrap();
        fs::create_dir(&shared).unwrap();
        // Neither user namespace shows the other's users: whoever reaches the directory may use it. Sticky, as the
        // documentation advises.
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        Self { engine, scratch, program, shared, groups, count: AtomicU32::new(0) }
    }

    /// A place in the test's own directory that nobody else has been given.
    pub(crate) fn fresh(&self, what: &str) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.scratch.path().join(format!("{what}-{number}"))
    }

    /// A command that runs another one, `inside`, in a container.
    fn command(&self, container: Container, inside: &[&str], id: &Path) -> Command {
        let python = container.language.is_python().then(Python::find);
        match self.engine {
            Engine::Bubblewrap => bubblewrap::command(self, container, python.as_ref(), inside),
            Engine::Podman => podman::command(self, container, python.as_ref(), inside, id),
        }
    }

    /// Starts a container and hears where it is.
    #[track_caller]
    pub(crate) fn start(&self, container: Container, role: &str, number: u64) -> Guest {
        let id = self.fresh("id");
        let inside: &[&str] = match container.language {
            Language::Rust => &["/program", "--exact", "child_process", "--nocapture"],
            Language::Python => &["/venv/bin/python", "-I", "-c", PEER],
        };
        let mut command = self.command(container, inside, &id);
        // Python's finds it so, as a user's program would.
        command.env("BIPS_DIR", INSIDE);
        Guest::new(self.engine, play_as(command, role, Path::new(INSIDE), number), id)
    }
}

/// An interpreter on this machine, and what has to be mounted for it.
pub(crate) struct Python {
    /// The virtual environment, to be seen at `/venv`.
    pub(crate) environment: PathBuf,
    /// What it was made from, unless that lies below `/usr`.
    pub(crate) base: Option<PathBuf>,
}

impl Python {
    fn find() -> Self {
        let python = std::env::var_os(PYTHON).unwrap_or_else(|| {
            panic!("{PYTHON} names no interpreter; `cargo xtask test containers podman` sets it")
        });
        let code = "import sys; print(sys.prefix, sys.base_prefix, sep='\\n')";
        let output = Command::new(python).args(["-I", "-c", code]).output().expect("an interpreter");
        let text = String::from_utf8(output.stdout).unwrap();
        let (environment, base) = text.trim_end().split_once('\n').expect("two lines");
        let base = PathBuf::from(base);
        Self { environment: environment.into(), base: (!base.starts_with("/usr")).then_some(base) }
    }
}

/// What the lane runs before all else: where this fails there can be no containers.
pub(crate) fn a_container_can_be_made(site: &Site) {
    for container in [Container::PRODUCER, Container::CONSUMER] {
        let mut command = site.command(container, &["/program", "--list"], &site.fresh("id"));
        let output = command.output().expect("the engine is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}
