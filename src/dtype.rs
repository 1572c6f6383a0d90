//! How scores are stored: what number the bits of f16, bf16 and the two kinds of f8 are. Loops that count or compare what is stored, without widening it
//! first, say so where they stand (`cpu/levels.rs`, `cpu/lanes/kinds.rs`, `cpu/apply.rs`).
//!
//! Every dtype widens to `f32` exactly, so everything after this file sees the bits of an `f32`.
//! The WGSL twins are `shaders/parts/load_*.wgsl`.

use crate::error::Error;
use std::fmt;
use std::str::FromStr;

/// How the weights are stored.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Eight bits as in machine learning: a sign, 4 of exponent, 3 of mantissa, no infinity, and one NaN of each sign.
    F8E4m3,
    /// The upper half of a binary16: a sign, 5 bits of exponent, 2 of mantissa.
    F8E5m2,
}

impl Dtype {
    /// Bytes per entry.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F8E4m3 | Dtype::F8E5m2 => 1,
        }
    }
}

impl Dtype {
    /// The least magnitude, as it is stored, whose key is at least this one; above all magnitudes where none is.
    pub(crate) fn least(self, key: u32) -> u32 {
        let widen = match self {
            Dtype::F32 => return key,
            Dtype::Bf16 => return key.div_ceil(1 << 16),
            Dtype::F16 => |stored: u32| abs_bits_from_f16(stored as u16),
            Dtype::F8E4m3 => |stored: u32| ABS_BITS_FROM_E4M3[stored as usize],
            Dtype::F8E5m2 => |stored: u32| ABS_BITS_FROM_E5M2[stored as usize],
        };
        // Widening keeps order, so it can be undone by halving.
        let (mut low, mut high) = (0, 1 << (8 * self.size() - 1));
        while low < high {
            let middle = low + (high - low) / 2;
            if widen(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// As safetensors files name it.
impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::F8E4m3 => "F8_E4M3",
            Dtype::F8E5m2 => "F8_E5M2",
        })
    }
}

/// As it is displayed: `F32`, `F16`, `BF16`, `F8_E4M3` or `F8_E5M2`.
impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "F32" => Ok(Dtype::F32),
            "F16" => Ok(Dtype::F16),
            "BF16" => Ok(Dtype::Bf16),
            "F8_E4M3" => Ok(Dtype::F8E4m3),
            "F8_E5M2" => Ok(Dtype::F8E5m2),
            _ => {
                let known = "F32, F16, BF16, F8_E4M3 and F8_E5M2";
                Err(Error::invalid(format!("{text:?} is no dtype of weights; there are {known}")))
            }
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A Rust type that weights and scores can be stored as: `f32`, [`half::f16`] or [`half::bf16`]. Those of eight bits come as bytes.
pub trait Element: bytemuck::Pod + sealed::Sealed {
    /// The same as a value.
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Element for half::f16 {
    const DTYPE: Dtype = Dtype::F16;
}
impl Element for half::bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}

/// The bits of the `f32` that equals this f16, without its sign, in integer code: no rounding, no flushing,
/// and NaN and infinity stay what they are.
#[inline(always)]
pub(crate) const fn abs_bits_from_f16(bits: u16) -> u32 {
    let magnitude = (bits & 0x7fff) as u32;
    let exponent = magnitude >> 10;
    let mantissa = magnitude & 0x3ff;
    match exponent {
        0 if mantissa == 0 => 0,
        // A subnormal f16 is a normal f32: move its first bit to the hidden place.
        0 => {
            let shift = mantissa.leading_zeros() - 21;
            ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13)
        }
        31 => 0x7f80_0000 | (mantissa << 13),
        _ => (magnitude << 13) + (112 << 23),
    }
}

/// As [`abs_bits_from_f16`], for a whole dtype of eight bits at once.
pub(crate) static ABS_BITS_FROM_E5M2: [u32; 256] = table(false);
/// See [`ABS_BITS_FROM_E5M2`].
pub(crate) static ABS_BITS_FROM_E4M3: [u32; 256] = table(true);

const fn table(e4m3: bool) -> [u32; 256] {
    let mut bits = [0; 256];
    let mut code = 0;
    while code < 256 {
        let magnitude = code as u8 & 0x7f;
        bits[code] = if e4m3 { abs_bits_from_e4m3(magnitude) } else { abs_bits_from_f16((magnitude as u16) << 8) };
        code += 1;
    }
    bits
}

const fn abs_bits_from_e4m3(magnitude: u8) -> u32 {
    let mantissa = magnitude as u32 & 7;
    match magnitude {
        0 => 0,
        // A subnormal: mantissa * 2^-9.
        1..8 => {
            let shift = mantissa.leading_zeros() - 28;
            ((121 - shift) << 23) | (((mantissa << shift) & 7) << 20)
        }
        0x7f => 0x7fc0_0000,
        _ => ((magnitude as u32) << 20) + (120 << 23),
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "small numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn every_f16_widens_as_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            let ours = abs_bits_from_f16(bits);
            let theirs = half::f16::from_bits(bits).to_f32().to_bits() & 0x7fff_ffff;
            if half::f16::from_bits(bits).is_nan() {
                assert!(f32::from_bits(ours).is_nan(), "{bits:#06x} must stay NaN");
            } else {
                assert_eq!(ours, theirs, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn a_dtype_is_read_as_it_is_displayed() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4m3, Dtype::F8E5m2] {
            assert_eq!(dtype.to_string().parse::<Dtype>().ok(), Some(dtype));
        }
        let error = "f32".parse::<Dtype>().expect_err("no name").to_string();
        assert!(error.contains("\"f32\" is no dtype") && error.contains("F8_E5M2"), "{error}");
    }

    #[test]
    fn every_f8_widens_to_the_number_that_it_is() {
        for code in 0..=255u8 {
            for (table, exponent_bits, bias) in [(&ABS_BITS_FROM_E4M3, 4, 7), (&ABS_BITS_FROM_E5M2, 5, 15)] {
                let mantissa_bits = 7 - exponent_bits;
                let exponent = i32::from(code & 0x7f) >> mantissa_bits;
                let fraction = f64::from(code & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
                let value = match exponent {
                    15 if bias == 7 && fraction == 0.875 => f64::NAN,
                    31 if fraction == 0.0 => f64::INFINITY,
                    31 => f64::NAN,
                    0 => fraction * 2f64.powi(1 - bias),
                    _ => (1.0 + fraction) * 2f64.powi(exponent - bias),
                };
                let widened = f64::from(f32::from_bits(table[usize::from(code)]));
                assert!(widened == value || widened.is_nan() && value.is_nan(), "{code:#04x}: {widened} and {value}");
            }
        }
    }
}
