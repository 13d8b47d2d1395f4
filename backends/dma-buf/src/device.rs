//! Opening device nodes, and saying what to do where that fails.

use bips::{Error, ErrorKind, Result};
use nix::unistd::{Gid, Group, Uid, User};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Opens a device node, for the backends of this and of other crates. `absent` says what its absence means and what to do.
///
/// # Errors
/// `Unsupported` where it is absent; `AccessDenied` with whose it is and the next step.
pub fn open(path: &Path, write: bool, absent: impl FnOnce() -> String) -> Result<OwnedFd> {
    OpenOptions::new().read(true).write(write).open(path).map(OwnedFd::from).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::ENODEV) => {
                Error::new(ErrorKind::Unsupported, absent())
            }
            Some(libc::EACCES | libc::EPERM) => Error::new(ErrorKind::AccessDenied, denied(path, &error)),
            _ => Error::system("opening a device", error).with("device", path.display()),
        }
    })
}

/// Why it may not be opened: whose it is, and the next step.
fn denied(path: &Path, error: &io::Error) -> String {
    let (path, uid) = (path.display(), Uid::effective());
    let container = format!(
        "in a container: `--device {path}`, and `--group-add` for its group where the user is not root; or let `bips \
         broker` outside make the memory (kind broker)"
    );
    let node = match fs::metadata(path.to_string()) {
        Ok(node) => node,
        Err(_) => return format!("user {uid} may not reach {path} ({error}); {container}"),
    };
    let owner = User::from_uid(Uid::from_raw(node.uid())).ok().flatten().map(|user| user.name);
    let group = Group::from_gid(Gid::from_raw(node.gid())).ok().flatten().map(|group| group.name);
    let (owner, group) =
        (owner.unwrap_or_else(|| node.uid().to_string()), group.unwrap_or_else(|| node.gid().to_string()));
    let mode = node.mode() & 0o7777;
    let step = if error.raw_os_error() == Some(libc::EPERM) {
        "its device rules forbid it".into()
    } else if mode & 0o060 != 0 && node.gid() != 0 {
        format!("add the user to group {group} (`usermod -aG {group} USER`, then log in anew)")
    } else {
        let name = path.to_string();
        let below = |directory: &str| name.strip_prefix(directory);
        let rule = match (below("/dev/dma_heap/"), below("/dev/dri/")) {
            (Some(heap), _) => format!("SUBSYSTEM==\"dma_heap\", KERNEL==\"{heap}\""),
            (_, Some(node)) => format!("SUBSYSTEM==\"drm\", KERNEL==\"{node}\""),
            _ => format!("KERNEL==\"{}\"", name.trim_start_matches("/dev/")),
        };
        format!("give it to a group by a udev rule: `{rule}, GROUP=\"video\", MODE=\"0660\"`")
    };
    format!(
        "user {uid} may not open {path} (owner {owner}, group {group}, mode {mode:04o}: {error}); {step}; {container}"
    )
}
