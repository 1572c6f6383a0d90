//! What of an earlier run is trusted, and what is done again.

use super::*;

/// Who has written to one meanwhile may have written anything.
#[cfg(unix)]
#[test]
fn a_finished_shard_that_was_written_to_since_is_computed_again() {
    let desk = killed();
    let name = format!("{PARTIAL}/a.safetensors");
    let mut bytes = desk.read(&name);
    *bytes.last_mut().unwrap() ^= 1;
    // Clocks of file systems may stand still for some milliseconds.
    put(&desk, &name, &bytes, modified(&desk, &name) + Duration::from_secs(1));
    let stderr = go_on(&desk, &[]);
    assert!(
        stderr.contains("note: 1 finished shard does not fit") && stderr.contains(": 1 changed since\n"),
        "{stderr}"
    );
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 1 of 3 shards"), "{stderr}");
    assert!(is_whole(&desk, &[]));
}

/// Nor is anything in a directory trusted whose owner is another user; and it is not ours to remove.
#[cfg(unix)]
#[test]
fn what_another_user_left_is_neither_gone_on_from_nor_removed() {
    use std::os::unix::fs::{MetadataExt, chown};
    let desk = killed();
    let we = desk.path(PARTIAL).metadata().unwrap().uid();
    if let Err(error) = chown(desk.path(PARTIAL), Some(65534), None) {
        skipped(&format!("a directory cannot be given to another user: {error}"));
        return;
    }
    // What a killed run leaves beside it is anybody's to take away.
    fs::remove_file(desk.path(&format!(".{PARTIAL}"))).unwrap();
    let named = format!("out.emprune-partial is user 65534's, and this run is user {we}'s");
    desk.fail(&[&PRUNE[..], contests(&[])].concat(), 1, &[&named]);
    // Nor where there is nothing to go on from.
    desk.fail(&["inspect", "in", "--plot", "out", "--backend", "cpu"], 1, &[&named]);
    chown(desk.path(PARTIAL), Some(we), None).unwrap();
    let stderr = go_on(&desk, &[]);
    assert!(stderr.contains("note: finished by a run that was ended, and taken over: 2 of 3 shards"), "{stderr}");
    assert!(is_whole(&desk, &[]));
}

/// Nor are masks that are another user's: the finished file would be, too.
#[cfg(unix)]
#[test]
fn masks_that_another_user_left_are_not_gone_on_with() {
    use std::os::unix::fs::{MetadataExt, chown};
    let desk = checkpoint();
    let mut child = start_with(&desk, LARGE, &MASKS);
    child.kill().unwrap();
    child.wait().unwrap();
    let masks = desk.path(MASKS_PARTIAL);
    let we = masks.metadata().unwrap().uid();
    if let Err(error) = chown(&masks, Some(65534), None) {
        skipped(&format!("a file cannot be given to another user: {error}"));
        return;
    }
    let args = [&PRUNE[..], contests(&[]), &MASKS].concat();
    let output = desk.run(&args);
    let (_, stderr) = texts(&output);
    let named = format!("{MASKS_PARTIAL} is user 65534's, and this run is user {we}'s: have it removed first");
    assert!(output.status.code() == Some(1) && stderr.contains(&named), "{stderr}");
    chown(&masks, Some(we), None).unwrap();
    assert!(go_on(&desk, &MASKS).contains("taken over: "), "what was finished is lost");
    assert_eq!(desk.path("masks").metadata().unwrap().uid(), we);
}

/// Nor is a note that says that a file may be replaced.
#[cfg(target_os = "linux")]
#[test]
fn a_note_of_another_user_lets_nothing_be_replaced() {
    use crate::steps::{is_traced, trace};
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    if !is_traced() {
        return;
    }
    const NOTE: &str = ".out.emprune-note";
    let desk = checkpoint();
    let args = [&PRUNE[..], &MASKS].concat();
    // The masks have their name, and the directory gets its own.
    for nth in 1.. {
        let (output, _) = trace(&desk, "rename", Some(&format!("rename:signal=KILL:when={nth}")), &args);
        assert!(!output.status.success(), "it was never killed between its outputs");
        if desk.path("masks").exists() {
            break;
        }
    }
    // What a killed run leaves beside it is anybody's to take away.
    fs::remove_file(desk.path(&format!(".{PARTIAL}"))).unwrap();
    let note = desk.path(NOTE);
    let we = note.metadata().unwrap().uid();
    if let Err(error) = chown(&note, Some(65534), None) {
        skipped(&format!("a file cannot be given to another user: {error}"));
        return;
    }
    let named = format!("{NOTE} is user 65534's, and this run is user {we}'s: have it removed first");
    let before = desk.read("masks");
    desk.fail(&args, 1, &[&named]);
    assert!(desk.read("masks") == before);
    // One that is ours may be somewhere else.
    chown(&note, Some(we), None).unwrap();
    fs::rename(&note, desk.path("elsewhere")).unwrap();
    symlink("elsewhere", &note).unwrap();
    desk.fail(&args, 1, &[NOTE, "not a regular file"]);
    fs::rename(desk.path("elsewhere"), &note).unwrap();
    go_on(&desk, &MASKS);
    assert_eq!(desk.names(), ["in", "masks", "out"]);
}

#[test]
fn what_has_changed_is_computed_again() {
    let left = killed();
    let [a, b] = ["a", "b"].map(|name| format!("{PARTIAL}/{name}.safetensors"));
    let left = taken(&left, [&*a, &b, JOURNAL]);
    // Each returns the options of the run that goes on, and says how many shards can be trusted.
    type Change = fn(&Desk) -> &'static [&'static str];
    let changes: [(&str, Change, usize); 8] = [
        ("nothing", |_| &[], 2),
        (
            "an input",
            |desk| {
                let mut bytes = shard(0);
                *bytes.last_mut().unwrap() ^= 1;
                desk.write("in/a.safetensors", &bytes);
                &[]
            },
            1,
        ),
        ("beta", |_| &["--beta", "0.5"], 0),
        ("the tensors", |_| &["--ignore", "w1"], 1),
        (
            "a recipe",
            |desk| {
                desk.write("in/recipe", b"[[rule]]\npattern = 'w0'\nbeta = 0.25\n");
                &["--recipe", "in/recipe"]
            },
            1,
        ),
        ("the contests", |_| &["--row-axes", "2"], 0),
        (
            "the output",
            |desk| {
                desk.write("out.emprune-partial/a.safetensors", b"short");
                &[]
            },
            1,
        ),
        (
            "the journal",
            |desk| {
                let text = desk.read(JOURNAL);
                desk.write(JOURNAL, &text[..text.len() - 5]);
                &[]
            },
            1,
        ),
    ];
    for (what, change, trusted) in changes {
        let desk = checkpoint();
        fs::create_dir(desk.path(PARTIAL)).unwrap();
        for (name, bytes, time) in &left {
            put(&desk, name, bytes, *time);
        }
        desk.write(&format!("{PARTIAL}/c.safetensors"), b"half");
        let options = change(&desk);
        let stderr = go_on(&desk, options);
        let note = format!("taken over: {trusted} of 3 shards");
        assert_eq!(stderr.contains(&note), trusted > 0, "{what}: {stderr}");
        assert_eq!(stderr.contains("taken over"), trusted > 0, "{what}: {stderr}");
        assert!(is_whole(&desk, options), "{what}");
    }
}

/// Norms, their names and groups come from other files.
#[test]
fn what_has_changed_in_other_files_is_computed_again() {
    let norms = |first: f32| {
        let part = |name, len: u64, first: f32| {
            (name, "F32", vec![len], f32s(&[&[first], &vec![1.0; len as usize - 1][..]].concat()))
        };
        let parts = [part("w0", 16, first), part("w1", 16, 1.0), part("w2", 1 << 12, 1.0), part("x", 16, 9.0)];
        model(&parts.each_ref().map(|(name, dtype, shape, bytes)| (*name, *dtype, &shape[..], bytes.clone())))
    };
    let groups = |first: u8| {
        let part = |name, rows: u64, first: u8| {
            (name, "U8", vec![rows], [&[first, 1][..], &vec![0; rows as usize - 2]].concat())
        };
        let parts = [part("w0", 4, first), part("w1", 4, 0), part("w2", LARGE, 0)];
        model(&parts.each_ref().map(|(name, dtype, shape, bytes)| (*name, *dtype, &shape[..], bytes.clone())))
    };
    let wanda = &["--score", "wanda", "--norms", "norms", "--norm-map", "map"][..];
    let grouped = &["--structure", "groups:groups", "--norm", "l1"][..];
    for (options, changed) in [(wanda, "norms"), (wanda, "map"), (grouped, "groups")] {
        let desk = checkpoint();
        desk.write("norms", &norms(1.0));
        desk.write("map", b"{}");
        desk.write("groups", &groups(0));
        let mut child = start_with(&desk, LARGE, options);
        child.kill().unwrap();
        child.wait().unwrap();
        match changed {
            "norms" => desk.write("norms", &norms(5.0)),
            "map" => desk.write("map", br#"{"w0":"x"}"#),
            _ => desk.write("groups", &groups(1)),
        }
        let stderr = go_on(&desk, options);
        assert!(!stderr.contains("finished by a run"), "{changed}: {stderr}");
    }
}

#[test]
fn masks_of_finished_shards_stay_too() {
    let desk = checkpoint();
    let mut child = start_with(&desk, LARGE, &MASKS);
    child.kill().unwrap();
    child.wait().unwrap();
    let [a, b] = ["a", "b"].map(|name| format!("{PARTIAL}/{name}.safetensors"));
    let left = taken(&desk, [JOURNAL, MASKS_PARTIAL, &a, &b]);
    // What a run writes that nobody ends.
    fs::remove_dir_all(desk.path(PARTIAL)).unwrap();
    fs::remove_file(desk.path(MASKS_PARTIAL)).unwrap();
    go_on(&desk, &MASKS);
    let (whole, masks) = (tree(&desk.path("out")), desk.read("masks"));
    // The bits of the two small tensors come first.
    let data = masks.len() - (LARGE << 12) as usize / 8 - 16;
    type Change = fn(&Desk, usize);
    let changes: [(&str, Change, usize); 4] = [
        ("nothing", |_, _| (), 2),
        (
            "a bit",
            |desk, data| {
                let mut bytes = desk.read(MASKS_PARTIAL);
                bytes[data + 8] ^= 1;
                desk.write(MASKS_PARTIAL, &bytes);
            },
            1,
        ),
        ("the file", |desk, _| fs::remove_file(desk.path(MASKS_PARTIAL)).unwrap(), 0),
        ("its end", |desk, data| desk.write(MASKS_PARTIAL, &desk.read(MASKS_PARTIAL)[..data + 8]), 1),
    ];
    for (what, change, trusted) in changes {
        fs::remove_dir_all(desk.path("out")).unwrap();
        fs::remove_file(desk.path("masks")).unwrap();
        fs::create_dir(desk.path(PARTIAL)).unwrap();
        for (name, bytes, time) in &left {
            put(&desk, name, bytes, *time);
        }
        let marked = mark(&desk);
        change(&desk, data);
        let stderr = go_on(&desk, &MASKS);
        let note = format!("taken over: {trusted} of 3 shards");
        assert_eq!(stderr.contains(&note), trusted > 0, "{what}: {stderr}");
        assert_eq!(desk.read("out/a.safetensors") == marked, trusted > 0, "{what}");
        assert!(desk.read("masks") == masks, "{what}: the masks differ");
        for name in ["b.safetensors", "c.safetensors", "config.json"] {
            assert!(desk.read(&format!("out/{name}")) == whole[name], "{what}: {name} differs");
        }
        assert_eq!(desk.names(), ["in", "masks", "out"], "{what}");
    }
}

#[test]
fn a_run_that_wants_masks_trusts_none_that_did_not() {
    let desk = killed();
    let stderr = go_on(&desk, &MASKS);
    assert!(!stderr.contains("taken over"), "{stderr}");
    let (out, masks) = (tree(&desk.path("out")), desk.read("masks"));
    go_on(&desk, &[&MASKS[..], &["--overwrite"]].concat());
    assert!(masks == desk.read("masks"));
    assert!(SHARDS.iter().all(|name| out[*name] == desk.read(&format!("out/{name}"))));
}

#[cfg(unix)]
#[test]
fn a_machine_that_goes_leaves_the_masks_as_well() {
    let desk = checkpoint();
    let child = start_with(&desk, LARGE << 1, &MASKS);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(desk.names(), [MASKS_PARTIAL, "in", PARTIAL]);
}

/// What is trusted is what was read, and not what the file was when the run began.
#[test]
fn an_input_that_changes_behind_a_finished_shard_is_read_again() {
    let desk = checkpoint();
    let mut child = start(&desk);
    let mut bytes = shard(0);
    *bytes.last_mut().unwrap() ^= 1;
    desk.write("in/a.safetensors", &bytes);
    child.kill().unwrap();
    child.wait().unwrap();
    desk.write("in/c.safetensors", &shard(2));
    assert!(go_on(&desk, &[]).contains("note: finished by a run that was ended, and taken over: 1 of 3 shards"));
    assert!(is_whole(&desk, &[]));
}
