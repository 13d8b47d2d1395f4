//! A project outside the checkout that finds bips where it was installed, and talks to Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::super::Skips;
use crate::step::{Progress, logged, output_of};
use crate::workspace::{Workspace, on_path};

const FRAMES: &str = "30";

pub(super) fn run(workspace: &Workspace, prefix: &Path, python: &Path, skips: &Skips) -> Result<()> {
    let from = workspace.root.join("capi/tests/project");
    // Not below the checkout: nothing of it must be found by being near.
    let folder = std::env::temp_dir().join(format!("bips-project-{}", std::process::id()));
    let result = in_folder(workspace, &from, &folder, prefix, python, skips);
    let _ = fs::remove_dir_all(&folder);
    result
}

fn in_folder(
    workspace: &Workspace,
    from: &Path,
    folder: &Path,
    prefix: &Path,
    python: &Path,
    skips: &Skips,
) -> Result<()> {
    fs::create_dir_all(folder)?;
    for file in ["CMakeLists.txt", "recorder.cpp"] {
        fs::copy(from.join(file), folder.join(file))?;
    }
    let script = fs::read_to_string(from.join("peer.py"))?;
    let mut programs = Vec::new();
    for linking in ["shared", "static"] {
        match with_cmake(workspace, folder, prefix, linking)? {
            Some(program) => programs.push((format!("CMake, {linking}"), program)),
            None => skips.add(&format!(
                "a project with find_package(bips), {linking}: there is no cmake with make or ninja"
            ))?,
        }
        match with_pkg_config(folder, prefix, linking)? {
            Some(program) => programs.push((format!("pkg-config, {linking}"), program)),
            None => skips.add(&format!("a project with pkg-config, {linking}: there is no pkg-config"))?,
        }
    }
    for (title, program) in programs {
        let needs = output_of(Command::new("ldd").arg(&program))?;
        ensure!(
            needs.contains("libbips") == title.contains("shared"),
            "{title}: linked otherwise than it should be:\n{needs}"
        );
        let progress =
            Progress::start(&format!("a project of its own ({title}) and Python, 1080p, both ways"));
        let both = talk(folder, &program, python, &script);
        progress.end(both.is_ok());
        both.with_context(|| title.clone())?;
    }
    Ok(())
}

fn with_cmake(workspace: &Workspace, folder: &Path, prefix: &Path, linking: &str) -> Result<Option<PathBuf>> {
    let tool = [("make", "Unix Makefiles"), ("ninja", "Ninja")]
        .into_iter()
        .find(|(tool, _)| on_path(tool).is_some());
    let (Some(cmake), Some((_, generator))) = (on_path("cmake"), tool) else {
        return Ok(None);
    };
    let build = folder.join(linking);
    let mut configure = Command::new(&cmake);
    configure.args(["-G", generator, "-DCMAKE_BUILD_TYPE=Release", "-S"]).arg(folder).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    configure.arg(format!("-DBIPS_STATIC={}", if linking == "static" { "ON" } else { "OFF" }));
    let log = workspace.log(&format!("project-{linking}"));
    logged(&format!("find bips in a project of its own, {linking}"), &mut configure, &log)?;
    let mut make = Command::new(&cmake);
    logged(&format!("build that, {linking}"), make.arg("--build").arg(&build), &log)?;
    Ok(Some(build.join("recorder")))
}

fn with_pkg_config(folder: &Path, prefix: &Path, linking: &str) -> Result<Option<PathBuf>> {
    let Some(pkg_config) = on_path("pkg-config") else {
        return Ok(None);
    };
    let package = if linking == "static" { "bips-static" } else { "bips" };
    let mut ask = Command::new(pkg_config);
    ask.args(["--cflags", "--libs", package]).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    let flags = output_of(&mut ask)?;
    let program = folder.join(format!("recorder-{linking}"));
    let mut build = Command::new("c++");
    build.args(["-std=c++17", "-O2", "-o"]).arg(&program).arg(folder.join("recorder.cpp"));
    build.args(flags.split_whitespace()).arg(format!("-Wl,-rpath,{}", prefix.join("lib").display()));
    output_of(&mut build)?;
    Ok(Some(program))
}

/// C++ to Python and Python to C++.
fn talk(folder: &Path, program: &Path, python: &Path, script: &str) -> Result<()> {
    let cpp = || Command::new(program);
    let other = || {
        let mut command = Command::new(python);
        command.args(["-c", script]);
        command
    };
    for (mut producer, mut consumer) in [(cpp(), other()), (other(), cpp())] {
        let side = |command: &mut Command, role: &str| {
            command.args([role, "cam", FRAMES]).env("BIPS_DIR", folder);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().with_context(|| format!("cannot start {command:?}"))
        };
        let sender = side(&mut producer, "produce")?;
        let receiver = side(&mut consumer, "consume")?;
        let (sent, received) = (sender.wait_with_output()?, receiver.wait_with_output()?);
        for (who, output) in [("producer", &sent), ("consumer", &received)] {
            if !output.status.success() {
                bail!("the {who}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
            }
        }
        let (sent, received) = (frames(&sent.stdout)?, frames(&received.stdout)?);
        ensure!(sent.len().to_string() == FRAMES, "{} frames were sent", sent.len());
        for (i, (sent, received)) in sent.iter().zip(&received).enumerate() {
            ensure!((sent.number, sent.sum) == (i as u64, received.sum), "frame {i} came as another");
            ensure!(received.number == sent.number, "frame {i} came as number {}", received.number);
            ensure!(sent.inode == received.inode, "frame {i} lies in other memory there: it was copied");
        }
        ensure!(sent.len() == received.len(), "{} of {} came", received.len(), sent.len());
    }
    Ok(())
}

/// What a side said of one frame. Its address lies in the mapping.
struct Said {
    number: u64,
    sum: u64,
    inode: u64,
}

fn frames(said: &[u8]) -> Result<Vec<Said>> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [number, sum, address, mapping, inode] = words[..] else {
            bail!("a side said {line:?}");
        };
        let (begin, end) = mapping.split_once('-').context("no mapping")?;
        let (address, begin, end): (u64, u64, u64) = (address.parse()?, begin.parse()?, end.parse()?);
        ensure!((begin..end).contains(&address) && inode != "0", "not in shared memory: {line}");
        Ok(Said { number: number.parse()?, sum: sum.parse()?, inode: inode.parse()? })
    };
    std::str::from_utf8(said)?.lines().map(line).collect()
}
