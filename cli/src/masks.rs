//! The masks file: for every pruned tensor, under its name, one bit per entry. Sizes are known beforehand, so the header
//! comes first and every mask goes straight to its place. The metadata says what a number of bytes cannot: the shapes.

use crate::lines::Lines;
use crate::positioned::read_exact_at;
use crate::safetensors::{MAX_HEADER, MOST_TEXT, Model, Shape, TensorInfo};
use crate::sink::Sink;
use anyhow::{Context, Result, ensure};
use emprune::Mask;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
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
        model.format.as_deref() == Some(FORMAT)
    }

    /// Check what does not depend on the weights.
    pub(crate) fn new(model: Model) -> Result<Self> {
        let check = || {
            ensure!(!model.tensors.is_empty(), "it has no masks");
            let shapes = match model.says("shapes")? {
                Some(text) => {
                    let mut text = serde_json::Deserializer::from_str(&text);
                    let shapes = Shapes(&model).deserialize(&mut text);
                    shapes.and_then(|shapes| text.end().map(|()| shapes)).context("its shapes cannot be understood")?
                }
                None => BTreeMap::new(),
            };
            for mask in &model.tensors {
                let (name, dtype) = (&mask.name, &mask.dtype);
                ensure!(dtype == "U8", "the mask of tensor {name:?} is {dtype}, and must be U8");
                if let Some(shape) = shapes.get(name) {
                    let len = shape.iter().try_fold(1u64, |len, axis| len.checked_mul(*axis));
                    let fits = len.is_some_and(|len| len.div_ceil(8) == mask.len);
                    let wants = len.map_or_else(String::new, |len| format!(", which takes {}", len.div_ceil(8)));
                    ensure!(fits, "the mask of tensor {name:?} has {} bytes for the shape {shape:?}{wants}", mask.len);
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

/// The shapes of a file's masks: of those that it has, each once, and with the limits of a header, so that no text makes more of it.
struct Shapes<'m>(&'m Model);

impl<'de> DeserializeSeed<'de> for Shapes<'_> {
    type Value = BTreeMap<String, Vec<u64>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Shapes<'_> {
    type Value = BTreeMap<String, Vec<u64>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of lists of axes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut shapes, mut taken) = (BTreeMap::new(), 0);
        while let Some(name) = map.next_key::<String>()? {
            // Who takes some masks of a file may keep its metadata.
            if self.0.get(&name).is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Shape(shape) = map.next_value()?;
            taken += name.len() + 8 * shape.len();
            if taken > MOST_TEXT {
                return Err(A::Error::custom(format!("names and shapes take more than {} MiB", MOST_TEXT >> 20)));
            }
            if shapes.contains_key(&name) {
                return Err(A::Error::custom(format!("the name {name:?} appears twice")));
            }
            shapes.insert(name, shape);
        }
        Ok(shapes)
    }
}

/// Where one tensor's mask is going.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskPlace {
    /// In the file, of its first byte.
    at: u64,
    /// Of the tensor.
    len: u64,
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
    // Names are in it twice, once quoted in quotes: those of a header that is within its limit may be more than one.
    let len = header.len() as u64;
    ensure!(
        len <= MAX_HEADER,
        "its header would have {len} bytes, and {MAX_HEADER} are the most: leave --masks out, or choose fewer tensors with --targets"
    );
    let header = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let data = header.len() as u64;
    Ok((header, masks.into_iter().map(|mask| data + mask.start..data + mask.end).collect()))
}

/// Write the header of such a file, and say where each mask goes.
pub(crate) fn start(file: Sink<'_>, tensors: &[&TensorInfo]) -> Result<Vec<MaskPlace>> {
    let (header, masks) = layout(tensors)?;
    file.set_len(masks.last().map_or(header.len() as u64, |mask| mask.end))?;
    file.put(&header, 0)?;
    Ok(masks.iter().zip(tensors).map(|(mask, tensor)| MaskPlace { at: mask.start, len: tensor.len }).collect())
}

impl MaskPlace {
    /// Write the bits of these entries.
    pub(crate) fn put(self, file: Sink<'_>, entries: Lines, mask: &Mask) -> io::Result<()> {
        let mut done = 0;
        for run in entries.runs() {
            let len = run.end - run.start;
            self.put_run(file, run, mask.as_bytes(), done)?;
            done += len;
        }
        Ok(())
    }

    /// Those of neighbours, from bit `first` of a mask on. They need not begin or end where a byte does: of such a byte the other bits stay as
    /// they are in the file.
    fn put_run(self, file: Sink<'_>, entries: Range<u64>, mask: &[u8], first: u64) -> io::Result<()> {
        let (before, after) = (entries.start % 8, entries.end % 8);
        let mut bytes = shifted(mask, first, entries.end - entries.start, before as u32);
        let [begin, end] = [entries.start / 8, entries.end.div_ceil(8)].map(|byte| self.at + byte);
        if before > 0 {
            bytes[0] |= file.byte(begin)? & !(u8::MAX << before);
        }
        // Behind the last entry nobody has bits, whatever an earlier run has left there.
        if after > 0 && entries.end < self.len {
            let last = bytes.len() - 1;
            bytes[last] |= file.byte(end - 1)? & u8::MAX << after;
        }
        file.put(&bytes, begin)
    }
}

/// So many bits of a mask from bit `first` on, behind so many zeros.
fn shifted(mask: &[u8], first: u64, len: u64, zeros: u32) -> Vec<u8> {
    let (byte, skipped) = ((first / 8) as usize, (first % 8) as u32);
    let source = &mask[byte..(first + len).div_ceil(8) as usize];
    let mut bytes = vec![0; (u64::from(zeros) + len).div_ceil(8) as usize];
    // What a byte has comes from two neighbours: of the first one, there may be none before it.
    let down = (8 + skipped - zeros) % 8;
    let lead = usize::from(skipped < zeros);
    let joined = |low: u8, high: u8| low >> down | high << (8 - down);
    if down == 0 {
        bytes.copy_from_slice(source);
    } else {
        let (before, rest) = bytes.split_at_mut(lead);
        before.iter_mut().for_each(|out| *out = joined(0, source[0]));
        rest.iter_mut().zip(source.windows(2)).for_each(|(out, two)| *out = joined(two[0], two[1]));
        if let (Some(out), Some(&low)) = (rest.get_mut(source.len() - 1), source.last()) {
            *out = joined(low, 0);
        }
    }
    // What the mask has before the first of them and behind the last.
    bytes[0] &= u8::MAX << zeros;
    let end = (u64::from(zeros) + len) % 8;
    if let (Some(last), 1..) = (bytes.last_mut(), end) {
        *last &= !(u8::MAX << end);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn info(name: &str, len: u64) -> TensorInfo {
        TensorInfo { name: name.into(), dtype: "F32".into(), shape: vec![len], len, bytes: 0..0, shard: 0 }
    }

    fn mask(bits: impl Iterator<Item = bool>) -> Mask {
        let bits: Vec<_> = bits.collect();
        let byte = |eight: &[bool]| eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        Mask::from_bytes(bits.chunks(8).map(byte).collect(), bits.len() as u64).unwrap()
    }

    #[test]
    fn bits_are_moved_to_any_place() {
        let bit = |i: u64| i.is_multiple_of(3) || i % 7 == 2;
        let all = mask((0..90).map(bit));
        for first in 0..20 {
            for len in 1..70 {
                for zeros in 0..8 {
                    let wanted = mask((0..zeros).map(|_| false).chain((first..first + len).map(bit)));
                    assert_eq!(
                        shifted(all.as_bytes(), first, len, zeros as u32),
                        wanted.as_bytes(),
                        "{first} {len} {zeros}"
                    );
                }
            }
        }
    }

    /// As a header may have them. Nobody could read the file.
    #[test]
    fn a_header_that_is_too_long_is_not_written() {
        let infos: Vec<_> = (0..4500).map(|i| info(&format!("{i}{}", "\"".repeat(4000)), 8)).collect();
        let infos: Vec<_> = infos.iter().collect();
        let text: usize = infos.iter().map(|info| info.name.len()).sum();
        assert!(text < MOST_TEXT);
        let message = layout(&infos).unwrap_err().to_string();
        assert!(message.contains("would have 108") && message.contains("100000000 are the most"), "{message}");
        layout(&infos[..4000]).unwrap();
    }

    #[test]
    fn pieces_of_any_length_make_one_mask() {
        let bit = |i: u64| i.is_multiple_of(3) || i % 7 == 2;
        let file = tempfile::tempfile().unwrap();
        let sink = Sink::Write(&file, Path::new("masks"));
        let (a, b, c) = (info("a \"quoted\" name", 101), info("b", 3), info("c", 7 * 45));
        let places = start(sink, &[&a, &b, &c]).unwrap();
        let mut pieces = Vec::new();
        let mut at = 0;
        for len in [1, 2, 5, 8, 0, 13, 24, 3, 45] {
            pieces.push(Lines::run(at..at + len));
            at += len;
        }
        assert_eq!(at, a.len);
        // In any order.
        pieces.reverse();
        for lines in pieces {
            places[0].put(sink, lines, &mask(lines.runs().flatten().map(bit))).unwrap();
        }
        // What an earlier run left: bits of these entries, and of none.
        sink.put(&[0xff], places[1].at).unwrap();
        places[1].put(sink, Lines::run(0..3), &mask([true, false, true].into_iter())).unwrap();
        let mut left = 0;
        for width in [1, 20, 8, 9, 7] {
            let columns = Lines::columns(left, 7, width, 45);
            left += width;
            for range in [0..5, 5..7 * width] {
                let lines = columns.part(range);
                places[2].put(sink, lines, &mask(lines.runs().flatten().map(bit))).unwrap();
            }
        }
        assert_eq!(left, 45);
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        crate::positioned::read_exact_at(&file, &mut bytes, 0).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor(&a.name).unwrap().data(), mask((0..101).map(bit)).as_bytes());
        assert_eq!(read.tensor("b").unwrap().data(), [0b101]);
        assert_eq!(read.tensor("c").unwrap().data(), mask((0..7 * 45).map(bit)).as_bytes());
        assert_eq!((bytes.len() - 13 - 1 - 40) % 8, 0, "the data is aligned");
        // The same bits are there, and others differ where they are other bits.
        let compared = Sink::Compare(&file, Path::new("masks"), 0);
        places[2].put(compared, Lines::run(11..30), &mask((11..30).map(bit))).unwrap();
        let error =
            places[2].put(compared, Lines::run(11..30), &mask((11..30).map(|i| bit(i) != (i == 29)))).unwrap_err();
        let error = anyhow::Error::new(error);
        let differs = crate::sink::Differs::of(&error).unwrap();
        assert_eq!((differs.at - places[2].at, differs.bits), (29 / 8, 1 << (29 % 8)));
    }
}
