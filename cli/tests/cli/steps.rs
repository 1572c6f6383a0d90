//! The system calls between a run and the disk, one by one: in which order they come, and what is left where a run is killed, is
//! interrupted, or is told of an error at any one of them. By `strace`, which finds every moment that there is, and not only some.
#![cfg(target_os = "linux")]

mod last;

use crate::desk::{Desk, skipped, texts, tree};
use crate::shards::{A, INDEX, checkpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PARTIAL: &str = ".emprune-partial";
const JOURNAL: &str = ".journal.emprune-partial";

/// Calls that change what is on the disk, and those that put it there.
const WRITES: &str =
    "write,pwrite64,ftruncate,copy_file_range,sendfile,fsync,fdatasync,syncfs,mkdir,rename,renameat2,unlink,unlinkat";

/// The tests that follow have nothing to say without it. In CI it must be there.
pub(crate) fn is_traced() -> bool {
    let found = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let works = found.as_ref().is_ok_and(|output| output.status.success());
    assert!(works || std::env::var_os("CI").is_none(), "install strace: {found:?}");
    if !works {
        skipped(&format!("no strace that may look at programs here: {found:?}"));
    }
    works
}

/// Run the program, look at these calls, and do something to one of them, or to none.
pub(crate) fn trace(desk: &Desk, calls: &str, inject: Option<&str>, args: &[&str]) -> (Output, Vec<String>) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-s0", "-e", &format!("trace={calls}"), "-o"]).arg(log.path());
    inject.map(|inject| command.args(["-e", &format!("inject={inject}")]));
    if inject.is_some_and(|inject| inject.contains("signal=INT")) {
        command.args(["env", "--default-signal=INT"]);
    }
    command.arg(env!("CARGO_BIN_EXE_emprune")).args(args).current_dir(desk.path("."));
    if args[0] == "prune" && !args.contains(&"--backend") {
        command.args(["--backend", "cpu"]);
    }
    let output = command.output().unwrap();
    let log = std::fs::read_to_string(log.path()).unwrap();
    // Without the number of the thread. A call that another thread came into is told twice; the first time has the arguments.
    let call = |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').to_owned();
    let calls = log.lines().map(call).filter(|call| !call.starts_with(['<', '-', '+'])).collect();
    (output, calls)
}

/// What a call is about: the names of open files, or of a call that takes names those in its quotes.
fn paths(call: &str) -> Vec<&str> {
    let names = ["rename", "mkdir", "unlink"].iter().any(|name| call.starts_with(name));
    let (begin, end) = if names { ('"', '"') } else { ('<', '>') };
    let mut paths = Vec::new();
    let mut rest = call;
    while let Some(at) = rest.find(begin) {
        let Some(len) = rest[at + 1..].find(end) else { break };
        paths.push(&rest[at + 1..][..len]);
        rest = &rest[at + len + 2..];
    }
    paths.into_iter().filter(|path| path.starts_with('/')).collect()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether everything is on the disk before it gets its name, and the name before the next thing depends on it. The files, in the order
/// in which they were last flushed.
fn check_order(calls: &[String]) -> Vec<String> {
    let (mut dirty, mut flushed) = (BTreeSet::new(), Vec::new());
    for call in calls {
        let (name, paths) = (call.split('(').next().unwrap(), paths(call));
        match (name, paths.as_slice()) {
            ("openat", [.., path]) if call.contains("O_CREAT") => {
                dirty.extend([(*path).to_owned(), parent(path).to_owned()]);
            }
            ("mkdir", [path]) => dirty.extend([(*path).to_owned(), parent(path).to_owned()]),
            ("write" | "pwrite64" | "ftruncate" | "copy_file_range" | "sendfile", paths) => {
                dirty.extend(paths.iter().map(|path| (*path).to_owned()));
            }
            ("fsync" | "fdatasync", [path]) => {
                dirty.remove(*path);
                flushed.retain(|other| other != path);
                flushed.push((*path).to_owned());
            }
            // All that is on the file system of what it names: one, here.
            ("syncfs", _) => dirty.clear(),
            ("rename" | "renameat2", [from, to]) => {
                let is_in = |path: &&String| {
                    path.strip_prefix(from).is_some_and(|rest| ["", "/"].contains(&&rest[..rest.len().min(1)]))
                };
                let is_ours = to.ends_with(PARTIAL) || to.ends_with("-old");
                let late: Vec<_> = dirty.iter().filter(is_in).collect();
                assert!(is_ours || late.is_empty(), "{late:?} are not flushed before {call}");
                // What was there before goes for good only when the new name is on the disk.
                assert!(
                    !from.ends_with("-old") || !dirty.contains(parent(to)),
                    "the directory is not flushed before {call}"
                );
                // And then nobody misses it, nor minds it if it comes back.
                if !from.ends_with("-old") {
                    dirty.insert(parent(to).to_owned());
                }
            }
            _ => {}
        }
    }
    for call in calls.iter().filter(|call| call.starts_with("rename")) {
        let paths = paths(call);
        let directory = parent(paths.last().unwrap());
        assert!(!dirty.contains(directory), "{directory} is not flushed after {call}");
    }
    flushed
}

#[test]
fn everything_is_flushed_before_it_gets_its_name_and_the_index_comes_last() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let calls = format!("{WRITES},openat");
    let file = format!("in/{A}");
    for args in [
        &["prune", "in", "-o", "out", "--masks", "masks", "--report", "report"][..],
        &["prune", "in", "-o", "out", "--overwrite"],
        &["prune", "in", "-o", "out", "--overwrite", "--granularity", "global"],
        &["prune", &file, "-o", "file", "--masks", "masks", "--overwrite"],
        &["prune", "in", "-o", "out", "--plot", "plots", "--overwrite"],
        &["apply", "in", "--masks", "masks-of-all", "-o", "out", "--overwrite"],
    ] {
        if args[0] == "apply" {
            desk.succeed(&["inspect", "in", "--masks", "masks-of-all"]);
        }
        let (output, calls) = trace(&desk, &calls, None, args);
        assert!(output.status.success(), "{:?}", texts(&output));
        let flushed = check_order(&calls);
        let inside = flushed.iter().filter_map(|path| path.split_once("/out.emprune-partial/"));
        let last = inside.map(|(_, name)| name).rfind(|name| !name.starts_with('.'));
        assert_eq!(last, args.contains(&"in").then_some(INDEX), "{flushed:?}");
    }
}

#[test]
fn an_order_that_is_wrong_is_noticed() {
    let good = [
        r#"openat(AT_FDCWD</d>, "/d/out.emprune-partial/a", O_RDWR|O_CREAT, 0666) = 5</d/out.emprune-partial/a>"#,
        r#"write(5</d/out.emprune-partial/a>, ""..., 8) = 8"#,
        r#"fsync(5</d/out.emprune-partial/a>) = 0"#,
        r#"fsync(6</d/out.emprune-partial>) = 0"#,
        r#"rename("/d/out.emprune-partial", "/d/out") = 0"#,
        r#"fsync(5</d>) = 0"#,
        r#"rename("/d/out.emprune-old", "/d/out.emprune-partial") = 0"#,
    ]
    .map(str::to_owned);
    check_order(&good);
    for missing in [2, 3, 5] {
        let bad: Vec<_> =
            good.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, call)| call.clone()).collect();
        let noticed = std::panic::catch_unwind(|| check_order(&bad));
        assert!(noticed.is_err(), "nobody missed {}", good[missing]);
    }
    let mut late = good;
    late.swap(1, 2);
    assert!(std::panic::catch_unwind(|| check_order(&late)).is_err());
}

type Files = BTreeMap<String, Vec<u8>>;

/// The checkpoint with an output that an earlier run wrote, and both outputs without their reports: those have times.
struct Story {
    desk: Desk,
    input: Files,
    old: Files,
    new: Files,
}

const NEW: [&str; 5] = ["prune", "in", "-o", "out", "--overwrite"];
const OLD: [&str; 7] = ["prune", "in", "-o", "out", "--overwrite", "--beta", "0.5"];

impl Story {
    fn new() -> Self {
        let desk = checkpoint();
        desk.succeed(&NEW);
        let new = outcome(&desk);
        desk.succeed(&OLD);
        let (input, old) = (tree(&desk.path("in")), outcome(&desk));
        assert!(old != new && old.len() == new.len() && new.len() == input.len());
        Self { desk, input, old, new }
    }

    /// Run with this done to one of the calls, and look at what is there. A run that says it is done is.
    fn run(&self, what: &str, (call, nth): &Step) -> (Output, bool) {
        let (output, _) = trace(&self.desk, call, Some(&format!("{call}:{what}:when={nth}")), &NEW);
        let case = format!("{what} at {call} {nth}: {:?}", texts(&output));
        assert!(tree(&self.desk.path("in")) == self.input, "the input changed, {case}");
        // Between two renames what was there before has another name, until the next run.
        let there = if self.desk.path("out").exists() { outcome(&self.desk) } else { Files::new() };
        let aside = there.is_empty() && self.desk.path("out.emprune-old").exists();
        assert!(there == self.old || there == self.new || aside, "half an output, {case}");
        assert!(!output.status.success() || there == self.new, "said to be done, {case}");
        (output, there == self.new)
    }

    /// The next run completes, and leaves nothing behind.
    fn goes_on(&self, step: &Step) {
        self.desk.succeed(&NEW);
        assert!(outcome(&self.desk) == self.new, "the next run after {step:?}");
        assert_eq!(self.desk.names(), ["in", "out"], "the next run after {step:?}");
        self.desk.succeed(&OLD);
    }
}

/// A call, and which one of its kind: so strace counts, in each thread.
type Step = (String, usize);

/// The steps of a run. Of a small test every fourth: others in each run of the suite, and in each test, which has a turn of its own.
/// `EMPRUNE_STEP_SEED` repeats those of a failure.
fn steps(calls: &str, turn: usize) -> Vec<Step> {
    let (output, calls) = trace(&Story::new().desk, calls, None, &NEW);
    assert!(output.status.success(), "{:?}", texts(&output));
    count(calls, turn)
}

fn count(calls: Vec<String>, turn: usize) -> Vec<Step> {
    let mut seen = BTreeMap::<String, usize>::new();
    for call in calls {
        *seen.entry(call.split('(').next().unwrap().to_owned()).or_default() += 1;
    }
    let steps = seen.into_iter().flat_map(|(name, count)| (1..=count).map(move |nth| (name.clone(), nth)));
    if std::env::var("EMPRUNE_TEST_SIZE").is_ok_and(|size| size == "small") {
        let seed = seed();
        println!("EMPRUNE_STEP_SEED={seed}");
        steps.skip((seed + turn) % 4).step_by(4).collect()
    } else {
        steps.collect()
    }
}

fn seed() -> usize {
    static SEED: LazyLock<usize> = LazyLock::new(|| match std::env::var("EMPRUNE_STEP_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as usize,
    });
    *SEED
}

/// What a reader finds.
fn outcome(desk: &Desk) -> Files {
    let mut files = tree(&desk.path("out"));
    files.remove("emprune_report.json");
    files.remove(JOURNAL);
    files
}

#[test]
fn a_run_that_is_killed_at_any_step_leaves_all_or_nothing() {
    if !is_traced() {
        return;
    }
    let (story, steps) = (Story::new(), steps(WRITES, 0));
    let mut killed = 0;
    for step in &steps {
        let (output, _) = story.run("signal=KILL", step);
        killed += usize::from(output.status.signal() == Some(9));
        story.goes_on(step);
    }
    // Where two threads make one kind of call, neither may come so far.
    assert!(killed > steps.len() / 2, "{killed} of {steps:?}");
}

#[test]
fn an_error_at_any_step_leaves_all_or_nothing() {
    if !is_traced() {
        return;
    }
    let story = Story::new();
    let (mut failed, mut done) = (0, 0);
    for step in &steps(WRITES, 1) {
        let (output, is_new) = story.run("error=EIO", step);
        let (stdout, stderr) = texts(&output);
        let said = stderr.matches("error: ").count();
        let is_right = match output.status.code() {
            Some(0) => said == 0 && is_new && step.0 != "fsync",
            Some(1) => said == 1 || step.0 == "write", // which may be the line that says it
            _ => false,
        };
        assert!(is_right, "{step:?}: {stdout} {stderr}");
        failed += usize::from(!is_new);
        done += usize::from(is_new);
        story.goes_on(step);
    }
    assert!(failed > 5 && done > 0, "{failed} {done}");
}

#[test]
fn a_run_that_goes_on_and_is_interrupted_at_any_step_leaves_all_or_nothing() {
    if !is_traced() {
        return;
    }
    let story = Story::new();
    // The first shard is done, and what it was made from is known.
    let one_shard = ("fdatasync".to_owned(), 1);
    // Hashing what is there reads, and writes nothing.
    for step in &steps(&format!("{WRITES},pread64,read"), 2) {
        let (output, _) = story.run("signal=KILL", &one_shard);
        assert_eq!(output.status.signal(), Some(9));
        assert!(story.desk.path(&format!("out{PARTIAL}/{A}")).exists(), "nothing to go on from");
        let (output, is_new) = story.run("signal=TERM", step);
        // Before the program listens the signal ends it, and after the last rename it is too late.
        let status = output.status;
        let is_right = status.signal() == Some(15) || status.code() == Some(130) || status.success() && is_new;
        assert!(is_right, "{step:?}: {:?} {:?}", status, texts(&output));
        story.goes_on(step);
    }
}

/// A signal is not the reason of every error that comes after it.
#[test]
fn an_error_that_a_signal_did_not_make_is_told_as_what_it_is() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let args = ["prune", "in", "-o", "out"];
    // All of it is written, and nobody looks for signals any more.
    let (output, _) = trace(&desk, "rename", Some("rename:error=EIO:signal=INT:when=2"), &args);
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains(": cannot create ") && stderr.contains("Input/output error"), "{stderr}");
    let (output, _) = trace(&desk, "fdatasync", Some("fdatasync:signal=INT:when=1"), &args);
    assert_eq!((output.status.code(), texts(&output).1.lines().last()), (Some(130), Some("error: interrupted")));
    assert_eq!(desk.names(), ["in"]);
}

/// When all is written, no error takes it away: neither that of a directory which cannot be moved aside, nor that of one which cannot get its name.
#[test]
fn a_complete_output_stays_where_it_cannot_get_its_name() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let args = ["prune", "in", "-o", "out", "--overwrite", "--masks", "masks", "--report", "report"];
    desk.succeed(&args);
    let of_old = outcome(&desk);
    let args = [&args[..], &["--granularity", "tensor"]].concat();
    let partial = format!("out{PARTIAL}");
    let (mut aside, mut last) = (0, 0);
    for nth in 1..20 {
        let (output, calls) = trace(&desk, "rename", Some(&format!("rename:error=EACCES:when={nth}")), &args);
        let (_, stderr) = texts(&output);
        let Some(failed) = calls.iter().find(|call| call.contains("EACCES")) else {
            assert!(output.status.success(), "{stderr}");
            break;
        };
        if failed.contains("/out.emprune-old\", ") {
            // It has its name, and what was there before is not gone.
            assert!(output.status.success() && stderr.contains("warning: "), "{failed}: {stderr}");
            desk.succeed(&args[..args.len() - 2]);
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{failed}: {stderr}");
        assert!(outcome(&desk) == of_old, "{failed}: {stderr}");
        // Before that it is the journal's own, and what gets its name first.
        let is_of_output = failed.contains("/out.emprune-partial\", ") || failed.contains("/out\", ");
        if is_of_output {
            let said = "is complete and stays there, where the same command goes on, for it cannot become ";
            let is_aside = failed.contains("/out.emprune-old\"");
            assert!(stderr.contains(said), "{failed}: {stderr}");
            let there = tree(&desk.path(&partial));
            assert!(of_old.keys().all(|name| there.contains_key(name)), "{failed}: {:?}", there.keys());
            (aside, last) = (aside + usize::from(is_aside), last + usize::from(!is_aside));
        }
        if failed.contains("/out\", ") {
            let (output, _) = trace(&desk, "rename", None, &args);
            let (_, stderr) = texts(&output);
            assert!(output.status.success() && stderr.contains("taken over: 2 of 2 shards"), "{stderr}");
            assert_eq!(desk.names(), ["in", "masks", "out", "report"]);
        }
        // Back to the old one, for what comes next.
        desk.succeed(&args[..args.len() - 2]);
        assert_eq!(desk.names(), ["in", "masks", "out", "report"], "{failed}");
    }
    assert_eq!((aside, last), (1, 1));
    // Nor do files go that others came before.
    fs::remove_file(desk.path("masks")).unwrap();
    let file = format!("in/{A}");
    let args = ["prune", &file, "-o", "file", "--masks", "masks", "--report", "another"];
    let (output, _) = trace(&desk, "renameat2", Some("renameat2:error=EEXIST:when=3"), &args);
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(".file.emprune-partial is complete and stays there, for it cannot become "), "{stderr}");
    assert!([".file", ".masks", ".another"].iter().all(|name| desk.path(&format!("{name}{PARTIAL}")).exists()));
    desk.succeed(&args);
    assert_eq!(desk.names(), ["another", "file", "in", "masks", "out", "report"]);
}

/// To be told to end before it is known what can be trusted is not to know that nothing can.
#[test]
fn a_run_that_is_interrupted_while_it_looks_at_finished_shards_loses_none() {
    if !is_traced() {
        return;
    }
    let args = ["prune", "in", "-o", "out", "--masks", "masks"];
    for nth in 1..100 {
        let desk = checkpoint();
        // Masks are flushed first, and then the line that says so.
        let (output, _) = trace(&desk, "fdatasync", Some("fdatasync:signal=KILL:when=2"), &args);
        assert_eq!(output.status.signal(), Some(9));
        let (output, _) = trace(&desk, "pread64", Some(&format!("pread64:signal=TERM:when={nth}")), &args);
        if output.status.success() {
            assert!(nth > 3, "it reads nothing");
            return;
        }
        let journal = fs::read_to_string(desk.path(&format!("out{PARTIAL}/{JOURNAL}")));
        let lines = journal.map_or(0, |text| text.lines().count());
        let is_there = desk.path(&format!("out{PARTIAL}/{A}")).exists();
        assert!(is_there && lines > 0, "{nth}: {lines} lines, {:?}", texts(&output));
    }
    panic!("it never ended");
}

/// Several outputs cannot get their names at once. Whichever of them a killed run had named: the same command completes, though nobody
/// allowed it to overwrite anything.
#[test]
fn a_run_that_is_killed_between_its_outputs_is_no_burden_to_the_next() {
    if !is_traced() {
        return;
    }
    let file = format!("in/{A}");
    let several = ["--masks", "masks", "--report", "report"];
    let pruned = ["masks", "out", "report"];
    let drawn = ["masks", "out", "plots", "report"];
    for (args, outputs) in [
        (&[&["prune", "in", "-o", "out"], &several[..]].concat(), &pruned[..]),
        (&[&["prune", &file, "-o", "out"], &several[..]].concat(), &pruned),
        (&[&["prune", "in", "-o", "out", "--plot", "plots"], &several[..]].concat(), &drawn),
        (&[&["inspect", "in"], &several[..]].concat(), &["masks", "report"]),
    ] {
        let desk = checkpoint();
        let mut killed_between = 0;
        for call in ["rename", "renameat2", "unlink", "unlinkat"] {
            for nth in 1..100 {
                let (output, _) = trace(&desk, call, Some(&format!("{call}:signal=KILL:when={nth}")), args);
                let named = desk.names();
                let there = outputs.iter().filter(|name| named.iter().any(|other| other == *name)).count();
                let case = format!("{args:?}, {call} {nth}: {named:?}, {:?}", texts(&output));
                let is_done = there == outputs.len();
                assert!(is_done || output.status.signal() == Some(9), "{case}");
                killed_between += usize::from(there > 0 && !is_done);
                if is_done && !output.status.success() {
                    // All is there. Without leave to replace it nothing is done, and what the note said is gone.
                    desk.run(args);
                } else if !is_done {
                    desk.succeed(args);
                }
                let mut expected: Vec<_> =
                    outputs.iter().map(|name| (*name).to_owned()).chain(["in".to_owned()]).collect();
                expected.sort();
                assert_eq!(desk.names(), expected, "{case}");
                for name in outputs {
                    let path = desk.path(name);
                    if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
                }
                if output.status.success() {
                    break;
                }
            }
        }
        assert!(killed_between >= outputs.len() - 1, "{args:?}: {killed_between}");
    }
}

/// A run that goes on and is killed in its turn loses nothing of what was finished: the next one finds as many shards or more.
#[test]
fn what_is_finished_stays_so_however_often_a_run_is_killed() {
    if !is_traced() {
        return;
    }
    let story = Story::new();
    for step in &steps("rename,fdatasync,unlink,openat", 3) {
        let (output, _) = story.run("signal=KILL", &("fdatasync".to_owned(), 1));
        assert_eq!(output.status.signal(), Some(9));
        let journal = story.desk.path(&format!("out{PARTIAL}/{JOURNAL}"));
        let lines = || fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        let before = lines();
        assert!(before > 0, "nothing was finished");
        let (output, is_new) = story.run("signal=KILL", step);
        let was_killed = output.status.signal() == Some(9);
        assert!(!was_killed || is_new || lines() >= before, "{step:?}: {} of {before} lines", lines());
        story.goes_on(step);
    }
}

/// What somebody else put there is not taken for what a killed run left.
#[test]
fn a_note_is_about_no_other_file() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let args = ["prune", "in", "-o", "out", "--report", "report"];
    for call in ["rename", "renameat2"] {
        for nth in 1..10 {
            let (output, _) = trace(&desk, call, Some(&format!("{call}:signal=KILL:when={nth}")), &args);
            if !desk.path("report").exists() || desk.path("out").exists() {
                assert!(output.status.success() || !desk.path("out").exists());
                continue;
            }
            fs::remove_file(desk.path("report")).unwrap();
            desk.write("report", b"of somebody else");
            let output = desk.run(&args);
            assert_eq!(output.status.code(), Some(1));
            assert!(texts(&output).1.contains("report exists; --overwrite replaces it"), "{:?}", texts(&output));
            assert_eq!(desk.read("report"), b"of somebody else");
            return;
        }
    }
    panic!("it was never killed between its outputs");
}

/// Some network file systems have no locks. Two runs may be at one place there; the one that comes later completes, and the other one
/// fails and takes nothing of it away.
#[test]
fn a_run_without_locks_publishes_what_it_wrote_or_nothing() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let file = format!("in/{A}");
    desk.succeed(&["prune", &file, "-o", "whole"]);
    let whole = desk.read("whole");
    fs::remove_file(desk.path("whole")).unwrap();
    for (input, flush) in [("in", "fdatasync"), (&file, "fsync")] {
        // The first one stops before it flushes what it has written, in each of its threads; of a directory that is the first shard.
        let args = ["prune", input, "-o", "out", "--backend", "cpu"];
        let mut first = Command::new("strace");
        first.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace=flock,{flush}")]);
        first.args(["-e", "inject=flock:error=ENOLCK", "-e", &format!("inject={flush}:signal=STOP:when=1")]);
        first.arg(env!("CARGO_BIN_EXE_emprune")).args(args).current_dir(desk.path(".")).process_group(0);
        let mut first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let shard = if input == "in" { &format!("out{PARTIAL}/{A}") } else { ".out.emprune-partial" };
        let deadline = Instant::now() + Duration::from_secs(60);
        while desk.path(shard).metadata().map_or(0, |metadata| metadata.len()) == 0 {
            assert!(first.try_wait().unwrap().is_none() && Instant::now() < deadline, "it is not in the middle");
            std::thread::sleep(Duration::from_millis(1));
        }
        let (second, _) = trace(&desk, "flock", Some("flock:error=ENOLCK"), &args);
        let (_, stderr) = texts(&second);
        assert!(second.status.success() && stderr.matches("without locks").count() == 1, "{stderr}");
        while first.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            let _ = Command::new("kill").args(["-CONT", "--", &format!("-{}", first.id())]).status();
            std::thread::sleep(Duration::from_millis(10));
        }
        let slow = first.wait_with_output().unwrap();
        let (stdout, stderr) = texts(&slow);
        assert_eq!((slow.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains("without locks"), "{stderr}");
        assert_eq!(desk.names(), ["in", "out"], "{stderr}");
        if input == "in" {
            assert!(desk.read(&format!("out/{A}")) == whole, "half an output");
            fs::remove_dir_all(desk.path("out")).unwrap();
        } else {
            assert!(stderr.contains("another run is writing") && stderr.contains("taken"), "{stderr}");
            assert!(desk.read("out") == whole, "half an output");
        }
    }
}

/// FAT has neither a rename that replaces nothing nor a second name of a file.
#[test]
fn a_file_gets_its_name_where_no_rename_spares_what_is_there() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let file = format!("in/{A}");
    let args = ["prune", &file, "-o", "out"];
    for inject in ["renameat2:error=EPERM", "renameat2:error=EOPNOTSUPP"] {
        let (output, _) = trace(&desk, "renameat2", Some(inject), &args);
        assert!(output.status.success(), "{:?}", texts(&output));
        assert_eq!(desk.names(), ["in", "out"]);
        fs::remove_file(desk.path("out")).unwrap();
    }
    let (output, _) = trace(&desk, "renameat2", Some("renameat2:error=EEXIST"), &args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(desk.names(), [".out.emprune-partial", "in"]);
}
