//! What is written, and what is left as it is.

use crate::desk::{Desk, f32s, model, names, tensor, texts, with_header};

/// A matrix whose first row keeps 3 of 4 and whose second keeps all.
const MATRIX: [f32; 8] = [1.0, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0];
const PRUNED: [f32; 8] = [1.0, 3.0, 1.0, 0.0, 2.0, 2.0, 2.0, 2.0];

fn small() -> Vec<u8> {
    model(&[("w", "F32", &[2, 4], f32s(&MATRIX))])
}

#[test]
fn all_that_is_not_pruned_is_copied_byte_for_byte() {
    let desk = Desk::new();
    // An odd header with spaces, line ends and fields of its own; types that nobody knows; all in no order.
    let header = r#" {"z":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},
        "w":{"data_offsets":[3,35],"shape":[2,4],"dtype":"F32","comment":"kept"},
        "__metadata__":{"modelspec.hash_sha256":"0123","format":"pt"},
        "q":{"dtype":"Q3_K","shape":[5],"data_offsets":[35,37]},"e":{"dtype":"F32","shape":[4,0],"data_offsets":[37,37]},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[37,45]},"i":{"dtype":"I64","shape":[1],"data_offsets":[45,53]}}  "#;
    let file = |weights: &[f32]| {
        let tail = [&[0xab, 0xcd], f32s(&[f32::NAN, 0.5]).as_slice(), &(-2i64).to_le_bytes()].concat();
        with_header(header, &[&[9, 8, 7], f32s(weights).as_slice(), &tail].concat())
    };
    assert_ne!(header.len() % 8, 0, "the header must not happen to be aligned");
    desk.write("in", &file(&MATRIX));
    desk.succeed(&["prune", "in", "-o", "out"]);
    assert_eq!(desk.read("out"), file(&PRUNED));
    assert_eq!(desk.read("in"), file(&MATRIX));
}

#[test]
fn the_official_crate_writes_what_we_read_and_reads_what_we_write() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let desk = Desk::new();
    let (a, b) = (f32s(&MATRIX), vec![1u8; 9]);
    let views = [
        ("a.weight", TensorView::new(Dtype::F32, vec![2, 4], &a).unwrap()),
        ("b", TensorView::new(Dtype::BOOL, vec![9], &b).unwrap()),
    ];
    serialize_to_file(views, None, &desk.path("in")).unwrap();
    desk.succeed(&["prune", "in", "-o", "out", "--masks", "masks"]);
    let (out, masks) = (desk.read("out"), desk.read("masks"));
    assert_eq!(names(&out), ["a.weight", "b"]);
    assert_eq!((tensor(&out, "a.weight"), tensor(&out, "b")), (f32s(&PRUNED), b));
    assert_eq!(names(&masks), ["a.weight"]);
    assert_eq!(tensor(&masks, "a.weight"), [0b1111_0111]);
}

#[test]
fn masks_come_in_byte_order_of_names_after_an_aligned_header() {
    let desk = Desk::new();
    let part = |name, len: u64| (name, "F32", vec![1, len], f32s(&vec![1.0; len as usize]));
    let parts = [part("b", 9), part("é", 1), part("a", 17), part("B", 8)];
    let parts: Vec<_> = parts.iter().map(|(n, d, s, b)| (*n, *d, s.as_slice(), b.clone())).collect();
    desk.write("in", &model(&parts));
    desk.succeed(&["inspect", "in", "--masks", "masks"]);
    let masks = desk.read("masks");
    let data = [0xff, 0xff, 0xff, 1, 0xff, 1, 1];
    assert!(masks.ends_with(&data), "B, a, b, é: whole bytes each, unused bits 0");
    assert_eq!((masks.len() - data.len()) % 8, 0, "aligned");
}

#[test]
fn the_same_run_writes_the_same_bytes() {
    let desk = Desk::new();
    desk.write("in", &small());
    for name in ["1", "2"] {
        desk.succeed(&["prune", "in", "-o", name, "--masks", &format!("masks{name}"), "--granularity", "global"]);
    }
    assert_eq!(desk.read("1"), desk.read("2"));
    assert_eq!(desk.read("masks1"), desk.read("masks2"));
}

#[test]
fn inspect_decides_the_same_and_writes_no_weights() {
    let desk = Desk::new();
    desk.write("in", &small());
    for granularity in ["row", "tensor", "global"] {
        let files = |word: &str| [format!("{word}-{granularity}.json"), format!("{word}-{granularity}.masks")];
        let ([pruned, pruned_masks], [seen, seen_masks]) = (files("prune"), files("inspect"));
        let args = |word, report, masks| {
            [
                word,
                "in",
                "-o",
                "weights",
                "--report",
                report,
                "--masks",
                masks,
                "--granularity",
                granularity,
                "--overwrite",
            ]
        };
        let (_, stderr) = desk.succeed(&args("inspect", &seen, &seen_masks));
        assert!(stderr.contains("note: inspect writes no weights"), "{stderr}");
        assert!(!desk.path("weights").exists(), "inspect wrote weights");
        desk.succeed(&args("prune", &pruned, &pruned_masks));
        std::fs::remove_file(desk.path("weights")).unwrap();
        assert_eq!(desk.read(&pruned_masks), desk.read(&seen_masks));
        let without_seconds = |name: &str| {
            let mut report = desk.json(name);
            for tensor in report["tensors"].as_array_mut().unwrap() {
                assert!(tensor["seconds"].take().as_f64().unwrap() >= 0.0);
            }
            report
        };
        assert_eq!(without_seconds(&pruned), without_seconds(&seen), "{granularity}");
    }
    let before = desk.everything();
    desk.succeed(&["inspect", "in"]);
    assert_eq!(desk.everything(), before, "inspect alone writes nothing");
}

#[test]
fn overwriting_needs_a_word_and_replaces_whole_files() {
    let desk = Desk::new();
    desk.write("in", &small());
    for name in ["out", "report", "masks"] {
        desk.write(name, &[0x55; 10_000]);
    }
    let args = ["prune", "in", "-o", "out", "--report", "report", "--masks", "masks", "--backend", "cpu"];
    desk.fail(&args, 1, &["masks", "exists", "--overwrite"]);
    desk.fail(&["prune", "in", "-o", "out", "--backend", "cpu"], 1, &["out", "exists"]);
    desk.fail(&["inspect", "in", "--report", "report", "--backend", "cpu"], 1, &["report", "exists"]);
    desk.succeed(&[&args[..8], &["--overwrite"]].concat());
    assert_eq!(desk.read("out"), model(&[("w", "F32", &[2, 4], f32s(&PRUNED))]));
    assert_eq!(tensor(&desk.read("masks"), "w"), [0b1111_0111]);
    assert_eq!(desk.json("report")["schema"], "emprune.report/1");
    assert_eq!(desk.everything().len(), 4, "no temporary file is left");
}

#[cfg(unix)]
#[test]
fn a_link_is_replaced_and_what_it_points_to_stays() {
    let desk = Desk::new();
    desk.write("in", &small());
    desk.write("precious", b"as it was");
    std::os::unix::fs::symlink("precious", desk.path("link")).unwrap();
    desk.fail(&["prune", "in", "-o", "link", "--backend", "cpu"], 1, &["link", "exists"]);
    desk.succeed(&["prune", "in", "-o", "link", "--overwrite"]);
    assert_eq!(desk.read("precious"), b"as it was");
    assert!(desk.path("link").symlink_metadata().unwrap().is_file());
    assert_eq!(tensor(&desk.read("link"), "w"), f32s(&PRUNED));
}

/// A name of the machine's own leads to whatever somebody listens at.
#[cfg(target_os = "linux")]
#[test]
fn a_link_to_what_is_no_file_is_not_replaced() {
    let desk = Desk::new();
    desk.write("in", &small());
    for (link, to) in [("out", "/proc/self/fd/1"), ("null", "/dev/null"), ("folder", ".")] {
        std::os::unix::fs::symlink(to, desk.path(link)).unwrap();
        desk.fail(&["prune", "in", "-o", link, "--overwrite"], 1, &[link, "is a link to what is not a regular file"]);
        assert!(desk.path(link).symlink_metadata().unwrap().is_symlink());
    }
    desk.fail(&["prune", "in", "-o", "new/"], 1, &["new/ is a directory's name, and the input is a file"]);
}

#[cfg(unix)]
#[test]
fn files_have_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    desk.write("in", &small());
    desk.succeed(&["prune", "in", "-o", "out", "--report", "report", "--masks", "masks"]);
    let mode = |name: &str| desk.path(name).metadata().unwrap().permissions().mode();
    for name in ["out", "report", "masks"] {
        assert_eq!(mode(name), mode("in"), "{name}: {:o} and {:o}", mode(name), mode("in"));
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let desk = Desk::new();
    desk.write("in", &small());
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_emprune"))
        .args(["prune", "in", "-o", "out", "--backend", "cpu"])
        .current_dir(desk.path("."))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), texts(&output).1.as_str()), (Some(0), ""));
    assert_eq!(tensor(&desk.read("out"), "w"), f32s(&PRUNED));
}

/// As a copy has them.
#[cfg(unix)]
#[test]
fn what_is_made_of_a_model_is_for_no_other_eyes_than_the_model_is() {
    use std::os::unix::fs::PermissionsExt;
    let (shard, index) = (crate::shards::A, crate::shards::INDEX);
    let desk = crate::shards::checkpoint();
    let set =
        |name: &str, mode| std::fs::set_permissions(desk.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    let mode = |name: &str| desk.path(name).metadata().unwrap().permissions().mode() & 0o777;
    desk.write("in/run.sh", b"#!/bin/sh\n");
    desk.write("new", b"");
    set("in/run.sh", 0o755);
    set(&format!("in/{shard}"), 0o600);
    desk.succeed(&["prune", "in", "-o", "out", "--masks", "masks", "--report", "report"]);
    for name in [&format!("out/{shard}"), "masks", "report"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    let readable = mode("new");
    assert_eq!(mode("out/run.sh"), readable | (readable & 0o444) >> 2);
    assert_eq!(mode(&format!("out/{index}")), readable);
    // Of a model that is private in part, all that is about the whole is.
    assert_eq!(mode("out/emprune_report.json"), 0o600);
    // What nobody may write to can be written nonetheless, and once more.
    set(&format!("in/{shard}"), 0o400);
    for _ in 0..2 {
        desk.succeed(&["prune", &format!("in/{shard}"), "-o", "file", "--overwrite"]);
        assert_eq!(mode("file"), 0o600);
    }
}

/// So have directories, and whoever may not enter one reads nothing that is made of what is in it.
#[cfg(unix)]
#[test]
fn what_is_made_of_a_private_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let desk = crate::shards::checkpoint();
    let set =
        |name: &str, mode| std::fs::set_permissions(desk.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    let mode = |name: &str| desk.path(name).metadata().unwrap().permissions().mode() & 0o7777;
    for folder in ["in/open", "in/shut"] {
        std::fs::create_dir(desk.path(folder)).unwrap();
        desk.write(&format!("{folder}/file"), b"x");
    }
    desk.write("new", b"");
    std::fs::create_dir(desk.path("folder")).unwrap();
    let (usual, usual_folder) = (mode("new"), mode("folder"));
    set("in/shut", 0o500);
    let outputs = ["--masks", "masks", "--report", "report", "--plot", "plots"];
    let args = [&["prune", "in", "-o", "out", "--overwrite"][..], &outputs].concat();
    desk.succeed(&args);
    assert_eq!([mode("out"), mode("out/open"), mode("out/shut")], [usual_folder, usual_folder, 0o700]);
    assert_eq!(mode("plots"), usual_folder);
    for name in ["masks", "report", "plots/model.svg", "plots/emprune_report.json", "out/emprune_report.json"] {
        assert_eq!(mode(name), usual, "{name}");
    }
    set("in", 0o700);
    desk.succeed(&args);
    assert_eq!([mode("out"), mode("out/open"), mode("out/shut")], [0o700, usual_folder, 0o700]);
    assert_eq!((mode("out/open/file"), mode("plots")), (usual, 0o700));
    for name in ["masks", "report", "plots/model.svg", "plots/emprune_report.json", "out/emprune_report.json"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    // A file's directory has no say.
    let shard = format!("in/{}", crate::shards::A);
    for of in [usual, 0o600] {
        set(&shard, of);
        desk.succeed(&[&["prune", &shard, "-o", "file", "--overwrite"][..], &outputs].concat());
        for name in ["file", "masks", "report", "plots/model.svg", "plots/emprune_report.json"] {
            assert_eq!(mode(name), of, "{name}");
        }
        assert_eq!(mode("plots"), if of == usual { usual_folder } else { 0o700 });
    }
}

/// Nor was any of it for a moment: who has opened a file reads what is written later.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_written_to_what_others_could_open() {
    use crate::steps::{is_traced, trace};
    if !is_traced() {
        return;
    }
    let desk = crate::shards::checkpoint();
    let shard = format!("in/{}", crate::shards::A);
    let outputs = ["--masks", "masks", "--report", "report", "--plot", "plots"];
    for (input, output) in [("in", "out"), (&*shard, "file")] {
        let args = [&["prune", input, "-o", output, "--overwrite"][..], &outputs].concat();
        let (run, calls) = trace(&desk, "openat,mkdir,write,pwrite64,ftruncate,copy_file_range", None, &args);
        assert!(run.status.success(), "{:?}", texts(&run));
        let (mut private, mut written) = (std::collections::BTreeSet::new(), 0);
        for call in &calls {
            let made = if call.starts_with("mkdir(") { ", 0700) = 0" } else { ", 0600) = " };
            let path = call.split('"').nth(1).unwrap_or_default();
            if call.starts_with("mkdir(") || call.starts_with("openat(") && call.contains("O_CREAT") {
                if call.contains(made) {
                    private.insert(path.to_owned())
                } else {
                    private.remove(path)
                };
            } else if let Some(at) = call.find("(").filter(|_| call.contains("/")) {
                let path = call[at..].split(['<', '>']).nth(1).unwrap_or_default();
                let is_private =
                    std::path::Path::new(path).ancestors().any(|path| private.contains(path.to_str().unwrap()));
                let is_ours = path.ends_with(".emprune-partial") || path.contains(".emprune-partial/");
                assert!(is_private || !is_ours || path.contains(".emprune-note"), "{call}");
                written += usize::from(is_private);
            }
        }
        assert!(written > 5, "{written} of {calls:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_pruned_picture_is_as_private_as_the_picture() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let grey = |x, y| ::image::Luma([(x * y) as u8]);
    ::image::GrayImage::from_fn(8, 8, grey).save(desk.path("in.png")).unwrap();
    let mode = |name: &str| desk.path(name).metadata().unwrap().permissions().mode() & 0o777;
    for of in [mode("in.png"), 0o600] {
        std::fs::set_permissions(desk.path("in.png"), std::fs::Permissions::from_mode(of)).unwrap();
        desk.succeed(&["image", "in.png", "-o", "out.png", "--report", "report", "--overwrite"]);
        assert_eq!([mode("out.png"), mode("report")], [of, of]);
    }
}

/// They are replaced as all outputs are, and nothing is written through a link.
#[cfg(unix)]
#[test]
fn manual_pages_replace_links_and_leave_what_those_lead_to() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("pages")).unwrap();
    desk.write("precious", b"as it was");
    desk.write("new", b"");
    std::os::unix::fs::symlink("../precious", desk.path("pages/emprune-prune.1")).unwrap();
    for _ in 0..2 {
        assert!(desk.run(&["man", "pages"]).status.success());
        assert_eq!(desk.read("precious"), b"as it was");
        let page = desk.path("pages/emprune-prune.1").symlink_metadata().unwrap();
        assert!(page.is_file() && page.permissions() == desk.path("new").metadata().unwrap().permissions());
        let names: Vec<_> = crate::desk::tree(&desk.path("pages")).into_keys().collect();
        assert!(names.len() > 10 && names.iter().all(|name| name.ends_with(".1")), "{names:?}");
    }
}
