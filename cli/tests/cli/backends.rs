//! One answer, whoever does the work. Without an adapter these tests fail, unless `EMPRUNE_NO_GPU=1` says that none is wanted.
#![cfg(feature = "gpu")]

use crate::desk::{Desk, Part, backends, f32s, floats, model, skipped, texts, tree, wants_gpu};

/// Pseudo-random numbers in steps of 1/16 between -4 and 4: exact in all three dtypes, and full of ties.
fn values(seed: u64, len: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 57) as f32 - 64.0) / 16.0
    };
    (0..len).map(|_| next()).collect()
}

/// Matrices of all dtypes and of lengths that are odd in every sense, and their norms.
fn write_model(desk: &Desk) {
    let shapes: [&[u64]; 7] = [&[64, 384], &[3, 1], &[1, 70_001], &[129, 33], &[5, 3, 7], &[2, 4099], &[300, 5]];
    let (mut parts, mut norms): (Vec<Part<'_>>, Vec<Part<'_>>) = (Vec::new(), Vec::new());
    let names: Vec<String> = (0..21).map(|i| format!("t{i}")).collect();
    let columns: Vec<u64> = shapes.iter().map(|shape| shape[1..].iter().product()).collect();
    for (i, name) in names.iter().enumerate() {
        let (shape, columns) = (shapes[i % 7], &columns[i % 7]);
        let dtype = ["F32", "BF16", "F16"][i / 7];
        parts.push((name, dtype, shape, floats(dtype, &values(i as u64, shape.iter().product()))));
        norms.push((name, "F32", std::slice::from_ref(columns), f32s(&values(100 + i as u64, *columns))));
    }
    desk.write("in", &model(&parts));
    desk.write("norms", &model(&norms));
}

#[test]
fn the_gpu_writes_the_same_files_as_the_cpu() {
    if !wants_gpu() {
        return;
    }
    let desk = Desk::new();
    write_model(&desk);
    for granularity in ["row", "tensor", "global"] {
        for score in [&["--beta", "0.9"] as &[&str], &["--score", "wanda", "--norms", "norms"]] {
            for backend in ["cpu", "gpu"] {
                let [out, masks, report] = ["out", "masks", "report"].map(|name| format!("{name}-{backend}"));
                let files = ["prune", "in", "-o", &out, "--masks", &masks, "--report", &report, "--overwrite"];
                let options = ["--granularity", granularity, "--backend", backend];
                let output = desk.run(&[&files[..], &options[..], score].concat());
                assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
            }
            let what = format!("{granularity} {score:?}");
            assert!(desk.read("out-cpu") == desk.read("out-gpu"), "the weights differ: {what}");
            assert!(desk.read("masks-cpu") == desk.read("masks-gpu"), "the masks differ: {what}");
            let numbers = |backend: &str| {
                let mut report = desk.json(&format!("report-{backend}"));
                assert_eq!(report["backend"].take(), backend);
                assert_eq!(report["adapter"].take().is_string(), backend == "gpu");
                assert_eq!(report["variant"].take().is_string(), backend == "gpu");
                for tensor in report["tensors"].as_array_mut().unwrap() {
                    tensor["seconds"].take();
                }
                report
            };
            assert_eq!(numbers("cpu"), numbers("gpu"), "{what}");
        }
    }
}

/// Whatever is asked, and whatever other files say: weights, masks, pictures and all but the names of a report.
#[test]
fn every_question_has_one_answer() {
    let backends = backends();
    let [cpu, gpu] = &backends[..] else { return };
    let desk = Desk::new();
    let shapes: [&[u64]; 3] = [&[33, 129], &[12, 4, 3, 3], &[7, 1025]];
    let names = ["a", "b", "c"];
    let part = |seed: u64, dtype: &'static str, i: usize| -> Part<'static> {
        (names[i], dtype, shapes[i], floats(dtype, &values(seed + i as u64, shapes[i].iter().product())))
    };
    desk.write("in", &model(&[part(0, "F32", 0), part(0, "BF16", 1), part(0, "F16", 2)]));
    desk.write("scores", &model(&[part(9, "F16", 0), part(9, "F32", 1), part(9, "BF16", 2)]));
    let columns = [129u64, 36, 1025];
    let norm = |i: usize| -> Part<'_> {
        (names[i], "F32", std::slice::from_ref(&columns[i]), f32s(&values(50 + i as u64, columns[i])))
    };
    desk.write("norms", &model(&[norm(0), norm(1), norm(2)]));
    for args in [
        &["--score", "scores", "--granularity", "row"][..],
        &["--score", "scores", "--granularity", "global", "--beta", "0.7"],
        &["--score", "scores", "--granularity", "block:4x5"],
        &["--score", "scores", "--granularity", "column", "--sparsity", "0.3"],
        &["--score", "wanda", "--norms", "norms", "--granularity", "block:3x7", "--min-kept", "2"],
        &["--score", "wanda", "--norms", "norms", "--nm", "2:4"],
        &["--granularity", "chunk:7", "--count", "3"],
        &["--structure", "row", "--norm", "l1", "--score", "scores"],
        &["--structure", "column", "--norm", "l2"],
        &["--structure", "head:1", "--norm", "max", "--granularity", "global"],
        &["--structure", "channel", "--norm", "max", "--score", "wanda", "--norms", "norms", "--beta", "0.5"],
    ] {
        let all = |backend: &[&str]| {
            let files = ["prune", "in", "-o", "out", "--masks", "masks", "--report", "report", "--plot", "plots"];
            let output = desk.run(&[&files[..], args, backend, &["--overwrite"]].concat());
            assert_eq!(output.status.code(), Some(0), "{args:?}: {}", texts(&output).1);
            desk.succeed(&[&["verify", "in", "out", "--masks", "masks"], args].concat());
            let mut report = desk.json("report");
            ["backend", "adapter", "variant"].into_iter().for_each(|name| drop(report[name].take()));
            for tensor in report["tensors"].as_array_mut().unwrap() {
                tensor["seconds"].take();
            }
            let mut plots = tree(&desk.path("plots"));
            plots.retain(|name, _| name.ends_with(".svg"));
            (desk.read("out"), desk.read("masks"), report, plots)
        };
        let (want, got) = (all(cpu), all(gpu));
        assert_eq!(want.2, got.2, "{args:?}");
        assert!(want == got, "{args:?}: weights, masks or plots differ");
        assert!(want.3.len() == 4, "{args:?}: {:?}", want.3.keys());
    }
}

#[test]
fn subgroups_are_used_where_they_are_and_refused_where_not() {
    if !wants_gpu() {
        return;
    }
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[1, 4], f32s(&[1.0, 3.0, 1.0, 1.0]))]));
    for adapter in emprune::gpu::adapters() {
        // Of adapters with one name the first is taken: by its backend there is one.
        let asked = ["inspect", "in", "--json", "--adapter", &adapter.backend, "--gpu-variant", "subgroup"];
        let (stdout, stderr) = texts(&desk.run(&asked));
        if adapter.variant == "subgroup" {
            let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(report["variant"], "subgroup", "{adapter}");
        } else {
            assert!(stderr.contains("SUBGROUP"), "{adapter}: {stderr}");
        }
    }
    desk.fail(&["inspect", "in", "--backend", "cpu", "--gpu-variant", "subgroup"], 2, &["--gpu-variant"]);
}

#[test]
fn a_software_adapter_is_used_when_asked_for_and_says_so() {
    if !wants_gpu() {
        return;
    }
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[1, 4], f32s(&[1.0, 3.0, 1.0, 1.0]))]));
    let adapters = emprune::gpu::adapters();
    assert!(!adapters.is_empty(), "no adapter: install a software one, or set EMPRUNE_NO_GPU=1");
    for adapter in adapters {
        for backend in ["gpu", "auto"] {
            let shouted = adapter.name.to_uppercase();
            let output = desk.run(&["inspect", "in", "--json", "--backend", backend, "--adapter", &shouted]);
            let (stdout, stderr) = texts(&output);
            assert_eq!(output.status.code(), Some(0), "{stderr}");
            let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!((&report["backend"], &report["adapter"]), (&"gpu".into(), &adapter.name.clone().into()));
            assert_eq!(stderr.contains("is a software adapter"), adapter.software, "{stderr}");
        }
    }
    for adapter in emprune::gpu::adapters() {
        let ask =
            |variant| desk.run(&["inspect", "in", "--json", "--adapter", &adapter.name, "--gpu-variant", variant]);
        let report: serde_json::Value = serde_json::from_slice(&ask("portable").stdout).unwrap();
        assert_eq!(report["variant"], "portable", "{adapter}");
    }
    let hardware = emprune::gpu::adapters().iter().any(|adapter| !adapter.software);
    let output = desk.run(&["inspect", "in", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["backend"], if hardware { "gpu" } else { "cpu" }, "auto takes hardware only");
}

#[test]
fn a_bad_value_is_the_same_error_on_the_gpu() {
    if !wants_gpu() {
        return;
    }
    let desk = Desk::new();
    desk.write(
        "in",
        &model(&[("a", "F32", &[1, 2], f32s(&[1.0, 2.0])), ("b", "F32", &[2, 2], f32s(&[1.0, 2.0, 3.0, f32::NAN]))]),
    );
    for granularity in ["row", "tensor", "global"] {
        let args = ["prune", "in", "-o", "out", "--masks", "masks", "--granularity", granularity, "--backend", "gpu"];
        desk.fail(&args, 1, &["\"b\"", "entry 3", "NaN"]);
    }
}

#[test]
fn a_device_that_fails_in_the_middle_leaves_the_work_to_the_cpu_or_fails_clearly() {
    if !wants_gpu() {
        return;
    }
    if !cfg!(debug_assertions) {
        skipped("a release build has no faults to inject");
        return;
    }
    let desk = Desk::new();
    write_model(&desk);
    let name = emprune::gpu::adapters().remove(0).name;
    for granularity in ["row", "tensor", "global"] {
        desk.succeed(&["prune", "in", "-o", "cpu", "--masks", "masks", "--granularity", granularity, "--overwrite"]);
        for (fault, reason) in [("lost:2", "lost"), ("memory:2", "memory")] {
            let run = |backend: &str, out: &str| {
                let args =
                    ["prune", "in", "-o", out, "--masks", "new", "--report", "report", "--granularity", granularity];
                let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_emprune"));
                command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).env("EMPRUNE_FAULT", fault);
                let command = command.args(args).args(["--backend", backend, "--adapter", &name, "--overwrite"]);
                command.current_dir(desk.path(".")).output().unwrap()
            };
            let output = run("auto", "out");
            let (_, stderr) = texts(&output);
            assert_eq!(output.status.code(), Some(0), "{stderr}");
            assert!(stderr.contains("warning: ") && stderr.contains("the CPU goes on from there"), "{stderr}");
            assert!(desk.read("out") == desk.read("cpu"), "{granularity} {fault}");
            assert!(desk.read("new") == desk.read("masks"), "{granularity} {fault}");
            let report = desk.json("report");
            assert_eq!(report["backend"], "gpu");
            let fallback = &report["fallback"];
            assert!(fallback["reason"].as_str().unwrap().contains(reason), "{fallback}");
            assert!(report["tensors"].as_array().unwrap().iter().any(|t| t["name"] == fallback["tensor"]));
            let before = desk.names();
            let output = run("gpu", "none");
            let (stdout, stderr) = texts(&output);
            assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
            assert!(stderr.contains("error: ") && stderr.contains(reason), "{stderr}");
            assert_eq!(desk.names(), before, "debris");
        }
        // What we did wrong is no reason to go elsewhere.
        let before = desk.names();
        for backend in ["auto", "gpu"] {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_emprune"));
            command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).env("EMPRUNE_FAULT", "internal:2");
            command.args(["prune", "in", "-o", "none", "--granularity", granularity]).current_dir(desk.path("."));
            let output = command.args(["--backend", backend, "--adapter", &name]).output().unwrap();
            let (stdout, stderr) = texts(&output);
            assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
            assert!(stderr.contains("error: ") && !stderr.contains("the CPU goes on"), "{stderr}");
            assert_eq!(desk.names(), before, "debris");
        }
    }
}
