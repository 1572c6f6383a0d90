//! Exit codes and the words around the work.

use crate::desk::{Desk, f32s, model, texts};
use std::process::Command;

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[1, 2], f32s(&[1.0, 2.0]))]));
    desk
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let desk = desk();
    for (args, part) in [
        (&["prune", "in"] as &[&str], "--output"),
        (&["prune", "-o", "out"], "INPUT"),
        (&["prune", "in", "-o", "out", "--granularity", "columns"], "columns"),
        (&["prune", "in", "-o", "out", "--backend", "tpu"], "tpu"),
        (&["prune", "in", "-o", "out", "--sparsities", "0.5"], "--sparsity"),
        (&["prune", "in", "-o", "out", "--score", "wanda"], "--norms FILE"),
        (&["prune", "in", "-o", "out", "--norms", "in"], "--score wanda"),
        (&["prune", "in", "-o", "out", "--backend", "cpu", "--adapter", "x"], "--adapter"),
        (&["prune", "in", "-o", "out", "--memory", "512"], "KiB, MiB, GiB or TiB"),
        (&["prune", "in", "-o", "out", "--memory", "0.5GiB"], "whole number"),
        (&["inspect", "in", "--memory", "63MiB"], "at least 64MiB"),
        (&["inspect", "in", "--memory", "99999999999GiB"], "64 bits"),
    ] {
        desk.fail(args, 2, &[part]);
    }
    assert_eq!(desk.run(&["fold", "in"]).status.code(), Some(2));
    assert_eq!(desk.run(&[]).status.code(), Some(2));
}

#[test]
fn beta_must_be_a_positive_decimal() {
    let desk = desk();
    for beta in ["0", "-0", "-1", "-0.5", "nan", "inf", "1e400", "1e-400", "half", "", "1,5", "0x1", "1/2", "1e30"] {
        let option = format!("--beta={beta}");
        desk.fail(&["prune", "in", "-o", "out", &option], 2, &["beta"]);
        desk.fail(&["inspect", "in", &option], 2, &["beta"]);
    }
    desk.fail(&["prune", "in", "-o", "out", "--beta", "-1"], 2, &["beta -1 is not a positive"]);
    desk.fail(&["prune", "in", "-o", "out", "--beta", "1e300"], 2, &["beta 1e300 is no ratio of two 64-bit"]);
}

#[test]
fn an_adapter_that_is_not_there_is_an_error() {
    let desk = desk();
    let start = ["prune", "in", "-o", "out", "--masks", "masks", "--adapter", "no such adapter"];
    desk.fail(&[&start[..], &["--backend", "gpu"]].concat(), 1, &["adapter"]);
    desk.fail(&start, 1, &["adapter"]);
}

#[test]
fn help_says_what_it_is_about() {
    let desk = desk();
    for (args, parts) in [
        (&["--help"] as &[&str], &["N_eff", "inspect", "Examples:", "Exit codes"] as &[&str]),
        (&["prune", "--help"], &["--targets", "re:", "Examples:", "positive decimal", "wanda"]),
        (&["verify", "--help"], &["--masks", "--beta", "OUTPUT"]),
        (&["inspect", "--help"], &["dry run", "--masks"]),
        (&["devices", "--help"], &["--json"]),
    ] {
        let output = desk.run(args);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
        for part in parts {
            assert!(stdout.contains(part), "{args:?} does not mention {part:?}:\n{stdout}");
        }
        let widest = stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(120), "{args:?} is {widest:?} columns wide:\n{stdout}");
    }
    let (version, _) = texts(&desk.run(&["--version"]));
    assert_eq!(version, format!("emprune {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn devices_lists_the_cpu_and_every_adapter() {
    let desk = desk();
    let output = desk.run(&["devices"]);
    let (stdout, _) = texts(&output);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout.lines().next(), Some(emprune::Pruner::cpu().backend().to_string().as_str()));
    let output = desk.run(&["devices", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let devices: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let adapters = devices["adapters"].as_array().unwrap();
    assert!(devices["cpu"]["threads"].as_u64() >= Some(1));
    for adapter in adapters {
        let name = adapter["name"].as_str().unwrap();
        assert!(stdout.contains(name), "{name} is missing from\n{stdout}");
        assert!(adapter["max_binding_bytes"].as_u64() >= Some(128 << 20), "{adapter}");
    }
    assert_eq!(adapters.is_empty(), stdout.contains("no adapter"), "{stdout}");
}

/// A container may have a limit on processes, which are threads too. It is no bound for root.
#[cfg(target_os = "linux")]
#[test]
fn a_machine_without_threads_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    std::fs::set_permissions(desk.path("."), std::fs::Permissions::from_mode(0o755)).unwrap();
    let limited = "me=$(id -u); ulimit -u 1; \
                   if [ \"$me\" = 0 ]; then exec setpriv --reuid=65534 --clear-groups \"$0\" \"$@\"; fi; exec \"$0\" \"$@\"";
    let run = |args: &[&str]| {
        let mut command = Command::new("bash");
        command.args(["-c", limited, env!("CARGO_BIN_EXE_emprune")]).args(args).current_dir(desk.path("."));
        command.output().unwrap()
    };
    let help = run(&["--version"]);
    if !help.status.success() {
        crate::desk::skipped(&format!("another user cannot run the program here: {}", texts(&help).1));
        return;
    }
    desk.write("in", &model(&[("w", "F32", &[2, 2], f32s(&[1.0, 2.0, 3.0, 4.0]))]));
    let (stdout, stderr) = texts(&run(&["inspect", "in", "--backend", "cpu"]));
    assert!(stdout.is_empty() && stderr.starts_with("error: cannot start threads; "), "{stdout} {stderr}");
    let output = run(&["inspect", "in", "--backend", "cpu", "--json"]);
    assert!(texts(&output).1.contains(r#"{"event":"failed""#), "{}", texts(&output).1);
    assert_eq!(output.status.code(), Some(1));
}
