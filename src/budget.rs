//! From two exact sums to what a contest keeps and what that is worth, in integers.
//!
//! `floor(beta * N_eff)` is the floor of an exact rational, `beta * S^2 / Q`. The floats of this file only measure: each is
//! rounded once from an exact value, except the certificate, which is rounded down so that it stays one. The WGSL twin
//! of [`keep_count`] is `shaders/parts/budget.wgsl`.

use crate::exact::Wide;
use crate::rule::Beta;
use crate::sums::{Moments, Sum};

/// `S^2` and `Q` without the powers of two that they share, so that they are as short as the data allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effective {
    squared_sum: Wide,
    square_sum: Wide,
}

impl Effective {
    /// `None` when every score is zero: there is no effective number then.
    pub(crate) fn new(moments: &Moments) -> Option<Self> {
        let (sum, square) = (moments.sum.wide(), moments.square.wide());
        if sum.is_zero() {
            return None;
        }
        let shared = sum.trailing_zeros().min(square.trailing_zeros() / 2);
        let sum = sum.shr(shared);
        Some(Self { squared_sum: sum.mul(&sum), square_sum: square.shr(2 * shared) })
    }

    /// `clamp(floor(beta * N_eff), 1, len)`.
    pub(crate) fn keep_count(&self, beta: Beta, len: u64) -> u64 {
        let up = self.squared_sum.mul_u64(beta.numerator());
        let down = self.square_sum.mul_u64(beta.denominator());
        // `None` is a quotient past 2^127: more than there is.
        let kept = up.div(&down).map_or(u128::MAX, |(floor, _)| floor);
        u64::try_from(kept).unwrap_or(u64::MAX).clamp(1, len)
    }

    /// The nearest `f64` to `S^2 / Q`.
    pub(crate) fn n_eff(&self) -> f64 {
        self.squared_sum.ratio(&self.square_sum)
    }

    /// The least preserved mass that any scores with this length, `N_eff` and `kept` could have: never above the exact value,
    /// and less than 1e-14 below it.
    ///
    /// The smallest top-k mass at a fixed inverse Simpson index lies on an edge between two corners of the ordered simplex,
    /// `v_i = (1/i, .., 1/i, 0, ..)`; three edges can hold it.
    pub(crate) fn mass_bound(&self, len: u64, kept: u64) -> f64 {
        if kept == len {
            return 1.0;
        }
        // N_eff lies in 1..=len, so the division is always there.
        let (floor, exact) = self.squared_sum.div(&self.square_sum).unwrap_or((1, false));
        let floor = (floor as u64).clamp(1, len);
        let ceil = if exact { floor } else { (floor + 1).min(len) };
        [(1, len), (1, ceil), (floor, ceil)].into_iter().map(|(i, j)| self.edge(i, j, kept)).fold(1.0, f64::min)
    }

    /// `t * min(1, k/i) + (1 - t) * min(1, k/j)` with `t^2 = i (j Q - S^2) / ((j - i) S^2)`, rounded down.
    fn edge(&self, i: u64, j: u64, kept: u64) -> f64 {
        let corner = |i: u64| if kept >= i { 1.0 } else { kept as f64 / i as f64 };
        let (near, far) = (corner(i), corner(j));
        if far >= 1.0 {
            return 1.0; // both corners keep everything
        }
        let up = self.square_sum.mul_u64(j).saturating_sub(&self.squared_sum).mul_u64(i);
        let down = self.squared_sum.mul_u64(j - i);
        let value = if i == j || up.is_zero() {
            far
        } else if up.cmp(&down).is_ge() {
            if near >= 1.0 {
                return 1.0; // t = 1, exactly
            }
            near
        } else {
            // The difference above is exact, so this is the only rounding of t^2: no cancellation, never negative.
            let t = up.ratio(&down).sqrt();
            t * near + (1.0 - t) * far
        };
        // Every step above errs by at most half a unit in the last place, and no term is negative: together below
        // seven of them. 2^-50 is eight.
        value * (1.0 - f64::EPSILON * 4.0)
    }
}

/// The nearest `f64` to `kept / all`.
pub(crate) fn mass(kept: &Sum, all: &Sum) -> f64 {
    kept.wide().ratio(&all.wide())
}

/// Mass and certificate of scores that are all alike, zeros in particular: the kept share, the second rounded down.
pub(crate) fn mass_of_equals(len: u64, kept: u64) -> (f64, f64) {
    if kept == len {
        return (1.0, 1.0);
    }
    let share = Wide::from_limbs(&[kept]).ratio(&Wide::from_limbs(&[len]));
    (share, share * (1.0 - f64::EPSILON * 4.0))
}
