//! One thread or many: one answer. The number of threads is fixed when a process starts, so each number gets a process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::run;
use common::golden::sha256;
use common::inputs::{distribution, mixture};
use common::oracle::{Contests, Kind, Question};
use emprune::{Backend, Granularity, Mask, Norm, Pruner, Rule, Source, Structure, TensorSpec, Want};
use rayon::prelude::*;
use std::io;
use std::ops::Range;
use std::process::Command;

/// Set for the processes that this test starts.
const CHILD: &str = "EMPRUNE_TEST_THREADS_CHILD";

/// The threads that do the work, and a hash of many answers, every bit of them.
fn answers() -> String {
    let Backend::Cpu { threads, .. } = common::cpu()[0].pruner.backend() else { panic!("the processor") };
    let mut text = String::new();
    for contests in [Contests::Row, Contests::Tensor, Contests::Global] {
        for beta in [1.0, 0.5] {
            let tensors = [
                distribution("int8_levels").weights(Kind::F32, 3, 180_001, 1),
                distribution("sixty_decades").weights(Kind::F32, 1, 200_003, 2),
                mixture(Kind::Bf16, 3001, 67, 3),
                distribution("ternary").weights(Kind::F16, 1, 262_145, 4),
            ];
            let outcome =
                run(&common::cpu()[0], &tensors, &Question { contests, wanda: false, beta, ..Question::RULE }).unwrap();
            let bytes = [outcome.masks.concat(), outcome.pruned.concat()].concat();
            text += &format!("{:?} {}", outcome.groups, sha256(&bytes));
        }
    }
    format!("{threads} threads: {}", sha256(text.as_bytes()))
}

#[test]
fn any_number_of_threads_gives_one_answer() {
    if std::env::var_os(CHILD).is_some() {
        println!("{}", answers());
        return;
    }
    let answers_with = |threads: usize| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "any_number_of_threads_gives_one_answer", "--nocapture"])
            .env(CHILD, "1")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.split_once(" threads: "))
            .unwrap_or_else(|| panic!("no answer in {text}"));
        // The test runner may print on the same line before it.
        let told = line.0.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        let expected = if cfg!(feature = "parallel") { threads } else { 1 };
        assert_eq!(told, expected, "threads that do the work");
        line.1.to_owned()
    };
    let one = answers_with(1);
    assert_eq!(one.len(), 64, "a hash: {one}");
    for threads in [2, 3, 8] {
        assert_eq!(answers_with(threads), one, "{threads} threads and one");
    }
}

/// Weights in memory, whose losers are zeroed where they are.
struct InMemory {
    tensors: [TensorSpec; 1],
    bytes: Vec<u8>,
    structure_bytes: usize,
}

impl Source for InMemory {
    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn structure_bytes(&self) -> usize {
        self.structure_bytes
    }

    fn load(&mut self, _: usize, range: Range<u64>) -> io::Result<&mut [u8]> {
        Ok(&mut self.bytes[4 * range.start as usize..4 * range.end as usize])
    }

    fn store(&mut self, _: usize, _: Range<u64>, _: Option<&Mask>) -> io::Result<()> {
        Ok(())
    }
}

/// A thread of a pool that waits for others looks for other work, and finds calls that wait for the device.
#[test]
fn calls_from_a_pool_of_threads_take_turns() {
    let weights = distribution("normal").weights(Kind::F32, 300, 4001, 5);
    let zeros = Want { zeros: true, masks: false };
    let source = || InMemory {
        tensors: [TensorSpec::new(emprune::Dtype::F32, weights.len() as u64, 4001).unwrap()],
        bytes: weights.bytes.clone(),
        structure_bytes: usize::MAX,
    };
    for granularity in [Granularity::Row, Granularity::Tensor] {
        let rule = Rule::new().with_granularity(granularity);
        let mut expected = source();
        let decision = common::cpu()[0].pruner.stream(&mut expected, &rule, zeros).unwrap();
        for gpu in common::gpus() {
            let answers: Vec<_> = (0..16)
                .into_par_iter()
                .map(|_| {
                    let mut source = source();
                    let decision = gpu.pruner.stream(&mut source, &rule, zeros).unwrap();
                    (decision, source.bytes)
                })
                .collect();
            for (found, bytes) in answers {
                assert!(found == decision && bytes == expected.bytes, "{} on {granularity}", gpu.name);
            }
        }
    }
}

/// The scores of structures are a pool's work, and made again in every pass where they are many: a call that has the device must not wait for a pool
/// whose threads all wait for the device.
#[test]
fn structures_scored_beside_a_pool_of_threads() {
    let weights = distribution("normal").weights(Kind::F32, 3000, 501, 5);
    let source = || InMemory {
        tensors: [TensorSpec::new(emprune::Dtype::F32, weights.len() as u64, 501).unwrap()],
        bytes: weights.bytes.clone(),
        structure_bytes: 4000,
    };
    let ask =
        |pruner: &Pruner| pruner.decide_structures(&mut source(), Structure::Row, Norm::L2, &Rule::new()).unwrap();
    let expected = ask(&common::cpu()[0].pruner);
    for gpu in common::gpus() {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| (0..8).all(|_| ask(&gpu.pruner) == expected));
            assert!((0..32).into_par_iter().all(|_| ask(&gpu.pruner) == expected), "{}", gpu.name);
            assert!(other.join().unwrap(), "{}", gpu.name);
        });
    }
}
