//! Directories as diffusers writes them: the same as transformers', under another name.

use crate::desk::{Desk, f32s, model, tree};
use serde_json::json;
use std::fs;

const SINGLE: &str = "diffusion_pytorch_model.safetensors";
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";
const A: &str = "diffusion_pytorch_model-00001-of-00002.safetensors";
const B: &str = "diffusion_pytorch_model-00002-of-00002.safetensors";

fn weights(name: &str, values: &[f32; 4]) -> Vec<u8> {
    model(&[(name, "F32", &[1, 4], f32s(values))])
}

const DENSE: [f32; 4] = [1.0, 3.0, 1.0, 1.0];
const PRUNED: [f32; 4] = [1.0, 3.0, 1.0, 0.0];

#[test]
fn shards_and_their_index_keep_their_names() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    desk.write(&format!("in/{A}"), &weights("a.to_q.weight", &DENSE));
    desk.write(&format!("in/{B}"), &weights("b.to_q.weight", &DENSE));
    let index = json!({"metadata": {}, "weight_map": {"a.to_q.weight": A, "b.to_q.weight": B}}).to_string();
    desk.write(&format!("in/{INDEX}"), index.as_bytes());
    desk.write("in/config.json", b"{}");
    let mut expected = tree(&desk.path("in"));
    desk.succeed(&["prune", "in", "-o", "out", "--report", "report"]);
    expected.insert(A.into(), weights("a.to_q.weight", &PRUNED));
    expected.insert(B.into(), weights("b.to_q.weight", &PRUNED));
    expected.insert("emprune_report.json".into(), desk.read("report"));
    assert!(tree(&desk.path("out")) == expected, "{:?}", tree(&desk.path("out")).keys());
    desk.succeed(&["verify", "in", "out"]);
    // Beside an index a model of its own is another one.
    desk.write("in/model.safetensors", &weights("c.weight", &DENSE));
    desk.fail(&["inspect", "in"], 1, &[INDEX, "model.safetensors", "two models"]);
}

#[test]
fn a_single_file_is_found() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    desk.write(&format!("in/{SINGLE}"), &weights("a.to_q.weight", &DENSE));
    desk.succeed(&["prune", "in", "-o", "out"]);
    assert_eq!(desk.read(&format!("out/{SINGLE}")), weights("a.to_q.weight", &PRUNED));
    desk.write("in/model.safetensors", &weights("c.weight", &DENSE));
    desk.fail(&["inspect", "in"], 1, &[SINGLE, "model.safetensors", "two models"]);
}
