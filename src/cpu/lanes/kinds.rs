//! What keys are in their lanes: integers that compare as scores do, as short as the dtype allows, so that more of them fit a vector.

use crate::dtype::{ABS_BITS_FROM_E4M3, ABS_BITS_FROM_E5M2, Dtype, abs_bits_from_f16};
use crate::key::{self, Keys};
use std::fmt::Debug;
use std::ops::{AddAssign, BitAnd, BitOr, BitOrAssign, BitXor, Not, Shl, Shr, Sub, SubAssign};

/// A key, a count of keys or a choice. Signed, since signed lanes are compared in one instruction everywhere; no key has the sign.
pub(super) trait Lane:
    Copy
    + Ord
    + Debug
    + AddAssign
    + SubAssign
    + BitOrAssign
    + From<bool>
    + Sub<Output = Self>
    + Not<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
    + bytemuck::Pod
{
    const ZERO: Self;
    const ONE: Self;
    const MAX: Self;
    const BITS: u32;
    /// What fits.
    fn of(value: u32) -> Self;
    /// Its bits, and zeros above.
    fn bits(self) -> u32;
    /// All ones where it is negative, else zero.
    #[inline(always)]
    fn sign(self) -> Self {
        self >> (Self::BITS - 1)
    }
}

macro_rules! lanes {
    ($($type:ty, $unsigned:ty;)*) => {$(
        impl Lane for $type {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const MAX: Self = <$type>::MAX;
            const BITS: u32 = <$type>::BITS;

            #[inline(always)]
            fn of(value: u32) -> Self {
                value as Self
            }

            #[inline(always)]
            fn bits(self) -> u32 {
                u32::from(self as $unsigned)
            }
        }
    )*};
}

lanes! {
    i16, u16;
    i32, u32;
}

/// A value in the window of its contest.
pub(super) trait Value: Copy + AddAssign + From<u32> + Into<u64> {}
impl Value for u32 {}
impl Value for u64 {}

/// A kind of keys.
pub(super) trait Kind {
    type Key: Lane;
    /// What holds the sum of [`SHORT`](super::SHORT) values.
    type Value: Value;
    /// Bits of a mantissa.
    const MANTISSA: u32;
    /// Bits by which a window reaches below its largest key.
    const REACH: u32;
    /// Where the lowest bit of a window is in a [`Sum`](crate::sums::Sum), if the exponent of its largest key were 0.
    const PLACE: i32;
    /// Infinity, and the least of what is no number.
    const END: Self::Key;
    /// Bits of a value.
    const VALUE: u32 = Self::MANTISSA + 1 + Self::REACH;
    /// Squares of values that are this short add up in 64 bits; longer ones are multiplied half by half.
    const IS_SHORT: bool = Self::VALUE <= 25;

    /// The keys of the entries from `first` on.
    fn fill(keys: &Keys<'_>, first: usize, out: &mut [Self::Key]);

    /// The bits of the `f32` that a key stands for.
    fn widen(key: Self::Key) -> u32;

    /// `m << REACH >> (top - e)`.
    fn value(key: Self::Key, top: u32) -> Self::Value;

    /// The biased exponent, with subnormals counted as what they are: 1.
    #[inline(always)]
    fn exponent(key: Self::Key) -> u32 {
        (key.bits() >> Self::MANTISSA).max(1)
    }

    /// The integer `m` of which the exponent is that.
    #[inline(always)]
    fn significand(key: Self::Key) -> u32 {
        let hidden = 1 << Self::MANTISSA;
        let mantissa = key.bits() & (hidden - 1);
        if key.bits() < hidden { mantissa } else { mantissa | hidden }
    }
}

/// Any keys. The window is shorter than that of longer contests, so that the numbers on the way to the certificate fit 128 bits.
pub(super) struct Single;

impl Kind for Single {
    type Key = i32;
    type Value = u64;
    const MANTISSA: u32 = 23;
    const REACH: u32 = 26;
    const PLACE: i32 = -9;
    const END: i32 = key::KEY_END as i32;

    #[inline(always)]
    fn fill(keys: &Keys<'_>, first: usize, out: &mut [i32]) {
        keys.fill(first, bytemuck::cast_slice_mut(out));
    }

    #[inline(always)]
    fn widen(key: i32) -> u32 {
        key as u32
    }

    #[inline(always)]
    fn value(key: i32, top: u32) -> u64 {
        u64::from(Self::significand(key)) << Self::REACH >> top.wrapping_sub(Self::exponent(key)).min(63)
    }
}

/// Weights in bf16 that are their own scores. Every f8 is a bf16 too.
pub(super) struct Brain;

impl Kind for Brain {
    type Key = i16;
    type Value = u32;
    const MANTISSA: u32 = 7;
    const REACH: u32 = 17;
    const PLACE: i32 = 16;
    const END: i16 = 0x7f80;

    #[inline(always)]
    fn fill(keys: &Keys<'_>, first: usize, out: &mut [i16]) {
        let (bytes, dtype, _) = keys.parts();
        let table = match dtype {
            Dtype::F8E4m3 => &ABS_BITS_FROM_E4M3,
            Dtype::F8E5m2 => &ABS_BITS_FROM_E5M2,
            _ => return magnitudes(bytes, first, out),
        };
        for (key, &raw) in out.iter_mut().zip(&bytes[first..]) {
            *key = (table[usize::from(raw)] >> 16) as i16;
        }
    }

    #[inline(always)]
    fn widen(key: i16) -> u32 {
        key.bits() << 16
    }

    #[inline(always)]
    fn value(key: i16, top: u32) -> u32 {
        Self::significand(key) << Self::REACH >> top.wrapping_sub(Self::exponent(key)).min(31)
    }
}

/// Weights in f16 that are their own scores.
pub(super) struct Half;

impl Kind for Half {
    type Key = i16;
    type Value = u32;
    const MANTISSA: u32 = 10;
    const REACH: u32 = 14;
    const PLACE: i32 = 128;
    const END: i16 = 0x7c00;

    #[inline(always)]
    fn fill(keys: &Keys<'_>, first: usize, out: &mut [i16]) {
        magnitudes(keys.parts().0, first, out);
    }

    #[inline(always)]
    fn widen(key: i16) -> u32 {
        abs_bits_from_f16(key as u16)
    }

    #[inline(always)]
    fn value(key: i16, top: u32) -> u32 {
        Self::significand(key) << Self::REACH >> top.wrapping_sub(Self::exponent(key)).min(31)
    }
}

/// What is stored, without signs.
#[inline(always)]
fn magnitudes(bytes: &[u8], first: usize, out: &mut [i16]) {
    for (key, raw) in out.iter_mut().zip(bytes[2 * first..].as_chunks().0) {
        *key = i16::from_le_bytes(*raw) & i16::MAX;
    }
}
