//! Integers wide enough to hold every sum exactly, and ratios of them rounded once.
//!
//! Fixed capacity, no allocation: a contest's bookkeeping is a few hundred nanoseconds, also for a million rows.

use std::cmp::Ordering;

/// Limbs of a [`Wide`]. The largest number met is a square of a sum (2 * 384 bits) times two 64-bit factors,
/// shifted by up to 66 bits for a division.
const LIMBS: usize = 18;

/// An unsigned integer below 2^1152, little-endian limbs, `len` of them significant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide {
    limbs: [u64; LIMBS],
    len: usize,
}

impl Wide {
    pub(crate) const ZERO: Self = Self { limbs: [0; LIMBS], len: 0 };

    pub(crate) fn from_limbs(limbs: &[u64]) -> Self {
        let mut wide = Self::ZERO;
        wide.limbs[..limbs.len()].copy_from_slice(limbs);
        wide.len = limbs.len();
        wide.trim()
    }

    pub(crate) fn from_u128(value: u128) -> Self {
        Self::from_limbs(&[value as u64, (value >> 64) as u64])
    }

    fn trim(mut self) -> Self {
        while self.len > 0 && self.limbs[self.len - 1] == 0 {
            self.len -= 1;
        }
        self
    }

    fn significant(&self) -> &[u64] {
        &self.limbs[..self.len]
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.len == 0
    }

    /// Position above the highest set bit.
    pub(crate) fn bits(&self) -> u32 {
        match self.significant().last() {
            Some(top) => self.len as u32 * 64 - top.leading_zeros(),
            None => 0,
        }
    }

    /// Zeros below the lowest set bit; 0 for zero.
    pub(crate) fn trailing_zeros(&self) -> u32 {
        match self.significant().iter().position(|&l| l != 0) {
            Some(at) => at as u32 * 64 + self.limbs[at].trailing_zeros(),
            None => 0,
        }
    }

    pub(crate) fn to_u128(self) -> Option<u128> {
        (self.len <= 2).then(|| u128::from(self.limbs[0]) | u128::from(self.limbs[1]) << 64)
    }

    /// The lowest 64 bits.
    pub(crate) fn low_u64(&self) -> u64 {
        self.limbs[0]
    }

    pub(crate) fn shl(&self, shift: u32) -> Self {
        if self.is_zero() {
            return *self;
        }
        let (limbs, bits) = ((shift / 64) as usize, shift % 64);
        let mut out = Self::ZERO;
        let mut carry = 0;
        for (i, &limb) in self.significant().iter().enumerate() {
            out.limbs[i + limbs] = limb << bits | carry;
            carry = if bits == 0 { 0 } else { limb >> (64 - bits) };
        }
        out.len = self.len + limbs;
        if carry != 0 {
            out.limbs[out.len] = carry;
            out.len += 1;
        }
        out
    }

    pub(crate) fn shr(&self, shift: u32) -> Self {
        let (limbs, bits) = ((shift / 64) as usize, shift % 64);
        if limbs >= self.len {
            return Self::ZERO;
        }
        let mut out = Self::ZERO;
        out.len = self.len - limbs;
        for i in 0..out.len {
            let high =
                if bits == 0 || i + limbs + 1 >= self.len { 0 } else { self.limbs[i + limbs + 1] << (64 - bits) };
            out.limbs[i] = self.limbs[i + limbs] >> bits | high;
        }
        out.trim()
    }

    pub(crate) fn mul(&self, other: &Self) -> Self {
        let mut out = Self::ZERO;
        for (i, &a) in self.significant().iter().enumerate() {
            let mut carry = 0u128;
            for (j, &b) in other.significant().iter().enumerate() {
                let sum = u128::from(a) * u128::from(b) + u128::from(out.limbs[i + j]) + carry;
                out.limbs[i + j] = sum as u64;
                carry = sum >> 64;
            }
            if carry != 0 {
                out.limbs[i + other.len] = carry as u64;
            }
        }
        out.len = if self.is_zero() || other.is_zero() { 0 } else { self.len + other.len };
        out.trim()
    }

    pub(crate) fn mul_u64(&self, factor: u64) -> Self {
        if factor == 1 { *self } else { self.mul(&Self::from_limbs(&[factor])) }
    }

    /// `self - other`, or zero where that would be negative.
    pub(crate) fn saturating_sub(&self, other: &Self) -> Self {
        if self.cmp(other) == Ordering::Less {
            return Self::ZERO;
        }
        let mut out = *self;
        let mut borrow = false;
        for i in 0..self.len {
            let (difference, first) = self.limbs[i].overflowing_sub(other.limbs[i]);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            out.limbs[i] = difference;
            borrow = first || second;
        }
        out.trim()
    }

    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        self.len.cmp(&other.len).then_with(|| self.significant().iter().rev().cmp(other.significant().iter().rev()))
    }

    /// `floor(self / divisor)` and whether it is exact, for a quotient below 2^128; `None` for larger ones.
    ///
    /// # Panics
    /// When the divisor is zero.
    pub(crate) fn div(&self, divisor: &Self) -> Option<(u128, bool)> {
        assert!(!divisor.is_zero(), "a division by zero");
        if let (Some(a), Some(b)) = (self.to_u128(), divisor.to_u128()) {
            return Some((a / b, a % b == 0));
        }
        if self.cmp(divisor) == Ordering::Less {
            return Some((0, self.is_zero()));
        }
        if self.bits() - divisor.bits() > 127 {
            return None;
        }
        Some(long_division(self, divisor))
    }

    /// The nearest `f64` to `self / divisor`, ties to even.
    pub(crate) fn ratio(&self, divisor: &Self) -> f64 {
        if self.is_zero() {
            return 0.0;
        }
        if let Some(nearest) = self.ratio_of_tops(divisor) {
            return nearest;
        }
        // Scale to a quotient of 65 or 66 bits: more than a mantissa, and its lowest bit can stand for all that follows.
        let shift = 65 + divisor.bits() as i32 - self.bits() as i32;
        let (up, down) = (self.shl(shift.max(0) as u32), divisor.shl((-shift).max(0) as u32));
        let (quotient, exact) = up.div(&down).unwrap_or((u128::MAX, true));
        scale((quotient | u128::from(!exact)) as f64, -shift)
    }

    /// [`ratio`](Self::ratio) from the highest 64 bits of both sides, unless what was cut off could change the rounding.
    fn ratio_of_tops(&self, divisor: &Self) -> Option<f64> {
        ratio_of_tops(self.top(), divisor.top(), self.bits() as i32 - divisor.bits() as i32)
    }

    /// The highest 64 bits, the highest of them set; zeros are appended to a shorter number.
    fn top(&self) -> u64 {
        let high = self.limbs[self.len - 1];
        let low = if self.len > 1 { self.limbs[self.len - 2] } else { 0 };
        let shift = high.leading_zeros();
        if shift == 0 { high } else { high << shift | low >> (64 - shift) }
    }
}

/// The nearest `f64` to a ratio whose sides have these highest 64 bits and differ by so many in length, unless what was cut off could
/// change the rounding.
fn ratio_of_tops(up: u64, down: u64, longer: i32) -> Option<f64> {
    // Each side is a 64-bit number with its highest bit set, at most one unit too small, so the quotient of 64 or 65 bits
    // is off by at most four.
    let whole = up >= down;
    let below = if whole { up - down } else { up };
    let quotient = ((u128::from(below) << 64) / u128::from(down)) as u64;
    // With its highest bit, which does not fit where the quotient has 65.
    let (mantissa, shift) = if whole { (quotient >> 1 | 1 << 63, 1) } else { (quotient, 0) };
    let bits = 64 - mantissa.leading_zeros();
    let cut = bits - 53;
    let (rest, half) = (mantissa & ((1 << cut) - 1), 1u64 << (cut - 1));
    if rest.abs_diff(half) <= 8 || rest <= 8 || rest >= 2 * half - 8 {
        return None;
    }
    Some(scale(mantissa as f64, longer - 64 + shift))
}

/// `value * 2^exponent` for a result that is a normal number.
fn scale(value: f64, exponent: i32) -> f64 {
    value * f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// The integers that a contest's budget is computed with: `u128` where it is wide enough, as for most rows, else [`Wide`].
pub(crate) trait Natural: Copy {
    fn is_zero(&self) -> bool;
    fn is_less(&self, other: &Self) -> bool;
    /// A product that fits.
    fn times(&self, factor: u64) -> Self;
    /// `self - other`, or zero where that would be negative.
    fn minus(&self, other: &Self) -> Self;
    /// `floor(self / divisor)` and whether it is exact; `None` for quotients past 2^127. The quotient is known but for a few units of a double's
    /// last place.
    fn div(&self, divisor: &Self, about: f64) -> Option<(u128, bool)>;
    /// The nearest `f64` to `self / divisor`, ties to even, where that is known in the same way.
    fn ratio(&self, divisor: &Self, about: f64) -> f64;
    /// A quicker one, of the highest 63 bits of both, which are not zero: two truncations of 2^-62, and three roundings.
    fn about(&self, divisor: &Self) -> f64;
}

impl Natural for Wide {
    fn is_zero(&self) -> bool {
        self.is_zero()
    }

    fn is_less(&self, other: &Self) -> bool {
        self.cmp(other).is_lt()
    }

    fn times(&self, factor: u64) -> Self {
        self.mul_u64(factor)
    }

    fn minus(&self, other: &Self) -> Self {
        self.saturating_sub(other)
    }

    fn div(&self, divisor: &Self, _about: f64) -> Option<(u128, bool)> {
        self.div(divisor)
    }

    fn ratio(&self, divisor: &Self, _about: f64) -> f64 {
        self.ratio(divisor)
    }

    fn about(&self, divisor: &Self) -> f64 {
        about(self.top(), divisor.top(), self.bits() as i32 - divisor.bits() as i32)
    }
}

impl Natural for u128 {
    fn is_zero(&self) -> bool {
        *self == 0
    }

    fn is_less(&self, other: &Self) -> bool {
        self < other
    }

    fn times(&self, factor: u64) -> Self {
        self * Self::from(factor)
    }

    fn minus(&self, other: &Self) -> Self {
        self.saturating_sub(*other)
    }

    fn div(&self, divisor: &Self, about: f64) -> Option<(u128, bool)> {
        // Put right by integers: a quotient below 2^49 is missed by one at most.
        if about < (1u64 << 49) as f64 && divisor.leading_zeros() >= 2 {
            let mut quotient = about as i64 as Self;
            let mut rest = self.wrapping_sub(quotient.wrapping_mul(*divisor)) as i128;
            if rest < 0 {
                (quotient, rest) = (quotient.wrapping_sub(1), rest + *divisor as i128);
            } else if rest >= *divisor as i128 {
                (quotient, rest) = (quotient + 1, rest - *divisor as i128);
            }
            return Some((quotient, rest == 0));
        }
        Some((self / divisor, self.is_multiple_of(*divisor)))
    }

    fn ratio(&self, divisor: &Self, about: f64) -> f64 {
        if *self == 0 {
            return 0.0;
        }
        if let Some(ratio) = nearest(*self, *divisor, about) {
            return ratio;
        }
        Wide::from_u128(*self).ratio(&Wide::from_u128(*divisor))
    }

    fn about(&self, divisor: &Self) -> f64 {
        about(top(*self), top(*divisor), divisor.leading_zeros() as i32 - self.leading_zeros() as i32)
    }
}

/// The nearest `f64` to a ratio, from one that is a few units off at most. `None` where it lies in the middle of two, and where one of them is
/// a power of two.
fn nearest(up: u128, down: u128, guess: f64) -> Option<f64> {
    // guess = m * 2^-shift
    let bits = guess.to_bits();
    let (m, shift) = (bits & ((1 << 52) - 1) | 1 << 52, 1075 - (bits >> 52) as i64);
    if !(0..128).contains(&shift) || down.leading_zeros() < 6 {
        return None;
    }
    // What the guess leaves is a few divisors at most, so it does not matter that both sides lose their highest bits.
    let mut rest = (up << shift).wrapping_sub(down.wrapping_mul(m.into())) as i128;
    let mut off = 0;
    while rest.unsigned_abs() > down / 2 {
        let step = rest.signum();
        rest -= step * down as i128;
        off += step as i64;
        if off.abs() > 4 {
            return None;
        }
    }
    let is_between = 2 * rest.unsigned_abs() == down;
    // Below a power of two doubles lie closer.
    let is_near = (5..(1 << 52) - 5).contains(&(m - (1 << 52))) || (off == 0 && rest >= 0);
    (!is_between && is_near).then(|| f64::from_bits(bits.wrapping_add_signed(off)))
}

/// The highest 64 bits, the highest of them set, of a number that is not zero.
fn top(value: u128) -> u64 {
    ((value << value.leading_zeros()) >> 64) as u64
}

/// A ratio whose sides have these highest 64 bits and differ by so many in length. Signed numbers, and so 63 of the bits, are converted by one
/// instruction everywhere.
fn about(up: u64, down: u64, longer: i32) -> f64 {
    scale((up >> 1) as i64 as f64 / (down >> 1) as i64 as f64, longer)
}

/// Digits in base 2^32 of a dividend, with one to spare.
const DIGITS: usize = 2 * LIMBS + 1;

/// Knuth's algorithm D in base 2^32, for a quotient below 2^128.
fn long_division(dividend: &Wide, divisor: &Wide) -> (u128, bool) {
    // Normalised, the divisor's top digit has its high bit set, so a digit guessed from two is at most two too large.
    let shift = (32 - divisor.bits() % 32) % 32;
    let (mut rest, len) = digits(&dividend.shl(shift));
    let (divisor, n) = digits(&divisor.shl(shift));
    let top = divisor[n - 1];
    // A divisor of one digit has no second one to refine the guess with, nor does it need one.
    let second = if n > 1 { divisor[n - 2] } else { 0 };
    let mut quotient = 0u128;
    for j in (0..=len - n).rev() {
        let two = rest[j + n] << 32 | rest[j + n - 1];
        let third = if n > 1 { rest[j + n - 2] } else { 0 };
        let (mut guess, mut remainder) = (two / top, two % top);
        while remainder >> 32 == 0 && (guess >> 32 != 0 || guess * second > (remainder << 32 | third)) {
            guess -= 1;
            remainder += top;
        }
        let (mut carry, mut borrow) = (0u64, 0i64);
        for i in 0..n {
            let product = guess * divisor[i] + carry;
            carry = product >> 32;
            let difference = rest[i + j] as i64 - borrow - (product & 0xffff_ffff) as i64;
            rest[i + j] = difference as u64 & 0xffff_ffff;
            borrow = i64::from(difference < 0);
        }
        let difference = rest[j + n] as i64 - borrow - carry as i64;
        rest[j + n] = difference as u64 & 0xffff_ffff;
        if difference < 0 {
            guess -= 1;
            let mut carry = 0;
            for i in 0..n {
                let sum = rest[i + j] + divisor[i] + carry;
                rest[i + j] = sum & 0xffff_ffff;
                carry = sum >> 32;
            }
            rest[j + n] = (rest[j + n] + carry) & 0xffff_ffff;
        }
        quotient = quotient << 32 | u128::from(guess);
    }
    (quotient, rest.iter().all(|&d| d == 0))
}

/// Little-endian digits in base 2^32, and how many there are without leading zeros.
fn digits(wide: &Wide) -> ([u64; DIGITS], usize) {
    let mut digits = [0; DIGITS];
    for (i, limb) in wide.significant().iter().enumerate() {
        digits[2 * i] = limb & 0xffff_ffff;
        digits[2 * i + 1] = limb >> 32;
    }
    (digits, wide.bits().div_ceil(32) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    fn big(wide: &Wide) -> BigUint {
        wide.significant().iter().rev().fold(BigUint::ZERO, |sum, &l| (sum << 64u32) + l)
    }

    /// Limbs of which many are all ones or all zeros: where a guessed digit is wrong.
    fn limbs(most: usize) -> impl Strategy<Value = Vec<u64>> {
        let limb = prop_oneof![
            Just(0u64),
            Just(u64::MAX),
            Just(1u64 << 63),
            Just(0xffff_ffff),
            Just(0xffff_ffff_0000_0000),
            any::<u64>(),
            0u64..16
        ];
        prop::collection::vec(limb, 0..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn arithmetic_is_that_of_the_integers(a in limbs(6), b in limbs(6), shift in 0u32..200) {
            let (x, y) = (Wide::from_limbs(&a), Wide::from_limbs(&b));
            prop_assert_eq!(big(&x.mul(&y)), big(&x) * big(&y));
            prop_assert_eq!(big(&x.shl(shift)), big(&x) << shift);
            prop_assert_eq!(big(&x.shr(shift)), big(&x) >> shift);
            prop_assert_eq!(x.cmp(&y), big(&x).cmp(&big(&y)));
            prop_assert_eq!(u64::from(x.bits()), big(&x).bits());
            prop_assert_eq!(u64::from(x.trailing_zeros()), big(&x).trailing_zeros().unwrap_or(0));
            let larger = big(&x).max(big(&y));
            let difference = big(&x.saturating_sub(&y));
            prop_assert_eq!(difference, larger - big(&y));
        }

        #[test]
        fn division_is_that_of_the_integers(b in limbs(7), q in any::<u128>(), r in limbs(7), small in 0u32..120) {
            let (y, q) = (Wide::from_limbs(&b), q >> small);
            prop_assume!(!y.is_zero());
            // A dividend with a known quotient of every size, and a remainder that is often 0 or y - 1.
            let rest = Wide::from_limbs(&r);
            let rest = if rest.cmp(&y) == Ordering::Less { rest } else { y.saturating_sub(&Wide::from_u128(1)) };
            let x = big(&y) * q + big(&rest);
            let mut words = x.to_u64_digits();
            words.truncate(LIMBS);
            let got = Wide::from_limbs(&words).div(&y);
            prop_assert!(got == Some((q, rest.is_zero())) || (got.is_none() && q >> 126 != 0), "{:?} for {}", got, q);
        }

        /// Where two doubles a bit apart are the exact bounds of the quotient, it must be one of them, the nearer one.
        #[test]
        fn a_ratio_of_long_numbers_is_the_nearest_double(a in limbs(6), b in limbs(6)) {
            let one_for_zero = |x: Wide| if x.is_zero() { Wide::from_u128(1) } else { x };
            let (x, y) = (one_for_zero(Wide::from_limbs(&a)), one_for_zero(Wide::from_limbs(&b)));
            let got = x.ratio(&y);
            // got = m * 2^e; nearest: |x - y * m * 2^e| <= y * 2^e / 2, scaled to integers.
            let (m, e) = (got.to_bits() & ((1 << 52) - 1) | 1 << 52, (got.to_bits() >> 52) as i32 - 1075);
            let (up, down) = (big(&x) << (2 + (-e).max(0)) as u32, big(&y) << (2 + e.max(0)) as u32);
            let (value, half) = (&down * m, &down / 2u32);
            let error = if up > value { &up - &value } else { &value - &up };
            prop_assert!(error <= half, "{} is not the nearest", got);
        }

        #[test]
        fn short_integers_are_as_long_ones(a in any::<u128>(), b in any::<u128>(), up in 0u32..128, down in 0u32..128, small in 0u128..600) {
            // Of any length, and often one side a small multiple of the other, or nearly.
            let (a, b) = (a >> up, (b >> down).max(1));
            let near = b.checked_mul(small).unwrap_or(b);
            for a in [a, near, near.saturating_sub(1), near.saturating_add(1)] {
                let (x, y) = (Wide::from_u128(a), Wide::from_u128(b));
                prop_assert_eq!(Natural::minus(&a, &b), a.saturating_sub(b));
                if a != 0 {
                    let (about, exact) = (Natural::about(&a, &b), x.ratio(&y));
                    for off in [0, 1, -1, 3, -3] {
                        let near = f64::from_bits(about.to_bits().wrapping_add_signed(off));
                        prop_assert_eq!(Natural::div(&a, &b, near), x.div(&y));
                        prop_assert_eq!(Natural::ratio(&a, &b, near).to_bits(), exact.to_bits(), "{} / {}", a, b);
                    }
                    prop_assert_eq!(about.to_bits(), Natural::about(&x, &y).to_bits());
                    prop_assert!((about - exact).abs() <= 2.0 * f64::EPSILON * exact, "{} / {}", a, b);
                }
            }
        }

        #[test]
        fn a_ratio_is_the_nearest_double(a in 1u64..1 << 53, b in 1u64..1 << 53, up in 0u32..500, down in 0u32..500) {
            // Both sides are doubles, so the processor's division is rounded once, and shifts are exact.
            let (x, y) = (Wide::from_limbs(&[a]).shl(up), Wide::from_limbs(&[b]).shl(down));
            let expected = a as f64 / b as f64 * 2f64.powi(up as i32 - down as i32);
            prop_assert_eq!(x.ratio(&y).to_bits(), expected.to_bits());
        }
    }
}
