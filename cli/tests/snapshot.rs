//! Pictures of streams, decoded again and compared pixel by pixel.

mod common;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bips::{DType, Description, Fence, Fourcc, Producer, Wait};
use common::House;
use png::ColorType;

struct Decoded {
    width: usize,
    height: usize,
    color: ColorType,
    pixels: Vec<u8>,
}

fn decode(path: &Path) -> Decoded {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    pixels.truncate(info.buffer_size());
    Decoded { width: info.width as usize, height: info.height as usize, color: info.color_type, pixels }
}

fn builder(house: &House) -> bips::ProducerBuilder {
    Producer::builder("cam").registry(bips_backends::registry()).memory("memfd").directory(house.path())
}

/// Publishes the same content at 100 Hz while a snapshot is taken of it.
fn snapshot(house: &House, producer: &Producer, content: &[u8]) -> Decoded {
    let path = house.path().join("shot.png");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut frame = producer.acquire(Wait::For(Duration::from_secs(10))).unwrap();
                frame.bytes_mut()[..content.len()].copy_from_slice(content);
                frame.publish(Description::new(), Fence::Signaled).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let ended = house.run(&format!("snapshot cam {} --json", path.display()));
        done.store(true, Ordering::Relaxed);
        let told = ended.expect_code(0).json();
        let decoded = decode(&path);
        assert_eq!(told["width"].as_u64(), Some(decoded.width as u64));
        assert_eq!(told["height"].as_u64(), Some(decoded.height as u64));
        decoded
    })
}

fn image(format: &str, width: u32, height: u32, content: &[u8]) -> Decoded {
    let house = House::new();
    let producer = builder(&house).image(Fourcc::parse(format).unwrap(), width, height).create().unwrap();
    let decoded = snapshot(&house, &producer, content);
    assert_eq!((decoded.width, decoded.height), (width as usize, height as usize), "{format}");
    decoded
}

#[test]
fn packed_images() {
    let bytes: Vec<u8> = (0..48).collect();
    let rgb = image("RGB3", 8, 2, &bytes);
    assert_eq!((rgb.color, rgb.pixels.as_slice()), (ColorType::Rgb, bytes.as_slice()));
    let bgr = image("BGR3", 8, 2, &bytes);
    assert_eq!(bgr.pixels[..6], [2, 1, 0, 5, 4, 3]);
    let grey = image("GREY", 6, 8, &bytes);
    assert_eq!((grey.color, grey.pixels.as_slice()), (ColorType::Grayscale, bytes.as_slice()));
    let rgba = image("AB24", 4, 3, &bytes);
    assert_eq!((rgba.color, rgba.pixels.as_slice()), (ColorType::Rgba, bytes.as_slice()));
    let bgra = image("AR24", 4, 3, &bytes);
    assert_eq!(bgra.pixels[..8], [2, 1, 0, 3, 6, 5, 4, 7]);
}

/// Left half red, right half white, in BT.601: Y 81 Cb 90 Cr 240 and Y 235 Cb 128 Cr 128.
#[test]
fn yuv_images() {
    let expected = [[255u8, 0, 0], [255, 0, 0], [255; 3], [255; 3]].concat().repeat(2);
    let luma = [81, 81, 235, 235, 81, 81, 235, 235];
    let nv12 = [&luma[..], &[90, 240, 128, 128]].concat();
    assert_eq!(image("NV12", 4, 2, &nv12).pixels, expected);
    let yu12 = [&luma[..], &[90, 128], &[240, 128]].concat();
    assert_eq!(image("YU12", 4, 2, &yu12).pixels, expected);
    assert_eq!(image("YUYV", 4, 2, &[81, 90, 81, 240, 235, 128, 235, 128].repeat(2)).pixels, expected);
    assert_eq!(image("UYVY", 4, 2, &[90, 81, 240, 81, 128, 235, 128, 235].repeat(2)).pixels, expected);
}

#[test]
fn tensors() {
    let bytes: Vec<u8> = (0..60).collect();
    for (shape, color) in [
        (&[4, 5, 3][..], ColorType::Rgb),
        (&[10, 6], ColorType::Grayscale),
        (&[12, 5, 1], ColorType::Grayscale),
    ] {
        let house = House::new();
        let producer = builder(&house).tensor(DType::U8, shape).create().unwrap();
        let decoded = snapshot(&house, &producer, &bytes);
        assert_eq!([decoded.height as u64, decoded.width as u64], shape[..2]);
        assert_eq!((decoded.color, decoded.pixels.as_slice()), (color, bytes.as_slice()));
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    let house = House::new();
    let producer = builder(&house).tensor(DType::F32, &[4, 4]).history(1).create().unwrap();
    let frame = producer.acquire(Wait::Now).unwrap();
    frame.publish(Description::new(), Fence::Signaled).unwrap();
    let path = house.path().join("shot.png");
    house.run(&format!("snapshot cam {}", path.display())).expect_failure(1, "float32");
    assert!(!path.exists());
    house.run("snapshot cam /no/such/directory/shot.png").expect_failure(1, "/no/such/directory");
}

#[test]
fn a_contact_sheet_of_a_whole_stream() {
    let house = House::new();
    let path = house.path().join("sheet.png");
    let producer =
        house.start("produce cam --size 192x128 --pattern picture --fps 0 --count 100 --consumers 1 --json");
    let words = format!("snapshot cam {} --sheet 3x2 --every 10 --json", path.display());
    let told = house.run(&words).expect_code(0).json();
    producer.end().expect_code(0);
    assert_eq!((told["frames"].as_u64(), told["lost"].as_u64()), (Some(100), Some(0)));
    assert_eq!(told["bytes_copied_by_bips"].as_u64(), Some(0));
    // Every tenth of a hundred would be ten tiles; six fit, so every twentieth.
    assert_eq!(told["sequences"], serde_json::json!([0, 20, 40, 60, 80]));
    let sheet = decode(&path);
    let tile = 192;
    assert_eq!((sheet.width, sheet.height), (3 * (tile + 4) + 4, 2 * (128 + 4) + 4));
    // The tiles differ, since the picture moves; the last place is empty.
    let row = |left: usize, top: usize| &sheet.pixels[(top * sheet.width + left) * 3..][..tile * 3];
    assert_ne!(row(4, 4 + 64), row(4 + tile + 4, 4 + 64));
    assert!(row(4 + 2 * (tile + 4), 4 + 132 + 64).chunks(3).all(|pixel| *pixel == [24, 24, 28]));
}

#[test]
fn a_sheet_of_a_stream_that_is_killed_is_still_written() {
    let house = House::new();
    let path = house.path().join("sheet.png");
    let producer = house.start("produce cam --size 64x64 --pattern picture --fps 300 --consumers 1");
    let sheet = house.start(&format!("snapshot cam {} --sheet 2x2 --every 5 --json", path.display()));
    house.wait_for("cam", |info| info.consumers.first().is_some_and(|consumer| consumer.received > 30));
    producer.signal(nix::sys::signal::Signal::SIGKILL);
    let told = sheet.end().expect_code(0).json();
    assert_eq!(told["ended"].as_str(), Some("died"));
    assert!(told["tiles"].as_u64() >= Some(2) && decode(&path).width > 128);
}
