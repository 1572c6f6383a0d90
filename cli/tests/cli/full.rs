//! Disks without room, and files that may not grow.
#![cfg(target_os = "linux")]

use crate::desk::{Desk, f32s, model, skipped, texts, tree};
use std::fs;
use std::process::Command;

/// A checkpoint of two megabytes.
fn desk() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    let values: Vec<f32> = (0..1u64 << 19).map(|i| (i * 2_654_435_761 % 8191) as f32 - 4000.0).collect();
    desk.write("in/model.safetensors", &model(&[("w", "F32", &[1 << 9, 1 << 10], f32s(&values))]));
    desk.write("in/other", &[7; 1 << 16]);
    desk
}

/// Both of a file and of a directory.
fn runs(output: &str) -> [Vec<String>; 2] {
    let args = |input: &str, more: &[&str]| {
        let all = [&["prune", input, "-o", output, "--backend", "cpu"], more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    [args("in/model.safetensors", &["--granularity", "global"]), args("in", &[])]
}

#[test]
fn a_file_that_may_not_grow_is_an_error_without_debris() {
    let desk = desk();
    for args in runs("out") {
        // In blocks of 512 or 1024 bytes; the signal that comes with it ends who does not care.
        let script = "ulimit -f 1000; exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_emprune")]).args(&args).current_dir(desk.path("."));
        let output = command.output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains("File too large"), "{stderr}");
        assert_eq!(desk.names(), ["in"]);
    }
}

/// A file system of a megabyte, at `disk`, for as long as it is looked at.
fn with_small_disk(desk: &Desk, check: impl FnOnce()) {
    fs::create_dir(desk.path("disk")).unwrap();
    let mount = |args: &[&str]| Command::new("mount").args(args).current_dir(desk.path(".")).output();
    let mounted = mount(&["-t", "tmpfs", "-o", "size=1m", "emprune-test", "disk"]);
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "a small file system cannot be mounted: {mounted:?}");
        skipped(&format!("a small file system cannot be mounted here, which only root may do: {mounted:?}"));
        return;
    }
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    let unmounted = Command::new("umount").arg(desk.path("disk")).status();
    assert!(unmounted.unwrap().success());
    checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Another mount of a directory has other paths, and is the same.
#[test]
fn another_mount_of_the_input_is_the_input() {
    let desk = desk();
    desk.write("in/emprune_report.json", b"{}");
    fs::create_dir(desk.path("view")).unwrap();
    let mounted = Command::new("mount").args(["--bind", ".", "view"]).current_dir(desk.path(".")).status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "a directory cannot be mounted");
        skipped("a directory cannot be mounted here, which only root may do");
        return;
    }
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let before = tree(&desk.path("in"));
        desk.fail(&["prune", "view/in", "-o", "in", "--overwrite"], 1, &["in is the input view/in"]);
        desk.fail(&["prune", "in", "-o", "view/in/out"], 1, &["view/in/out is inside the input in"]);
        desk.fail(&["prune", "view/in", "-o", "in/out"], 1, &["in/out is inside the input view/in"]);
        desk.fail(&["prune", "in", "-o", "out", "--report", "view/in/report"], 1, &["inside the input in"]);
        assert!(tree(&desk.path("in")) == before);
    }));
    assert!(Command::new("umount").arg(desk.path("view")).status().unwrap().success());
    refused.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_full_disk_is_an_error_without_debris() {
    let desk = desk();
    with_small_disk(&desk, || {
        for args in runs("disk/out") {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let output = desk.run(&args);
            let (stdout, stderr) = texts(&output);
            assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
            assert!(stderr.starts_with("error: ") && stderr.contains("No space left on device"), "{stderr}");
            assert!(tree(&desk.path("disk")).is_empty(), "debris: {:?}", tree(&desk.path("disk")).keys());
        }
        // Room for the weights, and none for the rest.
        let args = ["prune", "in", "-o", "out", "--masks", "disk/masks", "--report", "disk/report", "--backend", "cpu"];
        fs::write(desk.path("disk/filler"), vec![1; (1 << 20) - 4096]).unwrap();
        desk.fail(&args, 1, &["No space left on device"]);
        assert_eq!(desk.names(), ["disk", "in"]);
    });
}

/// Block by block: whatever it is that finds no room, the note of what is about to get its name too, is taken away and leaves room.
#[test]
fn a_disk_that_is_full_at_any_step_is_an_error_without_debris() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[2, 4], f32s(&[1.0, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]))]));
    with_small_disk(&desk, || {
        let args =
            ["prune", "in", "-o", "disk/out", "--masks", "disk/masks", "--plot", "disk/plots", "--backend", "cpu"];
        let mut of_note = 0;
        for free in 0..100 {
            desk.write("disk/filler", &vec![1; (1 << 20) - 4096 * free]);
            let output = desk.run(&args);
            let (_, stderr) = texts(&output);
            let left: Vec<_> = tree(&desk.path("disk")).into_keys().collect();
            if output.status.success() {
                assert!(of_note > 0, "the note always found room");
                return;
            }
            assert!(stderr.contains("No space left on device"), "{free}: {stderr}");
            assert_eq!(left, ["filler"], "{free}: {stderr}");
            of_note += usize::from(stderr.contains(".emprune-note: "));
        }
        panic!("it never found room");
    });
}

#[test]
fn a_read_only_disk_is_an_error() {
    let desk = desk();
    with_small_disk(&desk, || {
        let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(desk.path("disk")).status();
        assert!(remount.unwrap().success());
        for input in ["in", "in/model.safetensors"] {
            let args = ["prune", input, "-o", "disk/out", "--backend", "cpu"];
            desk.fail(&args, 1, &["cannot create", "out", "Read-only file system"]);
        }
        desk.fail(&["inspect", "in", "--masks", "disk/masks", "--backend", "cpu"], 1, &["Read-only file system"]);
    });
}

/// Pieces are written while others are worked on, and the error is not that of the piece that was worked on when it came.
#[test]
fn a_full_disk_names_the_tensor_that_found_no_room() {
    let desk = Desk::new();
    // The second finds room for half of it, the others are small.
    let small = f32s(&[1.0, 2.0, 3.0, 4.0].repeat(64));
    let parts = [
        ("a", "F32", &[1 << 8, 1 << 9][..], f32s(&[1.0, 2.0, 3.0, 4.0].repeat(1 << 15))),
        ("b", "F32", &[1 << 9, 1 << 9][..], f32s(&[4.0, 3.0, 2.0, 1.0].repeat(1 << 16))),
        ("c", "F32", &[4, 64][..], small.clone()),
        ("d", "F32", &[4, 64][..], small.clone()),
    ];
    desk.write("in", &model(&parts));
    with_small_disk(&desk, || {
        for granularity in ["row", "tensor", "global"] {
            let args = ["prune", "in", "-o", "disk/out", "--granularity", granularity, "--backend", "cpu"];
            desk.fail(&args, 1, &["tensor \"b\" of in", "cannot write ", "disk/out: No space left on device"]);
        }
    });
}
