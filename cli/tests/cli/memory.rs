//! `--memory`: what a run takes, whatever the file.
#![cfg(target_os = "linux")]

use crate::desk::{Desk, f32s, model, tensor, texts, with_header};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A file of zeros and few others, mostly holes.
fn zeros(desk: &Desk, name: &str, rows: u64, columns: u64) {
    let bytes = 2 * rows * columns;
    let header = format!(r#"{{"w":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[0,{bytes}]}}}}"#);
    desk.write(name, &with_header(&header, &f32s(&[1.0, 2.0, 3.0, 4.0])));
    let file = File::options().write(true).open(desk.path(name)).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
}

/// Whether less is asked for, where time is short.
fn is_small() -> bool {
    std::env::var("EMPRUNE_TEST_SIZE").is_ok_and(|size| size == "small")
}

/// The most memory that a process had so far, in bytes.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("status")).ok()?;
    // A child that is about to become the program has our memory for a moment, and our name.
    status.lines().find(|line| *line == "Name:\temprune")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * line.trim().trim_end_matches(" kB").parse::<u64>().ok()?)
}

#[test]
fn memory_stays_below_what_is_allowed() {
    let desk = Desk::new();
    // Few rows and so many that what is decided about each fills more than is allowed: 56 bytes and more.
    zeros(&desk, "few", if is_small() { 40 << 10 } else { 64 << 10 }, 4 << 10);
    zeros(&desk, "many", 4 << 20, 16);
    // One row, in which there are as many contests; and columns of which each is more than is held at once.
    zeros(&desk, "flat", 1, 64 << 20);
    zeros(&desk, "wide", 2, 2 << 20);
    zeros(&desk, "tall", 32 << 20, 3);
    // So many columns that what is decided about all of them is many times what is allowed.
    zeros(&desk, "broad", 5, (8 << 20) + 1);
    for (input, question) in [
        ("few", &["--granularity", "row"][..]),
        ("few", &["--granularity", "tensor"]),
        ("few", &["--granularity", "global"]),
        ("few", &["--granularity", "column"]),
        ("few", &["--granularity", "block:4x4"]),
        ("few", &["--nm", "2:4"]),
        ("many", &["--granularity", "row"]),
        ("many", &["--structure", "row", "--norm", "l2"]),
        ("few", &["--granularity", if is_small() { "block:40960x1024" } else { "block:65536x1024" }]),
        ("flat", &["--nm", "2:4"]),
        ("flat", &["--granularity", "block:1x16"]),
        ("wide", &["--structure", "column", "--norm", "l1"]),
        ("tall", &["--granularity", "column"]),
        ("broad", &["--granularity", "column", "--masks", "masks"]),
        ("broad", &["--granularity", "block:2x1"]),
        ("broad", &["--granularity", "block:5x3"]),
        ("broad", &["--structure", "column"]),
    ] {
        let args = ["prune", input, "-o", "out", "--memory", "128MiB", "--backend", "cpu"];
        let most = peak_of(&desk, &[&args[..], question].concat());
        println!("{} MiB by {question:?}, {input}", most >> 20);
        assert!((16 << 20..128 << 20).contains(&most), "{} MiB by {question:?}, {input}", most >> 20);
        fs::remove_file(desk.path("out")).unwrap();
    }
}

/// What is decided some rows or columns at a time is read ahead as it will be asked for, and no more often than it must.
#[test]
fn contests_that_are_decided_in_several_runs_are_read_once() {
    let desk = Desk::new();
    zeros(&desk, "few", 1 << 10, 8 << 10);
    zeros(&desk, "broad", 5, (1 << 20) + 1);
    zeros(&desk, "flat", 1, 8 << 20);
    zeros(&desk, "high", 64, 300_001);
    many_zeros(&desk, 4, 1 << 20);
    for (input, question, times) in [
        ("few", ["--nm", "2:4"], 1),
        ("few", ["--granularity", "block:4x4"], 1),
        ("broad", ["--granularity", "column"], 1),
        ("broad", ["--granularity", "block:2x1"], 1),
        ("flat", ["--granularity", "chunk:8"], 1),
        ("in", ["--granularity", "row"], 1),
        // Each part is longer than a piece.
        ("high", ["--granularity", "column"], 2),
    ] {
        // What a shell has waited for is counted as its own.
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" >&2 && cat /proc/$$/io", "sh", env!("CARGO_BIN_EXE_emprune"), "inspect", input]);
        shell.args(["--memory", "64MiB", "--backend", "cpu"]).args(question).current_dir(desk.path("."));
        let (stdout, stderr) = texts(&shell.output().unwrap());
        let read = stdout.lines().find_map(|line| line.strip_prefix("rchar: ")).expect(&stderr);
        let (read, len): (u64, _) = (read.parse().unwrap(), fs::metadata(desk.path(input)).unwrap().len());
        let wanted = times * len..times * len + len / 8;
        assert!(wanted.contains(&read), "{read} bytes of {len} by {question:?}, {input}");
    }
}

/// Norms are as many as columns: one contest over many tensors needs those of one of them at a time.
#[test]
fn norms_are_not_all_in_memory_at_once() {
    let desk = Desk::new();
    let (tensors, columns) = (160, 1 << 18);
    for (name, dtype, size, shape) in
        [("in", "BF16", 2, format!("1,{columns}")), ("norms", "F32", 4, format!("{columns}"))]
    {
        let bytes = size * columns;
        let tensor = |i| {
            let (begin, end) = (i * bytes, (i + 1) * bytes);
            format!(r#""{i}.weight":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]}}"#)
        };
        let header = format!("{{{}}}", (0..tensors).map(tensor).collect::<Vec<_>>().join(","));
        desk.write(name, &with_header(&header, &f32s(&[1.0, 2.0, 3.0, 4.0])));
        let file = File::options().write(true).open(desk.path(name)).unwrap();
        file.set_len((8 + header.len() + tensors * bytes) as u64).unwrap();
    }
    for granularity in ["global", "row"] {
        let args = ["prune", "in", "-o", "out", "--memory", "128MiB", "--backend", "cpu", "--overwrite"];
        let wanda = ["--score", "wanda", "--norms", "norms", "--granularity", granularity];
        let most = peak_of(&desk, &[&args[..], &wanda].concat());
        println!("{granularity}: {} MiB", most >> 20);
        assert!(
            most < 128 << 20,
            "{} MiB by {granularity}, and the norms take {}",
            most >> 20,
            (4 * tensors * columns) >> 20
        );
    }
}

/// As many tensors of BF16 zeros, mostly holes, each called by its number.
fn many_zeros(desk: &Desk, tensors: u64, rows: u64) {
    let bytes = 2 * rows;
    let tensor = |i| {
        format!(
            r#""{i}.weight":{{"dtype":"BF16","shape":[{rows},1],"data_offsets":[{},{}]}}"#,
            i * bytes,
            (i + 1) * bytes
        )
    };
    let header = format!("{{{}}}", (0..tensors).map(tensor).collect::<Vec<_>>().join(","));
    desk.write("in", &with_header(&header, &f32s(&[1.0, 2.0, 3.0, 4.0])));
    let file = File::options().write(true).open(desk.path("in")).unwrap();
    file.set_len(8 + header.len() as u64 + tensors * bytes).unwrap();
}

/// A report names all structures that stay; until it is written they take a bit each, and not eight bytes.
#[test]
fn lists_of_structures_are_not_all_in_memory_at_once() {
    let desk = Desk::new();
    let rows = 1_500_000;
    let peak = |tensors, granularity| {
        many_zeros(&desk, tensors, rows);
        let args = ["prune", "in", "-o", "out", "--report", "report", "--structure", "row", "--overwrite"];
        peak_of(&desk, &[&args[..], &["--granularity", granularity, "--backend", "cpu"]].concat())
    };
    let (little, much) = (peak(1, "tensor"), peak(16, "tensor"));
    println!("{} MiB for one, {} MiB for 16", little >> 20, much >> 20);
    assert!(much < little + (100 << 20), "{} MiB and {} MiB: the lists take 172", little >> 20, much >> 20);
    // All but the first are zeros, and stay.
    assert_eq!(fs::read_to_string(desk.path("report")).unwrap().matches(",1499999]").count(), 15);
    if !is_small() {
        let all = peak(16, "global");
        println!("{} MiB for one contest", all >> 20);
        assert!(all < 256 << 20, "{} MiB", all >> 20);
    }
    // What stays of all of them is known before anything is read, and one that has room for itself may have none beside them.
    many_zeros(&desk, 1000, rows);
    for granularity in ["tensor", "global"] {
        let args = ["inspect", "in", "--structure", "row", "--granularity", granularity, "--memory", "256MiB"];
        desk.fail(&args, 1, &["tensor \"", "1500000 row structures", "more than --memory 256MiB allows", "before it"]);
    }
}

/// Where a list of structures is written, to the report, the journal or the standard output, its text is many times what it takes until then.
#[test]
fn lists_of_structures_are_written_as_they_are_made() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    let columns = 16 << 20;
    let shard = |number: usize, rows: u64, columns: u64| {
        let name = format!("in/{}.safetensors", ["a", "b"][number]);
        let bytes = 2 * rows * columns;
        let header =
            format!(r#"{{"w{number}":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[0,{bytes}]}}}}"#);
        desk.write(&name, &with_header(&header, &[]));
        File::options().write(true).open(desk.path(&name)).unwrap().set_len(8 + header.len() as u64 + bytes).unwrap();
    };
    desk.write("in/model.safetensors.index.json", br#"{"weight_map":{"w0":"a.safetensors","w1":"b.safetensors"}}"#);
    // The second shard takes seconds.
    shard(0, 1, columns);
    shard(1, 1 << 17, 1 << 12);
    let question = ["--structure", "column", "--sparsity", "0.01", "--backend", "cpu", "--memory", "128MiB"];
    let prune = [&["prune", "in", "-o", "out"], &question[..]].concat();
    let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
    let mut child = command.args(&prune).current_dir(desk.path(".")).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    let journal = desk.path("out.emprune-partial/.journal.emprune-partial");
    let last = || {
        let (mut file, mut last) = (File::open(&journal)?, [0]);
        file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map(|()| last[0])
    };
    let deadline = Instant::now() + Duration::from_secs(300);
    while !last().is_ok_and(|last| last == b'\n') {
        assert!(Instant::now() < deadline, "it does not come to its middle");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was in the middle");
        most = most.max(peak(&child).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
    most = most.max(peak(&child).unwrap_or_default());
    child.kill().unwrap();
    child.wait().unwrap();
    let text = fs::metadata(&journal).unwrap().len();
    assert!(text > 128 << 20, "the text of {text} bytes would fit");
    shard(1, 2, 16);
    let finished = fs::metadata(desk.path("out.emprune-partial/a.safetensors")).unwrap().modified().unwrap();
    let again = peak_of(&desk, &prune);
    assert_eq!(
        fs::metadata(desk.path("out/a.safetensors")).unwrap().modified().unwrap(),
        finished,
        "it was gone on with"
    );
    let inspect = [&["inspect", "in", "--json"], &question[..]].concat();
    for (what, most) in [("prune", most), ("go on", again), ("inspect", peak_of(&desk, &inspect))] {
        println!("{} MiB to {what}", most >> 20);
        assert!((1 << 20..128 << 20).contains(&most), "{} MiB to {what}", most >> 20);
    }
}

/// What is to be drawn of a tensor is drawn when the tensor is done.
#[test]
fn scores_that_were_drawn_take_no_memory() {
    let desk = Desk::new();
    // 52 KB each, if they stayed.
    let tensors = if is_small() { 1500 } else { 4000 };
    let tensor =
        |i| format!(r#""{i}.weight":{{"dtype":"F32","shape":[1,2],"data_offsets":[{},{}]}}"#, 8 * i, 8 * (i + 1));
    let header = format!("{{{}}}", (0..tensors).map(tensor).collect::<Vec<_>>().join(","));
    desk.write("in", &with_header(&header, &f32s(&[1e-44, 3e38].repeat(tensors))));
    let args = ["inspect", "in", "--plot", "plots", "--memory", "64MiB", "--backend", "cpu"];
    let most = peak_of(&desk, &args);
    println!("{} MiB", most >> 20);
    assert!(most < 64 << 20, "{} MiB", most >> 20);
    assert_eq!(fs::read_dir(desk.path("plots")).unwrap().count(), tensors + 2);
}

/// A file that is much longer than its picture is refused before it is read.
#[test]
fn a_picture_is_looked_at_before_it_is_read() {
    let desk = Desk::new();
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(20, 10).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let mut wide = jpeg.clone();
    wide[frame + 5..frame + 9].fill(0xff);
    // With its data, without it, with more pixels than there may be, and nothing but fill bytes' first.
    for (bytes, part) in [
        (&jpeg[..], "JPEG of 200 pixels"),
        (&jpeg[..frame + 10], "JPEG of 200 pixels"),
        (&wide, "may have 1 to"),
        (&jpeg[..4], "JPEG of 0 pixels"),
    ] {
        desk.write("in.jpg", bytes);
        File::options().write(true).open(desk.path("in.jpg")).unwrap().set_len(1 << 30).unwrap();
        let (_, stderr) = texts(&desk.run(&["image", "in.jpg", "-o", "out.png", "--backend", "cpu"]));
        assert!(stderr.starts_with("error: in.jpg: ") && stderr.contains(part), "{stderr:?} without {part:?}");
        let (most, is_done) = watch(&desk, &["image", "in.jpg", "-o", "out.png", "--backend", "cpu"]);
        assert!(!is_done && most < 128 << 20, "{} MiB", most >> 20);
    }
}

/// Run it to its end, and return the most memory that it had.
fn peak_of(desk: &Desk, args: &[&str]) -> u64 {
    let (most, is_done) = watch(desk, args);
    assert!(is_done, "{args:?}");
    most
}

/// The same, and whether it succeeded.
fn watch(desk: &Desk, args: &[&str]) -> (u64, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).args(args).current_dir(desk.path("."));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(peak(&child).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    let is_done = child.wait().unwrap().success();
    // Whoever sees nothing has measured nothing.
    assert!(!is_done || most > 1 << 20, "{args:?} was seen to take {most} bytes");
    (most, is_done)
}

#[test]
fn as_many_tensors_as_there_may_be_fit_too() {
    let desk = Desk::new();
    let (count, bytes) = (3 << 16, 16);
    let tensor = |i| {
        let (begin, end) = (i * bytes, (i + 1) * bytes);
        // Names as long as they may all be.
        format!(r#""model.layers.{i:0>130}.weight":{{"dtype":"F32","shape":[2,2],"data_offsets":[{begin},{end}]}}"#)
    };
    let header = format!("{{{}}}", (0..count).map(tensor).collect::<Vec<_>>().join(","));
    desk.write("in", &with_header(&header, &f32s(&[1.0, 2.0, 3.0, 4.0].repeat(count))));
    let granularities: &[_] = if is_small() { &["row"] } else { &["row", "tensor", "global"] };
    for granularity in granularities {
        let args = ["prune", "in", "-o", "out", "--masks", "masks", "--report", "report", "--overwrite"];
        let most = peak_of(&desk, &[&args[..], &["--granularity", granularity, "--backend", "cpu"]].concat());
        println!("{granularity}: {} MiB", most >> 20);
        assert!(most < 512 << 20, "{} MiB by {granularity}", most >> 20);
    }
}

/// A device that a processor stands in for takes the program's own memory. What driver and shaders take is measured with next to nothing
/// to prune; the rest is what `--memory` allows.
#[cfg(feature = "gpu")]
#[test]
fn a_gpu_without_memory_of_its_own_stays_below_what_is_allowed() {
    let wanted = crate::desk::wants_gpu();
    let Some(adapter) = emprune::gpu::adapters().into_iter().find(|a| wanted && a.software && a.backend == "Vulkan")
    else {
        crate::desk::skipped("there is no software adapter for Vulkan");
        return;
    };
    let desk = Desk::new();
    let f32_zeros = |name: &str, rows: u64| {
        let bytes = 4 * rows * 4096;
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":[{rows},4096],"data_offsets":[0,{bytes}]}}}}"#);
        desk.write(name, &with_header(&header, &f32s(&[1.0, 2.0, 3.0, 4.0])));
        File::options().write(true).open(desk.path(name)).unwrap().set_len(8 + header.len() as u64 + bytes).unwrap();
    };
    f32_zeros("little", 16);
    f32_zeros("much", 6 << 10);
    for granularity in ["row", "tensor"] {
        let peak = |input| {
            let args = ["prune", input, "-o", "out", "--overwrite", "--memory", "64MiB", "--granularity", granularity];
            peak_of(&desk, &[&args[..], &["--backend", "gpu", "--adapter", &adapter.name]].concat())
        };
        let (little, much) = (peak("little"), peak("much"));
        println!("{granularity}: {} MiB for next to nothing, {} MiB for 96", little >> 20, much >> 20);
        assert!(much < little + (64 << 20), "{} MiB and {} MiB by {granularity}", little >> 20, much >> 20);
    }
}

#[test]
fn rows_that_are_decided_in_several_runs_have_one_report() {
    let desk = Desk::new();
    // More rows than are decided at once at the least memory, and a row length that fills no byte of a mask.
    let (rows, columns) = (400_001u64, 3u64);
    let values: Vec<f32> = (0..rows * columns).map(|i| (i * 2_654_435_761 % 1009) as f32 - 300.0).collect();
    desk.write("in", &model(&[("w", "F32", &[rows, columns], f32s(&values))]));
    for (memory, name) in [("64MiB", "runs"), ("512MiB", "whole")] {
        let args = ["prune", "in", "-o", name, "--memory", memory, "--report", &format!("{name}.json")];
        desk.succeed(&[&args[..], &["--masks", &format!("{name}.masks")]].concat());
    }
    assert!(desk.read("runs") == desk.read("whole"));
    assert_eq!(tensor(&desk.read("runs.masks"), "w").len() as u64, (rows * columns).div_ceil(8));
    assert!(desk.read("runs.masks") == desk.read("whole.masks"));
    let report = |name: &str| {
        let mut report = desk.json(name);
        report["tensors"][0]["seconds"].take();
        report
    };
    assert_eq!(report("runs.json"), report("whole.json"));
    assert_eq!(report("runs.json")["tensors"][0]["contests"], rows);
    // A bad weight is found wherever it is, and counted from the tensor's first.
    let mut bad = values;
    bad[1_100_000] = f32::NAN;
    desk.write("bad", &model(&[("w", "F32", &[rows, columns], f32s(&bad))]));
    desk.fail(
        &["prune", "bad", "-o", "out", "--memory", "64MiB", "--backend", "cpu"],
        1,
        &["\"w\"", "entry 1100000 is NaN"],
    );
}

/// The sums of groups take many times what their scores do, and their members lie anywhere.
#[test]
fn groups_that_are_summed_in_several_passes_are_those_of_one() {
    let desk = Desk::new();
    // So many that the sums of all at once would take more than there is.
    let rows = 600_000u64;
    let values: Vec<f32> = (0..2 * rows).map(|i| (i * 2_654_435_761 % 1009) as f32 - 300.0).collect();
    desk.write("in", &model(&[("v", "F32", &[rows, 2], f32s(&values)), ("w", "F32", &[2, rows], f32s(&values))]));
    // Members lie anywhere.
    let number = |i: u64| ((i * 7_919 % rows) & !(i & 1)) as u32;
    let used: std::collections::BTreeSet<u32> = (0..rows).map(number).collect();
    let numbers: std::collections::BTreeMap<u32, u32> = used.into_iter().zip(0..).collect();
    let groups: Vec<u8> = (0..rows).flat_map(|i| numbers[&number(i)].to_le_bytes()).collect();
    desk.write("groups", &model(&[("v", "U32", &[rows], groups.clone()), ("w", "U32", &[1, rows], groups)]));
    for granularity in ["tensor", "global"] {
        let prune = |memory: &str| {
            let args = ["prune", "in", "-o", memory, "--overwrite", "--structure", "groups:groups", "--memory", memory];
            peak_of(&desk, &[&args[..], &["--granularity", granularity, "--backend", "cpu"]].concat())
        };
        let little = prune("64MiB");
        prune("2GiB");
        println!("{} MiB by {granularity}", little >> 20);
        assert!(little < 64 << 20, "{} MiB", little >> 20);
        assert!(desk.read("64MiB") == desk.read("2GiB"), "by {granularity}");
        let zeros = |file: &str| desk.read(file).chunks_exact(4).filter(|word| *word == [0; 4]).count();
        let lost = zeros("64MiB") - zeros("in");
        assert!(lost > 10_000, "{lost} entries lost by {granularity}");
    }
}

/// What grows with a shape, and not with a piece, is refused where there is no room for it, before anything is read.
#[test]
fn what_has_no_room_is_refused_by_name() {
    let desk = Desk::new();
    zeros(&desk, "wide", 4, 1 << 24);
    zeros(&desk, "flat", 1, 1 << 26);
    let sparse = |name: &str, dtype: &str, shape: &str, bytes: u64| {
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#);
        desk.write(name, &with_header(&header, &[]));
        File::options().write(true).open(desk.path(name)).unwrap().set_len(8 + header.len() as u64 + bytes).unwrap();
    };
    sparse("norms", "F32", "[67108864]", 4 << 26);
    sparse("vector", "F32", "[67108864]", 4 << 26);
    sparse("groups", "U8", "[1,16777216]", 1 << 24);
    sparse("deep", "BF16", "[4,64,1048576]", 2 << 28);
    for (input, question, what) in [
        ("flat", &["--structure", "column"][..], "67108864 column structures"),
        ("wide", &["--structure", "groups:groups"], "16777216 rows or columns with groups"),
        ("flat", &["--score", "wanda", "--norms", "norms", "--granularity", "tensor"], "67108864 norms"),
        (
            "vector",
            &["--score", "wanda", "--norms", "norms", "--granularity", "tensor", "--targets", "w"],
            "67108864 norms",
        ),
        ("deep", &["--structure", "column"], "what its rows are"),
    ] {
        let args = [&["inspect", input, "--backend", "cpu", "--memory", "64MiB"], question].concat();
        desk.fail(&args, 1, &["tensor \"w\"", what, "more than --memory 64MiB allows"]);
    }
    // With as much as is needed, it is done.
    let few = 4_000_000u64;
    desk.write("in", &model(&[("w", "BF16", &[1, few], vec![0; 2 * few as usize])]));
    desk.write("few", &model(&[("w", "F32", &[few], f32s(&vec![1.0; few as usize]))]));
    let args = ["inspect", "in", "--score", "wanda", "--norms", "few", "--memory"];
    desk.fail(&[&args[..], &["64MiB"]].concat(), 1, &["4000000 norms", "more than --memory 64MiB allows"]);
    desk.succeed(&[&args[..], &["128MiB"]].concat());
}

/// A header of a hundred million bytes, made of these parts over and over.
fn long_header(start: &str, part: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let mut header = String::with_capacity(100_000_000);
    header.push_str(start);
    for i in 0.. {
        let part = part(i);
        if header.len() + part.len() + end.len() > 100_000_000 {
            break;
        }
        header.push_str(&part);
    }
    header.push_str(end);
    with_header(&header, &f32s(&[1.0; 4]))
}

#[test]
fn a_header_of_a_hundred_million_bytes_takes_bounded_memory_and_time() {
    let last = r#""w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    let none = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let tensors = |i| format!(r#""{i}":{none},"#);
    let named = |i| format!(r#""{i:0>4096}":{none},"#);
    // One at a time: they are long.
    type Make<'a> = &'a dyn Fn() -> Vec<u8>;
    let axes = |i| {
        let shape = vec!["1"; 63].join(",");
        format!(r#""{i:0>200}":{{"dtype":"U8","shape":[0,{shape}],"data_offsets":[0,0]}},"#)
    };
    let headers: [(&str, Make<'_>, &str); 10] = [
        ("names and axes", &|| long_header("{", axes, last), "names and shapes take more than 32 MiB"),
        ("tensors", &|| long_header("{", tensors, last), "more than 196608 tensors"),
        ("long names", &|| long_header("{", named, last), "names and shapes take more than 32 MiB"),
        ("a name", &|| long_header("{\"", |_| "x".into(), &format!("\":{none},{last}")), "4096 are the most"),
        (
            "metadata",
            &|| long_header(r#"{"__metadata__":{"#, |i| format!(r#""{i}":"","#), &format!("\"\":\"\"}},{last}")),
            "",
        ),
        ("axes", &|| long_header(r#"{"v":{"shape":[1"#, |_| ",1".into(), &format!("]}},{last}")), "more than 64 axes"),
        ("a field", &|| long_header(r#"{"v":{"new":[1"#, |_| ",1".into(), &format!("]}},{last}")), "missing field"),
        (
            "a dtype",
            &|| {
                long_header(
                    r#"{"v":{"dtype":""#,
                    |_| "x".into(),
                    &format!(r#"","shape":[0],"data_offsets":[0,0]}},{last}"#),
                )
            },
            "64 are the most",
        ),
        ("depth", &|| long_header(r#"{"v":{"new":"#, |_| "[".into(), last), "expected `,` or `]`"),
        ("space", &|| long_header("{", |_| " ".into(), last), ""),
    ];
    let mut largest = 0;
    for (what, make, error) in headers {
        let desk = Desk::new();
        desk.write("in", &make());
        let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
        command.args(["inspect", "in", "--backend", "cpu"]).current_dir(desk.path("."));
        let begin = std::time::Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            most = most.max(peak(&child).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = begin.elapsed();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(if error.is_empty() { 0 } else { 1 }), "{what}: {:.300}", stderr);
        assert!(stderr.contains(error), "{what}: {:.300}", stderr);
        println!("{what}: {} MiB, {took:.1?}", most >> 20);
        assert!(most < 512 << 20, "{what}: {} MiB", most >> 20);
        largest = largest.max(most);
        assert!(took < Duration::from_secs(60), "{what}: {took:?}");
    }
    // Of one of them the peak is seen, however the two processes take turns.
    assert!(largest > 90 << 20, "nothing was measured: {} MiB", largest >> 20);
}

/// Nobody looks at it but where it is a masks file's.
#[test]
fn metadata_of_many_shards_is_not_held() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("in")).unwrap();
    let (shards, len) = (6, 30 << 20);
    let mut map = Vec::new();
    for shard in 0..shards {
        let said = format!(r#"{{"format":"emprune.masks/1","shapes":"{}"}}"#, "x".repeat(len));
        let tensor = format!(r#""w{shard}":{{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#);
        let header = format!(r#"{{"__metadata__":{said},{tensor}}}"#);
        desk.write(&format!("in/{shard}.safetensors"), &with_header(&header, &f32s(&[1.0; 4])));
        map.push(format!(r#""w{shard}":"{shard}.safetensors""#));
    }
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","));
    desk.write("in/model.safetensors.index.json", index.as_bytes());
    let most = peak_of(&desk, &["inspect", "in", "--backend", "cpu", "--memory", "64MiB"]);
    println!("{} MiB", most >> 20);
    // Of one header: its text, and a string of it.
    assert!((30 << 20..128 << 20).contains(&most), "{} MiB", most >> 20);
    // Nor is what a masks file says besides.
    let said: String = (0..2_500_000).map(|i| format!(r#""{i}":"","#)).collect();
    let header =
        format!(r#"{{"__metadata__":{{{said}"format":"x"}},"w0":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
    desk.write("masks", &with_header(&header, &[9]));
    let most = peak_of(&desk, &["diff", "masks", "masks"]);
    println!("{} MiB", most >> 20);
    assert!((30 << 20..128 << 20).contains(&most), "{} MiB", most >> 20);
}
