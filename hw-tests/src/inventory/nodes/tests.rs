//! A made-up machine, in a folder.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

struct Machine(tempfile::TempDir);

impl Machine {
    fn new(files: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for file in files {
            machine.write(file, "");
        }
        machine
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, from: &str, to: &str) {
        let from = self.0.path().join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        fs::create_dir_all(self.0.path().join(to)).unwrap();
        symlink(self.0.path().join(to), from).unwrap();
    }

    fn devices(&self) -> Vec<Device> {
        Tree { root: self.0.path().into(), may_open: |_| true }.devices()
    }
}

fn of<'a>(devices: &'a [Device], family: &str) -> Vec<&'a Device> {
    devices.iter().filter(|device| device.family() == family).collect()
}

fn ids<'a>(devices: &'a [Device], family: &str) -> Vec<&'a str> {
    of(devices, family).iter().map(|device| device.id.as_str()).collect()
}

#[test]
fn an_empty_machine_says_of_each_family_why_it_is_not_there() {
    let devices = Machine::new(&[]).devices();
    let wanted = ["dma-heap", "udmabuf", "drm", "v4l2", "vulkan", "cuda", "nvmm"];
    assert_eq!(devices.iter().map(|device| device.id.as_str()).collect::<Vec<_>>(), wanted);
    for device in devices {
        assert!(matches!(&device.state, State::Absent(why) if why.len() > 20), "{device:?}");
    }
}

#[test]
fn nodes_are_devices_with_their_drivers() {
    let machine = Machine::new(&[
        "dev/dma_heap/system",
        "dev/dma_heap/linux,cma",
        "dev/udmabuf",
        "dev/dri/card0",
        "dev/dri/card1",
        "dev/dri/renderD128",
        "dev/dri/by-path/pci-0",
        "dev/video10",
        "dev/video2",
        "dev/videonot",
    ]);
    machine.link("sys/class/drm/card0/device", "sys/devices/pci0/gpu");
    machine.link("sys/devices/pci0/gpu/driver", "sys/bus/pci/drivers/virtio-pci");
    machine.link("sys/devices/pci0/gpu/virtio2/driver", "sys/bus/virtio/drivers/virtio_gpu");
    machine.link("sys/class/drm/card1/device", "sys/devices/pci0/other");
    machine.link("sys/devices/pci0/other/driver", "sys/bus/pci/drivers/amdgpu");
    machine.link("sys/class/drm/renderD128/device", "sys/devices/platform/vgem");
    machine.write("sys/class/video4linux/video2/name", "vivid-000-vid-cap\n");
    let devices = machine.devices();
    assert_eq!(ids(&devices, "dma-heap"), ["dma-heap:system", "dma-heap:linux,cma"]);
    assert_eq!(ids(&devices, "udmabuf"), ["udmabuf"]);
    assert_eq!(ids(&devices, "drm"), ["drm:card0", "drm:card1"]);
    assert_eq!(ids(&devices, "gbm"), ["gbm:renderD128"]);
    assert_eq!(ids(&devices, "v4l2"), ["v4l2:video2", "v4l2:video10"]);
    let drm: Vec<_> = of(&devices, "drm").iter().map(|device| device.about.clone()).collect();
    assert_eq!(drm, ["virtio_gpu", "amdgpu"]);
    assert_eq!(of(&devices, "gbm")[0].about, "vgem");
    let camera = of(&devices, "v4l2")[0];
    assert_eq!(camera.about, "vivid-000-vid-cap");
    assert_eq!(camera.path.as_deref(), Some(Path::new("/dev/video2")));
    assert!(
        devices.iter().filter(|device| device.path.is_some()).all(|device| device.state == State::Present)
    );
}

#[test]
fn a_jetson_has_cuda_and_nvmm() {
    let machine = Machine::new(&["dev/nvmap", "dev/nvgpu/igpu0/ctrl"]);
    let devices = machine.devices();
    assert_eq!(of(&devices, "cuda")[0].path.as_deref(), Some(Path::new("/dev/nvgpu/igpu0/ctrl")));
    assert!(matches!(&of(&devices, "nvmm")[0].state, State::Absent(why) if why.contains("libnvbufsurface")));
    machine.write("usr/lib/aarch64-linux-gnu/nvidia/libnvbufsurface.so.1.0.0", "");
    assert_eq!(of(&machine.devices(), "nvmm")[0].state, State::Present);
}

#[test]
fn a_desktop_has_cuda_and_vulkan() {
    let devices = Machine::new(&[
        "dev/nvidia0",
        "dev/nvidiactl",
        "usr/share/vulkan/icd.d/lvp_icd.x86_64.json",
        "etc/vulkan/icd.d/nvidia_icd.json",
        "etc/vulkan/icd.d/readme.txt",
    ])
    .devices();
    assert_eq!(of(&devices, "cuda")[0].path.as_deref(), Some(Path::new("/dev/nvidia0")));
    assert_eq!(of(&devices, "vulkan")[0].about, "nvidia_icd, lvp_icd.x86_64");
}

#[test]
fn who_may_not_open_a_node_is_told_what_to_do() {
    let machine = Machine::new(&["dev/video0"]);
    let node = machine.0.path().join("dev/video0");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
    let devices = Tree { root: machine.0.path().into(), may_open: |_| false }.devices();
    let State::Denied(why) = &of(&devices, "v4l2")[0].state else { panic!("{devices:?}") };
    assert!(why.contains("/dev/video0") && why.contains("mode 600") && why.contains("udev"), "{why}");
    // Of a group that has no name.
    let why = denied(Path::new("/dev/video0"), 0o100_660, 54321);
    assert!(why.contains("usermod -aG 54321"), "{why}");
}
