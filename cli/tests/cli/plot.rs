//! `--plot`: which pictures there are, and that they say what the report says.

use crate::desk::{Desk, Part, f32s, model};
use std::collections::BTreeMap;

fn values(len: u64, scale: f32) -> Vec<u8> {
    f32s(&(0..len).map(|i| (i * 2_654_435_761 % 1009) as f32 * scale - 300.0 * scale).collect::<Vec<_>>())
}

/// Names that are no file names and no XML, one that differs in capitals, a matrix of zeros, and one that is left alone.
fn desk() -> Desk {
    let desk = Desk::new();
    let part = |name, scale| -> Part<'_> { (name, "F32", &[20, 50], values(1000, scale)) };
    let zeros: Part<'_> = ("zeros.weight", "F32", &[2, 3], f32s(&[0.0; 6]));
    let parts = [part("a.weight", 1.0), part("A.weight", 0.5), part("../<b>&\"'/x", 1e-20), zeros];
    desk.write("in", &model(&[&parts[..], &[("norm", "F32", &[2], f32s(&[1.0; 2]))]].concat()));
    desk
}

fn texts_of(svg: &[u8]) -> String {
    let svg = String::from_utf8(svg.to_vec()).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    // No element that a name could have brought in.
    for tag in svg.split('<').skip(1) {
        let name = tag.trim_start_matches('/').split([' ', '>', '/', '\n']).next().unwrap();
        assert!(["svg", "text", "rect", "polyline", "polygon", "line", "path"].contains(&name), "<{name}>");
    }
    svg
}

fn pictures(desk: &Desk, directory: &str) -> BTreeMap<String, String> {
    let files = crate::desk::tree(&desk.path(directory));
    let svgs = files.iter().filter(|(name, _)| name.ends_with(".svg"));
    svgs.map(|(name, bytes)| (name.clone(), texts_of(bytes))).collect()
}

#[test]
fn every_pruned_tensor_has_a_picture_and_the_model_has_one() {
    let desk = desk();
    desk.succeed(&["prune", "in", "-o", "plain"]);
    desk.succeed(&["prune", "in", "-o", "out", "--plot", "plots", "--report", "report"]);
    assert!(desk.read("plain") == desk.read("out"), "a plot changes no weight");
    let all = pictures(&desk, "plots");
    let names: Vec<_> = all.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.contains(&"model.svg") && names.contains(&"tensor-A.weight.svg"), "{names:?}");
    assert!(names.contains(&"tensor-a.weight-2.svg"), "{names:?}");
    assert!(desk.read("plots/emprune_report.json") == desk.read("report"));
    // What they say is what was decided.
    let report = desk.json("report");
    let tensor = report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "a.weight").unwrap();
    let kept = format!("kept: {} (", tensor["kept"]);
    assert!(all["tensor-a.weight-2.svg"].contains(&kept), "no {kept:?}");
    assert!(all["tensor-a.weight-2.svg"].contains("Each of 20 contests has a threshold of its own"));
    assert!(all["tensor-zeros.weight.svg"].contains("All scores are zero"));
    let shown = &all["model.svg"];
    for part in ["What is kept of in", "one contest per row, score: magnitude, beta 1", "N_eff / N", "\nbound\n"] {
        assert!(shown.contains(part), "the model's picture is without {part:?}");
    }
    assert!(shown.contains("not shown: 1 tensor"), "the norm is left alone");
    assert!(shown.contains("&lt;b&gt;"), "names are text");
    desk.succeed(&["prune", "in", "-o", "out", "--plot", "again", "--overwrite"]);
    assert_eq!(pictures(&desk, "again"), all, "the same question, the same pictures");
}

/// The polygon of a colour, as points.
fn polygon(svg: &str, color: &str) -> Vec<(i32, i32)> {
    let mut elements = svg.split("<polygon").skip(1).map(|rest| rest.split('>').next().unwrap());
    let element = elements.find(|element| element.contains(color)).unwrap();
    let points = element.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
    let point = |pair: &str| pair.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
    points.split_whitespace().map(point).collect()
}

#[test]
fn the_kept_side_is_where_the_threshold_says() {
    let desk = desk();
    let norms = f32s(&(0..50u8).map(f32::from).collect::<Vec<_>>());
    desk.write("norms", &model(&[("a.weight", "F32", &[50], norms)]));
    let wanda = ["--score", "wanda", "--norms", "norms"];
    for (score, name) in [(&[][..], "magnitude"), (&wanda[..], "wanda")] {
        let args = ["inspect", "in", "--targets", "a.weight", "--granularity", "tensor", "--plot", name];
        desk.succeed(&[&args[..], score].concat());
        let svg = &pictures(&desk, name)["tensor-a.weight.svg"];
        assert!(svg.contains(&format!("score: {name}")) && svg.contains(">\nthreshold "), "{svg}");
        let [all, kept] = ["#BEC4CC", "#2B6CB0"].map(|color| polygon(svg, color));
        assert_eq!(all.len(), kept.len());
        let base = all.iter().map(|(_, y)| *y).max().unwrap();
        // From some bin on everything is kept, before it nothing: one contest has one threshold, and one bin may have both.
        let state = |(a, k): (&(i32, i32), &(i32, i32))| match (k.1 == base, a.1 == k.1) {
            _ if a.1 == base => None,
            (true, _) => Some(0),
            (false, false) => Some(1),
            (false, true) => Some(2),
        };
        let states: Vec<_> = all.iter().zip(&kept).filter_map(state).collect();
        assert!(states.is_sorted() && states.contains(&0) && states.contains(&2), "{name}: {states:?}");
        assert!(states.iter().filter(|state| **state == 1).count() <= 2, "{name}: {states:?}");
    }
}

/// Left end and width of the bars of a colour, panel by panel.
fn bars(svg: &str, color: &str) -> BTreeMap<i32, Vec<f64>> {
    let mut panels = BTreeMap::<i32, Vec<f64>>::new();
    for element in svg.split("<rect ").skip(1).map(|rest| rest.split('>').next().unwrap()) {
        let of = |name: &str| -> i32 {
            let value = element.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
            value.parse().unwrap()
        };
        // Those above are the legend's.
        if element.contains(color) && of(" y") > 120 {
            panels.entry(of("x")).or_default().push(of("width").into());
        }
    }
    panels
}

#[test]
fn bars_are_as_long_as_the_report_says() {
    let desk = desk();
    let args = ["--granularity", "tensor", "--beta", "0.5", "--plot", "plots", "--report", "report"];
    desk.succeed(&[&["inspect", "in"], &args[..]].concat());
    let (svg, report) = (&pictures(&desk, "plots")["model.svg"], desk.json("report"));
    let pruned = || report["tensors"].as_array().unwrap().iter().filter(|tensor| tensor["skipped"].is_null());
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let mut densities: Vec<f64> = pruned().map(|tensor| 1.0 - number(&tensor["sparsity"])).collect();
    densities.push(1.0 - number(&report["totals"]["sparsity"]));
    let of = |field: &str| pruned().map(|tensor| number(&tensor[field])).collect::<Vec<_>>();
    let kept = bars(svg, "#2B6CB0");
    let dark = bars(svg, "#153861");
    assert_eq!((kept.len(), dark.len()), (2, 1), "{kept:?} {dark:?}");
    let panels: Vec<_> = kept.values().collect();
    // How long all is, by the longest bar.
    let longest = (0..densities.len()).max_by(|a, b| densities[*a].total_cmp(&densities[*b])).unwrap();
    let all = panels[0][longest] / densities[longest];
    let bounds = dark.values().next().unwrap();
    for (what, lens, shares) in
        [("density", panels[0], densities), ("mass", panels[1], of("mass")), ("bound", bounds, of("mass_bound"))]
    {
        assert!(lens.len() >= shares.len() && shares.iter().any(|share| *share < 0.9), "{what}: {lens:?} {shares:?}");
        for (len, share) in lens.iter().zip(&shares) {
            assert!((len - share * all).abs() <= 2.0, "{what}: {lens:?} of {all}, and {shares:?}");
        }
    }
}

/// A bar stands on its own width, however much room there is beside it.
#[test]
fn one_score_is_a_bar() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[1, 1], f32s(&[3.0]))]));
    desk.succeed(&["inspect", "in", "--plot", "plots"]);
    let kept = polygon(&pictures(&desk, "plots")["tensor-w.svg"], "#2B6CB0");
    assert_eq!((kept[0].0, kept[2].0), (kept[1].0, kept[3].0), "{kept:?}");
}

/// The scores of a file, and no weights: which may be no numbers.
#[test]
fn given_scores_are_drawn() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[4, 250], f32s(&[f32::NAN; 1000]))]));
    desk.write("scores", &model(&[("w", "F32", &[4, 250], values(1000, 1.0))]));
    desk.write("same", &model(&[("w", "F32", &[4, 250], values(1000, 1.0))]));
    for granularity in ["tensor", "row", "column", "global"] {
        let ask = |input: &str, plots: &str, score: &[&str]| {
            let args = ["inspect", input, "--granularity", granularity, "--plot", plots, "--overwrite"];
            desk.succeed(&[&args[..], score].concat());
            pictures(&desk, plots).remove("tensor-w.svg").unwrap()
        };
        let given = ask("in", "given", &["--score", "scores"]);
        assert!(given.contains("the given score") && given.contains("score: given"), "{given}");
        let weights = ask("same", "weights", &[]);
        let words = |svg: &str| svg.replace("the given score", "|weight|").replace("score: given", "score: magnitude");
        assert_eq!(words(&given), words(&weights), "{granularity}: the same scores, the same picture");
    }
}

/// Of whatever dtype: what is drawn are the numbers, and all of them.
#[test]
fn scores_and_weights_of_eight_bits_are_drawn_as_what_they_are() {
    let desk = Desk::new();
    let numbers: Vec<f32> = [0.5, 1.0, 2.0, 3.0, 0.0].repeat(40);
    let (e4m3, e5m2) = ([0x30u8, 0x38, 0xc0, 0x44, 0].repeat(40), [0x38u8, 0x3c, 0xc0, 0x42, 0].repeat(40));
    let ask = |input: &[u8], scores: &[u8], options: &[&str]| {
        desk.write("in", input);
        desk.write("scores", scores);
        let args = ["inspect", "in", "--granularity", "tensor", "--plot", "plots", "--overwrite", "--json"];
        let (stdout, stderr) = desk.succeed(&[&args[..], options].concat());
        assert!(!stderr.contains("no picture"), "{stderr}");
        (pictures(&desk, "plots").remove("tensor-w.svg").unwrap(), stdout)
    };
    let part = |dtype, bytes: &[u8]| model(&[("w", dtype, &[2, 100], bytes.to_vec())]);
    let weights = part("F32", &f32s(&[1.0; 200]));
    let given = ask(&weights, &part("F32", &f32s(&numbers)), &["--score", "scores"]).0;
    for tick in ["0.5", "1", "2"] {
        assert!(given.contains(&format!(">\n{tick}\n<")), "{given}");
    }
    assert!(given.contains("40 scores are zero"), "{given}");
    for (dtype, bytes) in [("F8_E4M3", &e4m3), ("F8_E5M2", &e5m2)] {
        let other = ask(&weights, &part(dtype, bytes), &["--score", "scores"]).0;
        assert_eq!(other, given, "{dtype}: the same scores, the same picture");
        let drawn = ask(&part(dtype, bytes), &[], &[]).0;
        let same = ask(&part("F32", &f32s(&numbers)), &[], &[]).0;
        assert_eq!(drawn.replace(dtype, "F32"), same, "{dtype}: the same weights, the same picture");
    }
    // Structures have such scores too, and what is none is told what is one.
    let vector = |dtype, bytes: &[u8]| model(&[("w", dtype, &[2], bytes.to_vec())]);
    let rows = ["--score", "scores", "--structure", "row", "--count", "1"];
    for scores in [vector("F8_E4M3", &[0x38, 0xc0]), vector("F8_E5M2", &[0x3c, 0xc0])] {
        let report: serde_json::Value = serde_json::from_str(&ask(&weights, &scores, &rows).1).unwrap();
        assert_eq!(report["tensors"][0]["kept_structures"], serde_json::json!([1]));
    }
    desk.write("scores", &part("I8", &e4m3));
    desk.fail(&["inspect", "in", "--score", "scores"], 1, &["are I8", "F32, F16, BF16, F8_E4M3 or F8_E5M2"]);
}

/// Where a contest is a few neighbours, a low score may be kept and a high one lost: a line says how often.
#[test]
fn many_thresholds_are_a_line_and_one_is_a_place() {
    let desk = desk();
    for (args, is_line) in [
        (&["--nm", "2:4"] as &[&str], true),
        (&["--granularity", "row"], true),
        (&["--structure", "row"], true),
        (&["--granularity", "tensor"], false),
        (&["--granularity", "global"], false),
    ] {
        desk.succeed(&[&["inspect", "in", "--targets", "a.weight", "--plot", "plots", "--overwrite"], args].concat());
        let svg = &pictures(&desk, "plots")["tensor-a.weight.svg"];
        assert_eq!(svg.contains("kept of those with this score"), is_line, "{args:?}");
        assert_eq!(svg.contains(">\nthreshold "), !is_line, "{args:?}");
    }
}

#[test]
fn a_directory_of_plots_is_as_safe_as_any_output() {
    let desk = desk();
    desk.succeed(&["inspect", "in", "--granularity", "global", "--plot", "plots"]);
    assert!(pictures(&desk, "plots")["model.svg"].contains("one contest over many tensors"));
    desk.fail(&["inspect", "in", "--plot", "plots"], 1, &["plots exists and is not empty", "--overwrite"]);
    desk.succeed(&["inspect", "in", "--plot", "plots", "--overwrite"]);
    desk.fail(&["inspect", "in", "--plot", "."], 1, &["no name for a file"]);
    desk.fail(
        &["inspect", "in", "--plot", "plots", "--report", "plots/r", "--overwrite"],
        1,
        &["in the output directory"],
    );
    std::fs::create_dir(desk.path("mine")).unwrap();
    desk.write("mine/letter", b"dear");
    desk.fail(&["inspect", "in", "--plot", "mine", "--overwrite"], 1, &["not emprune's to replace"]);
    // A pruned model is ours, and no pictures.
    desk.write("mine/emprune_report.json", b"{}");
    desk.fail(&["inspect", "in", "--plot", "mine", "--overwrite"], 1, &["has no model.svg"]);
    std::fs::remove_dir_all(desk.path("mine")).unwrap();
    // So is what has a picture of that name, or more than we would draw.
    let overwrite = ["inspect", "in", "--plot", "figures", "--overwrite"];
    std::fs::create_dir(desk.path("figures")).unwrap();
    desk.write("figures/model.svg", b"<svg/>");
    desk.fail(&overwrite, 1, &["figures is not emprune's to replace", "it has no emprune_report.json"]);
    desk.write("figures/emprune_report.json", br#"{"schema":"emprune.diff/1"}"#);
    desk.fail(&overwrite, 1, &["not emprune's to replace", "its emprune_report.json is none"]);
    desk.write("figures/emprune_report.json", &desk.read("plots/emprune_report.json"));
    desk.write("figures/thesis.tex", b"years");
    desk.fail(&overwrite, 1, &["not emprune's to replace", "it has thesis.tex"]);
    std::fs::rename(desk.path("figures/thesis.tex"), desk.path("figures/other.svg")).unwrap();
    desk.fail(&overwrite, 1, &["not emprune's to replace", "it has other.svg"]);
    std::fs::remove_file(desk.path("figures/other.svg")).unwrap();
    std::fs::create_dir(desk.path("figures/tensor-a.svg")).unwrap();
    desk.fail(&overwrite, 1, &["not emprune's to replace", "it has tensor-a.svg"]);
    std::fs::remove_dir(desk.path("figures/tensor-a.svg")).unwrap();
    desk.succeed(&overwrite);
    // An error leaves nothing half drawn.
    desk.write("bad", &model(&[("w", "F32", &[1, 2], f32s(&[1.0, f32::NAN]))]));
    desk.fail(&["prune", "bad", "-o", "out", "--plot", "new", "--backend", "cpu"], 1, &["NaN"]);
}

/// They are as many as tensors.
#[cfg(target_os = "linux")]
#[test]
fn pictures_do_not_wait_for_the_disk_one_by_one() {
    if !crate::steps::is_traced() {
        return;
    }
    let desk = crate::shards::checkpoint();
    for (inject, is_done) in [(None, true), (Some("syncfs:error=EIO"), false)] {
        let args = ["inspect", "in", "--plot", "plots", "--overwrite", "--backend", "cpu"];
        let (output, calls) = crate::steps::trace(&desk, "fsync,fdatasync,syncfs", inject, &args);
        assert!(output.status.success(), "{:?}", crate::desk::texts(&output));
        let is_picture = |name: &&String| name.ends_with(".svg");
        let pictures = crate::desk::tree(&desk.path("plots")).keys().filter(is_picture).count();
        assert!(pictures > 2, "{pictures} pictures");
        let flushed = calls.iter().filter(|call| call.contains(".svg>")).count();
        // Where all cannot be flushed at once, each is.
        assert_eq!(flushed, if is_done { 0 } else { pictures }, "{calls:?}");
        assert_eq!(calls.iter().filter(|call| call.starts_with("syncfs(")).count(), 1, "{calls:?}");
    }
}
