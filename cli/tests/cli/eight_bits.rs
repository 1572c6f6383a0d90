//! F8 tensors: pruned as they are, and not where scales say that they are something else.

use crate::desk::{Desk, Part, f32s, model, tensor, texts};

/// 1, 3, 1, 1 and four twos.
const E4M3: [u8; 8] = [0x38, 0xc4, 0x38, 0x38, 0x40, 0x40, 0x40, 0xc0];
const E5M2: [u8; 8] = [0x3c, 0xc2, 0x3c, 0x3c, 0x40, 0x40, 0x40, 0xc0];

fn parts() -> [Part<'static>; 2] {
    [("a.weight", "F8_E4M3", &[2, 4], E4M3.to_vec()), ("b.weight", "F8_E5M2", &[2, 4], E5M2.to_vec())]
}

#[test]
fn both_kinds_are_pruned() {
    let desk = Desk::new();
    desk.write("in", &model(&parts()));
    desk.succeed(&["prune", "in", "-o", "out", "--report", "report", "--masks", "masks"]);
    let (out, masks) = (desk.read("out"), desk.read("masks"));
    for (name, mut expected) in [("a.weight", E4M3), ("b.weight", E5M2)] {
        expected[3] = 0;
        assert_eq!(tensor(&out, name), expected, "{name}");
        assert_eq!(tensor(&masks, name), [0b1111_0111]);
    }
    let report = desk.json("report");
    assert_eq!((&report["tensors"][0]["dtype"], &report["totals"]["zeros_after"]), (&"F8_E4M3".into(), &2.into()));
    let output = desk.run(&["verify", "in", "out", "--masks", "masks", "--backend", "cpu"]);
    assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
}

#[test]
fn a_tensor_with_scales_is_refused_unless_it_is_left_alone() {
    for scale in [
        "a.weight_scale_inv",
        "a.weight_scale",
        "a.scale",
        "a.weight_scales",
        "a.weight_block_scale",
        "a.qscale_weight",
    ] {
        let desk = Desk::new();
        let [a, b] = parts();
        desk.write("in", &model(&[a, b, (scale, "F32", &[1, 1], f32s(&[0.5]))]));
        desk.fail(&["prune", "in", "-o", "out"], 1, &["\"a.weight\" is F8_E4M3 and has scales", scale, "--ignore"]);
        desk.fail(&["inspect", "in", "--targets", "*"], 1, &[scale]);
        desk.succeed(&["prune", "in", "-o", "out", "--ignore", "a*"]);
        assert_eq!(tensor(&desk.read("out"), "a.weight"), E4M3);
        assert_ne!(tensor(&desk.read("out"), "b.weight"), E5M2);
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_gpu_prunes_them_to_the_same_bytes() {
    if !crate::desk::wants_gpu() {
        return;
    }
    let desk = Desk::new();
    let [a, b] = parts();
    desk.write("in", &model(&[a, b, ("c.weight", "F32", &[1, 4], f32s(&[1.0, 3.0, 1.0, 1.0]))]));
    let name = emprune::gpu::adapters().remove(0).name;
    for granularity in ["row", "global"] {
        desk.succeed(&["prune", "in", "-o", "cpu", "--granularity", granularity, "--overwrite"]);
        for backend in ["auto", "gpu"] {
            let args = ["--granularity", granularity, "--backend", backend, "--adapter", &name, "--overwrite"];
            let output = desk.run(&[&["prune", "in", "-o", "out"], &args[..]].concat());
            assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
            assert_eq!(desk.read("out"), desk.read("cpu"), "{granularity} {backend}");
        }
    }
}
