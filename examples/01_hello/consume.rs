//! Receives what produce sends, and checks it: `hello_consume NAME`

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bips::{Consumer, Ending, ReceiveError, Wait};

const PATIENCE: Wait = Wait::For(Duration::from_secs(30));

fn main() -> Result<()> {
    let name = env::args().nth(1).context("usage: hello_consume NAME")?;
    let consumer = Consumer::builder(name).registry(bips_backends::registry());
    let mut consumer = consumer.wait(PATIENCE).connect()?;

    let mut frames = 0;
    loop {
        let frame = match consumer.receive(Wait::Forever) {
            Ok(frame) => frame,
            Err(ReceiveError::Closed) => break,
            Err(error) => return Err(consumer.explain(error).into()),
        };
        let greeting = String::from_utf8_lossy(frame.metadata());
        ensure!(frame.sequence() == frames, "a frame is missing");
        ensure!(greeting == format!("hello {frames}"), "another greeting was sent");
        let mut bytes = [0; 4 * 16];
        frame.copy_to(0, &mut bytes);
        ensure!(bytes.iter().all(|byte| *byte == frames as u8), "other bytes were sent");
        let (sequence, dtype, shape) = (frame.sequence(), frame.dtype(), frame.shape());
        println!("frame {sequence}: {greeting}, {dtype} {}x{} of {}", shape[0], shape[1], bytes[0]);
        frames += 1;
    }
    ensure!(consumer.ending() == Some(Ending::Closed), "the producer died");
    println!("{frames} frames, then the producer closed the stream");
    Ok(())
}
