//! `emprune apply`: zero what masks say is lost. No contest, so no backend: bits are bits.

use crate::args::ApplyArgs;
use crate::checkpoint::Checkpoint;
use crate::destination::{Destination, Paths, copy_gaps};
use crate::events;
use crate::interrupt;
use crate::masks::Masks;
use crate::positioned::read_exact_at;
use crate::progress::Progress;
use crate::report::{Totals, sparsity, write_json};
use crate::safetensors::{Model, TensorInfo};
use crate::sink::Sink;
use crate::table::{counted, grouped, named, percent, short, times};
use crate::weights::count_zeros;
use anyhow::{Context, Result};
use emprune::{Dtype, TensorMut};
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(crate) const SCHEMA: &str = "emprune.apply/1";
/// Entries that a thread loads at once: a multiple of 8, so that every piece begins with a byte of its mask.
const PIECE: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    emprune_version: &'static str,
    /// Over the tensors that have masks.
    totals: Totals,
    /// Those, in byte order of their names.
    tensors: Vec<TensorReport>,
    /// Tensors without a mask.
    unmasked: usize,
}

#[derive(Debug, Serialize)]
struct TensorReport {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    len: u64,
    kept: u64,
    sparsity: f64,
    zeros_before: u64,
    zeros_after: u64,
}

/// Write the masked model.
pub(crate) fn run(args: &ApplyArgs) -> Result<()> {
    interrupt::catch()?;
    let model = Checkpoint::open(&args.input)?;
    let masks = Masks::new(Model::open(&args.masks).context("the masks file")?)?;
    let pairs = pair(&model, &masks)?;
    for note in model.directory.iter().flat_map(|directory| &directory.notes) {
        events::note(note);
    }
    let paths = Paths {
        weights: Some(&args.output),
        report: args.report.file.as_deref(),
        overwrite: args.report.overwrite,
        ..Paths::default()
    };
    paths.check(&model, [args.masks.clone()])?;
    let destination = Destination::create(&model, &paths, vec![])?;
    let outputs = destination.outputs();
    for (number, (shard, output)) in model.shards.iter().zip(&outputs).enumerate() {
        copy_gaps(shard, number, pairs.iter().map(|pair| pair.weight), *output, None)?;
    }
    let mut tensors = Vec::new();
    let bytes = pairs.iter().map(|pair| pair.weight.bytes.end - pair.weight.bytes.start).sum();
    let progress = Mutex::new(Progress::new(bytes, false));
    for pair in &pairs {
        let shard = &model.shards[pair.weight.shard];
        let applied = pair.apply(shard, &masks, outputs[pair.weight.shard], &progress);
        tensors.push(applied.with_context(|| format!("tensor {:?} of {}", pair.weight.name, shard.path.display()))?);
    }
    drop(progress);
    model.shards.iter().chain([&masks.model]).try_for_each(Model::check_unchanged)?;
    let report = Report::new(tensors, model.tensors.len());
    destination.commit(&report)?;
    let mut text = Vec::new();
    if args.report.json {
        write_json(&mut text, &report)?;
    } else {
        text = report.table(&args.output).into_bytes();
    }
    crate::print(&text)
}

/// A mask and the weights that it is for.
struct Pair<'a> {
    weight: &'a TensorInfo,
    mask: &'a TensorInfo,
    dtype: Dtype,
}

/// Find for every mask its tensor.
fn pair<'a>(model: &'a Checkpoint, masks: &'a Masks) -> Result<Vec<Pair<'a>>> {
    let (of, from) = (model.path.display().to_string(), masks.model.path.display());
    let pair = |mask: &'a TensorInfo| {
        let name = &mask.name;
        let weight = model.tensors.binary_search_by(|t| t.name.cmp(name)).ok().map(|at| &model.tensors[at]);
        let weight = weight.with_context(|| format!("{from} has a mask for tensor {name:?}, and {of} has no such"))?;
        masks.check(mask, weight, &of)?;
        let unlike = || format!("{from} has a mask for tensor {name:?}, and in {of} it is {}", weight.dtype);
        Ok(Pair { weight, mask, dtype: weight.prunable_dtype().with_context(unlike)? })
    };
    masks.model.tensors.iter().map(pair).collect()
}

impl Pair<'_> {
    fn apply(
        &self,
        shard: &Model,
        masks: &Masks,
        output: Sink<'_>,
        progress: &Mutex<Progress>,
    ) -> Result<TensorReport> {
        let Self { weight, mask, dtype } = *self;
        let applied = |buffer: &mut Vec<u8>, piece: u64| -> Result<[u64; 3]> {
            interrupt::check()?;
            let (start, end) = (piece * PIECE, ((piece + 1) * PIECE).min(weight.len));
            let (at, size) = (weight.bytes.start + start * dtype.size() as u64, (end - start) as usize * dtype.size());
            buffer.resize(size, 0);
            read_exact_at(&shard.file, buffer, at).context("cannot read it")?;
            let bits = masks.read(mask, start..end)?;
            let zeros_before = count_zeros(buffer, dtype);
            bits.apply(TensorMut::from_bytes(buffer, dtype)?)?;
            output.put(buffer, at).context("cannot write it")?;
            progress.lock().unwrap_or_else(PoisonError::into_inner).stored(size);
            Ok([bits.kept(), zeros_before, count_zeros(buffer, dtype)])
        };
        let pieces = (0..weight.len.div_ceil(PIECE)).into_par_iter().map_init(Vec::new, applied);
        let add = |one: [u64; 3], more: [u64; 3]| Ok(std::array::from_fn(|i| one[i] + more[i]));
        let [kept, zeros_before, zeros_after] = pieces.try_reduce(|| [0; 3], add)?;
        let TensorInfo { name, dtype, shape, len, .. } = weight.clone();
        Ok(TensorReport { name, dtype, shape, len, kept, sparsity: sparsity(kept, len), zeros_before, zeros_after })
    }
}

impl Report {
    fn new(tensors: Vec<TensorReport>, all: usize) -> Self {
        let mut totals = Totals::default();
        for tensor in &tensors {
            totals.len += tensor.len;
            totals.kept += tensor.kept;
            totals.zeros_before += tensor.zeros_before;
            totals.zeros_after += tensor.zeros_after;
        }
        totals.sparsity = sparsity(totals.kept, totals.len);
        let unmasked = all - tensors.len();
        Self { schema: SCHEMA, emprune_version: env!("CARGO_PKG_VERSION"), totals, tensors, unmasked }
    }

    fn table(&self, output: &Path) -> String {
        let line = |tensor: &TensorReport| {
            let (dtype, shape) = (tensor.dtype.clone(), times(&tensor.shape));
            vec![short(&tensor.name), dtype, shape, tensor.kept.to_string(), percent(tensor.sparsity)]
        };
        let lines = self.tensors.iter().map(line).collect();
        let table = named(&["tensor", "dtype", "shape", "kept", "sparsity"], 3, lines);
        let Totals { len, kept, sparsity, zeros_before, zeros_after } = &self.totals;
        format!(
            "{table}\n\n\
             masked  {}: {} of {} kept, sparsity {}\n\
             zeros   {} before, {} after\n\
             others  {} without a mask, copied unchanged\n\
             wrote   {}\n",
            counted(self.tensors.len(), "tensor"),
            grouped(*kept),
            grouped(*len),
            percent(*sparsity),
            grouped(*zeros_before),
            grouped(*zeros_after),
            counted(self.unmasked, "tensor"),
            output.display()
        )
    }
}
