//! `--recipe`: what applies to which tensor, and what is refused.

use crate::desk::{Desk, Part, f32s, model, tensor, texts};
use serde_json::{Value, json};

/// Two by two by four of mixed sizes, other ones for each name.
fn weights(name: &str) -> Vec<u8> {
    let seed = name.bytes().map(u64::from).sum::<u64>();
    f32s(&(0..16).map(|i| ((seed + i) * 2_654_435_761 % 97) as f32 - 40.0).collect::<Vec<_>>())
}

fn file(names: &[&str]) -> Vec<u8> {
    let parts: Vec<Part<'_>> = names.iter().map(|name| (*name, "F32", &[2, 2, 4][..], weights(name))).collect();
    model(&parts)
}

/// The bytes of a tensor after pruning a file of these alone, by these options.
fn alone(names: &[&str], name: &str, options: &[&str]) -> Vec<u8> {
    let desk = Desk::new();
    desk.write("in", &file(names));
    desk.succeed(&[&["prune", "in", "-o", "out", "--targets", "*"], options].concat());
    tensor(&desk.read("out"), name)
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "embed", "f"];

const RECIPE: &[u8] = br#"
[[rule]]
pattern = "a"
beta = 0.5
granularity = "tensor"

[[rule]]
pattern = ["a", "b"]
skip = true

[[rule]]
pattern = ["c", "re:d"]
granularity = "global"

[[rule]]
pattern = "e*"
skip = false
row-axes = 2
"#;

#[test]
fn the_first_rule_that_matches_counts() {
    let desk = Desk::new();
    desk.write("in", &file(&NAMES));
    desk.write("recipe", RECIPE);
    let args = ["in", "--recipe", "recipe", "--beta", "0.8"];
    let (stdout, stderr) = desk.succeed(&[&["prune", "-o", "out", "--report", "report"], &args[..]].concat());
    assert_eq!(stderr, "");
    assert!(stdout.contains("rule") && stdout.contains("contest of rule 3: N_eff/N"), "{stdout}");
    let out = desk.read("out");
    let global = ["--granularity", "global", "--beta", "0.8"];
    for (name, expected) in [
        ("a", alone(&["a"], "a", &["--beta", "0.5", "--granularity", "tensor"])),
        ("b", weights("b")),
        ("c", alone(&["c", "d"], "c", &global)),
        ("d", alone(&["c", "d"], "d", &global)),
        ("e", alone(&["e"], "e", &["--beta", "0.8", "--row-axes", "2"])),
        ("embed", alone(&["embed"], "embed", &["--beta", "0.8", "--row-axes", "2"])),
        ("f", alone(&["f"], "f", &["--beta", "0.8"])),
    ] {
        assert!(tensor(&out, name) == expected, "{name}");
        assert_eq!(expected == weights(name), name == "b", "the rule of {name} does something");
    }
    let report = desk.json("report");
    let rules: Vec<_> = report["tensors"].as_array().unwrap().iter().map(|t| (&t["name"], &t["rule"])).collect();
    let expected = [json!(1), json!(2), json!(3), json!(3), json!(4), json!(4), Value::Null];
    assert_eq!(rules, NAMES.map(Value::from).iter().zip(&expected).collect::<Vec<_>>());
    assert_eq!(report["tensors"][1]["skipped"], "--recipe rule 2");
    let rules = report["recipe"].as_array().unwrap();
    assert_eq!(rules.iter().map(|rule| rule["tensors"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 1, 2, 2]);
    assert_eq!((&rules[0]["beta"], &rules[2]["beta"], &rules[3]["row_axes"]), (&json!(0.5), &json!(0.8), &json!(2)));
    assert_eq!(
        (&rules[2]["global"]["len"], &rules[0]["global"], &report["global"]),
        (&json!(32), &Value::Null, &Value::Null)
    );
    // Verify takes the same recipe, and needs it.
    let verify = |args: &[&str]| desk.run(&[&["verify", "in", "out", "--beta", "0.8"], args].concat());
    let (stdout, stderr) = texts(&verify(&["--recipe", "recipe"]));
    assert!(stdout.starts_with("out is what these options make of in: 6 tensors"), "{stdout} {stderr}");
    assert_eq!(verify(&[]).status.code(), Some(1));
}

#[test]
fn patterns_that_match_nothing_are_warned_about() {
    let desk = Desk::new();
    desk.write("in", &file(&["a", "b"]));
    desk.write("recipe", b"[[rule]]\npattern = ['a', 'x*']\nbeta = 0.5\n[[rule]]\npattern = 'nope'\nskip = true\n");
    let (_, stderr) = desk.succeed(&["inspect", "in", "--recipe", "recipe"]);
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(
        lines,
        ["warning: --recipe rule 1 \"x*\" matches no tensor", "warning: --recipe rule 2 \"nope\" matches no tensor"]
    );
    desk.write("recipe", b"[[rule]]\npattern = '*'\nbeta = 0.5\n[[rule]]\npattern = 'a'\nskip = true\n");
    let (_, stderr) = desk.succeed(&["inspect", "in", "--recipe", "recipe"]);
    assert_eq!(stderr, "warning: --recipe rule 2 applies to no tensor: all that it matches are an earlier rule's\n");
}

/// N:M says who competes, and how many are kept. Who takes back the one has to say the other.
#[test]
fn a_rule_takes_back_n_of_m_by_a_budget_of_its_own() {
    let desk = Desk::new();
    desk.write("in", &file(&["a"]));
    let args = ["inspect", "in", "--nm", "2:4", "--recipe", "recipe", "--backend", "cpu"];
    for what in ["granularity = 'tensor'", "structure = 'row'"] {
        desk.write("recipe", format!("[[rule]]\npattern = 'a'\n{what}\n").as_bytes());
        desk.fail(&args, 2, &["rule 1: it says who competes, as the command line's --nm does"]);
        desk.write("recipe", format!("[[rule]]\npattern = 'a'\n{what}\nbeta = 1\n").as_bytes());
        desk.succeed(&args[..6]);
    }
}

/// A rule asks as `--targets` does, and beside it.
#[test]
fn a_rule_that_does_not_skip_asks_beside_targets() {
    let desk = Desk::new();
    desk.write("in", &file(&["a", "b", "embed", "f"]));
    desk.write("recipe", b"[[rule]]\npattern = 'embed'\nskip = false\n[[rule]]\npattern = 'b'\nbeta = 0.5\n");
    for (args, expected) in [
        (&[][..], &["a", "b", "embed", "f"][..]),
        (&["--targets", "a"], &["a", "embed"]),
        (&["--targets", "b", "--targets", "embed"], &["b", "embed"]),
        (&["--targets", "a", "--ignore", "e*"], &["a"]),
    ] {
        desk.succeed(&[&["inspect", "in", "--recipe", "recipe", "--masks", "masks", "--overwrite"], args].concat());
        assert_eq!(crate::desk::names(&desk.read("masks")), expected, "{args:?}");
    }
}

#[test]
fn a_rule_may_ask_for_another_score() {
    let desk = Desk::new();
    desk.write("in", &file(&["a", "b"]));
    desk.write("norms", &model(&[("a", "F32", &[8], f32s(&[9.0, 1.0, 0.1, 4.0, 1.0, 2.0, 0.5, 3.0]))]));
    desk.write("recipe", b"[[rule]]\npattern = 'a'\nscore = 'wanda'\n");
    desk.succeed(&["prune", "in", "-o", "out", "--recipe", "recipe", "--norms", "norms"]);
    desk.succeed(&["prune", "in", "-o", "wanda", "--score", "wanda", "--targets", "a", "--norms", "norms"]);
    let (out, wanda) = (desk.read("out"), desk.read("wanda"));
    assert!(tensor(&out, "a") == tensor(&wanda, "a") && tensor(&out, "a") != alone(&["a"], "a", &[]));
    assert!(tensor(&out, "b") == alone(&["b"], "b", &[]));
    desk.fail(&["prune", "in", "-o", "new", "--recipe", "recipe"], 2, &["--score wanda needs --norms"]);
}

#[test]
fn a_recipe_that_cannot_be_meant_is_refused() {
    let desk = Desk::new();
    desk.write("in", &file(&["a"]));
    for (text, parts) in [
        ("[[rule]]\npattern = 'a'\nbeta = 0", &["recipe", "rule 1", "beta 0 is not a positive number"] as &[&str]),
        ("[[rule]]\npattern = 'a'\nbits = 4", &["rule 1", "\"bits\""]),
        ("[[rule]]\npattern = '['", &["\"[\" cannot be read"]),
        ("rule = 1", &["recipe", "line 1"]),
    ] {
        desk.write("recipe", text.as_bytes());
        desk.fail(&["prune", "in", "-o", "out", "--recipe", "recipe"], 2, parts);
    }
    desk.write("recipe", b"[[rule]]\npattern = '*'\nskip = true\n");
    desk.fail(&["prune", "in", "-o", "out", "--recipe", "recipe"], 1, &["nothing to prune", "--recipe rule 1"]);
    desk.fail(&["prune", "in", "-o", "out", "--recipe", "gone"], 1, &["the recipe gone"]);
    desk.write("recipe", b"rule = []");
    desk.fail(&["prune", "in", "-o", "recipe", "--recipe", "recipe", "--overwrite"], 1, &["same file as the input"]);
}

#[test]
fn row_axes_number_the_rows() {
    let desk = Desk::new();
    let values = [3.0, 1.0, 1.0, 1.0, 5.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 1.0, 3.0, 1.0, 1.0];
    let file = |shape: &[u64], values: &[f32]| model(&[("w", "F32", shape, f32s(values))]);
    for (shape, axes) in
        [(&[2u64, 2, 4] as &[u64], "2"), (&[2, 2, 4], "9"), (&[4, 4], "1"), (&[4, 4], "2"), (&[4, 2, 2], "1")]
    {
        desk.write("in", &file(shape, &values));
        desk.succeed(&["prune", "in", "-o", "out", "--row-axes", axes, "--report", "report", "--overwrite"]);
        let mut pruned = values;
        (pruned[3], pruned[15]) = (0.0, 0.0);
        assert_eq!(desk.read("out"), file(shape, &pruned), "{shape:?} {axes}");
        assert_eq!(
            (&desk.json("report")["tensors"][0]["contests"], &desk.json("report")["row_axes"]),
            (&json!(4), &json!(axes.parse::<u8>().unwrap()))
        );
    }
    // By expert there are two contests: N_eff = 144 / 37 keeps 3, and 196 / 28 keeps 7.
    desk.write("in", &file(&[2, 2, 4], &values));
    desk.succeed(&["prune", "in", "-o", "out", "--overwrite"]);
    assert_eq!(
        tensor(&desk.read("out"), "w"),
        f32s(&[3.0, 1.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 1.0, 3.0, 1.0, 0.0])
    );
    desk.fail(&["prune", "in", "-o", "new", "--row-axes", "0"], 2, &["row-axes"]);
}
