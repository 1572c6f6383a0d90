//! What is pruned: the same numbers on every machine and for every number of threads.

use clap::ValueEnum;
use emprune::Element;
use half::{bf16, f16};
use rayon::prelude::*;
use std::f64::consts::TAU;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputKind {
    /// Standard normal: like trained weights
    Normal,
    /// Log-normal, sigma 4: a few entries hold nearly all of the sum
    Lognormal,
    /// Normal, on the levels of an 8-bit quantisation: many ties at the threshold
    Int8,
    /// One value: everything is a tie
    Equal,
    /// Normal, nine of ten zero
    Zeros,
}

impl InputKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            InputKind::Normal => "normal",
            InputKind::Lognormal => "lognormal",
            InputKind::Int8 => "int8",
            InputKind::Equal => "equal",
            InputKind::Zeros => "zeros",
        }
    }

    /// Two entries.
    fn pair(self, random: &mut SplitMix) -> [f64; 2] {
        match self {
            InputKind::Normal => random.normals(),
            InputKind::Lognormal => random.normals().map(|x| (4.0 * x).exp()),
            InputKind::Int8 => random.normals().map(|x| (x * 32.0).round().clamp(-127.0, 127.0)),
            InputKind::Equal => [0.5; 2],
            InputKind::Zeros => random.normals().map(|x| if random.next().is_multiple_of(10) { x } else { 0.0 }),
        }
    }
}

/// An entry, to and from the numbers that are drawn and the bits that are compared.
pub(super) trait Entry: Element + Send + Sync {
    const ZERO: Self;
    fn of(x: f64) -> Self;
    /// The bits of the magnitude as an `f32`: they sort as it does.
    fn key(self) -> u32;
}

impl Entry for f32 {
    const ZERO: Self = 0.0;
    fn of(x: f64) -> Self {
        x as f32
    }
    fn key(self) -> u32 {
        self.abs().to_bits()
    }
}

impl Entry for f16 {
    const ZERO: Self = f16::ZERO;
    fn of(x: f64) -> Self {
        // Log-normal numbers leave its range.
        f16::from_f64(x.clamp(f16::MIN.to_f64(), f16::MAX.to_f64()))
    }
    fn key(self) -> u32 {
        self.to_f32().key()
    }
}

impl Entry for bf16 {
    const ZERO: Self = bf16::ZERO;
    fn of(x: f64) -> Self {
        bf16::from_f64(x)
    }
    fn key(self) -> u32 {
        self.to_f32().key()
    }
}

/// Entries that one seed makes, so that threads can share the work.
const RUN: usize = 1 << 16;

/// `len` entries.
pub(super) fn generate<T: Entry>(input: InputKind, len: usize) -> Vec<T> {
    let mut entries = vec![T::ZERO; len];
    entries.par_chunks_mut(RUN).enumerate().for_each(|(seed, run)| {
        let mut random = SplitMix(seed as u64 + 1);
        for pair in run.chunks_mut(2) {
            let drawn = input.pair(&mut random);
            pair.iter_mut().zip(drawn).for_each(|(entry, x)| *entry = T::of(x));
        }
    });
    entries
}

/// Small, seedable, and good enough to fill arrays.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Two independent ones, by Box and Muller.
    fn normals(&mut self) -> [f64; 2] {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (TAU * self.unit()).sin_cos();
        [radius * cos, radius * sin]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_what_their_names_say() {
        let len = 200_001;
        let of = |input| generate::<f32>(input, len);
        let share =
            |entries: &[f32], is: fn(&f32) -> bool| entries.iter().filter(|x| is(x)).count() as f64 / len as f64;
        let normal = of(InputKind::Normal);
        assert!((share(&normal, |x| x.abs() < 1.0) - 0.6827).abs() < 0.01, "within one sigma");
        assert!((share(&normal, |x| *x < 0.0) - 0.5).abs() < 0.01, "either sign");
        let lognormal = of(InputKind::Lognormal);
        assert!((share(&lognormal, |x| *x < 4f32.exp()) - 0.8413).abs() < 0.01, "sigma is 4");
        let int8 = of(InputKind::Int8);
        assert!(int8.iter().all(|x| x.fract() == 0.0 && x.abs() <= 127.0), "whole levels");
        assert!(int8.iter().any(|x| *x > 90.0), "many of them");
        assert!(of(InputKind::Equal).iter().all(|x| x.to_bits() == 0.5f32.to_bits()), "one value");
        assert!((share(&of(InputKind::Zeros), |x| x.to_bits() == 0) - 0.9).abs() < 0.01, "nine of ten");
        assert!(generate::<f16>(InputKind::Lognormal, len).iter().all(|x| x.is_finite()), "all fit");
    }
}
