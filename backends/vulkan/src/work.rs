//! Work that a device has been given.

use crate::device::Device;
use crate::failure::failed;
use crate::wait::{PATIENCE, WaitSemaphore};
use ash::vk;
use bips::{Error, ErrorKind, Fence, Result, Timeline};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Commands under way. As a timeline it stands at 1 when they are done. Ends when they are: dropping it waits for them.
pub struct Work {
    device: Arc<Device>,
    pool: vk::CommandPool,
    fence: vk::Fence,
    /// What the device waits for first.
    after: Vec<WaitSemaphore>,
    /// Whether the device was given anything.
    begun: bool,
}

impl Device {
    /// Has the device's queue do what `record` records, and doesn't wait for it. Before its first command all that the CPU
    /// wrote is seen, and after its last one what the commands wrote is seen by the CPU.
    ///
    /// What `record` names must live until the work is done.
    ///
    /// # Errors
    /// `OutOfMemory`; `Lost` when the device stopped; `Forked`.
    pub fn submit(self: &Arc<Self>, record: impl FnOnce(&ash::Device, vk::CommandBuffer)) -> Result<Work> {
        self.submit_after([], record)
    }

    /// The same, and the device begins once the work behind these fences is done: that of a frame's
    /// [`ready`](bips::Frame::ready), another device's. Without timelines in the driver this thread waits for it.
    ///
    /// # Errors
    /// As [`Device::submit`]; what a fence has to report by now. What it reports later (`Lost`, `Timeout`) the work
    /// does: see [`Device::wait_semaphore`].
    pub fn submit_after(
        self: &Arc<Self>,
        fences: impl IntoIterator<Item = Fence>,
        record: impl FnOnce(&ash::Device, vk::CommandBuffer),
    ) -> Result<Work> {
        self.check()?;
        let mut work = Work {
            device: self.clone(),
            pool: vk::CommandPool::null(),
            fence: vk::Fence::null(),
            after: Vec::new(),
            begun: false,
        };
        for fence in fences {
            if fence.wait_for(Duration::ZERO)? {
                continue;
            }
            if self.has_timelines() {
                work.after.push(self.semaphore_after(fence)?);
            } else if !fence.wait_for(PATIENCE)? {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("what the device is to begin after was not done within {PATIENCE:?}"),
                ));
            }
        }
        let raw = &self.raw;
        let family = vk::CommandPoolCreateInfo::default().queue_family_index(self.queue_family());
        // SAFETY: a family that the device was opened with; `work` ends it, as the fence.
        work.pool = unsafe { raw.create_command_pool(&family, None) }
            .map_err(|result| failed("vkCreateCommandPool", result))?;
        // SAFETY: no chain.
        work.fence = unsafe { raw.create_fence(&vk::FenceCreateInfo::default(), None) }
            .map_err(|result| failed("vkCreateFence", result))?;
        let wanted = vk::CommandBufferAllocateInfo::default().command_pool(work.pool).command_buffer_count(1);
        // SAFETY: the pool was just made, and nobody else has it.
        let commands = unsafe { raw.allocate_command_buffers(&wanted) }
            .map_err(|result| failed("vkAllocateCommandBuffers", result))?;
        let once = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: a new command buffer.
        unsafe { raw.begin_command_buffer(commands[0], &once) }
            .map_err(|result| failed("vkBeginCommandBuffer", result))?;
        record(raw, commands[0]);
        self.show_to_the_cpu(commands[0]);
        // SAFETY: it was begun above.
        unsafe { raw.end_command_buffer(commands[0]) }
            .map_err(|result| failed("vkEndCommandBuffer", result))?;
        let semaphores: Vec<_> = work.after.iter().map(WaitSemaphore::semaphore).collect();
        let values: Vec<_> = work.after.iter().map(WaitSemaphore::value).collect();
        let stages = vec![vk::PipelineStageFlags::ALL_COMMANDS; semaphores.len()];
        let mut at = vk::TimelineSemaphoreSubmitInfo::default().wait_semaphore_values(&values);
        let mut submit = vk::SubmitInfo::default()
            .command_buffers(&commands)
            .wait_semaphores(&semaphores)
            .wait_dst_stage_mask(&stages);
        if !semaphores.is_empty() {
            submit = submit.push_next(&mut at);
        }
        let queue = self.queue();
        // SAFETY: the queue is ours while locked; the commands and semaphores live until `work` has waited for the fence.
        unsafe { raw.queue_submit(*queue, &[submit], work.fence) }
            .map_err(|result| failed("vkQueueSubmit", result))?;
        drop(queue);
        work.begun = true;
        Ok(work)
    }

    fn show_to_the_cpu(&self, commands: vk::CommandBuffer) {
        let barrier = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(vk::AccessFlags::HOST_READ)];
        let (all, host) = (vk::PipelineStageFlags::ALL_COMMANDS, vk::PipelineStageFlags::HOST);
        // SAFETY: the commands are being recorded.
        unsafe {
            self.raw.cmd_pipeline_barrier(
                commands,
                all,
                host,
                vk::DependencyFlags::empty(),
                &barrier,
                &[],
                &[],
            );
        };
    }
}

impl Work {
    fn wait_ns(&self, timeout: u64) -> Result<bool> {
        self.device.check()?;
        // SAFETY: the fence lives as long as this, and its work was submitted.
        match unsafe { self.device.raw.wait_for_fences(&[self.fence], true, timeout) } {
            // What it waited for may have failed: then it was not whole what it read.
            Ok(()) => self.after.iter().try_for_each(WaitSemaphore::check).map(|()| true),
            Err(vk::Result::TIMEOUT) => Ok(false),
            Err(result) => Err(failed("vkWaitForFences", result)),
        }
    }
}

impl Timeline for Work {
    fn value(&self) -> Result<u64> {
        self.wait_ns(0).map(u64::from)
    }

    fn wait(&self, value: u64, timeout: Option<Duration>) -> Result<()> {
        let late = |text: &str| Err(Error::new(ErrorKind::Timeout, text));
        if value == 0 {
            return Ok(());
        }
        let timeout = timeout.map_or(u64::MAX, |timeout| timeout.as_nanos().try_into().unwrap_or(u64::MAX));
        match self.wait_ns(timeout)? {
            true if value == 1 => Ok(()),
            true => late("work is done at 1, and nothing comes after"),
            false => late("the device is still at work"),
        }
    }
}

impl From<Work> for Fence {
    fn from(work: Work) -> Self {
        Self::Timeline(Arc::new(work), 1)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        if !self.device.is_ours() {
            return;
        }
        if self.begun
            && let Err(error) = self.wait_ns(u64::MAX)
        {
            // A device that was lost does nothing any more.
            tracing::warn!(%error, "waiting for a device's work");
        }
        // SAFETY: the work is over, or never began; null is nothing.
        unsafe { self.device.raw.destroy_fence(self.fence, None) };
        // SAFETY: likewise, for the pool and its commands.
        unsafe { self.device.raw.destroy_command_pool(self.pool, None) };
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({:?})", self.device)
    }
}
