//! The question: which score, how many are kept, who competes with whom. Plain data, nothing about hardware or
//! speed, so that one rule has one answer everywhere.

use crate::error::Error;
use crate::exact::Wide;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// What makes one weight more important than another. Only the magnitude of a score counts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Score {
    /// `|w|`.
    #[default]
    Magnitude,
    /// `|w| * norm` of the input that the weight meets (Sun et al., arXiv 2306.11695): the exact product rounded once to
    /// the nearest `f32`, ties to even, subnormals kept. Takes one norm per column.
    Wanda,
    /// A score per weight that the caller brings: gradient times weight, saliency, attention, anything.
    Given,
}

/// Who competes with whom. A tensor is seen as a matrix: a row is one index of its first axis.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// One contest over all the tensors given together.
    Global,
    /// One contest per tensor.
    #[default]
    Tensor,
    /// One contest per row.
    Row,
    /// One contest per column.
    Column,
    /// One contest per block of so many rows and columns, row by row of blocks; blocks at the right and lower edge are smaller.
    Block {
        /// Rows of a block.
        rows: u64,
        /// Columns of a block.
        columns: u64,
    },
    /// So many contests of equal size, each over neighbouring rows; the number must divide that of the rows.
    Heads(u64),
    /// One contest per run of so many entries of a row; the last of a row is shorter where they do not fill it.
    Chunks(u64),
    /// One contest per segment that the caller names, of any length. A device decides those of a length that many share, and very long ones.
    Segments,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::Given => "given",
        })
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Tensor => f.write_str("tensor"),
            Self::Row => f.write_str("row"),
            Self::Column => f.write_str("column"),
            Self::Block { rows, columns } => write!(f, "block:{rows}x{columns}"),
            Self::Heads(heads) => write!(f, "head:{heads}"),
            Self::Chunks(len) => write!(f, "chunk:{len}"),
            Self::Segments => f.write_str("segments"),
        }
    }
}

/// `global`, `tensor`, `row`, `column`, `block:RxC`, `head:N`, `chunk:N` or `segments`.
impl FromStr for Granularity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |text: &str| text.parse().ok().filter(|&number: &u64| number > 0);
        let found = match text.split_once(':') {
            None => match text {
                "global" => Some(Self::Global),
                "tensor" => Some(Self::Tensor),
                "row" => Some(Self::Row),
                "column" => Some(Self::Column),
                "segments" => Some(Self::Segments),
                _ => None,
            },
            Some(("block", size)) => size
                .split_once('x')
                .and_then(|(rows, columns)| Some(Self::Block { rows: number(rows)?, columns: number(columns)? })),
            Some(("head", heads)) => number(heads).map(Self::Heads),
            Some(("chunk", len)) => number(len).map(Self::Chunks),
            Some(_) => None,
        };
        let known = "global, tensor, row, column, block:RxC, head:N, chunk:N and segments";
        found.ok_or_else(|| Error::invalid(format!("{text:?} is no granularity; there are {known}")))
    }
}

/// The factor in `floor(beta * N_eff)`: an exact ratio of two `u64`, in lowest terms.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Beta {
    numerator: u64,
    denominator: u64,
}

/// The part to zero: an exact ratio of two `u64` from 0 to 1, in lowest terms.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sparsity {
    numerator: u64,
    denominator: u64,
}

/// How many entries a contest keeps.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// The rule itself: `clamp(floor(beta * N_eff), 1, len)`.
    Effective(Beta),
    /// So many, or all of a contest that has fewer. None at all is refused, and so are more than each of [`Granularity::Chunks`] has.
    Count(u64),
    /// All but `sparsity * len` of them, rounded half to even.
    Sparsity(Sparsity),
}

impl Default for Budget {
    fn default() -> Self {
        Self::Effective(Beta::ONE)
    }
}

impl Budget {
    /// What a contest of `len` entries keeps, where its scores have no say in that.
    pub(crate) fn fixed(self, len: u64) -> Option<u64> {
        match self {
            Self::Effective(_) => None,
            Self::Count(count) => Some(count.min(len)),
            Self::Sparsity(sparsity) => Some(len - sparsity.of(len)),
        }
    }
}

/// The question asked of every contest: which scores, how many are kept, who competes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What is compared.
    pub score: Score,
    /// How many are kept.
    pub budget: Budget,
    /// Every contest keeps at least so many, or all where there are fewer.
    pub min_kept: u64,
    /// Who competes.
    pub granularity: Granularity,
}

impl Rule {
    /// Magnitude, `beta` = 1, one contest per tensor.
    pub const fn new() -> Self {
        let budget = Budget::Effective(Beta::ONE);
        Self { score: Score::Magnitude, budget, min_kept: 0, granularity: Granularity::Tensor }
    }

    /// The same rule about another score.
    #[must_use]
    pub const fn with_score(mut self, score: Score) -> Self {
        self.score = score;
        self
    }

    /// The same rule, keeping `floor(beta * N_eff)`.
    #[must_use]
    pub const fn with_beta(self, beta: Beta) -> Self {
        self.with_budget(Budget::Effective(beta))
    }

    /// The same rule with another budget.
    #[must_use]
    pub const fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The same rule, each contest keeping at least `count` entries.
    #[must_use]
    pub const fn with_min_kept(mut self, count: u64) -> Self {
        self.min_kept = count;
        self
    }

    /// The same rule for other contests.
    #[must_use]
    pub const fn with_granularity(mut self, granularity: Granularity) -> Self {
        self.granularity = granularity;
        self
    }

    /// Keep `n` of every `m` entries along a row; a shorter last run keeps `n` too, or all of it. `n` is at most `m`.
    #[must_use]
    pub const fn n_of_m(self, n: u64, m: u64) -> Self {
        self.with_budget(Budget::Count(n)).with_granularity(Granularity::Chunks(m))
    }

    /// What no contest could be asked.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let zero = |what: &str| Err(Error::invalid(format!("{what} of 0 entries keeps nothing")));
        match (self.granularity, self.budget) {
            (Granularity::Chunks(0), _) => zero("a chunk"),
            (Granularity::Block { rows: 0, .. } | Granularity::Block { columns: 0, .. }, _) => zero("a block"),
            (Granularity::Heads(0), _) => Err(Error::invalid("0 heads hold no rows")),
            (_, Budget::Count(0)) => zero("a budget"),
            (Granularity::Chunks(len), Budget::Count(count)) if count > len => {
                Err(Error::invalid(format!("{count} of every {len} cannot be kept")))
            }
            _ => Ok(()),
        }
    }

    /// What a contest keeps when its scores say nothing: `count` of the budget, and the least of the rule.
    pub(crate) fn at_least(&self, count: u64, len: u64) -> u64 {
        count.max(self.min_kept.min(len))
    }
}

impl Beta {
    /// Keep the effective number itself.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// The decimal that `value` prints as, exactly: the `f64` 0.7 means 7/10.
    ///
    /// # Errors
    /// `InvalidInput` when it is not positive and finite, or when the decimal is no ratio of two `u64`.
    pub fn new(value: f64) -> Result<Self, Error> {
        if !(value > 0.0 && value.is_finite()) {
            return Err(Error::invalid(format!("beta {} is not a positive number", shown(value))));
        }
        let none = || {
            Error::invalid(format!(
                "beta {} is no ratio of two 64-bit integers, as decimals of up to 19 digits are",
                shown(value)
            ))
        };
        let (numerator, denominator) = decimal(value).ok_or_else(none)?;
        Ok(Self { numerator, denominator })
    }

    /// An exact ratio, such as 2/3.
    ///
    /// # Errors
    /// `InvalidInput` when either side is zero.
    pub fn ratio(numerator: u64, denominator: u64) -> Result<Self, Error> {
        if numerator == 0 || denominator == 0 {
            return Err(Error::invalid(format!("beta {numerator}/{denominator} is not a positive number")));
        }
        let divisor = gcd(numerator.into(), denominator.into()) as u64;
        Ok(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    /// The nearest `f64`, to print.
    pub fn get(self) -> f64 {
        // Both sides may have more bits than a double: converting them first would round twice.
        Wide::from_limbs(&[self.numerator]).ratio(&Wide::from_limbs(&[self.denominator]))
    }

    /// The numerator, in lowest terms.
    pub const fn numerator(self) -> u64 {
        self.numerator
    }

    /// The denominator, in lowest terms.
    pub const fn denominator(self) -> u64 {
        self.denominator
    }
}

impl fmt::Debug for Beta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Beta({}/{})", self.numerator, self.denominator)
    }
}

impl Sparsity {
    /// The decimal that `value` prints as, exactly.
    ///
    /// # Errors
    /// `InvalidInput` when it does not lie between 0 and 1, or when the decimal is no ratio of two `u64`.
    pub fn new(value: f64) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::invalid(format!("sparsity {} does not lie between 0 and 1", shown(value))));
        }
        let none = || {
            Error::invalid(format!(
                "sparsity {} is no ratio of two 64-bit integers, as decimals of up to 19 digits are",
                shown(value)
            ))
        };
        let (numerator, denominator) = decimal(value.abs()).ok_or_else(none)?;
        Ok(Self { numerator, denominator })
    }

    /// An exact ratio, such as 1/2.
    ///
    /// # Errors
    /// `InvalidInput` when it is no number from 0 to 1.
    pub fn ratio(numerator: u64, denominator: u64) -> Result<Self, Error> {
        if denominator == 0 || numerator > denominator {
            return Err(Error::invalid(format!("sparsity {numerator}/{denominator} does not lie between 0 and 1")));
        }
        let divisor = gcd(numerator.into(), denominator.into()) as u64;
        Ok(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    /// The nearest `f64`, to print.
    pub fn get(self) -> f64 {
        Wide::from_limbs(&[self.numerator]).ratio(&Wide::from_limbs(&[self.denominator]))
    }

    /// The numerator, in lowest terms.
    pub const fn numerator(self) -> u64 {
        self.numerator
    }

    /// The denominator, in lowest terms.
    pub const fn denominator(self) -> u64 {
        self.denominator
    }

    /// This part of `len`, rounded half to even.
    fn of(self, len: u64) -> u64 {
        let (exact, denominator) = (u128::from(self.numerator) * u128::from(len), u128::from(self.denominator));
        let (floor, rest) = (exact / denominator, exact % denominator);
        let up = match (2 * rest).cmp(&denominator) {
            Ordering::Less => false,
            Ordering::Equal => floor % 2 == 1,
            Ordering::Greater => true,
        };
        floor as u64 + u64::from(up)
    }
}

impl fmt::Debug for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sparsity({}/{})", self.numerator, self.denominator)
    }
}

/// A refused number as people write it, and not as three hundred zeros.
fn shown(value: f64) -> String {
    let is_short = value == 0.0 || !value.is_finite() || (1e-6..1e15).contains(&value.abs());
    if is_short { value.to_string() } else { format!("{value:e}") }
}

/// The decimal that a finite `value >= 0` prints as, in lowest terms; `None` when that is no ratio of two `u64`.
fn decimal(value: f64) -> Option<(u64, u64)> {
    // `{:e}` prints the shortest digits that read back as the same f64: d.ddd e x.
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let power = exponent - fraction.len() as i32;
    let scale = 10u128.checked_pow(power.unsigned_abs())?;
    let (numerator, denominator) = if power >= 0 { (mantissa.checked_mul(scale)?, 1) } else { (mantissa, scale) };
    let divisor = gcd(numerator, denominator);
    Some((u64::try_from(numerator / divisor).ok()?, u64::try_from(denominator / divisor).ok()?))
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beta_is_the_decimal_that_it_prints_as() {
        for (value, numerator, denominator) in [
            (1.0, 1, 1),
            (0.7, 7, 10),
            (0.57, 57, 100),
            (1.5, 3, 2),
            (1e-3, 1, 1000),
            (1e19, 10u64.pow(19), 1),
            (1e-19, 1, 10u64.pow(19)),
            (0.1 + 0.2, 7_500_000_000_000_001, 25_000_000_000_000_000),
            (1000.0, 1000, 1),
            (2150435267596.7002, 10_752_176_337_983_501, 5000),
        ] {
            let beta = Beta::new(value).expect("a positive ratio");
            assert_eq!((beta.numerator(), beta.denominator()), (numerator, denominator), "{value}");
            assert_eq!(beta.get().to_bits(), value.to_bits(), "{value}");
        }
    }

    #[test]
    fn a_refusal_has_the_number_in_as_many_digits_as_it_needs() {
        for (value, text) in [
            (0.0, "0"),
            (-1.5, "-1.5"),
            (1e300, "1e300"),
            (-1e300, "-1e300"),
            (1e-300, "1e-300"),
            (1.2345678901234567e-5, "0.000012345678901234568"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "NaN"),
        ] {
            let error = Beta::new(value).expect_err("no such ratio").to_string();
            assert!(error.contains(&format!("beta {text} is ")), "{error}");
        }
        let error = Sparsity::new(-1e300).expect_err("below zero").to_string();
        assert!(error.contains("sparsity -1e300 does"), "{error}");
    }

    #[test]
    fn a_beta_that_is_no_such_ratio_is_refused() {
        for value in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, 1e20, 1e300, 1e-20, 1e-300, 5e-324] {
            assert!(Beta::new(value).is_err(), "{value}");
        }
        for value in [-0.1, 1.1, f64::NAN, f64::INFINITY, 1e-300] {
            assert!(Sparsity::new(value).is_err(), "{value}");
        }
        assert!(Beta::ratio(0, 1).is_err() && Beta::ratio(1, 0).is_err(), "zero is not positive");
    }

    #[test]
    fn a_sparsity_is_a_part_rounded_half_to_even() {
        for (value, len, zeroed) in [
            (0.5, 4, 2),
            (0.5, 5, 2),
            (0.5, 7, 4),
            (0.25, 10, 2),
            (0.35, 10, 4), // 3.5: the f64 below it must not count
            (0.45, 10, 4),
            (0.7, 10, 7),
            (0.0, 9, 0),
            (-0.0, 9, 0),
            (1.0, 9, 9),
            (1e-19, u64::MAX, 2),
        ] {
            assert_eq!(Sparsity::new(value).expect("a part").of(len), zeroed, "{value} of {len}");
        }
        assert_eq!(Sparsity::ratio(u64::MAX - 1, u64::MAX).expect("a part").of(u64::MAX), u64::MAX - 1);
    }
}
