//! Tensors larger than the piece that is in memory, cut where neither bytes of masks nor rows end.

use crate::desk::{Desk, model, tensor};
use emprune::{Dtype, Granularity, Pruner, Rule, Tensor};

const ROWS: u64 = 36_000;
const COLUMNS: u64 = 1001;

/// 72 MB of bf16 in odd rows, from subnormal to large, a tenth of them zeros of both signs.
fn weights() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::new();
    for _ in 0..ROWS * COLUMNS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (state >> 48) as u16;
        let zero = (state >> 40 & 0xff) < 26;
        // Exponents of bf16 have eight bits; 0xff would be infinity or NaN.
        let value = if zero { bits & 0x8000 } else { (bits & 0x807f) | ((120 + (bits >> 7) % 16) << 7) };
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

fn zeros(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(2).filter(|entry| entry[0] == 0 && entry[1] & 0x7f == 0).count() as u64
}

#[test]
fn a_streamed_file_has_the_answer_of_the_whole_in_memory() {
    let desk = Desk::new();
    let weights = weights();
    let file = |w: &[u8]| model(&[("a", "U8", &[1], vec![1]), ("w", "BF16", &[ROWS, COLUMNS], w.to_vec())]);
    desk.write("in", &file(&weights));
    let in_memory = Tensor::from_bytes(&weights, Dtype::Bf16).unwrap().with_row_len(COLUMNS).unwrap();
    for (name, granularity) in
        [("row", Granularity::Row), ("tensor", Granularity::Tensor), ("global", Granularity::Global)]
    {
        let rule = Rule::new().with_granularity(granularity);
        let (decision, masks) = Pruner::cpu().mask(&[in_memory], &rule).unwrap();
        let outputs = ["-o", "out", "--masks", "masks", "--report", "report"];
        desk.succeed(&[&["prune", "in", "--overwrite", "--granularity", name], &outputs[..]].concat());
        assert!(tensor(&desk.read("masks"), "w") == masks[0].as_bytes(), "the masks differ by {name}");
        let mut pruned = weights.clone();
        for (i, entry) in pruned.chunks_exact_mut(2).enumerate() {
            if !masks[0].get(i as u64) {
                entry.fill(0);
            }
        }
        assert!(desk.read("out") == file(&pruned), "the weights differ by {name}");
        let report = desk.json("report");
        let expected = [("kept", decision.kept()), ("zeros_before", zeros(&weights)), ("zeros_after", zeros(&pruned))];
        for (field, count) in expected {
            assert_eq!(report["tensors"][1][field], count, "{field} by {name}");
            assert_eq!(report["totals"][field], count, "{field} by {name}");
        }
    }
}
