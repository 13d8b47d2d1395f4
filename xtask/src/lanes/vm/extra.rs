//! What only drivers that Debian's kernels lack can show. Programs that test them get a line in `ALL` each.

use anyhow::{Result, ensure};

use super::{Case, VmLane};

pub(super) const ALL: &[Case] =
    &[Case { name: "vkms, vim2m and vicodec are there besides the others", run: devices }];

fn devices(lane: &VmLane) -> Result<()> {
    let script =
        "cat /sys/kernel/debug/dri/[0-9]/name /sys/class/video4linux/*/name; ls /dev/dri /dev/video*";
    let printed = lane.printed(&["--extra-modules"], &["sh", "-c", script])?;
    for needed in
        ["vgem ", "virtio_gpu ", "vkms ", "vivid-", "vim2m", "stateful-encoder", "stateful-decoder", "card2"]
    {
        ensure!(printed.lines().any(|line| line.starts_with(needed)), "{needed} is missing in\n{printed}");
    }
    Ok(())
}
