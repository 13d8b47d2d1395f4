//! Takes a camera's images in place and checks them: `tensor_checksum NAME`

mod pixels;

use std::env;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bips::{Consumer, Ending, ReceiveError, Wait};

use crate::pixels::{checksum, place};

const PATIENCE: Wait = Wait::For(Duration::from_secs(30));

fn main() -> Result<()> {
    let name = env::args().nth(1).context("usage: tensor_checksum NAME")?;
    let consumer = Consumer::builder(name).registry(bips_backends::registry());
    let mut consumer = consumer.wait(PATIENCE).connect()?;

    let mut frames = 0;
    loop {
        let frame = match consumer.receive(Wait::Forever) {
            Ok(frame) => frame,
            Err(ReceiveError::Closed) => break,
            Err(error) => return Err(consumer.explain(error).into()),
        };
        // SAFETY: as many bytes are mapped while the frame lives; the camera doesn't write to what it has published.
        let bytes = unsafe { slice::from_raw_parts(frame.as_ptr(), frame.nbytes()) };
        let sum = checksum(bytes, &frame.planes()[0]);
        let sent = frame.metadata().try_into().context("there is no checksum beside the image")?;
        ensure!(sum == u64::from_le_bytes(sent), "the checksum is not the camera's");
        let at = place(bytes);
        ensure!(!at.starts_with("private"), "the image was copied");
        let (sequence, range) = (frame.sequence(), bytes.as_ptr_range());
        println!("frame {sequence}: checksum {sum}, {at}, at {:?}-{:?}", range.start, range.end);
        frames += 1;
    }
    ensure!(consumer.ending() == Some(Ending::Closed), "the camera died");
    println!("{frames} frames, all as the camera drew them");
    Ok(())
}
