//! Split invariance: weights that are read piece by piece, however small the pieces, give the answer of one call.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{self, Outcome, check_same, run};
use common::inputs::{self, distribution, with_norms};
use common::oracle::{self, Contests, Kind, Question, Weights};
use common::pieces::Pieces;
use common::{Named, cpu};
use emprune::{Beta, Dtype, ErrorKind, Granularity, Mask, Rule, Source, TensorSpec, Want};
use std::error::Error;
use std::io;
use std::ops::Range;

const EVERYTHING: Want = Want { zeros: true, masks: true };

/// Bytes of a piece: a single entry, no whole number of entries, odd numbers, words, and more than there is.
const PIECE_BYTES: [usize; 9] = [1, 4, 7, 24, 64, 100, 1022, 4096, 1 << 30];

fn check(backend: &Named, tensors: &[Weights], question: &Question, piece_bytes: usize) {
    let whole = run(backend, tensors, question).unwrap();
    let pieces =
        Pieces::new(tensors, piece_bytes, EVERYTHING).stream(&backend.pruner, &common::rule(question)).unwrap();
    check_same(&whole, &pieces).unwrap_or_else(|wrong| {
        let labels: Vec<&str> = tensors.iter().map(|w| w.label.as_str()).collect();
        panic!("{}: {question:?} of {labels:?} in pieces of {piece_bytes} bytes: {wrong}", backend.name)
    });
}

/// Small tensors of three dtypes, in every question.
fn small_pieces(backends: &[Named], piece_bytes: &[usize]) {
    for backend in backends {
        for contests in [Contests::Row, Contests::Tensor, Contests::Global] {
            for wanda in [false, true] {
                for (i, name) in
                    ["normal", "int8_levels", "all_equal", "all_zeros", "sixty_decades"].into_iter().enumerate()
                {
                    let seed = 10 + i as u64;
                    let tensors =
                        [(Kind::F32, 5, 13), (Kind::Bf16, 3, 67), (Kind::F16, 1, 1)].map(|(kind, rows, row_len)| {
                            let weights = distribution(name).weights(kind, rows, row_len, seed);
                            if wanda { with_norms(weights, seed) } else { weights }
                        });
                    let question = Question { contests, wanda, beta: [0.7, 1.0][i % 2], ..Question::RULE };
                    for &bytes in piece_bytes {
                        check(backend, &tensors, &question, bytes);
                    }
                }
            }
        }
    }
}

#[test]
fn small_pieces_on_the_cpu() {
    small_pieces(cpu(), &PIECE_BYTES);
}

#[cfg(feature = "gpu")]
#[test]
fn small_pieces_on_every_gpu() {
    small_pieces(common::gpus(), &[24, 1022]);
}

/// Pieces whose borders fall at and around those of tiles and chunks.
#[test]
fn large_pieces_on_the_cpu() {
    for kind in [Kind::F32, Kind::Bf16] {
        for (rows, row_len) in [(1, 300_007), (3, 70_001), (40, 4097)] {
            let weights = with_norms(distribution("int8_levels").weights(kind, rows, row_len, 20), 20);
            for entries in [4096, 65_535, 65_536, 65_537, 131_072] {
                for contests in [Contests::Row, Contests::Tensor] {
                    for wanda in [false, true] {
                        let question = Question { contests, wanda, beta: 0.5, ..Question::RULE };
                        // Norms are for Wanda only.
                        let weights = Weights { norms: weights.norms.clone().filter(|_| wanda), ..weights.clone() };
                        check(&cpu()[0], &[weights], &question, entries * kind.size());
                    }
                }
            }
        }
    }
}

/// A large first piece lets the processor guess where the threshold will be. Where all is like it two reads are enough; where nothing is, and many
/// scores share their first digits, it takes six. Either way the answer is the oracle's.
#[test]
fn a_threshold_is_guessed_from_the_first_piece() {
    if cpu()[0].pruner.backend().to_string().contains("portable") {
        return; // sums take another way there
    }
    let normal = |len: usize, seed| distribution("normal").weights(Kind::F32, 1, len, seed).bits();
    let near_one = |len: usize| (0..len as u32).map(|i| 0x3f80_0000 + i.wrapping_mul(0x9e37_79b9) % 4).collect();
    let first = 1 << 20;
    for (label, rest, beta, reads) in
        [("normal", normal(first + 77, 2), 1.0, 2), ("then near one", near_one(3 * first), 0.9, 6)]
    {
        let bits = [normal(first, 1), rest].concat();
        let weights = [inputs::weights(label.to_owned(), Kind::F32, bits.len(), &bits)];
        let question = Question { contests: Contests::Tensor, wanda: false, beta, ..Question::RULE };
        let mut pieces = Pieces::new(&weights, 4 * first, EVERYTHING);
        pieces.reads = Some(reads);
        let outcome = pieces.stream(&cpu()[0].pruner, &common::rule(&question)).unwrap();
        let answer = oracle::answer(&weights, &question).unwrap();
        check::check(&weights, &answer, &outcome).unwrap_or_else(|wrong| panic!("{label}: {wrong}"));
    }
}

/// What is not wanted is not done, and the decision is the same.
#[test]
fn only_what_is_wanted() {
    for backend in common::backends() {
        let tensors = [distribution("normal").weights(Kind::F32, 7, 33, 30), inputs::mixture(Kind::F16, 9, 33, 30)];
        for contests in [Contests::Row, Contests::Tensor, Contests::Global] {
            let question = Question { contests, wanda: false, beta: 1.0, ..Question::RULE };
            let whole = run(backend, &tensors, &question).unwrap();
            let untouched: Vec<Vec<u8>> = tensors.iter().map(|w| w.bytes.clone()).collect();
            for (zeros, masks) in [(false, false), (true, false), (false, true)] {
                let source = Pieces::new(&tensors, 200, Want { zeros, masks });
                let got = source.stream(&backend.pruner, &common::rule(&question)).unwrap();
                let want = Outcome {
                    pruned: if zeros { whole.pruned.clone() } else { untouched.clone() },
                    masks: if masks { whole.masks.clone() } else { vec![Vec::new(); tensors.len()] },
                    ..whole.clone()
                };
                check_same(&want, &got)
                    .unwrap_or_else(|wrong| panic!("{} zeros {zeros} masks {masks}: {wrong}", backend.name));
            }
        }
    }
}

/// Every single read and write may fail, of weights and of norms; the error says which tensor and why.
#[test]
fn a_source_that_fails_ends_the_call() {
    for backend in common::backends() {
        let tensors = [
            with_norms(distribution("normal").weights(Kind::F32, 1, 50, 40), 42),
            with_norms(distribution("normal").weights(Kind::F32, 4, 25, 41), 43),
        ];
        for contests in [Contests::Row, Contests::Tensor, Contests::Global] {
            let rule = common::rule(&Question { contests, wanda: true, beta: 1.0, ..Question::RULE });
            let mut counted = Pieces::new(&tensors, 100, EVERYTHING);
            backend.pruner.stream(&mut counted, &rule, EVERYTHING).unwrap();
            assert!(counted.loaded >= 6 && counted.stored >= 6, "{} loads, {} stores", counted.loaded, counted.stored);
            assert!((4..=14).contains(&counted.normed), "norms of two tensors, asked for {} times", counted.normed);
            let loads = (0..counted.loaded).map(|n| ([Some(n), None, None], "no more to read"));
            let stores = (0..counted.stored).map(|n| ([None, Some(n), None], "no more room"));
            let norms = (0..counted.normed).map(|n| ([None, None, Some(n)], "no more norms"));
            for (fails, why) in loads.chain(stores).chain(norms) {
                let mut source = Pieces::new(&tensors, 100, EVERYTHING);
                [source.fail_load, source.fail_store, source.fail_norms] = fails;
                let error = backend.pruner.stream(&mut source, &rule, EVERYTHING).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io, "{}: {error:?}", backend.name);
                assert!(error.tensor().is_some_and(|t| t < 2), "{}: {error:?}", backend.name);
                assert_eq!(error.source().unwrap().to_string(), why, "{}: {error:?}", backend.name);
            }
        }
    }
}

/// Bad scores are found in any piece, at their place in the tensor, in time: nothing of their contest has been stored.
#[test]
fn bad_scores_in_any_piece() {
    for backend in common::backends() {
        for at in [0, 1, 31, 32, 77, 149] {
            for contests in [Contests::Row, Contests::Tensor, Contests::Global] {
                let good = distribution("normal").weights(Kind::F32, 1, 20, 50);
                let mut bad = distribution("normal").weights(Kind::F32, 3, 50, 50);
                bad.bytes[at * 4..at * 4 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
                let tensors = [good, bad];
                let mut source = Pieces::new(&tensors, 128, EVERYTHING);
                let rule = common::rule(&Question { contests, wanda: false, beta: 1.0, ..Question::RULE });
                let error = backend.pruner.stream(&mut source, &rule, EVERYTHING).unwrap_err();
                let told = (error.kind(), error.tensor(), error.index());
                assert_eq!(
                    told,
                    (ErrorKind::NonFinite, Some(1), Some(at as u64)),
                    "{}: {contests:?} {error:?}",
                    backend.name
                );
                let allowed = if contests == Contests::Global { 0 } else { 80 + at / 50 * 200 };
                assert!(source.stored_bytes() <= allowed, "{}: {contests:?}: the contest was stored", backend.name);
            }
        }
    }
}

/// More entries than 32 bits count, of which none is stored: ones, and a two in every 4096.
struct Endless {
    specs: Vec<TensorSpec>,
    buffer: Vec<u8>,
    /// Ones before this entry of all are to be kept.
    cut: u64,
    stored: u64,
}

const ONE: u8 = 0x3c;
const TWO: u8 = 0x40;

impl Endless {
    fn fill(&mut self, start: u64, len: usize) {
        self.buffer.clear();
        self.buffer.resize(len, ONE);
        let first = (start.next_multiple_of(4096) - start) as usize;
        self.buffer.iter_mut().skip(first).step_by(4096).for_each(|entry| *entry = TWO);
    }
}

impl Source for Endless {
    fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn load(&mut self, tensor: usize, range: Range<u64>) -> io::Result<&mut [u8]> {
        let before: u64 = self.specs[..tensor].iter().map(|spec| spec.len).sum();
        self.fill(before + range.start, (range.end - range.start) as usize);
        Ok(&mut self.buffer)
    }

    fn store(&mut self, tensor: usize, range: Range<u64>, mask: Option<&Mask>) -> io::Result<()> {
        let before: u64 = self.specs[..tensor].iter().map(|spec| spec.len).sum();
        let (start, got) = (before + range.start, std::mem::take(&mut self.buffer));
        assert_eq!(start, self.stored, "one after the other");
        self.stored += got.len() as u64;
        self.fill(start, got.len());
        let ones = self.cut.saturating_sub(start).min(got.len() as u64) as usize;
        self.buffer[ones..].iter_mut().filter(|entry| **entry == ONE).for_each(|entry| *entry = 0);
        assert!(got == self.buffer, "what is zeroed from entry {start} on");
        let kept = self.buffer.iter().filter(|entry| **entry != 0).count() as u64;
        assert_eq!(mask.map(Mask::kept), Some(kept), "the mask from entry {start} on");
        Ok(())
    }
}

/// One contest whose counts, sums and cut need more than 32 bits: in one tensor, and over several.
#[test]
#[ignore = "takes a minute, and hours on a software adapter"]
fn more_entries_than_32_bits_count() {
    let len = (1u64 << 32) + 123_456_789;
    let twos = len.div_ceil(4096);
    let (sum, square) = (u128::from(len + twos), u128::from(len + 3 * twos));
    for backend in common::backends().filter(|backend| !backend.pruner.backend().is_software()) {
        for lens in [vec![len], vec![1 << 30, 77, (1 << 31) + 5, len - (1 << 30) - 77 - (1 << 31) - 5]] {
            // Cut above 2^32, and below.
            for half in [1, 2] {
                let kept = (sum * sum / (half * square)) as u64;
                let ones = kept - twos;
                // Of every 4096 entries the first is a two.
                let rest = ones % 4095;
                let cut = ones / 4095 * 4096 + if rest == 0 { 0 } else { rest + 1 };
                let specs = lens.iter().map(|&len| TensorSpec::new(Dtype::F8E5m2, len, len).unwrap()).collect();
                let mut source = Endless { specs, buffer: Vec::new(), cut, stored: 0 };
                let rule =
                    Rule::new().with_granularity(Granularity::Global).with_beta(Beta::new(1.0 / half as f64).unwrap());
                let decision = backend.pruner.stream(&mut source, &rule, EVERYTHING).unwrap();
                let group = decision.groups()[0];
                let want = (len, kept, 1.0, cut, (twos + kept) as f64 / sum as f64);
                let got = (group.len, group.kept, group.threshold, group.cut, group.mass);
                assert_eq!(got, want, "{}: {lens:?}, half {half}", backend.name);
                let n_eff = sum.pow(2) as f64 / square as f64;
                assert!((group.n_eff / n_eff - 1.0).abs() < 1e-15, "{}: {} is not {n_eff}", backend.name, group.n_eff);
                assert_eq!(source.stored, len, "{}: {lens:?}, half {half}", backend.name);
            }
        }
    }
}
