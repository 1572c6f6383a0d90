//! From a stored weight to the key that decides: the bits of its score, without the sign.
//!
//! Non-negative `f32`s sort as their bits do, so keys are compared, counted and summed as integers and no float
//! operation takes part: WGSL may flush, fuse and reassociate floats, and a caller of the CPU backend may have switched
//! its processor to flush subnormals. The WGSL twin is `shaders/parts/key.wgsl`.

use crate::dtype::{ABS_BITS_FROM_E4M3, ABS_BITS_FROM_E5M2, Dtype, abs_bits_from_f16};
use crate::error::{Error, NonFinite};

/// Keys from here up are infinity and NaN.
pub(crate) const KEY_END: u32 = 0x7f80_0000;

/// A run of weights that can be read as keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    bytes: &'a [u8],
    dtype: Dtype,
    norms: Option<Norms<'a>>,
}

/// One norm per column, and the column of the run's first entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norms<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) column: usize,
}

/// Scores that the caller gave for some weights, one each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) dtype: Dtype,
}

/// The first entry, of some run, whose score is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) at: u64,
    pub(crate) what: NonFinite,
}

impl Bad {
    /// The error to return when the run starts at entry `start` of a tensor.
    pub(crate) fn error(self, tensor: usize, start: u64) -> Error {
        Error::non_finite(tensor, start + self.at, self.what)
    }
}

impl<'a> Keys<'a> {
    pub(crate) fn new(bytes: &'a [u8], dtype: Dtype, norms: Option<Norms<'a>>) -> Self {
        Self { bytes, dtype, norms }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// What the keys are made of.
    pub(crate) fn parts(&self) -> (&'a [u8], Dtype, Option<Norms<'a>>) {
        (self.bytes, self.dtype, self.norms)
    }

    /// The keys of the entries `first..first + out.len()`.
    #[inline(always)]
    pub(crate) fn fill(&self, first: usize, out: &mut [u32]) {
        let size = self.dtype.size();
        let bytes = &self.bytes[first * size..(first + out.len()) * size];
        match self.dtype {
            Dtype::F32 => {
                for (key, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *key = u32::from_le_bytes(*raw) & 0x7fff_ffff;
                }
            }
            Dtype::Bf16 => {
                for (key, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *key = (u32::from(u16::from_le_bytes(*raw)) & 0x7fff) << 16;
                }
            }
            Dtype::F16 => {
                for (key, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *key = abs_bits_from_f16(u16::from_le_bytes(*raw));
                }
            }
            Dtype::F8E4m3 | Dtype::F8E5m2 => {
                let table = if self.dtype == Dtype::F8E4m3 { &ABS_BITS_FROM_E4M3 } else { &ABS_BITS_FROM_E5M2 };
                for (key, raw) in out.iter_mut().zip(bytes) {
                    *key = table[usize::from(*raw)];
                }
            }
        }
        if let Some(norms) = self.norms {
            let columns = norms.values.len();
            let mut column = (norms.column + first) % columns;
            for key in out {
                *key = product(*key, norms.values[column].to_bits() & 0x7fff_ffff);
                column = if column + 1 == columns { 0 } else { column + 1 };
            }
        }
    }

    /// How those of these entries that there are are stored.
    pub(crate) fn stored(&self, entries: std::ops::Range<usize>) -> &'a [u8] {
        let [start, end] = [entries.start, entries.end].map(|at| at.min(self.len()) * self.dtype.size());
        &self.bytes[start..end]
    }

    /// Those of some neighbouring entries.
    pub(crate) fn part(&self, entries: std::ops::Range<usize>) -> Self {
        let size = self.dtype.size();
        let norms = self.norms.map(|n| Norms { column: (n.column + entries.start) % n.values.len(), ..n });
        Self { bytes: &self.bytes[entries.start * size..entries.end * size], dtype: self.dtype, norms }
    }

    /// Why the score of entry `at` is not a number.
    pub(crate) fn what_is_wrong(&self, at: usize) -> NonFinite {
        let mut weight = [0];
        Keys { norms: None, ..*self }.fill(at, &mut weight);
        match weight[0] {
            KEY_END => NonFinite::Infinity,
            key if key > KEY_END => NonFinite::Nan,
            _ => NonFinite::Product,
        }
    }
}

/// The bits of the `f32` nearest to the exact product of two non-negative ones, ties to even, subnormals kept.
/// A weight that is NaN or infinite stays what it is; a product too large gives infinity. The norm is finite.
#[inline(always)]
fn product(weight: u32, norm: u32) -> u32 {
    if weight >= KEY_END {
        return weight;
    }
    let (a, b) = (significand(weight), significand(norm));
    let exact = u64::from(a) * u64::from(b); // below 2^48
    if exact == 0 {
        return 0;
    }
    let bits = 64 - exact.leading_zeros() as i32;
    let exponents = exponent(weight) as i32 + exponent(norm) as i32;
    // A normal result keeps 24 bits; one below the normal range loses as many more as it is below.
    let drop = (bits - 24).max(151 - exponents);
    let biased = exponents - 150 + drop;
    if biased >= 255 {
        return KEY_END;
    }
    let rounded = if drop <= 0 {
        exact << -drop
    } else if drop >= 50 {
        0 // less than half of the smallest subnormal
    } else {
        let kept = exact >> drop;
        let lost = exact & ((1 << drop) - 1);
        let half = 1u64 << (drop - 1);
        kept + u64::from(lost > half || (lost == half && kept & 1 == 1))
    };
    // The hidden bit, where there is one, adds one to the exponent field; so does a carry out of the rounding.
    (((biased - 1) as u32) << 23) + rounded as u32
}

/// The integer `m` in `value = m * 2^(exponent - 150)`.
#[inline(always)]
pub(crate) const fn significand(key: u32) -> u32 {
    let mantissa = key & 0x7f_ffff;
    if key >> 23 == 0 { mantissa } else { mantissa | 0x80_0000 }
}

/// The biased exponent, with subnormals counted as what they are: 1.
#[inline(always)]
pub(crate) const fn exponent(key: u32) -> u32 {
    let biased = key >> 23;
    if biased == 0 { 1 } else { biased }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hostile_bits() -> impl Strategy<Value = u32> {
        prop_oneof![
            0..KEY_END,
            0u32..0x0100_0000,
            0x7e00_0000..KEY_END,
            (0u32..255, 0u32..4).prop_map(|(e, m)| e << 23 | m)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]

        /// The processor multiplies IEEE floats as the rule asks, so here it may judge the integers.
        #[test]
        fn a_product_is_the_nearest_float(a in hostile_bits(), b in hostile_bits()) {
            let expected = (f32::from_bits(a) * f32::from_bits(b)).to_bits();
            prop_assert_eq!(product(a, b), expected, "{:#010x} * {:#010x}", a, b);
        }
    }

    #[test]
    fn a_threshold_among_the_stored_is_one_among_the_keys() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4m3, Dtype::F8E5m2] {
            let mut bytes = [0; 4];
            for key in
                (0..0x7f80_0000u32).step_by(99_991).chain([0, 1, 0x33ff_ffff, 0x3400_0000, 0x7f7f_ffff, 0x7f80_0000])
            {
                let least = dtype.least(key);
                let mut key_of = |stored: u32| {
                    bytes = stored.to_le_bytes();
                    let mut out = [0];
                    Keys::new(&bytes[..dtype.size()], dtype, None).fill(0, &mut out);
                    out[0]
                };
                assert!(least == 0 || key_of(least - 1) < key, "{dtype}: {key:#010x}");
                let none = least == 1 << (8 * dtype.size() - 1);
                assert!(none || key_of(least) >= key, "{dtype}: {key:#010x}");
            }
        }
    }

    #[test]
    fn a_weight_that_is_no_number_stays_so() {
        for weight in [0x7f80_0000, 0x7fc0_0000, 0x7f80_0001] {
            assert_eq!(product(weight, 0), weight, "even times a zero norm");
        }
    }
}
