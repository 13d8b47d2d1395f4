//! Timelines of DRM ("syncobj"): counters of the kernel that GPUs and processes advance and wait for.

use crate::card::{Card, errno};
use crate::nodes::{self, Node};
use bips::sys::monotonic_ns;
use bips::{Error, ErrorKind, Result, Timeline};
use bips_dma_buf::SyncFile;
use drm::DriverCapability;
use drm::control::{Device as _, syncobj};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// A timeline of a DRM driver. All processes that have it see the same; a point may be waited for before anybody has said
/// what will reach it.
///
/// Waiting for what an untrusted process is to signal needs a time-out: it may never come.
#[derive(Debug)]
pub struct SyncTimeline {
    card: Card,
    object: syncobj::Handle,
}

impl SyncTimeline {
    /// A new one, standing at 0, of the node of that name or of the first whose driver has timelines.
    ///
    /// # Errors
    /// `Unsupported` where no driver has them; `AccessDenied` about the node.
    pub fn create(node: Option<&str>) -> Result<Self> {
        let card = open(node)?;
        let object = card.create_syncobj(false).map_err(|error| failed("SYNCOBJ_CREATE", error))?;
        Ok(Self { card, object })
    }

    /// The one that another process exported; any node whose driver has timelines will do. Untrusted: what it does with
    /// the timeline shows when it is waited for.
    ///
    /// # Errors
    /// `InvalidArgument` for a descriptor of something else; as [`SyncTimeline::create`].
    pub fn import(fd: impl AsFd, node: Option<&str>) -> Result<Self> {
        let card = open(node)?;
        let object = card.fd_to_syncobj(fd.as_fd(), false).map_err(|error| match errno(&error) {
            libc::EINVAL | libc::EBADF => {
                Error::new(ErrorKind::InvalidArgument, "this descriptor is no timeline of DRM")
            }
            _ => failed("SYNCOBJ_FD_TO_HANDLE", error),
        })?;
        Ok(Self { card, object })
    }

    /// A descriptor by which another process, or a driver in this one, has it too.
    ///
    /// # Errors
    /// What the system reports.
    pub fn export(&self) -> Result<OwnedFd> {
        self.card.syncobj_to_fd(self.object, false).map_err(|error| failed("SYNCOBJ_HANDLE_TO_FD", error))
    }

    /// Says that all up to `value` is done, once what is to reach a lower value is.
    ///
    /// # Errors
    /// `InvalidArgument` if something reaches that value already: timelines never turn back.
    pub fn signal(&self, value: u64) -> Result<()> {
        self.is_ahead(value)?;
        let signaled = self.card.syncobj_timeline_signal(&[self.object], &[value]);
        signaled.map_err(|error| failed("SYNCOBJ_TIMELINE_SIGNAL", error))
    }

    /// Lets it reach `value` when this work of a device is done.
    ///
    /// # Errors
    /// As [`SyncTimeline::signal`].
    pub fn reach(&self, value: u64, work: &SyncFile) -> Result<()> {
        self.is_ahead(value)?;
        let point = Point::new(&self.card)?;
        point.take(work)?;
        let moved = self.card.syncobj_timeline_transfer(point.object, self.object, 0, value);
        moved.map_err(|error| failed("SYNCOBJ_TRANSFER", error))
    }

    /// What reaches `value`, for whoever knows no timelines: to attach it to a dma-buf ([`SyncFile::attach`]) or give it to a
    /// driver.
    ///
    /// # Errors
    /// `InvalidArgument` while nobody has said what will reach it.
    pub fn sync_file(&self, value: u64) -> Result<SyncFile> {
        let point = Point::new(&self.card)?;
        let moved = self.card.syncobj_timeline_transfer(self.object, point.object, value, 0);
        moved.map_err(|error| match errno(&error) {
            libc::EINVAL => Error::new(
                ErrorKind::InvalidArgument,
                format!("nobody has said yet what the timeline reaches {value} by; wait for it instead"),
            ),
            _ => failed("SYNCOBJ_TRANSFER", error),
        })?;
        let file = self.card.syncobj_to_fd(point.object, true);
        SyncFile::new(file.map_err(|error| failed("SYNCOBJ_HANDLE_TO_FD", error))?)
    }

    fn is_ahead(&self, value: u64) -> Result<()> {
        let stands = self.query(true)?;
        if value > stands {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("the timeline stands at {stands} and can't be set to {value}; give a greater value"),
        ))
    }

    /// The value it has reached, or the last one that something is to reach.
    fn query(&self, last_submitted: bool) -> Result<u64> {
        let mut points = [0];
        let asked = self.card.syncobj_timeline_query(&[self.object], &mut points, last_submitted);
        asked.map_err(|error| failed("SYNCOBJ_QUERY", error))?;
        Ok(points[0])
    }
}

/// An object for one piece of work, on its way between a timeline and a sync file.
struct Point<'card> {
    card: &'card Card,
    object: syncobj::Handle,
}

impl<'card> Point<'card> {
    fn new(card: &'card Card) -> Result<Self> {
        let object = card.create_syncobj(false).map_err(|error| failed("SYNCOBJ_CREATE", error))?;
        Ok(Self { card, object })
    }

    /// The crate `drm` can't: it leaves the object out that the kernel wants for this.
    fn take(&self, work: &SyncFile) -> Result<()> {
        let mut call = FdToHandle {
            handle: self.object.into(),
            flags: IMPORT_SYNC_FILE,
            fd: work.as_fd().as_raw_fd(),
            pad: 0,
        };
        // SAFETY: the kernel reads and writes this structure, whose size is in the call's number; it lives as long as the call.
        let taken = unsafe { syncobj_fd_to_handle(self.card.as_fd().as_raw_fd(), &raw mut call) };
        taken.map(drop).map_err(|errno| failed("SYNCOBJ_FD_TO_HANDLE", errno.into()))
    }
}

impl Drop for Point<'_> {
    fn drop(&mut self) {
        // It goes with the node's descriptor at the latest.
        let _ = self.card.destroy_syncobj(self.object);
    }
}

/// `struct drm_syncobj_handle`, as all kernels know it: what newer ones have behind it is 0.
#[repr(C)]
struct FdToHandle {
    handle: u32,
    flags: u32,
    fd: i32,
    pad: u32,
}

const IMPORT_SYNC_FILE: u32 = 1;

nix::ioctl_readwrite!(syncobj_fd_to_handle, b'd', 0xc2, FdToHandle);

impl Timeline for SyncTimeline {
    fn value(&self) -> Result<u64> {
        self.query(false)
    }

    fn wait(&self, value: u64, timeout: Option<Duration>) -> Result<()> {
        // Point 0 means something else to the kernel.
        if value == 0 {
            return Ok(());
        }
        let until = timeout.map_or(i64::MAX, |timeout| {
            let end = u128::from(monotonic_ns()) + timeout.as_nanos();
            i64::try_from(end).unwrap_or(i64::MAX)
        });
        loop {
            let waited = self.card.syncobj_timeline_wait(&[self.object], &[value], until, true, true, false);
            match waited.map_err(|error| (errno(&error), error)) {
                Ok(_) => return Ok(()),
                Err((libc::EINTR | libc::EAGAIN, _)) => {}
                Err((libc::ETIME, _)) => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        format!("the timeline did not reach {value} in the time allowed; wait longer"),
                    ));
                }
                Err((_, error)) => return Err(failed("SYNCOBJ_TIMELINE_WAIT", error)),
            }
        }
    }
}

impl Drop for SyncTimeline {
    fn drop(&mut self) {
        // The descriptor of the node goes with it, and would take the handle along.
        let _ = self.card.destroy_syncobj(self.object);
    }
}

fn failed(call: &str, error: io::Error) -> Error {
    Error::system(call, error)
}

/// The node of that name, or the first that has timelines: render nodes before cards, since they ask for less.
fn open(named: Option<&str>) -> Result<Card> {
    let unable = |cards: &str| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "no timelines of DRM: {cards} (SYNCOBJ_TIMELINE is 0); fences that lie on the dma-buf itself work with \
                 every driver, or let the host wait"
            ),
        )
    };
    let has = |card: &Card| card.can(DriverCapability::TimelineSyncObj);
    if named.is_some() {
        let card = Card::open(named, true)?;
        return if has(&card) { Ok(card) } else { Err(unable(&format!("{} has none", card.named()))) };
    }
    let mut nodes = nodes::nodes();
    nodes.sort_by_key(|node| !node.render);
    let (mut denied, mut without) = (None, Vec::new());
    for node in nodes {
        match Card::of(Node::clone(&node)) {
            Ok(card) if has(&card) => return Ok(card),
            Ok(card) => without.push(card.named()),
            Err(error) => denied = denied.or(Some(error)),
        }
    }
    match denied {
        Some(error) if without.is_empty() => Err(error),
        _ if without.is_empty() => Err(nodes::choose(None, true).err().unwrap_or_else(|| unable("no node"))),
        _ => Err(unable(&format!("none of {} has them", without.join(", ")))),
    }
}
