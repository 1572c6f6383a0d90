//! The golden vectors of `tests/vectors/`: inputs in safetensors, answers in JSON.

use super::oracle::{Contests, Kind, Question, Weights};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One question with its recorded answer.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) tensors: Vec<Weights>,
    pub(crate) question: Question,
    pub(crate) want: Want,
}

/// What was recorded. Long lists were recorded as hashes, and of many rows only the extremes.
pub(crate) struct Want {
    pub(crate) kept: u64,
    pub(crate) contests: Option<Vec<Contest>>,
    pub(crate) rows: Option<Rows>,
    pub(crate) kept_per_row: Option<Vec<u64>>,
    pub(crate) kept_per_row_sha256: Option<String>,
    /// Per tensor.
    pub(crate) mask_sha256: Vec<String>,
    pub(crate) kept_per_tensor: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) len: u64,
    pub(crate) n_eff: f64,
    pub(crate) kept: u64,
    pub(crate) threshold: f32,
    pub(crate) mass: f64,
    pub(crate) mass_bound: f64,
    pub(crate) degenerate: bool,
}

/// The extremes over all rows of a case.
pub(crate) struct Rows {
    pub(crate) n_eff: [f64; 2],
    pub(crate) least_mass: f64,
    pub(crate) threshold: [f32; 2],
    pub(crate) degenerate: u64,
}

/// The cases with one tensor, and those with one contest over several.
pub(crate) fn cases() -> (Vec<Case>, Vec<Case>) {
    let told: f64 = serde_json::from_str("10.076283804697747").expect("a number");
    assert_eq!(told.to_bits(), 10.076283804697747_f64.to_bits(), "serde_json needs its feature `float_roundtrip`");
    // Not by `include_bytes`, for which every test that uses this module would carry 4 MB; but a browser has no files.
    #[cfg(not(target_arch = "wasm32"))]
    let [inputs, answers] = ["inputs.safetensors", "expected.json"].map(|name| {
        let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    });
    #[cfg(target_arch = "wasm32")]
    let (inputs, answers) =
        (include_bytes!("../vectors/inputs.safetensors").to_vec(), include_bytes!("../vectors/expected.json"));
    let inputs = SafeTensors::deserialize(&inputs).expect("safetensors");
    let answers: Value = serde_json::from_slice(&answers[..]).expect("JSON");
    let list = |name: &str| answers[name].as_array().expect("a list").clone();
    let single = list("cases").iter().map(|case| single(case, &inputs)).collect();
    let global = list("global_cases").iter().map(|case| global(case, &inputs)).collect();
    (single, global)
}

fn single(case: &Value, inputs: &SafeTensors<'_>) -> Case {
    let name = string(&case["name"]);
    let weights = weights(&name, inputs);
    let contests = match case["granularity"].as_str() {
        Some("tensor") => Contests::Tensor,
        Some("row") => Contests::Row,
        other => panic!("{name}: granularity {other:?}"),
    };
    let wanda = match case["score"].as_str() {
        Some("magnitude") => false,
        Some("wanda") => true,
        other => panic!("{name}: score {other:?}"),
    };
    let rows = |rows: &Value| Rows {
        n_eff: [float(&rows["n_eff"]["min"]), float(&rows["n_eff"]["max"])],
        least_mass: float(&rows["mass"]["min"]),
        threshold: [float32(&rows["threshold"]["min"]), float32(&rows["threshold"]["max"])],
        degenerate: integer(&rows["degenerate"]),
    };
    let want = Want {
        kept: integer(&case["kept"]),
        contests: case["segments"].as_array().map(|list| list.iter().map(contest).collect()),
        rows: case.get("rows").map(rows),
        kept_per_row: case["kept_per_row"].as_array().map(|list| list.iter().map(integer).collect()),
        kept_per_row_sha256: case.get("kept_per_row_sha256").map(string),
        mask_sha256: vec![string(&case["mask_sha256"])],
        kept_per_tensor: vec![integer(&case["kept"])],
    };
    Case {
        tensors: vec![weights],
        question: Question { contests, wanda, beta: float(&case["beta"]), ..Question::RULE },
        want,
        name,
    }
}

fn global(case: &Value, inputs: &SafeTensors<'_>) -> Case {
    let tensors = case["tensors"].as_array().expect("a list");
    let want = Want {
        kept: integer(&case["kept"]),
        contests: Some(vec![contest(case)]),
        rows: None,
        kept_per_row: None,
        kept_per_row_sha256: None,
        mask_sha256: tensors.iter().map(|t| string(&t["mask_sha256"])).collect(),
        kept_per_tensor: tensors.iter().map(|t| integer(&t["kept"])).collect(),
    };
    Case {
        name: string(&case["name"]),
        tensors: tensors.iter().map(|t| weights(&string(&t["name"]), inputs)).collect(),
        question: Question { contests: Contests::Global, wanda: false, beta: float(&case["beta"]), ..Question::RULE },
        want,
    }
}

fn contest(value: &Value) -> Contest {
    Contest {
        len: integer(&value["n"]),
        n_eff: float(&value["n_eff"]),
        kept: integer(&value["kept"]),
        threshold: float32(&value["threshold"]),
        mass: float(&value["mass"]),
        mass_bound: float(&value["mass_bound"]),
        degenerate: value["degenerate"].as_bool().expect("a flag"),
    }
}

fn weights(name: &str, inputs: &SafeTensors<'_>) -> Weights {
    let view = inputs.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let kind = match view.dtype() {
        Dtype::F32 => Kind::F32,
        Dtype::F16 => Kind::F16,
        Dtype::BF16 => Kind::Bf16,
        other => panic!("{name}: dtype {other:?}"),
    };
    // A row is one index of the first axis; a vector is one row.
    let row_len = match view.shape() {
        [len] => *len,
        [_, rest @ ..] => rest.iter().product(),
        [] => 1,
    };
    let norms = inputs.tensor(&format!("{name}.norms")).ok().map(|norms| {
        assert_eq!(norms.dtype(), Dtype::F32, "norms are f32");
        norms.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    });
    Weights { label: name.to_owned(), kind, bytes: view.data().to_vec(), row_len, norms, ..Weights::NOTHING }
}

fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn integer(value: &Value) -> u64 {
    value.as_u64().expect("an integer")
}

fn float(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn float32(value: &Value) -> f32 {
    float(value) as f32
}

/// Hex of the SHA-256 of a packed mask, as recorded.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex of the SHA-256 of the counts as little-endian u32, as recorded for cases with many rows.
pub(crate) fn sha256_of_counts(counts: impl Iterator<Item = u64>) -> String {
    let bytes: Vec<u8> = counts.flat_map(|n| u32::try_from(n).expect("fits").to_le_bytes()).collect();
    sha256(&bytes)
}
