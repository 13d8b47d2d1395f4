//! Machines that don't end by themselves, and who ends them: nothing may hang, and nothing may be left.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Case, Told, VmLane, written};
use crate::vm::{BROKEN, TIMED_OUT};
use crate::workspace::on_path;

pub(super) const ALL: &[Case] = &[
    Case { name: "a command that takes too long is ended", run: too_long },
    Case { name: "so is one that nobody reads, and with it the machine", run: unread },
    Case { name: "a kernel that panics is told, with its last words", run: panic },
    Case { name: "a machine that does not start is told", run: no_start },
    Case { name: "what virtualisation does not bring up in 20 s is emulated", run: emulated },
    Case { name: "SIGTERM ends the machine too", run: terminated },
    Case { name: "and so does SIGKILL", run: killed },
];

/// For what takes moments.
const PATIENCE: Duration = Duration::from_secs(120);

fn too_long(lane: &VmLane) -> Result<()> {
    // What it prints before shows that it is the command that took too long, not the boot.
    let told = lane
        .outcome(&["--modules", "none", "--timeout", "45"], &["sh", "-c", "echo begun; exec sleep 100000"])?;
    told.demand(TIMED_OUT.into())?;
    ensure!(told.output.stdout == b"begun\n", "the command had not begun after 45 s");
    ensure!(told.errors().contains("45 s: the command was running"), "it says {:?}", told.errors());
    Ok(())
}

/// As `cargo xtask vm -- yes | head` does it.
fn unread(lane: &VmLane) -> Result<()> {
    let mut vm = lane.vm(&["--modules", "none"], &["yes"]);
    let mut child = vm.stdout(Stdio::piped()).spawn()?;
    let mut first = [0; 4];
    let mut output = child.stdout.take().context("there is no pipe")?;
    output.read_exact(&mut first)?;
    drop(output);
    let code = ended(&mut child)?;
    ensure!(&first == b"y\ny\n", "it printed {first:?}");
    ensure!(code == Some(128 + 13), "it ended with {code:?} instead of what SIGPIPE gives");
    Ok(())
}

fn panic(lane: &VmLane) -> Result<()> {
    let told = lane.outcome(
        &["--modules", "none"],
        &["sh", "-c", "echo before; sleep 1; echo c >/proc/sysrq-trigger; sleep 100000"],
    )?;
    told.demand(BROKEN.into())?;
    ensure!(told.output.stdout == b"before\n", "what was printed before is gone");
    ensure!(
        told.errors().contains("sysrq triggered crash"),
        "the kernel's words are missing:\n{}",
        told.errors()
    );
    Ok(())
}

fn no_start(lane: &VmLane) -> Result<()> {
    let told = lane.outcome(&["--device", "no-such-device"], &["true"])?;
    told.demand(BROKEN.into())?;
    ensure!(told.errors().contains("no-such-device"), "QEMU's words are missing:\n{}", told.errors());
    // One that starts, and comes no further than its first program.
    let told = lane.outcome(&["--append", "rdinit=/no-such-program"], &["true"])?;
    told.demand(BROKEN.into())?;
    ensure!(
        told.errors().contains("Unable to mount root"),
        "the kernel's words are missing:\n{}",
        told.errors()
    );
    // One whose driver doesn't take its parameter.
    let told = lane.outcome(&["--modules", "vivid:n_devs=none"], &["true"])?;
    told.demand(BROKEN.into())?;
    ensure!(
        told.errors().contains("the module vivid could not"),
        "its words are missing:\n{}",
        told.errors()
    );
    lane.outcome(&["--out", "/"], &["true"])?.demand(BROKEN.into())?;
    let told = lane.outcome(&["--modules", "no_such_module"], &["true"])?;
    told.demand(BROKEN.into())?;
    ensure!(told.errors().contains("no_such_module"), "it says {:?}", told.errors());
    Ok(())
}

/// With a QEMU that does nothing when it is to virtualise: so does a real one where that only seems to work.
fn emulated(lane: &VmLane) -> Result<()> {
    let qemu = on_path("qemu-system-x86_64").context("there is no QEMU")?;
    let folder = lane.folder.join("half-a-qemu");
    fs::create_dir_all(&folder)?;
    let half = folder.join("qemu-system-x86_64");
    let script = "#!/bin/sh\ncase \" $* \" in *' -accel kvm '*) exec sleep 100000 ;; esac\n";
    written(&half, format!("{script}exec '{}' \"$@\"\n", qemu.display()).as_bytes())?;
    fs::set_permissions(&half, fs::Permissions::from_mode(0o755))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder].into_iter().chain(env::split_paths(&path)))?;
    let mut vm = lane.vm(&["--modules", "none", "--accel", "kvm,tcg"], &["echo", "up"]);
    let told = Told::of(vm.env("PATH", path))?;
    told.demand(0)?;
    ensure!(told.output.stdout == b"up\n", "it printed {:?}", String::from_utf8_lossy(&told.output.stdout));
    let told = lane.outcome(&["--modules", "none", "--accel", "kvm,tcg"], &["sh", "-c", "exit 7"])?;
    told.demand(7)
}

fn terminated(lane: &VmLane) -> Result<()> {
    let (code, session) = ended_by(lane, Signal::SIGTERM)?;
    ensure!(code == Some(128 + 15), "it ended with {code:?} instead of what SIGTERM gives");
    ensure!(!Path::new(&session).exists(), "{session} is left");
    Ok(())
}

fn killed(lane: &VmLane) -> Result<()> {
    let (code, session) = ended_by(lane, Signal::SIGKILL)?;
    ensure!(code.is_none(), "it ended with {code:?} instead of the signal");
    // It could not remove that.
    fs::remove_dir_all(session)?;
    Ok(())
}

/// Ends a machine's maker while the command runs, and waits until QEMU is gone. The maker's status and its folder.
fn ended_by(lane: &VmLane, signal: Signal) -> Result<(Option<i32>, String)> {
    let script = "tr ' ' '\\n' </proc/cmdline | sed -n 's/^bips_session=//p' | tr -d '\"'; exec sleep 100000";
    let mut vm = lane.vm(&["--modules", "none"], &["sh", "-c", script]);
    let mut child = vm.stdout(Stdio::piped()).spawn()?;
    let mut session = String::new();
    BufReader::new(child.stdout.take().context("there is no pipe")?).read_line(&mut session)?;
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
    let qemu: i32 = children.trim().parse().with_context(|| format!("its children are {children:?}"))?;
    let name = fs::read_to_string(format!("/proc/{qemu}/comm"))?;
    ensure!(name.starts_with("qemu-system"), "its child is {name:?}");
    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    let code = ended(&mut child)?;
    let until = Instant::now() + PATIENCE;
    // Once its parent is dead, it is somebody else's to reap.
    while !gone(qemu) {
        ensure!(Instant::now() < until, "QEMU, {qemu}, outlived its maker");
        thread::sleep(Duration::from_millis(20));
    }
    Ok((code, session.trim().to_owned()))
}

fn gone(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn ended(child: &mut Child) -> Result<Option<i32>> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("it did not end within {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
