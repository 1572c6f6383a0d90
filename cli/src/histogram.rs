//! How the scores of a tensor are spread: counts by exponent and the first bits of the mantissa. For plots only; no count
//! takes part in a decision.

use crate::values::for_each_value;
use emprune::{Dtype, Mask};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Bins of one octave: as many as the first bits of a mantissa tell apart.
const PER_OCTAVE_BITS: u32 = 3;
/// Bits of an f32 that lie below its bin.
const SHIFT: u32 = 23 - PER_OCTAVE_BITS;
/// Bins of all positive f32, up to infinity.
const BINS: usize = (f32::INFINITY.to_bits() >> SHIFT) as usize;

/// Scores that a thread counts at a time: a multiple of 8.
const COUNTED: usize = 1 << 17;

/// Counts of scores, all of them and those that are kept.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// They are not made of the weights.
    given: bool,
    all: Counts,
    kept: Counts,
    zeros: u64,
    kept_zeros: u64,
}

/// Of the bins between the lowest and the highest that has any: a model has many tensors, and most of them have few.
#[derive(Clone, Debug, Default)]
struct Counts {
    first: usize,
    counts: Vec<u64>,
}

impl Counts {
    fn add(&mut self, bin: usize, more: u64) {
        if let Some(count) = self.counts.get_mut(bin.wrapping_sub(self.first)) {
            *count += more;
            return;
        }
        let first = if self.counts.is_empty() { bin } else { self.first.min(bin) };
        let end = (self.first + self.counts.len()).max(bin + 1);
        let mut counts = vec![0; end - first];
        counts[self.first.max(first) - first..][..self.counts.len()].copy_from_slice(&self.counts);
        counts[bin - first] = more;
        *self = Self { first, counts };
    }

    fn add_all(&mut self, bins: &[u64]) {
        for (bin, &count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add(bin, count);
        }
    }

    fn get(&self, bin: usize) -> u64 {
        self.counts.get(bin.wrapping_sub(self.first)).copied().unwrap_or_default()
    }

    /// From the first to the last that is not empty.
    fn range(&self) -> Option<RangeInclusive<usize>> {
        let first = self.counts.iter().position(|&count| count > 0)?;
        let last = self.counts.iter().rposition(|&count| count > 0)?;
        Some(self.first + first..=self.first + last)
    }
}

/// What a histogram comes down to: the bins from the first to the last that is not empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// They are not made of the weights.
    pub(crate) given: bool,
    pub(crate) bins: Vec<Bin>,
    /// Scores that are zero, and those of them that are kept.
    pub(crate) zeros: u64,
    pub(crate) kept_zeros: u64,
}

/// Counts between two scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bin {
    /// The lowest score that is in it, and the lowest that is above.
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) all: u64,
    pub(crate) kept: u64,
}

/// Numbers that scores are made of: of a dtype, and the norms of a row, if the score has any, of which the first number meets the
/// one in this column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) dtype: Dtype,
    pub(crate) norms: Option<&'a [f32]>,
    pub(crate) column: usize,
}

impl Histogram {
    /// Of scores that are made of the weights, or given.
    pub(crate) fn new(given: bool) -> Self {
        Self { given, all: Counts::default(), kept: Counts::default(), zeros: 0, kept_zeros: 0 }
    }

    /// Count scores that are seen for the first time: zeros by themselves, for a logarithmic axis has no place for them.
    pub(crate) fn see(&mut self, numbers: Numbers<'_>) {
        let [bins @ .., zeros, _] = &count(numbers, |_| 1)[..] else { return };
        self.all.add_all(bins);
        self.zeros += zeros;
    }

    /// Count scores again that were decided.
    pub(crate) fn keep(&mut self, numbers: Numbers<'_>, mask: &Mask) {
        let mask = mask.as_bytes();
        let [bins @ .., zeros, _] = &count(numbers, |at| u64::from(mask[at / 8] >> (at % 8) & 1))[..] else { return };
        self.kept.add_all(bins);
        self.kept_zeros += zeros;
    }

    /// When all is counted.
    pub(crate) fn spread(&self) -> Spread {
        Spread { given: self.given, bins: self.bins(), zeros: self.zeros, kept_zeros: self.kept_zeros }
    }

    fn bins(&self) -> Vec<Bin> {
        let edge = |bin: usize| f64::from(f32::from_bits(((bin as u32) << SHIFT).min(f32::INFINITY.to_bits() - 1)));
        let bin = |i: usize| Bin { from: edge(i), to: edge(i + 1), all: self.all.get(i), kept: self.kept.get(i) };
        // Zero is no score of the lowest bin: it was counted apart.
        let lowest = |bin: Bin| Bin { from: bin.from.max(f64::from(f32::from_bits(1))), ..bin };
        self.all.range().into_iter().flatten().map(|i| lowest(bin(i))).collect()
    }
}

/// How often a score is in each bin, is zero, or is no number, where others are judged; entry `at` counts `times(at)` times.
fn count(numbers: Numbers<'_>, times: impl Fn(usize) -> u64 + Sync) -> Vec<u64> {
    let Numbers { bytes, dtype, norms, column } = numbers;
    let none = || vec![0u64; BINS + 2];
    let add = |mut counts: Vec<u64>, (chunk, bytes): (usize, &[u8])| {
        let first = chunk * COUNTED;
        let column = norms.map_or(0, |norms| (column + first) % norms.len().max(1));
        let mut at = first;
        for_each_score(Numbers { bytes, dtype, norms, column }, |bits| {
            let place = if bits == 0 { BINS } else { (bits >> SHIFT) as usize };
            let place = if bits >= f32::INFINITY.to_bits() { BINS + 1 } else { place };
            counts[place] += times(at);
            at += 1;
        });
        counts
    };
    let join = |mut one: Vec<u64>, other: Vec<u64>| {
        one.iter_mut().zip(other).for_each(|(count, more)| *count += more);
        one
    };
    bytes.par_chunks(COUNTED * dtype.size()).enumerate().fold(none, add).reduce(none, join)
}

/// The bits of every score, without its sign.
fn for_each_score(numbers: Numbers<'_>, mut each: impl FnMut(u32)) {
    let Numbers { bytes, dtype, norms, column } = numbers;
    let magnitude = |value: f32| value.to_bits() & (u32::MAX >> 1);
    let mut at = column;
    match norms {
        None => for_each_value(bytes, dtype, |weight| each(magnitude(weight))),
        Some(norms) => for_each_value(bytes, dtype, |weight| {
            let norm = norms.get(at).copied().unwrap_or_default();
            at = if at + 1 < norms.len() { at + 1 } else { 0 };
            each(magnitude(weight * norm));
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(bytes: &[u8], dtype: Dtype, norms: Option<(&[f32], usize)>, lost: &[u64]) -> Histogram {
        let mut bits = vec![0xff; bytes.len() / dtype.size()];
        lost.iter().for_each(|at| bits[(at / 8) as usize] &= !(1 << (at % 8)));
        let len = (bytes.len() / dtype.size()) as u64;
        bits.truncate(len.div_ceil(8) as usize);
        if let (Some(last), rest @ 1..) = (bits.last_mut(), len % 8) {
            *last &= (1 << rest) - 1;
        }
        let mask = Mask::from_bytes(bits, len).unwrap();
        let (norms, column) = norms.map_or((None, 0), |(norms, column)| (Some(norms), column));
        let mut histogram = Histogram::new(false);
        let numbers = Numbers { bytes, dtype, norms, column };
        histogram.see(numbers);
        histogram.keep(numbers, &mask);
        histogram
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn every_score_is_in_the_bin_that_it_is_in() {
        let values = [1.0f32, -1.0, 1.124, 1.125, -3.9, 0.0, -0.0, 1e-45, f32::MAX];
        let histogram = counted(&bytes(&values), Dtype::F32, None, &[0, 2, 4, 6, 7]);
        let spread = histogram.spread();
        assert_eq!((spread.zeros, spread.kept_zeros), (2, 1));
        let bins: Vec<_> = spread.bins.into_iter().filter(|bin| bin.all > 0).collect();
        let counts: Vec<_> = bins.iter().map(|bin| (bin.all, bin.kept)).collect();
        assert_eq!(counts, [(1, 0), (3, 1), (1, 1), (1, 0), (1, 1)]);
        assert_eq!((bins[1].from.to_bits(), bins[1].to.to_bits()), (1f64.to_bits(), 1.125f64.to_bits()));
        assert!(bins[0].from > 0.0 && bins[4].to.is_finite(), "a logarithmic axis needs both");
    }

    #[test]
    fn norms_are_those_of_the_columns() {
        // From the middle of a row of three on.
        let histogram = counted(&bytes(&[1.0; 4]), Dtype::F32, Some((&[2.0, 4.0, 0.0], 1)), &[]);
        let bins: Vec<_> = histogram.bins().into_iter().filter(|bin| bin.all > 0).map(|bin| bin.from as u32).collect();
        assert_eq!((bins, histogram.zeros), (vec![2, 4], 1));
    }

    #[test]
    fn every_dtype_has_its_own_bins() {
        let half: Vec<u8> = [1.0f32, -2.0].iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        let brain: Vec<u8> = [1.0f32, -2.0].iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        let [half, brain] =
            [(half, Dtype::F16), (brain, Dtype::Bf16)].map(|(bytes, dtype)| counted(&bytes, dtype, None, &[]).spread());
        assert_eq!(half.bins, brain.bins);
        assert_eq!(half.bins.len(), 9, "an octave and the first bin of the next");
    }

    #[test]
    fn counts_reach_as_far_as_they_must() {
        let mut counts = Counts::default();
        let bins = [700, 703, 698, 703, 2039, 0, 699];
        for (i, bin) in bins.into_iter().enumerate() {
            counts.add(bin, 1);
            let all = bins[..=i].iter();
            let (least, most) = (all.clone().min().unwrap(), all.clone().max().unwrap());
            assert_eq!((counts.range(), counts.counts.len()), (Some(*least..=*most), most - least + 1));
            assert!((0..BINS).all(|bin| counts.get(bin) == all.clone().filter(|&&other| other == bin).count() as u64));
        }
    }

    /// More than one thread counts at a time, from the middle of a row on.
    #[test]
    fn many_are_counted_as_one_after_the_other() {
        let value = |i: usize| [0.0, 1.0, -2.0, 3.0, 0.5, 100.0, 1e-3][i % 7] * (1 + i % 3) as f32;
        let (len, norms, column) = (3 * COUNTED + 77, [1.0, 0.25, 8.0, 0.0, 3.0], 2);
        let lost: Vec<u64> = (0..len as u64).filter(|at| at % 5 == 0 || at % 11 == 3).collect();
        let values: Vec<f32> = (0..len).map(value).collect();
        let histogram = counted(&bytes(&values), Dtype::F32, Some((&norms, column)), &lost);
        let mut slow = Histogram::new(false);
        for (i, value) in values.iter().enumerate() {
            let score = (value * norms[(column + i) % norms.len()]).abs();
            let kept = u64::from(i % 5 != 0 && i % 11 != 3);
            if score == 0.0 {
                (slow.zeros, slow.kept_zeros) = (slow.zeros + 1, slow.kept_zeros + kept);
            } else {
                slow.all.add((score.to_bits() >> SHIFT) as usize, 1);
                slow.kept.add((score.to_bits() >> SHIFT) as usize, kept);
            }
        }
        assert_eq!((histogram.bins(), histogram.zeros), (slow.bins(), slow.zeros));
        assert_eq!(histogram.kept_zeros, slow.kept_zeros);
    }

    #[test]
    fn what_is_no_number_is_in_no_bin() {
        let spread = counted(&bytes(&[f32::NAN, f32::INFINITY, 1.0]), Dtype::F32, None, &[]).spread();
        assert_eq!(spread.bins.iter().map(|bin| bin.all).sum::<u64>(), 1);
    }
}
