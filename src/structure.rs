//! Whole rows, columns, heads or groups of them, kept or zeroed together: which they are, and how they come by one score.

use crate::error::{Error, ErrorKind};
use crate::exact::Wide;
use crate::grid::Grid;
use crate::rule::Granularity;
use crate::sums::Moments;
use crate::tensor::TensorSpec;
use std::cmp::Ordering;
use std::ops::Range;

/// What is kept or zeroed as a whole. A tensor is seen as a matrix: a row is one index of its first axis.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Structure<'a> {
    /// Every row.
    Row,
    /// Every column.
    Column,
    /// So many equal groups of neighbouring rows; the number must divide that of the rows.
    Heads(u64),
    /// For each tensor, so many equal groups of neighbouring columns; the number must divide that of the columns. The input channels of a
    /// convolution are such groups: each is as many columns as its kernel has places.
    Channels(&'a [u64]),
    /// Groups of rows or columns that the caller names, tensor by tensor. They are numbered from 0, and none is empty.
    ///
    /// With [`Granularity::Global`] a number means one group in all tensors: the rows of a layer, say, with the columns of the
    /// next one that they feed.
    Groups(&'a [Groups<'a>]),
}

/// Which rows or columns of one tensor belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Groups<'a> {
    /// The number of each row's group.
    Rows(&'a [u32]),
    /// The number of each column's group.
    Columns(&'a [u32]),
}

/// How a structure comes by its score. A norm is that of the magnitudes of its weights' scores: the exact value, rounded once to the
/// nearest `f32`, ties to even.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm<'a> {
    /// Their sum.
    L1,
    /// The root of the sum of their squares.
    L2,
    /// The largest.
    Max,
    /// None: for each tensor a score per structure, of which the magnitude counts. The weights are not looked at. Of what
    /// several tensors say about a group that they share, the largest counts.
    Given(&'a [&'a [f32]]),
}

/// The structures of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Members<'a> {
    /// Its blocks are members of structures.
    pub(crate) grid: Grid,
    /// The structure of each, where the caller names that.
    groups: Option<&'a [u32]>,
    /// Else so many neighbours are one.
    of_structure: usize,
}

impl<'a> Structure<'a> {
    /// What belongs together in a tensor.
    ///
    /// # Errors
    /// `InvalidInput` when the number of heads does not divide that of the rows, or that of channels the columns, and when there are not as
    /// many groups' numbers as rows or columns; `Limit` when there are more than addresses.
    pub(crate) fn members(self, tensor: usize, spec: TensorSpec) -> Result<Members<'a>, Error> {
        let (granularity, what, groups) = match self {
            Self::Row => (Granularity::Row, "rows", None),
            Self::Column => (Granularity::Column, "columns", None),
            Self::Heads(heads) => (Granularity::Heads(heads), "heads", None),
            Self::Channels(all) if all[tensor] == 0 || !spec.row_len.is_multiple_of(all[tensor]) => {
                return Err(Error::invalid(format!("{} channels do not divide {} columns", all[tensor], spec.row_len)));
            }
            Self::Channels(_) => (Granularity::Column, "columns", None),
            Self::Groups(all) => match all[tensor] {
                Groups::Rows(groups) => (Granularity::Row, "rows", Some(groups)),
                Groups::Columns(groups) => (Granularity::Column, "columns", Some(groups)),
            },
        };
        let of_structure = match self {
            Self::Channels(all) => (spec.row_len / all[tensor]) as usize,
            _ => 1,
        };
        let members = Members { grid: Grid::of(spec, granularity)?, groups, of_structure };
        let count = members.grid.bands() * members.grid.stripes();
        if usize::try_from(count).is_err() {
            return Err(Error::new(ErrorKind::Limit, format!("{count} {what}, where {} can be counted", usize::MAX)));
        }
        match groups {
            Some(groups) if groups.len() != members.len() => Err(Error::invalid(format!(
                "numbers of groups for {} {what}, and there are {}",
                groups.len(),
                members.len()
            ))),
            _ => Ok(members),
        }
    }
}

impl Members<'_> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        (self.grid.bands() * self.grid.stripes()) as usize
    }

    /// Whether every tensor has all the structures that it numbers.
    pub(crate) fn are_own(&self) -> bool {
        self.groups.is_none()
    }

    /// Whether they are runs of neighbouring entries.
    pub(crate) fn are_runs(&self) -> bool {
        self.grid.run().is_some() && self.grid.block_columns == self.grid.columns
    }

    /// The largest number of a structure.
    pub(crate) fn most(&self) -> u64 {
        let last = self.structure(self.len() - 1) as u64;
        self.groups.map_or(last, |groups| groups.iter().max().map_or(0, |&most| most.into()))
    }

    /// Structures, where each has members of this tensor alone.
    pub(crate) fn own(&self) -> usize {
        self.len() / self.of_structure
    }

    /// Members of one of those.
    pub(crate) fn of_structure(&self) -> usize {
        self.of_structure
    }

    /// The structure of a member.
    pub(crate) fn structure(&self, member: usize) -> usize {
        self.groups.map_or(member / self.of_structure, |groups| groups[member] as usize)
    }
}

/// The number of structures that these members make.
///
/// # Errors
/// `InvalidInput` when one of them has no member.
pub(crate) fn count(of: &[Members<'_>]) -> Result<usize, Error> {
    let members = || of.iter().flat_map(|members| (0..members.len()).map(|member| members.structure(member)));
    let (all, most) = (members().count(), members().max().unwrap_or(0));
    // Before memory is taken for a number that nobody can mean.
    if most >= all {
        return Err(Error::invalid(format!(
            "a group has the number {most}, and {all} members have {all} groups at most"
        )));
    }
    let mut seen = vec![false; most + 1];
    members().for_each(|structure| seen[structure] = true);
    match seen.iter().position(|seen| !seen) {
        Some(empty) => Err(Error::invalid(format!("of the groups 0 to {most}, group {empty} has no member"))),
        None => Ok(most + 1),
    }
}

/// The keys of scores that are given: the largest of each structure.
///
/// # Errors
/// `InvalidInput` when there are not as many as structures, `NonFinite` when one is not finite.
pub(crate) fn join_given(scores: &[f32], keys: &mut [u32]) -> Result<(), Error> {
    let given = given(scores, keys.len(), 0..keys.len())?;
    keys.iter_mut().zip(given).for_each(|(key, given)| *key = (*key).max(given));
    Ok(())
}

/// The keys of some of the scores that are given for so many structures.
///
/// # Errors
/// As [`join_given`].
pub(crate) fn given(scores: &[f32], count: usize, range: Range<usize>) -> Result<Vec<u32>, Error> {
    if scores.len() != count {
        return Err(Error::invalid(format!("{} scores for {count} structures", scores.len())));
    }
    let key = |(at, score): (usize, &f32)| match score.is_finite() {
        true => Ok(score.abs().to_bits()),
        false => Err(Error::of_score(at, format!("the score of structure {at} is {score}"))),
    };
    (range.start..).zip(&scores[range]).map(key).collect()
}

/// What must be known of a structure's weights.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) moments: Moments,
    /// The largest key.
    pub(crate) most: u32,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.most = self.most.max(other.most);
    }

    /// The key of the score.
    ///
    /// # Errors
    /// `NonFinite` when it is too large for an `f32`; `number` says whose it is.
    pub(crate) fn key(&self, norm: Norm<'_>, number: usize) -> Result<u32, Error> {
        let key = match norm {
            Norm::L1 => nearest(&self.moments.sum.wide()),
            Norm::L2 => nearest_root(&self.moments.square.wide()),
            Norm::Max | Norm::Given(_) => Some(self.most),
        };
        key.ok_or_else(|| Error::of_score(number, format!("the score of structure {number} overflows f32")))
    }
}

/// The power of two that a sum is counted in; a sum of squares in its square.
const UNIT: i32 = -167;

/// Bits of the `f32` nearest to `sum * 2^UNIT`, ties to even; `None` when that is infinite.
fn nearest(sum: &Wide) -> Option<u32> {
    if sum.is_zero() {
        return Some(0);
    }
    let last = last_place(sum.bits() as i32);
    let places = (last - UNIT) as u32;
    let floor = sum.shr(places).low_u64();
    // Half of the last place, against what is below it.
    let half = Wide::from_limbs(&[2 * floor + 1]).shl(places - 1);
    bits(last, floor, sum.cmp(&half))
}

/// Bits of the `f32` nearest to `sqrt(squares) * 2^UNIT`, ties to even.
fn nearest_root(squares: &Wide) -> Option<u32> {
    if squares.is_zero() {
        return Some(0);
    }
    let last = last_place(squares.bits().div_ceil(2) as i32);
    let places = (last - UNIT) as u32;
    // floor(sqrt(x) / 2^p) is floor(sqrt(floor(x / 4^p))).
    let floor = squares.shr(2 * places).low_u64().isqrt();
    let half = 2 * floor + 1;
    bits(last, floor, squares.cmp(&Wide::from_limbs(&[half * half]).shl(2 * places - 2)))
}

/// The power of two of the last place of an `f32` whose integer part, in units, has so many bits. Never below the smallest subnormal.
fn last_place(integer_bits: i32) -> i32 {
    (integer_bits + UNIT - 24).max(-149)
}

/// `floor` counts last places; the exact value compared to half a place more says which way it goes.
fn bits(last: i32, floor: u64, against_half: Ordering) -> Option<u32> {
    let up = against_half == Ordering::Greater || (against_half == Ordering::Equal && floor % 2 == 1);
    // The hidden bit adds one to the exponent field, and so does a fraction that is rounded up to it.
    let bits = (((last + 149) as u64) << 23) + floor + u64::from(up);
    (bits < 0x7f80_0000).then_some(bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{exponent, significand};
    use crate::sums::UNIT_BITS;
    use proptest::prelude::*;

    fn tally(keys: &[u32]) -> Tally {
        let mut tally = Tally::default();
        for &key in keys {
            let (value, at) = (u128::from(significand(key)) << UNIT_BITS, exponent(key) - 1);
            tally.moments.sum.add(value, at);
            tally.moments.square.add(value * value, 2 * at);
            tally.most = tally.most.max(key);
        }
        tally
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Two floats: their sum is rounded by the processor as asked for, and the norm of one is itself.
        #[test]
        fn norms_are_the_nearest_floats(a in 0u32..0x7f80_0000, b in 0u32..0x7f80_0000, near in 0u32..0x0200_0000) {
            for (a, b) in [(a, b), (a, a.saturating_sub(near)), (near, near / 3)] {
                let sum = f32::from_bits(a) + f32::from_bits(b);
                let both = tally(&[a, b]);
                prop_assert_eq!(both.key(Norm::L1, 0).ok(), sum.is_finite().then_some(sum.to_bits()));
                prop_assert_eq!(both.key(Norm::Max, 0).ok(), Some(a.max(b)));
                prop_assert_eq!(tally(&[a]).key(Norm::L2, 0).ok(), Some(a), "one entry is its own norm");
            }
        }

        /// Integers of 24 bits: the midpoints between floats near their root are multiples of a quarter.
        #[test]
        fn roots_are_the_nearest_floats(a in 1u32 << 23..1 << 24, b in 1u32 << 23..1 << 24) {
            let keys = [a as f32, b as f32].map(f32::to_bits);
            let got = f32::from_bits(tally(&keys).key(Norm::L2, 0).expect("a finite norm"));
            let square = u128::from(a) * u128::from(a) + u128::from(b) * u128::from(b);
            let scaled = |x: f64| (x * 4.0) as u128;
            let middle = |x: f32, y: f32| scaled(f64::from(x) + f64::from(y)) / 2;
            let (low, high) = (middle(got.next_down().max(0.0), got), middle(got, got.next_up()));
            prop_assert!(low * low <= 16 * square && 16 * square <= high * high, "{} {} {}", a, b, got);
        }
    }

    #[test]
    fn a_score_that_overflows_is_an_error_and_a_large_norm_is_none() {
        let largest = f32::MAX.to_bits();
        assert!(tally(&[largest, largest]).key(Norm::L1, 7).expect_err("an infinite sum").to_string().contains('7'));
        assert!(tally(&[largest, largest]).key(Norm::L2, 0).is_err(), "the root of two times the largest");
        assert_eq!(tally(&[largest]).key(Norm::L1, 0).expect("a finite sum"), largest);
        assert_eq!(tally(&[0, 0]).key(Norm::L2, 0).expect("a finite norm"), 0);
        // 3 and 4 times the smallest subnormal.
        assert_eq!(tally(&[3, 4]).key(Norm::L2, 0).expect("a finite norm"), 5);
    }
}
