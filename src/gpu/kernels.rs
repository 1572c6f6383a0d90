//! Pipelines for one device, compiled when they are first needed, and one function per stage that records it.

use super::layout::{Params, binding};
use super::shaders::{self, Pipeline, Stage};
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::plan::{self, LANE_KEYS, Tuning};
use crate::rule::{Budget, Rule, Score};
use std::borrow::Borrow;
use std::sync::{Arc, OnceLock};

/// Pipelines for one device. Nothing is compiled before it is needed; clones share what is.
#[derive(Clone, Debug)]
pub struct Kernels {
    device: wgpu::Device,
    /// Made when first needed: a device that lacks what they take is refused by `plan` before that.
    layouts: Arc<OnceLock<Layouts>>,
    pipelines: Arc<[OnceLock<wgpu::ComputePipeline>]>,
    options: KernelOptions,
    subgroup: bool,
    /// Whether sums are made; without them times alone mean something.
    pub(crate) sums: bool,
    /// Stands in where a rule has no norms.
    nothing: wgpu::Buffer,
    /// Dispatches that were recorded.
    #[cfg(test)]
    pub(crate) recorded: Arc<std::sync::atomic::AtomicU32>,
}

/// Which shaders run. The answer is the same.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The subgroup variant where the device has subgroups, else the portable one.
    #[default]
    Auto,
    /// Within WebGPU's default limits and without any feature.
    Portable,
    /// Lanes of a subgroup, of whatever size, add up among themselves before they meet in workgroup memory.
    Subgroup,
}

impl Variant {
    /// As on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Auto => "auto",
            Variant::Portable => "portable",
            Variant::Subgroup => "subgroup",
        }
    }

    /// Whether it takes subgroups, on a device with these features.
    pub(crate) fn uses_subgroups(self, features: wgpu::Features) -> Result<bool, Error> {
        let has = features.contains(wgpu::Features::SUBGROUP);
        if self == Variant::Subgroup && !has {
            return Err(Error::new(
                ErrorKind::Limit,
                "the subgroup variant needs the feature SUBGROUP, which is not there",
            ));
        }
        Ok(has && self != Variant::Portable)
    }
}

/// What a shader checks while it runs. The answer is the same.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// Not what is proven: that indices are in bounds and that loops end.
    #[default]
    Proven,
    /// Everything, as WebGPU asks for.
    All,
}

/// Choices about the kernels; the default is the fastest.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct KernelOptions {
    /// Compiled pipelines come from here and go here.
    pub cache: Option<wgpu::PipelineCache>,
    /// Which shaders run.
    pub variant: Variant,
    /// What they check.
    pub checks: Checks,
    /// Their constants.
    pub tuning: Tuning,
}

impl KernelOptions {
    /// The fastest, without a cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keep compiled pipelines in a cache of yours.
    #[must_use]
    pub fn with_cache(mut self, cache: wgpu::PipelineCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Choose the shaders.
    #[must_use]
    pub fn with_variant(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }

    /// Choose what they check.
    #[must_use]
    pub fn with_checks(mut self, checks: Checks) -> Self {
        self.checks = checks;
        self
    }

    /// Choose their constants.
    #[must_use]
    pub fn with_tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }
}

/// Of bind groups and pipelines: for looking at weights and for writing them.
#[derive(Debug)]
struct Layouts {
    bind_groups: [wgpu::BindGroupLayout; 2],
    pipelines: [wgpu::PipelineLayout; 2],
}

/// A run of weights in one binding, ready to be worked on.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) params: Params,
    /// How what is judged is stored, and what is zeroed.
    pub(crate) dtype: Dtype,
    zeroed: Dtype,
    pub(crate) score: Score,
    /// Whether the sum of what is kept is wanted.
    mass: bool,
    /// Whether a lane may take four words at once.
    pub(crate) fours: bool,
    /// Bind groups for looking and for writing.
    read: wgpu::BindGroup,
    write: Option<wgpu::BindGroup>,
}

/// The buffers of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Bindings<'a> {
    pub(crate) params: wgpu::BufferBinding<'a>,
    /// What is judged.
    pub(crate) weights: wgpu::BufferBinding<'a>,
    /// What is zeroed, and how it is stored.
    pub(crate) zeroed: Option<(wgpu::BufferBinding<'a>, Dtype)>,
    pub(crate) norms: Option<wgpu::BufferBinding<'a>>,
    pub(crate) tally: wgpu::BufferBinding<'a>,
    pub(crate) records: wgpu::BufferBinding<'a>,
    pub(crate) span_bins: wgpu::BufferBinding<'a>,
    pub(crate) mask: wgpu::BufferBinding<'a>,
    pub(crate) first_bad: wgpu::BufferBinding<'a>,
    pub(crate) candidates: wgpu::BufferBinding<'a>,
}

impl Kernels {
    /// Kernels for `device`, the best variant that it can run; compiles nothing yet.
    pub fn new(device: &wgpu::Device) -> Self {
        let subgroup = device.features().contains(wgpu::Features::SUBGROUP);
        Self::of(device, KernelOptions::default(), subgroup)
    }

    /// As [`new`](Self::new), with choices of your own.
    ///
    /// # Errors
    /// `Limit` when [`Variant::Subgroup`] is asked for and the device was opened without [`wgpu::Features::SUBGROUP`].
    pub fn with_options(device: &wgpu::Device, options: KernelOptions) -> Result<Self, Error> {
        let subgroup = options.variant.uses_subgroups(device.features())?;
        Ok(Self::of(device, options, subgroup))
    }

    /// As [`with_options`](Self::with_options), for measuring what the exact sums cost: kernels that leave them out. Only plans with
    /// a fixed count and without a mass can be bound: for these the sums do not matter.
    ///
    /// # Errors
    /// As those of [`with_options`](Self::with_options).
    pub fn for_timing_without_sums(device: &wgpu::Device, options: KernelOptions) -> Result<Self, Error> {
        Ok(Self { sums: false, ..Self::with_options(device, options)? })
    }

    /// Kernels without sums are not asked for what takes them.
    pub(crate) fn check_sums(&self, rule: &Rule, mass: bool) -> Result<(), Error> {
        if self.sums || (!mass && !matches!(rule.budget, Budget::Effective(_))) {
            return Ok(());
        }
        let asked = if mass { "a mass".to_owned() } else { format!("{:?}", rule.budget) };
        Err(Error::invalid(format!(
            "these kernels leave the sums out, to be timed with a fixed count, and {asked} takes them"
        )))
    }

    fn of(device: &wgpu::Device, options: KernelOptions, subgroup: bool) -> Self {
        let nothing = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("emprune.nothing"),
            size: 16,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let pipelines = (0..shaders::COUNT).map(|_| OnceLock::new()).collect();
        Self {
            device: device.clone(),
            layouts: Arc::default(),
            pipelines,
            options,
            subgroup,
            sums: true,
            nothing,
            #[cfg(test)]
            recorded: Arc::default(),
        }
    }

    /// Which shaders run: [`Variant::Portable`] or [`Variant::Subgroup`].
    pub fn variant(&self) -> Variant {
        if self.subgroup { Variant::Subgroup } else { Variant::Portable }
    }

    pub(crate) fn tuning(&self) -> &Tuning {
        &self.options.tuning
    }

    #[cfg(test)]
    pub(crate) fn options(&self) -> KernelOptions {
        self.options.clone()
    }

    /// Pipelines that were compiled.
    #[cfg(test)]
    pub(crate) fn compiled(&self) -> usize {
        self.pipelines.iter().filter(|slot| slot.get().is_some()).count()
    }

    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.device
    }

    fn layouts(&self) -> &Layouts {
        self.layouts.get_or_init(|| Layouts::new(&self.device))
    }

    /// Compile a pipeline now.
    pub(crate) fn compile(&self, stage: Stage, dtype: Dtype, score: Score, write: bool, mass: bool, fours: bool) {
        self.pipeline(Pipeline { stage, dtype, score, write, mass, subgroup: self.subgroup, fours });
    }

    fn pipeline(&self, pipeline: Pipeline) -> &wgpu::ComputePipeline {
        let pipeline = pipeline.canonical();
        self.pipelines[pipeline.index()].get_or_init(|| {
            let label = pipeline.label();
            let module = self.module(&label, pipeline.source(self.tuning(), self.sums));
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&self.layouts().pipelines[usize::from(pipeline.write)]),
                module: &module,
                entry_point: Some(pipeline.stage.name()),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // The shaders clear what they read; doing it for them costs seconds on some drivers.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.options.cache.as_ref(),
            })
        })
    }

    /// A shader, compiled with the checks that were asked for.
    ///
    /// Without them, these hold by what `bind` and the host side of `Pruner` check before anything is recorded:
    ///
    /// * Places that follow from `Params`. Every binding has at least the bytes that the plan computes from the same numbers that the uniform `Params`
    ///   hand to the shader, and nobody can write `Params`.
    ///   * Weights, and word `at / 32` of the mask: only behind `at < params.len`, at the nearest place of a range, or in a sample of it
    ///     (`common_exponent`: the last of so many steps ends before it does; a workgroup that has no entries takes none). Fours of words:
    ///     only where contests begin and end with one (`plan::has_fours`), so that a four with an entry of a range has no other ones.
    ///   * Norms: `% params.columns`. Span counters: below `params.all_spans`.
    ///   * Records and tally: a contest below `params.groups`; a row's tally only for the mass, without which it has none.
    ///   * Arranged keys, their mask and records: where the grid of the plan puts an entry and a contest.
    ///   * Ranges of the caller's buffers that are written do not overlap: `bind` refuses them.
    /// * Places that are read from a buffer, of seven kinds:
    ///   1. a key's digit: by `bin_of` below `BINS` for every key of 31 bits and every focus of at most 239 powers of two, which is all that
    ///      `focus_below` makes; or a difference below `1 << left`, shifted to `LOW_BITS`;
    ///   2. a level less the lowest, at most `LEVELS`, or its eleven lowest bits; of a level among these its coarse bin, below `LEVEL_BINS`; the
    ///      coarse bin of a key, below `COARSE_BINS`, and the fine one of a stray in focus, compared with `FOCUS_BINS`;
    ///   3. an exponent, at most 254 behind the test for `KEY_END`, which puts a sum's last digit at 37 of 44; and a window's top, at most 256, at 40;
    ///   4. a cut's span, compared with the slice's own;
    ///   5. the entry of a bad key among arranged ones;
    ///   6. a candidate's number, below the capacity (or a row's room), since `budget` or `row_narrow` has counted the bin before `sift` collects from
    ///      it, in the same pass over the same weights. Only as many are looked at as have been noted;
    ///   7. a candidate's entry, which is the place of an entry that was read when it was noted, in the workspace by `sift` or in workgroup memory
    ///      by a row.
    /// * Loops. Each
    ///   * counts to a bound that comes from `Params` or a constant, or down to zero or one, or to the number of candidates that were noted;
    ///   * or clears one bit of a word at each turn, or takes back one of a quotient that is at most four too large, or moves the words of a number that is
    ///     not zero;
    ///   * or, in `ties`, ends with its span, or where one lane says so; and over a row's digits, since each leaves fewer bits open, and one lane
    ///     always settles it.
    /// * Division by zero stays checked.
    fn module(&self, label: &str, source: String) -> wgpu::ShaderModule {
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(source.into()) };
        match self.options.checks {
            Checks::All => self.device.create_shader_module(descriptor),
            Checks::Proven => {
                let checks = wgpu::ShaderRuntimeChecks {
                    bounds_checks: false,
                    force_loop_bounding: false,
                    ..wgpu::ShaderRuntimeChecks::checked()
                };
                // SAFETY: no index leaves its buffer or array and every loop ends, by the proof above.
                #[allow(unsafe_code, reason = "checks of what is proven cost time in every inner loop")]
                unsafe {
                    self.device.create_shader_module_trusted(descriptor, checks)
                }
            }
        }
    }

    /// Put buffers together into a slice.
    pub(crate) fn slice(&self, params: Params, dtype: Dtype, score: Score, mass: bool, b: &Bindings<'_>) -> Slice {
        let group = |weights: &wgpu::BufferBinding<'_>, write: bool| {
            let norms = b.norms.clone().unwrap_or_else(|| self.nothing.as_entire_buffer_binding());
            let entries = [
                (binding::PARAMS, b.params.clone()),
                (binding::WEIGHTS, weights.clone()),
                (binding::NORMS, norms),
                (binding::TALLY, b.tally.clone()),
                (binding::RECORDS, b.records.clone()),
                (binding::SPAN_BINS, b.span_bins.clone()),
                (binding::MASK, b.mask.clone()),
                (binding::FIRST_BAD, b.first_bad.clone()),
                (binding::CANDIDATES, b.candidates.clone()),
            ];
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("emprune"),
                layout: &self.layouts().bind_groups[usize::from(write)],
                entries: &entries.map(|(binding, buffer)| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::Buffer(buffer),
                }),
            })
        };
        let write = b.zeroed.as_ref().map(|(zeroed, _)| group(zeroed, true));
        let zeroed = b.zeroed.as_ref().map_or(dtype, |&(_, dtype)| dtype);
        // There are devices whose offsets may be multiples of less.
        let fours = plan::has_fours(params.group_len.into(), dtype) && b.weights.offset.is_multiple_of(16);
        Slice { params, dtype, zeroed, score, mass, fours, read: group(&b.weights, false), write }
    }

    /// Where the first digit is to be fine, from a sample of one slice of the contests.
    pub(crate) fn focus(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        self.record_stage(pass, Stage::Focus, slice, false, slice.params.groups);
    }

    /// Exact sums and the first digit's histogram.
    pub(crate) fn stats(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        self.record_stage(pass, Stage::Stats, slice, false, folded(slice));
    }

    /// How many each contest keeps, and the first digit of its threshold; any slice of the contests will do.
    pub(crate) fn budget(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        self.record_stage(pass, Stage::Budget, slice, false, slice.params.groups);
    }

    /// One more digit of each threshold; any slice of the contests will do.
    pub(crate) fn narrow(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        self.record_stage(pass, Stage::Narrow, slice, false, slice.params.groups);
    }

    /// The next digit's histogram, among candidates where there are any.
    pub(crate) fn histogram(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        self.record_stage(pass, Stage::Histogram, slice, false, folded(slice));
    }

    /// Where ties end, if that is in this slice.
    pub(crate) fn ties(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        self.record_stage(pass, Stage::Ties, slice, false, slice.params.groups);
    }

    /// What the first digit decides, and the candidates for the rest; nothing where its bin is large.
    pub(crate) fn sift(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice, write: bool) {
        self.record_stage(pass, Stage::Sift, slice, write, slice.params.groups * slice.params.parts);
    }

    /// The candidates' own decision, where there are any.
    pub(crate) fn settle(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice, write: bool) {
        self.record_stage(pass, Stage::Settle, slice, write, slice.params.groups * slice.params.refiners);
    }

    /// All of a contest whose slices are all here: two reads where the first digit's bin is small, else four. Which one is decided on
    /// the device; the stages of the other return at once.
    pub(crate) fn contest<S: Borrow<Slice>>(&self, pass: &mut wgpu::ComputePass<'_>, slices: &[S], write: bool) {
        let Some(first) = slices.first().map(S::borrow) else { return };
        let each = |pass: &mut wgpu::ComputePass<'_>, stage: &dyn Fn(&mut wgpu::ComputePass<'_>, &Slice)| {
            slices.iter().for_each(|slice| stage(pass, slice.borrow()));
        };
        // The largest slice speaks for all.
        let largest = slices.iter().map(S::borrow).max_by_key(|slice| slice.params.group_len).unwrap_or(first);
        self.focus(pass, largest);
        each(pass, &|pass, slice| self.stats(pass, slice));
        self.budget(pass, first);
        each(pass, &|pass, slice| self.sift(pass, slice, write));
        for _ in 1..first.params.digits {
            each(pass, &|pass, slice| self.histogram(pass, slice));
            self.narrow(pass, first);
        }
        each(pass, &|pass, slice| self.ties(pass, slice));
        each(pass, &|pass, slice| {
            self.settle(pass, slice, write);
            self.apply(pass, slice, write);
        });
    }

    /// Mask bits, kept sum and, when `write`, zeros.
    pub(crate) fn apply(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice, write: bool) {
        self.record_stage(pass, Stage::Apply, slice, write, folded(slice));
        self.edges(pass, slice, write);
    }

    /// Every stage for contests of one workgroup each, or less.
    pub(crate) fn rows(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice, write: bool) {
        match self.rows_stage(slice.params.group_len.into()) {
            Stage::Teams(team) => self.teams(pass, slice, write, team),
            stage => self.record_stage(pass, stage, slice, write, slice.params.groups),
        }
        self.edges(pass, slice, write);
    }

    /// The stage for rows of this length.
    pub(crate) fn rows_stage(&self, row_len: u64) -> Stage {
        let is_enough = |&(_, lanes): &(u32, u32)| row_len <= u64::from(lanes * LANE_KEYS);
        self.tuning().teams.iter().position(is_enough).map_or(Stage::Rows, Stage::Teams)
    }

    /// Every stage for short contests, several to a workgroup; `team` is a place in the table of them.
    fn teams(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice, write: bool, team: usize) {
        let (lanes, lanes_a_row) = self.tuning().teams[team];
        let workgroups = slice.params.groups.div_ceil(lanes / lanes_a_row);
        self.record_stage(pass, Stage::Teams(team), slice, write, workgroups);
    }

    /// Words that two contests share.
    fn edges(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice, write: bool) {
        if write && plan::has_edges(slice.params.group_len.into(), slice.dtype) {
            self.record_stage(pass, Stage::Edges, slice, true, slice.params.groups.div_ceil(self.tuning().lanes));
        }
    }

    /// Losers, by the mask: where what is judged is not what is zeroed.
    pub(crate) fn zero(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        let words = plan::weight_bytes(slice.params.len.into(), slice.zeroed) as u32 / 4;
        self.record_stage(pass, Stage::Zero, slice, true, words.div_ceil(self.tuning().lanes));
    }

    /// The keys of contests that are blocks, laid end to end.
    pub(crate) fn arrange(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        self.record_stage(pass, Stage::Arrange, slice, false, slice.params.len.div_ceil(self.tuning().lanes));
    }

    /// Mask bits and records of such contests, back to where they belong.
    pub(crate) fn restore(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice) {
        let lanes = slice.params.len.div_ceil(32).max(slice.params.groups);
        self.record_stage(pass, Stage::Restore, slice, false, lanes.div_ceil(self.tuning().lanes));
    }

    /// Effective numbers and masses, for the records; any slice of the contests will do.
    pub(crate) fn measure(&self, pass: &mut wgpu::ComputePass<'_>, slice: &Slice, rows: bool) {
        self.record_stage(
            pass,
            Stage::Measure { rows },
            slice,
            false,
            slice.params.groups.div_ceil(self.tuning().lanes),
        );
    }

    fn record_stage(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        stage: Stage,
        slice: &Slice,
        write: bool,
        workgroups: u32,
    ) {
        let dtype = if stage == Stage::Zero { slice.zeroed } else { slice.dtype };
        let Slice { score, mass, fours, .. } = *slice;
        let pipeline = Pipeline { stage, dtype, score, write, mass, subgroup: self.subgroup, fours };
        let group = if write { slice.write.as_ref().unwrap_or(&slice.read) } else { &slice.read };
        pass.set_pipeline(self.pipeline(pipeline));
        pass.set_bind_group(0, group, &[]);
        #[cfg(test)]
        self.recorded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // A grid at most as wide as a dimension may be; the shaders fold it again.
        let widest = self.device.limits().max_compute_workgroups_per_dimension;
        if workgroups <= widest {
            pass.dispatch_workgroups(workgroups, 1, 1);
        } else {
            pass.dispatch_workgroups(widest, workgroups.div_ceil(widest), 1);
        }
    }
}

/// Workgroups that take so many parts each.
fn folded(slice: &Slice) -> u32 {
    let Params { groups, parts, fold, .. } = slice.params;
    groups * parts.div_ceil(fold)
}

impl Layouts {
    fn new(device: &wgpu::Device) -> Self {
        let bind_groups = [false, true].map(|write| {
            let storage = |binding, read_only| entry(binding, wgpu::BufferBindingType::Storage { read_only });
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some("emprune"),
                entries: &[
                    entry(binding::PARAMS, wgpu::BufferBindingType::Uniform),
                    storage(binding::WEIGHTS, !write),
                    storage(binding::NORMS, true),
                    storage(binding::TALLY, false),
                    storage(binding::RECORDS, false),
                    storage(binding::SPAN_BINS, false),
                    storage(binding::MASK, false),
                    storage(binding::FIRST_BAD, false),
                    storage(binding::CANDIDATES, false),
                ],
            })
        });
        let pipelines = [0, 1].map(|i| {
            device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("emprune"),
                bind_group_layouts: &[Some(&bind_groups[i])],
                immediate_size: 0,
            })
        });
        Self { bind_groups, pipelines }
    }
}

fn entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

/// What the kernels need: WebGPU's defaults, and of sizes what the adapter has.
///
/// Pass it as `required_limits` to let one binding hold more than the default 128 MiB. What your program needs besides goes on top:
/// `required_limits(&adapter.limits()).or_better_values_from(&yours)`.
pub fn required_limits(adapter: &wgpu::Limits) -> wgpu::Limits {
    let defaults = wgpu::Limits::default();
    wgpu::Limits {
        max_storage_buffer_binding_size: adapter
            .max_storage_buffer_binding_size
            .max(defaults.max_storage_buffer_binding_size),
        max_buffer_size: adapter.max_buffer_size.max(defaults.max_buffer_size),
        ..defaults
    }
}

/// What the kernels use of an adapter's features: subgroups, where it has them. They run without any.
///
/// Pass it as `required_features`; [`Kernels::new`] then takes [`Variant::Subgroup`].
pub fn required_features(adapter: wgpu::Features) -> wgpu::Features {
    adapter & wgpu::Features::SUBGROUP
}

/// Whether a device opened with these limits can run the kernels.
pub(crate) fn check_limits(limits: &wgpu::Limits) -> Result<(), Error> {
    let needs = [
        ("max_bindings_per_bind_group", 9, limits.max_bindings_per_bind_group),
        ("max_storage_buffers_per_shader_stage", 8, limits.max_storage_buffers_per_shader_stage),
        ("max_uniform_buffers_per_shader_stage", 1, limits.max_uniform_buffers_per_shader_stage),
        ("max_compute_invocations_per_workgroup", 256, limits.max_compute_invocations_per_workgroup),
        ("max_compute_workgroup_size_x", 256, limits.max_compute_workgroup_size_x),
        ("max_compute_workgroup_storage_size", 16 * 1024, limits.max_compute_workgroup_storage_size),
    ];
    for (name, needed, had) in needs {
        if had < needed {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the device's {name} is {had}, the kernels need {needed}"),
            ));
        }
    }
    Ok(())
}
