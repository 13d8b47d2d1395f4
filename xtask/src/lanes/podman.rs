//! Containers made by podman, as root, on a storage and an image of the lane's own: nothing is fetched, nothing of the
//! user's is touched, nothing is left.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Outcome, Skips, containers};
use crate::step::{logged, output_of};
use crate::workspace::{Workspace, on_path};

/// To be typed by a person; `.ci/run` installs the same.
const INSTALL: &str = "apt-get install --no-install-recommends podman runc uidmap";
/// Names to the tests what to call instead of podman (`tests/containers/podman.rs`).
const PODMAN: &str = "BIPS_TEST_PODMAN";
const IMAGE: &str = "bips-skeleton";
/// At most; they take much less than a second.
const HELPERS_TAKE: Duration = Duration::from_secs(20);

pub(crate) fn run(workspace: &Workspace, skips: &Skips) -> Result<Outcome> {
    if on_path("podman").is_none() {
        return Ok(Outcome::Skipped(format!("there is no podman: {INSTALL}")));
    }
    if fs::metadata("/proc/self")?.uid() != 0 {
        let reason = "only root can make podman's containers be of two users: run it as root";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    let storage = Storage::new()?;
    if let Err(error) = storage.import_image(workspace) {
        return Ok(Outcome::Skipped(format!("podman can't make an image here: {error:#}")));
    }
    let why_not = format!("podman can't run a container here (is all of it there? {INSTALL})");
    let environment = [(PODMAN, storage.podman.as_os_str())];
    let outcome = containers::run_under(workspace, skips, "podman", &environment, &why_not);
    // A container that outlived its test is a fault of the tests.
    let left = storage.remove_containers()?;
    let outcome = outcome?;
    anyhow::ensure!(left == 0, "{left} containers were left by the tests");
    Ok(outcome)
}

/// A place for images and containers, gone with this value.
struct Storage {
    place: PathBuf,
    /// Calls podman on it.
    podman: PathBuf,
}

impl Storage {
    fn new() -> Result<Self> {
        let place = env::temp_dir().join(format!("bips-podman-{}", std::process::id()));
        fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display()))?;
        let storage = Self { podman: place.join("podman"), place };
        // vfs: the image is links and empty directories, which are copied sooner than anything could be mounted over
        // them. runc: crun refuses hosts with both versions of control groups.
        // From there: where the kernel kills for memory, podman's conmon leaves a note in its current folder.
        let at = storage.place.display();
        let script = format!(
            "#!/bin/sh\ncd '{at}' && exec podman --root '{at}/root' --runroot '{at}/run' --storage-driver vfs --runtime runc \
             --cgroup-manager cgroupfs --events-backend none \"$@\"\n"
        );
        fs::write(&storage.podman, script)?;
        fs::set_permissions(&storage.podman, Permissions::from_mode(0o755))?;
        Ok(storage)
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.podman);
        command.args(arguments);
        command
    }

    /// A root with nothing in it but the way to the host's `/usr`, which containers see read-only.
    fn import_image(&self, workspace: &Workspace) -> Result<()> {
        let skeleton = self.place.join("skeleton");
        for name in ["usr", "etc", "proc", "sys", "dev", "run", "tmp"] {
            fs::create_dir_all(skeleton.join(name))?;
        }
        for name in ["bin", "lib", "lib64"] {
            let host = Path::new("/").join(name);
            match fs::read_link(&host) {
                Ok(target) => symlink(target, skeleton.join(name))?,
                Err(_) if host.is_dir() => fs::create_dir(skeleton.join(name))?,
                Err(_) => {}
            }
        }
        fs::write(skeleton.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n")?;
        fs::write(skeleton.join("etc/group"), "root:x:0:\n")?;
        let archive = self.place.join("skeleton.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&skeleton).arg("-cf").arg(&archive).arg(".");
        logged("make an image", &mut tar, &workspace.log("podman-tar"))?;
        let mut import = self.podman(&["import"]);
        import.arg(&archive).arg(IMAGE);
        logged("import it into podman", &mut import, &workspace.log("podman-import"))?;
        // With each container vfs gives these to that container's root, and to nobody else unless they are open before:
        // of two that start at once, one could not reach its own.
        for folder in ["root", "root/vfs", "root/vfs/dir"] {
            fs::set_permissions(self.place.join(folder), Permissions::from_mode(0o711))?;
        }
        Ok(())
    }

    /// Removes what containers there are, each by its id, and says how many there were.
    fn remove_containers(&self) -> Result<usize> {
        let ids = output_of(&mut self.podman(&["ps", "--all", "--quiet", "--no-trunc"]))?;
        for id in ids.lines() {
            output_of(&mut self.podman(&["rm", "--force", "--time", "0", id]))?;
        }
        Ok(ids.lines().count())
    }

    /// Until nothing of podman's is at work here: after a container's end a helper of it cleans up, and would make
    /// directories anew.
    fn wait_for_helpers(&self) {
        let place = self.place.as_os_str().as_bytes();
        let at_work = || {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            processes
                .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
                .any(|arguments| arguments.windows(place.len()).any(|part| part == place))
        };
        let until = Instant::now() + HELPERS_TAKE;
        while at_work() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let removed = self.remove_containers().and_then(|_| {
            self.wait_for_helpers();
            Ok(fs::remove_dir_all(&self.place)?)
        });
        if let Err(error) = removed {
            eprintln!("{} is left: {error:#}", self.place.display());
        }
    }
}
