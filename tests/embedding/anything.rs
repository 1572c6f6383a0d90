//! Random questions about random weights, as the differential test asks them of `Pruner`: what a job leaves is what the oracle says.
//!
//! `EMPRUNE_CASES=N` asks for more of them, `EMPRUNE_SEED=N` for others.

use crate::common::cases::{Case, Choices, Size, case};
use crate::common::inputs::{DISTRIBUTIONS, Rng, distribution, mixture, with_norms};
use crate::common::oracle::{self, Contests, Keep, Kind, Question};
use crate::common::{from_environment, small};
use crate::devices::turns;
use crate::task::ask_one;

/// So many of what `next` makes, of those that can be asked; the oracle takes its time.
fn ask_of(wanted: u64, longest: usize, next: impl Fn(&mut Rng) -> Case) {
    let wanted = from_environment("EMPRUNE_CASES").unwrap_or(wanted);
    let first = from_environment("EMPRUNE_SEED").unwrap_or(1);
    let (mut asked, mut seed, mut entries) = (0, first, 0);
    let gpus = turns().count();
    while asked < wanted && gpus > 0 {
        assert!(seed < first + 100 * wanted, "hardly any case is one that can be asked");
        let Case { tensors, question, .. } = next(&mut Rng(seed.wrapping_mul(0x9e37_79b9)));
        seed += 1;
        // A job takes several slices as one contest alone, and no segments.
        let slices = if question.contests == Contests::Global { &tensors[..] } else { &tensors[..1] };
        let len = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let Ok(want) = oracle::answer(slices, &question) else { continue };
        if question.contests == Contests::Segments || len > longest {
            continue;
        }
        let turn = turns().nth(asked as usize % gpus).expect("as many as were counted");
        ask_one(turn.gpu, slices, &question, &want);
        asked += 1;
        entries += len;
    }
    println!("{asked} cases from seed {first} on, {entries} entries; nothing differs");
}

#[test]
fn anything_that_a_job_can_be_asked() {
    ask_of(if small() { 20 } else { 120 }, 5000, |rng| case(rng, Size::Edges));
}

/// Without a mass they take a short way of their own to how many are kept.
#[test]
fn any_rows_that_a_workgroup_takes() {
    ask_of(if small() { 10 } else { 60 }, 40_000, |rng| {
        let kind = rng.of(&[Kind::F32, Kind::Bf16, Kind::F16, Kind::Bf16, Kind::F32, Kind::E4m3]);
        let longest = if rng.one_in(8) { 30_000 } else { 6000 };
        // Every other one in whole fours of words.
        let whole = rng.of(&[1, 16]);
        let (rows, row_len) = (1 + rng.below(3), (1025 + rng.below(longest)).next_multiple_of(whole));
        let seed = rng.below(1 << 32) as u64;
        let mut tensor = match rng.below(4) {
            0 => distribution("normal").weights(kind, rows, row_len, seed),
            1 => mixture(kind, rows, row_len, seed),
            _ => rng.of(DISTRIBUTIONS).weights(kind, rows, row_len, seed),
        };
        let wanda = rng.one_in(6);
        if wanda {
            tensor = with_norms(tensor, seed);
        }
        let beta = match rng.below(3) {
            0 => 1.0,
            1 => (1 + rng.below(3000)) as f64 / 1000.0,
            _ => rng.of(&[2.0 / 3.0, 0.1 + 0.2, 0.5, 1e-19, 1e19]),
        };
        let keep = if rng.one_in(8) { Keep::Count(1 + rng.below(row_len)) } else { Keep::Effective };
        let question = Question { contests: Contests::Row, wanda, beta, keep, ..Question::RULE };
        Case { tensors: vec![tensor], question, piece_bytes: 1 }
    });
}
