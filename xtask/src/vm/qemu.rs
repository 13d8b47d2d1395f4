//! The machine: QEMU's command line.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use clap::ValueEnum;

/// What runs the machine's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Acceleration {
    /// The processor's own virtualisation
    Kvm,
    /// QEMU's emulation
    Tcg,
}

impl Acceleration {
    /// What to try here, in order.
    pub(super) fn here() -> Vec<Self> {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let opens = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        Self::on(&processor, opens)
    }

    /// /dev/kvm says little: on a machine that is itself virtual it may run only kernels made for it. A stock kernel takes
    /// a processor that virtualises.
    fn on(processor: &str, kvm_opens: bool) -> Vec<Self> {
        let mut flags = processor.lines().filter(|line| line.starts_with("flags"));
        let virtualises = flags.any(|line| line.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")));
        if kvm_opens && virtualises { vec![Self::Kvm, Self::Tcg] } else { vec![Self::Tcg] }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // x86-64-v2 without AVX and fast string moves, which are slow when emulated: memory is copied 3.5 times as fast
            // as with `-cpu max`.
            Self::Tcg => [
                "-accel",
                "tcg,thread=multi,tb-size=512",
                "-cpu",
                "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+rdrand",
            ],
        }
    }

    /// QEMU, up to 8.0 at least, may run a breakpoint on one emulated processor that another has already removed, and a
    /// kernel patches itself with those: of some sixty boots with two processors one died of an "int3" oops. Emulating one
    /// also takes less time.
    fn processors(self) -> usize {
        match self {
            Self::Kvm => thread::available_parallelism().map_or(1, usize::from).min(2),
            Self::Tcg => 1,
        }
    }

    /// Calibrations that take an emulated processor long, and fail on a busy machine.
    fn kernel_arguments(self) -> &'static str {
        match self {
            Self::Kvm => "",
            Self::Tcg => " tsc=reliable no_timer_check lpj=4000000",
        }
    }
}

/// Panic at the first fault of a driver, and end then instead of starting anew. The rest costs time and gains nothing here:
/// tests of the kernel's ciphers, the measuring of its jitter, protection of what runs in it from what runs in it.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=4 oops=panic panic=-1 nokaslr mitigations=off audit=0 \
    apparmor=0 random.trust_cpu=on cryptomgr.notests initcall_blacklist=jent_mod_init";

pub(super) struct Machine<'a> {
    pub(super) qemu: &'a Path,
    pub(super) vmlinux: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Has the streams' sockets, and gets the logs.
    pub(super) session: &'a Path,
    pub(super) log: &'a Path,
    pub(super) out: Option<&'a Path>,
    pub(super) memory: u32,
    /// Else what suits.
    pub(super) processors: Option<usize>,
    pub(super) devices: &'a [String],
    pub(super) append: &'a str,
}

impl Machine<'_> {
    /// Ends with the thread that starts it, however that ends: a machine must not stay behind.
    pub(super) fn command(&self, acceleration: Acceleration) -> Command {
        // util-linux's, which Debian always has. Should this process end before it is in force, then QEMU finds nobody at
        // its sockets and ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.qemu);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]);
        command.args(acceleration.arguments());
        let processors = self.processors.unwrap_or_else(|| acceleration.processors());
        command.args(["-m", &format!("{}M", self.memory), "-smp", &processors.to_string()]);
        command.arg("-kernel").arg(self.vmlinux).arg("-initrd").arg(self.initramfs);
        let kernel = format!(
            "{KERNEL_ARGUMENTS}{} bips_session=\"{}\" {}",
            acceleration.kernel_arguments(),
            self.session.display(),
            self.append
        );
        command.args(["-append", &kernel]);
        command.arg("-chardev").arg(with_path("file,id=log,path=", self.log, ""));
        command.args(["-serial", "chardev:log", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        for port in PORTS {
            let socket = self.session.join(port);
            command.arg("-chardev").arg(with_path(&format!("socket,id={port},path="), &socket, ""));
            command.args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        // Several file systems are visible through one share, whose files may have the same numbers.
        command.args(["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"]);
        command.args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"]);
        if let Some(out) = self.out {
            let share = with_path("local,id=out,path=", out, ",security_model=none,multidevs=remap");
            command.arg("-fsdev").arg(share);
            command.args(["-device", "virtio-9p-pci,fsdev=out,mount_tag=out"]);
        }
        for device in self.devices {
            command.args(["-device", device]);
        }
        // In a group of its own: Ctrl-C is for this process, which then ends it.
        command.process_group(0).stdin(Stdio::null());
        command
    }
}

/// The machine's ways out, by name: what it says of itself, and the command's two streams.
pub(super) const PORTS: [&str; 3] = ["status", "out", "err"];

/// An option of QEMU's with a path in it, where a comma stands for itself only when it is doubled.
fn with_path(before: &str, path: &Path, after: &str) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut option = before.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        option.extend(std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    }
    option.extend_from_slice(after.as_bytes());
    OsString::from_vec(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_tried_only_where_the_processor_virtualises() {
        let intel = "processor : 0\nflags\t\t: fpu vmx sse2\nvmx flags\t: vnmi\n";
        assert_eq!(Acceleration::on(intel, true), [Acceleration::Kvm, Acceleration::Tcg]);
        assert_eq!(Acceleration::on("flags : svm\n", true), [Acceleration::Kvm, Acceleration::Tcg]);
        assert_eq!(Acceleration::on(intel, false), [Acceleration::Tcg]);
        assert_eq!(Acceleration::on("flags\t\t: fpu sse2 hypervisor\n", true), [Acceleration::Tcg]);
    }

    #[test]
    fn paths_may_have_commas() {
        assert_eq!(with_path("local,path=", Path::new("/a,b/c"), ",id=x"), "local,path=/a,,b/c,id=x");
    }
}
