//! The order of imports that ARCHITECTURE.md states is the order in the code.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn order() -> Vec<String> {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let line = map.lines().find(|line| line.starts_with("    error exact ")).expect("the line that lists the modules");
    line.split_whitespace().map(str::to_owned).collect()
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Modules named after `crate::` in a line of code.
fn uses(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let names = code.split("crate::").skip(1);
    names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn a_module_uses_only_what_stands_to_its_left() {
    let order = order();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut checked = 0;
    for file in files {
        let inside = file.strip_prefix(root().join("src")).expect("in src");
        let module = inside.iter().next().expect("a name").to_string_lossy().replace(".rs", "");
        if module == "lib" {
            continue;
        }
        let at = order.iter().position(|m| *m == module).unwrap_or_else(|| panic!("{module} is not in the list"));
        for line in fs::read_to_string(&file).expect("a source").lines() {
            for used in uses(line) {
                if let Some(other) = order.iter().position(|m| *m == used) {
                    checked += 1;
                    assert!(other <= at, "{}: {line}", inside.display());
                    let crosses = module == "gpu" && used == "cpu";
                    assert!(!crosses || line.trim() == "use crate::cpu;", "{}: {line}", inside.display());
                }
            }
        }
    }
    assert!(checked > 50, "only {checked} uses found: the check does not see the code");
}

#[test]
fn lib_lists_the_modules_in_that_order() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let declared: Vec<_> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")))
        .map(|name| name.trim_end_matches(';').to_owned())
        .collect();
    assert_eq!(declared, order(), "src/lib.rs against ARCHITECTURE.md");
}

#[test]
fn every_stage_has_one_name_in_three_places() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let stages: Vec<_> = map.lines().filter(|line| line.starts_with('|') && line.contains("`Kernels::")).collect();
    assert_eq!(stages.len(), 16, "the table of stages");
    for line in stages {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let stage = cells[1];
        assert_eq!(cells[6], format!("`shaders/{stage}.wgsl`"), "{line}");
        assert_eq!(cells[5], format!("`Kernels::{stage}`"), "{line}");
        assert!(root().join(format!("shaders/{stage}.wgsl")).exists(), "{line}");
        let kernels = fs::read_to_string(root().join("src/gpu/kernels.rs")).expect("kernels.rs");
        assert!(kernels.contains(&format!("fn {stage}(")), "{line}");
        if cells[4].starts_with('`') {
            let file = root().join(cells[4].trim_matches('`'));
            let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", file.display()));
            assert!(text.contains("fn "), "{line}");
            assert!(file.file_stem().is_some_and(|stem| stem == stage), "{line}");
        }
    }
}
