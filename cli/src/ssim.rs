//! How alike two pictures are: the structural similarity of Wang, Bovik, Sheikh and Simoncelli (2004).
//!
//! Of a window with the means `m`, variances `v` and covariance `c` of both pictures, all of them over its `n` pixels and not `n - 1`, it is
//! `(2 m1 m2 + C1) (2 c + C2) / ((m1^2 + m2^2 + C1) (v1 + v2 + C2))`, where `C1 = (0.01 L)^2`, `C2 = (0.03 L)^2` and `L` is the largest
//! sample. Windows have 8 x 8 pixels and lie side by side, from the upper left corner on; those at the right and lower edges may be
//! smaller. Of a picture it is the mean over its windows, in which each counts as often as it has pixels. Other tools have windows that
//! overlap, or weights in them, and so figures of their own.

use crate::interrupt;
use crate::pixels::{Layout, Sample};
use rayon::prelude::*;
use std::io;

const SIDE: usize = 8;

/// The similarity of one channel.
pub(crate) fn ssim<T: Sample>(layout: Layout, channel: usize, before: &[T], after: &[T]) -> io::Result<f64> {
    let (width, height, stride) = (layout.width as usize, layout.height as usize, layout.stride);
    let tops: Vec<usize> = (0..height).step_by(SIDE).collect();
    let bands = tops.into_par_iter().map(|top| {
        interrupt::check()?;
        let band = (0..width).step_by(SIDE).map(|left| {
            let mut window = Window::default();
            for y in top..height.min(top + SIDE) {
                for x in left..width.min(left + SIDE) {
                    let at = (y * width + x) * stride + channel;
                    window.add(before[at].into(), after[at].into());
                }
            }
            window.n as f64 * window.similarity(T::LEVELS - 1)
        });
        Ok(band.sum())
    });
    // Added in order, whichever thread was first.
    let bands: Vec<f64> = bands.collect::<io::Result<_>>()?;
    Ok(bands.iter().sum::<f64>() / (width * height) as f64)
}

/// Sums over the pixels of a window. Those of products stay below 2^38.
#[derive(Default)]
struct Window {
    n: u64,
    sums: [u64; 2],
    squares: [u64; 2],
    products: u64,
}

impl Window {
    fn add(&mut self, before: u32, after: u32) {
        let [a, b] = [before, after].map(u64::from);
        self.n += 1;
        self.sums = [self.sums[0] + a, self.sums[1] + b];
        self.squares = [self.squares[0] + a * a, self.squares[1] + b * b];
        self.products += a * b;
    }

    fn similarity(&self, peak: u32) -> f64 {
        let Self { n, sums: [a, b], squares: [aa, bb], products } = *self;
        let [c1, c2] = [0.01, 0.03].map(|k| (k * f64::from(peak)).powi(2));
        // Differences are taken of whole numbers: nothing is lost where all pixels are nearly alike.
        let (count, square) = (n as f64, (n * n) as f64);
        let [mean_a, mean_b] = [a, b].map(|sum| sum as f64 / count);
        let variances = [(aa, a), (bb, b)].map(|(squares, sum)| (n * squares - sum * sum) as f64 / square);
        let covariance = ((n * products) as i64 - (a * b) as i64) as f64 / square;
        (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
            / ((mean_a * mean_a + mean_b * mean_b + c1) * (variances[0] + variances[1] + c2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of which all near `mean` becomes that, as NumPy says how alike they are: means, variances and covariances by its own functions.
    #[test]
    fn pictures_are_as_alike_as_numpy_says() {
        fn check<T: Sample>(width: u32, height: u32, factor: u32, mean: u32, expected: f64) {
            let peak = T::LEVELS - 1;
            let level = |x: u32, y: u32| (3 * x * x + 7 * y + x * y) * factor % (peak + 1);
            let before: Vec<u32> = (0..height).flat_map(|y| (0..width).map(move |x| level(x, y))).collect();
            let near = |level: u32| if 4 * level.abs_diff(mean) < peak { mean } else { level };
            // A second channel, of which nothing counts.
            let samples = |levels: &mut dyn Iterator<Item = u32>| -> Vec<T> {
                levels.flat_map(|level| [level, peak - level].map(T::from_level)).collect()
            };
            let after = samples(&mut before.iter().map(|level| near(*level)));
            let before = samples(&mut before.iter().copied());
            let layout = Layout { width, height, stride: 2 };
            let is = ssim(layout, 0, &before, &after).unwrap();
            assert!((is - expected).abs() < 1e-12, "{width} x {height}: {is} is not {expected}");
            let same = ssim(layout, 0, &before, &before).unwrap();
            assert_eq!(same.to_bits(), 1.0f64.to_bits(), "{same}");
        }
        check::<u8>(8, 8, 1, 89, 0.8615491317150129);
        check::<u8>(19, 13, 1, 118, 0.9146018948770059);
        check::<u8>(3, 2, 1, 9, 0.5581234552202627);
        check::<u8>(40, 9, 1, 118, 0.9206469159599224);
        check::<u16>(19, 13, 97, 24897, 0.7804114509824247);
        check::<u16>(1, 17, 97, 5432, 0.5319507963198665);
    }
}
