//! Buffers that circulate between a driver and us.

use crate::abi::{self, Zeros};
use crate::device::gone;
use crate::sys::{self, Described};
use crate::{Device, Place, Target, Way};
use bips::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// A camera that captures into what it is given.
///
/// It owns what the driver has; whatever ends it, the driver stops before that is dropped.
#[derive(Debug)]
pub struct Queue<T: Target> {
    // Dropped first: closing a device makes its driver let go of all buffers.
    device: Option<Device>,
    way: Way,
    planes: usize,
    held: Vec<Option<T>>,
    queued: usize,
}

/// A buffer the driver is done with.
#[derive(Debug)]
pub struct Filled<T> {
    /// What was queued.
    pub target: T,
    /// The driver's number of the frame; what it dropped is missing in between.
    pub sequence: u32,
    /// When it was captured, in ns of `CLOCK_MONOTONIC`, if the driver keeps that clock.
    pub timestamp: Option<u64>,
    /// Bytes of the frame, summed over planes.
    pub bytes_used: u64,
    /// The driver says that the frame is broken.
    pub error: bool,
}

/// What came.
#[derive(Debug)]
pub enum Next<T> {
    /// A frame.
    Frame(Filled<T>),
    /// The source has another size now: stop, and begin anew.
    Changed,
    /// Nothing in time.
    Nothing,
}

/// How a camera's driver takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// By address.
    pub user_ptr: bool,
    /// As dma-bufs.
    pub dma_buf: bool,
    /// Not at all: it makes its own, which it lends.
    pub own: bool,
}

impl Ways {
    /// Whether this is one of them.
    pub fn has(self, way: Way) -> bool {
        match way {
            Way::UserPtr => self.user_ptr,
            Way::DmaBuf => self.dma_buf,
            Way::Own => self.own,
        }
    }
}

impl Device {
    /// How the driver takes memory, found by asking for buffers.
    ///
    /// # Errors
    /// `System` (busy) where another program captures.
    pub fn ways(&self) -> Result<Ways> {
        let told = self.request(abi::MEMORY_MMAP, 0).or_else(|errno| match errno {
            Errno::EINVAL => Ok((0, 0)),
            other => Err(self.failed("asking for buffers", other)),
        })?;
        let can = told.1;
        if can & (abi::BUF_CAP_MMAP | abi::BUF_CAP_USERPTR | abi::BUF_CAP_DMABUF) != 0 {
            return Ok(Ways {
                user_ptr: can & abi::BUF_CAP_USERPTR != 0,
                dma_buf: can & abi::BUF_CAP_DMABUF != 0,
                own: can & abi::BUF_CAP_MMAP != 0,
            });
        }
        // Linux before 4.20 doesn't tell; then it is tried.
        let tried = |memory| self.request(memory, 1).is_ok() && self.request(memory, 0).is_ok();
        Ok(Ways {
            user_ptr: tried(abi::MEMORY_USERPTR),
            dma_buf: tried(abi::MEMORY_DMABUF),
            own: tried(abi::MEMORY_MMAP),
        })
    }

    /// The number of buffers granted, and what the driver says it can do.
    pub(crate) fn request(&self, memory: u32, count: u32) -> nix::Result<(u32, u32)> {
        // Whatever it made before it makes anew, or forgets.
        self.lent().clear();
        let mut request =
            abi::RequestBuffers { count, kind: self.kind, memory, ..abi::RequestBuffers::zeros() };
        sys::request_buffers(&self.file, &mut request)?;
        Ok((request.count, request.capabilities))
    }
}

impl<T: Target> Queue<T> {
    /// Prepares `buffers` buffers of as many planes of memory as the mode has.
    ///
    /// # Errors
    /// `Unsupported` where the driver doesn't take memory this way, or not so many buffers; `System` (busy).
    pub fn new(device: Device, way: Way, planes: usize, buffers: u32) -> Result<Self> {
        let memory = memory(way);
        if way == Way::Own {
            return Self::of_lent(device, planes, buffers);
        }
        let request = |count| {
            device.request(memory, count).map_err(|errno| match errno {
                Errno::EINVAL => Error::new(
                    ErrorKind::Unsupported,
                    format!("the driver of {} does not take {}", device.path().display(), words(way)),
                ),
                other => device.failed("asking for buffers", other),
            })
        };
        let (granted, _) = request(buffers)?;
        if granted != buffers {
            return Err(device.another_number(granted, buffers));
        }
        Ok(Self::over(device, way, planes, buffers))
    }

    /// The buffers are there already.
    fn of_lent(device: Device, planes: usize, buffers: u32) -> Result<Self> {
        let lent = device.lent().len();
        if lent == 0 || lent != buffers as usize {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{} has lent {lent} buffers, not {buffers}; lend them just before",
                    device.path().display()
                ),
            ));
        }
        Ok(Self::over(device, Way::Own, planes, buffers))
    }

    fn over(device: Device, way: Way, planes: usize, buffers: u32) -> Self {
        let held = (0..buffers).map(|_| None).collect();
        Self { device: Some(device), way, planes: planes.min(abi::MAX_PLANES), held, queued: 0 }
    }

    fn device(&self) -> &Device {
        self.device.as_ref().expect("taken only by `stop`, which ends this")
    }

    /// Buffers that the driver has.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Gives the driver something to write to, as the buffer of this index.
    ///
    /// # Errors
    /// `Unsupported` where the driver can't use this memory, with what it could use. What was to be queued is dropped.
    pub fn queue(&mut self, index: u32, target: T) -> Result<()> {
        let memory = memory(self.way);
        let device = self.device();
        let invalid = |what: &str| Error::new(ErrorKind::InvalidArgument, format!("buffer {index} {what}"));
        let free = self.held.get(index as usize).is_some_and(Option::is_none);
        if !free {
            return Err(invalid("is none of those that are free"));
        }
        let mut described = Described::new(device.kind, memory);
        described.buffer.index = index;
        for (i, plane) in described.planes[..self.planes].iter_mut().enumerate() {
            match (target.place(i), self.way) {
                (Some(Place::Memory { start, len }), Way::UserPtr) => {
                    (plane.at.userptr, plane.length) = (start.as_ptr().expose_provenance() as u64, len);
                }
                (Some(Place::DmaBuf { fd, len }), Way::DmaBuf) => {
                    (plane.at.fd, plane.length) = (fd.as_raw_fd(), len);
                }
                // The driver is told the index alone: what it means by that must be what the target is.
                (Some(Place::Own { inode }), Way::Own) => {
                    if device.lent().get(index as usize) != Some(&inode) {
                        return Err(invalid(
                            "is to be another than the driver's of that index; adopt its buffers in their order",
                        ));
                    }
                }
                _ => return Err(invalid("has memory of another kind than was said, or too few planes")),
            }
        }
        if device.kind == abi::CAPTURE {
            (described.buffer.at, described.buffer.length) =
                (described.planes[0].at, described.planes[0].length);
        } else {
            described.buffer.length = self.planes as u32;
        }
        // SAFETY: a target's memory is its own (contract), and `held` keeps it until the driver gives the buffer back,
        // or has stopped.
        #[allow(unsafe_code, reason = "the one place where memory is given away")]
        let queued = unsafe { sys::queue(&device.file, &mut described) };
        queued.map_err(|errno| self.refused(errno))?;
        self.held[index as usize] = Some(target);
        self.queued += 1;
        Ok(())
    }

    fn refused(&self, errno: Errno) -> Error {
        let device = self.device();
        let at = device.path().display();
        match (errno, self.way) {
            (Errno::EFAULT | Errno::ENOMEM, Way::DmaBuf) => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the camera at {at} can't use these dma-bufs ({errno}): it most likely needs memory in one piece; {}",
                    crate::heaps::advice()
                ),
            ),
            (Errno::EFAULT | Errno::EINVAL, Way::UserPtr) => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the camera at {at} can't write to this process's memory ({errno}): it most likely needs memory in one \
                     piece; {}",
                    crate::heaps::advice()
                ),
            ),
            (Errno::EINVAL, Way::DmaBuf) => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the camera at {at} refuses these dma-bufs ({errno}): they are too small, or no dma-bufs at all"
                ),
            ),
            _ => device.failed("queueing a buffer", errno),
        }
    }

    /// Lets frames come.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn start(&mut self) -> Result<()> {
        let device = self.device();
        // Cameras that never change refuse it, and nothing is lost.
        for id in [device.input(), 0] {
            let change =
                abi::Subscription { kind: abi::EVENT_SOURCE_CHANGE, id, ..abi::Subscription::zeros() };
            let _ = sys::subscribe(&device.file, &change);
        }
        sys::stream_on(&device.file, device.kind).map_err(|errno| match errno {
            Errno::EPIPE | Errno::ENOLINK => device
                .failed("starting the stream", errno)
                .hint("the parts of the camera are not connected; set up its pipeline with media-ctl first"),
            other => device.failed("starting the stream", other),
        })?;
        Ok(())
    }

    /// Waits for a frame, or for news.
    ///
    /// # Errors
    /// `Closed` when the camera is gone; what the driver reports.
    pub fn next(&mut self, wait: Duration) -> Result<Next<T>> {
        let device = self.device();
        let frames = if self.queued > 0 { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(device.file.as_fd(), frames | PollFlags::POLLPRI)];
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(device.failed("waiting for a frame", errno)),
        }
        let ready = fds[0].revents().unwrap_or(PollFlags::empty());
        if ready.contains(PollFlags::POLLPRI) && self.source_changed()? {
            return Ok(Next::Changed);
        }
        if self.queued == 0 {
            return self.look_after_driver().map(|()| Next::Nothing);
        }
        let broken = ready.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
        if !broken && !ready.contains(PollFlags::POLLIN) {
            return Ok(Next::Nothing);
        }
        match self.dequeue()? {
            Some(filled) => Ok(Next::Frame(filled)),
            None if broken && ready.contains(PollFlags::POLLHUP) => Err(gone(self.device().path())),
            None if broken => Err(Error::new(
                ErrorKind::System,
                format!("the driver of {} has stopped by itself; start anew", self.device().path().display()),
            )),
            None => Ok(Next::Nothing),
        }
    }

    /// Whether it still works while it has no buffers. Polling for frames would call just that an error.
    fn look_after_driver(&self) -> Result<()> {
        let device = self.device();
        let mut none = Described::new(device.kind, memory(self.way));
        match sys::dequeue(&device.file, &mut none) {
            Err(errno @ (Errno::EIO | Errno::ENODEV)) => Err(device.failed("taking a frame", errno)),
            _ => Ok(()),
        }
    }

    fn source_changed(&self) -> Result<bool> {
        let mut changed = false;
        loop {
            let mut event = abi::Event::zeros();
            match sys::take_event(&self.device().file, &mut event) {
                Ok(()) => changed |= event.kind == abi::EVENT_SOURCE_CHANGE,
                Err(Errno::ENOENT | Errno::EAGAIN) => return Ok(changed),
                Err(errno) => return Err(self.device().failed("asking for events", errno)),
            }
        }
    }

    fn dequeue(&mut self) -> Result<Option<Filled<T>>> {
        let device = self.device();
        let mut described = Described::new(device.kind, memory(self.way));
        match sys::dequeue(&device.file, &mut described) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(device.failed("taking a frame", errno)),
        }
        let buffer = described.buffer;
        let target = self.held.get_mut(buffer.index as usize).and_then(Option::take).ok_or_else(|| {
            Error::new(
                ErrorKind::System,
                format!("the driver gave back buffer {}, which it did not have", buffer.index),
            )
        })?;
        self.queued -= 1;
        let multi = self.device().kind == abi::CAPTURE_MPLANE;
        let planes = &described.planes[..self.planes];
        if let Some(plane) = planes.iter().find(|plane| multi && plane.data_offset != 0) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the driver of {} writes {} bytes of its own before the picture, which bips can't describe; use another \
                     --format",
                    self.device().path().display(),
                    plane.data_offset
                ),
            ));
        }
        let bytes_used = match multi {
            true => planes.iter().map(|plane| u64::from(plane.bytesused)).sum(),
            false => buffer.bytesused.into(),
        };
        let monotonic = buffer.flags & abi::BUF_FLAG_TIMESTAMP_MASK == abi::BUF_FLAG_TIMESTAMP_MONOTONIC;
        let time = || {
            let seconds = u64::try_from(buffer.seconds).ok()?;
            let micro = u64::try_from(buffer.microseconds).ok()?;
            seconds.checked_mul(1_000_000_000)?.checked_add(micro.checked_mul(1000)?)
        };
        // An empty buffer at the end of all is no frame.
        let empty = buffer.flags & abi::BUF_FLAG_LAST != 0 && bytes_used == 0;
        Ok(Some(Filled {
            target,
            sequence: buffer.sequence,
            timestamp: if monotonic { time() } else { None },
            bytes_used,
            error: empty || buffer.flags & abi::BUF_FLAG_ERROR != 0,
        }))
    }

    /// Takes back what the driver has, and the camera.
    ///
    /// # Errors
    /// What the driver reports; then the camera is closed.
    pub fn stop(mut self) -> Result<Device> {
        let device = self.device();
        sys::stream_off(&device.file, device.kind)
            .map_err(|errno| device.failed("stopping the stream", errno))?;
        let _ = device.request(memory(self.way), 0);
        Ok(self.device.take().expect("taken only here"))
    }
}

impl<T: Target> Drop for Queue<T> {
    fn drop(&mut self) {
        // If it fails, the driver is gone, or lets go when the device is closed, which comes next.
        if let Some(device) = self.device.take() {
            let _ = sys::stream_off(&device.file, device.kind);
        }
    }
}

fn memory(way: Way) -> u32 {
    match way {
        Way::UserPtr => abi::MEMORY_USERPTR,
        Way::DmaBuf => abi::MEMORY_DMABUF,
        Way::Own => abi::MEMORY_MMAP,
    }
}

fn words(way: Way) -> &'static str {
    match way {
        Way::UserPtr => "memory by its address (V4L2_MEMORY_USERPTR), which memfd needs",
        Way::DmaBuf => "dma-bufs (V4L2_MEMORY_DMABUF)",
        Way::Own => "to make buffers of its own (V4L2_MEMORY_MMAP)",
    }
}
