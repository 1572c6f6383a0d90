//! The question: which score, how many are kept, who competes with whom. Plain data, nothing about hardware or
//! speed, so that one rule has one answer everywhere.

use crate::error::Error;
use crate::exact::Wide;
use std::fmt;

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
}

/// Who competes with whom.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// One contest over all the tensors given together.
    Global,
    /// One contest per tensor.
    #[default]
    Tensor,
    /// One contest per row; a row is one index of the first axis.
    Row,
}

/// The factor in `floor(beta * N_eff)`: an exact ratio of two `u64`, in lowest terms.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Beta {
    numerator: u64,
    denominator: u64,
}

/// The question asked of every contest: keep the `floor(beta * N_eff)` highest scores.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What is compared.
    pub score: Score,
    /// How much of the effective number is kept.
    pub beta: Beta,
    /// Who competes.
    pub granularity: Granularity,
}

impl Default for Rule {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule {
    /// Magnitude, `beta` = 1, one contest per tensor.
    pub const fn new() -> Self {
        Self { score: Score::Magnitude, beta: Beta::ONE, granularity: Granularity::Tensor }
    }

    /// The same rule about another score.
    pub const fn with_score(mut self, score: Score) -> Self {
        self.score = score;
        self
    }

    /// The same rule with another factor.
    pub const fn with_beta(mut self, beta: Beta) -> Self {
        self.beta = beta;
        self
    }

    /// The same rule for other contests.
    pub const fn with_granularity(mut self, granularity: Granularity) -> Self {
        self.granularity = granularity;
        self
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
            return Err(Error::invalid(format!("beta {value} is not a positive number")));
        }
        let too_long = || Error::invalid(format!("beta {value} is no ratio of two 64-bit integers"));
        // `{:e}` prints the shortest digits that read back as the same f64: d.ddd e x.
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').ok_or_else(too_long)?;
        let exponent: i32 = exponent.parse().map_err(|_| too_long())?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mantissa: u128 = format!("{whole}{fraction}").parse().map_err(|_| too_long())?;
        let power = exponent - fraction.len() as i32;
        let scale = 10u128.checked_pow(power.unsigned_abs()).ok_or_else(too_long)?;
        let (numerator, denominator) =
            if power >= 0 { (mantissa.checked_mul(scale).ok_or_else(too_long)?, 1) } else { (mantissa, scale) };
        let divisor = gcd(numerator, denominator);
        match (u64::try_from(numerator / divisor), u64::try_from(denominator / divisor)) {
            (Ok(numerator), Ok(denominator)) => Ok(Self { numerator, denominator }),
            _ => Err(too_long()),
        }
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

    /// Upper half of the ratio in lowest terms.
    pub const fn numerator(self) -> u64 {
        self.numerator
    }

    /// Lower half of the ratio in lowest terms.
    pub const fn denominator(self) -> u64 {
        self.denominator
    }
}

impl fmt::Debug for Beta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Beta({}/{})", self.numerator, self.denominator)
    }
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
    fn a_beta_that_is_no_such_ratio_is_refused() {
        for value in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, 1e20, 1e300, 1e-20, 1e-300, 5e-324] {
            assert!(Beta::new(value).is_err(), "{value}");
        }
        assert!(Beta::ratio(0, 1).is_err() && Beta::ratio(1, 0).is_err(), "zero is not positive");
    }
}
