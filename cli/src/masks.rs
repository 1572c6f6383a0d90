//! The masks file: for every pruned tensor, under its name, one bit per entry. Sizes are known beforehand, so the header
//! comes first and every mask goes straight to its place. The metadata says what a number of bytes cannot: the shapes.

use crate::positioned::read_exact_at;
use crate::safetensors::{Model, TensorInfo};
use crate::sink::Sink;
use anyhow::{Context, Result, ensure};
use emprune::Mask;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;

const FORMAT: &str = "emprune.masks/1";

/// An open masks file. Its own shapes are not needed: a file of bits that another tool wrote has none.
#[derive(Debug)]
pub(crate) struct Masks {
    pub(crate) model: Model,
    shapes: BTreeMap<String, Vec<u64>>,
}

impl Masks {
    /// Whether a file says of itself that it is one.
    pub(crate) fn are(model: &Model) -> bool {
        model.metadata.get("format").is_some_and(|format| format == FORMAT)
    }

    /// Check what does not depend on the weights.
    pub(crate) fn new(model: Model) -> Result<Self> {
        let check = || {
            ensure!(!model.tensors.is_empty(), "it has no masks");
            let shapes = match model.metadata.get("shapes") {
                Some(text) => serde_json::from_str(text).context("its shapes cannot be understood")?,
                None => BTreeMap::<String, Vec<u64>>::new(),
            };
            for mask in &model.tensors {
                let (name, dtype) = (&mask.name, &mask.dtype);
                ensure!(dtype == "U8", "the mask of tensor {name:?} is {dtype}, and must be U8");
                if let Some(shape) = shapes.get(name) {
                    let len = shape.iter().try_fold(1u64, |len, axis| len.checked_mul(*axis));
                    let fits = len.is_some_and(|len| len.div_ceil(8) == mask.len);
                    ensure!(fits, "the mask of tensor {name:?} has {} bytes for the shape {shape:?}", mask.len);
                }
            }
            Ok(shapes)
        };
        let shapes = check().with_context(|| format!("the masks file {}", model.path.display()))?;
        Ok(Self { model, shapes })
    }

    /// The shape of the weights that a mask is for, where the file says it.
    pub(crate) fn shape(&self, name: &str) -> Option<&[u64]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// Check that a mask is for a tensor like this one, of the file that is called `of`.
    pub(crate) fn check(&self, mask: &TensorInfo, weight: &TensorInfo, of: &str) -> Result<()> {
        let mine = || format!("the mask of tensor {:?} in {}", mask.name, self.model.path.display());
        let (has, shape) = (mask.len, &weight.shape);
        if let Some(is) = self.shape(&mask.name) {
            ensure!(is == shape, "{} is for the shape {is:?}, and the tensor of {of} has {shape:?}", mine());
        }
        let wants = weight.len.div_ceil(8);
        ensure!(has == wants, "{} has {has} bytes, and the shape {shape:?} in {of} takes {wants}", mine());
        Ok(())
    }

    /// The bits of some of the `len` entries of a tensor, the first a multiple of 8.
    pub(crate) fn read(&self, mask: &TensorInfo, entries: Range<u64>) -> Result<Mask> {
        let cannot = || format!("the mask of tensor {:?} in {}", mask.name, self.model.path.display());
        let mut bits = vec![0; (entries.end - entries.start).div_ceil(8) as usize];
        read_exact_at(&self.model.file, &mut bits, mask.bytes.start + entries.start / 8).with_context(cannot)?;
        Mask::from_bytes(bits, entries.end - entries.start).with_context(cannot)
    }
}

/// Where one tensor's mask is going.
#[derive(Clone, Debug)]
pub(crate) struct MaskPlace {
    /// In the file, of the first byte that is not written yet.
    at: u64,
    /// Fewer than eight bits that did not fill a byte: ranges need not end where bytes do.
    rest: Mask,
}

/// The header of a masks file for these tensors, in this order, and where each mask is in it.
pub(crate) fn layout(tensors: &[&TensorInfo]) -> Result<(Vec<u8>, Vec<Range<u64>>)> {
    let shapes: BTreeMap<_, _> = tensors.iter().map(|tensor| (&tensor.name, &tensor.shape)).collect();
    let shapes = serde_json::to_string(&serde_json::to_string(&shapes)?)?;
    let mut header = format!(r#"{{"__metadata__":{{"format":"{FORMAT}","shapes":{shapes}}}"#);
    let mut end = 0;
    let mut masks = Vec::new();
    for tensor in tensors {
        let (name, begin, len) = (serde_json::to_string(&tensor.name)?, end, tensor.len.div_ceil(8));
        end += len;
        masks.push(begin..end);
        write!(header, r#",{name}:{{"dtype":"U8","shape":[{len}],"data_offsets":[{begin},{end}]}}"#)?;
    }
    header.push('}');
    // Readers that map the file find what follows aligned.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let header = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let data = header.len() as u64;
    Ok((header, masks.into_iter().map(|mask| data + mask.start..data + mask.end).collect()))
}

/// Write the header of such a file, and say where each mask goes.
pub(crate) fn start(file: Sink<'_>, tensors: &[&TensorInfo]) -> Result<Vec<MaskPlace>> {
    let (header, masks) = layout(tensors)?;
    file.set_len(masks.last().map_or(header.len() as u64, |mask| mask.end))?;
    file.put(&header, 0)?;
    Ok(masks.into_iter().map(|mask| MaskPlace { at: mask.start, rest: Mask::new() }).collect())
}

impl MaskPlace {
    /// Write the bits of the next entries.
    pub(crate) fn append(&mut self, file: Sink<'_>, mask: &Mask) -> io::Result<()> {
        let joined;
        let mask = if self.rest.is_empty() {
            mask
        } else {
            self.rest.append(mask);
            joined = std::mem::take(&mut self.rest);
            &joined
        };
        let (whole, rest) = mask.as_bytes().split_at((mask.len() / 8) as usize);
        file.put(whole, self.at)?;
        self.at += whole.len() as u64;
        self.rest = Mask::from_bytes(rest.to_vec(), mask.len() % 8).map_err(io::Error::other)?;
        Ok(())
    }

    /// Write the bits that did not fill the last byte.
    pub(crate) fn finish(self, file: Sink<'_>) -> io::Result<()> {
        file.put(self.rest.as_bytes(), self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, len: u64) -> TensorInfo {
        TensorInfo { name: name.into(), dtype: "F32".into(), shape: vec![len], len, bytes: 0..0, shard: 0 }
    }

    fn mask(bits: impl Iterator<Item = bool>) -> Mask {
        let bits: Vec<_> = bits.collect();
        let byte = |eight: &[bool]| eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        Mask::from_bytes(bits.chunks(8).map(byte).collect(), bits.len() as u64).unwrap()
    }

    #[test]
    fn pieces_of_any_length_make_one_mask() {
        let bit = |i: u64| i.is_multiple_of(3) || i % 7 == 2;
        let file = tempfile::tempfile().unwrap();
        let sink = Sink::Write(&file);
        let (a, b) = (info("a \"quoted\" name", 101), info("b", 3));
        let mut places = start(sink, &[&a, &b]).unwrap();
        let mut at = 0;
        for len in [1, 2, 5, 8, 0, 13, 24, 3, 45] {
            places[0].append(sink, &mask((at..at + len).map(bit))).unwrap();
            at += len;
        }
        assert_eq!(at, a.len);
        places[1].append(sink, &mask([true, false, true].into_iter())).unwrap();
        for place in places {
            place.finish(sink).unwrap();
        }
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        crate::positioned::read_exact_at(&file, &mut bytes, 0).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor(&a.name).unwrap().data(), mask((0..101).map(bit)).as_bytes());
        assert_eq!(read.tensor("b").unwrap().data(), [0b101]);
        assert_eq!((bytes.len() - 13 - 1) % 8, 0, "the data is aligned");
    }
}
