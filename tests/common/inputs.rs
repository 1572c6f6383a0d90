//! Named inputs, each built to hurt a step of the computation, and the lengths at which the code changes its ways.
//!
//! Every input is a function of its name, its length and a seed, all in its label: a failure can be repeated.

use super::oracle::{Kind, Weights, exact};
use std::f64::consts::TAU;

// ---- randomness

/// SplitMix64: small, seedable, and good enough to fill arrays.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (TAU * self.unit()).cos()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

// ---- numbers as bits

/// The bits of `1.0`.
pub(crate) fn one(kind: Kind) -> u32 {
    let (exponent, fraction) = kind.widths();
    ((1 << (exponent - 1)) - 1) << fraction
}

/// The bits of infinity, or of NaN where there is none; one less is the largest finite number.
pub(crate) fn infinity(kind: Kind) -> u32 {
    let (exponent, fraction) = kind.widths();
    if kind == Kind::E4m3 { 0x7f } else { ((1 << exponent) - 1) << fraction }
}

pub(crate) fn sign(kind: Kind) -> u32 {
    1 << (kind.size() * 8 - 1)
}

/// The bits of the smallest normal number; one less is the largest subnormal.
fn smallest_normal(kind: Kind) -> u32 {
    1 << kind.widths().1
}

/// A number near `x`, never infinite.
pub(crate) fn near(kind: Kind, x: f64) -> u32 {
    let x = x as f32;
    let bits: u32 = match kind {
        Kind::F32 => x.to_bits(),
        Kind::F16 => half::f16::from_f32(x).to_bits().into(),
        Kind::Bf16 => half::bf16::from_f32(x).to_bits().into(),
        Kind::E4m3 | Kind::E5m2 => near_eight_bits(kind, x),
    };
    let magnitude = (bits & !sign(kind)).min(infinity(kind) - 1);
    bits & sign(kind) | magnitude
}

/// The largest number of eight bits that is no larger.
fn near_eight_bits(kind: Kind, x: f32) -> u32 {
    let value = |bits| exact(kind, bits).map_or(f32::NAN, |(integer, power)| integer as f32 * 2f32.powi(power));
    let magnitude = (0..infinity(kind)).rev().find(|&bits| value(bits) <= x.abs()).unwrap_or(0);
    magnitude | if x < 0.0 { sign(kind) } else { 0 }
}

/// A random sign on every entry.
fn signed(rng: &mut Rng, kind: Kind, mut bits: Vec<u32>) -> Vec<u32> {
    bits.iter_mut().filter(|_| rng.next() & 1 == 1).for_each(|b| *b ^= sign(kind));
    bits
}

// ---- distributions

/// A way to fill `n` entries.
#[derive(Clone, Copy)]
pub(crate) struct Distribution {
    pub(crate) name: &'static str,
    fill: fn(&mut Rng, Kind, usize) -> Vec<u32>,
}

/// What each looks like, as a histogram of magnitudes or as the entries in order.
pub(crate) const DISTRIBUTIONS: &[Distribution] = &[
    // ▁▂▄▇█▇▄▂▁  trained weights
    Distribution { name: "normal", fill: |rng, kind, n| each(n, |_| near(kind, rng.normal() * 0.02)) },
    // █▃▁▁▁▁  ▁   a long tail
    Distribution { name: "lognormal_2", fill: |rng, kind, n| each(n, |_| near(kind, (rng.normal() * 2.0).exp())) },
    // █          ▁   so long that few entries count
    Distribution { name: "lognormal_4", fill: |rng, kind, n| each(n, |_| near(kind, (rng.normal() * 4.0).exp())) },
    // █████████  even in the exponent: sums need every bit of their width
    Distribution {
        name: "sixty_decades",
        fill: |rng, kind, n| each(n, |_| near(kind, 10f64.powf(rng.unit() * 60.0 - 30.0))),
    },
    // ||||||||  N_eff is N exactly, everything ties
    Distribution { name: "all_equal", fill: |rng, kind, n| signed(rng, kind, vec![near(kind, 0.1); n]) },
    // ......|.  N_eff is 1 exactly
    Distribution { name: "one_hot", fill: |rng, kind, n| one_hot(rng.below(n), one(kind) | sign(kind), n) },
    // |:|::||:  two values, so the threshold is full of ties
    Distribution {
        name: "two_values",
        fill: |rng, kind, n| each(n, |_| near(kind, if rng.below(3) == 0 { 3.0 } else { 1.0 })),
    },
    // -0+00-+0  N_eff is the number of nonzeros exactly
    Distribution { name: "ternary", fill: |rng, kind, n| each(n, |_| near(kind, rng.below(3) as f64 - 1.0)) },
    // ▂▃▅▇█▇▅▃▂  128 levels
    Distribution {
        name: "int8_levels",
        fill: |rng, kind, n| each(n, |_| near(kind, (rng.normal() * 40.0).clamp(-127.0, 127.0).round())),
    },
    // █      ▁▁  pruned before, with zeros of both signs
    Distribution {
        name: "mostly_zeros",
        fill: |rng, kind, n| {
            each(n, |_| if rng.below(10) == 0 { near(kind, rng.normal()) } else { rng.below(2) as u32 * sign(kind) })
        },
    },
    // ........  degenerate
    Distribution { name: "all_zeros", fill: |_, _, n| vec![0; n] },
    // --------  degenerate, and the signs must stay
    Distribution {
        name: "negative_zeros",
        fill: |rng, kind, n| each(n, |_| if rng.below(3) == 0 { 0 } else { sign(kind) }),
    },
    // nothing but numbers that a GPU may flush to zero
    Distribution {
        name: "subnormal",
        fill: |rng, kind, n| signed_each(rng, kind, n, |rng| rng.below(smallest_normal(kind) as usize) as u32),
    },
    // one normal number above a floor of the smallest subnormal
    Distribution {
        name: "dust",
        fill: |rng, kind, n| {
            let mut bits = vec![1; n];
            bits[rng.below(n)] = one(kind);
            bits
        },
    },
    // squares and sums that no float holds
    Distribution {
        name: "near_max",
        fill: |rng, kind, n| {
            signed_each(rng, kind, n, |rng| infinity(kind) - 1 - rng.below(infinity(kind) as usize / 100) as u32)
        },
    },
    // the border between subnormal and normal
    Distribution {
        name: "near_min",
        fill: |rng, kind, n| {
            signed_each(rng, kind, n, |rng| {
                let reach = smallest_normal(kind).min(40);
                smallest_normal(kind) - reach + rng.below(2 * reach as usize) as u32
            })
        },
    },
    // █......... the sum is one entry, and the rest is kept or not by the last bit
    Distribution { name: "outlier_first", fill: |rng, kind, n| outlier(rng, kind, n, 0) },
    // .........█
    Distribution { name: "outlier_last", fill: |rng, kind, n| outlier(rng, kind, n, n - 1) },
    //     ▌     all in one bin of the first digit; of some dtypes few levels, between which those of others lie
    Distribution { name: "near_one", fill: |rng, kind, n| each(n, |_| near(kind, 1.0 + 0.02 * rng.unit())) },
    // ▁▂▃▄▅▆▇█  winners all at the end
    Distribution { name: "ascending", fill: |_, kind, n| each(n, |i| near(kind, (i + 1) as f64)) },
    // █▇▆▅▄▃▂▁  winners all at the start
    Distribution { name: "descending", fill: |_, kind, n| each(n, |i| near(kind, (n - i) as f64)) },
    // three neighbouring numbers: all digits of the key but the last agree
    Distribution {
        name: "neighbours",
        fill: |rng, kind, n| signed_each(rng, kind, n, |rng| near(kind, 0.75) - 1 + rng.below(3) as u32),
    },
    // every finite number is as likely as any other
    Distribution {
        name: "any_bits",
        fill: |rng, kind, n| signed_each(rng, kind, n, |rng| rng.below(infinity(kind) as usize) as u32),
    },
];

fn each(n: usize, bits: impl FnMut(usize) -> u32) -> Vec<u32> {
    (0..n).map(bits).collect()
}

fn signed_each(rng: &mut Rng, kind: Kind, n: usize, bits: impl Fn(&mut Rng) -> u32) -> Vec<u32> {
    let magnitudes = each(n, |_| bits(rng));
    signed(rng, kind, magnitudes)
}

fn one_hot(at: usize, bits: u32, n: usize) -> Vec<u32> {
    each(n, |i| if i == at { bits } else { 0 })
}

fn outlier(rng: &mut Rng, kind: Kind, n: usize, at: usize) -> Vec<u32> {
    let largest = near(kind, 1e6);
    each(n, |i| if i == at { largest } else { near(kind, rng.normal()) })
}

/// The distribution of this name.
pub(crate) fn distribution(name: &str) -> Distribution {
    *DISTRIBUTIONS.iter().find(|d| d.name == name).unwrap_or_else(|| panic!("no distribution {name}"))
}

impl Distribution {
    /// `rows` rows of `row_len` entries.
    pub(crate) fn weights(self, kind: Kind, rows: usize, row_len: usize, seed: u64) -> Weights {
        let mut rng = Rng(seed);
        let bits = (0..rows).flat_map(|_| (self.fill)(&mut rng, kind, row_len)).collect::<Vec<_>>();
        weights(format!("{} {kind:?} {rows}x{row_len} seed {seed}", self.name), kind, row_len, &bits)
    }
}

/// Another distribution in every row: neighbours in memory that have nothing in common.
pub(crate) fn mixture(kind: Kind, rows: usize, row_len: usize, seed: u64) -> Weights {
    let mut rng = Rng(seed);
    let row = |r: usize| (DISTRIBUTIONS[r % DISTRIBUTIONS.len()].fill)(&mut rng, kind, row_len);
    let bits: Vec<u32> = (0..rows).flat_map(row).collect();
    weights(format!("mixture {kind:?} {rows}x{row_len} seed {seed}"), kind, row_len, &bits)
}

/// Two tensors of different dtypes with scores near each other, the second one's between those that the first one knows, so that a threshold
/// is no score of the first; and the same the other way round. Long enough that a workgroup has whole tiles of both.
pub(crate) fn between(kinds: [Kind; 2], seed: u64) -> [[Weights; 2]; 2] {
    let mut rng = Rng(seed);
    let pair = kinds.map(|kind| {
        let bits: Vec<u32> = (0..12_289).map(|_| near(kind, 1.0 + 0.02 * rng.unit())).collect();
        weights(format!("between {kind:?} of {kinds:?}"), kind, bits.len(), &bits)
    });
    let [first, second] = pair.clone();
    [pair, [second, first]]
}

/// Weights with these bits.
pub(crate) fn weights(label: String, kind: Kind, row_len: usize, bits: &[u32]) -> Weights {
    let bytes = bits.iter().flat_map(|b| b.to_le_bytes().into_iter().take(kind.size())).collect();
    Weights { label, kind, bytes, row_len, norms: None, ..Weights::NOTHING }
}

// ---- the threshold, placed

/// `n` entries at three neighbouring numbers: `above` over the threshold, `ties` at it, the rest just under it; shuffled.
///
/// With an odd `n` and `beta` 1/2 exactly `(n - 1) / 2` are kept: the spread is too small to cost another one.
pub(crate) fn boundary(kind: Kind, n: usize, above: usize, ties: usize, seed: u64) -> Weights {
    let threshold = near(kind, 1.25);
    let mut bits: Vec<u32> = each(n, |i| match i {
        i if i < above => threshold + 1,
        i if i < above + ties => threshold,
        _ => threshold - 1,
    });
    let mut rng = Rng(seed);
    rng.shuffle(&mut bits);
    let bits = signed(&mut rng, kind, bits);
    weights(format!("boundary {kind:?} n {n} above {above} ties {ties} seed {seed}"), kind, n, &bits)
}

/// Where, among `ties` equal entries, the last kept one lies: `(above, ties)` for `n` entries of which `(n - 1) / 2` are kept.
pub(crate) fn boundaries(n: usize) -> Vec<(usize, usize)> {
    let kept = (n - 1) / 2;
    let mut cases = vec![
        (kept - 1, 1),        // the threshold is one entry, and it is kept
        (kept - 1, 2),        // the first of two is kept
        (kept - 2, 2),        // both of two are kept
        (0, kept),            // all kept are ties, none is left over
        (0, kept + 1),        // one is left over
        (0, n),               // everything ties
        (kept - 1, n - kept), // one of very many is kept
        (kept / 2, n / 2),    // some on each side
    ];
    cases.retain(|&(above, ties)| above + ties <= n && ties > 0 && above < kept);
    cases
}

/// Two scores that a float sum takes for equal: `N_eff` is a hair under 2, so one is kept.
pub(crate) fn almost_two() -> Weights {
    weights("1 and 1.00003".to_owned(), Kind::F32, 2, &[1f32.to_bits(), 1.00003f32.to_bits()])
}

/// `n` equal scores but one, which is an ulp smaller: `N_eff` is under the integer `n`, by 1e-14 for f32.
pub(crate) fn just_below(kind: Kind, n: usize, at: usize) -> Weights {
    let bits = each(n, |i| one(kind) + u32::from(i != at));
    weights(format!("just below {n} {kind:?} odd one at {at}"), kind, n, &bits)
}

/// `n - 1` equal scores and the smallest number there is: `N_eff` is over the integer `n - 1`, by 1e-45 for f32.
pub(crate) fn just_above(kind: Kind, n: usize, at: usize) -> Weights {
    let bits = each(n, |i| if i == at { 1 } else { near(kind, 1.5) });
    weights(format!("just above {} {kind:?} odd one at {at}", n - 1), kind, n, &bits)
}

// ---- norms

/// Norms that no product with `weights` overflows on, with zeros, subnormals and negative ones among them.
pub(crate) fn with_norms(mut weights: Weights, seed: u64) -> Weights {
    let mut rng = Rng(seed ^ 0x6e6f_726d);
    let (exponent, fraction) = weights.kind.widths();
    let bias = (1 << (exponent - 1)) - 1;
    let magnitudes = weights.bits().into_iter().map(|b| b & !sign(weights.kind));
    let top = magnitudes.max().map_or(0, |b| (b >> fraction) as i32 - bias); // the largest weight is below 2^(top + 1)
    let scale = 2f64.powi((126 - top).min(20));
    let norm = |_| match rng.below(20) {
        0 => 0.0,
        1 => f32::from_bits(rng.below(1 << 23) as u32),
        2 => 1.0f32.min(scale as f32),
        3 => -(rng.unit() * scale) as f32,
        _ => ((rng.normal() * 1.5).exp() * scale / 64.0).min(scale) as f32,
    };
    weights.norms = Some((0..weights.row_len).map(norm).collect());
    weights.label += " with norms";
    weights
}

// ---- lengths

/// Lengths of one contest: each edge, one less and one more.
pub(crate) const LENGTHS: &[usize] = &[
    1,
    2,
    3, // the smallest
    7,
    8,
    9, // a byte of the mask
    15,
    16,
    17, // a vector of the processor
    31,
    32,
    33, // a word of the mask
    63,
    64,
    65, // a subgroup
    127,
    128,
    129,
    255,
    256,
    257, // a workgroup
    511,
    512,
    513,
    1023,
    1024,
    1025, // the bins of a digit
    4095,
    4096,
    4097, // a tile
    8191,
    8192,
    8193, // two tiles, a workgroup's share of f16
    16383,
    16384,
    16385,
    32767,
    32768,
    32769, // 16 KiB and more of workgroup memory
    65535,
    65536,
    65537, // a chunk of the processor; more than a dispatch has workgroups in one direction
    65536 + 4095,
    65536 + 4096,
    65536 + 4097, // a chunk and a tile
    131_071,
    131_073, // two chunks
    262_143,
    262_145, // a table of chunks
    1008,
    1040,
    4080,
    4112,
    8176,
    8208,
    16_368,
    16_400,
    65_520,
    65_552, // whole fours of words, and not of tiles
];

/// Lengths of a row.
pub(crate) const ROW_LENGTHS: &[usize] = &[
    1, 2, 3, 5, 7, 8, 9, // less than a word
    15, 16, 17, 31, 32, 33, // words of the mask that rows share
    64, 65, 127, 128, 129, 255, 256, 257, // a workgroup
    700, 1023, 1024, 1025, 1536, // layers of real models
    2064, 4080, 4112, 8176, 8208, // whole fours of words, and not of tiles
    4100, // of f32 alone
    4095, 4096, 4097, // a tile
    8191, 8193, 11_008, // more than one tile
    16_385, 40_001, // more than workgroup memory
    65_537, 120_003, // more than a chunk
];
