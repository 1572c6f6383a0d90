//! Other scores, other contests, other budgets: cases that can be decided on paper, on every backend.

use crate::desk::{Desk, backends, f32s, model, names, tensor, texts};

/// What is kept of the rows of `w` by the CPU, and by every GPU that is there.
fn kept(values: &[f32], shape: &[u64], args: &[&str]) -> Vec<u8> {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", shape, f32s(values))]));
    let mut answers = Vec::new();
    for backend in backends() {
        let all = ["prune", "in", "-o", "out", "--overwrite", "--masks", "masks"];
        let output = desk.run(&[&all[..], &backend, args].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", texts(&output).1);
        desk.succeed(&[&["verify", "in", "out", "--masks", "masks"], args].concat());
        let bits = tensor(&desk.read("masks"), "w");
        let kept: Vec<u8> = (0..values.len()).map(|i| bits[i / 8] >> (i % 8) & 1).collect();
        let after: Vec<f32> = values.iter().zip(&kept).map(|(&value, &kept)| value * f32::from(kept)).collect();
        assert_eq!(desk.read("out"), model(&[("w", "F32", shape, f32s(&after))]), "{backend:?} {args:?}");
        answers.push(kept);
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{args:?}: the backends differ: {answers:?}");
    answers.swap_remove(0)
}

#[test]
fn columns_blocks_heads_and_chunks() {
    #[rustfmt::skip]
    let values = [
        9.0, 1.0, 1.0, 1.0, 8.0,
        1.0, 1.0, 1.0, 1.0, 1.0,
        1.0, 7.0, 0.5, 0.5, 1.0,
        1.0, 1.0, 0.5, 0.5, 6.0,
    ];
    for (who, expected) in [
        // 9 1 1 1: S = 12, Q = 84, N_eff = 1.71; 1 1 7 1: 1.92; 1 1 .5 .5: 3.6; the same; 8 1 1 6: S = 16, Q = 102, 2.51.
        ("column", [1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1]),
        // 9 1 1 1; 1 1 1 1: four; 8 1: 81 / 65 = 1.2; 1 7 1 1; 0.5 four times: four; 1 6: 49 / 37 = 1.3.
        ("block:2x2", [1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]),
        // S = 25, Q = 153: 4.08, so 9, 8 and the first two ones; S = 19, Q = 90: 4.01, so 7, 6 and two ones.
        ("head:2", [1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1]),
        // 9 1 1: 121 / 83 = 1.5; 1 8: 1.2; three; two; 1 7 .5: 8.5^2 / 50.25 = 1.4; .5 1: 2.25 / 1.25 = 1.8; 1 1 .5: 2.8; .5 6.
        ("chunk:3", [1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1]),
    ] {
        assert_eq!(kept(&values, &[4, 5], &["--granularity", who]), expected, "{who}");
    }
}

#[test]
fn counts_sparsities_and_n_of_m() {
    let values = [3.0, 1.0, 2.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0, 9.0];
    for (args, expected) in [
        (&["--count", "3"] as &[&str], [1, 0, 1, 0, 1, 1, 1, 0, 0, 1]),
        (&["--count", "100"], [1; 10]),
        // Of 3 1 2 1 two and 5, which is left over; of 1 1 1 1 the first two and 9.
        (&["--nm", "2:4"], [1, 0, 1, 0, 1, 1, 1, 0, 0, 1]),
        // Half of five is two and a half: two are zeroed, the last of those that are alike.
        (&["--sparsity", "0.5"], [1, 0, 1, 0, 1, 1, 1, 0, 0, 1]),
        (&["--sparsity", "1"], [0; 10]),
        (&["--sparsity", "1", "--min-kept", "1"], [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
        // 12^2 / 40 = 3.6 and 13^2 / 85 = 1.9.
        (&["--min-kept", "2"], [1, 0, 1, 0, 1, 1, 0, 0, 0, 1]),
    ] {
        assert_eq!(kept(&values, &[2, 5], args), expected, "{args:?}");
    }
}

#[test]
fn whole_rows_columns_and_heads() {
    // Row norms 5, 0.5, 13, 0.1: S = 18.6, Q = 194.26, N_eff = 1.78; by tensor one is kept, beta 2 keeps three.
    let values = [3.0, 4.0, 0.3, 0.4, 5.0, 12.0, 0.0, 0.1];
    for (args, expected) in [
        (&["--structure", "row"] as &[&str], [0, 0, 0, 0, 1, 1, 0, 0]),
        (&["--structure", "row", "--beta", "2"], [1, 1, 1, 1, 1, 1, 0, 0]),
        (&["--structure", "row", "--count", "2", "--norm", "max"], [1, 1, 0, 0, 1, 1, 0, 0]),
        // Columns weigh 8.3 and 16.5: 1.8.
        (&["--structure", "column", "--norm", "l1"], [0, 1, 0, 1, 0, 1, 0, 1]),
        // Heads of two rows weigh 7.7 and 17.1: 1.7.
        (&["--structure", "head:2", "--norm", "l1"], [0, 0, 0, 0, 1, 1, 1, 1]),
        (&["--structure", "row", "--granularity", "global", "--count", "1"], [0, 0, 0, 0, 1, 1, 0, 0]),
    ] {
        assert_eq!(kept(&values, &[4, 2], args), expected, "{args:?}");
    }
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[4, 2], f32s(&values))]));
    desk.succeed(&["inspect", "in", "--structure", "row", "--beta", "2", "--report", "report"]);
    let report = desk.json("report");
    assert_eq!(report["tensors"][0]["kept_structures"].to_string(), "[0,1,2]");
    assert_eq!((report["structure"].as_str(), report["norm"].as_str()), (Some("row"), Some("l2")));
    assert_eq!((report["tensors"][0]["contests"].as_u64(), report["tensors"][0]["kept"].as_u64()), (Some(1), Some(6)));
}

#[test]
fn scores_from_a_file() {
    let desk = Desk::new();
    let file =
        |values: &[f32]| model(&[("u", "F32", &[1, 3], f32s(&[1.0, 2.0, 3.0])), ("w", "F32", &[2, 3], f32s(values))]);
    desk.write("in", &file(&[1.0, -2.0, 3.0, f32::NAN, 5.0, 6.0]));
    // One high score in the first row, two alike in the second; the tensor's neighbour has none.
    let scores: Vec<u8> =
        [-8.0f32, 0.0, 1.0, 2.0, 0.0, -2.0].iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
    desk.write("scores", &model(&[("w", "BF16", &[2, 3], scores)]));
    let args = ["prune", "in", "-o", "out", "--score", "scores", "--targets", "w", "--report", "report"];
    desk.succeed(&args);
    let after = tensor(&desk.read("out"), "w");
    // 81 / 65 = 1.2, and 2: the NaN is kept with all its bits, for nobody judged it.
    assert_eq!(after, f32s(&[1.0, 0.0, 0.0, f32::NAN, 0.0, 6.0]));
    assert_eq!(desk.json("report")["score"], "given");
    desk.succeed(&["verify", "in", "out", "--score", "scores", "--targets", "w"]);
    desk.fail(&["prune", "in", "-o", "new", "--score", "scores"], 1, &["scores", "\"u\""]);
    desk.fail(&["prune", "in", "-o", "new", "--score", "gone"], 1, &["gone"]);
    desk.write("short", &model(&[("w", "F32", &[3, 2], f32s(&[0.0; 6]))]));
    desk.fail(&["prune", "in", "-o", "new", "--score", "short", "--targets", "w"], 1, &["[3, 2]", "[2, 3]", "\"w\""]);
    desk.write("bad", &model(&[("w", "F32", &[2, 3], f32s(&[0.0, 1.0, 0.0, 0.0, f32::INFINITY, 0.0]))]));
    desk.fail(
        &["prune", "in", "-o", "new", "--score", "bad", "--targets", "w"],
        1,
        &["the scores of tensor \"w\" in bad: entry 4 is infinity"],
    );
    assert_eq!(names(&desk.read("out")), ["u", "w"]);
}

#[test]
fn a_report_says_what_was_asked() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[2, 4], f32s(&[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]))]));
    for (args, key, value) in [
        (&["--count", "2"] as &[&str], "count", "2"),
        (&["--sparsity", "0.3"], "sparsity", "0.3"),
        (&["--nm", "1:2"], "nm", "\"1:2\""),
        (&["--min-kept", "3"], "min_kept", "3"),
        (&["--granularity", "block:1x3"], "granularity", "\"block:1x3\""),
        (&["--nm", "1:2"], "granularity", "\"chunk:2\""),
    ] {
        desk.succeed(&[&["inspect", "in", "--report", "report", "--overwrite"], args].concat());
        assert_eq!(desk.json("report")[key].to_string(), value, "{args:?}");
    }
    desk.succeed(&["inspect", "in", "--report", "report", "--overwrite", "--sparsity", "1"]);
    let tensor = &desk.json("report")["tensors"][0];
    assert_eq!((tensor["kept"].as_u64(), &tensor["rows"]["threshold"]), (Some(0), &serde_json::Value::Null));
}

#[test]
fn questions_that_cannot_be_meant() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[3, 4], f32s(&[1.0; 12]))]));
    for (args, part) in [
        (&["--count", "0"] as &[&str], "count"),
        (&["--count", "1", "--beta", "0.5"], "beta"),
        (&["--count", "-1"], "count"),
        (&["--count", "1.5"], "count"),
        (&["--sparsity", "1.1"], "between 0 and 1"),
        (&["--sparsity", "-0.1"], "between 0 and 1"),
        (&["--sparsity", "nan"], "between 0 and 1"),
        (&["--sparsity", "1e-300"], "64-bit"),
        (&["--beta", "1.2345678901234567e-5"], "64-bit"),
        (&["--count", "1", "--sparsity", "0.5"], "--sparsity"),
        (&["--nm", "0:4"], "0 of every 4"),
        (&["--nm", "2:0"], "2 of every 0"),
        (&["--nm=-2:4"], "2:4"),
        (&["--min-kept", "-1"], "min-kept"),
        (&["--nm", "2:4", "--beta", "1"], "--beta"),
        (&["--sparsity", "0.5", "--nm", "2:4"], "nm"),
        (&["--nm", "5:4"], "5 of every 4"),
        (&["--nm", "2:4", "--min-kept", "3"], "--nm 2:4 keeps 2, fewer than --min-kept 3"),
        (&["--count", "10", "--granularity", "chunk:4"], "a chunk:4 has no 10 weights that --count 10 could keep"),
        (&["--count", "2", "--min-kept", "3"], "--count 2 keeps 2, fewer than --min-kept 3"),
        (&["--nm", "2"], "2:4"),
        (&["--nm", "2:4", "--granularity", "row"], "granularity"),
        (&["--granularity", "head:2"], "3 rows"),
        (&["--granularity", "segments"], "block:RxC"),
        (&["--granularity", "block:0x1"], "block:RxC"),
        (&["--score", "magnitude", "--norms", "n"], "--norms"),
        (&["--structure", "block:2x2"], "row, column, head:N, channel and groups:FILE"),
        (&["--structure", "groups:"], "row, column, head:N, channel and groups:FILE"),
        (&["--structure", "head:0"], "row, column, head:N, channel and groups:FILE"),
        (&["--norm", "l1"], "--structure"),
        (&["--structure", "row", "--granularity", "row"], "by row"),
        (&["--structure", "head:2"], "3 rows"),
        (&["--structure", "row", "--granularity", "column"], "tensor or global"),
        (&["--structure", "row", "--nm", "2:4"], "nm"),
    ] {
        desk.fail(&[&["prune", "in", "-o", "out"], args].concat(), 2, &[part]);
    }
    // A recipe's rule is read by the same parser; what it asks for can be wrong for a tensor only.
    for (rule, parts) in [
        ("beta = 0.5\ncount = 3", &["rule 1", "beta", "count"][..]),
        ("nm = '2:4'\nsparsity = 0.5", &["rule 1", "nm", "sparsity"]),
        ("nm = '5:4'", &["rule 1", "5 of every 4"]),
        ("sparsity = 1.5", &["rule 1", "between 0 and 1"]),
        ("count = 0", &["rule 1", "count"]),
        ("structure = 'row'\ngranularity = 'column'", &["\"w\"", "row structures", "by column"]),
        ("structure = 'head:2'", &["\"w\"", "head:2", "3 rows"]),
        ("norm = 'max'", &["\"w\"", "--norm", "--structure"]),
    ] {
        desk.write("recipe", format!("[[rule]]\npattern = '*'\n{rule}").as_bytes());
        desk.fail(&["prune", "in", "-o", "out", "--recipe", "recipe"], 2, parts);
    }
}

/// Masks, report, plots, verify, apply and diff say the same of every question.
#[test]
fn every_question_goes_through_every_command() {
    let desk = Desk::new();
    let values: Vec<f32> = (1..=96u32).map(|i| (i.wrapping_mul(2_654_435_761) % 997) as f32 - 400.5).collect();
    desk.write("in", &model(&[("w", "F32", &[8, 12], f32s(&values))]));
    let groups: Vec<u8> = (0..12u8).map(|column| column % 5).collect();
    desk.write("groups", &model(&[("w", "U8", &[1, 12], groups)]));
    let mut questions: Vec<Vec<&str>> = Vec::new();
    for who in ["global", "tensor", "row", "column", "block:3x5", "head:4", "chunk:5"] {
        questions.push(vec!["--granularity", who]);
    }
    for what in ["row", "column", "head:4", "groups:groups"] {
        for norm in ["l1", "l2", "max"] {
            for who in ["tensor", "global"] {
                questions.push(vec!["--structure", what, "--norm", norm, "--granularity", who, "--beta", "0.7"]);
            }
        }
    }
    for question in questions {
        let files = ["--masks", "masks", "--report", "report", "--plot", "plots", "--overwrite"];
        desk.succeed(&[&["prune", "in", "-o", "out"], &files[..], &question].concat());
        desk.succeed(&[&["verify", "in", "out", "--masks", "masks"], &question[..]].concat());
        let applied = desk.run(&["apply", "--masks", "masks", "in", "-o", "applied", "--overwrite"]);
        assert_eq!(applied.status.code(), Some(0), "{question:?}");
        assert!(desk.read("applied") == desk.read("out"), "{question:?}: masks and weights differ");
        let report = desk.json("report");
        crate::schema::obeys(&desk, "prune", &report);
        let after = tensor(&desk.read("out"), "w");
        let kept: Vec<bool> = after.chunks(4).map(|entry| entry != [0; 4]).collect();
        let count = kept.iter().filter(|kept| **kept).count() as u64;
        assert!((1..96).contains(&count), "{question:?} keeps {count}");
        assert_eq!(report["totals"]["kept"], count, "{question:?}");
        let diff = texts(&desk.run(&["diff", "out", "masks", "--json"])).0;
        let diff: serde_json::Value = serde_json::from_str(&diff).unwrap();
        assert_eq!((&diff["totals"]["jaccard"], &diff["totals"]["both"]), (&1.0.into(), &count.into()), "{question:?}");
        let of = |entry: usize| match question[1] {
            "row" => entry / 12,
            "column" => entry % 12,
            "head:4" => entry / 24,
            _ => entry % 12 % 5,
        };
        if question[0] == "--structure" {
            let stay = report["tensors"][0]["kept_structures"].as_array().unwrap();
            let stays = |entry| stay.contains(&(of(entry) as u64).into());
            assert!((0..96).all(|entry| kept[entry] == stays(entry)), "{question:?}: {stay:?} and {kept:?}");
        }
        let svg = String::from_utf8(desk.read("plots/tensor-w.svg")).unwrap();
        assert!(svg.contains(&format!("kept: {count} (")), "{question:?}");
    }
}

#[test]
fn a_least_count_that_no_chunk_has_is_refused_as_a_count_is() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[2, 4], f32s(&[1.0; 8]))]));
    for option in ["--count", "--min-kept"] {
        let args = ["inspect", "in", "--granularity", "chunk:4", option];
        desk.fail(&[&args[..], &["100"]].concat(), 2, &["tensor \"w\": a chunk:4 has no 100 weights", option]);
        desk.succeed(&[&args[..], &["4"]].concat());
    }
}

/// Whatever else is asked about the tensor.
#[test]
fn a_wrong_question_names_the_tensor() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[6, 2], f32s(&[1.0; 12]))]));
    desk.write("norms", &model(&[("w", "F32", &[2], f32s(&[1.0; 2]))]));
    for more in [&[][..], &["--score", "wanda", "--norms", "norms"]] {
        let args = [&["inspect", "in", "--granularity", "head:5"], more].concat();
        desk.fail(&args, 2, &["tensor \"w\": head:5 does not divide its 6 rows"]);
    }
}

#[test]
fn a_map_of_norms_that_names_no_tensor_is_a_warning() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[2, 2], f32s(&[1.0; 4]))]));
    desk.write("norms", &model(&[("n", "F32", &[2], f32s(&[1.0; 2]))]));
    let args = ["inspect", "in", "--score", "wanda", "--norms", "norms", "--norm-map", "map"];
    for (map, warning) in [
        (r#"{"w": "n"}"#, ""),
        (r#"{"w": "n", "v": "n"}"#, "warning: --norm-map \"v\" matches no tensor\n"),
        (
            r#"{"w": "n", "v": "n", "u": "n", "x": "n"}"#,
            "warning: --norm-map \"u\" matches no tensor, nor 2 other names of it\n",
        ),
    ] {
        desk.write("map", map.as_bytes());
        assert_eq!(desk.succeed(&args).1, warning, "{map}");
    }
}

#[test]
fn a_tensor_that_is_all_zero_is_told_of_whatever_competes() {
    let desk = Desk::new();
    desk.write("in", &model(&[("v", "F32", &[2, 2], f32s(&[0.0; 4])), ("w", "F32", &[2, 2], f32s(&[1.0; 4]))]));
    for (args, line) in [
        (&["--granularity", "row"][..], "rows that are all zero, and stay: 2\n"),
        (&["--granularity", "tensor"], "tensors that are all zero, and stay: 1\n"),
        (&["--granularity", "tensor", "--count", "1"], "tensors that are all zero: 1\n"),
    ] {
        let (table, _) = desk.succeed(&[&["inspect", "in"], args].concat());
        assert!(table.contains(line), "{table} is without {line:?}");
        assert!(table.contains("sparsity: the share of weights that is not kept"), "{table}");
    }
}
