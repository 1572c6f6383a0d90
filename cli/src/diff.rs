//! `emprune diff`: what two models or masks keep in common.

use crate::args::DiffArgs;
use crate::checkpoint::Checkpoint;
use crate::interrupt;
use crate::masks::Masks;
use crate::positioned::read_exact_at;
use crate::progress::Progress;
use crate::report::write_json;
use crate::safetensors::{Model, TensorInfo};
use crate::table::{counted, grouped, named, percent, printable, short, times};
use anyhow::{Context, Result, bail, ensure};
use emprune::{Dtype, Mask};
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(crate) const SCHEMA: &str = "emprune.diff/1";
/// Entries that a thread compares at once: a multiple of 8.
const PIECE: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    emprune_version: &'static str,
    /// The two, as they were given.
    a: String,
    b: String,
    /// Over the tensors that were compared.
    totals: Common,
    /// Those that both have, in byte order of their names.
    tensors: Vec<TensorReport>,
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TensorReport {
    name: String,
    /// Null where neither says: two masks files of another tool.
    shape: Option<Vec<u64>>,
    #[serde(flatten)]
    common: Common,
    /// Why it was not compared.
    skipped: Option<String>,
}

/// How many entries are kept where.
#[derive(Debug, Default, Serialize)]
struct Common {
    /// Entries; null where nobody says how many bits of the last byte count.
    len: Option<u64>,
    kept_a: u64,
    kept_b: u64,
    both: u64,
    neither: Option<u64>,
    /// Of what is kept in A or in B, the share that is kept in both; 1 where there is nothing, and null where nothing was compared.
    jaccard: Option<f64>,
}

/// One of the two.
enum Side {
    Weights(Checkpoint),
    Masks(Masks),
}

/// Print what they have in common.
pub(crate) fn run(args: &DiffArgs) -> Result<()> {
    interrupt::catch()?;
    let (a, b) = (Side::open(&args.a)?, Side::open(&args.b)?);
    let pairs: Vec<_> = a.tensors().iter().filter_map(|one| Some((one, b.get(&one.name)?))).collect();
    let bytes = pairs.iter().flat_map(|(one, other)| [one, other]).map(|tensor| tensor.bytes.end - tensor.bytes.start);
    let progress = Mutex::new(Progress::new(bytes.sum(), false).named("comparing"));
    let mut tensors = Vec::new();
    for (one, other) in pairs {
        let compared = compare((&a, one), (&b, other), &progress);
        tensors.push(compared.with_context(|| format!("tensor {:?}", one.name))?);
    }
    drop(progress);
    let only_in = |this: &Side, other: &Side| {
        let alone = this.tensors().iter().filter(|tensor| other.get(&tensor.name).is_none());
        alone.map(|tensor| tensor.name.clone()).collect()
    };
    ensure!(
        !tensors.is_empty(),
        "nothing to compare: of {} in {} and {} in {} none have one name",
        counted(a.tensors().len(), "tensor"),
        args.a.display(),
        counted(b.tensors().len(), "tensor"),
        args.b.display()
    );
    // Nothing in common is not the same as nothing to tell.
    if let (true, Some(TensorReport { name, skipped: Some(why), .. })) =
        (tensors.iter().all(|tensor| tensor.skipped.is_some()), tensors.first())
    {
        bail!("nothing to compare: of {} in both none can be; {name:?}: {why}", counted(tensors.len(), "tensor"));
    }
    let mut totals = Common { len: Some(0), ..Common::default() };
    for Common { len, kept_a, kept_b, both, .. } in
        tensors.iter().filter(|tensor| tensor.skipped.is_none()).map(|tensor| &tensor.common)
    {
        totals.len = totals.len.zip(*len).map(|(sum, len)| sum + len);
        totals.kept_a += kept_a;
        totals.kept_b += kept_b;
        totals.both += both;
    }
    let report = Report {
        schema: SCHEMA,
        emprune_version: env!("CARGO_PKG_VERSION"),
        a: args.a.display().to_string(),
        b: args.b.display().to_string(),
        totals: totals.finish(),
        tensors,
        only_in_a: only_in(&a, &b),
        only_in_b: only_in(&b, &a),
    };
    let mut text = Vec::new();
    if args.json {
        write_json(&mut text, &report)?;
    } else {
        text = report.table().into_bytes();
    }
    crate::print(&text)
}

fn compare(
    (a, one): (&Side, &TensorInfo),
    (b, other): (&Side, &TensorInfo),
    progress: &Mutex<Progress>,
) -> Result<TensorReport> {
    let sizes = [one, other].map(|tensor| tensor.bytes.end - tensor.bytes.start);
    let done = |bytes: u64| progress.lock().unwrap_or_else(PoisonError::into_inner).stored(bytes as usize);
    let (shape_a, shape_b) = (a.shape(one), b.shape(other));
    let shape = shape_a.or(shape_b).map(<[u64]>::to_vec);
    // The product fits: it is that of a header, or was compared with a number of bytes.
    let len = shape.as_ref().map(|shape| shape.iter().product::<u64>());
    let mut common = Common { len, ..Common::default() };
    let unlike = match (shape_a, shape_b) {
        (Some(in_a), Some(in_b)) if in_a != in_b => Some(format!("shape {} in A, {} in B", times(in_a), times(in_b))),
        // Where a side has only bytes, both must have as many of them.
        _ if a.mask_len(one) != b.mask_len(other) => {
            Some(format!("{} bytes of mask in A, {} in B", a.mask_len(one), b.mask_len(other)))
        }
        _ => a.cannot(one).map(|why| why + " in A").or(b.cannot(other).map(|why| why + " in B")),
    };
    let name = one.name.clone();
    if unlike.is_some() {
        done(sizes.iter().sum());
        return Ok(TensorReport { name, shape, common, skipped: unlike });
    }
    let bits = len.unwrap_or(8 * a.mask_len(one));
    let counted = |buffer: &mut Vec<u8>, piece: u64| -> Result<[u64; 3]> {
        interrupt::check()?;
        let range = piece * PIECE..((piece + 1) * PIECE).min(bits);
        let (a, b) = (a.mask(one, range.clone(), buffer)?, b.mask(other, range.clone(), buffer)?);
        // Of each side's bytes, the share that these entries have.
        let share = |size: u64, entries: u64| (u128::from(size) * u128::from(entries) / u128::from(bits)) as u64;
        done(sizes.iter().map(|&size| share(size, range.end) - share(size, range.start)).sum());
        let both = a.as_bytes().iter().zip(b.as_bytes()).map(|(a, b)| u64::from((a & b).count_ones()));
        Ok([a.kept(), b.kept(), both.sum()])
    };
    let pieces = (0..bits.div_ceil(PIECE)).into_par_iter().map_init(Vec::new, counted);
    let add = |one: [u64; 3], more: [u64; 3]| Ok(std::array::from_fn(|i| one[i] + more[i]));
    [common.kept_a, common.kept_b, common.both] = pieces.try_reduce(|| [0; 3], add)?;
    Ok(TensorReport { name, shape, common: common.finish(), skipped: None })
}

impl Common {
    /// What follows from the counts.
    fn finish(self) -> Self {
        let either = self.kept_a + self.kept_b - self.both;
        let jaccard = if either == 0 { 1.0 } else { self.both as f64 / either as f64 };
        Self { neither: self.len.map(|len| len - either), jaccard: Some(jaccard), ..self }
    }
}

impl Side {
    /// A file is one of masks if it says so. One of bytes alone is taken for one too, as another tool may write it: of weights there is nothing
    /// in it that could be compared.
    fn open(path: &Path) -> Result<Self> {
        let mut model = Checkpoint::open(path)?;
        let is_of_bytes = !model.tensors.is_empty() && model.tensors.iter().all(|tensor| tensor.dtype == "U8");
        if model.directory.is_none()
            && (is_of_bytes || model.shards.iter().all(Masks::are))
            && let Some(masks) = model.shards.pop()
        {
            return Ok(Side::Masks(Masks::new(masks)?));
        }
        Ok(Side::Weights(model))
    }

    fn tensors(&self) -> &[TensorInfo] {
        match self {
            Side::Weights(checkpoint) => &checkpoint.tensors,
            Side::Masks(masks) => &masks.model.tensors,
        }
    }

    fn get(&self, name: &str) -> Option<&TensorInfo> {
        let tensors = self.tensors();
        tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok().map(|at| &tensors[at])
    }

    /// The shape of the weights, where this side knows it.
    fn shape<'a>(&'a self, tensor: &'a TensorInfo) -> Option<&'a [u64]> {
        match self {
            Side::Weights(_) => Some(&tensor.shape),
            Side::Masks(masks) => masks.shape(&tensor.name),
        }
    }

    /// Bytes of a tensor's mask.
    fn mask_len(&self, tensor: &TensorInfo) -> u64 {
        match self {
            Side::Weights(_) => tensor.len.div_ceil(8),
            Side::Masks(_) => tensor.len,
        }
    }

    /// Why a tensor cannot be compared.
    fn cannot(&self, tensor: &TensorInfo) -> Option<String> {
        let can = matches!(self, Side::Masks(_)) || tensor.prunable_dtype().is_some();
        (!can).then(|| format!("dtype {}", tensor.dtype))
    }

    fn mask(&self, tensor: &TensorInfo, entries: Range<u64>, buffer: &mut Vec<u8>) -> Result<Mask> {
        let (checkpoint, dtype) = match (self, tensor.prunable_dtype()) {
            (Side::Masks(masks), _) => return masks.read(tensor, entries),
            (Side::Weights(checkpoint), dtype) => (checkpoint, dtype.context("a dtype that cannot be compared")?),
        };
        let Model { path, file, .. } = &checkpoint.shards[tensor.shard];
        buffer.resize((entries.end - entries.start) as usize * dtype.size(), 0);
        read_exact_at(file, buffer, tensor.bytes.start + entries.start * dtype.size() as u64)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Mask::from_bytes(nonzero(buffer, dtype), entries.end - entries.start)?)
    }
}

/// One bit per entry: whether it is neither +0 nor -0.
fn nonzero(bytes: &[u8], dtype: Dtype) -> Vec<u8> {
    match dtype.size() {
        1 => nonzero_of(bytes.as_chunks::<1>().0),
        2 => nonzero_of(bytes.as_chunks::<2>().0),
        _ => nonzero_of(bytes.as_chunks::<4>().0),
    }
}

fn nonzero_of<const N: usize>(entries: &[[u8; N]]) -> Vec<u8> {
    // The sign, which is the highest bit of the last byte, does not count.
    let is_nonzero = |entry: &[u8; N]| {
        let mut word = [0; 4];
        word[4 - N..].copy_from_slice(entry);
        u32::from_le_bytes(word) << 1 != 0
    };
    let byte = |eight: &[[u8; N]]| {
        eight.iter().enumerate().fold(0, |byte, (i, entry)| byte | u8::from(is_nonzero(entry)) << i)
    };
    let (eights, rest) = entries.as_chunks::<8>();
    let rest = (!rest.is_empty()).then(|| byte(rest));
    eights.iter().map(|eight| byte(eight)).chain(rest).collect()
}

impl Report {
    fn table(&self) -> String {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.4}"));
        let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
        let line = |tensor: &TensorReport| {
            let Common { kept_a, kept_b, both, neither, jaccard, .. } = &tensor.common;
            let shape = tensor.shape.as_deref().map_or_else(|| "-".into(), times);
            let counts = match &tensor.skipped {
                Some(_) => vec!["-".into(); 5],
                None => {
                    vec![kept_a.to_string(), kept_b.to_string(), both.to_string(), number(*neither), ratio(*jaccard)]
                }
            };
            [vec![short(&tensor.name), shape], counts].concat()
        };
        let columns = ["tensor", "shape", "A", "B", "both", "neither", "Jaccard"];
        let mut text = named(&columns, 2, self.tensors.iter().map(line).collect());
        text += "\nA, B: kept in A, in B; Jaccard: of what is kept in A or in B, the share that is kept in both\n\n";
        let Common { len, kept_a, kept_b, both, neither, jaccard } = &self.totals;
        let of = |kept: u64| match len {
            Some(len) if *len > 0 => format!("{} ({})", grouped(kept), percent(kept as f64 / *len as f64)),
            _ => grouped(kept),
        };
        let lines = [
            ("A", of(*kept_a) + " kept in " + &printable(&self.a)),
            ("B", of(*kept_b) + " kept in " + &printable(&self.b)),
            ("both", of(*both) + ", Jaccard " + &ratio(*jaccard)),
            ("neither", neither.map_or_else(|| "-".into(), of)),
        ];
        for (name, value) in lines {
            text += &format!("{name:<8}{value}\n");
        }
        for tensor in &self.tensors {
            if let Some(why) = &tensor.skipped {
                text += &format!("not compared: {}: {why}\n", short(&tensor.name));
            }
        }
        for (side, names) in [("A", &self.only_in_a), ("B", &self.only_in_b)] {
            if !names.is_empty() {
                let names: Vec<_> = names.iter().map(|name| short(name)).collect();
                text += &format!("only in {side}: {}\n", names.join(", "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_lost_when_it_is_either_zero() {
        let values = [1.0f32, 0.0, -0.0, f32::from_bits(1), -1.0, f32::NAN, 0.0, 2.0, 0.0, 3.0];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(nonzero(&bytes, Dtype::F32), [0b1011_1001, 0b10]);
        let bytes = [0, 0, 0, 0x80, 1, 0, 0x80, 0, 0xff, 0x7f];
        assert_eq!(nonzero(&bytes, Dtype::F16), [0b1_1100]);
        assert_eq!(nonzero(&bytes, Dtype::F8E4m3), [0b0001_0000, 0b11]);
        assert!(nonzero(&[], Dtype::F32).is_empty());
    }
}
