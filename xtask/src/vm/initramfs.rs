//! What the kernel starts with: busybox, the modules, `hw-tests/vm/init.sh`. It is the same for every command, so it is kept.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc::Builder;

use super::image;
use super::kernel::Kernel;
use super::modules::{BOOT, Index, Module, name};

const INIT: &str = include_str!("../../../hw-tests/vm/init.sh");
const STAGE2: &str = include_str!("../../../hw-tests/vm/stage2.sh");
/// Where things are put, and what is mounted on.
const FOLDERS: [&str; 8] = ["bin", "dev", "proc", "sys", "modules", "host", "written", "root"];
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// The archive for these modules: an earlier one, or made now.
pub(super) fn of(kernel: &Kernel, busybox: &Path, wanted: &[Module]) -> Result<PathBuf> {
    let lists = lists(&Index::read(&kernel.modules())?, wanted)?;
    let there = fs::metadata(busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    let mut hasher = DefaultHasher::new();
    (INIT, STAGE2, &lists, busybox, there.len(), there.mtime()).hash(&mut hasher);
    let file = kernel.folder.join(format!("initramfs-{:016x}.cpio", hasher.finish()));
    if !file.exists() {
        let archive = archive(kernel, busybox, &lists)?;
        // Under its name only when it is whole.
        let new = tempfile::NamedTempFile::new_in(&kernel.folder)?;
        fs::write(new.path(), archive)?;
        new.persist(&file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(file)
}

/// Files of modules with their parameters, in order, under the names that `init.sh` knows.
type Lists = Vec<(String, Vec<(String, String)>)>;

fn lists(index: &Index, wanted: &[Module]) -> Result<Lists> {
    let mut boot: Vec<String> = Vec::new();
    for module in BOOT {
        for file in index.files(module)? {
            if !boot.contains(&file) {
                boot.push(file);
            }
        }
    }
    let groups = index.groups(wanted, &boot)?.into_iter().enumerate();
    let groups = groups.map(|(number, group)| (format!("group.{number}"), group));
    let first = ("boot".to_owned(), boot.iter().map(|file| (file.clone(), String::new())).collect());
    Ok(std::iter::once(first).chain(groups).collect())
}

fn archive(kernel: &Kernel, busybox: &Path, lists: &Lists) -> Result<Vec<u8>> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let mut entries: Vec<(String, u32, Vec<u8>)> =
        FOLDERS.iter().map(|folder| ((*folder).to_owned(), FOLDER, Vec::new())).collect();
    entries.push(("bin/busybox".to_owned(), PROGRAM, read(busybox)?));
    entries.push(("init".to_owned(), PROGRAM, INIT.into()));
    entries.push(("stage2.sh".to_owned(), FILE, STAGE2.into()));
    for (list, modules) in lists {
        let lines = modules.iter().map(|(file, parameters)| format!("{} {parameters}\n", name(file)));
        entries.push((format!("modules/{list}"), FILE, lines.collect::<String>().into_bytes()));
        for (file, _) in modules {
            let module = image::module(file, read(&kernel.modules().join(file))?)?;
            entries.push((format!("modules/{}.ko", name(file)), FILE, module));
        }
    }
    pack(entries)
}

/// In the only format that the kernel unpacks.
fn pack(entries: Vec<(String, u32, Vec<u8>)>) -> Result<Vec<u8>> {
    // Numbers the files itself.
    let entries = entries
        .into_iter()
        .map(|(name, mode, content)| (Builder::new(&name).mode(mode).nlink(1), Cursor::new(content)));
    Ok(cpio::write_cpio(entries, Vec::new())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_what_was_put_in() {
        let entries = vec![
            ("bin".to_owned(), FOLDER, Vec::new()),
            ("bin/odd".to_owned(), PROGRAM, b"5 byt".to_vec()),
            ("list".to_owned(), FILE, b"a\n".to_vec()),
        ];
        let archive = pack(entries.clone()).unwrap();
        let mut rest = archive.as_slice();
        let mut inodes = Vec::new();
        for (name, mode, content) in entries {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            assert_eq!((reader.entry().name(), reader.entry().mode()), (name.as_str(), mode));
            inodes.push(reader.entry().ino());
            let mut found = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut found).unwrap();
            assert_eq!(found, content);
            rest = reader.finish().unwrap();
        }
        // Files of one number would be one file to the kernel.
        assert_eq!(inodes, [0, 1, 2]);
        assert!(cpio::newc::Reader::new(rest).unwrap().entry().is_trailer());
    }

    #[test]
    fn the_machine_s_scripts_are_scripts() {
        for script in [INIT, STAGE2] {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), script).unwrap();
            let checked = std::process::Command::new("sh").arg("-n").arg(file.path()).status().unwrap();
            assert!(checked.success());
        }
    }
}
