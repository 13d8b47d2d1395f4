//! Publishes images of a moving pattern, each with its checksum: `tensor_camera NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]`

mod pixels;

use std::env;
use std::time::Duration;

use anyhow::{Context, Result};
use bips::{Description, Fence, Fourcc, Plane, Producer, Wait};

use crate::pixels::{checksum, place};

const PATIENCE: Wait = Wait::For(Duration::from_secs(30));

fn draw(bytes: &mut [u8], plane: &Plane, i: usize) {
    let rows = bytes[plane.offset as usize..].chunks_mut(plane.stride as usize).take(plane.rows as usize);
    for (y, row) in rows.enumerate() {
        for (x, pixel) in row[..plane.width as usize].chunks_mut(3).enumerate() {
            for (c, byte) in pixel.iter_mut().enumerate() {
                *byte = (x + y + 5 * i + 85 * c) as u8;
            }
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().context("usage: tensor_camera NAME [FRAMES [WIDTH HEIGHT [MEMORY]]]")?;
    let frames = arguments.next().map_or(Ok(10), |frames| frames.parse())?;
    let width = arguments.next().map_or(Ok(640), |width| width.parse())?;
    let height = arguments.next().map_or(Ok(480), |height| height.parse())?;
    let memory = arguments.next().unwrap_or_else(|| "auto".into());

    let producer = Producer::builder(name).registry(bips_backends::registry()).memory(memory);
    let producer = producer.image(Fourcc::parse("RGB3")?, width, height).create()?;
    let content = producer.content();
    producer.wait_for_consumers(1, PATIENCE)?;

    for i in 0..frames {
        let mut frame = producer.acquire(PATIENCE).map_err(|error| producer.explain(error))?;
        let bytes = &mut frame.bytes_mut()[..content.nbytes() as usize];
        draw(bytes, &content.planes()[0], i);
        let sum = checksum(bytes, &content.planes()[0]);
        let at = place(bytes);
        let metadata = sum.to_le_bytes();
        let sequence = frame.publish(Description::new().with_metadata(&metadata), Fence::Signaled)?;
        println!("frame {sequence}: checksum {sum}, {at}");
    }
    Ok(())
}
