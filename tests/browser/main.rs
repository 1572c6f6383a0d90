//! The kernels in a browser, and the processor's path there: what both say is what the oracle says.
//!
//! Nothing can wait in a browser, so these tests are asynchronous and apart from the others. The caller's buffers and the checks are those of
//! `tests/embedding`, the random questions those of the differential test. `tests/stacks web` builds and runs them.
#![cfg(all(target_arch = "wasm32", feature = "gpu"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the embedding tests use all of it")]
#[path = "../embedding/devices.rs"]
mod devices;
#[path = "../../examples/in_a_browser.rs"]
mod in_a_browser;
#[allow(dead_code, reason = "the embedding tests use all of it")]
#[path = "../embedding/task.rs"]
mod task;

use common::cases::{Case, Size, case};
use common::inputs::{Rng, distribution};
use common::oracle::{self, Contests, Kind, Question, Weights};
use common::{cpu, golden};
use devices::{EVERYTHING, Gpu, opened};
use emprune::gpu::{Kernels, Options, adapters, wgpu};
use emprune::{ErrorKind, Pruner};
use task::{Task, question};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// The browser's adapter twice, as `tests/embedding` opens its adapters: with WebGPU's default limits, and with everything.
async fn gpus() -> Vec<Gpu> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut gpus = Vec::new();
    for what in ["default limits", EVERYTHING] {
        // Of an adapter only one device can be had.
        let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.expect("an adapter");
        let (features, limits) = match what {
            EVERYTHING => (adapter.features().difference(wgpu::Features::all_experimental_mask()), adapter.limits()),
            _ => (wgpu::Features::empty(), wgpu::Limits::default()),
        };
        let (name, device, queue) = opened(&adapter, what, features, limits).await;
        let kernels = Kernels::new(&device);
        console_log!("{name}, {} shaders", kernels.variant().name());
        gpus.push(Gpu { name, device, queue, kernels });
    }
    gpus
}

/// A mask, and then the losers zeroed, by the same job.
async fn ask_one(gpu: &Gpu, tensors: &[Weights], asked: &Question) {
    let want = oracle::answer(tensors, asked).unwrap();
    let mut task = Task::new(gpu, tensors, asked);
    for pruned in [false, true] {
        gpu.submitted(|encoder| match pruned {
            true => task.job.record_prune(encoder),
            false => task.job.record_mask(encoder),
        })
        .await;
        let seen = task.seen().await;
        task.check_seen(&seen, &want, pruned).unwrap_or_else(|wrong| task.fail(&wrong));
        task.reset(1);
    }
}

#[wasm_bindgen_test]
async fn every_vector() {
    let (single, global) = golden::cases();
    for gpu in &gpus().await {
        for case in single.iter().chain(&global) {
            ask_one(gpu, &case.tensors, &case.question).await;
        }
    }
}

/// Of any dtype, contest, score and budget.
#[wasm_bindgen_test]
async fn anything_that_a_job_can_be_asked() {
    let gpus = gpus().await;
    for seed in 1..=100u64 {
        let Case { tensors, question, .. } = case(&mut Rng(seed.wrapping_mul(0x9e37_79b9)), Size::Edges);
        // A job takes several slices as one contest alone, and no segments.
        let slices = if question.contests == Contests::Global { &tensors[..] } else { &tensors[..1] };
        if oracle::answer(slices, &question).is_ok() && question.contests != Contests::Segments {
            ask_one(&gpus[seed as usize % gpus.len()], slices, &question).await;
        }
    }
}

/// Parts and tiles by the dozen, rows for which one workgroup is not enough.
#[wasm_bindgen_test]
async fn long_contests() {
    for gpu in &gpus().await {
        for (kind, rows, row_len, contests) in [
            (Kind::F32, 1, 300_001, Contests::Tensor),
            (Kind::Bf16, 7, 70_143, Contests::Tensor),
            (Kind::F32, 3, 11_008, Contests::Row),
            (Kind::F16, 2, 131_073, Contests::Row),
            (Kind::E4m3, 1, 200_003, Contests::Tensor),
        ] {
            for name in ["normal", "all_equal", "sixty_decades", "int8_levels"] {
                let weights = distribution(name).weights(kind, rows, row_len, 500);
                ask_one(gpu, &[weights], &question(contests, false, 0.9)).await;
            }
        }
    }
}

/// The record says what is wrong and where; weights and mask are what they were.
#[wasm_bindgen_test]
async fn what_is_no_number() {
    for gpu in &gpus().await {
        for (bits, status) in [(0x7f80_0001, 1), (0xff80_0000, 2)] {
            let mut weights = distribution("normal").weights(Kind::F32, 1, 40_000, 501);
            let at = 33_333;
            weights.bytes[4 * at..4 * at + 4].copy_from_slice(&u32::to_le_bytes(bits));
            let tensors = [weights];
            let task = Task::new(gpu, &tensors, &question(Contests::Tensor, false, 1.0));
            gpu.submitted(|encoder| task.job.record_prune(encoder)).await;
            let seen = task.seen().await;
            let record = &seen.records[0];
            assert_eq!((record.status, record.bad_slice, record.bad_index), (status, 0, at as u32), "{}", gpu.name);
            assert!(seen.weights[0] == tensors[0].bytes, "{}: weights were written", gpu.name);
            assert!(seen.masks[0] == task.results.0.bytes[task.masks[0].clone()], "{}: a mask was written", gpu.name);
        }
    }
}

/// Where addresses have 32 bits and nothing has threads.
#[wasm_bindgen_test]
fn the_processor() {
    for seed in 1..=600u64 {
        case(&mut Rng(seed.wrapping_mul(0x9e37_79b9)), Size::Edges).check(cpu());
    }
}

/// Nothing here can wait for a device: it says so, and the best that there is is the processor.
#[wasm_bindgen_test]
fn nothing_waits_for_a_device() {
    assert!(adapters().is_empty());
    assert_eq!(Pruner::gpu(&Options::new().with_software(true)).unwrap_err().kind(), ErrorKind::NoAdapter);
    assert_eq!(Pruner::best().backend().name(), "cpu");
}

#[wasm_bindgen_test]
async fn the_example_for_a_page() {
    let said = in_a_browser::prune().await.unwrap();
    assert!(said.ends_with("agree bit for bit"), "{said}");
}

/// The checks above notice one wrong bit.
#[wasm_bindgen_test]
async fn a_wrong_bit_is_noticed() {
    let tensors = [distribution("normal").weights(Kind::F32, 5, 333, 502)];
    let asked = question(Contests::Row, false, 1.0);
    let want = oracle::answer(&tensors, &asked).unwrap();
    for gpu in &gpus().await {
        let task = Task::new(gpu, &tensors, &asked);
        gpu.submitted(|encoder| task.job.record_prune(encoder)).await;
        let mut seen = task.seen().await;
        task.check_seen(&seen, &want, true).unwrap_or_else(|wrong| task.fail(&wrong));
        seen.masks[0][17] ^= 1;
        assert!(task.check_seen(&seen, &want, true).is_err());
        seen.masks[0][17] ^= 1;
        seen.records[4].threshold ^= 1;
        assert!(task.check_seen(&seen, &want, true).is_err());
    }
}
