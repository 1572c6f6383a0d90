//! The report: field names that scripts rely on, and numbers that can be checked on paper.

use crate::desk::{self, Desk, f32s, model, texts};
use serde_json::{Value, json};
use std::process::Command;

/// Rows: S = 6, Q = 12 (three are kept); all zero; all alike.
const WEIGHTS: [f32; 12] = [1.0, -3.0, 1.0, 1.0, 0.0, -0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0];

fn desk() -> Desk {
    let desk = Desk::new();
    let v = f32s(&[1.0, 1.0]);
    desk.write(
        "in",
        &model(&[("w", "F32", &[3, 4], f32s(&WEIGHTS)), ("v", "F32", &[1, 2], v), ("i", "I8", &[1], vec![1])]),
    );
    desk
}

/// The report of a run, without the parts that are not the same everywhere.
fn report(args: &[&str]) -> Value {
    let desk = desk();
    desk.succeed(&[&["prune", "in", "-o", "out", "--report", "report"], args].concat());
    let mut report = desk.json("report");
    assert_eq!(report["emprune_version"].take(), env!("CARGO_PKG_VERSION"));
    assert_eq!(report["input"].take(), "in");
    for tensor in report["tensors"].as_array_mut().unwrap() {
        let seconds = tensor["seconds"].take();
        assert_eq!(seconds.is_null(), !tensor["skipped"].is_null(), "{tensor}");
        assert!(seconds.is_null() || (0.0..60.0).contains(&seconds.as_f64().unwrap()), "{seconds}");
    }
    report
}

/// What a tensor has, where it has nothing to say about contests.
fn about(name: &str, shape: &[u64], numbers: Value) -> Value {
    let mut tensor = json!({
        "name": name, "dtype": "F32", "shape": shape, "len": shape.iter().product::<u64>(), "contests": 1, "kept": null,
        "sparsity": null, "zeros_before": null, "zeros_after": null, "seconds": null, "skipped": null, "rule": null,
        "n_eff": null, "mass": null, "mass_bound": null, "threshold": null, "degenerate": null, "rows": null, "kept_per_row": null,
    });
    for (key, value) in numbers.as_object().unwrap() {
        assert!(tensor.get(key).is_some(), "{key} must be a field of every tensor");
        tensor[key] = value.clone();
    }
    tensor
}

fn skipped() -> Value {
    about("i", &[1], json!({"dtype": "I8", "contests": 0, "skipped": "dtype I8"}))
}

/// The mass that any row of four with N_eff = 3 keeps when it keeps three, at the least: one large entry and three equal
/// ones. With p for the one, p^2 + (1 - p)^2 / 3 = 1 / 3 gives p = 1 / 2, and 1 / 2 + 2 / 6 are kept.
const BOUND: f64 = 5.0 / 6.0;

/// Move the certificates out of a report: they may be 1e-12 lower than on paper, and never higher.
fn take_bound(value: &mut Value, on_paper: f64) {
    let bound = value.take().as_f64().unwrap();
    assert!(bound <= on_paper && bound > on_paper - 1e-12, "{bound} and {on_paper}");
}

#[test]
fn rows() {
    let mut report = report(&["--ignore", "v"]);
    let rows = &mut report["tensors"][2]["rows"];
    take_bound(&mut rows["mass_bound"]["min"], BOUND);
    take_bound(&mut rows["mass_bound"]["mean"], (BOUND + 2.0) / 3.0);
    let five_sixths_and_two = (5.0 / 6.0 + 2.0) / 3.0;
    let w = json!({
        "contests": 3, "kept": 11, "sparsity": 1.0 / 12.0, "zeros_before": 4, "zeros_after": 5, "kept_per_row": [3, 4, 4],
        "rows": {
            "n_eff": {"min": 3.0, "mean": 11.0 / 3.0, "max": 4.0},
            "mass": {"min": 5.0 / 6.0, "mean": five_sixths_and_two},
            "mass_bound": {"min": null, "mean": null},
            "threshold": {"min": 0.0, "max": 2.0},
            "degenerate": 1,
        },
    });
    let v = about("v", &[1, 2], json!({"contests": 0, "skipped": "--ignore v"}));
    assert_eq!(
        report,
        json!({
            "schema": "emprune.report/1", "emprune_version": null, "input": null, "ignore": ["v"], "backend": "cpu", "adapter": null, "beta": 1.0,
            "count": null, "sparsity": null, "nm": null, "min_kept": 0, "granularity": "row", "score": "magnitude", "row_axes": 1, "recipe": null, "fallback": null, "variant": null,
            "totals": {"len": 12, "kept": 11, "sparsity": 1.0 / 12.0, "zeros_before": 4, "zeros_after": 5},
            "global": null, "tensors": [skipped(), v, about("w", &[3, 4], w)],
        })
    );
}

#[test]
fn tensors() {
    let mut report = report(&["--granularity", "tensor", "--beta", "0.7"]);
    // w: S = 14, Q = 28, N_eff = 7, and floor(4.9) are kept: 3 2 2 2. v: two alike, and floor(1.4) is kept.
    for tensor in 1..3 {
        let bound = report["tensors"][tensor]["mass_bound"].take().as_f64().unwrap();
        let mass = report["tensors"][tensor]["mass"].as_f64().unwrap();
        assert!(0.0 < bound && bound <= mass, "{bound} certifies {mass}");
    }
    let w = json!({
        "kept": 4, "sparsity": 8.0 / 12.0, "zeros_before": 4, "zeros_after": 8, "n_eff": 7.0, "mass": 9.0 / 14.0,
        "threshold": 2.0, "degenerate": false,
    });
    let v = json!({
        "kept": 1, "sparsity": 0.5, "zeros_before": 0, "zeros_after": 1, "n_eff": 2.0, "mass": 0.5, "threshold": 1.0,
        "degenerate": false,
    });
    let tensors = json!([skipped(), about("v", &[1, 2], v), about("w", &[3, 4], w)]);
    assert_eq!(report["tensors"], tensors);
    let totals = json!({"len": 14, "kept": 5, "sparsity": 9.0 / 14.0, "zeros_before": 4, "zeros_after": 9});
    assert_eq!(report["totals"], totals);
    assert_eq!(
        (&report["beta"], &report["granularity"], &report["global"]),
        (&json!(0.7), &json!("tensor"), &Value::Null)
    );
}

#[test]
fn one_contest_over_all() {
    let mut report = report(&["--granularity", "global"]);
    // S = 16, Q = 30, N_eff = 8.53: 3 2 2 2 2 and three of the five ones, v first, then w's first.
    let bound = report["global"]["mass_bound"].take().as_f64().unwrap();
    assert!(0.5 < bound && bound <= 14.0 / 16.0, "{bound}");
    let global = json!({
        "len": 14, "kept": 8, "n_eff": 256.0 / 30.0, "mass": 14.0 / 16.0, "mass_bound": null, "threshold": 1.0,
        "degenerate": false,
    });
    assert_eq!(report["global"], global);
    let w = json!({"kept": 6, "sparsity": 0.5, "zeros_before": 4, "zeros_after": 6});
    let v = json!({"kept": 2, "sparsity": 0.0, "zeros_before": 0, "zeros_after": 0});
    assert_eq!(report["tensors"], json!([skipped(), about("v", &[1, 2], v), about("w", &[3, 4], w)]));
    let totals = json!({"len": 14, "kept": 8, "sparsity": 6.0 / 14.0, "zeros_before": 4, "zeros_after": 6});
    assert_eq!(report["totals"], totals);
}

#[test]
fn an_all_zero_tensor_is_degenerate() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "BF16", &[1, 3], vec![0; 6])]));
    for (granularity, key) in [("tensor", "tensors"), ("global", "global")] {
        desk.succeed(&["prune", "in", "-o", "out", "--report", "r", "--overwrite", "--granularity", granularity]);
        let report = desk.json("r");
        let contest = if key == "tensors" { &report[key][0] } else { &report[key] };
        for (field, value) in
            [("degenerate", json!(true)), ("n_eff", json!(3.0)), ("mass", json!(1.0)), ("kept", json!(3))]
        {
            assert_eq!(contest[field], value, "{field} by {granularity}");
        }
        assert_eq!((&contest["mass_bound"], &contest["threshold"]), (&json!(1.0), &json!(0.0)));
    }
}

#[test]
fn a_report_names_each_row_up_to_65536() {
    for (rows, named) in [(65536u64, true), (65537, false)] {
        let desk = Desk::new();
        desk.write("in", &model(&[("w", "F16", &[rows, 1], vec![0x3c; 2 * rows as usize])]));
        desk.succeed(&["inspect", "in", "--report", "report"]);
        let tensor = &desk.json("report")["tensors"][0];
        assert_eq!(tensor["contests"], rows);
        assert_eq!(tensor["kept_per_row"].as_array().map(Vec::len), named.then_some(rows as usize));
    }
}

/// A column is more than a piece: it is read in strips, and then from end to end.
#[test]
fn zeros_are_counted_once_whatever_is_read_in_strips() {
    let desk = Desk::new();
    let values: Vec<f32> = (0..2000 * 1000).map(|i| if i % 3 == 0 { 0.0 } else { (i % 1009) as f32 }).collect();
    let zeros = values.iter().filter(|value| **value == 0.0).count() as u64;
    desk.write("in", &model(&[("w", "F32", &[2000, 1000], f32s(&values))]));
    let strips = ["--granularity", "column", "--memory", "64MiB", "--plot", "plots"];
    desk.succeed(&[&["inspect", "in", "--report", "report"], &strips[..]].concat());
    let report = desk.json("report");
    assert_eq!(report["tensors"][0]["zeros_before"], zeros);
    let svg = String::from_utf8(desk.read("plots/tensor-w.svg")).unwrap();
    let words = format!("{} scores are zero", with_commas(zeros));
    assert!(svg.contains(&words), "no {words:?}");
}

fn with_commas(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|three| std::str::from_utf8(three).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

/// A report says what was pruned with what, in the words of who asked.
#[test]
fn a_report_names_its_inputs() {
    let desk = desk();
    let two = |name, dtype: &'static str, shape: &'static [u64], bytes| model(&[(name, dtype, shape, bytes)]);
    desk.write("scores", &two("w", "F32", &[3, 4], f32s(&[1.0; 12])));
    desk.write("norms", &two("there", "F32", &[2], f32s(&[1.0; 2])));
    desk.write("groups", &two("u", "U8", &[2], vec![0, 1]));
    desk.write("map", br#"{"v": "there"}"#);
    let u = f32s(&[1.0, 2.0]);
    let parts = [("w", "F32", &[3, 4][..], f32s(&WEIGHTS)), ("v", "F32", &[1, 2], u.clone()), ("u", "F32", &[2, 1], u)];
    desk.write("in", &model(&parts));
    let recipe = "[[rule]]\npattern = 'w'\nscore = './scores'\n[[rule]]\npattern = 'v'\nscore = 'wanda'\n\
                  [[rule]]\npattern = 'u'\nstructure = 'groups:groups'\n";
    desk.write("recipe", recipe.as_bytes());
    let beside = ["--recipe", "recipe", "--norms", "norms", "--norm-map", "map", "--targets", "*", "--ignore", "nope"];
    let files = json!({
        "scores": [{"path": "./scores"}], "groups": [{"path": "groups"}], "norms": {"path": "norms"},
        "norm_map": {"path": "map"}, "recipe": {"path": "recipe"},
    });
    let ask = |args: &[&str]| -> Value {
        let (stdout, _) = desk.succeed(&[args, &["--json"], &beside].concat());
        let report = serde_json::from_str(&stdout).unwrap();
        crate::schema::obeys(&desk, "prune", &report);
        report
    };
    let report = ask(&["inspect", "./in"]);
    assert_eq!((&report["input"], &report["files"]), (&json!("./in"), &files));
    assert_eq!((&report["targets"], &report["ignore"]), (&json!(["*"]), &json!(["nope"])));
    // Where files are hashed, to know them again, the hash is there too.
    std::fs::create_dir(desk.path("shards")).unwrap();
    desk.write("shards/a.safetensors", &model(&parts[..1]));
    desk.write("shards/b.safetensors", &model(&parts[1..]));
    let map = r#"{"weight_map":{"w":"a.safetensors","v":"b.safetensors","u":"b.safetensors"}}"#;
    desk.write("shards/model.safetensors.index.json", map.as_bytes());
    let mut report = ask(&["prune", "shards", "-o", "out"]);
    for (file, name) in [("/files/scores/0", "scores"), ("/files/groups/0", "groups"), ("/files/norms", "norms")] {
        let file = report.pointer_mut(file).unwrap().as_object_mut().unwrap();
        assert_eq!(file.remove("blake3").unwrap(), blake3::hash(&desk.read(name)).to_string(), "{name}");
    }
    assert_eq!(report["files"], files);
    // What was not given is not there.
    let report = serde_json::from_str::<Value>(&desk.succeed(&["inspect", "in", "--json"]).0).unwrap();
    assert!(["targets", "ignore", "files"].iter().all(|name| report.get(name).is_none()), "{report}");
    let schema = String::from_utf8(desk.run(&["schema"]).stdout).unwrap();
    assert_eq!(schema.matches("row, column, head:N, channel or groups").count(), 2);
}

#[test]
fn every_number_survives_the_way_through_text() {
    let desk = Desk::new();
    let values: Vec<f32> = (1..=5000u32).map(|i| (i as f32).sqrt().sin()).collect();
    desk.write("in", &model(&[("w", "F32", &[50, 100], f32s(&values))]));
    desk.succeed(&["inspect", "in", "--report", "report", "--granularity", "tensor", "--beta", "0.57"]);
    let mut rule = emprune::Rule::new();
    rule.budget = emprune::Budget::Effective(emprune::Beta::new(0.57).unwrap());
    let (decision, _) = emprune::Pruner::cpu().mask(&[emprune::Tensor::from(&values)], &rule).unwrap();
    let [group] = decision.groups() else { panic!("one contest") };
    let report = desk.json("report");
    let bits = |value: &Value| value.as_f64().unwrap().to_bits();
    let tensor = &report["tensors"][0];
    let expected =
        [group.n_eff, group.mass, group.mass_bound, group.threshold.into(), 1.0 - group.kept as f64 / 5000.0];
    let seen = ["n_eff", "mass", "mass_bound", "threshold", "sparsity"].map(|field| bits(&tensor[field]));
    assert_eq!(seen, expected.map(f64::to_bits));
    assert_eq!((bits(&report["beta"]), &tensor["kept"]), (0.57f64.to_bits(), &json!(group.kept)));
}

#[test]
fn json_on_stdout_is_the_report_and_nothing_else() {
    let desk = desk();
    let (stdout, stderr) = desk.succeed(&["prune", "in", "-o", "out", "--report", "report", "--json"]);
    assert_eq!(stdout.as_bytes(), desk.read("report"));
    assert!(stderr.lines().all(|line| line.starts_with("{\"event\":")), "{stderr}");
    let (stdout, _) = desk.succeed(&["inspect", "in", "--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["totals"], desk.json("report")["totals"]);
}

#[test]
fn the_table_has_a_line_for_every_pruned_tensor_and_fits_a_terminal() {
    let desk = desk();
    let output = desk.run(&["prune", "in", "-o", "out", "--backend", "cpu"]);
    let (stdout, _) = texts(&output);
    let words = |start: &str| {
        let line =
            stdout.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in\n{stdout}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let w = words("w ");
    assert_eq!(w[..w.len() - 1], ["w", "F32", "3x4", "3", "0.9167", "11", "8.33%", "0.9444", "0.9444"]);
    assert_eq!(words("pruned").join(" "), "pruned 2 tensors: 13 of 14 kept, sparsity 7.14%");
    assert_eq!(words("zeros").join(" "), "zeros 4 before, 5 after");
    assert_eq!(words("skipped").join(" "), "skipped 1 tensor: 1 dtype I8");
    assert_eq!(words("wrote").join(" "), "wrote out");
    assert!(words("took").join(" ").contains(" s on cpu ("), "{stdout}");

    let name = "model.language_model.layers.23.mlp.experts.gate_up_proj.weight";
    let big = vec![0x3c; 2 * 4096 * 300];
    desk.write("in", &model(&[(name, "BF16", &[4096, 10, 30], big)]));
    for granularity in ["row", "tensor", "global"] {
        // Who reads a pipe looks for names.
        let (stdout, _) = desk.succeed(&["inspect", "in", "--granularity", granularity]);
        assert!(stdout.contains("model.language_model.layers.23.mlp.experts.gate_up_proj "), "{stdout}");
        let Some(stdout) = on_a_terminal(&desk, &format!("inspect in --backend cpu --granularity {granularity}"))
        else {
            continue;
        };
        let widest = stdout.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        assert!(widest <= 120, "{widest} columns:\n{stdout}");
        assert!(stdout.contains("gate_up_proj"), "the end of a long name must be seen:\n{stdout}");
        assert_eq!(stdout.contains('…'), granularity != "global", "{stdout}");
    }
}

/// What a terminal shows, where there is a program that makes one.
fn on_a_terminal(desk: &Desk, args: &str) -> Option<String> {
    let line = format!("{} {args} 2>/dev/null", env!("CARGO_BIN_EXE_emprune"));
    let shown = Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(desk.path(".")).output();
    match shown {
        Ok(shown) if shown.status.success() => Some(String::from_utf8(shown.stdout).unwrap()),
        other => {
            desk::skipped(&format!("no program `script` that makes a terminal: {other:?}"));
            None
        }
    }
}

/// What a report lists must fit memory, however many tensors there are.
#[test]
fn rows_of_all_tensors_are_named_up_to_four_million() {
    for (tensors, named) in [(64, true), (65, false)] {
        let desk = Desk::new();
        let names: Vec<String> = (0..tensors).map(|i| format!("w{i}")).collect();
        let ones = vec![0x3c; 1 << 16];
        desk.write(
            "in",
            &model(&names.iter().map(|n| (n.as_str(), "F8_E4M3", &[1 << 16, 1][..], ones.clone())).collect::<Vec<_>>()),
        );
        desk.succeed(&["inspect", "in", "--report", "report"]);
        let report = desk.json("report");
        for tensor in report["tensors"].as_array().unwrap() {
            assert_eq!(tensor["kept_per_row"].as_array().map(Vec::len), named.then_some(1 << 16));
            assert_eq!(tensor["rows"]["n_eff"]["mean"], 1.0);
        }
    }
}
