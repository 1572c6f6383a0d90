//! What machines are told with `--json`, and the manual pages.

use crate::desk::{Desk, f32s, model, texts};
use serde_json::Value;
#[cfg(unix)]
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

/// The events of a run; libraries may say other things on the same stream.
fn events(stderr: &str) -> Vec<Value> {
    stderr.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn desk() -> Desk {
    let desk = Desk::new();
    let (a, b) = (f32s(&[1.0, 3.0, 1.0, 1.0]), f32s(&[2.0, 2.0]));
    desk.write("in", &model(&[("a", "F32", &[1, 4], a), ("b", "F32", &[1, 2], b), ("i", "I8", &[1], vec![1])]));
    desk
}

#[test]
fn machines_are_told_what_happens_and_get_the_report() {
    for granularity in ["row", "global"] {
        let desk = desk();
        let args = ["prune", "in", "-o", "out", "--json", "--ignore", "nope", "--granularity", granularity];
        let (stdout, stderr) = desk.succeed(&args);
        let (report, events) = (serde_json::from_str::<Value>(&stdout).unwrap(), events(&stderr));
        assert_eq!(events.len(), stderr.lines().count(), "{stderr}");
        assert_eq!(kinds(&events), ["warning", "started", "tensor", "tensor", "finished"], "{stderr}");
        assert_eq!(events[0]["message"], "--ignore \"nope\" matches no tensor");
        let started = &events[1];
        assert_eq!((&started["input"], &started["output"]), (&"in".into(), &"out".into()));
        assert_eq!((&started["tensors"], &started["bytes"]), (&2.into(), &24.into()));
        for (event, tensor) in events[2..4].iter().zip(report["tensors"].as_array().unwrap()) {
            for field in ["name", "kept", "contests", "zeros_after", "mass", "seconds"] {
                assert_eq!(event[field], tensor[field], "{field}");
            }
        }
        assert!(events[4]["seconds"].as_f64().unwrap() > 0.0);
    }
}

/// All that the report says of a tensor, whatever it is called.
#[test]
fn an_event_is_what_the_report_says() {
    let desk = Desk::new();
    let name = "é\u{1b}[2J\u{9b}\u{7f}\u{202e}\"\\\u{2028}𝛽.weight";
    desk.write("in", &model(&[("a", "F32", &[2, 2], f32s(&[1.0; 4])), (name, "F32", &[2, 2], f32s(&[1.0; 4]))]));
    desk.write("recipe", b"[[rule]]\npattern = 'b'\nbeta = 0.5\n[[rule]]\npattern = '*weight'\nbeta = 0.5\n");
    for granularity in ["row", "tensor", "global"] {
        let (stdout, stderr) =
            desk.succeed(&["inspect", "in", "--json", "--recipe", "recipe", "--granularity", granularity]);
        let (report, events) = (serde_json::from_str::<Value>(&stdout).unwrap(), events(&stderr));
        let told = events.into_iter().filter(|event| event["event"] == "tensor").map(|mut event| {
            event.as_object_mut().unwrap().remove("event");
            event
        });
        let told: Vec<_> = told.collect();
        assert_eq!(Some(&told), report["tensors"].as_array(), "{granularity}");
        assert_eq!((&told[1]["name"], &told[1]["rule"]), (&name.into(), &2.into()));
        assert!(stderr.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{stderr:?}");
    }
}

#[test]
fn machines_are_told_why_nothing_was_done() {
    let desk = desk();
    desk.write("bad", &model(&[("w", "F32", &[1, 2], f32s(&[1.0, f32::NAN]))]));
    for (args, code, part) in [
        (&["prune", "bad", "-o", "out", "--json", "--backend", "cpu"][..], 1, "entry 1 is NaN"),
        (&["inspect", "gone", "--json", "--backend", "cpu"], 1, "gone"),
        (&["inspect", "in", "--json", "--score", "wanda"], 2, "--norms"),
    ] {
        let output = desk.run(args);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(code), ""));
        let events = events(&stderr);
        let last = events.last().unwrap();
        assert_eq!((&last["event"], &last["exit_code"]), (&"failed".into(), &code.into()), "{stderr}");
        assert!(last["message"].as_str().unwrap().contains(part), "{stderr}");
    }
}

/// The text is for people, and the event says the same.
#[test]
fn machines_are_told_what_is_wrong_with_the_command_line() {
    let desk = desk();
    for (args, part) in [
        (&["prune", "in", "-o", "out", "--json", "--beta", "x"][..], "invalid value 'x' for '--beta <B>'"),
        (&["prune", "in", "--json"], "were not provided: --output <PATH>"),
        (&["verify", "in", "in", "--json"], "unexpected argument '--json'"),
    ] {
        let output = desk.run(args);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.starts_with("error: ") && stderr.contains("try '--help'"), "{stderr}");
        let last: Value = serde_json::from_str(stderr.lines().last().unwrap()).expect(&stderr);
        assert_eq!((&last["event"], &last["exit_code"]), (&"failed".into(), &2.into()), "{stderr}");
        let message = last["message"].as_str().unwrap();
        assert!(message.contains(part) && !message.starts_with("error"), "{message:?} without {part:?}");
    }
    // Nobody asked for events, or nothing is wrong.
    for (args, code) in
        [(&["prune", "in"][..], 2), (&["prune", "in", "--", "--json"], 2), (&["prune", "--json", "--help"], 0)]
    {
        let output = desk.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(events(&texts(&output).1).is_empty(), "{:?}", texts(&output));
    }
}

/// A script that takes the one for success has its report.
#[cfg(target_os = "linux")]
#[test]
fn a_run_whose_report_cannot_be_printed_has_not_finished() {
    let desk = desk();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
    command.args(["prune", "in", "-o", "out", "--json", "--backend", "cpu"]).current_dir(desk.path(".")).stdout(full);
    let output = command.output().unwrap();
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(kinds(&events(&stderr)), ["started", "tensor", "tensor", "failed"], "{stderr}");
}

/// A file whose pruning takes seconds, of zeros and mostly holes.
#[cfg(unix)]
fn large() -> Desk {
    let desk = Desk::new();
    let bytes = 1u64 << 30;
    let header = format!(r#"{{"w":{{"dtype":"BF16","shape":[131072,4096],"data_offsets":[0,{bytes}]}}}}"#);
    desk.write("in", &crate::desk::with_header(&header, &f32s(&[1.0, 2.0])));
    let file = std::fs::File::options().write(true).open(desk.path("in")).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    desk
}

/// A run that is held up for longer than a second in its middle.
#[cfg(unix)]
#[test]
fn machines_are_told_how_far_it_is() {
    let desk = large();
    let mut child = Command::new(env!("CARGO_BIN_EXE_emprune"))
        .args(["inspect", "in", "--json", "--granularity", "global", "--backend", "cpu"])
        .current_dir(desk.path("."))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    stderr.read_line(&mut text).unwrap();
    assert!(text.contains("\"started\""), "{text}");
    let signal = |name: &str| Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(signal("-STOP").success());
    std::thread::sleep(Duration::from_millis(1300));
    assert!(signal("-CONT").success());
    stderr.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    let events = events(&text);
    let told: Vec<_> = events.iter().filter(|event| event["event"] == "progress").collect();
    assert!(!told.is_empty(), "{text}");
    for event in told {
        assert_eq!(event["bytes_total"], 1 << 30);
        // Several passes to decide, and another to carry that out.
        let pass = &event["pass"];
        assert!(
            event["bytes_done"].as_u64().unwrap() <= 1 << 30 && (pass.is_null() || pass.as_u64() >= Some(1)),
            "{event}"
        );
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let desk = Desk::new();
    let (page, stderr) = texts(&desk.run(&["man"]));
    assert!(page.contains(".TH emprune 1") && page.contains("emprune\\-prune(1)"), "{page} {stderr}");
    std::fs::create_dir(desk.path("pages")).unwrap();
    let output = desk.run(&["man", "pages"]);
    assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
    for (name, part) in [("emprune", "Exit codes"), ("emprune-prune", "row\\-axes"), ("emprune-verify", "masks")] {
        let page = String::from_utf8(desk.read(&format!("pages/{name}.1"))).unwrap();
        assert!(page.contains(part), "{name}: {page}");
    }
    desk.fail(&["man", "gone"], 1, &["cannot write to gone"]);
}

/// Whether it fails on its own or cannot say what came of it.
#[cfg(target_os = "linux")]
#[test]
fn machines_are_told_how_the_demo_ended() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).args(["demo", "--json"]).stdout(full);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let told = events(&texts(&output).1);
    assert_eq!((output.status.code(), kinds(&told)), (Some(1), vec!["failed"]), "{told:?}");
    let (stdout, _) = texts(&Desk::new().run(&["demo", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["schema"], "emprune.demo/1");
}
