//! The published schema of the report, and the reports that are made.

use crate::desk::{Desk, f32s, model, texts};
use serde_json::Value;

/// Check a report against the schema that the program prints for the command.
pub(crate) fn obeys(desk: &Desk, command: &str, report: &Value) {
    let output = desk.run(&["schema", command]);
    assert_eq!(output.status.code(), Some(0), "{command}");
    let schema: Value = serde_json::from_str(&texts(&output).0).unwrap();
    check(report, &schema, &schema, "").unwrap();
    assert_eq!(report["schema"], schema["title"]);
    let mut spoiled = report.clone();
    spoiled["new"] = Value::from(1);
    check(&spoiled, &schema, &schema, "").unwrap_err();
}

/// Check a value against the part of JSON Schema that our schema is written in; any other word in it is an error.
fn check(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    let Value::Object(words) = schema else { return Err(format!("{at}: a schema that is no object")) };
    for (word, says) in words {
        let number = || value.as_f64();
        let ok = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let path = says.as_str().unwrap().strip_prefix('#').unwrap();
                check(value, root.pointer(path).ok_or(format!("no {path}"))?, root, at)?;
                true
            }
            "const" => value == says,
            "enum" => says.as_array().unwrap().contains(value),
            "type" => match says {
                Value::Array(types) => types.iter().any(|kind| is(value, kind)),
                kind => is(value, kind),
            },
            "minimum" => number().is_none_or(|n| n >= says.as_f64().unwrap()),
            "exclusiveMinimum" => number().is_none_or(|n| n > says.as_f64().unwrap()),
            "maximum" => number().is_none_or(|n| n <= says.as_f64().unwrap()),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(item, says, root, &format!("{at}/{i}"))?;
                }
                true
            }
            "required" => {
                let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                !value.is_object() || says.as_array().unwrap().iter().all(has)
            }
            "properties" => {
                for (name, schema) in says.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        check(inner, schema, root, &format!("{at}/{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(says, false);
                value
                    .as_object()
                    .is_none_or(|object| object.keys().all(|name| schema["properties"].get(name).is_some()))
            }
            _ => return Err(format!("{at}: the word {word} is not understood here")),
        };
        if !ok {
            return Err(format!("{at}: {value} is against {word}: {says}"));
        }
    }
    Ok(())
}

fn is(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

#[test]
fn every_report_obeys_the_schema() {
    let desk = Desk::new();
    let (w, dead) = (f32s(&[1.0, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]), f32s(&[0.0; 4]));
    let parts = [("w", "F32", &[2, 4][..], w), ("dead", "F32", &[2, 2], dead), ("i", "I8", &[1], vec![1])];
    desk.write("in", &model(&parts));
    let output = desk.run(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_str(&texts(&output).0).unwrap();
    for granularity in ["row", "tensor", "global"] {
        let (stdout, _) = desk.succeed(&["inspect", "in", "--json", "--granularity", granularity]);
        let report: Value = serde_json::from_str(&stdout).unwrap();
        check(&report, &schema, &schema, "").unwrap();
        assert_eq!(report["schema"], schema["title"]);
        for spoil in [
            |r: &mut Value| r["totals"]["kept"] = Value::from(-1),
            |r: &mut Value| r["score"] = Value::from("sparsegpt"),
            |r: &mut Value| r["tensors"][0]["new"] = Value::from(1),
            |r: &mut Value| r["tensors"][0]["shape"][0] = Value::from(1.5),
            |r: &mut Value| drop(r.as_object_mut().unwrap().remove("beta")),
        ] {
            let mut spoiled = report.clone();
            spoil(&mut spoiled);
            check(&spoiled, &schema, &schema, "").unwrap_err();
        }
    }
}

#[test]
fn completions_know_the_commands_and_options() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = desk.run(&["completions", shell]);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["verify", "inspect", "granularity"] {
            assert!(stdout.contains(word), "{shell} does not complete {word}");
        }
    }
    desk.fail(&["completions", "tcsh"], 2, &["tcsh", "bash"]);
}
