//! What a command finds in the machine, and what comes back.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Case, Told, VmLane, noise, opened, same, written};

pub(super) const ALL: &[Case] = &[
    Case { name: "a command that succeeds says nothing more", run: success },
    Case { name: "a command's status comes back", run: status },
    Case { name: "so does that of one that a signal ended", run: signal },
    Case { name: "20 MB on both streams arrive as they were, whoever is slow", run: streams },
    Case { name: "three at once do not mind each other", run: together },
    Case { name: "arguments, variables and the current folder are kept", run: surroundings },
    Case { name: "bips is the one that was built here", run: bips },
    Case { name: "writes are gone with the machine, but those to --out", run: writes },
    Case { name: "what a command leaves running ends with it", run: left_running },
    Case { name: "the drivers' devices are there", run: devices },
    Case { name: "a module gets its parameters", run: parameters },
];

fn success(lane: &VmLane) -> Result<()> {
    let told = lane.outcome(&[], &["true"])?;
    told.demand(0)?;
    ensure!(told.output.stdout.is_empty(), "it printed {:?}", String::from_utf8_lossy(&told.output.stdout));
    ensure!(told.output.stderr.is_empty(), "it complained {:?}", told.errors());
    Ok(())
}

fn status(lane: &VmLane) -> Result<()> {
    lane.outcome(&["--modules", "none"], &["sh", "-c", "exit 7"])?.demand(7)?;
    lane.outcome(&["--modules", "none"], &["no-such-program"])?.demand(127)
}

fn signal(lane: &VmLane) -> Result<()> {
    lane.outcome(&["--modules", "none"], &["sh", "-c", "kill -SEGV $$"])?.demand(128 + 11)
}

/// The reader of standard output begins late: nothing may be lost when a pipe is full and the command long over.
fn streams(lane: &VmLane) -> Result<()> {
    const LENGTH: usize = 20_000_000;
    let (out, err) = (noise(LENGTH, 0x0b1b5), noise(LENGTH, 0xfeed));
    let (out_file, err_file) = (lane.folder.join("out.bin"), lane.folder.join("err.bin"));
    written(&out_file, &out)?;
    written(&err_file, &err)?;
    let both = "cat \"$1\" & cat \"$2\" >&2; wait";
    let files = [out_file, err_file].map(|file| file.display().to_string());
    let mut vm = lane.vm(&["--modules", "none"], &["sh", "-c", both, "sh", &files[0], &files[1]]);
    let errors = lane.folder.join("err.got");
    let mut child = vm.stdout(Stdio::piped()).stderr(opened(&errors)?).spawn()?;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(300);
    // Until the other stream has come whole; this one is stuck in a full pipe meanwhile.
    while fs::metadata(&errors)?.len() < LENGTH as u64 && std::time::Instant::now() < until {
        if child.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let output = child.wait_with_output()?;
    same("standard error", &fs::read(&errors)?, &err)?;
    same("standard output", &output.stdout, &out)?;
    Told { call: files.join(" "), output }.demand(0)
}

fn together(lane: &VmLane) -> Result<()> {
    let start = |code: i32| {
        let mut vm = lane.vm(&["--modules", "none"], &["sh", "-c", &format!("echo {code}; exit {code}")]);
        vm.stdout(Stdio::piped()).spawn()
    };
    let started: std::io::Result<Vec<_>> = (1..=3).map(start).collect();
    for (child, code) in started?.into_iter().zip(1..) {
        let output = child.wait_with_output()?;
        same("standard output", &output.stdout, format!("{code}\n").as_bytes())?;
        Told { call: format!("machine {code}"), output }.demand(code)?;
    }
    Ok(())
}

fn surroundings(lane: &VmLane) -> Result<()> {
    let here = lane.workspace.root.join("xtask");
    let script =
        "pwd; printf '%s\\n' \"$1\" \"$BIPS_LANE\" \"$BIPS_VM\"; test -f Cargo.toml && wc -c </dev/stdin";
    let mut vm = lane.vm(&["--modules", "none"], &["sh", "-c", script, "sh", "it's \"1\"\n$x"]);
    let told = Told::of(vm.current_dir(&here).env("BIPS_LANE", "a\\b 'c'"))?;
    told.demand(0)?;
    let expected = format!("{}\nit's \"1\"\n$x\na\\b 'c'\n1\n0\n", here.display());
    same("what the command saw", &told.output.stdout, expected.as_bytes())
}

fn bips(lane: &VmLane) -> Result<()> {
    let printed = lane.printed(&["--modules", "none"], &["sh", "-c", "command -v bips && bips --version"])?;
    let mut lines = printed.lines();
    let path = lines.next().context("nothing was printed")?;
    ensure!(path.starts_with(&lane.workspace.target.display().to_string()), "bips is {path}");
    ensure!(lines.next().is_some_and(|line| line.starts_with("bips ")), "it says {printed:?}");
    Ok(())
}

fn writes(lane: &VmLane) -> Result<()> {
    let shared = lane.folder.join("shared, with a comma");
    let apart = lane.folder.join("apart");
    fs::create_dir_all(&apart)?;
    written(&apart.join("kept"), b"as it was")?;
    let script = "echo changed >\"$1/kept\" && echo new >\"$1/new\" && cat \"$1/kept\" \"$1/new\" && \
                  head -c 3000000 /dev/zero >\"$2/zeros\" && ln -s zeros \"$2/link\" && echo text >\"$2/text\"";
    let folders = [&apart, &shared].map(|folder| folder.display().to_string());
    let options = ["--modules", "none", "--out", &folders[1]];
    let printed = lane.printed(&options, &["sh", "-c", script, "sh", &folders[0], &folders[1]])?;
    ensure!(printed == "changed\nnew\n", "in the machine there was {printed:?}");
    same("a file of the host's", &fs::read(apart.join("kept"))?, b"as it was")?;
    ensure!(!apart.join("new").exists(), "a new file is on the host");
    same("a shared file", &fs::read(shared.join("zeros"))?, &vec![0; 3_000_000])?;
    same("a small one", &fs::read(shared.join("text"))?, b"text\n")?;
    ensure!(fs::read_link(shared.join("link"))?.as_os_str() == "zeros", "the link leads elsewhere");
    Ok(())
}

/// It holds both streams open, and would for longer than the test waits.
fn left_running(lane: &VmLane) -> Result<()> {
    let told = lane.outcome(&["--modules", "none"], &["sh", "-c", "sleep 100000 & echo said; exit 3"])?;
    told.demand(3)?;
    same("standard output", &told.output.stdout, b"said\n")
}

fn devices(lane: &VmLane) -> Result<()> {
    const NODES: [&str; 5] =
        ["/dev/dma_heap/system", "/dev/udmabuf", "/dev/dri/card0", "/dev/dri/card1", "/dev/video0"];
    let script = "uname -r; for node; do test -c $node && echo $node; done; \
                  cat /sys/kernel/debug/dri/[0-9]/name /sys/class/video4linux/video0/name";
    let command = [&["sh", "-c", script, "sh"], NODES.as_slice()].concat();
    let printed = lane.printed(&[], &command)?;
    for needed in [NODES.as_slice(), &["vgem ", "virtio_gpu ", "vivid-"]].concat() {
        ensure!(printed.lines().any(|line| line.starts_with(needed)), "{needed} is missing in\n{printed}");
    }
    let release = printed.lines().next().unwrap_or_default();
    lane.note(format!("the machine's kernel is {release}"));
    Ok(())
}

fn parameters(lane: &VmLane) -> Result<()> {
    let script =
        "cat /sys/module/vivid/parameters/allocators; ls /dev/dri 2>/dev/null | wc -l; modinfo -n vgem";
    let printed = lane.printed(&["--modules", "vivid:allocators=1"], &["sh", "-c", script])?;
    let mut lines = printed.lines();
    let allocators = lines.next().unwrap_or_default();
    ensure!(allocators.starts_with('1'), "vivid's allocators are {allocators:?}");
    ensure!(lines.next() == Some("0"), "modules that nobody asked for are loaded");
    ensure!(
        lines.next().is_some_and(|file| file.contains("vgem.ko")),
        "modprobe does not find modules:\n{printed}"
    );
    Ok(())
}
