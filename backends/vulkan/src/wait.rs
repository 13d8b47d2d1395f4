//! What a device waits for that bips knows and its driver doesn't: a timeline semaphore of its own, which a thread signals.
//!
//! Works on every driver that has timelines, whoever the peer is and whatever wrote the frame. It also keeps a peer from
//! holding the device up: one that dies or takes too long is waited for no more.

use crate::device::Device;
use crate::failure::failed;
use ash::vk;
use bips::{Error, ErrorKind, Fence, Result};
use std::fmt;
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long a device waits for another process. Longer than work takes; drivers call a device lost after some 2 to 10 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A semaphore for a submission to wait on ([`VkTimelineSemaphoreSubmitInfo`]) at its [`WaitSemaphore::value`]. Keep it until
/// the work that waits is over.
///
/// [`VkTimelineSemaphoreSubmitInfo`]: https://registry.khronos.org/vulkan/specs/latest/man/html/VkTimelineSemaphoreSubmitInfo.html
#[derive(Debug, Clone)]
pub struct WaitSemaphore(Arc<Gate>);

struct Gate {
    device: Arc<Device>,
    at: Point,
    /// Written before the semaphore is signalled.
    trouble: OnceLock<(ErrorKind, String)>,
}

/// A value of a timeline semaphore. They are used again and again, each time for a value higher by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) semaphore: vk::Semaphore,
    value: u64,
}

impl Device {
    /// Whether the device itself can wait for fences of bips. Else [`Device::submit_after`] does before it submits.
    pub fn has_timelines(&self) -> bool {
        self.timelines.is_some()
    }

    /// A semaphore that is signalled when the work behind `fence` is done, for a submission of your own. It is signalled
    /// too when the work failed, when the process that did it died, and after 10 s, so that the device goes on: what it
    /// reads then is no frame, which [`WaitSemaphore::check`] tells once it is done.
    ///
    /// # Errors
    /// What the fence has to report by now; `Unsupported` where the driver has no timelines; `OutOfMemory`; `Forked`.
    pub fn wait_semaphore(self: &Arc<Self>, fence: Fence) -> Result<WaitSemaphore> {
        self.check()?;
        fence.wait_for(Duration::ZERO)?;
        if !self.has_timelines() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} has no timeline semaphores; wait for the fence before you submit", self.adapter),
            ));
        }
        self.semaphore_after(fence)
    }

    /// The same where there are timelines, for a fence that was open just now.
    pub(crate) fn semaphore_after(self: &Arc<Self>, fence: Fence) -> Result<WaitSemaphore> {
        let gate = Arc::new(Gate { device: self.clone(), at: self.point()?, trouble: OnceLock::new() });
        let theirs = gate.clone();
        fence.then_within(PATIENCE, move |done| theirs.open(done));
        Ok(WaitSemaphore(gate))
    }

    /// One that nobody waits for.
    fn point(&self) -> Result<Point> {
        if let Some(point) = self.points().pop() {
            return Ok(point);
        }
        let mut timeline = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
        let wanted = vk::SemaphoreCreateInfo::default().push_next(&mut timeline);
        // SAFETY: the feature is enabled (callers look); the chain lives as long as the call.
        let semaphore = unsafe { self.raw.create_semaphore(&wanted, None) }
            .map_err(|result| failed("vkCreateSemaphore", result))?;
        Ok(Point { semaphore, value: 1 })
    }

    pub(crate) fn points(&self) -> MutexGuard<'_, Vec<Point>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn open(&self, done: Result<()>) {
        if let Err(error) = done {
            let _ = self.trouble.set((error.kind(), error.to_string())); // the first time
        }
        let Some(timelines) = self.device.timelines.as_ref().filter(|_| self.device.is_ours()) else {
            return;
        };
        let signal = vk::SemaphoreSignalInfo::default().semaphore(self.at.semaphore).value(self.at.value);
        // SAFETY: the semaphore lives, stands at the value before, and this is the one signal of this one.
        if let Err(result) = unsafe { timelines.signal_semaphore(&signal) } {
            tracing::error!(%result, "a device is waiting for what can't be signalled");
        }
    }
}

impl WaitSemaphore {
    /// The semaphore.
    pub fn semaphore(&self) -> vk::Semaphore {
        self.0.at.semaphore
    }

    /// At which value the work is done.
    pub fn value(&self) -> u64 {
        self.0.at.value
    }

    /// Whether the work was done when the semaphore was signalled. Ask once what waits for it is over.
    ///
    /// # Errors
    /// `Lost` where the work failed or its process died, `Timeout` where it took too long: what waited has read no frame.
    pub fn check(&self) -> Result<()> {
        match self.0.trouble.get() {
            None => Ok(()),
            Some((kind, text)) => Err(Error::new(*kind, format!("the device waited in vain: {text}"))),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?})", self.device)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Signalled by now, and nobody waits: who does keeps this. In a forked child it is the parent's.
        if self.device.is_ours() {
            self.device.points().push(Point { value: self.at.value + 1, ..self.at });
        }
    }
}
