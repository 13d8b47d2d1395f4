//! Publishes a few small tensors, each with a greeting beside it: `hello_produce NAME [FRAMES]`

use std::env;
use std::time::Duration;

use anyhow::{Context, Result};
use bips::{DType, Description, Fence, Producer, Wait};

const PATIENCE: Wait = Wait::For(Duration::from_secs(30));

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().context("usage: hello_produce NAME [FRAMES]")?;
    let frames: u64 = arguments.next().map_or(Ok(5), |frames| frames.parse())?;

    let producer = Producer::builder(name).registry(bips_backends::registry());
    let producer = producer.tensor(DType::U8, &[4, 16]).create()?;
    producer.wait_for_consumers(1, PATIENCE)?;

    for i in 0..frames {
        let mut frame = producer.acquire(PATIENCE).map_err(|error| producer.explain(error))?;
        frame.bytes_mut()[..4 * 16].fill(i as u8);
        let greeting = format!("hello {i}");
        let description = Description::new().with_metadata(greeting.as_bytes());
        let sequence = frame.publish(description, Fence::Signaled)?;
        println!("frame {sequence}: {greeting}");
    }
    Ok(())
}
