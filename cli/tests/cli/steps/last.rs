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

/// Three outputs beside the directory, all of them in the place of earlier ones.
struct Several {
    desk: Desk,
    of_old: Files,
    of_new: Files,
    calls: Vec<String>,
}

const SEVERAL: [&str; 11] =
    ["prune", "in", "-o", "out", "--overwrite", "--masks", "masks", "--report", "report", "--plot", "plots"];
const NAMES: [&str; 5] = ["in", "masks", "out", "plots", "report"];

impl Several {
    fn new() -> Self {
        let mut several = Self { desk: checkpoint(), of_old: Files::new(), of_new: Files::new(), calls: vec![] };
        several.start();
        several.of_old = several.files();
        let (output, calls) = trace(&several.desk, WRITES, None, &SEVERAL);
        assert!(output.status.success(), "{:?}", texts(&output));
        (several.of_new, several.calls) = (several.files(), calls);
        assert!(["masks", "plots/model.svg"].iter().all(|name| several.of_new[*name] != several.of_old[*name]));
        several
    }

    /// With the old outputs.
    fn start(&self) {
        self.desk.succeed(&[&SEVERAL[..], &["--beta", "0.5"]].concat());
    }

    /// All but the reports, which have times.
    fn files(&self) -> Files {
        let mut files = self.desk.everything();
        files.retain(|name, _| !name.ends_with("report") && !name.ends_with("emprune_report.json"));
        files
    }

    /// The same command goes on with all that was finished, and completes.
    fn goes_on(&self, case: &str) {
        let journal = fs::read_to_string(self.desk.path(&format!("out{PARTIAL}/{JOURNAL}"))).unwrap_or_default();
        let lines = journal.lines().count();
        let (_, stderr) = self.desk.succeed(&SEVERAL);
        assert!(!stderr.contains("do not fit") && !stderr.contains("does not fit"), "{case}: {stderr}");
        let taken_over = format!("taken over: {lines} of 2 shards");
        assert!(lines == 0 || stderr.contains(&taken_over), "{case}, {lines}: {stderr}");
        assert!(self.files() == self.of_new, "{case}");
        assert_eq!(self.desk.names(), NAMES, "{case}");
    }
}

#[test]
fn a_run_that_replaces_several_outputs_is_killed_at_no_step_that_loses_work() {
    if !is_traced() {
        return;
    }
    let several = Several::new();
    let mut between = 0;
    for (call, nth) in count(several.calls.clone(), 0) {
        several.start();
        let (output, _) = trace(&several.desk, &call, Some(&format!("{call}:signal=KILL:when={nth}")), &SEVERAL);
        let case = format!("{call} {nth}: {:?}", texts(&output));
        let left = several.files();
        let is = |name: &str, of: &Files| left.get(name) == of.get(name);
        assert!(is("masks", &several.of_old) || is("masks", &several.of_new), "{case}");
        between += usize::from(is("masks", &several.of_new) && !is(&format!("out/{A}"), &several.of_new));
        several.goes_on(&case);
    }
    assert!(between > 0, "it was never killed between its outputs");
}

#[test]
fn an_error_at_any_step_of_several_outputs_is_told_and_what_stays_is_named() {
    if !is_traced() {
        return;
    }
    let several = Several::new();
    for (call, nth) in count(several.calls.clone(), 1) {
        several.start();
        let (output, calls) = trace(&several.desk, &call, Some(&format!("{call}:error=EIO:when={nth}")), &SEVERAL);
        let (_, stderr) = texts(&output);
        let case = format!("{call} {nth}: {stderr} {:?}", calls.iter().find(|call| call.contains("INJECTED")));
        let files = several.files();
        let is_new = several.of_new.iter().all(|(name, bytes)| files.get(name) == Some(bytes));
        match output.status.code() {
            Some(0) => assert!(is_new && call != "fsync" && !stderr.contains("error: "), "{case}"),
            Some(1) => assert!(stderr.matches("error: ").count() == 1 || call == "write", "{case}"),
            code => panic!("{code:?}, {case}"),
        }
        // What cannot be said is not, and a name that cannot be removed was only a lock.
        let is_told = |name: &String| {
            NAMES.contains(&&**name)
                || stderr.contains(name.as_str())
                || ["write", "unlink", "unlinkat"].contains(&&*call)
        };
        assert!(several.desk.names().iter().all(is_told), "{:?}, {case}", several.desk.names());
        several.goes_on(&case);
    }
}

/// One that wants fewer outputs takes the note away as well.
#[test]
fn a_note_goes_with_the_next_run_that_ends_well() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let args = ["prune", "in", "-o", "out", "--masks", "masks"];
    let nth = nth(&desk, "rename", &[r#"/out.emprune-partial", "#], &args);
    fs::remove_dir_all(desk.path("out")).unwrap();
    fs::remove_file(desk.path("masks")).unwrap();
    let (output, _) = trace(&desk, "rename", Some(&format!("rename:signal=KILL:when={nth}")), &args);
    assert_eq!(output.status.signal(), Some(9));
    assert!(desk.path(".out.emprune-note").exists() && desk.path("masks").exists());
    desk.succeed(&args[..4]);
    assert_eq!(desk.names(), ["in", "masks", "out"]);
}

/// A name that may not survive a power cut is none, and what it replaced stays.
#[test]
fn a_directory_that_cannot_be_flushed_is_an_error() {
    if !is_traced() {
        return;
    }
    let story = Story::new();
    let more = ["--masks", "masks", "--report", "report"];
    let (mut inside, mut above) = (0, 0);
    for nth in 1.. {
        let args = [&NEW[..], &more].concat();
        let (output, calls) = trace(&story.desk, "fsync", Some(&format!("fsync:error=EIO:when={nth}")), &args);
        let (_, stderr) = texts(&output);
        let Some(failed) = calls.iter().find(|call| call.contains("EIO")) else {
            assert!(output.status.success(), "{stderr}");
            break;
        };
        assert_eq!(output.status.code(), Some(1), "{failed}: {stderr}");
        assert!(stderr.contains("Input/output error"), "{failed}: {stderr}");
        let is_new = outcome(&story.desk) == story.new;
        inside += usize::from(failed.contains(&format!("/out{PARTIAL}>")));
        if is_new {
            above += 1;
            let old = story.desk.path("out.emprune-old");
            assert!(old.is_dir() && stderr.contains(old.to_str().unwrap()), "{failed}: {stderr}");
        } else {
            assert!(outcome(&story.desk) == story.old, "{failed}: {stderr}");
        }
        story.desk.succeed(&args);
        assert!(outcome(&story.desk) == story.new, "{failed}");
        assert_eq!(story.desk.names(), ["in", "masks", "out", "report"], "{failed}");
        story.desk.succeed(&OLD);
    }
    assert!(inside > 0 && above > 0, "{inside} {above}");
    // Where directories cannot be flushed at all, nothing more can be done.
    for error in ["EINVAL", "EOPNOTSUPP"] {
        // Of one file, the second thing that is flushed is the directory.
        let args = ["prune", &format!("in/{A}"), "-o", "file"];
        let (output, calls) = trace(&story.desk, "fsync", Some(&format!("fsync:error={error}:when=2")), &args);
        assert!(output.status.success() && calls.iter().any(|call| call.contains(error)), "{calls:?}");
        fs::remove_file(story.desk.path("file")).unwrap();
    }
}

/// Before the first output has its name, what fails takes everything away, unless it is finished work; and that is named.
#[test]
fn what_fails_before_the_first_name_leaves_nothing_that_is_not_named() {
    if !is_traced() {
        return;
    }
    let desk = checkpoint();
    let file = format!("in/{A}");
    let of_file = ["prune", &file, "-o", "out", "--masks", "masks", "--plot", "plots"];
    let of_shards = ["prune", "in", "-o", "out", "--masks", "masks", "--plot", "plots"];
    for (args, stays) in [(of_file, &["in"][..]), (of_shards, &[".masks.emprune-partial", "in", "out.emprune-partial"])]
    {
        let note = nth(&desk, "openat", &[".emprune-note.emprune-partial", "O_CREAT"], &args);
        let mut failures = vec![format!("openat:error=ENOSPC:when={note}")];
        for name in ["masks", "plots", "out"] {
            let path = desk.path(name);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        // Of a file, the masks and the weights are flushed one after the other.
        let flushes = if args[1] == file { &["fsync:error=EIO:when=2", "fsync:error=EIO:when=3"][..] } else { &[] };
        failures.extend(flushes.iter().map(|flush| (*flush).to_owned()));
        for failure in failures {
            let (output, _) = trace(&desk, failure.split(':').next().unwrap(), Some(&failure), &args);
            let (_, stderr) = texts(&output);
            assert_eq!(output.status.code(), Some(1), "{failure}: {stderr}");
            assert_eq!(desk.names(), stays, "{failure}: {stderr}");
            for name in stays.iter().filter(|name| **name != "in") {
                assert!(stderr.contains(&format!("/{name} ")), "{failure}: {stderr}");
            }
        }
        if args == of_shards {
            assert!(desk.succeed(&args).1.contains("taken over: 2 of 2 shards"));
        }
    }
}

/// A temporary name is free when a file has its own. What comes to be there is written to by nobody else.
#[test]
fn what_fails_in_the_end_writes_to_nothing_that_has_come_to_be_there() {
    if !is_traced() {
        return;
    }
    for overwrite in [false, true] {
        let desk = checkpoint();
        let args = ["prune", "in", "-o", "out", "--masks", "masks", "--overwrite"];
        let args = if overwrite { &args[..] } else { &args[..6] };
        if overwrite {
            desk.succeed(args);
        }
        let of_old = overwrite.then(|| desk.path("masks").metadata().unwrap().modified().unwrap());
        desk.write("precious", b"as it was");
        let last = {
            let other = checkpoint();
            nth(&other, "rename", &[r#"/out.emprune-partial", "#], args) + usize::from(overwrite)
        };
        let mut first = Command::new("strace");
        first.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename"]);
        first.args(["-e", &format!("inject=rename:error=EACCES:signal=STOP:when={last}")]);
        first.arg(env!("CARGO_BIN_EXE_emprune")).args(args).args(["--backend", "cpu"]).current_dir(desk.path("."));
        let mut first = first.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let modified = || desk.path("masks").metadata().and_then(|metadata| metadata.modified()).ok();
        while modified() == of_old {
            assert!(first.try_wait().unwrap().is_none() && Instant::now() < deadline, "it is not in the middle");
            std::thread::sleep(Duration::from_millis(1));
        }
        let partial = desk.path(".masks.emprune-partial");
        std::os::unix::fs::symlink("precious", &partial).unwrap();
        while first.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
            let _ = Command::new("kill").args(["-CONT", "--", &format!("-{}", first.id())]).status();
        }
        let (_, stderr) = texts(&first.wait_with_output().unwrap());
        assert!(stderr.contains("Permission denied"), "{stderr}");
        assert_eq!(desk.read("precious"), b"as it was", "{stderr}");
        assert!(partial.symlink_metadata().unwrap().is_symlink(), "{stderr}");
        // It has its name all the same, and the next run knows whose it is.
        fs::remove_file(partial).unwrap();
        let (_, stderr) = desk.succeed(args);
        assert!(stderr.contains("taken over: 2 of 2 shards"), "{stderr}");
        assert_eq!(desk.names(), ["in", "masks", "out", "precious"]);
    }
}
