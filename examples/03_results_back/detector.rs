//! Finds the bright boxes in a camera's images, and publishes where they are: `results_detector NAME`

use std::env;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bips::{Consumer, DType, Description, Ending, Fence, Plane, Producer, ReceiveError, Shape, Wait};

const PATIENCE: Wait = Wait::For(Duration::from_secs(30));
/// Boxes of an image, each in a lane of its own.
const MOST: usize = 16;

/// x, y, width, height, score, class
type Box = [f32; 6];

/// What surrounds the bright pixels of each lane.
fn detect(bytes: &[u8], plane: &Plane) -> Vec<Box> {
    let lane = plane.width as usize / 3 / MOST;
    let mut boxes = Vec::new();
    for b in 0..MOST {
        let (mut left, mut top, mut right, mut bottom, mut bright) = (usize::MAX, usize::MAX, 0, 0, 0);
        for (y, row) in bytes[plane.offset as usize..].chunks(plane.stride as usize).enumerate() {
            for x in b * lane..(b + 1) * lane {
                if row[3 * x] <= 200 {
                    continue;
                }
                left = left.min(x);
                top = top.min(y);
                right = right.max(x);
                bottom = y;
                bright += 1;
            }
        }
        if bright == 0 {
            continue;
        }
        let (width, height) = (right - left + 1, bottom - top + 1);
        let score = bright as f32 / (width * height) as f32;
        boxes.push([left as f32, top as f32, width as f32, height as f32, score, b as f32]);
    }
    boxes
}

fn main() -> Result<()> {
    let name = env::args().nth(1).context("usage: results_detector NAME")?;
    let producer = Producer::builder(format!("{name}/boxes")).registry(bips_backends::registry());
    let producer = producer.tensor(DType::F32, &[MOST as u64, 6]).create()?;
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
        let boxes = detect(bytes, &frame.planes()[0]);
        if let Some([x, y, ..]) = boxes.first() {
            println!("frame {}: {} found, the first at {x}, {y}", frame.sequence(), boxes.len());
        }
        let mut result = producer.acquire(PATIENCE).map_err(|error| producer.explain(error))?;
        for (to, value) in result.bytes_mut().chunks_mut(4).zip(boxes.iter().flatten()) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        let of = frame.sequence().to_le_bytes();
        let description = Description::new().with_metadata(&of);
        let description = description.with_shape(Shape::new(&[boxes.len() as u64, 6])?);
        result.publish(description, Fence::Signaled)?;
        frames += 1;
    }
    ensure!(consumer.ending() == Some(Ending::Closed), "the camera died");
    println!("{frames} frames, then the camera closed the stream");
    Ok(())
}
