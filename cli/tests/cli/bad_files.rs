//! Files that are not what they should be: a clear error, exit code 1, and nothing is written.

use crate::desk::{Desk, f32s, model, texts, with_header};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Both commands refuse it, wherever they write.
fn refuse(desk: &Desk, input: &str, parts: &[&str]) {
    desk.fail(&["prune", input, "-o", "out", "--report", "report", "--masks", "masks"], 1, parts);
    desk.fail(&["inspect", input, "--report", "report", "--masks", "masks"], 1, parts);
}

fn refuse_bytes(bytes: &[u8], parts: &[&str]) {
    let desk = Desk::new();
    desk.write("in", bytes);
    refuse(&desk, "in", &[parts, &["in: "]].concat());
}

fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn missing_empty_or_no_file() {
    let desk = Desk::new();
    refuse(&desk, "gone", &["gone", "cannot open"]);
    refuse(&desk, ".", &["neither", "model.safetensors"]);
    refuse_bytes(b"", &["empty"]);
    refuse_bytes(b"1234567", &["truncated", "length 7", "first 8"]);
    refuse_bytes(b"this is a text and no safetensors file", &["not a safetensors file", "header would have"]);
}

/// Files that lie beside the one that is meant, or that have its name.
#[test]
fn files_of_other_formats_are_told_by_what_they_are() {
    let index = br#"{"metadata":{"total_size":8},"weight_map":{"a":"b.safetensors"}}"#;
    refuse_bytes(index, &["not a safetensors file, but JSON", "the directory that holds the index"]);
    refuse_bytes(b"{\n  \"weight_map\": {}}", &["but JSON"]);
    refuse_bytes(b"GGUF\x03\0\0\0\0\0\0\0", &["but GGUF"]);
    refuse_bytes(b"PK\x03\x04\0\0\x08\x08\0\0", &["but a zip archive", "convert it to safetensors"]);
    // Of a length that a header could have.
    refuse_bytes(&[&b"PK\x03\x04\0\0\0\0\0\0"[..], &[0; 200]].concat(), &["but a zip archive"]);
    refuse_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", &["but a pointer of Git LFS"]);
    refuse_bytes(b"\x08\x07\x12\x07pytorch", &["but ONNX", "convert its initializers"]);
    refuse_bytes(b"\x1c\0\0\0TFL3\x14\0 \0", &["but TensorFlow Lite"]);
    refuse_bytes(b"\xfd7zXZ\0\0\x04", &["compressed by xz"]);
    refuse_bytes(b"\x28\xb5\x2f\xfd\x04\0\0\0", &["compressed by zstd"]);
    refuse_bytes(b"\x93NUMPY\x01\0v\0{'descr'", &["an array of NumPy"]);
    refuse_bytes(&[0; 4096], &["zeros", "not finished"]);
    refuse_bytes(&[&[b'x'; 257][..], b"ustar\x0000", &[0; 300]].concat(), &["a tar archive"]);
    let name = b"blk.0.attn_q.weight";
    let old = [&2i32.to_le_bytes()[..], &(name.len() as i32).to_le_bytes(), name, &[1, 0, 0, 0, 4, 0, 0, 0]].concat();
    refuse_bytes(&old, &["importance matrix in the old format", "llama-imatrix --in-file"]);
    refuse_norms(&old, &["the norms file", "importance matrix in the old format"]);
    // A header of 123 bytes begins with a brace too.
    let mut header = one("U8", "[8]", "[0,8]");
    header += &" ".repeat(123 - header.len());
    let file = with_header(&header, &[0; 8]);
    assert_eq!(file[0], b'{');
    refuse_desk(&file, &["nothing to prune", "dtype U8"]);
}

fn refuse_desk(bytes: &[u8], parts: &[&str]) {
    let desk = Desk::new();
    desk.write("in", bytes);
    refuse(&desk, "in", parts);
}

/// To open a pipe is to wait for somebody who writes to it.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_file() {
    let desk = Desk::new();
    assert!(Command::new("mkfifo").arg(desk.path("pipe")).status().unwrap().success());
    desk.write("in", &model(&[("w", "F32", &[1, 2], f32s(&[1.0, 2.0]))]));
    for args in [
        &["inspect", "pipe"][..],
        &["inspect", "in", "--score", "wanda", "--norms", "pipe"],
        &["inspect", "in", "--score", "wanda", "--norms", "in", "--norm-map", "pipe"],
        &["inspect", "in", "--recipe", "pipe"],
        &["verify", "in", "pipe"],
        &["image", "pipe", "-o", "out"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_emprune"));
        let mut child = child.args(args).current_dir(desk.path(".")).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let (_, stderr) = texts(&output);
        assert!(output.status.code() == Some(1) && stderr.contains("not a regular file"), "{args:?}: {stderr}");
    }
}

/// Names that are no text, and nobody who listens.
#[cfg(target_os = "linux")]
#[test]
fn odd_names_and_a_full_log_stop_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    let name = std::ffi::OsStr::from_bytes(b"m\xff");
    std::fs::write(desk.path(".").join(name), model(&[("w", "F32", &[1, 2], f32s(&[1.0, 2.0]))])).unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
    command.arg("prune").arg(name).args(["-o", "out", "--json", "--backend", "cpu"]).current_dir(desk.path("."));
    let output = command.stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(desk.path("out").is_file());
}

/// A terminal does what is written to it.
#[test]
fn names_of_strangers_are_shown_without_their_control_characters() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "\\u001b[2J", &[1, 2], vec![1, 2])]));
    let output = desk.run(&["inspect", "in"]);
    let (_, stderr) = texts(&output);
    assert!(output.status.code() == Some(1) && !stderr.contains('\u{1b}') && stderr.contains("[2J"), "{stderr:?}");
}

#[test]
fn truncated_at_any_byte() {
    let whole = model(&[("w", "F32", &[1, 2], f32s(&[1.0, 2.0])), ("v", "U8", &[1], vec![1])]);
    for len in 0..whole.len() {
        let desk = Desk::new();
        desk.write("in", &whole[..len]);
        desk.fail(&["prune", "in", "-o", "out"], 1, &["in: "]);
    }
}

/// Whatever bit of the header is wrong, the file is refused, or is another one that is pruned as it stands; never a panic.
#[test]
fn a_bit_is_flipped_anywhere_in_the_header() {
    let whole = model(&[("w", "F32", &[1, 2], f32s(&[1.0, 2.0])), ("v", "U8", &[1], vec![1])]);
    for at in 0..whole.len() - 9 {
        let desk = Desk::new();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        desk.write("in", &bytes);
        let output = desk.run(&["prune", "in", "-o", "out", "--backend", "cpu"]);
        let names: &[&str] = if output.status.code() == Some(0) { &["in", "out"] } else { &["in"] };
        assert!(matches!(output.status.code(), Some(0 | 1)), "byte {at}: {output:?}");
        assert_eq!(desk.names(), names, "byte {at}");
    }
}

#[test]
fn a_header_length_that_lies() {
    let length = |n: u64| [&n.to_le_bytes(), b"{}".as_slice()].concat();
    refuse_bytes(&length(3), &["truncated", "3 bytes", "only 2"]);
    refuse_bytes(&length(1), &["header"]);
    refuse_bytes(&length(0), &["header"]);
    refuse_bytes(&length(100_000_001), &["100000001", "100000000"]);
    refuse_bytes(&length(u64::MAX), &["18446744073709551615"]);
}

#[test]
fn offsets_that_lie() {
    let refuse_header =
        |header: &str, data: usize, parts: &[&str]| refuse_bytes(&with_header(header, &vec![0; data]), parts);
    refuse_header(&one("F32", "[1,2]", "[8,0]"), 8, &["\"t\"", "byte 0", "byte 8"]);
    refuse_header(&one("F32", "[1,2]", "[0,8]"), 7, &["\"t\"", "byte 8", "has 7"]);
    refuse_header(&one("F32", "[1,2]", "[0,8]"), 9, &["byte 8", "has 9"]);
    refuse_header(&one("F32", "[1,2]", "[1,9]"), 9, &["bytes 0 to 1", "\"t\""]);
    refuse_header(&one("F32", "[1,2]", "[0,18446744073709551615]"), 8, &["\"t\"", "18446744073709551615", "has 8"]);
    let two =
        r#"{"s":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#;
    refuse_header(two, 7, &["\"t\"", "inside \"s\""]);
}

#[test]
fn shapes_that_lie() {
    let refuse_header = |header: &str, parts: &[&str]| refuse_bytes(&with_header(header, &[0; 8]), parts);
    refuse_header(&one("F32", "[1,3]", "[0,8]"), &["\"t\"", "12 bytes", "8"]);
    refuse_header(&one("BF16", "[2]", "[0,8]"), &["\"t\"", "4 bytes", "8"]);
    refuse_header(&one("F32", "[4294967296,4294967296]", "[0,8]"), &["\"t\"", "64 bits"]);
    refuse_header(&one("F32", "[9223372036854775808,2,0]", "[0,8]"), &["\"t\"", "64 bits"]);
    refuse_header(&one("F32", "[-2]", "[0,8]"), &["\"t\"", "-2"]);
    refuse_header(&one("F32", "[2.0]", "[0,8]"), &["\"t\"", "2.0"]);
}

#[test]
fn headers_of_another_form() {
    let tensor = r#"{"dtype":"U8","shape":[8],"data_offsets":[0,8]}"#;
    for (header, part) in [
        ("[1]".to_owned(), "header"),
        (r#"{"t":"#.into(), "header"),
        (format!(r#"{{"t":{tensor},"t":{tensor}}}"#), "\"t\" appears twice"),
        (r#"{"t":{"dtype":"U8","shape":[8]}}"#.into(), "data_offsets"),
        (format!(r#"{{"__metadata__":{{"a":[1]}},"t":{tensor}}}"#), "__metadata__"),
    ] {
        refuse_bytes(&with_header(&header, &[0; 8]), &[part]);
    }
    let mut file = with_header(&one("F32", "[2]", "[0,8]"), &[0; 8]);
    file[8] = 0xff;
    refuse_bytes(&file, &["UTF-8"]);
}

/// A file of one weight of two rows of three, and a norms file.
fn wanda(norms: &[u8]) -> Desk {
    let desk = Desk::new();
    desk.write("in", &model(&[("layer.w", "F32", &[2, 3], f32s(&[1.0; 6]))]));
    desk.write("norms", norms);
    desk
}

fn refuse_norms(norms: &[u8], parts: &[&str]) {
    let args = ["prune", "in", "-o", "out", "--masks", "masks", "--score", "wanda", "--norms", "norms"];
    wanda(norms).fail(&args, 1, &[parts, &["norms"]].concat());
}

#[test]
fn norms_that_do_not_fit() {
    let norms = |dtype, shape: &[u64], bytes| model(&[("layer.w", dtype, shape, bytes)]);
    refuse_norms(b"", &["empty"]);
    refuse_norms(&model(&[("layer.v", "F32", &[3], f32s(&[1.0; 3]))]), &["\"layer.w\"", "3", "1 other"]);
    refuse_norms(&norms("F32", &[2], f32s(&[1.0; 2])), &["\"layer.w\"", " 2,", "3 columns"]);
    refuse_norms(&norms("F32", &[1], f32s(&[1.0])), &["\"layer.w\"", " 1,", "3 columns"]);
    refuse_norms(&norms("F32", &[3, 1], f32s(&[1.0; 3])), &["\"layer.w\"", "[3, 1]", "vector"]);
    refuse_norms(&norms("F16", &[3], vec![0; 6]), &["\"layer.w\"", "F16", "F32"]);
    refuse_norms(&norms("F64", &[3], vec![0; 24]), &["\"layer.w\"", "F64", "F32"]);
    for (value, kind) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinity"), (f32::NEG_INFINITY, "infinity")] {
        refuse_norms(&norms("F32", &[3], f32s(&[1.0, 2.0, value])), &["\"layer.w\"", "entry 2", kind]);
    }
    let desk = wanda(b"");
    desk.fail(
        &["prune", "in", "-o", "out", "--score", "wanda", "--norms", "gone"],
        1,
        &["norms", "gone", "cannot open"],
    );
}

/// Files beside a model are read whole: they have a length that fits their use.
#[test]
fn recipes_and_maps_that_never_end_are_refused() {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[1, 2], f32s(&[1.0, 2.0]))]));
    desk.write("long", &vec![b' '; (32 << 20) + 1]);
    desk.fail(&["inspect", "in", "--recipe", "long"], 1, &["long", "it is longer than 1048576 bytes"]);
    let wanda = ["inspect", "in", "--score", "wanda", "--norms", "in", "--norm-map", "long"];
    desk.fail(&wanda, 1, &["long", "it is longer than 33554432 bytes"]);
}
