//! Contests of a few keys, many side by side, from their keys to their mask bits. No bins, and where the scores allow it no wide integers either.
//!
//! Every loop over lanes is the innermost, long enough that the compiler leaves it to its vectoriser, and takes [`DEEP`] keys of each contest at
//! a time, so that a lane's sums are loaded and stored once for all of them.

#![allow(clippy::needless_range_loop, reason = "loops over lanes index several arrays, and look alike where it is one")]

use super::apply::{Piece, carry_out_bits};
use super::pairs::{self, Pair};
use super::windows::Tally;
use super::{CHUNK, each_at_a_desk, simd, stats, zeroed};
use crate::budget::Effective;
use crate::decision::{Group, NOTHING_KEPT, Quota};
use crate::dtype::Dtype;
use crate::grid::Grid;
use crate::key::{Bad, KEY_END, Keys, significand};
use crate::rule::{Budget, Rule};
use kinds::{Brain, Half, Kind, Lane, Single};
use search::{Found, search};
use std::ops::Range;
use sums::{Spans, Sums};

pub(super) mod columns;
mod kinds;
mod search;
mod sums;

/// Contests side by side. A multiple of eight, so that their mask bits are whole bytes.
pub(super) const LANES: usize = 64;

/// Keys of a contest that are looked at together. Zeros that fill up the last ones change no sum and no rank.
const DEEP: usize = 4;

/// Contests up to this many entries.
pub(super) const SHORT: usize = 128;

/// Bits of each half of a value that is not short.
const HALF: u32 = Single::VALUE / 2;

/// A number for each contest.
type Each<T> = [T; LANES];

/// Entries whose bits make a word.
const WORD: usize = u32::BITS as usize;

/// How a contest lies in memory: `height` runs of `width` entries, `stride` apart. The next contest begins `width` entries further, and where there
/// were so many side by side, below them.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) stride: usize,
    pub(super) side_by_side: usize,
}

impl Shape {
    /// Entries of a contest.
    fn len(self) -> usize {
        self.height * self.width
    }

    /// The contests from number `first` on, those that are side by side together: their lanes, and the first entry.
    #[inline(always)]
    fn neighbours(self, first: usize, count: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let mut lane = 0;
        std::iter::from_fn(move || {
            let (above, beside) = ((first + lane) / self.side_by_side, (first + lane) % self.side_by_side);
            let lanes = lane..count.min(lane.saturating_add(self.side_by_side - beside));
            lane = lanes.end;
            (!lanes.is_empty()).then_some((lanes, above * self.height * self.stride + beside * self.width))
        })
    }
}

/// What a thread needs for some contests after the other.
struct Desk<K: Kind> {
    /// As they lie in memory, run by run.
    tile: Box<[K::Key; LANES * SHORT]>,
    /// Entry by entry, a key of each contest.
    keys: Box<[Each<K::Key>; SHORT]>,
    /// What is kept, a bit an entry: first contest by contest, then as they lie in memory.
    kept: Box<[Each<u32>; SHORT / WORD]>,
    bits: Box<[u32; LANES * SHORT / WORD]>,
    /// Of the contests of which integers had to tell what is kept.
    quotas: Vec<(usize, Quota)>,
}

/// Decide the blocks of a grid that none of them sticks out of, and carry that out. Blocks have at most [`SHORT`] entries, and the columns are
/// a multiple of 8 where there is a mask.
pub(crate) fn blocks(piece: Piece<'_>, grid: &Grid, rule: &Rule) -> Result<Vec<Group>, Bad> {
    let [columns, height, width] = [grid.columns, grid.block_rows, grid.block_columns].map(|n| n as usize);
    let shape = Shape { height, width, stride: columns, side_by_side: columns / width };
    let mut groups = zeroed((grid.bands() * grid.stripes()) as usize);
    // More than one band where it has few blocks, so that lanes are not left empty.
    let bands = (CHUNK / (height * columns)).max(1);
    let pieces = piece.into_chunks(bands * height * columns).into_iter();
    let pieces = pieces.zip(groups.chunks_mut(bands * shape.side_by_side)).collect();
    each_piece(pieces, shape, rule, (bands * height * columns) as u64)?;
    Ok(groups)
}

/// Whether [`blocks`] takes this grid, with a mask or without one.
pub(crate) fn takes(grid: &Grid, mask: bool) -> bool {
    let is_even = grid.rows.is_multiple_of(grid.block_rows) && grid.columns.is_multiple_of(grid.block_columns);
    is_even && grid.block_rows * grid.block_columns <= SHORT as u64 && (!mask || grid.columns.is_multiple_of(8))
}

/// Decide pieces that lie `len` entries apart, and carry that out: of each the neighbouring contests that begin at its first entry.
pub(super) fn each_piece(
    pieces: Vec<(Piece<'_>, &mut [Group])>,
    shape: Shape,
    rule: &Rule,
    len: u64,
) -> Result<(), Bad> {
    let Some((first, _)) = pieces.first() else { return Ok(()) };
    let (_, dtype, norms) = first.keys().parts();
    match dtype {
        Dtype::Bf16 | Dtype::F8E4m3 | Dtype::F8E5m2 if norms.is_none() => of_kind::<Brain>(pieces, shape, rule, len),
        Dtype::F16 if norms.is_none() => of_kind::<Half>(pieces, shape, rule, len),
        _ => of_kind::<Single>(pieces, shape, rule, len),
    }
}

fn of_kind<K: Kind>(pieces: Vec<(Piece<'_>, &mut [Group])>, shape: Shape, rule: &Rule, len: u64) -> Result<(), Bad> {
    let done = each_at_a_desk(pieces, Desk::<K>::new, |desk, i, (piece, groups)| {
        desk.decide(piece, shape, rule, groups).map_err(|bad| Bad { at: bad.at + i as u64 * len, ..bad })
    });
    done.into_iter().collect()
}

impl<K: Kind> Desk<K> {
    fn new() -> Self {
        Self {
            tile: Box::new([K::Key::ZERO; LANES * SHORT]),
            keys: Box::new([[K::Key::ZERO; LANES]; SHORT]),
            kept: Box::new([[0; LANES]; SHORT / WORD]),
            bits: Box::new([0; LANES * SHORT / WORD]),
            quotas: Vec::with_capacity(LANES),
        }
    }

    /// Decide neighbouring contests, of which the first begins at the piece's first entry.
    fn decide(&mut self, mut piece: Piece<'_>, shape: Shape, rule: &Rule, groups: &mut [Group]) -> Result<(), Bad> {
        let looks = piece.mask.is_none() && piece.bytes.get_mut().is_none();
        for (i, groups) in groups.chunks_mut(LANES).enumerate() {
            let first = i * LANES;
            simd::with(
                #[inline(always)]
                || {
                    self.gather(&piece, first, shape, groups.len())?;
                    decide::<K>(
                        &mut self.keys[..shape.len().next_multiple_of(DEEP)],
                        shape.len(),
                        rule,
                        &mut *self.kept,
                        &mut self.quotas,
                        groups,
                    );
                    if !looks {
                        self.carry_out(&mut piece, first, shape, groups.len());
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }

    /// Bring the keys of `count` contests side by side, of which `first` is the first one's number.
    #[inline(always)]
    fn gather(&mut self, piece: &Piece<'_>, first: usize, shape: Shape, count: usize) -> Result<(), Bad> {
        let keys = piece.keys();
        if count < LANES {
            self.keys[..shape.len()].fill([K::Key::ZERO; LANES]);
        }
        self.keys[shape.len()..shape.len().next_multiple_of(DEEP)].fill([K::Key::ZERO; LANES]);
        for row in 0..shape.height {
            let of_row = &mut self.keys[row * shape.width..];
            for (lanes, start) in shape.neighbours(first, count) {
                let (tile, start) = (&mut self.tile[..lanes.len() * shape.width], start + row * shape.stride);
                K::fill(&keys, start, tile);
                if tile.iter().fold(K::Key::ZERO, |most, &key| key.max(most)) >= K::END {
                    return first_bad(&keys, start, tile.len());
                }
                of_width(
                    shape.width,
                    #[inline(always)]
                    |width| {
                        for (lane, run) in lanes.zip(tile.chunks_exact(width)) {
                            for (keys, &key) in of_row[..width].iter_mut().zip(run) {
                                keys[lane % LANES] = key;
                            }
                        }
                    },
                );
            }
        }
        Ok(())
    }

    /// Bring what is kept back to where it lies, run by run.
    #[inline(always)]
    fn carry_out(&mut self, piece: &mut Piece<'_>, first: usize, shape: Shape, count: usize) {
        for row in 0..shape.height {
            let from = row * shape.width;
            for (lanes, start) in shape.neighbours(first, count) {
                let (start, len) = (start + row * shape.stride, lanes.len() * shape.width);
                line_up(&self.kept, from..from + shape.width, lanes, &mut *self.bits);
                carry_out_bits(&*self.bits, piece, start..start + len);
            }
        }
    }
}

/// `work(width)`: for the usual ones in loops that the compiler knows the length of.
#[inline(always)]
fn of_width(width: usize, work: impl FnOnce(usize)) {
    match width {
        4 => work(4),
        8 => work(8),
        16 => work(16),
        width => work(width),
    }
}

/// Bring the bits of the same entries of some contests one after the other.
#[inline(always)]
fn line_up(kept: &[Each<u32>; SHORT / WORD], entries: Range<usize>, lanes: Range<usize>, bits: &mut [u32]) {
    let width = entries.len();
    if width < WORD && WORD.is_multiple_of(width) && lanes == (0..LANES) {
        let shift = entries.start % WORD;
        return of_width(
            width,
            #[inline(always)]
            |width| {
                let lanes = kept[entries.start / WORD].chunks_exact(WORD / width);
                for (word, lanes) in bits.iter_mut().zip(lanes) {
                    let bits = lanes.iter().map(|bits| bits >> shift & ((1 << width) - 1));
                    *word = bits.enumerate().fold(0, |word, (lane, bits)| word | bits << (lane * width));
                }
            },
        );
    }
    let (mut held, mut len, mut words) = (0u64, 0, bits.iter_mut());
    for lane in lanes {
        for at in entries.clone().step_by(WORD) {
            let more = (entries.end - at).min(WORD);
            let word = |i: usize| kept.get(i).map_or(0, |word| u64::from(word[lane]));
            let both = word(at / WORD) | word(at / WORD + 1) << WORD;
            held |= (both >> (at % WORD) & ((1 << more) - 1)) << len;
            len += more;
            if len >= WORD {
                if let Some(word) = words.next() {
                    *word = held as u32;
                }
                (held, len) = (held >> WORD, len - WORD);
            }
        }
    }
    if let Some(word) = words.next() {
        *word = held as u32;
    }
}

/// Among entries of which one is no number.
#[cold]
fn first_bad(keys: &Keys<'_>, first: usize, len: usize) -> Result<(), Bad> {
    let mut tile = vec![0; len];
    keys.fill(first, &mut tile);
    stats::bad_in(keys, &tile, first)
}

/// Decide contests, and say what is kept.
#[inline(always)]
fn decide<K: Kind>(
    keys: &mut [Each<K::Key>],
    len: usize,
    rule: &Rule,
    kept: &mut [Each<u32>],
    quotas: &mut Vec<(usize, Quota)>,
    groups: &mut [Group],
) {
    let (deep, _) = keys.as_chunks();
    let spans = Spans::of(deep);
    let sums = Sums::of::<K>(deep, &spans);
    let mut told = Told::of::<K>(&sums, len, rule);
    quotas.clear();
    for lane in 0..groups.len() {
        if told.sure[lane] == 0 {
            let effective = match sums.effective(lane, len as u64) {
                None if spans.largest[lane] != K::Key::ZERO => {
                    Effective::new(&tally::<K>(keys, lane, KEY_END).moments, len as u64)
                }
                effective => effective,
            };
            let quota = Quota::of(effective, len as u64, rule);
            told.kept[lane] = (quota.kept as u32).max(1);
            quotas.push((lane, quota));
        }
    }
    // Lanes without a contest keep a zero.
    told.kept[groups.len()..].fill(1);
    let mut found = search(deep, &spans, &told.kept.map(K::Key::of));
    let mut mass = [None; LANES];
    for &(lane, ref quota) in quotas.iter() {
        // Where nothing had to be looked for, all ties are alike.
        if let Some(threshold) = quota.threshold() {
            let threshold = if threshold == NOTHING_KEPT { K::END } else { K::Key::of(threshold) };
            (found.threshold[lane], found.ties[lane]) = (threshold, Found::ALL);
        }
        if !sums.exact[lane] {
            mass[lane] = Some(wide_mass::<K>(keys, lane, K::widen(found.threshold[lane]), quota));
        }
    }
    let cut = drop_ties(&mut keys[..len], &found);
    let (deep, _) = keys.as_chunks();
    let masses = sums.masses(&mark::<K>(deep, &spans, &found.threshold, kept));
    let threshold = found.threshold.map(K::widen);
    for (lane, group) in groups.iter_mut().enumerate() {
        let measures = [told.n_eff[lane], masses[lane], told.mass_bound[lane]];
        *group = Group::new(len as u64, told.kept[lane].into(), threshold[lane], cut[lane].into(), measures);
    }
    for &(lane, ref quota) in quotas.iter() {
        let mass = mass[lane].unwrap_or(masses[lane]);
        groups[lane] = quota.settle(threshold[lane], cut[lane].into(), mass);
    }
}

/// What each contest keeps and how much that is, where [`pairs`] of doubles tell it.
struct Told {
    kept: Each<u32>,
    n_eff: Each<f64>,
    mass_bound: Each<f64>,
    sure: Each<u64>,
}

impl Told {
    #[inline(always)]
    fn of<K: Kind>(sums: &Sums, len: usize, rule: &Rule) -> Self {
        let [mut n_eff, mut mass_bound] = [[0.0; LANES]; 2];
        let (mut kept, mut sure) = ([0; LANES], [0; LANES]);
        // A contest of one entry has no edges.
        if len < 2 {
            return Self { kept, n_eff, mass_bound, sure };
        }
        let [low, cross, high] = &sums.squares;
        let mut pairs = [Pair::ZERO; LANES];
        for lane in 0..LANES {
            let square = if K::IS_SHORT {
                Pair::of(low[lane])
            } else {
                pairs::square([low[lane], cross[lane], high[lane]], HALF)
            };
            pairs[lane] = pairs::n_eff(sums.sum[lane], square);
            let told = pairs[lane].told();
            (n_eff[lane], sure[lane]) = (told.value, told.sure & u64::from(sums.exact[lane]));
        }
        match rule.budget {
            Budget::Effective(beta) => {
                // What floats guess, integers prove. Those have 100 bits and seven for the length: a beta of more is not for here.
                let is_short = beta.numerator().max(beta.denominator()) < 1 << 12;
                for lane in 0..LANES {
                    let guess = n_eff[lane] * (beta.numerator() as f64 / beta.denominator() as f64);
                    kept[lane] = (guess as u32).clamp(1, len as u32);
                }
                for lane in 0..LANES {
                    let is_proven = is_short && sums.is_floor(lane, kept[lane], beta, len);
                    sure[lane] &= u64::from(is_proven);
                }
            }
            budget => kept = [budget.fixed(len as u64).unwrap_or(0) as u32; LANES],
        }
        let mut bound_is_sure = [0; LANES];
        for lane in 0..LANES {
            kept[lane] = kept[lane].max(rule.at_least(0, len as u64) as u32);
            let told = pairs::mass_bound(pairs[lane], len as f64, kept[lane] as i32 as f64);
            (mass_bound[lane], bound_is_sure[lane]) = (told.value, told.sure);
        }
        // Of longer contests that hardly ever happens.
        if bound_is_sure.contains(&0) {
            for lane in 0..LANES {
                let told = pairs::mass_bound_of_all(pairs[lane], len as f64, kept[lane] as i32 as f64);
                mass_bound[lane] = if bound_is_sure[lane] == 0 { told.value } else { mass_bound[lane] };
                bound_is_sure[lane] |= told.sure;
            }
        }
        for lane in 0..LANES {
            sure[lane] &= bound_is_sure[lane] & u64::from(kept[lane] > 0);
        }
        Self { kept, n_eff, mass_bound, sure }
    }
}

/// From which entry on ties lose. Those become less than the threshold.
#[inline(always)]
fn drop_ties<K: Lane>(keys: &mut [Each<K>], Found { threshold, ties }: &Found<K>) -> Each<u32> {
    let len = keys.len() as u32;
    if ties.iter().all(|&ties| ties == Found::ALL) {
        return [len; LANES];
    }
    let (mut seen, mut cut, mut lost) = ([K::ZERO; LANES], [K::ZERO; LANES], [K::ZERO; LANES]);
    for (at, keys) in keys.iter_mut().enumerate() {
        for lane in 0..LANES {
            let is_tie = K::from(keys[lane] == threshold[lane]);
            seen[lane] += is_tie;
            let loses = is_tie & K::from(seen[lane] > ties[lane]);
            cut[lane] = if is_tie > loses { K::of(at as u32 + 1) } else { cut[lane] };
            lost[lane] |= loses;
            keys[lane] -= loses;
        }
    }
    let mut cuts = [len; LANES];
    for lane in 0..LANES {
        cuts[lane] = if lost[lane] != K::ZERO { cut[lane].bits() } else { len };
    }
    cuts
}

/// Which keys are kept, a bit each, and their sums in the windows. Zeros that fill up the last ones may get bits.
#[inline(always)]
fn mark<K: Kind>(
    deep: &[[Each<K::Key>; DEEP]],
    spans: &Spans<K::Key>,
    threshold: &Each<K::Key>,
    kept: &mut [Each<u32>],
) -> Each<u64> {
    let (tops, mut sum) = (spans.tops::<K>(), [K::Value::from(0); LANES]);
    for (deep, word) in deep.chunks(WORD / DEEP).zip(kept) {
        *word = [0; LANES];
        for (part, deep) in deep.chunks(K::Key::BITS as usize / DEEP).enumerate() {
            let mut of_part = [K::Key::ZERO; LANES];
            for (i, keys) in deep.iter().enumerate() {
                for lane in 0..LANES {
                    let (mut all, mut bits) = (sum[lane], of_part[lane]);
                    for (j, keys) in keys.iter().enumerate() {
                        // All ones where the key is kept.
                        let kept = !(keys[lane] - threshold[lane]).sign();
                        all += K::value(keys[lane] & kept, tops[lane]);
                        bits |= kept & K::Key::ONE << (i * DEEP + j) as u32;
                    }
                    (sum[lane], of_part[lane]) = (all, bits);
                }
            }
            for lane in 0..LANES {
                word[lane] |= of_part[lane].bits() << (part as u32 * K::Key::BITS);
            }
        }
    }
    sum.map(Into::into)
}

/// The wide sums of one contest whose scores are too far apart for its window.
#[cold]
fn tally<K: Kind>(keys: &[Each<K::Key>], lane: usize, least: u32) -> Tally {
    let mut one = [0; SHORT];
    let one = &mut one[..keys.len()];
    one.iter_mut().zip(keys).for_each(|(one, keys)| *one = K::widen(keys[lane]));
    let mut tally = Tally::default();
    tally.add(one, one.iter().copied().max().unwrap_or(0), least);
    tally
}

/// The preserved mass of such a contest.
#[cold]
fn wide_mass<K: Kind>(keys: &[Each<K::Key>], lane: usize, threshold: u32, quota: &Quota) -> f64 {
    let mut tally = tally::<K>(keys, lane, threshold + 1);
    let above = keys.iter().filter(|keys| K::widen(keys[lane]) > threshold).count() as u64;
    let ties = u128::from(quota.kept - above) * u128::from(significand(threshold));
    tally.kept.add(ties, stats::place(threshold));
    tally.moments.mass(&tally.kept)
}

#[cfg(test)]
mod tests {
    use super::super::blocks::{Fate, Fates, arrange, carry_out_fates};
    use super::super::rows::rows;
    use super::*;
    use crate::source::Bytes;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// Where they lie, and laid end to end: one answer, also where bands are narrow and lanes take several of them.
        #[test]
        fn blocks_are_decided_alike_where_they_lie(
            seed in any::<u64>(), height in 1u64..9, width in 1u64..17, bands in 1u64..200, stripes in 1u64..40,
            masked in any::<bool>(), levels in 2u32..2000, wide in 0u64..20,
        ) {
            let height = if height == 1 { 2 } else { height }.min(SHORT as u64 / width);
            let stripes = if wide == 0 { stripes * 41 } else { stripes };
            let stripes = if masked { stripes.next_multiple_of(8) } else { stripes };
            let bands = bands.min(200_000 / (stripes * height * width)).max(1);
            let grid = Grid { rows: bands * height, columns: stripes * width, block_rows: height, block_columns: width };
            let (mut state, len) = (seed | 1, (grid.rows * grid.columns) as usize);
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 33) as u32
            };
            let weights: Vec<u32> = (0..len).map(|_| (0x3d00_0000 + next() % levels * 0x0000_9400) | next() << 31).collect();
            let before: Vec<u8> = bytemuck::cast_slice(&weights).to_vec();
            let mask = || masked.then(|| vec![0xa5u8; len.div_ceil(8)]);
            let (mut expected, mut found) = ((before.clone(), mask()), (before.clone(), mask()));
            fn piece((bytes, mask): &mut (Vec<u8>, Option<Vec<u8>>)) -> Piece<'_> {
                let bytes = Bytes::Exclusive(bytes);
                Piece { bytes, dtype: Dtype::F32, norms: None, scores: None, mask: mask.as_deref_mut() }
            }
            let rule = Rule::new();
            let keys = arrange(&Keys::new(&before, Dtype::F32, None), &grid, 0, grid.columns as usize);
            let bytes = Bytes::Shared(bytemuck::cast_slice(&keys));
            let laid = Piece { bytes, dtype: Dtype::F32, norms: None, scores: None, mask: None };
            let groups = rows(laid, (height * width) as usize, &rule).map_err(|_| TestCaseError::fail("a number"))?;
            let fates: Vec<Fate> = groups.iter().map(Fate::from).collect();
            carry_out_fates(piece(&mut expected), &Fates::Blocks(&grid, &fates), 0);
            prop_assert!(takes(&grid, masked));
            let decided = blocks(piece(&mut found), &grid, &rule).map_err(|_| TestCaseError::fail("a number"))?;
            prop_assert!(decided == groups, "other outcomes");
            prop_assert!(found == expected, "other weights or masks");
        }
    }

    #[test]
    fn bits_are_lined_up_run_by_run() {
        let mut kept = [[0u32; LANES]; SHORT / WORD];
        for (i, word) in kept.as_flattened_mut().iter_mut().enumerate() {
            *word = (i as u32 + 1).wrapping_mul(0x9e37_79b9);
        }
        for width in 1..=SHORT {
            for from in (0..=SHORT - width).step_by(width) {
                for lanes in [0..1, 0..7, 3..8, 9..LANES, 0..LANES] {
                    let mut bits = [0; LANES * SHORT / WORD];
                    line_up(&kept, from..from + width, lanes.clone(), &mut bits);
                    for at in 0..(lanes.len() * width).next_multiple_of(8) {
                        let (lane, entry) = (lanes.start + at / width, from + at % width);
                        // The mask's last byte is filled up with zeros.
                        let expected = lane < lanes.end && kept[entry / WORD][lane] >> (entry % WORD) & 1 == 1;
                        let found = bits[at / WORD] >> (at % WORD) & 1 == 1;
                        assert_eq!(found, expected, "entry {entry} of contest {lane} of {lanes:?}, {width} to a run");
                    }
                }
            }
        }
    }
}
