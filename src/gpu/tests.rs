//! The shaders, judged without a GPU: every pipeline parses and validates, and what it declares is what the Rust side thinks.

use super::layout::{self, Params, Record, binding};
use super::shaders::{self, Pipeline, Stage};
use crate::dtype::Dtype;
use crate::plan::{LANE_KEYS, Parts, Tuning};
use naga::back::hlsl::ShaderModel;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use std::collections::BTreeMap;
use std::mem::offset_of;
use writers::Writers;

mod on_a_device;
mod writers;

fn source(pipeline: Pipeline) -> String {
    pipeline.source(&Tuning::default(), true)
}

fn parse(pipeline: Pipeline) -> (naga::Module, ModuleInfo) {
    validate(pipeline, source(pipeline))
}

fn validate(pipeline: Pipeline, source: String) -> (naga::Module, ModuleInfo) {
    let label = pipeline.label();
    let module =
        naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(&source)));
    // No capability but what a variant says that it needs: the portable one passes on a device opened with no feature at all.
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    if pipeline.subgroup {
        validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
        validator
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all());
    }
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{label}: {}", e.emit_to_string(&source)));
    (module, info)
}

fn constants(module: &naga::Module) -> BTreeMap<String, u32> {
    let value = |handle| match module.global_expressions[handle] {
        naga::Expression::Literal(naga::Literal::U32(value)) => Some(value),
        _ => None,
    };
    let named = module.constants.iter().filter_map(|(_, c)| Some((c.name.clone()?, value(c.init)?)));
    named.collect()
}

#[test]
fn every_pipeline_validates_and_there_are_as_many_as_there_should_be() {
    let all: Vec<_> = Pipeline::all().collect();
    // Five dtypes and two scores: focus, stats, histogram, ties 10 each; writing or not, and with a mass or without, apply, sift, rows and teams (of five)
    // 40 each; settle 20; edges 4; budget and narrow 1; arrange 10, restore and zero 5, measure 2. In fours too: stats, apply, sift and rows.
    let portable = all.iter().filter(|p| !p.subgroup).count();
    assert_eq!(portable, 4 * 10 + 8 * 40 + 20 + 4 + 2 + 10 + 5 + 5 + 2 + 10 + 3 * 40, "the list of pipelines");
    // Of these, stats, apply, sift, rows, settle, and teams of more than one lane know subgroups; but not rows of bf16 magnitudes without a mass.
    assert_eq!(all.len() - portable, 2 * (10 + 3 * 40 - 2) + 20 + 4 * 40, "the list of pipelines with subgroups");
    let mut slots: Vec<_> = all.iter().map(|v| v.index()).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), all.len(), "two pipelines share a slot");
    assert!(slots.iter().all(|&slot| slot < shaders::COUNT), "a slot past the end");
    for pipeline in all {
        let (module, _) = parse(pipeline);
        let entries: Vec<_> = module.entry_points.iter().collect();
        assert_eq!(entries.len(), 1, "{}", pipeline.label());
        assert_eq!(entries[0].name, pipeline.stage.name(), "the entry point is called as its file");
        assert_eq!(entries[0].workgroup_size, [pipeline.stage.lanes(&Tuning::default()), 1, 1], "{}", pipeline.label());
    }
}

#[test]
fn structs_have_the_same_layout_on_both_sides() {
    let (module, _) = parse(Pipeline::all().find(|v| v.stage == Stage::Apply).expect("apply"));
    let members = |name: &str| {
        let found = module.types.iter().find(|(_, t)| t.name.as_deref() == Some(name));
        let Some((_, naga::Type { inner: naga::TypeInner::Struct { members, span }, .. })) = found else {
            panic!("{name}")
        };
        let offsets =
            members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize)).collect::<Vec<_>>();
        (offsets, *span as usize)
    };
    macro_rules! check {
        ($type:ident, $wgsl:literal, [$($field:ident),*]) => {
            let expected: Vec<(String, usize)> = vec![$((stringify!($field).to_owned(), offset_of!($type, $field))),*];
            assert_eq!(members($wgsl), (expected, size_of::<$type>()), $wgsl);
        };
    }
    check!(
        Params,
        "Params",
        [
            beta_up,
            beta_down,
            contest_len,
            count,
            least,
            len,
            group_len,
            groups,
            parts,
            part_len,
            span,
            first_span,
            all_spans,
            slice,
            slices,
            columns,
            digits,
            mask,
            capacity,
            refiners,
            counted,
            share,
            block_rows,
            block_columns,
            fold
        ]
    );
    check!(
        Record,
        "Record",
        [
            status, degenerate, kept, threshold, cut_span, cut_index, digits, left, cut_rank, rank, bad_slice,
            bad_index, sifted, n_eff, mass
        ]
    );
}

#[test]
fn bindings_and_constants_agree() {
    let bindings = BTreeMap::from([
        ("params", binding::PARAMS),
        ("weights", binding::WEIGHTS),
        ("norms", binding::NORMS),
        ("tally", binding::TALLY),
        ("sums", binding::TALLY),
        ("keys", binding::TALLY),
        ("records", binding::RECORDS),
        ("span_bins", binding::SPAN_BINS),
        ("arranged_records", binding::SPAN_BINS),
        ("mask", binding::MASK),
        ("first_bad", binding::FIRST_BAD),
        ("candidates", binding::CANDIDATES),
        ("arranged_mask", binding::CANDIDATES),
    ]);
    let expected = BTreeMap::from([
        ("LANE_KEYS", LANE_KEYS),
        ("TALLY", layout::TALLY as u32),
        ("TALLY_SUM", layout::TALLY_SUM as u32),
        ("TALLY_SQUARE", layout::TALLY_SQUARE as u32),
        ("TALLY_KEPT", layout::TALLY_KEPT as u32),
        ("ROW_SUMS", layout::ROW_SUMS as u32),
        ("TALLY_FOCUS", layout::TALLY_FOCUS as u32),
        ("LOW_BINS", layout::LOW_BINS as u32),
        ("NO_CUT", Record::NO_CUT),
        ("KEY_END", crate::key::KEY_END),
        ("KEY_PAD", layout::KEY_PAD as u32),
        ("RECORD_PAD", layout::RECORD_PAD as u32),
    ]);
    let (mut seen_bindings, mut seen_constants) = (BTreeMap::new(), BTreeMap::new());
    for pipeline in Pipeline::all() {
        let (module, _) = parse(pipeline);
        for (_, global) in module.global_variables.iter() {
            let name = global.name.as_deref().unwrap_or_default();
            match &global.binding {
                Some(at) => {
                    assert_eq!(
                        (at.group, Some(&at.binding)),
                        (0, bindings.get(name)),
                        "{name} in {}",
                        pipeline.label()
                    );
                    seen_bindings.insert(name.to_owned(), ());
                    let writes = matches!(global.space, naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE));
                    let may_write = match name {
                        "params" | "norms" => false,
                        "weights" => pipeline.write,
                        _ => true,
                    };
                    assert_eq!(writes, may_write, "{name} in {}", pipeline.label());
                }
                None => {
                    let prefix = if global.space == naga::AddressSpace::WorkGroup { "wg_" } else { "my_" };
                    assert!(name.starts_with(prefix), "a variable says whose it is: {name}");
                }
            }
        }
        for (name, value) in constants(&module) {
            // A row's later digits are its own.
            let is_own = name == "LOW_BINS" && pipeline.stage == Stage::Rows;
            if let Some(&wanted) = expected.get(name.as_str()).filter(|_| !is_own) {
                assert_eq!(value, wanted, "{name} in {}", pipeline.label());
                seen_constants.insert(name, ());
            }
        }
    }
    assert_eq!(seen_bindings.len(), bindings.len(), "every binding is used somewhere");
    assert_eq!(seen_constants.len(), expected.len(), "every shared constant is declared somewhere");
}

/// Short rows have sums where a mass is wanted, and else a binding of 16 bytes: no driver is bound to tell.
#[test]
fn rows_write_sums_for_the_mass_alone() {
    let mut seen = 0;
    for pipeline in Pipeline::all().filter(|p| matches!(p.stage, Stage::Rows | Stage::Teams(_))) {
        let (module, _) = parse(pipeline);
        let writers = Writers::of(&module, "sums");
        let writes = writers.writes(&module.entry_points[0].function);
        assert_eq!(writes, pipeline.mass, "{}", pipeline.label());
        seen += 1;
    }
    assert!(seen > 0, "no pipeline was looked at");
}

/// Bytes of workgroup memory that a pipeline uses.
fn workgroup_bytes(module: &naga::Module, info: &ModuleInfo) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("sizes");
    let entry = info.get_entry_point(0);
    let used = module
        .global_variables
        .iter()
        .filter(|(handle, global)| global.space == naga::AddressSpace::WorkGroup && !entry[*handle].is_empty());
    used.map(|(_, global)| layouter[global.ty].size).sum()
}

#[test]
fn workgroup_memory_fits_the_default_limit() {
    let mut largest = 0;
    for pipeline in Pipeline::all() {
        let (module, info) = parse(pipeline);
        let used = workgroup_bytes(&module, &info);
        assert!(used <= 16 * 1024, "{} uses {used} bytes of workgroup memory", pipeline.label());
        largest = largest.max(used);
    }
    assert!(largest > 8 * 1024, "the histogram alone takes 8 KiB; {largest} means that nothing was counted");
}

/// Another table is another shader or another plan, within the same limits. So are kernels without sums.
#[test]
fn every_alternative_is_another_shader_or_plan_and_validates() {
    let default = Tuning::default();
    let numbers = |of: &Tuning| {
        let parts = [of.parts(1 << 20, 1, false), of.parts(1 << 28, 1, false), of.parts(1 << 28, 1, true)];
        (parts, of.spans(&parts, 1, u64::MAX), of.candidates(1 << 20, 1, 1, u64::MAX), of.longest_row)
    };
    let few = |p: &Pipeline| p.score == crate::rule::Score::Magnitude && p.dtype != Dtype::F16;
    for (name, value, tuning) in Tuning::alternatives() {
        let mut differ = 0;
        for pipeline in Pipeline::all().filter(few) {
            let text = pipeline.source(&tuning, true);
            if text == source(pipeline) {
                continue; // and is judged elsewhere
            }
            differ += 1;
            let (module, info) = validate(pipeline, text);
            let used = workgroup_bytes(&module, &info);
            assert!(used <= 16 * 1024, "{name} {value}: {} uses {used} bytes", pipeline.label());
            let lanes = pipeline.stage.lanes(&tuning);
            assert_eq!(module.entry_points[0].workgroup_size, [lanes, 1, 1], "{name} {value}");
        }
        assert!(differ > 0 || numbers(&tuning) != numbers(&default), "{name} {value} changes nothing");
        // What the shaders rely on.
        assert!(tuning.spread <= 2048 && tuning.spread.is_multiple_of(512), "{name} {value}");
        assert_eq!(tuning.teams[0].1, 1, "{name} {value}");
        assert!(tuning.teams.iter().all(|(lanes, team)| lanes == team || lanes * LANE_KEYS <= 1024), "{name} {value}");
    }
    for pipeline in Pipeline::all().filter(few) {
        let _ = validate(pipeline, pipeline.source(&default, false));
    }
}

/// `select` evaluates both sides: an index that one side guards must be guarded by `if`. Float types have no place here.
#[test]
fn no_shader_computes_with_floats_or_guards_with_select() {
    for pipeline in Pipeline::all() {
        let source = source(pipeline);
        let code: String =
            source.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        for word in ["f32", "f16", "select(", "bitcast", "unpack2x16float"] {
            assert!(!code.contains(word), "{} says {word}", pipeline.label());
        }
    }
}

/// What a block stores to.
fn stores(block: &naga::Block, found: &mut Vec<naga::Handle<naga::Expression>>) {
    for statement in block {
        match statement {
            naga::Statement::Store { pointer, .. } => found.push(*pointer),
            naga::Statement::Block(block) => stores(block, found),
            naga::Statement::If { accept, reject, .. } => {
                stores(accept, found);
                stores(reject, found);
            }
            naga::Statement::Loop { body, continuing, .. } => {
                stores(body, found);
                stores(continuing, found);
            }
            naga::Statement::Switch { cases, .. } => cases.iter().for_each(|case| stores(&case.body, found)),
            _ => {}
        }
    }
}

/// To write to one component of a vector in a buffer may be to write all of them, over what other lanes have written there: WGSL allows it, and Metal does it.
#[test]
fn no_lane_writes_to_a_part_of_a_vector_in_a_buffer() {
    let mut seen = 0;
    for pipeline in Pipeline::all() {
        let (module, info) = parse(pipeline);
        let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
        for (function, info) in functions.chain([(&module.entry_points[0].function, info.get_entry_point(0))]) {
            let mut pointers = Vec::new();
            stores(&function.body, &mut pointers);
            for pointer in pointers {
                let space = info[pointer].ty.inner_with(&module.types).pointer_space();
                let is_shared = matches!(space, Some(naga::AddressSpace::Storage { .. }));
                let target = |of: naga::Handle<naga::Expression>| match *info[of].ty.inner_with(&module.types) {
                    naga::TypeInner::Pointer { base, .. } => Some(&module.types[base].inner),
                    _ => None,
                };
                if let naga::Expression::Access { base, .. } | naga::Expression::AccessIndex { base, .. } =
                    function.expressions[pointer]
                {
                    let is_vector = matches!(target(base), Some(naga::TypeInner::Vector { .. }));
                    let what = format!("{}, {}", pipeline.label(), function.name.as_deref().unwrap_or_default());
                    assert!(!(is_shared && is_vector), "{what} writes to one component");
                    seen += usize::from(is_shared);
                }
            }
        }
    }
    assert!(seen > 1000, "{seen} stores were looked at");
}

/// FXC, which compiles for Windows where DXC is not installed, cannot address the components of a lane's own vector by a number known at
/// run time alone, nor an array within a struct: it unrolls all loops around such a write, or refuses the shader.
#[test]
fn no_lane_writes_by_number_where_fxc_cannot() {
    let mut seen = 0;
    for pipeline in Pipeline::all() {
        let (module, info) = parse(pipeline);
        let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
        for (function, info) in functions.chain([(&module.entry_points[0].function, info.get_entry_point(0))]) {
            // What a pointer points to, when that is a lane's own.
            let target = |pointer: naga::Handle<naga::Expression>| match *info[pointer].ty.inner_with(&module.types) {
                naga::TypeInner::Pointer {
                    base,
                    space: naga::AddressSpace::Function | naga::AddressSpace::Private,
                } => Some(&module.types[base].inner),
                _ => None,
            };
            let mut pointers = Vec::new();
            stores(&function.body, &mut pointers);
            seen += pointers.len();
            for mut pointer in pointers {
                let mut by_number = false;
                loop {
                    let base = match function.expressions[pointer] {
                        naga::Expression::Access { base, .. } => {
                            by_number = true;
                            base
                        }
                        naga::Expression::AccessIndex { base, .. } => base,
                        _ => break,
                    };
                    let whole = target(base);
                    let bad = matches!(whole, Some(naga::TypeInner::Vector { .. } | naga::TypeInner::Struct { .. }));
                    let name = function.name.as_deref().unwrap_or("the entry point");
                    assert!(!(by_number && bad), "{}: {name} writes to a part of {whole:?}", pipeline.label());
                    pointer = base;
                }
            }
        }
    }
    assert!(seen > 1000, "{seen} writes found");
}

#[test]
fn every_file_in_the_shader_folder_is_used() {
    let used: Vec<String> =
        Pipeline::all().flat_map(|p| [true, false].map(|sums| p.source(&Tuning::default(), sums))).collect();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = 0;
    for folder in [root.clone(), root.join("parts")] {
        for entry in std::fs::read_dir(&folder).expect("the shader folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "wgsl") {
                files += 1;
                let text = std::fs::read_to_string(&path).expect("a readable file");
                assert!(used.iter().any(|source| source.contains(&text)), "{} is in no pipeline", path.display());
            }
        }
    }
    assert!(files > 15, "{files} shader files found");
}

/// What wgpu would hand to each platform's compiler can be written, with its checks (`Checks::All`) and without. With
/// `EMPRUNE_DUMP_SHADERS=folder` all of it goes there, for the compilers themselves to judge: tests/translate runs them.
#[test]
fn every_pipeline_translates_to_every_language() {
    let folder = std::env::var_os("EMPRUNE_DUMP_SHADERS").map(std::path::PathBuf::from);
    let mut written = BTreeMap::new();
    let mut write = |name: String, extension: &'static str, bytes: &[u8]| {
        assert!(!bytes.is_empty(), "{name}.{extension} is empty");
        *written.entry(extension).or_insert(0) += 1;
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).expect("the folder");
            std::fs::write(folder.join(format!("{name}.{extension}")), bytes).expect("a file");
        }
    };
    for pipeline in Pipeline::all() {
        let (module, info) = parse(pipeline);
        let label = pipeline.label();
        // Tint wants it said; naga does not know the word.
        let enable = if pipeline.subgroup { "enable subgroups;\n" } else { "" };
        write(label.clone(), "wgsl", format!("{enable}{}", source(pipeline)).as_bytes());
        write(label.clone(), "comp", glsl(pipeline, &module, &info).as_bytes());
        for checked in [false, true] {
            let name = if checked { format!("{label}.checked") } else { label.clone() };
            write(name.clone(), "spv", bytemuck::cast_slice(&spirv(pipeline, &module, &info, checked)));
            write(name.clone(), "hlsl", hlsl(pipeline, &module, &info, checked).as_bytes());
            write(name, "metal", msl(pipeline, &module, &info, checked).as_bytes());
        }
    }
    let all = Pipeline::all().count();
    let expected = [("comp", all), ("hlsl", 2 * all), ("metal", 2 * all), ("spv", 2 * all), ("wgsl", all)];
    assert_eq!(written, BTreeMap::from(expected), "every pipeline in every language");
}

fn bounds_checks(on: bool) -> naga::proc::BoundsCheckPolicies {
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
    let policy = if on { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    BoundsCheckPolicies { index: policy, buffer: policy, ..Default::default() }
}

/// For the oldest Vulkan that can run it: subgroups came with 1.1.
fn spirv(pipeline: Pipeline, module: &naga::Module, info: &ModuleInfo, checked: bool) -> Vec<u32> {
    let options = naga::back::spv::Options {
        lang_version: if pipeline.subgroup { (1, 3) } else { (1, 0) },
        zero_initialize_workgroup_memory: naga::back::spv::ZeroInitializeWorkgroupMemoryMode::None,
        bounds_check_policies: bounds_checks(checked),
        force_loop_bounding: checked,
        ..Default::default()
    };
    naga::back::spv::write_vec(module, info, &options, None).unwrap_or_else(|e| panic!("{}: {e}", pipeline.label()))
}

/// For FXC, or where it needs subgroups for DXC.
fn hlsl(pipeline: Pipeline, module: &naga::Module, info: &ModuleInfo, checked: bool) -> String {
    let mut text = String::new();
    let options = naga::back::hlsl::Options {
        shader_model: if pipeline.subgroup { ShaderModel::V6_0 } else { ShaderModel::V5_1 },
        zero_initialize_workgroup_memory: false,
        restrict_indexing: checked,
        force_loop_bounding: checked,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let entry = (naga::ShaderStage::Compute, pipeline.stage.name().to_owned());
    let entry = naga::back::hlsl::PipelineOptions { entry_point: Some(entry) };
    let written = naga::back::hlsl::Writer::new(&mut text, &options, &entry).write(module, info, None);
    written.unwrap_or_else(|e| panic!("{}: {e}", pipeline.label()));
    text
}

fn msl(pipeline: Pipeline, module: &naga::Module, info: &ModuleInfo, checked: bool) -> String {
    let options = naga::back::msl::Options {
        lang_version: if pipeline.subgroup { (2, 1) } else { (2, 0) },
        zero_initialize_workgroup_memory: false,
        bounds_check_policies: bounds_checks(checked),
        force_loop_bounding: checked,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let written = naga::back::msl::write_string(module, info, &options, &Default::default());
    written.unwrap_or_else(|e| panic!("{}: {e}", pipeline.label())).0
}

/// There, bounds are the driver's business: checked and unchecked are the same text.
fn glsl(pipeline: Pipeline, module: &naga::Module, info: &ModuleInfo) -> String {
    let mut text = String::new();
    let options = naga::back::glsl::Options {
        version: naga::back::glsl::Version::new_gles(310),
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let entry = naga::back::glsl::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: pipeline.stage.name().to_owned(),
        multiview: None,
    };
    let writer = naga::back::glsl::Writer::new(&mut text, module, info, &options, &entry, bounds_checks(false));
    writer.and_then(|mut writer| writer.write()).unwrap_or_else(|e| panic!("{}: {e}", pipeline.label()));
    text
}

/// As `range_of` in parts/params.wgsl has it: the last part of a contest may have no entries, and with it a workgroup.
#[test]
fn a_workgroup_may_have_no_entries() {
    for (groups, len) in [(2, 65_536), (3, 81_910)] {
        let Parts { count, len: part, fold, .. } = Tuning::default().parts(len, groups, false);
        // Of the first one.
        assert!(
            (count - 1) * part >= len && fold == 1,
            "{groups} contests of {len}: {count} parts of {part}, {fold} at once"
        );
    }
}
