//! What is said on stderr while the work goes on: lines for people, or with `--json` one JSON object a line for machines.

use crate::table::printable;
use serde::Serialize;
use serde_json::json;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, BufWriter, Write};
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

/// An event, which has its kind first; people see it elsewhere. Its fields may be many: they are written as they come.
pub(crate) fn tell(event: &str, fields: impl Serialize) {
    if are_for_machines() {
        // That nobody can be told is no reason to stop.
        let _ = write(BufWriter::new(io::stderr().lock()), &Event { event, fields });
    }
}

#[derive(Serialize)]
struct Event<'e, T> {
    event: &'e str,
    #[serde(flatten)]
    fields: T,
}

/// One line.
fn write(mut out: impl Write, event: &impl Serialize) -> io::Result<()> {
    event.serialize(&mut Serializer::with_formatter(&mut out, Ascii))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Names in files are strangers', and a terminal obeys what they say. JSON has another word for every character: who reads it has the name
/// as it is, and a terminal has letters.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        // What JSON wants escaped has been taken out, but for DEL.
        for part in fragment.split_inclusive(|c: char| !c.is_ascii() || c.is_control()) {
            let plain = part.trim_end_matches(|c: char| !c.is_ascii() || c.is_control());
            out.write_all(plain.as_bytes())?;
            part[plain.len()..].encode_utf16().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn machines_read_a_name_as_it_is_and_terminals_nothing_to_obey() {
        let name = "é\u{1b}[2J\u{9b}\u{7f}\u{202e}\"\\\u{2028}𝛽z\n";
        let mut text = Vec::new();
        write(&mut text, &Event { event: "tensor", fields: json!({"name": name, "rule": 1}) }).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.trim_end_matches('\n').chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{text:?}");
        assert!(
            text.starts_with(
                r#"{"event":"tensor","name":"\u00e9\u001b[2J\u009b\u007f\u202e\"\\\u2028\ud835\udefdz\n""#
            ),
            "{text}"
        );
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&event["name"], &event["rule"]), (&name.into(), &1.into()));
    }
}
