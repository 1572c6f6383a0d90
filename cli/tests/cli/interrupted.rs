//! Runs that end before their time, and two at once: no debris, nothing half done.

use crate::desk::{Desk, f32s, model, program, texts, tree, with_header};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A desk with a directory whose pruning takes seconds: zeros and few others, mostly holes in the file.
fn big() -> Desk {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    let (rows, columns) = (1 << 17, 1 << 12);
    let bytes: u64 = 2 * rows * columns;
    let header = format!(r#"{{"w":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[0,{bytes}]}}}}"#);
    let start = with_header(&header, &f32s(&[1.0, 2.0, 3.0, 4.0]));
    desk.write("in/model.safetensors", &start);
    let file = File::options().write(true).open(desk.path("in/model.safetensors")).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    desk.write("small", &small());
    desk
}

fn small() -> Vec<u8> {
    model(&[("w", "F32", &[2, 4], f32s(&[1.0, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]))])
}

/// Start the long run, and come back when it is in the middle of it.
fn start(desk: &Desk, input: &str) -> Child {
    start_with(desk, input, &[])
}

fn start_with(desk: &Desk, input: &str, options: &[&str]) -> Child {
    begin(program(), desk, input, options)
}

fn begin(mut program: Command, desk: &Desk, input: &str, options: &[&str]) -> Child {
    let args = ["prune", input, "-o", "out", "--masks", "masks", "--granularity", "global", "--backend", "cpu"];
    let mut child = program
        .args(args)
        .args(options)
        .current_dir(desk.path("."))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let partial = if input == "in" { "out.emprune-partial/model.safetensors" } else { ".out.emprune-partial" };
    while desk.path(partial).metadata().map_or(0, |metadata| metadata.len()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was in the middle");
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn signals_leave_no_debris() {
    let desk = big();
    for input in ["in", "in/model.safetensors"] {
        for name in ["-INT", "-TERM"] {
            let child = start(&desk, input);
            signal(&child, name);
            let output = child.wait_with_output().unwrap();
            let (stdout, stderr) = texts(&output);
            assert_eq!(output.status.code(), Some(130), "{name}: {stderr}");
            assert_eq!((stdout.as_str(), stderr.as_str()), ("", "error: interrupted\n"));
            assert_eq!(desk.names(), ["in", "small"], "after {name}");
        }
    }
}

/// As a shell has it of what it starts in the background.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_to_be_ignored_is() {
    let desk = big();
    let mut program = Command::new("sh");
    program.args(["-c", "trap '' INT; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_emprune")]);
    let child = begin(program, &desk, "in", &[]);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
    assert_eq!(desk.names(), ["in", "masks", "out", "small"]);
}

/// A tensor is drawn when it is done, and who ends the run then does not wait for the pictures of the others.
#[cfg(unix)]
#[test]
fn pictures_are_drawn_on_the_way_and_are_no_debris_either() {
    let desk = big();
    desk.write("in/a.safetensors", &model(&[("a", "F32", &[2, 2], f32s(&[1.0; 4]))]));
    let map = r#"{"weight_map":{"a":"a.safetensors","w":"model.safetensors"}}"#;
    desk.write("in/model.safetensors.index.json", map.as_bytes());
    let mut child = program()
        .args(["inspect", "in", "--plot", "plots", "--granularity", "tensor", "--backend", "cpu"])
        .current_dir(desk.path("."))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !desk.path("plots.emprune-partial/tensor-a.svg").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was in the middle");
        assert!(Instant::now() < deadline, "it draws nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!desk.path("plots.emprune-partial/model.svg").exists(), "the other tensor is done too");
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), texts(&output).1.as_str()), (Some(130), "error: interrupted\n"));
    assert_eq!(desk.names(), ["in", "small"]);
}

#[test]
fn what_a_killed_run_left_is_replaced_by_the_next() {
    let desk = big();
    for input in ["in", "in/model.safetensors"] {
        let mut child = start(&desk, input);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!desk.path("out").exists() && !desk.path("masks").exists());
        let partial = if input == "in" { "out.emprune-partial" } else { ".out.emprune-partial" };
        assert!(desk.path(partial).exists() && desk.path(".masks.emprune-partial").exists());
        if input == "in" {
            fs::remove_file(desk.path("in/model.safetensors")).unwrap();
            desk.write("in/model.safetensors", &small());
            desk.succeed(&["prune", "in", "-o", "out", "--masks", "masks"]);
            assert_eq!(desk.names(), ["in", "masks", "out", "small"]);
            fs::remove_dir_all(desk.path("out")).unwrap();
            fs::remove_file(desk.path("masks")).unwrap();
            fs::remove_dir_all(desk.path("in")).unwrap();
            let fresh = big();
            fs::rename(fresh.path("in"), desk.path("in")).unwrap();
        } else {
            desk.succeed(&["prune", "small", "-o", "out", "--masks", "masks"]);
            assert_eq!(desk.names(), ["in", "masks", "out", "small"]);
        }
    }
}

#[test]
fn two_runs_onto_one_output_do_not_mix() {
    let desk = big();
    for input in ["in", "in/model.safetensors"] {
        let mut first = start(&desk, input);
        let second = if input == "in" { "in" } else { "small" };
        let output = desk.run(&["prune", second, "-o", "out", "--overwrite", "--backend", "cpu"]);
        let (stdout, stderr) = texts(&output);
        assert!(first.try_wait().unwrap().is_none(), "the first run ended too early for this test");
        assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains("another run is writing") && stderr.contains("out now"), "{stderr}");
        first.kill().unwrap();
        first.wait().unwrap();
    }
}

/// Between the look at the start and the rename at the end a place is anybody's.
#[cfg(unix)]
#[test]
fn what_comes_to_be_at_the_output_while_it_is_written_is_not_replaced() {
    let desk = big();
    type Meanwhile = fn(&Desk);
    let theirs = |desk: &Desk| {
        fs::create_dir(desk.path("out")).unwrap();
        desk.write("out/precious", b"x");
    };
    let others: [(&str, bool, Meanwhile); 4] = [
        ("has come to be there", false, theirs),
        // There is leave to replace what was there, and nothing else.
        ("has come to be there", true, theirs),
        ("has come to be there", true, |desk| {
            fs::rename(desk.path("out"), desk.path("moved")).unwrap();
            fs::create_dir(desk.path("out")).unwrap();
            desk.write("out/model.safetensors", &small());
            desk.write("out/emprune_report.json", &desk.read("moved/emprune_report.json"));
            desk.write("out/precious", b"x");
            fs::remove_dir_all(desk.path("moved")).unwrap();
        }),
        ("has changed and is not emprune's to replace: it has no emprune_report.json", true, |desk| {
            fs::remove_file(desk.path("out/emprune_report.json")).unwrap();
            desk.write("out/precious", b"x");
        }),
    ];
    for (i, (said, overwrite, meanwhile)) in others.into_iter().enumerate() {
        if i >= 2 {
            fs::create_dir(desk.path("few")).unwrap();
            desk.write("few/model.safetensors", &small());
            desk.succeed(&["prune", "few", "-o", "out"]);
            fs::remove_dir_all(desk.path("few")).unwrap();
        }
        let child = start_with(&desk, "in", if overwrite { &["--overwrite"] } else { &[] });
        signal(&child, "-STOP");
        meanwhile(&desk);
        signal(&child, "-CONT");
        let output = child.wait_with_output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{i}: {stderr}");
        assert!(
            stderr.contains("out.emprune-partial is complete and stays there") && stderr.contains(said),
            "{i}: {stderr}"
        );
        assert_eq!(desk.read("out/precious"), b"x", "{i}");
        assert!(desk.path("out.emprune-partial/emprune_report.json").exists(), "{i}");
        assert_eq!(desk.names(), [".masks.emprune-partial", "in", "out", "out.emprune-partial", "small"], "{i}");
        fs::remove_dir_all(desk.path("out")).unwrap();
        fs::remove_dir_all(desk.path("out.emprune-partial")).unwrap();
    }
    // One without files is nobody's loss.
    let child = start(&desk, "in");
    fs::create_dir(desk.path("out")).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(desk.names(), ["in", "masks", "out", "small"]);
}

#[test]
fn a_killed_replacement_gives_the_old_directory_back() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    desk.write("in/model.safetensors", &small());
    desk.succeed(&["prune", "in", "-o", "out"]);
    // As between the two renames of a replacement.
    fs::rename(desk.path("out"), desk.path("out.emprune-old")).unwrap();
    fs::create_dir(desk.path("out.emprune-partial")).unwrap();
    let output = desk.run(&["prune", "in", "-o", "out", "--backend", "cpu"]);
    assert!(texts(&output).1.contains("out exists"), "{output:?}");
    // Refused, it has removed nothing.
    assert_eq!(desk.names(), ["in", "out", "out.emprune-partial"]);
    assert!(desk.path("out/emprune_report.json").exists());
    desk.succeed(&["prune", "in", "-o", "out", "--overwrite"]);
    assert_eq!(desk.names(), ["in", "out"]);
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link_with_a_temporary_name() {
    let desk = Desk::new();
    desk.write("in", &small());
    desk.write("precious", b"as it was");
    std::os::unix::fs::symlink("precious", desk.path(".out.emprune-partial")).unwrap();
    desk.fail(&["prune", "in", "-o", "out", "--backend", "cpu"], 1, &[".out.emprune-partial", "in the way"]);
    assert_eq!(desk.read("precious"), b"as it was");
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let desk = big();
    let child = start(&desk, "in");
    File::options().write(true).open(desk.path("in/model.safetensors")).unwrap().set_len(1 << 20).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains("changed while it was read: it had 1073741") && stderr.contains("tensor \"w\""),
        "{stderr}"
    );
    assert_eq!(desk.names(), ["in", "small"]);
}

/// What was read before and after belongs to no file.
#[test]
fn a_file_that_is_written_to_while_it_is_read_is_an_error() {
    let desk = big();
    let child = start(&desk, "in");
    let mut file = File::options().write(true).open(desk.path("in/model.safetensors")).unwrap();
    file.seek(SeekFrom::End(-8)).unwrap();
    file.write_all(&[0x3f; 4]).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.starts_with("error: ") && stderr.contains("model.safetensors changed while it was read"),
        "{stderr}"
    );
    assert_eq!(desk.names(), ["in", "small"]);
}

/// So does what is copied: half of one and half of another file is none.
#[cfg(unix)]
#[test]
fn a_file_that_is_written_to_while_it_is_copied_is_an_error() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    desk.write("in/model.safetensors", &small());
    // All of it a hole, large enough to be met in the middle.
    let large = File::create(desk.path("in/tokenizer.json")).unwrap();
    large.set_len(1 << 30).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
    command.args(["prune", "in", "-o", "out", "--backend", "cpu"]).current_dir(desk.path("."));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while desk.path("out.emprune-partial/tokenizer.json").metadata().map_or(0, |metadata| metadata.len()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was in the middle");
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "-STOP");
    (&large).write_all(b"{}").unwrap();
    signal(&child, "-CONT");
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("cannot copy in to ") && stderr.contains("in/tokenizer.json changed while"), "{stderr}");
    assert_eq!(desk.names(), ["in"]);
}

/// The terminal has gone, and nobody has said that it may.
#[cfg(target_os = "linux")]
#[test]
fn a_run_ends_with_its_terminal_unless_it_is_told_not_to() {
    let desk = big();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 0 {
        let child = start(&desk, "in");
        // The shell and the kernel send one each.
        signal(&child, "-HUP");
        signal(&child, "-HUP");
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), desk.names()), (Some(130), vec!["in".into(), "small".into()]), "{output:?}");
    } else {
        crate::desk::skipped("this test itself is told to ignore that its terminal goes");
    }
    // As `nohup` does it.
    let script = "trap '' HUP; exec \"$0\" prune in -o out --granularity global --backend cpu";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_emprune")]).current_dir(desk.path("."));
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while desk.path("out.emprune-partial/model.safetensors").metadata().map_or(0, |metadata| metadata.len()) == 0 {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "it is not in the middle");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "-HUP");
    assert!(child.wait().unwrap().success() && desk.path("out").is_dir());
}

/// A hundred moments, random ones; `EMPRUNE_KILL_SEED` repeats those of a failure.
#[test]
fn killed_at_any_moment_the_output_is_absent_or_whole() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    let values: Vec<f32> = (0..1u64 << 20).map(|i| (i * 2_654_435_761 % 8191) as f32 - 4000.0).collect();
    desk.write("in/model.safetensors", &model(&[("w", "F32", &[1 << 10, 1 << 10], f32s(&values))]));
    desk.write("in/config.json", b"{}");
    let args = ["prune", "in", "-o", "out", "--granularity", "global", "--backend", "cpu", "--overwrite"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
    command.args(args).current_dir(desk.path(".")).stdout(Stdio::null()).stderr(Stdio::null());
    // The fastest of a few: another program may write to the disk meanwhile.
    let one = |_| {
        let begin = Instant::now();
        assert!(command.status().unwrap().success());
        begin.elapsed()
    };
    let took = (0..4).map(one).min().unwrap();
    let whole = tree(&desk.path("out"));
    let before = tree(&desk.path("in"));
    fs::remove_dir_all(desk.path("out")).unwrap();
    let seed = match std::env::var("EMPRUNE_KILL_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    println!("EMPRUNE_KILL_SEED={seed}, {took:.0?} for a whole run");
    let (mut random, mut unfinished) = (seed, 0);
    for moment in 0..100 {
        let check = |whose: &str| {
            let out = tree(&desk.path("out"));
            let same = out.keys().eq(whole.keys()) && out["model.safetensors"] == whole["model.safetensors"];
            assert!(same, "seed {seed}, moment {moment}: the output of {whose} is not whole: {:?}", out.keys());
        };
        let mut child = command.spawn().unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(took.mul_f64((random >> 40) as f64 / (1 << 24) as f64 * 1.2));
        let _ = child.kill(); // it may have ended
        unfinished += usize::from(!child.wait().unwrap().success());
        if desk.path("out").exists() {
            check("a killed run");
        }
        assert!(tree(&desk.path("in")) == before, "seed {seed}, moment {moment}: the input changed");
        // Every fourth time the next run is left to itself; else it finds what several killed ones left.
        if moment % 4 == 3 {
            assert!(command.status().unwrap().success(), "seed {seed}, moment {moment}: the next run failed");
            check("the next run");
            assert_eq!(desk.names(), ["in", "out"], "seed {seed}, moment {moment}: something is left behind");
        }
        // Every other time there is nothing to replace.
        if moment % 2 == 0 && desk.path("out").exists() {
            fs::remove_dir_all(desk.path("out")).unwrap();
        }
    }
    assert!(unfinished > 30, "seed {seed}: only {unfinished} runs were killed in time");
}
