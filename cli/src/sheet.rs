//! A contact sheet: scaled-down frames, evenly taken from a stream of unknown length.

use crate::exit::Outcome;
use crate::picture::Picture;

/// Width of the finished sheet at most, and of the gap between tiles.
const SHEET_WIDTH: usize = 1280;
const GAP: usize = 4;
const BACKGROUND: [u8; 3] = [24, 24, 28];

pub(crate) struct Tile {
    pub(crate) sequence: u64,
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

pub(crate) struct Sheet {
    columns: usize,
    rows: usize,
    every: u64,
    seen: u64,
    tiles: Vec<Tile>,
}

impl Sheet {
    pub(crate) fn new(columns: usize, rows: usize, every: u64) -> Self {
        Self { columns, rows, every: every.max(1), seen: 0, tiles: Vec::new() }
    }

    pub(crate) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// How many frames lie between two tiles by now.
    pub(crate) fn every(&self) -> u64 {
        self.every
    }

    /// Whether the next frame of the stream becomes a tile.
    pub(crate) fn wants_next(&mut self) -> bool {
        let wanted = self.seen.is_multiple_of(self.every);
        self.seen += 1;
        if wanted && self.tiles.len() == self.columns * self.rows {
            // Full: every second tile goes, and from here on frames are taken half as often.
            let mut keep = false;
            self.tiles.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
            return (self.seen - 1).is_multiple_of(self.every);
        }
        wanted
    }

    pub(crate) fn add(&mut self, sequence: u64, picture: &Picture) -> Outcome {
        let width = ((SHEET_WIDTH - GAP) / self.columns).saturating_sub(GAP).clamp(1, picture.width.max(1));
        let height = (picture.height * width / picture.width.max(1)).max(1);
        let rgb = scale_down(picture, width, height)?;
        self.tiles.push(Tile { sequence, width, height, rgb });
        Ok(())
    }

    /// The sheet as RGB: as many rows of tiles as are needed.
    pub(crate) fn compose(&self) -> ((usize, usize), Vec<u8>) {
        let cell = |size: fn(&Tile) -> usize| self.tiles.iter().map(size).max().unwrap_or(1) + GAP;
        let (cell_width, cell_height) = (cell(|tile| tile.width), cell(|tile| tile.height));
        let rows = self.tiles.len().div_ceil(self.columns).max(1);
        let (width, height) = (self.columns * cell_width + GAP, rows * cell_height + GAP);
        let mut pixels = BACKGROUND.repeat(width * height);
        for (index, tile) in self.tiles.iter().enumerate() {
            let left = GAP + index % self.columns * cell_width;
            let top = GAP + index / self.columns * cell_height;
            for (y, row) in tile.rgb.chunks_exact(tile.width * 3).enumerate() {
                pixels[((top + y) * width + left) * 3..][..row.len()].copy_from_slice(row);
            }
        }
        ((width, height), pixels)
    }
}

/// Each target pixel is the mean of the box of source pixels that falls on it.
fn scale_down(picture: &Picture, width: usize, height: usize) -> Outcome<Vec<u8>> {
    let channels = picture.channels();
    let mut row = vec![0; picture.width * channels];
    let mut rgb = Vec::with_capacity(width * height * 3);
    let edge = |index: usize, count: usize, of: usize| index * of / count;
    for ty in 0..height {
        let (top, bottom) = (edge(ty, height, picture.height), edge(ty + 1, height, picture.height));
        let bottom = bottom.max(top + 1).min(picture.height);
        let mut sums = vec![[0u64; 3]; width];
        for y in top..bottom {
            picture.row(y, &mut row)?;
            for (tx, sum) in sums.iter_mut().enumerate() {
                let (left, right) = (edge(tx, width, picture.width), edge(tx + 1, width, picture.width));
                for pixel in row[left * channels..right.max(left + 1) * channels].chunks_exact(channels) {
                    let colour = if channels == 1 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
                    sum.iter_mut().zip(colour).for_each(|(sum, value)| *sum += u64::from(value));
                }
            }
        }
        for (tx, sum) in sums.iter().enumerate() {
            let across =
                edge(tx + 1, width, picture.width).saturating_sub(edge(tx, width, picture.width)).max(1);
            let count = (across * (bottom - top)).max(1) as u64;
            rgb.extend(sum.map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    Ok(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which frames are on the sheet after `frames` of them, the way the command drives it.
    fn taken(columns: usize, rows: usize, every: u64, frames: u64) -> Vec<u64> {
        let mut sheet = Sheet::new(columns, rows, every);
        for sequence in 0..frames {
            if sheet.wants_next() {
                sheet.tiles.push(Tile { sequence, width: 1, height: 1, rgb: vec![0; 3] });
            }
        }
        sheet.tiles.iter().map(|tile| tile.sequence).collect()
    }

    #[test]
    fn tiles_stay_evenly_spread() {
        assert_eq!(taken(2, 2, 10, 25), [0, 10, 20]);
        assert_eq!(taken(2, 2, 10, 41), [0, 20, 40]);
        assert_eq!(taken(2, 2, 1, 100), [0, 32, 64, 96]);
        assert_eq!(taken(3, 1, 1, 7), [0, 4]);
        assert_eq!(taken(1, 1, 1, 9), [0]);
        for frames in 1..200 {
            let tiles = taken(3, 2, 3, frames);
            assert!(tiles.len() <= 6);
            assert!(tiles.windows(3).all(|w| w[1] - w[0] == w[2] - w[1]), "{tiles:?}");
        }
    }
}
