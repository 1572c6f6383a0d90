//! Ratios of long integers for many contests at once: in pairs of doubles, and told only where a pair leaves no doubt.
//!
//! A pair is an unevaluated sum, good for about 100 bits. The products are Dekker's: additions and multiplications alone, which Rust
//! carries out as they are written, so every processor finds the same, and the vectoriser has no choices to make. What a pair tells is the
//! nearest double to the exact value, as the integers of [`crate::budget`] tell it: where the value lies closer than [`DOUBT`] to the
//! middle of two doubles, it says so, and the integers are asked.

use crate::budget;

/// Doubt about a pair, relative to it: far more than the error of the few operations here, each less than 2^-98.
const DOUBT: f64 = 1.0 / (1u128 << 80) as f64;

/// `high + low`, where `low` is at most half a unit in the last place of `high`.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    high: f64,
    low: f64,
}

/// A double, and whether it is sure to be the nearest one: 1 or 0, as lanes have no other truth.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) value: f64,
    pub(super) sure: u64,
}

impl Pair {
    pub(super) const ZERO: Self = Self { high: 0.0, low: 0.0 };

    /// An integer, exactly.
    #[inline(always)]
    pub(super) fn of(value: u64) -> Self {
        // The lowest bits of 2^52: no processor before AVX-512 converts 64-bit lanes.
        let [high, low] =
            [value >> 32, value & 0xffff_ffff].map(|half| f64::from_bits(0x433u64 << 52 | half) - (1u64 << 52) as f64);
        Self::ordered(high * (1u64 << 32) as f64, low)
    }

    /// `a + b`, exactly, where `a` is the larger one.
    #[inline(always)]
    fn ordered(a: f64, b: f64) -> Self {
        let high = a + b;
        Self { high, low: b - (high - a) }
    }

    /// `a + b`, exactly.
    #[inline(always)]
    fn sum(a: f64, b: f64) -> Self {
        let high = a + b;
        let part = high - a;
        Self { high, low: (a - (high - part)) + (b - part) }
    }

    /// `a * b`, exactly.
    #[inline(always)]
    fn product(a: f64, b: f64) -> Self {
        // Two halves of 26 bits and a sign each.
        let halves = |x: f64| {
            let c = x * ((1 << 27) + 1) as f64;
            let high = c - (c - x);
            (high, x - high)
        };
        let (high, (a, rest_a), (b, rest_b)) = (a * b, halves(a), halves(b));
        Self { high, low: ((a * b - high) + a * rest_b + rest_a * b) + rest_a * rest_b }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        let sum = Self::sum(self.high, other.high);
        Self::ordered(sum.high, sum.low + (self.low + other.low))
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.plus(Self { high: -other.high, low: -other.low })
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        let product = Self::product(self.high, other.high);
        Self::ordered(product.high, product.low + (self.high * other.low + self.low * other.high))
    }

    /// Times a power of two.
    #[inline(always)]
    fn scaled(self, by: f64) -> Self {
        Self { high: self.high * by, low: self.low * by }
    }

    #[inline(always)]
    fn over(self, other: Self) -> Self {
        let quotient = self.high / other.high;
        let product = Self::product(quotient, other.high);
        let rest = ((self.high - product.high) - product.low) + (self.low - quotient * other.low);
        Self::ordered(quotient, rest / other.high)
    }

    /// The nearest double to what this stands for, give or take `doubt`. Not sure of what is no number.
    #[inline(always)]
    fn nearest(self, doubt: f64) -> Told {
        let (value, other) = (self.high + (self.low - doubt), self.high + (self.low + doubt));
        #[allow(clippy::float_cmp, reason = "rounding is monotonic: two equal ends leave nothing between them")]
        let sure = u64::from(value == other);
        Told { value, sure }
    }

    /// See [`nearest`](Self::nearest).
    #[inline(always)]
    pub(super) fn told(self) -> Told {
        self.nearest(self.high * DOUBT)
    }
}

/// The sum of squares, from the sums of products of halves of `half` bits: low and low, low and high, high and high.
#[inline(always)]
pub(super) fn square([low, cross, high]: [u64; 3], half: u32) -> Pair {
    let high = Pair::of(high).scaled((1u64 << (2 * half)) as f64);
    let cross = Pair::of(cross).scaled((1u64 << (half + 1)) as f64);
    high.plus(cross).plus(Pair::of(low))
}

/// `N_eff`, from a sum below 2^63 and the sum of squares.
#[inline(always)]
pub(super) fn n_eff(sum: u64, square: Pair) -> Pair {
    let sum = Pair::of(sum);
    sum.times(sum).over(square)
}

/// The preserved mass.
#[inline(always)]
pub(super) fn mass(kept: u64, all: u64) -> Told {
    Pair::of(kept).over(Pair::of(all)).told()
}

/// The certificate of a contest of `len` entries, more than one, of which some are kept: sure where it lies on the first edge.
#[inline(always)]
pub(super) fn mass_bound(n_eff: Pair, len: f64, kept: f64) -> Told {
    // t^2 of the edge from 1 to len is (len - N) / (N (len - 1)). The difference has the error of N, which may be large for what is left
    // of it, but not for N, nor then for t^2 against one.
    let [whole, steps] = [len, len - 1.0].map(|high| Pair { high, low: 0.0 });
    let t = whole.minus(n_eff).over(n_eff.times(steps));
    let t = t.nearest((t.high + 1.0 / 1024.0) * DOUBT);
    let first = budget::on_an_edge(t.value, 1.0, kept / len);
    let is_between = u64::from(t.value > 0.0) & u64::from(t.value < 1.0);
    let is_least = u64::from(budget::is_least_edge(first, kept, n_eff.high));
    // Where everything is kept, nothing is to be known of the edge.
    let keeps_all = u64::from(kept >= len);
    Told { value: if kept >= len { 1.0 } else { first }, sure: t.sure & is_between & is_least | keeps_all }
}

/// The same where another edge may be the least, as in contests of a few entries: sure unless `N_eff` is about a whole number.
#[inline(always)]
pub(super) fn mass_bound_of_all(n_eff: Pair, len: f64, kept: f64) -> Told {
    let floor = n_eff.high.floor();
    let rest = (n_eff.high - floor) + n_eff.low;
    let is_between = u64::from(rest > 1e-9) & u64::from(rest < 1.0 - 1e-9);
    let first = edge(n_eff, 1.0, len, kept);
    let second = edge(n_eff, 1.0, floor + 1.0, kept);
    let third = edge(n_eff, floor, floor + 1.0, kept);
    let keeps_all = u64::from(kept >= len);
    let least = first.value.min(second.value).min(third.value);
    Told {
        value: if kept >= len { 1.0 } else { least },
        sure: is_between & first.sure & second.sure & third.sure | keeps_all,
    }
}

/// The edge from `near` entries to `far`.
#[inline(always)]
fn edge(n_eff: Pair, near: f64, far: f64, kept: f64) -> Told {
    // t^2 is near (far - N) / (N (far - near)). What was said above of the difference's error holds of it `near` times.
    let whole = |high: f64| Pair { high, low: 0.0 };
    let t = whole(far).minus(n_eff).times(whole(near)).over(n_eff.times(whole(far - near)));
    let t = t.nearest((t.high + 1.0 / 8.0) * DOUBT);
    let corner = if kept >= near { 1.0 } else { kept / near };
    let value = budget::on_an_edge(t.value, corner, kept / far);
    let is_between = u64::from(t.value > 0.0) & u64::from(t.value < 1.0);
    let keeps_both = u64::from(kept >= far);
    Told { value: if kept >= far { 1.0 } else { value }, sure: t.sure & is_between | keeps_both }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Effective;
    use proptest::prelude::*;

    const HALF: u32 = 25;

    /// Values of 50 bits: any, a few, few different ones, near each other, of any size, and one among zeros.
    fn values() -> impl Strategy<Value = Vec<u64>> {
        let most = (1u64 << 50) - 1;
        let any = prop::collection::vec(0..=most, 2..129);
        let few = prop::collection::vec(0..=most, 2..9);
        let levels = prop::collection::vec((0u64..4).prop_map(|level| level << 40), 2..129);
        let near = (1u64..1 << 49, prop::collection::vec(0u64..3, 2..129))
            .prop_map(|(value, more)| more.into_iter().map(|more| value + more).collect());
        let sizes = prop::collection::vec((0..=most, 0u32..50).prop_map(|(value, down)| value >> down), 2..129);
        let one =
            (1..=most, 2usize..129).prop_map(|(value, len)| (0..len).map(|i| if i == 1 { value } else { 0 }).collect());
        prop_oneof![any, few, levels, near, sizes, one]
    }

    /// The sum, the sums of products of halves, and the sum of squares.
    fn sums(values: &[u64]) -> (u64, [u64; 3], u128) {
        let mut parts = [0; 3];
        for value in values {
            let (high, low) = (value >> HALF, value & ((1 << HALF) - 1));
            parts = [parts[0] + low * low, parts[1] + low * high, parts[2] + high * high];
        }
        let square = values.iter().map(|&value| u128::from(value) * u128::from(value)).sum();
        (values.iter().sum(), parts, square)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_sure_is_what_the_integers_say(values in values(), part in 0usize..128, kept in 1u64..129) {
            let (len, (sum, parts, squares)) = (values.len() as u64, sums(&values));
            let kept = kept.min(len);
            if let Some(exact) = Effective::short(sum.into(), squares, len) {
                let pair = n_eff(sum, square(parts, HALF));
                let told = pair.told();
                prop_assert!(told.sure == 0 || told.value.to_bits() == exact.n_eff().to_bits(), "{} {}", told.value, exact.n_eff());
                let bound = exact.mass_bound(len, kept);
                for told in [mass_bound, mass_bound_of_all].map(|bound| bound(pair, len as f64, kept as f64)) {
                    prop_assert!(told.sure == 0 || told.value.to_bits() == bound.to_bits(), "{} {}", told.value, bound);
                }
                let kept_sum = values[..part.min(values.len())].iter().sum();
                let (told, exact) = (mass(kept_sum, sum), budget::mass(kept_sum, sum));
                prop_assert!(told.sure == 0 || told.value.to_bits() == exact.to_bits(), "{} {}", told.value, exact);
            }
        }
    }

    #[test]
    fn the_middle_of_two_doubles_is_doubtful_and_its_neighbours_are_not() {
        for (kept, all) in [((1 << 53) + 1, 1 << 54), ((1 << 53) + 3, 1 << 55), (3 * ((1 << 53) + 1), 3 << 54)] {
            assert_eq!(mass(kept, all).sure, 0, "{kept} of {all}");
            for near in [kept - 1, kept + 1] {
                let told = mass(near, all);
                assert_eq!(
                    (told.sure, told.value.to_bits()),
                    (1, budget::mass(near, all).to_bits()),
                    "{near} of {all}"
                );
            }
        }
        assert_eq!((mass(7, 7).value, mass(7, 7).sure), (1.0, 1));
        assert_eq!((mass(0, 7).value, mass(0, 7).sure), (0.0, 1));
    }

    /// Else nothing would be gained.
    #[test]
    fn there_is_hardly_ever_doubt_about_anything_like_weights() {
        let mut state = 1u64;
        for _ in 0..1000 {
            let values: Vec<u64> = (0..16)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (1 << 40) + (state >> 15)
                })
                .collect();
            // Four of them, as N:M has: it does not take the first edge.
            let (sum, parts, _) = sums(&values[..4]);
            let four = mass_bound_of_all(n_eff(sum, square(parts, HALF)), 4.0, 2.0);
            assert_eq!(four.sure, 1, "{} {values:?}", four.value);
            let (sum, parts, _) = sums(&values);
            let pair = n_eff(sum, square(parts, HALF));
            let kept = pair.told().value.floor();
            let [n, bound, share] = [pair.told(), mass_bound(pair, 16.0, kept), mass(values[0], sum)];
            assert_eq!(
                [n, bound, share].map(|told| told.sure),
                [1; 3],
                "{} {} {} {kept} {values:?}",
                n.value,
                bound.value,
                share.value
            );
        }
    }
}
