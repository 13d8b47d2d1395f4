//! What the files of a machine say: device nodes, and the libraries of those who have no node of their own.

use super::{Device, State};
use nix::unistd::{AccessFlags, Gid, Group};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) const VIDEO: &str = "v4l2";

/// Where the files are, and who may open them: this machine, or one that a test made up.
pub(crate) struct Tree {
    root: PathBuf,
    may_open: fn(&Path) -> bool,
}

impl Tree {
    pub(crate) fn of_this_machine() -> Self {
        let may_open =
            |path: &Path| nix::unistd::eaccess(path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok();
        Self { root: PathBuf::from("/"), may_open }
    }

    /// Every device, and for each family without one why there is none.
    pub(crate) fn devices(&self) -> Vec<Device> {
        [self.heaps(), self.udmabuf(), self.drm(), self.video(), self.vulkan(), self.cuda(), self.nvmm()]
            .concat()
    }

    fn heaps(&self) -> Vec<Device> {
        self.each_or("dma-heap", "dev/dma_heap", |_| true, |_| String::new(), || {
            "there is no node in /dev/dma_heap: the kernel is built without CONFIG_DMABUF_HEAPS_SYSTEM and \
             CONFIG_DMABUF_HEAPS_CMA, or this container was not given the nodes"
        })
    }

    fn udmabuf(&self) -> Vec<Device> {
        match self.node("udmabuf", "dev/udmabuf", String::new()) {
            Some(device) => vec![device],
            None => vec![Device::absent(
                "udmabuf",
                "there is no /dev/udmabuf: `modprobe udmabuf`, a kernel with CONFIG_UDMABUF, or the node for \
                 this container",
            )],
        }
    }

    /// A card's node makes plain buffers; those of a render node come from the driver's own library, by way of GBM.
    fn drm(&self) -> Vec<Device> {
        let about = |name: &str| self.driver(&format!("sys/class/drm/{name}"));
        let mut devices = self.each_or(
            "drm",
            "dev/dri",
            |name| numbered(name, "card"),
            about,
            || {
                "there is no card in /dev/dri: no GPU or display driver is loaded (`modprobe vgem` makes a \
             virtual one), or this container was not given the nodes"
            },
        );
        for name in self.names("dev/dri", |name| numbered(name, "renderD")) {
            devices.extend(self.node(&format!("gbm:{name}"), &format!("dev/dri/{name}"), about(&name)));
        }
        devices
    }

    fn video(&self) -> Vec<Device> {
        let about = |name: &str| {
            let class = format!("sys/class/video4linux/{name}");
            let card = fs::read_to_string(self.root.join(&class).join("name")).unwrap_or_default();
            let both = [card.trim().to_owned(), self.driver(&class)];
            both.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
        };
        self.each_or(VIDEO, "dev", |name| numbered(name, "video"), about, || {
            "there is no /dev/video*: no camera, or `modprobe vivid` for a virtual one, or this container \
             was not given the nodes"
        })
    }

    /// By its manifests: which of its drivers works is for the loader to find out.
    fn vulkan(&self) -> Vec<Device> {
        let folders = ["etc", "usr/local/share", "usr/share"].map(|folder| format!("{folder}/vulkan/icd.d"));
        let manifests: Vec<_> = folders
            .iter()
            .flat_map(|folder| {
                self.names(folder, |name| name.ends_with(".json")).into_iter().map(move |name| (folder, name))
            })
            .collect();
        let Some((folder, first)) = manifests.first() else {
            return vec![Device::absent(
                "vulkan",
                "no Vulkan driver is installed: vulkan/icd.d is empty in /etc, /usr/share, /usr/local/share",
            )];
        };
        let names: Vec<_> = manifests.iter().map(|(_, name)| name.trim_end_matches(".json")).collect();
        vec![Device {
            id: "vulkan".into(),
            about: names.join(", "),
            path: Some(Path::new("/").join(folder).join(first)),
            memory: false,
            state: State::Present,
        }]
    }

    /// A desktop's nodes, or those of a Jetson, whose GPU is not on a bus.
    fn cuda(&self) -> Vec<Device> {
        let of_bus =
            self.names("dev", |name| numbered(name, "nvidia")).into_iter().map(|name| format!("dev/{name}"));
        let of_board = ["dev/nvgpu/igpu0/ctrl", "dev/nvhost-gpu"].map(str::to_owned);
        let first = of_bus.chain(of_board).find_map(|path| self.node("cuda", &path, String::new()));
        vec![first.unwrap_or_else(|| {
            Device::absent(
                "cuda",
                "no NVIDIA GPU: neither /dev/nvidia0 nor /dev/nvgpu or /dev/nvhost-gpu is there",
            )
        })]
    }

    fn nvmm(&self) -> Vec<Device> {
        let folders = ["usr/lib/aarch64-linux-gnu/nvidia", "usr/lib/aarch64-linux-gnu/tegra"];
        let library = folders
            .iter()
            .find(|folder| !self.names(folder, |name| name.starts_with("libnvbufsurface.so")).is_empty());
        let missing = |what| vec![Device::absent("nvmm", format!("{what}; it is for NVIDIA Jetson"))];
        match (self.node("nvmm", "dev/nvmap", String::new()), library) {
            (None, _) => missing("there is no /dev/nvmap"),
            (_, None) => missing("libnvbufsurface.so is missing (package nvidia-l4t-multimedia-utils)"),
            (Some(device), Some(folder)) => {
                vec![Device { about: format!("/{folder}/libnvbufsurface.so"), ..device }]
            }
        }
    }

    fn each_or(
        &self,
        family: &str,
        folder: &str,
        wanted: impl Fn(&str) -> bool,
        about: impl Fn(&str) -> String,
        why_none: fn() -> &'static str,
    ) -> Vec<Device> {
        let names = self.names(folder, wanted).into_iter();
        let nodes: Vec<_> = names
            .filter_map(|name| {
                self.node(&format!("{family}:{name}"), &format!("{folder}/{name}"), about(&name))
            })
            .collect();
        if nodes.is_empty() { vec![Device::absent(family, why_none())] } else { nodes }
    }

    fn node(&self, id: &str, path: &str, about: String) -> Option<Device> {
        let real = self.root.join(path);
        let metadata = fs::metadata(&real).ok()?;
        let shown = Path::new("/").join(path);
        let state = if (self.may_open)(&real) {
            State::Present
        } else {
            State::Denied(denied(&shown, metadata.mode(), metadata.gid()))
        };
        Some(Device { id: id.to_owned(), about, path: Some(shown), memory: false, state })
    }

    fn names(&self, folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| wanted(name))
            .collect();
        // `video10` after `video2`.
        names.sort_by_key(|name| (name.len(), name.clone()));
        names
    }

    /// A virtual device has no driver bound to it; its own name says as much. Behind virtio's bus it is the one that says
    /// more than that.
    fn driver(&self, class: &str) -> String {
        let device = self.root.join(class).join("device");
        let name = |link: &Path| {
            fs::canonicalize(link).ok().and_then(|to| Some(to.file_name()?.to_string_lossy().into_owned()))
        };
        let on_virtio = self.names(&format!("{class}/device"), |name| numbered(name, "virtio")).into_iter();
        on_virtio
            .map(|child| device.join(child).join("driver"))
            .chain([device.join("driver"), device.clone()])
            .find_map(|link| name(&link))
            .unwrap_or_default()
    }
}

fn numbered(name: &str, begin: &str) -> bool {
    name.strip_prefix(begin)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn denied(path: &Path, mode: u32, gid: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(gid))
        .ok()
        .flatten()
        .map_or_else(|| gid.to_string(), |group| group.name);
    let step = if mode & 0o060 == 0o060 && gid != 0 {
        format!(
            "let this user into group {group}: `usermod -aG {group} USER`, `--group-add {group}` for a container"
        )
    } else {
        "give it a group by a udev rule, like `GROUP=\"video\", MODE=\"0660\"`".to_owned()
    };
    format!("{} is for others (group {group}, mode {:03o}); {step}", path.display(), mode & 0o777)
}

#[cfg(test)]
mod tests;
