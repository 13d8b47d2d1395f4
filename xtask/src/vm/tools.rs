//! What the machine's maker takes from the system.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::workspace::on_path;

/// To be typed by a person; `.ci/run` installs the same.
pub(super) const INSTALL: &str =
    "apt-get install --no-install-recommends qemu-system-x86 busybox-static kmod";

pub(super) struct Tools {
    pub(super) qemu: PathBuf,
    pub(super) busybox: PathBuf,
    pub(super) depmod: PathBuf,
}

impl Tools {
    pub(super) fn find() -> Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            bail!("the machine is an x86-64 one, and made only on such; use a device's own kernel here");
        }
        let qemu = on_path("qemu-system-x86_64");
        let busybox = on_path("busybox").filter(|file| is_static(file));
        let depmod = administrators("depmod");
        match (qemu, busybox, depmod) {
            (Some(qemu), Some(busybox), Some(depmod)) => Ok(Self { qemu, busybox, depmod }),
            (qemu, busybox, depmod) => {
                let missing = [
                    qemu.is_none().then_some("qemu-system-x86_64"),
                    busybox.is_none().then_some("statically linked busybox"),
                    depmod.is_none().then_some("depmod"),
                ];
                let missing: Vec<_> = missing.into_iter().flatten().collect();
                bail!("there is no {}: {INSTALL}", missing.join(", no "))
            }
        }
    }
}

/// A user's PATH often leaves these folders out.
fn administrators(program: &str) -> Option<PathBuf> {
    on_path(program).or_else(|| {
        let places = ["/usr/sbin", "/sbin"].map(|place| Path::new(place).join(program));
        places.into_iter().find(|file| file.is_file())
    })
}

/// Whether a program runs where there are no libraries. One that needs them names its loader near its beginning.
fn is_static(program: &Path) -> bool {
    let mut beginning = Vec::new();
    let read = File::open(program).and_then(|file| file.take(4096).read_to_end(&mut beginning));
    read.is_ok() && names_no_loader(&beginning)
}

fn names_no_loader(beginning: &[u8]) -> bool {
    const LOADER: &[u8] = b"/ld-";
    beginning.starts_with(b"\x7fELF") && !beginning.windows(LOADER.len()).any(|part| part == LOADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_names_its_loader_is_not_static() {
        assert!(names_no_loader(b"\x7fELF\x02\x01\x01\0 and code"));
        assert!(!names_no_loader(b"\x7fELF\x02\x01\x01\0 /lib64/ld-linux-x86-64.so.2\0"));
        assert!(!names_no_loader(b"#!/bin/sh\n"));
        // This very test is linked with the C library.
        assert!(!is_static(&std::env::current_exe().unwrap()));
    }
}
