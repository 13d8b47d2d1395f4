//! Drivers that Debian's kernels have switched off, built for the kernel that is kept: vkms (a display that takes
//! buffers of others), vim2m and vicodec (devices that turn one buffer into another).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::{Kernel, UNFINISHED, lock};
use super::tools::Tools;
use crate::apt::Apt;
use crate::step::logged;
use crate::workspace::{Workspace, on_path};

/// What there is afterwards.
pub(super) const MODULES: [&str; 3] = ["vkms", "vim2m", "vicodec"];

/// Among the kernel's modules.
const PLACE: &str = "updates/bips";
/// Where the sources lie in the kernel's tree, and in a folder of which name they are built. Two are files without a
/// Makefile of their own; vim2m and vicodec need the first.
const SOURCES: [(&str, &str); 4] = [
    ("drivers/media/v4l2-core/v4l2-mem2mem.c", "v4l2-mem2mem"),
    ("drivers/media/test-drivers/vim2m.c", "vim2m"),
    ("drivers/media/test-drivers/vicodec", "vicodec"),
    ("drivers/gpu/drm/vkms", "vkms"),
];
/// What the folders' own Makefiles ask for.
const SWITCHES: [&str; 2] = ["CONFIG_DRM_VKMS=m", "CONFIG_VIDEO_VICODEC=m"];
/// To be typed by a person.
const INSTALL: &str = "apt-get install gcc make binutils tar xz-utils bc";

/// Builds them, unless they are there.
pub(super) fn make(workspace: &Workspace, tools: &Tools, kernel: &Kernel) -> Result<()> {
    if indexed(kernel) {
        return Ok(());
    }
    for program in ["gcc", "make", "strip", "tar", "xz", "bc"] {
        if on_path(program).is_none() {
            bail!("there is no {program}, which modules are built with: {INSTALL}");
        }
    }
    let cache = kernel.folder.parent().context("the kernel has no folder")?;
    let _lock = lock(&cache.join("lock"))?;
    // Somebody else may have built them meanwhile.
    if indexed(kernel) {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(cache)?;
    let (headers, sources) = fetch(workspace, kernel, work.path())?;
    let built = work.path().join("built");
    build(workspace, &headers, &sources, &built)?;

    // Where the kernel's own tools look first. Nobody knows of the files before the index does.
    let place = kernel.modules().join(PLACE);
    // Left by a process that was killed.
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(place.parent().context("modules are in no folder")?)?;
    fs::rename(&built, &place)?;
    let mut depmod = Command::new(&tools.depmod);
    depmod.arg("--basedir").arg(&kernel.folder).arg(&kernel.release);
    logged("index the kernel's modules", &mut depmod, &workspace.log("vm-depmod"))
}

/// Whether they are there for all to find.
fn indexed(kernel: &Kernel) -> bool {
    let index = fs::read_to_string(kernel.modules().join("modules.dep")).unwrap_or_default();
    MODULES.iter().all(|module| index.contains(&format!("{PLACE}/{module}.ko:")))
}

/// The folders of the kernel's headers and of its sources.
fn fetch(workspace: &Workspace, kernel: &Kernel, work: &Path) -> Result<(PathBuf, PathBuf)> {
    let suite = fs::read_to_string(kernel.folder.join("suite"))?;
    let apt = Apt::new(workspace, &work.join("apt"), suite.trim())?;
    apt.update("ask Debian which kernel there is")?;
    let headers = format!("linux-headers-{}", kernel.release);
    let moved_on = || {
        let folder = kernel.folder.display();
        format!(
            "Debian has moved on from {}: remove {folder}, so that its newer kernel is fetched",
            kernel.release
        )
    };
    // Their other half, which all flavours of the kernel share, and programs that building takes.
    let parts = apt.depends(&headers).with_context(moved_on)?.into_iter();
    let parts = parts.filter(|name| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-"));
    let mut packages: Vec<String> = std::iter::once(headers.clone()).chain(parts).collect();
    let series: Vec<&str> = kernel.release.split('.').take(2).collect();
    let source = format!("linux-source-{}", series.join("."));
    packages.push(format!("{source}={}", apt.version(&headers)?));
    let unpacked = work.join("unpacked");
    fs::create_dir(&unpacked)?;
    apt.unpack("fetch its headers and sources (about 160 MB)", &packages, &unpacked)
        .with_context(moved_on)?;

    let place = unpacked.join("usr/src");
    let sources = work.join("sources");
    fs::create_dir(&sources)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(place.join(format!("{source}.tar.xz")))
        .arg("--directory")
        .arg(&sources);
    tar.arg("--strip-components=1").args(SOURCES.map(|(path, _)| format!("{source}/{path}")));
    logged("take the drivers out of the sources", &mut tar, &workspace.log("vm-sources"))?;

    let headers = place.join(headers);
    // It leads to its other half, where that is installed.
    let makefile = headers.join("Makefile");
    let text = fs::read_to_string(&makefile)?.replace("/usr/src/", &format!("{}/", place.display()));
    fs::write(&makefile, text)?;
    // With it, type information for BPF would be made, by a program that may not be there.
    let _ = fs::remove_file(headers.join("vmlinux"));
    Ok((headers, sources))
}

fn build(workspace: &Workspace, headers: &Path, sources: &Path, into: &Path) -> Result<()> {
    let tree = sources.join("tree");
    fs::create_dir(&tree)?;
    let mut folders = String::new();
    for (path, name) in SOURCES {
        let (from, folder) = (sources.join(path), tree.join(name));
        if from.is_dir() {
            fs::rename(from, folder)?;
        } else {
            fs::create_dir(&folder)?;
            fs::rename(from, folder.join(format!("{name}.c")))?;
            fs::write(folder.join("Makefile"), format!("obj-m += {name}.o\n"))?;
        }
        folders.push_str(&format!("obj-m += {name}/\n"));
    }
    fs::write(tree.join("Kbuild"), folders)?;
    let mut make = Command::new("make");
    make.arg("-C").arg(headers).arg(format!("M={}", tree.display())).args(SWITCHES);
    make.args(["--jobs=2", "modules"]);
    // What cargo's own make would be told.
    make.env_remove("MAKEFLAGS").env_remove("CARGO_MAKEFLAGS");
    logged("build the drivers", &mut make, &workspace.log("vm-extra-modules"))?;
    fs::create_dir(into)?;
    for (_, name) in SOURCES {
        let file = format!("{name}.ko");
        let mut strip = Command::new("strip");
        strip.arg("--strip-debug").arg("-o").arg(into.join(&file)).arg(tree.join(name).join(&file));
        logged(&format!("keep {file}"), &mut strip, &workspace.log("vm-strip"))?;
    }
    Ok(())
}
