//! `--norms` with llama.cpp's importance matrix: its names, its norms, and what is missing.

use crate::desk::{Desk, backends, f32s, model};

/// A GGUF file with these tensors; the first axis of a shape varies fastest.
fn gguf(tensors: &[(&str, [u64; 2], Vec<f32>)]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut file = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &(tensors.len() as u64).to_le_bytes()].concat();
    file.extend(2u64.to_le_bytes());
    file.extend([text("general.type"), 8u32.to_le_bytes().to_vec(), text("imatrix")].concat());
    file.extend([text("imatrix.chunk_count"), [4u32, 1].map(u32::to_le_bytes).concat()].concat());
    let mut offset = 0;
    for (name, shape, values) in tensors {
        file.extend([text(name), 2u32.to_le_bytes().to_vec(), shape.map(u64::to_le_bytes).concat()].concat());
        file.extend([0u32.to_le_bytes().as_slice(), &(offset as u64).to_le_bytes()].concat());
        offset += (4 * values.len()).next_multiple_of(32);
    }
    for (_, _, values) in tensors {
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(f32s(values));
    }
    file
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const EXPERT: &str = "model.layers.1.mlp.experts.1.down_proj.weight";
const ODD: &str = "something.of.its.own.weight";

/// Weights that are all alike, so that the norms alone decide: of four columns two are kept.
fn desk() -> Desk {
    let desk = Desk::new();
    let part = |name| (name, "F32", &[3u64, 4][..], f32s(&[1.0; 12]));
    desk.write("in", &model(&[part(Q), part(EXPERT)]));
    desk.write("odd", &model(&[part(ODD)]));
    let tensors = [
        ("blk.0.attn_q.weight.in_sum2", [4, 1], vec![1.0, 900.0, 900.0, 1.0]),
        ("blk.0.attn_q.weight.counts", [1, 1], vec![9.0]),
        ("blk.1.ffn_down_exps.weight.in_sum2", [4, 2], vec![900.0, 1.0, 1.0, 1.0, 800.0, 0.5, 0.0, 800.0]),
        ("blk.1.ffn_down_exps.weight.counts", [1, 2], vec![1.0, 2.0]),
    ];
    desk.write("imatrix.gguf", &gguf(&tensors));
    desk
}

const WANDA: [&str; 4] = ["--score", "wanda", "--norms", "imatrix.gguf"];

#[test]
fn an_importance_matrix_gives_the_norms_that_a_file_of_norms_would() {
    let desk = desk();
    let norm = |sum: f32, count: f32| (sum / count).sqrt();
    let q = [1.0, 900.0, 900.0, 1.0].map(|sum| norm(sum, 9.0));
    let expert = [800.0, 0.5, 0.0, 800.0].map(|sum| norm(sum, 2.0));
    desk.write("norms", &model(&[(Q, "F32", &[4], f32s(&q)), (EXPERT, "F32", &[4], f32s(&expert))]));
    for granularity in ["row", "tensor", "global"] {
        let options = ["--granularity", granularity, "--overwrite"];
        desk.succeed(&[&["prune", "in", "-o", "b", "--score", "wanda", "--norms", "norms"], &options[..]].concat());
        for backend in backends() {
            let output = desk.run(&[&["prune", "in", "-o", "a"], &WANDA[..], &options, &backend].concat());
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(desk.read("a") == desk.read("b"), "{granularity} {backend:?}");
        }
        assert_ne!(desk.read("a"), desk.read("in"), "{granularity}");
    }
    desk.succeed(&[&["prune", "in", "-o", "a", "--overwrite"], &WANDA[..]].concat());
    let row = |kept: [f32; 4]| f32s(&[kept; 3].concat());
    assert_eq!(crate::desk::tensor(&desk.read("a"), Q), row([0.0, 1.0, 1.0, 0.0]));
    assert_eq!(crate::desk::tensor(&desk.read("a"), EXPERT), row([1.0, 0.0, 0.0, 1.0]));
}

/// Layers of another network than the one that the norms were measured on, with the same numbers.
#[test]
fn an_encoder_has_no_norms_of_a_decoder() {
    let desk = desk();
    for name in
        ["vision_tower.encoder.layers.0.self_attn.q_proj.weight", "model.encoder.layers.0.self_attn.q_proj.weight"]
    {
        desk.write("other", &model(&[(Q, "F32", &[3, 4], f32s(&[1.0; 12])), (name, "F32", &[3, 4], f32s(&[1.0; 12]))]));
        desk.fail(&[&["inspect", "other"], &WANDA[..]].concat(), 1, &["has no norms for tensor", name]);
    }
}

#[test]
fn a_map_gives_names_that_cannot_be_guessed() {
    let desk = desk();
    let prune = [&["prune", "odd", "-o", "out"], &WANDA[..]].concat();
    desk.fail(
        &prune,
        1,
        &["imatrix.gguf has no norms for tensor \"something.of.its.own.weight\"", "needs 4", "2 other"],
    );
    desk.write("map", format!(r#"{{"{ODD}":"blk.1.ffn_down_exps.weight#1"}}"#).as_bytes());
    desk.succeed_everywhere(&[&prune[..], &["--norm-map", "map", "--overwrite"]].concat());
    assert_eq!(crate::desk::tensor(&desk.read("out"), ODD), f32s(&[[1.0f32, 0.0, 0.0, 1.0]; 3].concat()));
    // One of several matrices must be meant.
    desk.write("map", format!(r#"{{"{ODD}":"blk.1.ffn_down_exps.weight"}}"#).as_bytes());
    let of_all = [&prune[..], &["--overwrite", "--norm-map", "map"]].concat();
    desk.fail(&of_all, 1, &[ODD, "has 2 matrices", "blk.1.ffn_down_exps.weight#0"]);
    // Also for norms in safetensors.
    desk.write("norms", &model(&[("n", "F32", &[4], f32s(&[1.0, 9.0, 9.0, 1.0]))]));
    desk.write("map", format!(r#"{{"{ODD}":"n"}}"#).as_bytes());
    let args =
        ["prune", "odd", "-o", "out", "--overwrite", "--score", "wanda", "--norms", "norms", "--norm-map", "map"];
    desk.succeed(&args);
    assert_eq!(crate::desk::tensor(&desk.read("out"), ODD), f32s(&[[0.0f32, 1.0, 1.0, 0.0]; 3].concat()));
    desk.write("map", b"[]");
    desk.fail(&[&prune[..], &["--overwrite", "--norm-map", "map"]].concat(), 1, &["map is no JSON object"]);
    desk.fail(&["prune", "odd", "-o", "x", "--norm-map", "map"], 2, &["--norms"]);
}

#[test]
fn an_importance_matrix_that_does_not_fit_is_refused_by_name() {
    let desk = desk();
    let tensors = |columns: u64, sums: Vec<f32>, counts: Vec<f32>| {
        let exps = "blk.1.ffn_down_exps.weight";
        let matrices = counts.len() as u64;
        gguf(&[
            ("blk.0.attn_q.weight.in_sum2", [columns, 1], sums),
            ("blk.0.attn_q.weight.counts", [1, matrices], counts),
            (&format!("{exps}.in_sum2"), [4, 2], vec![1.0; 8]),
            (&format!("{exps}.counts"), [1, 2], vec![1.0; 2]),
        ])
    };
    for (file, parts) in [
        (tensors(3, vec![1.0; 3], vec![1.0]), &[Q, "imatrix.gguf are 3", "4 columns"][..]),
        (tensors(4, vec![1.0; 4], vec![0.0]), &[Q, "counts is 0", "no calibration data", "--ignore"]),
        (tensors(4, vec![1.0; 4], vec![f32::NAN]), &[Q, "counts is NaN"]),
        (tensors(4, vec![1.0, -2.0, 1.0, 1.0], vec![1.0]), &[Q, "entry 1 is -2"]),
        (tensors(4, vec![1.0, 2.0, f32::NAN, 1.0], vec![1.0]), &[Q, "entry 2 is NaN"]),
        (tensors(4, vec![1.0; 4], vec![1.0; 2]), &[Q, "1 x 2 numbers for 1 matrices"]),
        (gguf(&[]), &["the norms file", "no tensor whose name ends in .in_sum2"]),
        (b"GGUF\x03\0\0\0".to_vec(), &["the norms file", "truncated"]),
        (b"GGUF\x01\0\0\0".to_vec(), &["version 1"]),
    ] {
        desk.write("imatrix.gguf", &file);
        desk.fail(&[&["prune", "in", "-o", "out", "--backend", "cpu"], &WANDA[..]].concat(), 1, parts);
    }
}
