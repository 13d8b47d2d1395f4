//! Containers made by bubblewrap: namespaces and a read-only root, no seccomp filter, no control groups, no daemon.

use crate::container::Container;
use crate::site::{GROUP, INSIDE, Python, Site, is_root};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As root, the container is of a user who is not root outside either. Without root it is the caller's.
pub(crate) fn command(
    site: &Site,
    container: Container,
    python: Option<&Python>,
    inside: &[&str],
) -> Command {
    assert_eq!(container.memory, None, "bubblewrap knows no control groups");
    let mut borrowed = Vec::new();
    let bwrap = bwrap(site, container, python, inside, &mut borrowed);
    let user = container.side.outside();
    if !is_root() {
        let mut command = Command::new(&bwrap[0]);
        command.args(&bwrap[1..]);
        return command;
    }
    if !container.own_users {
        // bwrap gives the user its identity inside, see below.
        let mut command = Command::new(&bwrap[0]);
        command.args(&bwrap[1..]);
        return command;
    }
    if borrowed.is_empty() {
        let mut command = Command::new(&bwrap[0]);
        command.args(&bwrap[1..]).uid(user).gid(user);
        return command;
    }
    // An interpreter may lie where only root can reach it. In a mount namespace of the command's own it is bound to
    // where everybody can, before root's rights are gone.
    let mut command = Command::new("unshare");
    let script =
        "while [ \"$1\" != -- ]; do mkdir \"$2\" && mount --bind \"$1\" \"$2\" || exit; shift 2; done
         shift; exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    for (source, target) in &borrowed {
        command.args([source, target]);
    }
    let user = user.to_string();
    command.args(["--", "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]).args(bwrap);
    command
}

/// The call of bwrap. What it may not be able to reach as another user is `borrowed`: to be bound from the first path to
/// the second beforehand.
fn bwrap(
    site: &Site,
    container: Container,
    python: Option<&Python>,
    inside: &[&str],
    borrowed: &mut Vec<(PathBuf, PathBuf)>,
) -> Vec<OsString> {
    let mut bwrap: Vec<OsString> = Vec::new();
    let mut add = |arguments: &[&dyn AsRef<OsStr>]| {
        bwrap.extend(arguments.iter().map(|argument| argument.as_ref().to_os_string()));
    };
    add(&[&"bwrap", &"--die-with-parent", &"--cap-drop", &"ALL"]);
    if container.own_users {
        let user = container.side.inside().to_string();
        add(&[&"--unshare-all", &"--unshare-user", &"--uid", &user, &"--gid", &user]);
    } else {
        add(&[
            &"--unshare-ipc",
            &"--unshare-pid",
            &"--unshare-net",
            &"--unshare-uts",
            &"--unshare-cgroup-try",
        ]);
        // To become the user, who can never have them.
        for capability in ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"] {
            add(&[&"--cap-add", &capability]);
        }
    }
    add(&[&"--ro-bind", &"/usr", &"/usr"]);
    for name in ["bin", "lib", "lib64"] {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(target) => add(&[&"--symlink", &target, &path]),
            Err(_) if path.is_dir() => add(&[&"--ro-bind", &path, &path]),
            Err(_) => {}
        }
    }
    add(&[&"--proc", &"/proc", &"--dev", &"/dev"]);
    // A directory that bwrap makes for a mount in it is root's alone.
    add(&[&"--dir", &"/etc"]);
    add(&[&"--ro-bind", &site.groups, &"/etc/group", &"--ro-bind", &site.program, &"/program"]);
    if let Some(python) = python {
        let base = python.base.as_ref().map(|base| (base, base.clone()));
        for (source, target) in base.into_iter().chain([(&python.environment, PathBuf::from("/venv"))]) {
            let mut reachable = source.clone();
            if is_root() {
                reachable = site.fresh("borrowed");
                borrowed.push((source.clone(), reachable.clone()));
            }
            add(&[&"--ro-bind", &reachable, &target]);
        }
    }
    add(&[&if container.writes { "--bind" } else { "--ro-bind" }, &site.shared, &INSIDE]);
    add(&[&"--remount-ro", &"/", &"--chdir", &"/"]);
    if !container.own_users {
        let (user, group) = (container.side.outside().to_string(), GROUP.1.to_string());
        add(&[&"setpriv", &"--reuid", &user, &"--regid", &user, &"--groups", &group, &"--bounding-set=-all"]);
    }
    for argument in inside {
        add(&[argument]);
    }
    bwrap
}
