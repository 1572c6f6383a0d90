//! A device opened with tiny limits: what a binding does not hold is cut into windows, and the answer stays the same one.
//!
//! The windows are those that a large tensor gets on any device; small bindings make them happen on data that the oracle can
//! sort. Every answer is held against the oracle and, bit for bit, against the processor.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{ask, judge, tensor, tensor_mut};
use common::inputs::{self, distribution, infinity, mixture, sign, with_norms};
use common::oracle::{Contests, Kind, Question};
use common::{Named, gpus, skipped};
use emprune::gpu::Options;
use emprune::{Backend, ErrorKind, Pruner};
use std::sync::OnceLock;

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];

/// Windows of 16384 entries of f32, 32768 of f16 and bf16.
const WINDOW_BYTES: u64 = 64 << 10;

/// No power of two, and no multiple of the 256 bytes at which bindings may begin.
const CROOKED_BYTES: u64 = 100_001;

/// Entries of a window.
fn window(kind: Kind) -> usize {
    WINDOW_BYTES as usize / kind.size()
}

/// Options that open the adapter behind `gpu` again.
fn options(gpu: &Named) -> Options {
    let Backend::Gpu(adapter) = gpu.pruner.backend() else { panic!("{} is no GPU", gpu.name) };
    Options::new().with_adapter(adapter.to_string()).with_software(true)
}

fn open_all(binding_bytes: u64) -> Vec<Named> {
    let open = |gpu: &Named| {
        let pruner = Pruner::gpu(&options(gpu).with_max_binding_bytes(binding_bytes)).unwrap();
        let Backend::Gpu(adapter) = pruner.backend() else { panic!("a GPU was asked for") };
        assert_eq!(adapter.max_binding_bytes, binding_bytes, "{}", gpu.name);
        Named { name: format!("{} with bindings of {binding_bytes} bytes", gpu.name), pruner }
    };
    gpus().iter().map(open).collect()
}

/// Every adapter, opened with bindings of 64 KiB.
fn windowed() -> &'static [Named] {
    static WINDOWED: OnceLock<Vec<Named>> = OnceLock::new();
    WINDOWED.get_or_init(|| open_all(WINDOW_BYTES))
}

fn question(contests: Contests, wanda: bool, beta: f64) -> Question {
    Question { contests, wanda, beta, ..Question::RULE }
}

// ---- one contest over several windows

#[test]
fn whole_tensors_around_the_edges_of_windows() {
    for (i, kind) in KINDS.into_iter().enumerate() {
        let window = window(kind);
        for (j, len) in [window, window + 1, 2 * window - 1, 3 * window + 31].into_iter().enumerate() {
            let name = ["normal", "int8_levels", "sixty_decades", "ternary"][(i + j) % 4];
            let weights = distribution(name).weights(kind, 1, len, 40 + j as u64);
            ask(windowed(), &[weights], &question(Contests::Tensor, false, [1.0, 0.7][j % 2]));
        }
    }
}

/// The last kept tie lies in the first window, in the middle of one, at the end of one, and in the last.
#[test]
fn ties_end_in_any_window() {
    for kind in KINDS {
        let window = window(kind);
        let len = 3 * window + 101;
        let all_equal = distribution("all_equal").weights(kind, 1, len, 50);
        for kept in [1, window - 1, window, window + 1, 2 * window + 17, 3 * window + 100] {
            // Of equal entries, exactly this share is kept.
            let beta = (kept as f64 / len as f64 * 1e9).ceil() / 1e9;
            let asked = question(Contests::Tensor, false, beta);
            ask(windowed(), std::slice::from_ref(&all_equal), &asked);
        }
        // Some above the threshold, ties spread over all windows.
        let odd = len | 1;
        let (above, ties) = ((odd - 1) / 4, odd / 2);
        ask(windowed(), &[inputs::boundary(kind, odd, above, ties, 51)], &question(Contests::Tensor, false, 0.5));
    }
}

#[test]
fn wanda_windows_begin_in_the_middle_of_a_row() {
    for kind in KINDS {
        for (rows, row_len) in [(701, 67), (3, 40_001), (130, 700)] {
            let window = window(kind);
            assert!(!window.is_multiple_of(row_len), "the second window begins at column {}", window % row_len);
            let weights = with_norms(distribution("normal").weights(kind, rows, row_len, 60), 60);
            // Of norms that no binding holds a piece takes its own.
            ask(windowed(), &[weights], &question(Contests::Tensor, true, 1.0));
        }
    }
}

// ---- several tensors, one contest

#[test]
fn one_contest_over_tensors_that_are_cut() {
    for (i, name) in ["normal", "all_equal", "ternary", "mostly_zeros", "all_zeros"].into_iter().enumerate() {
        for wanda in [false, true] {
            let seed = 70 + i as u64;
            let tensors = [(Kind::F32, 300, 67), (Kind::Bf16, 1, 13), (Kind::F16, 251, 131), (Kind::Bf16, 200, 101)]
                .map(|(kind, rows, row_len)| {
                    let weights = distribution(name).weights(kind, rows, row_len, seed);
                    if wanda { with_norms(weights, seed) } else { weights }
                });
            ask(windowed(), &tensors, &question(Contests::Global, wanda, [0.5, 1.0][i % 2]));
        }
    }
}

// ---- columns and blocks

/// Longer than a window, and laid end to end as keys of four bytes, whatever the weights take.
#[test]
fn columns_and_blocks_of_weights_that_are_smaller_than_their_keys() {
    for kind in [Kind::Bf16, Kind::E4m3, Kind::F32] {
        for len in [window(kind) / 2, window(kind) - 1, window(kind) + 3] {
            let long = distribution("normal").weights(kind, len, 2, 65);
            ask(windowed(), &[long], &question(Contests::Column, false, 1.0));
            let wide = distribution("normal").weights(kind, 2, len, 66);
            ask(windowed(), &[wide], &question(Contests::Block(2, len), false, 0.5));
        }
    }
}

// ---- rows

/// Windows of whole rows; an odd row ends in the middle of a byte of the mask, and so the next window begins there.
#[test]
fn rows_that_do_not_fill_a_window() {
    for (i, kind) in KINDS.into_iter().enumerate() {
        for (j, (rows, row_len)) in [(2001, 67), (5, 16_383), (301, 257), (1201, 3)].into_iter().enumerate() {
            let weights = match (i + j) % 2 {
                0 => distribution("int8_levels").weights(kind, rows, row_len, 80 + j as u64),
                _ => mixture(kind, rows, row_len, 80 + j as u64),
            };
            ask(windowed(), &[weights], &question(Contests::Row, false, [1.0, 0.5][j % 2]));
        }
        let weights = with_norms(distribution("normal").weights(kind, 1501, 67, 85), 85);
        ask(windowed(), &[weights], &question(Contests::Row, true, 1.0));
    }
}

#[test]
fn rows_longer_than_a_window() {
    for kind in KINDS {
        for (i, name) in ["normal", "all_equal", "lognormal_4"].into_iter().enumerate() {
            let row_len = [window(kind) + 1, 2 * window(kind) + 33, 3 * window(kind) - 1][i];
            let weights = distribution(name).weights(kind, 3, row_len, 90 + i as u64);
            ask(windowed(), &[weights], &question(Contests::Row, false, [1.0, 0.5, 0.7][i]));
        }
    }
}

#[test]
fn wanda_rows_longer_than_a_window() {
    for kind in KINDS {
        let weights = with_norms(distribution("normal").weights(kind, 2, 2 * window(kind) + 5, 95), 95);
        ask(windowed(), &[weights], &question(Contests::Row, true, 1.0));
    }
    // A row of two windows whose norms fit one: f16 takes half of what f32 takes.
    let row_len = window(Kind::F32) - 1;
    for kind in [Kind::F16, Kind::Bf16] {
        let weights = with_norms(distribution("int8_levels").weights(kind, 5, row_len, 96), 96);
        ask(windowed(), &[weights], &question(Contests::Row, true, 0.7));
    }
}

// ---- bad input

/// The first bad entry is named by its place in the tensor, whichever window it is in; and nothing is zeroed before it is found.
#[test]
fn a_bad_entry_is_found_in_any_window() {
    for kind in KINDS {
        let row_len = window(kind) + 3;
        let clean = distribution("normal").weights(kind, 3, row_len, 100);
        for contests in [Contests::Tensor, Contests::Global, Contests::Row] {
            for (at, bits) in
                [(0, infinity(kind)), (row_len + 7, infinity(kind) | 1), (3 * row_len - 1, infinity(kind) | sign(kind))]
            {
                let mut entries = clean.bits();
                entries[at] = bits;
                // A later one must not be reported in its place.
                *entries.last_mut().unwrap() = infinity(kind) | sign(kind);
                let weights = inputs::weights(format!("bad entry {at} of {}", clean.label), kind, row_len, &entries);
                let tensors = [distribution("normal").weights(kind, 1, 40, 101), weights];
                let asked = question(contests, false, 1.0);
                ask(windowed(), &tensors, &asked);
                for gpu in windowed() {
                    let mut copies: Vec<Vec<u8>> = tensors.iter().map(|w| w.bytes.clone()).collect();
                    let mut inputs: Vec<_> =
                        tensors.iter().zip(&mut copies).map(|(w, copy)| tensor_mut(w, copy)).collect();
                    let error = gpu.pruner.prune(&mut inputs, &common::rule(&asked)).unwrap_err();
                    assert_eq!((error.tensor(), error.index()), (Some(1), Some(at as u64)), "{}: {error:?}", gpu.name);
                    for (weights, copy) in tensors.iter().zip(&copies) {
                        assert!(weights.bytes == *copy, "{}: {contests:?}: {} was changed", gpu.name, weights.label);
                    }
                }
            }
        }
    }
}

// ---- other limits

#[test]
fn a_crooked_limit_is_as_good_as_a_round_one() {
    let gpus = open_all(CROOKED_BYTES);
    for kind in KINDS {
        let whole = with_norms(distribution("int8_levels").weights(kind, 901, 131, 110), 110);
        ask(&gpus, std::slice::from_ref(&whole), &question(Contests::Tensor, true, 0.5));
        ask(&gpus, &[whole], &question(Contests::Row, true, 1.0));
        ask(&gpus, &[distribution("ternary").weights(kind, 2, 60_001, 111)], &question(Contests::Row, false, 1.0));
    }
}

/// The more windows, the more state a contest has; a limit that holds none of it is an error with a name.
#[test]
fn many_windows_are_answered_or_refused_by_name() {
    for gpu in windowed() {
        for windows in common::some(&[8, 16, 17, 40], 2, 0) {
            let weights = distribution("int8_levels").weights(Kind::F32, 1, windows * window(Kind::F32), 120);
            let asked = question(Contests::Tensor, false, 0.5);
            let input = tensor(&weights, &weights.bytes);
            match gpu.pruner.mask(&[input], &common::rule(&asked)) {
                Ok(_) => ask(std::slice::from_ref(gpu), &[weights], &asked),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Limit, "{}: {windows} windows: {error:?}", gpu.name);
                    assert!(windows > 8, "{}: {windows} windows are refused: {error}", gpu.name);
                }
            }
        }
    }
}

/// From nothing to enough for small tensors: an answer or an error, never a panic and never another answer.
#[test]
fn a_limit_that_is_too_small_is_refused_by_name() {
    let weights = distribution("normal").weights(Kind::Bf16, 3, 67, 130);
    for gpu in gpus() {
        for bytes in common::some(&[0, 1, 4, 255, 256, 1000, 4096, 17_000, 20_000, 40_000], 3, 0) {
            let pruner = match Pruner::gpu(&options(gpu).with_max_binding_bytes(bytes)) {
                Ok(pruner) => pruner,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Limit, "{} does not open with {bytes}: {error:?}", gpu.name);
                    continue;
                }
            };
            let tiny = [Named { name: format!("{} with bindings of {bytes} bytes", gpu.name), pruner }];
            for contests in [Contests::Tensor, Contests::Row] {
                let asked = question(contests, false, 1.0);
                let input = tensor(&weights, &weights.bytes);
                match tiny[0].pruner.mask(&[input], &common::rule(&asked)) {
                    Ok(_) => judge(&tiny, std::slice::from_ref(&weights), &asked).unwrap(),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Limit, "{}: {contests:?}: {error:?}", tiny[0].name)
                    }
                }
            }
        }
    }
}

/// More weights than may stay on the device between passes: they are uploaded again for each.
#[test]
fn weights_that_do_not_stay_on_the_device() {
    let open = |gpu: &Named| {
        let pruner = Pruner::gpu(&options(gpu).with_max_shared_bytes(1000)).unwrap();
        Named { name: format!("{} that keeps 1000 bytes", gpu.name), pruner }
    };
    let backends: Vec<_> = gpus().iter().filter(|gpu| gpu.pruner.backend().is_software()).map(open).collect();
    if backends.is_empty() {
        skipped("no adapter here shares the program's memory");
    }
    for (i, name) in ["normal", "int8_levels", "all_equal", "lognormal_2"].into_iter().enumerate() {
        let seed = 140 + i as u64;
        let long = distribution(name).weights(KINDS[i % 3], 1, 45_001, seed);
        let odd = distribution(name).weights(KINDS[(i + 1) % 3], 3, 7003, seed);
        let tensors = [long, odd];
        ask(&backends, &tensors, &question(Contests::Global, false, 0.7));
        ask(&backends, &tensors, &question(Contests::Tensor, false, 1.0));
    }
    for tensors in inputs::between([Kind::Bf16, Kind::F32], 150) {
        ask(&backends, &tensors, &question(Contests::Global, false, 0.4));
    }
}
