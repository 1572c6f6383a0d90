//! Random questions about random weights: of any dtype, contest, score and budget. The choices are made by a generator of random
//! numbers, or by the bytes of a fuzzer.

use super::check::{check_same, judge, run};
use super::inputs::{DISTRIBUTIONS, Distribution, ROW_LENGTHS, Rng, distribution, infinity, sign, weights, with_norms};
use super::oracle::{Contests, Keep, Kind, Question, Weights};
use super::pieces::Pieces;
use super::{Named, rule};
use emprune::{Error, Want};

/// Who chooses.
pub(crate) trait Choices {
    /// Any number below `end`.
    fn below(&mut self, end: usize) -> usize;

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

impl Choices for Rng {
    fn below(&mut self, end: usize) -> usize {
        Rng::below(self, end)
    }
}

/// The bytes of a fuzzer. When they are used up, the first of all possibilities is chosen.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Choices for Bytes<'_> {
    fn below(&mut self, end: usize) -> usize {
        let bytes = (usize::BITS - (end - 1).leading_zeros()).div_ceil(8) as usize;
        let (now, later) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = later;
        now.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)) % end
    }
}

/// How large.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    /// What a fuzzer's bytes can fill, and the oracle sort in no time.
    Tiny,
    /// Small ones, and around the edges at which code changes its ways.
    Edges,
}

/// What is asked, of what, and in pieces of how many bytes.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) tensors: Vec<Weights>,
    pub(crate) question: Question,
    pub(crate) piece_bytes: usize,
}

impl Case {
    /// All backends say what the oracle says; whole and in pieces they say the same.
    pub(crate) fn check(&self, backends: &[Named]) {
        let Self { tensors, question, piece_bytes } = self;
        judge(backends, tensors, question).unwrap_or_else(|wrong| panic!("{wrong}"));
        for backend in backends {
            let mut pieces = Pieces::new(tensors, *piece_bytes, Want { zeros: true, masks: true });
            pieces.strips = true;
            let told = |e: Error| (e.kind(), e.tensor(), e.index(), e.to_string());
            let whole = run(backend, tensors, question).map_err(told);
            match (whole, pieces.stream(&backend.pruner, &rule(question)).map_err(told)) {
                (Ok(whole), Ok(pieces)) => {
                    check_same(&whole, &pieces).unwrap_or_else(|wrong| panic!("{wrong}: {self:?}"))
                }
                (whole, pieces) => {
                    assert!(whole.is_err() && whole.err() == pieces.err(), "in pieces another refusal: {self:?}")
                }
            }
        }
    }
}

const KINDS: [Kind; 5] = [Kind::F32, Kind::F16, Kind::Bf16, Kind::E4m3, Kind::E5m2];

pub(crate) fn case(choices: &mut impl Choices, size: Size) -> Case {
    let contests = match choices.below(8) {
        0 => Contests::Row,
        1 => Contests::Tensor,
        2 => Contests::Global,
        3 => Contests::Column,
        4 => Contests::Block(1 + choices.below(9), 1 + choices.below(9)),
        5 => Contests::Heads(1 + choices.below(4)),
        6 => Contests::Chunks(1 + choices.below(40)),
        _ => Contests::Segments,
    };
    let score = choices.below(4);
    let keep = match choices.below(6) {
        // Of a chunk no more can be kept than it has.
        4 => Keep::Count(match (contests, 1 + choices.below(40)) {
            (Contests::Chunks(len), count) => count.min(len),
            (_, count) => count,
        }),
        5 => Keep::AllBut(choices.below(101) as f64 / 100.0),
        _ => Keep::Effective,
    };
    let beta = match choices.below(4) {
        0 => 1.0,
        1 => (1 + choices.below(3000)) as f64 / 1000.0,
        2 => (1 + choices.below(1_000_000)) as f64 / 1e6,
        _ => choices.of(&[1e-19, 1e19, 2.0 / 3.0, 0.1 + 0.2, 0.5, 1000.0]),
    };
    let least = if choices.one_in(5) { 1 + choices.below(50) } else { 0 };
    let question = Question { contests, wanda: score == 1, beta, given: score == 2, keep, least };
    let count = 1 + choices.below(if contests == Contests::Global { 3 } else { 2 });
    // Scores of several dtypes, long enough for whole tiles of each, that compete on equal terms.
    let alike = matches!(size, Size::Edges) && contests == Contests::Global && choices.one_in(4);
    let alike = alike.then(|| if choices.one_in(2) { distribution("near_one") } else { choices.of(DISTRIBUTIONS) });
    let tensors = (0..count).map(|_| tensor(choices, size, &question, alike)).collect();
    Case { tensors, question, piece_bytes: 1 + choices.below(700) }
}

fn tensor(choices: &mut impl Choices, size: Size, question: &Question, alike: Option<Distribution>) -> Weights {
    let (mut rows, row_len) = match size {
        _ if alike.is_some() => (1, choices.of(&[4095, 8192, 12_289]) + choices.below(3)),
        Size::Tiny => (1 + choices.below(5), 1 + choices.below(20)),
        Size::Edges => {
            let row_len = match choices.below(16) {
                // Of one workgroup, of several, of a tile and more; some of them whole fours of words.
                0..4 => ROW_LENGTHS[choices.below(ROW_LENGTHS.iter().filter(|&&len| len <= 1025).count())],
                4 => choices.of(&[2047, 2049, 2062, 4095, 4097, 4110]) + choices.below(3),
                5 if choices.one_in(4) => choices.of(&[8191, 8206, 16_384, 32_766, 65_537, 65_550]) + choices.below(3),
                _ => 1 + choices.below(130),
            };
            (1 + choices.below((600 / row_len).clamp(1, 8)), row_len)
        }
    };
    if let Contests::Heads(heads) = question.contests {
        rows *= heads;
    }
    let n = rows * row_len;
    let mut tensor = entries(choices, size, rows, row_len, alike);
    if question.wanda {
        tensor = with_norms(tensor, choices.below(1 << 16) as u64);
    }
    if question.given {
        // The weights themselves are not judged.
        tensor.scores = Some(Box::new(entries(choices, size, rows, row_len, alike)));
    }
    if question.contests == Contests::Segments {
        let (mut lens, mut left) = (Vec::new(), n);
        // Many of one length are one call of a device.
        let alike = choices.one_in(3).then(|| 1 + choices.below(40));
        while left > 0 {
            let one = alike.filter(|_| !choices.one_in(9));
            let len = one.unwrap_or_else(|| 1 + choices.below(if lens.len() < 8 { 60 } else { n })).min(left);
            lens.push(len as u64);
            left -= len;
        }
        tensor.segments = Some(lens);
    }
    // Once in a while something that must be refused: infinity or NaN, or a product that overflows.
    if choices.one_in(40) {
        let judged = if question.given { tensor.scores.as_deref_mut() } else { Some(&mut tensor) };
        let judged = judged.expect("made above");
        let (kind, at) = (judged.kind, choices.below(n) * judged.kind.size());
        let bad = infinity(kind) | choices.of(&[0, 1, sign(kind)]);
        judged.bytes[at..at + kind.size()].copy_from_slice(&bad.to_le_bytes()[..kind.size()]);
    } else if let Some(norms) = tensor.norms.as_mut().filter(|_| choices.one_in(40)) {
        norms[choices.below(row_len)] = f32::MAX;
    }
    tensor
}

fn entries(
    choices: &mut impl Choices,
    size: Size,
    rows: usize,
    row_len: usize,
    alike: Option<Distribution>,
) -> Weights {
    let kind = choices.of(&KINDS);
    match size {
        Size::Tiny => {
            // A few values again and again, or any bits at all.
            let few = choices.below(2) == 0;
            let end = infinity(kind) as usize;
            let values: Vec<u32> = (0..4).map(|_| choices.below(end) as u32).collect();
            let entry = |_| match (few, choices.below(4)) {
                (true, at) => values[at],
                (false, 3) => choices.below(end) as u32 | sign(kind),
                (false, _) => choices.below(end) as u32,
            };
            let bits: Vec<u32> = (0..rows * row_len).map(entry).collect();
            weights(format!("{rows}x{row_len} {kind:?} {bits:x?}"), kind, row_len, &bits)
        }
        Size::Edges => alike.unwrap_or_else(|| choices.of(DISTRIBUTIONS)).weights(
            kind,
            rows,
            row_len,
            choices.below((1u64 << 32).try_into().unwrap_or(usize::MAX)) as u64,
        ),
    }
}
