//! Which modules the kernel is given, with what, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// What the machine needs to come to the host's root and to the command. Some are built in.
pub(super) const BOOT: [&str; 5] = ["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay"];
/// The drivers that share buffers; DMA-buf heaps and udmabuf are always part of the kernel.
const DEVICES: [&str; 3] = ["vgem", "virtio-gpu", "vivid"];

/// Given unless something else is said.
const PARAMETERS: [(&str, &str); 1] = [
    // One camera instead of 17 devices of all kinds: loaded in a third of the time.
    ("vivid", "n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0"),
];

/// A module, as one names it to `--modules`: `NAME` or `NAME:PARAMETER=VALUE:PARAMETER=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Module {
    /// With `_` where its file may have `-`.
    pub(super) name: String,
    /// As `insmod` takes them.
    pub(super) parameters: String,
}

impl FromStr for Module {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default().trim().replace('-', "_");
        let word =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !word(&name) {
            bail!("`{text}` names no module; say NAME or NAME:PARAMETER=VALUE");
        }
        let given = PARAMETERS.iter().filter(|(module, _)| *module == name);
        let mut parameters: Vec<&str> = given.map(|(_, parameters)| *parameters).collect();
        for parameter in parts {
            if parameter
                .split_once('=')
                .is_none_or(|(key, value)| !word(key) || value.contains(char::is_whitespace))
            {
                bail!("`{parameter}` in `{text}` is no parameter; say NAME:PARAMETER=VALUE");
            }
            parameters.push(parameter);
        }
        Ok(Self { name, parameters: parameters.join(" ") })
    }
}

/// `--modules`: a list, `none`, or what is usual.
pub(super) fn wanted(list: Option<&str>) -> Result<Vec<Module>> {
    match list.map(str::trim) {
        None => DEVICES.iter().map(|name| name.parse()).collect(),
        Some("none" | "") => Ok(Vec::new()),
        Some(list) => list.split(',').map(str::parse).collect(),
    }
}

/// What depmod found out about a kernel's modules.
pub(super) struct Index {
    /// By name: the file, and the files it needs, each after those that need it.
    files: BTreeMap<String, (String, Vec<String>)>,
    built_in: BTreeSet<String>,
}

impl Index {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        Ok(Self::parse(&read("modules.dep")?, &read("modules.builtin")?))
    }

    fn parse(dependencies: &str, built_in: &str) -> Self {
        let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
        let files = lines.map(|(file, needs)| {
            (name(file), (file.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
        });
        Self { files: files.collect(), built_in: built_in.lines().map(name).collect() }
    }

    /// The files to load for a module, in order; none if it is built in.
    pub(super) fn files(&self, module: &str) -> Result<Vec<String>> {
        let Some((file, needs)) = self.files.get(module) else {
            if self.built_in.contains(module) {
                return Ok(Vec::new());
            }
            bail!("this kernel has no module `{module}` (what can only be built in is none)");
        };
        Ok(needs.iter().rev().chain([file]).cloned().collect())
    }

    /// Modules in groups that share no file but those that are loaded before, so that groups can be loaded side by side.
    /// Each a list of files and parameters, in order.
    pub(super) fn groups(&self, modules: &[Module], before: &[String]) -> Result<Vec<Vec<(String, String)>>> {
        let mut groups: Vec<Vec<(String, String)>> = Vec::new();
        for module in modules {
            let mut files = self.files(&module.name)?;
            files.retain(|file| !before.contains(file));
            let Some(own) = files.last().cloned() else { continue };
            // All that this one shares a file with become one group, in the order in which they were asked for.
            let shares = |group: &Vec<(String, String)>| group.iter().any(|(file, _)| files.contains(file));
            let (sharing, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(shares);
            groups = apart;
            let mut group: Vec<(String, String)> = sharing.concat();
            for file in files {
                let parameters = if file == own { module.parameters.clone() } else { String::new() };
                if !group.iter().any(|(there, _)| *there == file) {
                    group.push((file, parameters));
                }
            }
            groups.push(group);
        }
        Ok(groups)
    }
}

/// A module's name from its file's: `kernel/drivers/gpu/drm/virtio/virtio-gpu.ko.xz` is `virtio_gpu`.
pub(super) fn name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
        kernel/net/9p/9pnet.ko.xz: kernel/fs/netfs/netfs.ko.xz\n\
        kernel/fs/netfs/netfs.ko.xz:\n\
        kernel/drm/vgem.ko.xz: kernel/drm/drm_shmem_helper.ko.xz kernel/drm/drm.ko.xz\n\
        kernel/drm/virtio-gpu.ko.xz: kernel/drm/drm_shmem_helper.ko.xz kernel/drm/drm.ko.xz\n\
        kernel/drm/drm.ko.xz:\n\
        kernel/media/vivid.ko.xz: kernel/media/videodev.ko.xz\n\
        kernel/media/videodev.ko.xz:\n";

    fn index() -> Index {
        Index::parse(
            DEPENDENCIES,
            "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/char/virtio_console.ko\n",
        )
    }

    fn names(group: &[(String, String)]) -> Vec<String> {
        group.iter().map(|(file, _)| name(file)).collect()
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let files = index().files("9p").unwrap();
        let names: Vec<_> = files.iter().map(|file| name(file)).collect();
        assert_eq!(names, ["netfs", "9pnet", "9p"]);
        assert!(index().files("virtio_pci").unwrap().is_empty(), "it is built in");
        assert!(index().files("vkms").unwrap_err().to_string().contains("vkms"));
    }

    #[test]
    fn groups_share_no_file() {
        let wanted = wanted(None).unwrap();
        let groups = index().groups(&wanted, &[]).unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(names(&groups[0]), ["drm", "drm_shmem_helper", "vgem", "virtio_gpu"]);
        assert_eq!(names(&groups[1]), ["videodev", "vivid"]);
        assert_eq!(groups[1][0].1, "");
        assert_eq!(groups[1][1].1, PARAMETERS[0].1);
    }

    #[test]
    fn what_is_there_before_is_not_loaded_again() {
        let before = index().files("9p").unwrap();
        let modules = super::wanted(Some("9p,vgem")).unwrap();
        let groups = index().groups(&modules, &before).unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(names(&groups[0]), ["drm", "drm_shmem_helper", "vgem"]);
    }

    #[test]
    fn modules_may_have_parameters() {
        assert!(wanted(Some("none")).unwrap().is_empty());
        let modules = wanted(Some("virtio-gpu,vivid:allocators=1")).unwrap();
        assert_eq!(modules[0], Module { name: "virtio_gpu".to_owned(), parameters: String::new() });
        assert!(modules[1].parameters.ends_with(" allocators=1"));
        for wrong in ["vgem,", "a b", "vgem:fast", "vgem:a=b c", "../vgem"] {
            assert!(wanted(Some(wrong)).is_err(), "{wrong} was taken");
        }
    }
}
