//! The processor against every GPU driver of this machine on random cases: every bit of every answer the same.
//!
//! `EMPRUNE_CASES=N` asks for more of them, `EMPRUNE_SEED=N` for others; a failure names the seed that repeats it as the first case.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::cases::{Case, Size, case};
use common::check::{check_same, run};
use common::inputs::Rng;
use common::{Named, cpu, from_environment, gpus};
use std::collections::BTreeMap;
use std::time::Instant;

/// What differs, if anything does.
fn compare(gpu: &Named, Case { tensors, question, .. }: &Case) -> Result<bool, String> {
    let told = |e: &emprune::Error| (e.kind(), e.tensor(), e.index(), e.to_string());
    match (run(&cpu()[0], tensors, question), run(gpu, tensors, question)) {
        (Ok(want), Ok(got)) => check_same(&want, &got).map(|()| true),
        (Err(want), Err(got)) if told(&want) == told(&got) => Ok(false),
        (want, got) => Err(format!("{got:?} here and {want:?} there")),
    }
}

#[test]
fn every_gpu_says_what_the_processor_says_about_anything() {
    let cases = from_environment("EMPRUNE_CASES").unwrap_or(if common::small() { 50 } else { 500 });
    let first = from_environment("EMPRUNE_SEED").unwrap_or(1);
    for gpu in gpus() {
        let (start, mut refused, mut entries) = (Instant::now(), 0u64, 0u64);
        let mut contests = BTreeMap::new();
        for seed in first..first + cases {
            let case = case(&mut Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), Size::Edges);
            let answered = compare(gpu, &case).unwrap_or_else(|wrong| {
                let labels: Vec<_> = case.tensors.iter().map(|tensor| &tensor.label).collect();
                panic!("EMPRUNE_SEED={seed}: {} on {:?} of {labels:?}: {wrong}", gpu.name, case.question)
            });
            let len = case.tensors.iter().map(|tensor| tensor.len()).sum::<usize>();
            if seed.is_multiple_of(16) && len <= 2000 {
                // Two that agree may be wrong together.
                case.check(std::slice::from_ref(gpu));
            }
            refused += u64::from(!answered);
            entries += case.tensors.iter().map(|tensor| tensor.len() as u64).sum::<u64>();
            let kind = format!("{:?}", case.question.contests);
            *contests.entry(kind.split('(').next().unwrap_or_default().to_owned()).or_insert(0u64) += 1;
            if (seed - first + 1).is_multiple_of(10_000) {
                println!("{} cases, {:.0?}", seed - first + 1, start.elapsed());
            }
        }
        assert!(refused < cases / 4, "{refused} of {cases} cases are refused, which compares little");
        println!(
            "{}: {cases} cases from seed {first} on, {entries} entries, {contests:?}, {refused} refused by both; nothing differs; {:.0?}",
            gpu.name,
            start.elapsed()
        );
    }
}
