//! A memory control group for what must stay within it.

use super::skip::skip;
use std::fs;
use std::path::{Path, PathBuf};

/// A memory control group of the test's own, removed when it ends.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) path: PathBuf,
}

impl Group {
    /// One in which so many bytes are allowed; `None`, with the reason said, where there can't be one.
    #[track_caller]
    pub(crate) fn make(name: &str, bytes: u64) -> Option<Self> {
        let made = Self::try_make(name, bytes);
        if let Err(reason) = &made {
            skip(format!("no memory control group can be made here: {reason}"));
        }
        made.ok()
    }

    fn try_make(name: &str, bytes: u64) -> Result<Self, String> {
        let membership = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let (root, own, limit) = membership
            .lines()
            .find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                match (fields.next()?, fields.next()?) {
                    ("memory", path) => Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")),
                    ("", path) if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
                        Some(("/sys/fs/cgroup", path, "memory.max"))
                    }
                    _ => None,
                }
            })
            .ok_or("no memory controller")?;
        let child = format!("bips-test-{}-{name}", std::process::id());
        // Below our own group; in a container its path can be the host's, and the mount shows it as the root.
        let own = Path::new(root).join(own.trim_start_matches('/'));
        let parent = if own.is_dir() { own } else { root.into() };
        let group = Self { path: parent.join(child) };
        fs::create_dir(&group.path).map_err(|error| error.to_string())?;
        fs::write(group.path.join(limit), bytes.to_string()).map_err(|error| error.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel takes a moment to let go of the last member.
        for _ in 0..500 {
            if fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        println!("{} can't be removed", self.path.display());
    }
}
