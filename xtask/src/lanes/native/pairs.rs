//! Each example, from each language to each: 16 pairs of processes, and what both must have said.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::verdict::{self, Expected};
use crate::parties::Parties;
use crate::step::Progress;
use crate::workspace::Workspace;

/// A pair takes a second at most; its programs give up after 30 s without each other.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    C,
    Cpp,
    Rust,
    Python,
}

const LANGUAGES: [Language; 4] = [Language::C, Language::Cpp, Language::Rust, Language::Python];

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::C => "C",
            Self::Cpp => "C++",
            Self::Rust => "Rust",
            Self::Python => "Python",
        })
    }
}

/// One of `examples/`.
pub(super) struct Example {
    pub(super) folder: &'static str,
    /// What the names of its programs begin with.
    name: &'static str,
    pub(super) sender: &'static str,
    pub(super) receiver: &'static str,
    /// Of the sender, after the stream's name.
    arguments: &'static [&'static str],
    expected: fn() -> Expected,
}

pub(super) const EXAMPLES: [Example; 3] = [
    Example {
        folder: "01_hello",
        name: "hello",
        sender: "produce",
        receiver: "consume",
        arguments: &["300"],
        expected: || verdict::hello(300),
    },
    Example {
        folder: "02_camera_to_tensor",
        name: "tensor",
        sender: "camera",
        receiver: "checksum",
        arguments: &["8", "1920", "1080"],
        expected: || verdict::tensor(8, 1920, 1080, "memfd"),
    },
    Example {
        folder: "03_results_back",
        name: "results",
        sender: "camera",
        receiver: "detector",
        arguments: &["20", "640", "480"],
        expected: || verdict::results(20, 640, 480),
    },
];

impl Example {
    /// The file of one of its programs in C or C++ (`language` is the source's suffix).
    pub(super) fn program(&self, program: &str, language: &str) -> String {
        format!("{}_{program}_{language}", self.name)
    }
}

/// Where programs are.
struct Places<'a> {
    workspace: &'a Workspace,
    programs: &'a Path,
    python: &'a Path,
}

impl Places<'_> {
    fn command(&self, example: &Example, program: &str, language: Language) -> Command {
        match language {
            Language::C => Command::new(self.programs.join(example.program(program, "c"))),
            Language::Cpp => Command::new(self.programs.join(example.program(program, "cpp"))),
            Language::Rust => {
                let built = self.workspace.target.join("debug");
                Command::new(built.join(format!("{}_{program}", example.name)))
            }
            Language::Python => {
                let script = self.workspace.root.join("examples").join(example.folder);
                let mut command = Command::new(self.python);
                // -u: what it says is in its log even when it dies. No bytecode into the checkout.
                command.args(["-u", "-B"]).arg(script.join(format!("{program}.py")));
                command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
                command
            }
        }
    }

    /// Both to their end, and what they said.
    fn pair(
        &self,
        example: &Example,
        expected: &Expected,
        [from, to]: [Language; 2],
        progress: &Progress,
    ) -> Result<()> {
        let folder =
            self.workspace.target.join("logs/native").join(example.folder).join(format!("{from}-{to}"));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let directory = folder.join("run");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let mut parties = Parties::new(&folder);
        for (name, program, language, arguments) in
            [("sender", example.sender, from, example.arguments), ("receiver", example.receiver, to, &[])]
        {
            let mut command = self.command(example, program, language);
            command.arg("example").args(arguments).env("BIPS_DIR", &directory);
            // The end of its log is for its error, not for the stack below `main`.
            command.env("RUST_LIB_BACKTRACE", "0");
            parties.start(name, command)?;
        }
        parties.wait(progress, PATIENCE)?;
        let said = |name| fs::read_to_string(folder.join(format!("{name}.log")));
        let verdict = expected.judge(&said("sender")?, &said("receiver")?);
        let verdict = verdict.and_then(|()| {
            let left: Vec<_> = files(&directory)?;
            ensure!(left.is_empty(), "left behind: {}", left.join(", "));
            Ok(())
        });
        verdict.map_err(|error| anyhow!("{error:#}\n{}", parties.told()))
    }
}

/// All but folders, which a stream's name may have.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

/// Cameras and their consumers, each language once on either side, for whoever runs them elsewhere.
pub(crate) struct Ring {
    pub(crate) pairs: Vec<Remote>,
    expected: Expected,
}

/// One camera and one consumer.
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) sender: Vec<String>,
    pub(crate) receiver: Vec<String>,
}

impl Ring {
    /// In this kind of memory, whose files the kernel calls `file`.
    pub(crate) fn of(workspace: &Workspace, python: &Path, memory: &str, file: &'static str) -> Self {
        let (example, programs) = (&EXAMPLES[1], examples(workspace));
        let places = Places { workspace, programs: &programs, python };
        let words = |program, language, arguments: &[&str]| {
            let command = places.command(example, program, language);
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let words = words.map(|word| word.to_string_lossy().into_owned());
            words.chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
        };
        let pairs = (0..LANGUAGES.len()).map(|i| {
            let (from, to) = (LANGUAGES[i], LANGUAGES[(i + 1) % LANGUAGES.len()]);
            Remote {
                name: format!("{from} to {to}"),
                sender: words(example.sender, from, &["example", "4", "320", "240", memory]),
                receiver: words(example.receiver, to, &["example"]),
            }
        });
        Self { pairs: pairs.collect(), expected: verdict::tensor(4, 320, 240, file) }
    }

    /// Whether both have said what they must, at the same places in the same memory.
    pub(crate) fn judge(&self, sender: &str, receiver: &str) -> Result<()> {
        self.expected.judge(sender, receiver).with_context(|| format!("{sender}{receiver}"))
    }
}

/// Where the lane leaves the examples in C and C++.
pub(crate) fn examples(workspace: &Workspace) -> PathBuf {
    workspace.target.join("native/examples")
}

/// All pairs of all examples; `programs` has those in C and C++.
pub(crate) fn run(workspace: &Workspace, programs: &Path, python: &Path) -> Result<()> {
    let places = Places { workspace, programs, python };
    let mut failures = Vec::new();
    for example in &EXAMPLES {
        let expected = (example.expected)();
        let title = format!("{}, 16 pairs of languages", example.folder);
        let progress = Progress::start(&title);
        let mut table = format!("{:<22}{}\n", "", row(&LANGUAGES.map(|language| language.to_string())));
        let mut said = Vec::new();
        for from in LANGUAGES {
            let cells = LANGUAGES.map(|to| match places.pair(example, &expected, [from, to], &progress) {
                Ok(()) => "ok".to_owned(),
                Err(error) => {
                    said.push(format!(
                        "{} in {from}, {} in {to}:\n{error:#}\n",
                        example.sender, example.receiver
                    ));
                    failures.push(format!("{} {from} to {to}", example.folder));
                    "FAILED".to_owned()
                }
            });
            table += &format!("  {:<20}{}\n", format!("{} in {from}", example.sender), row(&cells));
        }
        progress.end(said.is_empty());
        for failure in &said {
            println!("{failure}");
        }
        println!("{}: to {} in\n{table}", example.folder, example.receiver);
    }
    if !failures.is_empty() {
        bail!("{} of 48 pairs failed, see above: {}", failures.len(), failures.join(", "));
    }
    println!("all 48 pairs passed");
    Ok(())
}

fn row(cells: &[String; 4]) -> String {
    cells.iter().map(|cell| format!("{cell:<8}")).collect::<String>().trim_end().to_owned()
}
