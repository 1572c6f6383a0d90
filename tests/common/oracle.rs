//! The naive answer: what the rule says, in big integers and one full sort.
//!
//! Shares no code and no type with the library. Nothing here is clever, so that it can be checked by reading; it is
//! itself held against the golden vectors in `tests/oracle_is_right.rs`.

use num_bigint::BigUint;

/// How an entry is stored: one sign bit, then the exponent, then the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Bf16,
    /// The one kind without infinity: all ones are NaN, and the rest of the highest exponent are numbers.
    E4m3,
    E5m2,
}

impl Kind {
    /// Bits of the exponent and of the fraction.
    pub(crate) fn widths(self) -> (u32, u32) {
        match self {
            Kind::F32 => (8, 23),
            Kind::F16 => (5, 10),
            Kind::Bf16 => (8, 7),
            Kind::E4m3 => (4, 3),
            Kind::E5m2 => (5, 2),
        }
    }

    /// Bytes of an entry.
    pub(crate) fn size(self) -> usize {
        match self {
            Kind::F32 => 4,
            Kind::F16 | Kind::Bf16 => 2,
            Kind::E4m3 | Kind::E5m2 => 1,
        }
    }
}

/// Weights as a file holds them, in rows of `row_len`, with a label for whoever has to read the failure.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) row_len: usize,
    pub(crate) norms: Option<Vec<f32>>,
    /// One each, where the weights are not what is judged.
    pub(crate) scores: Option<Box<Weights>>,
    /// Lengths of neighbouring contests.
    pub(crate) segments: Option<Vec<u64>>,
}

impl Weights {
    /// To begin from.
    pub(crate) const NOTHING: Self = Self {
        label: String::new(),
        kind: Kind::F32,
        bytes: Vec::new(),
        row_len: 0,
        norms: None,
        scores: None,
        segments: None,
    };

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.kind.size()
    }

    /// The bits of every entry.
    pub(crate) fn bits(&self) -> Vec<u32> {
        let word = |b: &[u8]| b.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        self.bytes.chunks_exact(self.kind.size()).map(word).collect()
    }
}

/// Who competes with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contests {
    Global,
    Tensor,
    Row,
    Column,
    /// Of so many rows and columns, smaller at the right and lower edge.
    Block(usize, usize),
    /// So many groups of rows.
    Heads(usize),
    /// Runs of so many entries of a row, the last one shorter.
    Chunks(usize),
    Segments,
}

/// How many are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Keep {
    /// `floor(beta * N_eff)`.
    Effective,
    Count(usize),
    /// All but this decimal part, rounded half to even.
    AllBut(f64),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) contests: Contests,
    pub(crate) wanda: bool,
    pub(crate) beta: f64,
    /// The scores beside the weights count.
    pub(crate) given: bool,
    pub(crate) keep: Keep,
    /// Every contest keeps so many.
    pub(crate) least: usize,
}

impl Question {
    /// The rule as the paper has it.
    pub(crate) const RULE: Self =
        Self { contests: Contests::Tensor, wanda: false, beta: 1.0, given: false, keep: Keep::Effective, least: 0 };
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Nan,
    Infinity,
    /// A Wanda product past the largest f32.
    Product,
}

/// The first bad entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) tensor: usize,
    pub(crate) index: usize,
    pub(crate) bad: Bad,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) contests: Vec<Contest>,
    /// Per tensor, one flag per entry: kept.
    pub(crate) masks: Vec<Vec<bool>>,
}

/// One contest.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) scores: Vec<f32>,
    pub(crate) winners: Vec<bool>,
    pub(crate) kept: usize,
    pub(crate) threshold: f32,
    pub(crate) n_eff: f64,
    pub(crate) mass: f64,
    pub(crate) bound: Bound,
    pub(crate) degenerate: bool,
}

/// The exact value of the certificate lies between these two, in units of `2^-BOUND_BITS`.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) low: BigUint,
    pub(crate) high: BigUint,
}

/// A finite magnitude: the integer times two to the power.
type Exact = (u64, i32);

/// What the rule says about `tensors`.
pub(crate) fn answer(tensors: &[Weights], question: &Question) -> Result<Answer, Refusal> {
    let mut scores: Vec<Vec<f32>> = Vec::new();
    for (tensor, weights) in tensors.iter().enumerate() {
        let refuse = |(index, bad)| Refusal { tensor, index, bad };
        let judged = weights.scores.as_deref().filter(|_| question.given).unwrap_or(weights);
        scores.push(scores_of(judged, question.wanda).map_err(refuse)?);
    }
    let all = |t: usize| (0..scores[t].len()).map(move |i| (t, i));
    let places: Vec<Vec<(usize, usize)>> = match question.contests {
        Contests::Global => vec![(0..tensors.len()).flat_map(all).collect()],
        Contests::Tensor => (0..tensors.len()).map(|t| all(t).collect()).collect(),
        Contests::Row => {
            let rows =
                |t: usize| all(t).collect::<Vec<_>>().chunks(tensors[t].row_len).map(<[_]>::to_vec).collect::<Vec<_>>();
            (0..tensors.len()).flat_map(rows).collect()
        }
        // Everything else: a number for every entry, and the entries of one number compete.
        _ => (0..tensors.len()).flat_map(|t| by_number(t, &tensors[t], question.contests)).collect(),
    };
    let mut masks: Vec<Vec<bool>> = scores.iter().map(|s| vec![false; s.len()]).collect();
    let mut contests = Vec::new();
    for places in places {
        let contest = judge(places.iter().map(|&(t, i)| scores[t][i]).collect(), question);
        for (&(t, i), &wins) in places.iter().zip(&contest.winners) {
            masks[t][i] = wins;
        }
        contests.push(contest);
    }
    Ok(Answer { contests, masks })
}

/// How the weights of a row, column or head become its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    L1,
    L2,
    Max,
}

/// The scores of structures, each the nearest f32 to the exact norm of its entries' scores under this question; none when one is infinite.
/// `structure` says of each tensor's entries which they belong to.
pub(crate) fn structure_scores(
    tensors: &[Weights],
    structure: impl Fn(usize, usize) -> usize,
    norm: Norm,
    question: &Question,
) -> Option<Vec<f32>> {
    let scores = |weights: &Weights| {
        let judged = weights.scores.as_deref().filter(|_| question.given).unwrap_or(weights);
        scores_of(judged, question.wanda).expect("numbers")
    };
    let scores: Vec<_> = tensors.iter().map(scores).collect();
    let mut places: Vec<Vec<(usize, usize)>> = Vec::new();
    for (t, scores) in scores.iter().enumerate() {
        for i in 0..scores.len() {
            let number = structure(t, i);
            places.resize(places.len().max(number + 1), vec![]);
            places[number].push((t, i));
        }
    }
    let score = |places: &Vec<(usize, usize)>| {
        let magnitudes = || places.iter().map(|&(t, i)| units(scores[t][i]));
        // In units of 2^-149 * 2^-60, so that a root has bits to round with.
        let fixed = match norm {
            Norm::L1 => magnitudes().sum::<BigUint>() << 60u32,
            Norm::L2 => (magnitudes().map(|m| m.pow(2)).sum::<BigUint>() << 120u32).sqrt(),
            Norm::Max => magnitudes().max().expect("entries") << 60u32,
        };
        // A root is no f32 and no midpoint unless it is exact: one more bit says that something is left.
        let left = norm == Norm::L2 && fixed.pow(2) != magnitudes().map(|m| m.pow(2)).sum::<BigUint>() << 120u32;
        let drop = fixed.bits().saturating_sub(50);
        let rest = left || &fixed >> drop << drop != fixed;
        let top = u64::try_from(&fixed >> drop).expect("50 bits") << 1 | u64::from(rest);
        nearest_f32((top, drop as i32 - 1 - 209))
    };
    places.iter().map(score).collect()
}

/// The places of a tensor's contests, but for those of `Row`, which are `Chunks` of the row's length too.
pub(crate) fn by_number(t: usize, weights: &Weights, contests: Contests) -> Vec<Vec<(usize, usize)>> {
    let columns = weights.row_len;
    let rows = weights.len() / columns;
    let number = |i: usize| {
        let (row, column) = (i / columns, i % columns);
        match contests {
            Contests::Column => column,
            Contests::Block(height, width) => row / height * columns.div_ceil(width) + column / width,
            Contests::Heads(heads) => row / (rows / heads),
            Contests::Chunks(len) => row * columns.div_ceil(len) + column / len,
            Contests::Segments => {
                let lens = weights.segments.as_ref().expect("segments");
                (0..lens.len()).find(|&s| (i as u64) < lens[..=s].iter().sum()).expect("they fill the tensor")
            }
            Contests::Global | Contests::Tensor | Contests::Row => unreachable!("handled above"),
        }
    };
    let numbers: Vec<usize> = (0..weights.len()).map(number).collect();
    let mut places = vec![vec![]; numbers.iter().max().expect("entries") + 1];
    numbers.into_iter().enumerate().for_each(|(i, number)| places[number].push((t, i)));
    places
}

/// How many of `n` are kept, if the scores have no say in it.
fn fixed(keep: Keep, n: usize) -> Option<usize> {
    match keep {
        Keep::Effective => None,
        Keep::Count(count) => Some(count.min(n)),
        Keep::AllBut(part) => {
            let (numerator, denominator) = decimal(part);
            let (twice, denominator) = (numerator * n * 2u8, denominator);
            let floor = usize::try_from(&twice / (&denominator * 2u8)).expect("at most n");
            let rest = twice - &denominator * 2u8 * floor;
            let up = rest > denominator || (rest == denominator && floor % 2 == 1);
            Some(n - floor - usize::from(up))
        }
    }
}

/// One contest: sums in integers, a budget, a full sort.
fn judge(scores: Vec<f32>, question: &Question) -> Contest {
    let n = scores.len();
    let least = question.least.min(n);
    let total: BigUint = scores.iter().map(|&s| units(s)).sum();
    let squares: BigUint = scores.iter().map(|&s| units(s).pow(2)).sum();
    if total == BigUint::ZERO {
        let kept = fixed(question.keep, n).unwrap_or(n).max(least);
        let one = BigUint::from(1u8) << BOUND_BITS;
        let share = one * kept / n;
        let bound = Bound { low: share.clone(), high: share };
        return Contest {
            scores,
            winners: (0..n).map(|i| i < kept).collect(),
            kept,
            threshold: if kept == 0 { f32::INFINITY } else { 0.0 },
            n_eff: n as f64,
            mass: nearest_f64(&BigUint::from(kept), &BigUint::from(n)),
            bound,
            degenerate: true,
        };
    }
    let (numerator, denominator) = decimal(question.beta);
    let budget = numerator * total.pow(2) / (denominator * &squares);
    let effective = usize::try_from(&budget).unwrap_or(usize::MAX).clamp(1, n);
    let kept = fixed(question.keep, n).unwrap_or(effective).max(least);

    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut winners = vec![false; n];
    order[..kept].iter().for_each(|&i| winners[i] = true);
    let kept_total: BigUint = order[..kept].iter().map(|&i| units(scores[i])).sum();
    Contest {
        kept,
        threshold: if kept == 0 { f32::INFINITY } else { scores[order[kept - 1]] },
        n_eff: nearest_f64(&total.pow(2), &squares),
        mass: nearest_f64(&kept_total, &total),
        bound: certificate(n, kept, &total, &squares),
        degenerate: false,
        scores,
        winners,
    }
}

// ---- numbers as integers

/// The scores of one tensor, or its first bad entry.
fn scores_of(weights: &Weights, wanda: bool) -> Result<Vec<f32>, (usize, Bad)> {
    let norms: Option<Vec<Exact>> = wanda.then(|| {
        let norms = weights.norms.as_ref().expect("Wanda needs norms");
        norms.iter().map(|n| exact(Kind::F32, n.to_bits()).expect("norms are finite")).collect()
    });
    let score = |(i, bits): (usize, u32)| {
        let (mut integer, mut power) = exact(weights.kind, bits).map_err(|bad| (i, bad))?;
        if let Some(norms) = &norms {
            integer *= norms[i % weights.row_len].0;
            power += norms[i % weights.row_len].1;
        }
        nearest_f32((integer, power)).ok_or((i, Bad::Product))
    };
    weights.bits().into_iter().enumerate().map(score).collect()
}

/// The magnitude of a stored number.
pub(crate) fn exact(kind: Kind, bits: u32) -> Result<Exact, Bad> {
    let (exponent_bits, fraction_bits) = kind.widths();
    let fraction = u64::from(bits & ((1 << fraction_bits) - 1));
    let exponent = (bits >> fraction_bits & ((1 << exponent_bits) - 1)) as i32;
    let lowest = 2 - (1 << (exponent_bits - 1)) - fraction_bits as i32;
    if kind == Kind::E4m3 {
        if bits & 0x7f == 0x7f {
            return Err(Bad::Nan);
        }
    } else if exponent == (1 << exponent_bits) - 1 {
        return Err(if fraction == 0 { Bad::Infinity } else { Bad::Nan });
    }
    Ok(if exponent == 0 { (fraction, lowest) } else { (fraction | 1 << fraction_bits, lowest + exponent - 1) })
}

/// A score in units of the smallest subnormal f32.
fn units(score: f32) -> BigUint {
    let (integer, power) = exact(Kind::F32, score.to_bits()).expect("scores are finite");
    BigUint::from(integer) << (power + 149)
}

/// The nearest f32, ties to even; none when that is infinite.
pub(crate) fn nearest_f32((integer, power): Exact) -> Option<f32> {
    if integer == 0 {
        return Some(0.0);
    }
    let top = power + integer.ilog2() as i32;
    let unit = (top - 23).max(-149); // the power of two that the last place of the result stands for
    let places = unit - power;
    let rounded = match places {
        ..=0 => integer << -places,
        1..=63 => {
            let (quotient, rest, half) = (integer >> places, integer & ((1 << places) - 1), 1 << (places - 1));
            quotient + u64::from(rest > half || (rest == half && quotient % 2 == 1))
        }
        _ => 0, // the integer has at most 48 bits
    };
    // A normal number carries its hidden bit into the exponent field, and so does a fraction that rounds up to it.
    let bits = ((unit + 149) as u64) * (1 << 23) + rounded;
    (bits < 0x7f80_0000).then(|| f32::from_bits(bits as u32))
}

/// The decimal that an f64 prints as, as a ratio: 0.7 is 7/10.
fn decimal(value: f64) -> (BigUint, BigUint) {
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits: BigUint = format!("{whole}{fraction}").parse().expect("digits");
    (digits, BigUint::from(10u8).pow(fraction.len() as u32))
}

/// The f64 nearest to a ratio, ties to even. The ratios here are far from the ends of f64.
pub(crate) fn nearest_f64(numerator: &BigUint, denominator: &BigUint) -> f64 {
    // Scaled so that the quotient has 66 or 67 bits: 53, and enough below that one more for "something is left" decides.
    let scale = 66 - (numerator.bits() as i64 - denominator.bits() as i64);
    let (up, down) = (scale.max(0) as u64, (-scale).max(0) as u64);
    let (numerator, denominator) = (numerator << up, denominator << down);
    if numerator == BigUint::ZERO {
        return 0.0;
    }
    let quotient = u128::try_from(&numerator / &denominator).expect("67 bits");
    let places = quotient.ilog2() - 52;
    let half = 1u128 << (places - 1);
    let rest = (quotient & ((1 << places) - 1)) * 2 + u128::from(&numerator % &denominator != BigUint::ZERO);
    let mut integer = quotient >> places;
    if rest > half * 2 || (rest == half * 2 && integer % 2 == 1) {
        integer += 1;
    }
    integer as f64 * 2f64.powi(i32::try_from(i64::from(places) - scale).expect("a small power"))
}

// ---- the certificate

/// Fixed-point places of the certificate: 1e-60 where 1e-12 is asked for.
pub(crate) const BOUND_BITS: u64 = 200;

/// The least mass that `kept` of `n` entries with these sums can hold: the least of three edges of the ordered simplex.
fn certificate(n: usize, kept: usize, total: &BigUint, squares: &BigUint) -> Bound {
    let t2 = total.pow(2);
    let floor = usize::try_from(&t2 / squares).expect("at most n");
    let ceil = if &t2 % squares == BigUint::ZERO { floor } else { floor + 1 };
    if kept == n {
        let one = BigUint::from(1u8) << BOUND_BITS;
        return Bound { low: one.clone(), high: one };
    }
    let edges = [(1, n), (1, ceil), (floor, ceil)].map(|(i, j)| edge(i, j, kept, &t2, squares));
    let low = edges.iter().map(|e| e.low.clone()).min().expect("three");
    let high = edges.iter().map(|e| e.high.clone()).min().expect("three");
    Bound { low, high }
}

/// `t * min(1, k/i) + (1 - t) * min(1, k/j)` with `t^2 = i (j Q - S^2) / ((j - i) S^2)`.
fn edge(i: usize, j: usize, kept: usize, t2: &BigUint, squares: &BigUint) -> Bound {
    let one = BigUint::from(1u8) << BOUND_BITS;
    let t_low =
        if i == j { one.clone() } else { (((i * (j * squares - t2)) << (2 * BOUND_BITS)) / ((j - i) * t2)).sqrt() };
    let t_high = (&t_low + 1u8).min(one.clone());
    // Both shares over the denominator i * j. The one at i is the larger, so the sum grows with t.
    let share = |of: usize, other: usize| BigUint::from(kept.min(of)) * other;
    let value = |t: &BigUint| t * share(i, j) + (&one - t) * share(j, i);
    let denominator = BigUint::from(i) * j;
    Bound { low: value(&t_low) / &denominator, high: (value(&t_high) + &denominator - 1u8) / denominator }
}
