//! `emprune bench`: how fast this machine prunes, against a copy of the same bytes. Answers are checked before they are timed.

mod args;
#[cfg(feature = "gpu")]
mod device;
mod host;
mod inputs;
mod report;
#[cfg(feature = "gpu")]
mod tune;

use crate::events;
use crate::report::write_json;
use anyhow::{Result, ensure};
pub(crate) use args::BenchArgs;
use args::{BenchBackend, BenchGranularity, DtypeName, Task};
use emprune::{Backend, Decision, Mask, Pruner, Rule, Tensor, TensorMut};
use half::{bf16, f16};
use host::Peer;
use indicatif::{ProgressBar, ProgressStyle};
use inputs::{Entry, InputKind};
use report::{Adapter, Case, Line, Report, Skipped, median};
#[cfg(feature = "gpu")]
use std::collections::BTreeSet;
use std::time::Instant;

/// A backend on a device, and the device again, to record jobs of our own on.
struct Gpu {
    pruner: Pruner,
    adapter: Adapter,
    #[cfg(feature = "gpu")]
    device: device::Device,
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    args.check()?;
    if cfg!(debug_assertions) {
        events::note("this program was not optimised when it was built; its times say little");
    }
    let cpu = Pruner::cpu();
    let (threads, simd) = match *cpu.backend() {
        Backend::Cpu { threads, simd } => (threads, simd),
        _ => (0, ""),
    };
    let gpus = gpus(args)?;
    ensure!(
        !(args.device_only && gpus.is_empty()),
        "nothing is timed: there is no hardware adapter; --backend gpu takes a software one"
    );
    let report = Report {
        schema: report::SCHEMA,
        emprune_version: env!("CARGO_PKG_VERSION"),
        threads,
        simd,
        adapters: gpus.iter().map(|gpu| gpu.adapter.clone()).collect(),
        results: Vec::new(),
        crossovers: Vec::new(),
        plans: Vec::new(),
        skipped: Vec::new(),
    };
    let mut bench = Bench { args, cpu, gpus, report };
    #[cfg(feature = "gpu")]
    if args.tune {
        return crate::print(bench.tune()?.as_bytes());
    }
    bench.all()?;
    bench.report.crossovers = report::crossovers(&bench.report.results);
    let mut text = Vec::new();
    if args.json {
        write_json(&mut text, &bench.report)?;
    } else {
        text = bench.report.render().into_bytes();
    }
    crate::print(&text)
}

struct Bench<'a> {
    args: &'a BenchArgs,
    cpu: Pruner,
    gpus: Vec<Gpu>,
    report: Report,
}

/// One question, and the processor's answer, which was checked.
struct Answered<'a, T> {
    case: Case,
    rule: Rule,
    before: &'a [T],
    after: Vec<T>,
    decision: Decision,
    mask: Mask,
}

/// Who takes part in the turns on the host.
enum Way<'a> {
    Emprune(&'a Pruner, String),
    Peer(Peer),
}

impl Bench<'_> {
    fn all(&mut self) -> Result<()> {
        let args = self.args;
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} done, {elapsed}");
        let bar = ProgressBar::new((args.input.len() * args.dtype.len() * args.sizes.len()) as u64);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        for &input in &args.input {
            for &dtype in &args.dtype {
                for &entries in &args.sizes {
                    bar.set_message(format!("{entries} {} {}", input.name(), dtype.name()));
                    match dtype {
                        DtypeName::F32 => self.one_size::<f32>(input, dtype, entries)?,
                        DtypeName::F16 => self.one_size::<f16>(input, dtype, entries)?,
                        DtypeName::Bf16 => self.one_size::<bf16>(input, dtype, entries)?,
                    }
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn one_size<T: Entry>(&mut self, input: InputKind, dtype: DtypeName, entries: u64) -> Result<()> {
        let args = self.args;
        // The weights before, in between and after, a copy of their keys, and what a software adapter holds.
        let copies = if self.report.adapters.iter().any(|adapter| adapter.software) { 6 } else { 3 };
        let needed = entries * (copies * dtype.size() + 4);
        let mut pristine = None;
        for &granularity in &args.granularity {
            for &task in &args.task {
                let (has_rows, rows) = (granularity != BenchGranularity::Tensor, granularity.rows());
                let step = if has_rows { rows * args.row_len() } else { 1 };
                let case = Case {
                    task: if task == Task::Mask { "mask" } else { "prune" },
                    input: input.name(),
                    dtype: dtype.name(),
                    granularity: granularity.name(),
                    entries: entries / step * step,
                    row_len: if has_rows { args.row_len() } else { entries },
                };
                if case.entries == 0 {
                    let few = if rows == 1 { "a row".to_owned() } else { format!("{rows} rows") };
                    self.skip(&case, "all", format!("{entries} entries are less than {few} of {}", args.row_len()));
                } else if !args.row_len().is_multiple_of(rows) {
                    self.skip(&case, "all", format!("rows of {} are no whole number of blocks", args.row_len()));
                } else if args.plan {
                    // A mask moves no more than pruning does, and the library counts the latter.
                    if task == Task::Prune {
                        self.plan(&case, T::DTYPE);
                    }
                } else if needed > args.memory {
                    let [needed, allowed] = [needed, args.memory].map(|bytes| bytes.div_ceil(1 << 20));
                    self.skip(&case, "all", format!("it takes {needed} MiB, --memory allows {allowed} MiB"));
                } else {
                    let pristine =
                        pristine.get_or_insert_with(|| inputs::generate::<T>(input, entries as usize)).as_slice();
                    self.one_case(case, pristine)?;
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, case: &Case, backend: &str, reason: String) {
        self.report.skipped.push(Skipped { case: case.clone(), backend: backend.to_owned(), reason });
    }

    fn one_case<T: Entry>(&mut self, case: Case, pristine: &[T]) -> Result<()> {
        let before = &pristine[..case.entries as usize];
        let rule = case.rule();
        let mut work = before.to_vec();
        let decision = prune(&self.cpu, &mut work, &case, &rule)?;
        host::check(&case.by_contest(before), &case.by_contest(&work), case.contest_len(), decision.groups())?;
        let (again, mask) = make_mask(&self.cpu, before, &case, &rule)?;
        ensure!(again == decision, "wrong answer: making a mask decides otherwise than pruning");
        host::check_mask(before, &work, &mask, decision.kept())?;
        let answered = Answered { case, rule, before, after: work.clone(), decision, mask };
        if !self.args.device_only {
            self.turns(&answered, &mut work)?;
        }
        drop(work);
        #[cfg(feature = "gpu")]
        self.devices(&answered)?;
        Ok(())
    }

    /// Everything that starts and ends in host memory, in turns.
    fn turns<T: Entry>(&mut self, answered: &Answered<'_, T>, work: &mut [T]) -> Result<()> {
        let Answered { case, rule, before, after, decision, mask } = answered;
        let mut ways: Vec<Way<'_>> = Vec::new();
        if self.args.backend != BenchBackend::Gpu {
            ways.push(Way::Emprune(&self.cpu, "cpu".into()));
        }
        ways.extend(self.gpus.iter().map(|gpu| Way::Emprune(&gpu.pruner, gpu.adapter.backend.clone())));
        // They know of runs alone.
        if self.args.peers && case.task == "prune" && matches!(case.granularity, "tensor" | "row") {
            ways.extend(Peer::ALL.map(Way::Peer));
        }
        let row_len = case.row_len as usize;
        // Once unmeasured, and checked.
        for way in &ways {
            work.copy_from_slice(before);
            match way {
                Way::Emprune(pruner, name) if case.task == "mask" => {
                    let same = make_mask(pruner, work, case, rule)? == (decision.clone(), mask.clone());
                    ensure!(same, "wrong answer: {name} makes another mask");
                }
                Way::Emprune(pruner, name) => {
                    let same = prune(pruner, work, case, rule)? == *decision;
                    let same_bits = bytemuck::cast_slice::<T, u8>(work) == bytemuck::cast_slice::<T, u8>(after);
                    ensure!(same && same_bits, "wrong answer: {name} prunes otherwise");
                }
                Way::Peer(peer) => {
                    peer.prune(work, row_len);
                    host::check_peer(before, work, row_len, decision.groups())?;
                }
            }
        }
        let mut copies = Vec::new();
        let mut times = vec![Vec::new(); ways.len()];
        let start = Instant::now();
        while self.goes_on(times.first().map_or(0, Vec::len), start, ways.len()) && !ways.is_empty() {
            for (way, times) in ways.iter().zip(&mut times) {
                // What restores the weights is also what they are compared with.
                copies.push(host::seconds(|| host::copy(work, before)).0);
                let (seconds, outcome) = match way {
                    Way::Emprune(pruner, _) if case.task == "mask" => {
                        host::seconds(|| make_mask(pruner, work, case, rule).map(drop))
                    }
                    Way::Emprune(pruner, _) => host::seconds(|| prune(pruner, work, case, rule).map(drop)),
                    Way::Peer(peer) => host::seconds(|| {
                        peer.prune(work, row_len);
                        Ok(())
                    }),
                };
                outcome?;
                times.push(seconds);
            }
        }
        for (way, times) in ways.iter().zip(&times) {
            let (backend, name) = match way {
                Way::Emprune(_, backend) => (backend.clone(), "host"),
                Way::Peer(peer) => ("cpu".to_owned(), peer.name()),
            };
            self.report.results.push(line(case, backend, name, decision.kept(), times, &copies));
        }
        Ok(())
    }

    /// Whether there is time for another round of turns, of which `runs` were made.
    fn goes_on(&self, runs: usize, start: Instant, ways: usize) -> bool {
        match self.args.repeats {
            Some(repeats) => runs < repeats as usize,
            None => runs < 3 || start.elapsed().as_secs_f64() < self.args.seconds * ways as f64,
        }
    }
}

#[cfg(feature = "gpu")]
impl Bench<'_> {
    fn spec(case: &Case, dtype: emprune::Dtype) -> Result<emprune::TensorSpec> {
        Ok(emprune::TensorSpec::new(dtype, case.entries, case.row_len)?)
    }

    /// What every device's plans say.
    fn plan(&mut self, case: &Case, dtype: emprune::Dtype) {
        for gpu in &self.gpus {
            let plans = Self::spec(case, dtype).and_then(|spec| gpu.device.plans(spec, case.rule()));
            let (case, backend) = (case.clone(), gpu.adapter.backend.clone());
            let plans = match plans {
                Ok(plans) => plans,
                Err(e) => {
                    self.report.skipped.push(Skipped { case, backend, reason: format!("{e:#}") });
                    continue;
                }
            };
            let moved = plans.iter().map(|(plan, _)| plan.bytes_moved());
            let (read_bytes, written_bytes) = moved.fold((0, 0), |sum, moved| (sum.0 + moved.0, sum.1 + moved.1));
            self.report.plans.push(report::Predicted {
                backend,
                read_bytes,
                written_bytes,
                workspace_bytes: plans.iter().map(|(plan, _)| plan.workspace_bytes()).max().unwrap_or_default(),
                dispatches: plans.iter().map(|(plan, _)| plan.dispatches()).sum(),
                memcpy_ratio: (read_bytes + written_bytes) as f64 / (2 * case.bytes()) as f64,
                floor_ratio: case.floor_ratio(),
                case,
            });
        }
    }

    /// The job alone, on every device. One that cannot take the weights is skipped; one that takes them must be right.
    fn devices<T: Entry>(&mut self, answered: &Answered<'_, T>) -> Result<()> {
        let mut lines = Vec::new();
        let mut skipped = Vec::new();
        for gpu in &self.gpus {
            let backend = &gpu.adapter.backend;
            let mut time = |device: &device::Device, way, answered: &Answered<'_, T>| -> Result<()> {
                match self.job(device, gpu, way, answered)? {
                    Ok(line) => lines.push(line),
                    Err(reason) => skipped.push((backend.clone(), reason)),
                }
                Ok(())
            };
            time(&gpu.device, "device", answered)?;
            if self.args.without_sums {
                // As many as the first contest keeps: of a tensor, the same weights.
                let count = answered.decision.groups().first().map_or(1, |group| group.kept);
                let counted = self.counted(answered, count)?;
                time(&gpu.device.without_sums(count)?, "device without sums", &counted)?;
            }
        }
        self.report.results.extend(lines);
        skipped.into_iter().for_each(|(backend, reason)| self.skip(&answered.case, &backend, reason));
        Ok(())
    }

    /// The same question with a fixed count.
    fn counted<'a, T: Entry>(&self, answered: &Answered<'a, T>, count: u64) -> Result<Answered<'a, T>> {
        let Answered { case, rule, before, .. } = answered;
        let rule = rule.with_budget(emprune::Budget::Count(count));
        let mut after = before.to_vec();
        let decision = prune(&self.cpu, &mut after, case, &rule)?;
        let (_, mask) = make_mask(&self.cpu, before, case, &rule)?;
        Ok(Answered { case: case.clone(), rule, before, after, decision, mask })
    }

    /// A job, checked and timed; or why the device cannot take it.
    fn job<T: Entry>(
        &self,
        device: &device::Device,
        gpu: &Gpu,
        way: &'static str,
        answered: &Answered<'_, T>,
    ) -> Result<Result<Line, String>> {
        let Answered { case, before, after, decision, mask, .. } = answered;
        let spec = Self::spec(case, T::DTYPE)?;
        let mut resident = match device::Resident::new(device, spec, case.rule(), case.task == "prune") {
            Ok(resident) => resident,
            Err(e) => return Ok(Err(format!("{e:#}"))),
        };
        let bytes = bytemuck::cast_slice(before);
        let mut uploads = vec![resident.upload(bytes)?];
        resident.check(bytemuck::cast_slice(after), mask, decision)?;
        resident.calibrate()?;
        let (mut times, mut copies, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let (start, mut rounds) = (Instant::now(), 0);
        while self.goes_on(rounds, start, 1) {
            for lap in resident.laps()? {
                times.push(lap.prune);
                copies.push(lap.copy);
            }
            // The way there and back need not be known as well as the way itself.
            if rounds < 3 {
                uploads.push(resident.upload(bytes)?);
                reads.push(resident.read_back()?.0);
            }
            rounds += 1;
        }
        Ok(Ok(Line {
            clock: resident.clock().name(),
            memcpy_by: resident.copied_by().name(),
            driver_copy_seconds: Some(resident.driver_copy()),
            variant: Some(gpu.adapter.variant),
            upload_seconds: Some(median(&uploads)),
            readback_seconds: Some(median(&reads)),
            ..line(case, gpu.adapter.backend.clone(), way, decision.kept(), &times, &copies)
        }))
    }
}

#[cfg(not(feature = "gpu"))]
impl Bench<'_> {
    fn plan(&mut self, _case: &Case, _dtype: emprune::Dtype) {}
}

fn line(case: &Case, backend: String, way: &'static str, kept: u64, times: &[f64], copies: &[f64]) -> Line {
    let (seconds, memcpy_seconds) = (median(times), median(copies));
    Line {
        case: case.clone(),
        backend,
        way,
        kept,
        seconds,
        fastest: times.iter().copied().fold(f64::INFINITY, f64::min),
        slowest: times.iter().copied().fold(0.0, f64::max),
        runs: times.len(),
        floor_bytes: case.floor_bytes(),
        gigabytes_per_second: 1e-9 * case.floor_bytes() as f64 / seconds,
        memcpy_seconds,
        memcpy_ratio: seconds / memcpy_seconds,
        memcpy_by: "host",
        driver_copy_seconds: None,
        floor_ratio: case.floor_ratio(),
        clock: "host",
        variant: None,
        upload_seconds: None,
        readback_seconds: None,
    }
}

fn prune<T: Entry>(pruner: &Pruner, weights: &mut [T], case: &Case, rule: &Rule) -> Result<Decision> {
    Ok(pruner.prune(&mut [TensorMut::from(weights).with_row_len(case.row_len)?], rule)?)
}

fn make_mask<T: Entry>(pruner: &Pruner, weights: &[T], case: &Case, rule: &Rule) -> Result<(Decision, Mask)> {
    let (decision, mut masks) = pruner.mask(&[Tensor::from(weights).with_row_len(case.row_len)?], rule)?;
    Ok((decision, masks.pop().unwrap_or_default()))
}

/// The devices that take part.
#[cfg(feature = "gpu")]
fn gpus(args: &BenchArgs) -> Result<Vec<Gpu>> {
    use emprune::gpu::{self, Options};

    let open = |options: &Options| -> Result<Gpu> {
        let pruner = Pruner::gpu(options)?;
        let Backend::Gpu(adapter) = pruner.backend().clone() else { anyhow::bail!("{} is no GPU", pruner.backend()) };
        if adapter.software {
            events::note(&format!("{adapter} is a software adapter: the processor does the work of a GPU"));
        }
        let gpu::Adapter { name, driver, backend: interface, software, variant, .. } = adapter.clone();
        Ok(Gpu {
            device: device::Device::open(&adapter)?,
            adapter: Adapter { backend: adapter.to_string(), name, driver, interface, software, variant },
            pruner,
        })
    };
    let any = Options::new().with_variant(args.gpu_variant.into());
    let options = match &args.adapter {
        Some(part) => any.clone().with_adapter(part),
        None => any.clone(),
    };
    match (args.backend, &args.adapter) {
        (BenchBackend::Cpu, _) => Ok(Vec::new()),
        (BenchBackend::Auto, None) if !args.plan => {
            if !gpu::adapters().iter().any(|adapter| !adapter.software) {
                events::note("there is no hardware adapter; --backend all times software ones too");
                return Ok(Vec::new());
            }
            Ok(vec![open(&options)?])
        }
        (BenchBackend::Auto | BenchBackend::Gpu, _) => Ok(vec![open(&options.with_software(true))?]),
        (BenchBackend::All, part) => {
            let part = part.as_deref().unwrap_or_default().to_lowercase();
            let texts = |a: &gpu::Adapter| format!("{a} {}", a.driver).to_lowercase();
            let mut adapters: Vec<_> = gpu::adapters().into_iter().filter(|a| texts(a).contains(&part)).collect();
            // Opened by what it is called, one of several equal cards would be the first each time.
            let all = adapters.len();
            let mut seen = BTreeSet::new();
            adapters.retain(|a| seen.insert(texts(a)));
            if adapters.len() < all {
                events::note("of several equal adapters one is timed");
            }
            ensure!(part.is_empty() || !adapters.is_empty(), "no adapter has {part:?} in its name, driver or backend");
            adapters.iter().map(|a| open(&any.clone().with_adapter(a.to_string()).with_software(true))).collect()
        }
    }
}

#[cfg(not(feature = "gpu"))]
fn gpus(args: &BenchArgs) -> Result<Vec<Gpu>> {
    let wanted = args.backend == BenchBackend::Gpu || args.adapter.is_some() || args.plan;
    ensure!(!wanted, "no adapter: this program was built without GPU support");
    Ok(Vec::new())
}
