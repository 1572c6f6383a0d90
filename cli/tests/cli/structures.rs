//! `--structure` with what files say: which rows or columns belong together, and what structures are worth. On every backend.

use crate::desk::{Desk, Part, backends, f32s, model, tensor, texts};
use serde_json::json;

/// Rows weigh 5, 0.5, 13 and 0.1; columns 8.3 and 16.5.
const UP: [f32; 8] = [3.0, 4.0, 0.3, 0.4, 5.0, 12.0, 0.0, 0.1];

fn up(values: &[f32]) -> Part<'static> {
    ("up", "F32", &[4, 2], f32s(values))
}

/// Prune `in` on every backend, verify it, and return `out` and the report.
fn prune(desk: &Desk, args: &[&str]) -> (Vec<u8>, serde_json::Value) {
    let mut answers = Vec::new();
    for backend in backends() {
        let all = ["prune", "in", "-o", "out", "--report", "report", "--overwrite"];
        let output = desk.run(&[&all[..], &backend, args].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", texts(&output).1);
        desk.succeed(&[&["verify", "in", "out"], args].concat());
        answers.push((desk.read("out"), desk.json("report")));
    }
    assert!(answers.windows(2).all(|two| two[0].0 == two[1].0), "{args:?}: the backends differ");
    answers.swap_remove(0)
}

#[test]
fn groups_of_rows_and_of_columns() {
    let desk = Desk::new();
    desk.write("in", &model(&[up(&UP)]));
    let i64s = |numbers: &[i64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
    for (shape, numbers, expected, stay) in [
        // 24 and 0.8: one.
        (&[4u64] as &[u64], &[0i64, 1, 0, 1] as &[i64], [3.0, 4.0, 0.0, 0.0, 5.0, 12.0, 0.0, 0.0], json!([0])),
        (&[4, 1], &[1, 0, 1, 0], [3.0, 4.0, 0.0, 0.0, 5.0, 12.0, 0.0, 0.0], json!([1])),
        (&[1, 2], &[1, 0], [0.0, 4.0, 0.0, 0.4, 0.0, 12.0, 0.0, 0.1], json!([0])),
        // All are one.
        (&[1, 2], &[0, 0], UP, json!([0])),
    ] {
        desk.write("groups", &model(&[("up", "I64", shape, i64s(numbers))]));
        let (out, report) = prune(&desk, &["--structure", "groups:groups", "--norm", "l1"]);
        assert_eq!(tensor(&out, "up"), f32s(&expected), "{numbers:?}");
        assert_eq!(report["tensors"][0]["kept_structures"], stay, "{numbers:?}");
        assert_eq!(report["structure"], "groups");
        // What is counted are structures, and not the weights that the other numbers are about.
        let args = ["prune", "in", "-o", "x", "--overwrite", "--structure", "groups:groups", "--norm", "l1"];
        let (table, _) = desk.succeed(&args);
        let line = table.lines().find(|line| line.starts_with("up")).unwrap();
        assert!(line.split_whitespace().any(|cell| cell == "-"), "{table}");
    }
}

/// The hidden units of an MLP: rows of the one layer, columns of the next.
#[test]
fn coupled_layers_are_cut_together() {
    let desk = Desk::new();
    let down: Part<'_> = ("down", "F32", &[1, 4], f32s(&[0.1, 20.0, 0.2, 0.1]));
    desk.write("in", &model(&[up(&UP), down]));
    desk.write(
        "groups",
        &model(&[("up", "U8", &[4], vec![0, 1, 2, 3]), ("down", "I16", &[1, 4], vec![0, 0, 1, 0, 2, 0, 3, 0])]),
    );
    // 7.1, 20.7, 17.2, 0.2: S = 45.2, Q = 774.8, N_eff = 2.6.
    let coupled = ["--structure", "groups:groups", "--norm", "l1", "--granularity", "global"];
    let (out, report) = prune(&desk, &coupled);
    assert_eq!(tensor(&out, "up"), f32s(&[0.0, 0.0, 0.3, 0.4, 5.0, 12.0, 0.0, 0.0]));
    assert_eq!(tensor(&out, "down"), f32s(&[0.0, 20.0, 0.2, 0.0]));
    for tensor in report["tensors"].as_array().unwrap() {
        assert_eq!(tensor["kept_structures"], json!([1, 2]));
    }
    // A recipe says the same.
    desk.write(
        "recipe",
        b"[[rule]]\npattern = '*'\nstructure = 'groups:groups'\nnorm = 'l1'\ngranularity = 'global'\n",
    );
    assert!(prune(&desk, &["--recipe", "recipe"]).0 == out);
    // Of scores that both give, the larger counts: 9 1 1 8, and S = 19, Q = 147, N_eff = 2.5.
    let part = |name, scores: [f32; 4]| -> Part<'_> { (name, "F32", &[4], f32s(&scores)) };
    desk.write("scores", &model(&[part("up", [-9.0, 1.0, 0.0, 1.0]), part("down", [1.0, 1.0, 1.0, 8.0])]));
    let given = ["--structure", "groups:groups", "--granularity", "global", "--score", "scores"];
    let (out, _) = prune(&desk, &given);
    assert_eq!(tensor(&out, "down"), f32s(&[0.1, 0.0, 0.0, 0.1]));
}

/// Every tensor lists its own, and not what others keep.
#[test]
fn a_tensor_that_has_some_of_the_groups_lists_those() {
    let desk = Desk::new();
    let more: Part<'_> = ("more", "F32", &[2, 1], f32s(&[20.0, 0.3]));
    desk.write("in", &model(&[up(&UP), more]));
    desk.write("groups", &model(&[("up", "U8", &[4], vec![0, 1, 2, 3]), ("more", "U8", &[2], vec![1, 3])]));
    // 7, 20.7, 17, 0.4: 45.1^2 / 766.65 = 2.7.
    let args = ["--structure", "groups:groups", "--norm", "l1", "--granularity", "global"];
    let (out, report) = prune(&desk, &args);
    assert_eq!(tensor(&out, "more"), f32s(&[20.0, 0.0]));
    assert_eq!(report["tensors"][0]["name"], "more");
    assert_eq!(report["tensors"][0]["kept_structures"], json!([1]));
    assert_eq!(report["tensors"][1]["kept_structures"], json!([1, 2]));
}

#[test]
fn structures_with_scores_of_their_own() {
    let desk = Desk::new();
    // Nobody looks at the weights.
    let weights = [f32::NAN, 4.0, 0.3, f32::INFINITY, 5.0, 12.0, f32::NAN, 0.1];
    desk.write("in", &model(&[up(&weights)]));
    for (structure, scores, kept, stay) in [
        // S = 18.2, Q = 162.02: 2.04.
        ("row", &[0.1f32, 9.0, -9.0, 0.1] as &[f32], [0, 0, 1, 1, 1, 1, 0, 0], json!([1, 2])),
        // 36 / 26 = 1.4, twice.
        ("column", &[5.0, 1.0], [1, 0, 1, 0, 1, 0, 1, 0], json!([0])),
        ("head:2", &[1.0, 5.0], [0, 0, 0, 0, 1, 1, 1, 1], json!([1])),
    ] {
        desk.write("scores", &model(&[("up", "F32", &[scores.len() as u64], f32s(scores))]));
        let (out, report) = prune(&desk, &["--structure", structure, "--score", "scores"]);
        let expected: Vec<f32> = weights.iter().zip(kept).map(|(&w, kept)| if kept == 1 { w } else { 0.0 }).collect();
        assert_eq!(tensor(&out, "up"), f32s(&expected), "{structure}");
        assert_eq!(report["tensors"][0]["kept_structures"], stay, "{structure}");
        assert_eq!((&report["score"], &report["norm"]), (&json!("given"), &json!(null)), "no norm made them");
    }
    // One for each weight, and the norm makes those of rows: 5 0.2 0.1 0.1.
    desk.write("scores", &model(&[("up", "F32", &[4, 2], f32s(&[3.0, 4.0, 0.2, 0.0, 0.1, 0.0, 0.0, 0.1]))]));
    let (out, report) = prune(&desk, &["--structure", "row", "--score", "scores"]);
    assert_eq!(report["norm"], "l2");
    assert_eq!(tensor(&out, "up"), f32s(&[f32::NAN, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
}

/// Of a convolution all places of the kernel go together; of a matrix a channel is a column.
#[test]
fn input_channels() {
    let desk = Desk::new();
    #[rustfmt::skip]
    let conv = [
        1.0, 1.0, 1.0, 1.0,  5.0, 0.0, 0.0, 4.0,  0.1, 0.1, 0.1, 0.1,
        1.0, 1.0, 1.0, 1.0,  0.0, 3.0, 6.0, 0.0,  0.1, 0.2, 0.1, 0.1,
    ];
    let matrix: Part<'_> = ("up", "F32", &[4, 2], f32s(&UP));
    desk.write("in", &model(&[("conv", "F32", &[2, 3, 2, 2], f32s(&conv)), matrix]));
    // 8, 18, 0.9: 723.61 / 388.81 = 1.86; 8.3 and 16.5: 1.80. Of all five 2675 / 730 = 3.66.
    let kept = |channels: &[usize]| -> Vec<f32> {
        let is_kept = |at: usize| channels.contains(&(at % 12 / 4));
        conv.iter().enumerate().map(|(at, &weight)| if is_kept(at) { weight } else { 0.0 }).collect()
    };
    let (out, report) = prune(&desk, &["--structure", "channel", "--norm", "l1"]);
    assert_eq!(tensor(&out, "conv"), f32s(&kept(&[1])));
    assert_eq!(report["structure"], "channel");
    assert_eq!(report["tensors"][0]["kept_structures"], json!([1]));
    assert_eq!(report["tensors"][1]["kept_structures"], json!([1]));
    let (out, report) = prune(&desk, &["--structure", "channel", "--norm", "l1", "--granularity", "global"]);
    assert_eq!(tensor(&out, "conv"), f32s(&kept(&[1])));
    assert_eq!(report["tensors"][1]["kept_structures"], json!([0, 1]));
    // Of experts in one tensor, the axis after those that number the rows.
    let (_, report) = prune(&desk, &["--structure", "channel", "--row-axes", "2", "--targets", "conv", "--count", "1"]);
    assert_eq!(report["tensors"][0]["kept_structures"], json!([1]), "38.07 and 56.04: rows of the kernel");
    // With a score for each.
    desk.write("scores", &model(&[("conv", "F32", &[3], f32s(&[0.0, 1.0, 7.0]))]));
    let given = ["--structure", "channel", "--score", "scores", "--targets", "conv"];
    assert_eq!(tensor(&prune(&desk, &given).0, "conv"), f32s(&kept(&[2])));
}

#[test]
fn what_does_not_fit_names_both_sides() {
    let desk = Desk::new();
    let other: Part<'_> = ("down", "F32", &[3, 4], f32s(&[1.0; 12]));
    desk.write("in", &model(&[up(&UP), other]));
    let refuse = |file: &[Part<'_>], args: &[&str], parts: &[&str]| {
        desk.write("f", &model(file));
        desk.fail(&[&["prune", "in", "-o", "out", "--backend", "cpu"], args].concat(), 1, parts);
    };
    let groups = ["--structure", "groups:f", "--targets", "up"];
    refuse(&[("down", "U8", &[3], vec![0; 3])], &groups, &["f has no groups for tensor \"up\""]);
    refuse(&[("up", "U8", &[3], vec![0; 3])], &groups, &["\"up\"", "[3]", "4 rows take [4]", "2 columns", "[1, 2]"]);
    refuse(&[("up", "F32", &[4], f32s(&[0.0; 4]))], &groups, &["\"up\"", "F32", "integers"]);
    refuse(&[("up", "I8", &[4], vec![0, 255, 1, 0])], &groups, &["\"up\"", "row 1", "negative"]);
    refuse(&[("up", "U8", &[4], vec![0, 3, 1, 0])], &groups, &["\"up\"", "groups 0 to 3", "group 2 has no member"]);
    refuse(&[("up", "U8", &[4], vec![0, 9, 1, 0])], &groups, &["\"up\"", "number 9", "4 members"]);
    refuse(&[("up", "U64", &[1, 2], vec![255; 16])], &groups, &["\"up\"", "column 0", "too large"]);
    let scores = ["--structure", "row", "--score", "f"];
    let one = [&scores[..], &["--targets", "up"]].concat();
    refuse(&[("up", "F32", &[3], f32s(&[1.0; 3]))], &one, &["\"up\"", "[3]", "[4, 2]", "row structures [4]"]);
    refuse(&[("up", "I32", &[4], f32s(&[1.0; 4]))], &one, &["\"up\"", "I32", "F32, F16, BF16, F8_E4M3 or F8_E5M2"]);
    refuse(&[("up", "F32", &[4], f32s(&[1.0, f32::NAN, 1.0, 1.0]))], &one, &["\"up\"", "structure 1", "NaN"]);
    let normed = [&one[..], &["--norm", "l1"]].concat();
    refuse(&[("up", "F32", &[4], f32s(&[1.0; 4]))], &normed, &["\"up\" have scores of their own", "--norm l1"]);
    let both = [("up", "F32", &[4][..], f32s(&[1.0; 4])), ("down", "F32", &[3, 4][..], f32s(&[1.0; 12]))];
    let all = [&scores[..], &["--granularity", "global"]].concat();
    refuse(&both, &all, &["one contest", "\"up\" have scores", "\"down\" have none"]);
    desk.fail(&["prune", "in", "-o", "out", "--structure", "groups:gone"], 1, &["the groups file", "gone"]);
    desk.write("f", &model(&[("up", "U8", &[4], vec![0, 1, 1, 0])]));
    desk.fail(&[&["prune", "in", "-o", "f", "--overwrite"], &groups[..]].concat(), 1, &["same file as the input f"]);
}
