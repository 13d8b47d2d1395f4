//! What came of a capture: counted, told on the way, and summed up.

use std::time::{Duration, Instant};

use bips::{BackendInfo, ProducerStats};
use serde_json::json;

use super::stream::{Camera, Stream};
use crate::exit::{Failure, Outcome};
use crate::output;

pub(super) struct Tally {
    name: String,
    json: bool,
    pub(super) published: u64,
    /// Frames the driver had no buffer for, or lost: its numbers have gaps.
    pub(super) dropped: u64,
    /// Frames the driver itself called broken.
    pub(super) broken: u64,
    /// Bytes published.
    pub(super) bytes: u64,
    last: Option<u32>,
    first_at: Option<Instant>,
    last_at: Option<Instant>,
    pools: u64,
    evicted: u64,
    expelled: u64,
    pool_bytes: u64,
    consumers: usize,
    memory: String,
    way: &'static str,
    mode: (String, u32, u32),
}

impl Tally {
    pub(super) fn new(name: &str, json: bool) -> Self {
        Self {
            name: name.to_owned(),
            json,
            published: 0,
            dropped: 0,
            broken: 0,
            bytes: 0,
            last: None,
            first_at: None,
            last_at: None,
            pools: 0,
            evicted: 0,
            expelled: 0,
            pool_bytes: 0,
            consumers: 0,
            memory: String::new(),
            way: "",
            mode: (String::new(), 0, 0),
        }
    }

    /// A line for people; JSON has a summary alone.
    pub(super) fn say(&self, text: &str) -> Outcome {
        if self.json { Ok(()) } else { output::line(text) }
    }

    /// A camera has been brought into a mode, and begins to count anew.
    pub(super) fn begins(&mut self, camera: &Camera, stream: &Stream) -> Outcome {
        self.last = None;
        let mode = &camera.mode;
        self.mode = (mode.code.to_string(), mode.width, mode.height);
        self.way = stream.way();
        let fps =
            camera.fps.map_or_else(String::new, |fps| format!(" at {} fps", (fps * 100.0).round() / 100.0));
        self.say(&format!(
            "{}: {} ({}), {}x{} {}{fps}, into {} slots of {} as {}",
            self.name,
            camera.device.card(),
            camera.device.path().display(),
            mode.width,
            mode.height,
            mode.code,
            stream.producer.slots(),
            stream.producer.backend().kind,
            self.way
        ))
    }

    /// A frame of this number came.
    pub(super) fn came(&mut self, number: u32) {
        let now = Instant::now();
        self.first_at.get_or_insert(now);
        self.last_at = Some(now);
        self.dropped += u64::from(missing(self.last, number));
        self.last = Some(number);
    }

    /// A pool has ended.
    pub(super) fn ends(&mut self, stats: &ProducerStats, backend: &BackendInfo) {
        self.pools += 1;
        self.evicted += stats.evicted;
        self.expelled += stats.expelled;
        self.pool_bytes = stats.pool_bytes;
        self.consumers = stats.consumers.len();
        self.memory.clone_from(&backend.kind);
    }

    /// The summary, and whether all that was asked for came.
    pub(super) fn tell(&self, count: u64) -> Outcome {
        let elapsed = match (self.first_at, self.last_at) {
            (Some(first), Some(last)) => last - first,
            _ => Duration::ZERO,
        };
        let seconds = elapsed.as_secs_f64();
        let fps =
            if self.published > 1 && seconds > 0.0 { (self.published - 1) as f64 / seconds } else { 0.0 };
        let (format, width, height) = &self.mode;
        if self.json {
            output::json(&json!({
                "stream": self.name,
                "memory": self.memory,
                "way": self.way,
                "format": format,
                "width": width,
                "height": height,
                "frames": self.published,
                "dropped": self.dropped,
                "broken": self.broken,
                "pools": self.pools,
                "seconds": seconds,
                "fps": fps,
                "bytes": self.bytes,
                "pool_bytes": self.pool_bytes,
                "consumers": self.consumers,
                "evicted": self.evicted,
                "expelled": self.expelled,
            }))?;
        } else {
            output::line(format!(
                "{} frames in {seconds:.2} s ({fps:.1} fps), {} dropped by the camera, {} broken, {} handed over from a pool of {} in {}",
                self.published,
                self.dropped,
                self.broken,
                output::bytes(self.bytes),
                output::bytes(self.pool_bytes),
                self.memory
            ))?;
        }
        if count > 0 && self.published < count {
            return Err(Failure::failed(format!(
                "ended by a signal after {} of {count} frames",
                self.published
            )));
        }
        Ok(())
    }
}

/// Numbers left out between two frames. They wrap around; one that goes back is a camera that counts anew.
fn missing(last: Option<u32>, number: u32) -> u32 {
    match last.map(|last| number.wrapping_sub(last)) {
        Some(step @ 1..=0x7fff_ffff) => step - 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn gaps_in_the_cameras_numbers_are_frames_it_dropped() {
        assert_eq!(missing(None, 7), 0);
        assert_eq!(missing(Some(7), 8), 0);
        assert_eq!(missing(Some(7), 10), 2);
        assert_eq!(missing(Some(u32::MAX), 1), 1);
        assert_eq!(missing(Some(100), 0), 0);
        assert_eq!(missing(Some(5), 5), 0);
    }
}
