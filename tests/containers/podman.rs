//! Containers made by podman with runc: namespaces, the default seccomp filter, control groups, an image.

use crate::common::process::TOLD_BY;
use crate::container::Container;
use crate::site::{GROUP, INSIDE, Python, Site};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Names a program that calls podman on a storage of the lane's own.
const PODMAN: &str = "BIPS_TEST_PODMAN";
/// The image in it: directories, and links into the host's `/usr`.
const IMAGE: &str = "bips-skeleton";

fn podman() -> Command {
    let program = std::env::var_os(PODMAN)
        .unwrap_or_else(|| panic!("{PODMAN} names no podman; `cargo xtask test podman` makes one"));
    Command::new(program)
}

pub(crate) fn command(
    site: &Site,
    container: Container,
    python: Option<&Python>,
    inside: &[&str],
    id: &Path,
) -> Command {
    let mut podman = podman();
    podman.args(["run", "--rm", "--interactive", "--log-driver", "none", "--cidfile"]).arg(id);
    podman.args(["--network", "none", "--read-only", "--cap-drop", "ALL"]);
    podman.args(["--security-opt", "no-new-privileges"]);
    // Less than podman would ask for: root need not have the right to raise limits.
    podman.args(["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]);
    let (inner, outer) = (container.side.inside(), container.side.outside());
    if container.own_users {
        let map = format!("0:{outer}:65536");
        podman.args(["--uidmap", &map, "--gidmap", &map, "--user", &format!("{inner}:{inner}")]);
    } else {
        podman.args(["--user", &format!("{outer}:{outer}"), "--group-add", &GROUP.1.to_string()]);
    }
    if let Some(mib) = container.memory {
        // Nothing on top of it by swapping.
        podman.args([format!("--memory={mib}m"), format!("--memory-swap={mib}m")]);
    }
    for name in TOLD_BY.into_iter().chain(["BIPS_DIR"]) {
        podman.args(["--env", name]);
    }
    let mut mount = |from: &Path, to: &Path, how: &str| {
        podman.arg("--volume").arg(format!("{}:{}:{how}", from.display(), to.display()));
    };
    // The image has links to these, where the host has.
    for path in ["/usr", "/bin", "/lib", "/lib64"].map(PathBuf::from) {
        if path.is_dir() && !path.is_symlink() {
            mount(&path, &path, "ro");
        }
    }
    mount(&site.groups, Path::new("/etc/group"), "ro");
    mount(&site.program, Path::new("/program"), "ro");
    mount(&site.shared, Path::new(INSIDE), if container.writes { "rw" } else { "ro" });
    if let Some(python) = python {
        mount(&python.environment, Path::new("/venv"), "ro");
        if let Some(base) = &python.base {
            mount(base, base, "ro");
        }
    }
    podman.arg(IMAGE).args(inside);
    podman
}

fn output(arguments: &[&str]) -> Output {
    podman().args(arguments).output().expect("podman can be started")
}

/// Has podman do something, and gives what it says.
#[track_caller]
pub(crate) fn tell(arguments: &[&str]) -> String {
    let output = output(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Ends and removes a container, if it is still there.
pub(crate) fn remove(id: &str) {
    let output = output(&["rm", "--force", "--ignore", "--time", "0", id]);
    if !output.status.success() {
        println!("container {id} is left: {}", String::from_utf8_lossy(&output.stderr));
    }
}
