//! What only drivers that Debian's kernels lack can show. Programs that test them get a line in `ALL` each.

use anyhow::{Result, ensure};

use super::{Case, VmLane, drivers};

pub(super) const ALL: &[Case] = &[
    Case { name: "vkms, vim2m and vicodec are there besides the others", run: devices },
    Case { name: "a display shows what lies in slots", run: display },
];

fn display(lane: &VmLane) -> Result<()> {
    let programs = drivers::tests_of(lane, &["--package", "bips-drm", "--test", "devices"])?;
    let script =
        "BIPS_REQUIRE=vkms \"$@\" --exact display::a_display_shows_what_lies_in_slots --nocapture 2>&1";
    let mut command = vec!["sh", "-c", script, "sh"];
    command.extend(programs.iter().map(String::as_str));
    let printed = lane.printed(&["--extra-modules"], &command)?;
    ensure!(printed.contains("1 passed"), "{printed}");
    for line in printed.lines().filter(|line| line.contains("is seen as") || line.contains("skipped: ")) {
        lane.note(line);
    }
    Ok(())
}

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
