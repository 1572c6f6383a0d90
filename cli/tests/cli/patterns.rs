//! `--targets`, `--ignore`, and what is left alone without them.

use crate::desk::{Desk, Part, f32s, model, names, texts};

const ALL: [&str; 12] = [
    "embeddings.position_ids",
    "embeddings.word_embeddings.weight",
    "encoder.layer.0.attention.output.LayerNorm.weight",
    "encoder.layer.0.attention.output.dense.bias",
    "encoder.layer.0.attention.output.dense.weight",
    "encoder.layer.1.attention.output.dense.weight",
    "lm_head.weight",
    "model.layers.0.mlp.gate.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "odd [name].weight",
    "pooler.dense.weight",
    "scales8",
];

/// A desk with a file of all the names: matrices, except where the name says something else.
fn desk() -> Desk {
    let parts = ALL.map(|name| -> Part<'_> {
        match name {
            "embeddings.position_ids" => (name, "I64", &[1, 2], vec![0; 16]),
            "scales8" => (name, "F8_E8M0", &[2, 2], vec![0; 4]),
            _ if name.contains("LayerNorm") || name.ends_with("bias") => (name, "F32", &[2], f32s(&[1.0, 2.0])),
            _ => (name, "F32", &[1, 2], f32s(&[1.0, 2.0])),
        }
    });
    let desk = Desk::new();
    desk.write("in", &model(&parts));
    desk
}

/// The names that are pruned, by the masks, and stderr.
fn pruned(args: &[&str]) -> (Vec<String>, String) {
    let desk = desk();
    let (_, stderr) = desk.succeed(&[&["inspect", "in", "--masks", "masks"], args].concat());
    (names(&desk.read("masks")), stderr)
}

#[test]
fn by_default_ordinary_matrices() {
    let ordinary = [ALL[4], ALL[5], ALL[8], ALL[9], ALL[10]];
    assert_eq!(pruned(&[]), (ordinary.map(str::to_owned).to_vec(), String::new()));
}

#[test]
fn targets_and_ignores() {
    for (args, expected) in [
        (&["--targets", "lm_head.weight"] as &[&str], &[ALL[6]] as &[&str]),
        (&["--targets", "lm_head"], &[ALL[6]]),
        (&["--targets", "odd [name].weight"], &[ALL[9]]),
        (&["--targets", "*.layer.?.*dense*"], &[ALL[3], ALL[4], ALL[5]]),
        (&["--targets", "re:encoder.*weight$"], &[ALL[2], ALL[4], ALL[5]]),
        (&["--targets", "re:.*gate\\."], &[ALL[7]]),
        (&["--targets", "pooler.dense", "--targets=lm_head*"], &[ALL[6], ALL[10]]),
        (&["--targets", "*", "--ignore", "re:e", "--ignore=odd*"], &[ALL[6], ALL[7], ALL[8], ALL[10]]),
        (&["--ignore", "re:(encoder|model)", "--ignore", "odd [name]"], &[ALL[10]]),
        (&["--targets", "pooler*", "--targets", "scales8", "--ignore", "scales8"], &[ALL[10]]),
    ] {
        let (found, stderr) = pruned(args);
        assert_eq!(found, expected, "{args:?}");
        // A pattern may ask for a bias besides.
        assert!(stderr.is_empty() || stderr.starts_with("warning: --targets asks for what is left alone"), "{stderr}");
    }
    assert_eq!(
        pruned(&["--targets", "*.layer.?.*dense*"]).1,
        "warning: --targets asks for what is left alone by default, too: 1 rank 1\n"
    );
}

#[test]
fn the_report_says_why_a_tensor_is_left_alone() {
    let desk = desk();
    desk.succeed(&["inspect", "in", "--report", "report", "--ignore", "pooler*"]);
    let report = desk.json("report");
    let skipped: Vec<_> = report["tensors"].as_array().unwrap().iter().map(|t| t["skipped"].as_str()).collect();
    let expected = [
        Some("dtype I64"),
        Some("embedding"),
        Some("rank 1"),
        Some("rank 1"),
        None,
        None,
        Some("lm_head"),
        Some("router"),
        None,
        None,
        Some("--ignore pooler*"),
        Some("dtype F8_E8M0"),
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn a_pattern_that_matches_nothing_is_a_warning() {
    let (names, stderr) = pruned(&["--targets", "pooler*", "--targets", "gone.*", "--ignore", "re:dense"]);
    assert_eq!(names, ["pooler.dense.weight"]);
    assert_eq!(
        stderr,
        "warning: --targets \"gone.*\" matches no tensor\nwarning: --ignore \"re:dense\" matches no tensor\n"
    );
}

#[test]
fn nothing_left_is_an_error() {
    let desk = desk();
    for (args, part) in [
        (["--targets", "gone"], "--targets \"gone\" matches no tensor"),
        (["--targets", "scales?"], "1 dtype F8_E8M0"),
        (["--ignore", "*"], "12 --ignore *"),
    ] {
        let args = [&["prune", "in", "-o", "out", "--masks", "masks"], &args[..]].concat();
        desk.fail(&args, 1, &["nothing to prune", part]);
    }
    // What nobody asked to leave alone can be asked for.
    let hint = "--targets PATTERN prunes what";
    desk.write("known", &model(&[("text_embedder.up_proj.weight", "F32", &[1, 2], f32s(&[1.0, 2.0]))]));
    desk.fail(&["prune", "known", "-o", "out"], 1, &["the only tensor is skipped (1 embedding)", hint]);
    let (_, stderr) = texts(&desk.run(&["prune", "in", "-o", "out", "--ignore", "*"]));
    assert!(stderr.contains("all 12 tensors") && !stderr.contains(hint), "{stderr}");
    desk.write("empty", &model(&[]));
    desk.fail(&["prune", "empty", "-o", "out"], 1, &["nothing to prune", "no tensors"]);
}

#[test]
fn a_tensor_that_cannot_be_pruned_is_an_error_when_named() {
    let desk = desk();
    let start = ["prune", "in", "-o", "out", "--targets", "*", "--targets"];
    desk.fail(
        &[&start[..], &["scales8"]].concat(),
        1,
        &["\"scales8\"", "dtype F8_E8M0", "F32, F16, BF16, F8_E4M3 and F8_E5M2"],
    );
    desk.fail(&[&start[..], &["embeddings.position_ids"]].concat(), 1, &["position_ids", "dtype I64"]);
    let none = model(&[("none.weight", "F32", &[0, 4], vec![]), ("w", "F32", &[1, 1], f32s(&[1.0]))]);
    desk.write("in", &none);
    desk.fail(&[&start[..], &["none"]].concat(), 1, &["\"none.weight\"", "no entries", "[0, 4]"]);
    desk.succeed(&["prune", "in", "-o", "out", "--targets", "*"]);
    assert_eq!(desk.read("out"), none);
}

#[test]
fn a_pattern_that_cannot_be_read_is_wrong_usage() {
    for pattern in ["re:(", "a[", "{a"] {
        desk().fail(&["prune", "in", "-o", "out", "--targets", pattern], 2, &[pattern, "cannot be read"]);
        desk().fail(&["inspect", "in", "--ignore", pattern], 2, &[pattern, "cannot be read"]);
    }
}

/// What the names say when no option does, whatever the shapes.
#[test]
fn heads_tables_and_biases_are_left_alone_by_default() {
    let left = [
        ("A_log", "state matrix"),
        ("cls_token", "embedding"),
        ("classifier.weight", "output head"),
        ("cls.predictions.decoder.weight", "output head"),
        ("emb.weight", "embedding"),
        ("experts.gate_up_proj_bias", "bias"),
        ("head.weight", "output head"),
        ("layers.0.attention.relative_attention_bias.weight", "embedding"),
        ("model.output.weight", "output head"),
        ("model.shared.weight", "embedding"),
        ("output.weight", "output head"),
        ("score.weight", "output head"),
        ("shared.weight", "embedding"),
        ("x.y.bias", "bias"),
    ];
    let pruned = ["attention.output.dense.weight", "layers.0.output.weight", "mlp.output_proj.weight"];
    let names = left.iter().map(|(name, _)| *name).chain(pruned);
    let parts: Vec<Part<'_>> = names.map(|name| (name, "F32", &[1, 2, 2][..], f32s(&[1.0, 2.0, 1.0, 2.0]))).collect();
    let desk = Desk::new();
    desk.write("in", &model(&parts));
    desk.succeed(&["inspect", "in", "--report", "report"]);
    let report = desk.json("report");
    for tensor in report["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let expected = left.iter().find(|(left, _)| *left == name).map(|(_, reason)| *reason);
        assert!(expected.is_some() || pruned.contains(&name), "{name}");
        assert_eq!(tensor["skipped"].as_str(), expected, "{name}");
    }
    // An option has the last word.
    desk.succeed(&["inspect", "in", "--targets", "*output.weight", "--masks", "masks"]);
    assert_eq!(names_of(&desk), ["layers.0.output.weight", "model.output.weight", "output.weight"]);
}

fn names_of(desk: &Desk) -> Vec<String> {
    names(&desk.read("masks"))
}

/// Beside `--json` too: whoever waits for an event would wait for ever.
#[test]
fn a_pattern_that_no_regex_holds_is_told_of() {
    let desk = desk();
    let nested = "{a,".repeat(249) + &"}".repeat(249);
    desk.write("recipe", format!("[[rule]]\npattern = '{nested}'\nskip = true").as_bytes());
    for args in [&["inspect", "in", "--recipe", "recipe"][..], &["inspect", "in", "--targets", &nested]] {
        desk.fail(args, 2, &["cannot be read", "249 braces"]);
        let output = desk.run(&[args, &["--json"]].concat());
        assert!(texts(&output).1.contains(r#"{"event":"failed""#), "{}", texts(&output).1);
    }
}
