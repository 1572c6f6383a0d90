//! `emprune bench` on sizes that take no time: the shape of what it says, and what it refuses.

use crate::desk::{Desk, backends, texts};
use serde_json::Value;

const QUICK: [&str; 4] = ["bench", "--json", "--repeats", "2"];

/// Run it and parse what it says.
fn bench(args: &[&str]) -> Value {
    let output = Desk::new().run(&[&QUICK[..], args].concat());
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn array<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    report[name].as_array().unwrap_or_else(|| panic!("{name} is no list"))
}

/// Times and bytes that fit together.
fn check_line(line: &Value) {
    let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} of {line}"));
    let (fastest, seconds, slowest) = (number("fastest"), number("seconds"), number("slowest"));
    assert!(fastest <= seconds && seconds <= slowest && seconds > 0.0, "{line}");
    assert!((number("memcpy_ratio") * number("memcpy_seconds") / seconds - 1.0).abs() < 1e-9, "{line}");
    assert!((number("gigabytes_per_second") * 1e9 * seconds / number("floor_bytes") - 1.0).abs() < 1e-9, "{line}");
    let kept = number("kept");
    assert!(kept >= 1.0 && kept <= number("entries"), "{line}");
}

#[test]
fn every_question_is_answered_by_the_cpu_and_its_peers() {
    let lists =
        ["--dtype", "f32,f16,bf16", "--granularity", "tensor,row", "--input", "normal,lognormal,int8,equal,zeros"];
    let rest = ["--sizes", "10_000,2^12", "--row-len", "100", "--task", "prune,mask", "--backend", "cpu", "--peers"];
    let report = bench(&[&lists[..], &rest].concat());
    assert_eq!(report["schema"], "emprune.bench/1");
    let results = array(&report, "results");
    // Two sizes, three dtypes, two granularities, five inputs; a mask is made by the CPU alone.
    assert_eq!(results.len(), 2 * 3 * 2 * 5 * (3 + 1));
    results.iter().for_each(check_line);
    for line in results {
        assert_eq!(line["backend"], "cpu");
        assert_eq!(line["runs"], 2);
        let (entries, size) = (line["entries"].as_u64().unwrap(), if line["dtype"] == "f32" { 4 } else { 2 });
        let is_row = line["granularity"] == "row";
        assert_eq!(entries, if is_row { [10_000, 4000] } else { [10_000, 4096] }[usize::from(entries < 10_000)]);
        let passes = if is_row { 2 } else { 3 };
        let floor = if line["task"] == "mask" { entries * size + entries / 8 } else { passes * entries * size };
        assert_eq!(line["floor_bytes"], floor);
        assert_eq!(line["variant"], Value::Null);
        if line["input"] == "equal" {
            assert_eq!(line["kept"], entries, "all are equal, so all are kept");
        }
    }
    for way in ["host", "select_nth_unstable", "sort_unstable"] {
        assert!(results.iter().any(|line| line["way"] == way), "{way}");
    }
    let kept = |input: &str| {
        let is = |line: &&Value| line["input"] == input && line["granularity"] == "tensor" && line["dtype"] == "f32";
        results.iter().find(is).unwrap()["kept"].as_u64().unwrap()
    };
    assert!((6200..6550).contains(&kept("normal")), "2 in pi of 10000: {}", kept("normal"));
    assert!(kept("lognormal") < 100, "few matter: {}", kept("lognormal"));
}

/// On the host by every backend that the tests are about, and on its device.
#[test]
fn columns_and_blocks_are_timed_too() {
    let questions = ["--granularity", "column,block", "--dtype", "f32,bf16", "--task", "prune,mask", "--sizes", "5000"];
    for backend in backends() {
        // What is left when whole rows of blocks are taken, and rows that are no whole number of blocks.
        for (row_len, entries) in [("100", Some(4800)), ("50", None)] {
            let report = bench(&[&questions[..], &["--row-len", row_len], &backend].concat());
            let results = array(&report, "results");
            results.iter().for_each(check_line);
            let of = |granularity: &str| {
                results.iter().filter(|line| line["granularity"] == granularity).collect::<Vec<_>>()
            };
            assert_eq!(
                of("column").len(),
                of("block:4x4").len() + if entries.is_none() { of("column").len() } else { 0 }
            );
            assert!(of("column").len() >= 4 && of("column").iter().all(|line| line["entries"] == 5000), "{report}");
            assert!(of("block:4x4").iter().all(|line| line["entries"].as_u64() == entries), "{report}");
            if backend.contains(&"gpu") {
                assert!(results.iter().any(|line| line["way"] == "device"), "{report}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_skipped_and_said() {
    let report = bench(&["--backend", "cpu", "--sizes", "50,1e9", "--dtype", "f32", "--memory", "64MiB"]);
    let results = array(&report, "results");
    assert_eq!(results.len(), 1, "the tensor of 50");
    let skipped = array(&report, "skipped");
    let reasons: Vec<_> = skipped.iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("less than a row of 4096"), "{reasons:?}");
    assert!(reasons[1].contains("--memory allows 64 MiB") && reasons[1].contains("15259 MiB"), "{reasons:?}");
    let output = Desk::new().run(&["bench", "--backend", "cpu", "--sizes", "50", "--repeats", "1"]);
    let (table, _) = texts(&output);
    for part in ["ns/entry", "x memcpy", "f32 tensor", "bf16 tensor", "skipped prune f32 row normal of 0"] {
        assert!(table.contains(part), "no {part} in\n{table}");
    }
}

#[test]
fn wrong_words_are_wrong_usage() {
    let desk = Desk::new();
    for (args, part) in [
        (&["--sizes", "ten"] as &[&str], "2^24"),
        (&["--sizes", "1e6,0"], "between 1 and"),
        (&["--sizes", ""], "--sizes"),
        (&["--dtype", "f64"], "f64"),
        (&["--granularity", "global"], "global"),
        (&["--input", "uniform"], "uniform"),
        (&["--task", "sort"], "sort"),
        (&["--backend", "tpu"], "tpu"),
        (&["--repeats", "0"], "--repeats"),
        (&["--seconds", "-1"], "--seconds"),
        (&["--row-len", "0"], "--row-len"),
        (&["--memory", "1GB"], "KiB"),
        (&["--backend", "cpu", "--adapter", "x"], "--adapter"),
        (&["--backend", "cpu", "--plan"], "--plan"),
        (&["--backend", "cpu", "--gpu-variant", "portable"], "--gpu-variant"),
        (&["--backend", "cpu", "--tune"], "--tune"),
        (&["--backend", "cpu", "--without-sums"], "--without-sums"),
        (&["--tune", "--json"], "--json"),
        (&["--tune", "--dtype", "f16"], "--dtype"),
        (&["--tune", "--input", "zeros"], "--input"),
        (&["--tune", "--granularity", "row"], "--granularity"),
        (&["--tune", "--task", "mask"], "--task"),
        (&["--tune", "--row-len", "64"], "--row-len"),
        (&["--tune", "--seconds", "1"], "--seconds"),
        (&["--repeats", "3", "--tune"], "--repeats"),
        (&["--tune", "--memory", "1GiB"], "--memory"),
        (&["--plan", "--peers"], "--peers"),
        (&["--backend", "cpu", "--device-only"], "--device-only"),
        (&["--device-only", "--peers"], "--peers"),
        (&["--plan", "--without-sums"], "--without-sums"),
        (&["--plan", "--task", "mask"], "--task has masks alone"),
        (&["--peers", "--task", "mask"], "--peers"),
        (&["--peers", "--granularity", "column,block"], "--peers"),
        (&["--row-len", "64", "--granularity", "tensor"], "--row-len"),
    ] {
        desk.fail(&[&["bench"], args].concat(), 2, &[part]);
    }
}

#[test]
fn an_adapter_that_is_not_there_cannot_be_timed() {
    let desk = Desk::new();
    for backend in ["auto", "gpu", "all"] {
        desk.fail(&["bench", "--adapter", "no such adapter", "--backend", backend], 1, &["adapter"]);
    }
}

#[cfg(feature = "gpu")]
mod on_a_gpu {
    use super::{array, bench, check_line};
    use crate::desk::wants_gpu;
    use serde_json::Value;

    /// Each beside the job with sums, and checked against the processor's answer to the same count.
    #[test]
    fn kernels_without_sums_are_timed_too() {
        if !wants_gpu() {
            return;
        }
        let lists = ["--dtype", "f32", "--sizes", "3001", "--row-len", "100", "--backend", "gpu", "--without-sums"];
        let report = bench(&lists);
        for way in ["device", "device without sums"] {
            let lines: Vec<_> = array(&report, "results").iter().filter(|line| line["way"] == way).collect();
            assert_eq!(lines.len(), 2, "{way}: a tensor and rows");
            lines.into_iter().for_each(check_line);
        }
    }

    #[test]
    fn a_device_is_timed_alone() {
        if !wants_gpu() {
            return;
        }
        let lists =
            ["--dtype", "f32", "--sizes", "3001", "--granularity", "tensor", "--backend", "gpu", "--device-only"];
        let report = bench(&lists);
        let lines = array(&report, "results");
        assert_eq!(lines.len(), array(&report, "adapters").len(), "no line but the device's: {lines:?}");
        assert!(lines.iter().all(|line| line["way"] == "device"), "{lines:?}");
        lines.iter().for_each(check_line);
    }

    #[test]
    fn a_device_is_timed_at_home_and_on_the_way() {
        if !wants_gpu() {
            return;
        }
        // An odd number of 16-bit entries; rows of any length.
        let lists = ["--dtype", "f32,bf16", "--input", "int8", "--task", "prune,mask"];
        let report = bench(&[&lists[..], &["--sizes", "3001", "--row-len", "100", "--backend", "all"]].concat());
        let adapters = array(&report, "adapters");
        assert!(!adapters.is_empty(), "no adapter here; EMPRUNE_NO_GPU=1 says that none is wanted");
        let results = array(&report, "results");
        let of = |way: &'static str| results.iter().filter(move |line| line["way"] == way);
        assert_eq!(of("host").count(), 8 * (1 + adapters.len()));
        assert_eq!(of("device").count(), 8 * adapters.len());
        results.iter().for_each(check_line);
        for line in of("device") {
            assert!(line["upload_seconds"].as_f64() > Some(0.0), "{line}");
            assert!(line["readback_seconds"].as_f64() > Some(0.0), "{line}");
            assert!(line["variant"].is_string(), "{line}");
            assert!(line["clock"] == "timestamps" || line["clock"] == "batches", "{line}");
        }
        let crossovers = array(&report, "crossovers");
        assert_eq!(crossovers.len(), 8 * adapters.len());
        for one in crossovers {
            assert!(one["up_to"] == 3001 || one["up_to"] == 3000, "{one}");
            assert!(one["device_entries"] == one["up_to"] || one["device_entries"] == Value::Null, "{one}");
        }
    }

    #[test]
    fn plans_move_little_more_than_must_move() {
        if !wants_gpu() {
            return;
        }
        let lists = ["--plan", "--dtype", "f32,bf16", "--task", "prune,mask", "--granularity", "tensor,row"];
        let report = bench(&[&lists[..], &["--sizes", "2^20,2^24", "--row-len", "11008"]].concat());
        assert!(array(&report, "results").is_empty(), "nothing is timed");
        let plans = array(&report, "plans");
        assert_eq!(plans.len(), 8, "a mask moves no more than pruning does, and has no line");
        for plan in plans {
            let number = |name: &str| plan[name].as_f64().unwrap_or_else(|| panic!("{name} of {plan}"));
            let bytes = number("entries") * if plan["dtype"] == "f32" { 4.0 } else { 2.0 };
            let (floor, dispatches) = if plan["granularity"] == "row" { (1.0, 1) } else { (1.5, 9) };
            assert!((number("floor_ratio") - floor).abs() < 1e-9, "{plan}");
            // The mask is a bit for each entry: a 32nd or a 16th of the weights, and half of that of a copy.
            let mask = number("entries") / 8.0 / (2.0 * bytes);
            let ratio = (number("read_bytes") + number("written_bytes")) / (2.0 * bytes);
            assert!((number("memcpy_ratio") - ratio).abs() < 1e-9, "{plan}");
            assert!(ratio >= floor && ratio <= 1.05 * (floor + mask), "{plan}");
            assert!(plan["dispatches"].as_u64() >= Some(dispatches) && number("dispatches") < 20.0, "{plan}");
        }
    }
}

/// Where no driver is found there is no adapter, hardware or not.
#[cfg(all(target_os = "linux", feature = "gpu"))]
#[test]
fn to_tune_nothing_is_an_error() {
    let desk = Desk::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_emprune"));
    command
        .env("VK_DRIVER_FILES", "/dev/null")
        .env("VK_ICD_FILENAMES", "/dev/null")
        .env("LIBGL_DRIVERS_PATH", "/dev/null");
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).env("__EGL_VENDOR_LIBRARY_FILENAMES", "/dev/null");
    let output = command.args(["bench", "--tune", "--sizes", "1000"]).current_dir(desk.path(".")).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("error: nothing is tuned: there is no hardware adapter"), "{stderr}");
}
