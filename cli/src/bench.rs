//! `emprune bench`: how fast this machine prunes, against a copy of the same bytes. Answers are checked before they are timed.

#[cfg(feature = "gpu")]
mod device;
mod host;
mod inputs;
mod report;

use crate::Usage;
use crate::args::memory;
use crate::report::write_json;
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use emprune::{Backend, Decision, Granularity, Mask, Pruner, Rule, Tensor, TensorMut};
use half::{bf16, f16};
use host::Peer;
use indicatif::{ProgressBar, ProgressStyle};
use inputs::{Entry, InputKind};
use report::{Adapter, Case, Line, Report, Skipped, median};
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Numbers of entries: 1000000, 1e6, 10M (K, M, G are powers of 1000) or 2^24
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1e5,1e6,1e7", value_parser = size)]
    sizes: Vec<u64>,

    /// How the weights are stored
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "f32,bf16")]
    dtype: Vec<DtypeName>,

    /// Which weights compete: all, or those of a row
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "tensor,row")]
    granularity: Vec<BenchGranularity>,

    /// Entries of a row; sizes are rounded down to whole rows
    #[arg(long, value_name = "N", default_value = "4096", value_parser = size)]
    row_len: u64,

    /// What the weights are like
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "normal")]
    input: Vec<InputKind>,

    /// Zero the weights in place, or make a mask
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "prune")]
    task: Vec<Task>,

    /// Who is timed
    #[arg(long, value_enum, default_value = "auto")]
    backend: BenchBackend,

    /// Take only adapters with this in their name, driver or backend; case does not count
    #[arg(long, value_name = "SUBSTRING")]
    adapter: Option<String>,

    /// Time the obvious ways too: sums in f64, then select_nth_unstable or a sort, on one thread
    #[arg(long)]
    peers: bool,

    /// Print what a GPU's jobs should read, write and dispatch, and time nothing
    #[arg(long, conflicts_with = "peers")]
    plan: bool,

    /// Seconds to spend on a line; at least three runs are made
    #[arg(long, value_name = "S", default_value = "0.3", value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,

    /// Make so many runs, however long they take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeats: Option<u32>,

    /// The most host memory to take, as KiB, MiB or GiB; what needs more is skipped
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = memory)]
    memory: u64,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DtypeName {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BenchGranularity {
    /// One contest
    Tensor,
    /// A contest for each row
    Row,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// Zero the losers where they are
    Prune,
    /// One bit per weight
    Mask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BenchBackend {
    /// The CPU, and a hardware adapter if there is one
    Auto,
    /// The CPU
    Cpu,
    /// A GPU, or a software adapter where there is none
    Gpu,
    /// The CPU and every adapter
    All,
}

impl DtypeName {
    fn name(self) -> &'static str {
        match self {
            DtypeName::F32 => "f32",
            DtypeName::F16 => "f16",
            DtypeName::Bf16 => "bf16",
        }
    }

    fn size(self) -> u64 {
        if self == DtypeName::F32 { 4 } else { 2 }
    }
}

const MOST_ENTRIES: u64 = 1 << 40;

/// A number of entries.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim().replace('_', "");
    let units = [("K", 1e3), ("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let number = if let Some((base, power)) = digits.split_once('^') {
        base.parse::<u64>().ok().zip(power.parse().ok()).and_then(|(base, power)| base.checked_pow(power))
    } else {
        let with_unit = units.iter().find_map(|(unit, factor)| Some((digits.strip_suffix(unit)?, *factor)));
        let (number, factor) = with_unit.unwrap_or((&digits, 1.0));
        // Whole numbers below 2^53 are exact; larger ones are refused below.
        let number = number.parse().ok().map(|number: f64| number * factor);
        number.filter(|number| number.fract() == 0.0 && *number >= 0.0).map(|number| number as u64)
    };
    match number {
        Some(number @ 1..=MOST_ENTRIES) => Ok(number),
        Some(number) => Err(format!("{number} entries are not between 1 and 2^40")),
        None => Err("a size is a whole number, such as 1000000, 1e6, 10M or 2^24".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a time is a number of seconds between 0 and 3600".into())
}

/// A backend on a device, and the device again, to record jobs of our own on.
struct Gpu {
    pruner: Pruner,
    adapter: Adapter,
    #[cfg(feature = "gpu")]
    device: device::Device,
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    if args.backend == BenchBackend::Cpu && (args.adapter.is_some() || args.plan) {
        let option = if args.plan { "--plan" } else { "--adapter" };
        return Err(Usage(format!("{option} is not for --backend cpu")).into());
    }
    if cfg!(debug_assertions) {
        eprintln!("note: this program was not optimised when it was built; its times say little");
    }
    let cpu = Pruner::cpu();
    let (threads, simd) = match *cpu.backend() {
        Backend::Cpu { threads, simd } => (threads, simd),
        _ => (0, ""),
    };
    let gpus = gpus(args)?;
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
                let is_row = granularity == BenchGranularity::Row;
                let case = Case {
                    task: if task == Task::Mask { "mask" } else { "prune" },
                    input: input.name(),
                    dtype: dtype.name(),
                    granularity: if is_row { "row" } else { "tensor" },
                    entries: if is_row { entries / args.row_len * args.row_len } else { entries },
                    row_len: if is_row { args.row_len } else { entries },
                };
                if case.entries == 0 {
                    self.skip(&case, "all", format!("{entries} entries are less than a row of {}", args.row_len));
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
        let granularity = if case.granularity == "row" { Granularity::Row } else { Granularity::Tensor };
        let rule = Rule::new().with_granularity(granularity);
        let mut work = before.to_vec();
        let decision = prune(&self.cpu, &mut work, &case, &rule)?;
        host::check(before, &work, case.row_len as usize, decision.groups())?;
        let (again, mask) = make_mask(&self.cpu, before, &case, &rule)?;
        ensure!(again == decision, "wrong answer: making a mask decides otherwise than pruning");
        host::check_mask(before, &work, &mask, decision.kept())?;
        let answered = Answered { case, rule, before, after: work.clone(), decision, mask };
        self.turns(&answered, &mut work)?;
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
        if self.args.peers && case.task == "prune" {
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
            let plans = Self::spec(case, dtype).and_then(|spec| gpu.device.plans(spec, case.granularity == "row"));
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
        let Answered { case, before, after, decision, mask, .. } = answered;
        let mut lines = Vec::new();
        let mut skipped = Vec::new();
        for gpu in &self.gpus {
            let spec = Self::spec(case, T::DTYPE)?;
            let resident = device::Resident::new(&gpu.device, spec, case.granularity == "row", case.task == "prune");
            let mut resident = match resident {
                Ok(resident) => resident,
                Err(e) => {
                    skipped.push((gpu.adapter.backend.clone(), format!("{e:#}")));
                    continue;
                }
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
            lines.push(Line {
                clock: resident.clock().name(),
                variant: Some(gpu.adapter.variant),
                upload_seconds: Some(median(&uploads)),
                readback_seconds: Some(median(&reads)),
                ..line(case, gpu.adapter.backend.clone(), "device", decision.kept(), &times, &copies)
            });
        }
        self.report.results.extend(lines);
        skipped.into_iter().for_each(|(backend, reason)| self.skip(case, &backend, reason));
        Ok(())
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
            eprintln!("note: {adapter} is a software adapter: the processor does the work of a GPU");
        }
        let gpu::Adapter { name, driver, backend: interface, software, variant, .. } = adapter.clone();
        Ok(Gpu {
            device: device::Device::open(&adapter)?,
            adapter: Adapter { backend: adapter.to_string(), name, driver, interface, software, variant },
            pruner,
        })
    };
    let options = match &args.adapter {
        Some(part) => Options::new().with_adapter(part),
        None => Options::new(),
    };
    match (args.backend, &args.adapter) {
        (BenchBackend::Cpu, _) => Ok(Vec::new()),
        (BenchBackend::Auto, None) if !args.plan => {
            if !gpu::adapters().iter().any(|adapter| !adapter.software) {
                eprintln!("note: there is no hardware adapter; --backend all times software ones too");
                return Ok(Vec::new());
            }
            Ok(vec![open(&options)?])
        }
        (BenchBackend::Auto | BenchBackend::Gpu, _) => Ok(vec![open(&options.with_software(true))?]),
        (BenchBackend::All, part) => {
            let part = part.as_deref().unwrap_or_default().to_lowercase();
            let texts = |a: &gpu::Adapter| format!("{a} {}", a.driver).to_lowercase();
            let adapters: Vec<_> = gpu::adapters().into_iter().filter(|a| texts(a).contains(&part)).collect();
            ensure!(part.is_empty() || !adapters.is_empty(), "no adapter has {part:?} in its name, driver or backend");
            adapters.iter().map(|a| open(&Options::new().with_adapter(a.to_string()).with_software(true))).collect()
        }
    }
}

#[cfg(not(feature = "gpu"))]
fn gpus(args: &BenchArgs) -> Result<Vec<Gpu>> {
    let wanted = args.backend == BenchBackend::Gpu || args.adapter.is_some() || args.plan;
    ensure!(!wanted, "no adapter: this program was built without GPU support");
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_many_ways() {
        for (text, want) in [
            ("1", 1),
            ("1000000", 1_000_000),
            ("1_000", 1000),
            ("1e6", 1_000_000),
            ("2.5e3", 2500),
            ("10M", 10_000_000),
            ("1.5k", 1500),
            ("3G", 3_000_000_000),
            ("2^24", 1 << 24),
            ("10^3", 1000),
            ("1099511627776", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(want), "{text}");
        }
        for text in [
            "", "0", "-1", "-5M", "1.5", "1e-3", "nan", "inf", "M", "2^", "2^41", "2^64", "1e300", "ten", "10Mi",
            "1 M^2",
        ] {
            assert!(size(text).is_err(), "{text} is {:?}", size(text));
        }
    }
}
