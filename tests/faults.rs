//! A device that fails in the middle of a call. The fault is set for a whole process, so each gets one.
#![cfg(all(feature = "gpu", debug_assertions))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{tensor, tensor_mut};
use common::gpus;
use common::inputs::distribution;
use common::oracle::{Kind, Weights};
use emprune::{Error, ErrorKind, Granularity, Pruner, Rule, gpu};
use std::process::Command;

/// Run the test of this name in a process of its own, in which the device fails so.
fn with_fault(fault: &str, name: &str) {
    if std::env::var("EMPRUNE_NO_GPU").is_ok_and(|v| v == "1") {
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("EMPRUNE_FAULT", fault)
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && told.contains("1 passed"), "{fault}: {told}");
}

fn weights() -> [Weights; 3] {
    [301, 40_001, 77].map(|len| distribution("int8_levels").weights(Kind::F32, 1, len, len as u64))
}

fn prune(pruner: &Pruner, weights: &[Weights], bytes: &mut [Vec<u8>], granularity: Granularity) -> Option<Error> {
    let tensors = weights.iter().zip(bytes).map(|(weights, bytes)| tensor_mut(weights, bytes));
    pruner.prune(&mut tensors.collect::<Vec<_>>(), &Rule::new().with_granularity(granularity)).err()
}

#[test]
fn a_lost_device_stays_lost() {
    with_fault("lost:1", "loses_its_device");
}

#[test]
#[ignore = "a_lost_device_stays_lost runs it"]
fn loses_its_device() {
    let (pruner, weights) = (&gpus()[0].pruner, weights());
    for call in 0..3 {
        let masks = pruner.mask(&[tensor(&weights[0], &weights[0].bytes)], &Rule::new());
        assert_eq!(masks.unwrap_err().kind(), ErrorKind::DeviceLost, "call {call}");
    }
}

/// The second and the third tensor need the device again after the first is decided.
#[test]
fn what_fails_in_the_middle_leaves_all_weights_alone() {
    for fault in ["memory:2", "memory:3", "lost:2", "lost:3"] {
        with_fault(fault, "fails_in_the_middle");
    }
}

#[test]
#[ignore = "what_fails_in_the_middle_leaves_all_weights_alone runs it"]
fn fails_in_the_middle() {
    let (pruner, weights) = (&gpus()[0].pruner, weights());
    let mut bytes: Vec<_> = weights.iter().map(|weights| weights.bytes.clone()).collect();
    let error = prune(pruner, &weights, &mut bytes, Granularity::Tensor).expect("the device fails");
    assert!(matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::DeviceLost), "{error:?}");
    for (weights, bytes) in weights.iter().zip(&bytes) {
        assert!(*bytes == weights.bytes, "{}: {error}", weights.label);
    }
}

/// What does not fit the device's memory as a whole is shown to it piece by piece.
#[test]
fn a_contest_that_finds_no_memory_takes_less_of_it() {
    with_fault("short:1", "takes_less_memory");
}

#[test]
#[ignore = "a_contest_that_finds_no_memory_takes_less_of_it runs it"]
fn takes_less_memory() {
    let mut weights = weights();
    // The one that is more than a piece.
    weights.swap(0, 1);
    let part = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default();
    let options = gpu::Options::new().with_software(true).with_adapter(part).with_max_binding_bytes(128 << 10);
    let short = Pruner::gpu(&options).unwrap();
    for granularity in [Granularity::Tensor, Granularity::Global] {
        let [got, want] = [&short, &Pruner::cpu()].map(|pruner| {
            let mut bytes: Vec<_> = weights.iter().map(|weights| weights.bytes.clone()).collect();
            assert!(prune(pruner, &weights, &mut bytes, granularity).is_none(), "{granularity:?}");
            let tensors: Vec<_> = weights.iter().map(|weights| tensor(weights, &weights.bytes)).collect();
            (bytes, pruner.mask(&tensors, &Rule::new().with_granularity(granularity)).unwrap())
        });
        assert!(got == want, "{granularity:?}");
    }
}

/// All rows of a piece are one submission, be they a workgroup's each or shared by many; columns too.
#[test]
fn rows_of_any_length_take_one_call_of_a_device() {
    for name in ["is_asked_once_for_short_rows", "is_asked_once_for_long_rows", "is_asked_once_for_columns"] {
        with_fault("lost:2", name);
    }
}

#[test]
#[ignore = "rows_of_any_length_take_one_call_of_a_device runs it"]
fn is_asked_once_for_short_rows() {
    is_asked_once(Granularity::Row, 40, 1000);
}

#[test]
#[ignore = "rows_of_any_length_take_one_call_of_a_device runs it"]
fn is_asked_once_for_long_rows() {
    is_asked_once(Granularity::Row, 3, 140_001);
}

#[test]
#[ignore = "rows_of_any_length_take_one_call_of_a_device runs it"]
fn is_asked_once_for_columns() {
    is_asked_once(Granularity::Column, 300, 57);
}

fn is_asked_once(granularity: Granularity, rows: usize, row_len: usize) {
    let weights = distribution("ternary").weights(Kind::Bf16, rows, row_len, 1);
    let rule = Rule::new().with_granularity(granularity);
    let ask = |pruner: &Pruner| pruner.mask(&[tensor(&weights, &weights.bytes)], &rule);
    assert!(ask(&gpus()[0].pruner).unwrap() == ask(&Pruner::cpu()).unwrap());
    // The second submission does not come through.
    assert_eq!(ask(&gpus()[0].pruner).unwrap_err().kind(), ErrorKind::DeviceLost);
}

/// It is asked once for the segments of a length that many share, and not for those that hardly any does.
#[test]
fn ragged_segments_take_few_calls_of_a_device() {
    with_fault("lost:4", "is_asked_seldom");
}

#[test]
#[ignore = "ragged_segments_take_few_calls_of_a_device runs it"]
fn is_asked_seldom() {
    let lens: Vec<u64> = (1..=400).chain([33; 100]).chain([1000; 50]).chain([70_000, 70_001]).collect();
    let weights = distribution("int8_levels").weights(Kind::F32, 1, lens.iter().sum::<u64>() as usize, 1);
    let segments = || [tensor(&weights, &weights.bytes).with_segments(&lens).unwrap()];
    let rule = Rule::new().with_granularity(Granularity::Segments);
    let want = Pruner::cpu().mask(&segments(), &rule).unwrap();
    assert!(gpus()[0].pruner.mask(&segments(), &rule).unwrap() == want);
    // The device was there, and is gone by the fourth time.
    let again = (0..4).map(|_| gpus()[0].pruner.mask(&segments(), &rule)).find_map(Result::err);
    assert_eq!(again.unwrap().kind(), ErrorKind::DeviceLost);
}
