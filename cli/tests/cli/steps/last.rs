//! The last steps of a run: from complete outputs under temporary names to their own.

use super::*;

/// The number of the first call of this kind that has all these parts.
fn nth(desk: &Desk, call: &str, parts: &[&str], args: &[&str]) -> usize {
    let (output, calls) = trace(desk, call, None, args);
    assert!(output.status.success(), "{:?}", texts(&output));
    let mut calls = calls.iter().filter(|line| line.starts_with(&format!("{call}(")));
    let found = calls.position(|line| parts.iter().all(|part| line.contains(part)));
    found.unwrap_or_else(|| panic!("no {call} with {parts:?}")) + 1
}

/// Until the directory has its name there is a journal, and what it leaves in it is nobody's business.
#[test]
fn a_run_that_is_killed_in_its_last_moment_loses_nothing() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let args = ["prune", "in", "-o", "out"];
    let kill = |call: &str, parts: &[&str]| {
        let clear = || drop(fs::remove_dir_all(desk.path("out")));
        clear();
        let nth = nth(&desk, call, parts, &args);
        clear();
        let (output, _) = trace(&desk, call, Some(&format!("{call}:signal=KILL:when={nth}")), &args);
        assert_eq!(output.status.signal(), Some(9), "{call}: {:?}", texts(&output));
    };
    kill("rename", &[r#"/out.emprune-partial", "#, r#"/out")"#]);
    let (_, stderr) = desk.succeed(&args);
    assert!(stderr.contains("taken over: 2 of 2 shards"), "{stderr}");
    let whole = tree(&desk.path("out"));
    assert!(!whole.contains_key(JOURNAL));

    kill("unlink", &[JOURNAL]);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&tree(&desk.path("out"))), [&[JOURNAL.to_owned()], &names(&whole)[..]].concat());
    let (_, stderr) = desk.succeed(&["inspect", "out"]);
    assert!(!stderr.contains("journal"), "{stderr}");
    desk.succeed(&["prune", "out", "-o", "again"]);
    assert_eq!(names(&tree(&desk.path("again"))), names(&whole), "it was copied");
    desk.succeed(&["verify", "in", "out"]);
    // It says what it finds, even if there is nothing else that it may do.
    let output = desk.run(&args);
    let (_, stderr) = texts(&output);
    assert!(
        stderr.contains("note: ") && stderr.contains("out was complete when the run that wrote it was ended"),
        "{stderr}"
    );
    assert!(stderr.contains("error: out exists and is not empty; --overwrite replaces it"), "{stderr}");
    assert_eq!(names(&tree(&desk.path("out"))), names(&whole));

    kill("unlink", &[JOURNAL]);
    desk.succeed(&[&args[..], &["--overwrite"]].concat());
    assert_eq!(names(&tree(&desk.path("out"))), names(&whole));
    assert_eq!(desk.names(), ["again", "in", "out"]);
}
