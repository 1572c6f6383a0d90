//! Directories of shards under an index: what is written, and what is refused before anything is.

use crate::desk::{Desk, f32s, model, texts, tree};
use serde_json::{Value, json};
use std::fs::{self, File};

pub(crate) const A: &str = "model-00001-of-00002.safetensors";
pub(crate) const B: &str = "model-00002-of-00002.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Rows that keep 3 of 4 and all 4.
const MATRIX: [f32; 8] = [1.0, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0];
const PRUNED: [f32; 8] = [1.0, 3.0, 1.0, 0.0, 2.0, 2.0, 2.0, 2.0];

fn shard_a(weights: &[f32]) -> Vec<u8> {
    model(&[("m.z.weight", "F32", &[2, 4], f32s(weights)), ("m.norm.weight", "F32", &[2], f32s(&[1.0, 0.0]))])
}

fn shard_b(weights: &[f32]) -> Vec<u8> {
    model(&[("m.a.weight", "F32", &[2, 4], f32s(weights)), ("m.embed.weight", "F32", &[1, 2], f32s(&[5.0, 0.1]))])
}

fn weight_map() -> Value {
    json!({"m.a.weight": B, "m.embed.weight": B, "m.norm.weight": A, "m.z.weight": A})
}

/// A checkpoint of two shards in `in`, with what else is usually there.
pub(crate) fn checkpoint() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    desk.write(&format!("in/{A}"), &shard_a(&MATRIX));
    desk.write(&format!("in/{B}"), &shard_b(&MATRIX));
    write_index(&desk, &weight_map());
    desk.write("in/config.json", b"{ \"tie_word_embeddings\" : true }\n");
    desk.write("in/tokenizer.json", &vec![7; 3_000_000]);
    desk.write("in/empty", b"");
    desk
}

fn write_index(desk: &Desk, weight_map: &Value) {
    let index = json!({"metadata": {"total_size": 80}, "weight_map": weight_map});
    desk.write(&format!("in/{INDEX}"), format!("{index:#} \n").as_bytes());
}

#[test]
fn every_shard_is_pruned_and_every_other_file_is_copied() {
    let desk = checkpoint();
    let before = tree(&desk.path("in"));
    let (stdout, stderr) = desk.succeed(&["prune", "in", "-o", "out", "--report", "report", "--masks", "masks"]);
    assert!(stdout.contains("wrote   out"), "{stdout}");
    assert!(stderr.contains("note: config.json ties the output layer to the embedding"), "{stderr}");
    // Where nothing is said, the kind of model says it.
    for (config, is_said) in [
        (r#"{"architectures": ["GPT2LMHeadModel"]}"#, true),
        (r#"{"architectures": ["BertModel"]}"#, false),
        (r#"{"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false}"#, false),
        (r#"{"text_config": {"tie_word_embeddings": true}}"#, true),
    ] {
        desk.write("in/config.json", config.as_bytes());
        let (_, stderr) = desk.succeed(&["inspect", "in"]);
        assert_eq!(stderr.contains("ties the output layer"), is_said, "{config}: {stderr}");
    }
    desk.write("in/config.json", &before["config.json"]);
    let mut expected = before.clone();
    expected.insert(A.into(), shard_a(&PRUNED));
    expected.insert(B.into(), shard_b(&PRUNED));
    expected.insert("emprune_report.json".into(), desk.read("report"));
    assert!(tree(&desk.path("out")) == expected, "{:?}", tree(&desk.path("out")).keys());
    assert!(tree(&desk.path("in")) == before, "the input changed");
    assert_eq!(desk.names(), ["in", "masks", "out", "report"], "nothing else is left");
    let report = desk.json("report");
    let names: Vec<_> = report["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["m.a.weight", "m.embed.weight", "m.norm.weight", "m.z.weight"]);
    assert_eq!((&report["totals"]["len"], &report["totals"]["kept"]), (&json!(16), &json!(14)));
}

#[test]
fn shards_have_the_answer_of_one_file() {
    let other = [0.5, 3.0, -2.0, 1.0, 2.0, 0.25, 2.0, -9.0];
    for granularity in ["row", "tensor", "global"] {
        let desk = checkpoint();
        desk.write(&format!("in/{B}"), &shard_b(&other));
        let whole =
            [("m.a.weight", "F32", &[2, 4][..], f32s(&other)), ("m.z.weight", "F32", &[2, 4][..], f32s(&MATRIX))];
        desk.write("whole", &model(&whole));
        desk.succeed(&["prune", "in", "-o", "out", "--granularity", granularity, "--masks", "masks"]);
        desk.succeed(&["prune", "whole", "-o", "one", "--granularity", granularity, "--masks", "masks-one"]);
        assert_eq!(desk.read("masks"), desk.read("masks-one"), "{granularity}");
        for (name, shard) in [("m.a.weight", B), ("m.z.weight", A)] {
            let tensor = |file: &str| crate::desk::tensor(&desk.read(file), name);
            assert_eq!(tensor(&format!("out/{shard}")), tensor("one"), "{name} by {granularity}");
        }
    }
}

#[test]
fn a_directory_with_one_file_needs_no_index() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    desk.write("in/model.safetensors", &shard_a(&MATRIX));
    let (stdout, stderr) = desk.succeed(&["inspect", "in"]);
    assert!(stdout.contains("pruned  1 tensor: 7 of 8 kept"), "{stdout}");
    assert_eq!(stderr, "");
    assert_eq!(desk.names(), ["in"]);
    desk.succeed(&["prune", "in", "-o", "out"]);
    let files: Vec<_> = tree(&desk.path("out")).into_keys().collect();
    assert_eq!(files, ["emprune_report.json", "model.safetensors"]);
    assert_eq!(desk.read("out/model.safetensors"), shard_a(&PRUNED));
    // An adapter's has another name, and is given itself.
    fs::rename(desk.path("in/model.safetensors"), desk.path("in/adapter_model.safetensors")).unwrap();
    desk.fail(
        &["inspect", "in"],
        1,
        &["nor model.safetensors; adapter_model.safetensors is there, which can be given"],
    );
}

#[test]
fn an_index_and_headers_that_disagree_are_refused() {
    let refuse = |change: &dyn Fn(&Desk), parts: &[&str]| {
        let desk = checkpoint();
        change(&desk);
        desk.fail(&["prune", "in", "-o", "out", "--report", "report", "--masks", "masks"], 1, parts);
        desk.fail(&["inspect", "in"], 1, parts);
    };
    let edit = |desk: &Desk, name: &str, shard: Value| {
        let mut map = weight_map();
        map[name] = shard;
        write_index(desk, &map);
    };
    refuse(&|d| edit(d, "m.b.weight", json!(A)), &[INDEX, "\"m.b.weight\"", "should be in", A]);
    refuse(&|d| edit(d, "m.z.weight", json!(B)), &[INDEX, "\"m.z.weight\""]);
    refuse(&|d| edit(d, "m.b.weight", json!("gone.safetensors")), &["gone.safetensors", "cannot open"]);
    refuse(&|d| fs::remove_file(d.path(&format!("in/{B}"))).unwrap(), &[B, "cannot open"]);
    refuse(&|d| fs::remove_file(d.path(&format!("in/{INDEX}"))).unwrap(), &["neither", INDEX]);
    refuse(&|d| d.write("in/model.safetensors", &shard_a(&MATRIX)), &["two models"]);
    refuse(&|d| d.write(&format!("in/{INDEX}"), b"{}"), &[INDEX, "weight_map"]);
    refuse(&|d| write_index(d, &json!({})), &[INDEX, "names no shards"]);
    let twice = format!(r#"{{"weight_map":{{"a":"{A}","a":"{A}"}}}}"#);
    refuse(&|d| d.write(&format!("in/{INDEX}"), twice.as_bytes()), &["\"a\" appears twice"]);
    // In a shard, and in no index.
    let mut map = weight_map();
    map.as_object_mut().unwrap().remove("m.norm.weight");
    refuse(&|d| write_index(d, &map), &["\"m.norm.weight\"", A, "not named"]);
    // In two shards.
    refuse(&|d| d.write(&format!("in/{B}"), &shard_a(&MATRIX)), &["\"m.a.weight\"", B]);
    let both = model(&[
        ("m.a.weight", "F32", &[1], f32s(&[1.0])),
        ("m.embed.weight", "F32", &[1], f32s(&[1.0])),
        ("m.z.weight", "F32", &[1], f32s(&[1.0])),
    ]);
    refuse(&|d| d.write(&format!("in/{B}"), &both), &["\"m.z.weight\" is in", B, "should be in", A]);
    for hostile in ["../outside.safetensors", "/outside.safetensors", "a/b.safetensors", "..", ".", "", "a\\b", "C:x"] {
        refuse(&|d| edit(d, "m.b.weight", json!(hostile)), &[&format!("{hostile:?} is not the name of a file")]);
    }
    refuse(&|d| edit(d, "m.b.weight", json!("config.json")), &["no name for a shard"]);
}

#[test]
fn an_output_that_would_hurt_the_input_or_others_is_refused() {
    let desk = checkpoint();
    desk.fail(&["prune", "in", "-o", "in", "--overwrite"], 1, &["is the input"]);
    desk.fail(&["prune", "in", "-o", "in/../in", "--overwrite"], 1, &["is the input"]);
    desk.fail(&["prune", "in", "-o", "in/out"], 1, &["inside the input"]);
    desk.fail(&["prune", "in", "-o", &format!("in/{A}"), "--overwrite"], 1, &["inside the input"]);
    desk.fail(&["prune", "in", "-o", "out", "--report", "in/config.json", "--overwrite"], 1, &["inside the input in"]);
    desk.fail(&["prune", "in", "-o", "out", "--masks", "in/masks"], 1, &["in/masks is inside the input in"]);
    desk.fail(&["prune", "in", "-o", "no/out"], 1, &["cannot write to the directory"]);
    #[cfg(unix)]
    {
        // By whatever name.
        std::os::unix::fs::symlink("in", desk.path("alias")).unwrap();
        desk.fail(&["prune", "in", "-o", "alias", "--overwrite"], 1, &["is the input"]);
        desk.fail(&["prune", "in", "-o", "alias/out"], 1, &["inside the input"]);
        desk.fail(&["prune", "alias", "-o", "in/out"], 1, &["inside the input"]);
        fs::create_dir(desk.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", desk.path("link")).unwrap();
        desk.fail(&["prune", "in", "-o", "link"], 1, &["link is a link, which is not replaced"]);
    }
    fs::create_dir_all(desk.path("outer/in")).unwrap();
    desk.write("outer/in/model.safetensors", &shard_a(&MATRIX));
    desk.write("outer/emprune_report.json", b"{}");
    desk.fail(&["prune", "outer/in", "-o", "outer", "--overwrite"], 1, &["the input", "inside"]);
    desk.write("file", b"x");
    desk.fail(&["prune", "in", "-o", "file", "--overwrite"], 1, &["file is not a directory"]);
    fs::create_dir(desk.path("home")).unwrap();
    desk.write("home/precious", b"x");
    desk.fail(&["prune", "in", "-o", "home"], 1, &["--overwrite"]);
    desk.fail(&["prune", "in", "-o", "home", "--overwrite"], 1, &["emprune_report.json", "not emprune's"]);
    // A report that was sent there makes nothing ours.
    for text in
        [&b"{}"[..], b"", br#"{"schema":"emprune.image/1"}"#, br#"{"schema":7}"#, br#"{"schema":"emprune.report/1""#]
    {
        desk.write("home/emprune_report.json", text);
        desk.fail(
            &["prune", "in", "-o", "home", "--overwrite"],
            1,
            &["not emprune's", "its emprune_report.json is none"],
        );
    }
    desk.write("home/emprune_report.json", br#"{"schema":"emprune.report/1"}"#);
    desk.fail(&["prune", "in", "-o", "home", "--overwrite"], 1, &["not emprune's", "and no weights"]);
    fs::remove_file(desk.path("home/emprune_report.json")).unwrap();
    desk.fail(&["prune", "in", "-o", "home", "--masks", "home/masks"], 1, &["in the output directory"]);
}

/// Names that are taken on the way to an output, and what lies where an output will be.
#[test]
fn an_input_that_would_be_lost_is_refused() {
    let desk = checkpoint();
    for name in ["out.emprune-partial", "out.emprune-old"] {
        fs::create_dir(desk.path(name)).unwrap();
        desk.write(&format!("{name}/model.safetensors"), &shard_a(&MATRIX));
    }
    desk.write(".file.emprune-partial", &shard_a(&MATRIX));
    desk.succeed(&["prune", "in", "-o", "done", "--masks", "masks"]);
    fs::rename(desk.path("masks"), desk.path("done/masks")).unwrap();
    fs::create_dir(desk.path("plots")).unwrap();
    desk.write("plots/scores", &shard_a(&MATRIX));
    desk.write("plots/emprune_report.json", b"{}");
    let before = desk.everything();
    for args in [
        &["prune", "out.emprune-partial", "-o", "out"][..],
        &["prune", "out.emprune-old", "-o", "out", "--overwrite"],
        &["prune", ".file.emprune-partial", "-o", "file"],
        &[
            "prune",
            "in",
            "-o",
            "other",
            "--score",
            ".file.emprune-partial",
            "--masks",
            "file",
            "--targets",
            "m.z.weight",
        ],
        &["apply", "in", "--masks", "done/masks", "-o", "done", "--overwrite"],
        &["inspect", "in", "--score", "plots/scores", "--plot", "plots", "--overwrite", "--targets", "m.z.weight"],
    ] {
        desk.fail(args, 1, &["the input ", " is lost when "]);
        assert!(desk.everything() == before, "{args:?}");
    }
}

/// Nor may one output have a name that another has while it is written.
#[test]
fn outputs_are_not_called_what_others_are_for_a_while() {
    let desk = checkpoint();
    desk.write("file", &shard_a(&MATRIX));
    let before = desk.everything();
    for args in [
        &["prune", "file", "-o", "o", "--report", ".o.emprune-partial"][..],
        &["prune", "file", "-o", "o", "--masks", ".o.emprune-note"],
        &["prune", "file", "-o", ".r.emprune-partial", "--report", "r"],
        &["prune", "in", "-o", "o", "--report", ".o.emprune-partial"],
        &["prune", "in", "-o", "o", "--report", "o.emprune-old"],
        &["prune", "in", "-o", "o", "--plot", "o.emprune-old"],
        &["prune", "in", "-o", "o", "--plot", "o.emprune-partial"],
        &["inspect", "file", "--masks", "m", "--plot", ".m.emprune-partial"],
    ] {
        desk.fail(&[args, &["--overwrite"]].concat(), 1, &[" is what an output is called while it is written"]);
        assert!(desk.everything() == before, "{args:?}");
    }
}

/// What cannot be copied is known, and named, before the work.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_copied_is_named_at_once() {
    let desk = checkpoint();
    // One that can be written and not read, by root neither.
    let unreadable = "/sys/bus/platform/drivers_probe";
    if !std::path::Path::new(unreadable).is_file() || File::open(unreadable).is_ok() {
        crate::desk::skipped(&format!("{unreadable} is not what it is elsewhere"));
        return;
    }
    std::os::unix::fs::symlink(unreadable, desk.path("in/README.md")).unwrap();
    // Weights that cannot be pruned: nobody has come so far.
    desk.write(&format!("in/{A}"), &shard_a(&MATRIX.map(|_| f32::NAN)));
    let output = desk.run(&["prune", "in", "-o", "out"]);
    let (_, stderr) = texts(&output);
    assert!(
        output.status.code() == Some(1) && stderr.contains("cannot copy ") && stderr.contains("README.md"),
        "{stderr}"
    );
    assert_eq!(desk.names(), ["in"]);
}

#[test]
fn only_an_empty_directory_or_one_of_ours_is_replaced() {
    let desk = checkpoint();
    fs::create_dir(desk.path("out")).unwrap();
    desk.succeed(&["prune", "in", "-o", "out"]);
    desk.fail(&["prune", "in", "-o", "out"], 1, &["out exists", "--overwrite"]);
    // What somebody has put there since would be lost with it, however hidden.
    for foreign in ["out/notes.txt", "out/.git/HEAD", "out/more/notes.txt", "out/other.safetensors"] {
        let path = desk.path(foreign);
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(&path, b"mine").unwrap();
        let first = foreign.trim_start_matches("out/").split('/').next().unwrap();
        let named = format!("it has {first}, which would be lost");
        desk.fail(&["prune", "in", "-o", "out", "--overwrite"], 1, &["out is not emprune's to replace", &named]);
        assert_eq!(desk.read(foreign), b"mine");
        fs::remove_file(&path).unwrap();
        if folder != desk.path("out") {
            fs::remove_dir(folder).unwrap();
        }
    }
    desk.succeed(&["prune", "in", "-o", "out", "--overwrite"]);
    assert_eq!(desk.read(&format!("out/{B}")), shard_b(&PRUNED));
    assert_eq!(desk.names(), ["in", "out"]);
    // A report of one file beside models of others makes no directory ours.
    fs::create_dir(desk.path("models")).unwrap();
    fs::copy(desk.path(&format!("in/{A}")), desk.path("models/other.safetensors")).unwrap();
    let one = format!("in/{A}");
    desk.succeed(&["prune", &one, "-o", "models/p.safetensors", "--report", "models/emprune_report.json"]);
    desk.fail(&["prune", "in", "-o", "models", "--overwrite"], 1, &["models is not emprune's", "other.safetensors"]);
    assert_eq!(fs::read_dir(desk.path("models")).unwrap().count(), 3);
}

/// Of another model that emprune wrote the shards are known by its index, and none is in the way.
#[test]
fn another_model_s_output_is_replaced() {
    let desk = checkpoint();
    desk.succeed(&["prune", "in", "-o", "out"]);
    fs::create_dir(desk.path("small")).unwrap();
    fs::copy(desk.path(&format!("in/{A}")), desk.path("small/model.safetensors")).unwrap();
    fs::copy(desk.path("in/config.json"), desk.path("small/config.json")).unwrap();
    let foreign: Vec<_> = fs::read_dir(desk.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in foreign.iter().filter(|name| !desk.path("small").join(name).exists()) {
        let name = name.to_str().unwrap();
        if ![A, B, "emprune_report.json", "model.safetensors.index.json"].contains(&name) {
            let _ = fs::remove_file(desk.path(&format!("out/{name}")));
            let _ = fs::remove_dir_all(desk.path(&format!("out/{name}")));
        }
    }
    desk.succeed(&["prune", "small", "-o", "out", "--overwrite"]);
    let mut names: Vec<_> = fs::read_dir(desk.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "emprune_report.json", "model.safetensors"]);
}

#[cfg(unix)]
#[test]
fn links_to_files_are_followed_and_other_things_are_named() {
    let desk = checkpoint();
    fs::rename(desk.path(&format!("in/{A}")), desk.path("blob")).unwrap();
    std::os::unix::fs::symlink("../blob", desk.path(&format!("in/{A}"))).unwrap();
    std::os::unix::fs::symlink("..", desk.path("in/original")).unwrap();
    fs::create_dir(desk.path("in/.cache")).unwrap();
    desk.write("in/.cache/large", b"x");
    desk.write("in/consolidated.safetensors", b"another model");
    let output = desk.run(&["prune", "in", "-o", "out", "--backend", "cpu"]);
    let (_, stderr) = texts(&output);
    assert!(stderr.contains("original is no regular file and is not copied"), "{stderr}");
    assert!(stderr.contains(".cache is a hidden directory and is not copied"), "{stderr}");
    assert!(stderr.contains("consolidated.safetensors is not part of the model"), "{stderr}");
    assert!(desk.path(&format!("out/{A}")).symlink_metadata().unwrap().is_file());
    assert_eq!(desk.read(&format!("out/{A}")), shard_a(&PRUNED));
    assert_eq!(desk.read("blob"), shard_a(&MATRIX));
    assert!(!desk.path("out/original").exists() && !desk.path("out/.cache").exists());
}

/// What came of the input is not what came of the output.
#[test]
fn a_report_of_the_input_is_not_copied_and_that_is_told() {
    let desk = checkpoint();
    desk.succeed(&["prune", "in", "-o", "once"]);
    let (_, stderr) = desk.succeed(&["prune", "once", "-o", "twice", "--beta", "0.5"]);
    assert!(stderr.contains("note: once/emprune_report.json is about the input and is not copied\n"), "{stderr}");
    assert_eq!(desk.json("twice/emprune_report.json")["input"], "once");
    assert!(tree(&desk.path("once")).keys().eq(tree(&desk.path("twice")).keys()));
    // Without one there is nothing to say.
    let (_, stderr) = desk.succeed(&["inspect", "in"]);
    assert!(!stderr.contains("emprune_report.json"), "{stderr}");
}

/// Weights in whatever format, told once with what they take.
#[test]
fn what_is_copied_unpruned_is_told_with_its_size() {
    let desk = checkpoint();
    fs::create_dir(desk.path("in/onnx")).unwrap();
    desk.write("in/onnx/model.ONNX", &[0; 1000]);
    desk.write("in/consolidated.00.pth", &[0; 234]);
    let told = |part: &str| {
        let (_, stderr) = desk.succeed(&["inspect", "in"]);
        let notes: Vec<_> = stderr.lines().filter(|line| line.contains("not part of the model")).collect();
        assert!(notes.len() == 1 && notes[0].ends_with(part), "{notes:?} without {part:?}");
        notes[0].to_owned()
    };
    let note = told("are not part of the model and are copied as they are, unpruned: 1,234 bytes together");
    assert!(note.contains("consolidated.00.pth") && note.contains("model.ONNX"), "{note}");
    for name in ["a.bin", "b.pt", "c.gguf", "d.h5", "e.msgpack", "f.ot", "g.ckpt"] {
        desk.write(&format!("in/{name}"), &[0; 10]);
    }
    let note = told(" and 5 more are not part of the model and are copied as they are, unpruned: 1,304 bytes together");
    assert!(note.contains("a.bin"), "{note}");
}

/// A link that leads nowhere is in nobody's way until it is to be copied, and then named before the work.
#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_stops_copies_alone() {
    use std::os::unix::fs::symlink;
    for name in ["README.md", "sub/README.md"] {
        let desk = checkpoint();
        fs::create_dir(desk.path("in/sub")).unwrap();
        let link = desk.path(&format!("in/{name}"));
        symlink("nowhere", &link).unwrap();
        let (_, stderr) = desk.succeed(&["inspect", "in", "--masks", "masks"]);
        assert!(stderr.contains(&format!("note: in/{name} is a link that leads nowhere (")), "{stderr}");
        // Weights that cannot be pruned: nobody has come so far.
        desk.write(&format!("in/{A}"), &shard_a(&MATRIX.map(|_| f32::NAN)));
        let before = desk.names();
        for args in [&["prune", "in", "-o", "out"][..], &["apply", "in", "--masks", "masks", "-o", "out"]] {
            let (_, stderr) = texts(&desk.run(args));
            assert!(stderr.contains(&format!("error: cannot copy in/{name}: ")), "{args:?}: {stderr}");
        }
        assert_eq!(desk.names(), before);
        fs::remove_file(&link).unwrap();
        symlink("nowhere", desk.path(&format!("in/{INDEX}.emprune-partial"))).unwrap();
        desk.write(&format!("in/{A}"), &shard_a(&MATRIX));
        desk.succeed(&["prune", "in", "-o", "out"]);
    }
    // An index, too, and not the model beside it.
    let desk = checkpoint();
    fs::remove_file(desk.path(&format!("in/{INDEX}"))).unwrap();
    symlink("nowhere", desk.path(&format!("in/{INDEX}"))).unwrap();
    desk.write("in/model.safetensors", &shard_a(&MATRIX));
    let (_, stderr) = texts(&desk.run(&["inspect", "in"]));
    assert!(stderr.contains(&format!("error: in: {INDEX}: cannot open it")), "{stderr}");
}

/// Nor does a directory that cannot be listed.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_listed_stops_copies_alone() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let desk = checkpoint();
    fs::create_dir(desk.path("in/sub")).unwrap();
    let mode = |name: &str, mode| fs::set_permissions(desk.path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("in/sub", 0);
    mode(".", 0o777);
    let is_root = fs::read_dir(desk.path("in/sub")).is_ok();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_emprune"));
        // Root may list anything, and nobody may not.
        if is_root {
            command.uid(65534);
        }
        command.args(args).args(["--backend", "cpu"]).current_dir(desk.path(".")).output()
    };
    let Ok(output) = run(&["inspect", "in"]) else {
        crate::desk::skipped("nobody may not run the program");
        return;
    };
    let (_, stderr) = texts(&output);
    assert!(output.status.success() && stderr.contains("note: in/sub cannot be listed ("), "{stderr}");
    let output = run(&["prune", "in", "-o", "out"]).unwrap();
    let (_, stderr) = texts(&output);
    assert!(output.status.code() == Some(1) && stderr.contains("error: cannot copy in/sub: "), "{stderr}");
    assert_eq!(desk.names(), ["in"]);
    mode("in/sub", 0o755);
}

/// As sentence transformers have them.
#[test]
fn directories_are_copied_with_all_that_is_in_them() {
    let desk = checkpoint();
    fs::create_dir_all(desk.path("in/1_Pooling/deep/empty")).unwrap();
    desk.write("in/1_Pooling/config.json", b"{}");
    desk.write("in/1_Pooling/deep/x.safetensors", b"another model");
    desk.write("in/1_Pooling/.x.emprune-partial", b"half");
    let (_, stderr) = desk.succeed(&["prune", "in", "-o", "out", "--masks", "masks"]);
    assert!(stderr.contains("x.safetensors is not part of the model"), "{stderr}");
    let mut expected = tree(&desk.path("in"));
    expected.remove("1_Pooling/.x.emprune-partial").unwrap();
    let mut files = tree(&desk.path("out"));
    files.remove("emprune_report.json").unwrap();
    assert!(files.keys().eq(expected.keys()), "{:?}", files.keys());
    assert_eq!(files["1_Pooling/deep/x.safetensors"], b"another model");
    assert!(files.contains_key("1_Pooling/deep/empty"));
    let verify = ["verify", "in", "out", "--backend", "cpu"];
    assert_eq!(desk.run(&verify).status.code(), Some(0));
    desk.succeed(&["prune", "in", "-o", "out", "--overwrite"]);
    desk.write("out/1_Pooling/deep/more", b"");
    desk.fail(&verify, 1, &["more is in the output", "no such file"]);
    fs::remove_file(desk.path("out/1_Pooling/deep/more")).unwrap();
    desk.write("out/1_Pooling/config.json", b"[]");
    desk.fail(&verify, 1, &["config.json is not that of the input"]);
}

/// What other runs left is theirs, or nobody's, and no part of a model.
#[test]
fn partial_files_of_other_runs_are_neither_copied_nor_touched() {
    let desk = checkpoint();
    for name in ["in/.a.emprune-partial", ".other.emprune-partial", "other.emprune-partial"] {
        desk.write(name, b"half");
    }
    desk.succeed(&["prune", "in", "-o", "out"]);
    assert_eq!(desk.names(), [".other.emprune-partial", "in", "other.emprune-partial", "out"]);
    let files: Vec<_> = tree(&desk.path("out")).into_keys().collect();
    assert!(!files.iter().any(|name| name.contains("partial")), "{files:?}");
    assert_eq!(desk.read("in/.a.emprune-partial"), b"half");
}

#[cfg(unix)]
#[test]
fn a_directory_has_the_permissions_that_the_umask_leaves() {
    use std::os::unix::fs::PermissionsExt;
    let desk = checkpoint();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "umask 027; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_emprune")]).current_dir(desk.path("."));
    let output = command.args(["prune", "in", "-o", "out", "--backend", "cpu"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
    let mode = |name: &str| desk.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("out"), 0o750);
    for name in [A, B, INDEX, "config.json", "emprune_report.json"] {
        assert_eq!(mode(&format!("out/{name}")), 0o640, "{name}");
    }
}

/// A shell gives a program few files at first; it may ask for more.
#[cfg(target_os = "linux")]
#[test]
fn more_shards_than_files_may_be_open_at_first() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    let mut map = serde_json::Map::new();
    for number in 0..80 {
        let (tensor, shard) = (format!("t{number}"), format!("{number}.safetensors"));
        desk.write(&format!("in/{shard}"), &model(&[(&tensor, "F32", &[2, 2], f32s(&[1.0, 0.5, 0.1, 3.0]))]));
        map.insert(tensor, shard.into());
    }
    write_index(&desk, &Value::Object(map));
    let program = env!("CARGO_BIN_EXE_emprune");
    let line = format!("ulimit -S -n 64 && exec {program} prune in -o out --backend cpu");
    let output = std::process::Command::new("sh").args(["-c", &line]).current_dir(desk.path(".")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
