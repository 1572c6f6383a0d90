//! `emprune verify`: what it accepts, and what it says of the rest.

use crate::desk::{Desk, f32s, model, texts};
use crate::shards::{A, B, INDEX, checkpoint};
use std::fs;

fn desk() -> Desk {
    let desk = Desk::new();
    let w = f32s(&[1.0, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    let v: Vec<f32> = (0..30u8).map(|i| f32::from(i) - 14.5).collect();
    desk.write(
        "in",
        &model(&[("b", "I8", &[3], vec![1, 2, 3]), ("v", "F32", &[10, 3], f32s(&v)), ("w", "F32", &[2, 4], w)]),
    );
    desk
}

#[test]
fn what_prune_wrote_is_accepted_with_the_same_options_only() {
    let desk = desk();
    let norms = model(&[("v", "F32", &[3], f32s(&[0.5, 1.0, 2.0])), ("w", "F32", &[4], f32s(&[1.0, 0.1, 9.0, 1.0]))]);
    desk.write("norms", &norms);
    let options: [&[&str]; 6] = [
        &[],
        &["--granularity", "tensor"],
        &["--granularity", "global", "--beta", "0.7"],
        &["--beta", "0.5"],
        &["--score", "wanda", "--norms", "norms"],
        &["--targets", "w"],
    ];
    for (i, pruned) in options.iter().enumerate() {
        desk.succeed(&[&["prune", "in", "-o", "out", "--masks", "masks", "--overwrite"], *pruned].concat());
        for (j, asked) in options.iter().enumerate() {
            let verify = [&["verify", "in", "out", "--masks", "masks", "--backend", "cpu"], *asked].concat();
            if i == j {
                let (stdout, stderr) = texts(&desk.run(&verify));
                assert!(stdout.starts_with("out is what these options make of in: "), "{stdout} {stderr}");
                assert_eq!((stdout.lines().count(), stderr.as_str()), (1, ""));
            } else {
                desk.fail(&verify, 1, &[]);
            }
        }
    }
}

#[test]
fn the_first_difference_is_named() {
    let desk = desk();
    desk.succeed(&["prune", "in", "-o", "out", "--masks", "masks"]);
    let (whole, masks) = (desk.read("out"), desk.read("masks"));
    let data = whole.len() - 3 - 120 - 32;
    let verify = ["verify", "in", "out", "--masks", "masks", "--backend", "cpu"];
    for (at, place) in [
        (3, "the header, byte 3"),
        (data - 1, "the header"),
        (data + 2, "tensor \"b\", byte 2"),
        (data + 3 + 4 * 17 + 3, "tensor \"v\", entry 17"),
        (whole.len() - 1, "tensor \"w\", entry 7"),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x80;
        desk.write("out", &bytes);
        desk.fail(&verify, 1, &["out is not what these options make of the input", place, "differs"]);
    }
    desk.write("out", &[whole.as_slice(), b"x"].concat());
    desk.fail(&verify, 1, &["bytes, and should have"]);
    desk.write("out", &whole);
    let mut bytes = masks.clone();
    *bytes.last_mut().unwrap() ^= 0b10_0000;
    desk.write("masks", &bytes);
    desk.fail(&verify, 1, &["masks is not what", "tensor \"w\", bit 5"]);
    bytes[10] ^= 1;
    desk.write("masks", &bytes);
    desk.fail(&verify, 1, &["masks"]);
    desk.fail(&["verify", "in", "gone"], 1, &["gone", "cannot open"]);
    desk.fail(&["verify", "in", "in"], 1, &["entry"]);
    desk.fail(&["verify", "in"], 2, &["OUTPUT"]);
}

/// One word makes the command of prune its check.
#[test]
fn the_words_of_prune_are_understood() {
    let desk = desk();
    let rest = ["in", "-o", "out", "--masks", "masks", "--beta", "0.8", "--report", "report", "--overwrite"];
    desk.succeed(&[&["prune"], &rest[..]].concat());
    let before = desk.everything();
    let (stdout, stderr) = desk.succeed(&[&["verify"], &rest[..], &["--plot", "plots"]].concat());
    assert!(stdout.starts_with("out is what these options make of in: "), "{stdout}");
    assert_eq!(stderr, "note: verify writes nothing, and has no use for --report, --plot, --overwrite\n");
    assert!(desk.everything() == before, "verify wrote something");
    let (_, stderr) = desk.succeed(&["verify", "in", "--output", "out", "--beta", "0.8"]);
    assert_eq!(stderr, "");
    // Not another file, and only one.
    desk.fail(
        &["verify", "in", "-o", "in", "--backend", "cpu"],
        1,
        &["in is not what these options make of the input"],
    );
    desk.fail(&["verify", "in", "out", "-o", "out"], 2, &["--output", "OUTPUT"]);
    desk.fail(&["verify", "in", "-o", "out", "--json"], 2, &["--json"]);
}

#[test]
fn verify_goes_over_every_file() {
    let desk = checkpoint();
    desk.succeed(&["prune", "in", "-o", "out", "--granularity", "global", "--masks", "masks"]);
    let verify = ["verify", "in", "out", "--granularity", "global", "--masks", "masks", "--backend", "cpu"];
    let output = desk.run(&verify);
    assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
    for name in [A, B, INDEX, "config.json", "tokenizer.json"] {
        let file = format!("out/{name}");
        let whole = desk.read(&file);
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            desk.write(&file, &bytes);
            desk.fail(&verify, 1, &[name]);
        }
        desk.write(&file, &whole[1..]);
        desk.fail(&verify, 1, &[name, "bytes"]);
        fs::remove_file(desk.path(&file)).unwrap();
        desk.fail(&verify, 1, &[name, "cannot open"]);
        desk.write(&file, &whole);
    }
    desk.write("out/model-00003-of-00002.safetensors", b"");
    desk.fail(&verify, 1, &["model-00003-of-00002.safetensors", "the input has no such file"]);
}

/// What would be passed over in an input may be in an output too: a history, or a cache.
#[cfg(unix)]
#[test]
fn verify_passes_over_what_prune_does_not_copy() {
    let desk = checkpoint();
    fs::create_dir(desk.path("in/sub")).unwrap();
    desk.write("in/sub/file", b"x");
    desk.succeed(&["prune", "in", "-o", "out"]);
    for name in ["out/.git", "out/sub/.cache"] {
        fs::create_dir(desk.path(name)).unwrap();
        desk.write(&format!("{name}/file"), b"x");
    }
    std::os::unix::fs::symlink("..", desk.path("out/link")).unwrap();
    desk.write("out/.a.emprune-partial", b"half");
    let verify = ["verify", "in", "out", "--backend", "cpu"];
    let output = desk.run(&verify);
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for part in [
        "note: out/.git is a hidden directory and is not looked at",
        "note: out/sub/.cache is a hidden directory",
        "note: out/link is no regular file",
        "note: out/.a.emprune-partial was left",
    ] {
        assert!(stderr.contains(part), "{stderr:?} without {part:?}");
    }
    // Hidden files are copied, so none may be more; and so are directories that are not hidden.
    desk.write("out/.hidden", b"");
    desk.fail(&verify, 1, &["out/.hidden is in the output", "no such file"]);
    fs::remove_file(desk.path("out/.hidden")).unwrap();
    fs::create_dir(desk.path("out/more")).unwrap();
    desk.fail(&verify, 1, &["out/more is in the output", "no such file"]);
}
