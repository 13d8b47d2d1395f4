//! A moving test picture: a drifting colour gradient, a travelling square and the sequence number in digits.
//!
//! A row is copied out of a prepared gradient and a few spans are painted over it, so a frame costs little more
//! than writing its memory once.

use bips::{Fourcc, Plane};

use crate::exit::{Failure, Outcome};

/// Pixels after which the gradient repeats.
const PERIOD: usize = 768;
/// Pixels the gradient moves from one frame to the next; every pixel changes by as many levels.
const DRIFT: usize = 3;
const DIGITS: usize = 6;

/// 3 × 5 pixels a digit, a row per 3 bits, top row first.
const FONT: [u16; 10] = [
    0b111_101_101_101_111,
    0b010_110_010_010_111,
    0b111_001_111_100_111,
    0b111_001_111_001_111,
    0b101_101_111_001_001,
    0b111_100_111_001_111,
    0b111_100_111_101_111,
    0b111_001_010_010_010,
    0b111_101_111_101_111,
    0b111_101_111_001_111,
];

pub(crate) struct TestCard {
    pixel: usize,
    order: Order,
    width: usize,
    height: usize,
    stride: usize,
    gradient: Vec<u8>,
}

/// Which byte of a pixel holds what.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Grey,
    Rgb,
    Bgr,
}

impl TestCard {
    pub(crate) fn new(fourcc: Option<Fourcc>, plane: &Plane) -> Outcome<Self> {
        let name = fourcc.map(|fourcc| fourcc.to_string()).unwrap_or_default();
        let (pixel, order) = match name.as_str() {
            "GREY" => (1, Order::Grey),
            "RGB3" => (3, Order::Rgb),
            "BGR3" => (3, Order::Bgr),
            "AB24" => (4, Order::Rgb),
            "AR24" => (4, Order::Bgr),
            _ => {
                return Err(Failure::usage(format!(
                    "the picture pattern is painted in RGB3, BGR3, GREY, AB24 or AR24, not in {}; use --pattern noise",
                    if name.is_empty() { "plain tensors" } else { &name }
                )));
            }
        };
        let width = plane.width as usize / pixel;
        let mut card = Self {
            pixel,
            order,
            width,
            height: plane.rows as usize,
            stride: plane.stride as usize,
            gradient: Vec::with_capacity((width + PERIOD) * pixel),
        };
        for x in 0..width + PERIOD {
            let colour = [0, PERIOD / 3, PERIOD / 3 * 2].map(|phase| triangle(x + phase));
            card.gradient.extend_from_slice(&card.encode(colour)[..pixel]);
        }
        Ok(card)
    }

    fn encode(&self, [r, g, b]: [u8; 3]) -> [u8; 4] {
        match self.order {
            Order::Grey => [((u16::from(r) * 5 + u16::from(g) * 9 + u16::from(b) * 2) / 16) as u8, 0, 0, 0],
            Order::Rgb => [r, g, b, 255],
            Order::Bgr => [b, g, r, 255],
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.height
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.width * self.pixel
    }

    pub(crate) fn row_offset(&self, y: usize) -> usize {
        y * self.stride
    }

    pub(crate) fn paint(&self, sequence: u64, bytes: &mut [u8]) {
        for (y, row) in bytes.chunks_mut(self.stride.max(1)).take(self.height).enumerate() {
            self.paint_row(sequence, y, &mut row[..self.row_bytes()]);
        }
    }

    /// One row of the picture; the checker paints it too and compares.
    pub(crate) fn paint_row(&self, sequence: u64, y: usize, row: &mut [u8]) {
        let moved = (sequence % PERIOD as u64) as usize * DRIFT;
        let start = (moved + y / 2) % PERIOD * self.pixel;
        row.copy_from_slice(&self.gradient[start..][..row.len()]);
        self.paint_square(sequence, y, row);
        self.paint_number(sequence, y, row);
    }

    fn paint_square(&self, sequence: u64, y: usize, row: &mut [u8]) {
        let side = (self.height / 6).clamp(1, self.width);
        let left = bounce(sequence.wrapping_mul(11), self.width - side);
        let top = bounce(sequence.wrapping_mul(7), self.height - side);
        if (top..top + side).contains(&y) {
            self.span(row, left, left + side, [250, 250, 240]);
        }
    }

    fn paint_number(&self, sequence: u64, y: usize, row: &mut [u8]) {
        // The plate takes a quarter of the width; on pictures too small for it there is none.
        let dot = self.width / 4 / (DIGITS * 4 + 1);
        if dot == 0 || y >= 7 * dot {
            return;
        }
        self.span(row, 0, (DIGITS * 4 + 1) * dot, [16, 16, 24]);
        let Some(line) = (y / dot).checked_sub(1).filter(|line| *line < 5) else {
            return;
        };
        for place in 0..DIGITS {
            let digit = sequence / 10_u64.pow((DIGITS - 1 - place) as u32) % 10;
            let bits = FONT[digit as usize] >> (12 - 3 * line);
            for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                let left = (1 + place * 4 + column) * dot;
                self.span(row, left, left + dot, [255, 220, 80]);
            }
        }
    }

    fn span(&self, row: &mut [u8], left: usize, right: usize, colour: [u8; 3]) {
        let colour = self.encode(colour);
        for pixel in row[left * self.pixel..right * self.pixel].chunks_exact_mut(self.pixel) {
            pixel.copy_from_slice(&colour[..self.pixel]);
        }
    }
}

/// Up and down again, once a period, between 24 and 231.
fn triangle(x: usize) -> u8 {
    let half = PERIOD / 2;
    let x = x % PERIOD;
    let height = if x < half { x } else { PERIOD - x };
    (24 + height * 207 / half) as u8
}

/// A position that runs to `limit` and back.
fn bounce(distance: u64, limit: usize) -> usize {
    if limit == 0 {
        return 0;
    }
    let at = (distance % (2 * limit as u64)) as usize;
    if at <= limit { at } else { 2 * limit - at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(code: &str, width: u64, height: u64, pixel: u64) -> TestCard {
        let plane = Plane { offset: 0, stride: width * pixel, width: width * pixel, rows: height };
        TestCard::new(Some(Fourcc::parse(code).unwrap()), &plane).unwrap()
    }

    #[test]
    fn neighbouring_frames_differ_nearly_everywhere() {
        let card = card("RGB3", 320, 240, 3);
        let mut frames = [vec![0; 320 * 240 * 3], vec![0; 320 * 240 * 3]];
        for (sequence, frame) in (1000..).zip(&mut frames) {
            card.paint(sequence, frame);
        }
        let same = frames[0].iter().zip(&frames[1]).filter(|(a, b)| a == b).count();
        assert!(same * 100 < frames[0].len() * 15, "{same} bytes of {} are the same", frames[0].len());
    }

    #[test]
    fn fits_every_size() {
        for (width, height) in [(1, 1), (2, 300), (300, 2), (99, 7), (100, 7), (1920, 4)] {
            for (code, pixel) in [("GREY", 1), ("BGR3", 3), ("AR24", 4)] {
                let card = card(code, width, height, pixel);
                let mut frame = vec![0; (width * height * pixel) as usize];
                for sequence in [0, 1, 999_999, u64::MAX / 16] {
                    card.paint(sequence, &mut frame);
                }
                assert!(frame.iter().any(|byte| *byte != 0));
            }
        }
    }

    #[test]
    fn planar_formats_are_refused_with_the_way_out() {
        let plane = Plane { offset: 0, stride: 4, width: 4, rows: 4 };
        let failure = TestCard::new(Some(Fourcc::parse("NV12").unwrap()), &plane).err().unwrap();
        assert!(format!("{failure:?}").contains("--pattern noise"));
    }
}
