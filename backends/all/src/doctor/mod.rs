//! What works on this machine, found by doing it.

mod table;

pub use table::{Row, Table, Tried};

use bips::{
    Backend, Consumer, Content, Description, Error, ErrorKind, Fence, Producer, Registry, Requirements, Wait,
};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Works.
    Ok,
    /// Works, but something is slower or less protected than it could be.
    Warn,
    /// Does not work.
    Fail,
    /// Could not be tried here.
    Skip,
}

/// One thing that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What: `runtime-directory`, `memory-limit`, or a memory kind.
    pub name: String,
    /// How it came out.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub next_step: Option<String>,
}

/// All that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In the order in which it was tried.
    pub checks: Vec<Check>,
    /// What each memory kind can do.
    pub table: Table,
}

impl Report {
    /// Whether something of this name was tried.
    pub fn tried(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name)
    }

    /// Whether a memory kind, or another check by name, works.
    pub fn works(&self, name: &str) -> bool {
        self.checks
            .iter()
            .any(|check| check.name == name && matches!(check.status, Status::Ok | Status::Warn))
    }
}

fn check(name: &str, status: Status, detail: impl Into<String>, next_step: Option<&str>) -> Check {
    Check { name: name.into(), status, detail: detail.into(), next_step: next_step.map(Into::into) }
}

/// Kinds whose trial brings a driver's libraries into the process, where they stay: some meet others' copies of what they
/// are made of at the process's end (LLVM is in many), and leave memory behind.
const LOADING: [&str; 1] = ["vulkan"];

/// Tries the runtime directory, and every memory kind by passing frames through it.
pub fn doctor(directory: Option<&Path>) -> Report {
    examine(directory, &[])
}

/// The same in a process that has other things to do: no driver's libraries are loaded for it.
pub fn doctor_in_passing(directory: Option<&Path>) -> Report {
    examine(directory, &LOADING)
}

fn examine(directory: Option<&Path>, spared: &[&str]) -> Report {
    let mut checks = vec![runtime_directory(directory), open_files()];
    let mut rows = Vec::new();
    for backend in crate::registry_in(directory).iter() {
        let kind = backend.info().kind.as_str();
        if spared.contains(&kind) {
            let why = "not tried here: that would load its drivers into this process";
            let step = Some("`bips doctor` tries it in a process of its own");
            checks.push(check(kind, Status::Skip, why, step));
            rows.push(Row::without_buffers(kind, why));
        } else {
            checks.push(memory_kind(backend, directory));
            rows.push(Row::of(&**backend));
        }
    }
    Report { checks, table: Table(rows) }
}

fn failure(name: &str, error: &Error) -> Check {
    check(name, Status::Fail, error.to_string(), Some("see the message; `bips doctor` again afterwards"))
}

fn runtime_directory(directory: Option<&Path>) -> Check {
    let name = "runtime-directory";
    let dir = match bips::runtime_dir(directory) {
        Ok(dir) => dir,
        Err(error) => return failure(name, &error),
    };
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    match fs::File::create(&probe).and_then(|_| fs::remove_file(&probe)) {
        Ok(()) => check(name, Status::Ok, format!("{} (producers can publish there)", dir.display()), None),
        Err(error) => check(
            name,
            Status::Warn,
            format!("{} can be read but not written: {error}", dir.display()),
            Some("fine for consumers; a producer needs write permission there"),
        ),
    }
}

/// A pool costs two descriptors; the usual soft limit of 1024 is met sooner by other things.
fn open_files() -> Check {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    match soft {
        Some(soft) if soft < 256 => check(
            "open-files",
            Status::Warn,
            format!("this process may open {soft} files"),
            Some("raise it with `ulimit -n 1024`"),
        ),
        Some(soft) => check("open-files", Status::Ok, format!("this process may open {soft} files"), None),
        None => check("open-files", Status::Skip, "/proc/self/limits can't be read", None),
    }
}

fn memory_kind(backend: &Arc<dyn Backend>, directory: Option<&Path>) -> Check {
    let kind = backend.info().kind.as_str();
    if let Some(error) = missing(backend) {
        let step = Some("the message says how; nothing is wrong where this kind isn't needed");
        return check(kind, Status::Skip, error.to_string(), step);
    }
    if let Err(error) = pass_frames(backend, directory) {
        return failure(kind, &error);
    }
    let can = backend.capabilities();
    let word = |yes, text: &str| {
        if yes { text.to_string() } else { format!("not {text}") }
    };
    let detail = format!(
        "{}: frames passed; {}, {}",
        backend.info().description,
        match can.read_only_enforced {
            true => "read-only for consumers by the MMU",
            false => "read-only for consumers that don't mean to write: whoever is admitted can",
        },
        word(can.huge_pages, "backed by huge pages")
    );
    // Of others the driver decides; udmabufs do without on some kernels.
    if can.huge_pages || kind != "memfd" {
        check(kind, Status::Ok, detail, None)
    } else {
        check(
            kind,
            Status::Warn,
            detail,
            Some("Linux 6.1 or newer gives large pools huge pages: attaching is faster"),
        )
    }
}

/// Why this machine has no such memory: there is no device for it, or none that this process may open. Memory of the host
/// is everywhere, so there it is a failure.
fn missing(backend: &Arc<dyn Backend>) -> Option<Error> {
    let content = Content::bytes(1 << 16).ok()?;
    let wanted = Requirements::of(content);
    let error = backend.plan(&wanted).err()?;
    let absent = matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::AccessDenied);
    (absent && backend.info().kind != "memfd").then_some(error)
}

/// Publishes a few frames in a directory of its own and reads them back.
fn pass_frames(backend: &Arc<dyn Backend>, directory: Option<&Path>) -> bips::Result<()> {
    let dir = Scratch::new(directory)?;
    let producer =
        Producer::builder("doctor").backend(backend.clone()).bytes(1 << 16).directory(&dir.0).create()?;
    let mut consumer = Consumer::builder("doctor")
        .registry(Registry::new().with(backend.clone()))
        .directory(&dir.0)
        .connect()?;
    let patience = Wait::For(Duration::from_secs(5));
    for round in 1..=8u8 {
        let mut frame = producer.acquire(patience).map_err(|error| producer.explain(error))?;
        frame.bytes_mut().fill(round);
        frame.publish(Description::new(), Fence::Signaled)?;
        let frame = consumer.receive(patience).map_err(|error| consumer.explain(error))?;
        let mut ends = [0; 2];
        frame.copy_to(0, &mut ends[..1]);
        frame.copy_to((1 << 16) - 1, &mut ends[1..]);
        if ends != [round; 2] {
            return Err(Error::new(ErrorKind::System, format!("wrote {round}, read {ends:?}")));
        }
    }
    Ok(())
}

/// A directory of our own that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    /// Where programs make such, or in the runtime directory: a container may have no other place to write to.
    fn new(directory: Option<&Path>) -> bips::Result<Self> {
        let name = format!(".bips-doctor-{}", std::process::id());
        let places = [std::env::temp_dir()].into_iter().chain(bips::runtime_dir(directory).ok());
        let mut refused = Vec::new();
        for place in places {
            let dir = place.join(&name);
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(error) => refused.push(format!("{} ({error})", dir.display())),
            }
        }
        Err(Error::new(
            ErrorKind::AccessDenied,
            format!(
                "the trial needs a directory, and can't make {}; let one be written to",
                refused.join(" nor ")
            ),
        ))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
