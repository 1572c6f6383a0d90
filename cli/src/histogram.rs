//! How the scores of a tensor are spread: counts by exponent and the first bits of the mantissa. For plots only; no count
//! takes part in a decision.

use emprune::Dtype;

/// Bins of one octave: as many as the first bits of a mantissa tell apart.
const PER_OCTAVE_BITS: u32 = 3;
/// Bits of an f32 that lie below its bin.
const SHIFT: u32 = 23 - PER_OCTAVE_BITS;
/// Bins of all positive f32.
const BINS: usize = 1 << (31 - SHIFT);

/// Counts of scores, all of them and those that are kept.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    all: Vec<u64>,
    kept: Vec<u64>,
    zeros: u64,
}

/// What a histogram comes down to: the bins from the first to the last that is not empty.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) bins: Vec<Bin>,
    /// Scores that are zero: a logarithmic axis has no place for them.
    pub(crate) zeros: u64,
}

/// Counts between two scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bin {
    /// The lowest score that is in it, and the lowest that is above.
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) all: u64,
    pub(crate) kept: u64,
}

/// Count entries of a dtype, the first of them in this column, with the norms of a row.
pub(crate) type Count = fn(&mut Histogram, &[u8], Dtype, Option<&[f32]>, usize);

impl Default for Histogram {
    fn default() -> Self {
        Self { all: vec![0; BINS], kept: vec![0; BINS], zeros: 0 }
    }
}

impl Histogram {
    /// Count entries that are seen for the first time. The first is the `column`th of a row, for the norms, if the score
    /// has any.
    pub(crate) fn see(&mut self, bytes: &[u8], dtype: Dtype, norms: Option<&[f32]>, column: usize) {
        let Self { all, zeros, .. } = self;
        for_each_score(bytes, dtype, norms, column, |bits| match bits {
            0 => *zeros += 1,
            _ => all[(bits >> SHIFT) as usize] += 1,
        });
    }

    /// Count entries again that were decided: those that lost are zero now.
    pub(crate) fn keep(&mut self, bytes: &[u8], dtype: Dtype, norms: Option<&[f32]>, column: usize) {
        for_each_score(bytes, dtype, norms, column, |bits| {
            if bits != 0 {
                self.kept[(bits >> SHIFT) as usize] += 1;
            }
        });
    }

    /// When all is counted.
    pub(crate) fn spread(&self) -> Spread {
        Spread { bins: self.bins(), zeros: self.zeros }
    }

    fn bins(&self) -> Vec<Bin> {
        let edge = |bin: usize| f64::from(f32::from_bits(((bin as u32) << SHIFT).min(f32::INFINITY.to_bits() - 1)));
        let bin = |i: usize| Bin { from: edge(i), to: edge(i + 1), all: self.all[i], kept: self.kept[i] };
        let first = self.all.iter().position(|&count| count > 0);
        let last = self.all.iter().rposition(|&count| count > 0);
        // Zero is no score of the lowest bin: it was counted apart.
        let lowest = |bin: Bin| Bin { from: bin.from.max(f64::from(f32::from_bits(1))), ..bin };
        first.zip(last).map(|(first, last)| (first..=last).map(|i| lowest(bin(i))).collect()).unwrap_or_default()
    }
}

/// The bits of every score, without its sign.
fn for_each_score(bytes: &[u8], dtype: Dtype, norms: Option<&[f32]>, column: usize, mut each: impl FnMut(u32)) {
    let magnitude = |value: f32| value.to_bits() & (u32::MAX >> 1);
    let mut at = column;
    let mut score = |weight: f32| match norms {
        None => each(magnitude(weight)),
        Some(norms) => {
            let norm = norms.get(at).copied().unwrap_or_default();
            at = if at + 1 < norms.len() { at + 1 } else { 0 };
            each(magnitude(weight * norm));
        }
    };
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().for_each(|entry| score(f32::from_le_bytes(*entry))),
        Dtype::F16 => bytes.as_chunks().0.iter().for_each(|entry| score(half::f16::from_le_bytes(*entry).to_f32())),
        _ => bytes.as_chunks().0.iter().for_each(|entry| score(half::bf16::from_le_bytes(*entry).to_f32())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn every_score_is_in_the_bin_that_it_is_in() {
        let values = [1.0f32, -1.0, 1.124, 1.125, -3.9, 0.0, -0.0, 1e-45, f32::MAX];
        let mut histogram = Histogram::default();
        histogram.see(&bytes(&values), Dtype::F32, None, 0);
        histogram.keep(&bytes(&[0.0, -1.0, 0.0, 1.125]), Dtype::F32, None, 0);
        assert_eq!(histogram.zeros, 2);
        let bins: Vec<_> = histogram.bins().into_iter().filter(|bin| bin.all > 0).collect();
        let counts: Vec<_> = bins.iter().map(|bin| (bin.all, bin.kept)).collect();
        assert_eq!(counts, [(1, 0), (3, 1), (1, 1), (1, 0), (1, 0)]);
        assert_eq!((bins[1].from.to_bits(), bins[1].to.to_bits()), (1f64.to_bits(), 1.125f64.to_bits()));
        assert!(bins[0].from > 0.0 && bins[4].to.is_finite(), "a logarithmic axis needs both");
    }

    #[test]
    fn norms_are_those_of_the_columns() {
        let mut histogram = Histogram::default();
        // From the middle of a row of three on.
        histogram.see(&bytes(&[1.0, 1.0, 1.0, 1.0]), Dtype::F32, Some(&[2.0, 4.0, 0.0]), 1);
        let bins: Vec<_> = histogram.bins().into_iter().filter(|bin| bin.all > 0).map(|bin| bin.from as u32).collect();
        assert_eq!((bins, histogram.zeros), (vec![2, 4], 1));
        let mut same = Histogram::default();
        let half: Vec<u8> = [1.0f32, -2.0].iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        same.see(&half, Dtype::F16, None, 0);
        let brain: Vec<u8> = [1.0f32, -2.0].iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        same.keep(&brain, Dtype::Bf16, None, 0);
        let same = same.spread();
        assert!(same.bins.iter().all(|bin| bin.all == bin.kept));
        assert_eq!(same.bins.len(), 9, "an octave and the first bin of the next");
    }
}
