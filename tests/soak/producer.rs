//! The producer's role: publishes at a set rate, and answers what it is asked.

use crate::common::process::Stage;
use crate::common::{PATIENCE, fill, in_small_pages};
use crate::facts::Facts;
use crate::plan::{Reign, step_text};
use crate::role::{Words, number_of, on_stall, orphan};
use crate::{FRAME_EVERY, MAX_HELD, STREAM, frame_bytes, is_watched, slots};
use bips::{AcquireError, Description, Fence, Producer, Wait};
use std::time::{Duration, Instant};

/// It says how many it has published each time after so many.
const SAY_EVERY: u64 = 4;
/// So late it gives up catching up.
const LATE: Duration = Duration::from_millis(50);

pub(crate) fn produce(stage: &Stage) {
    let reign = Reign::decode(stage.number);
    if let Some(step) = reign.dies {
        bips::testing::die_at(step_text(step), 1).expect("a known step");
    }
    let bytes = frame_bytes(reign.generation);
    let builder = stage
        .producer(STREAM)
        .bytes(bytes)
        .slots(slots(reign.generation))
        .max_held(MAX_HELD)
        .on_stall(on_stall(reign.generation));
    let producer = if is_watched(reign.generation) {
        in_small_pages(builder)
    } else {
        builder.create().unwrap_or_else(|error| panic!("the name is not free: {error}"))
    };
    if reign.forks {
        orphan(Duration::from_secs(2));
    }
    stage.say("created");
    let words = Words::listen(stage);
    let mut published = 0;
    let mut due = Instant::now();
    let mut last = due;
    loop {
        match words.next() {
            Some(word) if word.is_empty() => break,
            Some(word) => obey(stage, &producer, &word),
            None => {}
        }
        let mut frame = match producer.acquire(Wait::For(Duration::from_millis(20))) {
            Ok(frame) => frame,
            Err(AcquireError::Closed) => break,
            Err(error) => {
                assert!(last.elapsed() < PATIENCE, "no slot comes back: {}", producer.explain(error));
                continue;
            }
        };
        let number = number_of(reign.generation, published);
        fill(&mut frame, number, bytes as usize);
        let metadata = number.to_le_bytes();
        let metadata: &[u8] = if published % 5 == 0 { &metadata } else { b"" };
        let sequence = frame
            .publish(Description::new().with_metadata(metadata), Fence::Signaled)
            .expect("the stream is open");
        assert_eq!(sequence, published);
        published += 1;
        if published % SAY_EVERY == 0 {
            stage.say(format!("n {published}"));
        }
        last = Instant::now();
        due = (due + FRAME_EVERY).max(last - LATE);
        std::thread::sleep(due.saturating_duration_since(last));
    }
    producer.close();
}

fn obey(stage: &Stage, producer: &Producer, word: &str) {
    match word.split(' ').collect::<Vec<_>>()[..] {
        ["facts"] => {
            let consumers = producer.stats().expect("our own").consumers.len();
            let free: Vec<_> = std::iter::from_fn(|| producer.acquire(Wait::Now).ok()).collect();
            let free = free.len();
            stage.say(format!("facts {consumers} {free} {}", Facts::now().encode()));
        }
        ["die", step, count] => {
            let (step, count) = (step.parse().expect("an index"), count.parse().expect("a number"));
            bips::testing::die_at(step_text(step), count).expect("a known step");
        }
        ["close"] => producer.close(),
        _ => panic!("unknown word {word:?}"),
    }
}
