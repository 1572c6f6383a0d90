//! More contests side by side than are decided at once, or more structures than are scored at once: some after the other, and the answer of
//! all together.

use crate::desk::{Desk, f32s, floats, model, tensor};
use serde_json::Value;
use std::fs;

/// So many columns at the least memory are four runs of contests, and fill no byte of a mask.
const COLUMNS: u64 = 300_001;
const ROWS: u64 = 5;
const LITTLE: [&str; 2] = ["--memory", "64MiB"];
const AMPLE: [&str; 2] = ["--memory", "512MiB"];

/// Few values that all three dtypes have, so that most columns have ties, zeros of both signs among them.
fn values(len: u64) -> Vec<f32> {
    let value = |i: u64| match (i.wrapping_mul(2_654_435_761) >> 7) % 9 {
        5 => -0.0,
        step => step as f32 - 4.0,
    };
    (0..len).map(value).collect()
}

/// All that one run writes: weights, masks, and the report without what depends on memory and time.
fn answer(desk: &Desk, name: &str, args: &[&str]) -> (Vec<u8>, Vec<u8>, Value) {
    let [masks, report] = ["masks", "report"].map(|what| format!("{name}.{what}"));
    let files = ["prune", "in", "-o", name, "--masks", &masks, "--report", &report, "--overwrite"];
    desk.succeed(&[&files[..], args].concat());
    let mut json = desk.json(&report);
    for tensor in json["tensors"].as_array_mut().unwrap() {
        tensor["seconds"].take();
    }
    (desk.read(name), desk.read(&masks), json)
}

#[test]
fn columns_that_are_decided_in_several_runs_have_one_answer() {
    let desk = Desk::new();
    desk.write("norms", &model(&[("w", "F32", &[COLUMNS], f32s(&values(COLUMNS)))]));
    let scores: Vec<f32> = values(ROWS * COLUMNS + 1).split_off(1);
    desk.write("scores", &model(&[("w", "F16", &[ROWS, COLUMNS], floats("F16", &scores))]));
    for dtype in ["F32", "BF16"] {
        let file = |bytes| model(&[("a", "U8", &[1], vec![1]), ("w", dtype, &[ROWS, COLUMNS], bytes)]);
        desk.write("in", &file(floats(dtype, &values(ROWS * COLUMNS))));
        for question in [
            &["--granularity", "column"][..],
            &["--granularity", "column", "--score", "wanda", "--norms", "norms"],
            &["--granularity", "column", "--score", "scores", "--beta", "0.7"],
            // The last block is one column wide.
            &["--granularity", "block:5x2", "--sparsity", "0.4"],
            // The last row of blocks is one row high.
            &["--granularity", "block:2x1"],
        ] {
            let ask = |name: &str, memory: [&str; 2]| answer(&desk, name, &[question, &memory].concat());
            let (whole, runs) = (ask("whole", AMPLE), ask("runs", LITTLE));
            assert!(whole.0 == runs.0, "other weights in {dtype} by {question:?}");
            assert!(whole.1 == runs.1, "other masks in {dtype} by {question:?}");
            assert_eq!(whole.2["totals"], runs.2["totals"], "{dtype} by {question:?}");
            assert_eq!(whole.2["tensors"], runs.2["tensors"], "{dtype} by {question:?}");
            assert!(whole.0 != desk.read("in"), "nothing is pruned by {question:?}");
            desk.succeed(&[&["verify", "in", "whole", "--masks", "whole.masks"], question, &LITTLE].concat());
            let applied = desk.run(&["apply", "in", "--masks", "runs.masks", "-o", "applied", "--overwrite"]);
            assert!(
                applied.status.success() && desk.read("applied") == whole.0,
                "masks and weights differ by {question:?}"
            );
        }
    }
}

/// Parts of a row have the norms of that part.
#[test]
fn parts_of_a_row_that_are_decided_in_several_runs_have_their_norms() {
    let desk = Desk::new();
    let len = 2 * COLUMNS;
    desk.write("norms", &model(&[("w", "F32", &[len], f32s(&values(len)))]));
    desk.write("one", &model(&[("w", "F32", &[1], f32s(&[2.0]))]));
    for (shape, norms) in [(&[2, len][..], "norms"), (&[len], "one")] {
        let count = shape.iter().product();
        desk.write("in", &model(&[("w", "F32", shape, f32s(&values(count)))]));
        let question = ["--nm", "1:2", "--score", "wanda", "--norms", norms, "--targets", "w"];
        let ask = |name: &str, memory: [&str; 2]| answer(&desk, name, &[&question[..], &memory].concat());
        let (whole, runs) = (ask("whole", AMPLE), ask("runs", LITTLE));
        assert!((&whole.0, &whole.1) == (&runs.0, &runs.1), "{shape:?}");
        assert_eq!(whole.2["tensors"], runs.2["tensors"], "{shape:?}");
    }
    // Every norm is looked at before any weight is.
    let mut bad = values(len);
    bad[500_000] = f32::NAN;
    desk.write("norms", &model(&[("w", "F32", &[len], f32s(&bad))]));
    desk.write("in", &model(&[("w", "F32", &[2, len], f32s(&values(2 * len)))]));
    let args = ["prune", "in", "-o", "out", "--nm", "1:2", "--score", "wanda", "--norms", "norms", "--backend", "cpu"];
    desk.fail(&[&args[..], &LITTLE].concat(), 1, &["the norms of tensor \"w\"", "entry 500000 is NaN"]);
}

/// Of bad weights the first is told, though columns to the left of it have others, and nothing is left behind.
#[test]
fn the_first_bad_weight_is_told_wherever_it_is() {
    for bad in [&[(1, COLUMNS - 2)][..], &[(1, COLUMNS - 2), (3, 7)], &[(2, 100_000), (1, 299_000), (1, 100_000)]] {
        let desk = Desk::new();
        let mut values = values(ROWS * COLUMNS);
        for &(row, column) in bad {
            values[(row * COLUMNS + column) as usize] = f32::NAN;
        }
        let first = bad.iter().map(|(row, column)| row * COLUMNS + column).min().unwrap();
        let message = format!("tensor \"w\" of in: entry {first} is NaN");
        desk.write("in", &model(&[("w", "F32", &[ROWS, COLUMNS], f32s(&values))]));
        for memory in [LITTLE, AMPLE] {
            let outputs = ["prune", "in", "-o", "out", "--masks", "masks", "--report", "report", "--plot", "plots"];
            let question = ["--granularity", "column", "--backend", "cpu"];
            desk.fail(&[&outputs[..], &question, &memory].concat(), 1, &[&message]);
        }
    }
}

/// What is compared some columns at a time is told of from the first row on.
#[test]
fn the_first_difference_is_told_wherever_it_is() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[ROWS, COLUMNS], f32s(&values(ROWS * COLUMNS)))]));
    let question = ["--granularity", "column", "--memory", "64MiB"];
    let (whole, masks, _) = answer(&desk, "out", &question);
    let verify = ["verify", "in", "out", "--masks", "out.masks", "--backend", "cpu"];
    // In the first run of columns below one in the last.
    let (early, late) = (4 * COLUMNS + 10, COLUMNS + 299_000);
    let mut bytes = whole.clone();
    for entry in [early, late] {
        let at = whole.len() - 4 * (ROWS * COLUMNS - entry) as usize;
        bytes[at] ^= 1;
    }
    desk.write("out", &bytes);
    desk.fail(&[&verify[..], &question].concat(), 1, &[&format!("tensor \"w\", entry {late} differs")]);
    desk.write("out", &whole);
    let mut bits = masks.clone();
    let start = masks.len() - (ROWS * COLUMNS).div_ceil(8) as usize;
    for entry in [early, late] {
        bits[start + (entry / 8) as usize] ^= 1 << (entry % 8);
    }
    desk.write("out.masks", &bits);
    desk.fail(&[&verify[..], &question].concat(), 1, &["out.masks", &format!("tensor \"w\", bit {late} differs")]);
    // Bits of no entry are part of a mask too.
    let mut bits = masks;
    *bits.last_mut().unwrap() ^= 0x80;
    desk.write("out.masks", &bits);
    desk.fail(&[&verify[..], &question].concat(), 1, &["out.masks", "tensor \"w\", bit"]);
}

/// Drawn are all scores, each once.
#[test]
fn scores_of_columns_that_are_decided_in_several_runs_are_drawn_once() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "BF16", &[ROWS, COLUMNS], floats("BF16", &values(ROWS * COLUMNS)))]));
    for (name, memory) in [("whole", AMPLE), ("runs", LITTLE)] {
        desk.succeed(&[&["inspect", "in", "--granularity", "column", "--plot", name], &memory[..]].concat());
    }
    assert!(desk.read("whole/tensor-w.svg") == desk.read("runs/tensor-w.svg"));
}

/// The bytes of shards are copied and written as they are with any other question.
#[test]
fn shards_with_columns_that_are_decided_in_several_runs_are_written_whole() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    let wide = floats("BF16", &values(3 * COLUMNS));
    let parts = [
        ("a", "U8", &[3][..], vec![1, 2, 3]),
        ("w", "BF16", &[3, COLUMNS], wide.clone()),
        ("z", "BF16", &[3, COLUMNS], wide),
    ];
    desk.write("in/1.safetensors", &model(&parts[..2]));
    desk.write("in/2.safetensors", &model(&parts[2..]));
    let map = r#"{"weight_map":{"a":"1.safetensors","w":"1.safetensors","z":"2.safetensors"}}"#;
    desk.write("in/model.safetensors.index.json", map.as_bytes());
    for (name, memory) in [("whole", AMPLE), ("runs", LITTLE)] {
        desk.succeed(&[&["prune", "in", "-o", name, "--granularity", "column"], &memory[..]].concat());
    }
    for shard in ["1.safetensors", "2.safetensors"] {
        let [whole, runs] = ["whole", "runs"].map(|name| desk.read(&format!("{name}/{shard}")));
        assert!(whole == runs, "{shard}");
        assert_eq!(runs.len(), desk.read(&format!("in/{shard}")).len());
    }
    assert_eq!(tensor(&desk.read("runs/1.safetensors"), "a"), [1, 2, 3]);
    assert!(tensor(&desk.read("runs/1.safetensors"), "w") == tensor(&desk.read("runs/2.safetensors"), "z"));
}

/// More structures than there is room for the scores of: these are made anew, some at a time, for every pass.
#[test]
fn structures_that_are_scored_some_at_a_time_have_one_answer() {
    const COUNT: u64 = 4_300_001;
    let desk = Desk::new();
    for (shape, question) in [
        (&[2, COUNT][..], &["--structure", "column", "--beta", "0.9"][..]),
        (&[2, COUNT], &["--structure", "column", "--norm", "l1", "--granularity", "global"]),
        (&[1, COUNT, 2], &["--structure", "channel", "--norm", "max"]),
        (&[COUNT, 2], &["--structure", "row", "--sparsity", "0.3"]),
    ] {
        let mut values = values(2 * COUNT);
        desk.write("in", &model(&[("w", "BF16", shape, floats("BF16", &values))]));
        let ask = |name: &str, memory: [&str; 2]| answer(&desk, name, &[question, &memory].concat());
        let (whole, some) = (ask("whole", AMPLE), ask("some", LITTLE));
        assert!((&whole.0, &whole.1) == (&some.0, &some.1), "{question:?}");
        assert!(whole.2 == some.2, "other reports by {question:?}");
        assert!(whole.0 != desk.read("in"), "nothing is pruned by {question:?}");
        desk.succeed(&[&["verify", "in", "whole", "--masks", "whole.masks"], question, &LITTLE].concat());
        // The first bad weight of all, though the last structures have it and the first ones have another.
        let (first, second) = if shape[0] == 2 { (COUNT - 1, COUNT) } else { (2 * COUNT - 3, 2 * COUNT - 1) };
        [first, second].into_iter().for_each(|at| values[at as usize] = f32::INFINITY);
        desk.write("bad", &model(&[("w", "BF16", shape, floats("BF16", &values))]));
        let message = format!("tensor \"w\" of bad: entry {first} is infinity");
        let args = ["prune", "bad", "-o", "out", "--masks", "masks", "--backend", "cpu"];
        desk.fail(&[&args[..], question, &LITTLE].concat(), 1, &[&message]);
    }
}
