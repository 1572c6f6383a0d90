//! What is said on stderr while the work goes on: lines for people, or with `--json` one JSON object a line for machines.

use crate::table::printable;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static JSON: AtomicBool = AtomicBool::new(false);

/// From now on, for machines.
pub(crate) fn for_machines() {
    JSON.store(true, Ordering::Relaxed);
}

pub(crate) fn are_for_machines() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Something that is good to know.
pub(crate) fn note(message: &str) {
    say("note", message);
}

/// Something that may not be meant.
pub(crate) fn warning(message: &str) {
    say("warning", message);
}

/// Why nothing was done.
pub(crate) fn failed(message: &str, exit_code: u8) {
    if are_for_machines() {
        tell("failed", json!({"message": message, "exit_code": exit_code}));
    } else {
        line(&format!("error: {message}"));
    }
}

/// An event, which has its kind first; people see it elsewhere.
pub(crate) fn tell(event: &str, fields: Value) {
    if are_for_machines() {
        let mut object = json!({"event": event});
        if let (Value::Object(all), Value::Object(fields)) = (&mut object, fields) {
            all.extend(fields);
        }
        line(&object.to_string());
    }
}

fn say(kind: &str, message: &str) {
    if are_for_machines() {
        tell(kind, json!({"message": message}));
    } else {
        line(&format!("{kind}: {message}"));
    }
}

/// Names in files are strangers'; a terminal obeys what they say. That nobody can be told is no reason to stop.
fn line(text: &str) {
    let text: String = text.split_inclusive('\n').map(shown).collect();
    let _ = writeln!(io::stderr(), "{text}");
}

fn shown(line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => printable(line) + "\n",
        None => printable(line),
    }
}
