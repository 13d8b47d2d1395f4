//! Steps that a person waits for: what is going on, for how long, and what went wrong.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Without a terminal a line a minute shows that a long step still lives.
const REMIND_EVERY: Duration = Duration::from_secs(60);
const TAIL_LINES: usize = 25;

/// Runs a command with its output in a log file, and shows the tail of that only when it fails.
pub(crate) fn logged(title: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    writeln!(file, "$ {}", shown(command))?;
    // Both streams append, or they would overwrite each other.
    let out = OpenOptions::new().append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);

    let progress = Progress::start(title);
    let mut child = command.spawn().with_context(|| cannot_start(command))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        progress.tick();
        thread::sleep(LOOK_EVERY);
    };
    progress.end(status.success());
    if !status.success() {
        bail!("{title}: {status}\n{}\n(all of it: {})", tail(log), log.display());
    }
    Ok(())
}

/// Runs a command whose output is for the person (or the machine) watching.
pub(crate) fn shown_live(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// What a command says on standard output; its complaints go through.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` didn't print text", shown(command)))
}

/// The end of a log file, indented.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start {}: is it installed?", command.get_program().to_string_lossy())
}

/// One line that says what is going on and for how long.
pub(crate) struct Progress {
    title: String,
    started: Instant,
    reminded: std::cell::Cell<Instant>,
    terminal: bool,
}

impl Progress {
    pub(crate) fn start(title: &str) -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        if !terminal {
            eprintln!("  ..  {title}");
        }
        Self { title: title.to_owned(), started: now, reminded: now.into(), terminal }
    }

    pub(crate) fn tick(&self) {
        self.tick_at("");
    }

    /// With how far it has come.
    pub(crate) fn tick_at(&self, reached: &str) {
        let elapsed = self.started.elapsed();
        if self.terminal {
            eprint!("\r\x1b[2K  ..  {} {:.0} s{reached}", self.title, elapsed.as_secs_f64());
        } else if self.reminded.get().elapsed() >= REMIND_EVERY {
            self.reminded.set(Instant::now());
            eprintln!("      still at it after {:.0} s{reached}", elapsed.as_secs_f64());
        }
    }

    pub(crate) fn end(&self, well: bool) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        let mark = if well { "ok" } else { "no" };
        eprintln!("{clear}  {mark}  {} ({:.1} s)", self.title, self.started.elapsed().as_secs_f64());
    }
}
