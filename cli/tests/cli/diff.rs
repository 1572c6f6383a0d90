//! `emprune diff`: what two models or masks files keep in common.

use crate::desk::{Desk, f32s, floats, model, texts};
use crate::schema::obeys;
use serde_json::{Value, json};

fn diff(desk: &Desk, a: &str, b: &str) -> Value {
    let output = desk.run(&["diff", a, b, "--json"]);
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{a} {b}");
    let report = serde_json::from_str(&stdout).unwrap();
    obeys(desk, "diff", &report);
    report
}

/// Two models: `w` overlaps, `z` is empty in both, `s` has two shapes, `i` is no float, and one name each is alone.
fn desk() -> Desk {
    let desk = Desk::new();
    let part = |values: &[f32]| f32s(values);
    desk.write(
        "a",
        &model(&[
            ("w", "F32", &[2, 5], part(&[1.0, 2.0, 0.0, -0.0, 5.0, 6.0, 7.0, 0.0, 9.0, 1.0])),
            ("z", "F32", &[3], part(&[0.0; 3])),
            ("s", "F32", &[4, 1], part(&[1.0; 4])),
            ("i", "I8", &[2], vec![1, 0]),
            ("mine", "F32", &[1], part(&[1.0])),
        ]),
    );
    desk.write(
        "b",
        &model(&[
            ("w", "F32", &[2, 5], part(&[-3.0, 0.0, 0.0, 4.0, 5.0, 0.0, 7.0, 0.0, 9.0, -0.0])),
            ("z", "F32", &[3], part(&[-0.0; 3])),
            ("s", "F32", &[1, 4], part(&[1.0; 4])),
            ("i", "I8", &[2], vec![1, 0]),
            ("yours", "F32", &[1], part(&[1.0])),
        ]),
    );
    desk
}

#[test]
fn every_tensor_has_its_counts() {
    let desk = desk();
    let report = diff(&desk, "a", "b");
    let w = json!({
        "name": "w", "shape": [2, 5], "len": 10, "kept_a": 7, "kept_b": 5, "both": 4, "neither": 2, "jaccard": 0.5,
        "skipped": null,
    });
    let z = json!({
        "name": "z", "shape": [3], "len": 3, "kept_a": 0, "kept_b": 0, "both": 0, "neither": 3, "jaccard": 1.0,
        "skipped": null,
    });
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!([&tensors[2], &tensors[3]], [&w, &z]);
    assert_eq!(tensors[0]["skipped"], "dtype I8 in A");
    assert_eq!(tensors[1]["skipped"], "shape 4x1 in A, 1x4 in B");
    for (tensor, len) in [(&tensors[0], 2), (&tensors[1], 4)] {
        assert_eq!([&tensor["jaccard"], &tensor["neither"], &tensor["len"]], [&Value::Null, &Value::Null, &json!(len)]);
    }
    assert_eq!((&report["only_in_a"], &report["only_in_b"]), (&json!(["mine"]), &json!(["yours"])));
    let totals = json!({"len": 13, "kept_a": 7, "kept_b": 5, "both": 4, "neither": 5, "jaccard": 0.5});
    assert_eq!(report["totals"], totals);
    let (stdout, _) = texts(&desk.run(&["diff", "a", "b"]));
    for part in ["0.5000", "only in A: mine", "only in B: yours", "not compared: s: shape 4x1 in A, 1x4 in B"] {
        assert!(stdout.contains(part), "{stdout} is without {part:?}");
    }
}

#[test]
fn a_model_and_its_masks_keep_the_same() {
    let desk = Desk::new();
    let values: Vec<f32> = (0..123u16).map(|i| f32::from(i) - 40.5).collect();
    desk.write("in", &model(&[("w", "F32", &[3, 41], f32s(&values)), ("n", "F32", &[1], f32s(&[1.0]))]));
    desk.succeed(&["prune", "in", "-o", "pruned", "--masks", "masks"]);
    desk.succeed(&["inspect", "in", "--granularity", "tensor", "--masks", "others"]);
    for (a, b) in [("pruned", "masks"), ("masks", "pruned"), ("masks", "masks"), ("pruned", "pruned")] {
        let totals =
            diff(&desk, a, b)["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "w").unwrap().clone();
        assert_eq!((&totals["jaccard"], &totals["len"]), (&json!(1.0), &json!(123)), "{a} {b}");
        assert_eq!(totals["both"], totals["kept_a"]);
        assert!((1..123).contains(&totals["both"].as_u64().unwrap()), "{totals}");
    }
    assert_eq!(diff(&desk, "pruned", "masks")["only_in_a"], json!(["n"]));
    let other = diff(&desk, "masks", "others");
    assert_ne!(other["totals"]["jaccard"], 1.0, "{other}");
    let with_models = diff(&desk, "pruned", "others");
    assert_eq!(other["totals"], with_models["totals"]);
}

/// What is kept counts, and not how it is stored: one file or shards, masks or weights, and any dtype.
#[test]
fn shards_dtypes_and_masks_are_compared_alike() {
    let desk = Desk::new();
    let values = |seed: i32| (1..=24).map(|i| ((i * seed) % 13 - 6) as f32 + 0.5).collect::<Vec<f32>>();
    let part =
        |name: &'static str, dtype: &'static str, seed| (name, dtype, &[4u64, 6][..], floats(dtype, &values(seed)));
    desk.write("single", &model(&[part("a.w", "F32", 5), part("b.w", "F32", 7)]));
    std::fs::create_dir(desk.path("shards")).unwrap();
    desk.write("shards/1.safetensors", &model(&[part("b.w", "BF16", 7)]));
    desk.write("shards/2.safetensors", &model(&[part("a.w", "F16", 5)]));
    let index = br#"{"weight_map":{"b.w":"1.safetensors","a.w":"2.safetensors"}}"#;
    desk.write("shards/model.safetensors.index.json", index);
    desk.succeed(&["prune", "single", "-o", "one", "--masks", "masks"]);
    desk.succeed(&["prune", "shards", "-o", "many"]);
    for (a, b) in [("one", "many"), ("many", "one"), ("many", "masks"), ("masks", "many")] {
        let report = diff(&desk, a, b);
        assert_eq!(report["totals"]["jaccard"], 1.0, "{a} {b}: {report}");
        assert_eq!(report["totals"]["len"], 48, "{a} {b}");
        assert_eq!((&report["only_in_a"], &report["only_in_b"]), (&json!([]), &json!([])), "{a} {b}");
        assert!(report["totals"]["both"].as_u64() < Some(48), "{a} {b}: nothing was pruned");
    }
    // Masks of the one, applied to the other, and again.
    for (input, output) in [("shards", "applied"), ("applied", "again")] {
        let applied = desk.run(&["apply", "--masks", "masks", input, "-o", output]);
        assert_eq!(applied.status.code(), Some(0), "{}", texts(&applied).1);
    }
    for shard in ["1.safetensors", "2.safetensors"] {
        let [many, applied, again] = ["many", "applied", "again"].map(|name| desk.read(&format!("{name}/{shard}")));
        assert!(many == applied && applied == again, "{shard}");
    }
}

/// A masks file that says no more than its bits: of our format, or of none.
fn masks(metadata: &str, bits: &[u8]) -> Vec<u8> {
    let len = bits.len();
    let header = format!(r#"{{{metadata}"w":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
    crate::desk::with_header(&header, bits)
}

#[test]
fn masks_without_shapes_leave_unknown_what_they_do_not_say() {
    let desk = Desk::new();
    for metadata in [r#""__metadata__":{"format":"emprune.masks/1"},"#, r#""__metadata__":{"format":"pt"},"#, ""] {
        desk.write("a", &masks(metadata, &[0b1111, 1]));
        desk.write("b", &masks(metadata, &[0b0110, 3]));
        desk.write("c", &masks(metadata, &[1]));
        let totals = json!({"len": null, "kept_a": 5, "kept_b": 4, "both": 3, "neither": null, "jaccard": 0.5});
        assert_eq!(diff(&desk, "a", "b")["totals"], totals);
        desk.fail(
            &["diff", "a", "c"],
            1,
            &["nothing to compare", "1 tensor in both", "\"w\": 2 bytes of mask in A, 1 in B"],
        );
    }
    desk.fail(&["diff", "a", "gone"], 1, &["gone", "cannot open"]);
    desk.fail(&["diff", "a"], 2, &["<B>"]);
}

/// As `apply` takes them.
#[test]
fn masks_of_another_tool_are_compared_with_weights() {
    let desk = Desk::new();
    let values: Vec<f32> = (0..48u16).map(|i| f32::from(i % 3)).collect();
    desk.write("in", &model(&[("w", "F32", &[6, 8], f32s(&values))]));
    let bits: Vec<u8> =
        values.chunks(8).map(|eight| eight.iter().rev().fold(0, |b, v| b << 1 | u8::from(*v != 0.0))).collect();
    desk.write("masks", &masks("", &bits));
    for (a, b) in [("in", "masks"), ("masks", "in")] {
        let report = diff(&desk, a, b);
        let totals = json!({"len": 48, "kept_a": 32, "kept_b": 32, "both": 32, "neither": 16, "jaccard": 1.0});
        assert_eq!((&report["totals"], &report["tensors"][0]["shape"]), (&totals, &json!([6, 8])), "{a} {b}");
    }
    desk.write("short", &masks("", &bits[1..]));
    desk.fail(&["diff", "in", "short"], 1, &["nothing to compare", "6 bytes of mask in A, 5 in B"]);
}

/// They keep nothing in common, and are not alike.
#[test]
fn files_without_a_name_in_common_are_not_compared() {
    let desk = Desk::new();
    desk.write("a", &model(&[("w", "F32", &[4], f32s(&[1.0; 4]))]));
    desk.write("b", &model(&[("v", "F32", &[4], f32s(&[1.0; 4])), ("u", "F32", &[4], f32s(&[1.0; 4]))]));
    desk.fail(&["diff", "a", "b"], 1, &["nothing to compare: of 1 tensor in a and 2 tensors in b none have one name"]);
    // Machines are told so in their own words.
    let (stdout, stderr) = texts(&desk.run(&["diff", "a", "b", "--json"]));
    let failed: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!((stdout.as_str(), &failed["event"], &failed["exit_code"]), ("", &json!("failed"), &json!(1)));
}

/// Nor are those of which nothing can be compared.
#[test]
fn files_of_which_no_tensor_can_be_compared_are_not_alike() {
    let desk = Desk::new();
    let file = |shape: &[u64]| model(&[("v", "I8", &[2], vec![1, 0]), ("w", "F32", shape, f32s(&[1.0; 4]))]);
    desk.write("a", &file(&[4, 1]));
    desk.write("b", &file(&[1, 4]));
    desk.fail(&["diff", "a", "b"], 1, &["nothing to compare: of 2 tensors in both none can be; \"v\": dtype I8 in A"]);
}
