//! Good files with values that cannot be pruned, and outputs that cannot be written.

use crate::desk::{Desk, f32s, floats, model};

/// All granularities refuse it, whether they would write weights or not.
fn refuse(desk: &Desk, args: &[&str], parts: &[&str]) {
    for granularity in ["row", "tensor", "global"] {
        let common = ["--report", "report", "--masks", "masks", "--backend", "cpu", "--granularity", granularity];
        desk.fail(&[&["prune", "in", "-o", "out"], &common[..], args].concat(), 1, parts);
        desk.fail(&[&["inspect", "in"], &common[..], args].concat(), 1, parts);
    }
}

#[test]
fn nan_and_infinity_name_the_tensor_the_index_and_the_kind() {
    for dtype in ["F32", "F16", "BF16"] {
        for (bad, kind) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinity"), (f32::NEG_INFINITY, "infinity")] {
            let desk = Desk::new();
            // The first of two, in the second tensor, when the first is already written to the temporary file.
            let good = floats(dtype, &[1.0, 3.0, 1.0, 1.0]);
            let weights = floats(dtype, &[1.0, 2.0, 0.0, 1.0, bad, f32::NAN]);
            desk.write("in", &model(&[("layer.b", dtype, &[2, 3], weights), ("layer.a", dtype, &[1, 4], good)]));
            refuse(&desk, &[], &["\"layer.b\"", "entry 4", kind]);
            desk.succeed(&["prune", "in", "-o", "out", "--ignore", "layer.b"]);
        }
    }
}

#[test]
fn a_product_of_weight_and_norm_that_overflows() {
    let desk = Desk::new();
    desk.write("in", &model(&[("layer.w", "F32", &[2, 2], f32s(&[1.0, 1.0, -1e38, 1.0]))]));
    desk.write("norms", &model(&[("layer.w", "F32", &[2], f32s(&[4.0, 1.0]))]));
    refuse(&desk, &["--score", "wanda", "--norms", "norms"], &["\"layer.w\"", "entry 2", "overflow"]);
}

fn small() -> Desk {
    let desk = Desk::new();
    desk.write("in", &model(&[("w", "F32", &[1, 2], f32s(&[1.0, 2.0]))]));
    desk.write("norms", &model(&[("w", "F32", &[2], f32s(&[1.0, 2.0]))]));
    std::fs::create_dir(desk.path("directory")).unwrap();
    desk
}

#[test]
fn an_output_that_is_an_input() {
    let desk = small();
    let absolute = desk.path("in").to_str().unwrap().to_owned();
    for name in ["in", "./in", "directory/../in", absolute.as_str()] {
        for option in ["-o", "--report", "--masks"] {
            let args = ["prune", "in", "-o", "out", option, name, "--overwrite"];
            let args = if option == "-o" { [&args[..2], &args[4..]].concat() } else { args.to_vec() };
            desk.fail(&args, 1, &["same file as the input"]);
        }
    }
    let wanda = ["--score", "wanda", "--norms", "norms", "--overwrite"];
    desk.fail(&[&["prune", "in", "-o", "norms"], &wanda[..]].concat(), 1, &["same file as the input norms"]);
}

#[cfg(unix)]
#[test]
fn an_output_that_is_an_input_by_a_link() {
    let desk = small();
    std::os::unix::fs::symlink("in", desk.path("soft")).unwrap();
    std::os::unix::fs::symlink("soft", desk.path("softer")).unwrap();
    std::fs::hard_link(desk.path("in"), desk.path("hard")).unwrap();
    for name in ["soft", "softer", "hard"] {
        desk.fail(&["prune", "in", "-o", name, "--overwrite"], 1, &[name, "same file as the input"]);
        desk.fail(&["prune", name, "-o", "in", "--overwrite"], 1, &[name, "same file as the input"]);
    }
}

#[test]
fn outputs_that_are_one_file() {
    let desk = small();
    let absolute = desk.path("x").to_str().unwrap().to_owned();
    for overwrite in [&[] as &[&str], &["--overwrite"]] {
        for other in ["x", "./x", "directory/../x", absolute.as_str()] {
            let refuse = |args: &[&str]| desk.fail(&[args, overwrite].concat(), 1, &["written twice"]);
            refuse(&["prune", "in", "-o", "x", "--report", other]);
            refuse(&["prune", "in", "-o", "x", "--masks", other]);
            refuse(&["inspect", "in", "--report", "x", "--masks", other]);
        }
    }
}

#[test]
fn outputs_that_cannot_be_files() {
    let desk = small();
    desk.fail(&["prune", "in", "-o", "gone/out"], 1, &["directory gone"]);
    desk.fail(&["prune", "in", "-o", "in/out"], 1, &["in"]);
    desk.fail(&["prune", "in", "-o", "out", "--report", "gone/report"], 1, &["directory gone"]);
    for name in ["directory", "directory/", "."] {
        desk.fail(&["prune", "in", "-o", name, "--overwrite"], 1, &[name]);
    }
    desk.fail(&["prune", "in", "-o", ".."], 1, &["no name for a file"]);
    #[cfg(unix)]
    desk.fail(&["prune", "in", "-o", "/dev/null", "--overwrite"], 1, &["/dev/null", "not a regular file"]);
}
