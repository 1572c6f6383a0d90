//! How scores are stored, and the only place that knows the bits of f16 and bf16.
//!
//! Every dtype widens to `f32` exactly, so everything after this file sees the bits of an `f32`.
//! The WGSL twins are `shaders/parts/load_{f32,f16,bf16}.wgsl`.

use std::fmt;

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
}

impl Dtype {
    /// Bytes per entry.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A number type that scores can have: `f32`, [`half::f16`] or [`half::bf16`].
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

#[cfg(test)]
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
}
