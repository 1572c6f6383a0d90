//! Pixels as scores: how far each is from the mean of its patch. All of it in integers.
//!
//! The mean of `n` samples is `sum / n`, so a sample `p` is exactly `|p n - sum| / n` away from it; its score is the f32
//! nearest to that, ties to even.

use crate::interrupt;
use emprune::{Dtype, Mask, Source, TensorSpec};
use std::io;
use std::ops::Range;

/// A sample of a picture: 8 or 16 bits.
pub(crate) trait Sample: Copy + Into<u32> + PartialEq + Sync {
    /// How many values there are.
    const LEVELS: u32;

    /// A value below [`LEVELS`](Self::LEVELS).
    fn from_level(level: u32) -> Self;
}

impl Sample for u8 {
    const LEVELS: u32 = 1 << 8;

    fn from_level(level: u32) -> Self {
        level as u8
    }
}

impl Sample for u16 {
    const LEVELS: u32 = 1 << 16;

    fn from_level(level: u32) -> Self {
        level as u16
    }
}

/// More pixels than a picture may have: sums of scaled samples then fit 64 bits with room for the quotient's.
pub(crate) const MOST_PIXELS: u64 = 1 << 28;

/// The exact mean of some samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    sum: u64,
    n: u64,
}

impl Mean {
    /// The score of a sample.
    fn score(self, level: u32) -> f32 {
        nearest_f32((u64::from(level) * self.n).abs_diff(self.sum), self.n)
    }

    /// The nearest integer; of two, the even one.
    pub(crate) fn rounded(self) -> u32 {
        let (floor, rest) = (self.sum / self.n, self.sum % self.n);
        let up = 2 * rest > self.n || (2 * rest == self.n && floor % 2 == 1);
        // Not above the largest sample, which fits.
        (floor + u64::from(up)) as u32
    }
}

/// The f32 nearest to a ratio, ties to even: `above < 2^44` and `0 < below <= 2^28`, so it is zero or a normal number.
fn nearest_f32(above: u64, below: u64) -> f32 {
    if above == 0 {
        return 0.0;
    }
    // A quotient of at least 34 bits, of which the highest 24 stay.
    let shift = above.leading_zeros() - 1;
    let (quotient, rest) = ((above << shift) / below, (above << shift) % below);
    let drop = 40 - quotient.leading_zeros();
    let (mantissa, tail, half) = (quotient >> drop, quotient & ((1 << drop) - 1), 1 << (drop - 1));
    let up = tail > half || (tail == half && (rest > 0 || mantissa % 2 == 1));
    let exponent = 127 + 23 + drop - shift;
    // A mantissa that rounds up to 2^24 carries into the exponent, as it should.
    f32::from_bits((exponent << 23) + mantissa as u32 - (1 << 23) + u32::from(up))
}

/// Interleaved samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Samples of one pixel, alpha too.
    pub(crate) stride: usize,
}

/// Patches of one size in a grid, from a corner on.
#[derive(Clone, Copy, Debug)]
struct Grid {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    across: u32,
    down: u32,
}

/// The grids of a picture in patches of at most `side`: inside, then along the right and the lower edge, then the corner.
fn grids(layout: Layout, side: u32) -> Vec<Grid> {
    // Where patches begin, how long they are, and how many there are: the whole ones, and what is left.
    let spans = |len: u32| {
        let side = side.min(len);
        [(0, side, len / side), (len - len % side, len % side, 1)]
    };
    let (columns, rows) = (spans(layout.width), spans(layout.height));
    let all = rows.into_iter().flat_map(|row| columns.map(|column| (column, row)));
    let grids = all.map(|((left, width, across), (top, height, down))| Grid { left, top, width, height, across, down });
    grids.filter(|grid| grid.width > 0 && grid.height > 0).collect()
}

/// Patches whose contests are decided together: each has a few dozen bytes to say.
const MOST_PATCHES: u32 = 1 << 18;

/// The patches of one channel, in runs that become tensors of one row per patch.
pub(crate) fn runs(layout: Layout, side: u32) -> Vec<Run> {
    let mut runs = Vec::new();
    for grid in grids(layout, side) {
        let wide = MOST_PATCHES.min(grid.across);
        let lines = MOST_PATCHES / wide;
        for first in (0..grid.down).step_by(lines as usize) {
            let (top, down) = (grid.top + first * grid.height, lines.min(grid.down - first));
            for column in (0..grid.across).step_by(wide as usize) {
                let (left, across) = (grid.left + column * grid.width, wide.min(grid.across - column));
                runs.push(Run(Grid { left, top, across, down, ..grid }));
            }
        }
    }
    runs
}

/// Some patches of one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run(Grid);

/// Entries that are loaded at once.
const PIECE: usize = 4 << 20;

/// One channel of one run as the library's source of scores. What loses becomes the mean, in `output`.
pub(crate) struct Pixels<'a, T> {
    layout: Layout,
    channel: usize,
    input: &'a [T],
    output: &'a mut [T],
    grid: Grid,
    spec: [TensorSpec; 1],
    /// Of one piece, as little-endian f32.
    scores: Vec<u8>,
    /// Of the patch that was looked at last.
    mean: Option<(u64, Mean)>,
    /// The scores of all levels, for that patch, if it has more samples than there are levels.
    table: Vec<f32>,
}

impl<'a, T: Sample> Pixels<'a, T> {
    pub(crate) fn new(layout: Layout, channel: usize, run: Run, input: &'a [T], output: &'a mut [T]) -> Self {
        let Run(grid) = run;
        let row_len = u64::from(grid.width) * u64::from(grid.height);
        let len = row_len * u64::from(grid.across) * u64::from(grid.down);
        let spec = [TensorSpec { dtype: Dtype::F32, len, row_len, scores: None }];
        Self { layout, channel, input, output, grid, spec, scores: vec![], mean: None, table: vec![] }
    }

    /// Call `each` for the samples that are the entries `range`, with the number of each in `range`. Patches follow each
    /// other line by line, and so do the samples of a patch.
    fn visit(&mut self, range: Range<u64>, mut each: impl FnMut(&mut Self, Mean, usize, Range<usize>)) {
        let (width, row_len) = (u64::from(self.grid.width), self.spec[0].row_len);
        let mut at = range.start;
        while at < range.end {
            let (patch, inside) = (at / row_len, at % row_len);
            let mean = self.mean_of(patch);
            let (x, y) = (inside % width, inside / width);
            let count = (width - x).min(range.end - at);
            let start = self.index(patch, x, y);
            let samples = start..start + (count as usize - 1) * self.layout.stride + 1;
            each(self, mean, (at - range.start) as usize, samples);
            at += count;
        }
    }

    /// Where a sample of a patch is.
    fn index(&self, patch: u64, x: u64, y: u64) -> usize {
        let Grid { left, top, width, height, across, .. } = self.grid;
        let (column, line) = (patch % u64::from(across), patch / u64::from(across));
        let x = u64::from(left) + column * u64::from(width) + x;
        let y = u64::from(top) + line * u64::from(height) + y;
        (y * u64::from(self.layout.width) + x) as usize * self.layout.stride + self.channel
    }

    fn mean_of(&mut self, patch: u64) -> Mean {
        if let Some((known, mean)) = self.mean
            && known == patch
        {
            return mean;
        }
        let (mut sum, n, count) = (0, self.spec[0].row_len, self.grid.width as usize);
        for y in 0..self.grid.height {
            let start = self.index(patch, 0, y.into());
            let line = self.input[start..].iter().step_by(self.layout.stride).take(count);
            sum += line.map(|&sample| u64::from(sample.into())).sum::<u64>();
        }
        let mean = Mean { sum, n };
        self.table.clear();
        if n > T::LEVELS.into() {
            self.table.extend((0..T::LEVELS).map(|level| mean.score(level)));
        }
        self.mean = Some((patch, mean));
        mean
    }
}

impl<T: Sample> Source for Pixels<'_, T> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.spec
    }

    fn piece_bytes(&self) -> usize {
        PIECE * size_of::<f32>()
    }

    fn load(&mut self, _tensor: usize, range: Range<u64>) -> io::Result<&mut [u8]> {
        interrupt::check()?;
        let mut scores = std::mem::take(&mut self.scores);
        scores.resize((range.end - range.start) as usize * size_of::<f32>(), 0);
        let (entries, stride) = (scores.as_chunks_mut().0, self.layout.stride);
        self.visit(range, |pixels, mean, at, samples| {
            let (line, table) = (pixels.input[samples].iter().step_by(stride), &pixels.table);
            for (entry, &sample) in entries[at..].iter_mut().zip(line) {
                let level: u32 = sample.into();
                let score = table.get(level as usize).copied();
                *entry = score.unwrap_or_else(|| mean.score(level)).to_le_bytes();
            }
        });
        self.scores = scores;
        Ok(&mut self.scores)
    }

    fn store(&mut self, _tensor: usize, range: Range<u64>, mask: Option<&Mask>) -> io::Result<()> {
        let Some(mask) = mask else { return Ok(()) };
        let (bits, stride) = (mask.as_bytes(), self.layout.stride);
        self.visit(range, |pixels, mean, at, samples| {
            let rounded = T::from_level(mean.rounded());
            for (i, sample) in pixels.output[samples].iter_mut().step_by(stride).enumerate() {
                if bits[(at + i) / 8] >> ((at + i) % 8) & 1 == 0 {
                    *sample = rounded;
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;

    /// The obvious definition: no f32 is nearer to the ratio, and of two that are as near, this one is even.
    fn is_nearest(value: f32, above: u64, below: u64) -> bool {
        // A finite f32 is an integer of units of 2^-149.
        let units = |value: f32| {
            let (exponent, mantissa) = (value.to_bits() >> 23, BigInt::from(value.to_bits() & 0x7f_ffff));
            if exponent == 0 { mantissa } else { (mantissa + (1 << 23)) << (exponent - 1) }
        };
        let ratio = BigInt::from(above) << 149;
        let distance = |value: f32| {
            let distance: BigInt = units(value) * below - &ratio;
            if distance < BigInt::ZERO { -distance } else { distance }
        };
        let neighbours = [value.next_down().max(0.0), value.next_up()];
        neighbours.into_iter().all(|other| {
            let (mine, theirs) = (distance(value), distance(other));
            other.to_bits() == value.to_bits() || mine < theirs || (mine == theirs && value.to_bits().is_multiple_of(2))
        })
    }

    #[test]
    fn a_ratio_becomes_the_nearest_f32() {
        let mut state = 1u64;
        let mut next = |bits: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> (64 - bits)
        };
        let mut cases = vec![(0, 7), (1, MOST_PIXELS), (65535 * MOST_PIXELS, 1), ((1 << 44) - 1, 1)];
        // Ties, to either side, and what lies beside them.
        for k in 0..64 {
            let tie = (1 << 25) + 2 * k + 1;
            cases.extend([
                (tie, 1),
                (tie, 2),
                (3 * tie, 3),
                (3 * tie - 1, 3),
                (3 * tie + 1, 3),
                ((1 << 25) - 1, 1 + k),
            ]);
        }
        for bits in 1..=44 {
            cases.extend((0..50).map(|i| (next(bits), 1 + next(1 + i % 28))));
        }
        for (above, below) in cases {
            let value = nearest_f32(above, below);
            assert!(is_nearest(value, above, below), "{above} / {below} is not {value:e}");
        }
        assert!(!is_nearest(1.0f32.next_up(), 3, 3) && !is_nearest(0.0, 1, 3), "the oracle can say no");
    }

    #[test]
    fn the_mean_is_rounded_to_the_nearest_and_halves_to_even() {
        let rounded = |sum, n| Mean { sum, n }.rounded();
        assert_eq!([(1, 2), (3, 2), (5, 2), (4, 3), (5, 3)].map(|(sum, n)| rounded(sum, n)), [0, 2, 2, 1, 2]);
        assert_eq!(rounded(65535 * MOST_PIXELS, MOST_PIXELS), 65535);
    }

    #[test]
    fn grids_cover_every_pixel_once() {
        for (width, height) in [(1, 1), (1, 9), (9, 1), (8, 8), (7, 5), (16, 9), (3, 8)] {
            for side in 1..=20 {
                let mut seen = vec![0; (width * height) as usize];
                for Run(grid) in runs(Layout { width, height, stride: 1 }, side) {
                    assert!(grid.width <= side && grid.height <= side);
                    for y in grid.top..grid.top + grid.down * grid.height {
                        for x in grid.left..grid.left + grid.across * grid.width {
                            seen[(y * width + x) as usize] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|count| *count == 1), "{width} x {height} in patches of {side}: {seen:?}");
            }
        }
    }
}
