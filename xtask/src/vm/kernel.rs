//! The kernel: a stock Debian one that has the drivers, fetched once and kept, never installed.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::image;
use super::tools::Tools;
use crate::apt::Apt;
use crate::step::{Progress, logged};
use crate::workspace::Workspace;

/// Where to look, in this order. Debian 12's own kernel, 6.1, has neither DMA-buf heaps nor udmabuf.
const SUITES: [&str; 2] = ["bookworm-backports", "trixie"];
const PACKAGE: &str = "linux-image-amd64";
const AT_LEAST: (u32, u32) = (6, 12);
/// Instead of a folder in `target`.
const CACHE: &str = "BIPS_VM_CACHE";
/// For another process that fetches it.
const FETCH_TAKES: Duration = Duration::from_secs(1800);
/// Begins the names of folders that are being filled.
pub(super) const UNFINISHED: &str = "unfinished-";

/// In a folder: `vmlinux`, its `config`, the texts `release` and `suite`, `lib/modules/RELEASE`.
pub(crate) struct Kernel {
    pub(super) folder: PathBuf,
    pub(super) release: String,
}

impl Kernel {
    /// The one that is kept, or one fetched now.
    pub(super) fn get(workspace: &Workspace, tools: &Tools) -> Result<Self> {
        let cache = cache(workspace)?;
        if let Some(kept) = Self::kept(&cache) {
            return Ok(kept);
        }
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let _lock = lock(&cache.join("lock"))?;
        // Somebody else may have fetched it meanwhile.
        match Self::kept(&cache) {
            Some(kept) => Ok(kept),
            None => fetch(workspace, tools, &cache),
        }
    }

    /// The folder has its name only once everything is in it.
    fn kept(cache: &Path) -> Option<Self> {
        let folder = cache.join("kernel");
        let release = fs::read_to_string(folder.join("release")).ok()?;
        Some(Self { release: release.trim().to_owned(), folder })
    }

    pub(super) fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }
}

fn cache(workspace: &Workspace) -> Result<PathBuf> {
    let named = std::env::var_os(CACHE).filter(|folder| !folder.is_empty());
    let folder = named.map_or_else(|| workspace.target.join("vm"), PathBuf::from);
    // The machine sees it under the same name.
    std::path::absolute(&folder).with_context(|| format!("{CACHE} is no folder: {}", folder.display()))
}

/// Held while the file is open, and so gone with the process however that ends.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let started = Instant::now();
    let mut progress = None;
    loop {
        match file.try_lock() {
            Ok(()) => {
                if let Some(progress) = progress {
                    Progress::end(&progress, true);
                }
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) if started.elapsed() < FETCH_TAKES => {
                progress
                    .get_or_insert_with(|| Progress::start("wait for another process to fetch a kernel"))
                    .tick();
                thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another process fetches a kernel since {} s: it holds {}",
                    FETCH_TAKES.as_secs(),
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

fn fetch(workspace: &Workspace, tools: &Tools, cache: &Path) -> Result<Kernel> {
    // Left by a process that was killed. What it had started may still write there; then this is for the next one.
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let mut refused = Vec::new();
    for suite in SUITES {
        let work = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(cache)?;
        match fetch_from(workspace, tools, suite, work.path()) {
            Ok(made) => {
                let folder = cache.join("kernel");
                fs::rename(&made, &folder).with_context(|| {
                    format!("{} is there, but is no whole kernel: remove it", folder.display())
                })?;
                return Kernel::kept(cache).context("the kernel is gone again");
            }
            Err(error) => refused.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("no kernel could be fetched\n  {}", refused.join("\n  "))
}

/// The finished folder, within the one given.
fn fetch_from(workspace: &Workspace, tools: &Tools, suite: &str, work: &Path) -> Result<PathBuf> {
    let apt = Apt::new(workspace, &work.join("apt"), suite)?;
    apt.update("ask Debian which kernel there is")?;
    let image = newest(&apt.depends(PACKAGE)?)?;
    let Some(release) = image.strip_prefix("linux-image-") else { bail!("{image} is no kernel's package") };
    if version(release).is_none_or(|version| version < AT_LEAST) {
        bail!("its kernel is {release}, and {}.{} is needed", AT_LEAST.0, AT_LEAST.1);
    }
    // Newer ones are split: what else the image depends on and bears its release belongs to it.
    let parts =
        apt.depends(&image)?.into_iter().filter(|name| name.starts_with("linux-") && name.ends_with(release));
    let packages: Vec<String> = std::iter::once(image.clone()).chain(parts).collect();
    let unpacked = work.join("unpacked");
    fs::create_dir(&unpacked)?;
    apt.unpack(&format!("fetch {image} (about 110 MB)"), &packages, &unpacked)?;

    let made = work.join("kernel");
    let modules = made.join("lib/modules");
    fs::create_dir_all(&modules)?;
    let packed = ["lib/modules", "usr/lib/modules"].map(|place| unpacked.join(place).join(release));
    let packed = packed.iter().find(|folder| folder.is_dir()).context("the package has no modules")?;
    let boot = |name: &str| {
        let places = [unpacked.join("boot").join(format!("{name}-{release}")), packed.join(name)];
        let file = places.into_iter().find(|file| file.is_file());
        file.with_context(|| format!("the package has no {name}"))
    };
    let progress = Progress::start("unpack the kernel");
    let plain = fs::read(boot("vmlinuz")?).map_err(Into::into).and_then(image::vmlinux);
    progress.end(plain.is_ok());
    fs::write(made.join("vmlinux"), plain?)?;
    fs::copy(boot("config")?, made.join("config"))?;
    fs::rename(packed, modules.join(release))?;
    let mut depmod = Command::new(&tools.depmod);
    depmod.arg("--basedir").arg(&made).arg(release);
    logged("index its modules", &mut depmod, &workspace.log("vm-depmod"))?;
    fs::write(made.join("suite"), suite)?;
    fs::write(made.join("release"), release)?;
    Ok(made)
}

/// The image that the package without a version stands for.
fn newest(depends: &[String]) -> Result<String> {
    let image = depends.iter().find(|name| name.starts_with("linux-image-"));
    image.cloned().with_context(|| format!("{PACKAGE} depends on no image"))
}

/// 6.12.95+deb12-amd64 is 6.12.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_are_too_old_are_told() {
        assert_eq!(version("6.12.95+deb12-amd64"), Some((6, 12)));
        assert_eq!(version("7.3-amd64"), Some((7, 3)));
        assert_eq!(version("amd64"), None);
        assert!(version("6.1.0-37-amd64").unwrap() < AT_LEAST);
        assert!(version("6.12.95+deb12-amd64").unwrap() >= AT_LEAST);
        assert!(version("7.0.1").unwrap() >= AT_LEAST);
    }

    #[test]
    fn a_folder_without_its_release_is_no_kernel() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("kernel");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("vmlinux"), "half").unwrap();
        assert!(Kernel::kept(cache.path()).is_none());
        fs::write(folder.join("release"), "6.12.95-amd64\n").unwrap();
        assert!(Kernel::kept(cache.path()).unwrap().modules().ends_with("kernel/lib/modules/6.12.95-amd64"));
    }

    #[test]
    fn of_two_only_one_fetches() {
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path().join("lock");
        let held = lock(&path).unwrap();
        let other = File::create(&path).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        other.try_lock().unwrap();
    }
}
