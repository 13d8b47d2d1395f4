//! The broker: one thread for each client, each with little time and one request.

use super::SERVICE;
use super::ledger::{Client, Ledger, Limits};
use super::message::{Answer, Request};
use super::source::{self, Source};
use bips::{AccessRule, Error, ErrorKind, Line, Result, Service};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;

/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon to look again whether a client that was served has gone.
const CROWDED: Duration = Duration::from_millis(20);

/// Told of each request: for a log.
pub type OnServed = dyn Fn(&Served) + Send + Sync;

/// What became of a request.
#[derive(Debug)]
pub struct Served {
    /// Process, as numbered here; 0 where it has no number.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// What was given: how many buffers of how many bytes, and of what. Or why not.
    pub outcome: Result<String>,
}

/// Makes buffers for whom the access rule admits.
#[derive(Debug)]
pub struct Broker {
    service: Arc<Service>,
    desk: Arc<Desk>,
    limits: Limits,
}

#[derive(Debug)]
struct Desk {
    source: Box<dyn Source>,
    ledger: Ledger,
    busy: AtomicUsize,
}

impl Broker {
    /// Listens in the runtime directory.
    ///
    /// # Errors
    /// `Unsupported` or `AccessDenied` where the source has nothing; `NameTaken` where a broker runs.
    pub fn open(
        directory: Option<&Path>,
        rule: AccessRule,
        limits: Limits,
        source: Box<dyn Source>,
    ) -> Result<Self> {
        source::check(&*source)?;
        let service = Service::open(directory, SERVICE, rule).map_err(|error| match error.kind() {
            ErrorKind::NameTaken => {
                Error::new(ErrorKind::NameTaken, "a broker runs in this directory already; one is enough")
            }
            _ => error,
        })?;
        let desk = Desk { source, ledger: Ledger::new(limits)?, busy: AtomicUsize::new(0) };
        Ok(Self { service: Arc::new(service), desk: Arc::new(desk), limits })
    }

    /// What it has to give.
    pub fn kinds(&self) -> Vec<String> {
        self.desk.source.kinds()
    }

    /// Bytes and buffers that it gave and that are still in use.
    ///
    /// # Errors
    /// What the system reports.
    pub fn in_use(&self) -> Result<(u64, usize)> {
        self.desk.ledger.in_use()
    }

    /// Serves whoever comes within `timeout`, in a thread of its own, and tells `on_served` what became of it.
    ///
    /// # Errors
    /// What the system reports; it may pass.
    pub fn serve(&self, timeout: Duration, on_served: &Arc<OnServed>) -> Result<()> {
        if self.desk.busy.load(Acquire) >= self.limits.clients {
            // Unaccepted, they cost nothing; and to turn one away means to close what it sent, which can take long.
            std::thread::sleep(CROWDED.min(timeout));
            return Ok(());
        }
        let Some(line) = self.service.next(timeout)? else { return Ok(()) };
        let (service, desk, told) = (self.service.clone(), self.desk.clone(), on_served.clone());
        desk.busy.fetch_add(1, AcqRel);
        let run = move || {
            let _place = Place(desk.clone());
            let line = line; // ends before the place does: to close what a client has sent can take long
            let (pid, uid) = line.peer().unwrap_or((0, 65534));
            if let Some(outcome) = desk.serve(&service, &line, (pid, uid)).transpose() {
                told(&Served { pid, uid, outcome });
            }
        };
        let desk = &self.desk;
        std::thread::Builder::new().name("bips-broker".into()).spawn(run).map(drop).map_err(|error| {
            desk.busy.fetch_sub(1, AcqRel);
            Error::system("starting a thread", error)
        })
    }
}

/// A client that is served.
struct Place(Arc<Desk>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, AcqRel);
    }
}

impl Desk {
    /// What was given; nothing for who only looked.
    fn serve(&self, service: &Service, line: &Line, client: Client) -> Result<Option<String>> {
        let made = service
            .check(line)
            .and_then(|()| line.receive(PATIENCE))
            .and_then(|(message, fds)| self.answer(&message, fds, client));
        match made {
            Ok((answer, buffers, words)) => {
                let fds: Vec<_> = buffers.iter().map(AsFd::as_fd).collect();
                line.send(&answer.encode(), &fds)?;
                // Ours are closed here: what was sent is the client's, or goes with its end.
                Ok(words)
            }
            // Who says nothing, or is gone, is not answered.
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Timeout) => Ok(None),
            Err(error) => {
                line.send(&Answer::Refused(error.kind(), error.to_string()).encode(), &[])?;
                Err(error)
            }
        }
    }

    fn answer(
        &self,
        message: &[u8],
        fds: Vec<OwnedFd>,
        client: Client,
    ) -> Result<(Answer, Vec<OwnedFd>, Option<String>)> {
        let request = Request::decode(message)?;
        let (slots, slot_bytes, kind) = match &request {
            Request::Ask => return Ok((Answer::Kinds(self.source.kinds()), Vec::new(), None)),
            Request::Heap { name: None, slots, slot_bytes } => (*slots, *slot_bytes, "dma-heap".to_owned()),
            Request::Heap { name: Some(name), slots, slot_bytes } => {
                (*slots, *slot_bytes, format!("dma-heap:{name}"))
            }
            Request::Cover { slots, slot_bytes } => (*slots, *slot_bytes, "udmabuf".to_owned()),
        };
        let room = self.ledger.reserve(client, slots, slot_bytes)?;
        let buffers = match (&request, fds.as_slice()) {
            (Request::Heap { name, .. }, []) => self.source.of_heap(name.as_deref(), slots, slot_bytes)?,
            (Request::Cover { .. }, [memfd]) => {
                check_memfd(memfd.as_fd(), slots, slot_bytes)?;
                self.source.cover(memfd.as_fd(), slots, slot_bytes)?
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    "the request came with another number of descriptors than it needs",
                ));
            }
        };
        room.fill(&buffers, slot_bytes)?;
        Ok((Answer::Buffers(slots), buffers, Some(format!("{slots} x {slot_bytes} bytes of {kind}"))))
    }
}

/// The kernel would take whole pages for whatever has none, at our cost, and be cheated by a file that shrinks.
fn check_memfd(memfd: BorrowedFd<'_>, slots: u32, slot_bytes: u64) -> Result<()> {
    let bad = |what: &str| {
        Err(Error::new(ErrorKind::InvalidArgument, format!("the broker takes no memfd that {what}")))
    };
    // First: only files in the kernel's own memory have seals, and the file system of another file can be a program that never answers.
    let Ok(seals) = fcntl(memfd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain) else {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "the broker covers memfds, and what was sent is none",
        ));
    };
    if !fstatfs(memfd).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC) {
        return bad("is one of huge pages");
    }
    if !seals.contains(SealFlag::F_SEAL_SHRINK) {
        return bad("could shrink; seal it with F_SEAL_SHRINK");
    }
    let stat = fstat(memfd).map_err(|errno| Error::system("fstat of a memfd", errno))?;
    let len = stat.st_size.cast_unsigned();
    if slot_bytes.checked_mul(slots.into()) != Some(len) {
        return bad("has another size than its slots together");
    }
    if stat.st_blocks.cast_unsigned().saturating_mul(512) < len {
        return bad("has holes; give all of it memory first (fallocate)");
    }
    Ok(())
}
