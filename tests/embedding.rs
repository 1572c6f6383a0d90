//! Jobs inside somebody else's GPU program: the caller's device, buffers, encoder and submit.
//!
//! Every adapter is opened twice, with WebGPU's default limits and no feature, and with everything that it has. The caller's
//! buffers are sub-ranges of larger ones full of poison, their scratch is dirty, and after every job each byte is accounted
//! for: it is what the oracle says, or what it was before.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{check_mask, check_pruned};
use common::inputs::{self, Rng, distribution, infinity, mixture, near, one, with_norms};
use common::oracle::{self, Answer, Bad, Contests, Kind, Question, Refusal, Weights};
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{
    Buffers, Checks, Job, KernelOptions, Kernels, Plan, Record, SliceBuffers, Variant, required_limits,
};
use emprune::{Dtype, Error, ErrorKind, Granularity, Rule, Score, TensorSpec};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];

// ---- the caller's devices

/// A device of the caller's, and the kernels for it.
struct Gpu {
    name: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    kernels: Kernels,
}

fn adapters() -> Vec<wgpu::Adapter> {
    if std::env::var("EMPRUNE_NO_GPU").is_ok_and(|v| v == "1") {
        return Vec::new();
    }
    let part = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default().to_lowercase();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.retain(|adapter| {
        let info = adapter.get_info();
        [info.name, info.driver, format!("{:?}", info.backend)].iter().any(|text| text.to_lowercase().contains(&part))
    });
    if common::kernel_choices().0 == Variant::Subgroup {
        adapters.retain(|adapter| adapter.features().contains(wgpu::Features::SUBGROUP));
    }
    assert!(!adapters.is_empty(), "no adapter with {part:?} here; EMPRUNE_NO_GPU=1 says that none is wanted");
    adapters
}

/// The caller's device, as the caller opens it.
fn open(
    adapter: &wgpu::Adapter,
    what: &str,
    features: wgpu::Features,
    limits: wgpu::Limits,
) -> (String, wgpu::Device, wgpu::Queue) {
    let info = adapter.get_info();
    let name = format!("{} ({:?}, {}) with {what}", info.name, info.backend, info.driver_info);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("the caller's"),
        required_features: features,
        required_limits: limits,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) =
        pollster::block_on(adapter.request_device(&descriptor)).unwrap_or_else(|e| panic!("{name}: {e}"));
    (name, device, queue)
}

fn open_by_default(adapter: &wgpu::Adapter) -> (String, wgpu::Device, wgpu::Queue) {
    // Subgroups, where the tests are asked to use them; else no feature at all.
    let features = match common::kernel_choices().0 {
        Variant::Subgroup => wgpu::Features::SUBGROUP,
        _ => wgpu::Features::empty(),
    };
    open(adapter, "default limits", features, wgpu::Limits::default())
}

const EVERYTHING: &str = "everything";

/// Every adapter twice. An error that no scope catches panics, as it does in the caller's program.
fn gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let open_both = |adapter: &wgpu::Adapter| {
            let all_features = adapter.features().difference(wgpu::Features::all_experimental_mask());
            [open_by_default(adapter), open(adapter, EVERYTHING, all_features, adapter.limits())]
        };
        let gpu = |(name, device, queue)| {
            let (variant, checks) = common::kernel_choices();
            let options = KernelOptions::new().with_variant(variant).with_checks(checks);
            let kernels = Kernels::with_options(&device, options).unwrap();
            Gpu { name, device, queue, kernels }
        };
        adapters().iter().flat_map(open_both).map(gpu).collect()
    })
}

/// A device, for as long as nobody else has its turn.
struct Turn {
    gpu: &'static Gpu,
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Every device in turn. Vulkan's serve all tests at once; GL has one context for all threads, and gives up waiting for it after some
/// seconds.
fn turns() -> impl Iterator<Item = Turn> {
    static GL: Mutex<()> = Mutex::new(());
    gpus().iter().map(|gpu| {
        let alone = gpu.name.contains("(Gl").then(|| GL.lock().unwrap_or_else(PoisonError::into_inner));
        Turn { gpu, _alone: alone }
    })
}

impl Gpu {
    fn buffer(&self, bytes: &[u8], usage: BufferUsages) -> wgpu::Buffer {
        let usage = usage | BufferUsages::COPY_DST;
        let size = (bytes.len() as u64).next_multiple_of(4);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// What the caller does with an encoder and a submit of their own. No error may come of it.
    fn submit(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
        if let Some(error) = pollster::block_on(scope.pop()) {
            panic!("{}: recording and submitting raised {error}", self.name);
        }
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<u8> {
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        self.submit(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, None));
        staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        staging.get_mapped_range(..).unwrap().to_vec()
    }

    /// Where bindings may begin.
    fn align(&self) -> usize {
        self.device.limits().min_storage_buffer_offset_alignment as usize
    }

    /// A compute pass of the caller's over storage buffers, all of which it may write.
    fn pass(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        wgsl: &str,
        buffers: &[wgpu::BufferBinding<'_>],
        workgroups: u32,
    ) {
        let source = wgpu::ShaderSource::Wgsl(wgsl.into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries = buffers.iter().enumerate().map(|(i, buffer)| wgpu::BindGroupEntry {
            binding: i as u32,
            resource: wgpu::BindingResource::Buffer(buffer.clone()),
        });
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries.collect::<Vec<_>>(),
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(workgroups, 1, 1);
    }
}

// ---- the caller's buffers

/// A buffer of the caller's in which more lives than what a job is lent: everything else is poison.
struct Arena {
    /// What was uploaded last.
    bytes: Vec<u8>,
    lent: Vec<Range<usize>>,
    align: usize,
}

impl Arena {
    fn new(align: usize) -> Self {
        Self { bytes: Vec::new(), lent: Vec::new(), align }
    }

    /// A range at a legal offset, with poison before and behind it.
    fn lend(&mut self, len: usize) -> Range<usize> {
        let mut start = (self.bytes.len() + 1).next_multiple_of(self.align);
        if self.align < 256 && start.is_multiple_of(256) {
            start += self.align; // where the device allows less than 256, less it is
        }
        let range = start..start + len;
        let seed = start as u64;
        self.fill_poison(range.end + 3, seed);
        self.lent.push(range.clone());
        range
    }

    fn place(&mut self, bytes: &[u8]) -> Range<usize> {
        let range = self.lend(bytes.len());
        self.bytes[range.clone()].copy_from_slice(bytes);
        range
    }

    fn fill_poison(&mut self, up_to: usize, seed: u64) {
        let mut rng = Rng(seed);
        self.bytes.resize_with(up_to.next_multiple_of(4), || rng.next() as u8);
    }

    /// Other poison everywhere; ranges stay lent.
    fn poison_again(&mut self, seed: u64) {
        let len = self.bytes.len();
        self.bytes.clear();
        self.fill_poison(len, seed);
    }

    /// Every byte that was not lent is what it was.
    fn check(&self, what: &str, now: &[u8]) -> Result<(), String> {
        let is_lent = |at: usize| self.lent.iter().any(|range| range.contains(&at));
        match (0..self.bytes.len()).find(|&at| now[at] != self.bytes[at] && !is_lent(at)) {
            Some(at) => Err(format!(
                "byte {at} of the {what} was {:#04x} and is {:#04x}; lent were {:?}",
                self.bytes[at], now[at], self.lent
            )),
            None => Ok(()),
        }
    }
}

/// A range of a buffer, and no byte more.
fn part<'a>(buffer: &'a wgpu::Buffer, range: &Range<usize>) -> wgpu::BufferBinding<'a> {
    let size = (range.len() as u64).next_multiple_of(4); // bindings are whole words
    wgpu::BufferBinding { buffer, offset: range.start as u64, size: wgpu::BufferSize::new(size) }
}

fn spec(weights: &Weights) -> TensorSpec {
    TensorSpec::new(common::dtype(weights.kind), weights.len() as u64, weights.row_len as u64).unwrap()
}

/// A job of the caller's, bound to sub-ranges of the caller's buffers.
struct Task<'t> {
    gpu: &'t Gpu,
    tensors: &'t [Weights],
    plan: Plan,
    job: Job,
    weights: (Arena, wgpu::Buffer, Vec<Range<usize>>),
    /// Masks, records and, unless it is shared, the workspace.
    results: (Arena, wgpu::Buffer),
    masks: Vec<Range<usize>>,
    records: Range<usize>,
}

impl<'t> Task<'t> {
    fn new(gpu: &'t Gpu, tensors: &'t [Weights], question: &Question) -> Self {
        Self::with(gpu, tensors, question, None, false)
    }

    /// Bind to a shared workspace, or to exactly as many bytes as the plan asks for.
    fn with(
        gpu: &'t Gpu,
        tensors: &'t [Weights],
        question: &Question,
        workspace: Option<&wgpu::Buffer>,
        mass: bool,
    ) -> Self {
        let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
        let plan = gpu.kernels.plan(&specs, &common::rule(question)).unwrap().with_mass(mass);
        gpu.kernels.warm_up(&plan);
        let mut arena = Arena::new(gpu.align());
        let ranges: Vec<_> = tensors.iter().map(|w| arena.place(&w.bytes)).collect();
        let weights_buffer = gpu.buffer(&arena.bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);

        let mut results = Arena::new(gpu.align());
        let masks: Vec<_> = (0..tensors.len()).map(|i| results.lend(plan.mask_bytes(i).unwrap() as usize)).collect();
        let records = results.lend(plan.records_bytes() as usize);
        let scratch = results.lend(if workspace.is_some() { 4 } else { plan.workspace_bytes() as usize });
        let results_buffer = gpu.buffer(&results.bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);

        let mut norms = Arena::new(gpu.align());
        let norm_ranges: Vec<Option<Range<usize>>> = tensors
            .iter()
            .map(|w| w.norms.as_ref().filter(|_| question.wanda))
            .map(|n| n.map(|n| norms.place(bytemuck::cast_slice(n))))
            .collect();
        let norms_buffer = gpu.buffer(&[&norms.bytes[..], &[0; 4]].concat(), BufferUsages::STORAGE);

        let slices: Vec<SliceBuffers<'_>> = (0..tensors.len())
            .map(|i| SliceBuffers {
                weights: part(&weights_buffer, &ranges[i]),
                norms: norm_ranges[i].as_ref().map(|range| part(&norms_buffer, range)),
                mask: part(&results_buffer, &masks[i]),
            })
            .collect();
        let workspace =
            workspace.map_or_else(|| part(&results_buffer, &scratch), |shared| shared.as_entire_buffer_binding());
        let buffers = Buffers { slices: &slices, records: part(&results_buffer, &records), workspace };
        let job = gpu.kernels.bind(&plan, &buffers).unwrap();
        Self {
            gpu,
            tensors,
            plan,
            job,
            weights: (arena, weights_buffer, ranges),
            results: (results, results_buffer),
            masks,
            records,
        }
    }

    /// The caller writes its weights again, and other poison over everything else that the job may write.
    fn reset(&mut self, seed: u64) {
        self.gpu.queue.write_buffer(&self.weights.1, 0, &self.weights.0.bytes);
        self.results.0.poison_again(seed);
        self.gpu.queue.write_buffer(&self.results.1, 0, &self.results.0.bytes);
    }

    fn look(&self) -> Seen {
        let weights = self.gpu.read(&self.weights.1);
        let results = self.gpu.read(&self.results.1);
        let outside = self.weights.0.check("buffer of weights", &weights);
        let outside = outside.and_then(|()| self.results.0.check("buffer of results", &results));
        Seen {
            outside,
            weights: self.weights.2.iter().map(|range| weights[range.clone()].to_vec()).collect(),
            masks: self.masks.iter().map(|range| results[range.clone()].to_vec()).collect(),
            records: results[self.records.clone()]
                .chunks_exact(size_of::<Record>())
                .map(bytemuck::pod_read_unaligned)
                .collect(),
        }
    }

    /// What the job left is what the oracle says.
    fn check(&self, want: &Answer, pruned: bool) {
        let seen = self.look();
        self.check_seen(&seen, want, pruned).unwrap_or_else(|wrong| self.fail(&wrong));
    }

    fn check_seen(&self, seen: &Seen, want: &Answer, pruned: bool) -> Result<(), String> {
        seen.outside.clone()?;
        if self.plan.groups() != want.contests.len() as u64 || seen.records.len() != want.contests.len() {
            return Err(format!("{} records for {} contests", seen.records.len(), want.contests.len()));
        }
        for (i, (record, contest)) in seen.records.iter().zip(&want.contests).enumerate() {
            let got = (record.status, record.degenerate, record.kept(), record.threshold);
            let want = (0, u32::from(contest.degenerate), contest.kept as u64, contest.threshold.to_bits());
            if got != want {
                return Err(format!("record {i}: status, degenerate, kept, threshold are {got:x?}, must be {want:x?}"));
            }
            let ties = contest.scores.iter().filter(|s| **s >= contest.threshold).count();
            if (record.cut_span == Record::NO_CUT) != (ties == contest.kept) {
                return Err(format!(
                    "record {i}: cut_span is {}, and {ties} scores reach the threshold",
                    record.cut_span
                ));
            }
        }
        for (t, weights) in self.tensors.iter().enumerate() {
            let of_slice = |wrong| format!("slice {t}: {wrong}");
            let (bits, unused) = seen.masks[t].split_at(weights.len().div_ceil(8));
            check_mask(&want.masks[t], bits).map_err(of_slice)?;
            if unused.iter().any(|&byte| byte != 0) {
                return Err(of_slice(format!("bits past the end of the mask: {unused:02x?}")));
            }
            if pruned {
                check_pruned(weights, &want.masks[t], &seen.weights[t]).map_err(of_slice)?;
            } else if seen.weights[t] != weights.bytes {
                return Err(of_slice("weights changed, and only a mask was asked for".to_owned()));
            }
        }
        Ok(())
    }

    fn fail(&self, wrong: &str) -> ! {
        let labels: Vec<&str> = self.tensors.iter().map(|w| w.label.as_str()).collect();
        panic!("{}: {:?} of {labels:?}: {wrong}", self.gpu.name, self.plan)
    }
}

/// What the caller's buffers hold after a job.
struct Seen {
    /// Whether everything that was not lent is what it was.
    outside: Result<(), String>,
    weights: Vec<Vec<u8>>,
    masks: Vec<Vec<u8>>,
    records: Vec<Record>,
}

/// On every device: the losers are zeroed. And where the limits are tight: a mask first, by the same job.
fn ask(tensors: &[Weights], question: &Question) {
    let want = oracle::answer(tensors, question).unwrap();
    // Small tests ask one device of two.
    let mine = |i: &usize| !common::small() || (tensors[0].len() + i).is_multiple_of(2);
    for (_, turn) in turns().enumerate().filter(|(i, _)| mine(i)) {
        ask_one(turn.gpu, tensors, question, &want);
    }
}

fn ask_one(gpu: &Gpu, tensors: &[Weights], question: &Question, want: &Answer) {
    let mut task = Task::new(gpu, tensors, question);
    if !gpu.name.ends_with(EVERYTHING) {
        gpu.submit(|encoder| task.job.record_mask(encoder));
        task.check(want, false);
        task.reset(1);
    }
    gpu.submit(|encoder| task.job.record_prune(encoder));
    task.check(want, true);
}

fn question(contests: Contests, wanda: bool, beta: f64) -> Question {
    Question { contests, wanda, beta, ..Question::RULE }
}

// ---- the rule, on the caller's device

const SOME: [&str; 7] = ["normal", "int8_levels", "ternary", "sixty_decades", "all_equal", "mostly_zeros", "any_bits"];

/// As (rows, row length): the edges of words, of workgroups, of tiles and of parts, and one less and one more.
const WHOLE: [(usize, usize); 17] = [
    (1, 1),
    (1, 2),
    (3, 1),
    (1, 31),
    (2, 16),
    (3, 11),
    (1, 257),
    (63, 65),
    (1, 4096),
    (17, 241),
    (1, 8191),
    (3, 2731),
    (1, 16_383),
    (1, 16_384),
    (5, 3277),
    (7, 4681),
    (7, 7143),
];
const ROWS: [(usize, usize); 17] = [
    (1, 1),
    (35, 1),
    (9, 2),
    (33, 7),
    (5, 31),
    (3, 131),
    (301, 27),
    (65, 64),
    (3, 1024),
    (2, 1025),
    (3, 2048),
    (3, 2049),
    (3, 257),
    (2, 4097),
    (3, 8193),
    (2, 16_385),
    (2, 50_001),
];

/// Every shape with another distribution, and beta 1 and 1/2 by turns.
fn shapes(kind: Kind, contests: Contests, wanda: bool) {
    let shapes = if contests == Contests::Row { &ROWS[..] } else { &WHOLE[..] };
    for (i, &(rows, row_len)) in shapes.iter().enumerate() {
        let seed = 200 + i as u64;
        let mut weights = distribution(SOME[i % SOME.len()]).weights(kind, rows, row_len, seed);
        if contests == Contests::Row && i % 3 == 1 {
            weights = mixture(kind, rows, row_len, seed);
        }
        if wanda {
            weights = with_norms(weights, seed);
        }
        ask(&[weights], &question(contests, wanda, [1.0, 0.5][i % 2]));
    }
}

macro_rules! shapes {
    ($($name:ident: $kind:ident, $contests:ident, $wanda:literal;)*) => {$(
        #[test]
        fn $name() {
            shapes(Kind::$kind, Contests::$contests, $wanda);
        }
    )*};
}

shapes! {
    f32_whole: F32, Tensor, false;
    f32_whole_wanda: F32, Tensor, true;
    f32_rows: F32, Row, false;
    f32_rows_wanda: F32, Row, true;
    f16_whole: F16, Tensor, false;
    f16_whole_wanda: F16, Tensor, true;
    f16_rows: F16, Row, false;
    f16_rows_wanda: F16, Row, true;
    bf16_whole: Bf16, Tensor, false;
    bf16_whole_wanda: Bf16, Tensor, true;
    bf16_rows: Bf16, Row, false;
    bf16_rows_wanda: Bf16, Row, true;
}

/// Rows for which one workgroup is not enough, and the last for which it is.
#[test]
fn long_rows() {
    for (i, kind) in KINDS.into_iter().enumerate() {
        ask(&[distribution(SOME[i]).weights(kind, 3, 131_073, 220)], &question(Contests::Row, false, 0.7));
        // Whole parts of 16384 entries: rows that end where a part does.
        ask(
            &[distribution(["all_equal", "ternary", "normal"][i]).weights(kind, 2, 147_456, 221)],
            &question(Contests::Row, false, 0.5),
        );
    }
    ask(&[distribution("int8_levels").weights(Kind::Bf16, 1, 131_072, 222)], &question(Contests::Row, false, 1.0));
    ask(
        &[with_norms(distribution("normal").weights(Kind::F16, 3, 131_111, 223), 223)],
        &question(Contests::Row, true, 1.0),
    );
}

/// More rows than a dispatch has workgroups in one direction.
#[test]
fn very_many_rows() {
    // Rows of zeros are soon done with: only some, and those around the border, hold more.
    let mut bits = distribution("normal").weights(Kind::Bf16, 65_537, 3, 230).bits();
    for (r, row) in bits.chunks_mut(3).enumerate() {
        if r % 97 != 0 && r < 65_530 {
            row.fill(0);
        }
    }
    let weights = inputs::weights("65537 rows, most of them zeros".to_owned(), Kind::Bf16, 3, &bits);
    let asked = question(Contests::Row, false, 1.0);
    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
    // One device: a software adapter takes seconds for so many workgroups.
    if let Some(turn) = turns().next() {
        let task = Task::new(turn.gpu, std::slice::from_ref(&weights), &asked);
        turn.gpu.submit(|encoder| task.job.record_prune(encoder));
        task.check(&want, true);
    }
}

/// As above with little data: a device on which a dispatch has few workgroups in one direction.
#[test]
fn a_narrow_grid_is_folded() {
    for adapter in adapters() {
        let limits = wgpu::Limits { max_compute_workgroups_per_dimension: 23, ..wgpu::Limits::default() };
        let (name, device, queue) = open(&adapter, "a narrow grid", wgpu::Features::empty(), limits);
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device, queue, kernels };
        for (kind, contests, rows, row_len) in [
            (Kind::Bf16, Contests::Row, 301, 27),
            (Kind::F32, Contests::Row, 23, 67),
            (Kind::F16, Contests::Row, 24, 131),
            (Kind::Bf16, Contests::Row, 3, 131_073),
            (Kind::F16, Contests::Tensor, 1, 400_001),
            (Kind::F32, Contests::Tensor, 1, 23 * 16_384),
        ] {
            let weights = [distribution("int8_levels").weights(kind, rows, row_len, 235)];
            let asked = question(contests, false, 1.0);
            ask_one(&gpu, &weights, &asked, &oracle::answer(&weights, &asked).unwrap());
        }
    }
}

/// Small bindings: little room for what a contest keeps in mind about ties and candidates.
#[test]
fn a_contest_of_more_parts_than_a_binding_counts() {
    for adapter in adapters() {
        let limits = wgpu::Limits { max_storage_buffer_binding_size: 64 << 10, ..wgpu::Limits::default() };
        let (name, device, queue) = open(&adapter, "small bindings", wgpu::Features::empty(), limits);
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device, queue, kernels };
        for (name, beta) in
            [("all_equal", 0.123_457), ("all_equal", 0.9), ("ternary", 0.5), ("normal", 1.0), ("int8_levels", 0.7)]
        {
            // Two parts each, and the last one not full.
            let slice = |i: u64| distribution(name).weights(Kind::Bf16, 1, 32_767 - i as usize, i);
            let slices: Vec<_> = (0..11).map(slice).collect();
            let asked = question(Contests::Global, false, beta);
            ask_one(&gpu, &slices, &asked, &oracle::answer(&slices, &asked).unwrap());
        }
    }
}

/// Many buffers, one contest: dtypes mixed, each slice with rows and norms of its own.
#[test]
fn slices_of_one_contest() {
    let shapes =
        [(Kind::F32, 3, 67), (Kind::Bf16, 1, 16_385), (Kind::F16, 5, 131), (Kind::F32, 1, 1), (Kind::Bf16, 40, 1001)];
    for (i, name) in
        ["normal", "all_equal", "ternary", "subnormal", "all_zeros", "negative_zeros"].into_iter().enumerate()
    {
        for wanda in [false, true] {
            let seed = 240 + i as u64;
            let slices = shapes.map(|(kind, rows, row_len)| {
                let weights = distribution(name).weights(kind, rows, row_len, seed + rows as u64);
                if wanda { with_norms(weights, seed) } else { weights }
            });
            ask(&slices, &question(Contests::Global, wanda, [1.0, 0.5][i % 2]));
        }
    }
    // 16 bits only: one digit less to find.
    let slices =
        [(Kind::F16, 999), (Kind::Bf16, 33)].map(|(kind, len)| distribution("normal").weights(kind, 1, len, 250));
    ask(&slices, &question(Contests::Global, false, 1.0));
}

/// More slices than a workgroup has lanes.
#[test]
fn very_many_slices() {
    let slice = |i: usize| distribution("int8_levels").weights(KINDS[i % 3], 1, 1 + i % 70, i as u64);
    let slices: Vec<_> = (0..257).map(slice).collect();
    let asked = question(Contests::Global, false, 0.5);
    let want = oracle::answer(&slices, &asked).unwrap();
    if let Some(turn) = turns().next() {
        let task = Task::new(turn.gpu, &slices, &asked);
        turn.gpu.submit(|encoder| task.job.record_prune(encoder));
        task.check(&want, true);
    }
}

/// The entries in the threshold's bin have room, or one too many of them has not: two ways to the same answer.
#[test]
fn the_threshold_s_bin_fits_or_does_not() {
    for (i, kind) in KINDS.into_iter().enumerate() {
        for (contests, groups, len) in
            [(Contests::Tensor, 1, 40_001), (Contests::Row, 3, 131_073), (Contests::Global, 1, 39_999)]
        {
            let room = len / 16;
            for in_bin in [room - 1, room, room + 1] {
                // Some in the bin from 1 to 9/8, as many above it, the rest below; a bit of spread in each.
                let mut rng = Rng(in_bin as u64);
                let (mut sum, mut squares) = (0.0, 0.0);
                let mut entry = |j: usize| {
                    let base = [1.0, 2.0, 0.25][(j / in_bin).min(2)];
                    let value = base * (1.0 + rng.unit() * 0.1);
                    (sum, squares) = (sum + value, squares + value * value);
                    near(kind, value) | rng.next() as u32 & inputs::sign(kind)
                };
                let mut bits = Vec::new();
                for _ in 0..groups {
                    let mut row: Vec<u32> = (0..len).map(&mut entry).collect();
                    Rng(1).shuffle(&mut row);
                    bits.extend(row);
                }
                let label = format!("{in_bin} of {len} {kind:?} in the bin");
                let mut tensors = vec![inputs::weights(label, kind, len, &bits)];
                if contests == Contests::Global {
                    // The same entries in three slices, and of the same two dtypes.
                    let cuts = [&bits[..10_000], &bits[10_000..10_001], &bits[10_001..]];
                    let slice =
                        |part: &[u32]| inputs::weights(format!("{} of them", part.len()), kind, part.len(), part);
                    tensors = cuts.map(slice).to_vec();
                }
                // So many are kept that the threshold is in the middle of the bin.
                let n_eff = sum * sum / squares / groups as f64;
                let asked = question(contests, false, (in_bin as f64 * 1.5 / n_eff * 1e6).round() / 1e6);
                let want = oracle::answer(&tensors, &asked).unwrap();
                let middle = want.contests[0].threshold;
                assert!((1.0..1.125).contains(&middle), "the threshold is in the bin: {middle}");
                for turn in turns().skip(i % 2).step_by(2) {
                    let gpu = turn.gpu;
                    let task = Task::new(gpu, &tensors, &asked);
                    gpu.submit(|encoder| task.job.record_prune(encoder));
                    task.check(&want, true);
                    let sifted = u32::from(in_bin <= room);
                    assert!(task.look().records.iter().all(|r| r.sifted == sifted), "{}: {in_bin} of {len}", gpu.name);
                }
            }
        }
    }
}

/// Of equal entries the first ones win: to the last entry of one slice, to the first of the next, anywhere.
#[test]
fn ties_end_in_any_slice() {
    let lens = [(Kind::F32, 33_000), (Kind::Bf16, 16_385), (Kind::F16, 1), (Kind::F32, 4096)];
    // A power of two is the same in every dtype.
    let slices =
        lens.map(|(kind, len)| inputs::weights(format!("{len} ones of {kind:?}"), kind, len, &vec![one(kind); len]));
    let all: usize = lens.iter().map(|(_, len)| len).sum();
    for kept in [1, 16_384, 16_385, 32_999, 33_000, 33_001, 49_385, 49_386, 49_387, all - 1] {
        // Of equal entries, exactly this share is kept.
        let beta = (kept as f64 / all as f64 * 1e9).ceil() / 1e9;
        ask(&slices, &question(Contests::Global, false, beta));
    }
    ask(&slices, &question(Contests::Global, false, 0.5));
}

#[test]
fn zeros_keep_everything() {
    for kind in KINDS {
        for name in ["all_zeros", "negative_zeros"] {
            for contests in [Contests::Tensor, Contests::Row] {
                ask(&[distribution(name).weights(kind, 5, 131, 260)], &question(contests, false, 0.001));
            }
        }
        ask(&[distribution("all_zeros").weights(kind, 2, 131_075, 261)], &question(Contests::Row, false, 0.5));
    }
}

#[test]
fn every_distribution() {
    for (i, distribution) in inputs::DISTRIBUTIONS.iter().enumerate() {
        let kind = KINDS[i % 3];
        ask(&[distribution.weights(kind, 3, 6001, 270)], &question(Contests::Tensor, false, 1.0));
        ask(&[with_norms(distribution.weights(kind, 3, 601, 271), 271)], &question(Contests::Row, true, 1.0));
    }
}

/// The sum of what is kept costs time, and changes nothing else.
#[test]
fn asking_for_the_mass_changes_no_decision() {
    let weights = distribution("sixty_decades").weights(Kind::F32, 3, 20_001, 280);
    for contests in [Contests::Tensor, Contests::Row] {
        let asked = question(contests, false, 1.0);
        let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
        for turn in turns() {
            let gpu = turn.gpu;
            let task = Task::with(gpu, std::slice::from_ref(&weights), &asked, None, true);
            gpu.submit(|encoder| task.job.record_prune(encoder));
            task.check(&want, true);
        }
    }
}

// ---- jobs among other work

/// Three jobs of three kinds, one workspace, one encoder, one submit.
/// Records and sums, read back, are the decision that `Pruner` returns: effective numbers, masses and cuts, bit for bit.
#[test]
fn the_mass_on_the_device_is_the_pruner_s() {
    let cases = [
        (vec![mixture(Kind::F32, 9, 13, 1)], Contests::Row),
        (vec![mixture(Kind::Bf16, 5, 301, 2)], Contests::Row),
        (vec![mixture(Kind::F32, 2, 2100, 3)], Contests::Row),
        (vec![distribution("int8_levels").weights(Kind::F32, 1, 20_001, 4)], Contests::Tensor),
        ([5, 6].map(|seed| distribution("ternary").weights(Kind::F16, 3, 701, seed)).to_vec(), Contests::Global),
    ];
    for (tensors, contests) in cases {
        let asked = question(contests, false, 0.5);
        let borrowed: Vec<_> = tensors.iter().map(|w| common::check::tensor(w, &w.bytes)).collect();
        let (want, _) = common::cpu()[0].pruner.mask(&borrowed, &common::rule(&asked)).unwrap();
        for turn in turns() {
            let gpu = turn.gpu;
            let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
            let plan = gpu.kernels.plan(&specs, &common::rule(&asked)).unwrap().with_mass(true);
            let workspace = gpu
                .buffer(&vec![0xa5; plan.workspace_bytes() as usize], BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let task = Task::with(gpu, &tensors, &asked, Some(&workspace), true);
            gpu.submit(|encoder| task.job.record_mask(encoder));
            let sums = plan.sums_range();
            let sums = &gpu.read(&workspace)[sums.start as usize..sums.end as usize];
            let records = task.look().records;
            let got = plan.decision(&records, sums).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
            assert_eq!(got, want, "{}", gpu.name);
            assert!(got.groups().iter().all(|g| g.mass > 0.0 && g.n_eff >= 1.0), "{}", gpu.name);
            let error = plan.decision(&records, &sums[1..]).expect_err("a byte is missing");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", gpu.name);
            plan.clone().with_mass(false).decision(&records, sums).expect_err("there is no mass");
        }
    }
}

#[test]
fn jobs_share_a_workspace_one_after_the_other() {
    let questions = [
        ([(Kind::F32, 1, 40_001)].as_slice(), question(Contests::Tensor, false, 1.0)),
        (&[(Kind::Bf16, 77, 131)], question(Contests::Row, true, 1.0)),
        (&[(Kind::F16, 3, 131_073)], question(Contests::Row, false, 0.7)),
        (&[(Kind::F32, 1, 1001), (Kind::Bf16, 1, 999)], question(Contests::Global, false, 0.5)),
        (&[(Kind::F16, 1, 16_385)], question(Contests::Tensor, false, 1.0)),
    ];
    let inputs: Vec<Vec<Weights>> = questions
        .iter()
        .map(|(shapes, _)| {
            shapes.iter().map(|&(k, r, l)| with_norms(distribution("int8_levels").weights(k, r, l, 300), 300)).collect()
        })
        .collect();
    for turn in turns() {
        let gpu = turn.gpu;
        let needed = |(tensors, (_, asked)): (&Vec<Weights>, &(&[_], Question))| {
            let specs: Vec<_> = tensors.iter().map(spec).collect();
            gpu.kernels.plan(&specs, &common::rule(asked)).unwrap().workspace_bytes()
        };
        let size = inputs.iter().zip(&questions).map(needed).max().unwrap();
        let shared = gpu.buffer(&vec![0xa5; size as usize], BufferUsages::STORAGE);
        let tasks: Vec<_> = inputs
            .iter()
            .zip(&questions)
            .map(|(tensors, (_, asked))| Task::with(gpu, tensors, asked, Some(&shared), false))
            .collect();
        gpu.submit(|encoder| tasks.iter().for_each(|task| task.job.record_prune(encoder)));
        for (task, (_, asked)) in tasks.iter().zip(&questions) {
            task.check(&oracle::answer(task.tensors, asked).unwrap(), true);
        }
    }
}

/// A job asked twice in one encoder: the second time it finds weights that are pruned already.
#[test]
fn a_job_recorded_twice_prunes_what_is_left() {
    for (kind, contests, wanda) in [
        (Kind::F32, Contests::Tensor, false),
        (Kind::Bf16, Contests::Row, false),
        (Kind::F16, Contests::Tensor, true),
        (Kind::F32, Contests::Row, true),
    ] {
        let asked = question(contests, wanda, 1.0);
        let first = with_norms(distribution("normal").weights(kind, 7, 2341, 310), 310);
        let once = oracle::answer(std::slice::from_ref(&first), &asked).unwrap();
        let bits =
            first.bits().iter().zip(&once.masks[0]).map(|(&b, &kept)| if kept { b } else { 0 }).collect::<Vec<_>>();
        let second = Weights {
            norms: first.norms.clone(),
            ..inputs::weights(format!("{} pruned", first.label), kind, first.row_len, &bits)
        };
        let twice = oracle::answer(std::slice::from_ref(&second), &asked).unwrap();
        assert!(twice.contests[0].kept < once.contests[0].kept, "the second time has something to do");
        for turn in turns() {
            let gpu = turn.gpu;
            let task = Task::new(gpu, std::slice::from_ref(&first), &asked);
            gpu.submit(|encoder| {
                task.job.record_prune(encoder);
                task.job.record_prune(encoder);
            });
            task.check(&twice, true);
        }
    }
}

/// Weights made by the caller's pass just before, and used by the caller's pass just after; nobody waits in between.
#[test]
fn between_two_passes_of_the_caller() {
    const BEFORE: &str = "
        @group(0) @binding(0) var<storage, read_write> made: array<u32>;
        @group(0) @binding(1) var<storage, read_write> weights: array<u32>;
        @compute @workgroup_size(64) fn before(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x < arrayLength(&weights)) { weights[id.x] = made[id.x] ^ 0x80000000u; }
        }";
    const AFTER: &str = "
        @group(0) @binding(0) var<storage, read_write> weights: array<u32>;
        @group(0) @binding(1) var<storage, read_write> mask: array<u32>;
        @group(0) @binding(2) var<storage, read_write> after: array<u32>;
        @compute @workgroup_size(64) fn after_it(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x < arrayLength(&weights)) {
                after[id.x] = weights[id.x] + ((mask[id.x / 32u] >> (id.x % 32u)) & 1u);
            }
        }";
    let made = distribution("normal").weights(Kind::F32, 13, 777, 320);
    let flipped: Vec<u32> = made.bits().iter().map(|b| b ^ 0x8000_0000).collect();
    let weights = inputs::weights(format!("{} negated", made.label), Kind::F32, 777, &flipped);
    for contests in [Contests::Tensor, Contests::Row] {
        let asked = question(contests, false, 1.0);
        let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
        let expected: Vec<u32> =
            flipped.iter().zip(&want.masks[0]).map(|(&b, &kept)| if kept { b + 1 } else { 0 }).collect();
        for turn in turns() {
            let gpu = turn.gpu;
            let task = Task::new(gpu, std::slice::from_ref(&weights), &asked);
            // Nothing of the weights is there yet.
            let range = task.weights.2[0].clone();
            gpu.queue.write_buffer(&task.weights.1, range.start as u64, &vec![0xff; range.len()]);
            let made = gpu.buffer(&made.bytes, BufferUsages::STORAGE);
            let after = gpu.buffer(&vec![0; made.size() as usize], BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let workgroups = (flipped.len() as u32).div_ceil(64);
            let here = part(&task.weights.1, &range);
            gpu.submit(|encoder| {
                gpu.pass(encoder, BEFORE, &[made.as_entire_buffer_binding(), here.clone()], workgroups);
                task.job.record_prune(encoder);
                let mask = part(&task.results.1, &task.masks[0]);
                gpu.pass(encoder, AFTER, &[here.clone(), mask, after.as_entire_buffer_binding()], workgroups);
            });
            task.check(&want, true);
            assert!(
                gpu.read(&after) == bytemuck::cast_slice::<u32, u8>(&expected),
                "{}: {contests:?}: the pass after",
                gpu.name
            );
        }
    }
}

/// The struct that is offered for the caller's shaders has every field where the record has it.
#[test]
fn a_shader_of_the_caller_reads_the_record() {
    const READER: &str = "
        @group(0) @binding(0) var<storage, read_write> records: array<Record>;
        @group(0) @binding(1) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(1) fn reader(@builtin(workgroup_id) id: vec3<u32>) {
            let record = records[id.x];
            let at = id.x * 6u;
            out[at] = record.status;
            out[at + 1u] = record.degenerate;
            out[at + 2u] = record.kept.x;
            out[at + 3u] = record.kept.y;
            out[at + 4u] = record.threshold;
            out[at + 5u] = u32(record.cut_span == NO_CUT);
        }";
    let weights = mixture(Kind::Bf16, 60, 131, 330);
    let asked = question(Contests::Row, false, 1.0);
    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
    assert!(want.contests.iter().any(|c| c.degenerate) && want.contests.iter().any(|c| !c.degenerate), "both kinds");
    let expected = want.contests.iter().flat_map(|c| {
        let reach = c.scores.iter().filter(|s| **s >= c.threshold).count();
        [0, c.degenerate.into(), c.kept as u32, 0, c.threshold.to_bits(), u32::from(reach == c.kept)]
    });
    let expected: Vec<u32> = expected.collect();
    for turn in turns() {
        let gpu = turn.gpu;
        let task = Task::new(gpu, std::slice::from_ref(&weights), &asked);
        let out = gpu.buffer(&vec![0xff; expected.len() * 4], BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        gpu.submit(|encoder| {
            task.job.record_mask(encoder);
            let records = part(&task.results.1, &task.records);
            let source = format!("{READER}\n{}", Record::WGSL);
            gpu.pass(encoder, &source, &[records, out.as_entire_buffer_binding()], 60);
        });
        assert!(
            gpu.read(&out) == bytemuck::cast_slice::<u32, u8>(&expected),
            "{}: the records as a shader sees them",
            gpu.name
        );
    }
}

/// Recording is only that: nothing happens on the device, and what is not submitted never happens.
/// Whatever the other tests are asked to use: subgroups, and shaders that check everything, agree with the oracle too.
#[test]
fn every_variant_checked_and_not() {
    let cases = [
        (mixture(Kind::F32, 7, 200, 2), Contests::Row),
        (mixture(Kind::F32, 2, 2100, 4), Contests::Row),
        (distribution("normal").weights(Kind::F32, 1, 40_000, 5), Contests::Tensor),
    ];
    for turn in turns() {
        let gpu = turn.gpu;
        let has = gpu.device.features().contains(wgpu::Features::SUBGROUP);
        let choices = match has {
            true => [(Variant::Subgroup, Checks::Proven), (Variant::Subgroup, Checks::All)],
            false => [(Variant::Subgroup, Checks::All), (Variant::Portable, Checks::All)],
        };
        for (variant, checks) in choices {
            let options = KernelOptions::new().with_variant(variant).with_checks(checks);
            let kernels = match Kernels::with_options(&gpu.device, options) {
                Ok(kernels) => kernels,
                Err(error) => {
                    assert!(variant == Variant::Subgroup && !has, "{}: {error}", gpu.name);
                    assert_eq!(error.kind(), ErrorKind::Limit, "{}", gpu.name);
                    assert!(error.to_string().contains("SUBGROUP"), "{}: {error}", gpu.name);
                    continue;
                }
            };
            assert_eq!(kernels.variant(), variant, "{}", gpu.name);
            let name = format!("{}, {variant:?}, {checks:?}, {EVERYTHING}", gpu.name);
            let gpu = Gpu { name, device: gpu.device.clone(), queue: gpu.queue.clone(), kernels };
            for (weights, contests) in &cases {
                let asked = question(*contests, false, 1.0);
                let weights = std::slice::from_ref(weights);
                let want = oracle::answer(weights, &asked).unwrap();
                ask_one(&gpu, weights, &asked, &want);
            }
        }
    }
}

#[test]
fn recording_does_nothing_by_itself() {
    let weights = distribution("normal").weights(Kind::F32, 3, 1001, 340);
    for turn in turns() {
        let gpu = turn.gpu;
        for contests in [Contests::Tensor, Contests::Row] {
            let task = Task::new(gpu, std::slice::from_ref(&weights), &question(contests, false, 1.0));
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            task.job.record_prune(&mut encoder);
            task.job.record_mask(&mut encoder);
            let commands = encoder.finish();
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let (weights, results) = (gpu.read(&task.weights.1), gpu.read(&task.results.1));
            assert!(weights == task.weights.0.bytes, "{}: {contests:?}: weights changed before the submit", gpu.name);
            assert!(
                results == task.results.0.bytes,
                "{}: {contests:?}: results were written before the submit",
                gpu.name
            );
            drop(commands);
        }
    }
}

/// Once bound, a job takes no more memory of the device, however often it is recorded.
#[test]
fn recording_allocates_nothing() {
    let weights = with_norms(distribution("normal").weights(Kind::Bf16, 3, 1001, 350), 350);
    for adapter in adapters() {
        // A device that no other test allocates on.
        let (name, device, queue) = open_by_default(&adapter);
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device, queue, kernels };
        let live = || {
            gpu.device
                .generate_allocator_report()
                .map(|r| (r.allocations.len(), r.total_allocated_bytes, r.total_reserved_bytes))
        };
        for contests in [Contests::Tensor, Contests::Row] {
            let task = Task::new(&gpu, std::slice::from_ref(&weights), &question(contests, true, 1.0));
            gpu.submit(|_| {});
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let before = live();
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for _ in 0..5 {
                task.job.record_prune(&mut encoder);
                task.job.record_mask(&mut encoder);
            }
            assert_eq!(live(), before, "{}: {contests:?}", gpu.name);
            drop(encoder);
        }
    }
}

/// Kernels are shared: bound, recorded and submitted from several threads at once.
#[test]
fn several_threads_use_the_same_kernels() {
    let asked = question(Contests::Row, false, 1.0);
    for turn in turns() {
        let gpu = turn.gpu;
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || {
                    let weights = distribution("normal").weights(KINDS[seed % 3], 21, 131 + seed, seed as u64);
                    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
                    let task = Task::new(gpu, std::slice::from_ref(&weights), &asked);
                    gpu.submit(|encoder| task.job.record_prune(encoder));
                    task.check(&want, true);
                });
            }
        });
    }
}

/// Compiled pipelines go to a cache of the caller's and come back from it.
#[test]
#[allow(unsafe_code, reason = "the one way to make a pipeline cache")]
fn a_pipeline_cache_of_the_caller() {
    let weights = distribution("normal").weights(Kind::F32, 3, 1001, 360);
    let asked = question(Contests::Row, false, 1.0);
    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
    for adapter in adapters().iter().filter(|a| a.features().contains(wgpu::Features::PIPELINE_CACHE)) {
        let (name, device, queue) = open(adapter, "a cache", wgpu::Features::PIPELINE_CACHE, wgpu::Limits::default());
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: None, fallback: false };
        // SAFETY: there is no data that could come from elsewhere.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        let kernels = Kernels::with_options(&device, KernelOptions::new().with_cache(cache.clone())).unwrap();
        let gpu = Gpu { name, device, queue, kernels };
        let task = Task::new(&gpu, std::slice::from_ref(&weights), &asked);
        gpu.submit(|encoder| task.job.record_prune(encoder));
        task.check(&want, true);
        assert!(cache.get_data().is_some_and(|data| !data.is_empty()), "{}: the cache has something to give", gpu.name);
    }
}

// ---- bad input

fn status(bad: Bad) -> u32 {
    match bad {
        Bad::Nan => 1,
        Bad::Infinity => 2,
        Bad::Product => 3,
    }
}

/// Weights with some entries replaced.
fn spoil(mut weights: Weights, entries: &[(usize, u32)]) -> Weights {
    let size = weights.kind.size();
    for &(at, bits) in entries {
        weights.bytes[at * size..(at + 1) * size].copy_from_slice(&bits.to_le_bytes()[..size]);
    }
    weights.label += &format!(" with {entries:x?}");
    weights
}

/// One contest that cannot be decided: its record says why, and everything else stays as it is.
#[test]
fn a_bad_entry_leaves_a_contest_alone() {
    for kind in KINDS {
        let nan = infinity(kind) | 1;
        let clean = || distribution("normal").weights(kind, 3, 7001, 400);
        let last = 3 * 7001 - 1;
        for (wanda, entries) in [
            (false, vec![(0, nan)]),
            (false, vec![(17_001, infinity(kind)), (17_002, nan)]),
            (false, vec![(last, nan | inputs::sign(kind))]),
            (true, vec![(5, nan), (9000, infinity(kind))]),
            // Not the largest weight, but the largest norm.
            (true, vec![(7002, near(kind, 3.0))]),
        ] {
            let mut bad = spoil(clean(), &entries);
            let other = distribution("normal").weights(Kind::F32, 1, 50, 401);
            let mut slices = [other.clone(), bad.clone(), spoil(other, &[(0, 0x7f80_0000)])];
            if wanda {
                bad.norms = Some((0..7001).map(|i| if i == 1 { f32::MAX } else { 1e-3 }).collect());
                bad = spoil(bad, &[(1, 0), (14_003, 0)]);
                let norms = [Some(vec![1.0; 50]), bad.norms.clone(), Some(vec![1.0; 50])];
                slices[1] = bad.clone();
                slices.iter_mut().zip(norms).for_each(|(slice, norms)| slice.norms = norms);
            }
            // Alone, and as one of several, of which a later one is bad too.
            refused(&[bad], &question(Contests::Tensor, wanda, 1.0));
            refused(&slices, &question(Contests::Global, wanda, 1.0));
        }
    }
}

fn refused(tensors: &[Weights], asked: &Question) {
    let Refusal { tensor, index, bad } = oracle::answer(tensors, asked).expect_err("a bad entry");
    for turn in turns() {
        let gpu = turn.gpu;
        for prune in [false, true] {
            let task = Task::new(gpu, tensors, asked);
            gpu.submit(|encoder| if prune { task.job.record_prune(encoder) } else { task.job.record_mask(encoder) });
            let seen = task.look();
            seen.outside.clone().unwrap_or_else(|wrong| task.fail(&wrong));
            let record = &seen.records[0];
            let got = (record.status, record.bad_slice as usize, record.bad_index as usize);
            if got != (status(bad), tensor, index) {
                task.fail(&format!(
                    "status, slice, index are {got:?}; must be those of {bad:?} at {index} of {tensor}"
                ));
            }
            for (t, weights) in tensors.iter().enumerate() {
                let mask_before = &task.results.0.bytes[task.masks[t].clone()];
                if seen.weights[t] != weights.bytes || seen.masks[t] != mask_before {
                    task.fail(&format!("weights or mask of slice {t} were written, prune {prune}"));
                }
            }
        }
    }
}

/// A bad row is left alone; all other rows are decided. A row too long for one workgroup is no exception.
#[test]
fn a_bad_row_does_not_spoil_the_others() {
    for kind in KINDS {
        let nan = infinity(kind) | 1;
        let rows = with_norms(distribution("normal").weights(kind, 37, 131, 410), 410);
        let entries = [
            (0, nan),
            (131 * 4 + 130, infinity(kind)),
            (131 * 5, nan),
            (131 * 5 + 1, infinity(kind)),
            (131 * 37 - 1, nan),
        ];
        bad_rows(&spoil(rows.clone(), &entries), false);
        bad_rows(&spoil(rows, &entries[1..3]), true);
        let mut overflow = distribution("int8_levels").weights(kind, 9, 7, 411);
        overflow.norms = Some(vec![1.0, 1.0, f32::MAX, 1.0, 1.0, 1.0, 1.0]);
        bad_rows(&overflow, true);
    }
}

#[test]
fn a_bad_long_row_does_not_spoil_the_others() {
    for kind in KINDS {
        let rows = distribution("normal").weights(kind, 3, 131_073, 412);
        bad_rows(&spoil(rows, &[(131_073 + 5, infinity(kind)), (131_073 + 70_000, infinity(kind) | 1)]), false);
    }
}

fn bad_rows(weights: &Weights, wanda: bool) {
    let (row_len, size) = (weights.row_len, weights.kind.size());
    // Each row asked for itself.
    let row = |bytes: &[u8]| Weights { bytes: bytes.to_vec(), ..weights.clone() };
    let answer = |bytes: &[u8]| oracle::answer(&[row(bytes)], &question(Contests::Tensor, wanda, 1.0));
    let want: Vec<Result<Answer, Refusal>> = weights.bytes.chunks(row_len * size).map(answer).collect();
    assert!(want.iter().any(Result::is_ok) && want.iter().any(Result::is_err), "good rows and bad ones");
    for turn in turns() {
        let gpu = turn.gpu;
        for prune in [false, true] {
            let task = Task::new(gpu, std::slice::from_ref(weights), &question(Contests::Row, wanda, 1.0));
            gpu.submit(|encoder| if prune { task.job.record_prune(encoder) } else { task.job.record_mask(encoder) });
            let seen = task.look();
            seen.outside.clone().unwrap_or_else(|wrong| task.fail(&wrong));
            let mask_before = &task.results.0.bytes[task.masks[0].clone()];
            let bit = |mask: &[u8], at: usize| mask[at / 8] >> (at % 8) & 1 == 1;
            for (r, want) in want.iter().enumerate() {
                let record = &seen.records[r];
                let entries = r * row_len..(r + 1) * row_len;
                let bytes = entries.start * size..entries.end * size;
                let mask: Vec<bool> = entries.clone().map(|at| bit(&seen.masks[0], at)).collect();
                let (before, after) = (row(&weights.bytes[bytes.clone()]), &seen.weights[0][bytes]);
                let wrong = match want {
                    Err(Refusal { index, bad, .. }) => {
                        let got = (record.status, record.bad_slice, record.bad_index as usize);
                        let alone = entries.clone().map(|at| bit(mask_before, at)).collect::<Vec<_>>() == mask;
                        if got != (status(*bad), 0, entries.start + index) {
                            Err(format!(
                                "status, slice, index are {got:?}, must be those of {bad:?} at {}",
                                entries.start + index
                            ))
                        } else if !alone || after != before.bytes {
                            Err("weights or mask of a bad row were written".to_owned())
                        } else {
                            Ok(())
                        }
                    }
                    Ok(answer) => {
                        let contest = &answer.contests[0];
                        let (got, must) = ((record.status, record.kept()), (0, contest.kept as u64));
                        if got != must {
                            Err(format!("status and kept are {got:?}, must be {must:?}"))
                        } else if mask != answer.masks[0] {
                            Err("the mask is wrong".to_owned())
                        } else if prune {
                            check_pruned(&before, &answer.masks[0], after)
                        } else if after != before.bytes {
                            Err("weights changed, and only a mask was asked for".to_owned())
                        } else {
                            Ok(())
                        }
                    }
                };
                wrong.unwrap_or_else(|wrong| task.fail(&format!("row {r}: {wrong}")));
            }
        }
    }
}

// ---- plans and their numbers

fn plan(gpu: &Gpu, slices: &[(Dtype, u64, u64)], rule: Rule) -> Result<Plan, Error> {
    // The fields are public, so anything can be in them.
    let specs: Vec<_> =
        slices.iter().map(|&(dtype, len, row_len)| TensorSpec { dtype, len, row_len, scores: None }).collect();
    gpu.kernels.plan(&specs, &rule)
}

const ROW: Rule = Rule::new().with_granularity(Granularity::Row);
const TENSOR: Rule = Rule::new();
const GLOBAL: Rule = Rule::new().with_granularity(Granularity::Global);

#[test]
fn a_plan_knows_its_sizes() {
    for turn in turns() {
        let gpu = turn.gpu;
        let rows = plan(gpu, &[(Dtype::Bf16, 301 * 27, 27)], ROW).unwrap();
        assert_eq!(
            (rows.groups(), rows.records_bytes()),
            (301, 301 * size_of::<Record>() as u64),
            "one record per row"
        );
        assert_eq!((rows.weights_bytes(0), rows.mask_bytes(0)), (Some(301 * 27 * 2 + 2), Some(254 * 4)), "whole words");
        assert_eq!((rows.weights_bytes(1), rows.mask_bytes(1)), (None, None), "past the last slice");
        let more_rows = plan(gpu, &[(Dtype::Bf16, 90_001 * 27, 27)], ROW).unwrap();
        assert_eq!(
            more_rows.dispatches(),
            rows.dispatches(),
            "rows are one sequence of dispatches, however many there are"
        );
        let global = plan(gpu, &[(Dtype::F32, 1000, 10), (Dtype::F16, 77, 7)], GLOBAL).unwrap();
        assert_eq!(
            (global.groups(), global.weights_bytes(1), global.mask_bytes(1)),
            (1, Some(156), Some(12)),
            "two slices"
        );
        for (dtype, bytes) in [(Dtype::F32, 4 << 20), (Dtype::F16, 2 << 20), (Dtype::Bf16, 2 << 20)] {
            let mask = 1 << 17;
            let whole = plan(gpu, &[(dtype, 1 << 20, 1 << 20)], TENSOR).unwrap();
            assert_eq!(whole.bytes_moved(), (2 * bytes, bytes + mask), "{dtype}: two reads and one write");
            let rows = plan(gpu, &[(dtype, 1 << 20, 1 << 10)], ROW).unwrap();
            assert_eq!(rows.bytes_moved(), (bytes, bytes + mask), "{dtype}: one read and one write");
        }
    }
}

/// A model in slices that a binding holds is one contest, however many they are.
#[test]
fn a_contest_larger_than_any_binding_is_planned() {
    for turn in turns() {
        let gpu = turn.gpu;
        let binding = gpu.device.limits().max_storage_buffer_binding_size.min(1 << 30);
        let slice = |dtype: Dtype| (dtype, binding / dtype.size() as u64, 1024);
        // Half a billion entries of f32, and seven billion of bf16.
        for (dtype, entries) in [(Dtype::F32, 500_000_000), (Dtype::Bf16, 7_000_000_000)] {
            let slices = vec![slice(dtype); (entries / slice(dtype).1) as usize];
            let planned = plan(gpu, &slices, GLOBAL);
            assert!(planned.is_ok(), "{}: {} slices of {dtype}: {planned:?}", gpu.name, slices.len());
        }
    }
}

#[test]
fn plans_that_cannot_be_meant_are_refused() {
    use ErrorKind::{InvalidInput, Limit};
    let one = (Dtype::F32, 64, 8);
    let wanda = TENSOR.with_score(Score::Wanda);
    for turn in turns() {
        let gpu = turn.gpu;
        let refuse =
            |what: &str, slices: &[(Dtype, u64, u64)], rule: Rule, kind: ErrorKind, tensor: Option<usize>| match plan(
                gpu, slices, rule,
            ) {
                Ok(plan) => panic!("{}: {what} is planned: {plan:?}", gpu.name),
                Err(error) => {
                    assert_eq!((error.kind(), error.tensor()), (kind, tensor), "{}: {what}: {error:?}", gpu.name)
                }
            };
        refuse("nothing", &[], TENSOR, InvalidInput, None);
        refuse("nothing at all", &[], GLOBAL, InvalidInput, None);
        refuse("two slices, each a contest", &[one, one], TENSOR, InvalidInput, None);
        refuse("two slices of rows", &[one, one], ROW, InvalidInput, None);
        refuse("an empty slice", &[(Dtype::F32, 0, 8)], TENSOR, InvalidInput, Some(0));
        refuse("an empty slice behind another", &[one, (Dtype::F16, 0, 1)], GLOBAL, InvalidInput, Some(1));
        refuse("rows of nothing", &[(Dtype::F32, 8, 0)], ROW, InvalidInput, Some(0));
        refuse("a row and a half", &[one, (Dtype::F32, 12, 8)], GLOBAL, InvalidInput, Some(1));
        refuse("2^30 entries", &[(Dtype::Bf16, 1 << 30, 1 << 30)], TENSOR, Limit, Some(0));
        refuse("all entries there can be", &[(Dtype::F32, u64::MAX, 1)], ROW, Limit, Some(0));
        let binding = gpu.device.limits().max_storage_buffer_binding_size;
        let fits = (binding / 4).min((1 << 30) - 1);
        let whole = |len: u64| [(Dtype::F32, len, len)];
        assert!(plan(gpu, &whole(fits), TENSOR).is_ok(), "{}: a slice that fills a binding", gpu.name);
        refuse("a slice larger than a binding", &whole(fits + 1), TENSOR, Limit, None);
        refuse("records larger than a binding", &[(Dtype::Bf16, binding / 4, 1)], ROW, Limit, None);
        // 16-bit weights fit where the norms, one f32 per column, do not.
        let columns = binding / 4 + 1;
        refuse("norms larger than a binding", &[(Dtype::Bf16, columns, columns)], wanda, Limit, None);
    }
}

/// A device that lacks what WebGPU promises: an error by name, and no error of wgpu's, which would panic.
#[test]
fn a_lesser_device_is_refused_by_name() {
    for adapter in adapters() {
        let lesser = wgpu::Limits::downlevel_defaults();
        let (name, device, queue) = open(&adapter, "downlevel limits", wgpu::Features::empty(), lesser);
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device: device.clone(), queue, kernels };
        let refused = plan(&gpu, &[(Dtype::F32, 64, 8)], ROW).map(drop);
        let raised = pollster::block_on(scope.pop());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Limit, "{}", gpu.name);
        assert!(raised.is_none(), "{}: making kernels raised {}", gpu.name, raised.unwrap());
    }
}

#[test]
fn required_limits_open_a_device_that_binds_all_there_is() {
    let weights = distribution("normal").weights(Kind::F16, 3, 1001, 420);
    let asked = question(Contests::Tensor, false, 1.0);
    for adapter in adapters() {
        let limits = required_limits(&adapter.limits());
        let (name, device, queue) = open(&adapter, "required_limits", wgpu::Features::empty(), limits);
        assert_eq!(
            device.limits().max_storage_buffer_binding_size,
            adapter.limits().max_storage_buffer_binding_size,
            "{name}: a binding as large as there is"
        );
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device, queue, kernels };
        let task = Task::new(&gpu, std::slice::from_ref(&weights), &asked);
        gpu.submit(|encoder| task.job.record_prune(encoder));
        task.check(&oracle::answer(std::slice::from_ref(&weights), &asked).unwrap(), true);
    }
}

// ---- buffers that do not fit

/// Buffers for one slice of 33 bf16 in rows of 11, each alone, so that one at a time can be wrong.
struct Loose {
    weights: wgpu::Buffer,
    norms: wgpu::Buffer,
    mask: wgpu::Buffer,
    records: wgpu::Buffer,
    workspace: wgpu::Buffer,
}

#[derive(Clone)]
struct Bound<'a> {
    slices: Vec<SliceBuffers<'a>>,
    records: wgpu::BufferBinding<'a>,
    workspace: wgpu::BufferBinding<'a>,
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let shape = [(Dtype::Bf16, 33, 11)];
    for turn in turns() {
        let gpu = turn.gpu;
        let storage = |bytes: u64| gpu.buffer(&vec![0; 512 + bytes as usize], BufferUsages::STORAGE);
        let with_norms = plan(gpu, &shape, ROW.with_score(Score::Wanda)).unwrap();
        let without = plan(gpu, &shape, ROW).unwrap();
        let own = Loose {
            weights: storage(68),
            norms: storage(44),
            mask: storage(8),
            records: storage(with_norms.records_bytes()),
            workspace: storage(with_norms.workspace_bytes()),
        };
        let exactly =
            |buffer, bytes: u64| wgpu::BufferBinding { buffer, offset: 256, size: wgpu::BufferSize::new(bytes) };
        let right = Bound {
            slices: vec![SliceBuffers {
                weights: exactly(&own.weights, 68),
                norms: Some(exactly(&own.norms, 44)),
                mask: exactly(&own.mask, 8),
            }],
            records: exactly(&own.records, with_norms.records_bytes()),
            workspace: exactly(&own.workspace, with_norms.workspace_bytes()),
        };
        let bind = |plan: &Plan, bound: &Bound<'_>| {
            let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let buffers =
                Buffers { slices: &bound.slices, records: bound.records.clone(), workspace: bound.workspace.clone() };
            let job = gpu.kernels.bind(plan, &buffers).map(drop);
            let raised = pollster::block_on(scope.pop());
            assert!(raised.is_none(), "{}: binding raised {}, and returned {job:?}", gpu.name, raised.unwrap());
            job
        };
        bind(&with_norms, &right).unwrap();
        let refuse = |what: &str, plan: &Plan, tensor: Option<usize>, spoil: &dyn Fn(&mut Bound<'_>)| {
            let mut bound = right.clone();
            spoil(&mut bound);
            let error = bind(plan, &bound).expect_err(what);
            assert_eq!(
                (error.kind(), error.tensor()),
                (ErrorKind::InvalidInput, tensor),
                "{}: {what}: {error:?}",
                gpu.name
            );
        };
        refuse("no slice", &with_norms, None, &|b| b.slices.clear());
        refuse("a slice too many", &with_norms, None, &|b| b.slices.push(b.slices[0].clone()));
        refuse("no norms", &with_norms, Some(0), &|b| b.slices[0].norms = None);
        refuse("norms for nothing", &without, Some(0), &|_| {});
        type Pick = for<'b, 'a> fn(&'b mut Bound<'a>) -> &'b mut wgpu::BufferBinding<'a>;
        let fields: [(&str, Option<usize>, Pick); 5] = [
            ("weights", Some(0), |b| &mut b.slices[0].weights),
            ("norms", Some(0), |b| b.slices[0].norms.as_mut().unwrap()),
            ("mask", Some(0), |b| &mut b.slices[0].mask),
            ("records", None, |b| &mut b.records),
            ("workspace", None, |b| &mut b.workspace),
        ];
        let unusable = gpu.buffer(&vec![0; 1 << 20], BufferUsages::COPY_SRC);
        for (what, tensor, pick) in fields {
            refuse(&format!("{what} a word too small"), &with_norms, tensor, &|b| {
                let field = pick(b);
                field.size = wgpu::BufferSize::new(field.size.unwrap().get() - 4);
            });
            refuse(&format!("{what} that end before they do"), &with_norms, tensor, &|b| pick(b).offset = 768);
            refuse(&format!("{what} that are too little a rest"), &with_norms, tensor, &|b| {
                let field = pick(b);
                *field = wgpu::BufferBinding { buffer: field.buffer, offset: 768, size: None };
            });
            refuse(&format!("{what} behind the end"), &with_norms, tensor, &|b| pick(b).offset = 1 << 40);
            refuse(&format!("{what} between two places"), &with_norms, tensor, &|b| pick(b).offset = 252);
            refuse(&format!("{what} without a usage"), &with_norms, tensor, &|b| {
                let field = pick(b);
                // The buffer outlives the loop; the field's lifetime is the shorter one.
                *field = wgpu::BufferBinding { buffer: leak(&unusable), offset: 0, size: None };
            });
        }
        // The workspace is cleared by a copy.
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: 1 << 20,
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        };
        let no_copies = gpu.device.create_buffer(&descriptor);
        refuse("a workspace without COPY_DST", &with_norms, None, &|b| {
            b.workspace = leak(&no_copies).as_entire_buffer_binding();
        });
    }
}

/// One handle for the rest of the process: `Bound` cannot name the lifetime of a buffer that comes later.
fn leak(buffer: &wgpu::Buffer) -> &'static wgpu::Buffer {
    Box::leak(Box::new(buffer.clone()))
}

/// Everything in one buffer: either it works, or `bind` says that it does not. An error of wgpu's at the submit is too late.
/// What is written has bytes of its own.
#[test]
fn overlapping_buffers_are_refused() {
    for turn in turns() {
        let gpu = turn.gpu;
        let rule = common::rule(&question(Contests::Row, false, 1.0));
        let plan = gpu.kernels.plan(&[TensorSpec::new(Dtype::F32, 3000, 1000).unwrap()], &rule).unwrap();
        let weights = gpu.buffer(&[0; 12_000], BufferUsages::STORAGE);
        let shared = gpu.buffer(&[0; 1 << 16], BufferUsages::STORAGE);
        let at = |offset| wgpu::BufferBinding { buffer: &shared, offset, size: None };
        let bind = |mask, records, workspace| {
            let slices = [SliceBuffers { weights: weights.as_entire_buffer_binding(), norms: None, mask: at(mask) }];
            gpu.kernels.bind(&plan, &Buffers { slices: &slices, records: at(records), workspace: at(workspace) })
        };
        bind(0, 1024, 4096).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
        for (mask, records, workspace) in [(0, 256, 4096), (1024, 1024, 4096), (0, 1024, 1024), (4096, 1024, 4352)] {
            let error = bind(mask, records, workspace).expect_err("bytes are shared");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", gpu.name);
            assert!(error.to_string().contains("overlaps"), "{}: {error}", gpu.name);
        }
    }
}

#[test]
fn one_buffer_for_everything() {
    let weights = with_norms(distribution("normal").weights(Kind::F16, 9, 131, 430), 430);
    for (wanda, contests) in
        [(false, Contests::Tensor), (true, Contests::Tensor), (false, Contests::Row), (true, Contests::Row)]
    {
        let asked = question(contests, wanda, 1.0);
        let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
        for turn in turns() {
            let gpu = turn.gpu;
            let plan = gpu.kernels.plan(&[spec(&weights)], &common::rule(&asked)).unwrap();
            let mut arena = Arena::new(gpu.align());
            let place = arena.place(&weights.bytes);
            let norms = arena.place(bytemuck::cast_slice(weights.norms.as_ref().unwrap()));
            let sizes = [plan.mask_bytes(0).unwrap(), plan.records_bytes(), plan.workspace_bytes()];
            let [mask, records, workspace] = sizes.map(|bytes| arena.lend(bytes as usize));
            let buffer = gpu.buffer(&arena.bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let slices = [SliceBuffers {
                weights: part(&buffer, &place),
                norms: wanda.then(|| part(&buffer, &norms)),
                mask: part(&buffer, &mask),
            }];
            let buffers =
                Buffers { slices: &slices, records: part(&buffer, &records), workspace: part(&buffer, &workspace) };
            match gpu.kernels.bind(&plan, &buffers) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error:?}", gpu.name),
                Ok(job) => {
                    gpu.submit(|encoder| job.record_prune(encoder));
                    let now = gpu.read(&buffer);
                    arena.check("only buffer", &now).unwrap();
                    check_mask(&want.masks[0], &now[mask][..weights.len().div_ceil(8)]).unwrap();
                    check_pruned(&weights, &want.masks[0], &now[place]).unwrap();
                }
            }
        }
    }
}
