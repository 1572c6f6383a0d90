//! From two exact sums to what a contest keeps and what that is worth, in integers.
//!
//! `floor(beta * N_eff)` is the floor of an exact rational, `beta * S^2 / Q`. The floats of this file only measure: each is
//! rounded once from an exact value, except the certificate, which is rounded down so that it stays one. The WGSL twins
//! of [`Effective::keep_count`] are `leading.wgsl` and `budget.wgsl` in `shaders/parts/`, and for short rows `count.wgsl` and `count_digits.wgsl`.

use crate::exact::{Natural, Wide};
use crate::rule::Beta;
use crate::sums::Moments;

/// `S^2` and `Q` without the powers of two that they share, in the shortest integers that will do.
#[derive(Clone, Debug)]
pub(crate) enum Effective {
    Short(Fraction<u128>),
    Long(Box<Fraction<Wide>>),
}

impl Effective {
    /// `None` when every score is zero: there is no effective number then.
    pub(crate) fn new(moments: &Moments, len: u64) -> Option<Self> {
        let (sum, square) = (moments.sum.wide(), moments.square.wide());
        if sum.is_zero() {
            return None;
        }
        let shared = sum.trailing_zeros().min(square.trailing_zeros() / 2);
        let (sum, square_sum) = (sum.shr(shared), square.shr(2 * shared));
        let short = match (sum.to_u128(), square_sum.to_u128()) {
            (Some(sum), Some(square)) => Self::short(sum, square, len),
            _ => None,
        };
        short.or_else(|| Some(Self::Long(Box::new(Fraction::new(sum.mul(&sum), square_sum)))))
    }

    /// From sums in any unit, where the numbers on the way to the certificate are short enough.
    #[inline]
    pub(crate) fn short(sum: u128, square_sum: u128, len: u64) -> Option<Self> {
        let (bits, of_len) = (|value: u128| 128 - value.leading_zeros(), 64 - len.leading_zeros());
        let fits = 2 * bits(sum) + of_len <= 128 && bits(square_sum) + 2 * of_len <= 128;
        (fits && sum != 0).then(|| Self::Short(Fraction::new(sum * sum, square_sum)))
    }

    /// `clamp(floor(beta * N_eff), 1, len)`.
    pub(crate) fn keep_count(&self, beta: Beta, len: u64) -> u64 {
        match self {
            Self::Short(fraction) => {
                let Fraction { squared_sum, square_sum, .. } = *fraction;
                let spare = squared_sum.leading_zeros().min(square_sum.leading_zeros());
                if beta.numerator().max(beta.denominator()) >> spare.min(63) == 0 {
                    return fraction.keep_count(beta, len);
                }
                let [squared_sum, square_sum] = [squared_sum, square_sum].map(Wide::from_u128);
                Fraction::new(squared_sum, square_sum).keep_count(beta, len)
            }
            Self::Long(fraction) => fraction.keep_count(beta, len),
        }
    }

    /// The nearest `f64` to `S^2 / Q`.
    pub(crate) fn n_eff(&self) -> f64 {
        match self {
            Self::Short(fraction) => fraction.n_eff(),
            Self::Long(fraction) => fraction.n_eff(),
        }
    }

    /// The least preserved mass that any scores with this length, `N_eff` and `kept` could have: never above the exact value,
    /// and less than 1e-14 below it.
    ///
    /// The smallest top-k mass at a fixed inverse Simpson index lies on an edge between two corners of the ordered simplex,
    /// `v_i = (1/i, .., 1/i, 0, ..)`; three edges can hold it.
    pub(crate) fn mass_bound(&self, len: u64, kept: u64) -> f64 {
        match self {
            _ if kept == len => 1.0,
            Self::Short(fraction) => fraction.mass_bound(len, kept),
            Self::Long(fraction) => fraction.mass_bound(len, kept),
        }
    }
}

/// `S^2 / Q`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fraction<N> {
    squared_sum: N,
    square_sum: N,
    /// The ratio, but for a few units of a double's last place.
    about: f64,
}

impl<N: Natural> Fraction<N> {
    fn new(squared_sum: N, square_sum: N) -> Self {
        Self { squared_sum, square_sum, about: squared_sum.about(&square_sum) }
    }

    fn keep_count(&self, beta: Beta, len: u64) -> u64 {
        let up = self.squared_sum.times(beta.numerator());
        let down = self.square_sum.times(beta.denominator());
        // `None` is a quotient past 2^127: more than there is.
        let about = self.about * (beta.numerator() as f64 / beta.denominator() as f64);
        let kept = up.div(&down, about).map_or(u128::MAX, |(floor, _)| floor);
        u64::try_from(kept).unwrap_or(u64::MAX).clamp(1, len)
    }

    fn n_eff(&self) -> f64 {
        self.squared_sum.ratio(&self.square_sum, self.about)
    }

    fn mass_bound(&self, len: u64, kept: u64) -> f64 {
        let first = self.edge(1, len, kept);
        if is_least_edge(first, kept as f64, self.about) {
            return first;
        }
        // N_eff lies in 1..=len, so the division is always there.
        let (floor, exact) = self.squared_sum.div(&self.square_sum, self.about).unwrap_or((1, false));
        let floor = (floor as u64).clamp(1, len);
        let ceil = if exact { floor } else { (floor + 1).min(len) };
        [(1, ceil), (floor, ceil)].into_iter().map(|(i, j)| self.edge(i, j, kept)).fold(first, f64::min)
    }

    /// `t * min(1, k/i) + (1 - t) * min(1, k/j)` with `t^2 = i (j Q - S^2) / ((j - i) S^2)`, rounded down.
    fn edge(&self, i: u64, j: u64, kept: u64) -> f64 {
        let corner = |i: u64| if kept >= i { 1.0 } else { kept as f64 / i as f64 };
        let (near, far) = (corner(i), corner(j));
        if far >= 1.0 {
            return 1.0; // both corners keep everything
        }
        let up = self.square_sum.times(j).minus(&self.squared_sum).times(i);
        let down = self.squared_sum.times(j - i);
        // The difference above is exact: no cancellation, never negative.
        if i == j || up.is_zero() {
            on_an_edge(0.0, near, far)
        } else if up.is_less(&down) {
            on_an_edge(up.ratio(&down, up.about(&down)), near, far)
        } else if near >= 1.0 {
            1.0 // t = 1, exactly
        } else {
            on_an_edge(1.0, near, far)
        }
    }
}

/// Between two corners of which the nearer one keeps more, from the nearest double to `t^2`, rounded down.
#[inline(always)]
pub(crate) fn on_an_edge(t_squared: f64, near: f64, far: f64) -> f64 {
    let t = t_squared.sqrt();
    // In units of 2^-53: t^2 is off by one, t by two, then come five roundings, and no term is negative. 2^-49 is sixteen.
    (t * near + (1.0 - t) * far) * (1.0 - f64::EPSILON * 8.0)
}

/// Whether the edge from one entry to all of them is safely the least: the others lie above their far corner, which is the next integer from
/// `N_eff` on. So it is for any contest that keeps a few.
#[inline(always)]
pub(crate) fn is_least_edge(first: f64, kept: f64, n_eff: f64) -> bool {
    // A little more than `N_eff`, which may be off: a corner further out lies lower.
    first < 0.999 * kept / (n_eff * (1.0 + 1e-9)).ceil()
}

/// The nearest `f64` to `kept / all`.
pub(crate) fn mass(kept: u64, all: u64) -> f64 {
    if (kept | all) >> 53 == 0 {
        return kept as i64 as f64 / all as i64 as f64; // two doubles: the processor rounds once
    }
    let (kept, all) = (u128::from(kept), u128::from(all));
    if kept == 0 { 0.0 } else { kept.ratio(&all, kept.about(&all)) }
}

/// Mass and certificate of scores that are all alike, zeros in particular: the kept share, the second rounded down.
pub(crate) fn mass_of_equals(len: u64, kept: u64) -> (f64, f64) {
    if kept == len {
        return (1.0, 1.0);
    }
    let share = mass(kept, len);
    (share, share * (1.0 - f64::EPSILON * 4.0))
}
