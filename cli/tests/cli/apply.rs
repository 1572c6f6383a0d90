//! `emprune apply`: the weights that masks leave, and the masks that it refuses.

use crate::desk::{Desk, Part, f32s, floats, model, tensor, texts, tree, with_header};
use crate::schema::obeys;
use serde_json::Value;
use std::fs;

/// Values of all kinds at odd lengths, in three dtypes, beside what has no masks.
fn source() -> Vec<u8> {
    let values = |count: u32, shift: u32| -> Vec<f32> {
        (0..count).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(shift) >> 24) as f32 - 127.0).collect()
    };
    model(&[
        ("b", "BF16", &[5, 13], floats("BF16", &values(65, 1))),
        ("f.weight", "F32", &[3, 7], f32s(&values(21, 2))),
        ("h", "F16", &[2, 3, 5], floats("F16", &values(30, 3))),
        ("bias", "F32", &[3], f32s(&[0.0, -0.0, f32::NAN])),
        ("step", "I64", &[1], 7i64.to_le_bytes().to_vec()),
    ])
}

fn apply(desk: &Desk, args: &[&str]) -> String {
    let output = desk.run(&[&["apply"], args].concat());
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    stdout
}

#[test]
fn applying_the_masks_of_a_run_makes_its_output_and_again_changes_nothing() {
    let desk = Desk::new();
    desk.write("in", &source());
    for (i, granularity) in ["row", "tensor", "global"].iter().enumerate() {
        let (pruned, masks) = (format!("pruned{i}"), format!("masks{i}"));
        desk.succeed(&["prune", "in", "-o", &pruned, "--masks", &masks, "--granularity", granularity]);
        apply(&desk, &["--masks", &masks, "in", "-o", "once", "--overwrite"]);
        assert!(desk.read("once") == desk.read(&pruned), "{granularity}: other bytes than prune's");
        assert_ne!(desk.read("once"), desk.read("in"), "{granularity}: nothing was pruned");
        apply(&desk, &["once", "--masks", &masks, "-o", "twice", "--overwrite"]);
        assert!(desk.read("twice") == desk.read("once"), "{granularity}: not idempotent");
    }
}

#[test]
fn lost_entries_are_zero_and_kept_ones_keep_every_bit() {
    let desk = Desk::new();
    let odd = [f32::NAN, -0.0, f32::from_bits(1), -1.0, f32::INFINITY, -0.0, 3.0, 0.0, -2.0, 9.0, -5.0];
    desk.write("in", &model(&[("w", "F32", &[11], f32s(&odd)), ("x", "I8", &[2], vec![1, 2])]));
    // As any tool may write it: bits, and no word of shapes.
    desk.write("masks", &model(&[("w", "U8", &[2], vec![0b0100_1111, 0b101])]));
    apply(&desk, &["--masks", "masks", "in", "-o", "out", "--report", "report"]);
    let expected = [f32::NAN, -0.0, f32::from_bits(1), -1.0, 0.0, 0.0, 3.0, 0.0, -2.0, 0.0, -5.0];
    assert_eq!(tensor(&desk.read("out"), "w"), f32s(&expected));
    assert_eq!(tensor(&desk.read("out"), "x"), [1, 2]);
    let report = desk.json("report");
    obeys(&desk, "apply", &report);
    let numbers = |of: &Value| ["len", "kept", "zeros_before", "zeros_after"].map(|key| of[key].as_u64().unwrap());
    assert_eq!(numbers(&report["totals"]), [11, 7, 3, 5]);
    assert_eq!(numbers(&report["tensors"][0]), [11, 7, 3, 5]);
    assert_eq!((&report["tensors"][0]["name"], &report["unmasked"]), (&Value::from("w"), &Value::from(1)));
    let json: Value = serde_json::from_str(&apply(&desk, &["--masks", "masks", "in", "-o", "out2", "--json"])).unwrap();
    assert_eq!(json, report);
}

#[test]
fn a_tensor_of_many_pieces_is_masked_from_end_to_end() {
    let desk = Desk::new();
    // More than two pieces, and a last byte that is not full.
    let len = (9 << 20) + 3u64;
    let bit = |i: u64| i.is_multiple_of(3) || i % 7 == 2;
    let weights: Vec<u8> = (0..len).flat_map(|i| half::f16::from_f32((i % 100) as f32 + 1.0).to_le_bytes()).collect();
    let mut bits = vec![0u8; len.div_ceil(8) as usize];
    (0..len).filter(|&i| bit(i)).for_each(|i| bits[(i / 8) as usize] |= 1 << (i % 8));
    desk.write("in", &model(&[("w", "F16", &[len], weights.clone())]));
    desk.write("masks", &model(&[("w", "U8", &[bits.len() as u64], bits)]));
    apply(&desk, &["--masks", "masks", "in", "-o", "out"]);
    let out = tensor(&desk.read("out"), "w");
    for i in 0..len as usize {
        let (is, was) = (&out[2 * i..2 * i + 2], &weights[2 * i..2 * i + 2]);
        assert_eq!(is, if bit(i as u64) { was } else { &[0, 0] }, "entry {i}");
    }
}

#[test]
fn a_directory_comes_out_as_one() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    let part =
        |name, seed: f32| -> Part<'_> { (name, "F32", &[2, 4], f32s(&[1.0, 3.0, 1.0, seed, 2.0, 2.0, 2.0, 2.0])) };
    desk.write("in/a.safetensors", &model(&[part("m.z.weight", 1.0), ("m.norm.weight", "F32", &[1], f32s(&[1.0]))]));
    desk.write("in/b.safetensors", &model(&[part("m.a.weight", 0.5)]));
    let map = r#"{"m.z.weight":"a.safetensors","m.norm.weight":"a.safetensors","m.a.weight":"b.safetensors"}"#;
    desk.write("in/model.safetensors.index.json", format!(r#"{{"weight_map":{map}}}"#).as_bytes());
    desk.write("in/config.json", b"{}");
    desk.succeed(&["prune", "in", "-o", "pruned", "--masks", "masks"]);
    apply(&desk, &["--masks", "masks", "in", "-o", "out"]);
    let without_report = |name: &str| {
        let mut files = tree(&desk.path(name));
        assert!(files.remove("emprune_report.json").is_some(), "{name} has no report");
        files
    };
    assert!(without_report("out") == without_report("pruned"));
    assert_ne!(without_report("out")["a.safetensors"], desk.read("in/a.safetensors"));
    obeys(&desk, "apply", &desk.json("out/emprune_report.json"));
    let (_, stderr) = texts(&desk.run(&["apply", "--masks", "masks", "out", "-o", "again"]));
    assert_eq!(stderr, "note: out/emprune_report.json is about the input and is not copied\n");
    assert!(tree(&desk.path("again"))["a.safetensors"] == desk.read("out/a.safetensors"));
    desk.fail(&["apply", "--masks", "masks", "in", "-o", "out"], 1, &["out exists and is not empty", "--overwrite"]);
    apply(&desk, &["--masks", "masks", "in", "-o", "out", "--overwrite"]);
    desk.fail(&["apply", "--masks", "masks", "in", "-o", "in"], 1, &["is the input"]);
}

#[test]
fn masks_that_do_not_fit_are_refused_by_both_names() {
    let desk = Desk::new();
    desk.write("in", &source());
    let masks = |name: &str, dtype: &str, bytes: &[u8]| model(&[(name, dtype, &[bytes.len() as u64], bytes.to_vec())]);
    for (file, parts) in [
        (masks("gone", "U8", &[1]), &["masks has a mask for tensor \"gone\"", "in has no such"][..]),
        (masks("f.weight", "U8", &[1, 2]), &["\"f.weight\" in masks has 2 bytes", "[3, 7] in in takes 3"]),
        (masks("f.weight", "I8", &[1, 2, 3]), &["\"f.weight\" is I8", "must be U8", "masks"]),
        (masks("f.weight", "U8", &[1, 2, 0x20]), &["\"f.weight\" in masks", "0x20", "5 entries"]),
        (masks("step", "U8", &[1]), &["masks has a mask for tensor \"step\"", "in it is I64"]),
        (with_header("{}", b""), &["masks", "has no masks"]),
        (b"no".to_vec(), &["the masks file", "truncated"]),
    ] {
        desk.write("masks", &file);
        desk.fail(&["apply", "--masks", "masks", "in", "-o", "out"], 1, parts);
    }
    // The same number of weights in another shape: the masks file says so itself.
    let other = model(&[("f.weight", "F32", &[7, 3], f32s(&[1.0; 21]))]);
    desk.write("other", &other);
    desk.succeed(&["inspect", "other", "--masks", "masks", "--overwrite"]);
    desk.fail(&["apply", "--masks", "masks", "in", "-o", "out"], 1, &["for the shape [7, 3]", "in has [3, 7]"]);
    for shapes in ["{", "[]", r#"{\"w\":[2]}"#, r#"{\"w\":[4294967296,4294967296]}"#] {
        let header = format!(
            r#"{{"__metadata__":{{"shapes":"{shapes}"}},"w":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#
        );
        desk.write("masks", &with_header(&header, &[1, 0]));
        desk.fail(&["apply", "--masks", "masks", "in", "-o", "out"], 1, &["the masks file masks"]);
    }
}

/// Nor do more of them than a header could have.
#[test]
fn shapes_of_masks_take_no_more_than_a_header_may() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[9], f32s(&[1.0; 9]))]));
    let refused = |tensors: &str, shapes: &str, data: &[u8], part: &str| {
        let header = format!(r#"{{"__metadata__":{{"format":"emprune.masks/1","shapes":"{shapes}"}}{tensors}}}"#);
        desk.write("masks", &with_header(&header, data));
        let output = desk.run(&["apply", "--masks", "masks", "in", "-o", "out"]);
        let (_, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("its shapes cannot be understood") && stderr.contains(part), "{stderr:.1000}");
        assert!(stderr.len() < 1000, "{} bytes of error", stderr.len());
    };
    // Each of 64 axes, which a header may have, and all together not.
    let count = (32 << 20) / (8 * 64);
    let shape = ["1"; 64].join(",");
    let shapes: Vec<_> = (0..count).map(|i| format!(r#"\"{i}\":[{shape}]"#)).collect();
    let tensors = |i| format!(r#","{i}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1);
    let tensors: String = (0..count).map(tensors).collect();
    refused(&tensors, &format!("{{{}}}", shapes.join(",")), &vec![1; count], "shapes take more than 32 MiB");
}

/// Shapes are text in a text, and take no more memory than a header's own, whatever they say.
#[test]
fn shapes_of_masks_have_the_limits_of_a_header() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[9], f32s(&[1.0; 9]))]));
    let axes = |count: usize| vec!["1"; count].join(",");
    for (shapes, part) in [
        (format!(r#"{{"w":[{},9]}}"#, axes(64)), "more than 64 axes"),
        (r#"{"w":[9],"w":[9]}"#.to_owned(), "the name \"w\" appears twice"),
        (r#"{"w":[9]} {}"#.to_owned(), "trailing characters"),
        (r#"{"w":[[9]]}"#.to_owned(), "invalid type"),
    ] {
        let shapes = serde_json::to_string(&shapes).unwrap();
        let header = format!(
            r#"{{"__metadata__":{{"format":"emprune.masks/1","shapes":{shapes}}},"w":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#
        );
        desk.write("masks", &with_header(&header, &[1, 0]));
        let parts = ["the masks file masks: its shapes cannot be understood", part];
        desk.fail(&["apply", "--masks", "masks", "in", "-o", "out"], 1, &parts);
        desk.fail(&["diff", "masks", "masks"], 1, &parts);
    }
    let shapes = format!(r#"{{\"w\":[{},9]}}"#, axes(63));
    let header =
        format!(r#"{{"__metadata__":{{"shapes":"{shapes}"}},"w":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#);
    desk.write("masks", &with_header(&header, &[1, 0]));
    desk.fail(&["apply", "--masks", "masks", "in", "-o", "out"], 1, &["for the shape [1, 1"]);
    // Who takes some masks of a file may keep its metadata.
    let header =
        r#"{"__metadata__":{"shapes":"{\"v\":[7,7],\"w\":[9]}"},"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    desk.write("masks", &with_header(header, &[1, 0]));
    apply(&desk, &["--masks", "masks", "in", "-o", "out"]);
}

#[test]
fn nothing_is_written_in_place() {
    let desk = Desk::new();
    desk.write("in", &source());
    desk.succeed(&["inspect", "in", "--masks", "masks"]);
    for (output, parts) in [("in", &["in is the same file as the input"][..]), ("masks", &["same file as the input"])] {
        desk.fail(&["apply", "--masks", "masks", "in", "-o", output, "--overwrite"], 1, parts);
    }
    apply(&desk, &["--masks", "masks", "in", "-o", "out"]);
    desk.fail(&["apply", "--masks", "masks", "in", "-o", "out"], 1, &["out exists", "--overwrite"]);
    desk.fail(&["apply", "in", "-o", "out"], 2, &["--masks"]);
    desk.fail(&["apply", "--masks", "masks", "in"], 2, &["--output"]);
}

/// What is not copied, and what is copied unpruned, is told as prune tells it.
#[test]
fn a_directory_is_told_about() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("in/.cache")).unwrap();
    desk.write("in/model.safetensors", &source());
    desk.write("in/other.safetensors", b"another model");
    desk.write("in/config.json", br#"{"tie_word_embeddings": true}"#);
    let (_, prune) = desk.succeed(&["prune", "in", "-o", "pruned", "--masks", "masks"]);
    let output = desk.run(&["apply", "--masks", "masks", "in", "-o", "out"]);
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for part in [".cache is a hidden directory", "other.safetensors is not part of the model", "ties the output layer"]
    {
        assert!(stderr.contains(part), "{stderr:?} without {part:?}");
    }
    assert_eq!(stderr, prune);
}
