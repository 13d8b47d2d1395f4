//! Publishes images with bright boxes, and checks what a detector says of each:
//! `results_camera NAME [FRAMES [WIDTH HEIGHT]]`

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bips::{Consumer, Description, Fence, Fourcc, Plane, Producer, Wait};

const PATIENCE: Wait = Wait::For(Duration::from_secs(30));
/// Boxes of an image, each in a lane of its own.
const MOST: u32 = 16;

/// x, y, width, height, score, class
type Box = [f32; 6];

/// Which boxes image `i` has.
fn choose(i: u32, width: u32, height: u32) -> Vec<Box> {
    let (lane, count) = (width / MOST, 1 + i % MOST);
    let one = |b| {
        let (x, y) = (b * lane + i % (lane / 2), (7 * i + 11 * b) % (height - lane));
        [x as f32, y as f32, (lane / 2) as f32, lane as f32, 1.0, b as f32]
    };
    (0..count).map(one).collect()
}

fn draw(bytes: &mut [u8], plane: &Plane, boxes: &[Box]) {
    let mut rows: Vec<_> = bytes[plane.offset as usize..].chunks_mut(plane.stride as usize).collect();
    for row in &mut rows {
        row[..plane.width as usize].fill(16);
    }
    for [x, y, width, height, ..] in boxes {
        let (x, y, width, height) = (*x as usize, *y as usize, *width as usize, *height as usize);
        for row in &mut rows[y..y + height] {
            row[3 * x..3 * (x + width)].fill(240);
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().context("usage: results_camera NAME [FRAMES [WIDTH HEIGHT]]")?;
    let frames = arguments.next().map_or(Ok(20), |frames| frames.parse())?;
    let width = arguments.next().map_or(Ok(640), |width| width.parse())?;
    let height = arguments.next().map_or(Ok(480), |height| height.parse())?;
    ensure!(width >= 2 * MOST && height > width / MOST, "the image is too small for its boxes");

    let producer = Producer::builder(&name).registry(bips_backends::registry());
    let producer = producer.image(Fourcc::parse("RGB3")?, width, height).create()?;
    let content = producer.content();
    let consumer = Consumer::builder(format!("{name}/boxes")).registry(bips_backends::registry());
    let mut consumer = consumer.wait(PATIENCE).connect()?;
    producer.wait_for_consumers(1, PATIENCE)?;

    for i in 0..frames {
        let mut frame = producer.acquire(PATIENCE).map_err(|error| producer.explain(error))?;
        let drawn = choose(i, width, height);
        draw(&mut frame.bytes_mut()[..content.nbytes() as usize], &content.planes()[0], &drawn);
        let sequence = frame.publish(Description::new(), Fence::Signaled)?;

        let result = consumer.receive(PATIENCE).map_err(|error| consumer.explain(error))?;
        let mut found = vec![0; result.nbytes()];
        result.copy_to(0, &mut found); // so few that safe code is worth it
        let of = result.metadata().try_into().context("the detector does not say of which image")?;
        ensure!(u64::from_le_bytes(of) == sequence, "the boxes are those of another image");
        let expected: Vec<u8> = drawn.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        ensure!(found == expected, "the boxes are not where they were drawn");
        println!("frame {sequence}: {} drawn, {} found, the same", drawn.len(), result.shape()[0]);
    }
    Ok(())
}
