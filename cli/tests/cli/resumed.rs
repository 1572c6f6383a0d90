//! An interrupted run of many shards, and the next one to the same place.

mod trusted;

use crate::desk::{Desk, f32s, model, program, skipped, texts, tree, with_header};
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const SHARDS: [&str; 3] = ["a.safetensors", "b.safetensors", "c.safetensors"];
const PARTIAL: &str = "out.emprune-partial";
const JOURNAL: &str = "out.emprune-partial/.journal.emprune-partial";
const PRUNE: [&str; 6] = ["prune", "in", "-o", "out", "--backend", "cpu"];

/// Tensors, where nothing else is asked for.
fn contests(options: &[&str]) -> &'static [&'static str] {
    if options.contains(&"--granularity") { &[] } else { &["--granularity", "tensor"] }
}

fn shard(number: usize) -> Vec<u8> {
    let values: Vec<f32> = (0..64u64).map(|i| ((i + number as u64) * 2_654_435_761 % 97) as f32 - 40.0).collect();
    model(&[(&format!("w{number}"), "F32", &[4, 16], f32s(&values))])
}

/// Three small shards.
fn checkpoint() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    for (number, name) in SHARDS.iter().enumerate() {
        desk.write(&format!("in/{name}"), &shard(number));
    }
    let map = r#"{"weight_map":{"w0":"a.safetensors","w1":"b.safetensors","w2":"c.safetensors"}}"#;
    desk.write("in/model.safetensors.index.json", map.as_bytes());
    desk.write("in/config.json", b"{}");
    desk
}

/// Start on a checkpoint whose last shard takes seconds, and come back when the others are finished.
fn start(desk: &Desk) -> Child {
    start_with(desk, 1 << 17, &[])
}

fn start_with(desk: &Desk, rows: u64, options: &[&str]) -> Child {
    start_on(desk, [rows, 1 << 12], options)
}

/// The same, where the last shard has this shape.
fn start_on(desk: &Desk, [rows, columns]: [u64; 2], options: &[&str]) -> Child {
    let bytes: u64 = 2 * rows * columns;
    let header = format!(r#"{{"w2":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[0,{bytes}]}}}}"#);
    desk.write("in/c.safetensors", &with_header(&header, &[]));
    let file = File::options().write(true).open(desk.path("in/c.safetensors")).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    let mut command = program();
    command.args(PRUNE).args(contests(options)).args(options).current_dir(desk.path("."));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let lines = || fs::read_to_string(desk.path(JOURNAL)).unwrap_or_default().matches('\n').count();
    while lines() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was in the middle");
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// What a run leaves that was killed when two shards were finished.
fn killed() -> Desk {
    let desk = checkpoint();
    let mut child = start(&desk);
    child.kill().unwrap();
    child.wait().unwrap();
    desk.write("in/c.safetensors", &shard(2));
    desk
}

fn modified(desk: &Desk, name: &str) -> SystemTime {
    desk.path(name).metadata().unwrap().modified().unwrap()
}

/// Write a file that looks as if nobody had written to it since.
fn put(desk: &Desk, name: &str, bytes: &[u8], time: SystemTime) {
    desk.write(name, bytes);
    File::options().write(true).open(desk.path(name)).unwrap().set_modified(time).unwrap();
}

/// Alter the first shard, which is finished, unnoticed: who computes it again would not write this.
fn mark(desk: &Desk) -> Vec<u8> {
    let name = format!("{PARTIAL}/a.safetensors");
    let (mut bytes, time) = (desk.read(&name), modified(desk, &name));
    *bytes.last_mut().unwrap() ^= 1;
    put(desk, &name, &bytes, time);
    bytes
}

/// Files of a desk, to be put back.
fn taken<'a>(desk: &Desk, names: impl IntoIterator<Item = &'a str>) -> Vec<(String, Vec<u8>, SystemTime)> {
    names.into_iter().map(|name| (name.to_owned(), desk.read(name), modified(desk, name))).collect()
}

/// The last run, and what it said.
fn go_on(desk: &Desk, options: &[&str]) -> String {
    let output = desk.run(&[&PRUNE[..], contests(options), options].concat());
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    stderr
}

/// The output is that of a run that nobody ended, and nothing is left beside it.
fn is_whole(desk: &Desk, options: &[&str]) -> bool {
    assert_eq!(desk.names(), ["in", "out"]);
    let fresh = Desk::new();
    fs::create_dir(fresh.path("in")).unwrap();
    for (name, bytes) in tree(&desk.path("in")) {
        fresh.write(&format!("in/{name}"), &bytes);
    }
    go_on(&fresh, options);
    let files = |desk: &Desk| {
        let mut files = tree(&desk.path("out"));
        let report: serde_json::Value = serde_json::from_slice(&files.remove("emprune_report.json").unwrap()).unwrap();
        let tensors = report["tensors"].as_array().unwrap().clone();
        let kept: Vec<_> =
            tensors.into_iter().map(|t| (t["name"].clone(), t["kept"].clone(), t["mass"].clone())).collect();
        (files, report["totals"].clone(), kept)
    };
    files(desk) == files(&fresh)
}

#[test]
fn finished_shards_of_a_killed_run_are_not_computed_again() {
    let desk = killed();
    let mut marked = mark(&desk);
    let stderr = go_on(&desk, &[]);
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 2 of 3 shards"), "{stderr}");
    assert!(desk.read("out/a.safetensors") == marked, "it was computed again");
    *marked.last_mut().unwrap() ^= 1;
    desk.write("out/a.safetensors", &marked);
    assert!(is_whole(&desk, &[]));
}

/// A tensor whose columns are decided some at a time is hashed too, as it was before any of it was used.
#[test]
fn columns_that_are_decided_in_several_runs_are_known_again() {
    const BY_COLUMN: [&str; 4] = ["--granularity", "column", "--memory", "64MiB"];
    let desk = checkpoint();
    let shard = |shift: u64| {
        let values: Vec<f32> = (0..3 * 300_001).map(|i| ((i * 2_654_435_761 + shift) % 97) as f32 - 40.0).collect();
        model(&[("w0", "F32", &[3, 300_001], f32s(&values))])
    };
    desk.write("in/a.safetensors", &shard(0));
    let mut child = start_with(&desk, 1 << 17, &BY_COLUMN);
    child.kill().unwrap();
    child.wait().unwrap();
    desk.write("in/c.safetensors", &self::shard(2));
    let written = fs::metadata(desk.path(&format!("{PARTIAL}/a.safetensors"))).unwrap().modified().unwrap();
    let stderr = go_on(&desk, &BY_COLUMN);
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 2 of 3 shards"), "{stderr}");
    assert_eq!(fs::metadata(desk.path("out/a.safetensors")).unwrap().modified().unwrap(), written);
    assert!(is_whole(&desk, &BY_COLUMN));
    // Another input is no longer that one.
    fs::remove_dir_all(desk.path("out")).unwrap();
    let mut child = start_with(&desk, 1 << 17, &BY_COLUMN);
    child.kill().unwrap();
    child.wait().unwrap();
    desk.write("in/c.safetensors", &self::shard(2));
    desk.write("in/a.safetensors", &shard(1));
    let stderr = go_on(&desk, &BY_COLUMN);
    assert!(stderr.contains("1 of another input") && stderr.contains("taken over: 1 of 3 shards"), "{stderr}");
    assert!(is_whole(&desk, &BY_COLUMN));
}

/// A run that is killed while it decides a shard some columns at a time leaves the others, and of that one nothing is trusted.
#[cfg(unix)]
#[test]
fn a_shard_that_was_written_some_columns_at_a_time_is_written_anew() {
    use std::os::unix::fs::MetadataExt;
    const MASKED: [&str; 6] = ["--granularity", "column", "--memory", "64MiB", "--masks", "masks"];
    let desk = checkpoint();
    let mut child = start_on(&desk, [500, 300_001], &MASKED);
    // It has its length at once, and room on the disk for what was written: some columns, of 300 MB.
    let shard = desk.path(&format!("{PARTIAL}/c.safetensors"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while shard.metadata().map_or(0, |metadata| metadata.blocks()) < (1 << 20) / 512 {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "it is not in the middle");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let stderr = go_on(&desk, &MASKED);
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 2 of 3 shards"), "{stderr}");
    let (out, masks) = (tree(&desk.path("out")), desk.read("masks"));
    fs::remove_dir_all(desk.path("out")).unwrap();
    fs::remove_file(desk.path("masks")).unwrap();
    go_on(&desk, &MASKED);
    assert!(desk.read("masks") == masks, "its masks are others");
    for name in SHARDS {
        assert!(desk.read(&format!("out/{name}")) == out[name], "{name} is another");
    }
}

/// Who listens hears of every tensor once, whichever run pruned it.
#[test]
fn machines_are_told_of_what_is_taken_over() {
    let desk = killed();
    let stderr = go_on(&desk, &["--json"]);
    let events = stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let names: Vec<_> = events.filter(|event| event["event"] == "tensor").map(|event| event["name"].clone()).collect();
    assert_eq!(names, ["w0", "w1", "w2"], "{stderr}");
}

/// A contest over all shards is decided again, and what it said of finished ones is not written again, unless it says something else now;
/// be it a contest of weights, of rows, or of groups that the shards share.
#[test]
fn a_contest_over_all_shards_goes_on_too() {
    const GLOBAL: [&str; 4] = ["--granularity", "global", "--beta", "0.5"];
    let small = std::env::var("EMPRUNE_TEST_SIZE").is_ok_and(|size| size == "small");
    let structures = [&[][..], &["--structure", "row"], &["--structure", "column", "--norm", "max"]];
    for (i, structure) in structures.into_iter().enumerate() {
        let options = [&GLOBAL[..], structure].concat();
        for changes in [false, true] {
            if small && changes == (i % 2 == 0) {
                continue;
            }
            let desk = checkpoint();
            let mut child = start_with(&desk, LARGE, &options);
            child.kill().unwrap();
            child.wait().unwrap();
            let mut marked = mark(&desk);
            if changes {
                // Larger weights than all before: fewer of those are kept.
                let values = f32s(&[1000.0; 64]);
                desk.write("in/c.safetensors", &model(&[("w2", "F32", &[4, 16], values)]));
            }
            let stderr = go_on(&desk, &options);
            assert!(
                stderr.contains("note: finished by a run that was ended, and taken over: 2 of 3 shards"),
                "{options:?}: {stderr}"
            );
            assert_eq!(stderr.contains("is written anew"), changes, "{options:?}: {stderr}");
            assert_eq!(desk.read("out/a.safetensors") == marked, !changes, "{options:?}: {stderr}");
            if !changes {
                *marked.last_mut().unwrap() ^= 1;
                desk.write("out/a.safetensors", &marked);
            }
            assert!(is_whole(&desk, &options), "{options:?}, {changes}");
        }
    }
}

/// What is drawn of finished shards is remembered with them. A run that drew nothing has nothing to remember.
#[test]
fn plots_are_those_of_a_run_that_nobody_ended() {
    const PLOT: [&str; 2] = ["--plot", "plots"];
    let desk = checkpoint();
    let mut child = start_with(&desk, 1 << 17, &PLOT);
    child.kill().unwrap();
    child.wait().unwrap();
    desk.write("in/c.safetensors", &shard(2));
    let stderr = go_on(&desk, &PLOT);
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 2 of 3 shards"), "{stderr}");
    assert_eq!(desk.names(), ["in", "out", "plots"]);
    let drawn = |desk: &Desk| {
        let mut files = tree(&desk.path("plots"));
        files.retain(|name, _| name.ends_with(".svg"));
        files
    };
    let gone_on = drawn(&desk);
    assert!(gone_on.len() == 4, "one for the model, and one for each tensor: {:?}", gone_on.keys());
    fs::remove_dir_all(desk.path("out")).unwrap();
    fs::remove_dir_all(desk.path("plots")).unwrap();
    go_on(&desk, &PLOT);
    assert!(gone_on == drawn(&desk), "other pictures");

    let desk = killed();
    let stderr = go_on(&desk, &PLOT);
    assert!(!stderr.contains("taken over"), "{stderr}");
    assert!(drawn(&desk) == gone_on, "other pictures");
}

/// Killed while a shard is written anew that an earlier run had finished: what that run said of it holds no more.
#[cfg(target_os = "linux")]
#[test]
fn a_shard_that_is_being_written_anew_is_trusted_no_more() {
    use crate::steps::{is_traced, trace};
    if !is_traced() {
        return;
    }
    const GLOBAL: [&str; 4] = ["--granularity", "global", "--beta", "0.5"];
    let desk = checkpoint();
    let mut child = start_with(&desk, LARGE, &GLOBAL);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::rename(desk.path("in/c.safetensors"), desk.path("large")).unwrap();
    // Larger weights than all before: fewer of those are kept, for as long as this is the third shard.
    desk.write("in/c.safetensors", &model(&[("w2", "F32", &[4, 16], f32s(&[1000.0; 64]))]));
    let output = trace(&desk, "pwrite64", Some("pwrite64:signal=KILL:when=1"), &[&PRUNE[..], &GLOBAL].concat()).0;
    assert!(!output.status.success() && texts(&output).1.contains("is written anew"), "{:?}", texts(&output));
    let of_a = desk.read(JOURNAL);
    let of_a =
        String::from_utf8(of_a).unwrap().lines().rfind(|line| line.contains("\"a.safetensors\"")).unwrap().to_owned();
    assert!(of_a.contains(r#""settings":"""#), "{of_a}");
    fs::rename(desk.path("large"), desk.path("in/c.safetensors")).unwrap();
    let stderr = go_on(&desk, &GLOBAL);
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 1 of 3 shards"), "{stderr}");
    assert!(is_whole(&desk, &GLOBAL));
}

/// A checkpoint whose last shard takes long enough to be killed in, and short enough to be done.
const LARGE: u64 = 1 << 15;
const MASKS: [&str; 2] = ["--masks", "masks"];
const MASKS_PARTIAL: &str = ".masks.emprune-partial";

#[cfg(unix)]
#[test]
fn a_machine_that_goes_leaves_finished_shards_and_a_person_does_not() {
    for (name, names) in [("-TERM", &["in", PARTIAL][..]), ("-INT", &["in"])] {
        let desk = checkpoint();
        let child = start(&desk);
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let (_, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert_eq!(desk.names(), names, "after {name}");
        assert_eq!(stderr.contains("note: finished, and left in "), name == "-TERM", "{stderr}");
        if name == "-TERM" {
            desk.write("in/c.safetensors", &shard(2));
            assert!(
                go_on(&desk, &[]).contains("note: finished by a run that was ended, and taken over: 2 of 3 shards")
            );
            assert!(is_whole(&desk, &[]));
        }
    }
}

/// Days of work may be in there: what is not taken over is not lost without a word.
#[cfg(unix)]
#[test]
fn finished_shards_that_do_not_fit_are_not_removed_without_a_word() {
    let stopped = || {
        let desk = checkpoint();
        let child = start(&desk);
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
        desk.write("in/c.safetensors", &shard(2));
        desk
    };
    let two = "note: 2 finished shards do not fit this command and will be removed from ";
    let desk = stopped();
    let journal = desk.read(JOURNAL);
    // Not what there is of the third, which is large.
    let partial = tree(&desk.path(PARTIAL)).into_keys().filter(|name| name != "c.safetensors");
    let partial: Vec<_> = partial.map(|name| format!("{PARTIAL}/{name}")).collect();
    let partial = taken(&desk, partial.iter().map(String::as_str));
    let stderr = go_on(&desk, &["--beta", "0.5"]);
    assert!(stderr.contains(two) && stderr.contains("out.emprune-partial: 2 with other settings\n"), "{stderr}");

    let again = |journal: &str| {
        fs::remove_dir_all(desk.path("out")).unwrap();
        fs::create_dir(desk.path(PARTIAL)).unwrap();
        for (name, bytes, time) in &partial {
            put(&desk, name, bytes, *time);
        }
        desk.write(JOURNAL, journal.as_bytes());
    };
    let journal = String::from_utf8(journal).unwrap();
    // A version has its say in the hash of the settings.
    again(&journal.replace(r#""version":""#, r#""version":"0."#).replace(r#""settings":""#, r#""settings":"0"#));
    let stderr = go_on(&desk, &[]);
    assert!(stderr.contains(two) && stderr.contains(": 2 of another version of emprune\n"), "{stderr}");

    again(&journal);
    let mut bytes = shard(0);
    *bytes.last_mut().unwrap() ^= 1;
    desk.write("in/a.safetensors", &bytes);
    let stderr = go_on(&desk, &[]);
    assert!(
        stderr.contains("note: 1 finished shard does not fit") && stderr.contains(": 1 of another input\n"),
        "{stderr}"
    );
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 1 of 3 shards"), "{stderr}");

    // Another command that writes to the same place.
    desk.succeed(&["inspect", "in", "--masks", "masks"]);
    again(&journal);
    let output = desk.run(&["apply", "in", "--masks", "masks", "-o", "out"]);
    let (_, stderr) = texts(&output);
    assert!(output.status.success() && stderr.contains(two) && stderr.contains(": 2 of another command\n"), "{stderr}");
    // What fits is taken over, and nothing is said to be lost.
    desk.write("in/a.safetensors", &shard(0));
    again(&journal);
    let stderr = go_on(&desk, &[]);
    assert!(
        stderr.contains("note: finished by a run that was ended, and taken over: 2 of 3 shards")
            && !stderr.contains("removed"),
        "{stderr}"
    );
}

/// What somebody puts where the output will be while it is written is theirs.
#[cfg(unix)]
#[test]
fn a_directory_that_appears_while_shards_are_written_stays_and_so_does_the_work() {
    let desk = checkpoint();
    let child = start_with(&desk, LARGE, &MASKS);
    fs::create_dir(desk.path("out")).unwrap();
    desk.write("out/precious", b"x");
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    for part in
        ["out.emprune-partial is complete and stays there, where the same command goes on", "out has come to be there"]
    {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert_eq!(desk.names(), [MASKS_PARTIAL, "in", "out", PARTIAL]);
    assert_eq!(tree(&desk.path("out")).into_iter().collect::<Vec<_>>(), [("precious".to_owned(), b"x".to_vec())]);
    fs::rename(desk.path("out"), desk.path("theirs")).unwrap();
    assert!(go_on(&desk, &MASKS).contains("note: finished by a run that was ended, and taken over: 3 of 3 shards"));
    assert_eq!(desk.names(), ["in", "masks", "out", "theirs"]);
}

/// Shards stay that were finished before something failed which is none of theirs.
#[test]
fn what_fails_leaves_finished_shards() {
    let desk = killed();
    desk.write("in/c.safetensors", &model(&[("w2", "F32", &[4, 16], f32s(&[f32::NAN; 64]))]));
    let output = desk.run(&[&PRUNE[..], contests(&[])].concat());
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("entry 0 is NaN") && stderr.contains("note: finished, and left in "), "{stderr}");
    let stderr = go_on(&desk, &["--ignore", "w2"]);
    assert!(stderr.contains("taken over: 2 of 3 shards"), "{stderr}");
    assert_eq!(desk.names(), ["in", "out"]);
}

/// A command that is refused has removed nothing of another one's, and one that cannot begin nothing of its own.
#[test]
fn a_run_that_does_not_begin_leaves_finished_shards() {
    let desk = killed();
    // An output of an earlier run, which this one may not replace.
    fs::create_dir(desk.path("out")).unwrap();
    desk.write("out/emprune_report.json", b"{}");
    desk.write("small", &shard(0));
    // What a killed run leaves beside it is anybody's to take away.
    fs::remove_file(desk.path(&format!(".{PARTIAL}"))).unwrap();
    let refused: [&[&str]; 3] = [
        &["prune", "in", "-o", "out", "--backend", "cpu", "--beta", "0.5"],
        &["inspect", "small", "--plot", "out", "--backend", "cpu"],
        &[&PRUNE[..], contests(&[])].concat(),
    ];
    for args in refused {
        desk.fail(args, 1, &["out exists and is not empty; --overwrite replaces it"]);
    }
    fs::remove_dir_all(desk.path("out")).unwrap();
    // Nor has one that may not draw.
    fs::create_dir(desk.path("plots")).unwrap();
    desk.write("plots/precious", b"x");
    let plots = ["--plot", "plots"];
    let args = [&PRUNE[..], contests(&[]), &plots].concat();
    let output = desk.run(&args);
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("plots exists and is not empty"), "{stderr}");
    assert!(desk.path(&format!("{PARTIAL}/a.safetensors")).exists(), "{stderr}");
    let stderr = go_on(&desk, &[]);
    assert!(stderr.contains("taken over: 2 of 3 shards"), "{stderr}");
}
